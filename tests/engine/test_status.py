"""What the records tell somebody who only looks."""

from __future__ import annotations

import json

import pytest

from syncer.errors import MessageRefused, Throttled
from syncer.model import Forecast, MessageKey, Outcome, Side
from syncer.status import Status, as_json
from tests.memory_mailboxes import mail
from tests.world import HOUR, LEASE, NOW, Killed, World, cut, die, strike_on

DAY = 24 * HOUR


def shown(status: Status) -> dict[str, object]:
    """Return what ``--json`` has, after a trip through JSON."""
    found: dict[str, object] = json.loads(json.dumps(as_json(status)))
    return found


def test_a_table_in_which_nothing_ever_happened() -> None:
    status = World().status()
    assert status.is_empty
    assert (status.last_good_cycle, status.waiting, status.in_doubt, status.failing) == (None, 0, (), ())
    assert shown(status)["last_uid"] == 0
    assert shown(status)["tokens"] == {
        name: {"signed_in_at": None, "renewed_at": None, "ends_at": None, "days_left": None}
        for name in ("gmail", "outlook")
    }


def test_it_reads_the_records_and_touches_nothing_else() -> None:
    world = World()
    world.deliver("a")
    world.run()
    before = world.table.watermark
    assert world.calls(world.status) == ["store.standing", "store.failures"]
    assert (world.table.watermark, world.table.owner) == (before, None)


def test_what_a_cycle_leaves() -> None:
    world = World()
    world.forecasts = lambda: {Side.DESTINATION: Forecast(Side.DESTINATION, ends_at=NOW + 90 * DAY)}
    world.deliver_many("a", "b")
    world.run()
    status = world.status()
    assert (status.last_good_cycle, status.waiting, status.copied_since(1), status.copied_since(7)) == (NOW, 0, 2, 2)
    assert (status.standing.watermark.last_uid, status.standing.watermark.uidnext) == (2, 3)
    assert shown(status)["last_good_cycle"] == "2026-11-18T11:06:40Z"
    assert shown(status)["copied"] == {"today": 2, "7_days": 2, "total": 2}
    assert status.days_left(Side.DESTINATION) == 90
    assert not status.is_leased


def test_what_was_copied_by_day() -> None:
    world = World()
    for day in range(20):
        world.deliver(f"day {day}")
        world.run()
        world.later(DAY)
    world.deliver_many("x", "y")
    world.run()
    status = world.status()
    assert (status.copied_since(1), status.copied_since(7), status.standing.watermark.copied) == (2, 8, 22)
    world.later(3 * DAY)
    assert (world.status().copied_since(1), world.status().copied_since(7)) == (0, 5)
    world.later(30 * DAY)
    assert (world.status().copied_since(7), world.status().standing.watermark.copied) == (0, 22)
    assert len(world.table.watermark.copied_days) == 8


def test_what_failed_and_when_it_is_tried_again() -> None:
    world = World(max_attempts=3)
    world.run()
    world.destination.refuses = lambda body: MessageRefused("BAD Error. 11") if b"bad" in body else None
    world.deliver_many("bad", "good")
    world.later().run()
    world.deliver("better")
    world.later().run()
    (failed,) = world.status().failing
    assert (failed.key.uid, failed.retry_count, failed.next_try_at - world.time.now) == (1, 2, HOUR)
    assert "BAD Error. 11" in failed.last_error
    world.deliver("best")
    world.later(2 * HOUR).run()
    status = world.status()
    assert (status.failing, [record.key.uid for record in status.given_up]) == ((), [1])


def test_a_failed_message_that_turned_out_to_be_a_duplicate_does_not_fail_any_more() -> None:
    """Its failure stays in the table until it expires, and nobody tries it again."""
    world = World(has_msgids=False)
    world.run()
    world.source.refusals = {1: 2}
    world.deliver("twin")
    for other in ("one", "two"):
        world.deliver(other)
        world.later().run()
    assert len(world.status().failing) == 1
    world.deliver("twin", wanted=False)
    world.later().run()
    world.later(2 * HOUR).run()
    assert world.table.failures
    assert (world.status().failing, world.table.watermark.failing) == ((), {})
    world.check()


def test_what_is_in_doubt_and_since_when() -> None:
    world = World()
    world.run()
    world.deliver_many("a", "b")
    world.later().run(script=strike_on("destination.append", "after", cut))
    claimed_at = world.time.now
    world.later(HOUR)
    status = world.status()
    assert {record.claimed_at for record in status.in_doubt} == {claimed_at}
    assert len(status.in_doubt) + status.waiting == 2
    assert shown(status)["in_doubt"][0]["age_seconds"] == 3600  # type: ignore[index]


def test_what_waits_after_a_stop() -> None:
    world = World()
    world.run()
    world.deliver_many(*(f"number {number}" for number in range(100)))
    said = []

    def strike(call: str, _when: str) -> None:
        if call == "destination.append":
            said.append(call)

    world.later().run(script=strike, stop=lambda: Outcome.STOPPED if said else None)
    status = world.status()
    assert 0 < status.waiting == 100 - status.copied_since(1)


def test_a_back_off_while_it_lasts() -> None:
    world = World()
    world.run()
    throttled = Throttled(Side.DESTINATION, "Suggested Backoff Time: 900000 milliseconds", 900.0)
    world.destination.refuses = lambda _body: throttled
    world.deliver("a")
    world.later().run()
    assert world.status().holds == {Side.DESTINATION: world.time.now + 900}
    assert shown(world.status())["holds"]["destination"]["seconds"] == 900  # type: ignore[index]
    world.later(1000)
    assert world.status().holds == {}


def test_who_is_at_work_and_who_died() -> None:
    world = World()
    world.run()
    world.deliver("a")
    with pytest.raises(Killed):
        world.later().run(script=strike_on("destination.append", "before", die))
    assert world.status().is_leased
    assert shown(world.status())["lease"] is not None
    world.later(2 * LEASE)
    assert not world.status().is_leased
    assert world.status().standing.lease_owner


def test_a_copy_whose_confirmation_was_the_last_thing_a_run_did_is_counted_by_the_next() -> None:
    world = World()
    world.run()
    world.deliver("a")
    with pytest.raises(Killed):
        world.later().run(script=strike_on("store.confirm", "after", die))
    assert (world.status().copied_since(1), world.status().waiting, len(world.status().in_doubt)) == (0, 0, 0)
    world.later().run()
    assert world.status().copied_since(1) == 1
    assert world.table.records[MessageKey(11, 1)].copied_at is not None
    assert world.destination.stored[mail("a")] == 1
