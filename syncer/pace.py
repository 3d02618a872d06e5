"""How fast the destination is appended to: a token bucket whose rate gives way when it was too much.

The limit is a setting; what a provider bears is not published (PROVIDERS 4.3). So an answer that it was
too fast halves the rate, and without another one the rate doubles every six hours until the limit is
reached again. What was learnt is kept with the watermark, in writes that are made anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from syncer.model import SlowedPace

DOUBLES_IN: Final = 6 * 3600.0
SLOWEST: Final = 0.1
"""Messages a second: how far a provider's words can bring the rate down."""
KNOWN_GOOD: Final = 4.0
"""Where halving begins without a limit: what others found Exchange to bear (PROVIDERS 4.3)."""
_FREE: Final = 1000.0
"""From here on a rate without a limit is none."""
_AHEAD_SECONDS: Final = 10.0
_LEAST_AHEAD: Final = 16


def recovered(limit: float, slowed: SlowedPace | None, now: float) -> float | None:
    """Return the rate at ``now`` after it was slowed down; None: it is as free again as ``limit`` (0: none) says."""
    if slowed is None:
        return None
    # A clock that was set back must not slow it down further; one far ahead must not overflow.
    doublings = min(max(0.0, now - slowed.at) / DOUBLES_IN, 64.0)
    rate = slowed.rate * 2.0**doublings
    return None if rate >= (limit or _FREE) else rate


def slowed_down(limit: float, slowed: SlowedPace | None, now: float) -> SlowedPace:
    """Return the pace after the destination said that it was too fast: half of what it was."""
    rate = recovered(limit, slowed, now) or limit or KNOWN_GOOD
    return SlowedPace(max(rate / 2, SLOWEST), now)


class Pace:
    """Lets some messages a second through, after a pause at most one second's worth at once."""

    def __init__(self, limit: float, elapsed: Callable[[], float], rate: float | None = None) -> None:
        """``limit`` 0: none. ``rate``: slower than that for now. ``elapsed`` is a clock in seconds, never set back."""
        self._limit = limit
        self._elapsed = elapsed
        self._slowed = None if rate is None else SlowedPace(rate, elapsed())
        self._tokens = max(self.rate, 1.0)
        self._filled_at = elapsed()

    @property
    def rate(self) -> float:
        """Messages a second, now; infinite where nothing holds them back."""
        return recovered(self._limit, self._slowed, self._elapsed()) or self._limit or math.inf

    @property
    def ahead(self) -> float:
        """How many messages are worth having at hand: what was fetched and has to wait may be fetched in vain."""
        return max(self.rate * _AHEAD_SECONDS, _LEAST_AHEAD)

    def take(self, wanted: int) -> int:
        """Return how many of ``wanted`` messages may go now."""
        rate = self._fill()
        if rate == math.inf:
            return wanted
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted

    def wait(self) -> float:
        """Return in how many seconds the next message may go."""
        rate = self._fill()
        return math.inf if rate == math.inf else max(0.0, (1.0 - self._tokens) / rate)

    def _fill(self) -> float:
        """Count what the time since was worth, and return the rate."""
        rate, now = self.rate, self._elapsed()
        if rate < math.inf:
            self._tokens = min(max(rate, 1.0), self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        return rate
