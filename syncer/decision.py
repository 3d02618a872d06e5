"""A person decides what no look can: whether the copy of a message in doubt is there.

First ``look_up`` reads what is known of the messages, for the person to see; then ``Settlement`` writes the answer:

    it is there       the record becomes DONE and the watermark lets go of it: no cycle looks any more
    it is not there   the record stays PENDING and says so: the next cycle appends it again, under the same claim

The answer is of the attempt that the person was shown. It is written under the lease, on the condition that the
claim still is that attempt's; if it is not, nothing is written and the person has to look again. No mailbox is
contacted: if what is not there turns out to be there after all, that cycle's own look finds it.

The watermark names a message as open until its record says DONE. So a crash leaves it in doubt, or decided and
still named: the next cycle reads the record, and takes it off.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from syncer.cycle_state import EngineSettings, World
from syncer.errors import LeaseHeld
from syncer.leased_work import LeasedWork
from syncer.logging_utils import log_event
from syncer.model import Decided, Decision, FailRecord, MessageKey, Outcome, Status, UidRecord, Watermark
from syncer.ports import Store
from syncer.progress import Progress

logger = logging.getLogger(__name__)

_BATCH: Final = 40
"""Writes in a commit: with the watermark, one transaction holds them."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """What the records say of the UIDs that a person names."""

    messages: tuple[UidRecord, ...]
    """Those that are in doubt, in their order."""
    refused: Mapping[int, str] = field(default_factory=dict)
    """Why nothing can be decided about a UID."""


@dataclass(frozen=True, slots=True)
class SettleReport:
    """What was decided: the fields of ``settle_finished``."""

    outcome: Outcome
    decision: Decision
    decided: int
    unknown: tuple[int, ...]
    """UIDs that were named and are not in doubt, or not as they were shown."""
    faults: tuple[str, ...] = ()


def look_up(store: Store, uids: Collection[int], now: float, *, uidvalidity: int | None = None) -> Doubts:
    """Return what is known of messages in doubt; ``uidvalidity`` tells apart two of one UID. Nothing is written.

    Raises StateUnavailable. Raises LeaseHeld: a run is at work, and what it has in hand is not in doubt yet.
    """
    standing = store.standing()
    if standing.lease_owner and standing.lease_until >= now:
        raise LeaseHeld(standing.lease_until)
    found = standing.watermark
    named = [MessageKey(v, uid) for v, its in found.open.items() for uid in its if uid in uids]
    current = [MessageKey(found.uidvalidity, uid) for uid in uids] if found.uidvalidity is not None else []
    loaded = store.load(sorted({*named, *current}), []) if named or current else None
    records, failures = (loaded.records, loaded.failures) if loaded is not None else ({}, {})
    pending = [records[key] for key in sorted(named) if key in records and records[key].status is Status.PENDING]
    messages: list[UidRecord] = []
    refused: dict[int, str] = {}
    for uid in sorted(set(uids)):
        its = [r for r in pending if r.key.uid == uid and uidvalidity in (None, r.key.uidvalidity)]
        if len(its) == 1:
            messages += its
        elif its:
            ways = " or ".join(f"--uidvalidity {record.key.uidvalidity}" for record in its)
            refused[uid] = f"the source was numbered anew, and two messages of this UID are in doubt: add {ways}"
        else:
            refused[uid] = _why_not_in_doubt(uid, found, records, failures)
    return Doubts(tuple(messages), refused)


def _why_not_in_doubt(
    uid: int,
    found: Watermark,
    records: Mapping[MessageKey, UidRecord],
    failures: Mapping[MessageKey, FailRecord],
) -> str:
    key = MessageKey(found.uidvalidity or 0, uid)
    if key in records and records[key].status is Status.DONE:
        return "it is not in doubt: it is recorded as copied"
    if key in failures:
        return "it is not in doubt: it was refused, and syncer retry has it tried again"
    return "no message in doubt has this UID: syncer status lists those that are"


class Settlement:
    """One answer, about one or more messages."""

    def __init__(self, world: World, settings: EngineSettings, run_id: str, doubts: Doubts, decision: Decision) -> None:
        """``doubts`` are what the person was shown."""
        self._work = LeasedWork(world, settings, run_id)
        self._world = world
        self._doubts = doubts
        self._decision = decision
        self._decided: set[MessageKey] = set()

    def run(self) -> SettleReport:
        """Write the answer, tell how it ended, and return it. Raises nothing that is not a bug."""
        for uid, reason in self._doubts.refused.items():
            log_event(logger, logging.WARNING, "settle_refused", uid=uid, reason=reason)
        outcome = self._work.do(self._settle) if self._doubts.messages else Outcome.OK
        left = {record.key.uid for record in self._doubts.messages if record.key not in self._decided}
        report = SettleReport(
            outcome=outcome,
            decision=self._decision,
            decided=len(self._decided),
            unknown=tuple(sorted({*self._doubts.refused, *(left if outcome is Outcome.OK else ())})),
            faults=self._work.faults,
        )
        log_event(
            logger,
            logging.INFO,
            "settle_finished",
            outcome=report.outcome,
            decision=report.decision,
            decided=report.decided,
            unknown=list(report.unknown),
        )
        return report

    def _settle(self) -> None:
        messages = self._doubts.messages
        for at in range(0, len(messages), _BATCH):
            self._work.go_on()
            self._write(messages[at : at + _BATCH])

    def _write(self, shown: Collection[UidRecord]) -> None:
        work, now = self._work, self._world.clock.now()
        records, failures, _ = work.records([record.key for record in shown], [])
        writes = []
        for before in shown:
            record = records.get(before.key)
            if record is None or record.status is not Status.PENDING or record.attempt != before.attempt:
                self._refuse(before.key)
            else:
                had_failed = before.key in failures
                writes.append(Decided(before.key, before.attempt, self._decision, now, had_failed=had_failed))
        # What is settled is named as open until its record says so: as it was found, then as the release leaves it.
        lost = work.keeper.commit(work.watermark, writes).lost if writes else {}
        progress = Progress(work.watermark)
        for write in writes:
            if write.key in lost:
                self._refuse(write.key)
                continue
            self._decided.add(write.key)
            if write.decision is Decision.COPIED:
                progress.settle(write.key)
                progress.count_copy(now)
            fields = {"uidvalidity": write.key.uidvalidity, "uid": write.key.uid}
            log_event(logger, logging.INFO, "in_doubt_decided", **fields, decision=write.decision)
        work.watermark = progress.watermark(now)

    @staticmethod
    def _refuse(key: MessageKey) -> None:
        reason = "a cycle has dealt with it meanwhile: see syncer status"
        fields = {"uidvalidity": key.uidvalidity, "uid": key.uid}
        log_event(logger, logging.WARNING, "settle_refused", **fields, reason=reason)
