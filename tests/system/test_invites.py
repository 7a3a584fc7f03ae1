"""Invites: codes that let guests in. Who may make them, how a guest is let in for one, and what guessing costs."""

import concurrent.futures
import json
import os
import sqlite3
import time

import pytest

from lab import http_client
from lab.daemon import ADMIN_PORT, Mint
from lab.guest import ROUTER4
from lab.internet import AWAY

REDEEM = f"http://{ROUTER4}:2121/connectioncodes/redeem"
NOBODYS = "0000-0000-0000-0000"


class Office:
    """The operator's interface of a daemon."""

    def __init__(self, lab, daemon) -> None:
        self.lab, self.daemon = lab, daemon
        with open(os.path.join(daemon.state_dir, "admin.token")) as file:
            self.token = file.read().strip()

    def ask(self, method, path, body=None):
        sent = json.dumps(body).encode() if body is not None else None
        socket = self.lab.router.connect("127.0.0.1", ADMIN_PORT)
        headers = {"Authorization": f"Bearer {self.token}"}
        return http_client.exchange(socket, method, path, "127.0.0.1", headers, sent)

    def code(self, **order) -> str:
        made = self.ask("POST", "/connectioncodes", order)
        assert made.status == 201, made
        (one,) = made.json()["codes"]
        return one["code"]

    def codes(self) -> list[dict]:
        return self.ask("GET", "/connectioncodes/list").json()["codes"]


@pytest.fixture
def office(lab, daemon):
    return Office(lab, daemon)


def redeem(guest, code, timeout=20.0):
    return guest.post(REDEEM, {"code": code}, timeout=timeout)


def error(answer) -> tuple[int, str]:
    return answer.status, answer.json()["error"]["code"]


def test_a_code_lets_a_guest_in_once(lab, daemon, office):
    code = office.code(seconds=600, note="for the band")
    answer = redeem(lab.guest, code)
    assert answer.status == 200, answer
    told = answer.json()
    assert (told["metric"], told["allotment"]) == ("milliseconds", 600_000)
    assert 590_000 < told["remaining"] <= 600_000
    assert lab.guest.online()
    assert error(redeem(lab.guests[1], code)) == (410, "code_used")
    (row,) = office.codes()
    assert (row["uses_left"], row["seconds"], row["note"], row["created_by"]) == (0, 600, "for the band", "token")
    assert row["expires"] is None
    assert not lab.guests[1].online()
    again = redeem(lab.guest, office.code(seconds=60)).json()
    assert again["allotment"] == 660_000, "a second code adds"


def test_a_code_is_read_however_it_is_typed(lab, office):
    code = office.code(seconds=60, uses=2)
    assert redeem(lab.guest, code.lower().replace("-", " ")).status == 200
    assert redeem(lab.guest, f"\n{code.replace('-', '')}\r\n").status == 200


def test_of_parallel_uses_of_one_code_one_is_granted(lab, daemon, office):
    code = office.code(seconds=600)
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda number: redeem(lab.guests[number % 2], code), range(100)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses.count(200) == 1 and set(statuses) <= {200, 410, 429}
    sessions = daemon.data("sessions")
    assert [session["allotment_seconds"] for session in sessions] == [600]


def test_wrong_codes_are_few_of_one_guest_and_keep_no_other_out(lab, daemon, office, stranger):
    good = office.code(seconds=60)
    assert [error(redeem(stranger, NOBODYS)) for _ in range(10)] == [(404, "unknown_code")] * 10
    late = redeem(stranger, good)
    assert error(late) == (429, "too_many") and 0 < int(late.headers["retry-after"]) <= 60
    assert redeem(lab.guests[1], good).status == 200


def test_wrong_codes_are_few_of_all_guests_together(lab, office):
    statuses = []
    for _ in range(7):
        guest = lab.guests[0].become_stranger()
        statuses += [redeem(guest, NOBODYS).status for _ in range(10)]
    assert statuses == [404] * 60 + [429] * 10


def test_a_code_that_is_worth_nothing_here_stays_good(lab, make_daemon):
    hall = {"name": "Hall", "device": ["br-hall"], "metric": "bytes", "step_size": 1000}
    office = Office(lab, make_daemon(AWAY, sections={"venue hall": hall}))
    code = office.code(bytes=5_000_000)
    assert error(redeem(lab.guest, code)) == (409, "wrong_metric")
    (row,) = office.codes()
    assert (row["uses_left"], row["bytes"]) == (1, 5_000_000)


def test_sats_are_worth_what_the_first_mint_sells_for_them(lab, make_daemon):
    office = Office(lab, make_daemon(Mint(AWAY, price=3)))
    assert redeem(lab.guest, office.code(sats=8)).json()["allotment"] == 120_000
    assert office.ask("POST", "/connectioncodes", {"sats": 2}).status == 400


def test_a_code_expires_and_is_deleted(lab, office):
    code = office.code(seconds=60, expires=1)
    time.sleep(1.1)
    assert error(redeem(lab.guests[1], code)) == (410, "code_expired")
    kept = office.code(seconds=60)
    row = office.codes()[0]
    assert office.ask("DELETE", f"/connectioncodes/{row['id']}").status == 200
    assert office.ask("DELETE", f"/connectioncodes/{row['id']}").status == 404
    assert error(redeem(lab.guests[1].become_stranger(), kept)) == (404, "unknown_code")


def test_what_is_no_order_is_refused(office):
    orders = [
        {},
        {"seconds": 60, "bytes": 1},
        {"seconds": 0},
        {"seconds": -1},
        {"seconds": 1.5},
        {"seconds": [60]},
        {"bytes": 1000},
        {"seconds": 60, "number": 0},
        {"seconds": 60, "number": 501},
        {"seconds": 60, "number": "many"},
        {"seconds": 60, "number": True},
        {"seconds": 60, "number": "2"},
        {"seconds": "60"},
        {"seconds": 60, "expires": "5"},
        {"seconds": 60, "uses": 0},
        {"seconds": 60, "expires": 0},
        {"seconds": 60, "note": ["x"]},
        {"seconds": 60, "note": "x" * 201},
    ]
    for order in orders:
        assert error(office.ask("POST", "/connectioncodes", order)) == (400, "invalid_input"), order
    assert len(office.ask("POST", "/connectioncodes", {"seconds": 60, "number": 500}).json()["codes"]) == 500
    first = office.ask("GET", "/connectioncodes/list?page=2&limit=100").json()
    assert (len(first["codes"]), first["total"]) == (100, 500)
    for query in ("page=0", "limit=101", "limit=0", "page=x"):
        assert office.ask("GET", f"/connectioncodes/list?{query}").status == 400, query


def test_what_is_no_code_is_refused(lab, daemon):
    for body in (b"", b"[]", b"{}", b'{"code":7}', b'{"code":null}', b"code=x", b"\x00"):
        assert lab.guest.post(REDEEM, body).status == 400, body


def test_the_portal_takes_a_code_where_it_takes_a_ticket(lab, daemon, office):
    code = office.code(seconds=600)

    def typed(guest, text):
        headers = {"Accept": "text/html", "Content-Type": "application/x-www-form-urlencoded"}
        return guest.post(f"http://{ROUTER4}:2121/ticket", f"ticket={text.replace(' ', '+')}".encode(), headers)

    assert "ticket or a code" in lab.guest.get(f"http://{ROUTER4}:2121/?way=ticket", {"Accept": "text/html"}).text
    assert typed(lab.guest, NOBODYS).status == 404 and not lab.guest.online()
    done = typed(lab.guest, code.lower().replace("-", " "))
    assert (done.status, done.headers["location"]) == (303, "/") and lab.guest.online()
    again = typed(lab.guests[1], code)
    assert again.status == 410 and "used already" in again.text and not lab.guests[1].online()


def test_the_shell_makes_lists_and_deletes_codes(lab, daemon):
    made = daemon.data("invite", "create", "--seconds", "90", "--number", "2", "--uses", "3", "--note", "a word")
    assert len(made["codes"]) == 2 and made["codes"][0].keys() == {"id", "code"}
    listed = daemon.data("invite", "list")
    assert listed["total"] == 2 and listed["codes"][0]["created_by"] == "shell"
    assert redeem(lab.guest, made["codes"][0]["code"]).status == 200
    assert daemon.data("invite", "delete", made["codes"][0]["id"])["deleted"] is True
    assert daemon.command("invite", "delete", made["codes"][0]["id"], check=False).code == 1
    assert daemon.command("invite", "create", check=False).code != 0
    assert daemon.command("invite", "create", "--seconds", "1", "--bytes", "1", check=False).code == 2
    told = [(row["what"], row["result"]) for row in daemon.data("audit")]
    assert told == [("invite create", "ok"), ("invite delete", "ok")]


def test_a_code_is_in_no_file_and_no_log(lab, daemon, office):
    code = office.code(seconds=60)
    assert redeem(lab.guest, code).status == 200
    daemon.stop()
    spellings = [spelled.encode() for one in (code, code.replace("-", "")) for spelled in (one, one.lower())]
    key = os.path.join(daemon.state_dir, "invites.key")
    assert os.stat(key).st_mode & 0o777 == 0o600
    for folder, _, names in os.walk(daemon.dir):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                text = file.read()
            assert not any(spelling in text for spelling in spellings), name
    with sqlite3.connect(os.path.join(daemon.state_dir, "store.db")) as db:
        (hashed,) = db.execute("SELECT hash FROM invites").fetchone()
    assert len(hashed) == 64


def test_what_a_code_gave_survives_a_kill_and_the_code_stays_used(lab, daemon, office):
    code = office.code(seconds=600)
    assert redeem(lab.guest, code).status == 200
    daemon.kill()
    daemon.start()
    assert lab.guest.online()
    assert error(redeem(lab.guest, code)) == (410, "code_used")


def test_without_its_key_no_code_is_taken_and_none_is_made(lab, daemon, office):
    code = office.code(seconds=600)
    daemon.stop()
    os.remove(os.path.join(daemon.state_dir, "invites.key"))
    daemon.start()
    assert error(redeem(lab.guest, code)) == (503, "KEY_MISSING")
    assert office.ask("POST", "/connectioncodes", {"seconds": 60}).status == 503
