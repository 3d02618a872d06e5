"""What is measured: each case is some mail, a distance, and the programs that have to carry it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from bench.peers import Mbsync, Peer, Probe, Syncer, Usage, Work, last_event
from bench.sample_mail import attachments, inventory, large, small
from bench.state import State
from tests.imap.dovecot import Dovecot

Mail = Iterable[tuple[bytes, str]]
_users = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Servers:
    """Both mail servers, and the ports at which they are found."""

    source: Dovecot
    destination: Dovecot
    at: dict[int, tuple[int, int]]
    """By round-trip time in milliseconds: the ports of source and destination."""
    slow_port: int
    """The destination at 50 ms, taking its time over every APPEND."""


@dataclass(slots=True)
class Measured:
    """Of one program in one case, a value for each round."""

    usages: list[Usage] = field(default_factory=list)
    requests: list[Counter[str]] = field(default_factory=list)
    """To DynamoDB."""

    def least(self, what: Callable[[Usage], float]) -> float:
        """Return the smallest value of all rounds: what the others had on top was the machine's."""
        return min(what(usage) for usage in self.usages)


Results = dict[str, dict[str, Measured]]
"""By part of the case (``copy``, ``late``, ``idle``), by program; ``start``: by what was started."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything there is to measure with."""

    servers: Servers
    records: State
    syncers: list[Syncer]
    mbsync: list[Mbsync]
    probes: list[Probe]
    rounds: int
    backlog: int
    """How many messages."""
    cycle_seconds: float
    """After so long a cycle of the backlog is asked to end."""

    @property
    def peers(self) -> list[Peer]:
        """One program of each kind."""
        return [*self.syncers[:1], *self.mbsync, *self.probes[:1]]

    def measure(self, results: dict[str, Measured], peer: Peer, work: Work) -> Usage:
        """Have a program do its work, and check what it did."""
        before = self.records.requests()
        usage = peer.copy(work)
        measured = results.setdefault(peer.name, Measured())
        measured.usages.append(usage)
        measured.requests.append(self.records.requests() - before)
        return usage

    def check(self, peer: Peer, work: Work) -> None:
        """Raise RuntimeError unless the copies are the originals, each once, by their bytes and dates."""
        wanted = inventory(self.servers.source.messages(work.source_user))
        copies = self.servers.destination.messages(work.destination_user, peer.folder)
        found = inventory(copies, without_tuid=isinstance(peer, Mbsync))
        if found != wanted:
            missing, extra = wanted - found, found - wanted
            raise RuntimeError(
                f"{peer.name}: the copy is not exact: {missing.total()} missing or altered, {extra.total()} extra"
            )
        if seen := sum(r"\Seen" in copy.flags for copy in copies):
            raise RuntimeError(f"{peer.name}: {seen} copies are marked as read")

    def new_user(self, mail: Mail) -> tuple[str, int]:
        """Return a new user of the source who has this mail, and the highest UID."""
        user = f"source-{next(_users)}@mail.example"
        return user, (self.servers.source.deliver_all(user, mail) or [0])[-1]

    def new_destination(self, peer: Peer) -> str:
        """Return a new user of the destination, who has the folder: it is made once in years, and not measured."""
        user = f"{peer.name.replace(', ', '-').replace(' ', '-')}-{next(_users)}@copy.example"
        with self.servers.destination.session(user) as client:
            client.create(peer.folder)
        return user

    def copy_in_turns(self, mail: Mail, rtt_ms: int, peers: list[Peer], *, slow: bool = False) -> dict[str, Measured]:
        """Have each program copy the same mail, as often as there are rounds."""
        results: dict[str, Measured] = {}
        source_user, _ = self.new_user(mail)
        source_port, destination_port = self.servers.at[rtt_ms]
        for number in range(self.rounds):
            # Who comes first has the colder caches: they take turns.
            for peer in peers if number % 2 == 0 else reversed(peers):
                destination = self.servers.slow_port if slow else destination_port
                work = Work(source_user, source_port, self.new_destination(peer), destination)
                self.measure(results, peer, work)
                self.check(peer, work)
        return results


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table, or several."""

    name: str
    title: str
    measure: Callable[[Bench], Results]
    long: bool = False


def _small(rtt_ms: int) -> Callable[[Bench], Results]:
    def measure(bench: Bench) -> Results:
        """Copy 1,000, then 10 that are new, then nothing."""
        results: Results = {"copy": {}, "late": {}, "idle": {}, "warm late": {}, "warm idle": {}}
        source_port, destination_port = bench.servers.at[rtt_ms]
        for number in range(bench.rounds):
            source_user, highest = bench.new_user(small(1000))
            peers = bench.peers if number % 2 == 0 else bench.peers[::-1]
            works = {
                peer.name: Work(source_user, source_port, bench.new_destination(peer), destination_port)
                for peer in peers
            }
            for peer in peers:
                bench.measure(results["copy"], peer, works[peer.name])
                bench.check(peer, works[peer.name])
            bench.servers.source.deliver_all(source_user, small(10, first=1001))
            for peer in peers:
                bench.measure(results["late"], peer, _above(works[peer.name], highest))
                bench.check(peer, works[peer.name])
            for peer in peers:
                bench.measure(results["idle"], peer, _above(works[peer.name], highest + 10))
            for syncer in bench.syncers[:1]:
                _keep(bench, syncer, works[syncer.name], results, highest + 11)
        for part in ("late", "idle"):
            results[f"warm {part}"] = {**results[part], **results[f"warm {part}"]}
        return results

    return measure


def _keep(bench: Bench, syncer: Syncer, work: Work, results: Results, first: int) -> None:
    """Have cycles run in a process that is kept."""

    def deliver() -> None:
        bench.servers.source.deliver_all(work.source_user, small(10, first=first))

    for part, usage in zip(("warm late", "warm idle"), syncer.keep(work, deliver), strict=True):
        measured = results[part].setdefault(syncer.name, Measured())
        measured.usages.append(usage)
        measured.requests.append(Counter())
    bench.check(syncer, work)


def _above(work: Work, uid: int) -> Work:
    return Work(work.source_user, work.source_port, work.destination_user, work.destination_port, uid)


def _round_trips(bench: Bench) -> Results:
    """Run idle nearby and far away: the difference is the round trips."""
    results: Results = {"near": {}, "far": {}}
    source_user, highest = bench.new_user(small(10))
    for peer in bench.peers:
        user = bench.new_destination(peer)
        near, far = (
            Work(source_user, source_port, user, destination_port, highest)
            for source_port, destination_port in (bench.servers.at[0], bench.servers.at[500])
        )
        peer.copy(_above(near, 0))
        for _ in range(bench.rounds):
            bench.measure(results["near"], peer, near)
            bench.measure(results["far"], peer, far)
    return results


_STARTS: Final = {
    "`import boto3` and a DynamoDB client": "import boto3; boto3.client('dynamodb')",
    # It tells of settings that are wrong at its first tick only.
    "the Lambda handler, ready for a tick": "import handler.app, sys; assert 'botocore.client' in sys.modules",
    "imports of `run-once` and its DynamoDB client": "import syncer.main, syncer.commands.copying\n"
    "from syncer.dynamodb_client import make_client; make_client('eu-west-1')",
}


def _start_up(bench: Bench) -> Results:
    """Start Python for what a cycle cannot do without, and for a whole cycle that finds nothing."""
    results: Results = {"start": {}}
    source_user, _ = bench.new_user(small(10))
    source_port, destination_port = bench.servers.at[0]
    for syncer in bench.syncers[:1]:
        work = Work(source_user, source_port, bench.new_destination(syncer), destination_port)
        syncer.copy(work)
        for _ in range(3 * bench.rounds):  # they are short
            usages = {name: syncer.start(code, work) for name, code in _STARTS.items()}
            usages["`run-once` that finds nothing"] = syncer.copy(work)
            for name, usage in usages.items():
                results["start"].setdefault(name, Measured()).usages.append(usage)
    return results


def _slow(bench: Bench) -> Results:
    peers: list[Peer] = [*bench.syncers, *bench.mbsync, *bench.probes]
    return {"copy": bench.copy_in_turns(small(100), 50, peers, slow=True)}


_LARGE_STORE: Final = """
mail_location = mdbox:~/mdbox
mail_plugins =
protocol imap {
  mail_plugins =
}
"""
"""Not Maildir: that reads its whole folder again for each APPEND, and a server's time would grow with its mailbox."""


def _backlog(bench: Bench) -> Results:
    """Copy a hundred thousand: in one go, then in cycles that are cut short, as a Lambda's are."""
    results: Results = {"copy": {}, "cycles": {}}
    for server in (bench.servers.source, bench.servers.destination):
        server.restart(extra=_LARGE_STORE)
    source_user, _ = bench.new_user(small(bench.backlog))
    source_port, destination_port = bench.servers.at[0]
    for peer in bench.peers:
        work = Work(source_user, source_port, bench.new_destination(peer), destination_port)
        bench.measure(results["copy"], peer, work)
        bench.check(peer, work)
    for syncer in bench.syncers[:1]:
        work = Work(source_user, source_port, bench.new_destination(syncer), destination_port)
        measured = results["cycles"].setdefault(syncer.name, Measured())
        outcome = ""
        while outcome != "ok":
            before = bench.records.requests()
            measured.usages.append(syncer.copy(work, bench.cycle_seconds))
            measured.requests.append(bench.records.requests() - before)
            outcome = last_event(measured.usages[-1].output, "cycle_finished")["outcome"]
            if outcome not in ("ok", "stopped"):
                raise RuntimeError(f"a cycle of the backlog ended with {outcome}")
        bench.check(syncer, work)
    return results


CASES: Final = (
    Case("small-far", "1,000 small mails, 50 ms", _small(50)),
    Case("small-near", "1,000 small mails, 0 ms", _small(0)),
    Case("round-trips", "idle, round trips", _round_trips),
    Case("start-up", "start-up", _start_up),
    Case(
        "attachments",
        "200 mails of 0.1 to 2 MB, 50 ms",
        lambda bench: {"copy": bench.copy_in_turns(attachments(200), 50, bench.peers)},
    ),
    Case(
        "large",
        "5 mails of 20 MB, 50 ms",
        lambda bench: {"copy": bench.copy_in_turns(large(5), 50, bench.peers)},
    ),
    Case("slow", "100 mails, 100 ms for each APPEND, 50 ms", _slow),
    Case("backlog", "the backlog, 0 ms", _backlog, long=True),
)
"""In the order of the table."""
