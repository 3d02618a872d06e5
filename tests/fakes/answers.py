"""Answers as values, so that a fault can cut, shorten or thin them out before they are sent.

Also the forms of things in answers: dates, flags, strings, FETCH items.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tests.fakes.commands import Malformed
from tests.fakes.mailboxes import FakeMessage

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Literal:
    """Octets that travel behind their number."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One untagged response, without ``* `` and CRLF."""

    pieces: tuple[bytes | Literal, ...]
    uid: int | None = None
    """The message a FETCH response is about."""

    def octets(self) -> Iterator[bytes]:
        yield b"* "
        for piece in self.pieces:
            if isinstance(piece, Literal):
                yield b"{%d}\r\n" % len(piece.octets)
                yield piece.octets
            else:
                yield piece
        yield b"\r\n"


@dataclass(slots=True)
class Answer:
    """What one command is answered with."""

    tagged: str
    """Without the tag: ``OK done``."""
    responses: list[Response] = field(default_factory=list)
    bye: str | None = None
    """Sent after the tagged line; then the connection ends."""
    leave: bool = False
    """The connection ends, without BYE."""

    @classmethod
    def lines(cls, tagged: str, *lines: str) -> Answer:
        return cls(tagged, [line(text) for text in lines])

    def octets(self, tag: str) -> Iterator[bytes]:
        for response in self.responses:
            yield from response.octets()
        yield f"{tag} {self.tagged}\r\n".encode()
        if self.bye is not None:
            yield f"* BYE {self.bye}\r\n".encode()


def line(text: str) -> Response:
    return Response((text.encode(),))


def quoted(text: bytes) -> str:
    """Return a quoted string. The text is ASCII (a name in modified UTF-7)."""
    return '"' + text.decode("ascii").replace("\\", "\\\\").replace('"', '\\"') + '"'


def date_time(when: datetime, *, pad: str = "0") -> str:
    """Return RFC 3501's date-time; the day is padded with a zero or with a space, both are allowed."""
    day = str(when.day).rjust(2, pad)
    return f'"{day}-{MONTHS[when.month - 1]}-{when:%Y %H:%M:%S %z}"'


_DATE_TIME: Final = re.compile(r"([ 0-3]?\d)-([A-Z][a-z]{2})-(\d{4}) (\d\d:\d\d:\d\d) ([+-]\d{4})")
_DATE: Final = re.compile(r"(\d{1,2})-([A-Z][a-z]{2})-(\d{4})")


def parse_date_time(text: str) -> datetime:
    """Read a date-time without its quotes. Raises ValueError: it is none."""
    found = _DATE_TIME.fullmatch(text)
    if not found:
        raise ValueError("not a date-time")
    day, month, year, clock, zone = found.groups()
    stamp = f"{year}-{MONTHS.index(month) + 1:02}-{int(day):02} {clock} {zone}"
    return datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S %z")


def parse_date(text: str) -> tuple[int, int, int]:
    """Read SINCE's date as year, month, day. Raises ValueError: it is none."""
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError("not a date")
    return int(found[3]), MONTHS.index(found[2]) + 1, int(found[1])


@dataclass(frozen=True, slots=True)
class Serving:
    """How a server serves a message: what FETCH needs to know of it."""

    body: Callable[[FakeMessage], bytes]
    size: Callable[[FakeMessage], int]
    date: Callable[[datetime], str]
    gmail: bool


_SECTION: Final = re.compile(
    r"BODY(?:\.PEEK)?\[(?P<part>|HEADER|TEXT|HEADER\.FIELDS \((?P<fields>[!-~]+(?: [!-~]+)*)\))\]"
    r"(?:<(?P<first>\d+)\.(?P<count>\d+)>)?",
    re.IGNORECASE,
)
_GMAIL_ITEMS: Final = ("X-GM-MSGID", "X-GM-THRID", "X-GM-LABELS")
_ITEMS: Final = ("UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE")


def check_items(items: Sequence[str], *, gmail: bool) -> None:
    """Raises Malformed: an item is unknown here, or none is asked for."""
    known = _ITEMS + _GMAIL_ITEMS * gmail
    for item in items:
        if item.upper() not in known and not _SECTION.fullmatch(item):
            raise Malformed(f"unknown FETCH item {item}")
    if not items:
        raise Malformed("nothing to fetch")


def sets_seen(item: str) -> bool:
    """Whether fetching this item marks the message as read, in a mailbox that is open for writing."""
    return item.upper().startswith("BODY[")


def fetch_response(sequence: int, message: FakeMessage, items: Sequence[str], serving: Serving) -> Response:
    """Return the FETCH response for one message; UID is always in it (RFC 3501 section 6.4.8)."""
    pieces: list[bytes | Literal] = [f"{sequence} FETCH (UID {message.uid}".encode()]
    for item in items:
        found = _SECTION.fullmatch(item)
        if found:
            octets = _section(serving.body(message), found["part"], found["fields"])
            origin = ""
            if found["first"] is not None:
                first = int(found["first"])
                octets, origin = octets[first : first + int(found["count"])], f"<{first}>"
            pieces += [f" BODY[{found['part']}]{origin} ".encode(), Literal(octets)]
        elif item.upper() != "UID":
            pieces.append(f" {item.upper()} {_value(message, item.upper(), serving)}".encode())
    return Response((*pieces, b")"), message.uid)


def _value(message: FakeMessage, item: str, serving: Serving) -> str:
    if item == "FLAGS":
        return f"({' '.join(message.flags)})"
    if item == "INTERNALDATE":
        return serving.date(message.internaldate)
    if item == "RFC822.SIZE":
        return str(serving.size(message))
    return "()" if item == "X-GM-LABELS" else str(message.msgid)


def _section(raw: bytes, part: str, fields: str | None) -> bytes:
    if not part:
        return raw
    header, body = split_header(raw)
    if fields is None:
        return header if part.upper() == "HEADER" else body
    wanted = {field.strip('"').lower() for field in fields.split(" ")}
    chosen = [
        one for one in header_fields(header) if one.partition(b":")[0].strip().decode("latin-1").lower() in wanted
    ]
    return b"".join(chosen) + b"\r\n"


def split_header(raw: bytes) -> tuple[bytes, bytes]:
    """Return header, blank line included, and body."""
    found = re.search(rb"(?:\A|\r?\n)\r?\n", raw)
    return (raw[: found.end()], raw[found.end() :]) if found else (raw, b"")


def header_fields(header: bytes) -> list[bytes]:
    """Return the header's fields as they are, each with its folded lines and line ends."""
    fields = re.findall(rb"[^\r\n]+\r?\n(?:[ \t][^\r\n]*\r?\n)*", header)
    return [field for field in fields if b":" in field]
