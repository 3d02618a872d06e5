"""``run-once`` and ``daemon``: copy what is new."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from syncer.clocks import elapsed
from syncer.commands.common import load, pinger, running, settings_help
from syncer.config import Config
from syncer.cycle import Runner, exit_code
from syncer.cycle_state import Summary
from syncer.daemon import Stopper, run_for_ever, run_watched
from syncer.health import Health, HealthFile
from syncer.history import History
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

    With SYNC_IDLE=true also within seconds of the arrival of mail. With STATUS_PORT a page shows how things stand.

    \b
    Example:
      SYNC_INTERVAL_SECONDS=60 syncer daemon
    """
    config = load()
    stopper = Stopper()
    watchers = pinger(config)
    interval = config.sync_interval_seconds
    health = (
        Health(interval, elapsed) if config.health_file is None else HealthFile(config.health_file, interval, elapsed)
    )
    history = History(time.time)
    watchers += [health, history]
    with (
        running(config, stopper, dry_run=dry_run, watchers=watchers) as runner,
        _status_page(runner, config, health, history),
        _cycles(runner, config, stopper) as cycle,
    ):
        run_for_ever(cycle, stopper, interval, watchers)


@contextmanager
def _status_page(runner: Runner, config: Config, health: Health, history: History) -> Iterator[None]:
    """Serve the status page within this block, if STATUS_PORT asks for one."""
    if config.status_port is None:
        yield
        return
    from syncer.status_page import Records, StatusPage

    records = Records(runner.status, elapsed)
    with StatusPage(config.status_host, config.status_port, records, history.seen, health.verdict):
        yield


@contextmanager
def _cycles(runner: Runner, config: Config, stopper: Stopper) -> Iterator[Callable[[], Summary]]:
    """Yield what runs one cycle; with SYNC_IDLE, while new mail wakes the daemon."""
    if not config.sync_idle:
        yield runner.run
        return
    from syncer.idle_watch import IdleWatch

    with IdleWatch(runner.sign_in_to_source, config.gmail_source_folder, stopper.wake) as watch:

        def cycle() -> Summary:
            summary = None
            try:
                summary = runner.run()
            finally:
                watch.ended(summary)
            return summary

        yield cycle
