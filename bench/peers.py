"""The programs that are measured, each as the process that a person would start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from bench.state import State
from syncer.demo.authority import Account, Authority
from syncer.demo.program import Program, environment_for
from syncer.model import Side
from syncer.token_store import FileTokens
from syncer.tokens import SideTokens, Tokens
from tests.imap.dovecot import PASSWORD


@dataclass(frozen=True, slots=True)
class Work:
    """From where to where. A program that has copied between two users before copies what is new."""

    source_user: str
    source_port: int
    destination_user: str
    destination_port: int
    above: int = 0
    """What has a higher UID is new: for the probe, which remembers nothing."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process took."""

    seconds: float
    """From its start to its end, start-up included."""
    inner_seconds: float
    """As the program tells it, without the start of Python; the same as ``seconds`` where it tells nothing."""
    cpu_seconds: float
    peak_megabytes: float
    memory: tuple[float, ...]
    """Resident megabytes, a reading every fifth of a second."""
    output: str


class Peer(Protocol):
    """A program that copies the source's INBOX into a folder of a destination mailbox."""

    name: str
    folder: str

    def copy(self, work: Work) -> Usage:
        """Copy what is new; the first time for two users, that is everything. Raises RuntimeError: it failed."""


def run(
    command: list[str],
    environment: Mapping[str, str],
    folder: Path,
    tells: str = "",
    stop_after: float | None = None,
) -> Usage:
    """Run one process in ``folder`` to its end and measure it; ask it to end after so many seconds.

    ``tells`` is the event of its log that says how long it took. Raises RuntimeError, with its last words: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output"
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        asking = threading.Timer(stop_after or 0.0, process.terminate)
        if stop_after is not None:
            asking.start()
        with _watched_memory(process.pid) as (peak, readings):
            _, status, usage = os.wait4(process.pid, 0)
        asking.cancel()
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}; its last words:\n{said[-2000:]}")
    told = last_event(said, tells) if tells else {"seconds": seconds}
    inner = told["seconds"] if "seconds" in told else told["duration_ms"] / 1000
    return Usage(seconds, inner, usage.ru_utime + usage.ru_stime, peak[0] / 1024, tuple(readings), said)


@contextlib.contextmanager
def _watched_memory(pid: int) -> Iterator[tuple[list[int], list[float]]]:
    """Yield a list whose one number becomes the peak resident set in KB, and one of what it was over time, in MB.

    Not ru_maxrss: that counts what this process held when it forked.
    """
    peak, readings = [0], list[float]()
    ended = threading.Event()

    def watch() -> None:
        began = time.monotonic()
        while not ended.wait(0.02):
            with contextlib.suppress(OSError, ValueError, KeyError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                told = {name: value for name, _, value in (line.partition(":") for line in lines)}
                peak[0] = max(peak[0], int(told["VmHWM"].split()[0]))
                if time.monotonic() - began >= 0.2 * len(readings):
                    readings.append(int(told["VmRSS"].split()[0]) / 1024)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak, readings
    finally:
        ended.set()
        watcher.join()


class Mbsync:
    """isync's mbsync: pipelined IMAP in C, its state in a local file."""

    name = "mbsync"
    folder = "Peer"

    def __init__(self, ca: Path, folder: Path) -> None:
        self._ca = ca
        self._work = folder

    @staticmethod
    def version() -> str:
        """Return what it says of itself; empty if it is not installed."""
        if not shutil.which("mbsync"):
            return ""
        return subprocess.run(["mbsync", "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def copy(self, work: Work) -> Usage:
        """Copy by a configuration, and with state, of this destination's own."""
        own = self._work / work.destination_user
        own.mkdir(parents=True, exist_ok=True)
        config = own / "mbsyncrc"
        config.write_text(
            self._account("source", work.source_port, work.source_user)
            + self._account("destination", work.destination_port, work.destination_user)
            + "Channel copy\n"
            "Far :source:INBOX\n"
            f"Near :destination:{self.folder}\n"
            "Sync Pull New\n"
            "Create Near\n"
            "CopyArrivalDate yes\n"
            f"SyncState {own}/state-\n"
        )
        return run(["mbsync", "--config", str(config), "copy"], {**_bare_environment(), "HOME": str(own)}, own)

    def _account(self, name: str, port: int, user: str) -> str:
        return (  # by name: mbsync does not compare addresses with certificates
            f"IMAPAccount {name}\nHost localhost\nPort {port}\nUser {user}\nPass {PASSWORD}\n"
            f"AuthMechs LOGIN\nSSLType IMAPS\nSystemCertificates no\nCertificateFile {self._ca}\nTimeout 60\n\n"
            f"IMAPStore {name}\nAccount {name}\n\n"
        )


class Probe:
    """``bench.probe``: what the protocol and the servers allow."""

    folder = "Probe"

    def __init__(self, ca: Path, folder: Path, connections: int = 1) -> None:
        self.name = "probe" if connections == 1 else f"probe, {connections} connections"
        self._ca = ca
        self._work = folder
        self._connections = connections

    def copy(self, work: Work) -> Usage:
        """Copy what lies above a UID."""
        command = [
            *(sys.executable, "-m", "bench.probe", f"--ca={self._ca}", f"--password={PASSWORD}"),
            *(f"--source-port={work.source_port}", f"--source-user={work.source_user}", f"--above={work.above}"),
            *(f"--destination-port={work.destination_port}", f"--destination-user={work.destination_user}"),
            *(f"--folder={self.folder}", f"--connections={self._connections}"),
        ]
        environment = {**_bare_environment(), "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        return run(command, environment, self._work / work.destination_user, "probe_finished")


class Syncer:
    """This program: ``python -m syncer run-once``, its records in a DynamoDB of the bench."""

    folder = "Gmail"

    def __init__(
        self,
        authority: Authority,
        state: State,
        folder: Path,
        name: str = "syncer",
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self._authority = authority
        self._state = state
        self._work = folder
        self._settings = settings
        self._signed_in: dict[str, dict[str, str]] = {}

    def make_table(self) -> None:
        """Make the table for all records to come. Raises RuntimeError: it failed."""
        work = Work("nobody@mail.example", 1, "nobody@copy.example", 1)
        run(Program.command("table", "create"), self._environment(work), self._work / "table")

    def copy(self, work: Work, stop_after: float | None = None) -> Usage:
        """Run one cycle; the records of other users are in the same table, and out of its way."""
        own = self._work / work.destination_user
        return run(Program.command("run-once"), self._environment(work), own, "cycle_finished", stop_after)

    def start(self, code: str, work: Work) -> Usage:
        """Run code, and nothing else, in a process that has this program's settings. Raises RuntimeError: it failed."""
        return run([sys.executable, "-c", code], self._environment(work), self._work / work.destination_user)

    def keep(self, work: Work, deliver: Callable[[], None]) -> tuple[Usage, Usage]:
        """Run cycles in one process, as a daemon or a Lambda that is warm does.

        Returns what the cycle took that met what ``deliver`` delivers, and the quickest that met nothing.
        Raises RuntimeError: it failed, or took minutes.
        """
        own = self._work / work.destination_user
        log = own / "kept"
        environment = {**self._environment(work), "SYNC_INTERVAL_SECONDS": "1"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                Program.command("daemon"), env=environment, cwd=own, stdin=subprocess.DEVNULL, stdout=output
            )
        try:
            _wait_for(log, lambda cycles: sum(not cycle["copied"] for cycle in cycles) >= 4)
            deliver()
            _wait_for(log, lambda cycles: bool(cycles[-1]["copied"]))
        finally:
            process.terminate()
            process.wait(30)
        cycles = events(log.read_text(), "cycle_finished")
        late = [cycle["duration_ms"] / 1000 for cycle in cycles if cycle["copied"]][-1]
        idle = min(cycle["duration_ms"] / 1000 for cycle in cycles if not cycle["copied"])
        return _of_cycle(late), _of_cycle(idle)

    def _environment(self, work: Work) -> dict[str, str]:
        ports = {"GMAIL_IMAP_PORT": str(work.source_port), "OUTLOOK_IMAP_PORT": str(work.destination_port)}
        if work.destination_user not in self._signed_in:
            gmail = self._authority.add_account(Side.SOURCE, work.source_user)
            outlook = self._authority.add_account(Side.DESTINATION, work.destination_user)
            tokens_file = self._work / work.destination_user / "tokens.json"
            self._signed_in[work.destination_user] = environment_for(
                self._authority,
                self._state,
                gmail=(gmail, work.source_port),
                outlook=(outlook, work.destination_port),
                table="bench",
                tokens_file=tokens_file,
            )
            self._cache_access_tokens(tokens_file, gmail, outlook)
        return {
            **self._signed_in[work.destination_user],
            **ports,
            "OUTLOOK_TARGET_FOLDER": self.folder,
            "INITIAL_SYNC": "all",
            "OUTLOOK_MAX_MESSAGES_PER_SECOND": "0",
            **self._settings,
        }

    def _cache_access_tokens(self, path: Path, *accounts: Account) -> None:
        """Leave what the cycle before would have left: eleven cycles of twelve find their access tokens there."""
        now = time.time()
        path.parent.mkdir(parents=True, exist_ok=True)
        FileTokens(path).save(
            Tokens(
                {
                    account.side: SideTokens(
                        client_id=account.client_id,
                        client_secret=account.client_secret,
                        refresh_token=account.refresh_token,
                        access_token=self._authority.issue_access_token(account),
                        expires_at=now + 3599,
                        obtained_at=now,
                        seeded_from=hashlib.sha256(account.refresh_token.encode()).hexdigest(),
                    )
                    for account in accounts
                }
            )
        )


def _of_cycle(seconds: float) -> Usage:
    """Return what is known of one cycle among others of a process."""
    return Usage(seconds, seconds, 0.0, 0.0, (), "")


def _wait_for(log: Path, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
    """Wait until it holds for the cycles in a log. Raises RuntimeError: it did not, for two minutes."""
    give_up_at = time.monotonic() + 120
    while not ((cycles := events(log.read_text(), "cycle_finished")) and holds(cycles)):
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"the daemon does not get on; its last words:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def events(output: str, event: str) -> list[dict[str, Any]]:
    """Return the log lines of that event."""
    found = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            fields = json.loads(line)
            if isinstance(fields, dict) and fields.get("event") == event:
                found.append(fields)
    return found


def last_event(output: str, event: str) -> dict[str, Any]:
    """Return the last log line of that event. Raises RuntimeError: there is none."""
    if found := events(output, event):
        return found[-1]
    raise RuntimeError(f"no {event} in the log:\n{output[-2000:]}")


def _bare_environment() -> dict[str, str]:
    """Return an environment without anybody's settings and credentials."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
