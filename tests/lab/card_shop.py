"""A router whose cards are paid for by a Lightning node's stand-in on its own loopback, and a till that takes them.

	with CardShop(lab) as shop:
		card = shop.card(tx_max=1000)
		shop.spend(card, shop.invoice(21))      # {"status": "OK"}
"""

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from . import http_client
from .bolt_card import BoltCard
from .daemon import ADMIN_PORT, Daemon, Mint
from .http_client import Answer
from .http_server import Request
from .internet import MINT4
from .invoices import Made, make
from .peers.node import Payment
from .peers.phoenixd import Phoenixd
from .place import PATIENCE, wait_for

LOOPBACK = "127.0.0.1"
CARD_PORT = 2124
DOMAIN = "cards.example.com"


class CardNode(Phoenixd):
    """`asked` is every order to pay, in turn. What `when` is given is done at a moment of the next one: `arrived`,
    `done`, `answered`.
    """

    def __init__(self, *where, **how) -> None:
        self.asked: list[str] = []
        self.moment: tuple[str, object, threading.Event] | None = None
        super().__init__(*where, **how)

    def when(self, moment: str, act) -> threading.Event:
        happened = threading.Event()
        self.moment = (moment, act, happened)
        return happened

    def handle(self, request: Request) -> None:
        pays = request.path == "/payinvoice"
        if pays:
            self._reached("arrived")
        super().handle(request)
        if pays:
            self._reached("answered")

    def pay(self, invoice: str) -> Payment | None:
        self.asked.append(invoice)
        payment = super().pay(invoice)
        self._reached("done")
        return payment

    def _reached(self, moment: str) -> None:
        if self.moment and self.moment[0] == moment:
            (_, act, happened), self.moment = self.moment, None
            act()
            happened.set()


@dataclass
class Order:
    """A card in the making: the link for the app, and its code."""

    card_id: int
    url: str

    @property
    def path(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.path}?{parts.query}"


class CardShop:
    """`card` are options of the section of that name."""

    def __init__(
        self,
        lab,
        *,
        name: str = "cards",
        main: dict | None = None,
        card: dict | None = None,
        node: type[CardNode] = CardNode,
    ) -> None:
        self.lab = lab
        self.node = node(lab.router, LOOPBACK)
        sections = {
            "card": {"domain": DOMAIN, "network": "regtest", **(card or {})},
            "lightning": self.lightning(self.node),
        }
        self.daemon = Daemon(lab, [Mint(f"http://{MINT4}:9")], main=main, sections=sections, name=name)

    def __enter__(self) -> "CardShop":
        self.daemon.start()
        return self

    def __exit__(self, *_) -> None:
        self.daemon.kill()
        self.lab.clean_router()
        self.node.close()

    def lightning(self, node: Phoenixd) -> dict:
        """The section that has this node pay."""
        return {"type": "phoenixd", "url": node.url, "password_file": self.secret("phoenixd", Phoenixd.password)}

    def secret(self, name: str, content: str) -> str:
        path = self.lab.path(name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)
        return path

    # The operator

    @property
    def token(self) -> str:
        with open(os.path.join(self.daemon.state_dir, "admin.token")) as file:
            return file.read().strip()

    def api(self, method: str, path: str, body=None, authorization: str | None = None) -> Answer:
        headers = {"Authorization": authorization or f"Bearer {self.token}"}
        return http_client.exchange(
            self.lab.router.connect(LOOPBACK, ADMIN_PORT), method, path, "localhost", headers, body
        )

    def order(self, tx_max: int = 1000, day_max: int = 100_000, name: str = "Alice", **more) -> Order:
        made = self.api(
            "POST", "/api/createboltcard", {"card_name": name, "tx_max": tx_max, "day_max": day_max, **more}
        )
        assert made.status == 200, made.text
        return Order(made.json()["card_id"], made.json()["url"])

    def card(self, tx_max: int = 1000, day_max: int = 100_000, **more) -> BoltCard:
        """A card that an app has programmed."""
        return BoltCard(self.get(self.order(tx_max, day_max, **more).path).json())

    def show(self, card: BoltCard) -> dict:
        return self.api("GET", f"/admin/cards/{card.id}").json()

    def do(self, card: BoltCard, action: str, body=None) -> dict:
        done = self.api("POST", f"/admin/cards/{card.id}/{action}", body)
        assert done.status == 200, done.text
        return done.json()

    def history(self, card: BoltCard) -> list[dict]:
        return self.api("GET", f"/admin/cards/{card.id}/history").json()

    def states(self, card: BoltCard) -> list[str]:
        """Of its taps, newest first."""
        return [line["state"] for line in self.history(card)]

    def wait_for_states(self, card: BoltCard, *states: str, limit: float = 15.0) -> None:
        wait_for(
            lambda: self.states(card) == list(states),
            limit,
            f"the history shows {states}; it shows {self.states(card)}",
            every=0.1,
        )

    def wait_for_pending(self, *sold: tuple[BoltCard, Made]) -> None:
        """The node has each card's payment and has not ended it. Histories say so from when it is about to be sent."""
        for card, invoice in sold:
            wait_for(lambda: self.node.has(invoice.payment_hash), 15, "the node has the payment")
            self.wait_for_states(card, "pending")

    def kill(self) -> None:
        """`kill -9` of the daemon; what it had sent until then has arrived at its node and is dealt with."""
        self.daemon.kill()
        self.node.wait_quiet()

    # The till

    def get(self, path: str, headers: dict[str, str] | None = None, method: str = "GET", body=None) -> Answer:
        return http_client.exchange(
            self.lab.router.connect(LOOPBACK, CARD_PORT, 30), method, path, DOMAIN, headers, body
        )

    def ask(self, path: str) -> dict:
        """An LNURL answer: HTTP 200 and JSON, whatever it says."""
        answer = self.get(path)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer
        return answer.json()

    def tap(self, card: BoltCard) -> dict:
        return self.ask(card.path())

    def k1(self, card: BoltCard) -> str:
        return self.tap(card)["k1"]

    def callback(self, k1: str, pr: str) -> dict:
        return self.ask(callback_path(k1, pr))

    def spend(self, card: BoltCard, invoice: Made) -> dict:
        return self.callback(self.k1(card), invoice.request)

    def begin(self, card: BoltCard, invoice: Made) -> "Waiting":
        """A payment that the till waits for while the test goes on."""
        return Waiting(self, callback_path(self.k1(card), invoice.request))

    def invoice(self, sats: int = 21, **how) -> Made:
        """One that the node can pay."""
        made = make(sats, **how)
        self.node.know(made.request, made.payment_hash, made.preimage, how.get("msat", sats * 1000))
        return made

    def at_once(self, paths: list[str]) -> list[dict]:
        """The answers to requests that are all complete at the same moment: each waits for its last byte, and all get
        it then.
        """
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(self.lab.router.connect(LOOPBACK, CARD_PORT, 30)) for _ in paths]
            for sock, path in zip(socks, paths):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r".encode())
            for sock in socks:
                sock.sendall(b"\n")
            return [_answer_of(sock) for sock in socks]


class Waiting:
    """A till that waits: its question is out; `seconds` is how long the answer took."""

    def __init__(self, shop: CardShop, path: str) -> None:
        self._began, self._shop, self._path = time.monotonic(), shop, path
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self._answer = self._shop.ask(self._path)
        except OSError as error:
            self._answer = error
        self.seconds = time.monotonic() - self._began

    def answer(self, limit: float = PATIENCE) -> dict:
        self._thread.join(limit)
        if self._thread.is_alive():
            raise TimeoutError(f"the till has no answer after {limit} s")
        if isinstance(self._answer, OSError):
            raise self._answer
        return self._answer


def callback_path(k1: str, pr: str) -> str:
    return f"/ln/callback?k1={k1}&pr={pr}"


def _answer_of(sock: socket.socket) -> dict:
    answer = Answer(0)
    data = b""
    while more := sock.recv(65536):
        data += more
    head, _, answer.body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), data
    return answer.json()
