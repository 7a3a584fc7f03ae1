"""The fault proxy between a wallet and the real mint."""

import time

import pytest

from lab.place import wait_for
from lab.wallet import MintError, Wallet
from lab.websocket import Closed, WebSocket


@pytest.fixture
def wallet(lab, fault_proxy):
    return Wallet(lab.router, fault_proxy.url)


def paid(wallet, mint, amount=5):
    quote = wallet.quote(amount)
    mint.pay(quote["request"])
    return quote


def subscribe(lab, proxy, quote) -> WebSocket:
    socket = WebSocket.connect(lab.router.connect(proxy.host, proxy.port), "/v1/ws", "mint")
    socket.send(
        {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "subscribe",
            "params": {"kind": "bolt11_mint_quote", "subId": "s", "filters": [quote["quote"]]},
        }
    )
    return socket


def test_untouched_traffic_passes(mint, fault_proxy, wallet):
    assert sum(proof["amount"] for proof in wallet.mint(paid(wallet, mint))) == 5
    assert fault_proxy.count("/v1/mint/quote/bolt11", "POST") == 1
    assert fault_proxy.count("/v1/mint/bolt11$", "POST") == 1


def test_cut_answer_was_committed_by_the_mint(mint, fault_proxy, wallet):
    quote = paid(wallet, mint)
    fault_proxy.fault("/v1/mint/bolt11$", cut_answer=True, times=1)
    with pytest.raises(OSError):
        wallet.mint(quote)
    assert wallet.state(quote["quote"]) == "ISSUED"


def test_cut_request_never_reached_the_mint(mint, fault_proxy, wallet):
    quote = paid(wallet, mint)
    fault_proxy.fault("/v1/mint/bolt11$", cut_request=True, times=1)
    with pytest.raises(OSError):
        wallet.mint(quote)
    assert wallet.state(quote["quote"]) == "PAID"
    wallet.mint(quote)


def test_answers_in_the_mints_place(fault_proxy, wallet):
    fault_proxy.fault("/v1/info", status=429, body='{"detail":"Rate limit exceeded."}', times=1)
    with pytest.raises(MintError, match="429"):
        wallet.ask("GET", "/v1/info")
    fault_proxy.fault("/v1/info", status=200, body="<html>", content_type="text/html", times=1)
    with pytest.raises(ValueError):
        wallet.ask("GET", "/v1/info")
    fault_proxy.fault("/v1/info", oversized=3_000_000, times=1)
    assert len(wallet.ask("GET", "/v1/info")) == 3_000_000
    fault_proxy.fault("/v1/info", truncate=20, times=1)
    with pytest.raises(OSError):
        wallet.ask("GET", "/v1/info")
    assert "nuts" in wallet.ask("GET", "/v1/info")


def test_delay_and_hang_take_their_time(fault_proxy, wallet):
    fault_proxy.fault("/v1/info", delay_answer=0.3, times=1)
    started = time.monotonic()
    wallet.ask("GET", "/v1/info")
    assert time.monotonic() - started >= 0.3
    fault_proxy.fault("/v1/info", hang=0.3, times=1)
    with pytest.raises(OSError):
        wallet.ask("GET", "/v1/info")


def test_mint_that_is_down_refuses_until_it_is_back(fault_proxy, wallet):
    fault_proxy.close()
    with pytest.raises(ConnectionRefusedError):
        wallet.ask("GET", "/v1/info")
    fault_proxy.open()
    wallet.ask("GET", "/v1/info")


def test_socket_passes_swallows_and_is_cut(lab, mint, fault_proxy, wallet):
    quote = wallet.quote(5)
    passing = subscribe(lab, fault_proxy, quote)
    assert "result" in passing.receive_json()
    fault_proxy.fault("/v1/ws", swallow_events=True, times=1)
    silent = subscribe(lab, fault_proxy, quote)
    assert "result" in silent.receive_json()
    fault_proxy.fault("/v1/ws", cut_socket_after=1, times=1)
    cut = subscribe(lab, fault_proxy, quote)
    with pytest.raises(Closed):
        while True:
            cut.receive()
    mint.pay(quote["request"])
    wait_for(lambda: passing.receive_json()["params"]["payload"]["state"] == "PAID", 5)
    with pytest.raises(TimeoutError):
        silent.receive(0.3)
