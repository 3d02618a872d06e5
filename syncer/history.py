"""What this daemon has seen of its own cycles: the last day by the hour, and totals since it was started.

In memory alone, and bounded: a restart begins anew, and nothing is decided by it. Hours are of the wall
clock, in UTC. One thread writes, any number read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from syncer.cycle_state import Summary
from syncer.measures import Measures, measure

HOURS: Final = 24
HOUR_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Hour:
    """What the cycles of one hour did."""

    start: float
    """Epoch seconds."""
    cycles: int = 0
    bad_cycles: int = 0
    """Those that somebody, or the next cycle, has to make good."""
    copied: int = 0
    lag_seconds: int | None = None
    """The longest from arrival to copy; None: nothing was copied."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counted since the start of the daemon."""

    cycles_completed: int = 0
    messages_copied: int = 0
    messages_failed: int = 0
    messages_given_up: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A copy of the history at one moment."""

    now: float
    started_at: float
    hours: tuple[Hour, ...]
    """The last ``HOURS`` hours, the oldest first; the last one is not over."""
    totals: Totals
    last: Measures | None
    """Of the last cycle; None: none has ended."""
    last_lag_seconds: int | None
    """Of the last cycle that copied anything."""


@dataclass(slots=True)
class History:
    """Watches cycles; see ``daemon.Watcher``."""

    wall: Callable[[], float]
    _hours: dict[int, Hour] = field(default_factory=dict, init=False)
    _totals: Totals = field(default=Totals(), init=False)
    _last: Measures | None = field(default=None, init=False)
    _last_lag: int | None = field(default=None, init=False)
    _started_at: float = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        """Begin now."""
        self._started_at = self.wall()

    def began(self) -> None:
        """Do nothing: only what ended counts."""

    def progressed(self) -> None:
        """Do nothing, likewise."""

    def ended(self, summary: Summary | None) -> None:
        """Count a cycle; None: it ended by a bug."""
        told = measure(summary)
        lag = told.delivery_lag_seconds
        with self._lock:
            number = int(self.wall() // HOUR_SECONDS)
            hour = self._hours.get(number, Hour(float(number * HOUR_SECONDS)))
            self._hours[number] = replace(
                hour,
                cycles=hour.cycles + 1,
                bad_cycles=hour.bad_cycles + 1 - told.cycles_completed,
                copied=hour.copied + (told.messages_copied or 0),
                lag_seconds=hour.lag_seconds if lag is None else max(lag, hour.lag_seconds or 0),
            )
            # Also what lies ahead: a clock that was set back would keep it for ever.
            self._hours = {at: kept for at, kept in self._hours.items() if number - HOURS < at <= number}
            self._totals = Totals(
                self._totals.cycles_completed + told.cycles_completed,
                self._totals.messages_copied + (told.messages_copied or 0),
                self._totals.messages_failed + (told.messages_failed or 0),
                self._totals.messages_given_up + (told.messages_given_up or 0),
            )
            self._last = told
            if lag is not None:
                self._last_lag = lag

    def seen(self) -> Seen:
        """Return what has been seen so far; hours without a cycle are there, and empty."""
        with self._lock:
            now = self.wall()
            number = int(now // HOUR_SECONDS)
            hours = (
                self._hours.get(at, Hour(float(at * HOUR_SECONDS))) for at in range(number - HOURS + 1, number + 1)
            )
            return Seen(now, self._started_at, tuple(hours), self._totals, self._last, self._last_lag)
