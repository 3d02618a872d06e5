"""The records' server in a process of its own, since it must not be what is measured.

``python -m bench.state --latency-ms 5`` prints where it listens. Each line it reads it answers with the
requests so far, by operation, as JSON; it ends with its standard input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import IO

from tests.fakes.dynamodb import FakeDynamoDB

_REGION = "eu-west-1"


class State:
    """The server's other end, in the process that measures."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to: IO[str] = process.stdin
        self._from: IO[str] = process.stdout
        self.url = self._from.readline().strip()

    def environment(self) -> dict[str, str]:
        """Return the variables with which the program under test uses it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": _REGION,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
        }

    def requests(self) -> Counter[str]:
        """Return how often each operation was called so far."""
        self._to.write("\n")
        self._to.flush()
        return Counter(json.loads(self._from.readline()))


@contextlib.contextmanager
def running(latency_ms: float, *, moto: bool = False) -> Iterator[State]:
    """Run the process; with ``moto``, the embedded DynamoDB of the demo, which takes as long as it takes."""
    command = [sys.executable, "-m", "bench.state", *(["--moto"] if moto else [f"--latency-ms={latency_ms}"])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield State(process)
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.wait(10)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--moto", action="store_true")
    options = parser.parse_args()
    serve = _moto() if options.moto else _fake(options.latency_ms / 1000)
    with serve as (url, counted):
        print(url, flush=True)
        for _ in sys.stdin:
            print(json.dumps(dict(counted)), flush=True)


@contextlib.contextmanager
def _fake(latency: float) -> Iterator[tuple[str, Counter[str]]]:
    counted: Counter[str] = Counter()
    guard = threading.Lock()

    def count(operation: str, _: object) -> None:
        with guard:
            counted[operation] += 1

    with FakeDynamoDB(latency=latency, on_request=count) as server:
        yield server.url, counted


@contextlib.contextmanager
def _moto() -> Iterator[tuple[str, Counter[str]]]:
    from syncer.demo.aws import EmbeddedAws

    with EmbeddedAws() as aws:
        yield aws.endpoint, aws.requests


if __name__ == "__main__":
    main()
