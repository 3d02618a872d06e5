"""Which clock tells how much time has passed."""

from __future__ import annotations

import time


def elapsed() -> float:
    """Return seconds since boot: never set back, equal in all processes, sleep included where the system counts it."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)
