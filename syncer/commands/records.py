"""``audit``, ``adopt`` and ``table``: the records, compared, rebuilt and given a place."""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from syncer import config as settings
from syncer.commands.common import ENV_FILE, ended, load, settings_help, tell
from syncer.cycle import Runner, audit_exit_code, work_exit_code
from syncer.daemon import Stopper
from syncer.logging_utils import log_event, set_up

if TYPE_CHECKING:  # run-once and daemon go without
    from syncer.audit import AuditReport

logger = logging.getLogger(__name__)


@click.command(epilog=settings_help())
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
    config = load()
    stopper = Stopper()
    with stopper.on_signals(), Runner(config, stop=stopper.signal) as runner:
        report = runner.audit(days=days, repair=repair)
        if not as_json and sys.stderr.isatty():
            _draw_audit(report)
        repaired = runner.run() if report.can_repair else None
    sys.exit(audit_exit_code(report, repaired))


def _draw_audit(report: AuditReport) -> None:
    """Show a person what an audit found: numbers, never what is in a mail."""
    from rich.console import Console
    from rich.table import Table

    from syncer.audit import What

    drawn = Table("what", "UIDVALIDITY", "UID", "why", title=f"audit: {report.outcome}")
    for finding in report.findings:
        drawn.add_row(finding.what, str(finding.key.uidvalidity), str(finding.key.uid), finding.reason)
    console = Console(stderr=True, markup=False)
    if report.findings:
        console.print(drawn)
    counts = ", ".join(f"{report.count(what)} {what}" for what in What)
    console.print(f"{report.listed} listed, {report.copied} copied, {report.waiting} waiting; {counts}")


@click.command(epilog=settings_help())
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
    config = load()
    stopper = Stopper()
    with stopper.on_signals(), Runner(config, stop=stopper.signal) as runner:
        report = runner.adopt(since=since.date() if since is not None else None)
    told = f"{report.listed} listed, {report.adopted} recorded as copied, {report.duplicates} duplicates"
    told += f", {report.similar} undecided (see the log)" if report.similar else ""
    told += f"; {report.left_open} left for the next cycle to copy"
    tell(f"adopt: {ended(report.outcome)}; {told}")
    sys.exit(work_exit_code(report))


@click.group()
def table() -> None:
    """Manage the DynamoDB table."""


@table.command("create", epilog=settings_help(*settings.TABLE_SETTINGS))
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
