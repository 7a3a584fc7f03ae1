"""Stand-in for opkg (opkg-lede), strict about what it was seen to do with real packages:

- the outer file is a gzip'd tar (an `ar` archive or a plain tar is refused); `data.tar.gz` and `control.tar.gz` only;
- Package, Version, Architecture must be there, the architecture must be configured, dependencies installed;
- members are owned by 0:0 by number, no path leaves the root, no file belongs to another package;
- upgrade: old `prerm upgrade NEW`, copies of edited conffiles, old `postrm upgrade NEW`, then every file of the old
package goes (its
  folders, where they are empty then; its scripts), the new ones come, new `postinst configure`; scripts see
  PKG_UPGRADE;
- a folder among the conffiles is none of opkg's business;
- a conffile that was edited stays, the new one is put beside it as FILE-opkg; one that is unedited is replaced;
- a lower version is not installed without `downgrade=True` (--force-downgrade): opkg says so and ends with 0; versions
are ordered as
  opkg orders them, `~` before everything;
- the same version is installed again with `again=True` (--force-reinstall): that is `remove` and `install`, of which
  scripts are told nothing but what their callers' command lines say;
- remove: `prerm remove`, files, folders that are empty then, `postrm remove`, the package's own records; an edited
conffile stays.
"""

import contextlib
import gzip
import hashlib
import io
import os
import re
import tarfile

INFO = "usr/lib/opkg/info"
# What every router with fw4 has.
ROUTERS = ("libc", "firewall4", "nftables", "kmod-nft-core", "kmod-nft-fib", "kmod-nft-nat")


class Refused(Exception):
    """opkg's words."""


class Opkg:
    def __init__(self, root, arch: str = "x86_64", installed: tuple[str, ...] = ROUTERS) -> None:
        self.root, self.arch, self.have = root, arch, set(installed)
        self.packages: dict[str, dict] = {}
        self.output = ""
        self.called = "opkg"

    def install(self, path: str, downgrade: bool = False, again: bool = False) -> None:
        package = read(path)
        if again:
            self.called = "opkg install --force-reinstall"
            self.remove(package["control"]["Package"])
        control, name = package["control"], package["control"].get("Package")
        if not name:
            raise Refused("Malformed package file")
        if control.get("Architecture") not in (self.arch, "all") or not control.get("Version"):
            raise Refused(f"Packages for {name} found, but incompatible with the architectures configured")
        for dependency in re.split(r",\s*", control.get("Depends", "")):
            if dependency and dependency.split()[0] not in self.have:
                raise Refused(f"cannot find dependency {dependency} for {name}")
        old = self.packages.get(name)
        if old:
            order = compare(control["Version"], old["control"]["Version"])
            if order == 0 or (order < 0 and not downgrade):
                raise Refused(f"Not downgrading package {name}" if order else "already installed")
            self._script(old, "prerm", f"upgrade {control['Version']}", upgrade=True)
        kept = (
            self._edited(old) if old else {path for path in package["conffiles"] if os.path.exists(self.root.at(path))}
        )
        self._refuse_clashes(name, package, set(old["files"]) if old else set(), kept)
        if old:
            self._script(old, "postrm", f"upgrade {control['Version']}", upgrade=True)
            self._take_away(old, kept)
            self._forget(name)
        for path, (mode, content) in package["files"].items():
            full = self.root.at(path)
            if content is None:
                if not os.path.isdir(full):
                    os.mkdir(full, mode)
                    os.chmod(full, mode)
                continue
            if path in kept:
                full += "-opkg"
            with open(full + ".new", "wb") as file:
                file.write(content)
            os.chmod(full + ".new", mode)
            os.replace(full + ".new", full)
        self.packages[name] = package
        for script, text in package["scripts"].items():
            self.root.write(f"{INFO}/{name}.{script}", text, 0o755)
        self.root.write(
            f"{INFO}/{name}.list",
            "".join(f"/{path}\n" for path, (_, content) in package["files"].items() if content is not None),
        )
        self._script(package, "postinst", "configure", upgrade=bool(old))

    def remove(self, name: str) -> None:
        package = self.packages[name]
        self._script(package, "prerm", "remove", upgrade=False)
        self._take_away(package, self._edited(package))
        self._script(package, "postrm", "remove", upgrade=False)
        self._forget(name)
        del self.packages[name]

    def _refuse_clashes(self, name: str, package: dict, own: set[str], kept: set[str]) -> None:
        for path, (_, content) in package["files"].items():
            if content is not None and os.path.exists(self.root.at(path)) and path not in own | kept:
                raise Refused(
                    (
                        f"Package {name} wants to install file {path}\n"
                        "\tBut that file is already provided by package <no package>"
                    )
                )

    def _take_away(self, package: dict, kept: set[str]) -> None:
        for path, (_, content) in package["files"].items():
            if content is not None and path not in kept and os.path.exists(self.root.at(path)):
                os.unlink(self.root.at(path))
        for path in sorted(
            (path for path, (_, content) in package["files"].items() if content is None), key=len, reverse=True
        ):
            with contextlib.suppress(OSError):
                os.rmdir(self.root.at(path))

    def _edited(self, package: dict) -> set[str]:
        def digest(path: str) -> str:
            with open(self.root.at(path), "rb") as file:
                return hashlib.md5(file.read()).hexdigest()

        shipped = {path: hashlib.md5(package["files"][path][1]).hexdigest() for path in package["conffiles"]}
        return {
            path for path, known in shipped.items() if os.path.exists(self.root.at(path)) and digest(path) != known
        }

    def _script(self, package: dict, script: str, arguments: str, upgrade: bool) -> None:
        name = package["control"]["Package"]
        path = f"/{INFO}/{name}.{script}"
        if not os.path.exists(self.root.at(path)):
            if script != "postrm":
                raise Refused(f"no {script}")
            return
        done = self.root.run(
            "/bin/sh",
            "-c",
            f"{path} {arguments}; exit $?",
            *self.called.split(),
            "x",
            env={"PKG_ROOT": "/", "PKG_UPGRADE": "1" if upgrade else "0"},
            check=False,
        )
        self.output += done.out
        if done.code != 0:
            raise Refused(f"{script} script for package \"{name}\" failed: {done.code}\n{done.out}")

    def _forget(self, name: str) -> None:
        for file in os.listdir(self.root.at(INFO)):
            if file.startswith(name + "."):
                os.unlink(self.root.at(f"{INFO}/{file}"))


def read(path: str) -> dict:
    with open(path, "rb") as file:
        raw = file.read()
    if raw[:2] != b"\x1f\x8b":
        raise Refused("Malformed package file")
    outer = {member.name.removeprefix("./"): content for member, content in members(gzip.decompress(raw))}
    if outer.get("debian-binary") != b"2.0\n" or set(outer) != {"debian-binary", "data.tar.gz", "control.tar.gz"}:
        raise Refused("Malformed package file")
    inside = {
        member.name.removeprefix("./"): content
        for member, content in members(gzip.decompress(outer["control.tar.gz"]))
    }
    control = dict(line.split(": ", 1) for line in inside["control"].decode().splitlines())
    named = {line.lstrip("/") for line in inside.get("conffiles", b"").decode().split()}
    # A folder is for sysupgrade; opkg compares files only.
    conffiles = {path for path in named if not path.endswith("/")}
    files = {}
    data = gzip.decompress(outer["data.tar.gz"])
    for member, content in members(data):
        where = member.name.removeprefix("./").rstrip("/")
        if where.startswith("/") or ".." in where.split("/"):
            raise Refused(f"{member.name} leaves the root")
        if where:
            files[where] = (member.mode, content)
    if not conffiles <= set(files):
        raise Refused("a conffile that is not in the package")
    scripts = {name: text.decode() for name, text in inside.items() if name and content_is_script(name, text)}
    return {"control": control, "conffiles": conffiles, "files": files, "scripts": scripts, "data_size": len(data)}


def content_is_script(name: str, text: bytes | None) -> bool:
    return text is not None and name not in ("control", "conffiles")


def members(data: bytes) -> list[tuple[tarfile.TarInfo, bytes | None]]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if (member.uid, member.gid) != (0, 0) or member.uname or member.gname:
                raise Refused(f"{member.name} is not owned by 0:0")
            if not (member.isfile() or member.isdir()):
                raise Refused(f"{member.name} is neither file nor folder")
            found.append((member, archive.extractfile(member).read() if member.isfile() else None))
    return found


def compare(one: str, other: str) -> int:
    """Debian's order, which opkg has: runs of letters and of digits in turn, `~` before the end of the text."""
    (one, _, one_release), (other, _, other_release) = one.partition("-"), other.partition("-")
    return _compare(one, other) or _compare(one_release, other_release)


def _compare(one: str, other: str) -> int:
    def weight(letter: str) -> int:
        return (
            -1
            if letter == "~"
            else 0
            if letter == "" or letter.isdigit()
            else ord(letter)
            if letter.isalpha()
            else ord(letter) + 256
        )

    while one or other:
        while (one[:1] and not one[0].isdigit()) or (other[:1] and not other[0].isdigit()):
            left, right = weight(one[:1]), weight(other[:1])
            if left != right:
                return -1 if left < right else 1
            one, other = one[1:], other[1:]
        left, right = re.match(r"\d*", one).group(), re.match(r"\d*", other).group()
        one, other = one[len(left):], other[len(right):]
        if int(left or 0) != int(right or 0):
            return -1 if int(left or 0) < int(right or 0) else 1
    return 0
