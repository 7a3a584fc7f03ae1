"""Faults of the seed of vouchers, one by one (`tests/vectors/voucher_faults.tsv`); what hostile input gets."""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import os
import re
import sqlite3
import statistics
import time

import pytest

from lab.daemon import Mint
from lab.office import PRODUCT, SECRET, Office, error, new_id, secret_file, ticket
from lab.place import wait_for
from lab.treasury import Treasury

HALL = {"name": "Hall", "device": ["br-hall"], "metric": "milliseconds", "step_size": 60_000}


@pytest.fixture
def office(make_office):
    return make_office()


@pytest.fixture
def two(lab, make_office):
    """Two tenants: the hotel has the guests' venue, the club the hall."""
    product = {"id": PRODUCT, "venue": "guest", "sat": 10, "funding": "none", "tenant": "hotel"}
    sections = {
        "venue hall": HALL,
        "tenant hotel": {"venue": ["guest"]},
        "tenant club": {"venue": ["hall"]},
        "hmac_key": {"id": "shop", "secret_file": secret_file(lab), "tenant": "hotel"},
        "product hour": product,
    }
    return make_office(**sections)


def asked(office, method, path, body=None, tenant=None, key=None):
    joint = "&" if "?" in path else "?"
    return office.ask(method, f"{path}{joint}tenant_id={tenant}" if tenant else path, body, key)


def batch(office, tenant, venue, *tickets):
    order = {"venueId": venue, "funding": "none", "tickets": list(tickets)}
    return asked(office, "POST", "/admin/batch-mint", order, tenant, new_id())


def test_nothing_of_another_tenant_is_seen_or_changed(two):
    one = ticket()
    made = batch(two, "club", "hall", one)
    assert made.status == 200, made
    code = made.json()["successful"][0]["code"]
    report = asked(two, "POST", "/admin/reconcile/hall", {}, "club", new_id()).json()
    fix = {"ticketIds": [one["id"]], "reportId": report["reportId"]}
    id = one["id"]
    for method, path, body in [
        ("GET", f"/admin/mints/{id}", None),
        ("GET", f"/admin/mints/{id}?reveal=token", None),
        ("GET", f"/admin/vouchers/{id}", None),
        ("GET", f"/admin/vouchers/{id}/history", None),
        ("POST", f"/admin/vouchers/{id}/revoke", None),
        ("GET", "/admin/stats/hall", None),
        ("GET", "/admin/reconcile/hall/history", None),
        ("POST", "/admin/reconcile/hall", {}),
        ("POST", "/admin/reconcile/hall/fix", fix),
        ("POST", "/admin/batch-mint", {"venueId": "hall", "funding": "none", "tickets": [ticket()]}),
        ("POST", "/admin/vouchers", {"time": "1h", "venue": "hall"}),
        ("GET", f"/admin/vouchers/{report['reportId']}/sheet", None),
    ]:
        answer = asked(two, method, path, body, "hotel", new_id() if method == "POST" else None)
        assert answer.status == 404 and code not in answer.body.decode(), (path, answer)
    assert asked(two, "GET", "/admin/mints", None, "hotel").json()["mints"] == []
    board = asked(two, "GET", "/admin/dashboard", None, "hotel").json()
    assert (board["totalMints"], board["recentMints"]) == (0, [])
    # The same ticket's id is free for another tenant, and is another ticket.
    assert batch(two, "hotel", "guest", ticket() | {"id": id}).json()["summary"]["succeeded"] == 1
    assert asked(two, "GET", f"/admin/mints/{id}", None, "club").json()["venueId"] != "guest"
    assert asked(two, "GET", f"/admin/mints/{id}", None, "club").json()["status"] == "ready"


def test_no_request_names_itself_another_tenants(two):
    body = {"ticketIds": [new_id()], "eventId": PRODUCT, "userId": "u"}
    path = "/internal/mint-tickets"
    assert two.signed(path, body).status == 200
    assert error(two.signed(path, body, x_tenant_id="club")) == (403, "other_tenant")
    assert error(two.signed(path, {**body, "tenantId": "club"})) == (403, "other_tenant")
    assert asked(two, "GET", "/admin/dashboard", None, "club").json()["totalMints"] == 0
    assert error(asked(two, "GET", "/admin/dashboard", None, "inn")) == (404, "not_found")


def test_a_credential_without_a_tenant_writes_nothing(two):
    order = {"venueId": "guest", "funding": "none", "tickets": [ticket()]}
    for method, path, body in [
        ("POST", "/admin/batch-mint", order),
        ("POST", "/admin/vouchers", {"time": "1h"}),
        ("GET", "/admin/dashboard", None),
        ("POST", "/admin/reconcile/guest", {}),
    ]:
        answer = two.ask(method, path, body, new_id() if method == "POST" else None)
        assert error(answer) == (401, "no_tenant"), (path, answer)
    two.daemon.stop()
    rows = sqlite3.connect(os.path.join(two.daemon.state_dir, "store.db"))
    for table in ("vouchers", "voucher_batches", "idempotency_keys", "reconcile_reports"):
        assert rows.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,), table
    rows.close()


def test_reports_and_repairs_are_of_ones_own_venues(two):
    report = asked(two, "POST", "/admin/reconcile/guest", {}, "hotel", new_id()).json()
    fix = {"ticketIds": [new_id()], "reportId": report["reportId"]}
    assert error(asked(two, "POST", "/admin/reconcile/guest", {}, "club", new_id())) == (404, "venue_unknown")
    assert error(asked(two, "POST", "/admin/reconcile/hall/fix", fix, "club", new_id())) == (404, "report_unknown")
    assert asked(two, "GET", "/admin/reconcile/hall/history", None, "club").json()["reports"] == []
    assert len(asked(two, "GET", "/admin/reconcile/guest/history", None, "hotel").json()["reports"]) == 1


def test_not_found_and_not_yours_are_told_alike_and_take_as_long(two):
    one = ticket()
    code = batch(two, "club", "hall", one).json()["successful"][0]["code"]

    def timed(path, **headers):
        began = time.perf_counter()
        answer = two.raw("GET", path, None, {"Authorization": f"Bearer {two.token}", **headers})
        took = time.perf_counter() - began
        told = answer.json()
        told["error"].pop("request_id")
        return took, (answer.status, told)

    claim = {"Authorization": "Bearer 2222-2222-2222"}
    pairs = [
        (f"/admin/mints/{{}}?tenant_id=hotel", {}),
        (f"/admin/vouchers/{{}}?tenant_id=hotel", {}),
        (f"/tickets/{{}}/status", claim),
    ]
    for path, headers in pairs:
        medians = []
        for attempt in range(3):
            times: dict[str, list[float]] = {"theirs": [], "none": []}
            bodies = []
            for _ in range(200):
                for whose, id in (("theirs", one["id"]), ("none", new_id())):
                    took, body = timed(path.format(id), **headers)
                    times[whose].append(took)
                    bodies.append(body)
            assert all(body == bodies[0] for body in bodies) and bodies[0][0] == 404, bodies[0]
            medians = [statistics.median(taken) for taken in times.values()]
            if max(medians) <= 1.2 * min(medians):
                break
        assert max(medians) <= 1.2 * min(medians), (path, medians)
    assert code


def test_a_store_that_cannot_be_read_allows_nothing(office):
    office.daemon.stop()
    rows = sqlite3.connect(os.path.join(office.daemon.state_dir, "store.db"))
    rows.execute("PRAGMA user_version = 9999")
    rows.close()
    office.daemon.start()
    order = {"venueId": "guest", "funding": "none", "tickets": [ticket()]}
    for path, body in (
        ("/admin/batch-mint", order),
        ("/admin/vouchers", {"time": "1h"}),
        ("/admin/reconcile/guest", {}),
    ):
        assert office.ask("POST", path, body, new_id()).status == 503, path


def test_a_mint_that_fails_is_left_alone_for_a_while_and_orders_are_told_so_at_once(lab, fault_mint, make_daemon):
    treasury = Treasury(lab, fault_mint, make_daemon(Mint(fault_mint.url)), 500)
    office, key = Office(lab, treasury.daemon), new_id()
    fault_mint.misbehave("broken")
    one = ticket(20)

    def order(one=one, key=key):
        return office.ask("POST", "/admin/batch-mint", {"venueId": "guest", "tickets": [one]}, key)

    def is_open():
        order()
        return "open" in office.ask("GET", "/admin/dashboard").json()["breakers"].values()

    wait_for(is_open, 60, "the breaker opens", every=0.5)
    asked, began = sum(fault_mint.counts.values()), time.monotonic()
    other = ticket(20)
    refused = order(other, new_id())
    assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1, refused
    assert time.monotonic() - began < 2
    assert sum(fault_mint.counts.values()) - asked <= 1, "it is left alone"
    assert office.ask("GET", f"/admin/mints/{other['id']}").status == 404, "nothing was begun"
    fault_mint.behave()
    wait_for(lambda: order().status == 200, 120, "the same key has it made", every=2.0)
    assert order().json()["summary"]["succeeded"] == 1 and treasury.takings() == 480


def test_a_repeated_order_asks_nobody_to_pay_for_vouchers_that_have_failed(fault_mint, make_office):
    late = {"id": "late", "venue": "guest", "sat": 10, "funding": "invoice"}
    office = make_office(Mint(fault_mint.url), product__late=late)
    body = {"id": "evt-1", "orderId": "o-1", "tickets": [{"id": new_id()}], "eventId": "late", "userId": "u-1"}
    body |= {"amount": 10, "currency": "SAT"}
    fault_mint.misbehave("unprocessable", on="quote")
    first = office.webhook(body)
    assert first.status == 200 and "invoice" not in first.json(), first
    fault_mint.behave()

    def other():
        return {**body, "id": new_id(), "orderId": new_id(), "tickets": [{"id": new_id()}]}

    wait_for(lambda: office.webhook(other()).json().get("invoice"), 20, "the mint is back")
    again = office.webhook({**body, "id": "evt-2"})
    assert again.status == 200 and "invoice" not in again.json(), again


def test_one_event_that_comes_many_times_at_once_is_carried_out_once(office):
    tickets = [{"id": new_id()} for _ in range(5)]
    body = {"id": "evt-9", "orderId": "o-9", "tickets": tickets, "eventId": PRODUCT, "userId": "u"}
    body |= {"amount": 50, "currency": "SAT"}
    for missing in ("id", "orderId", "tickets", "amount", "currency"):
        assert office.webhook({k: v for k, v in body.items() if k != missing}).status == 400, missing
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: office.webhook(body), range(20)))
    assert {answer.status for answer in answers} == {200}, answers
    assert office.ask("GET", "/admin/dashboard").json()["totalMints"] == 5
    office.daemon.kill()
    office.daemon.start()
    assert office.webhook(body).json()["status"] == "already_processed"


def test_a_token_of_another_algorithm_signs_nobody_in(office):
    def part(value) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"sub": "token", "role": "owner", "aud": "admin", "iss": "tollgate", "exp": int(time.time()) + 600}
    for head in ({"alg": "none"}, {"alg": "HS256", "kid": "1"}, {"alg": "ES256", "kid": "../../etc/passwd"}, {}):
        text = f"{part(head)}.{part(claims)}"
        signature = base64.urlsafe_b64encode(hmac.new(b"", text.encode(), "sha256").digest()).decode().rstrip("=")
        for signed in (f"{text}.", f"{text}.{signature}"):
            answer = office.raw("GET", "/admin/dashboard", None, {"Authorization": f"Bearer {signed}"})
            assert answer.status == 401, head


def test_every_fault_of_the_seed_is_a_test():
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(top, "vectors", "voucher_faults.tsv")) as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    assert sorted({int(row[0]) for row in rows}) == list(range(1, 11)) and all(len(row) == 3 for row in rows)
    text = ""
    for folder in ("src", "tests/system"):
        for place, _, names in os.walk(os.path.join(os.path.dirname(top), folder)):
            for name in names:
                if name.endswith((".rs", ".py")):
                    with open(os.path.join(place, name)) as file:
                        text += file.read()
    tests = set(re.findall(r"\b(?:fn|def) ([a-z]\w*)", text))
    assert [row for row in rows if row[2] not in tests] == []


ID = "7b0f2f0e-6a52-4a0e-9c3b-0c6f0a3b9a01"
BAD_VALUES = [
    {"id": ID},
    None, True, -1, 0, 1.5, 1 << 63, 1 << 64, "", "../../etc/passwd", "a\x00b", "x" * 5000, [], {}, [[]], [{}]
]
RAW = [
    b"", b"null", b"7", b"[]", b"{", b"\xff\xfe", b'{"a":1e400}', b"[" * 100_000, b'{"a":' * 50_000, b"x" * 10_000_000
]
BODIES = {
    "/admin/reconcile/guest": {"colour": 1},
    "/admin/reconcile/guest/fix": {"ticketIds": [ID], "reportId": ID},
    f"/admin/approvals/{ID}/approve": {"requestHash": "00"},
    f"/admin/approvals/{ID}/reject": {"requestHash": "00"},
    "/admin/batch-mint": {"venueId": "guest", "tickets": [{"id": ID, "amount": 1}]},
    "/internal/mint-tickets": {"ticketIds": [ID], "eventId": PRODUCT, "userId": "u"},
    "/webhook/payment-completed": {
        "id": "e", "orderId": "o", "tickets": [{"id": ID}], "eventId": PRODUCT, "userId": "u", "amount": 10,
        "currency": "SAT",
    },
}


def hostile(good: dict) -> list[bytes]:
    """Bodies of which each is wrong in one way."""
    bad = [json.dumps({**good, name: value}) for name in good for value in BAD_VALUES]
    bad += [json.dumps({key: value for key, value in good.items() if key != name}) for name in good]
    bad.append(json.dumps({**good, "unknown": 1}))
    for name, value in good.items():
        if isinstance(value, list):
            many = [{"id": new_id(), "amount": 1} if isinstance(value[0], dict) else new_id() for _ in range(1001)]
            bad += [json.dumps({**good, name: value * 2}), json.dumps({**good, name: many})]
    return [*(text.encode() for text in bad), *RAW]


@pytest.mark.parametrize("path", list(BODIES))
def test_each_body_that_is_wrong_gets_one_clear_error(office, path):
    before = office.daemon.process.memory_kib()["VmRSS"]
    good = BODIES[path]
    for body in hostile(good):
        if path.startswith("/internal"):
            answer = office.signed(path, body)
        elif path.startswith("/webhook"):
            at = int(time.time())
            v1 = hmac.new(SECRET.encode(), f"{at}.".encode() + body, "sha256").hexdigest()
            answer = office.raw("POST", path, body, {"x-webhook-signature": f"t={at},v1={v1}"})
        else:
            headers = {"Authorization": f"Bearer {office.token}", "Idempotency-Key": new_id()}
            answer = office.raw("POST", path, body, headers)
        harmless = answer.status == 200 and is_harmless(path, body)
        assert harmless or 400 <= answer.status < 500, (body[:120], answer)
        assert harmless or answer.json()["error"].keys() >= {"code", "message", "request_id"}, (body[:120], answer)
    assert office.daemon.running
    office.daemon.must_be_sound()
    assert office.daemon.process.memory_kib()["VmRSS"] - before < 40_000


def is_harmless(path: str, body: bytes) -> bool:
    """No body at all is as good as an empty one where nothing is asked for; and what may be left out may be null."""
    return (path == "/admin/reconcile/guest" and body in (b"", b"{}")) or b"null" in body


QUERIES = [
    "count=0", "count=-1", "count=1e400", "count=9223372036854775808", "limit=0", "limit=101", "limit=x",
    "cursor=..%2f",
    "cursor=1.x", "before=-1", "from=x", "to=99999999999999999999", "status=none", "venueId=..%2f..", "eventId=%00",
    "scope=all%00", "reveal=code", "colour=1", "limit=1&limit=2", "tenant_id=..%2f", "tenant_id=" + "x" * 5000,
]
ASKED = [
    "/admin/dashboard", "/admin/batch-mint/estimate", "/admin/mints", f"/admin/mints/{ID}", "/admin/stats/guest",
    "/admin/reconcile/guest/history", "/admin/system/status", "/admin/cache/stats",
]


def test_each_query_that_is_wrong_gets_one_clear_error(office):
    for path in ASKED:
        for query in QUERIES:
            answer = office.ask("GET", f"{path}?{query}")
            assert 400 <= answer.status < 500 and error(answer)[1], (path, query, answer)
    for path in ("/admin/mints/..%2f..%2fetc", "/admin/stats/..%2f", "/admin/mints/%00", "/admin/stats/" + "x" * 5000):
        answer = office.ask("GET", path)
        assert 400 <= answer.status < 500, (path, answer)
    for path in ("/admin/cache/..", "/admin/cache/x", f"/admin/cache/{ID}?colour=1", "/admin/cache/clear?scope=x"):
        assert 400 <= office.ask("DELETE", path).status < 500, path
    assert office.daemon.running
    office.daemon.must_be_sound()


def test_hashes_of_requests_are_those_of_their_bytes(make_office):
    office = make_office(limit={"tx": 5}, approval={"above": 1000, "required": 1})
    body = json.dumps({"venueId": "guest", "funding": "none", "tickets": [ticket(10)]}, indent=1).encode()
    headers = {"Authorization": f"Bearer {office.token}", "Idempotency-Key": new_id()}
    waits = office.raw("POST", "/admin/batch-mint", body, headers).json()
    assert waits["requestHash"] == hashlib.sha256(body).hexdigest()
