"""Failed messages once more: which are due then, which are left alone, and that none comes twice."""

from __future__ import annotations

import pytest

from syncer.errors import MessageRefused
from syncer.model import MessageKey, Outcome, Status
from tests.engine.conftest import Lines
from tests.memory_mailboxes import mail
from tests.world import HOUR, LEASE, Killed, World, cut, die, strike_on

DAY = 24 * HOUR


def refusing(world: World, *names: str) -> None:
    refused = {mail(name) for name in names}
    world.destination.refuses = lambda body: MessageRefused("BAD Error. 11") if body in refused else None


@pytest.fixture
def world() -> World:
    """Two of three messages were refused until they were given up; the destination takes them by now."""
    made = World(max_attempts=2)
    made.run()
    refusing(made, "b", "c")
    made.deliver_many("a", "b", "c")
    for day in range(3):
        made.deliver(f"fine {day}")  # else it would pass for an outage
        made.later(DAY).run()
    refusing(made)
    assert [record.given_up for record in made.table.failures.values()] == [True, True]
    return made


def test_what_was_given_up_arrives_with_the_next_cycle(world: World) -> None:
    report = world.later().retry()
    assert (report.outcome, report.due, report.given_up_before, report.skipped) == (Outcome.OK, 2, 2, 0)
    assert world.run().copied == 2
    assert world.table.failures == {}
    world.check()


def test_only_what_is_named_and_what_has_not_failed_is_told(world: World) -> None:
    report = world.later().retry(3, 1, 99)
    assert (report.due, report.unknown) == (1, (1, 99))
    assert world.run().copied == 1
    assert [record.key.uid for record in world.table.failures.values()] == [2]


def test_its_tries_begin_anew(world: World) -> None:
    refusing(world, "b", "c")
    world.later().retry(2)
    world.deliver("d")
    assert (world.run().failed, world.table.failures[MessageKey(11, 2)].given_up) == (1, False)
    world.later(DAY).deliver("e")
    world.run()
    assert world.table.failures[MessageKey(11, 2)].given_up


def test_what_waits_for_its_time_is_tried_at_once(world: World) -> None:
    world.settings = World(max_attempts=9).settings
    refusing(world, "late")
    late = world.deliver("late")
    for number in range(3):
        world.deliver(f"other {number}")
        world.later().run()
    refusing(world)
    assert world.later().run().copied == 0, "its time has not come"
    tries = world.table.failures[MessageKey(11, late)].retry_count
    report = world.retry(late)
    assert (report.due, report.given_up_before) == (1, 0)
    assert world.table.failures[MessageKey(11, late)].retry_count == tries
    assert world.run().copied == 1


def test_nothing_has_failed_and_nothing_is_written_but_the_lease() -> None:
    world = World()
    world.deliver("a")
    world.run()
    before = world.table.watermark
    calls = world.calls(lambda: world.later().retry())
    assert calls == ["store.take_lease", "store.failures", "store.release"]
    assert world.table.watermark == before
    world.check()


def test_no_mailbox_is_contacted(world: World) -> None:
    calls = world.calls(lambda: world.later().retry())
    assert [call for call in calls if not call.startswith("store.")] == []


def test_another_run_at_work_is_left_alone(world: World) -> None:
    world.later()
    world.table.owner, world.table.lease_until = "other", world.time.now + LEASE
    assert world.retry().outcome is Outcome.LEASE_HELD
    assert all(record.given_up for record in world.table.failures.values())


def test_what_is_in_doubt_is_looked_for_not_tried_again(world: World, lines: Lines) -> None:
    """Its APPEND was not answered: to send it again without a look could make a second copy."""
    world.later().retry(2)
    world.run(script=strike_on("destination.append", "after", cut))
    assert world.table.records[MessageKey(11, 2)].status is Status.PENDING
    report = world.later().retry()
    assert (report.due, report.skipped) == (1, 1)
    assert lines.of("retry_skipped")[0]["uid"] == 2
    world.run_until_quiet()
    world.check()


def test_a_mailbox_that_was_numbered_anew_has_no_message_of_that_uid(world: World, lines: Lines) -> None:
    world.source.renumber()
    world.later().run()
    report = world.later().retry()
    assert (report.due, report.skipped) == (0, 2)
    assert "numbered anew" in lines.of("retry_skipped")[0]["reason"]


def test_a_message_too_large_is_recorded_again_and_copied_once_the_limit_was_raised() -> None:
    world = World(max_message_bytes=300)
    world.run()
    world.deliver(mail("large") + b"x" * 400)
    world.later().run()
    world.retry()
    assert (world.later().run().given_up, world.source.fetched.total()) == (1, 0)
    world.settings = World(max_message_bytes=3000).settings
    world.retry()
    assert world.later().run().copied == 1
    world.check()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["store.take_lease", "store.failures", "store.load", "store.commit", "store.release"])
def test_a_crash_leaves_every_message_due_or_given_up(world: World, call: str, when: str) -> None:
    world.later()
    with pytest.raises(Killed):
        world.retry(script=strike_on(call, when, die))
    for key, record in world.table.failures.items():
        is_named = key.uid in world.table.watermark.failing.get(11, ())
        assert is_named is not record.given_up
    world.later().retry()
    world.run_until_quiet()
    world.check()


def test_the_store_that_fails_says_so(world: World) -> None:
    report = world.later().retry(script=strike_on("store.failures", "before", cut))
    assert (report.outcome, report.due) == (Outcome.STATE_UNAVAILABLE, 0)
