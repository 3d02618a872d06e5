"""Many messages at once through fetch, claim, APPEND and confirm, in bounded memory.

One coordinator (the caller's thread) owns all decisions; the connections and the store work beside
it and report back through one queue of events. So the stages overlap, and nothing here needs a lock.

    todo --fetch--> ready --commit(claims)--> appending --tagged OK--> copied --confirm--> settled
                                                 |-- NO/BAD --> refused --commit(failures)--> failed
                                                 '-- no answer --> stays claimed: in doubt

What a crash leaves behind after each arrow: after fetch nothing; after the commit a PENDING record
that the watermark of the same transaction names as open; after the APPEND the same, and a copy that
a look will find; after the confirm nothing to do.

The parts: ``BodyWindow`` fetches, ``Ledger`` keeps what is to be written, ``Refusals`` finds out who
is to blame, ``Likeness`` keeps apart what could be taken for each other.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty
from typing import Final, Protocol

from syncer.body_window import WINDOW_MESSAGES, BodyWindow, DailyBudget
from syncer.copy_job import Item, Job, Tally, log_item
from syncer.errors import (
    BrokenOff,
    LeaseLost,
    MessageRefused,
    NotDelivered,
    NotPermitted,
    OutcomeUnknown,
    SideError,
    StateUnavailable,
    SyncError,
    Throttled,
    Unavailable,
)
from syncer.fingerprint import fingerprint
from syncer.lease_keeper import LeaseKeeper
from syncer.ledger import Ledger
from syncer.likeness import Likeness
from syncer.model import (
    Claim,
    CommitResult,
    Confirmation,
    CopyUid,
    Fence,
    Identity,
    MessageKey,
    Reclaim,
    Side,
    Status,
    UidRecord,
    Write,
)
from syncer.pace import Pace
from syncer.ports import Clock, Destination, Source, Spawn, StopSignal, Store
from syncer.progress import Progress
from syncer.refusals import Refusals
from syncer.sync_plan import Blame

MAX_WRITES: Final = 33
"""Writes in one commit that are no claims: each is at most three of the hundred actions that a transaction may have."""
MAX_CLAIMS: Final = 49
"""In one commit, less what else is written: each is two of its actions, and the watermark is one."""
MAX_APPENDING: Final = 512
"""Claimed and not answered: that has to end before a cycle does, and is in doubt where a connection is cut."""
MAX_CONFIRMATIONS: Final = 100
MAX_EVENTS: Final = MAX_CLAIMS
"""Taken at a time, before the next commit may start: bodies that fill it, if they are there."""
_TICK: Final = 0.5


class EventQueue(Protocol):
    """Where the connections and the store report to the coordinator, from any thread; see ``queue.SimpleQueue``."""

    def put(self, item: Callable[[], None], /) -> None: ...
    def get(self, *, timeout: float) -> Callable[[], None]: ...
    def empty(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class FlowParts:
    """What the flow works with."""

    run_id: str
    source: Source
    destination: Destination
    store: Store
    keeper: LeaseKeeper
    progress: Progress
    ledger: Ledger
    tally: Tally
    clock: Clock
    pace: Pace
    budget: DailyBudget
    new_token: Callable[[], str]
    stop: StopSignal
    spawn_commit: Spawn
    spawn_confirm: Spawn
    events: EventQueue
    on_progress: Callable[[int, int], None] | None = None
    """Told after every message: how many were copied, and how many are left as far as is known."""


class CopyFlow:
    """Copies what it is given; ``fatal`` tells what ended it early."""

    def __init__(self, parts: FlowParts) -> None:
        """Begin with nothing to do."""
        self._parts = parts
        self.fence: Fence | None = None
        """The destination's UIDVALIDITY and UIDNEXT; to be set before anything is copied."""
        self.likeness = Likeness()
        self.fatal: SyncError | None = None
        self.refused_everything = False
        """The destination answered, and took no message at all."""
        self.broke_at: Item | None = None
        """At this message the connection to the source ended, and nothing else ended the flow."""
        self._bodies = BodyWindow(
            parts.source,
            parts.clock,
            parts.budget,
            parts.events.put,
            ahead=lambda: parts.pace.ahead,
            on_body=self._make_ready,
            on_refused=partial(self._suspect, Side.SOURCE),
            on_error=self._end_of_source,
        )
        self._refusals = {Side.SOURCE: Refusals(), Side.DESTINATION: Refusals()}
        self._ready: deque[Item] = deque()
        self._appending: set[Item] = set()
        self._copied: list[Item] = []
        self._committing = False
        self._confirming = False
        self._renewing = False
        self._answers: deque[Callable[[], None]] = deque()
        """What the store and the destination said, and the coordinator has yet to hear."""
        self._not_permitted = 0

    # -- from outside

    def begin(self, jobs: Iterable[Job], most_octets: int) -> None:
        """Ask for the first bodies of what ``run`` is to copy: they come while the destination is being opened."""
        self._bodies.add(jobs)
        if not self._stopping():
            self._bodies.start(most_octets)

    def wait_for(self, opening: Future[Fence]) -> None:
        """Look at the bodies that come, until the destination is open, or will not be."""
        events = self._parts.events
        opening.add_done_callback(lambda _: events.put(self._hear_answers))
        while not opening.done():
            with suppress(Empty):
                events.get(timeout=_TICK)()

    def run(self, jobs: Iterable[Job]) -> None:
        """Copy ``jobs`` in order, as far as nothing forbids it; then ``fatal`` says what did.

        May be called again, with the next jobs of the same cycle.
        """
        self._bodies.add(jobs)
        self._turn()
        while not self._stopping() and (readmitted := self.likeness.readmitted()):
            self._bodies.add(readmitted)
            self._turn()
        for side in Side:
            self._judge_at_the_end(side)
        if self._bodies.budget_is_spent:
            self._end_with(budget_is_spent())
        for key, identity, first in self.likeness.settled_twins():
            self._parts.ledger.duplicate(key, identity, first)
        self._turn()
        self._parts.tally.in_doubt += len(self._copied)  # copied, and DynamoDB could not be told

    @property
    def unfinished(self) -> bool:
        """Tell whether a stop left messages that were not begun."""
        return bool(len(self._bodies) or self._ready)

    # -- the coordinator's loop

    def _turn(self) -> None:
        """Go round until nothing is left to start and nothing is under way."""
        while True:
            if not self._stopping():
                self._bodies.start()
            self._start_commit()
            self._start_confirm()
            self._start_renewal()
            if not self._under_way():
                return
            self._take_events()

    def _stopping(self) -> bool:
        """Tell whether nothing new may be started; what is in flight ends in good order."""
        return (
            self.fatal is not None
            or self._refusals[Side.DESTINATION].look_like_an_outage
            or self._parts.stop() is not None
        )

    def _under_way(self) -> bool:
        if self._appending or self._committing or self._confirming or self._renewing:
            return True
        if (self._copied and self._can_confirm()) or (len(self._parts.ledger) and self._can_commit()):
            return True
        return bool(self._ready or self._bodies.has_more) and not self._stopping()

    def _can_commit(self) -> bool:
        """Tell whether records may be written: DynamoDB answers, and the lease is ours."""
        return self.fatal is None or isinstance(self.fatal, SideError)

    def _can_confirm(self) -> bool:
        """Tell whether copies may be confirmed: that is a fact, and needs no lease."""
        return not isinstance(self.fatal, StateUnavailable)

    def _take_events(self) -> None:
        events = self._parts.events
        timeout = self._until_the_pace_allows()
        for _ in range(MAX_EVENTS):
            try:
                event = events.get(timeout=timeout)
            except Empty:
                return
            self._hear_answers()
            event()
            if events.empty():
                return

    def _until_the_pace_allows(self) -> float:
        """Return after how many seconds a commit may start, without anything happening before that."""
        if not self._ready or self._committing or len(self._appending) >= MAX_APPENDING:
            return _TICK
        return max(min(_TICK, self._parts.pace.wait()), 0.001)

    def _call(self, spawn: Spawn, call: Callable[[], object], then: Callable[[Future[object]], None]) -> None:
        spawn(call).add_done_callback(lambda done: self._report(partial(then, done)))

    def _report(self, answer: Callable[[], None]) -> None:
        """Have the coordinator hear an answer; called in the thread it came to."""
        self._answers.append(answer)
        self._parts.events.put(self._hear_answers)

    def _hear_answers(self) -> None:
        """Hear of what was done before what has arrived to be done: the next transaction and a refusal cannot wait."""
        while self._answers:
            self._answers.popleft()()

    def _end_with(self, error: SyncError) -> None:
        """Note what ends the flow; the first cause counts, unless the records are what fails."""
        if self.fatal is None or (isinstance(self.fatal, SideError) and not isinstance(error, SideError)):
            self.fatal = error

    def _end_of_source(self, item: Item, error: SyncError) -> None:
        if self.fatal is None and isinstance(error, BrokenOff):
            self.broke_at = item
        self._end_with(error)

    # -- fetched: what is it, and may it be claimed now?

    def _make_ready(self, item: Item) -> None:
        self._blame(self._refusals[Side.SOURCE].succeed())
        if not item.body:
            self._bodies.let_go(item)
            item.reason = "the message is empty"
            self._parts.ledger.fail(item, for_ever=True)
            return
        message, old = item.job.message, item.job.reclaim
        item.record = UidRecord(
            key=item.key,
            status=Status.PENDING,
            # A claim that is taken up again keeps its identity: MSG# names it, whatever is served by now.
            identity=Identity(message.gmail_msgid or item.sha256) if old is None else old.identity,
            run_id=self._parts.run_id,
            fingerprint=fingerprint(item.body, message.received_at),
            internaldate=message.internaldate,
            rfc822_sha256=item.sha256,
        )
        if self.likeness.admit(item):
            self._ready.append(item)
        else:
            self._bodies.let_go(item)

    # -- commit: claims, and everything else that is written under the lease

    def _start_commit(self) -> None:
        if self._committing or not self._can_commit():
            return
        writes = self._parts.ledger.take(MAX_WRITES)
        claimed: list[Item] = []
        if not self._stopping():
            room = min(MAX_CLAIMS - (3 * len(writes) + 1) // 2, MAX_APPENDING - len(self._appending))
            for _ in range(self._parts.pace.take(max(0, min(len(self._ready), room)))):
                item = self._ready.popleft()
                claimed.append(item)
                writes.append(self._claim(item))
        if not writes:
            return
        self._committing = True
        watermark = self._parts.progress.watermark(self._parts.clock.now())
        self._call(
            self._parts.spawn_commit,
            lambda: self._parts.keeper.commit(watermark, writes),
            partial(self._committed, claimed),
        )

    def _claim(self, item: Item) -> Write:
        if item.record is None or self.fence is None:
            raise AssertionError("claimed before it was fetched, or before the destination was opened")
        now = self._parts.clock.now()
        item.record = replace(item.record, attempt=self._parts.new_token(), claimed_at=now, fence=self.fence)
        self._parts.progress.begin(item.key, self.fence)
        old = item.job.reclaim
        return Claim(item.record) if old is None else Reclaim(item.record, old.attempt)

    def _committed(self, claimed: Sequence[Item], done: Future[object]) -> None:
        self._committing = False
        try:
            result = done.result()
        except SyncError as error:
            for item in claimed:
                self._bodies.let_go(item)
            self._end_with(error)
            return
        if not isinstance(result, CommitResult):
            raise TypeError("a commit gives a CommitResult")
        for item in claimed:
            if item.key in result.lost:
                self._lost(item, result.lost[item.key])
            elif self._destination_is_shut():
                self._bodies.let_go(item)
                self._give_back(item)
                self._bodies.add_first(item.job)
            else:
                self._append(item)

    def _lost(self, item: Item, holder: MessageKey | None) -> None:
        """Deal with a claim that another record was in the way of."""
        self._bodies.let_go(item)
        self._parts.progress.unclaim(item.key)
        self.likeness.free(item)
        record = item.record
        if record is None or holder is None:
            return  # it stays open: the next cycle reads what is there
        try:
            held = self._parts.store.load([holder], []).records.get(holder)
        except SyncError as error:
            self._end_with(error)
            return
        if held is None:
            self._parts.ledger.duplicate(item.key, record.identity, holder)  # only records that are DONE expire
        elif held.status is Status.DONE and held.identity != record.identity:
            item.record = None  # the claim is not its own
            item.reason = "its UID was another message's before: the source uses a UIDVALIDITY again"
            self._parts.ledger.fail(item, for_ever=True)
        elif held.status is Status.DONE and holder == item.key:
            self._parts.progress.settle(item.key)
        elif held.status is Status.DONE:
            self._parts.ledger.duplicate(item.key, record.identity, holder)

    # -- append

    def _destination_is_shut(self) -> bool:
        """Tell whether an APPEND now would be refused for certain: it would only prolong a back-off (PROVIDERS 4.3)."""
        asked_to_stop = isinstance(self.fatal, SideError) and self.fatal.side is Side.DESTINATION
        return asked_to_stop or self._refusals[Side.DESTINATION].look_like_an_outage

    def _append(self, item: Item) -> None:
        self._appending.add(item)
        future = self._parts.destination.append(item.job.message.internaldate, item.body, self._parts.keeper.permit)
        future.add_done_callback(lambda done: self._report(partial(self._appended, item, done)))

    def _appended(self, item: Item, done: Future[CopyUid | None]) -> None:
        self._appending.discard(item)
        self._bodies.let_go(item)
        try:
            item.copy = done.result()
        except MessageRefused as refused:
            item.reason = f"refused: {refused}"
            self._suspect(Side.DESTINATION, item)
        except OutcomeUnknown as unknown:
            self._parts.tally.in_doubt += 1
            self._log(item, logging.WARNING, "in_doubt", reason=str(unknown))
            self._end_with(self._parts.destination.failure() or Unavailable(Side.DESTINATION, str(unknown)))
        except NotPermitted:
            self._try_under_a_new_lease(item)
        except NotDelivered as error:
            self._give_back(item)
            self._end_with(self._parts.destination.failure() or Unavailable(Side.DESTINATION, str(error)))
        except SideError as error:
            self._give_back(item)
            self._end_with(error)
        else:
            self._parts.tally.octets += item.octets
            if item.copy is not None:
                self._raise_fence(item.copy)
            self._parts.progress.end_outage()
            self._blame(self._refusals[Side.DESTINATION].succeed())
            self._copied.append(item)

    def _raise_fence(self, copy: CopyUid) -> None:
        """What is appended from now on gets a higher UID than the copy just made (RFC 3501 section 2.3.1.1)."""
        if self.fence is None or copy.uidvalidity != self.fence.uidvalidity or copy.uid >= self.fence.uidnext:
            self.fence = Fence(copy.uidvalidity, copy.uid + 1)

    def _try_under_a_new_lease(self, item: Item) -> None:
        """Give the claim back and begin again: the commits renew the lease, or find that it is lost."""
        self._give_back(item)
        self._not_permitted += 1
        if self._not_permitted > WINDOW_MESSAGES:
            self._end_with(LeaseLost("the lease is too short for this machine: raise LEASE_SECONDS"))
        self._bodies.add_first(item.job)

    def _give_back(self, item: Item) -> None:
        """Undo a claim whose message surely did not arrive: it stays open and is blamed for nothing."""
        self.likeness.free(item)
        if item.record is not None and item.claim is not None:
            self._parts.ledger.unclaim(item.claim, partial(self._parts.progress.unclaim, item.key))

    # -- confirm

    def _start_confirm(self) -> None:
        if self._confirming or not self._copied or not self._can_confirm():
            return
        batch, self._copied = self._copied[:MAX_CONFIRMATIONS], self._copied[MAX_CONFIRMATIONS:]
        now = self._parts.clock.now()
        confirmations = [
            Confirmation(item.key, item.record.attempt, now, item.copy, had_failed=item.job.failure is not None)
            for item in batch
            if item.record is not None
        ]
        self._confirming = True
        self._call(
            self._parts.spawn_confirm,
            lambda: self._parts.store.confirm(confirmations),
            partial(self._confirmed, batch),
        )

    def _confirmed(self, batch: Sequence[Item], done: Future[object]) -> None:
        self._confirming = False
        try:
            lost = done.result()
        except SyncError as error:
            # The claims stay, and the copies are there: the next cycle looks and finds them.
            self._parts.tally.in_doubt += len(batch)
            self._end_with(error)
            return
        if not isinstance(lost, frozenset):
            raise TypeError("confirm gives a frozenset")
        for item in batch:
            if item.key in lost:
                self._parts.tally.in_doubt += 1
                self._log(item, logging.ERROR, "in_doubt", reason="another run took the claim over")
                continue
            # Not before: a look for a claim that was not confirmed must find its own copy free.
            if item.copy is not None:
                self._parts.progress.own(item.copy)
            self._parts.progress.settle(item.key)
            self._parts.progress.count_copy(self._parts.clock.now())
            self.likeness.copied(item)
            self._parts.tally.copied += 1
            lag = max(0.0, self._parts.clock.now() - item.job.message.received_at)
            self._parts.tally.lag_seconds = max(lag, self._parts.tally.lag_seconds or 0.0)
            self._log(item, logging.INFO, "message_copied")
            if self._parts.on_progress is not None:
                left = len(self._bodies) + len(self._ready) + len(self._appending) + self._parts.tally.unlisted
                self._parts.on_progress(self._parts.tally.copied, left)

    # -- the lease

    def _start_renewal(self) -> None:
        """Renew the lease where a large message keeps everything else waiting."""
        if self._renewing or self._committing or not self._can_commit() or not self._parts.keeper.is_due:
            return
        self._renewing = True
        self._call(self._parts.spawn_commit, self._parts.keeper.renew, self._renewed)

    def _renewed(self, done: Future[object]) -> None:
        self._renewing = False
        try:
            done.result()
        except SyncError as error:
            self._end_with(error)

    # -- refusals

    def _suspect(self, side: Side, item: Item) -> None:
        self._blame(self._refusals[side].refuse(item))

    def _blame(self, items: Iterable[Item]) -> None:
        for item in items:
            self.likeness.free(item)
            self._parts.ledger.fail(item)

    def _judge_at_the_end(self, side: Side) -> None:
        """Find out about refusals of which nothing is known so far: nothing went through on this side."""
        refusals = self._refusals[side]
        if not self._can_commit():
            return
        if refusals.verdict is Blame.ASK and self.fatal is None:
            try:
                (self._parts.source if side is Side.SOURCE else self._parts.destination).probe()
            except SideError as error:
                self._end_with(error)
            else:
                self._blame(refusals.take())
        suspects = refusals.take()
        for item in suspects:
            self._give_back(item)
        if self.fatal is not None:
            return
        if suspects:
            self.refused_everything = side is Side.DESTINATION
            self._end_with(Unavailable(side, f"it refused every message: {suspects[-1].reason}"))
        elif side is Side.DESTINATION and refusals.look_like_an_outage:
            self._end_with(Unavailable(side, "it refused one message after the other"))

    def _log(self, item: Item, level: int, event: str, **fields: object) -> None:
        log_item(item, level, event, self._parts.clock.elapsed(), **fields)


def budget_is_spent() -> Throttled:
    """Return the error that ends a cycle which fetched all that may be fetched in a day."""
    return Throttled(
        Side.SOURCE,
        "GMAIL_DAILY_BYTES were fetched today, and the rest waits for tomorrow (UTC): raise it if that is too few",
        0.0,
    )
