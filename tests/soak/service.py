"""The daemon's own parts in this process, between servers of this process: what a soak lets live for a long time.

Everything is the real thing over real sockets, TLS and OAuth (``Runner``, ``IdleWatch``, the status page and what
it tells, ``run_for_ever``), but for the clock, which a storm may set, and which passes over pauses of hours.
"""

from __future__ import annotations

import gc
import http.client
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from syncer import config
from syncer.clocks import elapsed
from syncer.cycle import Runner
from syncer.daemon import Stopper
from syncer.demo.authority import Authority
from syncer.demo.certificates import Certificates
from syncer.dynamodb_client import make_client
from syncer.dynamodb_table import create_table
from syncer.health import HealthFile
from syncer.history import History
from syncer.idle_watch import IdleWatch
from syncer.logging_utils import set_up
from syncer.model import Side
from syncer.ports import Clock
from syncer.status_page import Records, StatusPage
from tests.fakes import dynamodb_expressions
from tests.fakes.dynamodb import FakeDynamoDB
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook

GMAIL: Final = "mara@gmail.example"
OUTLOOK: Final = "mara@outlook.example"
TABLE: Final = "syncer-soak"
FOLDER: Final = "Gmail"


class Weather:
    """The machine's clocks: the wall clock may be set, and both go on while the machine sleeps."""

    def __init__(self) -> None:
        self._set = 0.0
        self._slept = 0.0

    def now(self) -> float:
        return time.time() + self._slept + self._set

    def elapsed(self) -> float:
        return elapsed() + self._slept

    def sleep(self, seconds: float) -> None:
        """Suspend the machine for so long, and resume."""
        self._slept += seconds

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._set += seconds

    def correct_clock(self) -> None:
        self._set = max(self._set, 0.0)


@dataclass(slots=True)
class Service:
    """The daemon, and what it lives between."""

    source: FakeGmail
    destination: FakeOutlook
    authority: Authority
    dynamodb: FakeDynamoDB
    weather: Weather
    stopper: Stopper
    runner: Runner
    watch: IdleWatch
    health: HealthFile
    history: History
    page: StatusPage
    delivered: list[bytes] = field(default_factory=list)
    """Since the last ``sweep``."""

    def deliver(self, raw: bytes) -> None:
        self.source.deliver(raw)
        self.delivered.append(raw)

    def copies(self) -> list[bytes]:
        """Return what was stored since the last ``sweep``."""
        return self.destination.appended_to(FOLDER)

    def visit(self, path: str = "/") -> tuple[int, str]:
        """Look at the status page; return the answer's status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.page.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def call_and_leave(self) -> None:
        """Visit the status page, and go away before it has answered."""
        with socket.create_connection(("127.0.0.1", self.page.port), 30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHo")

    def heal(self) -> None:
        """End all bad luck, and let everything that is held back for a time be due."""
        for server in (self.source, self.destination):
            server.faults.clear()
            server.release()
        self.destination.commit_late()
        self.dynamodb.heal()
        self.weather.correct_clock()
        self.weather.sleep(2 * 86_400)

    def sweep(self) -> None:
        """Forget what was seen to be right, on the servers' side alone: what is left to grow is the daemon's."""
        assert self.source.violations == self.destination.violations == []
        self.dynamodb.heal()
        for mailbox in (self.source.inbox, self.source.all_mail, self.destination.mailbox(FOLDER)):
            for uid in mailbox.uids:
                mailbox.remove(uid)
        self.source._by_msgid.clear()
        self.destination.appended.clear()
        self.delivered.clear()
        for server in (self.source, self.destination):
            server.announced.clear()
            server.handshake_failures.clear()
            server.malformed.clear()
            server._dropping.clear()
            open_now = set(server._wires)
            server.commands[:] = [one for one in server.commands[-50:] if one.connection in open_now]
        self.authority._requests.clear()
        self.authority._access.clear()
        tables = self.dynamodb.tables
        with tables._lock:
            items = tables.tables[TABLE].items
            for key in [key for key in items if key[1] != "WATERMARK"]:
                del items[key]
            tables._tokens.clear()
            # One for each set of attributes that was ever written together, and there are hundreds of them.
            dynamodb_expressions.forget()


@contextmanager
def service(certificates: Certificates, folder: Path) -> Iterator[Service]:
    """Start it; no cycle has run yet."""
    with ExitStack() as stack:
        root = logging.getLogger()
        # Not pytest's handlers, which keep every record.
        stack.callback(root.handlers.__setitem__, slice(None), root.handlers[:])
        stack.callback(root.setLevel, root.level)
        set_up("INFO", stack.enter_context((folder / "log").open("w")))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            patch.setenv(name, str(certificates.ca))
        weather = Weather()
        authority = stack.enter_context(Authority(certificates, now=weather.now))
        authority.revokes_rotated = True  # the strictest of what is said about old refresh tokens
        dynamodb = stack.enter_context(FakeDynamoDB())
        tls = certificates.server_context
        source = stack.enter_context(FakeGmail(_checked(authority, Side.SOURCE), tls()))
        destination = stack.enter_context(FakeOutlook(_checked(authority, Side.DESTINATION), tls(), folders=(FOLDER,)))
        gmail = authority.add_account(Side.SOURCE, GMAIL)
        outlook = authority.add_account(Side.DESTINATION, OUTLOOK)
        settings = config.load(
            environ={
                "GMAIL_EMAIL": GMAIL,
                "OUTLOOK_EMAIL": OUTLOOK,
                "AWS_REGION": "eu-west-1",
                "AWS_ENDPOINT_URL": dynamodb.url,
                "DYNAMODB_TABLE": TABLE,
                "GMAIL_CLIENT_ID": gmail.client_id,
                "GMAIL_CLIENT_SECRET": gmail.client_secret,
                "GMAIL_REFRESH_TOKEN": gmail.refresh_token,
                "GMAIL_TOKEN_URI": authority.gmail_token_uri,
                "GMAIL_IMAP_HOST": "localhost",
                "GMAIL_IMAP_PORT": str(source.port),
                "MS_CLIENT_ID": outlook.client_id,
                "MS_REFRESH_TOKEN": outlook.refresh_token,
                "MS_AUTHORITY": authority.ms_authority,
                "OUTLOOK_IMAP_HOST": "localhost",
                "OUTLOOK_IMAP_PORT": str(destination.port),
                "TOKENS_FILE": str(folder / "tokens.json"),
                "INITIAL_SYNC": "all",
                "OUTLOOK_MAX_MESSAGES_PER_SECOND": "0",
                "IMAP_TIMEOUT_SECONDS": "2",
                "MAX_ATTEMPTS": "100",
                "SYNC_IDLE": "true",
            }
        )
        create_table(make_client(settings.aws_region, settings.aws_endpoint_url), TABLE)
        stopper = Stopper()
        clock = Clock(now=weather.now, elapsed=weather.elapsed)
        health = HealthFile(folder / "health", 300.0, weather.elapsed)
        history = History(weather.now)
        runner = stack.enter_context(
            Runner(settings, stop=stopper.signal, on_progress=lambda _done, _of: health.progressed(), clock=clock)
        )
        watch = IdleWatch(
            runner.sign_in_to_source, "INBOX", stopper.wake, clock=weather.elapsed, first_pause_seconds=0.05
        )
        stack.enter_context(watch)
        records = Records(runner.status, weather.elapsed)
        page = stack.enter_context(StatusPage("127.0.0.1", 0, records, history.seen, health.verdict))
        yield Service(source, destination, authority, dynamodb, weather, stopper, runner, watch, health, history, page)


def _checked(authority: Authority, side: Side) -> Callable[[str, str], bool]:
    return lambda user, token: authority.check(user, token, side)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What this process holds."""

    blocks: int
    """Of memory, given out by Python and not given back; libraries' caches of compiled patterns left out."""
    threads: int
    descriptors: int
    resident_kilobytes: int

    @classmethod
    def now(cls) -> Footprint:
        """Measure it."""
        re.purge()  # imaplib2 compiles one for each connection: 512 are kept
        gc.collect()
        status = Path("/proc/self/status").read_text()
        words: Mapping[str, str] = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return cls(
            sys.getallocatedblocks(),
            threading.active_count(),
            len(list(Path("/proc/self/fd").iterdir())),
            int(words["VmRSS"].split()[0]),
        )
