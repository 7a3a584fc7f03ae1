"""TollGate clients with ecash of the test mint, and what they are answered."""

import os
import time

from .daemon import Daemon, Mint
from .fault_mint import FaultMint
from .guest import Guest
from .http_client import Answer
from .place import PATIENCE, wait_for
from .tollgate_client import TOLLGATE, check_event, tag_of, token_v4
from .wallet import Wallet, decode_token

STEP = 60_000


class Purse:
    """Ecash of a test mint."""

    def __init__(self, lab, mint: FaultMint) -> None:
        self.mint, self.wallet = mint, Wallet(lab.internet, mint.url)

    def token(self, amount: int) -> str:
        return token_v4(self.mint.url, self.wallet.buy(self.mint, amount))

    def forged(self) -> str:
        """A token that the mint has never signed."""
        point = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        return token_v4(
            self.mint.url, [{"amount": 1, "id": self.mint.keysets[0].id, "secret": os.urandom(32).hex(), "C": point}]
        )

    def is_spent(self, token: str) -> bool:
        (spent,) = {self.mint.is_spent(proof) for proof in decode_token(token).proofs}
        return spent


def sells_minutes(make_daemon, mint: FaultMint) -> Daemon:
    """It sells a minute for a sat of the test mint, whose terms it knows."""
    daemon = make_daemon(Mint(mint.url, min_steps=0), venue={"step_size": STEP, "max_steps": 1000})
    wait_for(lambda: mint.counts.get("info"), 5)
    return daemon


def pay(guest: Guest, token: str, timeout: float = PATIENCE) -> tuple[Answer, float]:
    """The answer, and after how many seconds."""
    started = time.monotonic()
    answer = guest.post(TOLLGATE + "/", token.encode(), timeout=timeout)
    return answer, time.monotonic() - started


def usage(guest: Guest) -> str:
    return guest.get(TOLLGATE + "/usage").text


def offered(guest: Guest) -> list[str]:
    """The mints of the offer."""
    return [tag[4] for tag in guest.get(TOLLGATE + "/").json()["tags"] if tag[0] == "price_per_step"]


def assert_notice(answer: Answer, status: int, code: str) -> dict:
    event = check_event(answer.json())
    assert (answer.status, event["kind"], tag_of(event, "code")) == (status, 21023, code), answer.text
    assert tag_of(event, "message") == event["content"] != ""
    assert tag_of(event, "level") == ("warning" if status == 503 else "error") and (
        "retry-after" in answer.headers
    ) == (status == 503)
    return event


def assert_session(answer: Answer, allotment: int) -> dict:
    event = check_event(answer.json())
    assert (answer.status, event["kind"], tag_of(event, "allotment")) == (200, 1022, str(allotment)), answer.text
    return event
