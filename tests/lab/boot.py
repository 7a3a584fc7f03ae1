"""`make boot TARGET=mipsel`: the cross-built binary as a router, on an emulated processor with a real kernel of its
own.

A guest and the internet of a lab, with a real mint, on either side of it. What emulating a single program cannot show
is shown here: neighbours by netlink, nftables and routing rules of that kernel, ARP on the wire, and a paid session
from its invoice to its end, with the daemon alive and dead.
"""

import contextlib
import json
import os
import sys
import time

from . import firewall, machine
from .daemon import section
from .guest import ROUTER6
from .internet import HOST4, HOST6, MINT4
from .machine import MODELS, Machine
from .namespaces import BRIDGE, Lab
from .nutshell import Nutshell
from .place import wait_for
from .portal_client import PORTAL, MintProxy
from .run import Tour, TourFailed

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STEP_SECONDS = 10
PATIENCE = 60.0
"""Emulated, on a machine that is busy with other things."""
PROC_LOG = "/tmp/tollgated.log"


def main() -> int:
    target = sys.argv[1]
    if target not in MODELS:
        raise SystemExit(f"no kernel is known for {target}. There are: {' '.join(MODELS)}")
    model = MODELS[target]
    print(f"{target}, emulated by {' '.join(model.qemu)}")
    tour = Tour()
    try:
        with contextlib.ExitStack() as stack:
            lab = stack.enter_context(Lab(guests=1))
            machine.make_room(lab)
            mint = stack.enter_context(Nutshell(lab.internet, MINT4, dir=lab.path("mint")))
            tour.say("network", f"guest and internet, with a mint at {mint.url}")
            router = stack.enter_context(Machine(lab, model, files(target, mint.url)))
            tour.say("kernel", router.run("uname -srm").out.strip())
            try:
                life_of_a_shop(tour, lab, router, mint)
            except BaseException:
                print(f"--- the daemon's log\n{router.run(f'tail -c 4000 {PROC_LOG}', check=False).out}")
                raise
    except (TourFailed, OSError, RuntimeError, AssertionError, ValueError) as error:
        print(f"  failed: {error}")
        return 1
    print(f"  all seen in {time.monotonic() - tour.began:.0f} s")
    return 0


def files(target: str, mint_url: str) -> dict[str, tuple[int, bytes]]:
    """What is on the router besides the system: the daemon, its configuration, and a firewall that lets everything
    through.
    """
    config = (
        section("tollgate", "main", {"log_target": "stderr", "log_level": "debug"})
        + section("venue", "guest", {"name": "Kibanda Wi-Fi", "device": [BRIDGE], "step_size": STEP_SECONDS * 1000})
        + section("mint", "", {"url": mint_url, "price_per_step": 1, "allow_http": 1})
    )
    with open(os.path.join(ROOT, "target", "openwrt", target, "tollgated"), "rb") as file:
        binary = file.read()
    return {
        "usr/sbin/tollgated": (0o755, binary),
        "etc/config/tollgate": (0o600, config.encode()),
        "etc/nat-only.nft": (0o644, firewall.NAT_ONLY.encode()),
    }


def life_of_a_shop(tour: Tour, lab: Lab, router: Machine, mint: Nutshell) -> None:
    start(lab, router)
    tour.say(
        "daemon", router.run("tollgated --version; grep VmRSS /proc/$(pidof tollgated)/status").out.replace("\n", " ")
    )
    neighbours(tour, lab, router)
    blocked(tour, lab)
    locks(tour, lab, router)
    second_lock_alone(tour, lab, router)
    ends_at = sale(tour, lab, router, mint, steps=4)
    crash(tour, lab, router)
    time_over(tour, lab, ends_at)
    time_over_without_the_daemon(tour, lab, router, mint)


def start(lab: Lab, router: Machine) -> None:
    router.run(f"setsid tollgated run >>{PROC_LOG} 2>&1 &")
    wait_for(lambda: not ask(router, "status")["gate"]["trouble"], PATIENCE, "the gate stands", every=0.3)
    wait_for(lambda: lab.guest.get(f"{PORTAL}/health").status == 200, PATIENCE, "the portal answers", every=0.3)


def ask(router: Machine, *command: str):
    """What the running daemon answers to a command."""
    said = router.run(f"tollgated {' '.join(command)} --json 2>&1", check=False)
    if said.code != 0:
        raise OSError(said.out)
    return json.loads(said.out)["data"]


def neighbours(tour: Tour, lab: Lab, router: Machine) -> None:
    """The kernel's table of neighbours by netlink: nothing else knows who an IPv6 address is."""
    for portal in (PORTAL, f"http://[{ROUTER6}]:2121"):
        page = lab.guest.get(f"{portal}/", headers={"Accept": "text/html"}, timeout=PATIENCE)
        tour.check(page.status == 200 and "Kibanda Wi-Fi" in page.text, f"{portal}: {page.status} {page.text[:300]}")
    known = {address: client["mac"] for client in ask(router, "clients") for address in client["addresses"]}
    guest = lab.guest
    tour.check(known.get(guest.ip) == known.get(guest.ip6) == guest.mac, f"clients: {known}")
    tour.say("neighbours", f"{guest.ip} and {guest.ip6} are {guest.mac}")


def blocked(tour: Tour, lab: Lab) -> None:
    probe = lab.guest.get(f"http://{HOST4}/generate_204", timeout=PATIENCE)
    target = probe.headers.get("location", "")
    tour.check(probe.status == 302 and target.startswith(PORTAL), f"a web page before paying: {probe.status} {target}")
    refused = lab.guest.try_tcp(HOST4, 443), lab.guest.try_tcp(HOST6, 443)
    tour.check(all(one.outcome == "refused" for one in refused), f"HTTPS of an unpaid guest: {refused}")
    tour.check(not lab.guest.ping(HOST4, 2) and not lab.guest.ping(HOST6, 2), "a ping of an unpaid guest is answered")
    tour.check(lab.leaked_packets() == 0, "packets of an unpaid guest got out")
    tour.say("blocked", f"HTTPS refused (v4, v6); web goes to {target}"[:64])


def locks(tour: Tour, lab: Lab, router: Machine) -> None:
    table = router.run("nft list table inet tollgate").out
    tour.check("set paid" in table and "chain tg_forward" in table, f"the gate's table: {table}")
    for ip in ("ip", "ip -6"):
        rules = router.run(f"{ip} rule").out
        tour.check(
            any(line.startswith("90:") and BRIDGE in line for line in rules.splitlines()), f"{ip} rule: {rules}"
        )
    found = json.loads(router.run("tollgated check --system --json", check=False).out)["data"]["findings"]
    # There is no uci and no fw4 here; `setup` and its tests are about those.
    wrong = [one for one in found if one["level"] != "not looked at"]
    tour.check(not wrong, f"check --system: {wrong}")
    tour.say("locks", "nft table; routing rules, v4 and v6; check --system is content")


def second_lock_alone(tour: Tour, lab: Lab, router: Machine) -> None:
    router.run("kill -STOP $(pidof tollgated); nft flush ruleset; nft -f /etc/nat-only.nft")
    tour.check(not lab.guest.online() and not lab.guest.online(six=True), "without any table an unpaid guest passes")
    tour.check(lab.leaked_packets() == 0, "packets of an unpaid guest got out")
    router.run("nft -f /etc/firewall.nft; kill -CONT $(pidof tollgated)")
    wait_for(
        lambda: "tg_forward" in router.run("nft list table inet tollgate", check=False).out,
        10,
        "the table is back",
        every=0.3,
    )
    tour.say("second lock", "the daemon hung, all tables flushed: still blocked; then put back")


def sale(tour: Tour, lab: Lab, router: Machine, mint: Nutshell, steps: int) -> float:
    """Answers when the session must end, by this machine's clock."""
    called_before = len(router.guest_wire.arp_requests)
    with MintProxy(lab.guest, timeout=PATIENCE) as proxy:
        offer = proxy.request(mint.url, steps, apply=True, timeout=PATIENCE)
        called = router.guest_wire.arp_requests[called_before:]
        tour.check(lab.guest.ip in called, f"nobody called for the buyer's address by ARP: {called}")
        tour.say("ARP", f"who has {lab.guest.ip}? asked aloud when the sale starts")
        mint.pay(offer["invoice"])
        proxy.wait("session_granted", PATIENCE)
        ends_at = time.monotonic() + steps * STEP_SECONDS
        tour.say("sale", f"{steps} sat for {steps * STEP_SECONDS} s, claimed from the mint")
    wait_for(lab.guest.online, 5, "the paid guest is online")
    tour.check(lab.guest.online(six=True), "IPv6 is not open")
    macs = [session["mac"] for session in ask(router, "sessions")]
    tour.check(macs == [lab.guest.mac], f"sessions: {macs}")
    tour.say("online", "bytes from the internet server arrive, v4 and v6")
    return ends_at


def crash(tour: Tour, lab: Lab, router: Machine) -> None:
    router.run("kill -9 $(pidof tollgated)")
    tour.check(lab.guest.online() and lab.guest.online(six=True), "the paid guest is offline once the daemon is dead")
    start(lab, router)
    macs = [session["mac"] for session in ask(router, "sessions")]
    tour.check(macs == [lab.guest.mac], f"sessions after a crash: {macs}")
    tour.check(lab.guest.online(), "the paid guest is offline once the daemon is back")
    tour.say("kill -9", "online meanwhile; the session is known again after the start")


def time_over(tour: Tour, lab: Lab, ends_at: float) -> None:
    late = download_ends(tour, lab, ends_at)
    tour.say("time over", f"a running download stopped {late:+.1f} s after the session's time")


def time_over_without_the_daemon(tour: Tour, lab: Lab, router: Machine, mint: Nutshell) -> None:
    ends_at = sale(tour, lab, router, mint, steps=2)
    router.run("kill -9 $(pidof tollgated)")
    late = download_ends(tour, lab, ends_at)
    tour.say("kernel alone", f"the daemon dead, a download stopped {late:+.1f} s after the time")


def download_ends(tour: Tour, lab: Lab, ends_at: float) -> float:
    """How much later than that a running download stopped for good, and nothing passed any more."""
    last = time.monotonic()
    tour.check(last < ends_at - 2, "too slow here to see the session's end")
    with contextlib.closing(lab.guest.connect(HOST4, 80)) as download:
        download.sendall(b"GET /drip/120 HTTP/1.1\r\nHost: internet\r\n\r\n")
        download.settimeout(3)
        with contextlib.suppress(OSError):
            while download.recv(65536):
                last = time.monotonic()
    tour.check(abs(last - ends_at) < 4, f"the session ended {last - ends_at:+.1f} s after its time")
    nothing_passes(tour, lab)
    return last - ends_at


def nothing_passes(tour: Tour, lab: Lab) -> None:
    refused = lab.guest.try_tcp(HOST4, 443), lab.guest.try_tcp(HOST6, 443)
    tour.check(all(one.outcome == "refused" for one in refused), f"HTTPS after the end: {refused}")
    before = lab.leaked_packets()
    tour.check(not lab.guest.ping(HOST4, 2) and not lab.guest.ping(HOST6, 2), "a ping is answered after the end")
    tour.check(lab.leaked_packets() == before, "packets got out after the end")


if __name__ == "__main__":
    sys.exit(main())
