"""The part of `make bench` about forwarding: how many small packets a second pass from guests to the internet through
the router with our table, where time is sold and where bytes are, as a part of those that pass through a plain one.

A plain router is the same lab with the same base firewall, a rule that lets guests out in the place of ours, and no
daemon. The three labs send the same frames, smallest Ethernet ones of as many stations as there are sessions, each
with an established connection; they take turns in short rounds, and the best round of each counts. What arrives is
counted by the internet's interface, and thrown away there before its network stack.

Between veth devices a packet is forwarded within the system call that sends it. So a packet's time is that of all the
way, and the ratio with a budget is that of packets a second. It holds what the sender itself and a link take, as a
real router's holds its drivers. That share is measured over a link whose other end throws every packet away, and the
rows without a budget are what is left without it: the router's own work.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess

from .bench_sessions import mac
from .bench_table import Row, say, tried
from .daemon import Daemon, Mint
from .internet import HOST4, MINT4
from .namespaces import BRIDGE, Lab
from .place import wait_for

COUNTS = 1, 250, 1000
ROUNDS = 60
PACKETS = 5_000
"""In one round."""
BUDGETS = {"time": ("100h", 0.68), "bytes": ("100GB", 0.6)}
"""By what is sold: each session's allotment, and the least part of a plain router's rate. The goals are 0.75 and 0.65;
what is missing is the price of three promises: that paying opens the internet only (`closed4`), that a mark which
another program set opens nothing (`paid_at` once more in forward), and that one which another program took away cuts
nobody off (`tg_late`)."""
PAYLOAD = 18
"""Of a smallest Ethernet frame, which is 64 bytes with its checksum."""
FRAME = 14 + 20 + 8 + PAYLOAD
AT_ONCE = 50
"""First packets that the lab's echo server is sent before it is waited for."""
PACKET_QDISC_BYPASS = 20

PLAIN = f'add rule inet fw4 forward iifname "{BRIDGE}" oifname "wan" accept\n'
# The answers make connections established; nobody needs them any further.
ANSWERED = """
table inet answered {
	chain in {
		type filter hook prerouting priority mangle; policy accept;
		iifname "wan" udp sport 443 drop
	}
}
"""


class Track:
    """A lab in which stations send: each with a session of `allotment`, or through a plain router."""

    def __init__(self, stack: contextlib.ExitStack, allotment: str | None) -> None:
        self.lab = stack.enter_context(Lab(guests=1))
        self.allotment, self.sessions = allotment, 0
        self.lab.router.ip(f"addr add 10.77.0.1/16 dev {BRIDGE}\n")
        self.lab.internet.nft(discard_at("eth0"))
        self.lab.guest.ip_script("link add near type veth peer name far", "link set near up", "link set far up")
        self.lab.guest.nft(discard_at("far"))
        if allotment is None:
            self.lab.router.nft(PLAIN)
        else:
            self.daemon = stack.enter_context(
                Daemon(self.lab, [Mint(f"http://{MINT4}:9")], main={"log_level": "info"})
            )
        self.out, self.discarded = (stack.enter_context(self._sender(device)) for device in ("eth0", "near"))

    def _sender(self, device: str) -> socket.socket:
        sock = self.lab.guest.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.setsockopt(263, PACKET_QDISC_BYPASS, 1)  # SOL_PACKET
        sock.bind((device, 0))
        return sock

    def prepare(self, count: int) -> None:
        """So many sessions, each with an established connection, and the frames that belong to it."""
        for number in range(self.sessions, count if self.allotment else 0):
            answer = self.daemon.control({"command": "grant", "args": [mac(number), self.allotment]})
            assert answer["ok"], answer
            say(f"session {number + 1} of {count}, by {self.allotment}")
        self.sessions = count
        with open(self.lab.path("frames"), "wb") as file:
            file.writelines(frame(number, PAYLOAD) for number in range(count))
        self.lab.router.nft(ANSWERED)
        for first in range(0, count, AT_ONCE):
            last = min(first + AT_ONCE, count)
            wait_for(lambda: self._established(first, last), what="connections are established", every=0.1)
        self.lab.router.nft("delete table inet answered\n")

    def _established(self, first: int, last: int) -> bool:
        seen = self.lab.router.run(["conntrack", "-L", "-p", "udp"]).out.splitlines()
        answered = {line.split("src=")[1].split()[0] for line in seen if "UNREPLIED" not in line and "src=" in line}
        missing = [number for number in range(first, last) if address(number) not in answered]
        for number in missing:
            self.out.send(frame(number, PAYLOAD + 2))
        return not missing

    def forward(self) -> float:
        """Seconds for a packet that arrived."""
        return self._send(self.out, lambda: packets(self.lab.internet, "eth0"))

    def discard(self) -> float:
        """Seconds that a packet costs the sender and a link."""
        return self._send(self.discarded, lambda: packets(self.lab.guest, "far"))

    def _send(self, sock: socket.socket, arrived) -> float:
        before = arrived()
        argv = [sender(), self.lab.path("frames"), str(FRAME), str(PACKETS)]
        took = int(subprocess.run(argv, stdin=sock, stdout=subprocess.PIPE, check=True).stdout) / 1e9
        counted = arrived() - before
        if counted < 0.9 * PACKETS:
            raise RuntimeError(f"{counted} of {PACKETS} packets arrived")
        return took / min(counted, PACKETS)


def forwarding() -> list[Row]:
    with contextlib.ExitStack() as stack:
        plain = Track(stack, None)
        tracks = {sold: Track(stack, allotment) for sold, (allotment, _) in BUDGETS.items()}
        rows: list[Row] = []
        for count in COUNTS:
            for track in (plain, *tracks.values()):
                track.prepare(count)
            rows += tried(lambda: in_turn(count, plain, tracks))
    return rows


def in_turn(count: int, plain: Track, tracks: dict[str, Track]) -> list[Row]:
    measures = {
        "sender": plain.discard,
        "plain": plain.forward,
        **{sold: track.forward for sold, track in tracks.items()},
    }
    took: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(ROUNDS):
        for name, measure in measures.items():
            took[name].append(measure())
        say(f"{count} sessions: round {number + 1} of {ROUNDS}")
    best = {name: min(times) for name, times in took.items()}
    sender = best.pop("sender")
    us = " / ".join(f"{1e6 * (seconds - sender):.2f}" for seconds in best.values())
    rows = [Row(f"a small packet, sessions: {count:,}; plain router / time sold / bytes sold", f"{us} us")]
    for sold, (_, budget) in BUDGETS.items():
        rate = best["plain"] / best[sold]
        work = (best["plain"] - sender) / (best[sold] - sender)
        rows.append(
            Row(
                f"... of a plain router's packets a second, {sold} sold, sessions: {count:,}",
                f"{rate:.2f} x",
                f"{budget} x",
                rate >= budget,
            )
        )
        rows.append(Row(f"... the same without the sender's {1e6 * sender:.2f} us for each", f"{work:.2f} x"))
    return rows


def frame(number: int, payload: int) -> bytes:
    """From this station to the internet's echo."""
    head = (
        struct.pack(">BBHHHBBH", 0x45, 0, 28 + payload, 0, 0x4000, 64, 17, 0)
        + socket.inet_aton(address(number))
        + socket.inet_aton(HOST4)
    )
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    ethernet = bytes.fromhex("0200000000fe" + mac(number).replace(":", "")) + b"\x08\x00"
    return ethernet + head + struct.pack(">HHHH", 5000, 443, 8 + payload, 0) + bytes(payload)


def address(number: int) -> str:
    return f"10.77.{1 + (number >> 8)}.{number & 255}"


def packets(space, device: str) -> int:
    """What the device has received so far."""
    link, = json.loads(space.run(["ip", "-s", "-j", "link", "show", device]).out)
    return link["stats64"]["rx"]["packets"]


def discard_at(device: str) -> str:
    """nft's script for throwing the frames away as they come in."""
    return f"""
        table netdev discard {{
            chain in {{
                type filter hook ingress device "{device}" priority -500; policy accept;
                ip length {FRAME - 14} ip daddr {HOST4} drop
            }}
        }}
    """


def sender() -> str:
    """Built by `make bench`."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.path.join(root, "target", "debug", "examples", "packets")
