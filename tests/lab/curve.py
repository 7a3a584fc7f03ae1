"""The mint's and the wallet's arithmetic of Cashu (NUT-00, NUT-02, NUT-12, NUT-20), on coincurve, for the lab only."""

import hashlib
import os

from coincurve import PrivateKey, PublicKey, PublicKeyXOnly

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = PrivateKey((1).to_bytes(32, "big")).public_key


def scalar(number: int) -> bytes:
    return (number % ORDER).to_bytes(32, "big")


def random_scalar() -> int:
    return int.from_bytes(os.urandom(32), "big") % (ORDER - 1) + 1


def point(text: str) -> PublicKey:
    return PublicKey(bytes.fromhex(text))


def add(*points: PublicKey) -> PublicKey:
    return PublicKey.combine_keys(list(points))


def negate(a: PublicKey) -> PublicKey:
    return a.multiply(scalar(-1))


def hex_of(a: PublicKey) -> str:
    return a.format().hex()


def hash_to_curve(message: bytes) -> PublicKey:
    inner = hashlib.sha256(b"Secp256k1_HashToCurve_Cashu_" + message).digest()
    for counter in range(1 << 16):
        try:
            return PublicKey(b"\x02" + hashlib.sha256(inner + counter.to_bytes(4, "little")).digest())
        except ValueError:
            continue
    raise ValueError("no point found")


def hash_e(*points: PublicKey) -> int:
    text = "".join(one.format(compressed=False).hex() for one in points)
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def sign_with_dleq(key: int, blinded: PublicKey) -> tuple[PublicKey, dict[str, str]]:
    """The blind signature and the proof that this key made it (NUT-12)."""
    signature = blinded.multiply(scalar(key))
    nonce = random_scalar()
    e = hash_e(G.multiply(scalar(nonce)), blinded.multiply(scalar(nonce)), G.multiply(scalar(key)), signature)
    return signature, {"e": scalar(e).hex(), "s": scalar(nonce + e * key).hex()}


def dleq_holds(public: PublicKey, blinded: PublicKey, signature: PublicKey, dleq: dict[str, str]) -> bool:
    e, s = int(dleq["e"], 16), int(dleq["s"], 16)
    r1 = add(G.multiply(scalar(s)), negate(public.multiply(scalar(e))))
    r2 = add(blinded.multiply(scalar(s)), negate(signature.multiply(scalar(e))))
    return hash_e(r1, r2, public, signature) == e


def keyset_id(keys: dict[int, PublicKey], fee_ppk: int, version: int) -> str:
    """NUT-02: `00` + 7 bytes over the keys, or `01` + 32 bytes over keys, unit and fee."""
    ordered = sorted(keys.items())
    if version == 1:
        return "00" + hashlib.sha256(b"".join(key.format() for _, key in ordered)).hexdigest()[:14]
    text = ",".join(f"{amount}:{hex_of(key)}" for amount, key in ordered) + "|unit:sat"
    if fee_ppk:
        text += f"|input_fee_ppk:{fee_ppk}"
    return "01" + hashlib.sha256(text.encode()).hexdigest()


def quote_signature_holds(pubkey: str, quote: str, outputs: list[dict], signature: str) -> bool:
    """NUT-20, in either of the two messages that are in the field."""
    legacy = quote.encode() + b"".join(output["B_"].encode() for output in outputs)
    named = b"Cashu_MintQuoteSig_v1" + len(quote).to_bytes(4, "big") + quote.encode()
    for output in outputs:
        amount = output["amount"].to_bytes((output["amount"].bit_length() + 7) // 8, "big")
        blinded = bytes.fromhex(output["B_"])
        named += len(amount).to_bytes(4, "big") + amount + len(blinded).to_bytes(4, "big") + blinded
    key = PublicKeyXOnly(bytes.fromhex(pubkey)[1:])
    return any(key.verify(bytes.fromhex(signature), hashlib.sha256(message).digest()) for message in (legacy, named))


def sign_quote(private: PrivateKey, quote: str, outputs: list[dict]) -> str:
    message = quote.encode() + b"".join(output["B_"].encode() for output in outputs)
    return private.sign_schnorr(hashlib.sha256(message).digest()).hex()
