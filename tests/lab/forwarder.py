"""Lets a person's browser on this machine stand where a guest stands: what arrives on a loopback port goes on from the
guest's namespace to the router, byte for byte."""

import contextlib
import socket
import threading

from .guest import ROUTER4, Guest
from .place import HOST


class Forwarder:
    def __init__(self, guest: Guest, *, port: int = 2121, preferred: int = 2121) -> None:
        self.guest, self.target = guest, port
        try:
            self.listener = HOST.listen("127.0.0.1", preferred)
        except OSError:
            self.listener = HOST.listen("127.0.0.1")
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

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
            try:
                far = self.guest.connect(ROUTER4, self.target)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=pump, args=(source, sink), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """One direction; the end of it is passed on, so that the other can still finish."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
