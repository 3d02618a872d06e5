"""The programs that are measured, each as the process that a person would start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from syncer.demo.authority import Authority
from syncer.demo.aws import EmbeddedAws
from syncer.demo.program import Program, environment_for
from syncer.model import Side

SOURCE_USER = "bench@mail.example"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a mail server is: a server itself, or a relay before it."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process took."""

    seconds: float
    """From its start to its end, start-up included."""
    cpu_seconds: float
    peak_megabytes: float
    output: str


class Peer(Protocol):
    """A program that copies the source's INBOX into a folder of a destination mailbox."""

    name: str
    folder: str

    def copy(self, destination_user: str) -> Usage:
        """Copy what is new; the first time for a user, that is everything. Raises RuntimeError: it failed."""


def run(command: list[str], environment: dict[str, str], folder: Path) -> Usage:
    """Run one process in ``folder`` to its end and measure it. Raises RuntimeError, with its last words: it failed."""
    log = folder / "output"
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        with _watched_memory(process.pid) as peak:
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}; its last words:\n{said[-2000:]}")
    return Usage(seconds, usage.ru_utime + usage.ru_stime, peak[0] / 1024, said)


class TimedAws(EmbeddedAws):
    """Knows for how long it had something to do."""

    def __init__(self) -> None:
        super().__init__()
        self.busy_seconds = 0.0
        self._at_work = 0
        self._since = 0.0
        self._counting = threading.Lock()

    def _answer(self, *request: Any) -> Iterable[bytes]:
        with self._counting:
            if not self._at_work:
                self._since = time.perf_counter()
            self._at_work += 1
        try:
            return super()._answer(*request)
        finally:
            with self._counting:
                self._at_work -= 1
                if not self._at_work:
                    self.busy_seconds += time.perf_counter() - self._since


@contextlib.contextmanager
def _watched_memory(pid: int) -> Iterator[list[int]]:
    """Yield a list whose one number becomes the process's peak resident set, in KB.

    Not ru_maxrss: that counts what this process held when it forked.
    """
    peak = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            with contextlib.suppress(OSError, ValueError, StopIteration):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                peak[0] = max(peak[0], next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


class Mbsync:
    """isync's mbsync: pipelined IMAP in C, its state in a local file."""

    name = "mbsync"
    folder = "Peer"

    def __init__(self, source: Endpoint, destination: Endpoint, ca: Path, password: str, work: Path) -> None:
        self._source = source
        self._destination = destination
        self._ca = ca
        self._password = password
        self._work = work

    @staticmethod
    def version() -> str:
        """Return what it says of itself; empty if it is not installed."""
        if not shutil.which("mbsync"):
            return ""
        return subprocess.run(["mbsync", "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def copy(self, destination_user: str) -> Usage:
        """Copy by a configuration, and with state, of this destination's own."""
        own = self._work / destination_user
        own.mkdir(exist_ok=True)
        config = own / "mbsyncrc"
        config.write_text(
            self._account("source", self._source, SOURCE_USER)
            + self._account("destination", self._destination, destination_user)
            + "Channel copy\n"
            "Far :source:INBOX\n"
            f"Near :destination:{self.folder}\n"
            "Sync Pull New\n"
            "Create Near\n"
            "CopyArrivalDate yes\n"
            f"SyncState {own}/state-\n"
        )
        return run(["mbsync", "--config", str(config), "copy"], {**_bare_environment(), "HOME": str(own)}, own)

    def _account(self, name: str, at: Endpoint, user: str) -> str:
        return (
            f"IMAPAccount {name}\nHost {at.host}\nPort {at.port}\nUser {user}\nPass {self._password}\n"
            f"AuthMechs LOGIN\nSSLType IMAPS\nSystemCertificates no\nCertificateFile {self._ca}\nTimeout 60\n\n"
            f"IMAPStore {name}\nAccount {name}\n\n"
        )


class Syncer:
    """This program: ``python -m syncer run-once``, its state in an embedded DynamoDB."""

    name = "syncer"
    folder = "Gmail"

    def __init__(
        self, source: Endpoint, destination: Endpoint, authority: Authority, aws: EmbeddedAws, work: Path
    ) -> None:
        self._ports = source.port, destination.port
        self._authority = authority
        self._aws = aws
        self._work = work
        self._gmail = authority.add_account(Side.SOURCE, SOURCE_USER)
        self._environments: dict[str, dict[str, str]] = {}

    def make_table(self) -> None:
        """Make the table for all records to come. Raises RuntimeError: it failed."""
        run(Program.command("table", "create"), self._environment("nobody@copy.example"), self._work)

    def copy(self, destination_user: str) -> Usage:
        """Run one cycle; the records of another destination are in the same table, and out of its way."""
        own = self._work / destination_user
        own.mkdir(exist_ok=True)
        if destination_user not in self._environments:
            self._environments[destination_user] = self._environment(destination_user)
        return run(Program.command("run-once"), self._environments[destination_user], own)

    def _environment(self, destination_user: str) -> dict[str, str]:
        return {
            **environment_for(
                self._authority,
                self._aws,
                gmail=(self._gmail, self._ports[0]),
                outlook=(self._authority.add_account(Side.DESTINATION, destination_user), self._ports[1]),
                table="bench",
                tokens_file=self._work / destination_user / "tokens.json",
            ),
            "OUTLOOK_TARGET_FOLDER": self.folder,
            "INITIAL_SYNC": "all",
            "OUTLOOK_MAX_MESSAGES_PER_SECOND": "0",
        }


def last_event(output: str, event: str) -> dict[str, Any]:
    """Return the last log line of that event. Raises RuntimeError: there is none."""
    for line in reversed(output.splitlines()):
        with contextlib.suppress(ValueError):
            fields = json.loads(line)
            if isinstance(fields, dict) and fields.get("event") == event:
                return fields
    raise RuntimeError(f"no {event} in the log:\n{output[-2000:]}")


def _bare_environment() -> dict[str, str]:
    """Return an environment without anybody's settings and credentials."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
