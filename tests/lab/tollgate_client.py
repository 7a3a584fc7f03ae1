"""TollGate v1 as existing clients speak it: the captive portal site, the Android app, routers that buy from others.
They parse and compare what the real ones do, and raise where those would fail. Events are checked with libsecp256k1
and Python's own JSON."""

import base64
import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass

from coincurve import PrivateKey, PublicKeyXOnly

from .guest import ROUTER4, Guest
from .http_client import Answer
from .wallet import encode_token

TOLLGATE = f"http://{ROUTER4}:2121"
PORTAL_ORIGIN = f"http://{ROUTER4}:2051"
"""Where the captive portal site is served from: its own web server on the router."""
MILLION = 1 << 20


# Ecash as text


def token_v3(mint: str, proofs: list[dict], unit: str = "sat", **more) -> str:
    """`cashuA`: JSON, with padding, as cashu-ts wrote it."""
    content = {"token": [{"mint": mint, "proofs": proofs}], "unit": unit, **more}
    return "cashuA" + base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def token_v4(mint: str, proofs: list[dict], unit: str = "sat") -> str:
    """`cashuB` without the mint's evidence (DLEQ), as most clients write it."""
    return encode_token(
        mint, [{name: proof[name] for name in ("amount", "id", "secret", "C")} for proof in proofs], unit=unit
    )


# Nostr


def event_id(event: dict) -> str:
    canonical = [0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]
    return hashlib.sha256(json.dumps(canonical, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def check_event(event: dict) -> dict:
    """What a Go client checks before it reads anything: types, id and signature. Answers the event."""
    assert event.keys() == {"kind", "id", "pubkey", "created_at", "tags", "content", "sig"}
    assert type(event["kind"]) is int and type(event["created_at"]) is int and type(event["content"]) is str
    assert all(type(element) is str for tag in event["tags"] for element in tag), (
        "a number in a tag fails the whole parse in Go"
    )
    assert event["id"] == event_id(event)
    assert PublicKeyXOnly(bytes.fromhex(event["pubkey"])).verify(
        bytes.fromhex(event["sig"]), bytes.fromhex(event["id"])
    )
    return event


def sign_event(kind: int, tags: list[list[str]], content: str = "") -> dict:
    key = PrivateKey()
    event = {
        "kind": kind,
        "pubkey": key.public_key.format()[1:].hex(),
        "created_at": int(time.time()),
        "tags": tags,
        "content": content,
    }
    event["id"] = event_id(event)
    return event | {"sig": key.sign_schnorr(bytes.fromhex(event["id"]), aux_randomness=os.urandom(32)).hex()}


def tags_of(event: dict, name: str) -> list[list[str]]:
    return [tag[1:] for tag in event["tags"] if tag[0] == name]


def tag_of(event: dict, name: str) -> str:
    (values,) = tags_of(event, name)
    return values[-1]


# Clients, each with the decisions that the real one makes


@dataclass
class Price:
    mint: str
    price: int
    unit: str
    min_steps: int


class OfferNotice(Exception):
    def __init__(self, code: str, content: str) -> None:
        super().__init__(f"{code}: {content}")
        self.code, self.content = code, content


class PortalSite:
    """The captive portal site: a page of another port, so every request of it is cross-origin."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.headers = {"Origin": PORTAL_ORIGIN}
        self.failures = 0

    def fetch(
        self, method: str, path: str, body=None, headers: dict[str, str] | None = None, timeout: float = 15
    ) -> Answer:
        """As a browser: an answer that it may not read raises. A body of JSON is preceded by a preflight."""
        if isinstance(body, dict):
            asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
            preflight = self.guest.request("OPTIONS", TOLLGATE + path, headers=self.headers | asked)
            assert preflight.status in (200, 204) and self.may_read(preflight)
            assert method in preflight.headers["access-control-allow-methods"]
            assert "content-type" in preflight.headers["access-control-allow-headers"].lower()
        answer = self.guest.request(
            method, TOLLGATE + path, body=body, headers=self.headers | (headers or {}), timeout=timeout
        )
        assert self.may_read(answer), f"CORS: {answer.status} {answer.headers}"
        return answer

    @staticmethod
    def may_read(answer: Answer) -> bool:
        return answer.headers.get("access-control-allow-origin") == PORTAL_ORIGIN and "Origin" in answer.headers.get(
            "vary", ""
        )

    def load(self) -> dict:
        """What it does first: the offer, and who am I. Raises where it would show a white screen or an error. `prices`
        are then in the order in which it proposes them."""
        offer = self.fetch("GET", "/")
        assert offer.status == 200, "TG001"
        event = offer.json()
        if event["kind"] == 21023:
            raise OfferNotice(tag_of(event, "code"), event["content"])
        self.metric, self.step_size = tag_of(event, "metric"), int(tag_of(event, "step_size"))
        assert self.metric in ("bytes", "milliseconds"), "white screen"
        assert not (self.metric == "bytes" and 1024 <= self.step_size < MILLION), "white screen"
        self.prices = []
        for kind, price, unit, mint, min_steps in tags_of(event, "price_per_step"):
            assert kind == "cashu" and int(price) > 0 and mint, "white screen"
            assert int(min_steps) <= 1, "it shows a wrong price and a wrong allotment"
            self.prices.append(Price(mint, int(price), unit, int(min_steps)))
        self.prices.sort(key=lambda option: option.price)
        whoami = self.fetch("GET", "/whoami")
        assert whoami.status == 200, "TG002"
        kind, self.mac = whoami.text.strip().split("=")
        assert kind == "mac"
        self.offer = event
        return event

    def promised(self, amount: int, option: Price) -> int:
        """What it shows for an amount before paying."""
        return self.step_size * amount // option.price

    def buy(self, offer: dict, token: str) -> Answer:
        assert token.strip().startswith("cashu"), "CU02"
        tags = [["p", offer["pubkey"]], ["device-identifier", "mac", self.mac], ["payment", token]]
        return self.fetch("POST", "/", sign_event(21000, tags))

    @staticmethod
    def shown(answer: Answer) -> str:
        """What the site makes of a status."""
        return {200: "success", 402: "CU106"}.get(answer.status, "CU107")

    def poll(self) -> tuple[int, int] | None:
        """Used and total as it shows them; None where it shows "session expired", for good."""
        try:
            answer = self.fetch("GET", "/usage")
            assert answer.status == 200
        except (OSError, AssertionError):
            self.failures += 1
            return None if self.failures >= 2 else (0, 0)
        self.failures = 0
        used, _, total = answer.text.strip().partition("/")
        if answer.text.strip() == "-1/-1" or not used.isdigit() or not total.isdigit() or total == "0":
            return None
        return int(used), int(total)

    def balance_page(self) -> dict:
        """`/balance.html`, which asks its own origin."""
        answer = self.guest.get(TOLLGATE + "/balance", headers={"Accept": "*/*"})
        assert answer.status == 200, "Balance unavailable"
        body = answer.json()
        assert type(body["session_active"]) is bool and all(
            type(body[name]) is int for name in ("usage", "allotment", "remaining")
        )
        return body


class Reseller:
    """Another router that buys here: raw tokens, every signature checked, usage each second. `purse` makes tokens of a
    mint that it accepts itself, so much of them as `funds` says."""

    def __init__(
        self, guest: Guest, funds: dict[str, int] | None = None, purse=None, preferred: int = 0, offset: int = 0
    ) -> None:
        self.guest, self.funds, self.purse = guest, funds or {}, purse
        self.preferred, self.offset = preferred, offset
        self.allotment, self.log = 0, []

    def discover(self) -> dict:
        answer = self.guest.get(
            TOLLGATE + "/",
            headers={"User-Agent": "TollGate-Upstream-Detector/1.0", "Accept": "application/json"},
            timeout=10,
        )
        assert answer.status == 200 and 0 < len(answer.body) <= MILLION
        event = check_event(answer.json())
        assert event["kind"] == 10021
        self.metric, self.step_size = tag_of(event, "metric"), unsigned(tag_of(event, "step_size"))
        assert self.metric in ("bytes", "milliseconds") and self.step_size > 0
        prices = [values for values in tags_of(event, "price_per_step") if len(values) == 5]
        self.prices = [
            Price(mint, unsigned(price), unit, unsigned(min_steps)) for _, price, unit, mint, min_steps in prices
        ]
        assert self.prices, "no valid pricing options found"
        return event

    def choose(self) -> tuple[Price, int] | None:
        """The first price, in the order of the offer, of a mint of its own with enough funds; and the steps. URLs are
        compared as text.
        """
        for option in self.prices:
            steps = max(self.preferred // self.step_size, option.min_steps, 1)
            if self.funds.get(option.mint, 0) >= steps * option.price:
                return option, steps
        return None

    def usage(self) -> tuple[int, int]:
        answer = patiently(lambda: self.guest.get(TOLLGATE + "/usage", timeout=2))
        assert answer.status == 200
        used, allotment = answer.text.strip().split("/")
        return int(used), int(allotment)

    def tick(self) -> str:
        """One look at the usage and what follows from it. A payment that fails is no surprise to it: the token is
        taken back.
        """
        used, allotment = self.usage()
        used, allotment = (0, 0) if (used, allotment) == (-1, -1) else (used, allotment)
        assert used >= 0 and allotment >= 0, "it takes this for an error"
        did = "watching"
        if allotment == 0 and self.allotment > 0:
            did = "expired"
        self.allotment = allotment
        chosen = self.choose() if allotment - used <= self.offset else None
        if chosen:
            option, steps = chosen
            self.funds[option.mint] -= steps * option.price
            self.pay(self.purse(option.mint, steps * option.price))
            did = "bought" if allotment == 0 else "renewed"
        self.log.append(did)
        return did

    def pay(self, token: str) -> dict:
        answer = self.guest.post(TOLLGATE + "/", token.encode(), headers={"Content-Type": "text/plain"}, timeout=30)
        assert answer.status == 200, answer.text
        event = check_event(answer.json())
        assert event["kind"] == 1022 and unsigned(tags_of(event, "allotment")[0][0]) > 0
        return event


class AndroidApp:
    """Impatient, and reads only the `message` tag of a refusal."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def get(self, path: str) -> Answer:
        headers = {"Accept": "application/json"} if path == "/" else None
        return patiently(lambda: self.guest.get(TOLLGATE + path, headers=headers, timeout=4))

    def detect(self) -> dict | None:
        """Metric, step size, mints, and the last price, which it shows for all; None: this is no TollGate."""
        answer = self.get("/")
        event = answer.json() if answer.status == 200 else {}
        if event.get("kind") != 10021:
            return None
        prices = [values for values in tags_of(event, "price_per_step") if len(values) >= 4]
        return {
            "metric": tag_of(event, "metric"),
            "step_size": int(tag_of(event, "step_size")),
            "mints": [values[3] for values in prices],
            "price": int(prices[-1][1]),
            "unit": prices[-1][2],
        }

    def pay(self, token: str) -> str:
        """The allotment, or the message."""
        answer = self.guest.post(TOLLGATE + "/", token.encode(), headers={"Content-Type": "text/plain"}, timeout=15)
        event = answer.json()
        if event.get("kind") == 1022:
            return tags_of(event, "allotment")[0][0]
        return tags_of(event, "message")[0][0]

    def usage(self) -> tuple[int, int] | None:
        answer = self.get("/usage")
        used, total = answer.text.strip().split("/")
        return (int(used), int(total)) if answer.status == 200 else None

    def balance(self) -> dict | None:
        answer = self.get("/balance")
        return answer.json() if answer.status == 200 else None

    def whoami(self) -> str | None:
        answer = self.get("/whoami")
        return answer.text.strip().removeprefix("mac=") if answer.status == 200 else None


def patiently(ask, times: int = 4):
    """A question that one of a few tries must have answered in time: a busy machine may hold one up, but not each."""
    for _ in range(times - 1):
        with contextlib.suppress(TimeoutError):
            return ask()
    return ask()


def unsigned(text: str) -> int:
    """As Go's ParseUint: digits and nothing else."""
    assert text.isascii() and text.isdigit() and int(text) < 1 << 64
    return int(text)
