"""UID sets and SEARCH criteria (RFC 3501 section 6.4.4), as far as the product may use them; one flat list."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import date, tzinfo

from tests.fakes.answers import header_fields, parse_date, split_header
from tests.fakes.commands import Malformed, Token, text_of
from tests.fakes.mailboxes import FakeMessage

MAX_UID = 4294967295
Test = Callable[[FakeMessage], bool]


def uid_ranges(text: str, highest: int) -> list[tuple[int, int]]:
    """Read a sequence-set. ``*`` is ``highest``, so ``n:*`` holds it whatever n is (RFC 3501 section 6.4.8).

    Raises Malformed: it is none.
    """
    ranges = []
    for item in text.split(","):
        if not re.fullmatch(r"([1-9]\d{0,9}|\*)(:([1-9]\d{0,9}|\*))?", item):
            raise Malformed(f"not a UID set: {text[:40]}")
        bounds = [highest if bound == "*" else int(bound) for bound in item.split(":")]
        if max(bounds) > MAX_UID:
            raise Malformed("a UID above 32 bits")
        ranges.append((min(bounds), max(bounds)))
    return ranges


def within(ranges: Sequence[tuple[int, int]], uids: Sequence[int]) -> list[int]:
    """Return the places, from 0, of those ascending UIDs that the ranges hold; each once, in their order."""
    places: list[int] = []
    for first, last in sorted(ranges):
        start = max(bisect_left(uids, first), places[-1] + 1 if places else 0)
        places += range(start, bisect_right(uids, last))
    return places


def criteria(args: Sequence[Token], *, highest: int, zone: tzinfo, gmail: bool) -> list[Test]:
    """Read SEARCH's arguments: all of them have to hold. Raises Malformed: unknown or incomplete."""
    if not args:
        raise Malformed("SEARCH for what")
    tests: list[Test] = []
    words = iter(args)
    for word in words:
        key = text_of(word).decode("ascii", "replace").upper()
        try:
            tests.append(_test(key, words, highest, zone, gmail))
        except StopIteration as error:
            raise Malformed(f"{key} without a value") from error
        except ValueError as error:
            raise Malformed(f"{key}: {error}") from error
    return tests


def _test(key: str, words: Iterator[Token], highest: int, zone: tzinfo, gmail: bool) -> Test:
    if key == "ALL":
        return lambda message: True
    if key == "UID":
        ranges = uid_ranges(text_of(next(words)).decode(), highest)
        return lambda message: any(first <= message.uid <= last for first, last in ranges)
    if key in ("SINCE", "BEFORE", "ON"):
        day = date(*parse_date(text_of(next(words)).decode()))
        return lambda message: _day_test(key, message.internaldate.astimezone(zone).date(), day)
    if key == "HEADER":
        field, value = text_of(next(words)).lower(), text_of(next(words))
        return lambda message: _in_header(message, field, value, gmail)
    if key == "X-GM-MSGID" and gmail:
        msgid = int(text_of(next(words)))
        return lambda message: message.msgid == msgid
    raise Malformed(f"unknown SEARCH key {key}")


def _day_test(key: str, day: date, given: date) -> bool:
    return {"SINCE": day >= given, "BEFORE": day < given, "ON": day == given}[key]


def _in_header(message: FakeMessage, field: bytes, value: bytes, gmail: bool) -> bool:
    if gmail and b"!" in value:
        return False  # Gmail does not find ids like <!&!AAAA…>, PROVIDERS 1.3
    for one in header_fields(split_header(message.raw)[0]):
        name, _, content = one.partition(b":")
        if name.strip().lower() == field and value.lower() in content.lower():
            return True
    return False
