"""Lengths of time, in words."""

from __future__ import annotations

_UNITS = ((86_400, "days"), (3600, "hours"), (60, "minutes"))


def span(seconds: float) -> str:
    """Return a length of time in the unit that suits it."""
    for unit, name in _UNITS:
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} seconds"
