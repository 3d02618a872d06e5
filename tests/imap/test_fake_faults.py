"""Every misbehaviour in the vocabulary really happens: seen through a socket, and in what is stored afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.fakes.faults import (
    ERROR_11,
    FOREVER,
    NOT_FETCHED,
    OVER_QUOTA,
    TAGLESS_UNAVAILABLE,
    TOO_MANY_CONNECTIONS,
    WEB_LOGIN,
    Action,
    Bye,
    Close,
    CloseInLiteral,
    CommitLate,
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
    throttled,
)
from tests.fakes.gmail import FakeGmail
from tests.fakes.imap_server import ImapServer
from tests.fakes.outlook import FakeOutlook
from tests.fakes.raw_client import RawClient, check_token, xoauth2

pytest_plugins = ["tests.fakes.fixtures"]

MAIL = b"Message-ID: <1@example.com>\r\n\r\nBody\r\n"
Dial = Callable[[int], RawClient]


@pytest.fixture
def writer(outlook: FakeOutlook, dial: Dial) -> RawClient:
    """A client that is signed in to the destination."""
    return dial(outlook.port).sign_in()


@pytest.fixture
def reader(gmail: FakeGmail, dial: Dial) -> RawClient:
    """A client that has opened an INBOX of three messages, UIDs 1 to 3."""
    for number in range(3):
        gmail.deliver(MAIL + b"%d\r\n" % number)
    client = dial(gmail.port).sign_in()
    client.command(b"EXAMINE INBOX")
    return client


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ending(client: RawClient, text: bytes) -> bytes:
    """Return all that comes after a command until the connection ends."""
    client.begin(text)
    return client.rest()


APPEND = b"APPEND Gmail {%d+}\r\n%s" % (len(MAIL), MAIL)
WAITING_APPEND = b"APPEND Gmail {%d}" % len(MAIL)


# Connections that end.


@pytest.mark.parametrize(
    ("action", "stored"),
    [(Close(), 0), (LoseReply(), 1), (CloseInLiteral(5, reset=False), 0)],
    ids=["closed before it was executed", "reply lost", "closed in the literal"],
)
def test_the_connection_ends_without_a_word(
    outlook: FakeOutlook, writer: RawClient, action: Action, stored: int
) -> None:
    outlook.misbehave(on("APPEND"), action)
    assert ending(writer, APPEND) == b""
    assert len(outlook.appended) == stored


@pytest.mark.parametrize(
    ("action", "stored"),
    [(Close(reset=True), 0), (LoseReply(reset=True), 1), (CloseInLiteral(5), 0)],
    ids=["before it was executed", "after it was executed", "in the literal"],
)
def test_the_connection_ends_by_a_reset(action: Action, stored: int) -> None:
    # Without TLS: Python's ssl shows a reset as an ordinary end.
    with FakeOutlook(check_token, folders=("Gmail",)) as outlook, RawClient(outlook.port) as client:
        client.sign_in()
        outlook.misbehave(on("APPEND"), action)
        with pytest.raises(ConnectionResetError):
            ending(client, APPEND)
        assert len(outlook.appended) == stored


def test_a_late_commit_is_stored_when_the_connection_is_gone(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND"), CommitLate())
    assert ending(writer, APPEND) == b""
    assert outlook.appended == []
    assert outlook.commit_late() == 1
    assert outlook.appended_to("Gmail") == [MAIL]
    assert outlook.commit_late() == 0


def test_a_late_commit_comes_by_a_timer_too(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND"), CommitLate(delay=0.05))
    assert ending(writer, APPEND) == b""
    wait_until(lambda: len(outlook.appended) == 1)
    assert outlook.commit_late() == 0


def test_a_server_that_is_closed_never_commits_late(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND"), CommitLate(delay=60))
    ending(writer, APPEND)
    outlook.close()
    assert outlook.appended == []


@pytest.mark.parametrize(("bye", "seen"), [(None, b""), ("Later", b"* BYE Later\r\n")])
def test_all_connections_can_be_dropped(outlook: FakeOutlook, writer: RawClient, bye: str | None, seen: bytes) -> None:
    outlook.drop_connections(bye)
    assert writer.rest() == seen
    wait_until(lambda: outlook.open_connections == 0)


# Words instead of an answer.


@pytest.mark.parametrize("status", ["NO", "BAD"])
@pytest.mark.parametrize("before_literal", [True, False], ids=["before the +", "after the literal"])
@pytest.mark.parametrize("bye", [True, False], ids=["and BYE", "and on"])
def test_throttled(outlook: FakeOutlook, writer: RawClient, status: str, before_literal: bool, bye: bool) -> None:
    outlook.misbehave(on("APPEND"), throttled(5000, status, bye=bye, before_literal=before_literal))
    tag = writer.begin(WAITING_APPEND)
    if not before_literal:
        assert writer.line().startswith(b"+ ")
        writer.send(MAIL, b"\r\n")
    text = f" {status} Request is throttled. Suggested Backoff Time: 5000 milliseconds"
    assert writer.line() == tag + text.encode()
    if bye:
        assert writer.rest() == b"* BYE Connection closed. 14\r\n"
    else:
        assert writer.append(b"Gmail", MAIL)[-1].startswith(b"OK ")


def test_a_refusal_of_a_literal_that_does_not_wait_comes_when_it_was_swallowed(
    outlook: FakeOutlook, writer: RawClient
) -> None:
    outlook.misbehave(on("APPEND"), Reply("NO [OVERQUOTA] Full", before_literal=True))
    assert writer.append(b"Gmail", MAIL) == [b"NO [OVERQUOTA] Full"]
    assert writer.append(b"Gmail", MAIL)[-1].startswith(b"OK ")
    assert len(outlook.appended) == 1


def test_error_11_for_chosen_messages_only(outlook: FakeOutlook, writer: RawClient) -> None:
    fault = outlook.misbehave(on("APPEND", raw=lambda raw: b"poison" in raw), ERROR_11, times=FOREVER)
    for _ in range(2):
        assert writer.append(b"Gmail", b"Subject: poison\r\n\r\n") == [b"BAD Command Argument Error. 11"]
        assert writer.append(b"Gmail", MAIL)[-1].startswith(b"OK ")
    assert fault.fired == 2


def test_faults_count_what_they_match(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND", nth=2), ERROR_11, times=2)
    answers = [writer.append(b"Gmail", MAIL)[-1][:3] for _ in range(4)]
    assert answers == [b"OK ", b"BAD", b"BAD", b"OK "]
    outlook.misbehave(on("STATUS", contains="INBOX"), ERROR_11)
    assert writer.command(b"STATUS Gmail (UIDNEXT)")[-1].startswith(b"OK ")
    assert writer.command(b"STATUS INBOX (UIDNEXT)")[-1].startswith(b"BAD ")
    outlook.misbehave(on(connection=2), ERROR_11)
    outlook.misbehave(on(check=lambda seen: seen.verb == "NOOP"), ERROR_11)
    assert writer.command(b"NOOP")[-1].startswith(b"BAD ")
    outlook.misbehave(on(), ERROR_11)
    outlook.faults.clear()
    assert writer.command(b"NOOP")[-1].startswith(b"OK ")


@pytest.mark.parametrize("answer", [TOO_MANY_CONNECTIONS, OVER_QUOTA, WEB_LOGIN])
def test_a_sign_in_is_refused_for_other_reasons(gmail: FakeGmail, dial: Dial, answer: Reply) -> None:
    gmail.misbehave(on("AUTHENTICATE"), answer)
    client = dial(gmail.port)
    assert client.command(b"AUTHENTICATE XOAUTH2 " + xoauth2()) == [answer.text.encode()]
    client.sign_in()


def test_a_line_without_a_tag_is_all_there_is(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND"), TAGLESS_UNAVAILABLE)
    tag = writer.begin(APPEND)
    assert writer.line() == b"Server Unavailable. 15"
    assert not tag.startswith(b"Server")
    assert writer.silent_for(0.1)


@pytest.mark.parametrize("executed", [True, False])
def test_bye_at_any_command(outlook: FakeOutlook, writer: RawClient, executed: bool) -> None:
    outlook.misbehave(on("APPEND"), Bye("Session expired, please login again", executed=executed))
    assert ending(writer, APPEND) == b"* BYE Session expired, please login again\r\n"
    assert len(outlook.appended) == executed


def test_bye_before_the_continuation(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND"), Bye("No", before_literal=True))
    assert ending(writer, WAITING_APPEND) == b"* BYE No\r\n"


def test_the_greeting_can_go_wrong(outlook: FakeOutlook, dial: Dial) -> None:
    outlook.misbehave(on("GREETING"), Bye("Too many connections"))
    assert dial(outlook.port).greeting == b"* BYE Too many connections"
    outlook.misbehave(on("GREETING"), Close())
    with pytest.raises(EOFError):
        dial(outlook.port)
    assert dial(outlook.port).greeting.startswith(b"* OK ")


def test_hostile_octets_and_endless_ones(gmail: FakeGmail, reader: RawClient) -> None:
    gmail.misbehave(on("UID FETCH"), Raw(b"* 1 FETCH (UID 99999999999999 BODY[] {-1}\r\n<tag> OK\r\n"))
    tag = reader.begin(b"UID FETCH 1 (UID)")
    assert reader.line() == b"* 1 FETCH (UID 99999999999999 BODY[] {-1}"
    assert reader.line() == tag + b" OK"
    gmail.misbehave(on("NOOP"), Raw(b"x" * 65536, times=64, close=True))
    assert len(ending(reader, b"NOOP")) == 64 * 65536


# Lines between the lines.


def test_lines_before_the_continuation(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND"), Untagged(("5 EXISTS", "OK Still here"), Place.CONTINUATION))
    tag = writer.begin(WAITING_APPEND)
    assert [writer.line()[:6] for _ in range(3)] == [b"* 5 EX", b"* OK S", b"+ Read"]
    writer.send(MAIL, b"\r\n")
    assert writer.until(tag)[-1].startswith(tag + b" OK ")
    assert outlook.appended_to("Gmail") == [MAIL]


@pytest.mark.parametrize(
    ("place", "order"),
    [(Place.DATA, "!12."), (Place.BETWEEN, "1!2!."), (Place.TAGGED, "12!.")],
    ids=lambda value: value.value if isinstance(value, Place) else value,
)
def test_lines_nobody_asked_for_among_the_data(gmail: FakeGmail, reader: RawClient, place: Place, order: str) -> None:
    gmail.misbehave(on("UID FETCH"), Untagged(("2 EXPUNGE", "3 FETCH (FLAGS (\\Seen))"), place))
    lines = reader.command(b"UID FETCH 1:2 (UID)")
    shapes = {b"* 1 FE": "1", b"* 2 FE": "2", b"* 2 EX": "!", b"OK Suc": "."}
    assert "".join(shapes.get(line[:6], "") for line in lines) == order


# Answers that are cut, thinned out, slow, or never come.


def test_bye_in_the_middle_of_a_literal(gmail: FakeGmail, reader: RawClient) -> None:
    gmail.misbehave(on("UID FETCH"), CutAnswer(4, in_literal=True, bye="Session expired"))
    whole = b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%s" % (len(MAIL) + 3, MAIL[:4])
    assert ending(reader, b"UID FETCH 1 (BODY.PEEK[])") == whole + b"* BYE Session expired\r\n"


def test_an_answer_cut_at_any_octet(gmail: FakeGmail, reader: RawClient) -> None:
    gmail.misbehave(on("UID FETCH"), CutAnswer(9))
    assert ending(reader, b"UID FETCH 1 (UID)") == b"* 1 FETCH"


def test_a_literal_shorter_than_announced(gmail: FakeGmail, reader: RawClient) -> None:
    gmail.misbehave(on("UID FETCH"), ShortLiteral(3))
    tag = reader.begin(b"UID FETCH 1 (BODY.PEEK[])")
    # Who believes the announcement takes the next line for the end of this one.
    assert reader.line() == b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%s)\r\n%s OK Success" % (len(MAIL) + 3, MAIL, tag)


def test_no_for_one_uid(gmail: FakeGmail, reader: RawClient) -> None:
    gmail.misbehave(on("UID FETCH", uid=2), WithoutUid(2, NOT_FETCHED), times=FOREVER)
    assert reader.command(b"UID FETCH 1,3 (UID)")[-1] == b"OK Success"
    assert reader.command(b"UID FETCH 1:3 (UID)") == [
        b"* 1 FETCH (UID 1)",
        b"* 3 FETCH (UID 3)",
        b"NO Some messages could not be FETCHed (Failure)",
    ]


@pytest.mark.parametrize("text", [b"UID FETCH 1:4294967295 (UID)", b"UID SEARCH ALL"])
def test_a_live_uid_left_out_once(gmail: FakeGmail, reader: RawClient, text: bytes) -> None:
    gmail.omit_once(2)
    first, second = reader.command(text), reader.command(text)
    assert b"2" not in b"".join(first[:-1]).replace(b"* 2 ", b"")
    assert len(b"".join(second)) > len(b"".join(first))
    assert first[-1].startswith(b"OK ")


def test_a_stall_lasts_until_it_is_released(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND"), Stall())
    tag = writer.begin(APPEND)
    wait_until(lambda: outlook.verbs() == ["AUTHENTICATE", "APPEND"])
    assert outlook.appended == []
    outlook.release()
    assert writer.until(tag)[-1].startswith(tag + b" OK ")


def test_what_stalls_is_executed_on_release_though_the_client_has_gone(outlook: FakeOutlook, dial: Dial) -> None:
    outlook.misbehave(on("APPEND"), Stall())
    with dial(outlook.port) as client:
        client.sign_in().begin(APPEND)
        wait_until(lambda: "APPEND" in outlook.verbs())
    outlook.release()
    wait_until(lambda: len(outlook.appended) == 1)


def test_only_the_answer_stalls(outlook: FakeOutlook, writer: RawClient) -> None:
    outlook.misbehave(on("APPEND"), Stall(executed=True))
    tag = writer.begin(APPEND)
    wait_until(lambda: len(outlook.appended) == 1)
    outlook.release()
    assert writer.until(tag)[-1].startswith(tag + b" OK ")


def test_a_stall_before_the_continuation(outlook: FakeOutlook, writer: RawClient) -> None:
    fault = outlook.misbehave(on("APPEND"), Stall(before_literal=True))
    writer.begin(WAITING_APPEND)
    wait_until(lambda: fault.fired == 1)
    outlook.release()
    assert writer.line().startswith(b"+ ")


def test_an_answer_trickles(gmail: FakeGmail, reader: RawClient) -> None:
    gmail.misbehave(on("UID FETCH"), Trickle(octets=10, pause=0.01))
    started = time.monotonic()
    assert len(reader.command(b"UID FETCH 1:3 (UID)")) == 4
    assert time.monotonic() - started > 0.04  # some 80 octets


def test_an_answer_is_late(gmail: FakeGmail, reader: RawClient) -> None:
    gmail.misbehave(on("NOOP"), Delay(0.05))
    started = time.monotonic()
    reader.command(b"NOOP")
    assert time.monotonic() - started > 0.04


@pytest.mark.parametrize("action", [Stall(), Trickle(1, 60), Delay(60)])
def test_closing_the_server_ends_what_waits(gmail: FakeGmail, outlook: FakeOutlook, dial: Dial, action: Action) -> None:
    servers: list[ImapServer] = [gmail, outlook]
    for server in servers:
        fault = server.misbehave(on("NOOP"), action)
        dial(server.port).begin(b"NOOP")
        wait_until(lambda fault=fault: fault.fired == 1)  # type: ignore[misc]
        server.close()
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith(type(server).__name__)]
