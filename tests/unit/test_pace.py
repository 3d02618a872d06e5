"""No more messages a second than the destination bears."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.model import SlowedPace
from syncer.pace import DOUBLES_IN, KNOWN_GOOD, SLOWEST, Pace, recovered, slowed_down


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_begins_with_one_second_s_worth(clock: Clock) -> None:
    pace = Pace(4.0, clock)
    assert pace.take(10) == 4
    assert pace.take(10) == 0


def test_lets_through_what_the_time_since_is_worth(clock: Clock) -> None:
    pace = Pace(4.0, clock)
    pace.take(4)
    clock.at += 0.5
    assert pace.take(10) == 2


def test_takes_no_more_than_is_wanted_and_keeps_the_rest(clock: Clock) -> None:
    pace = Pace(4.0, clock)
    assert pace.take(3) == 3
    assert pace.take(3) == 1


def test_a_long_pause_is_worth_no_more_than_one_second(clock: Clock) -> None:
    pace = Pace(4.0, clock)
    clock.at += 3600
    assert pace.take(100) == 4


def test_tells_how_long_to_wait_for_the_next(clock: Clock) -> None:
    pace = Pace(4.0, clock)
    assert pace.wait() == 0.0
    pace.take(4)
    assert pace.wait() == pytest.approx(0.25)
    clock.at += 0.1
    assert pace.wait() == pytest.approx(0.15)


def test_less_than_one_a_second_lets_one_through_at_a_time(clock: Clock) -> None:
    pace = Pace(0.5, clock)
    assert pace.take(5) == 1
    assert pace.wait() == pytest.approx(2.0)
    clock.at += 2.0
    assert pace.take(5) == 1


def test_zero_is_no_limit(clock: Clock) -> None:
    pace = Pace(0.0, clock)
    assert pace.take(10**6) == 10**6
    assert pace.wait() == math.inf


@given(
    st.floats(0.1, 50.0),
    st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 20)), max_size=40),
)
def test_no_stretch_of_time_sees_more_than_the_rate_and_one_burst(rate: float, steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    pace = Pace(rate, clock)
    granted = 0
    for pause, wanted in steps:
        clock.at += pause
        taken = pace.take(wanted)
        assert 0 <= taken <= wanted
        granted += taken
    assert granted <= rate * (clock.at - 1000.0) + max(rate, 1.0) + 1e-6


@given(st.floats(0.1, 50.0), st.integers(0, 60))
def test_who_waits_as_long_as_told_gets_one_through(rate: float, before: int) -> None:
    clock = Clock()
    pace = Pace(rate, clock)
    pace.take(before)
    clock.at += pace.wait() + 1e-6  # a wait is never shorter than a clock can tell apart
    assert pace.take(1) == 1


# -- giving way


def test_too_fast_is_half_as_fast_from_then_on(clock: Clock) -> None:
    slowed = slowed_down(4.0, None, 100.0)
    assert slowed == SlowedPace(2.0, 100.0)
    assert slowed_down(4.0, slowed, 100.0) == SlowedPace(1.0, 100.0)
    assert Pace(4.0, clock, slowed.rate).take(10) == 2


def test_without_a_limit_halving_begins_at_what_exchange_is_known_to_bear() -> None:
    assert slowed_down(0.0, None, 0.0).rate == KNOWN_GOOD / 2


def test_it_never_comes_to_a_stand(clock: Clock) -> None:
    slowed = None
    for _ in range(100):
        slowed = slowed_down(4.0, slowed, 0.0)
    assert slowed == SlowedPace(SLOWEST, 0.0)
    assert Pace(4.0, clock, SLOWEST).take(1) == 1


@pytest.mark.parametrize(
    ("hours", "rate"),
    [(0, 1.0), (6, 2.0), (11.9, pytest.approx(4.0, rel=0.02)), (12, None), (10**6, None), (-5, 1.0)],
)
def test_it_doubles_every_six_hours_until_it_is_what_is_set(hours: float, rate: float | None) -> None:
    slowed = SlowedPace(1.0, 10**9)
    assert recovered(4.0, slowed, 10**9 + hours * 3600) == rate


def test_without_a_limit_it_recovers_too() -> None:
    slowed = SlowedPace(2.0, 0.0)
    assert recovered(0.0, slowed, 8 * DOUBLES_IN) == 512.0
    assert recovered(0.0, slowed, 9 * DOUBLES_IN) is None


def test_a_limit_that_was_lowered_counts_at_once() -> None:
    assert recovered(1.0, SlowedPace(2.0, 0.0), 1.0) is None


def test_it_recovers_while_a_long_cycle_works(clock: Clock) -> None:
    pace = Pace(4.0, clock, 1.0)
    clock.at += DOUBLES_IN
    assert pace.take(10) == 2
    clock.at += DOUBLES_IN
    assert pace.take(10) == 4


def test_no_more_is_got_ready_than_goes_in_some_seconds(clock: Clock) -> None:
    assert Pace(0.0, clock).ahead == math.inf
    assert Pace(4.0, clock).ahead == 40
    assert Pace(4.0, clock, 0.5).ahead == 16
