"""Messages that Gmail left out of both listings of a cycle are met by a later look-back, and nothing else is."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from syncer.errors import Unavailable
from syncer.listing import LISTING_WINDOW
from syncer.lookback import LOOK_BACK_SECONDS, next_part, plan_look_back
from syncer.model import FailRecord, LookBack, MessageKey, Outcome, Side, Watermark
from syncer.uid_set import UidSet
from tests.engine.conftest import Lines
from tests.memory_mailboxes import mail
from tests.world import HOUR, IDLE, LEASE, NOW, Killed, World, cut, die, strike_at

UV = 11
DAY = 24 * HOUR
LOOKING_BACK = [*IDLE[:-1], "store.load", IDLE[-1]]


def settled(**settings: Any) -> World:
    """Return a world whose first run is over."""
    world = World(**settings)
    world.run()
    world.later()
    return world


def overlooked(world: World | None = None, *, listings: int = 2) -> World:
    """Return a world in which "lost" was left out of so many listings, and passed over."""
    world = world or settled()
    lost, _ = world.deliver_many("lost", "kept")
    world.source.silences[lost] = listings
    world.run()
    return world


# ---- it is found, once


def test_a_message_that_both_listings_left_out_is_copied_by_the_next_look_back(lines: Lines) -> None:
    world = overlooked()
    assert world.table.watermark.last_uid == 2
    summary = world.later(LOOK_BACK_SECONDS).run()
    assert (summary.outcome, summary.copied, summary.last_uid) == (Outcome.OK, 1, 2)
    assert [line["uid"] for line in lines.of("message_found_late")] == [1]
    world.check()


def test_it_is_found_although_one_look_back_leaves_it_out_too() -> None:
    world = overlooked(listings=3)
    assert world.later(LOOK_BACK_SECONDS).run().copied == 0
    assert world.later(LOOK_BACK_SECONDS).run().copied == 1
    world.check()


def test_cycles_every_five_minutes_find_it_within_a_day_and_copy_it_once() -> None:
    world = overlooked(listings=3)
    passed_at = world.time.now
    while not world.destination.stored[mail("lost")]:
        world.later(300.0).run()
    assert world.time.now - passed_at <= 2 * LOOK_BACK_SECONDS <= DAY
    world.let_a_day_pass()
    world.check()


def test_what_arrives_while_it_is_found_is_copied_beside_it() -> None:
    world = overlooked()
    world.later(LOOK_BACK_SECONDS)
    world.deliver("new")
    assert world.run().copied == 2
    world.check()


@pytest.mark.parametrize("has_msgids", [True, False])
def test_one_that_is_known_under_another_uid_is_not_copied_again(has_msgids: bool) -> None:
    world = settled(has_msgids=has_msgids)
    world.deliver("kept")
    world.run()
    back = world.restore(1)
    world.deliver("newer")
    world.source.silences[back] = 2
    world.later().run()
    assert world.later(LOOK_BACK_SECONDS).run().duplicates == 1
    world.check()


def test_one_that_is_too_large_is_recorded() -> None:
    world = settled(max_message_bytes=300)
    large = world.deliver(mail("large", text="x" * 400), wanted=False)
    world.deliver("kept")
    world.source.silences[large] = 2
    world.run()
    assert world.later(LOOK_BACK_SECONDS).run().given_up == 1
    world.let_a_day_pass()
    assert world.table.failures[MessageKey(UV, large)].retry_count == 1
    world.check()


def test_a_failed_message_is_left_to_its_own_time() -> None:
    world = settled()
    uid, _ = world.deliver_many("failed", "kept")
    world.source.silences[uid] = 2
    del world.wanted[mail("failed")]
    world.run()
    given_up = FailRecord(MessageKey(UV, uid), "refused", 5, NOW, NOW, given_up=True)
    world.table.failures[given_up.key] = given_up
    world.let_a_day_pass()
    world.check()


# ---- what it costs


def test_a_look_back_with_nothing_missing_costs_one_read_and_no_write() -> None:
    world = settled()
    world.deliver_many("a", "b")
    world.run()
    assert world.later().calls(world.run) == IDLE
    world.destination.opened = 0
    for _ in range(2):
        world.later(LOOK_BACK_SECONDS)
        assert world.calls(world.run) == LOOKING_BACK
        assert world.later().calls(world.run) == IDLE
    assert world.later(LOOK_BACK_SECONDS).calls(world.run) == IDLE  # looked at twice: never again
    assert world.destination.opened == 0


def test_messages_that_left_the_mailbox_cost_nothing_more() -> None:
    world = settled()
    world.deliver_many("a", "b")
    world.run()
    world.source.take_out(1)
    world.source.take_out(2)
    assert world.later(LOOK_BACK_SECONDS).calls(world.run) == IDLE


def test_a_day_of_idle_cycles_looks_back_three_times_at_most() -> None:
    world = settled()
    world.deliver_many("a", "b")
    world.run()
    costs = [world.later(300.0).calls(world.run) for _ in range(int(DAY / 300))]
    assert [cost for cost in costs if cost != IDLE] == [LOOKING_BACK] * 2


def test_a_large_range_is_looked_at_part_by_part_oldest_first() -> None:
    back = LookBack(NOW, 0, 40, 0)
    parts = []
    while part := next_part(back, 15):
        parts.append(str(part))
        back = replace(back, reached=part.highest)
    assert parts == ["1:15", "16:30", "31:40"]


def test_the_parts_of_a_look_back_follow_each_other_cycle_by_cycle() -> None:
    world = settled()
    world.source.uidnext = LISTING_WINDOW - 1
    world.deliver_many("a", "b", "c")
    world.source.silences[LISTING_WINDOW + 1] = 2
    last = world.deliver("d")
    world.run()
    world.later(LOOK_BACK_SECONDS).run()
    reached = world.table.watermark.look_back
    assert reached is not None
    assert reached.reached == LISTING_WINDOW
    assert world.later().run().copied == 1
    reached = world.table.watermark.look_back
    assert reached is not None
    assert reached.reached == reached.once == last
    world.check()


def test_a_gap_of_any_width_is_crossed_in_a_few_listings() -> None:
    world = settled()
    world.source.uidnext = 4_000_000_000
    world.deliver_many("a", "lost", "b")
    world.source.silences[4_000_000_001] = 2
    world.run()
    calls = world.later(LOOK_BACK_SECONDS).calls(world.run)
    assert calls.count("source.listing") < 25
    world.check()


@pytest.mark.parametrize(
    ("found", "now", "planned"),
    [
        pytest.param(None, NOW, LookBack(NOW, 30, 30, 30), id="none so far: nothing below is looked at"),
        pytest.param(LookBack(NOW, 5, 9, 9), NOW + 60, LookBack(NOW, 5, 9, 9), id="not yet due"),
        pytest.param(LookBack(NOW, 5, 9, 7), NOW + DAY, LookBack(NOW, 5, 9, 7), id="still under way"),
        pytest.param(LookBack(NOW, 5, 9, 9), NOW + 8 * HOUR, LookBack(NOW + 8 * HOUR, 9, 30, 5), id="due"),
        pytest.param(LookBack(NOW, 5, 9, 9), NOW - HOUR, LookBack(NOW - HOUR, 9, 30, 5), id="the clock was set back"),
        pytest.param(LookBack(NOW, 30, 30, 30), NOW + DAY, LookBack(NOW + DAY, 30, 30, 30), id="nothing to look at"),
    ],
)
def test_when_a_look_back_begins(found: LookBack | None, now: float, planned: LookBack) -> None:
    assert plan_look_back(found, 30, now) == planned
    assert next_part(LookBack(NOW, 30, 30, 30)) == UidSet()


# ---- what was never wanted


@pytest.mark.parametrize("settings", [{"initial_sync": "new"}, {"initial_sync": "window"}], ids=["new", "window"])
def test_mail_from_before_the_first_run_is_never_copied(settings: dict[str, Any]) -> None:
    world = World(**settings)
    is_window = settings["initial_sync"] == "window"
    for number in range(3):
        world.deliver(f"old {number}", ago=30 * DAY, wanted=False)
    world.deliver("of today", ago=HOUR, wanted=is_window)
    world.deliver("older, with a higher UID", ago=30 * DAY, wanted=False)
    world.deliver("of today, too", ago=HOUR, wanted=is_window)
    world.run()
    world.later()
    world.deliver("new")
    world.run()
    for _ in range(3):
        world.let_a_day_pass()
    world.check()
    assert (world.table.watermark.window_since, world.table.watermark.window_upto) == (0.0, 0)


def test_a_message_of_the_first_window_that_was_left_out_is_found() -> None:
    world = World()
    world.deliver("old", ago=30 * DAY, wanted=False)
    overlooked(world)
    assert world.later(LOOK_BACK_SECONDS).run().copied == 1
    world.check()


def test_a_table_from_before_look_backs_is_not_searched_for_older_mail() -> None:
    world = settled(initial_sync="new")
    world.deliver("kept")
    world.run()
    world.table.records.clear()  # nothing of what lies below may be looked at
    world.table.watermark = Watermark(uidvalidity=UV, last_uid=1, horizon=1)
    assert world.let_a_day_pass()[-1].copied == 0
    assert world.destination.stored.total() == 1


# ---- UIDVALIDITY


def test_a_look_back_says_nothing_about_new_uids(lines: Lines) -> None:
    world = settled()
    world.deliver_many("a", "b", "c")
    world.run()
    world.later(LOOK_BACK_SECONDS)
    world.source.renumber(first=1)
    world.deliver("d")
    assert world.run().copied == 1
    back = world.table.watermark.look_back
    assert back is not None
    assert back.at == pytest.approx(world.time.now, abs=5)
    world.let_a_day_pass()
    assert lines.of("message_found_late") == []
    world.check()


def test_a_message_passed_over_before_uidvalidity_changes_is_met_in_the_window() -> None:
    world = settled(initial_sync="new")
    world.later(3 * HOUR).run()
    overlooked(world)
    world.later(2 * HOUR).run()  # completed since: what was passed over came before that
    world.source.renumber(first=50)
    world.later().run()
    world.check()


# ---- crashes


@pytest.mark.parametrize("blow", [die, cut], ids=["dies", "loses the reply"])
@pytest.mark.parametrize("has_msgids", [True, False])
def test_a_look_back_struck_at_any_place_copies_what_it_found_once(blow: Any, has_msgids: bool) -> None:
    def due() -> World:
        world = overlooked(settled(has_msgids=has_msgids))
        world.later(LOOK_BACK_SECONDS)
        world.deliver("new")
        return world

    quiet = due()
    before = len(quiet.places)
    quiet.run()
    for place in range(len(quiet.places) - before):
        world = due()
        with contextlib.suppress(Killed):
            world.run(script=strike_at(place, blow))
        world.run_until_quiet()
        world.check()
        world.let_a_day_pass()
        world.check()


def test_what_was_found_waits_as_open_while_the_destination_is_down() -> None:
    world = overlooked()
    world.destination.faults["open"] = Unavailable(Side.DESTINATION, "down")
    world.later(LOOK_BACK_SECONDS).run()
    left = world.table.watermark
    assert (left.open, left.last_uid, left.horizon) == ({UV: UidSet([1])}, 2, 2)
    world.destination.faults.clear()
    assert world.later().run().copied == 1
    world.check()


def test_a_look_back_that_the_source_cuts_short_is_made_again() -> None:
    world = overlooked()
    world.source.faults["open"] = Unavailable(Side.SOURCE, "down")
    world.later(LOOK_BACK_SECONDS).run()
    world.source.faults.clear()
    assert world.later(LEASE + 1).run().copied == 1
    world.check()
