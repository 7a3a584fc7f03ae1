"""What survives: a damaged, newer or missing store, a full disk, a wrong clock, a reboot - and what each costs the
guests.
"""

import json
import os
import re
import shutil
import sqlite3
import sys
import time

import pytest

from lab.books import rows
from lab.fake_clock import FakeWall, needs_faketime, other_boot
from lab.guest import ROUTER4
from lab.hammer import Hammer
from lab.internet import MINT4
from lab.place import wait_for
from lab.portal_client import post_request, read_request
from lab.purse import Purse
from lab.wallet import decode_token

PORTAL = f"http://{ROUTER4}:2121/"
BROWSER = {"Accept": "text/html"}
MIGRATIONS = os.path.join(os.path.dirname(__file__), "..", "..", "src", "store", "migrations")
AWAY = f"http://{MINT4}:9"
"""A mint that nobody reaches."""
AHEAD = 4_000_000_000


def contents(directory) -> dict[str, bytes]:
    """Every file of the state directory that is part of the store."""
    found = {}
    for name in os.listdir(directory):
        if name.startswith("store") or name.endswith(".key"):
            with open(os.path.join(directory, name), "rb") as file:
                found[name] = file.read()
    return found


def tables_since(number: int) -> list[str]:
    """What the store's changes from this one on have made, the newest first."""
    made = []
    for name in sorted(os.listdir(MIGRATIONS), reverse=True):
        if name.endswith(".sql") and int(name[:4]) >= number:
            with open(os.path.join(MIGRATIONS, name)) as file:
                made += re.findall(r"^CREATE TABLE (\w+)", file.read(), re.M)[::-1]
    return made


def store_state(daemon) -> str | None:
    """None while nobody answers: the daemon may be starting itself anew."""
    answer = daemon.command("status", "--json", check=False)
    return json.loads(answer.out)["data"]["store"]["state"] if answer.code == 0 else None


def damage_database(state):
    with open(os.path.join(state, "store.db"), "r+b") as file:
        file.write(b"not a database at all, sorry")


def damage_page(state):
    """The schema's own page is cut to pieces; the header is as it was."""
    with open(os.path.join(state, "store.db"), "r+b") as file:
        file.seek(100)
        file.write(os.urandom(900))


def damage_log(state):
    """One byte in the middle of the log: a good frame follows a bad one."""
    path = os.path.join(state, "store.db-wal")
    assert os.path.getsize(path) > 4000
    with open(path, "r+b") as file:
        file.seek(32 + 24 + 500)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))


def newer_version(state):
    with open(os.path.join(state, "store.db"), "r+b") as file:
        file.seek(60)
        file.write((999).to_bytes(4, "big"))


def remove_database(state):
    os.remove(os.path.join(state, "store.db"))


def remove_key(state):
    os.remove(os.path.join(state, "takings.key"))


def remove_token_key(state):
    os.remove(os.path.join(state, "tokens.key"))


FAULTS = {
    "database": (damage_database, "stop", "STORE_CORRUPT"),
    "page": (damage_page, "stop", "STORE_CORRUPT"),
    "log": (damage_log, "kill", "STORE_CORRUPT"),
    "vanished": (remove_database, "stop", "STORE_CORRUPT"),
    "newer": (newer_version, "stop", "STORE_TOO_NEW"),
    "key": (remove_key, "stop", "KEY_MISSING"),
    "token key": (remove_token_key, "stop", "KEY_MISSING"),
}


def broken(make_daemon, lab, fault_mint, fault):
    """A daemon that has sold, was ended, and finds this at its next start; guest 1 has paid for an hour."""
    harm, end, code = FAULTS[fault]
    daemon = make_daemon(fault_mint.url)
    daemon.command("grant", lab.guest.mac, "1h")
    assert post_request(lab.guest, fault_mint.url, 5, apply=True).status == 201
    getattr(daemon, end)()
    harm(daemon.state_dir)
    before = contents(daemon.state_dir)
    daemon.start()
    return daemon, code, before


@pytest.mark.parametrize("fault", FAULTS)
def test_store_that_cannot_be_used_sells_nothing_says_why_and_is_kept(lab, make_daemon, fault_mint, fault):
    daemon, code, before = broken(make_daemon, lab, fault_mint, fault)
    quotes = len(fault_mint.quotes)
    refused = post_request(lab.guests[1], fault_mint.url, 5, apply=True)
    assert refused.status == 503 and refused.json()["type"] == "error" and refused.json()["code"] == code
    assert code in lab.guests[1].get(PORTAL, BROWSER).text
    status = daemon.status()["data"]
    assert status["store"]["state"] == code and status["ready"] is False
    assert any(code in reason for reason in status["not_ready"])
    assert json.loads(daemon.command("grant", lab.guests[1].mac, "1h", "--json", check=False).out)["code"] == code
    assert code in daemon.log()
    assert len(fault_mint.quotes) == quotes
    daemon.stop()
    assert {
        name: data
        for name, data in contents(daemon.state_dir).items()
        if name in before or name.endswith(".key") or name == "store.db"
    } == before


def test_daemon_with_a_key_that_cannot_be_read_does_not_begin_again_and_again(lab, make_daemon):
    daemon = make_daemon(AWAY)
    daemon.stop()
    key = os.path.join(daemon.state_dir, "takings.key")
    os.rename(key, key + ".aside")
    os.mkdir(key)
    starts = daemon.log().count(" is up")
    daemon.start()
    assert daemon.status()["data"]["store"]["state"] == "STORE_ERROR"
    time.sleep(8)
    assert daemon.log().count(" is up") == starts + 1
    os.rmdir(key)
    os.rename(key + ".aside", key)
    wait_for(lambda: daemon.log().count(" is up") == starts + 2, 10, "it begins again once the key can be read")
    wait_for(lambda: store_state(daemon) == "ok", 10)


@pytest.mark.parametrize("fault", FAULTS)
def test_without_a_usable_store_paid_sessions_go_on_even_after_a_flush(lab, make_daemon, fault_mint, fault):
    daemon, _, _ = broken(make_daemon, lab, fault_mint, fault)
    other = lab.guests[1]
    wait_for(lambda: daemon.status()["data"]["gate"]["firewall_lock"], 5)
    assert lab.guest.online() and lab.guest.online(six=True) and not other.online()
    before = lab.hammered_packets()
    with Hammer(other) as hammer:
        lab.router.nft("flush ruleset\n")
        lab.nat_only()
        wait_for(lambda: lab.guest.mac in daemon.paid_macs(), 5)
        hammer.strike()
    assert lab.hammered_packets() == before
    assert lab.guest.online()


def test_adopted_session_still_ends_at_its_second(lab, make_daemon):
    daemon = make_daemon(AWAY)
    started = time.monotonic()
    daemon.command("grant", lab.guest.mac, "10s")
    granted = time.monotonic() - started
    daemon.stop()
    damage_database(daemon.state_dir)
    daemon.start()
    assert lab.guest.online()
    lab.router.nft("delete table inet tollgate\n")
    wait_for(lambda: lab.guest.mac in daemon.paid_macs(), 3)
    wait_for(lambda: not daemon.paid_macs(), 11)
    assert 9.9 <= time.monotonic() - started <= granted + 10 + 5
    assert not lab.guest.online(timeout=0.5)


def test_damaged_store_is_copied_aside_once(lab, make_daemon):
    daemon = make_daemon(AWAY)
    daemon.stop()
    damage_database(daemon.state_dir)
    for _ in range(2):
        daemon.start().stop()
    copies = [name for name in os.listdir(daemon.state_dir) if name.startswith("corrupt-")]
    assert len(copies) == 1
    with (
        open(os.path.join(daemon.state_dir, copies[0], "store.db"), "rb") as copy,
        open(os.path.join(daemon.state_dir, "store.db"), "rb") as kept,
    ):
        assert copy.read() == kept.read()


def test_store_put_right_sells_again_after_a_restart(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url)
    daemon.command("grant", lab.guest.mac, "1h")
    daemon.stop()
    shutil.copy(os.path.join(daemon.state_dir, "store.db"), os.path.join(daemon.dir, "good"))
    damage_database(daemon.state_dir)
    daemon.start()
    assert daemon.status()["data"]["store"]["state"] == "STORE_CORRUPT"
    daemon.stop()
    shutil.copy(os.path.join(daemon.dir, "good"), os.path.join(daemon.state_dir, "store.db"))
    daemon.start()
    assert daemon.status()["data"]["store"]["state"] == "ok" and lab.guest.online()
    assert post_request(lab.guest, fault_mint.url, 5, apply=True).status == 201


def test_torn_end_of_the_log_is_no_damage(lab, make_daemon):
    """A power cut in the middle of a write: what was acknowledged before is there."""
    daemon = make_daemon(AWAY)
    daemon.command("grant", lab.guest.mac, "1h")
    daemon.kill()
    with open(os.path.join(daemon.state_dir, "store.db-wal"), "ab") as log:
        log.write(os.urandom(700))
    lab.clean_router()
    daemon.start()
    assert daemon.status()["data"]["store"]["state"] == "ok" and lab.guest.online()


# A full disk


@pytest.fixture
def small_disk(lab, make_daemon, fault_mint):
    """A daemon whose state is on 2 MiB, and `fill()`."""
    daemon = make_daemon(fault_mint.url, start=False)
    lab.router.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", daemon.state_dir])
    filler = os.path.join(daemon.state_dir, "filler")

    def fill():
        lab.router.run(
            [
                "sh",
                "-c",
                (
                    f"dd if=/dev/zero of={filler} bs=1k 2>/dev/null; dd if=/dev/zero bs=512 count=99 2>/dev/null "
                    f">>{filler}; true"
                ),
            ],
            check=False,
        )

    def free():
        lab.router.run(["rm", "-f", filler])

    yield daemon, fill, free
    daemon.kill()
    lab.router.run(["umount", "-l", daemon.state_dir])


def test_full_disk_refuses_new_sales_before_anything_is_taken_and_recovers(lab, small_disk, fault_mint):
    daemon, fill, free = small_disk
    daemon.start()
    daemon.command("grant", lab.guest.mac, "1h")
    fill()
    refused = post_request(lab.guests[1], fault_mint.url, 5, apply=True)
    assert refused.status == 503 and fault_mint.quotes == {}
    assert daemon.status()["data"]["ready"] is False and "STORE_FULL" in lab.guests[1].get(PORTAL, BROWSER).text
    assert lab.guest.online()
    free()
    assert post_request(lab.guests[1], fault_mint.url, 5, apply=True).status == 201


def test_reboot_with_a_full_disk_keeps_paid_sessions(lab, small_disk):
    daemon, fill, free = small_disk
    daemon.start()
    daemon.command("grant", lab.guest.mac, "1h")
    daemon.stop()
    fill()
    lab.clean_router()
    daemon.start(through=other_boot(lab))
    assert lab.guest.online()
    assert daemon.status()["data"]["store"]["state"] == "ok"
    (session,) = daemon.ask("sessions")["data"]
    assert 3540 <= session["remaining_seconds"] <= 3660


def test_new_router_with_a_full_disk_begins_to_sell_when_there_is_room(lab, small_disk, fault_mint):
    daemon, fill, free = small_disk
    fill()
    daemon.start()
    assert daemon.status()["data"]["store"]["state"] == "STORE_FULL"
    assert "STORE_FULL" in lab.guest.get(PORTAL, BROWSER).text and not lab.guest.online(timeout=0.5)
    free()
    wait_for(lambda: store_state(daemon) == "ok", 20)
    wait_for(lambda: post_request(lab.guest, fault_mint.url, 5, apply=True).status == 201, 5)


EDIT = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    for statement in sys.argv[2:]:
        db.execute(statement)
db.close()
"""


def test_shop_that_was_closed_for_want_of_room_makes_some_by_itself(lab, small_disk, fault_mint):
    """A store of the version before amounts had units, on a disk too full to upgrade it, most of it old records."""
    daemon, fill, _ = small_disk
    daemon.start()
    daemon.command("grant", lab.guest.mac, "1h")
    daemon.stop()
    units = {
        "parts": "unit",
        "grants": "unit",
        "wallet_ops": "unit",
        "cards": "unit",
        "card_taps": "unit",
        "sessions": "value_unit",
        "requests": "form",
    }
    older = [f"ALTER TABLE {table} DROP COLUMN {column}" for table, column in units.items()]
    # Logins, accounts on several devices, invites and the audit log came later still, and vouchers and orders.
    older += [f"DROP TABLE {table}" for table in tables_since(12)]
    older += [f"ALTER TABLE wallet_ops DROP COLUMN {column}" for column in ("granted", "purse", "credits")]
    older += ["ALTER TABLE wallet_keysets DROP COLUMN purse"]
    older += ["DROP INDEX accounts_by_name", "ALTER TABLE account_macs DROP COLUMN attached_ms"]
    older += [f"ALTER TABLE accounts DROP COLUMN {column}" for column in ("name", "tenant", "left_ms", "merged_ms")]
    sold = f"""WITH RECURSIVE sale (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM sale WHERE number < 4000)
        INSERT INTO grants (reference, account, mac, venue, amount, metric, allotment, granted_ms, wall)
        SELECT 'sold long before ' || number, 1, '{lab.guest.mac}', 'guest', 5, 'milliseconds', 1, 1, 1 FROM sale"""
    later = f"UPDATE moment SET service_ms = {100 * 86_400_000}"
    store = os.path.join(daemon.state_dir, "store.db")
    lab.router.run([sys.executable, "-c", EDIT, store, *older, sold, later, "PRAGMA user_version = 9"])
    fill()
    daemon.start()
    assert store_state(daemon) == "STORE_FULL"
    some = "import os, sys; os.truncate(sys.argv[1], os.path.getsize(sys.argv[1]) - 900 * 1024)"
    lab.router.run([sys.executable, "-c", some, os.path.join(daemon.state_dir, "filler")])
    wait_for(lambda: store_state(daemon) == "ok", 30)
    wait_for(lambda: post_request(lab.guest, fault_mint.url, 5, apply=True).status == 201, 5)
    assert rows(daemon, "SELECT COUNT(*) AS old, MAX(unit) AS unit FROM grants WHERE reference LIKE 'sold %'") == [
        {"old": 0, "unit": None}
    ]


@pytest.mark.parametrize("short", [False, True], ids=["with-room", "short-of-room"])
def test_old_records_go_before_the_shop_closes_for_want_of_room(lab, small_disk, fault_mint, short):
    daemon, _, _ = small_disk
    daemon.start()
    daemon.command("grant", lab.guest.mac, "1h")
    daemon.stop()
    day, ages = 86_400_000, (1, 8, 31, 91)
    sold = [
        (
            "INSERT INTO grants (reference, account, mac, venue, amount, metric, allotment, granted_ms, wall) VALUES "
            f"('sold {age}', 1, '{lab.guest.mac}', 'guest', 5, 'milliseconds', 1, {(100 - age) * day}, 1)"
        )
        for age in ages
    ]
    edits = [f"UPDATE moment SET service_ms = {100 * day}", *sold]
    lab.router.run([sys.executable, "-c", EDIT, os.path.join(daemon.state_dir, "store.db"), *edits])
    if short:
        filler = os.path.join(daemon.state_dir, "filler")
        left = "$(df -k . | tail -1 | awk '{print $4}')"
        lab.router.run(
            [
                "sh",
                "-c",
                f"cd {daemon.state_dir} && dd if=/dev/zero of={filler} bs=1k count=$(({left} - 1300)) 2>/dev/null",
            ]
        )
    daemon.start()
    kept = ["sold 1"] if short else ["sold 1", "sold 31", "sold 8"]
    known = lambda: [
        row["reference"]
        for row in rows(daemon, "SELECT reference FROM grants WHERE reference LIKE 'sold %' ORDER BY reference")
    ]
    wait_for(lambda: known() == kept, 20, "what is too old goes at the start")
    assert daemon.status()["data"]["ready"] is True
    assert post_request(lab.guests[1], fault_mint.url, 5, apply=True).status == 201


def test_copy_of_the_store_shows_no_token(lab, make_daemon, fault_mint):
    """One token waits for its guest, another is being received when the power goes."""
    guest = Purse(lab, fault_mint, make_daemon(fault_mint.url))
    daemon = guest.daemon
    made = post_request(lab.guest, fault_mint.url, 21).json()
    fault_mint.pay(made["invoice"])
    told = lambda: read_request(lab.guest, made["request_id"]).json()
    waiting = wait_for(lambda: told().get("tokens"), 10)
    given = guest.token(5)
    fault_mint.misbehave("drop_before", on="swap")
    assert not daemon.control({"command": "wallet", "args": ["receive", given]})["ok"]
    daemon.kill()
    secrets = [proof["secret"].encode() for token in (waiting, given) for proof in decode_token(token).proofs]
    files = contents(daemon.state_dir)
    for name in ("store.db", "store.db-wal"):
        assert not any(text in files[name] for text in (b"cashu", *secrets)), name
    assert made["request_id"].encode() in files["store.db-wal"] + files["store.db"]
    fault_mint.behave()
    daemon.start()
    assert told()["tokens"] == waiting
    wait_for(
        lambda: rows(daemon, "SELECT COUNT(*) AS open FROM wallet_ops WHERE state = 'open'")[0]["open"] == 0,
        30,
        "it is received after all",
    )


# Time


def test_reboot_keeps_what_is_left_in_the_guests_favour(lab, make_daemon):
    daemon = make_daemon(AWAY)
    started = time.monotonic()
    daemon.command("grant", lab.guest.mac, "10m")
    daemon.kill()
    lab.clean_router()
    assert not lab.guest.online(timeout=0.3)
    daemon.start(through=other_boot(lab))
    assert lab.guest.online() and lab.guest.online(six=True)
    (session,) = daemon.ask("sessions")["data"]
    used = time.monotonic() - started
    assert 600 - used - 1 <= session["remaining_seconds"] <= 660, "at most 60 s given away, none taken"


def test_revoked_session_does_not_come_back_with_a_reboot(lab, make_daemon):
    daemon = make_daemon(AWAY)
    daemon.command("grant", lab.guest.mac, "10m")
    daemon.command("revoke", lab.guest.mac)
    daemon.kill()
    lab.clean_router()
    daemon.start(through=other_boot(lab))
    assert daemon.ask("sessions")["data"] == [] and not lab.guest.online(timeout=0.5)


def test_a_clock_that_was_ahead_is_right_again_once_the_operator_says_so(lab, make_daemon):
    daemon = make_daemon(AWAY)
    daemon.command("grant", lab.guest.mac, "10m")
    daemon.stop()
    with sqlite3.connect(os.path.join(daemon.state_dir, "store.db")) as db:
        db.execute("UPDATE moment SET wall_floor = ?", (AHEAD,))
    db.close()
    daemon.start()
    clock = daemon.status()["data"]["clock"]
    assert (clock["plausible"], clock["wall"]) == (False, AHEAD)
    assert "was at 2096-10-02 07:06 UTC before; if it is right now: tollgated clock accept" in clock["trouble"]
    accepted = daemon.data("clock", "accept")
    assert abs(accepted["wall"] - time.time()) < 30
    clock = daemon.status()["data"]["clock"]
    assert (clock["plausible"], clock["trouble"]) == (True, None)
    daemon.kill()
    daemon.start()
    assert daemon.status()["data"]["clock"]["plausible"] is True
    (session,) = daemon.ask("sessions")["data"]
    assert 540 < session["remaining_seconds"] <= 600, "what is sold runs by another clock"
    done = [(row["what"], row["result"]) for row in daemon.data("audit")][1:]
    assert done == [("clock accept", "begun"), ("clock accept", "ok")]


@needs_faketime
def test_sale_works_in_1970(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url, start=False).start(env=FakeWall(lab).env)
    assert daemon.status()["data"]["clock"]["plausible"] is False
    opened = post_request(lab.guest, fault_mint.url, 60, apply=True)
    assert opened.status == 201
    fault_mint.pay(opened.json()["invoice"])
    wait_for(lambda: lab.guest.online(timeout=0.5), 10)
    answer = lambda: read_request(lab.guest, opened.json()["request_id"]).json()
    wait_for(lambda: answer()["type"] == "session_granted", 5)
    assert answer()["ends_at"] > 1_735_689_600
    (session,) = daemon.ask("sessions")["data"]
    assert 3540 <= session["remaining_seconds"] <= 3600


@needs_faketime
def test_jumping_clock_neither_ends_nor_extends_sessions(lab, make_daemon):
    wall = FakeWall(lab)
    daemon = make_daemon(AWAY, start=False).start(env=wall.env)
    started = time.monotonic()
    daemon.command("grant", lab.guest.mac, "1h")
    granted = time.monotonic() - started

    def assert_an_hour() -> None:
        asked = time.monotonic() - started
        left = {session["mac"]: session["remaining_seconds"] for session in daemon.ask("sessions")["data"]}
        # Granted after the start, asked before the answer: between that a busy machine may have passed some time.
        assert 3600 - (time.monotonic() - started) - 1.1 <= left[lab.guest.mac] <= 3600 - asked + granted + 1.1

    daemon.command("grant", lab.guests[1].mac, "3s")
    for moment in ("2026-06-01 12:00:00", "2040-01-01 00:00:00", "1999-12-31 23:59:59"):
        wall.set(moment)
        assert_an_hour()
        assert lab.guest.online()
    jumped = time.monotonic() - started
    wait_for(lambda: lab.guests[1].mac not in daemon.paid_macs(), 5)
    assert 2.8 <= time.monotonic() - started <= jumped + 3 + 5
    wall.set("2038-01-19 03:14:08")
    daemon.kill()
    daemon.start(env=wall.env)
    assert_an_hour()


# What a sale costs the flash


def test_a_sale_costs_at_most_8_commits_and_96_kib(lab, mint, make_daemon):
    daemon = make_daemon(mint.url)
    state = daemon.process.host_pid

    def written() -> tuple[int, int]:
        with open(f"/proc/{state}/io", encoding="ascii") as io:
            bytes_written = next(int(line.split()[1]) for line in io if line.startswith("write_bytes"))
        return daemon.status()["data"]["store"]["commits"], bytes_written

    def sell(amount) -> None:
        asked = post_request(lab.guest, mint.url, amount, apply=True).json()
        mint.pay(asked["invoice"])
        wait_for(lambda: read_request(lab.guest, asked["request_id"]).json()["type"] == "session_granted", 10)

    sell(1)
    commits, size = written()
    for amount in range(2, 7):
        sell(amount)
    commits_after, size_after = written()
    assert (commits_after - commits) / 5 <= 8
    assert (size_after - size) / 5 <= 96 * 1024
