"""Signing in at Microsoft: by device code, or through a browser on this machine; both by msal.

A device code needs no browser here and no redirect: a person types it at microsoft.com/devicelogin on any device. Only
a public client gets one. Polling is done here, one question at a time, rather than by msal's loop: a
bad day in the middle does not end the sign-in, and Ctrl-C does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from syncer.errors import AuthError, ConfigError, Unavailable
from syncer.imap_session import ImapSession
from syncer.model import Side
from syncer.oauth_microsoft import PASSING_ERRORS, PASSING_NUMBERS, aadsts_numbers, application, granted
from syncer.outlook_imap import NotConnected, OutlookDialect
from syncer.sign_in import Client, Grant, SignInConfig, address_in
from syncer.tokens import OUTLOOK_SCOPE, SideTokens, error_code, is_token

if TYPE_CHECKING:
    from syncer.https_session import Session

T = TypeVar("T")

REFRESH_SECONDS: Final = 90 * 86400.0
"""A refresh token that is not used lives so long (PROVIDERS 6)."""
_NOT_CONNECTED_PAUSE: Final = 2.0

_AUTHENTICATION: Final = "in the Microsoft Entra admin center open App registrations, your app, Authentication, "
_PUBLIC_CLIENT: Final = f"{_AUTHENTICATION}and set 'Allow public client flows' to Yes; then run this command again"
_ACCOUNT_TYPES: Final = (
    "compare MS_CLIENT_ID with 'Application (client) ID' in the app's Overview; its supported account types have to "
    "include personal Microsoft accounts; and keep MS_TENANT=consumers"
)
_AGAIN: Final = "run the command again, sign in to the Outlook.com account and accept what the page asks for"
REFUSALS: Final[Mapping[int | str, tuple[str, str]]] = {
    7000218: ("the app is not allowed to be a public client", _PUBLIC_CLIENT),
    700016: ("Microsoft does not know this app for personal accounts", _ACCOUNT_TYPES),
    70001: ("Microsoft does not know this app for personal accounts", _ACCOUNT_TYPES),
    70002: ("the app is not allowed to be a public client", _PUBLIC_CLIENT),
    "unauthorized_client": ("Microsoft does not know this app for personal accounts", _ACCOUNT_TYPES),
    9002346: ("the app is for personal accounts only, and MS_TENANT names another kind", "set MS_TENANT=consumers"),
    50011: (
        "the app does not take answers on this machine",
        (
            f"{_AUTHENTICATION}add the platform 'Mobile and desktop applications' with the redirect URI "
            "http://localhost; or sign in without --browser"
        ),
    ),
    7000215: ("the app's secret is another one", "correct MS_CLIENT_SECRET; a public client has none: unset it"),
    7000222: ("the app's secret has expired", "make a new one, or unset MS_CLIENT_SECRET: a public client needs none"),
    65001: ("the access was not consented to", _AGAIN),
    65004: ("the consent was not given", _AGAIN),
    "authorization_declined": ("the sign-in was declined at Microsoft's page", _AGAIN),
    "access_denied": ("the consent was not given", _AGAIN),
    70011: ("the app may not ask for IMAP", _ACCOUNT_TYPES),
    70000: (
        "Microsoft does not let this account sign in now",
        "sign in at account.live.com/activity in a browser and confirm that it was you; then run the command again",
    ),
    70019: ("nobody entered the code in time", "run the command again; a code is good for about 15 minutes"),
    70020: ("nobody entered the code in time", "run the command again; a code is good for about 15 minutes"),
    "expired_token": ("nobody entered the code in time", "run the command again; a code is good for about 15 minutes"),
    "invalid_client": ("the app is not allowed to be a public client", _PUBLIC_CLIENT),
    "invalid_grant": ("Microsoft refuses the sign-in", _AGAIN),
}
"""AADSTS numbers and error codes: what each means, and what helps. ``docs/microsoft-oauth.md`` has the same."""

SWITCH_ON: Final = (
    (
        "In Outlook.com: Settings, Mail, Forwarding and IMAP, 'Let devices and apps use IMAP': on, Save. It is off in "
        "new accounts. Then wait a few minutes."
    ),
    "OUTLOOK_EMAIL has to be the account's primary address, not an alias: see account.microsoft.com, Your info.",
    "At account.live.com/activity look for this sign-in and choose 'This was me'.",
    (
        "If all that is so, Microsoft's server is at fault: for some personal accounts IMAP has been out of order "
        "since December 2024, for hours or for good. Only waiting helps, or another account."
    ),
)
"""What to do when the sign-in is good and the mailbox is not there (PROVIDERS 4.2), the likeliest first."""

_NO_APP: Final = (
    "MS_CLIENT_ID is required: the 'Application (client) ID' of your app registration in Microsoft Entra. How to make "
    "one: docs/microsoft-oauth.md"
)
_NOT_PUBLIC: Final = (
    "MS_CLIENT_SECRET is set, and a device code is for public clients only: unset it (and set 'Allow public client "
    "flows' to Yes in the app), or sign in with --browser"
)


def find_client(config: SignInConfig, stored: SideTokens, *, browser: bool) -> Client:
    """Return the app to sign in with. Raises ConfigError: there is none, or not for a device code."""
    client = (
        Client(config.client_id, config.client_secret, "the settings")
        if config.client_id
        else Client(stored.client_id, config.client_secret or stored.client_secret, "the token store")
    )
    if not client.client_id:
        raise ConfigError([_NO_APP])
    if client.client_secret and not browser:
        raise ConfigError([_NOT_PUBLIC])
    return client


class MicrosoftSignIn:
    """One sign-in under way: msal's application, and what it needs to remember."""

    def __init__(self, config: SignInConfig, client: Client, *, now: Callable[[], float] = time.time) -> None:
        """Ask Microsoft for its configuration. Raises ConfigError, Unavailable."""
        from syncer.https_session import Session

        self._config = config
        self._client = client
        self._now = now
        self._session: Session = Session()
        self._app: Any = self._call(
            lambda: application(
                client.client_id, client.client_secret, self._session, authority=config.authority, tenant=config.tenant
            )
        )

    def ask_for_code(self) -> DeviceCode:
        """Get a code for a person to type. Raises AuthError, Unavailable."""
        flow = self._call(lambda: self._app.initiate_device_flow([OUTLOOK_SCOPE]))
        _check_refusal(flow)
        code, uri = flow.get("user_code"), flow.get("verification_uri")
        if not (isinstance(code, str) and code.isprintable() and 0 < len(code) < 40) or not _is_page(uri):
            raise Unavailable(Side.DESTINATION, "Microsoft's device code endpoint: malformed answer")
        return DeviceCode(code, str(uri), float(flow["expires_at"]), flow)

    def poll(self, code: DeviceCode) -> Grant | None:
        """Ask once whether somebody has signed in with the code; None: not yet.

        To be called every ``code.interval`` seconds. Raises AuthError: refused, declined, expired; Unavailable.
        """
        flow = code.flow
        answer = self._call(lambda: self._app.acquire_token_by_device_flow(flow, exit_condition=lambda _flow: True))
        if answer.get("error") in ("authorization_pending", "slow_down"):
            return None
        return self._granted(answer)

    def browser_address(self, redirect_uri: str, state: str) -> str:
        """Return the address of Microsoft's page; PKCE, state and nonce are msal's."""
        # form_post: the code never stands in an address (msal warns about anything else).
        self._flow = self._app.initiate_auth_code_flow(
            [OUTLOOK_SCOPE],
            redirect_uri=redirect_uri,
            state=state,
            login_hint=self._config.email,
            response_mode="form_post",
        )
        return str(self._flow["auth_uri"])

    def finish(self, parameters: Mapping[str, str]) -> Grant:
        """Exchange the code of the browser's answer for tokens. Raises AuthError, Unavailable."""
        return self._granted(
            self._call(lambda: self._app.acquire_token_by_auth_code_flow(self._flow, dict(parameters)))
        )

    def _call(self, call: Callable[[], T]) -> T:
        """Make one call of msal's, bounded in time. Raises Unavailable: no usable answer."""
        import msal

        from syncer.https_session import TOTAL_SECONDS, BadDay, within

        try:
            return within(TOTAL_SECONDS, call)
        except BadDay as error:
            raise Unavailable(Side.DESTINATION, f"Microsoft: {error}") from None
        except (
            msal.exceptions.MsalError,
            ValueError,
            RuntimeError,
            OverflowError,
            TypeError,
            KeyError,
            AttributeError,
        ):
            # JSON, but with values of other kinds than the protocols promise.
            raise Unavailable(Side.DESTINATION, "Microsoft: malformed answer") from None

    def _granted(self, answer: object) -> Grant:
        """Return what Microsoft granted, if it opens IMAP and lasts. Raises AuthError, Unavailable."""
        if not isinstance(answer, Mapping):
            raise Unavailable(Side.DESTINATION, "Microsoft: malformed answer")
        _check_refusal(answer)
        if "scope" in answer and OUTLOOK_SCOPE.lower() not in str(answer["scope"]).lower().split():
            raise AuthError(Side.DESTINATION, "the access to mail by IMAP was not granted", _AGAIN)
        got = granted(answer, "", self._now)
        if not is_token(got.refresh_token):
            raise AuthError(
                Side.DESTINATION,
                "Microsoft sent no refresh token",
                "run the command again, and accept 'Maintain access to data you have given it access to'",
            )
        return Grant(
            client=self._client,
            access_token=got.access_token,
            expires_at=got.expires_at,
            refresh_token=got.refresh_token,
            address=address_in(answer.get("id_token_claims"), "preferred_username", "email"),
        )


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A code that a person types at ``page`` before ``expires_at``."""

    user_code: str
    page: str
    expires_at: float
    flow: dict[str, Any] = field(repr=False)
    """msal's own; it counts the interval up when Microsoft says slow_down."""

    @property
    def interval(self) -> float:
        """Seconds until the next question (RFC 8628 section 3.5)."""
        interval = self.flow.get("interval")
        return float(interval) if isinstance(interval, int) and 1 <= interval <= 60 else 5.0


def _check_refusal(answer: Mapping[str, Any]) -> None:
    """Raise what Microsoft's refusal means for a person, if this is one. Raises AuthError, Unavailable."""
    if "error" not in answer:
        return
    code, numbers = error_code(answer["error"]), aadsts_numbers(answer)
    words = " ".join([code or "unknown error", *(f"AADSTS{number}" for number in sorted(numbers))])
    if not code or code in PASSING_ERRORS or numbers & PASSING_NUMBERS:
        raise Unavailable(Side.DESTINATION, f"Microsoft could not sign you in now ({words})")
    keys: list[int | str] = [*sorted(numbers, reverse=True), code]
    known = next((REFUSALS[key] for key in keys if key in REFUSALS), None)
    reason, remedy = known or ("Microsoft refuses the sign-in", "look the number up in docs/microsoft-oauth.md")
    raise AuthError(Side.DESTINATION, f"{reason} ({words})", remedy)


def _is_page(uri: object) -> bool:
    return isinstance(uri, str) and uri.startswith("https://") and uri.isprintable() and len(uri) < 200


def probe(config: SignInConfig, grant: Grant, *, pause: Callable[[float], None] = time.sleep) -> str:
    """Sign in to Outlook.com's IMAP server and ask for the folder: an accepted sign-in proves nothing (PROVIDERS 4.2).

    Raises NotConnected, SignInRefused, AuthError, Unavailable, Throttled.
    """
    try:
        return _probe_once(config, grant, pause)
    except NotConnected:
        pause(_NOT_CONNECTED_PAUSE)  # one more sign-in, as a cycle does
        return _probe_once(config, grant, pause)


def _probe_once(config: SignInConfig, grant: Grant, pause: Callable[[float], None]) -> str:
    session = ImapSession.connect(config.imap, OutlookDialect(), config.email, grant.access_token, pause=pause)
    try:
        there = session.status(config.mailbox) is not None
        if not there and session.status("INBOX") is None:
            raise Unavailable(Side.DESTINATION, "the server says that there is no INBOX")
    finally:
        session.close()
    return (
        "the folder for the copies is there"
        if there
        else "the mailbox answers; the folder for the copies is not there yet"
    )
