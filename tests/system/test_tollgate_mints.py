"""TollGate clients while a mint hangs, is away, comes back, or refuses: nobody waits long, nothing is lost, and the
status says whose the money is."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.books import Books
from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.place import wait_for
from lab.purse import WITHIN
from lab.payers import STEP, Purse, assert_notice, assert_session, offered, pay, sells_minutes, usage
from lab.tollgate_client import PORTAL_ORIGIN, TOLLGATE, PortalSite, check_event, tag_of

GET_LIMIT, POST_LIMIT = 10, 20
LOOKS = ["/", "/whoami", "/usage", "/balance", "/session-state", "/identity", "/ln-invoice?quote="]


@pytest.fixture
def purse(lab, fault_mint):
    return Purse(lab, fault_mint)


@pytest.fixture
def shop(make_daemon, fault_mint):
    return sells_minutes(make_daemon, fault_mint)


# Mints that hang


def test_a_mint_that_hangs_with_the_token_keeps_nobody_waiting_and_the_session_comes_by_itself(
    shop, fault_mint, purse, stranger, other_stranger
):
    token, first = purse.token(5), purse.token(1)
    assert_session(pay(other_stranger, first)[0], STEP)
    quote = stranger.post(TOLLGATE + "/ln-invoice", {"amount": 3, "mint_url": fault_mint.url}).json()["quote"]
    for endpoint in ("swap", "state", "check", "restore", "info"):
        fault_mint.misbehave("hang", on=endpoint)
    with ThreadPoolExecutor(4) as pool:
        paying = pool.submit(pay, stranger, token)
        wait_for(
            lambda: any(fault.on == "swap" and fault.hits for fault in fault_mint.faults), 5, "the mint has the token"
        )
        twin = pool.submit(pay, stranger, token)
        for path in [*LOOKS, f"/ln-invoice?quote={quote}"]:
            started = time.monotonic()
            answer = stranger.get(TOLLGATE + path, timeout=GET_LIMIT)
            assert time.monotonic() - started < GET_LIMIT and answer.status in (200, 400)
        again, repeated = pay(other_stranger, first)
        assert_session(again, STEP)
        assert repeated < GET_LIMIT, "a token that is known asks no mint"
        answer, waited = paying.result()
        other, other_waited = twin.result()
    assert_notice(answer, 503, "payment-outcome-unknown")
    assert_notice(other, 503, tag_of(other.json(), "code"))
    assert tag_of(other.json(), "code") in ("payment-duplicate-inflight", "payment-outcome-unknown")
    assert waited < POST_LIMIT and other_waited < POST_LIMIT
    assert usage(stranger) == "-1/-1"
    fault_mint.behave()
    wait_for(lambda: usage(stranger).endswith(f"/{5 * STEP}"), WITHIN, "the session comes by itself")
    wait_for(lambda: stranger.online(timeout=0.5), 5, "and the way is open")
    assert purse.is_spent(token)
    assert_session(pay(stranger, token)[0], 5 * STEP)
    assert Books(shop).takings(fault_mint.url).amount == 6


def test_a_mint_that_hangs_from_the_start_takes_nothing_and_keeps_nobody_waiting(
    lab, make_daemon, fault_mint, purse, stranger, other_stranger
):
    tokens = [purse.token(2) for _ in range(6)]
    fault_mint.misbehave("hang")
    make_daemon(Mint(fault_mint.url, min_steps=0))
    asked = {"amount": 3, "mint_url": fault_mint.url}

    def invoice(guest):
        started = time.monotonic()
        return guest.post(TOLLGATE + "/ln-invoice", asked), time.monotonic() - started

    with ThreadPoolExecutor(8) as pool:
        paying = [pool.submit(pay, guest, token) for guest, token in zip([stranger, other_stranger] * 3, tokens)]
        asking = [pool.submit(invoice, guest) for guest in (stranger, other_stranger)]
        assert stranger.get(TOLLGATE + "/", timeout=GET_LIMIT).status == 200 and usage(stranger) == "-1/-1"
        for answer, waited in [one.result() for one in paying]:
            assert_notice(answer, 503, "service-unavailable")
            assert waited < POST_LIMIT
        for answer, waited in [one.result() for one in asking]:
            assert (answer.status, answer.json()["error"]) == (400, "failed to create lightning invoice")
            assert waited < POST_LIMIT
    fault_mint.behave()
    assert [purse.is_spent(token) for token in tokens] == [False] * 6
    wait_for(
        lambda: pay(stranger, tokens[0])[0].status == 200,
        20,
        "the same token is taken when the mint is well",
        every=0.5,
    )


# Mints that are away


def test_mints_that_are_away_are_not_offered_and_are_back_within_20_seconds(lab, make_daemon, stranger):
    ways = {
        "closed": lambda mint: mint.close(),
        "hanging": lambda mint: mint.misbehave("hang"),
        "down": lambda mint: mint.misbehave("down"),
    }
    mints = {way: FaultMint(lab.internet, MINT4) for way in ways}
    purses = {way: Purse(lab, mint) for way, mint in mints.items()}
    tokens = {way: purse.token(2) for way, purse in purses.items()}
    make_daemon(*[Mint(mint.url) for mint in mints.values()])
    wait_for(lambda: all(mint.counts.get("info") for mint in mints.values()), 5)
    assert offered(stranger) == [mint.url for mint in mints.values()], "in the order of the configuration"
    for way, harm in ways.items():
        harm(mints[way])
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(tokens, pool.map(lambda token: pay(stranger, token), tokens.values())))
    for way, (answer, waited) in answers.items():
        assert_notice(answer, 503, "service-unavailable")
        assert waited < POST_LIMIT, way
    site = PortalSite(stranger)
    wait_for(lambda: offered(stranger) == [], 5)
    notice = stranger.get(TOLLGATE + "/", headers={"Origin": PORTAL_ORIGIN})
    event = check_event(notice.json())
    assert (notice.status, event["kind"], event["tags"][:2]) == (
        200,
        21023,
        [["level", "warning"], ["code", "no-reachable-mints"]],
    )
    assert event[
        "content"
    ] == "TollGate is initializing. No reachable mints detected. Service will auto-recover." and site.may_read(notice)
    for mint in mints.values():
        mint.behave()
        mint.open()
    wait_for(
        lambda: sorted(offered(stranger)) == sorted(mint.url for mint in mints.values()), 20, "all are offered again"
    )
    for way, token in tokens.items():
        assert not purses[way].is_spent(token)
    wait_for(lambda: pay(stranger, tokens["closed"])[0].status == 200, 5)
    for mint in mints.values():
        mint.close()


def test_a_mint_that_limits_requests_is_there_and_says_when_to_try_again(
    lab, make_daemon, fault_mint, purse, stranger
):
    token = purse.token(2)
    make_daemon(fault_mint.url)
    wait_for(lambda: fault_mint.counts.get("info"), 5)
    fault_mint.misbehave("rate_limited")
    assert_notice(pay(stranger, token)[0], 503, "mint-rate-limited")
    assert offered(stranger) == [fault_mint.url] and not purse.is_spent(token)
    fault_mint.behave()
    assert pay(stranger, token)[0].status == 200, "a guest's own request asks at once"
