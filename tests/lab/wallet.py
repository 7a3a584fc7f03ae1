"""A direct Cashu wallet for the lab: the yardstick for speed, and the one who checks the daemon's tokens.

It decodes a `cashuB` token, asks the mint for the truth about it, and can spend it (swap), which proves that it is
money.
"""

import base64
import json
import os
from dataclasses import dataclass

import cbor2

from . import curve, http_client
from .place import Place


@dataclass
class Token:
    mint: str
    unit: str
    proofs: list[dict]
    """`{"amount", "id" (hex, as carried), "secret", "C"}`"""

    @property
    def amount(self) -> int:
        return sum(proof["amount"] for proof in self.proofs)


def decode_token(text: str) -> Token:
    """A V4 token (`cashuB...`, NUT-00)."""
    if not text.startswith("cashuB"):
        raise ValueError("not a cashuB token")
    data = text.removeprefix("cashuB")
    content = cbor2.loads(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)))
    proofs = [
        {"amount": proof["a"], "id": group["i"].hex(), "secret": proof["s"], "C": proof["c"].hex()}
        for group in content["t"] for proof in group["p"]
    ]
    return Token(content["m"], content["u"], proofs)


def encode_token(
    mint: str, proofs: list[dict], *, unit: str = "sat", old_form: bool = False, short_ids: bool = False
) -> str:
    """`cashuB`, or `cashuA` in the old form; with the first 8 bytes of ids only, as some wallets write them."""
    if old_form:
        bare = [{name: proof[name] for name in ("amount", "id", "secret", "C")} for proof in proofs]
        text = json.dumps({"token": [{"mint": mint, "proofs": bare}], "unit": unit}).encode()
        return "cashuA" + base64.urlsafe_b64encode(text).decode().rstrip("=")
    groups: dict[str, list[dict]] = {}
    for proof in proofs:
        made = {"a": proof["amount"], "s": proof["secret"], "c": bytes.fromhex(proof["C"])}
        if "dleq" in proof:
            made["d"] = {name: bytes.fromhex(proof["dleq"][name]) for name in "esr"}
        groups.setdefault(proof["id"][:16] if short_ids else proof["id"], []).append(made)
    content = {"m": mint, "u": unit, "t": [{"i": bytes.fromhex(id), "p": group} for id, group in groups.items()]}
    return "cashuB" + base64.urlsafe_b64encode(cbor2.dumps(content)).decode().rstrip("=")


class Wallet:
    """Talks to one mint over sockets of a place. What it holds is in `proofs`."""

    def __init__(self, place: Place, url: str) -> None:
        self.place, self.url = place, url
        self.proofs: list[dict] = []
        self.keysets = {one["id"]: one for one in self.ask("GET", "/v1/keysets")["keysets"]}
        self.keyset = next(
            one
            for one in self.ask("GET", "/v1/keys")["keysets"]
            if self.keysets[one["id"]]["active"] and one["unit"] == "sat"
        )

    def ask(self, method: str, path: str, body=None) -> dict:
        host, port, _, header = http_client.split_url(self.url)
        answer = http_client.exchange(self.place.connect(host, port), method, path, header, body=body)
        if answer.status != 200:
            raise MintError(answer.status, answer.text)
        return answer.json()

    def quote(self, amount: int, private: curve.PrivateKey | None = None) -> dict:
        body = {"amount": amount, "unit": "sat"}
        if private:
            body["pubkey"] = private.public_key.format().hex()
        return self.ask("POST", "/v1/mint/quote/bolt11", body)

    def state(self, quote: str) -> str:
        return self.ask("GET", f"/v1/mint/quote/bolt11/{quote}")["state"]

    def mint(self, quote: dict, private: curve.PrivateKey | None = None) -> list[dict]:
        """Claims a paid quote; every signature is checked."""
        outputs, secrets = self._outputs(quote["amount"])
        body = {"quote": quote["quote"], "outputs": outputs}
        if private:
            body["signature"] = curve.sign_quote(private, quote["quote"], outputs)
        made = self._unblind(self.ask("POST", "/v1/mint/bolt11", body)["signatures"], outputs, secrets)
        self.proofs += made
        return made

    def receive(self, token: str | list[dict]) -> int:
        """Swaps a token into proofs of our own, so that nobody else can spend it. Answers what arrived, fees taken
        off.
        """
        inputs = self._with_full_ids(decode_token(token).proofs if isinstance(token, str) else token)
        fee = (sum(self.keysets[proof["id"]]["input_fee_ppk"] for proof in inputs) + 999) // 1000
        outputs, secrets = self._outputs(sum(proof["amount"] for proof in inputs) - fee)
        bare = [{name: proof[name] for name in ("amount", "id", "secret", "C")} for proof in inputs]
        answer = self.ask("POST", "/v1/swap", {"inputs": bare, "outputs": outputs})
        made = self._unblind(answer["signatures"], outputs, secrets)
        self.proofs += made
        return sum(proof["amount"] for proof in made)

    def buy(self, mint, amount: int) -> list[dict]:
        """Proofs worth so much, out of an invoice that is paid at once; `mint` is the one that can pay."""
        quote = self.quote(amount)
        mint.pay(quote["request"])
        return self.mint(quote)

    def states(self, token: str | list[dict]) -> list[str]:
        """UNSPENT, PENDING or SPENT for each proof (NUT-07)."""
        proofs = decode_token(token).proofs if isinstance(token, str) else token
        ys = [curve.hex_of(curve.hash_to_curve(proof["secret"].encode())) for proof in proofs]
        return [one["state"] for one in self.ask("POST", "/v1/checkstate", {"Ys": ys})["states"]]

    def _outputs(self, amount: int) -> tuple[list[dict], list[tuple[str, int]]]:
        outputs, secrets = [], []
        for power in range(amount.bit_length()):
            if amount >> power & 1:
                secret, r = os.urandom(32).hex(), curve.random_scalar()
                blinded = curve.add(curve.hash_to_curve(secret.encode()), curve.G.multiply(curve.scalar(r)))
                outputs.append({"amount": 1 << power, "id": self.keyset["id"], "B_": curve.hex_of(blinded)})
                secrets.append((secret, r))
        return outputs, secrets

    def _unblind(self, signatures: list[dict], outputs: list[dict], secrets: list[tuple[str, int]]) -> list[dict]:
        if len(signatures) != len(outputs):
            raise ValueError(f"{len(signatures)} signatures for {len(outputs)} outputs")
        proofs = []
        for signature, output, (secret, r) in zip(signatures, outputs, secrets):
            if (signature["amount"], signature["id"]) != (output["amount"], output["id"]):
                raise ValueError("a signature for something else")
            public = curve.point(self.keyset["keys"][str(output["amount"])])
            blind = curve.point(signature["C_"])
            if not curve.dleq_holds(public, curve.point(output["B_"]), blind, signature["dleq"]):
                raise ValueError("the mint's proof does not hold")
            c = curve.add(blind, curve.negate(public.multiply(curve.scalar(r))))
            evidence = signature["dleq"] | {"r": curve.scalar(r).hex()}
            proofs.append(
                {
                    "amount": output["amount"],
                    "id": output["id"],
                    "secret": secret,
                    "C": curve.hex_of(c),
                    "dleq": evidence,
                }
            )
        return proofs

    def _with_full_ids(self, proofs: list[dict]) -> list[dict]:
        """A token may carry only the first 8 bytes of a V2 id."""
        full = []
        for proof in proofs:
            (id,) = [
                one
                for one in self.keysets
                if one == proof["id"] or (len(proof["id"]) == 16 and one.startswith(proof["id"]))
            ]
            full.append(proof | {"id": id})
        return full


class MintError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text
