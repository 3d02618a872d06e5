"""What differs between providers: the words, the capabilities, the oddities. gmail and outlook fill it in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import ClassVar

from tests.fakes.answers import Answer, Serving, date_time
from tests.fakes.mailboxes import FakeMessage, Mailbox, Mailboxes


class Face(ABC):
    """One provider, as a client sees it. The attributes may be changed while the server runs."""

    greeting: ClassVar[str]
    farewell: ClassVar[str]
    continuation: ClassVar[str]
    idling: ClassVar[str]
    unknown: ClassVar[str]
    """Answer to a command that is not known, or not in this state."""
    misread: ClassVar[str]
    """Answer to a command that cannot be parsed."""
    identity: ClassVar[Mapping[str, str]]
    status_items: ClassVar[frozenset[str]]
    allowed: ClassVar[frozenset[str]]
    """The verbs the product may send to this side; all others are recorded as violations."""
    gmail: ClassVar[bool] = False
    ignore_case: ClassVar[bool] = False

    free_literal: int | None = None
    """Largest {n+} that is taken; None: non-synchronising literals are not offered."""
    max_literal: int = 1 << 26
    search_blind: bool = False
    """SEARCH finds nothing although the mail is there (PROVIDERS 5.5)."""
    zone: tzinfo = UTC
    """In which SEARCH's days begin and end."""

    @abstractmethod
    def ok(self, verb: str) -> str:
        """Return the tagged line of a command that worked."""

    @abstractmethod
    def capabilities(self, *, signed_in: bool) -> str:
        """Return the list without the word CAPABILITY."""

    @abstractmethod
    def welcome(self, user: str) -> Answer:
        """Return the answer to a token that was accepted."""

    @abstractmethod
    def challenge(self) -> str | None:
        """Return the error challenge (not yet base64) for a refused token, None for none."""

    @abstractmethod
    def refused(self) -> Answer:
        """Return the tagged answer to a refused token."""

    @abstractmethod
    def login_answer(self) -> Answer:
        """Return the answer to a password."""

    @abstractmethod
    def no_mailbox(self, name: str) -> str:
        """Return the tagged line where a mailbox is missing."""

    @abstractmethod
    def open_answer(self, mailbox: Mailbox, *, readonly: bool) -> Answer:
        """Return the answer to EXAMINE or SELECT."""

    def list_flags(self, name: str, mailboxes: Mailboxes) -> str:
        """Return the flags that LIST shows."""
        inner = any(other.startswith(name + "/") for other in mailboxes.names())
        return "\\HasChildren" if inner else "\\HasNoChildren"

    def bad_date(self) -> str:
        """Return the tagged line for an APPEND whose date cannot be read."""
        return self.misread

    @abstractmethod
    def create(self, mailboxes: Mailboxes, name: str) -> Answer:
        """Make a mailbox."""

    @abstractmethod
    def append(
        self, mailboxes: Mailboxes, name: str, raw: bytes, flags: tuple[str, ...], when: datetime | None
    ) -> Answer:
        """Store a message."""

    def body(self, message: FakeMessage) -> bytes:
        """Return the octets that FETCH serves."""
        return message.raw

    def size(self, message: FakeMessage) -> int:
        """Return RFC822.SIZE."""
        return len(message.raw)

    def date(self, when: datetime) -> str:
        return date_time(when)

    def serving(self) -> Serving:
        return Serving(self.body, self.size, self.date, self.gmail)
