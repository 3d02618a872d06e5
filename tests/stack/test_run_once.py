"""``run-once`` as a schedule starts it: the real command between two mail servers, with a real-protocol AWS."""

from __future__ import annotations

import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncer.demo.authority import SERVER_BUSY
from syncer.model import Side
from tests.fakes.faults import ERROR_11, FOREVER, LoseReply, Stall, on, throttled
from tests.stack.pair import FakePair, letter, parsed, until

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)
COUNTS = ("listed", "copied", "duplicates", "failed", "given_up", "in_doubt", "backlog")
FINISHED = {"outcome", *COUNTS, "bytes", "last_uid", "duration_ms", "run_id", "event", "level", "timestamp", "message"}


def counts(finished: dict[str, object]) -> dict[str, object]:
    return {name: finished[name] for name in COUNTS if finished[name]}


def test_what_is_new_is_copied_with_its_bytes_its_date_and_unread(pair: FakePair) -> None:
    letters = [letter(number) for number in range(5)]
    for raw in letters:
        pair.source.deliver(raw, ARRIVED)
    run = pair.stack.run()
    assert run.exit_code == 0
    assert counts(run.finished) == {"listed": 5, "copied": 5}
    assert run.finished["bytes"] == sum(map(len, letters))
    assert pair.copies() == letters
    assert {(copy.internaldate, copy.flags) for copy in pair.destination.appended} == {(ARRIVED, ())}
    assert pair.source.violations == pair.destination.violations == []


def test_a_cycle_with_nothing_to_do_costs_two_requests_and_one_connection(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.stack.run()
    before = pair.source.connections, pair.destination.connections
    run = pair.stack.run()
    assert counts(run.finished) == {}
    assert run.requests == {"UpdateItem": 2}
    assert run.token_calls == 0
    assert (pair.source.connections, pair.destination.connections) == (before[0] + 1, before[1])


def test_one_message_costs_three_requests_more(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.stack.run()
    pair.source.deliver(letter(2), ARRIVED)
    run = pair.stack.run()
    assert counts(run.finished) == {"listed": 1, "copied": 1}
    assert Counter(run.requests) == Counter(UpdateItem=3, BatchGetItem=1, TransactWriteItems=1)


def test_mail_that_leaves_the_inbox_and_returns_is_not_copied_again(pair: FakePair) -> None:
    uid = pair.source.deliver(letter(1), ARRIVED)
    pair.stack.run()
    connections = pair.destination.connections
    pair.source.restore(pair.source.archive(uid))
    run = pair.stack.run()
    assert counts(run.finished) == {"listed": 1, "duplicates": 1}
    assert pair.destination.connections == connections
    assert len(pair.copies()) == 1


def test_two_different_mails_with_one_message_id_both_arrive(pair: FakePair) -> None:
    letters = [letter(number, {"Message-ID": "<the-same@sender.example>"}) for number in (1, 2)]
    for raw in letters:
        pair.source.deliver(raw, ARRIVED)
    pair.stack.run()
    assert pair.copies() == letters


def test_a_dry_run_writes_nothing_anywhere(pair: FakePair, tmp_path: Path) -> None:
    for number in range(3):
        pair.source.deliver(letter(number), ARRIVED)
    run = pair.stack.run("run-once", "--dry-run")
    assert run.exit_code == 0
    assert [event["uid"] for event in run.named("would_copy")] == [1, 2, 3]
    assert all("rfc822_sha256" not in event for event in run.named("would_copy"))
    assert set(run.requests) <= {"GetItem", "BatchGetItem"}
    assert pair.stack.records() == {}
    assert not (tmp_path / "tokens.json").exists()
    assert pair.destination.connections == 0


def test_a_dry_run_says_nothing_of_what_was_copied(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.stack.run()
    pair.source.deliver(letter(2), ARRIVED)
    run = pair.stack.run("run-once", "--dry-run")
    assert [event["uid"] for event in run.named("would_copy")] == [2]


def test_every_line_is_json_and_the_last_one_tells_everything(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    run = pair.stack.run(LOG_LEVEL="DEBUG")
    assert len({event["run_id"] for event in run.events}) == 1
    assert run.events[-1].keys() >= FINISHED
    copied = run.named("message_copied")[0]
    assert {"uidvalidity", "uid", "bytes", "rfc822_sha256", "ms"} <= copied.keys()


def test_a_refused_message_is_recorded_and_the_others_arrive(pair: FakePair) -> None:
    letters = [letter(1), letter(2, {"Comments": "poison"}), letter(3)]
    for raw in letters:
        pair.source.deliver(raw, ARRIVED)
    pair.destination.misbehave(on("APPEND", raw=lambda raw: b"poison" in raw), ERROR_11, times=FOREVER)
    run = pair.stack.run()
    assert run.exit_code == 0
    assert counts(run.finished) == {"listed": 3, "copied": 2, "failed": 1}
    assert run.finished["last_uid"] == 3
    failed = pair.stack.records()["FAIL#1#2"]
    assert failed["retry_count"] == 1
    assert "Command Argument Error. 11" in failed["last_error"]
    assert "UID#1#2" not in pair.stack.records()

    pair.destination.faults.clear()
    retried = pair.stack.run()
    assert counts(retried.finished) == {"copied": 1}
    assert sorted(pair.copies()) == sorted(letters)
    assert "FAIL#1#2" not in pair.stack.records()


def test_when_every_message_is_refused_nobody_is_blamed(pair: FakePair) -> None:
    for number in range(4):
        pair.source.deliver(letter(number), ARRIVED)
    pair.destination.misbehave(on("APPEND"), ERROR_11, times=FOREVER)
    run = pair.stack.run()
    assert run.exit_code == 75
    assert run.finished["outcome"] == "destination_unavailable"
    assert not [sort_key for sort_key in pair.stack.records() if sort_key != "WATERMARK"]
    pair.destination.faults.clear()
    assert counts(pair.stack.run().finished)["copied"] == 4
    assert len(pair.copies()) == 4


def test_a_lost_reply_leaves_a_message_in_doubt_and_a_look_finds_it(pair: FakePair) -> None:
    for number in range(3):
        pair.source.deliver(letter(number), ARRIVED)
    pair.destination.misbehave(on("APPEND", nth=2), LoseReply())
    run = pair.stack.run()
    assert run.exit_code == 75
    assert run.finished["in_doubt"] >= 1
    pair.stack.run_until_quiet(IN_DOUBT_SETTLE_SECONDS="0")
    assert sorted(pair.copies()) == sorted(letter(number) for number in range(3))
    statuses = {record.get("status") for record in pair.stack.records().values()}
    assert statuses == {None, "DONE"}


def test_throttle_words_are_kept_across_runs(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.destination.misbehave(on("APPEND"), throttled(120_000, "NO"))
    run = pair.stack.run()
    assert (run.exit_code, run.finished["outcome"]) == (75, "throttled")
    watermark = pair.stack.records()["WATERMARK"]
    assert watermark["not_before"].keys() == {"destination"}
    assert watermark["pace"] == 2  # half of what Exchange is known to bear: there is no limit set here
    connections = pair.destination.connections
    kept = pair.stack.run()
    assert (kept.exit_code, kept.finished["outcome"]) == (75, "throttled")
    assert pair.destination.connections == connections


def test_what_gmail_s_daily_budget_does_not_hold_waits(pair: FakePair) -> None:
    letters = [letter(number) for number in range(6)]
    for raw in letters:
        pair.source.deliver(raw, ARRIVED)
    run = pair.stack.run("run-once", GMAIL_DAILY_BYTES=str(4 * len(letters[0])))
    assert (run.exit_code, run.finished["outcome"]) == (75, "throttled")
    assert counts(run.finished) == {"listed": 6, "copied": 4, "backlog": 2}
    assert pair.stack.records()["WATERMARK"]["fetched_bytes"] == sum(map(len, letters[:4]))
    connections = pair.destination.connections
    kept = pair.stack.run("run-once", GMAIL_DAILY_BYTES=str(4 * len(letters[0])))
    assert (kept.exit_code, kept.finished["outcome"]) == (75, "throttled")
    assert pair.destination.connections == connections
    assert pair.stack.run().exit_code == 0
    assert pair.copies() == letters


@pytest.mark.parametrize("side", list(Side))
def test_a_grant_that_is_gone_needs_a_person(pair: FakePair, side: Side) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.stack.authority.revoke(side)
    run = pair.stack.run()
    assert (run.exit_code, run.finished["outcome"]) == (77, "auth_failed")
    assert run.named("auth_failed")[0]["side"] == side
    assert "REFRESH_TOKEN" in run.named("auth_failed")[0]["remedy"]


def test_a_busy_token_endpoint_is_only_a_bad_day(pair: FakePair) -> None:
    pair.stack.authority.answer_next(Side.SOURCE, SERVER_BUSY)
    run = pair.stack.run()
    assert (run.exit_code, run.finished["outcome"]) == (75, "source_unavailable")


def test_an_access_token_that_is_refused_is_renewed_once(pair: FakePair) -> None:
    pair.stack.run()
    pair.stack.authority.expire_access_tokens()
    run = pair.stack.run()
    assert (run.exit_code, run.token_calls) == (0, 1)


def test_a_source_that_is_down_is_not_now(pair: FakePair) -> None:
    pair.source.close()
    run = pair.stack.run()
    assert (run.exit_code, run.finished["outcome"]) == (75, "source_unavailable")
    assert f"localhost:{pair.source.port}" in run.named("source_unavailable")[0]["reason"]


def test_a_missing_folder_is_made_or_named(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    refused = pair.stack.run(OUTLOOK_TARGET_FOLDER="Post/Größe", OUTLOOK_CREATE_FOLDER="false")
    assert refused.exit_code == 78
    assert "OUTLOOK_TARGET_FOLDER" in refused.named("configuration_invalid")[0]["faults"][0]
    made = pair.stack.run(OUTLOOK_TARGET_FOLDER="Post/Größe")
    assert made.exit_code == 0
    assert pair.destination.appended_to("Post/Größe") == [letter(1)]


def test_settings_that_are_wrong_are_all_named(pair: FakePair) -> None:
    run = pair.stack.run(GMAIL_EMAIL="nobody", LEASE_SECONDS="0", DYNAMODB_TABLE="")
    assert run.exit_code == 78
    faults = " ".join(run.named("configuration_invalid")[0]["faults"])
    assert all(name in faults for name in ("GMAIL_EMAIL", "LEASE_SECONDS", "DYNAMODB_TABLE"))
    assert pair.source.connections == 0


def test_a_second_runner_leaves_at_once(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.destination.misbehave(on("APPEND"), Stall())
    with pair.stack.start("run-once") as first:
        assert first.stdout is not None
        until(lambda: "APPEND" in pair.destination.verbs())
        second = pair.stack.run()
        assert (second.exit_code, second.finished["outcome"]) == (0, "lease_held")
        pair.destination.release()
        events = parsed(first.communicate()[0])
    assert events[-1]["outcome"] == "ok"
    assert pair.copies() == [letter(1)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_lets_the_message_in_hand_finish(pair: FakePair, number: signal.Signals) -> None:
    for each in range(8):
        pair.source.deliver(letter(each), ARRIVED)
    pair.destination.misbehave(on("APPEND", nth=2), Stall())
    with pair.stack.start("run-once", OUTLOOK_MAX_MESSAGES_PER_SECOND="2") as process:
        until(lambda: pair.destination.verbs().count("APPEND") >= 2)
        process.send_signal(number)
        pair.destination.release()
        events = parsed(process.communicate()[0])
    assert process.returncode == 0
    assert events[-1]["outcome"] == "stopped"
    assert "lease_owner" not in pair.stack.records()["WATERMARK"]
    pair.stack.run()
    assert sorted(pair.copies()) == sorted(letter(each) for each in range(8))


def test_another_source_folder_needs_records_of_its_own(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.stack.run()
    refused = pair.stack.run(GMAIL_SOURCE_FOLDER="Work")
    assert refused.exit_code == 78
    (faults,) = [event["faults"] for event in refused.named("configuration_invalid")]
    assert "GMAIL_SOURCE_FOLDER" in faults[0]
    assert "DYNAMODB_TABLE" in faults[0]
    assert refused.events[-1]["event"] == "cycle_finished"
    assert pair.stack.run(GMAIL_SOURCE_FOLDER="inbox").exit_code == 0


def test_the_target_folder_may_change_unless_a_message_is_in_doubt(pair: FakePair) -> None:
    pair.source.deliver(letter(1), ARRIVED)
    pair.destination.misbehave(on("APPEND"), LoseReply())
    pair.stack.run()
    refused = pair.stack.run(OUTLOOK_TARGET_FOLDER="Elsewhere")
    assert refused.exit_code == 78
    assert "in doubt" in refused.named("configuration_invalid")[0]["faults"][0]
    assert pair.stack.run().finished["outcome"] == "ok"
    pair.source.deliver(letter(2), ARRIVED)
    assert pair.stack.run(OUTLOOK_TARGET_FOLDER="Elsewhere").exit_code == 0
    assert pair.destination.appended_to("Elsewhere") == [letter(2)]
    assert pair.copies() == [letter(1)]
