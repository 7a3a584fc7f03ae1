"""The router's own wallet from outside: its proofs, with the secrets that its key file gives (NUT-13).

	Books(daemon).takings(mint.url).amount
"""

import hmac

from bip32 import BIP32
from mnemonic import Mnemonic

from .wallet import Token

HARDENED = 1 << 31


class Seed:
    """Twelve words and what is derived from them, by an implementation that is not the daemon's."""

    def __init__(self, entropy: bytes) -> None:
        self.words = Mnemonic("english").to_mnemonic(entropy)
        self.stretched = Mnemonic.to_seed(self.words)

    def secret(self, keyset: str, counter: int) -> str:
        if keyset.startswith("01"):
            message = b"Cashu_KDF_HMAC_SHA256" + bytes.fromhex(keyset) + counter.to_bytes(8, "big") + b"\x00"
            return hmac.digest(self.stretched, message, "sha256").hex()
        account = int(keyset, 16) % (HARDENED - 1)
        path = [129372 + HARDENED, HARDENED, account + HARDENED, counter + HARDENED, 0]
        return BIP32.from_seed(self.stretched).get_privkey_from_path(path).hex()


def token_of(mint: str, rows: list[dict], seed: Seed) -> Token:
    """Rows of `proofs` joined with their keyset's text (`id`), as one token."""
    proofs = [
        {
            "amount": row["amount"],
            "id": row["id"],
            "secret": seed.secret(row["id"], row["counter"]),
            "C": row["c"].hex(),
        }
        for row in rows
    ]
    return Token(mint, "sat", proofs)
