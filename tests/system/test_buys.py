"""Shillings into a balance, at a Daraja as strict as the real one and a real mint: what is paid is credited once at
the rate of its order, backed by ecash of the balances' own seed, and never promised beyond what the router holds.
"""

import concurrent.futures

import pytest

from lab.authority import NAME
from lab.daemon import Mint
from lab.darajasim import DarajaSim
from lab.login import LoginWallet
from lab.place import PATIENCE, wait_for
from lab.shillings import CALLBACK, PACE, PUBLIC, sections
from lab.wallet import Wallet, encode_token
from lab.wallet_app import App, data, error

RATE = {"source": "fixed", "kes_per_btc": 13_000_000, "spread_buy_bp": 200}
FIAT = {"operator_licensed": 1, "buy": 1}
BUY = "/api/fiat/mpesa/buy"
PHONE = "0712345678"


class Exchange:
    def __init__(self, lab, daemon, sim, mint) -> None:
        self.lab, self.daemon, self.sim, self.mint = lab, daemon, sim, mint

    def app(self, number=7) -> App:
        return App(self.lab.guest).log_in(LoginWallet(number))

    def take(self, sats: int) -> None:
        """Puts ecash into the takings."""
        token = encode_token(self.mint.url, Wallet(self.lab.internet, self.mint.url).buy(self.mint, sats))
        assert self.daemon.data("wallet", "receive", token)["received"] == sats

    def takings(self) -> int:
        return sum(one["balance"] for one in self.daemon.data("wallet", "balance")["mints"])

    def books(self, unit: str) -> dict[str, int]:
        ledger = self.daemon.data("fiat", "ledger")
        sums: dict = {}
        for entry in ledger["entries"]:
            key = entry["txn"], entry["unit"]
            sums[key] = sums.get(key, 0) + entry["delta"]
        assert not any(sums.values()), sums
        return {one["account"]: one["balance"] for one in ledger["balances"] if one["unit"] == unit}

    def becomes(self, app, id, state) -> dict:
        look = lambda: data(app.ask("GET", f"/api/fiat/transaction/{id}"))
        wait_for(lambda: look()["state"] == state, 20, f"{id} is {state}")
        return look()


@pytest.fixture
def exchange(lab, mint, make_daemon):
    with DarajaSim(lab.router, "127.0.0.1", speed=PACE) as sim:
        sells = sections(lab, sim.url) | {"auth": {"domain": NAME}, "rate": RATE, "fiat": FIAT}
        made = Exchange(lab, make_daemon(Mint(mint.url), sections=sells), sim, mint)
        yield made
        paid = lambda: made.books("KES").get("mpesa_utility", 0) == sim.paid_in
        wait_for(paid, PATIENCE, "the books have what the customers paid")
        assert "712345678" not in made.daemon.log()


def test_shillings_that_are_paid_are_in_the_balance_and_backed_by_its_own_ecash(exchange):
    exchange.take(2000)
    app, other = exchange.app(), exchange.app(8)
    told = data(app.post(BUY, {"phoneNumber": PHONE, "amount": 100}))
    assert set(told) == {"id", "state", "amount_msat"}
    assert (told["state"], told["amount_msat"]) == ("pending", 753_846)
    seen = exchange.becomes(app, told["id"], "paid")
    assert seen == {"id": told["id"], "kind": "buy", "state": "paid", "amount_kes": 100, "amount_sats": 753}
    assert error(other.ask("GET", f"/api/fiat/transaction/{told['id']}")) == (404, "not_found")
    assert app.balance() == (753, 0) and exchange.books("msat")["customers"] == 753_846
    wait_for(lambda: exchange.takings() == 2000 - 754, PATIENCE, "it is backed")
    token = data(app.post("/api/wallet/send", {"amount_sats": 753, "as": "token"}))["token"]
    assert Wallet(exchange.lab.internet, exchange.mint.url).receive(token) == 753
    (order,) = exchange.daemon.data("fiat", "orders")["orders"]
    assert (order["kind"], order["state"]) == ("buy", "granted")


def test_no_more_is_promised_than_the_router_holds(exchange):
    app, other = exchange.app(), exchange.app(8)
    ask = lambda app, phone, amount: app.post(BUY, {"phone_number": phone, "amount": amount})
    assert error(ask(app, PHONE, 100)) == (503, "float_too_small") and exchange.sim.count("processrequest") == 0
    exchange.take(1000)
    data(ask(app, PHONE, 100))
    assert error(ask(other, "0110345678", 100)) == (503, "float_too_small")
    data(ask(other, "0110345678", 30))


def test_what_open_orders_were_promised_stays_in_the_takings(exchange):
    exchange.take(2000)
    app = exchange.app()
    exchange.sim.script(None, {"scenario": "ok", "delay": 60})
    told = data(app.post(BUY, {"phoneNumber": PHONE, "amount": 100}))
    send = lambda sats: exchange.daemon.command("wallet", "send", str(sats), check=False)
    refused = send(1300)
    assert refused.code == 1 and "754 sat" in refused.out and exchange.takings() == 2000
    assert send(1200).code == 0
    exchange.becomes(app, told["id"], "paid")
    wait_for(lambda: exchange.takings() == 800 - 754, PATIENCE, "it is backed")
    assert send(46).code == 0, "what nobody was promised is the operator's"


def test_of_many_sends_at_once_and_an_order_meanwhile_no_two_have_the_same_takings(exchange):
    exchange.take(2000)
    app = exchange.app()
    exchange.sim.script(None, {"scenario": "ok", "delay": 60})
    send = lambda sats: exchange.daemon.command("wallet", "send", str(sats), check=False)
    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        sent = [pool.submit(send, 300) for _ in range(6)]
        told = app.post(BUY, {"phoneNumber": PHONE, "amount": 100})
        gone = 300 * sum(one.result().code == 0 for one in sent)
    left = exchange.takings()
    assert left <= 2000 - gone
    if told.status == 200:
        assert left >= 754
        exchange.becomes(app, data(told)["id"], "paid")
        wait_for(lambda: exchange.takings() <= left - 754, PATIENCE, "it is backed")
    else:
        assert error(told) == (503, "float_too_small") and left < 2000


def test_what_was_paid_before_a_kill_is_credited_and_backed_once_after_the_start(exchange):
    exchange.take(2000)
    app = exchange.app()
    told = data(app.post(BUY, {"phoneNumber": PHONE, "amount": 100}))
    wait_for(lambda: exchange.sim.paid_in == 100, 20, "the customer has paid")
    exchange.daemon.kill()
    exchange.daemon.start()
    exchange.becomes(app, told["id"], "paid")
    for _ in range(2):
        wait_for(lambda: exchange.takings() == 2000 - 754, PATIENCE, "it is backed")
        assert app.balance() == (753, 0)
        exchange.daemon.restart()


def test_another_amount_than_ordered_is_failed_and_stands_aside(exchange):
    exchange.sim.routes[CALLBACK.removesuffix("/cb")] = PUBLIC
    exchange.daemon.sections["mpesa"]["mode"] = "direct"
    exchange.daemon.write_config()
    exchange.daemon.restart()
    exchange.take(2000)
    app = exchange.app()
    exchange.sim.script(None, "wrong_amount")
    told = data(app.post(BUY, {"phoneNumber": PHONE, "amount": 100}))
    exchange.becomes(app, told["id"], "failed")
    assert exchange.daemon.data("fiat", "order", told["id"])["state"] == "refund_due"
    (row,) = exchange.daemon.data("fiat", "suspense")["suspense"]
    assert row["amount"] == 1 and app.balance() == (0, 0)


def test_the_same_question_is_one_order_and_what_is_wrong_is_refused(exchange):
    exchange.take(2000)
    app, key = exchange.app(), {"Idempotency-Key": "one"}
    with concurrent.futures.ThreadPoolExecutor(10) as crowd:
        ask = lambda _: app.post(BUY, {"phoneNumber": PHONE, "amount": 50}, **key)
        ids = {data(answer)["id"] for answer in crowd.map(ask, range(10))}
    assert len(ids) == 1
    assert error(app.post(BUY, {"phoneNumber": PHONE, "amount": 51}, **key)) == (409, "idempotency_conflict")
    for amount in (0, -1, 1.5, "50", None, True, 250_001, 2**64):
        assert error(app.post(BUY, {"phoneNumber": PHONE, "amount": amount})) == (400, "bad_amount"), amount
    assert error(app.post(BUY, {"phoneNumber": "12", "amount": 5})) == (400, "bad_phone")
    exchange.daemon.sections["fiat"] = {"operator_licensed": 1, "buy": 0}
    exchange.daemon.write_config()
    exchange.daemon.command("reload")
    assert error(app.post(BUY, {"phoneNumber": PHONE, "amount": 50})) == (403, "switched_off")
    exchange.becomes(app, ids.pop(), "paid")
    assert exchange.sim.count("processrequest") == 1
