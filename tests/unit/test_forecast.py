"""How long a refresh token lasts, by whose word, and when a person is told."""

from __future__ import annotations

import pytest

from syncer.forecast import END_OF_CALENDAR, Forecast, forecast_of, remedy
from syncer.model import Side
from syncer.tokens import SideTokens

DAY = 86_400.0
NOW = 1_795_000_000.0
GMAIL, OUTLOOK = Side.SOURCE, Side.DESTINATION


@pytest.mark.parametrize(
    ("side", "known", "days"),
    [
        pytest.param(GMAIL, SideTokens(), None, id="nothing is known"),
        pytest.param(GMAIL, SideTokens(signed_in_at=NOW - 100 * DAY), 80, id="google: signed in, never used"),
        pytest.param(
            GMAIL,
            SideTokens(signed_in_at=NOW - 900 * DAY, renewed_at=NOW - 900 * DAY, obtained_at=NOW - DAY / 2),
            179.5,
            id="google: six months from the last use",
        ),
        pytest.param(
            GMAIL,
            SideTokens(signed_in_at=NOW - 5 * DAY, obtained_at=NOW, refresh_expires_at=NOW + 2 * DAY),
            2,
            id="google: its own word wins",
        ),
        pytest.param(OUTLOOK, SideTokens(obtained_at=NOW), None, id="microsoft: the use alone tells nothing"),
        pytest.param(
            OUTLOOK,
            SideTokens(signed_in_at=NOW - 300 * DAY, renewed_at=NOW - 30 * DAY, obtained_at=NOW),
            60,
            id="microsoft: 90 days from the last renewal",
        ),
        pytest.param(OUTLOOK, SideTokens(signed_in_at=NOW - 91 * DAY), -1, id="microsoft: should have ended"),
        pytest.param(
            OUTLOOK,
            SideTokens(renewed_at=NOW, refresh_expires_at=NOW + DAY),
            1,
            id="microsoft: its own word would win",
        ),
    ],
)
def test_days_left(side: Side, known: SideTokens, days: float | None) -> None:
    assert forecast_of(side, known).days_left(NOW) == days


def test_a_time_that_no_calendar_has_is_not_believed() -> None:
    known = SideTokens(signed_in_at=END_OF_CALENDAR, renewed_at=END_OF_CALENDAR - 1, refresh_expires_at=1e14)
    assert forecast_of(OUTLOOK, known) == Forecast(OUTLOOK, renewed_at=END_OF_CALENDAR - 1)
    assert forecast_of(OUTLOOK, SideTokens(renewed_at=END_OF_CALENDAR - 1)).ends_at is None


def test_the_remedy_is_a_command() -> None:
    assert remedy(Forecast(OUTLOOK)) == "sign in again: syncer auth outlook"
    assert remedy(Forecast(GMAIL)).endswith("In production, then sign in again: syncer auth gmail")
