"""Both providers and AWS on this machine, for as long as a ``with`` block: what the demo and the tests run against.

Everything listens on loopback and speaks the real protocols: IMAP over verified TLS with XOAUTH2,
OAuth over HTTPS with rotating refresh tokens, DynamoDB over HTTP. The settings that ``program`` is
run with are the only difference to a real set-up.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import boto3

from syncer.demo import certificates
from syncer.demo.authority import Authority
from syncer.demo.aws import EmbeddedAws
from syncer.demo.imap_protocol import Face
from syncer.demo.imap_server import EmbeddedImap
from syncer.demo.place import LOOPBACK, Place
from syncer.demo.program import Program, environment_for
from syncer.dynamodb_records import partition_key
from syncer.model import Side

GMAIL: Final = "mara@gmail.example"
OUTLOOK: Final = "mara@outlook.example"
TABLE: Final = "syncer-demo"


class DemoWorld:
    """Two mailboxes, a sign-in service and an empty AWS account."""

    def __init__(self, place: Place = LOOPBACK, /, **settings: str) -> None:
        """``settings`` are put over the ones that make the program use this world, all of which is at ``place``."""
        self._place = place
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the servers."""
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncer-demo-")))
            made = certificates.make(self.folder, [*certificates.HOSTS, self._place.name])
            self.authority = stack.enter_context(Authority(made, place=self._place))
            self.aws = stack.enter_context(EmbeddedAws(self._place.address))
            self.gmail = stack.enter_context(self._imap(Face.GMAIL, made, Side.SOURCE))
            self.outlook = stack.enter_context(self._imap(Face.OUTLOOK, made, Side.DESTINATION))
            settings = environment_for(
                self.authority,
                self.aws,
                gmail=(self.authority.add_account(Side.SOURCE, GMAIL), self.gmail.port),
                outlook=(self.authority.add_account(Side.DESTINATION, OUTLOOK), self.outlook.port),
                table=TABLE,
                tokens_file=self.folder / "tokens.json",
                host=self._place.name,
            )
            self.program = Program({**settings, **self._settings}, self.folder)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop them, and remove what they left on disk."""
        self._stack.close()

    def _imap(self, face: Face, made: certificates.Certificates, side: Side) -> EmbeddedImap:
        return EmbeddedImap(
            face,
            made.server,
            made.key,
            lambda user, token: self.authority.check(user, token, side),
            place=self._place,
        )

    def records(self) -> list[dict[str, Any]]:
        """Return every item of the table, as DynamoDB gives it."""
        return all_records(self.aws, TABLE, partition_key(GMAIL, OUTLOOK))


def all_records(aws: EmbeddedAws, table: str, partition: str) -> list[dict[str, Any]]:
    """Return every item of one pair of accounts, as DynamoDB gives it."""
    settings = aws.environment()
    client = boto3.client(
        "dynamodb",
        endpoint_url=aws.endpoint,
        region_name=settings["AWS_REGION"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )
    try:
        pages = client.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression="PK = :pk",
            ExpressionAttributeValues={":pk": {"S": partition}},
            ConsistentRead=True,
        )
        return [item for page in pages for item in page["Items"]]
    finally:
        client.close()
