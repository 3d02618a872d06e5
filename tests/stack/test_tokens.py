"""Tokens over months, with the real command and real token requests: renewed in time, and warned of before the end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from syncer.demo.authority import MICROSOFT_INVALID_GRANT, SERVER_BUSY, Answer
from syncer.model import Side
from tests.stack.pair import GMAIL, OUTLOOK, FakePair, letter

DAY = 86_400.0


def stored(pair: FakePair) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(pair.stack.program.environment["TOKENS_FILE"]).read_text())
    return found


def make_older(pair: FakePair, days: float, **changes: float) -> None:
    """Let so much time pass for the tokens; ``changes`` go to Gmail's."""
    tokens = stored(pair)
    for side in ("gmail", "outlook"):
        for name in ("expires_at", "obtained_at", "signed_in_at", "renewed_at"):
            tokens[side][name] -= days * DAY
    tokens["gmail"] |= changes
    Path(pair.stack.program.environment["TOKENS_FILE"]).write_text(json.dumps(tokens))


def test_microsofts_token_is_renewed_though_no_mail_arrives(pair: FakePair) -> None:
    pair.source.deliver(letter(1))
    assert pair.stack.run().finished["copied"] == 1
    before = stored(pair)["outlook"]["refresh_token"]
    make_older(pair, 6)
    assert pair.stack.run().token_calls == 1, "a week is not over"
    make_older(pair, 2)
    connections = pair.destination.connections
    run = pair.stack.run()
    assert (run.exit_code, run.token_calls, run.requests) == (0, 2, {"UpdateItem": 2})
    assert run.named("token_rotated")[0]["side"] == "destination"
    assert pair.destination.connections == connections
    assert stored(pair)["outlook"]["refresh_token"] != before
    assert time.time() - stored(pair)["outlook"]["renewed_at"] < 60
    assert pair.stack.run().token_calls == 0


def test_a_renewal_that_fails_delays_and_stops_nothing(pair: FakePair) -> None:
    pair.stack.run()
    pair.source.deliver(letter(1))
    pair.stack.run()
    for answer, remedy in ((SERVER_BUSY, False), (MICROSOFT_INVALID_GRANT, True)):
        make_older(pair, 8)
        pair.stack.authority.answer_next(Side.DESTINATION, answer)
        run = pair.stack.run()
        events = [line["event"] for line in run.events]
        assert (run.exit_code, run.finished["outcome"]) == (0, "ok")
        assert events.index("token_renewal_failed") > events.index("cycle_finished")
        assert ("remedy" in run.named("token_renewal_failed")[0]) is remedy
    make_older(pair, 0.1)
    assert pair.stack.run().named("token_rotated"), "the next token call is the next try"


def test_a_project_in_testing_is_warned_of_from_its_first_day(pair: FakePair) -> None:
    """Google tells how long its token lasts, and a person is told in time, once a day."""
    token = pair.stack.authority.issue_access_token(pair.stack.gmail)
    testing = {"access_token": token, "expires_in": 3599, "scope": "https://mail.google.com/", "token_type": "Bearer"}
    pair.stack.authority.answer_next(Side.SOURCE, Answer.of(200, **testing, refresh_token_expires_in=604799))
    first = pair.stack.run()
    (warning,) = first.named("token_ending")
    assert (warning["side"], warning["days_left"], warning["level"]) == ("source", 7.0, "WARNING")
    assert warning["remedy"].endswith("syncer auth gmail")
    assert first.finished["gmail_token_days_left"] == 7.0
    assert pair.stack.run().named("token_ending") == [], "once a day"
    shown = "".join(json.dumps(line) for line in first.events)
    assert not any(secret in shown for secret in (GMAIL, OUTLOOK, token))
    code, printed = pair.stack.program.run("status")
    assert (code, "Gmail token        7 days left: syncer auth gmail" in printed) == (0, True)


def test_microsofts_end_is_seen_coming_where_it_cannot_be_renewed(pair: FakePair) -> None:
    pair.source.deliver(letter(1))
    pair.stack.run()
    make_older(pair, 80)
    pair.stack.authority.answer_next(Side.DESTINATION, SERVER_BUSY)
    run = pair.stack.run()
    assert [(line["side"], line["days_left"]) for line in run.named("token_ending")] == [("destination", 10.0)]
    assert run.finished["outlook_token_days_left"] == 10.0
