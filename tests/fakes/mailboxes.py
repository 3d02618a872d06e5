"""The mailboxes of an account: shared by all connections, and alive when none is left.

Every change takes the account's lock and tells the listeners, so that a connection in IDLE
can speak up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class FakeMessage:
    uid: int
    raw: bytes
    internaldate: datetime
    """Aware: it is served with its own offset."""
    flags: tuple[str, ...] = ()
    msgid: int | None = None
    """X-GM-MSGID."""


def moment(when: datetime | float | None) -> datetime:
    """Return an aware time in whole seconds; None is now. Raises ValueError: the time is naive."""
    if when is None:
        when = datetime.now(UTC)
    elif not isinstance(when, datetime):
        when = datetime.fromtimestamp(when, UTC)
    if when.tzinfo is None:
        raise ValueError("a naive time says nothing")
    return when.replace(microsecond=0)


def _nobody() -> None:
    """Listen to nothing."""


@dataclass(eq=False)
class Mailbox:
    """One mailbox; its messages by UID, in the order of their UIDs."""

    name: str
    uidvalidity: int
    uidnext: int = 1
    by_uid: dict[int, FakeMessage] = field(default_factory=dict)
    modseq: int = 1
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    changed: Callable[[], None] = field(default=_nobody, repr=False)

    @property
    def messages(self) -> list[FakeMessage]:
        """Return the messages that are there now, by ascending UID."""
        with self.lock:
            return list(self.by_uid.values())

    @property
    def uids(self) -> list[int]:
        with self.lock:
            return list(self.by_uid)

    def get(self, uid: int) -> FakeMessage | None:
        with self.lock:
            return self.by_uid.get(uid)

    def add(
        self,
        raw: bytes,
        internaldate: datetime | float | None = None,
        flags: tuple[str, ...] = (),
        msgid: int | None = None,
    ) -> FakeMessage:
        """Store a message under the next UID."""
        with self.lock:
            message = FakeMessage(self.uidnext, raw, moment(internaldate), flags, msgid)
            self.by_uid[message.uid] = message
            self.uidnext += 1
            self.modseq += 1
        self.changed()
        return message

    def remove(self, uid: int) -> FakeMessage:
        """Take a message away, as its owner would in another client. Raises KeyError: it is not there."""
        with self.lock:
            message = self.by_uid.pop(uid)
            self.modseq += 1
        self.changed()
        return message

    def set_flags(self, uid: int, flags: tuple[str, ...]) -> None:
        with self.lock:
            self.by_uid[uid] = replace(self.by_uid[uid], flags=flags)
            self.modseq += 1

    def skip_uids(self, count: int) -> None:
        """Leave a gap, as a message does that came and went."""
        with self.lock:
            self.uidnext += count

    def set_uidvalidity(self, uidvalidity: int, *, renumber: bool = True) -> None:
        """Declare the UIDs handed out so far void; with ``renumber`` they start at 1 again."""
        with self.lock:
            self.uidvalidity = uidvalidity
            self.modseq += 1
            if renumber:
                kept = list(self.by_uid.values())
                self.by_uid = {uid: replace(message, uid=uid) for uid, message in enumerate(kept, 1)}
                self.uidnext = len(kept) + 1
        self.changed()


class Mailboxes:
    """All mailboxes of one account."""

    def __init__(self, *, ignore_case: bool = False, uidvalidity: int = 1) -> None:
        self.lock = threading.RLock()
        self.subscribed: list[str] = []
        self._ignore_case = ignore_case
        self._uidvalidity = uidvalidity
        self._by_key: dict[str, Mailbox] = {}
        self._listeners: list[Callable[[], None]] = []

    def _key(self, name: str) -> str:
        return name.casefold() if self._ignore_case or name.casefold() == "inbox" else name

    def get(self, name: str) -> Mailbox | None:
        with self.lock:
            return self._by_key.get(self._key(name))

    def names(self) -> list[str]:
        with self.lock:
            return [mailbox.name for mailbox in self._by_key.values()]

    def create(self, name: str, uidvalidity: int | None = None) -> Mailbox:
        """Make a mailbox, with a UIDVALIDITY that none had before. Raises ValueError: it exists."""
        with self.lock:
            if self._key(name) in self._by_key:
                raise ValueError(f"{name} exists")
            mailbox = Mailbox(name, uidvalidity or self._uidvalidity, lock=self.lock, changed=self._changed)
            self._uidvalidity = max(self._uidvalidity, mailbox.uidvalidity) + 1
            self._by_key[self._key(name)] = mailbox
            return mailbox

    def delete(self, name: str) -> Mailbox:
        """Remove a mailbox with all that is in it. Raises KeyError: there is none."""
        with self.lock:
            mailbox = self._by_key.pop(self._key(name))
        self._changed()
        return mailbox

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change."""
        with self.lock:
            self._listeners.append(listener)

    def _changed(self) -> None:
        with self.lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
