"""A proxy between the daemon and a mint that passes everything on until it is told to go wrong.

	proxy = FaultProxy(lab.internet, MINT4, upstream=mint.url)
	proxy.fault("/v1/mint/bolt11", cut_answer=True, times=1)     # the mint has signed, the daemon never hears of it

Faults are looked at in the order they were set; one with `times` is gone after so many requests. `seen` has every
request.
"""

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field

from . import http_client
from .http_server import Cut, Request, Server
from .place import Place, reset_on_close
from .websocket import CLOSE, TEXT, Closed, WebSocket


@dataclass
class Fault:
    path: str
    """Regular expression, searched in the request's path."""
    method: str | None = None
    times: int | None = None
    """How many requests it hits; None: until `clear`."""
    delay: float = 0.0
    """Seconds before the request goes on to the mint."""
    delay_answer: float = 0.0
    """Seconds before the mint's answer goes back."""
    until: threading.Event | None = None
    """The request goes on to the mint when this is set."""
    hang: float | None = None
    """The request goes nowhere; silence for so many seconds, then a reset."""
    cut_request: bool = False
    """Reset before the mint has seen it."""
    cut_answer: bool = False
    """The mint has done it; its answer is dropped and the connection reset."""
    status: int | None = None
    """Answer this, without asking the mint."""
    body: str | bytes = ""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    oversized: int | None = None
    """The mint's answer is replaced by 200 and so many bytes of JSON string."""
    truncate: int | None = None
    """So many bytes of the mint's answer, then a reset."""
    swallow_events: bool = False
    """WebSocket: what the mint sends is dropped, the connection stays."""
    cut_socket_after: int | None = None
    """WebSocket: reset after so many messages from the mint."""
    hits: int = 0


@dataclass
class Seen:
    method: str
    path: str
    status: int | None
    """None: no answer went back."""
    at: float


class FaultProxy(Server):
    def __init__(self, place: Place, host: str, port: int = 0, *, upstream: str) -> None:
        self.upstream_host, self.upstream_port, _, self.upstream_header = http_client.split_url(upstream)
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        super().__init__(place, host, port)

    def fault(self, path: str = "", **what) -> Fault:
        made = Fault(path, **what)
        with self.lock:
            self.faults.append(made)
        return made

    def clear(self) -> None:
        with self.lock:
            self.faults.clear()

    def count(self, path: str, method: str | None = None) -> int:
        with self.lock:
            return sum(1 for seen in self.seen if re.search(path, seen.path) and method in (None, seen.method))

    def handle(self, request: Request) -> None:
        fault = self._take(request)
        seen = Seen(request.method, request.path, None, time.monotonic())
        with self.lock:
            self.seen.append(seen)
        time.sleep(fault.delay)
        if fault.until:
            fault.until.wait()
        if fault.hang is not None:
            time.sleep(fault.hang)
            raise Cut
        if fault.cut_request:
            raise Cut
        if fault.status is not None:
            seen.status = fault.status
            return request.answer(fault.status, fault.body, fault.content_type, fault.headers)
        if request.upgrade:
            return self._pass_socket(request, fault, seen)
        try:
            answer = self._forward(request)
        except OSError:
            return request.answer(502, {"detail": "the mint is away"})
        time.sleep(fault.delay_answer)
        if fault.cut_answer:
            raise Cut
        if fault.oversized is not None:
            answer.body, answer.status = b'"' + b"x" * fault.oversized + b'"', 200
        if fault.truncate is not None:
            request.sock.sendall(
                (
                    f"HTTP/1.1 {answer.status} OK\r\nContent-Length: {len(answer.body)}\r\n"
                    "Content-Type: application/json\r\n\r\n"
                ).encode()
            )
            request.sock.sendall(answer.body[: fault.truncate])
            raise Cut
        seen.status = answer.status
        request.answer(answer.status, answer.body, answer.headers.get("content-type", "application/json"))

    def _take(self, request: Request) -> Fault:
        with self.lock:
            for fault in self.faults:
                if fault.method in (None, request.method) and re.search(fault.path, request.path):
                    fault.hits += 1
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self.faults.remove(fault)
                    return fault
        return Fault("")

    def _forward(self, request: Request) -> http_client.Answer:
        sock = self.place.connect(self.upstream_host, self.upstream_port)
        kept = {
            name: value
            for name, value in request.headers.items()
            if name not in ("host", "connection", "content-length", "transfer-encoding", "accept-encoding")
        }
        return http_client.exchange(
            sock, request.method, request.path, self.upstream_header, kept, request.body or None
        )

    def _pass_socket(self, request: Request, fault: Fault, seen: Seen) -> None:
        upstream = WebSocket.connect(
            self.place.connect(self.upstream_host, self.upstream_port), request.path, self.upstream_header
        )
        upstream.sock.settimeout(None)
        near = WebSocket.accept(request.sock, request.headers["sec-websocket-key"])
        seen.status = 101

        def to_mint() -> None:
            with contextlib.suppress(OSError, Closed):
                while True:
                    opcode, payload, final = near.receive_frame()
                    upstream.send_frame(opcode, payload, final)
            upstream.close()

        threading.Thread(target=to_mint, daemon=True).start()
        try:
            self._pass_messages(upstream, near, fault)
        finally:
            # The other thread still reads: closing alone would not end the connection.
            reset_on_close(request.sock)
            with contextlib.suppress(OSError):
                request.sock.shutdown(socket.SHUT_RDWR)
            upstream.close()

    def _pass_messages(self, upstream: WebSocket, near: WebSocket, fault: Fault) -> None:
        messages = 0
        with contextlib.suppress(Closed):
            while fault.cut_socket_after is None or messages < fault.cut_socket_after:
                opcode, payload, final = upstream.receive_frame()
                swallowed = fault.swallow_events and opcode == TEXT and b'"method"' in payload
                if not swallowed:
                    near.send_frame(opcode, payload, final)
                messages += opcode == TEXT
                if opcode == CLOSE:
                    return
