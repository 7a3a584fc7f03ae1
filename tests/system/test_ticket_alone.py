"""Session tickets at daemons of other configurations, and at one that is killed."""

import contextlib
import threading
import time

import pytest

from lab.place import wait_for
from lab.portal_client import MINT_PROXY, MINT_PROXY_ALIAS, PORTAL, MintProxy, post_request
from lab.tickets import WRONG, change_mac, forget_packets, show


# Where the ticket is compulsory


@pytest.fixture
def strict(make_daemon, fault_mint):
    """A daemon that wants the ticket at its mint proxy."""
    daemon = make_daemon(fault_mint.url, main={"mint_proxy_auth": "ticket"})
    daemon.mint, daemon.pay = fault_mint, fault_mint.pay
    return daemon


def test_a_ticket_is_asked_for_from_the_first_payment_on(strict, stranger):
    with MintProxy(stranger) as proxy:
        granted = proxy.request(strict.mint.url, 5, apply=True)
        strict.pay(granted["invoice"])
        ticket = proxy.wait("session_granted")["ticket"]
        tokens = proxy.request(strict.mint.url, 6)
        strict.pay(tokens["invoice"])
        proxy.wait("tokens_ready")
    for url in (MINT_PROXY, MINT_PROXY_ALIAS):
        with MintProxy(stranger, url) as proxy:
            for message in (
                {"type": "status", "request_id": tokens["request_id"]},
                {"type": "ack", "request_id": tokens["request_id"]},
                {"type": "mint_request", "mint_url": strict.mint.url, "amount": 5},
            ):
                proxy.send(message)
                assert proxy.receive()["code"] == "invalid_ticket", "and no tokens before"
            proxy.send({"type": "ping"})
            assert proxy.receive() == {"type": "pong"}
            proxy.send({"type": "auth", "ticket": ticket})
            assert proxy.receive()["type"] == "auth_ok"
            assert proxy.wait("tokens_ready")["request_id"] == tokens["request_id"]
            assert proxy.request(strict.mint.url, 9)["type"] == "invoice_ready"


def test_the_rest_fallback_asks_for_the_ticket_as_well(strict, stranger, other_stranger):
    first = post_request(stranger, strict.mint.url, 5, apply=True)
    assert first.status == 201
    strict.pay(first.json()["invoice"])
    url = f"{PORTAL}/mint-requests/{first.json()['request_id']}"
    wait_for(lambda: stranger.get(url).status == 403, 10)
    assert post_request(stranger, strict.mint.url, 5).json()["code"] == "invalid_ticket"
    ticket = show(stranger).json()["ticket"]
    bearer = {"Authorization": f"Bearer {ticket}"}
    wait_for(lambda: stranger.get(url, headers=bearer).json()["type"] == "session_granted", 5)
    assert stranger.get(url, headers={"Authorization": f"Bearer {WRONG}"}).status == 403
    assert (
        stranger.post(f"{PORTAL}/mint-requests", {"mint_url": strict.mint.url, "amount": 5}, headers=bearer).status
        == 201
    )
    assert post_request(other_stranger, strict.mint.url, 5).status == 201, "who has not paid has no ticket"


# Power cuts, and many at once


def test_kill_at_any_moment_of_a_take_over_leaves_one_mac_online(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url)
    guest = lab.guests[0]
    for delay in (0, 0.002, 0.01, 0.05, 0.1, 0.2, 0.3):
        guest.become_stranger()
        with MintProxy(guest) as proxy:
            ready = proxy.request(fault_mint.url, 5, apply=True)
            fault_mint.pay(ready["invoice"])
            ticket = proxy.wait("session_granted")["ticket"]
        old = change_mac(lab, guest)

        def take_over(guest=guest, ticket=ticket):
            with contextlib.suppress(OSError):
                show(guest, ticket)

        asking = threading.Thread(target=take_over)
        asking.start()
        time.sleep(delay)
        daemon.kill()
        asking.join()
        daemon.start()
        forget_packets(lab)
        holders = [session["mac"] for session in daemon.ask("sessions")["data"] if session["mac"] in (old, guest.mac)]
        assert len(holders) == 1, delay
        wait_for(lambda: daemon.paid_macs() & {old, guest.mac} == set(holders), 5, "the gate follows the store")
        assert show(guest, ticket).status == 200
        assert guest.online() and old not in daemon.paid_macs()
