"""Two venues of one router: each sells for itself, and only the ticket carries value from one to the other."""

import random
import threading
import time

import pytest

from lab import hall as other
from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.guest import Guest
from lab.hall import DEVICE, Hall
from lab.internet import MINT4
from lab.namespaces import BRIDGE
from lab.place import PATIENCE, wait_for
from lab.portal_client import PORTAL, MintProxy
from lab.tickets import show

MINUTE, MIB = 60_000, 1_048_576
HERE_PRICE, HALL_PRICE = 2, 3
"""Sats for a minute in the first venue, and for a MiB in the hall."""


@pytest.fixture
def hall(lab):
    with Hall(lab) as made:
        yield made


@pytest.fixture
def mints(lab):
    with FaultMint(lab.internet, MINT4) as here, FaultMint(lab.internet, MINT4) as there:
        yield here, there


@pytest.fixture
def daemon(lab, hall, mints, make_daemon):
    here, there = mints
    made = make_daemon(
        Mint(here.url, price=HERE_PRICE, options={"venue": ["guest"]}),
        Mint(there.url, price=HALL_PRICE, options={"venue": ["hall"]}),
        venue={"step_size": MINUTE, "max_steps": 100},
        start=False,
        sections={
            "venue hall": {
                "name": "Hall",
                "device": [DEVICE],
                "metric": "bytes",
                "step_size": MIB,
                "max_steps": 100,
                "trusted_mac": [],
            }
        },
    )
    return made.start()


def buy(mint: FaultMint, guest: Guest, sats: int, url: str | None = None) -> dict:
    with MintProxy(guest, *([url] if url else [])) as proxy:
        mint.pay(proxy.request(mint.url, sats, apply=True)["invoice"])
        return proxy.wait("session_granted")


def show_there(guest: Guest, ticket: str):
    return guest.post(f"{other.PORTAL}/ticket", {"ticket": ticket}, timeout=PATIENCE)


def sessions(daemon, mac: str) -> dict[str, dict]:
    """What runs for a MAC, by venue."""
    return {one["venue"]: one for one in daemon.ask("sessions")["data"] if one["mac"] == mac}


def test_what_is_sold_at_one_venue_is_nothing_at_the_other(daemon, hall, mints, stranger):
    granted = buy(mints[0], stranger, 10 * HERE_PRICE)
    assert stranger.online()
    hall.enter(stranger)
    assert stranger.get(f"{other.PORTAL}/whoami").text == f"mac={stranger.mac}"
    assert stranger.get(f"{other.PORTAL}/usage").text == "-1/-1"
    state = stranger.get(f"{other.PORTAL}/session-state").json()
    assert (state["state"], state["session_active"]) == ("none", False)
    offer = stranger.get(f"{other.PORTAL}/").json()
    assert ["metric", "bytes"] in offer["tags"]
    page = stranger.get(f"{other.PORTAL}/", headers={"Accept": "text/html"}).text
    assert 'data-state="choose"' in page and granted["ticket"] not in page
    assert not stranger.online() and not stranger.online(six=True)
    assert daemon.paid_macs(DEVICE) == set() and stranger.mac in daemon.paid_macs(BRIDGE)
    (client,) = [one for one in daemon.data("clients", "--venue", "hall") if one["mac"] == stranger.mac]
    assert any(address.startswith("192.") for address in client["addresses"])
    assert client["remaining_seconds"] is None and "remaining_bytes" not in client
    hall.leave(stranger)
    wait_for(stranger.online, PATIENCE, "what it has at home goes on")
    used, bought = stranger.get(f"{PORTAL}/usage").text.split("/")
    assert int(used) < int(bought) == 10 * MINUTE


def test_a_guest_may_have_sessions_at_both_and_each_top_up_stays_where_it_is_paid(daemon, hall, mints, stranger):
    buy(mints[0], stranger, 10 * HERE_PRICE)
    hall.enter(stranger)
    buy(mints[1], stranger, 2 * HALL_PRICE, other.MINT_PROXY)
    wait_for(stranger.online, PATIENCE, "the hall is open")
    buy(mints[1], stranger, HALL_PRICE, other.MINT_PROXY)
    both = sessions(daemon, stranger.mac)
    assert (both["hall"]["allotment_bytes"], both["guest"]["allotment_seconds"]) == (3 * MIB, 600)
    assert stranger.get(f"{other.PORTAL}/usage").text.endswith(f"/{3 * MIB}")
    daemon.command("revoke", stranger.mac, "--venue", "hall")
    wait_for(lambda: not stranger.online(), PATIENCE, "the hall is closed")
    assert list(sessions(daemon, stranger.mac)) == ["guest"] and stranger.mac in daemon.paid_macs(BRIDGE)


def test_the_ticket_moves_the_value_and_closes_the_other_venue(daemon, hall, mints, stranger):
    ticket = buy(mints[0], stranger, 10 * HERE_PRICE)["ticket"]
    hall.enter(stranger)
    answer = show_there(stranger, ticket)
    assert (answer.status, answer.json()["type"]) == (200, "auth_ok")
    # Less than 20 sat are left: six steps of 3.
    wait_for(stranger.online, PATIENCE, "the hall is open")
    moved = sessions(daemon, stranger.mac)
    assert list(moved) == ["hall"] and moved["hall"]["allotment_bytes"] == 6 * MIB
    assert daemon.paid_macs(BRIDGE) == set()
    assert show_there(stranger, ticket).status == 200, "the answer was lost, perhaps"
    assert sessions(daemon, stranger.mac)["hall"]["allotment_bytes"] == 6 * MIB
    sales = daemon.status()["data"]["sales_today"]
    assert (sales["count"], sales["sat"]) == (1, 10 * HERE_PRICE)
    daemon.kill()
    daemon.start()
    assert list(sessions(daemon, stranger.mac)) == ["hall"]
    hall.leave(stranger)
    assert not stranger.online()
    # 18 sat, but for what was used of them.
    assert show(stranger, ticket).status == 200
    back = sessions(daemon, stranger.mac)
    assert list(back) == ["guest"] and back["guest"]["allotment_seconds"] in (8 * 60, 9 * 60)
    assert stranger.online()


def test_a_rest_that_buys_no_step_stays_where_it_was_paid(daemon, hall, mints, stranger):
    ticket = buy(mints[0], stranger, HERE_PRICE)["ticket"]
    hall.enter(stranger)
    refused = show_there(stranger, ticket)
    assert (refused.status, refused.json()["code"]) == (409, "too_little_left")
    assert not stranger.online() and list(sessions(daemon, stranger.mac)) == ["guest"]
    form = stranger.request(
        "POST", f"{other.PORTAL}/ticket", body=f"ticket={ticket}".encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"},
    )
    assert form.status == 409 and "not enough" in form.text
    hall.leave(stranger)
    wait_for(stranger.online, PATIENCE, "what it has at home goes on")


def test_a_changed_mac_goes_on_at_the_other_venue_by_its_ticket(daemon, hall, mints, stranger, other_stranger):
    ticket = buy(mints[0], stranger, 10 * HERE_PRICE)["ticket"]
    hall.enter(other_stranger)
    in_use = show_there(other_stranger, ticket)
    assert (in_use.status, in_use.json()["code"]) == (409, "ticket_in_use")
    stranger.leave()
    for name in ("ul4_at", "ul6_at", "seen4", "seen6"):
        daemon.lab.router.run(["nft", "flush", "set", "inet", "tollgate", name], check=False)
    daemon.lab.router.ip(f"neigh flush dev {BRIDGE}\n")
    assert show_there(other_stranger, ticket).status == 200
    wait_for(other_stranger.online, PATIENCE, "the hall is open")
    assert sessions(daemon, stranger.mac) == {} and daemon.paid_macs(BRIDGE) == set()
    assert list(sessions(daemon, other_stranger.mac)) == ["hall"]
    stranger.configure()


def test_a_move_that_is_killed_leaves_the_value_at_one_venue(daemon, hall, mints, stranger):
    ticket = buy(mints[0], stranger, 40 * HERE_PRICE)["ticket"]
    hall.enter(stranger)
    chance = random.Random(7)
    for _ in range(4):
        moving = threading.Thread(target=lambda: attempt(stranger, ticket), daemon=True)
        moving.start()
        time.sleep(chance.uniform(0, 0.3))
        daemon.kill()
        moving.join()
        daemon.start()
        left = sessions(daemon, stranger.mac)
        assert len(left) == 1, left
        (venue,) = left
        device = {"guest": BRIDGE, "hall": DEVICE}[venue]
        wait_for(lambda: stranger.mac in daemon.paid_macs(device), PATIENCE, "it is open there")
        closed = {BRIDGE: DEVICE, DEVICE: BRIDGE}[device]
        wait_for(lambda: stranger.mac not in daemon.paid_macs(closed), PATIENCE, "and closed elsewhere")
        if venue == "hall":
            break
    assert left[venue].get("allotment_bytes", 26 * MIB) <= 26 * MIB


def attempt(guest: Guest, ticket: str) -> None:
    try:
        show_there(guest, ticket)
    except (OSError, ValueError):
        pass


def test_the_operator_grants_and_trusts_at_one_venue(daemon, hall, stranger):
    hall.enter(stranger)
    stranger.get(f"{other.PORTAL}/")
    assert daemon.ask("grant", stranger.mac, "5m")["data"]["venue"] == "hall", "that is where it is"
    assert daemon.ask("grant", stranger.mac, "7m", "--venue", "guest")["data"]["venue"] == "guest"
    left = sessions(daemon, stranger.mac)
    assert (left["hall"]["allotment_seconds"], left["guest"]["allotment_seconds"]) == (300, 420)
    assert [one["venue"] for one in daemon.ask("sessions", "--venue", "guest")["data"]] == ["guest"]
    unknown = daemon.control({"command": "grant", "args": [stranger.mac, "1m", "--venue", "attic"]})
    assert unknown["code"] == "unknown_venue" and "hall" in unknown["message"]
    assert daemon.command("revoke", stranger.mac).code == 0
    assert sessions(daemon, stranger.mac) == {}
    assert not stranger.online()
    daemon.sections["venue hall"]["trusted_mac"] = [stranger.mac]
    daemon.write_config()
    daemon.command("reload")
    wait_for(stranger.online, PATIENCE, "it is trusted here")
    hall.leave(stranger)
    assert not stranger.online(), "and only here"
