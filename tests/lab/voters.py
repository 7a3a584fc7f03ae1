"""Operators who sign in with their wallets, and vote.

	sections = voters(["cashier", "manager"])
	Office(lab, daemon) ... signed_in(office, 1).ask("POST", "/admin/approvals/...")
"""

import copy
import re

from .daemon import ADMIN_PORT
from .login import DOMAIN, LoginBrowser, LoginWallet
from .office import Office


def wallet(number: int) -> LoginWallet:
    return LoginWallet(400 + number)


def voters(roles: list[str]) -> dict[str, dict]:
    """The sections of operators `w0`, `w1`, ..., and of the login that they need."""
    named = {
        f"operator w{number}": {"name": f"w{number}", "pubkey": wallet(number).key, "role": role}
        for number, role in enumerate(roles)
    }
    return {"auth": {"domain": DOMAIN, "url": f"https://{DOMAIN}"}, **named}


def signed_in(office: Office, number: int) -> Office:
    """The same interface, asked by an operator who has signed in just now."""
    browser = LoginBrowser(office.lab.router, ADMIN_PORT)
    k1 = browser.ask("?aud=admin&action=login")["k1"]
    answer = wallet(number).answer_through_tunnel(office.lab.router, k1).json()
    code = re.fullmatch(r"Code (\d\d)", answer["message"]).group(1)
    assert browser.confirm(k1, code).status == 200
    other = copy.copy(office)
    other.token = browser.status(k1)["jwt"]
    return other
