"""HTTPS requests to token endpoints, with an end to everything: time, size, redirects.

Owns what can go wrong between here and a token endpoint, and gives it one name, ``BadDay``: no
answer, no TLS, a status that says "later", a page instead of JSON. What is left for the OAuth
libraries on top of it are JSON objects, good or bad. That also keeps them from two habits: google-auth
repeats a failed request, sleeping in between, and msal writes an answer that is no JSON to the log,
with whatever is in it (PROVIDERS 6).

Imported only when a token is refreshed: ``requests`` costs a third of a second on a small Lambda.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import requests

from syncer.errors import ConfigError

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 15.0
"""Longest wait for the next octets of an answer."""
TOTAL_SECONDS: Final = 30.0
"""Longest time for one refresh as a whole: name look-up, connecting, all answers."""
MAX_ANSWER_BYTES: Final = 1 << 20

Result = TypeVar("Result")


class BadDay(Exception):
    """No usable answer, for a reason that may pass; its text holds no part of an answer."""


class Session(requests.Session):
    """A session whose answers are JSON objects with a status of 200 or 4xx, read whole and in time."""

    def request(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Make one request.

        Raises BadDay: everything else that may happen. Raises ConfigError: REQUESTS_CA_BUNDLE is wrong.
        """
        # A redirect would carry the refresh token to a host that nobody named in the settings.
        kwargs.update(timeout=(CONNECT_SECONDS, READ_SECONDS), stream=True, allow_redirects=False)
        try:
            with super().request(method, url, *args, **kwargs) as answer:
                body = _read(answer)
        except requests.RequestException as error:
            raise BadDay(_reason(error)) from None
        except OSError:  # what requests says of a CA bundle that is not there
            raise ConfigError(["REQUESTS_CA_BUNDLE names no readable file of CA certificates"]) from None
        if not (answer.status_code == 200 or 400 <= answer.status_code < 500) or answer.status_code in (408, 429):
            raise BadDay(f"HTTP status {answer.status_code}")
        if not _is_json_object(body):
            raise BadDay(f"HTTP status {answer.status_code} without JSON: is something between here and the internet?")
        whole = requests.Response()
        whole.status_code = answer.status_code
        whole.headers = answer.headers
        whole.encoding = "utf-8"
        whole.url = answer.url
        whole.raw = io.BytesIO(body)
        return whole


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return what ``call`` returns, or raise what it raises.

    Raises BadDay: it took longer than ``seconds``. The call is then left to its fate in a daemon
    thread: time-outs of sockets cannot bound a name look-up, nor a server that sends an octet a second.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="token-refresh", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise BadDay(f"no complete answer within {seconds:g} seconds")
    return results[0]


def _read(answer: requests.Response) -> bytes:
    """Return the whole body. Raises BadDay: it is larger than any answer can be."""
    body = bytearray()
    for chunk in answer.iter_content(8192):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise BadDay(f"an answer of more than {MAX_ANSWER_BYTES} octets")
    return bytes(body)


def _is_json_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _reason(error: Exception) -> str:
    """Return what went wrong, without the URL or anything that came from afar."""
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed: certificate not trusted (REQUESTS_CA_BUNDLE adds a private CA), or connection cut"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy could not be used"
    if isinstance(error, requests.ConnectionError):
        return "could not connect, or the connection was cut"
    return type(error).__name__
