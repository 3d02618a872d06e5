"""What commands share: reading the settings, help about them, a runner, a progress bar."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from syncer import config as settings
from syncer.config import Config
from syncer.cycle import Runner
from syncer.daemon import Stopper, Watcher
from syncer.logging_utils import set_up
from syncer.model import Outcome

ENV_FILE: Final = Path(".env")


def settings_help(*names: str) -> str:
    """Return the settings a command reads, for the end of its help."""
    chosen = [s for s in settings.SETTINGS if not names or s.name in names]
    width = max(len(s.name) for s in chosen)
    lines = [
        f"  {s.name:<{width}}  {s.help}" + (f" (default: {s.default})" if s.default else " (required)" * s.required)
        for s in chosen
    ]
    return "\b\nSettings (environment, or .env in this folder; NAME_FILE reads NAME from a file):\n" + "\n".join(lines)


def load(*names: str) -> Config:
    """Read the settings (``names``: demand these alone) and begin to log. Raises ConfigError."""
    settings.lend_to_libraries(ENV_FILE)
    config = settings.load_part(names, env_file=ENV_FILE) if names else settings.load(env_file=ENV_FILE)
    set_up(config.log_level)
    return config


def tell(text: str) -> None:
    """Say something to a person who watches; never into the log."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def ended(outcome: Outcome) -> str:
    """Return in words how work that a person asked for ended."""
    if outcome is Outcome.OK:
        return "done"
    if outcome is Outcome.LEASE_HELD:
        return "another run is at work; try again when it is done"
    return f"{outcome}, see the log lines above"


@contextlib.contextmanager
def running(
    config: Config, stopper: Stopper, *, dry_run: bool = False, watchers: Sequence[Watcher] = ()
) -> Iterator[Runner]:
    """Yield a runner that signals stop and whose progress a person at a terminal sees, and ``watchers`` too."""
    with _progress_bar() as draw, stopper.on_signals():

        def on_progress(done: int, left: int) -> None:
            if draw is not None:
                draw(done, left)
            for watcher in watchers:
                watcher.progressed()

        with Runner(config, stop=stopper.signal, on_progress=on_progress, dry_run=dry_run) as runner:
            yield runner


def pinger(config: Config) -> list[Watcher]:
    """Return who tells the monitor that HEALTHCHECK_PING_URL names, if there is one."""
    if config.healthcheck_ping_url is None:
        return []
    from syncer.ping import Pinger

    return [Pinger(config.healthcheck_ping_url)]


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
