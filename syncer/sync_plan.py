"""The state machine of one message: values in, the next step out. No I/O, no clock, no chance.

    (none) --claim--> PENDING --tagged OK--> DONE
                      PENDING --tagged NO/BAD--> (none) + FAIL     refused: tried again later, then given up
                      PENDING --no tagged answer--> PENDING        in doubt: the copy may be there
    in doubt: look --found--> DONE
                   --not found, twice, IN_DOUBT_SETTLE_SECONDS apart--> appended again under the same claim
                   --cannot be decided--> stays in doubt, and is reported, until a person says what is true:
                       it is there --> DONE          it is not, and the next look does not find it --> appended again

The order is claim, APPEND, confirm, and every crash falls between two of them: before the claim
nothing has happened; after it the record says where to look. A message is never appended unless
its record was written by this run, in a transaction that also proved this run's lease. Two looks,
spaced, because a server may commit an APPEND after the connection died.

What is in doubt is looked for by a fence and a fingerprint. The fence is the destination's UIDNEXT
before the APPEND: a copy has that UID or a higher one (RFC 3501 section 2.3.1.1), so what lies below
is not it, and where UIDNEXT has not moved past what is accounted for, nothing landed. A UID that
was handed out since and is gone may be a copy that somebody moved: then nothing is guessed.

What this takes for granted of DynamoDB and of IMAP servers, and where it ends, is in
docs/exactly-once.md.

No transition is decided anywhere else, and an impossible one raises ValueError: records and world are
then not what this rests on, and a bug is to be found before a mail is sent twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from syncer.fingerprint import is_placeholder
from syncer.model import (
    CopySeen,
    CopyUid,
    Decision,
    DestinationView,
    FailRecord,
    Fingerprint,
    MessageKey,
    SourceMessage,
    Status,
    UidRecord,
    Watermark,
)
from syncer.uid_set import UidSet

_HOUR: Final = 3600.0
_FIRST_PAUSE: Final = 1 * _HOUR
_LONGEST_PAUSE: Final = 6 * _HOUR
_ALL_TRIES: Final = 48 * _HOUR
SUSPICIOUS_REFUSALS: Final = 8
"""So many refusals and no success: nothing more is started (the server hangs up after about ten, PROVIDERS 4.3)."""
_PATIENT_OUTAGES: Final = 2
_OUTAGE_PAUSE: Final = 300.0
_LONGEST_OUTAGE_PAUSE: Final = 1800.0
_MOST_NAMED: Final = 5


class Step(Enum):
    """What to do next about one message of the source."""

    COPY = "claim, append, confirm"
    DUPLICATE = "its identity was copied already: record that"
    WAIT = "its identity is in doubt: leave it for a later cycle"
    LOOK = "a claim is open: look for the copy"
    RETRY = "a try failed: its time decides"
    TOO_LARGE = "larger than MAX_MESSAGE_BYTES: record that, do not fetch"
    EMPTY = "no octets: no server takes it (PROVIDERS 5.3)"
    SETTLED = "nothing"


def plan_new(message: SourceMessage, holder: UidRecord | None, *, is_held: bool, max_bytes: int) -> Step:
    """Return what to do about a message that has no record.

    ``is_held``: its identity is claimed; ``holder`` is the record that holds it. Such a record that is
    gone was DONE: only those expire. Raises ValueError: there is a holder of what is not held.
    """
    if holder is not None and not is_held:
        raise ValueError(f"{holder.key} holds an identity that nobody holds")
    if is_held and (holder is None or holder.status is Status.DONE):
        return Step.DUPLICATE
    if is_held:
        return Step.WAIT
    if message.size > max_bytes:
        return Step.TOO_LARGE
    return Step.EMPTY if message.size == 0 else Step.COPY


def plan_open(record: UidRecord | None, failure: FailRecord | None) -> Step:
    """Return what to do about a message that an earlier run left open, from its records."""
    if record is not None:
        return Step.SETTLED if record.status is Status.DONE else Step.LOOK
    if failure is not None:
        return Step.SETTLED if failure.given_up else Step.RETRY
    return Step.COPY


# -- refusals


class Blame(Enum):
    """Whose fault refusals are."""

    MESSAGES = "others went through: it is these messages"
    NOBODY = "nothing went through: it is the server"
    ASK = "one message alone: ask the server whether it still answers"


def blame(refused: int, succeeded: int) -> Blame:
    """Return whose fault it is that ``refused`` messages were refused while ``succeeded`` went through."""
    if succeeded:
        return Blame.MESSAGES
    return Blame.ASK if refused == 1 else Blame.NOBODY


def next_try(tries: int, now: float, max_attempts: int) -> float | None:
    """Return when a message is tried again after ``tries`` failed tries; None: it is given up.

    In the next cycle first, then after pauses that double up to six hours; all tries fit into two days.
    """
    if tries >= max_attempts:
        return None
    if tries <= 1:
        return now
    longest = min(_LONGEST_PAUSE, _ALL_TRIES / max_attempts)
    return now + min(_doubled(_FIRST_PAUSE, tries - 2), longest)


def outage_pause(outages: int) -> float:
    """Return for how many seconds to leave the destination alone after so many outages in a row.

    Zero at first: the next cycle is the retry. Later up to half an hour, lest the same bodies are
    fetched from Gmail every five minutes until its daily limit is reached (PROVIDERS 1.5).
    """
    if outages <= _PATIENT_OUTAGES:
        return 0.0
    return min(_doubled(_OUTAGE_PAUSE, outages - _PATIENT_OUTAGES - 1), _LONGEST_OUTAGE_PAUSE)


def _doubled(pause: float, times: int) -> float:
    """Double a pause, so often as it still matters: a full mailbox may refuse for months, a float ends at 2**1024."""
    return pause * 2.0 ** min(times, 32)


# -- where to begin


def mailbox_faults(found: Watermark, source: str, destination: str, in_doubt: int) -> list[str]:
    """Return why the records cannot be used with these mailboxes; nothing if they can.

    Two mailboxes of one account may have the same UIDVALIDITY: nothing but the name tells them apart.
    """
    faults = []
    if found.source_mailbox and found.source_mailbox.casefold() != source.casefold():
        faults.append(
            f"GMAIL_SOURCE_FOLDER was {found.source_mailbox!r} and is now {source!r}, but the records"
            " hold UIDs of the first: set it back, or copy the other folder with a DYNAMODB_TABLE of its own"
        )
    moved = found.destination_mailbox.casefold() != destination.casefold()
    if in_doubt and found.destination_mailbox and moved:
        faults.append(
            f"OUTLOOK_TARGET_FOLDER was {found.destination_mailbox!r} and is now {destination!r}, but"
            f" {in_doubt} messages are in doubt in the first: set it back until in_doubt is 0, or decide them yourself"
            " (syncer status lists them, syncer settle --help says how)"
        )
    return faults


def window_start(found: Watermark, oldest_open: float | None, now: float, hours: float) -> float:
    """Return from which arrival time on messages are wanted after UIDVALIDITY changed, or on a first run.

    The last ``hours``; back to the last completed cycle and to the last look-back where that is longer
    ago; and back to the oldest message that is still to be copied, which has no other way back in.
    """
    moments = [now - hours * _HOUR]
    if found.completed_at is not None:
        moments.append(found.completed_at)
    if found.look_back is not None:
        moments.append(found.look_back.at)  # a message that was passed over since then was never looked for again
    if oldest_open is not None:
        moments.append(oldest_open)
    return min(moments)


# -- messages in doubt


@dataclass(frozen=True, slots=True)
class Found:
    """The copy is there."""

    copy: CopyUid


@dataclass(frozen=True, slots=True)
class NothingYet:
    """No copy, so far; ``first`` if no look before this one found nothing."""

    first: bool


@dataclass(frozen=True, slots=True)
class AppendAgain:
    """No copy, twice, long enough apart; or once, and a person says so."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Nobody can tell; ``reason`` says why."""

    reason: str


Verdict = Found | NothingYet | AppendAgain | Undecided


def how_to_decide(uids: Sequence[int]) -> str:
    """Return what a person does about messages of which nobody else can tell, or about the first few of them."""
    named = " ".join(map(str, uids[:_MOST_NAMED]))
    them = "it" if len(uids) == 1 else "them"
    return (
        f"look for {them} in Outlook.com, in every folder, then: syncer settle {named} --copied"
        f" (there), or syncer settle {named} --not-copied (nowhere)"
    )


def first_uid_to_look_at(pending: Sequence[UidRecord], uidvalidity: int) -> int:
    """Return from which UID of the destination on a copy of any of these can be.

    All of them, where the mailbox was made anew since: its UIDs say nothing about the old ones.
    """
    fences = [record.fence for record in pending]
    if any(fence is None or fence.uidvalidity != uidvalidity for fence in fences):
        return 1
    return min((fence.uidnext for fence in fences if fence is not None), default=1)


def settle_in_doubt(
    pending: Sequence[UidRecord], view: DestinationView, owned: UidSet, now: float, settle_seconds: float
) -> Mapping[MessageKey, Verdict]:
    """Decide about every message in doubt, from one look at the destination.

    ``owned`` are the UIDs there that belong to other records; each of the rest can be the copy of
    one message only. Raises ValueError: a record is not PENDING, or the look began above its fence.
    """
    for record in pending:
        if record.status is not Status.PENDING:
            raise ValueError(f"{record.key} is {record.status}: that is not in doubt")
        fence = record.fence
        if fence is not None and fence.uidvalidity == view.fence.uidvalidity and fence.uidnext < view.first_uid:
            raise ValueError(f"the look began above the fence of {record.key}")
    free = {seen.uid: seen for seen in view.messages if seen.uid not in owned}
    verdicts: dict[MessageKey, Verdict] = {}
    undecided = sorted(pending, key=lambda record: record.key)
    # First by Message-ID: a message without one must not take the copy of another that has it.
    for may_be_invented in (False, True):
        for record in undecided:
            can_be = (seen for seen in free.values() if _can_be(record, seen, view))
            match = next((seen for seen in can_be if _is_copy(record, seen, may_be_invented=may_be_invented)), None)
            if match is not None:
                del free[match.uid]
                verdicts[record.key] = Found(CopyUid(view.fence.uidvalidity, match.uid))
        undecided = [record for record in undecided if record.key not in verdicts]
    seen_or_owned = owned | UidSet(seen.uid for seen in view.messages)
    for record in undecided:
        verdicts[record.key] = _without_copy(record, list(free.values()), view, seen_or_owned, now, settle_seconds)
    return verdicts


def _without_copy(
    record: UidRecord,
    free: Sequence[CopySeen],
    view: DestinationView,
    accounted: UidSet,
    now: float,
    settle_seconds: float,
) -> Verdict:
    if record.decision is Decision.NOT_COPIED:
        return AppendAgain()
    fence = record.fence
    if fence is None or record.fingerprint is None:
        return Undecided("the record does not tell where to look")
    if fence.uidvalidity != view.fence.uidvalidity:
        return Undecided("the destination mailbox was made anew since the message was sent")
    if view.fence.uidnext < fence.uidnext:
        return Undecided("the destination's UIDNEXT is lower than it was: its UIDs prove nothing")
    if any(_can_be(record, seen, view) and is_similar(record.fingerprint, seen.fingerprint) for seen in free):
        return Undecided("a similar message is in the destination, and it is not certain that it is the copy")
    if UidSet.of_range(fence.uidnext, view.fence.uidnext - 1) - accounted:
        return Undecided("a message arrived in the destination since and is gone again: it may have been the copy")
    if record.not_found_at is None:
        return NothingYet(first=True)
    return AppendAgain() if now - record.not_found_at >= settle_seconds else NothingYet(first=False)


def _can_be(record: UidRecord, seen: CopySeen, view: DestinationView) -> bool:
    fence = record.fence
    return fence is None or fence.uidvalidity != view.fence.uidvalidity or seen.uid >= fence.uidnext


def _is_copy(record: UidRecord, seen: CopySeen, *, may_be_invented: bool) -> bool:
    mine = record.fingerprint
    return mine is not None and is_copy(mine, seen.fingerprint, may_be_invented=may_be_invented)


def is_copy(mine: Fingerprint, theirs: Fingerprint, *, may_be_invented: bool) -> bool:
    """Tell whether all that survives a server's rewriting is equal.

    ``may_be_invented``: the server may have made up a Message-ID for a message without one.
    """
    return (
        (mine.message_id == theirs.message_id or (may_be_invented and not mine.message_id))
        and mine.received_at == theirs.received_at
        and mine.date == theirs.date
        and mine.sender == theirs.sender
        and mine.subject == theirs.subject
    )


def is_similar(mine: Fingerprint, theirs: Fingerprint) -> bool:
    """Tell whether it could be a copy after all, with a field rewritten beyond recognition.

    Rather too often than too seldom: what is similar is reported to a person, what is not is sent again.
    """
    same_id = bool(mine.message_id) and mine.message_id == theirs.message_id
    same_time = mine.received_at == theirs.received_at
    same_fields = (mine.date == theirs.date) + (mine.sender == theirs.sender) + (mine.subject == theirs.subject)
    return same_id or same_fields == 3 or (same_time and same_fields >= 2) or is_placeholder(theirs)
