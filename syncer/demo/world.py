"""Both providers and AWS on this machine, for as long as a ``with`` block: what the demo and the tests run against.

Everything listens on loopback and speaks the real protocols: IMAP over verified TLS with XOAUTH2,
OAuth over HTTPS with rotating refresh tokens, DynamoDB over HTTP. ``environment`` is what makes the
real program use it, and the only difference to a real set-up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self

import boto3

from syncer.demo import certificates
from syncer.demo.authority import Authority
from syncer.demo.aws import EmbeddedAws
from syncer.demo.imap_protocol import Face
from syncer.demo.imap_server import EmbeddedImap
from syncer.dynamodb_records import partition_key
from syncer.model import Side

GMAIL: Final = "mara@gmail.example"
OUTLOOK: Final = "mara@outlook.example"
TABLE: Final = "syncer-demo"


class DemoWorld:
    """Two mailboxes, a sign-in service and an empty AWS account."""

    def __init__(self, **settings: str) -> None:
        """``settings`` are put over the ones that make the program use this world."""
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the servers."""
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncer-demo-")))
            made = certificates.make(self.folder)
            self.authority = stack.enter_context(Authority(made))
            self.aws = stack.enter_context(EmbeddedAws())
            self.gmail = stack.enter_context(
                EmbeddedImap(Face.GMAIL, made.server, made.key, lambda u, t: self.authority.check(u, t, Side.SOURCE))
            )
            self.outlook = stack.enter_context(
                EmbeddedImap(
                    Face.OUTLOOK, made.server, made.key, lambda u, t: self.authority.check(u, t, Side.DESTINATION)
                )
            )
            source = self.authority.add_account(Side.SOURCE, GMAIL)
            destination = self.authority.add_account(Side.DESTINATION, OUTLOOK)
            self.environment: dict[str, str] = {
                **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                **self.aws.environment(),
                "DYNAMODB_TABLE": TABLE,
                "GMAIL_EMAIL": GMAIL,
                "GMAIL_CLIENT_ID": source.client_id,
                "GMAIL_CLIENT_SECRET": source.client_secret,
                "GMAIL_REFRESH_TOKEN": source.refresh_token,
                "GMAIL_TOKEN_URI": self.authority.gmail_token_uri,
                "GMAIL_IMAP_HOST": self.gmail.host,
                "GMAIL_IMAP_PORT": str(self.gmail.port),
                "OUTLOOK_EMAIL": OUTLOOK,
                "OUTLOOK_IMAP_HOST": self.outlook.host,
                "OUTLOOK_IMAP_PORT": str(self.outlook.port),
                "MS_CLIENT_ID": destination.client_id,
                "MS_REFRESH_TOKEN": destination.refresh_token,
                "MS_AUTHORITY": self.authority.ms_authority,
                "TOKENS_FILE": str(self.folder / "tokens.json"),
                "SSL_CERT_FILE": str(made.ca),
                "REQUESTS_CA_BUNDLE": str(made.ca),
                "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
                **self._settings,
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop them, and remove what they left on disk."""
        self._stack.close()

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of the real program."""
        return [sys.executable, "-m", "syncer", *arguments]

    def start(self, *arguments: str, stderr: int | IO[Any] | None = None, **settings: str) -> subprocess.Popen[str]:
        """Start the real program in a process of its own, its log on a pipe."""
        return subprocess.Popen(  # noqa: S603 - our own command line
            self.command(*arguments),
            env={**self.environment, **settings},
            cwd=self.folder,  # where no .env of this machine is
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def run(self, *arguments: str, stderr: int | IO[Any] | None = None, **settings: str) -> tuple[int, str]:
        """Run the real program to its end; return its exit code and its log."""
        process = self.start(*arguments, stderr=stderr, **settings)
        log, _ = process.communicate()
        return process.returncode, log

    def records(self) -> list[dict[str, Any]]:
        """Return every item of the table, as DynamoDB gives it."""
        client = boto3.client(
            "dynamodb",
            endpoint_url=self.aws.endpoint,
            region_name=self.environment["AWS_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )
        try:
            pages = client.get_paginator("query").paginate(
                TableName=TABLE,
                KeyConditionExpression="PK = :pk",
                ExpressionAttributeValues={":pk": {"S": partition_key(GMAIL, OUTLOOK)}},
                ConsistentRead=True,
            )
            return [item for page in pages for item in page["Items"]]
        finally:
            client.close()
