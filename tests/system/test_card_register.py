"""From the operator's order to a card that pays, and to a blank chip again: over HTTP, by commands, and as the
programmer apps see it.
"""

import json
import os
import re
import stat
import time
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from lab import http_client
from lab.bolt_card import AppRefuses, BoltCard, message
from lab.books import edit
from lab.card_shop import DOMAIN, LOOPBACK
from lab.daemon import ADMIN_PORT
from lab.guest import ROUTER4
from lab.place import wait_for
from lab.terminal import on_terminal, qr_codes

OK = {"status": "OK"}
NO_CODE = {"status": "ERROR", "reason": "one time code was used or card was wiped or card does not exist"}
UNREADABLE = {"status": "ERROR", "reason": "this card could not be read; please tap again"}
DAY = 86_400
GOOD = {"card_name": "Alice", "tx_max": 100, "day_max": 1000}


# The order


def test_order_is_answered_with_a_link_for_the_app(cards):
    answer = cards.api("POST", "/api/createboltcard", {**GOOD, "enabled": True, "uid_privacy": False})
    made = answer.json()
    assert (answer.status, sorted(made)) == (200, ["card_id", "deep_link", "expires_at", "status", "url"])
    assert made["status"] == "OK" and isinstance(made["card_id"], int)
    assert re.fullmatch(f"https://{DOMAIN}/new\\?a=[0-9a-f]{{32}}", made["url"])
    assert unquote(made["deep_link"]) == f"boltcard://program?url={made['url']}" and made["deep_link"].count("?") == 1
    assert abs(made["expires_at"] - time.time() - DAY) < 60


@pytest.mark.parametrize(
    "change, word",
    [
        ({"card_name": ""}, "card_name"),
        ({"card_name": "  \t "}, "card_name"),
        ({"card_name": "x" * 65}, "card_name"),
        ({"card_name": 7}, "card_name"),
        ({"card_name": None}, "card_name"),
        ({"card_name": "a\nb"}, "card_name"),
        ({"tx_max": 1001}, "above"),
        ({"tx_max": -1}, "tx_max"),
        ({"tx_max": 1.5}, "tx_max"),
        ({"tx_max": "100"}, "tx_max"),
        ({"tx_max": None}, "tx_max"),
        ({"day_max": True}, "tx_max"),
        ({"day_max": 2_100_000_000_000_001}, "tx_max"),
        ({"day_max": 2**64}, "tx_max"),
        ({"day_max": 1e3}, "tx_max"),
        ({"enabled": "yes"}, "enabled"),
        ({"uid_privacy": "Y"}, "uid_privacy"),
        ({"enable": 1}, "enabled"),
    ],
)
def test_impossible_orders_are_refused_and_make_nothing(cards, change, word):
    before = len(cards.api("GET", "/admin/cards").json())
    answer = cards.api("POST", "/api/createboltcard", {**GOOD, **change})
    assert answer.status == 400 and answer.json()["status"] == "ERROR" and answer.json()["code"] == "invalid_input"
    assert word in answer.json()["reason"], answer.json()
    assert len(cards.api("GET", "/admin/cards").json()) == before


@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"card"', 400),
        (b"\xff\xfe", 400),
        (b"{}", 400),
        (b"[" * 10_000, 400),
        (b"x" * 200_000, 413),
    ],
)
def test_what_is_no_order_is_refused(cards, body, status):
    answer = cards.api("POST", "/api/createboltcard", body)
    assert answer.status == status and answer.json()["status"] == "ERROR" and answer.json()["reason"]


def test_other_methods_and_paths_of_the_operators_interface_do_nothing(cards):
    card = cards.card()
    for method, path in [
        ("GET", "/api/createboltcard"),
        ("PUT", "/api/createboltcard"),
        ("GET", "/api"),
        ("GET", "/admin"),
        ("DELETE", f"/admin/cards/{card.id}"),
        ("GET", f"/admin/cards/{card.id}/wipe"),
        ("POST", f"/admin/cards/{card.id}/history"),
        ("POST", f"/admin/cards/{card.id}/wipe/now"),
        ("GET", "/admin/cards/0"),
        ("GET", "/admin/cards/one"),
        ("POST", "/admin/cards/-1/wipe"),
        ("POST", f"/admin/cards/{2**70}/wipe"),
    ]:
        assert cards.api(method, path).status == 404, path
    assert cards.spend(card, cards.invoice()) == OK


def test_two_cards_may_have_one_name_and_both_pay(cards):
    first, second = cards.card(name="Kibanda"), cards.card(name="Kibanda")
    assert first.id != second.id
    assert cards.spend(first, cards.invoice()) == OK and cards.spend(second, cards.invoice()) == OK


# The app


def test_app_reads_exactly_what_it_expects(cards):
    order = cards.order(name="Alice")
    answer = cards.get(order.path)
    read = answer.json()
    assert (answer.status, answer.headers["content-type"], answer.headers.get("cache-control")) == (
        200,
        "application/json",
        "no-store",
    )
    keys = [read.pop(f"k{number}") for number in range(5)]
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in keys) and len(set(keys)) == 5
    assert read == {
        "protocol_name": "create_bolt_card_response", "protocol_version": 2, "card_name": "Alice",
        "lnurlw_base": f"lnurlw://{DOMAIN}/ln?card_id={order.card_id}", "uid_privacy": "N",
    }


def test_keys_of_different_cards_have_nothing_in_common(cards):
    made = [cards.card() for _ in range(5)]
    assert len({key for card in made for key in card.keys}) == 25


def test_first_tap_of_the_app_itself_harms_nothing(cards):
    """Right after it has written the keys, the app asks the link once, to see whether it works."""
    card = cards.card()
    assert cards.tap(card)["tag"] == "withdrawRequest"
    assert cards.spend(card, cards.invoice()) == OK
    assert cards.states(card) == ["paid", "tapped"]


def test_uid_privacy_is_told_the_app_in_its_own_words(cards):
    assert [cards.card(uid_privacy=private).random_uid for private in (True, False)] == [True, False]


def test_app_that_names_the_chip_binds_it(cards):
    order = cards.order()
    read = cards.get(order.path, method="POST", body={"UID": "04A39493CC8680"})
    told = read.json()
    assert read.status == 200 and told["LNURLW"] == told["lnurlw_base"]
    assert [told[f"K{number}"] for number in range(5)] == [told[f"k{number}"] for number in range(5)]
    card = BoltCard(told, uid="04a39493cc8680")
    other = message(card.keys[1], card.keys[2], b"\x04another"[:7], 9)
    assert cards.ask(f"/ln?card_id={card.id}&p={other[0]}&c={other[1]}") == UNREADABLE
    assert cards.tap(card)["tag"] == "withdrawRequest"


def test_chip_that_is_a_card_already_is_not_made_another(cards):
    first, second = cards.order(), cards.order()
    chip = {"UID": "04aabbccddee07"}
    assert cards.get(first.path, method="POST", body=chip).status == 200
    refused = cards.get(second.path, method="POST", body=chip)
    assert refused.status == 404 and refused.json()["reason"] == f"this chip is card {first.card_id}: wipe it first"
    cards.daemon.command("card", "wipe", str(first.card_id))
    assert cards.get(second.path, method="POST", body=chip).status == 200, "the code is not used up"


@pytest.mark.parametrize("path", ["/ln", "/ln/callback"])
def test_till_that_is_a_page_and_sets_a_header_may_ask(cards, path):
    asked = {
        "Origin": "https://till.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = cards.get(path, headers=asked, method="OPTIONS")
    assert answer.status == 204 and answer.headers["access-control-allow-origin"] == "*"
    assert (
        "GET" in answer.headers["access-control-allow-methods"]
        and "content-type" in answer.headers["access-control-allow-headers"].lower()
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        {"UID": ""},
        {"UID": "04a39493cc86"},
        {"UID": "zz" * 7},
        {"UID": 4},
        {"uid": "04a39493cc8680"},
        b"UID=04a39493cc8680",
    ],
)
def test_app_that_names_no_chip_gets_nothing_and_the_code_stays(cards, body):
    order = cards.order()
    answer = cards.get(order.path, method="POST", body=body)
    assert answer.status == 404 and answer.json() == {"status": "ERROR", "reason": "the UID must be 14 hex digits"}
    assert BoltCard(cards.get(order.path).json()).id == order.card_id


def test_code_works_once_and_every_wrong_one_has_the_same_answer(cards):
    order = cards.order()
    BoltCard(cards.get(order.path).json())
    wrong = [
        order.path,
        f"/new?a={'0' * 32}",
        "/new?a=",
        "/new",
        f"/new?a={'z' * 32}",
        order.path + "00",
        f"/new?a={order.card_id}",
        "/new?UID=04a39493cc8680",
    ]
    for path in wrong:
        assert cards.ask(path) == NO_CODE, path
        posted = cards.get(path, method="POST", body={"UID": "04a39493cc8680"})
        assert (posted.status, posted.json()) == (404, NO_CODE), path
    with pytest.raises(AppRefuses, match="one time code"):
        BoltCard(cards.ask(order.path))


def test_of_twenty_apps_at_once_one_gets_the_keys(cards):
    for _ in range(3):
        order = cards.order()
        answers = cards.at_once([order.path] * 20)
        assert sum("k0" in answer for answer in answers) == 1 and answers.count(NO_CODE) == 19


def test_browser_and_preview_do_not_use_the_code_up(cards):
    order = cards.order()
    assert cards.get(order.path, method="HEAD").status == 405
    shown = cards.get(order.path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}).json()
    assert shown["status"] == "ERROR" and "k0" not in shown
    assert (
        BoltCard(cards.get(order.path, headers={"Accept": "application/json, text/plain, */*"}).json()).id
        == order.card_id
    )


def test_code_is_over_after_a_day(cards):
    order, younger = cards.order(), cards.order()
    cards.daemon.kill()
    edit(cards.daemon, f"UPDATE card_keys SET code_ends_ms = code_ends_ms - {DAY * 1000} WHERE card = {order.card_id}",
         f"UPDATE card_keys SET code_ends_ms = code_ends_ms - {(DAY - 600) * 1000} WHERE card = {younger.card_id}")
    cards.daemon.start()
    assert cards.ask(order.path) == NO_CODE
    assert BoltCard(cards.ask(younger.path)).id == younger.card_id


# Its end, and a new beginning


def test_wiped_card_pays_no_more_and_its_keys_are_told(cards):
    card = cards.card()
    cards.tap(card)
    told = cards.do(card, "wipe")
    assert (told["version"], told["action"], told["id"], told["uid"]) == (1, "wipe", card.id, card.uid.hex())
    assert [bytes.fromhex(told[f"k{number}"]) for number in range(5)] == card.keys and "earlier" not in told
    assert cards.tap(card) == UNREADABLE
    assert cards.show(card)["wiped"] is True
    cards.do(card, "enable")
    assert cards.tap(card) == UNREADABLE, "enabled, but wiped"
    assert cards.do(card, "wipe") == told, "asked again, told again"


def test_wiped_before_it_was_programmed_there_is_nothing_to_make_blank(cards):
    order = cards.order()
    assert cards.api("POST", f"/admin/cards/{order.card_id}/wipe").json() == {
        "status": "OK",
        "card_id": order.card_id,
        "action": "none",
    }
    assert cards.ask(order.path) == NO_CODE


def test_reprogrammed_card_has_new_keys_and_its_counter_begins_anew(cards):
    card = cards.card(day_max=1000)
    assert cards.spend(card, cards.invoice(600)) == OK
    for _ in range(20):
        cards.tap(card)
    cards.do(card, "wipe")
    told = cards.do(card, "reprogram")
    assert told["card_id"] == card.id and told["url"].startswith(f"https://{DOMAIN}/new?a=")
    assert cards.tap(card) == UNREADABLE, "the old keys"
    code = told["url"].partition("?")[2]
    again = BoltCard(cards.get(f"/new?{code}").json(), uid=card.uid.hex())
    assert not set(again.keys) & set(card.keys) and again.base == card.base
    assert cards.ask(again.path(1))["tag"] == "withdrawRequest"
    assert cards.tap(card) == UNREADABLE
    again.counter = 1
    assert cards.spend(again, cards.invoice(401))["reason"].endswith("today"), "the day's limit goes on"
    assert cards.spend(again, cards.invoice(400)) == OK


def test_new_keys_void_the_old_code_and_the_old_keys_stay_known_until_the_chip_is_blank(cards):
    order = cards.order()
    path = f"/admin/cards/{order.card_id}"
    second = cards.api("POST", f"{path}/reprogram").json()
    assert cards.ask(order.path) == NO_CODE
    first_keys = BoltCard(cards.ask("/new?" + second["url"].partition("?")[2])).keys
    third = cards.api("POST", f"{path}/reprogram").json()
    keys = BoltCard(cards.ask("/new?" + third["url"].partition("?")[2])).keys
    told = cards.api("POST", f"{path}/wipe").json()
    assert bytes.fromhex(told["k0"]) == keys[0] and [bytes.fromhex(set["k0"]) for set in told["earlier"]] == [
        first_keys[0]
    ]


# Who may


@pytest.mark.parametrize(
    "method, path",
    [
        ("POST", "/api/createboltcard"),
        ("GET", "/admin/cards"),
        ("POST", "/admin/cards"),
        ("GET", "/admin/cards/1"),
        ("POST", "/admin/cards/1/wipe"),
        ("GET", "/api"),
        ("GET", "/admin"),
        ("GET", "/admin/nothing"),
        ("GET", "/api/../admin/cards"),
        ("OPTIONS", "/api/createboltcard"),
    ],
)
def test_without_the_token_nothing_is_said(cards, method, path):
    token = cards.token
    wrong = [
        "Bearer",
        "Bearer ",
        f"Bearer {token}0",
        f"Bearer {token[:-1]}",
        f"Bearer {token.upper()}",
        f"Basic {token}",
        token,
        "Bearer 0",
        f"Bearer {token}, Bearer {token}",
        "\t",
    ]
    for authorization in [None, *wrong]:
        headers = {"Authorization": authorization} if authorization is not None else {}
        answer = http_client.exchange(
            cards.lab.router.connect(LOOPBACK, ADMIN_PORT), method, path, "localhost", headers, GOOD
        )
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer", (authorization, answer)
        assert answer.json() == {"status": "ERROR", "reason": "a bearer token is needed", "code": "unauthorized"}


def test_health_needs_no_token_and_guests_never_reach_the_operators_interface(cards):
    got = http_client.exchange(cards.lab.router.connect(LOOPBACK, ADMIN_PORT), "GET", "/health/live", "localhost")
    assert got.status == 200
    headers = {"Authorization": f"Bearer {cards.token}"}
    assert cards.lab.guest.try_tcp(ROUTER4, ADMIN_PORT, 0.5).outcome != "connected"
    for path in ("/api/createboltcard", "/admin/cards"):
        assert cards.lab.guest.post(f"http://{ROUTER4}:2121{path}", GOOD, headers).status in (404, 405, 400), path
        assert "card_id" not in cards.lab.guest.get(f"http://{ROUTER4}:2121{path}", headers).text


def test_token_is_made_private_and_a_new_one_counts_at_once(cards):
    path = os.path.join(cards.daemon.state_dir, "admin.token")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and re.fullmatch("[0-9a-f]{64}", cards.token)
    old = cards.token
    try:
        with open(path, "w") as file:
            file.write("correct horse battery staple\n")
        os.chmod(path, 0o644)
        assert cards.api("GET", "/admin/cards", authorization=f"Bearer {old}").status == 401
        assert cards.api("GET", "/admin/cards").status == 200
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, "others have no business with it"
        for content in ("", "short", "x" * 15):
            with open(path, "w") as file:
                file.write(content)
            assert cards.api("GET", "/admin/cards", authorization=f"Bearer {content}").status == 503, content
        os.remove(path)
        assert cards.api("GET", "/admin/cards", authorization="Bearer ").status == 503
        cards.daemon.command("reload")
        assert cards.token != old and cards.api("GET", "/admin/cards").status == 200
    finally:
        with open(path, "w") as file:
            file.write(old)


# The commands


def test_every_command_does_what_the_interface_does(cards):
    ask = lambda *words: cards.daemon.ask("card", *words)["data"]
    made = ask("create", "Bob's Kaffee ☕", "--tx-max", "50", "--day-max", "500", "--uid-privacy", "--disabled")
    id = str(made["card_id"])
    shown = ask("show", id)
    assert (shown["card_name"], shown["tx_max"], shown["day_max"], shown["enabled"], shown["uid_privacy"]) == (
        "Bob's Kaffee ☕",
        50,
        500,
        False,
        True,
    )
    assert shown in ask("list")
    card = BoltCard(cards.get("/new?" + urlsplit(made["url"]).query).json())
    assert ask("enable", id)["enabled"] is True
    assert cards.spend(card, cards.invoice(50)) == OK
    assert (
        ask("limits", id, "--tx-max", "20")["tx_max"] == 20 and ask("limits", id, "--day-max", "70")["day_max"] == 70
    )
    assert cards.spend(card, cards.invoice(21))["status"] == "ERROR" and cards.spend(card, cards.invoice(20)) == OK
    assert ask("disable", id)["enabled"] is False and cards.tap(card)["reason"] == "this card is disabled"
    assert [line["state"] for line in ask("history", id)] == ["paid", "tapped", "paid"]
    assert ask("wipe", id)["action"] == "wipe"
    again = ask("reprogram", id)
    assert again["card_id"] == card.id and again["url"] != made["url"]


def test_people_read_names_amounts_and_times(cards):
    card = cards.card(name="Alice", tx_max=100, day_max=1000)
    cards.spend(card, cards.invoice(21))
    words = lambda *words: cards.daemon.command("card", *words).out
    assert (
        (
            f"card_id={card.id}  card_name=Alice  enabled=yes  wiped=no  programmed=yes  tx_max=100 sat  "
            "day_max=1000 sat  spent_today=21 sat"
        )
        in words("list")
    )
    assert "state=paid  at=" in words("history", str(card.id)) and "UTC" in words("history", str(card.id))
    assert "card_name: Alice\n" in words("show", str(card.id)) and "{" not in words("show", str(card.id))
    link = re.search("url: (https://.*)", words("create", "Bob", "--tx-max", "1", "--day-max", "1")).group(1)
    assert "\x1b" not in words("reprogram", str(card.id)), "codes are for terminals"
    id = parse_qs(urlsplit(cards.ask("/new?" + urlsplit(link).query)["lnurlw_base"]).query)["card_id"][0]
    assert "no taps" in words("history", id)


def test_camera_reads_the_code_on_the_terminal(cards):
    shown = on_terminal(cards.daemon, "card", "create", "Alice", "--tx-max", "100", "--day-max", "1000")
    url = re.search("url: (https://\\S+)", shown).group(1)
    (read,) = qr_codes(shown)
    assert read.startswith("boltcard://program?url=") and parse_qs(urlsplit(read).query)["url"] == [url]
    card = BoltCard(cards.get("/new?" + urlsplit(url).query).json())
    (read,) = qr_codes(on_terminal(cards.daemon, "card", "wipe", str(card.id)))
    wiped = json.loads(read)
    assert (wiped["version"], wiped["action"]) == (1, "wipe") and [
        bytes.fromhex(wiped[f"k{number}"]) for number in range(5)
    ] == card.keys
    assert len(qr_codes(on_terminal(cards.daemon, "card", "reprogram", str(card.id)))) == 1
    assert qr_codes(on_terminal(cards.daemon, "card", "list")) == []


@pytest.mark.parametrize(
    "words, code, text",
    [
        ([], 2, "card create"),
        (["frobnicate"], 2, "card create"),
        (["show"], 2, "card show ID"),
        (["show", "one"], 2, "card show ID"),
        (["show", "1", "2"], 2, "card show ID"),
        (["limits", "1"], 2, "card limits ID"),
        (["limits", "1", "--tx-max"], 2, "card limits ID"),
        (["limits", "1", "--uid-privacy"], 2, "card limits ID"),
        (["create"], 2, "card create"),
        (["create", "A", "--tx-max", "1", "--colour", "red"], 2, "card create"),
        (["create", "A"], 2, "tx_max"),
        (["create", "A", "--tx-max", "1"], 2, "day_max"),
        (["create", "", "--tx-max", "1", "--day-max", "1"], 1, "card_name"),
        (["create", "A", "--tx-max", "2", "--day-max", "1"], 1, "above"),
        (["create", "A", "--tx-max", "-1", "--day-max", "1"], 2, "tx_max"),
        (["create", "A", "--tx-max", "1.5", "--day-max", "2"], 2, "tx_max"),
        (["show", "987654"], 1, "no such card"),
        (["wipe", "987654"], 1, "no such card"),
        (["history", "987654"], 1, "no such card"),
        (["enable", "987654"], 1, "no such card"),
        (["limits", "987654", "--tx-max", "1"], 1, "no such card"),
        (["reprogram", "0"], 1, "no such card"),
    ],
)
def test_wrong_commands_say_what_is_wrong(cards, words, code, text):
    done = cards.daemon.command("card", *words, check=False)
    assert done.code == code and text in done.out
    as_json = cards.daemon.command("card", *words, "--json", check=False)
    assert as_json.code == code and json.loads(as_json.out)["ok"] is False


def test_without_the_section_the_commands_say_how_to_have_cards(lab, cards):
    section = cards.daemon.sections.pop("card")
    try:
        cards.daemon.write_config()
        cards.daemon.command("reload")
        done = cards.daemon.command("card", "create", "A", "--tx-max", "1", "--day-max", "1", check=False)
        assert done.code == 1 and "config card" in done.out
        assert cards.api("POST", "/api/createboltcard", GOOD).status == 409
    finally:
        cards.daemon.sections["card"] = section
        cards.daemon.write_config()
        cards.daemon.command("reload")
    wait_for(lambda: cards.get("/").status == 404, 5, "the cards' own port is open")


# Secrets


def test_no_secret_is_ever_logged_and_none_is_in_the_database(cards):
    order = cards.order()
    card = BoltCard(cards.ask(order.path))
    k1 = cards.k1(card)
    cards.callback(k1, cards.invoice().request)
    unused = cards.order()
    invoice = cards.invoice()
    cards.node.next(pay="paid", fault="cut")
    cards.spend(card, invoice)
    cards.wait_for_states(card, "paid", "paid")
    link = card.tap()
    cards.ask(link.partition(DOMAIN)[2])
    p, c = parse_qs(urlsplit(link).query)["p"][0], parse_qs(urlsplit(link).query)["c"][0]
    cards.do(card, "wipe")
    cards.daemon.command("reload")
    codes = [parse_qs(urlsplit(one.url).query)["a"][0] for one in (order, unused)]
    secrets = [key.hex() for key in card.keys] + [k1, *codes, cards.token, cards.node.password, invoice.preimage]
    log = cards.daemon.log().lower()
    for secret in [*secrets, p.lower(), c.lower(), invoice.request]:
        assert secret.lower() not in log
    with open(os.path.join(cards.daemon.state_dir, "cards.key"), "rb") as file:
        sealing = file.read()
    assert stat.S_IMODE(os.stat(os.path.join(cards.daemon.state_dir, "cards.key")).st_mode) == 0o600
    files = [
        os.path.join(cards.daemon.state_dir, name)
        for name in os.listdir(cards.daemon.state_dir)
        if name.startswith("store")
    ]
    stored = b"".join(open(path, "rb").read() for path in files)
    assert b"card_keys" in stored
    for secret in (
        [bytes.fromhex(text) for text in secrets[:-2]]
        + [text.encode() for text in secrets[:-1]]
        + [sealing, sealing.hex().encode()]
    ):
        assert secret not in stored
    assert cards.node.password.encode() not in stored


def test_stolen_copy_of_the_database_pays_nothing(lab, cards):
    """Without the key file there are no cards; the shop goes on, and says what is missing."""
    card, order = cards.card(), cards.order()
    k1 = cards.k1(card)
    cards.daemon.stop()
    asked = len(cards.node.asked)
    cards_key = os.path.join(cards.daemon.state_dir, "cards.key")
    try:
        os.rename(cards_key, cards_key + ".kept")
        cards.daemon.start()
        for path in (card.path(), order.path, f"/ln/callback?k1={k1}&pr={cards.invoice().request}"):
            assert cards.ask(path) == {"status": "ERROR", "reason": "cards cannot pay at the moment"}
        done = cards.daemon.command("card", "list", check=False)
        assert done.code == 1 and "cards" in done.out and "key" in done.out
        assert cards.api("POST", "/api/createboltcard", GOOD).status == 503
        cards.daemon.stop()
        # Somebody else's key opens nothing either, and is not taken for the right one.
        with open(cards_key, "wb") as file:
            file.write(os.urandom(32))
        cards.daemon.start()
        assert cards.tap(card) == {"status": "ERROR", "reason": "cards cannot pay at the moment"}
        cards.daemon.stop()
    finally:
        cards.daemon.stop()
        os.rename(cards_key + ".kept", cards_key)
        cards.daemon.start()
    assert len(cards.node.asked) == asked
    assert cards.spend(card, cards.invoice()) == OK and BoltCard(cards.ask(order.path)).id == order.card_id


# Without a mint


@pytest.fixture
def without_mint(cards):
    mints, cards.daemon.mints = cards.daemon.mints, []
    cards.daemon.write_config()
    cards.daemon.command("reload")
    yield cards
    cards.daemon.mints = mints
    cards.daemon.write_config()
    cards.daemon.command("reload")


def test_cards_are_served_where_no_mint_sells(lab, without_mint):
    cards = without_mint
    assert cards.spend(cards.card(tx_max=1000), cards.invoice(21)) == OK
    status = cards.daemon.status()["data"]
    assert [(way["name"], way["open"], way["code"]) for way in status["ways"]] == [("card", False, "NO_PRICE")]
    assert not status["ready"] and any("no mint's section" in reason for reason in status["not_ready"])
    page = lab.guest.get(f"http://{ROUTER4}:2121/", headers={"Accept": "text/html"})
    assert page.status == 200 and "<form" not in page.text
