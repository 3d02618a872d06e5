"""The fake Outlook.com is like Outlook.com: PROVIDERS sections 3, 4 and 5."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from tests.fakes.outlook import NOT_CONNECTED, FakeOutlook
from tests.fakes.raw_client import RawClient, xoauth2

pytest_plugins = ["tests.fakes.fixtures"]

MAIL = b"Message-ID: <1@example.com>\r\nSubject: hello\r\n\r\nBody\r\n"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_outlook_stores_the_octets_and_serves_others(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    raw = (
        b"To: you@example.org\r\nSubject: =?iso-8859-1?q?gr=FC=DFe?=\r\nMessage-ID: <1@example.com>\r\n"
        b'Content-Type: multipart/mixed; boundary="edge"\r\n\r\n--edge\r\n\r\nHi\r\n--edge--\r\n'
    )
    with RawClient(outlook.port, client_tls) as client:
        answer = client.sign_in().append(b"GMAIL", raw, b'(\\Seen) " 1-Mar-2026 13:00:00 +0100" ')
        client.command(b"EXAMINE gmail")
        served = client.command(b"UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")[0]
    assert answer == [b"OK [APPENDUID 15 1] APPEND completed."]
    (stored,) = outlook.appended
    assert (stored.mailbox, stored.raw, stored.internaldate, stored.flags) == ("Gmail", raw, NOON, ("\\Seen",))
    assert b'INTERNALDATE " 1-Mar-2026 12:00:00 +0000"' in served
    assert b"x-ms-exchange-imapappendstamp: " in served
    assert b"Message-ID: <1@example.com>\r\n" in served
    assert b"To: <outlook_" in served
    assert b"edge" not in served
    assert b"RFC822.SIZE %d " % len(raw) not in served


@pytest.mark.parametrize("announced", [b"{0}", b"{0+}"])
def test_outlook_takes_no_empty_literal(outlook: FakeOutlook, client_tls: ssl.SSLContext, announced: bytes) -> None:
    with RawClient(outlook.port, client_tls) as client:
        client.sign_in()
        tag = client.begin(b"APPEND Gmail " + announced)
        client.send(b"\r\n" if b"+" in announced else b"")
        assert client.line() == tag + b" BAD Command Argument Error. 11"
    assert outlook.appended == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b"APPEND nowhere {1+}\r\nx", b"NO [TRYCREATE] Folder is not found."),
        (b'APPEND Gmail "yesterday" {1+}\r\nx', b"BAD Command Argument Error. 11"),
        (b"APPEND Gmail (\\Recent) {1+}\r\nx", b"BAD Command Argument Error. 11"),
        (b"APPEND Gmail {1+}\r\nx {1+}\r\ny", b"BAD Command Argument Error. 12"),
        (b"CREATE gMAIL", b"NO Mailbox already exists"),
        (b"CREATE Files", b"NO Folder name is reserved"),
        (b"CREATE a//b", b"NO Folder name is invalid."),
        (b"CREATE R&D", b"BAD Command Argument Error. 12"),
        (b"LOGIN me secret", b"NO Basic authentication is disabled."),
    ],
)
def test_outlook_refuses_in_its_own_words(
    outlook: FakeOutlook, client_tls: ssl.SSLContext, text: bytes, answer: bytes
) -> None:
    with RawClient(outlook.port, client_tls) as client:
        assert client.sign_in().command(text)[-1] == answer
    assert outlook.appended == []


def test_outlook_knows_no_keywords_and_stores_all_the_same(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    with RawClient(outlook.port, client_tls) as client:
        answer = client.sign_in().append(b"Gmail", MAIL, b"(\\Seen Work) ")
    assert answer[0] == b"* NO Keywords are not supported!"
    assert answer[1].startswith(b"OK [APPENDUID ")
    assert outlook.mailbox("gmail").messages[0].flags == ("\\Seen",)


def test_outlook_without_uidplus_and_without_search(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    outlook.append_uid, outlook.search_blind = False, True
    with RawClient(outlook.port, client_tls) as client:
        assert client.sign_in().append(b"Gmail", MAIL) == [b"OK APPEND completed."]
        client.command(b"EXAMINE Gmail")
        assert client.command(b"UID SEARCH ALL")[0] == b"* SEARCH"
    assert [one.verb for one in outlook.violations] == ["UID SEARCH"]


def test_outlook_without_literal_plus(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    outlook.free_literal = None
    with RawClient(outlook.port, client_tls) as client:
        assert b"LITERAL+" not in client.sign_in().command(b"CAPABILITY")[0]
        tag = client.begin(b"APPEND Gmail {%d}" % len(MAIL))
        assert client.line() == b"+ Ready for additional command text."
        client.send(MAIL, b"\r\n")
        assert client.line().startswith(tag + b" OK [APPENDUID ")
        client.send(b"x APPEND Gmail {1+}\r\nx\r\n")
        assert client.rest().startswith(b"x BAD ")


@pytest.mark.parametrize("plus", [b"", b"+"])
def test_a_message_above_the_limit_is_refused_by_its_announcement(
    outlook: FakeOutlook, client_tls: ssl.SSLContext, plus: bytes
) -> None:
    outlook.append_limit = len(MAIL) - 1
    with RawClient(outlook.port, client_tls) as client:
        tag = client.sign_in().begin(b"APPEND Gmail {%d%s}" % (len(MAIL), plus))
        client.send((MAIL + b"\r\n") * len(plus))
        assert client.line() == tag + b" NO Maximum size of appendable message has been exceeded"
        assert client.command(b"NOOP")[-1].startswith(b"OK ")


def test_a_refused_token_at_outlook(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    with RawClient(outlook.port, client_tls) as client:
        assert client.command(b"AUTHENTICATE XOAUTH2 " + xoauth2("stale")) == [b"NO AUTHENTICATE failed."]
        outlook.challenge_text = '{"status":"401"}'
        tag = client.begin(b"AUTHENTICATE XOAUTH2 " + xoauth2("stale"))
        assert client.line().startswith(b"+ ")
        client.send(b"\r\n")
        assert client.line() == tag + b" NO AUTHENTICATE failed."


def test_the_owner_may_move_a_copy_and_delete_the_folder(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    with RawClient(outlook.port, client_tls) as client:
        client.sign_in().append(b"Gmail", MAIL)
        outlook.move_away("Gmail", 1)
        assert client.command(b"STATUS Gmail (MESSAGES UIDNEXT)")[0] == b'* STATUS "Gmail" (MESSAGES 0 UIDNEXT 2)'
        old = outlook.mailboxes.delete("Gmail").uidvalidity
        assert client.append(b"Gmail", MAIL) == [b"NO [TRYCREATE] Folder is not found."]
        client.command(b"CREATE Gmail")
        assert outlook.mailbox("Gmail").uidvalidity > old
    assert [one.raw for one in outlook.mailbox("INBOX").messages] == [MAIL]


def test_folders_are_made_level_by_level_and_listed(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    with RawClient(outlook.port, client_tls) as client:
        client.sign_in().command(b'CREATE "Mail/Gr&APYA3w-e"')
        client.command(b'SUBSCRIBE "Mail/Gr&APYA3w-e"')
        listed = client.command(b'LIST "" "mail*"')
    assert listed[:-1] == [b'* LIST (\\HasChildren) "/" "Mail"', b'* LIST (\\HasNoChildren) "/" "Mail/Gr&APYA3w-e"']
    assert outlook.mailboxes.subscribed == ["Mail/Größe"]


def test_authenticated_but_not_connected_ends_with_the_third(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    outlook.lose_backend(sign_ins=1)
    with RawClient(outlook.port, client_tls) as client:
        client.sign_in()
        assert client.command(b"NOOP")[-1].startswith(b"OK ")
        assert client.command(b'LIST "" "*"') == [NOT_CONNECTED.encode()]
        assert client.append(b"Gmail", MAIL) == [NOT_CONNECTED.encode()]
        tag = client.begin(b"STATUS Gmail (UIDNEXT)")
        assert client.rest() == tag + b" " + NOT_CONNECTED.encode() + b"\r\n* BYE Connection closed. 14\r\n"
    with RawClient(outlook.port, client_tls) as client:
        assert client.sign_in().command(b"STATUS Gmail (UIDNEXT)")[-1].startswith(b"OK ")


def test_outlook_closes_on_a_client_that_collects_errors(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    with RawClient(outlook.port, client_tls) as client:
        client.sign_in()
        for _ in range(9):
            assert client.command(b"FROB")[-1].startswith(b"BAD ")
        client.begin(b"FROB")
        assert client.rest().endswith(b"* BYE Connection closed. 14\r\n")


def test_a_message_without_its_last_line_end_is_waited_for(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    with RawClient(outlook.port, client_tls) as client:
        client.sign_in().send(b"x APPEND Gmail {5+}\r\nHello")
        assert client.silent_for(0.2)
    assert outlook.appended == []


def test_a_thousand_pipelined_appends_and_fetches(outlook: FakeOutlook, client_tls: ssl.SSLContext) -> None:
    with RawClient(outlook.port, client_tls) as client:
        client.sign_in()
        client.send(*(b"a%d APPEND Gmail {%d+}\r\n%s\r\n" % (n, len(MAIL), MAIL) for n in range(1000)))
        assert len(client.until(b"a999")) == 1000
        client.command(b"EXAMINE Gmail")
        client.send(*(b"f%d UID FETCH %d (UID BODY.PEEK[])\r\n" % (n, n + 1) for n in range(1000)))
        assert len(client.until(b"f999")) == 2000
    assert len(outlook.appended) == 1000
