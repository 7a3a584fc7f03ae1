"""What a guest reaches who has not paid: the garden, and for a while a little of the internet to pay with."""

import re
import time

import pytest
from playwright.sync_api import expect

from lab.guest import Guest
from lab.internet import HOST4, HOST6, MINT4
from lab.place import wait_for
from lab.portal_client import MintProxy, post_request

PORTAL = "http://192.168.77.1:2121/"
HOSTS = (HOST4, f"[{HOST6}]")
OUTSIDE = ("198.51.100.81", "2001:db8:80::81")
BYTES = {"metric": "bytes", "step_size": 1_048_576, "max_steps": 1000}
RATE = 65_536
GRACE = 120


@pytest.fixture
def gracious(fault_mint, make_daemon):
    return make_daemon(fault_mint.url, venue={"pay_grace": GRACE})


def asks(guest: Guest, fault_mint, amount: int = 5) -> dict:
    """Asks for an invoice that is to become access."""
    return post_request(guest, fault_mint.url, amount, apply=True).json()


def reaches(guest: Guest) -> bool:
    return guest.online() and guest.online(six=True)


def page(guest: Guest, answer: dict, lang: str = "en") -> str:
    return guest.get(f"{PORTAL}?r={answer['request_id']}&lang={lang}", headers={"Accept": "text/html"}).body.decode()


# The garden


def test_garden_is_reached_unpaid_in_both_families_and_nothing_else_is(lab, make_daemon, stranger):
    for address in (f"{OUTSIDE[0]}/32", f"{OUTSIDE[1]}/128"):
        lab.internet.run(["ip", "addr", "add", address, "dev", "lo"], check=False)
    daemon = make_daemon(f"http://{MINT4}:9", main={"garden": [f"{HOST4}/32", HOST6]}, venue=BYTES)
    assert reaches(stranger)
    for host in (HOST4, HOST6):
        assert stranger.try_tcp(host, 443).outcome == "connected"
        assert stranger.try_udp(host, 443).outcome == "connected"
        assert not stranger.ping(host, timeout=1)
    for host in HOSTS:
        assert len(stranger.get(f"http://{host}/bytes/300000").body) == 300_000
    counter = counted(lab)
    for host in OUTSIDE:
        stranger.try_tcp(host, 443, timeout=1)
        stranger.try_udp(host, 443, timeout=1)
        stranger.ping(host, timeout=1)
    assert counter() == 0
    assert daemon.paid_macs() == set() and daemon.ask("sessions")["data"] == []
    # It is nobody's, so nobody pays for it.
    daemon.command("grant", stranger.mac, "5MB")
    assert len(stranger.get(f"http://{HOST4}/bytes/3000000").body) == 3_000_000
    time.sleep(1.3)
    (one,) = daemon.ask("sessions")["data"]
    assert one["used_bytes"] == 0


def test_garden_changes_with_a_reload_that_ends_no_session(fault_mint, make_daemon, stranger, other_stranger):
    daemon = make_daemon(fault_mint.url, main={"garden": [HOST4, HOST6]})
    daemon.command("grant", other_stranger.mac, "1h")
    with other_stranger.connect(HOST4, 80) as download:
        download.sendall(b"GET /drip/250 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert download.recv(1000)
        daemon.main["garden"] = ["203.0.113.0/24"]
        daemon.write_config()
        assert daemon.ask("reload")["ok"]
        assert not stranger.online() and not stranger.online(six=True)
        assert stranger.get(f"{fault_mint.url}/v1/keysets").json(), "a wallet reaches its mint"
        daemon.main["garden"] = ["0.0.0.0/0"]
        daemon.write_config()
        assert daemon.command("reload", check=False).code == 1, "a broken file changes nothing"
        assert not stranger.online()
        for _ in range(50):
            assert download.recv(65536)


def counted(lab):
    """Counts what leaves the router from guests to those beside the garden."""
    lab.router.nft(
        "add table inet beside\nflush table inet beside\nadd counter inet beside left\n"
        "add chain inet beside post { type filter hook postrouting priority 0; }\nflush chain inet beside post\n"
        f'add rule inet beside post iifname "br-guest" ip daddr {OUTSIDE[0]} counter name left\n'
        f'add rule inet beside post iifname "br-guest" ip6 daddr {OUTSIDE[1]} counter name left\n'
    )
    return lambda: int(
        lab.router.run(["nft", "list", "counter", "inet", "beside", "left"]).out.split("packets ")[1].split()[0]
    )


# The grace to pay in


def test_guest_with_an_open_invoice_is_let_through_slowly_until_it_is_paid(lab, fault_mint, gracious, stranger):
    assert not stranger.online()
    asked = asks(stranger, fault_mint)
    wait_for(lambda: reaches(stranger), 2)
    assert "a little slow internet" in page(stranger, asked) and "intaneti kidogo" in page(stranger, asked, "sw")
    assert gracious.ask("sessions")["data"] == []
    started = time.monotonic()
    for host in HOSTS:
        assert len(stranger.get(f"http://{host}/bytes/{3 * RATE}").body) == 3 * RATE
    # What may be saved up is let through at once, for each address.
    assert time.monotonic() - started > (6 * RATE - 4 * RATE) / RATE
    assert gracious.status()["data"]["gate"]["times_put_back"] == 0
    fault_mint.pay(asked["invoice"])
    wait_for(lambda: gracious.ask("sessions")["data"], 5)
    wait_for(lambda: is_fast(stranger), 10)
    assert stranger.mac in gracious.paid_macs()
    assert stranger.mac not in lab.router.run(["nft", "list", "set", "inet", "tollgate", "slow_at"]).out


def is_fast(guest: Guest) -> bool:
    started = time.monotonic()
    return len(guest.get(f"http://{HOST4}/bytes/{8 * RATE}").body) == 8 * RATE and time.monotonic() - started < 2


def test_grace_is_over_after_its_time_and_new_invoices_renew_none(fault_mint, make_daemon, stranger):
    daemon = make_daemon(fault_mint.url, venue={"pay_grace": 8})
    started = time.monotonic()
    asked = asks(stranger, fault_mint)
    wait_for(lambda: stranger.online(), 2)
    wait_for(lambda: not stranger.online(), 12)
    assert time.monotonic() - started > 7
    wait_for(lambda: stranger.mac not in daemon.paid_macs(), 3)
    # The kernel ends it by a clock of its own, a moment before the page does.
    wait_for(lambda: "slow internet" not in page(stranger, asked), 3)
    again = asks(stranger, fault_mint, 6)
    assert again["type"] == "invoice_ready" and not stranger.online() and "slow internet" not in page(stranger, again)
    # A restart knows who has had it.
    daemon.kill()
    daemon.start()
    assert asks(stranger, fault_mint, 7)["type"] == "invoice_ready"
    assert not stranger.online() and stranger.mac not in daemon.paid_macs()


def test_grace_ends_with_the_invoice(lab, make_daemon, stranger):
    from lab.fault_mint import FaultMint

    with FaultMint(lab.internet, MINT4, invoice_seconds=10) as mint:
        daemon = make_daemon(mint.url, venue={"pay_grace": 300})
        asks(stranger, mint)
        wait_for(lambda: stranger.online(), 2)
        wait_for(lambda: not stranger.online(), 20)
        wait_for(lambda: stranger.mac not in daemon.paid_macs(), 3)


def test_grace_ends_when_tokens_are_bought_and_with_a_revocation(fault_mint, gracious, stranger, other_stranger):
    with MintProxy(stranger) as proxy:
        ready = proxy.request(fault_mint.url, 5)
        wait_for(lambda: stranger.online(), 2)
        fault_mint.pay(ready["invoice"])
        proxy.wait("tokens_ready")
        wait_for(lambda: not stranger.online(), 3)
    asks(other_stranger, fault_mint)
    wait_for(lambda: other_stranger.online(), 2)
    gracious.command("revoke", other_stranger.mac, check=False)
    assert not other_stranger.online()
    assert gracious.paid_macs() == set()


def test_running_grace_ends_with_a_restart_and_a_kill_leaves_nothing_open(fault_mint, make_daemon, stranger):
    daemon = make_daemon(fault_mint.url, venue={"pay_grace": 10})
    asks(stranger, fault_mint)
    wait_for(lambda: stranger.online(), 2)
    daemon.kill()
    wait_for(lambda: not stranger.online(), 15)
    daemon.start()
    assert daemon.paid_macs() == set()


def test_few_graces_run_at_a_time_and_none_without_the_option(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url, venue={"pay_grace": 600})
    guest = lab.guest
    for _ in range(16):
        guest.become_stranger()
        asks(guest, fault_mint)
    wait_for(lambda: len(daemon.paid_macs()) == 16, 3)
    guest.become_stranger()
    assert asks(guest, fault_mint)["type"] == "invoice_ready"
    assert not guest.online() and len(daemon.paid_macs()) == 16
    daemon.venue["pay_grace"] = 0
    daemon.write_config()
    assert daemon.ask("reload")["ok"]
    asks(lab.guests[1].become_stranger(), fault_mint)
    assert not lab.guests[1].online()


@pytest.mark.browser
def test_phone_is_told_of_its_grace_as_long_as_it_runs(fault_mint, make_daemon, stranger, phone):
    make_daemon(fault_mint.url, venue={"pay_grace": 15})
    opened = phone()
    opened.goto(PORTAL)
    opened.locator("button.pay").click()
    grace = opened.locator("#grace")
    expect(grace).to_contain_text(re.compile("a little slow internet for 0:[01]"))
    assert opened.locator("#invoice").input_value() and stranger.online()
    expect(grace).to_have_count(0, timeout=60_000)
    fault_mint.pay(opened.locator("#invoice").input_value())
    expect(opened.locator("main.online")).to_be_visible(timeout=60_000)
