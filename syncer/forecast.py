"""How long each side's refresh token will last, and when to say so. No I/O, no clock.

The provider's own word counts where it gave one. Else Google ends a refresh token that was not used for
six months (PROVIDERS 2), and Microsoft one that was not renewed for 90 days (PROVIDERS 6; the 24 hours
are for single-page apps). What ends a token at once, a password changed or an app removed, nobody foresees.

A warning comes once a day, in the last two weeks: a cycle runs every five minutes, and a line in each
would hide what else there is to read.
"""

from __future__ import annotations

import logging
from typing import Final

from syncer.logging_utils import log_event
from syncer.model import Forecast, Side, Watermark
from syncer.tokens import SideTokens

__all__ = ["Forecast", "forecast_of", "warn_of_endings"]

logger = logging.getLogger(__name__)

DAY: Final = 86_400.0
END_OF_CALENDAR: Final = 253_402_300_800.0
"""The year 10000."""
GOOGLE_UNUSED_SECONDS: Final = 180 * DAY
"""Six months without use, counted short."""
MICROSOFT_UNRENEWED_SECONDS: Final = 90 * DAY
WARN_DAYS: Final = 14.0
"""So long before the end the warnings begin. A token that is renewed as it should be never comes so near."""

SIGN_IN: Final = {Side.SOURCE: "syncer auth gmail", Side.DESTINATION: "syncer auth outlook"}
_PUBLISH: Final = "set your Google project's publishing status to In production, then sign in again: "


def forecast_of(side: Side, known: SideTokens) -> Forecast:
    """Return what is foreseen of one side's refresh token."""
    return Forecast(
        side,
        signed_in_at=_believable(known.signed_in_at),
        renewed_at=_believable(known.renewed_at),
        ends_at=_believable(_ends_at(side, known)),
    )


def _believable(at: float) -> float | None:
    """Return a time that a calendar has; a token store may have been written by hand."""
    return at if 0 < at < END_OF_CALENDAR else None


def _ends_at(side: Side, known: SideTokens) -> float:
    if known.refresh_expires_at:
        return known.refresh_expires_at
    if side is Side.SOURCE:
        used_at = max(known.obtained_at, known.renewed_at, known.signed_in_at)
        return used_at + GOOGLE_UNUSED_SECONDS if used_at else 0.0
    renewed_at = max(known.renewed_at, known.signed_in_at)
    return renewed_at + MICROSOFT_UNRENEWED_SECONDS if renewed_at else 0.0


def remedy(forecast: Forecast) -> str:
    """Return what a person has to do before the token ends."""
    # Google says when a token ends only if it does so however often it is used: the app is in Testing.
    return (_PUBLISH if forecast.side is Side.SOURCE else "sign in again: ") + SIGN_IN[forecast.side]


def is_ending(forecast: Forecast, now: float) -> bool:
    """Tell whether a person should know."""
    left = forecast.days_left(now)
    return left is not None and left < WARN_DAYS


def warn_of_endings(found: Watermark, now: float) -> dict[Side, float]:
    """Warn of tokens that end soon, each once a day; return when each was last warned of."""
    warned_at: dict[Side, float] = {}
    for side, forecast in found.tokens.items():
        if not is_ending(forecast, now):
            continue
        last = found.token_warned_at.get(side)
        if last is not None and 0 <= now - last < DAY:
            warned_at[side] = last
            continue
        warned_at[side] = now
        days_left = forecast.days_left(now)
        log_event(
            logger, logging.WARNING, "token_ending", side=side.value, days_left=days_left, remedy=remedy(forecast)
        )
    return warned_at
