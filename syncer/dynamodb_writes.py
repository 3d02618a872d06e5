"""What each write asks of DynamoDB, and what it means when one is refused. No request is made here.

A write becomes one or more actions of a transaction, each with its condition; all of them hold or
none. When a condition fails, the item as it stands comes back, and tells three cases apart:

- it is what this write would have made: the write stands already. The reply to an earlier attempt
  was lost, and the attempt token in the record is by what we know our own hand again;
- it is another's: the write is lost, and the item tells to whom;
- nothing of this write failed: another write of the transaction did, and this one is tried again.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from syncer.dynamodb_client import Reason
from syncer.dynamodb_records import (
    UID_OPTIONAL,
    Item,
    copy_item,
    fail_item,
    fail_sk,
    holder_item,
    holder_of,
    identity_sk,
    moment,
    number,
    text,
    uid_item,
    uid_record_of,
    uid_sk,
)
from syncer.model import (
    Claim,
    Confirmation,
    Decided,
    Decision,
    Duplicate,
    Failure,
    MessageKey,
    NotFound,
    Reclaim,
    Status,
    Unclaim,
    Unclear,
    Write,
)
from syncer.model import UidRecord as Record

Action = Mapping[str, Any]
"""One action of a transaction: {"Put" | "Update" | "Delete": its parameters}."""

NO_RECORD: Final = "attribute_not_exists(#SK)"
MY_CLAIM: Final = "#status = :pending AND #attempt = :attempt"
MY_IDENTITY: Final = "#uidvalidity = :uidvalidity AND #uid = :uid"

_ALIAS: Final = re.compile(r"#(\w+)")
_SECONDS_A_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Lost:
    """A write that cannot hold, because ``holder`` has what it wanted (None if that is not known)."""

    holder: MessageKey | None


def conditional(condition: str, values: Item, update: str = "") -> dict[str, Any]:
    """Return the parameters of a write that holds under ``condition`` only, and if not shows the item.

    Every attribute is written ``#name``: the list of reserved words is long, and grows.
    """
    parameters: dict[str, Any] = {
        "ConditionExpression": condition,
        "ExpressionAttributeNames": _names(f"{update} {condition}"),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if values:
        parameters["ExpressionAttributeValues"] = dict(values)
    if update:
        parameters["UpdateExpression"] = update
    return parameters


@functools.cache  # there are about twenty different ones, and two for each message
def _names(expressions: str) -> Mapping[str, str]:
    return {alias[0]: alias[1] for alias in _ALIAS.finditer(expressions)}


def assignments(attributes: Item, removed: Iterable[str] = ()) -> tuple[str, Item]:
    """Return an update expression that sets ``attributes`` and takes ``removed`` away, and its values."""
    update = "SET " + ", ".join(f"#{name} = :{name}" for name in attributes)
    gone = ", ".join(f"#{name}" for name in removed if name not in attributes)
    return f"{update} REMOVE {gone}" if gone else update, {f":{name}": value for name, value in attributes.items()}


def key_of(write: Write) -> MessageKey:
    """Return the message a write is about."""
    return write.record.key if isinstance(write, (Claim, Reclaim, Failure)) else write.key


def sort_keys(actions: Iterable[Action]) -> set[str]:
    """Return the sort keys that ``actions`` touch: a transaction may touch each once."""
    parameters = [next(iter(action.values())) for action in actions]
    return {p.get("Key", p.get("Item"))["SK"]["S"] for p in parameters}


@dataclass(frozen=True, slots=True)
class Partition:
    """Where the records of one pair of accounts live, and for how long."""

    table: str
    key: str
    uid_ttl_days: int
    fail_ttl_days: int

    def address(self, sk: str) -> dict[str, Any]:
        """Return the primary key of a record."""
        return {"PK": {"S": self.key}, "SK": {"S": sk}}

    def actions(self, write: Write) -> list[Action]:
        """Return what a write asks for: at most three actions, all or none."""
        if isinstance(write, Claim):
            return self._claim(write.record)
        if isinstance(write, Duplicate):
            return [self._duplicate(write)]
        if isinstance(write, Failure):
            record = write.record
            put = {
                **fail_item(record, self._ttl(record.updated_at, self.fail_ttl_days)),
                **self.address(fail_sk(record.key)),
            }
            # Without a condition: made twice, it is the same record.
            failed: Action = {"Put": {"TableName": self.table, "Item": put}}
            return [*(self._unclaim(write.unclaim) if write.unclaim else ()), failed]
        if isinstance(write, Reclaim):
            update, values = assignments(uid_item(write.record), UID_OPTIONAL)
            values = {**values, ":old_attempt": text(write.old_attempt), ":pending": text(Status.PENDING)}
            mine = MY_CLAIM.replace(":attempt", ":old_attempt")
            return [self._update(uid_sk(write.record.key), mine, values, update)]
        if isinstance(write, NotFound):
            update = "SET #not_found_at = if_not_exists(#not_found_at, :at) REMOVE #unclear"
            values = {":at": moment(write.at), **_mine(write.attempt)}
            return [self._update(uid_sk(write.key), MY_CLAIM, values, update)]
        if isinstance(write, Unclear):
            values = {":reason": text(write.reason), **_mine(write.attempt)}
            return [self._update(uid_sk(write.key), MY_CLAIM, values, "SET #unclear = :reason")]
        if isinstance(write, Decided):
            return self._decided(write)
        return self._unclaim(write)

    def confirmation(self, confirmed: Confirmation) -> list[Action]:
        """Return what makes a claim DONE, and removes the FAIL record if there is one."""
        done = {**self._done(confirmed.copied_at), **(copy_item(confirmed.copy) if confirmed.copy else {})}
        return self._ended(confirmed.key, confirmed.attempt, done, had_failed=confirmed.had_failed)

    def _decided(self, write: Decided) -> list[Action]:
        is_copied = write.decision is Decision.COPIED
        said = {"decision": text(write.decision), "decided_at": moment(write.at)}
        return self._ended(
            write.key,
            write.attempt,
            said | (self._done(write.at) if is_copied else {}),
            had_failed=is_copied and write.had_failed,
        )

    def _done(self, at: float) -> dict[str, Any]:
        ttl = self._ttl(at, self.uid_ttl_days)
        return {"status": text(Status.DONE), "copied_at": moment(at), "ttl": number(ttl)}

    def _ended(self, key: MessageKey, attempt: str, attributes: Item, *, had_failed: bool) -> list[Action]:
        update, values = assignments(attributes)
        actions = [self._update(uid_sk(key), MY_CLAIM, {**values, **_mine(attempt)}, update)]
        if had_failed:
            actions.append({"Delete": {"TableName": self.table, "Key": self.address(fail_sk(key))}})
        return actions

    def _claim(self, record: Record) -> list[Action]:
        # A record that is PENDING never expires: it may be all that is known of a copy.
        ttl = None if record.copied_at is None else self._ttl(record.copied_at, self.uid_ttl_days)
        return [
            self._put(uid_sk(record.key), uid_item(record, ttl)),
            self._put(identity_sk(record.identity), holder_item(record.key, record.claimed_at)),
        ]

    def _duplicate(self, write: Duplicate) -> Action:
        record = Record(write.key, Status.DONE, write.identity, copied_at=write.at, duplicate_of=write.duplicate_of)
        return self._put(uid_sk(write.key), uid_item(record, self._ttl(write.at, self.uid_ttl_days)))

    def _unclaim(self, write: Unclaim) -> list[Action]:
        identity = {":uidvalidity": number(write.key.uidvalidity), ":uid": number(write.key.uid)}
        return [
            self._delete(uid_sk(write.key), MY_CLAIM, _mine(write.attempt)),
            self._delete(identity_sk(write.identity), f"{NO_RECORD} OR ({MY_IDENTITY})", identity),
        ]

    def _put(self, sk: str, item: Item) -> Action:
        return {"Put": {"TableName": self.table, "Item": {**item, **self.address(sk)}, **conditional(NO_RECORD, {})}}

    def _update(self, sk: str, condition: str, values: Item, update: str) -> Action:
        return {"Update": {"TableName": self.table, "Key": self.address(sk), **conditional(condition, values, update)}}

    def _delete(self, sk: str, condition: str, values: Item) -> Action:
        return {"Delete": {"TableName": self.table, "Key": self.address(sk), **conditional(condition, values)}}

    @staticmethod
    def _ttl(since: float, days: int) -> int:
        return int(since) + days * _SECONDS_A_DAY


def _mine(attempt: str) -> Item:
    return {":pending": text(Status.PENDING), ":attempt": text(attempt)}


# ---- what a refusal means


def left_to_do(write: Write, reasons: Sequence[Reason]) -> Write | Lost | None:
    """Return what remains of a write after a refusal: itself, less of it, nothing, or that it is lost.

    ``reasons`` are those of its own actions, in their order.
    """
    if not any(reason.failed for reason in reasons):
        return write
    first = reasons[0]
    record = uid_record_of(first.item) if first.failed and first.item else None
    if isinstance(write, Claim):
        # Only the identity is taken: its record says by whom. Also by this very key, where the UID
        # record of an old copy has expired: it is not copied again.
        if not first.failed:
            return Lost(holder_of(reasons[1].item) if reasons[1].item else None)
        return _unless_mine(record, write.record.attempt)
    if isinstance(write, Reclaim):
        return _unless_mine(record, write.record.attempt)
    if isinstance(write, Duplicate):
        settled = record is not None and record.status is Status.DONE and record.duplicate_of == write.duplicate_of
        return None if settled else Lost(_holder(record))
    if isinstance(write, NotFound | Unclear):
        return Lost(_holder(record))
    if isinstance(write, Decided):
        # Meanwhile the answer came, of a run that was thought dead: that is what the person said, or knows better.
        is_done = record is not None and record.status is Status.DONE and record.attempt == write.attempt
        return None if is_done and write.decision is Decision.COPIED else Lost(_holder(record))
    # Only a write of ours takes a PENDING record away: that it is gone means that it was given back.
    given_back = first.failed and record is None
    if isinstance(write, Failure):
        return replace(write, unclaim=None) if given_back else Lost(_holder(record))
    return None if given_back else Lost(_holder(record))


def stands(confirmed: Confirmation, reason: Reason) -> bool:
    """Tell whether a refused confirmation had gone through before."""
    if not reason.item:
        return False
    record = uid_record_of(reason.item)
    return record.status is Status.DONE and record.attempt == confirmed.attempt


def _unless_mine(record: Record | None, attempt: str) -> Lost | None:
    """Return nothing to do if the record carries our token, whatever became of it since."""
    if record is not None and attempt and record.attempt == attempt:
        return None
    return Lost(_holder(record))


def _holder(record: Record | None) -> MessageKey | None:
    return None if record is None else record.duplicate_of or record.key
