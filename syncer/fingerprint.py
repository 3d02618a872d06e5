"""By what a message is known again: its hash, its Message-ID, and the fields that survive a server's rewriting.

Exchange stores an item, not bytes, and serves regenerated MIME: size and hash of a copy prove nothing
(PROVIDERS 5.2). What survives is compared instead: Message-ID, INTERNALDATE, Date, From, Subject,
each brought into one form first, because a server may fold or encode a field anew.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from datetime import UTC
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import parsedate_to_datetime
from typing import Final

from syncer.model import Fingerprint

HEADER_FIELDS: Final = "MESSAGE-ID DATE FROM SUBJECT"
"""What is asked for when looking for a copy."""

_MAX_HEADER: Final = 262_144
"""Octets of a message that are searched for its header: a mail without an empty line has no end of it."""
_MAX_MESSAGE_ID: Final = 998
"""RFC 5322 section 2.1.1: no line, and so no sane Message-ID, is longer."""
_MAX_FIELD: Final = 8192
"""Characters of a field that are parsed: the parsers of the standard library take minutes over a hostile one."""
_NO_CHARSETS: Final = frozenset({"unicode-escape", "raw-unicode-escape", "idna", "punycode", "undefined"})
"""Codecs that only Python takes for charsets; they warn, or take long, over what a hostile mail holds."""
_FIELD: Final = re.compile(rb"\n(message-id|date|from|subject)[ \t]*:([^\r\n]*(?:[\r\n][ \t][^\r\n]*)*)", re.IGNORECASE)
"""Begins with an octet and not with ``^``: so the search leaps from line to line."""
_ANGLE_ADDRESS: Final = re.compile(r"<([^<>\s\"]{1,320}@[^<>\s\"]{1,320})>")
_BARE_ADDRESS: Final = re.compile(r"[^\s<>()\",;:@]{1,320}@[^\s<>()\",;:@]{1,320}")
_DISPLAY: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\((?:[^()\\]|\\.)*\)')
"""A quoted string or a comment: what a person is called."""
_SPACE: Final = re.compile(r"\s+")


def is_placeholder(seen: Fingerprint) -> bool:
    """Tell whether a server served this in place of a message that it cannot render (PROVIDERS 5.2)."""
    return seen.sender == _digest(_sender("Microsoft@unknown"))


def rfc822_sha256(raw: bytes | bytearray) -> str:
    """Return the SHA-256 of a message's bytes, in hex."""
    return hashlib.sha256(raw).hexdigest()


def message_id(raw: bytes | bytearray) -> str:
    """Return a message's Message-ID without white space; empty if it has none. Of several fields the first counts."""
    return _message_id(_fields(raw).get("message-id", ""))


def fingerprint(raw: bytes | bytearray, received_at: float) -> Fingerprint:
    """Return by what a message, or its header alone, is recognised; ``received_at`` is its INTERNALDATE."""
    fields = _fields(raw)
    return Fingerprint(
        message_id=_message_id(fields.get("message-id", "")),
        received_at=int(received_at),
        date=_digest(_date(fields.get("date", ""))),
        sender=_digest(_sender(fields.get("from", ""))),
        subject=_digest(_words(fields.get("subject", ""))),
    )


def _fields(raw: bytes | bytearray) -> dict[str, str]:
    """Return the first of each field that matters, unfolded; by name in lower case."""
    # No header goes on beyond an empty line, and most mails have a plain one: what follows is not looked at.
    empty_line = raw.find(b"\r\n\r\n", 0, _MAX_HEADER)
    # CR CR LF is what a Windows program makes of CR LF when it writes in text mode.
    head = (
        bytes(raw[: empty_line + 4 if empty_line >= 0 else _MAX_HEADER])
        .replace(b"\r\r\n", b"\n")
        .replace(b"\r\n", b"\n")
    )
    ends = [end for end in (head.find(b"\n\n"), head.find(b"\r\r")) if end >= 0]
    if ends:
        head = head[: min(ends)]
    if b"\n" not in head:  # line ends of CR only, as some archives keep them
        head = head.replace(b"\r", b"\n")
    found: dict[str, str] = {}
    for match in _FIELD.finditer(b"\n" + head):
        value = match[2]
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        found.setdefault(match[1].decode("ascii").lower(), text.replace("\r", "").replace("\n", "").strip())
    return found


def _message_id(value: str) -> str:
    return _SPACE.sub("", value)[:_MAX_MESSAGE_ID]


def _date(value: str) -> str:
    """Return a Date as an instant: a server may write the same one in another form."""
    try:
        moment = parsedate_to_datetime(value[:_MAX_FIELD])
    except (ValueError, TypeError, IndexError, OverflowError):
        return _SPACE.sub(" ", value)
    # Without a zone it is UTC, on every machine: never this one's local time.
    return str(int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()))


def _sender(value: str) -> str:
    """Return the addresses of a From: display names are quoted and encoded differently by every server.

    Not by the standard library: what it makes of an odd From depends on the version of Python, and
    two runners with different ones share the records.
    """
    addresses: list[str] = []
    if len(value) <= _MAX_FIELD:
        for part in _DISPLAY.sub(" ", value).split(","):
            addresses += _ANGLE_ADDRESS.findall(part) or _BARE_ADDRESS.findall(part)
    return ",".join(addresses).lower() or _words(value)


def _words(value: str) -> str:
    """Return a text with its encoded-words decoded (RFC 2047) and its white space evened out."""
    decoded = value
    if len(value) <= _MAX_FIELD:
        try:
            # What stands beside encoded-words comes back from decode_header in an encoding of Python's own.
            decoded = "".join(
                part if isinstance(part, str) else _text(part, charset) for part, charset in decode_header(value)
            )
        except (HeaderParseError, LookupError, ValueError):
            decoded = value
    return _SPACE.sub(" ", decoded).strip()


def _text(part: bytes, charset: str | None) -> str:
    """Decode an encoded-word. Raises LookupError, ValueError: there is no such charset."""
    if charset is None:
        return part.decode("raw-unicode-escape", "replace")
    if codecs.lookup(charset).name.replace("_", "-") in _NO_CHARSETS:
        raise LookupError(charset)
    return part.decode(charset, "replace")


def _digest(text: str) -> str:
    """Return a short digest: a record must tell whether two fields are equal, and nothing of what is in them."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
