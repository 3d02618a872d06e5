"""``backfill`` between the two fakes: killed, stopped and begun again, each old message arrives once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from syncer.demo.certificates import Certificates
from syncer.model import Side
from tests.stack.pair import FakePair, fake_pair, letter, parsed, until

NOW = datetime.now(UTC)
SHORT = {"LEASE_SECONDS": "3", "IN_DOUBT_SETTLE_SECONDS": "1"}
SLOW = {"OUTLOOK_MAX_MESSAGES_PER_SECOND": "20"}
OLD = 60
SINCE = f"{NOW - timedelta(days=200):%Y-%m-%d}"


@pytest.fixture
def old(certificates: Certificates, tmp_path: Path) -> Iterator[FakePair]:
    """Sixty old letters, one a day, and one of today, which the first run copied."""
    with fake_pair(certificates, tmp_path) as pair:
        for number in range(OLD):
            pair.source.deliver(letter(number), NOW - timedelta(days=100 - number))
        pair.source.deliver(letter(OLD), NOW)
        assert pair.stack.run().finished["copied"] == 1
        yield pair


def test_the_days_asked_for_are_copied_both_included(old: FakePair) -> None:
    first, last = NOW - timedelta(days=90), NOW - timedelta(days=81)
    run = old.stack.run("backfill", "--since", f"{first:%Y-%m-%d}", "--until", f"{last:%Y-%m-%d}")
    (told,) = run.named("backfill_finished")
    assert (run.exit_code, told["listed"], told["copied"], told["left"]) == (0, 10, 10, 0)
    assert sorted(old.copies()) == sorted([letter(OLD), *(letter(number) for number in range(10, 20))])
    again = old.stack.run("backfill", "--since", f"{first:%Y-%m-%d}", "--until", f"{last:%Y-%m-%d}")
    assert (again.exit_code, again.named("backfill_finished")[0]["copied"]) == (0, 0)
    assert again.named("backfill_finished")[0]["run_id"] == again.named("backfill_started")[0]["run_id"]


@pytest.mark.parametrize("hours", [-12, 0, 14])
def test_the_days_are_utc_wherever_the_account_is(certificates: Certificates, tmp_path: Path, hours: int) -> None:
    """Gmail searches by the days of the account's own time zone, and drops the time of day."""
    first, after = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC)
    second = timedelta(seconds=1)
    with fake_pair(certificates, tmp_path) as pair:
        pair.source.zone = timezone(timedelta(hours=hours))
        for number, at in enumerate((first - second, first, after - second, after)):
            pair.source.deliver(letter(number), at)
        pair.stack.run()
        run = pair.stack.run("backfill", "--since", "2026-03-01", "--until", "2026-03-03")
        assert (run.exit_code, sorted(pair.copies())) == (0, [letter(1), letter(2)])


@pytest.mark.parametrize("side", list(Side))
def test_a_grant_that_is_gone_needs_a_person(old: FakePair, side: Side) -> None:
    old.stack.authority.revoke(side)
    run = old.stack.run("backfill", "--since", SINCE)
    assert (run.exit_code, run.named("backfill_finished")[0]["outcome"]) == (77, "auth_failed")
    assert run.named("auth_failed")[0]["side"] == side
    assert len(old.copies()) == 1


def test_a_dry_run_writes_nothing(old: FakePair) -> None:
    before = old.stack.records()
    run = old.stack.run("backfill", "--since", SINCE, "--dry-run")
    assert (run.exit_code, len(run.named("would_copy"))) == (0, OLD)
    assert run.requests.keys() == {"GetItem", "BatchGetItem"}
    assert old.stack.records() == before
    assert len(old.copies()) == 1


def test_killed_in_the_middle_and_begun_again_each_arrives_once(old: FakePair) -> None:
    for share in (15, 40):
        with old.stack.start("backfill", "--since", SINCE, **SHORT, **SLOW) as process:
            until(lambda share=share: len(old.copies()) >= share)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.communicate()
    run = old.stack.run("backfill", "--since", SINCE, **SHORT)
    assert run.exit_code == 0
    old.stack.run_until_quiet(limit=60, **SHORT)
    assert sorted(old.copies()) == sorted(letter(number) for number in range(OLD + 1))
    assert old.source.violations == []
    assert old.stack.records()["WATERMARK"]["copied_total"] == OLD + 1


def test_sigterm_ends_it_in_good_order_and_it_goes_on_later(old: FakePair) -> None:
    with old.stack.start("backfill", "--since", SINCE, **SLOW) as process:
        until(lambda: len(old.copies()) >= 10)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=20)
    assert process.returncode == 75
    (told,) = [line for line in parsed(printed) if line["event"] == "backfill_finished"]
    assert told["outcome"] == "stopped"
    assert "lease_owner" not in old.stack.records()["WATERMARK"]
    assert len(old.copies()) < OLD
    assert old.stack.run("backfill", "--since", SINCE).exit_code == 0
    assert sorted(old.copies()) == sorted(letter(number) for number in range(OLD + 1))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--since"),
        (("--since", "2025-02-30"), "--since"),
        (("--since", "2025-02-02", "--until", "2025-02-01"), "before --since"),
        (("--since", "9998-01-01"), "in the future"),
    ],
)
def test_a_command_line_that_is_wrong_says_what(old: FakePair, arguments: tuple[str, ...], says: str) -> None:
    with old.stack.start("backfill", *arguments) as process:
        printed, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert says in printed + (errors or "")
