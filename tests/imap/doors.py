"""The product's own doors to a server on loopback, and a server that says what it is told; see ``door_fixtures``."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Protocol

from syncer.gmail_imap import GmailDialect
from syncer.imap_client import ImapClient
from syncer.imap_session import Dialect, ImapSession
from syncer.model import Endpoint, Side
from syncer.outlook_imap import OutlookDialect
from tests.fakes.raw_client import GOOD

HOST: Final = "localhost"
MAIL: Final = b"Message-ID: <1@example.com>\r\nSubject: one\r\n\r\nBody\r\n"
NO_WAITING: Final = 0.3
"""A time-out for tests that run into it."""


class Connect(Protocol):
    """See the fixture ``connect``."""

    def __call__(self, port: int, *, timeout: float = 5.0, signed_in: bool = False) -> ImapClient: ...


class SignIn(Protocol):
    """See the fixture ``sign_in``."""

    def __call__(self, port: int, side: Side, *, timeout: float = 5.0, token: str = GOOD) -> ImapSession: ...


def endpoint(port: int, side: Side, timeout: float = 5.0, *, host: str = HOST) -> Endpoint:
    return Endpoint(host, port, timeout, "GMAIL_IMAP_HOST" if side is Side.SOURCE else "OUTLOOK_IMAP_HOST")


def dialect(side: Side) -> Dialect:
    return GmailDialect() if side is Side.SOURCE else OutlookDialect()


def never(seconds: float) -> None:
    """Wait, in a test where nothing is to be waited for."""
    raise AssertionError(f"{seconds} s would have been waited")


Talk = Callable[[ssl.SSLSocket], None]


@contextmanager
def scripted(context: ssl.SSLContext, talk: Talk) -> Iterator[int]:
    """Serve connections one after the other, in ``talk``'s own words; gives the port."""
    stopping = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not stopping.is_set():
            sock, _ = listener.accept()
            with sock, suppress(OSError):
                if stopping.is_set():
                    return
                sock.settimeout(10)
                with context.wrap_socket(sock, server_side=True) as secured:
                    talk(secured)

    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port: int = listener.getsockname()[1]
        thread = threading.Thread(target=serve, args=(listener,), name="scripted server")
        thread.start()
        try:
            yield port
        finally:
            stopping.set()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 5).close()
            thread.join(10)
            assert not thread.is_alive()


def read_line(sock: ssl.SSLSocket) -> bytes:
    """Return the next line, without its CRLF. Raises OSError: there is none."""
    line = bytearray()
    while not line.endswith(b"\r\n"):
        octet = sock.recv(1)
        if not octet:
            raise ConnectionError("the client has gone")
        line += octet
    return bytes(line[:-2])
