"""The real program in a process of its own, pointed at servers on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, Protocol

from syncer.demo.authority import Account, Authority
from syncer.demo.place import LOOPBACK

_KEPT: Final = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TERM", "COLUMNS", "SYSTEMROOT")


class Aws(Protocol):
    """The services that keep the records and secrets; see ``EmbeddedAws``."""

    def environment(self) -> dict[str, str]: ...


def environment_for(
    authority: Authority,
    aws: Aws,
    *,
    gmail: tuple[Account, int],
    outlook: tuple[Account, int],
    table: str,
    tokens_file: Path,
    host: str = LOOPBACK.name,
) -> dict[str, str]:
    """Return the settings with which the program copies between two IMAP servers on ``host``.

    ``gmail`` and ``outlook`` are the accounts and the servers' ports. Nothing of the user's own
    settings and credentials is in it.
    """
    (source, source_port), (destination, destination_port) = gmail, outlook
    ca = str(authority.certificates.ca)
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        **aws.environment(),
        "DYNAMODB_TABLE": table,
        "GMAIL_EMAIL": source.address,
        "GMAIL_CLIENT_ID": source.client_id,
        "GMAIL_CLIENT_SECRET": source.client_secret,
        "GMAIL_REFRESH_TOKEN": source.refresh_token,
        "GMAIL_TOKEN_URI": authority.gmail_token_uri,
        "GMAIL_IMAP_HOST": host,
        "GMAIL_IMAP_PORT": str(source_port),
        "OUTLOOK_EMAIL": destination.address,
        "OUTLOOK_IMAP_HOST": host,
        "OUTLOOK_IMAP_PORT": str(destination_port),
        "MS_CLIENT_ID": destination.client_id,
        "MS_REFRESH_TOKEN": destination.refresh_token,
        "MS_AUTHORITY": authority.ms_authority,
        "TOKENS_FILE": str(tokens_file),
        "SSL_CERT_FILE": ca,
        "REQUESTS_CA_BUNDLE": ca,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }


@dataclass(frozen=True, slots=True)
class Program:
    """``python -m syncer`` with its settings, in a folder where no ``.env`` is."""

    environment: dict[str, str]
    folder: Path

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "syncer", *arguments]

    def start(
        self,
        *arguments: str,
        settings: Mapping[str, str] = MappingProxyType({}),
        stderr: int | IO[Any] | None = subprocess.STDOUT,
    ) -> subprocess.Popen[str]:
        """Start it, its log on a pipe; ``settings`` come over the environment."""
        return subprocess.Popen(  # noqa: S603 - our own command line
            self.command(*arguments),
            env={**self.environment, **settings},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def run(
        self,
        *arguments: str,
        settings: Mapping[str, str] = MappingProxyType({}),
        stderr: int | IO[Any] | None = subprocess.STDOUT,
    ) -> tuple[int, str]:
        """Run it to its end; return its exit code and what it printed."""
        with self.start(*arguments, settings=settings, stderr=stderr) as process:
            printed, _ = process.communicate()
        return process.returncode, printed
