"""The real parts over real sockets, in one process and a time of its own, to be struck at any call.

Real: the Runner with its threads, AccessTokens with a token file, both mailboxes over TLS, DynamoDBState
with boto3 over HTTP, the token refreshes over HTTPS. Around them FakeGmail, FakeOutlook, FakeDynamoDB and
the embedded authority. Only the clock is the test's.

A run that dies loses, at that instant, every connection and every way to anything outside: what it had
sent before has its effect, nothing after it has. That is what ``kill -9`` leaves behind.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

from syncer import access_tokens, config, cycle_state
from syncer.access_tokens import AccessTokens, Refresher
from syncer.cycle import Runner
from syncer.cycle_state import Summary
from syncer.decision import SettleReport
from syncer.demo.authority import Account, Authority
from syncer.demo.certificates import Certificates
from syncer.dynamodb_records import partition_key, uid_record_of, watermark_of
from syncer.dynamodb_state import DynamoDBState, create_table
from syncer.errors import LeaseHeld, StateUnavailable, Unavailable
from syncer.imap_session import Dialect, ImapSession
from syncer.model import Decision, Endpoint, Outcome, Side, Status, UidRecord, Watermark
from syncer.ports import Clock
from syncer.token_store import FileTokens
from syncer.tokens import Refreshed, SideTokens, Tokens
from tests.fakes.dynamodb import FakeDynamoDB, Tables
from tests.fakes.dynamodb_faults import Fault as RequestFault
from tests.fakes.dynamodb_faults import Late, LostReply, Reset
from tests.fakes.faults import Action, Close, CommitLate, FaultBook, LoseReply, Occurrence
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.world import LEASE, NOW, SETTLE, Killed, VirtualTime, subjects

GMAIL: Final = "mara@gmail.example"
OUTLOOK: Final = "mara@outlook.example"
TABLE: Final = "wire"
LATE: Final = LEASE + SETTLE - 10
"""Seconds until what was under way takes effect: one run has looked in vain, the look that decides is to come."""

NEVER: Final = float("inf")
T = TypeVar("T")


class Blow(Enum):
    """What happens to a run at one of its calls."""

    BEFORE = "dies before it"
    AFTER = "dies after it took effect"
    LOST = "loses its reply"
    LATE = "dies, and it takes effect later"


DEADLY: Final = frozenset({Blow.BEFORE, Blow.AFTER, Blow.LATE})


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One call of a run to the world outside."""

    cycle: int
    actor: str
    call: str
    nth: int
    """Of this cycle's calls of that kind to that actor."""

    def __str__(self) -> str:
        return f"cycle {self.cycle}, {self.actor}, {self.call} no. {self.nth}"


@dataclass(slots=True)
class Ground:
    """What plays stand on, one after the other: servers that are not worth making anew, and the SDK's client."""

    authority: Authority
    dynamodb: FakeDynamoDB
    client: Any
    certificates: Certificates
    accounts: Mapping[Side, Account]
    config: config.Config
    time: VirtualTime
    play: WireWorld | None = None


class Watched(FaultBook):
    """A fault book that reports every command before it acts."""

    def __init__(self, meet: Callable[[str], Action | None]) -> None:
        super().__init__()
        self._meet = meet

    def pick(self, seen: Occurrence, *, literal: bool) -> Action | None:
        planned = super().pick(seen, literal=literal)
        return planned if literal else self._meet(seen.verb) or planned


class Events(queue.SimpleQueue):  # type: ignore[type-arg] # of the engine's events
    """The engine's queue; a run that has died finds its end there."""

    def die(self) -> None:
        def killed() -> None:
            raise Killed

        self.put(killed)


class WireWorld:
    """Two accounts, the table and the clock, and runs among them, one of which is struck."""

    def __init__(self, ground: Ground, folder: Path, point: Point | None = None, blow: Blow = Blow.BEFORE) -> None:
        self.time = ground.time
        self.time.now = NOW
        self.met: Counter[tuple[int, str, str]] = Counter()
        """How often a call was made, by cycle, actor and call."""
        self.struck = False
        self.wanted: Counter[bytes] = Counter()
        self.cycle = 0
        self.dead = False
        self.events = Events()
        self._point, self._blow = point, blow
        self._late_at = NEVER
        self._late_calls: list[Callable[[], object]] = []
        self._guard = threading.Lock()
        self._tokens_file = folder / "tokens.json"
        self._ground = ground
        ground.play = self
        ground.dynamodb.tables = Tables()
        ground.dynamodb.let_late_ones_in()
        create_table(ground.client, TABLE)
        ground.dynamodb.heal()

        def opens(side: Side) -> Callable[[str, str], bool]:
            return lambda user, token: ground.authority.check(user, token, side)

        tls = ground.certificates.server_context()
        self.gmail = FakeGmail(opens(Side.SOURCE), tls, uidvalidity=11)
        self.outlook = FakeOutlook(opens(Side.DESTINATION), tls, folders=("Gmail",))
        self.gmail.faults = Watched(lambda verb: self._imap("gmail", verb))
        self.outlook.faults = Watched(lambda verb: self._imap("outlook", verb))

    def close(self) -> None:
        self._ground.play = None
        self.gmail.close()
        self.outlook.close()

    # -- runs

    def deliver(self, raw: bytes, *, ago: float = 60.0, wanted: bool = True) -> int:
        if wanted:
            self.wanted[raw] += 1
        return self.gmail.deliver(raw, self.time.now - ago)

    def run(self) -> Summary | None:
        """Run one cycle, a schedule after the one before; None: it died."""
        return self._run(lambda runner: runner.run())

    def settle(self, uid: int, decision: Decision) -> SettleReport | None:
        """Have a person decide what is in doubt, a schedule after the cycle before; None: nobody knows what became."""

        def decide(runner: Runner) -> SettleReport | None:
            with contextlib.suppress(LeaseHeld, StateUnavailable):
                return runner.settle(runner.doubts([uid]), decision)
            return None

        return self._run(decide)

    def _run(self, work: Callable[[Runner], T | None]) -> T | None:
        self.time.advance(LEASE + 1)
        self._land()
        self.cycle += 1
        self.dead = False
        self.events = Events()
        settings = replace(
            self._ground.config,
            tokens_file=self._tokens_file,
            gmail_imap_port=self.gmail.port,
            outlook_imap_port=self.outlook.port,
        )
        done: T | None = None
        with contextlib.suppress(Killed), WireRunner(settings, self, self._ground.client) as runner:
            done = work(runner)
        self._until_all_is_served()
        return done

    def run_until_quiet(self, limit: int = 30) -> None:
        """Run cycles until nothing is open, and nothing waits for another try or to land."""
        done: list[Summary | None] = []
        for _ in range(limit):
            done.append(self.run())
            left = self.watermark()
            ended = done[-1] is not None and done[-1].outcome is Outcome.OK
            if self._late_at == NEVER and ended and not left.open and not left.failing:
                return
            if left.next_try_at is not None:
                self.time.advance_to(left.next_try_at - LEASE)
        raise AssertionError(f"not quiet after {limit} cycles: {done[-1]}, {self.watermark()}")

    def _land(self) -> None:
        """Let what was under way when its run died take effect now, if it is time."""
        if self.time.now < self._late_at:
            return
        self._late_at = NEVER
        for call in self._late_calls:
            call()
        self.gmail.commit_late()
        self.outlook.commit_late()
        self._ground.dynamodb.let_late_ones_in()

    def _until_all_is_served(self) -> None:
        """Wait until the servers have done what they had received: the time until the next cycle is not real."""
        # A thread that was connecting while its run died has its connection only now.
        for thread in threading.enumerate():
            if thread.name == "prepare":
                thread.join(10)
        pause = threading.Event()
        for _ in range(5000):
            if not self.gmail.open_connections and not self.outlook.open_connections:
                return
            if self.dead:
                self.gmail.drop_connections()
                self.outlook.drop_connections()
            pause.wait(0.001)
        raise AssertionError("a connection outlives its run")

    def watermark(self) -> Watermark:
        return watermark_of(self.records().get("WATERMARK", {}))

    def records(self) -> dict[str, Any]:
        return {item["SK"]["S"]: item for item in self._ground.dynamodb.tables.items(TABLE)}

    def record(self, uid: int) -> UidRecord | None:
        """Return what is known of a message."""
        item = self.records().get(f"UID#{self.gmail.inbox.uidvalidity}#{uid}")
        return None if item is None else uid_record_of(item)

    def check(self) -> None:
        """Each mail arrived once, all records are settled, a further cycle changes nothing, Gmail was only read."""
        self._check_stored()
        records = self.records()
        self._check_settled(records)
        again = self.run()
        assert again is not None
        assert (again.outcome, again.copied, again.listed) == (Outcome.OK, 0, 0)
        idle = {name: value for name, value in self.records().items() if name != "WATERMARK"}
        assert idle == {name: value for name, value in records.items() if name != "WATERMARK"}
        self._check_stored()
        assert not self.gmail.violations
        assert not self.outlook.violations
        assert not self.gmail.malformed
        assert not self.outlook.malformed

    def _check_stored(self) -> None:
        stored = Counter(self.outlook.appended_to("Gmail"))
        missing, surplus = subjects(self.wanted - stored), subjects(stored - self.wanted)
        if missing or surplus:
            raise AssertionError(f"missing {missing}, surplus {surplus}")

    def _check_settled(self, records: Mapping[str, Any]) -> None:
        left = watermark_of(records["WATERMARK"])
        uids: dict[str, UidRecord] = {sk: uid_record_of(item) for sk, item in records.items() if sk.startswith("UID#")}
        assert {record.status for record in uids.values()} <= {Status.DONE}
        holders = {sk: item for sk, item in records.items() if sk.startswith("MSG#")}
        assert len(holders) == sum(self.wanted.values())
        for item in holders.values():
            assert f"UID#{item['uidvalidity']['N']}#{item['uid']['N']}" in uids
        assert (left.open, left.failing) == ({}, {})
        assert left.last_uid == left.horizon

    # -- where runs are struck

    def meet(self, actor: str, call: str) -> Blow | None:
        """Count a call; return what is to happen to it. A run that is dead dies again at whatever it calls."""
        with self._guard:
            if self.dead:
                return Blow.BEFORE
            self.met[self.cycle, actor, call] += 1
            point = Point(self.cycle, actor, call, self.met[self.cycle, actor, call])
            if point != self._point or self.struck:
                return None
            self.struck = True
            self.dead = self._blow in DEADLY
            if self._blow is Blow.LATE:
                self._late_at = self.time.now + LATE
        if self.dead:
            self.gmail.drop_connections()
            self.outlook.drop_connections()
            self.events.die()
        return self._blow

    def _imap(self, actor: str, verb: str) -> Action | None:
        actions: dict[Blow | None, Action] = {
            Blow.BEFORE: Close(),
            Blow.AFTER: LoseReply(),
            Blow.LOST: LoseReply(),
            Blow.LATE: CommitLate(),
        }
        return actions.get(self.meet(actor, verb))

    def on_request(self, operation: str) -> RequestFault:
        faults: dict[Blow | None, RequestFault] = {
            Blow.BEFORE: Reset(),
            Blow.AFTER: LostReply(),
            Blow.LOST: LostReply(),
            Blow.LATE: Late(),
        }
        return faults.get(self.meet("dynamodb", operation))

    def refresh(self, side: Side, refresher: Refresher, known: SideTokens) -> Refreshed:
        """Make a token call, or what becomes of it."""
        blow = self.meet("authority", f"refresh for the {side.value}")
        if blow is Blow.LATE:
            self._late_calls.append(lambda: refresher(known))
        if blow in (Blow.BEFORE, Blow.LATE):
            raise Killed
        answer = refresher(known)
        if blow is Blow.AFTER:
            raise Killed
        if blow is Blow.LOST:
            raise Unavailable(side, "the token endpoint's answer was lost")
        return answer

    def save(self, save: Callable[[], None]) -> None:
        """Save tokens: a file has no reply to lose, and no later."""
        blow = self.meet("token file", "save")
        if blow is Blow.BEFORE:
            raise Killed
        save()
        if blow is not None:
            raise Killed

    def check_alive(self) -> None:
        if self.dead:
            raise Killed


class WatchedTokens(FileTokens):
    """The token file, which reports a save before it is made."""

    def __init__(self, path: Path, world: WireWorld) -> None:
        super().__init__(path)
        self._world = world

    def save(self, tokens: Tokens) -> None:
        self._world.save(lambda: super(WatchedTokens, self).save(tokens))


class WireRunner(Runner):
    """The program's own composition, in this world's time, with the SDK's client of the play before."""

    def __init__(self, settings: config.Config, world: WireWorld, client: Any) -> None:
        super().__init__(settings, clock=Clock(now=lambda: world.time.now, elapsed=lambda: world.time.now - NOW))
        assert settings.tokens_file is not None
        self._watched = world
        self._client = client

        def now() -> float:
            return world.time.now

        def watched(side: Side, refresher: Refresher) -> Refresher:
            return lambda known: world.refresh(side, refresher, known)

        refreshers = {side: watched(side, its) for side, its in access_tokens.refreshers_of(settings, now).items()}
        self._tokens = AccessTokens(
            settings, WatchedTokens(settings.tokens_file, world), refreshers=refreshers, now=now
        )

    def _world(self, on_progress: Callable[[int, int], None] | None = None) -> cycle_state.World:
        return replace(super()._world(on_progress), new_queue=lambda: self._watched.events)

    def _state(self) -> DynamoDBState:
        return DynamoDBState(
            self._client,
            TABLE,
            partition_key(GMAIL, OUTLOOK),
            lease_seconds=LEASE,
            uid_ttl_days=400,
            fail_ttl_days=90,
            sleep=self._pause,
        )

    def _sign_in(self, where: Endpoint, dialect: Dialect, user: str) -> ImapSession:
        self._watched.check_alive()
        return ImapSession.connect(where, dialect, user, self._tokens.get(dialect.side), pause=self._pause)

    def _pause(self, seconds: float) -> None:
        self._watched.check_alive()
        self._watched.time.advance(seconds)


@contextlib.contextmanager
def ground(certificates: Certificates) -> Iterator[Ground]:
    """Make what plays stand on."""
    from syncer.dynamodb_client import make_client

    time = VirtualTime()
    made: list[Ground] = []

    def on_request(operation: str, request: dict[str, Any]) -> RequestFault:
        play = made[0].play if made else None
        return None if play is None or operation not in _WATCHED else play.on_request(operation)

    def check_alive(**_kw: object) -> None:
        if made and made[0].play is not None:
            made[0].play.check_alive()

    with Authority(certificates, now=lambda: time.now) as authority, FakeDynamoDB(on_request=on_request) as dynamodb:
        accounts = {
            Side.SOURCE: authority.add_account(Side.SOURCE, GMAIL),
            Side.DESTINATION: authority.add_account(Side.DESTINATION, OUTLOOK),
        }
        client = make_client("eu-central-1", dynamodb.url)
        client.meta.events.register("before-send.dynamodb", check_alive)
        source, destination = accounts[Side.SOURCE], accounts[Side.DESTINATION]
        settings = config.load(
            environ={
                "AWS_REGION": "eu-central-1",
                "DYNAMODB_TABLE": TABLE,
                "GMAIL_EMAIL": GMAIL,
                "GMAIL_CLIENT_ID": source.client_id,
                "GMAIL_CLIENT_SECRET": source.client_secret,
                "GMAIL_REFRESH_TOKEN": source.refresh_token,
                "GMAIL_TOKEN_URI": authority.gmail_token_uri,
                "GMAIL_IMAP_HOST": "localhost",
                "OUTLOOK_EMAIL": OUTLOOK,
                "OUTLOOK_IMAP_HOST": "localhost",
                "OUTLOOK_MAX_MESSAGES_PER_SECOND": "0",
                "MS_CLIENT_ID": destination.client_id,
                "MS_REFRESH_TOKEN": destination.refresh_token,
                "MS_AUTHORITY": authority.ms_authority,
                "IN_DOUBT_SETTLE_SECONDS": str(int(SETTLE)),
                "LEASE_SECONDS": str(int(LEASE)),
            }
        )
        made.append(Ground(authority, dynamodb, client, certificates, accounts, settings, time))
        try:
            yield made[0]
        finally:
            client.close()


_WATCHED: Final = frozenset({"UpdateItem", "GetItem", "BatchGetItem", "TransactWriteItems"})
