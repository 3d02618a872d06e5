"""Copy older mail than the first run began with: it is named as open, and ordinary cycles copy it.

    list and compare with the records --> name a batch as open --> one cycle --> the next batch ...

So whatever holds for new mail holds for old: claims, identities, the pace, the lease. Between two
batches any other run may have its turn, and what is new goes with each of them. A batch is what the
watermark can carry, and what is left to the scheduled cycles if this is killed; begun again, it lists
anew, finds what has a record, and goes on with the rest.

What has failed before is left alone (``retry`` is for that), and so is what lies above the horizon,
which cycles copy anyway.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from syncer.cycle_state import EngineSettings, Summary, World
from syncer.errors import Unavailable
from syncer.leased_work import LeasedWork
from syncer.logging_utils import log_event
from syncer.model import Identity, Outcome, Side, SourceMessage
from syncer.uid_set import UidSet

logger = logging.getLogger(__name__)

BATCH: Final = 200
"""Messages that are open at a time."""
_MOST_OPEN: Final = 10 * BATCH
_RECORDS: Final = 1000
"""Messages whose records are read at a time."""
_PATIENCE: Final = 40
"""Tries to get the lease, a twentieth of its length apart: two leases long, which outlives a run that died."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill did: the fields of ``backfill_finished``."""

    outcome: Outcome
    listed: int
    """Messages of the time asked for."""
    known: int
    """Of these, how many have a record already."""
    copied: int
    """By its cycles; what was new meanwhile counts as well."""
    failed: int
    in_doubt: int
    left: int
    """Messages that it did not come to, or that its last cycle began and left to the next."""
    duration_ms: int
    faults: tuple[str, ...] = ()


class Backfill:
    """One backfill."""

    def __init__(
        self,
        world: World,
        settings: EngineSettings,
        run_id: str,
        *,
        since: float,
        until: float,
        cycle: Callable[[OnProgress | None], Summary],
        pause: Callable[[float], bool],
    ) -> None:
        """Take what arrived at ``since`` or later and before ``until``.

        ``cycle`` runs an ordinary cycle; ``pause`` waits for so many seconds and tells whether somebody said stop.
        """
        self._world = world
        self._settings = settings
        self._run_id = run_id
        self._since = since
        self._until = until
        self._cycle = cycle
        self._pause = pause
        self._works = 0
        self._uidvalidity: int | None = None
        self._is_listed = False
        self._wanted: deque[SourceMessage] = deque()
        self._still_open = 0
        self._listed = 0
        self._total = 0
        self._copied = 0
        self._failed = 0
        self._in_doubt = 0
        self._begun = 0
        self._faults: tuple[str, ...] = ()

    def run(self) -> BackfillReport:
        """Copy what is missing, tell how it ended, and return it. Raises nothing that is not a bug."""
        began = self._begin(dry_run=False)
        outcome = self._list_until_settled()
        while outcome is Outcome.OK and (self._wanted or self._still_open):
            outcome = self._do(self._open_next)
            if outcome is Outcome.OK and not self._is_listed:
                outcome = self._list_until_settled()
            elif outcome is Outcome.OK and self._still_open:
                outcome = self._run_cycle()
        return self._finish(outcome, began)

    def dry_run(self) -> BackfillReport:
        """Log what would be copied; read only, everywhere, and without the lease."""
        began = self._begin(dry_run=True)
        work = self._new_work()
        outcome = work.do_unleased(partial(self._list, work))
        self._faults = work.faults
        if outcome is Outcome.OK and not self._is_listed:
            log_event(logger, logging.WARNING, "backfill_waits", reason="no cycle has met this mailbox yet")
            outcome = Outcome.SOURCE_UNAVAILABLE
        for message in self._wanted:
            fields = {"uidvalidity": message.key.uidvalidity, "uid": message.key.uid, "bytes": message.size}
            log_event(logger, logging.INFO, "would_copy", **fields)
        return self._finish(outcome, began)

    # -- steps

    def _new_work(self) -> LeasedWork:
        self._works += 1
        return LeasedWork(self._world, self._settings, f"{self._run_id}/{self._works}")

    def _do(self, step: Callable[[LeasedWork], None]) -> Outcome:
        """Do a step under a lease of its own; wait for it, if another run is at work."""
        for _ in range(_PATIENCE):
            work = self._new_work()
            outcome = work.do(partial(step, work))
            self._faults = work.faults
            if outcome is not Outcome.LEASE_HELD:
                return outcome
            if self._pause(self._settings.lease_seconds / (_PATIENCE / 2)):
                return Outcome.STOPPED
        return Outcome.LEASE_HELD

    def _list_until_settled(self) -> Outcome:
        """List what is wanted; if no cycle has met the mailbox as it is numbered now, have one do so first."""
        outcome = self._do(self._list)
        if outcome is not Outcome.OK or self._is_listed:
            return outcome
        outcome = self._run_cycle()
        if outcome is not Outcome.OK:
            return outcome
        outcome = self._do(self._list)
        return Outcome.SOURCE_UNAVAILABLE if outcome is Outcome.OK and not self._is_listed else outcome

    def _list(self, work: LeasedWork) -> None:
        """List the time asked for, and keep what nothing is known of."""
        self._wanted.clear()
        work.open_source()
        found = work.found
        self._uidvalidity = found.uidvalidity
        self._is_listed = found.uidvalidity == work.selected.uidvalidity
        if not self._is_listed:
            return
        still_open = found.open.get(found.uidvalidity or 0, UidSet())
        self._listed = resumed = 0
        for messages in work.list_between(self._since, self._until, found.horizon):
            self._listed += len(messages)
            for at in range(0, len(messages), _RECORDS):
                unknown = self._unknown(work, messages[at : at + _RECORDS])
                begun = [message for message in unknown if message.key.uid in still_open]
                resumed += len(begun)
                self._wanted += [message for message in unknown if message.key.uid not in still_open]
        self._total = len(self._wanted) + resumed
        self._still_open = _open_in(work)
        log_event(logger, logging.INFO, "backfill_listed", listed=self._listed, wanted=self._total)

    def _unknown(self, work: LeasedWork, messages: Sequence[SourceMessage]) -> list[SourceMessage]:
        """Return what has no record, by its UID or by its identity."""
        work.go_on()
        identities = [Identity(m.gmail_msgid) for m in messages if m.gmail_msgid is not None]
        records, failures, holders = work.records([message.key for message in messages], identities)
        return [
            message
            for message in messages
            if message.key not in records
            and message.key not in failures
            and Identity(message.gmail_msgid or "") not in holders
        ]

    def _open_next(self, work: LeasedWork) -> None:
        """Name the next batch as open."""
        found = work.found
        if found.uidvalidity is None or found.uidvalidity != self._uidvalidity:
            self._is_listed = False  # numbered anew: what was listed has other UIDs now
            return
        if _open_in(work) > _MOST_OPEN:
            raise Unavailable(Side.DESTINATION, f"{_open_in(work)} messages are open: cycles have to settle them first")
        batch = [self._wanted.popleft().key for _ in range(min(BATCH, len(self._wanted)))]
        # Another run may have dealt with some since they were listed.
        records, failures, _ = work.records(batch, [])
        uids = UidSet(key.uid for key in batch if key not in records and key not in failures)
        if uids:
            still_open = found.open.get(found.uidvalidity, UidSet()) | uids
            work.watermark = replace(found, open={**found.open, found.uidvalidity: still_open})
        self._still_open = _open_in(work)

    def _run_cycle(self) -> Outcome:
        """Have a cycle copy what is open."""
        before = self._copied
        summary = self._cycle(self._progress_after(before) if self._world.on_progress is not None else None)
        self._copied += summary.copied
        self._failed += summary.failed
        self._in_doubt = summary.in_doubt
        self._begun = max(0, summary.backlog - summary.in_doubt)
        self._faults = summary.faults
        # What this cycle could not settle, the scheduled ones go on with.
        self._still_open = 0
        # Another run has the lease: it copies the batch, and the next step waits for it.
        return Outcome.OK if summary.outcome is Outcome.LEASE_HELD else summary.outcome

    def _progress_after(self, before: int) -> OnProgress:
        def on_progress(done: int, _left: int) -> None:
            if self._world.on_progress is not None:
                self._world.on_progress(before + done, max(0, self._total - before - done))

        return on_progress

    # -- telling

    def _begin(self, *, dry_run: bool) -> float:
        fields = {"dry_run": True} if dry_run else {}
        log_event(logger, logging.INFO, "backfill_started", since=self._since, until=self._until, **fields)
        return self._world.clock.elapsed()

    def _finish(self, outcome: Outcome, began: float) -> BackfillReport:
        report = BackfillReport(
            outcome=outcome,
            listed=self._listed,
            known=self._listed - self._total,
            copied=self._copied,
            failed=self._failed,
            in_doubt=self._in_doubt,
            left=len(self._wanted) + self._begun,
            duration_ms=round((self._world.clock.elapsed() - began) * 1000),
            faults=self._faults,
        )
        log_event(
            logger,
            logging.INFO,
            "backfill_finished",
            outcome=report.outcome,
            listed=report.listed,
            known=report.known,
            copied=report.copied,
            failed=report.failed,
            in_doubt=report.in_doubt,
            left=report.left,
            duration_ms=report.duration_ms,
        )
        return report


def _open_in(work: LeasedWork) -> int:
    """Return how many messages the watermark that the work leaves names as open."""
    return sum(len(uids) for uids in work.watermark.open.values())
