"""The test mint and the direct wallet, against each other and against the real mint: a yardstick has to be
straight.
"""

import bolt11
import pytest

from lab.curve import PrivateKey
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.wallet import MintError, Wallet
from lab.websocket import WebSocket


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def versioned_mint(lab, request):
    with FaultMint(lab.internet, MINT4, keysets=request.param, fee_ppk=100) as made:
        yield made


def wallet_at(lab, mint) -> Wallet:
    return Wallet(lab.router, mint.url)


def paid_quote(wallet, mint, amount, private=None):
    quote = wallet.quote(amount, private)
    mint.pay(quote["request"])
    return quote


def test_locked_quote_becomes_money_that_can_be_spent_once(lab, versioned_mint):
    wallet, key = wallet_at(lab, versioned_mint), PrivateKey()
    quote = paid_quote(wallet, versioned_mint, 100, key)
    assert bolt11.decode(quote["request"]).amount_msat == 100_000
    proofs = wallet.mint(quote, key)
    assert wallet.receive(proofs) == 99
    assert wallet.states(proofs) == ["SPENT"] * 3
    assert (versioned_mint.issued, versioned_mint.paid, versioned_mint.fees) == (100, 100, 1)
    with pytest.raises(MintError, match="11001"):
        wallet.receive(proofs)


def test_same_wallet_flow_holds_on_the_real_mint(lab, mint):
    wallet, key = wallet_at(lab, mint), PrivateKey()
    quote = paid_quote(wallet, mint, 100, key)
    assert wallet.state(quote["quote"]) == "PAID"
    proofs = wallet.mint(quote, key)
    assert wallet.receive(proofs) == 100 and wallet.states(proofs) == ["SPENT"] * 3


def test_nutshells_own_wallet_accepts_the_test_mint(lab, fault_mint):
    """Somebody else's client finds nothing wrong with it."""
    import os
    import sys

    cashu = os.path.join(os.path.dirname(sys.executable), "cashu")
    home = lab.path("cashu-wallet")
    os.makedirs(home)
    env = {"HOME": home, "CASHU_DIR": home, "TOR": "FALSE", "MINT_URL": fault_mint.url}

    def run(*argv: str) -> str:
        return lab.router.run([cashu, "--host", fault_mint.url, "--yes", *argv], env=env, timeout=200).out

    out = run("invoice", "21", "--no-check")
    invoice = next(word for word in out.split() if word.startswith("lnbc"))
    quote = next(iter(fault_mint.quotes))
    fault_mint.pay(invoice)
    run("invoice", "21", "--id", quote)
    assert fault_mint.issued == 21
    assert "21 sat" in run("balance")


def test_quote_locked_to_a_key_refuses_another(lab, fault_mint):
    wallet, key = wallet_at(lab, fault_mint), PrivateKey()
    quote = paid_quote(wallet, fault_mint, 8, key)
    with pytest.raises(MintError, match="20008"):
        wallet.mint(quote, PrivateKey())
    wallet.mint(quote, key)


def test_unpaid_and_issued_quotes_are_refused(lab, fault_mint):
    wallet = wallet_at(lab, fault_mint)
    quote = wallet.quote(8)
    with pytest.raises(MintError, match="20001"):
        wallet.mint(quote)
    fault_mint.pay(quote["request"])
    wallet.mint(quote)
    with pytest.raises(MintError, match="20002"):
        wallet.mint(quote)
    assert fault_mint.issued == 8


@pytest.mark.parametrize(
    "fault",
    ["bad_dleq", "no_dleq", "short_signatures", "extra_signatures", "wrong_signature_amount", "foreign_keyset_id"],
)
def test_spoiled_signatures_are_noticed(lab, fault_mint, fault):
    wallet = wallet_at(lab, fault_mint)
    quote = paid_quote(wallet, fault_mint, 5)
    fault_mint.misbehave(fault, times=1)
    with pytest.raises((ValueError, KeyError)):
        wallet.mint(quote)


@pytest.mark.parametrize("fault", ["rate_limited", "unprocessable_text", "html", "garbage", "down", "drop_before"])
def test_fault_on_the_way_hits_once_and_changes_nothing(lab, fault_mint, fault):
    wallet = wallet_at(lab, fault_mint)
    quote = paid_quote(wallet, fault_mint, 5)
    fault_mint.misbehave(fault, times=1, on="mint")
    with pytest.raises((MintError, ValueError, OSError)):
        wallet.mint(quote)
    assert fault_mint.issued == 0
    wallet.mint(quote)
    assert fault_mint.issued == 5


def test_answer_dropped_after_commit_has_issued(lab, fault_mint):
    wallet = wallet_at(lab, fault_mint)
    quote = paid_quote(wallet, fault_mint, 5)
    fault_mint.misbehave("drop_after_commit", times=1, on="mint")
    with pytest.raises(OSError):
        wallet.mint(quote)
    assert fault_mint.issued == 5 and wallet.state(quote["quote"]) == "ISSUED"


def test_restore_gives_back_what_was_signed(lab, fault_mint):
    wallet = wallet_at(lab, fault_mint)
    quote = paid_quote(wallet, fault_mint, 5)
    outputs, secrets = wallet._outputs(5)
    wallet.ask("POST", "/v1/mint/bolt11", {"quote": quote["quote"], "outputs": outputs})
    restored = wallet.ask("POST", "/v1/restore", {"outputs": outputs + wallet._outputs(2)[0]})
    assert restored["outputs"] == outputs
    assert sum(proof["amount"] for proof in wallet._unblind(restored["signatures"], outputs, secrets)) == 5


def test_subscriber_hears_of_the_payment_unless_the_mint_is_silent(lab, fault_mint):
    wallet = wallet_at(lab, fault_mint)
    first, second = wallet.quote(1), wallet.quote(2)
    socket = WebSocket.connect(lab.router.connect(fault_mint.host, fault_mint.port), "/v1/ws", "mint")
    filters = [first["quote"], second["quote"]]
    socket.send(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "subscribe",
            "params": {"kind": "bolt11_mint_quote", "subId": "s", "filters": filters},
        }
    )
    assert socket.receive_json()["result"]["status"] == "OK"
    states = [socket.receive_json()["params"]["payload"]["state"] for _ in filters]
    assert states == ["UNPAID", "UNPAID"]
    fault_mint.misbehave("silent_socket", times=1)
    fault_mint.pay(first["request"])
    fault_mint.pay(second["request"])
    heard = socket.receive_json()["params"]["payload"]
    assert (heard["quote"], heard["state"]) == (second["quote"], "PAID")
    socket.close()


def test_invoice_for_another_amount_and_keys_under_a_wrong_id(lab, fault_mint):
    wallet = wallet_at(lab, fault_mint)
    fault_mint.misbehave("wrong_invoice_amount", times=1)
    assert bolt11.decode(wallet.quote(5)["request"]).amount_msat == 6000
    good = wallet.ask("GET", "/v1/keys")
    fault_mint.misbehave("wrong_keyset_id", times=1)
    assert wallet.ask("GET", "/v1/keys") != good
    assert wallet.ask("GET", "/v1/keys") == good


def test_old_keyset_is_refused_after_rotation(lab, fault_mint):
    wallet = wallet_at(lab, fault_mint)
    quote = paid_quote(wallet, fault_mint, 5)
    fault_mint.rotate(version=1)
    with pytest.raises(MintError, match="12002"):
        wallet.mint(quote)
    wallet_at(lab, fault_mint).mint(quote)


def test_mint_that_was_away_keeps_what_it_knew(lab, fault_mint):
    wallet = wallet_at(lab, fault_mint)
    quote = paid_quote(wallet, fault_mint, 5)
    fault_mint.close()
    with pytest.raises(OSError):
        wallet.state(quote["quote"])
    fault_mint.open()
    wallet.mint(quote)
