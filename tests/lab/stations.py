"""Many stations that one guest makes up: a MAC and an IPv6 address each, all at once, as a laptop with a program for
it can.
"""

import contextlib
import json
import resource
import socket
import threading
import time

from .guest import ROUTER4, ROUTER6, Guest
from .place import PATIENCE
from .websocket import PING as PING_OPCODE
from .websocket import TEXT

MAC, IP6 = "02:00:05:00:{:02x}:{:02x}", "fd77::5:{:x}"


def allow_many_files() -> None:
    """For this process, and the daemon that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))


class Stations:
    """`count` of them behind the guest's link. Sockets that were opened here are closed at the end."""

    def __init__(self, guest: Guest, count: int) -> None:
        self.guest, self.count = guest, count
        self.sockets: list[socket.socket] = []
        self.failed: list[OSError] = []
        """Why connections could not be made."""
        self.flooded = 0
        """Bytes that `flood` has sent."""
        self._over = threading.Event()

    def __enter__(self) -> "Stations":
        allow_many_files()
        self.guest.ip_script(
            *(
                line
                for number in range(self.count)
                for line in (
                    (
                        f"link add link eth0 name up{number} address {MAC.format(number >> 8, number & 255)} type "
                        "macvlan mode bridge"
                    ),
                    f"link set up{number} up",
                    f"addr add {IP6.format(number)}/128 dev up{number} nodad",
                    f"route add {ROUTER6}/128 dev up{number} metric {2000 + number} src {IP6.format(number)}",
                )
            )
        )
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        for sock in self.sockets:
            sock.close()
        self.guest.ip_script(*(f"link del up{number}" for number in range(self.count)))

    def connect(self, number: int, port: int = 2121) -> socket.socket:
        """A connection of this station to the router."""
        sock = self.guest.socket(socket.AF_INET6)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, f"up{number}".encode())
        sock.settimeout(PATIENCE)
        try:
            sock.connect((ROUTER6, port))
        except BaseException:
            sock.close()
            raise
        self.sockets.append(sock)
        return sock

    def send(self, number: int, data: bytes, port: int = 2121) -> None:
        """A connection that says this and no more, whatever becomes of it; what does not go out at once is not
        sent.
        """
        try:
            sock = self.connect(number, port)
        except OSError as error:
            self.failed.append(error)
            return
        with contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.send(data)

    def repeat(self, data: bytes, every: float) -> None:
        """All connections that are open say this again and again, until the end."""
        def run() -> None:
            while not self._over.wait(every):
                for sock in self.sockets:
                    with contextlib.suppress(OSError):
                        sock.setblocking(False)
                        sock.send(data)

        threading.Thread(target=run, daemon=True).start()

    def flood(self, frames: bytes) -> None:
        """All connections that are open say these whole frames over and over, as fast as they are taken, until the
        end. Nobody reads the answers.
        """
        said = dict.fromkeys(self.sockets, 0)

        def run() -> None:
            while not self._over.wait(0.001):
                for sock, at in list(said.items()):
                    try:
                        sock.setblocking(False)
                        sent = sock.send(frames[at:])
                    except BlockingIOError:
                        continue
                    except OSError:
                        del said[sock]
                        continue
                    said[sock] = (at + sent) % len(frames)
                    self.flooded += sent

        threading.Thread(target=run, daemon=True).start()


# What they do. What becomes of a single connection does not matter to them.

# Path, the length that is announced, and how much of it comes.
BODIES = [
    ("/", 1_000_000, 8_000),
    ("/", 100_000, 90_000),
    ("/ecash", 100_000, 90_000),
    ("/pay", 16_000, 15_000),
    ("/card", 16_000, 15_000),
    ("/mint-requests", 16_000, 15_000),
    ("/ticket", 16_000, 15_000),
    ("/ln-invoice", 16_000, 15_000),
    ("/new", 16_000, 15_000),
    ("/nowhere", 1_000_000, 90_000),
]
_TEXT = json.dumps({"type": "ping"}).encode()
PING = bytes([0x80 | TEXT, 0x80 | len(_TEXT)]) + bytes(4) + _TEXT
"""A frame with the message of an existing client."""

PING_FRAME = bytes([0x80 | PING_OPCODE, 0x80 | 125]) + bytes(4 + 125)
"""The protocol's own, as long as it may be."""

UPGRADE = (f"GET /mint-proxy HTTP/1.1\r\nHost: [{ROUTER6}]:2121\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode()


def head_of(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {ROUTER4}:2121\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def begin_bodies(many: Stations, each: int) -> None:
    """On every route that takes a body."""
    for number in range(many.count * each):
        path, length, come = BODIES[number % len(BODIES)]
        many.send(
            number % many.count,
            head_of(path, length) + b"A" * come,
            2122 if path in ("/mint-requests", "/ticket") else 2121,
        )


def say_one_byte(many: Stations, each: int) -> None:
    """On every port."""
    for number in range(many.count * each):
        many.send(number % many.count, b"G", (2121, 2122, 2123)[number % 3])


def upgrade(many: Stations, number: int) -> None:
    """A WebSocket, whose answer nobody waits for."""
    many.send(number, UPGRADE)


def peak_kib(daemon) -> int:
    """What the daemon has had resident at most since `forget_peak`."""
    return daemon.process.memory_kib()["VmHWM"]


def forget_peak(daemon) -> int:
    """Begins to look for the peak anew; what is resident now (KiB)."""
    time.sleep(0.2)
    with open(f"/proc/{daemon.process.host_pid}/clear_refs", "w") as file:
        file.write("5")
    return daemon.process.memory_kib()["VmRSS"]
