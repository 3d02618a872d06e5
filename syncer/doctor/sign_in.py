"""The tokens of both sides: there, renewed by really renewing them, for the right scope, and for how long.

A renewal goes the way it goes in a cycle, through ``AccessTokens``: a refresh token that comes new is saved
before anything else is done with it. A secret takes one write in ten minutes (PROVIDERS 11): within that
time of the last one nothing is renewed, and the token that a cycle left is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from syncer import forecast
from syncer.access_tokens import AccessTokens
from syncer.config import Config
from syncer.diagnosis import Check, Found, fail, ok, warn
from syncer.doctor.store import STORE_SETTINGS
from syncer.doctor.words import span
from syncer.errors import AuthError, ConfigError, ScopeMissing, Unavailable
from syncer.model import EXIT_CONFIG, EXIT_SIGN_IN, Side
from syncer.token_store import SETTING_NAMES, StoreUnavailable, TokenStore, environment_tokens, merge

NAMES: Final = {Side.SOURCE: "gmail", Side.DESTINATION: "outlook"}
TITLES: Final = {Side.SOURCE: "Gmail", Side.DESTINATION: "Outlook.com"}
HOSTS: Final = {Side.SOURCE: "tls.gmail_token", Side.DESTINATION: "tls.microsoft_token"}
_READS: Final = {
    Side.SOURCE: ("GMAIL_CLIENT_ID", "GMAIL_CLIENT_SECRET", "GMAIL_REFRESH_TOKEN"),
    Side.DESTINATION: ("MS_CLIENT_ID", "MS_CLIENT_SECRET", "MS_REFRESH_TOKEN", "MS_TENANT"),
}


class SignIn:
    """Both sides' tokens."""

    def __init__(self, config: Config, store: TokenStore, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._store = store
        self._now = now
        self._tokens = AccessTokens(config, store, now=now)
        self._handed_out: dict[Side, str] = {}
        self._scopes: dict[Side, ScopeMissing] = {}
        self._renewed: dict[Side, float] = {}
        """When the renewal of a side began."""

    def checks(self, usable: tuple[str, ...]) -> list[Check]:
        """Return the checks; without those named in ``usable`` no token endpoint is asked."""
        reads = {side: (*STORE_SETTINGS, *names) for side, names in _READS.items()}
        tokens = [
            Check(
                f"{NAMES[side]}.token",
                f"{title} refresh token",
                _of(self._is_there, side),
                ("tokens.read",),
                reads[side],
            )
            for side, title in TITLES.items()
        ]
        # Like a cycle: without both, neither is used.
        there = (*usable, *(token.name for token in tokens), "tokens.write")
        uses = []
        for side, title in TITLES.items():
            name, refresh = NAMES[side], (f"{NAMES[side]}.refresh",)
            needs = (*there, HOSTS[side])
            uses += [
                Check(refresh[0], f"{title} access token", _of(self._renew, side), needs, reads[side]),
                Check(f"{name}.scope", f"{title} permission for IMAP", _of(self._scope, side), refresh, reads[side]),
                Check(f"{name}.forecast", f"{title} sign-in lasts", _of(self._forecast, side), refresh, reads[side]),
            ]
        saved = Check("tokens.saved", "new tokens saved", self._saved, there, STORE_SETTINGS)
        # Google's first: it brings no new refresh token, and what waits to be saved goes with Microsoft's.
        return [*tokens, *uses, saved]

    def access_token(self, side: Side) -> str:
        """Return the access token that was checked."""
        return self._handed_out[side]

    def another(self, side: Side, refused: str) -> str | None:
        """Return a new access token where the refused one was not; None where it was. Raises as ``AccessTokens``."""
        return None if side in self._renewed else self._tokens.renew(side, refused)

    def flush(self) -> None:
        """Save what waits to be saved."""
        self._tokens.flush()

    def _is_there(self, side: Side) -> Found:
        known = merge(self._store.load().of(side), environment_tokens(self._config).of(side))
        missing = [setting for attribute, setting in SETTING_NAMES[side].items() if not getattr(known, attribute)]
        if not missing:
            return ok("there")
        where = "set it" if self._store.read_only else "set it, or keep it in the token store"
        remedy = forecast.SIGN_IN[side] if missing[-1].endswith("TOKEN") else where
        return fail(f"missing: {', '.join(missing)}", remedy, EXIT_CONFIG)

    def _renew(self, side: Side) -> Found:
        try:
            began, stored = self._now(), self._store.load()
            since = began - stored.saved_at
            may_save = not 0 <= since < self._store.pause_seconds
            self._handed_out[side] = self._tokens.renew(side) if may_save else self._tokens.get(side)
            if self._handed_out[side] == stored.of(side).access_token:
                return ok(f"there; not renewed, as the secret was written {since / 60:.0f} min ago")
        except ScopeMissing as error:
            self._scopes[side] = error
            return ok("a token came")
        except AuthError as error:
            return fail(error.reason, _remedy(side, error), EXIT_SIGN_IN)
        except Unavailable as error:
            return fail(error.reason, "try again in a few minutes")
        except StoreUnavailable as error:
            return fail(error.reason, "try again in a few minutes")
        except ConfigError as error:
            return fail(error.faults[0], "correct the setting", EXIT_CONFIG)
        self._renewed[side] = began
        return ok("renewed just now")

    def _scope(self, side: Side) -> Found:
        error = self._scopes.get(side)
        if error is None:
            return ok("granted")
        return fail(error.reason, f"{forecast.SIGN_IN[side]}, and tick the box for the mail", EXIT_SIGN_IN)

    def _forecast(self, side: Side) -> Found:
        foreseen = self._tokens.forecasts().get(side)
        left = foreseen.days_left(self._now()) if foreseen is not None else None
        if foreseen is None or left is None:
            return ok("nobody knows: without a place for tokens, their age is not known")
        ago = self._now() - foreseen.signed_in_at if foreseen.signed_in_at else 0.0
        since = f"; signed in {span(ago)} ago" if ago >= 1 else ""
        if forecast.is_ending(foreseen, self._now()):
            return warn(f"{left:.1f} days more{since}", forecast.remedy(foreseen))
        return ok(f"{left:.0f} more days, from each use on{since}")

    def _saved(self) -> Found:
        self._tokens.flush()
        if self._store.read_only:
            return warn("no: there is no place to keep them", "set TOKENS_FILE=tokens.json")
        try:
            stored = self._store.load()
        except (StoreUnavailable, ConfigError) as error:
            return fail(str(error), "see above")
        # A runner beside us may have put a newer one there.
        lost = [NAMES[side] for side, began in self._renewed.items() if stored.of(side).obtained_at < began]
        if lost:
            return warn(f"not yet: {', '.join(sorted(lost))}; a cycle will, when the store may be written again")
        return ok("yes" if self._renewed else "yes, by the last cycle")


def _of(check: Callable[[Side], Found], side: Side) -> Callable[[], Found]:
    return lambda: check(side)


def _remedy(side: Side, error: AuthError) -> str:
    """Return the command for a grant that is gone; what the error says for a client that is wrong."""
    needs_client = "CLIENT" in error.remedy.split(",", 1)[0]
    return error.remedy if needs_client else forecast.SIGN_IN[side]
