#!/usr/bin/env python3
"""Packs the static binary for opkg (`.ipk`, OpenWrt up to 24.10) or apk (`.apk`, from 25.12). Same input, same bytes.

	package.py ipk --binary target/openwrt/mipsel_24kc/tollgated --arch mipsel_24kc
	package.py apk ...            needs `apk mkpkg` (apk-tools 3) and says so where there is none
	package.py version ipk        the version as the package manager orders it
	package.py source             the release's tarball; its version and hash are written into `Makefile`

What is in a package is said by the feed package beside this file (`Makefile`).
"""

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
NAME = "tollgated"
MAKEFILE = "openwrt/Makefile"

# OpenWrt's own scripts around ours: they enable, start, stop and disable the service.
IPK_POSTINST = """#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
default_postinst $0 $@
"""
IPK_PRERM = """#!/bin/sh
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
default_prerm $0 $@
"""
APK_HEAD = """#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
export root="${IPKG_INSTROOT}"
export pkgname="tollgated"
"""

# What OpenWrt's words for it make of a file.
MODES = {"BIN": 0o755, "CONF": 0o600, "DATA": 0o644}
# Every file of a tarball bears this time: it is the same whoever packs it, and when.
SOURCE_EPOCH = 1_735_689_600

# What an ELF header says (class, byte order, machine) for the architecture names that start like this.
MACHINES = {
    "x86_64": (2, 1, 62), "aarch64": (2, 1, 183), "arm_": (1, 1, 40), "mipsel": (1, 1, 8), "mips_": (1, 2, 8),
}


class Refused(Exception):
    """Why there is no package; the text says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["ipk", "apk", "version", "source"])
    parser.add_argument("kind", nargs="?", default="ipk", choices=["ipk", "apk"])
    parser.add_argument("--binary", default="")
    parser.add_argument("--arch", default="")
    parser.add_argument("--out", default=os.path.join(TOP, "target", "openwrt"))
    parser.add_argument("--version", default="", help="instead of the one in Cargo.toml")
    parser.add_argument(
        "--limits", default="", help="a file that says how large packages may be: no package that is larger"
    )
    asked = parser.parse_args()
    try:
        plain = asked.version or cargo_version()
        if asked.what == "version":
            print(version(plain, asked.kind))
            return 0
        if asked.what == "source":
            print(make_source(plain, asked.out))
            return 0
        binary = read_binary(asked.binary, asked.arch)
        make = make_ipk if asked.what == "ipk" else make_apk
        path = make(binary, asked.arch, version(plain, asked.what), asked.out)
        if asked.limits:
            check_size(path, asked.what, asked.limits)
    except Refused as why:
        print(f"package.py: {why}", file=sys.stderr)
        return 1
    print(f"{os.path.relpath(path)}  {os.path.getsize(path)} bytes")
    return 0


class Feed:
    """What `openwrt/Makefile` says of the package."""

    def __init__(self) -> None:
        text = source(MAKEFILE)
        self.variables = dict(re.findall(r"^ *([A-Z_]+):=(.*)$", text, re.M))
        self.defines = dict(re.findall(rf"^define Package/{NAME}/(\w+)\n(.*?)^endef$", text, re.M | re.S))

    def value(self, name: str) -> str:
        return self.variables[name]

    def depends(self) -> list[str]:
        """Packages without which it does not run. What only says where it can be built is left out."""
        return [word[1:] for word in self.value("DEPENDS").split() if word.startswith("+")]

    def summary(self) -> str:
        return " ".join(self.defines["description"].split())

    def conffiles(self) -> str:
        return self.defines["conffiles"]

    def kept(self) -> str:
        """Folders among them: a file of sysupgrade's names them."""
        return "".join(line + "\n" for line in self.conffiles().split() if line.endswith("/"))

    def script(self, name: str) -> str:
        named = rf"\$\(Package/{NAME}/(\w+)\)"
        text = re.sub(named, lambda other: self.defines[other[1]].removesuffix("\n"), self.defines[name])
        return text.replace("$$", "$")

    def files(self) -> dict[str, tuple[int, str | None]]:
        """Every installed path, its mode, and where it comes from (`None`: a folder; empty: the program)."""
        found: dict[str, tuple[int, str | None]] = {}
        for line in self.defines["install"].splitlines():
            words = line.split()
            kind = re.fullmatch(r"\$\(INSTALL_(\w+)\)", words[0])
            path = words[-1].removeprefix("$(1)/")
            if kind and kind[1] == "DIR":
                if words[1].startswith("-m"):
                    found[path] = (int(words[1][2:], 8), None)
            elif kind and len(words) == 3 and words[1].startswith("$(PKG_BUILD_DIR)/"):
                found[path] = (MODES[kind[1]], words[1].removeprefix("$(PKG_BUILD_DIR)/"))
            elif kind and words[1] == f"$(PKG_INSTALL_DIR)/bin/{NAME}":
                found[path] = (MODES[kind[1]], "")
            else:
                raise Refused(f"{MAKEFILE}: what does this install? {line.strip()}")
        return found


def make_source(plain: str, out: str) -> str:
    name, data = tarball(plain)
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, f"{name}.tar.gz")
    with open(path, "wb") as file:
        file.write(data)
    digest = hashlib.sha256(data).hexdigest()
    text = source(MAKEFILE)
    text = re.sub(r"^PKG_VERSION:=.*$", f"PKG_VERSION:={name.removeprefix(NAME + '-')}", text, flags=re.M)
    text = re.sub(r"^PKG_HASH:=.*$", f"PKG_HASH:={digest}", text, flags=re.M)
    with open(os.path.join(TOP, MAKEFILE), "w") as file:
        file.write(text)
    return f"{os.path.relpath(path)}  {len(data)} bytes  {digest}"


def tarball(plain: str) -> tuple[str, bytes]:
    """Its name and what is in it: everything that git knows, but for the `Makefile` that gets its hash."""
    listed = subprocess.run(["git", "-C", TOP, "ls-files", "-s", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        raise Refused("the tarball is made of what git knows, and this is no checkout")
    base = f"{NAME}-{feed_version(plain)}"
    members: dict[str, tuple[int, bytes | None]] = {}
    for entry in listed.stdout.split("\0"):
        about, _, path = entry.partition("\t")
        if path and path != MAKEFILE:
            with open(os.path.join(TOP, path), "rb") as file:
                members[f"{base}/{path}"] = (0o755 if about.startswith("100755") else 0o644, file.read())
    return base, gzip.compress(tar(members, time=SOURCE_EPOCH), mtime=0)


def feed_version(plain: str) -> str:
    """As the feed's `Makefile` says it: in apk's form, without the release of the package."""
    return version(plain, "apk").rsplit("-r", 1)[0]


def make_ipk(binary: bytes, arch: str, full_version: str, out: str) -> str:
    feed = Feed()
    data = tar(payload(feed, binary))
    control = (
        f"Package: {NAME}\nVersion: {full_version}\nDepends: {', '.join(feed.depends())}\nSource: {NAME}\n"
        f"SourceName: {NAME}\nLicense: {feed.value('PKG_LICENSE')}\n"
        f"LicenseFiles: {feed.value('PKG_LICENSE_FILES')}\nSection: {feed.value('SECTION')}\n"
        f"SourceDateEpoch: {epoch()}\nURL: {feed.value('URL')}\nMaintainer: {feed.value('PKG_MAINTAINER')}\n"
        f"Architecture: {arch}\nInstalled-Size: {len(data)}\nDescription: {feed.summary()}\n"
    )
    scripts = {
        "postinst": IPK_POSTINST,
        "postinst-pkg": feed.script("postinst"),
        "postrm": feed.script("postrm"),
        "prerm": IPK_PRERM,
        "prerm-pkg": feed.script("prerm"),
    }
    members = {"control": (0o644, control.encode()), "conffiles": (0o644, feed.conffiles().encode())}
    members |= {name: (0o755, text.encode()) for name, text in scripts.items()}
    outer = tar(
        {
            "debian-binary": (0o644, b"2.0\n"),
            "data.tar.gz": (0o644, packed(data)),
            "control.tar.gz": (0o644, packed(tar(members))),
        },
        folders=False,
        order=["debian-binary", "data.tar.gz", "control.tar.gz"],
    )
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, f"{NAME}_{full_version}_{arch}.ipk")
    with open(path, "wb") as file:
        file.write(packed(outer))
    return path


def make_apk(binary: bytes, arch: str, full_version: str, out: str) -> str:
    program = os.environ.get("APK") or shutil.which("apk")
    if not program:
        raise Refused(
            "no `apk` on this machine: an .apk needs `apk mkpkg` of apk-tools 3. Point APK= to "
            "staging_dir/host/bin/apk of an"
            " OpenWrt 25.12 SDK, or build openwrt/Makefile there"
        )
    if subprocess.run([program, "mkpkg", "--help"], capture_output=True, check=False).returncode != 0:
        raise Refused(f"{program} has no `mkpkg`: it is older than apk-tools 3, which OpenWrt 25.12 has")
    if os.geteuid() != 0:
        raise Refused("`apk mkpkg` takes over the owners it finds: run this as root or under fakeroot")
    os.makedirs(out, exist_ok=True)
    feed = Feed()
    path = os.path.join(out, f"{NAME}-{full_version}-{arch}.apk")
    with tempfile.TemporaryDirectory() as work:
        root, scripts = os.path.join(work, "root"), os.path.join(work, "scripts")
        members = payload(feed, binary)
        listing = "".join(f"/{name}\n" for name in sorted(members) if members[name][1] is not None)
        about = f"lib/apk/packages/{NAME}"
        members[about + ".list"] = (0o644, listing.encode())
        members[about + ".conffiles"] = (0o644, feed.conffiles().encode())
        # Which of them were edited, `sysupgrade` sees by what they were.
        edited = [path for path in feed.conffiles().split() if not path.endswith("/")]
        shipped = [(path, members[path.lstrip("/")][1]) for path in edited]
        static = "".join(f"{path} {hashlib.sha256(content).hexdigest()}\n" for path, content in shipped)
        members[about + ".conffiles_static"] = (0o644, static.encode())
        unfold(members, root)
        pieces = {
            "post-install": APK_HEAD + "default_postinst\n" + body(feed.script("postinst")),
            "post-upgrade": APK_HEAD.replace("\n", "\nexport PKG_UPGRADE=1\n", 1)
            + "default_postinst\n"
            + body(feed.script("postinst")),
            "pre-deinstall": APK_HEAD + "default_prerm\n" + body(feed.script("prerm")),
            "post-deinstall": feed.script("postrm"),
        }
        unfold({name: (0o755, text.encode()) for name, text in pieces.items()}, scripts)
        info = {
            "name": NAME,
            "version": full_version,
            "arch": arch,
            "description": feed.summary(),
            "license": feed.value("PKG_LICENSE"),
            "origin": NAME,
            "url": feed.value("URL"),
            "maintainer": feed.value("PKG_MAINTAINER"),
            "depends": " ".join(feed.depends()),
        }
        argv = [program, "mkpkg"]
        for key, value in info.items():
            argv += ["--info", f"{key}:{value}"]
        for name in pieces:
            argv += ["--script", f"{name}:{os.path.join(scripts, name)}"]
        argv += ["--files", root, "--output", path]
        done = subprocess.run(
            argv, env=dict(os.environ, SOURCE_DATE_EPOCH=str(epoch())), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Refused(f"apk mkpkg: {done.stderr.strip() or done.stdout.strip()}")
    return path


def check_size(path: str, kind: str, limits: str) -> None:
    """The limit is in the line `kind all bytes`; where there is none, any size will do."""
    with open(limits) as file:
        rows = [line.split() for line in file if not line.startswith("#")]
    allowed = next((int(row[2]) for row in rows if row[:2] == [kind, "all"]), None)
    size = os.path.getsize(path)
    if allowed is not None and size > allowed:
        os.unlink(path)
        raise Refused(
            f"{os.path.basename(path)} would have {size:,} bytes, {size - allowed:,} more than {limits} allows"
        )


def payload(feed: Feed, binary: bytes) -> dict[str, tuple[int, bytes | None]]:
    """Every installed path with mode and content (`None`: a directory)."""
    found: dict[str, tuple[int, bytes | None]] = {f"lib/upgrade/keep.d/{NAME}": (0o644, feed.kept().encode())}
    for path, (mode, name) in feed.files().items():
        if name is None:
            found[path] = (mode, None)
        else:
            found[path] = (mode, source(name).encode() if name else binary)
    return found


def tar(members: dict, folders: bool = True, order: list[str] | None = None, time: int | None = None) -> bytes:
    """GNU tar: sorted, owner and group 0 by number, one time for all, every folder an entry."""
    time = epoch() if time is None else time
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        paths = dict(members)
        if folders:
            for path in members:
                while path := os.path.dirname(path):
                    paths.setdefault(path, (0o755, None))
            add(archive, "./", 0o755, None, time)
        for path in order or sorted(paths):
            add(archive, "./" + path, *paths[path], time)
    return stream.getvalue()


def add(archive: tarfile.TarFile, path: str, mode: int, content: bytes | None, time: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.mode, entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = mode, time, 0, 0, "", ""
    if content is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    else:
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def packed(data: bytes) -> bytes:
    """gzip, as opkg reads nothing else, by the compressor that gets most out of it (60 kB less than gzip -9)."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            return subprocess.run(["zopfli", "--i5", "-c", file.name], check=True, stdout=subprocess.PIPE).stdout
        except FileNotFoundError:
            raise Refused("no `zopfli` here to pack with: `make ipk` installs it, or apt-get install zopfli") from None


def unfold(members: dict, root: str) -> None:
    for path, (mode, content) in members.items():
        full = os.path.join(root, path)
        os.makedirs(full if content is None else os.path.dirname(full), mode=0o755, exist_ok=True)
        if content is not None:
            with open(full, "wb") as file:
                file.write(content)
        os.chmod(full, mode)


def version(plain: str, kind: str) -> str:
    """Cargo's `1.0.0-rc.1` is older than `1.0.0`. opkg says so with a tilde, apk with `_rc1`."""
    found = re.fullmatch(r"(\d+\.\d+\.\d+)(?:-(alpha|beta|pre|rc)\.?(\d*))?", plain)
    if not found:
        raise Refused(
            (
                f"version {plain}: a prerelease must be named -alpha.N, -beta.N, -pre.N or -rc.N, for opkg and apk to "
                "order it"
            )
        )
    base, stage, number = found.groups()
    release = Feed().value("PKG_RELEASE")
    return base + (("~" if kind == "ipk" else "_") + stage + number if stage else "") + f"-r{release}"


def cargo_version() -> str:
    with open(os.path.join(TOP, "Cargo.toml")) as file:
        return re.search(r'^version = "(.*)"', file.read(), re.M).group(1)


def read_binary(path: str, arch: str) -> bytes:
    if not re.fullmatch(r"[a-z0-9_-]+", arch) or (arch.startswith("-")):
        raise Refused(
            "which architecture? For example --arch mipsel_24kc, as `opkg print-architecture` says on the router"
        )
    try:
        with open(path, "rb") as file:
            binary = file.read()
    except OSError as error:
        raise Refused(f"no binary: {error}. `make cross TARGET=...` builds it") from error
    order = {1: "little", 2: "big"}.get(binary[5], "") if binary[:4] == b"\x7fELF" and len(binary) > 20 else ""
    if not order:
        raise Refused(f"{path} is no program")
    is_for = (binary[4], binary[5], int.from_bytes(binary[18:20], order))
    wanted = next((machine for start, machine in MACHINES.items() if arch.startswith(start)), None)
    if wanted is None:
        raise Refused(f"architecture {arch} is none that tollgated is built for: {', '.join(MACHINES)}...")
    if is_for != wanted:
        raise Refused(f"{path} does not run on {arch}: its ELF header is for another machine")
    return binary


def source(path: str) -> str:
    with open(os.path.join(TOP, path)) as file:
        return file.read()


def body(script: str) -> str:
    """Without its first line, which says who reads it."""
    return script.split("\n", 1)[1]


def epoch() -> int:
    """The time all files bear: SOURCE_DATE_EPOCH, else that of the checkout's last commit."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told:
        return int(told)
    git = ["git", "-C", TOP, "log", "-1", "--format=%ct"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else 0


if __name__ == "__main__":
    sys.exit(main())
