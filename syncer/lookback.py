"""A second and a third sight of what was passed over, so that a listing's silence is never the last word.

Gmail has been seen to leave a live message out of a listing (PROVIDERS 1.3). Left out of both of a
cycle's questions, and with a newer one listed, the horizon passes it. So three times a day what the
horizon has passed since the look-back before the last is listed again, with the cycle's own listing:

    looked back at twice | looked back at once | not yet | horizon
                       twice                 once

Each UID is met by the next two look-backs, the second at most sixteen hours after it was passed. What
is listed and has no record at all was never met: it is opened, and dealt with like new mail. A cycle
in between asks for nothing more, and one with nothing to find costs a read of the records.

A crash leaves the marks where they were, or has them moved by the very write that names as open what
was found. The horizon and ``last_uid`` never go back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from syncer.cycle_state import CycleState
from syncer.listing import LISTING_WINDOW
from syncer.logging_utils import log_event
from syncer.model import LookBack, SourceMessage
from syncer.ports import Source, Store
from syncer.progress import Progress
from syncer.uid_set import UidSet

logger = logging.getLogger(__name__)

LOOK_BACK_SECONDS: Final = 8 * 3600.0
"""From one look-back to the next."""


def plan_look_back(found: LookBack | None, horizon: int, now: float) -> LookBack:
    """Return the look-back to go on with: the one under way, or another where it is time.

    Without one, what lies up to ``horizon`` is left alone: it may not be wanted.
    """
    if found is None:
        return LookBack(now, horizon, horizon, horizon)
    # A clock that was set back must not put it off until it has caught up.
    if found.reached < found.once or 0 <= now - found.at < LOOK_BACK_SECONDS:
        return found
    return LookBack(now, twice=found.once, once=horizon, reached=found.twice)


def next_part(look_back: LookBack, width: int = LISTING_WINDOW) -> UidSet:
    """Return what is to be listed next: nothing, where none is under way."""
    return UidSet.of_range(look_back.reached + 1, min(look_back.reached + width, look_back.once))


def begin_look_back(progress: Progress, now: float) -> UidSet:
    """Go on with the look-backs, and return the UIDs to list in this cycle."""
    look_back = progress.look_back = plan_look_back(progress.look_back, progress.horizon, now)
    return next_part(look_back)


def find_missed(
    store: Store, cycle: CycleState, source: Source, listed: Sequence[SourceMessage]
) -> list[SourceMessage]:
    """Open what was listed for the look-back and never met; return what was listed, without what is settled.

    Raises Unavailable, Throttled (the source), StateUnavailable.
    """
    progress = cycle.progress
    look_back = progress.look_back
    part = next_part(look_back) if look_back is not None else UidSet()
    if look_back is None or not part:
        return list(listed)
    carried = {*cycle.pending, *cycle.failures, *cycle.reopened}
    again = [message for message in listed if message.key.uid in part and message.key not in carried]
    rest = [message for message in listed if message.key.uid not in part or message.key in carried]
    width = LISTING_WINDOW
    while not again and part.highest < look_back.once:
        # Like a gap above the horizon: crossed in a few listings, however wide.
        width *= 2
        part = next_part(replace(look_back, reached=part.highest), width)
        again = [message for message in source.listing(part) if message.key not in carried]
    missed = _never_met(store, progress, again)
    for message in missed:
        key = message.key
        log_event(logger, logging.INFO, "message_found_late", uidvalidity=key.uidvalidity, uid=key.uid)
        progress.begin(key)
        cycle.reopened.add(key)
    cycle.tally.listed += len(missed)
    progress.look_back = replace(look_back, reached=part.highest)
    return sorted([*rest, *missed], key=lambda message: message.key)


def _never_met(store: Store, progress: Progress, listed: Sequence[SourceMessage]) -> list[SourceMessage]:
    """Return what has no record, and is wanted."""
    wanted = [message for message in listed if progress.wanted(message)]
    if not wanted:
        return []
    known = store.load([message.key for message in wanted], [])
    return [m for m in wanted if m.key not in known.records and m.key not in known.failures]
