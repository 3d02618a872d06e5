"""Google: refresh token -> access token. Tells a grant that is gone from a bad day.

Google does not rotate refresh tokens: the stored one stays in use (PROVIDERS 2). While an app is in
Testing, each answer says for how long (``refresh_token_expires_in``). Error texts here hold Google's
error code, never its description.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from syncer.errors import AuthError, Unavailable
from syncer.model import Side
from syncer.tokens import GMAIL_SCOPE, Refreshed, error_code, is_token, seconds_of

if TYPE_CHECKING:
    from google.oauth2.credentials import Credentials

PASSING_ERRORS: Final = frozenset(
    {"temporarily_unavailable", "server_error", "internal_failure", "rate_limit_exceeded"}
)
"""Error codes that say "later". Every other one is about the grant or the client, and stays."""
CLIENT_ERRORS: Final = frozenset(
    {"invalid_client", "deleted_client", "disabled_client", "unauthorized_client", "org_internal", "restricted_client"}
)

SIGN_IN_AGAIN: Final = (
    "sign in to the Gmail account again, with the scope https://mail.google.com/, and set GMAIL_REFRESH_TOKEN to the "
    "new token. If this comes back every 7 days, your Google project has the publishing status Testing: set it to "
    "In production, then sign in again"
)
CHECK_CLIENT: Final = (
    "compare GMAIL_CLIENT_ID and GMAIL_CLIENT_SECRET with the Google Cloud console (Google deletes clients that were "
    "unused for 6 months); if you make a new client, sign in again with it and set GMAIL_REFRESH_TOKEN too"
)


def refresh(
    client_id: str, client_secret: str, refresh_token: str, *, token_uri: str, now: Callable[[], float]
) -> Refreshed:
    """Get an access token for Gmail's IMAP server.

    Raises AuthError: only a person can help. Raises Unavailable: no usable answer, later perhaps.
    """
    from google.auth.exceptions import GoogleAuthError, RefreshError
    from google.auth.transport.requests import Request
    from google.oauth2.credentials import Credentials

    from syncer.https_session import TOTAL_SECONDS, BadDay, Session, within

    lifetimes: list[float] = []

    def call() -> Credentials:
        credentials = Credentials(  # type: ignore[no-untyped-call] # google-auth is typed in part
            None,
            refresh_token=refresh_token,
            token_uri=token_uri,
            client_id=client_id,
            client_secret=client_secret,
            scopes=[GMAIL_SCOPE],
        )
        with Session() as session:
            request = Request(session)

            def noting(*args: Any, **kwargs: Any) -> Any:
                answer = request(*args, **kwargs)
                # What google-auth makes of an answer leaves this out. That it is a JSON object, Session saw to.
                lifetimes.append(seconds_of(json.loads(answer.data).get("refresh_token_expires_in")))
                return answer

            credentials.refresh(noting)  # type: ignore[no-untyped-call] # likewise
        return credentials

    try:
        credentials = within(TOTAL_SECONDS, call)
        return _checked(credentials, refresh_token, lifetimes[-1] if lifetimes else 0.0, now)
    except BadDay as error:
        raise Unavailable(Side.SOURCE, f"Google's token endpoint: {error}") from None
    except RefreshError as error:
        _raise_refusal(error)
    except (GoogleAuthError, ValueError, TypeError, AttributeError, OverflowError):
        # JSON, but with values of other kinds than RFC 6749 section 5.1 promises.
        raise Unavailable(Side.SOURCE, "Google's token endpoint: malformed answer") from None


def _checked(credentials: Credentials, refresh_token: str, lifetime: float, now: Callable[[], float]) -> Refreshed:
    """Return what Google granted, if it opens IMAP; ``lifetime`` is the refresh token's, 0 if Google does not say.

    Raises AuthError: the scope is missing. Raises ValueError: this is no token.
    """
    scopes = credentials.granted_scopes
    if scopes is not None and GMAIL_SCOPE not in scopes:  # granular consent: the box was not ticked
        raise AuthError(Side.SOURCE, "the scope https://mail.google.com/ was not granted", SIGN_IN_AGAIN)
    token, rotated = credentials.token, credentials.refresh_token
    if not is_token(token):
        raise ValueError("no token")
    left = (credentials.expiry - datetime.now(UTC).replace(tzinfo=None)).total_seconds() if credentials.expiry else 0.0
    changed = rotated if is_token(rotated) and rotated != refresh_token else None
    return Refreshed(token, now() + max(left, 0.0), changed, now() + lifetime if lifetime else 0.0)


def _raise_refusal(error: Exception) -> NoReturn:
    """Raise what Google's refusal means for us."""
    if len(error.args) < 2:
        # google-auth's own words instead of Google's answer: invalid_grant with the subtype invalid_rapt.
        code = "invalid_rapt"
    else:
        answer = error.args[1]
        code = error_code(answer.get("error")) if isinstance(answer, dict) else ""
    if not code or code in PASSING_ERRORS:
        raise Unavailable(Side.SOURCE, f"Google's token endpoint: {code or 'malformed answer'}") from None
    remedy = CHECK_CLIENT if code in CLIENT_ERRORS else SIGN_IN_AGAIN
    raise AuthError(Side.SOURCE, f"Google refuses the sign-in: {code}", remedy) from None
