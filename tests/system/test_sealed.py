"""While the keys are sealed money rests: every row of `src/http/README.md` that moves some, every command that does,
and every such call of gRPC is refused. Whoever has paid goes on, and what moves nothing is answered.
"""

import json
from urllib.parse import urlencode

import grpc
import pytest

from lab import http_client, shillings
from lab.card_shop import CARD_PORT, DOMAIN, LOOPBACK, CardShop, callback_path
from lab.daemon import ADMIN_PORT, Mint
from lab.grpc_client import GrpcClient, modules
from lab.guest import ROUTER4
from lab.internet import MINT4
from lab.login import DOMAIN as LOGIN_DOMAIN
from lab.login import LoginWallet
from lab.office import PRODUCT, Office, new_id, secret_file
from lab.place import wait_for
from lab.portal_client import MintProxy, MintProxyError, post_request
from lab.purse import Customers
from lab.table import rows
from lab.vault import Vault
from lab.wallet_app import App

PORTAL = f"http://{ROUTER4}:2121"
PORTS = {"admin": ADMIN_PORT, "public": CARD_PORT}
WORDS = {"VENUE": "guest", "ID": new_id(), "**": "anything"}
# Of the two services; all other methods move money.
MOVE_NOTHING = {"CreateWallet", "GetBalance", "GetPaymentStatus", "PaymentStream"}
COMMANDS = [
    ["voucher", "create", "--time", "1h"],
    ["voucher", "revoke", new_id()],
    ["wallet", "receive", "cashuBo2F0"],
    ["wallet", "send", "1"],
    ["wallet", "reclaim", "1"],
    ["wallet", "restore"],
    ["card", "tap", f"lnurlw://{DOMAIN}/ln?card_id=1&p=00&c=00", "--mac", "02:00:00:00:09:09"],
]


class SealedHouse(CardShop):
    """Everything that can be sold here, and everybody who asks for it."""

    def __init__(self, lab, mint, vault) -> None:
        super().__init__(lab, name=f"sealed-{new_id()}")
        self.vault, self.mint, self.guest = vault, mint, lab.guests[1]
        secret = secret_file(lab)
        self.daemon.mints = [Mint(mint.url)]
        self.daemon.sections |= {
            "keys": vault.section(lab),
            "auth": {"domain": LOGIN_DOMAIN},
            "grpc": {},
            "hmac_key": {"id": "shop", "secret_file": secret},
            "webhook": {"secret_file": secret},
            "product": {"id": PRODUCT, "venue": "guest", "sat": 10, "funding": "none"},
            **shillings.sections(lab, "http://127.0.0.1:9", mode="direct", pace=1),
        }
        self.daemon.write_config()
        self.customers = Customers(lab, mint, self.daemon, 60_000)
        self.app = App(self.guest)

    def seal(self) -> None:
        self.kill()
        self.vault.close()
        self.daemon.start()

    def send(self, audience: str, method: str, path: str):
        """As somebody who may, but for services, who have not signed."""
        for word, value in WORDS.items():
            path = path.replace(word, value)
        headers = {"Idempotency-Key": new_id(), "Authorization": f"Bearer {self.token}"}
        if audience == "guest":
            return self.app.ask(method, path, {}, **{"Idempotency-Key": new_id()})
        sock = self.lab.router.connect(LOOPBACK, PORTS[audience], 20)
        return http_client.exchange(sock, method, path, "localhost", headers, {})

    def signed(self, audience: str, path: str):
        """As a service, or a shop that was paid."""
        office = Office(self.lab, self.daemon)
        if path.startswith("/webhook/"):
            return office.webhook({}, port=PORTS[audience], path=path)
        return office.signed(path, {})

    def form(self, path: str, **fields):
        body, kind = urlencode(fields).encode(), "application/x-www-form-urlencoded"
        return self.guest.post(PORTAL + path, body, {"Content-Type": kind, "Accept": "text/html"}, timeout=20)

    def buy(self, path: str) -> tuple[int, str]:
        """Tries to; the status and the text of the answer."""
        if path == "/mint-proxy":
            with MintProxy(self.guest) as proxy, pytest.raises(MintProxyError) as refused:
                proxy.request(self.mint.url, 5)
            return 503, str(refused.value)
        answer = {
            "/pay": lambda: self.form("/pay", steps=3, mint=self.mint.url),
            "/card": lambda: self.form("/card", steps=3, mint=self.mint.url, link=self.link),
            "/ecash": lambda: self.form("/ecash", token=self.customers.token(4)),
            "/mint-requests": lambda: post_request(self.guest, self.mint.url, 4),
            "/voucher": lambda: self.guest.post(PORTAL + "/voucher", {"code": self.code}),
            "/mpesa": lambda: self.guest.post(PORTAL + "/mpesa", {"price": "1h", "phone": "0712345678"}),
            "/ln/callback": lambda: self.get(callback_path(self.k1(self.card_), self.invoice().request)),
            "/": lambda: self.customers.post(self.guest, self.customers.token(4)),
            "/ln-invoice": lambda: self.guest.post(PORTAL + "/ln-invoice", {"amount": 4, "mint_url": self.mint.url}),
        }[path]()
        return answer.status, answer.text

    @property
    def link(self) -> str:
        return "lnurlw://" + DOMAIN + self.card_.path()

    def books(self) -> tuple:
        """What would change if something had been sold, spent or made."""
        vouchers = self.daemon.data("voucher", "list")
        return (
            self.daemon.data("wallet", "balance"),
            self.daemon.data("wallet", "sent"),
            [(one["id"], one["state"]) for one in vouchers["vouchers"]],
            [state for state in self.states(self.card_) if state != "tapped"],
            self.daemon.data("fiat", "orders"),
            self.daemon.paid_macs(),
            sorted(self.node.asked),
        )


@pytest.fixture
def house(lab, fault_mint):
    with Vault(lab.internet, MINT4) as vault, SealedHouse(lab, fault_mint, vault) as made:
        made.daemon.data("wallet", "receive", made.customers.token(500))
        ordered = made.daemon.data("voucher", "create", "2", "--time", "1h")["vouchers"]
        paid, made.code = (one["code"] for one in ordered)
        assert lab.guests[0].post(f"{PORTAL}/voucher", {"code": paid}).status == 200
        made.card_ = made.card()
        made.app.log_in(LoginWallet(7))
        made.seal()
        yield made


def code_of(answer) -> tuple[int, str]:
    body = answer.json()
    return answer.status, body["error"]["code"] if isinstance(body["error"], dict) else body["code"]


def test_no_row_of_the_table_moves_money_and_who_has_paid_goes_on(lab, house):
    before = house.books()
    assert before[5] == {lab.guests[0].mac} and lab.guests[0].online()
    moving = [row for row in rows() if row.money]
    assert {row.money for row in moving} == {"moves", "buys"} and len(moving) > 25
    for row in moving:
        if row.money == "moves":
            for audience in row.audiences:
                for method in ("POST", "PUT", "DELETE") if row.method == "any" else (row.method,):
                    answer = house.send(audience, method, row.path)
                    if audience == "public" and row.path.startswith("/api/"):
                        assert answer.status == 404, "apps are served over https there"
                        continue
                    if row.guard == "signature":
                        assert answer.status == 401, (row.path, answer)
                        answer = house.signed(audience, row.path)
                    assert code_of(answer) == (503, "SEALED"), (audience, method, row.path, answer)
                    assert int(answer.headers["retry-after"]) > 0
            continue
        status, text = house.buy(row.path)
        # The reference's clients know 400 alone; an answer of LNURL is 200 always.
        by_protocol = {"/ln-invoice": 400, "/ln/callback": 200}
        assert status == by_protocol.get(row.path, 503), (row.path, status, text)
        if row.path == "/ln/callback":
            assert json.loads(text)["status"] == "ERROR", text
        elif row.path not in ("/ln-invoice", "/ecash", "/"):
            assert "SEALED" in text, (row.path, text)
    # Whoever shows no token hears nothing of it.
    stranger = App(house.guest)
    for path in ("fiat/mpesa/sell", "wallet/send", "payments/process", "bitcoin/purchase-airtime"):
        assert code_of(stranger.post(f"/api/{path}")) == (401, "unauthorized"), path
    # What moves nothing is answered.
    assert house.app.post("/api/wallet/create").status == 201
    assert code_of(house.app.post("/api/bitcoin/convert/kes-to-sats", {"amountKes": 1}))[1] != "SEALED"
    assert house.app.balance() == (0, 0) and house.app.ask("GET", "/api/fiat/mpesa/limits").status == 200
    for path in ("/admin/mints", "/admin/system/status", "/admin/wallet", "/admin/sessions", "/admin/vouchers"):
        assert house.send("admin", "GET", path).status == 200, path
    assert house.guest.get(PORTAL + "/", {"Accept": "text/html"}).status == 200
    assert house.books() == before and lab.guests[0].online()
    house.vault.open()
    wait_for(lambda: not house.daemon.data("keys", "list")["sealed"], 40, "the keys are open")
    assert house.buy("/voucher")[0] == 200
    assert house.send("admin", "POST", "/admin/batch-mint").status == 400, "it is looked at"


def test_no_command_moves_money_and_others_go_on(house):
    before = house.books()
    for words in COMMANDS:
        refused = house.daemon.command(*words, "--json", check=False)
        assert refused.code == 1 and json.loads(refused.out)["code"] == "SEALED", (words, refused)
    assert house.books() == before
    # Guests are helped as before.
    assert house.daemon.data("grant", house.guest.mac, "10m") and house.guest.online()
    house.daemon.stop()
    # Without the daemon nobody opens them.
    refused = house.daemon.command("wallet", "send", "1", "--json", check=False)
    assert refused.code == 1 and json.loads(refused.out)["code"] == "SEALED", refused
    assert house.daemon.data("wallet", "balance") == before[0]


def test_no_call_of_grpc_moves_money_and_others_are_answered(lab, house):
    before = house.books()
    with open(f"{house.daemon.state_dir}/grpc.token") as file:
        token = file.read().strip()
    wallet, _, payment, _ = modules()
    with GrpcClient(lab.router, token=token) as client:
        for name, messages in (("wallet", wallet), ("payment", payment)):
            (service,) = messages.DESCRIPTOR.services_by_name.values()
            for method in service.methods_by_name:
                if method == "PaymentStream":
                    continue
                try:
                    client.call(name, method)
                    ended = "OK", ""
                except grpc.RpcError as error:
                    ended = error.code().name, error.details()
                assert (ended == ("UNAVAILABLE", "SEALED")) == (method not in MOVE_NOTHING), (method, ended)
        assert client.wallet("GetBalance").confirmed_sats == 500
    assert house.books() == before
