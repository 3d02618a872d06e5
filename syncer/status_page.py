"""The status page's server: a few threads beside the daemon that read, and never get in its way.

    /          how things stand, for a person
    /healthz   200 or 503 and the reason, as ``syncer health`` says it
    /metrics   for Prometheus

Promises:

* Nothing is changed by a request, and none costs more than the next: the records are read at most once in
  ``READ_EVERY_SECONDS`` however often the page is loaded, and not at all while nobody looks.
* The daemon goes on, whatever happens here: a port in use, visitors that send nothing, more of them than
  there are threads for.
* No name is a secret, but names of the open Internet are refused: a page elsewhere could let its own name
  point at this machine and read along in the owner's browser (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from syncer import prometheus_text, status_html
from syncer.clocks import elapsed
from syncer.errors import ConfigError, StateUnavailable
from syncer.health import Verdict
from syncer.history import Seen
from syncer.logging_utils import log_bug, log_event
from syncer.status import Status
from syncer.status_html import Known

logger = logging.getLogger(__name__)

READ_EVERY_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 3.0
"""So long a page waits for the records; then it shows the last known, and the next page has the answer."""
MAX_VISITORS: Final = 8
SILENCE_SECONDS: Final = 5.0
"""A visitor may be silent for so long."""
VISIT_SECONDS: Final = 15.0
"""A visit ends after this, however busily a visitor sends a byte at a time."""
_STOP_SECONDS: Final = 0.25
_LOCAL_SUFFIXES: Final = (".local", ".lan", ".home", ".internal", ".localdomain", ".home.arpa", ".localhost")
"""Names that nobody can register (RFC 6762, RFC 8375, RFC 6761, ICANN's list of reserved ones) or that routers give."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": status_html.CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Records:
    """Reads how things stand, seldom, in a thread of its own. From any thread."""

    def __init__(self, read: Callable[[], Status], clock: Callable[[], float]) -> None:
        """Read nothing yet."""
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._known = Known(None, "")
        self._began_at: float | None = None
        self._done = threading.Event()
        self._done.set()

    def look(self, patience: float = PATIENCE_SECONDS) -> Known:
        """Return what is known; read first if it is old, and wait for that no longer than ``patience``."""
        with self._lock:
            is_old = self._began_at is None or self._clock() - self._began_at >= READ_EVERY_SECONDS
            if is_old and self._done.is_set():
                self._done.clear()
                self._began_at = self._clock()
                self._start()
        is_late = not self._done.wait(patience)
        known = self._known
        return replace(known, reason="DynamoDB takes long to answer") if is_late and not known.reason else known

    def _start(self) -> None:
        try:
            threading.Thread(target=self._refresh, name="status records", daemon=True).start()
        except RuntimeError:  # no thread is to be had: pids_limit
            self._known = replace(self._known, reason="this machine has no room for another thread")
            self._done.set()

    def _refresh(self) -> None:
        try:
            self._known = Known(self._read(), "")
        except StateUnavailable as error:
            self._known = replace(self._known, reason=str(error))
        except ConfigError as error:
            self._known = replace(self._known, reason="; ".join(error.faults))
        except Exception as error:  # noqa: BLE001 - a bug in here must not leave visitors waiting
            log_bug(error)
            self._known = replace(self._known, reason="a bug: the log has it")
        finally:
            self._done.set()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    text: str


class StatusPage:
    """Serves from ``with`` to its end. A port that cannot be had is logged, and that is all."""

    def __init__(
        self,
        host: str,
        port: int,
        records: Records,
        seen: Callable[[], Seen],
        verdict: Callable[[], Verdict],
    ) -> None:
        """Listen to nothing yet."""
        self._host = host
        self._port = port
        self._records = records
        self._seen = seen
        self._verdict = verdict
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> StatusPage:
        """Start to serve."""
        try:
            self._server = _Server(self._host, self._port, self._answer)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            _log(logger, logging.ERROR, "status_page_failed", reason=f"{reason}: check STATUS_HOST and STATUS_PORT")
            return self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOP_SECONDS,), name="status page", daemon=True
        )
        self._thread.start()
        _log(logger, logging.INFO, "status_page_started", host=self._host, port=self.port)
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop; a visit that is on is cut off."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.end_visits()
            self._thread.join()

    @property
    def port(self) -> int:
        """Return the port that was had."""
        return self._server.server_address[1] if self._server is not None else self._port

    def _answer(self, path: str, host: str | None) -> _Answer:
        if not is_ours(host, self._host):
            text = "open this page by the machine's address or its name in your own network\n"
            return _Answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain; charset=utf-8", text)
        match path.partition("?")[0]:
            case "/":
                page = status_html.render(self._records.look(), self._seen(), self._verdict())
                return _Answer(HTTPStatus.OK, "text/html; charset=utf-8", page)
            case "/healthz":
                verdict = self._verdict()
                status = HTTPStatus.OK if verdict.healthy else HTTPStatus.SERVICE_UNAVAILABLE
                return _Answer(status, "text/plain; charset=utf-8", f"{verdict.reason}\n")
            case "/metrics":
                return _Answer(HTTPStatus.OK, prometheus_text.CONTENT_TYPE, prometheus_text.render(self._seen()))
        return _Answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", "there is /, /healthz and /metrics\n")


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


class _Server(ThreadingHTTPServer):
    """Bounded in visitors and in their time."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, host: str, port: int, answer: Callable[[str, str | None], _Answer]) -> None:
        self.answer = answer
        self._visits: dict[Any, float] = {}
        self._visits_lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, and ask no name server who we are, which HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

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

    server: _Server
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
        self._say(_Answer(status, "text/plain; charset=utf-8", f"{status.phrase}\n"))

    def _say(self, answer: _Answer) -> None:
        body = answer.text.encode()
        self.send_response_only(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
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


def _log(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    """Log something that belongs to no cycle, whichever is under way."""
    log_event(logger, level, event, run_id=None, **fields)
