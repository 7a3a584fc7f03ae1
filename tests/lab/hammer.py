"""A guest that will not take no for an answer: packets to the internet without pause, for tests of what leaves
meanwhile.
"""

import contextlib
import socket
import threading
import time

from .guest import Guest
from .internet import HOST4, HOST6
from .place import wait_for


FAMILIES = ((socket.AF_INET, HOST4), (socket.AF_INET6, HOST6))
CS7 = 7 << 5


def mark(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CS7)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CS7)


class Hammer:
    """TCP and UDP, IPv4 and IPv6, old flows and new ones, about a thousand packets a second, until the block ends.

    `lab.hammered_packets()` counts what of it arrives.
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.sent = 0
        """Rounds of packets so far."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Hammer":
        self._thread.start()
        self.strike()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()

    def strike(self, rounds: int = 50) -> None:
        """Waits until so many more rounds are out."""
        target = self.sent + rounds
        wait_for(lambda: self.sent >= target, 10, "the guest sends")

    def _run(self) -> None:
        with contextlib.ExitStack() as flows:
            old = []
            for family, host in FAMILIES:
                sock = flows.enter_context(self.guest.socket(family, socket.SOCK_DGRAM))
                mark(sock)
                old.append((sock, host))
            while not self._over.is_set():
                for sock, host in old:
                    with contextlib.suppress(OSError):
                        sock.sendto(b"let me out", (host, 443))
                if self.sent % 8 == 0:
                    self._knock()
                self.sent += 1
                time.sleep(0.002)

    def _knock(self) -> None:
        for family, host in FAMILIES:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with self.guest.socket(family, kind) as sock, contextlib.suppress(OSError):
                    mark(sock)
                    sock.setblocking(False)
                    sock.connect_ex((host, 80 if kind == socket.SOCK_STREAM and self.sent % 16 else 443))
                    sock.send(b"let me out")
