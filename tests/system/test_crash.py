"""`kill -9` between any two effects of a sale. One daemon is killed again and again; after each sale the books must
close.

The moments are exact: the test mint stops the daemon when a call arrives, when it has done its part, when its answer
has left; the guest when a message has come; and a watcher of the journal when a commit has been written.
"""

import threading
import time

import pytest

from lab.books import Books, check_books
from lab.crash import at_commit as commits
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.place import wait_for
from lab.portal_client import MintProxy, MintProxyError, read_request
from lab.websocket import Closed

STEP = 60_000

CALLS = [(endpoint, moment) for endpoint in ("quote", "mint") for moment in ("arrived", "done", "answered")]
AFTER_ANSWER = [0.001, 0.003, 0.006, 0.01, 0.02, 0.04]
"""Seconds after the mint's last answer: signatures are checked, the sale is committed, the gate opens, the guest is
told.
"""


class Shop:
    """A daemon that sells for one test mint, a guest who buys, and what has been sold so far."""

    def __init__(self, lab, mint: FaultMint, daemon) -> None:
        self.lab, self.mint, self.daemon = lab, mint, daemon
        self.paid = 0
        self.dying = threading.Lock()

    def crash(self) -> None:
        with self.dying:
            self.daemon.kill()

    def revive(self) -> None:
        """Starts the daemon if it was killed."""
        with self.dying:
            if not self.daemon.running:
                self.daemon.start()

    def sale(self, amount: int, apply: bool, crash_at=None) -> dict:
        """One sale from the question to the end, with as many starts of the daemon as it takes. `crash_at(shop)` is
        called when the invoice is there, just before it is paid; it answers an event that is set when the daemon is
        dead."""
        made = self.invoice(amount, apply)
        crashed = crash_at(self) if crash_at else None
        self.mint.pay(made["invoice"])
        self.paid += amount
        if crashed:
            assert crashed.wait(60), "the moment never came"
            self.revive()
        return self.end(made["request_id"])

    def invoice(self, amount: int, apply: bool) -> dict:
        while True:
            try:
                with MintProxy(self.lab.guest) as proxy:
                    return proxy.request(self.mint.url, amount, apply=apply)
            except (Closed, OSError):
                wait_for(lambda: not self.daemon.running, 5, "only the crash may end a socket")
                self.revive()

    def end(self, request_id: str) -> dict:
        def done():
            message = read_request(self.lab.guest, request_id).json()
            return message if message["type"] in ("tokens_ready", "session_granted") else None

        return wait_for(done, 10, "the payment reaches its end", every=0.05)

    def check(self) -> Books:
        """All that was paid is money or access, once; the kernel lets the guest through for as long as was paid."""
        found = check_books(self.daemon, self.mint, self.paid)
        sold = sum(part["allotment"] for part in found.parts("claimed", owner="house"))
        if sold:
            (session,) = found.tables["sessions"]
            assert session["allotment"] == session["ends_ms"] - session["started_ms"] == sold
            assert self.lab.guest.mac in self.daemon.paid_macs()
        return found


@pytest.fixture
def shop(lab, make_daemon):
    with FaultMint(lab.internet, MINT4) as mint:
        yield Shop(lab, mint, make_daemon(mint.url, venue={"step_size": STEP}))


def at_call(endpoint: str, moment: str, after: float = 0.0):
    def arm(shop: Shop) -> threading.Event:
        def kill() -> None:
            time.sleep(after)
            shop.crash()

        return shop.mint.when(endpoint, moment, kill)

    return arm


def at_commit(number: int, after: float = 0.0):
    def arm(shop: Shop) -> threading.Event:
        return commits(shop.daemon, number, shop.crash, after)

    return arm


@pytest.mark.parametrize("apply", [False, True], ids=["tokens", "access"])
def test_killed_around_any_call_of_a_sale_the_books_close(shop, apply):
    for amount, (endpoint, moment) in enumerate(CALLS, start=5):
        if endpoint == "quote":
            # While the invoice is made, or just after it was shown.
            dead = at_call(endpoint, moment)(shop)
            shop.sale(amount, apply, lambda _: dead)
        else:
            shop.sale(amount, apply, at_call(endpoint, moment))
        shop.check()


@pytest.mark.parametrize("apply", [False, True], ids=["tokens", "access"])
def test_killed_at_any_time_after_the_signatures_came_the_books_close(shop, apply):
    for amount, after in enumerate(AFTER_ANSWER, start=5):
        shop.sale(amount, apply, at_call("mint", "answered", after))
        shop.check()


@pytest.mark.parametrize("apply", [False, True], ids=["tokens", "access"])
def test_killed_while_a_commit_is_written_the_books_close(shop, apply):
    """A sale is three commits: the request, its invoice, its claim with the grant."""
    moments = [(1, 0.0), (2, 0.0), (3, 0.0), (3, 0.0005), (3, 0.001), (3, 0.002)]
    for amount, (number, after) in enumerate(moments, start=5):
        dead = at_commit(number, after)(shop)
        shop.sale(amount, apply, lambda _: dead)
        shop.check()


def test_killed_around_a_look_without_any_socket_the_books_close(shop):
    shop.mint.misbehave("refuse_socket")
    for amount, moment in enumerate(("arrived", "done", "answered"), start=5):
        shop.sale(amount, True, at_call("state", moment))
        shop.check()


def test_killed_again_and_again_during_the_recovery_of_a_lost_answer_the_books_close(shop):
    """Signed and lost; killed when it is sent again; killed when the restore arrives, is done, is answered."""
    made = shop.invoice(21, True)
    lost = shop.mint.when("mint", "done", shop.crash)
    shop.mint.pay(made["invoice"])
    shop.paid += 21
    assert lost.wait(60)
    for endpoint, moment in [
        ("mint", "arrived"),
        ("restore", "arrived"),
        ("restore", "done"),
        ("restore", "answered"),
    ]:
        killed = shop.mint.when(endpoint, moment, shop.crash)
        shop.revive()
        assert killed.wait(60), (endpoint, moment)
    shop.revive()
    shop.end(made["request_id"])
    shop.check()


def test_killed_while_new_outputs_are_made_for_a_rotated_keyset_the_books_close(shop):
    made = shop.invoice(21, False)
    shop.mint.rotate()
    moments = [("mint", "arrived"), ("keysets", "arrived"), ("keys", "answered"), ("mint", "done")]
    killed = shop.mint.when(*moments[0], shop.crash)
    shop.mint.pay(made["invoice"])
    shop.paid += 21
    assert killed.wait(60)
    for moment in moments[1:]:
        killed = shop.mint.when(*moment, shop.crash)
        shop.revive()
        assert killed.wait(60), moment
    shop.revive()
    shop.end(made["request_id"])
    shop.check()


def test_what_a_guest_was_told_survives_a_kill_at_that_moment(shop):
    with MintProxy(shop.lab.guest) as proxy:
        made = proxy.request(shop.mint.url, 5)
        shop.crash()
    shop.revive()
    with MintProxy(shop.lab.guest) as proxy:
        proxy.send({"type": "resume", "request_id": made["request_id"]})
        assert proxy.wait("invoice_ready")["invoice"] == made["invoice"]
        shop.mint.pay(made["invoice"])
        shop.paid += 5
        token = proxy.wait("tokens_ready")["tokens"]
        shop.crash()
    shop.revive()
    with MintProxy(shop.lab.guest) as proxy:
        assert proxy.wait("tokens_ready")["tokens"] == token, "delivered again by itself"
        proxy.send({"type": "ack", "request_id": made["request_id"]})
        proxy.send({"type": "ping"})
        proxy.wait("pong")
        wait_for(lambda: Books(shop.daemon).parts()[0]["acked"], 3)
        shop.crash()
    shop.revive()
    with MintProxy(shop.lab.guest) as proxy:
        access = proxy.request(shop.mint.url, 7, apply=True)
        shop.mint.pay(access["invoice"])
        shop.paid += 7
        before = proxy.wait("session_granted")
        shop.crash()
    shop.revive()
    after = shop.end(access["request_id"])
    assert after["allotment"] == before["allotment"] == 7 * STEP
    assert 0 <= before["remaining"] - after["remaining"] < 60_000
    shop.check()


def test_killed_at_random_during_many_sales_at_once_the_books_close(shop):
    """Three sales under way each time, of tokens and access, and a kill somewhere in them."""
    for round, delay in enumerate((0.0, 0.004, 0.009, 0.015)):
        made = [shop.invoice(10 * round + 5 + number, number != 1) for number in range(3)]
        timer = threading.Timer(delay, shop.crash)
        timer.start()
        for one in made:
            shop.mint.pay(one["invoice"])
        shop.paid += sum(10 * round + 5 + number for number in range(3))
        timer.join()
        shop.revive()
        for one in made:
            shop.end(one["request_id"])
        shop.check()
