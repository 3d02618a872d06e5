"""One cycle: the order of things, who is blamed, what is remembered, and what is reported."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from syncer.body_window import CAUTIOUS_OCTETS, FIRST_OCTETS
from syncer.copy_flow import MAX_APPENDING, MAX_CLAIMS
from syncer.cycle_state import Summary
from syncer.errors import AuthError, ConfigError, MessageRefused, SyncError, Throttled, Unavailable
from syncer.listing import LISTING_WINDOW
from syncer.model import MessageKey, Outcome, Side, Status, Watermark
from syncer.sync_engine import LATELY_SECONDS
from tests.engine.conftest import Lines
from tests.memory_mailboxes import Hook, mail
from tests.world import HOUR, IDLE, LEASE, World, cut, strike_on, subjects

UV = 11


def settled(**settings: Any) -> World:
    """Return a world whose first run is over."""
    world = World(**settings)
    world.run()
    world.later()
    return world


def refusing(world: World, *names: str) -> None:
    """Let the destination refuse these messages, and no others."""
    refused = {mail(name) for name in names}
    world.destination.refuses = lambda body: MessageRefused("BAD Error. 11") if body in refused else None


def refusing_all(world: World) -> None:
    world.destination.refuses = lambda _body: MessageRefused("BAD Command Argument Error. 11")


def failure(world: World, uid: int) -> tuple[int, bool]:
    record = world.table.failures[MessageKey(world.source.uidvalidity, uid)]
    return record.retry_count, record.given_up


# ---- the order of things


@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_is_touched_where_the_store_fails(when: str, lines: Lines) -> None:
    world = settled()
    world.deliver("first")
    calls = world.calls(lambda: world.run(script=strike_on("store.take_lease", when, cut)))
    assert calls == ["store.take_lease"]
    assert (lines.names()[-2:], lines.of("cycle_finished")[-1]["outcome"]) == (
        ["state_unavailable", "cycle_finished"],
        Outcome.STATE_UNAVAILABLE,
    )
    world.later().run()
    world.check()


def test_an_idle_cycle_is_two_requests_to_the_store_and_one_listing() -> None:
    world = settled()
    assert world.calls(world.run) == IDLE
    assert world.destination.opened == 0


def test_one_new_message_is_claimed_before_it_is_sent_and_confirmed_after() -> None:
    world = settled()
    world.deliver("first")
    assert world.calls(world.run) == [
        *["store.take_lease", "source.connect", "source.open", "store.load", "source.fetch", "destination.open"],
        *["store.commit", "destination.append", "store.confirm", "store.release"],
    ]


def test_both_sides_are_opened_at_once_where_there_surely_is_work() -> None:
    def opened_before(world: World, other: str, script: Hook | None = None) -> bool:
        calls = world.calls(lambda: world.later().run(script=script))
        return calls.index("destination.open") < calls.index(other)

    backlog = World(initial_sync="all")
    backlog.run()
    assert backlog.destination.opened == 0  # there was nothing
    backlog = World(initial_sync="all")
    backlog.deliver_many("first", "second")
    assert opened_before(backlog, "source.fetch")
    backlog.check()
    world = settled()
    world.deliver("first")
    assert not opened_before(world, "source.fetch", strike_on("destination.append", "after", cut))  # nobody could know
    assert opened_before(world, "source.connect")  # in doubt
    world.run_until_quiet()
    world.check()


def test_less_is_fetched_ahead_of_a_destination_that_is_away_for_long() -> None:
    def fetched() -> int:
        before = world.source.fetched.total()
        world.run()
        return world.source.fetched.total() - before

    world = settled()
    size = 90 << 10
    for number in range(60):
        world.deliver(mail(f"number {number}", text="x" * size))
    world.destination.faults["open"] = Unavailable(Side.DESTINATION, "down")
    assert FIRST_OCTETS // size - 1 <= fetched() <= FIRST_OCTETS // size
    world.later(LATELY_SECONDS)
    assert CAUTIOUS_OCTETS // size - 1 <= fetched() <= CAUTIOUS_OCTETS // size
    world.destination.faults.clear()
    world.later().run()
    world.check()


def test_a_gap_above_the_horizon_is_asked_for_twice_and_believed_then() -> None:
    world = settled()
    gone, _ = world.deliver_many("gone", "there")
    world.source.take_out(gone)
    del world.wanted[mail("gone")]
    assert world.calls(world.run).count("source.listing") == 1
    assert world.later().calls(world.run) == IDLE


@pytest.mark.parametrize("left_out", [{1}, {2}, {3}, {1, 2}, {2, 3}, {1, 3}, {1, 2, 3}])
def test_messages_that_one_listing_leaves_out_arrive_all_the_same(left_out: set[int]) -> None:
    world = settled()
    world.deliver_many("a", "b", "c")
    world.source.silent_about = left_out
    world.run()
    world.later().run()
    world.check()


def test_an_open_message_that_one_listing_leaves_out_counts_as_no_failure() -> None:
    world = settled()
    world.deliver_many("a", "b")
    world.run(script=strike_on("destination.append", "before", cut, nth=2))
    world.source.silent_about = {2}
    assert world.later().run().failed == 0
    world.check()


# ---- back-off


@pytest.mark.parametrize("call", ["connect", "open", "listing", "fetch"])
def test_what_the_source_asks_for_is_kept_and_nobody_is_contacted_until_then(call: str, lines: Lines) -> None:
    world = World() if call == "listing" else settled()
    world.deliver("first")
    world.source.faults[call] = Throttled(Side.SOURCE, "slow down", 3600.0)
    assert world.run().outcome is Outcome.THROTTLED
    world.source.faults.clear()
    assert world.later(3599.0).calls(world.run) == ["store.take_lease", "store.release"]
    assert lines.of("cycle_finished")[-1]["outcome"] is Outcome.THROTTLED
    assert world.later(1.0).run().copied == 1
    world.check()


@pytest.mark.parametrize("call", ["open", "append"])
def test_what_the_destination_asks_for_is_kept_while_there_is_work_for_it(call: str, lines: Lines) -> None:
    world = settled()
    world.deliver_many("first", "second")
    throttled = Throttled(Side.DESTINATION, "Suggested Backoff Time: 900000 milliseconds", 900.0)
    if call == "open":
        world.destination.faults["open"] = throttled
    else:
        world.destination.refuses = lambda _body: throttled
    assert (world.run().outcome, world.table.failures) == (Outcome.THROTTLED, {})
    assert not world.table.records  # the claims were given back
    world.destination.faults.clear()
    world.destination.refuses = lambda _body: None
    assert not [c for c in world.later(899.0).calls(world.run) if c.startswith("destination")]
    assert [line["kept"] for line in lines.of("throttled") if "kept" in line] == [True]
    assert world.later(1.0).run().copied == 2
    world.check()


def test_a_kept_back_off_of_the_destination_does_not_matter_to_a_cycle_without_work_for_it() -> None:
    world = settled()
    uid = world.deliver("first")
    world.run()
    world.table.watermark = replace(world.table.watermark, not_before={Side.DESTINATION: world.time.now + HOUR})
    world.restore(uid)
    summary = world.run()
    assert (summary.outcome, summary.duplicates) == (Outcome.OK, 1)


def test_nothing_more_is_sent_once_the_destination_asked_to_be_left_alone() -> None:
    """A claim that was under way when it did is given back: each APPEND would prolong the back-off."""
    world = settled()
    world.append_takes = 0.001
    world.deliver_many(*(f"number {number}" for number in range(20)))
    throttled = Throttled(Side.DESTINATION, "slow down", 60.0)
    world.destination.refuses = lambda _body: throttled if len(world.destination.appends) > 5 else None
    world.run(delay=lambda: 1.0)
    assert len(world.destination.appends) == 6
    assert not [record for record in world.table.records.values() if record.status is Status.PENDING]
    world.destination.refuses = lambda _body: None
    world.run_until_quiet()
    world.check()


# ---- what only a person can help


@pytest.mark.parametrize("side", list(Side))
def test_a_refused_sign_in_is_reported_with_its_remedy(side: Side, lines: Lines) -> None:
    world = settled()
    world.deliver("first")
    refused = AuthError(side, "AUTHENTICATE failed.", "sign in again")
    (world.source if side is Side.SOURCE else world.destination).faults.update(connect=refused, open=refused)
    summary = world.run()
    assert (summary.outcome, summary.remedy) == (Outcome.AUTH_FAILED, "sign in again")
    assert lines.of("auth_failed")[0]["side"] is side
    world.source.faults.clear()
    world.destination.faults.clear()
    world.later().run()
    world.check()


def test_a_setting_that_turns_out_wrong_is_named() -> None:
    world = settled()
    world.deliver("first")
    world.destination.faults["open"] = ConfigError(["OUTLOOK_TARGET_FOLDER: there is no such folder"])
    summary = world.run()
    assert (summary.outcome, len(summary.faults)) == (Outcome.DESTINATION_UNAVAILABLE, 1)


def test_what_nobody_expected_goes_up_and_leaves_nothing_half_done() -> None:
    world = settled()
    world.deliver("first")

    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.run(script=strike_on("destination.append", "before", bug))
    world.run_until_quiet()
    world.check()


# ---- who is blamed


@pytest.mark.parametrize("count", [2, 5, 40])
def test_where_every_message_is_refused_nobody_is_blamed(count: int, lines: Lines) -> None:
    world = settled()
    world.deliver_many(*(f"number {number}" for number in range(count)))
    refusing_all(world)
    summary = world.run()
    assert (summary.outcome, summary.failed) == (Outcome.DESTINATION_UNAVAILABLE, 0)
    assert (world.table.records, world.table.holders, world.table.failures) == ({}, {}, {})
    assert world.table.watermark.outages == 1
    assert "it refused every message" in lines.of("destination_unavailable")[0]["reason"]
    refusing(world)
    world.run_until_quiet()
    world.check()


def test_outages_in_a_row_are_met_with_growing_patience_and_end_with_the_first_success() -> None:
    world = settled()
    world.deliver_many("first", "second")
    refusing_all(world)
    pauses = []
    for _ in range(6):
        world.later(4 * HOUR).run()
        pauses.append(world.table.watermark.not_before.get(Side.DESTINATION, 0.0) - world.time.now)
    assert [max(pause, 0.0) for pause in pauses] == [0.0, 0.0, 300.0, 600.0, 1200.0, 1800.0]
    refusing(world)
    world.later(4 * HOUR).run()
    assert world.table.watermark.outages == 0
    world.check()


def test_an_outage_is_over_with_the_first_success_also_where_the_cycle_is_stopped() -> None:
    world = settled()
    world.deliver_many("first", "second")
    refusing_all(world)
    world.run()
    refusing(world)
    world.deliver_many(*(f"number {number}" for number in range(50)))
    world.later().run(stop=lambda: Outcome.DEADLINE if world.destination.stored else None)
    assert world.table.watermark.outages == 0
    world.run_until_quiet()
    world.check()


def test_one_message_alone_is_blamed_if_the_server_still_answers() -> None:
    world = settled()
    uid = world.deliver("alone")
    refusing_all(world)
    summary = world.run()
    assert (summary.outcome, summary.failed, failure(world, uid)) == (Outcome.OK, 1, (1, False))
    assert not world.table.records


def test_one_message_alone_is_not_blamed_if_the_server_does_not_answer() -> None:
    world = settled()
    world.deliver("alone")
    refusing_all(world)
    world.destination.faults["probe"] = Unavailable(Side.DESTINATION, "down")
    summary = world.run()
    assert (summary.outcome, summary.failed, world.table.failures) == (Outcome.DESTINATION_UNAVAILABLE, 0, {})


def test_one_bad_message_among_good_ones_is_tried_again_and_given_up_in_the_end(lines: Lines) -> None:
    world = settled()
    _, bad, _ = world.deliver_many("good", "bad", "fine")
    refusing(world, "bad")
    summary = world.run()
    assert (summary.outcome, summary.copied, summary.failed, summary.last_uid) == (Outcome.OK, 2, 1, 3)
    tries = [world.time.now]
    for step in range(400):
        world.later(300.0)
        world.deliver(f"another {step}")  # others go through: it is this message
        if world.run().failed:
            tries.append(world.time.now)
    assert failure(world, bad) == (5, True)
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses == [300.0, HOUR, 2 * HOUR, 4 * HOUR]
    assert [line["uid"] for line in lines.of("message_given_up")] == [bad]
    assert world.table.watermark.failing == {}
    assert subjects(world.wanted - world.destination.stored) == subjects([mail("bad")])


def test_a_failed_message_that_goes_through_later_leaves_no_failure_behind() -> None:
    world = settled()
    world.deliver_many("good", "bad")
    refusing(world, "bad")
    world.run()
    refusing(world)
    assert world.later().run().copied == 1
    assert not world.table.failures
    world.check()


def test_more_bad_messages_than_a_server_bears_are_no_outage_for_ever() -> None:
    """One after the other, they are taken for an outage; but not by each cycle, and the others go through."""
    world = settled()
    world.append_takes = 0.001
    bad = [f"bad {number:02}" for number in range(20)]
    world.deliver_many(*bad)
    refusing(world, *bad)
    good = []
    for number in range(30):
        world.later(HOUR).run(delay=lambda: 1.0)
        good.append(f"good {number:02}")
        world.deliver(good[-1])
    world.later(HOUR).run(delay=lambda: 1.0)
    assert len(world.table.failures) == 20
    assert world.table.watermark.last_uid == 50
    assert subjects(world.destination.stored) == subjects(map(mail, good))


def test_a_destination_that_fills_up_in_the_middle_is_not_asked_to_take_the_rest() -> None:
    world = settled()
    world.deliver_many(*(f"number {number:03}" for number in range(300)))
    world.destination.refuses = lambda _body: (
        MessageRefused("BAD Error. 11") if sum(world.destination.stored.values()) >= 50 else None
    )
    summary = world.run()
    assert (summary.outcome, summary.copied) == (Outcome.DESTINATION_UNAVAILABLE, 50)
    assert summary.failed <= MAX_CLAIMS
    refusing(world)
    world.run_until_quiet()
    world.check()


@pytest.mark.parametrize("refused", [1, 2])
def test_bodies_that_the_source_does_not_serve_are_tried_again(refused: int) -> None:
    world = settled()
    uids = world.deliver_many("a", "b", "c")
    world.source.refusals = dict.fromkeys(uids[:refused], 1)
    summary = world.run()
    assert (summary.failed, summary.copied) == (refused, 3 - refused)
    world.later().run()
    world.check()


def test_where_the_source_serves_no_body_at_all_no_message_is_blamed() -> None:
    world = settled()
    uids = world.deliver_many("a", "b", "c")
    world.source.refusals = dict.fromkeys(uids, 1)
    summary = world.run()
    assert (summary.outcome, summary.failed, world.destination.stored) == (Outcome.SOURCE_UNAVAILABLE, 0, {})
    world.later().run()
    world.check()


# ---- what cannot be copied


def test_a_message_larger_than_allowed_is_recorded_and_never_fetched() -> None:
    world = settled(max_message_bytes=500)
    uid = world.deliver(mail("large", text="x" * 600), wanted=False)
    calls = world.calls(world.run)
    assert not {"source.fetch", "destination.open"}.intersection(calls)
    assert failure(world, uid) == (1, True)
    world.check()


def test_an_empty_message_is_recorded_and_never_sent() -> None:
    world = settled()
    announced = world.deliver(b"", wanted=False)
    unannounced = world.deliver(b"", wanted=False)
    world.source.announced[unannounced] = 1
    world.run()
    assert (failure(world, announced), failure(world, unannounced)) == ((1, True), (1, True))
    assert not world.destination.appends


def test_a_body_that_is_not_as_long_as_announced_is_believed_if_it_comes_twice() -> None:
    world = settled()
    uid = world.deliver("estimated")
    world.source.announced[uid] = 5
    assert world.run().copied == 1
    assert world.source.fetched[uid] == 2
    world.check()


def test_a_body_cut_short_is_fetched_again() -> None:
    world = settled()
    uid = world.deliver("whole")
    world.source.served[uid] = [mail("whole")[:40]]
    assert world.run().copied == 1
    world.check()


def test_a_body_that_differs_each_time_is_not_sent_and_not_fetched_for_ever() -> None:
    world = settled()
    uid, _ = world.deliver_many("whole", "good")
    world.source.served[uid] = [mail("whole")[:40], mail("whole")[:50]]
    assert world.run().failed == 1
    assert world.source.fetched[uid] == 2
    world.later().run()
    world.check()


# ---- what a cycle leaves for the next


@pytest.mark.parametrize("outcome", [Outcome.DEADLINE, Outcome.STOPPED])
@pytest.mark.parametrize("copied", [0, 1, 33, 50])
def test_a_stop_lets_what_is_in_flight_end_and_the_next_cycle_go_on(copied: int, outcome: Outcome) -> None:
    world = settled()
    world.deliver_many(*(f"number {number:03}" for number in range(100)))

    def stop() -> Outcome | None:
        return outcome if sum(world.destination.stored.values()) >= copied else None

    summary = world.run(stop=stop)
    assert (summary.outcome, summary.in_doubt) == (outcome, 0)
    assert copied <= summary.copied <= copied + MAX_CLAIMS
    assert summary.backlog == 100 - summary.copied
    assert world.later().run().outcome is Outcome.OK
    world.check()


def test_what_is_under_way_when_a_cycle_is_stopped_is_bounded() -> None:
    world = settled()
    world.deliver_many(*(f"number {number:03}" for number in range(800)))
    world.append_takes = 0.1
    summary = world.run(stop=lambda: Outcome.STOPPED if world.destination.stored else None, delay=lambda: 0.001)
    assert MAX_CLAIMS < summary.copied <= MAX_APPENDING
    world.later().run()
    world.check()


def test_a_stop_before_the_destination_is_needed_contacts_it_no_more() -> None:
    world = settled()
    world.deliver("first")
    calls = world.calls(lambda: world.run(stop=lambda: Outcome.STOPPED))
    assert not [call for call in calls if call.startswith("destination")]
    world.later().run()
    world.check()


def test_what_needs_no_destination_is_recorded_while_it_is_down(lines: Lines) -> None:
    world = settled(max_message_bytes=500)
    known = world.deliver("known")
    world.run()
    world.restore(known)
    large = world.deliver(mail("large", text="x" * 600), wanted=False)
    world.deliver("new")
    world.destination.faults["open"] = Unavailable(Side.DESTINATION, "down")
    for _ in range(3):
        assert world.later().run().outcome is Outcome.DESTINATION_UNAVAILABLE
    assert (failure(world, large), len(lines.of("message_failed")), len(lines.of("duplicate_skipped"))) == (
        (1, True),
        1,
        1,
    )
    world.destination.faults.clear()
    world.later().run()
    world.check()


def test_a_backlog_is_worked_off_in_windows_with_flat_memory_and_linear_calls() -> None:
    world = settled(initial_sync="all")
    world.checked = False
    count = 25_000
    for number in range(count):
        world.deliver(b"Subject: about %d\r\n\r\n%d\r\n" % (number, number))
    summary = world.run()
    assert (summary.outcome, summary.copied, summary.backlog) == (Outcome.OK, count, 0)
    assert world.source.largest_listing <= LISTING_WINDOW
    calls = world.table.calls
    assert calls.count("commit") <= count / 33 * 1.1 + 10
    assert calls.count("load") <= 2 * (count / LISTING_WINDOW + 1)
    assert world.destination.stored == world.wanted


def test_a_gap_of_any_width_is_crossed_in_a_few_listings() -> None:
    world = settled()
    world.source.uidnext = 4_000_000_000
    world.deliver("far away")
    assert world.calls(world.run).count("source.listing") < 25
    world.check()


def test_the_cycle_never_ends_below_the_watermark_it_found() -> None:
    """A crash between two transactions of one commit leaves UIDs below ``last_uid`` open."""
    world = settled(most_writes=1, max_message_bytes=500)
    for number in range(4):
        world.deliver(mail(f"large {number}", text="x" * 600), wanted=False)
    world.run(script=strike_on("store.commit", "after", cut, nth=2))
    assert world.table.watermark.last_uid == 4
    assert world.table.watermark.open[UV].lowest == 3
    world.source.faults["open"] = Unavailable(Side.SOURCE, "down")
    assert world.later().run().last_uid == 4
    world.source.faults.clear()
    world.later().run()
    world.check()


# ---- dry run


def test_a_dry_run_writes_nothing_anywhere_and_needs_no_destination(lines: Lines) -> None:
    world = settled(max_message_bytes=500)
    known = world.deliver("known")
    world.run()
    world.restore(known)
    world.deliver(mail("large", text="x" * 600), wanted=False)
    new = world.deliver("new")
    before = (dict(world.table.records), world.table.watermark, world.table.generation)
    calls = world.calls(lambda: world.run(dry=True))
    assert calls == ["store.peek", "source.connect", "source.open", "source.listing", "store.load"]
    assert (dict(world.table.records), world.table.watermark, world.table.generation) == before
    assert [(line["uid"], line["bytes"]) for line in lines.of("would_copy")] == [(new, len(mail("new")))]


@pytest.mark.parametrize(("kind", "told"), [("window", 2), ("new", 0), ("all", 3)])
def test_a_dry_run_before_the_first_run_tells_what_that_would_copy(kind: str, told: int, lines: Lines) -> None:
    world = World(initial_sync=kind)
    world.deliver("old", ago=100 * HOUR)
    world.deliver_many("a", "b")
    assert world.run(dry=True).outcome is Outcome.OK
    assert len(lines.of("would_copy")) == told
    assert world.table.watermark == Watermark()


def test_a_dry_run_keeps_a_back_off_and_tells_of_open_and_failed_messages(lines: Lines) -> None:
    world = settled()
    world.deliver_many("good", "bad", "unsent")
    refusing(world, "bad")
    world.run(script=strike_on("destination.append", "before", cut, nth=3))
    world.run(dry=True)
    assert [line["uid"] for line in lines.of("would_copy")] == [2, 3]
    world.table.watermark = replace(world.table.watermark, not_before={Side.SOURCE: world.time.now + 60})
    assert world.calls(lambda: world.run(dry=True)) == ["store.peek"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable(Side.SOURCE, "down"), Outcome.SOURCE_UNAVAILABLE),
        (AuthError(Side.SOURCE, "no", "sign in"), Outcome.AUTH_FAILED),
        (ConfigError(["GMAIL_IMAP_HOST: wrong"]), Outcome.SOURCE_UNAVAILABLE),
    ],
)
def test_a_dry_run_that_cannot_read_says_so(error: SyncError, outcome: Outcome) -> None:
    world = settled()
    world.source.faults["connect"] = error
    assert world.run(dry=True).outcome is outcome


# ---- the report


def test_a_cycle_reports_all_that_happened(lines: Lines) -> None:
    world = settled(max_attempts=2)
    known, _ = world.deliver_many("known", "bad")
    refusing(world, "bad")
    world.run()
    world.restore(known)
    world.deliver_many("new", "worse", "doubtful")
    refusing(world, "bad", "worse")
    world.later()
    lines.clear()
    summary = world.run(script=strike_on("destination.append", "during", cut, nth=4))
    expected = {
        "outcome": Outcome.DESTINATION_UNAVAILABLE,
        "listed": 4,
        "copied": 1,
        "duplicates": 1,
        "failed": 2,
        "given_up": 1,
        "in_doubt": 1,
        "backlog": 1,
        "bytes": len(mail("new")),
        "last_uid": 5,
        "duration_ms": 0,
        "lag_seconds": LEASE + 1 + 60,
        "in_doubt_oldest_seconds": 0,
    }
    (finished,) = lines.of("cycle_finished")
    assert {name: finished[name] for name in expected} == expected
    assert summary == Summary(
        **{("octets" if name == "bytes" else name): value for name, value in expected.items()}  # type: ignore[arg-type]
    )
    assert (lines.names()[0], lines.names()[-1]) == ("cycle_started", "cycle_finished")
    (copied,) = lines.of("message_copied")
    assert (copied["uidvalidity"], copied["uid"], copied["bytes"], len(copied["rfc822_sha256"])) == (
        UV,
        4,
        len(mail("new")),
        64,
    )


def test_the_longest_lag_of_a_cycle_is_told_and_none_where_nothing_was_copied() -> None:
    world = settled(initial_sync="all")
    world.deliver("slow", ago=2 * HOUR)
    world.deliver("quick", ago=30)
    assert world.run().lag_seconds == 2 * HOUR
    assert world.later().run().lag_seconds is None


def test_the_age_of_what_is_in_doubt_is_told_even_by_cycles_that_cannot_look() -> None:
    world = settled()
    assert world.run().in_doubt_oldest_seconds == 0
    world.deliver("doubtful")
    assert world.run(script=strike_on("destination.append", "during", cut)).in_doubt_oldest_seconds == 0
    world.later(LEASE)
    assert world.run().in_doubt_oldest_seconds == LEASE
    world.destination.faults["open"] = Unavailable(Side.DESTINATION, "down")
    world.later(LEASE)
    assert world.run().in_doubt_oldest_seconds == 2 * LEASE
    del world.destination.faults["open"]
    world.later(LEASE)
    last = world.run()
    assert (last.copied, last.in_doubt_oldest_seconds) == (1, 0)


def test_a_cycle_without_the_records_does_not_pretend_that_nothing_is_in_doubt() -> None:
    world = settled()
    assert world.run(script=strike_on("store.take_lease", "before", cut)).in_doubt_oldest_seconds is None


def test_progress_is_told_after_every_message() -> None:
    world = settled()
    world.deliver_many("a", "b", "c")
    told: list[tuple[int, int]] = []
    world.run(on_progress=lambda copied, left: told.append((copied, left)))
    assert [copied for copied, _ in told] == [1, 2, 3]
    assert told[-1] == (3, 0)


def test_messages_are_paced() -> None:
    world = settled(messages_per_second=4.0)
    world.deliver_many(*(f"number {number}" for number in range(40)))
    began = world.time.now
    assert world.run().copied == 40
    assert 8.0 <= world.time.now - began <= 11.0


def test_a_dead_runs_lease_costs_no_more_than_it_lasts() -> None:
    world = settled()
    world.deliver("first")
    world.run(script=strike_on("store.confirm", "before", cut))
    assert world.later(LEASE - 1).run().outcome is Outcome.LEASE_HELD
    assert world.later(1.5).run().outcome is Outcome.OK
