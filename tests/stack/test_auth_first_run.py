"""From two OAuth clients and nothing else to a copied mail: what a new user does, with the real commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncer.demo.aws import EmbeddedAws
from syncer.demo.certificates import Certificates
from tests.stack.desk import Desk, desk_of
from tests.stack.pair import letter


@pytest.fixture
def desk(certificates: Certificates, tmp_path: Path) -> Iterator[Desk]:
    with desk_of(certificates, tmp_path) as made, EmbeddedAws() as aws:
        made.environment.update(aws.environment(), DYNAMODB_TABLE="syncer-test", INITIAL_SYNC="all")
        yield made


def run(desk: Desk, *arguments: str, **settings: str) -> str:
    command = [sys.executable, "-m", "syncer", *arguments]
    done = subprocess.run(
        command, env={**desk.environment, **settings}, cwd=desk.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("place", "settings"),
    [
        (None, {}),
        (None, {"TOKENS_FILE": "tokens.json"}),
        ("file:tokens.json", {"TOKENS_FILE": "tokens.json"}),
        ("secretsmanager:syncer/tokens", {"TOKENS_SECRET_ID": "syncer/tokens"}),
    ],
    ids=["a .env file", "a tokens file", "the same by name", "a secret, made now"],
)
def test_after_signing_in_twice_the_first_cycle_copies(desk: Desk, place: str | None, settings: dict[str, str]) -> None:
    save = ("--save", place) if place else ()
    for side in ("gmail", "outlook"):
        session = desk.sign_in(side, *save, **(settings if place is None else {}))
        assert session.exit_code == 0, session.shown
    desk.source.deliver(letter(1), datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC))
    run(desk, "table", "create")
    assert '"outcome":"ok"' in run(desk, "run-once", **settings)
    assert desk.destination.appended_to("Gmail") == [letter(1)]


def test_signing_in_again_mends_a_revoked_grant(desk: Desk) -> None:
    from syncer.model import Side

    settings = {"TOKENS_FILE": "tokens.json"}
    for side in ("gmail", "outlook"):
        assert desk.sign_in(side, **settings).exit_code == 0
    run(desk, "table", "create")
    run(desk, "run-once", **settings)
    desk.authority.revoke(Side.DESTINATION)
    assert desk.sign_in("outlook", **settings).exit_code == 0
    desk.source.deliver(letter(2), datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC))
    assert '"outcome":"ok"' in run(desk, "run-once", **settings)
    assert desk.destination.appended_to("Gmail") == [letter(2)]
