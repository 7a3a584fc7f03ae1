"""The package, file by file, and its life on a router: install, upgrade, downgrade, remove.

opkg and apk are stand-ins (tests/lab/openwrt/opkg.py and apk.py say what they check); the scripts run under BusyBox
with the real `uci`, the real daemon and the real kernel.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile

import pytest

from lab.openwrt import apk, opkg
from lab.openwrt.opkg import Opkg, Refused
from lab.openwrt.root import CONFIG, SELLING, Root
from lab.place import wait_for

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACK = os.path.join(TOP, "openwrt", "package.py")
PATH = os.environ["PATH"]
KEPT = "lib/upgrade/keep.d/tollgated"


SPEC = importlib.util.spec_from_file_location("package", PACK)
package_py = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(package_py)


def pack(
    what: str, program: str, out: str, version: str, arch: str = "x86_64", **env: str
) -> subprocess.CompletedProcess:
    argv = [sys.executable, PACK, what, "--binary", program, "--arch", arch, "--out", out, "--version", version]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **env})


@pytest.fixture(scope="module", autouse=True)
def in_a_hurry(tmp_path_factory):
    """zopfli would take a minute for each package of a program for tests."""
    quick = tmp_path_factory.mktemp("quick") / "zopfli"
    quick.write_text('#!/bin/sh\nfor file; do :; done\nexec gzip -1nc "$file"\n')
    quick.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{quick.parent}:{PATH}")
        yield


@pytest.fixture(scope="module")
def ipk(program, tmp_path_factory):
    """`ipk("1.0.0")`: the path of the package of that version."""
    out, made = str(tmp_path_factory.mktemp("ipk")), {}

    def make(version: str) -> str:
        if version not in made:
            done = pack("ipk", program, out, version)
            assert done.returncode == 0, done.stderr
            made[version] = os.path.join(out, done.stdout.split()[0].rsplit("/", 1)[1])
        return made[version]

    return make


@pytest.fixture
def router(lab, program, request):
    """A fresh router on which nothing of ours is installed; whatever runs there is stopped afterwards."""
    root = Root(
        lab.router, lab.path(f"root-{request.node.name[:40].replace('/', '_').replace('[', '-').replace(']', '')}")
    )
    root.libraries(program)
    yield root
    if getattr(request.node, "failed", False):
        print(
            root.read("tmp/procd/tollgated.log")[-3000:],
            root.read("tmp/procd/complaints"),
            root.run("tollgated", "status", check=False).out,
        )
    root.close()
    lab.clean_router()


def test_every_file_has_its_place_mode_and_owner(ipk):
    package = opkg.read(ipk("1.0.0"))
    files = {path: mode for path, (mode, content) in package["files"].items() if content is not None}
    assert files == {
        "etc/config/tollgate": 0o600,
        "etc/init.d/tollgated": 0o755,
        "etc/uci-defaults/95-tollgated": 0o755,
        "etc/capabilities/tollgated.json": 0o644,
        "etc/profile.d/tollgated.sh": 0o644,
        "lib/upgrade/keep.d/tollgated": 0o644,
        "lib/upgrade/tollgated.sh": 0o644,
        "usr/sbin/tollgated": 0o755,
    }
    assert package["files"]["etc/tollgate"] == (0o700, None)
    assert package["files"]["lib/upgrade/keep.d/tollgated"][1] == b"/etc/tollgate/\n"
    assert package["conffiles"] == {CONFIG}


def test_control_says_what_opkg_needs_and_depends_on_what_is_called(ipk):
    package = opkg.read(ipk("1.0.0"))
    control = package["control"]
    assert (
        control["Package"] == "tollgated" and control["Version"] == "1.0.0-r1" and control["Architecture"] == "x86_64"
    )
    assert control["Depends"] == "firewall4, nftables, kmod-nft-core, kmod-nft-fib, kmod-nft-nat"
    assert re.fullmatch(r"[^<>]+ <\S+@\S+>", control["Maintainer"]) and control["URL"].startswith("https://")
    assert int(control["Installed-Size"]) == package["data_size"]
    assert set(package["scripts"]) == {"postinst", "postinst-pkg", "prerm", "prerm-pkg", "postrm"}
    assert os.path.basename(ipk("1.0.0")) == "tollgated_1.0.0-r1_x86_64.ipk"


# What of the buildroot's include files the feed package needs, and its way of taking over scripts (package-pack.mk).
BUILDROOT = """
INCLUDE_DIR:=$(TOPDIR)/include
CP:=cp -fpR
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_CONF:=install -m0600
INSTALL_DATA:=install -m0644
PKG_BUILD_DIR:=$(TOPDIR)/build
PKG_INSTALL_DIR:=$(TOPDIR)/build/install
RUST_ARCH_DEPENDS:=
PKGARCH:=x86_64
"""
BUILD_PACKAGE = """
define BuildPackage
  $(eval $(Package/$(1)))
  export SCRIPT_postinst:=$$(Package/$(1)/postinst)
  export SCRIPT_prerm:=$$(Package/$(1)/prerm)
  export SCRIPT_postrm:=$$(Package/$(1)/postrm)
  export SCRIPT_conffiles:=$$(Package/$(1)/conffiles)
all:
	$$(call Build/Prepare)
	mkdir -p $(PKG_INSTALL_DIR)/bin && echo program >$(PKG_INSTALL_DIR)/bin/tollgated
	$$(call Package/$(1)/install,$(TOPDIR)/out)
	for name in postinst prerm postrm conffiles; do \\
		eval "printf '%s\\n' \\"\\$$$$SCRIPT_$$$$name\\"" >$(TOPDIR)/$$$$name; done
	echo "$(PKG_VERSION)-r$(PKG_RELEASE) $(DEPENDS)" >$(TOPDIR)/version
endef
"""


def test_the_feed_package_installs_the_same_files_scripts_and_version(ipk, tmp_path):
    """In the packages feed, with what the release's tarball holds and nothing of the checkout beside it."""
    for path, text in (
        ("rules.mk", BUILDROOT),
        ("include/package.mk", BUILD_PACKAGE),
        ("feeds/packages/lang/rust/rust-package.mk", "define RustBinPackage\nendef\n"),
    ):
        os.makedirs(os.path.dirname(tmp_path / path), exist_ok=True)
        (tmp_path / path).write_text(text)
    feed = tmp_path / "feeds/packages/net/tollgated"
    os.makedirs(feed)
    for name in ("Makefile", "test.sh"):
        shutil.copy(os.path.join(TOP, "openwrt", name), feed)
    unpack(tmp_path / "build")
    subprocess.run(
        ["make", "-s", "-C", feed, f"TOPDIR={tmp_path}", "all"],
        check=True,
        env={"PATH": os.environ["PATH"], "PWD": str(feed)},
    )
    assert {"Cargo.toml", "Cargo.lock", "LICENSE", "src", ".cargo"} <= set(os.listdir(tmp_path / "build"))
    package = opkg.read(ipk("1.0.0"))
    found = {}
    for folder, _, names in os.walk(tmp_path / "out"):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, tmp_path / "out")] = os.stat(path).st_mode & 0o777
    # The buildroot makes the list of what sysupgrade keeps, of the folders among the conffiles.
    assert found | {KEPT: 0o644} == {
        path: mode for path, (mode, content) in package["files"].items() if content is not None
    }
    assert os.stat(tmp_path / "out/etc/tollgate").st_mode & 0o777 == 0o700
    for path, (_, content) in package["files"].items():
        if content is not None and path not in ("usr/sbin/tollgated", KEPT):
            assert (tmp_path / "out" / path).read_bytes() == content, path
    for name, script in (("postinst", "postinst-pkg"), ("prerm", "prerm-pkg"), ("postrm", "postrm")):
        assert (tmp_path / name).read_text().strip() == package["scripts"][script].strip()
    assert (tmp_path / "conffiles").read_text().split() == ["/etc/config/tollgate", "/etc/tollgate/"]
    plain = subprocess.run(
        [sys.executable, PACK, "version", "apk"], capture_output=True, text=True, check=True
    ).stdout.strip()
    said, *depends = (tmp_path / "version").read_text().split()
    assert said == plain, "`make source` writes the version"
    assert ", ".join(word.removeprefix("+") for word in depends) == package["control"]["Depends"]


def unpack(where) -> None:
    name, data = package_py.tarball(package_py.cargo_version())
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        archive.extractall(where.parent / "unpacked", filter="fully_trusted")
    os.rename(where.parent / "unpacked" / name, where)


def test_the_release_is_the_same_bytes_wherever_it_is_packed_and_without_its_own_hash():
    once, again = (package_py.tarball("1.0.0-rc.1") for _ in range(2))
    assert once == again and once[0] == "tollgated-1.0.0_rc1"
    with tarfile.open(fileobj=io.BytesIO(once[1]), mode="r:gz") as archive:
        names = {member.name.removeprefix("./tollgated-1.0.0_rc1/") for member in archive}
        assert {(member.uid, member.gid, member.mtime) for member in archive} == {(0, 0, package_py.SOURCE_EPOCH)}
    assert "src/main.rs" in names and "openwrt/test.sh" in names and "openwrt/Makefile" not in names


def test_the_feeds_makefile_is_written_as_its_reviewers_ask():
    with open(os.path.join(TOP, "openwrt", "Makefile")) as file:
        text = file.read()
    said = dict(re.findall(r"^([A-Z_]+):=(.*)$", text, re.M))
    assert text.startswith("# SPDX-License-Identifier: ")
    assert re.fullmatch(r"\d+\.\d+\.\d+(_[a-z]+\d*)?", said["PKG_VERSION"]) and said["PKG_RELEASE"] == "1"
    assert re.fullmatch(r"[0-9a-f]{64}", said["PKG_HASH"])
    assert re.fullmatch(r"[^<>]+ <\S+@\S+>", said["PKG_MAINTAINER"])
    assert said["PKG_SOURCE_URL"].startswith(re.search(r"^  URL:=(.*)$", text, re.M)[1])
    assert "include ../../lang/rust/rust-package.mk" in text and "$(CURDIR)" not in text and "$(file" not in text
    assert "call BuildPackage,tollgated)" in text and "call BuildPackage,$(PKG_NAME)" not in text
    with open(os.path.join(TOP, "openwrt", "test.sh")) as file:
        assert not re.search(r"grep -\w*q", file.read()), "what was found is to be seen in their log"


def test_the_feeds_own_test_is_content_with_what_is_installed(router, ipk):
    Opkg(router).install(ipk(package_py.cargo_version()))
    with open(os.path.join(TOP, "openwrt", "test.sh")) as file:
        router.write("tmp/test.sh", file.read())
    version = package_py.feed_version(package_py.cargo_version())
    done = router.run("/bin/sh", "/tmp/test.sh", "tollgated", version)
    assert f"tollgated {package_py.cargo_version()}\n" in done.out
    assert router.run("/bin/sh", "/tmp/test.sh", "tollgated", "9.9.9", check=False).code != 0
    assert router.run("/bin/sh", "/tmp/test.sh", "another", "9.9.9").code == 0


def test_capabilities_are_three_in_every_set(ipk):
    sets = json.loads(opkg.read(ipk("1.0.0"))["files"]["etc/capabilities/tollgated.json"][1])
    assert set(sets) == {"bounding", "effective", "ambient", "permitted", "inheritable"}
    assert all(names == ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"] for names in sets.values())


def elf(machine: tuple[int, int, int]) -> bytes:
    """A small file that is a program, as far as a package can see: class, byte order, machine."""
    bits, order, number = machine
    header = b"\x7fELF" + bytes([bits, order]) + bytes(12) + number.to_bytes(2, "little" if order == 1 else "big")
    return header + random.Random(number).randbytes(5000)


@pytest.fixture
def small(tmp_path) -> str:
    (tmp_path / "small").write_bytes(elf((2, 1, 62)))
    return str(tmp_path / "small")


def test_the_same_input_gives_the_same_bytes(small, tmp_path):
    made = []
    for folder in ("one", "other"):
        os.makedirs(tmp_path / folder)
        program = subprocess.run(["cp", small, tmp_path / folder / "program"], check=True).args[-1]
        done = pack("ipk", str(program), str(tmp_path / folder), "1.0.0", PATH=PATH)
        assert done.returncode == 0, done.stderr
        made.append((tmp_path / folder / "tollgated_1.0.0-r1_x86_64.ipk").read_bytes())
    assert made[0] == made[1]


def test_a_prerelease_is_older_than_its_release():
    order = [
        package_py.version(plain, "ipk")
        for plain in (
            "1.0.0-alpha.2",
            "1.0.0-beta.1",
            "1.0.0-rc.1",
            "1.0.0-rc.2",
            "1.0.0-rc.10",
            "1.0.0",
            "1.0.1-rc.1",
            "1.0.1",
            "1.10.0",
        )
    ]
    assert all(opkg.compare(older, newer) < 0 for older, newer in zip(order, order[1:])), order


def test_a_binary_for_another_processor_is_not_packed(program, tmp_path):
    done = pack("ipk", program, str(tmp_path), "1.0.0", arch="mipsel_24kc")
    assert done.returncode == 1 and "another machine" in done.stderr and not os.listdir(tmp_path)


def test_a_package_over_its_limit_is_not_made(small, tmp_path):
    limits = tmp_path / "limits"
    size = 0
    for line, code in (("ipk all 1000000000", 0), ("ipk all 1000", 1), ("binary x86_64 1000", 0)):
        limits.write_text(f"# a comment\n{line}\n")
        argv = [
            sys.executable,
            PACK,
            "ipk",
            "--binary",
            small,
            "--arch",
            "x86_64",
            "--out",
            str(tmp_path / "out"),
            "--version",
            "1.0.0",
            "--limits",
            str(limits),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == code, (line, done.stderr)
        made = tmp_path / "out" / "tollgated_1.0.0-r1_x86_64.ipk"
        assert made.exists() == (code == 0), line
        if code:
            assert f"{size - 1000:,} more than" in done.stderr
        else:
            size = made.stat().st_size


def test_make_packs_within_the_limits_of_the_checkout():
    for what in ("ipk", "apk"):
        planned = subprocess.run(
            ["make", "-n", "-C", TOP, what, "TARGET=mipsel"], capture_output=True, text=True, check=True
        ).stdout
        assert (
            (
                f'package.py {what} --limits cross/limits --binary target/openwrt/mipsel_24kc/tollgated --arch '
                '"mipsel_24kc"'
            )
            in planned
        )
    with open(os.path.join(TOP, "cross", "limits")) as file:
        assert any(line.split()[:2] == ["ipk", "all"] for line in file)


def test_sister_architectures_get_the_same_binary_under_their_names(tmp_path):
    for arch, sister, machine in (
        ("aarch64_cortex-a53", "aarch64_generic", (2, 1, 183)),
        ("mipsel_24kc", "mipsel_74kc", (1, 1, 8)),
        ("mips_24kc", "mips_4kec", (1, 2, 8)),
        ("arm_cortex-a7_neon-vfpv4", "arm_cortex-a9", (1, 1, 40)),
    ):
        (tmp_path / "program").write_bytes(elf(machine))
        packages = []
        for name in (arch, sister):
            binary = package_py.read_binary(str(tmp_path / "program"), name)
            packages.append(opkg.read(package_py.make_ipk(binary, name, "1.0.0-r1", str(tmp_path))))
        assert [package["control"].pop("Architecture") for package in packages] == [arch, sister]
        assert packages[0] == packages[1]


def test_without_apk_tools_the_apk_says_what_is_missing(program, tmp_path):
    done = pack("apk", program, str(tmp_path), "1.0.0", PATH=str(tmp_path))
    assert done.returncode == 1 and "apk mkpkg" in done.stderr


@pytest.fixture(scope="module")
def apk_of(program, tmp_path_factory):
    """`apk_of("1.0.0")`: the path of the package of that version."""
    if os.geteuid() != 0:
        pytest.skip("`apk mkpkg` takes over the owners it finds: root's are wanted")
    out = tmp_path_factory.mktemp("apk")
    tool = out / "apk"
    tool.write_text(f"#!/bin/sh\nexec {sys.executable} {apk.__file__} \"$@\"\n")
    tool.chmod(0o755)

    def make(version: str) -> str:
        done = pack("apk", program, str(out), version, APK=str(tool))
        assert done.returncode == 0, done.stderr
        return os.path.join(out, done.stdout.split()[0].rsplit("/", 1)[1])

    return make


def test_an_apk_for_others_than_root_says_why_it_is_not_made(program, tmp_path):
    if os.geteuid() != 0:
        done = pack("apk", program, str(tmp_path), "1.0.0", APK="/bin/true")
        assert done.returncode == 1 and "fakeroot" in done.stderr


def test_the_apk_is_made_of_the_same_files_and_owns_its_scripts(ipk, apk_of):
    package, plain = apk.read(apk_of("1.0.0-rc.1")), opkg.read(ipk("1.0.0"))
    assert {name: package["info"][name] for name in ("version", "arch", "depends")} == {
        "version": "1.0.0_rc1-r1",
        "arch": "x86_64",
        "depends": "firewall4 nftables kmod-nft-core kmod-nft-fib kmod-nft-nat",
    }
    about = "lib/apk/packages/tollgated"
    files = {
        path: file for path, file in package["files"].items() if not path.startswith(about) and file[1] is not None
    }
    assert files == {path: file for path, file in plain["files"].items() if file[1] is not None}
    assert package["files"]["etc/tollgate"] == (0o700, None)
    listed = package["files"][about + ".list"][1].decode().split()
    assert listed == sorted(f"/{path}" for path in files)
    shipped = hashlib.sha256(files[CONFIG][1]).hexdigest()
    assert package["files"][about + ".conffiles_static"][1].decode() == f"/{CONFIG} {shipped}\n"
    assert set(package["scripts"]) == {"post-install", "post-upgrade", "pre-deinstall", "post-deinstall"}


def test_apk_orders_a_prerelease_as_opkg_does():
    plain = ("1.0.0-alpha.2", "1.0.0-beta.1", "1.0.0-pre.1", "1.0.0-rc.1", "1.0.0-rc.10", "1.0.0")
    made = [package_py.version(one, "apk") for one in plain]
    assert all(re.fullmatch(apk.VERSION, one) for one in made), made
    # apk's suffixes before a release, in their order.
    stages = [re.search(r"_([a-z]+)", one).group(1) for one in made[:-1]]
    assert stages == ["alpha", "beta", "pre", "rc", "rc"] and "_" not in made[-1]


def test_apk_installs_upgrades_with_a_restart_and_removes(lab, router, apk_of):
    before = router.files()
    package = apk.Apk(router)
    package.install(apk_of("1.0.0-rc.1"))
    assert os.stat(router.at(CONFIG)).st_mode & 0o777 == 0o600 and os.path.islink(router.at("etc/rc.d/S90tollgated"))
    assert not os.path.exists(router.at("etc/uci-defaults/95-tollgated")), "it runs once"
    assert "tollgated setup" in package.output
    assert router.read("tmp/reloads") == "reload_config\n", "nothing of fw4's has changed"
    router.write(CONFIG, SELLING, 0o600)
    router.run("/etc/init.d/tollgated", "start")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    router.run("tollgated", "grant", "02:00:00:00:00:77", "1h")
    old, starts = router.read("tmp/procd/tollgated.pid"), router.log().count(" is up, gating ")

    package.install(apk_of("1.0.0"))

    assert router.read(CONFIG) == SELLING and router.read(CONFIG + ".apk-new").startswith("# Nothing is sold")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the new daemon answers")
    assert router.read("tmp/procd/tollgated.pid") != old
    assert router.log().count(" is up, gating ") == starts + 1, "it is started once"
    assert "02:00:00:00:00:77" in router.run("tollgated", "sessions").out
    assert lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip(), "an upgrade leaves the locks"

    package.remove("tollgated")

    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"], check=False).code != 0
    assert not lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip()
    left = router.files() - before
    assert left == {CONFIG, CONFIG + ".apk-new"} | {path for path in left if path.startswith("etc/tollgate/")}
    assert not router.read("tmp/procd/complaints")


def test_a_fresh_install_is_configured_and_sells_nothing(router, ipk):
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    assert os.stat(router.at(CONFIG)).st_mode & 0o777 == 0o600
    assert not os.path.exists(router.at("etc/uci-defaults/95-tollgated")), "it runs once"
    assert os.path.islink(router.at("etc/rc.d/S90tollgated"))
    assert router.run("tollgated", "check").out.endswith("can be used: 0 venues, 0 mints, not enabled, 0 warnings\n")
    assert not any(line.startswith("instance") for line in router.service())
    assert router.read("tmp/reloads") == "reload_config\n", "the new file is noted; nothing of fw4's has changed"
    assert not router.read("tmp/procd/complaints")


def test_an_upgrade_keeps_the_edited_config_and_restarts_with_the_new_program(lab, router, ipk):
    package = Opkg(router)
    package.install(ipk("1.0.0-rc.1"))
    router.write(CONFIG, SELLING, 0o600)
    router.run("/etc/init.d/tollgated", "start")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    router.run("tollgated", "grant", "02:00:00:00:00:77", "1h")
    before, starts = router.read("tmp/procd/tollgated.pid"), router.log().count(" is up, gating ")

    package.install(ipk("1.0.0"))

    assert router.read(CONFIG) == SELLING
    assert router.read(CONFIG + "-opkg").startswith("# Nothing is sold")
    assert os.stat(router.at(CONFIG)).st_mode & 0o777 == 0o600
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the new daemon answers")
    assert router.read("tmp/procd/tollgated.pid") != before
    assert router.log().count(" is up, gating ") == starts + 1, "it is started once"
    assert not router.read("tmp/procd/complaints") and "Command failed" not in package.output
    assert os.path.islink(router.at("etc/rc.d/S90tollgated"))
    assert "02:00:00:00:00:77" in router.run("tollgated", "sessions").out
    assert lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip(), "an upgrade leaves the locks"


INCLUDE = "usr/share/nftables.d/chain-pre/forward/30-tollgated.nft"


def as_it_was(package: dict) -> dict:
    """A package as of the time when a file made fw4 accept what is paid wherever it goes, and the service gave no
    rule.
    """
    mode, script = package["files"]["etc/init.d/tollgated"]
    package["files"]["etc/init.d/tollgated"] = (mode, script.replace(b"\nservice_started()", b"\nnot_yet()"))
    parts = INCLUDE.split("/")
    package["files"] |= {"/".join(parts[:count]): (0o755, None) for count in range(1, len(parts))}
    package["files"][INCLUDE] = (0o644, b'meta mark & 0x08000000 == 0x08000000 accept comment "tollgated: paid"\n')
    return package


@pytest.mark.parametrize("manager", ["opkg", "apk"])
def test_an_old_include_goes_by_upgrade(lab, router, request, monkeypatch, manager):
    """And paid guests stay online."""
    lab.router.ip("link add br-lan type bridge\nlink set br-lan up\naddr add 192.168.1.1/24 dev br-lan\n")
    request.addfinalizer(lambda: lab.router.ip("link del br-lan\n"))
    module, package = (opkg, Opkg(router)) if manager == "opkg" else (apk, apk.Apk(router))
    make = request.getfixturevalue("ipk" if manager == "opkg" else "apk_of")
    read = module.read
    monkeypatch.setattr(module, "read", lambda path: as_it_was(read(path)))
    package.install(make("1.0.0-rc.1"))
    router.put_fw4()
    router.start(SELLING)
    router.run("tollgated", "grant", lab.guest.mac, "1h")
    wait_for(lab.guest.online, 20, "the paid guest is online")
    forward = lambda: lab.router.run(["nft", "list", "chain", "inet", "fw4", "forward"]).out
    assert "tollgated: paid" in forward() and not router.service("tollgated-paid")
    download = lab.guest.connect("198.51.100.80", 80)
    download.sendall(b"GET /drip/600 HTTP/1.1\r\nHost: x\r\n\r\n")

    monkeypatch.setattr(module, "read", read)
    package.install(make("1.0.0"))

    assert "tollgated: paid" not in forward() and not os.path.exists(router.at(INCLUDE)), "fw4 was told as well"
    assert lab.guest.try_tcp("198.51.100.80", 443).outcome == "connected", "by the rule, at once"
    assert all(download.recv(1024) for _ in range(5)), "what runs goes on"
    download.close()
    assert not router.read("tmp/procd/complaints")
    reloads = router.read("tmp/reloads")
    package.install(make("1.0.1"))
    assert router.read("tmp/reloads").count("\n") - reloads.count("\n") <= 2, (
        "fw4 only for the ports, which closed and opened"
    )
    package.remove("tollgated")
    assert (
        not router.service("tollgated-paid")
        and "0x08000000" not in lab.router.run(["nft", "list", "table", "inet", "fw4"]).out
    )


def test_a_downgrade_wants_force_and_keeps_config_and_sessions(router, ipk):
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    router.start(SELLING)
    router.run("tollgated", "grant", "02:00:00:00:00:77", "1h")
    with pytest.raises(Refused, match="Not downgrading"):
        package.install(ipk("1.0.0-rc.1"))
    assert "02:00:00:00:00:77" in router.run("tollgated", "sessions").out, "nothing was stopped"
    package.install(ipk("1.0.0-rc.1"), downgrade=True)
    assert router.read(CONFIG) == SELLING
    wait_for(
        lambda: "02:00:00:00:00:77" in router.run("tollgated", "sessions", check=False).out,
        20,
        "the older daemon answers",
    )


def test_a_store_of_a_newer_version_stays_as_it_is_under_an_older_one_which_says_so(lab, router, ipk):
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    router.start(SELLING)
    router.run("tollgated", "grant", "02:00:00:00:00:77", "1h")
    router.stop()
    store, now = router.at("etc/tollgate/store.db"), []

    def version(said: str) -> None:
        with contextlib.closing(sqlite3.connect(store)) as db:
            now.append(db.execute("PRAGMA user_version").fetchone()[0])
            db.execute(f"PRAGMA user_version = {said}")

    version("99")
    before = router.bytes("etc/tollgate/store.db")
    package.install(ipk("1.0.0-rc.1"), downgrade=True)
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the older daemon answers")
    state = router.run("tollgated", "status").out
    assert state.startswith("ready: no") and "STORE_TOO_NEW" in state and "install that one again" in state
    assert "02:00:00:00:00:77" in lab.router.run(["nft", "list", "set", "inet", "tollgate", "paid_at"]).out, (
        "who has paid stays online"
    )
    assert router.bytes("etc/tollgate/store.db") == before
    router.stop()
    version(str(now[0]))
    package.install(ipk("1.0.0"))
    wait_for(
        lambda: "02:00:00:00:00:77" in router.run("tollgated", "sessions", check=False).out,
        20,
        "the newer one goes on",
    )


def test_put_in_again_by_force_the_shop_goes_on(lab, router, ipk):
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    router.run("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--ssid", "Kibanda")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    packages = ("network", "firewall", "dhcp", "wireless", "tollgate")
    before = {name: router.run("uci", "export", name).out for name in packages}
    package.install(ipk("1.0.0"), again=True)
    assert {name: router.run("uci", "export", name).out for name in before} == before
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers again")
    assert not router.read("tmp/procd/complaints")


def test_removal_takes_the_network_back_while_others_have_something_uncommitted(router, ipk):
    networks = {name: router.run("uci", "export", name).out for name in ("network", "firewall", "dhcp", "wireless")}
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    router.run("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--ssid", "Kibanda")
    router.run("uci", "set", "network.lan.mtu=1400")
    package.remove("tollgated")
    assert router.run("uci", "changes").out == "network.lan.mtu='1400'\n"
    router.run("uci", "revert", "network")
    assert {name: router.run("uci", "export", name).out for name in networks} == networks


def test_sysupgrade_closes_the_books_before_it_copies_them(router, ipk):
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    router.run("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--device", "br-guest")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    hooks = "sysupgrade_init_conffiles=add_uci_conffiles; . /lib/upgrade/tollgated.sh; echo $sysupgrade_init_conffiles"
    for other in ("CONF_BACKUP=/tmp/backup.tgz", "CONF_BACKUP_LIST=1", "TEST=1"):
        router.sh(f"{other}; {hooks}; tollgated_close")
        assert router.run("tollgated", "status", check=False).code == 0, f"{other} leaves it alone"
    flashing = "CONF_BACKUP= CONF_BACKUP_LIST=0 TEST=0"
    assert router.sh(f"{flashing}; {hooks}; tollgated_close").out.startswith("add_uci_conffiles tollgated_close\n")
    assert router.run("tollgated", "status", check=False).code != 0


def test_the_first_commit_after_installation_is_applied_by_reload_config(router, ipk):
    Opkg(router).install(ipk("1.0.0"))
    router.sh(
        "uci set tollgate.shop=venue; uci set tollgate.shop.network=guest; uci set tollgate.mint=mint;"
        "uci set tollgate.mint.url=https://mint.example.com; uci set tollgate.mint.price_per_step=1;"
        "uci set tollgate.main.enabled=1; uci commit tollgate; reload_config"
    )
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    before = router.pid()
    router.sh("uci set tollgate.shop.name=Kibanda; uci commit tollgate; reload_config")
    wait_for(lambda: "configuration reloaded" in router.log(), 10, "the daemon read it")
    assert router.pid() == before


def test_removal_leaves_nothing(lab, router, ipk):
    before = router.files()
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    package.remove("tollgated")
    assert router.files() == before
    assert not os.path.exists(router.at("etc/tollgate"))
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"], check=False).code != 0


def test_removal_of_a_selling_shop_takes_gate_and_network_back_and_keeps_money_and_config(lab, router, ipk):
    before = router.files()
    networks = {name: router.run("uci", "export", name).out for name in ("network", "firewall", "dhcp", "wireless")}
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    router.run(
        "tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--ssid", "Kibanda", "--name", "Kibanda"
    )
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    wait_for(lambda: lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip(), 10, "the locks are up")
    assert router.run("tollgated", "gate", "release", check=False).code == 1, "not while the daemon runs"
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"]).code == 0

    package.remove("tollgated")

    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"], check=False).code != 0
    for family in ("-4", "-6"):
        assert not lab.router.run(["ip", family, "rule", "show", "pref", "90"]).out.strip()
    assert {name: router.run("uci", "export", name).out for name in networks} == networks
    left = router.files() - before
    assert left == {CONFIG} | {path for path in left if path.startswith("etc/tollgate/")}, (
        "config and state are the operator's"
    )
    assert not os.path.exists(router.at("var/run/tollgate"))
    assert "mint.example.com" in router.read(CONFIG)
    assert not router.read("tmp/procd/complaints")


def test_removal_releases_the_guests_of_a_venue_that_the_operator_wrote(lab, router, ipk):
    """`setup --undo` leaves such a venue on sale."""
    package = Opkg(router)
    package.install(ipk("1.0.0"))
    router.start(SELLING)
    wait_for(lambda: lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip(), 10, "the locks are up")
    os.makedirs(router.at("tmp/hosts"))
    router.write("tmp/hosts/tollgated", "192.168.77.1 wifi.home\n")
    package.remove("tollgated")
    assert "locked out" not in package.output and "Command failed" not in package.output
    assert not lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip()
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"], check=False).code != 0
    assert not router.service() and not router.service("tollgated-paid")
    assert not os.path.exists(router.at("tmp/hosts/tollgated")), "dnsmasq knows the portal's name no more"
    assert not router.read("tmp/procd/complaints")
