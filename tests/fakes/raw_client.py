"""A client that sends what it is told and shows what comes: for what no IMAP library would do or show."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from types import TracebackType
from typing import Final, Self

USER: Final = "me@example.com"
GOOD: Final = "good-token"


def check_token(user: str, token: str) -> bool:
    return (user, token) == (USER, GOOD)


def xoauth2(token: str = GOOD) -> bytes:
    return base64.b64encode(f"user={USER}\x01auth=Bearer {token}\x01\x01".encode())


class RawClient:
    """One connection; every wait ends after ten seconds. The greeting is read at once."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, *, greeted: bool = True) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), 10)
        if tls is not None:
            self._sock = tls.wrap_socket(self._sock, server_hostname="localhost")
        self._file = self._sock.makefile("rb")
        self._tags = 0
        try:
            self.greeting = self.line() if greeted else b""
        except (EOFError, OSError):
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._sock.close()

    def send(self, *octets: bytes) -> None:
        self._sock.sendall(b"".join(octets))

    def line(self) -> bytes:
        """Return the next line with its literals. Raises EOFError: the server has gone; ConnectionError: by reset."""
        whole = b""
        while True:
            line = self._file.readline()
            if not line.endswith(b"\r\n"):
                raise EOFError(whole + line)
            whole += line
            announced = re.search(rb"\{(\d+)\}\r\n\Z", line)
            if not announced:
                return whole.removesuffix(b"\r\n")
            octets = self._file.read(int(announced[1]))
            whole += octets
            if len(octets) < int(announced[1]):
                raise EOFError(whole)

    def until(self, tag: bytes) -> list[bytes]:
        """Return all lines up to the one with this tag, which is the last."""
        lines = [self.line()]
        while not lines[-1].startswith(tag + b" "):
            lines.append(self.line())
        return lines

    def command(self, text: bytes) -> list[bytes]:
        """Send a command and return its answer, the tagged line last and without its tag."""
        tag = self.begin(text)
        lines = self.until(tag)
        return [*lines[:-1], lines[-1].removeprefix(tag + b" ")]

    def begin(self, text: bytes) -> bytes:
        """Send a command; return its tag."""
        self._tags += 1
        tag = b"T%d" % self._tags
        self.send(tag, b" ", text, b"\r\n")
        return tag

    def append(self, mailbox: bytes, raw: bytes, options: bytes = b"") -> list[bytes]:
        """Append with a literal that does not wait."""
        return self.command(b"APPEND %s %s{%d+}\r\n%s" % (mailbox, options, len(raw), raw))

    def sign_in(self, token: str = GOOD) -> Self:
        answer = self.command(b"AUTHENTICATE XOAUTH2 " + xoauth2(token))
        assert answer[-1].startswith(b"OK "), answer
        return self

    def rest(self) -> bytes:
        """Return all that still comes until the server ends the connection. Raises ConnectionError: by reset."""
        return self._file.read()

    def silent_for(self, seconds: float) -> bool:
        """Whether nothing comes for so long. The connection cannot be read afterwards."""
        self._sock.settimeout(seconds)
        try:
            return self._file.read(1) is None
        except TimeoutError:
            return True
