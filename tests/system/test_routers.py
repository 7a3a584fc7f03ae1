"""Set-up, run again, check, wiring and undo, over configurations as routers in the field have them
(`tests/vectors/routers`), with the real `uci`.
"""

import json
import os
from dataclasses import dataclass, field

import pytest

from lab.openwrt.root import TOP

ROUTERS = os.path.join(TOP, "tests", "vectors", "routers")
SETUP = ("tollgated", "setup", "--yes", "--mint", "https://mint.example.com")
GUESTS = (*SETUP, "--guest-network")
# What the lab's kernel says, and not the configuration: no service runs there, no fw4, and only the bridge of guests.
OF_THE_LAB = {"locks", "ipv6", "table", "fw4", "device", "address", "clock", "forwarding", "foreign"}


@dataclass
class Place:
    """A network that is there before: what of `wiring` is about it, and what `check --system` finds wrong with it."""

    where: tuple[str, str]
    wiring: set[str]
    found: set[str] = field(default_factory=set)


@dataclass
class Kind:
    """What is said of the guest network that setup makes, what is found then, and places that are there before. `up`:
    what netifd has, by network.
    """

    said: list[str]
    found: set[str] = field(default_factory=set)
    places: list[Place] = field(default_factory=list)
    up: dict[str, str] = field(default_factory=dict)


# The lab's own guests have 192.168.77.0/24.
ADDRESS = "uci set network.tollgate_guest.ipaddr='{}'"
KINDS = {
    "dsa_vlans": Kind(
        [ADDRESS.format("192.168.78.1"), "uci set wireless.tollgate_radio0.ssid='Kibanda'"],
        places=[
            Place(("network", "visitors"), {"zone visitors", "network visitors"}, {"bypass"}),
            Place(("device", "br-lan.30"), {"zone things", "network things"}, {"input", "dhcp"}),
        ],
    ),
    "wireguard": Kind([ADDRESS.format("192.168.83.1")]),
    "odhcpd_main": Kind([ADDRESS.format("192.168.78.1"), "uci set dhcp.tollgate_guest.dhcpv4='server'"]),
    "access_point": Kind(
        ["# no firewall zone leads to the internet and masquerades", "nothing answers at port 53", "# radio0 is off;"],
        {"bypass", "dhcp", "uplink"},
    ),
    "three_bands": Kind(
        ["# radio1 is off;", "# radio2 is left out: at 6 GHz there are no open networks",
         "uci set wireless.tollgate_radio0.encryption='none'"],
        {"offload"},
        [Place(("network", "garden"), {"zone garden", "network garden", "attached garden phy0-ap1"},
               {"input", "offload"})],
        {"garden": "phy0-ap1"},
    ),
    "zones_by_device": Kind(
        [ADDRESS.format("10.77.0.1")],
        places=[
            Place(("network", "court"), {"zone yard", "network court"}),
            Place(("device", "pool0"), {"zone hotel", "network pool"}),
        ],
    ),
    "mesh": Kind(
        [ADDRESS.format("192.168.78.1")],
        places=[Place(("network", "cafe_on_the_hill_guests"), {"zone cafe", "network cafe_on_the_hill_guests"})],
    ),
    "pppoe": Kind(
        [ADDRESS.format("192.168.78.1")],
        places=[Place(("network", "hall"), {"network hall"}, {"zone", "dhcp"})],
        up={"wan": "pppoe-wan", "modem": "eth1"},
    ),
    "modem": Kind(
        ["uci add_list dhcp.@dnsmasq[0].interface=tollgate_guest", "uci set wireless.tollgate_radio0.mode='ap'"],
        {"dhcp"},
        up={"modem_1_1_2": "wwan0", "wwan": "wlan-sta0"},
    ),
    "multi_wan": Kind(
        [ADDRESS.format("192.168.78.1")],
        places=[Place(("network", "lobby"), {"zone lobby", "network lobby", "with dest sky", "with dest_port 25"})],
    ),
    "custom_rules": Kind(
        [ADDRESS.format("192.168.78.1")],
        {"bypass"},
        [Place(("network", "kiosk"), {"zone kiosk", "zone second", "network kiosk"}, {"bypass", "redirect"})],
    ),
    "old": Kind(
        [ADDRESS.format("10.78.0.1")],
        places=[Place(("network", "cafe"), {"zone cafe", "network cafe"}, {"input", "dhcp"})],
    ),
    "containers": Kind(
        [ADDRESS.format("192.168.78.1"), "uci set firewall.tollgate_guest.name='tollgate2'",
         "uci set network.tollgate_bridge.name='br-tollgate2'"],
        {"dhcp"},
    ),
}


class Field:
    """A router with one of the configurations; `packages` are what it has."""

    def __init__(self, router, lab, text: str, up: dict[str, str] | None = None) -> None:
        self.router, self.lab = router, lab
        for name in ("network", "firewall", "dhcp", "wireless"):
            os.unlink(router.at(f"etc/config/{name}"))
        router.write("tmp/router.uci", text)
        self.packages = [line.split()[1] for line in text.splitlines() if line.startswith("package ")]
        for name in self.packages:
            router.write(f"etc/config/{name}", "")
        router.sh("uci import </tmp/router.uci && uci commit")
        dump = [{"interface": name, "up": True, "l3_device": device} for name, device in (up or {}).items()]
        router.write("tmp/network.interface.dump", json.dumps({"interface": dump}))

    def files(self) -> dict[str, bytes]:
        """What the operator's packages are, byte for byte."""
        return {name: self.router.bytes(f"etc/config/{name}") for name in self.packages}

    def found(self, *devices: str) -> set[str]:
        """What `check --system` finds in the configuration while these devices are there."""
        for device in devices:
            self.lab.router.ip(f"link add {device} type bridge\nlink set {device} up\n")
        try:
            done = self.router.run("tollgated", "check", "--system", "--json", check=False)
        finally:
            for device in devices:
                self.lab.router.ip(f"link del {device}\n")
        return {finding["id"] for finding in json.loads(done.out)["data"]["findings"]} - OF_THE_LAB

    def wiring(self) -> list[str]:
        return self.router.run("tollgated", "wiring").out.splitlines()


def vector(kind: str) -> str:
    with open(os.path.join(ROUTERS, f"{kind}.uci")) as file:
        return file.read()


@pytest.fixture
def field_of(router, lab):
    return lambda kind: Field(router, lab, vector(kind), KINDS[kind].up)


def test_every_configuration_is_tried():
    assert {f"{kind}.uci" for kind in KINDS} == set(os.listdir(ROUTERS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_guest_network_is_made_once_and_taken_back_to_the_byte(router, field_of, kind):
    field, expected = field_of(kind), KINDS[kind]
    command = (*GUESTS, "--ssid", "Kibanda") if "wireless" in field.packages else GUESTS
    before = field.files()
    made = router.run(*command).out
    for line in expected.said:
        assert line in made, made
    after = field.files()
    assert all(before[name] == after[name] for name in set(before) - {"network", "firewall", "dhcp", "wireless"})
    assert router.run("tollgated", "check").out.endswith("1 venue, 1 mint, enabled, 0 warnings\n")
    bridge = router.run("uci", "get", "network.tollgate_guest.device").out.strip()
    assert field.found(bridge) == expected.found
    zone = router.run("uci", "get", "firewall.tollgate_guest.name").out.strip()
    assert {f"zone {zone}", "network tollgate_guest"} <= set(field.wiring())
    assert "nothing to do" in router.run(*command).out and field.files() == after
    router.run("tollgated", "setup", "--undo", "--yes")
    assert field.files() == before
    assert router.run("tollgated", "setup", "--undo", "--yes").out == "nothing to do\n"


@pytest.mark.parametrize(
    "kind, place",
    [(kind, place) for kind, expected in KINDS.items() for place in expected.places],
    ids=lambda value: value if isinstance(value, str) else value.where[1],
)
def test_a_network_that_was_there_is_gated_and_left_as_it_was(router, field_of, kind, place):
    field = field_of(kind)
    before = field.files()
    command = (*SETUP, f"--{place.where[0]}", place.where[1])
    router.run(*command)
    assert field.files() == before, "only our own file is written"
    assert router.run("tollgated", "check").out.endswith("1 venue, 1 mint, enabled, 0 warnings\n")
    wiring = field.wiring()
    assert place.wiring <= set(wiring), wiring
    assert {line for line in wiring if line.startswith("zone ")} == {
        line for line in place.wiring if line.startswith("zone ")
    }
    device = place.where[1] if place.where[0] == "device" else next(
        (line.split()[2] for line in wiring if line.startswith(f"attached {place.where[1]} ")), None
    ) or router.run("uci", "-q", "get", f"network.{place.where[1]}.device", check=False).out.strip()
    assert field.found(device or f"br-{place.where[1]}") == place.found
    assert router.run(*command).out == "nothing to do\n"
    router.run("tollgated", "setup", "--undo", "--yes")
    assert field.files() == before and "venue" not in router.read("etc/config/tollgate")


LEASE = "\nconfig host\n\toption mac '02:00:00:00:{high:02x}:{low:02x}'\n\toption ip '10.20.{high}.{low}'\n"


def test_a_router_with_2100_leases_is_set_up_and_taken_back_to_the_byte(router, lab):
    leases = "".join(LEASE.format(high=n // 256, low=n % 256) for n in range(2100))
    field = Field(router, lab, vector("dsa_vlans").replace("package wireless\n", leases + "\npackage wireless\n"))
    before = field.files()
    assert before["dhcp"].count(b"config host") == 2100
    made = router.run(*GUESTS).out
    assert "dhcp.tollgate_guest.dhcpv4='server'" in made
    assert field.found("br-tollgate") == set()
    assert router.run(*GUESTS).out == "nothing to do\n"
    router.run("tollgated", "setup", "--undo", "--yes")
    assert field.files() == before


# What is not for guests


@pytest.mark.parametrize("kind, place, words", [
    ("dsa_vlans", ("--network", "nowhere"), "choose of loopback, lan, visitors, things, wan, wan6"),
    ("dsa_vlans", ("--network", "loopback"), "is the router itself"),
    ("dsa_vlans", ("--network", "wan"), "gating it cuts this router off"),
    ("dsa_vlans", ("--network", "wan6"), "gating it cuts this router off"),
    ("dsa_vlans", ("--device", "wan"), "gating it cuts this router off"),
    ("dsa_vlans", ("--network", "lan"), "from this router's SSH and web pages"),
    ("dsa_vlans", ("--device", "br-lan.1"), "the owner's own network"),
    ("dsa_vlans", ("--device", "lan2"), "is a port of br-lan"),
    ("dsa_vlans", ("--device", "eth0.20@eth0"), "there is no device eth0.20,"),
    ("wireguard", ("--network", "wg0"), "gating it cuts this router off"),
    ("access_point", ("--network", "lan"), "the owner's own network"),
    ("pppoe", ("--device", "pppoe-wan"), "gating it cuts this router off"),
    ("modem", ("--device", "wwan0"), "gating it cuts this router off"),
    ("modem", ("--network", "modem_1_1_2"), "gating it cuts this router off"),
    ("modem", ("--device", "wlan-sta0"), "gating it cuts this router off"),
    ("zones_by_device", ("--device", "ppp0"), "gating it cuts this router off"),
    ("zones_by_device", ("--device", "br-lan"), "the owner's own network"),
    ("mesh", ("--network", "mesh_net_br_lan_anygw_if"), "the owner's own network"),
    ("old", ("--device", "br-lan"), "the owner's own network"),
    ("multi_wan", ("--network", "starlink"), "gating it cuts this router off"),
])
def test_what_is_not_for_guests_is_refused_unless_forced(router, field_of, kind, place, words):
    field = field_of(kind)
    before, own = field.files(), router.read("etc/config/tollgate")
    refused = router.run(*SETUP, *place, check=False)
    assert refused.code == 1 and words in refused.out and "--force" in refused.out, refused.out
    assert field.files() == before and router.read("etc/config/tollgate") == own
    forced = router.run(*SETUP, *place, "--force", "--dry-run").out
    assert words in forced and "uci set tollgate.tollgate_guest='venue'" in forced


# What is there already


def test_a_network_that_luci_has_saved_keeps_its_address(router, field_of):
    field_of("dsa_vlans")
    router.run(*GUESTS, "--subnet", "10.40.0.1/22")
    for change in (("delete", "network.tollgate_guest.netmask"), ("delete", "network.tollgate_guest.ipaddr"),
                   ("add_list", "network.tollgate_guest.ipaddr=10.40.0.1/22"), ("commit", "network")):
        router.run("uci", *change)
    before = {name: router.bytes(f"etc/config/{name}") for name in ("network", "firewall", "dhcp")}
    router.run("tollgated", "setup", "--yes", "--ssid", "Two", "--radio", "radio0")
    assert {name: router.bytes(f"etc/config/{name}") for name in before} == before


def test_a_second_venue_is_added_and_the_first_stays(router, field_of):
    field = field_of("dsa_vlans")
    before = field.files()
    router.run(*GUESTS)
    shown = router.run("tollgated", "setup", "--yes", "--network", "visitors", "--name", "Hall").out
    assert "delete" not in shown and "tollgate_guest stays as it is" in shown
    assert router.run("uci", "get", "tollgate.tollgate_guest.network").out == "tollgate_guest\n"
    assert router.run("uci", "get", "tollgate.tollgate_visitors.network").out == "visitors\n"
    assert router.run("tollgated", "check").out.endswith("2 venues, 1 mint, enabled, 0 warnings\n")
    router.run("tollgated", "setup", "--undo", "--yes")
    assert "venue" not in router.read("etc/config/tollgate") and field.files() == before


def test_a_subnet_that_is_up_is_not_taken(lab, router, field_of):
    field_of("dsa_vlans")
    lab.router.ip("link add up0 type bridge\nlink set up0 up\naddr add 192.168.78.30/24 dev up0\n")
    try:
        assert "ipaddr='192.168.79.1'" in router.run(*GUESTS, "--dry-run").out
        refused = router.run(*GUESTS, "--subnet", "192.168.78.1/24", check=False)
        assert refused.code == 1 and "overlaps up0" in refused.out
    finally:
        lab.router.ip("link del up0\n")
