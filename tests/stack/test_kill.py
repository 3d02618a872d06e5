"""``kill -9`` of the real command, wherever it happens to be: nothing is lost and nothing comes twice."""

from __future__ import annotations

import random
import signal
import subprocess
from datetime import UTC, datetime

import pytest

from tests.fakes.faults import FOREVER, Delay, on
from tests.stack.pair import FakePair, letter

pytestmark = pytest.mark.thorough

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)
MESSAGES = 60
KILLS = 6
SHORT = {"LEASE_SECONDS": "3", "IN_DOUBT_SETTLE_SECONDS": "1"}


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_again_and_again_it_still_copies_every_message_once(pair: FakePair, seed: int) -> None:
    chance = random.Random(seed)
    letters = [letter(number, size=3000) for number in range(MESSAGES)]
    for raw in letters:
        pair.source.deliver(raw, ARRIVED)
    # A slow destination, so that most kills hit a run with messages in flight.
    pair.destination.misbehave(on("APPEND"), Delay(0.02), times=FOREVER)
    kills = 0
    while kills < KILLS:
        with pair.stack.start("run-once", **SHORT) as process:
            try:
                process.communicate(timeout=chance.uniform(0.7, 2.2))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
        if len(pair.copies()) == MESSAGES:
            break
    pair.destination.faults.clear()
    pair.stack.run_until_quiet(limit=60, **SHORT)
    assert sorted(pair.copies()) == sorted(letters)
    assert pair.source.violations == []
