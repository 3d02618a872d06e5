"""A source and a destination in memory, with the manners of the real servers (PROVIDERS 17).

A server outlives the connections to it. What a hook raises is what becomes of a call: ``Cut`` ends
the connection there (and is turned into what the real mailbox would raise), anything else goes up
as it is. Raised before, nothing was done; raised after, it was done and the reply was lost; an
APPEND has a third place, "during": its bytes are under way and nobody knows where they end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from zlib import crc32

from syncer.errors import BrokenOff, MessageRefused, NotDelivered, NotPermitted, OutcomeUnknown, SyncError, Unavailable
from syncer.fingerprint import fingerprint
from syncer.imap_utils import parse_internaldate
from syncer.model import CopySeen, CopyUid, DestinationView, Fence, Fingerprint, MessageKey, Side, SourceMessage
from syncer.uid_set import MAX_UID, UidSet

Hook = Callable[[str, str], None]
"""Called with the call and "before", "during" or "after"."""
Later = Callable[[Callable[[], None]], None]
"""Has something done, at once or when its time has come; what is handed in is done in that order."""

DAY = 86_400.0

# The same messages are listed and looked at in cycle after cycle of thousands of simulations.
fingerprint_of = lru_cache(4096)(fingerprint)
moment_of = lru_cache(4096)(parse_internaldate)


class Cut(Exception):
    """The connection ended here. ``landing``: an APPEND under way arrives after so many seconds all the same."""

    def __init__(self, landing: float | None = None) -> None:
        super().__init__("the connection was cut")
        self.landing = landing


def _quiet(_call: str, _when: str) -> None:
    """Let everything happen."""


def at_once(call: Callable[[], None]) -> None:
    call()


@lru_cache(4096)
def internaldate_of(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%d-%b-%Y %H:%M:%S +0000")


# ---- the source


@dataclass(frozen=True, slots=True)
class Mail:
    """A message of the source, whatever its UID."""

    body: bytes
    received_at: float
    gmail_msgid: str | None


@dataclass(frozen=True, slots=True)
class Selected:
    uidvalidity: int
    uidnext: int
    exists: int


@dataclass
class SourceServer:
    """A mailbox like Gmail's INBOX; without ``has_msgids`` like that of any other server."""

    has_msgids: bool = True
    uidvalidity: int = 11
    uidnext: int = 1
    mails: dict[int, Mail] = field(default_factory=dict)
    silent_about: set[int] = field(default_factory=set)
    """UIDs that the next listing which should have them leaves out."""
    silences: Counter[int] = field(default_factory=Counter)
    """By UID: how many more listings leave it out."""
    refusals: dict[int, int] = field(default_factory=dict)
    """By UID: how often its body is refused from now on."""
    announced: dict[int, int] = field(default_factory=dict)
    """By UID: RFC822.SIZE where it is not the size."""
    served: dict[int, list[bytes]] = field(default_factory=dict)
    """By UID: bodies that are served once each, before the real one."""
    breaking: set[int] = field(default_factory=set)
    """UIDs whose bodies end early each time, and the connection with them."""
    faults: dict[str, SyncError] = field(default_factory=dict)
    """By call: what it raises from now on."""
    hook: Hook = _quiet
    connections: int = 0
    fetched: Counter[int] = field(default_factory=Counter)
    largest_listing: int = 0
    last_msgid: int = 1_700_000_000_000_000_000

    def deliver(self, body: bytes, received_at: float) -> int:
        """A new message arrives; return its UID."""
        self.last_msgid += 1
        return self.put(Mail(body, received_at, str(self.last_msgid) if self.has_msgids else None))

    def put(self, mail: Mail) -> int:
        """A message enters the mailbox, again perhaps (un-archived); it gets a new UID."""
        uid, self.uidnext = self.uidnext, self.uidnext + 1
        self.mails[uid] = mail
        return uid

    def take_out(self, uid: int) -> Mail:
        """A message leaves the mailbox (archived, snoozed, deleted)."""
        return self.mails.pop(uid)

    def renumber(self, first: int = 1) -> None:
        """UIDVALIDITY changes, and with it every UID."""
        mails = [mail for _, mail in sorted(self.mails.items())]
        self.uidvalidity += 1
        self.uidnext = first
        self.mails = {}
        for mail in mails:
            self.put(mail)

    def connect(self, later: Later = at_once) -> MemorySource:
        self.call("connect")
        self.connections += 1
        return MemorySource(self, later)

    def call(self, name: str) -> None:
        """Pass the place before a call. Raises what it is to fail with."""
        try:
            self.hook(f"source.{name}", "before")
        except Cut as cut:
            raise Unavailable(Side.SOURCE, str(cut)) from None
        if name in self.faults:
            raise self.faults[name]

    def answer(self, name: str) -> None:
        """Pass the place after a call."""
        try:
            self.hook(f"source.{name}", "after")
        except Cut as cut:
            raise Unavailable(Side.SOURCE, str(cut)) from None

    def listed(self, uids: UidSet) -> list[SourceMessage]:
        found = [uid for uid in sorted(self.mails) if uid in uids]
        left_out = self.silent_about.intersection(found)
        self.silent_about -= left_out
        for uid in +self.silences:
            if uid in found:
                self.silences[uid] -= 1
                left_out.add(uid)
        listing = [self._described(uid, self.mails[uid]) for uid in found if uid not in left_out]
        self.largest_listing = max(self.largest_listing, len(listing))
        return listing

    def _described(self, uid: int, mail: Mail) -> SourceMessage:
        text = internaldate_of(mail.received_at)
        return SourceMessage(
            key=MessageKey(self.uidvalidity, uid),
            size=self.announced.get(uid, len(mail.body)),
            internaldate=text,
            received_at=moment_of(text),
            gmail_msgid=mail.gmail_msgid,
        )


class MemorySource:
    """One connection to a SourceServer."""

    def __init__(self, server: SourceServer, later: Later) -> None:
        self._server = server
        self._later = later
        self._uidvalidity = 0
        self.closed = False
        self._broken = False

    def open(self, wanted: UidSet) -> tuple[Selected, list[SourceMessage]]:
        server = self._server
        server.call("open")
        self._uidvalidity = server.uidvalidity
        listed = server.listed(wanted)
        server.answer("open")
        return Selected(server.uidvalidity, server.uidnext, len(server.mails)), listed

    def listing(self, uids: UidSet) -> list[SourceMessage]:
        self._server.call("listing")
        listed = self._server.listed(uids) if self._stands else []
        self._server.answer("listing")
        return listed

    def since(self, moment: float) -> UidSet:
        """Like SEARCH SINCE of the day before: by day, and too many rather than too few."""
        self._server.call("since")
        day = moment // DAY * DAY - DAY
        found = UidSet(uid for uid, mail in self._server.mails.items() if mail.received_at >= day)
        self._server.answer("since")
        return found

    def headers(self, messages: Sequence[SourceMessage]) -> dict[MessageKey, Fingerprint]:
        self._server.call("headers")
        mails = self._server.mails if self._stands else {}
        found = {
            m.key: fingerprint(mails[m.key.uid].body.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", m.received_at)
            for m in messages
            if m.key.uid in mails
        }
        self._server.answer("headers")
        return found

    def fetch(self, messages: Sequence[SourceMessage]) -> list[Future[bytes | bytearray]]:
        futures: list[Future[bytes | bytearray]] = [Future() for _ in messages]
        for message, future in zip(messages, futures, strict=True):
            self._later(partial(self._fetch, message, future))
        return futures

    def probe(self) -> None:
        self._server.call("probe")
        self._server.answer("probe")

    def close(self) -> None:
        self.closed = True

    @property
    def _stands(self) -> bool:
        return self._uidvalidity == self._server.uidvalidity

    def _fetch(self, message: SourceMessage, future: Future[bytes | bytearray]) -> None:
        try:
            body = self._body(message.key.uid)
        except Unavailable as error:
            kind = Unavailable if self._broken or self.closed else BrokenOff
            self._broken = True
            future.set_exception(kind(error.side, error.reason))
        except SyncError as error:
            future.set_exception(error)
        else:
            future.set_result(body)

    def _body(self, uid: int) -> bytes:
        server = self._server
        if self.closed or self._broken:
            raise Unavailable(Side.SOURCE, "the connection is closed")
        server.call("fetch")
        if uid in server.breaking:
            raise Unavailable(Side.SOURCE, "the connection was cut")
        server.fetched[uid] += 1
        if server.refusals.get(uid, 0):
            server.refusals[uid] -= 1
            raise MessageRefused("FETCH: could not be FETCHed")
        if uid not in server.mails or not self._stands:
            raise MessageRefused("not in the source mailbox any more")
        body = server.served[uid].pop(0) if server.served.get(uid) else server.mails[uid].body
        server.answer("fetch")
        return body


# ---- the destination


@dataclass(frozen=True, slots=True)
class Copy:
    """A message of the destination: what was appended, and what is served of it."""

    body: bytes
    served: bytes
    received_at: float


@dataclass
class DestinationServer:
    """A mailbox like one of Outlook.com's."""

    now: Callable[[], float]
    uidvalidity: int = 5
    uidnext: int = 40
    copies: dict[int, Copy] = field(default_factory=dict)
    stored: Counter[bytes] = field(default_factory=Counter)
    """Everything that was ever appended, also what was moved away since."""
    tells_uids: bool = True
    """Answers with APPENDUID."""
    rewrites: Callable[[bytes], bytes] = bytes
    refuses: Callable[[bytes], SyncError | None] = lambda _body: None
    """Why a message is not taken; None: it is."""
    faults: dict[str, SyncError] = field(default_factory=dict)
    hook: Hook = _quiet
    opened: int = 0
    appends: list[bytes] = field(default_factory=list)
    """Every APPEND that reached the server, refused or not, in order."""
    _landing: list[tuple[float, str, bytes]] = field(default_factory=list)

    def store(self, internaldate: str, body: bytes) -> CopyUid:
        uid, self.uidnext = self.uidnext, self.uidnext + 1
        self.copies[uid] = Copy(body, self.rewrites(body), moment_of(internaldate))
        self.stored[body] += 1
        return CopyUid(self.uidvalidity, uid)

    def land_later(self, at: float, internaldate: str, body: bytes) -> None:
        """A message whose connection is gone already is stored at ``at``."""
        self._landing.append((at, internaldate, body))

    def land(self) -> None:
        """Store what has arrived by now."""
        due = [landing for landing in self._landing if landing[0] <= self.now()]
        self._landing = [landing for landing in self._landing if landing[0] > self.now()]
        for _, internaldate, body in sorted(due):
            self.store(internaldate, body)

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing is under way."""
        return not self._landing

    def put(self, body: bytes, received_at: float) -> int:
        """Somebody else puts a message into the mailbox; return its UID."""
        uid, self.uidnext = self.uidnext, self.uidnext + 1
        self.copies[uid] = Copy(body, body, received_at)
        return uid

    def take_out(self, uid: int) -> Copy:
        """The user moves a message to another mailbox, or deletes it."""
        return self.copies.pop(uid)

    def make_anew(self) -> None:
        """The user deletes the mailbox and makes another of that name."""
        self.uidvalidity += 1
        self.uidnext = 1
        self.copies = {}

    def call(self, name: str) -> None:
        self.land()
        try:
            self.hook(f"destination.{name}", "before")
        except Cut as cut:
            raise Unavailable(Side.DESTINATION, str(cut)) from None
        if name in self.faults:
            raise self.faults[name]

    def answer(self, name: str) -> None:
        try:
            self.hook(f"destination.{name}", "after")
        except Cut as cut:
            raise Unavailable(Side.DESTINATION, str(cut)) from None


class MemoryDestination:
    """One connection to a DestinationServer, made when it is opened."""

    def __init__(self, server: DestinationServer, later: Later = at_once) -> None:
        self._server = server
        self._later = later
        self._ended: SyncError | None = None
        self._opening: Future[Fence] | None = None

    def prepare(self) -> Future[Fence]:
        if self._opening is None:
            self._opening = Future()
            self._later(partial(self._open_for, self._opening))
        return self._opening

    def _open_for(self, opening: Future[Fence]) -> None:
        try:
            opening.set_result(self._open())
        except SyncError as error:
            opening.set_exception(error)

    def open(self) -> Fence:
        opening, self._opening = self._opening, None
        return self._open() if opening is None else opening.result()

    def _open(self) -> Fence:
        self._server.call("open")
        self._server.opened += 1
        self._server.answer("open")
        return Fence(self._server.uidvalidity, self._server.uidnext)

    def look(self, first_uid: int) -> DestinationView:
        server = self._server
        server.call("look")
        seen = tuple(
            CopySeen(uid, fingerprint_of(copy.served, copy.received_at))
            for uid, copy in sorted(server.copies.items())
            if first_uid <= uid <= MAX_UID
        )
        view = DestinationView(Fence(server.uidvalidity, server.uidnext), first_uid, seen)
        server.answer("look")
        return view

    def append(self, internaldate: str, body: bytes | bytearray, permit: Callable[[], bool]) -> Future[CopyUid | None]:
        outcome: Future[CopyUid | None] = Future()
        self._later(partial(self._append, internaldate, bytes(body), permit, outcome))
        return outcome

    def widen(self, messages: int) -> None:
        """Have one connection only."""

    def probe(self) -> None:
        self._server.call("probe")
        self._server.answer("probe")

    def failure(self) -> SyncError | None:
        return self._ended

    def close(self) -> None:
        self._end("closed")

    def _end(self, reason: str) -> None:
        self._ended = self._ended or Unavailable(Side.DESTINATION, reason)

    def _append(
        self, internaldate: str, body: bytes, permit: Callable[[], bool], outcome: Future[CopyUid | None]
    ) -> None:
        try:
            copy = self._stored(internaldate, body, permit)
        except SyncError as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(copy)

    def _stored(self, internaldate: str, body: bytes, permit: Callable[[], bool]) -> CopyUid | None:
        server = self._server
        if self._ended is not None:
            raise NotDelivered("the connection is gone")
        if not permit():
            raise NotPermitted("the lease has run out")
        server.land()
        try:
            server.hook("destination.append", "before")
        except Cut as cut:
            self._end(str(cut))
            raise NotDelivered(str(cut)) from None
        try:
            server.hook("destination.append", "during")
        except BaseException as ended:
            self._end(str(ended))
            landing = getattr(ended, "landing", None)
            if landing is not None:
                server.land_later(server.now() + landing, internaldate, body)
            if isinstance(ended, Cut):
                raise OutcomeUnknown(str(ended)) from None
            raise
        server.appends.append(body)
        refusal = server.refuses(body)
        if refusal is not None:
            raise refusal
        copy = server.store(internaldate, body)
        try:
            server.hook("destination.append", "after")
        except Cut as cut:
            self._end(str(cut))
            raise OutcomeUnknown(str(cut)) from None
        return copy if server.tells_uids else None


# ---- mail


def mail(name: str, *, message_id: str | None = None, text: str = "") -> bytes:
    """Return a message that differs from that of any other ``name``."""
    date = datetime.fromtimestamp(1_790_000_000 + crc32(name.encode()) % 10**6, UTC).strftime(
        "%a, %d %b %Y %H:%M:%S +0000"
    )
    identifier = f"<{name}@mail.test>" if message_id is None else message_id
    header = [f"Message-ID: {identifier}"] if identifier else []
    header += [f"Date: {date}", "From: A Sender <sender@mail.test>", f"Subject: about {name}"]
    return "\r\n".join([*header, "", text or f"the text of {name}", ""]).encode()


def lookalikes(name: str, count: int) -> list[bytes]:
    """Return messages that differ in their text alone: no header tells their copies apart."""
    return [mail(name, text=f"text number {number}") for number in range(count)]


def as_exchange_serves(body: bytes) -> bytes:
    """Return a message as Exchange gives it back: other fields, order, folding and MIME (PROVIDERS 5.2)."""
    header, _, text = body.partition(b"\r\n\r\n")
    fields = [line.replace(b"Subject: about ", b"Subject:\r\n about ") for line in header.split(b"\r\n")]
    added = [b"x-ms-exchange-imapappendstamp: SERVER.PROD.OUTLOOK.COM (15.20.9999.000)", b"MIME-Version: 1.0"]
    return b"\r\n".join([*added, *reversed(fields)]) + b"\r\n\r\n" + text.replace(b"the text", b"<p>the text</p>")
