"""The source: what is true of Gmail's IMAP only (PROVIDERS 1), and of reading without side effects.

The mailbox is opened by EXAMINE and bodies are fetched by BODY.PEEK[]: nothing here sets a flag.
A listing never relies on ``n:*`` (it always holds the newest message) nor on SEARCH SINCE alone
(day granularity, in the account's time zone, on a possibly stale index).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Final

from syncer.errors import AuthError, MessageRefused, SignInRefused, SyncError, Throttled, Unavailable
from syncer.imap_client import Parts
from syncer.imap_session import ImapSession, Selected
from syncer.imap_utils import FetchValue, format_search_date, number, parse_fetch, parse_internaldate
from syncer.model import MessageKey, Side, SourceMessage
from syncer.uid_set import UidSet

_DAY: Final = 86_400.0
_MAX_SET: Final = 4000
"""Characters of a UID set in one command: servers bound their command lines."""
_FETCH_OCTETS: Final = 1 << 20
_FETCH_COUNT: Final = 16
"""Messages that share a FETCH: at most so many, or so many octets (IMAPLAB A6)."""

_THROTTLES: Final = (
    # PROVIDERS 1.5, 15. Seconds are floors: too early an attempt prolongs a lock-out.
    (re.compile(r"too many simultaneous connections", re.IGNORECASE), 600.0),
    (re.compile(r"\[OVERQUOTA\]|command or bandwidth limits", re.IGNORECASE), 2 * 3600.0),
    (re.compile(r"session expired, please login again", re.IGNORECASE), 3600.0),
    (re.compile(r"\[(?:THROTTLED|LIMIT)\]", re.IGNORECASE), 600.0),
)
_WEB_LOGIN: Final = re.compile(r"\[WEBALERT|web login required|log in via your web browser", re.IGNORECASE)
_TRANSIENT_SIGN_IN: Final = re.compile(r"\[(?:UNAVAILABLE|INUSE|SERVERBUG)\]", re.IGNORECASE)


class GmailDialect:
    """What Gmail's words mean."""

    side = Side.SOURCE

    def classify(self, text: str) -> SyncError | None:
        """Return what these words stand for, if more than the one command they answer."""
        for pattern, seconds in _THROTTLES:
            if pattern.search(text):
                return Throttled(self.side, text, seconds)
        if _WEB_LOGIN.search(text):
            return AuthError(self.side, text, "sign in to Gmail in a web browser once and confirm that it was you")
        if _TRANSIENT_SIGN_IN.search(text):
            return Unavailable(self.side, text)
        return None

    def refused_sign_in(self, text: str) -> SignInRefused:
        """Return the error for a refused XOAUTH2."""
        return SignInRefused(
            self.side,
            text or "sign-in refused",
            "check that GMAIL_EMAIL is the account that GMAIL_REFRESH_TOKEN was made for and that its scope is"
            " https://mail.google.com/; else sign in again",
        )


class GmailMailbox:
    """The source mailbox, open for reading over one connection."""

    def __init__(self, session: ImapSession, mailbox: str, max_message_bytes: int) -> None:
        self._session = session
        self._mailbox = mailbox
        self._literal_limit = 2 * max_message_bytes + (1 << 20)
        self._uidvalidity = 0

    @property
    def _items(self) -> str:
        msgid = " X-GM-MSGID" if "X-GM-EXT-1" in self._session.capabilities else ""
        return f"UID{msgid} RFC822.SIZE INTERNALDATE"

    def open(self, wanted: UidSet) -> tuple[Selected, list[SourceMessage]]:
        """EXAMINE the mailbox and list ``wanted``, both in one round trip; an empty set lists nothing.

        The list belongs to the UIDVALIDITY that is returned with it.
        Raises Unavailable, Throttled.
        """
        opening = self._session.examine(self._mailbox)
        listings = self._ask(wanted)
        selected = opening.result()
        self._uidvalidity = selected.uidvalidity
        return selected, self._collect(listings)

    def listing(self, uids: UidSet) -> list[SourceMessage]:
        """Return what there is of ``uids``, in UID order. Raises Unavailable, Throttled."""
        return self._collect(self._ask(uids))

    def since(self, moment: float) -> UidSet:
        """Return the UIDs of what may have arrived since ``moment``: too many rather than too few.

        The search asks for a day before the day before: SINCE ignores the time of day, and the day
        turns in the account's time zone (PROVIDERS 1.3). The caller filters by INTERNALDATE.
        Raises Unavailable, Throttled.
        """
        return self._session.uid_search(f"SINCE {format_search_date(moment - _DAY)}")

    def fetch(self, messages: Sequence[SourceMessage]) -> list[Future[bytes | bytearray]]:
        """Fetch bodies, many in one command where they are small; one future for each message.

        The futures raise MessageRefused (this one is not served), Unavailable, Throttled.
        """
        futures: list[Future[bytes | bytearray]] = []
        for group in _groups(messages):
            awaited: dict[int, Future[bytes | bytearray]] = {m.key.uid: Future() for m in group}
            futures += awaited.values()
            self._fetch_group(awaited)
        return futures

    def probe(self) -> None:
        """Ask for any answer. Raises Unavailable, Throttled."""
        self._session.noop()

    def close(self) -> None:
        """Log out."""
        self._session.close()

    # -- listing

    def _ask(self, uids: UidSet) -> list[tuple[UidSet, list[dict[str, FetchValue]], Future[None]]]:
        asked = []
        for part in _split(uids):
            rows: list[dict[str, FetchValue]] = []

            def take(parts: Parts, part: UidSet = part, rows: list[dict[str, FetchValue]] = rows) -> bool:
                items = _fetch_items(parts)
                if items is None or "RFC822.SIZE" not in items or _uid(items) not in part:
                    return False
                rows.append(items)
                return True

            asked.append((part, rows, self._session.uid_fetch(part, self._items, take)))
        return asked

    def _collect(
        self, listings: Iterable[tuple[UidSet, list[dict[str, FetchValue]], Future[None]]]
    ) -> list[SourceMessage]:
        found: dict[int, SourceMessage] = {}
        for _, rows, done in listings:
            try:
                done.result()
            except MessageRefused as refused:
                raise Unavailable(Side.SOURCE, f"the listing was refused: {refused}") from None
            for items in rows:
                message = self._message(items)
                found[message.key.uid] = message
        return [found[uid] for uid in sorted(found)]

    def _message(self, items: dict[str, FetchValue]) -> SourceMessage:
        try:
            internaldate = _ascii(items.get("INTERNALDATE"))
            msgid = items.get("X-GM-MSGID")
            return SourceMessage(
                key=MessageKey(self._uidvalidity, _uid(items) or 0),
                size=number(_ascii(items.get("RFC822.SIZE")).encode("ascii"), 2**63),
                internaldate=internaldate,
                received_at=parse_internaldate(internaldate),
                gmail_msgid=str(number(_ascii(msgid).encode("ascii"), 2**64 - 1)) if msgid is not None else None,
            )
        except ValueError:
            raise Unavailable(Side.SOURCE, "protocol broken: a listing that does not parse") from None

    # -- bodies

    def _fetch_group(self, awaited: dict[int, Future[bytes | bytearray]]) -> None:
        def take(parts: Parts) -> bool:
            items = _fetch_items(parts)
            if items is None or "BODY[]" not in items:
                return False
            future = awaited.get(_uid(items) or 0)
            body = items["BODY[]"]
            if future is None or future.done():
                return False
            if isinstance(body, bytes | bytearray):
                future.set_result(body)
            else:
                future.set_exception(MessageRefused("the source serves no body for it"))
            return True

        def finish(done: Future[None]) -> None:
            error = done.exception() or MessageRefused("not in the source mailbox any more")
            for future in awaited.values():
                if not future.done():
                    future.set_exception(error)

        try:
            asked = self._session.uid_fetch(UidSet(awaited), "UID BODY.PEEK[]", take, literal_limit=self._literal_limit)
        except SyncError as error:
            asked = Future()
            asked.set_exception(error)
        asked.add_done_callback(finish)


def _split(uids: UidSet) -> list[UidSet]:
    """Return a set in parts whose text fits into a command line."""
    parts: list[UidSet] = []
    items: list[str] = []
    room = _MAX_SET
    for item in str(uids).split(",") if uids else ():
        if room < len(item) + 1:
            parts.append(UidSet.parse(",".join(items)))
            items, room = [], _MAX_SET
        items.append(item)
        room -= len(item) + 1
    if items:
        parts.append(UidSet.parse(",".join(items)))
    return parts


def _groups(messages: Sequence[SourceMessage]) -> Iterable[list[SourceMessage]]:
    group: list[SourceMessage] = []
    octets = 0
    for message in messages:
        if group and (len(group) == _FETCH_COUNT or octets + message.size > _FETCH_OCTETS):
            yield group
            group, octets = [], 0
        group.append(message)
        octets += message.size
    if group:
        yield group


def _fetch_items(parts: Parts) -> dict[str, FetchValue] | None:
    if b" FETCH (" not in parts[0][:32].upper():
        return None
    return parse_fetch(parts)


def _uid(items: dict[str, FetchValue]) -> int | None:
    value = items.get("UID")
    return number(value.encode("ascii", "replace")) if isinstance(value, str) else None


def _ascii(value: FetchValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return value.decode("ascii")
    raise ValueError("a listing without an item that was asked for")
