"""The part of `make bench` about vouchers: a code from the form to the gate, beside few and ten thousand others;
and a batch that the takings stand behind.
"""

import statistics
import time

from .bench_ecash import WatchedMint
from .bench_table import Row, Stopwatch, both, cpu_seconds, p95, say, tried
from .daemon import Daemon, Mint
from .guest import ROUTER4
from .internet import MINT4
from .namespaces import Lab
from .office import Office, new_id, ticket
from .treasury import Treasury

FORM = f"http://{ROUTER4}:2121/voucher"
FEW, MANY, AT_ONCE = 10, 10_000, 500
REDEEMS = 60
BATCHES, SIZE = 5, 100


def vouchers() -> list[Row]:
    return tried(redeemed) + tried(backed)


def redeemed() -> list[Row]:
    """No mint is asked. The answer comes when the gate is open, which is in these numbers, too."""
    few, cost_of_few = beside(FEW)
    many, cost_of_many = beside(MANY)
    growth = cost_of_many / cost_of_few
    own = few[1]
    return [
        Row(f"a code shown -> gate open, p50 / p95 of {REDEEMS}", both(few[0])),
        Row("... without waits for a processor", both(own), "10 ms", p95(own) < 0.010),
        Row(f"... beside {MANY:,} others, p50 / p95", both(many[0])),
        Row("... without waits for a processor", both(many[1]), "10 ms", p95(many[1]) < 0.010),
        Row(f"its processor time beside {MANY:,} against {FEW}", f"{growth:.2f} x", "1.25 x", growth <= 1.25),
    ]


def beside(others: int) -> tuple[tuple[list[float], list[float]], float]:
    """In a lab of its own: an address that another device had a moment ago is looked at for a quarter of a second."""
    with Lab(guests=1) as lab, Daemon(lab, [], main={"log_level": "info"}) as daemon:
        for made in range(0, others, AT_ONCE):
            daemon.data("voucher", "create", str(min(AT_ONCE, others)), "--time", "1m")
            say(f"voucher {made} of {others}")
        return codes_shown(lab, daemon)


def codes_shown(lab: Lab, daemon: Daemon) -> tuple[tuple[list[float], list[float]], float]:
    """Seconds of each, in all and without waits; and the processor's of one, in the middle."""
    codes = [one["code"] for one in daemon.data("voucher", "create", str(REDEEMS + 2), "--time", "1m")["vouchers"]]
    whole, own, cost = [], [], []
    for number, code in enumerate(codes):
        lab.guest.become_stranger()
        lab.guest.get(f"http://{ROUTER4}:2121/")
        used = cpu_seconds(daemon)
        with Stopwatch(daemon) as watch:
            answer = lab.guest.post(FORM, {"code": code})
        if answer.status != 200:
            raise RuntimeError(answer.text)
        whole.append(watch.took)
        own.append(watch.own)
        cost.append(cpu_seconds(daemon) - used)
        say(f"code {number} of {REDEEMS}")
    # The first ones warm up.
    return (whole[2:], own[2:]), statistics.median(cost[2:])


def backed() -> list[Row]:
    times = []
    with Lab(guests=1) as lab, WatchedMint(lab.internet, MINT4) as mint:
        with Daemon(lab, [Mint(mint.url)], main={"log_level": "info"}) as daemon:
            Treasury(lab, mint, daemon, (BATCHES + 1) * SIZE * 4)
            office = Office(lab, daemon)
            for number in range(BATCHES + 1):
                tickets, before, began = [ticket(4) for _ in range(SIZE)], mint.busy, time.monotonic()
                answer = office.ask(
                    "POST", "/admin/batch-mint", {"venueId": "guest", "tickets": tickets}, new_id()
                )
                took = time.monotonic() - began - (mint.busy - before)
                if answer.status != 200 or answer.json()["summary"]["succeeded"] != SIZE:
                    raise RuntimeError(answer)
                times.append(took)
                say(f"batch {number} of {BATCHES}")
    times = times[1:]
    return [
        Row(
            f"a batch of {SIZE} from the takings, beside the mint's own time, p50 / p95 of {BATCHES}",
            both(times),
            "500 ms",
            p95(times) <= 0.5,
        )
    ]
