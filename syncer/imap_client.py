"""An imaplib2 connection that verifies, pipelines, and keeps every octet as it is.

imaplib2 3.6 gives the frame: its constructor, its three threads, its tagged requests. What it does
on them is replaced, because it (measured, PROVIDERS 8) checks neither certificate nor host name,
connects without a time-out, forgets a literal when any line arrives before the ``+``, rewrites line
ends, cuts literals into lines, logs tokens, and can hang in ``logout``.

Its threads here:

* the writer sends commands in the order they were submitted, a literal in one piece;
* the reader cuts the stream into responses and hands each to the command that wants it;
* the handler watches the clock: no progress for ``timeout`` seconds ends the connection.

Promises: every future handed out is settled, in bounded time, whatever the server does. Memory is
bounded by ``MAX_LINE``, ``MAX_UNSOLICITED`` and the literal limit of the commands in flight. No
token, line or literal is ever logged. What the connection's end means for a command is told by
``ConnectionLost.begun``.
"""

from __future__ import annotations

import contextlib
import queue
import re
import select
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from syncer.errors import NotPermitted, VerbNotAllowed

with warnings.catch_warnings():
    # Its docstrings hold invalid escapes: DeprecationWarning on 3.11, SyntaxWarning from 3.12 on.
    warnings.filterwarnings("ignore", message=".*invalid escape sequence")
    import imaplib2
    from imaplib2.imaplib2 import Request
# It still calls setDaemon and other names that are going away.
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"imaplib2\.imaplib2$")

MAX_LINE: Final = 8 << 20
"""Octets in one response without its literals: SEARCH answers a million UIDs in one line."""
MAX_PARTS: Final = 1000
"""Lines and literals in one response."""
MAX_UNSOLICITED: Final = 8 << 20
"""Octets of responses that no command wanted, between two that one did."""
DEFAULT_LITERAL_LIMIT: Final = 1 << 20
PROGRESS: Final = 64 << 10
"""Octets that have to move to count as progress while one answer is awaited."""
_CHUNK: Final = 256 << 10
_JOIN: Final = 64 << 10
"""Literals up to this size travel in one write with their command."""

_LITERAL: Final = re.compile(rb"\{(\d{1,10})\}$")

Parts = Sequence[bytes | bytearray]
"""One response: its first line without CRLF, then literal and line in turn."""
Sink = Callable[[Parts], bool]
"""Takes an untagged response, in the reader's thread; False if it is not for this command. ValueError: it is broken."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A tagged response."""

    status: str
    """OK, NO or BAD."""
    text: bytes


class ConnectionLost(Exception):
    """The connection ended before the command was answered."""

    def __init__(self, reason: str, *, begun: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.begun = begun
        """The command (with a literal: its literal) had begun to leave this machine."""


class _ProtocolBroken(Exception):
    """The server said what no server may say; the text holds nothing of it."""


class _Command(Request):  # type: ignore[misc]  # imaplib2 ships no types
    """A request with its own way of being written and answered."""

    def __init__(self, client: ImapClient, line: bytes) -> None:
        super().__init__(client, name=line.split(b" ", 1)[0].decode("ascii"))
        self.line = line
        self.literal: bytes | bytearray | None = None
        self.literal_limit = 0
        self.sink: Sink | None = None
        self.permit: Callable[[], bool] | None = None
        self.answer: Callable[[bytes], bytes] | None = None
        self.future: Future[Reply] = Future()
        self.begun = False
        self._go = threading.Event()
        self._literal_wanted = False

    def continue_literal(self, wanted: bool) -> None:
        """Tell the waiting writer whether the server wants the literal. The first word counts."""
        if not self._go.is_set():
            self._literal_wanted = wanted
            self._go.set()

    def await_continuation(self) -> bool:
        self._go.wait()  # ends with "+", with the tagged answer, or with the connection
        return self._literal_wanted


class ImapClient(imaplib2.IMAP4_SSL):  # type: ignore[misc]  # imaplib2 ships no types
    """One connection. ``submit`` is the only way to send a command."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        guard: Callable[[bytes], None],
        context: ssl.SSLContext,
        connect_timeout: float,
        timeout: float,
    ) -> None:
        """Connect, verify, read the greeting and the capabilities.

        ``guard`` sees every command before it is sent and raises if it may not be sent.

        Raises OSError (ssl.SSLError and TimeoutError among them): no verified connection;
        ConnectionLost: it ended or broke before the greeting and the capabilities were read.
        """
        if not context.check_hostname or context.verify_mode is not ssl.CERT_REQUIRED:
            raise ValueError("TLS verification must stay on")
        self._guard = guard
        self._context = context
        self._connect_timeout = connect_timeout
        self._tls_lock = threading.Lock()  # an SSL object must not be read and written at once
        self._watch = threading.Condition()
        self._outgoing: queue.SimpleQueue[_Command | bytes | None] = queue.SimpleQueue()
        self._awaiting: _Command | None = None
        self._answering: _Command | None = None
        self._greeting: bytes | None = None
        self._bye = ""
        self._ended = ""
        self._unsolicited = 0
        self._moved = 0
        self._last_progress = time.monotonic()
        self.capabilities: tuple[str, ...] = ()
        self.Terminate = False
        try:
            super().__init__(host, port, timeout=timeout)
        except (imaplib2.IMAP4.error, imaplib2.IMAP4.abort):
            raise ConnectionLost(self._ended or self._bye or "not an IMAP4rev1 server", begun=False) from None

    # -- the socket

    def open(self, host: str | None = None, port: int | None = None) -> None:
        """Connect within the time-out, IPv4 first (PROVIDERS 1.5, 4.2), and verify chain and host name."""
        self.host, self.port = host or "", port or 0
        raw = _connect(self.host, self.port, self._connect_timeout)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self.sock = self._context.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise
        self.sock.setblocking(False)
        self.read_fd = self.sock.fileno()
        self._last_progress = time.monotonic()

    def _await_socket(self, events: int) -> None:
        poll = select.poll()
        poll.register(self.read_fd, events)
        poll.poll(1000)  # wakes at once when the socket is shut down
        if self.Terminate:
            raise OSError("closed")

    def _receive(self, view: memoryview) -> int:
        while True:
            try:
                with self._tls_lock:
                    count: int = self.sock.recv_into(view)
            except (ssl.SSLWantReadError, BlockingIOError):
                self._await_socket(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._await_socket(select.POLLOUT)
            else:
                if count == 0:
                    raise OSError("closed by the server")
                self._count_moved(count)
                return count

    def _send(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        at = 0
        while at < len(view):
            try:
                with self._tls_lock:
                    sent = self.sock.send(view[at : at + _CHUNK])
            except (ssl.SSLWantWriteError, BlockingIOError):
                self._await_socket(select.POLLOUT)
            except ssl.SSLWantReadError:
                self._await_socket(select.POLLIN)
            else:
                at += sent
                self._count_moved(sent)

    def _count_moved(self, octets: int) -> None:
        self._moved += octets
        if self._moved >= PROGRESS:
            self._progress()

    def _progress(self) -> None:
        self._moved = 0
        self._last_progress = time.monotonic()

    # -- commands

    def submit(
        self,
        line: bytes,
        *,
        literal: bytes | bytearray | None = None,
        literal_limit: int = DEFAULT_LITERAL_LIMIT,
        sink: Sink | None = None,
        permit: Callable[[], bool] | None = None,
        answer: Callable[[bytes], bytes] | None = None,
    ) -> Future[Reply]:
        """Send a command behind those submitted before, without waiting for their answers.

        ``literal`` is the last argument of the command, sent as it is. ``literal_limit`` bounds a literal
        in the answer. ``permit`` is asked just before the first byte leaves. ``answer`` turns the
        argument of a continuation request into the line to send.

        The future gives the tagged response; its exceptions are ConnectionLost and NotPermitted.
        Raises VerbNotAllowed: the command is not on the allow-list; ConnectionLost: there is no connection.
        """
        self._guard(line)
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError("a command is one line")
        with self._watch:
            if self.Terminate:
                raise ConnectionLost(self._ended, begun=False)
            command = _Command(self, line)
            command.literal = literal
            command.literal_limit = literal_limit
            command.sink = sink
            command.permit = permit
            command.answer = answer
            if not self.tagged_commands:
                self._progress()
                self._watch.notify_all()
            self.tagged_commands[command.tag] = command
            self._outgoing.put(command)
        return command.future

    def _command(self, name: str, *_args: object, **_kw: object) -> None:
        """Bar the methods inherited from imaplib2: they would go round the allow-list."""
        raise VerbNotAllowed(f"{name}: commands go through submit")

    def _get_capabilities(self) -> None:
        """Read the capabilities: from the greeting's response code where it has one, else by asking."""
        code = re.match(rb"\[CAPABILITY ([^\]]*)\]", self._greeting or b"", re.IGNORECASE)
        if code:
            self._note_capabilities(code[1])
        else:
            self.ask_capabilities()

    def ask_capabilities(self) -> None:
        """Ask for the capabilities; they change with the sign-in. Raises ConnectionLost."""
        self.submit(b"CAPABILITY", sink=self.take_capabilities).result()

    def take_capabilities(self, parts: Parts) -> bool:
        """Note an untagged CAPABILITY response; a sink."""
        if parts[0][:13].upper() != b"* CAPABILITY ":
            return False
        self._note_capabilities(bytes(parts[0][13:]))
        return True

    def _note_capabilities(self, words: bytes) -> None:
        self.capabilities = tuple(words.decode("ascii", "replace").upper().split())

    def close(self) -> None:
        """Say LOGOUT without waiting for the answer, and end the connection and its threads. Never raises."""
        with contextlib.suppress(ConnectionLost):
            self.submit(b"LOGOUT").add_done_callback(lambda done: done.exception())
        self._outgoing.put(None)
        self.wrth.join(1.0)
        self._end("closed")
        self._close_threads()

    def abort_now(self, reason: str) -> None:
        """End the connection at once; what is in flight ends with ConnectionLost."""
        self._end(reason)

    @property
    def ended(self) -> str:
        """Why the connection ended; empty while it lives."""
        return self._ended

    def _close_threads(self) -> None:
        self._end("closed")
        for thread in (self.wrth, self.rdth, self.inth):
            if thread is not threading.current_thread():
                thread.join(5.0)

    def shutdown(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def _end(self, reason: str) -> None:
        """End the connection and settle what was in flight; the first reason counts."""
        with self._watch:
            if self.Terminate:
                return
            self._ended = f"BYE {self._bye}" if self._bye else reason
            self.Terminate = True
            orphans = list(self.tagged_commands.values())
            self.tagged_commands.clear()
            self._watch.notify_all()
        # The socket first: once it is shut, a command that has not begun cannot begin any more,
        # and ``begun`` below says the truth.
        self.shutdown()
        self._outgoing.put(None)
        for orphan in orphans:
            if isinstance(orphan, _Command):
                orphan.continue_literal(False)
                orphan.future.set_exception(ConnectionLost(self._ended, begun=orphan.begun))
            else:
                orphan.abort(self.abort, self._ended)

    # -- imaplib2's threads

    def _writer(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while (item := self._outgoing.get()) is not None:
                if self.Terminate:
                    return
                if isinstance(item, bytes):
                    self._send(item)
                else:
                    self._write(item)
            return
        self._end("connection lost while sending")

    def _write(self, command: _Command) -> None:
        if command.permit is not None and not command.permit():
            with self._watch:
                known = self.tagged_commands.pop(command.tag, None)
            if known is not None:
                command.future.set_exception(NotPermitted("the lease ran out before the message was sent"))
            return
        head = command.tag + b" " + command.line
        literal = command.literal
        if command.answer is not None:
            self._answering = command
        if literal is None:
            command.begun = True
            self._send(head + b"\r\n")
        elif self._takes_unasked(len(literal)):
            command.begun = True
            self._send_with_literal(head + b" {%d+}\r\n" % len(literal), literal)
        else:
            self._awaiting = command
            self._send(head + b" {%d}\r\n" % len(literal))
            if command.await_continuation():
                command.begun = True
                self._send_with_literal(b"", literal)
        command.literal = None

    def _takes_unasked(self, octets: int) -> bool:
        """Tell whether a literal may be sent without waiting for ``+`` (RFC 7888: LITERAL-, up to 4096 octets)."""
        return "LITERAL+" in self.capabilities or ("LITERAL-" in self.capabilities and octets <= 4096)

    def _send_with_literal(self, head: bytes, literal: bytes | bytearray) -> None:
        if len(literal) <= _JOIN:
            self._send(b"".join((head, literal, b"\r\n")))
        else:
            self._send(head)
            self._send(literal)
            self._send(b"\r\n")

    def _reader(self) -> None:
        try:
            for parts in self._responses():
                self._dispatch(parts)
        except _ProtocolBroken as broken:
            self._end(f"protocol broken: {broken}")
        except ValueError:
            self._end("protocol broken: a response that does not parse")
        except OSError:
            self._end("connection lost")
        finally:
            with contextlib.suppress(OSError):
                self.sock.close()

    def _handler(self) -> None:
        with self._watch:
            while not self.Terminate:
                if not self.tagged_commands:
                    self._watch.wait()
                    continue
                left = self._last_progress + self.resp_timeout - time.monotonic()
                if left <= 0:
                    break
                self._watch.wait(left)
        self._end(f"no answer within {self.resp_timeout:g} s")

    # -- responses

    def _responses(self) -> Iterator[Parts]:
        buffer = bytearray(PROGRESS)
        view = memoryview(buffer)
        start = end = 0  # what is unread lies between them
        parts: list[bytes | bytearray] = []
        line_start = b""
        line_octets = literal_octets = 0
        while True:
            newline = buffer.find(b"\n", start, end)
            if newline < 0:
                line_start += bytes(view[start:end])
                if len(line_start) + line_octets > MAX_LINE:
                    raise _ProtocolBroken("an endless line")
                start, end = 0, self._receive(view)
                continue
            line = line_start + bytes(view[start:newline])
            line_start, start = b"", newline + 1
            line = line.removesuffix(b"\r")
            line_octets += len(line)
            parts.append(line)
            literal = _LITERAL.search(line) if line.endswith(b"}") else None
            if literal is None:
                yield parts
                parts, line_octets, literal_octets = [], 0, 0
                continue
            size = int(literal[1])
            literal_octets += size
            if literal_octets > self._literal_limit() or len(parts) > MAX_PARTS or line_octets > MAX_LINE:
                raise _ProtocolBroken("a literal larger than what was asked for")
            body = bytearray(size)
            got = min(size, end - start)
            body[:got] = view[start : start + got]
            start += got
            with memoryview(body) as target:
                while got < size:
                    got += self._receive(target[got : got + _CHUNK])
            parts.append(body)

    def _literal_limit(self) -> int:
        with self._watch:
            return max(
                (c.literal_limit for c in self.tagged_commands.values() if isinstance(c, _Command)),
                default=DEFAULT_LITERAL_LIMIT,
            )

    def _dispatch(self, parts: Parts) -> None:
        line = bytes(parts[0])
        if line.startswith(b"* "):
            self._take_untagged(line, parts)
        elif line.startswith(b"+"):
            self._take_continuation(line[1:].strip())
        elif line:  # an empty line is forgiven
            self._take_tagged(line)

    def _take_untagged(self, line: bytes, parts: Parts) -> None:
        if self._greeting is None:
            self._take_greeting(line)
            return
        if line[2:6].upper() in (b"BYE", b"BYE "):
            self._bye = _plain(line[6:])
        with self._watch:
            sinks = [c.sink for c in self.tagged_commands.values() if isinstance(c, _Command) and c.sink]
        if any(sink(parts) for sink in sinks):
            self._unsolicited = 0
            self._progress()
            return
        self._unsolicited += sum(len(part) for part in parts)
        if self._unsolicited > MAX_UNSOLICITED:
            raise _ProtocolBroken("endless data that nobody asked for")

    def _take_greeting(self, line: bytes) -> None:
        kind, _, text = line[2:].partition(b" ")
        self._greeting = text
        if kind.upper() == b"BYE":
            self._bye = _plain(text)
        self.untagged_responses.append([kind.decode("ascii", "replace").upper(), [text]])
        with self._watch:
            welcome = self.tagged_commands.pop("continuation", None)
        if welcome is not None:
            welcome.deliver((False, text))

    def _request_push(self, *_args: object, name: str | None = None, **_kw: object) -> Any:
        """Await the greeting, which may have come before imaplib2's constructor asks for it."""
        with self._watch:
            request = Request(self, name=name)
            if self.Terminate:
                request.abort(self.abort, self._ended)
            elif self._greeting is not None:
                request.deliver((False, self._greeting))
            else:
                self.tagged_commands["continuation"] = request
                self._watch.notify_all()
        return request

    def _take_continuation(self, argument: bytes) -> None:
        if self._answering is not None and self._answering.answer is not None:
            self._outgoing.put(self._answering.answer(argument) + b"\r\n")
        elif self._awaiting is not None:
            self._awaiting.continue_literal(True)

    def _take_tagged(self, line: bytes) -> None:
        tag, _, rest = line.partition(b" ")
        status, _, text = rest.partition(b" ")
        with self._watch:
            command = self.tagged_commands.pop(tag, None)
            self._progress()
            self._unsolicited = 0
        if command is None:
            # Outlook.com says "Server Unavailable. 15" without tag or asterisk (PROVIDERS 4.3).
            self._bye = self._bye or _plain(line)
            raise _ProtocolBroken("an answer without a question")
        if status.upper() not in (b"OK", b"NO", b"BAD"):
            self.tagged_commands[tag] = command
            raise _ProtocolBroken("a tagged answer that is none")
        if command is self._awaiting:
            self._awaiting = None
        if command is self._answering:
            self._answering = None
        command.continue_literal(False)  # an answer before "+" refuses the literal (RFC 7888)
        command.future.set_result(Reply(status.decode("ascii").upper(), text))


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    """Connect to the first address that answers, IPv4 before IPv6, all within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    failure: OSError = TimeoutError("timed out")
    for family, kind, protocol, _, address in found:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left)
            sock.connect(address)
            sock.settimeout(max(deadline - time.monotonic(), 1.0))  # for the handshake
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _plain(text: bytes) -> str:
    return text.decode("ascii", "replace")
