"""A verified TLS connection that two threads share: one sends, one receives, and anyone may end it.

Promises: chain and host name were verified before the first octet; no octet leaves in the clear, nor
any at all after ``shutdown`` has returned; whoever waits in ``send`` or ``receive`` then ends with
OSError at once.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

_CHUNK: Final = 256 << 10
_SHORTEST_HANDSHAKE: Final = 0.05


class Forbidden(OSError):
    """The rest may not be sent any more: the connection is of no further use."""


class TlsSocket:
    """One connection. ``moved`` is told of all octets that come and go, in the thread that moved them."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, timeout: float, moved: Callable[[int], None]
    ) -> None:
        """Connect and verify, all within ``timeout`` seconds, IPv4 first (PROVIDERS 1.5, 4.2).

        Raises OSError (ssl.SSLError and TimeoutError among them): no verified connection.
        """
        if not context.check_hostname or context.verify_mode is not ssl.CERT_REQUIRED:
            raise ValueError("TLS verification must stay on")
        raw = _connect(host, port, timeout)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(raw)
            self._sock = context.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise
        self._sock.setblocking(False)
        self._fd = self._sock.fileno()
        self._moved = moved
        self._ended = False
        # An SSL object must not be read and written at once. And ``shutdown`` turns it into a plain
        # socket, which must not be used any more: whoever is about to has to see ``_ended`` first.
        self._lock = threading.Lock()

    def receive(self, view: memoryview) -> int:
        """Fill ``view`` with what there is, at least one octet. Raises OSError: the connection has ended."""
        while True:
            try:
                with self._lock:
                    self._check()
                    count = self._sock.recv_into(view)
            except (ssl.SSLWantReadError, BlockingIOError):
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
            else:
                if count == 0:
                    raise OSError("closed by the server")
                self._moved(count)
                return count

    def send(self, data: bytes | bytearray | memoryview, permit: Callable[[], bool] = lambda: True) -> None:
        """Send all of it; ``permit`` is asked before each piece that goes to the system.

        Raises Forbidden: it said no, and what was sent so far is not all. Raises OSError: the connection has ended.
        """
        view = memoryview(data)
        at = 0
        while at < len(view):
            if not permit():
                raise Forbidden
            try:
                with self._lock:
                    self._check()
                    sent = self._sock.send(view[at : at + _CHUNK])
            except (ssl.SSLWantWriteError, BlockingIOError):
                self._wait(select.POLLOUT)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            else:
                at += sent
                self._moved(sent)

    def shutdown(self) -> None:
        """End the connection, at once and without a word."""
        with self._lock:
            self._ended = True
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and give the socket back. For the receiving thread, when it leaves."""
        self.shutdown()
        with contextlib.suppress(OSError):
            self._sock.close()

    def _check(self) -> None:
        if self._ended:
            raise OSError("closed")

    def _wait(self, events: int) -> None:
        poll = select.poll()
        poll.register(self._fd, events)
        poll.poll(1000)  # wakes at once when the socket is shut down


def _keep_alive(raw: socket.socket) -> None:
    """Have the system ask in silence whether the other end is there, often enough for home routers to remember us."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 120), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3)):
        if (option := getattr(socket, name, None)) is not None:  # not every system has all of them
            raw.setsockopt(socket.IPPROTO_TCP, option, value)


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    """Connect to the first address that answers; what is left of ``timeout`` is the socket's, for the handshake.

    Raises OSError: what the first address said, as the others may be of a family that this machine does not have.
    """
    deadline = time.monotonic() + timeout
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, "no host name") from None
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left)
            sock.connect(address)
            sock.settimeout(max(deadline - time.monotonic(), _SHORTEST_HANDSHAKE))
        except OSError as error:
            sock.close()
            failure = failure or error
        else:
            return sock
    raise failure or TimeoutError("timed out")
