"""A world in which the engine runs: both mailboxes, the table and the clock in memory, and nothing left to chance.

One ``World`` outlives many runs. A run goes through the engine as it is; what it calls passes a
*place* before and after each effect, where a script may kill it, cut a connection, or let another
run have the world for a while. ``check`` is the invariant: each message once, nothing left to do.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from syncer import cycle_state
from syncer.adopt import Adoption, AdoptReport
from syncer.audit import Audit, AuditReport
from syncer.backfill import Backfill, BackfillReport
from syncer.cycle_state import EngineSettings, Summary
from syncer.decision import Doubts, Settlement, SettleReport, look_up
from syncer.errors import StateUnavailable
from syncer.lookback import LOOK_BACK_SECONDS
from syncer.model import (
    Claim,
    CommitResult,
    Decision,
    Failure,
    Forecast,
    Lease,
    MessageKey,
    Outcome,
    Reclaim,
    Side,
    Watermark,
    Write,
)
from syncer.model import Status as RecordStatus
from syncer.ports import Clock
from syncer.retry import Retry, RetryReport
from syncer.status import Status, gather
from syncer.sync_engine import SyncEngine
from syncer.uid_set import UidSet
from tests.memory_mailboxes import (
    Cut,
    DestinationServer,
    Hook,
    MemoryDestination,
    MemorySource,
    SourceServer,
    at_once,
    mail,
)
from tests.memory_state import MemoryState, MemoryTable

NOW: Final = 1_795_000_000.0
LEASE: Final = 300.0
SETTLE: Final = 600.0
HOUR: Final = 3600.0

SETTINGS: Final = EngineSettings(
    initial_sync="window",
    initial_since=0.0,
    resync_window_hours=24.0,
    max_message_bytes=100_000,
    max_attempts=5,
    in_doubt_settle_seconds=SETTLE,
    lease_seconds=LEASE,
    messages_per_second=0.0,
)


class Killed(BaseException):
    """The process is gone. Not an Exception, so that no handler outlives it. ``landing``: see ``Cut``."""

    def __init__(self, landing: float | None = None) -> None:
        super().__init__("killed")
        self.landing = landing


class VirtualTime:
    """A clock that passes when somebody waits."""

    def __init__(self) -> None:
        self.now = NOW

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def advance_to(self, moment: float) -> None:
        self.now = max(self.now, moment)


class Events:
    """The engine's queue of events, and what a run has under way: waiting for an event is what makes time pass.

    With ``delay`` each call takes as long as it says; calls of one line stay in order, lines overtake each other.
    """

    def __init__(self, time: VirtualTime, delay: Callable[[], float] | None) -> None:
        self._time = time
        self._delay = delay
        self._events: deque[Callable[[], None]] = deque()
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def line(self, delay: Callable[[], float] | None = None) -> Callable[[Callable[[], None]], None]:
        """Return a way to have calls done one after the other; ``delay``: slower than others."""
        delay = delay or self._delay
        if delay is None:
            return at_once
        free_at = 0.0

        def later(call: Callable[[], None]) -> None:
            nonlocal free_at
            free_at = max(free_at, self._time.now) + delay()
            heapq.heappush(self._under_way, (free_at, next(self._numbers), call))

        return later

    def put(self, event: Callable[[], None]) -> None:
        self._events.append(event)

    def empty(self) -> bool:
        return not self._events

    def get(self, *, timeout: float = 0.0) -> Callable[[], None]:
        deadline = self._time.now + timeout
        while not self._events:
            if not self._under_way or self._under_way[0][0] > deadline:
                self._time.advance_to(deadline)
                raise queue.Empty
            at, _, call = heapq.heappop(self._under_way)
            self._time.advance_to(at)
            call()
        return self._events.popleft()


class SplittingState(MemoryState):
    """Makes a commit in several transactions, as DynamoDBState does with a large one."""

    def __init__(self, table: MemoryTable, *, lease_seconds: float, most: int) -> None:
        super().__init__(table, lease_seconds=lease_seconds)
        self._most = most

    def commit(self, lease: Lease, watermark: Watermark, writes: Sequence[Write], now: float) -> CommitResult:
        batches = [writes[at : at + self._most] for at in range(0, len(writes), self._most)] or [[]]
        lost: dict[MessageKey, MessageKey | None] = {}
        for at, batch in enumerate(batches):
            unwritten = [_key_of(write) for later in batches[at + 1 :] for write in later]
            lost |= super().commit(lease, _with_open(watermark, unwritten), batch, now).lost
        return CommitResult(lost)


class World:
    """Both mailboxes, the table, the clock, and the runs among them."""

    def __init__(self, *, has_msgids: bool = True, most_writes: int | None = None, **settings: Any) -> None:
        """``settings`` are those of ``EngineSettings``; ``most_writes`` a transaction takes."""
        self.time = VirtualTime()
        self.settings = replace(SETTINGS, **settings)
        self.source = SourceServer(has_msgids=has_msgids, hook=self._pass)
        self.destination = DestinationServer(now=lambda: self.time.now, hook=self._pass)
        self.table = MemoryTable(hook=self._pass_store)
        self.wanted: Counter[bytes] = Counter()
        """What is to arrive, and how often."""
        self.places: list[tuple[str, str]] = []
        """Every place that was passed."""
        self.checked = True
        self.counts = True
        """Every record is of a message that was copied here: none was adopted, none was lost."""
        self.forecasts: Callable[[], Mapping[Side, Forecast]] = dict
        self.append_takes: float | None = None
        """Seconds, where it takes longer than everything else."""
        self._most_writes = most_writes
        self._runs = itertools.count(1)
        self._tokens = itertools.count(1)
        self._at_work = threading.local()
        self._seen = Watermark()

    # -- mail

    def deliver(self, name: str | bytes, *, ago: float = 60.0, wanted: bool = True) -> int:
        """A message arrived ``ago`` seconds before now; return its UID."""
        body = name if isinstance(name, bytes) else mail(name)
        if wanted:
            self.wanted[body] += 1
        return self.source.deliver(body, self.time.now - ago)

    def deliver_many(self, *names: str) -> list[int]:
        return [self.deliver(name) for name in names]

    def restore(self, uid: int) -> int:
        """The user archives a message and takes it back, or lets it snooze; return its new UID."""
        return self.source.put(self.source.take_out(uid))

    # -- runs

    def run(
        self,
        *,
        script: Hook | None = None,
        stop: Callable[[], Outcome | None] = lambda: None,
        delay: Callable[[], float] | None = None,
        dry: bool = False,
        skew: float = 0.0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Summary:
        """Run one cycle. ``script`` sees every place; Killed goes through. ``skew``: how wrong its clock is."""
        parts = self._parts(Events(self.time, delay), stop, skew, on_progress)
        engine = SyncEngine(parts, self.settings, f"run-{next(self._runs)}")
        with self._led_by(script):
            return engine.dry_run() if dry else engine.run()

    def audit(
        self,
        *,
        days: float = 7.0,
        repair: bool = False,
        script: Hook | None = None,
        stop: Callable[[], Outcome | None] = lambda: None,
    ) -> AuditReport:
        """Compare, and with ``repair`` leave what is missing open."""
        parts = self._parts(Events(self.time, None), stop, 0.0, None)
        with self._led_by(script):
            return Audit(parts, self.settings, f"run-{next(self._runs)}", days=days, repair=repair).run()

    def adopt(
        self,
        *,
        since: float = 0.0,
        script: Hook | None = None,
        stop: Callable[[], Outcome | None] = lambda: None,
    ) -> AdoptReport:
        """Rebuild the records."""
        self.counts = False
        parts = self._parts(Events(self.time, None), stop, 0.0, None)
        with self._led_by(script):
            return Adoption(parts, self.settings, f"run-{next(self._runs)}", since=since).run()

    def retry(self, *uids: int, script: Hook | None = None) -> RetryReport:
        """Make failed messages due."""
        parts = self._parts(Events(self.time, None), lambda: None, 0.0, None)
        with self._led_by(script):
            return Retry(parts, self.settings, f"run-{next(self._runs)}", uids=uids).run()

    def settle(
        self,
        *uids: int,
        decision: Decision,
        uidvalidity: int | None = None,
        script: Hook | None = None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> SettleReport:
        """A person decides what is in doubt; ``meanwhile`` is what happens between the look and the answer."""
        with self._led_by(script):
            doubts = self.doubts(*uids, uidvalidity=uidvalidity)
            meanwhile()
            parts = self._parts(Events(self.time, None), lambda: None, 0.0, None)
            return Settlement(parts, self.settings, f"run-{next(self._runs)}", doubts, decision).run()

    def doubts(self, *uids: int, uidvalidity: int | None = None) -> Doubts:
        """Look up what is in doubt."""
        return look_up(self._store(), uids, self.time.now, uidvalidity=uidvalidity)

    def backfill(
        self,
        *,
        ago: float,
        until_ago: float = -1.0,
        script: Hook | None = None,
        stop: Callable[[], Outcome | None] = lambda: None,
        pause: Callable[[float], bool] | None = None,
        dry: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> BackfillReport:
        """Copy what arrived from ``ago`` to ``until_ago`` seconds before now."""

        def wait(seconds: float) -> bool:
            self.later(seconds)
            return False

        parts = self._parts(Events(self.time, None), stop, 0.0, on_progress)
        work = Backfill(
            parts,
            self.settings,
            f"run-{next(self._runs)}",
            since=self.time.now - ago,
            until=self.time.now - until_ago,
            cycle=lambda told: self.run(script=script, stop=stop, on_progress=told),
            pause=pause or wait,
        )
        with self._led_by(script):
            return work.dry_run() if dry else work.run()

    def status(self) -> Status:
        """Look at the records."""
        return gather(self._store(), self.time.now)

    def lose_the_table(self) -> None:
        """Somebody deleted it, and made another."""
        self.table.watermark, self.table.owner = Watermark(), None
        for records in (self.table.records, self.table.failures, self.table.holders):
            records.clear()
        self._seen = Watermark()

    def later(self, seconds: float = LEASE + 1) -> World:
        """Let time pass: by default until the next schedule, when a dead run's lease has ended."""
        self.time.advance(seconds)
        self.destination.land()
        return self

    def run_until_quiet(self, cycles: int = 60, pause: float = LEASE + 1) -> list[Summary]:
        """Run cycles, a schedule apart, until nothing is open and nothing waits for another try."""
        done = []
        for _ in range(cycles):
            self.later(pause)
            done.append(self.run())
            left = self.table.watermark
            if done[-1].outcome is Outcome.OK and not left.open and not left.failing and self.destination.is_quiet:
                return done
        raise AssertionError(f"not quiet after {cycles} cycles: {done[-1]}, {self.table.watermark}")

    def let_a_day_pass(self) -> list[Summary]:
        """Run cycles eight hours apart, and what they leave open until it is settled."""
        done = []
        for _ in range(3):
            done += self.run_until_quiet(pause=LOOK_BACK_SECONDS)
        return done

    def calls(self, run: Callable[[], object]) -> list[str]:
        """Return the calls of the store and the mailboxes that ``run`` makes."""
        before = len(self.places)
        run()
        return [call for call, when in self.places[before:] if when == "before"]

    # -- what must hold

    def check(self) -> None:
        """Each wanted message arrived once, every record is settled, and a further cycle has nothing to do."""
        self._check_stored()
        self.check_settled()
        self._check_stored()

    def _check_stored(self) -> None:
        stored = self.destination.stored
        missing, surplus = subjects(self.wanted - stored), subjects(stored - self.wanted)
        if missing or surplus:
            raise AssertionError(f"missing {missing}, surplus {surplus}")

    def check_settled(self) -> None:
        self._end_look_back()
        left = self.table.watermark
        if self.counts:
            copies = [record for record in self.table.records.values() if record.duplicate_of is None]
            assert left.copied == len(copies) == sum(left.copied_days.values()), "each copy is counted once"
        assert {record.status for record in self.table.records.values()} <= {RecordStatus.DONE}
        assert all(key in self.table.records for key in self.table.holders.values())
        assert (left.open, left.failing) == ({}, {})
        assert left.last_uid == left.horizon
        self.later()
        assert self.calls(self.run) == IDLE
        assert self.table.watermark == replace(left, completed_at=self.time.now, not_before={})

    def _end_look_back(self) -> None:
        """Run what is due of a look-back by the next cycle: that one is not idle."""
        for _ in range(60):
            back = self.table.watermark.look_back
            if back is None:
                return
            if back.reached == back.once and self.time.now + LEASE + 1 - back.at < LOOK_BACK_SECONDS:
                return
            self.later(LEASE + 2).run()
        raise AssertionError("a look-back without an end")

    def _check_records(self) -> None:
        """Hold at every instant: no claim is out of sight, and what was settled stays settled."""
        now, seen = self.table.watermark, self._seen
        if now.uidvalidity == seen.uidvalidity:
            assert now.last_uid >= seen.last_uid
            assert now.horizon >= seen.horizon
        self._seen = now
        for key, record in self.table.records.items():
            if record.status is RecordStatus.PENDING:
                assert key.uid in now.open.get(key.uidvalidity, UidSet()), f"{key} is out of sight"

    # -- putting a run together

    def _parts(
        self,
        events: Events,
        stop: Callable[[], Outcome | None],
        skew: float,
        on_progress: Callable[[int, int], None] | None,
    ) -> cycle_state.World:
        def connect() -> MemorySource:
            return self.source.connect(events.line())

        def make_destination() -> MemoryDestination:
            seconds = self.append_takes
            return MemoryDestination(self.destination, events.line(None if seconds is None else lambda: seconds))

        return cycle_state.World(
            store=self._store(),
            open_source=connect,
            make_destination=make_destination,
            clock=Clock(now=lambda: self.time.now + skew, elapsed=lambda: self.time.now - NOW),
            new_token=lambda: f"token-{next(self._tokens)}",
            stop=stop,
            spawn_commit=_spawn(events.line()),
            spawn_confirm=_spawn(events.line()),
            on_progress=on_progress,
            new_queue=lambda: events,
            forecasts=self.forecasts,
        )

    def _store(self) -> MemoryState:
        if self._most_writes is None:
            return MemoryState(self.table, lease_seconds=self.settings.lease_seconds)
        return SplittingState(self.table, lease_seconds=self.settings.lease_seconds, most=self._most_writes)

    # -- places

    @contextmanager
    def _led_by(self, script: Hook | None) -> Iterator[None]:
        before = getattr(self._at_work, "script", None)
        self._at_work.script = script
        try:
            yield
        finally:
            self._at_work.script = before

    def _pass(self, call: str, when: str) -> None:
        self.places.append((call, when))
        script: Hook | None = getattr(self._at_work, "script", None)
        if script is not None:
            script(call, when)

    def _pass_store(self, call: str, when: str) -> None:
        if when == "after" and self.checked:
            self._check_records()
        try:
            self._pass(f"store.{call}", when)
        except Cut as cut:
            raise StateUnavailable(str(cut)) from None


IDLE: Final = ["store.take_lease", "source.connect", "source.open", "store.release"]


def subjects(bodies: Iterable[bytes]) -> list[str]:
    """Return messages by what tells them apart."""
    return sorted(body.partition(b"Subject: about ")[2].decode() for body in bodies)


def strike_at(place: int, blow: Callable[[], None], then: Hook | None = None) -> Hook:
    """Return a script that strikes at one place, counted from 0, and leaves the others to ``then``."""
    passed = itertools.count()

    def script(call: str, when: str) -> None:
        if next(passed) == place:
            blow()
        elif then is not None:
            then(call, when)

    return script


def strike_on(wanted: str, when_wanted: str, blow: Callable[[], None], *, nth: int = 1) -> Hook:
    """Return a script that strikes at the ``nth`` passing of a place, by its name."""
    passed = itertools.count(1)

    def script(call: str, when: str) -> None:
        if (call, when) == (wanted, when_wanted) and next(passed) == nth:
            blow()

    return script


def die() -> None:
    raise Killed


def cut() -> None:
    raise Cut


def cut_and_land(seconds: float) -> Callable[[], None]:
    """The connection ends, and what was under way arrives later all the same."""

    def blow() -> None:
        raise Cut(landing=seconds)

    return blow


def _spawn(later: Callable[[Callable[[], None]], None]) -> Callable[[Callable[[], object]], Future[object]]:
    def spawn(call: Callable[[], object]) -> Future[object]:
        future: Future[object] = Future()

        def do() -> None:
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - like an Executor: what it is goes to who asked
                future.set_exception(error)
            else:
                future.set_result(result)

        later(do)
        return future

    return spawn


def _key_of(write: Write) -> MessageKey:
    return write.record.key if isinstance(write, (Claim, Reclaim, Failure)) else write.key


def _with_open(watermark: Watermark, unwritten: Sequence[MessageKey]) -> Watermark:
    more = dict(watermark.open)
    for key in unwritten:
        more[key.uidvalidity] = more.get(key.uidvalidity, UidSet()) | UidSet([key.uid])
    return replace(watermark, open=more)
