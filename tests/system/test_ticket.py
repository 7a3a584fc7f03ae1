"""Session tickets: a guest whose MAC changed goes on with what it has paid, and nobody else does."""

import concurrent.futures
import re
import socket
import time

import pytest

from lab.guest import ROUTER4, ROUTER6, Guest
from lab.http_client import exchange
from lab.payers import Purse, assert_notice, pay, usage
from lab.place import PATIENCE, wait_for
from lab.portal_client import PORTAL, MintProxy, read_request
from lab.tickets import WRONG, change_mac, forget_packets, show
from lab.websocket import WebSocket

TICKET = re.compile("[0-9a-hjkmnp-tv-z]{4}(-[0-9a-hjkmnp-tv-z]{4}){6}")
MINUTE = 60_000


def buy(shop, guest: Guest, steps: int = 5) -> dict:
    """Pays for so many minutes; the daemon's `session_granted`."""
    with MintProxy(guest) as proxy:
        ready = proxy.request(shop.mint.url, steps, apply=True)
        shop.pay(ready["invoice"])
        return proxy.wait("session_granted")


# Getting one


def test_the_first_payment_gives_a_ticket_and_a_top_up_keeps_it(shop, stranger):
    first = buy(shop, stranger)
    assert TICKET.fullmatch(first["ticket"])
    assert "ticket" not in buy(shop, stranger)
    assert show(stranger, first["ticket"]).status == 200, "it is still valid"


def test_the_ticket_is_told_again_to_who_asks_for_the_request_again(shop, stranger):
    first = buy(shop, stranger)
    with MintProxy(stranger) as proxy:
        proxy.send({"type": "resume", "request_id": first["request_id"]})
        assert proxy.wait("session_granted")["ticket"] == first["ticket"]
    assert read_request(stranger, first["request_id"]).json()["ticket"] == first["ticket"]


def test_the_paying_mac_gets_a_new_ticket_that_voids_the_old_one(shop, stranger, other_stranger):
    old = buy(shop, stranger)["ticket"]
    answer = show(stranger)
    assert (answer.status, answer.json()["type"]) == (200, "ticket")
    new = answer.json()["ticket"]
    assert TICKET.fullmatch(new) and new != old
    stranger.leave()
    forget_packets(shop.lab)
    refused = show(other_stranger, old)
    assert (refused.status, refused.json()["code"]) == (403, "invalid_ticket")
    assert show(other_stranger, new).status == 200


def test_who_has_not_paid_gets_no_ticket(shop, stranger):
    answer = show(stranger)
    assert (answer.status, answer.json()["code"]) == (404, "request_not_found")


def test_new_tickets_are_limited(shop, stranger):
    buy(shop, stranger)
    answers = [show(stranger) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 300


# Going on under another MAC


@pytest.mark.parametrize(
    "write", [str, str.upper, lambda ticket: ticket.replace("-", ""), lambda ticket: f" {ticket.replace('-', ' ')}\n"]
)
def test_a_changed_mac_goes_on_with_the_rest(shop, stranger, write):
    ticket = buy(shop, stranger)["ticket"]
    assert stranger.online() and stranger.online(six=True)
    old = change_mac(shop.lab, stranger)
    assert not stranger.online()
    answer = show(stranger, write(ticket))
    assert answer.status == 200, answer.body
    assert answer.json()["type"] == "auth_ok" and 4.5 * MINUTE < answer.json()["remaining"] <= 5 * MINUTE
    assert answer.json()["allotment"] == 5 * MINUTE
    assert stranger.online() and stranger.online(six=True)
    assert old not in shop.daemon.paid_macs() and stranger.mac in shop.daemon.paid_macs()
    assert [session["mac"] for session in shop.daemon.ask("sessions")["data"]].count(old) == 0
    again = show(stranger, ticket)
    assert again.status == 200 and again.json()["remaining"] <= answer.json()["remaining"], "an answer that was lost"
    assert "ticket" not in buy(shop, stranger, 2), "a top-up keeps the ticket"


def test_the_same_address_under_another_mac_goes_on_too(shop, stranger):
    ticket = buy(shop, stranger)["ticket"]
    assert stranger.online()
    stranger.become(mac="02:00:02:00:00:01")
    forget_packets(shop.lab)
    assert show(stranger, ticket).status == 200
    assert stranger.online()


def test_what_the_new_mac_has_paid_itself_is_added(shop, stranger, other_stranger):
    ticket, void = buy(shop, stranger, 5)["ticket"], buy(shop, other_stranger, 7)["ticket"]
    stranger.leave()
    forget_packets(shop.lab)
    taken = show(other_stranger, ticket).json()
    assert taken["allotment"] == 12 * MINUTE and 11.5 * MINUTE < taken["remaining"] <= 12 * MINUTE
    assert show(other_stranger, ticket).status == 200 and show(other_stranger, void).status == 403


def test_a_copied_ticket_is_refused_while_its_guest_is_there(shop, stranger, other_stranger):
    ticket = buy(shop, stranger)["ticket"]
    assert stranger.online()
    for _ in range(12):
        answer = show(other_stranger, ticket)
        assert (answer.status, answer.json()["code"]) == (409, "ticket_in_use"), "a right ticket is no guess"
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert stranger.online() and not other_stranger.online()
    stranger.leave()
    left = time.monotonic()
    time.sleep(20)
    assert show(other_stranger, ticket).status == 409, "it may be in a dead spot"
    wait_for(lambda: show(other_stranger, ticket).status == 200, 25, "it has left", every=1)
    assert time.monotonic() - left > 25
    assert other_stranger.online()


def test_an_account_moves_once_a_minute(shop, stranger):
    ticket = buy(shop, stranger)["ticket"]
    change_mac(shop.lab, stranger)
    asked = time.monotonic()
    assert show(stranger, ticket).status == 200
    change_mac(shop.lab, stranger)
    refused = show(stranger, ticket)
    assert (refused.status, refused.json()["code"]) == (429, "rate_limited")
    assert 60 - (time.monotonic() - asked) <= int(refused.headers["retry-after"]) <= 60


def test_guessing_is_limited_per_mac(shop, stranger, other_stranger):
    codes = [show(stranger, WRONG).json()["code"] for _ in range(11)]
    assert codes == ["invalid_ticket"] * 10 + ["rate_limited"]
    assert 1 <= int(show(stranger, WRONG).headers["retry-after"]) <= 300
    assert show(other_stranger, WRONG).status == 403


@pytest.mark.parametrize(
    "body", ["", "[]", "null", '{"ticket":5}', '{"ticket":["x"]}', '{"ticket":{}}', "ticket=x", "\xff", "{" * 9000]
)
def test_what_is_no_message_is_refused(shop, stranger, body):
    answer = stranger.post(f"{PORTAL}/ticket", body.encode("latin-1"))
    assert (answer.status, answer.json()["code"]) == (400, "invalid_message")


@pytest.mark.parametrize("ticket", ["x", "é" * 300, "0" * 10_000, "0000", "' OR 1=1 --", "\x00"])
def test_a_text_that_is_no_ticket_is_a_wrong_one(shop, stranger, ticket):
    answer = show(stranger, ticket)
    assert (answer.status, answer.json()["code"]) == (403, "invalid_ticket")


def test_tickets_are_not_logged(shop, stranger):
    ticket = buy(shop, stranger)["ticket"]
    new = show(stranger).json()["ticket"]
    change_mac(shop.lab, stranger)
    show(stranger, new)
    assert ticket not in shop.daemon.log() and new not in shop.daemon.log()


# Whose page asks


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://evil.example:2121", "Host": "evil.example:2121"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_pages_of_others_get_no_ticket_and_move_nothing(shop, stranger, headers):
    ticket = buy(shop, stranger)["ticket"]
    for body in ({}, {"ticket": ticket}):
        answer = exchange(stranger.connect(ROUTER4, 2121), "POST", "/ticket", ROUTER4, headers, body)
        assert (answer.status, answer.json()["code"]) == (403, "foreign_origin")
    assert show(stranger, ticket).status == 200


def test_pages_of_the_router_may_show_a_ticket(shop, stranger):
    ticket = buy(shop, stranger)["ticket"]
    for origin in (f"http://{ROUTER4}:2121", f"http://{ROUTER4}:2051", f"http://[{ROUTER6}]:2121"):
        assert show(stranger, ticket, Origin=origin).status == 200


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_pages_of_others_ask_for_no_invoice(shop, stranger, headers):
    asked = shop.invoices_asked()
    answer = exchange(stranger.connect(ROUTER4, 2121), "POST", "/pay", ROUTER4, headers, b"steps=5")
    assert answer.status == 403 and shop.invoices_asked() == asked


def test_a_page_whose_name_was_turned_to_the_router_hears_only_of_what_it_knows(shop, stranger):
    """DNS rebinding: the page is of the very host that it asks, and must not be handed what waits for the guest."""
    with MintProxy(stranger) as proxy:
        waiting = proxy.request(shop.mint.url, 5)
        shop.pay(waiting["invoice"])
        proxy.wait("tokens_ready")
    with stranger.connect(ROUTER4, 2121) as sock:
        page = WebSocket.connect(sock, "/mint-proxy", "evil.example:2121", origin="http://evil.example:2121")
        page.send({"type": "ping"})
        assert page.receive_json() == {"type": "pong"}
        with MintProxy(stranger) as proxy:
            assert proxy.wait("tokens_ready")["request_id"] == waiting["request_id"]
            more = proxy.request(shop.mint.url, 6)
            shop.pay(more["invoice"])
            proxy.wait("tokens_ready", request_id=more["request_id"])
        page.send({"type": "mint_request", "mint_url": shop.mint.url, "amount": 7})
        own = page.receive_json()
        assert own["type"] == "invoice_ready", "it was told nothing before"
        shop.pay(own["invoice"])
        assert page.receive_json()["request_id"] == own["request_id"]
        page.send({"type": "status", "request_id": waiting["request_id"]})
        assert page.receive_json()["type"] == "tokens_ready", "who knows the request id is the guest"


@pytest.mark.parametrize(
    "host, has_origin",
    [
        ("evil.example:2121", True),
        ("evil.example:2121", False),
        (f"{ROUTER4}.evil.example", False),
        ("192.168.77.250:2121", False),
        ("HOSTNAME.lan:2121", True),
    ],
)
def test_a_page_under_a_foreign_name_gets_no_ticket_in_any_answer(shop, stranger, host, has_origin):
    """DNS rebinding again, also by a name of the router that is easily guessed: it may have led elsewhere a moment
    ago.
    """
    host = host.replace("HOSTNAME", shop.lab.router.run(["hostname"]).out.strip())
    headers = {"Host": host} | ({"Origin": f"http://{host}"} if has_origin else {})
    heard = []

    def ask(method: str, path: str, body=None, **more) -> None:
        answer = exchange(stranger.connect(ROUTER4, 2121), method, path, ROUTER4, headers | more, body)
        heard.append((path, answer.status, answer.text))

    with stranger.connect(ROUTER4, 2121) as sock, MintProxy(stranger) as own:
        page = WebSocket.connect(sock, "/mint-proxy", host, origin=headers.get("Origin"))
        page.send({"type": "mint_request", "mint_url": shop.mint.url, "amount": 5, "apply": True})
        ready = page.receive_json()
        shop.pay(ready["invoice"])
        ticket = own.wait("session_granted")["ticket"]
        for question in (None, "status", "resume"):
            if question:
                page.send({"type": question, "request_id": ready["request_id"]})
            while (told := page.receive_json())["type"] != "session_granted":
                pass
            heard.append((question, told["remaining"], str(told)))
        page.send({"type": "auth", "ticket": ticket})
        assert page.receive_json()["type"] == "auth_ok"
        page.send({"type": "status", "request_id": ready["request_id"]})
        heard.append(("after auth", 0, str(page.receive_json())))
    ask("GET", f"/mint-requests/{ready['request_id']}")
    ask("GET", f"/ln-invoice?quote={ready['request_id']}")
    ask("GET", "/session-state")
    for path in ("/", "/?way=kept", f"/?r={ready['request_id']}"):
        ask("GET", path, Accept="text/html")
    ask("POST", "/ticket", {})
    ask("POST", "/ticket", b"new=1", **{"Content-Type": "application/x-www-form-urlencoded"})
    assert [path for path, _, text in heard if ticket in text] == []
    assert [status for path, status, _ in heard if path == "/ticket"] == [403, 403]
    assert read_request(stranger, ready["request_id"]).json()["ticket"] == ticket, (
        "under the router's address it is the guest's"
    )
    assert ticket in stranger.get(PORTAL + "/", headers={"Accept": "text/html"}).text


# Tokens and requests go along


def test_a_token_that_its_mint_has_not_taken_yet_goes_with_the_account(shop, stranger):
    ticket = buy(shop, stranger)["ticket"]
    token = Purse(shop.lab, shop.mint).token(7)
    shop.mint.misbehave("rate_limited", on="swap")
    answer, _ = pay(stranger, token)
    assert_notice(answer, 503, "payment-outcome-unknown")
    old = change_mac(shop.lab, stranger)
    assert show(stranger, ticket).status == 200
    shop.mint.behave()

    # Whoever posts it again has the mint asked at once.
    wait_for(lambda: pay(stranger, token)[0].status == 200, 30, "the mint has taken it", every=1)
    assert usage(stranger).endswith(f"/{12 * MINUTE}")
    assert old not in shop.daemon.paid_macs()
    assert old not in [session["mac"] for session in shop.daemon.ask("sessions")["data"]]


@pytest.mark.parametrize("by", ["socket", "post"])
def test_tokens_that_wait_go_with_the_account(shop, stranger, other_stranger, by):
    ticket = buy(shop, stranger)["ticket"]
    with MintProxy(stranger) as proxy:
        tokens, unpaid = proxy.request(shop.mint.url, 5), proxy.request(shop.mint.url, 6)
        topping_up = proxy.request(shop.mint.url, 7, apply=True)
        shop.pay(tokens["invoice"])
        proxy.wait("tokens_ready")
    stranger.leave()
    forget_packets(shop.lab)
    with MintProxy(other_stranger) as proxy:
        if by == "socket":
            proxy.send({"type": "auth", "ticket": ticket})
            assert 4 * MINUTE < proxy.wait("auth_ok")["remaining"] <= 5 * MINUTE
        else:
            assert show(other_stranger, ticket).status == 200
        assert proxy.wait("tokens_ready")["request_id"] == tokens["request_id"]
        shop.pay(unpaid["invoice"])
        assert proxy.wait("tokens_ready")["request_id"] == unpaid["request_id"]
        shop.pay(topping_up["invoice"])
        granted = proxy.wait("session_granted")
        assert (granted["request_id"], granted["allotment"]) == (topping_up["request_id"], 12 * MINUTE)
    assert other_stranger.online() and stranger.mac not in shop.daemon.paid_macs()
    assert read_request(other_stranger, tokens["request_id"]).status == 200
    stranger.configure()
    assert read_request(stranger, tokens["request_id"]).status == 404


def test_who_has_bought_tokens_only_can_ask_for_a_ticket_too(shop, stranger, other_stranger):
    with MintProxy(stranger) as proxy:
        ready = proxy.request(shop.mint.url, 5)
        assert show(stranger).status == 404, "an invoice is no payment"
        shop.pay(ready["invoice"])
        proxy.wait("tokens_ready")
    ticket = show(stranger).json()["ticket"]
    stranger.leave()
    forget_packets(shop.lab)
    with MintProxy(other_stranger) as proxy:
        proxy.send({"type": "auth", "ticket": ticket})
        assert proxy.receive() == {"type": "auth_ok"}
        assert proxy.wait("tokens_ready")["request_id"] == ready["request_id"]
    assert not other_stranger.online()


def test_a_wrong_ticket_on_a_socket_is_an_error_and_the_socket_lives(shop, stranger):
    with MintProxy(stranger) as proxy:
        for message, code in [
            ({"type": "auth"}, "invalid_message"),
            ({"type": "auth", "ticket": 5}, "invalid_message"),
            ({"type": "auth", "ticket": WRONG}, "invalid_ticket"),
        ]:
            proxy.send(message)
            assert proxy.receive()["code"] == code
        assert proxy.request(shop.mint.url, 5)["type"] == "invoice_ready"


# Many at once


def test_of_fifty_devices_with_one_ticket_exactly_one_gets_in(shop, stranger, other_stranger):
    ticket = buy(shop, stranger)["ticket"]
    stranger.leave()
    crowd = other_stranger
    crowd.sysctl(net__ipv4__conf__all__arp_ignore=1, net__ipv4__conf__all__arp_announce=2)
    devices = [f"many{number}" for number in range(50)]
    try:
        crowd.ip_script(
            *(
                line
                for number, device in enumerate(devices)
                for line in (
                    f"link add link eth0 name {device} address 02:00:03:00:00:{number:02x} type macvlan mode bridge",
                    f"link set {device} up",
                    f"addr add 192.168.77.{200 + number}/24 dev {device} noprefixroute",
                    f"route add {ROUTER4}/32 dev {device} metric {100 + number} src 192.168.77.{200 + number}",
                )
            )
        )
        forget_packets(shop.lab)

        def try_it(number: int) -> int:
            sock = crowd.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, devices[number].encode())
            sock.settimeout(PATIENCE)
            sock.bind((f"192.168.77.{200 + number}", 0))
            sock.connect((ROUTER4, 2121))
            return exchange(sock, "POST", "/ticket", ROUTER4, body={"ticket": ticket}).status

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            outcomes = list(pool.map(try_it, range(50)))
    finally:
        crowd.ip_script(*(f"link del {device}" for device in devices))
        crowd.sysctl(net__ipv4__conf__all__arp_ignore=0, net__ipv4__conf__all__arp_announce=0)
    assert outcomes.count(200) == 1 and set(outcomes) <= {200, 409, 429}, outcomes
    winner = f"02:00:03:00:00:{outcomes.index(200):02x}"
    many = {mac for mac in shop.daemon.paid_macs() if mac.startswith("02:00:03:")}
    assert many == {winner} and stranger.mac not in shop.daemon.paid_macs()
    assert [
        session["mac"] for session in shop.daemon.ask("sessions")["data"] if session["mac"].startswith("02:00:03:")
    ] == [winner]
