"""Time as a service sees it that lives on a machine that may sleep."""

from __future__ import annotations

import time


def elapsed() -> float:
    """Return seconds that also pass while the machine sleeps, where the system counts them; never set back."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)
