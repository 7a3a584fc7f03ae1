"""A small HTTP/1.1 client over a socket of any place: follows nothing, sends what it is told, shows what came."""

import http.client
import json
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self):
        return json.loads(self.body)


class _Connection(http.client.HTTPConnection):
    def __init__(self, sock: socket.socket, host: str) -> None:
        super().__init__(host)
        self.sock = sock

    def connect(self) -> None:
        raise ConnectionError("the connection is over")


def exchange(
    sock: socket.socket, method: str, path: str, host: str, headers: dict[str, str] | None = None, body=None
) -> Answer:
    """One request on a connected socket, which is closed afterwards. A dict or list as `body` goes as JSON."""
    sent = {"Host": host, "Connection": "close", **(headers or {})}
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    connection = _Connection(sock, host)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            connection.putheader(name, value)
        if body is not None and "Content-Length" not in sent:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()
        sock.close()


def split_url(url: str) -> tuple[str, int, str, str]:
    """Host without brackets, port, path with query, and the text for the Host header."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "ws"):
        raise ValueError(f"not plain HTTP: {url}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.hostname or "", parts.port or 80, path, parts.netloc


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
