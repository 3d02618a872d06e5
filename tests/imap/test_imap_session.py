"""A session verifies, signs in, keeps its token to itself, and names whatever goes wrong by what is to be done."""

from __future__ import annotations

import base64
import logging
import os
import socket
import ssl
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
import trustme

from syncer.demo.certificates import Certificates
from syncer.errors import (
    AuthError,
    MessageRefused,
    NotDelivered,
    NotPermitted,
    OutcomeUnknown,
    SignInRefused,
    SyncError,
    Throttled,
    Unavailable,
)
from syncer.imap_session import ImapSession, MailboxMissing
from syncer.model import Side
from syncer.uid_set import UidSet
from tests.fakes.faults import (
    ERROR_11,
    FOREVER,
    OVER_QUOTA,
    TAGLESS_UNAVAILABLE,
    TOO_MANY_CONNECTIONS,
    WEB_LOGIN,
    Action,
    Bye,
    Close,
    CloseInLiteral,
    LoseReply,
    Raw,
    Reply,
    Stall,
    Untagged,
    on,
    throttled,
)
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.raw_client import GOOD, USER
from tests.fakes.relay import Relay
from tests.imap.doors import MAIL, NO_WAITING, SignIn, dialect, endpoint, never, read_line, scripted

pytest_plugins = ["tests.fakes.fixtures", "tests.imap.door_fixtures"]

SOURCE, DESTINATION = Side.SOURCE, Side.DESTINATION
WHEN = "17-Jul-2026 02:44:25 +0200"
SECRET = "ya29.opensesame-opensesame-opensesame"


def connect(
    port: int, side: Side = SOURCE, *, token: str = GOOD, timeout: float = 5.0, host: str = "localhost"
) -> None:
    """Connect and sign in where that is to fail."""
    ImapSession.connect(
        endpoint(port, side, timeout, host=host), dialect(side), USER, token, pause=lambda seconds: None
    ).close()
    pytest.fail("it was let in")


def appended(session: ImapSession, raw: bytes = MAIL, permit: Callable[[], bool] = lambda: True) -> Future[bytes]:
    return session.append("Gmail", (), WHEN, raw, permit)


def nothing(parts: object) -> bool:
    return False


# TLS.


@pytest.mark.parametrize("side", list(Side))
def test_an_unknown_authority_is_not_trusted(gmail: FakeGmail, side: Side) -> None:
    with pytest.raises(Unavailable) as refused:
        connect(gmail.port, side)
    assert endpoint(0, side).host_setting in refused.value.reason
    assert "SSL_CERT_FILE" in refused.value.reason
    assert gmail.connections == 1  # another try would end the same way
    assert gmail.commands == []


def test_who_is_trusted_is_read_once_and_again_when_it_has_changed(
    gmail: FakeGmail, sign_in: SignIn, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    make, reads = ssl.create_default_context, []

    def read() -> ssl.SSLContext:
        reads.append(trusted.read_bytes())
        return make()

    monkeypatch.setattr(ssl, "create_default_context", read)
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            connect(gmail.port)
        assert "cannot be verified" in refused.value.reason
    assert len(reads) == 1
    trusted.write_bytes(certificates.ca.read_bytes())
    sign_in(gmail.port, SOURCE)
    assert reads[1:] == [certificates.ca.read_bytes()]


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_host_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("imap.example.com").configure_cert(context)
    with FakeGmail(lambda user, token: True, context) as server:
        with pytest.raises(Unavailable) as refused:
            connect(server.port)
        assert (server.connections, server.commands) == (1, [])
    for word in ("localhost", "GMAIL_IMAP_HOST", "SSL_CERT_FILE"):
        assert word in refused.value.reason


@pytest.mark.usefixtures("trusted")
def test_a_server_that_knows_only_old_tls_is_refused(server_tls: ssl.SSLContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server_tls.minimum_version = ssl.TLSVersion.TLSv1_1
        server_tls.maximum_version = ssl.TLSVersion.TLSv1_1
    server_tls.set_ciphers("ALL:@SECLEVEL=0")
    with FakeGmail(lambda user, token: True, server_tls) as server:
        with pytest.raises(Unavailable, match=r"no TLS connection to localhost.*check GMAIL_IMAP_HOST"):
            connect(server.port)
        assert (server.connections, server.commands) == (1, [])


@pytest.mark.usefixtures("trusted")
def test_a_server_without_tls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGmail(lambda user, token: True, None) as server:
        with pytest.raises(Unavailable, match="no TLS connection to localhost"):
            connect(server.port, timeout=NO_WAITING)
        assert server.verbs() == ["?"] * len(server.verbs())


def test_the_tls_version_in_use_is_at_least_1_2(
    sign_in: SignIn, server_tls: ssl.SSLContext, certificates: Certificates
) -> None:
    server_tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with FakeGmail(lambda user, token: True, server_tls) as server:
        assert sign_in(server.port, SOURCE).alive


# Connecting.


@pytest.mark.usefixtures("trusted")
def test_a_refused_connection_is_tried_three_times_with_pauses_that_grow() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    pauses: list[float] = []
    with pytest.raises(
        Unavailable, match=r"no connection to localhost:\d+ \(Connection refused\): check GMAIL_IMAP_HOST"
    ):
        ImapSession.connect(endpoint(port, SOURCE), dialect(SOURCE), USER, GOOD, pause=pauses.append)
    assert len(pauses) == 2
    assert 0.5 <= pauses[0] < pauses[1] <= 4


def test_a_connection_that_is_cut_before_the_greeting_is_made_again(gmail: FakeGmail, sign_in: SignIn) -> None:
    gmail.misbehave(on("GREETING"), Close())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.imap.door_fixtures.never", lambda seconds: None)
        assert sign_in(gmail.port, SOURCE).alive
    assert gmail.connections == 2


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        pytest.param(b"* BYE Too many connections\r\n", Throttled, id="too many connections"),
        pytest.param(b"* BYE going down\r\n", Unavailable, id="going down"),
        pytest.param(b"+OK POP3\r\n", Unavailable, id="another protocol"),
    ],
)
def test_a_server_that_says_no_at_once_is_not_asked_again(
    outlook: FakeOutlook, greeting: bytes, expected: type[SyncError]
) -> None:
    outlook.misbehave(on("GREETING"), Raw(greeting, close=True), FOREVER)
    with pytest.raises(expected):
        ImapSession.connect(endpoint(outlook.port, DESTINATION), dialect(DESTINATION), USER, GOOD, pause=never)
    assert outlook.connections == 1


@pytest.mark.usefixtures("trusted")
def test_a_host_that_says_nothing_costs_few_time_outs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="in time: check the network and GMAIL_IMAP_HOST"):
            connect(silent.getsockname()[1], timeout=NO_WAITING)
        assert time.monotonic() - started < 4


@pytest.mark.usefixtures("trusted")
def test_a_name_that_cannot_be_resolved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="cannot be resolved: check GMAIL_IMAP_HOST"):
        connect(993, host="a..b")


# Signing in.


def test_the_sign_in_takes_one_round_trip_where_the_server_offers_it(gmail: FakeGmail, sign_in: SignIn) -> None:
    sign_in(gmail.port, SOURCE)
    assert gmail.verbs() == ["CAPABILITY", "AUTHENTICATE"]  # Gmail says its new capabilities by itself


def test_the_capabilities_are_asked_for_where_they_are_not_said(outlook: FakeOutlook, sign_in: SignIn) -> None:
    assert "BACKENDAUTHENTICATE" in sign_in(outlook.port, DESTINATION).capabilities
    assert outlook.verbs() == ["CAPABILITY", "AUTHENTICATE", "CAPABILITY"]


def test_the_capabilities_in_the_tagged_answer_are_enough(gmail: FakeGmail, sign_in: SignIn) -> None:
    gmail.misbehave(on("AUTHENTICATE"), Raw(b"<tag> OK [CAPABILITY IMAP4rev1 UIDPLUS] in\r\n"))
    assert sign_in(gmail.port, SOURCE).capabilities == {"IMAP4REV1", "UIDPLUS"}


@pytest.fixture
def without_sasl_ir(gmail: FakeGmail) -> FakeGmail:
    gmail.capabilities_before = gmail.capabilities_before.replace("SASL-IR ", "")
    return gmail


def test_the_sign_in_takes_two_steps_where_the_server_wants_it(without_sasl_ir: FakeGmail, sign_in: SignIn) -> None:
    assert sign_in(without_sasl_ir.port, SOURCE).alive
    assert without_sasl_ir.commands[-1].line == "AUTHENTICATE XOAUTH2"


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("two_steps", [False, True], ids=["one step", "two steps"])
def test_the_error_challenge_is_answered_by_an_empty_line(gmail: FakeGmail, two_steps: bool) -> None:
    if two_steps:
        gmail.capabilities_before = gmail.capabilities_before.replace("SASL-IR ", "")
    with pytest.raises(SignInRefused) as refused:
        connect(gmail.port, token="stale")
    assert refused.value.reason == "[AUTHENTICATIONFAILED] Invalid credentials (Failure)"
    assert "GMAIL_REFRESH_TOKEN" in refused.value.remedy
    assert gmail.malformed == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("challenge", [None, '{"status":"401"}'], ids=["without a challenge", "with a challenge"])
def test_a_token_that_outlook_refuses(outlook: FakeOutlook, challenge: str | None) -> None:
    outlook.challenge_text = challenge
    with pytest.raises(SignInRefused) as refused:
        connect(outlook.port, DESTINATION, token="stale")
    assert refused.value.reason == "AUTHENTICATE failed."
    for word in ("OUTLOOK_EMAIL", "MS_REFRESH_TOKEN", "IMAP.AccessAsUser.All"):
        assert word in refused.value.remedy


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(TOO_MANY_CONNECTIONS, (Throttled, 600), id="too many connections"),
        pytest.param(OVER_QUOTA, (Throttled, 7200), id="over quota"),
        pytest.param(Bye("Session expired, please login again"), (Throttled, 3600), id="session expired"),
        pytest.param(WEB_LOGIN, (AuthError, "web browser"), id="web login"),
        pytest.param(
            Reply("NO [ALERT] Please log in via your web browser: https://x.example/?a=1 (Failure)"),
            (AuthError, "web browser"),
            id="please log in via your web browser",
        ),
        pytest.param(Reply("NO [UNAVAILABLE] Temporary System Error"), (Unavailable, None), id="unavailable"),
        pytest.param(Reply("NO System Error (Failure)"), (Unavailable, None), id="system error"),
        pytest.param(Reply("BAD what?"), (SignInRefused, None), id="BAD"),
        pytest.param(Close(), (Unavailable, None), id="cut"),
        pytest.param(Raw(b"+ e30=\r\n" * 5), (Unavailable, None), id="challenge after challenge"),
        pytest.param(Raw(b"+\r\n", FOREVER), (Unavailable, None), id="challenges without end"),
    ],
)
def test_gmails_words_at_sign_in(gmail: FakeGmail, answer: Action, expected: tuple[type[SyncError], object]) -> None:
    gmail.misbehave(on("AUTHENTICATE"), answer)
    with pytest.raises(SyncError) as refused:
        connect(gmail.port)
    kind, detail = expected
    assert type(refused.value) is kind
    if isinstance(refused.value, Throttled):
        assert refused.value.seconds == detail
    elif isinstance(detail, str):
        assert isinstance(refused.value, AuthError)
        assert detail in refused.value.remedy
    assert gmail.verbs().count("AUTHENTICATE") == 1


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("two_steps", [False, True], ids=["one step", "two steps"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Reply("NO no <secret> here"), id="NO"),
        pytest.param(Reply("BAD <secret>"), id="BAD"),
        pytest.param(Raw(b"<secret>\r\n"), id="no tag"),
        pytest.param(Bye("<secret>"), id="BYE"),
        pytest.param(Close(), id="cut"),
        pytest.param(Stall(), id="time-out"),
        pytest.param(Raw(b"+ <secret>\r\n" * 3), id="challenges"),
    ],
)
def test_no_error_and_no_log_line_holds_the_token(
    gmail: FakeGmail,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    answer: Action,
    two_steps: bool,
) -> None:
    """Not even where the server says it back."""
    if two_steps:
        gmail.capabilities_before = gmail.capabilities_before.replace("SASL-IR ", "")
    wire = base64.b64encode(f"user={USER}\x01auth=Bearer {SECRET}\x01\x01".encode()).decode()
    for secret in (SECRET, wire):
        gmail.misbehave(on("AUTHENTICATE"), _said_back(answer, secret))
        with caplog.at_level(logging.DEBUG), pytest.raises(SyncError) as failed:
            connect(gmail.port, token=SECRET, timeout=NO_WAITING)
        told = (
            "".join(traceback.format_exception(failed.value))
            + repr(failed.value)
            + caplog.text
            + "".join(capfd.readouterr())
        )
        for canary in ("opensesame", wire[:20], wire[-20:], USER):
            assert canary not in told


def _said_back(answer: Action, secret: str) -> Action:
    if isinstance(answer, Reply | Bye):
        return type(answer)(answer.text.replace("<secret>", secret))
    if isinstance(answer, Raw):
        return Raw(answer.data.replace(b"<secret>", secret.encode()))
    return answer


# What refusals mean.


@pytest.mark.parametrize(
    ("text", "expected", "seconds"),
    [
        pytest.param("NO Request is throttled. Suggested Backoff Time: 5000 milliseconds", Throttled, 60, id="5 s"),
        pytest.param(
            "BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds", Throttled, 299.961, id="300 s"
        ),
        pytest.param(
            "NO Request is throttled. Suggested Backoff Time: 999999999 milliseconds", Throttled, 86400, id="11 days"
        ),
        pytest.param("NO Request is throttled.", Throttled, 300, id="no time named"),
        pytest.param("BAD User is authenticated but not connected.", Unavailable, None, id="not connected"),
        pytest.param("NO Server Unavailable. 15", Unavailable, None, id="server unavailable"),
        pytest.param("NO [OVERQUOTA] over", Throttled, 3600, id="over quota"),
        pytest.param("NO The mailbox is full.", Throttled, 3600, id="full"),
        pytest.param("NO [TRYCREATE] Folder is not found.", MailboxMissing, None, id="folder gone"),
        pytest.param("NO [TRYCREATE] ?", MailboxMissing, None, id="folder gone, by code"),
        pytest.param("BAD Command Argument Error. 11", MessageRefused, None, id="error 11"),
        pytest.param("BAD Command Error. 10", MessageRefused, None, id="error 10"),
        pytest.param("NO Maximum size of appendable message has been exceeded", MessageRefused, None, id="too large"),
        pytest.param("NO", MessageRefused, None, id="no words"),
    ],
)
@pytest.mark.parametrize("before_literal", [False, True], ids=["after the literal", "before the literal"])
def test_what_the_refusal_of_an_append_means(
    outlook: FakeOutlook,
    sign_in: SignIn,
    text: str,
    expected: type[SyncError],
    seconds: float | None,
    before_literal: bool,
) -> None:
    outlook.misbehave(on("APPEND"), Reply(text, before_literal=before_literal))
    session = sign_in(outlook.port, DESTINATION)
    first, second = appended(session), appended(session, b"Subject: two\r\n\r\n")
    error = first.exception(10)
    assert isinstance(error, expected)
    if isinstance(error, Throttled):
        assert error.seconds == seconds
    assert b"APPENDUID" in second.result(10)
    assert outlook.appended_to("Gmail") == [b"Subject: two\r\n\r\n"]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        pytest.param(Close(before_literal=True), NotDelivered, id="cut before the go-ahead"),
        pytest.param(Bye("later", before_literal=True), NotDelivered, id="BYE before the go-ahead"),
        pytest.param(CloseInLiteral(3), OutcomeUnknown, id="cut in the literal"),
        pytest.param(LoseReply(), OutcomeUnknown, id="cut after the literal"),
        pytest.param(Stall(executed=True), OutcomeUnknown, id="no answer after the literal"),
        pytest.param(Stall(before_literal=True), NotDelivered, id="no go-ahead"),
        pytest.param(Bye("later", executed=True), OutcomeUnknown, id="BYE after the literal"),
        pytest.param(TAGLESS_UNAVAILABLE, OutcomeUnknown, id="no tag"),
        pytest.param(Raw(b"<tag> PERHAPS\r\n"), OutcomeUnknown, id="neither OK nor NO"),
    ],
)
def test_what_the_end_of_the_connection_means_for_an_append(
    outlook: FakeOutlook, sign_in: SignIn, action: Action, expected: type[SyncError]
) -> None:
    outlook.free_literal = None
    outlook.misbehave(on("APPEND"), action)
    session = sign_in(outlook.port, DESTINATION, timeout=NO_WAITING)
    started = time.monotonic()
    assert type(appended(session).exception(10)) is expected
    assert time.monotonic() - started < 3
    assert not session.alive
    assert isinstance(session.ended, Unavailable)
    assert type(appended(session).exception(10)) is NotDelivered  # nothing more is sent


def test_a_bye_with_a_providers_words_is_a_throttle(gmail: FakeGmail, sign_in: SignIn) -> None:
    gmail.misbehave(on("NOOP"), Bye("Session expired, please login again"))
    session = sign_in(gmail.port, SOURCE)
    with pytest.raises(Throttled) as throttle:
        session.noop()
    assert throttle.value.seconds == 3600
    assert isinstance(session.ended, Throttled)


def test_what_is_not_permitted_is_not_sent(outlook: FakeOutlook, sign_in: SignIn) -> None:
    session = sign_in(outlook.port, DESTINATION)
    assert isinstance(appended(session, permit=lambda: False).exception(10), NotPermitted)
    session.noop()
    assert "APPEND" not in outlook.verbs()


def test_date_and_flags_are_handed_on(outlook: FakeOutlook, sign_in: SignIn) -> None:
    session = sign_in(outlook.port, DESTINATION)
    session.append("gmail", ("\\Seen",), WHEN, MAIL, lambda: True).result(10)
    appended(session).result(10)
    seen, unseen = outlook.appended
    assert (seen.flags, unseen.flags) == (("\\Seen",), ())
    assert {str(one.internaldate) for one in outlook.appended} == {"2026-07-17 02:44:25+02:00"}


def test_outlooks_refusals_end_the_connection_after_some_and_that_is_told(
    outlook: FakeOutlook, sign_in: SignIn
) -> None:
    outlook.misbehave(on("APPEND"), ERROR_11, FOREVER)
    session = sign_in(outlook.port, DESTINATION)
    errors = [future.exception(10) for future in [appended(session) for _ in range(12)]]
    assert [type(error) for error in errors[:10]] == [MessageRefused] * 10
    assert {type(error) for error in errors[10:]} <= {OutcomeUnknown, NotDelivered}
    assert "Connection closed. 14" in session.ended.args[0]


# The other commands.


def test_examine_tells_uidvalidity_uidnext_and_how_many(gmail: FakeGmail, sign_in: SignIn) -> None:
    gmail.deliver(MAIL)
    gmail.misbehave(on("EXAMINE"), Untagged(("OK Still here", "3 RECENT", "CAPABILITY X", "OK [ALERT] hello")))
    selected = sign_in(gmail.port, SOURCE).examine("INBOX").result(10)
    assert (selected.uidvalidity, selected.uidnext, selected.exists) == (1, 2, 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"<tag> OK done\r\n", id="nothing told"),
        pytest.param(b"* OK [UIDVALIDITY 1] x\r\n<tag> OK done\r\n", id="no UIDNEXT"),
        pytest.param(b"* OK [UIDVALIDITY 4294967296] x\r\n<tag> OK done\r\n", id="a number out of range"),
        pytest.param(b"* OK [UIDVALIDITY one] x\r\n<tag> OK done\r\n", id="no number"),
        pytest.param(b"* x EXISTS\r\n<tag> OK done\r\n", id="EXISTS without a number"),
        pytest.param(b"<tag> NO System Error (Failure)\r\n", id="NO"),
        pytest.param(b"<tag> BAD what?\r\n", id="BAD"),
    ],
)
def test_an_examine_that_tells_too_little_or_nonsense(gmail: FakeGmail, sign_in: SignIn, answer: bytes) -> None:
    gmail.misbehave(on("EXAMINE"), Raw(answer))
    with pytest.raises(Unavailable):
        sign_in(gmail.port, SOURCE).examine("INBOX").result(10)


def test_a_mailbox_that_is_not_there(gmail: FakeGmail, outlook: FakeOutlook, sign_in: SignIn) -> None:
    with pytest.raises(MailboxMissing, match="Unknown Mailbox: nowhere"):
        sign_in(gmail.port, SOURCE).examine("nowhere").result(10)
    assert sign_in(outlook.port, DESTINATION).status("nowhere") is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"<tag> OK done\r\n", Unavailable, id="nothing told"),
        pytest.param(b'* STATUS "Gmail" (UIDNEXT 5)\r\n<tag> OK done\r\n', Unavailable, id="half of it"),
        pytest.param(b'* STATUS "Gmail" UIDNEXT\r\n<tag> OK done\r\n', Unavailable, id="broken"),
        pytest.param(b"<tag> BAD what?\r\n", Unavailable, id="BAD"),
        pytest.param(b"<tag> NO Request is throttled\r\n", Throttled, id="throttled"),
        pytest.param(b"<tag> NO [UNAVAILABLE] later\r\n", Unavailable, id="unavailable"),
        pytest.param(b"* BYE\r\n", Unavailable, id="BYE"),
    ],
)
def test_a_status_that_tells_nothing_is_not_taken_for_an_absent_mailbox(
    outlook: FakeOutlook, sign_in: SignIn, answer: bytes, error: type[SyncError]
) -> None:
    outlook.misbehave(on("STATUS"), Raw(answer, close=answer.startswith(b"* BYE")))
    with pytest.raises(error):
        sign_in(outlook.port, DESTINATION).status("Gmail")


def test_names_come_as_quoted_strings_and_as_literals(outlook: FakeOutlook, sign_in: SignIn) -> None:
    lines = b'* LIST () "/" {7}\r\nB&APY-x\r\n* LIST () NIL "a\\"b"\r\n* LIST (\\Marked) "." INBOX\r\n<tag> OK done\r\n'
    outlook.misbehave(on("LIST"), Raw(lines))
    assert sign_in(outlook.port, DESTINATION).list_mailboxes("*") == [("Böx", "/"), ('a"b', None), ("INBOX", ".")]


@pytest.mark.parametrize("line", [b"* LIST\r\n", b"* LIST x\r\n", b"* LIST () x y\r\n"])
def test_a_list_that_does_not_parse(outlook: FakeOutlook, sign_in: SignIn, line: bytes) -> None:
    outlook.misbehave(on("LIST"), Raw(line + b"<tag> OK\r\n"))
    session = sign_in(outlook.port, DESTINATION)
    if line == b"* LIST\r\n":
        assert session.list_mailboxes("*") == []  # it is no LIST response at all
        return
    with pytest.raises(Unavailable, match="protocol broken"):
        session.list_mailboxes("*")


def test_a_search_may_answer_with_nothing_or_in_several_lines(gmail: FakeGmail, sign_in: SignIn) -> None:
    session = sign_in(gmail.port, SOURCE)
    session.examine("INBOX")
    gmail.misbehave(on("UID SEARCH"), Raw(b"* SEARCH 1 2\r\n* 4 EXISTS\r\n* SEARCH 7\r\n<tag> OK\r\n"))
    gmail.misbehave(on("UID SEARCH"), Raw(b"<tag> OK\r\n"))
    assert session.uid_search("ALL") == UidSet([1, 2, 7])
    assert session.uid_search("ALL") == UidSet()
    assert session.uid_search("ALL") == UidSet()


@pytest.mark.parametrize("words", [b"x", b"-1", b"4294967296", b"1.5"])
def test_a_search_that_answers_with_nonsense(gmail: FakeGmail, sign_in: SignIn, words: bytes) -> None:
    session = sign_in(gmail.port, SOURCE)
    session.examine("INBOX")
    gmail.misbehave(on("UID SEARCH"), Raw(b"* SEARCH %s\r\n<tag> OK\r\n" % words))
    with pytest.raises(Unavailable, match="protocol broken"):
        session.uid_search("ALL")


def test_a_bug_in_what_reads_a_reply_reaches_whoever_waits(gmail: FakeGmail, sign_in: SignIn) -> None:
    session = sign_in(gmail.port, SOURCE)

    def read(_reply: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        session._then(session._submit(b"NOOP"), read).result(10)


@pytest.mark.parametrize("milliseconds", [5_000, 90_000])
def test_throttle_words_on_any_command_of_the_destination(
    outlook: FakeOutlook, sign_in: SignIn, milliseconds: int
) -> None:
    session = sign_in(outlook.port, DESTINATION)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("LIST", lambda: session.list_mailboxes("*")),
        ("STATUS", lambda: session.status("Gmail")),
        ("CREATE", lambda: session.create("X")),
        ("SUBSCRIBE", lambda: session.subscribe("Gmail")),
        ("NOOP", session.noop),
        ("EXAMINE", lambda: session.examine("Gmail").result(10)),
        ("UID FETCH", lambda: session.uid_fetch(UidSet([1]), "UID", nothing).result(10)),
    ]
    session.examine("Gmail").result(10)
    for verb, call in calls:
        outlook.misbehave(on(verb), throttled(milliseconds))
        with pytest.raises(Throttled) as throttle:
            call()
        assert throttle.value.seconds == max(60, milliseconds / 1000)


def test_an_octet_that_is_not_ascii_in_what_the_server_says_is_no_fault(gmail: FakeGmail, sign_in: SignIn) -> None:
    session = sign_in(gmail.port, SOURCE)
    gmail.misbehave(on("EXAMINE"), Raw(b"<tag> NO Gr\xc3\xbc\xc3\x9fe\xff\r\n"))
    with pytest.raises(Unavailable, match="EXAMINE refused"):
        session.examine("INBOX").result(10)


# The end.


def test_closing_is_a_logout_and_may_be_done_twice(gmail: FakeGmail, sign_in: SignIn) -> None:
    session = sign_in(gmail.port, SOURCE)
    session.close()
    session.close()
    assert not session.alive
    with pytest.raises(Unavailable):
        session.noop()


def test_closing_does_not_wait_for_a_dead_line(outlook: FakeOutlook, sign_in: SignIn) -> None:
    with Relay(outlook.port) as relay:
        session = sign_in(relay.port, DESTINATION, timeout=60)
        relay.black_hole()
        pending = [appended(session, os.urandom(1 << 20)) for _ in range(20)]
        started = time.monotonic()
        session.close()
        assert time.monotonic() - started < 5
        assert all(isinstance(one.exception(0), OutcomeUnknown | NotDelivered) for one in pending)


def test_a_server_that_answers_a_sign_in_with_endless_talk_is_left(server_tls: ssl.SSLContext, trusted: None) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"* OK [CAPABILITY IMAP4rev1 SASL-IR] hello\r\n")
        read_line(sock)
        while True:
            sock.sendall(b"* OK still thinking\r\n" * 1000)

    with scripted(server_tls, talk) as port, pytest.raises(Unavailable, match="endless data that nobody asked for"):
        connect(port)


def test_the_module_can_be_imported_where_warnings_are_errors() -> None:
    """Lambda imports it afresh: an invalid escape in a dependency must not be the end (PROVIDERS 8)."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import syncer.imap_session"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("uidvalidity", "uidnext"), [(0, 1), (1, 0), (1 << 32, 1), (1, 1 << 32)])
def test_numbers_that_no_mailbox_can_have_are_not_believed(
    outlook: FakeOutlook, sign_in: SignIn, uidvalidity: int, uidnext: int
) -> None:
    said = f"UIDVALIDITY {uidvalidity} UIDNEXT {uidnext}".encode()
    outlook.misbehave(on("STATUS"), Raw(b"* STATUS Gmail (" + said + b")\r\n<tag> OK done\r\n"))
    with pytest.raises(Unavailable, match="protocol broken"):
        sign_in(outlook.port, DESTINATION).status("Gmail")
