"""``retry`` and ``backfill``: failed messages once more, and mail from before the first run."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

import click

from syncer import config as settings
from syncer.commands.common import ended, load, running, settings_help, tell
from syncer.cycle import retry_exit_code, work_exit_code
from syncer.daemon import Stopper
from syncer.model import Outcome

_DATE = click.DateTime(["%Y-%m-%d"])


_RETRY_READS: Final = (*settings.RECORDS_SETTINGS, "LEASE_SECONDS", "FAIL_TTL_DAYS")


@click.command(epilog=settings_help(*_RETRY_READS))
@click.argument("uids", metavar="[UID]...", nargs=-1, type=click.IntRange(1, 2**32 - 1))
@click.option("--now", "at_once", is_flag=True, help="Run a cycle at once, rather than wait for the next one.")
def retry(uids: tuple[int, ...], at_once: bool) -> None:
    """Have failed messages tried again by the next cycle: these UIDs, or all of them.

    What was given up gets its MAX_ATTEMPTS anew. syncer status lists the UIDs, and why they failed.
    Reads the settings below only; with --now all of them. Exit code 1: one of the UIDs has no failed message.

    \b
    Example:
      syncer retry 1041 1042 --now
    """
    stopper = Stopper()
    with running(load() if at_once else load(*_RETRY_READS), stopper) as runner:
        report = runner.retry(uids)
        tried = runner.run() if at_once and report.outcome is Outcome.OK and report.due else None
    told = f"{report.due} due now ({report.given_up_before} of them had been given up)"
    told += f", {report.skipped} skipped (see the log)" if report.skipped else ""
    told += f", no failed message has the UID {', '.join(map(str, report.unknown))}" if report.unknown else ""
    tell(f"retry: {ended(report.outcome)}; {told}")
    sys.exit(retry_exit_code(report, tried))


@click.command(epilog=settings_help())
@click.option("--since", type=_DATE, metavar="DATE", required=True, help="The first day to copy (UTC).")
@click.option("--until", type=_DATE, metavar="DATE", help="The last day to copy (UTC).  [default: today]")
@click.option("--dry-run", is_flag=True, help="Log would_copy for each message and write nothing, anywhere.")
def backfill(since: datetime, until: datetime | None, dry_run: bool) -> None:
    """Copy older mail than the first run began with, never twice.

    It goes through ordinary cycles, at the same pace, and new mail with it. Stop it with Ctrl-C or SIGTERM;
    run it again, and it goes on. Exit code 0: all of it was dealt with; 75: run it again.

    \b
    Example:
      syncer backfill --since 2025-01-01 --until 2025-12-31
    """
    if until is not None and until < since:
        raise click.BadParameter("is before --since", param_hint="--until")
    if since.replace(tzinfo=UTC) > datetime.now(UTC):
        raise click.BadParameter("is in the future", param_hint="--since")
    stopper = Stopper()
    pauses = 0

    def pause(seconds: float) -> bool:
        nonlocal pauses
        pauses += 1
        if pauses == 1:
            tell("waiting for another run, or for the lease of one that died")
        return stopper.wait(seconds)

    with running(load(), stopper, dry_run=dry_run) as runner:
        report = runner.backfill(since=since.date(), until=until.date() if until else None, pause=pause)
    told = f"{report.listed} of that time, {report.known} known before, {report.copied} copied"
    told += f", {report.failed} failed" if report.failed else ""
    told += f", {report.in_doubt} in doubt" if report.in_doubt else ""
    told += f", {report.left} left" + (": run it again to go on" if not dry_run else "") if report.left else ""
    tell(f"backfill: {ended(report.outcome)}; {told}")
    sys.exit(work_exit_code(report))
