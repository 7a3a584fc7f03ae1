"""Buyers are told what became of their tickets: signed notices that outlive every crash, and the socket."""

import contextlib
import os
import shutil
import sqlite3
import threading
import time

import pytest

from lab.daemon import Mint
from lab.fake_clock import FakeClock, needs_faketime
from lab.office import Receiver, error, new_id, secret_file, ticket
from lab.place import wait_for
from lab.portal_client import MINT_PROXY, MINT_PROXY_ALIAS, MintProxy


@pytest.fixture
def receiver(lab):
    with Receiver(lab.internet) as made:
        yield made


@pytest.fixture
def office(lab, make_office):
    return make_office(voucher={"notify_secret_file": secret_file(lab), "allow_http": 1})


def code_of(office, one) -> str:
    return office.ask("GET", f"/admin/mints/{one['id']}?reveal=token").json()["code"]


def test_a_failed_ticket_is_told_with_one_id_until_that_is_taken(lab, office, receiver):
    receiver.status = 500
    failed, other = ticket(notify=f"{receiver.url}/hook/7"), ticket()
    assert office.batch(failed, other, funding="treasury").json()["summary"]["failed"] == 2
    told = receiver.wait(lambda told: True)
    assert told == {
        "id": told["id"],
        "type": "ticket_status",
        "ticketId": failed["id"],
        "status": "failed",
        "code": "insufficient_treasury",
        "batchId": told["batchId"],
        "userId": "",
        "amount": 10,
        "unit": "sat",
        "updatedAt": told["updatedAt"],
        "expiresAt": told["expiresAt"],
    }
    assert receiver.paths[0] == "/hook/7"
    assert "could not be made: insufficient_treasury" in office.daemon.log()
    wait_for(lambda: len(receiver.told) >= 2, 20, "it is told again")
    assert office.outbox()["depth"] == 1 and office.outbox()["dead"] == []
    office.daemon.kill()
    receiver.status = 204
    seen = len(receiver.told)
    office.daemon.start()
    wait_for(lambda: len(receiver.told) > seen, 30, "it is told after a crash, too")
    wait_for(lambda: office.outbox()["depth"] == 0, 10, "it was taken")
    assert {told["id"] for told in receiver.told} == {told["id"]}, "one notice, however often it is sent"
    assert {told["ticketId"] for told in receiver.told} == {failed["id"]}, "nobody asked to be told of the other"


def test_what_changed_before_a_crash_is_told_after_it(lab, make_office, receiver):
    section = {"notify_url": f"{receiver.url}/all", "notify_secret_file": secret_file(lab), "allow_http": 1}
    office = make_office(voucher=section)
    receiver.close()
    one = ticket()
    office.batch(one)
    office.daemon.command("voucher", "revoke", one["id"])
    office.daemon.kill()
    receiver.open()
    office.daemon.start()
    states = lambda: [told["status"] for told in receiver.told if told["ticketId"] == one["id"]]
    wait_for(lambda: {"ready", "revoked"} <= set(states()), 60, "both are told")
    wait_for(lambda: office.outbox()["depth"] == 0, 10, "all was taken")
    # A reload without the address: nobody is told any more.
    section.pop("notify_url")
    office.daemon.sections["voucher"] = section
    office.daemon.write_config()
    office.daemon.command("reload")
    wait_for(lambda: office.outbox()["depth"] == 0, 10, "nothing waits")
    other = ticket()
    office.batch(other)
    assert office.outbox()["depth"] == 0 and all(told["ticketId"] != other["id"] for told in receiver.told)


def test_what_nobody_takes_is_given_up_and_shown(lab, office, receiver):
    receiver.close()
    many = [ticket(notify=receiver.url) for _ in range(3)]
    office.batch(*many)
    assert office.outbox()["depth"] == 3
    office.daemon.stop()
    with contextlib.closing(sqlite3.connect(os.path.join(office.daemon.state_dir, "store.db"))) as db:
        db.execute("UPDATE voucher_jobs SET tries = 11, due_ms = 0")
        db.commit()
    office.daemon.start()
    wait_for(lambda: len(office.outbox()["dead"]) == 3, 20, "the twelfth try was the last")
    dead = office.outbox()["dead"]
    assert {one["ticketId"] for one in dead} == {one["id"] for one in many}
    assert {one["error"] for one in dead} == {"unreachable"} and office.outbox()["depth"] == 0
    receiver.open()
    office.daemon.restart()
    late = ticket(notify=receiver.url)
    office.batch(late)
    assert receiver.wait(lambda told: told["ticketId"] == late["id"])
    assert len(receiver.told) == 1, "what was given up is tried no more"
    # Until the operator says so: a reload has it sent once more.
    receiver.status = 500
    assert office.daemon.command("reload").code == 0
    wait_for(lambda: len(receiver.told) == 4, 20, "each is sent")
    wait_for(lambda: len(office.outbox()["dead"]) == 3, 20, "and given up again")
    assert {one["error"] for one in office.outbox()["dead"]} == {"http_500"}
    receiver.status = 200
    assert office.daemon.command("reload").code == 0
    wait_for(lambda: office.outbox() == {"depth": 0, "oldestSeconds": None, "dead": []}, 20, "all were taken")
    assert len(receiver.told) == 7


@needs_faketime
def test_a_voucher_that_expires_is_told_of_then_and_its_code_goes(lab, office, receiver):
    clock = FakeClock(lab)
    office.daemon.stop()
    office.daemon.start(env=clock.env)
    one, other = (ticket(notify=receiver.url, expiresAt=int(time.time()) + life) for life in (230, 3000))
    office.batch(one, other)
    wait_for(lambda: [told["status"] for told in receiver.told] == ["ready", "ready"], 20, "both are there")
    clock.later(245)
    told = receiver.wait(lambda told: told["status"] == "expired", 15)
    assert told["ticketId"] == one["id"] and told["updatedAt"] - told["expiresAt"] < 40
    kept = "SELECT id, state FROM vouchers WHERE sealed IS NOT NULL"
    assert rows(office.daemon, kept) == [(other["id"], "ready")]


def test_one_dead_receiver_keeps_no_other_waiting(lab, office, receiver):
    with Receiver(lab.internet) as silent:
        silent.handle = lambda request: threading.Event().wait(30)
        office.batch(*[ticket(notify=f"{silent.url}/hook") for _ in range(20)])
        one = ticket(notify=receiver.url)
        office.batch(one)
        receiver.wait(lambda told: told["ticketId"] == one["id"], 40)


def test_one_that_is_slow_to_refuse_keeps_no_other_waiting(lab, office, receiver):
    with Receiver(lab.internet) as slow:

        def refuse(request):
            threading.Event().wait(4)
            request.answer(500, b"")

        slow.handle = refuse
        office.batch(*[ticket(notify=f"{slow.url}/hook") for _ in range(20)])
        one = ticket(notify=receiver.url)
        office.batch(one)
        receiver.wait(lambda told: told["ticketId"] == one["id"], 40)


def test_a_ticket_names_no_address_of_the_router_and_none_that_others_can_read(lab, make_office):
    office = make_office(voucher={"notify_secret_file": secret_file(lab)})
    refused = office.batch(ticket(notify="http://shop.example/hook"))
    assert error(refused) == (400, "invalid_input")
    assert refused.json()["error"]["details"][0]["field"] == "tickets[0].notify"
    service = {"ticketIds": [new_id()], "eventId": "x", "userId": "u", "notify": "http://shop.example/hook"}
    assert office.signed("/internal/mint-tickets", service).status in (400, 404)
    for bad in ("ftp://shop.example", "https://user:word@shop.example/", "https://shop.example/?q=1", "x", 7):
        assert office.batch(ticket(notify=bad)).status == 400, bad
    listener = lab.router.listen("127.0.0.1", 0)
    listener.settimeout(0)
    port = listener.getsockname()[1]
    near = [ticket(notify=f"https://127.0.0.1:{port}/x"), ticket(notify="https://192.168.77.1:2125/admin/reload")]
    near.append(ticket(notify="https://[::1]:8443/"))
    assert office.batch(*near).status == 200
    tried = "SELECT COUNT(*) FROM voucher_jobs WHERE tries > 0 AND error_code = 'unreachable'"
    wait_for(lambda: rows(office.daemon, tried) == [(3,)], 20, "all three were looked at")
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_without_a_secret_nothing_is_told(lab, make_office, receiver):
    office = make_office(voucher={"allow_http": 1})
    office.batch(ticket(notify=receiver.url))
    tried = "SELECT COUNT(*) FROM voucher_jobs WHERE tries > 0 AND error_code = 'no_secret'"
    wait_for(lambda: rows(office.daemon, tried) == [(1,)], 20, "it was looked at")
    assert receiver.told == []


def rows(daemon, query) -> list[tuple]:
    copy = os.path.join(daemon.dir, "copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(daemon.state_dir, copy)
    with sqlite3.connect(os.path.join(copy, "store.db")) as db:
        return db.execute(query).fetchall()


def subscribe(socket, id, claim, kind="ticket_status") -> dict:
    socket.send({"type": "subscribe_ticket", "ticket_id": id, "claim": claim})
    return socket.wait(kind) if kind != "error" else socket.receive()


def test_a_socket_is_told_of_each_change_of_a_ticket(lab, office, stranger):
    one = ticket(21)
    code = office.batch(one).json()["successful"][0]["code"]
    with MintProxy(stranger) as socket, MintProxy(lab.guests[1], MINT_PROXY_ALIAS) as other:
        told = subscribe(socket, one["id"], code)
        assert (told["ticket_id"], told["ticketId"], told["status"]) == (one["id"], one["id"], "ready")
        assert subscribe(other, one["id"], code.replace("-", "").lower())["amount"] == 21
        assert stranger.post("http://192.168.77.1:2121/voucher", {"code": code}, timeout=20).status == 200
        assert [each.wait("ticket_status", 5)["status"] for each in (socket, other)] == ["redeemed"] * 2


def test_a_wrong_claim_is_answered_as_an_unknown_ticket_and_vouchers_of_a_socket_are_few(lab, office):
    one = ticket()
    made = office.batch(one, *[ticket() for _ in range(20)]).json()["successful"]
    code = made[0]["code"]
    with MintProxy(lab.guest) as socket:
        answers = [
            subscribe(socket, id, claim, "error")
            for id, claim in [(one["id"], "2222-2222-2222"), (new_id(), code), ("../x", code), (one["id"], "")]
        ]
        assert all(answer == answers[0] for answer in answers) and answers[0]["code"] == "not_found"
        for bad in ({}, {"ticket_id": 7, "claim": code}, {"ticket_id": one["id"]}):
            socket.send({"type": "subscribe_ticket", **bad})
            assert socket.receive()["code"] == "invalid_message"
        for number, voucher in enumerate(made):
            answer = subscribe(socket, voucher["ticketId"], voucher["code"], "error")
            assert answer["type"] == ("ticket_status" if number < 16 else "error"), number
            if number >= 16:
                assert answer["code"] == "rate_limited"
        # The same again is no further one.
        assert subscribe(socket, one["id"], code, "error")["type"] == "ticket_status"


def test_a_ticket_that_waits_for_its_payment_is_told_when_it_is_ready(lab, mint, make_office):
    office = make_office(Mint(mint.url))
    one = ticket(8)
    first = office.batch(one, funding="invoice").json()
    assert first["status"] == "awaiting_payment"
    code = code_of(office, one)
    with MintProxy(lab.guest, MINT_PROXY) as socket:
        assert subscribe(socket, one["id"], code)["status"] == "awaiting_payment"
        mint.pay(first["invoice"])
        assert socket.wait("ticket_status", 30)["status"] == "ready"
        token = office.ask("GET", f"/admin/mints/{one['id']}?reveal=token").json()["token"]
        assert subscribe(socket, one["id"], token)["status"] == "ready", "the token is a claim, too"

