"""What the engine needs of the world, as Protocols: a source, a destination, a store, a clock.

The real ones are GmailMailbox, OutlookMailbox and DynamoDBState; the tests' are proved by the same
contract suites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from syncer.errors import SyncError
from syncer.model import (
    CommitResult,
    Confirmation,
    CopyUid,
    DestinationView,
    FailRecord,
    Fence,
    Fingerprint,
    Identity,
    Lease,
    Loaded,
    MessageKey,
    Outcome,
    SourceMessage,
    Standing,
    Watermark,
    Write,
)
from syncer.uid_set import UidSet


class SelectedMailbox(Protocol):
    """What opening the source told."""

    @property
    def uidvalidity(self) -> int: ...
    @property
    def uidnext(self) -> int: ...
    @property
    def exists(self) -> int: ...


class Source(Protocol):
    """The mailbox that is only read; see ``GmailMailbox``."""

    def open(self, wanted: UidSet) -> tuple[SelectedMailbox, list[SourceMessage]]: ...
    def listing(self, uids: UidSet) -> list[SourceMessage]: ...
    def since(self, moment: float) -> UidSet: ...
    def headers(self, messages: Sequence[SourceMessage]) -> Mapping[MessageKey, Fingerprint]: ...
    def fetch(self, messages: Sequence[SourceMessage]) -> list[Future[bytes | bytearray]]: ...
    def probe(self) -> None: ...
    def close(self) -> None: ...


class Destination(Protocol):
    """The mailbox that gets the copies; see ``OutlookMailbox``."""

    def prepare(self) -> Future[Fence]: ...
    def open(self) -> Fence: ...
    def look(self, first_uid: int) -> DestinationView: ...
    def append(
        self, internaldate: str, body: bytes | bytearray, permit: Callable[[], bool]
    ) -> Future[CopyUid | None]: ...
    def widen(self, messages: int) -> None: ...
    def probe(self) -> None: ...
    def failure(self) -> SyncError | None: ...
    def close(self) -> None: ...


class Store(Protocol):
    """The records; see ``DynamoDBState``."""

    def take_lease(self, owner: str, now: float) -> tuple[Lease, Watermark]: ...
    def peek(self) -> Watermark: ...
    def standing(self) -> Standing: ...
    def failures(self) -> Sequence[FailRecord]: ...
    def renew(self, lease: Lease, now: float) -> Lease: ...
    def release(self, lease: Lease, watermark: Watermark, now: float) -> None: ...
    def load(self, keys: Sequence[MessageKey], identities: Sequence[Identity]) -> Loaded: ...
    def commit(self, lease: Lease, watermark: Watermark, writes: Sequence[Write], now: float) -> CommitResult: ...
    def confirm(self, confirmations: Sequence[Confirmation]) -> frozenset[MessageKey]: ...


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks: what time it is, and how much of it has passed."""

    now: Callable[[], float]
    """Seconds since the epoch."""
    elapsed: Callable[[], float]
    """Seconds since some instant, never set back, counting the time this machine slept."""


class Spawn(Protocol):
    """Run a call of the store elsewhere, one after the other; see ``Executor.submit``."""

    def __call__(self, call: Callable[[], object], /) -> Future[object]: ...


StopSignal = Callable[[], Outcome | None]
"""Why nothing new may be started any more: DEADLINE or STOPPED; None to go on."""
