"""Sessions by bytes: what the running daemon counts and cuts, against what an independent counter saw on the
router.
"""

import contextlib
import json
import re
import time

import pytest
from playwright.sync_api import expect

from lab.books import Books
from lab.guest import ROUTER4, ROUTER6, Guest
from lab.http_server import Server
from lab.internet import AWAY, HOST4, HOST6
from lab.place import wait_for
from lab.portal_client import PORTAL, MintProxy, post_request

MB = 1_000_000
ETHERNET_HEADER = 14
HOSTS = (HOST4, f"[{HOST6}]")
BYTES = {"metric": "bytes", "step_size": 1_048_576, "max_steps": 1000}


@pytest.fixture
def daemon(make_daemon):
    return make_daemon(AWAY, venue=BYTES)


class Counter:
    """Counts what comes from guests for the internet behind every other chain, and what goes to them behind every
    other look at their device, there without its Ethernet headers and without what the router itself says."""

    def __init__(self, lab) -> None:
        self.lab = lab
        lab.router.nft(
            "add table inet witness\nflush table inet witness\nadd counter inet witness passed\n"
            "add chain inet witness forward { type filter hook forward priority 100; }\n"
            "flush chain inet witness forward\n"
            'add rule inet witness forward iifname "br-guest" counter name passed\n'
            "add table netdev witness\nflush table netdev witness\nadd counter netdev witness passed\n"
            "add chain netdev witness goes { type filter hook egress device br-guest priority 400; }\n"
            "flush chain netdev witness goes\n"
            f"add rule netdev witness goes ip saddr != {ROUTER4} counter name passed\n"
            f"add rule netdev witness goes ip6 saddr != {{ {ROUTER6}, fe80::/10 }} counter name passed\n"
        )
        self.start = 0
        self.start = self.bytes

    @property
    def bytes(self) -> int:
        came, went = self._counted("inet"), self._counted("netdev")
        return came["bytes"] + went["bytes"] - ETHERNET_HEADER * went["packets"] - self.start

    def _counted(self, family: str) -> dict[str, int]:
        listing = json.loads(self.lab.router.run(["nft", "-j", "list", "counter", family, "witness", "passed"]).out)
        return next(item["counter"] for item in listing["nftables"] if "counter" in item)


def visitor(guest: Guest) -> Guest:
    """A new device that has been at the portal with both of its addresses."""
    guest.become_stranger()
    for router in (ROUTER4, f"[{ROUTER6}]"):
        guest.get(f"http://{router}:2121/")
    return guest


def session(daemon, mac: str) -> dict | None:
    return next((one for one in daemon.ask("sessions")["data"] if one["mac"] == mac and "used_bytes" in one), None)


def used(daemon, mac: str) -> int:
    """What is used once the daemon has looked, which it does every second: as much as the kernel has counted."""
    def settled():
        before = in_kernel(daemon, mac)
        time.sleep(0.2)
        return session(daemon, mac)["used_bytes"] == before == in_kernel(daemon, mac)

    wait_for(settled, 10, "the daemon has looked")
    return session(daemon, mac)["used_bytes"]


def in_kernel(daemon, mac: str) -> int | None:
    """What a guest has used, without the Ethernet headers that are counted with what it is sent."""
    listing = json.loads(daemon.lab.router.run(["nft", "-j", "list", "table", "netdev", "tollgate"]).out)["nftables"]
    quotas = [item["quota"] for item in listing if "quota" in item]
    used = next((quota["used"] for quota in quotas if quota["name"].startswith("q" + mac.replace(":", ""))), None)
    received = next(item["set"].get("elem", []) for item in listing if item.get("set", {}).get("name") == "received")
    packets = sum(one["elem"]["counter"]["packets"] for one in received if one["elem"]["val"]["concat"][1] == mac)
    return None if used is None else used - ETHERNET_HEADER * packets


def agree(daemon, guest: Guest, counter: "Counter", before: int = 0) -> None:
    """The daemon has counted what the other counter has; the last packets of a connection may come a moment after its
    data.
    """
    wait_for(lambda: used(daemon, guest.mac) - before == counter.bytes, 5, "both have counted the same")


def load(guest: Guest, size: int, host: str = HOST4, timeout: float = 20) -> int:
    """Downloads; answers how many bytes came before the end, however that looked."""
    with contextlib.suppress(OSError, AssertionError, ValueError, EOFError):
        return len(guest.get(f"http://{host}/bytes/{size}", timeout=timeout).body)
    return 0


def use_up(guest: Guest, passed, size: int, host: str = HOST4) -> None:
    """Downloads more than there is, again where a busy machine has stalled it, until nearly all of `size` has
    passed.
    """
    wait_for(lambda: load(guest, 10 * size, host, timeout=3) or passed() > 0.95 * size, 10, "it is used up")


def is_out_soon(daemon, guest: Guest, host: str = HOST4) -> None:
    """Bytes that are given back for Ethernet headers are used as well, and then it is over."""
    wait_for(
        lambda: load(guest, MB, host, timeout=1) < 0 or guest.mac not in daemon.paid_macs(), 10, "the guest is out"
    )


def send(guest: Guest, size: int, host: str = HOST4) -> None:
    """Uploads datagrams of 1000 bytes that are not answered (discard)."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with guest.socket(family, socket.SOCK_DGRAM) as sock:
        for number in range(size // 1000):
            with contextlib.suppress(OSError):
                sock.sendto(bytes(1000), (host.strip("[]"), 9))
            if number % 50 == 0:
                time.sleep(0.001)


# Counting


def test_bytes_are_sold_shown_and_counted_in_both_directions_and_families(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url, venue=BYTES)
    guest, day = visitor(lab.guest), time.gmtime().tm_yday
    with MintProxy(guest) as proxy:
        ready = proxy.request(fault_mint.url, 20, apply=True)
        fault_mint.pay(ready["invoice"])
        granted = proxy.wait("session_granted")
    assert (granted["metric"], granted["allotment"], granted["remaining"]) == ("bytes", 20 * 1_048_576, 20 * 1_048_576)
    assert "ends_at" not in granted
    counter = Counter(lab)
    for host in HOSTS:
        assert load(guest, 2 * MB, host) == 2 * MB
        send(guest, MB, host)
        agree(daemon, guest, counter)
    one = session(daemon, guest.mac)
    assert one["used_bytes"] + one["remaining_bytes"] == one["allotment_bytes"] == 20 * 1_048_576
    assert counter.bytes > 6 * MB
    sales = daemon.status()["data"]["sales_today"]
    if time.gmtime().tm_yday == day:
        assert sales["bytes"] == 20 * 1_048_576
    assert (
        next(c for c in daemon.ask("clients")["data"] if c["mac"] == guest.mac)["remaining_bytes"]
        == one["remaining_bytes"]
    )


def test_both_addresses_and_every_family_of_a_guest_count_and_other_guests_do_not(lab, daemon):
    guest, other = (visitor(each) for each in lab.guests)
    daemon.command("grant", guest.mac, "100MB")
    daemon.command("grant", other.mac, "1h")
    load(guest, MB)
    assert load(other, 5 * MB) == 5 * MB
    before = used(daemon, guest.mac)
    assert MB < before < 1.2 * MB
    counter = Counter(lab)
    guest.ip_script("addr add 192.168.77.231/24 dev eth0", f"route replace default via {ROUTER4} src 192.168.77.231")
    guest.ip_script("addr add fd77::e:1/64 dev eth0 nodad", "route replace default via fd77::1 src fd77::e:1")
    for host in HOSTS:
        assert load(guest, 3 * MB, host) == 3 * MB
    agree(daemon, guest, counter, before)


# Cutting


@pytest.mark.parametrize("host", HOSTS)
def test_running_download_is_cut_at_the_quota_and_the_guest_is_closed_within_two_seconds(lab, daemon, host):
    guest = visitor(lab.guest)
    counter = Counter(lab)
    daemon.command("grant", guest.mac, "5MB")
    use_up(guest, lambda: counter.bytes, 5 * MB, host)
    is_out_soon(daemon, guest, host)
    passed = counter.bytes
    assert 0.95 * 5 * MB < passed <= 5 * MB
    assert not guest.online() and not guest.online(six=True)
    assert session(daemon, guest.mac) is None
    for name in ("counted_at", "dl4", "dl6", "qm_at", "qm4", "qm6"):
        kept = lab.router.run(["nft", "list", "map" if name.startswith("qm") else "set", "inet", "tollgate", name]).out
        assert not any(text in kept for text in (guest.mac, guest.ip, guest.ip6)), kept
    assert "tollgate" not in lab.router.run(["nft", "list", "quotas"]).out
    assert guest.mac not in lab.router.run(["nft", "list", "table", "netdev", "tollgate"]).out
    assert counter.bytes < passed + 5_000, "more than refusals, which the router sends in others' names"
    wait_for(lambda: Books(daemon).tables["sessions"][-1]["used"] == 5 * MB, 5)


@pytest.mark.parametrize("host", (HOST4, HOST6))
def test_upload_is_cut_at_the_quota(lab, daemon, host):
    guest = visitor(lab.guest)
    counter = Counter(lab)
    daemon.command("grant", guest.mac, "3MB")
    send(guest, 8 * MB, host)
    wait_for(lambda: guest.mac not in daemon.paid_macs(), 2)
    assert 0.99 * 3 * MB < counter.bytes <= 3 * MB


def test_quota_is_cut_in_the_kernel_while_no_daemon_runs(lab, daemon):
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "4MB")
    daemon.kill()
    counter = Counter(lab)
    use_up(guest, lambda: counter.bytes, 4 * MB)
    assert 0.95 * 4 * MB < counter.bytes <= 4 * MB
    assert not guest.online()
    daemon.start()
    is_out_soon(daemon, guest)
    wait_for(lambda: session(daemon, guest.mac) is None, 4)
    assert counter.bytes <= 4 * MB


def test_top_up_during_a_download_adds_and_keeps_what_was_used(lab, daemon):
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "5MB")
    load(guest, 2 * MB)
    before = used(daemon, guest.mac)
    counter = Counter(lab)
    daemon.command("grant", guest.mac, "10MB")
    one = session(daemon, guest.mac)
    assert (one["allotment_bytes"], one["used_bytes"]) == (15 * MB, before)
    use_up(guest, lambda: before + counter.bytes, 15 * MB)
    assert 0.95 * 15 * MB < before + counter.bytes <= 15 * MB
    # Used up, and more bought at once: what ran against the shut gate meanwhile is not charged.
    daemon.command("grant", guest.mac, "5MB")
    again = Counter(lab)
    use_up(guest, lambda: again.bytes, 5 * MB)
    assert 0.95 * 5 * MB < again.bytes <= 5 * MB


def test_top_up_in_the_second_of_the_cut_loses_nothing(lab, daemon):
    guest = visitor(lab.guest)
    counter = Counter(lab)
    for number in range(1, 6):
        daemon.command("grant", guest.mac, "1MB")
        wait_for(lambda: load(guest, 5 * MB, timeout=0.4) or counter.bytes > 0.9 * number * MB)
        assert counter.bytes <= number * MB


class Proxy(Server):
    def handle(self, request) -> None:
        request.answer(200, bytes(2 * MB), "text/plain")


def test_what_a_proxy_on_the_router_brings_is_counted_once(lab, daemon):
    """A redirect of somebody else leads there; asked for by the router's own address it is not the internet, and
    refused.
    """
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "40MB")
    lab.router.nft(
        'insert rule inet fw4 input iifname "br-guest" tcp dport 7892 accept\n'
        "table ip other {\n chain pre {\n  type nat hook prerouting priority dstnat; policy accept;\n"
        '  iifname "br-guest" ip daddr != 192.168.0.0/16 meta l4proto tcp redirect to :7892\n }\n}\n'
    )
    counted = used(daemon, guest.mac)
    with Proxy(lab.router, "0.0.0.0", 7892):
        for _ in range(3):
            assert len(guest.get(f"http://{HOST4}/page").body) == 2 * MB
            before, counted = counted, used(daemon, guest.mac)
            assert 2 * MB < counted - before < 2.2 * MB


# Surviving


def test_usage_is_the_same_after_stop_kill_and_reload(lab, daemon):
    guest = visitor(lab.guest)
    counter = Counter(lab)
    daemon.command("grant", guest.mac, "100MB")
    for end in (daemon.stop, daemon.kill, daemon.stop, daemon.kill):
        load(guest, 3 * MB)
        end()
        # The session goes on in the kernel, and is counted there.
        load(guest, MB, HOSTS[1])
        daemon.start()
        agree(daemon, guest, counter)
    daemon.venue["name"] = "Another"
    daemon.write_config()
    assert daemon.ask("reload")["ok"]
    load(guest, MB)
    agree(daemon, guest, counter)


def test_flushed_firewall_goes_on_counting_from_what_was_seen(lab, daemon):
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "100MB")
    load(guest, 5 * MB)
    before = used(daemon, guest.mac)
    for _ in range(3):
        lab.flush_firewall()
        lab.firewall()
        wait_for(lambda: guest.mac in daemon.paid_macs(), 4)
    assert used(daemon, guest.mac) >= before
    counter = Counter(lab)
    before = used(daemon, guest.mac)
    load(guest, 2 * MB)
    agree(daemon, guest, counter, before)


def test_quota_taken_away_by_somebody_is_put_back_with_what_was_used(lab, daemon):
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "100MB")
    load(guest, 5 * MB)
    before = used(daemon, guest.mac)
    lab.router.nft("flush map netdev tollgate metered")
    wait_for(lambda: daemon.status()["data"]["gate"]["times_put_back"] > 0, 4)
    counter = Counter(lab)
    load(guest, 2 * MB)
    agree(daemon, guest, counter, before)


def test_reboot_keeps_what_was_used_and_never_charges_more(lab, daemon):
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "100MB")
    load(guest, 5 * MB)
    before = used(daemon, guest.mac)
    daemon.stop()
    lab.clean_router()
    daemon.start()
    assert session(daemon, guest.mac)["used_bytes"] == before
    load(guest, 2 * MB)
    most = used(daemon, guest.mac)
    daemon.kill()
    lab.clean_router()
    daemon.start()
    assert before <= session(daemon, guest.mac)["used_bytes"] <= most


def test_power_cut_costs_at_most_a_minute_of_counting_and_that_one_commit_a_minute(lab, daemon):
    guest, other = (visitor(each) for each in lab.guests)
    for each in (guest, other):
        daemon.command("grant", each.mac, "900MB")
    commits = daemon.status()["data"]["store"]["commits"]
    until = time.monotonic() + 66
    history = [(time.monotonic(), 0)]
    while time.monotonic() < until:
        for each in (guest, other):
            load(each, 200_000)
        history.append((time.monotonic(), used(daemon, guest.mac)))
    assert 1 <= daemon.status()["data"]["store"]["commits"] - commits <= 2, "both sessions in one commit a minute"
    daemon.kill()
    lab.clean_router()
    kept = {row["mac"]: row["used"] for row in Books(daemon).tables["sessions"]}
    minute_ago = max(count for when, count in history if when < history[-1][0] - 60)
    assert minute_ago <= kept[guest.mac] <= history[-1][1] and kept[other.mac] > 0


def test_idle_session_costs_the_flash_nothing(lab, daemon):
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "1GB")
    commits = daemon.status()["data"]["store"]["commits"]
    time.sleep(6)
    assert daemon.status()["data"]["store"]["commits"] == commits


# Beside time


def test_time_runs_first_and_the_bytes_are_there_when_it_is_over(lab, daemon):
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "50MB")
    load(guest, MB)
    before = used(daemon, guest.mac)
    daemon.command("grant", guest.mac, "10s")
    assert load(guest, 5 * MB) == 5 * MB
    assert session(daemon, guest.mac)["used_bytes"] == before, "time is paid for, so bytes are not counted"
    wait_for(
        lambda: in_kernel(daemon, guest.mac) is not None and guest.mac in daemon.paid_macs(), 15, "the time is over"
    )
    counter = Counter(lab)
    assert load(guest, 2 * MB) == 2 * MB
    agree(daemon, guest, counter, before)
    assert len(daemon.ask("sessions")["data"]) == 1


def test_venue_that_changes_its_metric_takes_nothing_from_anybody(lab, fault_mint, make_daemon):
    daemon = make_daemon(fault_mint.url, venue=BYTES)
    guest = visitor(lab.guest)
    open_invoice = post_request(guest, fault_mint.url, 3, apply=True).json()
    daemon.command("grant", guest.mac, "50MB")
    daemon.venue |= {"metric": "milliseconds", "step_size": 60_000}
    daemon.write_config()
    assert daemon.ask("reload")["ok"]
    load(guest, MB)
    assert used(daemon, guest.mac) > MB
    fault_mint.pay(open_invoice["invoice"])
    wait_for(lambda: session(daemon, guest.mac)["allotment_bytes"] == 50 * MB + 3 * 1_048_576, 10)
    with MintProxy(guest) as proxy:
        ready = proxy.request(fault_mint.url, 2, apply=True)
        fault_mint.pay(ready["invoice"])
        granted = proxy.wait("session_granted")
    assert (granted["metric"], granted["allotment"]) == ("milliseconds", 120_000)
    both = {one.get("remaining_bytes", 0) > 0 for one in daemon.ask("sessions")["data"] if one["mac"] == guest.mac}
    assert both == {True, False}


def test_revoked_guest_is_out_at_once(lab, daemon):
    guest = visitor(lab.guest)
    daemon.command("grant", guest.mac, "50MB")
    assert guest.online()
    assert daemon.ask("revoke", guest.mac)["ok"]
    assert not guest.online() and session(daemon, guest.mac) is None


# On the phone


@pytest.mark.browser
def test_portal_sells_data_and_shows_what_is_left_of_it(lab, fault_mint, make_daemon, phone):
    daemon = make_daemon(fault_mint.url, venue={**BYTES, "step_size": 2_000_000})
    guest = visitor(lab.guest)
    page = phone()
    page.goto(PORTAL)
    expect(page.locator("h1")).to_have_text("How much data?")
    expect(page.locator("form .rate")).to_have_text("1 sat = 2 MB")
    page.locator("label[for=other]").click()
    page.locator("#steps").fill("12")
    expect(page.locator(".tother .time")).to_have_text("24 MB")
    page.locator("button.pay").click()
    expect(page.locator("main.pay .lead")).to_contain_text("24 MB")
    fault_mint.pay(page.locator("#invoice").input_value())
    left = page.locator("main.online .left")
    # The page itself may come out of it already.
    expect(left).to_have_text(re.compile(r"^(24|23\.\d) MB$"), timeout=60_000)
    assert page.locator("[data-ends]").count() == 0
    load(guest, 4 * 1_048_576)
    expect(left).to_have_text(re.compile(r"^19(\.\d)? MB$"), timeout=60_000)
    wait_for(lambda: load(guest, 40 * MB, timeout=3) or guest.mac not in daemon.paid_macs(), 10)
    expect(page.locator("main.ended h1")).to_have_text("Your data is used up", timeout=60_000)
    assert not guest.online() and guest.mac not in daemon.paid_macs()
