"""The health file: what the daemon writes into it, and how it is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syncer.cycle_state import Summary
from syncer.health import BEAT_SECONDS, HealthFile, judge, limit_seconds
from syncer.model import Outcome

GOOD = Summary(Outcome.OK)
REVOKED = Summary(Outcome.AUTH_FAILED, remedy="sign in again: syncer auth gmail")
BUSY = Summary(Outcome.THROTTLED)


class Clock:
    def __init__(self) -> None:
        self.time = 5000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "health.json"


@pytest.fixture
def daemon(path: Path, clock: Clock) -> HealthFile:
    return HealthFile(path, 300, clock)


@pytest.mark.parametrize(
    ("interval", "limit"), [pytest.param(300, 900, id="three cycles"), pytest.param(1, 300, id="five minutes at least")]
)
def test_how_old_the_last_good_cycle_may_be(interval: float, limit: float) -> None:
    assert limit_seconds(interval) == limit


def test_a_daemon_that_has_just_begun_is_healthy(daemon: HealthFile, path: Path, clock: Clock) -> None:
    verdict = judge(path, clock() + 10)
    assert verdict.healthy
    assert verdict.reason == "starting; no cycle has ended yet"


def test_a_good_cycle_makes_it_healthy_for_three_intervals(daemon: HealthFile, path: Path, clock: Clock) -> None:
    daemon.ended(GOOD)
    assert judge(path, clock() + 900).healthy
    late = judge(path, clock() + 901)
    assert not late.healthy
    assert late.reason == "no good cycle for 15 min; the last cycle ended with ok"


def test_bad_cycles_make_it_unhealthy_and_the_reason_says_what_to_do(
    daemon: HealthFile, path: Path, clock: Clock
) -> None:
    daemon.ended(GOOD)
    clock.time += 600
    daemon.ended(REVOKED)
    assert judge(path, clock()).healthy
    clock.time += 600
    daemon.ended(REVOKED)
    verdict = judge(path, clock())
    assert not verdict.healthy
    assert verdict.reason == (
        "no good cycle for 20 min; the last cycle ended with auth_failed: sign in again: syncer auth gmail"
    )


def test_it_recovers_with_the_next_good_cycle(daemon: HealthFile, path: Path, clock: Clock) -> None:
    clock.time += 2000
    daemon.ended(BUSY)
    assert not judge(path, clock()).healthy
    daemon.ended(GOOD)
    assert judge(path, clock()).healthy


def test_settings_that_turn_out_wrong_and_bugs_are_not_good(daemon: HealthFile, path: Path, clock: Clock) -> None:
    clock.time += 2000
    daemon.ended(Summary(Outcome.SOURCE_UNAVAILABLE, faults=("GMAIL_SOURCE_FOLDER: no such mailbox",)))
    assert judge(path, clock()).reason.endswith("GMAIL_SOURCE_FOLDER: no such mailbox")
    daemon.ended(None)
    assert judge(path, clock()).reason.endswith("the last cycle ended with bug")


def test_a_cycle_that_copies_for_hours_is_healthy_for_as_long_as_it_copies(
    daemon: HealthFile, path: Path, clock: Clock
) -> None:
    daemon.began()
    for _ in range(100):
        clock.time += 600
        daemon.progressed()
        assert judge(path, clock() + 600).healthy
    assert not judge(path, clock() + 901).healthy


def test_progress_is_written_every_few_seconds_and_not_for_every_message(
    daemon: HealthFile, path: Path, clock: Clock
) -> None:
    clock.time += BEAT_SECONDS
    daemon.progressed()
    written = path.stat().st_ino
    for _ in range(50):
        daemon.progressed()
    assert path.stat().st_ino == written


def test_a_file_of_an_earlier_boot_is_no_sign_of_life(daemon: HealthFile, path: Path) -> None:
    assert judge(path, 100.0).reason == "no good cycle since this machine was started; no cycle has ended yet"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"interval": 1, "good_at": "x"}', "nonsense", '{"more": 1}'])
def test_a_damaged_file_is_named(path: Path, content: str) -> None:
    path.write_text(content)
    verdict = judge(path, 0)
    assert not verdict.healthy
    assert verdict.reason.startswith("HEALTH_FILE cannot be read")


def test_no_file_means_no_daemon(path: Path) -> None:
    assert judge(path, 0).reason == "the daemon has not begun, or does not keep this file (HEALTH_FILE)"


def test_a_missing_folder_is_logged_once_and_stops_nothing(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = HealthFile(tmp_path / "missing" / "health.json", 300, clock)
    daemon.ended(GOOD)
    daemon.ended(GOOD)
    assert [record.message for record in caplog.records] == ["health_not_written"]
    (tmp_path / "missing").mkdir()
    daemon.ended(GOOD)
    assert json.loads((tmp_path / "missing" / "health.json").read_text())["outcome"] == "ok"
    assert [entry.name for entry in (tmp_path / "missing").iterdir()] == ["health.json"]
