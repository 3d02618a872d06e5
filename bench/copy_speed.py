"""Copy one mailbox with this program and with mbsync, check both copies, and print how long it took.

Usage: make bench [BENCH_OPTIONS="--messages 5000 --rounds 5"]; bench/README.md tells the method.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers import SOURCE_USER, Endpoint, Mbsync, Peer, Syncer, TimedAws, Usage, last_event
from bench.sample_mail import inventory, mail
from syncer.demo import certificates
from syncer.demo.authority import Authority
from tests.fakes.relay import Relay
from tests.imap.dovecot import PASSWORD, Dovecot


@dataclass(slots=True)
class Results:
    """Of one program, a value for each round."""

    full: list[Usage] = field(default_factory=list)
    idle: list[Usage] = field(default_factory=list)
    full_requests: list[Counter[str]] = field(default_factory=list)
    """To DynamoDB; empty counters for a program that does not use it."""
    idle_requests: list[Counter[str]] = field(default_factory=list)
    busy_seconds: list[float] = field(default_factory=list)
    """For how long the embedded DynamoDB was at work, copying and then idle, in turns."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a Markdown table; 1 if there is no server to measure with.

    Raises RuntimeError: a program failed, or its copy is not exact.
    """
    options = _options(arguments)
    if reason := Dovecot.missing():
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        issued = certificates.make(work / "certificates")
        authority = stack.enter_context(Authority(issued))
        aws = stack.enter_context(TimedAws())
        url = authority.introspection_url
        source = stack.enter_context(Dovecot(issued.server, issued.key, url, parent=options.store))
        destination = stack.enter_context(Dovecot(issued.server, issued.key, url, parent=options.store))
        source_end, destination_end = (_endpoint(stack, server, options.rtt_ms) for server in (source, destination))
        peers: list[Peer] = []
        if options.only in ("", Syncer.name):
            syncer = Syncer(source_end, destination_end, authority, aws, work)
            syncer.make_table()
            peers.append(syncer)
        if options.only in ("", Mbsync.name):
            if Mbsync.version():
                peers.append(Mbsync(source_end, destination_end, issued.ca, PASSWORD, work))
            else:
                print("No mbsync here, so nothing to compare with (on Debian: apt-get install isync).")
        sample = list(mail(options.messages, options.kilobytes))
        source.deliver_all(SOURCE_USER, sample)
        print(_heading(options, sum(len(raw) for raw, _ in sample)), flush=True)
        results = {peer.name: Results() for peer in peers}
        for number in range(options.rounds):
            # Who comes first has the colder caches: they take turns.
            for peer in peers if number % 2 == 0 else reversed(peers):
                _measure(peer, f"{peer.name}-{number}@copy.example", results[peer.name], aws, source, destination)
    print(_report(results, options.messages))
    return 0


def _endpoint(stack: ExitStack, server: Dovecot, rtt_ms: float) -> Endpoint:
    """Return where a client finds the server, at the distance that was asked for."""
    if rtt_ms <= 0:
        return Endpoint(server.host, server.port)
    relay = stack.enter_context(Relay(server.port, one_way_ms=rtt_ms / 2))
    return Endpoint(server.host, relay.port)  # by name: mbsync does not compare addresses with certificates


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=1000, help="how many to copy (1000)")
    parser.add_argument("--kilobytes", type=int, default=9, help="mean size of a message (9)")
    parser.add_argument("--rounds", type=int, default=3, help="copies made by each program, in turns (3)")
    parser.add_argument("--rtt-ms", type=float, default=0, help="round-trip time to each mail server (0)")
    parser.add_argument("--only", choices=(Syncer.name, Mbsync.name), default="", help="measure one of the two")
    parser.add_argument("--store", type=Path, default=Path("/tmp"), help="where the servers keep their mail (/tmp)")
    return parser.parse_args(arguments)


def _heading(options: argparse.Namespace, octets: int) -> str:
    return (
        f"{options.messages} messages, {octets / 1e6:.1f} MB, {options.rounds} rounds, "
        f"{options.rtt_ms:g} ms to and from each server, {Mbsync.version() or 'no mbsync'}, "
        f"Python {sys.version.split()[0]}, {os.cpu_count()} processors"
    )


def _measure(peer: Peer, user: str, results: Results, aws: TimedAws, source: Dovecot, destination: Dovecot) -> None:
    """Copy everything, check the copy, and run once more with nothing to do."""
    destination.messages(user)  # makes the mailbox: a first sign-in costs the server more
    for usages, counters in ((results.full, results.full_requests), (results.idle, results.idle_requests)):
        before, busy_before = Counter(aws.requests), aws.busy_seconds
        usages.append(peer.copy(user))
        counters.append(Counter(aws.requests) - before)
        results.busy_seconds.append(aws.busy_seconds - busy_before)
        _check(peer, user, source, destination)


def _check(peer: Peer, user: str, source: Dovecot, destination: Dovecot) -> None:
    """Raise RuntimeError unless the copies are the originals, each once, by their bytes and dates."""
    wanted = inventory(source.messages(SOURCE_USER))
    copies = destination.messages(user, peer.folder)
    found = inventory(copies, without_tuid=peer.name == Mbsync.name)
    if found != wanted:
        missing, extra = wanted - found, found - wanted
        raise RuntimeError(
            f"{peer.name}: the copy is not exact: {missing.total()} missing or altered, {extra.total()} extra"
        )
    if seen := sum(r"\Seen" in copy.flags for copy in copies):
        raise RuntimeError(f"{peer.name}: {seen} copies are marked as read")


def _report(results: dict[str, Results], messages: int) -> str:
    reference = _seconds(results[Mbsync.name].full) if Mbsync.name in results else None
    lines = [
        "",
        "| | messages/s | of mbsync's | seconds (range) | CPU s | peak MB | second run, nothing new, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, result in results.items():
        seconds = _seconds(result.full)
        each = [usage.seconds for usage in result.full]
        cells = [
            name,
            f"{messages / seconds:.0f}",
            f"{reference / seconds:.2f}" if reference else "",
            f"{seconds:.2f} ({min(each):.2f} to {max(each):.2f})",
            f"{statistics.median(usage.cpu_seconds for usage in result.full):.2f}",
            f"{max(usage.peak_megabytes for usage in result.full):.0f}",
            f"{_seconds(result.idle):.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if ours := results.get(Syncer.name):
        lines += ["", *_of_ours(ours, messages)]
    checked = "Every copy was compared with its original, bytes and date: all equal, none twice, none marked as read"
    lines += ["", checked + " (but for the header line X-TUID, which mbsync adds to each)."]
    return "\n".join(lines)


def _of_ours(ours: Results, messages: int) -> list[str]:
    """Return what only this program can be asked: its log and its requests to DynamoDB."""
    copying, idle = (last_event(usages[-1].output, "cycle_finished") for usages in (ours.full, ours.idle))
    requests = ours.full_requests[-1]
    return [
        f"The last round's cycle alone, without the start of Python: {copying['duration_ms'] / 1000:.2f} s to copy,",
        f"for {ours.busy_seconds[-2]:.2f} s of which the embedded DynamoDB was at work;",
        f"{idle['duration_ms'] / 1000:.2f} s with nothing new.",
        f"DynamoDB requests: {_requests(requests)} to copy, {requests.total() / messages:.2f} a message;",
        f"{_requests(ours.idle_requests[-1])} with nothing new.",
    ]


def _seconds(usages: list[Usage]) -> float:
    return statistics.median(usage.seconds for usage in usages)


def _requests(counter: Counter[str]) -> str:
    return f"{counter.total()} ({', '.join(f'{name} {count}' for name, count in counter.most_common())})"


if __name__ == "__main__":
    sys.exit(main())
