"""The ten quantities in Prometheus's text format (version 0.0.4): values in, text out.

Names and units are Prometheus's: base units, ``_total`` for what only rises. What the last cycle did not
get to know is left out, as for CloudWatch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from syncer.history import Seen

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_DAY: Final = 86_400

_Row = tuple[str, Literal["counter", "gauge"], str, float | None]


def render(seen: Seen) -> str:
    """Return the answer to a scrape."""
    lines: list[str] = []
    for name, kind, text, value in _rows(seen):
        if value is not None:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:.15g}"]
    return "\n".join([*lines, ""])


def _rows(seen: Seen) -> Iterator[_Row]:
    totals, last = seen.totals, seen.last
    yield "syncer_cycles_completed_total", "counter", "Cycles that need nobody's care.", totals.cycles_completed
    yield "syncer_messages_copied_total", "counter", "Messages copied.", totals.messages_copied
    yield "syncer_messages_failed_total", "counter", "Failed tries of a message.", totals.messages_failed
    yield (
        "syncer_messages_given_up_total",
        "counter",
        "Messages that will not be tried again.",
        totals.messages_given_up,
    )
    lag = seen.last_lag_seconds
    yield "syncer_delivery_lag_seconds", "gauge", "Longest way from arrival to copy, last cycle that copied.", lag
    if last is None:
        return
    yield "syncer_sign_in_required", "gauge", "1 if a person must sign in again.", last.sign_in_required
    yield (
        "syncer_in_doubt_oldest_seconds",
        "gauge",
        "Age of the oldest copy in doubt, 0 if none is.",
        (last.in_doubt_oldest_seconds),
    )
    yield "syncer_backlog", "gauge", "Messages left to copy at the end of the last cycle.", last.backlog
    took = last.cycle_duration_milliseconds
    yield (
        "syncer_cycle_duration_seconds",
        "gauge",
        "Length of the last cycle.",
        took / 1000 if took is not None else None,
    )
    left = last.token_days_left
    text = "How long the refresh token that ends first will do."
    yield "syncer_token_remaining_seconds", "gauge", text, left * _DAY if left is not None else None
