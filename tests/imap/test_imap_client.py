"""The client settles every command in bounded time and memory, tells what surely was not sent, and keeps octets."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from syncer import imap_client, imap_responses
from syncer.errors import NotPermitted, VerbNotAllowed
from syncer.imap_client import ConnectionLost, ImapClient, Reply
from syncer.imap_responses import Parts
from syncer.imap_socket import TlsSocket
from tests.fakes.faults import (
    FOREVER,
    Action,
    Bye,
    Close,
    CloseInLiteral,
    CutAnswer,
    Delay,
    LoseReply,
    Place,
    Raw,
    ShortLiteral,
    Stall,
    Trickle,
    Untagged,
    on,
)
from tests.fakes.faults import Reply as Answer
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.relay import Direction, Relay
from tests.imap.doors import HOST, MAIL, NO_WAITING, Connect, read_line, scripted

pytest_plugins = ["tests.fakes.fixtures", "tests.imap.door_fixtures"]

BIG = os.urandom(20 << 20)
WAIT = 10.0


def outcome(future: Future[Reply]) -> BaseException | Reply:
    """Return what a future gives; it has to be settled within seconds."""
    error = future.exception(WAIT)
    return future.result() if error is None else error


def lost(future: Future[Reply]) -> ConnectionLost:
    ended = outcome(future)
    assert isinstance(ended, ConnectionLost), ended
    return ended


def append(client: ImapClient, raw: bytes | bytearray, permit: Callable[[], bool] | None = None) -> Future[Reply]:
    return client.submit(b"APPEND Gmail", literal=raw, permit=permit)


def ok(future: Future[Reply]) -> Reply:
    reply = future.result(WAIT)
    assert reply.status == "OK", reply
    return reply


def taking(into: list[list[bytes]]) -> Callable[[Parts], bool]:
    def take(parts: Parts) -> bool:
        if b" FETCH (" not in parts[0]:
            return False
        into.append([bytes(part) for part in parts])
        return True

    return take


# The connection.


def test_the_system_asks_whether_the_other_end_is_still_there(gmail: FakeGmail, connect: Connect) -> None:
    sock = connect(gmail.port).sock._sock
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    if hasattr(socket, "TCP_KEEPIDLE"):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 120


# Greeting and capabilities.


def test_the_capabilities_are_read_before_and_after_the_sign_in(gmail: FakeGmail, connect: Connect) -> None:
    client = connect(gmail.port)
    assert client.capabilities[0] == "IMAP4REV1"
    assert "UIDPLUS" not in client.capabilities
    assert "UIDPLUS" in connect(gmail.port, signed_in=True).capabilities


def test_capabilities_in_the_greeting_save_the_question(gmail: FakeGmail, connect: Connect) -> None:
    gmail.misbehave(on("GREETING"), Raw(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] ready\r\n"))
    assert connect(gmail.port).capabilities == ("IMAP4REV1", "SASL-IR", "AUTH=XOAUTH2")
    assert gmail.verbs() == []


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        pytest.param(b"* BYE Too many connections\r\n", "BYE Too many connections", id="BYE"),
        pytest.param(b"* PREAUTH welcome back\r\n", "not the greeting", id="signed in as nobody knows whom"),
        pytest.param(b"+OK POP3 ready\r\n", "not the greeting", id="POP3"),
        pytest.param(b"220 smtp.example.com ESMTP\r\n", "not the greeting", id="SMTP"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "not the greeting", id="HTTP"),
        pytest.param(b"\xff\x00\r\n", "not the greeting", id="garbage"),
        pytest.param(b"x" * (9 << 20), "an endless line", id="an endless line"),
        pytest.param(b"* OK {99999999}\r\n", "a literal larger", id="a huge literal"),
        pytest.param(b"", "connection lost", id="nothing"),
    ],
)
def test_a_greeting_that_is_none(gmail: FakeGmail, connect: Connect, greeting: bytes, reason: str) -> None:
    gmail.misbehave(on("GREETING"), Raw(greeting, close=True))
    with pytest.raises(ConnectionLost, match=reason) as ended:
        connect(gmail.port)
    assert not ended.value.begun


def test_a_server_that_is_no_imap4rev1_server(gmail: FakeGmail, connect: Connect) -> None:
    gmail.misbehave(on("CAPABILITY"), Raw(b"* CAPABILITY IMAP2\r\n<tag> OK\r\n"))
    with pytest.raises(ConnectionLost, match="not an IMAP4rev1 server"):
        connect(gmail.port)


def test_a_server_without_a_greeting_is_left_after_the_time_out(gmail: FakeGmail, connect: Connect) -> None:
    gmail.misbehave(on("GREETING"), Stall())
    started = time.monotonic()
    with pytest.raises(ConnectionLost, match=r"no answer within 0\.3 s"):
        connect(gmail.port, timeout=NO_WAITING)
    assert time.monotonic() - started < 3


def test_a_host_that_accepts_and_says_nothing_is_left_after_the_time_out(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connect(silent.getsockname()[1], timeout=NO_WAITING)
        assert time.monotonic() - started < 3


def test_a_refused_connection_is_an_os_error(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect(port)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_host_name_that_is_none_is_an_os_error(client_tls: ssl.SSLContext, host: str) -> None:
    with pytest.raises(socket.gaierror):
        ImapClient(host, 1, guard=lambda line: None, context=client_tls, connect_timeout=1, timeout=1)


@pytest.mark.parametrize("off", ["host name", "chain"])
def test_verification_cannot_be_switched_off(gmail: FakeGmail, off: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    if off == "chain":
        context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match="verification must stay on"):
        ImapClient(HOST, gmail.port, guard=lambda line: None, context=context, connect_timeout=1, timeout=1)
    assert gmail.connections == 0


# What is sent.


def test_what_the_guard_bars_and_what_is_no_line_is_not_sent(gmail: FakeGmail, client_tls: ssl.SSLContext) -> None:
    def guard(line: bytes) -> None:
        if line != b"CAPABILITY" and line != b"LOGOUT":
            raise VerbNotAllowed("barred")

    client = ImapClient(HOST, gmail.port, guard=guard, context=client_tls, connect_timeout=5, timeout=5)
    try:
        with pytest.raises(VerbNotAllowed):
            client.submit(b"NOOP")
        client._guard = lambda line: None
        for line in (b"NOOP\r\nx EXPUNGE", b"NOOP\nx", b"NO\0OP"):
            with pytest.raises(ValueError, match="one line"):
                client.submit(line)
        ok(client.submit(b"NOOP"))
    finally:
        client.close()
    assert gmail.verbs()[:2] == ["CAPABILITY", "NOOP"]


@pytest.mark.parametrize(
    ("free", "octets", "form"),
    [
        pytest.param(1 << 26, 1, "{1+}", id="LITERAL+, one octet"),
        pytest.param(1 << 26, 200_000, "{200000+}", id="LITERAL+, any size"),
        pytest.param(4096, 4096, "{4096+}", id="LITERAL-, at its limit"),
        pytest.param(4096, 4097, "{4097}", id="LITERAL-, above its limit"),
        pytest.param(None, 10, "{10}", id="neither"),
    ],
)
def test_a_literal_waits_where_it_has_to(
    outlook: FakeOutlook, connect: Connect, monkeypatch: pytest.MonkeyPatch, free: int | None, octets: int, form: str
) -> None:
    outlook.free_literal = free
    if free == 4096:
        listed = outlook.capabilities
        monkeypatch.setattr(
            outlook, "capabilities", lambda signed_in: listed(signed_in=signed_in).replace("LITERAL+", "LITERAL-")
        )
    raw = os.urandom(octets)
    ok(append(connect(outlook.port, signed_in=True), raw))
    assert outlook.commands[-1].line == f"APPEND Gmail {form}"
    assert outlook.appended_to("Gmail") == [raw]
    assert outlook.malformed == []


EXACT = [
    pytest.param(b"a\0b\r\n", id="NUL"),
    pytest.param(b"a\nb\n", id="bare LF"),
    pytest.param(b"a\rb\r", id="bare CR"),
    pytest.param(bytes(range(256)) * 3, id="all octets"),
    pytest.param(b"no final line end", id="no final line end"),
    pytest.param(b"ends in {5}", id="ends like a literal"),
    pytest.param(b"\r\n* BYE\r\nx OK\r\n", id="looks like responses"),
    pytest.param(b"x" * 65_536, id="as large as is joined"),
    pytest.param(b"y\r\n" * 30_000, id="larger"),
    pytest.param(BIG, id="20 MB"),
]


@pytest.mark.parametrize("literal_plus", [True, False], ids=["LITERAL+", "synchronising"])
@pytest.mark.parametrize("raw", EXACT)
def test_a_literal_arrives_octet_for_octet(
    outlook: FakeOutlook, connect: Connect, raw: bytes, literal_plus: bool
) -> None:
    if not literal_plus:
        outlook.free_literal = None
    ok(append(connect(outlook.port, signed_in=True), bytearray(raw)))
    assert outlook.appended_to("Gmail") == [raw]


@pytest.mark.parametrize("raw", [*EXACT, pytest.param(b"", id="nothing")])
def test_a_body_is_fetched_octet_for_octet(gmail: FakeGmail, connect: Connect, raw: bytes) -> None:
    gmail.deliver(raw)
    client = connect(gmail.port, signed_in=True)
    found: list[list[bytes]] = []
    client.submit(b"EXAMINE INBOX")
    ok(client.submit(b"UID FETCH 1 (UID BODY.PEEK[])", sink=taking(found), literal_limit=1 << 25, answer_limit=1 << 25))
    assert found == [[b"* 1 FETCH (UID 1 BODY[] {%d}" % len(raw), raw, b")"]]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("5 EXISTS",), id="EXISTS"),
        pytest.param(("OK Still here", "OK Still here"), id="two OK"),
        pytest.param(("1 FETCH (UID 9 FLAGS ())", "3 EXPUNGE"), id="FETCH and EXPUNGE"),
    ],
)
def test_untagged_lines_before_the_go_ahead_change_nothing(
    outlook: FakeOutlook, connect: Connect, lines: tuple[str, ...]
) -> None:
    outlook.free_literal = None
    outlook.misbehave(on("APPEND"), Untagged(lines, Place.CONTINUATION))
    ok(append(connect(outlook.port, signed_in=True), MAIL))
    assert outlook.appended_to("Gmail") == [MAIL]


def test_a_literal_that_is_refused_is_not_sent_and_those_behind_it_are(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.free_literal = None
    outlook.misbehave(on("APPEND", nth=2), Answer("NO not now", before_literal=True))
    client = connect(outlook.port, signed_in=True)
    mails = [b"Subject: %d\r\n\r\n" % n for n in range(4)]
    replies = [append(client, mail) for mail in mails]
    assert [reply.result(WAIT).status for reply in replies] == ["OK", "NO", "OK", "OK"]
    assert outlook.appended_to("Gmail") == [mails[0], mails[2], mails[3]]
    assert outlook.malformed == []


def test_a_refusal_of_a_literal_that_did_not_wait(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.misbehave(on("APPEND"), Answer("BAD Command Argument Error. 11", before_literal=True))
    client = connect(outlook.port, signed_in=True)
    replies = [append(client, MAIL), append(client, MAIL)]
    assert replies[0].result(WAIT) == Reply("BAD", b"Command Argument Error. 11")
    ok(replies[1])
    assert outlook.appended_to("Gmail") == [MAIL]


@pytest.mark.parametrize("literal_plus", [True, False], ids=["LITERAL+", "synchronising"])
def test_64_appends_in_flight_with_one_refused(outlook: FakeOutlook, connect: Connect, literal_plus: bool) -> None:
    if not literal_plus:
        outlook.free_literal = None
    mails = [b"Subject: %d\r\n\r\n" % n + b"x" * n * 100 for n in range(64)]
    outlook.misbehave(on("APPEND", raw=lambda raw: raw == mails[31]), Answer("NO poison"))
    client = connect(outlook.port, signed_in=True)
    replies = [append(client, mail) for mail in mails]
    assert [number for number, reply in enumerate(replies) if reply.result(WAIT).status != "OK"] == [31]
    assert outlook.appended_to("Gmail") == mails[:31] + mails[32:]


def test_64_appends_in_flight_cost_one_round_trip(outlook: FakeOutlook, connect: Connect) -> None:
    client = connect(outlook.port, signed_in=True)
    before = outlook.round_trips
    outlook.misbehave(on("APPEND"), Delay(0.5))  # the server is busy with the first until the last has been sent
    replies = [append(client, MAIL) for _ in range(64)]
    assert {reply.result(WAIT).status for reply in replies} == {"OK"}
    assert outlook.round_trips - before <= 3  # not 64; how many exactly is up to both machines' speed


def test_16_fetches_in_flight_each_get_their_own(gmail: FakeGmail, connect: Connect) -> None:
    mails = [os.urandom(n * 5000) for n in range(1, 17)]
    for mail in mails:
        gmail.deliver(mail)
    gmail.misbehave(on("UID FETCH", uid=9), Answer("NO Some messages could not be FETCHed (Failure)"))
    client = connect(gmail.port, signed_in=True)
    client.submit(b"EXAMINE INBOX")
    found: list[list[list[bytes]]] = [[] for _ in mails]

    def only(uid: int) -> Callable[[Parts], bool]:
        def take(parts: Parts) -> bool:
            return b"(UID %d " % uid in parts[0] and taking(found[uid - 1])(parts)

        return take

    replies = [client.submit(b"UID FETCH %d (UID BODY.PEEK[])" % uid, sink=only(uid)) for uid in range(1, 17)]
    assert [uid for uid, reply in enumerate(replies, 1) if reply.result(WAIT).status != "OK"] == [9]
    assert [rows[0][1] if rows else b"" for rows in found] == [*mails[:8], b"", *mails[9:]]


def test_no_body_is_kept_when_nobody_wants_it_any_more(
    gmail: FakeGmail, outlook: FakeOutlook, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    gmail.deliver(BIG)
    outlook.misbehave(on("APPEND"), Answer("NO not kept here either"))
    source, destination = connect(gmail.port, signed_in=True), connect(outlook.port, signed_in=True)
    ok(source.submit(b"EXAMINE INBOX"))
    gc.disable()
    tracemalloc.start()
    try:
        found: list[Parts] = []
        fetching = source.submit(
            b"UID FETCH 1 (UID BODY.PEEK[])", sink=_keeping(found), literal_limit=1 << 25, answer_limit=1 << 25
        )
        ok(fetching)
        append(destination, found[0][1]).result(WAIT)
        del fetching
        found.clear()
        ok(destination.submit(b"NOOP"))  # the fake, too, has let go of it then
        assert _within(WAIT, lambda: tracemalloc.get_traced_memory()[0] < len(BIG) // 4)
    finally:
        tracemalloc.stop()
        gc.enable()


def _keeping(found: list[Parts]) -> Callable[[Parts], bool]:
    def take(parts: Parts) -> bool:
        found.append(parts)
        return True

    return take


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# May it still be sent?


def test_what_is_not_permitted_is_not_sent_and_the_rest_goes_on(outlook: FakeOutlook, connect: Connect) -> None:
    client = connect(outlook.port, signed_in=True)
    replies = [append(client, MAIL), append(client, b"late", lambda: False), append(client, MAIL)]
    assert isinstance(outcome(replies[1]), NotPermitted)
    ok(replies[0])
    ok(replies[2])
    assert outlook.appended_to("Gmail") == [MAIL, MAIL]
    assert outlook.verbs().count("APPEND") == 2


def test_the_permission_is_asked_for_when_the_turn_comes(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.free_literal = None
    outlook.misbehave(on("APPEND"), Stall(before_literal=True))
    client = connect(outlook.port, signed_in=True)
    held, asked = threading.Event(), threading.Event()

    def permit() -> bool:
        asked.set()
        return not held.is_set()

    first, second = append(client, MAIL), append(client, MAIL, permit)
    assert not asked.is_set()  # the first one still waits for "+"
    held.set()
    while not first.done():
        outlook.release()  # once it stalls
    ok(first)
    assert isinstance(outcome(second), NotPermitted)


@pytest.mark.parametrize("pieces", [2, 5])
def test_a_permission_that_ends_inside_a_literal_leaves_it_incomplete(
    outlook: FakeOutlook, connect: Connect, pieces: int
) -> None:
    """A runner that froze in the middle of a large message, and woke up when its lease was another's."""
    asked = itertools.count()
    client = connect(outlook.port, signed_in=True)
    ended = lost(append(client, b"x" * (8 << 20), lambda: next(asked) < pieces))
    assert (ended.begun, ended.reason) == (True, "the lease ran out while the message was being sent")
    assert outlook.appended_to("Gmail") == []


def test_a_permission_that_ends_while_the_literal_waits_ends_the_connection(
    outlook: FakeOutlook, connect: Connect
) -> None:
    outlook.free_literal = None
    answers = [True, False]
    client = connect(outlook.port, signed_in=True)
    assert not lost(append(client, MAIL, lambda: answers.pop(0))).begun
    assert outlook.appended == []


# Connections that end.


@pytest.mark.parametrize(
    ("literal_plus", "action", "begun", "stored"),
    [
        pytest.param(False, Close(before_literal=True), False, 0, id="before the go-ahead"),
        pytest.param(False, Bye("bye", before_literal=True), False, 0, id="BYE instead of the go-ahead"),
        pytest.param(False, CloseInLiteral(5), True, 0, id="in a literal that waited"),
        pytest.param(False, LoseReply(), True, 1, id="stored, and the answer is lost"),
        pytest.param(True, CloseInLiteral(5), True, 0, id="in a literal that did not wait"),
        pytest.param(True, LoseReply(reset=True), True, 1, id="stored, and reset"),
        pytest.param(True, Close(), True, 0, id="after the literal, not stored"),
        pytest.param(True, Bye("bye", executed=True), True, 1, id="stored, and BYE"),
    ],
)
def test_what_the_end_of_the_connection_says_about_an_append(
    outlook: FakeOutlook, connect: Connect, literal_plus: bool, action: Action, begun: bool, stored: int
) -> None:
    if not literal_plus:
        outlook.free_literal = None
    outlook.misbehave(on("APPEND"), action)
    client = connect(outlook.port, signed_in=True)
    ended = lost(append(client, MAIL * 100))
    assert (ended.begun, len(outlook.appended)) == (begun, stored)
    assert client.ended == ended.reason
    with pytest.raises(ConnectionLost) as after:
        append(client, MAIL)
    assert not after.value.begun


def test_those_behind_a_waiting_literal_have_not_begun_when_the_connection_ends(
    outlook: FakeOutlook, connect: Connect
) -> None:
    outlook.free_literal = None
    outlook.misbehave(on("APPEND", nth=3), LoseReply())
    client = connect(outlook.port, signed_in=True)
    replies = [append(client, MAIL) for _ in range(6)]
    assert [ok(reply).status for reply in replies[:2]] == ["OK", "OK"]
    begun = [lost(reply).begun for reply in replies[2:]]
    assert begun[0]
    assert begun[2:] == [False, False]
    assert len(outlook.appended) == 3


@pytest.mark.parametrize("way", list(Direction), ids=lambda way: way.value)
@pytest.mark.parametrize("octets", [0, 40, 5000, 60_000])
def test_wherever_the_line_is_cut_what_has_not_begun_is_not_stored(
    outlook: FakeOutlook, connect: Connect, way: Direction, octets: int
) -> None:
    with Relay(outlook.port) as relay:
        client = connect(relay.port, signed_in=True)
        relay.cut(octets, way)
        mails = [b"Subject: %d\r\n\r\n" % n + b"x" * 10_000 for n in range(10)]
        try:
            replies = [append(client, mail) for mail in mails]
        except ConnectionLost:
            return
        ended = [outcome(reply) for reply in replies]
    stored = outlook.appended_to("Gmail")
    for mail, one in zip(mails, ended, strict=True):
        if isinstance(one, Reply):
            assert mail in stored
        elif isinstance(one, ConnectionLost) and not one.begun:
            assert mail not in stored
    assert any(isinstance(one, ConnectionLost) for one in ended) or (way is Direction.TO_CLIENT and octets > 1000)


def test_no_answer_to_what_was_sent_ends_in_the_time_out(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.misbehave(on("APPEND"), Stall(executed=True))
    client = connect(outlook.port, timeout=NO_WAITING, signed_in=True)
    started = time.monotonic()
    ended = lost(append(client, MAIL))
    assert (ended.begun, ended.reason) == (True, "no answer within 0.3 s")
    assert time.monotonic() - started < 3
    assert len(outlook.appended) == 1


def test_no_go_ahead_ends_in_the_time_out_and_nothing_was_sent(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.free_literal = None
    outlook.misbehave(on("APPEND"), Stall(before_literal=True))
    client = connect(outlook.port, timeout=NO_WAITING, signed_in=True)
    assert [lost(reply).begun for reply in (append(client, MAIL), append(client, MAIL))] == [False, False]


def test_a_server_that_stops_reading_ends_in_the_time_out(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.misbehave(on("NOOP"), Stall())
    client = connect(outlook.port, timeout=NO_WAITING, signed_in=True)
    client.submit(b"NOOP")
    assert lost(append(client, BIG)).begun


def test_an_answer_that_comes_slowly_is_waited_for_as_long_as_it_moves(gmail: FakeGmail, connect: Connect) -> None:
    raw = os.urandom(10 << 16)
    gmail.deliver(raw)
    client = connect(gmail.port, timeout=0.5, signed_in=True)
    client.submit(b"EXAMINE INBOX")
    gmail.misbehave(on("UID FETCH"), Trickle(octets=1 << 16, pause=0.1))  # in all it takes twice the time-out
    found: list[list[bytes]] = []
    ok(client.submit(b"UID FETCH 1 (UID BODY.PEEK[])", sink=taking(found)))
    assert found[0][1] == raw


def test_the_words_of_a_bye_are_the_reason(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.misbehave(on("NOOP"), Bye("Session expired, please login again"))
    client = connect(outlook.port, signed_in=True)
    assert lost(client.submit(b"NOOP")).reason == "BYE Session expired, please login again"


def test_a_tagless_line_ends_the_connection_with_its_words(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.misbehave(on("APPEND"), Raw(b"Server Unavailable. 15\r\n"))
    client = connect(outlook.port, signed_in=True)
    ended = lost(append(client, MAIL))
    assert ended.begun
    assert ended.reason.endswith("an answer without a question: Server Unavailable. 15")


# Hostile servers.


@pytest.fixture
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach the limits of megabytes with kilobytes."""
    monkeypatch.setattr(imap_client, "MAX_UNSOLICITED", 100_000)
    monkeypatch.setattr(imap_client, "PROGRESS", 1 << 10)
    monkeypatch.setattr(imap_responses, "MAX_LINE", 100_000)


HOSTILE = [
    pytest.param(Raw(b"x" * 1000, FOREVER), "an endless line", id="an endless line"),
    pytest.param(Raw(b"* 1 EXISTS\r\n" * 100, FOREVER), "nobody asked for", id="endless untagged data"),
    pytest.param(Raw(b"\r\n" * 500, FOREVER), "nobody asked for", id="endless empty lines"),
    pytest.param(Raw(b"+ more\r\n" * 100, FOREVER), "nobody asked for", id="endless continuation requests"),
    pytest.param(Raw(b"* 1 FETCH (UID 1 X {0}\r\n" + b" {0}\r\n" * 2000), "an endless response", id="endless parts"),
    pytest.param(Raw(b"* 1 FETCH (UID 1 BODY[] {4294967295}\r\n"), "a literal larger", id="a huge literal"),
    pytest.param(Raw(b"* 1 FETCH (UID 1 BODY[] {99999999999999}\r\n"), "no answer within", id="a number beyond all"),
    pytest.param(
        Raw(b"* 1 FETCH (UID 1 A {900000}\r\n" + b"x" * 900_000 + b" B {900000}\r\n"),
        "a literal larger",
        id="two literals, together too large",
    ),
    pytest.param(Raw(b"* 1 FETCH (UID 1 BODY[] {10}\r\n12345", close=True), "connection lost", id="ends in a literal"),
    pytest.param(Raw(b"* 1 FETCH (UID 1 BODY[] {10}\r\n12345"), "no answer within", id="stops in a literal"),
    pytest.param(Raw(b"* 1 FETCH (UID 1 X 1)\r\n" * 100, FOREVER), "an endless answer", id="an endless answer"),
    pytest.param(Raw(b"zz99 OK done\r\n"), "an answer without a question", id="a wrong tag"),
    pytest.param(Raw(b"<tag> MAYBE\r\n"), "a tagged answer that is none", id="a status that is none"),
    pytest.param(Raw(b"<tag>\r\n"), "a tagged answer that is none", id="a tag and nothing else"),
    pytest.param(Raw(b"<tag> OK done\r\n<tag> OK done\r\n"), None, id="answered twice"),
    pytest.param(Raw(bytes(range(128, 256)) + b"\r\n"), "an answer without a question", id="garbage"),
    pytest.param(Raw(b"*\r\n"), "an answer without a question", id="an asterisk"),
    pytest.param(Trickle(octets=1, pause=0.2), "no answer within", id="a slow drip"),
]


@pytest.mark.usefixtures("_small_limits")
@pytest.mark.parametrize(("action", "reason"), HOSTILE)
def test_a_lying_server_gets_a_named_end_in_bounded_time_and_memory(
    gmail: FakeGmail, connect: Connect, action: Action, reason: str | None
) -> None:
    gmail.deliver(MAIL)
    # Only who has to run into the time-out gets a short one: a busy machine takes its time over a flood.
    client = connect(gmail.port, timeout=NO_WAITING if reason == "no answer within" else WAIT / 2, signed_in=True)
    ok(client.submit(b"EXAMINE INBOX"))
    gmail.misbehave(on("UID FETCH"), action)

    def take(parts: Parts) -> bool:
        return parts[0].startswith(b"* 1 FETCH (UID 1 ")

    tracemalloc.start()
    try:
        fetching = client.submit(b"UID FETCH 1 (UID BODY.PEEK[])", sink=take, answer_limit=1 << 20)
        ended = outcome(fetching)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    if reason is None:
        assert isinstance(ended, Reply)
    else:
        assert isinstance(ended, ConnectionLost)
        assert reason in ended.reason


def test_answers_in_dribs_and_drabs_come_to_an_end(
    gmail: FakeGmail, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap_client, "SLOWEST", 3)
    gmail.deliver(MAIL)
    client = connect(gmail.port, timeout=NO_WAITING, signed_in=True)
    ok(client.submit(b"EXAMINE INBOX"))
    line = b"* 1 FETCH (UID 1 FLAGS ())\r\n"
    gmail.misbehave(on("UID FETCH"), Trickle(octets=len(line), pause=0.1))
    monkeypatch.setattr("tests.fakes.verbs.fetch_response", _endless)
    started = time.monotonic()
    ended = lost(client.submit(b"UID FETCH 1 (FLAGS)", sink=taking([])))
    assert ended.reason.startswith("no answer within")
    assert 0.8 < time.monotonic() - started < 5


def _endless(*_args: object) -> object:
    from tests.fakes.answers import Response

    return Response((b"\r\n* ".join([b"1 FETCH (UID 1 FLAGS ())"] * 500),), 1)


def test_a_literal_that_is_shorter_than_announced_is_waited_for_until_the_time_out(
    gmail: FakeGmail, connect: Connect
) -> None:
    gmail.deliver(MAIL)
    gmail.misbehave(on("UID FETCH"), ShortLiteral(20))
    client = connect(gmail.port, timeout=NO_WAITING, signed_in=True)
    client.submit(b"EXAMINE INBOX")
    found: list[list[bytes]] = []
    assert "no answer within" in lost(client.submit(b"UID FETCH 1 (UID BODY.PEEK[])", sink=taking(found))).reason


def test_a_sink_that_cannot_read_a_response_ends_the_connection(gmail: FakeGmail, connect: Connect) -> None:
    gmail.deliver(MAIL)
    client = connect(gmail.port, signed_in=True)
    client.submit(b"EXAMINE INBOX")

    def take(parts: Parts) -> bool:
        raise ValueError(bytes(parts[0]))

    ended = lost(client.submit(b"UID FETCH 1 (UID)", sink=take))
    assert ended.reason == "protocol broken: a response that does not parse"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_sink_leaves_nobody_waiting(gmail: FakeGmail, connect: Connect) -> None:
    gmail.deliver(MAIL)
    client = connect(gmail.port, signed_in=True)
    client.submit(b"EXAMINE INBOX")

    def take(parts: Parts) -> bool:
        raise LookupError

    assert lost(client.submit(b"UID FETCH 1 (UID)", sink=take)).reason == "closed"


@pytest.mark.parametrize("cut", [0, 1, 30, 60])
def test_an_answer_that_is_cut_settles_all(gmail: FakeGmail, connect: Connect, cut: int) -> None:
    gmail.deliver(MAIL)
    gmail.misbehave(on("UID FETCH"), CutAnswer(cut))
    client = connect(gmail.port, signed_in=True)
    ok(client.submit(b"EXAMINE INBOX"))
    asked = [client.submit(b"UID FETCH 1 (UID BODY.PEEK[])", sink=taking([])) for _ in range(3)]
    assert {lost(one).reason for one in asked} == {"connection lost"}


# Closing.


def test_closing_says_logout_and_may_be_done_twice(outlook: FakeOutlook, connect: Connect) -> None:
    client = connect(outlook.port, signed_in=True)
    client.close()
    client.close()
    assert client.ended == "closed"
    with pytest.raises(ConnectionLost):
        client.submit(b"NOOP")


def test_closing_settles_what_is_in_flight(outlook: FakeOutlook, connect: Connect) -> None:
    outlook.misbehave(on("APPEND"), Stall())
    client = connect(outlook.port, signed_in=True)
    pending = append(client, MAIL)
    client.close()
    assert pending.done()
    assert lost(pending).begun


@pytest.mark.parametrize("literal_plus", [True, False], ids=["LITERAL+", "synchronising"])
def test_closing_does_not_wait_for_a_server_that_stopped_reading(
    outlook: FakeOutlook, connect: Connect, literal_plus: bool
) -> None:
    if not literal_plus:
        outlook.free_literal = None
    with Relay(outlook.port) as relay:
        client = connect(relay.port, timeout=60, signed_in=True)
        relay.black_hole()
        pending = append(client, BIG)
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 5
        assert isinstance(outcome(pending), ConnectionLost)


def test_a_socket_that_was_shut_is_not_touched_again(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """Python's TLS socket goes on in the clear once it was shut: what would be sent then, everybody could read."""
    came: list[bytes] = []

    def talk(sock: ssl.SSLSocket) -> None:
        plain = socket.socket(fileno=sock.detach())
        with plain:
            plain.settimeout(10)
            came.append(plain.recv(100))

    server_tls.maximum_version = ssl.TLSVersion.TLSv1_2  # the server says nothing more after the handshake
    with scripted(server_tls, talk) as port:
        sock = TlsSocket(HOST, port, client_tls, 5.0, lambda octets: None)
        sock._sock.shutdown = lambda how: setattr(sock._sock, "_sslobj", None)  # type: ignore[method-assign]
        sock.shutdown()
        with pytest.raises(OSError, match="closed"):
            sock.send(b"secret")
        with pytest.raises(OSError, match="closed"):
            sock.receive(memoryview(bytearray(10)))
        sock.close()
    assert came == [b""]


def test_what_imaplib2_brings_along_sends_nothing(gmail: FakeGmail, connect: Connect) -> None:
    client = connect(gmail.port, signed_in=True)
    before = len(gmail.commands)
    for call in (client.send, client.read):
        with pytest.raises(VerbNotAllowed):
            call(b"x EXPUNGE\r\n")
    ok(client.submit(b"NOOP"))
    assert gmail.verbs()[before:] == ["NOOP"]


# Answers that cannot be true.


@pytest.mark.parametrize("octets", [10, 5_000_000], ids=["a literal that waits", "a literal that is on its way"])
def test_an_ok_to_what_was_not_sent_whole_is_not_believed(
    server_tls: ssl.SSLContext, connect: Connect, octets: int
) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"* OK [CAPABILITY IMAP4rev1] hello\r\n")
        tag = read_line(sock).split(b" ")[0]
        if octets > 10:
            sock.sendall(b"+ go on\r\n")
            sock.recv(1)
        sock.sendall(tag + b" OK [APPENDUID 1 1] done\r\n")
        time.sleep(NO_WAITING)

    with scripted(server_tls, talk) as port:
        error = lost(append(connect(port), b"x" * octets))
    assert error.reason == "protocol broken: an answer before its question"
    assert error.begun is (octets > 10)


@pytest.mark.parametrize("status", [b"OK", b"NO"])
def test_an_answer_to_a_command_that_still_waits_for_its_turn_is_not_believed(
    server_tls: ssl.SSLContext, connect: Connect, status: bytes
) -> None:
    queued = threading.Event()

    def talk(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"* OK [CAPABILITY IMAP4rev1] hello\r\n")
        read_line(sock)
        queued.wait(5)
        sock.sendall(tags[-1] + b" %s done\r\n" % status)
        time.sleep(NO_WAITING)

    tags: list[bytes] = []
    with scripted(server_tls, talk) as port:
        client = connect(port)
        waiting = [append(client, b"first"), append(client, b"second")]
        tags += client.tagged_commands
        queued.set()
        errors = [lost(one) for one in waiting]
    assert {error.reason for error in errors} == {"protocol broken: an answer before its question"}
    assert [error.begun for error in errors] == [False, False]


def test_a_line_in_very_many_pieces_costs_no_more_than_in_few() -> None:
    left = imap_responses.MAX_LINE + 1

    def receive(view: memoryview) -> int:
        nonlocal left
        left -= 64
        view[:64] = b"x" * 64
        return 64

    started = time.monotonic()
    with pytest.raises(imap_responses.ProtocolBroken, match="an endless line"):
        next(imap_responses.responses(receive, lambda: 0))
    assert left < 64
    assert time.monotonic() - started < 10  # copied anew with every piece: minutes
