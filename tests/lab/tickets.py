"""A guest's side of session tickets, and time that passes for a guest who is gone."""

from .guest import Guest
from .http_client import Answer
from .place import PATIENCE
from .portal_client import PORTAL

WRONG = "0000-0000-0000-0000-0000-0000-0000"


def show(guest: Guest, ticket: str | None = None, **headers) -> Answer:
    """`POST /ticket`; without one, for a new one."""
    return guest.post(f"{PORTAL}/ticket", {"ticket": ticket} if ticket else {}, headers=headers, timeout=PATIENCE)


def forget_packets(lab) -> None:
    """As if half a minute had passed in which nobody sent anything."""
    for name in ("ul4_at", "ul6_at", "seen4", "seen6"):
        lab.router.run(["nft", "flush", "set", "inet", "tollgate", name], check=False)
    lab.router.ip("neigh flush dev br-guest")


def change_mac(lab, guest: Guest) -> str:
    """Another MAC, some time after the last packet under the old one; answers that."""
    old = guest.mac
    guest.become_stranger()
    forget_packets(lab)
    return old
