"""One connection: reads commands with their literals, runs the dialogues, lets faults act, sends answers."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.fakes import verbs
from tests.fakes.acting import carry_out, say
from tests.fakes.answers import Answer
from tests.fakes.commands import Atom, Malformed, Parsed, head, parse, shown
from tests.fakes.faults import (
    Bye,
    Close,
    CloseInLiteral,
    Occurrence,
    Raw,
    Reply,
    Stall,
    Untagged,
)
from tests.fakes.verbs import HANDLERS, Context, State
from tests.fakes.wire import Hangup, Wire

if TYPE_CHECKING:
    from tests.fakes.imap_server import ImapServer

_LITERAL: Final = re.compile(rb"\{(\d{1,10})(\+?)\}\Z")
_XOAUTH2: Final = re.compile(r"user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01")
_DIALOGUES: Final = {"AUTHENTICATE": State.ANY, "IDLE": State.SELECTED}
Execute = Callable[[], Answer]


class Unexpected(Malformed):
    """A command that is not known, or not in this state."""


class Session:
    def __init__(self, server: ImapServer, wire: Wire, context: Context) -> None:
        self.wire = wire
        self._server = server
        self._context = context

    def run(self) -> None:
        """Greet, and serve until one side leaves. Raises Hangup."""
        seen = Occurrence(self._context.number, "GREETING", "", None, lambda uid: False)
        greeting = self._server.faults.pick(seen, literal=False)
        carry_out(greeting, self, "*", lambda: Answer(self._server.greeting))
        while True:
            self._serve()

    def _serve(self) -> None:
        segments = [self.wire.read_line()]
        try:
            tag, verb = head(segments[0])
        except Malformed as error:
            self._server.record_malformed(self._context.number, "?", shown("?", segments), str(error))
            return self.wire.write(f"* {self._server.misread}\r\n".encode())
        answer = self._read_literals(tag, verb, segments)
        line = shown(verb, segments)
        self._server.record(self._context.number, verb, line)
        if answer:
            return self.send(tag, answer)
        try:
            parsed = parse(segments)
            self._check_state(parsed)
        except Malformed as error:
            return self._misread(tag, verb, line, error)
        refusal = self._server.early_refusal(self._context, verb, None)
        if refusal:
            return self.send(tag, refusal)
        return self._perform(parsed)

    def _perform(self, parsed: Parsed) -> None:
        def concerns(uid: int) -> bool:
            try:
                if parsed.verb == "UID FETCH":
                    return any(message.uid == uid for _, message in verbs.requested(self._context, parsed.args))
                return parsed.verb == "UID SEARCH" and uid in verbs.found(self._context, parsed.args)
            except (Malformed, IndexError):
                return False  # what is wrong with it is said when it is executed

        seen = Occurrence(self._context.number, parsed.verb, parsed.line, parsed.literal, concerns)
        try:
            carry_out(self._server.faults.pick(seen, literal=False), self, parsed.tag, lambda: self._execute(parsed))
        except Malformed as error:
            self._misread(parsed.tag, parsed.verb, parsed.line, error)

    def _misread(self, tag: str, verb: str, line: str, error: Malformed) -> None:
        self._server.record_malformed(self._context.number, verb, line, str(error))
        self.send(tag, Answer(self._server.unknown if isinstance(error, Unexpected) else self._server.misread))

    def _check_state(self, parsed: Parsed) -> None:
        needed = HANDLERS[parsed.verb][0] if parsed.verb in HANDLERS else _DIALOGUES.get(parsed.verb)
        if needed is None:
            raise Unexpected("unknown command")
        reached = State.SELECTED if self._context.view else State.SIGNED_IN if self._context.user else State.ANY
        if reached < needed:
            raise Unexpected("not in this state")
        view = self._context.view
        if view and view.uidvalidity != view.mailbox.uidvalidity and needed is State.SELECTED:
            self.wire.write(b"* BYE The mailbox is not what it was\r\n")
            self.wire.flush()
            raise Hangup

    def _execute(self, parsed: Parsed) -> Answer:
        if parsed.verb == "AUTHENTICATE":
            return self._authenticate(parsed)
        if parsed.verb == "IDLE":
            return self._idle(parsed)
        return HANDLERS[parsed.verb][1](self._context, parsed.args)

    def _read_literals(self, tag: str, verb: str, segments: list[bytes]) -> Answer | None:
        """Read the rest of a command into ``segments``; return an answer if it is refused before it is complete.

        An answer without text means that everything has been said.
        """
        refusal: Answer | None = None
        while announced := _LITERAL.search(segments[-1]):
            size, free = int(announced[1]), bool(announced[2])
            allowed = self._server.free_literal
            if size > self._server.max_literal or (free and (allowed is None or size > allowed)):
                # The octets are on their way: nothing after this could be understood.
                self._server.record_malformed(self._context.number, verb, shown(verb, segments), "literal not allowed")
                return Answer(self._server.misread, bye="Literal too large")
            refusal = refusal or self._server.early_refusal(self._context, verb, size)
            refusal = refusal or self._fault_at_literal(tag, verb, segments, size, free)
            if refusal and not free:
                return refusal
            if refusal:
                self.wire.skip_octets(size)
                segments += [b"", self.wire.read_line(awaited=False)]
                continue
            if not free:
                self.wire.write(f"+ {self._server.continuation}\r\n".encode())
            octets = self.wire.read_octets(size, awaited=not free)
            segments += [octets, self.wire.read_line(awaited=False)]
        return refusal

    def _fault_at_literal(self, tag: str, verb: str, segments: list[bytes], size: int, free: bool) -> Answer | None:
        seen = Occurrence(self._context.number, verb, shown(verb, segments), None, lambda uid: False)
        match self._server.faults.pick(seen, literal=True):
            case Close(reset):
                raise Hangup(reset)
            case CloseInLiteral(octets, reset):
                if not free:
                    self.wire.write(f"+ {self._server.continuation}\r\n".encode())
                self.wire.read_octets(min(octets, size), awaited=not free)
                raise Hangup(reset)
            case Stall():
                self.wait_for_release()
            case Untagged(lines):
                self.wire.write("".join(f"* {line}\r\n" for line in lines).encode())
            case Reply(text, bye):
                return Answer(text, bye=bye)
            case (Bye() | Raw()) as action:
                say(action, self, tag)
                return Answer("")
            case _:
                pass
        return None

    def _authenticate(self, parsed: Parsed) -> Answer:
        server = self._server
        verbs.arguments(parsed.args, 1, 2)
        mechanism, *initial = parsed.args
        if mechanism != Atom("XOAUTH2") or self._context.user is not None:
            raise Malformed("only XOAUTH2, and once")
        if initial:
            response = initial[0].text.encode() if isinstance(initial[0], Atom) else b"?"
        else:
            self.wire.write(b"+ \r\n")
            response = self.wire.read_line()
        if response == b"*":
            return Answer("BAD AUTHENTICATE cancelled")
        user, token = _credentials(response)
        if server.token_is_good(user, token):
            self._context.user = user
            server.signed_in(self._context)
            return server.welcome(user)
        challenge = server.challenge()
        if challenge is not None:
            self.wire.write(b"+ " + base64.b64encode(challenge.encode()) + b"\r\n")
            if self.wire.read_line():  # whoever does not answer the challenge waits for ever (PROVIDERS 3)
                server.record_malformed(
                    self._context.number, "AUTHENTICATE", "<answer>", "challenge not met by an empty line"
                )
        return server.refused()

    def _idle(self, parsed: Parsed) -> Answer:
        verbs.arguments(parsed.args, 0)
        self.wire.write(f"+ {self._server.idling}\r\n".encode())
        told = len(self._server.announced)
        while True:
            if self._server.announces:
                for response in self._context.open_view().news():
                    self.wire.write(b"".join(response.octets()))
            for octets in self._server.announced[told:]:
                self.wire.write(octets)
                told += 1
            line = self.wire.line_or_wake()
            if line is not None:
                break
        self._server.record(self._context.number, "DONE" if line.upper() == b"DONE" else "?", line.decode("latin-1"))
        if line.upper() != b"DONE":
            raise Malformed("IDLE ends with DONE")
        seen = Occurrence(self._context.number, "DONE", "DONE", None, lambda uid: False)
        answer = Answer(self._server.ok("IDLE"))
        fault = self._server.faults.pick(seen, literal=False)
        if fault is None:
            return answer
        carry_out(fault, self, parsed.tag, lambda: answer)
        return Answer("")

    def send(self, tag: str, answer: Answer) -> None:
        """Send an answer; one without text has been sent. Raises Hangup: it was the last one."""
        if not answer.tagged:
            return
        answer = self._server.last_word(self._context, answer)
        for octets in answer.octets(tag):
            self.wire.write(octets)
        if answer.bye is not None or answer.leave:
            self.wire.flush()
            raise Hangup

    def wait_for_release(self) -> None:
        before = self._server.release_count()
        self.wire.pause(None, lambda: self._server.release_count() > before)

    def later(self, work: Execute, delay: float | None) -> None:
        self._server.later(work, delay)


def _credentials(response: bytes) -> tuple[str, str]:
    """Read an XOAUTH2 response. Raises Malformed: it is none."""
    try:
        found = _XOAUTH2.fullmatch(base64.b64decode(response, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Malformed("not base64") from error
    if not found:
        raise Malformed("not an XOAUTH2 response")
    return found[1], found[2]
