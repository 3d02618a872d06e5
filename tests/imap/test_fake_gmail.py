"""The fake Gmail is like Gmail: PROVIDERS sections 1 and 3."""

from __future__ import annotations

import json
import ssl
from base64 import b64decode
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.fakes.gmail import FIRST_MSGID, FakeGmail
from tests.fakes.raw_client import RawClient, check_token, xoauth2

pytest_plugins = ["tests.fakes.fixtures"]

MAIL = b"Message-ID: <1@example.com>\r\nSubject: hello\r\n\r\nBody\r\n"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_gmail_tells_more_after_sign_in_than_before(gmail: FakeGmail, client_tls: ssl.SSLContext) -> None:
    with RawClient(gmail.port, client_tls) as client:
        assert client.greeting.startswith(b"* OK Gimap ready for requests from ")
        before = client.command(b"CAPABILITY")[0]
        lines = client.command(b"AUTHENTICATE XOAUTH2 " + xoauth2())
    assert b"SASL-IR AUTH=XOAUTH2" in before
    assert b"UIDPLUS" not in before
    assert b"LITERAL- " in lines[0]
    assert lines[0].startswith(b"* CAPABILITY IMAP4rev1 ")


def test_gmail_wants_an_answer_to_its_challenge(gmail: FakeGmail, client_tls: ssl.SSLContext) -> None:
    with RawClient(gmail.port, client_tls) as client:
        tag = client.begin(b"AUTHENTICATE XOAUTH2 " + xoauth2("stale"))
        challenge = client.line()
        assert json.loads(b64decode(challenge.removeprefix(b"+ ")))["status"] == "400"
        client.send(b"\r\n")
        assert client.line() == tag + b" NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)"
    with RawClient(gmail.port, client_tls) as client:
        client.begin(b"AUTHENTICATE XOAUTH2 " + xoauth2("stale"))
        client.line()
        assert client.silent_for(0.2)


def test_gmail_examines_without_unseen_and_serves_a_msgid(gmail: FakeGmail, client_tls: ssl.SSLContext) -> None:
    gmail.deliver(MAIL, NOON)
    with RawClient(gmail.port, client_tls) as client:
        opened = client.sign_in().command(b"EXAMINE INBOX")
        fetched = client.command(b"UID FETCH 1 (UID X-GM-MSGID RFC822.SIZE INTERNALDATE BODY.PEEK[])")
        found = client.command(b"UID SEARCH X-GM-MSGID %d" % FIRST_MSGID)
    assert not [line for line in opened if b"UNSEEN" in line]
    assert opened[-1] == b"OK [READ-ONLY] INBOX selected. (Success)"
    assert fetched[0] == (
        b'* 1 FETCH (UID 1 X-GM-MSGID %d RFC822.SIZE %d INTERNALDATE "01-Mar-2026 12:00:00 +0000" BODY[] {%d}\r\n%s)'
        % (FIRST_MSGID, len(MAIL), len(MAIL), MAIL)
    )
    assert found[0] == b"* SEARCH 1"
    assert gmail.violations == []


def test_a_range_to_the_star_always_holds_the_last_message(gmail: FakeGmail, client_tls: ssl.SSLContext) -> None:
    for _ in range(3):
        gmail.deliver(MAIL)
    with RawClient(gmail.port, client_tls) as client:
        client.sign_in().command(b"EXAMINE INBOX")
        assert client.command(b"UID FETCH 9:* (UID)")[:-1] == [b"* 3 FETCH (UID 3)"]
        assert client.command(b"UID SEARCH UID 9:*")[0] == b"* SEARCH 3"
        assert client.command(b"UID FETCH 9:4294967295 (UID)")[:-1] == []


def test_since_counts_days_in_the_zone_of_the_account(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    pacific = timezone(timedelta(hours=-8))
    with FakeGmail(check_token, server_tls, zone=pacific) as gmail, RawClient(gmail.port, client_tls) as client:
        gmail.deliver(MAIL, datetime(2026, 3, 2, 3, tzinfo=UTC))  # still the first of March there
        client.sign_in().command(b"EXAMINE INBOX")
        assert client.command(b"UID SEARCH SINCE 2-Mar-2026")[0] == b"* SEARCH"
        assert client.command(b"UID SEARCH SINCE 1-Mar-2026")[0] == b"* SEARCH 1"


def test_a_message_that_comes_back_has_its_msgid_and_a_new_uid(gmail: FakeGmail) -> None:
    first = gmail.deliver(MAIL)
    gmail.deliver(MAIL)
    msgid = gmail.archive(first)
    assert [one.uid for one in gmail.inbox.messages] == [2]
    assert gmail.restore(msgid) == gmail.uid_of(msgid) == 3


def test_a_new_uidvalidity_renumbers_and_ends_open_views(gmail: FakeGmail, client_tls: ssl.SSLContext) -> None:
    gmail.archive(gmail.deliver(MAIL))
    gmail.deliver(MAIL)
    with RawClient(gmail.port, client_tls) as client:
        client.sign_in().command(b"EXAMINE INBOX")
        gmail.set_uidvalidity(7)
        client.begin(b"UID FETCH 1:* (UID)")
        assert client.rest().startswith(b"* BYE ")
    with RawClient(gmail.port, client_tls) as client:
        assert b"* OK [UIDVALIDITY 7] UIDs valid." in client.sign_in().command(b"EXAMINE INBOX")
        assert client.command(b"UID FETCH 1:* (UID)")[0] == b"* 1 FETCH (UID 1)"


def test_a_selected_mailbox_is_stale_until_noop(gmail: FakeGmail, client_tls: ssl.SSLContext) -> None:
    gmail.deliver(MAIL)
    with RawClient(gmail.port, client_tls) as client:
        client.sign_in().command(b"EXAMINE INBOX")
        gmail.deliver(MAIL)
        assert client.command(b"UID SEARCH ALL")[0] == b"* SEARCH 1"
        assert client.command(b"NOOP")[0] == b"* 2 EXISTS"
        assert client.command(b"UID SEARCH ALL")[0] == b"* SEARCH 1 2"


def test_a_header_search_for_an_outlook_made_id_finds_nothing(gmail: FakeGmail, client_tls: ssl.SSLContext) -> None:
    gmail.deliver(b"Message-ID: <!&!AAA@example.com>\r\n\r\n")
    gmail.deliver(MAIL)
    with RawClient(gmail.port, client_tls) as client:
        client.sign_in().command(b"EXAMINE INBOX")
        assert client.command(b'UID SEARCH HEADER Message-ID "<!&!AAA@example.com>"')[0] == b"* SEARCH"
        assert client.command(b'UID SEARCH HEADER Message-ID "<1@example.com>"')[0] == b"* SEARCH 2"


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT INBOX",
        b"CREATE x",
        b"UID STORE 1 +FLAGS (\\Seen)",
        b"UID MOVE 1 x",
        b"EXPUNGE",
        b"UID FETCH 1 (BODY[])",
    ],
)
def test_whatever_could_change_gmail_is_a_violation(gmail: FakeGmail, client_tls: ssl.SSLContext, text: bytes) -> None:
    gmail.deliver(MAIL)
    with RawClient(gmail.port, client_tls) as client:
        client.sign_in().command(b"EXAMINE INBOX")
        client.command(text)
    assert [one.line for one in gmail.violations] == [text.decode()]
    assert gmail.inbox.messages[0].flags == ()


def test_gmail_takes_a_literal_that_does_not_wait_up_to_4096_octets(
    gmail: FakeGmail, client_tls: ssl.SSLContext
) -> None:
    with RawClient(gmail.port, client_tls) as client:
        assert client.sign_in().command(b"EXAMINE {5+}\r\nINBOX")[-1].startswith(b"OK ")
        client.send(b"x EXAMINE {4097+}\r\n", b"x" * 4097, b"\r\n")
        assert b"x BAD " in client.rest()
