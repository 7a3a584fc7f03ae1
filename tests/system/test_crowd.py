"""Many who mean harm at once, under addresses that they make up: they cost bounded memory, and keep nobody from being
served.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.daemon import Daemon, Mint
from lab.fault_mint import FaultMint
from lab.guest import ROUTER6
from lab.internet import HOST4, MINT4
from lab.place import PATIENCE, in_time, wait_for
from lab.portal_client import PORTAL, MintProxy
from lab.stations import (
    PING,
    PING_FRAME,
    Stations,
    allow_many_files,
    begin_bodies,
    forget_peak,
    head_of,
    peak_kib,
    say_one_byte,
    upgrade,
)
from lab.websocket import WebSocket

MIB = 1024


@pytest.fixture(scope="module")
def market(lab):
    """The mint, and a daemon that sells a minute for a sat of it."""
    allow_many_files()
    with FaultMint(lab.internet, MINT4) as mint:
        with Daemon(
            lab,
            [Mint(mint.url)],
            venue={"step_size": 60_000, "max_steps": 1000},
            main={"guest_sockets": 300, "guest_connections": 310, "log_level": "info"},
            name="crowd",
        ) as daemon:
            yield mint, daemon
        lab.clean_router()


@pytest.fixture
def mint(market):
    return market[0]


@pytest.fixture(autouse=True)
def daemon(market, request):
    """Afterwards everybody is gone, and the daemon as before."""
    daemon = market[1]
    before = len(daemon.log())
    yield daemon
    log = daemon.log()[before:]
    if getattr(request.node, "failed", False):
        print(f"--- log\n{log[-6000:]}")
    assert daemon.running
    daemon.must_be_sound()
    wait_for(lambda: open_now(daemon) == 0, 60, "all connections are closed")


def open_now(daemon) -> int:
    return daemon.status()["data"]["guests"]["connections"]


def is_served(guest) -> None:
    """The portal, and the way to it."""
    assert guest.get(PORTAL + "/", headers={"Accept": "text/html"}).status == 200
    answer = guest.get(f"http://{HOST4}/generate_204")
    assert (answer.status, answer.headers["location"]) == (302, PORTAL + "/")


def buys(guest, mint) -> None:
    """Over a WebSocket, from the connection to the session."""
    with MintProxy(guest) as proxy:
        mint.pay(proxy.request(mint.url, 2, apply=True)["invoice"])
        proxy.wait("session_granted")


def test_unfinished_bodies_of_many_take_little_memory_on_any_route_and_keep_nobody_out(
    lab, daemon, stranger, other_stranger
):
    with Stations(other_stranger, 24) as many:
        is_served(stranger)
        before = forget_peak(daemon)
        begin_bodies(many, 64)
        in_time(3, lambda: is_served(stranger.become_stranger()))
        grown = peak_kib(daemon) - before
        print(f"{grown} KiB for {24 * 64} bodies, {open_now(daemon)} open")
        assert grown < 12 * MIB


def test_bodies_that_come_byte_by_byte_cost_what_has_come(daemon, stranger, other_stranger):
    """Each piece by itself, whatever buffer it came in."""
    with Stations(other_stranger, 8) as many:
        is_served(stranger)
        before = forget_peak(daemon)
        for number in range(8 * 32):
            many.send(number % 8, head_of("/ecash", 100_000))
        for _ in range(40):
            for sock in many.sockets:
                with contextlib.suppress(OSError):
                    sock.send(b"A")
        is_served(stranger)
        grown = peak_kib(daemon) - before
        print(f"{grown} KiB, {open_now(daemon)} open")
        assert grown < 9 * MIB


def test_connections_of_many_that_say_one_byte_cost_little_and_keep_nobody_out(lab, daemon, stranger, other_stranger):
    with Stations(other_stranger, 48) as many:
        is_served(stranger)
        before = forget_peak(daemon)
        say_one_byte(many, 64)
        in_time(3, lambda: is_served(stranger.become_stranger()))
        grown = peak_kib(daemon) - before
        print(f"{grown} KiB for {48 * 64} connections, {open_now(daemon)} open")
        assert grown < 24 * MIB


def test_pings_from_made_up_addresses_keep_no_newcomer_out_and_no_customer_waiting(
    lab, mint, daemon, stranger, other_stranger
):
    faithful = lab.guests[2] if len(lab.guests) > 2 else lab.add_guest()
    with ThreadPoolExecutor(1) as beside, MintProxy(faithful.become_stranger()) as proxy:
        ready = proxy.request(mint.url, 2, apply=True)
        # It answers the daemon's pings meanwhile, however long a busy machine takes.
        granted = beside.submit(proxy.wait, "session_granted", 600)
        with Stations(other_stranger, 192) as many:
            before = forget_peak(daemon)
            for number in range(192 * 16):
                upgrade(many, number % 192)
            many.repeat(PING, 10)
            for _ in range(8):
                in_time(3, lambda: is_served(stranger.become_stranger()))
                for number in range(0, 192, 4):
                    upgrade(many, number)
            buys(stranger, mint)
            grown = peak_kib(daemon) - before
            print(f"{grown} KiB for {192 * 16} sockets, {open_now(daemon)} open")
            assert grown < 20 * MIB
            mint.pay(ready["invoice"])
            assert granted.result(PATIENCE)["request_id"] == ready["request_id"], (
                "a guest who is about to pay keeps its socket"
            )


@pytest.mark.parametrize("ping", [PING, PING_FRAME], ids=["message", "frame"])
def test_a_flood_of_pings_from_one_guest_takes_bounded_memory_and_keeps_nobody_waiting(
    mint, daemon, stranger, other_stranger, ping
):
    """Whose answers nobody reads."""
    with Stations(other_stranger, 1) as one:
        is_served(stranger)
        for _ in range(256):
            upgrade(one, 0)
        wait_for(lambda: daemon.status()["data"]["guests"]["sockets"] >= 256, 60, "the sockets are open")
        before = forget_peak(daemon)
        one.flood(ping * 500)
        wait_for(lambda: one.flooded > 4 * MIB * 1024, 60, "a hundred thousand of the shorter ones")
        for _ in range(5):
            in_time(3, lambda: is_served(stranger.become_stranger()))
        buys(stranger, mint)
        grown = peak_kib(daemon) - before
        print(f"{grown} KiB for {one.flooded} bytes of pings, {open_now(daemon)} open")
        assert grown < 12 * MIB


def test_nine_hundred_sockets_of_three_guests_stay_open(other_stranger):
    with Stations(other_stranger, 3) as three:
        sockets = [
            WebSocket.connect(three.connect(number % 3), "/mint-proxy", f"[{ROUTER6}]:2121") for number in range(900)
        ]
        for each in sockets:
            each.send({"type": "ping"})
        assert [each.receive_json() for each in sockets] == [{"type": "pong"}] * 900
