"""The vocabulary of misbehaviour: a fault is *when* something happens and *what* the server does then.

    server.misbehave(on("APPEND", nth=2), LoseReply())
    server.misbehave(on("UID FETCH", uid=7), WithoutUid(7, "NO Some messages could not be FETCHed (Failure)"))
    server.misbehave(on("APPEND", raw=lambda raw: b"poison" in raw), ERROR_11, times=FOREVER)

``on`` counts the commands that match it from the moment it was added; it fires from the ``nth`` on, ``times``
times. Of several faults that match, the one added first acts. GREETING is a verb here too.

Most actions act when the whole command has been read. Those with ``before_literal`` act when a literal has
been announced: instead of ``+`` where the client waits for it, and once the literal has been swallowed where it
does not ({n+}, RFC 7888).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

FOREVER: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A command as a rule sees it."""

    connection: int
    verb: str
    line: str
    raw: bytes | None
    """The last literal: what an APPEND carries. None before it has been read."""
    concerns: Callable[[int], bool]
    """Whether a UID FETCH or a UID SEARCH would answer with this UID."""


@dataclass(frozen=True, slots=True)
class When:
    """A rule; see ``on``."""

    verbs: tuple[str, ...]
    nth: int
    contains: str | None
    uid: int | None
    raw: Callable[[bytes], bool] | None
    connection: int | None
    check: Callable[[Occurrence], bool] | None

    def holds(self, seen: Occurrence) -> bool:
        return (
            (not self.verbs or seen.verb in self.verbs)
            and (self.connection is None or seen.connection == self.connection)
            and (self.contains is None or self.contains in seen.line)
            and (self.raw is None or (seen.raw is not None and self.raw(seen.raw)))
            and (self.uid is None or seen.concerns(self.uid))
            and (self.check is None or self.check(seen))
        )


def on(
    *verbs: str,
    nth: int = 1,
    contains: str | None = None,
    uid: int | None = None,
    raw: Callable[[bytes], bool] | None = None,
    connection: int | None = None,
    check: Callable[[Occurrence], bool] | None = None,
) -> When:
    """Return the rule: one of the verbs (none: any), from the ``nth`` match on; connections count from 1."""
    return When(verbs, nth, contains, uid, raw, connection, check)


class Place(Enum):
    """Where untagged lines are pushed in."""

    CONTINUATION = "before the + of a literal"
    DATA = "before the first response"
    BETWEEN = "after every response"
    TAGGED = "before the tagged line"


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection before the command is executed."""

    reset: bool = False
    before_literal: bool = False


@dataclass(frozen=True, slots=True)
class CloseInLiteral:
    """End the connection when this many octets of the literal have been read: nothing is stored."""

    octets: int = 0
    reset: bool = True


@dataclass(frozen=True, slots=True)
class LoseReply:
    """Execute the command and end the connection without a word."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class CommitLate:
    """End the connection now; execute the command ``delay`` seconds later, or when ``commit_late()`` is called."""

    delay: float | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer ``<tag> text`` instead of executing the command, or after ``executed``; then BYE if there is one."""

    text: str
    bye: str | None = None
    before_literal: bool = False
    executed: bool = False


@dataclass(frozen=True, slots=True)
class Bye:
    """Send ``* BYE text`` and end the connection, without a tagged line."""

    text: str
    executed: bool = False
    before_literal: bool = False


@dataclass(frozen=True, slots=True)
class Raw:
    """Send these octets instead of the answer, ``times`` over; ``<tag>`` in them becomes the command's tag."""

    data: bytes
    times: int = 1
    executed: bool = False
    close: bool = False
    before_literal: bool = False


@dataclass(frozen=True, slots=True)
class Untagged:
    """Execute and answer as always, with these lines pushed in."""

    lines: tuple[str, ...]
    place: Place = Place.DATA

    @property
    def before_literal(self) -> bool:
        return self.place is Place.CONTINUATION


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """Execute, and end the connection in the middle of the answer: ``octets`` after its first octet, or after the
    first octet of its first literal (that of ``uid``, if given). With ``bye`` that line is pushed in at this very
    place."""

    octets: int
    in_literal: bool = False
    bye: str | None = None
    reset: bool = False
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class ShortLiteral:
    """Announce the first literal in full and send it without its last ``missing`` octets; go on as if nothing was."""

    missing: int = 1


@dataclass(frozen=True, slots=True)
class WithoutUid:
    """Leave this UID out of the answer, and say OK or what ``tagged`` says."""

    uid: int
    tagged: str | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing until ``release()``; then go on. With ``executed`` only the answer waits.

    What was received in full is executed on release, even if the client has gone by then.
    """

    executed: bool = False
    before_literal: bool = False


@dataclass(frozen=True, slots=True)
class Trickle:
    """Execute, and send the answer ``octets`` at a time with a pause after each."""

    octets: int = 1
    pause: float = 0.01


@dataclass(frozen=True, slots=True)
class Delay:
    """Execute and answer, but only after this many seconds."""

    seconds: float


Action = (
    Close | CloseInLiteral | LoseReply | CommitLate | Reply | Bye | Raw | Untagged | CutAnswer | ShortLiteral
    | WithoutUid | Stall | Trickle | Delay
)  # fmt: skip


def at_literal(action: Action) -> bool:
    """Whether the action acts when a literal is announced, not when the command is complete."""
    return isinstance(action, CloseInLiteral) or bool(getattr(action, "before_literal", False))


@dataclass(eq=False)
class Fault:
    """A rule, what is done where it holds, and how often that happened."""

    when: When
    do: Action
    times: int = 1
    fired: int = 0
    matched: int = 0


@dataclass
class FaultBook:
    """The faults of one server, in the order in which they were added."""

    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def pick(self, seen: Occurrence, *, literal: bool) -> Action | None:
        """Return what is to be done about this command; every rule that holds counts it."""
        chosen: Action | None = None
        with self._lock:
            faults = [fault for fault in self._faults if at_literal(fault.do) is literal]
        for fault in faults:
            if not fault.when.holds(seen):
                continue
            with self._lock:
                fault.matched += 1
                due = fault.when.nth <= fault.matched and fault.fired < fault.times
                if due and chosen is None:
                    fault.fired += 1
                    chosen = fault.do
        return chosen


def throttled(milliseconds: int, status: str = "NO", *, bye: bool = False, before_literal: bool = False) -> Reply:
    """Exchange's back-off words, PROVIDERS 4.3."""
    text = f"{status} Request is throttled. Suggested Backoff Time: {milliseconds} milliseconds"
    return Reply(text, EXCHANGE_BYE if bye else None, before_literal)


EXCHANGE_BYE: Final = "Connection closed. 14"
ERROR_11: Final = Reply("BAD Command Argument Error. 11")
"""One message the converter cannot digest, a full mailbox, or a bad day: PROVIDERS 5.3."""
TAGLESS_UNAVAILABLE: Final = Raw(b"Server Unavailable. 15\r\n")
TOO_MANY_CONNECTIONS: Final = Reply("NO [ALERT] Too many simultaneous connections. (Failure)")
OVER_QUOTA: Final = Reply("NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)")
WEB_LOGIN: Final = Reply(
    "NO [WEBALERT https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=AKgnsbu] Web login required."
)
NOT_FETCHED: Final = "NO Some messages could not be FETCHed (Failure)"
