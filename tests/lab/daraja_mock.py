"""`daraja-mock` of the registry, by others: a peer that accepts everything, never calls back, and says of payments
that it never heard of that they were made. Good for showing that the daemon does not believe it.

	with DarajaMock(lab.router, lab.path("mock")) as mock:
	    mock.url
"""

import os
import sys

from .place import HOST, PATIENCE, Place, free_ports, wait_for


class DarajaMock:
    def __init__(self, place: Place = HOST, dir: str = "/tmp") -> None:
        os.makedirs(dir, exist_ok=True)
        self.place = place
        (self.port,) = free_ports(1)
        self.log = os.path.join(dir, "daraja-mock.log")
        argv = [sys.executable, "-m", "daraja_mock", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = place.spawn(argv, log=self.log)
        wait_for(self._answers, PATIENCE, "daraja-mock answers", every=0.1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "DarajaMock":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()

    def _answers(self) -> bool:
        try:
            self.place.connect("127.0.0.1", self.port, 1).close()
        except OSError:
            return False
        return True
