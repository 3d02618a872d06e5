"""Which messages of the source have which copies in the destination, where no record tells. Values, and no I/O.

A copy is known by its fingerprint, all of it, never by its Message-ID alone. Each copy is the copy of
one message only; a message without a Message-ID comes last, because its copy may have an invented one
and must not be taken from another's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from syncer.fingerprint import is_placeholder
from syncer.model import CopySeen, Fingerprint, MessageKey
from syncer.sync_plan import is_copy, is_similar

Group = tuple[MessageKey, ...]
"""Messages that one fingerprint describes: nobody could tell their copies apart."""


class Copies:
    """What was seen in the destination; a copy that is taken is nobody else's."""

    def __init__(self, seen: Iterable[CopySeen]) -> None:
        self._free = {copy.uid: copy for copy in seen}
        self._by_time: dict[int, list[CopySeen]] = defaultdict(list)
        self._by_id: dict[str, list[CopySeen]] = defaultdict(list)
        self._by_fields: dict[tuple[str, str, str], list[CopySeen]] = defaultdict(list)
        for copy in self._free.values():
            its = copy.fingerprint
            self._by_time[its.received_at].append(copy)
            self._by_id[its.message_id].append(copy)
            self._by_fields[its.date, its.sender, its.subject].append(copy)

    def equal(self, mine: Fingerprint) -> list[int]:
        """Return the UIDs of what is a copy of such a message, in UID order."""
        invented = not mine.message_id
        there = self._by_time.get(mine.received_at, ())
        return [c.uid for c in self._left(there) if is_copy(mine, c.fingerprint, may_be_invented=invented)]

    def similar(self, mine: Fingerprint) -> list[int]:
        """Return the UIDs of what may be a copy of such a message, and may be none.

        What the server cannot render counts where it arrived in the same second: else one such
        message would be similar to a whole mailbox.
        """
        by_time = self._by_time.get(mine.received_at, ())
        by_id = self._by_id.get(mine.message_id, ()) if mine.message_id else ()
        near = [*by_time, *by_id, *self._by_fields.get((mine.date, mine.sender, mine.subject), ())]
        found = {
            copy.uid
            for copy in self._left(near)
            if is_similar(mine, copy.fingerprint)
            and (copy.fingerprint.received_at == mine.received_at or not is_placeholder(copy.fingerprint))
        }
        return sorted(found)

    def take(self, uids: Iterable[int]) -> None:
        """Let these be nobody else's."""
        for uid in uids:
            self._free.pop(uid, None)

    def _left(self, copies: Iterable[CopySeen]) -> list[CopySeen]:
        return sorted((copy for copy in copies if copy.uid in self._free), key=lambda copy: copy.uid)


def groups_of(fingerprints: Mapping[MessageKey, Fingerprint]) -> Sequence[tuple[Fingerprint, Group]]:
    """Return the messages of each fingerprint, in UID order; those without a Message-ID last."""
    groups: dict[Fingerprint, list[MessageKey]] = defaultdict(list)
    for key in sorted(fingerprints):
        groups[fingerprints[key]].append(key)
    return sorted(((fp, tuple(keys)) for fp, keys in groups.items()), key=lambda group: not group[0].message_id)
