"""Set-up, run again, and undone, over configurations as routers in the field have them, with the real `uci`."""

import pytest

from lab.openwrt.root import FILES

SETUP = ("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--guest-network")
PACKAGES = ("network", "firewall", "dhcp", "wireless")

LEASE = "\nconfig host\n\toption mac '02:00:00:00:{high:02x}:{low:02x}'\n\toption ip '10.20.{high}.{low}'\n"
LEASES = "".join(LEASE.format(high=n // 256, low=n % 256) for n in range(2100))
WIREGUARD = (
    "\nconfig interface 'wg0'\n\toption proto 'wireguard'\n\tlist addresses '192.168.78.1/24'\n"
    "\nconfig wireguard_wg0\n\tlist allowed_ips '192.168.79.0/24'\n\tlist allowed_ips '0.0.0.0/0'\n"
)
ROUTE = "\nconfig route\n\toption interface 'lan'\n\toption target '192.168.78.0'\n\toption netmask '255.255.255.0'\n"
WIDE_LAN = (
    "\nconfig interface 'big'\n\toption device 'br-big'\n\toption proto 'static'\n"
    "\toption ipaddr '192.168.0.1'\n\toption netmask '16'\n"
)
MESH = "".join(
    f"\nconfig interface 'lm_net_br_lan_anygw_{number}'\n\toption device 'br-lan'\n"
    f"\toption proto 'static'\n\toption ipaddr '10.13.{number}.1/24'\n"
    for number in range(14)
)
VLANS = (
    "\nconfig device\n\toption name 'br-lan'\n\toption type 'bridge'\n"
    "\tlist ports 'lan1'\n\tlist ports 'lan2'\n\toption vlan_filtering '1'\n"
    "\nconfig bridge-vlan\n\toption device 'br-lan'\n\toption vlan '20'\n\tlist ports 'lan2:u*'\n"
    "\nconfig interface 'hall'\n\toption device 'br-lan.20'\n"
    "\toption proto 'static'\n\toption ipaddr '192.168.20.1/24'\n"
)
TAKEN_ZONE = (
    "\nconfig zone\n\toption name 'tollgate'\n\tlist network 'office'\n\toption input 'ACCEPT'\n"
    "\nconfig forwarding\n\toption src 'tollgate'\n\toption dest 'wan'\n"
)
TAKEN_BRIDGE = "\nconfig device\n\toption name 'br-tollgate'\n\toption type 'bridge'\n"
ODHCPD = "\nconfig odhcpd 'odhcpd'\n\toption maindhcp '1'\n"

# What is added to a file, and what must be said or made of it.
ROUTERS = {
    "plain": ({}, ["network.tollgate_guest.ipaddr='192.168.78.1'"]),
    "leases": ({"dhcp": LEASES}, ["dhcp.tollgate_guest.dhcpv4='server'"]),
    "wireguard": ({"network": WIREGUARD}, ["network.tollgate_guest.ipaddr='192.168.80.1'"]),
    "route": ({"network": ROUTE}, ["network.tollgate_guest.ipaddr='192.168.79.1'"]),
    "netmask as length": ({"network": WIDE_LAN}, ["network.tollgate_guest.ipaddr='10.77.0.1'"]),
    "mesh": ({"network": MESH}, ["network.tollgate_guest.ipaddr='192.168.78.1'"]),
    "vlans": ({"network": VLANS}, ["network.tollgate_guest.device='br-tollgate'"]),
    "zone taken": (
        {"firewall": TAKEN_ZONE},
        ["firewall.tollgate_guest.name='tollgate2'", "firewall.tollgate_dns.src='tollgate2'"],
    ),
    "bridge taken": ({"network": TAKEN_BRIDGE}, ["network.tollgate_bridge.name='br-tollgate2'"]),
    "odhcpd": ({"dhcp": ODHCPD}, ["dhcp.tollgate_guest.dhcpv4='server'"]),
    "dnsmasq bound": (
        {"dhcp": "\nconfig dnsmasq 'second'\n\tlist interface 'lan'\n"},
        ["# the network tollgate_guest is not served by dnsmasq, which is bound to lan"],
    ),
    "access point": ({"firewall": None}, ["# no firewall zone leads to the internet and masquerades"]),
}


def exports(router) -> dict[str, str]:
    return {name: router.run("uci", "export", name).out for name in PACKAGES}


@pytest.mark.parametrize("kind", ROUTERS)
def test_a_guest_network_is_made_once_and_taken_back_whole(router, kind):
    added, expected = ROUTERS[kind]
    for name, text in added.items():
        router.write(f"etc/config/{name}", "config defaults\n" if text is None else FILES[name] + text)
    before = exports(router)
    made = router.run(*SETUP).out
    for line in expected:
        assert line in made, made
    after = exports(router)
    assert router.run("tollgated", "check").out.endswith("1 venue, 1 mint, enabled, 0 warnings\n")
    zone = router.run("uci", "get", "firewall.tollgate_guest.name").out.strip()
    assert f"zone {zone}" in router.run("tollgated", "wiring").out.splitlines()
    assert "nothing to do" in router.run(*SETUP).out and exports(router) == after
    router.run("tollgated", "setup", "--undo", "--yes")
    assert exports(router) == before


def test_a_network_that_luci_has_saved_keeps_its_address(router):
    router.run(*SETUP, "--subnet", "10.40.0.1/22")
    for change in (("delete", "network.tollgate_guest.netmask"), ("delete", "network.tollgate_guest.ipaddr"),
                   ("add_list", "network.tollgate_guest.ipaddr=10.40.0.1/22"), ("commit", "network")):
        router.run("uci", *change)
    before = exports(router)
    router.run("tollgated", "setup", "--yes", "--ssid", "Two", "--radio", "radio0")
    after = exports(router)
    for name in ("network", "firewall", "dhcp"):
        assert after[name] == before[name], name


@pytest.mark.parametrize("place, words", [
    (("--network", "nowhere"), "choose of loopback, lan, guest, wan"),
    (("--network", "loopback"), "is the router itself"),
    (("--network", "wan"), "gating it cuts this router off"),
    (("--device", "wan"), "gating it cuts this router off"),
    (("--network", "lan"), "the owner's own network"),
    (("--device", "br-lan"), "the owner's own network"),
    (("--device", "eth0.20@eth0"), "there is no device eth0.20;"),
])
def test_what_is_not_for_guests_is_refused_unless_forced(router, place, words):
    before, own = exports(router), router.read("etc/config/tollgate")
    command = ("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", *place)
    refused = router.run(*command, check=False)
    assert refused.code == 1 and words in refused.out
    assert exports(router) == before and router.read("etc/config/tollgate") == own
    forced = router.run(*command, "--force", "--dry-run").out
    assert words in forced and "uci set tollgate.tollgate_guest='venue'" in forced


def test_a_second_venue_is_added_and_the_first_stays(router):
    router.run(*SETUP)
    shown = router.run("tollgated", "setup", "--yes", "--network", "guest", "--name", "Hall").out
    assert "delete" not in shown and "tollgate_guest stays as it is" in shown
    assert router.run("uci", "get", "tollgate.tollgate_guest.network").out == "tollgate_guest\n"
    assert router.run("uci", "get", "tollgate.tollgate_guest_2.network").out == "guest\n"
    assert router.run("tollgated", "check").out.endswith("2 venues, 1 mint, enabled, 0 warnings\n")
    router.run("tollgated", "setup", "--undo", "--yes")
    assert "venue" not in router.read("etc/config/tollgate")


def test_a_subnet_that_is_up_is_not_taken(lab, router):
    lab.router.ip("link add up0 type bridge\nlink set up0 up\naddr add 192.168.78.30/24 dev up0\n")
    try:
        assert "ipaddr='192.168.79.1'" in router.run(*SETUP, "--dry-run").out
        refused = router.run(*SETUP, "--subnet", "192.168.78.1/24", check=False)
        assert refused.code == 1 and "overlaps up0" in refused.out
    finally:
        lab.router.ip("link del up0\n")
