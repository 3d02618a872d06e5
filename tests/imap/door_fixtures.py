"""The product's own doors to a server on loopback: closed when the test is over, and no thread left.

``pytest_plugins = ["tests.fakes.fixtures", "tests.imap.door_fixtures"]``
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from typing import Final

import pytest

from syncer.demo.certificates import Certificates
from syncer.imap_client import ImapClient
from syncer.imap_session import ImapSession
from syncer.model import Side
from tests.fakes.raw_client import GOOD, USER, xoauth2
from tests.imap.doors import HOST, Connect, SignIn, dialect, endpoint, never

_CLIENT_THREADS: Final = ("(_writer)", "(_reader)", "(_handler)")


@pytest.fixture
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert [thread.name for thread in left if thread.name.endswith(_CLIENT_THREADS)] == []


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    """Trust our authority, as an owner of a private one does."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))


@pytest.fixture
def connect(_no_thread_is_left: None, client_tls: ssl.SSLContext) -> Iterator[Connect]:
    """Connect a bare client that may send anything; ``signed_in``: by XOAUTH2."""
    clients: list[ImapClient] = []

    def connect(port: int, *, timeout: float = 5.0, signed_in: bool = False) -> ImapClient:
        client = ImapClient(
            HOST, port, guard=lambda line: None, context=client_tls, connect_timeout=timeout, timeout=timeout
        )
        clients.append(client)
        if signed_in:
            assert client.submit(b"AUTHENTICATE XOAUTH2 " + xoauth2()).result().status == "OK"
            client.ask_capabilities().result()
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def sign_in(_no_thread_is_left: None, trusted: None) -> Iterator[SignIn]:
    """Connect a session to one side and sign in."""
    sessions: list[ImapSession] = []

    def sign_in(port: int, side: Side, *, timeout: float = 5.0, token: str = GOOD) -> ImapSession:
        session = ImapSession.connect(endpoint(port, side, timeout), dialect(side), USER, token, pause=never)
        sessions.append(session)
        return session

    yield sign_in
    for session in sessions:
        session.close()
