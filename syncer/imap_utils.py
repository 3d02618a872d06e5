"""The words of IMAP, as pure functions: what is read from a server's line and what is written into a command.

Every server is hostile until proven otherwise: what does not parse raises ``ValueError``, numbers
are checked against the ranges of RFC 3501 section 9, and nothing recurses on a server's nesting.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from syncer.model import CopyUid
from syncer.uid_set import MAX_UID, UidSet

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_INTERNALDATE: Final = re.compile(
    r"(?P<day>[ \d]\d)-(?P<month>[A-Z][a-z]{2})-(?P<year>\d{4}) (?P<time>\d\d:\d\d:\d\d) (?P<zone>[+-]\d{4})", re.ASCII
)
_FETCH: Final = re.compile(rb"\* (\d{1,10}) FETCH \(", re.IGNORECASE)
_ITEM_NAME: Final = re.compile(rb"([A-Za-z0-9.\-]{1,64}(?:\[[^\]\r\n]{0,512}\](?:<\d{1,10}>)?)?) ")
_LITERAL_MARK: Final = re.compile(rb"\{(\d{1,10})\}$")
_RESPONSE_CODE: Final = re.compile(rb"\[([A-Za-z0-9\-]{1,64})(?: ([^\]]{0,8192}))?\]")
_APPENDUID: Final = re.compile(rb"(\d{1,10}) (\d{1,10})")
_STATUS_ITEM: Final = re.compile(rb"([A-Z]{1,32}) (\d{1,20})", re.IGNORECASE)
_LIST: Final = re.compile(
    rb'\* (?:LIST|LSUB) \((?P<flags>[^)]*)\) (?P<delimiter>NIL|"(?:\\.|[^"\\])") (?P<name>.*)',
    re.IGNORECASE | re.DOTALL,
)
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_WORD: Final = r"[^\s<>\",;:()]{1,256}"
# A local part may be quoted (RFC 5321 section 4.1.2), and a URL in an ALERT has %40 for the at sign.
_ADDRESS: Final = re.compile(rf"(?:\"[^\"]{{0,256}}\"|{_WORD})(?:@|%40){_WORD}", re.IGNORECASE)
# Microsoft's refresh tokens hold "*", "!" and "$" too.
_SLICE: Final = 64 << 10
_TOKEN: Final = re.compile(r"[A-Za-z0-9_\-+/=.~%!*$]{32,}")

_MAX_NAMED: Final = 64 << 10
"""Octets of a LIST or STATUS response: they hold a mailbox name, and as part of a command it has to be shorter."""
_MAX_FETCH_LINE: Final = 1 << 20
"""Octets of a FETCH response between two literals."""

FetchValue = str | bytes | bytearray | list[str] | None


def safe_text(said: bytes | str, limit: int = 200) -> str:
    """Return what a server said, fit for a log line or a record.

    Addresses and anything long enough to be a token are taken out, control characters and
    non-ASCII become ``?``, the length is bounded.
    """
    text = said.decode("ascii", "replace") if isinstance(said, bytes | bytearray) else said
    if len(text) > limit * 4:  # cut between words: half an address or token would not be known for what it is
        text = text[: limit * 4 + 1].rpartition(" ")[0] or "<...>"
    text = "".join(c if " " <= c <= "~" else "?" for c in text)
    text = _TOKEN.sub("<...>", _ADDRESS.sub("<address>", text))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def quote(text: str) -> bytes:
    r"""Return an ASCII text as a quoted string (RFC 3501 section 9).

    Raises ValueError: the text holds CR, LF, NUL or anything that is not ASCII.
    """
    raw = text.encode("ascii", "strict") if text.isascii() else b"\n"
    if any(octet in raw for octet in b"\r\n\0"):
        raise ValueError("not fit for a quoted string")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def encode_mailbox_name(name: str) -> str:
    """Return a mailbox name in modified UTF-7 (RFC 3501 section 5.1.3).

    >>> encode_mailbox_name("Größe R&D")
    'Gr&APYA3w-e R&-D'
    """
    out: list[str] = []
    for ascii_run, other in re.findall(r"([ -~]+)|([^ -~]+)", name):
        if ascii_run:
            out.append(ascii_run.replace("&", "&-"))
        else:
            packed = base64.b64encode(other.encode("utf-16-be")).decode("ascii")
            out.append("&" + packed.rstrip("=").replace("/", ",") + "-")
    return "".join(out)


def decode_mailbox_name(name: str) -> str:
    """Return the Unicode form of a mailbox name in modified UTF-7.

    What is not valid comes back as it is: a name is only compared, and a server may list anything.
    """

    def expand(match: re.Match[str]) -> str:
        packed = match[1].replace(",", "/")
        return base64.b64decode(packed + "=" * (-len(packed) % 4)).decode("utf-16-be") if packed else "&"

    try:
        return re.sub(r"&([A-Za-z0-9+,]*)-", expand, name)
    except (ValueError, UnicodeDecodeError):
        return name


def parse_internaldate(text: str) -> float:
    """Return an INTERNALDATE as seconds since the epoch.

    Raises ValueError: it is no date-time of RFC 3501 section 9.
    """
    match = _INTERNALDATE.fullmatch(text)
    if match is None or match["month"] not in _MONTHS:
        raise ValueError(f"not an INTERNALDATE: {text[:40]!r}")
    hour, minute, second = (int(part) for part in match["time"].split(":"))
    zone = timedelta(hours=int(match["zone"][1:3]), minutes=int(match["zone"][3:]))
    moment = datetime(
        int(match["year"]),
        _MONTHS.index(match["month"]) + 1,
        int(match["day"]),
        hour,
        minute,
        min(second, 59),  # a leap second is no reason to lose a mail
        tzinfo=timezone(-zone if match["zone"][0] == "-" else zone),
    )
    return moment.timestamp()


def format_internaldate(moment: float) -> str:
    """Return seconds since the epoch as an INTERNALDATE in UTC."""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at.day:2d}-{_MONTHS[at.month - 1]}-{at.year:04d} {at:%H:%M:%S} +0000"


def format_search_date(moment: float) -> str:
    """Return the UTC day of a moment as SEARCH wants it (``22-Nov-2026``)."""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at.day}-{_MONTHS[at.month - 1]}-{at.year:04d}"


def response_code(text: bytes) -> tuple[str, bytes]:
    """Return the response code of a status text and its argument, as ``("UIDNEXT", b"12")``; empty if it has none."""
    match = _RESPONSE_CODE.match(text)
    return (match[1].decode("ascii").upper(), match[2] or b"") if match else ("", b"")


def number(digits: bytes, highest: int = MAX_UID) -> int:
    """Read a number of RFC 3501. Raises ValueError: not digits only, or above ``highest``."""
    if not digits.isdigit() or len(digits) > 20 or int(digits) > highest:
        raise ValueError(f"not a number in range: {digits[:24]!r}")
    return int(digits)


def parse_appenduid(text: bytes) -> CopyUid | None:
    """Return where the copy is, if an APPEND's OK tells (RFC 4315); None if it does not, or tells nonsense."""
    code, argument = response_code(text)
    match = _APPENDUID.fullmatch(argument) if code == "APPENDUID" else None
    if match is None:
        return None
    uidvalidity, uid = int(match[1]), int(match[2])
    return CopyUid(uidvalidity, uid) if 1 <= uidvalidity <= MAX_UID and 1 <= uid <= MAX_UID else None


def parse_status(line: bytes) -> dict[str, int]:
    """Return the items of a ``* STATUS mailbox (...)`` response.

    The mailbox name is not read: it may be a literal, and it is the one that was asked for.
    Raises ValueError: the list of items is missing.
    """
    opened = line.rfind(b"(")
    if opened < 0 or not line.rstrip().endswith(b")") or len(line) > _MAX_NAMED:
        raise ValueError("STATUS without items")
    return {
        name.decode("ascii").upper(): number(value, 2**63) for name, value in _STATUS_ITEM.findall(line[opened + 1 :])
    }


def parse_list(parts: Sequence[bytes | bytearray]) -> tuple[str, str | None]:
    """Return a LIST response's mailbox name (Unicode) and delimiter (None if it is flat).

    Raises ValueError: it is no LIST response.
    """
    match = _LIST.fullmatch(bytes(parts[0])) if sum(map(len, parts)) <= _MAX_NAMED else None
    if match is None:
        raise ValueError("not a LIST response")
    delimiter = None if match["delimiter"].upper() == b"NIL" else match["delimiter"][1:-1].decode("latin-1")[-1]
    raw = match["name"]
    if _LITERAL_MARK.search(raw):
        if len(parts) < 2:
            raise ValueError("a LIST response without its literal")
        raw = bytes(parts[1])
    elif raw.startswith(b'"'):
        if (quoted := _QUOTED.match(raw)) is None:
            raise ValueError("a quoted mailbox name without its end")
        raw = re.sub(rb"\\(.)", rb"\1", quoted[1], flags=re.DOTALL)
    return decode_mailbox_name(raw.decode("latin-1")), delimiter


def parse_search(line: bytes) -> UidSet:
    """Return the UIDs of a ``* SEARCH`` response. Raises ValueError: one of them is no UID."""
    end = line.find(b"(")  # a MODSEQ may follow in parentheses (RFC 7162)
    return UidSet(itertools.chain.from_iterable(_uids_of(line, len(line) if end < 0 else end)))


def _uids_of(line: bytes, end: int) -> Iterator[Sequence[int]]:
    """Yield the UIDs of a SEARCH response some at a time: all its words at once would take thirty times its size."""
    start = len(b"* SEARCH")
    while start < end:
        stop = end if end - start <= _SLICE else line.rfind(b" ", start, start + _SLICE)
        if stop < start:
            raise ValueError("a SEARCH response with an endless word")
        words = line[start:stop].split()
        start = stop + 1
        if not words:
            continue
        if not b"".join(words).isdigit() or max(map(len, words)) > 20:
            raise ValueError("a SEARCH response with what is no UID")
        uids = list(map(int, words))
        if not 1 <= min(uids) <= max(uids) <= MAX_UID:
            raise ValueError("a SEARCH response with a UID out of range")
        yield uids


def parse_fetch(parts: Sequence[bytes | bytearray]) -> dict[str, FetchValue]:
    """Return a FETCH response's items by upper-case name.

    ``parts`` alternates lines and literals. Numbers and atoms come as str, quoted strings and
    literals as bytes, lists as the flat list of their words (nothing here needs their structure).

    Raises ValueError: the response is broken.
    """
    start = _FETCH.match(parts[0])
    if start is None:
        raise ValueError("not a FETCH response")
    items: dict[str, FetchValue] = {}
    reader = _Reader(parts, start.end())
    while not reader.at_end_of_list():
        name = reader.item_name()
        value = reader.value()
        if items.setdefault(name, value) != value:
            raise ValueError("a FETCH item with two values")
    reader.expect_end()
    return items


class _Reader:
    """Reads values from lines and literals in turn. Loops, never recurses."""

    def __init__(self, parts: Sequence[bytes | bytearray], at: int) -> None:
        self._parts = parts
        self._at = at
        self._take_line(0)

    def _take_line(self, index: int) -> None:
        self._index = index
        self._line = bytes(self._parts[index])
        if len(self._line) > _MAX_FETCH_LINE:
            raise ValueError("a FETCH response without sense")

    def expect_end(self) -> None:
        """Raises ValueError: something follows the end of the list, as if a literal were longer than announced."""
        if self._line[self._at + 1 :].strip() or self._index + 1 != len(self._parts):
            raise ValueError("a FETCH response beyond its end")

    def at_end_of_list(self) -> bool:
        while self._line[self._at : self._at + 1] == b" ":
            self._at += 1
        if self._at >= len(self._line):
            raise ValueError("a FETCH response without its end")
        return self._line[self._at : self._at + 1] == b")"

    def item_name(self) -> str:
        match = _ITEM_NAME.match(self._line, self._at)
        if match is None:
            raise ValueError("a FETCH item without a name")
        self._at = match.end()
        return match[1].decode("ascii", "replace").upper()

    def value(self) -> FetchValue:
        first = self._line[self._at : self._at + 1]
        if first == b"(":
            return self._words()
        if first == b'"':
            return self._quoted()
        if first in (b"{", b"~"):
            return self._literal()
        atom = self._atom()
        return None if atom.upper() == "NIL" else atom

    def _literal(self) -> bytes | bytearray:
        if _LITERAL_MARK.search(self._line, self._at) is None or self._index + 2 >= len(self._parts):
            raise ValueError("a literal in the wrong place")
        literal = self._parts[self._index + 1]
        self._take_line(self._index + 2)
        self._at = 0
        return literal

    def _quoted(self) -> bytes:
        out = bytearray()
        at = self._at + 1
        while at < len(self._line):
            octet = self._line[at]
            if octet == 0x22:
                self._at = at + 1
                return bytes(out)
            if octet == 0x5C:
                at += 1
                octet = self._line[at] if at < len(self._line) else 0x5C
            out.append(octet)
            at += 1
        raise ValueError("a quoted string without its end")

    def _atom(self) -> str:
        end = self._at
        while end < len(self._line) and self._line[end] not in b' ()"{':
            end += 1
        if end == self._at:
            raise ValueError("a FETCH item without a value")
        atom = self._line[self._at : end]
        self._at = end
        return atom.decode("latin-1")

    def _words(self) -> list[str]:
        depth = 0
        words: list[str] = []
        while True:
            if self._at >= len(self._line):
                raise ValueError("a list without its end")
            octet = self._line[self._at : self._at + 1]
            if octet == b"(":
                depth += 1
                self._at += 1
            elif octet == b")":
                depth -= 1
                self._at += 1
                if depth == 0:
                    return words
            elif octet == b" ":
                self._at += 1
            else:
                value = self.value()
                words.append(_word(value))


def _word(value: FetchValue) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("latin-1")
    return value if isinstance(value, str) else "NIL"
