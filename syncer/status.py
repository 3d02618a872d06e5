"""How things stand, from the records alone: no lease, no token, no mailbox, nothing written.

``gather`` reads, ``Status`` is what it found, ``as_json`` the form that other programs read. No address and
nothing of a mail is in it; the reason of a failure is what the mail server said, cleaned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from syncer.model import FailRecord, MessageKey, Side, Standing, UidRecord
from syncer.model import Status as RecordStatus
from syncer.ports import Store
from syncer.uid_set import UidSet

WEEK_DAYS: Final = 7
SIDE_NAMES: Final[Mapping[Side, str]] = {Side.SOURCE: "gmail", Side.DESTINATION: "outlook"}


@dataclass(frozen=True, slots=True)
class Status:
    """What the records say at one moment."""

    now: float
    standing: Standing
    in_doubt: tuple[UidRecord, ...]
    waiting: int
    """Messages still to be copied, as far as the last cycle saw; UIDs it had yet to list count as such."""
    failing: tuple[FailRecord, ...]
    given_up: tuple[FailRecord, ...]

    @property
    def is_empty(self) -> bool:
        """Tell whether no cycle has ever come as far as the source."""
        return self.standing.watermark.uidvalidity is None

    def copied_since(self, days: int) -> int:
        """Return how many messages were copied on the last ``days`` days (UTC), today included."""
        today = datetime.fromtimestamp(self.now, UTC).date()
        wanted = {(today - timedelta(days=back)).isoformat() for back in range(days)}
        return sum(count for day, count in self.standing.watermark.copied_days.items() if day in wanted)

    @property
    def undecided(self) -> tuple[UidRecord, ...]:
        """Return those in doubt that only a person can decide."""
        return tuple(record for record in self.in_doubt if record.unclear and record.decision is None)

    @property
    def holds(self) -> dict[Side, float]:
        """Return until when each side is left alone, as it asked."""
        return {side: until for side, until in self.standing.watermark.not_before.items() if until > self.now}

    @property
    def is_leased(self) -> bool:
        """Tell whether a run is at work, or died less than a lease ago."""
        return bool(self.standing.lease_owner) and self.standing.lease_until >= self.now

    @property
    def last_good_cycle(self) -> float | None:
        """Return when the last cycle that dealt with everything began."""
        return self.standing.watermark.completed_at

    def days_left(self, side: Side) -> float | None:
        """Return how long a side's refresh token will last, in days."""
        forecast = self.standing.watermark.tokens.get(side)
        return forecast.days_left(self.now) if forecast is not None else None


def gather(store: Store, now: float) -> Status:
    """Read the records. Raises StateUnavailable."""
    standing = store.standing()
    found = standing.watermark
    still_open = _keys(found.open)
    records = store.load(still_open, []).records if still_open else {}
    pending = {key for key in still_open if key in records and records[key].status is RecordStatus.PENDING}
    failures = list(store.failures())
    failed = {record.key for record in failures}
    # A record alone says nothing: its message may have been settled since, under the claim of another.
    tried_again = {*_keys(found.failing), *still_open} - pending
    return Status(
        now=now,
        standing=standing,
        in_doubt=tuple(records[key] for key in sorted(pending)),
        waiting=sum(key not in records and key not in failed for key in still_open) + found.ahead,
        failing=tuple(record for record in failures if not record.given_up and record.key in tried_again),
        given_up=tuple(record for record in failures if record.given_up),
    )


def _keys(named: Mapping[int, UidSet]) -> list[MessageKey]:
    return [MessageKey(uidvalidity, uid) for uidvalidity, uids in sorted(named.items()) for uid in uids]


def as_json(status: Status) -> dict[str, Any]:
    """Return what ``status --json`` prints."""
    watermark = status.standing.watermark
    return {
        "at": iso(status.now),
        "last_good_cycle": iso(status.last_good_cycle),
        "last_good_cycle_age_seconds": age(status.last_good_cycle, status.now),
        "updated_at": iso(status.standing.updated_at),
        "uidvalidity": watermark.uidvalidity,
        "last_uid": watermark.last_uid,
        "uidnext": watermark.uidnext or None,
        "copied": {
            "today": status.copied_since(1),
            "7_days": status.copied_since(WEEK_DAYS),
            "total": watermark.copied,
        },
        "waiting": status.waiting,
        "in_doubt": [
            {
                **_key(record.key),
                "claimed_at": iso(record.claimed_at),
                "age_seconds": age(record.claimed_at, status.now),
                "reason": record.unclear or None,
                "decision": record.decision,
            }
            for record in status.in_doubt
        ],
        "failing": [{**_failure(record), "next_try_at": iso(record.next_try_at)} for record in status.failing],
        "given_up": [_failure(record) for record in status.given_up],
        "tokens": {SIDE_NAMES[side]: _token(status, side) for side in Side},
        "holds": {
            str(side): {"until": iso(until), "seconds": round(until - status.now)}
            for side, until in status.holds.items()
        },
        "outages": watermark.outages,
        "lease": {"run_id": status.standing.lease_owner, "until": iso(status.standing.lease_until)}
        if status.is_leased
        else None,
    }


def iso(at: float | None) -> str | None:
    """Return a time as text, UTC, in whole seconds."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(at: float | None, now: float) -> int | None:
    """Return how many seconds ago something was."""
    return None if at is None else max(0, round(now - at))


def _key(key: MessageKey) -> dict[str, int]:
    return {"uidvalidity": key.uidvalidity, "uid": key.uid}


def _failure(record: FailRecord) -> dict[str, Any]:
    return {
        **_key(record.key),
        "reason": record.last_error,
        "tries": record.retry_count,
        "last_try_at": iso(record.updated_at),
    }


def _token(status: Status, side: Side) -> dict[str, Any]:
    forecast = status.standing.watermark.tokens.get(side)
    moments: Sequence[str] = ("signed_in_at", "renewed_at", "ends_at")
    known = {name: iso(getattr(forecast, name)) if forecast is not None else None for name in moments}
    return {**known, "days_left": status.days_left(side)}
