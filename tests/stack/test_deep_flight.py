"""Hundreds of APPENDs in flight when the destination's connection ends: in doubt all at once, and each arrives once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.fakes.faults import Stall, on
from tests.stack.pair import FakePair, letter, parsed, until

pytestmark = pytest.mark.thorough

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)
MESSAGES = 240
DEEP = 150


def test_what_was_in_flight_arrives_once(pair: FakePair) -> None:
    letters = [letter(number) for number in range(MESSAGES)]
    for raw in letters:
        pair.source.deliver(raw, ARRIVED)
    pair.destination.misbehave(on("APPEND", nth=20), Stall())

    def claims() -> int:
        return Counter(record.get("status") for record in pair.stack.records().values())["PENDING"]

    with pair.stack.start("run-once") as process:
        until(lambda: claims() >= DEEP, 60.0)
        pair.destination.drop_connections()
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    finished = [line for line in parsed(printed) if line["event"] == "cycle_finished"][-1]
    assert finished["in_doubt"] >= 100
    pair.stack.run_until_quiet(IN_DOUBT_SETTLE_SECONDS="1")
    assert sorted(pair.copies()) == sorted(letters)
