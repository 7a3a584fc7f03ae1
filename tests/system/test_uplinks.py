"""Paid means the internet: what fw4 lets out of the guests' zone, by the rules that the service gives it.

The service's own files with the real `uci`, daemon, nft and kernel; procd and fw4 are stand-ins
(tests/lab/openwrt/procd.sh, fw4.sh) that put rules where the real ones do.
"""

import json
import os

import pytest

from lab.internet import HOST4
from lab.openwrt.root import SELLING
from lab.place import wait_for

LAN4, LAN6 = "192.168.1.2", "fd01::2"
PRINTER4, PRINTER6 = "192.168.1.9", "fd01::9"
OTHER4, OTHER6 = "192.168.99.2", "fd99::2"
OPEN = "firewall type=rule src=visitors dest={} proto=all mark=0x08000000/0x08000000 target=ACCEPT"


@pytest.fixture(scope="module")
def lan(lab):
    """The owner's network behind the router, with a computer and a printer that listen on port 80 and 631."""
    place = lab._add_space("lan")
    lab.router.ip(
        f"link add br-lan type veth peer name eth0 netns {place.pid}\nlink set br-lan up\n"
        "addr add 192.168.1.1/24 dev br-lan\naddr add fd01::1/64 dev br-lan nodad\n"
    )
    addresses = (LAN4, LAN6, PRINTER4, PRINTER6)
    place.ip(
        "link set lo up\nlink set eth0 up\n"
        + "".join(f"addr add {a}/{64 if ':' in a else 24} dev eth0{' nodad' if ':' in a else ''}\n" for a in addresses)
        + "route add default via 192.168.1.1\nroute add default via fd01::1\n"
    )
    servers = [place.listen(address, port) for address in addresses for port in (80, 631)]
    yield place
    for server in servers:
        server.close()
    lab.router.ip("link del br-lan\n")


@pytest.fixture
def guarded(router, lan):
    """A router with fw4."""
    router.put_fw4()
    return router


def let_in(lab, router, config: str = SELLING):
    """The first guest, paid."""
    router.start(config)
    router.run("tollgated", "grant", lab.guest.mac, "1h")
    wait_for(lambda: lab.guest.try_tcp(HOST4, 443, 5).outcome == "connected", 20, "the paid guest is online")
    return lab.guest


def reaches(guest, *addresses: str, port: int = 80) -> list[bool]:
    def reached(address: str) -> bool:
        try:
            guest.connect(address, port, 2).close()
            return True
        except OSError:
            return False

    return [reached(address) for address in addresses]


def findings(router) -> dict[str, dict]:
    return {
        finding["id"]: finding
        for finding in json.loads(router.run("tollgated", "check", "--system", "--json", check=False).out)["data"][
            "findings"
        ]
    }


def uci(router, *commands: str) -> None:
    for command in commands:
        router.run("uci", *command.split(" ", 1))
    router.run("uci", "commit", "firewall")


# What is given to procd


def test_procd_gets_a_rule_from_the_guests_zone_to_the_internet_and_keeps_it_while_the_service_is_stopped(router):
    router.start()
    assert router.service("tollgated-paid") == [OPEN.format("wan")]
    router.stop()
    assert router.service("tollgated-paid") == [OPEN.format("wan")], "paid guests stay online"
    assert not router.service(), "the portal's ports are closed"


def test_named_uplinks_replace_those_that_are_found_and_a_venues_own_replace_both(router):
    with_uplink = SELLING.replace("option enabled '1'", "option enabled '1'\n\tlist uplink 'lan'")
    router.start(with_uplink)
    assert router.service("tollgated-paid") == [OPEN.format("lan")]
    router.start(
        with_uplink.replace(
            "option network 'guest'", "option network 'guest'\n\tlist uplink 'wan'\n\tlist uplink 'lan'"
        )
    )
    router.init("reload")
    assert router.service("tollgated-paid") == [OPEN.format("lan"), OPEN.format("wan")]


def test_a_zone_whose_network_has_the_default_route_is_the_internet_whether_it_masquerades_or_not(router):
    uci(router, "delete firewall.@zone[2].masq", "delete firewall.@zone[2].masq6")
    router.start()
    assert router.service("tollgated-paid") == [OPEN.format("wan")], "the kernel's default route"
    uci(router, "set firewall.@zone[0].masq=1")
    router.init("reload")
    assert router.service("tollgated-paid") == [OPEN.format("lan"), OPEN.format("wan")]


def test_netifd_says_which_network_leads_out_and_its_comings_and_goings_are_heard(router):
    router.run("uci", "delete", "network.wan.device")
    router.run("uci", "commit", "network")
    dump = {"interface": [{"interface": "wan", "l3_device": "3g-wan", "route": [{"target": "0.0.0.0", "mask": 0}]}]}
    router.write("tmp/network.interface.dump", json.dumps(dump))
    uci(router, "delete firewall.@zone[2].masq", "delete firewall.@zone[2].masq6")
    router.start()
    assert router.service("tollgated-paid") == [OPEN.format("wan")]
    assert "trigger interface.* wan" in router.service()


def test_the_printer_is_given_with_its_addresses_of_both_families(router):
    router.start(
        SELLING.replace(
            "option network 'guest'",
            (
                f"option network 'guest'\n\tlist reach '{PRINTER4}'\n\tlist reach '10.9.0.0/16'\n"
                f"\tlist reach '{PRINTER6}'"
            ),
        )
    )
    assert router.service("tollgated-paid") == [
        OPEN.format("wan"),
        OPEN.format(f"* dest_ip=10.9.0.0-10.9.255.255 {PRINTER4} {PRINTER6}"),
    ]


# What comes of it


def test_who_has_paid_is_in_the_internet_and_not_in_the_owners_network(lab, guarded):
    guest = let_in(lab, guarded)
    assert guest.online() and guest.online(six=True)
    assert reaches(guest, LAN4, LAN6, PRINTER4, PRINTER6) == [False] * 4
    assert not {"wide", "mark", "masquerade", "uplink", "bypass"} & set(findings(guarded))


def test_a_printer_that_is_named_is_reached_and_its_neighbour_is_not(lab, guarded):
    guest = let_in(
        lab,
        guarded,
        SELLING.replace(
            "option network 'guest'", f"option network 'guest'\n\tlist reach '{PRINTER4}'\n\tlist reach '{PRINTER6}'"
        ),
    )
    wait_for(lambda: reaches(guest, PRINTER4, PRINTER6, port=631) == [True, True], 10, "the printer is reached")
    assert reaches(guest, LAN4, LAN6) == [False, False]
    assert reaches(lab.guests[1], PRINTER4, PRINTER6, port=631) == [False, False], "who has not paid reaches nothing"
    assert guest.online() and "wide" not in findings(guarded)


def test_the_admins_own_rules_for_the_guests_zone_count(lab, guarded):
    """fw4 puts what services give before the file's rules."""
    uci(
        guarded,
        "set firewall.no_https=rule",
        *(
            f"set firewall.no_https.{option}"
            for option in ("src=visitors", "dest=wan", "proto=tcp", "dest_port=443", "target=REJECT")
        ),
    )
    guarded.start()
    guarded.run("tollgated", "grant", lab.guest.mac, "1h")
    wait_for(lambda: lab.guest.online(timeout=2), 20, "the paid guest is online")
    assert lab.guest.try_tcp(HOST4, 443, 2).outcome == "refused"
    uci(guarded, "delete firewall.no_https")
    guarded.init("reload")
    wait_for(lambda: lab.guest.try_tcp(HOST4, 443, 2).outcome == "connected", 20, "the rule is gone")


def test_a_stopped_service_keeps_paid_guests_online_through_a_reload_of_the_firewall(lab, guarded):
    guest = let_in(lab, guarded)
    guarded.stop()
    guarded.run("/etc/init.d/firewall", "reload")
    assert guest.try_tcp(HOST4, 443, 5).outcome == "connected"
    assert lab.guests[1].try_tcp(HOST4, 443, 2).outcome != "connected"


# The router's check


def test_the_include_of_earlier_versions_is_found_in_the_kernel_with_the_command_that_removes_it(guarded):
    include = "usr/share/nftables.d/chain-pre/forward/30-tollgated.nft"
    os.makedirs(guarded.at(os.path.dirname(include)))
    guarded.write(include, 'meta mark & 0x08000000 == 0x08000000 accept comment "tollgated: paid"\n')
    guarded.start()
    guarded.run("/sbin/fw4", "reload")
    wide = findings(guarded)["wide"]
    assert wide["level"] == "error" and wide["mend"] == f"rm /{include}; fw4 reload"
    guarded.sh(wide["mend"])
    assert "wide" not in findings(guarded)


def test_a_firewall_that_lacks_our_rule_is_found_with_the_command_that_brings_it(guarded):
    guarded.start()
    assert "mark" not in findings(guarded)
    os.rename(guarded.at("tmp/procd/tollgated-paid"), guarded.at("tmp/hidden"))
    guarded.run("/sbin/fw4", "reload")
    missing = findings(guarded)["mark"]
    assert missing["level"] == "error" and "visitors into wan" in missing["message"]
    guarded.sh(missing["mend"])
    assert "mark" not in findings(guarded)


def test_uplinks_that_do_not_masquerade_or_do_not_exist_are_found(guarded):
    uci(guarded, "delete firewall.@zone[2].masq", "delete firewall.@zone[2].masq6")
    guarded.start()
    masquerade = findings(guarded)["masquerade"]
    assert masquerade["level"] == "warning" and masquerade["mend"].startswith("uci set firewall.@zone[2].masq=1;")
    guarded.sh(masquerade["mend"])
    assert "masquerade" not in findings(guarded)
    guarded.start(SELLING.replace("option enabled '1'", "option enabled '1'\n\tlist uplink 'wlan'"))
    unknown = findings(guarded)["uplink"]
    assert unknown["level"] == "error" and "'wlan'" in unknown["message"]


def test_ways_past_the_gate_by_rules_and_redirects_are_found_with_the_commands_that_close_them(guarded):
    guarded.start()
    guarded.sh(
        "uci set firewall.fas=rule; uci set firewall.fas.src=visitors; uci set firewall.fas.dest=wan; uci set "
        "firewall.fas.target=ACCEPT;"
        "uci set firewall.dns=redirect; uci set firewall.dns.src=visitors; uci set firewall.dns.src_dport=53; uci "
        "set firewall.dns.target=DNAT; uci commit firewall"
    )
    found = findings(guarded)
    assert found["bypass"]["level"] == "error" and found["redirect"]["level"] == "warning"
    for name in ("bypass", "redirect"):
        guarded.sh(found[name]["mend"])
    assert not {"bypass", "redirect"} & set(findings(guarded))


def test_what_files_of_the_firewall_let_past_the_gate_is_found_in_the_kernel(guarded):
    guarded.start()
    assert "bypass" not in findings(guarded)
    guarded.place.nft('insert rule inet fw4 forward iifname "br-guest" oifname "wan" accept comment "mine"\n')
    found = findings(guarded)["bypass"]
    assert found["level"] == "error" and "in fw4's chain forward" in found["message"]
    guarded.run("/sbin/fw4", "reload")
    uci(guarded, "set firewall.@defaults[0].forward=accept")
    found = findings(guarded)["bypass"]
    assert "whatever no zone decides" in found["message"]
    guarded.sh(found["mend"])
    assert "bypass" not in findings(guarded)


def test_setup_says_that_no_answers_will_come_back_where_nothing_masquerades(router):
    command = ("tollgated", "setup", "--dry-run", "--mint", "https://mint.example.com", "--guest-network")
    assert "masquerade" not in router.run(*command).out
    uci(router, "delete firewall.@zone[2].masq", "delete firewall.@zone[2].masq6")
    assert "# zone wan leads to the internet and does not masquerade" in router.run(*command).out
    router.write("etc/config/firewall", "config defaults\n\toption forward 'ACCEPT'\n")
    assert "# no firewall zone leads to the internet and masquerades" in router.run(*command).out


# The gate's part


def test_the_gate_hears_of_another_way_to_the_internet(lab, guarded):
    guarded.start()
    assert "the internet is behind" not in guarded.log(), "nothing has changed"
    lab.router.ip("route del default\nroute add default via 192.168.1.2\n")
    try:
        wait_for(
            lambda: "the internet is behind br-lan, wan" in guarded.log(), 10, "the owner's network leads there now"
        )
    finally:
        lab.router.ip("route del default\nroute add default via 203.0.113.1\n")


@pytest.fixture(scope="module")
def elsewhere(lab):
    """A guest of another venue, with a server on port 80."""
    place = lab._add_space("elsewhere")
    lab.router.ip(
        f"link add br-other type veth peer name eth0 netns {place.pid}\nlink set br-other up\n"
        "addr add 192.168.99.1/24 dev br-other\naddr add fd99::1/64 dev br-other nodad\n"
    )
    place.ip(
        f"link set lo up\nlink set eth0 up\naddr add {OTHER4}/24 dev eth0\naddr add {OTHER6}/64 dev eth0 nodad\n"
        "route add default via 192.168.99.1\nroute add default via fd99::1\n"
    )
    servers = [place.listen(address, 80) for address in (OTHER4, OTHER6)]
    yield place
    for server in servers:
        server.close()
    lab.router.ip("link del br-other\n")


def test_guests_of_other_venues_are_not_the_internet(lab, guarded, elsewhere):
    """So that it is the gate that refuses, fw4 lets everything through meanwhile."""
    two_venues = SELLING + "\nconfig venue 'other'\n\tlist device 'br-other'\n"
    guest = let_in(lab, guarded, two_venues)
    lab.router.nft("insert rule inet fw4 forward accept comment \"for a test\"\n")
    assert reaches(lab.router, OTHER4, OTHER6) == [True, True], "the admin reaches what listens there"
    assert reaches(guest, OTHER4, OTHER6, "192.168.99.1") == [False] * 3
    assert guest.online() and guest.online(six=True)


def test_networks_behind_the_uplink_are_not_the_internet(lab, guarded):
    """The modem's own network: fw4 lets what is paid out there, the gate does not."""
    modem4, modem6 = "192.168.8.1", "fd08::1"
    lab.internet.ip(f"addr add {modem4}/24 dev eth0\naddr add {modem6}/64 dev eth0 nodad\n")
    lab.router.ip("addr add 192.168.8.2/24 dev wan\naddr add fd08::2/64 dev wan nodad\n")
    servers = [lab.internet.listen(address, 80) for address in (modem4, modem6)]
    try:
        guest = let_in(lab, guarded)
        assert reaches(lab.router, modem4, modem6) == [True, True]
        assert reaches(guest, modem4, modem6, "192.168.8.2") == [False] * 3
        assert guest.online() and guest.online(six=True)
    finally:
        for server in servers:
            server.close()
        lab.router.ip("addr del 192.168.8.2/24 dev wan\naddr del fd08::2/64 dev wan\n")
        lab.internet.ip(f"addr del {modem4}/24 dev eth0\naddr del {modem6}/64 dev eth0\n")
