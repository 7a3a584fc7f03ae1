"""gRPC as a program of the operator's sees it: a real client (grpcio) over the shipped `.proto` files.

After each test the books close: what was put into the takings = what they hold + what the mint paid out + its fees,
and no invoice was paid twice.
"""

import concurrent.futures
import contextlib
import os
import threading
import time

import bolt11
import grpc
import pytest

from lab import http_client
from lab.authority import NAME, Authority
from lab.books import Books, rows
from lab.fault_mint import FaultMint
from lab.grpc_client import PORT, GrpcClient, code, modules
from lab.guest import ROUTER4
from lab.internet import AWAY, MINT4
from lab.invoices import Made, make
from lab.login import LoginWallet
from lab.place import wait_for
from lab.wallet import Wallet, encode_token

STOCK = 100_000


class Office:
    """A daemon with gRPC, its takings at `mint`, and a client with the token."""

    def __init__(self, lab, mint, daemon) -> None:
        self.lab, self.mint, self.daemon, self.put_in = lab, mint, daemon, 0
        self.client = GrpcClient(lab.router, token=self.token)
        self.fill(STOCK)

    @property
    def token(self) -> str:
        with open(os.path.join(self.daemon.state_dir, "grpc.token")) as file:
            return file.read().strip()

    def fill(self, sats: int) -> None:
        token = encode_token(self.mint.url, Wallet(self.lab.internet, self.mint.url).buy(self.mint, sats))
        answer = self.daemon.control({"command": "wallet", "args": ["receive", token]}, 30)
        assert answer["ok"], answer
        self.put_in += sats

    def invoice(self, sats: int = 600, **how) -> Made:
        made = make(sats, **how)
        self.mint.know(made.payment_hash, made.preimage)
        return made

    def pay(self, id: str, invoice: Made, wallet_id: str = "", **more):
        return self.client.payment(
            "ProcessPayment", payment_id=id, wallet_id=wallet_id, invoice=invoice.request, **more
        )

    def status(self, id: str) -> str:
        return self.client.payment("GetPaymentStatus", payment_id=id).status

    def wait_for_status(self, id: str, status: str, limit: float = 40) -> None:
        wait_for(lambda: self.status(id) == status, limit, f"{id} is {status}", every=0.2)

    def times_paid(self, invoice: Made) -> int:
        return self.mint.melted.get(invoice.payment_hash, 0)

    def check(self) -> None:
        open_ops = "SELECT id FROM wallet_ops WHERE state IN ('open', 'cancelling') AND kind != 'send'"
        wait_for(lambda: not rows(self.daemon, open_ops), 90, "the wallet has nothing open", every=0.2)
        held = Books(self.daemon).takings(self.mint.url)
        assert self.mint.value_of(held.proofs) == held.amount
        assert held.amount + self.mint.paid_out + self.mint.fees == self.put_in
        assert all(times == 1 for times in self.mint.melted.values())


@pytest.fixture
def office(lab, make_daemon):
    with FaultMint(lab.internet, MINT4, fee_ppk=100) as mint:
        opened = Office(lab, mint, make_daemon(mint.url, sections={"grpc": {}}))
        yield opened
        opened.mint.melts = "paid"
        opened.check()
        opened.client.close()
        assert opened.daemon.running
        opened.daemon.must_be_sound()


@pytest.fixture
def idle(lab, make_daemon):
    """A daemon whose mint is away, and a client."""
    daemon = make_daemon(AWAY, sections={"grpc": {}})
    with open(os.path.join(daemon.state_dir, "grpc.token")) as file:
        with GrpcClient(lab.router, token=file.read().strip()) as client:
            yield client


# The contract


def test_shipped_messages_have_the_numbers_of_the_contract():
    wallet, _, payment, _ = modules()
    assert wallet.DESCRIPTOR.package == "satsconnect.wallet.v1"
    assert payment.DESCRIPTOR.package == "satsconnect.payment.v1"
    fields = {
        name: [(field.name, field.number, field.type) for field in message.fields]
        for file in (wallet, payment)
        for name, message in file.DESCRIPTOR.message_types_by_name.items()
    }
    text, number = 9, 4
    assert fields == {
        "CreateWalletRequest": [("mnemonic", 1, text), ("label", 2, text)],
        "CreateWalletResponse": [("node_id", 2, text), ("address", 3, text)],
        "GetBalanceRequest": [],
        "GetBalanceResponse": [("confirmed_sats", 1, number), ("lightning_sats", 2, number)],
        "NewInvoiceRequest": [("amount_sats", 1, number), ("memo", 2, text)],
        "NewInvoiceResponse": [("invoice", 1, text), ("payment_hash", 2, text)],
        "SendPaymentRequest": [("invoice", 1, text)],
        "SendPaymentResponse": [("payment_hash", 1, text), ("status", 2, text)],
        "ProcessPaymentRequest": [
            ("payment_id", 1, text), ("wallet_id", 2, text), ("amount_sats", 3, number), ("invoice", 4, text),
            ("description", 5, text),
        ],
        "GetPaymentStatusRequest": [("payment_id", 1, text)],
        "ProcessRefundRequest": [("payment_id", 1, text), ("amount_sats", 2, number)],
        "PaymentStreamRequest": [("wallet_id", 1, text)],
        "PaymentResponse": [
            ("payment_id", 1, text), ("status", 2, text), ("message", 3, text), ("amount_sats", 4, number),
            ("payment_hash", 5, text), ("timestamp", 6, text),
        ],
        "PaymentUpdate": [
            ("payment_id", 1, text), ("status", 2, text), ("amount_sats", 3, number), ("payment_hash", 4, text),
            ("timestamp", 5, text),
        ],
    }


def test_version_names_what_is_built_in(daemon):
    assert "grpc" in daemon.lab.router.run([*daemon.program, "--version"]).out


# Who may call


CALLS = [
    ("wallet", "CreateWallet"), ("wallet", "GetBalance"), ("wallet", "NewInvoice"), ("wallet", "SendPayment"),
    ("payment", "ProcessPayment"), ("payment", "GetPaymentStatus"), ("payment", "ProcessRefund"),
]


@pytest.mark.parametrize("service, method", CALLS)
def test_without_the_token_nothing_is_said(idle, service, method):
    for token in (None, "wrong", idle.token[:-1], idle.token + "0"):
        assert code(lambda: idle.call(service, method, token=token)) == "UNAUTHENTICATED", token


def test_without_the_token_there_is_no_stream(idle):
    assert code(lambda: next(idle.stream(token="wrong"))) == "UNAUTHENTICATED"


def test_token_file_is_the_owners_alone_and_a_new_token_counts_at_once(lab, make_daemon):
    daemon = make_daemon(AWAY, sections={"grpc": {"token_file": lab.path("own.token")}})
    path = lab.path("own.token")
    assert os.stat(path).st_mode & 0o777 == 0o600
    with open(path) as file:
        old = file.read().strip()
    with GrpcClient(lab.router, token=old) as client:
        assert client.wallet("GetBalance").confirmed_sats == 0
        with open(path, "w") as file:
            file.write("a-token-of-mine-is-here\n")
        assert code(lambda: client.wallet("GetBalance")) == "UNAUTHENTICATED"
        assert client.wallet("GetBalance", token="a-token-of-mine-is-here").confirmed_sats == 0
    assert old not in daemon.log()


def test_plain_http_1_and_noise_get_nowhere(lab, idle):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for sent in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(4096), preface + b"\x00" * 4096):
        with lab.router.connect("127.0.0.1", PORT, 20) as sock:
            sock.sendall(sent)
            assert b"200" not in sock.recv(4096)
    assert idle.wallet("GetBalance").confirmed_sats == 0


def test_connections_that_say_nothing_end_and_leave_room(lab, idle):
    socks = [lab.router.connect("127.0.0.1", PORT, 30) for _ in range(40)]
    try:
        for sock in socks:
            sock.settimeout(20)
            while sock.recv(4096):
                pass
        assert idle.wallet("GetBalance", timeout=20).confirmed_sats == 0
    finally:
        for sock in socks:
            sock.close()


# The wallet


def test_balance_is_the_takings(office):
    balance = office.client.wallet("GetBalance")
    (told,) = office.daemon.data("wallet", "balance")["mints"]
    assert (balance.confirmed_sats, balance.lightning_sats) == (told["balance"], 0)


def test_no_wallet_is_made_and_no_words_are_taken(office):
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    assert code(lambda: office.client.wallet("CreateWallet", mnemonic=words, label="x")) == "FAILED_PRECONDITION"
    assert "sausage" not in office.daemon.log()


def test_payment_is_sent_once_however_often_it_is_asked_for(office):
    invoice = office.invoice(600)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda _: office.client.wallet("SendPayment", invoice=invoice.request), range(8)))
    assert {one.payment_hash for one in sent} == {invoice.payment_hash}
    assert {one.status for one in sent} <= {"SUCCEEDED", "PENDING"} and any(one.status == "SUCCEEDED" for one in sent)
    again = office.client.wallet("SendPayment", invoice=f"LIGHTNING:{invoice.request.upper()}")
    assert (again.status, office.times_paid(invoice)) == ("SUCCEEDED", 1)
    balance = office.client.wallet("GetBalance").confirmed_sats
    assert office.put_in - 600 - 10 <= balance < office.put_in - 600


def test_payment_that_cannot_be_paid_fails_and_may_be_tried_again(office):
    invoice = office.invoice(STOCK * 2)
    assert office.client.wallet("SendPayment", invoice=invoice.request).status == "FAILED"
    office.fill(STOCK * 2)
    assert office.client.wallet("SendPayment", invoice=invoice.request).status == "SUCCEEDED"
    assert office.times_paid(invoice) == 1


@pytest.mark.parametrize("bad", ["", "x", "lnbc1", "no amount"])
def test_what_is_no_payable_invoice_is_refused(office, bad):
    text = office.invoice(msat=0).request if bad == "no amount" else bad
    assert code(lambda: office.client.wallet("SendPayment", invoice=text)) == "INVALID_ARGUMENT"
    fields = {"payment_id": "p", "invoice": text}
    assert code(lambda: office.client.payment("ProcessPayment", **fields)) == "INVALID_ARGUMENT"


def test_invoice_tops_the_takings_up_once(office):
    before = office.client.wallet("GetBalance").confirmed_sats
    made = office.client.wallet("NewInvoice", amount_sats=500, memo="float")
    assert made.payment_hash == bolt11.decode(made.invoice).payment_hash
    office.daemon.kill()
    office.mint.pay(made.invoice)
    office.daemon.start()
    wait_for(lambda: office.client.wallet("GetBalance").confirmed_sats == before + 500, 40, "it is there", every=0.2)
    office.put_in += 500
    office.daemon.restart()
    time.sleep(1)
    assert office.client.wallet("GetBalance").confirmed_sats == before + 500
    assert not any(entry["account"] == "customers" for entry in office.daemon.data("fiat", "ledger")["entries"])


@pytest.mark.parametrize("bad", [{"amount_sats": 0}, {"amount_sats": 2**63}, {"amount_sats": 1, "memo": "m" * 201}])
def test_invoice_that_cannot_be_made_is_refused(office, bad):
    assert code(lambda: office.client.wallet("NewInvoice", **bad)) == "INVALID_ARGUMENT"


# Payments


def test_payment_is_made_once_for_its_id(office):
    invoice = office.invoice(600)
    first = office.pay("order-1", invoice, "shop", amount_sats=600, description="flour")
    assert (first.payment_id, first.status, first.amount_sats) == ("order-1", "COMPLETED", 600)
    assert first.payment_hash == invoice.payment_hash and first.timestamp.endswith("Z")
    time.strptime(first.timestamp, "%Y-%m-%dT%H:%M:%SZ")
    assert office.pay("order-1", invoice, "shop", amount_sats=600, description="flour") == first
    assert office.client.payment("GetPaymentStatus", payment_id="order-1") == first
    assert office.times_paid(invoice) == 1


def test_many_at_once_with_one_id_are_one_payment(office):
    invoice = office.invoice(600)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda _: office.pay("order-1", invoice).status, range(12)))
    assert set(made) <= {"COMPLETED", "PENDING"} and "COMPLETED" in made
    office.wait_for_status("order-1", "COMPLETED")
    assert office.times_paid(invoice) == 1


def test_same_id_with_other_fields_is_refused(office):
    invoice, other = office.invoice(600), office.invoice(700)
    office.pay("order-1", invoice, "shop", description="flour")
    for change in (
        {"invoice": other}, {"wallet_id": "other"}, {"description": "sugar"}, {"amount_sats": 601},
    ):
        asked = {"invoice": invoice, "wallet_id": "shop", "description": "flour"} | change
        assert code(lambda: office.pay("order-1", **asked)) == "ALREADY_EXISTS", change
    for text in ("", "x", "lnbc1", invoice.request[:-1]):
        garbage = {"payment_id": "order-1", "wallet_id": "shop", "description": "flour", "invoice": text}
        assert code(lambda: office.client.payment("ProcessPayment", **garbage)) == "INVALID_ARGUMENT", text
    assert (office.times_paid(invoice), office.times_paid(other)) == (1, 0)
    assert office.status("order-1") == "COMPLETED"


def test_same_invoice_under_another_id_is_refused(office):
    invoice = office.invoice(600)
    office.pay("order-1", invoice)
    assert code(lambda: office.pay("order-2", invoice)) == "ALREADY_EXISTS"
    assert office.client.wallet("SendPayment", invoice=invoice.request).status == "SUCCEEDED"
    sent = office.invoice(500)
    office.client.wallet("SendPayment", invoice=sent.request)
    assert code(lambda: office.pay("order-3", sent)) == "ALREADY_EXISTS"
    assert (office.times_paid(invoice), office.times_paid(sent)) == (1, 1)


def test_bad_fields_are_refused_and_nothing_is_kept(office):
    invoice = office.invoice(600)
    for fields in (
        {"payment_id": ""}, {"payment_id": "x" * 129}, {"payment_id": "a\nb"}, {"payment_id": "invoice:x"},
        {"wallet_id": "w" * 129}, {"description": "d" * 1025}, {"amount_sats": 599}, {"amount_sats": 2**64 - 1},
    ):
        asked = {"payment_id": "order-1", "invoice": invoice.request} | fields
        assert code(lambda: office.client.payment("ProcessPayment", **asked)) == "INVALID_ARGUMENT", fields
    assert code(lambda: office.pay("order-1", office.invoice(10, age=7200))) == "FAILED_PRECONDITION"
    assert code(lambda: office.status("order-1")) == "NOT_FOUND"
    assert not office.mint.melted


def test_payment_that_fails_is_told_and_stays_failed(office):
    invoice = office.invoice(STOCK * 2)
    failed = office.pay("order-1", invoice)
    assert failed.status == "FAILED" and "no mint holds" in failed.message
    office.fill(STOCK * 2)
    assert office.pay("order-1", invoice).status == "FAILED"
    assert office.pay("order-2", invoice).status == "COMPLETED"


def test_message_that_is_too_large_is_refused(office):
    for size in (20_000, 8_000_000):
        fields = {"payment_id": "order-1", "description": "d" * size}
        refused = code(lambda: office.client.payment("ProcessPayment", **fields))
        assert refused in ("OUT_OF_RANGE", "RESOURCE_EXHAUSTED"), refused
    assert office.client.wallet("GetBalance").confirmed_sats == STOCK - office.mint.fees


def test_metadata_that_is_too_large_costs_the_call_only(office):
    assert code(lambda: office.client.wallet("GetBalance", token="x" * 100_000)) != "OK"
    assert office.client.wallet("GetBalance").confirmed_sats > 0


def test_callers_deadline_is_kept_and_the_payment_goes_on(office):
    invoice = office.invoice(600)
    office.mint.melts = "pending"
    began = time.monotonic()
    assert code(lambda: office.pay("order-1", invoice, timeout=1)) == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began < 5
    assert office.status("order-1") == "PENDING"
    wait_for(lambda: office.mint.pending, 20, "the mint has the payment")
    office.mint.end_melt(invoice.payment_hash)
    office.wait_for_status("order-1", "COMPLETED")
    assert office.times_paid(invoice) == 1


# Refunds


class Customer:
    """Who has logged in at the wallet API."""

    def __init__(self, lab, number: int = 7) -> None:
        self.lab, self.wallet = lab, LoginWallet(number)
        k1 = self.ask("POST", "/api/auth/login", {})["k1"]
        signed = {"k1": k1, "key": self.wallet.key, "sig": self.wallet.sign(k1)}
        self.token = self.ask("POST", "/api/auth/login", signed)["token"]

    def ask(self, method: str, path: str, body=None, **headers):
        sock = self.lab.guest.connect(ROUTER4, 2121, 20)
        answer = http_client.exchange(sock, method, path, f"{ROUTER4}:2121", headers, body)
        assert answer.status == 200, answer
        return answer.json()["data"]

    def sats(self) -> int:
        return self.ask("GET", "/api/wallet/balance", Authorization=f"Bearer {self.token}")["sats"]


@pytest.fixture
def bank(lab, make_daemon):
    """An office with customers. What is paid back leaves the takings: the books are the daemon's own."""
    with FaultMint(lab.internet, MINT4) as mint:
        opened = Office(lab, mint, make_daemon(mint.url, sections={"grpc": {}, "auth": {"domain": NAME}}))
        yield opened
        opened.client.close()
        assert opened.daemon.running
        opened.daemon.must_be_sound()


def refund(office, id: str, sats: int = 0):
    return office.client.payment("ProcessRefund", payment_id=id, amount_sats=sats)


def customers(office) -> int:
    balances = office.daemon.data("fiat", "ledger")["balances"]
    return sum(one["balance"] for one in balances if (one["account"], one["unit"]) == ("customers", "msat"))


def test_completed_payment_of_an_account_is_paid_back_once_and_at_most_its_amount(lab, bank):
    customer = Customer(lab)
    assert bank.pay("order-1", bank.invoice(600), customer.wallet.key).status == "COMPLETED"
    assert code(lambda: refund(bank, "order-1", 601)) == "FAILED_PRECONDITION"
    listener = Listener(bank.client, customer.wallet.key)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        tried = list(pool.map(lambda _: code(lambda: refund(bank, "order-1", 400)), range(6)))
    assert sorted(tried) == ["FAILED_PRECONDITION"] * 5 + ["OK"]
    paid_back = bank.client.payment("GetPaymentStatus", payment_id="order-1")
    assert (paid_back.status, paid_back.amount_sats) == ("REFUNDED", 400)
    assert (customer.sats(), customers(bank)) == (400, 400_000)
    bank.daemon.kill()
    bank.daemon.start()
    assert code(lambda: refund(bank, "order-1", 200)) == "FAILED_PRECONDITION"
    assert (customer.sats(), customers(bank)) == (400, 400_000)
    assert ("order-1", "REFUNDED") in listener.heard


def test_all_of_a_payment_is_paid_back_where_nothing_is_said(lab, bank):
    customer = Customer(lab, 8)
    bank.pay("order-1", bank.invoice(600), customer.wallet.key)
    assert refund(bank, "order-1").amount_sats == 600
    assert customer.sats() == 600


def test_other_payments_are_not_paid_back(lab, bank):
    customer = Customer(lab, 9)
    assert code(lambda: refund(bank, "nothing")) == "NOT_FOUND"
    for id, wallet_id in (("a", ""), ("b", "shop"), ("c", "02" + "ab" * 32)):
        bank.pay(id, bank.invoice(100), wallet_id)
        assert code(lambda: refund(bank, id)) == "FAILED_PRECONDITION", wallet_id
        assert bank.status(id) == "COMPLETED"
    bank.pay("d", bank.invoice(STOCK * 2), customer.wallet.key)
    assert bank.status("d") == "FAILED" and code(lambda: refund(bank, "d")) == "FAILED_PRECONDITION"
    assert (customer.sats(), customers(bank)) == (0, 0)


def test_refund_that_the_takings_do_not_cover_changes_nothing(lab, bank):
    customer = Customer(lab, 10)
    bank.pay("order-1", bank.invoice(STOCK * 6 // 10), customer.wallet.key)
    assert code(lambda: refund(bank, "order-1")) == "FAILED_PRECONDITION"
    assert (bank.status("order-1"), customer.sats()) == ("COMPLETED", 0)
    rows = [row[1:] for row in audited(bank) if row[1] == "ProcessRefund"]
    assert rows == [("ProcessRefund", "order-1", "begun"), ("ProcessRefund", "order-1", "failed_precondition")]
    assert refund(bank, "order-1", 1000).status == "REFUNDED"
    assert customer.sats() == 1000


# The audit log


def audited(office) -> list[tuple]:
    rows = office.daemon.data("audit")
    return [(row["role"], row["what"], row["target"], row["result"]) for row in rows if row["who"] == "grpc"]


def test_what_is_changed_is_in_the_audit_log_once_and_looks_are_not(lab, bank):
    customer = Customer(lab, 11)
    first, second = bank.invoice(600), bank.invoice(50)
    made = bank.client.wallet("NewInvoice", amount_sats=21, memo="tea")
    for _ in range(3):
        assert bank.pay("order-1", first, customer.wallet.key).status == "COMPLETED"
        assert bank.client.wallet("SendPayment", invoice=second.request).status == "SUCCEEDED"
    bank.client.wallet("GetBalance")
    bank.status("order-1")
    assert code(lambda: bank.pay("order-1", second)) == "ALREADY_EXISTS"
    assert code(lambda: bank.pay("", second)) == "INVALID_ARGUMENT"
    assert refund(bank, "order-1", 400).status == "REFUNDED"
    assert code(lambda: refund(bank, "order-1")) == "FAILED_PRECONDITION"
    assert audited(bank) == [
        ("owner", "NewInvoice", f"21 sat {made.payment_hash}", "ok"),
        ("owner", "ProcessPayment", "order-1", "ok"),
        ("owner", "SendPayment", second.payment_hash, "ok"),
        ("owner", "ProcessPayment", "order-1", "already_exists"),
        ("owner", "ProcessRefund", "order-1 400 sat", "begun"),
        ("owner", "ProcessRefund", "order-1 400 sat", "ok"),
        ("owner", "ProcessRefund", "order-1", "failed_precondition"),
    ]
    assert bank.daemon.data("audit", "--verify")["verified"] is True


def test_a_payment_s_row_is_there_after_a_kill_as_the_payment_is(office):
    invoice = office.invoice(600)
    office.mint.melts = "pending"
    assert code(lambda: office.pay("order-1", invoice, timeout=2)) == "DEADLINE_EXCEEDED"
    wait_for(lambda: office.mint.pending, 20, "the mint has the payment")
    office.daemon.kill()
    office.daemon.start()
    assert audited(office) == [("owner", "ProcessPayment", "order-1", "ok")]
    office.mint.end_melt(invoice.payment_hash)
    office.wait_for_status("order-1", "COMPLETED", 90)


def test_calls_without_the_token_are_refusals_like_others(lab, make_daemon):
    daemon = make_daemon(AWAY, sections={"grpc": {}})
    with GrpcClient(lab.router, token="wrong") as client:
        for _ in range(30):
            assert code(lambda: client.wallet("GetBalance")) == "UNAUTHENTICATED"
    rows = [row for row in daemon.data("audit") if row["what"] == "a gRPC call"]
    assert {(row["who"], row["target"], row["result"]) for row in rows} == {("stranger", "127.0.0.1", "unauthorized")}
    assert (len(rows), sum(row["count"] for row in rows)) == (11, 30)


# The stream


class Listener:
    """Keeps what a stream tells."""

    def __init__(self, client, wallet_id: str = "") -> None:
        self.stream, self.heard, self.end = client.stream(wallet_id, timeout=None), [], None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for told in self.stream:
                self.heard.append((told.payment_id, told.status))
        except grpc.RpcError as error:
            self.end = error.code().name

    def wait(self, *heard: tuple[str, str]) -> None:
        wait_for(lambda: all(one in self.heard for one in heard), 20, f"{heard} among {self.heard}")


def test_stream_tells_what_is_pending_and_then_every_change(office):
    pending, later, other = office.invoice(600), office.invoice(500), office.invoice(400)
    office.mint.melts = "pending"
    assert code(lambda: office.pay("order-1", pending, "shop", timeout=2)) == "DEADLINE_EXCEEDED"
    wait_for(lambda: office.mint.pending, 20, "the mint has the payment")
    everything, shop = Listener(office.client), Listener(office.client, "shop")
    everything.wait(("order-1", "PENDING"))
    shop.wait(("order-1", "PENDING"))
    office.mint.melts = "paid"
    assert office.pay("order-2", later, "shop").status == "COMPLETED"
    assert office.pay("order-3", other).status == "COMPLETED"
    office.mint.end_melt(pending.payment_hash)
    everything.wait(("order-1", "COMPLETED"), ("order-2", "COMPLETED"), ("order-3", "COMPLETED"))
    shop.wait(("order-1", "COMPLETED"), ("order-2", "PENDING"), ("order-2", "COMPLETED"))
    assert not [told for told in shop.heard if told[0] == "order-3"]
    everything.stream.cancel()
    shop.stream.cancel()


def test_streams_are_bounded_and_one_that_ends_makes_room(office):
    listeners = []
    with contextlib.ExitStack() as stack:
        token = office.token
        clients = [stack.enter_context(GrpcClient(office.lab.router, token=token)) for _ in range(3)]
        for client in clients:
            for _ in range(11):
                listeners.append(Listener(client))
        wait_for(lambda: sum(one.end == "RESOURCE_EXHAUSTED" for one in listeners) == 33 - 32, 20, "one too many")
        next(one for one in listeners if one.end is None).stream.cancel()
        fresh = Listener(office.client)
        time.sleep(0.5)
        assert fresh.end is None
        for one in [*listeners, fresh]:
            one.stream.cancel()
    assert office.client.wallet("GetBalance").confirmed_sats > 0


# Restarts and reloads


def test_payment_survives_a_kill_and_is_made_once(office):
    invoice = office.invoice(600)
    office.mint.melts = "pending"
    assert code(lambda: office.pay("order-1", invoice, "shop", timeout=2)) == "DEADLINE_EXCEEDED"
    wait_for(lambda: office.mint.pending, 20, "the mint has the payment")
    office.daemon.kill()
    office.daemon.start()
    assert office.pay("order-1", invoice, "shop").status == "PENDING"
    listener = Listener(office.client)
    listener.wait(("order-1", "PENDING"))
    office.mint.end_melt(invoice.payment_hash)
    office.wait_for_status("order-1", "COMPLETED", 90)
    listener.wait(("order-1", "COMPLETED"))
    listener.stream.cancel()
    assert office.times_paid(invoice) == 1


def test_payment_that_had_not_left_when_the_daemon_died_has_failed(office):
    invoice = office.invoice(600)
    office.mint.misbehave("hang", on="melt_quote")
    assert code(lambda: office.pay("order-1", invoice, timeout=2)) == "DEADLINE_EXCEEDED"
    office.daemon.kill()
    office.mint.behave()
    office.daemon.start()
    office.wait_for_status("order-1", "FAILED")
    assert office.times_paid(invoice) == 0
    assert office.pay("order-2", invoice).status == "COMPLETED"


def test_reload_opens_moves_and_closes_the_socket(office):
    office.daemon.sections["grpc"] = {"listen": "127.0.0.1:50052"}
    office.daemon.write_config()
    office.daemon.command("reload")
    with GrpcClient(office.lab.router, token=office.token, port=50052) as moved:
        assert moved.wallet("GetBalance").confirmed_sats > 0
        assert code(lambda: office.client.wallet("GetBalance", timeout=5)) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        del office.daemon.sections["grpc"]
        office.daemon.write_config()
        office.daemon.command("reload")
        assert code(lambda: moved.wallet("GetBalance", timeout=5)) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_port_that_is_taken_is_told_and_tried_again(lab, make_daemon):
    taken = lab.router.listen("127.0.0.1", PORT)
    daemon = make_daemon(AWAY, sections={"grpc": {}})
    wait_for(lambda: any("gRPC" in line for line in daemon.data("status")["trouble"]), 10, "status tells")
    taken.close()
    wait_for(lambda: not any("gRPC" in line for line in daemon.data("status")["trouble"]), 10, "it is served")


# Where it is served


def checked(daemon, **grpc) -> tuple[int, str]:
    daemon.sections["grpc"] = grpc
    daemon.write_config()
    done = daemon.command("check", check=False)
    return done.code, done.out


def test_guests_and_uplinks_addresses_and_all_of_them_are_refused(lab, make_daemon):
    authority = Authority(lab.path("https"))
    authority.issue()
    daemon = make_daemon(AWAY, sections={"tls": authority.section}, start=False)
    uplink = lab.router.run(["ip", "-4", "-o", "route", "get", "198.51.100.7"], check=False).out
    own = uplink.split(" src ")[1].split()[0] if " src " in uplink else None
    for listen in ("0.0.0.0:50051", "[::]:50051", f"{ROUTER4}:50051", *([f"{own}:50051"] if own else [])):
        status, told = checked(daemon, listen=listen)
        assert status == 1 and "option 'listen'" in told and "error" in told, (listen, told)
    assert checked(daemon, listen="127.0.0.1:50051")[0] == 0
    assert checked(daemon, listen="127.0.0.1:2121")[0] == 1


def test_vpns_address_is_served_over_tls_only(lab, make_daemon):
    authority = Authority(lab.path("vpn-https"))
    authority.issue()
    lab.router.ip("link add wg0 type bridge\naddr add 10.8.0.1/24 dev wg0\nlink set wg0 up")
    try:
        daemon = make_daemon(AWAY, start=False)
        status, told = checked(daemon, listen="10.8.0.1:50051")
        assert status == 1 and "config tls" in told, told
        daemon.sections["tls"] = authority.section
        assert checked(daemon, listen="10.8.0.1:50051")[0] == 0
        daemon.start()
        with open(os.path.join(daemon.state_dir, "grpc.token")) as file:
            token = file.read().strip()
        where = {"token": token, "host": "10.8.0.1"}
        with GrpcClient(lab.router, ca=authority.ca_file, name=NAME, **where) as client:
            assert client.wallet("GetBalance").confirmed_sats == 0
            assert code(lambda: client.wallet("GetBalance", token="wrong")) == "UNAUTHENTICATED"
        with GrpcClient(lab.router, **where) as plain:
            assert code(lambda: plain.wallet("GetBalance", timeout=5)) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    finally:
        lab.router.ip("link del wg0")


def test_http_of_the_other_listeners_is_as_before(lab, idle):
    answer = http_client.exchange(lab.router.connect("127.0.0.1", 2121), "GET", "/health/live", "localhost")
    assert answer.status == 200
