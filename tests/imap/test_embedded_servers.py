"""The embedded servers do what the demo and the tests rely on, as seen by imaplib, which shares no code with us."""

from __future__ import annotations

import base64
import imaplib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from syncer.demo.authority import Authority
from syncer.demo.aws import EmbeddedAws
from syncer.demo.certificates import Certificates
from syncer.demo.imap_server import EmbeddedImap, Face, OnResponse
from syncer.demo.samples import newcomers, samples
from syncer.model import Side

USER = "someone@example.org"
TOKEN = "ya29.secret-token"
AT = datetime(2026, 11, 5, 9, 15, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
MAIL = b"From: a@example.org\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nText.\r\n"
ODD = {
    "no octet": b"",
    "one octet": b"x",
    "a line end": b"\r\n",
    "a header without its empty line": b"Subject: cut\r\n",
    "a header without a line end": b"Subject: cut",
    "a header of LF lines without its empty line": b"A: b\nSubject: cut\n",
    "a header and its empty line": b"Subject: only\r\n\r\n",
    "an empty line first": b"\r\nbody",
    "a line of white space in the header": b"A: b\r\n \t\r\nSubject: after\r\n\r\nbody",
    "LF lines": b"Subject: lf\n\nbody\n",
    "CR lines": b"Subject: cr\rFrom: a\r\rbody\r",
    "NUL": b"Subject: nul\r\n\r\na\0b",
    "eight bits in the header": b"Subject: gr\xfc\xdf\r\n\r\nbody",
    "an mbox line first": b"From a@b Thu Nov  5 09:15:30 2026\r\nSubject: mbox\r\n\r\nbody\r\n",
    "no colon": b"this is no header\r\n\r\nbody",
    "a content type that cannot be parsed": b"Content-Type: multipart/;;=\xff; boundary\r\n\r\nbody",
    "a boundary that is never met": b'Content-Type: multipart/mixed; boundary="x"\r\n\r\nbody',
    "a line of 20,000 octets": b"Subject: long\r\n\r\n" + b"y" * 20_000,
}

Start = Callable[..., EmbeddedImap]
Connect = Callable[[EmbeddedImap], AbstractContextManager[imaplib.IMAP4_SSL]]
SignedIn = Callable[..., AbstractContextManager[imaplib.IMAP4_SSL]]


@pytest.fixture
def start(certificates: Certificates) -> Iterator[Start]:
    """Start servers that let USER in with TOKEN; stop them afterwards, and see that they had no fault."""
    servers: list[EmbeddedImap] = []

    def start(face: Face = Face.OUTLOOK, **options: Any) -> EmbeddedImap:
        server = EmbeddedImap(
            face, certificates.server, certificates.key, lambda u, t: (u, t) == (USER, TOKEN), **options
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
        assert server.failures == []


@pytest.fixture
def connect(certificates: Certificates) -> Connect:
    """Connect without signing in; the connection ends with its ``with``."""
    context = ssl.create_default_context(cafile=str(certificates.ca))

    @contextmanager
    def connect(server: EmbeddedImap) -> Iterator[imaplib.IMAP4_SSL]:
        client = imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context, timeout=30)
        # imaplib sends a literal and its line end in two writes, and would wait 40 ms in between.
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            yield client
        finally:
            with suppress(OSError):  # a test may have closed it
                client.shutdown()

    return connect


@pytest.fixture
def signed_in(connect: Connect) -> SignedIn:
    """Connect, sign in, and EXAMINE a mailbox (None: do not)."""

    @contextmanager
    def signed_in(server: EmbeddedImap, mailbox: str | None = "INBOX") -> Iterator[imaplib.IMAP4_SSL]:
        with connect(server) as client:
            client.authenticate("XOAUTH2", lambda _challenge: xoauth2())
            if mailbox is not None:
                assert client.select(mailbox, readonly=True)[0] == "OK"
            yield client

    return signed_in


def xoauth2(user: str = USER, token: str = TOKEN) -> bytes:
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()


def fetch(client: imaplib.IMAP4, uid: int, items: str) -> tuple[str, bytes]:
    """Return what a FETCH answers around its one literal, and the literal."""
    kind, data = client.uid("FETCH", str(uid), items)
    assert kind == "OK", data
    at = next(number for number, part in enumerate(data) if isinstance(part, tuple))
    return (data[at][0] + b" " + data[at + 1]).decode(), data[at][1]


def append(client: imaplib.IMAP4, raw: bytes, mailbox: str = "INBOX", arguments: str = "") -> tuple[str, bytes]:
    """Append octets as they are: imaplib's own append would rewrite their line ends."""
    client.literal = raw  # type: ignore[assignment]  # octets, whatever typeshed says
    kind, data = client._simple_command("APPEND", mailbox, *([arguments] if arguments else []))
    return kind, data[0]


def talk(client: imaplib.IMAP4, octets: bytes) -> bytes:
    """Send octets and return the next line."""
    client.send(octets)
    return client.readline()


def overhear(seen: list[bytes], change: OnResponse = lambda response: response) -> OnResponse:
    """Return a hook that notes down each response."""

    def hook(response: bytes) -> bytes | None:
        seen.append(response)
        return change(response)

    return hook


# -- signing in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("face", Face)
def test_the_capabilities_are_those_of_the_provider_before_and_after_signing_in(
    start: Start, connect: Connect, face: Face
) -> None:
    with connect(start(face)) as client:
        before = set(client.capabilities)
        client.authenticate("XOAUTH2", lambda _challenge: xoauth2())
        after = set(client.capability()[1][-1].decode().split())
    assert {"SASL-IR", "AUTH=XOAUTH2", "IDLE", "ID"} <= before
    assert {"UIDPLUS", "IDLE", "ID"} <= after
    assert ("X-GM-EXT-1" in before, "X-GM-EXT-1" in after) == ((True, True) if face is Face.GMAIL else (False, False))
    assert ("LITERAL+" in after, "LITERAL-" in after) == ((False, True) if face is Face.GMAIL else (True, False))
    assert not {"STARTTLS", "AUTH=PLAIN"} & before


@pytest.mark.parametrize("face", Face)
def test_a_token_is_taken_with_the_command_or_after_it(start: Start, connect: Connect, face: Face) -> None:
    server = start(face)
    initial = base64.b64encode(xoauth2()).decode()
    with connect(server) as client:
        assert client._simple_command("AUTHENTICATE", "XOAUTH2", initial)[0] == "OK"
    with connect(server) as client:
        assert client.authenticate("XOAUTH2", lambda _challenge: xoauth2())[0] == "OK"


@pytest.mark.parametrize(("user", "token"), [(USER, "expired"), ("else@example.org", TOKEN), ("", ""), (USER, "")])
@pytest.mark.parametrize("face", Face)
def test_a_refusal_is_in_the_words_of_the_provider(
    start: Start, connect: Connect, face: Face, user: str, token: str
) -> None:
    heard: list[bytes] = []

    def answer(challenge: bytes) -> bytes:
        heard.append(challenge)
        return b"" if challenge else xoauth2(user, token)

    with connect(start(face)) as client:
        with pytest.raises(imaplib.IMAP4.error) as refused:
            client.authenticate("XOAUTH2", answer)
        assert client.noop()[0] == "OK"  # the connection goes on
    if face is Face.GMAIL:
        assert b'"status": "400"' in heard[1]
        assert "[AUTHENTICATIONFAILED] Invalid credentials" in str(refused.value)
    else:
        assert heard == [b""]
        assert "AUTHENTICATE failed." in str(refused.value)


@pytest.mark.parametrize("response", ["not base64!", "AAAA", base64.b64encode(b"user=\xff\x01\x01").decode(), "="])
def test_a_sign_in_that_makes_no_sense_is_refused(start: Start, connect: Connect, response: str) -> None:
    with connect(start()) as client:
        assert talk(client, f"a1 AUTHENTICATE XOAUTH2 {response}\r\n".encode()).split()[1] in (b"NO", b"BAD")


def test_a_sign_in_can_be_given_up(start: Start, connect: Connect) -> None:
    with connect(start()) as client:
        assert talk(client, b"a1 AUTHENTICATE XOAUTH2\r\n").startswith(b"+ ")
        assert talk(client, b"*\r\n").split()[1] in (b"NO", b"BAD")


def test_passwords_and_other_mechanisms_are_refused(start: Start, connect: Connect) -> None:
    with connect(start()) as client:
        with pytest.raises(imaplib.IMAP4.error, match="Basic authentication is disabled"):
            client.login(USER, TOKEN)
        assert talk(client, b"a1 AUTHENTICATE PLAIN\r\n").startswith(b"a1 NO ")


def test_the_authority_decides_about_tokens(certificates: Certificates, connect: Connect) -> None:
    with Authority(certificates) as authority:
        account = authority.add_account(Side.SOURCE, USER)
        token = authority.issue_access_token(account)
        with EmbeddedImap(Face.GMAIL, certificates.server, certificates.key, authority.check) as server:
            with connect(server) as client:
                assert client.authenticate("XOAUTH2", lambda _challenge: xoauth2(token=token))[0] == "OK"
            authority.expire_access_tokens()
            with connect(server) as client, pytest.raises(imaplib.IMAP4.error):
                client.authenticate("XOAUTH2", lambda challenge: b"" if challenge else xoauth2(token=token))


def test_a_client_that_does_not_trust_the_certificate_is_not_served(start: Start) -> None:
    server = start()
    with pytest.raises(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL(server.host, server.port, ssl_context=ssl.create_default_context(), timeout=30)
    assert server.connections == 0


# -- octets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_odd_mail_comes_back_octet_for_octet(start: Start, signed_in: SignedIn, face: Face, raw: bytes) -> None:
    server = start(face)
    uids = [server.deliver(USER, raw, AT)]
    with signed_in(server) as client:
        if raw:
            assert append(client, raw)[0] == "OK"
            uids.append(uids[0] + 1)
        for uid in uids:
            answer, octets = fetch(client, uid, "(UID RFC822.SIZE BODY.PEEK[])")
            assert octets == raw
            assert f"RFC822.SIZE {len(raw)} " in answer
            assert f"UID {uid} " in answer
            head = fetch(client, uid, "(BODY.PEEK[HEADER])")[1]
            assert head + fetch(client, uid, "(BODY.PEEK[TEXT])")[1] == raw
    assert [message.raw for message in server.messages(USER)] == [raw] * len(uids)


def test_an_empty_append_is_refused_as_the_providers_do(start: Start, signed_in: SignedIn) -> None:
    server = start()
    with signed_in(server) as client:
        assert append(client, b"")[0] == "NO"
    assert server.messages(USER) == []


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        pytest.param(MAIL, b"Subject: hello\r\nMessage-ID: <1@example.org>\r\n\r\n", id="in good order"),
        pytest.param(b"From: a\r\nSubject: cut", b"Subject: cut\r\n\r\n", id="the header's last line, cut"),
        pytest.param(b"From: a\r\nSubject: cut\r\n", b"Subject: cut\r\n\r\n", id="no empty line"),
        pytest.param(b"subject : a\r\n b\r\n\r\nx", b"subject : a\r\n b\r\n\r\n", id="folded, with white space"),
        pytest.param(b"A: b\r\n \r\nSubject: s\r\n\r\nx", b"Subject: s\r\n\r\n", id="white space ends no header"),
        pytest.param(b"Subject: a\nFrom: b\n\nMessage-ID: body\n", b"Subject: a\n\r\n", id="LF lines"),
        pytest.param(b"\r\nSubject: body\r\n", b"\r\n", id="no header"),
        pytest.param(b"nonsense\r\n Subject: x\r\n\r\n", b"\r\n", id="the continuation of nonsense"),
    ],
)
def test_header_fields_are_served_as_they_are(start: Start, signed_in: SignedIn, raw: bytes, fields: bytes) -> None:
    server = start()
    uid = server.deliver(USER, raw, AT)
    with signed_in(server) as client:
        assert fetch(client, uid, "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID SUBJECT)])")[1] == fields


@pytest.mark.corpus
def test_the_whole_corpus_comes_back_octet_for_octet(start: Start, signed_in: SignedIn, corpus: list[Path]) -> None:
    server = start()
    mails = [path.read_bytes() for path in corpus]
    first = server.deliver(USER, mails[0], AT)
    for raw in mails[1:]:
        server.deliver(USER, raw, AT)
    with signed_in(server) as client:
        assert append(client, mails[0])[0] == "OK"
        for raw in mails[1:]:
            append(client, raw)
        for number, (path, raw) in enumerate(zip(corpus * 2, mails * 2, strict=True)):
            answer, octets = fetch(client, first + number, "(UID RFC822.SIZE INTERNALDATE BODY.PEEK[])")
            assert octets == raw, path.name
            assert f"RFC822.SIZE {len(raw)} " in answer
            fields = fetch(client, first + number, "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE FROM SUBJECT)])")[1]
            assert fields.endswith(b"\r\n"), path.name
        kind, data = client.uid("SEARCH", "SINCE", "05-Nov-2026")
        assert (kind, len(data[0].split())) == ("OK", 2 * len(mails))


def test_samples_are_stored_octet_for_octet(start: Start, signed_in: SignedIn) -> None:
    server = start()
    mails = samples(AT) + newcomers(AT)
    with signed_in(server) as client:
        for sample in mails:
            assert append(client, sample.raw)[0] == "OK"
    assert [message.raw for message in server.messages(USER)] == [sample.raw for sample in mails]


def test_a_message_of_41_megabytes_is_stored_and_served(start: Start, signed_in: SignedIn) -> None:
    server = start()
    raw = b"Subject: big\r\n\r\n" + bytes(range(256)) * (41 * 4096)
    with signed_in(server) as client:
        assert append(client, raw)[0] == "OK"
        assert fetch(client, server.messages(USER)[0].uid, "(BODY.PEEK[])")[1] == raw


def test_a_message_above_the_limit_is_refused_before_it_is_sent(start: Start, signed_in: SignedIn) -> None:
    with signed_in(start(max_message_bytes=1000)) as client:
        answer = talk(client, b"a1 APPEND INBOX {1001}\r\n")
        assert answer.startswith(b"a1 BAD")


def test_literals_that_come_unasked_are_taken_as_the_face_says(start: Start, signed_in: SignedIn) -> None:
    raw = b"Subject: unasked\r\n\r\n" + b"z" * 5000
    command = b"a1 APPEND INBOX {%d+}\r\n%b\r\n"
    outlook, gmail = start(Face.OUTLOOK), start(Face.GMAIL)
    with signed_in(outlook) as client:
        assert talk(client, command % (len(raw), raw)).startswith((b"a1 OK [APPENDUID", b"* "))
    assert outlook.messages(USER)[0].raw == raw
    with signed_in(gmail) as client:
        assert talk(client, command % (len(raw), raw)).startswith(b"* BYE [TOOBIG]")
    with signed_in(gmail) as client:
        assert talk(client, command % (len(MAIL), MAIL)).startswith((b"a1 OK [APPENDUID", b"* "))
    assert [message.raw for message in gmail.messages(USER)] == [MAIL]


# -- times, numbers, flags -----------------------------------------------------------------------


def test_internaldate_is_kept_with_its_zone(start: Start, signed_in: SignedIn) -> None:
    server = start()
    uid = server.deliver(USER, MAIL, AT)
    with signed_in(server) as client:
        append(client, MAIL, arguments='" 5-Nov-2026 23:59:59 -0800"')
        assert '"05-Nov-2026 09:15:30 +0530"' in str(client.uid("FETCH", str(uid), "(INTERNALDATE)"))
        assert '"05-Nov-2026 23:59:59 -0800"' in str(client.uid("FETCH", str(uid + 1), "(INTERNALDATE)"))
    assert [message.internaldate for message in server.messages(USER)] == [
        "05-Nov-2026 09:15:30 +0530",
        "05-Nov-2026 23:59:59 -0800",
    ]


def test_a_time_without_a_zone_is_not_accepted(start: Start) -> None:
    with pytest.raises(ValueError, match="time zone"):
        start().deliver(USER, MAIL, datetime(2026, 11, 5))  # noqa: DTZ001 - what must not be given


def test_search_since_goes_by_the_day_of_arrival(start: Start, signed_in: SignedIn) -> None:
    server = start()
    uids = [server.deliver(USER, ODD["no colon"], AT + timedelta(days=day)) for day in range(4)]
    with signed_in(server) as client:
        assert client.uid("SEARCH", "SINCE", "07-Nov-2026") == ("OK", [f"{uids[2]} {uids[3]}".encode()])
        assert client.uid("SEARCH", f"UID {uids[3]}:*", "SINCE", "1-Jan-2026") == ("OK", [str(uids[3]).encode()])


def test_the_gmail_number_follows_the_message_and_not_its_octets(start: Start, signed_in: SignedIn) -> None:
    server = start(Face.GMAIL)
    first, twin = server.deliver(USER, MAIL, AT), server.deliver(USER, MAIL, AT)
    number, other = (message.gmail_msgid for message in server.messages(USER))
    assert number != other
    assert 2**53 < number < 2**64
    assert float(number) == float(other)  # so that whoever keeps it as a float is found out

    assert server.archive(USER, first) == number
    assert [message.uid for message in server.messages(USER)] == [twin]
    back = server.restore(USER, number)
    assert back > twin
    with signed_in(server) as client:
        kind, data = client.uid("FETCH", f"{back}", "(UID X-GM-MSGID INTERNALDATE)")
        assert (kind, re.findall(rb"X-GM-MSGID (\d+)", data[0])) == ("OK", [str(number).encode()])
        assert b"05-Nov-2026 09:15:30 +0530" in data[0]
        assert client.uid("FETCH", f"{twin}", "X-GM-MSGID")[1] == [f"1 (X-GM-MSGID {other} UID {twin})".encode()]
        assert client.uid("SEARCH", "X-GM-MSGID", str(number)) == ("OK", [str(back).encode()])
        assert client.uid("SEARCH", "X-GM-MSGID", "1") == ("OK", [b""])
        assert client.uid("SEARCH", "ALL") == ("OK", [f"{twin} {back}".encode()])
        assert fetch(client, back, "(x-gm-msgid BODY.PEEK[])")[1] == MAIL


def test_the_gmail_number_survives_a_copy_within_gmail(start: Start, signed_in: SignedIn) -> None:
    server = start(Face.GMAIL)
    uid = server.deliver(USER, MAIL, AT)
    server.create_mailbox(USER, "Kept")
    with signed_in(server, None) as client:
        client.select("INBOX")
        assert client.uid("COPY", str(uid), "Kept")[0] == "OK"
        assert client.uid("MOVE", str(uid), "Kept")[0] == "OK"
    assert len({message.gmail_msgid for message in server.messages(USER, "Kept")}) == 1
    assert [message.raw for message in server.messages(USER, "Kept")] == [MAIL, MAIL]
    assert server.messages(USER) == []


def test_outlook_knows_no_gmail_extension(start: Start, signed_in: SignedIn) -> None:
    server = start(Face.OUTLOOK)
    server.deliver(USER, MAIL, AT)
    with signed_in(server) as client:
        for command in (("FETCH", "1:*", "(X-GM-MSGID)"), ("SEARCH", "X-GM-MSGID", "1")):
            with pytest.raises(imaplib.IMAP4.error):
                client.uid(*command)


def test_ranges_of_uids_mean_what_the_rfc_says(start: Start, signed_in: SignedIn) -> None:
    server = start(Face.GMAIL)
    uids = [server.deliver(USER, MAIL, AT) for _ in range(3)]
    with signed_in(server) as client:
        listed = client.uid("FETCH", f"{uids[1]}:4294967295", "(UID X-GM-MSGID RFC822.SIZE INTERNALDATE)")[1]
        assert [int(re.findall(rb"UID (\d+)", line)[0]) for line in listed] == uids[1:]
        assert client.uid("FETCH", f"{uids[2] + 1}:4294967295", "(UID)") == ("OK", [None])
        assert client.uid("FETCH", f"{uids[2] + 9}:*", "(UID)")[1] == [f"3 (UID {uids[2]})".encode()]


def test_reading_leaves_no_trace_and_flags_are_stored(start: Start, signed_in: SignedIn) -> None:
    server = start()
    uid = server.deliver(USER, MAIL, AT)
    with signed_in(server) as client:
        fetch(client, uid, "(BODY[])")  # EXAMINE: even this
        append(client, MAIL, arguments=r"(\Seen)")
    assert [message.flags for message in server.messages(USER)] == [frozenset(), frozenset({"\\Seen"})]


def test_a_uid_that_is_gone_is_left_out(start: Start, signed_in: SignedIn) -> None:
    server = start()
    uids = [server.deliver(USER, MAIL, AT) for _ in range(2)]
    with signed_in(server) as client:
        server.remove(USER, "INBOX", uids[0])
        kind, data = client.uid("FETCH", f"{uids[0]}:{uids[1]}", "(UID BODY.PEEK[])")
        assert kind == "OK"
        assert [part[1] for part in data if isinstance(part, tuple)] == [MAIL]
    with pytest.raises(KeyError):
        server.remove(USER, "INBOX", uids[0])


# -- mailboxes -----------------------------------------------------------------------------------


def test_mailboxes_are_made_subscribed_and_listed_under_any_name(start: Start, signed_in: SignedIn) -> None:
    server = start()
    name, wire = "Post/Füße & Co", '"Post/F&APwA3w-e &- Co"'
    with signed_in(server, None) as client:
        assert append(client, MAIL, wire)[0] == "NO"
        assert b"TRYCREATE" in append(client, MAIL, wire)[1]
        assert client.create(wire)[0] == "OK"
        assert client.create(wire)[0] == "NO"
        assert client.subscribe(wire)[0] == "OK"
        assert wire in str(client.list()[1])
        kind, answer = append(client, MAIL, wire)
        assert kind == "OK"
        stored = server.messages(USER, name)[0]
        validity, uid = re.findall(rb"\[APPENDUID (\d+) (\d+)\]", answer)[0]
        assert int(uid) == stored.uid
        assert f"UIDVALIDITY {int(validity)}" in str(client.status(wire, "(UIDNEXT UIDVALIDITY)"))
    assert server.mailboxes(USER) == ["INBOX", name]
    assert server.subscribed(USER) == ["INBOX", name]


def test_a_mailbox_made_anew_has_a_higher_uidvalidity(start: Start, signed_in: SignedIn) -> None:
    server = start()
    validities = []
    for _ in range(2):
        server.deliver(USER, MAIL, AT, "Gmail")
        with signed_in(server, "Gmail") as client:
            validities.append(int(client.response("UIDVALIDITY")[1][0]))
        server.delete_mailbox(USER, "Gmail")
    assert validities[0] < validities[1]
    with pytest.raises(KeyError):
        server.messages(USER, "Gmail")


def test_uidvalidity_can_be_changed_and_the_numbers_stay(start: Start, signed_in: SignedIn) -> None:
    server = start(Face.GMAIL)
    server.deliver(USER, MAIL, AT)
    before = server.messages(USER)
    server.set_uidvalidity(USER, "INBOX", 4_294_967_295)
    with signed_in(server) as client:
        assert client.response("UIDVALIDITY")[1] == [b"4294967295"]
    assert server.messages(USER) == before


def test_users_do_not_see_each_other_and_case_does_not_matter(start: Start) -> None:
    server = start()
    server.deliver(USER.upper(), MAIL, AT)
    assert len(server.messages(USER)) == 1
    assert server.messages("else@example.org") == []


# -- what a test can see and do ------------------------------------------------------------------


def test_the_transcript_has_every_verb_and_no_secret(start: Start, connect: Connect, signed_in: SignedIn) -> None:
    server = start(Face.GMAIL)
    uid = server.deliver(USER, MAIL, AT)
    assert (server.connections, server.transcript) == (0, [])
    with signed_in(server) as client:
        fetch(client, uid, "(BODY.PEEK[])")
        append(client, MAIL)
        client.logout()
    with connect(server) as client:
        client._simple_command("AUTHENTICATE", "XOAUTH2", base64.b64encode(xoauth2()).decode())
        talk(client, f"x1 LOGIN {USER} {TOKEN}\r\n".encode())
        talk(client, b"x2 NONSENSE\r\n")
    assert server.connections == 2
    assert [verb for verb in server.transcript[0] if verb != "CAPABILITY"] == [
        *("AUTHENTICATE", "EXAMINE", "UID FETCH", "APPEND", "LOGOUT")
    ]
    assert server.transcript[1][-3:] == ["AUTHENTICATE", "LOGIN", "NONSENSE"]
    assert f"UID FETCH {uid} (BODY.PEEK[])" in server.command_lines[0]
    everything = repr((server.transcript, server.command_lines))
    assert TOKEN not in everything
    assert base64.b64encode(xoauth2()).decode() not in everything


def test_idle_wakes_when_mail_arrives(start: Start, signed_in: SignedIn) -> None:
    server = start(Face.GMAIL)
    with signed_in(server) as client:
        assert talk(client, b"a1 IDLE\r\n").startswith(b"+ ")
        for count in (1, 2):
            server.deliver(USER, MAIL, AT)
            while (line := client.readline()) != b"* %d EXISTS\r\n" % count:
                assert line.startswith(b"* ")
        client.send(b"DONE\r\n")
        while not (line := client.readline()).startswith(b"a1 "):
            assert line.startswith(b"* ")
        assert line.startswith(b"a1 OK")


def test_a_response_can_be_changed_dropped_or_replaced_by_silence(start: Start, signed_in: SignedIn) -> None:
    server = start()
    with signed_in(server, None) as client:
        server.on_response = lambda response: response.replace(b" OK ", b" NO ")
        assert client.noop()[0] == "NO"
        seen: list[bytes] = []
        server.on_response = overhear(seen, lambda response: b"" if b"APPENDUID" in response else response)
        client.send(b"a1 APPEND INBOX {%d+}\r\n%b\r\na2 NOOP\r\n" % (len(MAIL), MAIL))
        assert client.readline().startswith(b"a2 OK")  # the copy is there, and nobody was told
        assert len(server.messages(USER)) == 1
        assert [line for line in seen if b"APPENDUID" in line]
        server.on_response = lambda response: None
        assert talk(client, b"a3 NOOP\r\n") == b""
    server.on_response = None
    with signed_in(server) as client:
        assert client.noop()[0] == "OK"


def test_the_hook_sees_each_message_of_a_fetch_whole(start: Start, signed_in: SignedIn) -> None:
    server = start()
    for _ in range(3):
        server.deliver(USER, MAIL, AT)
    seen: list[bytes] = []
    with signed_in(server) as client:
        server.on_response = overhear(seen)
        client.uid("FETCH", "1:*", "(BODY.PEEK[])")
    assert [MAIL in response for response in seen] == [True, True, True, False]


def test_a_hook_that_calls_its_own_server_is_told_so_instead_of_waiting_for_ever(
    start: Start, signed_in: SignedIn
) -> None:
    server = start()
    told: list[str] = []

    def hook(response: bytes) -> bytes:
        try:
            server.messages(USER)
        except RuntimeError as error:
            told.append(str(error))
        return response

    with signed_in(server) as client:
        server.on_response = hook
        client.noop()
    assert told == ["a hook must not call the server it runs in"]


# -- life ----------------------------------------------------------------------------------------


def test_both_faces_live_side_by_side(start: Start, signed_in: SignedIn) -> None:
    gmail, outlook = start(Face.GMAIL), start(Face.OUTLOOK)
    gmail.deliver(USER, MAIL, AT)
    with signed_in(gmail) as source, signed_in(outlook) as destination:
        assert source.select("INBOX", readonly=True) == ("OK", [b"1"])
        assert destination.select("INBOX", readonly=True) == ("OK", [b"0"])
        assert b"X-GM-MSGID" in source.uid("FETCH", "1:*", "(X-GM-MSGID)")[1][0]


def test_a_server_leaves_nothing_behind_whatever_its_clients_do(
    certificates: Certificates, start: Start, signed_in: SignedIn
) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        server = start()
        server.deliver(USER, b"Subject: big\r\n\r\n" + b"x" * 8_000_000, AT)
        with signed_in(server) as idle, signed_in(server) as deaf, signed_in(server):
            idle.send(b"a1 IDLE\r\n")
            assert idle.readline().startswith(b"+ ")
            deaf.send(b"a1 UID FETCH 1:* (BODY.PEEK[])\r\n")  # and never reads the answer
            with closing(socket.create_connection(("127.0.0.1", server.port))):  # no TLS handshake, ever
                began = time.monotonic()
                server.stop()
                assert time.monotonic() - began < 10
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
        with pytest.raises(RuntimeError, match="not running"):
            server.messages(USER)
        server.stop()  # once more does no harm
    assert set(threading.enumerate()) <= before


def test_a_server_is_started_once(start: Start) -> None:
    server = start()
    with pytest.raises(RuntimeError, match="started once"):
        server.start()


def test_a_wrong_key_is_found_before_anything_is_started(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("nothing")
    with pytest.raises(ssl.SSLError):
        EmbeddedImap(Face.GMAIL, certificates.server, tmp_path / "key.pem", lambda _user, _token: True)


# -- AWS -----------------------------------------------------------------------------------------


def client_of(aws: EmbeddedAws, service: str) -> Any:
    settings = aws.environment()
    return boto3.client(
        service,
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name=settings["AWS_REGION"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )


def make_table(client: Any) -> None:
    client.create_table(
        TableName="state",
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def test_the_embedded_aws_serves_both_services_and_counts(capfd: pytest.CaptureFixture[str]) -> None:
    with EmbeddedAws() as aws:
        with closing(client_of(aws, "dynamodb")) as dynamodb, closing(client_of(aws, "secretsmanager")) as secrets:
            make_table(dynamodb)
            item = {"PK": {"S": "a"}}
            dynamodb.put_item(TableName="state", Item=item, ConditionExpression="attribute_not_exists(PK)")
            with pytest.raises(ClientError, match="ConditionalCheckFailed"):
                dynamodb.put_item(TableName="state", Item=item, ConditionExpression="attribute_not_exists(PK)")
            secrets.create_secret(Name="tokens", SecretString="{}")
            assert secrets.get_secret_value(SecretId="tokens")["SecretString"] == "{}"
        assert aws.requests == {"CreateTable": 1, "PutItem": 2, "CreateSecret": 1, "GetSecretValue": 1}
    assert capfd.readouterr() == ("", "")


def test_two_embedded_aws_share_nothing_and_the_next_one_is_empty() -> None:
    with EmbeddedAws() as one, EmbeddedAws() as other:
        with closing(client_of(one, "dynamodb")) as client:
            make_table(client)
        with closing(client_of(other, "dynamodb")) as client:
            assert client.list_tables()["TableNames"] == []
    with EmbeddedAws() as third, closing(client_of(third, "dynamodb")) as client:
        assert client.list_tables()["TableNames"] == []


def test_one_of_many_at_once_gets_what_only_one_may_have() -> None:
    won: list[str] = []
    with EmbeddedAws() as aws, closing(client_of(aws, "dynamodb")) as client:
        make_table(client)

        def claim(name: str) -> None:
            try:
                item = {"PK": {"S": "lease"}, "owner": {"S": name}}
                client.put_item(TableName="state", Item=item, ConditionExpression="attribute_not_exists(PK)")
            except client.exceptions.ConditionalCheckFailedException:
                return
            won.append(name)

        threads = [threading.Thread(target=claim, args=(str(number),)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(won) == 1


def test_the_embedded_aws_leaves_no_thread_behind_even_with_a_client_connected() -> None:
    before = set(threading.enumerate())
    aws = EmbeddedAws()
    aws.start()
    with closing(client_of(aws, "dynamodb")) as client:
        client.list_tables()
        aws.stop()
        assert set(threading.enumerate()) <= before
    aws.stop()
    with pytest.raises(RuntimeError, match="started once"):
        aws.start()
