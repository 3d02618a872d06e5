"""The last day as inline SVG: two rows of bars, one for each hour. Values in, markup out.

All places are percentages, so that a chart fills any width while its lettering keeps its size. Every text
here is made of numbers, so nothing in it needs to be escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from syncer.history import HOUR_SECONDS, HOURS, Hour, Seen

_TOP: Final = 14.0
"""Percent of the height above the highest bar: the lettering of its line stands there."""
_STEP: Final = 100.0 / HOURS
_LABEL_EVERY: Final = 6
_LAG_LINES: Final = ((10.0, "10 s"), (60.0, "1 min"), (600.0, "10 min"), (3600.0, "1 h"), (21_600.0, "6 h"))


def copied_chart(seen: Seen) -> str:
    """Return the chart of messages copied in each hour, with marks below hours in which cycles ended badly."""
    top = _round_up(max(hour.copied for hour in seen.hours))
    lines = [(top, f"{top:,}")] + ([(top // 2, f"{top // 2:,}")] if top % 2 == 0 else [])
    total = sum(hour.copied for hour in seen.hours)
    bad = [
        f'<rect class="fault" x="{_x(at)}" width="{_STEP * 0.7:.2f}%" y="98%" height="2%"/>'
        for at, hour in enumerate(seen.hours)
        if hour.bad_cycles
    ]
    bars = _bars(seen.hours, "copied", lambda hour: hour.copied / top)
    return _chart(f"Messages copied in the last 24 hours, by the hour: {total:,}", seen, lines, top, bars, bad)


def lag_chart(seen: Seen) -> str:
    """Return the chart of the longest way from arrival to copy in each hour; its scale is logarithmic."""
    longest = max((hour.lag_seconds or 0 for hour in seen.hours), default=0)
    top = max(60.0, longest * 1.0)

    def share(seconds: float) -> float:
        return math.log1p(seconds) / math.log1p(top)

    # A line whose lettering would run into that of another is left out.
    known = [(seconds, text) for seconds, text in _LAG_LINES if seconds <= top and share(seconds) > 0.3]
    lines = [(share(seconds), text) for seconds, text in known[-2:]]
    # One copied within the second it arrived in still has a bar.
    bars = _bars(
        seen.hours, "lag", lambda hour: None if hour.lag_seconds is None else max(0.03, share(hour.lag_seconds))
    )
    return _chart(f"Longest delivery lag by the hour, at most {short_span(longest)}", seen, lines, 1.0, bars, [])


def axis(seen: Seen) -> str:
    """Return the hours' names below both charts, in UTC."""
    labels = [
        f'<text x="{_STEP * at:.2f}%" y="12">{_clock(hour.start)}</text>'
        for at, hour in enumerate(seen.hours)
        if at % _LABEL_EVERY == 0
    ]
    return f'<svg class="axis" aria-hidden="true">{"".join(labels)}<text class="end" x="100%" y="12">now</text></svg>'


def short_span(seconds: float) -> str:
    """Return a length of time in a few letters."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _chart(
    title: str, seen: Seen, lines: Sequence[tuple[float, str]], top: float, bars: Iterator[str], more: Sequence[str]
) -> str:
    parts = [f'<svg class="chart" role="img" aria-label="{title}">']
    before = (seen.started_at - seen.hours[0].start) / (HOURS * HOUR_SECONDS)
    if before > 0:
        parts.append(f'<rect class="before" width="{min(1.0, before) * 100:.2f}%" height="100%"/>')
    for value, text in lines:
        y = _y(value / top)
        parts.append(f'<line x2="100%" y1="{y:.2f}%" y2="{y:.2f}%"/><text x="2" y="{y:.2f}%" dy="-4">{text}</text>')
    return "".join([*parts, *bars, *more, '<line class="base" x2="100%" y1="100%" y2="100%"/></svg>'])


def _bars(hours: Sequence[Hour], kind: str, share: Callable[[Hour], float | None]) -> Iterator[str]:
    for at, hour in enumerate(hours):
        height = share(hour)
        if not height:
            continue
        y = _y(height)
        yield (
            f'<rect class="{kind}" x="{_x(at)}" width="{_STEP * 0.7:.2f}%" y="{y:.2f}%" height="{100 - y:.2f}%" rx="2">'
            f"<title>{_told(hour)}</title></rect>"
        )


def _told(hour: Hour) -> str:
    lag = f", longest lag {short_span(hour.lag_seconds)}" if hour.lag_seconds is not None else ""
    bad = f", {hour.bad_cycles:,} of {hour.cycles:,} cycles ended badly" if hour.bad_cycles else ""
    return f"{_clock(hour.start)} to {_clock(hour.start + HOUR_SECONDS)} UTC: {hour.copied:,} copied{lag}{bad}"


def _x(at: int) -> str:
    return f"{_STEP * (at + 0.15):.2f}%"


def _y(share: float) -> float:
    return 100 - share * (100 - _TOP)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def _round_up(count: int) -> int:
    """Return the next of 4, 10, 20, 50, 100, 200... that is no less."""
    if count <= 4:
        return 4
    power = int(10 ** int(math.log10(count)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= count)
