"""Nothing that belongs to the user gets into a log line or a record: marks are planted everywhere, then looked for."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from syncer.demo.authority import HTML_WELCOME_PAGE, SERVER_BUSY, Answer
from syncer.model import Side
from tests.fakes.dynamodb_faults import Answer as Refusal
from tests.fakes.dynamodb_proxy import DynamoDBProxy
from tests.fakes.faults import ERROR_11, FOREVER, Bye, Close, LoseReply, Reply, on, throttled
from tests.stack.pair import GMAIL, OUTLOOK, FakePair, letter, parsed, until
from tests.stack.terminal import at_a_terminal, read_all

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


def test_status_shows_no_mark_of_what_was_refused(pair: FakePair) -> None:
    marks = plant(pair)
    pair.source.deliver(letter(3), ARRIVED)
    pair.destination.misbehave(on("APPEND", nth=2), ECHO)
    pair.stack.program.run("run-once", settings={"MAX_ATTEMPTS": "1"})
    for command in (("status",), ("status", "--json"), ("retry",), ("status",)):
        code, printed = pair.stack.program.run(*command, settings={"LOG_LEVEL": "DEBUG"})
        assert code == 0
        assert unseen(pair, marks, printed)


def test_what_a_person_is_shown_who_decides_holds_no_mark(pair: FakePair) -> None:
    marks = plant(pair)
    pair.destination.misbehave(on("APPEND"), LoseReply())
    pair.stack.program.run("run-once")
    until(lambda: len(pair.copies()) == 1)
    pair.destination.move_away("Gmail", 1)
    pair.stack.program.run("run-once")
    for command in (("status",), ("status", "--json"), ("settle", "1", "--copied")):
        with at_a_terminal(pair, *command) as (_, terminal):
            os.write(terminal, b"y\n")
            assert unseen(pair, marks, read_all(terminal))
    assert pair.stack.records()["UID#1#1"]["decision"] == "copied"


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


def unseen(pair: FakePair, marks: list[str], printed: str) -> bool:
    """Check that no mark was printed or recorded, nor any token that the program was given since."""
    records = {key: {k: v for k, v in one.items() if k != "PK"} for key, one in pair.stack.records().items()}
    for one in records.values():
        one.pop("message_id_header", None)
    shown = printed + json.dumps(records)
    assert [mark for mark in [*marks, *filter(None, _tokens(pair))] if mark in shown] == []
    return True


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("run-once",), id="run-once"),
        pytest.param(("run-once", "--dry-run"), id="dry run"),
        pytest.param(("table", "create"), id="table create"),
        pytest.param(("status",), id="status"),
        pytest.param(("status", "--json"), id="status --json"),
        pytest.param(("retry", "--now"), id="retry"),
        pytest.param(("backfill", "--since", "2026-01-01"), id="backfill"),
    ],
)
def test_no_command_shows_a_mark(pair: FakePair, command: tuple[str, ...]) -> None:
    marks = plant(pair)
    code, printed = pair.stack.program.run(*command, settings={"LOG_LEVEL": "DEBUG"})
    assert code == 0
    assert unseen(pair, marks, printed)


def test_the_daemon_shows_no_mark_in_good_cycles_and_bad_ones(pair: FakePair) -> None:
    marks = plant(pair)
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1", LOG_LEVEL="DEBUG") as daemon:
        until(lambda: len(pair.copies()) == 2)
        pair.source.misbehave(on("EXAMINE"), ECHO)
        cycles = pair.source.connections
        until(lambda: pair.source.connections >= cycles + 2)
        daemon.send_signal(signal.SIGTERM)
        printed, _ = daemon.communicate(timeout=20)
    assert daemon.returncode == 0
    assert sum(event["event"] == "cycle_finished" for event in parsed(printed)) >= 2
    assert unseen(pair, marks, printed)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("fault", ["HTML", "busy", "revoked", "quoted in a refusal", "quoted in an error page"])
def test_no_answer_of_a_token_endpoint_shows_a_mark(pair: FakePair, side: Side, fault: str) -> None:
    marks = plant(pair)
    account = pair.stack.gmail if side is Side.SOURCE else pair.stack.outlook
    quoted = f"{account.address} sent {account.refresh_token} {account.client_secret}"
    answer = {
        "HTML": HTML_WELCOME_PAGE,
        "busy": SERVER_BUSY,
        "revoked": Answer.of(400, error="invalid_grant", error_description="AADSTS70000: revoked"),
        "quoted in a refusal": Answer.of(400, error="invalid_grant", error_description=quoted),
        "quoted in an error page": Answer(500, f"<html>{quoted}</html>".encode(), "text/html"),
    }[fault]
    pair.stack.authority.answer_next(side, *[answer] * 20)
    code, printed = pair.stack.program.run("run-once", settings={"LOG_LEVEL": "DEBUG"})
    assert code in (75, 77)
    assert unseen(pair, marks, printed)


@pytest.mark.parametrize(
    "command",
    [
        ("run-once",),
        ("run-once", "--dry-run"),
        ("table", "create"),
        ("status",),
        ("retry",),
        ("backfill", "--since", "2026-01-01"),
    ],
)
def test_a_table_that_may_not_be_used_shows_no_mark(pair: FakePair, command: tuple[str, ...]) -> None:
    marks = plant(pair)
    denied = Refusal(400, "AccessDeniedException", f"User {GMAIL} may not: {' '.join(marks)}")
    upstream = urlsplit(pair.stack.aws.endpoint)
    with DynamoDBProxy(str(upstream.hostname), upstream.port or 0) as proxy:
        for operation in ("DescribeTable", "CreateTable", "GetItem", "PutItem", "UpdateItem", "Query", "BatchGetItem"):
            proxy.plan_always(operation, denied)
        code, printed = pair.stack.program.run(*command, settings={"LOG_LEVEL": "DEBUG", "AWS_ENDPOINT_URL": proxy.url})
    assert code == 75
    assert unseen(pair, marks, printed)


def test_a_table_that_is_not_there_shows_no_mark(pair: FakePair) -> None:
    marks = plant(pair)
    code, printed = pair.stack.program.run("run-once", settings={"LOG_LEVEL": "DEBUG", "DYNAMODB_TABLE": "missing"})
    assert code == 75
    assert unseen(pair, marks, printed)
