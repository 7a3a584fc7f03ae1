"""Vouchers with money behind them: split off the takings or paid for by a reseller, redeemed by code or as ecash, with
and without the mint. What was there is there afterwards, to the sat.
"""

import concurrent.futures
import random
import time

import pytest

from lab.daemon import Mint
from lab.place import wait_for
from lab.purse import code_of
from lab.treasury import Treasury
from lab.wallet import Wallet, decode_token


@pytest.fixture
def treasury(lab, mint, make_daemon):
    return Treasury(lab, mint, make_daemon(Mint(mint.url)), 1000)


def spent(wallet, token: str) -> set[str]:
    return set(wallet.states(decode_token(token).proofs))


def test_a_voucher_of_the_treasury_is_ecash_until_its_code_puts_it_back(lab, treasury):
    made = treasury.create(5, "--sat", "21", "--funding", "treasury")
    assert all(decode_token(one["token"]).amount == 21 for one in made["vouchers"])
    assert treasury.takings() == 1000 - 5 * 21
    wallet = Wallet(lab.internet, treasury.mint.url)
    first, second = made["vouchers"][:2]
    secret = decode_token(first["token"]).proofs[0]["secret"]
    (key,) = [key for key in treasury.daemon.data("keys", "list")["keys"] if key["class"] == "venue"]
    assert secret.startswith('["P2PK",') and key["public"] in secret and str(first["expires_at"] + 86_400) in secret
    assert spent(wallet, first["token"]) == {"UNSPENT"}
    answer = treasury.redeem(lab.guest, first["code"])
    assert answer.status == 200, answer.text
    assert treasury.redeem(lab.guest, first["code"]).status == 410
    wait_for(lambda: treasury.takings() == 1000 - 4 * 21, 30, "the ecash is back in the takings")
    assert spent(wallet, first["token"]) == {"SPENT"}
    refused = treasury.post(lab.guest, first["token"])
    assert (refused.status, code_of(refused)) == (402, "payment-error-token-spent")
    # As ecash it is taken once too, and its code is used then.
    paid = treasury.post(lab.guest, second["token"])
    assert paid.status == 200, paid.text
    assert treasury.redeem(lab.guest, second["code"]).status == 410
    wait_for(lambda: treasury.takings() == 1000 - 3 * 21, 30, "the token is in the takings")
    assert treasury.daemon.data("voucher", "revoke", made["vouchers"][2]["id"])
    wait_for(lambda: treasury.takings() == 1000 - 2 * 21, 30, "what was revoked is back")
    treasury.daemon.data("wallet", "restore")
    assert treasury.takings() == 1000 - 2 * 21, "a voucher's ecash is not the takings'"
    too_much = treasury.daemon.command("voucher", "create", "2", "--sat", "900", "--funding", "treasury", check=False)
    assert too_much.code == 1 and "not enough" in too_much.out
    assert treasury.takings() == 1000 - 2 * 21 and treasury.locked("ready") == 2 * 21


def test_a_rotated_key_locks_new_vouchers_and_spends_the_old_ones(lab, treasury):
    (old,) = treasury.create(1, "--sat", "8", "--funding", "treasury")["vouchers"]
    assert treasury.daemon.data("keys", "rotate", "venue")["rotated"] == 1
    (new,) = treasury.create(1, "--sat", "8", "--funding", "treasury")["vouchers"]
    listed = treasury.daemon.data("keys", "list")["keys"]
    keys = {key["state"]: key["public"] for key in listed if key["class"] == "venue"}
    assert keys["old"] in decode_token(old["token"]).proofs[0]["secret"]
    assert keys["current"] in decode_token(new["token"]).proofs[0]["secret"]
    assert [treasury.post(lab.guest, one["token"]).status for one in (old, new)] == [200, 200]
    wait_for(lambda: treasury.takings() == 1000, 30, "both are in the takings")
    states = [key["state"] for key in treasury.daemon.data("keys", "list")["keys"] if key["class"] == "venue"]
    assert sorted(states) == ["current", "retired"]
    assert treasury.daemon.command("keys", "rotate", "nonsense", check=False).code == 2


def test_a_locked_token_is_taken_once_while_its_mint_is_away(lab, mint, treasury, stranger, other_stranger):
    made = treasury.create(3, "--sat", "21", "--funding", "treasury")["vouchers"]
    (large,) = treasury.create(1, "--sat", "500", "--funding", "treasury")["vouchers"]
    first, second, third = (one["token"] for one in made)
    mint.stop()
    try:
        treasury.crash()
        treasury.revive()
        answer = treasury.post(stranger, first)
        assert answer.status == 200, answer.text
        assert stranger.mac in treasury.daemon.paid_macs()
        again = treasury.post(other_stranger, first)
        assert (again.status, code_of(again)) == (402, "payment-error-token-spent")
        treasury.crash()
        treasury.revive()
        again = treasury.post(other_stranger, first)
        assert (again.status, code_of(again)) == (402, "payment-error-token-spent")
        assert treasury.redeem(other_stranger, made[0]["code"]).status == 410
        # A code needs no mint; what it redeems is no token any more.
        assert treasury.redeem(other_stranger, made[1]["code"]).status == 200
        used = treasury.post(stranger, second)
        assert (used.status, code_of(used)) == (402, "payment-error-token-spent")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: treasury.post(other_stranger, third).status, range(8)))
        assert set(answers) <= {200, 402, 503} and 200 in answers
        assert treasury.post(stranger, large["token"]).status == 200
    finally:
        mint.start()
    wait_for(lambda: treasury.takings() == 1000, 60, "all of it is in the takings")
    granted = treasury.rows("SELECT COUNT(*) FROM grants WHERE reference LIKE 'token:%'")
    assert granted == [(3,)]


def test_more_than_the_operator_allows_is_not_taken_without_the_mint(lab, mint, make_daemon, stranger):
    daemon = make_daemon(Mint(mint.url), sections={"voucher": {"offline_max": 30, "offline_total": 50}})
    treasury = Treasury(lab, mint, daemon, 200)
    (large,) = treasury.create(1, "--sat", "31", "--funding", "treasury")["vouchers"]
    small = [one["token"] for one in treasury.create(3, "--sat", "20", "--funding", "treasury")["vouchers"]]
    mint.stop()
    try:
        assert [treasury.post(stranger, token).status for token in (large["token"], *small)] == [503, 200, 200, 503]
    finally:
        mint.start()
    wait_for(lambda: treasury.takings() == 200 - 31 - 20, 60, "what was taken is in the takings")
    assert treasury.buy(stranger, small[2]) and treasury.buy(stranger, large["token"])


def test_a_reseller_pays_one_invoice_for_a_batch(lab, mint, treasury, stranger):
    made = treasury.create(20, "--sat", "13", "--funding", "invoice")
    assert made["amount"] == 260 and made["status"] == "awaiting_payment"
    one = made["vouchers"][0]
    assert treasury.redeem(stranger, one["code"]).status == 409
    treasury.crash()
    mint.pay(made["invoice"])
    treasury.revive()
    wait_for(lambda: treasury.locked("ready") == 260, 30, "the batch is paid for")
    answer = treasury.redeem(stranger, one["code"])
    assert answer.status == 200, answer.text
    wait_for(lambda: treasury.takings() == 1013, 30, "what was redeemed is in the takings")


def test_a_batch_that_is_killed_at_any_moment_loses_nothing_and_makes_nothing_twice(lab, mint, make_daemon):
    treasury = Treasury(lab, mint, make_daemon(Mint(mint.url)), 4000)
    chance = random.Random(15)
    for _ in range(6):
        order = ("voucher", "create", "50", "--sat", "7", "--funding", "treasury")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            making = pool.submit(treasury.daemon.command, *order, check=False)
            time.sleep(chance.uniform(0.02, 0.5))
            treasury.crash()
            making.result()
        treasury.revive()
    settled = "SELECT COUNT(*) FROM locked WHERE state NOT IN ('ready', 'failed')"
    wait_for(lambda: treasury.rows(settled) == [(0,)], 60, "what was begun is over")
    ready = treasury.locked("ready")
    assert ready % 350 == 0
    proofs = treasury.rows("SELECT SUM(sats) FROM locked_proofs")[0][0] or 0
    assert (treasury.takings() + ready, proofs) == (4000, ready)
    states = dict(treasury.rows("SELECT state, COUNT(*) FROM vouchers GROUP BY state"))
    assert states.get("ready", 0) == ready // 7 and "minting" not in states


def test_an_answer_that_is_cut_is_found_again(lab, fault_mint, make_daemon):
    treasury = Treasury(lab, fault_mint, make_daemon(Mint(fault_mint.url)), 500)
    fault_mint.misbehave("drop_after_commit", times=1, on="swap")
    treasury.create(10, "--sat", "11", "--funding", "treasury")
    wait_for(lambda: treasury.locked("ready") == 110, 30, "the vouchers are backed")
    assert treasury.takings() == 390
    made = treasury.create(3, "--sat", "5", "--funding", "invoice")
    fault_mint.misbehave("drop_after_commit", times=1, on="mint")
    fault_mint.pay(made["invoice"])
    wait_for(lambda: treasury.locked("ready") == 125, 60, "what was paid for is there")
