"""Telling a monitor outside (healthchecks.io and its like) that cycles begin, end well or fail.

One POST to ``<URL>/start``, ``<URL>`` or ``<URL>/fail``. The text of each is the outcome and the numbers of
``cycle_finished``, nothing of any mail. A monitor that does not answer costs seconds and changes nothing.
"""

from __future__ import annotations

import logging
from typing import Final

from syncer.cycle import exit_code
from syncer.cycle_state import Summary
from syncer.logging_utils import log_event
from syncer.model import EXIT_OK

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 5.0
TOTAL_SECONDS: Final = 8.0


class Pinger:
    """Watches cycles (see ``daemon.Watcher``) and tells the monitor."""

    def __init__(self, url: str) -> None:
        """Contact nobody yet. The ``url`` is a secret: whoever has it can report in our name."""
        self._url = url.rstrip("/")
        self._answers = True

    def began(self) -> None:
        """Say that a cycle begins: the monitor then measures how long it takes."""
        self._post("/start", "")

    def progressed(self) -> None:
        """Say nothing."""

    def ended(self, summary: Summary | None) -> None:
        """Say how a cycle ended; None: by a bug."""
        if summary is None:
            self._post("/fail", "outcome=bug")
            return
        text = (
            f"outcome={summary.outcome} listed={summary.listed} copied={summary.copied} failed={summary.failed}"
            f" given_up={summary.given_up} in_doubt={summary.in_doubt} backlog={summary.backlog}"
            f" duration_ms={summary.duration_ms}"
        )
        self._post("" if exit_code(summary) == EXIT_OK else "/fail", text)

    def _post(self, path: str, text: str) -> None:
        """Make one request; the first failure of a row is logged."""
        import requests  # here, since a daemon without a monitor goes without

        from syncer.https_session import BadDay, within

        def call() -> int:
            timeout = (CONNECT_SECONDS, READ_SECONDS)
            with requests.post(
                self._url + path, data=text.encode(), timeout=timeout, allow_redirects=False, stream=True
            ) as answer:
                return answer.status_code

        try:
            status = within(TOTAL_SECONDS, call)
            reason = "" if 200 <= status < 300 else f"HTTP status {status}"
        except (requests.RequestException, BadDay, OSError) as error:
            reason = type(error).__name__  # its text would hold the URL
        if reason and self._answers:
            log_event(logger, logging.WARNING, "ping_failed", reason=reason)
        self._answers = not reason
