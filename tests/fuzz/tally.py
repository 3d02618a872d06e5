"""How long to fuzz, and how much was fuzzed.

``FUZZ_MINUTES`` (0: the short, always equal run that is part of every test run) is shared among the fuzzers.
A long run draws from seeds of its own; a failure names its seed, and ``FUZZ_SEED`` plays that one first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

MINUTES: Final = float(os.environ.get("FUZZ_MINUTES", "0"))
FIRST_SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
FUZZERS: Final = 5
"""They share the minutes."""
ROUND: Final = 250
"""Inputs drawn from one seed in a long run."""


@dataclass(slots=True)
class Tally:
    """Of one test run."""

    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    by_name: dict[str, int] = field(default_factory=dict)


TALLY: Final = Tally()


def fuzz(name: str, inputs: SearchStrategy[Any], check: Callable[[Any], object], *, examples: int) -> None:
    """Try ``check`` on ``examples`` inputs of one seed; with FUZZ_MINUTES on those of many seeds, until time is up."""

    def counted(drawn: Any) -> None:
        TALLY.inputs += 1
        TALLY.by_name[name] = TALLY.by_name.get(name, 0) + 1
        before = time.monotonic()
        check(drawn)
        TALLY.slowest = max(TALLY.slowest, time.monotonic() - before)

    started = time.monotonic()
    until = started + MINUTES * 60 / FUZZERS
    number = FIRST_SEED
    try:
        while True:
            run = settings(
                max_examples=ROUND if MINUTES else examples,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, Phase.shrink],
            )(given(inputs)(counted))
            try:
                seed(number)(run)()
            except BaseException as error:
                error.add_note(f"FUZZ_SEED={number}")
                raise
            number += 1
            if time.monotonic() >= until:
                return
    finally:
        TALLY.seconds += time.monotonic() - started
