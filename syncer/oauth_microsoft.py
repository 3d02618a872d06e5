"""Microsoft: refresh token -> access token, and the next refresh token. Tells a grant that is gone from a bad day.

Every answer brings a new refresh token; the old one is documented to live on, but whoever has the
new one keeps it (PROVIDERS 6). Access tokens of personal accounts are opaque: nothing is read out of
them. Error texts here hold error codes and AADSTS numbers, never descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from syncer.config import MICROSOFT_AUTHORITY
from syncer.errors import AuthError, ConfigError, Unavailable
from syncer.model import Side
from syncer.tokens import OUTLOOK_SCOPE, Refreshed, error_code, is_token, seconds_of

PASSING_ERRORS: Final = frozenset({"temporarily_unavailable", "server_error", "service_unavailable", "slow_down"})
"""Error codes that say "later". Every other one is about the grant or the client, and stays."""
PASSING_NUMBERS: Final = frozenset({50196, 90006, 90012, 90033, 90036, 90055})
"""AADSTS numbers that say "later": request loop seen, time-outs, faults of the service, throttling."""
NO_TENANT_NUMBERS: Final = frozenset({90002, 90023, 900021, 900023})
"""AADSTS numbers that say that the tenant in the URL does not exist."""
CLIENT_ERRORS: Final = frozenset({"invalid_client", "unauthorized_client"})
CLIENT_NUMBERS: Final = frozenset({700016, 7000215, 7000218, 7000222})
"""AADSTS numbers about the app registration: unknown, wrong secret, secret demanded, secret expired."""

SIGN_IN_AGAIN: Final = (
    "sign in to the Outlook.com account again, with the scopes https://outlook.office.com/IMAP.AccessAsUser.All and "
    "offline_access, and set MS_REFRESH_TOKEN to the new token. Tokens die after 90 days without use, and when the "
    "password is changed; IMAP has to be switched on in Outlook.com's settings too"
)
CHECK_CLIENT: Final = (
    "compare MS_CLIENT_ID with the app registration in Microsoft Entra: supported account types with personal "
    "Microsoft accounts, 'Allow public client flows' set to Yes; MS_CLIENT_SECRET only if the app is no public client "
    "(secrets expire). With another app, sign in again and set MS_REFRESH_TOKEN too"
)


def refresh(
    client_id: str,
    client_secret: str,
    refresh_token: str,
    *,
    authority: str,
    tenant: str,
    now: Callable[[], float],
) -> Refreshed:
    """Get an access token for Outlook.com's IMAP server; ``client_secret`` is empty for a public client.

    Raises AuthError: only a person can help. Raises Unavailable: no usable answer, later perhaps.
    Raises ConfigError: there is no such tenant.
    """
    import msal

    from syncer.https_session import TOTAL_SECONDS, BadDay, Session, within

    def call() -> object:
        # A new application each time: msal keeps failed answers inside it, and would repeat them for a
        # minute without asking (PROVIDERS 6). Its constructor asks the network already.
        kind = msal.ConfidentialClientApplication if client_secret else msal.PublicClientApplication
        with Session() as session:
            try:
                app = kind(
                    client_id,
                    authority=f"{authority}/{tenant}",
                    http_client=session,
                    # Elsewhere than at Microsoft itself, nobody else is asked who may be trusted.
                    instance_discovery=None if authority == MICROSOFT_AUTHORITY else False,
                    **({"client_credential": client_secret} if client_secret else {}),
                )
            except ValueError as error:
                _raise_discovery_failure(error)
            # msal adds offline_access, openid and profile, and refuses to be told so.
            return app.acquire_token_by_refresh_token(refresh_token, [OUTLOOK_SCOPE])

    try:
        answer = within(TOTAL_SECONDS, call)
    except BadDay as error:
        raise Unavailable(Side.DESTINATION, f"Microsoft's token endpoint: {error}") from None
    except (msal.exceptions.MsalError, ValueError, RuntimeError, OverflowError, TypeError, KeyError, AttributeError):
        # JSON, but with values of other kinds than RFC 6749 section 5.1 promises.
        raise Unavailable(Side.DESTINATION, "Microsoft's token endpoint: malformed answer") from None
    if not isinstance(answer, Mapping):
        raise Unavailable(Side.DESTINATION, "Microsoft's token endpoint: malformed answer")
    if "error" in answer:
        _raise_refusal(answer)
    return _checked(answer, refresh_token, now)


def _checked(answer: Mapping[str, Any], refresh_token: str, now: Callable[[], float]) -> Refreshed:
    """Return what Microsoft granted, if it opens IMAP.

    Raises AuthError: the scope is missing. Raises Unavailable: this is no token.
    """
    scope, token, rotated = answer.get("scope"), answer.get("access_token"), answer.get("refresh_token")
    if isinstance(scope, str) and OUTLOOK_SCOPE.lower() not in scope.lower().split():
        raise AuthError(Side.DESTINATION, "the scope IMAP.AccessAsUser.All was not granted", SIGN_IN_AGAIN)
    if not is_token(token):
        raise Unavailable(Side.DESTINATION, "Microsoft's token endpoint: malformed answer")
    changed = rotated if is_token(rotated) and rotated != refresh_token else None
    # An access token without a lifetime is good for once.
    return Refreshed(token, now() + seconds_of(answer.get("expires_in")), changed)


def _raise_refusal(answer: Mapping[str, Any]) -> NoReturn:
    """Raise what Microsoft's refusal means for us."""
    code = error_code(answer.get("error"))
    numbers = _numbers(answer)
    words = " ".join([code or "unknown error", *(f"AADSTS{number}" for number in sorted(numbers))])
    if not code or code in PASSING_ERRORS or numbers & PASSING_NUMBERS:
        raise Unavailable(Side.DESTINATION, f"Microsoft's token endpoint: {words}")
    remedy = CHECK_CLIENT if code in CLIENT_ERRORS or numbers & CLIENT_NUMBERS else SIGN_IN_AGAIN
    raise AuthError(Side.DESTINATION, f"Microsoft refuses the sign-in: {words}", remedy)


def _numbers(answer: Mapping[str, Any]) -> frozenset[int]:
    """Return the AADSTS numbers of an error, from the list for programs and the text for people."""
    listed = answer.get("error_codes")
    described = answer.get("error_description")
    found = {number for number in listed if isinstance(number, int)} if isinstance(listed, list) else set()
    if isinstance(described, str):
        found.update(int(digits) for digits in re.findall(r"AADSTS([0-9]{3,9})\b", described))
    return frozenset(number for number in found if 0 < number < 10**9)


def _raise_discovery_failure(error: ValueError) -> NoReturn:
    """Raise what a failed look-up of the authority's configuration means for us.

    msal hides the answer behind a text of its own; the cause still has it.
    """
    numbers = {int(digits) for digits in re.findall(r"AADSTS([0-9]{3,9})\b", str(error.__context__))}
    if numbers & NO_TENANT_NUMBERS:
        raise ConfigError(
            ["MS_TENANT names a tenant that does not exist; personal accounts need MS_TENANT=consumers"]
        ) from None
    raise Unavailable(Side.DESTINATION, "Microsoft's configuration document: refused or malformed") from None
