"""The memory disk that an emulated router starts from: BusyBox, nft with its libraries, the kernel's modules that a
router loads, and files of ours. Written here byte by byte (the kernel's own `newc` format), so that it needs no root.
"""

import glob
import gzip
import os
import re
import stat

MODULES = [
    "crc32c_generic",  # libcrc32c asks for it by another name
    "bridge",
    "nf_conntrack_netlink",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_limit",
    "nft_masq",
    "nft_objref",
    "nft_quota",
    "nft_redir",
    "nft_reject_inet",
]
"""What OpenWrt's kmod-nft-core, -nat and -fib bring; those that these need are found by themselves."""


class Archive:
    def __init__(self) -> None:
        self.data = bytearray()
        self.known: set[str] = set()

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._entry(path, stat.S_IFREG | mode, content)

    def link(self, path: str, to: str) -> None:
        self._entry(path, stat.S_IFLNK | 0o777, to.encode())

    def folder(self, path: str, mode: int = 0o755) -> None:
        self._entry(path, stat.S_IFDIR | mode)

    def console(self) -> None:
        """The kernel opens it before anything is mounted."""
        self._entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))

    def copy(self, root: str, path: str) -> None:
        full = os.path.join(root, path)
        if os.path.islink(full):
            return self.link(path, os.readlink(full))
        with open(full, "rb") as file:
            self.file(path, file.read(), os.stat(full).st_mode & 0o777)

    def packed(self) -> bytes:
        self._entry("TRAILER!!!", 0)
        return gzip.compress(bytes(self.data), 1, mtime=0)

    def _entry(self, path: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        parent = os.path.dirname(path)
        if parent and parent not in self.known:
            self.folder(parent)
        if path in self.known:
            return
        self.known.add(path)
        name = path.encode() + b"\0"
        fields = (len(self.known), mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        for part in (b"070701" + b"".join(b"%08x" % field for field in fields) + name, content):
            self.data += part
            self.data += bytes(-len(self.data) % 4)


def build(root: str, files: dict[str, tuple[int, bytes]], drivers: list[str]) -> bytes:
    """From the packages unpacked in `root`, and `files` (path: mode and content). `drivers` are further modules."""
    archive = Archive()
    archive.console()
    for name in ("proc", "sys", "tmp", "var", "usr/bin", "etc"):
        archive.folder(name)
    for path in ("bin/busybox", "usr/sbin/nft"):
        archive.copy(root, path)
    for path in glob.glob("lib/**/*.so*", root_dir=root, recursive=True) + glob.glob("usr/lib/*/*.so*", root_dir=root):
        if "/gconv/" not in path and not path.startswith("lib/modules/"):
            archive.copy(root, path)
    order = []
    for module in modules(root, drivers + MODULES):
        order.append(os.path.basename(module))
        with open(module, "rb") as file:
            archive.file(f"lib/modules/{order[-1]}", file.read())
    archive.file("lib/modules/order", "".join(f"{name}\n" for name in order).encode())
    for path, (mode, content) in files.items():
        archive.file(path, content, mode)
    return archive.packed()


def kernel(root: str) -> str:
    (found,) = glob.glob(os.path.join(root, "boot", "vmlinu[xz]-*"))
    return found


def modules(root: str, wanted: list[str]) -> list[str]:
    """The files of the modules and of those they need, each after what it needs. What is built into the kernel has
    none.
    """
    paths = {
        os.path.basename(path)[:-3].replace("-", "_"): path
        for path in glob.glob(f"{root}/lib/modules/**/*.ko", recursive=True)
    }
    (built_in,) = glob.glob(f"{root}/lib/modules/*/modules.builtin")
    with open(built_in) as file:
        present = {os.path.basename(line.strip())[:-3].replace("-", "_") for line in file}
    order: list[str] = []

    def add(name: str) -> None:
        if name in present:
            return
        if name not in paths:
            raise RuntimeError(f"this kernel has no module {name}")
        if paths[name] in order:
            return
        with open(paths[name], "rb") as file:
            needs = re.search(rb"\0depends=([^\0]*)\0", file.read()).group(1).decode()
        for other in filter(None, needs.split(",")):
            add(other.replace("-", "_"))
        order.append(paths[name])

    for name in wanted:
        add(name)
    return order
