"""An imaplib2 connection that verifies, pipelines, and keeps every octet as it is.

imaplib2 3.6 gives the frame: its constructor, its three threads, its tagged requests. What it does
on them is replaced, because it (measured, PROVIDERS 8) checks neither certificate nor host name,
connects without a time-out, forgets a literal when any line arrives before the ``+``, rewrites line
ends, cuts literals into lines, logs tokens, and can hang in ``logout``.

Its threads here:

* the writer sends commands in the order they were submitted, a literal in one piece;
* the reader cuts the stream into responses and hands each to the command that wants it;
* the handler watches the clock: no progress for ``timeout`` seconds ends the connection. Only
  while an IDLE stands, silence is no fault.

Promises: every future handed out is settled, in bounded time, whatever the server does. Memory is
bounded by what one response may hold (``imap_responses``), by ``MAX_UNSOLICITED``, and by the answer
limit of the commands in flight. No token, line or literal is ever logged. What the connection's end
means for a command is told by ``ConnectionLost.begun``.
"""

from __future__ import annotations

import contextlib
import queue
import re
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from syncer.errors import NotPermitted, VerbNotAllowed
from syncer.imap_responses import Parts, ProtocolBroken, responses
from syncer.imap_socket import Forbidden, TlsSocket

with warnings.catch_warnings():
    # Its docstrings hold invalid escapes: DeprecationWarning on 3.11, SyntaxWarning from 3.12 on.
    warnings.filterwarnings("ignore", message=".*invalid escape sequence")
    import imaplib2
    from imaplib2.imaplib2 import Request
# It still calls setDaemon and other names that are going away.
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"imaplib2\.imaplib2$")

MAX_UNSOLICITED: Final = 8 << 20
"""Octets of responses that no command wanted, between two that one did."""
LITERAL_LIMIT: Final = 1 << 20
ANSWER_LIMIT: Final = 8 << 20
PROGRESS: Final = 64 << 10
"""Octets that have to move to count as progress while one answer is awaited."""
SLOWEST: Final = 10
"""For so many time-outs an answer may come in dribs and drabs, each in time; then it has to be complete."""
CUT: Final = "connection lost"
_JOIN: Final = 64 << 10
"""Literals up to this size travel in one write with their command."""

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


class _Command:
    """A request with its own way of being written and answered.

    Not imaplib2's: that one makes an Event, and with it two locks, for every command, and nobody here waits for it.
    """

    def __init__(self, client: ImapClient, line: bytes) -> None:
        """Take the next tag; to be called under the client's lock."""
        self.tag: bytes = client.tagpre + str(client.tagnum).encode("ascii")
        client.tagnum += 1
        self.line = line
        self.literal: bytes | bytearray | None = None
        self.literal_limit = 0
        self.answer_limit = 0
        self.sink: Sink | None = None
        self.permit: Callable[[], bool] = lambda: True
        self.answer: Callable[[bytes], bytes | None] | None = None
        self.rests = False
        """It is an IDLE that stands: no answer is due."""
        self.future: Future[Reply] = Future()
        self.asked = False
        """Its line had begun to leave this machine."""
        self.begun = False
        """So had its literal, or it has none."""
        self.whole = False
        """So had its last octet."""
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def continue_literal(self, wanted: bool) -> None:
        """Tell the waiting writer whether the server wants the literal. The first word counts."""
        self._wanted.put(wanted)

    def await_continuation(self) -> bool:
        return self._wanted.get()  # comes with "+", with the tagged answer, or with the connection's end

    def take(self, parts: Parts) -> bool:
        """Offer an untagged response. Raises ProtocolBroken: there is no end of them."""
        if self.sink is None or not self.sink(parts):
            return False
        self.answer_limit -= sum(map(len, parts))
        if self.answer_limit < 0:
            raise ProtocolBroken("an endless answer")
        return True


class Idling:
    """An IDLE (RFC 2177), from its command to its tagged answer."""

    def __init__(self, command: _Command, done: Callable[[], None]) -> None:
        self.command = command
        self.begun: Future[None] = Future()
        """Settled by the server's ``+``, or with ``ended``, if that comes first. Raises ConnectionLost."""
        self.ended: Future[Reply] = command.future
        """The tagged answer. Before ``done`` it means that the server refused, or ended it by itself."""
        self.done = done
        """Says DONE, once ``begun``; from now on the answer is due within the time-out."""
        self.ended.add_done_callback(lambda ended: self.begin(ended.exception()))

    def begin(self, error: BaseException | None = None) -> None:
        """Settle ``begun``; the first word counts, of the reader's thread or of who ends the connection."""
        with contextlib.suppress(InvalidStateError):
            self.begun.set_exception(error) if error is not None else self.begun.set_result(None)


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
        known: Sequence[str] = (),
        opening: Callable[[ImapClient], None] | None = None,
    ) -> None:
        """Connect, verify, read the greeting and the capabilities.

        ``guard`` sees every command before it is sent and raises if it may not be sent. ``known`` are the
        capabilities that the server had when it was last met: it is not asked for them, and ``opening`` may
        submit what it needs no greeting for. What the greeting tells counts, whatever was known.

        Raises OSError (ssl.SSLError and TimeoutError among them): no verified connection;
        ConnectionLost: it ended or broke before the greeting and the capabilities were read.
        """
        self._guard = guard
        self._context = context
        self._connect_timeout = connect_timeout
        self._watch = threading.Condition()
        self._outgoing: queue.SimpleQueue[_Command | bytes | None] = queue.SimpleQueue()
        self._awaiting: _Command | None = None
        self._answering: _Command | None = None
        self._idling: Idling | None = None
        self._greeting: bytes | None = None
        self._bye = ""
        self._ended = ""
        self._unsolicited = 0
        self._moved = 0
        self._note_progress()
        self.capabilities: tuple[str, ...] = tuple(known)
        self._opening = opening
        self.listener: Callable[[Parts], None] = lambda _parts: None
        """Hears, in the reader's thread, the untagged responses that no command wanted."""
        self.Terminate = False
        try:
            super().__init__(host, port, timeout=timeout)
        except imaplib2.IMAP4.abort:
            raise ConnectionLost(self._ended, begun=False) from None
        except imaplib2.IMAP4.error:
            raise ConnectionLost(f"BYE {self._bye}" if self._bye else "not an IMAP4rev1 server", begun=False) from None

    def open(self, host: str | None = None, port: int | None = None) -> None:
        """Connect and verify; see ``TlsSocket``."""
        self.host, self.port = host or "", port or 0
        self.sock = TlsSocket(self.host, self.port, self._context, self._connect_timeout, self._note_moved)
        self._note_progress()

    # -- commands

    def submit(
        self,
        line: bytes,
        *,
        literal: bytes | bytearray | None = None,
        literal_limit: int = LITERAL_LIMIT,
        answer_limit: int = ANSWER_LIMIT,
        sink: Sink | None = None,
        permit: Callable[[], bool] | None = None,
        answer: Callable[[bytes], bytes | None] | None = None,
    ) -> Future[Reply]:
        """Send a command behind those submitted before, without waiting for their answers.

        ``literal`` is the last argument of the command, sent as it is. ``literal_limit`` bounds the
        literals of one response, ``answer_limit`` the octets of all that ``sink`` takes. ``permit`` is
        asked just before the first byte leaves, and again before each further piece of a literal. ``answer``
        turns the argument of a continuation request into the line to send (ValueError: none is left;
        None: nothing is to be sent).

        The future gives the tagged response; its exceptions are ConnectionLost and NotPermitted.
        Raises VerbNotAllowed: the command is not on the allow-list; ConnectionLost: there is no connection.
        """
        self._guard(line)
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError("a command is one line")
        with self._watch:
            command = self._new_command(line)
            command.literal = literal
            command.literal_limit = literal_limit
            command.answer_limit = answer_limit
            command.sink = sink
            command.permit = permit or command.permit
            command.answer = answer
            self._enqueue(command)
        return command.future

    def _new_command(self, line: bytes) -> _Command:
        if self.Terminate:
            raise ConnectionLost(self._ended, begun=False)
        return _Command(self, line)

    def _enqueue(self, command: _Command) -> None:
        if not self.tagged_commands:
            self._note_progress()
            self._watch.notify_all()
        self.tagged_commands[command.tag] = command
        self._outgoing.put(command)

    def submit_idle(self) -> Idling:
        """Send IDLE; the server's news go to ``listener``. No other command may follow before its end.

        Raises VerbNotAllowed, ConnectionLost.
        """
        self._guard(b"IDLE")
        with self._watch:
            command = self._new_command(b"IDLE")
            self._idling = idling = Idling(command, self._done)
            command.answer = self._rest
            self._enqueue(command)
        return idling

    def _rest(self, _argument: bytes) -> None:
        """Take the ``+`` of an IDLE: from now on silence is no fault."""
        with self._watch:
            if self._idling is not None and not self._idling.command.rests:
                self._idling.command.rests = True
                self._idling.begin()

    def _done(self) -> None:
        with self._watch:
            if self._idling is not None and self._idling.command.rests:
                self._guard(b"DONE")
                self._idling.command.rests = False
                self._idling.command.answer = lambda _argument: None
                self._note_progress()
                self._watch.notify_all()
                self._outgoing.put(b"DONE\r\n")

    def _get_capabilities(self) -> None:
        """Read the capabilities: from the greeting's response code where it has one, else by asking, if not known."""
        code = re.match(rb"\[CAPABILITY ([^\]]*)\]", self._greeting or b"", re.IGNORECASE)
        if code:
            self._note_capabilities(code[1])
        elif not self.capabilities:
            self.ask_capabilities().result()

    def ask_capabilities(self) -> Future[Reply]:
        """Ask for the capabilities; they change with the sign-in. Raises ConnectionLost."""
        return self.submit(b"CAPABILITY", sink=self.take_capabilities)

    def take_capabilities(self, parts: Parts) -> bool:
        """Note an untagged CAPABILITY response; a sink."""
        if parts[0][:13].upper() != b"* CAPABILITY ":
            return False
        self._note_capabilities(bytes(parts[0][13:]))
        return True

    def _note_capabilities(self, words: bytes) -> None:
        self.capabilities = tuple(words.decode("ascii", "replace").upper().split())

    # What imaplib2 would send by itself goes round the allow-list.

    def _command(self, name: str, *_args: object, **_kw: object) -> NoReturn:
        """Bar the methods inherited from imaplib2."""
        raise VerbNotAllowed(f"{name}: commands go through submit")

    def send(self, _data: object) -> NoReturn:
        """Bar the way to the socket."""
        raise VerbNotAllowed("commands go through submit")

    def read(self, _size: object) -> NoReturn:
        """Bar the way from the socket."""
        raise VerbNotAllowed("responses go to the commands that want them")

    # -- the end

    def close(self) -> None:
        """Say LOGOUT without waiting for the answer, and end the connection and its threads. Never raises."""
        self._done()
        with contextlib.suppress(ConnectionLost):
            self.submit(b"LOGOUT")
        self._outgoing.put(None)
        self.wrth.join(1.0)
        self._close_threads()

    @property
    def spoke_first(self) -> bool:
        """Tell whether something was submitted without waiting for the greeting, by what was known before."""
        return self._opening is not None

    @property
    def ended(self) -> str:
        """Why the connection ended; empty while it lives."""
        return self._ended

    def shutdown(self) -> None:
        """End the connection at once; what is in flight ends with ConnectionLost."""
        self._end("closed")

    def _close_threads(self) -> None:
        self._end("closed")
        for thread in (self.wrth, self.rdth, self.inth):
            if thread is not threading.current_thread():
                thread.join(5.0)

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
        # The socket first: once it is shut no octet leaves, so a command that has not begun now
        # never does, and ``begun`` says the truth.
        self.sock.shutdown()
        self._outgoing.put(None)
        for orphan in orphans:
            if isinstance(orphan, _Command):
                orphan.continue_literal(False)
                orphan.future.set_exception(ConnectionLost(self._ended, begun=orphan.begun))
            else:
                orphan.abort(self.abort, self._ended)

    # -- imaplib2's threads

    def _writer(self) -> None:
        reason = "closed"
        try:
            while self._write_next():
                pass
        except Forbidden:
            reason = "the lease ran out while the message was being sent"
        except OSError:
            reason = CUT
        finally:
            self._end(reason)

    def _write_next(self) -> bool:
        # Not a loop: its variable would keep a command, and what its sink took, until the next one comes.
        item = self._outgoing.get()
        if item is None or self.Terminate:
            return False
        if isinstance(item, bytes):
            self.sock.send(item)
        else:
            self._write(item)
        return True

    def _write(self, command: _Command) -> None:
        if not command.permit():
            with self._watch:
                known = self.tagged_commands.pop(command.tag, None)
            if known is not None:
                command.future.set_exception(NotPermitted("the lease ran out before the message was sent"))
            return
        head = command.tag + b" " + command.line
        literal = command.literal
        if command.answer is not None:
            self._answering = command
        command.asked = True
        if literal is None:
            command.begun = command.whole = True
            self.sock.send(head + b"\r\n")
        elif self._takes_unasked(len(literal)):
            self._send_with_literal(command, head + b" {%d+}\r\n" % len(literal), literal)
        else:
            self._awaiting = command
            self.sock.send(head + b" {%d}\r\n" % len(literal))
            if command.await_continuation():
                if not command.permit():
                    # There is no other way to take the announcement back.
                    self._end("the lease ran out before the message was sent")
                    return
                self._send_with_literal(command, b"", literal)
        command.literal = None

    def _takes_unasked(self, octets: int) -> bool:
        """Tell whether a literal may be sent without waiting for ``+`` (RFC 7888: LITERAL-, up to 4096 octets)."""
        return "LITERAL+" in self.capabilities or ("LITERAL-" in self.capabilities and octets <= 4096)

    def _send_with_literal(self, command: _Command, head: bytes, literal: bytes | bytearray) -> None:
        """Send what makes the command take effect, as long as it is permitted.

        A run that froze here, and wakes when another has its lease, must not complete what it had begun.
        """
        permit = command.permit
        command.begun = True
        if len(literal) <= _JOIN:
            command.whole = True
            self.sock.send(b"".join((head, literal, b"\r\n")), permit)
        else:
            self.sock.send(head, permit)
            with memoryview(literal) as view:
                self.sock.send(view[:-1], permit)
            command.whole = True
            self.sock.send(bytes(literal[-1:]) + b"\r\n", permit)

    def _reader(self) -> None:
        reason = "closed"
        try:
            for parts in responses(self.sock.receive, self._literal_limit):
                self._dispatch(parts)
        except ProtocolBroken as broken:
            reason = f"protocol broken: {broken}"
        except ValueError:
            reason = "protocol broken: a response that does not parse"
        except OSError:
            reason = CUT
        finally:
            self._end(reason)
            self.sock.close()

    def _handler(self) -> None:
        with self._watch:
            while not self.Terminate:
                if all(isinstance(c, _Command) and c.rests for c in self.tagged_commands.values()):
                    self._watch.wait()
                    continue
                deadline = min(self._sign_at + self.resp_timeout, self._progress_at + SLOWEST * self.resp_timeout)
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._watch.wait(left)
        self._end(f"no answer within {self.resp_timeout:g} s")

    def _note_moved(self, octets: int) -> None:
        self._moved += octets
        if self._moved >= PROGRESS:
            self._note_progress()

    def _note_progress(self) -> None:
        self._moved = 0
        self._progress_at = self._sign_at = time.monotonic()

    # -- responses

    def _literal_limit(self) -> int:
        with self._watch:
            return max(
                (c.literal_limit for c in self.tagged_commands.values() if isinstance(c, _Command)),
                default=LITERAL_LIMIT,
            )

    def _dispatch(self, parts: Parts) -> None:
        line = bytes(parts[0])
        if line.startswith(b"* "):
            self._take_untagged(line, parts)
        elif self._greeting is None:
            raise ProtocolBroken("not the greeting of an IMAP server")
        elif line.startswith(b"+"):
            self._count_unsolicited(parts)
            self._take_continuation(line[1:].strip())
        elif line:
            self._take_tagged(line)
        else:  # an empty line is forgiven
            self._count_unsolicited(parts)

    def _take_untagged(self, line: bytes, parts: Parts) -> None:
        if self._greeting is None:
            self._take_greeting(line)
            return
        if line[2:6].upper() in (b"BYE", b"BYE "):
            self._bye = _plain(line[6:])
        with self._watch:
            commands = [c for c in self.tagged_commands.values() if isinstance(c, _Command)]
        if any(command.take(parts) for command in commands):
            self._unsolicited = 0
            self._sign_at = time.monotonic()
        else:
            self._count_unsolicited(parts)
            self.listener(parts)

    def _count_unsolicited(self, parts: Parts) -> None:
        self._unsolicited += sum(map(len, parts)) + 2
        if self._unsolicited > MAX_UNSOLICITED:
            raise ProtocolBroken("endless data that nobody asked for")

    def _take_greeting(self, line: bytes) -> None:
        kind, _, text = line[2:].partition(b" ")
        if kind.upper() == b"BYE":
            self._bye = _plain(text)
        elif kind.upper() != b"OK":  # PREAUTH: signed in, and nobody knows as whom
            raise ProtocolBroken("not the greeting of an IMAP server")
        self._greeting = text
        self.untagged_responses.append([kind.decode("ascii", "replace").upper(), [text]])
        with self._watch:
            welcome = self.tagged_commands.pop("continuation", None)
        if welcome is not None:
            welcome.deliver((False, text))

    def _request_push(self, *_args: object, name: str | None = None, **_kw: object) -> Any:
        """Await the greeting, which may have come before imaplib2's constructor asks for it."""
        if self._opening is not None:
            with contextlib.suppress(ConnectionLost):  # the greeting that does not come says so, too
                self._opening(self)
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
            line = self._answering.answer(argument)
            if line is not None:
                self._outgoing.put(line + b"\r\n")
        elif self._awaiting is not None:
            self._awaiting.continue_literal(True)

    def _take_tagged(self, line: bytes) -> None:
        tag, _, rest = line.partition(b" ")
        word, _, text = rest.partition(b" ")
        status = word.decode("ascii", "replace").upper()
        with self._watch:
            if tag in self.tagged_commands and status not in ("OK", "NO", "BAD"):
                raise ProtocolBroken("a tagged answer that is none")
            command = self.tagged_commands.get(tag)
            # What has not left cannot have been done, nor refused: it stays among those that end unanswered.
            if command is not None and not (command.whole if status == "OK" else command.asked):
                raise ProtocolBroken("an answer before its question")
            self.tagged_commands.pop(tag, None)
            self._note_progress()
            self._unsolicited = 0
        if command is None:
            # Outlook.com says "Server Unavailable. 15" without tag or asterisk (PROVIDERS 4.3).
            raise ProtocolBroken(f"an answer without a question: {_plain(line)}")
        if command is self._awaiting:
            self._awaiting = None
        if command is self._answering:
            self._answering = None
        command.continue_literal(False)  # an answer before "+" refuses the literal (RFC 7888)
        command.future.set_result(Reply(status, text))


def _plain(text: bytes) -> str:
    return text[:1000].decode("ascii", "replace")
