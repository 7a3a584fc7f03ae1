"""The takings while no daemon runs: the wallet's commands open the store themselves, one at a time, and a daemon that
is started meanwhile waits for them.

After each test the sum must come out: what guests still hold + takings + the mint's fees = what was minted.
"""

import json
import threading

import pytest

from lab import books
from lab.place import PATIENCE, wait_for
from lab.purse import WITHIN, Purse

@pytest.fixture
def guest(lab, fault_mint, make_daemon):
    """With ecash of the test mint, at a router that has taken 100 sat and is switched off."""
    guest = Purse(lab, fault_mint, make_daemon(fault_mint.url))
    answer = guest.daemon.control({"command": "wallet", "args": ["receive", guest.token(100)]})
    assert answer["ok"], answer
    guest.daemon.stop()
    guest.daemon.main["enabled"] = 0
    guest.daemon.write_config()
    return guest


def switched_on(daemon):
    daemon.main["enabled"] = 1
    daemon.write_config()
    return daemon


def balance(daemon) -> int:
    return sum(one["balance"] for one in daemon.data("wallet", "balance")["mints"])


def taken(guest, token: str) -> int:
    before = len(guest.wallet.proofs)
    came = guest.wallet.receive(token)
    guest.held.append(guest.wallet.proofs[before:])
    return came


def spawn(daemon, *words: str):
    return daemon.lab.router.spawn([*daemon.program, *words, "-c", daemon.config], log=f"{daemon.dir}/spawned")


def test_the_takings_are_counted_sent_listed_and_taken_back_while_the_shop_is_off(lab, guest):
    daemon = guest.daemon
    assert balance(daemon) == 100
    made = daemon.data("wallet", "send", "21")
    assert balance(daemon) == 79 and [one["id"] for one in daemon.data("wallet", "sent")] == [made["id"]]
    assert daemon.data("wallet", "reclaim", str(made["id"])) == {"reclaimed": 21}
    assert taken(guest, daemon.command("wallet", "send", "100").out.strip()) == 100
    assert daemon.data("wallet", "sent") == [] and balance(daemon) == 0
    refused = daemon.command("wallet", "send", "1", check=False)
    assert refused.code == 1 and "no mint holds that much" in refused.out
    assert guest.check() == 0
    assert not lab.guest.online(), "nobody gets out by this"


def test_what_was_sent_without_a_daemon_is_in_its_books(guest):
    made = guest.daemon.data("wallet", "send", "21")
    daemon = switched_on(guest.daemon)
    daemon.start()
    (listed,) = daemon.data("wallet", "sent")
    assert balance(daemon) == 79 and (listed["id"], listed["amount"]) == (made["id"], 21)
    assert daemon.data("wallet", "reclaim", str(made["id"])) == {"reclaimed": 21}
    assert guest.check() == 100


@pytest.mark.parametrize("moment", ["arrived", "done", "answered"])
def test_killed_while_it_changes_money_without_a_daemon_nothing_is_lost(guest, moment):
    daemon, running = guest.daemon, []
    killed = guest.mint.when("swap", moment, lambda: wait_for(lambda: running)[0].kill())
    running.append(spawn(daemon, "wallet", "send", "21"))
    assert killed.wait(60)
    running[0].wait()
    daemon = switched_on(daemon)
    daemon.start()
    unsettled = "SELECT id FROM wallet_ops WHERE state != 'done' AND kind != 'send'"
    wait_for(lambda: not books.rows(daemon, unsettled), WITHIN)
    for made in daemon.data("wallet", "sent"):
        assert daemon.data("wallet", "reclaim", str(made["id"])) == {"reclaimed": 21}
    assert balance(daemon) == guest.check() == 100


@pytest.fixture
def holding(guest):
    """A command that holds the store while its mint considers a swap, and what lets the mint answer."""
    arrived, goes_on = threading.Event(), threading.Event()

    def consider():
        arrived.set()
        goes_on.wait(60)

    guest.mint.when("swap", "arrived", consider)
    command = spawn(guest.daemon, "wallet", "send", "21")
    assert arrived.wait(PATIENCE)
    yield command, goes_on
    goes_on.set()


def test_a_daemon_that_is_started_meanwhile_waits_for_the_command(guest, holding):
    daemon, (command, goes_on) = switched_on(guest.daemon), holding
    daemon.start(ready=False)
    wait_for(lambda: "waiting for it to end" in daemon.log(), PATIENCE, "the daemon waits")
    assert daemon.running and not daemon.answers()
    goes_on.set()
    assert command.wait() == 0
    wait_for(daemon.answers, PATIENCE, "the daemon has come up")
    assert balance(daemon) == 79
    (made,) = daemon.data("wallet", "sent")
    assert daemon.data("wallet", "reclaim", str(made["id"])) == {"reclaimed": 21}
    assert guest.check() == 100


def test_a_daemon_that_waits_can_be_stopped(guest, holding):
    daemon, (command, goes_on) = switched_on(guest.daemon), holding
    daemon.start(ready=False)
    wait_for(lambda: "waiting for it to end" in daemon.log(), PATIENCE, "the daemon waits")
    assert daemon.stop() == 0
    goes_on.set()
    assert command.wait() == 0


def test_two_commands_at_once_are_done_one_after_the_other(guest):
    daemon = guest.daemon
    both = [spawn(daemon, "wallet", "send", "21") for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert balance(daemon) == 58
    for made in daemon.data("wallet", "sent"):
        assert daemon.data("wallet", "reclaim", str(made["id"])) == {"reclaimed": 21}
    assert balance(daemon) == guest.check() == 100


def test_where_nothing_was_ever_sold_no_store_is_made(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url, start=False, main={"enabled": 0})
    refused = daemon.command("wallet", "balance", "--json", check=False)
    assert refused.code == 1 and json.loads(refused.out)["code"] == "no_takings"
    assert lab.router.run(["ls", daemon.state_dir]).out == ""


def test_a_token_that_could_not_be_printed_is_said_to_be_listed(lab, guest):
    command = f"{guest.daemon.program[0]} wallet send 21 -c {guest.daemon.config} >/dev/full"
    done = lab.router.run(["sh", "-c", command], check=False)
    assert done.code == 1 and "'tollgated wallet sent' shows it again" in done.out
    (made,) = guest.daemon.data("wallet", "sent")
    assert taken(guest, made["token"]) == 21
    assert guest.daemon.data("wallet", "sent") == [] and guest.check() == 79
