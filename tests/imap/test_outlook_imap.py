"""What is true of Outlook.com only: a sign-in that proves nothing, folders by any name, copies that are looked for."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from syncer import outlook_imap
from syncer.errors import (
    AuthError,
    ConfigError,
    MessageRefused,
    NotDelivered,
    NotPermitted,
    OutcomeUnknown,
    SyncError,
    Throttled,
    Unavailable,
)
from syncer.fingerprint import fingerprint
from syncer.imap_session import ImapSession
from syncer.imap_utils import parse_internaldate
from syncer.model import CopyUid, Fence, Side
from syncer.outlook_imap import MAX_SEEN, NotConnected, OutlookDialect, OutlookMailbox
from tests.fakes.faults import (
    ERROR_11,
    FOREVER,
    Action,
    Bye,
    Close,
    CutAnswer,
    LoseReply,
    Place,
    Raw,
    Reply,
    Stall,
    Untagged,
    WithoutUid,
    on,
    throttled,
)
from tests.fakes.outlook import FakeOutlook
from tests.imap.doors import MAIL, NO_WAITING, SignIn

pytest_plugins = ["tests.fakes.fixtures", "tests.imap.door_fixtures"]

WHEN = "17-Jul-2026 02:44:25 +0200"


class Open:
    """Makes destination mailboxes; notes the pauses they make."""

    def __init__(self, port: int, sign_in: SignIn) -> None:
        self.pauses: list[float] = []
        self.mailboxes: list[OutlookMailbox] = []
        self._port = port
        self._sign_in = sign_in

    def __call__(
        self,
        name: str = "Gmail",
        *,
        create: bool = True,
        mark_seen: bool = False,
        connections: int = 1,
        timeout: float = 5.0,
    ) -> OutlookMailbox:
        def connect() -> ImapSession:
            return self._sign_in(self._port, Side.DESTINATION, timeout=timeout)

        mailbox = OutlookMailbox(
            connect, name, create=create, mark_seen=mark_seen, connections=connections, pause=self.pauses.append
        )
        self.mailboxes.append(mailbox)
        return mailbox


@pytest.fixture
def mailbox(outlook: FakeOutlook, sign_in: SignIn) -> Iterator[Open]:
    """Make mailboxes, which are not yet opened."""
    made = Open(outlook.port, sign_in)
    yield made
    for one in made.mailboxes:
        one.close()
    assert outlook.violations == []


def append(
    target: OutlookMailbox, raw: bytes = MAIL, permit: Callable[[], bool] = lambda: True
) -> Future[CopyUid | None]:
    return target.append(WHEN, raw, permit)


# Opening, and "authenticated but not connected".


def test_opening_proves_that_the_mailbox_can_be_reached(outlook: FakeOutlook, mailbox: Open) -> None:
    fence = mailbox().open()
    assert fence == Fence(outlook.mailbox("Gmail").uidvalidity, 1)
    assert outlook.verbs() == ["CAPABILITY", "AUTHENTICATE", "CAPABILITY", "STATUS"]


def test_one_new_sign_in_follows_when_the_mailbox_is_not_connected(outlook: FakeOutlook, mailbox: Open) -> None:
    outlook.lose_backend(sign_ins=1)
    target = mailbox()
    assert target.open().uidnext == 1
    assert (outlook.connections, mailbox.pauses) == (2, [2.0])
    assert append(target).result(10) is not None


def test_a_mailbox_that_stays_unconnected_is_left_with_advice(outlook: FakeOutlook, mailbox: Open) -> None:
    outlook.lose_backend()
    target = mailbox()
    with pytest.raises(NotConnected) as failed:
        target.open()
    assert "Forwarding and IMAP" in failed.value.reason
    assert "OUTLOOK_EMAIL" in failed.value.reason
    assert outlook.connections == 2
    assert outlook.verbs().count("STATUS") == 2  # three in one connection, and the server hangs up


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        pytest.param(throttled(5000), Throttled, id="throttled"),
        pytest.param(throttled(5000, "BAD", bye=True), Throttled, id="throttled, and BYE"),
        pytest.param(Bye("Connection closed. 14"), Unavailable, id="BYE"),
        pytest.param(Raw(b"Server Unavailable. 15\r\n"), Unavailable, id="no tag"),
        pytest.param(Reply("NO [UNAVAILABLE] later"), Unavailable, id="unavailable"),
        pytest.param(Reply("NO Basic authentication is disabled."), AuthError, id="basic authentication"),
        pytest.param(Close(), Unavailable, id="cut"),
        pytest.param(Stall(), Unavailable, id="no answer"),
    ],
)
def test_an_opening_that_fails_creates_nothing(
    outlook: FakeOutlook, mailbox: Open, action: Action, expected: type[SyncError]
) -> None:
    outlook.mailboxes.delete("Gmail")
    outlook.misbehave(on("STATUS"), action)
    with pytest.raises(expected):
        mailbox(timeout=NO_WAITING).open()
    assert outlook.mailboxes.names() == ["INBOX"]


# Folders.


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("Post", id="plain"),
        pytest.param("Post/Gmail/2026", id="levels"),
        pytest.param("Größe R&D/受信", id="Unicode"),
        pytest.param("📬", id="beyond 16 bits"),
        pytest.param('Say "hi" \\ there', id="quotes and backslash"),
        pytest.param("a (b) [c] {5} % *", id="special characters"),
        pytest.param("\uff27", id="looks like another"),
    ],
)
def test_a_missing_folder_is_made_subscribed_and_found_again(outlook: FakeOutlook, mailbox: Open, name: str) -> None:
    target = mailbox(name)
    assert target.open().uidnext == 1
    assert name in outlook.mailboxes.names()
    assert outlook.mailboxes.subscribed == [name]
    append(target).result(10)
    again = mailbox(name)
    assert again.open().uidnext == 2
    assert outlook.appended_to(name) == [MAIL]
    assert outlook.verbs().count("CREATE") == 1


def test_case_does_not_make_another_folder(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox("GMAIL")
    target.open()
    append(target).result(10)
    assert outlook.appended_to("Gmail") == [MAIL]
    assert "CREATE" not in outlook.verbs()


def test_a_server_that_minds_case_in_status_only_is_listened_to(outlook: FakeOutlook, mailbox: Open) -> None:
    outlook.mailboxes.create("GRÖSSE")
    outlook.misbehave(on("STATUS", contains="Gr&APY-sse"), Reply("NO no such mailbox"), FOREVER)
    target = mailbox("Grösse")
    target.open()
    append(target).result(10)
    assert outlook.commands[-1].line.startswith('APPEND "GR&ANY-SSE"')
    assert "CREATE" not in outlook.verbs()


def test_a_folder_that_may_not_be_made_is_a_fault_of_the_settings(outlook: FakeOutlook, mailbox: Open) -> None:
    with pytest.raises(ConfigError) as fault:
        mailbox("Post/Neu", create=False).open()
    for word in ("OUTLOOK_TARGET_FOLDER", "'Post/Neu'", "OUTLOOK_CREATE_FOLDER"):
        assert word in str(fault.value)
    assert "CREATE" not in outlook.verbs()


@pytest.mark.parametrize("name", ["Files", "files/Gmail", "/Gmail", "a//b"])
def test_a_name_that_outlook_does_not_take_is_a_fault_of_the_settings(mailbox: Open, name: str) -> None:
    with pytest.raises(ConfigError, match=r"OUTLOOK_TARGET_FOLDER: .*(reserved|invalid)"):
        mailbox(name).open()


def test_a_folder_that_cannot_be_made_for_now_is_no_fault_of_the_settings(outlook: FakeOutlook, mailbox: Open) -> None:
    for action, expected in (
        (throttled(5000), Throttled),
        (Reply("NO [OVERQUOTA] full"), Throttled),
        (Reply("NO Server Unavailable. 15"), Unavailable),
    ):
        outlook.misbehave(on("CREATE"), action)
        with pytest.raises(expected):
            mailbox("New").open()


def test_missing_levels_are_made_where_the_server_does_not(outlook: FakeOutlook, mailbox: Open) -> None:
    outlook.misbehave(on("CREATE"), Reply("NO no parent"))
    mailbox("a/b/c").open()
    created = [one.line for one in outlook.commands if one.verb == "CREATE"]
    assert created == ['CREATE "a/b/c"', 'CREATE "a"', 'CREATE "a/b"', 'CREATE "a/b/c"']
    assert {"a", "a/b", "a/b/c"} <= set(outlook.mailboxes.names())


def test_another_runner_may_make_the_folder_at_the_same_time(outlook: FakeOutlook, mailbox: Open) -> None:
    outlook.misbehave(on("CREATE"), Reply("NO Mailbox already exists", executed=True))
    assert mailbox("New").open().uidnext == 1


@pytest.mark.parametrize(("delimiter", "wire"), [(".", "a.b"), ("\\\\", "a\\\\b"), (None, "a/b")])
def test_levels_are_written_with_the_servers_own_delimiter(
    outlook: FakeOutlook, mailbox: Open, delimiter: str | None, wire: str
) -> None:
    shown = f'"{delimiter}"' if delimiter else "NIL"
    outlook.misbehave(on("LIST"), Raw(f'* LIST (\\Noselect) {shown} ""\r\n<tag> OK\r\n'.encode()))
    mailbox("a/b").open()
    assert [one.line for one in outlook.commands if one.verb == "CREATE"] == [f'CREATE "{wire}"']


def test_a_name_that_is_listed_and_cannot_be_opened_is_made(outlook: FakeOutlook, mailbox: Open) -> None:
    """It is a level above others only: \\Noselect (RFC 3501 section 6.3.3)."""
    outlook.misbehave(on("LIST", nth=2), Raw(b'* LIST (\\Noselect) "/" "Post"\r\n<tag> OK\r\n'))
    assert mailbox("Post").open().uidnext == 1
    assert "Post" in outlook.mailboxes.names()


def test_a_folder_that_was_made_and_is_not_there(outlook: FakeOutlook, mailbox: Open) -> None:
    outlook.misbehave(on("CREATE"), Raw(b"<tag> OK made\r\n"), FOREVER)
    with pytest.raises(Unavailable, match="was made and is not there"):
        mailbox("New").open()


def test_a_subscription_that_is_refused_does_not_matter(outlook: FakeOutlook, mailbox: Open) -> None:
    outlook.misbehave(on("SUBSCRIBE"), Reply("NO not here"))
    assert mailbox("New").open().uidnext == 1


# Appending.


@pytest.mark.parametrize("told", [True, False], ids=["with APPENDUID", "without"])
def test_a_copy_is_stored_as_it_is_unread_and_with_its_date(outlook: FakeOutlook, mailbox: Open, told: bool) -> None:
    outlook.append_uid = told
    target = mailbox()
    fence = target.open()
    assert append(target).result(10) == (CopyUid(fence.uidvalidity, 1) if told else None)
    (copy,) = outlook.appended
    assert (copy.raw, copy.flags, str(copy.internaldate)) == (MAIL, (), "2026-07-17 02:44:25+02:00")


@pytest.mark.parametrize(
    "code", ["[APPENDUID 0 1]", "[APPENDUID 14 0]", "[APPENDUID 14 4294967296]", "[APPENDUID 14 1:2]", "[APPENDUID x]"]
)
def test_an_appenduid_that_is_nonsense_is_none(outlook: FakeOutlook, mailbox: Open, code: str) -> None:
    outlook.misbehave(on("APPEND"), Reply(f"OK {code} done", executed=True))
    target = mailbox()
    target.open()
    assert append(target).result(10) is None


def test_a_copy_is_marked_as_read_where_that_is_wanted(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox(mark_seen=True)
    target.open()
    append(target).result(10)
    assert outlook.appended[0].flags == ("\\Seen",)


def test_a_folder_that_is_deleted_in_the_middle_is_no_messages_fault(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox()
    target.open()
    outlook.mailboxes.delete("Gmail")
    assert isinstance(append(target).exception(10), Unavailable)
    assert target.failure() is None
    with pytest.raises(Unavailable, match="OUTLOOK_TARGET_FOLDER is gone"):
        target.probe()


def test_64_in_flight_with_one_refused_in_the_middle(outlook: FakeOutlook, mailbox: Open) -> None:
    mails = [b"Subject: %d\r\n\r\n" % n + os.urandom(n * 50) for n in range(64)]
    outlook.misbehave(on("APPEND", raw=lambda raw: raw == mails[31]), ERROR_11)
    target = mailbox()
    target.open()
    futures = [append(target, mail) for mail in mails]
    errors = [future.exception(10) for future in futures]
    assert [at for at, error in enumerate(errors) if error is not None] == [31]
    assert isinstance(errors[31], MessageRefused)
    uids = [future.result() for at, future in enumerate(futures) if at != 31]
    assert [copy.uid for copy in uids if copy is not None] == list(range(1, 64))


def test_what_is_not_permitted_is_not_sent(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox()
    target.open()
    assert isinstance(append(target, permit=lambda: False).exception(10), NotPermitted)
    target.probe()
    assert outlook.appended == []


@pytest.mark.parametrize(
    ("action", "expected", "reason"),
    [
        pytest.param(LoseReply(), OutcomeUnknown, "connection lost", id="cut"),
        pytest.param(
            Bye("Connection closed. 14", executed=True), OutcomeUnknown, "BYE Connection closed. 14", id="BYE"
        ),
        pytest.param(Stall(executed=True), OutcomeUnknown, "no answer within 0.3 s", id="no answer"),
    ],
)
def test_the_end_of_the_connection_is_told_by_failure(
    outlook: FakeOutlook, mailbox: Open, action: Action, expected: type[SyncError], reason: str
) -> None:
    outlook.misbehave(on("APPEND"), action)
    target = mailbox(timeout=NO_WAITING)
    target.open()
    assert target.failure() is None
    assert type(append(target).exception(10)) is expected
    failure = target.failure()
    assert isinstance(failure, Unavailable)
    assert failure.reason == reason
    assert isinstance(append(target).exception(10), NotDelivered)


# Connecting ahead.


def test_what_is_prepared_is_opened_over_the_same_connection(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox("INBOX")
    target.prepare()
    while "AUTHENTICATE" not in outlook.verbs():
        time.sleep(0.001)
    assert target.open().uidnext >= 1
    assert outlook.connections == 1


def test_what_is_prepared_and_not_needed_is_closed(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox("INBOX")
    target.prepare()
    target.close()
    while outlook.open_connections:
        time.sleep(0.001)
    assert outlook.connections == 1
    assert outlook.verbs()[-1] == "LOGOUT"


def test_what_could_not_be_prepared_is_told_by_the_opening(outlook: FakeOutlook, mailbox: Open) -> None:
    outlook.misbehave(on("GREETING"), Bye("Too many connections"))
    target = mailbox("INBOX")
    target.prepare()
    with pytest.raises(Throttled):
        target.open()
    assert target.open().uidnext >= 1  # the next one is an attempt of its own


# Several connections.


def test_several_connections_share_the_work(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox(connections=3)
    target.open()
    target.widen(100)
    assert outlook.connections == 3
    stalled = [outlook.misbehave(on("APPEND", connection=number), Stall()) for number in (1, 2, 3)]
    futures = [append(target, b"Subject: %d\r\n\r\n" % n) for n in range(30)]
    while not all(future.done() for future in futures):
        outlook.release()
    assert {fault.fired for fault in stalled} == {1}
    appends = [one.connection for one in outlook.commands if one.verb == "APPEND"]
    assert [appends.count(number) for number in (1, 2, 3)] == [10, 10, 10]
    assert len(outlook.appended) == 30


@pytest.mark.parametrize(("messages", "connections"), [(0, 1), (1, 1), (2, 2), (9, 3)])
def test_no_more_connections_are_made_than_there_are_messages(
    outlook: FakeOutlook, mailbox: Open, messages: int, connections: int
) -> None:
    target = mailbox(connections=3)
    target.open()
    target.widen(messages)
    assert outlook.connections == connections


@pytest.mark.parametrize(
    ("verb", "action"),
    [
        pytest.param("GREETING", Bye("Too many connections"), id="too many connections"),
        pytest.param("AUTHENTICATE", Close(), id="cut"),
        pytest.param("STATUS", Reply("BAD User is authenticated but not connected."), id="not connected"),
    ],
)
def test_a_further_connection_that_is_refused_is_done_without(
    outlook: FakeOutlook, mailbox: Open, verb: str, action: Action
) -> None:
    """A limit set too high must not be the end of all copying."""
    target = mailbox(connections=4)
    target.open()
    outlook.misbehave(on(verb, connection=3), action)
    for _ in range(2):
        target.widen(10)
        assert outlook.connections == 4  # all were asked for at once, and nothing more after the refusal
    futures = [append(target) for _ in range(10)]
    assert None not in [future.result(10) for future in futures]
    assert target.failure() is None


def test_one_connection_of_several_that_ends_is_told(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox(connections=2)
    target.open()
    target.widen(2)
    outlook.misbehave(on("APPEND", connection=1), Stall())
    outlook.misbehave(on("APPEND", connection=2), LoseReply())
    first, second = append(target), append(target)
    assert isinstance(second.exception(10), OutcomeUnknown)
    assert isinstance(target.failure(), Unavailable)
    while not first.done():
        outlook.release()
    assert first.exception() is None


def test_appends_from_several_threads_are_all_settled(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox(connections=2)
    target.open()
    target.widen(2)
    futures: list[Future[CopyUid | None]] = []

    def work() -> None:
        futures.extend(append(target) for _ in range(25))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({future.result(10) for future in futures}) == 100
    assert [lane.in_flight for lane in target._lanes] == [0, 0]


# Looking.


def test_a_look_tells_what_is_there_and_by_what_it_is_known(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox()
    target.open()
    mails = [
        b"Message-ID: <%d@example.com>\r\nSubject: s%d\r\nTo: x@example.com\r\n\r\nBody\r\n" % (n, n) for n in range(5)
    ]
    for mail in mails:
        append(target, mail).result(10)
    view = target.look(3)
    assert view.fence == Fence(outlook.mailbox("Gmail").uidvalidity, 6)
    assert view.first_uid == 3
    at = parse_internaldate(WHEN)
    assert [(seen.uid, seen.fingerprint) for seen in view.messages] == [
        (uid, fingerprint(mails[uid - 1], at)) for uid in (3, 4, 5)
    ]
    assert "UID SEARCH" not in outlook.verbs()


def test_a_look_at_nothing(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox()
    target.open()
    assert target.look(1).messages == ()
    append(target).result(10)
    assert target.look(2).messages == ()
    assert target.look(0).first_uid == 1


def test_a_look_after_another_client_moved_the_copy(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox()
    target.open()
    append(target).result(10)
    outlook.move_away("Gmail", 1)
    view = target.look(1)
    assert (view.fence.uidnext, view.messages) == (2, ())


@pytest.mark.parametrize(
    "header",
    ["NIL", '""', "{2}\r\n\r\n", "{21}\r\nSubject: =?x?q?=C3?=\n"],
    ids=["NIL", "empty", "a blank line", "broken"],
)
def test_a_message_whose_header_says_nothing_is_seen_all_the_same(
    outlook: FakeOutlook, mailbox: Open, header: str
) -> None:
    """A message that is overlooked would be appended again."""
    target = mailbox()
    target.open()
    append(target).result(10)
    line = f'* 1 FETCH (UID 1 INTERNALDATE "17-Jul-2026 00:44:25 +0000" BODY[HEADER.FIELDS (MESSAGE-ID)] {header})'
    outlook.misbehave(on("UID FETCH"), Raw(line.encode() + b"\r\n<tag> OK\r\n"))
    (seen,) = target.look(1).messages
    assert (seen.uid, seen.fingerprint.message_id) == (1, "")


def test_news_in_a_look_change_nothing(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox()
    target.open()
    for _ in range(2):
        append(target).result(10)
    lines = ("9 EXISTS", "1 FETCH (FLAGS ())", "2 FETCH (UID 2 FLAGS (\\Seen))", "1 EXPUNGE", "OK Still here")
    for place in (Place.DATA, Place.BETWEEN, Place.TAGGED):
        outlook.misbehave(on("UID FETCH"), Untagged(lines, place))
        assert [seen.uid for seen in target.look(1).messages] == [1, 2]


@pytest.mark.parametrize(
    ("verb", "action", "expected"),
    [
        pytest.param("UID FETCH", WithoutUid(1, "NO some of it"), Unavailable, id="refused"),
        pytest.param("UID FETCH", ERROR_11, Unavailable, id="error 11"),
        pytest.param("UID FETCH", throttled(90_000), Throttled, id="throttled"),
        pytest.param("UID FETCH", CutAnswer(60), Unavailable, id="cut"),
        pytest.param("UID FETCH", Stall(), Unavailable, id="no answer"),
        pytest.param("EXAMINE", Reply("NO not now"), Unavailable, id="EXAMINE refused"),
        pytest.param(
            "EXAMINE", Reply("BAD User is authenticated but not connected."), NotConnected, id="not connected"
        ),
        pytest.param("UID FETCH", Raw(b"* 1 FETCH (UID 1 INTERNALDATE\r\n<tag> OK\r\n"), Unavailable, id="broken"),
        pytest.param(
            "UID FETCH",
            Raw(b'* 1 FETCH (UID 1 INTERNALDATE "never" BODY[HEADER.FIELDS (DATE)] "")\r\n<tag> OK\r\n'),
            Unavailable,
            id="a date that is none",
        ),
    ],
)
def test_a_look_that_fails_shows_nothing(
    outlook: FakeOutlook, mailbox: Open, verb: str, action: Action, expected: type[SyncError]
) -> None:
    target = mailbox(timeout=NO_WAITING)
    target.open()
    append(target).result(10)
    outlook.misbehave(on(verb), action)
    with pytest.raises(expected):
        target.look(1)


def tiny(count: int) -> Raw:
    """Return an answer that is as short as can be for each of so many messages."""
    row = b'* 1 FETCH (UID %d INTERNALDATE "17-Jul-1996 02:44:25 +0000" BODY[HEADER.FIELDS (DATE)] "")\r\n'
    return Raw(b"".join(row % uid for uid in range(1, count + 1)) + b"<tag> OK\r\n")


def test_what_a_look_holds_of_tiny_answers_is_small(outlook: FakeOutlook, mailbox: Open) -> None:
    """150,000 of them are all that is taken: below 100 MiB."""
    count = 3000
    target = mailbox()
    target.open()
    outlook.misbehave(on("UID FETCH"), tiny(count))
    tracemalloc.start()
    try:
        view = target.look(1)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(view.messages) == count
    assert held / count * MAX_SEEN < 100 << 20


def test_a_look_at_more_than_is_held_says_so(
    outlook: FakeOutlook, mailbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook_imap, "MAX_SEEN", 100)
    target = mailbox()
    target.open()
    outlook.misbehave(on("UID FETCH"), tiny(101))
    with pytest.raises(Unavailable, match="more than 100 messages"):
        target.look(1)


# The end.


def test_closing_ends_every_connection(outlook: FakeOutlook, mailbox: Open) -> None:
    target = mailbox(connections=3)
    target.open()
    target.widen(3)
    outlook.misbehave(on("APPEND"), Stall())
    pending = append(target)
    target.close()
    target.close()
    assert isinstance(pending.exception(0), OutcomeUnknown)


def test_a_mailbox_that_was_never_opened_can_be_closed(mailbox: Open) -> None:
    target = mailbox()
    target.close()
    assert target.failure() is None


@pytest.mark.parametrize("text", ["", "Suggested Backoff Time: soon", "APPEND completed.", "Folder is not found."])
def test_words_that_say_nothing_about_the_whole_side(text: str) -> None:
    assert OutlookDialect().classify(text) is None
