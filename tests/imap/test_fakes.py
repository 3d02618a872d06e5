"""The contract of both fakes: one script, two servers, and the shapes that RFC 3501 and RFC 2177 ask for."""

from __future__ import annotations

import imaplib
import random
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.fakes.gmail import FakeGmail
from tests.fakes.imap_server import ImapServer
from tests.fakes.names import decode, encode
from tests.fakes.raw_client import GOOD, USER, RawClient, check_token, xoauth2

MAIL = b"Message-ID: <1@example.com>\r\nSubject: hello\r\n\r\nBody\r\n"
Dial = Callable[[int], RawClient]

pytest_plugins = ["tests.fakes.fixtures"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["gmail", "outlook"])
def either(request: pytest.FixtureRequest) -> ImapServer:
    server = request.getfixturevalue(request.param)
    assert isinstance(server, ImapServer)
    return server


def signed_in(server: ImapServer, tls: ssl.SSLContext) -> imaplib.IMAP4_SSL:
    client = imaplib.IMAP4_SSL("localhost", server.port, ssl_context=tls, timeout=10)
    client.authenticate("XOAUTH2", lambda challenge: f"user={USER}\x01auth=Bearer {GOOD}\x01\x01".encode())
    return client


def test_an_imaplib_session_works_on_both(either: ImapServer, client_tls: ssl.SSLContext) -> None:
    for uid in (1, 2, 3):
        either.mailbox("INBOX").add(MAIL + b"%d\r\n" % uid, NOON)
    with signed_in(either, client_tls) as client:
        assert client.select("INBOX", readonly=True) == ("OK", [b"3"])
        assert client.response("UIDVALIDITY")[1] == [b"%d" % either.mailbox("INBOX").uidvalidity]
        assert client.response("UIDNEXT")[1] == [b"4"]
        assert client.uid("SEARCH", "UID", "2:3") == ("OK", [b"2 3"])
        assert client.uid("SEARCH", "ALL") == ("OK", [b"1 2 3"])
        kind, data = client.uid("FETCH", "2", "(UID RFC822.SIZE INTERNALDATE FLAGS)")
        assert kind == "OK"
        assert data[0].startswith(b"2 (UID 2 RFC822.SIZE ")
        assert imaplib.Internaldate2tuple(data[0]) == time.localtime(NOON.timestamp())
        kind, data = client.uid("FETCH", "3", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE)])")
        assert data[0][1] == b"Message-ID: <1@example.com>\r\n\r\n"
        assert client.noop()[0] == "OK"
        assert client.status("INBOX", "(UIDNEXT MESSAGES)") == ("OK", [b'"INBOX" (UIDNEXT 4 MESSAGES 3)'])
    assert either.malformed == []


@pytest.mark.parametrize(
    "text", [b"FROB", b"UID", b"UID STORE 1 FLAGS ()", b"NOOP ", b"NOOP  x", b'EXAMINE "a', b"EXAMINE"]
)
def test_what_is_unknown_or_malformed_gets_bad_and_is_recorded(
    either: ImapServer, client_tls: ssl.SSLContext, text: bytes
) -> None:
    with RawClient(either.port, client_tls) as client:
        client.sign_in()
        client.send(b"X ", text, b"\r\n")
        assert b"BAD " in client.line()
        assert client.command(b"NOOP")[-1].startswith(b"OK ")
    assert len(either.malformed) == 1


@pytest.mark.parametrize("text", [b"EXAMINE INBOX", b"UID FETCH 1 (UID)", b"IDLE"])
def test_a_command_before_its_time_gets_bad(either: ImapServer, client_tls: ssl.SSLContext, text: bytes) -> None:
    with RawClient(either.port, client_tls) as client:
        assert client.command(text)[-1].startswith(b"BAD ")


def test_pipelined_commands_are_answered_in_order(either: ImapServer, client_tls: ssl.SSLContext) -> None:
    either.mailbox("INBOX").add(MAIL)
    with RawClient(either.port, client_tls) as client:
        client.sign_in()
        client.send(b"a NOOP\r\nb EXAMINE INBOX\r\nc UID FETCH 1 (UID)\r\nd NOOP\r\n")
        tags = [line[:1] for line in client.until(b"d") if not line.startswith(b"*")]
    assert tags == [b"a", b"b", b"c", b"d"]


def test_a_round_trip_is_counted_once_for_a_batch(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    with FakeGmail(check_token, server_tls, settle=0.05) as gmail, RawClient(gmail.port, client_tls) as client:
        client.sign_in()
        for _ in range(50):
            client.send(b"x NOOP\r\n")
        client.send(b"y NOOP\r\n")
        client.until(b"y")
        client.command(b"NOOP")
        assert gmail.round_trips == 3  # signing in, the batch, the last one


def test_sign_in_works_in_one_step_and_in_two(either: ImapServer, client_tls: ssl.SSLContext) -> None:
    with RawClient(either.port, client_tls) as client:
        assert client.command(b"AUTHENTICATE XOAUTH2 " + xoauth2())[-1].startswith(b"OK ")
    with RawClient(either.port, client_tls) as client:
        tag = client.begin(b"AUTHENTICATE XOAUTH2")
        assert client.line() == b"+ "
        client.send(xoauth2(), b"\r\n")
        assert client.until(tag)[-1].startswith(tag + b" OK ")
    assert {one.line for one in either.commands} <= {"AUTHENTICATE XOAUTH2 <secret>", "AUTHENTICATE XOAUTH2"}


def test_idle_announces_what_arrives(either: ImapServer, client_tls: ssl.SSLContext) -> None:
    with RawClient(either.port, client_tls) as client:
        client.sign_in().command(b"EXAMINE INBOX")
        tag = client.begin(b"IDLE")
        assert client.line().startswith(b"+ ")
        uid = either.mailbox("INBOX").add(MAIL).uid
        assert client.line() == b"* 1 EXISTS"
        either.mailbox("INBOX").remove(uid)
        assert client.line() == b"* 1 EXPUNGE"
        client.send(b"DONE\r\n")
        assert client.until(tag)[-1].startswith(tag + b" OK ")
    assert either.verbs()[-2:] == ["IDLE", "DONE"]


def test_a_certificate_that_is_not_trusted_is_a_failed_handshake(gmail: FakeGmail) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL("localhost", gmail.port, ssl_context=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        RawClient(gmail.port, ssl.create_default_context())
    deadline = time.monotonic() + 10
    while len(gmail.handshake_failures) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(gmail.handshake_failures) == 2


@pytest.mark.parametrize(
    ("name", "wire"),
    [("Größe", b"Gr&APYA3w-e"), ("R&D", b"R&-D"), ("受信", b"&U9dP4Q-"), ("a/b c", b"a/b c"), ("&é", b"&-&AOk-")],
)
def test_mailbox_names_travel_in_modified_utf_7(name: str, wire: bytes) -> None:
    assert encode(name) == wire
    assert decode(wire) == name


@pytest.mark.parametrize("wire", [b"R&D", b"&AGE-", b"Gr\xf6\xdfe", b"&APYA3w", b"&APYA-&3w-", b"&AP=-"])
def test_what_is_no_modified_utf_7_is_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match=r"ASCII|UTF-7|codec"):
        decode(wire)


WORDS = [
    *(
        b"UID",
        b"FETCH",
        b"SEARCH",
        b"STATUS",
        b"LIST",
        b"APPEND",
        b"EXAMINE",
        b"CREATE",
        b"AUTHENTICATE",
        b"ID",
        b"IDLE",
    ),
    *(b"1:*", b"0", b"99999999999", b"(UID)", b"BODY.PEEK[]", b"BODY[<1.2>", b"BODY.PEEK[HEADER.FIELDS (A)]", b"SINCE"),
    *(b"99-Foo-2026", b"HEADER", b"INBOX", b'""', b'"', b"(", b")", b"[", b"*", b"%", b"&A", b"=", b"XOAUTH2", b"NIL"),
    *(b"\xff", b"\x00", b"{3+}\r\nabc", b"{0+}\r\n", b"(MESSAGES)", b"X-GM-MSGID", b"BODY.PEEK[]<1.2>", b"-1", b"\\"),
]


@pytest.mark.parametrize("seed", range(10))
def test_nonsense_is_answered_and_never_kills_the_server(either: ImapServer, dial: Dial, seed: int) -> None:
    chance = random.Random(seed)
    either.mailbox("INBOX").add(MAIL)
    client = dial(either.port).sign_in()
    client.command(b"EXAMINE INBOX")
    for _ in range(9):  # the tenth error ends a connection to Outlook.com
        client.send(b"x ", b" ".join(chance.choices(WORDS, k=chance.randint(1, 6))), b"\r\nDONE\r\n")
    client.begin(b"LOGOUT")
    assert client.rest()
    assert dial(either.port).sign_in().command(b"NOOP")[-1].startswith(b"OK ")
