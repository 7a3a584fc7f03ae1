"""What the fault proxy and the test mint share: HTTP requests read from a listening socket of any place, one thread
per connection, and complete control over what goes back - including nothing at all."""

import contextlib
import json
import socket
import threading
from dataclasses import dataclass

from .place import Place, reset_on_close, wait_for
from .websocket import read_head

REASONS = {
    101: "Switching Protocols",
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    sock: socket.socket

    @property
    def upgrade(self) -> bool:
        return "websocket" in self.headers.get("upgrade", "").lower()

    def json(self):
        return json.loads(self.body or b"null")

    def answer(
        self, status: int, body=b"", content_type: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = [
            f"HTTP/1.1 {status} {REASONS.get(status, 'Whatever')}",
            f"Content-Length: {len(body)}",
            f"Content-Type: {content_type}",
        ]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


class Cut(Exception):
    """Raised by a handler: the connection is reset without another byte."""


class Server:
    """Calls `self.handle(request)` for each request; `close` and `open` take it away and bring it back on the same
    port.
    """

    def __init__(self, place: Place, host: str, port: int = 0) -> None:
        self.place, self.host, self.port = place, host, port
        self.connections: dict[socket.socket, tuple] = {}
        """Those that are open, and who is at their other end."""
        self.lock = threading.RLock()
        self.listener: socket.socket | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def handle(self, request: Request) -> None:
        raise NotImplementedError

    def open(self) -> None:
        with self.lock:
            if self.listener is None:
                self.listener = self.place.listen(self.host, self.port)
                self.port = self.listener.getsockname()[1]
                threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def close(self) -> None:
        """No listener, and every open connection reset: the machine is down."""
        with self.lock:
            listener, self.listener = self.listener, None
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset_connections()

    def reset_connections(self) -> None:
        with self.lock:
            open_now = list(self.connections)
        for sock in open_now:
            with contextlib.suppress(OSError):
                reset_on_close(sock)
                sock.shutdown(socket.SHUT_RDWR)

    def wait_quiet(self) -> None:
        """Until all that peers have sent is read and dealt with: for when they have just been killed, and send nothing
        more.
        """
        with self.place.connect(self.host, self.port) as last:
            # Connections are taken in turn: with this one here, none from before it waits at the door.
            wait_for(
                lambda: last.getsockname()[:2] in [peer[:2] for peer in list(self.connections.values())],
                5,
                "the door is empty",
            )
        wait_for(lambda: not self.connections, 5, "nothing is under way")

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            with self.lock:
                if self.listener is not listener:
                    # Closed in the moment in which it came.
                    reset_on_close(sock)
                    sock.close()
                    return
                self.connections[sock] = peer
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock: socket.socket) -> None:
        rest = b""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                request, rest = self._read(sock, rest)
                self.handle(request)
                if request.upgrade or request.headers.get("connection", "").lower() == "close":
                    return
        except Cut:
            with contextlib.suppress(OSError):
                reset_on_close(sock)
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.connections.pop(sock, None)
            sock.close()

    def _read(self, sock: socket.socket, data: bytes) -> tuple[Request, bytes]:
        if b"\r\n\r\n" in data:
            raw, _, rest = data.partition(b"\r\n\r\n")
            head = raw.decode("latin-1")
        else:
            head, rest = read_head(_Prefixed(sock, data))
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body, rest = _read_chunked(sock, rest)
        else:
            while len(rest) < length:
                more = sock.recv(65536)
                if not more:
                    raise ConnectionError("the body ended early")
                rest += more
            body, rest = rest[:length], rest[length:]
        return Request(method, path, headers, body, sock), rest


class _Prefixed:
    """A socket that first gives what was read before."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self.sock, self.data = sock, data

    def recv(self, count: int) -> bytes:
        data, self.data = self.data, b""
        return data or self.sock.recv(count)


def _read_chunked(sock: socket.socket, data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        while b"\r\n" not in data:
            data += _more(sock)
        size_text, _, data = data.partition(b"\r\n")
        size = int(size_text.split(b";")[0], 16)
        while len(data) < size + 2:
            data += _more(sock)
        body, data = body + data[:size], data[size + 2 :]
        if size == 0:
            return body, data


def _more(sock: socket.socket) -> bytes:
    more = sock.recv(65536)
    if not more:
        raise ConnectionError("the body ended early")
    return more
