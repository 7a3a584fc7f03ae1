"""Ecash at the front door of a router whose mints are in trouble: each token becomes access once, or stays its
guest's.

After each test the books must close (see `lab.purse`): guest value + takings + fees = minted.
"""

import concurrent.futures
import contextlib
import time

import pytest

from lab.fault_mint import FaultMint
from lab.fault_proxy import FaultProxy
from lab.internet import MINT4
from lab.place import wait_for
from lab.purse import Customers, code_of
from lab.tollgate_client import TOLLGATE
from lab.wallet import Wallet

STEP = 60_000
PATIENCE = 20
"""Seconds in which a post is answered, whatever the mint does."""


@pytest.fixture
def real_sales(lab, mint, fault_proxy, make_daemon):
    """At the real mint, which the router sees through the proxy."""
    return Customers(lab, mint, make_daemon(fault_proxy.url), STEP, fault_proxy.url)


@pytest.fixture(scope="module")
def crowd(lab):
    while len(lab.guests) < 4:
        lab.add_guest()
    return lab.guests


def at_once(work, items) -> list:
    with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))


def test_mints_that_fail_twenty_times_give_access_in_the_end(lab, crowd, make_daemon):
    """Every call of theirs fails, whatever it is about; the guests' pages post again."""
    faults = ["rate_limited", "broken", "drop_before", "drop_after_commit"]
    with contextlib.ExitStack() as stack:
        mints = {fault: stack.enter_context(FaultMint(lab.internet, MINT4)) for fault in faults}
        daemon = make_daemon(*[mint.url for mint in mints.values()])
        sales = {fault: Customers(lab, mint, daemon, STEP) for fault, mint in mints.items()}
        guests = dict(zip(faults, crowd))
        tokens = {fault: sales[fault].token(21) for fault in faults}
        for fault, mint in mints.items():
            mint.misbehave(fault, times=20)
        assert at_once(lambda fault: sales[fault].buy(guests[fault], tokens[fault], 90, 0.7), faults) == [21] * len(
            faults
        )
        for fault in faults:
            assert not mints[fault].faults, "it has failed twenty times"
            assert sales[fault].check() == 21


def test_mints_that_are_silent_for_half_a_minute_cost_nobody_anything(lab, mint, crowd, make_daemon):
    """The swap never arrives, arrives late, is answered late; and a mint that says nothing at all."""
    stalls = [{"hang": 30}, {"delay": 25}, {"delay_answer": 30}]
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(lab.internet, MINT4, upstream=mint.url)) for _ in stalls]
        silent = stack.enter_context(FaultMint(lab.internet, MINT4))
        daemon = make_daemon(*[proxy.url for proxy in proxies], silent.url)
        sales = [Customers(lab, mint, daemon, STEP, proxy.url) for proxy in proxies] + [
            Customers(lab, silent, daemon, STEP)
        ]
        tokens = [one.token(21) for one in sales]
        for proxy, stall in zip(proxies, stalls):
            proxy.fault("/v1/swap", times=1, **stall)
        silent.misbehave("hang")

        def posted(number: int):
            started = time.monotonic()
            answer = sales[number].post(crowd[number], tokens[number])
            return answer, time.monotonic() - started

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            posts = [pool.submit(posted, number) for number in range(4)]
            while not all(post.done() for post in posts):
                for path in ("/", "/usage", "/balance"):
                    started = time.monotonic()
                    assert crowd[0].get(TOLLGATE + path).status == 200 and time.monotonic() - started < 10, path
                time.sleep(0.5)
        for number, post in enumerate(posts):
            answer, took = post.result()
            assert answer.status == 503 and took < PATIENCE, (number, answer.text, took)
            assert code_of(answer) == ("service-unavailable" if number == 3 else "payment-outcome-unknown")
        silent.behave()
        for number in range(3):
            sales[number].online(crowd[number], 21)
        for number in range(4):
            assert sales[number].buy(crowd[number], tokens[number]) == 21
        wait_for(
            lambda: all(any("swap" in seen.path and seen.status for seen in proxy.seen) for proxy in proxies[1:]),
            30,
            "what was late has come",
        )
        for one in sales:
            assert one.check() == 21


def test_swap_whose_answer_is_lost_is_access_without_another_post(real_sales, fault_proxy, stranger):
    """And the mint answers no question about it for a while."""
    token = real_sales.token(21)
    fault_proxy.fault("/v1/swap", cut_answer=True, times=1)
    fault_proxy.fault("/v1/checkstate", status=500, times=2)
    fault_proxy.fault("/v1/restore", cut_request=True, times=2)
    answer = real_sales.post(stranger, token)
    assert answer.status in (200, 503), answer.text
    real_sales.online(stranger, 21)
    assert real_sales.buy(stranger, token) == 21 and fault_proxy.count("/v1/swap") == 2, (
        "it was sent again once, at once"
    )
    assert real_sales.check() == 21


def test_mint_that_restarts_between_swap_and_answer_gives_access_when_it_is_back(
    real_sales, mint, fault_proxy, stranger
):
    # Minutes enough for a mint that is slow to come back.
    assert real_sales.buy(stranger, real_sales.token(9)) == 9
    token = real_sales.token(21)
    fault_proxy.fault("/v1/swap", cut_answer=True, times=1)
    fault_proxy.fault("/v1/checkstate", hang=1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        posted = pool.submit(real_sales.post, stranger, token)
        wait_for(lambda: fault_proxy.count("/v1/checkstate"), 10, "the answer was lost")
        mint.kill()
        fault_proxy.clear()
        answer = posted.result()
    assert (answer.status, code_of(answer)) == (503, "payment-outcome-unknown")
    assert real_sales.post(stranger, token).status == 503
    mint.start()
    real_sales.online(stranger, 30)
    assert real_sales.buy(stranger, token) == 30
    assert real_sales.check() == 30


def test_keysets_rotated_during_a_session_are_no_business_of_the_guest(lab, mint, make_daemon, stranger):
    with FaultMint(lab.internet, MINT4, keysets=1) as other:
        daemon, steps = make_daemon(mint.url, other.url), 0
        for where, rotate in ((mint, mint.rotate), (other, lambda: other.rotate(version=2))):
            sales = Customers(lab, where, daemon, STEP)
            before, old = sales.token(21), sales.token(7)
            steps += 21
            assert sales.buy(stranger, before) == steps
            rotate()
            sales.wallet = Wallet(lab.internet, where.url)
            for token, amount in ((old, 7), (sales.token(34), 34)):
                steps += amount
                assert sales.buy(stranger, token) == steps
            assert sales.buy(stranger, before) == steps
            assert sales.check() == 62
