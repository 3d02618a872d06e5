"""Bad luck of every kind, drawn from a seed: some of it planned for a cycle's requests, some of it at any moment."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

from tests.fakes.dynamodb_faults import CONFLICT, DENIED, LostReply, Reset
from tests.fakes.faults import (
    TOO_MANY_CONNECTIONS,
    Action,
    Bye,
    Close,
    CloseInLiteral,
    CommitLate,
    CutAnswer,
    LoseReply,
    Reply,
    Untagged,
    on,
    throttled,
)
from tests.soak.service import Service

_AT_SOURCE: tuple[tuple[str, Action], ...] = (
    ("GREETING", Bye("Too many connections")),
    ("AUTHENTICATE", Close(reset=True)),
    ("AUTHENTICATE", TOO_MANY_CONNECTIONS),
    ("AUTHENTICATE", Reply("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)")),
    ("EXAMINE", Close()),
    ("EXAMINE", Reply("NO System Error (Failure)")),
    ("UID FETCH", CutAnswer(40)),
    ("UID FETCH", CutAnswer(100, in_literal=True, reset=True)),
    ("UID FETCH", Reply("NO Some messages could not be FETCHed (Failure)")),
    ("UID FETCH", Untagged(("9 EXISTS", "1 FETCH (FLAGS (\\Seen))"))),
    ("UID FETCH", Bye("Session expired, please login again.")),
    ("IDLE", Reply("NO not now")),
    ("IDLE", Close()),
    ("DONE", Close()),
)
_AT_DESTINATION: tuple[tuple[str, Action], ...] = (
    ("AUTHENTICATE", Close()),
    ("AUTHENTICATE", Reply("NO AUTHENTICATE failed.")),
    ("STATUS", throttled(30_000)),
    ("APPEND", throttled(299_961, bye=True)),
    ("APPEND", LoseReply()),
    ("APPEND", LoseReply(reset=True)),
    ("APPEND", CommitLate()),
    ("APPEND", CloseInLiteral(20)),
    ("APPEND", Close(reset=True)),
    ("APPEND", Reply("BAD Command Argument Error. 11")),
)
_AT_DYNAMODB = (
    ("UpdateItem", DENIED),
    ("UpdateItem", Reset()),
    ("UpdateItem", LostReply()),
    ("TransactWriteItems", LostReply()),
    ("TransactWriteItems", CONFLICT),
    ("TransactWriteItems", DENIED),
    ("BatchGetItem", Reset()),
)


class Storm:
    """Breaks things for one service; ``seen`` counts what it broke."""

    def __init__(self, service: Service, seed: int) -> None:
        self.seen: Counter[str] = Counter()
        self._service = service
        self._chance = random.Random(seed)
        self._timers: list[threading.Timer] = []

    def before_a_cycle(self) -> None:
        """Plan what goes wrong in the next cycle: mostly one thing, sometimes nothing, sometimes several."""
        service, chance = self._service, self._chance
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            kind = chance.choice(("source", "destination", "dynamodb", "moment"))
            if kind == "source":
                verb, deed = chance.choice(_AT_SOURCE)
                service.source.misbehave(on(verb), deed)
            elif kind == "destination":
                verb, deed = chance.choice(_AT_DESTINATION)
                service.destination.misbehave(on(verb), deed)
            elif kind == "dynamodb":
                operation, fault = chance.choice(_AT_DYNAMODB)
                service.dynamodb.plan(operation, *[None] * chance.randrange(2), fault)
                self.seen["dynamodb " + operation] += 1
                continue
            else:
                self._at_some_moment()
                continue
            self.seen[f"{kind} {verb} {type(deed).__name__}"] += 1
        if chance.random() < 0.02:
            service.dynamodb.plan_always("UpdateItem", DENIED)
            self.seen["dynamodb gone"] += 1

    def after_a_cycle(self) -> None:
        """Let pass what passes by itself: time, and what servers commit late."""
        self._service.destination.commit_late()
        if self._chance.random() < 0.3:
            self._service.weather.sleep(self._chance.choice((20.0, 301.0, 700.0, 4000.0)))
            self.seen["time passes"] += 1
        if self._chance.random() < 0.3:
            self._service.dynamodb.heal()

    def calm(self) -> None:
        """Stop."""
        for timer in self._timers:
            timer.cancel()
            timer.join()
        self._timers.clear()

    def _at_some_moment(self) -> None:
        service, chance = self._service, self._chance
        deeds: dict[str, Callable[[], object]] = {
            "source drops all": service.source.drop_connections,
            "source says BYE to all": lambda: service.source.drop_connections("Session expired"),
            "destination drops all": service.destination.drop_connections,
            "tokens expire": service.authority.expire_access_tokens,
            "clock set forward": lambda: service.weather.set_clock(3600.0),
            "clock set back": lambda: service.weather.set_clock(-3600.0),
            "machine sleeps": lambda: service.weather.sleep(3600.0),
            "machine sleeps and loses its connections": self._suspend,
            "a visitor looks": service.visit,
            "a visitor reads the metrics": lambda: service.visit("/metrics"),
            "a visitor leaves": service.call_and_leave,
            "noise": lambda: service.source.announce(b"* OK Still here\r\n* 1 FETCH (FLAGS ())\r\n"),
        }
        name = chance.choice(list(deeds))
        self.seen[name] += 1
        self._timers = [timer for timer in self._timers if timer.is_alive()]
        timer = threading.Timer(chance.uniform(0.0, 0.06), deeds[name])
        self._timers.append(timer)
        timer.start()

    def _suspend(self) -> None:
        self._service.weather.sleep(40_000.0)
        self._service.source.drop_connections()
        self._service.destination.drop_connections()
