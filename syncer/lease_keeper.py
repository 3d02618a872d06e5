"""The lease while a cycle works: renewed with every commit, and what an APPEND has to ask before it leaves.

The lease is trusted for less time than it lasts, because the clock of another runner may be ahead
(up to a minute of a lease of five, and in proportion), and by a clock that goes on while this
machine sleeps: a run that was frozen finds its lease spent before it sends another byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from syncer.errors import LeaseLost
from syncer.model import CommitResult, Lease, Watermark, Write
from syncer.ports import Clock, Store

_MARGIN: Final = 0.2
_LONGEST_MARGIN: Final = 60.0
_RENEW_AFTER: Final = 1 / 3


class LeaseKeeper:
    """Of one run. ``permit`` may be asked from any thread."""

    def __init__(self, store: Store, lease: Lease, lease_seconds: float, clock: Clock, taken_at: float) -> None:
        """``taken_at``: the elapsed clock before the lease was asked for."""
        self._store = store
        self._lease = lease
        self._seconds = lease_seconds
        self._clock = clock
        self._renewed_at = taken_at
        self._is_lost = False

    def permit(self) -> bool:
        """Tell whether this run surely still holds the lease."""
        margin = min(_LONGEST_MARGIN, self._seconds * _MARGIN)
        return not self._is_lost and self._clock.elapsed() < self._renewed_at + self._seconds - margin

    @property
    def is_due(self) -> bool:
        """Tell whether it is time to renew."""
        return self._clock.elapsed() >= self._renewed_at + self._seconds * _RENEW_AFTER

    def commit(self, watermark: Watermark, writes: Sequence[Write]) -> CommitResult:
        """Write, fenced by the lease, and renew it in the same request. Raises LeaseLost, StateUnavailable."""
        with self._renewal():
            return self._store.commit(self._lease, watermark, writes, self._clock.now())

    def renew(self) -> None:
        """Renew the lease alone. Raises LeaseLost, StateUnavailable."""
        with self._renewal():
            self._lease = self._store.renew(self._lease, self._clock.now())

    def release(self, watermark: Watermark) -> None:
        """Write the watermark and let the lease go. Raises LeaseLost, StateUnavailable."""
        self._store.release(self._lease, watermark, self._clock.now())

    @contextmanager
    def _renewal(self) -> Iterator[None]:
        """Count the lease from before the request: the store may have counted it from any time until the answer."""
        asked_at = self._clock.elapsed()
        try:
            yield
        except LeaseLost:
            self._is_lost = True
            raise
        self._renewed_at = asked_at
