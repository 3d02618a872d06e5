"""A large backlog in short cycles: each stops in good order, and what is remembered does not grow with what is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncer.model import Outcome, Watermark
from syncer.uid_set import UidSet
from tests.world import World

MESSAGES = 1500


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world with a backlog of several listings."""
    monkeypatch.setattr("syncer.listing.LISTING_WINDOW", 400)
    monkeypatch.setattr("syncer.body_window.WINDOW_MESSAGES", 64)
    world = World(initial_sync="all")
    world.checked = False  # after every call, of everything: that is another test's, and takes its time
    world.deliver_many(*(f"number {number}" for number in range(MESSAGES)))
    return world


def deadline(world: World, seconds: float) -> Callable[[], Outcome | None]:
    stop_at = world.time.now + seconds
    return lambda: Outcome.DEADLINE if world.time.now >= stop_at else None


def ranges(sets: dict[int, UidSet]) -> int:
    """Return how much a record takes for these."""
    return sum(str(uids).count(",") + 1 for uids in sets.values())


def test_it_is_copied_in_successive_cycles_that_stop_in_good_order(world: World) -> None:
    done = cycles = 0
    while cycles < 100:
        cycles += 1
        summary = world.run(stop=deadline(world, 20.0), delay=lambda: 0.05)
        assert (summary.in_doubt, summary.failed) == (0, 0)
        done += summary.copied
        left = world.table.watermark
        assert (left.last_uid, left.open) == (done, {})  # what was not begun is as if never seen
        if summary.outcome is Outcome.OK:
            break
        assert (summary.outcome, summary.backlog > 0) == (Outcome.DEADLINE, True)
        world.later(5.0)
    assert cycles > 3
    assert sum(world.source.fetched.values()) - MESSAGES <= 64 * cycles
    assert not any(fetched > cycles for fetched in world.source.fetched.values())
    world.check()


def test_no_record_grows_with_it(world: World) -> None:
    seen: list[Watermark] = []
    world.run(script=lambda call, when: seen.append(world.table.watermark), delay=lambda: 0.05)
    assert max(ranges(dict(mark.open)) for mark in seen) <= 64
    assert max(ranges(dict(mark.owned)) for mark in seen) <= 64
    assert world.run().copied == 0
    world.check()


def test_its_requests_grow_no_faster_than_it_does() -> None:
    def requests(messages: int) -> int:
        world = World(initial_sync="all")
        world.checked = False
        world.deliver_many(*(f"number {number}" for number in range(messages)))
        return len([c for c in world.calls(lambda: world.run(delay=lambda: 0.01)) if c.startswith("store.")])

    assert requests(800) <= 2.2 * requests(400)
