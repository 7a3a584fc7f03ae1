"""What is peculiar to one Lightning backend: LNbits for real, stand-ins for Core Lightning, phoenixd and the Sphinx
bot.
"""

import pytest

from lab.backends import STAND_INS, RealLnbits
from lab.payer import Payer
from lab.peers.cln import Cln
from lab.peers.phoenixd import Phoenixd
from lab.place import wait_for


def opened(name):
    @pytest.fixture(name=name)
    def fixture(tmp_path):
        made = STAND_INS[name](str(tmp_path))
        yield made
        made.close()

    return fixture


cln, phoenixd, sphinx = opened("cln"), opened("phoenixd"), opened("sphinx")


@pytest.fixture(name="bits")
def real_lnbits(lnbits, tmp_path):
    made = RealLnbits(lnbits, str(tmp_path))
    made.next()
    yield made
    made.close()


# LNbits


class Internal:
    """An invoice of another wallet of the same LNbits, which settles it by itself."""

    def __init__(self, wallet, sats):
        self.request = wallet.invoice(sats)


def test_invoice_of_another_wallet_is_paid_without_fee_and_once(bits):
    payee = bits.lnbits.wallet(0)
    invoice = Internal(payee, 21)
    before = bits.wallet.balance_msat()
    paid = bits.payer.pay(invoice.request)
    assert (paid.outcome, paid.fee_msat, len(paid.preimage)) == ("paid", 0, 64)
    # LNbits calls the second order failed: "Internal invoice already paid."
    assert bits.payer.pay(invoice.request) == paid == bits.payer.lookup(invoice.request)
    assert (bits.wallet.balance_msat(), payee.balance_msat()) == (before - 21_000, 21_000)


def test_invoice_of_the_same_wallet_is_never_called_failed(bits):
    """It is paid from one pocket to the other; which of the two records LNbits shows is its own affair."""
    invoice = Internal(bits.wallet, 21)
    assert bits.payer.lookup(invoice.request).outcome == "unknown"
    assert bits.payer.pay(invoice.request).outcome in ("paid", "unknown")
    assert bits.payer.lookup(invoice.request).outcome in ("paid", "unknown")


def test_somebody_elses_payment_is_not_ours(bits):
    invoice = Internal(bits.lnbits.wallet(0), 21)
    other = bits.lnbits.wallet(1000)
    bits.lnbits.api("POST", "/api/v1/payments", {"out": True, "bolt11": invoice.request}, key=other.adminkey)
    assert bits.payer.lookup(invoice.request).outcome != "paid"
    assert bits.payer.pay(invoice.request).outcome == "failed"
    assert bits.wallet.balance_msat() == 1_000_000_000


def test_empty_wallet_is_proven_not_to_have_paid(bits, tmp_path):
    poor = Payer(
        str(tmp_path / "poor"), type="lnbits", url=bits.lnbits.url, secret=("key_file", bits.lnbits.wallet(1).adminkey)
    )
    paid = poor.pay(bits.invoice(500).request)
    assert paid.outcome == "failed" and "Insufficient balance" in paid.why


def test_invoice_key_is_told_from_the_admin_key(bits, tmp_path):
    reader = Payer(
        str(tmp_path / "reader"), type="lnbits", url=bits.lnbits.url, secret=("key_file", bits.wallet.inkey)
    )
    assert reader.pay(bits.invoice().request).outcome == "failed"
    code, text = reader.command()
    assert code == 1 and "may pay: NO: this is an invoice key" in text and "may look up: yes" in text


def test_paid_without_preimage_is_believed_of_lnbits(bits):
    invoice = bits.invoice()
    bits.lnbits.know(invoice.payment_hash, "0" * 64)
    paid = bits.payer.pay(invoice.request)
    assert (paid.outcome, paid.preimage) == ("paid", None)


def test_slow_payment_is_found_when_it_is_over(bits):
    invoice = bits.invoice()
    bits.lnbits.set(delay=3, wait=1)
    assert bits.payer.pay(invoice.request).outcome == "unknown"
    bits.lnbits.set(status="paid")
    assert bits.payer.lookup(invoice.request).outcome == "paid"


def test_kill_of_lnbits_in_mid_payment_leaves_it_unknown(bits):
    invoice = bits.invoice()
    bits.lnbits.set(delay=60, wait=60)
    call = bits.payer.begin("pay", invoice.request)
    wait_for(lambda: bits.lnbits.asked_to_pay(invoice.payment_hash), 20, "the node was asked")
    bits.lnbits.kill()
    assert call.answer().outcome == "unknown"
    assert bits.payer.lookup(invoice.request).outcome == "unknown"
    bits.lnbits.start()
    # The record of it was not yet committed when it died; what the node did, LNbits does not know.
    assert bits.payer.lookup(invoice.request).outcome in ("unknown", "absent")


# Core Lightning


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("code, outcome", [
    (203, "failed"), (205, "failed"), (206, "failed"), (207, "failed"), (210, "failed"), (-32602, "failed"),
])
def test_codes_of_core_lightning_that_are_proof(cln, code, outcome, wrapped):
    cln.node.error_code, cln.node.wrapped = code, wrapped
    invoice = cln.invoice()
    cln.next(pay="failed")
    assert cln.payer.pay(invoice.request).outcome == outcome


@pytest.mark.parametrize("code", [-1, 200, 201, 209, 219, -32603])
def test_other_codes_of_core_lightning_are_looked_up(cln, code):
    cln.node.error_code = code
    failed = cln.invoice()
    cln.next(pay="failed")
    assert cln.payer.pay(failed.request).outcome == "failed"  # by listpays


def test_code_that_is_proof_does_not_count_while_a_part_is_pending(cln):
    invoice = cln.invoice()
    cln.next(pay="pending")
    cln.payer.pay(invoice.request)
    cln.node.may = {"pay"}
    assert cln.payer.pay(invoice.request).outcome == "unknown"
    cln.node.may = {"pay", "listpays"}
    cln.settle(invoice)
    assert cln.payer.lookup(invoice.request).outcome == "paid"


def test_amounts_of_older_core_lightning_are_read(cln):
    cln.node.wrapped = True
    paid = cln.payer.pay(cln.invoice().request)
    assert (paid.outcome, paid.fee_msat) == ("paid", 7)


def test_earlier_failed_attempt_beside_a_complete_one_is_paid(cln):
    invoice = cln.invoice()
    cln.next(pay="failed")
    assert cln.payer.pay(invoice.request).outcome == "failed"
    cln.next()
    assert cln.payer.pay(invoice.request).outcome == "paid"
    assert cln.payer.lookup(invoice.request).outcome == "paid"


@pytest.mark.parametrize("may, missing", [({"listpays"}, "may pay: NO"), ({"pay"}, "may look up: NO")])
def test_command_says_what_a_rune_may_not(cln, may, missing):
    cln.node.may = may
    code, text = cln.payer.command()
    assert code == 1 and missing in text and "Not authorized" in text and Cln.rune not in text
    assert text.count("NO") == 1


# phoenixd


@pytest.mark.parametrize(
    "reason", ["this invoice has already been paid", "another payment is in progress for that invoice, already"]
)
def test_reasons_of_phoenixd_that_are_no_failure(phoenixd, reason):
    invoice = phoenixd.invoice()
    phoenixd.node.reason, phoenixd.node.finds_by_hash = reason, False
    phoenixd.next(pay="failed")
    assert phoenixd.payer.pay(invoice.request).outcome == "unknown"


def test_command_knows_the_limited_password_of_phoenixd(phoenixd, tmp_path):
    limited = Payer(
        str(tmp_path / "limited"), type="phoenixd", url=phoenixd.node.url, secret=("password_file", Phoenixd.limited)
    )
    code, text = limited.command()
    assert code == 1 and "may pay: NO: this is the limited-access password" in text
    assert limited.pay(phoenixd.invoice().request).outcome == "failed"


def test_command_says_that_a_version_of_phoenixd_cannot_look_up(phoenixd):
    phoenixd.node.finds_by_hash = False
    code, text = phoenixd.payer.command()
    assert code == 1 and "may look up: NO: this version" in text


# The Sphinx bot


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("end", ["paid", "failed", "pending"])
def test_state_is_asked_for_where_the_answer_to_a_payment_has_none(sphinx, as_list, end):
    sphinx.node.answers_status, sphinx.node.as_list = False, as_list
    invoice = sphinx.invoice()
    sphinx.next(pay=end)
    sent = sphinx.payer.pay(invoice.request)
    assert sent.outcome == "unknown" and sent.reference
    expected = {"paid": "paid", "failed": "failed", "pending": "unknown"}[end]
    assert sphinx.payer.lookup(invoice.request, sent.reference).outcome == expected


def test_tag_that_is_no_tag_is_not_asked_for(sphinx):
    invoice = sphinx.invoice()
    for tag in ("../account", "a/b", "a?b", "a" * 200):
        assert sphinx.payer.lookup(invoice.request, tag).outcome == "unknown"
    assert not sphinx.node.complaints
