"""The Message-ID is found in any header that mail was ever sent with, and in none that it was not."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.fingerprint import message_id

ID = "<a.1@example.com>"
LONGEST = 998


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        pytest.param(b"Message-ID: <a.1@example.com>\r\n\r\nbody", ID, id="as it should be"),
        pytest.param(b"Subject: x\r\nMessage-ID: <a.1@example.com>\r\nTo: b\r\n\r\n", ID, id="among other fields"),
        pytest.param(b"Message-ID: <a.1@example.com>", ID, id="no line end at all"),
        pytest.param(b"Message-ID:\r\n <a.1@example.com>\r\n\r\n", ID, id="folded before its value"),
        pytest.param(b"Message-ID:\r\n\t<a.1@\r\n example.com>\r\n\r\n", ID, id="folded within its value"),
        pytest.param(b"Message-ID: <a.1@example.com>  \r\n\r\n", ID, id="spaces behind it"),
        pytest.param(b"Message-ID:<a.1@example.com>\r\n\r\n", ID, id="no space behind the colon"),
        pytest.param(b"Message-ID : <a.1@example.com>\r\n\r\n", ID, id="space before the colon"),
        pytest.param(b"Message-ID\t: <a.1@example.com>\r\n\r\n", ID, id="tab before the colon"),
        pytest.param(b"MESSAGE-id: <a.1@example.com>\r\n\r\n", ID, id="odd letter case"),
        pytest.param(b"Message-Id: <A.1@Example.com>\r\n\r\n", "<A.1@Example.com>", id="letter case of the value kept"),
        pytest.param(b"Subject: x\nMessage-ID: <a.1@example.com>\n\nbody", ID, id="LF only"),
        pytest.param(b"Subject: x\nMessage-ID:\n <a.1@example.com>\n\nbody", ID, id="LF only, folded"),
        pytest.param(b"Subject: x\rMessage-ID: <a.1@example.com>\r\rbody", ID, id="CR only"),
        pytest.param(b"Subject: x\rMessage-ID:\r <a.1@example.com>\r\rbody\nwith LF", ID, id="CR only, LF in the body"),
        pytest.param(b"Subject: x\r\r\nMessage-ID: <a.1@example.com>\r\r\n\r\r\nbody", ID, id="CR CR LF"),
        pytest.param(b"Subject: x\r\nMessage-ID: <a.1@example.com>\nTo: b\r\n\r\n", ID, id="CRLF and LF mixed"),
        pytest.param(b"From a@b Sun Nov 22 2026\r\nMessage-ID: <a.1@example.com>\r\n\r\n", ID, id="an mbox From_ line"),
        pytest.param(b">From a@b Sun\nMessage-ID: <a.1@example.com>\n\n", ID, id="a quoted mbox From_ line"),
        pytest.param(b"not a field\r\nMessage-ID: <a.1@example.com>\r\n\r\n", ID, id="behind a broken line"),
        pytest.param(b"Message-ID: <a.1@example.com>\r\nMessage-ID: <b@c>\r\n\r\n", ID, id="several: the first"),
        pytest.param(b"Message-ID:\r\nMessage-ID: <b@c>\r\n\r\n", "", id="several, and the first is empty"),
        pytest.param(b"Message-ID: <\xc3\xa4@b>\r\n\r\n", "<\u00e4@b>", id="8-bit, UTF-8"),
        pytest.param(b"Message-ID: <\xe4@b>\r\n\r\n", "<\u00e4@b>", id="8-bit, not UTF-8"),
        pytest.param(b"Message-ID: no brackets\r\n\r\n", "nobrackets", id="no angle brackets"),
        pytest.param(b"Message-ID: <!&!AAAA@b>\r\n\r\n", "<!&!AAAA@b>", id="as Outlook makes them"),
    ],
)
def test_a_message_id_is_found(raw: bytes, found: str) -> None:
    assert message_id(raw) == found
    assert message_id(bytearray(raw)) == found


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="no message"),
        pytest.param(b"Subject: x\r\n\r\nbody", id="missing"),
        pytest.param(b"Message-ID:\r\n\r\n", id="empty"),
        pytest.param(b"Message-ID:  \t \r\n\r\n", id="white space only"),
        pytest.param(b"Message-ID:\r\n \r\n \t\r\n\r\n", id="folded white space only"),
        pytest.param(b"Subject: x\r\n\r\nMessage-ID: <body@b>\r\n", id="in the body, CRLF"),
        pytest.param(b"Subject: x\n\nMessage-ID: <body@b>\n", id="in the body, LF"),
        pytest.param(b"Subject: x\r\rMessage-ID: <body@b>\r", id="in the body, CR"),
        pytest.param(b"Subject: x\r\r\n\r\r\nMessage-ID: <body@b>\r\r\n", id="in the body, CR CR LF"),
        pytest.param(b"Subject: x\r\n Message-ID: <folded@b>\r\n\r\n", id="in another field's continuation"),
        pytest.param(b"X-Message-ID: <x@b>\r\n\r\n", id="another field whose name ends so"),
        pytest.param(b"Message-ID-Hash: <x@b>\r\n\r\n", id="another field whose name begins so"),
        pytest.param(b"In-Reply-To: <x@b>\r\n\r\n", id="another field with such a value"),
    ],
)
def test_no_message_id_is_found_where_there_is_none(raw: bytes) -> None:
    assert message_id(raw) == ""


@pytest.mark.parametrize("length", [LONGEST - 1, LONGEST, LONGEST + 1, 100_000])
def test_a_message_id_is_bounded(length: int) -> None:
    value = "<" + "a" * (length - 1)
    assert message_id(f"Message-ID: {value}\r\n\r\n".encode()) == value[:LONGEST]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"X-Field: value\r\n", id="fields"),
        pytest.param(b"x" * 1024, id="one line"),
        pytest.param(b"\r", id="nothing but CR"),
        pytest.param(b" \r\n", id="nothing but continuations"),
        pytest.param(b"Message-ID\t", id="nothing but the field's name"),
    ],
)
def test_a_header_of_a_hundred_megabytes_is_searched_only_at_its_beginning(line: bytes) -> None:
    header = line * (100_000_000 // len(line)) + b"\r\nMessage-ID: <too-late@b>\r\n\r\n"
    assert message_id(header) == ""
    assert message_id(b"Message-ID: <a.1@example.com>\r\n" + header) == ID


@given(st.binary(max_size=300))
def test_no_octets_are_too_odd_to_be_searched(raw: bytes) -> None:
    assert not any(c.isspace() for c in message_id(raw))
    assert not any(c.isspace() for c in message_id(b"Message-ID:" + raw))


@given(st.lists(st.sampled_from(["\r\n ", "\r\n\t", " ", "\t"]), max_size=6), st.sampled_from(["\r\n", "\n", "\r"]))
def test_folding_makes_no_difference(folds: list[str], line_end: str) -> None:
    value = "<a." + "".join(folds) + "1@example.com>"
    raw = f"Subject: x\r\nMessage-ID:{value}\r\n\r\nbody".replace("\r\n", line_end)
    assert message_id(raw.encode()) == ID


@pytest.mark.corpus
def test_a_message_id_is_found_in_real_mail_exactly_where_there_is_one(corpus: list[Path]) -> None:
    with (corpus[0].parent / "MANIFEST.tsv").open(encoding="utf-8", newline="") as manifest:
        has_one = {
            row["file"]: row["has_message_id"] == "yes" or row["has_message_id"].startswith("multiple:")
            for row in csv.DictReader(manifest, delimiter="\t", quoting=csv.QUOTE_NONE)
        }
    assert len(corpus) == len(has_one) > 0
    found = {path.name: bool(message_id(path.read_bytes())) for path in corpus}
    assert found == has_one
