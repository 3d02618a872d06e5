"""Let mail arrive at a Gmail whose daemon stands in IDLE, and print how long each message took to its destination.

Usage: make latency [LATENCY_OPTIONS="--arrivals 20 --rtt-ms 100"]; bench/README.md tells the method.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from syncer.demo import certificates
from syncer.demo.authority import Authority
from syncer.model import Side
from tests.fakes.dynamodb import FakeDynamoDB
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.relay import Relay
from tests.stack.pair import letter, stack_between, until

PATIENCE_SECONDS = 60.0


class Watched:
    """When each message was stored in the destination."""

    def __init__(self, destination: FakeOutlook) -> None:
        self._mailbox = destination.mailbox("Gmail")
        self._changed = threading.Condition()
        self.stored_at: list[float] = []
        destination.mailboxes.listen(self._note)

    def _note(self) -> None:
        now = time.perf_counter()
        count = len(self._mailbox.uids)
        with self._changed:
            self.stored_at += [now] * (count - len(self.stored_at))
            self._changed.notify_all()

    def nth(self, count: int) -> float:
        """Wait until so many are stored; return when the last of them was. Raises RuntimeError: it never was."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.stored_at) >= count, PATIENCE_SECONDS):
                raise RuntimeError(f"message {count} was not copied within {PATIENCE_SECONDS:g} s")
            return self.stored_at[count - 1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a Markdown table. Raises RuntimeError: a message was not copied, or not exactly."""
    options = _options(arguments)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        issued = certificates.make(work)
        database = stack.enter_context(FakeDynamoDB(latency=options.state_ms / 1000))
        servers: dict[Side, FakeGmail | FakeOutlook] = {}

        def serve(authority: Authority, side: Side) -> int:
            def check(user: str, token: str) -> bool:
                return authority.check(user, token, side)

            tls = issued.server_context()
            server: FakeGmail | FakeOutlook
            server = FakeGmail(check, tls) if side is Side.SOURCE else FakeOutlook(check, tls, folders=("Gmail",))
            stack.enter_context(server)
            servers[side] = server
            return stack.enter_context(Relay(server.port, one_way_ms=options.rtt_ms / 2)).port

        settings = {
            "AWS_ENDPOINT_URL": database.url,
            "SYNC_IDLE": "true",
            "SYNC_INTERVAL_SECONDS": "3600",
            "OUTLOOK_MAX_MESSAGES_PER_SECOND": "4",
        }
        made = stack_between(
            issued, work, lambda a: serve(a, Side.SOURCE), lambda a: serve(a, Side.DESTINATION), **settings
        )
        world = stack.enter_context(made)
        source, destination = servers[Side.SOURCE], servers[Side.DESTINATION]
        assert isinstance(source, FakeGmail)
        assert isinstance(destination, FakeOutlook)
        daemon = stack.enter_context(world.start("daemon"))
        stack.callback(daemon.kill)
        log: list[str] = []  # read as it comes: a pipe that is full would stop the daemon
        threading.Thread(target=lambda: log.extend(daemon.stdout or ()), daemon=True).start()
        until(lambda: source.connections_in_idle == 1, PATIENCE_SECONDS)
        print(_heading(options), flush=True)
        seconds = _measure(options, source, Watched(destination))
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(PATIENCE_SECONDS)
        if destination.appended_to("Gmail") != [letter(number) for number in range(options.arrivals)]:
            raise RuntimeError("the copies are not the originals, each once and in order")
    print(_report(seconds))
    return 0


def _measure(options: argparse.Namespace, source: FakeGmail, watched: Watched) -> list[float]:
    """Let messages arrive, one at a time; return how long each took, from its arrival to its being stored."""
    chance, pause = random.Random(options.seed), threading.Event()
    seconds = []
    for number in range(options.arrivals):
        pause.wait(chance.uniform(0.5, 1.5) * options.gap)
        arrived_at = time.perf_counter()
        source.deliver(letter(number))
        seconds.append(watched.nth(number + 1) - arrived_at)
    return seconds


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make latency", description=__doc__)
    parser.add_argument("--arrivals", type=int, default=100, help="how many messages arrive (100)")
    parser.add_argument("--gap", type=float, default=3.0, help="mean seconds between two of them (3)")
    parser.add_argument("--rtt-ms", type=float, default=50, help="round-trip time to each mail server (50)")
    parser.add_argument("--state-ms", type=float, default=10, help="what each DynamoDB request takes (10)")
    parser.add_argument("--seed", type=int, default=1, help="of the gaps (1)")
    return parser.parse_args(arguments)


def _heading(options: argparse.Namespace) -> str:
    return (
        f"{options.arrivals} arrivals, about {options.gap:g} s apart, {options.rtt_ms:g} ms to and from each mail "
        f"server, {options.state_ms:g} ms for each DynamoDB request, Python {sys.version.split()[0]}, "
        f"{os.cpu_count()} processors"
    )


def _report(seconds: Sequence[float]) -> str:
    values = (min(seconds), statistics.median(seconds), _percentile(seconds, 95), max(seconds))
    return "\n".join(
        [
            "",
            "| from arrival to the destination, s | min | median | 95 % | max |",
            "| --- | ---: | ---: | ---: | ---: |",
            f"| {len(seconds)} messages | {' | '.join(f'{value:.2f}' for value in values)} |",
            "",
            "Every copy was compared with its original: all equal, in order, none twice.",
        ]
    )


def _percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many per cent of the others do not exceed."""
    return sorted(values)[-(-len(values) * percent // 100) - 1]


if __name__ == "__main__":
    sys.exit(main())
