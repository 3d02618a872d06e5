"""What an engine test may ask for: the lines that a cycle logs, as values."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest


class Lines(logging.Handler):
    """Log lines by their event."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of every line of an event."""
        return [dict(vars(record)) for record in self._records if vars(record).get("event") == event]

    def names(self) -> list[str]:
        return [vars(record)["event"] for record in self._records]

    def clear(self) -> None:
        self._records.clear()


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("syncer")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)
