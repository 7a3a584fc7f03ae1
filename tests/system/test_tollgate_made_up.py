"""Tokens that nobody has ever minted: they cost their mint and the flash little, and honest guests who pay beside them
nothing.
"""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.payers import STEP, Purse, assert_notice, assert_session, pay, sells_minutes, usage
from lab.tollgate_client import TOLLGATE, check_event, tag_of
from lab.wallet import decode_token, encode_token

REFUSALS = 5
"""Of one mint, within a minute."""


@pytest.fixture
def purse(lab, fault_mint):
    return Purse(lab, fault_mint)


@pytest.fixture
def daemon(make_daemon, fault_mint):
    return sells_minutes(make_daemon, fault_mint)


def commits(daemon) -> int:
    return daemon.status()["data"]["store"]["commits"]


def calls(mint) -> int:
    return sum(mint.counts.values())


def assert_later(answer, to_wallet: bool = False) -> None:
    """Not taken, and says when to send it again; a wallet (NUT-18) reads `error`, beside the signed event."""
    event = answer.json()
    if to_wallet:
        assert event.pop("error") == event["content"]
    check_event(event)
    assert (answer.status, event["kind"], tag_of(event, "code")) == (429, 21023, "token-rate-limited"), answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def exhaust(purse, guest) -> None:
    """Made-up tokens, until this mint's are not sent any more."""
    for _ in range(REFUSALS):
        assert_notice(pay(guest, purse.forged())[0], 402, "payment-processing-failed")
    assert_later(pay(guest, purse.forged())[0])


def test_three_hundred_made_up_tokens_cost_few_calls_and_commits(lab, daemon, fault_mint, purse):
    tokens = [[purse.forged() for _ in range(15)] for _ in range(20)]
    calls_before, commits_before = calls(fault_mint), commits(daemon)

    def attack(guest, share):
        statuses = []
        for lot in share:
            guest.become_stranger()
            with ThreadPoolExecutor(5) as pool:
                statuses += [answer.status for answer, _ in pool.map(lambda token: pay(guest, token), lot)]
        return statuses

    with ThreadPoolExecutor(2) as pool:
        attacks = [pool.submit(attack, guest, tokens[number::2]) for number, guest in enumerate(lab.guests)]
        statuses = [status for one in attacks for status in one.result()]
    assert len(statuses) == 300 and set(statuses) == {402, 429}
    assert calls(fault_mint) - calls_before <= 60
    assert commits(daemon) - commits_before <= 90


def test_sixteen_honest_tokens_without_evidence_are_all_taken(
    lab, daemon, fault_mint, purse, stranger, other_stranger
):
    lots = [[purse.token(1) for _ in range(count)] for count in (6, 5, 5)]
    with ThreadPoolExecutor(11) as pool:
        first = [
            pool.submit(pay, guest, token) for guest, lot in zip((stranger, other_stranger), lots) for token in lot
        ]
        assert {one.result()[0].status for one in first} == {200}
        stranger.become_stranger()
        assert {answer.status for answer, _ in pool.map(lambda token: pay(stranger, token), lots[2])} == {200}
    assert usage(stranger).endswith(f"/{5 * STEP}") and usage(other_stranger).endswith(f"/{5 * STEP}")


def test_evidence_and_a_session_are_served_beside_made_up_tokens(daemon, fault_mint, purse, stranger, other_stranger):
    assert_session(pay(other_stranger, purse.token(1))[0], STEP)
    honest = purse.token(2)
    exhaust(purse, stranger)
    swaps, before = fault_mint.counts["swap"], commits(daemon)
    stranger.become_stranger()
    assert_later(pay(stranger, honest)[0])
    assert (fault_mint.counts["swap"], commits(daemon)) == (swaps, before), "before any call or commit"
    assert not purse.is_spent(honest)
    assert_session(pay(other_stranger, purse.token(3))[0], 4 * STEP)
    with_evidence = encode_token(fault_mint.url, purse.wallet.buy(fault_mint, 4))
    assert_session(pay(stranger, with_evidence)[0], 4 * STEP)
    assert_session(pay(stranger, honest)[0], 6 * STEP)


def test_false_evidence_is_refused_without_asking_the_mint(daemon, fault_mint, purse, stranger):
    made, other = purse.wallet.buy(fault_mint, 1), purse.wallet.buy(fault_mint, 1)
    swaps = fault_mint.counts.get("swap", 0)
    forged = encode_token(fault_mint.url, [made[0] | {"dleq": other[0]["dleq"]}])
    for _ in range(REFUSALS + 1):
        assert_notice(pay(stranger, forged)[0], 402, "payment-error-invalid-token")
    assert fault_mint.counts.get("swap", 0) == swaps
    assert_session(pay(stranger, encode_token(fault_mint.url, made))[0], STEP)


def test_the_budget_is_one_mints_alone(lab, make_daemon, fault_mint, purse, stranger, other_stranger):
    with FaultMint(lab.internet, MINT4) as other_mint:
        make_daemon(Mint(fault_mint.url), Mint(other_mint.url), venue={"step_size": STEP})
        exhaust(purse, stranger)
        assert_session(pay(other_stranger, Purse(lab, other_mint).token(2))[0], 2 * STEP)


def test_what_was_refused_for_good_is_not_sent_again(daemon, fault_mint, purse, stranger, other_stranger):
    spent, forged = purse.token(4), purse.forged()
    purse.wallet.receive(decode_token(spent).proofs)
    refusals = [(spent, "payment-error-token-spent"), (forged, "payment-processing-failed")]
    for token, code in refusals:
        assert_notice(pay(stranger, token)[0], 402, code)
    swaps, before = fault_mint.counts["swap"], commits(daemon)
    for guest in (stranger, other_stranger):
        for token, code in refusals:
            assert_notice(pay(guest, token)[0], 402, code)
    more = encode_token(fault_mint.url, decode_token(spent).proofs + purse.wallet.buy(fault_mint, 1))
    assert_notice(pay(other_stranger, more)[0], 402, "payment-error-token-spent")
    assert (fault_mint.counts["swap"], commits(daemon)) == (swaps, before)


def test_spent_proofs_with_evidence_cost_a_question_each_and_no_choice_of_them_another(
    daemon, fault_mint, purse, stranger
):
    """Evidence stays valid when a proof is spent, and tokens with evidence have no budget: whoever keeps old ones
    could ask without end.
    """
    first, later = ([purse.wallet.buy(fault_mint, 1)[0] for _ in range(3)] for _ in range(2))
    for proof in first + later:
        assert proof["dleq"]
        purse.wallet.receive([proof])
    before = {name: fault_mint.counts.get(name, 0) for name in ("swap", "check")}

    def refused(guest, proofs) -> None:
        assert_notice(pay(guest, encode_token(fault_mint.url, proofs))[0], 402, "payment-error-token-spent")

    def asked() -> list[int]:
        return [fault_mint.counts.get(name, 0) - count for name, count in before.items()]

    refused(stranger, first)
    assert asked() == [1, 1], "one question for all three"
    for proof in later:
        refused(stranger, [proof])
    assert asked() == [4, 4], "and one each"
    written = commits(daemon)
    spent = first + later
    for count in range(1, len(spent)):
        stranger.become_stranger()
        for start in range(len(spent)):
            refused(stranger, (spent + spent)[start : start + count])
    assert asked() == [4, 4] and commits(daemon) == written
    fresh = purse.wallet.buy(fault_mint, 2)
    refused(stranger, [*fresh, spent[0]])
    assert asked() == [4, 4], "nor beside good ones, which stay good"
    assert_session(pay(stranger, encode_token(fault_mint.url, fresh))[0], 2 * STEP)


def test_a_refusal_that_may_pass_is_not_remembered(daemon, fault_mint, purse, stranger):
    token = purse.token(3)
    fault_mint.misbehave("token_pending", times=1, on="swap")
    assert_notice(pay(stranger, token)[0], 503, "payment-processing-failed")
    fault_mint.misbehave("unprocessable_text", times=1, on="swap")
    assert pay(stranger, token)[0].status == 402, "a gateway may have said so"
    assert_session(pay(stranger, token)[0], 3 * STEP)


def test_every_way_to_hand_a_token_in_counts_alike(daemon, fault_mint, purse, stranger, other_stranger):
    def by_form(guest, token):
        return guest.post(
            TOLLGATE + "/ecash",
            urlencode({"token": token}).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

    def as_answer(guest, token):
        """NUT-18."""
        proofs = decode_token(token).proofs
        return guest.post(
            TOLLGATE + "/", {"id": None, "memo": None, "mint": fault_mint.url, "unit": "sat", "proofs": proofs}
        )

    assert by_form(stranger, purse.forged()).status == 402
    assert as_answer(stranger, purse.forged()).status == 402
    swaps = fault_mint.counts["swap"]
    forged = purse.forged()
    assert by_form(stranger, forged).status == 402
    assert_notice(pay(other_stranger, forged)[0], 402, "payment-processing-failed")
    assert fault_mint.counts["swap"] == swaps + 1, "known by whichever way it came"
    for _ in range(REFUSALS - 3):
        assert pay(stranger, purse.forged())[0].status == 402
    honest, before = purse.token(2), commits(daemon)
    refused = by_form(other_stranger, honest)
    assert refused.status == 429 and 1 <= int(refused.headers["retry-after"]) <= 60
    assert honest in refused.text, "the form has it for another try"
    assert_later(as_answer(other_stranger, honest), to_wallet=True)
    assert_later(pay(other_stranger, honest)[0])
    assert commits(daemon) == before and fault_mint.counts["swap"] == swaps + 3
