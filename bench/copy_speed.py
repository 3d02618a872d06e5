"""Copy mailboxes with this program, with mbsync and with a probe, check every copy, and print how long it took.

Usage: make bench, make bench-full; see bench/README.md for the options and docs/performance.md for the method.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import distance, state
from bench.cases import CASES, Bench, Servers
from bench.peers import Mbsync, Probe, Syncer
from bench.report import Report
from syncer.demo import certificates
from syncer.demo.authority import Authority
from tests.imap.dovecot import Dovecot

ROUND_TRIP_MS = 50
FAR_MS = 500
"""A distance at which a round trip is not lost in the noise: for counting them."""
APPEND_MS = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a Markdown table; 1 if there is no server to measure with.

    Raises RuntimeError: a program failed, or its copy is not exact.
    """
    options = _options(arguments)
    if reason := Dovecot.missing():
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    if not Mbsync.version():
        print("No mbsync here, so the table lacks it (on Debian: apt-get install isync).", file=sys.stderr)
    records = "moto" if options.moto else f"a stand-in that takes {options.dynamodb_ms:g} ms for each request"
    report = Report(records, options.rounds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    with ExitStack() as stack:
        bench = _bench(stack, options)
        for case in CASES:
            if case.name in options.case or (not options.case and (options.full or not case.long)):
                print(f"{case.title} ...", file=sys.stderr, flush=True)
                report.add(case, case.measure(bench))
    print(report.markdown())
    if options.chart:
        options.chart.write_text(report.chart())
    return 0


def _bench(stack: ExitStack, options: argparse.Namespace) -> Bench:
    """Start everything."""
    work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    issued = certificates.make(work / "certificates")
    authority = stack.enter_context(Authority(issued))
    records = stack.enter_context(state.running(options.dynamodb_ms, moto=options.moto))
    source, destination = (
        stack.enter_context(Dovecot(issued.server, issued.key, authority.introspection_url, parent=options.store))
        for _ in range(2)
    )
    ends = (source.port, destination.port)
    (slow,) = stack.enter_context(distance.ports([f"slow:{destination.plain_port}:{APPEND_MS}"], issued))
    wanted = [f"relay:{port}:{ROUND_TRIP_MS / 2}" for port in (*ends, slow)] + [
        f"relay:{port}:{FAR_MS / 2}" for port in ends
    ]
    near_source, near_destination, near_slow, far_source, far_destination = stack.enter_context(
        distance.ports(wanted, issued)
    )
    at_distance = {0: ends, ROUND_TRIP_MS: (near_source, near_destination), FAR_MS: (far_source, far_destination)}
    servers = Servers(source, destination, at_distance, near_slow)
    syncer = Syncer(authority, records, work / "syncer")
    syncer.make_table()
    four = Syncer(authority, records, work / "syncer-4", "syncer, 4 connections", {"OUTLOOK_CONNECTIONS": "4"})
    return Bench(
        servers,
        records,
        syncers=[syncer, four] if options.only in ("", "syncer") else [],
        mbsync=[Mbsync(issued.ca, work / "mbsync")] if options.only in ("", "mbsync") and Mbsync.version() else [],
        probes=[Probe(issued.ca, work / "probe"), Probe(issued.ca, work / "probe-4", 4)]
        if options.only in ("", "probe")
        else [],
        rounds=options.rounds,
        backlog=options.messages,
        cycle_seconds=options.cycle_seconds,
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the long ones too")
    names = [case.name for case in CASES]
    parser.add_argument("--case", action="append", choices=names, default=[], help="this one only; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="copies made by each program, in turns (3)")
    parser.add_argument("--messages", type=int, default=100_000, help="in the backlog (100000)")
    parser.add_argument("--cycle-seconds", type=float, default=240, help="limit of a cycle of the backlog (240)")
    parser.add_argument("--only", choices=("syncer", "mbsync", "probe"), default="", help="measure one of them")
    parser.add_argument("--dynamodb-ms", type=float, default=5, help="what each request to DynamoDB takes (5)")
    parser.add_argument("--moto", action="store_true", help="with moto as DynamoDB, as the demo has it")
    store = next(path for path in (Path("/dev/shm"), Path("/tmp")) if path.is_dir())  # not the disk is measured
    parser.add_argument("--store", type=Path, default=store, help=f"where the servers keep their mail ({store})")
    parser.add_argument("--chart", type=Path, help="write the chart there, as SVG")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
