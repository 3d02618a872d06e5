"""The one door to IMAP: a signed-in session whose commands are typed, allowed and bounded.

Owns the sign-in, the translation of everything that can go wrong into the error family, and the
commands both providers understand. What is true of one provider only
(its refusals, its throttle words) comes in as ``Dialect`` and lives in its own module.

What an APPEND that did not succeed means is decided here, once:

* a tagged NO or BAD: not delivered (RFC 3501 section 6.3.11: the mailbox is as before);
* the connection ended before the literal began to leave: NotDelivered;
* it ended later: OutcomeUnknown, and nobody may append again before looking.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Final, Protocol, TypeVar

from syncer.errors import (
    MessageRefused,
    NotDelivered,
    OutcomeUnknown,
    SyncError,
    Unavailable,
)
from syncer.imap_client import ANSWER_LIMIT, LITERAL_LIMIT, ConnectionLost, Idling, ImapClient, Reply, Sink
from syncer.imap_connect import ADVERTISED, Acquaintance, connect
from syncer.imap_responses import MAX_LINE, Parts
from syncer.imap_utils import (
    encode_mailbox_name,
    number,
    parse_list,
    parse_search,
    parse_status,
    quote,
    response_code,
    safe_text,
)
from syncer.model import Endpoint, Side
from syncer.uid_set import MAX_UID, UidSet

__all__ = ["ADVERTISED", "Acquaintance", "Dialect", "ImapSession", "MailboxMissing", "Selected"]

_T = TypeVar("_T")

_FETCH_ANSWER: Final = 64 << 20
"""Octets that one FETCH may be answered with, where the caller does not say."""

_MISSING: Final = re.compile(
    r"\[NONEXISTENT\]|unknown mailbox|folder is not found|does(?:n't| not) exist|no such mailbox", re.IGNORECASE
)


class Dialect(Protocol):
    """What one provider's words mean."""

    side: Side

    def classify(self, text: str) -> SyncError | None:
        """Return the error that these words of a NO, BAD or BYE stand for; None if they stand for nothing special."""
        ...

    def refused_sign_in(self, text: str) -> SyncError:
        """Return the error for a sign-in that was refused with these words."""
        ...


class _SignIn:
    """AUTHENTICATE XOAUTH2, in one round trip where the server offers SASL-IR (RFC 4959)."""

    def __init__(self, user: str, token: str) -> None:
        self._initial = base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode())
        self._client: ImapClient | None = None
        self.done: Future[Reply] = Future()
        self.told_capabilities = False
        self.was_early = False
        """It did not await the greeting."""

    def begin(self, client: ImapClient) -> None:
        """Submit it, once for a connection, as its capabilities allow. Raises ConnectionLost."""
        if client is self._client:
            return
        self._client = client
        self.was_early = client.spoke_first
        answers = [b""]  # to an error challenge, which Gmail wants before it says NO (PROVIDERS 3)
        line = b"AUTHENTICATE XOAUTH2"
        if "SASL-IR" in client.capabilities:
            line += b" " + self._initial
        else:
            answers.insert(0, self._initial)

        def capability(parts: Parts) -> bool:
            taken = client.take_capabilities(parts)
            self.told_capabilities |= taken
            return taken

        def answer(_challenge: bytes) -> bytes:
            if not answers:
                raise ValueError("a challenge too many")
            return answers.pop(0)

        self.done = client.submit(line, sink=capability, answer=answer)


class _NotUnderstood(Exception):
    """A sign-in that did not await the greeting was BAD: the server offers something else than was believed."""


class MailboxMissing(Unavailable):
    """The server says that there is no such mailbox."""


@dataclass(frozen=True, slots=True)
class Selected:
    """What EXAMINE told about a mailbox."""

    uidvalidity: int
    uidnext: int
    exists: int


@dataclass(slots=True)
class _Examined:
    """Collects the untagged answers to EXAMINE."""

    codes: dict[str, int] = field(default_factory=dict)
    exists: int = 0

    def take(self, parts: Parts) -> bool:
        line = bytes(parts[0])
        if line[:5].upper() == b"* OK ":
            code, argument = response_code(line[5:])
            if code in ("UIDVALIDITY", "UIDNEXT"):
                self.codes[code] = number(argument)
            return True
        if line.upper().endswith(b" EXISTS"):
            self.exists = number(line[2:-7])
            return True
        return line[:8].upper() == b"* FLAGS " or line.upper().endswith(b" RECENT")


class Idle:
    """An IDLE that stands."""

    def __init__(self, idling: Idling, ended: Future[None]) -> None:
        self._idling = idling
        self.ended = ended
        """Settled when the server has ended it: by our DONE, or by itself. Raises Unavailable, Throttled."""

    def done(self) -> None:
        """End it, and wait for the server's word that it has. Raises Unavailable, Throttled."""
        self._idling.done()
        self.ended.result()


class ImapSession:
    """A connection to one side, signed in."""

    def __init__(self, client: ImapClient, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect
        self._side = dialect.side
        self._capabilities_asked: Future[Reply] | None = None

    @classmethod
    def connect(
        cls,
        endpoint: Endpoint,
        dialect: Dialect,
        user: str,
        token: str,
        *,
        pause: Callable[[float], None] = time.sleep,
        known: Acquaintance | None = None,
    ) -> ImapSession:
        """Connect, verify the server and sign in; one that is ``known`` to take it, before it has greeted.

        Where the server does not understand that, it is connected to once more, as a stranger.

        Raises Unavailable, Throttled: not now; AuthError: the sign-in was refused.
        """
        known = known or Acquaintance()
        sign_in = _SignIn(user, token)
        try:
            client = connect(endpoint, dialect.side, pause, known, sign_in.begin)
        except ConnectionLost as lost:
            raise _lost(dialect, lost) from None
        session = cls(client, dialect)
        try:
            session._sign_in(sign_in)
        except BaseException as error:
            known.capabilities = ()
            client.close()
            if isinstance(error, _NotUnderstood):
                return cls.connect(endpoint, dialect, user, token, pause=pause, known=known)
            raise
        return session

    # -- signing in

    def _sign_in(self, sign_in: _SignIn) -> None:
        """Authenticate by XOAUTH2, if that was not begun with the connection, and see that it was accepted."""
        try:
            sign_in.begin(self._client)
        except ConnectionLost as lost:
            raise _lost(self._dialect, lost) from None
        reply = self._reply(sign_in.done)
        if reply.status != "OK":
            text = safe_text(reply.text)
            known = self._dialect.classify(text)
            if known is None and reply.status == "BAD" and sign_in.was_early:
                raise _NotUnderstood
            raise known or self._dialect.refused_sign_in(text)
        code, words = response_code(reply.text)
        if code == "CAPABILITY":
            self._client.take_capabilities([b"* CAPABILITY " + words])
        elif not sign_in.told_capabilities:
            # Not awaited: whatever is asked next is answered after it.
            self._capabilities_asked = self._submit(b"CAPABILITY", sink=self._client.take_capabilities)

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server offers, in upper case. Raises Unavailable, Throttled."""
        if self._capabilities_asked is not None:
            self._reply(self._capabilities_asked)
        return frozenset(self._client.capabilities)

    @property
    def alive(self) -> bool:
        """Tell whether the connection still stands."""
        return not self._client.ended

    @property
    def ended(self) -> SyncError:
        """Return what the end of the connection means for its side."""
        return _lost(self._dialect, ConnectionLost(self._client.ended, begun=False))

    def close(self) -> None:
        """Log out. Never raises."""
        self._client.close()

    # -- commands

    def examine(self, mailbox: str) -> Future[Selected]:
        """Open a mailbox for reading only. The future raises MailboxMissing, Unavailable, Throttled."""
        seen = _Examined()
        done = self._submit(b"EXAMINE " + mailbox_argument(mailbox), sink=seen.take)

        def selected(reply: Reply) -> Selected:
            if self._checked(reply).status == "NO" and _MISSING.search(safe_text(reply.text)):
                raise MailboxMissing(self._side, safe_text(reply.text))
            self._expect_ok(reply, "EXAMINE")
            self._expect_fence(seen.codes, "EXAMINE")
            return Selected(seen.codes["UIDVALIDITY"], seen.codes["UIDNEXT"], seen.exists)

        return self._then(done, selected)

    def status(self, mailbox: str) -> dict[str, int] | None:
        """Return UIDVALIDITY and UIDNEXT of a mailbox; None if the server says it is not there.

        Raises Unavailable, Throttled.
        """
        found: list[dict[str, int]] = []

        def take(parts: Parts) -> bool:
            if parts[0][:9].upper() != b"* STATUS ":
                return False
            found.append(parse_status(bytes(parts[-1])))
            return True

        reply = self._reply(self._submit(b"STATUS %b (UIDVALIDITY UIDNEXT)" % mailbox_argument(mailbox), sink=take))
        if self._checked(reply).status == "NO":
            return None
        self._expect_ok(reply, "STATUS")
        items = found[-1] if found else {}
        self._expect_fence(items, "STATUS")
        return items

    def list_mailboxes(self, pattern: str) -> list[tuple[str, str | None]]:
        """Return name (Unicode) and delimiter of the mailboxes that match. Raises Unavailable, Throttled."""
        found: list[tuple[str, str | None]] = []

        def take(parts: Parts) -> bool:
            if parts[0][:7].upper() != b"* LIST ":
                return False
            found.append(parse_list(parts))
            return True

        self._expect_ok(self._reply(self._submit(b'LIST "" ' + quote(pattern), sink=take)), "LIST")
        return found

    def create(self, mailbox: str) -> Reply:
        """Create a mailbox; the answer is the caller's to read. Raises Unavailable, Throttled."""
        return self._checked(self._reply(self._submit(b"CREATE " + mailbox_argument(mailbox))))

    def subscribe(self, mailbox: str) -> Reply:
        """Subscribe to a mailbox: new ones may be invisible without (PROVIDERS 5.4). Raises Unavailable, Throttled."""
        return self._checked(self._reply(self._submit(b"SUBSCRIBE " + mailbox_argument(mailbox))))

    def noop(self) -> None:
        """Ask for an answer. Raises Unavailable, Throttled."""
        self._expect_ok(self._reply(self._submit(b"NOOP")), "NOOP")

    def listen(self, listener: Callable[[Parts], None]) -> None:
        """Have ``listener`` hear, in the reader's thread, what the server says that no command asked for."""
        self._client.listener = listener

    def idle(self) -> Idle:
        """Begin to IDLE (RFC 2177): the server says by itself what is new, to ``listen``.

        Raises Unavailable (also: it refused), Throttled.
        """
        try:
            idling = self._client.submit_idle()
            idling.begun.result()
        except ConnectionLost as lost:
            raise _lost(self._dialect, lost) from None
        ended = self._then(idling.ended, lambda reply: self._expect_ok(reply, "IDLE"))
        if ended.done():
            ended.result()
            raise Unavailable(self._side, "the server ended IDLE by itself")
        return Idle(idling, ended)

    def uid_search(self, criteria: str) -> UidSet:
        """Return the UIDs that match. Raises Unavailable, Throttled."""
        found: list[UidSet] = []

        def take(parts: Parts) -> bool:
            if parts[0][:8].upper() != b"* SEARCH":
                return False
            found.append(parse_search(bytes(parts[0])))
            return True

        line = b"UID SEARCH " + criteria.encode("ascii")
        reply = self._reply(self._submit(line, sink=take, answer_limit=MAX_LINE))
        self._expect_ok(reply, "SEARCH")
        return reduce(or_, found, UidSet())

    def uid_fetch(
        self,
        uids: UidSet,
        items: str,
        sink: Sink,
        *,
        literal_limit: int = LITERAL_LIMIT,
        answer_limit: int = _FETCH_ANSWER,
    ) -> Future[None]:
        """Fetch ``items`` of ``uids``; the responses go to ``sink``, in the reader's thread.

        One response may hold ``literal_limit`` octets of literals, all together ``answer_limit`` octets.

        The future raises MessageRefused (NO or BAD), Unavailable, Throttled.
        """
        line = f"UID FETCH {uids} ({items})".encode("ascii")
        done = self._submit(line, sink=sink, literal_limit=literal_limit, answer_limit=answer_limit)

        def fetched(reply: Reply) -> None:
            if reply.status != "OK":
                text = safe_text(reply.text)
                raise self._dialect.classify(text) or MessageRefused(f"FETCH: {text}")

        return self._then(done, fetched)

    def append(
        self,
        mailbox: str,
        flags: Sequence[str],
        internaldate: str,
        body: bytes | bytearray,
        permit: Callable[[], bool],
    ) -> Future[bytes]:
        """Append a message, its octets as they are; the future gives the text of the tagged OK.

        The future raises MessageRefused, Throttled or Unavailable (the server said no: not
        delivered), NotDelivered, OutcomeUnknown (see the module). ``permit`` is asked just before
        the first byte leaves; refused, it is NotPermitted. It is asked again before each further
        piece; refused then, the connection ends, and it is OutcomeUnknown.
        """
        line = b"APPEND %b (%b) %b" % (mailbox_argument(mailbox), " ".join(flags).encode("ascii"), quote(internaldate))
        try:
            done = self._client.submit(line, literal=body, permit=permit)
        except ConnectionLost as lost:
            done = Future()
            done.set_exception(lost)
        outcome: Future[bytes] = Future()

        def settle(answered: Future[Reply]) -> None:
            error = answered.exception()
            if isinstance(error, ConnectionLost):
                kind = OutcomeUnknown if error.begun else NotDelivered
                outcome.set_exception(kind(safe_text(error.reason)))
            elif error is not None:
                outcome.set_exception(error)
            else:
                reply = answered.result()
                if reply.status == "OK":
                    outcome.set_result(reply.text)
                else:
                    outcome.set_exception(self._refusal(reply))

        done.add_done_callback(settle)
        return outcome

    def _refusal(self, reply: Reply) -> SyncError:
        text = safe_text(reply.text)
        known = self._dialect.classify(text)
        if known is None and (response_code(reply.text)[0] == "TRYCREATE" or _MISSING.search(text)):
            known = MailboxMissing(self._side, text)
        return known or MessageRefused(text)

    # -- waiting and translating

    def _submit(
        self,
        line: bytes,
        *,
        sink: Sink | None = None,
        literal_limit: int = LITERAL_LIMIT,
        answer_limit: int = ANSWER_LIMIT,
        answer: Callable[[bytes], bytes] | None = None,
    ) -> Future[Reply]:
        try:
            return self._client.submit(
                line, sink=sink, literal_limit=literal_limit, answer_limit=answer_limit, answer=answer
            )
        except ConnectionLost as lost:
            raise _lost(self._dialect, lost) from None

    def _then(self, done: Future[Reply], read: Callable[[Reply], _T]) -> Future[_T]:
        """Return a future of what ``read`` makes of the reply, with errors translated."""
        result: Future[_T] = Future()

        def settle(answered: Future[Reply]) -> None:
            try:
                result.set_result(read(self._reply(answered)))
            except Exception as error:  # noqa: BLE001 - a bug as well: whoever waits has to hear of it
                result.set_exception(error)

        done.add_done_callback(settle)
        return result

    def _reply(self, done: Future[Reply]) -> Reply:
        """Wait for a reply. The client settles every future in bounded time, so this has no time-out of its own."""
        try:
            return done.result()
        except ConnectionLost as lost:
            raise _lost(self._dialect, lost) from None

    def _checked(self, reply: Reply) -> Reply:
        """Raise what the words of a refusal stand for, if they stand for more than this one refusal."""
        if reply.status != "OK":
            known = self._dialect.classify(safe_text(reply.text))
            if known is not None:
                raise known
        return reply

    def _expect_ok(self, reply: Reply, command: str) -> None:
        if self._checked(reply).status != "OK":
            raise Unavailable(self._side, f"{command} refused: {safe_text(reply.text)}")

    def _expect_fence(self, items: dict[str, int], command: str) -> None:
        """Check that both numbers were told, and that they may be what they are said to be (RFC 3501 section 9)."""
        if not all(1 <= items.get(name, 0) <= MAX_UID for name in ("UIDVALIDITY", "UIDNEXT")):
            raise Unavailable(self._side, f"protocol broken: {command} without UIDVALIDITY and UIDNEXT")


def mailbox_argument(name: str) -> bytes:
    """Return a Unicode mailbox name as the argument of a command."""
    return quote(encode_mailbox_name(name))


def _lost(dialect: Dialect, lost: ConnectionLost) -> SyncError:
    """Return what the end of a connection means: a BYE may carry a provider's throttle words."""
    text = safe_text(lost.reason)
    return dialect.classify(text) or Unavailable(dialect.side, text)
