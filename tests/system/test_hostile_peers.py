"""Peers that send without end, or what is small on the wire and large in memory: the daemon, which has one thread and
few MiB, serves everybody else as ever.
"""

import contextlib
import socket
import threading
import time

from lab.daemon import Daemon, Mint
from lab.fault_mint import FaultMint
from lab.guest import ROUTER4
from lab.internet import MINT4
from lab.payers import Purse, assert_session, pay, usage
from lab.place import wait_for

STEP = 60_000
VENUE = {"step_size": STEP, "max_steps": 1000}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 1 << 20


class Endless:
    """A mint whose answer to any request begins with `head` and goes on with `more`, until nobody reads it. `read` is
    how much was taken at most.
    """

    def __init__(self, place, head: bytes, more: bytes) -> None:
        self.head, self.more, self.read, self.ends = head, more, 0, 0
        self.listener = place.listen(MINT4)
        self.url = f"http://{MINT4}:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.answer(self.listener.accept()[0])

    def answer(self, sock: socket.socket) -> None:
        sent = 0
        with sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            sock.recv(65536)
            sock.sendall(self.head)
            while True:
                sock.sendall(self.more)
                sent += len(self.more)
                self.read = max(self.read, sent)
        self.ends += 1

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_answers_without_end_are_not_read_to_it_and_hold_up_nobody(lab, stranger):
    peers = [
        Endless(lab.internet, b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 300),
        Endless(lab.internet, CHUNKED + b"1;", b"x" * 16384),
        Endless(lab.internet, CHUNKED, b"1\r\n \r\n" * 3000),
        Endless(lab.internet, CHUNKED + b"1\r\n{\r\n0\r\n", b"X-A: b\r\n" * 2000),
    ]
    with (
        FaultMint(lab.internet, MINT4) as mint,
        Daemon(lab, [Mint(one.url) for one in (mint, *peers)], venue=VENUE, name="endless") as daemon,
    ):
        token = Purse(lab, mint).token(2)
        assert_session(pay(stranger, token)[0], 2 * STEP)
        wait_for(lambda: all(peer.ends for peer in peers), 40, "nobody reads them any more")
        # What is on its way stands in the buffers of the network.
        assert max(peer.read for peer in peers) < 16 * MIB
        assert "/" in usage(stranger) and daemon.running
    lab.clean_router()
    for peer in peers:
        peer.close()


class Bulky(FaultMint):
    """Describes itself in a MiB of the smallest values."""

    def _info(self, *asked) -> dict:
        info = super()._info(*asked)
        info["nuts"]["99"] = [[0]] * 195_000
        return info


def test_an_answer_of_very_many_values_is_not_taken_into_memory(lab):
    with FaultMint(lab.internet, MINT4) as mint, Bulky(lab.internet, MINT4) as bulky:
        with Daemon(lab, [Mint(mint.url), Mint(bulky.url)], venue=VENUE, name="bulky") as daemon:
            mints = lambda: {one["url"]: one for one in daemon.status()["data"]["mints"]}  # noqa: E731
            wait_for(lambda: mints()[bulky.url]["last_error"], 20, "its answer is none")
            memory = daemon.process.memory_kib()
            assert memory["VmHWM"] - memory["VmRSS"] < 6000, memory
        lab.clean_router()


def test_unfinished_heads_of_many_take_little_memory_and_keep_nobody_out(lab, stranger, other_stranger):
    with (
        FaultMint(lab.internet, MINT4) as mint,
        Daemon(lab, [Mint(mint.url)], venue=VENUE, main={"guest_connections": 1000}, name="heads") as daemon,
    ):
        usage(stranger)
        before = daemon.process.memory_kib()["VmRSS"]
        head = b"GET /usage HTTP/1.1\r\nHost: x\r\n" + b"".join(
            b"X-%d: %s\r\n" % (number, b"a" * 500) for number in range(30)
        )
        with contextlib.ExitStack() as held:
            started = time.monotonic()
            for _ in range(500):
                sock = held.enter_context(stranger.connect(ROUTER4, 2121))
                with contextlib.suppress(OSError):
                    sock.sendall(head)
            took, memory = time.monotonic() - started, daemon.process.memory_kib()["VmRSS"]
            assert usage(other_stranger) == "-1/-1"
            assert memory - before < 8000, (took, before, memory)
        assert "/" in usage(stranger)
    lab.clean_router()
