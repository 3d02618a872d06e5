"""``settle`` between the two fakes: the real command, what a person is shown, and what becomes of the answer."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from tests.fakes.faults import LoseReply, on
from tests.stack.pair import GMAIL, NOTHING_BUT_THE_RECORDS, OUTLOOK, FakePair, letter, until
from tests.stack.terminal import at_a_terminal, read_all

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)


@pytest.fixture
def moved(pair: FakePair) -> FakePair:
    """The copy of letter 1 was stored, the answer was lost, and a rule moved it before the next cycle looked."""
    pair.source.deliver(letter(0), ARRIVED)
    pair.stack.run()
    pair.source.deliver(letter(1), ARRIVED)
    pair.destination.misbehave(on("APPEND"), LoseReply())
    assert pair.stack.run().finished["in_doubt"] == 1
    until(lambda: len(pair.copies()) == 2)
    pair.destination.move_away("Gmail", 2)
    run = pair.stack.run()
    assert run.finished["in_doubt"] == 1
    (line,) = run.named("in_doubt")
    assert "syncer settle 2 --copied" in line["remedy"]
    return pair


def test_what_a_person_found_elsewhere_is_never_sent_again(moved: FakePair) -> None:
    before, calls = moved.source.connections, moved.stack.authority.token_calls()
    run = moved.stack.run("settle", "2", "--copied", "--yes", **NOTHING_BUT_THE_RECORDS)
    assert (run.exit_code, run.named("settle_finished")[0]["decided"]) == (0, 1)
    assert run.requests == {"GetItem": 1, "BatchGetItem": 2, "UpdateItem": 2, "TransactWriteItems": 1}
    assert (moved.source.connections, moved.stack.authority.token_calls()) == (before, calls)
    record = moved.stack.records()["UID#1#2"]
    assert (record["status"], record["decision"]) == ("DONE", "copied")
    assert "ttl" in record
    idle = moved.stack.run()
    assert (idle.finished["in_doubt"], idle.requests) == (0, {"UpdateItem": 2})
    assert len(moved.copies()) == 2


def test_what_a_person_found_nowhere_is_sent_again_at_once(moved: FakePair) -> None:
    run = moved.stack.run("settle", "2", "--not-copied", "--yes", "--now")
    assert (run.exit_code, run.named("settle_finished")[0]["decided"]) == (0, 1)
    assert (run.finished["copied"], run.finished["in_doubt"]) == (1, 0)
    assert sorted(moved.copies()) == [letter(0), letter(1), letter(1)], "the answer was wrong: that is what it costs"
    record = moved.stack.records()["UID#1#2"]
    assert record["status"] == "DONE"
    assert not record.keys() & {"decision", "decided_at", "unclear"}


def test_the_next_cycle_sends_it_where_nobody_is_in_a_hurry(moved: FakePair) -> None:
    run = moved.stack.run("settle", "2", "--not-copied", "--yes", **NOTHING_BUT_THE_RECORDS)
    assert run.requests == {"GetItem": 1, "BatchGetItem": 2, "UpdateItem": 2, "TransactWriteItems": 1}
    assert moved.stack.run().finished["copied"] == 1


def test_a_person_is_shown_what_is_known_and_asked(moved: FakePair) -> None:
    with at_a_terminal(moved, "settle", "2", "--not-copied") as (process, terminal):
        os.write(terminal, b"n\n")
        shown = " ".join(read_all(terminal).split())
    assert process.returncode == 1
    for text in (
        "UID 2, in doubt",
        "Arrived in Gmail:",
        "No answer came.",
        "Why no look can tell: a message arrived in the destination since and is gone again",
        "there will be two",
        "Copy it again? [y/N]",
        "nothing was changed",
    ):
        assert text in shown
    for secret in (GMAIL, OUTLOOK, "Letter", "sender.example"):
        assert secret not in shown
    assert moved.stack.records()["UID#1#2"]["status"] == "PENDING"
    assert "decision" not in moved.stack.records()["UID#1#2"]
    with at_a_terminal(moved, "settle", "2", "--copied") as (process, terminal):
        os.write(terminal, b"y\n")
        assert "recorded as copied" in read_all(terminal)
    assert process.returncode == 0
    assert moved.stack.records()["UID#1#2"]["status"] == "DONE"


def test_a_person_who_leaves_the_question_changes_nothing(moved: FakePair) -> None:
    with at_a_terminal(moved, "settle", "2", "--copied") as (process, terminal):
        os.write(terminal, b"\x04")
        read_all(terminal)
    assert process.returncode == 130
    assert moved.stack.records()["UID#1#2"]["status"] == "PENDING"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("2",), "--copied or --not-copied"),
        (("2", "--copied", "--not-copied", "--yes"), "--copied or --not-copied"),
        (("2", "--not-copied"), "--yes"),
        (("--copied", "--yes"), "UID"),
    ],
)
def test_a_command_line_that_leaves_something_open_is_refused(
    moved: FakePair, arguments: tuple[str, ...], said: str
) -> None:
    code, printed = moved.stack.program.run("settle", *arguments)
    assert (code, said in printed) == (2, True)
    assert "decision" not in moved.stack.records()["UID#1#2"]


def test_a_uid_that_is_not_in_doubt_is_refused_with_the_reason(moved: FakePair) -> None:
    run = moved.stack.run("settle", "1", "77", "--not-copied", "--yes")
    assert (run.exit_code, run.named("settle_finished")[0]["unknown"]) == (1, [1, 77])
    assert "recorded as copied" in run.named("settle_refused")[0]["reason"]
    assert moved.stack.run().finished["copied"] == 0


def test_another_run_at_work_comes_first(moved: FakePair) -> None:
    moved.source.deliver(letter(3), ARRIVED)
    with moved.stack.start("run-once") as other:
        until(lambda: "lease_owner" in moved.stack.records()["WATERMARK"])
        other.kill()
    run = moved.stack.run("settle", "2", "--copied", "--yes")
    assert (run.exit_code, [line["event"] for line in run.events]) == (75, ["lease_held"])
