"""The examples of `src/http/README.md`: each is sent, in their order, and every path of the table has one."""

import re
from dataclasses import dataclass

import pytest

from lab import http_client, shillings
from lab.bolt_card import BoltCard
from lab.card_shop import CARD_PORT, DOMAIN, LOOPBACK, CardShop
from lab.daemon import ADMIN_PORT, Mint
from lab.guest import ROUTER4
from lab.http_client import Answer
from lab.login import DOMAIN as LOGIN_DOMAIN
from lab.login import LoginBrowser, LoginWallet
from lab.place import wait_for
from lab.table import Row, readme, rows

PORTS = {"guest": 2121, "tollgate": 2121, "mint_proxy": 2122, "redirected": 2123}
PAID = "# <(.*)> is paid"
TAPPED = "# the card is tapped"
SIGNED = "# a wallet signs <(.*)>"


@dataclass
class Example:
    audience: str
    method: str
    path: str
    body: str
    headers: dict[str, str]
    status: int
    answer: str
    location: str
    before: str
    """What happens between the last example and this one."""


def examples() -> list[Example]:
    lines = [line.strip() for line in readme().split("## Examples\n")[1].splitlines() if line.startswith("    ")]
    found, before = [], ""
    while lines:
        line = lines.pop(0)
        if line.startswith("#"):
            before = line
            continue
        request, header = apart(line)
        audience, method, path, *body = request.split(" ", 3)
        answer, location = apart(lines.pop(0))
        status, _, text = answer.partition(" ")
        headers = dict([header.split(": ", 1)]) if header else {}
        wanted = location.removeprefix("Location: ")
        found.append(Example(audience, method, path, "".join(body), headers, int(status), text, wanted, before))
        before = ""
    return found


def apart(line: str) -> tuple[str, str]:
    """A header at the end stands in parentheses."""
    match = re.fullmatch(r"(.*?) ?(?:\(([\w-]+: .*)\))?", line)
    return match.group(1), match.group(2) or ""


def row_of(example: Example) -> Row | None:
    path = example.path.partition("?")[0]
    for row in rows():
        words = re.sub(r"[A-Z]{2,}", "[^/]+", re.escape(row.path).replace(r"\*\*", ".*"))
        fits = row.path == "*" or re.fullmatch(words, path)
        if example.audience in row.audiences and row.method in (example.method, "any") and fits:
            return row
    return None


def test_every_path_of_the_table_has_an_example():
    shown = [row_of(example) for example in examples()]
    assert None not in shown
    assert [row for row in rows() if row not in shown] == []


class Client:
    """Sends examples, and keeps what their words stand for."""

    def __init__(self, lab, shop: CardShop, mint) -> None:
        self.lab, self.shop, self.mint = lab, shop, mint
        self.words = {"mint": mint.url}
        self.browser = LoginBrowser(lab.guest)

    def happen(self, what: str) -> None:
        if paid := re.fullmatch(PAID, what):
            self.mint.pay(self.words[paid.group(1)])
        elif what == TAPPED:
            keys = {name: self.words[word] for name, word in [("k0", "k0"), ("k1", "key1"), ("k2", "key2")]}
            keys |= {"k3": self.words["k3"], "k4": self.words["k4"], "lnurlw_base": f"lnurlw://{DOMAIN}/ln?card_id=1"}
            fields = dict(
                field.split("=") for field in BoltCard({**self.keys, **keys}).path().split("?")[1].split("&")
            )
            self.words |= {"p": fields["p"], "c": fields["c"], "pr": self.shop.invoice(21).request}
        elif signed := re.fullmatch(SIGNED, what):
            wallet = LoginWallet(7)
            self.words |= {"sig": wallet.sign(self.words[signed.group(1)]), "key": wallet.key}
        else:
            assert not what, what

    def send(self, example: Example) -> Answer:
        path, body = self.filled(example.path), self.filled(example.body).encode() or None
        if example.audience == "admin":
            bearer = {"Authorization": f"Bearer {self.shop.token}"}
            socket = self.lab.router.connect(LOOPBACK, ADMIN_PORT)
            return http_client.exchange(socket, example.method, path, "localhost", bearer | example.headers, body)
        if example.audience == "public":
            return self.shop.get(path, None, example.method, body)
        headers = {name: self.filled(value) for name, value in example.headers.items()}
        if example.audience == "guest":
            return self.browser.request(example.method, path, body, {"Accept": "text/html"} | headers)
        socket = self.lab.guest.connect(ROUTER4, PORTS[example.audience])
        host = f"{ROUTER4}:{PORTS[example.audience]}"
        return http_client.exchange(socket, example.method, path, host, headers, body)

    def check(self, example: Example) -> bool:
        """A look may find that what it waits for is under way yet."""
        answer = self.send(example)
        text, location = answer.text.strip(), answer.headers.get("location", "")
        is_as_written = (
            answer.status == example.status
            and (not example.answer or self.learn(example.answer, text))
            and (not example.location or self.learn(example.location, location))
        )
        if example.path.startswith("/new") and example.status == 200:
            self.keys = answer.json()
        assert is_as_written or example.method == "GET", (example, answer)
        return is_as_written

    def filled(self, text: str) -> str:
        return re.sub(r"<(\w+)>", lambda match: self.words[match.group(1)], text)

    def learn(self, written: str, came: str) -> bool:
        """Whether this is what came; then its words stand for what is there, whatever they stood for before."""
        pattern, known = "", set()
        for part in re.split(r"(<\w+>|\.\.\.)", written):
            word = part[1:-1]
            if part == "...":
                pattern += ".*?"
            elif not re.fullmatch(r"<\w+>", part):
                pattern += re.escape(part)
            elif word in known:
                pattern += f"(?P={word})"
            else:
                known.add(word)
                pattern += f"(?P<{word}>[^\"\\s]+?)"
        match = re.fullmatch(pattern, came, re.S)
        if match:
            self.words |= match.groupdict()
        return match is not None


@pytest.fixture
def client(lab, fault_mint):
    shop = CardShop(lab, name="examples")
    shop.daemon.mints = [Mint(fault_mint.url)]
    shop.daemon.sections["auth"] = {"domain": LOGIN_DOMAIN, "sphinx_compat": 1}
    shop.daemon.sections["product"] = {"id": "wifi-1h", "name": "1 hour", "venue": "guest", "time": "1h"}
    secret = shop.secret("services", "0123456789abcdef0123456789abcdef")
    shop.daemon.sections["hmac_key"] = {"id": "k1", "secret_file": secret}
    shop.daemon.sections["webhook"] = {"secret_file": secret}
    shop.daemon.sections |= shillings.sections(lab, "http://127.0.0.1:9", mode="direct", pace=1)
    shop.daemon.write_config()
    with shop:
        yield Client(lab, shop, fault_mint)


def test_examples_are_answered_as_they_say(client):
    for example in examples():
        client.happen(example.before)
        wait_for(lambda example=example: client.check(example), 20, f"what is written of {example}")
