"""Make failed messages due now: those that wait for another try, and those that were given up.

Nothing is copied here and no mailbox is contacted; the next cycle tries them. What was given up gets
its MAX_ATTEMPTS anew. A message in doubt is left to the cycles, which look for its copy: to try it
again without a look could make a second one. What no look can tell is decided by a person (``decision``).

Each record and its place in the watermark are written in one transaction, under the lease.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from syncer.cycle_state import EngineSettings, World
from syncer.leased_work import LeasedWork
from syncer.logging_utils import log_event
from syncer.model import FailRecord, Failure, Outcome, Status, UidRecord
from syncer.progress import Progress

logger = logging.getLogger(__name__)

_BATCH: Final = 40
"""Writes in a commit: with the watermark, one transaction holds them."""


@dataclass(frozen=True, slots=True)
class RetryReport:
    """What was made due: the fields of ``retry_finished``."""

    outcome: Outcome
    due: int
    given_up_before: int
    """Of these, how many had been given up."""
    skipped: int
    unknown: tuple[int, ...]
    """UIDs that were asked for and have no failed message."""
    faults: tuple[str, ...] = ()


class Retry:
    """One making due."""

    def __init__(self, world: World, settings: EngineSettings, run_id: str, *, uids: Collection[int] = ()) -> None:
        """``uids``: only these; none named: every failed message."""
        self._work = LeasedWork(world, settings, run_id)
        self._world = world
        self._uids = frozenset(uids)
        self._due = 0
        self._given_up_before = 0
        self._skipped = 0
        self._unknown: frozenset[int] = frozenset()

    def run(self) -> RetryReport:
        """Make them due, tell how it ended, and return it. Raises nothing that is not a bug."""
        outcome = self._work.do(self._make_due)
        report = RetryReport(
            outcome=outcome,
            due=self._due,
            given_up_before=self._given_up_before,
            skipped=self._skipped,
            unknown=tuple(sorted(self._unknown)),
            faults=self._work.faults,
        )
        log_event(
            logger,
            logging.INFO,
            "retry_finished",
            outcome=report.outcome,
            due=report.due,
            given_up_before=report.given_up_before,
            skipped=report.skipped,
            unknown=list(report.unknown),
        )
        return report

    def _make_due(self) -> None:
        work = self._work
        failed = list(self._world.store.failures())
        chosen = [record for record in failed if not self._uids or record.key.uid in self._uids]
        self._unknown = self._uids - {record.key.uid for record in chosen}
        claims, _, _ = work.records([record.key for record in chosen], [])
        ready = []
        for record in chosen:
            if reason := self._why_not(record, claims.get(record.key)):
                self._skip(record, reason)
            else:
                ready.append(record)
        progress = Progress(work.found)
        for at in range(0, len(ready), _BATCH):
            work.go_on()
            self._write(progress, ready[at : at + _BATCH])

    def _why_not(self, record: FailRecord, claim: UidRecord | None) -> str:
        """Return why a message cannot be tried again; empty if it can."""
        if record.key.uidvalidity != self._work.found.uidvalidity:
            return "the source was numbered anew since: its UID names nothing any more"
        if claim is None:
            return ""
        if claim.status is not Status.PENDING:
            return "copied since"
        return "in doubt: cycles look for its copy, or syncer settle decides"

    def _skip(self, record: FailRecord, reason: str) -> None:
        self._skipped += 1
        fields = {"uidvalidity": record.key.uidvalidity, "uid": record.key.uid}
        log_event(logger, logging.INFO, "retry_skipped", **fields, reason=reason)

    def _write(self, progress: Progress, records: Sequence[FailRecord]) -> None:
        now = self._world.clock.now()
        writes = []
        for record in records:
            tries = 0 if record.given_up else record.retry_count
            writes.append(Failure(replace(record, retry_count=tries, updated_at=now, next_try_at=now, given_up=False)))
            progress.fail(record.key, now)
        watermark = progress.watermark(now)
        self._work.keeper.commit(watermark, writes)
        # Only now: what the release writes must not name as due what has no record that says so.
        self._work.watermark = watermark
        self._due += len(records)
        self._given_up_before += sum(record.given_up for record in records)
