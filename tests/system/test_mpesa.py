"""Paying with M-Pesa, at a Daraja as strict as the real one: the phone is asked once, the guest is online, and after
every test what customers have paid in is what the books say.
"""

import concurrent.futures
import json
import os
import re
import time
from urllib.parse import urlencode

import pytest

from lab import http_client
from lab.crash import at_commit
from lab.darajasim import DarajaSim
from lab.fake_clock import FakeWall, needs_faketime
from lab.guest import ROUTER4
from lab.place import wait_for
from lab.shillings import CALLBACK, PACE, PUBLIC, credentials, sections

PORTAL = f"http://{ROUTER4}:2121"
MPESA = f"{PORTAL}/mpesa"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PHONE, TYPED = "254712345678", "0712 345 678"
OTHER, OTHER_TYPED = "254110345678", "+254 110 345 678"


class Till:
    """A daemon that sells for shillings, and the simulator."""

    def __init__(self, lab, daemon, sim) -> None:
        self.lab, self.daemon, self.sim = lab, daemon, sim

    def order(self, guest, phone=TYPED, price="1h", headers=None):
        return guest.post(MPESA, {"price": price, "phone": phone}, headers)

    def ordered(self, guest, *args, **kwargs) -> str:
        answer = self.order(guest, *args, **kwargs)
        assert answer.status == 201, answer
        return answer.json()["order"]

    def look(self, guest, order) -> dict:
        answer = guest.get(f"{MPESA}/{order}")
        assert answer.status == 200, answer
        return answer.json()

    def becomes(self, guest, order, *states, limit=15) -> dict:
        wait_for(lambda: self.look(guest, order)["state"] in states, limit, f"{order} is {states}: {self.row(order)}")
        return self.look(guest, order)

    def row(self, order) -> dict:
        return self.daemon.data("fiat", "order", order)

    def history(self, order) -> list[str]:
        return [step["state"] for step in self.row(order)["history"]]

    def balances(self) -> dict[str, int]:
        return {row["account"]: row["balance"] for row in self.daemon.data("fiat", "ledger")["balances"]}

    def suspense(self) -> list[dict]:
        return self.daemon.data("fiat", "suspense")["suspense"]

    def pushes(self) -> int:
        return self.sim.count("processrequest")

    def balance(self) -> None:
        """The oracle: what came in is what the books have, and every transaction is even."""
        entries = self.daemon.data("fiat", "ledger")["entries"]
        sums: dict = {}
        for entry in entries:
            key = entry["txn"], entry["unit"]
            sums[key] = sums.get(key, 0) + entry["delta"]
        assert not any(sums.values()), sums
        wait_for(
            lambda: self.balances().get("mpesa_utility", 0) == self.sim.paid_in,
            10,
            f"the books are right: {self.balances()} {self.sim.paid_in} {self.suspense()}",
        )

    def call_back(self, token, body) -> http_client.Answer:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return http_client.exchange(self.lab.router.connect(*PUBLIC), "POST", f"/cb/{token}", "cb", {}, sent)


@pytest.fixture
def make_till(lab, make_daemon):
    made = []

    def make(**options) -> Till:
        sim = DarajaSim(lab.router, "127.0.0.1", speed=PACE)
        sim.routes[CALLBACK.removesuffix("/cb")] = PUBLIC
        daemon = make_daemon(sections=sections(lab, sim.url, **options))
        made.append(Till(lab, daemon, sim))
        return made[-1]

    yield make
    for till in made:
        if till.daemon.running:
            till.balance()
            till.daemon.must_be_sound()
        for phone in ("712345678", "110345678"):
            assert phone not in till.daemon.log(), "no phone number is in the log"
        till.sim.close()


@pytest.fixture
def till(make_till):
    """Daraja is asked only: nobody can call this router."""
    return make_till()


@pytest.fixture
def direct(make_till):
    """Daraja calls this router."""
    return make_till(mode="direct")


def error(answer) -> tuple[int, str]:
    return answer.status, answer.json()["error"]["code"]


# A sale.


def test_a_guest_pays_by_phone_and_is_online_without_a_callback(till, lab):
    answer = till.order(lab.guest)
    told = answer.json()
    assert answer.status == 201 and told.keys() == {"order", "state", "amount", "phone", "expires_at"}
    assert (told["amount"], told["phone"]) == (20, "***678") and told["state"] in ("created", "pending")
    assert abs(told["expires_at"] - time.time() - 900 / PACE) < 5
    seen = till.becomes(lab.guest, told["order"], "granted")
    assert (seen["allotment"], seen["metric"]) == (3_600_000, "milliseconds") and seen["message"]
    assert lab.guest.online() and not lab.guests[1].online()
    assert lab.guests[1].get(f"{MPESA}/{told['order']}").status == 404, "another device's order"
    assert till.history(told["order"]) == ["created", "sending", "pending", "paid", "granted"]
    assert till.pushes() == 1 and till.balances()["access_sales"] == -20
    row = till.row(told["order"])
    assert (row["kind"], row["unit"], row["phone"], row["amount"]) == ("access", "KES", "***678", 20)
    (listed,) = till.daemon.data("fiat", "orders")["orders"]
    assert listed["order"] == told["order"] and till.suspense() == []
    assert till.daemon.command("fiat", "order", "TG00000000", check=False).code == 1
    status = till.daemon.status()["data"]
    assert status["mpesa"]["ok"] and status["jobs"]["count"] == 0
    sent = next(seen.body for seen in till.sim.requests if "processrequest" in seen.path)
    assert sent["AccountReference"] == told["order"] and len(told["order"]) <= 12


def test_the_portal_sells_without_script_in_both_languages(till, lab):
    for lang, words in (("sw", "Lipa kwa M-Pesa"), ("en", "Pay with M-Pesa")):
        page = lab.guest.get(f"{PORTAL}/?lang={lang}", {"Accept": "text/html"}).text
        assert words in page and 'action="/mpesa"' in page and "KES 20" in page and "KES 100" in page
    wrong = lab.guest.post(MPESA, urlencode({"price": "1h", "phone": "0202 345 678"}).encode(), FORM)
    assert wrong.status == 400 and "Kenyan mobile number" in wrong.text and "0202 345 678" in wrong.text
    till.sim.script(PHONE, {"scenario": "ok", "delay": 20})
    done = lab.guest.post(MPESA, urlencode({"price": "1h", "phone": TYPED}).encode(), FORM)
    assert (done.status, done.headers["location"]) == (303, "/")
    page = lab.guest.get(PORTAL + "/", {"Accept": "text/html"}).text
    assert "***678" in page and "http-equiv=\"refresh\"" in page
    wait_for(lab.guest.online, 10, "the guest is online")
    assert "60" in lab.guest.get(PORTAL + "/", {"Accept": "text/html"}).text
    assert "already" not in page.lower(), "no receipts are known by asking alone"


def test_what_is_no_order_is_refused(till, lab):
    for phone in ("", "0202345678", "255712345678", "07123456789", "2540712345678", "x", None, [], "0712345678;1"):
        assert error(till.order(lab.guest, phone)) == (400, "bad_phone"), phone
    for price in ("", "2h", None, 1):
        assert error(till.order(lab.guest, price=price)) == (400, "bad_price"), price
    for body in (b"", b"[]", b"7", b"{", b"\xff", b'{"price":' * 1500):
        assert lab.guest.post(MPESA, body).status == 400, body[:20]
    assert till.pushes() == 0
    foreign = lab.guest.post(MPESA, {"price": "1h", "phone": TYPED}, {"Origin": "https://evil.example"})
    assert foreign.status == 403 and till.pushes() == 0


@pytest.mark.parametrize(
    ("scenario", "code", "word"),
    [
        ("cancel", "1032", "cancelled"),
        ("wrong_pin", "2001", "PIN"),
        ("no_funds", "1", "money"),
        ("unreachable", "1037", "reached"),
        ("expired", "1019", "reached"),
    ],
)
def test_a_prompt_that_comes_to_nothing_is_said_in_its_own_words(till, lab, scenario, code, word):
    till.sim.script(PHONE, scenario)
    order = till.ordered(lab.guest)
    assert word in till.becomes(lab.guest, order, "failed")["message"]
    assert till.row(order)["code"] == code and not lab.guest.online()
    assert word in lab.guest.get(PORTAL + "/", {"Accept": "text/html"}).text
    busy = till.order(lab.guest)
    assert error(busy) == (429, "phone_busy") and int(busy.headers["retry-after"]) >= 1
    till.ordered(lab.guest, OTHER_TYPED)


@pytest.mark.parametrize(
    ("codes", "words"), [(("2", "3", "4", "8"), "limit of this account"), (("1025", "9999"), "could not be shown")]
)
def test_limits_and_prompts_that_cannot_be_shown_are_said_and_another_phone_is_asked(till, lab, codes, words):
    for number, code in enumerate(codes):
        till.sim.script(f"25471100000{number}", {"scenario": "result", "code": code})
        order = till.ordered(lab.guest, f"071100000{number}")
        assert words in till.becomes(lab.guest, order, "failed")["message"]
        assert till.row(order)["code"] == code
    assert till.daemon.status()["data"]["mpesa"]["ok"]


@pytest.mark.parametrize("code", ["2028", "SFC_IC0003", "8006"])
def test_codes_that_are_the_operators_stop_prompts_until_a_reload_and_who_was_asked_may_pay(till, lab, code):
    till.sim.script(OTHER, {"scenario": "ok", "delay": 30})
    asked = till.ordered(lab.guests[1], OTHER_TYPED)
    till.sim.script(PHONE, {"scenario": "result", "code": code})
    order = till.ordered(lab.guest)
    assert "cannot be used" in till.becomes(lab.guest, order, "failed")["message"]
    told = till.daemon.status()["data"]["mpesa"]
    assert not told["ok"] and code in told["trouble"]
    assert [line for line in till.daemon.log().splitlines() if "ERROR" in line and code in line]
    next_order = till.ordered(lab.guest, "0722 345 678")
    till.becomes(lab.guest, next_order, "failed")
    assert till.row(next_order)["code"] == code and till.pushes() == 2, "that phone is not asked"
    till.becomes(lab.guests[1], asked, "granted")
    till.daemon.command("reload")
    assert till.daemon.status()["data"]["mpesa"]["ok"]
    till.becomes(lab.guest, till.ordered(lab.guest, "0722 345 678"), "granted")


def test_a_code_that_no_list_has_is_pending_until_all_looks_are_over(make_till, lab):
    till = make_till(pace=100)
    till.sim.script(PHONE, {"scenario": "result", "code": "4242"})
    order = till.ordered(lab.guest)
    wait_for(lambda: till.sim.count("stkpushquery") > 9, 10, "it is asked about")
    assert till.look(lab.guest, order)["state"] == "pending"
    till.becomes(lab.guest, order, "failed")
    assert till.row(order)["code"] == "4242" and not lab.guest.online()


def test_a_till_is_paid_by_buy_goods(make_till, lab):
    till = make_till(type="till", till="890000")
    till.becomes(lab.guest, till.ordered(lab.guest), "granted")
    (sent,) = [seen.body for seen in till.sim.requests if "processrequest" in seen.path]
    assert (sent["TransactionType"], sent["PartyB"]) == ("CustomerBuyGoodsOnline", "890000")
    assert sent["BusinessShortCode"] == "174379"


def test_success_after_1037_gives_access(till, lab):
    till.sim.script(PHONE, "late_success_after_1037")
    order = till.ordered(lab.guest)
    till.becomes(lab.guest, order, "failed")
    till.becomes(lab.guest, order, "granted")
    assert lab.guest.online()
    assert till.history(order) == ["created", "sending", "pending", "failed", "paid", "granted"]


@pytest.mark.parametrize("scenario", ["pending_500", "pending_4999", "pending_text"])
def test_pending_has_three_shapes_and_none_is_a_failure(till, lab, scenario):
    till.sim.script(PHONE, scenario)
    order = till.ordered(lab.guest)
    till.becomes(lab.guest, order, "granted")
    assert "failed" not in till.history(order)


def test_money_that_comes_after_all_looks_waits_for_its_guest(make_till, lab):
    till = make_till(mode="direct", pace=100)
    till.sim.script(PHONE, {"scenario": "late", "delay": 120})
    order = till.ordered(lab.guest)
    wait_for(lambda: till.row(order)["state"] == "failed", 15, "all looks came to nothing")
    wait_for(lambda: till.sim.paid_in == 20, 15, "it is paid")
    wait_for(lambda: till.row(order)["state"] == "late_paid", 10, "it is found by the callback")
    assert not lab.guest.online() and till.balances()["claims"] == -20
    assert till.becomes(lab.guest, order, "granted") and lab.guest.online()
    assert till.balances()["claims"] == 0


def test_daraja_that_is_away_for_all_looks_is_asked_until_it_has_answered(make_till, lab):
    till = make_till(pace=100)
    till.sim.script(PHONE, {"scenario": "ok", "delay": 30})
    order = till.ordered(lab.guest)
    till.becomes(lab.guest, order, "pending")
    wait_for(lambda: till.history(order)[-1] == "pending", 5, "the phone is asked")
    till.sim.close()
    wait_for(lambda: till.row(order)["state"] == "failed", 15, "all looks came to nothing")
    till.sim.open()
    till.becomes(lab.guest, order, "granted")
    assert lab.guest.online() and till.pushes() == 1
    assert till.history(order)[2:] == ["pending", "failed", "late_paid", "paid", "granted"]
    assert till.balances()["access_sales"] == -20


def test_money_that_came_late_is_given_after_a_restart_and_another_order(make_till, lab):
    till = make_till(mode="direct", pace=100)
    till.sim.script(PHONE, {"scenario": "late", "delay": 120})
    till.sim.script(OTHER, "never")
    order = till.ordered(lab.guest)
    wait_for(lambda: till.row(order)["state"] == "late_paid", 25, "it is paid late")
    till.ordered(lab.guest, OTHER_TYPED)
    till.daemon.restart()
    assert not lab.guest.online()
    lab.guest.get(PORTAL + "/", {"Accept": "text/html"})
    wait_for(lab.guest.online, 5, "the guest has what it paid for")
    wait_for(lambda: till.row(order)["state"] == "granted", 5, "the order is over")


# One order, one prompt.


def test_the_same_question_is_one_order(till, lab):
    till.sim.script(PHONE, "never")
    key = {"Idempotency-Key": "q1"}
    order = till.ordered(lab.guest, headers=key)
    assert till.ordered(lab.guest, headers=key) == order and till.ordered(lab.guest) == order
    assert error(till.order(lab.guest, OTHER_TYPED, headers=key)) == (409, "idempotency_conflict")
    for bad in ("q" * 256, ""):
        refused = till.order(lab.guest, headers={"Idempotency-Key": bad})
        assert error(refused) == (400, "idempotency_key_invalid")
    assert error(till.order(lab.guest, price="day")) == (409, "order_open")
    wait_for(till.pushes, 5, "the phone is asked")
    assert error(till.order(lab.guests[1])) == (429, "phone_busy")
    till.becomes(lab.guest, order, "pending")
    assert till.pushes() == 1


def test_many_at_once_ask_a_phone_once(till, lab):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: till.order(lab.guests[number % 2]), range(50)))
    assert {answer.status for answer in answers} <= {201, 429}
    assert len({answer.json()["order"] for answer in answers if answer.status == 201}) == 1
    wait_for(lambda: till.sim.paid_in == 20, 10, "it is paid once")
    assert till.pushes() == 1


def test_a_phone_is_asked_so_often_a_day_also_after_a_restart(make_till, lab):
    till = make_till(orders_per_phone=1)
    order = till.ordered(lab.guest)
    till.becomes(lab.guest, order, "granted")
    till.daemon.restart()
    limited = till.order(lab.guests[1])
    assert error(limited) == (429, "phone_limit") and int(limited.headers["retry-after"]) > 3600
    assert till.pushes() == 1


# Answers that are lost, and other bad luck.


LOST = ["drop_response_after_accept", "busy_after_accept", "html_502", "truncated_json", "nested", "huge"]


@pytest.mark.parametrize("scenario", LOST)
def test_a_lost_answer_is_found_by_its_callback_and_never_sent_again(direct, lab, scenario):
    direct.sim.script(PHONE, scenario)
    order = direct.ordered(lab.guest)
    direct.becomes(lab.guest, order, "granted")
    assert lab.guest.online() and direct.pushes() == 1
    assert "unknown" in direct.history(order)


TOO_MUCH = [429, "400.002.02", "Bad Request - Invalid rate of requests"]
TROUBLE = [503, "400.002.02", "Bad Request - Invalid answer of a server behind"]


def test_of_too_much_asked_nothing_is_done_and_the_phone_is_asked_a_little_later(till, lab):
    till.sim.script(PHONE, {"scenario": "error", "error": TOO_MUCH}, "ok")
    order = till.ordered(lab.guest)
    till.becomes(lab.guest, order, "granted")
    assert till.pushes() == 2 and not {"failed", "unknown"} & set(till.history(order))
    assert till.daemon.status()["data"]["mpesa"]["ok"]


def test_trouble_of_a_server_is_a_lost_answer_whatever_its_text_says(direct, lab):
    direct.sim.script(PHONE, {"scenario": "busy_after_accept", "error": TROUBLE})
    order = direct.ordered(lab.guest)
    direct.becomes(lab.guest, order, "granted")
    assert direct.pushes() == 1 and "unknown" in direct.history(order)


def test_a_lost_answer_is_found_in_the_list_of_payments(make_till, lab):
    till = make_till(pull=1)
    till.sim.script(PHONE, "drop_response_after_accept")
    order = till.ordered(lab.guest)
    assert "do not pay again" in till.becomes(lab.guest, order, "unknown")["message"]
    till.becomes(lab.guest, order, "granted")
    assert till.pushes() == 1 and till.row(order)["receipt"]


def test_the_list_of_payments_is_registered_once_by_the_operator_s_number(make_till, lab):
    till = make_till(pull=1, pull_number="254722000000")
    till.sim.settings.pull = False
    till.sim.script(PHONE, "drop_response_after_accept")
    till.becomes(lab.guest, till.ordered(lab.guest), "granted")
    registered = lambda: [seen.body for seen in till.sim.requests if "pulltransactions/v1/register" in seen.path]
    wanted = {"ShortCode": "174379", "RequestType": "Pull", "NominatedNumber": "254722000000", "CallBackURL": CALLBACK}
    assert registered() == [wanted]
    till.daemon.command("reload")
    till.sim.script(OTHER, "drop_response_after_accept")
    till.becomes(lab.guests[1], till.ordered(lab.guests[1], OTHER_TYPED), "granted")
    assert registered() == [wanted], "not again after a reload"


def test_without_a_number_the_list_is_registered_by_nobody(make_till, lab):
    till = make_till(pull=1)
    till.sim.settings.pull = False
    till.sim.script(PHONE, "drop_response_after_accept")
    order = till.ordered(lab.guest)
    asked = lambda: [seen for seen in till.sim.requests if "pulltransactions" in seen.path]
    wait_for(asked, 30, "the list is asked for")
    assert {seen.status for seen in asked()} == {400} and not [seen for seen in asked() if "register" in seen.path]
    till.sim.settings.pull = True
    till.becomes(lab.guest, order, "granted")


def test_the_list_of_payments_is_asked_for_no_faster_than_all_else(make_till, lab):
    till = make_till(pull=1)
    till.sim.settings.pull_page = 3
    till.sim.script(None, *["drop_response_after_accept"] * 2)
    orders = [till.ordered(lab.guest), till.ordered(lab.guests[1], OTHER_TYPED)]
    for number in range(27):
        till.sim.pay(OTHER, 10 + number, "nobody")
    for guest, order in zip(lab.guests, orders, strict=False):
        till.becomes(guest, order, "granted")
    asked = [seen for seen in till.sim.requests if "pulltransactions/v1/query" in seen.path]
    assert len(asked) > 8 and asked[-1].at - asked[0].at > (len(asked) - 2) / PACE, "one a second of this time"
    assert sum(seen.body["OffSetValue"] == "0" for seen in asked) <= 2, "each order has it asked for once at most"


def test_money_without_an_order_is_put_aside(make_till, lab):
    till = make_till(pull=1)
    till.sim.script(PHONE, "drop_response_after_accept")
    receipt = till.sim.pay(OTHER, 35, "nobody")
    till.ordered(lab.guest)
    wait_for(till.suspense, 15, "it is found")
    (row,) = till.suspense()
    assert (row["receipt"], row["amount"], row["unit"]) == (receipt, 35, "KES") and row["reason"]


def test_a_token_that_another_router_has_killed_is_had_anew(till, lab):
    till.sim.kill_tokens()
    till.becomes(lab.guest, till.ordered(lab.guest), "granted")
    till.sim.kill_tokens()
    till.sim.settings.token_life_as_text = True
    till.becomes(lab.guests[1], till.ordered(lab.guests[1], OTHER_TYPED), "granted")
    assert till.pushes() >= 2 and till.sim.paid_in == 40


@pytest.mark.parametrize("wrong", ["passkey", "consumer_secret"])
def test_wrong_credentials_fail_are_told_and_are_read_again_at_a_reload(till, lab, wrong):
    good = dict(till.daemon.sections["mpesa"])
    till.daemon.sections["mpesa"] |= credentials(lab, **{wrong: "wrong"})
    till.daemon.write_config()
    till.daemon.command("reload")
    order = till.ordered(lab.guest)
    till.becomes(lab.guest, order, "failed")
    told = till.daemon.status()["data"]["mpesa"]
    assert not told["ok"] and "credentials" in told["trouble"]
    till.daemon.sections["mpesa"] = good
    till.daemon.write_config()
    till.daemon.command("reload")
    till.becomes(lab.guest, till.ordered(lab.guest), "granted")
    assert till.daemon.status()["data"]["mpesa"]["ok"]


def test_daraja_that_is_away_costs_nothing_and_is_tried_for_a_while(till, lab):
    till.sim.close()
    order = till.ordered(lab.guest)
    time.sleep(0.5)
    assert till.look(lab.guest, order)["state"] in ("created", "pending")
    till.sim.open()
    till.becomes(lab.guest, order, "granted")
    assert till.pushes() == 1


@needs_faketime
def test_while_the_clock_is_not_set_nothing_is_sold_and_no_call_leaves(make_till, lab):
    clock = FakeWall(lab)
    till = make_till()
    till.daemon.stop()
    clock.write("@1970-01-02 00:00:00")
    till.daemon.start(env=clock.env)
    before = len(till.sim.requests)
    assert error(till.order(lab.guest)) == (503, "clock_not_set")
    assert len(till.sim.requests) == before and not till.daemon.status()["data"]["mpesa"]["ok"]
    clock.write("+0")
    till.becomes(lab.guest, till.ordered(lab.guest), "granted")


# Callbacks.


def token_of(till) -> str:
    sent = [seen.body for seen in till.sim.requests if "processrequest" in seen.path]
    return sent[-1]["CallBackURL"].rsplit("/", 1)[1]


def callback(checkout, code=0, amount=20, receipt="SG632NMUAB") -> dict:
    items = [{"Name": "Amount", "Value": float(amount)}, {"Name": "MpesaReceiptNumber", "Value": receipt}]
    said = {"CheckoutRequestID": checkout, "ResultCode": code, "ResultDesc": "x"}
    return {"Body": {"stkCallback": said | {"CallbackMetadata": {"Item": items}}}}


def test_a_forged_callback_opens_nothing(direct, lab):
    direct.sim.script(PHONE, "never")
    order = direct.ordered(lab.guest)
    wait_for(lambda: direct.history(order)[-1] == "pending", 5, "the phone is asked")
    (payment,) = direct.sim.payments.values()
    for token in ("", "x", "0" * 32, "0" * 500, "../x"):
        assert direct.call_back(token, callback(payment.checkout)).status == 404, token
    (token,) = [token_of(direct)]
    for body in (b"", b"<html>", b"[" * 60_000, b"{}", callback("ws_CO_1")):
        assert direct.call_back(token, body).status in (200, 400)
    assert direct.call_back(token, b"x" * 70_000).status == 413
    for place in ((ROUTER4, 2121), (ROUTER4, 2122)):
        sock = lab.guest.connect(*place)
        assert http_client.exchange(sock, "POST", f"/cb/{token}", "x", {}, b"{}").status in (404, 405)
    assert direct.call_back(token, callback(payment.checkout)).status == 200, "all of it right, and not true"
    time.sleep(1)
    assert direct.look(lab.guest, order)["state"] == "pending" and not lab.guest.online()
    assert direct.balances() == {}, "what is not confirmed is in no book"


def test_fifty_callbacks_at_once_count_once(direct, lab):
    direct.sim.script(PHONE, {"scenario": "dup", "callbacks": 3})
    order = direct.ordered(lab.guest)
    direct.becomes(lab.guest, order, "granted")
    (payment,) = direct.sim.payments.values()
    body = callback(payment.checkout, receipt=payment.receipt)
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: direct.call_back(token_of(direct), body), range(50)))
    assert {answer.status for answer in answers} == {200} and answers[0].json()["ResultCode"] == 0
    assert direct.daemon.data("sessions")[0]["allotment_seconds"] == 3600
    assert direct.row(order)["receipt"] == payment.receipt


def test_another_amount_never_settles(direct, lab):
    direct.sim.script(PHONE, "wrong_amount")
    order = direct.ordered(lab.guest)
    direct.becomes(lab.guest, order, "refund_due")
    assert not lab.guest.online()
    (row,) = direct.suspense()
    assert row["amount"] == 1 and row["receipt"] == direct.row(order)["receipt"]
    assert direct.balances() == {"mpesa_utility": 1, "suspense": -1}


@pytest.mark.parametrize("scenario", ["string_numbers", "balance_without_value", "items_reversed", "object_for_array"])
def test_callbacks_in_every_shape_are_read(direct, lab, scenario):
    direct.sim.script(PHONE, scenario)
    direct.becomes(lab.guest, direct.ordered(lab.guest), "granted")


def test_a_callback_before_the_answer_to_its_push_is_no_lost_answer(direct, lab):
    direct.sim.script(PHONE, {"scenario": "slow", "seconds": 20})
    order = direct.ordered(lab.guest)
    wait_for(lambda: direct.sim.delivered, 10, "the callback")
    assert direct.history(order)[-1] == "sending", "the push is not answered yet"
    direct.becomes(lab.guest, order, "granted")
    assert "unknown" not in direct.history(order) and direct.pushes() == 1
    assert direct.row(order)["receipt"]


@pytest.mark.parametrize("scenario", ["query_only", "wrong_checkout_id"])
def test_without_a_callback_of_its_own_the_query_alone_gives_access(direct, lab, scenario):
    direct.sim.script(PHONE, scenario)
    order = direct.ordered(lab.guest)
    direct.becomes(lab.guest, order, "granted")
    assert lab.guest.online() and direct.row(order)["receipt"] is None


def test_a_callback_that_comes_after_the_access_tells_the_receipt_and_no_more(direct, lab):
    direct.sim.script(PHONE, {"scenario": "late_callback", "callback_delay": 40})
    order = direct.ordered(lab.guest)
    direct.becomes(lab.guest, order, "granted")
    assert not direct.sim.delivered and direct.row(order)["receipt"] is None
    (payment,) = direct.sim.payments.values()
    wait_for(lambda: direct.row(order)["receipt"] == payment.receipt, 10, "the callback")
    assert direct.daemon.data("sessions")[0]["allotment_seconds"] == 3600 and direct.suspense() == []


def test_a_callback_that_the_query_never_confirms_opens_nothing_and_is_in_the_books(make_till, lab):
    till = make_till(mode="direct", pace=100)
    till.sim.script(PHONE, "callback_only")
    order = till.ordered(lab.guest)
    till.becomes(lab.guest, order, "failed")
    wait_for(till.suspense, 10, "the money stands aside")
    (row,) = till.suspense()
    (payment,) = till.sim.payments.values()
    assert (row["amount"], row["receipt"]) == (20, payment.receipt) and not lab.guest.online()


def test_a_query_that_lies_keeps_the_money_in_the_books(direct, lab):
    direct.sim.script(PHONE, {"scenario": "query_lies_failed", "lie_for": 30})
    order = direct.ordered(lab.guest)
    direct.becomes(lab.guest, order, "failed")
    wait_for(lambda: direct.balances().get("suspense") == -20, 10, "what the callback tells of stands aside")
    assert not lab.guest.online()
    direct.becomes(lab.guest, order, "granted")
    assert direct.suspense() == [] and direct.balances()["access_sales"] == -20


# What was paid already.


def test_a_receipt_and_its_phone_take_what_is_left_to_another_device(direct, lab):
    order = direct.ordered(lab.guest)
    direct.becomes(lab.guest, order, "granted")
    receipt = direct.row(order)["receipt"]

    def claim(guest, receipt, phone=TYPED):
        return guest.post(f"{MPESA}/claim", {"receipt": receipt, "phone": phone})

    assert error(claim(lab.guests[1], receipt, OTHER_TYPED)) == (404, "not_found")
    assert lab.guests[1].post(f"{MPESA}/claim", {"receipt": receipt}).status == 400
    assert claim(lab.guests[1], receipt.lower()).status == 200
    assert lab.guests[1].online() and not lab.guest.online()
    assert claim(lab.guest, receipt).status == 200 and lab.guest.online() and not lab.guests[1].online()
    page = lab.guests[1].get(f"{PORTAL}/?way=mpesa", {"Accept": "text/html"}).text
    assert 'action="/mpesa/claim"' in page
    form = urlencode({"receipt": receipt, "phone": TYPED}).encode()
    assert lab.guests[1].post(f"{MPESA}/claim", form, FORM).status == 303 and lab.guests[1].online()
    stranger = lab.guests[0].become_stranger()
    answers = [claim(stranger, "SAAAAAAAA1").status for _ in range(11)]
    assert answers == [404] * 10 + [429]


def test_a_receipt_takes_nothing_that_another_phone_has_paid_for_the_same_device(direct, lab):
    lent = direct.ordered(lab.guest)
    direct.becomes(lab.guest, lent, "granted")
    receipt = direct.row(lent)["receipt"]
    own = direct.ordered(lab.guest, phone=OTHER_TYPED)
    direct.becomes(lab.guest, own, "granted")
    taken = lab.guests[1].post(f"{MPESA}/claim", {"receipt": receipt, "phone": TYPED})
    assert error(taken) == (404, "nothing_to_move")
    assert lab.guest.online() and not lab.guests[1].online()


# Power cuts.


@pytest.mark.parametrize("commit", [1, 2, 3, 4, 5])
def test_a_kill_at_any_commit_of_a_sale_loses_nothing_and_asks_once(make_till, lab, commit):
    till = make_till(mode="direct", pull=1)
    done = at_commit(till.daemon, commit, till.daemon.kill, limit=5)
    answer = None
    try:
        answer = till.order(lab.guest)
    except OSError:
        pass
    assert done.wait(10)
    till.daemon.start()
    orders = till.daemon.data("fiat", "orders")["orders"]
    assert len(orders) == 1 or (answer is None and not orders)
    for row in orders:
        # Killed between the note that it is sent and the sending, it was never sent, which nobody can know.
        wait_for(lambda row=row: till.row(row["order"])["state"] in ("granted", "unknown"), 15, "it goes on")
        if till.pushes():
            till.becomes(lab.guest, row["order"], "granted")
    assert till.pushes() <= 1 and lab.guest.online() == bool(till.pushes())


def test_what_was_being_sent_when_the_power_went_is_not_sent_again(make_till, lab):
    till = make_till(pull=1)
    till.sim.script(PHONE, {"scenario": "slow", "seconds": 20})
    order = till.ordered(lab.guest)
    wait_for(lambda: till.pushes() == 1, 5, "it is being sent")
    till.daemon.kill()
    till.daemon.start()
    till.becomes(lab.guest, order, "granted")
    assert till.pushes() == 1 and "unknown" in till.history(order)


def test_nothing_names_the_customer_once_it_is_over(till, lab):
    till.becomes(lab.guest, till.ordered(lab.guest), "granted")
    (payment,) = till.sim.payments.values()
    till.balance()
    till.daemon.stop()
    for folder, _, names in os.walk(till.daemon.dir):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                text = file.read()
            for said in (PHONE[3:], payment.checkout):
                assert said.encode() not in text, (name, said)


def test_every_situation_of_the_reference_is_a_test():
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(top, "vectors", "mpesa_situations.tsv")) as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    assert len(rows) > 40 and all(len(row) == 3 for row in rows)
    root = os.path.dirname(top)
    text = ""
    for folder in ("src", "tests/system"):
        for place, _, names in os.walk(os.path.join(root, folder)):
            for name in names:
                if name.endswith((".rs", ".py")):
                    with open(os.path.join(place, name)) as file:
                        text += file.read()
    tests = set(re.findall(r"\b(?:fn|def) ([a-z]\w*)", text))
    assert [row for row in rows if row[2] not in tests] == []
