"""Gmail cuts the connection inside one message's body, each time: the real command counts that, and goes on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.fakes.faults import FOREVER, Action, CutAnswer, ShortLiteral, on
from tests.stack.pair import FakePair, letter

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda uid: CutAnswer(10, in_literal=True, uid=uid), id="cut inside the body"),
        pytest.param(lambda uid: CutAnswer(10, in_literal=True, uid=uid, reset=True), id="reset inside the body"),
        pytest.param(lambda uid: CutAnswer(0, uid=uid), id="cut before the body"),
        pytest.param(lambda uid: ShortLiteral(5), id="a literal shorter than announced"),
    ],
)
def test_a_body_that_always_ends_early_keeps_no_other_message_back(pair: FakePair, fault: object) -> None:
    letters = [letter(number) for number in range(4)]
    uids = [pair.source.deliver(raw, ARRIVED) for raw in letters]
    assert callable(fault)
    action: Action = fault(uids[0])
    pair.source.misbehave(on("UID FETCH", contains="BODY.PEEK[]", uid=uids[0]), action, times=FOREVER)
    settings = {"MAX_ATTEMPTS": "2", "IMAP_TIMEOUT_SECONDS": "1"}
    first = pair.stack.run(**settings)
    assert (first.exit_code, first.finished["outcome"], first.finished["failed"]) == (75, "source_unavailable", 1)
    second = pair.stack.run(**settings)
    assert (second.exit_code, second.finished["copied"], second.finished["given_up"]) == (75, 3, 1)
    assert sorted(pair.copies()) == sorted(letters[1:])
    (given_up,) = second.named("message_given_up")
    assert (given_up["uid"], given_up["reason"].split(":")[0]) == (
        uids[0],
        "the source breaks off when it is to serve it",
    )
    third = pair.stack.run(**settings)
    assert (third.exit_code, third.finished["backlog"], third.finished["last_uid"]) == (0, 0, uids[-1])
    assert pair.source.violations == []
