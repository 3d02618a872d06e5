"""What signing in has in common on both sides: the settings it needs, and whether what came of it is any good.

A person signs in at the provider (``sign_in_gmail``, ``sign_in_outlook``); what comes back is a ``Grant``.
Before it is saved it is held against three things: the scope (by the side's own module), the account, and the
mailbox itself. The ID token names the account that signed in, which makes for an exact error; but the last
word is the mail server's, since the user of XOAUTH2 has to be the token's owner (PROVIDERS 3):

    ID token names   mail server says    then
    the account      come in             saved
    the account      no, or not now      saved; the token is good, ``Mailbox.problem`` says what is to be done
    another one      come in             saved: an alias
    another one      no, or not now      AuthError, nothing is saved
    nobody           come in             saved
    nobody           no                  AuthError, nothing is saved
    nobody           not now             saved, and not proved
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from syncer.config import Config, load_part
from syncer.errors import AuthError, SideError, SignInRefused
from syncer.model import Endpoint, Side

STORE_SETTINGS: Final = ("TOKENS_FILE", "TOKENS_SECRET_ID", "AWS_REGION", "AWS_ENDPOINT_URL", "LOG_LEVEL")
GMAIL_SETTINGS: Final = (
    *("GMAIL_EMAIL", "GMAIL_CLIENT_ID", "GMAIL_CLIENT_SECRET", "GMAIL_REFRESH_TOKEN", "GMAIL_AUTH_URI"),
    *("GMAIL_TOKEN_URI", "GMAIL_IMAP_HOST", "GMAIL_IMAP_PORT", "IMAP_TIMEOUT_SECONDS", *STORE_SETTINGS),
)
OUTLOOK_SETTINGS: Final = (
    *("OUTLOOK_EMAIL", "MS_CLIENT_ID", "MS_CLIENT_SECRET", "MS_TENANT", "MS_REFRESH_TOKEN", "MS_AUTHORITY"),
    *("OUTLOOK_TARGET_FOLDER", "OUTLOOK_IMAP_HOST", "OUTLOOK_IMAP_PORT", "IMAP_TIMEOUT_SECONDS", *STORE_SETTINGS),
)
PATIENCE_SECONDS: Final = 600.0
"""How long a person may take at the provider's pages: two-step sign-in, a telephone in another room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInConfig:
    """The settings of one side, as far as signing in needs them; empty texts stand for what is not set."""

    side: Side
    email: str = field(repr=False)
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    """The one that the settings hold now: what is saved elsewhere says that it came after this one."""
    imap: Endpoint
    mailbox: str
    """What the check of the mailbox asks for."""
    auth_uri: str = ""
    """Google's sign-in page."""
    token_uri: str = ""
    """Google's token endpoint."""
    authority: str = ""
    """Microsoft's identity platform."""
    tenant: str = ""
    tokens_file: Path | None
    tokens_secret_id: str | None
    aws_region: str
    aws_endpoint_url: str | None
    log_level: str


def load_gmail(env_file: Path, environ: Mapping[str, str] | None = None) -> SignInConfig:
    """Read what signing in to Gmail needs; tokens, AWS and the other side may still be missing. Raises ConfigError."""
    config = _load(GMAIL_SETTINGS, env_file, environ)
    return SignInConfig(
        side=Side.SOURCE,
        email=config.gmail_email,
        client_id=config.gmail_client_id or "",
        client_secret=config.gmail_client_secret or "",
        refresh_token=config.gmail_refresh_token or "",
        mailbox="INBOX",
        auth_uri=config.gmail_auth_uri,
        token_uri=config.gmail_token_uri,
        **_shared(config, Side.SOURCE),
    )


def load_outlook(env_file: Path, environ: Mapping[str, str] | None = None) -> SignInConfig:
    """Read what signing in to Outlook.com needs; see ``load_gmail``. Raises ConfigError."""
    config = _load(OUTLOOK_SETTINGS, env_file, environ)
    return SignInConfig(
        side=Side.DESTINATION,
        email=config.outlook_email,
        client_id=config.ms_client_id or "",
        client_secret=config.ms_client_secret or "",
        refresh_token=config.ms_refresh_token or "",
        mailbox=config.outlook_target_folder,
        authority=config.ms_authority,
        tenant=config.ms_tenant,
        **_shared(config, Side.DESTINATION),
    )


def _load(names: Collection[str], env_file: Path, environ: Mapping[str, str] | None) -> Config:
    return load_part(names, optional=("AWS_REGION",), env_file=env_file, environ=environ)


def _shared(config: Config, side: Side) -> dict[str, Any]:
    """Return what both sides' sign-ins read alike."""
    return {name.lower(): getattr(config, name.lower()) for name in STORE_SETTINGS} | {"imap": config.endpoint(side)}


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth client, and where it was found, in words for a person."""

    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    """Empty for a public client."""
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a provider gave after a person signed in, the scope checked."""

    client: Client
    access_token: str = field(repr=False)
    expires_at: float
    refresh_token: str = field(repr=False)
    refresh_expires_at: float = 0.0
    """When the refresh token ends by the provider's own word; 0 where it gave none."""
    address: str = field(repr=False)
    """Whom the ID token names; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What the mail server said to the new token."""

    found: str = ""
    """What was seen, in words for a person."""
    problem: SideError | None = None
    """Why nothing was seen, though the token is good or may be."""


def check_account(config: SignInConfig, grant: Grant, probe: Callable[[], str]) -> Mailbox:
    """Find out by ``probe``, a real IMAP sign-in, whether the grant opens the account of the settings.

    Raises AuthError: it is another account's. See the table above.
    """
    same = is_same_account(grant.address, config.email) if grant.address else None
    try:
        return Mailbox(found=probe())
    except SideError as error:
        if same is False or (same is None and isinstance(error, SignInRefused)):
            raise _another_account(config, grant.address) from None
        return Mailbox(problem=error)


def _another_account(config: SignInConfig, signed_in: str) -> AuthError:
    setting, provider = SETTING_OF[config.side], PROVIDER_OF[config.side]
    who = f"as {masked(signed_in)}" if signed_in else "as another account, it seems:"
    but = f", but {setting} is {masked(config.email)}" if signed_in else f" the mail server refuses it for {setting}"
    alias = (
        ". An alias does not do: it has to be the account's primary address" if config.side is Side.DESTINATION else ""
    )
    return AuthError(
        config.side,
        f"you signed in {who}{but}",
        f"run the command again and sign in to the account of {setting} (in {provider}'s page choose 'Use another "
        f"account', or sign out there first); or, if you meant the other one, correct {setting}{alias}",
    )


SETTING_OF: Final = {Side.SOURCE: "GMAIL_EMAIL", Side.DESTINATION: "OUTLOOK_EMAIL"}
PROVIDER_OF: Final = {Side.SOURCE: "Google", Side.DESTINATION: "Microsoft"}


def is_same_account(one: str, other: str) -> bool:
    """Tell whether two addresses are one account; Gmail ignores dots and what follows a plus sign."""
    return _canonical(one) == _canonical(other)


def _canonical(address: str) -> str:
    local, _, domain = address.strip().lower().rpartition("@")
    if domain in ("gmail.com", "googlemail.com"):
        return local.partition("+")[0].replace(".", "") + "@gmail.com"
    return f"{local}@{domain}"


def masked(address: str) -> str:
    """Return an address as its owner knows it again, and nobody else: ``m...@example.com``."""
    local, _, domain = address.rpartition("@")
    shown = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "?" for c in domain)
    return f"{local[:1] if local[:1].isalnum() else '?'}...@{shown[:80]}"


def claims_of(id_token: object) -> Mapping[str, Any]:
    """Return what an ID token says; nothing if it is none.

    Its signature is not checked: it came from the token endpoint over verified TLS, which OpenID Connect
    Core 3.1.3.7 takes for as good.
    """
    try:
        part = str(id_token).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, IndexError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def address_in(claims: object, *names: str) -> str:
    """Return the first of these claims that is an address; empty if none is."""
    values = [claims.get(name) for name in names] if isinstance(claims, Mapping) else []
    return next(
        (v for v in values if isinstance(v, str) and v.count("@") == 1 and v.isprintable() and len(v) < 321), ""
    )
