"""Where a cycle begins: on the first run, and in a mailbox whose UIDs tell nothing any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncer.errors import MessageRefused, Unavailable
from syncer.model import MessageKey, Outcome, Side
from syncer.uid_set import UidSet
from tests.engine.conftest import Lines
from tests.memory_mailboxes import DAY, lookalikes, mail
from tests.world import HOUR, NOW, Killed, World, cut, die, strike_on, subjects

WINDOW = 24.0


def arrived(world: World) -> list[str]:
    return [subject.partition("\r\n")[0] for subject in subjects(world.destination.stored)]


def down(world: World, *, is_down: bool = True) -> None:
    world.destination.faults.clear()
    if is_down:
        world.destination.faults["open"] = Unavailable(Side.DESTINATION, "down")


# ---- the first run


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        pytest.param({"initial_sync": "window"}, ["edge", "new"], id="window"),
        pytest.param({"initial_sync": "window", "resync_window_hours": 1.0}, ["new"], id="a shorter window"),
        pytest.param({"initial_sync": "new"}, [], id="new"),
        pytest.param({"initial_sync": "all"}, ["edge", "new", "old", "outside"], id="all"),
        pytest.param(
            {"initial_sync": "since", "initial_since": NOW - WINDOW * HOUR}, ["edge", "new"], id="since, at its edge"
        ),
        pytest.param(
            {"initial_sync": "since", "initial_since": NOW - 40 * DAY}, ["edge", "new", "outside"], id="since"
        ),
    ],
)
def test_the_first_run_copies_what_was_asked_for(settings: dict[str, Any], wanted: list[str]) -> None:
    world = World(**settings)
    for name, ago in {
        "old": 400 * DAY,
        "outside": WINDOW * HOUR + 1,
        "edge": WINDOW * HOUR,
        "new": 60.0,
    }.items():
        world.deliver(name, ago=ago, wanted=name in wanted)
    summary = world.run()
    assert (arrived(world), summary.listed, summary.last_uid) == (wanted, len(wanted), 4)
    world.check()


@pytest.mark.parametrize("kind", ["window", "new", "all", "since"])
def test_an_empty_mailbox_is_a_beginning_too(kind: str) -> None:
    world = World(initial_sync=kind)
    assert world.run().outcome is Outcome.OK
    world.deliver("first")
    world.later().run()
    assert arrived(world) == ["first"]
    world.check()


def test_uids_need_not_be_in_the_order_of_arrival() -> None:
    world = World()
    for name, ago in {"a": 60.0, "b": 90 * DAY, "c": 3 * HOUR, "d": 90 * DAY}.items():
        world.deliver(name, ago=ago, wanted=name in "ac")
    world.run()
    world.check()


def test_a_message_that_the_listing_leaves_out_is_not_lost() -> None:
    world = World()
    uids = world.deliver_many("a", "b", "c")
    world.source.silent_about = {uids[0], uids[2]}
    world.run()
    world.later().run()
    world.check()


def test_the_window_is_remembered_across_a_stop() -> None:
    world = World()
    world.deliver("at the edge", ago=WINDOW * HOUR - 60)
    world.deliver("outside", ago=WINDOW * HOUR + 60, wanted=False)
    down(world)
    world.run()
    down(world, is_down=False)
    world.later(10 * HOUR).run()
    assert arrived(world) == ["at the edge"]
    world.check()


def test_the_window_is_written_down_before_anything_is_copied() -> None:
    world = World()
    world.deliver("at the edge", ago=WINDOW * HOUR - 60)
    with pytest.raises(Killed):
        world.run(script=strike_on("store.load", "before", die))
    world.later(10 * HOUR).run()
    assert arrived(world) == ["at the edge"]
    world.check()


def test_an_old_message_that_the_first_listing_leaves_out_is_not_copied_later() -> None:
    world = World()
    world.deliver("new")
    world.deliver("old", ago=90 * DAY, wanted=False)
    world.source.silent_about = {2}
    world.run()
    world.later().run()
    world.check()


# ---- a new UIDVALIDITY


def test_what_is_known_is_skipped_and_the_rest_is_copied(lines: Lines) -> None:
    world = World()
    world.deliver_many("a", "b", "c")
    world.run()
    world.deliver("d")
    world.source.renumber(first=2)
    summary = world.later().run()
    assert (summary.copied, summary.duplicates, summary.last_uid) == (1, 3, 5)
    changed = lines.of("uidvalidity_changed")[0]
    assert (changed["was"], changed["uidvalidity"]) == (11, 12)
    world.check()


@pytest.mark.parametrize("has_msgids", [True, False])
@pytest.mark.parametrize("first", [1, 3, 30, 20_000], ids=lambda first: f"UIDs from {first}")
def test_uids_that_overlap_the_old_ones_are_not_taken_for_them(first: int, has_msgids: bool) -> None:
    world = World(has_msgids=has_msgids, initial_sync="all")
    world.deliver_many("a", "b")
    world.run()
    world.deliver_many(*"cdefgh")
    world.source.renumber(first=first)
    world.later().run()
    world.check()


def test_the_window_reaches_back_to_the_last_completed_cycle() -> None:
    world = World()
    world.deliver("before")
    world.run()
    world.later(HOUR)
    world.deliver("while the program was off")
    world.later(100 * HOUR)
    world.source.renumber()
    world.run()
    assert arrived(world) == ["before", "while the program was off"]
    world.check()


@pytest.mark.parametrize("kind", ["window", "new"])
def test_the_window_reaches_back_to_the_one_that_was_not_completed(kind: str) -> None:
    world = World(initial_sync=kind)
    world.deliver("from before", ago=30.0 if kind == "window" else 7200.0, wanted=kind == "window")
    down(world)
    world.run()
    world.deliver("early", ago=-10.0)
    for _ in range(3):
        world.later(20 * HOUR).run()
    world.source.renumber()
    world.run()
    down(world, is_down=False)
    world.later(20 * HOUR).run()
    world.check()


def test_the_window_reaches_back_to_a_message_that_waits_without_a_claim() -> None:
    """It has no record that tells when it arrived: a cycle that leaves it is not completed."""
    world = World()
    world.destination.tells_uids = False
    for body in lookalikes("alike", 2):
        world.deliver(body)
    assert world.run().backlog == 1
    world.later(30 * HOUR)
    world.source.renumber()
    world.run()
    world.check()


def test_two_changes_in_a_row_lose_nothing() -> None:
    world = World()
    world.deliver("first")
    world.run()
    world.deliver("refused")
    world.destination.refuses = lambda body: MessageRefused("BAD") if body == mail("refused") else None
    world.later().run()
    world.deliver("copied")
    world.later().run()
    down(world)
    for _ in range(2):
        world.later(30 * HOUR)
        world.source.renumber()
        world.run()
    down(world, is_down=False)
    world.destination.refuses = lambda _body: None
    world.run_until_quiet()
    world.check()


def test_a_failed_message_is_met_under_its_new_uid() -> None:
    world = World(resync_window_hours=1.0)
    world.destination.refuses = lambda body: MessageRefused("BAD") if body == mail("refused") else None
    world.deliver_many("refused", "good")
    world.run()
    world.later(3 * HOUR).run()
    world.later(3 * HOUR)
    world.source.renumber(first=9)
    world.destination.refuses = lambda _body: None
    world.run()
    world.check()
    assert MessageKey(12, 9) in world.table.records


@pytest.mark.parametrize("when", ["during", "after"])
def test_what_is_in_doubt_stays_so_under_its_old_uid_until_it_is_settled(when: str) -> None:
    world = World()
    world.deliver("doubtful")
    world.run(script=strike_on("destination.append", when, cut))
    world.source.renumber()
    assert world.later().run().listed == 1
    world.run_until_quiet()
    world.check()
    (holder,) = world.table.holders.values()
    assert holder == (MessageKey(11, 1) if when == "after" else MessageKey(12, 1))


def test_with_new_what_came_since_the_first_run_is_new_under_every_uid() -> None:
    world = World(initial_sync="new")
    world.deliver("from before", wanted=False)
    world.run()
    world.later(HOUR).run()
    world.later(HOUR)
    world.deliver("since", ago=1800.0)
    world.source.renumber()
    world.run()
    assert arrived(world) == ["since"]
    world.check()


def test_a_change_inside_a_backlog_loses_nothing() -> None:
    world = World(initial_sync="all")
    for number in range(40):
        world.deliver(f"number {number:02}", ago=(40 - number) * DAY)
    world.run(script=strike_on("destination.append", "before", cut, nth=15))
    world.later(100 * HOUR)
    world.source.renumber(first=10)
    world.run_until_quiet()
    world.check()


def test_an_old_uid_without_a_claim_is_no_failed_message() -> None:
    world = World()
    world.run()
    world.source.renumber()
    world.later().run()
    world.table.watermark = replace(world.table.watermark, open={11: UidSet([5])})
    assert world.later().run().failed == 0
    world.check()
