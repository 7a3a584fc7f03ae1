"""Batches that ecash stands behind, cut short at any moment and by whatever a mint does: the same key has them made
whole, and the mint has issued what they are worth, to the sat.
"""

import concurrent.futures
import json
import random
import time

import pytest

from lab.daemon import Mint
from lab.office import Office, error, new_id, ticket
from lab.place import wait_for
from lab.treasury import Treasury
from lab.wallet import decode_token

BATCH = "/admin/batch-mint"


class Till(Treasury):
    def __init__(self, lab, mint, daemon, filled: int) -> None:
        super().__init__(lab, mint, daemon, filled)
        self.filled = filled
        self.office = Office(lab, daemon)

    def order(self, tickets: list[dict], key: str, timeout: float = 30.0, **more):
        body = {"venueId": "guest", "funding": "treasury", "tickets": tickets, **more}
        headers = {"Authorization": f"Bearer {self.office.token}", "Idempotency-Key": key}
        return self.office.raw("POST", BATCH, json.dumps(body).encode(), headers, timeout=timeout)

    def ordered(self, tickets: list[dict], key: str, **more) -> dict:
        """Asked again with the same key until it is there; a refusal for now says when."""

        def made():
            answer = self.order(tickets, key, **more)
            assert answer.status == 200 or (answer.status in (409, 503) and error(answer)[1]), answer
            return answer.status == 200 and answer

        answer = wait_for(made, 150, "the batch is made", every=1.0)
        assert self.order(tickets, key, **more).body == answer.body
        return answer.json()

    def whole(self, told: dict, tickets: list[dict]) -> None:
        """All tickets are there, each worth what it says."""
        assert told["summary"]["succeeded"] == len(tickets) and told["failed"] == [], told["summary"]
        tokens = [decode_token(one["metadataUri"]) for one in told["successful"]]
        assert [token.amount for token in tokens] == [one["amount"] for one in tickets]
        assert len({proof["secret"] for token in tokens for proof in token.proofs}) == sum(
            len(token.proofs) for token in tokens
        )

    def balanced(self) -> None:
        """Nothing is lost, and nothing was made twice."""
        assert self.takings() + self.locked("ready") == self.filled
        (kept,) = self.rows("SELECT COALESCE(SUM(sats), 0) FROM locked_proofs WHERE state = 'ready'")[0]
        assert kept == self.locked("ready")


def test_kill_9_at_twenty_moments_of_a_batch_of_fifty_and_the_same_key_makes_fifty(lab, mint, make_daemon):
    till = Till(lab, mint, make_daemon(Mint(mint.url)), 20 * 100)
    chance = random.Random(20)
    for number in range(20):
        tickets, key = [ticket(2) for _ in range(50)], new_id()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            making = pool.submit(till.order, tickets, key)
            time.sleep(chance.uniform(0.0, 0.4))
            till.crash()
            making.exception()
        till.revive()
        till.whole(till.ordered(tickets, key), tickets)
        assert till.locked("ready") == (number + 1) * 100
    till.balanced()
    assert till.takings() == 0
    assert till.rows("SELECT COUNT(*) FROM vouchers") == [(1000,)]


def test_kill_9_of_a_batch_that_a_reseller_pays_issues_its_face_value_once(lab, fault_mint, make_daemon):
    till = Till(lab, fault_mint, make_daemon(Mint(fault_mint.url)), 8)
    issued, tickets, key = fault_mint.issued, [ticket(7) for _ in range(50)], new_id()
    first = till.order(tickets, key, funding="invoice")
    assert first.status == 202 and first.json()["status"] == "awaiting_payment", first
    killed = fault_mint.when("mint", "done", till.crash)
    fault_mint.pay(first.json()["invoice"])
    assert killed.wait(20)
    till.revive()
    wait_for(lambda: till.locked("ready") == 350, 60, "the batch is there")
    assert fault_mint.issued - issued == 350
    assert till.order(tickets, key, funding="invoice").body == first.body, "the POST goes on answering its 202"


FAULTS = {
    "cut": lambda mint: mint.misbehave("drop_after_commit", times=1, on="swap"),
    "cut before": lambda mint: mint.misbehave("drop_before", times=2, on="swap"),
    "hangs": lambda mint: mint.misbehave("hang", times=1, on="swap"),
    "half an answer": lambda mint: mint.misbehave("garbage", times=1, on="swap"),
    "short": lambda mint: mint.misbehave("short_signatures", times=1),
    "rotates": lambda mint: mint.when("swap", "arrived", mint.rotate),
    "rotates and is cut": lambda mint: (
        mint.when("swap", "done", mint.rotate),
        mint.misbehave("drop_after_commit", times=1, on="swap"),
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_whatever_a_mint_does_the_same_key_has_the_batch_made_once(lab, fault_mint, make_daemon, fault):
    till = Till(lab, fault_mint, make_daemon(Mint(fault_mint.url)), 500)
    tickets, key = [ticket(11) for _ in range(20)], new_id()
    FAULTS[fault](fault_mint)
    till.whole(till.ordered(tickets, key), tickets)
    assert till.locked("ready") == 220
    till.balanced()


def test_a_mint_that_is_away_is_waited_for(lab, fault_mint, make_daemon):
    till = Till(lab, fault_mint, make_daemon(Mint(fault_mint.url)), 500)
    tickets, key = [ticket(11) for _ in range(5)], new_id()
    fault_mint.close()
    away = till.order(tickets, key)
    assert away.status == 503 and int(away.headers["retry-after"]) >= 1, away
    till.crash()
    till.revive()
    assert till.order(tickets, key).status == 503
    fault_mint.open()
    till.whole(till.ordered(tickets, key), tickets)
    till.balanced()


def test_an_order_of_several_exchanges_is_made_whole_after_a_kill_between_them(lab, fault_mint, make_daemon):
    """A hundred tickets of seven outputs each are more than one exchange takes."""
    till = Till(lab, fault_mint, make_daemon(Mint(fault_mint.url)), 100 * 127)
    tickets, key = [ticket(127) for _ in range(100)], new_id()
    killed = fault_mint.when("swap", "answered", till.crash)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        making = pool.submit(till.order, tickets, key, 90.0)
        assert killed.wait(90)
        making.exception()
    till.revive()
    till.whole(till.ordered(tickets, key, timeout=90.0), tickets)
    assert till.takings() == 0 and till.locked("ready") == 12_700
    till.balanced()
