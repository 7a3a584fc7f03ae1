"""A counter where cards are taken: what a guest sends and sees, and cards of the router's own."""

import re
from html import unescape
from urllib.parse import urlencode

from . import http_client
from .bolt_card import BoltCard, path_of
from .daemon import Daemon
from .guest import Guest
from .http_client import Answer
from .place import PATIENCE
from .portal_client import PORTAL

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CARD_PORT = 2124


def show(guest: Guest, link: str, **fields) -> Answer:
    """The portal's form, sent: `steps` and `mint`, or `r`."""
    return guest.post(f"{PORTAL}/card", urlencode({**fields, "link": link}).encode(), FORM, timeout=PATIENCE)


def look(guest: Guest, location: str) -> Answer:
    """A page of the portal."""
    return guest.get(PORTAL + location, {"Accept": "text/html"})


def said(answer: Answer) -> str:
    """What a page says above its form."""
    return unescape(" ".join(re.findall(r'<p class="notice">(.*?)</p>', answer.text, re.S)))


def own_card(daemon: Daemon, tx_max: int = 1000, day_max: int = 100_000) -> BoltCard:
    """A card of this router, programmed."""
    made = daemon.ask("card", "create", "Alice", "--tx-max", str(tx_max), "--day-max", str(day_max))["data"]
    sock = daemon.lab.router.connect("127.0.0.1", CARD_PORT)
    return BoltCard(http_client.exchange(sock, "GET", path_of(made["url"]), "cards").json())


def history(daemon: Daemon, card: BoltCard) -> list[dict]:
    return daemon.ask("card", "history", str(card.id))["data"]
