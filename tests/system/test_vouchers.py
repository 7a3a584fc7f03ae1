"""Vouchers: codes that let a guest in once. Made at the counter, printed, redeemed without a mint, and never twice."""

import concurrent.futures
import json
import os
import shutil
import sqlite3
import time

import pytest

from lab import http_client
from lab.daemon import ADMIN_PORT, Mint
from lab.guest import ROUTER4
from lab.internet import AWAY

PORTAL = f"http://{ROUTER4}:2121"
NOBODYS = "2222-2222-2222"
LETTERS = set("23456789ABCDEFGHJKLMNPQRSTUVWXYZ")
HALL = {"name": "Hall", "device": ["br-hall"], "metric": "bytes", "step_size": 1000}
TEXT = {"Accept": "text/html"}


@pytest.fixture
def counter(make_daemon):
    """A daemon that has no mint at all."""
    return make_daemon()


def create(daemon, *order) -> dict:
    return daemon.data("voucher", "create", *order)


def code_of(daemon, *order) -> str:
    (one,) = create(daemon, "1", *order)["vouchers"]
    return one["code"]


def redeem(guest, code, timeout=20.0):
    return guest.post(f"{PORTAL}/voucher", {"code": code}, timeout=timeout)


def typed(guest, code):
    headers = TEXT | {"Content-Type": "application/x-www-form-urlencoded"}
    return guest.post(f"{PORTAL}/voucher", f"code={code.replace(' ', '+')}".encode(), headers)


def error(answer) -> tuple[int, str]:
    assert answer.json()["error"].keys() >= {"code", "message", "request_id"}
    return answer.status, answer.json()["error"]["code"]


def test_a_voucher_lets_a_guest_in_once_without_any_mint(lab, counter):
    made = create(counter, "3", "--time", "1h", "--note", "room 12", "--expires", "30d")
    assert made.keys() == {"batch", "vouchers"} and len(made["vouchers"]) == 3
    one = made["vouchers"][0]
    assert one.keys() == {"id", "code", "venue", "metric", "allotment", "expires_at"}
    assert (one["venue"], one["metric"], one["allotment"]) == ("guest", "milliseconds", 3_600_000)
    assert abs(one["expires_at"] - time.time() - 30 * 86_400) < 120
    assert [len(part) for part in one["code"].split("-")] == [4, 4, 4]
    assert set(one["code"].replace("-", "")) <= LETTERS
    answer = redeem(lab.guest, one["code"].lower().replace("-", " "))
    assert answer.status == 200, answer
    told = answer.json()
    assert told.keys() == {"id", "metric", "allotment", "remaining", "ends_at"}
    assert (told["id"], told["metric"], told["allotment"]) == (one["id"], "milliseconds", 3_600_000)
    assert 3_590_000 < told["remaining"] <= 3_600_000 and lab.guest.online()
    for guest in lab.guests[:2]:
        assert error(redeem(guest, one["code"])) == (410, "voucher_used")
    assert not lab.guests[1].online()
    state = counter.data("status")
    assert state["vouchers_today"] == {"count": 1, "face_sat": 0} and state["sales_today"]["count"] == 0
    shown = counter.data("voucher", "show", one["id"])
    assert (shown["state"], shown["redeemed_by"], shown["note"]) == ("redeemed", lab.guest.mac, "room 12")
    steps = [(step["from"], step["to"]) for step in counter.data("voucher", "history", one["id"])["history"]]
    assert steps == [(None, "ready"), ("ready", "redeemed")]
    (venue,) = counter.data("status")["venues"]
    assert (venue["name"], venue["title"]) == ("guest", "Kibanda Wi-Fi") and len(venue["id"]) == 36
    counter.restart()
    assert counter.data("status")["venues"] == [venue]


def test_what_a_voucher_costs_is_its_price_when_it_was_made(lab, make_daemon):
    daemon = make_daemon(Mint(AWAY, price=3))
    made = create(daemon, "1", "--sat", "8")["vouchers"][0]
    assert (made["metric"], made["allotment"]) == ("sat", 8)
    assert redeem(lab.guest, made["code"]).json()["allotment"] == 120_000
    hour = create(daemon, "1", "--time", "1h")["vouchers"][0]
    assert daemon.data("voucher", "show", hour["id"])["face_sat"] == 180
    assert redeem(lab.guests[1], hour["code"]).status == 200, "the mint is away"
    assert daemon.data("status")["vouchers_today"] == {"count": 2, "face_sat": 188}


def test_a_voucher_that_is_over_says_so(lab, make_daemon):
    daemon = make_daemon(sections={"venue hall": HALL})
    gone = create(daemon, "1", "--time", "1h")["vouchers"][0]
    assert daemon.data("voucher", "revoke", gone["id"]) == {"id": gone["id"], "state": "revoked"}
    assert error(redeem(lab.guest, gone["code"])) == (410, "voucher_revoked")
    short = create(daemon, "1", "--time", "1h", "--expires", "1s")["vouchers"][0]
    hall = create(daemon, "1", "--bytes", "500MB")["vouchers"][0]
    assert (hall["venue"], hall["metric"], hall["allotment"]) == ("hall", "bytes", 500_000_000)
    assert error(redeem(lab.guest, hall["code"])) == (409, "voucher_other_venue")
    assert "Hall" in typed(lab.guest, hall["code"]).text
    time.sleep(max(0.0, short["expires_at"] + 0.1 - time.time()))
    assert error(redeem(lab.guest, short["code"])) == (410, "voucher_expired")
    assert error(redeem(lab.guest, NOBODYS)) == (404, "voucher_unknown")
    rows = {row["id"]: row["state"] for row in daemon.data("voucher", "list")["vouchers"]}
    assert rows == {gone["id"]: "revoked", short["id"]: "expired", hall["id"]: "ready"}
    assert daemon.command("voucher", "revoke", short["id"], check=False).code == 1
    assert daemon.command("voucher", "show", "5b1c0f0e-1111-4aaa-8bbb-000000000001", check=False).code == 1
    for wrong in (
        ["--time", "1h", "--venue", "hall"],
        ["--time", "1h", "--venue", "nowhere"],
        ["--time", "1h", "--bytes", "1MB"],
        ["--sat", "5"],
        ["--time", "0h"],
        ["--expires", "1h"],
    ):
        assert daemon.command("voucher", "create", "1", *wrong, check=False).code != 0, wrong
    assert daemon.command("voucher", "create", "501", "--time", "1h", check=False).code != 0


def test_the_portal_takes_a_code_without_script(lab, counter):
    code = code_of(counter, "--time", "10m")
    home = lab.guest.get(PORTAL, TEXT).text
    assert "I have a voucher" in home
    form = lab.guest.get(f"{PORTAL}/?voucher={code}", TEXT).text
    assert f">{code}</textarea>" in form and 'action="/voucher"' in form
    assert "Nina vocha" in lab.guests[1].get(f"{PORTAL}/?voucher={code}&lang=sw", TEXT).text
    wrong = typed(lab.guest, NOBODYS)
    assert wrong.status == 404 and "no voucher with this code" in wrong.text and not lab.guest.online()
    done = typed(lab.guest, code.lower().replace("-", " "))
    assert (done.status, done.headers["location"]) == (303, "/") and lab.guest.online()
    again = typed(lab.guests[1], code)
    assert again.status == 410 and "imeshatumika" in again.text
    for body in (b"", b"[]", b"{}", b'{"code":7}', b'{"code":null}', b"\x00"):
        assert lab.guest.post(f"{PORTAL}/voucher", body).status == 400, body


def test_of_a_hundred_parallel_uses_of_one_code_one_is_granted(lab, counter):
    code = code_of(counter, "--time", "10m")
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda number: redeem(lab.guests[number % 2], code), range(100)))
    assert sorted(answer.status for answer in answers) == [200] + [410] * 99
    (session,) = counter.data("sessions")
    assert session["allotment_seconds"] == 600


def test_a_crowd_redeems_at_once(lab, counter):
    codes = [one["code"] for one in create(counter, "200", "--time", "1m")["vouchers"]]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda at: redeem(lab.guests[at % 2], codes[at]), range(200)))
        took = time.monotonic() - began
    assert [answer.status for answer in answers] == [200] * 200, took
    assert sum(session["allotment_seconds"] for session in counter.data("sessions")) == 200 * 60
    assert {row["state"] for row in counter.data("voucher", "list", "--limit", "100")["vouchers"]} == {"redeemed"}


def test_kill_9_at_any_moment_of_a_redeem_counts_it_once(lab, counter):
    codes = [one["code"] for one in create(counter, "12", "--time", "1m")["vouchers"]]
    granted = 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for number, code in enumerate(codes):
            sent = pool.submit(redeem, lab.guest, code)
            time.sleep(number * 0.002)
            counter.kill()
            counter.start()
            with_answer = not sent.exception() and sent.result().status == 200
            again = redeem(lab.guest, code)
            assert again.status in (200, 410), again
            assert not (with_answer and again.status == 200), "an acknowledged redeem counts once"
            granted += 60
            sessions = counter.data("sessions")
            assert [session["allotment_seconds"] for session in sessions] == [granted]
            assert lab.guest.mac in counter.paid_macs()


def test_guesses_are_few_and_slow_no_honest_guest(lab, counter, stranger):
    good = [one["code"] for one in create(counter, "2", "--time", "1m")["vouchers"]]
    assert [error(redeem(stranger, NOBODYS)) for _ in range(10)] == [(404, "voucher_unknown")] * 10
    late = redeem(stranger, good[0])
    assert error(late) == (429, "too_many") and 0 < int(late.headers["retry-after"]) <= 60
    statuses = []
    for _ in range(6):
        stranger.become_stranger()
        statuses += [redeem(stranger, NOBODYS).status for _ in range(10)]
    assert statuses == [404] * 50 + [429] * 10
    began = time.monotonic()
    assert redeem(lab.guests[1], good[0]).status == 200, "whatever others guess"
    assert time.monotonic() - began < 1.0


def test_a_sheet_is_printed_and_shows_no_used_code(lab, counter):
    with open(os.path.join(counter.dir, "wireless"), "w") as file:
        file.write("config wifi-iface 'one'\n\toption network 'guests'\n\toption ssid 'Kibanda & Co'\n")
    with open(os.path.join(counter.dir, "network"), "w") as file:
        file.write("config interface 'guests'\n\toption device 'br-guest'\n")
    page = os.path.join(counter.dir, "sheet.html")
    made = create(counter, "4", "--time", "1h", "--print", page)
    assert made.keys() == {"batch", "vouchers"} and os.stat(page).st_mode & 0o777 == 0o600
    with open(page) as file:
        sheet = file.read()
    codes = [one["code"] for one in made["vouchers"]]
    assert all(sheet.count(code) == 1 for code in codes) and sheet.count("<svg") == 4
    assert "Kibanda &amp; Co" in sheet and "Kibanda Wi-Fi" in sheet and PORTAL in sheet
    assert redeem(lab.guest, codes[0]).status == 200
    again = counter.data("voucher", "sheet", made["batch"])
    assert again["vouchers"] == 3 and codes[0] not in again["page"] and codes[1] in again["page"]
    strip = counter.command("voucher", "sheet", made["batch"], "--strip").out
    assert strip.startswith("<!DOCTYPE html>") and "58mm" in strip and codes[3] in strip
    shown = counter.data("voucher", "show", made["vouchers"][1]["id"])
    listed = json.dumps([counter.data("voucher", "list"), shown])
    assert not any(code in listed for code in codes)


def test_operators_make_and_revoke_as_their_role_allows(lab, counter):
    with open(os.path.join(counter.state_dir, "admin.token")) as file:
        token = file.read().strip()

    def ask(method, path, body=None, headers=None):
        sent = json.dumps(body).encode() if body is not None else None
        socket = lab.router.connect("127.0.0.1", ADMIN_PORT)
        headers = {"Authorization": f"Bearer {token}"} if headers is None else headers
        return http_client.exchange(socket, method, path, "127.0.0.1", headers, sent)

    made = ask("POST", "/admin/vouchers", {"number": 2, "time": "30m", "venue": "guest"})
    assert made.status == 200, made
    one = made.json()["vouchers"][0]
    assert ask("GET", "/admin/vouchers").json()["total"] == 2
    assert ask("POST", f"/admin/vouchers/{one['id']}/revoke").json()["state"] == "revoked"
    assert ask("GET", f"/admin/vouchers/{one['id']}").json()["created_by"] == "token"
    assert ask("POST", "/admin/vouchers", {"number": 1, "time": "30m"}, {}).status == 401
    for body in ({}, {"time": "x"}, {"time": "1h", "number": 501}, {"time": "1h", "number": -1}, {"sat": 1e400}):
        answer = ask("POST", "/admin/vouchers", body)
        assert answer.status == 400 and answer.json()["error"]["code"], (body, answer)
    assert ask("GET", "/admin/vouchers/..%2f..%2fpasswd").status == 404
    told = [(row["what"], row["result"]) for row in counter.data("audit")]
    assert ("voucher create", "ok") in told and ("voucher revoke", "ok") in told


def test_a_stolen_database_redeems_nothing_and_a_code_is_in_no_file(lab, counter):
    codes = [one["code"] for one in create(counter, "3", "--time", "1h")["vouchers"]]
    assert redeem(lab.guest, codes[0]).status == 200
    counter.stop()
    key = os.path.join(counter.state_dir, "vouchers.key")
    assert os.stat(key).st_mode & 0o777 == 0o600
    plain = codes + [code.replace("-", "") for code in codes]
    spellings = [spelled.encode() for one in plain for spelled in (one, one.lower())]
    for folder, _, names in os.walk(counter.dir):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read()
                assert not any(spelled in content for spelled in spellings), path
    rows = sqlite3.connect(os.path.join(counter.state_dir, "store.db"))
    sealed = dict(rows.execute("SELECT state, COUNT(sealed) FROM vouchers GROUP BY state"))
    rows.close()
    assert sealed == {"redeemed": 0, "ready": 2}, "what was used has no code"
    shutil.move(key, key + ".gone")
    counter.start()
    stolen = redeem(lab.guest, codes[1])
    assert stolen.status == 503 and error(stolen)[1] == "KEY_MISSING"
    assert not os.path.exists(key), "it is never made anew"


def test_what_is_one_tenants_is_unknown_to_another(lab, make_daemon):
    daemon = make_daemon(
        Mint(AWAY),
        sections={
            "venue hall": {**HALL, "metric": "milliseconds", "step_size": 60_000},
            "tenant hotel": {"venue": ["guest"]},
            "tenant club": {"venue": ["hall"]},
        },
    )
    (id,) = [venue["id"] for venue in daemon.data("status")["venues"] if venue["name"] == "hall"]
    hall = create(daemon, "1", "--time", "1h", "--venue", id)["vouchers"][0]
    assert hall["venue"] == "hall"
    own = create(daemon, "1", "--time", "1h", "--venue", "guest")["vouchers"][0]
    assert error(redeem(lab.guest, hall["code"])) == (404, "voucher_unknown")
    assert redeem(lab.guest, own["code"]).status == 200
    assert daemon.data("voucher", "list")["total"] == 2
    with open(os.path.join(daemon.state_dir, "admin.token")) as file:
        bearer = {"Authorization": f"Bearer {file.read().strip()}"}

    def ask(method, path, body=None):
        socket = lab.router.connect("127.0.0.1", ADMIN_PORT)
        sent = json.dumps(body).encode() if body is not None else None
        return http_client.exchange(socket, method, path, "127.0.0.1", bearer, sent)

    order = {"time": "1h", "venue": id}
    for method, body in (("GET", None), ("POST", order)):
        assert error(ask(method, "/admin/vouchers", body)) == (401, "no_tenant")
        assert error(ask(method, "/admin/vouchers?tenant_id=inn", body)) == (404, "not_found")
    assert error(ask("POST", "/admin/vouchers?tenant_id=hotel", order)) == (404, "venue_unknown")
    listed = ask("GET", "/admin/vouchers?tenant_id=club").json()["vouchers"]
    assert [row["id"] for row in listed] == [hall["id"]]
    assert error(ask("GET", f"/admin/vouchers/{hall['id']}?tenant_id=hotel")) == (404, "voucher_unknown")
    daemon.stop()
    rows = sqlite3.connect(os.path.join(daemon.state_dir, "store.db"))
    assert sorted(rows.execute("SELECT tenant, venue FROM vouchers")) == [("club", "hall"), ("hotel", "guest")]
    rows.close()
