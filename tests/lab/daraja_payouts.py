"""What the Daraja simulator pays out: to phones (B2C), to paybills (B2B) and as airtime, and what it tells of that;
with the looks at a request's fields that all of it shares.
"""

import json
import os
import re
import time
from dataclasses import dataclass
from urllib.parse import parse_qs

from .daraja_plans import Plan, result, timeout_notice
from .http_server import Request

EAT = 3 * 3600
MSISDN = re.compile(r"254[17][0-9]{8}")


@dataclass
class Oops(Exception):
    status: int
    code: str
    message: str


@dataclass
class Payout:
    ours: str
    conversation: str
    msisdn: str
    amount: int
    kind: str
    result_url: str
    timeout_url: str
    plan: Plan
    code: str = ""
    receipt: str = ""
    left: int = 0
    ended: time.struct_time = time.gmtime(0)


def bad(name: str) -> Oops:
    return Oops(400, "400.002.02", f"Bad Request - Invalid {name}")


def whole_number(body: dict, name: str, least: int, most: int) -> int:
    value = body.get(name)
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,7}", text) or not least <= int(text) <= most:
        raise bad(name)
    return int(text)


def phone_number(body: dict, name: str) -> str:
    value = str(body.get(name, ""))
    if not MSISDN.fullmatch(value):
        raise bad(name)
    return value


def short_text(body: dict, name: str, longest: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise bad(name)
    return value


class Payouts:
    """A part of `DarajaSim`, which has the rest of what is used here."""

    def b2c(self, request: Request, _query: dict) -> tuple:
        body = self._body(request)
        ours = short_text(body, "OriginatorConversationID", 64)
        self._initiator(body, "InitiatorName")
        if body.get("CommandID") not in ("BusinessPayment", "SalaryPayment", "PromotionPayment"):
            raise bad("CommandID")
        amount = whole_number(body, "Amount", 10, 250_000)
        msisdn = phone_number(body, "PartyB")
        short_text(body, "Remarks", 100)
        if "Occassion" not in body:
            raise bad("Occassion")
        return self._pay_out(body, ours, msisdn, amount, "b2c")

    def b2b(self, request: Request, _query: dict) -> tuple:
        body = self._body(request)
        self._initiator(body, "Initiator")
        if body.get("CommandID") not in ("BusinessPayBill", "BusinessBuyGoods"):
            raise bad("CommandID")
        if str(body.get("SenderIdentifierType")) != "4" or str(body.get("RecieverIdentifierType")) != "4":
            raise bad("RecieverIdentifierType")
        amount = whole_number(body, "Amount", 1, 250_000)
        party = short_text(body, "PartyB", 12)
        short_text(body, "AccountReference", 13)
        short_text(body, "Remarks", 100)
        # Daraja lists no OriginatorConversationID for B2B: it makes one.
        return self._pay_out(body, f"71840-27539181-{next(self._numbers)}", party, amount, "b2b")

    def _pay_out(self, body: dict, ours: str, to: str, amount: int, kind: str) -> tuple:
        if str(body.get("PartyA")) != self.settings.b2c_shortcode:
            raise bad("PartyA")
        if ours in self.payouts:
            raise Oops(500, "500.002.1001", "Duplicate OriginatorConversationID.")
        result_url, timeout_url = self._url(body, "ResultURL"), self._url(body, "QueueTimeOutURL")
        how = self._plan(to)
        if how.answer == "error" and not how.accepted:
            raise Oops(*how.error)
        conversation = f"AG_{self._stamp()}_{next(self._numbers):018}"
        made = Payout(ours, conversation, to, amount, kind, result_url, timeout_url, how)
        if how.accepted:
            self.payouts[ours] = made
            for turn in range(how.timeouts):
                self._at(how.delay * (turn + 1) / 2, lambda: self.tell(timeout_url, timeout_notice(made)))
            if how.code != "never":
                self._at(how.delay + how.timeouts, lambda: self._paid_out(made))
        answer = {"ConversationID": made.conversation, "OriginatorConversationID": ours, "ResponseCode": "0"}
        return answer | {"ResponseDescription": "Accept the service request successfully."}, how

    def transaction_status(self, request: Request, _query: dict) -> tuple:
        body = self._body(request)
        self._initiator(body, "Initiator")
        url = self._url(body, "ResultURL")
        wanted = body.get("OriginalConversationID") or body.get("TransactionID")
        known = [one for one in self.payouts.values() if wanted in (one.ours, one.conversation, one.receipt)]
        found = next((one for one in known if one.code), None)
        conversation = f"AG_{self._stamp()}_{next(self._numbers):018}"
        if found:
            told = result(found, found.code)
            told["Result"]["ResultParameters"] = {
                "ResultParameter": [
                    {"Key": "ReceiptNo", "Value": found.receipt},
                    {"Key": "TransactionStatus", "Value": "Completed" if found.code == "0" else "Failed"},
                    {"Key": "FinalisedTime", "Value": int(time.strftime("%Y%m%d%H%M%S", found.ended))},
                    {"Key": "Amount", "Value": found.amount},
                    {"Key": "OriginatorConversationID", "Value": found.ours},
                ]
            }
            told["Result"] |= {"ResultCode": 0, "ConversationID": conversation}
            self._at(1, lambda: self.tell(url, told))
        answer = {"ConversationID": conversation, "OriginatorConversationID": f"sim-{next(self._numbers)}"}
        return answer | {"ResponseCode": "0", "ResponseDescription": "Accept the service request successfully."}, None

    def airtime_send(self, request: Request, _query: dict) -> tuple:
        if request.method != "POST" or request.headers.get("apikey") != self.settings.airtime_key:
            return (401, {"message": "The supplied authentication is invalid"}), None
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return (415, {"message": "form-encoded"}), None
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        key = request.headers.get("idempotency-key")
        if form.get("username") != self.settings.airtime_username:
            return (401, {"message": "The supplied authentication is invalid"}), None
        try:
            ((one,),) = [json.loads(form["recipients"])]
            phone, (currency, number) = one["phoneNumber"], one["amount"].split(" ")
            amount = int(number)
        except (KeyError, ValueError, TypeError):
            return (400, {"errorMessage": "Invalid recipients"}), None
        if not re.fullmatch(r"\+254[17][0-9]{8}", phone) or currency != "KES" or not 5 <= amount <= 10_000:
            return (400, {"errorMessage": "Invalid recipients"}), None
        for known in self.airtime.values():
            if key and known["key"] == key:
                return known["answer"], self._plan(phone[1:])
        how = self._plan(phone[1:])
        if how.answer == "error":
            return (how.error[0], {"errorMessage": how.error[2]}), None
        sent = how.sent
        ours = f"ATQid_{os.urandom(8).hex()}"
        why = "None" if sent else "Insufficient Credit"
        row = {"phoneNumber": phone, "errorMessage": why, "amount": f"KES {amount}.0000"}
        row |= {"status": how.status, "requestId": ours if sent else "None", "discount": "KES 0.0000"}
        answer = {"errorMessage": why, "numSent": sent, "totalAmount": f"KES {amount if sent else 0}.0000"}
        answer |= {"totalDiscount": "KES 0.0000", "responses": [row]}
        if how.accepted:
            status = "Pending" if sent else "Failed"
            one = {"status": status, "amount": amount, "msisdn": phone[1:], "key": key, "answer": answer}
            self.airtime[ours] = one
            if how.code != "never":
                self._at(how.delay, lambda: one.update(status="Success" if how.code == "0" else "Failed"))
        return answer, how

    def airtime_status(self, request: Request, query: dict) -> tuple:
        if request.headers.get("apikey") != self.settings.airtime_key:
            return (401, {"message": "The supplied authentication is invalid"}), None
        found = self.airtime.get(query.get("transactionId", ""))
        if not found:
            return {"status": "Failure", "errorMessage": "No such transaction"}, None
        data = {"requestId": query["transactionId"], "status": found["status"], "value": f"KES {found['amount']}.0000"}
        return {"status": "Success", "data": data}, None

    def _paid_out(self, payout: Payout) -> None:
        with self._wake:
            payout.receipt = self._receipt()
            code = payout.plan.code
            if code == "0" and self.settings.b2c_funds < payout.amount:
                code = "1"
            payout.code = code
            if code == "0":
                self.settings.b2c_funds -= payout.amount
                self._row(payout.receipt, "b2c", -payout.amount, payout.msisdn, payout.ours)
            payout.left = self.settings.b2c_funds
            payout.ended = time.gmtime(self._wall() + EAT)
        for _ in range(payout.plan.callbacks):
            told = lambda: self.tell(payout.result_url, result(payout, code, payout.plan.damage))
            self._at(payout.plan.callback_delay, told)
