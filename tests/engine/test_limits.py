"""What providers bear: a pace that gives way, and so many octets a day; both are remembered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.errors import Throttled
from syncer.model import Fetched, Outcome, Side, SlowedPace
from tests.engine.conftest import Lines
from tests.engine.test_cycle import settled
from tests.memory_mailboxes import mail
from tests.world import HOUR, World

DAY = 86_400.0
SIZE = len(mail("number 00"))


def throttling(world: World, *, too_fast: bool = True, after: int = 0) -> None:
    """Let the destination take so many messages, and no more for ten minutes."""
    throttled = Throttled(Side.DESTINATION, "Request is throttled.", 600.0, too_fast=too_fast)
    before = len(world.destination.appends)
    world.destination.refuses = lambda _body: throttled if len(world.destination.appends) - before > after else None


def seconds_for(world: World, messages: int) -> float:
    """Return how long a cycle takes to copy so many."""
    world.destination.refuses = lambda _body: None
    world.deliver_many(*(f"{world.time.now} {number}" for number in range(messages)))
    began = world.time.now
    assert world.run().outcome is Outcome.OK
    return world.time.now - began


# -- the pace


def test_a_throttle_answer_halves_the_pace_of_the_cycles_after_it() -> None:
    world = settled(messages_per_second=4.0)
    world.deliver_many("first", "second")
    throttling(world)
    assert world.run().outcome is Outcome.THROTTLED
    assert world.table.watermark.slowed == SlowedPace(2.0, world.time.now)
    world.later(600.0)
    assert seconds_for(world, 38) == pytest.approx(19.0, abs=1.5)
    world.check()


def test_many_throttle_answers_of_one_cycle_halve_it_once() -> None:
    world = settled(messages_per_second=4.0)
    world.append_takes = 0.01
    world.deliver_many(*(f"number {number}" for number in range(20)))
    throttling(world)
    world.run(delay=lambda: 1.0)
    assert world.table.watermark.slowed is not None
    assert world.table.watermark.slowed.rate == 2.0


def test_it_is_halved_again_where_that_was_still_too_fast() -> None:
    world = settled(messages_per_second=4.0)
    world.deliver_many("first", "second")
    for _ in range(3):
        throttling(world)
        world.later(601.0).run()
    assert world.table.watermark.slowed is not None
    assert world.table.watermark.slowed.rate == pytest.approx(0.5, rel=0.1)


def test_the_pace_that_is_set_comes_back_in_time_and_leaves_nothing_behind() -> None:
    world = settled(messages_per_second=4.0)
    world.deliver_many("first", "second")
    throttling(world)
    world.run()
    world.later(6 * HOUR)
    assert seconds_for(world, 38) == pytest.approx(10.0, abs=1.5)
    assert world.table.watermark.slowed is None
    world.check()


def test_a_full_mailbox_says_nothing_about_the_pace() -> None:
    world = settled(messages_per_second=4.0)
    world.deliver_many("first")
    throttling(world, too_fast=False)
    assert world.run().outcome is Outcome.THROTTLED
    assert world.table.watermark.slowed is None


def test_no_more_is_fetched_ahead_than_the_pace_lets_go_soon() -> None:
    """What a deadline leaves behind is fetched again, and Gmail counts it."""
    world = settled(messages_per_second=4.0)
    world.deliver_many(*(f"number {number}" for number in range(200)))
    stop_at = world.time.now + 5.0
    summary = world.run(stop=lambda: Outcome.DEADLINE if world.time.now >= stop_at else None, delay=lambda: 0.1)
    assert summary.outcome is Outcome.DEADLINE
    assert sum(world.source.fetched.values()) - summary.copied <= 40
    world.run_until_quiet()
    world.check()


# -- the day's budget


def test_what_a_day_s_budget_does_not_hold_waits_for_the_next_day(lines: Lines) -> None:
    world = settled(daily_bytes=5 * SIZE)
    world.later(DAY - world.time.now % DAY)
    world.deliver_many(*(f"number {number:02}" for number in range(12)))
    summary = world.run()
    assert (summary.outcome, summary.copied, summary.backlog) == (Outcome.THROTTLED, 5, 7)
    assert "GMAIL_DAILY_BYTES" in str(lines.of("throttled")[0]["reason"])
    assert world.table.watermark.fetched == Fetched(int(world.time.now // DAY), 5 * SIZE)
    copied = [world.later(DAY).run().copied for _ in range(2)]
    assert copied == [5, 2]
    world.check()


def test_a_spent_budget_costs_neither_the_destination_nor_a_body() -> None:
    world = settled(daily_bytes=SIZE)
    world.later(DAY - world.time.now % DAY)
    world.deliver_many("number 01", "number 02")
    world.run()
    calls = world.later().calls(world.run)
    assert not [call for call in calls if call.startswith("destination") or call == "source.fetch"]
    world.settings = replace(world.settings, daily_bytes=0)  # somebody raises it: that counts at once
    assert world.later().run().copied == 1
    world.check()


def test_a_message_larger_than_the_budget_has_a_day_of_its_own() -> None:
    world = settled(daily_bytes=10)
    world.later(DAY - world.time.now % DAY)
    world.deliver_many("number 01", "number 02")
    assert [world.later(DAY).run().copied for _ in range(2)] == [1, 1]
    world.check()


def test_what_a_broken_cycle_fetched_is_counted() -> None:
    world = settled(daily_bytes=100 * SIZE)
    world.later(DAY - world.time.now % DAY)
    world.deliver_many("number 01", "number 02")
    throttling(world, too_fast=False)
    world.run()
    assert world.table.watermark.fetched == Fetched(int(world.time.now // DAY), 2 * SIZE)


def test_without_a_limit_nothing_is_counted() -> None:
    world = settled()
    world.deliver_many("first")
    world.run()
    assert world.table.watermark.fetched is None
