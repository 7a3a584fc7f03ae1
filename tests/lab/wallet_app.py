"""An app of the wallet API: it logs in by a wallet's signature and asks in the envelope of such apps.

	app = App(lab.guest)
	app.log_in(LoginWallet(7))
	data(app.ask("GET", "/api/wallet/balance"))
"""

from lab import http_client
from lab.guest import ROUTER4
from lab.login import LoginWallet
from lab.place import PATIENCE


class App:
    def __init__(self, place, host=ROUTER4, port=2121) -> None:
        self.place, self.host, self.port, self.token = place, host, port, None

    def ask(self, method, path, body=None, token=None, **headers):
        token = token or self.token
        sent = headers | ({"Authorization": f"Bearer {token}"} if token else {})
        sock = self.place.connect(self.host, self.port, PATIENCE)
        return http_client.exchange(sock, method, path, f"{self.host}:{self.port}", sent, body)

    def post(self, path, body=None, token=None, **headers):
        return self.ask("POST", path, {} if body is None else body, token, **headers)

    def sign_in(self, wallet):
        k1 = data(self.post("/api/auth/login"))["k1"]
        return self.post("/api/auth/login", {"k1": k1, "key": wallet.key, "sig": wallet.sign(k1)})

    def log_in(self, wallet: LoginWallet) -> "App":
        self.token = data(self.sign_in(wallet))["token"]
        return self

    def balance(self) -> tuple[int, int]:
        told = data(self.ask("GET", "/api/wallet/balance"))
        assert set(told) == {"sats", "pending_sats"}
        return told["sats"], told["pending_sats"]

    def invoice(self, sats: int, **more) -> dict:
        answer = self.post("/api/wallet/invoice", {"amount_sats": sats} | more)
        assert answer.status == 201, answer
        return answer.json()["data"]

    def transactions(self, query: str = "") -> dict:
        return data(self.ask("GET", "/api/wallet/transactions" + query))


def data(answer):
    assert answer.status == 200, answer
    body = answer.json()
    assert body["success"] is True and set(body) == {"success", "data"}
    return body["data"]


def error(answer):
    body = answer.json()
    assert body["success"] is False and set(body) == {"success", "error", "code", "request_id"} and body["error"]
    return answer.status, body["code"]
