"""What no look can decide, decided by a person: that it is heeded, once, and that no crash on the way loses a mail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncer.errors import LeaseHeld, MessageRefused
from syncer.model import Decision, MessageKey, Outcome, Status
from syncer.status import as_json
from syncer.status_words import hints, messages
from syncer.uid_set import UidSet
from tests.engine.conftest import Lines
from tests.memory_mailboxes import mail
from tests.world import LEASE, SETTLE, Killed, World, cut, die, strike_on

COPIED, NOT_COPIED = Decision.COPIED, Decision.NOT_COPIED
KEY = MessageKey(11, 1)
WRITES = ["store.take_lease", "store.load", "store.commit", "store.release"]


@pytest.fixture
def moved() -> World:
    """The reply to the APPEND was lost, and the copy was moved away before a look could see it."""
    world = undecidable()
    world.destination.take_out(40)
    assert world.later().run().in_doubt == 1
    return world


@pytest.fixture
def gone() -> World:
    """The message never arrived; something else did since and is gone, so that no look can tell."""
    world = undecidable(when="during")
    world.destination.take_out(world.destination.put(mail("somebody else's"), world.time.now))
    assert world.later().run().in_doubt == 1
    return world


def undecidable(when: str = "after") -> World:
    world = World()
    world.run()
    world.deliver("a")
    world.run(script=strike_on("destination.append", when, cut))
    assert world.table.records[KEY].status is Status.PENDING
    return world


# -- the copy is there


def test_what_a_person_saw_is_done_and_no_cycle_looks_again(moved: World) -> None:
    report = moved.later().settle(1, decision=COPIED)
    assert (report.outcome, report.decided, report.unknown) == (Outcome.OK, 1, ())
    record = moved.table.records[KEY]
    assert (record.status, record.decision, record.decided_at) == (Status.DONE, COPIED, moved.time.now)
    assert moved.table.watermark.open == {}
    assert moved.table.watermark.copied == 1
    assert "destination.look" not in moved.calls(lambda: moved.later().run())
    moved.check()


def test_it_is_settled_whatever_it_failed_of_before() -> None:
    world = World()
    world.run()
    refused = [MessageRefused("BAD Error. 11")]
    world.destination.refuses = lambda body: refused.pop() if refused and body == mail("a") else None
    world.deliver_many("a", "b")
    assert world.run().failed == 1
    world.later().run(script=strike_on("destination.append", "after", cut))
    world.destination.take_out(41)
    assert world.later().run().in_doubt == 1
    assert list(world.table.failures) == [KEY]
    assert world.later().settle(1, decision=COPIED).decided == 1
    assert (world.table.failures, world.table.watermark.failing) == ({}, {})
    world.check()


# -- it is not there


def test_what_a_person_missed_is_appended_by_the_next_cycle_without_a_pause(gone: World, lines: Lines) -> None:
    report = gone.later().settle(1, decision=NOT_COPIED)
    assert (report.outcome, report.decided) == (Outcome.OK, 1)
    assert gone.table.records[KEY].status is Status.PENDING
    assert 1 in gone.table.watermark.open[11]
    before = gone.table.records[KEY].attempt
    assert gone.run().copied == 1
    assert gone.table.records[KEY].attempt != before
    assert gone.table.records[KEY].decision is None
    assert lines.of("in_doubt_settled")[-1]["how"].startswith("a person said that it is not in the destination")
    gone.check()


def test_the_word_of_a_person_is_of_one_attempt(gone: World) -> None:
    """The next one may be left without an answer, too: then two looks decide, as ever."""
    gone.later().settle(1, decision=NOT_COPIED)
    gone.run(script=strike_on("destination.append", "during", cut))
    assert gone.table.records[KEY].decision is None
    assert gone.later().run().in_doubt == 1
    assert gone.later(SETTLE).run().copied == 1
    gone.check()


def test_a_copy_that_is_there_after_all_is_found_and_not_sent_again(gone: World) -> None:
    """The server finished storing it between the person's look and the cycle's."""
    gone.later().settle(1, decision=NOT_COPIED)
    gone.destination.store(gone.table.records[KEY].internaldate, mail("a"))
    gone.run()
    assert gone.table.records[KEY].status is Status.DONE
    gone.check()


def test_what_left_the_source_meanwhile_fails_and_holds_nothing_back(gone: World) -> None:
    gone.source.take_out(1)
    gone.later().settle(1, decision=NOT_COPIED)
    assert gone.run().failed == 1
    assert (gone.table.records, gone.table.holders) == ({}, {})
    assert list(gone.table.failures) == [KEY]


def test_an_answer_may_be_changed_until_a_cycle_heeds_it(moved: World) -> None:
    moved.later().settle(1, decision=NOT_COPIED)
    assert moved.settle(1, decision=COPIED).decided == 1
    moved.run()
    moved.check()


def test_a_folder_that_was_changed_is_no_obstacle_once_everything_is_decided(gone: World) -> None:
    gone.settings = World(destination_mailbox="Elsewhere").settings
    (fault,) = gone.later().run().faults
    assert "syncer settle" in fault
    gone.settle(1, decision=NOT_COPIED)
    assert gone.later().run().copied == 1


# -- which messages


def test_only_what_is_in_doubt_can_be_decided_and_the_others_are_told_why(moved: World, lines: Lines) -> None:
    moved.destination.refuses = lambda body: MessageRefused("BAD Error. 11") if body == mail("no") else None
    moved.deliver_many("fine", "no")
    moved.later().run()
    before = moved.table.watermark
    report = moved.later().settle(2, 3, 99, decision=NOT_COPIED)
    assert (report.outcome, report.decided, report.unknown) == (Outcome.OK, 0, (2, 3, 99))
    reasons = {line["uid"]: line["reason"] for line in lines.of("settle_refused")}
    assert "recorded as copied" in reasons[2]
    assert "syncer retry" in reasons[3]
    assert "no message in doubt" in reasons[99]
    assert moved.table.watermark == before
    assert moved.settle(1, 99, decision=COPIED).decided == 1


def test_where_the_source_was_numbered_anew_it_is_decided_all_the_same(moved: World) -> None:
    """Unlike a failed message, whose UID names nothing any more: a claim stays until somebody decides."""
    moved.source.renumber(first=7)
    assert moved.later().run().in_doubt == 1
    assert moved.later().settle(1, decision=COPIED).decided == 1
    moved.run_until_quiet()
    moved.check()


def test_where_the_source_was_numbered_anew_it_is_copied_under_its_new_uid(gone: World) -> None:
    gone.source.renumber(first=7)
    assert gone.later().run().in_doubt == 1
    assert gone.later().settle(1, decision=NOT_COPIED).decided == 1
    gone.run_until_quiet()
    assert [key.uidvalidity for key in gone.table.records] == [12]
    gone.check()


def test_two_messages_of_one_uid_are_told_apart(lines: Lines) -> None:
    world = undecidable()
    world.destination.take_out(40)
    world.later().run()
    world.source.take_out(1)
    world.source.renumber()
    world.deliver("b")
    world.later().run(script=strike_on("destination.append", "after", cut))
    world.destination.take_out(41)
    assert world.later().run().in_doubt == 2
    report = world.later().settle(1, decision=COPIED)
    assert (report.decided, report.unknown) == (0, (1,))
    assert "--uidvalidity 11 or --uidvalidity 12" in lines.of("settle_refused")[-1]["reason"]
    assert world.settle(1, decision=COPIED, uidvalidity=12).decided == 1
    assert world.table.watermark.open.keys() == {11}
    assert world.settle(1, decision=COPIED).decided == 1
    world.check()


# -- beside others


@pytest.mark.parametrize("decision", Decision)
def test_a_run_at_work_has_the_word(moved: World, decision: Decision) -> None:
    """What it has in hand is PENDING, too."""
    moved.later()
    moved.table.owner, moved.table.lease_until = "other", moved.time.now + LEASE
    with pytest.raises(LeaseHeld):
        moved.settle(1, decision=decision)
    moved.later()
    others = moved.time.now + LEASE

    def another_begins() -> None:
        moved.table.owner, moved.table.lease_until = "other", others

    report = moved.settle(1, decision=decision, meanwhile=another_begins)
    assert (report.outcome, report.decided) == (Outcome.LEASE_HELD, 0)
    assert moved.table.records[KEY].decision is None


@pytest.mark.parametrize("decision", Decision)
def test_what_a_cycle_dealt_with_while_the_person_thought_is_left_alone(decision: Decision, lines: Lines) -> None:
    world = undecidable(when="during")
    world.later().run()

    def appended_again_and_in_doubt_again() -> None:
        world.later(SETTLE).run(script=strike_on("destination.append", "after", cut))
        world.later()

    report = world.later().settle(1, decision=decision, meanwhile=appended_again_and_in_doubt_again)
    assert (report.outcome, report.decided, report.unknown) == (Outcome.OK, 0, (1,))
    assert "meanwhile" in lines.of("settle_refused")[-1]["reason"]
    world.run_until_quiet()
    world.check()


def test_no_mailbox_is_contacted(moved: World) -> None:
    calls = moved.calls(lambda: moved.later().settle(1, decision=COPIED))
    assert calls == ["store.standing", "store.load", *WRITES]


# -- crashes


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("decision", Decision)
def test_a_crash_leaves_it_in_doubt_or_decided(
    moved: World, gone: World, decision: Decision, call: str, when: str
) -> None:
    world = moved if decision is COPIED else gone
    # The first load is the look-up's.
    nth = 2 if call == "store.load" else 1
    with pytest.raises(Killed):
        world.later().settle(1, decision=decision, script=strike_on(call, when, die, nth=nth))
    record = world.table.records[KEY]
    is_decided = (call, when) in {("store.commit", "after"), ("store.release", "before"), ("store.release", "after")}
    assert record.decision is (decision if is_decided else None)
    assert (record.status is Status.DONE) is (is_decided and decision is COPIED)
    if not is_decided:
        assert world.later().settle(1, decision=decision).decided == 1
    world.run_until_quiet()
    world.check()


@pytest.mark.parametrize("call", ["store.standing", "store.load", "store.take_lease", "store.commit", "store.release"])
@pytest.mark.parametrize("decision", Decision)
def test_a_lost_reply_is_no_loss(moved: World, gone: World, decision: Decision, call: str) -> None:
    world = moved if decision is COPIED else gone
    try:
        report = world.later().settle(1, decision=decision, script=strike_on(call, "after", cut))
    except Exception as error:  # noqa: BLE001 - of what reads, before anything is written
        assert type(error).__name__ == "StateUnavailable"  # noqa: PT017
    else:
        assert report.outcome is Outcome.STATE_UNAVAILABLE
    if world.table.records[KEY].decision is None:
        assert world.later().settle(1, decision=decision).decided == 1
    world.run_until_quiet()
    world.check()


# -- what is told


def test_why_it_cannot_be_decided_is_kept_for_the_person_who_decides(lines: Lines, moved: World) -> None:
    record = moved.table.records[KEY]
    assert "may have been the copy" in record.unclear
    line = lines.of("in_doubt")[-1]
    assert line["reason"] == record.unclear
    assert "syncer settle 1 --copied" in line["remedy"]
    (row,) = messages(moved.status())
    assert (row[0], row[3]) == ("1", "you decide")
    assert record.unclear in row[4]
    assert [hint for hint in hints(moved.status()) if "syncer settle 1 --copied" in hint]
    assert as_json(moved.status())["in_doubt"][0]["reason"] == record.unclear


def test_it_is_written_once(moved: World) -> None:
    calls = moved.calls(lambda: moved.later().run())
    assert "store.commit" not in calls


def test_what_cycles_decide_by_themselves_is_not_asked_of_a_person() -> None:
    world = undecidable(when="during")
    assert world.later().run().in_doubt == 1
    assert list(hints(world.status())) == []
    assert messages(world.status())[0][3] == "next cycle"


def test_what_was_unclear_and_is_not_any_more_is_decided_by_looks_again() -> None:
    world = undecidable(when="during")
    similar = world.destination.put(mail("a").replace(b"about a", b"about A"), world.time.now)
    world.later().run()
    assert "similar" in world.table.records[KEY].unclear
    # Another record turns out to own what is similar.
    world.table.watermark = replace(world.table.watermark, owned={5: UidSet([similar])})
    world.later().run()
    assert (world.table.records[KEY].unclear, list(hints(world.status()))) == ("", [])
    world.later(SETTLE).run()
    world.check()


def test_what_was_decided_is_shown_until_it_is_done(gone: World) -> None:
    gone.later().settle(1, decision=NOT_COPIED)
    (row,) = messages(gone.status())
    assert row[3] == "next cycle"
    assert "you said that it is not there" in row[4]
    assert list(hints(gone.status())) == []
    assert as_json(gone.status())["in_doubt"][0]["decision"] == "not_copied"
