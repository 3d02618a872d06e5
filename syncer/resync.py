"""Where to begin in a mailbox whose UIDs tell nothing: on the first run, and after UIDVALIDITY changed.

Old UIDs say nothing about new ones (RFC 3501 section 2.3.1.1), so a window of arrival times is listed
instead, and known identities are skipped. The window is written down before anything is copied: one
that is not remembered would slide with every retry, and mail at its edge would be lost.
"""

from __future__ import annotations

import logging

from syncer.cycle_state import CycleState, EngineSettings, World
from syncer.logging_utils import log_event
from syncer.lookback import begin_look_back
from syncer.model import Watermark
from syncer.ports import SelectedMailbox, Source
from syncer.progress import Progress
from syncer.sync_plan import window_start

logger = logging.getLogger(__name__)


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
    begin_look_back(progress, cycle.started_at)
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
    if settings.initial_sync == "all":
        progress.start_anew(selected.uidvalidity, 0, since=0.0, upto=0)
    elif settings.initial_sync == "new" and found.uidvalidity is None:
        # The time is kept: should UIDVALIDITY change before this is completed, "from now on" began here.
        progress.start_anew(selected.uidvalidity, newest, since=now, upto=newest)
    else:
        since = _window(settings, progress, found, now, oldest_open)
        # All that the search tells is listed and looked at, too much rather than too little.
        candidates = source.since(since)
        horizon = candidates.lowest - 1 if candidates else newest
        progress.start_anew(selected.uidvalidity, horizon, since=since, upto=newest)


def _window(
    settings: EngineSettings, progress: Progress, found: Watermark, now: float, oldest_open: float | None
) -> float:
    """Return from which arrival time on messages are wanted."""
    if settings.initial_sync == "since":
        return settings.initial_since
    # With "new", what came since the first run is new, whatever its UID is called.
    hours = settings.resync_window_hours if settings.initial_sync == "window" else 0.0
    since = window_start(found, oldest_open, now, hours)
    # A window that was not completed holds messages which are met nowhere else.
    return since if progress.window_since is None else min(since, progress.window_since)
