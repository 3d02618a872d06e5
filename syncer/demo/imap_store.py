"""The mailboxes of the embedded IMAP servers: pymap's in memory, made to keep every octet.

pymap 0.36.7 takes a message apart when it is stored and serves it from the parts. What that
does to mail which is not in good order, and what is done here instead:

- A message with nothing after its header (or without a blank line, and a line end last) was
  served without its last octet: ``pymap.mime._util.get_raw`` takes the end of an empty list of
  lines to be -1. Here the octets are kept as they came, and every whole message, size, header
  and text is cut from them.
- The last line of a header was left out of HEADER.FIELDS where no blank line follows it, and a
  line of white space ended the header. Here only an empty line does.
- A message was parsed for MIME and for its thread on arrival, which is slow, and fails on some
  mail. Here it is parsed when BODYSTRUCTURE, ENVELOPE or a part is asked for, which no mailbox
  copy does.
- Mail that arrived while IDLE was busy telling of the mail before it was not told of. Here it is.
- Two messages with one Adler-32 sum had one EMAILID, so it is no base for X-GM-MSGID. Here each
  delivery has a number of its own, which follows the message wherever it goes.

Everything in here runs in the event loop of its server.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count

from pymap.backend.dict.mailbox import LoadedMessage, MailboxData, MailboxSet, Message
from pymap.bytes import Writeable
from pymap.concurrent import Event
from pymap.listtree import ListTree
from pymap.mime import MessageContent
from pymap.parsing.message import AppendMessage
from pymap.parsing.specials import FetchRequirement, ObjectId
from pymap.parsing.specials.flag import Flag
from pymap.selected import SelectedMailbox


class Numbers:
    """Where one server takes its message numbers and UIDVALIDITY values from: none comes twice."""

    def __init__(self) -> None:
        now = time.time()
        # As Gmail makes them: milliseconds since the epoch in the upper bits. So they are beyond
        # what a float can hold, and neighbours differ only in the bits it would lose.
        self._msgids = count(int(now * 1000) << 20)
        self._uidvalidities = count(int(now))

    def msgid(self) -> int:
        """Return the X-GM-MSGID of a new message."""
        return next(self._msgids)

    def uidvalidity(self) -> int:
        """Return the UIDVALIDITY of a new mailbox: above that of any before (RFC 3501 section 2.3.1.1)."""
        return next(self._uidvalidities)


class Letter(Message):
    """A message as it came, with the number that stays with it."""

    __slots__ = ["gmail_msgid", "raw"]

    def __init__(
        self,
        uid: int,
        internal_date: datetime,
        permanent_flags: Iterable[Flag],
        *,
        raw: bytes,
        gmail_msgid: int,
        recent: bool = False,
    ) -> None:
        email_id = ObjectId(b"M%d" % gmail_msgid)
        super().__init__(uid, internal_date, permanent_flags, email_id=email_id, recent=recent)
        self.raw = raw
        self.gmail_msgid = gmail_msgid

    def with_uid(self, uid: int, *, recent: bool) -> Letter:
        """Return the same message as another mailbox, or the same one once more, will hold it."""
        return Letter(
            uid,
            self.internal_date,
            self.permanent_flags,
            raw=self.raw,
            gmail_msgid=self.gmail_msgid,
            recent=recent,
        )

    async def load_content(self, requirement: FetchRequirement) -> LoadedMessage:
        """Return what answers the parts of a FETCH that concern the content."""
        return _OpenLetter(self, requirement)


class _OpenLetter(LoadedMessage):
    """Cuts what is asked for from the octets of a letter."""

    def __init__(self, letter: Letter, requirement: FetchRequirement) -> None:
        super().__init__(letter, requirement, None)
        self._raw = letter.raw

    @property
    def content(self) -> MessageContent:
        """The message taken apart by pymap: right for mail in good order only."""
        if self._content is None:
            self._content = MessageContent.parse(self._raw)
        return self._content

    def __bytes__(self) -> bytes:
        return self._raw

    def get_size(self, section: Sequence[int] | None = None) -> int:
        return super().get_size(section) if section else len(self._raw)

    def get_body(self, section: Sequence[int] | None = None, binary: bool = False) -> Writeable:
        return super().get_body(section, binary) if section or binary else Writeable.wrap(self._raw)

    def get_message_headers(
        self, section: Sequence[int] | None = None, subset: Collection[bytes] | None = None, inverse: bool = False
    ) -> Writeable:
        if section:
            return super().get_message_headers(section, subset, inverse)
        if subset is None:
            return Writeable.wrap(self._raw[: _end_of_header(self._raw)])
        fields = [field for name, field in header_fields(self._raw) if inverse != (name in subset)]
        return Writeable.wrap(b"".join(fields) + b"\r\n")

    def get_message_text(self, section: Sequence[int] | None = None) -> Writeable:
        if section:
            return super().get_message_text(section)
        return Writeable.wrap(self._raw[_end_of_header(self._raw) :])


def _header_lines(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and end of every header line, the empty line that ends the header included."""
    start = 0
    while start < len(raw):
        end = raw.find(b"\n", start) + 1 or len(raw)
        yield start, end
        if raw[start:end] in (b"\r\n", b"\n"):
            return
        start = end


def _end_of_header(raw: bytes) -> int:
    """Return where the text begins: after the empty line, or at the end if there is none."""
    return max((end for _, end in _header_lines(raw)), default=0)


def header_fields(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return every header field: its name in capitals, and its lines as they are.

    A line that is neither a field nor the continuation of one has an empty name. The last line
    gets a line end if it lacks one, or the field after it in an answer would continue it.
    """
    fields: list[tuple[bytes, bytes]] = []
    for start, end in _header_lines(raw):
        line = raw[start:end]
        if line in (b"\r\n", b"\n"):
            break
        if not line.endswith(b"\n"):
            line += b"\r\n"
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] = (fields[-1][0], fields[-1][1] + line)
        else:
            name, colon, _ = line.partition(b":")
            fields.append((name.strip().upper() if colon else b"", line))
    return fields


class Mailbox(MailboxData):
    """One mailbox, holding letters."""

    def __init__(self, like: MailboxSet, numbers: Numbers) -> None:
        super().__init__(like._content_cache, like._thread_cache)  # noqa: SLF001 - required there, unused here
        self._numbers = numbers
        self._uid_validity = numbers.uidvalidity()

    async def update_selected(self, selected: SelectedMailbox, *, wait_on: Event | None = None) -> SelectedMailbox:
        """Bring a connection up to date; with ``wait_on`` (IDLE), when there is something to tell."""
        if selected.mod_sequence is not None and selected.mod_sequence != self._mod_sequences.highest:
            wait_on = None  # it happened since the last look, and will not happen again
        return await super().update_selected(selected, wait_on=wait_on)

    async def append(self, append_msg: AppendMessage, *, recent: bool = False) -> Letter:
        """Store a new message: by APPEND, or delivered."""
        return await self.add(
            Letter(
                0,
                append_msg.when or datetime.now(UTC),
                append_msg.flag_set,
                raw=append_msg.literal,
                gmail_msgid=self._numbers.msgid(),
            ),
            recent=recent,
        )

    async def add(self, letter: Letter, *, recent: bool = False) -> Letter:
        """Store a message that has its number already, under the next UID."""
        async with self.messages_lock.write_lock():
            self._max_uid += 1
            stored = letter.with_uid(self._max_uid, recent=recent)
            self._messages[stored.uid] = stored
            self._mod_sequences.update([stored.uid])
            self._updated.set()
            return stored

    async def copy(self, uid: int, destination: MailboxData, *, recent: bool = False) -> int | None:
        """Answer COPY: the copy is the same message to Gmail, so it keeps its number."""
        letter = self._messages.get(uid)
        if not isinstance(letter, Letter) or not isinstance(destination, Mailbox):
            return None
        return (await destination.add(letter, recent=recent)).uid

    async def move(self, uid: int, destination: MailboxData, *, recent: bool = False) -> int | None:
        """Answer MOVE."""
        moved = await self.copy(uid, destination, recent=recent)
        if moved is not None:
            await self.delete([uid])
        return moved

    def letters(self) -> list[Letter]:
        """Return what is in the mailbox, in UID order."""
        return [letter for _, letter in sorted(self._messages.items()) if isinstance(letter, Letter)]

    async def take(self, uid: int) -> Letter:
        """Take a message out, as an expunge does. Raises KeyError: there is none with this UID."""
        letter = self._messages[uid]
        if not isinstance(letter, Letter):
            raise KeyError(uid)
        await self.delete([uid])
        return letter

    def set_uidvalidity(self, value: int) -> None:
        """Declare every UID of before void; the messages stay, and so do their numbers."""
        self._uid_validity = value


class Mailboxes(MailboxSet):
    """The mailboxes of one user."""

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self._numbers = numbers
        self._inbox = Mailbox(self, numbers)

    async def add_mailbox(self, name: str) -> ObjectId:
        """Answer CREATE. Raises ValueError: the mailbox is there already."""
        if name in self._set:
            raise ValueError(name)
        self._set[name] = made = Mailbox(self, self._numbers)
        return made.mailbox_id

    async def mailbox(self, name: str, *, create: bool = False) -> Mailbox:
        """Return a mailbox. Raises KeyError: there is none with this name, and ``create`` is not set."""
        if create and name.upper() != "INBOX" and name not in self._set:
            await self.add_mailbox(name)
        found = await self.get_mailbox(name)
        if not isinstance(found, Mailbox):
            raise KeyError(name)
        return found

    async def names(self) -> list[str]:
        """Return the name of every mailbox, INBOX first."""
        return _names(await self.list_mailboxes())

    async def subscribed_names(self) -> list[str]:
        """Return the name of every mailbox its user subscribed to, INBOX first."""
        return _names(await self.list_subscribed())


def _names(tree: ListTree) -> list[str]:
    return [entry.name for entry in tree.list() if entry.exists]
