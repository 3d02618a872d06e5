"""Records rebuilt from both mailboxes: what is there is not copied again, and what is missing still arrives."""

from __future__ import annotations

from collections import Counter

import pytest

from syncer.errors import AuthError, Throttled, Unavailable
from syncer.model import MessageKey, Outcome, Side, Status
from tests.engine.conftest import Lines
from tests.memory_mailboxes import as_exchange_serves, lookalikes, mail
from tests.world import HOUR, LEASE, NOW, Killed, World, die, strike_at, strike_on

DAY = 24 * HOUR


def copied(count: int = 3, *, has_msgids: bool = True) -> World:
    """A world in which all was copied."""
    world = World(has_msgids=has_msgids, initial_sync="all")
    for number in range(count):
        world.deliver(f"mail-{number}", ago=3 * DAY - number)
    world.run_until_quiet()
    return world


def counts(world: World) -> Counter[bytes]:
    return Counter(copy.body for copy in world.destination.copies.values())


@pytest.mark.parametrize("has_msgids", [True, False], ids=["X-GM-MSGID", "hash"])
def test_after_the_table_was_lost_nothing_is_copied_twice(has_msgids: bool) -> None:
    world = copied(has_msgids=has_msgids)
    world.lose_the_table()
    report = world.adopt()
    assert (report.outcome, report.adopted, report.left_open) == (Outcome.OK, 3, 0)
    assert world.run().listed == 0
    world.check()


@pytest.mark.parametrize("has_msgids", [True, False], ids=["X-GM-MSGID", "hash"])
def test_what_is_missing_still_arrives(has_msgids: bool) -> None:
    world = copied(has_msgids=has_msgids)
    world.lose_the_table()
    world.deliver("new", ago=2 * DAY)
    report = world.adopt()
    assert (report.adopted, report.left_open) == (3, 1)
    assert world.destination.stored == Counter(
        {body: n for body, n in world.wanted.items() if b"about new" not in body}
    )
    assert world.run().copied == 1
    world.check()


def test_a_record_is_like_one_of_a_cycle() -> None:
    world = copied()
    before = dict(world.table.records)
    world.lose_the_table()
    world.adopt()
    assert {k: (r.status, r.identity, r.copy, r.fingerprint) for k, r in world.table.records.items()} == {
        k: (r.status, r.identity, r.copy, r.fingerprint) for k, r in before.items()
    }
    assert {r.copied_at for r in world.table.records.values()} == {world.time.now}


def test_nothing_is_fetched_where_the_source_numbers_its_messages() -> None:
    world = copied()
    world.lose_the_table()
    world.source.fetched.clear()
    world.adopt()
    assert not world.source.fetched


def test_copies_are_known_after_exchange_wrote_them_anew() -> None:
    world = World(initial_sync="all")
    world.destination.rewrites = as_exchange_serves
    world.deliver_many("a", "b")
    world.run()
    world.lose_the_table()
    assert world.adopt().adopted == 2
    world.check()


def test_two_mails_with_one_message_id_are_told_apart() -> None:
    world = World(initial_sync="all")
    world.deliver(mail("first", message_id="<the-same@mail.test>"))
    world.run()
    world.lose_the_table()
    world.deliver(mail("second", message_id="<the-same@mail.test>"))
    assert (world.adopt().adopted, world.run().copied) == (1, 1)
    world.check()


def test_mail_that_another_tool_copied_is_taken_as_it_is() -> None:
    world = World()
    for name in ("a", "b"):
        world.deliver(name, ago=9 * DAY, wanted=False)
        world.destination.put(mail(name), NOW - 9 * DAY)
    assert world.adopt().adopted == 2
    world.run()
    assert counts(world) == Counter([mail("a"), mail("b")])


def test_a_copy_that_its_owner_deleted_is_copied_again() -> None:
    world = copied()
    world.destination.take_out(41)
    world.lose_the_table()
    assert world.adopt().left_open == 1
    world.run()
    assert counts(world) == world.wanted


def test_lookalikes_have_a_copy_each() -> None:
    world = World(initial_sync="all")
    for body in lookalikes("a", 3):
        world.deliver(body)
    world.run_until_quiet()
    world.lose_the_table()
    assert world.adopt().adopted == 3
    world.check()


@pytest.mark.parametrize("has_msgids", [True, False], ids=["X-GM-MSGID", "hash"])
def test_where_a_lookalike_has_no_copy_nobody_guesses(has_msgids: bool, lines: Lines) -> None:
    world = World(initial_sync="all", has_msgids=has_msgids)
    for body in lookalikes("a", 3):
        world.deliver(body)
    world.run_until_quiet()
    world.destination.take_out(41)
    world.lose_the_table()
    report = world.adopt()
    assert (report.similar, report.adopted, report.left_open) == (3, 0, 0)
    assert [line["uid"] for line in lines.of("adopt_undecided")] == [1, 2, 3]
    assert {f.given_up for f in world.table.failures.values()} == {True}
    world.run_until_quiet()
    assert len(world.destination.copies) == 2


def test_a_similar_message_is_reported_and_not_copied() -> None:
    world = World(initial_sync="all")
    world.deliver("a", wanted=False)
    world.destination.put(mail("a"), NOW - 61)  # the same message, but for a second of its arrival
    assert world.adopt().similar == 1
    world.run()
    assert len(world.destination.copies) == 1
    failure = world.table.failures[MessageKey(11, 1)]
    assert failure.last_error == "a similar message is in the destination"


def test_the_same_bytes_twice_are_one_message_where_the_hash_is_the_identity() -> None:
    world = World(initial_sync="all", has_msgids=False)
    world.deliver("a")
    world.deliver("a", wanted=False)
    world.run_until_quiet()
    world.lose_the_table()
    report = world.adopt()
    assert (report.adopted, report.duplicates) == (1, 1)
    world.check()


def test_mail_from_before_the_date_is_left_out() -> None:
    world = World()
    world.deliver("old", ago=9 * DAY, wanted=False)
    world.deliver("new", ago=HOUR)
    report = world.adopt(since=NOW - 5 * DAY)
    assert (report.listed, report.left_open) == (1, 1)
    world.run()
    world.check()
    assert world.audit(days=20).is_clean


def test_an_empty_source_is_adopted() -> None:
    world = World()
    assert world.adopt(since=NOW - DAY).outcome is Outcome.OK
    world.deliver("a")
    world.run()
    world.check()


@pytest.mark.parametrize("has_msgids", [True, False], ids=["X-GM-MSGID", "hash"])
def test_killed_anywhere_it_is_made_again(has_msgids: bool) -> None:
    def prepared() -> World:
        world = copied(45, has_msgids=has_msgids)
        world.lose_the_table()
        world.deliver("new")
        return world

    world = prepared()
    before = len(world.places)
    world.adopt()
    for place in range(0, len(world.places) - before, 1 if has_msgids else 7):
        world = prepared()
        with pytest.raises(Killed):
            world.adopt(script=strike_at(place, die))
        world.later()
        again = world.adopt()
        assert again.outcome is Outcome.OK or again.faults  # the first one had ended
        world.run()
        world.check()


def test_records_without_a_watermark_are_taken_as_adopted() -> None:
    world = copied(45)
    world.lose_the_table()
    with pytest.raises(Killed):
        world.adopt(script=strike_on("store.commit", "after", die))
    assert len(world.table.records) == 40
    assert world.table.watermark.uidvalidity is None
    assert world.later().adopt().adopted == 45
    world.check()


def test_what_was_given_up_by_a_run_that_died_is_decided_anew() -> None:
    world = World(initial_sync="all")
    world.deliver("a")
    similar = world.destination.put(mail("a"), NOW - 61)
    with pytest.raises(Killed):
        world.adopt(script=strike_on("store.commit", "after", die))
    world.destination.take_out(similar)
    assert world.later().adopt().left_open == 1
    assert world.run().copied == 1
    world.check()


def test_it_refuses_a_table_that_knows_what_was_copied(lines: Lines) -> None:
    world = copied()
    before = world.table.watermark
    report = world.adopt()
    assert "DYNAMODB_TABLE" in report.faults[0]
    assert (world.table.watermark, world.table.owner) == (before, None)
    assert lines.of("configuration_invalid")


def test_a_table_in_which_nothing_was_copied_yet_may_be_adopted() -> None:
    world = World(initial_sync="all")
    world.deliver("a", wanted=False)
    world.destination.put(mail("a"), NOW - 60)
    world.destination.faults["open"] = Unavailable(Side.DESTINATION, "down")
    world.run()
    assert world.table.watermark.uidvalidity is not None
    world.destination.faults.clear()
    assert world.adopt().adopted == 1
    world.run()
    assert len(world.destination.copies) == 1


def test_the_same_after_a_first_run_that_wanted_only_what_is_new() -> None:
    world = World(initial_sync="new")
    world.deliver("a", ago=DAY)
    world.deliver("b", ago=DAY, wanted=False)
    world.destination.put(mail("b"), NOW - DAY)
    world.run()
    assert (world.adopt().adopted, world.run().copied) == (1, 1)
    assert {record.status for record in world.table.records.values()} == {Status.DONE}


@pytest.mark.parametrize(
    ("side", "error", "outcome"),
    [
        (Side.SOURCE, Unavailable(Side.SOURCE, "down"), Outcome.SOURCE_UNAVAILABLE),
        (Side.DESTINATION, Unavailable(Side.DESTINATION, "down"), Outcome.DESTINATION_UNAVAILABLE),
        (Side.DESTINATION, AuthError(Side.DESTINATION, "no", "sign in"), Outcome.AUTH_FAILED),
        (Side.SOURCE, Throttled(Side.SOURCE, "slow", 60.0), Outcome.THROTTLED),
    ],
)
def test_what_ends_it_has_its_outcome(side: Side, error: Unavailable | AuthError | Throttled, outcome: Outcome) -> None:
    world = World()
    world.deliver("a", wanted=False)
    (world.source if side is Side.SOURCE else world.destination).faults["open"] = error
    assert world.adopt().outcome is outcome
    assert (world.table.owner, world.table.records) == (None, {})


def test_a_lease_that_is_held_is_said_and_nothing_is_touched() -> None:
    world = World()
    world.table.owner, world.table.lease_until = "another", world.time.now + LEASE
    assert world.calls(world.adopt) == ["store.take_lease"]


def test_its_lines_hold_nothing_of_a_mail(lines: Lines) -> None:
    world = copied()
    world.lose_the_table()
    lines.clear()
    world.adopt()
    assert lines.names() == ["adopt_started", "adopt_finished"]
    (end,) = lines.of("adopt_finished")
    assert [end[name] for name in ("listed", "adopted", "duplicates", "similar", "left_open")] == [3, 3, 0, 0, 0]
