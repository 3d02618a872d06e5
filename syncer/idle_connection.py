"""One connection to the source in IDLE (RFC 2177): what it tells, and what it may have kept quiet.

Nothing it says is believed: growth of the mailbox is a reason to look, and each EXAMINE is compared with what
was known before, so that mail of which the server said nothing is noticed at the next one. When a connection is
held, and for how long an IDLE stands, is for ``idle_watch`` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from syncer.imap_responses import Parts
from syncer.imap_session import Idle, ImapSession, Selected

_NEWS: Final = re.compile(rb"\* (\d{1,10}) (EXISTS|EXPUNGE)", re.IGNORECASE)


class NotOffered(Exception):
    """The server does not know IDLE."""


class IdleConnection:
    """Enters IDLE on a session, again and again. The session stays its owner's to close."""

    def __init__(self, session: ImapSession, mailbox: str, arrived: Callable[[], None]) -> None:
        """Listen. ``arrived`` is called, from any thread, whenever there may be new mail. Raises NotOffered."""
        if "IDLE" not in session.capabilities:
            raise NotOffered
        self._session = session
        self._mailbox = mailbox
        self._arrived = arrived
        self._growth = Growth(arrived)
        self._known: Selected | None = None
        session.listen(self._growth.hear)

    def enter(self, last_uid: int) -> Idle:
        """Open the mailbox anew, which tells what there is, and enter IDLE.

        Up to ``last_uid`` everything has been seen to: the first time, mail above it has arrived.
        Raises Unavailable, Throttled, AuthError.
        """
        now, known = self._session.examine(self._mailbox).result(), self._known
        if known is None:
            has_more = now.uidnext - 1 > last_uid  # what the last cycle did not settle, it may not have seen
        else:
            has_more = now.uidvalidity != known.uidvalidity or now.uidnext - known.uidnext > self._growth.arrivals
        self._known = now
        self._growth.start(now.exists)
        if has_more:
            self._arrived()
        return self._session.idle()


class Growth:
    """Counts a mailbox's messages by what the server says unasked, and calls ``grown`` when they become more."""

    def __init__(self, grown: Callable[[], None]) -> None:
        self._grown = grown
        self._exists = 0
        self.arrivals = 0
        """Since ``start``."""

    def start(self, exists: int) -> None:
        """Count from here."""
        self._exists = exists
        self.arrivals = 0

    def hear(self, parts: Parts) -> None:
        """Take an untagged response; flags and remarks are none of our business."""
        news = _NEWS.fullmatch(bytes(parts[0]))
        if news is None:
            return
        if news[2].upper() == b"EXPUNGE":
            self._exists -= 1
            return
        before, self._exists = self._exists, int(news[1])
        if self._exists > before:
            self.arrivals += self._exists - before
            self._grown()
