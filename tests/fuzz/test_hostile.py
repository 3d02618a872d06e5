"""What a server may do without end, done to both sides: a named error within the stated time and memory.

Time: a flood ends with the limit it runs into, silence with one time-out, a drip with ``SLOWEST`` of them.
Memory, by tracemalloc: ``MEMORY`` for the client and this server together, whatever is announced or sent.
"""

from __future__ import annotations

import ssl
import time
import tracemalloc
from collections.abc import Iterator
from typing import Final, cast

import pytest

from syncer import imap_client, imap_responses
from syncer.errors import SyncError
from syncer.imap_client import SLOWEST
from tests.fuzz.player import Plain, Transcript, Twist, gmail_transcript, outlook_transcript
from tests.fuzz.test_sessions import check_gmail, check_outlook, play, read_gmail, write_outlook

LIMIT: Final = 1 << 20
"""Stands for the 8 MiB of ``MAX_LINE`` and ``MAX_UNSOLICITED``: to trace memory costs much time."""
MEMORY: Final = 8 * LIMIT
TIMEOUT: Final = 0.3
SECONDS: Final = 2 * (SLOWEST + 1) * TIMEOUT + 5.0

FLOODS: Final = [
    pytest.param(Twist(flood=b"garbage " * 8192), id="an endless line"),
    pytest.param(Twist(flood=b"* OK still here\r\n" * 4096), id="endless untagged data"),
    pytest.param(Twist(flood=b"+ go on\r\n" * 4096), id="endless continuations"),
    pytest.param(Twist(flood=b"\r\n" * 16384), id="endless empty lines"),
    pytest.param(Twist(flood=b"* 1 FETCH (" + b"(" * 10_000 + b")" * 10_000 + b")\r\n"), id="endless nested lists"),
    pytest.param(Twist(flood=b"* 1 FETCH (UID 1 BODY[] {60000}\r\n" + b"x" * 60_000 + b")\r\n"), id="endless bodies"),
    pytest.param(Twist(lambda said: b"* 1 FETCH (UID 1 BODY[] {1073741824}\r\nx", stalls=True), id="a literal of 1 GB"),
    pytest.param(Twist(lambda said: b"* 1 FETCH (X {1000}\r\nx", stalls=True), id="a literal that stops"),
    pytest.param(Twist(lambda said: b"* " + b"(" * 10_000 + b"\r\n" + said), id="a line of parentheses"),
    pytest.param(Twist(lambda said: said[:-5], stalls=True), id="silence before the end"),
    pytest.param(Twist(lambda said: b"", ends=True), id="hung up"),
    pytest.param(Twist(lambda said: b"* OK wait\r\n" * 1000, chunk=7, pause=TIMEOUT / 5), id="a slow drip"),
]
ANSWERS: Final = [0, 3]
"""The greeting, and what is asked of a mailbox."""


@pytest.fixture(scope="module", autouse=True)
def _without_tls() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("syncer.imap_connect._tls_context", lambda: cast("ssl.SSLContext", Plain()))
        patch.setattr(imap_client, "MAX_UNSOLICITED", LIMIT)
        patch.setattr(imap_responses, "MAX_LINE", LIMIT)
        yield


@pytest.fixture(scope="module")
def transcripts() -> dict[str, Transcript]:
    return {"Gmail": gmail_transcript(), "Outlook.com": outlook_transcript()}


@pytest.mark.parametrize("side", ["Gmail", "Outlook.com"])
@pytest.mark.parametrize("twist", FLOODS)
def test_nothing_without_end_costs_without_end(transcripts: dict[str, Transcript], side: str, twist: Twist) -> None:
    drive, check = (read_gmail, check_gmail) if side == "Gmail" else (write_outlook, check_outlook)
    for answer in ANSWERS:
        started = time.monotonic()
        tracemalloc.start()
        try:
            results = play(transcripts[side], {answer: twist}, lambda player: drive(player, TIMEOUT), check, SECONDS)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MEMORY, f"{peak >> 20} MiB at answer {answer}"
        assert time.monotonic() - started < SECONDS
        if twist.flood or twist.stalls:  # hung up on before the greeting, it connects again
            assert any(isinstance(result, SyncError) for result in results.values())
