"""What a cycle's end says in ten quantities: the same for CloudWatch, Prometheus and whoever else counts.

What a cycle did not get to know is None rather than 0: an alarm must not be calmed by ignorance.
"""

from __future__ import annotations

from dataclasses import dataclass

from syncer.cycle import exit_code
from syncer.cycle_state import Summary
from syncer.model import EXIT_OK, EXIT_SIGN_IN, Outcome


@dataclass(frozen=True, slots=True)
class Measures:
    """The ten, of one cycle."""

    cycles_completed: int
    """1 if it needs nobody's care."""
    sign_in_required: int | None = None
    messages_copied: int | None = None
    messages_failed: int | None = None
    messages_given_up: int | None = None
    in_doubt_oldest_seconds: int | None = None
    backlog: int | None = None
    """Left to do, without what is in doubt."""
    delivery_lag_seconds: int | None = None
    """The longest from arrival to copy; None: nothing was copied."""
    cycle_duration_milliseconds: int | None = None
    token_days_left: float | None = None


def measure(summary: Summary | None) -> Measures:
    """Return the quantities of one cycle; None: it did not come to an end, or did not begin."""
    if summary is None:
        return Measures(cycles_completed=0)
    # Without the records, nobody knows what is left to do.
    has_state = summary.outcome not in (Outcome.STATE_UNAVAILABLE, Outcome.LEASE_HELD)
    return Measures(
        cycles_completed=int(_is_good(summary)),
        sign_in_required=int(exit_code(summary) == EXIT_SIGN_IN),
        messages_copied=summary.copied,
        messages_failed=summary.failed,
        messages_given_up=summary.given_up,
        in_doubt_oldest_seconds=summary.in_doubt_oldest_seconds,
        # What is in doubt has a quantity of its own.
        backlog=max(0, summary.backlog - summary.in_doubt) if has_state else None,
        delivery_lag_seconds=summary.lag_seconds,
        cycle_duration_milliseconds=summary.duration_ms,
        token_days_left=_token_days_left(summary),
    )


def _is_good(summary: Summary) -> bool:
    """Tell whether the cycle needs nobody's care; but a deadline reached without a message moved is no progress."""
    if summary.outcome is Outcome.DEADLINE:
        return bool(summary.copied or summary.duplicates or summary.failed)
    return exit_code(summary) == EXIT_OK


def _token_days_left(summary: Summary) -> float | None:
    """Return for how long both sides' refresh tokens will do, as far as that is known."""
    known = [days for days in (summary.gmail_token_days_left, summary.outlook_token_days_left) if days is not None]
    return min(known, default=None)
