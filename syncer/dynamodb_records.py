"""The form of the records: values to DynamoDB items and back. No request is made here.

Owns the names of the sort keys and of the attributes, which other people's tools read:

====================  ==========================================================
``WATERMARK``         how far the source is dealt with, and the lease
``UID#<uv>#<uid>``    one message that was claimed
``FAIL#<uv>#<uid>``   one message that could not be copied, and why
``MSG#<identity>``    the claim on an identity: which ``UID#`` record holds it
====================  ==========================================================

Moments that this program's clock saw (``claimed_at``, ``copied_at``) are ISO-8601 texts, UTC, in
milliseconds, for people to read; times that are compared or that a server told are Numbers. What
is absent in a value is an absent attribute, never NULL. Attributes that this version does not
know are ignored; a record that cannot be understood raises StateUnavailable and names its key,
since guessing what it meant could copy a mail twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from syncer.errors import StateUnavailable
from syncer.model import (
    CopyUid,
    Decision,
    FailRecord,
    Fence,
    Fetched,
    Fingerprint,
    Forecast,
    Identity,
    LookBack,
    MessageKey,
    Side,
    SlowedPace,
    Standing,
    Status,
    UidRecord,
    Watermark,
)
from syncer.uid_set import UidSet

Item = Mapping[str, Mapping[str, Any]]
"""Attributes as DynamoDB's own protocol writes them: name -> {type: value}."""

WATERMARK: Final = "WATERMARK"
WATERMARK_OPTIONAL: Final = (
    "uidvalidity",
    "open",
    "failing",
    "owned",
    "not_before",
    "next_try_at",
    "completed_at",
    "source_mailbox",
    "destination_mailbox",
    "lookback_at",
    "lookback_twice",
    "lookback_once",
    "lookback_reached",
    "wanted_since",
    "tokens",
    "token_warned_at",
    "uidnext",
    "ahead",
    "copied_total",
    "copied_days",
    "pace",
    "pace_at",
    "fetched_day",
    "fetched_bytes",
)
"""Attributes of the watermark that go when the value has nothing to say."""
UID_OPTIONAL: Final = (
    "attempt",
    "run_id",
    "claimed_at",
    "fence_uidvalidity",
    "fence_uidnext",
    "message_id_header",
    "fp_date",
    "fp_sender",
    "fp_subject",
    "fp_received_at",
    "internaldate",
    "rfc822_sha256",
    "not_found_at",
    "unclear",
    "decision",
    "decided_at",
    "copied_at",
    "destination_uidvalidity",
    "destination_uid",
    "duplicate_of",
    "ttl",
)
"""Attributes of a ``UID#`` record that go when the value has nothing to say."""

_EPOCH: Final = date(1970, 1, 1)
_LONGEST_ERROR: Final = 1000
"""Characters of ``last_error`` that are kept: it is for people, and an item holds at most 400 KB."""


def partition_key(gmail: str, outlook: str) -> str:
    """Return the partition key of one pair of accounts; letter case makes no difference to it."""
    return f"ACCOUNT#{gmail.lower()}#DEST#{outlook.lower()}"


def uid_sk(key: MessageKey) -> str:
    """Return the sort key of the ``UID#`` record."""
    return f"UID#{key}"


def fail_sk(key: MessageKey) -> str:
    """Return the sort key of the ``FAIL#`` record."""
    return f"FAIL#{key}"


def identity_sk(identity: Identity) -> str:
    """Return the sort key of the ``MSG#`` record."""
    return f"MSG#{identity}"


# ---- values to items


def text(value: str) -> Mapping[str, Any]:
    """Return a String attribute; what UTF-8 cannot carry (a lone surrogate) becomes ``?``."""
    return {"S": value.encode("utf-8", "replace").decode("utf-8")}


def number(value: float) -> Mapping[str, Any]:
    """Return a Number attribute that reads back as the same value."""
    return {"N": str(int(value)) if float(value).is_integer() else repr(float(value))}


def moment(seconds: float) -> Mapping[str, Any]:
    """Return epoch ``seconds`` as ISO-8601 text in UTC, to the millisecond."""
    iso = datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds")
    return {"S": iso.removesuffix("+00:00").removesuffix(".000") + "Z"}


def watermark_item(watermark: Watermark) -> Item:
    """Return the watermark's own attributes, without key and lease."""
    item = {
        "last_uid": number(watermark.last_uid),
        "horizon": number(watermark.horizon),
        "window_since": number(watermark.window_since),
        "window_upto": number(watermark.window_upto),
        "outages": number(watermark.outages),
        "open": _uid_sets(watermark.open),
        "failing": _uid_sets(watermark.failing),
        "owned": _uid_sets(watermark.owned),
        "not_before": {"M": {str(side): number(until) for side, until in watermark.not_before.items()}},
    }
    for name in ("source_mailbox", "destination_mailbox"):
        if value := getattr(watermark, name):
            item[name] = text(value)
    if watermark.uidvalidity is not None:
        item["uidvalidity"] = number(watermark.uidvalidity)
    if watermark.next_try_at is not None:
        item["next_try_at"] = number(watermark.next_try_at)
    if watermark.completed_at is not None:
        item["completed_at"] = moment(watermark.completed_at)
    if watermark.look_back is not None:
        item["lookback_at"] = moment(watermark.look_back.at)
        item["lookback_twice"] = number(watermark.look_back.twice)
        item["lookback_once"] = number(watermark.look_back.once)
        item["lookback_reached"] = number(watermark.look_back.reached)
    if watermark.wanted_since:
        item["wanted_since"] = number(watermark.wanted_since)
    item["tokens"] = {"M": {str(side): {"M": _forecast_item(its)} for side, its in watermark.tokens.items()}}
    item["token_warned_at"] = {"M": {str(side): moment(at) for side, at in watermark.token_warned_at.items()}}
    counts = {"uidnext": watermark.uidnext, "ahead": watermark.ahead, "copied_total": watermark.copied}
    item |= {name: number(count) for name, count in counts.items() if count}
    item["copied_days"] = {"M": {day: number(count) for day, count in watermark.copied_days.items()}}
    if watermark.slowed is not None:
        item["pace"] = number(watermark.slowed.rate)
        item["pace_at"] = moment(watermark.slowed.at)
    if watermark.fetched is not None:
        item["fetched_day"] = text(_day_text(watermark.fetched.day))
        item["fetched_bytes"] = number(watermark.fetched.octets)
    return {name: value for name, value in item.items() if value != {"M": {}}}


def _forecast_item(forecast: Forecast) -> Item:
    moments = {name: getattr(forecast, name) for name in ("signed_in_at", "renewed_at", "ends_at")}
    return {name: moment(at) for name, at in moments.items() if at is not None}


def uid_item(record: UidRecord, ttl: int | None = None) -> Item:
    """Return the attributes of a ``UID#`` record, without its key."""
    item: dict[str, Mapping[str, Any]] = {
        "status": text(record.status),
        "identity": text(record.identity),
        "attempt": text(record.attempt),
        "run_id": text(record.run_id),
        "internaldate": text(record.internaldate),
        "rfc822_sha256": text(record.rfc822_sha256),
        "unclear": text(record.unclear),
        "decision": text(record.decision or ""),
    }
    if record.claimed_at:
        item["claimed_at"] = moment(record.claimed_at)
    if record.fence is not None:
        item["fence_uidvalidity"] = number(record.fence.uidvalidity)
        item["fence_uidnext"] = number(record.fence.uidnext)
    if record.fingerprint is not None:
        item["message_id_header"] = text(record.fingerprint.message_id)
        item["fp_received_at"] = number(record.fingerprint.received_at)
        item["fp_date"] = text(record.fingerprint.date)
        item["fp_sender"] = text(record.fingerprint.sender)
        item["fp_subject"] = text(record.fingerprint.subject)
    if record.not_found_at is not None:
        item["not_found_at"] = moment(record.not_found_at)
    if record.decided_at is not None:
        item["decided_at"] = moment(record.decided_at)
    if record.copied_at is not None:
        item["copied_at"] = moment(record.copied_at)
    if record.copy is not None:
        item |= copy_item(record.copy)
    if record.duplicate_of is not None:
        item["duplicate_of"] = text(str(record.duplicate_of))
    if ttl is not None:
        item["ttl"] = number(ttl)
    return {name: value for name, value in item.items() if value != {"S": ""}}


def copy_item(copy: CopyUid) -> Item:
    """Return the attributes that say where a copy is."""
    return {"destination_uidvalidity": number(copy.uidvalidity), "destination_uid": number(copy.uid)}


def fail_item(record: FailRecord, ttl: int) -> Item:
    """Return the attributes of a ``FAIL#`` record, without its key."""
    return {
        "last_error": text(record.last_error[:_LONGEST_ERROR]),
        "retry_count": number(record.retry_count),
        "updated_at": moment(record.updated_at),
        "next_try_at": number(record.next_try_at),
        "given_up": {"BOOL": record.given_up},
        "received_at": number(record.received_at),
        "ttl": number(ttl),
    }


def holder_item(key: MessageKey, claimed_at: float) -> Item:
    """Return the attributes of a ``MSG#`` record, without its key."""
    return {"uidvalidity": number(key.uidvalidity), "uid": number(key.uid), "claimed_at": moment(claimed_at)}


def _uid_sets(sets: Mapping[int, UidSet]) -> Mapping[str, Any]:
    return {"M": {str(uidvalidity): {"S": str(uids)} for uidvalidity, uids in sets.items() if uids}}


# ---- items to values


def watermark_of(item: Item) -> Watermark:
    """Read the watermark; an item without one (a lease was all it ever had) is the first cycle's.

    Raises StateUnavailable: the record is damaged.
    """
    with _understood(item):
        not_before = item.get("not_before", {"M": {}})["M"]
        return Watermark(
            uidvalidity=_whole_or_none(item, "uidvalidity"),
            last_uid=_whole_or_none(item, "last_uid") or 0,
            horizon=_whole_or_none(item, "horizon") or 0,
            open=_sets_of(item, "open"),
            failing=_sets_of(item, "failing"),
            next_try_at=_float_or_none(item, "next_try_at"),
            owned=_sets_of(item, "owned"),
            window_since=_float_or_none(item, "window_since") or 0.0,
            window_upto=_whole_or_none(item, "window_upto") or 0,
            not_before={side: float(not_before[side]["N"]) for side in Side if side in not_before},
            completed_at=_moment_or_none(item, "completed_at"),
            outages=_whole_or_none(item, "outages") or 0,
            source_mailbox=_text_of(item, "source_mailbox"),
            destination_mailbox=_text_of(item, "destination_mailbox"),
            look_back=_look_back_of(item),
            wanted_since=_float_or_none(item, "wanted_since") or 0.0,
            tokens=_forecasts_of(item),
            token_warned_at=_moments_of(item, "token_warned_at"),
            uidnext=_whole_or_none(item, "uidnext") or 0,
            ahead=_whole_or_none(item, "ahead") or 0,
            copied=_whole_or_none(item, "copied_total") or 0,
            copied_days={day: int(count["N"]) for day, count in item.get("copied_days", {"M": {}})["M"].items()},
            slowed=_slowed_of(item),
            fetched=_fetched_of(item),
        )


def standing_of(item: Item) -> Standing:
    """Read the watermark and who holds the lease. Raises StateUnavailable: the record is damaged."""
    watermark = watermark_of(item)
    with _understood(item):
        return Standing(
            watermark,
            updated_at=_moment_or_none(item, "updated_at"),
            lease_owner=_text_of(item, "lease_owner"),
            lease_until=_float_or_none(item, "lease_until") or 0.0,
        )


def _forecasts_of(item: Item) -> dict[Side, Forecast]:
    by_side = item["tokens"]["M"] if "tokens" in item else {}
    return {
        side: Forecast(
            side,
            signed_in_at=_moment_or_none(by_side[side]["M"], "signed_in_at"),
            renewed_at=_moment_or_none(by_side[side]["M"], "renewed_at"),
            ends_at=_moment_or_none(by_side[side]["M"], "ends_at"),
        )
        for side in Side
        if side in by_side
    }


def _moments_of(item: Item, name: str) -> dict[Side, float]:
    by_side = item[name]["M"] if name in item else {}
    return {side: at for side in Side if (at := _moment_or_none(by_side, side)) is not None}


def _look_back_of(item: Item) -> LookBack | None:
    at = _moment_or_none(item, "lookback_at")
    if at is None:
        return None
    twice, once, reached = (_whole(item, f"lookback_{mark}") for mark in ("twice", "once", "reached"))
    return LookBack(at, twice, once, reached)


def _slowed_of(item: Item) -> SlowedPace | None:
    at = _moment_or_none(item, "pace_at")
    return None if at is None else SlowedPace(float(item["pace"]["N"]), at)


def _fetched_of(item: Item) -> Fetched | None:
    if "fetched_day" not in item:
        return None
    return Fetched((date.fromisoformat(item["fetched_day"]["S"]) - _EPOCH).days, _whole(item, "fetched_bytes"))


def _day_text(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()


def uid_record_of(item: Item) -> UidRecord:
    """Read a ``UID#`` record. Raises StateUnavailable: the record is damaged."""
    with _understood(item):
        return UidRecord(
            key=_key_of(item),
            status=Status(item["status"]["S"]),
            identity=Identity(item["identity"]["S"]),
            attempt=_text_of(item, "attempt"),
            run_id=_text_of(item, "run_id"),
            claimed_at=_moment_or_none(item, "claimed_at") or 0.0,
            fence=Fence(_whole(item, "fence_uidvalidity"), _whole(item, "fence_uidnext"))
            if "fence_uidnext" in item
            else None,
            fingerprint=_fingerprint_of(item) if "fp_received_at" in item else None,
            internaldate=_text_of(item, "internaldate"),
            rfc822_sha256=_text_of(item, "rfc822_sha256"),
            not_found_at=_moment_or_none(item, "not_found_at"),
            unclear=_text_of(item, "unclear"),
            decision=Decision(item["decision"]["S"]) if "decision" in item else None,
            decided_at=_moment_or_none(item, "decided_at"),
            copied_at=_moment_or_none(item, "copied_at"),
            copy=CopyUid(_whole(item, "destination_uidvalidity"), _whole(item, "destination_uid"))
            if "destination_uid" in item
            else None,
            duplicate_of=_message_key(item["duplicate_of"]["S"]) if "duplicate_of" in item else None,
        )


def fail_record_of(item: Item) -> FailRecord:
    """Read a ``FAIL#`` record. Raises StateUnavailable: the record is damaged."""
    with _understood(item):
        return FailRecord(
            key=_key_of(item),
            last_error=_text_of(item, "last_error"),
            retry_count=_whole(item, "retry_count"),
            updated_at=_moment_or_none(item, "updated_at") or 0.0,
            next_try_at=_float_or_none(item, "next_try_at") or 0.0,
            given_up=bool(item.get("given_up", {"BOOL": False})["BOOL"]),
            received_at=_float_or_none(item, "received_at") or 0.0,
        )


def holder_of(item: Item) -> MessageKey:
    """Read whose ``UID#`` record a ``MSG#`` record names. Raises StateUnavailable: the record is damaged."""
    with _understood(item):
        return MessageKey(_whole(item, "uidvalidity"), _whole(item, "uid"))


@contextmanager
def _understood(item: Item) -> Iterator[None]:
    """Turn what a damaged record makes of the reading into StateUnavailable, by the record's key."""
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError) as damage:
        sk = item.get("SK", {}).get("S", "without a sort key")
        # Not chained, and only the kind of the damage: the value may hold what was in a mail.
        raise StateUnavailable(
            f"the record {sk} in DynamoDB is damaged ({type(damage).__name__}): correct it by hand"
        ) from None


def _fingerprint_of(item: Item) -> Fingerprint:
    return Fingerprint(
        message_id=_text_of(item, "message_id_header"),
        received_at=_whole(item, "fp_received_at"),
        date=_text_of(item, "fp_date"),
        sender=_text_of(item, "fp_sender"),
        subject=_text_of(item, "fp_subject"),
    )


def _key_of(item: Item) -> MessageKey:
    return _message_key(item["SK"]["S"].partition("#")[2])


def _message_key(pair: str) -> MessageKey:
    uidvalidity, uid = pair.split("#")
    return MessageKey(int(uidvalidity), int(uid))


def _text_of(item: Item, name: str) -> str:
    return str(item[name]["S"]) if name in item else ""


def _whole(item: Item, name: str) -> int:
    return int(item[name]["N"])


def _whole_or_none(item: Item, name: str) -> int | None:
    return _whole(item, name) if name in item else None


def _float_or_none(item: Item, name: str) -> float | None:
    return float(item[name]["N"]) if name in item else None


def _moment_or_none(item: Item, name: str) -> float | None:
    if name not in item:
        return None
    at = datetime.fromisoformat(item[name]["S"])
    if at.tzinfo is None:
        raise ValueError("a moment without its zone")
    return at.timestamp()


def _sets_of(item: Item, name: str) -> Mapping[int, UidSet]:
    sets = item[name]["M"] if name in item else {}
    return {int(uidvalidity): UidSet.parse(uids["S"]) for uidvalidity, uids in sets.items()}
