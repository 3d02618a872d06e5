"""What Exchange makes of a message: PROVIDERS 5.2. It stores an item, and writes new MIME at every FETCH."""

from __future__ import annotations

import hashlib
import re
from email.header import Header, decode_header, make_header
from typing import Final

from tests.fakes.answers import header_fields, split_header

STAMP: Final = b"x-ms-exchange-imapappendstamp: SA1PR84MB3156.NAMPRD84.PROD.OUTLOOK.COM\r\n\t(15.20.9999.010)\r\n"
_BOUNDARY: Final = re.compile(rb'boundary="?([^"\s;]+)"?', re.IGNORECASE)


def rewrite_mime(raw: bytes) -> bytes:
    """Return a message that means the same: another order, boundary, To, folding, encoding, size; and a stamp.

    Message-ID, Date, From and Subject keep what they say, not how it is written.
    """
    header, body = split_header(raw)
    fields = header_fields(header)
    fields.sort(key=lambda field: field.partition(b":")[0].lower())
    header = (
        b"".join(map(_rewritten, fields)) + STAMP + b"MIME-Version: 1.0\r\n" * (b"mime-version:" not in header.lower())
    )
    boundary = _BOUNDARY.search(header)
    if boundary:
        new = b"_000_" + hashlib.sha256(boundary[1]).hexdigest()[:32].upper().encode() + b"_"
        header, body = header.replace(boundary[1], new), body.replace(b"--" + boundary[1], b"--" + new)
    return header + b"\r\n" + body


def _rewritten(field: bytes) -> bytes:
    name, _, value = field.partition(b":")
    key = name.strip().lower()
    text = re.sub(rb"\r?\n[ \t]+", b" ", value.strip())
    if key == b"to":
        digest = hashlib.sha256(text).hexdigest()[:16].upper().encode()
        return b"To: <outlook_" + digest + b"@outlook.com>\r\n"
    if key == b"subject" and b"=?" in text:
        text = _encoded_anew(text)
    return name + b": " + text + b"\r\n"


def _encoded_anew(text: bytes) -> bytes:
    """Return a Subject's encoded words in UTF-8 and base64, folded, as Exchange writes them."""
    try:
        subject = str(make_header(decode_header(text.decode("ascii"))))
        return Header(subject, "utf-8", header_name="Subject").encode(linesep="\r\n").encode("ascii")
    except (UnicodeError, ValueError, LookupError):
        return text
