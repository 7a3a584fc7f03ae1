"""Each mint stands alone: one that is silent keeps its own guests waiting, nobody else's, and them not for long; with
a second one of the same price they need not wait for it. And connections that a mint closes under a request."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from lab.books import Books
from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.fault_proxy import FaultProxy
from lab.http_client import Answer
from lab.internet import MINT4
from lab.payers import STEP, Purse, assert_notice, assert_session, offered, pay, sells_minutes, usage
from lab.place import in_time, wait_for
from lab.portal_client import PORTAL, MintProxy, post_request, read_request
from lab.tollgate_client import TOLLGATE, token_v4

SILENT = 9
GIVES_UP = 10
"""Seconds after which clients do."""


@pytest.fixture
def crowd(lab):
    while len(lab.guests) < 4:
        lab.add_guest()
    return lab.guests


@pytest.fixture
def purse(lab, fault_mint):
    return Purse(lab, fault_mint)


def sale_by_token(guest, mint, token: str) -> None:
    assert pay(guest, token)[0].status == 200


def sale_by_rest(guest, mint, amount: int) -> None:
    made = post_request(guest, mint.url, amount, apply=True).json()
    mint.pay(made["invoice"])
    wait_for(lambda: read_request(guest, made["request_id"]).json()["type"] == "session_granted", 20, every=0.05)


def sale_by_socket(guest, mint, amount: int) -> None:
    with MintProxy(guest) as proxy:
        mint.pay(proxy.request(mint.url, amount, apply=True)["invoice"])
        proxy.wait("session_granted")


@contextlib.contextmanager
def silent_mints(lab):
    """They take connections and never answer."""
    with contextlib.ExitStack() as stack:
        mints = [stack.enter_context(FaultMint(lab.internet, MINT4)) for _ in range(SILENT)]
        for mint in mints:
            mint.misbehave("hang")
        yield [mint.url for mint in mints], [], lambda: all(mint.faults[0].hits for mint in mints)


@contextlib.contextmanager
def unheard_names(lab):
    """Their names are asked of a server that never answers."""
    with lab.internet.udp(MINT4, 53) as server:
        resolver = lab.path("resolv.conf")
        with open(resolver, "w") as file:
            file.write(f"nameserver {MINT4}\n")
        through = ["unshare", "-m", "sh", "-c", f'mount --bind {resolver} /etc/resolv.conf && exec "$@"', "sh"]
        server.settimeout(10)
        yield [f"http://mint{number}.example" for number in range(SILENT)], through, lambda: bool(server.recv(512))


@pytest.mark.parametrize("silence", [silent_mints, unheard_names])
def test_nine_silent_mints_leave_the_sales_of_a_good_one_as_they_are(
    lab, crowd, make_daemon, fault_mint, purse, silence
):
    tokens, amounts = [purse.token(2) for _ in range(5)], iter(range(2, 20))
    with silence(lab) as (urls, through, is_asked), ThreadPoolExecutor(SILENT) as pool:
        daemon = make_daemon(Mint(fault_mint.url, price=1), *[Mint(url, price=2) for url in urls], start=False)
        daemon.start(through=through)
        wait_for(lambda: fault_mint.counts.get("info"), 5)
        assert pay(crowd[0], tokens.pop())[0].status == 200, "what is kept of a mint is there"
        waiting = [pool.submit(post_request, crowd[1 + at // 3], url, 4) for at, url in enumerate(urls)]
        wait_for(is_asked, 10, "the silent mints are asked")
        in_time(5, lambda: sale_by_token(crowd[0], fault_mint, tokens.pop()))
        in_time(5, lambda: sale_by_rest(crowd[0], fault_mint, next(amounts)))
        in_time(5, lambda: sale_by_socket(crowd[0], fault_mint, next(amounts)))
        assert {one.result().json()["code"] for one in waiting} == {"mint_unavailable"}


# How long anybody waits


def form(guest, path: str, **fields) -> tuple[Answer, float]:
    return timed(
        lambda: guest.post(
            PORTAL + path, urlencode(fields).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        )
    )


def timed(ask) -> tuple[Answer, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


def test_every_route_answers_before_a_client_gives_up_and_the_status_names_the_mint_that_is_silent(
    crowd, make_daemon, fault_mint, purse
):
    daemon = sells_minutes(make_daemon, fault_mint)
    tokens = [purse.token(2) for _ in range(2)]
    fault_mint.misbehave("hang")
    ln = {"amount": 3, "mint_url": fault_mint.url}

    def by_rest(guest):
        refused, took = timed(lambda: post_request(guest, fault_mint.url, 4))
        assert (refused.status, refused.json()["code"]) == (502, "mint_unavailable")
        read, took_again = timed(lambda: read_request(guest, refused.json()["request_id"]))
        return read, max(took, took_again)

    with ThreadPoolExecutor(5) as pool:
        answers = {
            "POST /": pool.submit(pay, crowd[0], tokens[0]),
            "/mint-requests": pool.submit(by_rest, crowd[1]),
            "/pay": pool.submit(form, crowd[2], "/pay", steps=3, mint=fault_mint.url),
            "/ecash": pool.submit(form, crowd[3], "/ecash", token=tokens[1]),
            "/ln-invoice": pool.submit(lambda: timed(lambda: crowd[3].post(TOLLGATE + "/ln-invoice", ln))),
        }
        answers = {route: one.result() for route, one in answers.items()}
    for route, (_, took) in answers.items():
        assert took < GIVES_UP, route
    assert_notice(answers["POST /"][0], 503, "service-unavailable")
    assert answers["/pay"][0].status == answers["/ecash"][0].status == 303, "their pages say what goes on"
    assert (answers["/ln-invoice"][0].status, answers["/ln-invoice"][0].json()["status"]) == (400, 0)
    (said,) = daemon.status()["data"]["mints"]
    assert said["last_error"] and not said["reachable"] and offered(crowd[0]) == []
    assert not any(purse.is_spent(token) for token in tokens)


def test_mint_that_lets_a_guest_wait_for_its_invoice_counts_as_away_whatever_it_says_of_itself(
    lab, make_daemon, fault_mint
):
    daemon = make_daemon(fault_mint.url)
    fault_mint.misbehave("hang", on="quote")
    assert post_request(lab.guest, fault_mint.url, 4).status == 502
    said = lambda: daemon.status()["data"]["mints"][0]  # noqa: E731
    wait_for(lambda: said()["last_error"] and not said()["reachable"], 4)
    wait_for(lambda: said()["reachable"], 30, "a probe brings it back, a while later")


# A second mint of the same price


@contextlib.contextmanager
def slow_invoices(lab, mint):
    """The mint's URL through a proxy that holds questions for an invoice back until the event."""
    answer = threading.Event()
    with FaultProxy(lab.internet, MINT4, upstream=mint.url) as proxy:
        proxy.fault("/v1/mint/quote/bolt11$", method="POST", until=answer)
        try:
            yield proxy, answer
        finally:
            answer.set()


def test_after_five_seconds_the_next_mint_of_the_same_price_is_asked_and_the_late_invoice_is_watched_too(
    lab, make_daemon, fault_mint
):
    with (
        slow_invoices(lab, fault_mint) as (slow, answer),
        FaultMint(lab.internet, MINT4) as dear,
        FaultMint(lab.internet, MINT4) as second,
    ):
        make_daemon(Mint(slow.url), Mint(dear.url, price=2), Mint(second.url), venue={"step_size": STEP})
        with MintProxy(lab.guest) as proxy:
            made, took = timed(lambda: lab.guest.post(TOLLGATE + "/ln-invoice", {"amount": 3, "mint_url": slow.url}))
            assert made.status == 200 and 4.9 < took < GIVES_UP, (made.text, took)
            made = made.json()
            assert made["mint_url"] == second.url and dear.counts.get("quote", 0) == 0
            assert proxy.wait("invoice_ready")["request_id"] == made["quote"]
            again = lab.guest.post(TOLLGATE + "/ln-invoice", {"amount": 3, "mint_url": slow.url}).json()
            assert again["quote"] == made["quote"], "the same again is the invoice that was shown"
            second.pay(made["invoice"])
            assert proxy.wait("session_granted")["request_id"] == made["quote"]
            answer.set()
            (late,) = wait_for(lambda: list(fault_mint.quotes.values()), 10)
            fault_mint.pay(late.request)
            proxy.wait("session_granted")
        assert usage(lab.guest).endswith(f"/{6 * STEP}")


def test_a_mint_that_refuses_is_stood_in_for_at_once_and_tokens_come_only_from_the_mint_that_was_named(
    lab, make_daemon, fault_mint
):
    with FaultMint(lab.internet, MINT4) as second:
        make_daemon(fault_mint.url, second.url)
        fault_mint.misbehave("down", on="quote")
        answer = post_request(lab.guest, fault_mint.url, 4)
        assert (answer.status, answer.json()["code"]) == (502, "mint_unavailable")
        made = post_request(lab.guest, fault_mint.url, 4, apply=True).json()
        assert made["invoice"] == next(iter(second.quotes.values())).request
        second.pay(made["invoice"])
        wait_for(lambda: read_request(lab.guest, made["request_id"]).json()["type"] == "session_granted", 20)


def test_the_page_is_there_at_once_says_after_five_seconds_that_it_waits_and_shows_the_invoice_when_it_comes(
    lab, make_daemon, fault_mint
):
    """Without script: what a browser shows that loads the page again."""
    with slow_invoices(lab, fault_mint) as (slow, answer):
        make_daemon(slow.url)
        page = lambda: lab.guest.get(PORTAL + there, {"Accept": "text/html"}).text  # noqa: E731
        sent, took = form(lab.guest, "/pay", steps=3, mint=slow.url)
        there = sent.headers["location"]
        assert (sent.status, there[:4]) == (303, "/?r=") and took < 5
        assert 'data-state="asking"' in page() and 'http-equiv="refresh" content="2"' in page()
        wait_for(lambda: 'class="notice calm"' in page(), 10, "it is slow, and the page says so")
        answer.set()
        wait_for(lambda: 'data-state="pay"' in page(), 10)
        (quote,) = fault_mint.quotes.values()
        assert quote.request in page()


def test_the_page_of_a_mint_that_gives_no_invoice_says_so_and_the_page_of_one_that_is_stood_in_for_leads_there(
    lab, make_daemon, fault_mint
):
    browser = {"Accept": "text/html"}
    with slow_invoices(lab, fault_mint) as (slow, answer), FaultMint(lab.internet, MINT4) as second:
        daemon = make_daemon(slow.url)
        there = form(lab.guest, "/pay", steps=3, mint=slow.url)[0].headers["location"]
        slow.close()
        wait_for(lambda: 'data-state="trouble"' in lab.guest.get(PORTAL + there, browser).text, 20)
        slow.open()
        daemon.stop()
        daemon.mints.append(Mint(second.url))
        daemon.write_config()
        daemon.start()
        there = form(lab.guest, "/pay", steps=4, mint=slow.url)[0].headers["location"]
        moved = wait_for(lambda: lab.guest.get(PORTAL + there, browser).headers.get("location"), 20)
        assert (
            moved != there
            and next(iter(second.quotes.values())).request in lab.guest.get(PORTAL + moved, browser).text
        )


# Connections that are closed under a request


@pytest.mark.parametrize("start", [False, True], ids=["kept", "first after the start"])
@pytest.mark.parametrize(
    "how, calls",
    [
        ({"cut_request": True}, {"swap": 2, "checkstate": 0, "restore": 0}),
        ({"cut_answer": True}, {"swap": 2, "checkstate": 1, "restore": 1}),
    ],
    ids=["nothing done", "done"],
)
def test_swap_whose_connection_was_closed_is_sent_again_and_what_the_first_did_is_restored(
    lab, make_daemon, fault_mint, purse, how, calls, start
):
    with FaultProxy(lab.internet, MINT4, upstream=fault_mint.url) as proxy:
        purse = Purse(lab, proxy)
        purse.mint = fault_mint
        tokens = [token_v4(proxy.url, purse.wallet.buy(fault_mint, amount)) for amount in (2, 5)]
        daemon = make_daemon(Mint(proxy.url, min_steps=0), venue={"step_size": STEP, "max_steps": 1000})
        if not start:
            assert_session(pay(lab.guest, tokens[0])[0], 2 * STEP)
        before = {path: proxy.count(f"/v1/{path}$") for path in calls}
        proxy.fault("/v1/swap$", times=1, **how)
        assert_session(pay(lab.guest, tokens[1])[0], (5 if start else 7) * STEP)
        assert {path: proxy.count(f"/v1/{path}$") - count for path, count in before.items()} == calls
        assert Books(daemon).takings(proxy.url).amount == (5 if start else 7)


@pytest.mark.parametrize("how", [{"cut_request": True}, {"cut_answer": True}], ids=["nothing done", "done"])
def test_questions_whose_connection_was_closed_are_asked_again(lab, make_daemon, fault_mint, how):
    """For terms, for an invoice, for its state, and for the tokens of a paid one."""
    with FaultProxy(lab.internet, MINT4, upstream=fault_mint.url) as proxy:
        make_daemon(proxy.url)
        for path in (
            "/v1/keysets$",
            "/v1/keys/",
            "/v1/mint/quote/bolt11$",
            "/v1/mint/quote/bolt11/",
            "/v1/mint/bolt11$",
            "/v1/checkstate$",
        ):
            proxy.fault(path, times=1, **how)
        made = post_request(lab.guest, proxy.url, 5)
        assert made.status == 201, made.text
        made = made.json()
        fault_mint.pay(made["invoice"])
        wait_for(lambda: read_request(lab.guest, made["request_id"]).json()["type"] == "tokens_ready", 20)
        with MintProxy(lab.guest) as socket:
            assert socket.wait("tokens_ready")["request_id"] == made["request_id"]
        wait_for(lambda: proxy.count("/v1/checkstate$") == 2, 10, "whether the tokens are spent was asked twice")
