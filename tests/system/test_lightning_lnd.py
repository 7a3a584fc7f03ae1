"""lnd itself: two nodes with a channel, invoices that are held while the paying node is killed, stopped, restarted."""

import signal
import time

import pytest

from lab.backends import STAND_INS, RealLnd
from lab.invoices import make
from lab.place import answer_when, wait_for


@pytest.fixture
def lnd(lightning, tmp_path):
    """Alice's node as the daemon knows it; up and with its channel again after each test."""
    yield RealLnd(lightning, str(tmp_path))
    for node in (lightning.alice, lightning.bob):
        if not (node.process and node.process.poll() is None):
            node.start()
    lightning.wait_routable()


@pytest.fixture
def stand_in(tmp_path):
    made = STAND_INS["lnd-stand-in"](str(tmp_path))
    yield made
    made.close()


def in_flight(lnd, sats=1000):
    """A payment that Bob holds, and the call that waits for it."""
    held = lnd.pair.bob.hold_invoice(sats)
    call = lnd.payer.begin("pay", held.request)
    lnd.pair.bob.wait_held(held)
    return held, call


def test_payment_is_made_once_and_proven(lnd):
    invoice = lnd.pair.bob.invoice(1234)
    before = lnd.pair.bob.balance_msat()
    paid = lnd.payer.pay(invoice.request)
    assert (paid.outcome, paid.fee_msat) == ("paid", 0)
    assert lnd.pair.bob.invoice_state(invoice) == "SETTLED"
    assert lnd.payer.lookup(invoice.request).preimage == paid.preimage
    again = lnd.payer.pay(invoice.request)
    assert (again.outcome, again.preimage) == ("paid", paid.preimage)
    wait_for(lambda: lnd.pair.bob.balance_msat() == before + 1_234_000, 10, "Bob has it, once")
    assert lnd.pair.alice.payments_of(invoice) == ["SUCCEEDED"]


def test_millisatoshis_are_paid_exactly(lnd):
    invoice = lnd.pair.bob.invoice(msat=1001)
    assert lnd.payer.pay(invoice.request).outcome == "paid"
    assert lnd.pair.bob.api("GET", f"/v1/invoice/{invoice.payment_hash}")["amt_paid_msat"] == "1001"


def test_held_payment_is_unknown_until_it_is_settled(lnd):
    held, call = in_flight(lnd)
    assert lnd.payer.lookup(held.request).outcome == "unknown"
    assert lnd.payer.pay(held.request).outcome == "unknown"
    lnd.pair.bob.settle(held)
    assert (call.answer().outcome, call.running) == ("paid", False)
    assert lnd.payer.lookup(held.request).preimage == held.preimage
    assert lnd.pair.alice.payments_of(held) == ["SUCCEEDED"]


def test_held_payment_is_failed_when_it_is_cancelled(lnd):
    held, call = in_flight(lnd)
    lnd.pair.bob.cancel(held)
    answer = call.answer()
    assert (answer.outcome, answer.why) == ("failed", "incorrect_payment_details")
    assert lnd.payer.lookup(held.request).outcome == "failed"


def test_payer_that_goes_away_does_not_stop_the_payment(lnd):
    held, call = in_flight(lnd)
    call.kill()
    assert lnd.payer.lookup(held.request).outcome == "unknown"
    lnd.pair.bob.settle(held)
    wait_for(lambda: lnd.payer.lookup(held.request).outcome == "paid", 10, "it is paid")


@pytest.mark.parametrize("meanwhile", ["settled", "cancelled", "held"])
def test_kill_of_lnd_in_mid_payment_leaves_it_unknown_until_lnd_knows(lnd, meanwhile):
    held, call = in_flight(lnd)
    lnd.pair.alice.kill()
    assert call.answer().outcome == "unknown"
    gone = lnd.payer.lookup(held.request)
    assert gone.outcome == "unknown" and "connection" in gone.why
    if meanwhile == "settled":
        lnd.pair.bob.settle(held)
    elif meanwhile == "cancelled":
        lnd.pair.bob.cancel(held)
    lnd.pair.alice.start(ready=False)
    # At any moment of its start: never failed unless it is, never paid unless it is.
    end = {"settled": "paid", "cancelled": "failed", "held": "unknown"}[meanwhile]
    deadline = time.monotonic() + 120
    found = lnd.payer.lookup(held.request)
    while found.outcome == "unknown" and end != "unknown":
        assert time.monotonic() < deadline, found
        found = lnd.payer.lookup(held.request)
    lnd.pair.alice.wait_active()
    if meanwhile == "held":
        assert lnd.payer.lookup(held.request).outcome == "unknown"
        assert lnd.payer.pay(held.request).outcome == "unknown"
        lnd.pair.wait_routable()
        lnd.pair.bob.settle(held)
        found = answer_when(
            lambda found: found.outcome == "paid", lambda: lnd.payer.lookup(held.request), 20, "it is paid"
        )
        end = "paid"
    assert found.outcome == end
    assert len(lnd.pair.alice.payments_of(held)) == 1


def test_stop_of_lnd_in_mid_payment_is_no_failure(lnd):
    """lnd says HTTP 500, code 2, of a payment that is in flight."""
    held, call = in_flight(lnd)
    lnd.pair.alice.stop()
    assert call.answer().outcome == "unknown"
    lnd.pair.alice.start()
    lnd.pair.wait_routable()
    assert lnd.payer.lookup(held.request).outcome == "unknown"
    lnd.pair.bob.settle(held)
    wait_for(lambda: lnd.payer.lookup(held.request).outcome == "paid", 20, "it is paid")


def test_orders_while_lnd_starts_end_as_they_say(lnd):
    """Locked, unlocked, without peers: what is called failed was not paid, then or later."""
    lnd.pair.alice.stop()
    lnd.pair.alice.start(ready=False)
    seen, deadline = [], time.monotonic() + 150
    while "paid" not in [outcome for _, outcome in seen]:
        assert time.monotonic() < deadline, seen
        invoice = lnd.pair.bob.invoice(10)
        seen.append((invoice, lnd.payer.pay(invoice.request).outcome))
    for invoice, outcome in seen:
        paid = lnd.pair.bob.invoice_state(invoice) == "SETTLED"
        assert outcome == "unknown" or paid == (outcome == "paid"), outcome
        assert lnd.payer.lookup(invoice.request).outcome in {"paid": ["paid"], "failed": ["failed", "absent"]}.get(
            outcome, ["failed", "absent", "paid"]
        )


def test_frozen_lnd_is_looked_up(lnd):
    invoice = lnd.pair.bob.invoice(11)
    lnd.pair.alice.signal(signal.SIGSTOP)
    try:
        found = lnd.payer.lookup(invoice.request, tries=1)
        assert found.outcome == "unknown" and "no" in found.why
    finally:
        lnd.pair.alice.signal(signal.SIGCONT)


# Refusals: S rows of the table of states


def test_no_route_is_proven(lnd):
    invoice = make(21)
    assert (lnd.payer.pay(invoice.request).outcome, lnd.payer.lookup(invoice.request).outcome) == ("failed", "failed")


def test_more_than_there_is_is_proven_failed(lnd):
    invoice = lnd.pair.bob.invoice(9_500_000)
    paid = lnd.payer.pay(invoice.request)
    assert (paid.outcome, paid.why) == ("failed", "insufficient_balance")


def test_cancelled_invoice_is_proven_failed(lnd):
    invoice = lnd.pair.bob.invoice(5)
    lnd.pair.bob.cancel(invoice)
    paid = lnd.payer.pay(invoice.request)
    assert (paid.outcome, paid.why) == ("failed", "incorrect_payment_details")


def test_payee_that_is_offline_gets_nothing_and_can_be_paid_later(lnd):
    invoice = lnd.pair.bob.invoice(77)
    lnd.pair.bob.stop()
    wait_for(
        lambda: not any(channel["active"] for channel in lnd.pair.alice.api("GET", "/v1/channels")["channels"]),
        15,
        "Alice has noticed",
    )
    assert lnd.payer.pay(invoice.request).outcome == "failed"
    lnd.pair.bob.start()
    lnd.pair.wait_routable()
    assert lnd.payer.lookup(invoice.request).outcome == "failed"
    assert lnd.payer.pay(invoice.request).outcome == "paid"
    assert lnd.payer.lookup(invoice.request).outcome == "paid"


@pytest.mark.parametrize("invoice, why", [
    (lambda pair: make(21, age=7200), "invoice expired"),
    (lambda pair: make(21, currency="bc"), "invoice not for current active network"),
    (lambda pair: pair.alice.invoice(21), "self-payments not allowed"),
])
def test_invoice_that_lnd_does_not_try_was_not_paid(lnd, invoice, why):
    invoice = invoice(lnd.pair)
    paid = lnd.payer.pay(invoice.request)
    assert paid.outcome == "failed" and why in paid.why
    assert lnd.payer.lookup(invoice.request).outcome == "absent"


def test_payment_that_nobody_made_is_not_there(lnd):
    for _ in range(8):  # hashes with every digit of base64
        assert lnd.payer.lookup(make(1).request).outcome == "absent"


# Who may, and whom we trust


@pytest.mark.parametrize("permissions, pays, looks", [
    (["offchain:write"], True, False),
    (["offchain:read"], False, True),
    (["offchain:read", "offchain:write"], True, True),
    (["uri:/routerrpc.Router/SendPaymentV2", "uri:/routerrpc.Router/TrackPaymentV2"], True, True),
])
def test_command_says_what_a_macaroon_may(lnd, permissions, pays, looks):
    payer = lnd.payer_with(lnd.pair.alice.bake(*permissions), "baked")
    report = payer.test()
    assert (report["answers"], report["may_pay"] is None, report["may_look_up"] is None) == (None, pays, looks)
    for cause in (report["may_pay"], report["may_look_up"]):
        assert cause is None or "permission denied" in cause
    code, text = payer.command()
    assert (code == 0) == (pays and looks) == ("NO" not in text)
    paid = payer.pay(lnd.pair.bob.invoice(3).request)
    assert paid.outcome == ("paid" if pays else "failed")


def test_macaroon_file_is_read_as_lnd_writes_it_and_as_hex(lnd):
    with open(lnd.pair.alice.macaroon_file, "rb") as file:
        raw = file.read()
    for name, content in (
        ("raw", raw),
        ("hex", raw.hex()),
        ("lines", "\n".join([raw.hex().upper()[:40], raw.hex().upper()[40:], ""])),
    ):
        assert lnd.payer_with(content, name).test()["good"], name


def test_macaroon_of_another_node_paid_nothing(lnd):
    invoice = lnd.pair.bob.invoice(4)
    paid = lnd.stranger().pay(invoice.request)
    assert paid.outcome == "failed" and "verification failed" in paid.why
    assert lnd.pair.alice.payments_of(invoice) == []


@pytest.mark.parametrize("pin", ["colons", "lower", "blanks"])
def test_certificate_is_known_by_its_fingerprint(lnd, pin):
    sha = lnd.pair.alice.cert_sha256
    text = {"colons": sha, "lower": sha.replace(":", "").lower(), "blanks": sha.replace(":", " ")}[pin]
    assert lnd.payer_with(lnd.macaroon, "pinned", cert_sha256=text).test()["good"]


def test_other_certificate_is_refused_before_anything_is_sent(lnd):
    invoice = lnd.pair.bob.invoice(6)
    payer = lnd.payer_with(lnd.macaroon, "wrong-pin", cert_sha256=lnd.pair.bob.cert_sha256)
    paid = payer.pay(invoice.request)
    assert paid.outcome == "failed" and all(
        node.cert_sha256.replace(":", "").lower() in paid.why for node in (lnd.pair.alice, lnd.pair.bob)
    )
    assert payer.lookup(invoice.request).outcome == "unknown"
    assert lnd.pair.alice.payments_of(invoice) == []
    assert payer.command()[0] == 1


def test_certificate_of_lnds_own_needs_its_fingerprint(lnd):
    payer = lnd.payer_with(lnd.macaroon, "no-pin")
    with open(payer.config) as file:
        text = "".join(line for line in file if "cert_sha256" not in line)
    with open(payer.config, "w") as file:
        file.write(text)
    paid = payer.pay(lnd.pair.bob.invoice(6).request)
    assert paid.outcome == "failed" and "TLS" in paid.why


# What a real node did not do on command


def test_time_out_of_lnds_own_is_proven(stand_in):
    invoice = stand_in.invoice()
    stand_in.next(pay="failed")
    paid = stand_in.payer.pay(invoice.request)
    assert (paid.outcome, paid.why) == ("failed", "timeout")


def test_states_under_way_are_read_past(stand_in):
    stand_in.node.updates_first = True
    invoice = stand_in.invoice()
    assert stand_in.payer.pay(invoice.request).outcome == "paid"


@pytest.mark.parametrize(
    "words",
    [
        (500, 2, "routerrpc server shutting down"),
        (500, 2, "something new"),
        (409, 6, "payment is in transition"),
        (400, 3, "proto: unknown field"),
        (503, 14, "unavailable"),
    ],
)
def test_error_while_the_payment_goes_on_is_no_failure(stand_in, words):
    invoice = stand_in.invoice()
    stand_in.next(pay="pending")
    stand_in.node.last_words = words
    assert stand_in.payer.pay(invoice.request).outcome == "unknown"
    stand_in.settle(invoice)
    assert stand_in.payer.lookup(invoice.request).outcome == "paid"


@pytest.mark.parametrize("state", ["paid", "failed"])
def test_stream_that_ends_after_its_updates_is_no_failure(stand_in, state):
    """`lnd` is stopped (its last line says so) or killed (the stream is cut) when it had said that the payment is in
    flight.
    """
    for fault, words in ((None, (500, 2, "routerrpc server shutting down")), ("truncate", None)):
        invoice = stand_in.invoice()
        stand_in.next(pay="pending", fault=fault)
        stand_in.node.updates_first, stand_in.node.last_words = True, words
        assert stand_in.payer.pay(invoice.request).outcome == "unknown"
        stand_in.node.updates_first = False
        (stand_in.settle if state == "paid" else stand_in.fail)(invoice)
        assert stand_in.payer.lookup(invoice.request).outcome == state


@pytest.mark.parametrize("words", [
    (500, 2, "amount must be specified when paying a zero amount invoice"),
    (500, 2, "amount must not be specified when paying a non-zero amount invoice"),
    (500, 2, "checksum failed. Expected 7ezz0p, got 7ezz0q."),
    (500, 2, "invalid bech32 string length 5"),
    (500, 2, "sat and msat arguments are mutually exclusive"),
    (500, 2, "wallet not created, create one to enable full RPC access"),
    (500, 2, "wallet locked, unlock it to enable full RPC access"),
    (500, 2, "the RPC server is in the process of starting up, but not yet ready to accept calls"),
    (500, 2, "expected 1 macaroon, got 0"),
    (500, 2, "empty macaroon data"),
])
def test_refusal_before_anything_was_tried_is_proof_for_a_payment_and_none_for_a_look(stand_in, words):
    before, refused = stand_in.invoice(), stand_in.invoice()
    stand_in.next(pay="pending")
    assert stand_in.payer.pay(before.request).outcome == "unknown"
    stand_in.node.refusal = words
    assert stand_in.payer.pay(refused.request).outcome == "failed"
    assert stand_in.payer.lookup(before.request).outcome == "unknown"
    stand_in.node.refusal = None
    stand_in.settle(before)
    assert (stand_in.payer.lookup(before.request).outcome, stand_in.payer.lookup(refused.request).outcome) == (
        "paid",
        "absent",
    )


@pytest.mark.parametrize(
    "words", [(400, 3, 'proto: (line 1:361): unknown field "bogus"'), (404, 5, "Not Found"), (500, 2, "new words")]
)
def test_refusal_that_nobody_knows_is_no_proof_by_itself(stand_in, words):
    stand_in.node.refusal = words
    assert stand_in.payer.pay(stand_in.invoice().request).outcome == "unknown"


@pytest.mark.parametrize("state", ["LOCKED", "RPC_ACTIVE", "WAITING_TO_START"])
def test_command_says_that_lnd_is_not_active(stand_in, state):
    stand_in.node.state = state
    code, text = stand_in.payer.command()
    assert code == 1 and state in text
