"""``daemon``: a cycle every interval; a bad one never ends the loop; a signal ends it in good order."""

from __future__ import annotations

import signal
import subprocess
from datetime import UTC, datetime

from tests.fakes.faults import Close, on
from tests.stack.pair import FakePair, letter, parsed, until

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)


def stopped(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    return parsed(printed)


def test_mail_that_arrives_while_it_runs_is_copied(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1") as daemon:
        until(lambda: len(pair.copies()) == 1)
        pair.source.deliver(letter(2), ARRIVED)
        until(lambda: len(pair.copies()) == 2)
        events = stopped(daemon)
    assert pair.copies() == [letter(1), letter(2)]
    assert len({event["run_id"] for event in events if event["event"] == "cycle_finished"}) >= 2
    assert "lease_owner" not in pair.stack.records()["WATERMARK"]


def test_it_asks_for_a_token_once_and_not_in_every_cycle(pair: FakePair) -> None:
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", TOKENS_FILE="") as daemon:
        until(lambda: pair.source.connections >= 3)
        stopped(daemon)
    assert pair.stack.authority.token_calls() == 1


def test_a_bad_cycle_does_not_end_it(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.source.misbehave(on("EXAMINE"), Close())
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1") as daemon:
        until(lambda: len(pair.copies()) == 1)
        events = stopped(daemon)
    outcomes = [event["outcome"] for event in events if event["event"] == "cycle_finished"]
    assert outcomes[0] == "source_unavailable"
    assert "ok" in outcomes


def test_dynamodb_may_go_and_come_back(pair: FakePair) -> None:
    aws = pair.stack.aws
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", DYNAMODB_TABLE="late-table") as daemon:
        until(lambda: aws.requests["UpdateItem"] >= 1)
        assert pair.source.connections == 0
        pair.source.deliver(letter(1), ARRIVED)
        assert pair.stack.program.run("table", "create", settings={"DYNAMODB_TABLE": "late-table"})[0] == 0
        until(lambda: len(pair.copies()) == 1)
        events = stopped(daemon)
    outcomes = [event["outcome"] for event in events if event["event"] == "cycle_finished"]
    assert outcomes[0] == "state_unavailable"


def test_sigint_while_it_waits_ends_it_at_once(pair: FakePair) -> None:
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="3600") as daemon:
        until(lambda: pair.source.connections == 1 and pair.stack.aws.requests["UpdateItem"] >= 2)
        daemon.send_signal(signal.SIGINT)
        daemon.communicate(timeout=10)
    assert daemon.returncode == 0
