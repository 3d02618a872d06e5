"""How far a cycle has come, kept in memory and written with every commit: the WATERMARK record in the making.

Two numbers and two sets carry all memory of what is open, so that nothing ever has to search the
history:

* ``horizon``: every UID up to it is settled, or in ``open``;
* ``last_uid``: every UID up to it is settled, so it is one below the lowest open UID;
* ``open``: UIDs up to the horizon which may have a PENDING record, or none;
* ``failing``: UIDs whose FAIL record waits for another try (settled, as far as ``last_uid`` goes).

A claim is written in one transaction with a watermark whose ``open`` names it: so a crash leaves no
claim that the next run does not find. ``open`` may name settled UIDs; the records tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from syncer.forecast import warn_of_endings
from syncer.model import (
    CopyUid,
    Fence,
    Fetched,
    Forecast,
    LookBack,
    MessageKey,
    Side,
    SlowedPace,
    SourceMessage,
    Watermark,
)
from syncer.uid_set import MAX_UID, UidSet

_NONE: Final = UidSet()
DAYS_COUNTED: Final = 8
"""Days with copies that are remembered one by one."""


class Progress:
    """Of one cycle, from the watermark it found to the one it leaves."""

    def __init__(self, found: Watermark) -> None:
        self._base = found
        self._uidvalidity = found.uidvalidity
        self._horizon = found.horizon
        self._reached = found.last_uid
        """What ``last_uid`` was when it was last written: it never goes back."""
        self._listed: Sequence[int] = ()
        self._next_listed = 0
        self._unsettled: set[int] = set()
        self._unlisted = found.ahead
        """Of what lies above the horizon: UIDs that this cycle has yet to list."""
        self._open: dict[int, set[int]] = {v: set(uids) for v, uids in found.open.items()}
        self._failing: dict[MessageKey, float] = {}
        self._fences: dict[MessageKey, Fence | None] = {
            MessageKey(v, uid): None for v, uids in found.open.items() for uid in uids
        }
        """Of what may have a claim; None until its record was read."""
        self._owned: dict[int, UidSet] = dict(found.owned)
        self._just_owned: dict[int, list[int]] = {}
        """Of the destination, to be put into ``_owned``: many at a time, since each time makes a set anew."""
        self._just_copied: Counter[str] = Counter()
        """By day, to be put into the record, likewise."""
        self._fetched = found.fetched
        for uidvalidity, uids in found.failing.items():
            for uid in uids:
                self._failing[MessageKey(uidvalidity, uid)] = found.next_try_at or 0.0

    # -- the source mailbox

    @property
    def uidvalidity(self) -> int | None:
        """UIDVALIDITY that ``last_uid`` and ``horizon`` belong to; None before the first cycle."""
        return self._uidvalidity

    @property
    def horizon(self) -> int:
        """The highest UID that was decided upon."""
        return self._horizon

    @property
    def last_uid(self) -> int:
        """The highest UID up to which everything is settled."""
        waiting = self._open.get(self._uidvalidity or 0)
        # A failed message that is tried again was settled when it failed: it does not pull the watermark back.
        return max(self._reached, min(self._horizon, min(waiting) - 1) if waiting else self._horizon)

    def start_anew(self, uidvalidity: int, horizon: int, *, since: float, upto: int) -> None:
        """Begin with a mailbox whose UIDs are new: nothing up to ``horizon`` is wanted.

        Of what lies between, up to ``upto``, only what arrived at ``since`` or later is wanted.
        """
        self._uidvalidity = uidvalidity
        self._horizon, self._reached = horizon, 0 if uidvalidity != self._base.uidvalidity else self._reached
        self._listed, self._next_listed, self._unsettled = (), 0, set()
        # Failed messages of the old UIDVALIDITY cannot be fetched by their UID any more: the window
        # reaches back to them, and they arrive under their new UIDs.
        self._failing = {key: at for key, at in self._failing.items() if key.uidvalidity == uidvalidity}
        # A later resync wants less, because the rest was dealt with: that is missed if it is not there.
        first = self._base.uidvalidity is None
        wanted_since = since if first else min(since, self._base.wanted_since)
        self._base = replace(
            self._base, window_since=since, window_upto=upto, wanted_since=wanted_since, look_back=None
        )

    @property
    def look_back(self) -> LookBack | None:
        """How far what lies below the horizon was listed again; None: nothing of it ever is."""
        return self._base.look_back

    @look_back.setter
    def look_back(self, look_back: LookBack) -> None:
        self._base = replace(self._base, look_back=look_back)

    def reopen(self, keys: Iterable[MessageKey], since: float) -> None:
        """Have messages copied that have no record, the oldest of which arrived at ``since``.

        Until that is done, a resync reaches back to them.
        """
        for key in keys:
            self._open.setdefault(key.uidvalidity, set()).add(key.uid)
            self._fences.setdefault(key, None)
        self._base = replace(self._base, window_since=since)

    def wanted(self, message: SourceMessage) -> bool:
        """Tell whether a listed message is to be copied, as far as the window of a resync goes."""
        return message.key.uid > self._base.window_upto or message.received_at >= self._base.window_since

    def list_uids(self, uids: Iterable[int]) -> None:
        """Note what is to be dealt with above the horizon, in UID order."""
        self._listed = sorted(uid for uid in uids if uid > self._horizon)
        self._next_listed = 0
        self._unsettled = set(self._listed)

    def pass_over(self, uid: int) -> None:
        """Raise the horizon to ``uid``; what was listed below it and is not settled becomes open."""
        if uid <= self._horizon or self._uidvalidity is None:
            return
        waiting = self._open.setdefault(self._uidvalidity, set())
        while self._next_listed < len(self._listed) and self._listed[self._next_listed] <= uid:
            listed = self._listed[self._next_listed]
            if listed in self._unsettled:
                waiting.add(listed)
            self._next_listed += 1
        self._horizon = uid

    @property
    def window_since(self) -> float | None:
        """From which arrival time on the last resync, not yet completed and looked back at, wants messages; or None."""
        return self._base.window_since or None

    @property
    def outages(self) -> int:
        """How many cycles in a row the destination refused every message."""
        return self._base.outages

    # -- messages

    def begin(self, key: MessageKey, fence: Fence | None = None) -> None:
        """Note that a message is about to be claimed, with the destination as it is before."""
        if key.uidvalidity == self._uidvalidity:
            self.pass_over(key.uid)
        self._open.setdefault(key.uidvalidity, set()).add(key.uid)
        if fence is not None or key not in self._fences:
            self._fences[key] = fence

    def settle(self, key: MessageKey) -> None:
        """Note that a message needs nothing more."""
        if key.uidvalidity == self._uidvalidity:
            self._unsettled.discard(key.uid)
            self.pass_over(key.uid)
        self._open.get(key.uidvalidity, set()).discard(key.uid)
        self._failing.pop(key, None)
        self._fences.pop(key, None)

    def unclaim(self, key: MessageKey) -> None:
        """Note that a message has no claim any more and stays open."""
        self._fences.pop(key, None)

    def fail(self, key: MessageKey, next_try_at: float | None) -> None:
        """Note that a try failed: settled, to be tried again at ``next_try_at`` (None: given up)."""
        self.settle(key)
        if next_try_at is not None:
            self._failing[key] = next_try_at

    @property
    def unsettled(self) -> int:
        """How many messages that were seen are neither copied nor recorded as duplicate or failed."""
        here = self._open.get(self._uidvalidity or 0, set()) | self._unsettled
        return len(here) + sum(len(uids) for v, uids in self._open.items() if v != self._uidvalidity)

    @property
    def open_keys(self) -> list[MessageKey]:
        """Return what may have a claim, or is still to be copied, from before this cycle or in it."""
        return [MessageKey(v, uid) for v, uids in sorted(self._open.items()) for uid in sorted(uids)]

    @property
    def failing_keys(self) -> list[MessageKey]:
        """Return what waits for another try."""
        return sorted(self._failing)

    def drop(self, key: MessageKey) -> None:
        """Forget a key that has no claim, of a message that will be met under its new UID."""
        self._open.get(key.uidvalidity, set()).discard(key.uid)
        self._failing.pop(key, None)
        self._fences.pop(key, None)

    # -- the destination mailbox

    def own(self, copy: CopyUid) -> None:
        """Note that a UID of the destination belongs to a record that says so: no copy of another message is there."""
        self._just_owned.setdefault(copy.uidvalidity, []).append(copy.uid)

    def owned(self, uidvalidity: int) -> UidSet:
        """Return the UIDs of the destination that are accounted for, as far back as the oldest open claim."""
        self._gather()
        return self._owned.get(uidvalidity, _NONE)

    # -- what is written

    def hold(self, side: Side, until: float) -> None:
        """Note that a side asked to be left alone."""
        self._base = replace(self._base, not_before={**self._base.not_before, side: until})

    def count_outage(self) -> int:
        """Count one more cycle in a row in which the destination refused everything; return the count."""
        self._base = replace(self._base, outages=self._base.outages + 1)
        return self._base.outages

    def end_outage(self) -> None:
        """Note that the destination took a message."""
        if self._base.outages:
            self._base = replace(self._base, outages=0)

    @property
    def slowed(self) -> SlowedPace | None:
        """The pace that the destination was found to bear; None: the one that is set."""
        return self._base.slowed

    @slowed.setter
    def slowed(self, slowed: SlowedPace | None) -> None:
        self._base = replace(self._base, slowed=slowed)

    def fetched_on(self, day: int) -> int:
        """Return how many octets were fetched from the source on a day."""
        return self._fetched.octets if self._fetched is not None and self._fetched.day == day else 0

    def count_fetched(self, day: int, octets: int) -> None:
        """Note that so many octets more are fetched."""
        self._fetched = Fetched(day, self.fetched_on(day) + octets)

    def name_mailboxes(self, source: str, destination: str) -> None:
        """Note whose UIDs these are from now on."""
        self._base = replace(self._base, source_mailbox=source, destination_mailbox=destination)

    def complete(self, started_at: float) -> None:
        """Note that a cycle which began at ``started_at`` dealt with all there was.

        Not while a message waits without a claim: a resync finds its arrival time in no record, and
        would not reach back to it. The window of the last resync is then still being dealt with, too.
        """
        self.end_outage()
        if any(self._fences.get(key) is None for key in self.open_keys):
            return
        self._base = replace(self._base, completed_at=started_at)
        back = self._base.look_back
        # A look-back must not take for missed what the window excluded.
        passed = self._horizon if back is None else min(self._horizon, back.twice, back.reached)
        if passed >= self._base.window_upto:
            self._base = replace(self._base, window_since=0.0, window_upto=0)

    def see(self, uidnext: int, unlisted: int) -> None:
        """Note the source's UIDNEXT, and how many UIDs below it are still to be listed."""
        self._base = replace(self._base, uidnext=uidnext)
        self._unlisted = unlisted

    def count_copy(self, at: float) -> None:
        """Count a message that was copied; to be called as it is settled, so that each is counted once."""
        self._just_copied[_day(at)] += 1

    def _gather(self) -> None:
        """Put what was noted message by message to where it is kept."""
        for uidvalidity, uids in self._just_owned.items():
            self._owned[uidvalidity] = self._owned.get(uidvalidity, _NONE) | UidSet(uids)
        self._just_owned.clear()
        if self._just_copied:
            days = Counter(self._base.copied_days) + self._just_copied
            kept = sorted(days)[-DAYS_COUNTED:]
            self._base = replace(
                self._base,
                copied=self._base.copied + self._just_copied.total(),
                copied_days={day: days[day] for day in kept},
            )
            self._just_copied.clear()

    def foresee(self, forecasts: Mapping[Side, Forecast], now: float) -> None:
        """Note how long the refresh tokens will last, and warn of one that ends soon; without news, as it was."""
        if forecasts:
            self._base = replace(self._base, tokens=dict(forecasts))
        self._base = replace(self._base, token_warned_at=warn_of_endings(self._base, now))

    def watermark(self, now: float) -> Watermark:
        """Return the record as it is to be written now."""
        self._gather()
        self._reached = self.last_uid
        still_open = {v: UidSet(uids) for v, uids in self._open.items() if uids}
        due = list(self._failing.values())
        failing: dict[int, list[int]] = {}
        for key in self._failing:
            failing.setdefault(key.uidvalidity, []).append(key.uid)
        return replace(
            self._base,
            uidvalidity=self._uidvalidity,
            last_uid=self._reached,
            horizon=self._horizon,
            open=still_open,
            failing={v: UidSet(uids) for v, uids in failing.items()},
            next_try_at=min(due) if due else None,
            owned=self._forget_old_copies(),
            not_before={side: until for side, until in self._base.not_before.items() if until > now},
            ahead=len(self._listed) - self._next_listed + self._unlisted,
            fetched=self._fetched,
        )

    def _forget_old_copies(self) -> dict[int, UidSet]:
        """Forget the copies made before the oldest open claim, since no look will ever ask for them. Fences only rise.

        Nothing is forgotten while a claim has not been read. And a claim from before the destination
        was made anew is looked for among all UIDs of the new mailbox, so that all of these are kept.
        """
        fences = list(self._fences.values())
        if not fences:
            self._owned = {}
        elif None not in fences:
            self._owned = {
                uidvalidity: uids & UidSet.of_range(_oldest(fences, uidvalidity), MAX_UID)
                for uidvalidity, uids in self._owned.items()
            }
        return {uidvalidity: uids for uidvalidity, uids in self._owned.items() if uids}


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _oldest(fences: Iterable[Fence | None], uidvalidity: int) -> int:
    """Return from which UID on a mailbox is looked at for claims with these fences."""
    return min((f.uidnext if f is not None and f.uidvalidity == uidvalidity else 1 for f in fences), default=1)
