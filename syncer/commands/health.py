"""``health``: for the health check of a container."""

from __future__ import annotations

import sys

import click

from syncer import config as settings
from syncer.commands.common import ENV_FILE, settings_help
from syncer.errors import ConfigError
from syncer.model import EXIT_NOT_NOW


@click.command(epilog=settings_help("HEALTH_FILE"))
def health() -> None:
    """Tell whether the daemon does its work, by the age of its last good cycle.

    Exit code 0: it does; 75: it does not, and the line says why. Good is every cycle that ends with exit
    code 0, and a long one for as long as it copies on; the age may reach three times SYNC_INTERVAL_SECONDS,
    five minutes at least.

    \b
    Example:
      HEALTH_FILE=/tmp/syncer-health.json syncer health
    """
    from syncer.clocks import elapsed
    from syncer.health import judge

    path = settings.load_health_file(env_file=ENV_FILE)
    if path is None:
        raise ConfigError(["HEALTH_FILE is not set: give daemon and health the same file, in a folder in memory"])
    verdict = judge(path, elapsed())
    click.echo(("healthy: " if verdict.healthy else "unhealthy: ") + verdict.reason)
    sys.exit(0 if verdict.healthy else EXIT_NOT_NOW)
