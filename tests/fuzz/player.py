"""A server that plays transcripts of the fakes, twisted; it knows what it said and what it was sent.

No TLS: what is fuzzed lies above it, and a handshake costs more than all the rest of an input.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.raw_client import RawClient, check_token, xoauth2

TAG: Final = b"T0"
"""Stands in a transcript for the tag of the command that is answered."""
MAILS: Final = tuple(
    b"Message-ID: <%d@example.com>\r\nSubject: number %d\r\n\r\n%s" % (n, n, b"This is line 1)\r\nUID 2 (\r\n" * n)
    for n in (1, 2, 3)
)
AT: Final = datetime(2026, 7, 17, 2, 44, 25, tzinfo=UTC)

Transcript = Mapping[str, bytes]
"""What was said to each kind of command, ``GREETING`` among them."""


class Plain:
    """Stands for a TLS context, and does nothing."""

    check_hostname = True
    verify_mode = ssl.CERT_REQUIRED

    @staticmethod
    def wrap_socket(sock: socket.socket, server_hostname: str) -> socket.socket:
        return sock


def kind_of(line: bytes) -> str:
    """Return by which answer of a transcript a command is answered."""
    words = line.upper().split()
    verb = words[1].decode("ascii", "replace") if len(words) > 1 else ""
    if verb != "UID":
        return verb
    if words[2] == b"SEARCH":
        return "SEARCH"
    return "BODIES" if b"BODY.PEEK[]" in line else "LOOK" if b"HEADER.FIELDS" in line else "LISTING"


def gmail_transcript() -> Transcript:
    """Return what Gmail says to a reader of three mails."""
    with FakeGmail(check_token, None) as server:
        for raw in MAILS:
            server.deliver(raw, AT)
        return _recorded(
            server.port,
            b"AUTHENTICATE XOAUTH2 " + xoauth2(),
            b"CAPABILITY",
            b'EXAMINE "INBOX"',
            b"UID FETCH 1:3 (UID X-GM-MSGID RFC822.SIZE INTERNALDATE)",
            b"UID SEARCH SINCE 1-Jul-2026",
            b"UID FETCH 1:3 (UID BODY.PEEK[])",
            b"NOOP",
            b"LOGOUT",
        )


def outlook_transcript() -> Transcript:
    """Return what Outlook.com says to someone who looks and appends."""
    with FakeOutlook(check_token, None, folders=("Gmail",)) as server:
        with RawClient(server.port) as client:
            client.sign_in()
            for raw in MAILS:
                client.append(b"Gmail", raw)
        return _recorded(
            server.port,
            b"AUTHENTICATE XOAUTH2 " + xoauth2(),
            b"CAPABILITY",
            b'STATUS "Gmail" (UIDVALIDITY UIDNEXT)',
            b'EXAMINE "Gmail"',
            b"UID FETCH 1:4294967295 (UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE FROM SUBJECT)])",
            b'LIST "" "*"',
            b'CREATE "Other"',
            b'SUBSCRIBE "Other"',
            b'APPEND "Gmail" () "17-Jul-2026 02:44:25 +0200" {3+}\r\nabc',
            b"NOOP",
            b"LOGOUT",
        )


def _recorded(port: int, *commands: bytes) -> Transcript:
    with RawClient(port) as client:
        said = {"GREETING": client.greeting + b"\r\n"}
        for command in commands:
            tag = client.begin(command)
            lines = client.until(tag)
            lines[-1] = TAG + lines[-1].removeprefix(tag)
            said[kind_of(b"- " + command)] = b"".join(line + b"\r\n" for line in lines)
    return said


@dataclass(frozen=True, slots=True)
class Twist:
    """Changes an answer; ``ends`` closes the connection after it, ``stalls`` says nothing more from there on."""

    change: Callable[[bytes], bytes] = lambda said: said
    ends: bool = False
    stalls: bool = False
    chunk: int = 0
    """Octets that are sent at a time; 0: all at once."""
    pause: float = 0.0
    """Seconds between two chunks."""
    early: bool = False
    """Answer a literal's announcement so, instead of asking for it."""
    flood: bytes = b""
    """Said again and again until the client has gone."""

    def __repr__(self) -> str:
        return f"Twist({self.change(b'<' + TAG + b' OK>')[:200]!r}, ends={self.ends}, stalls={self.stalls})"


GOOD: Final = Twist()


@dataclass(slots=True)
class Append:
    """An APPEND whose literal was received whole."""

    tag: bytes
    raw: bytes
    before: int
    """Octets that had been said by then."""


@dataclass(slots=True)
class Player:
    """Answers connections one after the other; the n-th answer of all, the greetings included, is twisted."""

    transcript: Transcript
    twists: Mapping[int, Twist]
    said: bytearray = field(default_factory=bytearray)
    appends: list[Append] = field(default_factory=list)
    port: int = 0
    _answers: int = 0
    _stalled: threading.Event = field(default_factory=threading.Event)
    _stopping: bool = False
    _listener: socket.socket | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), name="player")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._stalled.set()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        assert self._thread is not None
        assert self._listener is not None
        self._thread.join(20)
        self._listener.close()
        assert not self._thread.is_alive(), "the player hangs"

    def tags_answered(self, status: bytes, since: int = 0) -> set[bytes]:
        return set(re.findall(rb"(?:\A|\n)([^ \r\n]+) " + status + rb"(?=[ \r\n])", self.said[since:], re.IGNORECASE))

    def _serve(self, listener: socket.socket) -> None:
        while True:
            sock, _ = listener.accept()
            with sock, suppress(OSError):
                if self._stopping:
                    return
                sock.settimeout(5)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._converse(sock)

    def _converse(self, sock: socket.socket) -> None:
        if not self._answer(sock, "GREETING", TAG):
            return
        with sock.makefile("rb") as lines:
            while (line := lines.readline(1 << 16)).endswith(b"\n"):
                tag, kind = line.split(b" ", 1)[0], kind_of(line)
                announced = re.search(rb"\{(\d+)(\+?)\}\r\n\Z", line)
                if announced:
                    twist = self.twists.get(self._answers, GOOD)
                    if twist.early and not announced[2]:
                        if not self._answer(sock, kind, tag):
                            return
                        continue
                    if not announced[2]:
                        self._say(sock, b"+ go on\r\n")
                    raw = lines.read(int(announced[1]))
                    if len(raw) < int(announced[1]):
                        return
                    self.appends.append(Append(tag, raw, len(self.said)))
                    lines.readline(16)
                if not self._answer(sock, kind, tag) or kind == "LOGOUT":
                    return

    def _answer(self, sock: socket.socket, kind: str, tag: bytes) -> bool:
        """Answer a command; return whether the connection goes on."""
        twist = self.twists.get(self._answers, GOOD)
        self._answers += 1
        good = self.transcript.get(kind, TAG + b" OK done\r\n")
        said = twist.change(
            good.replace(b"\r\n" + TAG + b" ", b"\r\n" + tag + b" ")
            if not good.startswith(TAG)
            else tag + good[len(TAG) :]
        )
        said = said.replace(b"\0TAG", tag)
        step = twist.chunk or max(len(said), 1)
        for at in range(0, len(said), step):
            self._say(sock, said[at : at + step])
            if twist.pause and self._stalled.wait(twist.pause):
                return False
        while twist.flood and not self._stopping:
            sock.sendall(twist.flood)
        if twist.stalls:
            self._stall(sock)
        return not (twist.ends or twist.stalls)

    def _say(self, sock: socket.socket, octets: bytes) -> None:
        self.said += octets  # before it is sent: what the client has, was said
        sock.sendall(octets)

    def _stall(self, sock: socket.socket) -> None:
        with suppress(OSError):
            while not self._stopping and sock.recv(1 << 16):
                pass


_CLIENT_THREADS: Final = ("(_writer)", "(_reader)", "(_handler)")


@contextmanager
def no_thread_fails_or_stays() -> Iterator[None]:
    """Check that the client's threads end, and that none of them ends by an error of ours."""
    failures: list[str] = []
    before = threading.excepthook
    threading.excepthook = lambda told: failures.append(repr(told.exc_value))
    try:
        yield
    finally:
        threading.excepthook = before
    assert failures == []
    until = time.monotonic() + 5
    while left := [thread.name for thread in threading.enumerate() if thread.name.endswith(_CLIENT_THREADS)]:
        assert time.monotonic() < until, f"left: {left}"
        time.sleep(0.005)


def served(said: bytes | bytearray, uid: int, body: bytes | bytearray) -> bool:
    """Tell whether a body was said whole, as the BODY[] of exactly this UID."""
    octets = bytes(said)
    marks: Sequence[bytes] = (b"{%d}\r\n" % len(body), b"{%d}\n" % len(body))
    for mark in marks:
        at = octets.find(mark + body)
        while at >= 0:
            line = octets[octets.rfind(b"\n", 0, at) + 1 : at]
            rest = octets[at + len(mark) + len(body) :].split(b"\n", 1)[0]
            if re.search(rb"BODY\[\] \Z", line, re.IGNORECASE) and re.search(
                rb"UID 0*%d\b" % uid, line + rest, re.IGNORECASE
            ):
                return True
            at = octets.find(mark + body, at + 1)
    quoted = body.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return bool(re.search(rb'BODY\[\] "' + re.escape(bytes(quoted)) + b'"', octets, re.IGNORECASE))
