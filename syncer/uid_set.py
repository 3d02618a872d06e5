"""Sets of UIDs, kept as ranges: the sequence-set of RFC 3501 section 9, without ``*``.

A run of a hundred thousand consecutive UIDs costs as much as one UID, in memory, in a
record and on the wire, which is why the records remember UIDs in this form. A million UIDs without
neighbours cost sixteen octets each: a server's answer decides how many there are.
"""

from __future__ import annotations

import heapq
import itertools
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

MAX_UID: Final = 4294967295
"""The highest UID there can be (RFC 3501 section 9: nz-number, 32 bits)."""
_RUN: Final = 1 << 17
"""UIDs that are sorted at once, where they come in any order."""
_ITEM: Final = re.compile(r"(\d{1,20})(?::(\d{1,20}))?", re.ASCII)


class UidSet:
    """An immutable set of UIDs.

    >>> str(UidSet([7, 5, 6, 9]))
    '5:7,9'
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, uids: Iterable[int] = ()) -> None:
        rest = iter(uids)
        self._take(_runs(itertools.islice(rest, _RUN)))
        while more := list(itertools.islice(rest, _RUN)):
            self._take(heapq.merge(self._ranges, _runs(more)))

    @classmethod
    def of_range(cls, first: int, last: int) -> UidSet:
        """Return the UIDs from ``first`` to ``last``, both included; none if they are in wrong order."""
        return cls._from([(first, last)] if first <= last else [])

    @classmethod
    def parse(cls, text: str) -> UidSet:
        """Read ``5:7,9``; an empty text is the empty set.

        Raises ValueError: the text is no sequence-set, or a UID is out of range.
        """
        ranges = []
        for item in text.split(",") if text else ():
            match = _ITEM.fullmatch(item)
            if match is None:
                raise ValueError(f"not a UID set: {text[:40]!r}")
            bounds = sorted((int(match[1]), int(match[2] or match[1])))
            if not 1 <= bounds[0] <= bounds[1] <= MAX_UID:
                raise ValueError(f"UID out of range: {item[:40]!r}")
            ranges.append((bounds[0], bounds[1]))
        return cls._from(sorted(ranges))

    @classmethod
    def _from(cls, ranges: Iterable[tuple[int, int]]) -> UidSet:
        """``ranges`` are in the order of their beginnings."""
        made = cls()
        made._take(ranges)
        return made

    def _take(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Hold these, those that touch as one."""
        firsts, lasts = array("q"), array("q")
        for first, last in ranges:
            if lasts and first <= lasts[-1] + 1:
                lasts[-1] = max(lasts[-1], last)
            else:
                firsts.append(first)
                lasts.append(last)
        self._firsts, self._lasts = firsts, lasts

    @property
    def _ranges(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" if a < b else str(a) for a, b in self._ranges)

    def __repr__(self) -> str:
        return f"UidSet({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UidSet) and (self._firsts, self._lasts) == (other._firsts, other._lasts)

    def __hash__(self) -> int:
        return hash((self._firsts.tobytes(), self._lasts.tobytes()))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __len__(self) -> int:
        return sum(b - a + 1 for a, b in self._ranges)

    def __iter__(self) -> Iterator[int]:
        for a, b in self._ranges:
            yield from range(a, b + 1)

    def __contains__(self, uid: object) -> bool:
        if not isinstance(uid, int):
            return False
        at = bisect_right(self._firsts, uid) - 1
        return at >= 0 and uid <= self._lasts[at]

    def __or__(self, other: UidSet) -> UidSet:
        return self._from(heapq.merge(self._ranges, other._ranges))

    def __sub__(self, other: UidSet) -> UidSet:
        return self._from(self._without(other))

    def _without(self, other: UidSet) -> Iterator[tuple[int, int]]:
        cuts = other._ranges
        cut = next(cuts, None)
        for first, last in self._ranges:
            start = first
            while cut is not None and cut[1] < start:
                cut = next(cuts, None)
            while cut is not None and cut[0] <= last:
                if start < cut[0]:
                    yield start, cut[0] - 1
                start = cut[1] + 1
                if cut[1] > last:
                    break
                cut = next(cuts, None)
            if start <= last:
                yield start, last

    def __and__(self, other: UidSet) -> UidSet:
        return self - (self - other)

    @property
    def lowest(self) -> int:
        """Return the lowest UID. Raises ValueError: the set is empty."""
        if not self:
            raise ValueError("an empty UID set has no lowest UID")
        return self._firsts[0]

    @property
    def highest(self) -> int:
        """Return the highest UID. Raises ValueError: the set is empty."""
        if not self:
            raise ValueError("an empty UID set has no highest UID")
        return self._lasts[-1]


def _runs(uids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the unbroken runs among UIDs that come in any order."""
    rest = iter(sorted(uids))
    first = last = next(rest, None)
    if first is None or last is None:
        return
    for uid in rest:
        if uid > last + 1:
            yield first, last
            first = uid
        last = uid
    yield first, last
