"""How long to fuzz, and how much was fuzzed.

``FUZZ_MINUTES`` (0: the short, always equal run that is part of every test run) is shared among the fuzzers.
A long run draws from seeds of its own; a failure names its seed, and ``FUZZ_SEED`` plays that one first.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

MINUTES: Final = float(os.environ.get("FUZZ_MINUTES", "0"))
FIRST_SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
FUZZERS: Final = 5
"""They share the minutes."""
ROUND: Final = 250
"""Inputs drawn from one seed in a long run."""


INPUTS: Final[Counter[str]] = Counter()
"""By fuzzer, of the test that runs."""


def fuzz(name: str, inputs: SearchStrategy[Any], check: Callable[[Any], object], *, examples: int) -> None:
    """Try ``check`` on ``examples`` inputs of one seed; with FUZZ_MINUTES on those of many seeds, until time is up."""

    def counted(drawn: Any) -> None:
        INPUTS[name] += 1
        check(drawn)

    until = time.monotonic() + MINUTES * 60 / FUZZERS
    number = FIRST_SEED
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
