"""``run-once`` and ``daemon``: copy what is new."""

from __future__ import annotations

import sys

import click

from syncer.clocks import elapsed
from syncer.commands.common import load, pinger, running, settings_help
from syncer.cycle import exit_code
from syncer.daemon import Stopper, run_for_ever, run_watched
from syncer.health import HealthFile
from syncer.model import EXIT_BUG


@click.command("run-once", epilog=settings_help())
@click.option("--dry-run", is_flag=True, help="Log would_copy for each message and write nothing, anywhere.")
def run_once(dry_run: bool) -> None:
    """Run one cycle: copy what is new.

    \b
    Example:
      syncer run-once --dry-run
    """
    config = load()
    watchers = pinger(config)
    with running(config, Stopper(), dry_run=dry_run) as runner:
        summary = run_watched(runner.run, watchers)
    sys.exit(EXIT_BUG if summary is None else exit_code(summary))


@click.command(epilog=settings_help())
@click.option("--dry-run", is_flag=True, help="Log would_copy for each message and write nothing, anywhere.")
def daemon(dry_run: bool) -> None:
    """Run a cycle every SYNC_INTERVAL_SECONDS, until SIGTERM or SIGINT.

    \b
    Example:
      SYNC_INTERVAL_SECONDS=60 syncer daemon
    """
    config = load()
    stopper = Stopper()
    watchers = pinger(config)
    if config.health_file is not None:
        watchers.append(HealthFile(config.health_file, config.sync_interval_seconds, elapsed))
    with running(config, stopper, dry_run=dry_run, watchers=watchers) as runner:
        run_for_ever(runner.run, stopper, config.sync_interval_seconds, watchers)
