"""What was measured, as a table of ratios in Markdown and as a chart in SVG."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from importlib.metadata import version
from itertools import groupby
from typing import Final, NamedTuple

from bench.cases import Case, Measured, Results
from bench.peers import Mbsync, last_event

_COLUMNS: Final = (
    "work",
    "program",
    "seconds",
    "of the probe's",
    "of mbsync's",
    "without start-up",
    "of the probe's",
    "CPU s",
    "peak MB",
    "DynamoDB requests",
)
_COLOURS: Final = {"syncer": "#0b6e4f", "mbsync": "#8d99ae", "probe": "#c9cedb"}


class Row(NamedTuple):
    """One program at one piece of work."""

    work: str
    program: str
    seconds: float
    inner_seconds: float
    cpu_seconds: float
    peak_megabytes: float
    requests: Counter[str]


class Report:
    """Collects what the cases measured."""

    def __init__(self, records: str, rounds: int) -> None:
        """``records`` says what kept the records."""
        self._records = records
        self._rounds = rounds
        self._rows: list[Row] = []
        self._notes: list[str] = []

    def add(self, case: Case, results: Results) -> None:
        """Take what a case measured."""
        for part, programs in results.items():
            if part in ("cycles", "start"):  # told in words
                continue
            rows = [_row(f"{case.title}{_PARTS[part]}", name, measured) for name, measured in programs.items()]
            for row in rows:
                print(" ".join(_cells(row, rows)), file=sys.stderr)
            self._rows += rows
        if "far" in results:
            self._notes += list(_round_trips(results))
        if "start" in results:
            self._notes += list(_starts(results))
        if case.long:
            self._notes += list(_memory(results))

    def markdown(self) -> str:
        """Return the table."""
        lines = [
            _heading(self._records, self._rounds),
            "",
            f"| {' | '.join(_COLUMNS)} |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        ]
        for _, group in groupby(self._rows, lambda row: row.work):
            rows = list(group)
            lines += [f"| {' | '.join(_cells(row, rows))} |" for row in rows]
        checked = (
            "Every copy was compared with its original, bytes and date: all equal, none twice, none marked as read"
        )
        return "\n".join([*lines, "", *self._notes, checked + " (but for the header line X-TUID, which mbsync adds)."])

    def chart(self) -> str:
        """Return bars for the seconds of each program at each piece of work, longest of the work = full width."""
        bars, y = [], 30
        for work, group in groupby(self._rows, lambda row: row.work):
            rows = list(group)
            bars.append(f'<text x="10" y="{y}" font-weight="bold">{escape(work)}</text>')
            longest = max(row.seconds for row in rows)
            for row in rows:
                y += 20
                width = max(2, round(420 * row.seconds / longest))
                colour = _COLOURS[row.program.partition(",")[0]]
                bars.append(f'<text x="165" y="{y}" text-anchor="end">{escape(row.program)}</text>')
                bars.append(f'<rect x="175" y="{y - 11}" width="{width}" height="14" fill="{colour}"/>')
                bars.append(f'<text x="{180 + width}" y="{y}">{row.seconds:.2f} s</text>')
            y += 32
        frame = f'viewBox="0 0 680 {y}" font-family="sans-serif" font-size="12"'
        head = [f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>', f'<rect width="680" height="{y}" fill="#ffffff"/>']
        return "\n".join([*head, *bars, "</svg>\n"])


_PARTS: Final = {
    "copy": "",
    "late": ": 10 new",
    "idle": ": nothing new",
    "near": ", 0 ms",
    "far": ", 500 ms",
    "warm late": ": 10 new, process kept",
    "warm idle": ": nothing new, process kept",
}


def _row(work: str, program: str, measured: Measured) -> Row:
    return Row(
        work,
        program,
        measured.least(lambda usage: usage.seconds),
        measured.least(lambda usage: usage.inner_seconds),
        measured.least(lambda usage: usage.cpu_seconds),
        measured.least(lambda usage: usage.peak_megabytes),
        min(measured.requests, key=Counter.total),
    )


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    """Return a row's cells; the ratios are to the others at the same work, a probe with as many connections first."""
    probes = [other for other in rows if other.program.startswith("probe")]
    alike = [p for p in probes if p.program.partition(",")[2] == row.program.partition(",")[2]] or probes
    mbsync = [other for other in rows if other.program == Mbsync.name]
    return [
        row.work,
        row.program,
        f"{row.seconds:.2f}",
        f"{row.seconds / alike[0].seconds:.2f}" if alike else "",
        f"{row.seconds / mbsync[0].seconds:.2f}" if mbsync else "",
        f"{row.inner_seconds:.2f}",
        f"{row.inner_seconds / alike[0].inner_seconds:.2f}" if alike else "",
        f"{row.cpu_seconds:.2f}" if row.cpu_seconds else "",
        f"{row.peak_megabytes:.0f}" if row.peak_megabytes else "",
        ", ".join(f"{name} {count}" for name, count in row.requests.most_common()),
    ]


def _round_trips(results: Results) -> Iterator[str]:
    """Yield how often each program waits for the source when there is nothing to do."""
    for program, far in results["far"].items():
        near = results["near"][program].least(lambda usage: usage.inner_seconds)
        waits = (far.least(lambda usage: usage.inner_seconds) - near) / 0.5
        # The relay accepts at once what then takes its time: that is one round trip which it does not show.
        yield f"Round trips that {program} waits for when nothing is new, TCP and TLS included: {waits + 1:.1f}."
    yield ""


def _starts(results: Results) -> Iterator[str]:
    """Yield what starts cost in processor time, beside what cannot be done without."""
    seconds = {name: measured.least(lambda usage: usage.cpu_seconds) for name, measured in results["start"].items()}
    if seconds:
        boto, handler, imports, idle = seconds
        yield f"Processor time of a start, seconds: {', '.join(f'{what} {its:.2f}' for what, its in seconds.items())}."
        yield (
            f"So the handler takes {seconds[handler] / seconds[boto]:.2f} of the first, and a cycle that finds nothing"
            f" {seconds[idle] / seconds[imports]:.2f} of its imports and client."
        )
        yield ""


def _memory(results: Results) -> Iterator[str]:
    """Yield memory over time, in tenths of the run."""
    for program, measured in results["copy"].items():
        readings = measured.usages[0].memory
        tenths = [readings[len(readings) * tenth // 10] for tenth in range(10)] if readings else []
        yield f"Memory of {program} over time, MB: {', '.join(f'{reading:.0f}' for reading in tenths)}."
    for program, measured in results["cycles"].items():
        each = ", ".join(
            f"{last_event(usage.output, 'cycle_finished')['copied']} in {usage.seconds:.0f} s"
            for usage in measured.usages
        )
        peak = max(usage.peak_megabytes for usage in measured.usages)
        yield f"In successive cycles {program} copied {each}; peak {peak:.0f} MB."
    yield ""


def _heading(records: str, rounds: int) -> str:
    return (
        f"{time.strftime('%Y-%m-%d')}; least of {rounds} rounds; Python {platform.python_version()}, "
        f"imaplib2 {version('imaplib2')}, botocore {version('botocore')}, {Mbsync.version() or 'no mbsync'}, "
        f"{os.cpu_count()} processors; records in {records}."
    )
