"""The Dovecot that other tests rely on does what they rely on."""

from __future__ import annotations

import imaplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncer.demo.authority import Authority
from syncer.demo.certificates import Certificates
from syncer.model import Side
from tests.imap.dovecot import Dovecot

pytestmark = pytest.mark.dovecot

ARRIVED = "17-Jul-2026 02:44:25 +0200"
ARRIVED_UTC = "17-Jul-2026 00:44:25 +0000"
MAIL = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n8-bit: \xfc\r\n" + b"long" * 5000 + b"\r\n"


@contextmanager
def signed_in(server: Dovecot, certificates: Certificates, user: str, token: str) -> Iterator[imaplib.IMAP4_SSL]:
    """Sign in as the program does: TLS verified, XOAUTH2 (the library adds base64)."""
    context = ssl.create_default_context(cafile=certificates.ca)
    with imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context, timeout=5) as client:
        client.authenticate("XOAUTH2", lambda _: f"user={user}\1auth=Bearer {token}\1\1".encode())
        yield client


def test_a_message_is_kept_byte_for_byte_with_its_date_and_unread(dovecot: Dovecot) -> None:
    uid = dovecot.deliver("exact@mail.example", MAIL, ARRIVED)
    (stored,) = dovecot.messages("exact@mail.example")
    assert (stored.uid, stored.raw, stored.internaldate) == (uid, MAIL, ARRIVED_UTC)
    assert r"\Seen" not in stored.flags


def test_mailboxes_are_made_on_delivery_and_absent_ones_are_empty(dovecot: Dovecot) -> None:
    name = 'Gmail/Say "hi"/&ZeVnLIqe-'
    dovecot.deliver("boxes@mail.example", MAIL, ARRIVED, name)
    assert dovecot.mailboxes("boxes@mail.example") == ["Gmail", 'Gmail/Say "hi"', name, "INBOX"]
    assert dovecot.messages("boxes@mail.example", "Nowhere") == []


def test_the_token_of_the_mailbox_opens_it(
    dovecot: Dovecot, dovecot_authority: Authority, certificates: Certificates
) -> None:
    dovecot.deliver("mine@mail.example", MAIL, ARRIVED)
    account = dovecot_authority.add_account(Side.SOURCE, "mine@mail.example")
    token = dovecot_authority.issue_access_token(account)
    with signed_in(dovecot, certificates, "mine@mail.example", token) as client:
        assert client.select("INBOX", readonly=True) == ("OK", [b"1"])


def test_the_token_of_another_mailbox_opens_nothing(
    own_dovecot: Dovecot, dovecot_authority: Authority, certificates: Certificates
) -> None:
    account = dovecot_authority.add_account(Side.SOURCE, "other@mail.example")
    token = dovecot_authority.issue_access_token(account)
    with (
        pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
        signed_in(own_dovecot, certificates, "mine@mail.example", token),
    ):
        pytest.fail("it was let in")


def test_two_instances_share_nothing(dovecot: Dovecot, second_dovecot: Dovecot) -> None:
    dovecot.deliver("both@mail.example", MAIL, ARRIVED)
    assert dovecot.port != second_dovecot.port
    assert second_dovecot.messages("both@mail.example") == []


@pytest.mark.parametrize("uidvalidity", [1, 4294967295])
def test_uidvalidity_can_be_changed_and_the_mail_stays(dovecot: Dovecot, uidvalidity: int) -> None:
    user = f"validity-{uidvalidity}@mail.example"
    dovecot.deliver(user, MAIL, ARRIVED)
    before = dovecot.messages(user)
    dovecot.set_uidvalidity(user, uidvalidity)
    assert dovecot.uidvalidity(user) == uidvalidity
    assert [(kept.uid, kept.raw) for kept in dovecot.messages(user)] == [(kept.uid, kept.raw) for kept in before]


def test_a_deleted_message_is_gone_and_its_uid_is_not_used_again(dovecot: Dovecot) -> None:
    first = dovecot.deliver("deleted@mail.example", MAIL, ARRIVED)
    dovecot.delete("deleted@mail.example", first)
    assert dovecot.deliver("deleted@mail.example", MAIL, ARRIVED) > first
    assert len(dovecot.messages("deleted@mail.example")) == 1


def test_mail_outlives_a_kill_and_a_restart(own_dovecot: Dovecot) -> None:
    own_dovecot.deliver("kept@mail.example", MAIL, ARRIVED)
    port = own_dovecot.port
    own_dovecot.kill()
    own_dovecot.restart()
    assert own_dovecot.port == port
    assert [stored.raw for stored in own_dovecot.messages("kept@mail.example")] == [MAIL]


def test_extra_configuration_has_the_last_word(own_dovecot: Dovecot) -> None:
    own_dovecot.restart(extra="plugin {\n  quota_rule = *:storage=10K\n}")
    with pytest.raises(RuntimeError, match="OVERQUOTA"):
        own_dovecot.deliver("full@mail.example", MAIL, ARRIVED)


def test_a_wrong_configuration_is_named(own_dovecot: Dovecot) -> None:
    with pytest.raises(RuntimeError, match="Unknown setting: nonsense"):
        own_dovecot.restart(extra="nonsense = yes")


def test_a_held_session_answers_nothing_until_it_is_let_go(dovecot: Dovecot) -> None:
    with dovecot.session("held@mail.example") as client:
        with dovecot.stalled("held@mail.example"):
            client.socket().settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.noop()
        client.socket().settimeout(5)
        client.shutdown()
    assert dovecot.messages("held@mail.example") == []


def test_nothing_is_left_behind(certificates: Certificates, dovecot_authority: Authority, dovecot: Dovecot) -> None:
    with Dovecot(certificates.server, certificates.key, dovecot_authority.introspection_url) as server:
        home = server._home
        assert home.is_dir()
    assert not home.exists()


@pytest.mark.corpus
def test_every_canonical_message_of_the_corpus_comes_back_as_it_was_sent(dovecot: Dovecot, corpus: list[Path]) -> None:
    mail = [raw for raw in (path.read_bytes() for path in corpus) if is_canonical(raw)]
    dovecot.deliver_all("corpus@mail.example", [(raw, ARRIVED) for raw in mail])
    assert [stored.raw for stored in dovecot.messages("corpus@mail.example")] == mail


def is_canonical(raw: bytes) -> bool:
    """Tell whether every line ends in CRLF, and no CR or NUL is elsewhere: mail as it travels."""
    rest = raw.replace(b"\r\n", b"")
    return raw.endswith(b"\r\n") and not any(octet in rest for octet in b"\r\n\0")
