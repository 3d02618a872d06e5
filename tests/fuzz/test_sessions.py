"""Both mailboxes on servers that say anything: a right result or a named error, in time, and no thread left.

A connection without progress ends after one time-out; one that dribbles, after ``SLOWEST`` of them. No
input below makes more than three connections, one after the other.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, cast

import pytest

from syncer.errors import MessageRefused, NotDelivered, OutcomeUnknown, SyncError
from syncer.gmail_imap import GmailMailbox
from syncer.imap_client import SLOWEST
from syncer.imap_session import ImapSession
from syncer.model import MessageKey, Side, SourceMessage
from syncer.outlook_imap import OutlookMailbox
from syncer.uid_set import MAX_UID, UidSet
from tests.fakes.raw_client import GOOD as TOKEN
from tests.fakes.raw_client import USER
from tests.fuzz.player import (
    MAILS,
    Plain,
    Player,
    Transcript,
    Twist,
    gmail_transcript,
    no_thread_fails_or_stays,
    outlook_transcript,
    served,
)
from tests.fuzz.strategies import plays
from tests.fuzz.tally import fuzz
from tests.imap.doors import dialect, endpoint

pytestmark = pytest.mark.thorough

TIMEOUT: Final = 0.06
BOUND: Final = 3 * (SLOWEST + 1) * TIMEOUT + 5.0
"""Seconds for all that is done to one input; the 5 are for a machine that is busy."""
WHEN: Final = "17-Jul-2026 02:44:25 +0000"
WANTED: Final = UidSet([1, 2, 3])
BODIES: Final = (b"small: " + MAILS[0], b"waits: " + b"w" * 5000, b"large: " + b"l" * 100_000)
MESSAGES: Final = [SourceMessage(MessageKey(1, uid), len(raw), WHEN, 0.0, None) for uid, raw in enumerate(MAILS, 1)]


@pytest.fixture(scope="module", autouse=True)
def _without_tls() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("syncer.imap_connect._tls_context", lambda: cast("ssl.SSLContext", Plain()))
        yield


@pytest.fixture(scope="module")
def of_gmail() -> Transcript:
    return gmail_transcript()


@pytest.fixture(scope="module")
def of_outlook() -> Transcript:
    return outlook_transcript()


def sign_in(player: Player, side: Side, timeout: float) -> ImapSession:
    return ImapSession.connect(endpoint(player.port, side, timeout), dialect(side), USER, TOKEN, pause=lambda _: None)


class Results(dict[str, Any]):
    """What each call gave: its result, or its named error. Anything else is raised."""

    def of(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            self[name] = call()
        except SyncError as error:
            self[name] = error
        return self[name]

    def right(self) -> dict[str, Any]:
        return {name: result for name, result in self.items() if not isinstance(result, SyncError)}


def read_gmail(player: Player, timeout: float = TIMEOUT) -> Results:
    results = Results()
    session = results.of("sign in", lambda: sign_in(player, Side.SOURCE, timeout))
    if isinstance(session, SyncError):
        return results
    mailbox = GmailMailbox(session, "INBOX", 1 << 20)
    try:
        results.of("open", lambda: mailbox.open(WANTED))
        results.of("since", lambda: mailbox.since(1_784_000_000.0))
        results.of("listing", lambda: mailbox.listing(WANTED))
        for message, body in zip(MESSAGES, mailbox.fetch(MESSAGES), strict=True):
            results.of(f"body {message.key.uid}", partial(body.result, BOUND))
        results.of("probe", mailbox.probe)
    finally:
        mailbox.close()
    return results


def check_gmail(player: Player, results: Results) -> None:
    right = results.right()
    opened = right.get("open")
    listed = [*(opened[1] if opened else ()), *right.get("listing", ())]
    if opened:
        assert 1 <= opened[0].uidvalidity <= MAX_UID
        assert 1 <= opened[0].uidnext <= MAX_UID
        assert re.search(rb"\[UIDVALIDITY 0*%d\b" % opened[0].uidvalidity, player.said, re.IGNORECASE)
    for message in listed:
        assert message.key.uid in WANTED
        assert re.search(rb"RFC822\.SIZE [ ]*0*%d\b" % message.size, player.said, re.IGNORECASE)
        assert re.search(rb"\bUID 0*%d\b" % message.key.uid, player.said, re.IGNORECASE)
    for uid in right.get("since", ()):
        assert 1 <= uid <= MAX_UID
    for message in MESSAGES:
        body = right.get(f"body {message.key.uid}")
        assert body is None or served(player.said, message.key.uid, body), f"a wrong body for UID {message.key.uid}"


def write_outlook(player: Player, timeout: float = TIMEOUT) -> Results:
    results = Results()
    mailbox = OutlookMailbox(
        lambda: sign_in(player, Side.DESTINATION, timeout),
        "Gmail",
        create=True,
        mark_seen=False,
        pause=lambda _: None,
    )
    try:
        fence = results.of("open", mailbox.open)
        if not isinstance(fence, SyncError):
            results.of("look", lambda: mailbox.look(fence.uidnext))
            results.of("look at all", lambda: mailbox.look(1))
            copies = [mailbox.append(WHEN, raw, lambda: True) for raw in BODIES]
            for number, copy in enumerate(copies):
                results.of(f"append {number}", partial(copy.result, BOUND))
            results.of("probe", mailbox.probe)
    finally:
        mailbox.close()
    return results


def check_outlook(player: Player, results: Results) -> None:
    right = results.right()
    if "open" in right:
        assert 1 <= right["open"].uidvalidity <= MAX_UID
        assert 1 <= right["open"].uidnext <= MAX_UID
    for name in ("look", "look at all"):
        if name in right:
            assert all(1 <= copy.uid <= MAX_UID for copy in right[name].messages)
    for number, raw in enumerate(BODIES):
        outcome = results.get(f"append {number}")
        if outcome is None and f"append {number}" not in results:
            continue
        received = [one for one in player.appends if one.raw == raw]
        if not isinstance(outcome, SyncError):
            assert len(received) == 1, "reported as done, and never received"
            assert received[0].tag in player.tags_answered(b"OK", received[0].before), "done, and nobody said so"
        elif isinstance(outcome, NotDelivered):
            assert not received, "reported as not delivered, and received"
        elif not isinstance(outcome, OutcomeUnknown):
            assert isinstance(outcome, MessageRefused) or outcome.args
            tags = player.tags_answered(b"NO") | player.tags_answered(b"BAD")
            assert tags, "refused, and nobody said so"
            assert all(one.tag in tags for one in received)


def play(
    transcript: Transcript,
    twists: dict[int, Twist],
    drive: Callable[[Player], Results],
    check: Callable[[Player, Results], None],
    bound: float = BOUND,
) -> Results:
    with no_thread_fails_or_stays():
        with Player(transcript, twists) as player:
            started = time.monotonic()
            results = drive(player)
            took = time.monotonic() - started
        check(player, results)
    assert took < bound, f"took {took:.1f} s"
    return results


def test_gmail_untwisted_gives_all_results(of_gmail: Transcript) -> None:
    results = play(of_gmail, {}, lambda player: read_gmail(player, 5.0), check_gmail)
    assert results.keys() == results.right().keys()
    assert [bytes(results[f"body {uid}"]) for uid in WANTED] == list(MAILS)
    assert len(results["listing"]) == len(results["open"][1]) == 3


def test_outlook_untwisted_gives_all_results(of_outlook: Transcript) -> None:
    results = play(of_outlook, {}, lambda player: write_outlook(player, 5.0), check_outlook)
    assert results.keys() == results.right().keys()
    assert len(results["look at all"].messages) == 3


def test_whatever_gmail_says_is_a_right_result_or_a_named_error(of_gmail: Transcript) -> None:
    fuzz("Gmail", plays(), lambda drawn: play(of_gmail, drawn, read_gmail, check_gmail), examples=100)


def test_whatever_outlook_says_is_a_right_result_or_a_named_error(of_outlook: Transcript) -> None:
    fuzz("Outlook", plays(), lambda drawn: play(of_outlook, drawn, write_outlook, check_outlook), examples=100)
