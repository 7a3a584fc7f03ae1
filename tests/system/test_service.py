"""The service under procd, first set-up and the router's check: the package's own scripts under BusyBox, the real
`uci`, the real daemon, nft and netlink of the real kernel. procd is a stand-in (tests/lab/openwrt/procd.sh).
"""

import json
import os
import subprocess

import pytest

from lab.daemon import binary
from lab.fake_clock import PATH as FAKETIME
from lab.fake_clock import needs_faketime
from lab.openwrt.root import Root
from lab.place import wait_for

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIG = "etc/config/tollgate"
MAC = "02:00:00:00:00:77"
SELLING = (
    "config tollgate 'main'\n\toption enabled '1'\n\nconfig venue 'shop'\n\toption network 'guest'\n\n"
    "config mint\n\toption url 'https://mint.example.com'\n\toption price_per_step '1'\n"
)
SETUP = ("tollgated", "setup", "--yes", "--mint", "https://mint.example.com", "--ssid", "Mama's; $(reboot)", "--name", "Kibanda", "--price", "3")
PACKAGES = ("network", "firewall", "dhcp", "wireless")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("program") / "tollgated")
    subprocess.run(["strip", "-o", path, binary()], check=True)
    return path


@pytest.fixture
def router(lab, program, request):
    """A router with our files in their places; the service is not started."""
    root = Root(lab.router, lab.path(f"root-{request.node.name[:60]}"))
    root.program(program, "usr/sbin/tollgated")
    os.makedirs(root.at("etc/capabilities"))
    for name, path, mode in (
        ("init.d/tollgated", "etc/init.d/tollgated", 0o755), ("openwrt/files/tollgate.config", CONFIG, 0o600),
        ("openwrt/files/tollgated.capabilities.json", "etc/capabilities/tollgated.json", 0o644),
        ("uci-defaults/95-tollgated", "tmp/95-tollgated", 0o755),
    ):
        with open(os.path.join(TOP, name)) as file:
            root.write(path, file.read(), mode)
    yield root
    if getattr(request.node, "failed", False):
        print(root.read("tmp/procd/tollgated.log")[-3000:], "\n".join(root.service()))
    complaints = root.read("tmp/procd/complaints")
    root.close()
    lab.clean_router()
    assert not complaints


def service(router, command: str, check: bool = True):
    return router.run("/etc/init.d/tollgated", command, check=check)


def start(router, config: str = SELLING) -> str:
    """The running daemon's PID."""
    router.write(CONFIG, config, 0o600)
    service(router, "start")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    return pid(router)


def pid(router) -> str:
    return router.read("tmp/procd/tollgated.pid").strip()


def log(router) -> str:
    return router.read("tmp/procd/tollgated.log")


def paid(lab) -> str:
    return lab.router.run(["nft", "list", "set", "inet", "tollgate", "paid"], check=False).out


# What procd is told


def test_procd_gets_what_a_gateway_needs(router):
    start(router)
    facts = router.service()
    assert "command /usr/sbin/tollgated run -c /etc/config/tollgate" in facts
    for fact in (
        "respawn 3600 5 0", "reload_signal HUP", "no_new_privs 1", "capabilities /etc/capabilities/tollgated.json",
        "jail tollgated log procfs", "mount ro /etc/config", "mount ro /usr/sbin/nft", "mount rw /etc/tollgate",
        "mount rw /var/run/tollgate", "trigger config.change tollgate", "trigger interface.* guest",
    ):
        assert fact in facts, fact
    assert any(fact.startswith("limits nofile=8192") for fact in facts)
    assert not any("/etc/config/" in fact for fact in facts if fact.startswith("mount")), "the folder, not the file"


def test_three_capabilities_are_enough_and_all_it_has(router):
    process = router.run("cat", f"/proc/{start(router)}/status").out
    status = dict(line.split(":\t", 1) for line in process.splitlines())
    NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 10, 12, 13
    for one_set in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[one_set], 16) == 1 << NET_BIND_SERVICE | 1 << NET_ADMIN | 1 << NET_RAW, one_set
    assert status["NoNewPrivs"] == "1"
    assert not json.loads(router.run("tollgated", "status", "--json").out)["data"]["gate"]["trouble"]


def test_the_portals_ports_are_opened_for_the_guests_zone_only(router):
    start(router)
    rules = [fact for fact in router.service() if fact.startswith("firewall")]
    assert rules == [f"firewall type=rule src=visitors proto=tcp dest_port={port} target=ACCEPT" for port in (2121, 2122, 2123)]


def test_disabled_it_does_not_run_but_waits_for_a_change(router):
    service(router, "start")
    facts = router.service()
    assert not any(fact.startswith("instance") for fact in facts) and "trigger config.change tollgate" in facts
    router.write(CONFIG, SELLING, 0o600)
    service(router, "reload")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "a change of the configuration starts it")
    router.write(CONFIG, SELLING.replace("'1'", "'0'", 1), 0o600)
    service(router, "reload")
    wait_for(lambda: not pid(router), 15, "and ends it")


# Reload, restart, broken files


def test_a_reload_keeps_process_and_sessions_and_takes_the_new_file(lab, router):
    before = start(router)
    router.run("tollgated", "grant", MAC, "1h")
    router.write(CONFIG, SELLING.replace("'shop'", "'shop'\n\toption name 'New name'").replace("\n\nconfig mint", "\n\tlist trusted_mac '02:00:00:00:00:78'\n\nconfig mint"), 0o600)
    service(router, "reload")
    wait_for(lambda: "configuration reloaded" in log(router), 10, "the daemon read it")
    assert pid(router) == before
    wait_for(lambda: "02:00:00:00:00:78" in paid(lab), 10, "the trusted device is let through")
    assert MAC in paid(lab)


def test_a_reload_in_the_moment_of_starting_does_not_end_it(router):
    router.write(CONFIG, SELLING, 0o600)
    service(router, "start")
    first = pid(router)
    for _ in range(5):
        service(router, "reload")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    assert pid(router) == first


def test_a_broken_file_changes_nothing_for_a_running_service(lab, router):
    before = start(router)
    told = router.service()
    router.run("tollgated", "grant", MAC, "1h")
    router.write(CONFIG, SELLING + "\nconfig mint\n\toption url 'nonsense'\n", 0o600)
    service(router, "reload")
    wait_for(lambda: "the configuration stays as it was" in log(router), 10, "the daemon says so")
    assert pid(router) == before and router.service() == told and MAC in paid(lab)


def test_a_broken_file_does_not_start_the_service_and_mending_it_does(router):
    router.write(CONFIG, SELLING + "\nnonsense\n", 0o600)
    service(router, "start")
    assert not pid(router) and "trigger config.change tollgate" in router.service()
    router.write(CONFIG, SELLING, 0o600)
    service(router, "reload")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")


def test_paid_guests_stay_online_while_the_service_is_stopped_and_restarted(lab, router):
    guest = lab.guest
    start(router)
    router.run("tollgated", "grant", guest.mac, "1h")
    wait_for(lambda: guest.mac in paid(lab), 5, "the guest is paid")
    service(router, "stop")
    wait_for(lambda: router.run("tollgated", "status", check=False).code != 0, 20, "the daemon is gone")
    assert guest.mac in paid(lab)
    guest.connect("198.51.100.80", 80, 5).close()
    with pytest.raises(OSError):
        lab.guests[1].connect("198.51.100.80", 443, 2)
    service(router, "start")
    wait_for(lambda: guest.mac in router.run("tollgated", "sessions", check=False).out, 20, "the session goes on")


# First boot


def test_the_default_configuration_is_valid_and_written_once(router):
    os.unlink(router.at(CONFIG))
    for _ in range(2):
        assert router.sh("( cd /tmp && . /tmp/95-tollgated )").code == 0
    assert os.stat(router.at(CONFIG)).st_mode & 0o777 == 0o600
    assert router.run("uci", "get", "tollgate.main.enabled").out == "0\n"
    assert router.run("tollgated", "check").code == 0
    assert os.stat(router.at("etc/tollgate")).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", [SELLING, "config tollgate 'main'\n\toption enabled 'half\n"], ids=["good", "broken"])
def test_what_the_operator_wrote_is_never_replaced(router, text):
    router.write(CONFIG, text, 0o644)
    assert router.sh("( cd /tmp && . /tmp/95-tollgated )").code == 0
    assert router.read(CONFIG) == text
    assert os.stat(router.at(CONFIG)).st_mode & 0o777 == 0o600


# Set-up


def exports(router) -> dict[str, str]:
    return {name: router.run("uci", "export", name).out for name in PACKAGES}


def test_setup_shows_first_and_changes_nothing_on_a_dry_run(router):
    before, own = exports(router), router.read(CONFIG)
    shown = router.run(*SETUP, "--dry-run").out
    assert "uci set wireless.tollgate_radio0.ssid='Mama'\\''s; $(reboot)'" in shown and "uci commit firewall" in shown
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
        (["--mint", "http://mint.example.com", "--device", "br-guest"], 2), (["--subnet", "192.168.77.2/24"], 1),
        (["--ssid", "x", "--radio", "radio9"], 2), (["--mint", "https://mint.example.com"], 2), ([], 2),
        (["--device", "br-guest", "--step", "999999999"], 1),
    ):
        assert router.run("tollgated", "setup", "--yes", *arguments, check=False).code == code, arguments
    assert exports(router) == before and router.read(CONFIG) == own
    assert not router.run("uci", "changes").out


def test_setup_asks_and_does_nothing_without_a_yes(router):
    before, own = exports(router), router.read(CONFIG)
    answers = "Kibanda\nhttps://mint.example.com\n2\ny\n\n-\n"
    assert "nothing was changed" in router.run("tollgated", "setup", input=answers + "n\n").out
    assert exports(router) == before and router.read(CONFIG) == own
    router.run("tollgated", "setup", input=answers + "y\n")
    assert router.run("uci", "get", "tollgate.tollgate_mint.price_per_step").out == "2\n"


def test_setup_asks_again_after_an_answer_that_cannot_be_used(router):
    answers = "\nmint.example.com\nhttps://mint.example.com\nfree\n2\nperhaps\ny\n192.168.1.5/24\n10.7.0.1/24\n\nn\n"
    said = router.run("tollgated", "setup", input=answers).out
    assert said.count("Mint (https://...)") == said.count("Price of") == said.count("y/n [y]") == said.count("Its address") == 2
    assert "overlaps the network 'lan'" in said and "ipaddr='10.7.0.1'" in said and "nothing was changed" in said
    assert router.run("tollgated", "setup", input="\nnonsense\n", check=False).code == 1, "no more answers"


# The router's check


def findings(router) -> dict[str, dict]:
    return {finding["id"]: finding for finding in json.loads(router.run("tollgated", "check", "--system", "--json", check=False).out)["findings"]}


def test_a_sound_router_has_no_errors(lab, router):
    start(router)
    wait_for(lambda: lab.router.run(["ip", "-6", "rule", "show", "pref", "90"]).out.strip(), 10, "the locks are up")
    os.makedirs(router.at("usr/share/firewall4"))
    os.makedirs(router.at("usr/share/nftables.d/chain-pre/forward"))
    router.write("usr/share/nftables.d/chain-pre/forward/30-tollgated.nft", "")
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
    router.write(CONFIG, SELLING.replace("option network 'guest'", "list device 'br-none'").replace("'1'", "'0'", 1), 0o600)
    assert findings(router)["device"]["level"] == "warning"
    lab.router.ip("link add br-none type bridge\nlink set br-none up\n")
    found = findings(router)
    lab.router.ip("link del br-none\n")
    assert found["address"]["level"] == "error" and found["zone"]["level"] == "warning"


def test_a_kernel_without_a_module_is_found_with_the_package_that_brings_it(router):
    os.rename(router.at("usr/sbin/nft"), router.at("usr/sbin/nft.real"))
    router.write("usr/sbin/nft", "#!/bin/sh\nscript=$(cat)\ncase $script in *fib*) echo 'Error: Could not process rule: No such file or directory' >&2; exit 1 ;; esac\n"
                 "printf '%s\\n' \"$script\" | nft.real \"$@\"\n", 0o755)
    found = findings(router)["kernel"]
    assert found["level"] == "error" and found["mend"].endswith("install kmod-nft-fib") and "No such file" in found["message"]


def test_a_firewall_that_leaves_our_rule_out_is_found(router):
    os.makedirs(router.at("usr/share/firewall4"))
    missing = findings(router)["mark"]
    assert missing["level"] == "error" and missing["mend"].endswith("install tollgated")
    os.makedirs(router.at("usr/share/nftables.d/chain-pre/forward"))
    router.write("usr/share/nftables.d/chain-pre/forward/30-tollgated.nft", "")
    assert "mark" not in findings(router)
    router.run("uci", "set", "firewall.@defaults[0].auto_includes=0")
    router.run("uci", "commit", "firewall")
    router.sh(findings(router)["mark"]["mend"].replace("fw4 reload", "true"))
    assert "mark" not in findings(router)


@needs_faketime
def test_a_clock_that_was_never_set_is_found(router):
    router.program(FAKETIME, "lib/faketime.so")
    done = router.run("tollgated", "check", "--system", check=False, env={"LD_PRELOAD": "/lib/faketime.so", "FAKETIME": "1970-01-01 00:01:00"})
    assert done.code == 1 and "the clock was never set" in done.out and "sysntpd restart" in done.out


def test_on_a_machine_that_is_no_router_it_says_what_it_could_not_look_at(router):
    for name in PACKAGES:
        os.unlink(router.at(f"etc/config/{name}"))
    found = findings(router)
    assert found["uci"]["level"] == "not looked at" and found["fw4"]["level"] == "not looked at"


# The locks


def test_release_takes_both_locks_away_with_the_daemon_stopped_and_can_be_repeated(lab, router):
    start(router)
    wait_for(lambda: lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip(), 10, "the locks are up")
    refused = router.run("tollgated", "gate", "release", check=False)
    assert refused.code == 1 and "the daemon runs" in refused.out
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"]).code == 0
    service(router, "stop")
    for _ in range(2):
        router.run("tollgated", "gate", "release", "--wait")
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"], check=False).code != 0
    assert "inet fw4" in lab.router.run(["nft", "list", "tables"]).out, "nobody else's table is touched"
    for family in ("-4", "-6"):
        assert not lab.router.run(["ip", family, "rule", "show", "pref", "90"]).out.strip()
