"""An APPEND that takes effect when its sender is gone, and two senders at once: the real command, real sockets."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.fakes.faults import FOREVER, CommitLate, Delay, Stall, on
from tests.stack.pair import FakePair, letter, parsed, until

pytestmark = pytest.mark.thorough

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)
SETTLE = 4
SHORT = {"LEASE_SECONDS": "3", "IN_DOUBT_SETTLE_SECONDS": str(SETTLE)}
ROUNDS = 4
EACH_ROUND = 12


def rest(seconds: float) -> None:
    """Let time pass in the servers and for the lease."""
    threading.Event().wait(seconds)


def settle(pair: FakePair) -> None:
    """Let schedules pass until nothing is in doubt: as often, and so far apart, that every second look is due."""
    for _ in range(12):
        end = pair.stack.run(**SHORT).finished
        if end["outcome"] == "ok" and not (end["copied"] or end["in_doubt"] or end["backlog"]):
            return
        rest(1.5)
    raise AssertionError(f"not quiet: {end}")


def assert_each_arrived_once(pair: FakePair, letters: list[bytes]) -> None:
    assert Counter(pair.copies()) == Counter(letters)
    statuses = Counter(record.get("status") for key, record in pair.stack.records().items() if key.startswith("UID#"))
    assert statuses == {"DONE": len(letters)}
    assert pair.source.violations == pair.destination.violations == []


# ---- late


@pytest.mark.parametrize("late", [1.0, SETTLE - 0.4], ids=["after a second", "just before the second look may decide"])
def test_a_message_stored_after_its_connection_ended_is_not_sent_again(pair: FakePair, late: float) -> None:
    letters = [letter(number) for number in range(3)]
    for raw in letters:
        pair.source.deliver(raw, ARRIVED)
    pair.destination.misbehave(on("APPEND", nth=2), CommitLate(late))
    assert pair.stack.run(**SHORT).finished["in_doubt"] >= 1
    settle(pair)
    rest(max(0.0, late - SETTLE))
    assert_each_arrived_once(pair, letters)


def test_a_message_that_is_never_stored_is_sent_again_after_two_looks(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.destination.misbehave(on("APPEND"), CommitLate())
    assert pair.stack.run(**SHORT).finished["in_doubt"] == 1
    settle(pair)
    assert_each_arrived_once(pair, [letter(1)])
    assert pair.destination.verbs().count("APPEND") == 2


# ---- two at once


def test_two_runners_started_together_copy_every_message_once(pair: FakePair) -> None:
    pair.destination.misbehave(on("APPEND"), Delay(0.1), times=FOREVER)
    letters: list[bytes] = []
    outcomes: Counter[str] = Counter()
    for number in range(ROUNDS):
        new = [letter(number * EACH_ROUND + each) for each in range(EACH_ROUND)]
        for raw in new:
            pair.source.deliver(raw, ARRIVED)
        letters += new
        with pair.stack.start("run-once") as one, pair.stack.start("run-once") as other:
            printed = [process.communicate()[0] for process in (one, other)]
        assert (one.returncode, other.returncode) == (0, 0)
        outcomes.update(parsed(log)[-1]["outcome"] for log in printed)
    settle(pair)
    assert outcomes["lease_held"] >= 1
    assert outcomes.keys() <= {"ok", "lease_held"}
    assert_each_arrived_once(pair, letters)


# ---- frozen


@pytest.mark.parametrize("stored", [True, False], ids=["stored, the reply on its way", "received, stored while frozen"])
def test_a_runner_frozen_inside_an_append_that_another_settles_makes_no_second_copy(
    pair: FakePair, stored: bool
) -> None:
    letters = [letter(number) for number in range(3)]
    for raw in letters:
        pair.source.deliver(raw, ARRIVED)
    pair.destination.misbehave(on("APPEND"), Stall(executed=stored))
    with pair.stack.start("run-once", OUTLOOK_MAX_MESSAGES_PER_SECOND="1", **SHORT) as frozen:
        until(lambda: "APPEND" in pair.destination.verbs())
        frozen.send_signal(signal.SIGSTOP)
        rest(4)
        pair.stack.run(**SHORT)  # takes the lease over, and looks for the first time
        pair.destination.release()
        settle(pair)
        frozen.send_signal(signal.SIGCONT)
        events = parsed(frozen.communicate(timeout=30)[0])
    assert frozen.returncode in (0, 75)
    assert events[-1]["outcome"] in ("lease_held", "destination_unavailable")
    settle(pair)
    assert_each_arrived_once(pair, letters)
