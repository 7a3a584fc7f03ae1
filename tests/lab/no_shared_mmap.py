"""Runs a command for which no file can be mapped shared, as on JFFS2 (which refuses that with EINVAL).

	daemon.start(through=[sys.executable, no_shared_mmap.__file__])
"""

import ctypes
import os
import platform
import struct
import sys

MMAP = {"x86_64": 9, "aarch64": 222}[platform.machine()]
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2
LOAD, AND, IF_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, EINVAL = 0x7FFF0000, 0x00050000 | 22
FLAGS, FD = 16 + 3 * 8, 16 + 4 * 8
"""Where the kernel puts these arguments (the low half of each)."""

PROGRAM = [
    (LOAD, 0, 0, 0), (IF_EQUAL, 0, 6, MMAP),
    (LOAD, 0, 0, FLAGS), (AND, 0, 0, 1), (IF_EQUAL, 0, 3, 1),
    (LOAD, 0, 0, FD), (IF_EQUAL, 1, 0, 0xFFFFFFFF),
    (RETURN, 0, 0, EINVAL), (RETURN, 0, 0, ALLOW),
]


def main() -> None:
    code = b"".join(struct.pack("HBBI", *line) for line in PROGRAM)
    text = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(PROGRAM), ctypes.addressof(text)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
