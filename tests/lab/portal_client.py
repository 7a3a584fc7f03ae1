"""A guest's side of the daemon's interfaces: the mint-proxy WebSocket and its REST fallback."""

from .guest import ROUTER4, Guest
from .http_client import Answer
from .place import PATIENCE
from .websocket import WebSocket

PORTAL = f"http://{ROUTER4}:2121"
MINT_PROXY = f"ws://{ROUTER4}:2121/mint-proxy"
MINT_PROXY_ALIAS = f"ws://{ROUTER4}:2122/mint-proxy"


class MintProxyError(Exception):
    def __init__(self, message: dict) -> None:
        super().__init__(f"{message.get('code')}: {message.get('message')}")
        self.code = message.get("code")
        self.body = message


class MintProxy:
    """One socket of a guest at `/mint-proxy`. `request` and `wait` answer the daemon's messages as they are."""

    def __init__(self, guest: Guest, url: str = MINT_PROXY, **options) -> None:
        self.socket: WebSocket = guest.websocket(url, **options)

    def __enter__(self) -> "MintProxy":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def send(self, message) -> None:
        self.socket.send(message)

    def receive(self, timeout: float = PATIENCE) -> dict:
        return self.socket.receive_json(timeout)

    def wait(self, kind: str, timeout: float = PATIENCE, request_id: str | None = None) -> dict:
        """The next message of this type (of this request); an `error` raises `MintProxyError` unless it is what is
        waited for.
        """
        while True:
            message = self.receive(timeout)
            if request_id is not None and message.get("request_id") not in (None, request_id):
                continue
            if message["type"] == kind:
                return message
            if message["type"] == "error":
                raise MintProxyError(message)

    def request(self, mint_url: str, amount: int, timeout: float = PATIENCE, **more) -> dict:
        """`mint_request`; answers `invoice_ready`."""
        self.send({"type": "mint_request", "mint_url": mint_url, "amount": amount, **more})
        return self.wait("invoice_ready", timeout)

    def close(self) -> None:
        self.socket.close()


def post_request(
    guest: Guest, mint_url: str, amount: int, port: int = 2121, timeout: float = PATIENCE, **more
) -> Answer:
    """`POST /mint-requests`."""
    body = {"mint_url": mint_url, "amount": amount, **more}
    return guest.post(f"http://{ROUTER4}:{port}/mint-requests", body, timeout=timeout)


def read_request(guest: Guest, request_id: str, port: int = 2121) -> Answer:
    """`GET /mint-requests/{id}`."""
    return guest.get(f"http://{ROUTER4}:{port}/mint-requests/{request_id}")
