"""Frozen values that travel between the parts. No behaviour beyond what their names say.

Times are seconds since the epoch, UTC. A UID never travels without its UIDVALIDITY:
the pair is a ``MessageKey`` (RFC 3501 section 2.3.1.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NewType

from syncer.uid_set import UidSet

Identity = NewType("Identity", str)
"""What makes a message itself, whatever its UID: X-GM-MSGID in decimal, else the SHA-256 of its bytes in hex."""


class Side(StrEnum):
    """The two ends of a copy."""

    SOURCE = "source"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect, and how patiently."""

    host: str
    port: int
    timeout: float
    """Longest wait for any one answer, in seconds."""
    host_setting: str
    """The setting that names the host, for error texts."""


@dataclass(frozen=True, slots=True, order=True)
class MessageKey:
    """One message of the source mailbox."""

    uidvalidity: int
    uid: int

    def __str__(self) -> str:
        return f"{self.uidvalidity}#{self.uid}"


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """What the listing of the source tells about a message, before its body is fetched."""

    key: MessageKey
    size: int
    """RFC822.SIZE in octets, as the server announced it."""
    internaldate: str
    """The server's own text, handed on to APPEND unchanged."""
    received_at: float
    """INTERNALDATE as a time."""
    gmail_msgid: str | None = None
    """X-GM-MSGID in decimal: an unsigned 64-bit number, never a float. None where the source lacks it."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The state of the destination mailbox before an APPEND: a copy made later has a UID of at least ``uidnext``."""

    uidvalidity: int
    uidnext: int


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """By what a copy is recognised, in a mailbox whose server rewrites MIME (PROVIDERS 5.2).

    Date, From and Subject are kept as digests: a record must not hold what was in a mail.
    """

    message_id: str
    """The Message-ID field's value, white space removed; empty if there is none."""
    received_at: int
    """INTERNALDATE in whole seconds."""
    date: str
    sender: str
    subject: str


@dataclass(frozen=True, slots=True)
class CopyUid:
    """Where a copy is: the APPENDUID of RFC 4315."""

    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class CopySeen:
    """A message seen in the destination while looking for a copy."""

    uid: int
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class DestinationView:
    """What a look at the destination mailbox showed, read from ``first_uid`` on."""

    fence: Fence
    """UIDVALIDITY and UIDNEXT at the time of the look."""
    first_uid: int
    messages: tuple[CopySeen, ...]


class Status(StrEnum):
    """Of a ``UID#`` record."""

    PENDING = "PENDING"
    DONE = "DONE"


class Decision(StrEnum):
    """What a person said of a message in doubt."""

    COPIED = "copied"
    NOT_COPIED = "not_copied"


@dataclass(frozen=True, slots=True)
class UidRecord:
    """What is known of one message that was claimed: the ``UID#`` record."""

    key: MessageKey
    status: Status
    identity: Identity
    attempt: str = ""
    """Token of the claim, by which a run knows its own write again. Empty for a duplicate."""
    run_id: str = ""
    claimed_at: float = 0.0
    fence: Fence | None = None
    fingerprint: Fingerprint | None = None
    internaldate: str = ""
    rfc822_sha256: str = ""
    not_found_at: float | None = None
    """When a look for the copy first found nothing."""
    unclear: str = ""
    """Why the last look could not tell whether the copy is there: only a person can decide. Empty if looks can."""
    decision: Decision | None = None
    """What a person said of this attempt; the next one begins without it."""
    decided_at: float | None = None
    copied_at: float | None = None
    copy: CopyUid | None = None
    duplicate_of: MessageKey | None = None


@dataclass(frozen=True, slots=True)
class FailRecord:
    """Why a message could not be copied, and when it is tried again: the ``FAIL#`` record."""

    key: MessageKey
    last_error: str
    retry_count: int
    """Tries made so far."""
    updated_at: float
    next_try_at: float
    given_up: bool = False
    received_at: float = 0.0
    """INTERNALDATE: how far back a resync has to look to meet this message again."""


@dataclass(frozen=True, slots=True)
class LookBack:
    """How far what lies below the horizon was listed again; see ``lookback``."""

    at: float
    """Start of the last one."""
    twice: int
    """Up to this UID nothing is listed again, but by a look-back that is still under way."""
    once: int
    """Up to this UID the last one goes, or went: the horizon when it began."""
    reached: int
    """How far it has come: ``once`` when it is over."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a side's refresh token will last; None where nobody knows."""

    side: Side
    signed_in_at: float | None = None
    """When a person signed in."""
    renewed_at: float | None = None
    """When the refresh token last changed."""
    ends_at: float | None = None
    """When it ends unless something is done."""

    def days_left(self, now: float) -> float | None:
        """Return in how many days it ends, to a tenth of a day; negative if it should have ended."""
        return None if self.ends_at is None else round((self.ends_at - now) / 86_400, 1)


@dataclass(frozen=True, slots=True)
class SlowedPace:
    """The destination said that it was too fast; see ``pace``."""

    rate: float
    """Messages a second."""
    at: float
    """Since when; it recovers from then on."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched from the source in one day, in UTC."""

    day: int
    """Days since the epoch."""
    octets: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far the source has been dealt with, and what is still open: the ``WATERMARK`` record.

    Every UID up to ``last_uid`` is settled. Every UID up to ``horizon`` is settled or in ``open``:
    so what is open is found without reading the history, and a cycle costs what is open, not what
    was ever copied.
    """

    uidvalidity: int | None = None
    """None before the first cycle."""
    last_uid: int = 0
    horizon: int = 0
    open: Mapping[int, UidSet] = field(default_factory=dict)
    """By UIDVALIDITY: UIDs which may have a PENDING record, or none yet. May name settled ones."""
    failing: Mapping[int, UidSet] = field(default_factory=dict)
    """By UIDVALIDITY: UIDs whose FAIL record waits for another try."""
    next_try_at: float | None = None
    """The earliest ``next_try_at`` of those in ``failing``."""
    owned: Mapping[int, UidSet] = field(default_factory=dict)
    """By the destination's UIDVALIDITY: UIDs of copies made since the oldest open claim."""
    window_since: float = 0.0
    """Messages up to ``window_upto`` that arrived before this time are not wanted."""
    window_upto: int = 0
    not_before: Mapping[Side, float] = field(default_factory=dict)
    """By side: leave it alone until then, as it asked."""
    completed_at: float | None = None
    """Start of the last cycle that completed."""
    outages: int = 0
    """Cycles in a row in which the destination refused every message."""
    source_mailbox: str = ""
    """Whose UIDs these are; empty before the first cycle."""
    destination_mailbox: str = ""
    """Where the copies of the last cycle went."""
    look_back: LookBack | None = None
    """None before the first cycle."""
    wanted_since: float = 0.0
    """What arrived before this was left out when the program was first run, and is not missed."""
    tokens: Mapping[Side, Forecast] = field(default_factory=dict)
    """By side, as the last cycle that read the tokens foresaw it."""
    token_warned_at: Mapping[Side, float] = field(default_factory=dict)
    """By side whose token ends soon: when that was last logged."""
    uidnext: int = 0
    """The source's, as the last cycle saw it; 0 before the first."""
    ahead: int = 0
    """Messages that the last cycle saw above the horizon, or UIDs it had yet to list: still to be dealt with."""
    copied: int = 0
    """Copies so far, each counted once: in the write that takes its message out of ``open``."""
    copied_days: Mapping[str, int] = field(default_factory=dict)
    """The same by day (UTC, ``YYYY-MM-DD``), of the last days on which something was copied."""
    slowed: SlowedPace | None = None
    """None while the destination bears the pace that is set."""
    fetched: Fetched | None = None
    """Counted where there is a limit to it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ``WATERMARK`` record says to somebody who only looks."""

    watermark: Watermark
    updated_at: float | None = None
    lease_owner: str = ""
    """Run id of who holds the lease; empty if nobody does."""
    lease_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work, taken by a conditional write and fenced by ``generation``."""

    owner: str
    generation: int
    until: float
    """Epoch seconds, by this run's clock."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Write: take a message for this run (``UID#`` PENDING and ``MSG#``, both or none)."""

    record: UidRecord


@dataclass(frozen=True, slots=True)
class Reclaim:
    """Write: append again under the claim of an earlier run, with a new attempt token and fence."""

    record: UidRecord
    """The record as it is to be."""
    old_attempt: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """Write: a look found no copy."""

    key: MessageKey
    attempt: str
    at: float


@dataclass(frozen=True, slots=True)
class Unclear:
    """Write: a look could not tell whether the copy is there; ``reason`` says why, to a person."""

    key: MessageKey
    attempt: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decided:
    """Write: a person said whether the copy is there. If it is, PENDING becomes DONE; else it is appended again."""

    key: MessageKey
    attempt: str
    decision: Decision
    at: float
    had_failed: bool = False
    """There is a FAIL record to remove, if the copy is there."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Write: settled without a copy, because ``duplicate_of`` already is the copy's record."""

    key: MessageKey
    identity: Identity
    duplicate_of: MessageKey
    at: float


@dataclass(frozen=True, slots=True)
class Unclaim:
    """Write: give a claim back (``UID#`` and ``MSG#`` go), because no copy was made."""

    key: MessageKey
    attempt: str
    identity: Identity


@dataclass(frozen=True, slots=True)
class Failure:
    """Write: a try failed. With ``unclaim``, the claim is given back in the same transaction."""

    record: FailRecord
    unclaim: Unclaim | None = None


Write = Claim | Reclaim | NotFound | Unclear | Decided | Duplicate | Unclaim | Failure


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The copy is there: PENDING becomes DONE, if the claim still is ``attempt``'s."""

    key: MessageKey
    attempt: str
    copied_at: float
    copy: CopyUid | None
    had_failed: bool = False
    """There is a FAIL record to remove."""


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Which writes of a commit did not hold, and who holds what they wanted."""

    lost: Mapping[MessageKey, MessageKey | None] = field(default_factory=dict)
    """The message whose record holds the identity (it may be the same key); None if that is not known."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Records read in one go; what is not there has no entry."""

    records: Mapping[MessageKey, UidRecord]
    failures: Mapping[MessageKey, FailRecord]
    holders: Mapping[Identity, MessageKey]


class Outcome(StrEnum):
    """How a cycle ended: the ``outcome`` of ``cycle_finished``."""

    OK = "ok"
    STATE_UNAVAILABLE = "state_unavailable"
    LEASE_HELD = "lease_held"
    AUTH_FAILED = "auth_failed"
    SOURCE_UNAVAILABLE = "source_unavailable"
    DESTINATION_UNAVAILABLE = "destination_unavailable"
    THROTTLED = "throttled"
    DEADLINE = "deadline"
    STOPPED = "stopped"


EXIT_OK: Final = 0
EXIT_FINDINGS: Final = 1
EXIT_BUG: Final = 70
EXIT_NOT_NOW: Final = 75
EXIT_SIGN_IN: Final = 77
EXIT_CONFIG: Final = 78
