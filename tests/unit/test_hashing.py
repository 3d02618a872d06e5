"""The hash is of the bytes as they are; the fingerprint is of what survives a server that rewrites them."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Iterator
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import Header
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from syncer.fingerprint import fingerprint, rfc822_sha256
from syncer.model import Fingerprint

RECEIVED = 1_700_000_000.0


def header(**changes: str) -> bytes:
    """A header with some fields changed; one with an empty value is left out."""
    fields = {
        "message_id": "<a.1@example.com>",
        "date": "Sun, 22 Nov 2026 12:00:00 +0100",
        "from": '"Doe, Jane" <Jane.Doe@Example.com>',
        "subject": "Quarterly figures and what they mean",
        **changes,
    }
    lines = [f"{name.replace('_', '-').title()}: {value}" for name, value in fields.items() if value]
    return "\r\n".join(["Received: from somewhere", *lines, "To: x@example.com", "", "body"]).encode()


def seen(**changes: str) -> Fingerprint:
    return fingerprint(header(**changes), RECEIVED)


# -- the hash


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"a\r\nb", id="CRLF"),
        pytest.param(b"a\nb", id="LF"),
        pytest.param(b"a\rb", id="CR"),
        pytest.param(b"a\0b", id="NUL"),
        pytest.param(bytes(range(256)), id="every octet"),
    ],
)
def test_the_hash_is_of_the_octets_as_they_are(raw: bytes) -> None:
    assert rfc822_sha256(raw) == hashlib.sha256(raw).hexdigest()
    assert rfc822_sha256(bytearray(raw)) == rfc822_sha256(raw)


def test_line_ends_make_a_difference_to_the_hash() -> None:
    assert len({rfc822_sha256(b"a\r\nb"), rfc822_sha256(b"a\nb"), rfc822_sha256(b"a\rb")}) == 3


@pytest.mark.corpus
def test_the_hash_of_real_mail_is_the_manifest_s(corpus: list[Path]) -> None:
    with (corpus[0].parent / "MANIFEST.tsv").open(encoding="utf-8", newline="") as manifest:
        sums = {row["file"]: row["sha256"] for row in csv.DictReader(manifest, delimiter="\t", quoting=csv.QUOTE_NONE)}
    assert {path.name: rfc822_sha256(path.read_bytes()) for path in corpus} == sums


# -- what a server may rewrite


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"subject": "Quarterly figures\r\n and what they mean"}, id="subject folded"),
        pytest.param({"subject": "Quarterly\r\n\tfigures and\r\n what they mean"}, id="subject folded elsewhere"),
        pytest.param({"subject": "=?utf-8?Q?Quarterly_figures_and_what_they_mean?="}, id="subject in quoted-printable"),
        pytest.param(
            {"subject": "=?utf-8?B?UXVhcnRlcmx5IGZpZ3VyZXMgYW5kIHdoYXQgdGhleSBtZWFu?="}, id="subject in base64"
        ),
        pytest.param(
            {"subject": "=?us-ascii?Q?Quarterly_figures?=\r\n =?iso-8859-1?Q?_and_what_they_mean?="},
            id="subject in two encoded-words",
        ),
        pytest.param({"from": "Jane.Doe@Example.com"}, id="display name gone"),
        pytest.param({"from": "<Jane.Doe@Example.com>"}, id="address in brackets only"),
        pytest.param(
            {"from": "Jane Doe <jane.doe@example.com>"}, id="another display name, letter case of the address"
        ),
        pytest.param({"from": "=?utf-8?Q?Doe=2C_Jane?= <Jane.Doe@Example.com>"}, id="display name encoded"),
        pytest.param({"from": "Doe, Jane <Jane.Doe@Example.com>"}, id="display name with its comma unquoted"),
        pytest.param({"from": '"Doe,\r\n Jane"\r\n <Jane.Doe@Example.com>'}, id="From folded"),
        pytest.param({"from": "Jane.Doe@Example.com (Doe, Jane)"}, id="display name as a comment"),
        pytest.param({"date": "Sun, 22 Nov 2026 11:00:00 +0000"}, id="date in UTC"),
        pytest.param({"date": "Sun, 22 Nov 2026 11:00:00 -0000"}, id="date in UTC, from no zone"),
        pytest.param({"date": "Sun, 22 Nov 2026 11:00:00 GMT"}, id="date in GMT"),
        pytest.param({"date": "22 Nov 2026 06:00:00 EST"}, id="date in a named zone, without its weekday"),
        pytest.param({"date": "Sun, 22 Nov 2026 12:00:00 +0100 (CET)"}, id="date with a comment"),
        pytest.param({"message_id": "\r\n <a.1@example.com>"}, id="Message-ID folded"),
    ],
)
def test_the_fingerprint_survives_what_a_server_rewrites(changes: dict[str, str]) -> None:
    assert seen(**changes) == seen()


def test_the_fingerprint_survives_other_line_ends_and_a_body_that_is_gone() -> None:
    assert fingerprint(header().replace(b"\r\n", b"\n"), RECEIVED) == seen()
    assert fingerprint(header().replace(b"\r\n", b"\r\r\n"), RECEIVED) == seen()
    assert fingerprint(header().replace(b"\r\n", b"\r"), RECEIVED) == seen()
    assert fingerprint(header().partition(b"\r\n\r\n")[0] + b"\r\n\r\n", RECEIVED) == seen()
    assert fingerprint(b"x-ms-exchange-imapappendstamp: server (15.20)\r\n" + header(), RECEIVED) == seen()


@pytest.mark.parametrize(
    ("subject", "rewritten"),
    [
        pytest.param("Gr\u00fc\u00dfe", "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", id="8-bit made an encoded-word"),
        pytest.param("=?iso-8859-1?Q?Gr=FC=DFe?=", "=?utf-8?B?R3LDvMOfZQ==?=", id="another charset"),
        pytest.param(
            "=?utf-8?q?Gr=C3?= =?utf-8?q?=BC=C3=9Fe?=", "=?utf-8?B?R3LDvMOfZQ==?=", id="a character cut in two"
        ),
        pytest.param(
            "\u00fcber =?utf-8?Q?=C3=9Fe?=", "=?utf-8?Q?=C3=BCber_=C3=9Fe?=", id="8-bit beside an encoded-word"
        ),
        pytest.param("\u20ac5 =?utf-8?Q?a?=", "=?utf-8?Q?=E2=82=AC5_a?=", id="more than Latin beside an encoded-word"),
    ],
)
def test_a_subject_is_the_same_in_every_encoding(subject: str, rewritten: str) -> None:
    assert seen(subject=subject).subject == seen(subject=rewritten).subject


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=60), st.integers(20, 76))
def test_any_subject_survives_being_encoded_and_folded_anew(subject: str, width: int) -> None:
    assume("=?" not in subject)
    rewritten = Header(subject, "utf-8", maxlinelen=width).encode(linesep="\r\n")
    assert seen(subject=rewritten).subject == seen(subject=subject).subject


@given(st.integers(300_000_000, 4_000_000_000), st.integers(-720, 840), st.integers(-720, 840))
def test_a_date_is_the_same_in_every_zone(moment: int, minutes: int, other: int) -> None:
    at = datetime.fromtimestamp(moment, UTC)
    here, there = (at.astimezone(timezone(timedelta(minutes=zone))) for zone in (minutes, other))
    assert seen(date=format_datetime(here)).date == seen(date=format_datetime(there)).date


@pytest.fixture
def _far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_far_from_utc")
@pytest.mark.parametrize("zone", ["", " -0000"], ids=["no zone", "an unknown zone"])
def test_a_date_without_a_zone_is_the_same_on_every_machine(zone: str) -> None:
    """A claim may be made in Lambda and looked for on a NAS."""
    assert seen(date=f"Sun, 22 Nov 2026 11:00:00{zone}").date == seen(date="Sun, 22 Nov 2026 11:00:00 +0000").date


# -- what is another message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"message_id": "<a.2@example.com>"}, "message_id", id="Message-ID"),
        pytest.param({"message_id": ""}, "message_id", id="no Message-ID"),
        pytest.param({"date": "Sun, 22 Nov 2026 12:00:01 +0100"}, "date", id="date, by a second"),
        pytest.param({"date": "Sun, 22 Nov 2026 12:00:00 +0000"}, "date", id="date, by its zone"),
        pytest.param({"date": ""}, "date", id="no date"),
        pytest.param({"date": "yesterday"}, "date", id="no date in form"),
        pytest.param({"from": '"Doe, Jane" <Jon.Doe@Example.com>'}, "sender", id="sender"),
        pytest.param({"from": ""}, "sender", id="no sender"),
        pytest.param({"subject": "Quarterly figures and what they hide"}, "subject", id="subject"),
        pytest.param({"subject": "quarterly figures and what they mean"}, "subject", id="letter case of the subject"),
        pytest.param({"subject": ""}, "subject", id="no subject"),
    ],
)
def test_a_real_difference_changes_the_fingerprint_in_one_place(changes: dict[str, str], field: str) -> None:
    changed = seen(**changes)
    assert changed != seen()
    assert replace(changed, **{field: getattr(seen(), field)}) == seen()


def test_another_time_of_arrival_is_another_fingerprint() -> None:
    assert fingerprint(header(), RECEIVED + 1) != seen()
    assert fingerprint(header(), RECEIVED + 0.5) == seen()


def test_a_message_of_no_octets_has_a_fingerprint_all_the_same() -> None:
    assert fingerprint(b"", RECEIVED).message_id == ""


# -- what a record must not hold


def test_a_fingerprint_holds_nothing_of_the_mail_but_its_message_id() -> None:
    made = seen()
    kept = " ".join(str(part) for part in astuple(made) if part != made.message_id).lower()
    for secret in ("jane", "doe", "example", "quarterly", "figures", "2026", "nov", "12:00"):
        assert secret not in kept
    assert all(len(digest) == 24 and int(digest, 16) >= 0 for digest in (made.date, made.sender, made.subject))


# -- what means harm


@pytest.mark.parametrize("octets", [10_000, 1_000_000])
@pytest.mark.parametrize("field", ["Message-ID", "Date", "From", "Subject"])
@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(b"(", id="comments nested for ever"),
        pytest.param(b":", id="groups nested for ever"),
        pytest.param(b"=?a?q?x", id="encoded-words without end"),
        pytest.param(b"=?utf-8?q?a?= ", id="many encoded-words"),
        pytest.param(b'"', id="quotes"),
        pytest.param(b"<", id="brackets"),
        pytest.param(b"@", id="at signs"),
        pytest.param(b"a@b,", id="many addresses"),
        pytest.param(b"9", id="digits"),
        pytest.param(b"\\", id="backslashes"),
        pytest.param(b"\r\n ", id="folds"),
        pytest.param(b"\0", id="NUL"),
    ],
)
def test_a_hostile_field_is_read_in_bounded_time_and_depth(field: str, pattern: bytes, octets: int) -> None:
    raw = field.encode() + b": " + pattern * (octets // len(pattern)) + b"\r\n\r\n"
    assert fingerprint(raw, RECEIVED).received_at == int(RECEIVED)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the codec unicode_escape complains of what it reads
@given(
    st.sampled_from([b"Date: ", b"From: ", b"Subject: ", b"Message-ID: "]),
    st.one_of(
        st.binary(max_size=80),
        st.text('=?utf-8qQbB_"<>@(),:;\\ Sun220:+aé', max_size=80).map(str.encode),
        st.tuples(
            st.sampled_from(
                ["utf-7", "idna", "punycode", "hex", "rot13", "unicode_escape", "undefined", "utf-16", "\0", "x" * 99]
            ),
            st.binary(max_size=30),
        ).map(lambda word: f"=?{word[0]}?q?".encode() + word[1] + b"?="),
    ),
)
def test_no_field_is_too_odd_for_a_fingerprint(name: bytes, value: bytes) -> None:
    assert fingerprint(name + value + b"\r\n\r\n", RECEIVED) == fingerprint(name + value + b"\r\n\r\n", RECEIVED)


@pytest.mark.corpus
def test_real_mail_keeps_its_fingerprint_when_only_its_header_is_served(corpus: list[Path]) -> None:
    """A look at the destination gets the header alone, with CRLF."""
    for path in corpus:
        raw = path.read_bytes()
        if b"\r" in raw.replace(b"\r\n", b"\n"):
            continue  # no server serves these line ends
        head = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0] + b"\n\n"
        assert fingerprint(head.replace(b"\n", b"\r\n"), RECEIVED) == fingerprint(raw, RECEIVED), path.name


@pytest.mark.parametrize("charset", ["unicode_escape", "raw-unicode-escape", "idna", "punycode", "undefined", "a=00b"])
def test_what_is_a_charset_to_python_alone_is_not_decoded(charset: str) -> None:
    encoded = fingerprint(f"Subject: =?{charset}?q?=5Cd?=\r\n\r\n".encode(), 0.0)
    assert encoded != fingerprint(b"Subject: \\d\r\n\r\n", 0.0)
