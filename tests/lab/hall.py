"""A second guest network of the router, `br-hall`, and guests who walk over to it and back.

	with Hall(lab) as hall:
		hall.enter(guest)
		guest.get(f"{hall.portal}/usage")
		hall.leave(guest)
"""

from .firewall import MARK
from .guest import Guest
from .namespaces import BRIDGE, Lab
from .place import wait_for

DEVICE = "br-hall"
HALL4, HALL6 = "192.168.78.1", "fd78::1"
PORTAL = f"http://{HALL4}:2121"
MINT_PROXY = f"ws://{HALL4}:2121/mint-proxy"


class Hall:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.visitors: list[Guest] = []
        lab.router.ip(
            f"link add {DEVICE} address 02:00:00:00:00:fd type bridge forward_delay 0\nlink set {DEVICE} up\n"
            f"addr add {HALL4}/24 dev {DEVICE}\naddr add {HALL6}/64 dev {DEVICE} nodad\n"
        )
        lab.router.nft(
            f'insert rule inet fw4 input iifname "{DEVICE}" udp dport {{ 53, 67, 123, 547 }} accept\n'
            f'insert rule inet fw4 input iifname "{DEVICE}" tcp dport {{ 53, 2121, 2122, 2123 }} accept\n'
            f'insert rule inet fw4 forward iifname "{DEVICE}" oifname "wan" meta mark & {MARK:#x} == {MARK:#x} '
            'accept\n'
        )

    def __enter__(self) -> "Hall":
        return self

    def __exit__(self, *_) -> None:
        for guest in list(self.visitors):
            self.leave(guest)
        self.lab.router.ip(f"link del {DEVICE}\n")

    def enter(self, guest: Guest) -> Guest:
        """With the same MAC, and an address of this network."""
        self.lab.router.ip(f"link set {guest.name} master {DEVICE}\n")
        host = guest.ip.rsplit(".", 1)[1]
        guest.ip_script(
            "addr flush dev eth0",
            f"addr add 192.168.78.{host}/24 dev eth0",
            f"addr add fd78::{host}/64 dev eth0 nodad",
            f"route replace default via {HALL4}",
            f"route replace default via {HALL6}",
        )
        wait_for(guest._is_bridged, 5, "the hall's bridge passes its packets")
        self.visitors.append(guest)
        return guest

    def leave(self, guest: Guest) -> Guest:
        """Back to the first network, under the address it had there."""
        self.lab.router.ip(f"link set {guest.name} master {BRIDGE}\n")
        guest.configure(relink=False)
        wait_for(guest._is_bridged, 5, "the bridge passes its packets")
        self.visitors.remove(guest)
        return guest
