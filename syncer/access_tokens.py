"""Access tokens for both sides: from memory, from the token store, or by a refresh.

Promises: no token call while a cached token lasts; a rotated refresh token is saved before the access
token that came with it is handed out; a token is never lost silently: what could not be saved is kept
here, logged, and saved at the next opportunity (``get``, ``renew``, ``flush``).

    get ──fresh?──> hand out
     └─stale─> load again ──fresh? (another runner refreshed)──> hand out
                └─stale─> refresh ─> save ─> hand out

A store with a pause between saves (Secrets Manager, PROVIDERS 11) gets a rotated token at once, unless
that side's tokens were saved within the pause; what is only convenient, a new access token, waits for
``flush`` or for another side's rotation, so that both sides cost one save. A save that finds that
another runner saved meanwhile replaces nothing: what that runner stored is read, each side's newer tokens
count, and what is still to be saved is decided anew.

A cycle that finds nothing to copy asks for one side's token only. So that the other's refresh token does
not die of it (PROVIDERS 6: 90 days), ``keep_alive`` renews it every week, and never in the way of mail.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from syncer import oauth_gmail, oauth_microsoft
from syncer.config import Config
from syncer.errors import AuthError, ConfigError, Unavailable
from syncer.forecast import forecast_of
from syncer.logging_utils import log_event
from syncer.model import Forecast, Side
from syncer.token_store import StoreChanged, StoreUnavailable, TokenStore, environment_tokens, merge, missing
from syncer.tokens import Refreshed, SideTokens, Tokens

logger = logging.getLogger(__name__)

MARGIN_SECONDS: Final = 300.0
"""A token with less life left than this is not handed out: a cycle has to get through with it."""
MEMORY_SECONDS: Final = 60.0
"""For so long after reading or saving a secret, memory is believed rather than another read, which costs money
and may lag behind the save. A file is read again each time."""

RENEW_AFTER_SECONDS: Final = 7 * 86_400.0
"""A refresh token that was not used for so long is renewed for its own sake; Microsoft's lasts 90 days."""

Refresher = Callable[[SideTokens], Refreshed]
"""Raises AuthError, Unavailable, ConfigError."""


def refreshers_of(config: Config, now: Callable[[], float] = time.time) -> Mapping[Side, Refresher]:
    """Return how each side's tokens are refreshed."""

    def gmail(known: SideTokens) -> Refreshed:
        return oauth_gmail.refresh(
            known.client_id, known.client_secret, known.refresh_token, token_uri=config.gmail_token_uri, now=now
        )

    def outlook(known: SideTokens) -> Refreshed:
        return oauth_microsoft.refresh(
            known.client_id,
            known.client_secret,
            known.refresh_token,
            authority=config.ms_authority,
            tenant=config.ms_tenant,
            now=now,
        )

    return {Side.SOURCE: gmail, Side.DESTINATION: outlook}


class AccessTokens:
    """The one source of access tokens in a process; may be used by several threads."""

    def __init__(
        self,
        config: Config,
        store: TokenStore,
        *,
        refreshers: Mapping[Side, Refresher] | None = None,
        now: Callable[[], float] = time.time,
        read_only: bool = False,
    ) -> None:
        """Contact nobody yet. With ``read_only`` (a dry run) the store is read, never written."""
        self._given = environment_tokens(config)
        self._store = store
        self._refreshers = refreshers_of(config, now) if refreshers is None else refreshers
        self._now = now
        self._keeps = not (read_only or store.read_only)
        self._lock = threading.RLock()
        self._tokens: Tokens | None = None
        self._unsaved: dict[Side, bool] = {}
        """Sides of which memory knows more than the store, and whether the refresh token is part of it."""
        self._in_step_at = 0.0
        """When memory and store last were the same."""
        self._saved_obtained_at: dict[Side, float] = {}
        """By side, the ``obtained_at`` that the store is known to have."""
        self._has_called = False
        """A token endpoint was asked since the last ``keep_alive``."""

    def get(self, side: Side) -> str:
        """Return an access token that lasts for another five minutes at least.

        Raises AuthError: only a person can help. Raises Unavailable: no token to be had now.
        Raises ConfigError: values are missing, or the store is not fit for use.
        """
        with self._lock:
            known = self._loaded(side).of(side)
            if not self._is_fresh(known):
                return self._refreshed(side, "")
            self._save_what_waits()
            return known.access_token

    def renew(self, side: Side, refused: str | None = None) -> str:
        """Return an access token other than ``refused`` (the last one, if None), which the mail server refused.

        Raises as ``get``. For a token from the cache: asking again after a new one was refused helps nobody.
        """
        with self._lock:
            return self._refreshed(side, self._loaded(side).of(side).access_token if refused is None else refused)

    def keep_alive(self) -> None:
        """Renew what was not used for long, if this runner asked a token endpoint anyway; a failure is logged.

        So a failure is tried again when the next access token is due, about once an hour.
        """
        with self._lock:
            if not self._has_called:
                return
            for side in Side:
                if self._is_neglected(side):
                    self._renew_for_its_own_sake(side)
            self._has_called = False

    def forecasts(self) -> Mapping[Side, Forecast]:
        """Return what is foreseen of both sides' refresh tokens; nothing while they were not read."""
        with self._lock:
            if self._tokens is None:
                return {}
            sides = {side: self._tokens.of(side) for side in Side}
            if self._store.read_only:
                # Whoever set the environment knows when the token is from; here it is new with every start.
                sides = {side: replace(known, signed_in_at=0.0, renewed_at=0.0) for side, known in sides.items()}
            return {side: forecast_of(side, known) for side, known in sides.items()}

    def flush(self) -> None:
        """Save what waits to be saved; a failure is logged, and nothing is raised."""
        with self._lock:
            self._save_what_waits()

    def _is_neglected(self, side: Side) -> bool:
        known = self._loaded(side).of(side)
        used_at = max(known.renewed_at, known.obtained_at)
        if not used_at and not self._keeps:
            return False  # each start would renew it anew, and keep nothing of it
        return not 0 <= self._now() - used_at < RENEW_AFTER_SECONDS

    def _renew_for_its_own_sake(self, side: Side) -> None:
        try:
            self._refreshed(side, self._loaded(side).of(side).access_token)
        except AuthError as error:
            fields = {"reason": error.reason, "remedy": error.remedy}
        except Unavailable as error:
            fields = {"reason": error.reason}
        except ConfigError as error:
            fields = {"reason": str(error)}
        else:
            return
        log_event(logger, logging.WARNING, "token_renewal_failed", side=side.value, **fields)

    def _is_fresh(self, known: SideTokens) -> bool:
        return bool(known.access_token) and known.expires_at - self._now() > MARGIN_SECONDS

    def _loaded(self, side: Side) -> Tokens:
        """Return both sides' tokens, read from the store when first asked for."""
        if self._tokens is None:
            try:
                stored = self._store.load()
            except StoreUnavailable as error:
                raise Unavailable(side, str(error)) from None
            tokens = self._merged(stored)
            if faults := missing(tokens):
                raise ConfigError(faults)
            self._note_stored(stored)
            self._tokens = tokens
        return self._tokens

    def _merged(self, stored: Tokens) -> Tokens:
        """Return what counts, of what is stored and what the environment gives."""
        return replace(stored, sides={side: merge(stored.of(side), self._given.of(side)) for side in Side})

    def _note_stored(self, stored: Tokens) -> None:
        self._saved_obtained_at = {side: stored.of(side).obtained_at for side in Side}
        self._in_step_at = self._now()

    def _load_again(self, side: Side, *, even_if_fresh: bool = False) -> Tokens:
        """Return both sides' tokens with what another runner may have stored since."""
        ours = self._loaded(side)
        if not even_if_fresh and self._store.pause_seconds and 0 <= self._now() - self._in_step_at < MEMORY_SECONDS:
            return ours
        try:
            stored = self._store.load()
        except StoreUnavailable as error:
            log_event(logger, logging.WARNING, "token_load_failed", reason=error.reason)
            return ours
        tokens = self._merged(stored)
        for waiting in [*self._unsaved]:
            if _age(tokens.of(waiting)) > _age(ours.of(waiting)):
                del self._unsaved[waiting]  # another runner's are newer
            else:
                tokens = tokens.having(waiting, ours.of(waiting))
        if faults := missing(tokens):
            raise ConfigError(faults)
        self._note_stored(stored)
        self._tokens = tokens
        return tokens

    def _refreshed(self, side: Side, refused: str) -> str:
        """Return a token that is neither stale nor ``refused``, by a token call unless another runner made one."""
        known = self._load_again(side).of(side)
        if self._is_fresh(known) and known.access_token != refused:
            return known.access_token
        answer = self._refreshers[side](known)
        self._has_called = True
        rotated = answer.refresh_token is not None and answer.refresh_token != known.refresh_token
        now = self._now()
        self._tokens = self._loaded(side).having(
            side,
            replace(
                known,
                access_token=answer.access_token,
                expires_at=answer.expires_at,
                obtained_at=now,
                refresh_token=answer.refresh_token or known.refresh_token,
                # Of a token that came from the environment, nobody knows more than when it was first used.
                signed_in_at=known.signed_in_at or now,
                renewed_at=now if rotated else known.renewed_at or now,
                refresh_expires_at=answer.refresh_expires_at or _still_said(known, now, rotated=rotated),
            ),
        )
        self._unsaved[side] = rotated or self._unsaved.get(side, False)
        if rotated:
            log_event(logger, logging.INFO, "token_rotated", side=side.value, kept=self._keeps)
        if not self._store.pause_seconds or (rotated and self._may_save()):
            self._save()
        elif rotated and self._keeps:
            log_event(logger, logging.INFO, "token_save_deferred", side=side.value)
        return answer.access_token

    def _may_save(self) -> bool:
        """Tell whether the store's pause is over: for saves at all, or for saves of a rotated token that waits."""
        last_saves = [self._tokens.saved_at if self._tokens else 0.0]
        last_saves += [self._saved_obtained_at.get(side, 0.0) for side, rotated in self._unsaved.items() if rotated]
        # A time in the future comes from a clock that was wrong once: it must not stop saves for ever.
        return any(not 0 <= self._now() - at < self._store.pause_seconds for at in last_saves)

    def _save_what_waits(self) -> None:
        """Save, if something waits and the store's pause is over; a failure is logged."""
        if not self._unsaved or not self._keeps or not self._may_save():
            return
        try:
            self._load_again(next(iter(self._unsaved)))
        except ConfigError as error:
            log_event(logger, logging.WARNING, "token_save_failed", reason=str(error))
            return
        if self._unsaved and self._may_save():
            self._save()

    def _save(self) -> None:
        """Save both sides. A failure is logged: the tokens at hand are good, and the next opportunity comes."""
        if not self._keeps or self._tokens is None:
            return
        try:
            if not self._is_saved() and self._has_still_to_save():
                self._is_saved()
        except (StoreUnavailable, ConfigError) as error:
            log_event(logger, logging.WARNING, "token_save_failed", reason=str(error))

    def _is_saved(self) -> bool:
        """Save; tell whether nobody else had saved since. Raises StoreUnavailable, ConfigError."""
        saved = replace(self._loaded(Side.SOURCE), saved_at=self._now())
        try:
            self._store.save(saved)
        except StoreChanged:
            return False
        self._tokens = saved
        self._note_stored(saved)
        self._unsaved.clear()
        return True

    def _has_still_to_save(self) -> bool:
        """Read what another runner saved; tell whether something newer is left that should be saved now."""
        log_event(logger, logging.INFO, "token_save_overtaken")
        self._load_again(Side.SOURCE, even_if_fresh=True)
        # A rotated token does not wait again: two runners at the same second are too rare to matter for the pause.
        return any(self._unsaved.values()) or (bool(self._unsaved) and self._may_save())


def _age(known: SideTokens) -> tuple[float, float]:
    """Return what tells newer tokens from older ones: a new sign-in beats any token of the one before."""
    return known.signed_in_at, known.obtained_at


def _still_said(known: SideTokens, now: float, *, rotated: bool) -> float:
    """Return when the refresh token ends by an earlier word, if that can still be true of it; else 0."""
    return 0.0 if rotated or known.refresh_expires_at <= now else known.refresh_expires_at
