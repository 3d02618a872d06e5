"""New mail wakes the daemon: when a connection to the source may stand in IDLE, and what becomes of it.

A thread of its own holds the connection (``idle_connection``); cycles go on beside it, on connections of
theirs. Nothing is copied here: growth of the mailbox ends the daemon's wait, and the cycle lists.

    off ──a cycle ended well──> open ──EXAMINE, IDLE──> stands ──8 minutes──> DONE, EXAMINE, IDLE ─┐
     ^                           │                        │ ^                                      │
     │<── not to be had ─────────┘                        │ └──────────────────────────────────────┘
     │<── lost: a pause that grows, then a cycle ─────────┤
     └<── closed: a cycle could not use the records, or a provider wants peace

Promises:

* State first: it is opened only after a cycle that ended well moments ago has proved that the records
  can be read and written, and closed as soon as a cycle finds that they cannot.
* No mail is missed for longer than the interval of the cycles, whatever the server says or keeps quiet: a
  cycle that finds what IDLE had kept quiet has the connection tested at once.
* No hot loop: a lost connection is opened again after a pause that doubles; after some of them only the
  interval's own cycles lead to another try.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from syncer.clocks import elapsed
from syncer.cycle_state import Summary
from syncer.daemon import TICK_SECONDS
from syncer.errors import AuthError, SideError, SyncError, Throttled, Unavailable
from syncer.idle_connection import IdleConnection, NotOffered
from syncer.imap_session import Idle, ImapSession
from syncer.logging_utils import log_bug, log_event
from syncer.model import Outcome, Side

logger = logging.getLogger(__name__)

REISSUE_SECONDS: Final = 480.0
"""An IDLE stands no longer than this; connections of half an hour of silence are known to be dead (PROVIDERS 1.5)."""
PROOF_SECONDS: Final = 30.0
"""For so long after a cycle that ended well its proof holds that the records can be used."""
FIRST_PAUSE_SECONDS: Final = 2.0
LONGEST_PAUSE_SECONDS: Final = 300.0
EAGER_TRIES: Final = 6
"""So many tries in a row ask for a cycle of their own; later ones wait for the interval's."""
_SLEPT_SECONDS: Final = 3 * TICK_SECONDS
"""A wait of a tick that took so long: the machine slept, and connections may have died meanwhile."""
_CLOSING_SECONDS: Final = 5.0

_CLOSES: Final = frozenset({Outcome.STATE_UNAVAILABLE, Outcome.THROTTLED, Outcome.AUTH_FAILED})
"""After a cycle that ended so, the connection is closed: the records come first, and providers get their peace."""


class _Closed(Exception):
    """The connection is to be closed, for the reason given."""


class IdleWatch:
    """Holds the connection. Use as a context manager, and tell it how every cycle ``ended``."""

    def __init__(
        self,
        sign_in: Callable[[], ImapSession],
        mailbox: str,
        wake: Callable[[], None],
        *,
        clock: Callable[[], float] = elapsed,
        reissue_seconds: float = REISSUE_SECONDS,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        """Contact nobody yet. ``wake`` is called, from any thread, when there is reason for a cycle."""
        self._sign_in = sign_in
        self._mailbox = mailbox
        self._wake = wake
        self._clock = clock
        self._reissue_seconds = reissue_seconds
        self._first_pause = first_pause_seconds
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="idle watch", daemon=True)
        self._stopping = False
        # What cycles told.
        self._proved_at: float | None = None
        """When the last cycle ended, if it ended well."""
        self._last_uid = 0
        self._close_reason = ""
        self._is_suspect = False
        """A cycle found what had not been announced."""
        # What the connection told.
        self._announced = self._announced_before = False
        """Something has been since the last cycle ended; had been before that, since the last but one."""
        self._started_at: float | None = None
        """Since when the connection stands; None while there is none."""
        self._failures = 0
        self._not_before = 0.0
        self._asked = False
        """For a cycle, as a proof; it has not ended yet."""
        self._is_told = False
        """The log knows that there is no connection to be had."""

    def __enter__(self) -> IdleWatch:
        """Start the thread, which waits for the first cycle's end."""
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Say DONE and LOGOUT. A connection that does not answer is left to its fate."""
        self._stopping = True
        self._bell.put(None)
        self._thread.join(_CLOSING_SECONDS)

    def ended(self, summary: Summary | None) -> None:
        """Take note of how a cycle ended (None: by a bug)."""
        outcome = summary.outcome if summary is not None else None
        was_bad = self._proved_at is None
        self._proved_at = self._clock() if outcome is Outcome.OK else None
        self._asked = False
        if summary is not None and outcome is Outcome.OK:
            if was_bad and self._announced:
                self._wake()  # it woke nobody, and this cycle may have listed before it came
            self._last_uid = summary.last_uid
            self._is_suspect = summary.listed > 0 and not (self._announced or self._announced_before)
            self._announced_before, self._announced = self._announced, False
        elif outcome in _CLOSES:
            self._close_reason = str(outcome)
        self._bell.put(None)

    # -- the thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                if self._may_open():
                    self._hold()
                else:
                    self._wait(TICK_SECONDS)
            except NotOffered:
                reason = "the server does not offer IDLE"
                _log(logger, logging.WARNING, "idle_unavailable", reason=reason)
                return
            except _Closed as closed:
                self._note_loss(f"closed: {closed}")
            except SyncError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - a bug in here must not end the service, nor go round and round
                log_bug(error)
                self._fail(Unavailable(Side.SOURCE, "a bug"))

    def _may_open(self) -> bool:
        """Tell whether the time has come, and a cycle has just proved that the records can be used."""
        self._close_reason = ""
        now = self._clock()
        if self._proved_at is None or now < self._not_before:
            return False
        if now - self._proved_at <= PROOF_SECONDS:
            return True
        if not self._asked and self._failures < EAGER_TRIES:
            self._asked = True
            self._wake()
        return False

    def _hold(self) -> None:
        """Open the connection and hold it. Raises SyncError: it was not to be had, or ended; _Closed; NotOffered."""
        session = self._sign_in()
        try:
            connection = IdleConnection(session, self._mailbox, self._note_arrival)
            while not self._stopping:
                self._is_suspect = False
                idle = connection.enter(self._last_uid)
                idle.ended.add_done_callback(lambda _ended: self._bell.put(None))
                self._note_start()
                self._stand(idle)
                if not self._stopping:
                    idle.done()
        finally:
            session.close()

    def _stand(self, idle: Idle) -> None:
        """Wait until it is time for another IDLE. Raises Unavailable, Throttled: it ended; _Closed."""
        until = self._clock() + self._reissue_seconds
        while not self._stopping:
            if self._close_reason:
                raise _Closed(self._close_reason)
            if idle.ended.done():
                idle.ended.result()
                raise Unavailable(Side.SOURCE, "the server ended IDLE by itself")
            now = self._clock()
            if self._is_suspect or now >= until:
                break
            self._wait(min(until - now, TICK_SECONDS))
            if self._clock() - now > _SLEPT_SECONDS:
                break

    def _wait(self, seconds: float) -> None:
        with suppress(queue.Empty):
            self._bell.get(timeout=seconds)

    # -- what happened

    def _note_arrival(self) -> None:
        self._announced = True
        if self._proved_at is not None:  # else the interval has to do: cycles do not end well just now
            self._wake()

    def _note_start(self) -> None:
        if self._started_at is None:
            self._started_at = self._clock()
            self._is_told = False
            _log(logger, logging.INFO, "idle_started")

    def _note_loss(self, reason: str) -> bool:
        """Tell of the end of a connection that stood; return whether one did."""
        started_at, self._started_at = self._started_at, None
        if started_at is None:
            return False
        stood = self._clock() - started_at
        if stood > LONGEST_PAUSE_SECONDS:
            self._failures = 0
        _log(logger, logging.INFO, "idle_lost", reason=reason, stood_seconds=round(stood))
        return True

    def _fail(self, error: SyncError) -> None:
        """Leave the source alone for a while: longer each time, and for as long as it asked for."""
        reason = error.reason if isinstance(error, SideError) else str(error)
        has_stood = self._note_loss(reason)
        pause = min(LONGEST_PAUSE_SECONDS, self._first_pause * 2.0**self._failures)
        if isinstance(error, AuthError):
            pause = LONGEST_PAUSE_SECONDS
        elif isinstance(error, Throttled):
            pause = max(pause, error.seconds)
        self._failures = min(self._failures + 1, 30)
        self._not_before = self._clock() + pause
        if not (has_stood or self._is_told):
            self._is_told = True
            _log(
                logger,
                logging.WARNING,
                "idle_unavailable",
                reason=reason,
                retry_seconds=round(pause),
            )


def _log(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    """Log something that belongs to no cycle, whichever is under way."""
    log_event(logger, level, event, run_id=None, **fields)
