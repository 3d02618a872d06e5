"""The memory of the program: the lease, the watermark and the records, in one DynamoDB table.

Promises:

- **One writer.** Whoever holds the lease has the highest ``generation``; every write but
  ``confirm`` carries the condition that it still is. ``confirm`` does not: that the copy is there
  is a fact, whoever leads by now, and the claim's own attempt token guards it.
- **In order.** Each write of a run to WATERMARK counts ``revision`` up, on the condition that it is
  higher than the one stored. So a request that was given up and arrives late, after its own second
  attempt and after newer writes, changes nothing; and a refusal by our own revision means that this
  very request went through, and only its reply was lost.
- **The truth about lost replies.** The SDK repeats what was not answered, and the repetition fails
  its own condition. The item that comes back with the refusal tells our own hand from another's.
- **Watermark with records, both or none.** Where a commit needs more than one transaction, those
  before the last name everything still unwritten as ``open``, so that a crash between them loses
  sight of nothing.

The lease compares clocks of two machines. AWS refuses requests signed with a clock more than five
minutes wrong, and a run that was overtaken is stopped by its generation, not by its clock.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from syncer.dynamodb_client import NOT_DYNAMODB, Reason, Refused, Sleep, call, make_client, unprocessed
from syncer.dynamodb_records import (
    WATERMARK,
    WATERMARK_OPTIONAL,
    Item,
    fail_record_of,
    fail_sk,
    holder_of,
    identity_sk,
    moment,
    number,
    partition_key,
    standing_of,
    text,
    uid_record_of,
    uid_sk,
    watermark_item,
    watermark_of,
)
from syncer.dynamodb_table import create_table
from syncer.dynamodb_writes import (
    Action,
    Lost,
    Partition,
    assignments,
    conditional,
    key_of,
    left_to_do,
    sort_keys,
    stands,
)
from syncer.errors import LeaseHeld, LeaseLost, StateUnavailable
from syncer.model import (
    CommitResult,
    Confirmation,
    FailRecord,
    Identity,
    Lease,
    Loaded,
    MessageKey,
    Standing,
    UidRecord,
    Watermark,
    Write,
)
from syncer.uid_set import UidSet

__all__ = ["DynamoDBState", "create_table", "make_client", "partition_key"]

T = TypeVar("T")

MAX_ACTIONS: Final = 100
"""Of one TransactWriteItems; a BatchGetItem reads as many records."""

IS_FREE: Final = "attribute_not_exists(#lease_owner) OR attribute_not_exists(#lease_until) OR #lease_until < :now"
IS_MINE: Final = "#lease_owner = :me AND #generation = :mine AND #revision < :revision"
FORWARD: Final = "attribute_not_exists(#uidvalidity) OR #uidvalidity <> :uidvalidity OR #last_uid <= :last_uid"
STILL_NOWHERE: Final = "attribute_not_exists(#uidvalidity)"


class DynamoDBState:
    """The records of one pair of accounts. May be used by several threads.

    A lease is used through the store that took it, since the store counts its revisions.

    Every method raises StateUnavailable: DynamoDB cannot be used, and whether a write went through
    is then unknown. Making the same write again, with the same attempt token, is always safe.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        partition: str,
        *,
        lease_seconds: float,
        uid_ttl_days: int,
        fail_ttl_days: int,
        sleep: Sleep | None = None,
    ) -> None:
        self._client = client
        self._table = table
        self._partition = Partition(table, partition, uid_ttl_days, fail_ttl_days)
        self._lease_seconds = lease_seconds
        self._sleep = sleep
        self._revisions = itertools.count(1)
        # From the drawing of a revision to its answer: otherwise a later one could overtake it.
        self._watermark_writes = threading.Lock()

    # ---- the lease

    def take_lease(self, owner: str, now: float) -> tuple[Lease, Watermark]:
        """Take the lease, and return it with the watermark: the proof that DynamoDB reads and writes.

        ``owner`` is unique to this run. Raises LeaseHeld: another run has it.
        """
        update = (
            "SET #lease_owner = :me, #lease_until = :until, #updated_at = :at, #revision = :zero,"
            " #generation = if_not_exists(#generation, :zero) + :one"
        )
        values = {
            ":me": text(owner),
            ":until": number(now + self._lease_seconds),
            ":now": number(now),
            ":at": moment(now),
            ":zero": number(0),
            ":one": number(1),
        }
        request = {"ReturnValues": "ALL_NEW", **self._watermark_key(), **conditional(IS_FREE, values, update)}
        try:
            item = self._call("update_item", request).get("Attributes", {})
        except Refused as refused:
            item = refused.reasons[0].item or {}
            if item.get("lease_owner") != text(owner):
                until = item.get("lease_until", number(now + self._lease_seconds))
                raise LeaseHeld(float(until["N"])) from None
            # Our first attempt took it, and its reply was lost.
        if item.get("lease_owner") != text(owner):
            raise StateUnavailable(NOT_DYNAMODB)
        watermark = watermark_of(item)
        return Lease(owner, int(item["generation"]["N"]), float(item["lease_until"]["N"])), watermark

    def peek(self) -> Watermark:
        """Return the watermark without taking the lease; nothing is written."""
        return self.standing().watermark

    def standing(self) -> Standing:
        """Return the watermark and who holds the lease; nothing is written."""
        request = {**self._watermark_key(), "ConsistentRead": True}
        return standing_of(self._call("get_item", request).get("Item", {}))

    def renew(self, lease: Lease, now: float) -> Lease:
        """Keep the lease for another ``lease_seconds`` from ``now``. Raises LeaseLost."""
        until = now + self._lease_seconds
        with self._watermark_writes:
            parameters = self._fenced(lease, {"lease_until": number(until)})
            self._write_watermark(lease, parameters)
        return replace(lease, until=until)

    def release(self, lease: Lease, watermark: Watermark, now: float) -> None:
        """Write the watermark and let the lease go.

        Raises LeaseLost: the lease is another's, and nothing was written.
        Raises ValueError: the watermark would go backwards.
        """
        with self._watermark_writes:
            parameters = self._fenced(
                lease, {"updated_at": moment(now)}, watermark, gone=("lease_owner", "lease_until")
            )
            self._write_watermark(lease, parameters, watermark)

    # ---- records

    def load(self, keys: Sequence[MessageKey], identities: Sequence[Identity]) -> Loaded:
        """Read what is known of messages and identities, strongly consistent."""
        wanted = dict.fromkeys((*map(uid_sk, keys), *map(fail_sk, keys), *map(identity_sk, identities)))
        records: dict[MessageKey, UidRecord] = {}
        failures: dict[MessageKey, FailRecord] = {}
        holders: dict[Identity, MessageKey] = {}
        for item in self._read(wanted):
            kind, _, name = item["SK"]["S"].partition("#")
            if kind == "UID":
                record = uid_record_of(item)
                records[record.key] = record
            elif kind == "FAIL":
                failure = fail_record_of(item)
                failures[failure.key] = failure
            else:
                holders[Identity(name)] = holder_of(item)
        return Loaded(records, failures, holders)

    def failures(self) -> list[FailRecord]:
        """Return every failed message, in the order of the messages: those that wait, and those given up."""
        values = {":pk": {"S": self._partition.key}, ":fail": {"S": "FAIL#"}}
        names = {"#PK": "PK", "#SK": "SK"}
        request = {
            "TableName": self._table,
            "KeyConditionExpression": "#PK = :pk AND begins_with(#SK, :fail)",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
        }
        found: list[FailRecord] = []
        start: dict[str, Any] = {}
        while True:
            answer = self._call("query", {**request, **start})
            if "Items" not in answer:
                raise StateUnavailable(NOT_DYNAMODB)
            found += map(fail_record_of, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return sorted(found, key=lambda record: record.key)
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def commit(self, lease: Lease, watermark: Watermark, writes: Sequence[Write], now: float) -> CommitResult:
        """Make ``writes`` and the watermark stand, renew the lease, and tell which writes were lost.

        A write whose condition fails does not stop the others. Each write is all or none, and each
        stands before any that follows in another transaction.

        Raises LeaseLost: nothing more was written. Raises ValueError: the watermark would go backwards.
        """
        lost: dict[MessageKey, MessageKey | None] = {}
        with self._watermark_writes:
            batches = list(_batches(((w, self._partition.actions(w)) for w in writes), MAX_ACTIONS - 1))
            for at, batch in enumerate(batches):
                unwritten = (key_of(write) for later in batches[at + 1 :] for write in later)
                lost |= self._commit_batch(lease, _with_open(watermark, unwritten), batch, now)
            if not batches:
                self._checkpoint(lease, watermark, now)
        return CommitResult(lost)

    def confirm(self, confirmations: Sequence[Confirmation]) -> frozenset[MessageKey]:
        """Turn claims into DONE; return those that are no longer the attempt's named. Needs no lease."""
        lost: set[MessageKey] = set()
        for batch in _batches(((c, self._partition.confirmation(c)) for c in confirmations), MAX_ACTIONS):
            lost |= self._confirm_batch(batch)
        return frozenset(lost)

    # ---- transactions

    def _commit_batch(
        self, lease: Lease, watermark: Watermark, batch: Sequence[Write], now: float
    ) -> dict[MessageKey, MessageKey | None]:
        lost: dict[MessageKey, MessageKey | None] = {}
        left = list(batch)
        while left:
            parameters = self._checkpoint_parameters(lease, watermark, now)
            actions = [self._partition.actions(write) for write in left]
            items = [{"Update": parameters}, *itertools.chain.from_iterable(actions)]
            try:
                self._call("transact_write_items", {"TransactItems": items})
            except Refused as refused:
                (head,), *answers = _shared_out(refused.reasons, [items[:1], *actions])
                if head.failed:
                    self._judge(lease, parameters, head.item, watermark)
                    return lost
                verdicts = [(write, left_to_do(write, its)) for write, its in zip(left, answers, strict=True)]
                lost |= {key_of(write): verdict.holder for write, verdict in verdicts if isinstance(verdict, Lost)}
                left = [verdict for _, verdict in verdicts if verdict is not None and not isinstance(verdict, Lost)]
            else:
                return lost
        self._checkpoint(lease, watermark, now)
        return lost

    def _confirm_batch(self, batch: Sequence[Confirmation]) -> set[MessageKey]:
        lost: set[MessageKey] = set()
        left = list(batch)
        while left:
            actions = [self._partition.confirmation(confirmed) for confirmed in left]
            items = list(itertools.chain.from_iterable(actions))
            try:
                if len(items) == 1:
                    self._call("update_item", items[0]["Update"])
                else:
                    self._call("transact_write_items", {"TransactItems": items})
            except Refused as refused:
                answers = _shared_out(refused.reasons, actions)
                # Only the first of its actions has a condition.
                refusals = [(confirmed, its[0]) for confirmed, its in zip(left, answers, strict=True)]
                lost |= {c.key for c, reason in refusals if reason.failed and not stands(c, reason)}
                left = [c for c, reason in refusals if not reason.failed]
            else:
                break
        return lost

    # ---- WATERMARK

    def _watermark_key(self) -> dict[str, Any]:
        return {"TableName": self._table, "Key": self._partition.address(WATERMARK)}

    def _checkpoint_parameters(self, lease: Lease, watermark: Watermark, now: float) -> dict[str, Any]:
        changes = {"updated_at": moment(now), "lease_until": number(now + self._lease_seconds)}
        return self._fenced(lease, changes, watermark)

    def _checkpoint(self, lease: Lease, watermark: Watermark, now: float) -> None:
        self._write_watermark(lease, self._checkpoint_parameters(lease, watermark, now), watermark)

    def _fenced(
        self, lease: Lease, changes: Item, watermark: Watermark | None = None, gone: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Return the update of WATERMARK that holds while the lease does; it draws a new revision.

        An update and not a put: attributes that this version does not know survive it.
        """
        condition = IS_MINE
        if watermark is not None:
            changes = {**changes, **watermark_item(watermark)}
            gone = (*gone, *WATERMARK_OPTIONAL)
            condition = f"{IS_MINE} AND ({STILL_NOWHERE if watermark.uidvalidity is None else FORWARD})"
        update, values = assignments({**changes, "revision": number(next(self._revisions))}, gone)
        values = {**values, ":me": text(lease.owner), ":mine": number(lease.generation)}
        return {**self._watermark_key(), **conditional(condition, values, update)}

    def _write_watermark(self, lease: Lease, parameters: dict[str, Any], watermark: Watermark | None = None) -> None:
        try:
            self._call("update_item", parameters)
        except Refused as refused:
            self._judge(lease, parameters, refused.reasons[0].item, watermark)

    def _judge(
        self, lease: Lease, parameters: Mapping[str, Any], item: Item | None, watermark: Watermark | None
    ) -> None:
        """Return if the refused write stands all the same; raise why it does not."""
        if item is None or item.get("generation") != number(lease.generation):
            raise LeaseLost("another run has taken the lease")
        if item.get("revision") == parameters["ExpressionAttributeValues"][":revision"]:
            return  # it went through, and its reply was lost
        if "lease_owner" not in item:
            if ":lease_until" not in parameters["ExpressionAttributeValues"]:
                return  # a release that was made again: the first one stands
            raise LeaseLost("this run has released its lease")
        if watermark is not None and not _is_forward(watermark_of(item), watermark):
            raise ValueError(
                f"the watermark must not go back to {watermark.uidvalidity}#{watermark.last_uid} within a UIDVALIDITY"
            )
        raise LeaseLost("the lease is in other hands")

    # ---- requests

    def _call(self, operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return call(self._client, operation, request, table=self._table, sleep=self._sleep)

    def _read(self, names: Iterable[str]) -> Iterator[Item]:
        """Yield the records that exist, as many as a request may ask for at a time."""
        left = [self._partition.address(sk) for sk in names]
        while left:
            asked, left = left[:MAX_ACTIONS], left[MAX_ACTIONS:]
            request = {"RequestItems": {self._table: {"Keys": asked, "ConsistentRead": True}}}
            answer = self._call("batch_get_item", request)
            for items in answer["Responses"].values():
                yield from items
            left = [*unprocessed(answer), *left]


def _batches(writes: Iterable[tuple[T, list[Action]]], most: int) -> Iterator[list[T]]:
    """Yield runs of writes, in order, that one transaction can make: ``most`` actions, no record twice."""
    batch: list[T] = []
    actions = 0
    touched: set[str] = set()
    for write, its in writes:
        keys = sort_keys(its)
        if batch and (actions + len(its) > most or keys & touched):
            yield batch
            batch, actions, touched = [], 0, set()
        batch.append(write)
        actions += len(its)
        touched |= keys
    if batch:
        yield batch


def _shared_out(reasons: Sequence[Reason], actions: Sequence[Sequence[Action]]) -> list[list[Reason]]:
    """Return the reasons of each write's own actions. Raises StateUnavailable: they do not match."""
    if len(reasons) != sum(map(len, actions)):
        raise StateUnavailable("DynamoDB cancelled a transaction and does not say why")
    rest = iter(reasons)
    return [list(itertools.islice(rest, len(its))) for its in actions]


def _with_open(watermark: Watermark, unwritten: Iterable[MessageKey]) -> Watermark:
    """Return the watermark with messages named as open whose writes have yet to be made."""
    uids: dict[int, list[int]] = {}
    for key in unwritten:
        uids.setdefault(key.uidvalidity, []).append(key.uid)
    more = {uidvalidity: watermark.open.get(uidvalidity, UidSet()) | UidSet(its) for uidvalidity, its in uids.items()}
    return replace(watermark, open={**watermark.open, **more})


def _is_forward(stored: Watermark, new: Watermark) -> bool:
    """Tell whether ``new`` may replace ``stored``: the same that the condition says."""
    if stored.uidvalidity is None or new.uidvalidity is None:
        return stored.uidvalidity is None
    return stored.uidvalidity != new.uidvalidity or stored.last_uid <= new.last_uid
