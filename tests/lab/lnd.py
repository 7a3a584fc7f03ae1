"""Real Lightning: a chain (btcd, regtest) and two lnd nodes with a channel between them, on loopback, made afresh in
seconds.

	with LightningPair(dir) as pair:
	    invoice = pair.bob.invoice(1000)
	    held = pair.bob.hold_invoice(1000)          # the payer's payment stays in flight ...
	    pair.bob.settle(held)                       # ... until this, or `cancel`
	    pair.alice.kill(); pair.alice.start()       # as a power cut does

Alice is the payer: 6,000,000 sat in the channel are hers, 4,000,000 Bob's. `setup.sh` builds both programs.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import quote

from .place import HOST, PATIENCE, Process, free_ports, wait_for

# An address of nobody: btcd wants one to mine to before there is a wallet.
NOBODY = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8"
# Segwit comes in at the end of three windows of 144.
BLOCKS = 450
CHANNEL_SATS, BOBS_SATS = 10_000_000, 4_000_000


def programs() -> str:
    """Where `setup.sh` has put `lnd` and `btcd`."""
    cache = os.environ.get("TOLLGATED_CACHE") or os.path.expanduser("~/.cache/tollgated")
    return os.path.join(cache, "lightning", "bin")


class Refused(Exception):
    """An answer that is no success: HTTP status and the node's words."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


@dataclass
class Invoice:
    request: str
    """The invoice itself."""
    payment_hash: str
    preimage: str | None = None
    """Of an invoice to hold."""


class Chain:
    """btcd with its RPC on loopback and no peers. It mines only to the address that it was started with."""

    def __init__(self, dir: str) -> None:
        self.dir = dir
        os.makedirs(dir)
        with open(self.path("btcd.conf"), "w"):
            pass
        (self.port,) = free_ports(1)
        self.process: Process | None = None

    def path(self, name: str) -> str:
        return os.path.join(self.dir, name)

    def start(self, mine_to: str) -> None:
        argv = [
            os.path.join(programs(), "btcd"),
            "--regtest",
            f"--configfile={self.path('btcd.conf')}",
            f"--datadir={self.path('data')}",
            f"--logdir={self.path('logs')}",
            "--nolisten",
            "--nodnsseed",
            "--noonion",
            f"--rpclisten=127.0.0.1:{self.port}",
            "--rpcuser=lab",
            "--rpcpass=lab",
            f"--rpccert={self.path('rpc.cert')}",
            f"--rpckey={self.path('rpc.key')}",
            "--txindex",
            "--debuglevel=warn",
            f"--miningaddr={mine_to}",
        ]
        self.process = HOST.spawn(argv, env={"HOME": self.dir}, cwd=self.dir, log=self.path("log"))
        wait_for(lambda: self.rpc("getblockcount") is not None, 200, "btcd answers", every=0.05)

    def stop(self) -> None:
        if self.process:
            self.process.stop()
            self.process = None

    def rpc(self, method: str, *params):
        # Its certificate is its own; this is loopback.
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=PATIENCE, context=ssl._create_unverified_context()
        )
        try:
            token = base64.b64encode(b"lab:lab").decode()
            body = json.dumps({"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
            connection.request(
                "POST", "/", body, {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
            )
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if answer.get("error"):
            raise OSError(f"btcd {method}: {answer['error']}")
        return answer["result"]

    def mine(self, blocks: int) -> None:
        self.rpc("generate", blocks)


class Node:
    """One lnd. Its state survives `kill` and `start`, its ports and its certificate stay the same."""

    def __init__(self, name: str, dir: str, chain: Chain) -> None:
        self.name, self.dir, self.chain = name, dir, chain
        self.peer_port, self.grpc_port, self.port = free_ports(3)
        self.log = f"{dir}.log"
        self.process: Process | None = None
        self.pubkey = ""

    # Life

    def start(self, ready: bool = True) -> None:
        """Back when it serves its calls (`ready=False`: at once)."""
        argv = [
            os.path.join(programs(), "lnd"),
            f"--lnddir={self.dir}",
            "--noseedbackup",
            "--bitcoin.regtest",
            "--bitcoin.node=btcd",
            f"--btcd.rpchost=127.0.0.1:{self.chain.port}",
            "--btcd.rpcuser=lab",
            "--btcd.rpcpass=lab",
            f"--btcd.rpccert={self.chain.path('rpc.cert')}",
            f"--listen=127.0.0.1:{self.peer_port}",
            f"--rpclisten=127.0.0.1:{self.grpc_port}",
            f"--restlisten=127.0.0.1:{self.port}",
            "--nobootstrap",
            "--bitcoin.defaultchanconfs=1",
            "--trickledelay=50",
            "--debuglevel=warn",
            "--tlsdisableautofill",
            *(f"--healthcheck.{check}.attempts=0" for check in ("chainbackend", "diskspace", "tls")),
        ]
        self.process = HOST.spawn(argv, env={"HOME": self.dir}, cwd="/", log=self.log)
        if ready:
            self.wait_active()

    def wait_active(self) -> None:
        wait_for(self._active, 200, f"lnd {self.name} is active", every=0.05)

    def _active(self) -> bool:
        if self.process.poll() is not None:
            with open(self.log, errors="replace") as log:
                raise RuntimeError(f"lnd {self.name} ended:\n{log.read()[-3000:]}")
        try:
            return self.api("GET", "/v1/state", macaroon="")["state"] == "SERVER_ACTIVE"
        except Refused:
            return False

    def stop(self) -> None:
        """SIGTERM."""
        process, self.process = self.process, None
        if process:
            process.stop()

    def kill(self) -> None:
        """`kill -9`."""
        process, self.process = self.process, None
        if process:
            process.kill()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    # Who it is

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def cert_file(self) -> str:
        return os.path.join(self.dir, "tls.cert")

    @property
    def cert_sha256(self) -> str:
        """Of the certificate's DER, as `openssl x509 -fingerprint -sha256` prints it."""
        with open(self.cert_file) as file:
            digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read())).hexdigest().upper()
        return ":".join(digest[at : at + 2] for at in range(0, 64, 2))

    @property
    def macaroon_file(self) -> str:
        """The admin macaroon, as lnd writes it."""
        return os.path.join(self.dir, "data", "chain", "bitcoin", "regtest", "admin.macaroon")

    def bake(self, *permissions: str) -> str:
        """A macaroon (hex) for "offchain:read", "uri:/routerrpc.Router/SendPaymentV2" ..."""
        pairs = [dict(zip(("entity", "action"), permission.split(":", 1))) for permission in permissions]
        return self.api("POST", "/v1/macaroon", {"permissions": pairs})["macaroon"]

    # Invoices and payments

    def invoice(self, sats: int | None = None, *, msat: int | None = None, expiry: int = 3600, **fields) -> Invoice:
        """Neither amount: the payer chooses."""
        amount = {"value_msat": str(msat)} if msat is not None else {"value": str(sats or 0)}
        made = self.api("POST", "/v1/invoices", {**amount, "expiry": str(expiry), **fields})
        return Invoice(made["payment_request"], base64.b64decode(made["r_hash"]).hex())

    def hold_invoice(self, sats: int) -> Invoice:
        """What is paid on it waits for `settle` or `cancel`."""
        preimage = os.urandom(32)
        payment_hash = hashlib.sha256(preimage).digest()
        made = self.api("POST", "/v2/invoices/hodl", {"hash": _b64(payment_hash), "value": str(sats)})
        return Invoice(made["payment_request"], payment_hash.hex(), preimage.hex())

    def wait_held(self, invoice: Invoice) -> None:
        """Until the payment has arrived here."""
        wait_for(lambda: self.invoice_state(invoice) == "ACCEPTED", 15, "the payment is held")

    def settle(self, invoice: Invoice) -> None:
        self.api("POST", "/v2/invoices/settle", {"preimage": _b64(bytes.fromhex(invoice.preimage))})

    def cancel(self, invoice: Invoice) -> None:
        self.api("POST", "/v2/invoices/cancel", {"payment_hash": _b64(bytes.fromhex(invoice.payment_hash))})

    def invoice_state(self, invoice: Invoice) -> str:
        """OPEN, ACCEPTED, SETTLED or CANCELED."""
        return self.api("GET", f"/v1/invoice/{invoice.payment_hash}")["state"]

    def payments(self) -> list[dict]:
        """Everything it ever tried to pay."""
        return self.api("GET", "/v1/payments?include_incomplete=true")["payments"]

    def payments_of(self, invoice: Invoice) -> list[str]:
        """The states of its payments of this hash: SUCCEEDED, IN_FLIGHT, FAILED."""
        return [payment["status"] for payment in self.payments() if payment["payment_hash"] == invoice.payment_hash]

    def balance_msat(self) -> int:
        """Its own side of the channel, when no payment is under way there: who pays knows of the end before the
        channel has it.
        """
        wait_for(
            lambda: not any(channel["pending_htlcs"] for channel in self.api("GET", "/v1/channels")["channels"]),
            10,
            "the channel is at rest",
        )
        return int(self.api("GET", "/v1/balance/channels")["local_balance"]["msat"])

    # Calls

    def api(
        self,
        method: str,
        path: str,
        body: dict | None = None,
        *,
        macaroon: str | None = None,
        timeout: float = PATIENCE,
    ) -> dict:
        """With the admin macaroon unless another is given. Errors: `Refused`, `OSError`."""
        context = ssl.create_default_context(cafile=self.cert_file)
        if macaroon is None:
            with open(self.macaroon_file, "rb") as file:
                macaroon = file.read().hex()
        headers = {"Grpc-Metadata-macaroon": macaroon} if macaroon else {}
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP answer: {error!r}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Refused(answer.status, text)
        return json.loads(text)


class LightningPair:
    """`alice` pays, `bob` is paid; both know the route when this is made."""

    def __init__(self, dir: str) -> None:
        os.makedirs(dir, exist_ok=True)
        self.chain = Chain(os.path.join(dir, "btcd"))
        self.alice = Node("alice", os.path.join(dir, "alice"), self.chain)
        self.bob = Node("bob", os.path.join(dir, "bob"), self.chain)
        try:
            self._fund()
            self._connect()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "LightningPair":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        for node in (self.alice, self.bob):
            node.kill()
        if self.chain.process:
            self.chain.process.kill()

    def wait_routable(self) -> None:
        """Alice can pay Bob; a channel that calls itself active cannot be used for another second."""
        wait_for(self._routable, 200, "Alice finds a route to Bob", every=0.05)

    def _routable(self) -> bool:
        try:
            channels = [
                channel for node in (self.alice, self.bob) for channel in node.api("GET", "/v1/channels")["channels"]
            ]
            if not channels or not all(channel["active"] for channel in channels):
                # lnd itself takes its time to look for a peer that has come back.
                self._shake_hands()
                return False
            return bool(self.alice.api("GET", f"/v1/graph/routes/{self.bob.pubkey}/1000")["routes"])
        except Refused:
            return False

    def _fund(self) -> None:
        # lnd does not come up on a chain whose tip is the old genesis block.
        self.chain.start(NOBODY)
        self.chain.mine(1)
        self.alice.start()
        address = self.alice.api("GET", "/v1/newaddress?type=0")["address"]
        # The node first: it does not follow a chain that is restarted under it.
        self.alice.stop()
        self.chain.stop()
        self.chain.start(address)
        self.chain.mine(BLOCKS)

    def _connect(self) -> None:
        for node in (self.alice, self.bob):
            node.start(ready=False)
        for node in (self.alice, self.bob):
            node.wait_active()
            wait_for(lambda node=node: self._synced(node), 200, f"lnd {node.name} has the chain", every=0.05)
            node.pubkey = node.api("GET", "/v1/getinfo")["identity_pubkey"]
        wait_for(
            lambda: int(self.alice.api("GET", "/v1/balance/blockchain")["confirmed_balance"]) > CHANNEL_SATS,
            30,
            "Alice has money",
            every=0.05,
        )
        self._shake_hands()
        wait_for(self._open_channel, 20, "the channel is funded", every=0.1)
        wait_for(
            lambda: self.chain.rpc("getmempoolinfo")["size"] == 1, 10, "the funding transaction is out", every=0.05
        )
        self.chain.mine(1)
        self.wait_routable()

    def _shake_hands(self) -> None:
        with contextlib.suppress(Refused):  # they are connected
            self.alice.api(
                "POST", "/v1/peers", {"addr": {"pubkey": self.bob.pubkey, "host": f"127.0.0.1:{self.bob.peer_port}"}}
            )

    def _synced(self, node: Node) -> bool:
        try:
            info = node.api("GET", "/v1/getinfo")
        except Refused:
            return False
        return info["synced_to_chain"] and info["block_height"] == self.chain.rpc("getblockcount")

    def _open_channel(self) -> bool:
        try:
            self.alice.api(
                "POST",
                "/v1/channels",
                {
                    "node_pubkey_string": self.bob.pubkey,
                    "local_funding_amount": str(CHANNEL_SATS),
                    "push_sat": str(BOBS_SATS),
                    "sat_per_vbyte": "2",
                    "spend_unconfirmed": True,
                },
            )
        except Refused as refused:
            if "not online" in refused.body or "connecting" in refused.body:
                return False  # the peers have not shaken hands yet
            raise
        return True


def track_path(payment_hash: str) -> str:
    return "/v2/router/track/" + quote(base64.urlsafe_b64encode(bytes.fromhex(payment_hash)).decode(), safe="=")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
