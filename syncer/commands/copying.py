"""``run-once`` and ``daemon``: copy what is new."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from syncer.commands.common import load, running, settings_help
from syncer.config import Config
from syncer.cycle import Runner, exit_code
from syncer.daemon import Stopper, run_for_ever


@click.command("run-once", epilog=settings_help())
@click.option("--dry-run", is_flag=True, help="Log would_copy for each message and write nothing, anywhere.")
def run_once(dry_run: bool) -> None:
    """Run one cycle: copy what is new.

    \b
    Example:
      syncer run-once --dry-run
    """
    with running(load(), Stopper(), dry_run=dry_run) as runner:
        summary = runner.run()
    sys.exit(exit_code(summary))


@click.command(epilog=settings_help())
@click.option("--dry-run", is_flag=True, help="Log would_copy for each message and write nothing, anywhere.")
def daemon(dry_run: bool) -> None:
    """Run a cycle every SYNC_INTERVAL_SECONDS, until SIGTERM or SIGINT.

    With SYNC_IDLE=true also within seconds of the arrival of mail.

    \b
    Example:
      SYNC_INTERVAL_SECONDS=60 syncer daemon
    """
    config = load()
    stopper = Stopper()
    with running(config, stopper, dry_run=dry_run) as runner, _cycles(runner, config, stopper) as cycle:
        run_for_ever(cycle, stopper, config.sync_interval_seconds)


@contextmanager
def _cycles(runner: Runner, config: Config, stopper: Stopper) -> Iterator[Callable[[], object]]:
    """Yield what runs one cycle; with SYNC_IDLE, while new mail wakes the daemon."""
    if not config.sync_idle:
        yield runner.run
        return
    from syncer.idle_watch import IdleWatch

    with IdleWatch(runner.sign_in_to_source, config.gmail_source_folder, stopper.wake) as watch:

        def cycle() -> None:
            summary = None
            try:
                summary = runner.run()
            finally:
                watch.ended(summary)

        yield cycle
