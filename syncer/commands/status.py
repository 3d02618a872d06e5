"""``status``: how things stand, for a person at a terminal, for a pipe and for a program."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from syncer import config as settings
from syncer.commands.common import load, settings_help
from syncer.cycle import Runner
from syncer.daemon import Stopper
from syncer.errors import StateUnavailable
from syncer.logging_utils import log_event
from syncer.status import Status, as_json, iso
from syncer.status_words import MOST_ROWS, Row, hints, messages, rows

if TYPE_CHECKING:
    from rich.console import RenderableType

logger = logging.getLogger(__name__)


@click.command(epilog=settings_help(*settings.RECORDS_SETTINGS))
@click.option("--json", "as_one_json", is_flag=True, help="Print one JSON object (with --watch: one a line).")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(1, 86_400),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: how often to look.",
)
def status(as_one_json: bool, watch: bool, every: float) -> None:
    """Show how things stand: the last good cycle, totals, failures and why, tokens, back-offs.

    Reads the records and nothing else: no mailbox is contacted, nobody has to have signed in. Needs the settings
    below, and dynamodb:GetItem, BatchGetItem and Query.

    \b
    Example:
      syncer status --watch
    """
    config = load(*settings.RECORDS_SETTINGS)
    stopper = Stopper()
    with Runner(config) as runner, stopper.on_signals():
        if not watch:
            _show(runner.status(), as_one_json=as_one_json)
        elif not as_one_json and sys.stdout.isatty():
            _watch_screen(runner, stopper, every)
        else:
            for found in _looks(runner, stopper, every):
                if isinstance(found, Status):
                    _show(found, as_one_json=as_one_json)
                else:
                    log_event(logger, logging.ERROR, "state_unavailable", reason=found)
                sys.stdout.flush()


def _looks(runner: Runner, stopper: Stopper, every: float) -> Iterator[Status | str]:
    """Yield how things stand, or why nobody can tell, until somebody says stop."""
    while True:
        try:
            yield runner.status()
        except StateUnavailable as error:
            yield str(error)
        if stopper.wait(every):
            return


def _show(found: Status, *, as_one_json: bool) -> None:
    if as_one_json:
        click.echo(json.dumps(as_json(found)))
    elif sys.stdout.isatty():
        from rich.console import Console

        Console(markup=False, highlight=False).print(_screen(found))
    else:
        click.echo(_plain(found))


def _watch_screen(runner: Runner, stopper: Stopper, every: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(markup=False, highlight=False), auto_refresh=False) as live:
        for found in _looks(runner, stopper, every):
            live.update(_screen(found) if isinstance(found, Status) else Text(found, "red"), refresh=True)


# -- what is shown


def _screen(found: Status) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    overview = Table("status", iso(found.now) or "", title_justify="left", show_edge=False, pad_edge=False)
    for row in rows(found):
        overview.add_row(row.label, Text(row.text, row.mood))
    parts: list[RenderableType] = [overview]
    if found_messages := messages(found):
        problems = Table("UID", "state", "tries", "next", "why", show_edge=False, pad_edge=False)
        for cells in found_messages[:MOST_ROWS]:
            problems.add_row(*map(Text, cells))
        parts += [Text(), problems]
    if advice := list(hints(found)):
        parts += [Text(), *map(Text, advice)]
    return Group(*parts)


def _plain(found: Status) -> str:
    lines = [f"{row.label:<18} {row.text}" for row in (Row("at", iso(found.now) or ""), *rows(found))]
    for uid, state, tries, following, why in messages(found)[:MOST_ROWS]:
        lines.append(f"UID {uid}: {state}, tries {tries}, next {following}: {why}")
    return "\n".join([*lines, *hints(found)])
