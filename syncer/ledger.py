"""What is to be written with the next commits, in order, and what each write means for the progress.

A write changes the progress at the moment it goes into a commit, not before: so the watermark of
that very commit says what the records beside it say.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from syncer.copy_job import Item, Tally, log_item
from syncer.logging_utils import log_event
from syncer.model import Duplicate, FailRecord, Failure, Identity, MessageKey, Unclaim, Write
from syncer.ports import Clock
from syncer.progress import Progress
from syncer.sync_plan import next_try

logger = logging.getLogger(__name__)


class Ledger:
    """Of one cycle."""

    def __init__(self, progress: Progress, tally: Tally, clock: Clock, max_attempts: int) -> None:
        """Begin with nothing to write."""
        self._progress = progress
        self._tally = tally
        self._clock = clock
        self._max_attempts = max_attempts
        self._writes: deque[tuple[Write, Callable[[], None]]] = deque()

    def __len__(self) -> int:
        """Return how many writes wait."""
        return len(self._writes)

    def duplicate(self, key: MessageKey, identity: Identity, duplicate_of: MessageKey) -> None:
        """Record that a message needs no copy."""
        write = Duplicate(key, identity, duplicate_of, self._clock.now())
        self._writes.append((write, partial(self._progress.settle, key)))
        self._tally.duplicates += 1
        fields = {"uidvalidity": key.uidvalidity, "uid": key.uid, "duplicate_of": str(duplicate_of)}
        log_event(logger, logging.INFO, "duplicate_skipped", **fields)

    def fail(self, item: Item, *, for_ever: bool = False) -> None:
        """Record that a message could not be copied, and give its claim back if it has one."""
        now = self._clock.now()
        tries = (item.job.failure.retry_count if item.job.failure is not None else 0) + 1
        again = None if for_ever else next_try(tries, now, self._max_attempts)
        record = FailRecord(
            key=item.key,
            last_error=item.reason,
            retry_count=tries,
            updated_at=now,
            next_try_at=now if again is None else again,
            given_up=again is None,
            received_at=item.job.message.received_at,
        )
        self._writes.append((Failure(record, item.claim), partial(self._progress.fail, item.key, again)))
        elapsed = self._clock.elapsed()
        self._tally.failed += 1
        log_item(item, logging.WARNING, "message_failed", elapsed, reason=item.reason, retry_count=tries)
        if again is None:
            self._tally.given_up += 1
            log_item(item, logging.ERROR, "message_given_up", elapsed, reason=item.reason)

    def unclaim(self, claim: Unclaim, then: Callable[[], None]) -> None:
        """Give a claim back: its message surely did not arrive. ``then`` is called as it goes into a commit."""
        self._writes.append((claim, then))

    def take(self, most: int) -> list[Write]:
        """Return the next writes, at most so many; from now on the progress counts them as written."""
        writes: list[Write] = []
        while self._writes and len(writes) < most:
            write, apply = self._writes.popleft()
            apply()
            writes.append(write)
        return writes
