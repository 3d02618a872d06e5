"""Messages in doubt: one look at the destination for all of them, and what follows from it.

The look comes first in a cycle, over a connection made in it: what was appended before that
connection began is there to be seen. ``sync_plan`` decides; this reads, writes and reports.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

from syncer.copy_flow import CopyFlow
from syncer.copy_job import Item, Job
from syncer.cycle_state import NOT_THERE, CycleState, EngineSettings, World
from syncer.logging_utils import log_event
from syncer.model import Confirmation, Decision, MessageKey, NotFound, SourceMessage, UidRecord, Unclaim, Unclear, Write
from syncer.ports import Destination, Store
from syncer.sync_plan import (
    AppendAgain,
    Found,
    NothingYet,
    Undecided,
    first_uid_to_look_at,
    how_to_decide,
    settle_in_doubt,
)

logger = logging.getLogger(__name__)


def settle_what_is_in_doubt(
    world: World,
    settings: EngineSettings,
    cycle: CycleState,
    flow: CopyFlow,
    destination: Destination,
    there: Mapping[MessageKey, SourceMessage],
) -> list[Job]:
    """Look for the copies of what is in doubt; return what surely has to be appended again.

    ``there`` is what the source has, as far as it was listed.
    Raises Unavailable, Throttled (the destination), StateUnavailable, LeaseLost.
    """
    if not cycle.pending or flow.fence is None:
        return []
    pending = list(cycle.pending.values())
    asked_at = world.clock.now()
    view = destination.look(first_uid_to_look_at(pending, flow.fence.uidvalidity))
    now = world.clock.now()
    flow.fence = view.fence
    owned = cycle.progress.owned(view.fence.uidvalidity)
    # From the end of one look to the beginning of the other: that long a late copy had to arrive.
    verdicts = settle_in_doubt(pending, view, owned, asked_at, settings.in_doubt_settle_seconds)
    found: list[Confirmation] = []
    writes: list[Write] = []
    jobs: list[Job] = []
    for record in pending:
        verdict = verdicts[record.key]
        if isinstance(verdict, Found):
            had_failed = record.key in cycle.failures
            found.append(Confirmation(record.key, record.attempt, now, verdict.copy, had_failed=had_failed))
        elif isinstance(verdict, AppendAgain):
            _no_doubt(cycle, record.key)
            jobs += _append_again(cycle, record, there, world.clock.elapsed())
        else:
            if isinstance(verdict, Undecided) and verdict.reason != record.unclear:
                writes.append(Unclear(record.key, record.attempt, verdict.reason))
            if isinstance(verdict, NothingYet) and (verdict.first or record.unclear):
                writes.append(NotFound(record.key, record.attempt, now))
            flow.likeness.keep_apart(record.key, record.fingerprint)
            _stay_in_doubt(cycle, record, verdict)
    _confirm_found(world.store, cycle, found)
    if writes:
        cycle.keeper.commit(cycle.progress.watermark(now), writes)
    cycle.pending.clear()
    cycle.failures.clear()
    return jobs


def _confirm_found(store: Store, cycle: CycleState, found: Sequence[Confirmation]) -> None:
    if not found:
        return
    lost = store.confirm(found)
    for confirmation in found:
        if confirmation.key in lost:
            continue
        if confirmation.copy is not None:
            cycle.progress.own(confirmation.copy)
        cycle.progress.settle(confirmation.key)
        cycle.progress.count_copy(confirmation.copied_at)
        _no_doubt(cycle, confirmation.key)
        _log_settled(confirmation.key, "found in the destination")


def _append_again(
    cycle: CycleState, record: UidRecord, there: Mapping[MessageKey, SourceMessage], elapsed: float
) -> list[Job]:
    said = "a person said that it is " if record.decision is Decision.NOT_COPIED else ""
    _log_settled(record.key, f"{said}not in the destination: to be appended again")
    failure = cycle.failures.get(record.key)
    if record.key in there:
        return [Job(there[record.key], failure, reclaim=record)]
    claim = Unclaim(record.key, record.attempt, record.identity)
    came_back = any(message.gmail_msgid == record.identity for message in there.values())
    if came_back or record.key.uidvalidity != cycle.progress.uidvalidity:
        # It is met under its new UID, once its identity is free.
        cycle.ledger.unclaim(claim, partial(cycle.progress.drop, record.key))
        return []
    received_at = float(record.fingerprint.received_at) if record.fingerprint is not None else 0.0
    job = Job(SourceMessage(record.key, 0, record.internaldate, received_at), failure, reclaim=record)
    cycle.ledger.fail(Item(job, elapsed, reason=NOT_THERE))
    return []


def _stay_in_doubt(cycle: CycleState, record: UidRecord, verdict: NothingYet | Undecided) -> None:
    cycle.tally.in_doubt += 1
    reason, remedy = "no copy in the destination so far", None
    if isinstance(verdict, Undecided):
        reason, remedy = verdict.reason, how_to_decide([record.key.uid])
    log_event(
        logger,
        logging.WARNING,
        "in_doubt",
        uidvalidity=record.key.uidvalidity,
        uid=record.key.uid,
        rfc822_sha256=record.rfc822_sha256,
        reason=reason,
        remedy=remedy,
    )


def _no_doubt(cycle: CycleState, key: MessageKey) -> None:
    if cycle.doubts is not None:
        cycle.doubts.pop(key, None)


def _log_settled(key: MessageKey, how: str) -> None:
    log_event(logger, logging.INFO, "in_doubt_settled", uidvalidity=key.uidvalidity, uid=key.uid, how=how)
