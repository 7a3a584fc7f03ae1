"""Cards that lnd pays for: real invoices over a real channel, payments that are held on their way while lnd, the
daemon or both are killed, and in the end a history that says what the payee says, with no card charged for what was
not paid."""

import os
import time

import pytest

from lab.card_shop import LOOPBACK, CardShop, Waiting, callback_path
from lab.forwarder import Forwarder
from lab.invoices import Made
from lab.lnd import Invoice
from lab.place import HOST, wait_for

OK = {"status": "OK"}
FAILED = {"status": "ERROR", "reason": "the payment failed"}
SHORT = 45
"""Seconds of an invoice that expires while the tests run; one that ends within 30 is not paid."""


class LndCards(CardShop):
    """Alice pays. She runs outside the lab, behind `wire`."""

    def __init__(self, lab, pair) -> None:
        self.pair = pair
        self.wire = Forwarder(HOST, host=LOOPBACK, port=pair.alice.port, near=lab.router, preferred=0)
        super().__init__(lab, name="cards-lnd", card={"k1_life": 600})

    def lightning(self, node) -> dict:
        macaroon = self.pair.alice.bake("uri:/routerrpc.Router/SendPaymentV2", "uri:/routerrpc.Router/TrackPaymentV2")
        return {
            "type": "lnd",
            "url": f"https://{LOOPBACK}:{self.wire.port}",
            "macaroon_file": self.secret("macaroon", macaroon),
            "cert_sha256": self.pair.alice.cert_sha256,
        }

    def __exit__(self, *_) -> None:
        super().__exit__()
        self.wire.close()

    def spent(self, card) -> int:
        """What counts against the card's limits (sat)."""
        return self.show(card)["spent_today_msat"] // 1000

    def hold(self, sats: int = 600) -> "Held":
        """A payment in flight, its till waiting."""
        return Held(self, sats)


class Held:
    def __init__(self, shop: LndCards, sats: int) -> None:
        self.shop, self.sats, self.card = shop, sats, shop.card(tx_max=1000, day_max=1000)
        self.invoice = shop.pair.bob.hold_invoice(sats)
        self.till = shop.begin(self.card, made(self.invoice))
        shop.pair.bob.wait_held(self.invoice)

    def settle(self) -> None:
        self.shop.pair.bob.settle(self.invoice)

    def cancel(self) -> None:
        self.shop.pair.bob.cancel(self.invoice)

    def counts(self) -> bool:
        return self.state() == "pending" and self.shop.spent(self.card) == self.sats

    def state(self) -> str:
        """Of the card's first tap."""
        return self.shop.states(self.card)[-1]

    def ends(self, state: str, limit: float = 100) -> None:
        """The history says so, the limits count what was paid, and lnd has one payment of this hash."""
        wait_for(lambda: self.state() == state, limit, f"the history says {state}", every=0.1)
        assert self.shop.spent(self.card) == (self.sats if state == "paid" else 0)
        assert self.shop.pair.alice.payments_of(self.invoice) == [{"paid": "SUCCEEDED", "failed": "FAILED"}[state]]
        assert self.shop.pair.bob.invoice_state(self.invoice) == {"paid": "SETTLED", "failed": "CANCELED"}[state]


def made(invoice: Invoice) -> Made:
    return Made(invoice.request, invoice.payment_hash, invoice.preimage or "")


@pytest.fixture(scope="module")
def shop(lab, lightning):
    with LndCards(lab, lightning) as opened:
        yield opened


@pytest.fixture(scope="module")
def never_arrived(shop):
    """A payment that lnd never saw: the daemon was killed when it had noted it as sent. Its time runs while the other
    tests do.
    """
    card = shop.card(day_max=1000)
    k1 = shop.k1(card)
    invoice = shop.pair.bob.invoice(600, expiry=SHORT)
    ends = time.time() + SHORT
    path = callback_path(k1, invoice.request)
    shop.wire.before = shop.daemon.kill
    with pytest.raises(OSError):
        Waiting(shop, path).answer()
    shop.daemon.start()
    assert shop.states(card) == ["pending"] and shop.spent(card) == 600
    return card, invoice, ends, path


@pytest.fixture(autouse=True)
def upright(shop, never_arrived):
    """Everything runs again after each test, and the daemon has not panicked."""
    yield
    for node in (shop.pair.alice, shop.pair.bob):
        if not (node.process and node.process.poll() is None):
            node.start()
    shop.pair.wait_routable()
    assert shop.daemon.running
    shop.daemon.must_be_sound()


def test_card_pays_a_real_invoice_once(shop):
    card, invoice = shop.card(tx_max=1000, day_max=1000), shop.pair.bob.invoice(600)
    before = shop.pair.bob.balance_msat()
    path = callback_path(shop.k1(card), invoice.request)
    assert shop.ask(path) == OK
    assert shop.pair.bob.invoice_state(invoice) == "SETTLED"
    (line,) = shop.history(card)
    assert (line["state"], line["amount_msat"], line["fee_msat"]) == ("paid", 600_000, 0)
    assert shop.ask(path) == OK, "the same question, the same answer"
    assert shop.spend(card, made(shop.pair.bob.invoice(401)))["status"] == "ERROR"
    assert shop.spend(card, made(shop.pair.bob.invoice(400))) == OK
    wait_for(lambda: shop.pair.bob.balance_msat() == before + 1_000_000, 10, "Bob has it, once")


def test_payment_without_a_route_is_told_to_the_till_and_costs_nothing(shop):
    card = shop.card(day_max=1000)
    assert shop.spend(card, shop.invoice(600)) == FAILED
    assert shop.states(card) == ["failed"] and shop.spent(card) == 0
    invoice = shop.pair.bob.invoice(1000)
    shop.pair.bob.cancel(invoice)
    assert shop.spend(card, made(invoice)) == FAILED and shop.spent(card) == 0


def test_payment_in_flight_is_ok_for_the_till_counts_and_ends_as_the_payee_decides(shop):
    settled, cancelled = shop.hold(), shop.hold()
    assert settled.till.answer() == cancelled.till.answer() == OK
    assert 3 < max(settled.till.seconds, cancelled.till.seconds) < 5
    assert settled.counts() and cancelled.counts()
    assert shop.spend(settled.card, made(shop.pair.bob.invoice(401)))["status"] == "ERROR"
    settled.settle()
    cancelled.cancel()
    settled.ends("paid")
    cancelled.ends("failed")
    assert shop.spend(cancelled.card, made(shop.pair.bob.invoice(1000))) == OK


@pytest.mark.parametrize("killed", [("lnd",), ("tollgated",), ("lnd", "tollgated")], ids="+".join)
def test_kill_in_mid_payment_loses_nothing(shop, killed):
    """Three payments are held: one is settled meanwhile, one is cancelled meanwhile, one is held on and settled
    afterwards.
    """
    settled, cancelled, held = shop.hold(), shop.hold(), shop.hold()
    if "tollgated" in killed:
        shop.daemon.kill()
    if "lnd" in killed:
        shop.pair.alice.kill()
    settled.settle()
    cancelled.cancel()
    if "tollgated" in killed:
        shop.daemon.start()
    if "lnd" in killed:
        time.sleep(1)
        assert all(one.counts() for one in (settled, cancelled, held)), "nobody knows, so all of it counts"
        shop.pair.alice.start()
    settled.ends("paid")
    cancelled.ends("failed")
    assert held.counts()
    held.settle()
    held.ends("paid")


def test_stop_of_lnd_in_mid_payment_is_no_failure(shop):
    """It says HTTP 500, code 2, of a payment that is in flight, and of one that it does not begin."""
    held, late = shop.hold(), shop.card(day_max=1000)
    shop.pair.alice.stop()
    assert held.counts()
    assert shop.spend(late, made(shop.pair.bob.invoice(1000))) == FAILED, "lnd is away: proven not asked"
    assert shop.spent(late) == 0
    shop.pair.alice.start()
    held.settle()
    held.ends("paid")


def test_answer_that_is_lost_with_the_daemon_is_looked_up_at_its_start(shop):
    """lnd has paid; the daemon dies before it hears of it."""
    card, invoice = shop.card(day_max=1000), shop.pair.bob.invoice(600)
    later = callback_path(shop.k1(card), invoice.request)
    held = shop.hold()
    shop.wire.hold()
    try:
        held.settle()
        wait_for(lambda: shop.pair.alice.payments_of(held.invoice) == ["SUCCEEDED"], 10, "Alice has paid")
        assert shop.states(held.card) == ["pending"]
        shop.daemon.kill()
    finally:
        shop.wire.hold(False)
    shop.daemon.start()
    held.ends("paid", limit=5)
    assert shop.ask(later) == OK, "a tap of before is still good"


def test_kill_at_any_moment_of_a_payment_ends_as_lnd_says(shop):
    """`kill -9` so many milliseconds after the till's question; what lnd never saw goes on counting until its invoice
    is over.
    """
    rounds = []
    for delay in (0, 0.002, 0.004, 0.007, 0.012, 0.02, 0.04, 0.08):
        card, invoice = shop.card(day_max=1000), shop.pair.bob.invoice(600)
        shop.begin(card, made(invoice))
        time.sleep(delay)
        shop.daemon.kill()
        shop.daemon.start()
        rounds.append((card, invoice))
    for card, invoice in rounds:
        state = wait_for(lambda: end_of(shop, card, invoice), 15, "history and lnd agree")
        assert shop.spent(card) == (600 if state in ("paid", "pending") else 0)


def end_of(shop, card, invoice) -> str | None:
    """What the history says, where that is what Alice and Bob say. What arrived just before the kill, lnd is still
    paying.
    """
    (state,) = shop.states(card)
    settled = shop.pair.bob.invoice_state(invoice) == "SETTLED"
    payments = shop.pair.alice.payments_of(invoice)
    return state if settled == (state == "paid") and payments == (["SUCCEEDED"] if settled else []) else None


def test_reload_to_another_backend_leaves_payments_in_flight_with_lnd(shop):
    """Also with the macaroon's file gone, and after a restart."""
    settled, cancelled = shop.hold(), shop.hold()
    lightning = shop.daemon.sections["lightning"]
    card, other = shop.card(day_max=1000), shop.invoice(600)
    try:
        shop.daemon.sections["lightning"] = CardShop.lightning(shop, shop.node)
        shop.daemon.write_config()
        os.remove(lightning["macaroon_file"])
        shop.daemon.command("reload")
        assert shop.spend(card, other) == OK and shop.node.asked[-1] == other.request
        settled.settle()
        settled.ends("paid")
        shop.daemon.restart()
        assert cancelled.counts()
        cancelled.cancel()
        cancelled.ends("failed")
        assert not shop.node.complaints
    finally:
        shop.daemon.sections["lightning"] = shop.lightning(shop.node)
        shop.daemon.write_config()
        shop.daemon.command("reload")
    assert shop.spend(shop.card(), made(shop.pair.bob.invoice(21))) == OK


def test_money_of_what_was_never_sent_comes_back_once_its_invoice_is_over(shop, never_arrived):
    card, invoice, ends, path = never_arrived
    shop.wait_for_states(card, "failed", limit=max(1, ends + 60 - time.time()))
    assert time.time() >= ends
    (line,) = shop.history(card)
    assert line["note"] == "never sent" and shop.spent(card) == 0
    assert shop.pair.alice.payments_of(invoice) == []
    assert shop.ask(path) == FAILED
    assert shop.spend(card, made(shop.pair.bob.invoice(1000))) == OK
