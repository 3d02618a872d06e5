"""Says at the end of a test run how much was fuzzed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fuzz.tally import INPUTS


@pytest.fixture(autouse=True)
def _tallied(counted: Counter[str]) -> Iterator[None]:
    INPUTS.clear()
    yield
    counted.update({f"inputs to {name}": inputs for name, inputs in INPUTS.items()})
