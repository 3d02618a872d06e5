"""The real program between two mail servers of a test's choice, with sign-in and AWS around them."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from syncer.demo.authority import Account, Authority
from syncer.demo.aws import EmbeddedAws
from syncer.demo.certificates import Certificates
from syncer.demo.program import Program, environment_for
from syncer.demo.world import all_records
from syncer.dynamodb_records import partition_key
from syncer.model import Side
from tests.deploy.templates import actions_of_the_role
from tests.deploy.watched_aws import WatchedAws
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook

GMAIL = "mara@gmail.example"
OUTLOOK = "mara@outlook.example"
TABLE = "syncer-test"
_SIGN_INS = ("GMAIL_CLIENT_ID", "GMAIL_CLIENT_SECRET", "GMAIL_REFRESH_TOKEN", "MS_CLIENT_ID", "MS_REFRESH_TOKEN")
NOTHING_BUT_THE_RECORDS = MappingProxyType(dict.fromkeys((*_SIGN_INS, "TOKENS_FILE"), "") | {"OUTLOOK_IMAP_PORT": "?"})
"""Settings with which nobody can sign in anywhere, and one of which is wrong."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the program printed and how it ended."""

    exit_code: int
    events: list[dict[str, Any]]
    requests: dict[str, int]
    """DynamoDB's, by operation."""
    token_calls: int

    @property
    def finished(self) -> dict[str, Any]:
        """The ``cycle_finished`` line. Raises IndexError: there is none."""
        return self.named("cycle_finished")[-1]

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


def parsed(log: str) -> list[dict[str, Any]]:
    """Return the lines of a log; each has to be one JSON object."""
    return [json.loads(line) for line in log.splitlines()]


@dataclass(slots=True)
class Stack:
    """The program, and what it stands on."""

    authority: Authority
    aws: EmbeddedAws
    gmail: Account
    outlook: Account
    program: Program
    watched: WatchedAws

    def run(self, *arguments: str, **settings: str) -> Run:
        """Run a command to its end, ``run-once`` if none is named; every line it prints has to be JSON.

        And a cycle may ask AWS for nothing that the role in template.yaml does not allow.
        """
        self.aws.requests.clear()
        self.watched.actions.clear()
        calls = self.authority.token_calls()
        code, log = self.program.run(*(arguments or ("run-once",)), settings=settings)
        if arguments in ((), ("run-once",)):
            assert set(self.watched.actions) <= actions_of_the_role()
        return Run(code, parsed(log), dict(self.aws.requests), self.authority.token_calls() - calls)

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        return self.program.start(*arguments, settings=settings)

    def run_until_quiet(self, limit: int = 30, **settings: str) -> list[Run]:
        """Run cycles until one finds nothing to do and nothing in doubt."""
        runs: list[Run] = []
        for _ in range(limit):
            runs.append(self.run(**settings))
            end = runs[-1].finished
            if end["outcome"] == "ok" and not (end["listed"] or end["copied"] or end["in_doubt"] or end["backlog"]):
                return runs
        raise AssertionError(f"not quiet after {limit} cycles: {[run.finished for run in runs[-3:]]}")

    def records(self) -> dict[str, dict[str, Any]]:
        """Return every record by its sort key, values without their types."""
        items = all_records(self.aws, TABLE, partition_key(GMAIL, OUTLOOK))
        return {item["SK"]["S"]: {name: _plain(value) for name, value in item.items()} for item in items}


@contextmanager
def stack_between(
    certificates: Certificates,
    folder: Path,
    gmail_port: Callable[[Authority], int],
    outlook_port: Callable[[Authority], int],
    **settings: str,
) -> Iterator[Stack]:
    """Stand the program between two servers, whose ports are asked for once the authority is there."""
    with Authority(certificates) as authority, EmbeddedAws() as aws:
        gmail = authority.add_account(Side.SOURCE, GMAIL)
        outlook = authority.add_account(Side.DESTINATION, OUTLOOK)
        environment = environment_for(
            authority,
            aws,
            gmail=(gmail, gmail_port(authority)),
            outlook=(outlook, outlook_port(authority)),
            table=TABLE,
            tokens_file=folder / "tokens.json",
        )
        fast = {"OUTLOOK_MAX_MESSAGES_PER_SECOND": "0", "IMAP_TIMEOUT_SECONDS": "10"}
        stack = Stack(
            authority, aws, gmail, outlook, Program({**environment, **fast, **settings}, folder), WatchedAws(aws)
        )
        assert stack.run("table", "create").exit_code == 0
        yield stack


@dataclass(slots=True)
class FakePair:
    """Between the two fakes, which misbehave on command."""

    source: FakeGmail
    destination: FakeOutlook
    stack: Stack

    def copies(self) -> list[bytes]:
        """Return what lies in the destination, as it was appended."""
        return self.destination.appended_to("Gmail")


@contextmanager
def fake_pair(certificates: Certificates, folder: Path, **settings: str) -> Iterator[FakePair]:
    """Make one."""
    servers: list[FakeGmail | FakeOutlook] = []

    def gmail(authority: Authority) -> int:
        servers.append(
            FakeGmail(lambda u, t: authority.check(u, t, Side.SOURCE), certificates.server_context()).__enter__()
        )
        return servers[-1].port

    def outlook(authority: Authority) -> int:
        servers.append(
            FakeOutlook(lambda u, t: authority.check(u, t, Side.DESTINATION), certificates.server_context()).__enter__()
        )
        return servers[-1].port

    try:
        with stack_between(certificates, folder, gmail, outlook, **settings) as stack:
            source, destination = servers
            assert isinstance(source, FakeGmail)
            assert isinstance(destination, FakeOutlook)
            yield FakePair(source, destination, stack)
    finally:
        for server in servers:
            server.close()


def _plain(value: dict[str, Any]) -> Any:
    kind, content = next(iter(value.items()))
    if kind == "M":
        return {name: _plain(inner) for name, inner in content.items()}
    return float(content) if kind == "N" and "." in content else int(content) if kind == "N" else content


def letter(number: int, fields: Mapping[str, str] = MappingProxyType({}), *, size: int = 200) -> bytes:
    """Return a mail of its own."""
    head = {
        "From": "Ada <ada@sender.example>",
        "To": "mara@gmail.example",
        "Subject": f"Letter {number}",
        "Message-ID": f"<letter-{number}@sender.example>",
        "Date": f"Sun, 22 Nov 2026 10:{number // 60 % 60:02d}:{number % 60:02d} +0000",
        **fields,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    body = f"This is letter {number}.\r\n"
    return (lines + "\r\n" + body * (1 + size // len(body))).encode()


def until(holds: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until something is seen to be so. Raises AssertionError: it was not, for so long."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        pause.wait(0.02)
