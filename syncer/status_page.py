"""The status page: what is served where, and how seldom the records are read for it.

    /          how things stand, for a person
    /healthz   200 or 503 and the reason, as ``syncer health`` says it
    /metrics   for Prometheus

Promises:

* Nothing is changed by a request, and none costs more than the next: the records are read at most once in
  ``READ_EVERY_SECONDS`` however often the page is loaded, and not at all while nobody looks.
* The daemon goes on, whatever happens here: a port in use, records that do not answer, visitors of any kind
  (``status_server``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from syncer import prometheus_text, status_html
from syncer.errors import ConfigError, StateUnavailable
from syncer.health import Verdict
from syncer.history import Seen
from syncer.logging_utils import log_bug, log_event
from syncer.status import Status
from syncer.status_html import Known
from syncer.status_server import Answer, Server

logger = logging.getLogger(__name__)

READ_EVERY_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 3.0
"""So long a page waits for the records; then it shows the last known, and the next page has the answer."""
_STOP_SECONDS: Final = 0.25


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
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> StatusPage:
        """Start to serve."""
        try:
            self._server = Server(
                self._host, self._port, self._answer, content_policy=status_html.CONTENT_SECURITY_POLICY
            )
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

    def _answer(self, path: str) -> Answer:
        match path:
            case "/":
                page = status_html.render(self._records.look(), self._seen(), self._verdict())
                return Answer(HTTPStatus.OK, "text/html; charset=utf-8", page)
            case "/healthz":
                verdict = self._verdict()
                status = HTTPStatus.OK if verdict.healthy else HTTPStatus.SERVICE_UNAVAILABLE
                return Answer.plain(status, verdict.reason)
            case "/metrics":
                return Answer(HTTPStatus.OK, prometheus_text.CONTENT_TYPE, prometheus_text.render(self._seen()))
        return Answer.plain(HTTPStatus.NOT_FOUND, "there is /, /healthz and /metrics")


def _log(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    """Log something that belongs to no cycle, whichever is under way."""
    log_event(logger, level, event, run_id=None, **fields)
