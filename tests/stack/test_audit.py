"""``audit`` and ``adopt`` between the two fakes: the real commands, their exit codes, their lines."""

from __future__ import annotations

import boto3
import pytest

from syncer.dynamodb_records import partition_key
from syncer.model import Side
from tests.fakes.faults import Stall, on
from tests.stack.pair import GMAIL, OUTLOOK, TABLE, FakePair, Run, Stack, letter, parsed, until


def forget(stack: Stack, *sort_keys: str) -> None:
    """Delete records."""
    settings = stack.aws.environment()
    client = boto3.client(
        "dynamodb",
        endpoint_url=stack.aws.endpoint,
        region_name=settings["AWS_REGION"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )
    for sort_key in sort_keys:
        key = {"PK": {"S": partition_key(GMAIL, OUTLOOK)}, "SK": {"S": sort_key}}
        client.delete_item(TableName=TABLE, Key=key)
    client.close()


def found(run: Run) -> list[tuple[str, int]]:
    return [(line["what"], line["uid"]) for line in run.named("audit_finding")]


@pytest.fixture
def copied(pair: FakePair) -> FakePair:
    """Three letters, all copied."""
    for number in range(3):
        pair.source.deliver(letter(number))
    assert pair.stack.run().exit_code == 0
    return pair


def test_both_mailboxes_agree(copied: FakePair) -> None:
    run = copied.stack.run("audit")
    assert (run.exit_code, found(run)) == (0, [])
    finished = run.named("audit_finished")[0]
    assert (finished["outcome"], finished["listed"], finished["copied"]) == ("ok", 3, 3)
    assert "lease_owner" not in copied.stack.records()["WATERMARK"]
    assert copied.source.violations == copied.destination.violations == []


def test_what_is_missing_is_told_and_mended(copied: FakePair) -> None:
    identity = copied.stack.records()["UID#1#2"]["identity"]
    forget(copied.stack, "UID#1#2", f"MSG#{identity}")
    copied.destination.move_away("Gmail", 2)
    run = copied.stack.run("audit", "--json")
    assert (run.exit_code, found(run)) == (1, [("missing", 2)])
    mended = copied.stack.run("audit", "--repair", "--days", "2")
    assert (mended.exit_code, mended.finished["copied"]) == (0, 1)
    assert copied.copies() == [letter(0), letter(1), letter(2), letter(1)]
    assert copied.stack.run("audit").exit_code == 0


def test_what_its_owner_deleted_is_no_fault_and_is_not_copied_again(copied: FakePair) -> None:
    copied.destination.move_away("Gmail", 2)
    run = copied.stack.run("audit", "--repair")
    assert (run.exit_code, found(run)) == (0, [("gone", 2)])
    assert len(copied.copies()) == 3


def test_a_table_that_is_missing_comes_first(copied: FakePair) -> None:
    before = copied.source.connections, copied.destination.connections
    run = copied.stack.run("audit", DYNAMODB_TABLE="another-table")
    assert (run.exit_code, run.named("audit_finished")[0]["outcome"]) == (75, "state_unavailable")
    assert run.token_calls == 0
    assert (copied.source.connections, copied.destination.connections) == before


@pytest.mark.parametrize("side", list(Side))
def test_a_grant_that_is_gone_needs_a_person(pair: FakePair, side: Side) -> None:
    pair.source.deliver(letter(1))
    pair.stack.authority.revoke(side)
    run = pair.stack.run("audit")
    assert (run.exit_code, run.named("auth_failed")[0]["side"]) == (77, side)


def test_another_source_folder_is_not_compared_with_these_records(copied: FakePair) -> None:
    run = copied.stack.run("audit", GMAIL_SOURCE_FOLDER="Work")
    assert run.exit_code == 78
    assert "GMAIL_SOURCE_FOLDER" in run.named("configuration_invalid")[0]["faults"][0]


def test_beside_a_cycle_it_says_so_and_leaves(pair: FakePair) -> None:
    pair.source.deliver(letter(1))
    pair.destination.misbehave(on("APPEND"), Stall())
    with pair.stack.start("run-once") as first:
        until(lambda: "APPEND" in pair.destination.verbs())
        run = pair.stack.run("audit")
        assert (run.exit_code, [e["event"] for e in run.events]) == (
            75,
            ["audit_started", "lease_held", "audit_finished"],
        )
        pair.destination.release()
        assert parsed(first.communicate()[0])[-1]["outcome"] == "ok"


def test_no_line_holds_an_address_or_a_subject(copied: FakePair) -> None:
    copied.destination.move_away("Gmail", 2)
    run = copied.stack.run("audit", LOG_LEVEL="DEBUG")
    assert not any(word in str(run.events) for word in ("mara@", "sender.example", "Letter"))


# -- adopt


def lose_the_records(stack: Stack) -> None:
    forget(stack, *stack.records())


def test_after_the_records_were_lost_nothing_is_copied_twice_and_what_is_missing_arrives(copied: FakePair) -> None:
    before = copied.stack.records()
    lose_the_records(copied.stack)
    copied.source.deliver(letter(3))
    run = copied.stack.run("adopt")
    finished = run.named("adopt_finished")[0]
    assert (run.exit_code, finished["adopted"], finished["left_open"]) == (0, 3, 1)
    assert len(copied.copies()) == 3
    rebuilt = copied.stack.records()["UID#1#2"]
    for name in ("status", "identity", "destination_uid", "message_id_header"):
        assert rebuilt[name] == before["UID#1#2"][name]
    assert "ttl" in rebuilt
    cycle = copied.stack.run()
    assert (cycle.exit_code, cycle.finished["copied"]) == (0, 1)
    assert copied.copies() == [letter(number) for number in range(4)]
    assert copied.stack.run("audit").exit_code == 0
    assert copied.source.violations == copied.destination.violations == []


def test_two_mails_with_one_message_id_are_adopted_as_two(pair: FakePair) -> None:
    letters = [letter(number, {"Message-ID": "<the-same@sender.example>"}) for number in (1, 2)]
    pair.source.deliver(letters[0])
    pair.stack.run()
    lose_the_records(pair.stack)
    pair.source.deliver(letters[1])
    assert pair.stack.run("adopt").named("adopt_finished")[0]["adopted"] == 1
    pair.stack.run()
    assert pair.copies() == letters


def test_records_that_are_there_are_not_adopted_over(copied: FakePair) -> None:
    run = copied.stack.run("adopt")
    assert (run.exit_code, "adopt" in run.named("configuration_invalid")[0]["faults"][0]) == (78, True)
    assert copied.stack.run().exit_code == 0


def test_adopt_too_asks_the_table_first(pair: FakePair) -> None:
    run = pair.stack.run("adopt", DYNAMODB_TABLE="another-table")
    assert (run.exit_code, run.token_calls) == (75, 0)
    assert pair.source.connections == pair.destination.connections == 0


def test_a_hundred_messages_and_a_date(pair: FakePair) -> None:
    for number in range(100):
        pair.source.deliver(letter(number))
    pair.stack.run()
    lose_the_records(pair.stack)
    run = pair.stack.run("adopt", "--since", "2020-01-31", LOG_LEVEL="DEBUG")
    assert run.named("adopt_finished")[0]["adopted"] == 100
    assert pair.stack.run().finished["listed"] == 0
    assert not any(word in str(run.events) for word in ("mara@", "sender.example", "Letter"))
