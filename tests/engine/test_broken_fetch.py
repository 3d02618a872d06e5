"""A message at which the connection to the source ends, each time: it is counted, and never in the way of others."""

from __future__ import annotations

import random

import pytest

from syncer.errors import Unavailable
from syncer.model import Outcome, Side
from tests.engine.conftest import Lines
from tests.memory_mailboxes import mail
from tests.world import HOUR, LEASE, World


def names(world: World) -> list[str]:
    return sorted(body.partition(b"Subject: about ")[2].split(b"\r\n")[0].decode() for body in world.destination.stored)


@pytest.mark.parametrize("place", ["first", "second", "third"])
def test_the_others_arrive_in_the_next_cycle_wherever_it_lies(place: str) -> None:
    world = World()
    uids = {name: world.deliver(name, wanted=name != place) for name in ("first", "second", "third")}
    world.source.breaking.add(uids[place])
    first = world.run()
    assert (first.outcome, first.failed) == (Outcome.SOURCE_UNAVAILABLE, 1)
    second = world.later().run()
    assert names(world) == sorted({"first", "second", "third"} - {place})
    assert (second.outcome, second.failed) == (Outcome.SOURCE_UNAVAILABLE, 1), "tried again, and last"


@pytest.mark.parametrize("seed", range(20))
def test_the_others_arrive_whatever_is_slow(seed: int) -> None:
    world = World()
    uid = world.deliver("breaks", wanted=False)
    others = [world.deliver(f"sound {number}") for number in range(8)]
    world.source.breaking.add(uid)
    world.run()
    chance = random.Random(seed)
    second = world.later().run(delay=lambda: chance.choice((0.001, 0.05, 2.0)))
    assert (second.outcome, second.copied) == (Outcome.SOURCE_UNAVAILABLE, len(others))


def test_it_is_given_up_after_its_tries_and_says_why(lines: Lines) -> None:
    world = World(max_attempts=5)
    world.source.breaking.add(world.deliver("breaks", wanted=False))
    tries = 0
    for hours in (0.0, 0.0, 1.0, 2.0, 4.0):
        world.deliver(f"mail of try {tries}")
        tries += world.later(hours * HOUR + LEASE + 1).run().failed
    assert tries == 5
    (given_up,) = lines.of("message_given_up")
    assert given_up["reason"] == "the source breaks off when it is to serve it: the connection was cut"
    world.run_until_quiet()
    world.check()
    (failure,) = world.table.failures.values()
    assert (failure.given_up, failure.retry_count) == (True, 5)


def test_it_arrives_once_the_source_serves_it() -> None:
    world = World()
    uid = world.deliver("breaks")
    world.deliver("sound")
    world.source.breaking.add(uid)
    world.run()
    world.source.breaking.clear()
    world.run_until_quiet()
    world.check()


def test_two_of_them_are_in_nobodys_way_and_not_in_each_others() -> None:
    world = World()
    breaking = [world.deliver(name, wanted=False) for name in ("one", "two")]
    world.deliver("sound")
    world.source.breaking.update(breaking)
    for _ in range(4):
        world.later().run()
    assert names(world) == ["sound"]
    assert [key.uid for key in sorted(world.table.failures)] == breaking
    world.source.breaking.discard(breaking[0])
    world.wanted[mail("one")] += 1
    for _ in range(30):
        world.later(2 * HOUR).run()
    assert names(world) == ["one", "sound"]


def test_where_the_source_does_not_answer_a_new_connection_no_message_is_to_blame() -> None:
    world = World()
    world.deliver("one")
    world.deliver("two")

    def down(call: str, when: str) -> None:
        if (call, when) == ("source.fetch", "before"):
            world.source.faults["connect"] = Unavailable(Side.SOURCE, "down")
            world.source.breaking.update(world.source.mails)

    summary = world.run(script=down)
    assert (summary.outcome, summary.failed, summary.backlog) == (Outcome.SOURCE_UNAVAILABLE, 0, 2)
    assert not world.table.failures
    world.source.faults.clear()
    world.source.breaking.clear()
    world.run_until_quiet()
    world.check()


def test_without_a_lease_nothing_is_counted() -> None:
    world = World()
    world.source.breaking.add(world.deliver("breaks", wanted=False))

    def overtake(call: str, when: str) -> None:
        if (call, when) == ("source.connect", "before") and world.source.connections:
            world.time.advance(LEASE + 1)
            world.table.owner, world.table.generation = "another", 99

    assert world.run(script=overtake).outcome is Outcome.LEASE_HELD
    assert not world.table.failures
