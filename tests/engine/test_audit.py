"""An audit finds what is missing, duplicate, unsettled and gone, mends what it may, and nothing else changes."""

from __future__ import annotations

import pytest

from syncer.audit import AuditReport, What
from syncer.errors import AuthError, MessageRefused, Throttled, Unavailable
from syncer.model import MessageKey, Outcome, Side
from tests.engine.conftest import Lines
from tests.memory_mailboxes import Cut, as_exchange_serves, lookalikes, mail
from tests.world import HOUR, LEASE, NOW, Killed, World, die, strike_on

DAY = 24 * HOUR


def found(report: AuditReport) -> dict[str, list[int]]:
    """Return the UIDs of what was found, by what it is."""
    kinds = {what: [f.key.uid for f in report.findings if f.what is what] for what in What}
    return {str(what): uids for what, uids in kinds.items() if uids}


def forget(world: World, uid: int) -> None:
    """The record of a message is lost."""
    world.counts = False
    record = world.table.records.pop(MessageKey(world.source.uidvalidity, uid))
    world.table.holders.pop(record.identity)


def lose(world: World, uid: int) -> None:
    """A message was passed over: neither record nor copy."""
    copy = world.table.records[MessageKey(world.source.uidvalidity, uid)].copy
    assert copy is not None
    body = world.destination.take_out(copy.uid).body
    world.destination.stored[body] -= 1
    forget(world, uid)


@pytest.fixture(params=[True, False], ids=["X-GM-MSGID", "hash"])
def world(request: pytest.FixtureRequest) -> World:
    """Three messages, all copied."""
    made = World(has_msgids=request.param)
    made.deliver_many("a", "b", "c")
    made.run()
    return made


def test_what_is_copied_is_clean(world: World) -> None:
    report = world.audit()
    assert (report.outcome, report.listed, report.copied, found(report)) == (Outcome.OK, 3, 3, {})
    assert report.is_clean
    world.check()


def test_an_audit_leaves_the_watermark_and_the_lease_as_they_were(world: World) -> None:
    before = world.table.watermark
    lose(world, 2)
    world.audit()
    assert (world.table.watermark, world.table.owner) == (before, None)


def test_what_has_neither_record_nor_copy_is_missing(world: World) -> None:
    lose(world, 2)
    report = world.audit()
    assert found(report) == {"missing": [2]}
    assert not report.is_clean
    assert not report.can_repair


def test_what_is_missing_is_copied_by_the_next_cycle_after_a_repair(world: World) -> None:
    lose(world, 2)
    report = world.audit(repair=True)
    assert report.can_repair
    assert world.run().copied == 1
    assert found(world.audit()) == {}
    world.check()


def test_a_repair_that_died_is_made_again(world: World) -> None:
    lose(world, 2)
    with pytest.raises(Killed):
        world.audit(repair=True, script=strike_on("store.release", "after", die))
    world.later()
    assert world.run().copied == 1
    world.check()


def test_a_copy_without_a_record_is_not_missing_and_not_copied_again(world: World) -> None:
    forget(world, 2)
    report = world.audit(repair=True)
    assert found(report) == {"unsettled": [2]}
    assert not report.can_repair
    world.later().run()
    world.check()


def test_a_message_that_came_back_is_known_by_its_identity(world: World) -> None:
    world.restore(1)
    world.run()
    assert found(world.audit()) == {}


def test_a_second_copy_is_a_duplicate(world: World) -> None:
    copy = world.destination.copies[41]
    world.destination.put(copy.body, copy.received_at)
    assert found(world.audit()) == {"duplicate": [2]}


def test_a_second_copy_is_known_after_exchange_wrote_it_anew() -> None:
    world = World()
    world.destination.rewrites = as_exchange_serves
    world.deliver("a")
    world.run()
    copy = world.destination.copies[40]
    world.destination.put(as_exchange_serves(copy.body), copy.received_at)
    assert found(world.audit()) == {"duplicate": [1]}


def test_two_mails_with_one_message_id_are_no_duplicates() -> None:
    world = World()
    for name in ("first", "second"):
        world.deliver(mail(name, message_id="<the-same@mail.test>"))
    world.run()
    assert found(world.audit()) == {}


def test_lookalikes_are_no_duplicates_even_where_one_has_left_the_source() -> None:
    world = World()
    for body in lookalikes("a", 3):
        world.deliver(body)
    world.deliver("b")
    world.run_until_quiet()
    assert found(world.audit()) == {}
    world.source.take_out(2)
    assert found(world.audit()) == {}


def test_a_copy_that_its_owner_deleted_is_gone_and_no_fault(world: World) -> None:
    world.destination.take_out(41)
    report = world.audit(repair=True)
    assert found(report) == {"gone": [2]}
    assert report.is_clean
    world.run()
    assert len(world.destination.copies) == 2


def test_a_copy_that_was_moved_away_and_back_is_there(world: World) -> None:
    copy = world.destination.take_out(41)
    world.destination.put(copy.body, copy.received_at)
    assert found(world.audit()) == {}


def test_what_is_in_doubt_is_unsettled() -> None:
    world = World()
    world.deliver("a")
    world.run(script=strike_on("destination.append", "after", lambda: (_ for _ in ()).throw(Cut())))
    report = world.audit()
    assert found(report) == {"unsettled": [1]}
    assert "in doubt" in report.findings[0].reason


def test_what_failed_is_unsettled_whether_it_waits_or_was_given_up() -> None:
    world = World(max_attempts=2)
    world.deliver_many("a", "b")
    world.source.refusals[1] = 9
    world.run()
    assert [f.reason.partition(":")[0] for f in world.audit().findings] == ["waits for another try"]
    world.later().run()
    report = world.audit(repair=True)
    assert [f.reason.partition(":")[0] for f in report.findings] == ["given up"]
    assert not report.can_repair


def test_what_has_just_arrived_waits_for_the_next_cycle(world: World) -> None:
    world.deliver("d")
    report = world.audit()
    assert (report.waiting, found(report)) == (1, {})


def test_mail_from_before_the_first_run_is_not_missed() -> None:
    world = World()
    world.deliver("old", ago=3 * DAY, wanted=False)
    world.deliver("new")
    world.run()
    assert found(world.audit()) == {}


def test_only_the_days_asked_for_are_looked_at() -> None:
    world = World(initial_sync="all")
    world.deliver("old", ago=5 * DAY)
    world.deliver("new")
    world.run()
    lose(world, 1)
    assert found(world.audit(days=2)) == {}
    assert found(world.audit(days=6)) == {"missing": [1]}


def test_before_the_first_cycle_there_is_nothing_to_repair() -> None:
    world = World()
    world.deliver("a")
    report = world.audit(repair=True)
    assert (found(report), report.can_repair) == ({"missing": [1]}, False)
    world.run()
    world.check()


def test_no_cycle_runs_beside_it(world: World) -> None:
    outcomes: list[Outcome] = []
    world.audit(script=strike_on("source.open", "after", lambda: outcomes.append(world.run().outcome)))
    assert outcomes == [Outcome.LEASE_HELD]


def test_a_lease_that_is_held_is_said_and_nothing_is_touched(world: World, lines: Lines) -> None:
    world.table.owner, world.table.lease_until = "another", world.time.now + LEASE
    assert world.calls(world.audit) == ["store.take_lease"]
    assert lines.of("audit_finished")[0]["outcome"] == "lease_held"


@pytest.mark.parametrize(
    ("side", "error", "outcome"),
    [
        ("source", Unavailable(Side.SOURCE, "down"), Outcome.SOURCE_UNAVAILABLE),
        ("destination", Unavailable(Side.DESTINATION, "down"), Outcome.DESTINATION_UNAVAILABLE),
        ("source", AuthError(Side.SOURCE, "no", "sign in"), Outcome.AUTH_FAILED),
        ("destination", Throttled(Side.DESTINATION, "slow", 60.0), Outcome.THROTTLED),
    ],
)
def test_what_ends_it_has_its_outcome(
    world: World, side: str, error: Unavailable | AuthError | Throttled, outcome: Outcome
) -> None:
    (world.source if side == "source" else world.destination).faults["open"] = error
    report = world.audit()
    assert (report.outcome, report.findings) == (outcome, ())
    assert world.table.owner is None


def test_a_side_that_asked_to_be_left_alone_is_left_alone(world: World) -> None:
    world.destination.faults["open"] = Throttled(Side.DESTINATION, "slow", 60.0)
    world.audit()
    assert world.table.watermark.not_before == {Side.DESTINATION: NOW + 60.0}
    assert world.calls(world.audit) == ["store.take_lease", "store.release"]


def test_told_to_stop_it_stops(world: World) -> None:
    assert world.audit(stop=lambda: Outcome.STOPPED).outcome is Outcome.STOPPED
    assert world.table.owner is None


def test_what_it_says_holds_numbers_and_nothing_of_a_mail(world: World, lines: Lines) -> None:
    lose(world, 2)
    world.destination.refuses = lambda _body: MessageRefused("no")
    world.audit()
    (line,) = lines.of("audit_finding")
    assert (line["uidvalidity"], line["uid"], line["what"]) == (11, 2, "missing")
    (end,) = lines.of("audit_finished")
    assert [end[name] for name in ("missing", "duplicate", "unsettled", "gone")] == [1, 0, 0, 0]
    assert not [line for line in lines.of("audit_finding") + lines.of("audit_finished") if "mail.test" in str(line)]
