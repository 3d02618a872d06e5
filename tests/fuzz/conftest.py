"""Says at the end of a test run how much was fuzzed."""

from __future__ import annotations

import pytest

from tests.fuzz.tally import TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TALLY.inputs:
        each = ", ".join(f"{name} {count}" for name, count in sorted(TALLY.by_name.items()))
        terminalreporter.write_line(
            f"fuzz: {TALLY.inputs} inputs in {TALLY.seconds:.1f} s, the slowest took {TALLY.slowest:.2f} s ({each})"
        )
