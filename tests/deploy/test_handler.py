"""The handler in an environment of its own, between the fakes: what a tick returns, counts, logs and raises."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import pytest

from syncer.demo.aws import REGION
from syncer.model import Side
from tests.deploy.conftest import SECRET, Start
from tests.deploy.emulator import Invocation
from tests.deploy.watched_aws import WatchedAws
from tests.fakes.faults import Stall, on
from tests.stack.pair import FakePair, letter, until

ALWAYS = {
    "CyclesCompleted",
    "SignInRequired",
    "MessagesCopied",
    "MessagesFailed",
    "MessagesGivenUp",
    "CycleDurationMilliseconds",
}
ALL = ALWAYS | {"InDoubtOldestSeconds", "Backlog", "DeliveryLagSeconds", "TokenDaysLeft"}


def names(tick: Invocation) -> list[str]:
    return [event["event"] for event in tick.events if "event" in event]


def secret_client(pair: FakePair) -> Any:
    return boto3.client(
        "secretsmanager",
        endpoint_url=pair.stack.aws.endpoint,
        region_name=REGION,
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )


def tokens(pair: FakePair) -> dict[str, Any]:
    """Return what the secret holds."""
    client = secret_client(pair)
    held = json.loads(client.get_secret_value(SecretId=SECRET, VersionStage="AWSCURRENT")["SecretString"])
    client.close()
    return dict(held)


# -- a good tick


def test_a_tick_copies_and_tells(pair: FakePair, start: Start) -> None:
    for number in range(3):
        pair.source.deliver(letter(number))
    tick = start().tick()
    assert pair.copies() == [letter(number) for number in range(3)]
    assert (tick.result["outcome"], tick.result["exit_code"], tick.result["copied"]) == ("ok", 0, 3)
    assert tick.metrics.keys() == ALL
    assert (tick.metrics["CyclesCompleted"], tick.metrics["MessagesCopied"], tick.metrics["Backlog"]) == (1, 3, 0)
    assert {event["function_request_id"] for event in tick.events if "event" in event} == {"request-0"}


def test_the_metrics_are_one_line_in_cloudwatchs_format(pair: FakePair, start: Start) -> None:
    pair.source.deliver(letter(1))
    (line,) = [event for event in start().tick().events if "_aws" in event]
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"].keys() == {"Timestamp", "CloudWatchMetrics"}
    assert (directive["Namespace"], directive["Dimensions"]) == ("GmailOutlookSyncer", [["service"]])
    assert directive["Metrics"] == [
        {"Name": "CyclesCompleted", "Unit": "Count"},
        {"Name": "SignInRequired", "Unit": "Count"},
        {"Name": "MessagesCopied", "Unit": "Count"},
        {"Name": "MessagesFailed", "Unit": "Count"},
        {"Name": "MessagesGivenUp", "Unit": "Count"},
        {"Name": "InDoubtOldestSeconds", "Unit": "Seconds"},
        {"Name": "Backlog", "Unit": "Count"},
        {"Name": "DeliveryLagSeconds", "Unit": "Seconds"},
        {"Name": "CycleDurationMilliseconds", "Unit": "Milliseconds"},
        {"Name": "TokenDaysLeft", "Unit": "Count"},
    ]
    assert line["service"] == "mail-copies"
    assert line.keys() == {"_aws", "service", *ALL}


def test_a_warm_tick_asks_nobody_for_a_token_reads_no_secret_and_makes_no_client(pair: FakePair, start: Start) -> None:
    pair.source.deliver(letter(1))
    environment = start()
    environment.tick()
    calls = pair.stack.authority.token_calls()
    pair.stack.aws.requests.clear()
    tick = environment.tick()
    assert tick.result["outcome"] == "ok"
    assert pair.stack.authority.token_calls() == calls
    assert pair.stack.aws.requests == Counter(UpdateItem=2)
    assert environment.clients == ["dynamodb", "secretsmanager"]
    assert tick.metrics.keys() == ALL - {"DeliveryLagSeconds"}


def test_a_new_environment_takes_its_tokens_from_the_secret(pair: FakePair, start: Start) -> None:
    pair.source.deliver(letter(1))
    start().tick()
    calls = pair.stack.authority.token_calls()
    pair.source.deliver(letter(2))
    assert start().tick().result["copied"] == 1
    assert pair.stack.authority.token_calls() == calls


# -- ticks that could not run: no error of the function


def test_beside_another_run_a_tick_leaves_and_all_is_well(pair: FakePair, start: Start) -> None:
    pair.source.deliver(letter(1))
    pair.destination.misbehave(on("APPEND"), Stall())
    first = start()
    first.begin()
    until(lambda: "APPEND" in pair.destination.verbs())
    tick = start().tick()
    assert (tick.result["outcome"], tick.result["exit_code"]) == ("lease_held", 0)
    assert tick.metrics.keys() == ALWAYS
    assert tick.metrics["CyclesCompleted"] == 1
    pair.destination.release()
    assert first.end().result["outcome"] == "ok"


def test_without_its_table_a_tick_touches_nothing_and_is_not_completed(pair: FakePair, start: Start) -> None:
    tick = start(DYNAMODB_TABLE="another").tick()
    assert (tick.result["outcome"], tick.result["exit_code"]) == ("state_unavailable", 75)
    assert tick.metrics.keys() == ALWAYS
    assert tick.metrics["CyclesCompleted"] == 0
    assert pair.source.connections == pair.stack.authority.token_calls() == 0


@pytest.mark.parametrize("side", list(Side))
def test_a_grant_that_is_gone_calls_a_person(pair: FakePair, start: Start, side: Side) -> None:
    pair.source.deliver(letter(1))
    pair.stack.authority.revoke(side)
    tick = start().tick()
    assert (tick.result["outcome"], tick.result["exit_code"]) == ("auth_failed", 77)
    assert "sign in" in tick.result["remedy"].lower()
    assert (tick.metrics["CyclesCompleted"], tick.metrics["SignInRequired"]) == (0, 1)


def test_wrong_settings_are_all_named_by_every_tick_and_raise_nothing(start: Start) -> None:
    environment = start(GMAIL_EMAIL="", LEASE_SECONDS="soon")
    for tick in (environment.tick(), environment.tick()):
        assert (tick.result["outcome"], tick.result["exit_code"]) == ("configuration_invalid", 78)
        assert [fault.split()[0] for fault in tick.result["faults"]] == ["GMAIL_EMAIL", "LEASE_SECONDS"]
        assert tick.events[0]["faults"] == tick.result["faults"]
        assert tick.metrics == {"CyclesCompleted": 0}


def test_a_secret_that_does_not_exist_is_named_with_the_remedy(start: Start) -> None:
    tick = start(TOKENS_SECRET_ID="no-such-secret").tick()
    assert tick.result["exit_code"] == 78
    assert "TOKENS_SECRET_ID" in tick.result["faults"][0]
    assert tick.metrics["CyclesCompleted"] == 0


# -- the deadline


def test_a_tick_that_runs_out_of_time_ends_in_good_order_and_the_next_goes_on(
    pair: FakePair, start: Start, tmp_path: Path
) -> None:
    letters = [letter(number) for number in range(200)]  # more than may be under way at once
    for sent in letters:
        pair.source.deliver(sent)
    pair.destination.misbehave(on("APPEND"), Stall())
    environment = start()
    environment.begin(ends_with=tmp_path / "time is up")
    until(lambda: "APPEND" in pair.destination.verbs())
    (tmp_path / "time is up").touch()
    pair.destination.release()
    tick = environment.end()
    assert (tick.result["outcome"], tick.result["exit_code"]) == ("deadline", 0)
    assert 0 < tick.result["copied"] < 200
    assert tick.metrics["CyclesCompleted"] == 1
    assert tick.metrics["Backlog"] == 200 - tick.result["copied"]
    assert environment.tick().result["outcome"] == "ok"
    assert pair.copies() == letters


def test_without_any_time_nothing_is_copied_and_the_tick_does_not_count(
    pair: FakePair, start: Start, tmp_path: Path
) -> None:
    pair.source.deliver(letter(1))
    (tmp_path / "time is up").touch()
    tick = start().tick(ends_with=tmp_path / "time is up")
    assert (tick.result["outcome"], tick.result["copied"]) == ("deadline", 0)
    assert tick.metrics["CyclesCompleted"] == 0
    assert pair.copies() == []


# -- bugs


def test_a_bug_raises_without_a_word_of_data(pair: FakePair, start: Start, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import syncer.sync_engine as engine, os\n"
        "works = engine.SyncEngine._work\n"
        "def broken(self, cycle):\n"
        "    if os.path.exists('broken'):\n"
        "        raise KeyError('canary-7f3a9 mara@gmail.example')\n"
        "    return works(self, cycle)\n"
        "engine.SyncEngine._work = broken\n"
    )
    pair.source.deliver(letter(1))
    path = f"{tmp_path}:{pair.stack.program.environment['PYTHONPATH']}"
    environment = start(PYTHONPATH=path, LEASE_SECONDS="30")
    (tmp_path / "broken").touch()
    tick = environment.tick()
    assert tick.result == {"errorType": "Bug", "errorMessage": "KeyError: see the log line `bug`"}
    (bug,) = tick.named("bug")
    assert bug["error"] == "KeyError"
    assert tick.metrics == {"CyclesCompleted": 0}
    assert not any(word in tick.printed for word in ("canary", "mara@"))
    (tmp_path / "broken").unlink()
    assert environment.tick().result["outcome"] == "lease_held"


# -- tokens


def test_a_run_whose_save_fails_copies_all_the_same_says_so_and_saves_later(
    pair: FakePair, aws: WatchedAws, start: Start
) -> None:
    pair.source.deliver(letter(1))
    aws.refused["PutSecretValue"] = "LimitExceededException"
    environment = start()
    tick = environment.tick()
    assert tick.result["copied"] == 1
    assert pair.copies() == [letter(1)]
    assert "LimitExceededException" in tick.named("token_save_failed")[0]["reason"]
    assert "access_token" not in tokens(pair)["outlook"]
    aws.refused.clear()
    environment.tick()
    held = tokens(pair)["outlook"]
    assert held["refresh_token"] != pair.stack.outlook.refresh_token
    assert held["access_token"]


def test_a_rotated_token_is_in_the_secret_before_it_is_used(pair: FakePair, start: Start) -> None:
    pair.source.deliver(letter(1))
    pair.destination.misbehave(on("APPEND"), Stall())
    environment = start()
    environment.begin()
    until(lambda: "APPEND" in pair.destination.verbs())
    assert tokens(pair)["outlook"]["refresh_token"] != pair.stack.outlook.refresh_token
    pair.destination.release()
    assert "token_rotated" in names(environment.end())


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_nothing_that_is_printed_or_returned_is_secret(pair: FakePair, start: Start, level: str) -> None:
    pair.source.deliver(letter(1))
    environment = start(LOG_LEVEL=level)
    tick = environment.tick()
    pair.stack.authority.revoke(Side.SOURCE)
    said = tick.printed + json.dumps(tick.result) + environment.tick().printed
    held = tokens(pair)
    secrets = [value for side in ("gmail", "outlook") for name, value in held[side].items() if "token" in name]
    secrets += [held["gmail"]["client_secret"], "mara@", "Letter", "sender.example"]
    assert [secret for secret in secrets if str(secret) in said] == []
