"""Keys that are sealed: only a Vault opens them, and until it does nothing is sold and nobody who has paid loses
anything. And keys that are changed, without losing a voucher.
"""

import contextlib
import json
import os
import random
import shutil
import threading
import time

import hvac
import pytest

from lab import http_client
from lab.daemon import ADMIN_PORT, Mint
from lab.guest import ROUTER4
from lab.internet import AWAY, MINT4
from lab.place import HOST, wait_for
from lab.purse import Customers, code_of
from lab.vault import Vault

PORTAL = f"http://{ROUTER4}:2121"
MARK = b"tollgated sealed 1\n"
TICKET = "7b0f2f0e-6a52-4a0e-9c3b-0c6f0a3b9a01"
BATCH = json.dumps({"venueId": "guest", "funding": "none", "tickets": [{"id": TICKET, "amount": 1}]}).encode()


@pytest.fixture
def vault(lab):
    with Vault(lab.internet, MINT4) as made:
        yield made


class SealedShop:
    """A daemon whose keys a Vault keeps."""

    def __init__(self, lab, vault, daemon) -> None:
        self.lab, self.vault, self.daemon = lab, vault, daemon

    def file(self, name: str) -> bytes:
        with open(os.path.join(self.daemon.state_dir, name), "rb") as file:
            return file.read()

    def create(self, number: int = 1, *order) -> list[dict]:
        return self.daemon.data("voucher", "create", str(number), *(order or ("--time", "1h")))["vouchers"]

    def redeem(self, code: str, guest=None):
        return (guest or self.lab.guest).post(f"{PORTAL}/voucher", {"code": code}, timeout=20)

    def admin(self, method: str, path: str, sent: bytes | None = None, **headers):
        with open(os.path.join(self.daemon.state_dir, "admin.token")) as file:
            token = file.read().strip()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        socket = self.lab.router.connect("127.0.0.1", ADMIN_PORT)
        socket.settimeout(20)
        return http_client.exchange(
            socket, method, path, "127.0.0.1", {"Authorization": f"Bearer {token}", **headers}, sent
        )

    def is_sealed(self) -> bool:
        return self.daemon.data("keys", "list")["sealed"]

    def restart_without_vault(self) -> None:
        self.daemon.kill()
        self.vault.close()
        self.daemon.start()

    def wait_open(self) -> None:
        wait_for(lambda: not self.is_sealed(), 40, "the keys are open")


@pytest.fixture
def make_sealed(lab, vault, make_daemon):
    def make(mint=AWAY, **options) -> SealedShop:
        daemon = make_daemon(mint, sections={"keys": vault.section(lab)}, **options)
        return SealedShop(lab, vault, daemon)

    return make


@pytest.fixture
def shop(make_sealed):
    return make_sealed()


def error(answer) -> tuple[int, str]:
    return answer.status, answer.json()["error"]["code"]


def test_the_stand_in_speaks_as_a_vault_does():
    with Vault(HOST, "127.0.0.1") as vault:
        client = hvac.Client(url=vault.url)
        assert client.sys.is_initialized() and not client.sys.is_sealed()
        with pytest.raises(hvac.exceptions.InvalidRequest):
            client.auth.approle.login(role_id=vault.role_id, secret_id="wrong")
        said = client.auth.approle.login(role_id=vault.role_id, secret_id=vault.secret_id)
        assert said["auth"]["lease_duration"] == 600 and client.is_authenticated()
        transit = client.secrets.transit
        made = transit.generate_data_key(name="router", key_type="plaintext", bits=256)["data"]
        assert made["ciphertext"].startswith("vault:v1:")
        assert transit.decrypt_data("router", made["ciphertext"])["data"]["plaintext"] == made["plaintext"]
        for refused in (
            lambda: transit.encrypt_data("router", "aGFsbG8="),
            lambda: transit.rotate_key("router"),
            lambda: transit.decrypt_data("other", made["ciphertext"]),
            lambda: client.secrets.kv.v1.read_secret("x"),
        ):
            with pytest.raises(hvac.exceptions.Forbidden):
                refused()
        with pytest.raises(hvac.exceptions.InvalidRequest):
            transit.decrypt_data("router", made["ciphertext"][:-4] + "AAA=")
        root = hvac.Client(url=vault.url, token=vault.root)
        root.secrets.transit.rotate_key("router")
        again = transit.rewrap_data("router", made["ciphertext"])["data"]["ciphertext"]
        assert again.startswith("vault:v2:")
        root.secrets.transit.update_key_configuration("router", min_decryption_version=2)
        with pytest.raises(hvac.exceptions.InvalidRequest):
            transit.decrypt_data("router", made["ciphertext"])
        assert transit.decrypt_data("router", again)["data"]["plaintext"] == made["plaintext"]
        assert root.secrets.transit.read_key("router")["data"]["latest_version"] == 2
        sealed = root.secrets.transit.encrypt_data("router", "aGFsbG8=")["data"]["ciphertext"]
        assert transit.decrypt_data("router", sealed)["data"]["plaintext"] == "aGFsbG8="
        with pytest.raises(hvac.exceptions.InvalidPath):
            root.secrets.kv.v1.read_secret("x")
        client.auth.token.renew_self()
        token = client.token
        client.auth.token.revoke_self()
        with pytest.raises(hvac.exceptions.Forbidden):
            hvac.Client(url=vault.url, token=token).secrets.transit.decrypt_data("router", again)
        client.auth.approle.login(role_id=vault.role_id, secret_id=vault.secret_id)
        vault.tokens = dict.fromkeys(vault.tokens, time.time() - 1)
        with pytest.raises(hvac.exceptions.Forbidden):
            transit.decrypt_data("router", again)
        vault.sealed = True
        assert client.sys.is_sealed()
        with pytest.raises(hvac.exceptions.VaultDown):
            client.auth.approle.login(role_id=vault.role_id, secret_id=vault.secret_id)


def test_what_only_the_vault_opens_is_nowhere_on_the_router(lab, vault, shop):
    assert shop.daemon.data("keys", "list")["provider"] == "vault" and not shop.is_sealed()
    first, second = shop.create(2)
    assert shop.file("vouchers.key").startswith(MARK)
    wrapped = shop.file("sealing.key").decode().split()
    assert len(wrapped) == 1 and wrapped[0].startswith("vault:v1:")
    data_key = vault.keys["router"].unwrap(wrapped[0])
    for name in os.listdir(shop.daemon.state_dir):
        assert data_key not in shop.file(name), name
    assert vault.tokens == {}, "whoever signs in signs out"
    assert vault.secret_id not in shop.daemon.log() and "hvs." not in shop.daemon.log()
    shop.daemon.kill()
    shop.daemon.start()
    assert shop.redeem(first["code"]).status == 200
    # The router is stolen: the role is revoked, and the copy redeems nothing, however it is configured.
    vault.secret_id = "another"
    shop.daemon.kill()
    shop.daemon.start()
    assert error(shop.redeem(second["code"])) == (503, "SEALED")
    del shop.daemon.sections["keys"]
    shop.daemon.write_config()
    shop.daemon.kill()
    shop.daemon.start()
    assert error(shop.redeem(second["code"])) == (503, "SEALED")
    assert "set provider to 'vault'" in shop.daemon.data("keys", "list")["trouble"]


def test_while_it_is_sealed_nothing_is_sold_and_who_has_paid_goes_on(lab, vault, shop):
    first, second, third = shop.create(3)
    assert shop.redeem(first["code"]).status == 200
    (paid,) = shop.daemon.paid_macs()
    shop.restart_without_vault()
    assert shop.daemon.paid_macs() == {paid} and shop.daemon.data("sessions")
    told = shop.daemon.data("keys", "list")
    assert told["sealed"] and told["trouble"] and all(key["class"] != "voucher" for key in told["keys"])
    assert error(shop.redeem(second["code"])) == (503, "SEALED")
    made = shop.daemon.command("voucher", "create", "--time", "1h", "--json", check=False)
    assert made.code == 1 and '"SEALED"' in made.out
    answer = shop.admin("POST", "/admin/batch-mint", BATCH, Idempotency_Key="batch-of-monday-1")
    assert error(answer) == (503, "SEALED") and int(answer.headers["retry-after"]) > 0
    made = shop.admin("POST", "/admin/vouchers", b'{"time":"1h"}')
    assert error(made) == (503, "SEALED")
    ready = shop.admin("GET", "/health/ready")
    assert ready.status == 503 and "SEALED" in ready.json()["error"]
    assert shop.admin("GET", "/health/startup").json() == {"status": "starting", "step": "unseal"}
    assert shop.admin("GET", "/health/live").status == 200
    checks = shop.admin("GET", "/health/full")
    assert checks.status == 503 and checks.json()["checks"]["kms"]["status"] == "fail"
    kms = shop.admin("GET", "/admin/system/status").json()["kms"]
    assert (kms["provider"], kms["sealed"]) == ("vault", True)
    for command in (("keys", "rotate", "voucher"), ("keys", "rotate", "venue"), ("keys", "rotate", "data")):
        refused = shop.daemon.command(*command, "--json", check=False)
        assert refused.code == 1 and '"SEALED"' in refused.out, command
    vault.open()
    wait_for(lambda: shop.admin("GET", "/health/ready").status == 200, 40, "it is ready by itself")
    assert shop.admin("POST", "/admin/batch-mint", BATCH, Idempotency_Key="batch-of-monday-1").status == 200
    assert shop.redeem(second["code"]).status == 200
    kms = shop.admin("GET", "/admin/system/status").json()["kms"]
    assert (kms["sealed"], kms["keyVersions"]["voucher"], kms["keyVersions"]["data"]) == (False, 1, 1)
    # Once it is open, the Vault may go.
    vault.close()
    assert shop.daemon.command("reload").code == 0
    assert shop.redeem(third["code"]).status == 200 and shop.create()
    assert shop.admin("GET", "/health/ready").status == 200


def test_a_vault_that_is_sealed_hangs_or_lies_seals_nothing_away(lab, vault, make_sealed):
    vault.sealed = True
    shop = make_sealed()
    assert shop.is_sealed() and "503" in shop.daemon.data("keys", "list")["trouble"]
    assert not os.path.exists(os.path.join(shop.daemon.state_dir, "sealing.key"))
    vault.sealed, vault.lying = False, True
    wait_for(lambda: "not what it should be" in shop.daemon.data("keys", "list")["trouble"], 40, "a lie is seen")
    assert not os.path.exists(os.path.join(shop.daemon.state_dir, "sealing.key"))
    vault.lying = False
    shop.wait_open()
    (one,) = shop.create()
    shop.daemon.kill()
    vault.hung = True
    shop.daemon.start()
    assert error(shop.redeem(one["code"])) == (503, "SEALED")
    vault.hung = False
    shop.wait_open()
    assert shop.redeem(one["code"]).status == 200
    # What a Vault has wrapped is never made anew beside files that are sealed with it.
    shop.daemon.kill()
    os.rename(os.path.join(shop.daemon.state_dir, "sealing.key"), lab.path("kept.key"))
    shop.daemon.start()
    assert "sealing.key is missing" in shop.daemon.data("keys", "list")["trouble"]
    assert not os.path.exists(os.path.join(shop.daemon.state_dir, "sealing.key"))


def test_files_are_sealed_by_a_reload_and_unsealed_by_another(lab, vault, make_daemon):
    shop = SealedShop(lab, vault, make_daemon(AWAY))
    first, second, third = shop.create(3)
    plain = shop.file("vouchers.key")
    assert not plain.startswith(MARK) and len(plain) == 64
    shop.daemon.sections["keys"] = vault.section(lab)
    shop.daemon.write_config()
    shop.daemon.command("reload")
    wait_for(lambda: shop.file("vouchers.key").startswith(MARK), 20, "it is sealed")
    shop.wait_open()
    assert plain[:32] not in shop.file("vouchers.key") and shop.redeem(first["code"]).status == 200
    shop.daemon.kill()
    shop.daemon.start()
    assert shop.redeem(second["code"]).status == 200
    del shop.daemon.sections["keys"]
    shop.daemon.write_config()
    shop.daemon.command("reload")
    wait_for(lambda: shop.file("vouchers.key") == plain, 20, "it is as it was")
    vault.close()
    shop.daemon.kill()
    shop.daemon.start()
    assert shop.redeem(third["code"]).status == 200


def test_a_stolen_database_redeems_nothing(lab, make_daemon):
    shop = SealedShop(lab, None, make_daemon(AWAY))
    (one,) = shop.create()
    shop.daemon.stop()
    thief = SealedShop(lab, None, make_daemon(AWAY, start=False))
    for name in ("store.db", "store.db-wal", "store.made"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(os.path.join(shop.daemon.state_dir, name), thief.daemon.state_dir)
    # What the store needs to be opened at all.
    for name in os.listdir(shop.daemon.state_dir):
        if name.endswith(".key") and name not in ("vouchers.key", "backing.key"):
            shutil.copy(os.path.join(shop.daemon.state_dir, name), thief.daemon.state_dir)
    for forged in (None, os.urandom(64)):
        if forged:
            with open(os.path.join(thief.daemon.state_dir, "vouchers.key"), "wb") as file:
                file.write(forged)
        thief.daemon.start()
        assert error(thief.redeem(one["code"])) == (503, "KEY_MISSING")
        assert not thief.daemon.paid_macs()
        refused = thief.daemon.command("voucher", "create", "--time", "1h", "--json", check=False)
        assert refused.code == 1 and '"KEY_MISSING"' in refused.out
        thief.daemon.kill()
    held = thief.file("store.db")
    assert one["code"].replace("-", "").encode() not in held
    shop.daemon.start()
    assert shop.redeem(one["code"]).status == 200


def voucher_keys(shop) -> list[int]:
    return [key["version"] for key in shop.daemon.data("keys", "list")["keys"] if key["class"] == "voucher"]


def test_a_changed_key_of_codes_finds_and_shows_the_old_ones(lab, make_daemon):
    shop = SealedShop(lab, None, make_daemon(AWAY))
    key = "batch-of-tuesday-1"
    first_answer = shop.admin("POST", "/admin/batch-mint", BATCH, Idempotency_Key=key)
    old = shop.daemon.data("voucher", "create", "2", "--time", "1h")
    before = shop.file("vouchers.key")
    rotated = shop.daemon.data("keys", "rotate", "voucher")
    assert (rotated["rotated"], rotated["version"]) == (1, 2) and voucher_keys(shop) == [2, 1]
    assert shop.file("vouchers.key") != before and before in shop.file("vouchers.key")
    new = shop.daemon.data("voucher", "create", "1", "--time", "1h")
    for _ in range(2):
        assert shop.admin("POST", "/admin/batch-mint", BATCH, Idempotency_Key=key).body == first_answer.body
        page = shop.daemon.data("voucher", "sheet", old["batch"])["page"]
        assert all(one["code"] in page for one in old["vouchers"])
        assert shop.daemon.data("keys", "rotate", "voucher")["rotated"] == 1
        shop.daemon.kill()
        shop.daemon.start()
    assert voucher_keys(shop) == [4, 3, 2, 1]
    code = first_answer.json()["successful"][0]["code"]
    for one in (old["vouchers"][0]["code"], new["vouchers"][0]["code"], code):
        assert shop.redeem(one).status == 200, one
        assert shop.redeem(one).status == 410, one
    # A full file drops what nothing needs, and never what a voucher does.
    for _ in range(50):
        shop.daemon.data("keys", "rotate", "voucher")
    numbers = voucher_keys(shop)
    assert numbers[0] == 54 and 1 in numbers and len(numbers) <= 48, numbers
    assert shop.redeem(old["vouchers"][1]["code"]).status == 200


@pytest.mark.parametrize("kind", ["voucher", "data"])
def test_a_rotation_that_is_killed_loses_nothing(lab, vault, shop, kind):
    codes = [one["code"] for one in shop.create(8)]
    for number, code in enumerate(codes[:]):
        rotating = threading.Thread(target=lambda: shop.daemon.command("keys", "rotate", kind, check=False))
        rotating.start()
        time.sleep(random.uniform(0.0, 0.12) if number else 0.02)
        shop.daemon.kill()
        rotating.join()
        shop.daemon.start()
        shop.wait_open()
        codes.extend(one["code"] for one in shop.create())
        assert shop.redeem(code).status == 200, (number, code)
    assert all(shop.redeem(code).status == 200 for code in codes[8:])


def test_the_data_key_is_wrapped_anew_and_changed(lab, vault, shop):
    first, second, third = shop.create(3)
    assert vault.keys["router"].versions
    vault.keys["router"].versions.append(type(vault.keys["router"])().versions[0])
    sealed = shop.file("vouchers.key")
    assert shop.daemon.data("keys", "rewrap") == {"rewrapped": True, "version": 2}
    assert shop.file("sealing.key").startswith(b"vault:v2:") and shop.file("vouchers.key") == sealed
    vault.keys["router"].oldest = 2
    shop.daemon.kill()
    shop.daemon.start()
    assert shop.redeem(first["code"]).status == 200
    assert shop.daemon.data("keys", "rotate", "data")["version"] == 2
    assert shop.file("vouchers.key") != sealed and len(shop.file("sealing.key").split()) == 1
    assert shop.redeem(second["code"]).status == 200
    shop.daemon.kill()
    shop.daemon.start()
    assert shop.redeem(third["code"]).status == 200
    vault.close()
    refused = shop.daemon.command("keys", "rewrap", "--json", check=False)
    assert refused.code == 1 and '"vault_unavailable"' in refused.out


def test_every_listed_class_can_be_changed(lab, vault, make_sealed):
    shop = make_sealed()
    shop.create()
    classes = {key["class"] for key in shop.daemon.data("keys", "list")["keys"]}
    assert classes == {"voucher", "data"}
    for kind in classes:
        assert shop.daemon.data("keys", "rotate", kind)["rotated"] == 1
    # Where no ecash was locked there is nothing to change.
    assert shop.daemon.data("keys", "rotate", "refund")["rotated"] == 0
    assert shop.daemon.command("keys", "rotate", "nonsense", check=False).code == 2


def test_files_of_the_router_need_no_vault(lab, make_daemon):
    shop = SealedShop(lab, None, make_daemon(AWAY))
    told = shop.daemon.data("keys", "list")
    assert (told["provider"], told["sealed"]) == ("file", False)
    for command in (("rewrap",), ("rotate", "data")):
        refused = shop.daemon.command("keys", *command, "--json", check=False)
        assert refused.code == 1 and '"no_vault"' in refused.out


def test_ecash_that_is_locked_to_a_sealed_key_waits(lab, mint, vault, make_sealed):
    shop = make_sealed(Mint(mint.url))
    customers = Customers(lab, mint, shop.daemon, 60_000)
    assert shop.daemon.data("wallet", "receive", customers.token(200))
    made = shop.create(3, "--sat", "21", "--funding", "treasury")
    assert shop.file("backing.key").startswith(MARK)

    def takings() -> int:
        return sum(row["balance"] for row in shop.daemon.data("wallet", "balance")["mints"])

    # One is redeemed as its code, and the daemon dies before its ecash is put back.
    assert shop.redeem(made[0]["code"]).status == 200
    shop.restart_without_vault()
    held = takings()
    notice = customers.post(lab.guest, made[1]["token"])
    assert code_of(notice) == "service-unavailable" or notice.status == 503, notice.text
    assert takings() == held
    vault.open()
    shop.wait_open()
    wait_for(lambda: takings() == 200 - 2 * 21, 60, "the first one is back in the takings")
    paid = customers.post(lab.guest, made[1]["token"])
    assert paid.status == 200, paid.text
    wait_for(lambda: takings() == 200 - 21, 60, "and the second")
    assert shop.redeem(made[2]["code"]).status == 200
    wait_for(lambda: takings() == 200, 60, "and all")
