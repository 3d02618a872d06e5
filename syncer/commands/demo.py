"""``demo``: the whole system on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
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
