"""Mail to measure with: the same every time, of everyday shape, and a check that a copy is exact."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from tests.imap.dovecot import Stored

SEED = 20260717
FIRST_ARRIVAL = 1_767_225_600  # 2026-01-01 00:00 UTC; one message each 97 seconds
WORDS = [
    *("the", "of", "and", "to", "in", "is", "you", "that", "it", "he"),
    *("was", "for", "on", "are", "as", "with", "his", "they", "be", "at"),
    *("one", "have", "this", "from", "or", "had", "by", "hot", "word", "but"),
    *("what", "some", "we", "can", "out", "other", "were", "all", "there", "when"),
]


def small(count: int, first: int = 1) -> Iterator[tuple[bytes, str]]:
    """Yield everyday messages of 9 to 13 KB, numbered from ``first``, and when each arrived."""
    for number in range(first, first + count):
        yield _numbered(number, lambda chance: int(10_900 * chance.uniform(0.8, 1.2)))


def attachments(count: int) -> Iterator[tuple[bytes, str]]:
    """Yield messages of 0.1 to 2 MB, 0.6 MB in the mean."""
    for number in range(1, count + 1):
        yield _numbered(number, lambda chance: int(100_000 + 1_900_000 * chance.random() ** 2.8))


def large(count: int) -> Iterator[tuple[bytes, str]]:
    """Yield messages of 20 MB."""
    for number in range(1, count + 1):
        yield _numbered(number, lambda _: 20_000_000)


def _numbered(number: int, size: Callable[[random.Random], int]) -> tuple[bytes, str]:
    """Return one message, the same for the same number, and when it arrived."""
    chance = random.Random(SEED + number)
    octets = size(chance)
    return _message(chance, number, octets), _internaldate(FIRST_ARRIVAL + 97 * number)


def _message(chance: random.Random, number: int, size: int) -> bytes:
    head = (
        f"Return-Path: <writer-{number % 50}@sender.example>\r\n"
        f"Received: from mail.sender.example (mail.sender.example [192.0.2.{number % 256}])\r\n"
        f"\tby mx.mail.example with ESMTPS id {chance.getrandbits(64):016x}\r\n"
        f"From: Writer {number % 50} <writer-{number % 50}@sender.example>\r\n"
        f"To: bench@mail.example\r\n"
        f"Subject: Message {number}: {' '.join(chance.choices(WORDS, k=6))}\r\n"
        f"Message-ID: <{number}.{chance.getrandbits(48):x}@sender.example>\r\n"
        "MIME-Version: 1.0\r\n"
    )
    if number % 4 and size < 50_000:
        head += "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        body = "".join(_lines(chance, size - len(head)))
    else:
        head += 'Content-Type: application/pdf; name="report.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        octets = chance.randbytes((size - len(head)) * 3 // 4)
        body = base64.encodebytes(octets).decode().replace("\n", "\r\n")
    return (head + body).encode()


def _lines(chance: random.Random, size: int) -> Iterator[str]:
    while size > 0:
        line = " ".join(chance.choices(WORDS, k=chance.randint(5, 14))) + (" äöü" if size % 7 == 0 else "") + "\r\n"
        size -= len(line)
        yield line


def _internaldate(when: int) -> str:
    return time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(when))


def inventory(messages: Iterable[Stored], *, without_tuid: bool = False) -> Counter[tuple[str, float]]:
    """Return what a mailbox holds as a multiset: SHA-256 of the bytes, and the second of arrival.

    ``without_tuid`` leaves out the one header line that mbsync adds, X-TUID.
    """
    return Counter((_digest(message.raw, without_tuid), _arrival(message.internaldate)) for message in messages)


def _digest(raw: bytes, without_tuid: bool) -> str:
    if without_tuid:
        raw = re.sub(rb"(?m)^X-TUID: [^\r\n]*\r\n", b"", raw, count=1)
    return hashlib.sha256(raw).hexdigest()


def _arrival(internaldate: str) -> float:
    return datetime.strptime(internaldate.strip(), "%d-%b-%Y %H:%M:%S %z").timestamp()
