"""A certificate authority of a test's own, and the daemon's https as a client of it sees it.

	authority = Authority(lab.path("https"))
	authority.issue()                                    # certificate and key in the files that `section` names
	make_daemon(mint.url, sections={"tls": authority.section})
	authority.get(lab.guest, "/")
"""

import base64
import datetime
import hashlib
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from . import http_client
from .guest import ROUTER4
from .place import PATIENCE

NAME = "wifi.example.net"
PORT = 2125
DAY = datetime.timedelta(days=1)


class Authority:
    def __init__(self, dir: str) -> None:
        os.makedirs(dir, exist_ok=True)
        self.cert_file, self.key_file = os.path.join(dir, "cert.pem"), os.path.join(dir, "key.pem")
        self.ca_file = os.path.join(dir, "ca.pem")
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = _name("test authority")
        own = self._builder(self.subject, self.key.public_key(), -1, 3650)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = own.sign(self.key, hashes.SHA256())
        _write(self.ca_file, self.certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def section(self) -> dict:
        """Options of `config tls`."""
        return {"name": NAME, "cert_file": self.cert_file, "key_file": self.key_file}

    def flags(self, address: str) -> list[str]:
        """A Chromium that trusts this authority alone, and finds the name at this address."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        key = self.key.public_key().public_bytes(serialization.Encoding.DER, form)
        pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
        return [f"--ignore-certificate-errors-spki-list={pin}", f"--host-resolver-rules=MAP {NAME} {address}"]

    def _builder(self, subject, key, begins: float, ends: float) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins * DAY)
            .not_valid_after(now + ends * DAY)
        )

    def issue(
        self, name: str = NAME, *, begins: float = -1, ends: float = 30, kind: str = "ec", key: bool = True
    ) -> int:
        """Puts a new pair in place of the one before, as what renews certificates does; without `key` the certificate
        only. Answers its serial number."""
        own = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "ec"
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )
        made = self._builder(_name(name), own.public_key(), begins, ends)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        made = made.sign(self.key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        if key:
            form, none = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            _write(self.key_file, own.private_bytes(pem, form, none))
        _write(self.cert_file, made.public_bytes(pem) + self.certificate.public_bytes(pem))
        return made.serial_number

    def context(self, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A client that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca_file)
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def connect(
        self,
        place,
        port: int = PORT,
        host: str = ROUTER4,
        name: str | None = NAME,
        context: ssl.SSLContext | None = None,
    ) -> ssl.SSLSocket:
        """Without `name` the client says none, and checks none."""
        context = context or self.context()
        context.check_hostname = name is not None
        sock = place.connect(host, port)
        sock.settimeout(PATIENCE)
        return context.wrap_socket(sock, server_hostname=name)

    def serial(self, place, **more) -> int:
        """Of the certificate that is served."""
        with self.connect(place, **more) as sock:
            return x509.load_der_x509_certificate(sock.getpeercert(binary_form=True)).serial_number

    def get(self, place, path: str, *, port: int = PORT, host: str = ROUTER4, **headers) -> http_client.Answer:
        return self.request(place, "GET", path, port=port, host=host, headers=headers)

    def request(
        self, place, method: str, path: str, body=None, *, port: int = PORT, host: str = ROUTER4, headers=None
    ) -> http_client.Answer:
        sock = self.connect(place, port, host)
        return http_client.exchange(sock, method, path, f"{NAME}:{port}", headers, body)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(path: str, content: bytes) -> None:
    with open(path + ".new", "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
    os.rename(path + ".new", path)
