"""Messages that must not be under way at once.

Twins have one identity: the second needs no copy, once the first has one. Lookalikes are different
messages whose copies nobody could tell apart (``Fingerprint``): were two of them in doubt with one
copy in the destination, whose is it? So a lookalike is not claimed before the place of the other's
copy is known, and lies below its own fence.
"""

from __future__ import annotations

from collections.abc import Iterator

from syncer.copy_job import Item, Job
from syncer.model import Fingerprint, Identity, MessageKey


class Likeness:
    """Keeps messages apart, within one cycle."""

    def __init__(self) -> None:
        """Begin with nothing under way."""
        self._firsts: dict[Identity, MessageKey] = {}
        self._twins: list[tuple[MessageKey, Identity]] = []
        self._copied: set[MessageKey] = set()
        self._apart: dict[Fingerprint, MessageKey] = {}
        self._waiting: list[tuple[Fingerprint, Job]] = []

    def admit(self, item: Item) -> bool:
        """Tell whether a message may be claimed now; one that may not is remembered."""
        record = item.record
        if record is None or record.fingerprint is None:
            raise AssertionError("to be claimed before it was fetched")
        if self._firsts.setdefault(record.identity, item.key) != item.key:
            self._twins.append((item.key, record.identity))
            return False
        if self._apart.setdefault(record.fingerprint, item.key) != item.key:
            del self._firsts[record.identity]
            self._waiting.append((record.fingerprint, item.job))
            return False
        return True

    def keep_apart(self, key: MessageKey, fingerprint: Fingerprint | None) -> None:
        """Let nothing that looks like this message be claimed: it is in doubt."""
        if fingerprint is not None:
            self._apart.setdefault(fingerprint, key)

    def copied(self, item: Item) -> None:
        """Note that a message is done; what looks like it may go on, if it is known where the copy is."""
        self._copied.add(item.key)
        if item.copy is not None:
            self.free(item)

    def free(self, item: Item) -> None:
        """Note that a message left nothing in the destination that could be taken for another's copy."""
        fingerprint = item.record.fingerprint if item.record is not None else None
        if fingerprint is not None and self._apart.get(fingerprint) == item.key:
            del self._apart[fingerprint]

    def readmitted(self) -> list[Job]:
        """Return those that waited for a lookalike and may go on now, one of a kind."""
        ready: dict[Fingerprint, Job] = {}
        waiting = []
        for fingerprint, job in self._waiting:
            if fingerprint in self._apart or fingerprint in ready:
                waiting.append((fingerprint, job))
            else:
                ready[fingerprint] = job
        self._waiting = waiting
        return list(ready.values())

    def settled_twins(self) -> Iterator[tuple[MessageKey, Identity, MessageKey]]:
        """Yield twins of what was copied, with it; forget the others, which wait for a later cycle."""
        for key, identity in self._twins:
            first = self._firsts[identity]
            if first in self._copied:
                yield key, identity, first
        self._firsts.clear()
        self._twins.clear()
        self._copied.clear()
        self._waiting.clear()
