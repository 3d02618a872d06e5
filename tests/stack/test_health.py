"""``health`` and HEALTHCHECK_PING_URL: the real daemon as a container's health check and a monitor see it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from syncer.demo.certificates import Certificates
from tests.fakes.faults import Close, on
from tests.stack.pair import FakePair, letter, parsed, until
from tests.stack.test_daemon import stopped

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)


class Monitor:
    """A monitor like healthchecks.io: notes what it is told."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/ping/6a7c-canary"
        self.told: list[tuple[str, str]] = []
        self.status = 200


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with served() as made:
        yield made


@contextmanager
def served() -> Iterator[Monitor]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.told.append((self.path.removeprefix("/ping/6a7c-canary"), body.decode()))
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, *_answer: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Monitor(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def health(pair: FakePair, file: Path) -> tuple[int, str]:
    code, printed = pair.stack.program.run("health", settings={"HEALTH_FILE": str(file)})
    return code, printed.strip()


def test_a_daemon_at_work_is_healthy(pair: FakePair, tmp_path: Path) -> None:
    file = tmp_path / "health.json"
    assert health(pair, file) == (
        75,
        "unhealthy: the daemon has not begun, or does not keep this file (HEALTH_FILE)",
    )
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", HEALTH_FILE=str(file)) as daemon:
        until(lambda: file.exists() and '"outcome": "ok"' in file.read_text())
        code, said = health(pair, file)
        stopped(daemon)
    assert code == 0
    assert said.startswith("healthy: last good cycle ")


def test_without_the_setting_it_says_which_one_is_missing(pair: FakePair) -> None:
    code, printed = pair.stack.program.run("health")
    assert code == 78
    assert "HEALTH_FILE is not set" in parsed(printed)[-1]["faults"][0]


def test_a_monitor_hears_of_every_cycle_and_how_it_ended(pair: FakePair, monitor: Monitor) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.source.misbehave(on("EXAMINE"), Close())
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", HEALTHCHECK_PING_URL=monitor.url) as daemon:
        until(lambda: len(monitor.told) >= 4)
        stopped(daemon)
    assert [path for path, _ in monitor.told[:4]] == ["/start", "/fail", "/start", ""]
    assert monitor.told[1][1].startswith("outcome=source_unavailable ")
    assert "outcome=ok listed=1 copied=1 " in monitor.told[3][1]


def test_a_run_by_a_schedule_tells_it_too(pair: FakePair, monitor: Monitor) -> None:
    assert pair.stack.program.run("run-once", settings={"HEALTHCHECK_PING_URL": monitor.url})[0] == 0
    assert [path for path, _ in monitor.told] == ["/start", ""]


def test_a_monitor_that_is_down_is_logged_once_without_its_address_and_stops_nothing(
    pair: FakePair, monitor: Monitor, certificates: Certificates
) -> None:
    monitor.status = 404
    pair.source.deliver(letter(1), ARRIVED)
    code, printed = pair.stack.program.run("run-once", settings={"HEALTHCHECK_PING_URL": monitor.url})
    assert code == 0
    assert len(pair.copies()) == 1
    failures = [event for event in parsed(printed) if event["event"] == "ping_failed"]
    assert [event["reason"] for event in failures] == ["HTTP status 404"]
    assert "canary" not in printed
