"""Https with the operator's certificate: guests, tunnels, the operator; renewal; what is wrong, and what is no TLS."""

import contextlib
import json
import os
import re
import ssl
import time

import pytest

from lab.authority import NAME, PORT, Authority
from lab.guest import ROUTER4, ROUTER6
from lab.openwrt.root import SELLING
from lab.place import PATIENCE, wait_for
from lab.portal_client import post_request
from lab.stations import Stations, forget_peak, peak_kib
from lab.websocket import WebSocket

LOOPBACK = "127.0.0.1"
PAGE = {"Accept": "text/html"}


@pytest.fixture
def authority(lab) -> Authority:
    made = Authority(lab.path(f"https-{time.monotonic_ns()}"))
    made.issue()
    return made


@pytest.fixture
def https(make_daemon, fault_mint, authority):
    return make_daemon(fault_mint.url, sections={"tls": authority.section})


def standing(daemon) -> dict:
    return daemon.status()["data"]["tls"]


def until(daemon, wanted: str) -> dict:
    """How it stands when a look has found this reason."""
    wait_for(lambda: wanted in (standing(daemon)["reason"] or ""), 15, f"the reason is {wanted!r}")
    return standing(daemon)


def sells(lab, mint) -> bool:
    return post_request(lab.guest, mint.url, 3, apply=True).status == 201


# Who is served


def test_a_guest_pays_over_https_and_its_pages_lead_to_the_name(lab, https, fault_mint, authority):
    guest = lab.guest
    page = authority.get(guest, "/", **PAGE)
    assert page.status == 200 and "text/html" in page.headers["content-type"]
    bought = {"mint_url": fault_mint.url, "amount": 5, "apply": True}
    asked = authority.request(guest, "POST", "/mint-requests", bought, headers={"Origin": f"https://{NAME}:{PORT}"})
    assert asked.status == 201, asked.text
    fault_mint.pay(asked.json()["invoice"])
    wait_for(guest.online, PATIENCE, "the guest is online")
    home = f"https://{NAME}:{PORT}/"
    assert home in authority.get(guest, "/", **PAGE).text
    assert authority.get(guest, "/whoami").text == f"mac={guest.mac}"
    over_http = guest.get(f"http://{ROUTER4}:2121/", headers=PAGE).text
    assert f"http://{ROUTER4}:2121/" in over_http and home not in over_http


def test_the_pages_socket_works_over_https(lab, https, fault_mint, authority):
    guest, origin = lab.guests[1], f"https://{NAME}:{PORT}"
    socket = WebSocket.connect(authority.connect(guest), "/mint-proxy", f"{NAME}:{PORT}", origin)
    with contextlib.closing(socket):
        socket.send({"type": "mint_request", "mint_url": fault_mint.url, "amount": 5, "apply": True})
        offer = socket.receive_json(PATIENCE)
        fault_mint.pay(offer["invoice"])
        while (message := socket.receive_json(PATIENCE))["type"] != "session_granted":
            assert message["type"] != "error", message
        assert message["ticket"], "a page under the certificate's name is the router's own"
    wait_for(guest.online, PATIENCE, "the guest is online")


def test_a_page_of_another_name_over_https_is_not_the_routers(lab, https, authority):
    asked = {"mint_url": "https://m.example", "amount": 5}
    refused = authority.request(lab.guest, "POST", "/mint-requests", asked, headers={"Origin": "https://evil.example"})
    assert refused.status == 403


def test_guests_are_served_at_every_address_and_by_both_versions_with_and_without_a_name(lab, https, authority):
    serial = authority.serial(lab.guest)
    for host in (ROUTER4, ROUTER6):
        assert authority.get(lab.guest, "/health", host=host).text == "OK"
    for version, told in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        with authority.connect(lab.guest, context=authority.context(version)) as sock:
            assert sock.version() == told
        assert authority.serial(lab.guest, name=None, context=authority.context(version)) == serial
    with authority.connect(lab.guest) as sock:
        sock.sendall(f"GET /health HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode() * 2)
        assert _answers(sock, 2)
    context = authority.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with authority.connect(lab.guest, context=context) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"


def _answers(sock, count: int) -> bool:
    came = b""
    while came.count(b"HTTP/1.1 200 OK") < count or not came.endswith(b"OK"):
        more = sock.recv(4096)
        if not more:
            return False
        came += more
    return True


def test_a_key_of_rsa_is_served(lab, make_daemon, fault_mint, authority):
    serial = authority.issue(kind="rsa")
    make_daemon(fault_mint.url, sections={"tls": authority.section})
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert authority.serial(lab.guest, context=authority.context(version)) == serial


def test_a_tunnel_gets_what_is_for_anybody_and_the_operator_its_own(lab, https, authority):
    router = lab.router
    tapped = authority.get(router, "/ln?card_id=1&p=0&c=0", port=2126, host=LOOPBACK)
    assert tapped.status == 200 and tapped.json()["status"] == "ERROR"
    for path in ("/", "/whoami", "/mint-proxy", "/admin/status"):
        assert authority.get(router, path, port=2126, host=LOOPBACK).status == 404, path
    assert authority.get(router, "/health/live", port=2127, host=LOOPBACK).json() == {"status": "alive", "live": True}
    assert authority.get(router, "/admin/status", port=2127, host=LOOPBACK).status == 401
    with open(os.path.join(https.state_dir, "admin.token")) as file:
        bearer = {"Authorization": f"Bearer {file.read().strip()}"}
    status = authority.get(router, "/admin/status", port=2127, host=LOOPBACK, **bearer)
    assert status.json()["tls"]["admin_listen"] == f"{LOOPBACK}:2127"


def test_the_public_listener_is_there_without_cards_where_the_file_says(lab, make_daemon, fault_mint):
    make_daemon(fault_mint.url, main={"public_listen": f"{LOOPBACK}:2199"})
    lab.router.connect(LOOPBACK, 2199).close()
    with pytest.raises(OSError):
        lab.router.connect(LOOPBACK, 2124)


def test_a_guest_never_reaches_the_operators_interface(lab, make_daemon, fault_mint, authority):
    section = authority.section | {"admin_listen": f"{ROUTER4}:2127"}
    make_daemon(fault_mint.url, main={"admin_listen": f"{ROUTER4}:2120"}, sections={"tls": section})
    for port in (2120, 2127):
        lab.router.connect(ROUTER4, port).close()
        with pytest.raises(OSError):
            lab.guest.connect(ROUTER4, port)


# The certificate


def test_it_is_renewed_without_a_restart_and_open_connections_go_on(lab, https, authority):
    first, pid = authority.serial(lab.guest), https.process.host_pid
    told = standing(https)
    assert told["ok"] and told["reason"] is None and told["name"] == NAME
    assert abs(told["not_after"] - time.time() - 30 * 86400) < 3600
    with authority.connect(lab.guest) as kept:
        second = authority.issue(ends=60)

        def is_renewed() -> bool:
            kept.sendall(f"GET /health HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            assert _answers(kept, 1)
            return authority.serial(lab.guest) == second

        wait_for(is_renewed, 15, "the new one is served")
    assert first != second and https.running and https.process.host_pid == pid
    assert abs(standing(https)["not_after"] - time.time() - 60 * 86400) < 3600


def test_what_cannot_be_used_is_said_and_the_one_before_stays(lab, https, fault_mint, authority):
    first = authority.serial(lab.guest)
    for make, why in (
        (lambda: authority.issue(key=False), "the key does not belong to the certificate"),
        (lambda: authority.issue("other.example.net"), f"is not for {NAME}"),
        (lambda: authority.issue(begins=-9, ends=-2), "has ended on "),
        (lambda: os.unlink(authority.cert_file), "cannot be read"),
    ):
        make()
        told = until(https, why)
        assert not told["ok"] and authority.serial(lab.guest) == first, why
        checked = https.command("check", check=False)
        assert checked.code == 0 and re.search(f"warning: .*https: .*{why}", checked.out), checked.out
    assert sells(lab, fault_mint) and https.status()["data"]["ready"]
    last = authority.issue()
    wait_for(lambda: standing(https)["ok"], 15, "the mended one is taken")
    assert authority.serial(lab.guest) == last and "https" not in https.command("check").out


def test_without_a_certificate_there_is_no_https_and_the_sale_goes_on(lab, make_daemon, fault_mint, authority):
    os.unlink(authority.key_file)
    daemon = make_daemon(fault_mint.url, sections={"tls": authority.section})
    assert not standing(daemon)["ok"] and "key.pem cannot be read" in standing(daemon)["reason"]
    with pytest.raises(OSError):
        authority.connect(lab.guest)
    assert sells(lab, fault_mint)
    serial = authority.issue()
    wait_for(lambda: standing(daemon)["ok"], 15, "it is taken when it is there")
    assert authority.serial(lab.guest) == serial
    del daemon.sections["tls"]
    daemon.write_config()
    assert daemon.command("reload").code == 0 and standing(daemon) is None
    with pytest.raises(OSError):
        authority.connect(lab.guest)


def test_another_port_is_served_and_opened_after_a_reload(lab, https, authority):
    https.sections["tls"]["port"] = 443
    https.write_config()
    assert https.command("reload").code == 0
    assert authority.get(lab.guest, "/health", port=443).text == "OK"
    listed = lab.router.run(["nft", "list", "table", "inet", "tollgate"]).out
    assert "443" in listed


# What is no handshake


def test_what_is_no_tls_is_let_go_and_others_are_served(lab, https, authority):
    guest = lab.guest
    long_hello = b"\x16\x03\x01\x40\x00" + b"\x01" * 20000
    garbage = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 300, b"\xff" * 5000, long_hello)
    for sent in garbage * 3:
        with contextlib.closing(guest.connect(ROUTER4, PORT)) as sock:
            sock.settimeout(PATIENCE)
            with contextlib.suppress(OSError):
                sock.sendall(sent)
                while sock.recv(4096):
                    pass
        assert authority.get(guest, "/health").text == "OK"
    assert https.running and "panic" not in https.log()


def test_guests_who_never_finish_their_handshake_keep_nobody_out(lab, https, authority):
    """One guest says nothing, or half of something, on as many connections as it may have."""
    guest, other = lab.guests
    hello = _client_hello(authority)
    held = []
    for number in range(120):
        sock = guest.connect(ROUTER4, PORT)
        sock.sendall(hello[: number % len(hello)])
        held.append(sock)
        if number % 20 == 0:
            begun = time.monotonic()
            assert authority.get(other, "/health").text == "OK" and time.monotonic() - begun < 5
    wait_for(lambda: authority.get(guest, "/health").text == "OK", 15, "its own have ended by themselves")
    for sock in held:
        sock.close()
    assert https.running


def test_many_stations_that_begin_handshakes_keep_nobody_out_and_cost_bounded_memory(lab, https, authority):
    guest, other = lab.guests
    hello = _client_hello(authority)
    too_long = b"\x16\x03\x01\x40\x00\x01\x00\xff\x00" + b"x" * 15000
    before = forget_peak(https)
    with Stations(guest, 48) as many:
        for said in (hello[:100], hello, too_long):
            for number in range(48 * 16):
                many.send(number % 48, said, PORT)
            begun = time.monotonic()
            assert authority.get(other, "/health").text == "OK" and time.monotonic() - begun < 5
    assert peak_kib(https) - before < 16 * 1024


def _client_hello(authority) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.context().wrap_bio(incoming, outgoing, server_hostname=NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


# The router around it


def test_fw4_the_jail_and_dnsmasq_are_told_of_port_folder_and_name(lab, router):
    guest = lab.guest
    router.start_dnsmasq(lab)
    os.makedirs(router.at("etc/ssl/acme"), exist_ok=True)
    os.makedirs(router.at("etc/acme/x_ecc"), exist_ok=True)
    authority = Authority(router.at("etc/acme/x_ecc"))
    authority.issue()
    for name in ("cert", "key"):
        os.symlink(f"/etc/acme/x_ecc/{name}.pem", router.at(f"etc/ssl/acme/{name}.pem"))
    tls = (
        f"config tls\n\toption name '{NAME}'\n\toption cert_file '/etc/ssl/acme/cert.pem'\n"
        "\toption key_file '/etc/ssl/acme/key.pem'\n\toption port '443'\n"
    )
    router.start(SELLING + tls)
    wiring = router.run("tollgated", "wiring").out.splitlines()
    assert "port 443" in wiring
    assert {"file /etc/ssl/acme/key.pem", "file /etc/acme/x_ecc/key.pem"} <= set(wiring)
    wait_for(lambda: guest.resolve(NAME) == ROUTER4, 10, "dnsmasq has read the name")
    assert guest.resolve(NAME, six=True) == ROUTER6
    status = json.loads(router.run("tollgated", "status", "--json").out)["data"]
    assert status["tls"]["ok"], status["tls"]
    assert authority.get(guest, "/health", port=443).text == "OK"
    assert guest.get(f"http://{NAME}/").headers["location"] == f"http://{ROUTER4}:2121/"
    said = router.run("tollgated", "check", "--system", check=False).out
    assert NAME not in said
    os.unlink(router.at("tmp/hosts/tollgated"))
    router.sh(". /lib/functions/procd.sh; procd_send_signal dnsmasq '*' HUP")
    wait_for(lambda: guest.resolve(NAME) != ROUTER4, 10, "dnsmasq has forgotten it")
    said = router.run("tollgated", "check", "--system", check=False).out
    assert f"the certificate's name {NAME} " in said
