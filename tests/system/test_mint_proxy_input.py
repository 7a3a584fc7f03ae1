"""What no well-meaning client sends to the mint proxy's WebSocket: one clear error, bounded memory, and nobody else
notices.
"""

import contextlib
import json
import os
import random
import struct
import time

import pytest

from lab.portal_client import MintProxy
from lab.websocket import CLOSE, CONTINUATION, PING, PONG, TEXT, Closed, WebSocket

MAX_MESSAGE = 16 * 1024
NORMAL, PROTOCOL, NOT_UTF8, TOO_LARGE = 1000, 1002, 1007, 1009


@pytest.fixture
def proxy(shop, stranger):
    with MintProxy(stranger) as opened:
        yield opened


def assert_invalid_and_still_talking(shop, proxy: MintProxy) -> None:
    error = proxy.receive()
    assert error.keys() == {"type", "code", "message"}
    assert (error["type"], error["code"]) == ("error", "invalid_message")
    proxy.send({"type": "ping"})
    assert proxy.receive() == {"type": "pong"}
    assert shop.invoices_asked() == shop.asked_before


def assert_refused_and_closed(proxy: MintProxy, code: int) -> None:
    """The reason as a message, then the close code that means it."""
    error = proxy.receive()
    assert (error["type"], error["code"]) == ("error", "invalid_message")
    with pytest.raises(Closed) as closed:
        proxy.receive()
    assert closed.value.code == code


@pytest.fixture(autouse=True)
def count_invoices(shop):
    shop.asked_before = shop.invoices_asked()


# Messages


@pytest.mark.parametrize(
    "amount",
    [
        "0",
        "-1",
        "1.5",
        "1.0",
        "1e3",
        '"5"',
        "null",
        "true",
        "[]",
        "{}",
        "-0",
        str(2**63),
        str(2**64),
        "9" * 400,
        "1e400",
    ],
)
def test_amount_that_is_no_whole_number_of_sats_is_invalid(shop, proxy, amount):
    proxy.send(f'{{"type":"mint_request","mint_url":"{shop.mint.url}","amount":{amount}}}')
    assert_invalid_and_still_talking(shop, proxy)


def test_missing_amount_and_missing_mint_are_invalid(shop, proxy):
    proxy.send({"type": "mint_request", "mint_url": shop.mint.url})
    assert_invalid_and_still_talking(shop, proxy)
    proxy.send({"type": "mint_request", "amount": 5})
    assert_invalid_and_still_talking(shop, proxy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00",
        "null",
        "true",
        "5",
        '"mint_request"',
        "[]",
        "{}",
        "{",
        "}",
        "not json",
        '{"type":"mint_request"',
        "{'type':'ping'}",
        '{"type":null}',
        '{"type":5}',
        '{"type":["ping"]}',
        '{"Type":"ping"}',
        '{"type":""}',
        '{"type":"PING"}',
        '{"type":"tokens_ready"}',
        '{"type":"ping"}{"type":"ping"}',
        '{"type":"ping",}',
        '{"type":"ack"}',
        '{"type":"status","request_id":7}',
        '{"type":"resume","request_id":null}',
        '{"type":"ack","request_id":"00000000000000000000000000000000","part":"x"}',
        "[" * 10_000,
        '{"type":' * 1500,
        '{"a":' * 2000 + "1" + "}" * 2000,
        json.dumps({"type": "x" * 16_000}),
        '\ufeff{"type":"ping"}',
        '{"type":"\\ud800"}',
        "{" + '"a":1,' * 2000 + '"type":"nothing"}',
    ],
)
def test_text_that_is_no_message_is_invalid(shop, proxy, text):
    proxy.send(text)
    assert_invalid_and_still_talking(shop, proxy)


@pytest.mark.parametrize(
    "more",
    [
        {"mint_url": 7},
        {"mint_url": None},
        {"mint_url": ["x"]},
        {"apply": "yes"},
        {"apply": 1},
        {"mints": []},
        {"mints": {}},
        {"mints": "x"},
        {"mints": [1]},
        {"mints": [{}]},
        {"mints": [{"amount": 5}]},
        {"mints": [[["x"]]]},
    ],
)
def test_request_with_a_field_of_the_wrong_kind_is_invalid(shop, proxy, more):
    proxy.send({"type": "mint_request", "mint_url": shop.mint.url, "amount": 5} | more)
    assert_invalid_and_still_talking(shop, proxy)


def test_request_over_five_mints_is_invalid(shop, proxy):
    proxy.send({"type": "mint_request", "mints": [{"mint_url": mint.url, "amount": 5} for mint in shop.mints[:5]]})
    assert_invalid_and_still_talking(shop, proxy)


def test_amount_that_the_mint_does_not_issue_is_refused_without_a_trace(shop, proxy):
    """Whole, positive, and more sats than there will ever be."""
    proxy.send({"type": "mint_request", "mint_url": shop.mint.url, "amount": 21 * 10**14})
    assert proxy.receive()["code"] == "invalid_message"
    assert shop.daemon.running


def test_longest_message_is_read(shop, proxy):
    message = json.dumps({"type": "ping", "pad": ""})
    proxy.send(message.replace('""', '"' + "x" * (MAX_MESSAGE - len(message)) + '"'))
    assert proxy.receive() == {"type": "pong"}


def test_hundreds_of_bad_messages_in_a_row_are_all_answered(shop, proxy):
    for _ in range(300):
        proxy.send("bad")
    assert [proxy.receive()["code"] for _ in range(300)] == ["invalid_message"] * 300


# Frames


def test_binary_frame_is_invalid(shop, proxy):
    proxy.send(b'{"type":"ping"}')
    assert_invalid_and_still_talking(shop, proxy)
    proxy.send(os.urandom(10_000))
    assert_invalid_and_still_talking(shop, proxy)


def test_message_in_fragments_with_a_ping_between_is_read(shop, proxy):
    ws = proxy.socket
    ws.send_frame(TEXT, b'{"type":', final=False)
    ws.send_frame(PING, b"between")
    ws.send_frame(CONTINUATION, b'"pi', final=False)
    ws.send_frame(CONTINUATION, b"", final=False)
    ws.send_frame(CONTINUATION, b'ng"}')
    assert ws.receive_frame() == (PONG, b"between", True)
    assert proxy.receive() == {"type": "pong"}


def test_text_that_is_cut_inside_of_a_letter_is_read_when_it_is_whole(shop, proxy):
    text = '{"type":"ping","name":"Üüü"}'.encode()
    cut = text.index("ü".encode()) + 1
    proxy.socket.send_frame(TEXT, text[:cut], final=False)
    proxy.socket.send_frame(CONTINUATION, text[cut:])
    assert proxy.receive() == {"type": "pong"}


def oversized(ws: WebSocket) -> None:
    ws.send("x" * (MAX_MESSAGE + 1))


def oversized_by_a_megabyte(ws: WebSocket) -> None:
    ws.send("x" * (1 << 20))


def oversized_in_fragments(ws: WebSocket) -> None:
    ws.send_frame(TEXT, b"x" * 10_000, final=False)
    ws.send_frame(CONTINUATION, b"x" * 10_000, final=False)


def endless_header(ws: WebSocket) -> None:
    ws.sock.sendall(bytes([0x81, 0xFF]) + struct.pack(">Q", 1 << 62) + b"mask" + b"x" * 100)


def unmasked(ws: WebSocket) -> None:
    ws.send_frame(TEXT, b'{"type":"ping"}', masked=False)


def reserved_opcode(ws: WebSocket) -> None:
    ws.send_frame(0x3, b"{}")


def reserved_bit(ws: WebSocket) -> None:
    ws.sock.sendall(bytes([0xC1, 0x80]) + b"mask")


def continuation_of_nothing(ws: WebSocket) -> None:
    ws.send_frame(CONTINUATION, b"{}")


def message_inside_of_a_message(ws: WebSocket) -> None:
    ws.send_frame(TEXT, b"{", final=False)
    ws.send_frame(TEXT, b'{"type":"ping"}')


def ping_in_fragments(ws: WebSocket) -> None:
    ws.send_frame(PING, b"x", final=False)


def ping_too_long(ws: WebSocket) -> None:
    ws.send_frame(PING, b"x" * 126)


def not_utf8(ws: WebSocket) -> None:
    ws.send_frame(TEXT, b'{"type":"\xff\xfe"}')


@pytest.mark.parametrize(
    "send, code",
    [
        (oversized, TOO_LARGE),
        (oversized_by_a_megabyte, TOO_LARGE),
        (oversized_in_fragments, TOO_LARGE),
        (endless_header, TOO_LARGE),
        (unmasked, PROTOCOL),
        (reserved_opcode, PROTOCOL),
        (reserved_bit, PROTOCOL),
        (continuation_of_nothing, PROTOCOL),
        (message_inside_of_a_message, PROTOCOL),
        (ping_in_fragments, PROTOCOL),
        (ping_too_long, PROTOCOL),
        (not_utf8, NOT_UTF8),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_frame_against_the_rules_is_refused_and_ends_this_socket_only(shop, stranger, proxy, send, code):
    with MintProxy(stranger) as bystander:
        with contextlib.suppress(ConnectionError):  # refused before all of it was sent
            send(proxy.socket)
        assert_refused_and_closed(proxy, code)
        bystander.send({"type": "ping"})
        assert bystander.receive() == {"type": "pong"}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 64,
        random.Random(1).randbytes(256),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=["zeros", "random", "http", "tls"],
)
def test_garbage_after_the_upgrade_ends_the_socket(shop, proxy, garbage):
    proxy.socket.sock.sendall(garbage)
    started = time.monotonic()
    with pytest.raises(Closed):
        while True:
            proxy.receive()
    assert time.monotonic() - started < 20, "no timeout of ours, which are longer"


def test_upgrade_and_garbage_in_one_packet_end_the_socket(shop, stranger):
    with stranger.connect("192.168.77.1", 2121) as sock:
        sock.sendall(
            b"GET /mint-proxy HTTP/1.1\r\nHost: 192.168.77.1:2121\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n" + b"\xff" * 500
        )
        received = b""
        while more := sock.recv(65536):
            received += more
    assert received.startswith(b"HTTP/1.1 101 ") and b"invalid_message" in received


def test_frame_that_never_ends_holds_nothing_but_its_socket(shop, stranger, proxy):
    proxy.socket.sock.sendall(bytes([0x81, 0xFE]) + struct.pack(">H", 10_000) + b"mask" + b"x" * 100)
    with MintProxy(stranger) as other:
        other.send({"type": "ping"})
        assert other.receive() == {"type": "pong"}
    proxy.socket.sock.close()


def test_close_is_answered_with_a_close(shop, proxy):
    proxy.socket.send_frame(CLOSE, struct.pack(">H", NORMAL))
    with pytest.raises(Closed) as closed:
        proxy.receive()
    assert closed.value.code == NORMAL


def test_bad_frames_cost_no_memory(shop, stranger):
    before = shop.daemon.process.memory_kib()["RssAnon"]
    for _ in range(100):
        with MintProxy(stranger) as bad:
            with contextlib.suppress(ConnectionError):
                bad.send("x" * 20_000)
            with pytest.raises(Closed):
                bad.receive(), bad.receive()
    assert shop.daemon.process.memory_kib()["RssAnon"] - before < 1024
