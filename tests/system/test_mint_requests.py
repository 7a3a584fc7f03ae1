"""The mint proxy without WebSocket: `/mint-requests`, `/health` and `/stats`, their bodies and codes."""

import contextlib
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import bolt11
import pytest

from lab.guest import ROUTER4, ROUTER6
from lab.http_client import exchange
from lab.place import answer_when, wait_for
from lab.portal_client import MintProxy, post_request, read_request
from lab.shop import MAX_STEPS, MIN_STEPS, STEP
from lab.wallet import Wallet, decode_token

REQUESTS = f"http://{ROUTER4}:2121/mint-requests"
PORTS = (2121, 2122)


def assert_error(answer, status: int, code: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    body = answer.json()
    assert body.keys() - {"request_id"} == {"type", "code", "message"}
    assert (body["type"], body["code"]) == ("error", code)
    assert type(body["message"]) is str and body["message"]


def state(guest, request_id: str, kind: str) -> dict:
    """The request's latest object, once it is of this kind."""

    def reached():
        latest = read_request(guest, request_id).json()
        return latest if latest["type"] == kind else None

    return wait_for(reached, 5, kind)


# The way of a purchase


@pytest.mark.parametrize("port", PORTS)
def test_request_is_201_and_its_tokens_are_read_with_200(shop, stranger, port):
    made = post_request(stranger, shop.mint.url, 21, port)
    assert (made.status, made.headers["content-type"]) == (201, "application/json")
    ready = made.json()
    assert ready.keys() == {"type", "request_id", "invoice", "expires_at"}
    assert ready["type"] == "invoice_ready" and type(ready["expires_at"]) is int
    assert bolt11.decode(ready["invoice"]).amount_msat == 21_000
    read = read_request(stranger, ready["request_id"], port)
    assert (read.status, read.json()) == (200, ready)
    shop.pay(ready["invoice"])
    tokens = state(stranger, ready["request_id"], "tokens_ready")
    assert tokens.keys() == {"type", "request_id", "tokens"}
    assert decode_token(tokens["tokens"]).amount == 21
    assert Wallet(shop.lab.internet, shop.mint.url).receive(tokens["tokens"]) == 21


def test_request_over_ipv6_is_the_same_guests(shop, stranger):
    made = stranger.post(f"http://[{ROUTER6}]:2121/mint-requests", {"mint_url": shop.mint.url, "amount": 5})
    assert made.status == 201
    assert read_request(stranger, made.json()["request_id"]).json() == made.json()


def test_apply_puts_the_guest_online(shop, stranger):
    ready = post_request(stranger, shop.mint.url, 5, apply=True).json()
    shop.pay(ready["invoice"])
    granted = state(stranger, ready["request_id"], "session_granted")
    assert granted.keys() == {"type", "request_id", "allotment", "metric", "remaining", "ends_at", "ticket"}
    assert granted["allotment"] == 5 * STEP and stranger.mac in shop.daemon.paid_macs()


def test_answer_is_always_the_latest(shop, stranger):
    ready = post_request(stranger, shop.mint.url, 5, apply=True).json()
    shop.pay(ready["invoice"])
    first = state(stranger, ready["request_id"], "session_granted")
    wait_for(lambda: read_request(stranger, ready["request_id"]).json()["remaining"] < first["remaining"], 3)


def test_several_mints_are_answered_as_one_object_with_their_parts(shop, stranger):
    mints = [{"mint_url": shop.mint.url, "amount": 5}, {"mint_url": shop.other_mint.url, "amount": 8}]
    made = stranger.post(REQUESTS, {"mints": mints})
    assert made.status == 201
    body = made.json()
    assert body.keys() == {"type", "request_id", "parts"}
    assert [(part["type"], part["part"], part["mint_url"]) for part in body["parts"]] == [
        ("invoice_ready", 0, shop.mint.url), ("invoice_ready", 1, shop.other_mint.url)]
    shop.pay(body["parts"][1]["invoice"])
    latest = answer_when(
        lambda now: now["parts"][1]["type"] == "tokens_ready",
        lambda: read_request(stranger, body["request_id"]).json(),
    )
    assert latest["parts"][0] == body["parts"][0]
    assert decode_token(latest["parts"][1]["tokens"]).amount == 8


def test_identical_requests_return_the_first(shop, stranger):
    first, asked = post_request(stranger, shop.mint.url, 5), shop.invoices_asked()
    for port in PORTS * 6:
        again = post_request(stranger, shop.mint.url, 5, port)
        assert (again.status, again.json()) == (201, first.json())
    assert shop.invoices_asked() == asked


def test_fifty_parallel_identical_requests_make_one_invoice(shop, stranger):
    asked = shop.invoices_asked()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: post_request(stranger, shop.mint.url, 5, PORTS[number % 2]), range(50)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json()["invoice"] for answer in answers}) == 1
    assert shop.invoices_asked() == asked + 1


def test_requests_of_sockets_and_of_rest_are_the_same(shop, stranger):
    with MintProxy(stranger) as proxy:
        ready = proxy.request(shop.mint.url, 5)
    assert read_request(stranger, ready["request_id"]).json() == ready
    assert post_request(stranger, shop.mint.url, 5).json() == ready


def test_tokens_are_still_read_after_kill_9(shop, stranger):
    ready = post_request(stranger, shop.mint.url, 5).json()
    shop.pay(ready["invoice"])
    tokens = state(stranger, ready["request_id"], "tokens_ready")
    shop.daemon.kill()
    shop.daemon.start()
    assert read_request(stranger, ready["request_id"]).json() == tokens


# 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"null",
        b"[]",
        b"5",
        b"{}",
        b'{"mint_url":"MINT"}',
        b'{"amount":5}',
        b'{"mint_url":"MINT","amount":0}',
        b'{"mint_url":"MINT","amount":-5}',
        b'{"mint_url":"MINT","amount":5.0}',
        b'{"mint_url":"MINT","amount":"5"}',
        b'{"mint_url":"MINT","amount":18446744073709551621}',
        b'{"mint_url":"MINT","amount":21000000000000000}',
        b'{"mint_url":"MINT","amount":5,"apply":"true"}',
        b'{"mint_url":"MINT","amount":5',
        b"[" * 16_000,
        b'{"mints":[]}',
        b'{"mint_url":"MINT","amount":5}\xff',
        b"\xff\xfe{}",
        b"mint_url=MINT&amount=5",
    ],
)
def test_bad_body_is_400_invalid_message(shop, stranger, body):
    asked = shop.invoices_asked()
    assert_error(stranger.post(REQUESTS, body.replace(b"MINT", shop.mint.url.encode())), 400, "invalid_message")
    assert shop.invoices_asked() == asked


@pytest.mark.parametrize("amount", [MIN_STEPS - 1, MAX_STEPS + 1])
def test_apply_outside_of_what_is_sold_is_400_before_any_invoice(shop, stranger, amount):
    asked = shop.invoices_asked()
    assert_error(post_request(stranger, shop.mint.url, amount, apply=True), 400, "invalid_message")
    assert shop.invoices_asked() == asked
    assert post_request(stranger, shop.mint.url, amount).status == 201, "without apply it is the mint's affair"


@pytest.mark.parametrize("url", ["https://mint.example.com", "http://203.0.113.10:1", "ftp://x", ""])
def test_mint_that_is_not_in_the_list_is_400_invalid_mint(shop, stranger, url):
    assert_error(post_request(stranger, url, 5), 400, "invalid_mint")


# 404, 405


@pytest.mark.parametrize(
    "request_id", ["0" * 32, "", "x", "..%2f..%2fetc%2fpasswd", "0" * 4000, "0" * 32 + "/", "%00"]
)
def test_request_that_nobody_made_is_404_request_not_found(shop, stranger, request_id):
    assert_error(read_request(stranger, request_id), 404, "request_not_found")


def test_request_of_another_guest_is_404_request_not_found(shop, stranger, other_stranger):
    ready = post_request(stranger, shop.mint.url, 5).json()
    assert_error(read_request(other_stranger, ready["request_id"]), 404, "request_not_found")
    shop.pay(ready["invoice"])
    state(stranger, ready["request_id"], "tokens_ready")
    assert_error(read_request(other_stranger, ready["request_id"]), 404, "request_not_found")


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("path", ["/mint-requests/a/b/../c", "/admin", "/mint-proxy/x", "/HEALTH", "/health/live"])
def test_path_that_is_none_is_404(shop, stranger, port, path):
    answer = stranger.get(f"http://{ROUTER4}:{port}{path}")
    assert answer.status == 404 and answer.json()["type"] == "error"


@pytest.mark.parametrize("path", ["/", "//", "/%2e%2e/etc/passwd", "/portal", "/usage"])
def test_port_of_the_mint_proxy_has_nothing_else(shop, stranger, path):
    answer = stranger.get(f"http://{ROUTER4}:2122{path}")
    assert answer.status == 404 and answer.json()["type"] == "error"


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("GET", "/mint-requests", "POST"),
        ("HEAD", "/mint-requests", "POST"),
        ("DELETE", "/mint-requests", "POST"),
        ("PATCH", "/mint-requests", "POST"),
        ("POST", "/mint-requests/x", "GET"),
        ("PUT", "/mint-requests/x", "GET"),
        ("BREW", "/health", "GET"),
        ("POST", "/stats", "GET"),
    ],
)
def test_method_that_a_path_does_not_take_is_405_and_says_which(shop, stranger, method, path, allowed):
    for port in PORTS:
        answer = stranger.request(method, f"http://{ROUTER4}:{port}{path}", body=b"{}" if method == "POST" else None)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_head_is_a_get_without_its_body(shop, stranger):
    ready = post_request(stranger, shop.mint.url, 5).json()
    for path in (f"/mint-requests/{ready['request_id']}", "/health", "/stats"):
        head = stranger.request("HEAD", f"http://{ROUTER4}:2121{path}")
        assert (head.status, head.body) == (200, b"")


# 413, 408, and heads


def test_body_that_is_too_large_is_refused(shop, stranger):
    assert_error(stranger.post(REQUESTS, b" " * (16 * 1024 + 1)), 413, "invalid_message")


def test_body_of_a_megabyte_is_not_taken_in(shop, stranger):
    with contextlib.suppress(ConnectionError):  # refused before it was sent
        assert stranger.post(REQUESTS, b" " * (1 << 20)).status == 413


def test_endless_body_in_chunks_is_refused(shop, stranger):
    with stranger.connect(ROUTER4, 2121) as sock:
        sock.sendall(b"POST /mint-requests HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(64):
                sock.sendall(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100).startswith(b"HTTP/1.1 413 ")


def test_head_that_is_too_large_is_refused(shop, stranger):
    with contextlib.suppress(ConnectionError):
        answer = stranger.get(f"http://{ROUTER4}:2121/health", headers={"X-Pad": "x" * 100_000})
        assert answer.status == 431
    with contextlib.suppress(ConnectionError):
        answer = stranger.get(f"http://{ROUTER4}:2121/health", headers={f"X-{number}": "x" for number in range(200)})
        assert answer.status == 431


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
        b"\r\n" * 100 + b"x" * 100 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(shop, stranger, garbage):
    for port in PORTS:
        with stranger.connect(ROUTER4, port) as sock:
            sock.sendall(garbage)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(65536)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.0 400")


def test_requests_that_dawdle_end_after_ten_seconds_and_hold_up_nobody(shop, stranger):
    unfinished = [
        b"POST /mint-requests HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /mint-requests HTTP/1.1\r\nHost: x\r\n",
    ]
    with contextlib.ExitStack() as held:
        started = time.monotonic()
        socks = [held.enter_context(stranger.connect(ROUTER4, 2121)) for _ in range(40)]
        for number, sock in enumerate(socks):
            sock.sendall(unfinished[number % 2])
        assert post_request(stranger, shop.mint.url, 5).status == 201
        assert time.monotonic() - started < 9, "before those end"
        first = [sock.recv(100) for sock in socks[:2]]
        assert first[0].startswith(b"HTTP/1.1 408 ")
        assert first[1] == b"" or first[1].startswith(b"HTTP/1.1 408 ")
        assert 9 < time.monotonic() - started < 30


# 403, 429, 502, 503


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"http://{ROUTER4}.evil.example"])
def test_page_of_another_host_may_not_ask(shop, stranger, origin):
    asked = shop.invoices_asked()
    answer = stranger.post(REQUESTS, {"mint_url": shop.mint.url, "amount": 5}, headers={"Origin": origin})
    assert (answer.status, answer.json()["type"]) == (403, "error")
    assert shop.invoices_asked() == asked
    assert "access-control-allow-origin" not in answer.headers


def test_fourth_unpaid_request_is_429(shop, stranger, other_stranger):
    for amount in (5, 6, 7):
        assert post_request(stranger, shop.mint.url, amount).status == 201
    assert_error(post_request(stranger, shop.mint.url, 8), 429, "rate_limited")
    assert post_request(other_stranger, shop.mint.url, 8).status == 201


def test_eleventh_request_of_a_minute_is_429(shop, stranger):
    shop.mint.misbehave("down", on="quote")
    assert {post_request(stranger, shop.mint.url, amount).status for amount in range(5, 15)} == {502}
    shop.mint.behave()
    assert_error(post_request(stranger, shop.mint.url, 15), 429, "rate_limited")


@pytest.mark.parametrize(
    "fault", ["down", "html", "garbage", "drop_before", "rate_limited", "unprocessable_text", "wrong_invoice_amount"]
)
def test_mint_that_gives_no_good_invoice_is_502_mint_unavailable(shop, stranger, fault):
    shop.mint.misbehave(fault, on=None if fault == "wrong_invoice_amount" else "quote")
    assert_error(post_request(stranger, shop.mint.url, 5), 502, "mint_unavailable")
    shop.mint.behave()
    assert post_request(stranger, shop.mint.url, 5).status == 201


def test_mint_that_is_gone_is_502_mint_unavailable(shop, stranger):
    shop.mint.close()
    assert_error(post_request(stranger, shop.mint.url, 5), 502, "mint_unavailable")


def test_one_mint_of_two_that_is_gone_leaves_no_half_request(shop, stranger):
    shop.other_mint.misbehave("down", on="quote")
    mints = [{"mint_url": mint.url, "amount": 5} for mint in (shop.mint, shop.other_mint)]
    answer = stranger.post(REQUESTS, {"mints": mints})
    assert_error(answer, 502, "mint_unavailable")
    latest = read_request(stranger, answer.json()["request_id"]).json()
    assert latest["type"] == "error" and "parts" not in latest


def test_shop_without_a_sound_store_is_503_and_still_says_that_it_lives(lab, stranger, make_broken_daemon):
    mint, _ = make_broken_daemon
    answer = post_request(stranger, mint, 5)
    assert_error(answer, 503, "STORE_CORRUPT")
    assert_error(read_request(stranger, "0" * 32), 503, "STORE_CORRUPT")
    for port in PORTS:
        assert stranger.get(f"http://{ROUTER4}:{port}/health").text == "OK"
        assert type(stranger.get(f"http://{ROUTER4}:{port}/stats").json()) is dict
    with pytest.raises(Exception) as refusal:
        MintProxy(stranger)
    assert refusal.value.status == 503 and json.loads(refusal.value.body)["code"] == "STORE_CORRUPT"


@pytest.fixture
def make_broken_daemon(shop):
    """The shop's daemon on a store that is damaged; afterwards on its own again."""
    path = os.path.join(shop.daemon.state_dir, "store.db")
    shop.daemon.stop()
    with open(path, "rb") as file:
        good = file.read()
    with open(path, "r+b") as file:
        file.write(b"\xff" * 4096)
    shop.daemon.start()
    yield shop.mint.url, path
    shop.daemon.stop()
    with open(path, "wb") as file:
        file.write(good)
    shop.daemon.start()


# Health and figures


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("address", [ROUTER4, f"[{ROUTER6}]"])
def test_health_is_ok_and_stats_are_json(shop, stranger, port, address):
    health = stranger.get(f"http://{address}:{port}/health")
    assert (health.status, health.text) == (200, "OK")
    assert health.headers["content-type"].startswith("text/plain")
    stats = stranger.get(f"http://{address}:{port}/stats")
    assert (stats.status, stats.headers["content-type"]) == (200, "application/json")
    assert all(type(value) is int for value in stats.json().values())


def test_stats_count_sockets_requests_and_sessions(shop, stranger):
    def stats() -> dict:
        return stranger.get(f"http://{ROUTER4}:2122/stats").json()

    before = answer_when(lambda now: now["sockets"] == 0, stats, 5, "those of other tests are closed")
    with MintProxy(stranger) as proxy:
        ready = proxy.request(shop.mint.url, 5, apply=True)
        during = stats()
        assert during["sockets"] == before["sockets"] + 1
        assert (during["requests"], during["unpaid"]) == (before["requests"] + 1, before["unpaid"] + 1)
        shop.pay(ready["invoice"])
        proxy.wait("session_granted")
        assert (stats()["sessions"], stats()["unpaid"]) == (before["sessions"] + 1, before["unpaid"])
    wait_for(lambda: stats()["sockets"] == before["sockets"], 5)


def test_answers_are_not_cached(shop, stranger):
    ready = post_request(stranger, shop.mint.url, 5)
    for answer in (ready, read_request(stranger, ready.json()["request_id"]), read_request(stranger, "x")):
        assert answer.headers["cache-control"] == "no-store"


def test_connection_is_kept_for_the_next_request(shop, stranger):
    with stranger.connect(ROUTER4, 2121) as sock:
        for _ in range(3):
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = sock.recv(4096)
            while not answer.endswith(b"\r\n\r\nOK"):
                answer += sock.recv(4096) or pytest.fail(f"it ends with {answer}")


def test_request_without_a_host_is_answered(shop, stranger):
    with stranger.connect(ROUTER4, 2122) as sock:
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert sock.recv(4096, socket.MSG_WAITALL).endswith(b"OK")
