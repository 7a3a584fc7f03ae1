"""The lab itself: what the other tests stand on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lab import firewall
from lab.guest import ROUTER4, ROUTER6
from lab.internet import HOST4, HOST6, MINT4
from lab.namespaces import Lab
from lab.place import in_time, wait_for
from lab.tollgate_client import check_event, sign_event


@pytest.fixture
def marked(lab):
    """Lets guest 1 out by the mark, as a paid guest would be."""
    lab.router.nft(f"""table inet marker {{ chain set_mark {{ type filter hook prerouting priority mangle;
        ether saddr {lab.guest.mac} meta mark set meta mark | {firewall.MARK:#010x}; }}; }}""")
    yield lab.guest
    lab.clean_router()


def test_guest_reaches_the_router_on_both_families(lab):
    wait_for(lambda: lab.guest.ping(ROUTER4) and lab.guest.ping(ROUTER6))


def test_unmarked_guest_sends_nothing_out(lab):
    before = lab.leaked_packets()
    assert lab.guest.try_tcp(HOST4, 443, timeout=0.5).outcome != "connected"
    assert lab.guest.try_tcp(HOST6, 443, timeout=0.5).outcome != "connected"
    assert not lab.guest.ping(HOST4, timeout=0.3)
    assert lab.leaked_packets() == before


def test_marked_guest_is_online_on_both_families(lab, marked):
    before = lab.leaked_packets()
    assert marked.online() and marked.online(six=True)
    assert marked.try_udp(HOST4, 443, timeout=10).outcome == "connected"
    assert marked.try_udp(HOST6, 443, timeout=10).outcome == "connected"
    assert lab.leaked_packets() > before
    assert not lab.guests[1].online(timeout=0.3), "the mark of one guest let another out"


def test_flushed_firewall_with_nat_lets_guests_out(lab):
    """What a daemon's second lock is for: without one, the lab does leak."""
    lab.flush_firewall()
    assert not lab.guest.online(timeout=0.3), "without masquerading nothing comes back"
    lab.nat_only()
    assert lab.guest.online() and lab.guest.online(six=True)
    lab.clean_router()
    assert not lab.guest.online(timeout=0.3)


def test_router_reaches_the_internet_and_the_guest_does_not_reach_its_mint(lab):
    with lab.internet.listen(MINT4, 3999):
        lab.router.connect(MINT4, 3999).close()
        assert lab.guest.try_tcp(MINT4, 3999, timeout=0.3).outcome != "connected"


def test_guest_can_change_its_mac_and_address(lab):
    guest = lab.guests[1]
    mac, ip = guest.mac, guest.ip
    guest.become(mac="02:00:00:00:77:77", ip="192.168.77.77")
    wait_for(lambda: guest.ping(ROUTER4))
    neighbours = lab.router.run(["ip", "neigh", "show", "192.168.77.77"]).out
    assert "02:00:00:00:77:77" in neighbours
    guest.become(mac=mac, ip=ip)
    wait_for(lambda: guest.ping(ROUTER4))


def test_many_connections_at_once_are_refused_at_once(lab):
    lab.router.nft(
        firewall.BASE.replace(
            "hook forward priority filter; policy drop;",
            "hook forward priority filter; policy accept; meta l4proto tcp reject with tcp reset;",
        )
    )

    def slowest() -> float:
        attempts = lab.guest.try_many_tcp(HOST4, 443, 30, timeout=30)
        assert [attempt.outcome for attempt in attempts] == ["refused"] * 30
        return max(attempt.seconds for attempt in attempts)

    in_time(1, slowest)
    lab.clean_router()


def test_dhcp_dns_and_router_advertisements():
    with Lab(guests=1) as lab:
        lab.start_dnsmasq("--dhcp-option=114,http://192.168.77.1:2121/captive-api")
        assert lab.guest.resolve("captive.example") == HOST4
        assert lab.guest.resolve("captive.example", six=True) == HOST6
        lease = lab.guest.dhcp()
        assert lab.guest.ip.startswith("192.168.77.1") and "opt114=" in lease
        wait_for(lambda: lab.guest.ping(ROUTER4))


def test_labs_side_by_side_do_not_see_each_other():
    with Lab(guests=1) as one, Lab(guests=1) as other:
        with one.router.listen("192.168.77.1", 2121):
            assert one.guest.try_tcp("192.168.77.1", 2121, timeout=30).outcome == "connected"
            assert other.guest.try_tcp("192.168.77.1", 2121, timeout=30).outcome == "refused"


def test_killed_process_is_reported_with_its_signal(lab):
    process = lab.router.spawn(["sleep", "60"])
    assert process.poll() is None and process.host_pid > 0
    process.kill()
    assert process.poll() == -signal.SIGKILL


def test_nothing_is_left_when_the_owner_is_killed(tmp_path):
    """`kill -9` of the program that made a lab ends every process of the lab, and with them its namespaces."""
    marker = f"{os.getpid()}{time.monotonic_ns()}"
    owner = subprocess.Popen(
        [sys.executable, "-c", f"""
import sys, time
from lab.namespaces import Lab
lab = Lab(guests=1)
lab.guest.spawn(["sleep", "{marker}"])
lab.router.spawn(["sh", "-c", "setsid sleep {marker} & sleep {marker}"])
print(lab.dir, flush=True)
time.sleep(600)
""",
        ],
        env=dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        stdout=subprocess.PIPE,
    )
    directory = owner.stdout.readline().decode().strip()
    assert os.path.isdir(directory)
    wait_for(lambda: len(processes_with(marker)) >= 3, 5)
    owner.kill()
    owner.wait()
    wait_for(lambda: not processes_with(marker), 5, "the lab's processes end")
    wait_for(lambda: not os.path.exists(directory), 5, "its directory is gone")


def processes_with(word: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                line = file.read()
        except OSError:
            continue
        if word in line and "sleep" in line and "lab.namespaces" not in line:
            found.append(pid)
    return found


@pytest.mark.parametrize(
    "spoil",
    [
        {"sig": "00" * 64},
        {"id": "00" * 32},
        {"created_at": 7},
        {"created_at": "7"},
        {"content": "x"},
        {"kind": 1022},
        {"tags": [["metric", 1]]},
        {"pubkey": "ab" * 32},
    ],
)
def test_spoiled_event_is_noticed(spoil):
    event = sign_event(10021, [["metric", "bytes"]])
    assert check_event(event) == event
    with pytest.raises((AssertionError, ValueError)):
        check_event(event | spoil)
