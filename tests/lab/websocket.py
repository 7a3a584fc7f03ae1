"""WebSocket frames (RFC 6455) over a socket of ours: for guests, who may also send what no library would, and for
the test mint. Text in and out; pings are answered; everything else is the test's to see. Standard library only."""

import base64
import hashlib
import json
import os
import socket
import struct
import threading

from .place import PATIENCE

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class Refused(Exception):
    """The server answered the upgrade with something else than 101."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"upgrade refused with {status}: {body[:200]!r}")
        self.status = status
        self.body = body


class Closed(Exception):
    """The peer closed; `code` is its close code, or None when the connection just ended."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(f"closed by the peer ({code} {reason})")
        self.code = code
        self.reason = reason


class WebSocket:
    def __init__(self, sock: socket.socket, client: bool, received: bytes = b"") -> None:
        self.sock = sock
        self.client = client
        self.buffer = received
        self.sending = threading.Lock()

    @classmethod
    def connect(
        cls,
        sock: socket.socket,
        path: str,
        host: str,
        origin: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> "WebSocket":
        """Upgrades a connected socket; `Refused` when the server will not."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        if origin is not None:
            lines.append(f"Origin: {origin}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head, rest = read_head(sock)
        status = int(head.split(" ", 2)[1])
        if status != 101:
            raise Refused(status, read_body(sock, head, rest))
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        if f"sec-websocket-accept: {accept}".lower() not in head.lower():
            raise Refused(status, b"wrong Sec-WebSocket-Accept")
        return cls(sock, True, rest)

    @classmethod
    def accept(cls, sock: socket.socket, key: str) -> "WebSocket":
        """Server side, once the request has been read and is an upgrade with this key."""
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        sock.sendall(
            (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
            ).encode()
        )
        return cls(sock, False)

    def send(self, message: dict | list | str | bytes) -> None:
        """A dict or list goes as JSON text, a str as text, bytes as a binary frame."""
        if isinstance(message, bytes):
            self.send_frame(BINARY, message)
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            self.send_frame(TEXT, text.encode())

    def send_frame(self, opcode: int, payload: bytes = b"", final: bool = True, masked: bool | None = None) -> None:
        """Any frame, also a wrong one; `masked` defaults to what the role requires."""
        masked = self.client if masked is None else masked
        head = bytes([(0x80 if final else 0) | opcode])
        flag = 0x80 if masked else 0
        if len(payload) < 126:
            head += bytes([flag | len(payload)])
        elif len(payload) < 1 << 16:
            head += bytes([flag | 126]) + struct.pack(">H", len(payload))
        else:
            head += bytes([flag | 127]) + struct.pack(">Q", len(payload))
        if masked:
            mask = os.urandom(4)
            whole = int.from_bytes(mask * (len(payload) // 4 + 1), "big") >> (8 * (4 - len(payload) % 4))
            payload = (int.from_bytes(payload, "big") ^ whole).to_bytes(len(payload), "big")
            head += mask
        with self.sending:
            self.sock.sendall(head + payload)

    def receive(self, timeout: float = PATIENCE) -> str:
        """The next text message; pings are answered on the way. `TimeoutError`, `Closed`."""
        self.sock.settimeout(timeout)
        parts = b""
        while True:
            opcode, payload, final = self.receive_frame()
            if opcode == PING:
                self.send_frame(PONG, payload)
            elif opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else None
                raise Closed(code, payload[2:].decode(errors="replace"))
            elif opcode in (TEXT, BINARY, CONTINUATION):
                parts += payload
                if final:
                    return parts.decode()

    def receive_json(self, timeout: float = PATIENCE) -> dict:
        return json.loads(self.receive(timeout))

    def receive_frame(self) -> tuple[int, bytes, bool]:
        """The next frame of any kind: opcode, payload, last of its message. A time-out loses nothing."""
        self._need(2)
        first, second = self.buffer[0], self.buffer[1]
        length, start = second & 0x7F, 2
        if length == 126:
            self._need(4)
            length, start = struct.unpack(">H", self.buffer[2:4])[0], 4
        elif length == 127:
            self._need(10)
            length, start = struct.unpack(">Q", self.buffer[2:10])[0], 10
        if second & 0x80:
            start += 4
        self._need(start + length)
        payload = self.buffer[start : start + length]
        if second & 0x80:
            mask = self.buffer[start - 4 : start]
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.buffer = self.buffer[start + length :]
        return first & 0x0F, payload, bool(first & 0x80)

    def close(self, code: int = 1000) -> None:
        try:
            self.send_frame(CLOSE, struct.pack(">H", code))
        except OSError:
            pass
        self.sock.close()

    def _need(self, count: int) -> None:
        while len(self.buffer) < count:
            try:
                more = self.sock.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                raise Closed(None)
            self.buffer += more


def read_head(sock: socket.socket) -> tuple[str, bytes]:
    """The head of an HTTP message as text, and the bytes read beyond it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more or len(data) > 1 << 17:
            raise ConnectionError(f"no complete HTTP head: {data[:200]!r}")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def read_body(sock: socket.socket, head: str, data: bytes) -> bytes:
    """What belongs to the head, of which this has come with it."""
    lengths = [
        int(line.partition(":")[2]) for line in head.split("\r\n") if line.lower().startswith("content-length:")
    ]
    while len(data) < sum(lengths):
        more = sock.recv(65536)
        if not more:
            break
        data += more
    return data
