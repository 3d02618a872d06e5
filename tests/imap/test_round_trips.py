"""What is not waited for: a server that is known is spoken to before it has greeted, and asked again in passing."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator

import pytest

from syncer.errors import SignInRefused, Throttled, Unavailable
from syncer.imap_session import ADVERTISED, Acquaintance, ImapSession
from syncer.model import Side
from tests.fakes.faults import Bye, Close, Stall, on, throttled
from tests.fakes.gmail import FakeGmail
from tests.fakes.outlook import FakeOutlook
from tests.fakes.raw_client import GOOD, USER
from tests.imap.doors import dialect, endpoint, read_line, scripted

pytest_plugins = ["tests.fakes.fixtures", "tests.imap.door_fixtures"]
pytestmark = pytest.mark.usefixtures("trusted", "_no_thread_is_left")

OFFERED = b"IMAP4rev1 SASL-IR AUTH=XOAUTH2"


@pytest.fixture
def sessions() -> Iterator[list[ImapSession]]:
    """What is put here is closed in the end."""
    opened: list[ImapSession] = []
    yield opened
    for session in opened:
        session.close()


def meet(port: int, known: Acquaintance, side: Side = Side.SOURCE, token: str = GOOD) -> ImapSession:
    return ImapSession.connect(endpoint(port, side), dialect(side), USER, token, pause=lambda _: None, known=known)


def test_a_known_server_is_signed_in_to_before_it_greets(
    server_tls: ssl.SSLContext, sessions: list[ImapSession]
) -> None:
    before: list[bytes] = []

    def talk(sock: ssl.SSLSocket) -> None:
        """Greet only those who have said what they want."""
        before.append(read_line(sock))
        tag = before[-1].split()[0]
        sock.sendall(b"* OK hello\r\n* CAPABILITY " + OFFERED + b"\r\n" + tag + b" OK in\r\n")
        read_line(sock)

    with scripted(server_tls, talk) as port:
        sessions.append(meet(port, Acquaintance(("IMAP4REV1", "SASL-IR"))))
        assert sessions[0].alive
        sessions.pop().close()
    assert before[0].split()[1:3] == [b"AUTHENTICATE", b"XOAUTH2"]


def test_a_server_that_is_met_becomes_known(gmail: FakeGmail, sessions: list[ImapSession]) -> None:
    known = Acquaintance()
    for asked in (["CAPABILITY", "AUTHENTICATE"], ["AUTHENTICATE"]):
        gmail.commands.clear()
        sessions.append(meet(gmail.port, known))
        assert [command.verb for command in gmail.commands] == asked
        assert "X-GM-EXT-1" in sessions[-1].capabilities
    assert "SASL-IR" in known.capabilities


def test_a_stranger_is_not_spoken_to_before_it_greets(server_tls: ssl.SSLContext) -> None:
    early: list[bytes] = []

    def talk(sock: ssl.SSLSocket) -> None:
        sock.settimeout(0.3)
        try:
            early.append(read_line(sock))
        except TimeoutError:
            sock.sendall(b"* BYE nothing heard\r\n")

    with scripted(server_tls, talk) as port, pytest.raises(Unavailable, match="nothing heard"):
        meet(port, Acquaintance())
    assert early == []


def test_a_server_that_hangs_up_on_who_speaks_first_is_awaited_in_the_same_cycle(
    server_tls: ssl.SSLContext, sessions: list[ImapSession]
) -> None:
    known = Acquaintance(("IMAP4REV1", "SASL-IR"))
    heard: list[bytes] = []

    def talk(sock: ssl.SSLSocket) -> None:
        if not heard:
            heard.append(read_line(sock))
            return
        sock.sendall(b"* OK [CAPABILITY " + OFFERED + b"] hello\r\n")
        heard.append(read_line(sock))
        sock.sendall(heard[-1].split()[0] + b" OK [CAPABILITY " + OFFERED + b"] in\r\n")
        read_line(sock)

    with scripted(server_tls, talk) as port:
        sessions.append(meet(port, known))
        assert len(heard) == 2
        sessions.pop().close()


def test_a_server_that_offers_less_than_was_believed_is_met_again_as_a_stranger(
    server_tls: ssl.SSLContext, sessions: list[ImapSession]
) -> None:
    known = Acquaintance(ADVERTISED)
    heard: list[list[bytes]] = []
    offered = b"* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2] hello\r\n"

    def talk(sock: ssl.SSLSocket) -> None:
        sock.sendall(offered)
        tag, *words = read_line(sock).split()
        heard.append(words)
        if len(words) > 2:
            sock.sendall(tag + b" BAD too many arguments\r\n")
        else:
            sock.sendall(b"+ \r\n")
            read_line(sock)
            sock.sendall(tag + b" OK [CAPABILITY IMAP4rev1] in\r\n")
        read_line(sock)

    with scripted(server_tls, talk) as port:
        sessions.append(meet(port, known))
        assert [len(words) for words in heard] == [3, 2]
        assert "SASL-IR" not in known.capabilities
        sessions.pop().close()
        sessions.append(meet(port, known))
        assert [len(words) for words in heard] == [3, 2, 2]
        sessions.pop().close()


def test_a_server_that_asks_for_peace_is_not_met_again(outlook: FakeOutlook) -> None:
    known = Acquaintance(ADVERTISED)
    outlook.misbehave(on("AUTHENTICATE"), throttled(30_000, "BAD"))
    with pytest.raises(Throttled):
        meet(outlook.port, known, Side.DESTINATION)
    assert outlook.connections == 1


@pytest.mark.parametrize("fault", [Bye("Too many connections"), Close()], ids=["bye", "cut"])
def test_a_server_that_did_not_greet_is_a_stranger_again(gmail: FakeGmail, fault: Bye | Close) -> None:
    known = Acquaintance()
    meet(gmail.port, known).close()
    for _ in range(3):
        gmail.misbehave(on("GREETING"), fault)
    with pytest.raises(Unavailable):
        meet(gmail.port, known)
    assert known.capabilities == ()


def test_a_server_that_refused_a_sign_in_is_a_stranger_again(gmail: FakeGmail) -> None:
    known = Acquaintance()
    meet(gmail.port, known).close()
    with pytest.raises(SignInRefused):
        meet(gmail.port, known, token="worn-out")
    assert known.capabilities == ()


def test_outlook_s_capabilities_are_asked_for_in_passing(outlook: FakeOutlook, sessions: list[ImapSession]) -> None:
    """It does not tell them after a sign-in (PROVIDERS 4.1): the question travels with the next command."""
    known = Acquaintance()
    meet(outlook.port, known, Side.DESTINATION).close()
    stalled = outlook.misbehave(on("CAPABILITY"), Stall())
    session = meet(outlook.port, known, Side.DESTINATION)
    sessions.append(session)
    assert session.alive
    while not stalled.fired:
        time.sleep(0.001)
    outlook.release()
    assert session.status("INBOX") is not None
    assert "LITERAL+" in session.capabilities
