"""Older mail: what belongs to the time asked for, once, whatever happens on the way."""

from __future__ import annotations

import random

import pytest

from syncer import backfill
from syncer.errors import MessageRefused, Throttled
from syncer.model import MessageKey, Outcome, Side
from tests.engine.conftest import Lines
from tests.memory_mailboxes import mail
from tests.world import HOUR, LEASE, Killed, World, cut, die, strike_on, subjects

DAY = 24 * HOUR
YEAR = 365 * DAY


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "BATCH", 4)
    monkeypatch.setattr(backfill, "_MOST_OPEN", 8)


def aged(*days: float, has_msgids: bool = True) -> World:
    """Return a world in which so many days ago a message came each, and whose first run wanted the last day only."""
    world = World(has_msgids=has_msgids)
    for number, ago in enumerate(days):
        world.deliver(f"old-{number}", ago=ago * DAY, wanted=False)
    world.deliver("new", ago=HOUR)
    world.run()
    assert world.destination.stored.total() == 1
    world.later()
    return world


def want(world: World, *numbers: int) -> None:
    for number in numbers:
        world.wanted[mail(f"old-{number}")] += 1


@pytest.mark.parametrize("has_msgids", [True, False], ids=["X-GM-MSGID", "hash"])
def test_what_arrived_in_the_time_asked_for_is_copied_and_nothing_else(has_msgids: bool) -> None:
    world = aged(400, 300, 200, 100, 90, 80, 70, 60, 10, has_msgids=has_msgids)
    want(world, 1, 2, 3, 4, 5, 6)
    report = world.backfill(ago=300.5 * DAY, until_ago=65 * DAY)
    assert (report.outcome, report.listed, report.known, report.copied, report.left) == (Outcome.OK, 6, 0, 6, 0)
    world.check()


def test_the_time_goes_by_the_arrival_to_the_second() -> None:
    world = aged(10.0, 9.0, 8.0)
    want(world, 1)
    since = 9.0 * DAY + LEASE + 1  # so long ago it came by now
    assert world.backfill(ago=since, until_ago=since - 1).copied == 1
    world.check()


def test_begun_again_it_finds_nothing_left_to_do() -> None:
    world = aged(*range(2, 12))
    want(world, *range(10))
    assert world.backfill(ago=YEAR).copied == 10
    opened = world.destination.opened
    again = world.later().backfill(ago=YEAR)
    assert (again.outcome, again.listed, again.known, again.copied) == (Outcome.OK, 11, 11, 0)
    assert world.destination.opened == opened
    world.check()


def test_messages_in_any_order_of_arrival(lines: Lines) -> None:
    """Moved into the INBOX today, an old mail has a new UID and its old date."""
    days = [random.Random(1).uniform(2, 300) for _ in range(25)]
    world = aged(*days)
    want(world, *(number for number, ago in enumerate(days) if 50 < ago < 200))
    report = world.backfill(ago=200 * DAY + LEASE + 1, until_ago=50 * DAY)
    assert report.copied == sum(50 < ago < 200 for ago in days)
    assert len(lines.of("cycle_finished")) == 1 + -(-report.copied // 4), "a batch each"
    world.check()


def test_new_mail_goes_with_it_and_is_not_held_up() -> None:
    world = aged(*range(2, 12))
    want(world, *range(10))
    world.deliver("fresh")
    report = world.backfill(ago=YEAR)
    assert report.copied == 11
    assert subjects(world.destination.stored)
    world.check()


def test_before_the_first_cycle_one_is_run() -> None:
    world = World()
    world.deliver("old-0", ago=30 * DAY)
    world.deliver("new")
    report = world.backfill(ago=YEAR)
    assert (report.outcome, report.copied) == (Outcome.OK, 2)
    world.check()


def test_a_mailbox_that_was_numbered_anew_is_listed_anew() -> None:
    world = aged(*range(2, 12))
    want(world, *range(10))
    cycles = iter([None, world.source.renumber])

    def renumber(call: str, when: str) -> None:
        if (call, when) == ("source.close", "after") and (strike := next(cycles, None)) is not None:
            strike()

    report = world.backfill(ago=YEAR, script=renumber)
    assert report.outcome is Outcome.OK
    world.run_until_quiet()
    assert world.backfill(ago=YEAR).copied == 0
    world.check()


def test_what_has_failed_is_left_to_retry() -> None:
    world = aged(5, 4, 3)
    want(world, 0, 2)
    world.destination.refuses = lambda body: MessageRefused("BAD") if body == mail("old-1") else None
    report = world.backfill(ago=YEAR)
    assert (report.outcome, report.copied, report.failed) == (Outcome.OK, 2, 1)
    assert MessageKey(11, 2) in world.table.failures
    assert world.later().backfill(ago=YEAR).known == 4


def test_a_dry_run_tells_and_touches_nothing(lines: Lines) -> None:
    world = aged(400, 30, 20)
    before = world.table.watermark
    calls = world.calls(lambda: world.backfill(ago=YEAR, dry=True))
    assert [(line["uid"], line["bytes"]) for line in lines.of("would_copy")] == [
        (2, len(mail("old-1"))),
        (3, len(mail("old-2"))),
    ]
    assert {call for call in calls if call.startswith("store.")} == {"store.peek", "store.load"}
    assert not any(call.startswith("destination.") for call in calls)
    assert (world.table.watermark, world.table.owner) == (before, None)
    world.check()


def test_it_tells_how_far_it_is() -> None:
    world = aged(*range(2, 12))
    want(world, *range(10))
    told: list[tuple[int, int]] = []
    world.backfill(ago=YEAR, on_progress=lambda done, left: told.append((done, left)))
    assert told == [(done, 10 - done) for done in range(1, 11)]


def test_a_stop_ends_it_in_good_order_and_what_was_begun_is_finished_by_the_next_cycle() -> None:
    world = aged(*range(2, 22))
    said: list[Outcome] = []

    def stop_at_the_third(call: str, when: str) -> None:
        if (call, when) == ("destination.append", "after") and world.destination.stored.total() >= 4:
            said.append(Outcome.STOPPED)

    report = world.backfill(ago=YEAR, script=stop_at_the_third, stop=lambda: said[0] if said else None)
    assert report.outcome is Outcome.STOPPED
    assert report.left == 1 + 20 - world.destination.stored.total()
    assert world.table.owner is None
    world.later().run()
    assert world.destination.stored.total() in (1 + 4, 1 + 8), "a whole batch"
    want(world, *range(20))
    assert world.later().backfill(ago=YEAR).outcome is Outcome.OK
    world.check()


def test_a_run_at_work_is_waited_for() -> None:
    world = aged(5, 4)
    want(world, 0, 1)
    world.table.owner, world.table.lease_until = "other", world.time.now + LEASE
    assert world.backfill(ago=YEAR).outcome is Outcome.OK
    world.check()


def test_a_run_that_never_ends_is_not_waited_for_for_ever() -> None:
    world = aged(5)
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        world.table.owner, world.table.lease_until = "other", world.time.now + LEASE
        return False

    pause(0)
    report = world.backfill(ago=YEAR, pause=pause)
    assert (report.outcome, report.left) == (Outcome.LEASE_HELD, 0)
    assert sum(pauses) == 2 * LEASE
    assert world.backfill(ago=YEAR, pause=lambda _seconds: True).outcome is Outcome.STOPPED


def test_a_destination_that_asks_to_be_left_alone_ends_it() -> None:
    world = aged(*range(2, 12))
    want(world, *range(10))
    throttled = Throttled(Side.DESTINATION, "backoff", 600)
    world.destination.refuses = lambda _body: throttled
    report = world.backfill(ago=YEAR)
    assert (report.outcome, report.left) == (Outcome.THROTTLED, 10)
    world.destination.refuses = lambda _body: None
    assert world.later().backfill(ago=YEAR).outcome is Outcome.THROTTLED, "it is left alone"
    assert world.later(700).backfill(ago=YEAR).outcome is Outcome.OK
    world.check()


def test_what_nobody_settles_is_not_piled_up() -> None:
    world = aged(*range(2, 22))
    want(world, *range(20))
    for _ in range(12):
        report = world.later().backfill(ago=YEAR, script=strike_on("destination.append", "before", cut))
        if report.outcome is Outcome.OK:
            break
        assert sum(len(uids) for uids in world.table.watermark.open.values()) <= 8 + 4
    world.run_until_quiet()
    world.later().backfill(ago=YEAR)
    world.run_until_quiet()
    world.check()


@pytest.mark.parametrize("has_msgids", [True, False], ids=["X-GM-MSGID", "hash"])
@pytest.mark.parametrize("seed", range(12))
def test_killed_anywhere_and_begun_again_every_message_arrives_once(seed: int, has_msgids: bool) -> None:
    chance = random.Random(seed)
    world = aged(*range(2, 12), has_msgids=has_msgids)
    want(world, *range(10))
    left = 0

    def strike(_call: str, _when: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    kills = 0
    for _ in range(40):
        left = chance.randrange(1, 120)
        try:
            report = world.later().backfill(ago=YEAR, script=strike)
        except Killed:
            kills += 1
        else:
            if report.outcome is Outcome.OK:
                break
    assert kills
    world.run_until_quiet()
    world.later().backfill(ago=YEAR)
    world.run_until_quiet()
    world.check()


def test_what_another_run_copied_since_it_was_listed_is_not_opened_again() -> None:
    world = aged(*range(2, 12))
    want(world, *range(10))
    leases = 0

    def copy_all_meanwhile(call: str, when: str) -> None:
        nonlocal leases
        leases += (call, when) == ("store.take_lease", "before")
        if leases == 2:  # the first was to list
            leases += 1
            assert world.backfill(ago=YEAR, script=lambda _call, _when: None).copied == 10

    report = world.backfill(ago=YEAR, script=copy_all_meanwhile)
    assert (report.outcome, report.copied) == (Outcome.OK, 0)
    world.check()


def test_only_what_may_belong_to_the_time_is_listed() -> None:
    """The search for what came later spares most of the mailbox; a day of it is listed to be sure."""
    world = aged(*(100 - day for day in range(90)))
    world.source.largest_listing = 0
    report = world.backfill(ago=100.5 * DAY, until_ago=95.5 * DAY, dry=True)
    assert report.listed == 5
    assert 5 <= world.source.largest_listing <= 9
