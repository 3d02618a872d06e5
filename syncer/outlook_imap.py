"""The destination: what is true of Outlook.com's IMAP only (PROVIDERS 4, 5), and of storing a copy once.

An OK to AUTHENTICATE proves nothing here: the mailbox is probed before anything is believed. A copy
is found again by what was recorded before its APPEND (UIDNEXT) and by header fields, never by
SEARCH, size or bytes.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from syncer.errors import (
    AuthError,
    ConfigError,
    MessageRefused,
    SignInRefused,
    SyncError,
    Throttled,
    Unavailable,
)
from syncer.fingerprint import HEADER_FIELDS, fingerprint
from syncer.imap_responses import Parts, ProtocolBroken
from syncer.imap_session import ImapSession
from syncer.imap_utils import number, parse_appenduid, parse_fetch, parse_internaldate, response_code, safe_text
from syncer.model import CopySeen, CopyUid, DestinationView, Fence, Side
from syncer.uid_set import MAX_UID, UidSet

_BACKOFF: Final = re.compile(r"backoff time: ?(\d{1,9}) milliseconds", re.IGNORECASE)
_MIN_BACKOFF: Final = 60.0
"""Seconds: what a server names is a floor, and a cycle is longer than most of what it names (PROVIDERS 15)."""
_MAX_BACKOFF: Final = 86_400.0
_THROTTLED: Final = re.compile(r"request is throttled|too many connections|\[THROTTLED\]", re.IGNORECASE)
_DEFAULT_BACKOFF: Final = 300.0
_NOT_CONNECTED: Final = re.compile(r"authenticated but not connected", re.IGNORECASE)
_DOWN: Final = re.compile(r"server unavailable|\[(?:UNAVAILABLE|INUSE|SERVERBUG)\]", re.IGNORECASE)
_FULL: Final = re.compile(
    r"quota|(?:mailbox|storage) (?:is )?full|exceeded (?:your|its|the) (?:storage|mailbox)", re.IGNORECASE
)
_FULL_BACKOFF: Final = 3600.0
"""Seconds: to try is to fetch a message first, and Gmail counts what is fetched (PROVIDERS 1.5, 15)."""
MAX_SEEN: Final = 150_000
"""Messages in one look: so many headers of usual length are what one FETCH may be answered with, and no more
of tiny ones, which would take many times their size."""
_PAUSE: Final = 2.0
"""Seconds before the one new sign-in after "not connected"."""


class OutlookDialect:
    """What Outlook.com's words mean."""

    side = Side.DESTINATION

    def classify(self, text: str) -> SyncError | None:
        """Return what these words stand for, if more than the one command they answer."""
        if match := _BACKOFF.search(text):
            seconds = min(max(int(match[1]) / 1000, _MIN_BACKOFF), _MAX_BACKOFF)
            return Throttled(self.side, text, seconds, too_fast=True)
        if match := _THROTTLED.search(text):
            return Throttled(self.side, text, _DEFAULT_BACKOFF, too_fast="connections" not in match[0].lower())
        if _NOT_CONNECTED.search(text):
            return NotConnected(self.side, text)
        if "basic authentication is disabled" in text.lower():
            return AuthError(self.side, text, "sign in with OAuth: set MS_CLIENT_ID and MS_REFRESH_TOKEN")
        if _DOWN.search(text):
            return Unavailable(self.side, text)
        if _FULL.search(text):
            return Throttled(self.side, f"the mailbox is full: {text}", _FULL_BACKOFF)
        return None

    def refused_sign_in(self, text: str) -> SignInRefused:
        """Return the error for a refused XOAUTH2."""
        return SignInRefused(
            self.side,
            text or "sign-in refused",
            "check that OUTLOOK_EMAIL is the primary address of the account that MS_REFRESH_TOKEN was made for, that"
            " the scope is https://outlook.office.com/IMAP.AccessAsUser.All and that Outlook.com's settings let"
            " devices and apps use IMAP; else sign in again",
        )


class NotConnected(Unavailable):
    """The sign-in was accepted, and the mailbox behind it cannot be reached (PROVIDERS 4.2)."""

    def __init__(self, side: Side, text: str) -> None:
        super().__init__(
            side,
            f"{text} Check in Outlook.com's settings (Mail, Forwarding and IMAP) that devices and apps may use IMAP,"
            " and that OUTLOOK_EMAIL is the account's primary address; else Microsoft's server is at fault",
        )


@dataclass(slots=True, eq=False)
class _Lane:
    """A connection, and how many APPENDs are in flight on it."""

    session: ImapSession
    in_flight: int = 0


class OutlookMailbox:
    """The destination mailbox over one or more connections."""

    def __init__(
        self,
        connect: Callable[[], ImapSession],
        mailbox: str,
        *,
        create: bool,
        mark_seen: bool,
        connections: int = 1,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``connect`` makes a signed-in session; ``connections`` is how many there may be at once."""
        self._connect = connect
        self._mailbox = mailbox
        self._create = create
        self._flags: Sequence[str] = ("\\Seen",) if mark_seen else ()
        self._connections = connections
        self._pause = pause
        self._lanes: list[_Lane] = []
        self._opening: Future[Fence] | None = None
        self._lock = threading.Lock()  # guards the counts: the connections' threads settle APPENDs

    def prepare(self) -> Future[Fence]:
        """Begin to do what ``open`` does, if that was not begun; the future tells when that is worth calling."""
        if self._opening is None:
            self._opening = Future()
            threading.Thread(target=self._open_for, args=(self._opening,), name="prepare", daemon=True).start()
        return self._opening

    def _open_for(self, opening: Future[Fence]) -> None:
        try:
            opening.set_result(self._open())
        except BaseException as error:  # noqa: BLE001 - a bug as well: whoever opens has to hear of it
            opening.set_exception(error)

    def open(self) -> Fence:
        """Connect, prove that the mailbox can be reached, make sure that it is there.

        Returns UIDVALIDITY and UIDNEXT as they were found then.
        Raises Unavailable, Throttled, AuthError; ConfigError: the mailbox is not there and may not be made.
        """
        opening, self._opening = self._opening, None
        return self._open() if opening is None else opening.result()

    def _open(self) -> Fence:
        try:
            return self._open_once()
        except NotConnected:
            # At most one new sign-in, after a short pause (PROVIDERS 4.2).
            self._log_out()
            self._pause(_PAUSE)
            return self._open_once()

    def _open_once(self) -> Fence:
        session = self._connect()
        self._lanes.append(_Lane(session))
        status = session.status(self._mailbox)
        if status is None:
            status = self._find_or_create(session)
        if status is None:
            raise Unavailable(Side.DESTINATION, "the mailbox of OUTLOOK_TARGET_FOLDER was made and is not there")
        return Fence(status["UIDVALIDITY"], status["UIDNEXT"])

    def look(self, first_uid: int) -> DestinationView:
        """Return what is in the mailbox from ``first_uid`` on, as recognised by header fields.

        Raises Unavailable, Throttled; Unavailable also where there are more than ``MAX_SEEN``.
        """
        session = self._lanes[0].session
        wanted = UidSet.of_range(max(first_uid, 1), MAX_UID)
        seen: dict[int, CopySeen] = {}
        texts: dict[str, str] = {}

        def take(parts: Parts) -> bool:
            if b" FETCH (" not in parts[0][:32].upper():
                return False
            items = parse_fetch(parts)
            name = next((name for name in items if name.startswith("BODY[HEADER.FIELDS")), None)
            uid, internaldate = items.get("UID"), items.get("INTERNALDATE")
            if name is None or not isinstance(uid, str) or not isinstance(internaldate, bytes | bytearray):
                return False
            received_at = parse_internaldate(internaldate.decode("ascii", "replace"))
            header = items[name]
            if not isinstance(header, bytes | bytearray):
                header = b""  # NIL: a message all the same
            if number(uid.encode("ascii", "replace")) not in wanted:
                return True
            told = fingerprint(header, received_at)
            if len(seen) >= MAX_SEEN:
                raise ProtocolBroken(f"more than {MAX_SEEN} messages where copies are looked for")
            # What is alike is held once: a sender, a subject, or nothing at all in thousands of headers.
            alike = (texts.setdefault(text, text) for text in (told.date, told.sender, told.subject))
            date, sender, subject = alike
            seen[int(uid)] = CopySeen(int(uid), replace(told, date=date, sender=sender, subject=subject))
            return True

        opening = session.examine(self._mailbox)
        items = f"UID INTERNALDATE BODY.PEEK[HEADER.FIELDS ({HEADER_FIELDS})]"
        fetching = session.uid_fetch(wanted, items, take)
        selected = opening.result()
        try:
            fetching.result()
        except MessageRefused as refused:
            raise Unavailable(Side.DESTINATION, f"the look was refused: {refused}") from None
        return DestinationView(
            Fence(selected.uidvalidity, selected.uidnext), wanted.lowest, tuple(seen[uid] for uid in sorted(seen))
        )

    def append(self, internaldate: str, body: bytes | bytearray, permit: Callable[[], bool]) -> Future[CopyUid | None]:
        """Store a message; the future gives its UID, or None where the server does not tell.

        For what the future raises see ``ImapSession.append``.
        """
        with self._lock:
            lane = min(self._lanes, key=lambda lane: lane.in_flight)
            lane.in_flight += 1
        outcome: Future[CopyUid | None] = Future()

        def settle(done: Future[bytes]) -> None:
            with self._lock:
                lane.in_flight -= 1
            error = done.exception()
            if error is None:
                outcome.set_result(parse_appenduid(done.result()))
            else:
                outcome.set_exception(error)

        lane.session.append(self._mailbox, self._flags, internaldate, body, permit).add_done_callback(settle)
        return outcome

    def widen(self, messages: int) -> None:
        """Open further connections, as many as allowed and as ``messages`` to copy are worth.

        What the server does not grant is done without. Raises AuthError.
        """
        more = min(self._connections, messages) - len(self._lanes)
        if more <= 0:
            return
        # All at once: a connection takes five round trips, and the first one is idle meanwhile.
        with ThreadPoolExecutor(more, "connect") as pool:
            asked = [pool.submit(self._further) for _ in range(more)]
        granted = [lane for lane in (opening.result() for opening in asked) if lane is not None]
        self._lanes += granted
        if len(granted) < more:
            self._connections = len(self._lanes)

    def _further(self) -> _Lane | None:
        """Return one connection more; None if the server does not grant it. Raises AuthError."""
        session: ImapSession | None = None
        try:
            session = self._connect()
            session.status(self._mailbox)  # here too an OK to AUTHENTICATE proves nothing
        except (Unavailable, Throttled):
            if session is not None:
                session.close()
            return None
        return _Lane(session)

    def probe(self) -> None:
        """Prove that the mailbox still can be reached. Raises Unavailable, Throttled."""
        if self._lanes[0].session.status(self._mailbox) is None:
            raise Unavailable(Side.DESTINATION, "the mailbox of OUTLOOK_TARGET_FOLDER is gone")

    def failure(self) -> SyncError | None:
        """Return why a connection ended; None while all stand."""
        return next((lane.session.ended for lane in self._lanes if not lane.session.alive), None)

    def close(self) -> None:
        """Log out of every connection."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.exception()  # not beside it
        self._log_out()

    def _log_out(self) -> None:
        for lane in self._lanes:
            lane.session.close()
        self._lanes.clear()

    # -- making sure that the mailbox is there

    def _find_or_create(self, session: ImapSession) -> dict[str, int] | None:
        """Return the STATUS of the mailbox, under the name that the server has for it; made if it has none."""
        delimiter = next((found for _, found in session.list_mailboxes("") if found), "/")
        wanted = self._mailbox.replace("/", delimiter)
        # Exchange does not tell upper case from lower; neither do its users.
        listed = [name for name, _ in session.list_mailboxes("*") if name.casefold() == wanted.casefold()]
        self._mailbox = listed[0] if listed else wanted
        status = session.status(self._mailbox) if listed else None
        if status is not None:
            return status
        if not self._create:
            raise _folder_fault(
                f"there is no folder {self._mailbox!r} in the Outlook.com mailbox, and OUTLOOK_CREATE_FOLDER is false:"
                " make the folder, or set OUTLOOK_CREATE_FOLDER=true"
            )
        self._make(session, self._mailbox, delimiter)
        return session.status(self._mailbox)

    def _make(self, session: ImapSession, name: str, delimiter: str) -> None:
        """CREATE a mailbox, with its superior levels where the server does not make them (RFC 3501 section 6.3.3)."""
        reply = session.create(name)
        if reply.status != "OK" and delimiter in name and response_code(reply.text)[0] != "ALREADYEXISTS":
            levels = name.split(delimiter)
            for depth in range(1, len(levels)):
                session.create(delimiter.join(levels[:depth]))  # it may be there already
            reply = session.create(name)
        if reply.status != "OK" and session.status(name) is None:
            raise _folder_fault(f"Outlook.com does not make this folder ({safe_text(reply.text)}): name another")
        session.subscribe(name)


def _folder_fault(fault: str) -> ConfigError:
    return ConfigError([f"OUTLOOK_TARGET_FOLDER: {fault}"])
