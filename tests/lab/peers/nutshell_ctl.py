"""The real nutshell mint on a Lightning wallet that pays on command, started inside nutshell's own environment.

Beside the mint (configured by nutshell's own variables) a control port answers on `CTL_HOST`:`CTL_PORT`:
	POST /pay/HASH   an outside payer has paid this invoice (the mint tells its subscribers at once)
	POST /pay-all    every invoice that is open is paid now; answers how many
	POST /rotate     a new active keyset; body {"input_fee_ppk": 0}
	POST /set        nutshell settings, e.g. {"fakewallet_pay_invoice_state": "FAILED"}
	POST /know       preimages of invoices that the mint is to pay, by their hashes
	GET /asked       the hashes of the invoices that the mint's wallet was told to pay, in that order
`CTL_KEYSETS=v1` makes keyset ids of the first version. With `CTL_STDIN=1` it ends when its standard input does.
"""

import asyncio
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import bolt11
import cashu.lightning
from cashu.core.base import Amount, Unit
from cashu.core.settings import settings
from cashu.lightning.base import PaymentResponse, PaymentResult, PaymentStatus


class CtlWallet(cashu.lightning.FakeWallet):
    """Nothing is paid by itself: an invoice is paid when the control port says so."""

    running: "CtlWallet | None" = None
    preimages: dict[str, str] = {}
    asked: list[str] = []
    loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, **options) -> None:
        super().__init__(**options)
        CtlWallet.running = self

    async def paid_invoices_stream(self):
        CtlWallet.loop = asyncio.get_running_loop()
        async for payment_hash in super().paid_invoices_stream():
            yield payment_hash

    async def mark_invoice_paid(self, *_, **__) -> None:
        pass

    async def get_invoice_status(self, checking_id: str) -> PaymentStatus:
        paid = any(invoice.payment_hash == checking_id for invoice in self.paid_invoices_incoming)
        return PaymentStatus(result=PaymentResult.SETTLED if paid else PaymentResult.PENDING)

    async def pay_invoice(self, quote, fee_limit: int) -> PaymentResponse:
        payment_hash = bolt11.decode(quote.request).payment_hash
        CtlWallet.asked.append(payment_hash)
        paid = await super().pay_invoice(quote, fee_limit)
        return paid.copy(update={"preimage": CtlWallet.preimages.get(payment_hash, paid.preimage)})

    async def get_payment_status(self, checking_id: str) -> PaymentStatus:
        status = await super().get_payment_status(checking_id)
        if status.result != PaymentResult.SETTLED:
            return status
        return PaymentStatus(
            result=status.result, fee=Amount(self.unit, 1), preimage=CtlWallet.preimages.get(checking_id)
        )

    async def settle(self, payment_hash: str) -> None:
        made_here = (invoice for invoice in self.created_invoices if invoice.payment_hash == payment_hash)
        # The wallet forgets its invoices when the mint restarts; the mint itself only looks at the hash.
        invoice = next(made_here, None) or self.create_dummy_bolt11(payment_hash)
        if invoice not in self.paid_invoices_incoming:
            self.paid_invoices_incoming.append(invoice)
            await self.paid_invoices_queue.put(invoice)


class Control(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        try:
            self.reply(200, self.carry_out(body) or "")
        except Exception as error:
            self.reply(500, repr(error))

    def do_GET(self) -> None:
        if self.path == "/asked":
            return self.reply(200, json.dumps(CtlWallet.asked))
        return self.reply(200 if CtlWallet.loop else 503)

    def carry_out(self, body: dict) -> str | None:
        if self.path.startswith("/pay/"):
            self.on_the_loop(CtlWallet.running.settle(self.path.removeprefix("/pay/")))
        elif self.path == "/pay-all":
            wallet = CtlWallet.running
            unpaid = [one for one in wallet.created_invoices if one not in wallet.paid_invoices_incoming]
            for invoice in unpaid:
                self.on_the_loop(wallet.settle(invoice.payment_hash))
            return str(len(unpaid))
        elif self.path == "/rotate":
            from cashu.mint.startup import ledger

            self.on_the_loop(ledger.rotate_next_keyset(Unit.sat, **body))
        elif self.path == "/know":
            CtlWallet.preimages.update(body)
        elif self.path == "/set":
            for name, value in body.items():
                setattr(settings, name, value)
        else:
            raise ValueError(f"no such command: {self.path}")

    def on_the_loop(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, CtlWallet.loop).result(50)

    def reply(self, status: int, text: str = "") -> None:
        data = text.encode()
        self.send_response(status)
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
    cashu.lightning.CtlWallet = CtlWallet
    if os.environ.get("CTL_KEYSETS") == "v1":
        settings.version = "0.19.2"
    if os.environ.get("CTL_STDIN"):
        threading.Thread(target=end_with_standard_input, daemon=True).start()
    control = ThreadingHTTPServer((os.environ.get("CTL_HOST", "127.0.0.1"), int(os.environ["CTL_PORT"])), Control)
    threading.Thread(target=control.serve_forever, daemon=True).start()

    from cashu.mint.main import main as mint

    sys.argv = sys.argv[:1]
    mint()


if __name__ == "__main__":
    main()
