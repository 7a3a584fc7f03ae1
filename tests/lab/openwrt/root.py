"""A folder that is a router's root: BusyBox as its shell and tools, the real `uci`, `nft` and `tollgated`, and
stand-ins for OpenWrt's scripts and procd (`functions.sh`, `rc.common`, `procd.sh` beside this file say what they
check). Commands run in it by chroot, on the lab's router, so that nft and netlink meet the real kernel.
"""

import os
import shutil
import subprocess

from ..place import PATIENCE, Finished, wait_for
from . import uci

HERE = os.path.dirname(os.path.abspath(__file__))
APPLETS = (
    "ash sh awk basename cat chmod chown chroot cmp cp cut dirname echo env find grep head hexdump install kill ln "
    "logger ls md5sum mkdir mount mv printf"
    " readlink rm rmdir sed sleep sort tail test touch tr true umask wc ["
).split()

DEVICES = ("null", "zero", "full", "random", "urandom")

FILES = {
    "network": "config interface 'loopback'\n\toption device 'lo'\n\toption proto 'static'\n"
    "\toption ipaddr '127.0.0.1'\n"
    "\toption netmask '255.0.0.0'\n\nconfig interface 'lan'\n\toption device 'br-lan'\n\toption proto 'static'\n"
    "\toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n\nconfig interface 'guest'\n"
    "\toption device 'br-guest'\n"
    "\toption proto 'static'\n\toption ipaddr '192.168.77.1'\n\toption netmask '255.255.255.0'\n\n"
    "config interface 'wan'\n\toption device 'wan'\n\toption proto 'static'\n\toption ipaddr '203.0.113.2/24'\n",
    "firewall": "config defaults\n\toption input 'REJECT'\n\n"
    "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\n"
    "config zone\n\toption name 'visitors'\n\tlist network 'guest'\n\toption input 'REJECT'\n\n"
    "config zone\n\toption name 'wan'\n\tlist network 'wan'\n\toption input 'REJECT'\n\toption masq '1'\n"
    "\toption masq6 '1'\n\n"
    "config rule\n\toption name 'visitors: DHCP, names, time'\n\toption src 'visitors'\n\toption proto 'tcp udp'\n"
    "\toption dest_port '53 67 123 547'\n"
    "\toption target 'ACCEPT'\n\nconfig rule\n\toption src '*'\n\toption proto 'icmp'\n\toption target 'ACCEPT'\n\n"
    "option_placeholder\n",
    "dhcp": (
        "config dnsmasq\n\toption domainneeded '1'\n\nconfig dhcp 'guest'\n\toption interface 'guest'\n"
        "\toption dhcpv4 'server'\n"
    ),
    "wireless": "config wifi-device 'radio0'\n\toption type 'mac80211'\n\nconfig wifi-iface 'default_radio0'\n"
    "\toption device 'radio0'\n\toption network 'lan'\n\toption ssid 'Home'\n\toption encryption 'psk2'\n",
}
FILES["firewall"] = FILES["firewall"].replace(
    "option_placeholder\n", "config forwarding\n\toption src 'lan'\n\toption dest 'wan'\n"
)


TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
# Reloads when what a service gives it has changed, as since OpenWrt 24.10.
FIREWALL = (
    '#!/bin/sh\n# procd_add_reload_data_trigger firewall\necho "firewall $1" >>/tmp/reloads\n'
    '[ ! -x /sbin/fw4 ] || /sbin/fw4 "$1"\n'
)
# What is asked of procd and netifd past their shell functions; an event runs what the services' triggers say.
UBUS = r"""#!/bin/sh
case "$*" in
"call service event {'type':'config.change',"*)
	package=${4##*"'package':'"}
	for service in $(grep -lx "trigger config.change ${package%%"'"*}" /tmp/procd/* 2>/dev/null); do
		"/etc/init.d/${service##*/}" reload
	done
	;;
'call service delete {"name":"'*'"}')
	. /lib/functions/procd.sh
	name=${4#*:?}
	[ -e "/tmp/procd/${name%?\}}" ] || exit 4
	procd_kill "${name%?\}}"
	;;
'call service set {"name":"'*'","instances":{}}')
	. /lib/functions/procd.sh
	name=${4#*:?}
	procd_open_service "${name%%?,*}"
	procd_close_service
	;;
'call service signal {"name":"'*'","signal":1}')
	. /lib/functions/procd.sh
	name=${4#*:?}
	procd_send_signal "${name%%?,*}" '*' HUP || exit 4
	;;
'-t 3 call network.interface dump') cat /tmp/network.interface.dump 2>/dev/null || exit 4 ;;
*)
	echo "ubus: $*" >>/tmp/procd/complaints
	exit 2
	;;
esac
"""

# The service's own files, as its package places them (tests of the package are elsewhere).
SERVICE = {
    "etc/init.d/tollgated": ("init.d/tollgated", 0o755),
    "etc/config/tollgate": ("openwrt/files/tollgate.config", 0o600),
    "etc/capabilities/tollgated.json": ("openwrt/files/tollgated.capabilities.json", 0o644),
    "tmp/95-tollgated": ("uci-defaults/95-tollgated", 0o755),
}
CONFIG = "etc/config/tollgate"
SELLING = (
    "config tollgate 'main'\n\toption enabled '1'\n\nconfig venue 'shop'\n\toption network 'guest'\n\n"
    "config mint\n\toption url 'https://mint.example.com'\n\toption price_per_step '1'\n"
)


class Root:
    """`place` runs the commands: a namespace of a lab."""

    def __init__(self, place, path: str) -> None:
        self.place = place
        self.path = path
        for folder in (
            "bin",
            "sbin",
            "usr/bin",
            "usr/sbin",
            "etc/config",
            "etc/init.d",
            "lib/functions",
            "tmp",
            "proc",
            "dev",
            "usr/lib/opkg/info",
            "usr/share/libubox",
        ):
            os.makedirs(self.at(folder), exist_ok=True)
        os.symlink("tmp", self.at("var"))
        os.makedirs(self.at("tmp/run"))
        self.program(shutil.which("busybox"), "bin/busybox")
        for applet in APPLETS:
            os.symlink("/bin/busybox", self.at(f"bin/{applet}"))
        self.program(uci.binary(), "sbin/uci")
        for name in ("setpriv", "unshare"):
            self.program(shutil.which(name), f"bin/{name}")
        self.program(shutil.which("nft", path=os.environ["PATH"] + ":/usr/sbin:/sbin"), "usr/sbin/nft")
        for name, where in (
            ("functions.sh", "lib"),
            ("rc.common", "etc"),
            ("procd.sh", "lib/functions"),
            ("ujail.sh", "lib/functions"),
        ):
            shutil.copy(os.path.join(HERE, name), self.at(where))
        os.chmod(self.at("etc/rc.common"), 0o755)
        for name in ("hosts", "resolv.conf"):
            self.write(f"etc/{name}", "")
        with open(os.path.join(HERE, "reload_config.sh")) as file:
            self.write("sbin/reload_config", file.read(), 0o755)
        self.write("etc/init.d/firewall", FIREWALL, 0o755)
        self.write("bin/ubus", UBUS, 0o755)
        for name, text in FILES.items():
            self.write(f"etc/config/{name}", text, 0o644)
        for name in ("protocols", "services"):
            # nft knows protocols by /etc/protocols, as on OpenWrt.
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", self.at("etc"))
        # Never the machine's folders: whoever deletes this one would delete through them.
        place.run(["mount", "-t", "proc", "proc", self.at("proc")])
        for name in DEVICES:
            self.write(f"dev/{name}", "")
            place.run(["mount", "--bind", f"/dev/{name}", self.at(f"dev/{name}")])
        for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            os.symlink(f"/proc/self/{target}", self.at(f"dev/{name}"))
        self._note_config()

    def _note_config(self) -> None:
        """As at the end of boot: what is there now is no change."""
        self.run("/sbin/reload_config")
        os.unlink(self.at("tmp/reloads"))

    def put_service(self, program: str) -> None:
        """The daemon and its files in their places; nothing is started."""
        self.program(program, "usr/sbin/tollgated")
        os.makedirs(self.at("etc/capabilities"))
        for path, (name, mode) in SERVICE.items():
            with open(os.path.join(TOP, name)) as file:
                self.write(path, file.read(), mode)
        self._note_config()

    def put_fw4(self) -> None:
        """The stand-in for fw4, which takes the place of the lab's base firewall at once."""
        os.makedirs(self.at("usr/share/firewall4"), exist_ok=True)
        shutil.copy(os.path.join(HERE, "fw4.sh"), self.at("sbin/fw4"))
        os.chmod(self.at("sbin/fw4"), 0o755)
        self.run("/sbin/fw4", "reload")

    def close(self) -> None:
        """Ends the service and takes the mounts away."""
        self.sh("pid=$(cat /tmp/procd/tollgated.pid) && rm /tmp/procd/tollgated.pid && kill -9 $pid", check=False)
        for path in [f"dev/{name}" for name in DEVICES] + ["proc"]:
            self.place.run(["umount", self.at(path)], check=False)

    def at(self, path: str) -> str:
        return os.path.join(self.path, path.lstrip("/"))

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        with open(self.at(path), "w") as file:
            file.write(text)
        os.chmod(self.at(path), mode)

    def read(self, path: str) -> str:
        try:
            with open(self.at(path)) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def bytes(self, path: str) -> bytes:
        with open(self.at(path), "rb") as file:
            return file.read()

    def program(self, source: str, path: str) -> None:
        """A host's program with the libraries it needs."""
        shutil.copy(source, self.at(path))
        self.libraries(source)

    def libraries(self, source: str) -> None:
        listed = subprocess.run(["ldd", source], capture_output=True, text=True, check=False).stdout
        for word in listed.split():
            if word.startswith("/") and not os.path.exists(self.at(word)):
                os.makedirs(os.path.dirname(self.at(word)), exist_ok=True)
                shutil.copy(word, self.at(word))

    def run(
        self,
        *argv: str,
        check: bool = True,
        env: dict[str, str] | None = None,
        input: str = "",
        timeout: float = 2 * PATIENCE,
    ) -> Finished:
        environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] + [f"{key}={value}" for key, value in (env or {}).items()]
        chroot = shutil.which("chroot", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        return self.place.run(
            [chroot, self.path, "/bin/busybox", "env", "-i", *environment, *argv],
            check=check,
            input=input,
            timeout=timeout,
        )

    def sh(self, script: str, **more) -> Finished:
        return self.run("/bin/sh", "-c", script, **more)

    def init(self, command: str) -> Finished:
        return self.run("/etc/init.d/tollgated", command)

    def start_dnsmasq(self, lab) -> None:
        """It reads the folder of hosts files, and procd knows it."""
        os.makedirs(self.at("tmp/hosts"))
        os.makedirs(self.at("tmp/procd"), exist_ok=True)
        server = lab.start_dnsmasq(f"--addn-hosts={self.at('tmp/hosts')}", "--localise-queries")
        with open(f"/proc/{server.host_pid}/status") as file:
            inside = next(line.split()[-1] for line in file if line.startswith("NSpid:"))
        self.write("tmp/procd/dnsmasq.pid", inside)

    def start(self, config: str = SELLING) -> str:
        """The service with this configuration; the PID of the daemon, which answers."""
        self.write(CONFIG, config, 0o600)
        self.init("start")
        wait_for(lambda: self.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
        return self.pid()

    def stop(self) -> None:
        """Back when the daemon's process has ended: it goes on writing for a moment when it no longer answers."""
        pid = self.pid()
        self.init("stop")
        wait_for(lambda: self.run("test", "-d", f"/proc/{pid}", check=False).code != 0, 20, "the daemon is gone")

    def pid(self) -> str:
        return self.read("tmp/procd/tollgated.pid").strip()

    def log(self) -> str:
        return self.read("tmp/procd/tollgated.log")

    def service(self, name: str = "tollgated") -> list[str]:
        """What procd was told of our service, or of what is paid (`tollgated-paid`)."""
        return self.read(f"tmp/procd/{name}").splitlines()

    def files(self) -> set[str]:
        """Every file but those of /proc, /dev and /tmp."""
        found = set()
        for folder, inside, names in os.walk(self.path):
            inside[:] = [
                name
                for name in inside
                if os.path.join(folder, name) not in (self.at("proc"), self.at("dev"), self.at("tmp"))
            ]
            found |= {os.path.relpath(os.path.join(folder, name), self.path) for name in names}
        return found
