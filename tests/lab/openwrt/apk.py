"""Stand-in for apk 3, as OpenWrt 25.12 uses it.

As a program it is `apk mkpkg`, strict about its arguments: known fields, known scripts, a version that apk can order,
files owned by root. The package it makes is a tar of `scripts/` and `root/`.

`Apk` installs such packages on a `Root`, in apk's order:
- install: files, `post-install`; upgrade: files, `post-upgrade`, the old ones' leftovers; no script of the old package
runs,
  and nothing stops a service;
- remove: `pre-deinstall`, files, folders that are empty then, `post-deinstall`;
- scripts get versions as arguments, never `upgrade` or `remove`;
- a file under /etc that was edited stays: an upgrade puts the new one beside it as FILE.apk-new, a removal leaves it.
"""

import io
import os
import re
import sys
import tarfile

FIELDS = {"name", "version", "arch", "description", "license", "origin", "maintainer", "url", "depends", "provides"}
SCRIPTS = {"pre-install", "post-install", "pre-upgrade", "post-upgrade", "pre-deinstall", "post-deinstall"}
VERSION = r"\d+(\.\d+)*[a-z]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)\d*)*(-r\d+)?"


def mkpkg(arguments: list[str]) -> None:
    info, scripts, root, output = {}, {}, "", ""
    words = iter(arguments)
    for word in words:
        value = next(words)
        name, _, rest = value.partition(":")
        if word == "--info" and name in FIELDS:
            info[name] = rest
        elif word == "--script" and name in SCRIPTS:
            scripts[name] = rest
        elif word == "--files":
            root = value
        elif word == "--output":
            output = value
        else:
            sys.exit(f"apk: unrecognized: {word} {value}")
    if not {"name", "version", "arch"} <= set(info) or not re.fullmatch(VERSION, info["version"]):
        sys.exit(f"apk: name, version or arch is missing or invalid: {info}")

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        if (entry.uid, entry.gid) != (0, 0):
            sys.exit(f"apk: {entry.name} is not root's")
        return entry

    with tarfile.open(output, "w") as archive:
        entry = tarfile.TarInfo("info")
        text = "".join(f"{name} = {value}\n" for name, value in sorted(info.items())).encode()
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
        for name, path in scripts.items():
            archive.add(path, f"scripts/{name}", filter=plain)
        archive.add(root, "root", filter=plain)


class Apk:
    def __init__(self, root) -> None:
        self.root = root
        self.packages: dict[str, dict] = {}
        self.output = ""

    def install(self, path: str) -> None:
        """Also upgrades and downgrades: apk takes the version that it is given."""
        package = read(path)
        name, version = package["info"]["name"], package["info"]["version"]
        old = self.packages.get(name)
        kept = (
            self._edited(old)
            if old
            else {path for path in package["files"] if path.startswith("etc/") and os.path.exists(self.root.at(path))}
        )
        for path, (mode, content) in package["files"].items():
            full = self.root.at(path)
            if content is None:
                if not os.path.isdir(full):
                    os.mkdir(full, mode)
                    os.chmod(full, mode)
                continue
            full += ".apk-new" if path in kept else ""
            with open(full + ".new", "wb") as file:
                file.write(content)
            os.chmod(full + ".new", mode)
            os.replace(full + ".new", full)
        for path in set(old["files"] if old else {}) - set(package["files"]):
            if os.path.isfile(self.root.at(path)):
                os.unlink(self.root.at(path))
        self.packages[name] = package
        self._script(
            package, "post-upgrade" if old else "post-install", version, *([old["info"]["version"]] if old else [])
        )

    def remove(self, name: str) -> None:
        package = self.packages[name]
        self._script(package, "pre-deinstall", package["info"]["version"])
        kept = self._edited(package)
        for path in sorted(package["files"], key=len, reverse=True):
            full = self.root.at(path)
            if os.path.isfile(full) and path not in kept:
                os.unlink(full)
        for path in sorted(package["files"], key=len, reverse=True):
            if os.path.isdir(self.root.at(path)) and not os.listdir(self.root.at(path)):
                os.rmdir(self.root.at(path))
        self._script(package, "post-deinstall", package["info"]["version"])
        del self.packages[name]

    def _edited(self, package: dict) -> set[str]:
        def is_edited(path: str, content: bytes | None) -> bool:
            full = self.root.at(path)
            if content is None or not path.startswith("etc/") or not os.path.exists(full):
                return False
            with open(full, "rb") as file:
                return file.read() != content

        return {path for path, (_, content) in package["files"].items() if is_edited(path, content)}

    def _script(self, package: dict, name: str, *versions: str) -> None:
        if name not in package["scripts"]:
            return
        self.root.write("tmp/script", package["scripts"][name], 0o755)
        done = self.root.run("/tmp/script", *versions, check=False)
        self.output += done.out
        if done.code != 0:
            raise RuntimeError(f"{name}: status {done.code}\n{done.out}")


def read(path: str) -> dict:
    package: dict = {"info": {}, "scripts": {}, "files": {}}
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member).read() if member.isfile() else None
            kind, _, name = member.name.partition("/")
            if kind == "info":
                package["info"] = dict(line.split(" = ", 1) for line in content.decode().splitlines())
            elif kind == "scripts":
                package["scripts"][name] = content.decode()
            elif name:
                package["files"][name] = (member.mode, content)
    return package


if __name__ == "__main__":
    if sys.argv[1:] == ["mkpkg", "--help"]:
        sys.exit(0)
    if sys.argv[1:2] != ["mkpkg"]:
        sys.exit("apk: only mkpkg")
    mkpkg(sys.argv[2:])
