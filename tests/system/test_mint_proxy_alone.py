"""What a guest of the mint proxy gets from daemons of other configurations and from a real mint."""

import contextlib
import os
import sys

from lab.daemon import Mint
from lab.fault_mint import FaultMint
from lab.internet import HOST4
from lab.portal_client import MintProxy
from lab.wallet import Wallet, decode_token


def test_tokens_are_received_by_a_wallet_of_the_mints_own_makers(make_daemon, lab, mint, stranger):
    make_daemon(mint.url)
    with MintProxy(stranger) as proxy:
        ready = proxy.request(mint.url, 21)
        mint.pay(ready["invoice"])
        tokens = proxy.wait("tokens_ready")["tokens"]
    home = lab.path("wallet")
    os.makedirs(home, exist_ok=True)
    cashu = [os.path.join(os.path.dirname(sys.executable), "cashu"), "--host", mint.url, "--yes"]
    env = {"HOME": home, "CASHU_DIR": home, "MINT_URL": mint.url, "TOR": "FALSE", "PYTHONPATH": ""}
    received = lab.internet.run([*cashu, "receive", tokens], env=env, timeout=200)
    assert "Received 21 sat" in received.out
    assert set(Wallet(lab.internet, mint.url).states(tokens)) == {"SPENT"}


def test_host_case_and_trailing_slash_of_a_mint_do_not_matter(lab, make_daemon, stranger):
    lab.start_internet_dns()
    with FaultMint(lab.internet, HOST4) as mint:
        make_daemon(Mint(f"http://mint.example:{mint.port}"))
        with MintProxy(stranger) as proxy:
            first = proxy.request(f"http://mint.example:{mint.port}", 5)
            same = proxy.request(f"HTTP://Mint.EXAMPLE:{mint.port}/", 5)
            assert same == first
            mint.pay(first["invoice"])
            token = decode_token(proxy.wait("tokens_ready")["tokens"])
            assert token.mint == f"http://mint.example:{mint.port}"


def test_idle_sockets_cost_less_than_8_kib_each(lab, make_daemon, fault_mint, stranger):
    """Also in the dev build; `make bench` measures a thousand of the release build's."""
    daemon = make_daemon(fault_mint.url, main={"guest_sockets": 1024, "guest_connections": 1024})
    with contextlib.ExitStack() as open_sockets:
        open_sockets.enter_context(MintProxy(stranger))
        before = daemon.process.memory_kib()["RssAnon"]  # not what of the program itself happens to be in memory
        for _ in range(300):
            open_sockets.enter_context(MintProxy(stranger))
        each = (daemon.process.memory_kib()["RssAnon"] - before) * 1024 // 300
    print(f"{each} bytes for each of 300 idle sockets")
    assert each < 8 * 1024
