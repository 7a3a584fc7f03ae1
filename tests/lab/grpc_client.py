"""A program of the operator's: a real gRPC client (grpcio), whose messages are made from the shipped `.proto` files.

	with GrpcClient(lab.router, token=daemon.grpc_token) as client:
	    client.wallet("GetBalance").confirmed_sats
	    client.payment("ProcessPayment", payment_id="a", invoice=invoice).status
	    client.code(lambda: client.wallet("GetBalance", token="wrong"))          # "UNAUTHENTICATED"
"""

import functools
import importlib
import os
import sys
import tempfile

import grpc

from .forwarder import Forwarder
from .place import HOST, Place

PORT = 50051
PROTO = os.path.join(os.path.dirname(__file__), "..", "..", "src", "grpc", "proto")


@functools.cache
def modules() -> tuple:
    """The messages and stubs of both files: `wallet_pb2`, `wallet_pb2_grpc`, `payment_pb2`, `payment_pb2_grpc`."""
    from grpc_tools import protoc

    made = tempfile.mkdtemp(prefix="tollgated-proto-")
    files = ["wallet.proto", "payment.proto"]
    if protoc.main(["protoc", f"-I{PROTO}", f"--python_out={made}", f"--grpc_python_out={made}", *files]):
        raise OSError("the .proto files cannot be compiled")
    sys.path.insert(0, made)
    try:
        names = [f"{name}_pb2{kind}" for name in ("wallet", "payment") for kind in ("", "_grpc")]
        return tuple(importlib.import_module(name) for name in names)
    finally:
        sys.path.remove(made)


class GrpcClient:
    """At `host` of `place`; over TLS where `ca` (a file) says whom to trust, as `name`."""

    def __init__(
        self,
        place: Place,
        *,
        token: str | None,
        host: str = "127.0.0.1",
        port: int = PORT,
        ca: str = "",
        name: str = "",
    ) -> None:
        self.token = token
        self.wallet_pb2, wallet_grpc, self.payment_pb2, payment_grpc = modules()
        # grpcio makes its own sockets, on this machine.
        self.forwarder = Forwarder(place, host=host, port=port, near=HOST, preferred=0)
        target = f"127.0.0.1:{self.forwarder.port}"
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if ca:
            with open(ca, "rb") as file:
                trusted = grpc.ssl_channel_credentials(file.read())
            self.channel = grpc.secure_channel(target, trusted, [*options, ("grpc.ssl_target_name_override", name)])
        else:
            self.channel = grpc.insecure_channel(target, options)
        self.services = {
            "wallet": (wallet_grpc.WalletServiceStub(self.channel), self.wallet_pb2),
            "payment": (payment_grpc.PaymentServiceStub(self.channel), self.payment_pb2),
        }

    def __enter__(self) -> "GrpcClient":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()
        self.forwarder.close()

    def call(self, service: str, method: str, *, token: str | None = "", timeout: float | None = 40, **fields):
        stub, messages = self.services[service]
        name = "PaymentStreamRequest" if method == "PaymentStream" else f"{method}Request"
        token = self.token if token == "" else token
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        return getattr(stub, method)(getattr(messages, name)(**fields), timeout=timeout, metadata=metadata)

    def wallet(self, method: str, **how):
        return self.call("wallet", method, **how)

    def payment(self, method: str, **how):
        return self.call("payment", method, **how)

    def stream(self, wallet_id: str = "", **how):
        return self.call("payment", "PaymentStream", wallet_id=wallet_id, **how)


def code(call) -> str:
    """The name of the error that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"
