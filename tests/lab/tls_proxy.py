"""TLS before a server that speaks none, with a certificate of an authority of our own: what the daemon trusts by
`ca_file`.

	proxy = TlsProxy(lab.internet, MINT4, upstream_port=mint.port, dir=lab.path("tls"))
	Daemon(lab, [Mint(proxy.url, allow_http=False)], main={"ca_file": proxy.ca_file})
"""

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .place import Place

DAY = datetime.timedelta(days=1)


class TlsProxy:
    """Every connection to `host`:`port` goes on, decrypted, to `upstream_port` of the same host, or of `upstream`. The
    certificate is for the address and for `names`. `versions` counts the handshakes by what was agreed on."""

    def __init__(
        self,
        place: Place,
        host: str,
        *,
        upstream_port: int,
        dir: str,
        port: int = 443,
        upstream: str | None = None,
        names: list[str] | None = None,
    ) -> None:
        self.place, self.host, self.upstream, self.upstream_port = place, host, upstream or host, upstream_port
        self.versions: dict[str, int] = {}
        os.makedirs(dir, exist_ok=True)
        self.ca_file = os.path.join(dir, "ca.pem")
        chain = os.path.join(dir, "server.pem")
        write_certificates(host, self.ca_file, chain, names or [])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain)
        self.listener = place.listen(host, port)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def __enter__(self) -> "TlsProxy":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), self.context.wrap_socket(near, server_side=True) as secure:
            self.versions[secure.version()] = self.versions.get(secure.version(), 0) + 1
            with self.place.connect(self.upstream, self.upstream_port, 60) as far:
                far.settimeout(None)
                threading.Thread(target=pump, args=(secure, far), daemon=True).start()
                pump(far, secure)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def write_certificates(host: str, ca_file: str, chain_file: str, names: list[str]) -> None:
    """An authority, and a certificate of its for the address and the names with its key."""
    ca_key, ca_name = ec.generate_private_key(ec.SECP256R1()), named("lab authority")
    ca = (
        certificate(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        certificate(named("lab mint"), ca_name, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host)), *map(x509.DNSName, names)]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, content in ((ca_file, ca.public_bytes(pem)), (chain_file, private + leaf.public_bytes(pem))):
        with open(path, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(content)


def certificate(subject: x509.Name, issuer: x509.Name, key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return made.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + 365 * DAY)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
