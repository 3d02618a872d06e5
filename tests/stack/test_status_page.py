"""STATUS_PORT: the real daemon's page, health and metrics between the fakes, and that they never get in its way."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.faults import Reply, on
from tests.stack.pair import GMAIL, OUTLOOK, FakePair, letter, until
from tests.stack.test_daemon import stopped

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def get(port: int, path: str = "/") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def is_up(port: int) -> bool:
    try:
        return get(port, "/healthz")[0] == 200
    except OSError:
        return False


def metrics(port: int) -> dict[str, float]:
    families: Any = text_string_to_metric_families(get(port, "/metrics")[1])
    return {sample.name: sample.value for family in families for sample in family.samples}


def text_of(page: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)))


def test_page_and_metrics_tell_what_the_daemon_did_without_an_address_or_a_subject(pair: FakePair) -> None:
    pair.destination.misbehave(on("APPEND", nth=2), Reply("BAD Command Argument Error. 11 <b>&"))
    for number in range(4):
        pair.source.deliver(letter(number), ARRIVED)
    port = free_port()
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", MAX_ATTEMPTS="1", STATUS_PORT=str(port)) as daemon:
        until(lambda: is_up(port) and metrics(port)["syncer_messages_copied_total"] == 3)
        status, page = get(port)
        told = metrics(port)
        stopped(daemon)
    assert status == 200
    text = text_of(page)
    for said in ("The daemon is well", "3 by this daemon", "UID 4 of 4", "syncer retry"):
        assert said in text
    assert re.search(r"2 +given up +1 +never +refused: Command Argument Error\. 11 <b>&", text)
    assert "<b>&" not in page
    for secret in (GMAIL, OUTLOOK, "mara", "Letter", "sender.example", pair.stack.gmail.refresh_token):
        assert secret not in page
    assert told["syncer_messages_given_up_total"] == told["syncer_messages_failed_total"] == 1
    assert told["syncer_backlog"] == told["syncer_sign_in_required"] == 0
    assert told["syncer_delivery_lag_seconds"] > 0
    assert 89 * 86_400 < told["syncer_token_remaining_seconds"] <= 90 * 86_400


def test_without_visitors_it_asks_dynamodb_for_nothing_and_with_many_once(pair: FakePair) -> None:
    pair.stack.run()
    port = free_port()
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="60", STATUS_PORT=str(port)) as daemon:
        until(lambda: is_up(port) and metrics(port)["syncer_cycles_completed_total"] == 1)
        pair.stack.aws.requests.clear()
        for _ in range(5):
            get(port, "/healthz")
            get(port, "/metrics")
        assert dict(pair.stack.aws.requests) == {}
        for _ in range(20):
            assert get(port)[0] == 200
        assert dict(pair.stack.aws.requests) == {"GetItem": 1, "Query": 1}
        stopped(daemon)


def test_healthz_says_the_same_as_the_command_when_the_daemon_falls_ill_and_when_it_is_well_again(
    pair: FakePair, tmp_path: Path
) -> None:
    file = tmp_path / "health.json"
    port = free_port()
    settings = {"HEALTH_FILE": str(file), "STATUS_PORT": str(port)}
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="3", **settings) as daemon:
        until(lambda: is_up(port) and metrics(port)["syncer_cycles_completed_total"] >= 1)
        # An hour without a good cycle, as the file would tell it; the next good cycle writes it anew.
        pulse = json.loads(file.read_text())
        file.write_text(json.dumps({**pulse, "good_at": pulse["good_at"] - 3600}))
        status, reason = get(port, "/healthz")
        assert status == 503
        assert reason.startswith("no good cycle for 60 min; ")
        until(lambda: get(port, "/healthz")[0] == 200)
        assert get(port, "/healthz")[1].startswith("last good cycle ")
        stopped(daemon)


def test_a_table_that_cannot_be_used_is_told_and_the_page_stays(pair: FakePair) -> None:
    port = free_port()
    settings = {"DYNAMODB_TABLE": "another-table", "STATUS_PORT": str(port)}
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", **settings) as daemon:
        until(lambda: is_up(port))
        text = text_of(get(port)[1])
        stopped(daemon)
    assert "The records cannot be read now" in text
    assert "Table another-table does not exist" in text
    assert pair.source.connections == 0


def test_a_port_in_use_is_logged_and_mail_is_copied_all_the_same(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", STATUS_PORT=port) as daemon:
            until(lambda: pair.copies() == [letter(1)])
            events = stopped(daemon)
    (failed,) = (event for event in events if event["event"] == "status_page_failed")
    assert failed["reason"] == "Address already in use: check STATUS_HOST and STATUS_PORT"


def test_visitors_that_say_nothing_hold_up_neither_copies_nor_the_end(pair: FakePair) -> None:
    port = free_port()
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", STATUS_PORT=str(port)) as daemon:
        until(lambda: is_up(port))
        silent = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(30)]
        silent[0].sendall(b"GET / HTTP/1.1\r\n")
        pair.source.deliver(letter(1), ARRIVED)
        until(lambda: pair.copies() == [letter(1)])
        events = stopped(daemon)
        for connection in silent:
            connection.close()
    assert {event["event"] for event in events} >= {"status_page_started", "cycle_finished"}
    assert "bug" not in {event["event"] for event in events}


def test_without_the_setting_nothing_listens(pair: FakePair) -> None:
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="60") as daemon:
        until(lambda: pair.source.connections)
        of_tcp = Path(f"/proc/{daemon.pid}/net/tcp").read_text().splitlines()[1:]
        sockets = {link.readlink().name for link in Path(f"/proc/{daemon.pid}/fd").iterdir() if link.is_symlink()}
        listening = [line.split()[9] for line in of_tcp if line.split()[3] == "0A"]
        assert [inode for inode in listening if f"socket:[{inode}]" in sockets] == []
        stopped(daemon)
