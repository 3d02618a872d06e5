"""``doctor`` by the real command: what is broken on purpose is named first, what hangs on it is not tried."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncer.demo.certificates import Certificates
from syncer.model import Side
from tests.fakes.dynamodb_faults import DENIED
from tests.stack.broken import BROKEN, Broken, Scene, scene, worked
from tests.stack.pair import FakePair, fake_pair, letter, parsed, until

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pair(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePair]:
    """A pair that works: three letters are copied."""
    folder = tmp_path_factory.mktemp("pair")
    with fake_pair(certificates, folder, INITIAL_SYNC="all") as made:
        for number in range(3):
            made.source.deliver(letter(number))
        assert made.stack.run().exit_code == 0
        yield made


@pytest.fixture
def whole(pair: FakePair, tmp_path: Path) -> Iterator[Scene]:
    with scene(pair, tmp_path) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Told:
    """What the command said."""

    exit_code: int
    said: dict[str, Any]

    @property
    def cause(self) -> dict[str, str]:
        return self.said["first_cause"] or {}

    @property
    def checks(self) -> dict[str, dict[str, str]]:
        return {check["check"]: check for check in self.said["checks"]}

    def skipped(self) -> set[str]:
        return {name for name, check in self.checks.items() if check["outcome"] == "skipped"}


def doctor(at: Scene, **settings: str) -> Told:
    # Each with tokens of its own, so that one test's sign-in is not another's.
    tokens = {"TOKENS_FILE": str(at.folder / "tokens.json")}
    code, printed = at.pair.stack.program.run("doctor", "--json", settings={**tokens, **settings})
    (line,) = printed.splitlines()
    assert marks_in(printed, at, {**tokens, **settings}) == []
    return Told(code, json.loads(line))


def marks_in(printed: str, at: Scene, settings: Mapping[str, str]) -> list[str]:
    """Return what is in a text that nobody may ever see: secrets and addresses that were given, tokens that came."""
    given = {**at.pair.stack.program.environment, **settings}
    names = (
        *("GMAIL_EMAIL", "OUTLOOK_EMAIL", "GMAIL_CLIENT_SECRET", "GMAIL_REFRESH_TOKEN", "MS_REFRESH_TOKEN"),
        *("AWS_SECRET_ACCESS_KEY",),
    )
    marks = {given[name] for name in names}
    with contextlib.suppress(OSError, ValueError):
        sides = json.loads(Path(given["TOKENS_FILE"]).read_text()).values()
        marks |= {side.get("access_token", "") for side in sides if isinstance(side, dict)}
    return [mark for mark in marks - {"", "embedded"} if mark in printed]


def test_where_nothing_is_broken_all_is_well(whole: Scene) -> None:
    told = doctor(whole)
    assert (told.exit_code, told.said["outcome"], told.cause) == (0, "ok", {})
    assert told.said["counts"] == {"ok": len(told.checks), "warn": 0, "fail": 0, "skipped": 0}
    assert len(told.checks) >= 20


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.what)
def test_the_right_cause_is_named_first(whole: Scene, broken: Broken) -> None:
    told = doctor(whole, **broken.by(whole))
    assert told.cause.get("check") == broken.cause, told.cause
    assert broken.says in f"{told.cause['found']} {told.cause['remedy']}"
    assert told.cause["remedy"] or broken.exit_code == 0
    assert told.exit_code == told.said["exit_code"] == broken.exit_code
    assert told.cause["outcome"] == ("fail" if broken.exit_code else "warn")


def test_doctor_disturbs_nothing(whole: Scene) -> None:
    pair, before = whole.pair, whole.pair.stack.records()
    verbs = (len(pair.source.commands), len(pair.destination.commands))
    told = doctor(whole)
    assert told.exit_code == 0
    assert pair.stack.records() == before
    assert [one.verb for one in pair.source.commands[verbs[0] :]] == ["CAPABILITY", "AUTHENTICATE", "EXAMINE", "LOGOUT"]
    used = {one.verb for one in pair.destination.commands[verbs[1] :]}
    assert used <= {"CAPABILITY", "AUTHENTICATE", "STATUS", "LIST", "LOGOUT"}
    assert len(pair.copies()) == 3


def test_while_dynamodb_cannot_be_used_nobody_is_asked_for_a_token_or_signs_in(whole: Scene) -> None:
    pair = whole.pair
    asked, signed = pair.stack.authority.token_calls(), pair.source.verbs().count("AUTHENTICATE")
    told = doctor(whole, **whole.proxy(DENIED, "UpdateItem"))
    assert pair.stack.authority.token_calls() == asked
    assert pair.source.verbs().count("AUTHENTICATE") == signed
    assert {"tokens.read", "gmail.refresh", "outlook.refresh", "gmail.sign_in", "outlook.reach"} <= told.skipped()
    assert {told.checks[name]["because"] for name in told.skipped()} == {"dynamodb.update_item"}
    assert told.checks["tls.outlook_imap"]["outcome"] == "ok"


def test_a_policy_that_allows_no_more_than_a_cycle_needs_is_no_fault(whole: Scene) -> None:
    told = doctor(whole, **whole.proxy(DENIED, "DescribeTable", "DescribeTimeToLive", "Query"))
    assert (told.exit_code, told.said["outcome"]) == (0, "ok")
    assert told.skipped() == {"dynamodb.table", "dynamodb.keys", "dynamodb.ttl", "records.given_up"}
    assert {told.checks[name]["because"] for name in told.skipped()} == {""}


def test_a_table_that_is_missing_is_found_without_the_right_to_describe_it(whole: Scene) -> None:
    told = doctor(whole, DYNAMODB_TABLE="no-such-table", **whole.proxy(DENIED, "DescribeTable", "DescribeTimeToLive"))
    assert told.cause["check"] == "dynamodb.batch_get_item"
    assert "syncer table create" in told.cause["remedy"]


def test_one_side_that_fails_does_not_hide_the_other(whole: Scene) -> None:
    told = doctor(whole, GMAIL_REFRESH_TOKEN="revoked", OUTLOOK_TARGET_FOLDER="Files")
    assert told.cause["check"] == "gmail.refresh"
    assert told.checks["outlook.folder"]["outcome"] == "fail"
    assert told.checks["gmail.sign_in"]["because"] == "gmail.refresh"
    assert told.exit_code == 78  # the worst of 77 and 78


def test_with_an_address_missing_the_table_is_looked_at_all_the_same(whole: Scene) -> None:
    told = doctor(whole, GMAIL_EMAIL="")
    assert told.cause["check"] == "settings"
    assert told.checks["dynamodb.put_item"]["outcome"] == "ok"
    assert told.checks["outlook.refresh"]["outcome"] == "ok"
    assert told.checks["gmail.sign_in"]["because"] == "settings"


def test_a_lease_held_by_a_run_at_work_is_no_fault(whole: Scene) -> None:
    until = {"N": str(int(time.time() + 200))}
    settings = whole.remembering(worked(), lease_owner={"S": "a run"}, lease_until=until)
    told = doctor(whole, **settings)
    assert told.exit_code == 0
    assert told.checks["records.lease"]["outcome"] == "ok"
    assert "held by a run at work" in told.checks["records.lease"]["found"]


def test_a_rotated_token_is_saved_before_doctor_ends(whole: Scene) -> None:
    path = whole.folder / "tokens.json"
    assert doctor(whole).checks["tokens.saved"]["outcome"] == "ok"
    first = json.loads(path.read_text())["outlook"]["refresh_token"]
    assert first != whole.pair.stack.outlook.refresh_token
    doctor(whole)
    assert json.loads(path.read_text())["outlook"]["refresh_token"] != first


def test_a_secret_is_tried_without_a_new_version_and_renewed_once_in_ten_minutes(whole: Scene) -> None:
    settings = whole.secret()
    aws = whole.pair.stack.aws
    aws.requests.clear()
    told = doctor(whole, **settings)
    assert told.exit_code == 0, told.cause
    assert told.checks["tokens.write"]["found"] == "writable (tried with the version it has: nothing changed)"
    assert aws.requests["PutSecretValue"] == 2  # the harmless one, and the rotated token
    aws.requests.clear()
    calls = whole.pair.stack.authority.token_calls()
    again = doctor(whole, **settings)
    assert again.exit_code == 0
    assert aws.requests["PutSecretValue"] == 1
    assert whole.pair.stack.authority.token_calls() == calls
    assert "not renewed" in again.checks["outlook.refresh"]["found"]
    assert again.checks["tls.secrets_manager"]["outcome"] == "ok"


@pytest.mark.parametrize("broken", [None, *BROKEN[::9]], ids=lambda broken: broken.what if broken else "nothing")
def test_as_text_no_secret_and_no_address_is_shown_either(whole: Scene, broken: Broken | None) -> None:
    settings = {"TOKENS_FILE": str(whole.folder / "tokens.json"), **(broken.by(whole) if broken else {})}
    _, printed = whole.pair.stack.program.run("doctor", settings={**settings, "LOG_LEVEL": "DEBUG"})
    assert marks_in(printed, whole, settings) == []


def test_without_a_terminal_it_is_plain_text_with_the_first_cause_on_top(whole: Scene) -> None:
    settings = {"TOKENS_FILE": str(whole.folder / "tokens.json"), "GMAIL_REFRESH_TOKEN": "revoked"}
    code, printed = whole.pair.stack.program.run("doctor", settings=settings)
    lines = printed.splitlines()
    assert code == 77
    assert lines[:2] == [
        "first cause: gmail.refresh: Google refuses the sign-in: invalid_grant",
        "remedy: syncer auth gmail",
    ]
    assert "\x1b" not in printed
    assert lines[-1].endswith("1 failed, 7 not tried")


def test_the_list_of_broken_things_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = [f"| {one.what} | `{one.cause}` | {one.exit_code} |" for one in BROKEN]
    start = page.index("| what is broken |")
    shown = page[start:].split("\n\n", 1)[0].splitlines()[2:]
    assert shown == rows


def test_every_check_is_explained_in_the_documentation_in_order(whole: Scene) -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    table = page.split("## The checks", 1)[1].split("With `TOKENS_SECRET_ID`", 1)[0]
    names = [name for line in table.splitlines() for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])]
    assert names == list(doctor(whole).checks)


# -- for a person


def on_a_terminal(at: Scene, lines: int, **settings: str) -> tuple[int, list[str]]:
    """Run the command on a terminal of 80 columns; return its exit code, and the lines it draws, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
    program = at.pair.stack.program
    tokens = {"TOKENS_FILE": str(at.folder / "tokens.json"), "TERM": "xterm-256color"}
    environment = {**program.environment, **tokens, **settings}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(
        program.command("doctor"), env=environment, cwd=program.folder, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # how Linux says that nobody writes any more
            while octets := os.read(ours, 65536):
                drawn += octets
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    # What the spinner draws is overwritten in place.
    return process.returncode, [line.rpartition("\r")[2].rstrip() for line in text.replace("\r\n", "\n").split("\n")]


def test_on_a_terminal_the_first_cause_stands_on_top_within_80_columns(whole: Scene) -> None:
    whole.pair.destination.lose_backend()
    code, lines = on_a_terminal(whole, 100)
    assert code == 75
    top = next(number for number, line in enumerate(lines) if "First cause" in line)
    remedy = next(number for number, line in enumerate(lines) if "Forwarding and IMAP" in line)
    table = next(number for number, line in enumerate(lines) if line.startswith("ok   settings"))
    assert top < remedy < table
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("FAIL mailbox behind the sign-in") for line in lines)
    assert any(line.startswith("-    4 checks") for line in lines)


def test_where_the_top_scrolls_away_the_remedy_is_said_again_at_the_end(whole: Scene) -> None:
    _, lines = on_a_terminal(whole, 24, DYNAMODB_TABLE="no-such-table")
    assert "First cause: table in DynamoDB." in lines[-2] + lines[-3]
    assert max(map(len, lines)) <= 80


def test_on_a_terminal_that_all_is_well_is_said_on_top(whole: Scene) -> None:
    code, lines = on_a_terminal(whole, 100)
    assert code == 0
    assert any("All is well." in line for line in lines[:4])


# -- beside a running sync


def test_beside_a_daemon_nothing_is_disturbed_and_no_token_is_lost(certificates: Certificates, tmp_path: Path) -> None:
    with fake_pair(certificates, tmp_path, INITIAL_SYNC="all", SYNC_INTERVAL_SECONDS="1") as pair:
        # Fresh for two seconds each: the daemon renews its tokens again and again, as doctor does beside it.
        pair.stack.authority.lifetimes = dict.fromkeys(Side, 302)
        with pair.stack.start("daemon") as daemon:
            for number in range(2):
                pair.source.deliver(letter(number))
                until(lambda count=number + 1: len(pair.copies()) == count)  # type: ignore[misc]
                code, printed = pair.stack.program.run("doctor", "--json")
                assert (code, json.loads(printed)["first_cause"]) == (0, None)
            daemon.send_signal(signal.SIGTERM)
            said, _ = daemon.communicate(timeout=20)
        cycles = [event for event in parsed(said) if event["event"] == "cycle_finished"]
        # What is in the store is what was handed out last: the next run goes on with it.
        pair.stack.authority.expire_access_tokens()
        assert pair.stack.run().exit_code == 0
    assert {cycle["outcome"] for cycle in cycles} <= {"ok", "stopped"}
