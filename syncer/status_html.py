"""The status page's markup: values in, one self-contained HTML page out.

No script, nothing from elsewhere; the one style sheet is allowed by its hash. Every text is escaped, also those
that a mail server had a say in. No address and nothing of a mail is in it: see ``status``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Final

from syncer import status_chart
from syncer.health import Verdict
from syncer.history import Seen
from syncer.status import WEEK_DAYS, Status, iso
from syncer.status_words import MOST_ROWS, hints, messages, rows, span

REFRESH_SECONDS: Final = 60

_STYLE: Final = """
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--ink:#1c2430;--soft:#5c6675;--line:#e1e5ea;--base:#b9c0ca;
--good:#1b7f4b;--warn:#9a6200;--bad:#c2322d;--goodbg:#e6f4ec;--badbg:#fcebea;--warnbg:#fdf3e0;--copied:#2f6fde;
--lag:#8a63c9;--before:#eef0f3}
@media (prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1b212a;--ink:#e6eaf0;--soft:#9aa5b4;--line:#2b333f;
--base:#4a5563;--good:#5fcf95;--warn:#e8b45a;--bad:#ff857d;--goodbg:#17301f;--badbg:#3a1f1f;--warnbg:#362b16;
--copied:#6fa2ff;--lag:#b795f0;--before:#171c24}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:56rem;margin:0 auto;padding:1.25rem 1rem 2rem;display:grid;gap:1rem}
h1{font-size:1.25rem;margin:.25rem 0 0}
h2{font-size:.95rem;margin:0;font-weight:600}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem;min-width:0}
.note{border-radius:12px;padding:.75rem 1rem;overflow-wrap:anywhere}
.note strong{display:block}
.note.good{background:var(--goodbg)}.note.bad{background:var(--badbg)}.note.warn{background:var(--warnbg)}
.note.good strong,.good>dd{color:var(--good)}.note.bad strong,.bad>dd{color:var(--bad)}
.note.warn strong,.warn>dd{color:var(--warn)}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:1rem}
.tiles b{display:block;font-size:1.75rem;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.tiles span,.soft,footer,th{color:var(--soft);font-size:.875rem}
.head{display:flex;justify-content:space-between;gap:0 1rem;align-items:baseline;flex-wrap:wrap;margin-top:1rem}
.head:first-child{margin-top:0}
.chart{display:block;width:100%;height:130px;margin-top:.25rem;overflow:visible}
.axis{display:block;width:100%;height:18px;overflow:visible}
svg text{fill:var(--soft);font-size:12px}
svg text.end{text-anchor:end}
svg line{stroke:var(--line)}svg line.base{stroke:var(--base)}
.copied{fill:var(--copied)}.lag{fill:var(--lag)}.fault{fill:var(--bad)}.before{fill:var(--before)}
.key{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin-right:.35em;vertical-align:-.05em}
.key.fault{background:var(--bad)}.key.before{background:var(--before);border:1px solid var(--line)}
dl{margin:0}
dl>div{display:grid;grid-template-columns:11rem 1fr;gap:.75rem;padding:.45rem 0;border-top:1px solid var(--line)}
dl>div:first-child{border-top:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
dt::first-letter{text-transform:uppercase}
table{border-collapse:collapse;width:100%;margin-top:.5rem}
th{text-align:left;font-weight:500}
th,td{padding:.4rem .75rem .4rem 0;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
td:nth-child(-n+4){white-space:nowrap}
footer p{margin:.25rem 0}
@media (max-width:36rem){.tiles{grid-template-columns:1fr 1fr;gap:.75rem}.tiles .card{padding:.75rem 1rem}
dl>div{grid-template-columns:1fr;gap:0}
thead{display:none}tr{display:block;border-top:1px solid var(--line);padding:.5rem 0}
td{display:grid;grid-template-columns:4.5rem 1fr;border:0;padding:.1rem 0;white-space:normal}
td:empty{display:none}
td::before{content:attr(data-label);color:var(--soft)}}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MOODS: Final = {"green": "good", "yellow": "warn", "red": "bad"}
_COLUMNS: Final = ("UID", "State", "Tries", "Next", "Why")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the records."""

    status: Status | None
    """As last read; None: never yet."""
    reason: str
    """Why it is not of now; empty if it is."""


def render(known: Known, seen: Seen, verdict: Verdict) -> str:
    """Return the page."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>',
        "Mail copies: well" if verdict.healthy else "Mail copies: not well",
        '</title><meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta name="robots" content="noindex">',
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}"><style>{_STYLE}</style></head><body><main>',
        "<h1>Gmail to Outlook.com</h1>",
        *_notes(known, verdict),
        *(_tiles(known.status) if known.status is not None else ()),
        *_charts(seen),
        *(_records(known.status) if known.status is not None else ()),
        *_footer(known, seen),
        "</main></body></html>\n",
    ]
    return "".join(parts)


def _notes(known: Known, verdict: Verdict) -> Iterator[str]:
    mood, title = ("good", "The daemon is well") if verdict.healthy else ("bad", "The daemon is not well")
    yield f'<div class="note {mood}"><strong>{title}</strong>{_sentence(verdict.reason)}</div>'
    if known.reason:
        last = "Nothing has been read yet."
        if known.status is not None:
            last = f"What is shown of them is of {escape(iso(known.status.now) or '')}."
        title = "The records cannot be read now"
        yield f'<div class="note warn"><strong>{title}</strong>{_sentence(known.reason)} {last}</div>'


def _tiles(status: Status) -> Iterator[str]:
    counts = (
        ("copied today (UTC)", status.copied_since(1)),
        (f"in {WEEK_DAYS} days", status.copied_since(WEEK_DAYS)),
        ("in total", status.standing.watermark.copied),
        ("waiting", status.waiting),
    )
    yield '<section class="tiles">'
    for label, count in counts:
        yield f'<div class="card"><b>{count:,}</b><span>{escape(label)}</span></div>'
    yield "</section>"


def _charts(seen: Seen) -> Iterator[str]:
    total = sum(hour.copied for hour in seen.hours)
    lag = max((hour.lag_seconds for hour in seen.hours if hour.lag_seconds is not None), default=None)
    longest = f"at most {status_chart.short_span(lag)}" if lag is not None else "nothing copied yet"
    yield '<section class="card"><div class="head"><h2>Copied in the last 24 hours</h2>'
    yield f'<span class="soft">{total:,} by this daemon</span></div>{status_chart.copied_chart(seen)}'
    yield '<div class="head"><h2>Longest way from arrival to copy</h2>'
    yield f'<span class="soft">{longest}</span></div>{status_chart.lag_chart(seen)}{status_chart.axis(seen)}'
    keys = []
    if any(hour.bad_cycles for hour in seen.hours):
        keys.append('<span class="key fault"></span>some cycles ended badly')
    if seen.started_at > seen.hours[0].start:
        keys.append(f'<span class="key before"></span>before this daemon was started, {_ago(seen.started_at, seen)}')
    if keys:
        yield f'<div class="soft">{" &ensp; ".join(keys)}</div>'
    yield "</section>"


def _records(status: Status) -> Iterator[str]:
    yield '<section class="card"><h2>The records</h2><dl>'
    for row in rows(status):
        mood = _MOODS.get(row.mood, "")
        yield f'<div class="{mood}"><dt>{escape(row.label)}</dt><dd>{escape(row.text)}</dd></div>'
    yield "</dl></section>"
    found = messages(status)
    if not found:
        return
    yield '<section class="card"><h2>Messages that need a look</h2><table><thead><tr>'
    yield "".join(f"<th>{column}</th>" for column in _COLUMNS) + "</tr></thead><tbody>"
    for cells in found[:MOST_ROWS]:
        yield "<tr>"
        for name, cell in zip(_COLUMNS, cells, strict=True):
            yield f'<td data-label="{name}">{escape(cell)}</td>'
        yield "</tr>"
    yield "</tbody></table>"
    for hint in hints(status):
        yield f'<div class="soft">{_sentence(hint)}</div>'
    yield "</section>"


def _footer(known: Known, seen: Seen) -> Iterator[str]:
    read = f"Records read {_ago(known.status.now, seen)}. " if known.status is not None else ""
    yield f"<footer><p>{read}{escape(iso(seen.now) or '')}; this page loads itself again every minute.</p></footer>"


def _ago(at: float, seen: Seen) -> str:
    return f"{span(max(0.0, seen.now - at))} ago"


def _sentence(text: str) -> str:
    """Return a text of ours with a large first letter and a full stop, escaped."""
    return escape(f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}")
