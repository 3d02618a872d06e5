"""What a cycle would copy, found out by reading alone: no lease, no record, no destination."""

from __future__ import annotations

import logging

from syncer.copy_job import Tally
from syncer.cycle_state import EngineSettings, World
from syncer.listing import Listing
from syncer.logging_utils import log_event
from syncer.model import Identity, MessageKey, SourceMessage, Watermark
from syncer.ports import Source
from syncer.progress import Progress
from syncer.resync import start_anew
from syncer.sync_plan import Step, plan_new
from syncer.uid_set import UidSet

logger = logging.getLogger(__name__)


class DryRun:
    """Of one cycle."""

    def __init__(self, world: World, settings: EngineSettings, found: Watermark) -> None:
        """``found`` is the watermark as it stands."""
        self._world = world
        self._settings = settings
        self._found = found
        self._progress = Progress(found)
        self.tally = Tally()

    @property
    def last_uid(self) -> int:
        """The highest UID up to which everything is settled."""
        return self._progress.last_uid

    def run(self, source: Source) -> None:
        """Log ``would_copy`` for each message. Raises Unavailable, Throttled, StateUnavailable."""
        progress = self._progress
        selected, _ = source.open(UidSet())
        if selected.uidvalidity != progress.uidvalidity:
            start_anew(self._settings, source, selected, progress, self._found, self._world.clock.now(), None)
        waiting = [*progress.open_keys, *progress.failing_keys]
        claimed = self._world.store.load(waiting, []).records if waiting else {}
        carried = UidSet(k.uid for k in waiting if k.uidvalidity == selected.uidvalidity and k not in claimed)
        listing = Listing(progress.horizon)
        while carried or listing.upto + 1 < selected.uidnext:
            asked = carried | listing.next_window()
            listed = listing.complete(source, asked, source.listing(asked), progress.horizon)
            self._tell([m for m in listed if m.key.uid in carried or progress.wanted(m)])
            carried = UidSet()

    def _tell(self, messages: list[SourceMessage]) -> None:
        identities = [Identity(message.gmail_msgid) for message in messages if message.gmail_msgid is not None]
        held = self._world.store.load([], identities).holders if identities else {}
        for message in messages:
            is_held = Identity(message.gmail_msgid or "") in held
            step = plan_new(message, None, is_held=is_held, max_bytes=self._settings.max_message_bytes)
            self.tally.listed += 1
            if step is Step.COPY:
                _would_copy(message.key, message.size)
            elif step is Step.DUPLICATE:
                self.tally.duplicates += 1


def _would_copy(key: MessageKey, size: int) -> None:
    fields = {"uidvalidity": key.uidvalidity, "uid": key.uid, "bytes": size}
    log_event(logger, logging.INFO, "would_copy", **fields)
