"""Mail for the demo: written for it, of every kind that has ever gone wrong in a copy; or the user's own.

``samples`` and ``newcomers`` build their mail octet by octet, so that nothing rewrites it on the
way: the same ``now`` gives the same octets, on every machine. Lines end with CRLF, but where the
sample is about lines that do not. ``from_path`` reads mail as it lies in files, and changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import mailbox
import os
import quopri
import random
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.errors import MessageError
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

CRLF: Final = b"\r\n"
_FROM: Final = b"Mara Lindqvist <mara@sender.example>"
_TO: Final = b"Jonas Okafor <jonas@recipient.example>"
_WHEN: Final = b"(the time of arrival)"
"""Stands for the Date of a mail until it is known when the mail arrives."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One mail, and when it arrived."""

    name: str
    """Short, and good for a file name."""
    raw: bytes
    received_at: datetime
    """With a time zone, in whole seconds: what INTERNALDATE can say."""
    note: str
    """What is special about it, for a person."""


# -- building ------------------------------------------------------------------------------------


def _header(subject: bytes, message_id: bytes | None, *more: bytes, date: bytes = _WHEN) -> bytes:
    """Return header lines without the empty line that ends them."""
    lines = [b"From: " + _FROM, b"To: " + _TO, b"Subject: " + subject, b"Date: " + date]
    if message_id is not None:
        lines.append(b"Message-ID: " + message_id)
    return CRLF.join([*lines, b"MIME-Version: 1.0", *more]) + CRLF


def _date(at: datetime) -> bytes:
    # Not strftime: its names of days and months follow the locale of the machine.
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    at = at.astimezone(UTC)
    return f"{days[at.weekday()]}, {at.day} {months[at.month - 1]} {at.year} {at:%H:%M:%S} +0000".encode("ascii")


def _lines(*lines: str, charset: str = "utf-8") -> bytes:
    return b"".join(line.encode(charset) + CRLF for line in lines)


def _text(encoding: str = "7bit", charset: str = "us-ascii") -> bytes:
    return f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}".encode("ascii")


def _base64(octets: bytes) -> bytes:
    encoded = base64.b64encode(octets)
    return b"".join(encoded[at : at + 76] + CRLF for at in range(0, len(encoded), 76))


def _multipart(boundary: bytes, *parts: bytes) -> bytes:
    """Return a body of ``parts``, each one with its own header."""
    return b"".join(b"--" + boundary + CRLF + part for part in parts) + b"--" + boundary + b"--" + CRLF


def _attachment(kind: str, name: str, octets: bytes) -> bytes:
    return (
        f'Content-Type: {kind}; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    ).encode("ascii") + _base64(octets)


def _png(side: int = 48) -> bytes:
    """Return a picture: a square with a colour gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", binascii.crc32(kind + data))

    rows = b"".join(
        b"\x00" + b"".join(bytes((5 * x, 5 * y, 160)) for x in range(side)) for y in range(side)
    )  # each row begins with its filter: none
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)  # 8 bits, RGB
    # Level 0, stored: what zlib makes of the same input at other levels differs between its builds.
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


def _noise(length: int) -> bytes:
    return random.Random(20_261_122).randbytes(length)  # noqa: S311 - octets that do not compress, the same each time


# -- the samples ---------------------------------------------------------------------------------

_Body = tuple[str, str, bytes]
"""Name, note and octets."""


def samples(now: datetime) -> list[Sample]:
    """Return the mail the demo begins with, oldest first; the last arrived some minutes before ``now``.

    Raises ValueError: ``now`` has no time zone.
    """
    made = [*_plain(), *_encoded(), *_structured(now), *_odd()]
    return _arriving(made, now - timedelta(minutes=5), timedelta(minutes=13))


def newcomers(now: datetime) -> list[Sample]:
    """Return three mails that arrive while the demo runs, oldest first, the last at ``now``.

    Raises ValueError: ``now`` has no time zone.
    """
    made: list[_Body] = [
        (
            "new-answer",
            "a reply that arrives later",
            _header(
                b"Re: The key to the shed",
                b"<answer-1@sender.example>",
                b"In-Reply-To: <plain-1@sender.example>",
                _text(),
            )
            + CRLF
            + _lines("Found it. It hung behind the calendar.", "", "> Have you seen the key to the shed?"),
        ),
        (
            "new-picture",
            "a picture that arrives later",
            _header(
                b"The gradient, once more",
                b"<picture-2@sender.example>",
                b'Content-Type: multipart/mixed; boundary="p2"',
            )
            + CRLF
            + _multipart(
                b"p2", _text() + CRLF * 2 + _lines("A smaller one."), _attachment("image/png", "small.png", _png(16))
            ),
        ),
        (
            "new-without-id",
            "no Message-ID, arrives later",
            _header(b"Sent by a machine", None, _text()) + CRLF + _lines("The backup of tonight is complete."),
        ),
    ]
    return _arriving(made, now, timedelta(seconds=20))


def _arriving(made: list[_Body], last: datetime, apart: timedelta) -> list[Sample]:
    if last.tzinfo is None:
        raise ValueError("the time needs a zone")
    first = last.replace(microsecond=0) - apart * (len(made) - 1)
    arriving = []
    for number, (name, note, raw) in enumerate(made):
        at = first + apart * number
        arriving.append(Sample(name, raw.replace(_WHEN, _date(at)), at, note))
    return arriving


def _plain() -> list[_Body]:
    return [
        (
            "plain",
            "plain ASCII",
            _header(b"The key to the shed", b"<plain-1@sender.example>", _text())
            + CRLF
            + _lines("Hello Jonas,", "", "have you seen the key to the shed?", "", "Mara"),
        ),
        (
            "empty-body",
            "a header, an empty line, and nothing after it",
            _header(b"(nothing more to say)", b"<empty-1@sender.example>", _text()) + CRLF,
        ),
        (
            "header-only",
            "a header without the empty line that ends it",
            _header(b"The line was cut", b"<cut-1@sender.example>"),
        ),
        (
            "without-message-id",
            "no Message-ID",
            _header(b"Reading of the water meter", None, _text()) + CRLF + _lines("0482.117"),
        ),
    ]


def _encoded() -> list[_Body]:
    german = "Schöne Grüße aus Köln - für 3 € gibt es hier Kaffee & Kuchen."
    french = "Le café d'à côté est fermé, hélas."
    japanese = "=?UTF-8?B?" + base64.b64encode("来週の打ち合わせについて".encode()).decode("ascii") + "?="
    return [
        (
            "quoted-printable",
            "UTF-8 in quoted-printable",
            _header(b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", b"<qp-1@sender.example>", _text("quoted-printable", "utf-8"))
            + CRLF
            + quopri.encodestring(german.encode()).replace(b"\n", CRLF)
            + CRLF,
        ),
        (
            "base64-japanese",
            "a subject of encoded words in Japanese, the text in base64",
            _header(japanese.encode("ascii"), b"<jp-1@sender.example>", _text("base64", "utf-8"))
            + CRLF
            + _base64(_lines("来週の水曜日、十時でよろしいですか。", "よろしくお願いします。")),
        ),
        (
            "raw-utf8",
            "UTF-8 as it is, in eight bits",
            _header(b"Eight bits", b"<8bit-1@sender.example>", _text("8bit", "utf-8"))
            + CRLF
            + _lines(german, "Ελληνικά, кириллица, עברית, 🙂"),
        ),
        (
            "latin1",
            "ISO-8859-1 in eight bits, which is not UTF-8",
            _header(b"Cafe", b"<latin-1@sender.example>", _text("8bit", "iso-8859-1"))
            + CRLF
            + _lines(french, charset="iso-8859-1"),
        ),
        (
            "8bit-header",
            "octets above 127 in the header, in no charset that is named",
            _header(b"Gr\xfc\xdfe und \xc3\xa9t\xc3\xa9", b"<h8-1@sender.example>", _text())
            + CRLF
            + _lines("Some senders never read the standard."),
        ),
    ]


def _structured(now: datetime) -> list[_Body]:
    enclosed = (
        _header(b"The enclosed one", b"<inner-1@elsewhere.example>", _text(), date=b"Thu, 29 Oct 2026 08:00:00 +0000")
        + CRLF
    )
    enclosed += _lines("This mail travels inside another.")
    numbers = _lines("day,litres", "Mon,212", "Tue,198", '"Wed, late",340')
    invitation = _lines(
        *("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//syncer demo//EN", "METHOD:REQUEST", "BEGIN:VEVENT"),
        *("UID:meeting-1@sender.example", f"DTSTAMP:{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"),
        f"DTSTART:{(now + timedelta(days=7)).astimezone(UTC):%Y%m%dT%H0000Z}",
        *("DURATION:PT45M", "SUMMARY:About the shed", "ORGANIZER:mailto:mara@sender.example"),
        *("ATTENDEE;RSVP=TRUE:mailto:jonas@recipient.example", "END:VEVENT", "END:VCALENDAR"),
    )
    return [
        (
            "html-alternative",
            "text and HTML of the same",
            _header(b"In two forms", b"<alt-1@sender.example>", b'Content-Type: multipart/alternative; boundary="a1"')
            + CRLF
            + _multipart(
                b"a1",
                _text() + CRLF * 2 + _lines("Bold is *bold* here."),
                b"Content-Type: text/html; charset=utf-8" + CRLF * 2 + _lines("<p>Bold is <b>bold</b> here: ä.</p>"),
            ),
        ),
        (
            "attachments",
            "a picture and a table attached",
            _header(b"Picture and table", b"<att-1@sender.example>", b'Content-Type: multipart/mixed; boundary="m1"')
            + CRLF
            + b"For readers without MIME: two files are attached."
            + CRLF
            + _multipart(
                b"m1",
                _text() + CRLF * 2 + _lines("See the attached files."),
                _attachment("image/png", "gradient.png", _png()),
                _attachment("text/csv", "water.csv", numbers),
            ),
        ),
        (
            "big",
            "two megabytes attached",
            _header(b"The recording", b"<big-1@sender.example>", b'Content-Type: multipart/mixed; boundary="b1"')
            + CRLF
            + _multipart(
                b"b1",
                _text() + CRLF * 2 + _lines("It is a long one."),
                _attachment("application/octet-stream", "recording.bin", _noise(2_000_000)),
            ),
        ),
        (
            "forwarded",
            "a mail within the mail (message/rfc822)",
            _header(
                b"Fwd: The enclosed one",
                b"<fwd-1@sender.example>",
                b'Content-Type: multipart/mixed; boundary="f1"',
            )
            + CRLF
            + _multipart(
                b"f1",
                _text() + CRLF * 2 + _lines("For your files."),
                b"Content-Type: message/rfc822" + CRLF * 2 + enclosed,
            ),
        ),
        (
            "invitation",
            "an invitation to a meeting",
            _header(
                b"Invitation: about the shed",
                b"<cal-1@sender.example>",
                b"Content-Type: text/calendar; charset=utf-8; method=REQUEST",
            )
            + CRLF
            + invitation,
        ),
    ]


def _odd() -> list[_Body]:
    twin = b"<twin@sender.example>"
    odd_id = b"<!&!AAAAAAAAAAAYAAAAAAAAAKyq+/0=(demo)%7E~$@sender.example>"
    return [
        (
            "twin-a",
            "two different mails with one Message-ID: the first",
            _header(b"Monday's list", twin, _text()) + CRLF + _lines("nails, string, two hinges"),
        ),
        (
            "twin-b",
            "two different mails with one Message-ID: the second",
            _header(b"Tuesday's list", twin, _text()) + CRLF + _lines("paint (green), a brush"),
        ),
        (
            "odd-message-id",
            "a Message-ID that Gmail's search does not find",
            _header(b"A Message-ID to remember", odd_id, _text()) + CRLF + _lines("It begins with !&!."),
        ),
        (
            "long-lines",
            "lines of 1,500 and of 12,000 octets, and a header field of 1,200",
            _header(b"Long " + b"and longer " * 108, b"<long-1@sender.example>", _text())
            + CRLF
            + _lines("long " * 300, "longer" * 2_000, "short"),
        ),
        (
            "bare-lf",
            "lines in the body that end with LF alone, or with CR alone",
            _header(b"Ends of lines", b"<lf-1@sender.example>", _text())
            + CRLF
            + b"one CRLF\r\ntwo LF\nthree LF\nfour CR\rfive CRLF\r\nthe end, without one",
        ),
    ]


# -- the user's own mail -------------------------------------------------------------------------


def from_path(path: Path) -> Iterator[Sample]:
    """Read mail from a folder of ``.eml`` files, a Maildir, or an mbox file; nothing is changed on the way.

    In a folder every ``.eml`` file counts, at any depth, and everything in a Maildir's ``cur`` and
    ``new``; hidden files never do. Of an mbox each message is what lies between its ``From `` line
    and the empty line before the next one; a quoted ``>From `` in it stays quoted.

    Raises ValueError: there is no mail at ``path``.
    """
    found = False
    for sample in _in_folder(path) if path.is_dir() else _in_file(path):
        found = True
        yield sample
    if not found:
        raise ValueError(f"{path} holds no mail: give a folder of .eml files, a Maildir, or an mbox file")


def _in_folder(folder: Path) -> Iterator[Sample]:
    for at, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        here = Path(at)
        is_maildir = here.name in ("cur", "new") and (here.parent / "cur").is_dir() and (here.parent / "new").is_dir()
        for name in sorted(files):
            file = here / name
            if not name.startswith(".") and (is_maildir or file.suffix.lower() == ".eml") and file.is_file():
                yield _own(str(file.relative_to(folder)), file.read_bytes(), file)


def _in_file(path: Path) -> Iterator[Sample]:
    if not path.is_file():
        return
    with path.open("rb") as opened:
        begins_as_mbox = opened.read(5) == b"From "
    if path.suffix.lower() == ".eml":
        yield _own(path.name, path.read_bytes(), path)
    elif begins_as_mbox:
        box = mailbox.mbox(path, create=False)
        try:
            for number, key in enumerate(box.keys(), start=1):
                yield _own(f"{path.name}#{number}", _without_separator(box.get_bytes(key, from_=False)), path)
        finally:
            box.close()


def _without_separator(octets: bytes) -> bytes:
    """Take off the empty line before the next ``From `` line: the library does so only if it is a bare LF."""
    return octets.removesuffix(CRLF) if octets.endswith(CRLF * 2) else octets


def _own(name: str, raw: bytes, file: Path) -> Sample:
    return Sample(name, raw, _arrival(raw, file), "your own mail")


def _arrival(raw: bytes, file: Path) -> datetime:
    """Return when a mail arrived: by its topmost Received field, else its Date, else the file's."""
    end_of_header = re.search(rb"\r?\n\r?\n", raw)
    header = raw[: end_of_header.end()] if end_of_header else raw
    try:
        fields: Message = BytesHeaderParser().parsebytes(header)
        received = str(fields.get("Received", "")).rpartition(";")[2]
        texts = [received, str(fields.get("Date", ""))]
    except (MessageError, ValueError):
        texts = []
    for text in texts:
        try:
            read = parsedate_to_datetime(text)
            at = read if read.tzinfo is not None else read.replace(tzinfo=UTC)
            # INTERNALDATE has four digits for the year, and a zone in whole minutes.
            if 1970 <= at.astimezone(UTC).year <= 9998:
                return at.astimezone(UTC).replace(microsecond=0)
        except (ValueError, TypeError, OverflowError):
            continue
    return datetime.fromtimestamp(int(file.stat().st_mtime), UTC)
