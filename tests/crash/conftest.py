"""Thousands of cycles: what they log is not kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _in_silence() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("syncer"), "disabled", True)
        for name in ("copy_job", "ledger", "settling", "decision", "resync", "sync_engine", "dry_run", "lookback"):
            patch.setattr(logging.getLogger(f"syncer.{name}"), "disabled", True)
        yield
