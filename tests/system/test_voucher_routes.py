"""The routes of vouchers for operators and services: orders that are carried out once, limits, votes, signatures, and
what hostile input gets."""

import concurrent.futures
import hashlib
import json
import os
import time
import uuid

import pytest

from lab.daemon import ADMIN_PORT
from lab.office import PRODUCT, error, new_id, ticket


@pytest.fixture
def office(make_office):
    return make_office()


def test_a_batch_is_made_once_and_replayed_byte_for_byte(office):
    key, tickets = new_id(), [ticket(label="room 12"), ticket(eventId=PRODUCT)]
    first = office.batch(*tickets, key=key)
    assert first.status == 200, first
    told = first.json()
    assert [made["ticketId"] for made in told["successful"]] == [one["id"] for one in tickets]
    assert told["summary"]["total"] == told["summary"]["succeeded"] == 2 and told["failed"] == []
    code = told["successful"][0]["code"]
    assert len(code) == 14 and code.count("-") == 2
    again = office.batch(*tickets, key=f'"{key}"')
    assert again.body == first.body and again.headers["idempotent-replayed"] == "true"
    office.daemon.kill()
    office.daemon.start()
    assert office.batch(*tickets, key=key).body == first.body
    assert error(office.batch(tickets[0], key=key)) == (422, "idempotency_key_reused")
    (failed,) = office.batch(tickets[0]).json()["failed"]
    assert (failed["ticketId"], failed["error"], failed["retryable"]) == (tickets[0]["id"], "ticket_exists", False)
    for name in os.listdir(office.daemon.state_dir):
        with open(os.path.join(office.daemon.state_dir, name), "rb") as file:
            held = file.read()
        assert code.encode() not in held and code.replace("-", "").encode() not in held, name


def test_a_refused_request_does_not_use_its_key_up(office):
    key = new_id()
    assert error(office.ask("POST", "/admin/batch-mint", {}, None)) == (400, "idempotency_key_missing")
    assert error(office.batch({"id": "x"}, key=key)) == (400, "invalid_input")
    assert error(office.batch(ticket(), key=key, venueId="nowhere")) == (404, "venue_unknown")
    assert error(office.batch(ticket(eventId="nothing"), key=key)) == (404, "product_unknown")
    assert office.batch(ticket(), key=key).status == 200


def test_of_fifty_parallel_batches_exactly_ten_are_within_the_limit(make_office):
    office = make_office(limit={"day": 100})
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: office.batch(ticket(10)), range(50)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200] * 10 + [403] * 40
    assert {error(answer) for answer in answers if answer.status == 403} == {(403, "limit_exceeded")}


def test_what_no_takings_can_back_has_failed_and_is_given_back(make_office):
    office = make_office(limit={"day": 100})
    for _ in range(3):
        one = ticket(60)
        told = office.batch(one, funding="treasury").json()
        (failed,) = told["failed"]
        assert told["successful"] == [] and failed["ticketId"] == one["id"], told
        assert (failed["error"], failed["retryable"]) == ("insufficient_treasury", False)
        assert office.ask("GET", f"/admin/mints/{one['id']}").json()["status"] == "failed"
    order = ("voucher", "create", "2", "--sat", "50", "--funding", "treasury")
    assert office.daemon.command(*order, check=False).code == 1
    listed = office.daemon.data("voucher", "list")["vouchers"]
    assert {(row["state"], row["error_code"]) for row in listed} == {("failed", "insufficient_treasury")}
    assert office.batch(ticket(100)).status == 200


def test_vouchers_of_the_counter_count_against_its_limits(make_office):
    office = make_office(limit={"day": 100}, limit__till={"tx": 5, "operator": "shell"})
    assert error(office.ask("POST", "/admin/vouchers", {"n": 2, "sat": 60})) == (403, "limit_exceeded")
    assert office.ask("POST", "/admin/vouchers", {"n": 2, "sat": 40}).status == 200
    assert error(office.ask("POST", "/admin/vouchers", {"sat": 21})) == (403, "limit_exceeded")
    assert error(office.batch(ticket(21))) == (403, "limit_exceeded")
    assert office.daemon.command("voucher", "create", "--sat", "6", check=False).code == 1
    assert len(office.daemon.data("voucher", "create", "--sat", "5")["vouchers"]) == 1
    assert office.ask("POST", "/admin/vouchers", {"sat": 15}).status == 200
    assert office.daemon.data("voucher", "list")["total"] == 4


def test_parallel_requests_with_one_key_make_one_batch(office):
    key, tickets = new_id(), [ticket() for _ in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: office.batch(*tickets, key=key), range(20)))
    assert {answer.status for answer in answers} <= {200, 409}
    assert len({answer.body for answer in answers if answer.status == 200}) == 1


def test_a_service_is_believed_once_and_its_tickets_are_made_once(office):
    body = {"ticketIds": [new_id(), new_id()], "eventId": PRODUCT, "userId": new_id()}
    path = "/internal/mint-tickets"
    nonce, at = new_id(), int(time.time() * 1000) + 59_000
    wrong = office.signed(path, body, nonce=nonce, at=at, x_internal_signature="00" * 32)
    assert error(wrong) == (401, "INVALID_SIGNATURE")
    made = office.signed(path, body, nonce=nonce, at=at)
    assert made.status == 200, made
    told = made.json()
    assert told["success"] and told["summary"] == {"total": 2, "successful": 2, "failed": 0}
    assert error(office.signed(path, body, nonce=nonce, at=at)) == (401, "NONCE_REUSED")
    office.daemon.restart()
    assert error(office.signed(path, body, nonce=nonce, at=at)) == (401, "NONCE_REUSED")
    again = office.signed(path, body).json()
    assert [result.get("alreadyMinted") for result in again["results"]] == [True, True] and again["success"]
    assert [result["code"] for result in again["results"]] == [result["code"] for result in told["results"]]
    spaced = json.dumps(body).encode().replace(b", ", b",  ", 1)
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    assert office.signed(path, spaced, x_internal_body_hash=digest).status == 401
    for name in ("service", "key_id", "timestamp", "nonce", "signature", "body_hash"):
        assert error(office.signed(path, body, **{f"x_internal_{name}": None})) == (401, "MISSING_HEADERS"), name
    assert error(office.signed(path, body, x_tenant_id="other")) == (403, "other_tenant")
    assert error(office.signed(path, {**body, "tenantId": "other"})) == (403, "other_tenant")
    assert error(office.signed(path, {**body, "eventId": "other"})) == (404, "product_unknown")
    key, later = new_id(), {**body, "ticketIds": [new_id()], "queue": True}
    queued = office.signed(path, later, key=key)
    assert queued.status == 202 and uuid.UUID(queued.json()["jobId"])
    again = office.signed(path, later, key=key)
    assert (again.status, again.body) == (202, queued.body) and again.headers["idempotent-replayed"] == "true"


def test_no_more_of_a_product_than_there_may_be(office):
    ids = [new_id() for _ in range(60)]
    told = office.signed("/internal/mint", {"ticketIds": ids, "eventId": PRODUCT, "userId": "u"}).json()
    assert told["summary"] == {"total": 60, "successful": 50, "failed": 10}
    assert told["results"][-1]["error"] == "max_supply_reached"


def test_a_paid_order_is_carried_out_once(office):
    ids = [{"id": new_id()}, {"id": new_id()}]
    body = {"id": "evt-1", "orderId": "o-1", "tickets": ids, "eventId": PRODUCT, "userId": "u-1"}
    body |= {"amount": 20, "currency": "SAT"}
    assert office.webhook(body, sign=False).status == 401
    assert error(office.webhook(body, at=int(time.time()) - 400)) == (401, "TIMESTAMP_EXPIRED")
    assert error(office.webhook({**body, "amount": 10})) == (409, "amount_mismatch")
    done = office.webhook(body, port=2124)
    assert done.status == 200 and done.json()["success"], done
    assert done.json()["message"] == "Minting initiated for 2 tickets"
    assert office.webhook(body).json()["status"] == "already_processed"
    assert error(office.webhook({**body, "userId": "u-2"})) == (422, "event_id_reused")
    assert office.webhook({**body, "id": "evt-2"}, path="/webhook/payment-complete").status == 200
    other = {**body, "id": "evt-3", "tickets": [{"id": new_id()}], "amount": 10}
    assert error(office.webhook(other)) == (409, "order_mismatch")
    shared = {**body, "id": "evt-4", "orderId": "o-2", "tickets": [ids[0], {"id": new_id()}]}
    assert error(office.webhook(shared)) == (409, "order_mismatch")
    assert office.ask("GET", "/admin/dashboard").json()["totalMints"] == 2
    assert office.webhook({**other, "orderId": "o-2"}).status == 200, "a refused order is not bound"


def test_an_order_that_a_limit_refuses_may_come_again_with_other_tickets(make_office):
    office = make_office(limit={"tx": 15})
    many = [{"id": new_id()}, {"id": new_id()}]
    body = {"id": "evt-1", "orderId": "o-1", "tickets": many, "eventId": PRODUCT, "userId": "u-1"}
    body |= {"amount": 20, "currency": "SAT"}
    assert error(office.webhook(body)) == (403, "limit_exceeded")
    done = office.webhook({**body, "tickets": many[:1], "amount": 10})
    assert done.status == 200 and done.json()["message"] == "Minting initiated for 1 tickets"


def test_what_was_made_is_listed_counted_and_revealed_but_never_with_its_code(office):
    tickets = [ticket(10 + number) for number in range(3)]
    order = {"venueId": "guest", "funding": "none", "tickets": tickets}
    answer = office.ask("POST", "/admin/batch-mint", order, new_id(), **{"X-Request-Id": "ordered-1"})
    made = answer.json()["successful"]
    told = office.ask("GET", "/admin/mints?limit=2")
    assert made[0]["code"] not in told.body.decode()
    first, cursor = told.json()["mints"], told.json()["nextCursor"]
    rest = office.ask("GET", f"/admin/mints?limit=2&cursor={cursor}").json()
    assert {row["ticketId"] for row in first + rest["mints"]} == {one["id"] for one in tickets}
    assert rest["nextCursor"] is None and first[0]["status"] == "ready"
    id = tickets[0]["id"]
    shown = office.ask("GET", f"/admin/mints/{id}").json()
    assert "code" not in shown
    assert [(step["from"], step["to"], step["requestId"]) for step in shown["history"]] == [("", "ready", "ordered-1")]
    assert office.ask("GET", f"/admin/mints/{id}?reveal=token").json()["code"] == made[0]["code"]
    assert any(row["what"] == "reveal a voucher" for row in office.ask("GET", "/admin/audit").json())
    board = office.ask("GET", "/admin/dashboard").json()
    assert (board["totalMints"], board["outstandingSat"], len(board["recentMints"])) == (3, 33, 3)
    stats = office.ask("GET", "/admin/stats/guest").json()
    assert (stats["successfulMints"], stats["successRate"], stats["outstandingSat"]) == (3, 100, 33)
    assert error(office.ask("GET", f"/admin/stats/{new_id()}")) == (404, "venue_unknown")
    status = office.ask("GET", "/admin/system/status").json()
    assert status["database"] == {"connected": True} and status["outbox"]["depth"] == 0
    assert status["kms"] == {"provider": "file", "sealed": False, "keyVersions": {"voucher": 1}, "trouble": None}
    store = status["store"]
    assert (store["kind"], store["journalMode"], store["synchronous"]) == ("sqlite", "wal", "full")
    assert store["schemaVersion"] >= 20 and store["integrity"] == "ok" and store["freeBytes"] > 0
    told = office.ask("GET", "/admin/batch-mint/estimate?count=250&amount=3").json()
    assert (told["faceValue"], told["batchCount"], told["withinLimits"]) == (750, 3, True)
    for query in ("", "?count=0", "?count=10001", "?count=1e3", "?count=-1", "?count=1&x=1"):
        assert office.ask("GET", f"/admin/batch-mint/estimate{query}").status == 400, query
    assert office.ask("DELETE", "/admin/cache/clear").json()["message"] == "All cache cleared"
    assert office.ask("DELETE", f"/admin/cache/{id}").json()["ticketId"] == id
    assert office.ask("DELETE", "/admin/cache/x").status == 400
    wrong = office.ask("DELETE", "/admin/batch-mint")
    assert wrong.status == 405 and wrong.headers["allow"] == "POST" and error(wrong)[1] == "method_not_allowed"


def test_a_report_is_kept_and_a_repair_makes_nothing_twice(office):
    one = ticket()
    office.batch(one)
    assert error(office.ask("POST", "/admin/reconcile/guest")) == (400, "idempotency_key_missing")
    report = office.ask("POST", "/admin/reconcile/guest", None, new_id()).json()
    assert (report["totalChecked"], report["confirmed"], report["discrepancies"]) == (1, 1, [])
    wanted = {"ticketIds": [one["id"], new_id()], "reportId": report["reportId"]}
    fixed = office.ask("POST", "/admin/reconcile/guest/fix", wanted, new_id()).json()
    assert (fixed["attempted"], fixed["fixed"], fixed["failed"]) == (2, 0, 1)
    assert [result["outcome"] for result in fixed["results"]] == ["consistent", "not_found"]
    unknown = office.ask("POST", "/admin/reconcile/guest/fix", {**wanted, "reportId": new_id()}, new_id())
    assert error(unknown) == (404, "report_unknown")
    (kept,) = office.ask("GET", "/admin/reconcile/guest/history").json()["reports"]
    assert kept["reportId"] == report["reportId"]
    assert error(office.ask("GET", "/admin/reconcile/nowhere/history")) == (404, "venue_unknown")


def test_the_bearer_of_a_code_sees_what_became_of_it_and_nobody_else(office):
    one = ticket(210)
    code = office.batch(one).json()["successful"][0]["code"]

    def status(id, claim, port=ADMIN_PORT, **headers):
        headers |= {"Authorization": f"Bearer {claim}"} if claim else {}
        return office.raw("GET", f"/tickets/{id}/status", None, headers, port)

    told = status(one["id"], code.lower())
    assert (told.status, told.json()["status"], told.json()["amount"]) == (200, "ready", 210)
    assert status(one["id"], code, 2124).status == 200
    assert status(one["id"], code, **{"If-None-Match": told.headers["etag"]}).status == 304
    wrong = [(one["id"], "2222-2222-2222"), (new_id(), code), (one["id"], None), ("x", code)]
    refusals = [status(id, claim) for id, claim in wrong]
    assert {error(refusal) for refusal in refusals} == {(404, "not_found")}


def test_over_a_limit_others_agree_and_the_first_request_is_answered(make_office):
    office = make_office(limit={"tx": 50}, approval={"above": 1000, "required": 1})
    key, one = new_id(), ticket(60)
    first = office.batch(one, key=key)
    waits = first.json()
    assert (first.status, waits["status"], waits["required"], waits["approvals"]) == (202, "pending_approval", 1, 0)
    path = f"/admin/approvals/{waits['approvalId']}/approve"
    (listed,) = office.ask("GET", "/admin/approvals").json()["approvals"]
    assert (listed["approvalId"], listed["requestHash"]) == (waits["approvalId"], waits["requestHash"])
    assert (listed["kind"], listed["status"], listed["required"]) == ("batch_mint", "pending", 1)
    assert "work" not in listed and "request" not in listed
    own = office.ask("POST", path, {"requestHash": waits["requestHash"]}, new_id())
    assert error(own) == (403, "initiator_cannot_vote")
    assert office.ask("POST", path, {"requestHash": 0}, new_id()).status == 400
    assert office.ask("POST", path, {}, new_id()).status == 400
    assert office.batch(one, key=key).json() == waits
    assert error(office.ask("PUT", "/admin/limits", {})) == (400, "invalid_input")
    assert office.ask("PUT", "/admin/limits", {"tx": 500}).status == 202
    assert office.ask("GET", "/admin/dashboard").json()["pendingApprovals"] == 2


HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"{",
    b'{"venueId":"guest","tickets":{}}',
    b'{"venueId":7,"tickets":[]}',
    b'{"venueId":"../../etc","tickets":[{"id":"..","amount":1}]}',
    b'{"venueId":"guest\\u0000","tickets":[{"id":"x","amount":1e400}]}',
    b'{"venueId":"guest","tickets":[{"id":"7b0f2f0e-6a52-4a0e-9c3b-0c6f0a3b9a01","amount":-1}]}',
    b'{"venueId":"guest","tickets":[{"id":"7b0f2f0e-6a52-4a0e-9c3b-0c6f0a3b9a01","amount":9223372036854775808}]}',
    b'{"venueId":"guest","colour":1,"tickets":[{"id":"7b0f2f0e-6a52-4a0e-9c3b-0c6f0a3b9a01","amount":1}]}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("path", ["/admin/batch-mint", "/admin/limits", f"/admin/approvals/{PRODUCT}/approve"])
def test_hostile_bodies_get_one_clear_error(office, path):
    method = "PUT" if path.endswith("limits") else "POST"
    many = {"venueId": "guest", "funding": "none", "tickets": [ticket() for _ in range(101)]}
    twice = {**many, "tickets": [ticket()] * 2}
    bodies = [*HOSTILE, json.dumps(many).encode(), json.dumps(twice).encode()]
    headers = {"Authorization": f"Bearer {office.token}"}
    for body in bodies:
        answer = office.raw(method, path, body, headers | {"Idempotency-Key": new_id()})
        assert 400 <= answer.status < 500 and answer.json()["error"]["request_id"], (body[:80], answer)
    answer = office.raw(method, path, b"x" * 10_000_000, headers | {"Idempotency-Key": new_id()})
    assert error(answer) == (413, "body_too_large")
    assert office.daemon.running
    office.daemon.must_be_sound()
