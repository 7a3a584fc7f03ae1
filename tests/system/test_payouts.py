"""Paying out: shillings to a phone, airtime and bills of what an account of the wallet API has, at a Daraja and an
Africa's Talking as strict as the real ones. After every test what was paid out there is what the books say, and no
satoshi is lost.
"""

import concurrent.futures
import itertools
import json
import threading

import pytest

from lab import http_client
from lab.crash import at_commit
from lab.daemon import Mint
from lab.daraja_plans import result
from lab.darajasim import DarajaSim
from lab.guest import ROUTER4
from lab.login import LoginWallet
from lab.place import PATIENCE, wait_for
from lab.relay import Relay
from lab.shillings import CALLBACK, PACE, PUBLIC, payout_sections, sections
from lab.wallet import Wallet, encode_token

PHONE, TYPED = "254712345678", "0712 345 678"
PAYBILL, BILL = "888880", "METER 42"
FUNDS = 100_000
NUMBERS = itertools.count(100)


class Desk:
    """A daemon that pays out, the simulator, and an account with a balance."""

    def __init__(self, lab, daemon, sim, mint) -> None:
        self.lab, self.daemon, self.sim, self.mint = lab, daemon, sim, mint
        self.wallet, self.token = LoginWallet(next(NUMBERS)), None

    # What an app does.

    def ask(self, method, path, body=None, token=None, headers=None) -> http_client.Answer:
        token = token or self.token
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        sock = self.lab.guest.connect(ROUTER4, 2121, PATIENCE)
        return http_client.exchange(sock, method, path, f"{ROUTER4}:2121", sent | (headers or {}), body)

    def log_in(self, wallet=None) -> str:
        wallet = wallet or self.wallet
        k1 = data(self.ask("POST", "/api/auth/login", {}))["k1"]
        signed = {"k1": k1, "key": wallet.key, "sig": wallet.sign(k1)}
        return data(self.ask("POST", "/api/auth/login", signed))["token"]

    def fund(self, sats: int) -> None:
        before = self.balance()
        asked = self.ask("POST", "/api/wallet/invoice", {"amount_sats": sats, "memo": "float"})
        assert asked.status == 201, asked
        self.mint.pay(asked.json()["data"]["invoice"])
        wait_for(lambda: self.balance() == before + sats, PATIENCE, "the balance is there")

    def balance(self) -> int:
        return data(self.ask("GET", "/api/wallet/balance"))["sats"]

    def held(self) -> int:
        return data(self.ask("GET", "/api/wallet/balance"))["pending_sats"]

    def sell(self, sats=1000, phone=TYPED, headers=None, **more) -> http_client.Answer:
        body = {"phoneNumber": phone, "amount_sats": sats} | more
        return self.ask("POST", "/api/fiat/mpesa/sell", body, headers=headers)

    def sold(self, *args, **more) -> str:
        return data(self.sell(*args, **more))["id"]

    def airtime(self, amount=50, phone=TYPED, provider="safaricom") -> http_client.Answer:
        body = {"phoneNumber": phone, "amount": amount, "provider": provider}
        return self.ask("POST", "/api/fiat/airtime/buy", body)

    def bill(self, amount=100, paybill=PAYBILL, account=BILL) -> http_client.Answer:
        body = {"paybill": paybill, "account": account, "amount": amount}
        return self.ask("POST", "/api/fiat/bills/pay", body)

    def state(self, payout: str) -> str:
        return data(self.ask("GET", f"/api/fiat/transaction/{payout}"))["state"]

    def becomes(self, payout: str, state: str, limit=20) -> None:
        wait_for(lambda: self.state(payout) == state, limit, f"{payout} is {state}: {self.row(payout)}")

    # What the operator sees.

    def row(self, payout: str) -> dict:
        return self.daemon.data("fiat", "order", payout)

    def history(self, payout: str) -> list[str]:
        return [step["state"] for step in self.row(payout)["history"]]

    def book(self, account: str, unit: str = "KES") -> int:
        rows = self.daemon.data("fiat", "ledger")["balances"]
        return sum(row["balance"] for row in rows if (row["account"], row["unit"]) == (account, unit))

    def sent(self, path: str) -> list[dict]:
        return [seen.body for seen in self.sim.requests if path in seen.path]

    def even(self) -> None:
        """The oracle: what left there is what the books have, and every transaction is even."""
        sums: dict = {}
        for entry in self.daemon.data("fiat", "ledger")["entries"]:
            key = entry["txn"], entry["unit"]
            sums[key] = sums.get(key, 0) + entry["delta"]
        assert not any(sums.values()), sums
        sim = self.sim
        wait_for(lambda: self.book("mpesa_b2c") == -sim.paid_out, 15, f"{self.book('mpesa_b2c')} {sim.paid_out}")
        assert sim.settings.b2c_funds == sim.started_with - sim.paid_out
        wait_for(lambda: self.book("airtime") == -sim.airtime_sent, 15, f"{self.book('airtime')} {sim.airtime_sent}")
        if self.token:
            assert self.book("customers", "msat") == self.balance() * 1000


@pytest.fixture
def make_desk(lab, make_daemon, mint):
    made = []

    def make(*, rate=None, fiat=None, funds=0, b2c=FUNDS, at=mint, **options) -> Desk:
        sim = DarajaSim(lab.router, "127.0.0.1", speed=PACE, b2c_funds=b2c)
        sim.started_with = b2c
        sim.routes[CALLBACK.removesuffix("/cb")] = PUBLIC
        options = {"mode": "direct"} | options
        all_sections = sections(lab, sim.url, **options) | payout_sections(lab, sim.url, fiat or {}, rate or {})
        desk = Desk(lab, make_daemon(Mint(at.url), sections=all_sections), sim, at)
        made.append(desk)
        desk.token = desk.log_in()
        if funds:
            desk.fund(funds)
        return desk

    yield make
    for desk in made:
        if desk.daemon.running:
            desk.even()
            desk.daemon.must_be_sound()
        log = desk.daemon.log()
        for secret in ("712345678", desk.sim.settings.credential, desk.sim.settings.airtime_key, "METER 42"):
            assert secret not in log, "neither phones nor bills nor credentials are in the log"
        desk.sim.close()


@pytest.fixture
def desk(make_desk):
    """100000 sat at the account."""
    return make_desk(funds=100_000)


def data(answer):
    assert answer.status in (200, 201), answer
    body = answer.json()
    assert body["success"] is True and set(body) == {"success", "data"}
    return body["data"]


def error(answer) -> tuple[int, str]:
    body = answer.json()
    assert body["success"] is False and body["error"], answer
    return answer.status, body["code"]


def call_back(desk, token, body) -> int:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http_client.exchange(desk.lab.router.connect(*PUBLIC), "POST", f"/cb/{token}", "cb", {}, sent).status


# To a phone.


def test_a_balance_is_sold_for_shillings_at_the_rate_of_the_vectors(desk):
    told = data(desk.sell())
    assert told.keys() >= {"id", "state", "amount_kes", "amount_sats"}
    assert (told["state"], told["amount_kes"], told["amount_sats"]) == ("pending", 127, 1000)
    desk.becomes(told["id"], "paid")
    assert (desk.balance(), desk.held(), desk.sim.paid_out) == (99_000, 0, 127)
    (sent,) = desk.sent("b2c")
    assert (sent["PartyA"], sent["PartyB"], sent["Amount"]) == ("600992", PHONE, "127")
    assert sent["ResultURL"] != sent["QueueTimeOutURL"], "each has a token of its own"
    row = desk.row(told["id"])
    receipt = desk.sim.rows[0]["receipt"]
    assert (row["kind"], row["unit"], row["phone"], row["receipt"]) == ("sell", "KES", "***678", receipt)
    assert desk.history(told["id"]) == ["created", "sending", "pending", "paid"]
    assert (desk.book("trading", "msat"), desk.book("trading"), desk.book("orders")) == (1_000_000, 127, 0)
    listed = desk.daemon.data("fiat", "orders")["orders"]
    assert [one["order"] for one in listed] == [told["id"]]
    again = data(desk.ask("GET", f"/api/fiat/transaction/{told['id']}"))
    assert (again["kind"], again["state"], again["amount_kes"], again["amount_sats"]) == ("sell", "paid", 127, 1000)
    other = desk.log_in(LoginWallet(next(NUMBERS)))
    assert desk.ask("GET", f"/api/fiat/transaction/{told['id']}", token=other).status == 404


def test_what_nobody_pays_out_is_refused_and_nothing_is_taken(desk):
    for phone in ("", "0202345678", "255712345678", None, 7):
        assert error(desk.sell(phone=phone)) == (400, "bad_phone"), phone
        assert error(desk.airtime(phone=phone)) == (400, "bad_phone"), phone
    # 78 sat are 9 KES.
    for sats in (0, -1, 78, 1.5, "1000", None, 2**63, 10**12):
        assert error(desk.sell(sats=sats)) == (400, "bad_amount"), sats
    for amount in (9, 10_001, 50.5, "50"):
        assert error(desk.airtime(amount)) == (400, "bad_amount"), amount
    assert error(desk.airtime(provider="vodafone")) == (400, "bad_provider")
    accounts = [{"account": account} for account in ("", "x" * 14, "a\nb")]
    for wrong in [{"paybill": "12"}, {"paybill": "88888x"}, *accounts]:
        assert error(desk.bill(**wrong)) == (400, "bad_bill"), wrong
    assert error(desk.sell(sats=100_001)) == (402, "insufficient_balance")
    assert error(desk.sell(via="carrier")) == (400, "invalid_input")
    assert desk.balance() == 100_000 and not desk.sim.payouts and not desk.sim.airtime
    assert desk.daemon.data("fiat", "orders")["orders"] == []


def test_without_a_token_nothing_and_switched_off_is_said(make_desk):
    desk = make_desk(fiat={"sell": 0, "airtime": 0, "bills": 0}, funds=1000)
    for path in ("mpesa/sell", "mpesa/payout", "airtime/buy", "airtime", "bills/pay"):
        body = {"phoneNumber": TYPED, "amount_sats": 1000, "amount": 50}
        assert error(desk.ask("POST", f"/api/fiat/{path}", body)) == (403, "switched_off"), path
        assert error(desk.ask("POST", f"/api/fiat/{path}", body, token="x.y.z")) == (401, "unauthorized"), path
    assert desk.balance() == 1000


def test_aliases_take_both_spellings_of_a_field(desk):
    body = {"phone_number": TYPED, "amountSats": 1000}
    desk.becomes(data(desk.ask("POST", "/api/fiat/mpesa/payout", body))["id"], "paid")
    body = {"phone_number": TYPED, "amount": 50, "provider": "Safaricom"}
    desk.becomes(data(desk.ask("POST", "/api/fiat/airtime", body))["id"], "paid")
    providers = data(desk.ask("GET", "/api/fiat/airtime/providers"))["providers"]
    assert [one["id"] for one in providers] == ["safaricom", "airtel", "telkom"]


@pytest.mark.parametrize("path", ["/api/wallet/airtime/buy", "/api/bitcoin/purchase-airtime", "/api/fiat/airtime"])
def test_airtime_is_bought_for_an_amount_of_satoshis(desk, path):
    # 1000 sat are 127 KES, and 997 sat are the fewest for which that is so.
    body = {"phone_number": TYPED, "amount_sats": 1000, "provider": "Safaricom", "walletAddress": desk.wallet.key}
    key = {"Idempotency-Key": path}
    told = data(desk.ask("POST", path, body, headers=key))
    assert (told["kind"], told["amount_kes"], told["amount_sats"]) == ("airtime", 127, 997)
    assert data(desk.ask("POST", path, body, headers=key))["id"] == told["id"]
    desk.becomes(told["id"], "paid")
    assert (desk.balance(), desk.sim.airtime_sent) == (100_000 - 997, 127)
    assert error(desk.ask("POST", path, {"phoneNumber": TYPED, "amountSats": 70}))[0] == 400, "under 10 KES"
    both = {"phoneNumber": TYPED, "amount": 1000, "provider": ""}
    assert error(desk.ask("POST", path, both, headers=key)) == (409, "idempotency_key_reused")


def test_the_rate_is_told_and_what_amounts_are_worth_here(desk):
    rate = data(desk.ask("GET", "/api/bitcoin/exchange-rate"))
    assert (rate["rate"], rate["source"]) == (13_000_000, "fixed")
    status = data(desk.ask("GET", "/api/bitcoin/status"))
    assert (status["status"], status["exchangeRate"]) == ("operational", 13_000_000)
    worth = lambda way, body: data(desk.ask("POST", f"/api/bitcoin/convert/{way}", body))
    assert worth("sats-to-kes", {"amountSats": 1000}) == {
        "amountSats": 1000, "amountKes": 127, "exchangeRate": 13_000_000
    }
    assert worth("kes-to-sats", {"amountKes": 130})["amountSats"] == 1000, "the spread is of who sells"
    for bad in ({}, {"amountKes": 0, "amountSats": 0}, {"amountKes": 1.5, "amountSats": "1"}, {"amountSats": 2**63}):
        for way in ("kes-to-sats", "sats-to-kes"):
            assert error(desk.ask("POST", f"/api/bitcoin/convert/{way}", bad)) == (400, "bad_amount"), bad


def test_the_same_question_is_one_payout(desk):
    key = {"Idempotency-Key": "question-0001"}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: desk.sell(headers=key), range(8)))
    (payout,) = {data(answer)["id"] for answer in answers}
    assert error(desk.sell(sats=2000, headers=key)) == (409, "idempotency_key_reused")
    desk.becomes(payout, "paid")
    assert data(desk.sell(headers=key)) == data(desk.ask("GET", f"/api/fiat/transaction/{payout}"))
    assert len(desk.sent("b2c")) == 1 and desk.balance() == 99_000


def test_fifty_at_once_with_a_balance_for_ten(make_desk):
    desk = make_desk(funds=10_000)
    desk.sim.settings.spike = 1000
    with concurrent.futures.ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: desk.sell(), range(50)))
    good = [data(answer)["id"] for answer in answers if answer.status == 200]
    assert len(good) == 10 and {error(a) for a in answers if a.status != 200} == {(402, "insufficient_balance")}
    for payout in good:
        desk.becomes(payout, "paid", limit=40)
    assert desk.balance() == 0 and desk.sim.paid_out == 1270


# Results, and what comes instead of them.


@pytest.mark.parametrize("code", ["1", "2040", "17"])
def test_a_payout_that_failed_for_good_gives_its_satoshis_back_once(desk, code):
    desk.sim.script(PHONE, {"scenario": "result", "code": code, "callbacks": 3})
    payout = desk.sold()
    assert desk.balance() == 99_000 and desk.held() == 1000
    desk.becomes(payout, "refunded")
    assert desk.balance() == 100_000 and desk.row(payout)["code"] == code
    desk.becomes(desk.sold(), "paid")
    assert desk.balance() == 99_000


@pytest.mark.parametrize("code", ["21", "2001", "8006"])
def test_codes_that_are_the_operators_stop_payouts_until_a_reload(desk, code):
    desk.sim.script(PHONE, {"scenario": "result", "code": code})
    desk.becomes(desk.sold(), "refunded")
    for refused in (desk.sell(), desk.bill(), desk.airtime()):
        assert error(refused) == (503, "payouts_paused")
    assert code in desk.daemon.status()["data"]["mpesa"]["payouts_paused"]
    assert desk.balance() == 100_000
    desk.daemon.command("reload")
    wait_for(lambda: desk.sell().status == 200, PATIENCE, "payouts go on")
    wait_for(lambda: desk.sim.paid_out == 127, PATIENCE, "it is paid")
    assert desk.daemon.status()["data"]["mpesa"]["payouts_paused"] is None


LOST = ["drop_response_after_accept", "html_502", "truncated_json", "nested"]
BUSY = "busy_after_accept"


@pytest.mark.parametrize("scenario", [*LOST, BUSY])
def test_a_lost_answer_is_no_new_payout(desk, scenario):
    desk.sim.script(PHONE, {"scenario": scenario, "delay": 60})
    payout = desk.sold()
    desk.becomes(payout, "paid")
    ids = {body["OriginatorConversationID"] for body in desk.sent("b2c")}
    assert len(ids) == 1 and len(desk.sent("b2c")) > 1, "it was sent again under its own id"
    assert len(desk.sim.payouts) == 1 and desk.sim.paid_out == 127 and desk.balance() == 99_000


TOO_MUCH = [429, "400.002.02", "Bad Request - Invalid Initiator"]
TROUBLE = [503, "400.002.02", "Bad Request - Invalid answer of a server behind"]


@pytest.mark.parametrize("said", [TOO_MUCH, TROUBLE])
def test_too_much_asked_and_trouble_of_a_server_are_no_refusal_whatever_their_text_says(desk, said):
    desk.sim.script(PHONE, {"scenario": "error", "error": said}, "ok")
    payout = desk.sold()
    desk.becomes(payout, "paid")
    assert len({body["OriginatorConversationID"] for body in desk.sent("b2c")}) == 1
    assert len(desk.sent("b2c")) == 2 and desk.balance() == 99_000
    assert desk.daemon.status()["data"]["mpesa"]["payouts_paused"] is None


def test_of_too_much_asked_bills_and_airtime_are_sent_a_little_later(desk):
    desk.sim.script(PAYBILL, {"scenario": "error", "error": TOO_MUCH}, "ok")
    desk.sim.script(PHONE, {"scenario": "error", "error": TOO_MUCH}, "ok")
    for payout in (data(desk.bill())["id"], data(desk.airtime())["id"]):
        desk.becomes(payout, "paid")
    assert (desk.sim.count("b2b"), desk.sim.count("airtime/send")) == (2, 2)
    assert (desk.sim.paid_out, desk.sim.airtime_sent) == (100, 50)


def test_a_request_that_never_came_is_sent_again_under_its_id(desk):
    desk.sim.script(PHONE, "drop_before_accept", "error")
    payout = desk.sold()
    desk.becomes(payout, "paid")
    assert len({body["OriginatorConversationID"] for body in desk.sent("b2c")}) == 1
    assert len(desk.sim.payouts) == 1 and desk.sim.paid_out == 127


def test_a_timeout_notice_is_no_failure(desk):
    desk.sim.script(PHONE, {"scenario": "b2c_timeout_then_ok", "delay": 20})
    payout = desk.sold()
    wait_for(lambda: desk.sim.delivered, PATIENCE, "the notice")
    assert desk.state(payout) == "pending" and desk.balance() == 99_000
    desk.becomes(payout, "paid")
    assert "refunded" not in desk.history(payout) and desk.sim.paid_out == 127


def test_a_result_that_never_comes_is_asked_for(desk):
    desk.sim.script(PHONE, {"scenario": "ok", "callbacks": 0})
    paid = desk.sold()
    wait_for(lambda: desk.sim.payouts, PATIENCE, "it is sent, and before the other one")
    desk.sim.script(PHONE, {"scenario": "result", "code": "2040", "callbacks": 0, "timeouts": 1})
    failed = desk.sold()
    desk.becomes(paid, "paid", limit=30)
    desk.becomes(failed, "refunded", limit=30)
    assert desk.sim.count("transactionstatus") >= 2 and desk.balance() == 99_000


def test_results_in_every_shape_are_read_and_count_once(desk):
    for damage in ("string_numbers", "items_reversed", "object_for_array"):
        desk.sim.script(PHONE, {"scenario": "b2c_dup", "damage": damage})
        desk.becomes(desk.sold(), "paid")
    assert desk.sim.paid_out == 381 and desk.balance() == 97_000


def test_a_forged_result_pays_and_refunds_nothing(desk):
    desk.sim.script(PHONE, {"scenario": "ok", "delay": 60})
    payout = desk.sold()
    wait_for(lambda: desk.sim.payouts, PATIENCE, "it is sent")
    (made,) = desk.sim.payouts.values()
    result_end, timeout = made.result_url.rsplit("/", 1)[1], made.timeout_url.rsplit("/", 1)[1]

    def told(**fields):
        named = {"ResultType": 0, "ResultCode": 0, "OriginatorConversationID": made.ours}
        return {"Result": named | {"TransactionID": "SFORGED234"} | fields}

    failed = told(ResultCode=2040)
    assert call_back(desk, "0" * 32, failed) == 404 and call_back(desk, result_end[:-1], failed) == 404
    assert call_back(desk, result_end, told(OriginatorConversationID="tg-another", ResultCode=2040)) == 200
    wrong = {"ResultParameter": [{"Key": "TransactionAmount", "Value": 1}]}
    assert call_back(desk, result_end, told(ResultParameters=wrong)) == 200
    # Whatever a time-out says, it is one.
    assert call_back(desk, timeout, failed) == 200 and call_back(desk, timeout, told()) == 200
    for body in (b"", b"{", b"[" * 60_000, b"\xff\xfe"):
        assert call_back(desk, result_end, body) in (200, 400)
    assert call_back(desk, result_end, b"x" * 70_000) == 413
    assert desk.state(payout) == "pending"
    desk.becomes(payout, "paid")
    assert call_back(desk, result_end, failed) == 200, "that of one that is over"
    assert desk.state(payout) == "paid" and desk.balance() == 99_000


def test_a_request_that_daraja_refuses_at_once_is_given_back(desk):
    desk.sim.script(PHONE, {"scenario": "error", "error": [400, "400.002.02", "Bad Request - Invalid PartyB"]})
    payout = desk.sold()
    desk.becomes(payout, "refunded")
    assert desk.balance() == 100_000 and len(desk.sent("b2c")) == 1
    desk.sim.settings.credential = "another"
    desk.becomes(desk.sold(), "refunded")
    assert error(desk.sell()) == (503, "payouts_paused")
    desk.sim.settings.credential = "bm90LWEtcmVhbC1jcmVkZW50aWFs"


def test_daraja_that_is_away_costs_nothing(make_desk):
    desk = make_desk(funds=1000, pace=100)
    desk.sim.close()
    payout = desk.sold()
    desk.becomes(payout, "refunded", limit=30)
    assert desk.balance() == 1000
    desk.sim.open()


# What bounds it.


def test_no_more_goes_out_than_in_a_day_and_than_there_is(make_desk):
    desk = make_desk(funds=10_000, fiat={"day_max_kes": 400}, b2c=300)
    desk.becomes(desk.sold(), "paid")
    # 173 are left, and the last result has said so.
    assert error(desk.sell(sats=1500)) == (503, "float_too_small")
    assert error(desk.airtime(300)) == (429, "day_limit")
    desk.becomes(desk.sold(), "paid")
    assert desk.balance() == 8000


def test_of_results_out_of_order_the_newest_says_what_is_at_the_short_code(make_desk):
    desk = make_desk(funds=20_000, b2c=700)
    desk.sim.script(PHONE, {"scenario": "ok", "callback_delay": 40}, "ok")
    first = desk.sold()
    wait_for(lambda: desk.sim.paid_out == 127, PATIENCE, "it is paid, and not told yet")
    desk.becomes(desk.sold(sats=4000), "paid")
    desk.becomes(first, "paid")
    # 700 - 127 - 509 are left; the result that came last says 573.
    assert error(desk.sell()) == (503, "float_too_small")
    desk.becomes(desk.sold(sats=500), "paid")


def test_a_short_code_without_money_refunds(make_desk):
    desk = make_desk(funds=10_000, b2c=100)
    desk.becomes(desk.sold(), "refunded")
    assert desk.balance() == 10_000 and desk.sim.paid_out == 0


def test_without_a_rate_nothing_is_sold(make_desk):
    desk = make_desk(funds=1000, rate={"source": "feed", "url": "http://127.0.0.1:9/rate", "pointer": "/KES"})
    for refused in (desk.sell(), desk.airtime(), desk.bill()):
        assert error(refused) == (503, "rate_stale")
    assert desk.balance() == 1000


# From ecash, and from an invoice.


def test_ecash_is_sold_once(desk, mint):
    wallet = Wallet(desk.lab.internet, mint.url)
    token = encode_token(mint.url, wallet.buy(mint, 1000))
    told = data(desk.ask("POST", "/api/fiat/mpesa/sell", {"phoneNumber": TYPED, "token": token}))
    again = data(desk.ask("POST", "/api/fiat/mpesa/sell", {"phoneNumber": TYPED, "token": token}))
    assert (told["id"], told["amount_kes"], told["amount_sats"]) == (again["id"], 127, 1000)
    desk.becomes(told["id"], "paid")
    assert desk.sim.paid_out == 127 and desk.balance() == 100_000
    assert set(wallet.states(token)) == {"SPENT"}


def test_ecash_that_several_accounts_bring_at_once_is_paid_out_once_and_of_nobodys_balance(make_desk, fault_mint):
    desk = make_desk(funds=2000, at=fault_mint)
    tokens = [desk.token] + [desk.log_in(LoginWallet(next(NUMBERS))) for _ in range(5)]
    ecash = encode_token(fault_mint.url, Wallet(desk.lab.internet, fault_mint.url).buy(fault_mint, 1000))
    sold, answer = {"phoneNumber": TYPED, "token": ecash}, threading.Event()
    # Nobody is told yet whose it is.
    fault_mint.when("swap", "arrived", lambda: answer.wait(PATIENCE))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = [pool.submit(desk.ask, "POST", "/api/fiat/mpesa/sell", sold, token) for token in tokens]
        concurrent.futures.wait(asked, timeout=12)
        answer.set()
        answers = [one.result() for one in asked]
    refused = {error(one) for one in answers if one.status != 200}
    assert refused <= {(400, "bad_token")}
    ids = [data(one)["id"] for one in answers if one.status == 200]
    wait_for(lambda: {desk.row(id)["state"] for id in ids} <= {"paid", "failed"}, PATIENCE, "all are over")
    assert [desk.row(id)["state"] for id in ids].count("paid") == 1
    assert (desk.balance(), desk.held(), desk.sim.paid_out) == (2000, 0, 127)


def test_refused_ecash_is_not_taken(desk, mint):
    wallet = Wallet(desk.lab.internet, mint.url)

    def sell(token, phone=TYPED):
        return desk.ask("POST", "/api/fiat/mpesa/sell", {"phoneNumber": phone, "token": token})

    spent = encode_token(mint.url, wallet.buy(mint, 500))
    Wallet(desk.lab.internet, mint.url).receive(spent)
    foreign = encode_token("https://mint.example.net", wallet.buy(mint, 500))
    small = encode_token(mint.url, wallet.buy(mint, 78))
    good = encode_token(mint.url, wallet.buy(mint, 500))
    lock = ["P2PK", {"nonce": "00" * 16, "data": "02" + "11" * 32, "tags": []}]
    locked = encode_token(mint.url, [wallet.buy(mint, 512)[0] | {"secret": json.dumps(lock)}])
    for token in (spent, foreign, small, locked, "cashuBgarbage", good[:-9]):
        assert sell(token).status == 400, token
    assert error(sell(good, "0202345678")) == (400, "bad_phone")
    assert set(wallet.states(small)) == set(wallet.states(good)) == {"UNSPENT"}
    assert desk.balance() == 100_000 and not desk.sim.payouts
    desk.becomes(data(sell(good))["id"], "paid")


def test_a_sold_token_whose_payout_fails_is_in_the_balance(desk, mint):
    token = encode_token(mint.url, Wallet(desk.lab.internet, mint.url).buy(mint, 1000))
    desk.sim.script(PHONE, {"scenario": "result", "code": "2040"})
    payout = data(desk.ask("POST", "/api/fiat/mpesa/sell", {"phoneNumber": TYPED, "token": token}))["id"]
    desk.becomes(payout, "refunded")
    assert desk.balance() == 101_000


def test_an_invoice_is_sold_once_it_is_paid(desk, mint):
    told = data(desk.sell(via="lightning"))
    assert told["invoice"].lower().startswith("lnbc") and desk.state(told["id"]) == "pending"
    assert not desk.sim.payouts, "nothing is paid out before it is paid"
    mint.pay(told["invoice"])
    desk.becomes(told["id"], "paid")
    assert desk.balance() == 100_000 and desk.sim.paid_out == 127


def test_the_same_question_at_once_is_one_invoice(desk, mint):
    key = {"Idempotency-Key": "sold once"}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(desk.sell, headers=key, via="lightning") for _ in range(8)]
        told = [data(one.result()) for one in asked]
    assert len({(one["id"], one["invoice"]) for one in told}) == 1
    mint.pay(told[0]["invoice"])
    desk.becomes(told[0]["id"], "paid")


def test_invoices_that_nobody_pays_keep_no_payout_from_others(make_desk):
    desk = make_desk(funds=2000, fiat={"day_max_kes": 400}, b2c=300)
    other = desk.log_in(LoginWallet(next(NUMBERS)))
    wish = {"phoneNumber": TYPED, "amount_sats": 2000, "via": "lightning"}
    for _ in range(8):
        data(desk.ask("POST", "/api/fiat/mpesa/sell", wish, other))
    desk.becomes(desk.sold(), "paid")


def test_an_invoice_that_nobody_pays_costs_nothing(make_desk):
    desk = make_desk(pace=100, funds=1000)
    payout = data(desk.sell(via="lightning"))["id"]
    desk.becomes(payout, "failed", limit=30)
    assert desk.balance() == 1000 and desk.book("orders") == 0


# Airtime.


def test_airtime_is_bought_and_counts_once_it_is_delivered(desk):
    told = data(desk.airtime(50))
    # 50 KES are 393 sat, rounded up, at the spread of the vectors.
    assert (told["amount_kes"], told["amount_sats"]) == (50, 393)
    desk.becomes(told["id"], "paid")
    (one,) = desk.sim.airtime.values()
    assert (one["msisdn"], one["amount"], desk.balance()) == (PHONE, 50, 100_000 - 393)
    assert desk.book("airtime") == -50 and desk.row(told["id"])["kind"] == "airtime"


def test_none_sent_is_a_failure_whatever_the_status(desk):
    desk.sim.script(PHONE, "airtime_none_sent")
    payout = data(desk.airtime())["id"]
    desk.becomes(payout, "refunded")
    assert desk.balance() == 100_000


def test_airtime_that_is_not_delivered_is_given_back(desk):
    desk.sim.script(PHONE, {"scenario": "result", "code": "1"})
    payout = data(desk.airtime())["id"]
    desk.becomes(payout, "refunded")
    assert desk.balance() == 100_000


@pytest.mark.parametrize("scenario", LOST)
def test_a_lost_answer_is_no_new_airtime(desk, scenario):
    desk.sim.script(PHONE, scenario)
    payout = data(desk.airtime())["id"]
    desk.becomes(payout, "paid")
    assert len(desk.sim.airtime) == 1 and desk.sim.airtime_sent == 50 and desk.sim.count("airtime/send") > 1


def test_a_wrong_key_stops_payouts_and_costs_nothing(desk):
    desk.sim.settings.airtime_key = "another"
    desk.becomes(data(desk.airtime())["id"], "refunded")
    assert desk.balance() == 100_000 and error(desk.airtime()) == (503, "payouts_paused")


# Bills.


def test_a_bill_is_paid(desk):
    told = data(desk.bill(100))
    assert (told["amount_kes"], told["amount_sats"]) == (100, 785)
    desk.becomes(told["id"], "paid")
    (sent,) = desk.sent("b2b")
    assert (sent["PartyB"], sent["AccountReference"], sent["CommandID"]) == (PAYBILL, BILL, "BusinessPayBill")
    row = desk.row(told["id"])
    assert (row["kind"], row["phone"], row["state"]) == ("bill", None, "paid") and row["receipt"]


@pytest.mark.parametrize("scenario", [*LOST, BUSY])
def test_a_bill_whose_answer_was_lost_is_never_sent_again(desk, scenario):
    desk.sim.script(PAYBILL, {"scenario": scenario, "delay": 30})
    payout = data(desk.bill())["id"]
    desk.becomes(payout, "paid")
    assert desk.sim.count("b2b") == 1 and desk.sim.paid_out == 100


def test_a_bill_whose_result_is_lost_is_asked_for(desk):
    desk.sim.script(PAYBILL, {"scenario": "ok", "callbacks": 0})
    payout = data(desk.bill())["id"]
    desk.becomes(payout, "paid", limit=30)
    (known,) = desk.sim.payouts
    assert {body["OriginalConversationID"] for body in desk.sent("transactionstatus")} == {known}, "by Daraja's id"
    assert desk.sim.count("b2b") == 1


def test_a_bill_that_fails_is_given_back(desk):
    desk.sim.script(PAYBILL, {"scenario": "result", "code": "2"})
    desk.becomes(data(desk.bill())["id"], "refunded")
    assert desk.balance() == 100_000


# What nobody tells of.


def test_what_nobody_tells_the_end_of_is_decided_by_the_operator(make_desk):
    desk = make_desk(pace=100, funds=10_000)
    desk.sim.routes.clear()
    desk.sim.script(PHONE, *["drop_before_accept"] * 1000)
    airtime, bill = data(desk.airtime())["id"], data(desk.bill())["id"]
    wait_for(lambda: desk.sim.paid_out == 100, PATIENCE, "the bill is paid, and nobody tells")
    sold = desk.sold(phone="0110345678")
    wait_for(lambda: desk.sim.paid_out == 227, PATIENCE, "the phone has it, and nobody tells")
    decide = lambda payout, outcome: desk.daemon.command("fiat", "decide", payout, outcome, check=False).code
    assert (decide(airtime, "failed"), decide("TP00000000", "failed")) == (1, 1), "it may be told yet; there is none"
    jobs = lambda: desk.daemon.status()["data"]["jobs"]["rows"]
    wait_for(lambda: all("fiat decide" in (job["error"] or "") for job in jobs()), PATIENCE, "an hour of this time")
    assert decide(bill, "perhaps") == 2 and desk.balance() == 9000 - 785 - 393 and desk.held() == 1000 + 785 + 393
    assert (decide(airtime, "failed"), decide(bill, "paid")) == (0, 0)
    assert (desk.row(airtime)["state"], desk.row(airtime)["code"]) == ("refunded", "operator")
    assert (desk.row(bill)["state"], desk.balance(), desk.held()) == ("paid", 9000 - 785, 1000)
    assert (decide(airtime, "paid"), decide(bill, "failed")) == (1, 1), "once"
    assert decide(sold, "failed") == 0, "which is wrong"
    (made,) = [one for one in desk.sim.payouts.values() if one.kind == "b2c"]
    for _ in range(2):
        assert call_back(desk, made.result_url.rsplit("/", 1)[1], result(made, "0")) == 200
    assert (desk.row(sold)["state"], desk.balance(), desk.book("suspense")) == ("refunded", 10_000 - 785, 127)
    told = [(row["what"], row["target"], row["result"]) for row in desk.daemon.data("audit")]
    assert ("fiat decide", f"{bill} paid", "ok") in told and jobs() == []


def test_airtime_and_a_bill_whose_every_answer_is_lost_are_bought_once_and_decided_by_the_operator(make_desk):
    desk = make_desk(pace=100, funds=2000)
    desk.sim.routes.clear()
    desk.sim.script(PHONE, *["drop_response_after_accept"] * 1000)
    desk.sim.script(PAYBILL, "drop_response_after_accept")
    airtime, bill = data(desk.airtime())["id"], data(desk.bill())["id"]
    jobs = lambda: desk.daemon.status()["data"]["jobs"]["rows"]
    wait_for(lambda: all("fiat decide" in (job["error"] or "") for job in jobs()), PATIENCE, "an hour of this time")
    assert (len(desk.sim.airtime), desk.sim.airtime_sent) == (1, 50) and desk.sim.count("airtime/send") > 2
    assert (desk.sim.count("b2b"), desk.sim.paid_out) == (1, 100)
    assert (desk.state(airtime), desk.state(bill), desk.held()) == ("pending", "pending", 785 + 393)
    for payout in (airtime, bill):
        assert desk.daemon.command("fiat", "decide", payout, "paid").code == 0 and desk.state(payout) == "paid"
    assert (desk.balance(), desk.held()) == (2000 - 785 - 393, 0)


# Power cuts, and the relay.


@pytest.mark.parametrize("kind", ["sell", "token", "airtime", "bill"])
@pytest.mark.parametrize("commit", [1, 2, 3, 4])
def test_a_kill_at_any_commit_of_a_payout_loses_nothing_and_pays_once(desk, mint, commit, kind):
    token = encode_token(mint.url, Wallet(desk.lab.internet, mint.url).buy(mint, 1000)) if kind == "token" else ""
    wish = {
        "sell": desk.sell,
        "token": lambda: desk.ask("POST", "/api/fiat/mpesa/sell", {"phoneNumber": TYPED, "token": token}),
        "airtime": desk.airtime,
        "bill": desk.bill,
    }[kind]
    # The result of a bill whose answer was lost comes by itself or not at all: the daemon is to be there then.
    desk.sim.script(PAYBILL, {"scenario": "ok", "delay": 60})
    done = at_commit(desk.daemon, commit, desk.daemon.kill, limit=5)
    try:
        wish()
    except OSError:
        pass
    assert done.wait(10)
    desk.daemon.start()
    rows = desk.daemon.data("fiat", "orders")["orders"]
    assert len(rows) <= 1
    over = ("paid", "refunded", "failed")
    for row in rows:
        # One bill that was perhaps sent, and was not, stays open: nobody can know that.
        was_sent = kind != "bill" or desk.sim.payouts or desk.row(row["order"])["state"] != "sending"
        if was_sent:
            wait_for(lambda row=row: desk.row(row["order"])["state"] in over, 40, f"it ends: {desk.row(row['order'])}")
    assert len(desk.sim.payouts) + len(desk.sim.airtime) <= 1
    has_paid = bool(desk.sim.paid_out or desk.sim.airtime_sent)
    if kind == "token":
        assert desk.balance() + desk.held() in ((100_000,) if has_paid else (100_000, 101_000))


def test_a_relay_brings_the_result(lab, make_daemon, mint):
    with DarajaSim(lab.router, "127.0.0.1", speed=PACE, b2c_funds=FUNDS) as sim:
        sim.started_with, sim.settings.spike = FUNDS, 100
        with Relay(lab.path(f"relay-{sim.port}"), sim.url, routers=["r1"], place=lab.router) as relay:
            sim.routes[CALLBACK.removesuffix("/cb")] = ("127.0.0.1", relay.port)
            options = {"mode": "relay", "relay_url": relay.url, "relay_key_file": relay.key_file("r1")}
            made = sections(lab, sim.url, **options) | payout_sections(lab, sim.url, {}, {})
            made["mpesa"]["callback_url"] = CALLBACK + "/r1"
            desk = Desk(lab, make_daemon(Mint(mint.url), sections=made), sim, mint)
            desk.token = desk.log_in()
            desk.fund(5000)
            payout = desk.sold()
            desk.becomes(payout, "paid")
            desk.even()


def test_nothing_names_the_payee_once_it_is_over(desk):
    for payout in (desk.sold(), data(desk.bill())["id"], data(desk.airtime())["id"]):
        desk.becomes(payout, "paid")
    desk.even()
    desk.daemon.stop()
    for path in desk.lab.router.run(["find", desk.daemon.state_dir, "-type", "f"]).out.split():
        with open(path, "rb") as file:
            text = file.read()
        assert PHONE[3:].encode() not in text and BILL.encode() not in text, path
