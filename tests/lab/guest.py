"""A guest: a phone on the gated network, as code. HTTP, WebSocket, raw TCP and UDP, DNS, DHCP, its own MAC and
addresses.
"""

import concurrent.futures
import contextlib
import os
import socket
import struct
import time
from dataclasses import dataclass

from . import http_client
from .http_client import Answer
from .place import PATIENCE, AgentLink, Space, wait_for
from .websocket import WebSocket

ROUTER4 = "192.168.77.1"
ROUTER6 = "fd77::1"


@dataclass
class Attempt:
    """How one try to reach something ended: `outcome` is `connected`, `refused`, `timeout` or `unreachable`."""

    outcome: str
    seconds: float


class Guest(Space):
    """Interface `eth0`, on the bridge of the router as `guest<n>`, addresses fixed until changed."""

    def __init__(self, agent: AgentLink, number: int) -> None:
        super().__init__(agent, f"guest{number}")
        self.number = number
        self.lives = 0
        self.mac = f"02:00:00:00:01:{number:02x}"
        # Behind the last address of the network come those that are free before the first guest's.
        self.ip = f"192.168.77.{2 + (8 + number) % 253}"
        self.ip6 = f"fd77::{10 + number:x}"

    # Who it is

    def configure(self, relink: bool = True) -> None:
        """Sets MAC and addresses as the attributes say, and the default routes through the router.

        `relink` takes the link away for a moment, as a phone does; the bridge may notice it late.
        """
        self.ip_script(
            *(["link set eth0 down"] if relink else []),
            f"link set eth0 address {self.mac}",
            "addr flush dev eth0",
            "link set eth0 up",
            f"addr add {self.ip}/24 dev eth0",
            f"addr add {self.ip6}/64 dev eth0 nodad",
            f"route replace default via {ROUTER4}",
            f"route replace default via {ROUTER6}",
        )
        if relink:
            wait_for(self._is_bridged, 5, "the bridge passes its packets")

    def _is_bridged(self) -> bool:
        """Also where there is no bridge."""
        port = Space(self.agent, "router").run(["cat", f"/sys/class/net/{self.name}/brport/state"], check=False)
        return port.code != 0 or port.out.strip() == "3"

    def ip_script(self, *lines: str) -> None:
        self.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n")

    def become(self, *, mac: str | None = None, ip: str | None = None, ip6: str | None = None) -> None:
        """Another MAC or other addresses, from now on. What is not named stays."""
        self.mac, self.ip, self.ip6 = mac or self.mac, ip or self.ip, ip6 or self.ip6
        self.configure()

    def become_stranger(self) -> "Guest":
        """A device that nobody here knows: a MAC never used before, addresses not used lately."""
        self.lives += 1
        self.mac = f"02:00:01:{self.number:02x}:{self.lives >> 8:02x}:{self.lives & 255:02x}"
        self.ip, self.ip6 = (
            f"192.168.77.{100 * self.number - 80 + self.lives % 100}",
            f"fd77::{self.number:x}:{self.lives:x}",
        )
        self.configure(relink=False)
        return self

    def leave(self) -> None:
        self.ip_script("link set eth0 down")

    def dhcp(self, timeout: float = PATIENCE) -> str:
        """Asks for an address by DHCP (and drops the fixed one); answers what it got, as udhcpc or dhclient say it."""
        self.run(["ip", "-4", "addr", "flush", "dev", "eth0"])
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "udhcpc.sh")
        out = self.run(
            ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "15", "-O", "114", "-s", script],
            timeout=timeout,
        ).out
        lease = dict(line.split("=", 1) for line in out.splitlines() if line.startswith(("ip=", "opt114=")))
        self.ip = lease["ip"]
        return out

    # What it does

    def get(self, url: str, headers: dict[str, str] | None = None, timeout: float = PATIENCE) -> Answer:
        return self.request("GET", url, headers=headers, timeout=timeout)

    def post(self, url: str, body=None, headers: dict[str, str] | None = None, timeout: float = PATIENCE) -> Answer:
        return self.request("POST", url, body=body, headers=headers, timeout=timeout)

    def request(
        self, method: str, url: str, *, body=None, headers: dict[str, str] | None = None, timeout: float = PATIENCE
    ) -> Answer:
        """One exchange. Names are resolved at the router, as a phone does; nothing is followed."""
        host, port, path, header = http_client.split_url(url)
        sock = self.connect(self.resolve(host), port, timeout)
        return http_client.exchange(sock, method, path, header, headers, body)

    def websocket(
        self, url: str, *, origin: str | None = None, headers: dict[str, str] | None = None, timeout: float = PATIENCE
    ) -> WebSocket:
        """`guest.websocket("ws://192.168.77.1:2121/mint-proxy")`; `websocket.Refused` when the upgrade is."""
        host, port, path, header = http_client.split_url(url)
        sock = self.connect(self.resolve(host), port, timeout)
        try:
            return WebSocket.connect(sock, path, header, origin, headers)
        except BaseException:
            sock.close()
            raise

    def try_tcp(self, host: str, port: int, timeout: float = 10.0) -> Attempt:
        started = time.monotonic()
        try:
            self.connect(host, port, timeout).close()
            outcome = "connected"
        except ConnectionRefusedError:
            outcome = "refused"
        except TimeoutError:
            outcome = "timeout"
        except OSError:
            outcome = "unreachable"
        return Attempt(outcome, time.monotonic() - started)

    def try_many_tcp(self, host: str, port: int, count: int, timeout: float = 10.0) -> list[Attempt]:
        """`count` connections at the same time."""
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.try_tcp(host, port, timeout), range(count)))

    def try_udp(self, host: str, port: int, payload: bytes = b"ping", timeout: float = 10.0) -> Attempt:
        """`connected` means that something was answered."""
        started = time.monotonic()
        with self.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            try:
                sock.connect((host, port))
                sock.send(payload)
                sock.recv(65536)
                outcome = "connected"
            except ConnectionRefusedError:
                outcome = "refused"
            except TimeoutError:
                outcome = "timeout"
            except OSError:
                outcome = "unreachable"
        return Attempt(outcome, time.monotonic() - started)

    def ping(self, host: str, timeout: float = 10.0) -> bool:
        """ICMP echoes over a raw socket, one a second, until one is answered."""
        six = ":" in host
        family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
        with self.socket(family, socket.SOCK_RAW, protocol) as sock:
            tag = os.urandom(8)
            head = struct.pack(">BBHHH", 128 if six else 8, 0, 0, os.getpid() & 0xFFFF, 1)
            checksum = 0 if six else _checksum(head + tag)  # the kernel fills the ICMPv6 one in
            deadline = time.monotonic() + timeout
            with contextlib.suppress(OSError):
                while (now := time.monotonic()) < deadline:
                    sock.sendto(head[:2] + struct.pack(">H", checksum) + head[4:] + tag, (host, 0))
                    again = min(deadline, now + 1)
                    with contextlib.suppress(TimeoutError):
                        while (left := again - time.monotonic()) > 0:
                            sock.settimeout(left)
                            data = sock.recv(2048)
                            data = data if six else data[(data[0] & 15) * 4 :]
                            if data[0] == (129 if six else 0) and data.endswith(tag):
                                return True
        return False

    def online(self, six: bool = False, timeout: float = 10.0) -> bool:
        """Whether bytes of the internet server really arrive here. Who may not gets an answer at once."""
        from .internet import HOST4, HOST6

        host = HOST6 if six else HOST4
        with contextlib.suppress(OSError):
            answer = self.get(f"http://{http_client.bracketed(host)}/bytes/2048", timeout=timeout)
            return answer.status == 200 and len(answer.body) == 2048
        return False

    def resolve(self, name: str, six: bool = False, server: str = ROUTER4, timeout: float = 10.0) -> str:
        """The first A (or AAAA) record, asked at the router; addresses come back as they are."""
        with contextlib.suppress(OSError):
            socket.inet_pton(socket.AF_INET6 if ":" in name else socket.AF_INET, name)
            return name
        kind = 28 if six else 1
        question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        number = os.urandom(2)
        with self.udp() as sock:
            sock.settimeout(timeout)
            sock.sendto(number + b"\1\0\0\1\0\0\0\0\0\0" + question + struct.pack(">HH", kind, 1), (server, 53))
            data = sock.recv(4096)
        count = struct.unpack(">H", data[6:8])[0]
        at = 12 + len(question) + 4
        for _ in range(count):
            while data[at] and data[at] < 0xC0:
                at += data[at] + 1
            at += 2 if data[at] >= 0xC0 else 1
            found, _, _, length = struct.unpack(">HHIH", data[at : at + 10])
            at += 10
            if found == kind:
                return socket.inet_ntop(socket.AF_INET6 if six else socket.AF_INET, data[at : at + length])
            at += length
        raise OSError(f"no such name: {name}")


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
