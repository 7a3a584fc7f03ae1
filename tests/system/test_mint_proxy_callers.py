"""Who is calling: the mint proxy goes by the neighbour table, never by what a request says of itself."""

import contextlib
import os

import pytest

from lab.guest import ROUTER4, ROUTER6
from lab.http_client import exchange
from lab.place import PATIENCE, wait_for
from lab.portal_client import MINT_PROXY, MINT_PROXY_ALIAS, MintProxy, MintProxyError, post_request, read_request
from lab.websocket import Closed, Refused, WebSocket

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


# Headers


def lies(victim) -> dict[str, str]:
    return {
        "X-Forwarded-For": victim.ip,
        "X-Real-Ip": victim.ip,
        "X-TollGate-MAC": victim.mac,
        "Forwarded": f"for={victim.ip}",
        "X-Client-MAC": victim.mac,
        "X-Forwarded-Host": "evil.example",
    }


def test_headers_that_name_another_guest_change_nothing(shop, stranger, other_stranger):
    with MintProxy(other_stranger) as victim, MintProxy(stranger, headers=lies(other_stranger)) as liar:
        theirs = victim.request(shop.mint.url, 5)
        liar.send({"type": "status", "request_id": theirs["request_id"]})
        assert liar.receive()["code"] == "request_not_found"
        own = liar.request(shop.mint.url, 6, apply=True)
        shop.pay(own["invoice"])
        liar.wait("session_granted")
        assert stranger.mac in shop.daemon.paid_macs() and other_stranger.mac not in shop.daemon.paid_macs()
        victim.send({"type": "ping"})
        assert victim.receive() == {"type": "pong"}, "somebody else's messages"
    answer = stranger.get(
        f"http://{ROUTER4}:2121/mint-requests/{theirs['request_id']}?mac={other_stranger.mac}",
        headers=lies(other_stranger),
    )
    assert answer.status == 404


@pytest.mark.parametrize("value", ["1.2.3.4; touch {}", "$(touch {})", "`touch {}`", "|touch {}&", "'; touch {} #"])
def test_headers_with_shell_characters_run_nothing(shop, stranger, value):
    trace = shop.lab.path("pwned")
    headers = {
        name: value.format(trace)
        for name in ("X-Real-Ip", "X-Forwarded-For", "X-TollGate-MAC", "User-Agent", "Referer")
    }
    with MintProxy(stranger, headers=headers) as proxy:
        assert proxy.request(shop.mint.url, 5)["type"] == "invoice_ready"
    assert stranger.get(f"http://{ROUTER4}:2122/stats", headers=headers).status == 200
    assert not [name for _, _, names in os.walk(shop.lab.dir) for name in names if name.startswith("pwned")]


# Origins


@pytest.mark.parametrize(
    "origin",
    [
        None,
        f"http://{ROUTER4}",
        f"http://{ROUTER4}:2121",
        f"http://{ROUTER4}:8080",
        f"https://{ROUTER4}",
        f"http://[{ROUTER6}]:2121",
        "http://HOSTNAME",
        "http://HOSTNAME:8080",
        "http://HOSTNAME.lan",
    ],
)
def test_pages_of_the_router_may_connect(shop, stranger, origin):
    hostname = shop.lab.router.run(["hostname"]).out.strip()
    for url in (MINT_PROXY, MINT_PROXY_ALIAS):
        with MintProxy(stranger, url, origin=origin and origin.replace("HOSTNAME", hostname)) as proxy:
            proxy.send({"type": "ping"})
            assert proxy.receive() == {"type": "pong"}


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.example:2121",
        "null",
        "",
        "http://",
        f"http://{ROUTER4}.evil.example",
        "http://192.168.77.2",
        "http://192.168.77.11",
        f"http://evil.example/{ROUTER4}",
        f"http://{ROUTER4}@evil.example",
        "file://",
        "chrome-extension://abcdef",
        ROUTER4,
    ],
)
def test_pages_of_others_are_refused_before_the_upgrade(shop, stranger, origin):
    for url in (MINT_PROXY, MINT_PROXY_ALIAS):
        with pytest.raises(Refused) as refusal:
            MintProxy(stranger, url, origin=origin)
        assert refusal.value.status == 403


def test_page_of_the_host_that_is_asked_may_connect(shop, stranger):
    """A router has names that it does not know of; the browser's page and its request name the same one."""
    with stranger.connect(ROUTER4, 2121) as sock:
        WebSocket.connect(sock, "/mint-proxy", "wifi.example:2121", origin="http://WIFI.example").close()


# Not an upgrade


@pytest.mark.parametrize(
    "method, without",
    [
        ("GET", list(UPGRADE)),
        ("GET", ["Upgrade"]),
        ("GET", ["Connection"]),
        ("GET", ["Sec-WebSocket-Version"]),
        ("GET", ["Sec-WebSocket-Key"]),
        ("HEAD", []),
    ],
)
def test_request_that_is_no_upgrade_is_told_what_is_spoken_here(shop, stranger, method, without):
    headers = {name: value for name, value in UPGRADE.items() if name not in without}
    answer = exchange(stranger.connect(ROUTER4, 2121), method, "/mint-proxy", ROUTER4, headers)
    assert answer.status == 426
    assert (answer.headers["upgrade"], answer.headers["sec-websocket-version"]) == ("websocket", "13")


@pytest.mark.parametrize("name, value", [("Sec-WebSocket-Version", "8"), ("Upgrade", "h2c")])
def test_upgrade_of_another_kind_is_told_what_is_spoken_here(shop, stranger, name, value):
    assert (
        exchange(stranger.connect(ROUTER4, 2121), "GET", "/mint-proxy", ROUTER4, UPGRADE | {name: value}).status == 426
    )


def test_post_to_the_socket_is_not_allowed(shop, stranger):
    answer = stranger.post(f"http://{ROUTER4}:2121/mint-proxy", {})
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


# The neighbour table


BEHIND = "10.99.0.9"


@pytest.fixture(params=["missing", "incomplete", "failed"])
def caller_without_neighbour(shop, stranger, request):
    """An address behind a guest: its packets come through the guest's MAC, and the router has no entry for it."""
    stranger.sysctl(net__ipv4__conf__all__arp_announce=2)  # else its call for the router would introduce it
    stranger.ip_script(f"addr add {BEHIND}/32 dev lo")
    shop.lab.router.ip(f"route replace {BEHIND}/32 via {stranger.ip} dev br-guest")
    if request.param != "missing":
        shop.lab.router.ip(f"neigh replace {BEHIND} dev br-guest nud {request.param}")
    yield stranger
    shop.lab.router.run(["ip", "neigh", "del", BEHIND, "dev", "br-guest"], check=False)
    shop.lab.router.ip(f"route del {BEHIND}/32")
    stranger.ip_script(f"addr del {BEHIND}/32 dev lo")
    stranger.sysctl(net__ipv4__conf__all__arp_announce=0)


def test_caller_without_a_neighbour_entry_gets_a_clear_error_and_nothing_else(shop, caller_without_neighbour):
    guest, asked, paid = caller_without_neighbour, shop.invoices_asked(), shop.daemon.paid_macs()

    def connect(port=2121):
        return guest.connect(ROUTER4, port, source=BEHIND)

    for port in (2121, 2122):
        with connect(port) as sock, pytest.raises(Refused) as refusal:
            WebSocket.connect(sock, "/mint-proxy", ROUTER4)
        assert refusal.value.status == 400
        assert b"Failed to identify client" in refusal.value.body
    answer = exchange(
        connect(), "POST", "/mint-requests", ROUTER4, body={"mint_url": shop.mint.url, "amount": 5, "apply": True}
    )
    assert answer.status == 400
    assert answer.json() == {"type": "error", "code": "unknown_device", "message": "Failed to identify client"}
    assert exchange(connect(), "GET", "/health", ROUTER4).status == 200
    assert shop.invoices_asked() == asked and shop.daemon.paid_macs() <= paid


# An address that changes hands


def router_sees(shop, guest) -> bool:
    """The router's table has the guest's present MAC for its address."""
    guest.ping(ROUTER4, timeout=0.3)
    return guest.mac in shop.lab.router.run(["ip", "neigh", "show", guest.ip]).out


def answered_here(shop, guest, ask):
    """What is answered where another device has the same address: some answers go to that one, which ends the
    connection.
    """
    for _ in range(8):
        wait_for(lambda: router_sees(shop, guest), 5)
        with contextlib.suppress(OSError, Closed, Refused):
            return ask()
    raise TimeoutError("no answer came here")


def change_mac(shop, guest, mac: str) -> None:
    guest.become(mac=mac)
    wait_for(lambda: router_sees(shop, guest), 5)


def next_mac(guest) -> str:
    return "02:00:02" + guest.mac[8:]


def test_payment_after_the_address_changed_its_mac_goes_to_the_mac_that_asked(shop, stranger):
    asked_by, later = stranger.mac, next_mac(stranger)
    ready = post_request(stranger, shop.mint.url, 5, apply=True).json()
    request_id = ready["request_id"]
    change_mac(shop, stranger, later)
    with MintProxy(stranger) as proxy:
        shop.pay(ready["invoice"])
        wait_for(lambda: asked_by in shop.daemon.paid_macs())
        assert later not in shop.daemon.paid_macs()
        proxy.send({"type": "status", "request_id": request_id})
        assert proxy.receive()["code"] == "request_not_found", "the payment was told to whoever has the address now"
    assert read_request(stranger, request_id).status == 404
    assert not stranger.online(timeout=0.3)


def test_session_stays_with_its_mac_when_the_address_changes_after_payment(shop, stranger):
    paid_by, later = stranger.mac, next_mac(stranger)
    with MintProxy(stranger) as proxy:
        shop.pay(proxy.request(shop.mint.url, 5, apply=True)["invoice"])
        proxy.wait("session_granted")
    assert stranger.online()
    change_mac(shop, stranger, later)
    assert not stranger.online(timeout=0.3), "who has the address now is online for another's money"
    assert shop.daemon.paid_macs() >= {paid_by} and later not in shop.daemon.paid_macs()
    change_mac(shop, stranger, paid_by)
    assert stranger.online()


def test_socket_of_an_address_that_changed_hands_is_closed_unanswered(shop, stranger):
    with MintProxy(stranger) as proxy:
        request_id = proxy.request(shop.mint.url, 5)["request_id"]
        change_mac(shop, stranger, next_mac(stranger))
        with pytest.raises(Closed):
            with contextlib.suppress(ConnectionError):
                proxy.send({"type": "status", "request_id": request_id})
            proxy.receive()


def test_address_that_two_devices_use_gets_no_new_sale_and_keeps_what_it_has(shop, stranger, other_stranger):
    with MintProxy(stranger) as proxy:
        before = proxy.request(shop.mint.url, 5, apply=True)

    def by_socket() -> MintProxyError:
        with MintProxy(stranger) as proxy, pytest.raises(MintProxyError) as error:
            proxy.request(shop.mint.url, 6, timeout=5, apply=True)
        return error.value

    other_stranger.become(ip=stranger.ip)
    error = answered_here(shop, stranger, by_socket)
    assert error.code == "internal_error" and "two devices" in error.body["message"]
    answer = answered_here(shop, stranger, lambda: post_request(stranger, shop.mint.url, 7, timeout=5))
    assert answer.status == 503 and "invoice" not in answer.json()
    shop.pay(before["invoice"])
    wait_for(lambda: stranger.mac in shop.daemon.paid_macs(), PATIENCE, "who has paid is let in")
    assert other_stranger.mac not in shop.daemon.paid_macs()
    other_stranger.become_stranger()
    wait_for(lambda: router_sees(shop, stranger), 5)
    with MintProxy(stranger) as proxy:
        assert proxy.request(shop.mint.url, 8)["type"] == "invoice_ready"


def test_guest_is_the_same_over_both_families(shop, stranger):
    with MintProxy(stranger) as proxy, MintProxy(stranger, f"ws://[{ROUTER6}]:2122/mint-proxy") as six:
        ready = proxy.request(shop.mint.url, 5)
        assert six.receive() == ready
        six.send({"type": "status", "request_id": ready["request_id"]})
        assert six.receive() == ready
        with contextlib.suppress(TimeoutError):
            assert not proxy.receive(timeout=0.1), "an answer to one socket's question goes to that socket"
