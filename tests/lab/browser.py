"""Chromium on a guest's phone: inside the guest's namespaces, driven by playwright from the test.

	with Browser(lab.guest) as browser:
		page = browser.phone()                       # 360 x 740, light
		page.goto("http://192.168.77.1:2121/")
		page.screenshot(path="...")
		browser.problems(page), browser.requests(page), audit(page), browser.read_qr(page.locator("#qr"))
"""

import base64
import os
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass, field

import zxingcpp
from playwright.sync_api import BrowserContext, Error, Locator, Page, Response, expect, sync_playwright

from .guest import Guest

# What a phone's mini-browser would not do anyway: talk to its maker behind our back.
QUIET = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-features=OptimizationHints,MediaRouter,AutofillServerCommunication",
]

PATIENCE = 60_000
"""Milliseconds, for everything that is waited for: the machine may be busy."""
expect.set_options(timeout=PATIENCE)

NO_SOCKETS = "window.WebSocket = function () { throw new Error('sockets are not allowed here'); };"

# Chromium reports each answer of 400 and above, also where it is the page that is meant to be seen, and what was under
# way when the lab gave its phone another address.
EXPECTED = re.compile("the server responded with a status of|ERR_NETWORK_CHANGED|ERR_INTERNET_DISCONNECTED")

INTERRUPTED = re.compile("ERR_NETWORK_CHANGED|ERR_ABORTED|interrupted by another navigation")

GREY = """async (png) => {
	const image = new Image();
	image.src = 'data:image/png;base64,' + png;
	await image.decode();
	const canvas = document.createElement('canvas');
	[canvas.width, canvas.height] = [image.width, image.height];
	const context = canvas.getContext('2d');
	context.drawImage(image, 0, 0);
	const pixels = context.getImageData(0, 0, image.width, image.height).data;
	let grey = '';
	for (let at = 1; at < pixels.length; at += 4) grey += String.fromCharCode(pixels[at]);
	return [image.width, image.height, btoa(grey)];
}"""


@dataclass
class Record:
    problems: list[str] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)


class Browser:
    """`flags` are Chromium's own, beside those of every test."""

    def __init__(self, guest: Guest, flags: list[str] | None = None) -> None:
        self.dir = tempfile.mkdtemp(prefix="tollgated-browser-")
        self.records: dict[BrowserContext, Record] = {}
        executable = self._launcher(guest)
        self.playwright = sync_playwright().start()
        try:
            self.chromium = self.playwright.chromium.launch(
                executable_path=executable,
                headless=True,
                args=["--no-sandbox", *QUIET, *(flags or [])],
                env={**os.environ, "HOME": self.dir},
                timeout=3 * PATIENCE,
            )
        except BaseException:
            self.playwright.stop()
            raise

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def phone(
        self, *, dark: bool = False, script: bool = True, sockets: bool = True, language: str = "en-US",
        width: int = 360, height: int = 740, motion: bool = False, scale: float = 2,
    ) -> Page:
        """A new page with nothing remembered from others. `page.context.new_page()` is a second tab of the same
        phone.
        """
        context = self.chromium.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            is_mobile=True,
            has_touch=True,
            locale=language,
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            reduced_motion="no-preference" if motion else "reduce",
        )
        context.set_default_timeout(PATIENCE)
        if not sockets:
            context.add_init_script(NO_SOCKETS)
        record = self.records[context] = Record()
        context.on(
            "console",
            lambda message: (
                message.type == "error" and not EXPECTED.search(message.text) and record.problems.append(message.text)
            ),
        )
        context.on("weberror", lambda error: record.problems.append(str(error.error)))
        context.on("response", lambda response: record.responses.append(response))
        page = context.new_page()
        page.goto = patient(page.goto)
        return page

    def problems(self, page: Page) -> list[str]:
        """What the phone's console complains of so far, uncaught errors included."""
        return self.records[page.context].problems

    def requests(self, page: Page) -> list[str]:
        """The URLs that this phone has got an answer from so far."""
        return [response.url for response in self.records[page.context].responses]

    def received(self, page: Page) -> int:
        """Bytes of all bodies so far."""
        return sum(len(response.body()) for response in self.records[page.context].responses if response.status == 200)

    def read_qr(self, shown: Locator) -> list[str]:
        """What a camera reads in the pixels of this element."""
        png = base64.b64encode(shown.screenshot()).decode()
        blank = self.chromium.new_page()
        width, height, grey = blank.evaluate(GREY, png)
        blank.close()
        image = memoryview(base64.b64decode(grey)).cast("B", (height, width))
        # In the dots of a large code a reader of all kinds may find a bar code as well.
        return [code.text for code in zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormat.QRCode)]

    def sheet(self, pictures: list[str], path: str, *, columns: int = 9, width: int = 120) -> None:
        """Pictures (files) side by side in one small file."""
        page = self.chromium.new_page(viewport={"width": columns * (width + 8) + 8, "height": 100})
        images = (base64.b64encode(open(picture, "rb").read()).decode() for picture in pictures)
        page.set_content('<body style="margin:4px;background:#888;display:flex;flex-wrap:wrap">' + "".join(
            f'<img style="width:{width}px;margin:4px" src="data:image/png;base64,{image}">' for image in images))
        page.screenshot(path=path, full_page=True, type="jpeg", quality=60)
        page.close()

    def close(self) -> None:
        try:
            self.chromium.close()
        finally:
            self.playwright.stop()
            shutil.rmtree(self.dir, ignore_errors=True)

    def _launcher(self, guest: Guest) -> str:
        """Enters the guest's namespaces (and the lab's PID namespace, to end with it) and becomes Chromium."""
        chromium = shutil.which("chromium-headless-shell")
        if not chromium:
            raise FileNotFoundError("chromium-headless-shell is not installed")
        enter_user = "" if os.geteuid() == 0 else "-U --preserve-credentials"
        path = os.path.join(self.dir, "chromium")
        with open(path, "w") as file:
            file.write(f'#!/bin/sh\nexec nsenter -t {guest.host_pid} {enter_user} -p -m -n {chromium} "$@"\n')
        os.chmod(path, stat.S_IRWXU)
        return path


def patient(goto):
    """A visit that the phone gives up is begun again: it has noticed late that the lab gave it another address, or its
    page was just about to go somewhere itself."""

    def visit(url: str, **options) -> Response | None:
        for _ in range(5):
            try:
                return goto(url, **options)
            except Error as error:
                if not INTERRUPTED.search(str(error)):
                    raise
        return goto(url, **options)

    return visit


def audit(page: Page) -> list[str]:
    """What keeps somebody from reading or using the page as it is shown now (see `audit.js`); empty: nothing."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "audit.js")) as file:
        script = file.read()
    while True:
        try:
            return page.evaluate(script)
        except Error as error:
            # Without JavaScript a page that waits loads itself anew every few seconds.
            if "Execution context was destroyed" not in str(error):
                raise
