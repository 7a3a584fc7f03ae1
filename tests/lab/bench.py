"""`make bench`: speed and memory of the daemon, beside a direct wallet on the same mint in the same run, as a table.
Fails when a row is over its budget. Usage: bench.py [PART ...]"""

import contextlib
import resource
import statistics
import sys
import time

from . import bench_ecash
from .bench_card import cards
from .bench_login import logins
from .bench_packets import forwarding
from .bench_sessions import sessions
from .bench_table import Row, over, p95, say, show, tried
from .bench_vouchers import vouchers
from .curve import PrivateKey
from .daemon import Daemon, Mint, binary
from .internet import MINT4
from .namespaces import Lab
from .nutshell import Nutshell
from .place import wait_for
from .portal_client import MINT_PROXY, MintProxy
from .wallet import Wallet
from .websocket import WebSocket

PAYMENTS = 40
SOCKETS = 1000
AMOUNT = 100


def main() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    parts = {
        "proxy": proxy,
        "sessions": sessions,
        "packets": forwarding,
        "cards": cards,
        "logins": logins,
        "access": bench_ecash.access,
        "many": bench_ecash.many,
        "crowd": bench_ecash.crowd,
        "usage": bench_ecash.usage,
        "wallets": bench_ecash.wallets,
        "vouchers": vouchers,
    }
    asked = sys.argv[1:] or list(parts)
    if unknown := [name for name in asked if name not in parts]:
        print(f"no such part: {' '.join(unknown)}; there are {' '.join(parts)}", file=sys.stderr)
        return 2
    print(f"{binary()}\n")
    show([Row("what", "measured", "budget")])
    rows: list[Row] = []
    for name in asked:
        made = parts[name]()
        say("")
        show(made)
        rows += made
    if over(rows):
        print(f"\nOVER BUDGET: {'; '.join(row.what for row in rows if row.kept is False)}", file=sys.stderr)
    return 1 if over(rows) else 0


def proxy() -> list[Row]:
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(guests=1))
        mint = stack.enter_context(Nutshell(lab.internet, MINT4, dir=lab.path("mint")))
        limits = {"guest_sockets": 1024, "guest_connections": 2 * SOCKETS, "log_level": "info"}
        daemon = stack.enter_context(Daemon(lab, [Mint(mint.url)], main=limits))
        rows = idle_memory(daemon)
        rows += tried(lambda: payments(lab, mint))
        return rows + sockets(lab, daemon)


def idle_memory(daemon: Daemon) -> list[Row]:
    """Its budget is for the router's build: `make memory`."""
    wait_for(lambda: daemon.status(), 5)
    time.sleep(2)
    memory = daemon.process.memory_kib()
    return [
        Row(
            "resident memory, idle (all / its own, without files and libraries)",
            f"{memory['VmRSS'] / 1024:.1f} / {memory['RssAnon'] / 1024:.1f} MiB",
        )
    ]


def payments(lab: Lab, mint: Nutshell) -> list[Row]:
    """From the payment to the money: through the daemon, and by a wallet that listens and claims by itself; taken in
    turns.
    """
    through, direct, claims = [], [], []
    wallet = Wallet(lab.router, mint.url)
    for number in range(PAYMENTS):
        if number % 8 == 0:  # a guest may make 10 requests a minute
            lab.guest.become_stranger()
        with MintProxy(lab.guest) as proxy:
            offer = proxy.request(mint.url, AMOUNT + number)
            time.sleep(0.3)  # as in life, the payer takes a moment: the subscription stands
            started = time.monotonic()
            mint.pay(offer["invoice"])
            tokens = proxy.wait("tokens_ready", 30)
            through.append(time.monotonic() - started)
            proxy.send({"type": "ack", "request_id": tokens["request_id"]})
        took, claim = by_hand(lab, mint, wallet, AMOUNT + number)
        direct.append(took)
        claims.append(claim)
        say(f"payment {number + 1} of {PAYMENTS}")
    own = p95(through) - p95(claims)
    rows = [
        Row(
            f"PAID -> {name}, p50 / p95 of {PAYMENTS}",
            f"{1000 * statistics.median(times):.0f} / {1000 * p95(times):.0f} ms",
        )
        for name, times in (
            ("tokens_ready through the daemon", through),
            ("tokens in a direct wallet", direct),
            ("the mint's own claim time", claims),
        )
    ]
    return [*rows, Row("the daemon's share, p95", f"{1000 * own:.0f} ms", "250 ms", own <= 0.25)]


def by_hand(lab: Lab, mint: Nutshell, wallet: Wallet, amount: int) -> tuple[float, float]:
    key = PrivateKey()
    quote = wallet.quote(amount, key)
    socket = WebSocket.connect(lab.router.connect(mint.host, mint.port), "/v1/ws", "mint")
    parameters = {"kind": "bolt11_mint_quote", "subId": "bench", "filters": [quote["quote"]]}
    socket.send({"jsonrpc": "2.0", "id": 0, "method": "subscribe", "params": parameters})
    time.sleep(0.3)
    started = time.monotonic()
    mint.pay(quote["request"])
    while socket.receive_json(10).get("params", {}).get("payload", {}).get("state") != "PAID":
        pass
    heard = time.monotonic()
    wallet.mint(quote, key)
    done = time.monotonic()
    socket.close()
    return done - started, done - heard


def sockets(lab: Lab, daemon: Daemon) -> list[Row]:
    before = daemon.process.memory_kib()["VmRSS"]
    with contextlib.ExitStack() as stack:
        for _ in range(SOCKETS):
            stack.callback(lab.guest.websocket(MINT_PROXY).close)
        time.sleep(1)
        each = (daemon.process.memory_kib()["VmRSS"] - before) / SOCKETS
    return [Row(f"memory of an idle mint-proxy socket ({SOCKETS} open)", f"{each:.2f} KiB", "8 KiB", each <= 8)]


if __name__ == "__main__":
    sys.exit(main())
