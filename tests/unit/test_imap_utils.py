"""The words of IMAP, from servers that keep to the RFC, from those that do not, and from those that mean harm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.imap_utils import (
    decode_mailbox_name,
    encode_mailbox_name,
    format_internaldate,
    format_search_date,
    number,
    parse_appenduid,
    parse_fetch,
    parse_internaldate,
    parse_list,
    parse_search,
    parse_status,
    quote,
    response_code,
    safe_text,
)
from syncer.model import CopyUid
from syncer.uid_set import MAX_UID, UidSet

DEEP = 10_000

# -- text for logs


@pytest.mark.parametrize(
    ("said", "safe"),
    [
        pytest.param("Command Argument Error. 11", "Command Argument Error. 11", id="plain words"),
        pytest.param(
            "Request is throttled. Suggested Backoff Time: 299961 milliseconds",
            "Request is throttled. Suggested Backoff Time: 299961 milliseconds",
            id="numbers that are needed",
        ),
        pytest.param(b"[ALERT] ann@example.com is locked", "[ALERT] <address> is locked", id="an address"),
        pytest.param("for <ann@example.com>", "for <<address>>", id="an address in brackets"),
        pytest.param("see ann%40example.com?x", "see <address>", id="an address in a URL"),
        pytest.param('to "ann b"@example.com', "to <address>", id="an address with a quoted local part"),
        pytest.param("o'hara@example.com.", "<address>", id="an address with an apostrophe"),
        pytest.param("Bearer " + "a1B2" * 8, "Bearer <...>", id="a token of 32 characters"),
        pytest.param("Bearer " + "a1B2" * 7, "Bearer " + "a1B2" * 7, id="too short for a token"),
        pytest.param("M.C5_BAY.0.U.-Cg!a*b$c*d!e" + "f$" * 9, "<...>", id="a token as Microsoft makes them"),
        pytest.param("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "<...>", id="a JSON web token"),
        pytest.param(b"caf\xc3\xa9\r\n\x00\x1b[31m", "caf??????[31m", id="control characters and other octets"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_what_a_server_says_is_made_fit_for_a_log_line(said: str | bytes, safe: str) -> None:
    assert safe_text(said) == safe


def test_long_words_of_a_server_are_cut() -> None:
    assert safe_text("no " * 1000) == ("no " * 1000)[:197] + "..."
    assert safe_text("no more", limit=7) == "no more"
    assert len(safe_text("word " * 50, limit=20)) == 20


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param("tokentokentokentokentokentokentoken", id="token"),
        pytest.param("canaryaddress@example.com", id="address"),
    ],
)
def test_no_part_of_a_secret_is_left_where_a_long_text_is_cut(secret: str) -> None:
    for before in range(740, 820):
        safe = safe_text("x" * before + " " + secret + " and so on")
        assert "tok" not in safe
        assert "can" not in safe


def test_a_long_text_without_a_space_is_one_long_token() -> None:
    assert safe_text("x" * 5000) == "<...>"


TOKENS = st.text("ABCxyz019_-+/=.~!*$%", min_size=32, max_size=90)
LOCAL_PARTS = st.from_regex(r"[a-z0-9!#$&'*+/=?^_`{|}~.-]{1,64}", fullmatch=True)
WORDS = st.text(st.characters(exclude_characters="@"), max_size=30)


@given(WORDS, TOKENS, WORDS, LOCAL_PARTS, WORDS, st.integers(20, 300))
def test_no_token_and_no_address_comes_through_whatever_stands_beside_it(
    before: str, token: str, between: str, local: str, after: str, limit: int
) -> None:
    said = f"{before} {token} {between} {local}@canary.example {after}"
    safe = safe_text(said, limit)
    assert len(safe) <= limit
    assert token not in safe
    assert re.search(r"[A-Za-z0-9]{32}", safe) is None
    assert "@" not in safe
    assert all(" " <= c <= "~" for c in safe)


# -- arguments


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        pytest.param("Gmail", b'"Gmail"', id="a word"),
        pytest.param("", b'""', id="nothing"),
        pytest.param('a"b\\c', b'"a\\"b\\\\c"', id="quotes and backslashes"),
        pytest.param("a b{5}", b'"a b{5}"', id="what looks like a literal"),
    ],
)
def test_a_text_is_quoted(text: str, quoted: bytes) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\0b", "Gr\u00f6\u00dfe"], ids=["CR", "LF", "NUL", "not ASCII"])
def test_what_would_break_out_of_a_quoted_string_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not fit"):
        quote(text)


# -- mailbox names


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        pytest.param("Gmail", "Gmail", id="ASCII"),
        pytest.param("Größe", "Gr&APYA3w-e", id="umlauts"),
        pytest.param("Entwürfe", "Entw&APw-rfe", id="one umlaut"),
        pytest.param("R&D", "R&-D", id="an ampersand"),
        pytest.param("受信", "&U9dP4Q-", id="nothing in ASCII"),
        pytest.param("&受-", "&-&U9c--", id="ampersand, other, hyphen"),
        pytest.param("📬/in", "&2D3c7A-/in", id="beyond the basic plane"),
        pytest.param("a\tb", "a&AAk-b", id="a control character"),
        pytest.param("", "", id="no name at all"),
    ],
)
def test_mailbox_names_travel_in_modified_utf7(name: str, encoded: str) -> None:
    assert encode_mailbox_name(name) == encoded
    assert decode_mailbox_name(encoded) == name


@given(st.text())
def test_every_mailbox_name_comes_back_as_it_left(name: str) -> None:
    encoded = encode_mailbox_name(name)
    assert all(" " <= c <= "~" for c in encoded)
    assert decode_mailbox_name(encoded) == name


@pytest.mark.parametrize(
    "name",
    ["&", "a&b", "&AAAA", "&A-", "&AA-", "&2D0-", "&!-", "Gr\u00f6\u00dfe"],
    ids=["lone &", "& within", "no end", "too short", "half a unit", "half a pair", "no base64", "8-bit"],
)
def test_a_name_that_is_no_modified_utf7_stays_as_it_is(name: str) -> None:
    assert decode_mailbox_name(name) == name


@given(st.text())
def test_no_mailbox_name_of_a_server_is_too_odd_to_decode(name: str) -> None:
    decode_mailbox_name(name)


# -- INTERNALDATE


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("22-Nov-2026 12:00:00 +0000", 1795348800.0, id="UTC"),
        pytest.param(" 1-Jan-2026 00:00:00 +0100", 1767222000.0, id="a day padded with a space"),
        pytest.param("01-Jan-2026 00:00:00 -0130", 1767231000.0, id="west of Greenwich"),
        pytest.param("31-Dec-2016 23:59:60 +0000", 1483228799.0, id="a leap second"),
        pytest.param("01-Jan-1969 00:00:00 +0000", -31536000.0, id="before the epoch"),
        pytest.param("29-Feb-2024 00:00:00 +0000", 1709164800.0, id="a leap day"),
    ],
)
def test_an_internaldate_is_a_moment(text: str, moment: float) -> None:
    assert parse_internaldate(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("22-Nov-2026", id="no time"),
        pytest.param("22-Nov-2026 12:00:00", id="no zone"),
        pytest.param("22-Foo-2026 12:00:00 +0000", id="no month"),
        pytest.param("30-Feb-2026 12:00:00 +0000", id="no day"),
        pytest.param("29-Feb-2023 12:00:00 +0000", id="no leap year"),
        pytest.param("22-Nov-0000 12:00:00 +0000", id="no year"),
        pytest.param("22-Nov-2026 24:00:00 +0000", id="no hour"),
        pytest.param("22-Nov-2026 12:60:00 +0000", id="no minute"),
        pytest.param("22-Nov-2026 12:00:00 +9999", id="no zone on Earth"),
        pytest.param("22-Nov-2026 12:00:00 +0000 ", id="something behind it"),
        pytest.param('"22-Nov-2026 12:00:00 +0000"', id="still quoted"),
        pytest.param("\u0662\u0662-Nov-2026 12:00:00 +0000", id="digits of another script"),
    ],
)
def test_what_is_no_internaldate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_internaldate(text)


@given(st.integers(-62135596800, 253402300799))
def test_a_moment_comes_back_from_its_internaldate(moment: int) -> None:
    assert parse_internaldate(format_internaldate(float(moment))) == moment


@given(st.text(max_size=40))
def test_no_internaldate_of_a_server_does_worse_than_be_refused(text: str) -> None:
    try:
        parse_internaldate(text)
    except ValueError:
        return


@given(
    st.integers(0, 31),
    st.sampled_from(["Jan", "Feb", "Dec"]),
    st.integers(0, 9999),
    st.integers(0, 99),
    st.integers(0, 9999),
    st.sampled_from("+-"),
)
def test_an_internaldate_in_form_is_read_or_refused(
    day: int, month: str, year: int, part: int, zone: int, sign: str
) -> None:
    text = f"{day:02d}-{month}-{year:04d} {part:02d}:{part:02d}:{part:02d} {sign}{zone:04d}"
    try:
        parse_internaldate(text)
    except ValueError:
        return


def test_a_search_date_is_the_day_in_utc() -> None:
    assert format_search_date(1795348800.0) == "22-Nov-2026"
    assert format_search_date(1767225600.0) == "1-Jan-2026"
    assert format_search_date(-62135596800.0) == "1-Jan-0001"


# -- response codes and numbers


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(b"[UIDNEXT 12] Predicted next UID", ("UIDNEXT", b"12"), id="with an argument"),
        pytest.param(b"[TRYCREATE] Folder is not found.", ("TRYCREATE", b""), id="without one"),
        pytest.param(b"[throttled] wait", ("THROTTLED", b""), id="in lower case"),
        pytest.param(b"[BADCHARSET (US-ASCII UTF-8)] no", ("BADCHARSET", b"(US-ASCII UTF-8)"), id="a list"),
        pytest.param(b"[UIDNEXT 12", ("", b""), id="without its end"),
        pytest.param(b"done [UIDNEXT 12]", ("", b""), id="not at the beginning"),
        pytest.param(b"[] nothing", ("", b""), id="empty"),
        pytest.param(b"[" + b"A" * 65 + b"] long", ("", b""), id="a name without measure"),
        pytest.param(b"[A " + b"x" * 9000 + b"] long", ("", b""), id="an argument without measure"),
        pytest.param(b"", ("", b""), id="no text"),
    ],
)
def test_a_response_code_is_read(text: bytes, code: tuple[str, bytes]) -> None:
    assert response_code(text) == code


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        pytest.param(b"[APPENDUID 7 12] APPEND completed.", CopyUid(7, 12), id="as Outlook.com says it"),
        pytest.param(b"[appenduid 1 4294967295] ok", CopyUid(1, MAX_UID), id="the highest UID"),
        pytest.param(b"APPEND completed.", None, id="not told (UIDNOTSTICKY)"),
        pytest.param(b"[UIDNEXT 13] done", None, id="another code"),
        pytest.param(b"[APPENDUID 0 12] done", None, id="UIDVALIDITY zero"),
        pytest.param(b"[APPENDUID 7 0] done", None, id="UID zero"),
        pytest.param(b"[APPENDUID 7 4294967296] done", None, id="above 32 bits"),
        pytest.param(b"[APPENDUID 7 12:13] done", None, id="two UIDs for one message"),
        pytest.param(b"[APPENDUID 7] done", None, id="half of it"),
        pytest.param(b"[APPENDUID -7 12] done", None, id="a sign"),
    ],
)
def test_appenduid_tells_where_the_copy_is_or_nothing(text: bytes, copy: CopyUid | None) -> None:
    assert parse_appenduid(text) == copy


def test_a_number_is_digits_up_to_the_highest() -> None:
    assert number(b"4294967295") == MAX_UID
    assert number(b"18446744073709551615", 2**64 - 1) == 2**64 - 1


@pytest.mark.parametrize(
    "digits",
    [b"", b"-1", b"+1", b" 1", b"1.0", b"0x1", b"1_0", b"4294967296", b"9" * 5000, b"\xb2"],
    ids=["nothing", "minus", "plus", "space", "point", "hex", "underscore", "too high", "endless", "superscript"],
)
def test_what_is_no_number_is_refused(digits: bytes) -> None:
    with pytest.raises(ValueError, match="not a number"):
        number(digits)


# -- STATUS, LIST, SEARCH


@pytest.mark.parametrize(
    ("line", "items"),
    [
        pytest.param(
            b'* STATUS "Gmail" (UIDNEXT 12 UIDVALIDITY 7)', {"UIDNEXT": 12, "UIDVALIDITY": 7}, id="as it should be"
        ),
        pytest.param(b"* STATUS Gmail (uidnext 12)", {"UIDNEXT": 12}, id="an atom, items in lower case"),
        pytest.param(b'* STATUS "a (UIDNEXT 5) \\"b" (UIDNEXT 12) ', {"UIDNEXT": 12}, id="a name with brackets"),
        pytest.param(b" (MESSAGES 3 UIDNEXT 12)", {"MESSAGES": 3, "UIDNEXT": 12}, id="after a name as literal"),
        pytest.param(b"* STATUS Gmail ()", {}, id="no items"),
    ],
)
def test_status_is_read(line: bytes, items: dict[str, int]) -> None:
    assert parse_status(line) == items


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"* STATUS Gmail", id="no list"),
        pytest.param(b'* STATUS "a (b)" ', id="a list only in the name"),
        pytest.param(b"* STATUS Gmail (UIDNEXT 12", id="a list without its end"),
        pytest.param(b"* STATUS Gmail (UIDNEXT 99999999999999999999999)", id="a number without measure"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"* STATUS a (" + b"A" * (64 << 10) + b")", id="items without measure"),
    ],
)
def test_a_broken_status_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_status(line)


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        pytest.param([b'* LIST (\\HasNoChildren) "/" "Gmail"'], ("Gmail", "/"), id="quoted"),
        pytest.param([b'* LIST () "/" INBOX'], ("INBOX", "/"), id="an atom"),
        pytest.param([b'* list () nil "flat"'], ("flat", None), id="without levels, in lower case"),
        pytest.param([b'* LIST () "." "a.b"'], ("a.b", "."), id="another delimiter"),
        pytest.param([b'* LIST () "\\\\" "a\\\\b"'], ("a\\b", "\\"), id="a backslash as delimiter"),
        pytest.param([b'* LIST () "/" "a \\"b\\" (c)"'], ('a "b" (c)', "/"), id="quotes in the name"),
        pytest.param([b'* LIST () "/" "Gr&APYA3w-e"'], ("Gr\u00f6\u00dfe", "/"), id="umlauts"),
        pytest.param([b'* LIST () "/" {5}', b'a"b c', b""], ('a"b c', "/"), id="a literal"),
        pytest.param([b'* LIST (\\Noselect) "/" ""'], ("", "/"), id="the root"),
        pytest.param([b'* LIST () "/" "a" ("OLDNAME" ("b"))'], ("a", "/"), id="extended data behind it (RFC 5258)"),
    ],
)
def test_list_is_read(parts: Sequence[bytes], found: tuple[str, str | None]) -> None:
    assert parse_list(parts) == found


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"* LIST", id="nothing"),
        pytest.param(b'* LIST (\\HasNoChildren "/" "a"', id="flags without their end"),
        pytest.param(b'* LIST () "ab" "a"', id="a delimiter of two characters"),
        pytest.param(b'* LIST () "/" "a', id="a name without its end"),
        pytest.param(b'* LIST () "/" "a\\"', id="a name whose end is escaped"),
        pytest.param(b'* LIST () "/" {5}', id="a literal that does not come"),
        pytest.param(b"* STATUS a (UIDNEXT 1)", id="another response"),
        pytest.param(b'* LIST () "/" "' + b"a" * (64 << 10) + b'"', id="a name without measure"),
    ],
)
def test_a_broken_list_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_list([line])


@pytest.mark.parametrize(
    ("line", "uids"),
    [
        pytest.param(b"* SEARCH 2 84 882", [2, 84, 882], id="some"),
        pytest.param(b"* SEARCH", [], id="none"),
        pytest.param(b"* SEARCH ", [], id="none, and a space"),
        pytest.param(b"* search 3 1 2", [1, 2, 3], id="in no order"),
        pytest.param(b"* SEARCH 2 5 (MODSEQ 917162500)", [2, 5], id="with a MODSEQ (RFC 7162)"),
    ],
)
def test_search_is_read(line: bytes, uids: list[int]) -> None:
    assert parse_search(line) == UidSet(uids)


@pytest.mark.parametrize(
    "line",
    [b"* SEARCH 0", b"* SEARCH 1 x", b"* SEARCH 4294967296", b"* SEARCH 1:5", b"* SEARCH -1"],
    ids=["zero", "a word", "above 32 bits", "a range", "a sign"],
)
def test_a_search_that_names_no_uids_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_search(line)


def test_a_search_of_a_million_uids_is_read_as_one_range() -> None:
    line = b"* SEARCH " + b" ".join(b"%d" % uid for uid in range(1, 1_000_001))
    assert parse_search(line) == UidSet.of_range(1, 1_000_000)


# -- FETCH


@pytest.mark.parametrize(
    ("parts", "items"),
    [
        pytest.param([b"* 1 FETCH (UID 7)"], {"UID": "7"}, id="a number"),
        pytest.param([b"* 1 fetch (uid 7)"], {"UID": "7"}, id="in lower case"),
        pytest.param([b"* 1 FETCH ()"], {}, id="no item"),
        pytest.param(
            [b'* 1 FETCH (X-GM-MSGID 9007199254740993 UID 4 RFC822.SIZE 9 INTERNALDATE " 1-Jan-2026 00:00:00 +0000")'],
            {
                "X-GM-MSGID": "9007199254740993",
                "UID": "4",
                "RFC822.SIZE": "9",
                "INTERNALDATE": b" 1-Jan-2026 00:00:00 +0000",
            },
            id="a listing as Gmail answers it",
        ),
        pytest.param(
            [b"* 1 FETCH (BODY[] {5}", b"a\r\n)b", b" UID 7)"], {"BODY[]": b"a\r\n)b", "UID": "7"}, id="a literal"
        ),
        pytest.param([b"* 1 FETCH (BODY[] {0}", b"", b")"], {"BODY[]": b""}, id="an empty literal"),
        pytest.param([b"* 1 FETCH (BINARY[1] ~{2}", b"\0a", b")"], {"BINARY[1]": b"\0a"}, id="a literal8 (RFC 3516)"),
        pytest.param([b"* 1 FETCH (BODY[] NIL UID 7)"], {"BODY[]": None, "UID": "7"}, id="NIL"),
        pytest.param([b'* 1 FETCH (BODY[] "a\\"b\\\\" UID 7)'], {"BODY[]": b'a"b\\', "UID": "7"}, id="escaped quotes"),
        pytest.param([b'* 1 FETCH (BODY[]<0> "x")'], {"BODY[]<0>": b"x"}, id="a part of a body"),
        pytest.param(
            [b"* 1 FETCH (BODY[HEADER.FIELDS (MESSAGE-ID DATE)] {2}", b"\r\n", b" UID 7)"],
            {"BODY[HEADER.FIELDS (MESSAGE-ID DATE)]": b"\r\n", "UID": "7"},
            id="header fields",
        ),
        pytest.param(
            [b"* 1 FETCH (BODY[] {1}", b"a", b" BODY[TEXT] {1}", b"b", b")"],
            {"BODY[]": b"a", "BODY[TEXT]": b"b"},
            id="two literals",
        ),
        pytest.param(
            [b"* 1 FETCH (FLAGS (\\Seen $MDNSent) UID 7)"], {"FLAGS": ["\\Seen", "$MDNSent"], "UID": "7"}, id="flags"
        ),
        pytest.param(
            [b'* 1 FETCH (X-GM-LABELS ("\\\\Inbox" NIL {3}', b"a)b", b' "c d") UID 7)'],
            {"X-GM-LABELS": ["\\Inbox", "NIL", "a)b", "c d"], "UID": "7"},
            id="a list of strings and a literal",
        ),
        pytest.param([b"* 1 FETCH (  UID 7  )"], {"UID": "7"}, id="more spaces than needed"),
        pytest.param([b"* 1 FETCH (UID 7 UID 7)"], {"UID": "7"}, id="one item twice"),
    ],
)
def test_fetch_is_read(parts: Sequence[bytes], items: dict[str, Any]) -> None:
    assert parse_fetch(parts) == items


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"* 1 EXISTS"], id="another response"),
        pytest.param([b"* 12345678901 FETCH (UID 7)"], id="a sequence number without measure"),
        pytest.param([b"* 1 FETCH (UID 7"], id="no end"),
        pytest.param([b"* 1 FETCH (UID"], id="no value"),
        pytest.param([b"* 1 FETCH (UID )"], id="an empty value"),
        pytest.param([b'* 1 FETCH (BODY[] "abc)'], id="a quoted string without its end"),
        pytest.param([b'* 1 FETCH (BODY[] "abc\\'], id="a quoted string that ends in a backslash"),
        pytest.param([b"* 1 FETCH (BODY[] {5}"], id="a literal that does not come"),
        pytest.param([b"* 1 FETCH (BODY[] {5}", b"abcde"], id="nothing behind the literal"),
        pytest.param([b"* 1 FETCH (BODY[] {5} UID 7)", b"abcde", b")"], id="a literal in the middle of a line"),
        pytest.param([b"* 1 FETCH (BODY[] {x}", b"abcde", b")"], id="a literal without its length"),
        pytest.param([b"* 1 FETCH (FLAGS (\\Seen UID 7"], id="a list without its end"),
        pytest.param([b"* 1 FETCH (" + b"A" * 65 + b" 7)"], id="a name without measure"),
        pytest.param([b"* 1 FETCH (BODY[" + b"A" * 513 + b"] 7)"], id="a section without measure"),
        pytest.param([b"* 1 FETCH (" + b"(" * DEEP], id="a list for a name"),
        pytest.param([b"* 1 FETCH (UID 7 UID 8)"], id="two UIDs"),
        pytest.param([b"* 1 FETCH (BODY[] {1}", b"a", b" BODY[] {1}", b"b", b" UID 7)"], id="two bodies"),
        pytest.param([b"* 1 FETCH (UID 7 BODY[] {3}", b"abc", b") and more)"], id="a literal longer than announced"),
        pytest.param([b"* 1 FETCH (UID 7) {1}", b"a", b")"], id="a literal behind the end"),
        pytest.param([b"* 1 FETCH (FLAGS (" + b"a " * (1 << 19) + b"))"], id="a list without measure"),
    ],
)
def test_a_broken_fetch_is_refused(parts: Sequence[bytes]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_fetch(parts)


def test_a_list_ten_thousand_deep_is_read_flat() -> None:
    line = b"* 1 FETCH (BODYSTRUCTURE " + b"(" * DEEP + b"x" + b")" * DEEP + b" UID 7)"
    assert parse_fetch([line]) == {"BODYSTRUCTURE": ["x"], "UID": "7"}


def test_a_list_ten_thousand_deep_without_its_end_is_refused() -> None:
    with pytest.raises(ValueError, match="without its end"):
        parse_fetch([b"* 1 FETCH (BODYSTRUCTURE " + b"(" * DEEP + b"x" + b")" * (DEEP - 1)])


def test_a_literal_is_handed_on_and_not_copied() -> None:
    body = bytearray(b"x" * 1000)
    assert parse_fetch([b"* 1 FETCH (BODY[] {1000}", body, b")"])["BODY[]"] is body


LINES = st.one_of(
    st.binary(max_size=60),
    st.text('(){}"\\ ~[]<>*123 AUIDFETCHBODYNIL', max_size=60).map(lambda text: text.encode()),
)


@given(st.lists(LINES, min_size=1, max_size=4))
def test_no_line_of_a_server_does_worse_than_be_refused(lines: list[bytes]) -> None:
    for parse in (parse_fetch, parse_list):
        for first in (b"", b"* 1 FETCH (", b"* 1 FETCH (BODY[] ", b'* LIST () "/" '):
            try:
                parse([first + lines[0], *lines[1:]])
            except ValueError:
                continue
    for parse_line in (parse_status, parse_search):
        for first in (b"", b"* STATUS a (UIDNEXT ", b"* SEARCH "):
            try:
                parse_line(first + lines[0])
            except ValueError:
                continue
    response_code(lines[0])
    parse_appenduid(b"[APPENDUID " + lines[0])
