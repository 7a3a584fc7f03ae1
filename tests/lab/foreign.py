"""Debian's packages for another processor, unpacked in a folder: a kernel, and the programs that run under it.

apt gets a configuration, lists and a status of its own, so that this machine's packages and architectures stay as they
are. What was fetched is kept in ${TOLLGATED_CACHE:-~/.cache/tollgated}/boot and fetched again when the recipe changes.
"""

import hashlib
import os
import shutil
import subprocess

SUITE = "bookworm"
"""The last one with MIPS."""
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PROGRAMS = ["busybox-static", "nftables"]


def fetch(arch: str, kernel: str) -> str:
    """The folder in which PROGRAMS, with all that they depend on, and the kernel that `kernel` stands for are
    unpacked.
    """
    cache = os.environ.get("TOLLGATED_CACHE") or os.path.expanduser("~/.cache/tollgated")
    recipe = hashlib.sha256(repr((SUITE, MIRROR, PROGRAMS, kernel)).encode()).hexdigest()[:12]
    folder = os.path.join(cache, "boot", f"{arch}-{recipe}")
    if not os.path.isdir(folder):
        beside = f"{folder}.{os.getpid()}"
        try:
            _fetch(arch, kernel, beside)
            os.rename(beside, folder)
        except OSError:
            if not os.path.isdir(folder):  # somebody else was quicker
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def _fetch(arch: str, kernel: str, folder: str) -> None:
    apt = os.path.join(folder, "apt")
    for name in ("state/lists/partial", "cache/archives/partial", "debs"):
        os.makedirs(os.path.join(apt, name))
    _write(os.path.join(apt, "status"), "")
    _write(os.path.join(apt, "sources"), f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
    _write(os.path.join(apt, "conf"), (
        f'Dir::State "{apt}/state";\nDir::State::status "{apt}/status";\nDir::Cache "{apt}/cache";\n'
        f'Dir::Etc::sourcelist "{apt}/sources";\nDir::Etc::sourceparts "-";\nDir::Etc::parts "-";\n'
        f'APT::Architecture "{arch}";\nAPT::Architectures {{ "{arch}"; }};\nAPT::Sandbox::User "";\n'
        'Acquire::Languages "none";\nAPT::Install-Recommends "0";\n'
    ))

    def run(*argv: str) -> str:
        done = subprocess.run(
            argv,
            cwd=os.path.join(apt, "debs"),
            env={**os.environ, "APT_CONFIG": os.path.join(apt, "conf"), "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}:\n{done.stdout[-3000:]}")
        return done.stdout

    run("apt-get", "-q", "update")
    # The name without a version is an empty package that depends on the newest one.
    depends = run("apt-cache", "depends", kernel).splitlines()
    (image,) = {
        word for line in depends for word in line.split() if word.startswith("linux-image-") and word != kernel
    }
    needed = [
        line.split()[1] for line in run("apt-get", "-s", "install", *PROGRAMS).splitlines() if line.startswith("Inst ")
    ]
    run("apt-get", "-q", "download", image, *needed)
    for name in os.listdir(os.path.join(apt, "debs")):
        run("dpkg-deb", "-x", name, folder)
    shutil.rmtree(apt)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
