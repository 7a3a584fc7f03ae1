"""Safaricom's Daraja, as strict as the real one: M-Pesa for tests, with Africa's Talking's airtime and a feed of rates
beside it. What it holds is the oracle: what the daemon's ledger says must be what stands here.

	with DarajaSim(lab.router, "127.0.0.1") as sim:     # or HOST
	    sim.script("254708374149", "cancel")            # the next prompt on that phone; None: on any phone
	    sim.script(None, {"scenario": "slow", "seconds": 5})
	    sim.routes["https://relay.example.net"] = ("127.0.0.1", 8190)   # where its callbacks go instead
	    sim.paid_in                                     # KES at the paybill

By hand, with the same over HTTP: `python -m lab.darajasim --port 8600 --speed 10`, then

	GET  /_sim/ledger | /_sim/requests
	POST /_sim/script  {"msisdn": "2547..."|null, "scenario": "late", "delay": 120}
	POST /_sim/clock   {"advance": 60} | {"speed": 10} | {"wall": -3600}
	POST /_sim/fire    {"again": CHECKOUT} | {"pay": {"msisdn", "amount", "account"}} | {"url", "body"}
	POST /_sim/rate    {"value": 13000000} | {"raw": "<html>", "status": 502}
	POST /_sim/set     {"token_life": 3599, "b2c_funds": 100000, ...}

Time is virtual (`speed`), but for `Timestamp`, which is compared with the wall clock (and `wall` beside it).
"""

import argparse
import base64
import calendar
import heapq
import itertools
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from . import http_client
from .daraja_payouts import EAT, Oops, Payout, Payouts, bad, phone_number, short_text, whole_number
from .daraja_plans import PROCESSING, STILL, TEXTS, Plan, plan, stk_callback
from .http_server import Cut, Request, Server
from .place import HOST, Place

FORBIDDEN = re.compile(r"mpesa|safaricom|exe|exec|cmd|sql|query", re.I)


@dataclass
class Settings:
    """What an account at Safaricom and at Africa's Talking is; `/_sim/set` changes it."""

    consumer_key: str = "test-consumer-key"
    consumer_secret: str = "test-consumer-secret"
    passkey: str = "testpasskey"
    shortcode: str = "174379"
    till: str = "890000"
    b2c_shortcode: str = "600992"
    initiator: str = "testapi"
    credential: str = "bm90LWEtcmVhbC1jcmVkZW50aWFs"
    b2c_funds: int = 100_000
    token_life: float = 3599
    token_life_as_text: bool = False
    one_token: bool = True
    """A new token kills the old one."""
    skew: float = 300
    lock: float = 60
    same_amount_lock: float = 120
    spike: int = 5
    """Requests a second, of real time."""
    pull_page: int = 100
    """Rows of one answer."""
    pull: bool = True
    """The short code is registered for the list of payments."""
    airtime_username: str = "sandbox"
    airtime_key: str = "test-airtime-key"
    http_callbacks: bool = False
    """Callback addresses without https are accepted, as no Daraja in production does."""


@dataclass
class Payment:
    """A prompt on a phone, and what came of it."""

    checkout: str
    merchant: str
    msisdn: str
    amount: int
    reference: str
    callback_url: str
    plan: Plan
    began: float
    code: str = ""
    """Once it is over."""
    told: str = ""
    """An end that was told before the true one."""
    ended: float = 0.0
    receipt: str = ""
    paid: int = 0
    at: str = ""


@dataclass
class Seen:
    method: str
    path: str
    body: object
    status: int
    at: float = field(default_factory=time.time)


class DarajaSim(Payouts, Server):
    def __init__(self, place: Place = HOST, host: str = "127.0.0.1", port: int = 0, *, speed: float = 1, **values):
        self.settings = Settings(**values)
        self.routes: dict[str, tuple[str, int]] = {}
        """Callbacks to URLs that begin so go to this address instead, in plain HTTP; all others are kept unsent."""
        self.speed, self.started, self.began = speed, time.monotonic(), 0.0
        self.wall = 0.0
        self.requests: list[Seen] = []
        self.unsent: list[tuple[str, dict]] = []
        self.delivered: list[tuple[str, int]] = []
        self.payments: dict[str, Payment] = {}
        self.payouts: dict[str, Payout] = {}
        self.airtime: dict[str, dict] = {}
        self.rows: list[dict] = []
        """Money that came in and went out: `receipt`, `account`, `amount`, `msisdn`, `reference`, `at`."""
        self.registered: dict[str, str] = {}
        self.rate: dict = {"value": 13_000_000}
        self._plans: dict[str | None, list[Plan]] = {}
        self._tokens: dict[str, float] = {}
        self._busy: dict[str, tuple[float, int]] = {}
        self._calls: list[float] = []
        self._numbers = itertools.count(1)
        self._due: list[tuple[float, int, object]] = []
        self._wake = threading.Condition(threading.RLock())
        self._closed = False
        super().__init__(place, host, port)
        threading.Thread(target=self._pass_time, daemon=True).start()

    # What a test says and sees.

    def script(self, msisdn: str | None, *orders: dict | str) -> None:
        """What becomes of the next requests for this phone, in turn; `None`: of those for phones without orders."""
        with self._wake:
            self._plans.setdefault(msisdn, []).extend(plan(order) for order in orders)

    @property
    def paid_in(self) -> int:
        """What customers paid to the paybill, in KES: the daemon's `mpesa_utility`."""
        return sum(row["amount"] for row in self.rows if row["account"] == "utility")

    @property
    def paid_out(self) -> int:
        return -sum(row["amount"] for row in self.rows if row["account"] == "b2c")

    @property
    def airtime_sent(self) -> int:
        return sum(one["amount"] for one in self.airtime.values() if one["status"] == "Success")

    def count(self, path: str) -> int:
        """Requests whose path has this in it."""
        return sum(path in seen.path for seen in list(self.requests))

    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.began + (time.monotonic() - self.started) * self.speed

    def advance(self, seconds: float) -> None:
        with self._wake:
            self.began += seconds
            self._wake.notify_all()

    def set_speed(self, speed: float) -> None:
        with self._wake:
            self.began, self.started, self.speed = self.now(), time.monotonic(), speed
            self._wake.notify_all()

    def kill_tokens(self) -> None:
        """As if another router with the same consumer key had asked for one."""
        with self._wake:
            self._tokens.clear()

    def pay(self, msisdn: str, amount: int, account: str) -> str:
        """Somebody pays to the paybill without a prompt; its receipt."""
        with self._wake:
            receipt = self._receive(msisdn, amount, account)
            url = self.registered.get("ConfirmationURL")
        if url:
            masked = msisdn[:5] + "****" + msisdn[-3:]
            body = {"TransactionType": "Pay Bill", "TransID": receipt, "TransTime": self._stamp(), "MSISDN": masked}
            body |= {"TransAmount": str(amount), "BusinessShortCode": self.settings.shortcode}
            self.tell(url, body | {"BillRefNumber": account, "FirstName": "NAME"})
        return receipt

    def again(self, checkout: str) -> None:
        """The same callback once more."""
        payment = self.payments[checkout]
        self.tell(payment.callback_url, stk_callback(payment, payment.code, payment.plan.damage))

    def tell(self, url: str, body: object) -> int | None:
        """Posts to a callback address, by `routes`; the status, or None where nobody answers."""
        for prefix, (host, port) in self.routes.items():
            if url.startswith(prefix):
                try:
                    status = self._post(host, port, url, body)
                except OSError:
                    status = 0
                self.delivered.append((url, status))
                return status or None
        self.unsent.append((url, body))
        return None

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        super().close()

    def open(self) -> None:
        self._closed = False
        super().open()

    # Requests.

    def handle(self, request: Request) -> None:
        parts = urlsplit(request.path)
        path, query = parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}
        if path.startswith("/_sim/"):
            request.answer(200, self._control(path[6:], request))
            return
        handler = ROUTES.get(path)
        seen = Seen(request.method, path, _shown(request), 0)
        self.requests.append(seen)
        answer, how = None, None
        try:
            with self._wake:
                if handler is None:
                    raise Oops(404, "404.001.01", "Resource not found")
                self._spike(path)
                answer, how = handler(self, request, query)
        except Oops as oops:
            seen.status = oops.status
            self._refuse(request, oops)
            return
        seen.status = 200
        self._answer(request, answer, how)

    def _answer(self, request: Request, answer: object, how: Plan | None) -> None:
        kind = how.answer if how else "normal"
        if kind == "drop":
            raise Cut
        if kind == "error":
            self._refuse(request, Oops(*how.error))
            return
        if kind == "slow":
            time.sleep(how.seconds / self.speed)
        if kind == "html":
            request.answer(502, "<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html")
        elif kind == "truncated":
            request.answer(200, json.dumps(answer)[:-25])
        elif kind == "huge":
            request.answer(200, json.dumps(answer | {"Padding": "x" * 10_000_000}))
        elif kind == "nested":
            request.answer(200, "[" * 100_000 + "]" * 100_000)
        elif isinstance(answer, tuple):
            request.answer(answer[0], answer[1])
        else:
            request.answer(200, answer)

    def _refuse(self, request: Request, oops: Oops) -> None:
        body = {"requestId": f"sim-{next(self._numbers)}", "errorCode": oops.code, "errorMessage": oops.message}
        request.answer(oops.status, body)

    def token(self, request: Request, query: dict) -> tuple:
        ours = f"{self.settings.consumer_key}:{self.settings.consumer_secret}".encode()
        if request.method != "GET":
            raise Oops(405, "405.001", "Method Not Allowed")
        if query.get("grant_type") != "client_credentials":
            raise Oops(400, "400.008.02", "Invalid grant type passed")
        if request.headers.get("authorization") != "Basic " + base64.b64encode(ours).decode():
            raise Oops(400, "400.008.01", "Invalid Authentication passed")
        if self.settings.one_token:
            self._tokens.clear()
        made = os.urandom(14).hex()
        self._tokens[made] = self.now() + self.settings.token_life
        life = self.settings.token_life
        return {"access_token": made, "expires_in": str(int(life)) if self.settings.token_life_as_text else life}, None

    def push(self, request: Request, _query: dict) -> tuple:
        body = self._body(request)
        self._password(body)
        kinds = {"CustomerPayBillOnline": self.settings.shortcode, "CustomerBuyGoodsOnline": self.settings.till}
        if body.get("TransactionType") not in kinds:
            raise bad("TransactionType")
        if str(body.get("PartyB")) != kinds[body["TransactionType"]]:
            raise bad("PartyB")
        amount = whole_number(body, "Amount", 1, 250_000)
        msisdn = phone_number(body, "PhoneNumber")
        if phone_number(body, "PartyA") != msisdn:
            raise bad("PartyA")
        reference = short_text(body, "AccountReference", 12)
        if body.get("TransactionDesc") is not None:
            short_text(body, "TransactionDesc", 13)
        url = self._url(body, "CallBackURL")
        now = self.now()
        locked, last = self._busy.get(msisdn, (float("-inf"), 0))
        if now - locked < self.settings.lock:
            message = "Unable to lock subscriber, a transaction is already in process for the current subscriber"
            raise Oops(500, "500.001.1001", f"[MpesaCB - ]{message}")
        how = self._plan(msisdn)
        if how.answer == "error" and not how.accepted:
            raise Oops(*how.error)
        if how.accepted:
            self._busy[msisdn] = (now, amount)
        number = next(self._numbers)
        checkout = f"ws_CO_{self._stamp()}{number:06}{msisdn[3:]}"
        merchant = f"2654-4b64-97ff-{number:020}"
        payment = Payment(checkout, merchant, msisdn, amount, reference, url, how, now)
        if how.accepted:
            self.payments[checkout] = payment
            if last == amount and now - locked < self.settings.same_amount_lock:
                self._at(2, lambda: self._settle(payment, "17"))
            elif how.first:
                self._at(how.delay, lambda: self._told(payment, how.first))
                self._at(how.delay + how.late, lambda: self._settle(payment, how.code))
            elif how.code != "never":
                self._at(how.delay, lambda: self._settle(payment, how.code))
        text = "Success. Request accepted for processing"
        answer = {"MerchantRequestID": merchant, "CheckoutRequestID": checkout, "ResponseCode": "0"}
        return answer | {"ResponseDescription": text, "CustomerMessage": text}, how

    def query(self, request: Request, _query: dict) -> tuple:
        body = self._body(request)
        self._password(body)
        payment = self.payments.get(body.get("CheckoutRequestID"))
        if payment is None:
            raise Oops(500, "500.001.1001", "The transaction does not exist")
        how = payment.plan
        code = payment.code or payment.told
        if code and how.query != "true" and (how.lie_for is None or self.now() - payment.ended < how.lie_for):
            code = "" if how.query == "hidden" else how.query
        if not code and how.pending == "500":
            raise Oops(500, "500.001.1001", PROCESSING)
        text = TEXTS.get(code, "Something that no list has.") if code else STILL
        answer = {"ResponseCode": "0", "ResponseDescription": "The service request has been accepted successsfully"}
        answer |= {"MerchantRequestID": payment.merchant, "CheckoutRequestID": payment.checkout}
        return answer | {"ResultCode": code or how.pending, "ResultDesc": text}, None

    def c2b_register(self, request: Request, _query: dict) -> tuple:
        body = self._body(request)
        self.registered = {name: self._url(body, name) for name in ("ConfirmationURL", "ValidationURL")}
        return {"OriginatorCoversationID": "sim", "ResponseCode": "0", "ResponseDescription": "Success"}, None

    def pull_register(self, request: Request, _query: dict) -> tuple:
        body = self._body(request)
        if str(body.get("ShortCode")) != self.settings.shortcode:
            raise bad("ShortCode")
        if body.get("RequestType") != "Pull":
            raise bad("RequestType")
        phone_number(body, "NominatedNumber")
        self._url(body, "CallBackURL")
        if set(body) != {"ShortCode", "RequestType", "NominatedNumber", "CallBackURL"}:
            raise bad("fields")
        status, text = ("1001", "already ") if self.settings.pull else ("1000", "")
        self.settings.pull = True
        answer = {"ResponseRefID": "sim", "ResponseStatus": status, "ShortCode": self.settings.shortcode}
        return answer | {"ResponseDescription": f"ShortCode {text}Registered"}, None

    def pull(self, request: Request, query: dict) -> tuple:
        self._bearer(request)
        body = query | (request.json() or {} if request.body else {})
        if not self.settings.pull:
            raise Oops(400, "400.002.02", "Bad Request - short code is not registered for pull")
        if str(body.get("ShortCode")) != self.settings.shortcode:
            raise bad("ShortCode")
        skip = int(body.get("OffSetValue") or 0)
        since = self.now() - 48 * 3600
        rows = [row for row in self.rows if row["account"] == "utility" and row["at"] >= since]
        rows = rows[skip : skip + self.settings.pull_page]
        found = [
            {
                "transactionId": row["receipt"],
                "trxDate": row["date"],
                "msisdn": row["msisdn"],
                "sender": "MPESA",
                "transactiontype": "c2b-pay-bill-debit",
                "billreference": row["reference"],
                "amount": f"{row['amount']}.00",
                "organizationname": "Daraja simulator",
            }
            for row in rows
        ]
        answer = {"ResponseRefID": "sim", "ResponseCode": "1000", "ResponseMessage": "Success"}
        return answer | {"Response": [found]}, None

    def feed(self, _request: Request, _query: dict) -> tuple:
        if "raw" in self.rate or "status" in self.rate:
            return (self.rate.get("status", 200), self.rate.get("raw", "")), None
        return {"data": {"base": "BTC", "rates": {"KES": self.rate["value"]}}}, None

    # What requests must be.

    def _body(self, request: Request) -> dict:
        if request.method != "POST":
            raise Oops(405, "405.001", "Method Not Allowed")
        self._bearer(request)
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Oops(400, "400.002.05", "Invalid Request Payload")
        try:
            body = request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Oops(400, "400.002.05", "Invalid Request Payload")
        return body

    def _bearer(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or self._tokens.get(token, 0) <= self.now():
            raise Oops(404, "404.001.03", "Invalid Access Token")

    def _password(self, body: dict) -> None:
        stamp = body.get("Timestamp")
        if not isinstance(stamp, str) or not re.fullmatch(r"[0-9]{14}", stamp):
            raise bad("Timestamp")
        try:
            said = time.strptime(stamp, "%Y%m%d%H%M%S")
        except ValueError:
            raise bad("Timestamp") from None
        if abs(_epoch(said) - EAT - self._wall()) > self.settings.skew:
            raise bad("Timestamp")
        if str(body.get("BusinessShortCode")) != self.settings.shortcode:
            raise Oops(500, "500.001.1001", "Merchant does not exist")
        try:
            given = base64.b64decode(body.get("Password", ""), validate=True).decode()
        except (ValueError, TypeError):
            raise bad("Password") from None
        if given != self.settings.shortcode + self.settings.passkey + stamp:
            raise Oops(500, "500.001.1001", "Wrong credentials")

    def _initiator(self, body: dict, name: str) -> None:
        for field_name, wanted in ((name, self.settings.initiator), ("SecurityCredential", self.settings.credential)):
            if body.get(field_name) != wanted:
                raise Oops(400, "400.002.02", f"Bad Request - Invalid {field_name}")

    def _url(self, body: dict, name: str) -> str:
        url = body.get(name)
        if not isinstance(url, str) or not urlsplit(url).hostname or FORBIDDEN.search(url) or len(url) > 255:
            raise bad(name)
        if not url.startswith("https://") and not self.settings.http_callbacks:
            raise bad(name)
        return url

    def _spike(self, path: str) -> None:
        if path.startswith(("/rate", "/version1", "/query")):
            return
        now = time.monotonic()
        self._calls = [at for at in self._calls if now - at < 1] + [now]
        if len(self._calls) > self.settings.spike * max(self.speed, 1):
            raise Oops(500, "500.003.02", "Error Occurred: Spike Arrest Violation")

    # What happens in time.

    def _settle(self, payment: Payment, code: str) -> None:
        with self._wake:
            payment.code, payment.ended = code, self.now()
            payment.at = self._stamp()
            if code == "0":
                payment.paid = payment.plan.amount or payment.amount
                payment.receipt = self._receive(payment.msisdn, payment.paid, payment.reference)
        self._call_back(payment, code)

    def _told(self, payment: Payment, code: str) -> None:
        with self._wake:
            payment.told, payment.ended = code, self.now()
        self._call_back(payment, code)

    def _call_back(self, payment: Payment, code: str) -> None:
        for turn in range(payment.plan.callbacks):
            body = stk_callback(payment, code, payment.plan.damage)
            wait = payment.plan.callback_delay + turn / 10
            self._at(wait, lambda: self.tell(payment.callback_url, body))

    def _receive(self, msisdn: str, amount: int, reference: str) -> str:
        receipt = self._receipt()
        self._row(receipt, "utility", amount, msisdn, reference)
        return receipt

    def _row(self, receipt: str, account: str, amount: int, msisdn: str, reference: str) -> None:
        date = time.strftime("%Y-%m-%dT%H:%M:%S+03:00", time.gmtime(self._wall() + EAT))
        row = {"receipt": receipt, "account": account, "amount": amount, "msisdn": msisdn, "reference": reference}
        self.rows.append(row | {"at": self.now(), "date": date})

    def _receipt(self) -> str:
        letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
        return "S" + "".join(letters[byte % 32] for byte in os.urandom(9))

    def _plan(self, msisdn: str) -> Plan:
        waiting = self._plans.get(msisdn) or self._plans.get(None) or []
        return waiting.pop(0) if waiting else plan("ok")

    def _at(self, seconds: float, work) -> None:
        with self._wake:
            heapq.heappush(self._due, (self.now() + seconds, next(self._numbers), work))
            self._wake.notify_all()

    def _pass_time(self) -> None:
        while True:
            with self._wake:
                if not self._due or self._due[0][0] > self.now():
                    wait = (self._due[0][0] - self.now()) / self.speed if self._due else 1
                    self._wake.wait(min(wait, 1))
                    continue
                _, _, work = heapq.heappop(self._due)
            # A thread each: one that is told may be slow.
            threading.Thread(target=work, daemon=True).start()

    def _wall(self) -> float:
        return time.time() + self.wall

    def _stamp(self) -> str:
        return time.strftime("%Y%m%d%H%M%S", time.gmtime(self._wall() + EAT))

    def _post(self, host: str, port: int, url: str, body: object) -> int:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = body if isinstance(body, (dict, list)) else str(body).encode()
        sock = self.place.connect(host, port, 10)
        headers = {"Content-Type": "application/json"}
        return http_client.exchange(sock, "POST", path, parts.netloc, headers, sent).status

    def _control(self, what: str, request: Request) -> dict:
        body = request.json() if request.body else {}
        if what == "script":
            self.script(body.pop("msisdn", None), body)
        elif what == "clock":
            self.advance(body.get("advance", 0))
            self.wall = body.get("wall", self.wall)
            if "speed" in body:
                self.set_speed(body["speed"])
        elif what == "rate":
            self.rate = body
        elif what == "set":
            for name, value in body.items():
                setattr(self.settings, name, value)
        elif what == "route":
            self.routes[body["prefix"]] = (body["host"], body["port"])
        elif what == "kill_tokens":
            self.kill_tokens()
        elif what == "fire":
            if "again" in body:
                self.again(body["again"])
            elif "pay" in body:
                return {"receipt": self.pay(**body["pay"])}
            else:
                return {"status": self.tell(body["url"], body["body"])}
        elif what == "ledger":
            balances = {"utility": self.paid_in, "b2c": self.settings.b2c_funds, "airtime": self.airtime_sent}
            return {"balances": balances, "paid_out": self.paid_out, "rows": self.rows}
        elif what == "requests":
            return {"requests": [vars(seen) for seen in self.requests], "unsent": self.unsent}
        return {}


def _epoch(parts: time.struct_time) -> float:
    return calendar.timegm(parts)


def _shown(request: Request) -> object:
    try:
        return json.loads(request.body) if request.body else None
    except ValueError:
        return request.body.decode(errors="replace")


ROUTES = {
    "/oauth/v1/generate": DarajaSim.token,
    "/mpesa/stkpush/v1/processrequest": DarajaSim.push,
    "/mpesa/stkpushquery/v1/query": DarajaSim.query,
    "/mpesa/b2c/v3/paymentrequest": DarajaSim.b2c,
    "/mpesa/b2b/v1/paymentrequest": DarajaSim.b2b,
    "/mpesa/transactionstatus/v1/query": DarajaSim.transaction_status,
    "/mpesa/c2b/v1/registerurl": DarajaSim.c2b_register,
    "/mpesa/c2b/v2/registerurl": DarajaSim.c2b_register,
    "/pulltransactions/v1/register": DarajaSim.pull_register,
    "/pulltransactions/v1/query": DarajaSim.pull,
    "/version1/airtime/send": DarajaSim.airtime_send,
    "/query/transaction/find": DarajaSim.airtime_status,
    "/rate": DarajaSim.feed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--speed", type=float, default=1)
    for name in "consumer_key consumer_secret passkey shortcode b2c_shortcode initiator credential".split():
        parser.add_argument("--" + name.replace("_", "-"), default=getattr(Settings, name))
    parser.add_argument("--route", action="append", default=[], metavar="PREFIX=HOST:PORT", help="where callbacks go")
    given = vars(parser.parse_args())
    routes = given.pop("route")
    sim = DarajaSim(HOST, **given)
    for route in routes:
        prefix, _, address = route.rpartition("=")
        host, _, port = address.rpartition(":")
        sim.routes[prefix] = (host, int(port))
    print(f"Daraja, airtime and rates at {sim.url}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
