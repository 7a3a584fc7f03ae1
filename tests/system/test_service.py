"""The service under procd, from boot to the locks' end: the package's own scripts under BusyBox, the real `uci`, the
real daemon, nft and netlink of the real kernel. procd and its jail are stand-ins (tests/lab/openwrt/procd.sh,
ujail.sh).
"""

import json
import os
import stat

import pytest

from lab.internet import MINT4, UPLINK4
from lab.openwrt.root import CONFIG, SELLING
from lab.place import wait_for

MAC = "02:00:00:00:00:77"


def paid(lab) -> str:
    return lab.router.run(["nft", "list", "set", "inet", "tollgate", "paid_at"], check=False).out


# What procd is told


def test_procd_gets_what_a_gateway_needs(router):
    router.start()
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
    process = router.run("cat", f"/proc/{router.start()}/status").out
    status = dict(line.split(":\t", 1) for line in process.splitlines())
    NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 10, 12, 13
    for one_set in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[one_set], 16) == 1 << NET_BIND_SERVICE | 1 << NET_ADMIN | 1 << NET_RAW, one_set
    assert status["NoNewPrivs"] == "1"
    assert not json.loads(router.run("tollgated", "status", "--json").out)["data"]["gate"]["trouble"]


def test_the_portals_ports_are_opened_for_the_guests_zone_only(router):
    router.start()
    rules = [fact for fact in router.service() if fact.startswith("firewall")]
    assert rules == [
        f"firewall type=rule src=visitors proto=tcp dest_port={port} target=ACCEPT" for port in (2121, 2122, 2123)
    ]


LIGHTNING = (
    "\nconfig card\n\toption domain 'cards.example.com'\n\toption listen '{listen}'\n\nconfig lightning\n"
    "\toption type '{type}'\n\toption url 'https://127.0.0.1:1'\n\toption {option} '{file}'\n"
)


def in_jail(router, path: str) -> str:
    return f"/proc/{router.pid()}/root/{path.lstrip('/')}"


def test_in_its_jail_the_daemon_sees_what_it_needs_and_nothing_else(router):
    router.write("etc/passwd", "root:x:0:0::/root:/bin/ash\n")
    router.start()
    jail = f"/proc/{router.pid()}/root"
    assert set(router.run("find", jail + "/etc", "-maxdepth", "1", "-mindepth", "1").out.split()) == {
        f"{jail}/etc/{name}" for name in ("config", "tollgate", "hosts", "resolv.conf", "protocols", "services")
    }
    assert router.run("ls", jail + "/usr/sbin").out.split() == ["nft", "tollgated"]
    assert router.run("ls", jail + "/var/run").out.split() == ["tollgate"], "of what runs it knows itself"
    for path in ("/etc/config/written", "/usr/sbin/written", "/written", "/etc/written"):
        assert router.run("touch", jail + path, check=False).code != 0, path
    for path in ("/etc/tollgate/written", "/var/run/tollgate/written"):
        router.run("touch", jail + path)


def test_the_configuration_is_written_from_the_jail_only_where_operators_enrol(router):
    router.start(SELLING + "\nconfig auth\n\toption domain 'wifi.example.net'\n")
    assert "mount rw /etc/config" in router.service() and "mount ro /etc/config" not in router.service()
    router.run("touch", in_jail(router, "/etc/config/written"))


@pytest.mark.parametrize(
    "kind, option",
    [
        ("lnd", "macaroon_file"),
        ("cln", "rune_file"),
        ("lnbits", "key_file"),
        ("phoenixd", "password_file"),
        ("sphinx", "token_file"),
    ],
)
def test_the_credentials_that_the_configuration_names_are_read_from_inside_the_jail(router, kind, option):
    secret = "00" * 40
    os.makedirs(router.at("root"))
    router.write("root/secret", secret, 0o600)
    router.write("root/ca.pem", "")
    config = SELLING.replace("option enabled '1'", "option enabled '1'\n\toption ca_file '/root/ca.pem'")
    router.start(config + LIGHTNING.format(listen="127.0.0.1:2124", type=kind, option=option, file="/root/secret"))
    assert "mount ro /root" in router.service(), "the folder, not the files"
    assert router.run("ls", in_jail(router, "/root")).out.split() == ["ca.pem", "secret"]
    assert "No such file" not in router.log() and secret not in router.log()


def test_a_file_that_is_replaced_is_seen_from_inside_the_jail(router):
    os.makedirs(router.at("root"))
    router.write("root/secret", "00" * 40, 0o600)
    router.write("root/ca.pem", "")
    config = SELLING.replace("option enabled '1'", "option enabled '1'\n\toption ca_file '/root/ca.pem'")
    router.start(
        config + LIGHTNING.format(listen="127.0.0.1:2124", type="lnd", option="macaroon_file", file="/root/secret")
    )
    router.write("root/new", "11" * 40, 0o600)
    router.run("mv", "/root/new", "/root/secret")
    assert router.run("cat", in_jail(router, "/root/secret")).out == "11" * 40
    router.write("root/new", "no certificate", 0o600)
    router.run("mv", "/root/new", "/root/ca.pem")
    before = router.log()
    router.run("tollgated", "reload")
    wait_for(
        lambda: "ca_file: the extra certificate file holds no usable" in router.log()[len(before) :],
        10,
        "the renewed certificates are read",
    )


def with_resolv_conf(router) -> None:
    """As on OpenWrt before any uplink is up, where the router's own name server is not in the list."""
    os.makedirs(router.at("tmp/resolv.conf.d"))
    router.write("tmp/resolv.conf.d/resolv.conf.auto", "")
    router.run("ln", "-s", "/tmp/resolv.conf.d/resolv.conf.auto", "/tmp/resolv.conf")
    os.unlink(router.at("etc/resolv.conf"))
    router.run("ln", "-s", "/tmp/resolv.conf", "/etc/resolv.conf")


def replace(router, path: str, text: str) -> None:
    """As netifd does: a new file in the place of the old one."""
    router.write(path + ".new", text)
    router.run("mv", f"/{path}.new", f"/{path}")


def test_name_servers_that_come_with_the_uplink_are_seen_from_inside_the_jail(router):
    with_resolv_conf(router)
    router.start()
    replace(router, "tmp/resolv.conf.d/resolv.conf.auto", "nameserver 203.0.113.99\n")
    assert router.run("cat", in_jail(router, "/tmp/resolv.conf.d/resolv.conf.auto")).out == "nameserver 203.0.113.99\n"


def test_a_mints_name_is_found_when_the_name_servers_come_later(lab, router, fault_mint):
    """Started before the uplink is up: the list of name servers in the jail's /etc/resolv.conf stays the empty one."""
    name = "mint.example.net"
    lab._dnsmasq(
        lab.internet, "mint-dns", f"--address=/{name}/{MINT4}", f"--listen-address={UPLINK4}", "--bind-interfaces",
        "--no-resolv",
    )
    with_resolv_conf(router)
    url = fault_mint.url.replace(MINT4, name)
    router.start(SELLING.replace("https://mint.example.com'", f"{url}'\n\toption allow_http '1'"))
    mint = lambda: json.loads(router.run("tollgated", "status", "--json").out)["data"]["mints"][0]
    wait_for(lambda: mint()["last_error"], 20, "it was asked in vain")
    assert not mint()["reachable"]
    replace(router, "tmp/resolv.conf.d/resolv.conf.auto", f"nameserver {UPLINK4}\n")
    wait_for(lambda: mint()["reachable"], 75, "the mint answers")
    assert not router.run("cat", in_jail(router, "/etc/resolv.conf")).out


def test_the_admin_token_is_made_where_the_configuration_wants_it(router):
    for path in ("/etc/tollgate/admin.token", "/etc/tills/token"):
        os.makedirs(router.at(os.path.dirname(path)), exist_ok=True)
        router.start(SELLING + f"\nconfig admin\n\toption token_file '{path}'\n")
        wait_for(lambda: len(router.read(path)) >= 64, 10, "there is a token")
        assert stat.S_IMODE(os.stat(router.at(path)).st_mode) == 0o600
        assert router.run("cat", in_jail(router, path)).out == router.read(path)
        router.stop()
    token = router.read("/etc/tills/token")
    router.init("start")
    assert router.read("/etc/tills/token") == token, "made once"


def test_a_file_that_is_named_anew_waits_for_a_restart_and_the_operator_is_told(router):
    before = router.start()
    os.makedirs(router.at("root"))
    router.write("root/secret", "00" * 40, 0o600)
    router.write(
        CONFIG,
        SELLING + LIGHTNING.format(listen="127.0.0.1:2124", type="lnd", option="macaroon_file", file="/root/secret"),
        0o600,
    )
    assert "under procd it is seen when the service is restarted" in router.run("tollgated", "reload").out
    router.init("reload")
    assert router.pid() == before, "a reload restarts nothing"
    router.init("restart")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    assert router.run("cat", in_jail(router, "/root/secret")).out == "00" * 40
    router.write("root/other", "22" * 40, 0o600)
    router.write(
        CONFIG,
        SELLING + LIGHTNING.format(listen="127.0.0.1:2124", type="lnd", option="macaroon_file", file="/root/other"),
        0o600,
    )
    assert "restarted" not in router.run("tollgated", "reload").out, "the folder is there"

    # In the state directory it is there at once.
    router.write("etc/tollgate/secret", "11" * 40, 0o600)
    router.write(
        CONFIG,
        SELLING
        + LIGHTNING.format(listen="127.0.0.1:2124", type="lnd", option="macaroon_file", file="/etc/tollgate/secret"),
        0o600,
    )
    assert "restarted" not in router.run("tollgated", "reload").out
    assert router.run("cat", in_jail(router, "/etc/tollgate/secret")).out == "11" * 40


def test_all_listeners_stand_under_the_jail_and_guests_get_three_ports_of_them(router):
    config = SELLING.replace(
        "option enabled '1'", "option enabled '1'\n\toption admin_listen '127.0.0.1:120'\n\toption port '80'"
    )
    router.start(
        config + LIGHTNING.format(listen="192.168.77.1:81", type="lnd", option="macaroon_file", file="/root/none")
    )
    opened = [fact.split("dest_port=")[1].split()[0] for fact in router.service() if fact.startswith("firewall")]
    assert opened == ["80", "2122", "2123"], "cards and the operator's interface are not for guests"
    listening = lambda: {
        line.split()[3].rsplit(":", 1)[1] for line in router.place.run(["ss", "-Hltn"]).out.splitlines()
    }
    wait_for(
        lambda: {"80", "120", "81", "2122", "2123"} <= listening(), 15, "every port is served, also those below 1024"
    )
    router.write(CONFIG, config.replace("port '80'", "port '8080'"), 0o600)
    router.init("reload")
    assert any("dest_port=8080 " in fact for fact in router.service()) and not any(
        "dest_port=80 " in fact for fact in router.service()
    )


def test_what_is_kept_is_for_root_alone(router):
    router.start(
        SELLING
        + LIGHTNING.format(listen="127.0.0.1:2124", type="melt", option="fee_limit_msat", file="1000").replace(
            "\toption url 'https://127.0.0.1:1'\n", ""
        )
    )
    made = {"customers.key", "takings.key", "cards.key", "store.db", "admin.token"}
    wait_for(lambda: made <= set(os.listdir(router.at("etc/tollgate"))), 20, "the keys are made")
    for folder in ("etc/tollgate", "var/run/tollgate"):
        assert stat.S_IMODE(os.stat(router.at(folder)).st_mode) == 0o700, folder
    modes = {
        name: stat.S_IMODE(os.stat(router.at(f"etc/tollgate/{name}")).st_mode)
        for name in os.listdir(router.at("etc/tollgate"))
    }
    assert set(modes.values()) == {0o600}, modes
    assert made <= set(modes), modes


def test_disabled_it_does_not_run_but_waits_for_a_change(router):
    router.init("start")
    facts = router.service()
    assert not any(fact.startswith("instance") for fact in facts) and "trigger config.change tollgate" in facts
    router.write(CONFIG, SELLING, 0o600)
    router.init("reload")
    wait_for(
        lambda: router.run("tollgated", "status", check=False).code == 0, 20, "a change of the configuration starts it"
    )
    router.write(CONFIG, SELLING.replace("'1'", "'0'", 1), 0o600)
    router.init("reload")
    wait_for(lambda: not router.pid(), 15, "and ends it")


# Reload, restart, broken files


def test_a_commit_of_uci_is_taken_over_with_the_same_process_and_sessions(lab, router):
    before, firewall = router.start(), router.run("uci", "export", "firewall").out
    router.run("tollgated", "grant", MAC, "1h")
    router.run("uci", "add_list", "tollgate.shop.trusted_mac=02:00:00:00:00:78")
    router.run("uci", "commit", "tollgate")
    assert stat.S_IMODE(os.stat(router.at(CONFIG)).st_mode) == 0o600, "uci keeps the mode of the file that it replaces"
    router.init("reload")
    wait_for(lambda: "configuration reloaded" in router.log(), 10, "the daemon read it")
    assert router.pid() == before
    wait_for(lambda: "02:00:00:00:00:78" in paid(lab), 10, "the trusted device is let through")
    assert MAC in paid(lab) and router.run("uci", "export", "firewall").out == firewall


def test_guests_of_a_device_that_appears_late_are_gated_when_netifd_has_it(lab, router):
    before = router.start(
        SELLING.replace("option network 'guest'", "list device 'br-late'").replace(
            "config mint", "config venue 'here'\n\toption network 'guest'\n\nconfig mint"
        )
    )
    locks = lambda: {
        line.split(" iif ")[1].split()[0]
        for line in lab.router.run(["ip", "rule", "show", "pref", "90"]).out.splitlines()
        if " iif " in line
    }
    wait_for(lambda: "br-guest" in locks(), 10, "the other device is gated")
    lab.router.ip("link add br-late type bridge\nlink set br-late up\naddr add 192.168.99.1/24 dev br-late\n")
    router.init("reload")  # what the interface's trigger runs
    try:
        wait_for(lambda: {"br-guest", "br-late"} <= locks(), 5, "both are")
        listening = lambda: lab.router.run(["ss", "-Hltn"]).out
        wait_for(
            lambda: "br-late:2121" in listening() or listening().count(":2121 ") >= 2, 10, "and the portal is there"
        )
        assert router.pid() == before
    finally:
        lab.router.ip("link del br-late\n")


def test_a_reload_in_the_moment_of_starting_does_not_end_it(router):
    router.write(CONFIG, SELLING, 0o600)
    router.init("start")
    first = router.pid()
    for _ in range(5):
        router.init("reload")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")
    assert router.pid() == first


def test_a_broken_file_changes_nothing_for_a_running_service(lab, router):
    before = router.start()
    told = router.service()
    router.run("tollgated", "grant", MAC, "1h")
    router.write(CONFIG, SELLING + "\nconfig mint\n\toption url 'nonsense'\n", 0o600)
    router.init("reload")
    wait_for(lambda: "the configuration stays as it was" in router.log(), 10, "the daemon says so")
    assert router.pid() == before and router.service() == told and MAC in paid(lab)


def test_a_broken_file_does_not_start_the_service_and_mending_it_does(router):
    router.write(CONFIG, SELLING + "\nnonsense\n", 0o600)
    router.init("start")
    assert not router.pid() and "trigger config.change tollgate" in router.service()
    router.write(CONFIG, SELLING, 0o600)
    router.init("reload")
    wait_for(lambda: router.run("tollgated", "status", check=False).code == 0, 20, "the daemon answers")


def test_paid_guests_stay_online_while_the_service_is_stopped_and_restarted(lab, router):
    guest = lab.guest
    router.start()
    router.run("tollgated", "grant", guest.mac, "1h")
    wait_for(lambda: guest.mac in paid(lab), 5, "the guest is paid")
    router.stop()
    assert guest.mac in paid(lab)
    guest.connect("198.51.100.80", 80).close()
    with pytest.raises(OSError):
        lab.guests[1].connect("198.51.100.80", 443, 2)
    router.init("start")
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


# The locks


def test_release_takes_both_locks_away_with_the_daemon_stopped_and_can_be_repeated(lab, router):
    router.start()
    wait_for(lambda: lab.router.run(["ip", "rule", "show", "pref", "90"]).out.strip(), 10, "the locks are up")
    refused = router.run("tollgated", "gate", "release", check=False)
    assert refused.code == 1 and "the daemon runs" in refused.out
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"]).code == 0
    router.init("stop")  # `--wait` is for the daemon's end
    for _ in range(2):
        router.run("tollgated", "gate", "release", "--wait")
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"], check=False).code != 0
    assert "inet fw4" in lab.router.run(["nft", "list", "tables"]).out, "nobody else's table is touched"
    for family in ("-4", "-6"):
        assert not lab.router.run(["ip", family, "rule", "show", "pref", "90"]).out.strip()
