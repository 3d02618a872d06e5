"""Getting a connection: the TLS context that verifies, a few tries within seconds, and words for why there is none."""

from __future__ import annotations

import functools
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncer.errors import Unavailable
from syncer.imap_allow_list import check_allowed
from syncer.imap_client import CUT, ConnectionLost, ImapClient
from syncer.model import Endpoint, Side

CONNECT_TIMEOUT: Final = 15.0
ADVERTISED: Final = ("IMAP4REV1", "SASL-IR", "AUTH=XOAUTH2")
"""What both providers are documented to offer before the sign-in (PROVIDERS 3): they need not be asked first."""
_ATTEMPTS: Final = 3
_FIRST_PAUSE: Final = 0.5


@dataclass(slots=True)
class Acquaintance:
    """What a server is known to offer: by a provider's word, or from when this process last met it. Empty: nothing.

    Shared by the connections to it.
    """

    capabilities: tuple[str, ...] = ()
    """Before the sign-in."""


def connect(
    endpoint: Endpoint,
    side: Side,
    pause: Callable[[float], None],
    known: Acquaintance,
    opening: Callable[[ImapClient], None],
) -> ImapClient:
    """Connect and verify the server; every command is held against the allow-list of ``side``.

    A connection that could not be made is tried again, with pauses that grow: it changes nothing. Not
    so where it was slow to fail, or where more tries would not help: a wrong certificate, a BYE.

    A server that is ``known`` is spoken to by ``opening`` before it has greeted, which saves a round trip. Whatever
    goes wrong then, it is a stranger again, so that the next connection awaits its greeting first.

    Raises Unavailable: no verified connection; ConnectionLost: the server did not greet as it should.
    """

    def once() -> ImapClient:
        capabilities, known.capabilities = known.capabilities, ()
        client = ImapClient(
            endpoint.host,
            endpoint.port,
            guard=lambda line: check_allowed(side, line),
            context=_tls_context(),
            connect_timeout=min(CONNECT_TIMEOUT, endpoint.timeout),
            timeout=endpoint.timeout,
            known=capabilities,
            opening=opening if capabilities else None,
        )
        # Spoken to early, it may have told by now what it offers after the sign-in, which is another list.
        known.capabilities = capabilities or client.capabilities
        return client

    began = time.monotonic()
    try:
        try:
            return once()
        except (OSError, ConnectionLost) as error:
            if not _is_worth_another_try(error) or time.monotonic() - began > CONNECT_TIMEOUT / 2:
                raise
        return _try_again(once, pause)
    except OSError as error:
        raise Unavailable(side, _why_not_connected(endpoint, error)) from None


def _try_again(once: Callable[[], ImapClient], pause: Callable[[float], None]) -> ImapClient:
    """Make the other attempts."""
    import tenacity  # here: it imports asyncio, and most cycles need neither

    pause(_FIRST_PAUSE)
    again = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS - 1) | tenacity.stop_after_delay(CONNECT_TIMEOUT / 2),
        wait=tenacity.wait_exponential(multiplier=2 * _FIRST_PAUSE, max=4.0) + tenacity.wait_random(0.0, 0.4),
        retry=tenacity.retry_if_exception(_is_worth_another_try),
        sleep=pause,
        reraise=True,
    )
    return again(once)


def _is_worth_another_try(error: BaseException) -> bool:
    """Tell whether a connection that was not made may have been cut by chance."""
    if isinstance(error, ConnectionLost):
        return error.reason == CUT
    if isinstance(error, ssl.SSLError):
        return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    return isinstance(error, OSError)


def _tls_context() -> ssl.SSLContext:
    """Return a context that verifies; OpenSSL honours SSL_CERT_FILE for a private CA."""
    paths = ssl.get_default_verify_paths()
    return _context_trusting(*((path, _changed_at(path)) for path in (paths.cafile, paths.capath)))


def _changed_at(path: str | None) -> int:
    """Return when a file or a folder was last written; 0 if that cannot be told."""
    try:
        return Path(path).stat().st_mtime_ns if path else 0
    except OSError:
        return 0


@functools.lru_cache(maxsize=1)
def _context_trusting(*_stores: tuple[str | None, int]) -> ssl.SSLContext:
    """Read the authorities that are trusted: hundreds, which takes longer than all else of an idle cycle.

    So they are kept, as long as it is the same files in the same state.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _why_not_connected(endpoint: Endpoint, error: OSError) -> str:
    """Say why there is no connection, and what to look at."""
    where = f"{endpoint.host}:{endpoint.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {where} cannot be verified ({error.verify_message}): check {endpoint.host_setting},"
            " or name a private CA in SSL_CERT_FILE"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection to {where} ({error.reason or 'handshake failed'}): check {endpoint.host_setting}"
    if isinstance(error, socket.gaierror):
        return f"the name {endpoint.host} cannot be resolved: check {endpoint.host_setting} and the network"
    if isinstance(error, TimeoutError):
        return f"no connection to {where} in time: check the network and {endpoint.host_setting}"
    why = os.strerror(error.errno) if error.errno else "closed"
    return f"no connection to {where} ({why}): check {endpoint.host_setting}"
