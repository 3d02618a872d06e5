"""The command line. What it prints is for programs (JSON lines on stdout), what it draws is for people (stderr)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

try:
    import click
except ImportError:
    sys.exit("The command line needs click and rich. In a checkout of the project: pip install '.[cli]'")

import logging

from syncer import config as settings
from syncer.audit import AuditReport, What
from syncer.config import Config
from syncer.cycle import Runner, audit_exit_code, exit_code, work_exit_code
from syncer.daemon import Stopper, log_bug, run_for_ever
from syncer.errors import ConfigError, StateUnavailable
from syncer.logging_utils import log_event, set_up
from syncer.model import EXIT_BUG, EXIT_CONFIG, EXIT_NOT_NOW

logger = logging.getLogger(__name__)

ENV_FILE: Final = Path(".env")


def _version() -> str:
    """Return the installed version; a checkout that is not installed has none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gmail-outlook-syncer")
    except PackageNotFoundError:
        return "of this checkout (not installed)"


def _settings_help(*names: str) -> str:
    """Return the settings a command reads, for the end of its help."""
    chosen = [s for s in settings.SETTINGS if not names or s.name in names]
    width = max(len(s.name) for s in chosen)
    lines = [
        f"  {s.name:<{width}}  {s.help}" + (f" (default: {s.default})" if s.default else " (required)" * s.required)
        for s in chosen
    ]
    return "\b\nSettings (environment, or .env in this folder; NAME_FILE reads NAME from a file):\n" + "\n".join(lines)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version())
def cli() -> None:
    """Copy new mail from a Gmail mailbox into a folder of an Outlook.com mailbox, exactly once.

    \b
    Example:
      syncer table create && syncer run-once

    \b
    Exit codes: 0 the cycle completed; 75 not now, try again later; 77 a person must
    sign in again; 78 settings are wrong; 70 a bug; 1 audit found something.
    """


@cli.command("run-once", epilog=_settings_help())
@click.option("--dry-run", is_flag=True, help="Log would_copy for each message and write nothing, anywhere.")
def run_once(dry_run: bool) -> None:
    """Run one cycle: copy what is new.

    \b
    Example:
      syncer run-once --dry-run
    """
    with _runner(_load(), Stopper(), dry_run=dry_run) as runner:
        summary = runner.run()
    sys.exit(exit_code(summary))


@cli.command(epilog=_settings_help())
@click.option("--dry-run", is_flag=True, help="Log would_copy for each message and write nothing, anywhere.")
def daemon(dry_run: bool) -> None:
    """Run a cycle every SYNC_INTERVAL_SECONDS, until SIGTERM or SIGINT.

    \b
    Example:
      SYNC_INTERVAL_SECONDS=60 syncer daemon
    """
    config = _load()
    stopper = Stopper()
    with _runner(config, stopper, dry_run=dry_run) as runner:
        run_for_ever(runner.run, stopper, config.sync_interval_seconds)


@cli.command(epilog=_settings_help())
@click.option(
    "--days", type=click.FloatRange(0, 36500, min_open=True), default=7, show_default=True, help="How far back to look."
)
@click.option("--repair", is_flag=True, help="Copy what is missing, by one ordinary cycle.")
@click.option("--json", "as_json", is_flag=True, help="Draw no table; the log lines on stdout tell everything.")
def audit(days: float, repair: bool, as_json: bool) -> None:
    """Compare both mailboxes and the records: tell what is missing, duplicate, unsettled or gone.

    Exit code 0: nothing is missing, duplicate or unsettled; 1: something is.

    \b
    Example:
      syncer audit --days 30 --repair
    """
    config = _load()
    stopper = Stopper()
    with stopper.on_signals(), Runner(config, stop=stopper.signal) as runner:
        report = runner.audit(days=days, repair=repair)
        if not as_json and sys.stderr.isatty():
            _draw_audit(report)
        repaired = runner.run() if report.can_repair else None
    sys.exit(audit_exit_code(report, repaired))


@cli.command(epilog=_settings_help())
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Leave out what arrived before this day (UTC): it is not copied either.",
)
def adopt(since: datetime | None) -> None:
    """Rebuild the records from both mailboxes, after the table was lost or another tool did the copying.

    Nothing is copied. What is in the destination already is recorded as copied; the next cycle copies the rest.

    \b
    Example:
      syncer adopt --since 2026-01-31 && syncer run-once
    """
    config = _load()
    stopper = Stopper()
    with stopper.on_signals(), Runner(config, stop=stopper.signal) as runner:
        report = runner.adopt(since=since.date() if since is not None else None)
    sys.exit(work_exit_code(report))


@cli.group()
def table() -> None:
    """Manage the DynamoDB table."""


@table.command("create", epilog=_settings_help(*settings.TABLE_SETTINGS))
def table_create() -> None:
    """Make the DynamoDB table with TTL, unless it is there already; harmless to repeat.

    \b
    Example:
      AWS_REGION=eu-west-1 DYNAMODB_TABLE=syncer syncer table create
    """
    from syncer.dynamodb_client import make_client
    from syncer.dynamodb_table import create_table

    settings.lend_to_libraries(ENV_FILE)
    place = settings.load_table(env_file=ENV_FILE)
    set_up(place.log_level)
    created = create_table(make_client(place.aws_region, place.aws_endpoint_url), place.dynamodb_table)
    log_event(logger, logging.INFO, "table_ready", table=place.dynamodb_table, new=created)


@cli.command()
@click.option(
    "--from",
    "mail",
    type=click.Path(exists=True, path_type=Path),
    help="Copy your own mail instead of the samples: a folder of .eml files, a Maildir or an mbox file.",
)
@click.option(
    "--keep-logs", type=click.Path(path_type=Path, file_okay=False), help="Keep the JSON log lines in a folder."
)
def demo(mail: Path | None, keep_logs: Path | None) -> None:
    """Show the whole system on this machine, against embedded servers: no account, no cloud, no root.

    \b
    Example:
      syncer demo --from ~/Mail/archive.mbox
    """
    try:
        from syncer.demo.story import tell
    except ImportError as missing:
        raise click.ClickException(
            f"{missing.name} is missing, which the demo needs. In a checkout: make demo, or pip install '.[demo]'"
        ) from None
    sys.exit(tell(mail, keep_logs))


def _load() -> Config:
    """Read the settings and begin to log. Raises ConfigError."""
    settings.lend_to_libraries(ENV_FILE)
    config = settings.load(env_file=ENV_FILE)
    set_up(config.log_level)
    return config


def _draw_audit(report: AuditReport) -> None:
    """Show a person what an audit found: numbers, never what is in a mail."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table("what", "UIDVALIDITY", "UID", "why", title=f"audit: {report.outcome}")
    for finding in report.findings:
        drawn.add_row(finding.what, str(finding.key.uidvalidity), str(finding.key.uid), finding.reason)
    console = Console(stderr=True, markup=False)
    if report.findings:
        console.print(drawn)
    counts = ", ".join(f"{report.count(what)} {what}" for what in What)
    console.print(f"{report.listed} listed, {report.copied} copied, {report.waiting} waiting; {counts}")


@contextlib.contextmanager
def _runner(config: Config, stopper: Stopper, *, dry_run: bool = False) -> Iterator[Runner]:
    """Yield a runner that signals stop and whose progress a person at a terminal sees."""
    with (
        _progress_bar() as on_progress,
        stopper.on_signals(),
        Runner(config, stop=stopper.signal, on_progress=on_progress, dry_run=dry_run) as runner,
    ):
        yield runner


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Draw a bar with the time left while a backlog is copied, if a person is watching; never into the log."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("copying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    same_terminal = sys.stdout.isatty()
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=same_terminal, redirect_stderr=False
    ) as bar:
        task = bar.add_task("copying", total=None, visible=False)
        yield lambda done, left: bar.update(task, completed=done, total=done + left, visible=True)


def main() -> None:
    """Run the command line; every way it can end has its exit code and its log line."""
    set_up("INFO")
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ConfigError as error:
        log_event(logger, logging.ERROR, "configuration_invalid", faults=list(error.faults))
        sys.exit(EXIT_CONFIG)
    except StateUnavailable as error:
        log_event(logger, logging.ERROR, "state_unavailable", reason=str(error))
        sys.exit(EXIT_NOT_NOW)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback, and no text that may hold data
        log_bug(error)
        sys.exit(EXIT_BUG)
