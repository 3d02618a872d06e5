"""``daemon`` with ``SYNC_IDLE``: mail is copied when it arrives, and the records come first here, too."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from syncer.model import Side
from tests.fakes.dynamodb_faults import Reset
from tests.fakes.dynamodb_proxy import DynamoDBProxy
from tests.fakes.faults import FOREVER, TOO_MANY_CONNECTIONS, Stall, on
from tests.stack.pair import FakePair, letter, parsed, until

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)


def stopped(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    return parsed(printed)


@contextmanager
def running(pair: FakePair, *arguments: str, idle: str = "true", **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Start the daemon with IDLE; a test that fails does not wait for its end."""
    with pair.stack.start("daemon", *arguments, SYNC_IDLE=idle, **settings) as process:
        try:
            yield process
        finally:
            process.kill()


def names(events: list[dict[str, object]]) -> list[object]:
    return [event["event"] for event in events if str(event["event"]).startswith("idle_")]


def test_mail_is_copied_when_it_arrives_long_before_the_interval(pair: FakePair) -> None:
    with running(pair, SYNC_INTERVAL_SECONDS="3600") as daemon:
        until(lambda: pair.source.connections_in_idle == 1)
        for number in (1, 2, 3):
            pair.source.deliver(letter(number), ARRIVED)
            until(lambda number=number: len(pair.copies()) == number)  # type: ignore[misc]
        events = stopped(daemon)
    assert pair.copies() == [letter(1), letter(2), letter(3)]
    assert names(events) == ["idle_started"]
    assert [event for event in events if event["event"] == "idle_started" and "run_id" in event] == []
    # The LOGOUT of the last cycle is not waited for, and may come between.
    verbs = pair.source.verbs()
    assert verbs.count("DONE") == 1
    assert "LOGOUT" in verbs[verbs.index("DONE") :]
    assert pair.source.violations == []


def test_mail_that_arrives_while_a_cycle_works_is_copied_by_one_more(pair: FakePair) -> None:
    with running(pair, SYNC_INTERVAL_SECONDS="3600") as daemon:
        until(lambda: pair.source.connections_in_idle == 1)
        for number in range(30):
            pair.source.deliver(letter(number), ARRIVED)
        until(lambda: len(pair.copies()) == 30)
        events = stopped(daemon)
    assert sorted(pair.copies()) == sorted(letter(number) for number in range(30))
    finished = [event for event in events if event["event"] == "cycle_finished"]
    assert len(finished) <= 5


def test_without_the_setting_there_is_no_such_connection(pair: FakePair) -> None:
    with running(pair, SYNC_INTERVAL_SECONDS="1", idle="false") as daemon:
        until(lambda: pair.source.connections >= 3)
        stopped(daemon)
    assert "IDLE" not in pair.source.verbs()


def test_the_connection_is_closed_while_dynamodb_is_gone_and_opened_again_when_it_is_back(pair: FakePair) -> None:
    upstream = urlsplit(pair.stack.aws.endpoint)
    with DynamoDBProxy(str(upstream.hostname), upstream.port or 0) as dynamodb:
        settings = {"SYNC_INTERVAL_SECONDS": "1", "AWS_ENDPOINT_URL": dynamodb.url}
        with running(pair, **settings) as daemon:
            until(lambda: pair.source.connections_in_idle == 1)
            dynamodb.plan_always("UpdateItem", Reset())
            until(lambda: pair.source.open_connections == 0 and pair.source.connections_in_idle == 0)
            connections = pair.source.connections
            asked = len(dynamodb.calls)
            until(lambda: len(dynamodb.calls) > asked + 3)
            assert pair.source.connections == connections
            dynamodb.heal()
            until(lambda: pair.source.connections_in_idle == 1)
            events = stopped(daemon)
    assert names(events) == ["idle_started", "idle_lost", "idle_started"]
    assert [event["reason"] for event in events if event["event"] == "idle_lost"] == ["closed: state_unavailable"]


def test_it_is_not_opened_before_dynamodb_was_seen(pair: FakePair) -> None:
    settings = {"SYNC_INTERVAL_SECONDS": "1", "DYNAMODB_TABLE": "late-table"}
    with running(pair, **settings) as daemon:
        until(lambda: pair.stack.aws.requests["UpdateItem"] >= 3)
        assert pair.source.connections == 0
        assert pair.stack.authority.requests == ()
        assert pair.stack.program.run("table", "create", settings={"DYNAMODB_TABLE": "late-table"})[0] == 0
        until(lambda: pair.source.connections_in_idle == 1)
        stopped(daemon)


@pytest.mark.parametrize("bye", ["Session expired", None])
def test_a_session_that_ends_with_its_token_goes_on_with_a_new_one(pair: FakePair, bye: str | None) -> None:
    with running(pair, SYNC_INTERVAL_SECONDS="3600") as daemon:
        until(lambda: pair.source.connections_in_idle == 1)
        calls = pair.stack.authority.token_calls(Side.SOURCE)
        pair.stack.authority.expire_access_tokens(Side.SOURCE)
        pair.source.drop_connections(bye)
        until(lambda: pair.stack.authority.token_calls(Side.SOURCE) == calls + 1)
        until(lambda: pair.source.connections_in_idle == 1)
        pair.source.deliver(letter(1), ARRIVED)
        until(lambda: len(pair.copies()) == 1)
        events = stopped(daemon)
    assert names(events) == ["idle_started", "idle_lost", "idle_started"]


def test_a_gmail_that_has_no_room_for_it_is_served_by_the_interval(pair: FakePair) -> None:
    pair.source.misbehave(on("AUTHENTICATE", connection=2), TOO_MANY_CONNECTIONS, FOREVER)
    with running(pair, SYNC_INTERVAL_SECONDS="1") as daemon:
        until(lambda: pair.source.connections >= 4)
        pair.source.deliver(letter(1), ARRIVED)
        until(lambda: len(pair.copies()) == 1)
        events = stopped(daemon)
    assert names(events) == ["idle_unavailable"]
    assert "IDLE" not in pair.source.verbs()


def test_a_dry_run_is_woken_too_and_writes_nothing(pair: FakePair) -> None:
    with running(pair, "--dry-run", SYNC_INTERVAL_SECONDS="3600") as daemon:
        until(lambda: pair.source.connections_in_idle == 1)
        before = pair.source.connections
        pair.source.deliver(letter(1), ARRIVED)
        until(lambda: pair.source.connections > before and pair.source.open_connections == 1)
        events = stopped(daemon)
    assert "would_copy" in [event["event"] for event in events]
    assert pair.copies() == []
    assert pair.stack.records() == {}


def test_the_end_does_not_wait_for_a_server_that_is_dumb(pair: FakePair) -> None:
    pair.source.misbehave(on("DONE", "LOGOUT"), Stall(), FOREVER)
    with running(pair, SYNC_INTERVAL_SECONDS="3600", IMAP_TIMEOUT_SECONDS="3600") as daemon:
        until(lambda: pair.source.connections_in_idle == 1)
        stopped(daemon)
