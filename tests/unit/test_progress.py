"""What the watermark promises, whatever happens in which order: nothing is passed by, nothing goes back."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from syncer.model import CopyUid, Fence, LookBack, MessageKey, Side, SourceMessage, Watermark
from syncer.progress import Progress
from syncer.uid_set import UidSet

NOW = 1_700_000_000.0
SOURCE = 3
"""UIDVALIDITY of the source."""
DESTINATION = 7
"""UIDVALIDITY of the destination."""


def key(uid: int, uidvalidity: int = SOURCE) -> MessageKey:
    return MessageKey(uidvalidity, uid)


def begun(found: Watermark | None = None, listed: tuple[int, ...] = ()) -> Progress:
    progress = Progress(found or Watermark(uidvalidity=SOURCE, last_uid=4, horizon=4))
    progress.list_uids(listed)
    return progress


def copied(progress: Progress, uid: int, copy: int) -> None:
    progress.own(CopyUid(DESTINATION, copy))
    progress.settle(key(uid))


# -- last_uid and horizon


def test_the_watermark_moves_over_what_is_settled_and_stops_at_the_first_that_is_not() -> None:
    progress = begun(listed=(5, 6, 9))
    for uid in (5, 6, 9):
        progress.begin(key(uid), Fence(DESTINATION, 10))
    assert (progress.last_uid, progress.horizon) == (4, 9)
    progress.settle(key(6))
    assert progress.last_uid == 4
    progress.settle(key(5))
    assert progress.last_uid == 8  # 7 and 8 are no messages
    progress.settle(key(9))
    assert progress.last_uid == 9


def test_what_was_listed_below_a_settled_message_stays_open() -> None:
    progress = begun(listed=(5, 6, 7))
    progress.settle(key(7))
    written = progress.watermark(NOW)
    assert (written.last_uid, written.horizon) == (4, 7)
    assert written.open == {SOURCE: UidSet([5, 6])}


def test_what_is_above_the_horizon_is_left_to_the_next_listing() -> None:
    progress = begun(listed=(5, 6, 7))
    progress.settle(key(5))
    written = progress.watermark(NOW)
    assert (written.last_uid, written.horizon, written.open) == (5, 5, {})
    assert progress.unsettled == 2


def test_what_was_listed_and_not_wanted_is_passed_over() -> None:
    progress = begun(listed=())
    progress.pass_over(12)
    assert (progress.last_uid, progress.horizon) == (12, 12)
    progress.pass_over(8)
    assert progress.horizon == 12


def test_before_the_first_cycle_there_is_nothing_to_pass_over() -> None:
    progress = Progress(Watermark())
    progress.pass_over(12)
    assert (progress.uidvalidity, progress.last_uid, progress.horizon) == (None, 0, 0)


def test_a_message_whose_claim_was_given_back_stays_open() -> None:
    progress = begun(listed=(5, 6))
    for uid in (5, 6):
        progress.begin(key(uid), Fence(DESTINATION, 10))
    progress.settle(key(6))
    progress.unclaim(key(5))
    written = progress.watermark(NOW)
    assert (written.last_uid, written.open) == (4, {SOURCE: UidSet([5])})


@pytest.mark.parametrize(
    "last_uid",
    [
        pytest.param(100, id="it was settled by an earlier cycle"),
        pytest.param(4, id="it is settled by this cycle, before it is tried again"),
    ],
)
def test_a_failed_message_that_is_tried_again_does_not_pull_the_watermark_back(last_uid: int) -> None:
    still_open = {SOURCE: UidSet([5])} if last_uid == 4 else {}
    found = Watermark(
        uidvalidity=SOURCE,
        last_uid=last_uid,
        horizon=100,
        open=still_open,
        failing={SOURCE: UidSet([5])},
        next_try_at=NOW,
    )
    progress = begun(found)
    progress.fail(key(5), NOW)
    assert progress.watermark(NOW).last_uid == 100
    progress.begin(key(5), Fence(DESTINATION, 10))
    written = progress.watermark(NOW)
    assert (written.last_uid, written.open) == (100, {SOURCE: UidSet([5])})
    # The run dies; the next one finds the claim.
    again = begun(written)
    assert again.open_keys == [key(5)]
    assert again.watermark(NOW).last_uid == 100


# -- failures


def test_a_failed_message_is_settled_and_waits_for_its_time() -> None:
    progress = begun(listed=(5, 6))
    progress.fail(key(5), NOW + 60)
    progress.fail(key(6), NOW + 30)
    written = progress.watermark(NOW)
    assert written.last_uid == 6
    assert (written.failing, written.next_try_at) == ({SOURCE: UidSet([5, 6])}, NOW + 30)
    assert progress.failing_keys == [key(5), key(6)]


def test_a_message_given_up_waits_for_nothing() -> None:
    progress = begun(listed=(5,))
    progress.fail(key(5), NOW)
    progress.fail(key(5), None)
    written = progress.watermark(NOW)
    assert (written.last_uid, written.failing, written.next_try_at) == (5, {}, None)


def test_a_failed_message_that_is_copied_after_all_waits_no_longer() -> None:
    progress = begun(
        Watermark(uidvalidity=SOURCE, last_uid=9, horizon=9, failing={SOURCE: UidSet([5, 6])}, next_try_at=NOW)
    )
    progress.fail(key(6), NOW + 60)
    progress.begin(key(5), Fence(DESTINATION, 10))
    assert progress.watermark(NOW).failing == {SOURCE: UidSet([5, 6])}  # until it is there
    copied(progress, 5, 10)
    written = progress.watermark(NOW)
    assert (written.failing, written.next_try_at) == ({SOURCE: UidSet([6])}, NOW + 60)


def test_as_long_as_no_record_was_read_every_failed_message_is_due_at_the_earliest_time_known() -> None:
    found = Watermark(uidvalidity=SOURCE, last_uid=9, horizon=9, failing={SOURCE: UidSet([5, 6])}, next_try_at=NOW + 60)
    assert begun(found).watermark(NOW) == found


# -- a mailbox whose UIDs are new


def message(uid: int, received_at: float) -> SourceMessage:
    return SourceMessage(key(uid), 1, "", received_at)


@pytest.mark.parametrize(
    ("uid", "received_at", "wanted"),
    [
        pytest.param(10, NOW, True, id="at the start of the window"),
        pytest.param(10, NOW - 1, False, id="before it"),
        pytest.param(20, NOW - 1, False, id="the last that was there, before it"),
        pytest.param(21, NOW - 1, True, id="arrived since the window was made"),
    ],
)
def test_of_what_was_there_already_only_the_window_is_wanted(uid: int, received_at: float, wanted: bool) -> None:
    progress = Progress(Watermark())
    progress.start_anew(SOURCE, 9, since=NOW, upto=20)
    assert progress.wanted(message(uid, received_at)) is wanted
    # And so it is after a crash.
    assert Progress(progress.watermark(NOW)).wanted(message(uid, received_at)) is wanted


def test_without_a_window_everything_is_wanted() -> None:
    progress = Progress(Watermark())
    progress.start_anew(SOURCE, 0, since=0.0, upto=0)
    assert progress.wanted(message(1, -1e9))


def test_a_uidvalidity_that_comes_back_does_not_settle_what_was_not_listed_yet() -> None:
    found = Watermark(uidvalidity=SOURCE + 1, last_uid=9, horizon=9, open={SOURCE: UidSet([91])})
    progress = begun(found)
    progress.start_anew(SOURCE, 5, since=0.0, upto=0)
    written = progress.watermark(NOW)
    assert (written.last_uid, written.horizon, written.open) == (5, 5, {SOURCE: UidSet([91])})


def test_a_new_uidvalidity_begins_anew_and_keeps_what_has_a_claim() -> None:
    found = Watermark(
        uidvalidity=SOURCE,
        last_uid=90,
        horizon=99,
        open={SOURCE: UidSet([91, 95])},
        failing={SOURCE: UidSet([80])},
        next_try_at=NOW,
    )
    progress = Progress(found)
    progress.begin(key(91), Fence(DESTINATION, 10))
    progress.start_anew(SOURCE + 1, 5, since=0.0, upto=0)
    progress.drop(key(95))
    written = progress.watermark(NOW)
    assert (written.uidvalidity, written.last_uid, written.horizon) == (SOURCE + 1, 5, 5)
    assert written.open == {SOURCE: UidSet([91])}
    assert (written.failing, written.next_try_at) == ({}, None)
    progress.list_uids([6])
    copied(progress, 91, 10)
    assert progress.watermark(NOW).open == {}
    assert progress.last_uid == 5


# -- copies that are accounted for


def test_copies_are_remembered_as_far_back_as_the_oldest_open_claim() -> None:
    progress = begun(listed=(5, 6, 7))
    progress.begin(key(5), Fence(DESTINATION, 10))
    copied(progress, 6, 10)
    copied(progress, 7, 11)
    progress.own(CopyUid(DESTINATION, 9))
    assert progress.watermark(NOW).owned == {DESTINATION: UidSet([10, 11])}
    assert progress.owned(DESTINATION) == UidSet([10, 11])
    assert progress.owned(DESTINATION + 1) == UidSet()


def test_copies_are_forgotten_when_nothing_is_open() -> None:
    progress = begun(listed=(5, 6))
    progress.begin(key(5), Fence(DESTINATION, 10))
    copied(progress, 6, 11)
    copied(progress, 5, 10)
    assert progress.watermark(NOW).owned == {}


def test_copies_below_the_oldest_claim_that_is_left_are_forgotten() -> None:
    progress = begun(listed=(5, 6, 7))
    progress.begin(key(5), Fence(DESTINATION, 10))
    progress.begin(key(6), Fence(DESTINATION, 12))
    progress.own(CopyUid(DESTINATION, 11))
    copied(progress, 7, 13)
    copied(progress, 5, 10)
    assert progress.watermark(NOW).owned == {DESTINATION: UidSet([13])}


def test_copies_are_not_forgotten_by_a_cycle_that_ends_before_it_reads_the_claims() -> None:
    """A cycle that keeps Gmail's back-off ends like that; a copy that was moved would be a riddle afterwards."""
    found = Watermark(
        uidvalidity=SOURCE, last_uid=4, horizon=9, open={SOURCE: UidSet([5])}, owned={DESTINATION: UidSet([11, 12])}
    )
    assert begun(found).watermark(NOW).owned == found.owned


def test_copies_in_a_mailbox_made_anew_are_remembered_while_a_claim_from_before_is_open() -> None:
    """Such a claim is looked for among all UIDs of the new mailbox: a copy of another must not be taken for its own."""
    progress = begun(listed=(5, 6))
    progress.begin(key(5), Fence(DESTINATION, 900))
    progress.begin(key(6), Fence(DESTINATION + 1, 1))
    progress.own(CopyUid(DESTINATION + 1, 1))
    progress.settle(key(6))
    assert progress.watermark(NOW).owned == {DESTINATION + 1: UidSet([1])}


# -- the rest of the record


def test_a_back_off_is_kept_until_it_is_over() -> None:
    progress = begun(Watermark(uidvalidity=SOURCE, not_before={Side.SOURCE: NOW + 60}))
    progress.hold(Side.DESTINATION, NOW + 30)
    assert progress.watermark(NOW).not_before == {Side.SOURCE: NOW + 60, Side.DESTINATION: NOW + 30}
    assert progress.watermark(NOW + 30).not_before == {Side.SOURCE: NOW + 60}
    assert progress.watermark(NOW + 60).not_before == {}


def test_outages_count_up_until_a_cycle_completes() -> None:
    progress = begun(Watermark(uidvalidity=SOURCE, outages=2))
    assert progress.count_outage() == 3
    assert progress.watermark(NOW).outages == 3
    progress.complete(NOW - 5)
    written = progress.watermark(NOW)
    assert (written.outages, written.completed_at) == (0, NOW - 5)


@pytest.mark.parametrize(
    ("claimed", "completed_at"),
    [
        pytest.param(True, NOW, id="in doubt: its record knows when it arrived"),
        pytest.param(False, None, id="without a claim: no record knows when it arrived"),
    ],
)
def test_a_cycle_is_complete_if_every_message_left_open_can_be_found_by_a_resync(
    claimed: bool, completed_at: float | None
) -> None:
    progress = begun(Watermark(uidvalidity=SOURCE, last_uid=4, horizon=5, open={SOURCE: UidSet([5])}))
    if claimed:
        progress.begin(key(5), Fence(DESTINATION, 10))
    progress.complete(NOW)
    assert progress.watermark(NOW).completed_at == completed_at


def test_a_window_is_forgotten_once_a_cycle_completes_beyond_it() -> None:
    progress = Progress(Watermark())
    progress.start_anew(SOURCE, 9, since=NOW, upto=20)
    progress.pass_over(19)
    progress.complete(NOW)
    assert (progress.watermark(NOW).window_since, progress.watermark(NOW).window_upto) == (NOW, 20)
    progress.pass_over(20)
    progress.complete(NOW)
    assert (progress.watermark(NOW).window_since, progress.watermark(NOW).window_upto) == (0.0, 0)
    assert progress.window_since is None


def test_a_window_is_remembered_until_no_look_back_lists_what_it_excluded() -> None:
    progress = Progress(Watermark())
    progress.start_anew(SOURCE, 9, since=NOW, upto=20)
    progress.pass_over(30)
    for back in (LookBack(NOW, 9, 30, 9), LookBack(NOW, 9, 30, 30), LookBack(NOW, 30, 40, 19)):
        progress.look_back = back
        progress.complete(NOW)
        assert progress.watermark(NOW).window_upto == 20
    progress.look_back = LookBack(NOW, 30, 40, 20)
    progress.complete(NOW)
    assert progress.watermark(NOW).window_upto == 0


def test_a_look_back_at_old_uids_says_nothing_about_new_ones() -> None:
    progress = begun(Watermark(uidvalidity=SOURCE, look_back=LookBack(NOW, 1, 2, 2)))
    progress.start_anew(SOURCE + 1, 9, since=NOW, upto=20)
    assert progress.watermark(NOW).look_back is None


def test_an_outage_ends_when_the_destination_takes_a_message() -> None:
    progress = begun(Watermark(uidvalidity=SOURCE, outages=2))
    progress.end_outage()
    assert progress.outages == 0
    assert progress.watermark(NOW).outages == 0


def test_unsettled_counts_each_message_once() -> None:
    found = Watermark(
        uidvalidity=SOURCE, last_uid=1, horizon=4, open={SOURCE: UidSet([2]), SOURCE - 1: UidSet([70, 71])}
    )
    progress = begun(found, (5, 6, 7))
    progress.begin(key(5))
    progress.begin(key(6))
    progress.settle(key(6))
    assert progress.unsettled == 5  # 2, 5, 7 here and two from before
    assert progress.open_keys == [key(70, SOURCE - 1), key(71, SOURCE - 1), key(2), key(5)]


# -- any cycle, and any crash


class Claimed(NamedTuple):
    """A PENDING record, as far as it matters here."""

    key: MessageKey
    fence: Fence


class Cycles(RuleBasedStateMachine):
    """Runs that list, claim, copy, fail, write and die, against records that stay.

    What is written is what the store would hold: claims, failures and duplicates stand only once
    the watermark that came with them is written; a confirmation stands at once.
    """

    listed = Bundle("listed")

    def __init__(self) -> None:
        super().__init__()
        self.written = Watermark(uidvalidity=SOURCE)
        self.progress = Progress(self.written)
        self.read = True
        self.uidnext = 1
        self.destination = Fence(DESTINATION, 1)
        self.there: set[MessageKey] = set()
        self.settled: set[MessageKey] = set()
        self.pending: dict[MessageKey, Claimed] = {}
        self.done: dict[MessageKey, CopyUid] = {}
        self.failing: dict[MessageKey, float] = {}
        self.copies: list[CopyUid] = []
        # Not yet in the store: undone by a crash.
        self.uncommitted: set[MessageKey] = set()

    # what a run does

    @initialize()
    def first_run(self) -> None:
        self.restart(read=True)

    @precondition(lambda self: self.read)
    @rule(target=listed, gaps=st.lists(st.integers(1, 3), min_size=1, max_size=4))
    def list_what_is_new(self, gaps: list[int]) -> list[MessageKey]:
        self.progress.pass_over(max((k.uid for k in self.here()), default=0))
        new = []
        for gap in gaps:
            self.uidnext += gap
            new.append(MessageKey(self.uidvalidity, self.uidnext))
        self.there.update(new)
        self.progress.list_uids(k.uid for k in self.here() if k.uid > self.progress.horizon)
        return new

    @precondition(lambda self: self.read)
    @rule(batch=listed, commit=st.booleans())
    def claim(self, batch: list[MessageKey], commit: bool) -> None:
        for k in batch:
            if k.uidvalidity == self.uidvalidity and k not in self.pending and k not in self.settled:
                self.claim_one(k)
        if commit:
            self.write()

    @precondition(lambda self: self.read and self.failing)
    @rule(data=st.data(), commit=st.booleans())
    def try_again(self, data: st.DataObject, commit: bool) -> None:
        k = data.draw(st.sampled_from(sorted(self.failing)))
        if k not in self.pending:
            self.claim_one(k)
        if commit:
            self.write()

    def claim_one(self, k: MessageKey) -> None:
        self.pending[k] = Claimed(k, self.destination)
        self.uncommitted.add(k)
        self.progress.begin(k, self.destination)

    @precondition(lambda self: self.read and self.sent())
    @rule(data=st.data(), told=st.booleans())
    def copy_and_confirm(self, data: st.DataObject, told: bool) -> None:
        k = data.draw(st.sampled_from(self.sent()))
        copy = CopyUid(self.destination.uidvalidity, self.destination.uidnext)
        self.destination = replace(self.destination, uidnext=copy.uid + 1)
        self.copies.append(copy)
        self.progress.own(copy)
        self.done[k] = copy
        del self.pending[k]
        self.failing.pop(k, None)
        self.settled.add(k)
        if told:
            self.progress.settle(k)

    @precondition(lambda self: self.read and self.sent())
    @rule(data=st.data(), again=st.one_of(st.none(), st.floats(NOW, NOW + 100)))
    def refuse(self, data: st.DataObject, again: float | None) -> None:
        k = data.draw(st.sampled_from(self.sent()))
        del self.pending[k]
        self.settled.add(k)
        self.failing.pop(k, None)
        if again is not None:
            self.failing[k] = again
        self.progress.fail(k, again)
        self.write()

    @precondition(lambda self: self.read and self.sent())
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        k = data.draw(st.sampled_from(self.sent()))
        del self.pending[k]
        self.progress.unclaim(k)
        self.write()

    @precondition(lambda self: self.read)
    @rule(batch=consumes(listed))
    def settle_without_a_claim(self, batch: list[MessageKey]) -> None:
        for k in batch:
            if k.uidvalidity == self.uidvalidity and k not in self.pending and k not in self.settled:
                self.settled.add(k)
                self.progress.settle(k)
        self.write()

    @rule()
    def write(self) -> None:
        before, self.written = self.written, self.progress.watermark(NOW)
        self.uncommitted.clear()
        assert before.uidvalidity != self.written.uidvalidity or before.last_uid <= self.written.last_uid
        assert Progress(self.written).watermark(NOW) == self.written

    # what befalls it

    @rule(read=st.booleans())
    def die(self, read: bool) -> None:
        """Begin again from what was written; perhaps end again before the records are read."""
        for k in self.uncommitted:
            self.pending.pop(k, None)
        self.uncommitted.clear()
        self.restart(read=read)

    @rule()
    def the_destination_is_made_anew(self) -> None:
        self.destination = Fence(self.destination.uidvalidity + 1, 1)

    @precondition(lambda self: self.read)
    @rule(horizon=st.integers(0, 3))
    def the_source_is_made_anew(self, horizon: int) -> None:
        new = self.uidvalidity + 1
        self.progress.start_anew(new, horizon, since=0.0, upto=0)
        for k in self.progress.open_keys:
            if k not in self.pending and k not in self.done:
                self.progress.drop(k)
        self.failing = {k: at for k, at in self.failing.items() if k in self.pending}
        self.there = {k for k in self.there if k in self.pending}
        self.uidnext = horizon + 1
        self.write()

    def restart(self, *, read: bool) -> None:
        self.progress = Progress(self.written)
        self.read = read
        if not read:
            return
        for k in self.progress.open_keys:
            if k in self.pending:
                self.progress.begin(k, self.pending[k].fence)
            elif k in self.done:
                self.progress.own(self.done[k])
                self.progress.settle(k)
            elif k in self.failing:
                self.progress.fail(k, self.failing[k])
        self.progress.list_uids(k.uid for k in self.here() if k.uid > self.progress.horizon)

    # what always holds

    @property
    def uidvalidity(self) -> int:
        return self.progress.uidvalidity or SOURCE

    def here(self) -> list[MessageKey]:
        return [k for k in self.there if k.uidvalidity == self.uidvalidity]

    def sent(self) -> list[MessageKey]:
        """Return the claims that stand in the store."""
        return sorted(self.pending.keys() - self.uncommitted)

    def still_open(self) -> set[MessageKey]:
        return {MessageKey(v, uid) for v, uids in self.written.open.items() for uid in uids}

    @invariant()
    def no_claim_is_lost_sight_of(self) -> None:
        assert set(self.sent()) <= self.still_open()

    @invariant()
    def what_is_not_settled_is_open_or_above_the_horizon(self) -> None:
        for k in self.there:
            if k.uidvalidity == self.written.uidvalidity and k.uid <= self.written.horizon:
                assert k in self.settled or k in self.still_open()

    @invariant()
    def the_watermark_passes_nothing_that_is_not_settled(self) -> None:
        for k in self.there:
            if k.uidvalidity == self.written.uidvalidity and k.uid <= self.written.last_uid:
                assert k in self.settled
        assert self.written.last_uid <= self.written.horizon

    @invariant()
    def every_copy_that_a_look_may_meet_is_accounted_for(self) -> None:
        """By the watermark, or by a record that the watermark names as open."""
        named = {self.done[k] for k in self.still_open() if k in self.done}
        for k in self.sent():
            fence = self.pending[k].fence
            for copy in self.copies:
                if (copy.uidvalidity, copy.uid) >= (fence.uidvalidity, fence.uidnext):
                    assert copy in named or copy.uid in self.written.owned.get(copy.uidvalidity, UidSet())

    @invariant()
    def nothing_is_remembered_of_copies_that_no_look_asks_for(self) -> None:
        if not self.written.open:
            assert self.written.owned == {}


TestAnyCycleAndAnyCrash = Cycles.TestCase
TestAnyCycleAndAnyCrash.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


SETS = st.dictionaries(st.integers(1, 4), st.frozensets(st.integers(1, 30), min_size=1).map(UidSet), max_size=3)


@given(
    horizon=st.integers(0, 40),
    last_uid=st.integers(0, 40),
    still_open=SETS,
    failing=SETS,
    owned=SETS,
    next_try_at=st.floats(0, 2 * NOW),
    until=st.floats(NOW + 1, 2 * NOW),
    outages=st.integers(0, 9),
)
def test_what_was_written_is_found_and_written_again_unchanged(
    horizon: int,
    last_uid: int,
    still_open: dict[int, UidSet],
    failing: dict[int, UidSet],
    owned: dict[int, UidSet],
    next_try_at: float,
    until: float,
    outages: int,
) -> None:
    still_open[SOURCE] = still_open.get(SOURCE, UidSet()) & UidSet.of_range(1, horizon)
    still_open = {uidvalidity: uids for uidvalidity, uids in still_open.items() if uids}
    lowest = min(still_open.get(SOURCE, ()), default=horizon + 1)
    found = Watermark(
        uidvalidity=SOURCE,
        last_uid=max(min(last_uid, horizon), lowest - 1),
        horizon=horizon,
        open=still_open,
        failing=failing,
        next_try_at=next_try_at if failing else None,
        owned=owned if still_open else {},
        window_since=NOW,
        window_upto=12,
        not_before={Side.DESTINATION: until},
        completed_at=NOW,
        outages=outages,
        look_back=LookBack(NOW, 1, 3, 2),
    )
    assert Progress(found).watermark(NOW) == found


def test_a_later_resync_does_not_change_what_was_wanted_at_first() -> None:
    progress = Progress(Watermark())
    progress.start_anew(SOURCE, 10, since=NOW - 100, upto=20)
    first = progress.watermark(NOW)
    assert first.wanted_since == NOW - 100
    later = Progress(first)
    later.start_anew(SOURCE + 1, 0, since=NOW + 500, upto=5)
    assert later.watermark(NOW).wanted_since == NOW - 100


def test_what_is_reopened_is_open_and_a_resync_reaches_back_to_it() -> None:
    progress = Progress(Watermark())
    progress.start_anew(SOURCE, 10, since=0.0, upto=10)
    progress.reopen([MessageKey(SOURCE, 4)], NOW - 50)
    written = progress.watermark(NOW)
    assert written.open == {SOURCE: UidSet([4])}
    assert (written.last_uid, written.horizon, written.window_since) == (3, 10, NOW - 50)
    progress.settle(MessageKey(SOURCE, 4))
    progress.complete(NOW)
    assert progress.watermark(NOW).window_since == 0.0
