"""The part of `make bench` about sessions that only run: what they cost the processor, 10 of them, 250 and 1,000."""

import socket
import struct
import time

from .bench_table import Row, cpu_seconds, say
from .daemon import Daemon, Mint
from .internet import HOST6, MINT4
from .namespaces import Lab
from .place import wait_for

COUNTS = 10, 250, 1000
SECONDS = 20


def sessions() -> list[Row]:
    """Every second one by bytes. Each guest has sent a packet, so that the kernel counts its address."""
    shares, made = [], 0
    with Lab(guests=1) as lab, Daemon(lab, [Mint(f"http://{MINT4}:9")], main={"log_level": "info"}) as daemon:
        for count in COUNTS:
            for number in range(made, count):
                answer = daemon.control({"command": "grant", "args": [mac(number), "1GB" if number % 2 else "1h"]})
                assert answer["ok"], answer
                say(f"session {number + 1} of {COUNTS[-1]}")
            made = count
            send_from_each(lab, count)
            wait_for(lambda: addresses(lab) >= count, 10, "the kernel knows every guest's address")
            time.sleep(3)
            say(f"{count} sessions run for {SECONDS} s")
            before = cpu_seconds(daemon, programs=True)
            time.sleep(SECONDS)
            shares.append((cpu_seconds(daemon, programs=True) - before) / SECONDS)
    few, some, many = shares
    growth = (many - few) / (some - few) * (COUNTS[1] - COUNTS[0]) / (COUNTS[2] - COUNTS[0])
    return [
        Row(f"{COUNTS[0]} sessions run: of a core", f"{100 * few:.3f} %"),
        Row(f"{COUNTS[1]} sessions run: of a core", f"{100 * some:.2f} %", "1 %", some < 0.01),
        Row(f"{COUNTS[2]:,} sessions run: of a core", f"{100 * many:.2f} %"),
        Row(
            f"what one of {COUNTS[2]:,} adds, against one of {COUNTS[1]}", f"{growth:.2f} x", "1.25 x", growth <= 1.25
        ),
    ]


def mac(number: int) -> str:
    return f"02:00:03:00:{number >> 8:02x}:{number & 255:02x}"


def send_from_each(lab: Lab, count: int) -> None:
    """A datagram to the internet with each one's MAC and IPv6 address."""
    router = bytes.fromhex("0200000000fe")
    with lab.guest.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        for number in range(count):
            source = socket.inet_pton(socket.AF_INET6, f"fd77::3:{number:x}")
            packet = struct.pack(">IHBB", 6 << 28, 8, 17, 64) + source + socket.inet_pton(socket.AF_INET6, HOST6)
            packet += struct.pack(">HHHH", 9, 9, 8, 1)
            sock.send(router + bytes.fromhex(mac(number).replace(":", "")) + b"\x86\xdd" + packet)


def addresses(lab: Lab) -> int:
    return lab.router.run(["nft", "list", "set", "inet", "tollgate", "ul6_at"]).out.count("fd77::3:")
