"""Which commands each side may be sent. It sits below the client: anything else raises before a byte leaves.

The source is only read: EXAMINE, and FETCH by PEEK. The destination is only read and added to.
"""

from __future__ import annotations

import re
from typing import Final

from syncer.errors import VerbNotAllowed
from syncer.imap_utils import safe_text
from syncer.model import Side

_PEEK_ITEM: Final = (
    rb"(?:UID|FLAGS|INTERNALDATE|RFC822\.SIZE|X-GM-MSGID|BODY\.PEEK\[(?:HEADER\.FIELDS \([A-Z \-]+\))?\])"
)
# No "*": n:* always holds the newest message, whatever n is (RFC 3501 section 6.4.8).
_FETCH: Final = rb"UID FETCH [\d:,]+ \(%b(?: %b)*\)" % (_PEEK_ITEM, _PEEK_ITEM)
_READS: Final = (rb"CAPABILITY", rb"ID .*", rb"AUTHENTICATE XOAUTH2.*", rb"EXAMINE .*", rb"STATUS .*", _FETCH)
_ALWAYS: Final = (rb"NOOP", rb"LOGOUT")
_ALLOWED: Final = {
    Side.SOURCE: (*_READS, *_ALWAYS, rb"UID SEARCH .*", rb"IDLE", rb"DONE"),
    Side.DESTINATION: (*_READS, *_ALWAYS, rb"LIST .*", rb"CREATE .*", rb"SUBSCRIBE .*", rb"APPEND .*"),
}
_PATTERNS: Final = {side: re.compile(b"|".join(lines), re.IGNORECASE) for side, lines in _ALLOWED.items()}


def check_allowed(side: Side, line: bytes) -> None:
    """Let a command pass that its side may be sent.

    Raises VerbNotAllowed: it could change the source, or do to the destination what no copy needs.
    """
    if _PATTERNS[side].fullmatch(line) is None:
        verb = b" ".join(line.split(b" ", 2)[: 2 if line[:4].upper() == b"UID " else 1])
        raise VerbNotAllowed(f"{safe_text(verb)} is not allowed towards the {side}")
