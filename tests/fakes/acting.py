"""Carries out one command with one fault: the only place where the actions get their meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, assert_never

from tests.fakes.answers import Answer, Literal, Response, line
from tests.fakes.faults import (
    Action,
    Bye,
    Close,
    CloseInLiteral,
    CommitLate,
    CutAnswer,
    Delay,
    LoseReply,
    Place,
    Raw,
    Reply,
    ShortLiteral,
    Stall,
    Trickle,
    Untagged,
    WithoutUid,
)
from tests.fakes.wire import Hangup, Wire


class Stage(Protocol):
    """What carrying out needs of the connection and its server."""

    wire: Wire

    def send(self, tag: str, answer: Answer) -> None:
        """Send an answer; ends the connection where the answer says so."""

    def wait_for_release(self) -> None:
        """Sleep until the test calls ``release()``."""

    def later(self, work: Callable[[], Answer], delay: float | None) -> None:
        """Execute without a client."""


def carry_out(action: Action | None, stage: Stage, tag: str, execute: Callable[[], Answer]) -> None:
    """Execute the command and answer it, or whatever the action wants. Raises Hangup."""
    match action:
        case None | CloseInLiteral():
            stage.send(tag, execute())
        case Close(reset):
            raise Hangup(reset)
        case LoseReply(reset):
            execute()
            raise Hangup(reset)
        case CommitLate(delay, reset):
            stage.later(execute, delay)
            raise Hangup(reset)
        case Reply() | Bye() | Raw():
            if action.executed:
                execute()
            say(action, stage, tag)
        case Stall(executed):
            answer = execute() if executed else None
            stage.wait_for_release()
            stage.send(tag, answer or execute())
        case Delay(seconds):
            stage.wire.pause(seconds)
            stage.send(tag, execute())
        case Untagged() | ShortLiteral() | WithoutUid():
            stage.send(tag, _changed(execute(), action))
        case Trickle():
            _trickle(stage.wire, b"".join(execute().octets(tag)), action)
        case CutAnswer():
            _cut(stage.wire, execute(), tag, action)
        case _:
            assert_never(action)


def say(action: Reply | Bye | Raw, stage: Stage, tag: str) -> None:
    """Send what the action says instead of the answer. Raises Hangup."""
    if isinstance(action, Reply):
        stage.send(tag, Answer(action.text, bye=action.bye))
        return
    if isinstance(action, Bye):
        stage.wire.write(f"* BYE {action.text}\r\n".encode())
    else:
        octets = action.data.replace(b"<tag>", tag.encode())
        for _ in range(action.times):
            stage.wire.write(octets)
    if isinstance(action, Bye) or action.close:
        stage.wire.flush()
        raise Hangup


def _changed(answer: Answer, fault: Untagged | ShortLiteral | WithoutUid) -> Answer:
    match fault:
        case Untagged():
            return _pushed_in(answer, fault)
        case ShortLiteral(missing):
            return _shortened(answer, missing)
        case WithoutUid():
            return _thinned(answer, fault)


def _pushed_in(answer: Answer, fault: Untagged) -> Answer:
    lines = [line(text) for text in fault.lines]
    if fault.place is Place.DATA:
        responses = lines + answer.responses
    elif fault.place is Place.BETWEEN:
        responses = [one for response in answer.responses for one in (response, *lines)]
    else:
        responses = answer.responses + lines
    return replace(answer, responses=responses)


def _shortened(answer: Answer, missing: int) -> Answer:
    responses = list(answer.responses)
    for at, response in enumerate(responses):
        literals = [piece for piece in response.pieces if isinstance(piece, Literal)]
        if literals:
            first = literals[0]
            short = b"{%d}\r\n" % len(first.octets) + first.octets[: max(0, len(first.octets) - missing)]
            pieces = tuple(short if piece is first else piece for piece in response.pieces)
            responses[at] = Response(pieces, response.uid)
            break
    return replace(answer, responses=responses)


def _thinned(answer: Answer, fault: WithoutUid) -> Answer:
    kept = []
    for response in answer.responses:
        head = response.pieces[0]
        if isinstance(head, bytes) and head.startswith(b"SEARCH"):
            words = [word for word in head.split(b" ") if word != b"%d" % fault.uid]
            kept.append(Response((b" ".join(words),)))
        elif response.uid != fault.uid:
            kept.append(response)
    return replace(answer, responses=kept, tagged=fault.tagged or answer.tagged)


def _trickle(wire: Wire, octets: bytes, fault: Trickle) -> None:
    for at in range(0, len(octets), fault.octets):
        wire.write(octets[at : at + fault.octets])
        wire.pause(fault.pause)


def _cut(wire: Wire, answer: Answer, tag: str, fault: CutAnswer) -> None:
    start = _first_literal(answer, fault.uid) if fault.in_literal else 0
    wire.write(b"".join(answer.octets(tag))[: start + fault.octets])
    if fault.bye is not None:
        wire.write(f"* BYE {fault.bye}\r\n".encode())
    wire.flush()
    raise Hangup(fault.reset)


def _first_literal(answer: Answer, uid: int | None) -> int:
    """Return where the octets of the answer's first literal begin, of any UID or of this one; 0 if it has none."""
    at = 0
    for response in answer.responses:
        at += 2
        for piece in response.pieces:
            if not isinstance(piece, Literal):
                at += len(piece)
                continue
            at += len(b"{%d}\r\n" % len(piece.octets))
            if uid in (None, response.uid):
                return at
            at += len(piece.octets)
        at += 2
    return 0
