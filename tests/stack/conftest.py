"""The program between the fakes, one pair for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.demo.certificates import Certificates
from tests.stack.pair import FakePair, fake_pair


@pytest.fixture
def pair(certificates: Certificates, tmp_path: Path) -> Iterator[FakePair]:
    """Two empty accounts, the table made, nothing run yet; ``INITIAL_SYNC=all``."""
    with fake_pair(certificates, tmp_path, INITIAL_SYNC="all") as made:
        yield made
