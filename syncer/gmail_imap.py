"""The source: what is true of Gmail's IMAP only (PROVIDERS 1), and of reading without side effects.

The mailbox is opened by EXAMINE and bodies are fetched by BODY.PEEK[]: nothing here sets a flag.
A listing never relies on ``n:*`` (it always holds the newest message) nor on SEARCH SINCE alone
(day granularity, in the account's time zone, on a possibly stale index). A refusal of several bodies
says nothing about any one of them, nor does silence: those are asked for again, each alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Final

from syncer.errors import (
    AuthError,
    BrokenOff,
    ConfigError,
    MessageRefused,
    SignInRefused,
    SyncError,
    Throttled,
    Unavailable,
)
from syncer.fingerprint import HEADER_FIELDS, fingerprint
from syncer.imap_responses import Parts
from syncer.imap_session import ImapSession, MailboxMissing, Selected
from syncer.imap_utils import FetchValue, format_search_date, number, parse_fetch, parse_internaldate
from syncer.model import Fingerprint, MessageKey, Side, SourceMessage
from syncer.uid_set import UidSet

_DAY: Final = 86_400.0
_MAX_SET: Final = 4000
"""Characters of a UID set in one command: servers bound their command lines."""
_FETCH_OCTETS: Final = 1 << 20
_FETCH_COUNT: Final = 16
"""Messages that share a FETCH: at most so many, or so many octets (IMAPLAB A6)."""
_SLACK: Final = 1 << 20

_THROTTLES: Final = (
    # PROVIDERS 1.5, 15. Seconds are floors: too early an attempt prolongs a lock-out.
    (re.compile(r"too many simultaneous connections", re.IGNORECASE), 600.0),
    (re.compile(r"\[OVERQUOTA\]|command or bandwidth limits", re.IGNORECASE), 2 * 3600.0),
    (re.compile(r"session expired, please login again", re.IGNORECASE), 3600.0),
    (re.compile(r"\[(?:THROTTLED|LIMIT)\]", re.IGNORECASE), 600.0),
)
_WEB_LOGIN: Final = re.compile(r"\[WEBALERT|web login required|log in via your web browser", re.IGNORECASE)
_DOWN: Final = re.compile(r"\[(?:UNAVAILABLE|INUSE|SERVERBUG)\]", re.IGNORECASE)
_BAD_DAY: Final = re.compile(r"system error|temporar|try again|lookup failed", re.IGNORECASE)
"""Said to a FETCH it is about one message, said to a sign-in it is not about the token."""

_Row = tuple[int, int, str, float, str | None]
"""UID, size, INTERNALDATE as text and as a time, X-GM-MSGID."""
_Listing = tuple[dict[int, _Row], Future[None]]
_Bodies = dict[int, Future[bytes | bytearray]]


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
        if _DOWN.search(text):
            return Unavailable(self.side, text)
        return None

    def refused_sign_in(self, text: str) -> SyncError:
        """Return the error for a refused XOAUTH2."""
        if _BAD_DAY.search(text):
            return Unavailable(self.side, text)
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
        self._max_literal = 2 * max_message_bytes + _SLACK
        self._uidvalidity = 0

    def open(self, wanted: UidSet) -> tuple[Selected, list[SourceMessage]]:
        """EXAMINE the mailbox and list ``wanted``, both in one round trip; an empty set lists nothing.

        The list belongs to the UIDVALIDITY that is returned with it.
        Raises Unavailable, Throttled; ConfigError: there is no such mailbox.
        """
        opening = self._session.examine(self._mailbox)
        listings = self._ask(wanted)
        try:
            selected = opening.result()
        except MailboxMissing as missing:
            if self._mailbox.upper() == "INBOX":
                raise
            raise ConfigError([f"GMAIL_SOURCE_FOLDER: there is no such mailbox ({missing.reason})"]) from None
        self._uidvalidity = selected.uidvalidity
        return selected, self._collect(listings)

    def listing(self, uids: UidSet) -> list[SourceMessage]:
        """Return what the server says there is of ``uids``, in UID order.

        It may leave out what is there (PROVIDERS 1.3): who believes its silence has to ask twice.
        Raises Unavailable, Throttled.
        """
        return self._collect(self._ask(uids))

    def since(self, moment: float) -> UidSet:
        """Return the UIDs of what may have arrived since ``moment``: too many rather than too few.

        The search asks for a day before the day before: SINCE ignores the time of day, and the day
        turns in the account's time zone (PROVIDERS 1.3). The caller filters by INTERNALDATE.
        Raises Unavailable, Throttled.
        """
        return self._session.uid_search(f"SINCE {format_search_date(moment - _DAY)}")

    def headers(self, messages: Sequence[SourceMessage]) -> Mapping[MessageKey, Fingerprint]:
        """Return by what copies of these messages are recognised; one that is not served has no entry.

        What is not served at first is asked for a second time (PROVIDERS 1.3). Raises Unavailable, Throttled.
        """
        waiting = {message.key.uid: message for message in messages}
        found: dict[MessageKey, Fingerprint] = {}
        for _ in range(2):
            for uid, header in self._headers(UidSet(waiting)).items():
                message = waiting.pop(uid)
                found[message.key] = fingerprint(header, message.received_at)
        return found

    def fetch(self, messages: Sequence[SourceMessage]) -> list[Future[bytes | bytearray]]:
        """Fetch bodies, many in one command where they are small; one future for each message.

        The futures raise MessageRefused (this one is not served), Unavailable, Throttled; BrokenOff: the
        connection ended without a BYE, and of those in its command this was the next to be served.
        """
        futures: list[Future[bytes | bytearray]] = []
        for group in _groups(messages):
            awaited: _Bodies = {message.key.uid: Future() for message in group}
            futures += awaited.values()
            self._fetch_group(awaited, 2 * sum(message.size for message in group))
        return futures

    def probe(self) -> None:
        """Ask for any answer. Raises Unavailable, Throttled."""
        self._session.noop()

    def close(self) -> None:
        """Log out."""
        self._session.close()

    # -- listing

    def _ask(self, uids: UidSet) -> list[_Listing]:
        has_msgid = "X-GM-EXT-1" in self._session.capabilities
        items = f"UID{' X-GM-MSGID' if has_msgid else ''} RFC822.SIZE INTERNALDATE"
        asked = []
        for part in _split(uids):
            rows: dict[int, _Row] = {}

            def take(parts: Parts, part: UidSet = part, rows: dict[int, _Row] = rows) -> bool:
                found = _fetch_items(parts)
                if found is None or "RFC822.SIZE" not in found or _uid(found) not in part:
                    return False
                row = _row(found, has_msgid=has_msgid)
                rows[row[0]] = row
                return True

            asked.append((rows, self._session.uid_fetch(part, items, take)))
        return asked

    def _collect(self, listings: Iterable[_Listing]) -> list[SourceMessage]:
        found: dict[int, _Row] = {}
        for rows, done in listings:
            try:
                done.result()
            except MessageRefused as refused:
                raise Unavailable(Side.SOURCE, f"the listing was refused: {refused}") from None
            found |= rows
        return [
            SourceMessage(MessageKey(self._uidvalidity, uid), size, internaldate, received_at, msgid)
            for uid, size, internaldate, received_at, msgid in (found[uid] for uid in sorted(found))
        ]

    def _headers(self, uids: UidSet) -> dict[int, bytes | bytearray]:
        found: dict[int, bytes | bytearray] = {}

        def take(parts: Parts) -> bool:
            items = _fetch_items(parts) or {}
            name = next((name for name in items if name.startswith("BODY[HEADER.FIELDS")), None)
            uid = _uid(items)
            if name is None or uid is None or uid not in uids:
                return False
            header = items[name]
            found[uid] = header if isinstance(header, bytes | bytearray) else b""  # NIL: a message all the same
            return True

        items = f"UID BODY.PEEK[HEADER.FIELDS ({HEADER_FIELDS})]"
        for asked in [self._session.uid_fetch(part, items, take) for part in _split(uids)]:
            try:
                asked.result()
            except MessageRefused as refused:
                raise Unavailable(Side.SOURCE, f"the headers were refused: {refused}") from None
        return found

    # -- bodies

    def _fetch_group(self, awaited: _Bodies, octets: int, *, again: bool = True) -> None:
        """Fetch bodies; those that are not served are asked for ``again``, each alone.

        A NO to several says nothing about any one of them (PROVIDERS 1.5), nor does silence (1.3).
        """
        begun = True

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
            error = done.exception()
            missing = {uid: future for uid, future in awaited.items() if not future.done()}
            refused = isinstance(error, MessageRefused)
            if again and missing and (error is None or (refused and len(awaited) > 1)):
                for uid, future in missing.items():
                    self._fetch_group({uid: future}, octets, again=error is not None)
                return
            for place, future in enumerate(missing.values()):
                if place == 0 and begun and isinstance(error, Unavailable) and not error.reason.startswith("BYE"):
                    future.set_exception(BrokenOff(error.side, error.reason))
                else:
                    future.set_exception(error or MessageRefused("not in the source mailbox any more"))

        try:
            asked = self._session.uid_fetch(
                UidSet(awaited),
                "UID BODY.PEEK[]",
                take,
                literal_limit=self._max_literal,
                answer_limit=self._max_literal + octets,
            )
        except SyncError as error:
            begun = False
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


def _row(items: dict[str, FetchValue], *, has_msgid: bool) -> _Row:
    """Return what a listing says about one message. Raises ValueError: something is missing, or does not parse."""
    internaldate = _ascii(items.get("INTERNALDATE"))
    return (
        _uid(items) or 0,
        number(_ascii(items.get("RFC822.SIZE")).encode(), 2**63),
        internaldate,
        parse_internaldate(internaldate),
        str(number(_ascii(items.get("X-GM-MSGID")).encode(), 2**64 - 1)) if has_msgid else None,
    )


def _ascii(value: FetchValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return value.decode("ascii")
    raise ValueError("a listing without an item that was asked for")
