"""The command line. What it prints is for programs (JSON lines on stdout), what it draws is for people (stderr)."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Final

try:
    import click
except ImportError:
    sys.exit("The command line needs click and rich. In a checkout of the project: pip install '.[cli]'")

from syncer import __version__
from syncer.errors import ConfigError, StateUnavailable
from syncer.logging_utils import log_bug, log_event, set_up
from syncer.model import EXIT_BUG, EXIT_CONFIG, EXIT_NOT_NOW

logger = logging.getLogger(__name__)


_MODULES: Final = {
    "auth": "auth",
    "run-once": "copying",
    "daemon": "copying",
    "health": "health",
    "doctor": "doctor",
    "status": "status",
    "retry": "catching_up",
    "settle": "settle",
    "backfill": "catching_up",
    "audit": "records",
    "adopt": "records",
    "table": "records",
    "demo": "demo",
}
"""Each command, and the module of ``syncer.commands`` in which its function has the same name."""


class _Commands(click.Group):
    """Imports a command when it is called for: the health check of a container runs every minute."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click has it
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"syncer.commands.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="syncer")
def cli() -> None:
    """Copy new mail from a Gmail mailbox into a folder of an Outlook.com mailbox, exactly once.

    \b
    Example:
      syncer table create && syncer run-once

    \b
    Exit codes: 0 the cycle completed; 75 not now, try again later; 77 a person must
    sign in again; 78 settings are wrong; 70 a bug; 1 audit found something,
    or retry or settle did not find the UID.
    """


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
