"""The daemon's store, read from a copy, and the sum that must always come out: tokens of guests + granted = minted.

	books = Books(daemon)
	books.parts("claimed")
	check_books(daemon, mint, expected=26)
"""

import contextlib
import os
import re
import shutil
import sqlite3
import tempfile

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .daemon import Daemon
from .fault_mint import FaultMint
from .takings import Seed, token_of
from .wallet import Token, decode_token


class Books:
    """The store as it is now; made anew for every look."""

    def __init__(self, daemon: Daemon) -> None:
        with copied(daemon) as (db, key, vault):
            self.tables = {
                name: read(db, f"SELECT * FROM {name}")
                for name in ("requests", "parts", "grants", "sessions", "counters", "wallet_ops")
            }
            keysets = read(db, "SELECT * FROM wallet_keysets")
            self.proofs = read(
                db, "SELECT p.*, k.mint, k.keyset AS id FROM proofs p JOIN wallet_keysets k ON k.id = p.keyset"
            )
        self.seed = Seed(key)
        owners = {row["id"]: row["owner"] for row in self.tables["requests"]}
        for part in self.tables["parts"]:
            part["owner"] = owners[part["request"]]
            part["token"] = unsealed(vault, f"token of part {part['id']}", part["sealed"]) or part["token"]
        mints = {row["id"]: row["mint"] for row in keysets}
        self.settled = [settled(grant, mints) for grant in self.grants if REQUEST.fullmatch(grant["reference"])]

    def parts(self, *states: str, owner: str | None = None, mint: str | None = None) -> list[dict]:
        """Of a sale that is settled, what its grant tells."""
        open_parts = {(part["request"], part["position"]) for part in self.tables["parts"]}
        settled = [part for part in self.settled if (part["request"], part["position"]) not in open_parts]
        return [
            part
            for part in self.tables["parts"] + settled
            if (not states or part["state"] in states)
            and owner in (None, part["owner"])
            and mint in (None, part["mint"])
        ]

    @property
    def outputs(self) -> list[dict]:
        """The sets of outputs that open parts were asked for with, those of a part oldest first."""
        lines = [
            (part["id"], *line.split(" ")) for part in self.tables["parts"] for line in part["outputs"].splitlines()
        ]
        return [
            {"part": part, "keyset": keyset, "counter": int(counter), "amounts": amounts.split(",")}
            for part, keyset, counter, amounts in lines
        ]

    @property
    def grants(self) -> list[dict]:
        return self.tables["grants"]

    def tokens(self, owner: str | None = None, mint: str | None = None) -> list[Token]:
        """What guests were given, a token for each part, and the takings of each mint, as one."""
        guests = [decode_token(part["token"]) for part in self.parts("claimed", owner="guest", mint=mint)]
        house = [self.takings(url) for url in {proof["mint"] for proof in self.proofs} if mint in (None, url)]
        return (guests if owner != "house" else []) + (house if owner != "guest" else [])

    def takings(self, mint: str, held: bool | None = None) -> Token:
        """The router's own proofs of a mint: all, those that an operation holds, or those that it may spend."""
        rows = [proof for proof in self.proofs if proof["mint"] == mint and held in (None, proof["op"] is not None)]
        return token_of(mint, rows, self.seed)


REQUEST = re.compile("[0-9a-f]{32}/[0-9]+")


def settled(grant: dict, mints: dict[int, str]) -> dict:
    request, position = grant["reference"].split("/")
    known = {name: grant[name] for name in ("amount", "allotment", "metric")}
    return known | {
        "request": request,
        "position": int(position),
        "owner": "house",
        "state": "claimed",
        "mint": mints.get(grant["keyset"]),
        "token": None,
        "invoice": None,
    }


def unsealed(vault: bytes, owner: str, sealed: bytes | None) -> str | None:
    """What the store has sealed for this row."""
    if sealed is None:
        return None
    return ChaCha20Poly1305(vault).decrypt(sealed[:12], sealed[12:], owner.encode()).decode()


COPY = """
cd "$1" || exit
# Stays the same until the journal goes into the database, or begins anew: only then would a copy be of two times.
generation() { stat -c '%i %s %y' store.db; head -c 32 store.db-wal 2>/dev/null | od -An -tx1; }
for try in $(seq 100); do
	before=$(generation)
	rm -f "$2"/store.db*
	cp store.db* "$2"
	[ "$(generation)" != "$before" ] || break
done
cat takings.key >"$2/key"
cat tokens.key >"$2/vault" 2>/dev/null
true
"""


@contextlib.contextmanager
def copied(daemon: Daemon):
    """A copy of the store, open, the takings' key and that of the tokens. The daemon may be running."""
    with tempfile.TemporaryDirectory(dir=daemon.dir) as directory:
        daemon.lab.router.run(["sh", "-c", COPY, "sh", daemon.state_dir, directory])
        with (
            open(os.path.join(directory, "key"), "rb") as key,
            open(os.path.join(directory, "vault"), "rb") as vault,
            contextlib.closing(sqlite3.connect(os.path.join(directory, "store.db"))) as db,
        ):
            db.row_factory = sqlite3.Row
            yield db, key.read(), vault.read()


def read(db: sqlite3.Connection, query: str) -> list[dict]:
    return [dict(row) for row in db.execute(query)]


def rows(daemon: Daemon, query: str) -> list[dict]:
    with copied(daemon) as (db, *_):
        return read(db, query)


def edit(daemon: Daemon, *statements: str) -> None:
    """Changes the store of a daemon that does not run."""
    if daemon.running:
        raise RuntimeError("the daemon holds its store")
    with contextlib.closing(sqlite3.connect(os.path.join(daemon.state_dir, "store.db"))) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def save(daemon: Daemon, to: str) -> None:
    shutil.copytree(daemon.state_dir, to)


def check_books(daemon: Daemon, mint: FaultMint, expected: int | None = None) -> Books:
    """To the sat: all that was paid was issued, all that was issued is money in the store, and each house payment
    was granted once. `expected`: what was paid in all."""
    books = Books(daemon)
    tokens = books.tokens(mint=mint.url)
    assert sum(token.amount for token in tokens) == mint.issued == mint.paid, (tokens, mint.issued, mint.paid)
    assert expected is None or mint.paid == expected, (mint.paid, expected)
    secrets = [proof["secret"] for token in tokens for proof in token.proofs]
    assert len(set(secrets)) == len(secrets), "one proof in two tokens"
    for token in tokens:
        spent = [proof for proof in token.proofs if mint.is_spent(proof)]
        assert spent or mint.value_of(token.proofs) == token.amount
    house = books.parts("claimed", owner="house", mint=mint.url)
    granted = {grant["reference"]: grant for grant in books.grants}
    for part in house:
        grant = granted[f"{part['request']}/{part['position']}"]
        assert (grant["amount"], grant["allotment"]) == (part["amount"], part["allotment"])
    of_payments = [grant for grant in books.grants if grant["amount"] > 0]
    assert len(of_payments) == len(books.parts("claimed", owner="house")), "a grant without its payment"
    return books
