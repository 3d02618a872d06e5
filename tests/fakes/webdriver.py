"""A real browser, headless: Debian's Chromium by its chromedriver, which speaks WebDriver (W3C) over plain HTTP.

As a program it is a ``$BROWSER``: ``python webdriver.py URL`` opens the page, ticks the box, presses the button,
and writes what the window shows at the end to the file that ``SYNCER_TEST_SEEN`` names, with a picture beside it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which WebDriver hands out elements."""
PATIENCE_SECONDS = 60.0


def find_driver() -> str | None:
    """Return the path of chromedriver, if it is installed."""
    return shutil.which("chromedriver")


class Window:
    """One window."""

    def __init__(self, driver: str, session: str) -> None:
        self._url = f"{driver}/session/{session}"

    def open(self, url: str) -> None:
        _request("POST", f"{self._url}/url", {"url": url})

    def click(self, selector: str) -> None:
        found = _request("POST", f"{self._url}/element", {"using": "css selector", "value": selector})
        _request("POST", f"{self._url}/element/{found[ELEMENT]}/click", {})

    @property
    def title(self) -> str:
        return str(_request("GET", f"{self._url}/title"))

    def wait_for_title(self, *titles: str) -> None:
        """Wait until the window is at one of these pages. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.title not in titles:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the window is at {self.title!r}")
            time.sleep(0.1)

    def run(self, script: str) -> Any:
        return _request("POST", f"{self._url}/execute/sync", {"script": script, "args": []})

    def picture(self) -> bytes:
        return base64.b64decode(_request("GET", f"{self._url}/screenshot"))


@contextmanager
def window() -> Iterator[Window]:
    """Start the driver and a headless browser with a profile of its own."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder:
        # It says on which port it listens, in one of its first lines.
        driver = subprocess.Popen([str(find_driver()), "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            assert driver.stdout is not None
            port = next(
                line.rsplit("port ", 1)[1].strip(" .\n") for line in driver.stdout if "successfully on port " in line
            )
            base = f"http://127.0.0.1:{port}"
            arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
            arguments += ["--window-size=900,600", f"--user-data-dir={folder}", "--no-proxy-server"]
            wanted = {"acceptInsecureCerts": True, "goog:chromeOptions": {"args": arguments}}
            session = _request("POST", f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            try:
                yield Window(base, session)
            finally:
                _request("DELETE", f"{base}/session/{session}")
        finally:
            driver.terminate()
            driver.wait(20)


def _request(method: str, url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        return json.loads(answer.read())["value"]


def main(url: str) -> None:
    """Consent, and see what comes of it."""
    seen = Path(os.environ["SYNCER_TEST_SEEN"])
    with window() as browser:
        browser.open(url)
        if "google" in url:
            browser.click("#mail")
        browser.click("#allow")
        browser.wait_for_title("You are signed in", "Signing in did not work", "Signed in, with one thing to do")
        seen.with_suffix(".png").write_bytes(browser.picture())
        seen.write_text(str(browser.run("return document.body.innerText")), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
