"""The allow-list below the client: what could change Gmail, or do to Outlook.com what no copy needs, never leaves."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Iterator

import imaplib2
import pytest

from syncer.demo.certificates import Certificates
from syncer.errors import VerbNotAllowed
from syncer.imap_allow_list import check_allowed
from syncer.imap_client import ImapClient
from syncer.imap_session import ImapSession
from syncer.model import Side
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.raw_client import GOOD, USER
from tests.imap.doors import dialect, endpoint, never

pytest_plugins = ["tests.fakes.fixtures"]

BOTH = [
    b"CAPABILITY",
    b"ID NIL",
    b"AUTHENTICATE XOAUTH2",
    b"AUTHENTICATE XOAUTH2 dXNlcj0=",
    b'EXAMINE "INBOX"',
    b'STATUS "Gmail" (UIDVALIDITY UIDNEXT)',
    b"UID FETCH 5:7,9 (UID X-GM-MSGID RFC822.SIZE INTERNALDATE)",
    b"UID FETCH 5 (UID BODY.PEEK[])",
    b"UID FETCH 5:4294967295 (UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE FROM SUBJECT)])",
    b"NOOP",
    b"LOGOUT",
]
SOURCE_ONLY = [b"UID SEARCH SINCE 1-Jan-2026", b"IDLE", b"DONE"]
DESTINATION_ONLY = [
    b'LIST "" "*"',
    b'CREATE "Gmail"',
    b'SUBSCRIBE "Gmail"',
    b'APPEND "Gmail" () "17-Jul-2026 02:44:25 +0200"',
]
NEITHER = [
    b"SELECT INBOX",
    b"STORE 1 +FLAGS (\\Seen)",
    b"UID STORE 1 +FLAGS (\\Deleted)",
    b"EXPUNGE",
    b"UID EXPUNGE 1",
    b"COPY 1 Trash",
    b"UID COPY 1 Trash",
    b"UID MOVE 1 Trash",
    b"MOVE 1 Trash",
    b"DELETE Gmail",
    b"RENAME a b",
    b"UNSUBSCRIBE a",
    b"CLOSE",
    b"UNSELECT",
    b"CHECK",
    b"LOGIN me secret",
    b"AUTHENTICATE PLAIN",
    b"STARTTLS",
    b"ENABLE UTF8=ACCEPT",
    b"COMPRESS DEFLATE",
    b"SETQUOTA a (STORAGE 1)",
    b"SETACL a b c",
    b"SEARCH ALL",
    b"FETCH 1 (UID BODY.PEEK[])",
    b"UID FETCH 1 BODY.PEEK[]",
    b"UID FETCH 1 (UID BODY[])",
    b"UID FETCH 1 (UID body[])",
    b"UID FETCH 1 (BODY[HEADER])",
    b"UID FETCH 1 (UID RFC822)",
    b"UID FETCH 1 (UID RFC822.TEXT)",
    b"UID FETCH 1 (UID BODY.PEEK[] BODY[TEXT])",
    b"UID FETCH 1 (UID X-GM-LABELS)",
    b"UID FETCH 5:* (UID)",
    b"UID FETCH * (UID)",
    b"UID FETCH 1 ()",
    b"UID FETCH 1 (UID) BODY[]",
    b"NOOP\r\nx EXPUNGE",
    b"NOOP EXPUNGE",
    b" EXPUNGE",
    b"",
]


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("line", BOTH, ids=bytes.decode)
def test_both_sides_may_be_read(side: Side, line: bytes) -> None:
    check_allowed(side, line)
    check_allowed(side, line.lower())


@pytest.mark.parametrize("line", SOURCE_ONLY, ids=bytes.decode)
def test_only_the_source_may_be_searched_and_waited_at(line: bytes) -> None:
    check_allowed(Side.SOURCE, line)
    with pytest.raises(VerbNotAllowed, match="towards the destination"):
        check_allowed(Side.DESTINATION, line)


@pytest.mark.parametrize("line", DESTINATION_ONLY, ids=bytes.decode)
def test_only_the_destination_may_be_written_to(line: bytes) -> None:
    check_allowed(Side.DESTINATION, line)
    with pytest.raises(VerbNotAllowed, match="towards the source"):
        check_allowed(Side.SOURCE, line)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("line", NEITHER, ids=repr)
def test_nothing_else_may_be_sent(side: Side, line: bytes) -> None:
    with pytest.raises(VerbNotAllowed):
        check_allowed(side, line)


def test_the_error_names_the_verb_and_not_its_arguments() -> None:
    with pytest.raises(VerbNotAllowed) as barred:
        check_allowed(Side.SOURCE, b"LOGIN me opensesame")
    assert str(barred.value) == "LOGIN is not allowed towards the source"
    with pytest.raises(VerbNotAllowed, match="UID STORE is not"):
        check_allowed(Side.SOURCE, b"UID STORE 1 +FLAGS (\\Seen)")


@pytest.fixture(params=list(Side))
def side(request: pytest.FixtureRequest) -> Side:
    assert isinstance(request.param, Side)
    return request.param


@pytest.fixture
def server(side: Side, gmail: FakeGmail, outlook: FakeOutlook) -> FakeGmail | FakeOutlook:
    return gmail if side is Side.SOURCE else outlook


@pytest.fixture
def client(
    side: Side, server: FakeGmail | FakeOutlook, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ImapClient]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    session = ImapSession.connect(endpoint(server.port, side), dialect(side), USER, GOOD, pause=never)
    assert session.capabilities  # asked for in passing: nothing of the session's own is under way any more
    yield session._client
    session.close()


def test_a_session_asks_the_list_before_an_octet_is_sent(client: ImapClient, server: FakeGmail | FakeOutlook) -> None:
    before = len(server.commands)
    for line in NEITHER:
        with pytest.raises(VerbNotAllowed):
            client.submit(line, literal=b"body")
    client.submit(b"NOOP").result(10)
    assert server.verbs()[before:] == ["NOOP"]
    assert server.violations == []


INHERITED = sorted(
    name
    for name, _ in inspect.getmembers(imaplib2.IMAP4_SSL, inspect.isfunction)
    if not name.startswith("_") and name not in {"open", "open_socket", "ssl_wrap_socket", "close", "shutdown"}
)


@pytest.mark.parametrize("name", INHERITED)
def test_what_imaplib2_brings_along_sends_nothing(
    client: ImapClient, server: FakeGmail | FakeOutlook, name: str
) -> None:
    """Every public method of the library, STORE and EXPUNGE among them, called with as many arguments as it wants."""
    before = len(server.commands)
    method = getattr(client, name)
    wanted = [
        parameter
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    try:
        result = method(*["1"] * len(wanted))
    except (VerbNotAllowed, imaplib2.IMAP4.error, ValueError):
        pass
    else:
        assert name in {"logout", "pop_untagged_responses", "response", "socket", "ssl", "start_compressing"}, result
    if name != "logout":  # it ends the connection, in its own way
        client.submit(b"NOOP").result(10)
    assert server.verbs()[before:] == ["NOOP"] * (name != "logout")


def test_the_librarys_upper_case_names_send_nothing_either(client: ImapClient, server: FakeGmail | FakeOutlook) -> None:
    before = len(server.commands)
    for name, arguments in (("STORE", ("1", "+FLAGS", "(\\Seen)")), ("EXPUNGE", ()), ("UID", ("EXPUNGE", "1"))):
        with pytest.raises(VerbNotAllowed):
            getattr(client, name)(*arguments)
    client.submit(b"NOOP").result(10)
    assert server.verbs()[before:] == ["NOOP"]


def test_a_context_that_verifies_is_the_only_one(server_tls: ssl.SSLContext, gmail: FakeGmail) -> None:
    with pytest.raises(ValueError, match="verification must stay on"):
        ImapClient("localhost", gmail.port, guard=lambda line: None, context=server_tls, connect_timeout=1, timeout=1)
