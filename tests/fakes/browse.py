"""A person at the provider's page: a program for ``$BROWSER`` that opens it and presses a button.

``python browse.py allow URL`` ticks the box and continues; ``untick`` continues without, ``deny`` cancels. What it
arrives at is written to the file that ``SYNCER_TEST_SEEN`` names. Not a browser: it reads forms by their names.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import sys
import urllib.parse
from html import unescape
from pathlib import Path


def fetch(url: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Return status, Location and body."""
    parts = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    connection: http.client.HTTPConnection = (
        http.client.HTTPSConnection(parts.netloc, context=context, timeout=60)
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.netloc, timeout=60)
    )
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if form is None:
        connection.request("GET", path)
    else:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, urllib.parse.urlencode(form), headers)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("Location", ""), answer.read().decode()


def main(choice: str, url: str) -> None:
    """Walk from the page to where it leads."""
    _, _, page = fetch(url)
    action = re.search(r'action="([^"]+)"', page)
    if action:
        form = {unescape(k): unescape(v) for k, v in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page)}
        form["choice"] = "deny" if choice == "deny" else "allow"
        if choice == "allow":
            form["mail"] = "yes"
        if "google" not in url:
            form = {name: form[name] for name in ("code", "state")}
        _, there, page = fetch(urllib.parse.urljoin(url, unescape(action[1])), form)
        if there:
            _, _, page = fetch(there)
    Path(os.environ["SYNCER_TEST_SEEN"]).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
