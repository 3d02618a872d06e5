"""A server's octets, cut into responses: lines, and the literals they announce. Nothing is understood here.

A response is bounded while it is read: ``MAX_LINE``, ``MAX_PARTS``, and for its literals whatever the
caller is ready to hold. A literal is read into one buffer of its own, so a body is never copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

MAX_LINE: Final = 8 << 20
"""Octets in one response without its literals: SEARCH answers a million UIDs in one line."""
MAX_PARTS: Final = 1000
"""Lines and literals in one response."""
_BUFFER: Final = 64 << 10
_CHUNK: Final = 256 << 10

_LITERAL: Final = re.compile(rb"\{(\d{1,10})\}$")

Parts = Sequence[bytes | bytearray]
"""One response: its first line without CRLF, then literal and line in turn."""


class ProtocolBroken(Exception):
    """The server said what no server may say; the text holds nothing of it."""


def responses(receive: Callable[[memoryview], int], literal_limit: Callable[[], int]) -> Iterator[Parts]:
    """Yield responses for ever.

    ``receive`` fills a buffer and returns how many octets it got; what it raises ends this.
    ``literal_limit`` is asked when a literal is announced: so many octets one response may hold of them.

    Raises ProtocolBroken: a line, a literal or a response without end.
    """
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    start = end = 0  # what is unread lies between them
    parts: list[bytes | bytearray] = []
    line_start = bytearray()  # grows in place: a line may come in a million pieces
    line_octets = literal_octets = 0
    while True:
        newline = buffer.find(b"\n", start, end)
        if newline < 0:
            line_start += view[start:end]
            if line_octets + len(line_start) > MAX_LINE:
                raise ProtocolBroken("an endless line")
            start, end = 0, receive(view)
            continue
        line = (bytes(line_start) + bytes(view[start:newline])).removesuffix(b"\r")
        line_start.clear()
        start = newline + 1
        parts.append(line)
        literal = _LITERAL.search(line) if line.endswith(b"}") else None
        if literal is None:
            yield parts
            parts, line_octets, literal_octets = [], 0, 0
            continue
        size = int(literal[1])
        line_octets += len(line)
        literal_octets += size
        if literal_octets > literal_limit():
            raise ProtocolBroken("a literal larger than what was asked for")
        if len(parts) > MAX_PARTS or line_octets > MAX_LINE:
            raise ProtocolBroken("an endless response")
        body = bytearray(size)
        got = min(size, end - start)
        body[:got] = view[start : start + got]
        start += got
        with memoryview(body) as target:
            while got < size:
                got += receive(target[got : got + _CHUNK])
        parts.append(body)
        del body  # it may be large, and the next one may be long in coming
