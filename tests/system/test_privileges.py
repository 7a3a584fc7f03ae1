"""What the daemon may do where no jail is around it (no `procd-ujail`): three capabilities, and no more."""

import os
import signal

import pytest

from lab.place import wait_for
from lab.portal_client import MintProxy

NEEDED = 1 << 10 | 1 << 12 | 1 << 13  # NET_BIND_SERVICE, NET_ADMIN, NET_RAW
SETS = ("CapPrm", "CapEff", "CapBnd")


def threads(daemon) -> list[dict[str, str]]:
    folder = f"/proc/{daemon.process.host_pid}/task"
    found = []
    for thread in os.listdir(folder):
        with open(f"{folder}/{thread}/status") as file:
            found.append(dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line))
    return found


def status(daemon) -> dict:
    return daemon.control({"command": "status"})["data"]


def test_every_thread_has_three_capabilities_gains_no_more_and_the_shop_works(lab, make_daemon, fault_mint):
    """A sale needs the witness (raw sockets), the gate (netlink) and the curve (threads); a table made anew, nft."""
    daemon = make_daemon(fault_mint.url, main={"admin_listen": "127.0.0.1:120"})
    guest = lab.guest
    with MintProxy(guest) as proxy:
        offer = proxy.request(fault_mint.url, 5, apply=True)
        fault_mint.pay(offer["invoice"])
        proxy.wait("session_granted")
    wait_for(guest.online, 10, "the guest is online")
    lab.flush_firewall()
    lab.firewall()
    wait_for(lambda: guest.mac in daemon.paid_macs(), 10, "the table is made anew")
    lab.router.connect("127.0.0.1", 120).close()
    found = threads(daemon)
    assert len(found) > 2
    for thread in found:
        for one_set in SETS:
            assert int(thread[one_set], 16) == NEEDED, (thread["Name"], one_set)
        assert int(thread["CapInh"], 16) & ~NEEDED == 0 and thread["NoNewPrivs"] == "1", thread["Name"]
    assert not status(daemon)["gate"]["trouble"]
    assert "rights" not in daemon.log()


def test_commands_in_the_shell_keep_their_rights(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url)
    daemon.stop()
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"]).code == 0
    assert daemon.command("gate", "release").code == 0
    assert lab.router.run(["nft", "list", "table", "inet", "tollgate"], check=False).code != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_configuration_of_another_user_becomes_roots_and_is_read_again(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url, start=False)
    os.chown(daemon.config, 12345, 12345)
    daemon.start()
    about = os.stat(daemon.config)
    assert about.st_uid == 0 and about.st_mode & 0o777 == 0o600
    daemon.venue["name"] = "Other"
    daemon.write_config()
    before = daemon.log().count("configuration reloaded")
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: daemon.log().count("configuration reloaded") > before, 10, "it is read again")
    os.chown(daemon.config, 12345, 12345)
    assert daemon.command("reload").code == 0 and os.stat(daemon.config).st_uid == 0, "by the command as well"


# What reloads


def test_a_burst_of_signals_is_one_reload(make_daemon, fault_mint):
    """One change of the network is several events to procd, each of which runs the init script's `reload`."""
    daemon = make_daemon(fault_mint.url)
    reloads = lambda: daemon.log().count("configuration reloaded")
    for _ in range(3):
        daemon.signal(signal.SIGHUP)
        daemon.status()
    wait_for(lambda: reloads() == 1, 10, "the configuration is read")
    daemon.venue["name"] = "Other"
    daemon.write_config()
    daemon.signal(signal.SIGHUP)
    daemon.command("reload")
    assert reloads() == 2, "who asks is answered at once"
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: reloads() == 3, 10, "the next burst is another")


# Where no guest can come in


def test_it_is_not_ready_while_the_only_guest_device_is_gone(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url)
    wait_for(lambda: status(daemon)["ready"], 10, "it is ready")
    lab.remove_bridge()
    try:
        wait_for(lambda: status(daemon)["not_ready"] == ["no guest device is there: br-guest"], 10, "it says so")
        assert not status(daemon)["ready"]
    finally:
        lab.add_bridge()
    wait_for(lambda: status(daemon)["ready"], 15, "it is ready again")
