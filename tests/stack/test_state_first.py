"""DynamoDB comes first: while it cannot be used, nothing else is touched, and the answer comes soon."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.stack.pair import FakePair, Run


@contextmanager
def an_endpoint_that_never_answers() -> Iterator[str]:
    """Accept connections, as the kernel does for a listener, and say nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def assert_nothing_was_touched(pair: FakePair, run: Run) -> None:
    assert (run.exit_code, run.finished["outcome"]) == (75, "state_unavailable")
    assert [event["event"] for event in run.events] == ["cycle_started", "state_unavailable", "cycle_finished"]
    assert run.token_calls == 0
    assert pair.stack.authority.requests == ()
    assert pair.source.connections == pair.destination.connections == 0


def test_a_table_that_is_missing(pair: FakePair) -> None:
    run = pair.stack.run(DYNAMODB_TABLE="another-table")
    assert_nothing_was_touched(pair, run)
    assert "syncer table create" in run.named("state_unavailable")[0]["reason"]


def test_an_endpoint_that_is_down(pair: FakePair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert_nothing_was_touched(pair, pair.stack.run(AWS_ENDPOINT_URL=endpoint))


def test_an_endpoint_that_hangs_is_given_up_within_twenty_seconds(pair: FakePair) -> None:
    with an_endpoint_that_never_answers() as endpoint:
        began = time.monotonic()
        run = pair.stack.run(AWS_ENDPOINT_URL=endpoint)
        took = time.monotonic() - began
    assert_nothing_was_touched(pair, run)
    assert took < 20


@pytest.mark.parametrize("names", [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")], ids=["no credentials"])
def test_without_credentials(pair: FakePair, names: tuple[str, ...]) -> None:
    run = pair.stack.run(**dict.fromkeys(names, ""), AWS_EC2_METADATA_DISABLED="true", HOME="/nonexistent")
    assert_nothing_was_touched(pair, run)
    assert "credentials" in run.named("state_unavailable")[0]["reason"]


def test_a_dry_run_stops_there_too(pair: FakePair) -> None:
    run = pair.stack.run("run-once", "--dry-run", DYNAMODB_TABLE="another-table")
    assert_nothing_was_touched(pair, run)


def test_the_table_is_made_once_and_found_after_that(pair: FakePair) -> None:
    again = pair.stack.run("table", "create")
    assert again.exit_code == 0
    assert again.events[-1]["new"] is False
    other = pair.stack.run("table", "create", DYNAMODB_TABLE="another-table")
    assert other.events[-1]["new"] is True
    assert pair.stack.run(DYNAMODB_TABLE="another-table").exit_code == 0


def test_the_table_can_be_made_before_anybody_signed_in(pair: FakePair) -> None:
    unset = dict.fromkeys(("GMAIL_EMAIL", "OUTLOOK_EMAIL", "GMAIL_REFRESH_TOKEN", "MS_CLIENT_ID"), "")
    assert pair.stack.run("table", "create", DYNAMODB_TABLE="early-table", **unset).exit_code == 0
    wrong = pair.stack.run("table", "create", DYNAMODB_TABLE="", **unset)
    assert wrong.exit_code == 78
    assert "DYNAMODB_TABLE" in wrong.named("configuration_invalid")[0]["faults"][0]
