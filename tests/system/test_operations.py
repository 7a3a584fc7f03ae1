"""Running it: a changed configuration, the operator's commands, what they may cost nobody, and what is said when the
machine refuses.
"""

import json
import os
import re
import signal
import socket
import stat
import time

import pytest

from lab import http_client
from lab.daemon import ADMIN_PORT, Mint, binary
from lab.fault_mint import FaultMint
from lab.guest import ROUTER4
from lab.internet import AWAY, MINT4
from lab.place import PATIENCE, wait_for
from lab.portal_client import post_request
from lab.terminal import typed_at_bash

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PORTAL = f"http://{ROUTER4}:2121/"
BROWSER = {"Accept": "text/html"}


def page(lab, port=2121) -> str:
    return lab.guest.get(f"http://{ROUTER4}:{port}/", BROWSER).text


def refusal(daemon, *argv):
    """Exit status and text of a command that fails."""
    done = daemon.command(*argv, check=False)
    return done.code, done.out


# A changed configuration


@pytest.mark.parametrize("way", ["command", "SIGHUP"])
def test_reload_applies_price_step_name_and_keeps_sessions(lab, seller, way):
    seller.command("grant", lab.guests[1].mac, "1h")
    assert "3 sat = 1 minute" in page(lab) and "Kibanda Wi-Fi" in page(lab)
    seller.mints[0].price = 7
    seller.venue |= {"step_size": 120000, "name": "Duka"}
    seller.write_config()
    if way == "command":
        assert seller.command("reload").code == 0
    else:
        seller.signal(signal.SIGHUP)
    wait_for(lambda: "7 sat = 2 minutes" in page(lab), 5)
    assert "Duka" in page(lab) and "Kibanda" not in page(lab)
    assert post_request(lab.guest, seller.mints[0].url, 6, apply=True).status == 400
    assert post_request(lab.guest, seller.mints[0].url, 7, apply=True).status == 201
    assert lab.guests[1].online() and seller.running
    assert [session["mac"] for session in seller.ask("sessions")["data"]] == [lab.guests[1].mac]


def test_reload_lets_a_new_trusted_station_in_and_a_former_one_out(lab, make_daemon):
    daemon = make_daemon(AWAY, venue={"trusted_mac": [lab.guest.mac]})
    assert lab.guest.online() and not lab.guests[1].online()
    daemon.venue["trusted_mac"] = [lab.guests[1].mac]
    daemon.write_config()
    daemon.command("reload")
    assert wait_for(lambda: lab.guests[1].online(timeout=0.5), 3)
    assert not lab.guest.online()


def test_reload_moves_the_ports_at_once(lab, daemon):
    daemon.command("grant", lab.guests[1].mac, "1h")
    daemon.main |= {"port": 2125, "redirect_port": 2126}
    daemon.write_config()
    lab.router.nft('insert rule inet fw4 input iifname "br-guest" tcp dport { 2125, 2126 } accept')
    daemon.command("reload")
    assert lab.guest.get("http://198.51.100.80/").headers["location"] == f"http://{ROUTER4}:2125/"
    assert lab.guest.get(f"http://{ROUTER4}:2125/", BROWSER).status == 200
    assert lab.guest.try_tcp(ROUTER4, 2121).outcome == "refused"
    assert lab.guests[1].online()


def test_broken_file_changes_nothing_and_says_so_with_its_line(lab, daemon):
    daemon.command("grant", lab.guests[1].mac, "1h")
    broken = daemon.uci().replace("option price_per_step '1'", "option price_per_step 'cheap'")
    line = next(number for number, text in enumerate(broken.splitlines(), 1) if "cheap" in text)
    daemon.write_config(broken)
    code, said = refusal(daemon, "reload")
    assert code == 1 and f"{daemon.config}:{line}: error:" in said and "price_per_step" in said
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: daemon.log().count("the configuration stays as it was") == 2, 5)
    assert f"{daemon.config}:{line}: error:" in daemon.log()
    assert "Kibanda Wi-Fi" in page(lab) and lab.guests[1].online()


def test_reload_says_what_waits_for_a_restart(daemon):
    daemon.main |= {"enabled": 0, "log_target": "syslog"}
    daemon.write_config()
    waiting = daemon.ask("reload")["data"]["warnings"]
    waiting = [text for text in waiting if text.endswith("when the service is restarted")]
    assert [text.split()[0] for text in waiting] == ["'enabled'", "state_dir,"]
    assert all(text in daemon.command("reload").out for text in waiting)


def test_check_warns_of_a_file_that_others_may_read(daemon):
    os.chmod(daemon.config, 0o644)
    done = daemon.command("check")
    assert f"warning: others than its owner may read it (mode 0644): chmod 600 {daemon.config}\n" in done.out
    os.chmod(daemon.config, 0o600)
    assert "chmod" not in daemon.command("check").out


def test_check_says_what_is_wrong_and_exits_1(lab, daemon):
    good = daemon.command("check", check=False)
    assert good.code == 0 and "can be used" in good.out
    daemon.write_config(daemon.uci().replace("option name 'Kibanda Wi-Fi'", "option name 'Kibanda\n"))
    code, said = refusal(daemon, "check")
    assert code == 1 and f"{daemon.config}:" in said and "error:" in said
    report = json.loads(daemon.command("check", "--json", check=False).out)
    assert (report["ok"], report["code"]) == (False, "invalid_config") and "cannot be used" in report["message"]
    assert report["data"]["problems"][0]["line"] > 0


def test_daemon_does_not_start_with_a_broken_file(lab, make_daemon):
    daemon = make_daemon(AWAY, start=False)
    daemon.write_config("config tollgate 'main'\n\toption port 'http'\n")
    assert daemon.start(ready=False).process.wait() == 1
    assert f"{daemon.config}:2: error:" in daemon.log()


def test_not_enabled_exits_0_and_leaves_the_locks_as_they_are(lab, daemon):
    daemon.command("grant", lab.guest.mac, "1h")
    daemon.stop()
    daemon.main["enabled"] = 0
    daemon.write_config()
    assert daemon.start(ready=False).process.wait() == 0
    assert lab.guest.online() and not lab.guests[1].online()
    assert lab.guests[1].try_tcp("198.51.100.80", 443).outcome == "refused"


# The operator's commands


def test_status_shows_guests_sales_mints_locks_store_and_clock(lab, seller):
    seller.command("grant", lab.guest.mac, "30m")
    wait_for(lambda: seller.status()["data"]["ready"], 5, "the mint has answered")
    status = seller.status()["data"]
    assert status["ready"] is True and status["not_ready"] == []
    assert status["guests"]["online"] == 1
    assert status["sales_today"] == {"count": 0, "sat": 0, "seconds": 0, "bytes": 0}, "what is given is not sold"
    assert status["mints"][0]["url"] == seller.mints[0].url and status["mints"][0]["reachable"] is True
    assert status["gate"]["firewall_lock"] and status["gate"]["routing_lock"] and status["gate"]["trouble"] is None
    assert status["store"]["state"] == "ok" and status["clock"]["plausible"] is True
    text = seller.command("status").out
    for word in ("online: 1", seller.mints[0].url, "firewall_lock: yes", "routing_lock: yes", "state: ok"):
        assert word in text


def test_clients_shows_who_is_there_and_who_has_paid(lab, daemon):
    assert lab.guest.ping(ROUTER4) and lab.guests[1].ping(ROUTER4)
    daemon.command("grant", lab.guest.mac, "30m")
    clients = {client["mac"]: client for client in daemon.data("clients")}
    paid, unpaid = clients[lab.guest.mac], clients[lab.guests[1].mac]
    assert 1740 < paid["remaining_seconds"] <= 1800 and unpaid["remaining_seconds"] is None
    assert lab.guest.ip in paid["addresses"] and lab.guests[1].ip in unpaid["addresses"]
    assert paid["device"] == "br-guest" and paid["venue"] == "guest"
    assert lab.guest.mac in daemon.command("clients").out


def test_sessions_are_listed_and_gone_when_revoked(lab, daemon):
    assert "no sessions" in daemon.command("sessions").out and daemon.ask("sessions")["data"] == []
    daemon.command("grant", lab.guest.mac, "30m")
    (session,) = daemon.ask("sessions")["data"]
    assert session["mac"] == lab.guest.mac and session["allotment_seconds"] == 1800
    assert abs(session["ends_at"] - time.time() - 1800) < 60
    assert lab.guest.mac in daemon.command("sessions").out
    assert daemon.ask("revoke", lab.guest.mac.upper())["ok"] is True
    assert daemon.ask("sessions")["data"] == []


def test_revoking_nobodys_session_fails_and_says_so(lab, daemon):
    code, said = refusal(daemon, "revoke", lab.guest.mac)
    assert code == 1 and lab.guest.mac in said and "no running session" in said
    assert json.loads(refusal(daemon, "revoke", lab.guest.mac, "--json")[1])["code"] == "no_session"


@pytest.mark.parametrize(
    "argv",
    [
        ["grant"],
        ["grant", "02:00:00:00:01:01"],
        ["revoke"],
        ["status", "now"],
        ["fly"],
        ["--colour"],
        ["check", "-c"],
        [],
    ],
)
def test_wrong_usage_exits_2(lab, daemon, argv):
    done = lab.router.run([binary(), *argv, *([] if argv[-1:] == ["-c"] else ["-c", daemon.config])], check=False)
    assert done.code == 2 and done.out


def test_the_daemon_of_another_configuration_than_the_named_one_is_not_asked(lab, daemon):
    for command in (["status"], ["wallet", "send", "1"]):
        done = lab.router.run([binary(), *command, "-c", f"{daemon.config}.typo"], check=False)
        assert done.code == 1 and f"{daemon.config}.typo: No such file" in done.out


def test_the_daemon_of_a_configuration_that_is_no_configuration_is_not_guessed(lab, daemon, tmp_path):
    other = tmp_path / "other"
    other.write_text("foo\n")
    done = lab.router.run([binary(), "grant", lab.guest.mac, "1h", "-c", str(other)], check=False)
    assert done.code == 1 and f"{other}:1: error" in done.out, done.out


def test_check_of_the_system_says_what_the_daemon_says(lab, daemon):
    def looked(*json_too):
        return lab.router.run([binary(), "check", "--system", "-c", daemon.config, *json_too], check=False).out

    assert json.loads(looked("--json"))["data"]["not_ready"] == daemon.data("status")["not_ready"]
    daemon.stop()
    assert looked().startswith("nothing is sold now: the daemon does not answer")


def test_a_configuration_that_cannot_be_read_is_named(lab, daemon):
    done = lab.router.run([binary(), "wiring", "-c", f"{daemon.config}.typo"], check=False)
    assert done.code == 1 and f"{daemon.config}.typo: error: cannot be read" in done.out


def test_values_that_mean_nothing_are_refused(lab, daemon):
    for argv in (("grant", "somebody", "1h"), ("grant", lab.guest.mac, "long"), ("grant", lab.guest.mac, "0m"),
                 ("grant", "ff:ff:ff:ff:ff:ff", "1h"), ("grant", "00:00:00:00:00:00", "1h"), ("revoke", "somebody")):
        code, said = refusal(daemon, *argv)
        assert code == 2 and said.startswith("tollgated: ") and "usage: " in said, argv
    assert daemon.paid_macs() == set()


def test_an_amount_below_zero_is_told_what_an_amount_looks_like(lab, daemon):
    code, said = refusal(daemon, "grant", lab.guest.mac, "-5m")
    assert code == 2 and "like 90m" in said


def test_people_read_durations_and_clock_times_and_scripts_numbers(lab, daemon):
    assert "remaining: 30m 0s" in daemon.command("grant", lab.guest.mac, "30m").out
    (line,) = daemon.command("sessions").out.splitlines()
    assert re.fullmatch(
        rf"name=\S+  mac={lab.guest.mac}  addresses=\S+  venue=guest  remaining=(29m \d+s|30m 0s)  allotment=30m 0s  "
        r"ends_at=\w+ .* UTC  paid=0 sat",
        line,
    ), line
    (session,) = daemon.ask("sessions")["data"]
    assert session["allotment_seconds"] == 1800 and abs(session["ends_at"] - time.time() - 1800) < 60
    state = daemon.command("status").out.splitlines()
    assert state[0].startswith("ready: ") and state[-1].startswith("version: ")


def test_each_command_tells_of_itself(lab):
    for argv, told in (
        (["grant", "--help"], "grant MAC AMOUNT [--venue VENUE]"),
        (["help", "wallet"], "wallet send AMOUNT"),
        (["setup", "-h"], "--dry-run FLAG..."),
    ):
        out = lab.router.run([binary(), *argv]).out
        assert told in out and len(out.splitlines()) < 40, argv


PROFILE = os.path.join(TOP, "openwrt", "files", "tollgated.profile")


def test_bash_completes_commands_options_and_devices(lab, daemon):
    assert lab.guest.ping(ROUTER4)
    complete = lambda line: lab.router.run(
        [binary(), "completion", "-c", daemon.config], env={"COMP_LINE": line, "COMP_POINT": str(len(line))}
    ).out.split()
    assert complete("tollgated se") == ["sessions", "setup"]
    assert lab.guest.mac in complete("tollgated grant ")
    assert complete("tollgated sessions --venue ") == ["guest", "--json"]
    with open(PROFILE) as file:
        assert lab.router.run([binary(), "completion"]).out in file.read()
    shown = typed_at_bash(lab, f". {PROFILE}\nPATH={os.path.dirname(binary())}:$PATH\n", "tollgated lightn\tte\t")
    assert shown.endswith("tollgated lightning test "), shown


def test_the_profile_does_nothing_in_another_shell(lab):
    for shell in (["dash"], ["busybox", "ash"]):
        done = lab.router.run([*shell, "-e", "-c", f". {PROFILE}; echo on"])
        assert done.out == "on\n", shell


def test_the_operators_http_interface_has_the_commands_that_reach_so_far(lab, daemon):
    with open(os.path.join(daemon.state_dir, "admin.token")) as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}"}

    def ask(method, path, body=None, status=200):
        sent = json.dumps(body).encode() if body is not None else b""
        answer = http_client.exchange(
            lab.router.connect("127.0.0.1", ADMIN_PORT), method, path, "127.0.0.1", headers, sent
        )
        assert answer.status == status, (path, answer)
        return answer.json()

    assert ask("GET", "/admin/status")["version"] == daemon.ask("status")["data"]["version"]
    granted = ask("POST", "/admin/grant", {"mac": lab.guest.mac, "amount": "30m", "venue": "guest"})
    assert granted == {"mac": lab.guest.mac, "venue": "guest", "remaining_seconds": 1800} and lab.guest.online()
    (session,) = ask("GET", "/admin/sessions?venue=guest")
    assert session["mac"] == lab.guest.mac and ask("GET", "/admin/sessions?venue=hall") == []
    assert ask("POST", "/admin/revoke", {"mac": lab.guest.mac})["revoked"] is True and not lab.guest.online()
    assert ask("POST", "/admin/reload")["reloaded"] is True
    refused = ask("POST", "/admin/revoke", {"mac": lab.guest.mac}, 404)["error"]
    assert refused["code"] == "no_session" and lab.guest.mac in refused["message"] and refused["request_id"]
    for body, code in (
        ({}, "usage"),
        ({"mac": "x", "amount": "1h"}, "invalid_mac"),
        ({"mac": lab.guest.mac}, "usage"),
        ([], "invalid_input"),
    ):
        assert ask("POST", "/admin/grant", body, 400)["error"]["code"] == code
    for name in (
        "run",
        "setup",
        "wiring",
        "gate/release",
        "wallet/seed",
        "wallet/restore",
        "wallet/send",
        "wallet/receive",
        "grant/",
    ):
        for method in ("GET", "POST") if name != "grant/" else ("GET",):
            assert ask(method, f"/admin/{name}", {}, 404)["error"]["code"] == "not_found"
    assert ask("GET", "/admin/cards/1/2/3", {}, 404)["status"] == "ERROR", "as the tools of card servers read it"


def test_control_socket_survives_nonsense(lab, daemon):
    for line in (
        b"",
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b'{"command": 5}\n',
        b'{"command":"grant","args":{}}\n',
        b"\xff\xfe\n",
        b"x" * 100_000 + b"\n",
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(os.path.join(daemon.run_dir, "control.sock"))
            try:
                sock.sendall(line)
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(65536)
            except OSError:
                continue
            assert not answer or json.loads(answer)["ok"] is False
    assert daemon.status()["ok"] is True


def test_a_daemon_that_does_not_run_is_named(lab, make_daemon):
    daemon = make_daemon(AWAY, start=False)
    for command in (("status",), ("grant", lab.guest.mac, "1h"), ("reload",)):
        code, said = refusal(daemon, *command)
        assert code == 1 and "does not answer" in said and "control.sock" in said


def test_commands_survive_a_reader_that_has_gone(lab, daemon):
    for command in ("status", "check", "--help", "sessions --json"):
        done = lab.router.run(
            ["bash", "-c", f"{binary()} {command} -c {daemon.config} | head -c 0; echo ${{PIPESTATUS[0]}}"]
        )
        assert done.out.strip() == "0", command


def test_log_reader_that_has_gone_does_not_stop_the_daemon(lab, make_daemon):
    daemon = make_daemon(AWAY, start=False)
    daemon.start(through=["bash", "-c", 'exec "$@" > >(head -c 1 >/dev/null) 2>&1', "bash"])
    assert daemon.ask("grant", lab.guest.mac, "1h")["ok"] and daemon.ask("revoke", lab.guest.mac)["ok"]
    assert daemon.running


def test_what_the_daemon_makes_is_its_own(lab, seller):
    assert post_request(lab.guest, seller.mints[0].url, 3, apply=True).status == 201
    mode = lambda path: stat.S_IMODE(os.stat(path).st_mode)
    assert mode(os.path.join(seller.run_dir, "control.sock")) == 0o600
    assert mode(seller.state_dir) == 0o700
    files = os.listdir(seller.state_dir)
    assert {"store.db", "customers.key", "takings.key"} <= set(files)
    for name in files:
        assert mode(os.path.join(seller.state_dir, name)) == 0o600, name


def test_state_directory_that_was_open_to_others_is_closed(lab, make_daemon):
    daemon = make_daemon(AWAY, start=False)
    os.chmod(daemon.state_dir, 0o755)
    daemon.start()
    assert stat.S_IMODE(os.stat(daemon.state_dir).st_mode) == 0o700


def test_second_daemon_on_the_same_state_refuses_clearly_and_harms_nothing(lab, daemon, make_daemon):
    daemon.command("grant", lab.guest.mac, "1h")
    second = make_daemon(AWAY, start=False, main={"state_dir": daemon.state_dir})
    assert second.start(ready=False).process.wait() == 1
    assert "in use by another process" in second.log()
    third = make_daemon(AWAY, start=False, main={"state_dir": daemon.state_dir, "run_dir": daemon.run_dir})
    assert third.start(ready=False).process.wait() == 1
    assert daemon.answers() and lab.guest.online()


# Health


def ask_as_operator(lab, path, headers=None, host="127.0.0.1"):
    connection = lab.router.connect(host, ADMIN_PORT)
    return http_client.exchange(connection, "GET", path, f"{host}:{ADMIN_PORT}", headers)


def health(lab, what, host="127.0.0.1"):
    return ask_as_operator(lab, f"/health/{what}".rstrip("/"), host=host)


def test_a_mint_that_is_away_makes_the_router_degraded_and_neither_unready_nor_dead(lab, make_daemon):
    with FaultMint(lab.internet, MINT4) as mint:
        mint.close()
        daemon = make_daemon(mint.url)
        told = health(lab, "").json()
        assert (told["status"], told["service"]) == ("ok", "tollgate") and "version" not in told
        assert health(lab, "live").json() == {"status": "alive", "live": True}
        assert health(lab, "startup").json() == {"status": "started"}
        assert health(lab, "ready").json() == {"status": "ready", "ready": True, "reasons": []}
        assert any("mint" in reason for reason in daemon.data("status")["not_ready"])
        assert health(lab, "full").status == 401, "it tells more than strangers are to know"
        with open(os.path.join(daemon.state_dir, "admin.token")) as file:
            bearer = {"Authorization": f"Bearer {file.read().strip()}"}
        told = ask_as_operator(lab, "/health/full", bearer).json()
        assert told["status"] == "degraded"
        assert told["checks"][f"mint:{mint.url}"]["status"] == "fail"
        assert told["checks"]["store"]["status"] == told["checks"]["firewall"]["status"] == "pass"
        mint.open()
        assert post_request(lab.guest, mint.url, 5).status == 201, "a guest's own request asks at once"
        wait_for(lambda: ask_as_operator(lab, "/health/full", bearer).json()["status"] == "healthy", 5)
        connection = lab.router.connect("127.0.0.1", ADMIN_PORT)
        assert http_client.exchange(connection, "POST", "/health/ready", "127.0.0.1").status == 405


def test_admin_listener_is_not_reachable_by_guests(lab, daemon):
    daemon.command("grant", lab.guest.mac, "1h")
    for guest in lab.guests[:2]:
        assert guest.try_tcp(ROUTER4, ADMIN_PORT, timeout=0.25).outcome != "connected"
        assert guest.try_tcp("fd77::1", ADMIN_PORT, timeout=0.25).outcome != "connected"
    assert lab.guest.get(f"http://{ROUTER4}:2121/health/live").status == 404
    assert lab.guest.get(f"http://{ROUTER4}:2122/health/ready").status == 404


def test_request_of_the_operator_keeps_its_id_in_the_answer_and_an_unknown_path_says_it(lab, daemon):
    def ask(headers):
        return ask_as_operator(lab, "/health/nothing", headers)

    answer = ask({"X-Request-Id": "deploy-42.a"})
    assert answer.status == 404 and answer.headers["x-request-id"] == "deploy-42.a"
    error = answer.json()["error"]
    assert (error["code"], error["request_id"]) == ("not_found", "deploy-42.a") and "details" not in error
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    traced = ask({"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert traced.json()["error"]["request_id"] == trace
    assert ask({"X-Request-Id": "no spaces"}).json()["error"]["request_id"] != "no spaces"


def test_every_answer_is_taken_for_nothing_else_and_tells_no_addresses(lab, daemon):
    answers = [ask_as_operator(lab, path) for path in ("/health/live", "/admin/cards", "/x")]
    for path in ("/", "/portal.css", "/whoami", "/health", "/ticket", "/mint-proxy", "/ln"):
        answers.append(lab.guest.get(f"http://{ROUTER4}:2121{path}", headers={"X-Request-Id": "made-by-a-guest"}))
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert len(answer.headers["x-request-id"]) == 16, "a guest's own is not taken over"


# A machine that refuses


def test_without_nft_it_starts_says_why_sells_nothing_and_recovers(lab, make_daemon, fault_mint):
    daemon = make_daemon(fault_mint.url, start=False)
    tools = os.path.join(daemon.dir, "bin")
    os.mkdir(tools)
    daemon.start(ready=False, env={"PATH": tools})
    wait_for(daemon.answers)
    wait_for(lambda: lab.guest.try_tcp(ROUTER4, 2121, 0.5).outcome == "connected")
    wait_for(lambda: daemon.status()["data"]["gate"]["routing_lock"], 3)
    gate = daemon.status()["data"]["gate"]
    assert "nft is not installed" in gate["trouble"] and gate["firewall_lock"] is False
    assert daemon.status()["data"]["ready"] is False and health(lab, "ready").status == 503
    assert "GATE_DOWN" in page(lab)
    refused = post_request(lab.guest, fault_mint.url, 5, apply=True)
    assert refused.status == 503 and fault_mint.quotes == {}
    before = lab.leaked_packets()
    lab.nat_only()
    assert not lab.guest.online(timeout=0.3), "the second lock holds alone"
    assert lab.leaked_packets() == before
    os.symlink(lab.router.run(["sh", "-c", "command -v nft"]).out.strip(), os.path.join(tools, "nft"))
    wait_for(lambda: daemon.status()["data"]["ready"], 5)
    assert daemon.status()["data"]["gate"]["trouble"] is None and "GATE_DOWN" not in page(lab)
    assert post_request(lab.guest, fault_mint.url, 5, apply=True).status == 201


def test_grant_without_nft_is_kept_and_opens_when_nft_is_back(lab, make_daemon):
    daemon = make_daemon(AWAY, start=False)
    tools = os.path.join(daemon.dir, "bin")
    os.mkdir(tools)
    daemon.start(ready=False, env={"PATH": tools})
    wait_for(daemon.answers)
    granting = lab.router.spawn([binary(), "grant", lab.guest.mac, "1h", "-c", daemon.config])
    wait_for(lambda: daemon.ask("sessions")["data"], 5)
    os.symlink(lab.router.run(["sh", "-c", "command -v nft"]).out.strip(), os.path.join(tools, "nft"))
    assert granting.wait() == 0
    assert lab.guest.online()


def test_an_address_that_is_not_there_yet_is_tried_again(lab, make_daemon):
    daemon = make_daemon(AWAY, main={"admin_listen": "10.99.0.1:2120"})
    wait_for(
        lambda: any("10.99.0.1:2120" in reason for reason in daemon.status()["data"]["trouble"]), 5, "status says so"
    )
    lab.router.ip("addr add 10.99.0.1/24 dev lo\n")
    try:
        wait_for(
            lambda: lab.router.connect("10.99.0.1", 2120, 1).close() is None,
            10,
            "it listens once the address is there",
        )
        wait_for(lambda: not daemon.status()["data"]["trouble"], 5, "and says so no more")
    finally:
        lab.router.ip("addr del 10.99.0.1/24 dev lo\n")


def test_taken_port_is_reported_and_tried_again(lab, make_daemon):
    squatter = lab.router.listen("0.0.0.0", 2122)
    daemon = make_daemon(AWAY)
    wait_for(lambda: any("2122" in trouble for trouble in daemon.status()["data"]["trouble"]), 5)
    squatter.close()
    wait_for(lambda: lab.guest.get(f"http://{ROUTER4}:2122/health").text == "OK", 6)
    wait_for(lambda: daemon.status()["data"]["trouble"] == [], 3)


# The log


@pytest.fixture
def own_dev(make_daemon):
    """A daemon whose `/dev` has only what the test puts there: `start_in(daemon)`."""
    daemon = make_daemon(AWAY, start=False, main={"log_target": "syslog"})
    dev = os.path.join(daemon.dir, "dev")
    os.mkdir(dev)
    for name in ("null", "urandom"):
        open(os.path.join(dev, name), "w").close()
    script = (
        f'mount --bind /dev/null {dev}/null && mount --bind /dev/urandom {dev}/urandom && mount --rbind {dev} /dev && '
        'exec "$@"'
    )
    return daemon, dev, ["unshare", "-m", "sh", "-c", script, "sh"]


def test_without_a_syslog_daemon_the_log_goes_to_stderr(lab, own_dev):
    daemon, _, through = own_dev
    daemon.start(through=through)
    assert "tollgated" in daemon.log() and "is up, gating br-guest" in daemon.log()


def test_syslog_gets_ident_and_facility(lab, own_dev):
    daemon, dev, through = own_dev
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        path = os.path.join(dev, "log")
        syslog.bind(path)
        syslog.settimeout(PATIENCE)
        daemon.start(ready=False, through=through)
        lines = [syslog.recv(4096).decode()]
        while "is up" not in lines[-1]:
            lines.append(syslog.recv(4096).decode())
    priority = int(lines[-1][1 : lines[-1].index(">")])
    assert priority >> 3 == 3 and priority & 7 == 6, "facility daemon, severity info"
    assert "tollgated[" in lines[-1]
    assert "is up" not in daemon.log()
