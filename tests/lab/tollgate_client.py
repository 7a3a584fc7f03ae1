"""TollGate v1 as existing clients speak it: the captive portal site, the Android app, other routers. Events are checked with libsecp256k1."""

import base64
import contextlib
import hashlib
import json
import os
import time

import cbor2
from coincurve import PrivateKey, PublicKeyXOnly

from .guest import ROUTER4, Guest
from .http_client import Answer

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
    """`cashuB`: CBOR, without padding."""
    ids = {proof["id"]: None for proof in proofs}
    groups = [
        {"i": bytes.fromhex(id), "p": [{"a": one["amount"], "s": one["secret"], "c": bytes.fromhex(one["C"])} for one in proofs if one["id"] == id]}
        for id in ids
    ]
    return "cashuB" + base64.urlsafe_b64encode(cbor2.dumps({"m": mint, "u": unit, "t": groups})).decode().rstrip("=")


# Nostr


def event_id(event: dict) -> str:
    canonical = [0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]
    return hashlib.sha256(json.dumps(canonical, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def check_event(event: dict) -> dict:
    """What a Go client checks before it reads anything: types, id and signature. Answers the event."""
    assert event.keys() == {"kind", "id", "pubkey", "created_at", "tags", "content", "sig"}
    assert type(event["kind"]) is int and type(event["created_at"]) is int and type(event["content"]) is str
    assert all(type(element) is str for tag in event["tags"] for element in tag), "a number in a tag fails the whole parse in Go"
    assert event["id"] == event_id(event)
    assert PublicKeyXOnly(bytes.fromhex(event["pubkey"])).verify(bytes.fromhex(event["sig"]), bytes.fromhex(event["id"]))
    return event


def sign_event(kind: int, tags: list[list[str]], content: str = "") -> dict:
    key = PrivateKey()
    event = {"kind": kind, "pubkey": key.public_key.format()[1:].hex(), "created_at": int(time.time()), "tags": tags, "content": content}
    event["id"] = event_id(event)
    return event | {"sig": key.sign_schnorr(bytes.fromhex(event["id"]), aux_randomness=os.urandom(32)).hex()}


def tags_of(event: dict, name: str) -> list[list[str]]:
    return [tag[1:] for tag in event["tags"] if tag[0] == name]


def tag_of(event: dict, name: str) -> str:
    (values,) = tags_of(event, name)
    return values[-1]


# Clients


class PortalSite:
    """The captive portal site: a page of another port, so every request of it is cross-origin."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.headers = {"Origin": PORTAL_ORIGIN}

    def fetch(self, method: str, path: str, body=None, headers: dict[str, str] | None = None, timeout: float = 15) -> Answer:
        """As a browser: an answer that it may not read raises. A body of JSON is preceded by a preflight."""
        if isinstance(body, dict):
            asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
            preflight = self.guest.request("OPTIONS", TOLLGATE + path, headers=self.headers | asked)
            assert preflight.status in (200, 204) and self.may_read(preflight)
            assert method in preflight.headers["access-control-allow-methods"]
            assert "content-type" in preflight.headers["access-control-allow-headers"].lower()
        answer = self.guest.request(method, TOLLGATE + path, body=body, headers=self.headers | (headers or {}), timeout=timeout)
        assert self.may_read(answer), f"CORS: {answer.status} {answer.headers}"
        return answer

    @staticmethod
    def may_read(answer: Answer) -> bool:
        return answer.headers.get("access-control-allow-origin") == PORTAL_ORIGIN and "Origin" in answer.headers.get("vary", "")

    def load(self) -> dict:
        """What it does first: the offer, and who am I. Raises where it would show a white screen."""
        offer = self.fetch("GET", "/")
        assert offer.status == 200
        event = offer.json()
        if event["kind"] == 21023:
            raise OfferNotice(tag_of(event, "code"), event["content"])
        metric, step = tag_of(event, "metric"), int(tag_of(event, "step_size"))
        assert not (metric == "bytes" and 1024 <= step < MILLION), "white screen"
        for price in tags_of(event, "price_per_step"):
            assert price[0] == "cashu" and int(price[1]) > 0, "white screen"
            assert int(price[4]) <= 1, "the portal shows a wrong price"
        whoami = self.fetch("GET", "/whoami")
        assert whoami.status == 200
        self.mac = whoami.text.split("=")[1]
        return event

    def buy(self, offer: dict, token: str) -> Answer:
        tags = [["p", offer["pubkey"]], ["device-identifier", "mac", self.mac], ["payment", token]]
        return self.fetch("POST", "/", sign_event(21000, tags))

    @staticmethod
    def shown(answer: Answer) -> str:
        """What the site makes of a status."""
        return {200: "success", 402: "CU106"}.get(answer.status, "CU107")


class OfferNotice(Exception):
    def __init__(self, code: str, content: str) -> None:
        super().__init__(f"{code}: {content}")
        self.code, self.content = code, content


class Reseller:
    """Another router that buys here: raw tokens, every signature checked, usage each second."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def discover(self) -> dict:
        answer = self.guest.get(TOLLGATE + "/", timeout=10)
        assert answer.status == 200 and len(answer.body) <= MILLION
        event = check_event(answer.json())
        assert event["kind"] == 10021
        assert int(tag_of(event, "step_size")) > 0 and tag_of(event, "metric") in ("bytes", "milliseconds")
        assert all(len(price) == 5 for price in tags_of(event, "price_per_step")) and tags_of(event, "price_per_step")
        return event

    def usage(self) -> tuple[int, int]:
        answer = self.guest.get(TOLLGATE + "/usage", timeout=2)
        assert answer.status == 200
        used, allotment = answer.text.split("/")
        return int(used), int(allotment)

    def pay(self, token: str) -> dict:
        answer = self.guest.post(TOLLGATE + "/", token.encode(), headers={"Content-Type": "text/plain"}, timeout=30)
        assert answer.status == 200, answer.text
        event = check_event(answer.json())
        assert event["kind"] == 1022 and int(tag_of(event, "allotment")) > 0
        return event


class AndroidApp:
    """Impatient, and reads only the `message` tag of a refusal."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def get(self, path: str) -> Answer:
        return self.guest.get(TOLLGATE + path, timeout=4)

    def pay(self, token: str) -> str:
        """The allotment, or the message."""
        answer = self.guest.post(TOLLGATE + "/", token.encode(), headers={"Content-Type": "text/plain; charset=utf-8"}, timeout=15)
        event = answer.json()
        with contextlib.suppress(ValueError):
            return tag_of(event, "allotment")
        return tag_of(event, "message")
