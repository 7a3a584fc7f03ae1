"""`make smoke TARGET=...`: the binary for a router's processor does its work here, on an emulated one, step by step.

It must answer, check a file, pass its own unit tests (the Cashu vectors among them), open its store, and then serve:
the portal, a WebSocket, HTTPS to a mint and a whole sale, over a veth. Where the processor is this machine's own
nothing is emulated, and the guest also gets online.

The emulator passes on no neighbour dumps and nothing of nftables: callers are known by /proc/net/arp there, the gate
is reported to be down, and tokens are sold without being spent into a session. `make boot` has a kernel of its own.
"""

import contextlib
import json
import os
import platform
import re
import sys
import time

from .daemon import Daemon, Mint
from .internet import MINT4
from .namespaces import Lab
from .nutshell import Nutshell
from .place import HOST, wait_for
from .portal_client import PORTAL, MintProxy
from .run import Tour, TourFailed
from .tls_proxy import TlsProxy
from .wallet import Wallet

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 60.0
"""Emulated, on a machine that is busy with other things."""
NOT_EMULATED = ["network::", "http::origin::"]
"""Unit tests of netlink, and of those who ask it for addresses: the emulator refuses."""


def main() -> int:
    target = sys.argv[1]
    emulator = emulator_of(target)
    built = os.path.join(ROOT, "target", "openwrt", target)
    print(f"{target}, {'emulated by ' + emulator if emulator else 'natively'}")
    tour = Tour()
    try:
        with contextlib.ExitStack() as stack:
            commands(tour, [emulator] * bool(emulator) + [os.path.join(built, "tollgated")])
            lab = stack.enter_context(Lab(guests=1))
            unit_tests(tour, emulator, os.path.join(built, "unit-tests"), lab.path("unit-tests"))
            serve(
                tour,
                stack,
                lab,
                [emulator] * bool(emulator) + [os.path.join(built, "tollgated")],
                emulated=bool(emulator),
            )
    except (TourFailed, OSError, RuntimeError, AssertionError) as error:
        print(f"  failed: {error}")
        return 1
    print(f"  all seen in {time.monotonic() - tour.began:.0f} s")
    return 0


def emulator_of(target: str) -> str | None:
    """The fourth column of cross/targets; None for this machine's own processor."""
    with open(os.path.join(ROOT, "cross", "targets")) as file:
        rows = {line.split()[0]: line.split() for line in file if not line.startswith("#")}
    if target not in rows:
        raise SystemExit(f"no such target: {target}. There are: {' '.join(rows)}")
    return None if rows[target][1].split("-")[0] == platform.machine() else rows[target][3]


def commands(tour: Tour, program: list[str]) -> None:
    with open(os.path.join(ROOT, "Cargo.toml")) as file:
        version = re.search(r'^version = "(.*)"', file.read(), re.M).group(1)
    said = HOST.run([*program, "--version"], timeout=PATIENCE).out
    tour.check(version in said, f"--version said {said!r}")
    tour.say("--version", said.strip())


def unit_tests(tour: Tour, emulator: str | None, binary: str, wrapper: str) -> None:
    """All in one process: one of several threads that forks, as it would for each test, may hang in the emulator (the
    child waits for a lock that another thread had). So a test that fails ends all: it is one of those that have no
    line yet. Some tests start themselves again, under the name that they were started by."""
    if emulator:
        with open(wrapper, "w", opener=lambda path, flags: os.open(path, flags, 0o755)) as file:
            file.write(f'#!/bin/sh\nexec {emulator} -0 "$0" "{binary}" "$@"\n')
        binary = wrapper
    skipped = [word for name in NOT_EMULATED for word in ("--skip", name)] if emulator else []
    one_process = ["-Z", "unstable-options", "--force-run-in-process"]
    done = HOST.run(
        [binary, "--test-threads=2", *one_process, *skipped],
        check=False,
        timeout=900,
        env={**os.environ, "RUSTC_BOOTSTRAP": "1"},
    )
    result = re.search(r"test result: (\w+)\. (\d+) passed; (\d+) failed", done.out)
    tour.check(done.code == 0 and result is not None, f"unit tests\n{done.out[-6000:]}")
    vectors = len(re.findall(r"^test ecash::.* ok$", done.out, re.M))
    tour.check(vectors > 0, "no test of the ecash room was run")
    tour.say("unit tests", f"{result.group(2)} passed, {vectors} of them the ecash room's")


def serve(tour: Tour, stack: contextlib.ExitStack, lab: Lab, program: list[str], emulated: bool) -> None:
    mint = stack.enter_context(Nutshell(lab.internet, MINT4, dir=lab.path("mint")))
    tls = stack.enter_context(TlsProxy(lab.internet, MINT4, upstream_port=mint.port, dir=lab.path("tls")))
    daemon = Daemon(lab, [Mint(tls.url, allow_http=False)], main={"ca_file": tls.ca_file}, program=program)
    try:
        checked = daemon.command("check", check=False, timeout=PATIENCE)
        tour.check(checked.code == 0, f"check: {checked.out}")
        tour.say("check", checked.out.strip().rsplit(": ", 1)[-1][:64])
        stack.callback(daemon.stop)
        daemon.start(ready=False)
        wait_for(lambda: lab.guest.get(f"{PORTAL}/health").status == 200, PATIENCE, "the portal answers")
        tour.say(
            "starts",
            (
                f"{daemon.process.memory_kib()['VmRSS'] / 1024:.1f} MiB "
                f"resident{' with its emulator' if emulated else ''}"
            ),
        )
        portal(tour, lab)
        token = sale(tour, lab, mint, tls, daemon)
        spend(tour, lab, mint, token)
        store(tour, lab, daemon)
        if not emulated:
            online(tour, lab, mint, tls, daemon)
    except BaseException:
        print(f"--- the daemon's log\n{daemon.log()[-4000:]}")
        raise


def portal(tour: Tour, lab: Lab) -> None:
    page = lab.guest.get(f"{PORTAL}/", headers={"Accept": "text/html"}, timeout=PATIENCE)
    tour.check(page.status == 200 and "Kibanda Wi-Fi" in page.text, f"portal: {page.status} {page.text[:300]}")
    tour.say("portal", f"{len(page.body):,} bytes of page, the guest known by its MAC")
    with MintProxy(lab.guest, timeout=PATIENCE) as proxy:
        proxy.send("no JSON")
        said = proxy.receive(PATIENCE)
        tour.check(said["type"] == "error", f"WebSocket: {said}")
    tour.say("WebSocket", f"opened; nonsense is answered by {said['code']}")


def sale(tour: Tour, lab: Lab, mint: Nutshell, tls: TlsProxy, daemon: Daemon) -> str:
    with MintProxy(lab.guest, timeout=PATIENCE) as proxy:
        offer = proxy.request(tls.url, 21, timeout=PATIENCE)
        agreed = ", ".join(f"{count} handshakes of {version}" for version, count in tls.versions.items())
        tour.check(bool(tls.versions), "no TLS handshake was seen")
        tour.say("HTTPS", f"{agreed}; an invoice of {len(offer['invoice'])} characters")
        mint.pay(offer["invoice"])
        tokens = proxy.wait("tokens_ready", PATIENCE)
        proxy.send({"type": "ack", "request_id": tokens["request_id"]})
    tour.say("sale", "invoice paid, tokens delivered")
    return tokens["tokens"]


def spend(tour: Tour, lab: Lab, mint: Nutshell, token: str) -> None:
    """The tokens are money: a wallet swaps them at the mint."""
    got = Wallet(lab.internet, mint.url).receive(token)
    tour.check(got == 21, f"the tokens are worth {got}")
    tour.say("tokens", f"{got} sat, taken in by a wallet of its own")


def store(tour: Tour, lab: Lab, daemon: Daemon) -> None:
    daemon.kill()
    daemon.start(ready=False)
    wait_for(lambda: lab.guest.get(f"{PORTAL}/health").status == 200, PATIENCE, "the portal answers again")
    status = json.loads(daemon.command("status", "--json", timeout=PATIENCE).out)
    tour.check("STORE" not in json.dumps(status.get("store", "")), f"store: {status}")
    tour.say("store", "opened again after kill -9")


def online(tour: Tour, lab: Lab, mint: Nutshell, tls: TlsProxy, daemon: Daemon) -> None:
    # The portal answers before the gate stands, and nothing is sold without it.
    wait_for(lambda: not daemon.status()["data"]["not_ready"], PATIENCE, "the daemon sells again")
    tour.check(not lab.guest.online(), "a guest who has not paid passes")
    with MintProxy(lab.guest) as proxy:
        offer = proxy.request(tls.url, 10, apply=True)
        mint.pay(offer["invoice"])
        proxy.wait("session_granted", PATIENCE)
    wait_for(lab.guest.online, 10, "the paid guest is online")
    tour.say("online", "paid with apply; blocked before, through now")


if __name__ == "__main__":
    sys.exit(main())
