"""What a client sent, as values: tokens of RFC 3501 section 9, read strictly.

Strict on purpose: one space between arguments, no trailing space, no 8-bit octet outside a
literal. A client that is sloppy should learn it here and not from a provider.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


class Malformed(Exception):
    """The command breaks the grammar: it gets BAD, and is recorded."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command as a test sees it afterwards."""

    connection: int
    verb: str
    """In capitals; ``UID FETCH`` and the like are one verb. ``?`` if there was none to be read."""
    line: str
    """Without the tag, without secrets; literals show as their announcement."""


@dataclass(frozen=True, slots=True)
class Atom:
    text: str


@dataclass(frozen=True, slots=True)
class String:
    """A quoted string or a literal."""

    value: bytes
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A parenthesised list."""

    items: tuple[Token, ...]


Token = Atom | String | Group


@dataclass(frozen=True, slots=True)
class Parsed:
    """A command ready to be executed."""

    tag: str
    verb: str
    args: tuple[Token, ...]
    line: str

    @property
    def literal(self) -> bytes | None:
        """Return the last argument's octets if it is a literal: what an APPEND carries."""
        last = self.args[-1] if self.args else None
        return last.value if isinstance(last, String) and last.literal else None


_TAG: Final = re.compile(rb"[!#-'+,\-./0-9:;<-\[\]^-z|}~]+")
_VERB: Final = re.compile(rb"[A-Za-z]+")
_ATOM_END: Final = b' (){"'
_SECRET_VERBS: Final = {"AUTHENTICATE": 2, "LOGIN": 1}
"""How many words of the line may be shown."""


def head(line: bytes) -> tuple[str, str]:
    """Read tag and verb of a command's first line.

    Raises Malformed: there is no tag, or no verb.
    """
    tag, _, rest = line.partition(b" ")
    if not _TAG.fullmatch(tag) or b"+" in tag:
        raise Malformed("no tag")
    words = rest.split(b" ", 2)
    if not _VERB.fullmatch(words[0]):
        raise Malformed("no command")
    verb = words[0].decode().upper()
    if verb == "UID":
        if len(words) < 2 or not _VERB.fullmatch(words[1]):
            raise Malformed("UID without a command")
        verb += " " + words[1].decode().upper()
    return tag.decode(), verb


def shown(verb: str, segments: Sequence[bytes]) -> str:
    """Return the command without its tag and without secrets. Every second segment is a literal."""
    text = b"".join(segments[::2]).partition(b" ")[2].decode("latin-1")
    words = text.split(" ")
    keep = _SECRET_VERBS.get(verb, len(words))
    return " ".join(words[:keep] + ["<secret>"] * (len(words) > keep))


def parse(segments: Sequence[bytes]) -> Parsed:
    """Read a whole command: text, literal, text, literal, …, text.

    Raises Malformed: the grammar of RFC 3501 is broken.
    """
    tag, verb = head(segments[0])
    first = segments[0].split(b" ", 1 + len(verb.split()))[1 + len(verb.split()) :]
    scanner = _Scanner([b" " + first[0] if first else b"", *segments[1:]])
    return Parsed(tag, verb, tuple(scanner.arguments()), shown(verb, segments))


class _Scanner:
    def __init__(self, segments: Sequence[bytes]) -> None:
        self._segments = list(segments)
        self._at = 0  # segment
        self._pos = 0  # octet in it

    @property
    def _text(self) -> bytes:
        return self._segments[self._at]

    def _peek(self) -> bytes:
        return self._text[self._pos : self._pos + 1]

    def arguments(self) -> list[Token]:
        found: list[Token] = []
        while self._peek():
            self._expect(b" ")
            found.append(self._token())
        if self._at != len(self._segments) - 1:
            raise Malformed("a literal where none belongs")
        return found

    def _expect(self, octet: bytes) -> None:
        if self._peek() != octet:
            raise Malformed(f"expected {octet!r} at octet {self._pos}")
        self._pos += 1

    def _token(self) -> Token:
        octet = self._peek()
        if octet == b"(":
            return self._group()
        if octet == b'"':
            return self._quoted()
        if octet == b"{" and self._at + 1 < len(self._segments):
            if b"}" not in self._text[self._pos :][-2:]:
                raise Malformed("text after a literal's announcement")
            value = self._segments[self._at + 1]
            self._at, self._pos = self._at + 2, 0
            return String(value, literal=True)
        return self._atom()

    def _group(self) -> Group:
        self._expect(b"(")
        items: list[Token] = []
        while self._peek() != b")":
            if items:
                self._expect(b" ")
            items.append(self._token())
        self._pos += 1
        return Group(tuple(items))

    def _quoted(self) -> String:
        self._expect(b'"')
        value = bytearray()
        while (octet := self._peek()) != b'"':
            if octet == b"\\":
                self._pos += 1
                octet = self._peek()
                if octet not in (b"\\", b'"'):
                    raise Malformed("only a quote and a backslash may be escaped")
            if not octet or octet in b"\r\n\0" or octet > b"\x7f":
                raise Malformed("an octet that a quoted string cannot hold")
            value += octet
            self._pos += 1
        self._pos += 1
        return String(bytes(value))

    def _atom(self) -> Atom:
        start = self._pos
        while (octet := self._peek()) and octet not in _ATOM_END:
            if octet < b"\x21" or octet > b"\x7e":
                raise Malformed("an octet that an atom cannot hold")
            if octet == b"[":  # a section: BODY.PEEK[HEADER.FIELDS (DATE FROM)]
                end = self._text.find(b"]", self._pos)
                if end < 0:
                    raise Malformed("a section without an end")
                self._pos = end
            self._pos += 1
        if start == self._pos:
            raise Malformed(f"an argument is missing at octet {start}")
        return Atom(self._text[start : self._pos].decode("ascii", "replace"))


def text_of(token: Token) -> bytes:
    """Return an astring's octets.

    Raises Malformed: the token is a list.
    """
    if isinstance(token, Group):
        raise Malformed("a list where a string belongs")
    return token.value if isinstance(token, String) else token.text.encode()


def words_of(token: Token) -> list[str]:
    """Return the words of ``(A B)`` or of a single ``A``, as they were written.

    Raises Malformed: there are strings or lists among them.
    """
    items = token.items if isinstance(token, Group) else (token,)
    words = []
    for item in items:
        if not isinstance(item, Atom):
            raise Malformed("a word belongs here")
        words.append(item.text)
    return words
