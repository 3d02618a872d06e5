"""Whether the daemon does its work: it keeps a small file, and ``syncer health`` judges it by age.

The file is no state: nothing is decided by it, and it may lie in memory (a tmpfs). It holds times and the name
of an outcome, nothing of any mail. Times are of the clock that is never set back (seconds since boot, sleep
included), which all processes of one machine share: a wall clock that jumps makes nobody ill.

    healthy: a cycle ended well, or a long one copied on, not longer ago than ``limit_seconds``
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from syncer.logging_utils import log_event
from syncer.model import EXIT_BUG, EXIT_OK

if TYPE_CHECKING:  # judging runs every minute, and needs none of what a cycle does
    from syncer.cycle_state import Summary

logger = logging.getLogger(__name__)

MISSED_CYCLES: Final = 3
"""So many in a row may end badly before anybody is worried: a provider's bad quarter of an hour is no illness."""
SHORTEST_LIMIT_SECONDS: Final = 300.0
BEAT_SECONDS: Final = 5.0
"""While a long cycle copies, the file is written no more often than this."""
MAX_FILE_BYTES: Final = 4096


def limit_seconds(interval: float) -> float:
    """Return how old the last sign of good work may be, for a daemon that runs a cycle every ``interval`` seconds."""
    return max(MISSED_CYCLES * interval, SHORTEST_LIMIT_SECONDS)


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the file holds."""

    interval: float
    """Seconds between two cycles."""
    good_at: float
    """When last a cycle ended well, or the daemon was started, or a message was copied."""
    cycles: int = 0
    """Ended well since the start."""
    outcome: str = ""
    """Of the last cycle."""
    exit_code: int = EXIT_OK
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``syncer health`` says."""

    healthy: bool
    reason: str


class Health:
    """The daemon's side: watches cycles (see ``daemon.Watcher``), and knows whether it is well."""

    def __init__(self, interval: float, now: Callable[[], float]) -> None:
        """Take the first pulse: the time to the first good cycle counts from now."""
        self._now = now
        self._pulse = Pulse(interval, good_at=now())
        self._beat_at = 0.0
        self._keep()

    def began(self) -> None:
        """Do nothing: that a cycle began says nothing good yet."""

    def progressed(self) -> None:
        """Note that a cycle copies on: a backlog of hours is no illness."""
        if self._now() - self._beat_at >= BEAT_SECONDS:
            self._beat_at = self._now()
            self._pulse = replace(self._pulse, good_at=self._beat_at)
            self._keep()

    def ended(self, summary: Summary | None) -> None:
        """Note how a cycle ended; None: by a bug."""
        if summary is None:
            self._pulse = replace(self._pulse, outcome="bug", exit_code=EXIT_BUG, remedy="")
        else:
            from syncer.cycle import exit_code

            code = exit_code(summary)
            remedy = "; ".join(summary.faults) or summary.remedy
            pulse = replace(self._pulse, outcome=summary.outcome.value, exit_code=code, remedy=remedy)
            if code == EXIT_OK:
                pulse = replace(pulse, good_at=self._now(), cycles=pulse.cycles + 1)
            self._pulse = pulse
        self._keep()

    def verdict(self) -> Verdict:
        """Return whether all is well. From any thread."""
        return _verdict(self._pulse, self._now())

    def _keep(self) -> None:
        """Put the pulse where others find it: here, nowhere."""


class HealthFile(Health):
    """The same with a file, for ``syncer health``; the file's word is the verdict, so that both say the same."""

    def __init__(self, path: Path, interval: float, now: Callable[[], float]) -> None:
        """Write the first pulse."""
        self._path = path
        self._is_written = True
        super().__init__(interval, now)

    def verdict(self) -> Verdict:
        """Return whether all is well. From any thread."""
        return judge(self._path, self._now())

    def _keep(self) -> None:
        """Replace the file; a failure is logged once, and stops nothing."""
        try:
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump(asdict(self._pulse), file)
                Path(name).replace(self._path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            if self._is_written:
                log_event(logger, logging.WARNING, "health_not_written", reason=error.strerror or type(error).__name__)
            self._is_written = False
            return
        self._is_written = True


def judge(path: Path, now: float) -> Verdict:
    """Return whether the daemon that keeps ``path`` does its work, and why not if it does not."""
    try:
        with path.open("rb") as file:
            return _verdict(Pulse(**json.loads(file.read(MAX_FILE_BYTES))), now)
    except FileNotFoundError:
        return Verdict(False, "the daemon has not begun, or does not keep this file (HEALTH_FILE)")
    except (OSError, ValueError, TypeError) as error:
        return Verdict(False, f"HEALTH_FILE cannot be read: {type(error).__name__}")


def _verdict(pulse: Pulse, now: float) -> Verdict:
    age = now - pulse.good_at
    limit = limit_seconds(pulse.interval)
    last = f"the last cycle ended with {pulse.outcome}" if pulse.outcome else "no cycle has ended yet"
    if 0 <= age <= limit:
        return Verdict(True, f"last good cycle {_minutes(age)} ago; {last}" if pulse.cycles else f"starting; {last}")
    advice = f": {pulse.remedy}" if pulse.remedy else ""
    # The clock began anew (another boot): what the file says is of another life.
    since = f"for {_minutes(age)}" if age > 0 else "since this machine was started"
    return Verdict(False, f"no good cycle {since}; {last}{advice}")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
