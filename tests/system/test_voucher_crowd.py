"""A hotel's guests who all show their vouchers at the same moment, at a router whose flash is slow."""

import threading
import time

from lab import http_client
from lab.guest import ROUTER6
from lab.place import wait_for
from lab.slow_flash import SlowFlash
from lab.stations import MAC, Stations

GUESTS = 200
SYNC = 0.03
HANDLED = 6.0
"""All that is not the flash, on a machine that is busy with other tests."""


def test_two_hundred_guests_redeem_at_once_on_a_slow_flash(lab, make_daemon):
    flash = SlowFlash(lab, milliseconds=int(SYNC * 1000))
    daemon = make_daemon(main={"log_level": "info"}, start=False)
    daemon.start(env=flash.env)
    batches = [daemon.data("voucher", "create", "100", "--time", "1h")["vouchers"] for _ in range(GUESTS // 100)]
    codes = [one["code"] for batch in batches for one in batch]
    host = f"[{ROUTER6}]:2121"

    def all_show(many: Stations, codes: list[str]) -> tuple[list[int], float]:
        """Each its code, all at once; the statuses, and how long the slowest took."""
        answers: list[tuple[int, float]] = []
        at_once = threading.Barrier(GUESTS)

        def show(number: int, code: str) -> None:
            at_once.wait()
            # Not before: one that says nothing for long is closed.
            sock = many.connect(number)
            began = time.monotonic()
            answer = http_client.exchange(sock, "POST", "/voucher", host, {}, {"code": code})
            answers.append((answer.status, time.monotonic() - began))

        guests = [threading.Thread(target=show, args=asked) for asked in enumerate(codes)]
        for guest in guests:
            guest.start()
        for guest in guests:
            guest.join()
        return [status for status, _ in answers], max(took for _, took in answers)

    with Stations(lab.guests[1], GUESTS) as many:
        before = flash.count()
        statuses, slowest = all_show(many, codes)
        syncs = flash.count() - before
        print(f"{syncs} syncs; the slowest was answered after {slowest:.2f} s")
        assert statuses == [200] * GUESTS
        # One commit each would be six seconds of waiting alone: they share. Where a busy machine lets them come one by
        # one, each of them waits for few.
        assert 0 < syncs and slowest < syncs * SYNC + HANDLED, (syncs, slowest)
        assert syncs <= GUESTS // 4 or slowest < GUESTS // 4 * SYNC, (syncs, slowest)
        macs = {MAC.format(number >> 8, number & 255) for number in range(GUESTS)}
        wait_for(lambda: daemon.paid_macs() == macs, 10, "all are online")
        # The neighbour's code, and one's own again, are used ones.
        assert all_show(many, codes[1:] + codes[:1])[0] == [410] * GUESTS
    sessions = daemon.data("sessions")
    assert sorted((one["mac"], one["allotment_seconds"]) for one in sessions) == [(mac, 3600) for mac in sorted(macs)]
