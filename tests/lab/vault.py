"""A stand-in for HashiCorp's Vault: AppRole, tokens that end, the transit engine, and nothing else. It is strict: what
a policy does not allow is 403, what no path is meant for 404, and everything is 503 while it is sealed. That it speaks
as a Vault does is checked with hvac, a client by others (test_vault.py).

No server by others stands in its place: rusty_vault, up to 0.2.1 the only one that a registry has, signs in by AppRole
but has no transit engine (its modules are kv, pki and system), so a router could not have its data key opened there.
"""

import base64
import binascii
import os
import secrets
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .http_server import Cut, Request, Server
from .place import Place

TOKEN_LIFE = 600.0
SELF = ("auth/token/lookup-self", "auth/token/renew-self", "auth/token/revoke-self")


class Refused(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status, errors)
        self.status, self.errors = status, list(errors)


class TransitKey:
    def __init__(self) -> None:
        self.versions = [AESGCM(secrets.token_bytes(32))]
        self.oldest = 1

    def wrap(self, plain: bytes) -> str:
        nonce = secrets.token_bytes(12)
        sealed = nonce + self.versions[-1].encrypt(nonce, plain, None)
        return f"vault:v{len(self.versions)}:{base64.b64encode(sealed).decode()}"

    def unwrap(self, text: str) -> bytes:
        mark, _, rest = text.partition(":v")
        number, _, sealed = rest.partition(":")
        if mark != "vault" or not number.isdigit() or not 0 < int(number) <= len(self.versions):
            raise Refused(400, "invalid ciphertext: no prefix")
        if int(number) < self.oldest:
            raise Refused(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self.versions[int(number) - 1].decrypt(raw[:12], raw[12:], None)
        except (binascii.Error, InvalidTag, ValueError) as wrong:
            raise Refused(400, "cipher: message authentication failed") from wrong


class Vault(Server):
    """`role_id` and `secret_id` sign in, for what `allowed` says of the key `key`; `root` may do everything."""

    def __init__(self, place: Place, host: str, port: int = 0, key: str = "router") -> None:
        self.key, self.keys = key, {key: TransitKey()}
        self.role_id, self.secret_id = secrets.token_hex(16), secrets.token_hex(16)
        self.root = "hvs." + secrets.token_hex(12)
        self.tokens: dict[str, float] = {}
        """Those that were given out, with the moment when they end."""
        self.life, self.uses = TOKEN_LIFE, None
        """`uses`: how often the secret id still signs in; None: any number of times."""
        self.allowed = ("datakey/plaintext", "decrypt", "rewrap")
        self.sealed, self.lying, self.hung = False, False, False
        self.counts: dict[str, int] = {}
        super().__init__(place, host, port)

    def section(self, lab) -> dict:
        """`config keys` of a daemon that signs in here."""
        options = {"provider": "vault", "address": self.url, "transit_key": self.key, "allow_http": 1}
        for name, value in (("role_id", self.role_id), ("secret_id", self.secret_id)):
            path = lab.path(f"{name}-{secrets.token_hex(4)}")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(value + "\n")
            options[f"{name}_file"] = path
        return options

    def handle(self, request: Request) -> None:
        path = request.path.removeprefix("/v1/").partition("?")[0]
        if self.hung:
            time.sleep(30)
            raise Cut
        with self.lock:
            self.counts[path] = self.counts.get(path, 0) + 1
            try:
                if not request.path.startswith("/v1/"):
                    raise Refused(404)
                status, said = self._answer(request, path)
            except Refused as refused:
                status, said = refused.status, {"errors": refused.errors}
            except (ValueError, TypeError, AttributeError):
                status, said = 400, {"errors": ["error parsing JSON"]}
        request.answer(status, b"" if said is None else said)

    def _answer(self, request: Request, path: str) -> tuple[int, object]:
        if path == "sys/health" and request.method in ("GET", "HEAD"):
            return (503 if self.sealed else 200), {"initialized": True, "sealed": self.sealed, "standby": False}
        if path == "sys/seal-status" and request.method == "GET":
            return 200, {"type": "shamir", "initialized": True, "sealed": self.sealed, "t": 1, "n": 1, "progress": 0}
        if path == "sys/init" and request.method == "GET":
            return 200, {"initialized": True}
        if self.sealed:
            raise Refused(503, "Vault is sealed")
        if path == "auth/approle/login":
            self._writes(request)
            return 200, self._signed_in(request.json())
        token = request.headers.get("x-vault-token", "")
        if token != self.root and self.tokens.get(token, 0.0) < time.time():
            raise Refused(403, "permission denied")
        if path in SELF:
            return self._own(path, request, token)
        mount, _, rest = path.partition("/")
        verb, _, name = rest.rpartition("/")
        if token != self.root and not (mount == "transit" and verb in self.allowed and name == self.key):
            raise Refused(403, "1 error occurred:\n\t* permission denied\n\n")
        if mount != "transit":
            raise Refused(404, f'no handler for route "{path}". route entry not found.')
        return self._transit(request, rest)

    def _writes(self, request: Request) -> None:
        if request.method not in ("POST", "PUT"):
            raise Refused(405, "unsupported operation")

    def _signed_in(self, body: dict) -> dict:
        if body.get("role_id") != self.role_id:
            raise Refused(400, "invalid role or secret ID")
        if body.get("secret_id") != self.secret_id or self.uses == 0:
            raise Refused(400, "invalid role or secret ID")
        if self.uses is not None:
            self.uses -= 1
        token = "hvs." + secrets.token_hex(12)
        self.tokens[token] = time.time() + self.life
        return self._told(auth=self._auth(token))

    def _auth(self, token: str) -> dict:
        return {
            "client_token": token,
            "accessor": token[-8:],
            "policies": ["default", "tollgate"],
            "token_policies": ["default", "tollgate"],
            "metadata": {"role_name": "router"},
            "lease_duration": int(self.life),
            "renewable": True,
            "entity_id": "",
            "token_type": "service",
            "orphan": True,
        }

    def _told(self, data=None, auth=None) -> dict:
        told = {"request_id": secrets.token_hex(8), "lease_id": "", "renewable": False, "lease_duration": 0}
        return {**told, "data": data, "wrap_info": None, "warnings": None, "auth": auth}

    def _own(self, path: str, request: Request, token: str) -> tuple[int, object]:
        if path.endswith("lookup-self"):
            if request.method != "GET":
                raise Refused(405, "unsupported operation")
            ttl = int(self.tokens.get(token, time.time()) - time.time())
            return 200, self._told({"id": token, "ttl": ttl, "renewable": True, "policies": ["default", "tollgate"]})
        self._writes(request)
        if path.endswith("revoke-self"):
            self.tokens.pop(token, None)
            return 204, None
        self.tokens[token] = time.time() + self.life
        return 200, self._told(auth=self._auth(token))

    def _transit(self, request: Request, rest: str) -> tuple[int, object]:
        parts = rest.split("/")
        if parts[0] == "keys" and 2 <= len(parts) <= 3:
            return self._key(request, *parts[1:])
        verb, name = "/".join(parts[:-1]), parts[-1]
        if verb not in ("encrypt", "decrypt", "rewrap", "datakey/plaintext", "datakey/wrapped"):
            raise Refused(404, "unsupported path")
        self._writes(request)
        if name not in self.keys:
            raise Refused(400, "encryption key not found")
        key, body = self.keys[name], request.json() if request.body else {}
        if verb.startswith("datakey/"):
            if body.get("bits", 256) not in (128, 256, 512):
                raise Refused(400, "invalid bit length")
            plain = secrets.token_bytes(body.get("bits", 256) // 8)
            told = {"ciphertext": key.wrap(plain), "key_version": len(key.versions)}
            if verb == "datakey/plaintext":
                told["plaintext"] = base64.b64encode(plain).decode()
        elif verb == "encrypt":
            if not isinstance(body.get("plaintext"), str):
                raise Refused(400, "missing plaintext to encrypt")
            told = {"ciphertext": key.wrap(base64.b64decode(body["plaintext"], validate=True))}
            told["key_version"] = len(key.versions)
        else:
            if not isinstance(body.get("ciphertext"), str):
                raise Refused(400, "missing ciphertext to decrypt")
            plain = key.unwrap(body["ciphertext"])
            if verb == "rewrap":
                told = {"ciphertext": key.wrap(plain), "key_version": len(key.versions)}
            else:
                told = {"plaintext": base64.b64encode(plain if not self.lying else plain[::-1]).decode()}
        return 200, self._told(told)

    def _key(self, request: Request, name: str, verb: str = "") -> tuple[int, object]:
        if verb == "" and request.method in ("POST", "PUT"):
            self.keys.setdefault(name, TransitKey())
        elif name not in self.keys:
            raise Refused(404)
        elif verb == "rotate":
            self._writes(request)
            self.keys[name].versions.append(AESGCM(secrets.token_bytes(32)))
        elif verb == "config":
            self._writes(request)
            oldest = request.json().get("min_decryption_version", 1)
            if not 0 < oldest <= len(self.keys[name].versions):
                raise Refused(400, "cannot set min decryption version")
            self.keys[name].oldest = oldest
        elif verb or request.method != "GET":
            raise Refused(405, "unsupported operation")
        key = self.keys[name]
        newest = len(key.versions)
        return 200, self._told({
            "name": name,
            "type": "aes256-gcm96",
            "latest_version": newest,
            "min_decryption_version": key.oldest,
            "keys": {str(number): 0 for number in range(key.oldest, newest + 1)},
        })
