"""Where to begin in a mailbox whose UIDs tell nothing: on the first run, and after UIDVALIDITY changed.

Old UIDs say nothing about new ones (RFC 3501 section 2.3.1.1), so a window of arrival times is listed
instead, and known identities are skipped. The window is written down before anything is copied: one
that is not remembered would slide with every retry, and mail at its edge would be lost.
"""

from __future__ import annotations

import logging

from syncer.cycle_state import CycleState, EngineSettings, World
from syncer.logging_utils import log_event
from syncer.model import Watermark
from syncer.ports import SelectedMailbox, Source
from syncer.progress import Progress
from syncer.sync_plan import window_start
from syncer.uid_set import UidSet

logger = logging.getLogger(__name__)

_WINDOW = 10_000
"""UIDs listed at once while looking for the first that is wanted."""


def meet_new_uidvalidity(
    world: World, settings: EngineSettings, cycle: CycleState, source: Source, selected: SelectedMailbox
) -> None:
    """Begin anew with a mailbox whose UIDs tell nothing, and remember where, before anything is copied.

    Raises Unavailable, Throttled (the source), StateUnavailable, LeaseLost.
    """
    progress = cycle.progress
    if progress.uidvalidity is not None:
        changed = {"was": progress.uidvalidity, "uidvalidity": selected.uidvalidity}
        log_event(logger, logging.WARNING, "uidvalidity_changed", **changed)
    failing = progress.failing_keys
    failures = world.store.load(failing, []).failures.values() if failing else ()
    arrivals = [failure.received_at for failure in failures if not failure.given_up]
    arrivals += [float(r.fingerprint.received_at) for r in cycle.pending.values() if r.fingerprint is not None]
    start_anew(settings, source, selected, progress, cycle.found, world.clock.now(), min(arrivals, default=None))
    for key in cycle.reopened:
        progress.drop(key)
    cycle.reopened.clear()
    cycle.failures = {key: failure for key, failure in cycle.failures.items() if key in cycle.pending}
    # Before anything is copied: a window that is not remembered would slide with every retry.
    cycle.keeper.commit(progress.watermark(world.clock.now()), [])


def start_anew(
    settings: EngineSettings,
    source: Source,
    selected: SelectedMailbox,
    progress: Progress,
    found: Watermark,
    now: float,
    oldest_open: float | None,
) -> None:
    """Decide what is wanted of the mailbox: the first run, or a new UIDVALIDITY. Raises Unavailable, Throttled."""
    newest = selected.uidnext - 1
    kind = settings.initial_sync
    if kind == "all":
        progress.start_anew(selected.uidvalidity, 0, since=0.0, upto=0)
        return
    if kind == "since":
        since = settings.initial_since
    elif kind == "window":
        since = window_start(found, oldest_open, now, settings.resync_window_hours)
    elif found.completed_at is None:
        progress.start_anew(selected.uidvalidity, newest, since=0.0, upto=0)
        return
    else:
        # "From now on" began with the first run: what came since is new, whatever its UID is called.
        since = window_start(found, oldest_open, now, 0.0)
    first = _first_since(source, since)
    horizon = newest if first is None else first - 1
    progress.start_anew(selected.uidvalidity, horizon, since=since, upto=newest)


def _first_since(source: Source, since: float) -> int | None:
    """Return the lowest UID of what arrived at ``since`` or later; None if nothing did."""
    candidates = source.since(since)
    while candidates:
        window = candidates & UidSet.of_range(candidates.lowest, candidates.lowest + _WINDOW - 1)
        for message in source.listing(window):
            if message.received_at >= since:
                return message.key.uid
        candidates -= window
    return None
