"""``doctor``: everything checked by really doing it, drawn for a person or told to a program."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from syncer import config as settings
from syncer.commands.common import ENV_FILE, settings_help
from syncer.diagnosis import Diagnosis, Finding, Verdict, examine
from syncer.logging_utils import set_up

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table

_MARKS: Final = {
    Verdict.OK: ("ok", "green"),
    Verdict.WARN: ("warn", "yellow"),
    Verdict.FAIL: ("FAIL", "bold red"),
    Verdict.SKIPPED: ("-", "dim"),
}
_KINDS: Final = {Verdict.FAIL: "First cause", Verdict.WARN: "Nothing failed; first warning"}


@click.command(epilog=settings_help())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def doctor(as_json: bool) -> None:
    """Check everything by really doing it, in order, and name the first cause and what mends it.

    Nothing is copied, no record is written, no lease is taken: a running sync is not disturbed. Access
    tokens are renewed, and what comes is saved. While DynamoDB cannot be used, nobody signs in anywhere.

    \b
    Exit code 0: nothing failed (there may be warnings); else the worst of 78
    (settings), 77 (sign in again) and 75 (not now).

    \b
    Example:
      syncer doctor --json
    """
    from syncer.doctor.examination import examination

    # What the parts log is about a cycle; here the checks say it. Stdout is theirs alone.
    set_up("CRITICAL", sys.stderr)
    logging.getLogger().setLevel(logging.CRITICAL)
    settings.lend_to_libraries(ENV_FILE)
    inspection = settings.inspect(env_file=ENV_FILE)
    with examination(inspection) as checks:
        findings = examine(checks, inspection.wrong)
        diagnosis = Diagnosis(tuple(findings if as_json else _watched(findings, len(checks))))
    if as_json:
        click.echo(json.dumps(diagnosis.as_json(), ensure_ascii=False))
    elif sys.stdout.isatty():
        _draw(diagnosis)
    else:
        _write(diagnosis)
    sys.exit(diagnosis.exit_code)


def _watched(findings: Iterable[Finding], count: int) -> Iterable[Finding]:
    """Pass the findings on, and show a person at a terminal which check is at work."""
    if not sys.stderr.isatty():
        yield from findings
        return
    from rich.console import Console

    with Console(stderr=True).status("checking") as status:
        for number, finding in enumerate(findings, 1):
            status.update(f"checked {number} of {count}: {finding.title}")
            yield finding


def _draw(diagnosis: Diagnosis) -> None:
    """Draw the first cause, then a table of all checks."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    console.print(_first_cause(diagnosis.first_cause))
    console.print(_table(diagnosis))
    console.print(_counted(diagnosis), style=_MARKS[diagnosis.verdict][1])
    if (cause := diagnosis.first_cause) is not None and console.size.height < len(diagnosis.findings):
        # The top has scrolled away.
        remedy = f" Remedy: {cause.found.remedy}" if cause.found.remedy else ""
        console.print(f"{_KINDS[cause.verdict]}: {cause.title}.{remedy}", style="bold")


def _first_cause(cause: Finding | None) -> Panel:
    from rich.panel import Panel
    from rich.text import Text

    if cause is None:
        return Panel(Text("All is well."), border_style="green", expand=False)
    body = Text(f"{cause.title}: {cause.found.words}")
    if cause.found.remedy:
        body.append("\n\nRemedy: ", "bold").append(cause.found.remedy)
    return Panel(body, title=_KINDS[cause.verdict], title_align="left", border_style=_MARKS[cause.verdict][1])


def _table(diagnosis: Diagnosis) -> Table:
    """Return a row for each check; neighbours that one fault stands in the way of share a row."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 1, 0, 0), show_header=False, expand=True)
    drawn.add_column(width=4, no_wrap=True)
    drawn.add_column(max_width=30)
    drawn.add_column(ratio=1)
    for words, group in groupby(diagnosis.findings, key=_not_tried):
        findings = list(group)
        if words and len(findings) > 1:
            drawn.add_row("-", f"{len(findings)} checks", words, style="dim")
            continue
        for finding in findings:
            mark, style = _MARKS[finding.verdict]
            found = Text(finding.found.words)
            if finding.found.remedy and finding is not diagnosis.first_cause:
                found.append(f"\n{finding.found.remedy}", "italic")
            drawn.add_row(Text(mark, style), finding.title, found, style="dim" if mark == "-" else "")
    return drawn


def _not_tried(finding: Finding) -> str:
    """Return what stood in the way of a check; empty where nothing did."""
    return finding.found.words if finding.because else ""


def _write(diagnosis: Diagnosis) -> None:
    """Write the same as plain lines."""
    cause = diagnosis.first_cause
    if cause is None:
        click.echo("all is well")
    else:
        click.echo(f"{_KINDS[cause.verdict].lower()}: {cause.check}: {cause.found.words}")
        if cause.found.remedy:
            click.echo(f"remedy: {cause.found.remedy}")
    for finding in diagnosis.findings:
        remedy = f" | {finding.found.remedy}" if finding.found.remedy else ""
        words = finding.found.words.replace("\n", " ")
        click.echo(f"{finding.verdict.value:<7}  {finding.check:<30}  {words}{remedy}")
    click.echo(_counted(diagnosis))


def _counted(diagnosis: Diagnosis) -> str:
    counts = ", ".join(f"{diagnosis.count(verdict)} {name}" for verdict, name in _COUNTED.items())
    return f"{len(diagnosis.findings)} checks: {counts}"


_COUNTED: Final = {Verdict.OK: "ok", Verdict.WARN: "warnings", Verdict.FAIL: "failed", Verdict.SKIPPED: "not tried"}
