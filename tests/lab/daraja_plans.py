"""What becomes of a prompt or a payout at the Daraja simulator: the scenarios by name, and the bodies that tell of it.

A scenario is a `Plan`: what comes of the payment and when, who is told, and what is wrong with the telling.
"""

import copy
import time
from dataclasses import dataclass, field

TEXTS = {
    "0": "The service request is processed successfully.",
    "1": "The balance is insufficient for the transaction.",
    "17": "Rule limited.",
    "1019": "Transaction has expired",
    "1025": "An error occurred while sending a push request",
    "1032": "Request cancelled by user",
    "1037": "DS timeout user cannot be reached",
    "2001": "The initiator information is invalid.",
    "2028": "The request is not permitted according to product assignment",
    "8006": "The security credential is locked.",
    "9999": "An error occurred while sending a push request",
}
PROCESSING = "The transaction is being processed"
STILL = "The transaction is still under processing"


@dataclass
class Plan:
    name: str = "ok"
    code: str = "0"
    """What comes of it in the end; `never`: nothing does."""
    delay: float = 2.0
    """Seconds from the request to its end."""
    first: str = ""
    """An end that is told before the true one, as 1037 before a late success; `late` seconds lie between."""
    late: float = 60.0
    callbacks: int = 1
    callback_delay: float = 0.0
    query: str = "true"
    """`true`, `hidden` (pending for good), or a code that it says instead of the truth."""
    lie_for: float | None = None
    """Seconds after the end in which the query is not true; None: for good."""
    pending: str = "500"
    """How a query says that it is pending: `500`, `4999`, or another code beside 4999's text."""
    answer: str = "normal"
    """Of the request: `normal`, `drop`, `html`, `slow`, `truncated`, `huge`, `nested`, or `error`."""
    accepted: bool = True
    """Whether the request is done although its answer is not normal."""
    seconds: float = 20.0
    error: tuple[int, str, str] = (500, "500.003.02", "System is busy. Please try again in few minutes.")
    damage: str = ""
    """What is wrong with the callback."""
    amount: int | None = None
    """What was really paid."""
    timeouts: int = 0
    """How often QueueTimeOutURL is told before the result."""
    sent: int = 1
    """Airtime: `numSent`."""
    status: str = "Sent"
    given: dict = field(default_factory=dict)


def _plain(**values):
    return lambda: Plan(**values)


SCENARIOS = {
    "ok": _plain(),
    "cancel": _plain(code="1032"),
    "wrong_pin": _plain(code="2001"),
    "no_funds": _plain(code="1"),
    "unreachable": _plain(code="1037"),
    "expired": _plain(code="1019", delay=60),
    "result": _plain(),
    "never": _plain(code="never", callbacks=0),
    "callback_only": _plain(query="hidden"),
    "query_only": _plain(callbacks=0),
    "late": _plain(delay=120),
    "late_callback": _plain(callback_delay=120),
    "dup": _plain(callbacks=3),
    "late_success_after_1037": _plain(first="1037"),
    "query_lies_failed": _plain(query="1032"),
    "query_lies_paid": _plain(code="1032", query="0"),
    "pending_500": _plain(delay=20, pending="500"),
    "pending_4999": _plain(delay=20, pending="4999"),
    "pending_text": _plain(delay=20, pending="1037"),
    "drop_response_after_accept": _plain(answer="drop"),
    "drop_before_accept": _plain(answer="drop", accepted=False),
    "html_502": _plain(answer="html"),
    "slow": _plain(answer="slow"),
    "truncated_json": _plain(answer="truncated"),
    "huge": _plain(answer="huge"),
    "nested": _plain(answer="nested"),
    "error": _plain(answer="error", accepted=False),
    "busy_after_accept": _plain(answer="error"),
    "string_numbers": _plain(damage="string_numbers"),
    "balance_without_value": _plain(damage="balance_without_value"),
    "items_reversed": _plain(damage="items_reversed"),
    "object_for_array": _plain(damage="object_for_array"),
    "wrong_checkout_id": _plain(damage="wrong_checkout_id"),
    "wrong_amount": _plain(amount=1),
    "b2c_timeout_then_ok": _plain(timeouts=1),
    "b2c_dup": _plain(callbacks=2),
    "airtime_none_sent": _plain(sent=0, status="Failed", code="never"),
}
"""The reference's `late(120 s)` is `{"scenario": "late", "delay": 120}`; `result` ends with any `code`."""


def plan(order: dict | str) -> Plan:
    """Of `"cancel"`, or `{"scenario": "slow", "seconds": 5}`. Raises ValueError at a name that there is not."""
    given = {"scenario": order} if isinstance(order, str) else dict(order)
    name = given.pop("scenario", "ok")
    if name not in SCENARIOS:
        raise ValueError(f"no scenario {name!r}")
    made = SCENARIOS[name]()
    made.name = name
    for key, value in given.items():
        if key in ("msisdn", "order") or not hasattr(made, key):
            raise ValueError(f"scenario {name}: no {key!r}")
        setattr(made, key, tuple(value) if key == "error" else str(value) if key in ("code", "query") else value)
    return made


def stk_callback(payment, code: str, damage: str = "") -> dict:
    """As Daraja sends it; a failure has no `CallbackMetadata`."""
    number = int(code) if code.isdigit() else code
    checkout = payment.checkout
    if damage == "wrong_checkout_id":
        checkout = "ws_CO_000000000000000000000000000"
    callback = {
        "MerchantRequestID": payment.merchant,
        "CheckoutRequestID": checkout,
        "ResultCode": number,
        "ResultDesc": TEXTS.get(code, "Something that no list has."),
    }
    if code == "0":
        items = [
            {"Name": "Amount", "Value": float(payment.paid)},
            {"Name": "MpesaReceiptNumber", "Value": payment.receipt},
            {"Name": "Balance"},
            {"Name": "TransactionDate", "Value": int(payment.at)},
            {"Name": "PhoneNumber", "Value": int(payment.msisdn)},
        ]
        if damage == "string_numbers":
            callback["ResultCode"] = "0"
            items = [item | {"Value": str(item["Value"])} if "Value" in item else item for item in items]
        elif damage == "items_reversed":
            items.reverse()
        callback["CallbackMetadata"] = {"Item": items[1] if damage == "object_for_array" else items}
    return {"Body": {"stkCallback": callback}}


def result(payout, code: str, damage: str = "") -> dict:
    """Of B2C and B2B, at ResultURL."""
    body = {
        "ResultType": 0,
        "ResultCode": int(code) if code.isdigit() else code,
        "ResultDesc": TEXTS.get(code, "Something that no list has."),
        "OriginatorConversationID": payout.ours,
        "ConversationID": payout.conversation,
        "TransactionID": payout.receipt,
        "ReferenceData": {"ReferenceItem": {"Key": "QueueTimeoutURL", "Value": payout.timeout_url}},
    }
    if code == "0":
        parameters = [
            {"Key": "TransactionAmount", "Value": payout.amount},
            {"Key": "TransactionReceipt", "Value": payout.receipt},
            {"Key": "ReceiverPartyPublicName", "Value": f"{payout.msisdn} - NAME"},
            {"Key": "TransactionCompletedDateTime", "Value": time.strftime("%d.%m.%Y %H:%M:%S", payout.ended)},
            {"Key": "B2CUtilityAccountAvailableFunds", "Value": float(payout.left)},
            {"Key": "B2CRecipientIsRegisteredCustomer", "Value": "Y"},
        ]
        if damage == "string_numbers":
            body["ResultCode"] = "0"
            parameters = [one | {"Value": str(one["Value"])} for one in parameters]
        elif damage == "items_reversed":
            parameters.reverse()
        body["ResultParameters"] = {
            "ResultParameter": parameters[1] if damage == "object_for_array" else copy.deepcopy(parameters)
        }
    return {"Result": body}


def timeout_notice(payout) -> dict:
    """At QueueTimeOutURL: it says that the outcome is unknown, not that it failed."""
    return {
        "Result": {
            "ResultType": 1,
            "ResultCode": 1,
            "ResultDesc": "The request timed out in the queue.",
            "OriginatorConversationID": payout.ours,
            "ConversationID": payout.conversation,
        }
    }
