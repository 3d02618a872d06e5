"""Many messages at once through fetch, claim, APPEND and confirm, in bounded memory.

One coordinator (the caller's thread) owns all decisions; the connections and the store work beside
it and report back through one queue of events. So the stages overlap, and nothing here needs a lock.

    todo --fetch--> ready --commit(claims)--> appending --tagged OK--> copied --confirm--> settled
                                                 |-- NO/BAD --> refused --commit(failures)--> failed
                                                 '-- no answer --> stays claimed: in doubt

What a crash leaves behind after each arrow: after fetch nothing; after the commit a PENDING record
that the watermark of the same transaction names as open; after the APPEND the same, and a copy that
a look will find; after the confirm nothing to do. Bodies are held from fetch to the end of the
APPEND and counted against ``WINDOW_OCTETS``.
"""

from __future__ import annotations

import logging
import queue
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from syncer.errors import (
    LeaseLost,
    MessageRefused,
    NotDelivered,
    NotPermitted,
    OutcomeUnknown,
    SideError,
    StateUnavailable,
    SyncError,
    Unavailable,
)
from syncer.fingerprint import fingerprint, rfc822_sha256
from syncer.lease_keeper import LeaseKeeper
from syncer.logging_utils import log_event
from syncer.model import (
    Claim,
    CommitResult,
    Confirmation,
    CopyUid,
    Duplicate,
    FailRecord,
    Failure,
    Fence,
    Identity,
    MessageKey,
    Reclaim,
    Side,
    SourceMessage,
    Status,
    UidRecord,
    Unclaim,
    Write,
)
from syncer.pace import Pace
from syncer.ports import Clock, Destination, Source, Spawn, StopSignal, Store
from syncer.progress import Progress
from syncer.sync_plan import SUSPICIOUS_REFUSALS, Blame, blame, next_try

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

WINDOW_OCTETS: Final = 24 << 20
"""Octets of message bodies held at once; one message is always let through, however large."""
WINDOW_MESSAGES: Final = 128
MAX_WRITES: Final = 33
"""Writes in one commit: each is at most three of the hundred actions that a transaction may have."""
MAX_CONFIRMATIONS: Final = 50
_REFILL: Final = 0.75
_TICK: Final = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """One message to copy."""

    message: SourceMessage
    failure: FailRecord | None = None
    """Earlier tries failed."""
    reclaim: UidRecord | None = None
    """Append again under this claim: its copy surely is not there."""


@dataclass(slots=True)
class Tally:
    """What happened in a cycle so far."""

    listed: int = 0
    copied: int = 0
    duplicates: int = 0
    failed: int = 0
    given_up: int = 0
    in_doubt: int = 0
    backlog: int = 0
    octets: int = 0
    unlisted: int = 0
    """UIDs of the source that were not listed yet."""


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """What the flow has to know of the configuration."""

    run_id: str
    max_attempts: int
    messages_per_second: float
    """0: no limit."""


@dataclass(frozen=True, slots=True)
class FlowParts:
    """What the flow works with."""

    source: Source
    destination: Destination
    store: Store
    keeper: LeaseKeeper
    progress: Progress
    tally: Tally
    clock: Clock
    new_token: Callable[[], str]
    stop: StopSignal
    spawn_commit: Spawn
    spawn_confirm: Spawn
    on_progress: Callable[[int, int], None] | None = None
    """Told after every message: how many were copied, and how many are left as far as is known."""


@dataclass(slots=True, eq=False)
class _Item:
    """A message on its way."""

    job: Job
    started: float
    body: bytes | bytearray = b""
    sha256: str = ""
    record: UidRecord | None = None
    copy: CopyUid | None = None
    reason: str = ""

    @property
    def key(self) -> MessageKey:
        return self.job.message.key


@dataclass(slots=True)
class _Suspects:
    """Refusals of one side, until it is known whose fault they are."""

    items: list[_Item] = field(default_factory=list)
    successes: int = 0


class CopyFlow:
    """Copies what it is given; ``fatal`` tells what ended it early."""

    def __init__(self, parts: FlowParts, settings: FlowSettings) -> None:
        """Begin with nothing to do."""
        self._parts = parts
        self._settings = settings
        self.fence: Fence | None = None
        """The destination's UIDVALIDITY and UIDNEXT; to be set before anything is copied."""
        self._pace = Pace(settings.messages_per_second, parts.clock.elapsed)
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._todo: deque[Job] = deque()
        self._fetching: set[_Item] = set()
        self._ready: deque[_Item] = deque()
        self._appending: set[_Item] = set()
        self._copied: list[_Item] = []
        self._writes: deque[tuple[Write, Callable[[], None]]] = deque()
        self._committing = False
        self._confirming = False
        self._renewing = False
        self._octets = 0
        self._not_permitted = 0
        self._identities: dict[Identity, MessageKey] = {}
        self._twins: list[tuple[MessageKey, Identity]] = []
        self._done: set[MessageKey] = set()
        self._refused = {Side.SOURCE: _Suspects(), Side.DESTINATION: _Suspects()}
        self.fatal: SyncError | None = None
        self.refused_everything = False
        """The destination answered, and took no message at all."""

    # -- from outside

    def run(self, jobs: Iterable[Job]) -> None:
        """Copy ``jobs`` in order, as far as nothing forbids it; then ``fatal`` says what did."""
        self._todo.extend(jobs)
        self._turn()
        for side in (Side.SOURCE, Side.DESTINATION):
            self._judge_at_the_end(side)
        self._settle_twins()
        self._turn()
        self._parts.tally.in_doubt += len(self._copied)  # copied, and DynamoDB could not be told

    @property
    def unfinished(self) -> bool:
        """Tell whether a stop left messages that were not begun."""
        return bool(self._todo or self._fetching or self._ready)

    def duplicate(self, key: MessageKey, identity: Identity, duplicate_of: MessageKey) -> None:
        """Record that a message needs no copy, with the next commit."""
        now = self._parts.clock.now()
        self._writes.append((Duplicate(key, identity, duplicate_of, now), partial(self._parts.progress.settle, key)))
        self._parts.tally.duplicates += 1
        log_event(
            logger,
            logging.INFO,
            "duplicate_skipped",
            uidvalidity=key.uidvalidity,
            uid=key.uid,
            duplicate_of=str(duplicate_of),
        )

    def fail(self, job: Job, reason: str, *, unclaim: Unclaim | None = None, for_ever: bool = False) -> None:
        """Record that a message could not be copied, with the next commit."""
        self._fail(_Item(job, self._parts.clock.elapsed(), reason=reason), unclaim=unclaim, for_ever=for_ever)

    def unclaim(self, record: UidRecord, then: Callable[[], None]) -> None:
        """Give a claim back with the next commit; ``then`` is called with it."""
        self._writes.append((Unclaim(record.key, record.attempt, record.identity), then))

    # -- the coordinator's loop

    def _turn(self) -> None:
        """Go round until nothing is left to start and nothing is under way."""
        while True:
            self._start()
            if not self._under_way():
                return
            self._take_events()

    def _start(self) -> None:
        if not self._stopping():
            self._start_fetches()
        self._start_commit()
        self._start_confirm()
        self._start_renewal()

    def _stopping(self) -> bool:
        """Tell whether nothing new may be started; what is in flight ends in good order."""
        if self.fatal is not None or self._parts.stop() is not None:
            return True
        suspects = self._refused[Side.DESTINATION]
        return len(suspects.items) >= SUSPICIOUS_REFUSALS and not suspects.successes

    def _under_way(self) -> bool:
        if self._appending or self._committing or self._confirming or self._renewing:
            return True
        if (self._copied and self._can_confirm()) or (self._writes and self._can_commit()):
            return True
        return not self._stopping() and bool(self._todo or self._fetching or self._ready)

    def _can_commit(self) -> bool:
        """Tell whether records may be written: DynamoDB answers, and the lease is ours."""
        return self.fatal is None or isinstance(self.fatal, SideError)

    def _can_confirm(self) -> bool:
        """Tell whether copies may be confirmed: that is a fact, and needs no lease."""
        return not isinstance(self.fatal, StateUnavailable)

    def _take_events(self) -> None:
        try:
            event = self._events.get(timeout=max(min(_TICK, self._pace.wait()) if self._ready else _TICK, 0.001))
        except queue.Empty:
            return
        event()
        while not self._events.empty():
            self._events.get()()

    def _call(self, spawn: Spawn, call: Callable[[], object], then: Callable[[Future[object]], None]) -> None:
        spawn(call).add_done_callback(lambda done: self._events.put(partial(then, done)))

    def _report(self, then: Callable[[_Item, Future[_T]], None], item: _Item, done: Future[_T]) -> None:
        """Hand a connection's answer over to the coordinator; called in the connection's thread."""
        self._events.put(partial(then, item, done))

    def _end_with(self, error: SyncError) -> None:
        """Note what ends the flow; the first cause counts, unless the records are what fails."""
        if self.fatal is None or (isinstance(self.fatal, SideError) and not isinstance(error, SideError)):
            self.fatal = error

    # -- fetch

    def _start_fetches(self) -> None:
        held = len(self._fetching) + len(self._ready) + len(self._appending)
        if held > WINDOW_MESSAGES * _REFILL or (held and self._octets > WINDOW_OCTETS * _REFILL):
            return  # wait until a flight of several is worth a command
        items: list[_Item] = []
        while self._todo and held < WINDOW_MESSAGES:
            size = self._todo[0].message.size
            if held and self._octets + size > WINDOW_OCTETS:
                break
            items.append(_Item(self._todo.popleft(), self._parts.clock.elapsed()))
            self._octets += size
            held += 1
        self._fetch(items)

    def _fetch(self, items: Sequence[_Item]) -> None:
        if not items:
            return
        self._fetching.update(items)
        futures = self._parts.source.fetch([item.job.message for item in items])
        for item, future in zip(items, futures, strict=True):
            future.add_done_callback(partial(self._report, self._fetched, item))

    def _fetched(self, item: _Item, done: Future[bytes | bytearray]) -> None:
        self._fetching.discard(item)
        try:
            body = done.result()
        except MessageRefused as refused:
            self._let_go(item)
            item.reason = f"the source does not serve it: {refused}"
            self._suspect(Side.SOURCE, item)
            return
        except SyncError as error:
            self._let_go(item)
            self._end_with(error)
            return
        message = item.job.message
        sha256 = rfc822_sha256(body)
        if len(body) != message.size and item.sha256 != sha256:
            # Announced and served sizes differ: a body cut short, or a server whose RFC822.SIZE is
            # an estimate. The same bytes twice are what it serves.
            item.sha256 = sha256
            self._fetch([item])
            return
        item.sha256 = sha256
        self._succeed(Side.SOURCE)
        if not body:
            self._let_go(item)
            item.reason = "the message is empty"
            self._fail(item, for_ever=True)
            return
        self._octets += len(body) - message.size
        item.body = body
        self._make_ready(item, Identity(message.gmail_msgid or sha256))

    def _make_ready(self, item: _Item, identity: Identity) -> None:
        message = item.job.message
        if self._identities.setdefault(identity, item.key) != item.key:
            self._let_go(item)
            self._twins.append((item.key, identity))
            return
        item.record = UidRecord(
            key=item.key,
            status=Status.PENDING,
            identity=identity,
            run_id=self._settings.run_id,
            fingerprint=fingerprint(item.body, message.received_at),
            internaldate=message.internaldate,
            rfc822_sha256=item.sha256,
        )
        self._ready.append(item)

    def _let_go(self, item: _Item) -> None:
        """Free what an item holds in memory."""
        self._octets -= len(item.body) or item.job.message.size
        item.body = b""

    # -- commit: claims, and everything else that is written under the lease

    def _start_commit(self) -> None:
        if self._committing or not self._can_commit():
            return
        writes: list[Write] = []
        while self._writes and len(writes) < MAX_WRITES:
            write, apply = self._writes.popleft()
            apply()
            writes.append(write)
        claimed: list[_Item] = []
        if not self._stopping():
            for _ in range(self._pace.take(min(len(self._ready), MAX_WRITES - len(writes)))):
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

    def _claim(self, item: _Item) -> Claim | Reclaim:
        if item.record is None or self.fence is None:
            raise AssertionError("claimed before it was fetched, or before the destination was opened")
        item.record = replace(
            item.record, attempt=self._parts.new_token(), claimed_at=self._parts.clock.now(), fence=self.fence
        )
        self._parts.progress.begin(item.key, self.fence)
        old = item.job.reclaim
        return Claim(item.record) if old is None else Reclaim(item.record, old.attempt)

    def _committed(self, claimed: Sequence[_Item], done: Future[object]) -> None:
        self._committing = False
        try:
            result = done.result()
        except SyncError as error:
            for item in claimed:
                self._let_go(item)
            self._end_with(error)
            return
        if not isinstance(result, CommitResult):
            raise TypeError("a commit gives a CommitResult")
        for item in claimed:
            if item.key in result.lost:
                self._lost(item, result.lost[item.key])
            else:
                self._append(item)

    def _lost(self, item: _Item, holder: MessageKey | None) -> None:
        """Deal with a claim that another record was in the way of."""
        self._let_go(item)
        self._parts.progress.unclaim(item.key)
        record = item.record
        if record is None or holder is None:
            return  # it stays open: the next cycle reads what is there
        try:
            held = self._parts.store.load([holder], []).records.get(holder)
        except SyncError as error:
            self._end_with(error)
            return
        if held is None or (held.status is Status.DONE and holder != item.key):
            self.duplicate(item.key, record.identity, holder)  # only records that are DONE expire
        elif held.status is Status.DONE:
            self._parts.progress.settle(item.key)

    # -- append

    def _append(self, item: _Item) -> None:
        self._appending.add(item)
        future = self._parts.destination.append(item.job.message.internaldate, item.body, self._parts.keeper.permit)
        future.add_done_callback(partial(self._report, self._appended, item))

    def _appended(self, item: _Item, done: Future[CopyUid | None]) -> None:
        self._appending.discard(item)
        item_octets = len(item.body)
        self._let_go(item)
        try:
            item.copy = done.result()
        except MessageRefused as refused:
            item.reason = f"refused: {refused}"
            self._suspect(Side.DESTINATION, item)
        except OutcomeUnknown as unknown:
            self._parts.tally.in_doubt += 1
            self._log(item, logging.WARNING, "in_doubt", item_octets, reason=str(unknown))
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
            self._parts.tally.octets += item_octets
            if item.copy is not None:
                self._parts.progress.own(item.copy)
                self._raise_fence(item.copy)
            self._succeed(Side.DESTINATION)
            self._copied.append(item)

    def _raise_fence(self, copy: CopyUid) -> None:
        """What is appended from now on gets a higher UID than the copy just made (RFC 3501 section 2.3.1.1)."""
        if self.fence is None or copy.uidvalidity != self.fence.uidvalidity or copy.uid >= self.fence.uidnext:
            self.fence = Fence(copy.uidvalidity, copy.uid + 1)

    def _try_under_a_new_lease(self, item: _Item) -> None:
        """Give the claim back and begin again: the commits renew the lease, or find that it is lost."""
        self._give_back(item)
        self._not_permitted += 1
        if self._not_permitted > WINDOW_MESSAGES:
            self._end_with(LeaseLost("the lease is too short for this machine: raise LEASE_SECONDS"))
        self._todo.appendleft(item.job)

    def _give_back(self, item: _Item) -> None:
        """Undo a claim whose message surely did not arrive: it stays open and is blamed for nothing."""
        if item.record is not None:
            self.unclaim(item.record, partial(self._parts.progress.unclaim, item.key))

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

    def _confirmed(self, batch: Sequence[_Item], done: Future[object]) -> None:
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
                self._log(item, logging.ERROR, "in_doubt", 0, reason="another run took the claim over")
                continue
            self._parts.progress.settle(item.key)
            self._done.add(item.key)
            self._parts.tally.copied += 1
            self._log(item, logging.INFO, "message_copied", item.job.message.size)
            if self._parts.on_progress is not None:
                left = len(self._todo) + len(self._fetching) + len(self._ready) + len(self._appending)
                self._parts.on_progress(self._parts.tally.copied, left + self._parts.tally.unlisted)

    # -- the lease

    def _start_renewal(self) -> None:
        """Renew the lease where a large message keeps everything else waiting."""
        if self._renewing or self._committing or not self._can_commit() or not self._parts.keeper.is_due:
            return
        self._renewing = True
        self._call(self._parts.spawn_commit, self._parts.keeper.renew, self._renewed)

    def _renewed(self, done: Future[object]) -> None:
        self._renewing = False
        error = done.exception()
        if isinstance(error, SyncError):
            self._end_with(error)
        elif error is not None:
            raise error

    # -- refusals

    def _succeed(self, side: Side) -> None:
        suspects = self._refused[side]
        suspects.successes += 1
        self._judge(suspects)

    def _suspect(self, side: Side, item: _Item) -> None:
        suspects = self._refused[side]
        suspects.items.append(item)
        self._judge(suspects)

    def _judge(self, suspects: _Suspects) -> None:
        if blame(len(suspects.items), suspects.successes) is Blame.MESSAGES:
            self._blame(suspects)

    def _judge_at_the_end(self, side: Side) -> None:
        suspects = self._refused[side]
        if not suspects.items or not self._can_commit():
            return
        verdict = blame(len(suspects.items), suspects.successes)
        if verdict is Blame.ASK and self.fatal is None:
            try:
                (self._parts.source if side is Side.SOURCE else self._parts.destination).probe()
            except SideError as error:
                self._end_with(error)
            else:
                self._blame(suspects)
                return
        for item in suspects.items:
            self._give_back(item)
        if self.fatal is None:
            self.refused_everything = side is Side.DESTINATION
            self._end_with(Unavailable(side, f"it refused every message: {suspects.items[-1].reason}"))
        suspects.items.clear()

    def _blame(self, suspects: _Suspects) -> None:
        for item in suspects.items:
            record = item.record
            claim = Unclaim(record.key, record.attempt, record.identity) if record is not None else None
            self._fail(item, unclaim=claim)
        suspects.items.clear()

    def _fail(self, item: _Item, *, unclaim: Unclaim | None = None, for_ever: bool = False) -> None:
        now = self._parts.clock.now()
        tries = (item.job.failure.retry_count if item.job.failure is not None else 0) + 1
        again = None if for_ever else next_try(tries, now, self._settings.max_attempts)
        record = FailRecord(
            key=item.key,
            last_error=item.reason,
            retry_count=tries,
            updated_at=now,
            next_try_at=again or now,
            given_up=again is None,
            received_at=item.job.message.received_at,
        )
        self._writes.append((Failure(record, unclaim), partial(self._parts.progress.fail, item.key, again)))
        self._parts.tally.failed += 1
        self._log(item, logging.WARNING, "message_failed", item.job.message.size, reason=item.reason, retry_count=tries)
        if again is None:
            self._parts.tally.given_up += 1
            self._log(item, logging.ERROR, "message_given_up", item.job.message.size, reason=item.reason)

    # -- the rest

    def _settle_twins(self) -> None:
        """Record the copies of one identity that came in one cycle; where the first is not done, they wait."""
        for key, identity in self._twins:
            first = self._identities[identity]
            if first in self._done:
                self.duplicate(key, identity, first)
        self._twins.clear()

    def _log(self, item: _Item, level: int, event: str, octets: int, **fields: object) -> None:
        log_event(
            logger,
            level,
            event,
            uidvalidity=item.key.uidvalidity,
            uid=item.key.uid,
            bytes=octets,
            rfc822_sha256=item.sha256 or None,
            ms=round((self._parts.clock.elapsed() - item.started) * 1000),
            **fields,
        )
