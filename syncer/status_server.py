"""A small web server that can be left alone: bounded in visitors and in their time, and it changes nothing.

What it answers is for ``status_page`` to say; here is what any visitor meets, and what none can do.

Promises:

* Visitors that send nothing, or a byte at a time, or come in crowds, cost a few threads for a few seconds.
* GET and HEAD are all it takes; every answer forbids browsers to keep it, frame it or load anything with it.
* No name is a secret, but names of the open Internet are refused: a page elsewhere could let its own name
  point at this machine and read along in the owner's browser (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from syncer.clocks import elapsed
from syncer.logging_utils import log_bug

MAX_VISITORS: Final = 8
SILENCE_SECONDS: Final = 5.0
"""A visitor may be silent for so long."""
VISIT_SECONDS: Final = 15.0
"""A visit ends after this, however busily a visitor sends a byte at a time."""
_LOCAL_SUFFIXES: Final = (".local", ".lan", ".home", ".internal", ".localdomain", ".home.arpa", ".localhost")
"""Names that nobody can register (RFC 6762, RFC 8375, RFC 6761, ICANN's list of reserved ones) or that routers give."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a visitor gets."""

    status: HTTPStatus
    content_type: str
    text: str

    @classmethod
    def plain(cls, status: HTTPStatus, text: str) -> Answer:
        """Return one line of text."""
        return cls(status, "text/plain; charset=utf-8", f"{text}\n")


class Server(ThreadingHTTPServer):
    """Asks ``answer`` for the path of every request that comes to a name of ours; see the module's promises."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, host: str, port: int, answer: Callable[[str], Answer], *, content_policy: str) -> None:
        """Listen. ``content_policy`` is the Content-Security-Policy of all answers. Raises OSError: not to be had."""
        self.content_policy = content_policy
        self._bound = host
        self._answer = answer
        self._visits: dict[Any, float] = {}
        self._visits_lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, and ask no name server who we are, which HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def answer(self, path: str, host: str | None) -> Answer:
        """Return the answer to one request, for which ``host`` is the name that was called."""
        if is_ours(host, self._bound):
            return self._answer(path.partition("?")[0])
        text = "open this page by the machine's address or its name in your own network"
        return Answer.plain(HTTPStatus.MISDIRECTED_REQUEST, text)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a visit, unless there are too many."""
        with self._visits_lock:
            is_full = len(self._visits) >= MAX_VISITORS
            if not is_full:
                self._visits[request] = elapsed()
        if is_full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a visit."""
        with self._visits_lock:
            self._visits.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End visits that take too long; called several times a second."""
        self.end_visits(VISIT_SECONDS)

    def end_visits(self, older_than: float = 0.0) -> None:
        """Cut off those that began so long ago, all by default; their own threads close them."""
        limit = elapsed() - older_than
        with self._visits_lock:
            for request, began_at in self._visits.items():
                if began_at <= limit:
                    _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature is socketserver's
        """Keep quiet about visitors that go away, and log what is ours."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            log_bug(error)


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One visit: one request, one answer."""

    server: Server
    timeout = SILENCE_SECONDS
    server_version = "syncer"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer."""
        self._say(self.server.answer(self.path, self.headers.get("Host")))

    def do_HEAD(self) -> None:
        """Answer without the text."""
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer a request that is none of ours, without its words."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:  # a method that is not GET or HEAD
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self.request_version = self.protocol_version  # what could not be read is not HTTP/0.9: it gets a status line
        self._say(Answer.plain(status, status.phrase))

    def _say(self, answer: Answer) -> None:
        body = answer.text.encode()
        self.send_response_only(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", self.server.content_policy)
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_words: object) -> None:
        """Keep no log of visits."""


def is_ours(host: str | None, bound: str) -> bool:
    """Tell whether a Host field names this machine as its own network does: by address, or by a name of no registry."""
    if host is None:  # HTTP/1.0, which no browser speaks
        return True
    name = host.strip().lower()
    name = (name[1:].partition("]") if name.startswith("[") else name.partition(":"))[0].rstrip(".")
    if not {".", ":"} & set(name) or name == bound.lower() or name.endswith(_LOCAL_SUFFIXES):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
