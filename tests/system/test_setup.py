"""First set-up, its undoing, and the router's check, with the real `uci` and the real kernel."""

import json
import os
import time

import pytest

from lab.fake_clock import PATH as FAKETIME
from lab.fake_clock import needs_faketime
from lab.internet import HOST4, MINT4
from lab.openwrt.root import CONFIG, SELLING
from lab.place import wait_for

SETUP = (
    "tollgated",
    "setup",
    "--yes",
    "--mint",
    "https://mint.example.com",
    "--ssid",
    "Mama's; $(reboot)",
    "--name",
    "Kibanda",
    "--price",
    "3",
)
PACKAGES = ("network", "firewall", "dhcp", "wireless")


# Set-up


def exports(router) -> dict[str, str]:
    return {name: router.run("uci", "export", name).out for name in PACKAGES}


def test_setup_shows_first_and_changes_nothing_on_a_dry_run(router):
    before, own = exports(router), router.read(CONFIG)
    shown = router.run(*SETUP, "--dry-run").out
    assert "uci set wireless.tollgate_radio0.ssid='Mama'\\''s; $(reboot)'" in shown and "uci commit firewall" in shown
    assert shown.startswith("# guests get a network of their own, 192.168.78.1/24 on the bridge br-tollgate")
    assert exports(router) == before and router.read(CONFIG) == own and not router.read("tmp/reloads")


def test_setup_makes_a_guest_network_that_leads_nowhere_and_can_be_repeated(router):
    router.run(*SETUP)
    after = exports(router)
    assert router.run("uci", "get", "wireless.tollgate_radio0.ssid").out == "Mama's; $(reboot)\n"
    assert router.run("uci", "get", "wireless.tollgate_radio0.isolate").out == "1\n"
    assert after["firewall"].count("config forwarding") == 1, "only the one that was there"
    assert router.run("uci", "get", "network.tollgate_guest.ipaddr").out == "192.168.78.1\n", "77 is taken"
    assert "reload_config" in router.read("tmp/reloads")
    assert router.run("tollgated", "check").out.endswith("1 venue, 1 mint, enabled, 0 warnings\n")
    assert {"zone tollgate", "network tollgate_guest"} <= set(router.run("tollgated", "wiring").out.splitlines())
    assert router.run(*SETUP).out == "nothing to do\n"
    assert exports(router) == after


def test_setup_makes_no_network_unless_asked(router):
    before = exports(router)
    router.run("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--device", "br-guest")
    assert exports(router) == before
    assert router.run("uci", "get", "tollgate.tollgate_guest.device").out == "br-guest\n"


def test_a_guest_network_comes_without_wifi_unless_a_name_is_given(router):
    before = exports(router)
    router.run("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--guest-network")
    after = exports(router)
    assert after["wireless"] == before["wireless"] and all(
        after[name] != before[name] for name in ("network", "firewall", "dhcp")
    )
    for name in PACKAGES:
        assert before[name].strip() in after[name], f"{name}: what was there is there as it was"
    router.run("tollgated", "setup", "--yes", "--ssid", "Kibanda", "--radio", "radio0")
    assert router.run("uci", "get", "wireless.tollgate_radio0.ssid").out == "Kibanda\n"
    assert {name: exports(router)[name] for name in ("network", "firewall", "dhcp")} == {
        name: after[name] for name in ("network", "firewall", "dhcp")
    }


def test_undo_takes_back_what_setup_made_and_nothing_else(router):
    before = exports(router)
    router.run(*SETUP)
    router.run("uci", "set", "network.tollgate_mine=interface")
    router.run("uci", "commit", "network")
    router.run("tollgated", "setup", "--undo", "--yes")
    after = exports(router)
    assert "config interface 'tollgate_mine'" in after["network"], "it does not bear our mark"
    router.run("uci", "delete", "network.tollgate_mine")
    router.run("uci", "commit", "network")
    assert exports(router) == before
    assert router.run("uci", "get", "tollgate.main.enabled").out == "0\n"
    assert "mint.example.com" in router.read(CONFIG)
    assert router.run("tollgated", "setup", "--undo", "--yes").out == "nothing to do\n"


def test_undo_leaves_what_others_have_not_committed(router):
    router.run(*SETUP)
    router.run("uci", "set", "network.lan.mtu=1400")
    router.run("tollgated", "setup", "--undo", "--yes")
    assert "tollgate_guest" not in router.read("etc/config/network") and "1400" not in router.read(
        "etc/config/network"
    )
    assert router.run("uci", "changes").out == "network.lan.mtu='1400'\n"


def test_undo_lets_the_guests_of_a_network_that_was_there_before_go(lab, router):
    router.run("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--network", "guest")
    router.init("start")
    wait_for(lambda: lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip(), 20, "the locks are up")
    said = router.run("tollgated", "setup", "--undo", "--yes", check=False).out
    assert "locked out" not in said
    assert not lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip()


def test_a_section_of_the_same_name_is_somebody_elses(router):
    router.run("uci", "set", "firewall.tollgate_guest=zone")
    router.run("uci", "commit", "firewall")
    before = exports(router)
    refused = router.run(*SETUP, check=False)
    assert refused.code == 1 and "not made by tollgated" in refused.out
    assert exports(router) == before


def test_setup_does_not_commit_somebody_elses_pending_changes(router):
    router.run("uci", "set", "network.lan.ipaddr=10.0.0.1")
    refused = router.run(*SETUP, check=False)
    assert refused.code == 1 and "not committed" in refused.out
    assert "10.0.0.1" not in router.read("etc/config/network")


def test_setup_refuses_what_would_not_work_before_it_changes_anything(router):
    before, own = exports(router), router.read(CONFIG)
    for arguments, code in (
        (["--mint", "http://mint.example.com", "--device", "br-guest"], 2),
        (["--subnet", "192.168.77.2/24"], 1),
        (["--ssid", "x", "--radio", "radio9"], 2),
        (["--mint", "https://mint.example.com"], 2),
        ([], 2),
        (["--device", "br-guest", "--step", "999999999"], 1),
    ):
        assert router.run("tollgated", "setup", "--yes", *arguments, check=False).code == code, arguments
    assert exports(router) == before and router.read(CONFIG) == own
    assert not router.run("uci", "changes").out


def test_setup_asks_and_does_nothing_without_a_yes(router):
    before, own = exports(router), router.read(CONFIG)
    answers = "Kibanda\nhttps://mint.example.com\n\n2\n\ny\n\n-\n"
    assert "nothing was changed" in router.run("tollgated", "setup", input=answers + "n\n").out
    assert exports(router) == before and router.read(CONFIG) == own
    router.run("tollgated", "setup", input=answers + "y\n")
    assert router.run("uci", "get", "tollgate.tollgate_mint.price_per_step").out == "2\n"
    assert router.run("uci", "get", "tollgate.tollgate_guest.pay_grace").out == "120\n"


def test_setup_asks_again_after_an_answer_that_cannot_be_used(router):
    answers = (
        "\nmint.example.com\nhttps://mint.example.com\nt\nfree\n2\n60\nperhaps\ny\n192.168.1.5/24\n10.7.0.1/24\n\nn\n"
    )
    said = router.run("tollgated", "setup", input=answers).out
    assert (
        said.count("Mint (https://...)")
        == said.count("Price of")
        == said.count("y/n [y]")
        == said.count("Its address")
        == 2
    )
    assert "overlaps the network 'lan'" in said and "ipaddr='10.7.0.1'" in said and "nothing was changed" in said
    assert router.run("tollgated", "setup", input="\nnonsense\n", check=False).code == 1, "no more answers"


@pytest.mark.parametrize("place", [["--guest-network"], ["--network", "guest"]], ids=["made", "there before"])
def test_setup_asked_again_keeps_what_was_answered(router, place):
    said = ["--name", "Kibanda", "--mint", "https://mint.example.com", "--price", "7", "--step", "300"]
    router.run("tollgated", "setup", "--yes", *said, "--grace", "60", *place)
    before, own = exports(router), router.read(CONFIG)
    again = router.run("tollgated", "setup", input="\n" * 9).out
    assert "Price of 300 s in sat [7]" in again and "nothing to do" in again, again
    assert exports(router) == before and router.read(CONFIG) == own
    data = router.run("tollgated", "setup", input="\n\nd\n" + "\n" * 6 + "n\n").out
    assert "Price of 10 MB in sat [7]" in data and ".metric='bytes'" in data and ".name" not in data, data


def test_setup_says_where_a_price_has_no_effect(router):
    router.run("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--network", "guest")
    router.write(CONFIG, router.read(CONFIG).replace("'tollgate_mint'", "'by_hand'"))
    for arguments in (["--mint", "https://mint.example.com", "--price", "9"], ["--price", "9"]):
        done = router.run("tollgated", "setup", "--yes", *arguments, check=False)
        assert done.code == 1 and "was added by hand" in done.out, done


# The mint is tried


def test_setup_tries_the_mint_and_says_what_came_of_it(lab, router, fault_mint):
    command = ("tollgated", "setup", "--dry-run", "--allow-http", "--device", "br-guest", "--mint")
    assert f"# {fault_mint.url} answers and can be used\n" in router.run(*command, fault_mint.url).out
    no_mint = f"http://{HOST4}"
    assert f"# {no_mint} does not answer as a mint does (" in router.run(*command, no_mint).out


def test_setup_goes_on_where_the_mint_cannot_be_reached(router):
    for url in ("https://mint.example.com", f"https://{MINT4}:9"):
        said = router.run("tollgated", "setup", "--dry-run", "--device", "br-guest", "--mint", url).out
        assert f"# {url} could not be tried now (" in said and "uci set tollgate.tollgate_mint=" in said


def test_setup_waits_no_longer_than_some_seconds_for_a_mint(lab, router):
    silent = lab.internet.listen(MINT4, 3399)
    try:
        began = time.monotonic()
        said = router.run(
            "tollgated", "setup", "--dry-run", "--device", "br-guest", "--mint", f"https://{MINT4}:3399"
        ).out
    finally:
        silent.close()
    assert "could not be tried now (" in said and " 5 s): it is asked again" in said
    assert time.monotonic() - began < 15


def test_what_a_change_takes_away_is_said_in_words(router):
    router.run(*SETUP)
    said = router.run("tollgated", "setup", "--dry-run", "--name", "Mama", "--megabytes", "10").out
    assert "# tollgate.tollgate_guest.name was 'Kibanda'\n" in said
    undo = router.run("tollgated", "setup", "--undo", "--dry-run").out
    for section in ("tollgate.tollgate_guest goes (venue: ", "wireless.tollgate_radio0 goes (wifi-iface: ",
                    "firewall.tollgate_guest goes (zone: name, network, "):
        assert f"# {section}" in undo
    assert router.run("uci", "changes").out == ""


def test_undo_takes_also_what_others_have_deleted_and_not_committed(router):
    before = exports(router)
    router.run(*SETUP)
    router.run("uci", "delete", "network.tollgate_guest")
    router.run("uci", "set", "network.tollgate_bridge.mtu=1400")
    router.run("tollgated", "setup", "--undo", "--yes")
    router.run("uci", "revert", "network")
    assert exports(router) == before


def test_undo_takes_what_it_can_where_a_file_cannot_be_read(router):
    before = exports(router)
    router.run(*SETUP)
    own = router.read(CONFIG)
    router.write(CONFIG, own + "nonsense\n", 0o600)
    undone = router.run("tollgated", "setup", "--undo", "--yes", check=False)
    assert undone.code == 1 and "what setup made there stays: uci export tollgate: Parse error" in undone.out
    assert exports(router) == before
    router.write(CONFIG, own, 0o600)
    router.run("tollgated", "setup", "--undo", "--yes")
    assert "venue" not in router.read(CONFIG)


def test_without_a_firewall_a_device_can_be_gated_all_the_same(router):
    os.unlink(router.at("etc/config/firewall"))
    router.run("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--device", "br-guest")
    assert router.run("uci", "get", "tollgate.tollgate_guest.device").out == "br-guest\n"


def test_a_port_of_a_bridge_is_not_gated_whoever_put_it_there(lab, router):
    """As hostapd does with the access points of a network."""
    lab.router.ip("link add br-x type bridge\nlink add port1 type veth peer name port2\n"
                  "link set port1 master br-x\n")
    try:
        command = ("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--device")
        refused = router.run(*command, "port1", check=False)
        assert refused.code == 1 and "port1 is a port of br-x" in refused.out
        router.run(*command, "port1", "--force")
        found = findings(router)["port"]
        assert found["level"] == "error" and "port1 is a port of br-x" in found["message"]
    finally:
        lab.router.ip("link del port1\nlink del br-x\n")


def test_words_that_are_no_text_are_wrong_usage(router):
    done = router.sh("tollgated setup --ssid \"$(printf '\\377')\"", check=False)
    assert done.code == 2 and "is no UTF-8" in done.out


# The router's check


def test_what_the_configuration_names_and_the_router_has_not_is_warned_of(router):
    router.write(CONFIG, SELLING.replace("'guest'", "'gests'"), 0o600)
    done = router.run("tollgated", "check")
    assert "option 'network': no network 'gests'" in done.out and done.out.endswith(", 1 warning\n")
    router.write(CONFIG, SELLING.replace("option enabled '1'", "option enabled '1'\n\tlist uplink 'wann'"), 0o600)
    done = router.run("tollgated", "check", "--json")
    (problem,) = json.loads(done.out)["data"]["problems"]
    assert problem["line"] == 3 and problem["option"] == "uplink" and "'wann'" in problem["message"]


def findings(router) -> dict[str, dict]:
    return {
        finding["id"]: finding
        for finding in json.loads(router.run("tollgated", "check", "--system", "--json", check=False).out)["data"][
            "findings"
        ]
    }


def test_a_sound_router_has_no_errors(lab, router):
    router.start()
    wait_for(lambda: lab.router.run(["ip", "-6", "rule", "show", "pref", "90"]).out.strip(), 10, "the locks are up")
    router.put_fw4()
    done = router.run("tollgated", "check", "--system", check=False)
    assert done.code == 0 and done.out.endswith("system: 0 errors, 0 warnings\n"), done.out


def test_a_forwarding_past_the_gate_is_found_with_the_command_that_removes_it(router):
    router.write(CONFIG, SELLING.replace("'1'", "'0'", 1), 0o600)
    router.run("uci", "add", "firewall", "forwarding")
    router.run("uci", "set", "firewall.@forwarding[-1].src=visitors")
    router.run("uci", "set", "firewall.@forwarding[-1].dest=wan")
    router.run("uci", "commit", "firewall")
    bypass = findings(router)["bypass"]
    assert bypass["level"] == "error" and bypass["mend"].startswith("uci delete firewall.@forwarding[1];")
    router.sh(bypass["mend"].replace("fw4 reload", "true"))
    assert "bypass" not in findings(router)


NO_DHCP = {
    "switched off": "config dnsmasq\n\nconfig dhcp 'guest'\n\toption interface 'guest'\n\toption ignore '1'\n",
    "none": "config dnsmasq\n",
    "odhcpd": "config dnsmasq\n\nconfig dhcp 'guest'\n\toption interface 'guest'\n\n"
    "config odhcpd 'odhcpd'\n\toption maindhcp '1'\n",
    "bound": "config dnsmasq\n\tlist interface 'lan'\n\nconfig dhcp 'guest'\n\toption interface 'guest'\n",
    "one address": "config dnsmasq\n\nconfig dhcp 'guest'\n\toption interface 'guest'\n\toption limit '1'\n",
    "another router": "config dnsmasq\n\nconfig dhcp 'guest'\n\toption interface 'guest'\n"
    "\tlist dhcp_option '3,192.168.77.9'\n",
}


@pytest.mark.parametrize("kind", NO_DHCP)
def test_a_network_that_hands_out_no_addresses_is_found_with_the_command_that_mends_it(router, kind):
    router.write(CONFIG, SELLING.replace("'1'", "'0'", 1), 0o600)
    assert "dhcp" not in findings(router)
    router.write("etc/config/dhcp", NO_DHCP[kind])
    found = findings(router)["dhcp"]
    assert found["level"] == "warning" and found["mend"].startswith("uci ")
    router.sh(found["mend"].replace("reload_config", "true"))
    assert "dhcp" not in findings(router)


def test_a_zone_that_lets_guests_do_too_much_or_too_little_is_found(router):
    router.write(CONFIG, SELLING.replace("'1'", "'0'", 1), 0o600)
    assert "input" not in findings(router)
    router.run("uci", "set", "firewall.@zone[1].input=ACCEPT")
    router.run("uci", "commit", "firewall")
    found = findings(router)["input"]
    assert "its SSH" in found["message"] and found["mend"].startswith("uci set firewall.@zone[1].input=REJECT;")
    router.sh(found["mend"].replace("fw4 reload", "true"))
    router.run("uci", "set", "firewall.@rule[0].enabled=off")
    router.run("uci", "commit", "firewall")
    for _ in range(2):
        found = findings(router)["input"]
        assert "guests stay without it" in found["message"]
        router.sh(found["mend"].replace("fw4 reload", "true"))
    assert "input" not in findings(router)


def test_offload_missing_locks_and_missing_nft_are_found(lab, router):
    router.write(CONFIG, SELLING, 0o600)
    router.run("uci", "set", "firewall.@defaults[0].flow_offloading=1")
    router.run("uci", "commit", "firewall")
    found = findings(router)
    assert {"offload", "locks", "ipv6", "table"} <= set(found)
    assert all(found[name]["mend"] for name in ("offload", "locks", "ipv6", "table"))
    os.unlink(router.at("usr/sbin/nft"))
    assert "nftables" in findings(router)["nft"]["mend"]


def test_a_device_without_address_zone_or_existence_is_found(lab, router):
    router.write(
        CONFIG, SELLING.replace("option network 'guest'", "list device 'br-none'").replace("'1'", "'0'", 1), 0o600
    )
    assert findings(router)["device"]["level"] == "warning"
    lab.router.ip("link add br-none type bridge\nlink set br-none up\n")
    found = findings(router)
    lab.router.ip("link del br-none\n")
    assert found["address"]["level"] == "error" and found["zone"]["level"] == "warning"
    assert "setup" not in found["zone"]["mend"] + found["address"]["mend"], "that would make another network"


def test_a_kernel_without_a_module_is_found_with_the_package_that_brings_it(router):
    os.rename(router.at("usr/sbin/nft"), router.at("usr/sbin/nft.real"))
    router.write(
        "usr/sbin/nft",
        "#!/bin/sh\nscript=$(cat)\n"
        "case $script in *fib*) echo 'Error: Could not process rule: No such file or directory' >&2; exit 1 ;; esac\n"
        'printf \'%s\\n\' "$script" | nft.real "$@"\n',
        0o755,
    )
    found = findings(router)["kernel"]
    assert (
        found["level"] == "error"
        and found["mend"].endswith("install kmod-nft-fib")
        and "No such file" in found["message"]
    )


@needs_faketime
def test_a_clock_that_was_never_set_is_found(router):
    router.program(FAKETIME, "lib/faketime.so")
    done = router.run(
        "tollgated",
        "check",
        "--system",
        check=False,
        env={"LD_PRELOAD": "/lib/faketime.so", "FAKETIME": "1970-01-01 00:01:00"},
    )
    assert done.code == 1 and "the clock was never set" in done.out and "sysntpd restart" in done.out


def test_on_a_machine_that_is_no_router_it_says_what_it_could_not_look_at(router):
    for name in PACKAGES:
        os.unlink(router.at(f"etc/config/{name}"))
    found = findings(router)
    assert found["uci"]["level"] == "not looked at" and found["fw4"]["level"] == "not looked at"
