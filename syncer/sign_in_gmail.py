"""Signing in at Google: the address of its page, the exchange of its code, and the OAuth client to use.

The flow of a desktop program: a browser, a loopback redirect, PKCE (RFC 7636) with S256. Device codes
are not to be had for mail, pasted codes are gone (PROVIDERS 2). ``openid email`` is asked for beside the mail: the
ID token then names the account that signed in. Google has no library that does this with a pasted answer beside the
browser's and a check of the state in both, so it is done here, over ``https_session``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from syncer.errors import AuthError, ConfigError, Unavailable
from syncer.gmail_imap import GmailDialect
from syncer.imap_session import ImapSession
from syncer.model import Side
from syncer.oauth_gmail import CLIENT_ERRORS, PASSING_ERRORS
from syncer.sign_in import Client, Grant, SignInConfig, address_in, claims_of
from syncer.tokens import GMAIL_SCOPE, SideTokens, error_code, is_token

SCOPES: Final = f"{GMAIL_SCOPE} openid email"
TESTING_SECONDS: Final = 7 * 86400 + 3600
"""A refresh token of a project in "Testing" lives seven days from consent (PROVIDERS 2)."""
CLIENT_FILES: Final = "client_secret*.json"
MAX_CLIENT_FILE_BYTES: Final = 65536
_TRIES: Final = 3
_TRY_SECONDS: Final = 20.0
"""No further try of an exchange after so long: a code is good for a few minutes, and a person waits."""

PUBLISH: Final = (
    "in the Google Cloud console open Google Auth Platform, Audience, press 'Publish app' so that the status is "
    "'In production' (no verification is needed for your own mailbox), then run this command again: publishing does "
    "not mend a token that was made before"
)
NEW_CLIENT: Final = (
    "in the Google Cloud console open Google Auth Platform, Clients, make a client of the type 'Desktop app', download "
    "its JSON file and run this command again with --client-secrets FILE"
)
_CHECK_CLIENT: Final = (
    "compare GMAIL_CLIENT_ID and GMAIL_CLIENT_SECRET with the client in the Google Cloud console (Google Auth "
    "Platform, Clients), or download its JSON file and run this command again with --client-secrets FILE"
)
_ADMIN: Final = (
    "ask the administrator of the account's organisation to allow this app, or use an account that no organisation "
    "manages"
)
REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "access_denied": (
        "the consent was not given",
        (
            "run the command again, and allow the access. If Google itself said no (Error 403), the project has the "
            "status 'Testing' and this account is not among its test users: publish the project"
        ),
    ),
    "deleted_client": ("Google has deleted this OAuth client (it does so after six months without use)", NEW_CLIENT),
    "invalid_client": ("Google does not know this OAuth client, or its secret is another one", _CHECK_CLIENT),
    "disabled_client": ("this OAuth client is switched off", NEW_CLIENT),
    "unauthorized_client": ("this OAuth client may not sign in this way: it is no 'Desktop app'", NEW_CLIENT),
    "redirect_uri_mismatch": ("this OAuth client does not take answers on this machine: no 'Desktop app'", NEW_CLIENT),
    "org_internal": (
        "the project is for the members of one organisation only",
        "in the Google Cloud console open Google Auth Platform, Audience, and set the user type to 'External'",
    ),
    "admin_policy_enforced": ("the administrator of this account's organisation does not allow this app", _ADMIN),
    "restricted_client": ("this OAuth client may not ask for mail", NEW_CLIENT),
    "invalid_grant": (
        "Google does not take the code: it was used before, or it is too old",
        "run the command again, and finish within a few minutes",
    ),
}
"""Google's error codes: what each means, and what helps. ``docs/google-oauth.md`` has the same."""

_NO_CLIENT: Final = (
    "no OAuth client: give its JSON file from the Google Cloud console by --client-secrets FILE, or set "
    "GMAIL_CLIENT_ID and GMAIL_CLIENT_SECRET. How to make one: docs/google-oauth.md"
)


def settings_client(config: SignInConfig) -> Client | None:
    """Return the client that the settings name, if they do. Raises ConfigError: only half of it."""
    if not config.client_id and not config.client_secret:
        return None
    if not config.client_secret:
        raise ConfigError(["GMAIL_CLIENT_SECRET is required beside GMAIL_CLIENT_ID: a desktop client has both"])
    if not config.client_id:
        raise ConfigError(["GMAIL_CLIENT_ID is required beside GMAIL_CLIENT_SECRET"])
    return Client(config.client_id, config.client_secret, "the settings")


def find_client(config: SignInConfig, stored: SideTokens, file: Path | None, folder: Path) -> Client:
    """Return the OAuth client to sign in with: from ``file``, the settings, the token store, or a file in ``folder``.

    Raises ConfigError: there is none, or the file is not what Google gives for a desktop client.
    """
    if file is not None:
        return read_client(file)
    if client := settings_client(config):
        return client
    if stored.client_id and stored.client_secret:
        return Client(stored.client_id, stored.client_secret, "the token store")
    found = sorted(folder.glob(CLIENT_FILES))
    if len(found) == 1:
        return read_client(found[0])
    if found:
        names = ", ".join(path.name for path in found[:5])
        raise ConfigError([f"several {CLIENT_FILES} are in this folder ({names}): choose one by --client-secrets FILE"])
    raise ConfigError([_NO_CLIENT])


def read_client(path: Path) -> Client:
    """Return the client of a ``client_secret*.json`` as Google's console gives it. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_CLIENT_FILE_BYTES))
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigError([f"--client-secrets: {path.name} cannot be read ({reason})"]) from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        content = {}
    installed = content.get("installed")
    if isinstance(installed, dict):
        client_id, client_secret = installed.get("client_id"), installed.get("client_secret")
        if is_token(client_id) and is_token(client_secret):
            return Client(client_id, client_secret, f"the file {path.name}")
    kind = (
        "a client of the type 'Web application'"
        if "web" in content
        else "a service account's key, which opens no personal mailbox"
        if content.get("type") == "service_account"
        else "not the JSON file of an OAuth client"
    )
    raise ConfigError([f"--client-secrets: {path.name} is {kind}. What is needed: {NEW_CLIENT}"])


@dataclass(frozen=True, slots=True)
class GmailRequest:
    """A sign-in that is under way."""

    client: Client
    redirect_uri: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    """PKCE's secret: who has only the code cannot exchange it."""

    @classmethod
    def new(cls, client: Client, redirect_uri: str, state: str) -> GmailRequest:
        """Make one, with a verifier of its own (RFC 7636 section 4.1: 43 to 128 characters)."""
        return cls(client, redirect_uri, state, secrets.token_urlsafe(64))

    def address(self, config: SignInConfig) -> str:
        """Return the address of Google's page, for the browser."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        query = {
            "client_id": self.client.client_id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": SCOPES,
            "state": self.state,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
            "access_type": "offline",  # else there is no refresh token
            "prompt": "consent",  # else there is none the second time
            "login_hint": config.email,
        }
        return f"{config.auth_uri}?{urllib.parse.urlencode(query)}"

    def finish(
        self,
        config: SignInConfig,
        answer: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> Grant:
        """Exchange the code of Google's answer for tokens, and check what was granted.

        Raises AuthError: refused, or less than asked. Raises Unavailable: no usable answer.
        """
        if "error" in answer:
            raise refusal(error_code(answer["error"]))
        form = {
            "grant_type": "authorization_code",
            "code": answer.get("code", ""),
            "client_id": self.client.client_id,
            "client_secret": self.client.client_secret,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
        }
        return _granted(self.client, _exchange(config.token_uri, form, pause), now())


def refusal(code: str) -> AuthError | Unavailable:
    """Return the error for one of Google's error codes."""
    if not code or code in PASSING_ERRORS:
        return Unavailable(Side.SOURCE, f"Google could not sign you in now ({code or 'unknown error'})")
    reason, remedy = REFUSALS.get(
        code,
        ("", _CHECK_CLIENT if code in CLIENT_ERRORS else "look the code up in docs/google-oauth.md, and try again"),
    )
    return AuthError(Side.SOURCE, f"{reason} ({code})" if reason else f"Google refuses: {code}", remedy)


def _exchange(uri: str, form: Mapping[str, str], pause: Callable[[float], None]) -> Mapping[str, Any]:
    """Return the token endpoint's answer; asked again after a bad day, since a person has just done their part.

    Raises AuthError, Unavailable.
    """
    from syncer.https_session import TOTAL_SECONDS, BadDay, Session, within

    def call() -> Any:
        with Session() as session:
            return session.post(uri, data=dict(form)).json()

    since = time.monotonic()
    bad_day = ""
    for tried in range(_TRIES):
        try:
            answer: Mapping[str, Any] = within(TOTAL_SECONDS, call)
        except BadDay as error:
            bad_day = str(error)
            if time.monotonic() - since > _TRY_SECONDS:
                break
            pause(2.0**tried if tried < _TRIES - 1 else 0.0)
            continue
        code = error_code(answer.get("error")) if "error" in answer else ""
        if bad_day and code == "invalid_grant":
            break  # the try without an answer may have used up the code
        if "error" in answer:
            raise refusal(code)
        return answer
    raise Unavailable(Side.SOURCE, f"Google's token endpoint: {bad_day}")


def _granted(client: Client, answer: Mapping[str, Any], now: float) -> Grant:
    """Return what Google granted, if it opens IMAP and lasts. Raises AuthError, Unavailable."""
    access, refresh_token, scope = answer.get("access_token"), answer.get("refresh_token"), answer.get("scope")
    if isinstance(scope, str) and GMAIL_SCOPE not in scope.split():
        raise AuthError(
            Side.SOURCE,
            "the access to mail was not granted: its box was not ticked",
            "run the command again, and on Google's page tick the box 'Read, compose, send and permanently delete all "
            "your email from Gmail' (IMAP knows no smaller permission; this program only reads)",
        )
    if not is_token(access):
        raise Unavailable(Side.SOURCE, "Google's token endpoint: malformed answer")
    if not is_token(refresh_token):
        raise AuthError(
            Side.SOURCE,
            "Google sent no refresh token",
            "open myaccount.google.com/connections, remove this app's access, and run the command again",
        )
    ends_in = _seconds(answer.get("refresh_token_expires_in"))
    return Grant(
        client=client,
        access_token=access,
        expires_at=now + _seconds(answer.get("expires_in")),
        refresh_token=refresh_token,
        refresh_expires_at=now + ends_in if ends_in else 0.0,
        address=address_in(claims_of(answer.get("id_token")), "email"),
    )


def lifetime_warning(grant: Grant, now: float) -> tuple[str, str]:
    """Return what there is to say about the refresh token's end, and what to do about it, if anything."""
    left = grant.refresh_expires_at - now
    if not grant.refresh_expires_at:
        return _NO_END_NAMED, ""
    if left <= TESTING_SECONDS:
        return f"this token ends in {left / 86400:.1f} days: {_TESTING}", PUBLISH
    again = "run this command again before that"
    return f"this token ends in {left / 86400:.0f} days: you allowed the access for a limited time", again


_NO_END_NAMED: Final = (
    "Google named no end for this token. If the project's status is still 'Testing', it ends in seven days all the "
    "same: look at Google Auth Platform, Audience"
)
_TESTING: Final = "the Google project has the publishing status 'Testing', or you allowed the access for a limited time"


def probe(config: SignInConfig, grant: Grant, *, pause: Callable[[float], None] = time.sleep) -> str:
    """Sign in to Gmail's IMAP server, open the INBOX for reading, and tell what is in it.

    Raises SignInRefused, AuthError, Unavailable, Throttled.
    """
    session = ImapSession.connect(config.imap, GmailDialect(), config.email, grant.access_token, pause=pause)
    try:
        selected = session.examine(config.mailbox).result()
    finally:
        session.close()
    return f"{selected.exists:,} messages in the INBOX" if selected.exists != 1 else "1 message in the INBOX"


def _seconds(value: object) -> float:
    """Return a lifetime in seconds; 0 if it is none."""
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e9 else 0.0
