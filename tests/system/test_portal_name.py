"""The portal's name: the real dnsmasq resolves it as on OpenWrt, guests open it, `check --system` looks at it."""

import os
import stat

from lab.guest import ROUTER4, ROUTER6
from lab.internet import HOST4
from lab.openwrt.root import CONFIG, SELLING
from lab.place import wait_for

NAME = "wifi.home"
HOSTS = "tmp/hosts/tollgated"
NAMED = SELLING.replace("option network 'guest'", f"option network 'guest'\n\toption portal_name '{NAME}'")


def told(router) -> int:
    return router.read("tmp/procd/dnsmasq.signals").count("HUP")


def of_the_name(router) -> list[str]:
    found = router.run("tollgated", "check", "--system", check=False).out
    return [line for line in found.splitlines() if NAME in line]


def test_guests_find_the_portal_by_its_name_until_it_is_taken_away(lab, router):
    guest, unpaid = lab.guests
    router.start_dnsmasq(lab)
    router.start(NAMED)
    wait_for(lambda: guest.resolve(NAME) == ROUTER4, 10, "dnsmasq has read the name")
    assert guest.resolve(NAME, six=True) == ROUTER6
    assert stat.S_IMODE(os.stat(router.at(HOSTS)).st_mode) == 0o644, "dnsmasq is another user"
    assert not of_the_name(router)

    router.run("tollgated", "grant", guest.mac, "1h")
    wait_for(guest.online, 20, "the granted guest is online")
    for who in (guest, unpaid):
        answer = who.get(f"http://{NAME}/")
        assert answer.status == 302 and answer.headers["location"] == f"http://{ROUTER4}:2121/"
        page = who.get(f"http://{NAME}:2121/", headers={"Accept": "text/html"})
        assert page.status == 200 and "text/html" in page.headers["content-type"]

    before = told(router)
    router.init("reload")
    assert told(router) == before, "nothing has changed"

    os.unlink(router.at(HOSTS))
    router.sh(". /lib/functions/procd.sh; procd_send_signal dnsmasq '*' HUP")
    wait_for(lambda: guest.resolve(NAME) == HOST4, 10, "dnsmasq has forgotten it")
    assert f"the portal's name {NAME} leads to {HOST4}" in of_the_name(router)[0]
    router.init("reload")
    wait_for(lambda: not of_the_name(router), 10, "a reload writes it again")

    router.write(CONFIG, SELLING, 0o600)
    router.init("reload")
    assert not os.path.exists(router.at(HOSTS))
    wait_for(lambda: guest.resolve(NAME) == HOST4, 10, "it is a name like any other again")
