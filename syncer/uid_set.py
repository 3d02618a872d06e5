"""Sets of UIDs, kept as ranges: the sequence-set of RFC 3501 section 9, without ``*``.

A run of a hundred thousand consecutive UIDs costs as much as one UID, in memory, in a
record and on the wire, which is why the records remember UIDs in this form.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

MAX_UID: Final = 4294967295
"""The highest UID there can be (RFC 3501 section 9: nz-number, 32 bits)."""
_ITEM: Final = re.compile(r"(\d{1,20})(?::(\d{1,20}))?", re.ASCII)


class UidSet:
    """An immutable set of UIDs.

    >>> str(UidSet([7, 5, 6, 9]))
    '5:7,9'
    """

    __slots__ = ("_ranges",)

    def __init__(self, uids: Iterable[int] = ()) -> None:
        self._ranges: tuple[tuple[int, int], ...] = _joined((uid, uid) for uid in uids)

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
        return cls._from(ranges)

    @classmethod
    def _from(cls, ranges: Iterable[tuple[int, int]]) -> UidSet:
        made = cls()
        made._ranges = _joined(ranges)
        return made

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" if a < b else str(a) for a, b in self._ranges)

    def __repr__(self) -> str:
        return f"UidSet({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UidSet) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __len__(self) -> int:
        return sum(b - a + 1 for a, b in self._ranges)

    def __iter__(self) -> Iterator[int]:
        for a, b in self._ranges:
            yield from range(a, b + 1)

    def __contains__(self, uid: object) -> bool:
        if not isinstance(uid, int):
            return False
        at = bisect_right(self._ranges, (uid, MAX_UID)) - 1
        return at >= 0 and self._ranges[at][0] <= uid <= self._ranges[at][1]

    def __or__(self, other: UidSet) -> UidSet:
        return self._from((*self._ranges, *other._ranges))

    def __sub__(self, other: UidSet) -> UidSet:
        left: list[tuple[int, int]] = []
        cuts = iter(other._ranges)
        cut = next(cuts, None)
        for first, last in self._ranges:
            start = first
            while cut is not None and cut[1] < start:
                cut = next(cuts, None)
            while cut is not None and cut[0] <= last:
                if start < cut[0]:
                    left.append((start, cut[0] - 1))
                start = cut[1] + 1
                if cut[1] > last:
                    break
                cut = next(cuts, None)
            if start <= last:
                left.append((start, last))
        return self._from(left)

    def __and__(self, other: UidSet) -> UidSet:
        return self - (self - other)

    @property
    def lowest(self) -> int:
        """Return the lowest UID. Raises ValueError: the set is empty."""
        if not self._ranges:
            raise ValueError("an empty UID set has no lowest UID")
        return self._ranges[0][0]

    @property
    def highest(self) -> int:
        """Return the highest UID. Raises ValueError: the set is empty."""
        if not self._ranges:
            raise ValueError("an empty UID set has no highest UID")
        return self._ranges[-1][1]


def _joined(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sort ranges and join those that touch."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)
