"""A token bucket: no more messages a second than the destination bears (PROVIDERS 4.3)."""

from __future__ import annotations

import math
from collections.abc import Callable


class Pace:
    """Lets ``rate`` messages a second through, after a pause at most one second's worth at once."""

    def __init__(self, rate: float, elapsed: Callable[[], float]) -> None:
        """``rate`` 0: no limit. ``elapsed`` is a clock in seconds that is never set back."""
        self._rate = rate
        self._elapsed = elapsed
        self._burst = max(rate, 1.0)
        self._tokens = self._burst
        self._filled_at = elapsed()

    def take(self, wanted: int) -> int:
        """Return how many of ``wanted`` messages may go now."""
        if not self._rate:
            return wanted
        self._fill()
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted

    def wait(self) -> float:
        """Return in how many seconds the next message may go."""
        if not self._rate:
            return math.inf
        self._fill()
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def _fill(self) -> None:
        now = self._elapsed()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
