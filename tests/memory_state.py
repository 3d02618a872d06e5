"""The store's interface in memory, for fast tests of the engine and for simulations.

A ``MemoryTable`` is what DynamoDB is to the real store: it outlives runs, and several stores may
share it. Held to the same contract suite as DynamoDBState.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from syncer.errors import LeaseHeld, LeaseLost
from syncer.model import (
    Claim,
    CommitResult,
    Confirmation,
    Decided,
    Decision,
    Duplicate,
    FailRecord,
    Failure,
    Identity,
    Lease,
    Loaded,
    MessageKey,
    NotFound,
    Reclaim,
    Standing,
    Status,
    UidRecord,
    Unclaim,
    Unclear,
    Watermark,
    Write,
)

Hook = Callable[[str, str], None]
"""Called with the operation and "before" or "after"; what it raises is what the caller gets.

Raised before, nothing was done; raised after, it was done and the reply was lost.
"""


@dataclass
class MemoryTable:
    """The records, and everything that was asked of them."""

    watermark: Watermark = field(default_factory=Watermark)
    owner: str | None = None
    lease_until: float = 0.0
    updated_at: float | None = None
    generation: int = 0
    records: dict[MessageKey, UidRecord] = field(default_factory=dict)
    failures: dict[MessageKey, FailRecord] = field(default_factory=dict)
    holders: dict[Identity, MessageKey] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    hook: Hook | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


class MemoryState:
    """DynamoDBState's interface over a MemoryTable."""

    def __init__(self, table: MemoryTable | None = None, *, lease_seconds: float = 300.0) -> None:
        self.table = table or MemoryTable()
        self._lease_seconds = lease_seconds

    def take_lease(self, owner: str, now: float) -> tuple[Lease, Watermark]:
        with self._operation("take_lease") as table:
            if table.owner == owner:  # taken by an earlier attempt, whose reply was lost
                return Lease(owner, table.generation, table.lease_until), table.watermark
            if table.owner is not None and table.lease_until >= now:
                raise LeaseHeld(table.lease_until)
            table.owner, table.lease_until = owner, now + self._lease_seconds
            table.generation += 1
            table.updated_at = now
            return Lease(owner, table.generation, table.lease_until), table.watermark

    def peek(self) -> Watermark:
        with self._operation("peek") as table:
            return table.watermark

    def standing(self) -> Standing:
        with self._operation("standing") as table:
            if table.owner is None:
                return Standing(table.watermark, table.updated_at)
            return Standing(table.watermark, table.updated_at, table.owner, table.lease_until)

    def failures(self) -> list[FailRecord]:
        with self._operation("failures") as table:
            return [table.failures[key] for key in sorted(table.failures)]

    def renew(self, lease: Lease, now: float) -> Lease:
        with self._operation("renew") as table:
            self._fence(lease)
            table.lease_until = now + self._lease_seconds
            return replace(lease, until=table.lease_until)

    def release(self, lease: Lease, watermark: Watermark, now: float) -> None:
        with self._operation("release") as table:
            if table.generation == lease.generation and table.owner is None:
                return  # released by an earlier attempt, whose reply was lost
            self._fence(lease)
            self._put_watermark(watermark)
            table.owner, table.updated_at = None, now

    def load(self, keys: Sequence[MessageKey], identities: Sequence[Identity]) -> Loaded:
        if not keys and not identities:
            return Loaded({}, {}, {})
        with self._operation("load") as table:
            return Loaded(
                {key: table.records[key] for key in keys if key in table.records},
                {key: table.failures[key] for key in keys if key in table.failures},
                {identity: table.holders[identity] for identity in identities if identity in table.holders},
            )

    def commit(self, lease: Lease, watermark: Watermark, writes: Sequence[Write], now: float) -> CommitResult:
        with self._operation("commit") as table:
            self._fence(lease)
            self._put_watermark(watermark)
            table.lease_until, table.updated_at = now + self._lease_seconds, now
            lost: dict[MessageKey, MessageKey | None] = {}
            for write in writes:
                self._write(write, lost)
            return CommitResult(lost)

    def confirm(self, confirmations: Sequence[Confirmation]) -> frozenset[MessageKey]:
        if not confirmations:
            return frozenset()
        with self._operation("confirm") as table:
            lost = set()
            for c in confirmations:
                record = table.records.get(c.key)
                if record is None or record.attempt != c.attempt:
                    lost.add(c.key)
                elif record.status is Status.PENDING:
                    table.records[c.key] = replace(record, status=Status.DONE, copied_at=c.copied_at, copy=c.copy)
                    if c.had_failed:
                        table.failures.pop(c.key, None)
            return frozenset(lost)

    @contextmanager
    def _operation(self, name: str) -> Iterator[MemoryTable]:
        table = self.table
        if table.hook:
            table.hook(name, "before")
        with table.lock:
            table.calls.append(name)
            yield table
        if table.hook:
            table.hook(name, "after")

    def _fence(self, lease: Lease) -> None:
        if (self.table.owner, self.table.generation) != (lease.owner, lease.generation):
            raise LeaseLost("another run has taken the lease, or this one released it")

    def _put_watermark(self, new: Watermark) -> None:
        old = self.table.watermark
        if old.uidvalidity is not None and (
            new.uidvalidity is None or (new.uidvalidity == old.uidvalidity and new.last_uid < old.last_uid)
        ):
            raise ValueError("the watermark must not go back")
        self.table.watermark = new

    def _write(self, write: Write, lost: dict[MessageKey, MessageKey | None]) -> None:
        if isinstance(write, Claim):
            self._claim(write.record, lost)
        elif isinstance(write, Duplicate):
            self._duplicate(write, lost)
        elif isinstance(write, Failure):
            if write.unclaim is None or self._unclaim(write.unclaim, lost):
                self.table.failures[write.record.key] = write.record
        elif isinstance(write, Reclaim):
            record = self.table.records.get(write.record.key)
            if record is not None and write.record.attempt and record.attempt == write.record.attempt:
                return
            if self._is_pending(write.record.key, write.old_attempt, lost):
                self.table.records[write.record.key] = write.record
        elif isinstance(write, NotFound | Unclear):
            if self._is_pending(write.key, write.attempt, lost):
                self.table.records[write.key] = _looked_for(self.table.records[write.key], write)
        elif isinstance(write, Decided):
            self._decide(write, lost)
        else:
            self._unclaim(write, lost)

    def _claim(self, new: UidRecord, lost: dict[MessageKey, MessageKey | None]) -> None:
        records, holders = self.table.records, self.table.holders
        record = records.get(new.key)
        if record is not None:
            if not new.attempt or record.attempt != new.attempt:
                lost[new.key] = record.duplicate_of or record.key
        elif new.identity in holders:
            lost[new.key] = holders[new.identity]
        else:
            records[new.key] = new
            holders[new.identity] = new.key

    def _duplicate(self, write: Duplicate, lost: dict[MessageKey, MessageKey | None]) -> None:
        record = self.table.records.get(write.key)
        if record is None:
            self.table.records[write.key] = UidRecord(
                write.key, Status.DONE, write.identity, copied_at=write.at, duplicate_of=write.duplicate_of
            )
        elif record.status is not Status.DONE or record.duplicate_of != write.duplicate_of:
            lost[write.key] = record.duplicate_of or record.key

    def _unclaim(self, write: Unclaim, lost: dict[MessageKey, MessageKey | None]) -> bool:
        if write.key not in self.table.records:
            return True  # given back by an earlier attempt
        if not self._is_pending(write.key, write.attempt, lost):
            return False
        if self.table.holders.get(write.identity, write.key) != write.key:
            lost[write.key] = None
            return False
        del self.table.records[write.key]
        self.table.holders.pop(write.identity, None)
        return True

    def _decide(self, write: Decided, lost: dict[MessageKey, MessageKey | None]) -> None:
        record = self.table.records.get(write.key)
        is_copied = write.decision is Decision.COPIED
        if record is not None and record.status is Status.DONE and record.attempt == write.attempt and is_copied:
            return  # confirmed meanwhile
        if not self._is_pending(write.key, write.attempt, lost) or record is None:
            return
        record = replace(record, decision=write.decision, decided_at=write.at)
        if is_copied:
            record = replace(record, status=Status.DONE, copied_at=write.at)
            if write.had_failed:
                self.table.failures.pop(write.key, None)
        self.table.records[write.key] = record

    def _is_pending(self, key: MessageKey, attempt: str, lost: dict[MessageKey, MessageKey | None]) -> bool:
        record = self.table.records.get(key)
        if record is not None and record.status is Status.PENDING and record.attempt == attempt:
            return True
        lost[key] = None if record is None else record.duplicate_of or record.key
        return False


def _looked_for(record: UidRecord, look: NotFound | Unclear) -> UidRecord:
    if isinstance(look, Unclear):
        return replace(record, unclear=look.reason)
    return replace(record, unclear="", not_found_at=look.at if record.not_found_at is None else record.not_found_at)
