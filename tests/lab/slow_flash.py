"""A flash that takes its time: each `fsync` and `fdatasync` of a program sleeps first, and is counted.

	flash = SlowFlash(lab, milliseconds=30)
	daemon.start(env=flash.env)
	flash.count()
"""

import os
import subprocess

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

static int slowly(const char *name, int fd)
{
	static int counts = -1;
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
	if (counts < 0)
		counts = open(COUNTS, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (write(counts, "x", 1) != 1)
		return -1;
	usleep(MILLISECONDS * 1000);
	return real(fd);
}

int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
"""


class SlowFlash:
    def __init__(self, lab, milliseconds: int) -> None:
        self.counts, library = lab.path("syncs"), lab.path("slow_flash.so")
        options = ["-shared", "-fPIC", "-O1", f'-DCOUNTS="{self.counts}"', f"-DMILLISECONDS={milliseconds}"]
        subprocess.run(["gcc", *options, "-x", "c", "-", "-o", library, "-ldl"], input=SOURCE, text=True, check=True)
        self.env = {"LD_PRELOAD": library}

    def count(self) -> int:
        """How often it was waited for."""
        return os.path.getsize(self.counts)
