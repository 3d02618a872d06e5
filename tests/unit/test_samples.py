"""The demo's own mail is what its notes say, and a person's own mail is read as it lies in its files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from syncer.demo.samples import Sample, from_path, newcomers, samples

NOW = datetime(2026, 11, 22, 12, 0, 7, 123_456, tzinfo=timezone(timedelta(hours=-3)))
MAIL = b"From: a@example.org\r\nDate: Thu, 05 Nov 2026 09:15:30 +0100\r\nSubject: one\r\n\r\nText\r\n"
RECEIVED = (
    b"Received: by mx (id 1);\r\n Fri, 06 Nov 2026 10:00:00 -0800\r\n"
    b"Received: from far; Fri, 06 Nov 2026 09:00:00 -0800\r\n" + MAIL
)


def named(name: str) -> Sample:
    return next(sample for sample in samples(NOW) + newcomers(NOW) if sample.name == name)


# -- the samples ---------------------------------------------------------------------------------


def test_the_same_moment_gives_the_same_octets() -> None:
    assert samples(NOW) == samples(NOW)
    assert newcomers(NOW) == newcomers(NOW)


def test_there_are_some_of_every_kind_with_a_name_and_a_note_each() -> None:
    made = samples(NOW) + newcomers(NOW)
    assert len(samples(NOW)) >= 16
    assert len(newcomers(NOW)) == 3
    assert len({sample.name for sample in made}) == len(made)
    assert all(sample.note and re.fullmatch(r"[a-z0-9-]+", sample.name) for sample in made)
    assert len({sample.raw for sample in made}) == len(made)


def test_they_arrived_one_after_the_other_within_the_last_day() -> None:
    times = [sample.received_at for sample in samples(NOW)]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    assert timedelta() < NOW - times[-1] < NOW - times[0] < timedelta(hours=23)
    late = [sample.received_at for sample in newcomers(NOW)]
    assert times[-1] < late[0] < late[-1] <= NOW
    assert all(at.microsecond == 0 for at in times + late)


@pytest.mark.parametrize("make", [samples, newcomers])
def test_a_moment_without_a_zone_is_not_accepted(make: Callable[[datetime], list[Sample]]) -> None:
    with pytest.raises(ValueError, match="zone"):
        make(datetime(2026, 11, 22))  # noqa: DTZ001 - what must not be given


@pytest.mark.parametrize("sample", samples(NOW) + newcomers(NOW), ids=lambda sample: sample.name)
def test_every_sample_is_mail(sample: Sample) -> None:
    message = message_from_bytes(sample.raw, policy=policy.default)
    assert message["From"]
    assert parsedate_to_datetime(str(message["Date"])) == sample.received_at
    if sample.name not in ("header-only", "bare-lf"):
        assert b"\n" not in sample.raw.replace(b"\r\n", b"")
        assert b"\r\n\r\n" in sample.raw
    assert not [defect for part in message.walk() for defect in part.defects]


def test_message_ids_are_as_the_notes_say() -> None:
    counted = Counter(message_from_bytes(sample.raw)["Message-ID"] for sample in samples(NOW) + newcomers(NOW))
    assert counted.pop(None) == 2
    assert counted.pop("<twin@sender.example>") == 2
    assert set(counted.values()) == {1}
    assert any(str(identity).startswith("<!&!") for identity in counted)


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("plain", lambda raw: raw.isascii()),
        ("raw-utf8", lambda raw: "Grüße".encode() in raw and "🙂".encode() in raw),
        ("latin1", lambda raw: b"\xe9" in raw and not decodes(raw)),
        ("8bit-header", lambda raw: not raw.partition(b"\r\n\r\n")[0].isascii()),
        ("long-lines", lambda raw: lengths(raw)[-1] > 10_000 > lengths(raw)[-2] > 998),
        ("bare-lf", lambda raw: re.search(rb"[^\r]\n", raw) and re.search(rb"\r[^\n]", raw)),
        ("empty-body", lambda raw: raw.endswith(b"\r\n\r\n") and raw.count(b"\r\n\r\n") == 1),
        ("header-only", lambda raw: b"\r\n\r\n" not in raw),
        ("big", lambda raw: 2_000_000 < len(raw) < 4_000_000),
    ],
)
def test_what_is_special_about_a_sample_is_there(name: str, has: Callable[[bytes], object]) -> None:
    assert has(named(name).raw)


def decodes(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def lengths(raw: bytes) -> list[int]:
    return sorted(map(len, raw.split(b"\r\n")))


def test_texts_and_attachments_can_be_read() -> None:
    def read(name: str) -> list[object]:
        message = message_from_bytes(named(name).raw, policy=policy.default)
        return [part.get_content() for part in message.walk() if not part.is_multipart()]

    assert "Schöne Grüße" in str(read("quoted-printable")[0])
    assert "水曜日" in str(read("base64-japanese")[0])
    assert "hélas" in str(read("latin1")[0])
    assert "<b>bold</b>" in str(read("html-alternative")[1])
    text, picture, table = read("attachments")
    assert "attached" in str(text)
    assert isinstance(picture, bytes)
    assert picture.startswith(b"\x89PNG")
    assert "litres" in str(table)
    subject = message_from_bytes(named("base64-japanese").raw, policy=policy.default)["Subject"]
    assert "打ち合わせ" in str(subject)


# -- a person's own mail -------------------------------------------------------------------------


def test_a_folder_of_eml_files_is_read_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    odd = b"no header at all\nonly LF\0\xff"
    for name, octets in {
        "b.eml": MAIL,
        "a.EML": odd,
        "deep/er/c.eml": RECEIVED,
        "notes.txt": MAIL,
        "outlook.msg": MAIL,
        ".d.eml": MAIL,
        ".hidden/e.eml": MAIL,
    }.items():
        (tmp_path / name).write_bytes(octets)
    os.utime(tmp_path / "a.EML", (1_700_000_000, 1_700_000_000))
    assert [(sample.name, sample.raw, sample.received_at) for sample in from_path(tmp_path)] == [
        ("a.EML", odd, datetime.fromtimestamp(1_700_000_000, UTC)),
        ("b.eml", MAIL, datetime(2026, 11, 5, 8, 15, 30, tzinfo=UTC)),
        ("deep/er/c.eml", RECEIVED, datetime(2026, 11, 6, 18, 0, tzinfo=UTC)),
    ]


def test_a_maildir_is_read_but_not_what_is_still_being_delivered(tmp_path: Path) -> None:
    for name in ("cur", "new", "tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"1.{name}:2,S").write_bytes(MAIL)
    assert [sample.name for sample in from_path(tmp_path)] == ["cur/1.cur:2,S", "new/1.new:2,S"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_an_mbox_is_taken_apart_octet_for_octet(tmp_path: Path, line_end: bytes) -> None:
    mails = [
        MAIL,
        b"Subject: two\r\n\r\n>From quoted, stays quoted\r\n",
        b"Subject: ends with an empty line\r\n\r\nText\r\n\r\n",
        b"Subject: the last\r\n\r\n8 bit: \xff\r\n",
    ]
    mails = [mail.replace(b"\r\n", line_end) for mail in mails]
    path = tmp_path / "old.mbox"
    path.write_bytes(b"".join(b"From a@b Thu Nov  5 09:15:30 2026" + line_end + mail + line_end for mail in mails))
    before = path.read_bytes()
    read = list(from_path(path))
    assert [sample.raw for sample in read] == mails
    assert [sample.name for sample in read] == [f"old.mbox#{number}" for number in (1, 2, 3, 4)]
    assert path.read_bytes() == before


def test_one_eml_file_is_one_mail(tmp_path: Path) -> None:
    (tmp_path / "one.eml").write_bytes(MAIL)
    assert [sample.raw for sample in from_path(tmp_path / "one.eml")] == [MAIL]


@pytest.mark.parametrize(
    "date",
    ["", "nonsense", "Thu, 05 Nov 1066 00:00:00 +0000", "Thu, 99 Nov 2026 00:00:00 +0000", "1 Jan 9999 23:59:59 -2359"],
)
def test_a_date_that_is_none_gives_way_to_the_files(tmp_path: Path, date: str) -> None:
    path = tmp_path / "one.eml"
    path.write_bytes(f"Received: nonsense\r\nDate: {date}\r\n\r\n".encode())
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert [sample.received_at.timestamp() for sample in from_path(path)] == [1_700_000_000]


@pytest.mark.parametrize("name", ["missing", "empty", "text.txt", "hollow.mbox"])
def test_a_path_without_mail_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no mail")
    (tmp_path / "hollow.mbox").touch()
    with pytest.raises(ValueError, match=f"{name} holds no mail"):
        list(from_path(tmp_path / name))


@pytest.mark.corpus
def test_the_corpus_is_read_as_it_lies_there(corpus: list[Path]) -> None:
    read = list(from_path(corpus[0].parent))
    assert [sample.name for sample in read] == [path.name for path in corpus]
    assert all(sample.raw == path.read_bytes() for sample, path in zip(read, corpus, strict=True))
    assert all(sample.received_at.tzinfo is not None for sample in read)
