"""`make run`: a router, a guest, the internet and a real mint on this machine, a guest's way shown step by step, and
then the portal kept open for whoever wants to click through it. `--once` ends after the tour, with 0 if all of it was
seen."""

import contextlib
import os
import select
import signal
import sys
import time

from .daemon import Daemon, Mint
from .forwarder import Forwarder
from .guest import ROUTER4, Guest
from .internet import HOST4, HOST6, MINT4
from .namespaces import Lab
from .nutshell import Nutshell
from .place import in_time, wait_for
from .portal_client import PORTAL, MintProxy

STEP_SECONDS = 10
"""What one sat buys in the tour; afterwards it is a minute."""


class Tour:
    """Prints what happened and how long it took; the first thing that is not as it should be ends it."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()

    def say(self, step: str, text: str = "") -> None:
        now = time.monotonic()
        took, self.last = now - self.last, now
        print(f"  {step:<12} {text:<64} {took:6.2f} s", flush=True)

    def check(self, condition: bool, problem: str) -> None:
        if not condition:
            raise TourFailed(problem)


class TourFailed(Exception):
    pass


def main() -> int:
    once = "--once" in sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started us in the background
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with own_terminal(), contextlib.ExitStack() as stack:
            return demonstrate(stack, once)
    except KeyboardInterrupt:
        print("\nEverything is taken down.")
        return 0


@contextlib.contextmanager
def own_terminal():
    """Takes the terminal's keys from `make`, which would end with an error where Ctrl-C ends us well."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        yield
        return
    before = os.getpgrp()
    takes = before != os.getpid() and os.tcgetpgrp(terminal) == before
    if takes:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        if takes:
            os.tcsetpgrp(terminal, before)
        os.close(terminal)


def demonstrate(stack: contextlib.ExitStack, once: bool) -> int:
    tour = Tour()
    print("Starting")
    lab = stack.enter_context(Lab(guests=1))
    lab.start_dnsmasq()
    tour.say("network", "router, one guest and the internet, in namespaces")
    mint = stack.enter_context(Nutshell(lab.internet, MINT4, dir=lab.path("mint")))
    tour.say("mint", f"nutshell at {mint.url}, Lightning played by a fake wallet")
    daemon = Daemon(lab, [Mint(mint.url)], venue={"step_size": STEP_SECONDS * 1000})
    try:
        stack.enter_context(daemon)
        tour.say("daemon", f"tollgated on the router, {daemon.process.memory_kib()['VmRSS'] / 1024:.1f} MiB resident")
        print("A guest's way")
        guests_way(tour, lab, mint, daemon)
    except (TourFailed, OSError, RuntimeError, AssertionError) as error:
        print(f"  failed: {error}\n--- the daemon's log", daemon.log()[-3000:], sep="\n")
        return 1
    print(f"  all seen in {time.monotonic() - tour.began:.0f} s")
    if not once:
        stay(stack, lab, mint, daemon)
    return 0


def guests_way(tour: Tour, lab: Lab, mint: Nutshell, daemon: Daemon) -> None:
    guest = lab.guest
    in_time(1, lambda: max(refused(tour, guest, host, "HTTPS of an unpaid guest") for host in (HOST4, HOST6)))
    probe = guest.get("http://captive.example/generate_204")
    target = probe.headers.get("location", "")
    tour.check(probe.status == 302 and target.startswith(PORTAL), f"a web page before paying: {probe.status} {target}")
    tour.check(lab.leaked_packets() == 0, "packets of an unpaid guest got out")
    tour.say("blocked", f"HTTPS refused (v4, v6); web goes to {target}"[:64])

    page = guest.get(target, headers={"Accept": "text/html"})
    tour.check(page.status == 200 and "<html" in page.text.lower(), f"the portal: {page.status} {page.text[:200]}")
    tour.say("portal", f"{len(page.body):,} bytes of HTML")

    with MintProxy(guest) as proxy:
        offer = proxy.request(mint.url, 1, apply=True)
        tour.say("invoice", f"1 sat for {STEP_SECONDS} s: {offer['invoice'][:30]}...")
        paying_at = time.monotonic()
        mint.pay(offer["invoice"])
        granted = proxy.wait("session_granted")
        paid_at = time.monotonic()
        tour.say("paid", f"claimed from the mint; {granted['allotment']:,} {granted['metric']}")

    wait_for(guest.online, 2, "the guest is online")
    tour.check(guest.online(six=True), "IPv6 is not open")
    tour.say("online", f"bytes from the internet server arrive ({lab.servers.requests} requests, v4 and v6)")

    # A busy machine may look late, so what counts is when the last look began that found it open, and when the first
    # one ended that did not.
    looked_at = paid_at
    while guest.try_tcp(HOST4, 443).outcome == "connected":
        tour.check(looked_at - paid_at < STEP_SECONDS + 2, f"the session lasts longer than {STEP_SECONDS} s")
        time.sleep(0.1)
        looked_at = time.monotonic()
    lasted = time.monotonic() - paid_at
    tour.check(
        time.monotonic() - paying_at > STEP_SECONDS - 2, f"the session lasted {lasted:.1f} s, not {STEP_SECONDS}"
    )
    tour.say("time over", f"{lasted:.1f} s after the payment")
    refused(tour, guest, HOST4, "HTTPS after the end")
    tour.say("blocked", "HTTPS refused again")


def refused(tour: Tour, guest: Guest, host: str, what: str) -> float:
    """How many seconds that took."""
    attempt = guest.try_tcp(host, 443)
    tour.check(attempt.outcome == "refused", f"{what}: {attempt}")
    return attempt.seconds


def stay(stack: contextlib.ExitStack, lab: Lab, mint: Nutshell, daemon: Daemon) -> None:
    daemon.venue["step_size"] = 60_000
    daemon.write_config()
    if daemon.command("reload", check=False).code != 0:
        daemon.restart()
    forwarder = stack.enter_context(Forwarder(lab.guest))
    by_hand = sys.stdin.isatty()
    invitation = "Press Enter here to pay the invoice that it shows."
    if not by_hand:
        invitation = "Invoices are paid by themselves after 5 s."
    print(f"""
The portal, as the guest sees it:   {forwarder.url}
A sat buys a minute now. {invitation}
The operator's side:                {os.environ.get("TOLLGATED_BIN", "tollgated")} status -c {daemon.config}
Ctrl-C ends everything.""", flush=True)
    online = False
    next_payment = time.monotonic() + 5
    while True:
        if by_hand and select.select([sys.stdin], [], [], 1)[0]:
            if not sys.stdin.readline():
                by_hand = False
            paid = mint.pay_all()
            print(f"  {paid} invoice(s) paid" if paid else "  no invoice is open", flush=True)
        elif not by_hand:
            time.sleep(1)
            if time.monotonic() > next_payment:
                next_payment = time.monotonic() + 5
                if paid := mint.pay_all():
                    print(f"  {paid} invoice(s) paid", flush=True)
        if not daemon.running:
            print("  the daemon has ended:\n" + daemon.log()[-2000:])
            return
        if online != lab.guest.online(timeout=0.5):
            online = not online
            print("  the guest is online" if online else "  the guest is blocked", flush=True)


if __name__ == "__main__":
    sys.exit(main())
