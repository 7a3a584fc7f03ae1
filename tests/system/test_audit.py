"""The audit log: what was done and refused, over the socket, over HTTP and without a daemon; whether it was tampered
with; and what a flood of refusals costs.
"""

import hashlib
import json
import os
import sqlite3

import pytest

from lab import books, http_client
from lab.crash import at_commit
from lab.daemon import ADMIN_PORT
from lab.guest import ROUTER4
from lab.internet import AWAY
from lab.login import DOMAIN
from lab.place import PATIENCE, wait_for
from lab.purse import WITHIN, Purse

STRANGERS = 60


@pytest.fixture
def operator(lab, daemon):
    """Asks the operator's interface, with the token or another."""
    with open(os.path.join(daemon.state_dir, "admin.token")) as file:
        token = file.read().strip()

    def ask(method, path, body=None, token=token):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        sent = json.dumps(body).encode() if body is not None else None
        socket = lab.router.connect("127.0.0.1", ADMIN_PORT)
        return http_client.exchange(socket, method, path, "127.0.0.1", headers, sent)

    return ask


def told(rows) -> list[tuple]:
    return [(row["who"], row["what"], row["target"], row["result"]) for row in rows]


def test_changes_and_refusals_are_rows_and_looks_are_not(lab, daemon, operator):
    mac = lab.guest.mac
    daemon.command("grant", mac, "1h")
    daemon.command("status")
    daemon.command("sessions")
    assert operator("POST", "/admin/revoke", {"mac": mac}).status == 200
    assert operator("GET", "/admin/sessions").status == 200
    assert operator("GET", "/admin/nothing", token="0" * 64).status == 401
    assert operator("POST", "/admin/grant", {"mac": mac, "amount": "1h"}, token=None).status == 401
    rows = daemon.data("audit")
    assert told(rows) == [
        ("shell", "grant", f"{mac} 1h", "ok"),
        ("token", "revoke", mac, "ok"),
        ("stranger", "an unknown path", "127.0.0.1", "unauthorized"),
        ("stranger", "grant", "127.0.0.1", "unauthorized"),
    ]
    assert [row["role"] for row in rows] == ["owner", "owner", "-", "-"]
    assert [row["count"] for row in rows] == [1, 1, 1, 1]
    assert operator("GET", "/admin/audit").json() == rows == daemon.data("audit", "--since", "1d")
    assert operator("GET", f"/admin/audit?since={rows[0]['at'] + 86400}").json() == []
    assert operator("GET", "/admin/audit?verify=1").json() == {"verified": True, "rows": 4}


def test_the_chain_can_be_reckoned_again_by_others(lab, daemon):
    for amount in ("1h", "2h", "3h"):
        daemon.command("grant", lab.guest.mac, amount)
    before = "0" * 64
    for row in daemon.data("audit"):
        names = ("prev", "seq", "at", "who", "role", "what", "target", "result", "count")
        text = json.dumps([row[name] for name in names], separators=(",", ":"), ensure_ascii=False)
        assert row["prev"] == before
        before = hashlib.sha256(text.encode()).hexdigest()
        assert row["hash"] == before


def test_without_a_daemon_it_is_read_and_verified_and_the_first_bad_row_is_named(lab, daemon):
    for amount in ("1h", "2h", "3h"):
        daemon.command("grant", lab.guest.mac, amount)
    daemon.stop()
    assert daemon.data("audit", "--verify") == {"verified": True, "rows": 3}
    assert len(daemon.data("audit")) == 3
    with sqlite3.connect(os.path.join(daemon.state_dir, "store.db")) as db:
        db.execute("UPDATE audit SET target = 'nobody' WHERE seq = 2")
    db.close()
    bad = daemon.command("audit", "--verify", check=False)
    assert bad.code == 1 and "row 2 of the audit log was changed" in bad.out
    answer = json.loads(daemon.command("audit", "--verify", "--json", check=False).out)
    assert (answer["ok"], answer["code"]) == (False, "audit_damaged")
    daemon.start()
    assert daemon.command("audit", "--verify", check=False).code == 1


def test_a_flood_of_refusals_is_ten_rows_and_one_with_a_count(daemon, operator):
    before = daemon.status()["data"]["store"]["commits"]
    for _ in range(STRANGERS):
        assert operator("GET", "/admin/status", token="wrong").status == 401
    assert daemon.status()["data"]["store"]["commits"] - before <= 12
    rows = daemon.data("audit")
    assert [row["count"] for row in rows] == [1] * 10 + [STRANGERS - 10]
    assert (rows[-1]["seq"], rows[-1]["hash"], rows[-1]["open"]) == (None, None, True), "it is counted yet"
    assert not any("open" in row for row in rows[:-1])
    assert daemon.data("audit")[:10] == rows[:10]
    assert daemon.data("audit", "--verify") == {"verified": True, "rows": 10}
    assert daemon.status()["data"]["store"]["commits"] - before <= 12, "whoever reads writes nothing"
    assert {row["result"] for row in rows} == {"unauthorized"}


def test_what_was_done_and_its_row_are_one_commit(lab, daemon, operator):
    made = operator("POST", "/connectioncodes", {"seconds": 60}).json()["codes"]
    made += operator("POST", "/connectioncodes", {"seconds": 60}).json()["codes"]
    for one in made:
        assert operator("DELETE", f"/connectioncodes/{one['id']}").status == 200
    daemon.kill()
    daemon.start()
    assert [row["what"] for row in daemon.data("audit")] == ["invite create"] * 2 + ["invite delete"] * 2
    assert daemon.data("audit", "--verify") == {"verified": True, "rows": 4}


def of(daemon, what: str) -> list[str]:
    """The results of a command's rows."""
    assert daemon.data("audit", "--verify")["verified"]
    return [row["result"] for row in daemon.data("audit") if row["what"] == what]


@pytest.fixture
def purse(lab, fault_mint, make_daemon):
    return Purse(lab, fault_mint, make_daemon(fault_mint.url))


def settled(daemon) -> bool:
    return not books.rows(daemon, "SELECT id FROM wallet_ops WHERE state != 'done' AND kind != 'send'")


def test_what_is_killed_while_a_mint_changes_money_is_a_row_that_has_begun(purse):
    daemon, token = purse.daemon, purse.token(100)
    for what, words in (("wallet receive", [token]), ("wallet send", ["21"])):
        killed = purse.mint.when("swap", "arrived", daemon.kill)
        daemon.command(*what.split(), *words, check=False)
        assert killed.wait(PATIENCE)
        daemon.start()
        assert of(daemon, what) == ["begun"], what
        wait_for(lambda: settled(daemon), WITHIN)
    made = daemon.data("wallet", "send", "21")
    assert of(daemon, "wallet send") == ["begun", "begun", "ok"]
    daemon.data("wallet", "reclaim", str(made["id"]))
    assert of(daemon, "wallet reclaim") == ["begun", "ok"]
    daemon.command("wallet", "send", "1000", check=False)
    assert of(daemon, "wallet send")[3:] == ["insufficient"], "nothing was begun"
    assert token not in json.dumps(daemon.data("audit")) and purse.check() == 100


def test_the_same_is_true_without_a_daemon(purse):
    daemon, running = purse.daemon, []
    daemon.data("wallet", "receive", purse.token(100))
    daemon.stop()
    killed = purse.mint.when("swap", "arrived", lambda: wait_for(lambda: running)[0].kill())
    argv = [*daemon.program, "wallet", "send", "21", "-c", daemon.config]
    running.append(daemon.lab.router.spawn(argv, log=f"{daemon.dir}/spawned"))
    assert killed.wait(PATIENCE)
    running[0].wait()
    assert of(daemon, "wallet send") == ["begun"]
    daemon.data("wallet", "send", "21")
    assert of(daemon, "wallet send") == ["begun", "begun", "ok"]


def test_a_key_that_is_changed_in_a_file_has_a_row_before(make_daemon):
    daemon = make_daemon(AWAY, sections={"auth": {"domain": DOMAIN}})
    keys = lambda: [key["public"] for key in daemon.data("keys", "list")["keys"] if key["class"] == "login"]
    first = keys()
    daemon.data("auth", "rotate")
    assert of(daemon, "auth rotate") == ["begun", "ok"]
    second = keys()
    assert second[0] != first[0]
    dead = at_commit(daemon, 1, daemon.kill)
    daemon.command("auth", "rotate", check=False)
    assert dead.wait(PATIENCE)
    daemon.start()
    rows = of(daemon, "auth rotate")[2:]
    assert rows[:1] == ["begun"] or (rows, keys()) == ([], second), "no key without a row"


def test_a_flood_is_not_forgotten_when_the_daemon_stops(daemon, operator):
    for _ in range(30):
        operator("GET", "/admin/status", token="wrong")
    daemon.stop()
    assert sum(row["count"] for row in daemon.data("audit")) == 30


def test_no_secret_is_in_it(lab, daemon, operator):
    secret = "cashuAeyJ0b2tlbiI6W119secret"
    daemon.command("wallet", "receive", secret, check=False)
    operator("GET", f"/admin/{secret}?token={secret}", token=secret)
    lab.guest.get(f"http://{ROUTER4}:2121/admin/{secret}")
    rows = json.dumps(daemon.data("audit"))
    assert "wallet receive" in rows and "secret" not in rows
