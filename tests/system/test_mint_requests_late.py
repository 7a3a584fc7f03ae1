"""Invoices that nobody has paid: how long a payment is looked for, and that they keep nobody else from buying, however
many there are.
"""

import re
import time

import pytest

from lab.books import Books, edit
from lab.daemon import Mint
from lab.fake_clock import FakeClock, needs_faketime
from lab.fault_mint import FaultMint
from lab.internet import MINT4
from lab.place import wait_for
from lab.portal_client import PORTAL, MintProxy, post_request, read_request

pytestmark = needs_faketime

BROWSER = {"Accept": "text/html"}
WATCHED = 1500
"""Invoices of strangers that are watched closely."""
STEP = 60_000
LIFE = 20
"""Seconds that a short invoice lives."""


@pytest.fixture
def clock(lab):
    return FakeClock(lab)


@pytest.fixture
def short_mint(lab):
    """Its invoices end soon, and only who asks it hears of a payment."""
    with FaultMint(lab.internet, MINT4, invoice_seconds=LIFE) as made:
        made.misbehave("refuse_socket")
        yield made


def asked(guest, mint) -> dict:
    answer = post_request(guest, mint.url, 5, apply=True)
    assert answer.status == 201, answer.text
    return answer.json()


def looks(mint) -> int:
    return mint.counts.get("state", 0)


def looks_of_ten(clock, mint, seconds: int, each=lambda: None) -> int:
    """How often the mint is asked while the clock goes on ten times by so much. An answer that comes after the next
    step of the clock costs a look, so on a busy machine a few are missing."""
    start, before = LIFE + 100, looks(mint)
    for number in range(10):
        each()
        seen = looks(mint)
        clock.later(start + seconds * number)
        deadline = time.monotonic() + 5
        while looks(mint) == seen and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
    return looks(mint) - before


def over(daemon, guest, request: dict, clock) -> None:
    """Until the invoice has ended, and the mint was asked about that."""
    clock.later(LIFE + 1)
    wait_for(
        lambda: read_request(guest, request["request_id"]).json().get("code") == "invoice_expired",
        10,
        "the invoice has ended",
        every=0.5,
    )


def test_after_its_end_an_invoice_is_looked_at_once_a_minute_without_a_page(
    lab, make_daemon, short_mint, stranger, clock
):
    daemon = make_daemon(short_mint.url, start=False, venue={"step_size": STEP})
    daemon.start(env=clock.env)
    request = asked(stranger, short_mint)
    over(daemon, stranger, request, clock)
    assert looks_of_ten(clock, short_mint, 61) >= 6
    short_mint.pay(request["invoice"])
    clock.later(LIFE + 100 + 61 * 12)
    wait_for(lambda: stranger.mac in daemon.paid_macs(), 5, "the late payment counts")


@pytest.mark.parametrize("how", ["page", "socket"])
def test_while_its_guest_looks_on_a_late_payment_is_looked_for_every_30_seconds(
    lab, make_daemon, short_mint, stranger, clock, how
):
    daemon = make_daemon(short_mint.url, start=False, venue={"step_size": STEP})
    daemon.start(env=clock.env)
    request = asked(stranger, short_mint)
    over(daemon, stranger, request, clock)

    def page():
        shown = stranger.get(f"{PORTAL}/?r={request['request_id']}", BROWSER).text
        assert 1 <= int(re.search(r'<main id="main"[^>]* data-poll="(\d+)"', shown)[1]) <= 30

    def socket():
        MintProxy(stranger).close()

    assert looks_of_ten(clock, short_mint, 31, {"page": page, "socket": socket}[how]) >= 7
    short_mint.pay(request["invoice"])
    clock.later(LIFE + 100 + 31 * 12)
    wait_for(lambda: stranger.mac in daemon.paid_macs(), 5, "the late payment counts")


CROWD = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
"""


def add_crowd(daemon, like: str, mint: str, count: int) -> None:
    """Unpaid requests of as many MACs, as if they had been made a moment after this one."""
    numbers = CROWD.format(count=count)
    edit(
        daemon,
        f"""{numbers} INSERT INTO requests (id, mac, venue, owner, created_ms)
            SELECT printf('%032x', n), printf('02:00:09:00:%02x:%02x', n / 256, n % 256), venue, owner, created_ms
            FROM requests, numbers WHERE id = '{like}'""",
        f"""{numbers} INSERT INTO parts (request, position, mint, amount, metric, allotment, lock_index, state,
                quote, invoice, expires_at, due_ms)
            SELECT printf('%032x', n), 0, '{mint}', amount, metric, allotment, 1000 + n, state, 'quote-' || n,
                invoice, expires_at, due_ms
            FROM parts, numbers WHERE request = '{like}'""",
        # The next part's number is one more than all keys for invoices that were ever taken.
        f"UPDATE counters SET next = next + {2 * count} WHERE keyset = 'lock'",
    )


def test_many_old_unpaid_invoices_keep_nobody_from_buying_and_are_still_looked_for(
    lab, make_daemon, fault_mint, stranger, other_stranger, clock
):
    """Three guests' invoices are older than those of a crowd, so they are left to the store. The guest of one comes
    back, one is paid and found by the daemon alone, and one is never paid."""
    fault_mint.misbehave("refuse_socket")
    with FaultMint(lab.internet, MINT4) as crowded:
        for fault, on in (("refuse_socket", None), ("rate_limited", "state")):
            crowded.misbehave(fault, on=on)
        mints = [Mint(fault_mint.url), Mint(crowded.url)]
        daemon = make_daemon(*mints, start=False, main={"invoice_grace": 7200}, venue={"step_size": STEP})
        unpaid = lambda: daemon.status()["data"]["guests"]["unpaid"]
        daemon.start(env=clock.env)
        never = asked(stranger, fault_mint)
        found, back = asked(stranger.become_stranger(), fault_mint), asked(other_stranger, fault_mint)
        daemon.stop()
        add_crowd(daemon, back["request_id"], crowded.url, WATCHED)
        clock.later(700)
        daemon.start(env=clock.env, limit=60)
        assert unpaid() == WATCHED

        fault_mint.pay(back["invoice"])
        state = lambda: read_request(other_stranger, back["request_id"]).json()["type"]
        wait_for(lambda: state() == "session_granted", 10, "who comes back is served at once", every=1)
        for amount in (5, 6):
            newcomer = other_stranger.become_stranger()
            newest = post_request(newcomer, fault_mint.url, amount, apply=True)
            assert newest.status == 201, newest.text
            assert unpaid() == WATCHED, "old ones leave their places"
        fault_mint.pay(newest.json()["invoice"])
        clock.later(761)
        wait_for(lambda: newcomer.mac in daemon.paid_macs(), 30, "the newest is watched")

        assert stranger.mac not in daemon.paid_macs()
        fault_mint.pay(found["invoice"])
        clock.later(822)
        wait_for(lambda: stranger.mac in daemon.paid_macs(), 90, "what lies in the store only is looked for")

        later = 3600 + 7200

        def is_over():
            nonlocal later
            later += 61
            clock.later(later)
            return Books(daemon).parts("expired", mint=fault_mint.url)

        (over,) = wait_for(is_over, 90, "and its grace ends", every=3)
        assert over["request"] == never["request_id"]
