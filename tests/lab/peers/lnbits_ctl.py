"""The real LNbits on its FakeWallet, which pays invoices of others as told, started inside LNbits' own environment.

Invoices of this instance are paid by LNbits itself. For those of others a control port answers on `CTL_PORT`:
	POST /set   {"pay": "ok", "status": "pending", "fee_msat": 0, "delay": 0, "wait": 5}
		pay      what the payment ends with: ok, failed, pending, or raise
		status   what a later look finds: paid, failed or pending
		delay    seconds that the payment takes
		wait     seconds after which LNbits answers that it goes on
	POST /know  {PAYMENT_HASH: PREIMAGE}: these can be paid with their preimage; others have none
	GET /paid   payment hashes in the order in which this wallet was asked to pay them
It ends when its standard input does.
"""

import asyncio
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bolt11 import decode
from lnbits.settings import settings
from lnbits.wallets.base import PaymentResponse, PaymentStatus
from lnbits.wallets.fake import FakeWallet

ORDERS = {"pay": "ok", "status": "pending", "fee_msat": 0, "delay": 0.0, "wait": 5}
PREIMAGES: dict[str, str] = {}
PAID: list[str] = []


async def pay_invoice(_, bolt11: str, fee_limit_msat: int) -> PaymentResponse:
    payment_hash = decode(bolt11).payment_hash
    PAID.append(payment_hash)
    what = ORDERS["pay"]
    await asyncio.sleep(ORDERS["delay"])
    if what == "raise":
        raise OSError("the node went away")
    if what == "pending":
        return PaymentResponse(ok=None, checking_id=payment_hash)
    if what == "failed":
        return PaymentResponse(ok=False, error_message="no route")
    return PaymentResponse(
        ok=True, checking_id=payment_hash, fee_msat=ORDERS["fee_msat"], preimage=PREIMAGES.get(payment_hash)
    )


async def get_payment_status(_, checking_id: str) -> PaymentStatus:
    paid = {"paid": True, "failed": False, "pending": None}[ORDERS["status"]]
    return PaymentStatus(paid, ORDERS["fee_msat"] if paid else None, PREIMAGES.get(checking_id) if paid else None)


class Control(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        {"/set": ORDERS, "/know": PREIMAGES}[self.path].update(body)
        settings.lnbits_funding_source_pay_invoice_wait_seconds = ORDERS["wait"]
        self.reply(b"")

    def do_GET(self) -> None:
        self.reply(json.dumps(PAID).encode())

    def reply(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


def end_with_standard_input() -> None:
    while sys.stdin.buffer.read(1024):
        pass
    os._exit(0)


def main() -> None:
    FakeWallet.pay_invoice = pay_invoice
    FakeWallet.get_payment_status = get_payment_status
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    control = ThreadingHTTPServer(("127.0.0.1", int(os.environ["CTL_PORT"])), Control)
    threading.Thread(target=control.serve_forever, daemon=True).start()

    import uvicorn

    uvicorn.run("lnbits.__main__:app", host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")


if __name__ == "__main__":
    main()
