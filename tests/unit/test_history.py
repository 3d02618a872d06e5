"""What the daemon remembers of its cycles, and how Prometheus is told."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from syncer.cycle_state import Summary
from syncer.history import HOUR_SECONDS, HOURS, History
from syncer.model import Outcome
from syncer.prometheus_text import render

NOON = 1_790_000_000 // HOUR_SECONDS * HOUR_SECONDS + 60.0
BUSY = Summary(Outcome.THROTTLED)


class Clock:
    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(clock: Clock) -> History:
    return History(clock)


def copied(count: int, lag: int | None = None) -> Summary:
    return Summary(Outcome.OK, copied=count, lag_seconds=lag)


def metrics(history: History) -> dict[str, tuple[str, float]]:
    """Return what Prometheus's own parser reads: type and value by name; each name once, without labels."""
    found: dict[str, tuple[str, float]] = {}
    families: Any = text_string_to_metric_families(render(history.seen()))
    for family in families:
        assert family.documentation
        (sample,) = family.samples
        assert not sample.labels
        assert sample.name not in found
        found[sample.name] = (family.type, sample.value)
    return found


def test_a_day_has_24_hours_from_the_first_moment_on(history: History) -> None:
    hours = history.seen().hours
    assert len(hours) == HOURS
    assert {hour.copied for hour in hours} == {0}
    assert hours[-1].start <= NOON < hours[-1].start + HOUR_SECONDS
    assert [after.start - before.start for before, after in itertools.pairwise(hours)] == [3600.0] * 23


def test_cycles_of_one_hour_are_added_and_their_longest_lag_counts(history: History, clock: Clock) -> None:
    for summary in (copied(2, 40), copied(0), copied(1, 9), BUSY):
        history.ended(summary)
    hour = history.seen().hours[-1]
    assert (hour.copied, hour.lag_seconds, hour.cycles, hour.bad_cycles) == (3, 40, 4, 1)
    clock.time += HOUR_SECONDS
    history.ended(copied(5, 3))
    assert [(hour.copied, hour.lag_seconds) for hour in history.seen().hours[-2:]] == [(3, 40), (5, 3)]


def test_what_is_older_than_a_day_is_forgotten_and_totals_are_not(history: History, clock: Clock) -> None:
    for _ in range(100):
        history.ended(copied(1))
        clock.time += HOUR_SECONDS
    assert len(history._hours) <= HOURS
    assert sum(hour.copied for hour in history.seen().hours) == HOURS - 1  # the hour that has just begun is empty
    assert history.seen().totals.messages_copied == 100


def test_after_a_night_without_cycles_the_day_is_empty(history: History, clock: Clock) -> None:
    history.ended(copied(7))
    clock.time += 25 * HOUR_SECONDS
    assert {hour.copied for hour in history.seen().hours} == {0}


def test_a_clock_that_is_set_back_leaves_nothing_in_the_future(history: History, clock: Clock) -> None:
    clock.time += 1000 * HOUR_SECONDS
    history.ended(copied(7))
    clock.time -= 1000 * HOUR_SECONDS
    history.ended(copied(1))
    assert [hour.copied for hour in history.seen().hours][-1] == 1
    assert len(history._hours) == 1


def test_prometheus_gets_ten_quantities_with_their_types(history: History) -> None:
    history.ended(
        Summary(
            *(Outcome.OK, 9, 3),
            failed=2,
            given_up=1,
            in_doubt=1,
            backlog=5,
            duration_ms=1234,
            lag_seconds=41,
            in_doubt_oldest_seconds=60,
            gmail_token_days_left=180.0,
            outlook_token_days_left=89.5,
        )
    )
    assert metrics(history) == {
        "syncer_cycles_completed_total": ("counter", 1),
        "syncer_messages_copied_total": ("counter", 3),
        "syncer_messages_failed_total": ("counter", 2),
        "syncer_messages_given_up_total": ("counter", 1),
        "syncer_sign_in_required": ("gauge", 0),
        "syncer_in_doubt_oldest_seconds": ("gauge", 60),
        "syncer_backlog": ("gauge", 4),
        "syncer_delivery_lag_seconds": ("gauge", 41),
        "syncer_cycle_duration_seconds": ("gauge", 1.234),
        "syncer_token_remaining_seconds": ("gauge", 89.5 * 86_400),
    }


COUNTERS = {
    "syncer_cycles_completed_total",
    "syncer_messages_copied_total",
    "syncer_messages_failed_total",
    "syncer_messages_given_up_total",
}


def test_before_the_first_cycle_there_are_counters_at_nought_and_no_gauge(history: History) -> None:
    assert metrics(history) == dict.fromkeys(COUNTERS, ("counter", 0))


def test_after_a_bug_nothing_is_claimed_that_the_cycle_did_not_tell(history: History) -> None:
    history.ended(copied(3, 5))
    history.ended(None)
    found = metrics(history)
    assert found.keys() == COUNTERS | {"syncer_delivery_lag_seconds"}
    assert found["syncer_cycles_completed_total"][1] == 1


def test_without_the_records_the_backlog_is_unknown(history: History) -> None:
    history.ended(Summary(Outcome.STATE_UNAVAILABLE))
    assert not {"syncer_backlog", "syncer_in_doubt_oldest_seconds"} & metrics(history).keys()


def test_who_must_sign_in_again_is_told(history: History) -> None:
    history.ended(Summary(Outcome.AUTH_FAILED))
    assert metrics(history)["syncer_sign_in_required"] == ("gauge", 1)


def test_big_counts_are_written_in_full(history: History) -> None:
    history.ended(copied(123_456_789))
    assert "syncer_messages_copied_total 123456789\n" in render(history.seen())
