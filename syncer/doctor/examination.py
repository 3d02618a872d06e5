"""All checks, in the order of causes, put together from the settings.

While DynamoDB cannot be used, names, certificates and clock are still looked at, since nothing of the
user's is needed for that; but no secret is read, no token endpoint asked for a token, and nobody signs
in: the same order that a cycle keeps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from syncer.config import Config, Inspection
from syncer.diagnosis import Check, Found, fail, ok
from syncer.doctor.mailboxes import Mailboxes
from syncer.doctor.network import Network
from syncer.doctor.probes import Place
from syncer.doctor.records import Records
from syncer.doctor.sign_in import SignIn
from syncer.doctor.state import USABLE, State
from syncer.doctor.store import Store
from syncer.model import EXIT_CONFIG
from syncer.token_store import store_of

_HTTPS_PORT: Final = 443


@contextmanager
def examination(
    inspection: Inspection, *, now: Callable[[], float] = time.time, pause: Callable[[float], None] = time.sleep
) -> Iterator[list[Check]]:
    """Yield the checks; connections that they make are closed at the end."""
    config = inspection.config
    state = State(config)
    network = Network(_places(config), now)
    records = Records(config, state, now)
    store = store_of(config)
    sign_in = SignIn(config, store, now)
    mailboxes = Mailboxes(config, sign_in, records, network, pause)
    secret = ("tls.secrets_manager",) if config.tokens_secret_id is not None else ()
    first = records.first_checks()
    before_tokens, holds = first[:3], first[3:]
    try:
        yield [
            Check("settings", "settings", lambda: _settings(inspection)),
            *network.checks(),
            *state.checks(),
            *before_tokens,
            *Store(config, store, (*USABLE, *secret)).checks(),
            *sign_in.checks(USABLE),
            *holds,
            *mailboxes.checks(),
            *records.last_checks(),
            state.last_check(),
        ]
    finally:
        mailboxes.close()
        sign_in.flush()


def _settings(inspection: Inspection) -> Found:
    if not inspection.faults:
        return ok("all there, none wrong")
    faults = inspection.faults
    words = faults[0] if len(faults) == 1 else "\n- ".join([f"{len(faults)} faults:", *faults])
    return fail(words, "correct them in .env or the environment", EXIT_CONFIG)


def _places(config: Config) -> list[Place]:
    """Return every server that a cycle with these settings talks to."""
    places = [_web("dynamodb", "DynamoDB", *_aws(config, "dynamodb"), "AWS_CA_BUNDLE")]
    if config.tokens_secret_id is not None:
        places.append(_web("secrets_manager", "Secrets Manager", *_aws(config, "secretsmanager"), "AWS_CA_BUNDLE"))
    return [
        *places,
        _web("gmail_token", "Google's sign-in", config.gmail_token_uri, ("GMAIL_TOKEN_URI",)),
        _web("microsoft_token", "Microsoft's sign-in", config.ms_authority, ("MS_AUTHORITY",)),
        Place(
            "gmail_imap",
            "Gmail's IMAP",
            config.gmail_imap_host,
            config.gmail_imap_port,
            ("GMAIL_IMAP_HOST", "GMAIL_IMAP_PORT"),
            "SSL_CERT_FILE",
        ),
        Place(
            "outlook_imap",
            "Outlook.com's IMAP",
            config.outlook_imap_host,
            config.outlook_imap_port,
            ("OUTLOOK_IMAP_HOST", "OUTLOOK_IMAP_PORT"),
            "SSL_CERT_FILE",
            prefers_ipv4=True,
        ),
    ]


def _aws(config: Config, service: str) -> tuple[str, tuple[str, ...]]:
    """Return where an AWS service is, and the settings that say so."""
    if config.aws_endpoint_url is not None:
        return config.aws_endpoint_url, ("AWS_ENDPOINT_URL",)
    suffix = "amazonaws.com.cn" if config.aws_region.startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{config.aws_region}.{suffix}", ("AWS_REGION",)


def _web(key: str, title: str, url: str, settings: tuple[str, ...], ca: str = "REQUESTS_CA_BUNDLE") -> Place:
    parts = urlsplit(url)
    port = parts.port or (_HTTPS_PORT if parts.scheme == "https" else 80)
    return Place(key, title, parts.hostname or "", port, settings, ca, url)
