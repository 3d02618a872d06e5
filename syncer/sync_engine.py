"""One cycle: what is done in which order, and what is left behind when it cannot be finished.

1. The lease, before anything else: the write that takes it proves that DynamoDB can be read and written.
2. The source: one listing of what is open and of what is new, and now and then of what was passed over
   of late. Nothing of either: done.
3. The destination: only if there is work for it. Messages in doubt first, then failed ones whose time
   has come, then new ones in UID order. The first bodies are on their way while it is being opened.
4. The watermark and the lease's end in one write, whatever happened in between.

The engine knows no library: mailboxes, store and clock come in through ``ports``. What is decided
about a message is decided in ``sync_plan``; how many travel at once is ``copy_flow``'s.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from syncer.body_window import CAUTIOUS_OCTETS, FIRST_OCTETS, DailyBudget
from syncer.copy_flow import CopyFlow, FlowParts, budget_is_spent
from syncer.copy_job import BROKE_OFF, Item, Job, Tally
from syncer.cycle_state import NOT_THERE, CycleState, EngineSettings, Summary, World
from syncer.dry_run import DryRun
from syncer.errors import (
    AuthError,
    ConfigError,
    LeaseHeld,
    LeaseLost,
    SideError,
    StateUnavailable,
    SyncError,
    Throttled,
)
from syncer.lease_keeper import LeaseKeeper
from syncer.ledger import Ledger
from syncer.listing import Listing
from syncer.logging_utils import log_event
from syncer.lookback import begin_look_back, find_missed
from syncer.model import Identity, MessageKey, Outcome, Side, SourceMessage
from syncer.outcomes import is_held, report
from syncer.pace import Pace, recovered, slowed_down
from syncer.ports import Destination, Source
from syncer.progress import Progress
from syncer.resync import meet_new_uidvalidity
from syncer.settling import settle_what_is_in_doubt
from syncer.sync_plan import SUSPICIOUS_REFUSALS, Step, mailbox_faults, outage_pause, plan_new, plan_open
from syncer.uid_set import UidSet

logger = logging.getLogger(__name__)

LATELY_SECONDS: Final = 900.0
"""A cycle that was completed so long ago, or more, tells nothing about the destination any more."""


class SyncEngine:
    """Runs one cycle."""

    def __init__(self, world: World, settings: EngineSettings, run_id: str) -> None:
        """``run_id`` is unique to this cycle: it owns the lease."""
        self._world = world
        self._settings = settings
        self._run_id = run_id

    # -- the cycle

    def run(self) -> Summary:
        """Do one cycle and return how it ended. Raises nothing that is not a bug."""
        clock = self._world.clock
        began = clock.elapsed()
        started_at = clock.now()
        log_event(logger, logging.INFO, "cycle_started")
        try:
            lease, found = self._world.store.take_lease(self._run_id, started_at)
        except LeaseHeld as held:
            log_event(logger, logging.INFO, "lease_held", until=held.until)
            return self._finish(Outcome.LEASE_HELD, began)
        except StateUnavailable as error:
            return self._finish(self._report(error), began)
        keeper = LeaseKeeper(self._world.store, lease, self._settings.lease_seconds, clock, began)
        progress, tally = Progress(found), Tally()
        ledger = Ledger(progress, tally, clock, self._settings.max_attempts)
        cycle = CycleState(started_at, found, progress, keeper, ledger, tally)
        remedy = ""
        faults: tuple[str, ...] = ()
        try:
            outcome = self._work(cycle)
        except ConfigError as error:
            outcome = Outcome.SOURCE_UNAVAILABLE if cycle.source is None else Outcome.DESTINATION_UNAVAILABLE
            faults = error.faults
            log_event(logger, logging.ERROR, "configuration_invalid", faults=list(faults))
        except SyncError as error:
            outcome = self._report(error, cycle)
            remedy = error.remedy if isinstance(error, AuthError) else ""
        except BaseException:
            self._close(cycle)
            raise
        if outcome is Outcome.OK:
            cycle.progress.complete(started_at)
        outcome = self._release(cycle, outcome)
        self._close(cycle)
        return self._finish(outcome, began, cycle, faults=faults, remedy=remedy)

    def dry_run(self) -> Summary:
        """Log what a cycle would copy; read only, everywhere."""
        clock = self._world.clock
        began = clock.elapsed()
        log_event(logger, logging.INFO, "cycle_started", dry_run=True)
        try:
            found = self._world.store.peek()
        except StateUnavailable as error:
            return self._finish(self._report(error), began)
        if is_held(found, Side.SOURCE, clock.now()):
            return self._finish(Outcome.THROTTLED, began, last_uid=found.last_uid)
        dry = DryRun(self._world, self._settings, found)
        try:
            source = self._world.open_source()
            try:
                dry.run(source)
            finally:
                source.close()
        except ConfigError as error:
            log_event(logger, logging.ERROR, "configuration_invalid", faults=list(error.faults))
            return self._finish(Outcome.SOURCE_UNAVAILABLE, began, faults=error.faults)
        except SyncError as error:
            return self._finish(self._report(error), began)
        return self._finish(Outcome.OK, began, tally=dry.tally, last_uid=dry.last_uid)

    # -- the work of a cycle

    def _work(self, cycle: CycleState) -> Outcome:
        if is_held(cycle.found, Side.SOURCE, cycle.started_at):
            return Outcome.THROTTLED
        self._read_open(cycle)
        self._check_mailboxes(cycle)
        is_backlog = cycle.found.uidvalidity is not None and cycle.found.completed_at is None
        if cycle.pending or cycle.failures or is_backlog:
            self._prepare_destination(cycle)
        source = cycle.source = self._world.open_source()
        progress, listing = cycle.progress, Listing(cycle.progress.horizon)
        known = progress.uidvalidity
        asked = again = UidSet()
        if known is not None:
            carried = {*cycle.pending, *cycle.failures, *cycle.reopened}
            asked = UidSet(key.uid for key in carried if key.uidvalidity == known) | listing.next_window()
            again = begin_look_back(progress, cycle.started_at)
        elif self._settings.initial_sync == "all":
            asked = listing.next_window()  # all is wanted, whatever its UIDVALIDITY turns out to be
        selected, listed = source.open(asked | again)
        if selected.uidvalidity != known:
            if self._settings.initial_sync == "all" and selected.exists and cycle.destination is None:
                self._prepare_destination(cycle)
            meet_new_uidvalidity(self._world, self._settings, cycle, source, selected)
            if known is not None or progress.horizon:
                # It was asked for by UIDs of another time, if at all: it is no unbroken run of the new ones.
                listed, asked = [], UidSet()
                listing = Listing(progress.horizon)
        listed = find_missed(self._world.store, cycle, source, listed)
        while True:
            listed = listing.complete(source, asked, listed, progress.horizon)
            cycle.tally.unlisted = max(0, selected.uidnext - 1 - listing.upto)
            progress.see(selected.uidnext, cycle.tally.unlisted)
            left = self._copy(cycle, source, listed)
            if left is not None:
                return left
            if listed:
                progress.pass_over(listed[-1].key.uid)
            if not cycle.tally.unlisted:
                return Outcome.OK
            asked = listing.next_window()
            listed = source.listing(asked)

    def _prepare_destination(self, cycle: CycleState) -> None:
        """Begin to connect to the destination, which surely will be needed, before it is known for what."""
        is_left_alone = cycle.found.not_before.get(Side.DESTINATION, 0.0) > cycle.started_at
        if not is_left_alone and (cycle.pending or self._budget(cycle).allows(1)):
            cycle.destination = self._world.make_destination()
            cycle.destination.prepare()

    def _check_mailboxes(self, cycle: CycleState) -> None:
        """Make sure that the records' UIDs are UIDs of the mailboxes that are set.

        Raises ConfigError: a mailbox was changed, and the records cannot follow.
        """
        now = self._settings
        # What a person said is not there need not be looked for where it was sent.
        in_doubt = sum(record.decision is None for record in cycle.pending.values())
        faults = mailbox_faults(cycle.found, now.source_mailbox, now.destination_mailbox, in_doubt)
        if faults:
            raise ConfigError(faults)
        cycle.progress.name_mailboxes(now.source_mailbox, now.destination_mailbox)

    def _read_open(self, cycle: CycleState) -> None:
        """Read the records of what earlier cycles left open, and of the failed messages whose time has come."""
        progress = cycle.progress
        due_at = cycle.found.next_try_at
        is_due = due_at is not None and due_at <= cycle.started_at
        keys = {*progress.open_keys, *(progress.failing_keys if is_due else ())}
        if not keys:
            cycle.doubts = {}
            return
        loaded = self._world.store.load(sorted(keys), [])
        cycle.doubts = {}
        for key in sorted(keys):
            record, failure = loaded.records.get(key), loaded.failures.get(key)
            step = plan_open(record, failure)
            if step is Step.LOOK and record is not None:
                progress.begin(key, record.fence)
                cycle.pending[key] = record
                cycle.doubts[key] = record.claimed_at
            elif step is Step.RETRY and failure is not None:
                progress.fail(key, failure.next_try_at)
                if failure.next_try_at <= cycle.started_at:
                    cycle.failures[key] = failure
            elif step is Step.COPY:
                cycle.reopened.add(key)
            else:
                if record is not None and record.copy is not None:
                    progress.own(record.copy)
                if record is not None and record.duplicate_of is None:
                    # Confirmed, and then the run ended: the watermark, which still names it, does not count it yet.
                    progress.count_copy(record.copied_at or cycle.started_at)
                progress.settle(key)
            if failure is not None and step is Step.LOOK:
                cycle.failures[key] = failure

    # -- copying

    def _copy(self, cycle: CycleState, source: Source, listed: Sequence[SourceMessage]) -> Outcome | None:
        """Deal with what is open (the first time) and with what was listed; None if all of it was dealt with."""
        flow = cycle.flow = cycle.flow or self._make_flow(cycle, source)
        there = {message.key: message for message in listed}
        new = [m for m in listed if m.key.uid > cycle.progress.horizon and cycle.progress.wanted(m)]
        cycle.progress.list_uids(message.key.uid for message in new)
        cycle.tally.listed += len(new)
        reopened = [there[key] for key in sorted(cycle.reopened) if key in there]
        jobs = _breaking_last(self._retries(cycle, there) + self._plan(cycle, [*reopened, *new]))
        left: Outcome | None = None
        if cycle.pending or jobs:
            left = self._why_not_now(cycle, jobs)
            if left is None:
                try:
                    expected = len(jobs)
                    if not cycle.pending and not cycle.found.outages:
                        flow.begin(jobs, _first_octets(cycle))
                        jobs = []
                    destination = self._open_destination(cycle, flow)
                    in_doubt = settle_what_is_in_doubt(self._world, self._settings, cycle, flow, destination, there)
                    jobs = _breaking_last(in_doubt + after_outage(jobs, cycle.found.outages))
                    destination.widen(len(in_doubt) + expected)
                except SideError as error:
                    flow.fatal = error  # what needs no destination is recorded all the same
        flow.run([] if left is not None else jobs)
        if flow.fatal is not None:
            self._count_break(cycle, flow)
            raise flow.fatal
        if left is None and (flow.unfinished or cycle.tally.unlisted):
            left = self._world.stop()
        return left

    def _count_break(self, cycle: CycleState, flow: CopyFlow) -> None:
        """Count a failed try of the message at which the connection ended, if the source answers a new one.

        Else one that always ends it would keep everything behind it from ever being fetched.
        """
        item = flow.broke_at
        if item is None or not isinstance(flow.fatal, SideError):
            return
        try:
            source = self._world.open_source()
            try:
                source.probe()
            finally:
                source.close()
        except SyncError:
            return  # the server or the network: no message is to blame
        item.reason = f"{BROKE_OFF}: {flow.fatal.reason}"
        cycle.ledger.fail(item)
        flow.run([])

    def _why_not_now(self, cycle: CycleState, jobs: Sequence[Job]) -> Outcome | None:
        """Return why the destination is not contacted although there is work for it; None: it is."""
        if is_held(cycle.found, Side.DESTINATION, cycle.started_at):
            return Outcome.THROTTLED
        if jobs and not cycle.pending and not self._budget(cycle).allows(jobs[0].message.size):
            return self._report(budget_is_spent(), cycle)
        return self._world.stop()

    def _make_flow(self, cycle: CycleState, source: Source) -> CopyFlow:
        world = self._world
        destination = cycle.destination = cycle.destination or world.make_destination()
        return CopyFlow(
            FlowParts(
                run_id=self._run_id,
                source=source,
                destination=destination,
                store=world.store,
                keeper=cycle.keeper,
                progress=cycle.progress,
                ledger=cycle.ledger,
                tally=cycle.tally,
                clock=world.clock,
                pace=self._pace(cycle),
                budget=self._budget(cycle),
                new_token=world.new_token,
                stop=world.stop,
                spawn_commit=world.spawn_commit,
                spawn_confirm=world.spawn_confirm,
                events=world.new_queue(),
                on_progress=world.on_progress,
            )
        )

    def _budget(self, cycle: CycleState) -> DailyBudget:
        return DailyBudget(self._settings.daily_bytes, cycle.progress, self._world.clock)

    def _pace(self, cycle: CycleState) -> Pace:
        """Return the pace that is set, or what is left of it after the destination found it too fast."""
        limit = self._settings.messages_per_second
        rate = recovered(limit, cycle.progress.slowed, self._world.clock.now())
        if rate is None:
            cycle.progress.slowed = None
        return Pace(limit, self._world.clock.elapsed, rate)

    @staticmethod
    def _open_destination(cycle: CycleState, flow: CopyFlow) -> Destination:
        if cycle.destination is None:
            raise AssertionError("a flow without a destination")
        if flow.fence is None:
            flow.wait_for(cycle.destination.prepare())
            flow.fence = cycle.destination.open()
        return cycle.destination

    def _retries(self, cycle: CycleState, there: Mapping[MessageKey, SourceMessage]) -> list[Job]:
        """Return failed messages whose time has come; one that left the source counts another failed try."""
        jobs = []
        elapsed = self._world.clock.elapsed()
        for key, failure in sorted(cycle.failures.items()):
            if key in cycle.pending:
                continue
            if key in there:
                job = Job(there[key], failure)
                step = plan_new(job.message, None, is_held=False, max_bytes=self._settings.max_message_bytes)
                if not self._is_unfit(cycle, job, step, elapsed):
                    jobs.append(job)
            else:
                absent = Job(SourceMessage(key, 0, "", failure.received_at), failure)
                cycle.ledger.fail(Item(absent, elapsed, reason=NOT_THERE))
        cycle.failures = {key: failure for key, failure in cycle.failures.items() if key in cycle.pending}
        for key in sorted(cycle.reopened.difference(there)):
            if key.uidvalidity != cycle.progress.uidvalidity:
                cycle.progress.drop(key)  # it is met under its new UID
            else:
                absent = Job(SourceMessage(key, 0, "", cycle.started_at))
                cycle.ledger.fail(Item(absent, elapsed, reason=NOT_THERE))
        cycle.reopened.clear()
        return jobs

    def _plan(self, cycle: CycleState, messages: Sequence[SourceMessage]) -> list[Job]:
        """Return what is to be copied; what is known, too large or empty is recorded."""
        identities = [Identity(message.gmail_msgid) for message in messages if message.gmail_msgid is not None]
        holders = self._world.store.load([], identities).holders if identities else {}
        records = self._world.store.load(sorted(set(holders.values())), []).records if holders else {}
        elapsed = self._world.clock.elapsed()
        jobs = []
        for message in messages:
            identity = Identity(message.gmail_msgid or "")
            holder = holders.get(identity)
            step = plan_new(
                message,
                records.get(holder) if holder is not None else None,
                is_held=holder is not None,
                max_bytes=self._settings.max_message_bytes,
            )
            if step is Step.DUPLICATE and holder is not None:
                cycle.ledger.duplicate(message.key, identity, holder)
            elif not self._is_unfit(cycle, Job(message), step, elapsed) and step is Step.COPY:
                jobs.append(Job(message))
        return jobs

    @staticmethod
    def _is_unfit(cycle: CycleState, job: Job, step: Step, elapsed: float) -> bool:
        """Tell whether no try can succeed; that is recorded then."""
        if step not in (Step.TOO_LARGE, Step.EMPTY):
            return False
        reason = "the message is empty"
        if step is Step.TOO_LARGE:
            reason = f"larger than MAX_MESSAGE_BYTES ({job.message.size} octets)"
        cycle.ledger.fail(Item(job, elapsed, reason=reason), for_ever=True)
        return True

    # -- the end of a cycle

    def _report(self, error: SyncError, cycle: CycleState | None = None) -> Outcome:
        """Log what ended a cycle early, keep what a side asked for, and return the outcome."""
        hold = cycle.progress.hold if cycle is not None else None
        now = self._world.clock.now()
        outcome = report(error, now, hold)
        if cycle is not None and isinstance(error, Throttled) and error.too_fast:
            limit = self._settings.messages_per_second
            cycle.progress.slowed = slowed_down(limit, cycle.progress.slowed, now)
        if outcome not in (Outcome.SOURCE_UNAVAILABLE, Outcome.DESTINATION_UNAVAILABLE):
            return outcome
        if cycle is not None and cycle.flow is not None and cycle.flow.refused_everything:
            pause = outage_pause(cycle.progress.count_outage())
            if pause:
                cycle.progress.hold(Side.DESTINATION, self._world.clock.now() + pause)
        return outcome

    @staticmethod
    def _close(cycle: CycleState) -> None:
        for mailbox in (cycle.source, cycle.destination):
            if mailbox is not None:
                mailbox.close()

    def _release(self, cycle: CycleState, outcome: Outcome) -> Outcome:
        """Write the watermark and let the lease go, if it still is ours and DynamoDB answers."""
        cycle.tally.backlog = cycle.progress.unsettled + cycle.tally.unlisted
        if outcome in (Outcome.STATE_UNAVAILABLE, Outcome.LEASE_HELD):
            return outcome
        now = self._world.clock.now()
        cycle.progress.foresee(self._world.forecasts(), now)
        try:
            cycle.keeper.release(cycle.progress.watermark(now))
        except (StateUnavailable, LeaseLost) as error:
            return self._report(error)
        return outcome

    def _finish(
        self,
        outcome: Outcome,
        began: float,
        cycle: CycleState | None = None,
        *,
        tally: Tally | None = None,
        last_uid: int = 0,
        faults: tuple[str, ...] = (),
        remedy: str = "",
    ) -> Summary:
        tally = tally or (cycle.tally if cycle is not None else Tally())
        forecasts = self._world.forecasts() or (cycle.found.tokens if cycle is not None else {})
        now = self._world.clock.now()
        days_left = {side: forecast.days_left(now) for side, forecast in forecasts.items()}
        summary = Summary(
            outcome=outcome,
            listed=tally.listed,
            copied=tally.copied,
            duplicates=tally.duplicates,
            failed=tally.failed,
            given_up=tally.given_up,
            in_doubt=tally.in_doubt,
            backlog=tally.backlog,
            octets=tally.octets,
            last_uid=cycle.progress.last_uid if cycle is not None else last_uid,
            duration_ms=round((self._world.clock.elapsed() - began) * 1000),
            lag_seconds=round(tally.lag_seconds) if tally.lag_seconds is not None else None,
            in_doubt_oldest_seconds=self._oldest_doubt(cycle),
            faults=faults,
            remedy=remedy,
            gmail_token_days_left=days_left.get(Side.SOURCE),
            outlook_token_days_left=days_left.get(Side.DESTINATION),
        )
        log_event(
            logger,
            logging.INFO,
            "cycle_finished",
            outcome=summary.outcome,
            listed=summary.listed,
            copied=summary.copied,
            duplicates=summary.duplicates,
            failed=summary.failed,
            given_up=summary.given_up,
            in_doubt=summary.in_doubt,
            backlog=summary.backlog,
            bytes=summary.octets,
            last_uid=summary.last_uid,
            duration_ms=summary.duration_ms,
            lag_seconds=summary.lag_seconds,
            in_doubt_oldest_seconds=summary.in_doubt_oldest_seconds,
            gmail_token_days_left=summary.gmail_token_days_left,
            outlook_token_days_left=summary.outlook_token_days_left,
        )
        return summary

    def _oldest_doubt(self, cycle: CycleState | None) -> int | None:
        if cycle is None or cycle.doubts is None:
            return None
        now = self._world.clock.now()
        return max(0, round(now - min(cycle.doubts.values(), default=now)))


def _first_octets(cycle: CycleState) -> int:
    """Return how much may be fetched before the destination is open.

    It is away for long at most once for all of that: a cycle that does not end well is none that was completed.
    """
    found = cycle.found
    is_first = found.uidvalidity is None
    is_lately_well = found.completed_at is not None and cycle.started_at - found.completed_at < LATELY_SECONDS
    return FIRST_OCTETS if is_first or is_lately_well else CAUTIOUS_OCTETS


def after_outage(jobs: list[Job], outages: int) -> list[Job]:
    """Return the order in which to try: after an outage, with others than those that were refused in it.

    Else a handful of messages that nobody takes, first in the queue, would pass for an outage for ever.
    """
    if not jobs or not outages:
        return jobs
    first = SUSPICIOUS_REFUSALS * outages % len(jobs)
    return jobs[first:] + jobs[:first]


def _breaking_last(jobs: list[Job]) -> list[Job]:
    """Return the same with those at the end that ended the connection before: nothing comes after them."""
    return sorted(jobs, key=lambda job: job.may_break)
