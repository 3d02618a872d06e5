"""``status``: how things stand, for a person at a terminal, for a pipe and for a program."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from syncer import config as settings
from syncer.commands.common import load, settings_help
from syncer.cycle import Runner
from syncer.daemon import Stopper
from syncer.errors import StateUnavailable
from syncer.forecast import WARN_DAYS
from syncer.logging_utils import log_event
from syncer.model import FailRecord, Side
from syncer.status import WEEK_DAYS, Status, as_json, iso

if TYPE_CHECKING:
    from rich.console import RenderableType

logger = logging.getLogger(__name__)

READS: Final = ("GMAIL_EMAIL", "OUTLOOK_EMAIL", *settings.TABLE_SETTINGS)
_NAMES: Final = {Side.SOURCE: "Gmail", Side.DESTINATION: "Outlook.com"}
_MOST_ROWS: Final = 20
"""Messages that a screen lists; ``--json`` has them all."""
_HOUR: Final = 3600.0


@click.command(epilog=settings_help(*dict.fromkeys(READS)))
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

    Reads the records and nothing else; no mailbox is contacted. Needs dynamodb:GetItem, BatchGetItem and Query.

    \b
    Example:
      syncer status --watch
    """
    config = load()
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


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: ``mood`` is green, yellow, red, or empty where it is neither good nor bad."""

    label: str
    text: str
    mood: str = ""


def _screen(found: Status) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    overview = Table("status", iso(found.now) or "", title_justify="left", show_edge=False, pad_edge=False)
    for row in _rows(found):
        overview.add_row(row.label, Text(row.text, row.mood))
    parts: list[RenderableType] = [overview]
    if messages := _messages(found):
        problems = Table("UID", "state", "tries", "next", "why", show_edge=False, pad_edge=False)
        for cells in messages[:_MOST_ROWS]:
            problems.add_row(*map(Text, cells))
        parts += [Text(), problems]
    if hints := list(_hints(found)):
        parts += [Text(), *map(Text, hints)]
    return Group(*parts)


def _plain(found: Status) -> str:
    rows = [_Row("at", iso(found.now) or ""), *_rows(found)]
    lines = [f"{row.label:<18} {row.text}" for row in rows]
    for uid, state, tries, following, why in _messages(found)[:_MOST_ROWS]:
        lines.append(f"UID {uid}: {state}, tries {tries}, next {following}: {why}")
    return "\n".join([*lines, *_hints(found)])


def _rows(found: Status) -> Iterator[_Row]:
    watermark = found.standing.watermark
    yield _last_good_cycle(found)
    at_work = f"a run, lease until {iso(found.standing.lease_until)}" if found.is_leased else "nobody"
    yield _Row("at work", at_work)
    newest = f" of {watermark.uidnext - 1}" if watermark.uidnext else ""
    yield _Row("settled up to", f"UID {watermark.last_uid}{newest}" if not found.is_empty else "nothing yet")
    copied = f"{found.copied_since(1):,} today, {found.copied_since(WEEK_DAYS):,} in {WEEK_DAYS} days (UTC)"
    yield _Row("copied", f"{copied}, {watermark.copied:,} in total")
    yield _counted("waiting", found.waiting, "")
    oldest = min((record.claimed_at for record in found.in_doubt), default=found.now)
    yield _counted("in doubt", len(found.in_doubt), "yellow", f", the oldest for {_span(found.now - oldest)}")
    yield _counted("failing", len(found.failing), "yellow")
    yield _counted("given up", len(found.given_up), "red")
    for side in Side:
        yield _token(found, side)
    for side, until in found.holds.items():
        yield _Row(f"{_NAMES[side]}", f"asked to be left alone for another {_span(until - found.now)}", "yellow")
    if watermark.outages:
        yield _Row("outages", f"{watermark.outages} cycles in a row in which Outlook.com refused everything", "yellow")


def _last_good_cycle(found: Status) -> _Row:
    at = found.last_good_cycle
    if at is None:
        return _Row("last good cycle", "none yet", "yellow")
    gone = max(0.0, found.now - at)
    mood = "green" if gone < _HOUR else "yellow" if gone < 24 * _HOUR else "red"
    return _Row("last good cycle", f"{_span(gone)} ago ({iso(at)})", mood)


def _counted(label: str, count: int, mood: str, more: str = "") -> _Row:
    return _Row(label, f"{count:,}{more}", mood) if count else _Row(label, "none", "green" if mood else "")


def _token(found: Status, side: Side) -> _Row:
    label = f"{_NAMES[side]} token"
    left = found.days_left(side)
    forecast = found.standing.watermark.tokens.get(side)
    if left is None or forecast is None:
        return _Row(label, "nobody knows how long it lasts")
    text = f"{left:,.0f} days left" if left >= 2 else f"{max(0.0, left) * 24:.0f} hours left"
    if left < WARN_DAYS:
        return _Row(label, f"{text}: syncer auth {'gmail' if side is Side.SOURCE else 'outlook'}", "red")
    renewed = forecast.renewed_at or forecast.signed_in_at
    since = f", renewed {_span(found.now - renewed)} ago" if renewed and side is Side.DESTINATION else ""
    return _Row(label, text + since, "green")


def _messages(found: Status) -> list[tuple[str, str, str, str, str]]:
    """Return the cells of every message that is not as it should be, the worst first."""
    rows = [_failed(record, "given up", "never") for record in found.given_up]
    for record in found.failing:
        pause = record.next_try_at - found.now
        rows.append(_failed(record, "failing", f"in {_span(pause)}" if pause > 0 else "next cycle"))
    for claimed in found.in_doubt:
        why = f"sent {_span(found.now - claimed.claimed_at)} ago, no answer: its copy is looked for"
        rows.append((str(claimed.key.uid), "in doubt", "", "next cycle", why))
    return rows


def _failed(record: FailRecord, state: str, following: str) -> tuple[str, str, str, str, str]:
    return str(record.key.uid), state, str(record.retry_count), following, record.last_error


def _hints(found: Status) -> Iterator[str]:
    more = len(_messages(found)) - _MOST_ROWS
    if more > 0:
        yield f"and {more:,} more messages: syncer status --json has them all"
    if found.given_up:
        yield "to try what was given up again: syncer retry"


def _span(seconds: float) -> str:
    """Return a length of time in words."""
    for name, length in (("day", 86_400.0), ("hour", _HOUR), ("minute", 60.0)):
        if seconds >= 2 * length or (name == "minute" and seconds >= length):
            count = int(seconds // length)
            return f"{count} {name}{'s' * (count != 1)}"
    count = max(0, round(seconds))
    return f"{count} second{'s' * (count != 1)}"
