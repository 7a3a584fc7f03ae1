"""Chromium on a guest's phone: inside the guest's namespaces, driven by playwright from the test.

	with Browser(lab.guest) as browser:
		page = browser.phone()                       # 360 x 740, light
		page.goto("http://192.168.77.1:2121/")
		page.screenshot(path="...")
"""

import os
import shutil
import stat
import tempfile

from playwright.sync_api import Page, sync_playwright

from .guest import Guest

# What a phone's mini-browser would not do anyway: talk to its maker behind our back.
QUIET = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync",
         "--disable-domain-reliability", "--disable-features=OptimizationHints,MediaRouter,AutofillServerCommunication"]


class Browser:
    def __init__(self, guest: Guest) -> None:
        self.dir = tempfile.mkdtemp(prefix="tollgated-browser-")
        executable = self._launcher(guest)
        self.playwright = sync_playwright().start()
        try:
            self.chromium = self.playwright.chromium.launch(
                executable_path=executable, headless=True, args=["--no-sandbox", *QUIET], env={**os.environ, "HOME": self.dir},
            )
        except BaseException:
            self.playwright.stop()
            raise

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def phone(self, *, dark: bool = False, script: bool = True, language: str = "en-US", width: int = 360, height: int = 740) -> Page:
        """A new page with nothing remembered from others."""
        context = self.chromium.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=2, is_mobile=True, has_touch=True, locale=language,
            color_scheme="dark" if dark else "light", java_script_enabled=script, reduced_motion="reduce",
        )
        context.set_default_timeout(15000)
        return context.new_page()

    def close(self) -> None:
        try:
            self.chromium.close()
        finally:
            self.playwright.stop()
            shutil.rmtree(self.dir, ignore_errors=True)

    def _launcher(self, guest: Guest) -> str:
        """Enters the guest's namespaces (and the lab's PID namespace, to end with it) and becomes Chromium."""
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if not chromium:
            raise FileNotFoundError("chromium is not installed")
        enter_user = "" if os.geteuid() == 0 else "-U --preserve-credentials"
        path = os.path.join(self.dir, "chromium")
        with open(path, "w") as file:
            file.write(f'#!/bin/sh\nexec nsenter -t {guest.host_pid} {enter_user} -p -m -n {chromium} "$@"\n')
        os.chmod(path, stat.S_IRWXU)
        return path
