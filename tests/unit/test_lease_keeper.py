"""The lease is renewed while there is work, and trusted for less time than it lasts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import LeaseHeld, LeaseLost, StateUnavailable
from syncer.lease_keeper import LeaseKeeper
from syncer.model import Watermark
from syncer.ports import Clock
from tests.memory_state import MemoryState

LEASE = 300.0
MARGIN = 60.0
SETTLED = Watermark(uidvalidity=1, last_uid=7, horizon=7)


@dataclass
class Time:
    """Two clocks that go on by themselves only when told."""

    now: float = 1_700_000_000.0
    elapsed: float = 50.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.elapsed += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, elapsed=lambda: self.elapsed)


@dataclass
class Run:
    """One run of the program, and the store it shares with others."""

    time: Time = field(default_factory=Time)
    lease_seconds: float = LEASE

    def __post_init__(self) -> None:
        self.store = MemoryState(lease_seconds=self.lease_seconds)
        asked_at = self.time.elapsed
        lease, _ = self.store.take_lease("this run", self.time.now)
        self.keeper = LeaseKeeper(self.store, lease, self.lease_seconds, self.time.clock, asked_at)


def answer_late(run: Run, operation: str, seconds: float) -> None:
    def hook(called: str, when: str) -> None:
        if (called, when) == (operation, "after"):
            run.time.pass_by(seconds)

    run.store.table.hook = hook


def lose_the_answer(run: Run, operation: str, when: str) -> None:
    def hook(called: str, at: str) -> None:
        if (called, at) == (operation, when):
            raise StateUnavailable("no answer")

    run.store.table.hook = hook


@pytest.mark.parametrize(
    ("passed", "permitted"),
    [
        pytest.param(0.0, True, id="just taken"),
        pytest.param(LEASE - MARGIN - 0.1, True, id="shortly before its margin"),
        pytest.param(LEASE - MARGIN, False, id="within its margin"),
        pytest.param(LEASE, False, id="run out"),
        pytest.param(1e9, False, id="this machine slept for years"),
    ],
)
def test_nothing_is_sent_once_the_lease_may_have_run_out(passed: float, permitted: bool) -> None:
    run = Run()
    run.time.pass_by(passed)
    assert run.keeper.permit() is permitted


@pytest.mark.parametrize(
    ("lease_seconds", "margin"),
    [pytest.param(30.0, 6.0, id="a fifth"), pytest.param(3600.0, 60.0, id="a minute at most")],
)
def test_the_margin_grows_with_the_lease_up_to_a_minute(lease_seconds: float, margin: float) -> None:
    run = Run(lease_seconds=lease_seconds)
    run.time.pass_by(lease_seconds - margin - 0.01)
    assert run.keeper.permit()
    run.time.pass_by(0.02)
    assert not run.keeper.permit()


def test_the_wall_clock_does_not_count() -> None:
    run = Run()
    run.time.now += 1e6
    assert run.keeper.permit()
    run.time.now -= 2e6
    run.time.elapsed += LEASE
    assert not run.keeper.permit()


@pytest.mark.parametrize("operation", ["commit", "renew"])
def test_every_write_under_the_lease_renews_it(operation: str) -> None:
    run = Run()
    run.time.pass_by(LEASE / 3)
    assert is_due(run)
    write(run, operation)
    assert not is_due(run)
    run.time.pass_by(LEASE - MARGIN - 0.1)
    assert run.keeper.permit()
    assert run.store.table.lease_until > run.time.now


def test_a_renewal_falls_due_long_before_the_lease_is_no_longer_trusted() -> None:
    run = Run()
    assert not is_due(run)
    run.time.pass_by(LEASE / 3)
    assert is_due(run)
    assert run.keeper.permit()


@pytest.mark.parametrize("operation", ["commit", "renew"])
def test_a_slow_answer_renews_the_lease_from_when_it_was_asked_for(operation: str) -> None:
    run = Run()
    answer_late(run, operation, LEASE - MARGIN)
    write(run, operation)
    assert not run.keeper.permit()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["commit", "renew"])
def test_a_renewal_whose_answer_is_lost_is_not_trusted(operation: str, when: str) -> None:
    run = Run()
    run.time.pass_by(LEASE / 2)
    lose_the_answer(run, operation, when)
    with pytest.raises(StateUnavailable):
        write(run, operation)
    run.time.pass_by(LEASE / 2 - MARGIN)
    assert not run.keeper.permit()


@pytest.mark.parametrize("operation", ["commit", "renew", "release"])
def test_a_run_that_was_overtaken_learns_it_and_writes_nothing(operation: str) -> None:
    run = Run()
    run.time.pass_by(LEASE + 1)
    run.store.take_lease("another run", run.time.now)
    before = run.store.table.watermark
    with pytest.raises(LeaseLost):
        write(run, operation)
    assert run.store.table.watermark == before
    assert run.store.table.owner == "another run"
    assert not run.keeper.permit()


@pytest.mark.parametrize("operation", ["commit", "renew"])
def test_a_lease_that_ran_out_and_was_wanted_by_nobody_is_as_good_as_new(operation: str) -> None:
    run = Run()
    run.time.pass_by(10 * LEASE)
    assert not run.keeper.permit()
    write(run, operation)
    assert run.keeper.permit()


def test_letting_go_writes_the_watermark_and_makes_room_for_the_next() -> None:
    run = Run()
    with pytest.raises(LeaseHeld):
        run.store.take_lease("another run", run.time.now)
    run.keeper.release(SETTLED)
    lease, found = run.store.take_lease("another run", run.time.now)
    assert found == SETTLED
    assert lease.generation == 2


@given(
    lease_seconds=st.floats(10.0, 900.0),
    ahead=st.floats(0.0, 1.0),
    steps=st.lists(st.tuples(st.floats(0.0, 400.0), st.sampled_from(["wait", "commit", "renew"])), max_size=12),
    slow=st.floats(0.0, 200.0),
)
def test_no_other_run_can_have_the_lease_while_this_one_may_send(
    lease_seconds: float, ahead: float, steps: list[tuple[float, str]], slow: float
) -> None:
    """The other runner's clock is ahead by at most the margin, and answers take any time."""
    run = Run(lease_seconds=lease_seconds)
    skew = ahead * min(60.0, lease_seconds * 0.2) * 0.999
    for operation in ("commit", "renew"):
        answer_late(run, operation, slow)
    for passed, operation in steps:
        run.time.pass_by(passed)
        if operation != "wait":
            write(run, operation)
        if run.keeper.permit():
            with pytest.raises(LeaseHeld):
                run.store.take_lease("another run", run.time.now + skew)


def is_due(run: Run) -> bool:
    return run.keeper.is_due


def write(run: Run, operation: str) -> None:
    if operation == "commit":
        run.keeper.commit(SETTLED, [])
    elif operation == "renew":
        run.keeper.renew()
    else:
        run.keeper.release(SETTLED)
