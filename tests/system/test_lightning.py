"""One battery over every Lightning backend: paid, proven failed, or unknown until looked up; and never paid twice.

LNbits and the mint are real ones, behind a proxy that spoils their answers. lnd's stand-in does here what a real node
does not do on command; the real one is tested in `test_lightning_lnd.py`. Core Lightning, phoenixd and Sphinx are
stand-ins throughout.
"""

import concurrent.futures
import time

import pytest

from lab.backends import STAND_INS, RealLnbits, RealMelt
from lab.invoices import make
from lab.payer import Payer
from lab.place import wait_for

BACKENDS = ["lnbits", "melt", *STAND_INS]
SPOILT = ["cut", "truncate", "garbage", "oversized", "gateway", "redirect", "error", "other-hash"]
UNPROVEN = ["wrong-preimage", "no-preimage"]


REAL = {"lnbits": (RealLnbits, "lnbits"), "melt": (RealMelt, "melting_mint")}


@pytest.fixture(scope="module")
def melting(melting_mint, tmp_path_factory):
    """One wallet for all tests: it is filled at a price."""
    made = RealMelt(melting_mint, str(tmp_path_factory.mktemp("melting")), sats=10_000)
    yield made
    made.close()


@pytest.fixture(params=BACKENDS)
def backend(request, tmp_path):
    if request.param == "melt":
        made = request.getfixturevalue("melting")
        made.proxy.clear()
        made.next()
        yield made
        return
    if request.param in REAL:
        made, peer = REAL[request.param]
        made = made(request.getfixturevalue(peer), str(tmp_path))
    else:
        made = STAND_INS[request.param](str(tmp_path))
    made.next()
    yield made
    made.close()


def looked_up(backend, invoice, paid):
    """A look with what the payment's own answer gave, as a card's history keeps it."""
    return backend.payer.lookup(invoice.request, paid.reference)


def ended(backend, invoice, paid):
    """The same when the backend had time to find out by itself, if it does that."""
    if backend.ways.goes_on_by_itself:
        wait_for(lambda: looked_up(backend, invoice, paid).outcome != "unknown", 30, "the payment has an end")
    return looked_up(backend, invoice, paid)


def test_payment_is_made_once_and_proven(backend):
    invoice = backend.invoice(21)
    paid = backend.payer.pay(invoice.request)
    assert (paid.outcome, paid.fee_msat) == ("paid", backend.ways.fee_msat)
    assert paid.preimage == (invoice.preimage if backend.ways.shows_preimage else None)
    found = looked_up(backend, invoice, paid)
    assert (found.outcome, found.preimage, found.fee_msat) == (paid.outcome, paid.preimage, paid.fee_msat)
    assert backend.times_paid(invoice) == 1


def test_refused_payment_is_proven_failed(backend):
    invoice = backend.invoice()
    backend.next(pay="failed")
    paid = backend.payer.pay(invoice.request)
    if not backend.ways.finds_by_hash:
        assert paid.outcome == "unknown"
        paid = looked_up(backend, invoice, paid)
    assert paid.outcome == "failed"
    assert looked_up(backend, invoice, paid).outcome == "failed" or not backend.ways.finds_by_hash
    assert backend.times_paid(invoice) == 0


@pytest.mark.parametrize("end", ["paid", "failed"])
def test_pending_payment_is_unknown_until_it_has_ended(backend, end):
    invoice = backend.invoice()
    backend.next(pay="pending")
    paid = backend.payer.pay(invoice.request)
    assert paid.outcome == "unknown"
    assert looked_up(backend, invoice, paid).outcome == "unknown"
    (backend.settle if end == "paid" else backend.fail)(invoice)
    assert ended(backend, invoice, paid).outcome == end


@pytest.mark.parametrize("fault", SPOILT)
def test_answer_that_is_lost_after_paying_is_never_a_failure(backend, fault):
    if backend.type in REAL and fault == "other-hash":
        pytest.skip("its answer to a payment is not what is believed, or names no hash")
    invoice = backend.invoice()
    backend.next(pay="paid", fault=fault)
    reached = backend.type not in REAL or fault in ("cut", "truncate", "oversized")
    paid = backend.payer.pay(invoice.request)
    if not reached:
        # The proxy answered for LNbits, or the mint; whether that paid, nobody can tell from it.
        assert paid.outcome in ("unknown", "paid")
        if backend.ways.goes_on_by_itself:
            backend.settle(invoice)
            assert ended(backend, invoice, paid).outcome == "paid" and backend.times_paid(invoice) == 1
        return
    assert paid.outcome in ("unknown", "paid"), paid
    found = ended(backend, invoice, paid)
    assert backend.times_paid(invoice) == 1
    if backend.ways.finds_by_hash:
        assert (found.outcome, found.preimage) == ("paid", invoice.preimage)
    else:
        assert found.outcome == "unknown"


@pytest.mark.parametrize("fault", ["cut", "truncate", "garbage", "oversized", "gateway", "redirect"])
@pytest.mark.parametrize("end", ["paid", "failed"])
def test_spoilt_answer_to_a_look_says_nothing(backend, fault, end):
    if backend.ways.goes_on_by_itself:
        pytest.skip("looks of its own, which are spoilt below")
    invoice = backend.invoice()
    backend.next(pay="pending")
    paid = backend.payer.pay(invoice.request)
    (backend.settle if end == "paid" else backend.fail)(invoice)
    backend.spoil_look(fault)
    assert looked_up(backend, invoice, paid).outcome == "unknown"
    assert looked_up(backend, invoice, paid).outcome == end


@pytest.mark.parametrize("end", ["paid", "failed"])
def test_spoilt_answers_to_looks_of_its_own_say_nothing(melting_mint, tmp_path, end):
    backend = RealMelt(melting_mint, str(tmp_path))
    backend.next(pay="pending")
    invoice = backend.invoice()
    for fault in ("cut", "truncate", "garbage", "oversized", "gateway", "redirect"):
        backend.spoil_look(fault)
    paid = backend.payer.pay(invoice.request)
    (backend.settle if end == "paid" else backend.fail)(invoice)
    seen = []
    wait_for(
        lambda: seen.append(looked_up(backend, invoice, paid).outcome) or seen[-1] != "unknown", 120, "it has an end"
    )
    assert seen[-1] == end and not backend.proxy.faults
    backend.close()


@pytest.mark.parametrize("fault", UNPROVEN)
def test_paid_without_proof_is_believed_only_of_who_keeps_the_money(backend, fault):
    if not backend.ways.shows_preimage or (backend.type == "lnbits" and fault == "no-preimage"):
        pytest.skip("it shows no preimage, or always one")
    invoice = backend.invoice()
    backend.next(pay="paid", fault=fault)
    paid = backend.payer.pay(invoice.request)
    # A mint has the ecash, and that is the end of it, whatever it shows.
    assert (paid.outcome, paid.preimage) == ("paid" if backend.ways.believes_wrong_preimages else "unknown", None)


def test_invoice_that_was_paid_before_is_looked_up_and_not_paid_again(backend):
    invoice = backend.invoice()
    first = backend.payer.pay(invoice.request)
    again = backend.payer.pay(invoice.request)
    assert first.outcome == "paid"
    assert again.outcome == ("paid" if backend.ways.finds_by_hash else "unknown")
    assert backend.times_paid(invoice) == 1


def test_second_order_while_the_first_is_under_way_pays_nothing(backend):
    invoice = backend.invoice()
    backend.next(pay="pending")
    assert backend.payer.pay(invoice.request).outcome == "unknown"
    assert backend.payer.pay(invoice.request).outcome == "unknown"
    backend.settle(invoice)
    if backend.type in REAL:
        assert (backend.lnbits if backend.type == "lnbits" else backend.mint).asked_to_pay(invoice.payment_hash) == 1
    else:
        assert backend.times_paid(invoice) == 1


def test_node_that_is_away_was_proven_not_asked(backend):
    invoice = backend.invoice()
    away = backend.away()
    paid = away.pay(invoice.request)
    assert paid.outcome == "failed" and ("connection" in paid.why or backend.type == "melt")
    report = away.test()
    assert not report["good"] and report["answers"]
    if backend.type == "melt":
        assert away.lookup(invoice.request).outcome == "failed"
        away.close()
    else:
        assert away.lookup(invoice.request).outcome == "unknown"
        assert "connection" in report["answers"] and report["may_pay"] == "not tried"


def test_refused_credentials_paid_nothing(backend):
    if not backend.ways.has_secret:
        pytest.skip("it has none")
    invoice = backend.invoice()
    stranger = backend.stranger()
    assert stranger.pay(invoice.request).outcome == "failed"
    # LNbits tells everybody which payments do not exist.
    assert stranger.lookup(invoice.request).outcome == ("absent" if backend.type == "lnbits" else "unknown")
    assert backend.times_paid(invoice) == 0
    code, text = stranger.command()
    assert code == 1 and "NO: " in text


def test_payment_that_nobody_made_is_not_there(backend):
    found = backend.payer.lookup(backend.invoice().request)
    assert found.outcome == (backend.ways.unmade if backend.ways.finds_by_hash else "unknown")


def test_command_says_that_nothing_is_missing(backend):
    if backend.type == "melt":
        pytest.skip("it asks the running daemon: tested with one")
    before = len(getattr(backend.node, "ledger", {}))
    code, text = backend.payer.command()
    assert code == 0, text
    assert [line.strip() for line in text.splitlines()[1:4]] == ["answers: yes", "may pay: yes", "may look up: yes"]
    assert ("fee_limit_msat has no effect" in text) == (backend.type in ("lnbits", "phoenixd", "sphinx"))
    assert len(getattr(backend.node, "ledger", {})) == before


def test_silence_of_a_minute_is_no_failure(request, tmp_path):
    """All backends at once: each waits as long as it ever does."""
    made = {name: STAND_INS[name](str(tmp_path / name)) for name in STAND_INS}
    for name, (real, peer) in REAL.items():
        made[name] = real(request.getfixturevalue(peer), str(tmp_path / name))
    began = time.monotonic()
    try:
        calls = {}
        for name, backend in made.items():
            invoice = backend.invoice()
            backend.next(pay="paid", fault="hang")
            calls[name] = backend.payer.begin("pay", invoice.request)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            outcomes = dict(zip(calls, pool.map(lambda call: call.answer(110).outcome, calls.values())))
        assert outcomes == dict.fromkeys(made, "unknown")
        assert 40 < time.monotonic() - began < 100
    finally:
        for backend in made.values():
            backend.close()


def test_no_output_ever_shows_the_secret(backend):
    if not backend.ways.has_secret:
        pytest.skip("it has none")
    for payer in (backend.payer, backend.away(), backend.stranger()):
        with open(payer.config) as config:
            secret_file = next(line.split("'")[1] for line in config if "_file" in line)
        with open(secret_file) as file:
            secret = file.read()
        _, text = payer.command()
        assert secret not in text and secret not in str(payer.pay(make().request))


def test_secret_that_others_may_read_is_not_used(tmp_path):
    payer = Payer(str(tmp_path), type="lnbits", url="http://127.0.0.1:9", secret=("key_file", "hunter2"), mode=0o644)
    code, text = payer.command()
    assert code == 1 and "chmod 600" in text and "hunter2" not in text
