"""Nothing that belongs to the user gets into a log line or a record: marks are planted everywhere, then looked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from syncer.model import Side
from tests.fakes.faults import ERROR_11, FOREVER, Bye, Close, LoseReply, Reply, on, throttled
from tests.stack.pair import GMAIL, OUTLOOK, FakePair, letter

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)
SUBJECT, BODY, SENDER, HEADER = "canary-subject", "canary-body", "canary-sender@sender.example", "canary-header"
ECHO = Reply(f"NO {GMAIL} may not: {'t' * 40}")


def plant(pair: FakePair) -> list[str]:
    """Deliver a mail full of marks, and return every text that nobody may ever see."""
    raw = letter(1, {"Subject": SUBJECT, "From": f"Canary <{SENDER}>", "X-Canary": HEADER}) + BODY.encode()
    pair.source.deliver(raw, ARRIVED)
    pair.source.deliver(letter(2), ARRIVED)
    given = pair.stack.program.environment
    secrets = ("GMAIL_CLIENT_SECRET", "GMAIL_REFRESH_TOKEN", "MS_REFRESH_TOKEN", "AWS_SECRET_ACCESS_KEY")
    return [SUBJECT, BODY, SENDER, HEADER, GMAIL, OUTLOOK, *(given[name] for name in secrets)]


@pytest.mark.parametrize(
    ("side", "rule", "action"),
    [
        pytest.param(None, None, None, id="nothing goes wrong"),
        pytest.param("destination", on("APPEND"), ERROR_11, id="a message is refused"),
        pytest.param("destination", on("APPEND"), ECHO, id="a refusal quotes an address and a token"),
        pytest.param("destination", on("APPEND"), LoseReply(), id="a reply is lost"),
        pytest.param("destination", on("APPEND"), throttled(90_000, "BAD"), id="throttled"),
        pytest.param("destination", on("STATUS"), Close(), id="hung up on at the probe"),
        pytest.param("destination", on("AUTHENTICATE"), ECHO, id="Outlook.com's sign-in is refused"),
        pytest.param("source", on("AUTHENTICATE"), ECHO, id="Gmail's sign-in is refused"),
        pytest.param("source", on("EXAMINE"), ECHO, id="the mailbox is refused"),
        pytest.param("source", on("UID FETCH", nth=2), Bye(f"{GMAIL} has to go"), id="BYE while bodies come"),
    ],
)
def test_no_mark_is_ever_seen(pair: FakePair, side: str | None, rule: object, action: object) -> None:
    marks = plant(pair)
    if side is not None:
        server = pair.source if side == "source" else pair.destination
        server.misbehave(rule, action, times=FOREVER)  # type: ignore[arg-type]
    code, printed = pair.stack.program.run("run-once", settings={"LOG_LEVEL": "DEBUG"})
    assert code in (0, 75, 77)
    tokens = [known for known in _tokens(pair) if known]
    seen = [mark for mark in [*marks, *tokens] if mark in printed]
    assert seen == []
    kept = json.dumps({key: {k: v for k, v in r.items() if k != "PK"} for key, r in pair.stack.records().items()})
    assert [mark for mark in [*marks, *tokens] if mark in kept] == []


def test_a_revoked_grant_shows_no_token(pair: FakePair) -> None:
    marks = plant(pair)
    pair.stack.authority.revoke(Side.SOURCE)
    code, printed = pair.stack.program.run("run-once", settings={"LOG_LEVEL": "DEBUG"})
    assert code == 77
    assert [mark for mark in marks if mark in printed] == []


def _tokens(pair: FakePair) -> list[str]:
    """Return the access tokens that the program kept."""
    path = pair.stack.program.folder / "tokens.json"
    if not path.exists():
        return []
    return [side.get("access_token", "") for side in json.loads(path.read_text()).values() if isinstance(side, dict)]
