"""A Bolt Card in software: an NTAG 424 DNA (NXP AN12196) as the programmer apps write it. Nothing here is the
daemon's.

	card = BoltCard(shop.get("/new?a=...").json())
	card.tap()          # the link that a till reads off it
"""

import itertools
import os
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

LONGEST_BASE = 195
"""What of the link fits into the chip's file beside `p` and `c`."""
NUMBERS = itertools.count(1)


class AppRefuses(Exception):
    """What a programmer app shows instead of writing the card."""


class BoltCard:
    """`answer` is what the app read; it must be just what the apps take. A chip keeps its UID when it is programmed
    anew.
    """

    def __init__(self, answer: dict, uid: str | None = None) -> None:
        if answer.get("status") == "ERROR":
            raise AppRefuses(answer["reason"])
        base = answer.get("lnurlw_base") or answer.get("LNURLW")
        keys = [answer.get(f"k{number}") or answer.get(f"K{number}") for number in range(5)]
        if not base or not all(keys):
            raise AppRefuses("The JSON response must contain lnurlw_base, k0, k1, k2, k3, k4")
        if any(len(key) != 32 or key != key.lower() for key in keys) or len(base) > LONGEST_BASE:
            raise AppRefuses("a key or the link does not fit")
        # The apps find the places of p and c by their first occurrence.
        if "p=" in base or "c=" in base or not base.startswith("lnurlw://"):
            raise AppRefuses("the link would be cut to pieces")
        self.base, self.keys = base, [bytes.fromhex(key) for key in keys]
        self.random_uid = answer.get("uid_privacy") == "Y"
        self.uid = bytes.fromhex(uid) if uid else b"\x04" + next(NUMBERS).to_bytes(4, "big") + os.urandom(2)
        self.counter = 0

    @property
    def id(self) -> int:
        return int(parse_qs(urlsplit(self.base).query)["card_id"][0])

    def tap(self, counter: int | None = None) -> str:
        """The link, with the next counter; one given is not counted."""
        if counter is None:
            self.counter += 1
        p, c = message(self.keys[1], self.keys[2], self.uid, self.counter if counter is None else counter)
        return f"{self.base}{'&' if '?' in self.base else '?'}p={p}&c={c}"

    def path(self, counter: int | None = None) -> str:
        """What the till asks of the host for one more tap."""
        return path_of(self.tap(counter))


def path_of(link: str) -> str:
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


def message(k1: bytes, k2: bytes, uid: bytes, counter: int, tag: int = 0xC7) -> tuple[str, str]:
    """`p` and `c`, in capitals as chips write them."""
    mirrored = uid + counter.to_bytes(3, "little")
    plain = bytes([tag]) + mirrored + os.urandom(5)
    encryptor = Cipher(algorithms.AES(k1), modes.CBC(bytes(16))).encryptor()
    session = cmac(k2, bytes.fromhex("3cc300010080") + mirrored)
    return (encryptor.update(plain) + encryptor.finalize()).hex().upper(), cmac(session, b"")[1::2].hex().upper()


def cmac(key: bytes, data: bytes) -> bytes:
    made = CMAC(algorithms.AES(key))
    made.update(data)
    return made.finalize()
