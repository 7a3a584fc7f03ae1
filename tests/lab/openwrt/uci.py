"""The real `uci`, built from the sources that the crate libuci-sys carries; kept in the lab's cache."""

import glob
import os
import subprocess
import tempfile

CRATE = "libuci-sys"
VERSION = "1.0.5"
UCI = ["cli", "libuci", "file", "util", "delta", "parse", "blob"]
LIBUBOX = ["blob", "blobmsg", "avl", "avl-cmp", "vlist", "utils"]


def kept() -> str:
    """Where it is, once built."""
    cache = os.environ.get("TOLLGATED_CACHE") or os.path.expanduser("~/.cache/tollgated")
    return os.path.join(cache, f"uci-{VERSION}")


def binary() -> str:
    path = kept()
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _build(path, _sources())
    return path


def _sources() -> str:
    home = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
    pattern = os.path.join(home, "registry", "src", "*", f"{CRATE}-{VERSION}")
    if not glob.glob(pattern):
        # Nothing of it is built by cargo: its build script would want cmake and clang.
        subprocess.run(
            ["cargo", "info", "--quiet", f"{CRATE}@{VERSION}"], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )
    return glob.glob(pattern)[0]


def _build(path: str, sources: str) -> None:
    with tempfile.TemporaryDirectory() as work:
        os.symlink(os.path.join(sources, "libubox"), os.path.join(work, "libubox"))
        with open(os.path.join(work, "uci_config.h"), "w"):
            pass
        made = os.path.join(work, "uci")
        files = [os.path.join(sources, "uci", f"{name}.c") for name in UCI]
        files += [os.path.join(sources, "libubox", f"{name}.c") for name in LIBUBOX]
        subprocess.run(
            ["gcc", "-w", "-O1", "-std=gnu99", "-D_GNU_SOURCE", '-DUCI_PREFIX="/usr"', "-I", work, "-o", made, *files],
            check=True,
        )
        beside = f"{path}.{os.getpid()}"
        subprocess.run(["install", "-m", "755", made, beside], check=True)
        os.replace(beside, path)  # somebody may be running the one that is there
