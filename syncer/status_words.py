"""How things stand, in words: the lines that ``syncer status`` and the status page both show.

Values in, texts out. A mood says how a line is to be taken; which colour that is, whoever shows it knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from syncer.forecast import WARN_DAYS
from syncer.model import Decision, FailRecord, Side
from syncer.status import WEEK_DAYS, Status, iso

MOST_ROWS: Final = 20
"""Messages that a screen lists; ``--json`` has them all."""
_MOST_NAMED: Final = 5
_NAMES: Final = {Side.SOURCE: "Gmail", Side.DESTINATION: "Outlook.com"}
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line: ``mood`` is green, yellow, red, or empty where it is neither good nor bad."""

    label: str
    text: str
    mood: str = ""


def rows(found: Status) -> Iterator[Row]:
    """Yield the lines that tell of the whole."""
    watermark = found.standing.watermark
    yield _last_good_cycle(found)
    at_work = f"a run, lease until {iso(found.standing.lease_until)}" if found.is_leased else "nobody"
    yield Row("at work", at_work)
    newest = f" of {watermark.uidnext - 1}" if watermark.uidnext else ""
    yield Row("settled up to", f"UID {watermark.last_uid}{newest}" if not found.is_empty else "nothing yet")
    copied = f"{found.copied_since(1):,} today, {found.copied_since(WEEK_DAYS):,} in {WEEK_DAYS} days (UTC)"
    yield Row("copied", f"{copied}, {watermark.copied:,} in total")
    yield _counted("waiting", found.waiting, "")
    oldest = min((record.claimed_at for record in found.in_doubt), default=found.now)
    yield _counted("in doubt", len(found.in_doubt), "yellow", f", the oldest for {span(found.now - oldest)}")
    yield _counted("failing", len(found.failing), "yellow")
    yield _counted("given up", len(found.given_up), "red")
    for side in Side:
        yield _token(found, side)
    for side, until in found.holds.items():
        yield Row(f"{_NAMES[side]}", f"asked to be left alone for another {span(until - found.now)}", "yellow")
    if watermark.outages:
        yield Row("outages", f"{watermark.outages} cycles in a row in which Outlook.com refused everything", "yellow")


def _last_good_cycle(found: Status) -> Row:
    at = found.last_good_cycle
    if at is None:
        return Row("last good cycle", "none yet", "yellow")
    gone = max(0.0, found.now - at)
    mood = "green" if gone < _HOUR else "yellow" if gone < 24 * _HOUR else "red"
    return Row("last good cycle", f"{span(gone)} ago ({iso(at)})", mood)


def _counted(label: str, count: int, mood: str, more: str = "") -> Row:
    return Row(label, f"{count:,}{more}", mood) if count else Row(label, "none", "green" if mood else "")


def _token(found: Status, side: Side) -> Row:
    label = f"{_NAMES[side]} token"
    left = found.days_left(side)
    forecast = found.standing.watermark.tokens.get(side)
    if left is None or forecast is None:
        return Row(label, "nobody knows how long it lasts")
    text = f"{left:,.0f} days left" if left >= 2 else f"{max(0.0, left) * 24:.0f} hours left"
    if left < WARN_DAYS:
        return Row(label, f"{text}: syncer auth {'gmail' if side is Side.SOURCE else 'outlook'}", "red")
    renewed = forecast.renewed_at or forecast.signed_in_at
    since = f", renewed {span(found.now - renewed)} ago" if renewed and side is Side.DESTINATION else ""
    return Row(label, text + since, "green")


def messages(found: Status) -> list[tuple[str, str, str, str, str]]:
    """Return the cells of every message that is not as it should be, the worst first."""
    rows = [_failed(record, "given up", "never") for record in found.given_up]
    for record in found.failing:
        pause = record.next_try_at - found.now
        rows.append(_failed(record, "failing", f"in {span(pause)}" if pause > 0 else "next cycle"))
    undecided = set(found.undecided)
    for claimed in sorted(found.in_doubt, key=lambda record: record not in undecided):
        why = f"sent {span(found.now - claimed.claimed_at)} ago, no answer: "
        if claimed.decision is Decision.NOT_COPIED:
            why += "it is sent again, as you said that it is not there"
        else:
            why += claimed.unclear or "its copy is looked for"
        rows.append((str(claimed.key.uid), "in doubt", "", "you decide" if claimed in undecided else "next cycle", why))
    return rows


def _failed(record: FailRecord, state: str, following: str) -> tuple[str, str, str, str, str]:
    return str(record.key.uid), state, str(record.retry_count), following, record.last_error


def hints(found: Status) -> Iterator[str]:
    """Yield what else a person may want to do."""
    more = len(messages(found)) - MOST_ROWS
    if more > 0:
        yield f"and {more:,} more messages: syncer status --json has them all"
    if found.given_up:
        yield "to try what was given up again: syncer retry"
    if undecided := found.undecided:
        named = " ".join(str(record.key.uid) for record in undecided[:_MOST_NAMED])
        yield f"what you decide: look in every folder of Outlook.com for UID {named}, by date and time of arrival"
        yield f"if it is there: syncer settle {named} --copied"
        yield f"if it is nowhere: syncer settle {named} --not-copied"


def span(seconds: float) -> str:
    """Return a length of time in words."""
    for name, length in (("day", 86_400.0), ("hour", _HOUR), ("minute", 60.0)):
        if seconds >= 2 * length or (name == "minute" and seconds >= length):
            count = int(seconds // length)
            return f"{count} {name}{'s' * (count != 1)}"
    count = max(0, round(seconds))
    return f"{count} second{'s' * (count != 1)}"
