"""What the engine may rely on in a mailbox, whatever server is behind it: the fakes, pymap, and Dovecot where it is."""

from __future__ import annotations

import itertools
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Final

import pytest

from syncer.demo.authority import Authority
from syncer.demo.certificates import Certificates
from syncer.demo.imap_server import EmbeddedImap, Face
from syncer.errors import ConfigError, MessageRefused, NotDelivered, NotPermitted, OutcomeUnknown, SignInRefused
from syncer.fingerprint import fingerprint
from syncer.gmail_imap import GmailMailbox
from syncer.imap_session import ImapSession
from syncer.imap_utils import parse_internaldate
from syncer.model import CopyUid, Side, SourceMessage
from syncer.outlook_imap import OutlookMailbox
from syncer.ports import Destination, Source
from syncer.uid_set import MAX_UID, UidSet
from tests.conftest import missing
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.raw_client import GOOD, USER, check_token
from tests.fakes.relay import Direction, Relay
from tests.imap.doors import HOST, dialect, endpoint, never
from tests.imap.dovecot import Dovecot

AT: Final = datetime(2026, 7, 17, 2, 44, 25, tzinfo=timezone(timedelta(hours=2)))
WHEN: Final = "17-Jul-2026 02:44:25 +0200"
ALL: Final = UidSet.of_range(1, MAX_UID)
_users = itertools.count(1)


def mail(number: int, octets: int = 0) -> bytes:
    """Return a message that every server keeps octet for octet: CRLF line ends only, no NUL (``dovecot``)."""
    line = bytes(range(0x20, 0x7F)) + bytes(range(0xA0, 0x100)) + b"\r\n"
    head = b"Message-ID: <%d@example.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= %d\r\n\r\n" % (number, number)
    return head + (line * (octets // len(line) + 1))[:octets].rstrip(b"\r") + b"\r\n"


class World(ABC):
    """An account on a server, seen from behind."""

    def __init__(self, port: int, user: str = USER, token: str = GOOD) -> None:
        self.port = port
        self.user = user
        self.token = token

    def sign_in(self, side: Side, *, port: int | None = None, token: str | None = None) -> ImapSession:
        where = endpoint(self.port if port is None else port, side, 10.0, host=HOST)
        return ImapSession.connect(where, dialect(side), self.user, token or self.token, pause=never)

    @abstractmethod
    def deliver(self, raw: bytes, at: datetime, mailbox: str = "INBOX") -> int:
        """Let a message arrive; return its UID."""

    @abstractmethod
    def remove(self, uid: int, mailbox: str = "INBOX") -> None:
        """Take a message away, as its owner does."""

    @abstractmethod
    def kept(self, mailbox: str = "INBOX") -> list[tuple[int, bytes, float, frozenset[str]]]:
        """Return UID, octets as they were handed in, INTERNALDATE and flags, by UID."""

    @abstractmethod
    def names(self) -> set[str]:
        """Return the names of all mailboxes, as they are on the wire or in Unicode."""


class GmailWorld(World):
    def __init__(self, server: FakeGmail) -> None:
        super().__init__(server.port)
        self.server = server

    def deliver(self, raw: bytes, at: datetime, mailbox: str = "INBOX") -> int:
        return self.server.deliver(raw, at)

    def remove(self, uid: int, mailbox: str = "INBOX") -> None:
        self.server.archive(uid)

    def kept(self, mailbox: str = "INBOX") -> list[tuple[int, bytes, float, frozenset[str]]]:
        messages = self.server.inbox.messages
        return [(one.uid, one.raw, one.internaldate.timestamp(), frozenset(one.flags)) for one in messages]

    def names(self) -> set[str]:
        return set(self.server.mailboxes.names())


class OutlookWorld(World):
    def __init__(self, server: FakeOutlook) -> None:
        super().__init__(server.port)
        self.server = server

    def deliver(self, raw: bytes, at: datetime, mailbox: str = "INBOX") -> int:
        return self.server.mailbox(mailbox).add(raw, at).uid

    def remove(self, uid: int, mailbox: str = "INBOX") -> None:
        self.server.mailbox(mailbox).remove(uid)

    def kept(self, mailbox: str = "INBOX") -> list[tuple[int, bytes, float, frozenset[str]]]:
        messages = self.server.mailbox(mailbox).messages
        return [(one.uid, one.raw, one.internaldate.timestamp(), frozenset(one.flags)) for one in messages]

    def names(self) -> set[str]:
        return set(self.server.mailboxes.names())


class PymapWorld(World):
    def __init__(self, server: EmbeddedImap) -> None:
        super().__init__(server.port)
        self.server = server

    def deliver(self, raw: bytes, at: datetime, mailbox: str = "INBOX") -> int:
        return self.server.deliver(self.user, raw, at, mailbox)

    def remove(self, uid: int, mailbox: str = "INBOX") -> None:
        self.server.remove(self.user, mailbox, uid)

    def kept(self, mailbox: str = "INBOX") -> list[tuple[int, bytes, float, frozenset[str]]]:
        messages = self.server.messages(self.user, mailbox)
        return [(one.uid, one.raw, parse_internaldate(one.internaldate), one.flags) for one in messages]

    def names(self) -> set[str]:
        return set(self.server.mailboxes(self.user))


class DovecotWorld(World):
    def __init__(self, server: Dovecot, user: str, token: str) -> None:
        super().__init__(server.port, user, token)
        self.server = server

    def deliver(self, raw: bytes, at: datetime, mailbox: str = "INBOX") -> int:
        stamp = f"{at.day:02d}-{at:%b-%Y %H:%M:%S %z}"
        return self.server.deliver(self.user, raw, stamp, mailbox)

    def remove(self, uid: int, mailbox: str = "INBOX") -> None:
        self.server.delete(self.user, uid, mailbox)

    def kept(self, mailbox: str = "INBOX") -> list[tuple[int, bytes, float, frozenset[str]]]:
        messages = self.server.messages(self.user, mailbox)
        recent = {r"\Recent"}
        return [(one.uid, one.raw, parse_internaldate(one.internaldate), one.flags - recent) for one in messages]

    def names(self) -> set[str]:
        return set(self.server.mailboxes(self.user))


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> ssl.SSLContext:
    return certificates.server_context()


@pytest.fixture(scope="module")
def dovecot_account(certificates: Certificates) -> Iterator[Callable[[Side], DovecotWorld]]:
    """Make accounts on one Dovecot, which is started with the first."""
    with ExitStack() as stack:
        started: list[tuple[Authority, Dovecot]] = []

        def account(side: Side) -> DovecotWorld:
            if reason := Dovecot.missing():
                missing(reason)
            if not started:
                authority = stack.enter_context(Authority(certificates))
                server = Dovecot(certificates.server, certificates.key, authority.introspection_url)
                started.append((authority, stack.enter_context(server)))
            authority, server = started[0]
            user = f"user{next(_users)}@mail.example"
            token = authority.issue_access_token(authority.add_account(side, user))
            world = DovecotWorld(server, user, token)
            with server.session(user):  # a mailbox begins to exist with the first sign-in
                pass
            return world

        yield account


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))


WITH_DOVECOT: Final = pytest.param("Dovecot", marks=pytest.mark.dovecot)


@pytest.fixture(params=["fake", "pymap", WITH_DOVECOT])
def source_world(
    request: pytest.FixtureRequest,
    certificates: Certificates,
    tls: ssl.SSLContext,
    dovecot_account: Callable[[Side], DovecotWorld],
) -> Iterator[World]:
    """An account to read from."""
    with ExitStack() as stack:
        if request.param == "fake":
            gmail = stack.enter_context(FakeGmail(check_token, tls))
            yield GmailWorld(gmail)
            assert gmail.violations == []
        elif request.param == "pymap":
            pymap = EmbeddedImap(Face.GMAIL, certificates.server, certificates.key, check_token)
            yield PymapWorld(stack.enter_context(pymap))
            assert pymap.failures == []
        else:
            yield dovecot_account(Side.SOURCE)


@pytest.fixture(params=["fake", "pymap", WITH_DOVECOT])
def destination_world(
    request: pytest.FixtureRequest,
    certificates: Certificates,
    tls: ssl.SSLContext,
    dovecot_account: Callable[[Side], DovecotWorld],
) -> Iterator[World]:
    """An account to write to; nothing but an INBOX in it."""
    with ExitStack() as stack:
        if request.param == "fake":
            outlook = stack.enter_context(FakeOutlook(check_token, tls))
            yield OutlookWorld(outlook)
            assert outlook.violations == []
        elif request.param == "pymap":
            pymap = EmbeddedImap(Face.OUTLOOK, certificates.server, certificates.key, check_token)
            yield PymapWorld(stack.enter_context(pymap))
            assert pymap.failures == []
        else:
            yield dovecot_account(Side.DESTINATION)


@pytest.fixture
def source(source_world: World) -> Iterator[GmailMailbox]:
    opened = GmailMailbox(source_world.sign_in(Side.SOURCE), "INBOX", 36_700_160)
    yield opened
    opened.close()


class Open:
    """Makes destination mailboxes on one account."""

    def __init__(self, world: World) -> None:
        self.made: list[OutlookMailbox] = []
        self._world = world

    def __call__(
        self,
        name: str = "Gmail",
        *,
        create: bool = True,
        mark_seen: bool = False,
        connections: int = 1,
        port: int | None = None,
    ) -> OutlookMailbox:
        connect = partial(self._world.sign_in, Side.DESTINATION, port=port)
        target = OutlookMailbox(connect, name, create=create, mark_seen=mark_seen, connections=connections, pause=never)
        self.made.append(target)
        return target


@pytest.fixture
def mailbox(destination_world: World) -> Iterator[Open]:
    made = Open(destination_world)
    yield made
    for one in made.made:
        one.close()


def mailbox_again(mailbox: Open) -> OutlookMailbox:
    fresh = mailbox()
    fresh.open()
    return fresh


def body(future: Future[bytes | bytearray]) -> bytes | BaseException:
    error = future.exception(30)
    return bytes(future.result()) if error is None else error


def append(target: Destination, raw: bytes, permit: Callable[[], bool] = lambda: True) -> Future[CopyUid | None]:
    return target.append(WHEN, raw, permit)


# The source.


def test_the_source_tells_what_there_is(source_world: World, source: Source) -> None:
    raws = [mail(1), mail(2, 10_000)]
    uids = [source_world.deliver(raw, AT + timedelta(hours=at)) for at, raw in enumerate(raws)]
    selected, listed = source.open(ALL)
    assert selected.uidvalidity > 0
    assert selected.uidnext == uids[-1] + 1
    assert selected.exists == 2
    assert [one.key.uid for one in listed] == uids
    assert {one.key.uidvalidity for one in listed} == {selected.uidvalidity}
    assert [one.size for one in listed] == [len(raw) for raw in raws]
    assert [one.received_at for one in listed] == [AT.timestamp(), AT.timestamp() + 3600]
    assert [parse_internaldate(one.internaldate) for one in listed] == [one.received_at for one in listed]


def test_an_identity_is_the_messages_own_or_there_is_none(source_world: World, source: Source) -> None:
    for number in range(3):
        source_world.deliver(mail(number), AT)
    _, listed = source.open(ALL)
    msgids = [one.gmail_msgid for one in listed]
    assert msgids == [None] * 3 or (len(set(msgids)) == 3 and all(msgid and msgid.isdigit() for msgid in msgids))


def test_an_empty_source_has_nothing_to_tell(source: Source) -> None:
    selected, listed = source.open(ALL)
    assert (selected.exists, listed) == (0, [])
    assert source.listing(ALL) == []
    assert source.since(0.0) == UidSet()


def test_only_what_was_asked_for_is_listed(source_world: World, source: Source) -> None:
    uids = [source_world.deliver(mail(number), AT) for number in range(5)]
    assert [one.key.uid for one in source.open(UidSet.of_range(uids[-1] + 1, MAX_UID))[1]] == []
    assert [one.key.uid for one in source.listing(UidSet.of_range(uids[3], MAX_UID))] == uids[3:]
    assert [one.key.uid for one in source.listing(UidSet([uids[0], uids[2], MAX_UID]))] == [uids[0], uids[2]]


def test_what_has_gone_is_not_listed_and_is_refused(source_world: World, source: Source) -> None:
    raws = [mail(number) for number in range(3)]
    uids = [source_world.deliver(raw, AT) for raw in raws]
    _, listed = source.open(ALL)
    source_world.remove(uids[1])
    source.probe()  # servers may keep what was expunged for those who have not heard of it
    first, second, third = [body(future) for future in source.fetch(listed)]
    assert (first, third) == (raws[0], raws[2])
    assert isinstance(second, MessageRefused)
    assert [one.key.uid for one in source.listing(ALL)] == [uids[0], uids[2]]


def test_headers_tell_the_fingerprint_of_the_whole_message(source_world: World, source: Source) -> None:
    raws = [mail(number) for number in range(3)]
    uids = [source_world.deliver(raw, AT) for raw in raws]
    _, listed = source.open(ALL)
    expected = {m.key: fingerprint(raw, m.received_at) for m, raw in zip(listed, raws, strict=True)}
    assert source.headers(listed) == expected
    assert source.headers([]) == {}
    source_world.remove(uids[1])
    source.probe()
    assert sorted(source.headers(listed)) == [listed[0].key, listed[2].key]


def test_bodies_are_served_octet_for_octet(source_world: World, source: Source) -> None:
    raws = [mail(number, number**3 * 20) for number in range(60)] + [mail(60, 5 << 20)]
    for raw in raws:
        source_world.deliver(raw, AT)
    _, listed = source.open(ALL)
    assert [body(future) for future in source.fetch(listed)] == raws
    assert [body(future) for future in source.fetch(listed[::-7])] == raws[::-7]
    assert source.fetch([]) == []


def test_what_arrived_since_a_moment_is_found(source_world: World, source: Source) -> None:
    uids = [source_world.deliver(mail(at), AT + timedelta(days=at)) for at in range(-4, 3)]
    source.open(UidSet())
    found = source.since(AT.timestamp())
    assert set(found) >= set(uids[4:])
    assert uids[0] not in found


def test_reading_leaves_no_trace(source_world: World, source: Source) -> None:
    source_world.deliver(mail(1), AT)
    before = source_world.kept()
    _, listed = source.open(ALL)
    assert body(source.fetch(listed)[0]) == mail(1)
    source.since(0.0)
    source.probe()
    source.close()
    assert source_world.kept() == before
    assert before[0][3] == frozenset()


def test_a_source_mailbox_that_is_not_there_is_a_fault_of_the_settings(source_world: World) -> None:
    nowhere = GmailMailbox(source_world.sign_in(Side.SOURCE), "Nowhere", 1 << 20)
    with pytest.raises(ConfigError, match="GMAIL_SOURCE_FOLDER"):
        nowhere.open(ALL)
    nowhere.close()


def test_a_token_that_is_not_good_is_refused(source_world: World) -> None:
    with pytest.raises(SignInRefused):
        source_world.sign_in(Side.SOURCE, token="stale")


@pytest.mark.parametrize("octets", [0, 3000, 200_000])
def test_a_source_that_is_cut_settles_every_body(source_world: World, octets: int) -> None:
    raws = [mail(number, 20_000) for number in range(20)]
    for raw in raws:
        source_world.deliver(raw, AT)
    with Relay(source_world.port) as relay:
        cut = GmailMailbox(source_world.sign_in(Side.SOURCE, port=relay.port), "INBOX", 1 << 20)
        listed: list[SourceMessage] = cut.open(ALL)[1]
        relay.cut(octets, Direction.TO_CLIENT)
        results = [body(future) for future in cut.fetch(listed)]
        cut.close()
    assert all(isinstance(result, BaseException) or result == raw for result, raw in zip(results, raws, strict=True))
    assert isinstance(results[-1], BaseException)
    assert not any(isinstance(result, MessageRefused) for result in results)


# The destination.


@pytest.mark.parametrize(
    "name", ["Gmail", "Post/Gmail", "Größe R&D/受信", 'Say "hi"'], ids=["plain", "levels", "Unicode", "quotes"]
)
def test_the_mailbox_is_made_once_and_found_again(destination_world: World, mailbox: Open, name: str) -> None:
    before = destination_world.names()
    fence = mailbox(name).open()
    made = destination_world.names() - before
    assert 1 <= len(made) <= 1 + name.count("/")  # servers may or may not show the levels above
    again = mailbox(name)
    assert again.open() == fence
    copy = append(again, mail(1)).result(30)
    assert copy == CopyUid(fence.uidvalidity, fence.uidnext)
    assert mailbox(name).open().uidnext == fence.uidnext + 1
    assert destination_world.names() - before == made


def test_case_does_not_make_another_mailbox(destination_world: World, mailbox: Open) -> None:
    fence = mailbox("Gmail").open()
    assert mailbox("GMAIL").open() == fence
    assert {name.casefold() for name in destination_world.names()} == {"inbox", "gmail"}


def test_a_mailbox_that_may_not_be_made_is_a_fault_of_the_settings(destination_world: World, mailbox: Open) -> None:
    before = destination_world.names()
    with pytest.raises(ConfigError, match=r"OUTLOOK_TARGET_FOLDER.*OUTLOOK_CREATE_FOLDER"):
        mailbox("Nowhere", create=False).open()
    assert destination_world.names() == before


@pytest.mark.parametrize("mark_seen", [False, True], ids=["unread", "read"])
def test_a_copy_is_the_octets_the_date_and_no_more_than_one_flag(
    destination_world: World, mailbox: Open, mark_seen: bool
) -> None:
    target = mailbox(mark_seen=mark_seen)
    fence = target.open()
    raw = mail(1, 100_000)
    copy = append(target, raw).result(30)
    flags = frozenset({"\\Seen"} if mark_seen else ())
    assert copy == CopyUid(fence.uidvalidity, fence.uidnext)
    assert destination_world.kept("Gmail") == [(fence.uidnext, raw, AT.timestamp(), flags)]


@pytest.mark.parametrize("connections", [1, 3])
def test_64_copies_in_flight_all_arrive_once(destination_world: World, mailbox: Open, connections: int) -> None:
    target = mailbox(connections=connections)
    target.open()
    target.widen(64)
    raws = [mail(number, number * 500) for number in range(64)]
    copies = [future.result(30) for future in [append(target, raw) for raw in raws]]
    uids = [copy.uid for copy in copies if copy is not None]
    kept = {uid: raw for uid, raw, _, _ in destination_world.kept("Gmail")}
    assert [kept[uid] for uid in uids] == raws
    assert len(kept) == 64
    if connections == 1:
        assert uids == sorted(uids)


def test_a_copy_of_20_megabytes_arrives(destination_world: World, mailbox: Open) -> None:
    target = mailbox()
    target.open()
    raw = mail(1, 20 << 20)
    assert append(target, raw).result(60) is not None
    assert [kept for _, kept, _, _ in destination_world.kept("Gmail")] == [raw]


def test_what_is_not_permitted_is_not_stored(destination_world: World, mailbox: Open) -> None:
    target = mailbox()
    target.open()
    futures = [append(target, mail(1)), append(target, mail(2), lambda: False), append(target, mail(3))]
    assert [type(future.exception(30)) for future in futures] == [type(None), NotPermitted, type(None)]
    assert [raw for _, raw, _, _ in destination_world.kept("Gmail")] == [mail(1), mail(3)]


def test_a_look_recognises_copies_from_a_uid_on(destination_world: World, mailbox: Open) -> None:
    target = mailbox()
    fence = target.open()
    for number in range(4):
        append(target, mail(number, 1000)).result(30)
    view = target.look(fence.uidnext + 2)
    assert view.fence.uidvalidity == fence.uidvalidity
    assert view.fence.uidnext == fence.uidnext + 4
    assert [(seen.uid, seen.fingerprint) for seen in view.messages] == [
        (fence.uidnext + number, fingerprint(mail(number), AT.timestamp())) for number in (2, 3)
    ]
    assert target.look(fence.uidnext + 4).messages == ()


def test_a_look_and_copies_take_turns(destination_world: World, mailbox: Open) -> None:
    """The mailbox is open for reading then, and its server tells of every copy as it arrives."""
    target = mailbox()
    fence = target.open()
    for number in range(3):
        assert len(target.look(fence.uidnext).messages) == 2 * number
        for future in [append(target, mail(number)), append(target, mail(number))]:
            assert future.result(30) is not None
    target.probe()


def test_a_copy_that_was_moved_away_leaves_its_uid_behind(destination_world: World, mailbox: Open) -> None:
    target = mailbox()
    fence = target.open()
    copy = append(target, mail(1)).result(30)
    assert copy is not None
    destination_world.remove(copy.uid, "Gmail")
    view = mailbox_again(mailbox).look(fence.uidnext)
    assert (view.fence.uidnext, view.messages) == (fence.uidnext + 1, ())


@pytest.mark.parametrize("way", list(Direction), ids=lambda way: way.value)
@pytest.mark.parametrize("octets", [0, 60, 30_000, 150_000])
def test_wherever_the_line_is_cut_nothing_is_stored_that_did_not_begin(
    destination_world: World, mailbox: Open, way: Direction, octets: int
) -> None:
    raws = [mail(number, 10_000) + os.urandom(4).hex().encode() + b"\r\n" for number in range(20)]
    with Relay(destination_world.port) as relay:
        target = mailbox(port=relay.port)
        fence = target.open()
        relay.cut(octets, way)
        futures = [append(target, raw) for raw in raws]
        outcomes = [future.exception(30) or future.result() for future in futures]
        target.close()
    at_least = len(destination_world.kept("Gmail"))  # a server may go on with what it had when the line was cut
    seen = len(mailbox_again(mailbox).look(fence.uidnext).messages)
    kept = [raw for _, raw, _, _ in destination_world.kept("Gmail")]
    assert at_least <= seen <= len(kept) == len(set(kept))
    for raw, outcome in zip(raws, outcomes, strict=True):
        if isinstance(outcome, CopyUid):
            assert raw in kept
        elif isinstance(outcome, NotDelivered):
            assert raw not in kept
        else:
            assert isinstance(outcome, OutcomeUnknown)
