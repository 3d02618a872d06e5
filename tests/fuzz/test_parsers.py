"""The pure parsers on anything: a value or a ValueError; and the stream cutter, whatever the chunks."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from syncer.fingerprint import fingerprint, is_placeholder, message_id, rfc822_sha256
from syncer.imap_responses import MAX_LINE, MAX_PARTS, ProtocolBroken, responses
from syncer.imap_utils import (
    decode_mailbox_name,
    encode_mailbox_name,
    parse_appenduid,
    parse_fetch,
    parse_internaldate,
    parse_list,
    parse_search,
    parse_status,
    response_code,
    safe_text,
)
from syncer.uid_set import MAX_UID
from tests.fuzz.player import MAILS, gmail_transcript, outlook_transcript
from tests.fuzz.strategies import changes, fragments
from tests.fuzz.strategies import responses as said
from tests.fuzz.tally import fuzz

pytestmark = pytest.mark.thorough

LIMIT: Final = 10_000
"""Octets of literals that one response may hold below."""


def cut(octets: bytes, chunks: Sequence[int], limit: int = LIMIT) -> tuple[list[list[bytes]], str]:
    """Return the responses in ``octets``, received in chunks of these sizes, and how they ended."""
    at = 0
    sizes = cycle(chunks)

    def receive(view: memoryview) -> int:
        nonlocal at
        count = min(len(view), next(sizes), len(octets) - at)
        if count == 0:
            raise EOFError
        view[:count] = octets[at : at + count]
        at += count
        return count

    found: list[list[bytes]] = []
    try:
        for parts in responses(receive, lambda: limit):
            found.append([bytes(part) for part in parts])  # noqa: PERF401 - what came before the end counts
    except EOFError:
        return found, "the end"
    except ProtocolBroken as broken:
        return found, str(broken)
    raise AssertionError("responses end only by an exception")


def test_the_chunks_make_no_difference() -> None:
    def check(drawn: tuple[bytes, list[int]]) -> None:
        octets, chunks = drawn
        found, end = cut(octets, chunks)
        assert (found, end) == cut(octets, [1 << 16])
        for parts in found:
            assert sum(map(len, parts[1::2])) <= LIMIT
            assert len(parts) <= 2 * MAX_PARTS + 1
            for line, literal in zip(parts[::2], parts[1::2], strict=False):
                size = re.search(rb"\{(\d+)\}\Z", line)
                assert size is not None
                assert int(size[1]) == len(literal)
        # Nothing is added and nothing lost but line ends, of which each line has one or two octets.
        held = sum(len(part) for parts in found for part in parts)
        lines = sum(len(parts[::2]) for parts in found)
        assert held + lines <= len(octets)

    stream = st.lists(fragments() | st.binary(max_size=40), max_size=12).map(b"\r\n".join)
    fuzz("stream cutter", st.tuples(stream, st.lists(st.integers(1, 50), min_size=1, max_size=5)), check, examples=400)


def test_a_line_of_a_server_is_read_or_refused() -> None:
    good = [line for told in (gmail_transcript(), outlook_transcript()) for line in told.values()]
    spoilt = st.tuples(st.sampled_from(good), changes(), changes()).map(lambda drawn: drawn[2](drawn[1](drawn[0])))

    def check(octets: bytes) -> None:
        found, _ = cut(octets + b"\r\n", [1 << 16])
        for parts in found:
            line = parts[0]
            for parse in (parse_status, parse_search, lambda line: parse_list([line]), parse_appenduid):
                read(parse, line)
            read(parse_list, parts)
            uids = read(parse_search, line)
            assert uids is None or not uids or 1 <= uids.lowest <= uids.highest <= MAX_UID
            copy = parse_appenduid(line)
            assert copy is None or (1 <= copy.uid <= MAX_UID and 1 <= copy.uidvalidity <= MAX_UID)
            assert len(response_code(line)[1]) <= 8192
            text = safe_text(line)
            assert len(text) <= 200
            assert text.isascii()
            assert text.isprintable()
            name = decode_mailbox_name(line.decode("latin-1"))
            with contextlib.suppress(UnicodeEncodeError):
                assert encode_mailbox_name(name).isascii()
            read(parse_internaldate, line.decode("latin-1"))
            items = read(parse_fetch, parts)
            for value in (items or {}).values():
                # A literal is handed on whole or not at all.
                assert not isinstance(value, bytearray) or value in parts[1::2]

    fuzz("parsers", spoilt | st.tuples(said(), fragments()).map(b"\r\n".join), check, examples=500)


def test_any_mail_has_a_fingerprint() -> None:
    name = st.sampled_from([b"Message-ID", b"Date", b"From", b"Subject", b"FROM ", b" From", b"X-A"])
    word = st.sampled_from(
        [
            *(
                b"<a@b>",
                b"=?utf-8?q?=ff?=",
                b"=?utf-7?b?/////?=",
                b"=?idna?q?xn--a?=",
                b"=?punycode?q?a-b?=",
                b"=?hex?q?a?=",
            ),
            *(
                b"=?unicode_escape?q?=5Cd?=",
                b"=?undefined?q?a?=",
                b"=?a=00b?q?a?=",
                b"=?utf-8?b?abc?=",
                b"=?rot13?q?a?=",
            ),
            *(
                b"Fri, 17 Jul 2026 02:44:25 +0000",
                b"1 Jan 0001 00:00:00 +9999",
                b"31 Dec 9999 23:59:60 -9999",
                b"99999999999",
            ),
            *(
                b'"',
                b"(",
                b")",
                b"((((",
                b"<",
                b">",
                b"@",
                b",",
                b";",
                b":",
                b"\\",
                b"\r\n ",
                b"\n\t",
                b"\r",
                b"\0",
                b"\xff\xfe",
            ),
        ]
    )
    value = st.lists(word | st.binary(max_size=12), max_size=12).map(b" ".join)
    field = st.tuples(name, value).map(lambda drawn: b"%s: %s\r\n" % drawn)
    mail = st.tuples(st.lists(field, max_size=6).map(b"".join), st.sampled_from([b"\r\n", b"\n", b""]), st.binary())
    spoilt = st.tuples(st.sampled_from(MAILS), changes(), changes()).map(lambda drawn: drawn[2](drawn[1](drawn[0])))

    def check(raw: bytes) -> None:
        seen = fingerprint(raw, 0.0)
        assert seen == fingerprint(bytearray(raw), 0.9)
        assert seen.message_id == message_id(raw)
        assert len(seen.message_id) <= 998
        assert len(rfc822_sha256(raw)) == 64
        is_placeholder(seen)

    fuzz("fingerprint", mail.map(b"".join) | spoilt, check, examples=500)


def read(parse: Callable[[Any], Any], what: Any) -> Any:
    try:
        return parse(what)
    except ValueError:
        return None


HOSTILE: Final = [
    pytest.param(parse_fetch, [b"* 1 FETCH (FLAGS " + b"(" * 400_000 + b")" * 400_000 + b")"], id="nested lists"),
    pytest.param(parse_fetch, [b"* 1 FETCH (FLAGS (" + b"a " * (1 << 22) + b"))"], id="an endless list"),
    pytest.param(parse_fetch, [b'* 1 FETCH (A "' + b"\\a" * (1 << 22) + b'")'], id="an endless string"),
    pytest.param(parse_fetch, [b"* 1 FETCH (" + b"A[" * (1 << 22)], id="endless sections"),
    pytest.param(parse_list, [b'* LIST () "/" "' + b"a" * MAX_LINE + b'"'], id="an endless name"),
    pytest.param(parse_list, [b"* LIST (" + b"(" * MAX_LINE], id="endless flags"),
    pytest.param(parse_list, [b'* LIST () "/" ' + b"&" * MAX_LINE], id="endless shifts"),
    pytest.param(parse_status, b"* STATUS x (" + b"A" * MAX_LINE + b")", id="an endless item"),
    pytest.param(safe_text, b'"a@' * (MAX_LINE // 3), id="endless addresses"),
    pytest.param(response_code, b"[" + b"A" * MAX_LINE, id="an endless code"),
]


def test_the_longest_answer_to_a_search_costs_five_times_its_size() -> None:
    """A million UIDs, no two of them neighbours: none is joined with another."""
    line = b"* SEARCH " + b" ".join(b"%d" % uid for uid in range(1, 2_200_000, 2))
    assert 0.9 * MAX_LINE < len(line) < MAX_LINE
    tracemalloc.start()
    try:
        uids = parse_search(line)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(uids) == 1_100_000
    assert peak < 5 * MAX_LINE


@pytest.mark.parametrize(("parse", "what"), HOSTILE)
def test_no_line_costs_more_than_some_times_its_own_size(parse: Callable[[Any], Any], what: Any) -> None:
    """At most MAX_LINE octets come in, and at most eight times as many are held while they are read."""
    tracemalloc.start()
    try:
        read(parse, what)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MAX_LINE
