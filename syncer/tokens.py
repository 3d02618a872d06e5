"""Values that travel between sign-in, token store and the parts that use tokens. Secrets have no ``repr``.

Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeGuard

from syncer.model import Side

GMAIL_SCOPE: Final = "https://mail.google.com/"
"""The only scope that opens Gmail over IMAP (PROVIDERS 2)."""
OUTLOOK_SCOPE: Final = "https://outlook.office.com/IMAP.AccessAsUser.All"
"""In full: the short form means Microsoft Graph, and IMAP refuses that (PROVIDERS 6)."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a token endpoint gave for a refresh token."""

    access_token: str = field(repr=False)
    expires_at: float
    refresh_token: str | None = field(repr=False)
    """The new one, where the provider sent one; the old one stays in use otherwise."""
    refresh_expires_at: float = 0.0
    """When the refresh token ends, where the provider said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideTokens:
    """What is known of one side; empty texts and zeros stand for what is not."""

    client_id: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    expires_at: float = 0.0
    obtained_at: float = 0.0
    """When the access token came, and with it the refresh token if that rotated."""
    signed_in_at: float = 0.0
    """When a person signed in: the refresh token, or its ancestor, was obtained by consent then."""
    renewed_at: float = 0.0
    """When the refresh token last changed: by sign-in, or because the provider sent a new one."""
    refresh_expires_at: float = 0.0
    """When the refresh token ends by the provider's own word; 0 where it gave none."""
    seeded_from: str = ""
    """SHA-256, in hex, of the environment's refresh token from which this one descends."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What a store holds beside these: kept as it is."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Both sides' tokens: what a token store holds."""

    sides: Mapping[Side, SideTokens] = field(default_factory=dict)
    saved_at: float = 0.0
    """When this was written to the store."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def of(self, side: Side) -> SideTokens:
        """Return what is known of ``side``, which may be nothing."""
        return self.sides.get(side, SideTokens())

    def having(self, side: Side, known: SideTokens) -> Tokens:
        """Return the same with ``side`` replaced."""
        return replace(self, sides={**self.sides, side: known})


def is_token(value: object) -> TypeGuard[str]:
    """Tell whether this can be a token: visible ASCII (RFC 6749 appendix A.12), so that it fits into XOAUTH2."""
    return isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,16384}", value) is not None


def error_code(value: object) -> str:
    """Return an OAuth error code (RFC 6749 section 5.2) fit for a log line; empty if this is none."""
    return value if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,49}", value) else ""


def seconds_of(value: object) -> float:
    """Return a lifetime that a token endpoint sent, which may be a number or its text; 0 if it is none."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if 0 <= value < 1e9 else 0.0
