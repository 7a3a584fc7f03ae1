"""A router whose takings stand behind vouchers.

	treasury = Treasury(lab, mint, daemon, 1000)
	made = treasury.create(5, "--sat", "21", "--funding", "treasury")
"""

import os
import shutil
import sqlite3

from .guest import ROUTER4
from .purse import Customers

PORTAL = f"http://{ROUTER4}:2121"
STEP = 60_000


class Treasury(Customers):
    """A router that has takings."""

    def __init__(self, lab, mint, daemon, filled: int) -> None:
        super().__init__(lab, mint, daemon, STEP)
        assert daemon.data("wallet", "receive", self.token(filled))

    def create(self, number: int, *order) -> dict:
        return self.daemon.data("voucher", "create", str(number), *order)

    def rows(self, query: str) -> list[tuple]:
        copy = os.path.join(self.daemon.dir, "copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.daemon.state_dir, copy)
        with sqlite3.connect(os.path.join(copy, "store.db")) as db:
            return db.execute(query).fetchall()

    def takings(self) -> int:
        return sum(row["balance"] for row in self.daemon.data("wallet", "balance")["mints"])

    def locked(self, state: str) -> int:
        return sum(sats for (sats,) in self.rows(f"SELECT sats FROM locked WHERE state = '{state}'"))

    def redeem(self, guest, code):
        return guest.post(f"{PORTAL}/voucher", {"code": code}, timeout=20)

    def change(self, statement: str) -> None:
        """Of the store, while the daemon does not run."""
        assert not self.daemon.running
        with sqlite3.connect(os.path.join(self.daemon.state_dir, "store.db")) as db:
            db.execute(statement)
        db.close()
