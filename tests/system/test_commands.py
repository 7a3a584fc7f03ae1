"""What the operator's commands take and print: one envelope for scripts, rows and units for people, and which status
they end with.
"""

import json
import os
import re
import time

import pytest

from lab.daemon import Mint, binary
from lab.fault_mint import FaultMint
from lab.guest import ROUTER4
from lab.internet import AWAY, MINT4
from lab.place import PATIENCE, wait_for
from lab.portal_client import MintProxy, post_request
from lab.terminal import on_terminal, qr_codes



def refusal(daemon, *argv):
    """Exit status and text of a command that fails."""
    done = daemon.command(*argv, check=False)
    return done.code, done.out


EVERY = [
    line.split()
    for line in """
        status | reload | clients | sessions | grant 02:00:00:00:77:77 1m | revoke 02:00:00:00:77:77
        revoke 02:00:00:00:77:78 | wallet balance | wallet info | wallet send 5 | wallet sent | wallet reclaim 7
        wallet receive cashuBnonsense | wallet seed | card list | card show 1 | lightning test | check
        check --system | wiring | completion | setup --dry-run | setup | gate release | fly | wallet | grant
        grant x 1h | card show x | --colour |
    """.strip()
    .replace("\n", " | ")
    .split("|")
]


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_every_command_answers_in_one_envelope(lab, make_daemon, runs):
    daemon = make_daemon(AWAY, start=runs)
    for words in EVERY:
        done = lab.router.run(
            ["sh", "-c", 'exec "$@" 2>/dev/null', "sh", binary(), *words, "--json", "-c", daemon.config], check=False
        )
        (line,) = done.out.splitlines()
        answer = json.loads(line)
        assert answer["ok"] is (done.code == 0), (words, done)
        expected = {"ok", "data"} if answer["ok"] else {"ok", "code", "message"}
        assert expected <= answer.keys() <= expected | {"data"}, (words, answer)
        assert (done.code == 2) == (not answer["ok"] and answer["code"] in ("usage", "invalid_mac")), (words, done)


@pytest.mark.parametrize(
    "argv",
    [
        ["grant", "somebody", "1h"],
        ["grant", "02:00:00:00:00", "1h"],
        ["grant", "02:00:00:00:77:77", "soon"],
        ["grant", "1h", "02:00:00:00:77:77"],
        ["revoke", "192.168.1"],
        ["wallet", "send", "all"],
        ["wallet", "send", "0"],
        ["wallet", "reclaim", "x"],
        ["card", "show", "x"],
        ["card", "create", "A", "--tx-max", "-5", "--day-max", "1"],
        ["card", "tap", "x", "--mac", "y"],
        ["setup", "--dry-run", "--price", "much"],
    ],
    ids=" ".join,
)
def test_a_value_that_cannot_be_one_is_wrong_usage_also_without_a_daemon(lab, make_daemon, argv):
    daemon = make_daemon(AWAY, start=False)
    done = daemon.command(*argv, check=False)
    assert done.code == 2 and done.out.startswith("tollgated: "), done


def test_a_device_that_is_not_known_is_no_wrong_usage(lab, daemon):
    assert refusal(daemon, "revoke", "02:00:00:00:77:77")[0] == 1
    code, said = refusal(daemon, "grant", "192.168.77.250", "1h")
    assert code == 1 and "192.168.77.250 is no device on a guest network" in said
    assert refusal(daemon, "clients", "--venue", "nowhere")[0] == 1


def test_a_grant_takes_sums_weeks_millions_of_bytes_and_an_address(lab, daemon):
    assert lab.guest.ping(ROUTER4)
    first = daemon.data("grant", lab.guest.ip, "1h30m")
    assert (first["mac"], first["remaining_seconds"]) == (lab.guest.mac, 5400) and lab.guest.online()
    assert daemon.data("grant", "02:00:00:00:77:77", "1w")["remaining_seconds"] == 7 * 86_400
    assert daemon.data("grant", "02:00:00:00:77:77", "500MB")["remaining_bytes"] == 500_000_000
    assert "remaining: 500.0 MB" in daemon.command("grant", "02:00:00:00:77:78", "500MB").out
    assert daemon.data("revoke", lab.guest.ip)["mac"] == lab.guest.mac


def test_a_device_is_one_row_with_its_name_addresses_and_what_it_paid(lab, seller, fault_mint):
    leases = os.path.join(seller.dir, "leases")
    with open(leases, "w") as file:
        file.write(f"1 {lab.guest.mac} {lab.guest.ip} annas-phone *\n1 {lab.guests[1].mac} {lab.guests[1].ip} * *\n")
    with open(os.path.join(os.path.dirname(seller.config), "dhcp"), "w") as file:
        file.write(f"config dnsmasq\n\toption leasefile '{leases}'\n")
    for guest in lab.guests[:2]:
        assert guest.ping(ROUTER4) and guest.ping("fd77::1")
    with MintProxy(lab.guest) as proxy:
        made = proxy.request(fault_mint.url, 6, apply=True)
        fault_mint.pay(made["invoice"])
        proxy.wait("session_granted")
    rows = seller.data("clients")
    assert sorted(row["mac"] for row in rows) == sorted({row["mac"] for row in rows})
    (row,) = [row for row in rows if row["mac"] == lab.guest.mac]
    assert (row["name"], row["paid_sat"]) == ("annas-phone", 6) and 100 < row["remaining_seconds"] <= 120
    assert {lab.guest.ip, lab.guest.ip6} <= set(row["addresses"])
    (session,) = seller.data("sessions")
    assert (session["name"], session["paid_sat"], session["addresses"]) == ("annas-phone", 6, row["addresses"])
    assert seller.data("grant", lab.guests[1].ip, "1h")["mac"] == lab.guests[1].mac
    (given,) = [row for row in seller.data("clients") if row["mac"] == lab.guests[1].mac]
    assert (given["name"], given["paid_sat"]) == (None, 0)
    text = seller.command("clients").out
    assert f"name=annas-phone  mac={lab.guest.mac}  addresses={lab.guest.ip}," in text and "paid=6 sat" in text


def test_the_end_of_a_session_is_logged_with_what_was_bought_and_used(lab, daemon):
    mac = lab.guest.mac
    daemon.command("grant", mac, "2s")
    wait_for(
        lambda: f"the session of {mac} at guest has ended: 2s for 0 sat, 2s used" in daemon.log(),
        PATIENCE,
        "the end is logged",
    )
    daemon.command("grant", mac, "1h")
    daemon.command("revoke", mac)
    wait_for(lambda: f"the session of {mac} at guest has ended: 1h 0m for 0 sat, 0s used" in daemon.log(), PATIENCE)
    daemon.command("grant", mac, "5MB")
    daemon.command("revoke", mac)
    wait_for(lambda: f"{mac} at guest has ended: 5.0 MB for 0 sat, 0 B used" in daemon.log(), PATIENCE)
    assert daemon.log().count("has ended: ") == 3


def test_times_are_those_of_the_routers_zone(lab, daemon):
    daemon.command("grant", lab.guest.mac, "1h")
    ends = daemon.data("sessions")[0]["ends_at"]
    for zone, offset, name in (("EAT-3", 3 * 3600, "EAT"), ("<-0330>3:30", -12_600, "-0330"), ("UTC0", 0, "UTC")):
        out = lab.router.run([binary(), "sessions", "-c", daemon.config], env={"TZ": zone}).out
        shown = re.search(r"ends_at=(\w+ +\d+ \d\d:\d\d):\d\d (\S+)", out)
        assert shown.group(2) == name
        near = [time.strftime("%b %e %H:%M", time.gmtime(ends + offset + slack)) for slack in (-2, 0, 2)]
        assert shown.group(1) in near, (zone, out)


def test_status_tells_uptime_takings_and_why_a_mint_is_away(lab, make_daemon):
    with FaultMint(lab.internet, MINT4) as mint:
        daemon = make_daemon(mint.url)
        wait_for(lambda: daemon.data("status")["mints"][0]["reachable"], PATIENCE)
        assert daemon.data("status")["mints"][0]["last_error"] is None
        mint.close()
        post_request(lab.guest, mint.url, 5)
        wait_for(lambda: not daemon.data("status")["mints"][0]["reachable"], PATIENCE, "it is away")
        assert daemon.data("status")["mints"][0]["last_error"]
        mint.open()
        wait_for(lambda: daemon.data("status")["mints"][0]["reachable"], 20)
        status = daemon.data("status")
        assert status["mints"][0]["last_error"] is None, "no old error beside a mint that answers"
        assert status["takings"] == {"balance": 0, "held": 0} and 0 <= status["uptime_seconds"] < 600
        assert re.search(r"^uptime: (\d+m )?\d+s$", daemon.command("status").out, re.M)


def test_commands_say_that_it_is_switched_off(lab, make_daemon):
    daemon = make_daemon(AWAY, start=False, main={"enabled": 0})
    for words in (["status"], ["clients"], ["grant", lab.guest.mac, "1h"], ["card", "list"], ["reload"]):
        code, said = refusal(daemon, *words)
        assert code == 1 and "switched off in the configuration" in said and daemon.config in said, words
    assert json.loads(refusal(daemon, "status", "--json")[1])["code"] == "switched_off"
    daemon.write_config("config tollgate 'main'\n\toption port 'http'\n")
    code, said = refusal(daemon, "status")
    assert code == 1 and "configuration cannot be used" in said and f"{daemon.config}:2: error:" in said


def test_a_command_that_is_nearly_one_is_told_what_there_is(lab, daemon):
    for words, told in ((["send", "5"], "wallet send"), (["balance"], "wallet balance"), (["list"], "card list")):
        code, said = refusal(daemon, *words)
        assert code == 2 and told in said, said
    assert refusal(daemon, "fly", "--help")[0] == 2


def test_help_is_short_and_tells_what_the_words_mean(lab):
    lines = lab.router.run([binary(), "--help"]).out.splitlines()
    names = [line.split()[0] for line in lines if re.match(r" {4}\w", line)]
    names = [name for name in names if name.islower() and "/" not in name and name != "tollgated"]
    assert {"status", "wallet", "setup", "gate"} <= set(names)
    for name in sorted(set(names)):
        out = lab.router.run([binary(), name, "--help"]).out
        assert 2 < len(out.splitlines()) < 40 and name in out, name
    assert "1h30m" in lab.router.run([binary(), "grant", "--help"]).out


def test_a_name_may_be_help(lab, make_daemon):
    daemon = make_daemon(AWAY, sections={"card": {"domain": "cards.example"}})
    made = daemon.data("card", "create", "help", "--tx-max", "5", "--day-max", "5")
    assert daemon.data("card", "show", str(made["card_id"]))["card_name"] == "help"


def test_a_code_that_does_not_fit_the_terminal_is_not_drawn(lab, make_daemon):
    daemon = make_daemon(AWAY, sections={"card": {"domain": "cards.example"}})
    create = ("card", "create", "A", "--tx-max", "5", "--day-max", "5")
    narrow = on_terminal(daemon, *create, columns=40)
    (needed,) = re.findall(r"the QR code needs (\d+) columns and this terminal has 40", narrow)
    assert not qr_codes(narrow) and "boltcard://program" in narrow, "the link is there to be pasted"
    for columns in (0, int(needed)):
        (link,) = qr_codes(on_terminal(daemon, *create, columns=columns))
        assert link.startswith("boltcard://program")


def test_rows_of_cards_name_their_unit(lab, make_daemon):
    daemon = make_daemon(AWAY, sections={"card": {"domain": "cards.example"}})
    daemon.command("card", "create", "A", "--tx-max", "5", "--day-max", "50")
    (row,) = daemon.command("card", "list").out.splitlines()
    assert "tx_max=5 sat  day_max=50 sat  spent_today=0 sat" in row, row
