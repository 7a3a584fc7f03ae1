"""The Daraja simulator is as strict as the reference says that Daraja is, for it is what the daemon is judged by."""

import base64
import json
import subprocess
import sys
import time
from urllib.parse import urlencode

import pytest

from lab import http_client
from lab.daraja_mock import DarajaMock
from lab.darajasim import DarajaSim
from lab.http_server import Request, Server
from lab.place import HOST, PATIENCE, free_ports, wait_for

PHONE = "254708374149"
CALLBACK = "https://relay.example.net/cb/r1/9f2c"


class Receiver(Server):
    """Where callbacks come to."""

    def __init__(self):
        self.got = []
        super().__init__(HOST, "127.0.0.1")

    def handle(self, request: Request) -> None:
        self.got.append((request.path, request.json()))
        request.answer(200, {"ResultCode": 0})


class Client:
    def __init__(self, sim):
        self.sim, self.bearer = sim, ""

    def ask(self, method, path, body=None, headers=None):
        sock = HOST.connect("127.0.0.1", self.sim.port)
        sent = {"Authorization": f"Bearer {self.bearer}", **(headers or {})}
        return http_client.exchange(sock, method, path, "daraja.example", sent, body)

    def token(self, method="GET", secret="test-consumer-secret", grant="client_credentials"):
        basic = base64.b64encode(f"test-consumer-key:{secret}".encode()).decode()
        path = f"/oauth/v1/generate?grant_type={grant}"
        answer = self.ask(method, path, headers={"Authorization": f"Basic {basic}"})
        if answer.status == 200:
            self.bearer = answer.json()["access_token"]
        return answer

    def signed(self, **fields):
        stamp = fields.get("Timestamp") or time.strftime("%Y%m%d%H%M%S", time.gmtime(time.time() + 3 * 3600))
        password = base64.b64encode(f"174379testpasskey{stamp}".encode()).decode()
        return {"BusinessShortCode": "174379", "Password": password, "Timestamp": stamp} | fields

    def push(self, **fields):
        body = {"TransactionType": "CustomerPayBillOnline", "Amount": 20, "PartyA": PHONE, "PartyB": "174379"}
        body |= {"PhoneNumber": PHONE, "CallBackURL": CALLBACK, "AccountReference": "TG7K3M9QX2"}
        return self.ask("POST", "/mpesa/stkpush/v1/processrequest", self.signed(**body | fields))

    def query(self, checkout):
        return self.ask("POST", "/mpesa/stkpushquery/v1/query", self.signed(CheckoutRequestID=checkout))

    def b2c(self, ours="tg-1", **fields):
        body = {"OriginatorConversationID": ours, "InitiatorName": "testapi", "CommandID": "BusinessPayment"}
        body |= {"SecurityCredential": "bm90LWEtcmVhbC1jcmVkZW50aWFs", "Amount": "127", "PartyA": "600992"}
        body |= {"PartyB": PHONE, "Remarks": "sale", "Occassion": ""}
        body |= {"ResultURL": CALLBACK, "QueueTimeOutURL": CALLBACK}
        return self.ask("POST", "/mpesa/b2c/v3/paymentrequest", body | fields)


@pytest.fixture
def receiver():
    with Receiver() as made:
        yield made


@pytest.fixture
def sim(receiver):
    with DarajaSim() as made:
        made.routes["https://relay.example.net"] = ("127.0.0.1", receiver.port)
        yield made


@pytest.fixture
def client(sim):
    made = Client(sim)
    made.token()
    return made


def test_the_password_is_that_of_the_vector():
    password = base64.b64encode(b"174379testpasskey20260101120000").decode()
    assert password == "MTc0Mzc5dGVzdHBhc3NrZXkyMDI2MDEwMTEyMDAwMA=="


def test_a_token_is_fetched_with_get_and_the_right_secret_and_a_new_one_kills_the_old(client, sim):
    sim.settings.spike = 100
    assert client.token("POST").status == 405
    assert client.token(secret="wrong").json()["errorCode"] == "400.008.01"
    assert client.token(grant="password").json()["errorCode"] == "400.008.02"
    old = client.bearer
    assert client.token().json()["expires_in"] == 3599
    assert client.push().status == 200
    client.bearer = old
    assert (client.push().status, client.push().json()["errorCode"]) == (404, "404.001.03")
    sim.settings.token_life_as_text = True
    assert client.token().json()["expires_in"] == "3599"
    sim.advance(3600)
    assert client.push().status == 404


WRONG = {
    "password": {"Password": "bm9wZQ=="},
    "short code": {"BusinessShortCode": "174378"},
    "fraction": {"Amount": 20.5},
    "nothing": {"Amount": 0},
    "less than nothing": {"Amount": -5},
    "too much": {"Amount": 250_001},
    "local spelling": {"PhoneNumber": "0708374149", "PartyA": "0708374149"},
    "no mobile number": {"PhoneNumber": "254208374149", "PartyA": "254208374149"},
    "another payer": {"PartyA": "254708374148"},
    "long reference": {"AccountReference": "x" * 13},
    "long description": {"TransactionDesc": "x" * 14},
    "plain callback": {"CallBackURL": "http://relay.example.net/cb/r1/9f2c"},
    "forbidden word": {"CallBackURL": "https://relay.example.net/Mpesa/9f2c"},
    "wrong kind": {"TransactionType": "CustomerBuyGoodsOnline"},
    "bad time": {"Timestamp": "2026-01-01 12:00"},
    "1970": {"Timestamp": "19700101030000"},
}


@pytest.mark.parametrize("why", WRONG)
def test_a_push_that_is_wrong_is_refused_and_locks_nobody(client, sim, why):
    refused = client.push(**WRONG[why])
    assert refused.status in (400, 500) and set(refused.json()) == {"requestId", "errorCode", "errorMessage"}
    assert not sim.payments
    assert client.push().status == 200


def test_a_subscriber_is_locked_for_a_minute_and_for_the_same_amount_for_two(client, sim):
    assert client.push().status == 200
    assert "lock subscriber" in client.push(Amount=30).json()["errorMessage"]
    sim.advance(61)
    again = client.push().json()["CheckoutRequestID"]
    sim.advance(3)
    wait_for(lambda: sim.payments[again].code == "17", PATIENCE, "the rule of the same amount")
    sim.advance(61)
    assert client.push(Amount=30).status == 200


def test_more_than_five_calls_a_second_are_a_spike(client):
    answers = [client.query("ws_CO_1") for _ in range(12)]
    assert any("Spike Arrest" in answer.text for answer in answers)


def test_a_payment_that_goes_well_is_pending_then_paid_and_told_of_once(client, sim, receiver):
    sim.script(PHONE, {"scenario": "ok", "delay": 30})
    checkout = client.push().json()["CheckoutRequestID"]
    assert client.query(checkout).json()["errorMessage"] == "The transaction is being processed"
    assert sim.paid_in == 0
    sim.advance(31)
    wait_for(lambda: receiver.got, PATIENCE, "the callback")
    ((path, body),) = receiver.got
    items = {item["Name"]: item.get("Value") for item in body["Body"]["stkCallback"]["CallbackMetadata"]["Item"]}
    assert (path, items["Amount"], items["Balance"], items["PhoneNumber"]) == ("/cb/r1/9f2c", 20.0, None, int(PHONE))
    assert client.query(checkout).json()["ResultCode"] == "0"
    assert sim.paid_in == 20 and sim.rows[0]["reference"] == "TG7K3M9QX2"


ENDS = {
    "cancel": ("1032", 0, 1),
    "wrong_pin": ("2001", 0, 1),
    "no_funds": ("1", 0, 1),
    "unreachable": ("1037", 0, 1),
    "expired": ("1019", 0, 1),
    "never": ("", 0, 0),
    "callback_only": ("", 20, 1),
    "query_only": ("0", 20, 0),
    "late": ("0", 20, 1),
    "dup": ("0", 20, 3),
    "late_success_after_1037": ("0", 20, 2),
    "query_lies_failed": ("1032", 20, 1),
    "pending_500": ("0", 20, 1),
    "pending_4999": ("0", 20, 1),
    "pending_text": ("0", 20, 1),
    "drop_response_after_accept": ("0", 20, 1),
    "html_502": ("0", 20, 1),
    "truncated_json": ("0", 20, 1),
    "string_numbers": ("0", 20, 1),
    "balance_without_value": ("0", 20, 1),
    "items_reversed": ("0", 20, 1),
    "object_for_array": ("0", 20, 1),
    "wrong_checkout_id": ("0", 20, 1),
    "wrong_amount": ("0", 1, 1),
}


@pytest.mark.parametrize("scenario", ENDS)
def test_a_scenario_ends_as_its_name_says(client, sim, receiver, scenario):
    says, money, callbacks = ENDS[scenario]
    sim.script(None, scenario)
    try:
        client.push()
    except ConnectionError:
        assert scenario == "drop_response_after_accept"
    (checkout,) = sim.payments
    sim.advance(130)
    wait_for(lambda: sim.payments[checkout].code or scenario == "never", PATIENCE, "an end")
    sim.advance(130)
    wait_for(lambda: len(receiver.got) == callbacks, PATIENCE, "callbacks")
    answer = client.query(checkout).json()
    assert answer.get("ResultCode", "") == says and sim.paid_in == money


@pytest.mark.parametrize(("scenario", "code"), {"pending_4999": "4999", "pending_text": "1037"}.items())
def test_pending_has_other_shapes(client, sim, scenario, code):
    sim.script(None, scenario)
    answer = client.query(client.push().json()["CheckoutRequestID"]).json()
    assert (answer["ResultCode"], answer["ResultDesc"]) == (code, "The transaction is still under processing")


def test_a_payout_is_made_once_for_each_id_and_told_of(client, sim, receiver):
    assert client.b2c().status == 200
    assert client.b2c().json()["errorCode"] == "500.002.1001"
    assert client.b2c("tg-2", Amount=9).status == 400
    sim.script(None, "b2c_timeout_then_ok", {"scenario": "object_for_array"})
    client.b2c("tg-3")
    sim.advance(10)
    wait_for(lambda: len(receiver.got) == 3 and sim.paid_out == 254, PATIENCE, "two results and a notice")
    time.sleep(1)
    client.b2c("tg-4", Amount=99_999)
    sim.advance(10)
    wait_for(lambda: len(receiver.got) == 4, PATIENCE, "no funds")
    assert receiver.got[-1][1]["Result"]["ResultCode"] == 1 and sim.settings.b2c_funds == 100_000 - 254


def test_what_came_in_can_be_pulled(client, sim):
    receipt = sim.pay(PHONE, 50, "nobody's order")
    rows = client.ask("GET", "/pulltransactions/v1/query?ShortCode=174379&OffSetValue=0").json()["Response"][0]
    assert [(row["transactionId"], row["amount"], row["billreference"]) for row in rows] == [
        (receipt, "50.00", "nobody's order")
    ]


def test_a_short_code_is_registered_for_the_list_once(client, sim):
    sim.settings.pull, sim.settings.spike = False, 100
    assert client.ask("GET", "/pulltransactions/v1/query?ShortCode=174379&OffSetValue=0").status == 400
    good = {"ShortCode": "174379", "RequestType": "Pull", "NominatedNumber": PHONE, "CallBackURL": CALLBACK}
    bad = [{"ShortCode": "1"}, {"RequestType": "pull"}, {"NominatedNumber": "0712345678"}, {"CallBackURL": "http://x"}]
    for change in bad:
        assert client.ask("POST", "/pulltransactions/v1/register", good | change).status == 400, change
    for status in ("1000", "1001"):
        assert client.ask("POST", "/pulltransactions/v1/register", good).json()["ResponseStatus"] == status
    assert client.ask("GET", "/pulltransactions/v1/query?ShortCode=174379&OffSetValue=0").status == 200


def test_airtime_is_form_encoded_with_a_plus_and_may_send_nothing_with_200(client, sim):
    def send(phone="+254712345678", key="test-airtime-key"):
        recipients = json.dumps([{"phoneNumber": phone, "amount": "KES 10"}])
        form = urlencode({"username": "sandbox", "recipients": recipients}).encode()
        headers = {"apiKey": key, "Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return client.ask("POST", "/version1/airtime/send", form, headers)

    assert send(key="wrong").status == 401 and send("254712345678").status == 400
    sim.script(None, "airtime_none_sent")
    assert send().json()["numSent"] == 0
    assert send().json()["numSent"] == 1
    sim.advance(5)
    wait_for(lambda: sim.airtime_sent == 10, PATIENCE, "delivered")


def test_it_runs_by_hand_and_is_steered_over_http(receiver):
    (port,) = free_ports(1)
    route = f"https://relay.example.net=127.0.0.1:{receiver.port}"
    argv = [sys.executable, "-m", "lab.darajasim", "--port", str(port), "--speed", "20", "--route", route]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert str(port) in process.stdout.readline().decode()
            client = Client(type("At", (), {"port": port}))
            assert client.token().status == 200
            client.ask("POST", "/_sim/script", {"msisdn": PHONE, "scenario": "dup", "delay": 10})
            client.ask("POST", "/_sim/rate", {"value": "12900000.5"})
            assert client.ask("GET", "/rate").json()["data"]["rates"]["KES"] == "12900000.5"
            assert client.push().status == 200
            client.ask("POST", "/_sim/clock", {"advance": 11})
            wait_for(lambda: len(receiver.got) == 3, PATIENCE, "callbacks")
            assert client.ask("GET", "/_sim/ledger").json()["balances"]["utility"] == 20
            seen = client.ask("GET", "/_sim/requests").json()["requests"]
            assert any(one["path"].endswith("processrequest") and one["body"]["Amount"] == 20 for one in seen)
        finally:
            process.kill()


def test_the_mock_of_the_registry_lies(tmp_path):
    with DarajaMock(HOST, str(tmp_path)) as mock:
        client = Client(mock)
        answer = client.query("ws_CO_that_nobody_has").json()
        assert answer["ResultCode"] in (0, "0") and answer["CheckoutRequestID"] != "ws_CO_that_nobody_has"
