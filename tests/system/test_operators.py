"""Operators: who may do what at the operator's interface, how one signs in, how one becomes one, and how one goes."""

import json
import os
import re
import time

import pytest

from lab import http_client
from lab.daemon import ADMIN_PORT
from lab.internet import AWAY
from lab.login import DOMAIN, LoginBrowser, LoginWallet
from lab.place import wait_for
from lab.websocket import Closed

ROLES = ("viewer", "cashier", "manager", "owner")
WALLETS = {role: LoginWallet(200 + number) for number, role in enumerate(ROLES)}
STRANGER = LoginWallet(300)
AUTH = {"domain": DOMAIN, "url": f"https://{DOMAIN}"}
CARD = {"domain": "cards.example.com"}
FRESH = 60
LOGINS = 20


def operators(*roles) -> dict[str, dict]:
    section = {role: {"name": f"a-{role}", "pubkey": WALLETS[role].key, "role": role} for role in roles}
    return {f"operator {role}": options for role, options in section.items()}


class Operator:
    """A browser on the operator's machine, and a wallet on a phone elsewhere."""

    def __init__(self, lab, wallet: LoginWallet) -> None:
        self.lab, self.wallet, self.token = lab, wallet, None
        self.browser = LoginBrowser(lab.router, ADMIN_PORT)

    def sign_in(self, action: str = "login") -> "Operator":
        k1 = self.browser.ask(f"?aud=admin&action={action}")["k1"]
        answer = self.wallet.answer_through_tunnel(self.lab.router, k1).json()
        code = re.fullmatch(r"Code (\d\d)", answer["message"]).group(1)
        assert self.browser.confirm(k1, code).status == 200
        self.token = self.browser.status(k1)["jwt"]
        return self

    def ask(self, method, path, body=None):
        return self.browser.request(method, path, body, {"x-jwt": self.token} if self.token else None)


@pytest.fixture
def start(make_daemon):
    def start(*roles, **sections):
        return make_daemon(AWAY, sections={"auth": AUTH, "card": CARD, **operators(*roles), **sections})

    return start


def with_token(lab, daemon, method, path, body=None):
    with open(os.path.join(daemon.state_dir, "admin.token")) as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}"}
    sent = json.dumps(body).encode() if body is not None else None
    return http_client.exchange(lab.router.connect("127.0.0.1", ADMIN_PORT), method, path, "x", headers, sent)


def code_of(answer) -> str:
    told = answer.json()
    return told["error"]["code"] if "error" in told else told["code"]


def test_each_role_may_what_those_before_it_may(lab, start):
    start(*ROLES)
    mac = lab.guest.mac
    table = [
        ("GET", "/admin/status", None, "viewer"),
        ("GET", "/admin/sessions", None, "viewer"),
        ("GET", "/admin/cards", None, "viewer"),
        ("GET", "/admin/operators", None, "viewer"),
        ("GET", "/connectioncodes/list", None, "viewer"),
        ("POST", "/admin/grant", {"mac": mac, "amount": "1h"}, "cashier"),
        ("POST", "/connectioncodes", {"seconds": 60}, "cashier"),
        ("POST", "/admin/revoke", {"mac": mac}, "manager"),
        ("GET", "/admin/audit", None, "manager"),
        ("POST", "/admin/reload", None, "manager"),
        ("POST", "/api/createboltcard", {"card_name": "A", "tx_max": 1, "day_max": 1}, "owner"),
    ]
    for role in ROLES:
        operator = Operator(lab, WALLETS[role]).sign_in()
        assert operator.ask("GET", "/me").json()["role"] == role
        for method, path, body, least in table:
            answer = operator.ask(method, path, body)
            may = ROLES.index(role) >= ROLES.index(least)
            # There may be no session to end.
            assert (answer.status in (200, 201, 404)) if may else answer.status == 403, (role, path, answer)
            assert may or code_of(answer) == "forbidden"


def test_a_tenants_operator_has_the_guests_of_its_venues_and_nothing_of_the_router(lab, start):
    hall = {"name": "Hall", "device": ["br-hall"], "metric": "milliseconds", "step_size": 60_000}
    club = {"venue": ["hall"], "operator": ["a-owner"]}
    daemon = start("owner", "manager", **{"venue hall": hall, "tenant club": club})
    operator = Operator(lab, WALLETS["owner"]).sign_in()
    mac = lab.guest.mac
    for path in ("status", "operators", "audit", "cards", "wallet", "wallet/info"):
        answer = operator.ask("GET", f"/admin/{path}")
        assert (answer.status, code_of(answer)) == (403, "forbidden"), path
    for path, body in (
        ("/admin/reload", None),
        ("/connectioncodes", {"seconds": 60}),
        ("/api/createboltcard", {"card_name": "A", "tx_max": 1, "day_max": 1}),
    ):
        answer = operator.ask("POST", path, body)
        assert (answer.status, code_of(answer)) == (403, "forbidden"), path
    refused = operator.ask("POST", "/admin/grant", {"mac": mac, "amount": "1h", "venue": "guest"})
    assert (refused.status, code_of(refused)) == (404, "unknown_venue")
    daemon.command("grant", mac, "1h", "--venue", "guest")
    assert operator.ask("GET", "/admin/sessions").json() == []
    assert operator.ask("GET", "/admin/clients").json() == []
    assert code_of(operator.ask("POST", "/admin/revoke", {"mac": mac})) == "no_session"
    assert code_of(operator.ask("GET", "/admin/sessions?tenant_id=main")) == "not_found"
    granted = operator.ask("POST", "/admin/grant", {"mac": mac, "amount": "1h"})
    assert (granted.status, granted.json()["venue"]) == (200, "hall")
    assert [row["venue"] for row in operator.ask("GET", "/admin/sessions").json()] == ["hall"]
    # Who is in no tenant's section works for the platform.
    manager = Operator(lab, WALLETS["manager"]).sign_in()
    assert manager.ask("GET", "/admin/status").status == 200
    assert manager.ask("POST", "/admin/revoke", {"mac": mac}).json()["venues"] == ["guest", "hall"]


def test_without_a_section_nobody_is_an_operator(lab, start):
    daemon = start()
    operator = Operator(lab, STRANGER)
    k1 = operator.browser.ask("?aud=admin")["k1"]
    answer = STRANGER.answer_through_tunnel(lab.router, k1)
    assert (answer.status, answer.json()["status"]) == (403, "ERROR")
    assert operator.browser.status(k1) == {"status": "expired"}
    assert ("stranger", "login", "forbidden") in [
        (row["who"], row["what"], row["result"]) for row in daemon.data("audit")
    ]
    assert daemon.data("operator", "list") == []


def test_what_is_not_there_is_refused_before_it_is_missing(lab, daemon):
    browser = LoginBrowser(lab.router, ADMIN_PORT)
    for path in ("/admin", "/admin/", "/admin/nothing", "//admin/x", "/api", "/api/x", "/connectioncodes"):
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            answer = browser.request(method, path)
            assert (answer.status, code_of(answer)) == (401, "unauthorized"), (method, path)
        answer = with_token(lab, daemon, "GET", path)
        assert (answer.status, code_of(answer)) == (404, "not_found"), path


def test_a_guests_token_is_none_of_an_operators(lab, start):
    start("owner")
    token = LoginBrowser(lab.guest).log_in(WALLETS["owner"])
    browser = LoginBrowser(lab.router, ADMIN_PORT)
    for headers in ({"x-jwt": token}, {"Authorization": f"Bearer {token}"}):
        answer = browser.request("GET", "/admin/status", headers=headers)
        assert (answer.status, code_of(answer)) == (403, "forbidden")
    admin = Operator(lab, WALLETS["owner"]).sign_in().token
    assert LoginBrowser(lab.guest).with_token(admin).status == 403


def test_who_is_taken_off_the_list_is_out_within_five_seconds(lab, start):
    daemon = start("owner", "viewer")
    owner, viewer = (Operator(lab, WALLETS[role]).sign_in() for role in ("owner", "viewer"))
    assert viewer.ask("GET", "/admin/status").status == 200
    socket, _ = viewer.browser.websocket(f"/websocket?token={viewer.token}")
    gone = daemon.sections.pop("operator viewer")
    daemon.write_config()
    wait_for(lambda: viewer.ask("GET", "/admin/status").status == 401, 5)
    assert viewer.ask("GET", "/me").status == 401
    with pytest.raises(Closed):
        socket.receive()
    assert owner.ask("GET", "/admin/status").status == 200
    # A session that has ended does not come back with the key, nor with more rights.
    daemon.sections["operator viewer"] = gone | {"role": "owner"}
    daemon.write_config()
    wait_for(lambda: "a-viewer" in daemon.command("operator", "list").out, 5)
    time.sleep(3)
    assert viewer.ask("GET", "/admin/status").status == 401
    assert Operator(lab, WALLETS["viewer"]).sign_in().ask("GET", "/admin/wallet").status == 200
    daemon.sections["operator owner"]["role"] = "viewer"
    daemon.write_config()
    wait_for(lambda: owner.ask("GET", "/admin/wallet").status == 403, 5)


def test_what_shows_a_key_needs_a_signature_of_this_minute(lab, start):
    daemon = start("owner")
    owner = Operator(lab, WALLETS["owner"]).sign_in()
    order = {"card_name": "Alice", "tx_max": 1, "day_max": 1}
    assert owner.ask("POST", "/admin/cards", order).status == 200
    time.sleep(FRESH + 1)
    assert owner.ask("GET", "/admin/cards").status == 200
    for path, body in (("/admin/cards", order), ("/admin/cards/1/wipe", None), ("/admin/cards/1/reprogram", None)):
        stale = owner.ask("POST", path, body)
        assert (stale.status, code_of(stale)) == (403, "fresh_signature_needed")
    owner.token = owner.ask("GET", "/refresh_jwt").json()["jwt"]
    assert owner.ask("POST", "/admin/cards", order).status == 403, "a renewed token is no new signature"
    before = owner.token
    owner.sign_in("auth")
    assert owner.browser.request("GET", "/admin/cards", None, {"x-jwt": before}).status == 401, "it is replaced"
    assert owner.ask("POST", "/admin/cards", order).status == 200
    assert with_token(lab, daemon, "POST", "/admin/cards", order).status == 200, "the token file needs none"


def test_the_token_is_switched_off_where_there_is_an_owner(lab, start):
    daemon = start("owner")
    assert with_token(lab, daemon, "GET", "/admin/status").status == 200
    daemon.sections["admin"] = {"token": 0}
    daemon.write_config()
    wait_for(lambda: with_token(lab, daemon, "GET", "/admin/status").status == 401, 5)
    assert Operator(lab, WALLETS["owner"]).sign_in().ask("GET", "/admin/status").status == 200
    del daemon.sections["operator owner"]
    daemon.write_config()
    refused = daemon.command("check", check=False)
    assert refused.code == 1 and "would let nobody in as owner" in refused.out
    time.sleep(3)
    assert Operator(lab, WALLETS["owner"]).sign_in().ask("GET", "/admin/status").status == 200, "a broken file"


def test_who_logs_in_and_out_again_and_again_turns_no_audit_log_over(lab, start):
    daemon = start("viewer", "owner")
    for _ in range(LOGINS):
        viewer = Operator(lab, WALLETS["viewer"]).sign_in()
        assert viewer.ask("POST", "/logout").status == 204
    asked = viewer.browser.ask("?aud=admin")["k1"]
    code = viewer.wallet.answer_through_tunnel(lab.router, asked).json()["message"].removeprefix("Code ")
    refused = viewer.browser.confirm(asked, code)
    assert (refused.status, code_of(refused)) == (429, "too_many")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert viewer.browser.status(asked) == {"status": "expired"}
    assert Operator(lab, WALLETS["owner"]).sign_in().ask("GET", "/admin/status").status == 200
    rows = [row["what"] for row in daemon.data("audit")]
    assert rows == ["login", "logout"] * LOGINS + ["login"]


def test_what_an_operator_does_is_written_under_its_name(lab, start):
    daemon = start("cashier")
    cashier = Operator(lab, WALLETS["cashier"]).sign_in()
    cashier.ask("POST", "/admin/grant", {"mac": lab.guest.mac, "amount": "1h"})
    cashier.ask("POST", "/admin/revoke", {"mac": lab.guest.mac})
    rows = [(row["who"], row["role"], row["what"], row["result"]) for row in daemon.data("audit")]
    assert rows == [
        ("a-cashier", "cashier", "login", "ok"),
        ("a-cashier", "cashier", "grant", "ok"),
        ("a-cashier", "cashier", "revoke", "forbidden"),
    ]


@pytest.mark.parametrize("path", ["/logout", "/logout_all"])
def test_an_operators_logout_and_its_row_are_one_commit(lab, start, path):
    daemon = start("owner")
    owner = Operator(lab, WALLETS["owner"]).sign_in()
    commits = lambda: daemon.status()["data"]["store"]["commits"]
    before = commits()
    assert owner.ask("POST", path).status == 204
    assert commits() - before == 1
    daemon.kill()
    daemon.start()
    rows = [(row["who"], row["what"], row["result"]) for row in daemon.data("audit")]
    assert rows == [("a-owner", "login", "ok"), ("a-owner", path[1:], "ok")]
    assert owner.ask("GET", "/me").status == 401


def enrolled(daemon, name, *more) -> str:
    link = daemon.data("operator", "enroll", name, *more)
    assert link["encode"].startswith("LNURL1") and link["expires_in"] == 600
    return re.search(r"k1=([0-9a-f]{64})", link["url"]).group(1)


def test_the_wallet_that_signs_the_shells_link_is_an_owner(lab, start):
    daemon = start()
    with open(daemon.config, "a") as file:
        file.write("\n# mine: do not touch\n")
    with open(daemon.config) as file:
        before = file.read()
    k1 = enrolled(daemon, "alice")
    assert STRANGER.answer_through_tunnel(lab.router, k1).json() == {"status": "OK"}
    with open(daemon.config) as file:
        after = file.read()
    assert after.startswith(before) and os.stat(daemon.config).st_mode & 0o777 == 0o600
    assert [line.strip() for line in after[len(before) :].splitlines() if line] == [
        "config operator",
        "option name 'alice'",
        f"option pubkey '{STRANGER.key}'",
        "option role 'owner'",
    ]
    alice = Operator(lab, STRANGER).sign_in()
    assert alice.ask("GET", "/me").json()["role"] == "owner"
    assert STRANGER.answer_through_tunnel(lab.router, k1).status == 400, "once"
    told = [(row["who"], row["what"], row["target"], row["result"]) for row in daemon.data("audit")]
    assert told[0] == ("shell", "operator enroll", "alice", "ok")
    assert told[1:3] == [("alice", "enrolled", "alice", result) for result in ("begun", "ok")]
    assert k1 not in daemon.log() and STRANGER.key not in daemon.log()
    daemon.restart()
    assert [one["name"] for one in daemon.data("operator", "list")] == ["alice"]


def test_enrolment_by_a_guests_phone_and_in_another_role(lab, start):
    daemon = start()
    k1 = enrolled(daemon, "bob", "--role", "cashier")
    assert LoginWallet(301).answer(lab.guest, k1).status == 200
    assert daemon.data("operator", "list") == [{"name": "bob", "pubkey": LoginWallet(301).key, "role": "cashier"}]


def test_what_cannot_be_enrolled_is_not(lab, start):
    daemon = start("owner")
    assert daemon.command("operator", "enroll", "a-owner", check=False).code == 1
    assert daemon.command("operator", "enroll", "a b", check=False).code != 0
    assert daemon.command("operator", "enroll", "bob", "--role", "king", check=False).code == 2
    k1 = enrolled(daemon, "bob")
    assert WALLETS["owner"].answer_through_tunnel(lab.router, k1).status == 403, "a key is one operator"
    assert STRANGER.answer_through_tunnel(lab.router, k1).status == 400, "a key that is not allowed ends it"
    k1 = enrolled(daemon, "bob")
    wrong = STRANGER.path(k1, sig=STRANGER.sign("11" * 32))
    for _ in range(5):
        socket = lab.router.connect("127.0.0.1", 2124)
        assert http_client.exchange(socket, "GET", wrong, DOMAIN).status == 401
    assert STRANGER.answer_through_tunnel(lab.router, k1).status == 400, "the fifth wrong one ends it"
    first, second = enrolled(daemon, "carol"), enrolled(daemon, "carol")
    assert STRANGER.answer_through_tunnel(lab.router, first).status == 400, "a newer one ends it"
    daemon.write_config("broken")
    assert STRANGER.answer_through_tunnel(lab.router, second).status == 503
    with open(daemon.config) as file:
        assert file.read() == "broken"


def test_without_the_section_nobody_enrolls(daemon):
    refused = daemon.command("operator", "enroll", "alice", check=False)
    assert refused.code == 1 and "config auth" in refused.out
