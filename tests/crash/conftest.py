"""Thousands of cycles: what they log is not kept, and how many they were is told at the end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

COUNTS: pytest.StashKey[Counter[str]] = pytest.StashKey()
HERE = "tests/crash/"


@pytest.fixture(autouse=True)
def _in_silence() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("syncer"), "disabled", True)
        for name in ("copy_job", "ledger", "settling", "resync", "sync_engine", "dry_run", "lookback"):
            patch.setattr(logging.getLogger(f"syncer.{name}"), "disabled", True)
        yield


@pytest.fixture(scope="session")
def counted(pytestconfig: pytest.Config) -> Counter[str]:
    """What is counted here is printed when all tests are over."""
    return pytestconfig.stash.setdefault(COUNTS, Counter())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash.get(COUNTS, Counter())
    if not counts:
        return
    reports = (report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ()))
    seconds = sum(report.duration for report in reports if report.nodeid.startswith(HERE))
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items())
    terminalreporter.write_line(f"crash and chance: {told}; {seconds:.0f} s")
