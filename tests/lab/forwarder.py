"""Joins two places that have no network between them, byte for byte: a person's browser on this machine stands where a
guest stands, and a daemon on the lab's router reaches a Lightning node of this machine."""

import contextlib
import socket
import threading
from collections.abc import Callable

from .guest import ROUTER4
from .place import HOST, Place


class Forwarder:
    """Listens on loopback of `near`, and goes on from `far` to `host` and `port`. `preferred` is taken if it is free.

    `before` is called before a connection goes on; what comes back from the far side is kept while `hold` is set.
    """

    def __init__(
        self, far: Place, *, host: str = ROUTER4, port: int = 2121, near: Place = HOST, preferred: int = 2121
    ) -> None:
        self.far, self.target = far, (host, port)
        self.before: Callable[[], object] | None = None
        self.passing = threading.Event()
        self.passing.set()
        try:
            self.listener = near.listen("127.0.0.1", preferred)
        except OSError:
            self.listener = near.listen("127.0.0.1")
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def hold(self, held: bool = True) -> None:
        (self.passing.clear if held else self.passing.set)()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.passing.set()

    def __enter__(self) -> "Forwarder":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.before:
                before, self.before = self.before, None
                before()
            try:
                far = self.far.connect(*self.target)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            threading.Thread(target=pump, args=(near, far), daemon=True).start()
            threading.Thread(target=pump, args=(far, near, self.passing), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket, passing: threading.Event | None = None) -> None:
    """One direction; the end of it is passed on, so that the other can still finish."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if passing:
                passing.wait()
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
