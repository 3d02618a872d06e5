"""Exactly once: what is a duplicate, what is in doubt, and who may send."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from syncer.errors import MessageRefused
from syncer.model import MessageKey, Outcome, Status
from tests.engine.conftest import Lines
from tests.memory_mailboxes import as_exchange_serves, lookalikes, mail
from tests.world import HOUR, IDLE, LEASE, SETTLE, Killed, World, cut, cut_and_land, die, strike_on, subjects

UV = 11


def killed(world: World, call: str, when: str, *, nth: int = 1) -> None:
    """Run a cycle that dies there."""
    with pytest.raises(Killed):
        world.run(script=strike_on(call, when, die, nth=nth))


def in_doubt(blow: Callable[[], None] = cut, when: str = "during", **settings: Any) -> World:
    """Return a world with one message whose APPEND got no answer."""
    world = World(**settings)
    world.deliver("doubtful")
    assert world.run(script=strike_on("destination.append", when, blow)).in_doubt == 1
    return world


# ---- duplicates


def test_a_message_that_was_archived_and_taken_back_is_not_copied_again_nor_fetched(lines: Lines) -> None:
    world = World()
    uid = world.deliver("snoozed")
    world.run()
    back = world.restore(uid)
    calls = world.calls(world.run)
    assert not {"source.fetch", "destination.open"}.intersection(calls)
    assert world.table.records[MessageKey(UV, back)].duplicate_of == MessageKey(UV, uid)
    assert [line["duplicate_of"] for line in lines.of("duplicate_skipped")] == ["11#1"]
    world.check()


def test_without_gmail_ids_it_is_known_by_its_bytes() -> None:
    world = World(has_msgids=False)
    uid = world.deliver("snoozed")
    world.run()
    world.restore(uid)
    assert world.run().duplicates == 1
    world.check()


@pytest.mark.parametrize("count", [2, 5])
def test_byte_identical_messages_without_gmail_ids_are_one_message(count: int) -> None:
    world = World(has_msgids=False)
    world.deliver("twin")
    for _ in range(count - 1):
        world.deliver("twin", wanted=False)
    summary = world.run()
    assert (summary.copied, summary.duplicates, summary.backlog) == (1, count - 1, 0)
    world.check()


def test_byte_identical_messages_with_gmail_ids_both_arrive() -> None:
    world = World()
    world.deliver_many("twin", "twin")
    assert world.run().copied == 2
    world.check()


@pytest.mark.parametrize("has_msgids", [True, False])
def test_different_messages_with_one_message_id_all_arrive(has_msgids: bool) -> None:
    world = World(has_msgids=has_msgids)
    for number in range(3):
        world.deliver(mail(f"number {number}", message_id="<same@mail.test>"))
    assert world.run().copied == 3
    world.check()


def test_a_message_whose_twin_is_in_doubt_waits_for_it() -> None:
    world = in_doubt(cut, "after")
    world.restore(1)
    waiting = world.later().run(script=strike_on("destination.look", "before", cut))
    assert (waiting.outcome, waiting.copied) == (Outcome.DESTINATION_UNAVAILABLE, 0)
    world.run_until_quiet()
    world.check()
    assert world.table.records[MessageKey(UV, 2)].duplicate_of == MessageKey(UV, 1)


def test_a_message_in_doubt_that_left_and_came_back_is_copied_under_its_new_uid() -> None:
    world = in_doubt()
    world.restore(1)
    world.run_until_quiet()
    world.check()
    assert MessageKey(UV, 1) not in world.table.records
    assert not world.table.failures


# ---- in doubt


@pytest.mark.parametrize("rewrites", [bytes, as_exchange_serves], ids=["as it was", "rewritten"])
@pytest.mark.parametrize("tells_uids", [True, False], ids=["APPENDUID", "no APPENDUID"])
def test_a_copy_whose_reply_was_lost_is_found(
    rewrites: Callable[[bytes], bytes], tells_uids: bool, lines: Lines
) -> None:
    world = World()
    world.destination.rewrites, world.destination.tells_uids = rewrites, tells_uids
    world.deliver_many("first", "doubtful", "third")
    world.run(script=strike_on("destination.append", "after", cut, nth=2))
    summary = world.later().run()
    assert (summary.in_doubt, summary.copied) == (0, 1)
    assert [line["uid"] for line in lines.of("in_doubt_settled")] == [2]
    world.check()


def test_what_is_not_found_twice_is_appended_again_under_the_same_claim() -> None:
    world = in_doubt()
    first = world.table.records[MessageKey(UV, 1)]
    assert world.later(LEASE).run().in_doubt == 1  # the first look
    assert world.later(SETTLE - 1).run().in_doubt == 1  # too soon for the second
    assert not world.destination.stored
    summary = world.later(1).run()
    again = world.table.records[MessageKey(UV, 1)]
    assert (summary.copied, summary.in_doubt, again.status) == (1, 0, Status.DONE)
    assert (again.attempt != first.attempt, again.identity) == (True, first.identity)
    world.check()


def test_a_copy_that_lands_between_the_looks_is_found() -> None:
    world = in_doubt(cut_and_land(SETTLE - 1))
    world.run_until_quiet()
    world.check()


def test_a_message_appended_again_may_be_in_doubt_again() -> None:
    world = in_doubt()
    world.later().run()
    again = world.later(SETTLE).run(script=strike_on("destination.append", "after", cut))
    assert again.in_doubt == 1
    assert world.table.records[MessageKey(UV, 1)].not_found_at is None
    world.run_until_quiet()
    world.check()


def test_a_message_appended_again_and_refused_is_recorded_as_failed() -> None:
    world = in_doubt()
    world.later().run()
    world.destination.refuses = lambda body: MessageRefused("BAD") if body == mail("doubtful") else None
    world.deliver("good")
    assert world.later(SETTLE).run().failed == 1
    assert not world.table.holders.keys() & {str(world.source.mails[1].gmail_msgid)}
    world.destination.refuses = lambda _body: None
    world.run_until_quiet()
    world.check()


def test_a_body_that_is_refused_when_it_is_to_be_appended_again_leaves_no_claim_behind() -> None:
    world = in_doubt(max_attempts=1)
    world.later().run()
    world.source.refusals[1] = 1
    world.deliver("good")
    assert world.later(SETTLE).run().given_up == 1
    assert not any(record.status is Status.PENDING for record in world.table.records.values())
    assert world.restore(1) == 3
    world.run_until_quiet()
    world.check()


def test_a_message_to_be_appended_again_that_left_the_source_is_recorded_as_failed(lines: Lines) -> None:
    world = in_doubt()
    gone = world.source.take_out(1)
    world.later().run()
    assert world.later(SETTLE).run().failed == 1
    assert [line["reason"] for line in lines.of("message_failed")] == ["not in the source mailbox any more"]
    world.source.put(gone)
    world.run_until_quiet(pause=HOUR)
    world.check()


def test_where_a_copy_may_have_been_moved_away_nothing_is_guessed(lines: Lines) -> None:
    world = in_doubt(cut, "after")
    world.destination.take_out(40)
    for _ in range(6):
        assert world.later(SETTLE).run().in_doubt == 1
    assert len(world.destination.appends) == 1
    assert "it may have been the copy" in lines.of("in_doubt")[-1]["reason"]
    world.deliver("another")
    assert world.later().run().copied == 1  # it stops nothing else


def test_where_the_destination_was_made_anew_nothing_is_guessed() -> None:
    world = in_doubt(cut, "after")
    world.destination.make_anew()
    for _ in range(6):
        assert world.later(SETTLE).run().in_doubt == 1
    assert len(world.destination.appends) == 1


def test_a_destination_made_anew_loses_no_later_message() -> None:
    world = World()
    world.deliver("first")
    world.run()
    world.destination.make_anew()
    world.deliver("second")
    assert world.later().run().copied == 1
    world.check()


def test_somebody_elses_mail_in_the_destination_is_no_copy() -> None:
    world = in_doubt()
    world.destination.put(mail("not ours"), world.time.now)
    world.run_until_quiet()
    world.check()


def test_copies_that_the_user_moved_away_since_leave_no_doubt_about_others() -> None:
    world = in_doubt()
    world.deliver_many("second", "third")
    world.later().run()
    for uid in list(world.destination.copies):
        world.destination.take_out(uid)
    world.run_until_quiet()
    world.check()


@pytest.mark.parametrize("tells_uids", [True, False], ids=["APPENDUID", "no APPENDUID"])
@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("blow", [cut, die], ids=["cut", "dies"])
def test_messages_that_no_header_tells_apart_are_never_taken_for_each_other(
    blow: Callable[[], None], nth: int, when: str, tells_uids: bool
) -> None:
    world = World()
    world.destination.tells_uids = tells_uids
    for body in lookalikes("alike", 3):
        world.deliver(body)

    for _ in range(3):
        with contextlib.suppress(Killed):
            world.run(script=strike_on("destination.append", when, blow, nth=nth))
        world.later(5000)
    world.run_until_quiet()
    world.check()


def test_the_copy_of_an_earlier_lookalike_is_not_taken_for_that_of_the_one_in_doubt() -> None:
    world = World()
    first, second = lookalikes("alike", 2)
    world.deliver(first)
    world.run()
    world.deliver(second)
    world.run(script=strike_on("destination.append", "during", cut))
    world.run_until_quiet()
    world.check()


def test_a_copy_that_another_record_owns_leaves_no_doubt_about_the_one_in_doubt() -> None:
    """Its Message-ID is the same: were it nobody's, it could be the copy with another date."""
    world = in_doubt()
    world.deliver(mail("second", message_id="<doubtful@mail.test>"))
    world.run_until_quiet()
    world.check()


def test_lookalikes_are_all_copied_in_one_cycle() -> None:
    world = World()
    for body in lookalikes("alike", 4):
        world.deliver(body)
    assert world.run().copied == 4
    world.check()


def test_lookalikes_wait_for_a_later_cycle_where_the_place_of_a_copy_is_not_told() -> None:
    world = World()
    world.destination.tells_uids = False
    for body in lookalikes("alike", 2):
        world.deliver(body)
    assert (world.run().copied, world.later().run().copied) == (1, 1)
    world.check()


def test_a_look_that_fails_decides_nothing() -> None:
    world = in_doubt(cut, "after")
    for _ in range(4):
        summary = world.later(SETTLE).run(script=strike_on("destination.look", "after", cut))
        assert summary.outcome is Outcome.DESTINATION_UNAVAILABLE
    assert len(world.destination.appends) == 1
    world.run_until_quiet()
    world.check()


def test_the_looks_are_spaced_from_the_end_of_one_to_the_beginning_of_the_other() -> None:
    world = in_doubt()

    def slow_look(call: str, when: str) -> None:
        if (call, when) == ("destination.look", "after"):
            world.later(200.0)

    world.later().run(script=slow_look)
    world.later(SETTLE - 1).run(script=slow_look)
    assert not world.destination.appends
    world.run_until_quiet()
    world.check()


def test_a_copy_found_before_and_moved_away_since_leaves_no_doubt_about_others() -> None:
    world = World()
    world.deliver_many("first", "second")
    killed(world, "destination.append", "during", nth=2)
    assert world.later().run().in_doubt == 1
    world.destination.take_out(40)
    world.run_until_quiet()
    world.check()


def test_a_copy_confirmed_by_a_dead_run_and_moved_away_since_leaves_no_doubt_about_others() -> None:
    world = World()
    world.append_takes = 10.0
    world.deliver_many("first", "second")
    with pytest.raises(Killed):
        world.run(script=strike_on("destination.append", "during", die, nth=2), delay=lambda: 1.0)
    assert [record.status for record in world.table.records.values()] == [Status.DONE, Status.PENDING]
    world.destination.take_out(40)
    world.run_until_quiet()
    world.check()


def test_a_claim_keeps_its_identity_when_other_bytes_are_served_later() -> None:
    world = in_doubt(has_msgids=False)
    served = world.source.mails[1]
    world.deliver("good")
    world.later().run()
    world.source.mails[1] = replace(served, body=mail("doubtfuL"))
    world.destination.refuses = lambda body: MessageRefused("BAD") if body == mail("doubtfuL") else None
    world.deliver("another")
    assert world.later(SETTLE).run().failed == 1
    world.source.mails[1] = served
    world.run_until_quiet()
    world.check()


def test_claims_made_after_the_destination_was_made_anew_belong_to_the_new_one() -> None:
    world = in_doubt()
    world.deliver("second")

    def made_anew_and_cut(call: str, when: str) -> None:
        if (call, when) == ("destination.look", "before"):
            world.destination.make_anew()
        if (call, when) == ("destination.append", "during"):
            cut()

    world.later().run(script=made_anew_and_cut)
    for _ in range(3):
        world.later(SETTLE).run()
    assert subjects(world.destination.stored) == subjects([mail("second")])


def test_the_fence_rises_with_the_copies() -> None:
    world = World()
    world.append_takes = 0.001
    world.deliver_many("first", "second", "third")
    world.run(delay=lambda: 1.0)
    fences = [record.fence.uidnext for record in world.table.records.values() if record.fence is not None]
    assert fences == [40, 40, 41]


# ---- the reply of the store


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["store.confirm", "store.release", "store.commit", "store.load"])
def test_a_store_that_stops_answering_costs_no_copy_and_makes_none_twice(call: str, when: str) -> None:
    world = World()
    world.deliver_many("first", "second")
    assert world.run(script=strike_on(call, when, cut)).outcome is Outcome.STATE_UNAVAILABLE
    world.run_until_quiet()
    world.check()


def test_a_copy_that_could_not_be_confirmed_is_found_and_never_appended_again() -> None:
    world = World()
    world.deliver("first")
    assert world.run(script=strike_on("store.confirm", "before", cut)).in_doubt == 1
    assert world.later().run().in_doubt == 0
    assert len(world.destination.appends) == 1
    world.check()


def test_a_copy_belongs_to_its_record_only_once_that_says_so() -> None:
    """A watermark that calls it accounted for, beside a claim still open, would hide the copy from the look."""
    world = World()
    world.destination.refuses = lambda body: MessageRefused("BAD") if body == mail("second") else None
    world.deliver_many("first", "second")
    killed(world, "store.commit", "after", nth=2)
    world.destination.refuses = lambda _body: None
    world.run_until_quiet()
    world.check()


# ---- the lease


def test_a_second_runner_leaves_at_once(lines: Lines) -> None:
    world = World()
    world.deliver("first")
    killed(world, "destination.append", "before")
    calls = world.calls(lambda: world.later(LEASE - 1).run())
    assert calls == ["store.take_lease"]
    assert lines.of("cycle_finished")[-1]["outcome"] is Outcome.LEASE_HELD
    assert lines.of("lease_held")


def frozen(call: str, when: str, seconds: float, meanwhile: Callable[[World], object] = lambda world: None) -> World:
    """Return a world in which the first run froze there, and went on after ``seconds``."""
    world = World()
    world.run()
    world.deliver_many("first", "second")

    def freeze() -> None:
        world.later(seconds)
        meanwhile(world)

    world.run(script=strike_on(call, when, freeze))
    return world


def test_a_run_frozen_after_its_claim_sends_nothing_before_it_has_renewed_its_lease() -> None:
    world = frozen("store.commit", "after", LEASE * 2)
    assert [record.attempt for record in world.table.records.values()] == ["token-3", "token-4"]
    world.check()


def test_a_run_frozen_inside_its_claim_while_another_takes_over_sends_nothing(lines: Lines) -> None:
    world = frozen("store.commit", "after", SETTLE, lambda world: [world.run(), world.later(SETTLE).run()])
    assert lines.of("cycle_finished")[-1]["outcome"] is Outcome.LEASE_HELD
    assert len(world.destination.appends) == 2
    world.run_until_quiet()
    world.check()


def test_a_run_that_learns_that_its_lease_is_lost_asks_for_nothing_more() -> None:
    """The clock of the other runner is wrong: it came too early."""
    world = World()
    world.deliver_many("first", "second")

    def overtaken() -> None:
        world.run(skew=LEASE + 1)

    summary = world.run(script=strike_on("store.commit", "before", overtaken))
    assert summary.outcome is Outcome.LEASE_HELD
    assert len(world.destination.appends) == 2
    world.run_until_quiet()
    world.check()


def test_what_waits_in_a_connection_is_not_sent_once_the_lease_is_known_to_be_lost() -> None:
    world = World()
    world.append_takes = LEASE * 0.4
    world.deliver_many("first", "second", "third")

    def overtaken() -> None:
        world.append_takes = None
        world.run(skew=LEASE + 1)

    summary = world.run(script=strike_on("store.renew", "before", overtaken))
    assert (summary.outcome, len(world.destination.appends)) == (Outcome.LEASE_HELD, 0)
    world.run_until_quiet()
    world.check()


def test_the_lease_is_renewed_while_a_long_append_is_under_way() -> None:
    world = World()
    world.append_takes = LEASE * 1.5
    world.deliver_many("large", "another")
    assert world.run().copied == 2
    assert world.table.calls.count("renew") >= 6
    world.check()


def test_a_lease_too_short_for_the_machine_ends_the_cycle_instead_of_trying_for_ever() -> None:
    world = World(lease_seconds=20.0)
    world.deliver("first")

    def slow(call: str, when: str) -> None:
        if (call, when) == ("store.commit", "after"):
            world.time.advance(30.0)

    assert world.run(script=slow).outcome is Outcome.LEASE_HELD
    assert not world.destination.appends
    world.run_until_quiet()
    world.check()


# ---- UIDs that come again


def test_another_message_under_a_uid_that_was_used_before_is_reported_not_dropped(lines: Lines) -> None:
    world = World()
    world.deliver("first")
    world.run()
    world.source.renumber()
    world.deliver("second")
    world.later().run()
    world.source.mails.clear()
    world.source.uidvalidity, world.source.uidnext = UV, 1
    world.deliver("third")
    assert world.later().run().given_up == 1
    assert "UIDVALIDITY again" in lines.of("message_given_up")[0]["reason"]
    assert subjects(world.destination.stored) == subjects([mail("first"), mail("second")])


def test_an_expired_record_of_a_copy_is_not_copied_again() -> None:
    world = World(has_msgids=False)
    world.deliver("first")
    world.run()
    del world.table.records[MessageKey(UV, 1)]  # its time to live is over; MSG# has none
    world.source.renumber()
    assert world.later().run().duplicates == 1
    assert world.later().calls(world.run) == IDLE
    assert world.destination.stored == world.wanted
