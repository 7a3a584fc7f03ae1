"""A small Cashu mint that signs for real and misbehaves on command, for what no honest mint can be made to do.

	mint = FaultMint(lab.internet, MINT4)
	mint.misbehave("bad_dleq", times=1)
	mint.pay(invoice)
	assert mint.issued == wallet_tokens + granted

`mint.when("mint", "done", daemon.kill)` runs something once, at an exact moment of the next request to an endpoint:
`arrived` (nothing done yet), `done` (committed, not answered), `answered`.

It lives in the test's process (its sockets in the place given), keeps everything in memory through `close` and `open`,
and counts what it issued. Misbehaviour, each for so many `times` (default: until `behave`):

        on the way (of the endpoint `on`: info, keys, keysets, quote, state, mint, swap, check, restore, and those of
        `fault_melt.py`; default all):
          drop_after_commit  done, then a reset     drop_before  a reset, nothing done     hang  silence
          rate_limited  429   unprocessable_text  422 in plain text   unprocessable  422 with a list of complaints
          down  503   broken  500 token_spent, token_pending, keyset_inactive, outputs_signed  400, nothing done
          html  200 with a page   garbage  200, half a JSON   oversized  200 with 2 MB
        in what it says:
          bad_dleq, no_dleq, short_signatures, extra_signatures, wrong_signature_amount, foreign_keyset_id (in a
          signature) wrong_keyset_id (keys that do not hash to the id), wrong_invoice_amount, no_expiry (in the quote's
          GET and events) silent_socket (subscribed, never an event), refuse_socket (403), never_paid (an invoice paid
          is not seen)
"""

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import bolt11

from . import curve
from .fault_melt import Melting
from .http_server import Cut, Request, Server
from .place import Place
from .websocket import Closed, WebSocket

AMOUNTS = [1 << power for power in range(32)]
ON_THE_WAY = {
    "rate_limited": (429, '{"detail":"Rate limit exceeded."}', "application/json"),
    "unprocessable_text": (422, "Failed to deserialize the JSON body into the target type", "text/plain"),
    "unprocessable": (
        422,
        '{"detail":[{"type":"missing","loc":["body","quote"],"msg":"Field required","input":{}}]}',
        "application/json",
    ),
    "oversized": (200, '{"detail":"' + "x" * 2_000_000 + '"}', "application/json"),
    "html": (200, "<html><body><h1>It works</h1></body></html>", "text/html"),
    "garbage": (200, '{"quote":"\x00\xff', "application/json"),
    "keyset_inactive": (400, '{"detail":"keyset is inactive","code":12002}', "application/json"),
    "outputs_signed": (400, '{"detail":"outputs have already been signed before","code":11003}', "application/json"),
    "token_spent": (400, '{"detail":"Token already spent.","code":11001}', "application/json"),
    "token_pending": (400, '{"detail":"proofs are pending.","code":11002}', "application/json"),
    "broken": (500, "Internal Server Error", "text/plain"),
    "down": (503, '{"detail":"maintenance"}', "application/json"),
}


class Refusal(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


@dataclass
class Keyset:
    id: str
    keys: dict[int, int]
    fee_ppk: int
    active: bool = True

    def public(self) -> dict[str, str]:
        return {str(amount): curve.hex_of(curve.G.multiply(curve.scalar(key))) for amount, key in self.keys.items()}


@dataclass
class Quote:
    id: str
    amount: int
    request: str
    payment_hash: str
    expiry: int
    pubkey: str | None
    state: str = "UNPAID"
    preimage: str = ""

    def shown(self, with_expiry: bool = True) -> dict:
        return {"quote": self.id, "request": self.request, "amount": self.amount, "unit": "sat", "state": self.state,
                "expiry": self.expiry if with_expiry else None, "pubkey": self.pubkey}


@dataclass
class Misbehaviour:
    name: str
    times: int | None
    on: str | None
    hits: int = field(default=0)


class FaultMint(Melting, Server):
    refusal = Refusal

    def __init__(
        self,
        place: Place,
        host: str,
        port: int = 0,
        *,
        keysets: int = 2,
        fee_ppk: int = 0,
        invoice_seconds: int = 3600,
    ) -> None:
        self.invoice_seconds = invoice_seconds
        self.version = keysets
        self.keysets: list[Keyset] = []
        self.quotes: dict[str, Quote] = {}
        self.signed: dict[str, dict] = {}
        """Every output ever signed, by its B_ (NUT-09)."""
        self.spent: set[str] = set()
        """Y of every proof taken."""
        self.witnesses: dict[str, str] = {}
        """What some of them were spent with, by their Y."""
        self.issued = 0
        """Sats in signatures for paid quotes, whether or not the answer arrived."""
        self.paid = 0
        """Sats that payers have paid."""
        self.fees = 0
        self.faults: list[Misbehaviour] = []
        self.subscribers: list[tuple[WebSocket, str, set[str]]] = []
        self.moments: dict[tuple[str, str], tuple[int, Callable[[], object]]] = {}
        self.counts: dict[str, int] = {}
        """Requests per endpoint, also those that were refused."""
        self.private_key = os.urandom(32)
        self.rotate(fee_ppk)
        Melting.__init__(self)
        Server.__init__(self, place, host, port)

    # What a test does to it

    def misbehave(self, name: str, times: int | None = None, on: str | None = None) -> Misbehaviour:
        made = Misbehaviour(name, times, on)
        self.faults.append(made)
        return made

    def behave(self) -> None:
        with self.lock:
            self.faults.clear()

    def pay(self, invoice: str) -> None:
        """Somebody pays this invoice now."""
        quote = next(quote for quote in list(self.quotes.values()) if quote.request == invoice)
        with self.lock:
            if quote.state != "UNPAID":
                raise ValueError("paid already")
            self.paid += quote.amount
            if self._faulty("never_paid"):
                return
            quote.state = "PAID"
        self.send_event(quote)

    def send_event(self, quote: Quote, state: str | None = None) -> None:
        """Tells subscribers a state, which need not be the true one."""
        shown = quote.shown(with_expiry=False) | {"state": state or quote.state}
        if self._faulty("silent_socket"):
            return
        for socket, name, filters in list(self.subscribers):
            if quote.id in filters:
                try:
                    socket.send({"jsonrpc": "2.0", "method": "subscribe", "params": {"subId": name, "payload": shown}})
                except OSError:
                    pass

    def rotate(self, fee_ppk: int = 0, version: int | None = None) -> Keyset:
        """A new active keyset; the old ones stay valid for proofs."""
        self.version = version or self.version
        keys = {amount: curve.random_scalar() for amount in AMOUNTS}
        public = {amount: curve.G.multiply(curve.scalar(key)) for amount, key in keys.items()}
        made = Keyset(curve.keyset_id(public, fee_ppk, self.version), keys, fee_ppk)
        with self.lock if hasattr(self, "lock") else threading.Lock():
            for keyset in self.keysets:
                keyset.active = False
            self.keysets.append(made)
        return made

    def value_of(self, proofs: list[dict]) -> int:
        """Sats of proofs that are good and unspent; raises `Refusal` for one that is not."""
        total = 0
        for proof in proofs:
            y = curve.hash_to_curve(proof["secret"].encode())
            key = self._keyset(proof["id"]).keys.get(proof["amount"])
            if key is None or curve.hex_of(y.multiply(curve.scalar(key))) != proof["C"]:
                raise Refusal(10001, "proof could not be verified")
            if curve.hex_of(y) in self.spent:
                raise Refusal(11001, "token already spent")
            total += proof["amount"]
        return total

    def fee_of(self, proofs: list[dict]) -> int:
        return (sum(self._keyset(proof["id"]).fee_ppk for proof in proofs) + 999) // 1000

    def when(self, endpoint: str, moment: str, do: Callable[[], object]) -> threading.Event:
        """The event is set when it has been done. A request that has arrived already is not the one that is meant."""
        happened = threading.Event()

        def once() -> None:
            do()
            happened.set()

        with self.lock:
            self.moments[endpoint, moment] = (self.counts.get(endpoint, 0), once)
        return happened

    def _moment(self, endpoint: str, moment: str, number: int) -> None:
        with self.lock:
            after, do = self.moments.get((endpoint, moment), (number, None))
            if number > after:
                del self.moments[endpoint, moment]
        if number > after:
            do()

    def is_spent(self, proof: dict) -> bool:
        return curve.hex_of(curve.hash_to_curve(proof["secret"].encode())) in self.spent

    # What the network does to it

    def handle(self, request: Request) -> None:
        parts = request.path.split("?")[0].strip("/").split("/")[1:]
        route = {
            ("GET", "info"): ("info", self._info), ("GET", "keysets"): ("keysets", self._keysets),
            ("GET", "keys"): ("keys", self._keys), ("GET", "mint"): ("state", self._quote_state),
            ("POST", "swap"): ("swap", self._swap), ("POST", "checkstate"): ("check", self._check),
            ("POST", "restore"): ("restore", self._restore), ("GET", "melt"): ("melt_state", self._melt_state),
        }.get((request.method, parts[0] if parts else ""))
        if request.method == "POST" and parts[:1] == ["mint"]:
            route = ("quote", self._make_quote) if parts[1] == "quote" else ("mint", self._mint)
        if request.method == "POST" and parts[:1] == ["melt"]:
            route = ("melt_quote", self._make_melt_quote) if parts[1] == "quote" else ("melt", self._melt)
        if request.upgrade and parts == ["ws"]:
            return self._socket(request)
        if route is None:
            return request.answer(404, {"detail": "Not Found"})
        name, do = route
        with self.lock:
            number = self.counts[name] = self.counts.get(name, 0) + 1
        self._moment(name, "arrived", number)
        if self._faulty("drop_before", name):
            raise Cut
        if self._faulty("hang", name):
            time.sleep(60)
            raise Cut
        for fault, answer in ON_THE_WAY.items():
            if self._faulty(fault, name):
                return request.answer(*answer)
        try:
            with self.lock:
                answer = do(parts, request.json() if request.method == "POST" else None)
        except Refusal as refusal:
            return request.answer(400, {"detail": refusal.detail, "code": refusal.code})
        except (KeyError, TypeError, ValueError, IndexError) as error:
            return request.answer(422, {"detail": [{"loc": ["body"], "msg": str(error)}]})
        self._moment(name, "done", number)
        if self._faulty("drop_after_commit", name):
            raise Cut
        request.answer(200, answer)
        self._moment(name, "answered", number)

    def _faulty(self, name: str, on: str | None = None) -> bool:
        with self.lock:
            for fault in self.faults:
                if fault.name == name and fault.on in (None, on):
                    fault.hits += 1
                    if fault.times is not None and fault.hits >= fault.times:
                        self.faults.remove(fault)
                    return True
        return False

    def _info(self, _, __) -> dict:
        methods = [{"method": "bolt11", "unit": "sat", "options": {"description": True}}]
        supported = {str(number): {"supported": True} for number in (7, 8, 9, 12, 20)}
        return {
            "name": "test mint",
            "pubkey": curve.hex_of(curve.G),
            "version": "TestMint/0.1",
            "contact": [],
            "time": int(time.time()),
            "nuts": {
                "4": {"methods": methods, "disabled": False},
                "5": {"methods": methods, "disabled": False},
                **supported,
                "17": {"supported": [{"method": "bolt11", "unit": "sat", "commands": ["bolt11_mint_quote"]}]},
            },
        }

    def _keysets(self, _, __) -> dict:
        return {
            "keysets": [
                {"id": one.id, "unit": "sat", "active": one.active, "input_fee_ppk": one.fee_ppk}
                for one in self.keysets
            ]
        }

    def _keys(self, parts, _) -> dict:
        wanted = [self._keyset(parts[1])] if len(parts) > 1 else [one for one in self.keysets if one.active]
        shown = [
            {"id": one.id, "unit": "sat", "active": one.active, "input_fee_ppk": one.fee_ppk, "keys": one.public()}
            for one in wanted
        ]
        if self._faulty("wrong_keyset_id"):
            for one in shown:
                one["keys"]["1"] = curve.hex_of(curve.G.multiply(curve.scalar(curve.random_scalar())))
        return {"keysets": shown}

    def _make_quote(self, _, body) -> dict:
        amount = body["amount"]
        if not isinstance(amount, int) or not 0 < amount < 1 << 32:
            raise Refusal(11006, "amount outside of limits")
        if body["unit"] != "sat":
            raise Refusal(11013, "unit not supported")
        asked = amount + 1 if self._faulty("wrong_invoice_amount") else amount
        preimage = os.urandom(32)
        payment_hash = hashlib.sha256(preimage).hexdigest()
        memo = body.get("description") or ""
        request = invoice(asked, payment_hash, self.invoice_seconds, self.private_key, memo)
        quote = Quote(
            str(uuid.uuid4()),
            amount,
            request,
            payment_hash,
            int(time.time()) + self.invoice_seconds,
            body.get("pubkey"),
            preimage=preimage.hex(),
        )
        self.quotes[quote.id] = quote
        return quote.shown()

    def _quote_state(self, parts, _) -> dict:
        return self._quote(parts[3]).shown(with_expiry=not self._faulty("no_expiry"))

    def _mint(self, _, body) -> dict:
        quote, outputs = self._quote(body["quote"]), body["outputs"]
        if quote.state == "ISSUED":
            raise Refusal(20002, "quote already issued")
        if quote.state != "PAID":
            raise Refusal(20001, "quote not paid")
        if quote.pubkey and not curve.quote_signature_holds(
            quote.pubkey, quote.id, outputs, body.get("signature") or "00" * 64
        ):
            raise Refusal(20008, "signature for mint request invalid")
        if sum(output["amount"] for output in outputs) != quote.amount:
            raise Refusal(11005, "outputs do not add up to the quote")
        signatures = self._sign(outputs)
        quote.state = "ISSUED"
        self.issued += quote.amount
        return {"signatures": self._spoiled(signatures)}

    def _swap(self, _, body) -> dict:
        inputs, outputs = body["inputs"], body["outputs"]
        ys = [curve.hex_of(curve.hash_to_curve(proof["secret"].encode())) for proof in inputs]
        if len(set(ys)) != len(ys):
            raise Refusal(11007, "duplicate inputs")
        if self.pending & set(ys):
            raise Refusal(11002, "proofs are pending")
        value, fee = self.value_of(inputs), self.fee_of(inputs)
        if value - fee != sum(output["amount"] for output in outputs):
            raise Refusal(11005, "inputs and outputs are not balanced")
        signatures = self._sign(outputs)
        self.spent.update(ys)
        self.witnesses.update({y: proof["witness"] for y, proof in zip(ys, inputs) if proof.get("witness")})
        self.fees += fee
        return {"signatures": self._spoiled(signatures)}

    def _check(self, _, body) -> dict:
        state = lambda y: "SPENT" if y in self.spent else "PENDING" if y in self.pending else "UNSPENT"
        return {"states": [{"Y": y, "state": state(y), "witness": self.witnesses.get(y)} for y in body["Ys"]]}

    def _restore(self, _, body) -> dict:
        known = [output for output in body["outputs"] if output["B_"] in self.signed]
        return {"outputs": known, "signatures": [self.signed[output["B_"]] for output in known]}

    def _sign(self, outputs: list[dict]) -> list[dict]:
        """All or none: nothing is kept when one of them cannot be signed."""
        made = {}
        for output in outputs:
            keyset = self._keyset(output["id"])
            if not keyset.active:
                raise Refusal(12002, "keyset is inactive")
            if output["B_"] in self.signed or output["B_"] in made:
                raise Refusal(11003, "outputs already signed")
            signature, dleq = curve.sign_with_dleq(keyset.keys[output["amount"]], curve.point(output["B_"]))
            made[output["B_"]] = {
                "id": keyset.id,
                "amount": output["amount"],
                "C_": curve.hex_of(signature),
                "dleq": dleq,
            }
        self.signed.update(made)
        return list(made.values())

    def _spoiled(self, signatures: list[dict]) -> list[dict]:
        """What goes out; what is kept for a restore stays good."""
        shown = [dict(signature) for signature in signatures]
        if self._faulty("bad_dleq"):
            shown[0]["dleq"] = {"e": curve.scalar(curve.random_scalar()).hex(), "s": shown[0]["dleq"]["s"]}
        if self._faulty("no_dleq"):
            shown = [{name: value for name, value in one.items() if name != "dleq"} for one in shown]
        if self._faulty("wrong_signature_amount"):
            shown[0]["amount"] *= 2
        if self._faulty("foreign_keyset_id"):
            shown[0]["id"] = shown[0]["id"][:-2] + ("00" if shown[0]["id"][-2:] != "00" else "01")
        if self._faulty("short_signatures"):
            shown = shown[:-1]
        if self._faulty("extra_signatures"):
            shown.append(shown[0])
        return shown

    def _socket(self, request: Request) -> None:
        if self._faulty("refuse_socket"):
            return request.answer(403)
        socket = WebSocket.accept(request.sock, request.headers["sec-websocket-key"])
        try:
            while True:
                message = socket.receive_json(600)
                parameters, name = message["params"], message["params"]["subId"]
                if message["method"] == "subscribe":
                    with self.lock:
                        self.subscribers.append((socket, name, set(parameters["filters"])))
                    socket.send({"jsonrpc": "2.0", "result": {"status": "OK", "subId": name}, "id": message["id"]})
                    for quote in parameters["filters"]:
                        if quote in self.quotes:
                            self.send_event(self.quotes[quote])
                else:
                    with self.lock:
                        self.subscribers = [one for one in self.subscribers if one[:2] != (socket, name)]
                    socket.send({"jsonrpc": "2.0", "result": {"status": "OK", "subId": name}, "id": message["id"]})
        except (Closed, KeyError, ValueError, OSError):
            with self.lock:
                self.subscribers = [one for one in self.subscribers if one[0] is not socket]

    def _quote(self, id: str) -> Quote:
        if id not in self.quotes:
            raise Refusal(0, "quote not found")
        return self.quotes[id]

    def _keyset(self, id: str) -> Keyset:
        for keyset in self.keysets:
            if keyset.id == id or (len(id) == 16 and keyset.id.startswith(id)):
                return keyset
        raise Refusal(12001, "keyset is not known")


def invoice(sats: int, payment_hash: str, seconds: int, private_key: bytes, memo: str = "") -> str:
    """A well-formed BOLT 11 invoice, signed with the key given."""
    tags = bolt11.Tags()
    tags.add(bolt11.TagChar.payment_hash, payment_hash)
    tags.add(bolt11.TagChar.payment_secret, os.urandom(32).hex())
    tags.add(bolt11.TagChar.description, memo)
    tags.add(bolt11.TagChar.expire_time, seconds)
    made = bolt11.Bolt11(currency="bc", amount_msat=bolt11.MilliSatoshi(sats * 1000), date=int(time.time()), tags=tags)
    return bolt11.encode(made, private_key.hex())
