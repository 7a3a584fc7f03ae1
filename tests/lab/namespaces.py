"""A lab: router, guests and internet in namespaces of their own, gone without a trace when it is closed or its owner
dies.

	guest eth0 -- br-guest [router] wan -- eth0 [internet]
	192.168.77.11/24, fd77::b/64     .1, ::1     203.0.113.2, 2001:db8::2     .1, ::1; host 198.51.100.80, 2001:db8:80::80

No name and no port of the host is used, so any number of labs run side by side. As root the namespaces belong to
root; otherwise to a user namespace in which the caller is root.
"""

import json
import os
import shutil
import tempfile

from . import firewall
from .guest import ROUTER4, ROUTER6, Guest
from .internet import HOST4, HOST6, MINT4, UPLINK4, UPLINK6, Internet
from .place import AgentLink, Process, Space, pid_of, wait_for

BRIDGE = "br-guest"
# An interface made from now on uses its IPv6 addresses at once, without asking for two seconds who else has them.
NO_WAIT = {"net__ipv6__conf__default__accept_dad": 0, "net__ipv6__conf__all__accept_dad": 0}


class Lab:
    def __init__(self, guests: int = 1, dir: str | None = None) -> None:
        """`dir`: where its files are, the daemon's store among them."""
        self.dir = tempfile.mkdtemp(prefix="tollgated-lab-", dir=dir)
        self.guests: list[Guest] = []
        self.servers: Internet | None = None
        self.agent = AgentLink(self.dir)
        try:
            self.router = Space(self.agent, "router")
            self.internet = self._add_space("internet")
            self._wire()
            for _ in range(guests):
                self.add_guest()
            self.firewall()
            self.servers = Internet(self.internet)
            self.internet.nft(firewall.COUNT_LEAKS)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def guest(self) -> Guest:
        return self.guests[0]

    def close(self) -> None:
        if self.servers:
            self.servers.close()
        self.agent.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name: str) -> str:
        return os.path.join(self.dir, name)

    def add_guest(self) -> Guest:
        """One more guest on the bridge, addresses set."""
        number = len(self.guests) + 1
        guest = Guest(self.agent, number)
        pid = self._add_space(guest.name, guest).pid
        self.router.ip(
            f"link add {guest.name} type veth peer name eth0 netns {pid}\n"
            f"link set {guest.name} master {BRIDGE} up\n"
        )
        guest.ip_script("link set lo up")
        guest.configure()
        self._set_resolver(guest, ROUTER4)
        self.guests.append(guest)
        return guest

    # The router's firewall

    def firewall(self) -> None:
        """The base firewall, as after `fw4 reload`. Again after a flush, it is put back whole."""
        self.router.nft(firewall.BASE)

    def flush_firewall(self) -> None:
        """`nft flush ruleset`: every table of every program is gone."""
        self.router.nft(firewall.FLUSH)

    def nat_only(self) -> None:
        """A firewall that lets everything through and still masquerades: the worst that can be left behind."""
        self.router.nft(firewall.NAT_ONLY)

    def clean_router(self) -> None:
        """As after a factory reset: no table but the base firewall, no routing rule of ours, no connection
        remembered.
        """
        self.flush_firewall()
        self.firewall()
        for family in ("-4", "-6"):
            while self.router.run(["ip", family, "rule", "del", "pref", "90"], check=False).code == 0:
                pass
        self.router.run(["conntrack", "-F"], check=False)

    def leaked_packets(self) -> int:
        """Packets of guests that the internet has seen so far; the router's own do not count."""
        return self._counted("packets_from_guests")

    def hammered_packets(self) -> int:
        """Packets of hammers that the internet has seen so far."""
        return self._counted("packets_of_hammers")

    def _counted(self, counter: str) -> int:
        listing = json.loads(self.internet.run(["nft", "-j", "list", "counter", "inet", "leaks", counter]).out)
        return next(item["counter"]["packets"] for item in listing["nftables"] if "counter" in item)

    # The guests' device

    def add_bridge(self) -> None:
        """Makes `br-guest`, with the router's addresses and every guest there is on it."""
        self.router.ip(
            f"link add {BRIDGE} address 02:00:00:00:00:fe type bridge forward_delay 0\n"
            + "".join(f"link set {guest.name} master {BRIDGE}\n" for guest in self.guests)
            + f"link set {BRIDGE} up\naddr add {ROUTER4}/24 dev {BRIDGE}\naddr add {ROUTER6}/64 dev {BRIDGE} nodad\n"
        )

    def remove_bridge(self) -> None:
        self.router.ip(f"link del {BRIDGE}\n")

    # Name service

    def start_internet_dns(self) -> Process:
        """Every name in the world is the internet host."""
        return self._dnsmasq(
            self.internet, "internet-dns", f"--address=/#/{HOST4}", f"--address=/#/{HOST6}",
            f"--listen-address={UPLINK4}", "--bind-interfaces", "--no-resolv",
        )

    def start_dnsmasq(self, *more: str) -> Process:
        """DHCP, DNS and router advertisements on the guest network, as on OpenWrt (and the internet's DNS behind
        it).
        """
        self.start_internet_dns()
        leases = self.path("dhcp.leases")
        return self._dnsmasq(
            self.router, "router-dns", f"--server={UPLINK4}", f"--interface={BRIDGE}", "--bind-dynamic", "--no-resolv",
            "--dhcp-range=192.168.77.100,192.168.77.200,255.255.255.0,10m", f"--dhcp-option=3,{ROUTER4}",
            f"--dhcp-option=6,{ROUTER4}", "--dhcp-range=fd77::,ra-stateless,ra-names", "--enable-ra",
            f"--dhcp-leasefile={leases}", "--dhcp-authoritative", "--no-ping", *more,
        )

    def _dnsmasq(self, space: Space, name: str, *options: str) -> Process:
        # -d: in the foreground, its log on standard error, and no change of user, which a user namespace would refuse.
        argv = ["dnsmasq", "-d", "-C", "/dev/null", "--no-hosts", *options]
        process = space.spawn(argv, log=self.path(name + ".log"))

        def listening() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"dnsmasq ended: {open(self.path(name + '.log')).read()}")
            return ":53 " in space.run(["ss", "-Hlun"]).out

        wait_for(listening, 5, f"{name} listens")
        return process

    # Making it

    def _add_space(self, name: str, space: Space | None = None) -> Space:
        reply, (pidfd,) = self.agent.ask("add_space", name=name)
        space = space or Space(self.agent, name)
        space.pid = reply["pid"]
        space.host_pid = pid_of(pidfd)
        os.close(pidfd)
        space.sysctl(**NO_WAIT)
        return space

    def _wire(self) -> None:
        self.router.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1, **NO_WAIT)
        # As on OpenWrt: what stays within the bridge is no business of the firewall.
        self.router.run(
            ["sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done"]
        )
        self.router.ip(
            "link set lo up\n"
            f"link add wan type veth peer name eth0 netns {self.internet.pid}\n"
            "link set wan up\naddr add 203.0.113.2/24 dev wan\naddr add 2001:db8::2/64 dev wan nodad\n"
        )
        self.add_bridge()
        self.internet.ip(
            "link set lo up\nlink set eth0 up\n"
            f"addr add {UPLINK4}/24 dev eth0\naddr add {MINT4}/24 dev eth0\naddr add {UPLINK6}/64 dev eth0 nodad\n"
            f"addr add {HOST4}/32 dev lo\naddr add {HOST6}/128 dev lo nodad\n"
        )
        self.router.ip(f"route add default via {UPLINK4}\nroute add default via {UPLINK6}\n")
        self._set_resolver(self.router, UPLINK4)
        self._set_resolver(self.internet, UPLINK4)

    def _set_resolver(self, space: Space, server: str) -> None:
        """The namespace has a mount namespace too, so that its programs find its own DNS server."""
        path = self.path(f"resolv.{space.name}")
        with open(path, "w") as file:
            file.write(f"nameserver {server}\n")
        space.run(["mount", "--bind", path, os.path.realpath("/etc/resolv.conf")])
