"""What an error that ends a piece of work means: its log line, and the outcome it is told by."""

from __future__ import annotations

import logging
from collections.abc import Callable

from syncer.errors import AuthError, LeaseHeld, LeaseLost, SideError, StateUnavailable, SyncError, Throttled
from syncer.logging_utils import log_event
from syncer.model import Outcome, Side, Watermark

logger = logging.getLogger(__name__)


def report(error: SyncError, now: float, hold: Callable[[Side, float], None] | None = None) -> Outcome:
    """Log what ended the work early and return the outcome; ``hold`` notes how long a side wants to be left alone.

    An error that no outcome stands for is raised again.
    """
    if isinstance(error, StateUnavailable):
        log_event(logger, logging.ERROR, "state_unavailable", reason=str(error))
        return Outcome.STATE_UNAVAILABLE
    if isinstance(error, LeaseHeld):
        log_event(logger, logging.INFO, "lease_held", until=error.until)
        return Outcome.LEASE_HELD
    if isinstance(error, LeaseLost):
        log_event(logger, logging.WARNING, "lease_held", reason=str(error))
        return Outcome.LEASE_HELD
    if not isinstance(error, SideError):
        raise error
    if isinstance(error, AuthError):
        log_event(logger, logging.ERROR, "auth_failed", side=error.side, reason=error.reason, remedy=error.remedy)
        return Outcome.AUTH_FAILED
    if isinstance(error, Throttled):
        until = now + error.seconds
        if hold is not None:
            hold(error.side, until)
        log_event(logger, logging.WARNING, "throttled", side=error.side, until=until, reason=error.reason)
        return Outcome.THROTTLED
    is_source = error.side is Side.SOURCE
    event = "source_unavailable" if is_source else "destination_unavailable"
    log_event(logger, logging.ERROR, event, reason=error.reason)
    return Outcome.SOURCE_UNAVAILABLE if is_source else Outcome.DESTINATION_UNAVAILABLE


def is_held(found: Watermark, side: Side, now: float) -> bool:
    """Tell whether a side asked to be left alone for longer; if so, that is logged."""
    until = found.not_before.get(side, 0.0)
    if until <= now:
        return False
    log_event(logger, logging.WARNING, "throttled", side=side, until=until, kept=True)
    return True
