"""``status`` and ``retry`` between the two fakes: the real commands, what they print, what they touch."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes.faults import FOREVER, Reply, on
from tests.stack.pair import GMAIL, NOTHING_BUT_THE_RECORDS, OUTLOOK, FakePair, letter, until
from tests.stack.terminal import at_a_terminal, read_all

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)


def status(pair: FakePair, **settings: str) -> dict[str, Any]:
    """Return what ``status --json`` prints, which has to be one JSON object."""
    code, printed = pair.stack.program.run("status", "--json", settings=settings)
    assert code == 0
    found: dict[str, Any] = json.loads(printed)
    return found


@pytest.fixture
def failed(pair: FakePair) -> FakePair:
    """Letter 1 was refused and given up at once; letter 0 was copied."""
    pair.destination.misbehave(on("APPEND", nth=2), Reply("BAD Command Argument Error. 11"))
    pair.source.deliver(letter(0), ARRIVED)
    pair.source.deliver(letter(1), ARRIVED)
    pair.source.deliver(letter(2), ARRIVED)
    assert pair.stack.run(MAX_ATTEMPTS="1").finished["given_up"] == 1
    return pair


def test_status_tells_what_a_cycle_left_and_reads_the_table_only(pair: FakePair) -> None:
    assert status(pair)["last_good_cycle"] is None
    for number in range(3):
        pair.source.deliver(letter(number), ARRIVED)
    pair.stack.run()
    pair.stack.run()
    before, calls = pair.source.connections, pair.stack.authority.token_calls()
    pair.stack.aws.requests.clear()
    found = status(pair)
    assert dict(pair.stack.aws.requests) == {"GetItem": 1, "Query": 1}
    assert (found["last_uid"], found["uidnext"], found["waiting"]) == (3, 4, 0)
    assert found["copied"] == {"today": 3, "7_days": 3, "total": 3}
    assert 179 < found["tokens"]["gmail"]["days_left"] <= 180
    assert 89 < found["tokens"]["outlook"]["days_left"] <= 90
    assert (found["failing"], found["given_up"], found["in_doubt"], found["holds"]) == ([], [], [], {})
    assert found["lease"] is None
    assert found["last_good_cycle_age_seconds"] < 60
    assert (pair.source.connections, pair.stack.authority.token_calls()) == (before, calls)


def test_it_needs_no_more_settings_than_it_reads(failed: FakePair) -> None:
    """On a machine where nobody has signed in; what else is wrong is not its concern."""
    assert status(failed, **NOTHING_BUT_THE_RECORDS)["copied"]["total"] == 2
    run = failed.stack.run("retry", "2", **NOTHING_BUT_THE_RECORDS)
    assert (run.exit_code, run.named("retry_finished")[0]["due"]) == (0, 1)
    run = failed.stack.run("retry", "--now", **NOTHING_BUT_THE_RECORDS)
    assert (run.exit_code, len(run.named("configuration_invalid")[0]["faults"])) == (78, 6)
    run = failed.stack.run("status", **NOTHING_BUT_THE_RECORDS, GMAIL_EMAIL="", DYNAMODB_TABLE="")
    assert (run.exit_code, len(run.named("configuration_invalid")[0]["faults"])) == (78, 2)


def test_an_idle_cycle_costs_two_requests_and_keeps_the_forecast(pair: FakePair) -> None:
    pair.stack.run()
    idle = pair.stack.run()
    assert (idle.requests, idle.token_calls) == ({"UpdateItem": 2}, 0)
    assert (idle.finished["gmail_token_days_left"], idle.finished["outlook_token_days_left"]) == (180.0, 90.0)
    assert pair.stack.records()["WATERMARK"]["tokens"].keys() == {"source", "destination"}


def test_the_words_for_a_pipe_hold_no_address(failed: FakePair) -> None:
    code, printed = failed.stack.program.run("status")
    assert code == 0
    assert "copied             2 today, 2 in 7 days (UTC), 2 in total" in printed
    assert "given up           1" in printed
    assert "UID 2: given up, tries 1, next never: refused: Command Argument Error. 11" in printed
    assert "\x1b" not in printed
    for secret in (GMAIL, OUTLOOK, "Letter", "sender.example"):
        assert secret not in printed


def test_watch_goes_on_until_somebody_says_stop(pair: FakePair) -> None:
    pair.stack.run()
    with pair.stack.start("status", "--json", "--watch", "--every", "1") as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 0
    assert looks[0]["at"] < looks[1]["at"]


@pytest.mark.parametrize(
    ("settings", "code", "event"),
    [
        ({"DYNAMODB_TABLE": "another-table"}, 75, "state_unavailable"),
        ({"DYNAMODB_TABLE": ""}, 78, "configuration_invalid"),
    ],
)
def test_what_cannot_be_told_has_its_exit_code(pair: FakePair, settings: dict[str, str], code: int, event: str) -> None:
    run = pair.stack.run("status", "--json", **settings)
    assert (run.exit_code, [line["event"] for line in run.events]) == (code, [event])


def test_a_person_at_a_terminal_sees_a_table_of_80_columns(failed: FakePair) -> None:
    with at_a_terminal(failed, "status") as (process, terminal):
        shown = read_all(terminal)
    assert process.returncode == 0
    assert "\x1b[" in shown
    assert "given up" in shown
    assert "to try what was given up again: syncer retry" in shown
    plain = [line for line in shown.replace("\r", "").split("\n") if "\x1b" not in line]
    assert max(map(len, plain)) <= 80


# -- retry


def test_what_was_given_up_is_tried_again_at_once(failed: FakePair) -> None:
    run = failed.stack.run("retry", "--now")
    (told,) = run.named("retry_finished")
    assert (run.exit_code, told["due"], told["given_up_before"]) == (0, 1, 1)
    assert run.finished["copied"] == 1
    assert sorted(failed.copies()) == [letter(0), letter(1), letter(2)]
    assert status(failed)["given_up"] == []
    assert status(failed)["copied"]["total"] == 3


def test_retry_alone_needs_the_table_only_and_the_next_cycle_copies(failed: FakePair) -> None:
    before, calls = failed.source.connections, failed.stack.authority.token_calls()
    run = failed.stack.run("retry", "2")
    assert (run.exit_code, run.named("retry_finished")[0]["due"]) == (0, 1)
    assert run.requests.keys() == {"UpdateItem", "Query", "BatchGetItem", "TransactWriteItems"}
    assert (failed.source.connections, failed.stack.authority.token_calls()) == (before, calls)
    assert [m["next_try_at"] is not None for m in status(failed)["failing"]] == [True]
    assert failed.stack.run().finished["copied"] == 1


def test_a_uid_that_has_not_failed_is_told(failed: FakePair) -> None:
    run = failed.stack.run("retry", "1", "77")
    assert (run.exit_code, run.named("retry_finished")[0]["unknown"]) == (1, [1, 77])


def test_a_message_refused_again_fails_again(failed: FakePair) -> None:
    failed.destination.misbehave(on("APPEND"), Reply("BAD Command Argument Error. 11"), times=FOREVER)
    run = failed.stack.run("retry", "--now", MAX_ATTEMPTS="1")
    assert (run.exit_code, run.finished["given_up"]) == (0, 1)
    until(lambda: "lease_owner" not in failed.stack.records()["WATERMARK"])
    assert len(failed.copies()) == 2
