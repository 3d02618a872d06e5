"""The state machine of one message: every step out of every state, and what is concluded from a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.model import (
    CopySeen,
    CopyUid,
    DestinationView,
    FailRecord,
    Fence,
    Fingerprint,
    Identity,
    LookBack,
    MessageKey,
    SourceMessage,
    Status,
    UidRecord,
    Watermark,
)
from syncer.sync_plan import (
    AppendAgain,
    Blame,
    Found,
    NothingYet,
    Step,
    Undecided,
    Verdict,
    blame,
    first_uid_to_look_at,
    next_try,
    outage_pause,
    plan_new,
    plan_open,
    settle_in_doubt,
    window_start,
)
from syncer.uid_set import UidSet

NOW = 1_700_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR
SETTLE = 600.0
DESTINATION = 7
"""UIDVALIDITY of the destination."""
UIDNEXT = 10
"""Of the destination, before anything was appended."""
KEY = MessageKey(1, 5)
PRINT = Fingerprint("<a@b>", 1_600_000_000, "date", "sender", "subject")


def pending(
    uid: int = 5,
    seen_as: Fingerprint | None = PRINT,
    *,
    fence: Fence | None = Fence(DESTINATION, UIDNEXT),  # noqa: B008 - frozen
    not_found_at: float | None = None,
) -> UidRecord:
    return UidRecord(
        MessageKey(1, uid),
        Status.PENDING,
        Identity(f"identity {uid}"),
        attempt=f"attempt {uid}",
        fence=fence,
        fingerprint=seen_as,
        not_found_at=not_found_at,
    )


def done() -> UidRecord:
    return replace(pending(), status=Status.DONE)


def failed(*, given_up: bool = False) -> FailRecord:
    return FailRecord(KEY, "refused", 1, NOW, NOW, given_up=given_up)


def message(size: int = 100) -> SourceMessage:
    return SourceMessage(KEY, size, "22-Nov-2026 12:00:00 +0000", NOW, gmail_msgid="17")


# -- the next step


@pytest.mark.parametrize(
    ("size", "is_held", "holder", "step"),
    [
        pytest.param(100, False, None, Step.COPY, id="never seen"),
        pytest.param(1000, False, None, Step.COPY, id="as large as is allowed"),
        pytest.param(1001, False, None, Step.TOO_LARGE, id="too large"),
        pytest.param(0, False, None, Step.EMPTY, id="empty"),
        pytest.param(100, True, done(), Step.DUPLICATE, id="copied under another UID"),
        pytest.param(100, True, None, Step.DUPLICATE, id="copied so long ago that its record expired"),
        pytest.param(1001, True, done(), Step.DUPLICATE, id="copied before the limit was lowered"),
        pytest.param(100, True, pending(), Step.WAIT, id="in doubt under another UID"),
        pytest.param(1001, True, pending(), Step.WAIT, id="in doubt, and too large by now"),
    ],
)
def test_the_next_step_for_a_message_without_a_record(
    size: int, is_held: bool, holder: UidRecord | None, step: Step
) -> None:
    assert plan_new(message(size), holder, is_held=is_held, max_bytes=1000) is step


@pytest.mark.parametrize(
    ("record", "failure", "step"),
    [
        pytest.param(None, None, Step.COPY, id="open without a claim"),
        pytest.param(pending(), None, Step.LOOK, id="claimed: died before, during or after APPEND"),
        pytest.param(pending(), failed(), Step.LOOK, id="claimed for another try"),
        pytest.param(done(), None, Step.SETTLED, id="confirmed: died before the watermark"),
        pytest.param(done(), failed(), Step.SETTLED, id="confirmed after an earlier failure"),
        pytest.param(None, failed(), Step.RETRY, id="failed, to be tried again"),
        pytest.param(None, failed(given_up=True), Step.SETTLED, id="failed for good"),
    ],
)
def test_the_next_step_for_a_message_left_open(
    record: UidRecord | None, failure: FailRecord | None, step: Step
) -> None:
    assert plan_open(record, failure) is step


# -- refusals


@pytest.mark.parametrize(
    ("refused", "succeeded", "whose"),
    [
        pytest.param(1, 0, Blame.ASK, id="one message alone"),
        pytest.param(2, 0, Blame.NOBODY, id="two messages, none went through"),
        pytest.param(100, 0, Blame.NOBODY, id="every message"),
        pytest.param(1, 1, Blame.MESSAGES, id="one of two"),
        pytest.param(100, 1, Blame.MESSAGES, id="all but one"),
    ],
)
def test_whose_fault_refusals_are(refused: int, succeeded: int, whose: Blame) -> None:
    assert blame(refused, succeeded) is whose


def test_a_failed_message_is_tried_in_the_next_cycle_then_after_pauses_that_double() -> None:
    pauses = [None if at is None else at - NOW for at in (next_try(tries, NOW, 8) for tries in range(1, 10))]
    assert pauses == [0.0, HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 6 * HOUR, 6 * HOUR, None, None]


@given(st.integers(1, 100))
def test_all_tries_fit_into_two_days(max_attempts: int) -> None:
    at, pauses = NOW, []
    for tries in range(1, max_attempts + 1):
        again = next_try(tries, at, max_attempts)
        assert (again is None) == (tries == max_attempts)
        if again is not None:
            pauses.append(again - at)
            at = again
    assert at - NOW <= 2 * DAY
    assert pauses == sorted(pauses)
    assert not pauses or (pauses[0] == 0.0 and pauses[-1] <= 6 * HOUR)


def test_one_attempt_is_the_only_one() -> None:
    assert next_try(1, NOW, 1) is None


def test_a_message_tried_more_often_than_is_allowed_by_now_is_given_up() -> None:
    assert next_try(7, NOW, 5) is None


def test_an_outage_is_met_with_patience_that_doubles_up_to_half_an_hour() -> None:
    assert [outage_pause(outages) for outages in range(1, 9)] == [0, 0, 300, 600, 1200, 1800, 1800, 1800]


@pytest.mark.parametrize("times", [1027, 100_000], ids=["three weeks", "years"])
def test_an_outage_that_lasts_does_not_overflow(times: int) -> None:
    """A full mailbox nobody looks at refuses everything, every half hour."""
    assert outage_pause(times) == 1800.0
    assert next_try(times, NOW, 10**6) is not None


# -- where to begin


@pytest.mark.parametrize(
    ("completed_at", "oldest_open", "start"),
    [
        pytest.param(None, None, NOW - DAY, id="a first run: the window"),
        pytest.param(NOW - HOUR, None, NOW - DAY, id="a cycle completed within the window"),
        pytest.param(NOW - 3 * DAY, None, NOW - 3 * DAY, id="no cycle completed for longer than the window"),
        pytest.param(NOW - HOUR, NOW - 5 * DAY, NOW - 5 * DAY, id="a message still open from before"),
        pytest.param(NOW - 3 * DAY, NOW - 2 * DAY, NOW - 3 * DAY, id="both, the cycle earlier"),
        pytest.param(None, NOW - HOUR, NOW - DAY, id="a message open within the window"),
    ],
)
def test_the_window_reaches_back_to_whatever_is_not_done(
    completed_at: float | None, oldest_open: float | None, start: float
) -> None:
    found = Watermark(completed_at=completed_at)
    assert window_start(found, oldest_open, NOW, 24.0) == start


def test_without_hours_the_window_is_what_came_since_the_last_completed_cycle() -> None:
    assert window_start(Watermark(completed_at=NOW - HOUR), None, NOW, 0.0) == NOW - HOUR


def test_the_window_reaches_back_to_the_last_look_back() -> None:
    found = Watermark(completed_at=NOW - HOUR, look_back=LookBack(NOW - 7 * HOUR, 1, 2, 2))
    assert window_start(found, None, NOW, 0.0) == NOW - 7 * HOUR


# -- in doubt: where to look


@pytest.mark.parametrize(
    ("fences", "first"),
    [
        pytest.param([Fence(7, 12)], 12, id="one claim: from its fence"),
        pytest.param([Fence(7, 12), Fence(7, 9), Fence(7, 30)], 9, id="several: from the lowest fence"),
        pytest.param([Fence(7, 12), Fence(6, 900)], 1, id="the mailbox was made anew since: everywhere"),
        pytest.param([Fence(7, 12), None], 1, id="a claim without a fence: everywhere"),
        pytest.param([], 1, id="nothing to look for"),
    ],
)
def test_a_look_begins_where_the_first_copy_can_be(fences: Sequence[Fence | None], first: int) -> None:
    assert first_uid_to_look_at([pending(uid, fence=fence) for uid, fence in enumerate(fences)], 7) == first


# -- in doubt: what to conclude


def look(
    *messages: tuple[int, Fingerprint], uidnext: int | None = None, uidvalidity: int = DESTINATION
) -> DestinationView:
    highest = max((uid for uid, _ in messages), default=UIDNEXT - 1)
    return DestinationView(
        Fence(uidvalidity, highest + 1 if uidnext is None else uidnext),
        UIDNEXT,
        tuple(CopySeen(uid, seen_as) for uid, seen_as in messages),
    )


def verdict(record: UidRecord, view: DestinationView, *, owned: Sequence[int] = (), now: float = NOW) -> Verdict:
    return settle_in_doubt([record], view, UidSet(owned), now, SETTLE)[record.key]


def found(uid: int, uidvalidity: int = DESTINATION) -> Found:
    return Found(CopyUid(uidvalidity, uid))


OTHER = Fingerprint("<other@b>", 1, "other date", "other sender", "other subject")
NO_ID = replace(PRINT, message_id="")


@pytest.mark.parametrize(
    ("record", "view", "owned", "expected"),
    [
        pytest.param(pending(), look((10, PRINT)), [], found(10), id="the copy is at the fence"),
        pytest.param(pending(), look((10, OTHER), (11, PRINT)), [], found(11), id="the copy is behind a foreign mail"),
        pytest.param(pending(), look((9, PRINT)), [], NothingYet(first=True), id="an equal one below the fence"),
        pytest.param(pending(), look((10, PRINT)), [10], NothingYet(first=True), id="an equal one, owned by another"),
        pytest.param(pending(), look((10, PRINT), (11, PRINT)), [10], found(11), id="two equal ones, one owned"),
        pytest.param(pending(seen_as=NO_ID), look((10, NO_ID)), [], found(10), id="no Message-ID on either side"),
        pytest.param(
            pending(seen_as=NO_ID), look((10, PRINT)), [], found(10), id="a Message-ID that the server made up"
        ),
        pytest.param(
            pending(fence=Fence(6, 900)),
            look((3, PRINT)),
            [],
            found(3),
            id="the mailbox was made anew, and it is there",
        ),
        pytest.param(pending(fence=None), look((3, PRINT)), [], found(3), id="no fence, and it is there"),
        pytest.param(pending(), look(), [], NothingYet(first=True), id="nothing arrived"),
        pytest.param(pending(), look((10, OTHER)), [], NothingYet(first=True), id="only a foreign mail arrived"),
        pytest.param(
            pending(), look(uidnext=13), [10, 11, 12], NothingYet(first=True), id="only our copies, moved since"
        ),
    ],
)
def test_a_copy_is_found_by_fence_and_fingerprint(
    record: UidRecord, view: DestinationView, owned: Sequence[int], expected: Verdict
) -> None:
    assert verdict(record, view, owned=owned) == expected


@pytest.mark.parametrize(
    ("not_found_at", "expected"),
    [
        pytest.param(None, NothingYet(first=True), id="the first look"),
        pytest.param(NOW, NothingYet(first=False), id="the second, at once"),
        pytest.param(NOW - SETTLE + 1, NothingYet(first=False), id="the second, too soon"),
        pytest.param(NOW - SETTLE, AppendAgain(), id="the second, after the settling time"),
        pytest.param(NOW - DAY, AppendAgain(), id="the second, a day later"),
        pytest.param(NOW + DAY, NothingYet(first=False), id="the clock was set back since"),
    ],
)
def test_it_is_appended_again_only_after_two_looks_spaced(not_found_at: float | None, expected: Verdict) -> None:
    assert verdict(pending(not_found_at=not_found_at), look()) == expected


def test_a_copy_that_came_late_is_found_by_the_second_look() -> None:
    assert verdict(pending(not_found_at=NOW - DAY), look((10, PRINT))) == found(10)


@pytest.mark.parametrize(
    ("record", "view", "owned", "reason"),
    [
        pytest.param(pending(), look(uidnext=11), [], "gone again", id="a UID was handed out and is gone"),
        pytest.param(pending(), look((10, OTHER), (12, OTHER)), [], "gone again", id="a hole between foreign mails"),
        pytest.param(pending(), look((10, OTHER), uidnext=13), [11], "gone again", id="a hole behind our own copy"),
        pytest.param(
            pending(),
            look((10, replace(PRINT, subject="rewritten"))),
            [],
            "similar",
            id="another subject, all else equal",
        ),
        pytest.param(
            pending(),
            look((10, replace(PRINT, sender="rewritten"))),
            [],
            "similar",
            id="another sender, all else equal",
        ),
        pytest.param(
            pending(), look((10, replace(PRINT, date="rewritten"))), [], "similar", id="another date, all else equal"
        ),
        pytest.param(
            pending(), look((10, replace(PRINT, received_at=1))), [], "similar", id="another arrival, all else equal"
        ),
        pytest.param(
            pending(),
            look((10, replace(PRINT, message_id="<new@b>"))),
            [],
            "similar",
            id="another Message-ID, all else equal",
        ),
        pytest.param(pending(), look((10, NO_ID)), [], "similar", id="the Message-ID is gone"),
        pytest.param(
            pending(),
            look((10, replace(OTHER, message_id=PRINT.message_id, received_at=PRINT.received_at))),
            [],
            "similar",
            id="Message-ID and arrival equal, nothing else",
        ),
        pytest.param(
            pending(seen_as=NO_ID),
            look((10, replace(PRINT, subject="rewritten"))),
            [],
            "similar",
            id="no Message-ID, subject",
        ),
        pytest.param(pending(fence=Fence(6, 5)), look((10, OTHER)), [], "made anew", id="the mailbox was made anew"),
        pytest.param(pending(), look(uidnext=UIDNEXT - 1), [], "lower than it was", id="UIDNEXT went back"),
        pytest.param(pending(fence=None), look(), [], "where to look", id="no fence"),
        pytest.param(pending(seen_as=None), look((10, PRINT)), [], "where to look", id="no fingerprint"),
    ],
)
def test_where_nobody_can_tell_nothing_is_guessed(
    record: UidRecord, view: DestinationView, owned: Sequence[int], reason: str
) -> None:
    for asked in (record, replace(record, not_found_at=NOW - DAY)):
        decided = verdict(asked, view, owned=owned)
        assert isinstance(decided, Undecided)
        assert reason in decided.reason


def test_identical_twins_are_matched_one_to_one() -> None:
    twins = [pending(5), pending(6)]
    verdicts = settle_in_doubt(twins, look((10, PRINT), (11, PRINT)), UidSet(), NOW, SETTLE)
    assert verdicts == {MessageKey(1, 5): found(10), MessageKey(1, 6): found(11)}


def test_one_copy_of_identical_twins_settles_the_one_that_was_sent_first() -> None:
    twins = [pending(6), pending(5)]
    verdicts = settle_in_doubt(twins, look((10, PRINT)), UidSet(), NOW, SETTLE)
    assert verdicts == {MessageKey(1, 5): found(10), MessageKey(1, 6): NothingYet(first=True)}


def test_of_identical_twins_each_gets_a_copy_that_can_be_its_own() -> None:
    early, late = pending(6), pending(5, fence=Fence(DESTINATION, 11))
    verdicts = settle_in_doubt([early, late], look((10, PRINT), (11, PRINT)), UidSet(), NOW, SETTLE)
    assert verdicts == {early.key: found(10), late.key: found(11)}


@pytest.mark.parametrize("order", [(5, 6), (6, 5)], ids=["without an ID first", "with an ID first"])
def test_a_message_without_an_id_does_not_take_the_copy_of_one_that_has_it(order: tuple[int, int]) -> None:
    """Otherwise the one is lost, and the other appended twice."""
    without, having = pending(order[0], NO_ID), pending(order[1], PRINT)
    verdicts = settle_in_doubt([without, having], look((10, PRINT)), UidSet(), NOW, SETTLE)
    assert verdicts == {without.key: NothingYet(first=True), having.key: found(10)}


def test_nothing_in_doubt_is_nothing_to_decide() -> None:
    assert settle_in_doubt([], look((10, PRINT)), UidSet(), NOW, SETTLE) == {}


# -- in doubt: whatever happened


@st.composite
def histories(
    draw: st.DrawFn,
) -> tuple[list[UidRecord], dict[MessageKey, int], DestinationView, UidSet]:
    """What came of some APPENDs: in which order they and foreign mail landed, and what a user or the server did since.

    Returns the claims, the UIDs of those that landed, what a look shows, and the UIDs of others' copies.
    """
    count = draw(st.integers(1, 5))
    events = draw(
        st.lists(
            st.sampled_from(["foreign", "ours", *range(count)]),
            max_size=10,
            unique_by=lambda event: event if isinstance(event, int) else object(),
        )
    )
    fences = sorted(draw(st.lists(st.integers(0, len(events)), min_size=count, max_size=count)))
    records = []
    for at in range(count):
        landed_at = events.index(at) if at in events else len(events)
        own = replace(PRINT, message_id=draw(st.sampled_from([f"<{at}@b>", f"<{at}@b>", ""])), subject=f"subject {at}")
        records.append(
            pending(at, own, fence=Fence(DESTINATION, UIDNEXT + min(fences[at], landed_at)), not_found_at=NOW - DAY)
        )
    landed: dict[MessageKey, int] = {}
    shown: list[CopySeen] = []
    owned: list[int] = []
    for uid, event in enumerate(events, start=UIDNEXT):
        if event == "ours":
            owned.append(uid)
        if isinstance(event, int):
            landed[records[event].key] = uid
        if draw(st.integers(0, 9)) == 0:
            continue  # moved or deleted since
        if isinstance(event, int):
            shown.append(CopySeen(uid, served(draw, records[event].fingerprint or PRINT)))
        else:
            # A copy of another message may look like the first of these to the last field.
            shown.append(CopySeen(uid, OTHER if event == "foreign" else records[0].fingerprint or PRINT))
    view = DestinationView(Fence(DESTINATION, UIDNEXT + len(events)), UIDNEXT, tuple(shown))
    return draw(st.permutations(records)), landed, view, UidSet(owned)


def served(draw: st.DrawFn, kept: Fingerprint) -> Fingerprint:
    """Return how a server shows a copy: as it was, with one field rewritten, or with a Message-ID of its own making."""
    if not kept.message_id and draw(st.booleans()):
        kept = replace(kept, message_id="<invented@server>")
    rewritten = [
        replace(kept, date="rewritten"),
        replace(kept, sender="rewritten"),
        replace(kept, subject="rewritten"),
        *([replace(kept, received_at=1)] if kept.message_id != "<invented@server>" and kept.message_id else []),
    ]
    return draw(st.sampled_from([kept, kept, kept, *rewritten]))


@given(histories())
def test_whatever_happened_no_copy_is_made_twice_and_none_is_believed_that_is_not_there(
    history: tuple[list[UidRecord], dict[MessageKey, int], DestinationView, UidSet],
) -> None:
    records, landed, view, owned = history
    verdicts = settle_in_doubt(records, view, owned, NOW, SETTLE)
    assert set(verdicts) == {record.key for record in records}
    for key, decided in verdicts.items():
        if isinstance(decided, Found):
            assert decided.copy == CopyUid(DESTINATION, landed[key])
        if isinstance(decided, AppendAgain):
            assert key not in landed
    copies = [decided.copy for decided in verdicts.values() if isinstance(decided, Found)]
    assert len(copies) == len(set(copies))
