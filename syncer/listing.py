"""What the source has above the horizon, window by window, in memory that does not grow with the mailbox.

Gmail now and then leaves a live message out of a listing, and has it in the next (PROVIDERS 1.3). To
take silence for absence would lose it, so what should have been there is asked for a second time; what
both leave out is ``lookback``'s. What lies above the highest UID that was listed needs no such care: the
horizon never passes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from syncer.model import SourceMessage
from syncer.ports import Source
from syncer.uid_set import MAX_UID, UidSet

LISTING_WINDOW: Final = 10_000
"""UIDs asked for in one listing."""


class Listing:
    """Of one cycle, over one connection."""

    def __init__(self, horizon: int) -> None:
        """Begin above ``horizon``."""
        self.upto = horizon
        """The highest UID that was asked for."""
        self._width = LISTING_WINDOW

    def next_window(self) -> UidSet:
        """Return the UIDs to ask for next."""
        first, self.upto = self.upto + 1, min(self.upto + self._width, MAX_UID)
        return UidSet.of_range(first, self.upto)

    def complete(
        self, source: Source, asked: UidSet, listed: Sequence[SourceMessage], horizon: int
    ) -> list[SourceMessage]:
        """Return what was listed of ``asked``, with what a second question brings. Raises Unavailable, Throttled."""
        # A gap of any width is crossed in a few listings, a dense stretch in many small ones.
        if asked:
            self._width = LISTING_WINDOW if listed else 2 * self._width
        there = {message.key.uid: message for message in listed}
        highest = max([horizon, *there])
        silent = (asked & UidSet.of_range(1, highest)) - UidSet(there)
        if silent:
            there |= {message.key.uid: message for message in source.listing(silent)}
        return [there[uid] for uid in sorted(there)]
