"""The daemon's wait: until the interval is over, sleep of the machine included, or until it is woken or stopped."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from syncer import daemon
from syncer.clocks import elapsed
from syncer.cycle_state import Summary
from syncer.daemon import MIN_PAUSE_SECONDS, Stopper, run_for_ever
from syncer.model import Outcome

FOR_EVER = 1e6


class Sleeper:
    """A clock whose machine may sleep."""

    def __init__(self) -> None:
        self.slept = 0.0

    def __call__(self) -> float:
        return elapsed() + self.slept


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "MIN_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(daemon, "TICK_SECONDS", 0.02)


def test_it_is_over_at_its_moment() -> None:
    clock = Sleeper()
    moment = clock() + 0.1
    assert not Stopper().wait_until(moment, clock)
    assert clock() >= moment


def test_time_that_the_machine_slept_counts() -> None:
    clock, stopper = Sleeper(), Stopper()
    waiting = threading.Thread(target=stopper.wait_until, args=(clock() + FOR_EVER, clock))
    waiting.start()
    clock.slept = FOR_EVER
    waiting.join(10)
    assert not waiting.is_alive()


def test_who_is_woken_goes_on_after_a_short_pause_and_once() -> None:
    stopper = Stopper()
    before = elapsed()
    for _ in range(1000):
        stopper.wake()
    assert not stopper.wait_until(before + FOR_EVER)
    assert elapsed() - before >= daemon.MIN_PAUSE_SECONDS
    again = threading.Thread(target=stopper.wait_until, args=(before + FOR_EVER,))
    again.start()
    again.join(4 * daemon.MIN_PAUSE_SECONDS)
    assert again.is_alive()
    stopper.say()
    again.join(10)
    assert not again.is_alive()


def test_stop_ends_the_wait_and_every_later_one() -> None:
    stopper = Stopper()
    threading.Timer(0.05, stopper.say).start()
    assert stopper.wait_until(elapsed() + FOR_EVER)
    assert stopper.wait_until(elapsed() + FOR_EVER)
    assert stopper.signal() is Outcome.STOPPED


def test_being_woken_in_a_cycle_leads_to_one_more() -> None:
    stopper = Stopper()
    cycles: list[float] = []

    def cycle() -> Summary:
        cycles.append(elapsed())
        if len(cycles) == 1:
            stopper.wake()
            stopper.wake()
        if len(cycles) == 2:
            threading.Timer(0.2, stopper.say).start()
        return Summary(Outcome.OK)

    run_for_ever(cycle, stopper, FOR_EVER)
    assert len(cycles) == 2


def test_the_interval_runs_from_start_to_start_and_is_made_up_for_but_once() -> None:
    clock, stopper = Sleeper(), Stopper()
    starts: list[float] = []

    def cycle() -> Summary:
        starts.append(clock())
        clock.slept += 250.0  # five intervals
        if len(starts) == 4:
            stopper.say()
        return Summary(Outcome.OK)

    run_for_ever(cycle, stopper, 50.0, clock=clock)
    assert [round(later - sooner) for sooner, later in pairwise(starts)] == [250, 250, 250]


def test_a_flood_of_mail_is_no_flood_of_cycles() -> None:
    assert MIN_PAUSE_SECONDS >= 1
