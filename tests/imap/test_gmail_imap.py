"""What is true of Gmail only: silence and refusals that mean little, words that mean much, nothing that is written."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta, timezone

import pytest

from syncer.errors import BrokenOff, ConfigError, MessageRefused, SyncError, Throttled, Unavailable
from syncer.gmail_imap import GmailMailbox
from syncer.model import MessageKey, Side, SourceMessage
from syncer.uid_set import MAX_UID, UidSet
from tests.fakes.faults import (
    FOREVER,
    NOT_FETCHED,
    OVER_QUOTA,
    Action,
    Bye,
    Close,
    CutAnswer,
    Delay,
    LoseReply,
    Place,
    Raw,
    Reply,
    ShortLiteral,
    Stall,
    Trickle,
    Untagged,
    WithoutUid,
    on,
)
from tests.fakes.gmail import FIRST_MSGID, FakeGmail
from tests.imap.doors import MAIL, NO_WAITING, SignIn

pytest_plugins = ["tests.fakes.fixtures", "tests.imap.door_fixtures"]

Open = Callable[..., GmailMailbox]
ALL = UidSet.of_range(1, MAX_UID)
AT = datetime(2026, 7, 17, 2, 44, 25, tzinfo=timezone(timedelta(hours=2)))


@pytest.fixture
def mailbox(gmail: FakeGmail, sign_in: SignIn) -> Iterator[Open]:
    """Sign in to a mailbox, which is not yet opened."""

    def mailbox(*, timeout: float = 5.0, name: str = "INBOX", max_message_bytes: int = 36_700_160) -> GmailMailbox:
        return GmailMailbox(sign_in(gmail.port, Side.SOURCE, timeout=timeout), name, max_message_bytes)

    yield mailbox
    assert gmail.violations == []
    # A listing travels with its EXAMINE, and finds nothing open where that is refused.
    assert [one for one in gmail.malformed if one.reason != "not in this state"] == []


def mails(count: int) -> list[bytes]:
    return [b"Message-ID: <%d@example.com>\r\n\r\n" % n + os.urandom(n) for n in range(1, count + 1)]


def delivered(gmail: FakeGmail, count: int) -> list[bytes]:
    """Let so many messages arrive, with the UIDs 1, 2, 3 and so on."""
    raws = mails(count)
    for raw in raws:
        gmail.deliver(raw, AT)
    return raws


def fetched(source: GmailMailbox, messages: Sequence[SourceMessage]) -> list[object]:
    """Return a body, or the error, for each message."""

    def result(future: Future[bytes | bytearray]) -> object:
        return future.exception(10) or bytes(future.result())

    return [result(future) for future in source.fetch(messages)]


def refused(results: Sequence[object]) -> list[int]:
    """Return the positions, from 1 on, of what was refused as one message's fault."""
    return [at for at, result in enumerate(results, 1) if isinstance(result, MessageRefused)]


# Listing.


def test_opening_tells_what_there_is(gmail: FakeGmail, mailbox: Open) -> None:
    raw = delivered(gmail, 1)[0]
    selected, listed = mailbox().open(ALL)
    assert (selected.uidvalidity, selected.uidnext, selected.exists) == (1, 2, 1)
    assert listed == [
        SourceMessage(MessageKey(1, 1), len(raw), "17-Jul-2026 02:44:25 +0200", AT.timestamp(), str(FIRST_MSGID))
    ]


def test_examine_and_listing_take_one_round_trip(server_tls: ssl.SSLContext, sign_in: SignIn) -> None:
    with FakeGmail(lambda user, token: True, server_tls, settle=0.02) as server:
        for raw in mails(50):
            server.deliver(raw)
        source = GmailMailbox(sign_in(server.port, Side.SOURCE), "INBOX", 1 << 20)
        before = server.round_trips
        _, listed = source.open(UidSet.of_range(11, MAX_UID))
        source.probe()  # the first of its octets ends the round trip before it
        assert len(listed) == 40
        assert server.round_trips - before == 2
        assert server.verbs()[-3:] == ["EXAMINE", "UID FETCH", "NOOP"]


def test_nothing_new_is_an_empty_list_and_no_second_question(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 3)
    _, listed = mailbox().open(UidSet.of_range(4, MAX_UID))
    assert listed == []
    assert [one.line for one in gmail.commands if one.verb == "UID FETCH"] == [
        "UID FETCH 4:4294967295 (UID X-GM-MSGID RFC822.SIZE INTERNALDATE)"
    ]


def test_an_empty_set_lists_nothing(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 1)
    _, listed = mailbox().open(UidSet())
    assert listed == []
    assert "UID FETCH" not in gmail.verbs()


def test_what_was_not_asked_for_is_not_listed(gmail: FakeGmail, mailbox: Open) -> None:
    """As the newest message is in every answer to n:*, and others' changes are told at any time."""
    delivered(gmail, 3)
    stray = '3 FETCH (UID 3 X-GM-MSGID 9 RFC822.SIZE 9 INTERNALDATE "17-Jul-2026 02:44:25 +0200")'
    lines = (stray, "3 FETCH (FLAGS (\\Seen))", "1 FETCH (UID 1 FLAGS ())", "7 EXISTS", "1 EXPUNGE", "OK Still here")
    for place in (Place.DATA, Place.BETWEEN, Place.TAGGED):
        gmail.misbehave(on("UID FETCH"), Untagged(lines, place))
    source = mailbox()
    assert [m.key.uid for m in source.open(UidSet.of_range(1, 2))[1]] == [1, 2]
    for _ in range(2):
        assert [m.key.uid for m in source.listing(UidSet.of_range(1, 2))] == [1, 2]


def test_a_set_that_is_too_long_for_a_line_is_listed_in_parts(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 3)
    wanted = UidSet([1, 3, *range(1_000_000, 1_004_000, 2)])
    assert [m.key.uid for m in mailbox().open(wanted)[1]] == [1, 3]
    lines = [one.line for one in gmail.commands if one.verb == "UID FETCH"]
    assert len(lines) == 5
    assert max(map(len, lines)) < 4100


def test_without_x_gm_ext_1_there_is_no_msgid(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 1)
    gmail.capabilities_after = gmail.capabilities_after.replace("X-GM-EXT-1 ", "")
    _, listed = mailbox().open(ALL)
    assert listed[0].gmail_msgid is None
    assert gmail.commands[-1].line == "UID FETCH 1:4294967295 (UID RFC822.SIZE INTERNALDATE)"


def test_a_live_uid_that_is_left_out_is_in_the_next_listing(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 5)
    gmail.omit_once(3)
    source = mailbox()
    assert [m.key.uid for m in source.open(ALL)[1]] == [1, 2, 4, 5]
    assert [m.key.uid for m in source.listing(UidSet([3]))] == [3]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param("UID 1 RFC822.SIZE 9 X-GM-MSGID 7", id="no INTERNALDATE"),
        pytest.param('UID 1 RFC822.SIZE 9 X-GM-MSGID 7 INTERNALDATE "yesterday"', id="a date that is none"),
        pytest.param('UID 1 RFC822.SIZE -1 X-GM-MSGID 7 INTERNALDATE "17-Jul-2026 02:44:25 +0200"', id="size below 0"),
        pytest.param('UID 1 RFC822.SIZE 9 INTERNALDATE "17-Jul-2026 02:44:25 +0200"', id="no X-GM-MSGID"),
        pytest.param(
            'UID 1 RFC822.SIZE 9 X-GM-MSGID 18446744073709551616 INTERNALDATE "17-Jul-2026 02:44:25 +0200"',
            id="X-GM-MSGID beyond 64 bits",
        ),
        pytest.param('UID 4294967296 RFC822.SIZE 9 INTERNALDATE "17-Jul-2026 02:44:25 +0200"', id="UID beyond 32 bits"),
        pytest.param("UID 1 RFC822.SIZE 9", id="half a row"),
        pytest.param('UID 1 RFC822.SIZE (9 INTERNALDATE "x', id="no end"),
    ],
)
def test_a_listing_that_does_not_parse_says_nothing(gmail: FakeGmail, mailbox: Open, row: str) -> None:
    delivered(gmail, 1)
    gmail.misbehave(on("UID FETCH"), Raw(f"* 1 FETCH ({row})\r\n<tag> OK Success\r\n".encode()))
    with pytest.raises(Unavailable, match="protocol broken"):
        mailbox().open(ALL)


@pytest.mark.parametrize(
    ("verb", "action", "expected"),
    [
        pytest.param("EXAMINE", Reply("NO System Error (Failure)"), Unavailable, id="EXAMINE refused"),
        pytest.param("UID FETCH", Reply("NO System Error (Failure)"), Unavailable, id="listing refused"),
        pytest.param("UID FETCH", OVER_QUOTA, Throttled, id="listing throttled"),
        pytest.param("EXAMINE", Bye("Session expired, please login again"), Throttled, id="BYE at EXAMINE"),
        pytest.param("UID FETCH", Bye("Session expired, please login again"), Throttled, id="BYE at the listing"),
        pytest.param("UID FETCH", CutAnswer(30), Unavailable, id="cut in the listing"),
        pytest.param("EXAMINE", Close(), Unavailable, id="cut at EXAMINE"),
        pytest.param("UID FETCH", Stall(), Unavailable, id="no answer"),
        pytest.param("UID FETCH", Trickle(1, 0.2), Unavailable, id="a trickle"),
    ],
)
def test_a_listing_that_fails_tells_how(
    gmail: FakeGmail, mailbox: Open, verb: str, action: Action, expected: type[SyncError]
) -> None:
    delivered(gmail, 2)
    gmail.misbehave(on(verb), action)
    with pytest.raises(expected) as failed:
        mailbox(timeout=NO_WAITING).open(ALL)
    if isinstance(failed.value, Throttled):
        assert failed.value.seconds >= 3600


def test_a_mailbox_that_is_not_there_is_a_fault_of_the_settings(mailbox: Open) -> None:
    with pytest.raises(ConfigError, match=r"GMAIL_SOURCE_FOLDER: .*Unknown Mailbox: Nowhere"):
        mailbox(name="Nowhere").open(ALL)


def test_an_inbox_that_is_not_there_is_gmails_fault(gmail: FakeGmail, mailbox: Open) -> None:
    gmail.misbehave(on("EXAMINE"), Reply("NO [NONEXISTENT] Unknown Mailbox: INBOX (Failure)"))
    with pytest.raises(Unavailable):
        mailbox().open(ALL)


def test_any_other_mailbox_may_be_the_source(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 1)
    assert len(mailbox(name="[Gmail]/All Mail").open(ALL)[1]) == 1


# Searching.


@pytest.mark.parametrize("hours", [-12, 0, 14])
def test_what_arrived_since_a_moment_is_found_in_any_time_zone(gmail: FakeGmail, mailbox: Open, hours: int) -> None:
    gmail.zone = timezone(timedelta(hours=hours))
    moment = datetime(2026, 7, 17, 0, 30, tzinfo=UTC)
    for offset in (-72, 0, 1, 23):
        gmail.deliver(MAIL, moment + timedelta(hours=offset))
    source = mailbox()
    source.open(UidSet())
    found = source.since(moment.timestamp())
    assert set(found) >= {2, 3, 4}
    assert 1 not in found
    assert gmail.commands[-1].line == "UID SEARCH SINCE 16-Jul-2026"


# Bodies.


def test_bodies_come_with_their_messages_whatever_the_order(gmail: FakeGmail, mailbox: Open) -> None:
    raws = delivered(gmail, 100)
    source = mailbox()
    _, listed = source.open(ALL)
    assert fetched(source, listed[::-1]) == raws[::-1]
    asked = [one.line for one in gmail.commands if "BODY.PEEK[]" in one.line]
    assert len(asked) == 7  # 16 at a time


def test_large_bodies_do_not_share_a_command(gmail: FakeGmail, mailbox: Open) -> None:
    raws = [os.urandom(600_000) for _ in range(4)] + mails(2)
    for raw in raws:
        gmail.deliver(raw)
    source = mailbox()
    _, listed = source.open(ALL)
    assert fetched(source, listed) == raws
    asked = [one.line for one in gmail.commands if "BODY.PEEK[]" in one.line]
    assert asked == [f"UID FETCH {uids} (UID BODY.PEEK[])" for uids in ("1", "2", "3", "4:6")]


def test_one_message_that_is_not_served_is_the_only_one_blamed(gmail: FakeGmail, mailbox: Open) -> None:
    """Gmail refuses the whole command for the sake of one (PROVIDERS 1.5)."""
    raws = delivered(gmail, 16)
    gmail.misbehave(on("UID FETCH", uid=9, contains="BODY.PEEK[]"), WithoutUid(9, NOT_FETCHED), FOREVER)
    source = mailbox()
    _, listed = source.open(ALL)
    results = fetched(source, listed)
    assert refused(results) == [9]
    assert [*results[:8], raws[8], *results[9:]] == raws
    asked = [one.line for one in gmail.commands if "BODY.PEEK[]" in one.line]
    assert asked == ["UID FETCH 1:16 (UID BODY.PEEK[])", "UID FETCH 9 (UID BODY.PEEK[])"]


def test_a_group_that_is_refused_without_a_body_is_asked_for_one_by_one(gmail: FakeGmail, mailbox: Open) -> None:
    raws = delivered(gmail, 5)
    gmail.misbehave(on("UID FETCH", uid=3, contains="BODY.PEEK[]"), Reply("NO System Error (Failure)"), FOREVER)
    source = mailbox()
    _, listed = source.open(ALL)
    results = fetched(source, listed)
    assert refused(results) == [3]
    assert results[:2] + results[3:] == raws[:2] + raws[3:]


def test_one_message_alone_that_is_refused_is_not_asked_for_again(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 1)
    gmail.misbehave(on("UID FETCH", contains="BODY.PEEK[]"), Reply("NO System Error (Failure)"), FOREVER)
    source = mailbox()
    results = fetched(source, source.open(ALL)[1])
    assert [str(result) for result in results] == ["FETCH: System Error (Failure)"]
    assert len([one for one in gmail.commands if "BODY.PEEK[]" in one.line]) == 1


def test_a_live_uid_that_is_left_out_is_fetched_the_second_time(gmail: FakeGmail, mailbox: Open) -> None:
    raws = delivered(gmail, 4)
    gmail.misbehave(on("UID FETCH", contains="BODY.PEEK[]"), WithoutUid(2))
    source = mailbox()
    assert fetched(source, source.open(ALL)[1]) == raws


def test_a_message_that_has_gone_is_refused_after_two_questions(gmail: FakeGmail, mailbox: Open) -> None:
    raws = delivered(gmail, 3)
    source = mailbox()
    _, listed = source.open(ALL)
    gmail.archive(2)
    results = fetched(source, listed)
    assert refused(results) == [2]
    assert str(results[1]) == "not in the source mailbox any more"
    assert [results[0], results[2]] == [raws[0], raws[2]]
    assert len([one for one in gmail.commands if "BODY.PEEK[]" in one.line]) == 2


@pytest.mark.parametrize("place", [Place.DATA, Place.BETWEEN, Place.TAGGED])
def test_other_news_between_the_bodies_change_nothing(gmail: FakeGmail, mailbox: Open, place: Place) -> None:
    raws = delivered(gmail, 3)
    lines = ("4 EXISTS", "1 FETCH (FLAGS (\\Seen))", "2 FETCH (UID 2 FLAGS ())", "3 EXPUNGE", "OK Still here")
    gmail.misbehave(on("UID FETCH", contains="BODY.PEEK[]"), Untagged(lines, place))
    source = mailbox()
    assert fetched(source, source.open(ALL)[1]) == raws


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param('* 1 FETCH (UID 1 BODY[] "quoted")', b"quoted", id="a quoted string"),
        pytest.param("* 1 FETCH (BODY[] {3}\r\nabc UID 1)", b"abc", id="UID behind the body"),
        pytest.param("* 1 FETCH (FLAGS (\\Seen) UID 1 BODY[] {3}\r\nabc MODSEQ (7))", b"abc", id="more than was asked"),
        pytest.param("* 1 fetch (uid 1 body[] {3}\r\nabc)", b"abc", id="lower case"),
        pytest.param("* 1 FETCH (UID 1 BODY[] {0}\r\n)", b"", id="nothing"),
        pytest.param("* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n* 1 FETCH (UID 1 BODY[] {3}\r\nxyz)", b"abc", id="twice"),
        pytest.param("* 1 FETCH (UID 1 BODY[] NIL)", None, id="NIL"),
        pytest.param("* 1 FETCH (UID 2 BODY[] {3}\r\nabc)", None, id="another's"),
        pytest.param("* 1 FETCH (BODY[] {3}\r\nabc)", None, id="whose?"),
    ],
)
def test_the_forms_a_body_may_come_in(gmail: FakeGmail, mailbox: Open, answer: str, body: bytes | None) -> None:
    delivered(gmail, 1)
    gmail.misbehave(on("UID FETCH", contains="BODY.PEEK[]"), Raw(f"{answer}\r\n<tag> OK\r\n".encode()), 2)
    source = mailbox()
    result = fetched(source, source.open(ALL)[1])[0]
    assert result == body if body is not None else isinstance(result, MessageRefused)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        pytest.param(OVER_QUOTA, Throttled, id="over quota"),
        pytest.param(Bye("Session expired, please login again"), Throttled, id="BYE"),
        pytest.param(CutAnswer(10, in_literal=True), BrokenOff, id="cut in a body"),
        pytest.param(CutAnswer(10, in_literal=True, bye="going down"), BrokenOff, id="BYE in a body"),
        pytest.param(Bye("going down"), Unavailable, id="BYE instead of a body"),
        pytest.param(ShortLiteral(1), BrokenOff, id="a body shorter than announced"),
        pytest.param(LoseReply(), BrokenOff, id="cut"),
        pytest.param(Stall(), BrokenOff, id="no answer"),
        pytest.param(Raw(b"* 1 FETCH (UID 1 BODY[] {4000000000}\r\n"), BrokenOff, id="a huge literal"),
        pytest.param(Raw(b"* 1 FETCH (UID 1 BODY[] {5000000}\r\n"), BrokenOff, id="larger than is copied"),
        pytest.param(Raw(b"* 1 FETCH (UID 1 BODY[]\r\n"), BrokenOff, id="no end"),
    ],
)
def test_what_ends_the_connection_is_the_fault_of_one_message_at_most(
    gmail: FakeGmail, mailbox: Open, action: Action, expected: type[SyncError]
) -> None:
    delivered(gmail, 20)
    source = mailbox(timeout=NO_WAITING, max_message_bytes=1 << 20)
    _, listed = source.open(ALL)
    gmail.misbehave(on("UID FETCH", contains="BODY.PEEK[]"), action)
    futures = source.fetch(listed)
    errors = [future.exception(10) for future in futures]
    kinds = [type(error) for error in errors if error is not None]
    assert kinds[0] is expected, "the one that was to be served next"
    assert {*kinds} <= {expected, Unavailable}
    assert kinds.count(BrokenOff) <= 2, "one of each command, at most"
    assert [future.exception(10) is None for future in futures].count(True) <= 4  # those that came before the end


def test_nothing_is_fetched_over_a_connection_that_has_ended(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 2)
    source = mailbox()
    _, listed = source.open(ALL)
    source.close()
    assert [type(result) for result in fetched(source, listed)] == [Unavailable, Unavailable]
    with pytest.raises(Unavailable):
        source.listing(ALL)
    with pytest.raises(Unavailable):
        source.probe()


def test_16_groups_in_flight_with_one_refused_and_one_slow(gmail: FakeGmail, mailbox: Open) -> None:
    raws = delivered(gmail, 256)
    gmail.misbehave(on("UID FETCH", uid=100, contains="BODY.PEEK[]"), Reply(NOT_FETCHED), FOREVER)
    gmail.misbehave(on("UID FETCH", uid=200, contains="BODY.PEEK[]"), Delay(0.1))
    source = mailbox()
    results = fetched(source, source.open(ALL)[1])
    assert refused(results) == [100]
    assert results[:99] + results[100:] == raws[:99] + raws[100:]


def test_no_flag_is_set_by_any_of_this(gmail: FakeGmail, mailbox: Open) -> None:
    delivered(gmail, 2)
    source = mailbox()
    fetched(source, source.open(ALL)[1])
    assert [message.flags for message in gmail.inbox.messages] == [(), ()]
    assert "*" not in "".join(one.line for one in gmail.commands if one.verb == "UID FETCH")
