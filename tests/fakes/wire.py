"""One connection's octets: TLS or plain, buffered both ways, counted.

The socket does not block: every wait also watches a wake-up pipe, by which the server ends it, releases a
stalled command or announces a change to a connection in IDLE.

A round trip is counted when the server has answered everything, waits, and then something comes. Answers are
held back while the client still sends; with ``settle`` they are held back that much longer, so that the count
is exact even for a client that is slower in sending its batch than this is in answering it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable

CHUNK = 65536
HOLD_BACK = 1 << 18
"""No more than this many octets of answers are held back."""
LINGER = 0.5
"""How long the last words may take to arrive before the socket goes: a reset would destroy them."""


class Hangup(Exception):
    """The connection ends here; with ``reset`` by a TCP RST."""

    def __init__(self, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


class Wire:
    def __init__(self, sock: socket.socket, stopping: Callable[[], bool], settle: float) -> None:
        self.round_trips = 0
        self.max_line = 1 << 16
        self._sock = sock
        self._stopping = stopping
        self._settle = settle
        self._wake_in, self._wake_out = socket.socketpair()
        self._received = bytearray()
        self._held: list[bytes] = []
        self._held_octets = 0
        self._spoken = False  # since the last counted round trip
        for one in (sock, self._wake_in, self._wake_out):
            one.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure(self, context: ssl.SSLContext) -> None:
        """Do the TLS handshake. Raises ssl.SSLError or OSError: the client did not like it; Hangup."""
        self._sock = secured = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        while True:
            try:
                return secured.do_handshake()
            except ssl.SSLWantReadError:
                self._wait(reading=True)
            except ssl.SSLWantWriteError:
                self._wait(reading=False)

    def wake(self) -> None:
        """End a wait, from any thread."""
        with contextlib.suppress(OSError):
            self._wake_out.send(b"!")

    def read_line(self, *, awaited: bool = True) -> bytes:
        """Return a line without its CRLF. ``awaited``: nothing is owed to the client but the answers held back.

        Raises Hangup: the client has gone, the server stops, or the line is endless.
        """
        at = 0
        while (end := self._received.find(b"\n", at)) < 0:
            at = len(self._received)
            if at > self.max_line:
                raise Hangup
            self._fill(awaited=awaited and not at)
        line = bytes(self._received[:end]).removesuffix(b"\r")
        del self._received[: end + 1]
        return line

    def read_octets(self, count: int, *, awaited: bool) -> bytes:
        """Return exactly so many octets. Raises Hangup."""
        while len(self._received) < count:
            self._fill(awaited=awaited)
            awaited = False
        octets = bytes(memoryview(self._received)[:count])
        del self._received[:count]
        return octets

    def skip_octets(self, count: int) -> None:
        """Swallow a literal without keeping it. Raises Hangup."""
        while count:
            if not self._received:
                self._fill(awaited=False)
            taken = min(count, len(self._received))
            del self._received[:taken]
            count -= taken

    def line_or_wake(self) -> bytes | None:
        """Return the next line, or None when woken before it came. Raises Hangup."""
        self.flush()
        while b"\n" not in self._received:
            if not self._receive():
                if self._wait(reading=True):
                    return None
            elif self._spoken:
                self._count()
        return self.read_line()

    def pause(self, seconds: float | None, over: Callable[[], bool] = lambda: False) -> None:
        """Do nothing for a time (None: for ever), or until ``over`` holds after a wake-up. Raises Hangup."""
        self.flush()
        deadline = None if seconds is None else time.monotonic() + seconds
        while not over():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._wait(reading=None, timeout=left)

    def write(self, octets: bytes) -> None:
        """Queue octets for the client; they leave when the server would otherwise wait. Raises Hangup."""
        self._spoken = True
        self._held.append(octets)
        self._held_octets += len(octets)
        if self._held_octets > HOLD_BACK:
            self.flush()

    def flush(self) -> None:
        """Send all that is queued. Raises Hangup: the client has gone, or the server stops."""
        held, self._held, self._held_octets = self._held, [], 0
        small: list[bytes] = []
        for octets in held:
            if len(octets) < CHUNK:
                small.append(octets)
                continue
            self._send(b"".join(small))
            small = []
            self._send(octets)
        self._send(b"".join(small))

    def _send(self, octets: bytes) -> None:
        view = memoryview(octets)
        while view:
            try:
                view = view[self._sock.send(view[:CHUNK]) :]
            except (ssl.SSLWantWriteError, BlockingIOError):
                self._wait(reading=False)
            except ssl.SSLWantReadError:
                self._wait(reading=True)
            except OSError as error:
                raise Hangup from error

    def _fill(self, *, awaited: bool) -> None:
        """Get more octets, sending what is held back only if none come by themselves."""
        if self._receive():
            return
        if self._held and self._settle:
            self._wait(reading=True, timeout=self._settle)
            if self._receive():
                return
        self.flush()
        while not self._receive():
            self._wait(reading=True)
        if awaited and self._spoken:
            self._count()

    def _count(self) -> None:
        self.round_trips += 1
        self._spoken = False

    def _receive(self) -> bool:
        try:
            octets = self._sock.recv(CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False
        except OSError as error:
            raise Hangup from error
        if not octets:
            raise Hangup
        self._received += octets
        return True

    def _wait(self, *, reading: bool | None, timeout: float | None = None) -> bool:
        """Wait for the socket (None: only for a wake-up). Return whether it was woken. Raises Hangup: stopping."""
        if self._stopping():
            raise Hangup
        readers = [self._wake_in, *([self._sock] if reading else [])]
        ready, _, _ = select.select(readers, [self._sock] if reading is False else [], [], timeout)
        if self._wake_in not in ready:
            return False
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)
        if self._stopping():
            raise Hangup
        return True

    def close(self, *, reset: bool = False) -> None:
        """End the connection: with TLS's farewell and time for the last words to arrive, or by a reset."""
        try:
            self._close_socket(reset)
        finally:
            self._wake_in.close()
            self._wake_out.close()

    def _close_socket(self, reset: bool) -> None:
        if isinstance(self._sock, ssl.SSLSocket) and not reset:
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()  # sends close_notify; the client's own is not waited for
        plain = socket.socket(fileno=self._sock.detach()) if isinstance(self._sock, ssl.SSLSocket) else self._sock
        with plain, contextlib.suppress(OSError):
            if reset:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            plain.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + LINGER
            while (left := deadline - time.monotonic()) > 0 and not self._stopping():
                ready, _, _ = select.select([plain, self._wake_in], [], [], left)
                if self._wake_in in ready:
                    self._wake_in.recv(CHUNK)
                if plain in ready and not plain.recv(CHUNK):
                    return
