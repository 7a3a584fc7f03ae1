"""Orders of vouchers that have money behind them, over HTTP: from the takings and by a reseller's invoice, at once or
after a vote, and driven to their end by the daemon, whatever becomes of the request."""

import hashlib
import json

import coincurve
import pytest

from lab.crash import at_commit
from lab.daemon import Mint
from lab.fake_clock import FakeClock, needs_faketime
from lab.guest import ROUTER4
from lab.internet import AWAY
from lab.login import DOMAIN, LoginWallet
from lab.office import Office, Receiver, error, new_id, secret_file, ticket
from lab.place import PATIENCE, wait_for
from lab.purse import Customers
from lab.wallet import decode_token
from test_operators import Operator

PORTAL = f"http://{ROUTER4}:2121"
STEP = 60_000
BACKED = "0d9b1c2e-7c0d-4a5b-8b77-5f0f5b1d2e11"
CASHIER = LoginWallet(400)


class Till(Customers):
    """A router that has takings, and its operator's interface."""

    def __init__(self, lab, mint, daemon, filled: int) -> None:
        super().__init__(lab, mint, daemon, STEP)
        self.office = Office(lab, daemon)
        if filled:
            assert daemon.data("wallet", "receive", self.token(filled))

    def takings(self) -> int:
        return sum(row["balance"] for row in self.daemon.data("wallet", "balance")["mints"])

    def redeem(self, guest, code):
        return guest.post(f"{PORTAL}/voucher", {"code": code}, timeout=20)


@pytest.fixture
def make_till(lab, make_daemon):
    def make(mint, filled=500, **sections) -> Till:
        named = {
            "hmac_key": {"id": "shop", "secret_file": secret_file(lab)},
            "product backed": {"id": BACKED, "venue": "guest", "sat": 10, "funding": "treasury"},
        }
        kinds = {kind.replace("__", " "): options for kind, options in sections.items()}
        return Till(lab, mint, make_daemon(Mint(mint.url), sections={**named, **kinds}), filled)

    return make


def results(till, what) -> list[str]:
    return [row["result"] for row in till.daemon.data("audit") if row["what"] == what]


def vote(office, waits, decision="approve", key=None):
    path = f"/admin/approvals/{waits['approvalId']}/{decision}"
    return office.ask("POST", path, {"requestHash": waits["requestHash"]}, key or new_id())


def serve(office, *ids, key=None, product=BACKED):
    body = {"ticketIds": list(ids), "eventId": product, "userId": "u-1"}
    return office.signed("/internal/mint-tickets", body, key=key)


def test_a_batch_of_the_treasury_is_ecash_that_the_venue_takes(lab, mint, make_till, stranger):
    till = make_till(mint)
    first, second, key = ticket(21, label="room 7"), ticket(34), new_id()
    answer = till.office.batch(first, second, key=key, funding="treasury")
    assert answer.status == 200, answer
    made = {one["ticketId"]: one for one in answer.json()["successful"]}
    assert till.takings() == 500 - 21 - 34 and till.office.ticket(first["id"])["funding"] == "treasury"
    token = made[first["id"]]["metadataUri"]
    proofs = decode_token(token).proofs
    assert sum(proof["amount"] for proof in proofs) == 21 and made[first["id"]]["proofCount"] == len(proofs)
    assert all(made[first["id"]]["lockedTo"] in proof["secret"] for proof in proofs)
    ys = sorted(y_of(proof) for proof in proofs)
    assert made[first["id"]]["signature"] == hashlib.sha256("".join(ys).encode()).hexdigest()
    assert till.post(stranger, token).status == 200
    assert till.redeem(lab.guests[1], made[second["id"]]["code"]).status == 200
    wait_for(lambda: till.takings() == 500, 30, "both are back in the takings")
    again = till.office.batch(first, second, key=key, funding="treasury")
    assert again.body == answer.body and again.headers["idempotent-replayed"] == "true"
    assert till.takings() == 500
    # The default of this route; more than there is fails, and nothing is taken.
    poor = till.office.ask("POST", "/admin/batch-mint", {"venueId": "guest", "tickets": [ticket(501)]}, new_id())
    assert (poor.status, poor.json()["failed"][0]["error"]) == (200, "insufficient_treasury")
    assert till.takings() == 500
    assert results(till, "batch-mint")[:2] == ["begun", "ok"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_batch_that_a_crash_cuts_short_is_in_the_audit_log(mint, make_till, number):
    till, one = make_till(mint), ticket(21)
    dead = at_commit(till.daemon, number, till.crash, limit=3)
    try:
        till.office.batch(one, funding="treasury")
    except (OSError, ValueError):
        pass
    assert dead.wait(PATIENCE)
    till.revive()
    is_made = till.office.ask("GET", f"/admin/mints/{one['id']}").status == 200
    assert results(till, "batch-mint")[:1] == ["begun"] or not is_made


def y_of(proof) -> str:
    from lab import curve

    return curve.hex_of(curve.hash_to_curve(proof["secret"].encode()))


def test_a_batch_that_a_reseller_pays_is_collected_once_it_is_paid(lab, mint, make_till, stranger):
    till = make_till(mint, 0)
    tickets, key = [ticket(13) for _ in range(5)], new_id()
    first = till.office.batch(*tickets, key=key, funding="invoice")
    waits = first.json()
    assert (first.status, waits["status"], waits["amount"]) == (202, "awaiting_payment", 65), first
    assert till.office.ticket(tickets[0]["id"])["status"] == "awaiting_payment"
    till.crash()
    mint.pay(waits["invoice"])
    till.revive()
    ready = lambda: all(till.office.ticket(one["id"])["status"] == "ready" for one in tickets)
    wait_for(ready, 40, "it is paid for")
    again = till.office.batch(*tickets, key=key, funding="invoice")
    assert (again.status, again.body) == (202, first.body)
    revealed = [till.office.ask("GET", f"/admin/mints/{one['id']}?reveal=token").json() for one in tickets]
    assert all(sum(p["amount"] for p in decode_token(one["token"]).proofs) == 13 for one in revealed)
    assert till.redeem(stranger, revealed[0]["code"]).status == 200
    assert till.post(lab.guests[1], revealed[1]["token"]).status == 200
    wait_for(lambda: till.takings() == 26, 30, "what was redeemed is in the takings")


def test_an_approved_order_that_its_mint_holds_up_comes_to_its_end_by_itself(lab, fault_mint, make_till):
    limits = {"limit": {"tx": 15}, "approval": {"above": 1000, "required": 1}}
    till = make_till(fault_mint, **limits)
    office, ids, key = till.office, [new_id(), new_id()], new_id()
    first = serve(office, *ids, key=key)
    waits = first.json()
    assert (first.status, waits["status"]) == (202, "pending_approval")
    assert serve(office, *ids, key=key).body == first.body
    fault_mint.misbehave("down")
    voted = vote(office, waits)
    assert (voted.status, voted.json()["approvals"]) == (200, 1), voted
    replay = serve(office, *ids, key=key)
    assert (replay.status, replay.body) == (202, first.body), "nothing is settled yet"
    till.crash()
    fault_mint.behave()
    till.revive()
    wait_for(lambda: serve(office, *ids, key=key).status == 200, 90, "the daemon has carried it out")
    told = serve(office, *ids, key=key).json()
    assert told["success"] and [one["ticketId"] for one in told["results"]] == ids
    assert till.takings() == 480 and office.outbox()["depth"] == 0
    assert vote(office, waits).json()["status"] == "executed", "the same vote again is no other decision"
    assert till.takings() == 480 and serve(office, *ids, key=key).json() == told


def test_a_vote_that_was_counted_before_a_crash_is_carried_out_after_it(lab, mint, make_till):
    till = make_till(mint, limit={"tx": 15}, approval={"above": 1000, "required": 1})
    office, ids, key = till.office, [new_id(), new_id()], new_id()
    waits = serve(office, *ids, key=key).json()
    vote_key = new_id()
    for _ in range(4):
        try:
            lab.router.connect("127.0.0.1", 2120).close()
            late = kill_soon(till, 0.03)
            vote(office, waits, key=vote_key)
        except (OSError, ValueError):
            pass
        late.join()
        till.revive()
    if serve(office, *ids, key=key).status != 200:
        vote(office, waits, key=vote_key)
    wait_for(lambda: serve(office, *ids, key=key).status == 200, 60, "it is carried out")
    assert serve(office, *ids, key=key).json()["success"]
    wait_for(lambda: till.takings() == 480, 30, "once")
    assert results(till, "approve")[:1] == ["ok"], "no vote without a row"


def kill_soon(till, seconds):
    import threading

    timer = threading.Timer(seconds, till.crash)
    timer.start()
    return timer


def test_what_is_rejected_answers_so_for_ever(make_office):
    office = make_office(AWAY, limit={"tx": 5}, approval={"above": 1000, "required": 1})
    id, key = new_id(), new_id()
    from lab.office import PRODUCT

    waits = serve(office, id, key=key, product=PRODUCT).json()
    assert vote(office, waits, "reject").json()["status"] == "rejected"
    assert error(serve(office, id, key=key, product=PRODUCT)) == (403, "approval_rejected")
    assert error(vote(office, waits)) == (409, "already_decided")
    office.daemon.kill()
    office.daemon.start()
    assert error(serve(office, id, key=key, product=PRODUCT)) == (403, "approval_rejected")


def test_the_last_of_several_votes_executes_an_operators_batch(lab, mint, make_till):
    auth = {"domain": DOMAIN, "url": f"https://{DOMAIN}"}
    who = {"name": "a-cashier", "pubkey": CASHIER.key, "role": "cashier"}
    managers = [LoginWallet(401), LoginWallet(402)]
    sections = {
        f"operator__m{number}": {"name": f"a-manager{number}", "pubkey": wallet.key, "role": "manager"}
        for number, wallet in enumerate(managers)
    }
    limits = {"limit": {"day": 30}, "approval": {"above": 1000, "required": 2}}
    till = make_till(mint, auth=auth, operator__c=who, **sections, **limits)
    cashier = Operator(lab, CASHIER).sign_in()

    def batch(key, *tickets):
        order = {"venueId": "guest", "funding": "treasury", "tickets": list(tickets)}
        headers = {"x-jwt": cashier.token, "Idempotency-Key": key}
        return cashier.browser.request("POST", "/admin/batch-mint", order, headers)

    key, one = new_id(), ticket(40)
    first = batch(key, one)
    waits = first.json()
    assert (first.status, waits["required"], waits["approvals"]) == (202, 2, 0), first

    def voted(wallet, decision="approve"):
        manager = Operator(lab, wallet).sign_in()
        headers = {"x-jwt": manager.token, "Idempotency-Key": new_id()}
        path = f"/admin/approvals/{waits['approvalId']}/{decision}"
        return manager.browser.request("POST", path, {"requestHash": waits["requestHash"]}, headers)

    for _ in range(2):
        again = voted(managers[0]).json()
        assert (again["approvals"], again["status"]) == (1, "pending"), "a second vote counts once"
    assert batch(key, one).body == first.body and till.takings() == 500
    last = voted(managers[1]).json()
    assert (last["approvals"], last["status"]) == (2, "executed")
    final = batch(key, one)
    assert final.status == 200 and final.json()["summary"]["succeeded"] == 1, final
    assert till.takings() == 460 and batch(key, one).body == final.body
    assert results(till, "approve") == ["ok", "ok", "ok"] and results(till, "batch-mint")[0] == "begun"
    rows = [row for row in till.daemon.data("audit") if row["target"] == waits["approvalId"]]
    made = [(row["who"], row["role"], row["result"]) for row in rows if row["what"] == "batch-mint"]
    assert made == [("a-cashier", "cashier", "begun"), ("a-cashier", "cashier", "ok")]


def test_a_token_that_turns_out_to_be_spent_ends_its_session_and_the_portal_says_why(
    lab, fault_mint, make_till, stranger, other_stranger
):
    till = make_till(fault_mint)
    bad, good = till.office.batch(ticket(21), ticket(8), funding="treasury").json()["successful"]
    fault_mint.close()
    for guest, one in ((stranger, bad), (other_stranger, good)):
        answer = till.post(guest, one["metadataUri"])
        assert answer.status == 200, answer.text
    paid = till.daemon.paid_macs()
    assert {stranger.mac, other_stranger.mac} <= paid
    # Somebody who has the venue's key has spent it first.
    fault_mint.spent.update(y_of(proof) for proof in decode_token(bad["metadataUri"]).proofs)
    till.crash()
    fault_mint.open()
    till.revive()
    wait_for(lambda: stranger.mac not in till.daemon.paid_macs(), 90, "its session is ended")
    assert other_stranger.mac in till.daemon.paid_macs()
    page = stranger.get(f"{PORTAL}/", headers={"Accept": "text/html", "Accept-Language": "en"}).text
    assert "turned out to be spent already" in page
    assert "turned out to be spent" not in other_stranger.get(f"{PORTAL}/", headers={"Accept": "text/html"}).text
    wait_for(lambda: till.takings() == 500 - 21, 60, "the good one is in the takings")
    till.daemon.restart()
    assert stranger.mac not in till.daemon.paid_macs()
    assert "turned out to be spent already" in stranger.get(f"{PORTAL}/", headers={"Accept": "text/html"}).text


def test_a_mint_that_refuses_fails_its_tickets_and_their_buyers_are_told(lab, fault_mint, make_till):
    with Receiver(lab.internet) as shop:
        told_by = {"notify_url": shop.url, "notify_secret_file": secret_file(lab), "allow_http": 1}
        till = make_till(fault_mint, voucher=told_by, limit={"day": 50})
        fault_mint.misbehave("unprocessable", on="swap")
        one = ticket(40)
        answer = till.office.batch(one, funding="treasury")
        assert (answer.status, answer.json()["failed"][0]["error"]) == (200, "mint_refused"), answer
        told = shop.wait(lambda told: told["ticketId"] == one["id"])
        assert (told["status"], told["code"]) == ("failed", "mint_refused")
        fault_mint.behave()
        # What failed was given back: of the takings, and of the limit.
        assert till.takings() == 500
        assert till.office.batch(ticket(40), funding="treasury").json()["summary"]["succeeded"] == 1


@needs_faketime
def test_what_nobody_has_redeemed_comes_back_by_the_refund_key_once_its_time_is_over(lab, fault_mint, make_daemon):
    clock = FakeClock(lab)
    daemon = make_daemon(Mint(fault_mint.url), start=False)
    daemon.start(env=clock.env)
    till = Till(lab, fault_mint, daemon, 100)
    order = ("voucher", "create", "1", "--sat", "21", "--funding", "treasury", "--expires", "1h")
    (one,) = daemon.data(*order)["vouchers"]
    assert till.takings() == 79
    proofs = decode_token(one["token"]).proofs
    tags = {tag[0]: tag[1:] for tag in json.loads(proofs[0]["secret"])[1]["tags"]}
    (refund,), (locktime,) = tags["refund"], tags["locktime"]
    assert int(locktime) == one["expires_at"] + 86_400
    clock.later(3600 + 86_400 - 60)
    daemon.command("status")
    assert till.takings() == 79, "a minute too early"
    swaps = []
    plain = fault_mint._swap
    fault_mint._swap = lambda parts, body: (swaps.append(body), plain(parts, body))[1]
    clock.later(3600 + 86_400 + 60)
    wait_for(lambda: till.takings() == 100, 60, "it is back")
    spent = [proof for body in swaps for proof in body["inputs"] if proof["secret"].startswith('["P2PK"')]
    assert {proof["secret"] for proof in spent} == {proof["secret"] for proof in proofs}
    for proof in spent:
        (signature,) = json.loads(proof["witness"])["signatures"]
        key = coincurve.PublicKeyXOnly(bytes.fromhex(refund)[1:])
        assert key.verify(bytes.fromhex(signature), hashlib.sha256(proof["secret"].encode()).digest())
    assert daemon.data("voucher", "show", one["id"])["state"] == "refunded"
    assert till.redeem(lab.guest, one["code"]).status == 410
