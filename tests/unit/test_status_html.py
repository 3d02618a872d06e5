"""The status page's markup: what it shows, that all of it is well-formed, and that nothing can break out of it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from syncer.cycle_state import Summary
from syncer.health import Verdict
from syncer.history import HOUR_SECONDS, History, Seen
from syncer.model import FailRecord, MessageKey, Outcome, Standing, Watermark
from syncer.status import Status
from syncer.status_chart import short_span
from syncer.status_html import CONTENT_SECURITY_POLICY, Known, render

NOW = 1_790_000_000 // HOUR_SECONDS * HOUR_SECONDS + 1800.0
WELL = Verdict(True, "last good cycle 3 s ago; the last cycle ended with ok")
ILL = Verdict(False, "no good cycle for 20 min; the last cycle ended with auth_failed: sign in again")
EVIL = "<script>alert(1)</script>\"'&<b onclick=x>"


class Page(HTMLParser):
    """Reads a page as strictly as it can: every element closed in its turn."""

    EMPTY = frozenset({"meta"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self._texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self._texts)

    def count(self, tag: str, name: str = "") -> int:
        return sum(found == tag and (not name or attrs.get("class") == name) for found, attrs in self.tags)


def seen(*summaries: Summary, started_ago: float = 100 * HOUR_SECONDS) -> Seen:
    moment = [NOW - started_ago]
    history = History(lambda: moment[0])
    moment[0] = NOW
    for summary in summaries:
        history.ended(summary)
    return history.seen()


def status(*given_up: str, **watermark: Any) -> Status:
    failures = tuple(
        FailRecord(MessageKey(7, number), reason, 5, NOW, NOW, given_up=True)
        for number, reason in enumerate(given_up, 1)
    )
    standing = Standing(Watermark(uidvalidity=7, last_uid=41, uidnext=42, completed_at=NOW - 9, **watermark))
    return Status(NOW - 12, standing, (), 2, (), failures)


def test_it_shows_what_status_shows() -> None:
    page = Page(render(Known(status(copied=1234), ""), seen(), WELL))
    for said in ("The daemon is well", "1,234", "UID 41 of 41", "last good cycle", "Gmail token", "12 seconds ago"):
        assert said in page.text


def test_an_ill_daemon_is_told_first_with_its_reason() -> None:
    page = Page(render(Known(status(), ""), seen(), ILL))
    assert page.text.index("not well") < page.text.index("in total")
    assert "No good cycle for 20 min; the last cycle ended with auth_failed: sign in again." in page.text


def test_before_anything_was_read_or_copied_there_is_a_page_all_the_same() -> None:
    page = Page(render(Known(None, ""), seen(started_ago=0), Verdict(True, "starting; no cycle has ended yet")))
    assert "0 by this daemon" in page.text
    assert "nothing copied yet" in page.text
    assert page.count("rect", "copied") == page.count("rect", "lag") == page.count("table") == 0


def test_records_without_a_cycle_are_no_fault() -> None:
    empty = Status(NOW, Standing(Watermark()), (), 0, (), ())
    assert "none yet" in Page(render(Known(empty, ""), seen(), WELL)).text


def test_records_that_cannot_be_read_are_told_with_the_last_known() -> None:
    page = Page(render(Known(status(copied=77), "DynamoDB does not answer"), seen(), WELL))
    assert "The records cannot be read now" in page.text
    assert "DynamoDB does not answer. What is shown of them is of 2026-" in page.text
    assert "77" in page.text


def test_records_that_were_never_read_leave_their_part_out() -> None:
    page = Page(render(Known(None, "DynamoDB does not answer"), seen(), WELL))
    assert "DynamoDB does not answer. Nothing has been read yet." in page.text
    assert page.count("dl") == 0


def test_every_text_is_escaped() -> None:
    page = Page(render(Known(status(EVIL), EVIL), seen(), Verdict(False, EVIL)))
    assert page.count("script") == page.count("b", "x") == 0
    assert page.text.count("alert(1)") == 3
    assert not [attrs for _, attrs in page.tags if "onclick" in attrs]


def test_messages_with_trouble_are_listed_and_a_long_list_is_cut() -> None:
    page = Page(render(Known(status(*["refused"] * 30), ""), seen(), WELL))
    assert page.count("tr") == 21
    assert "And 10 more messages: syncer status --json has them all." in page.text


def test_the_first_hours_show_since_when_the_daemon_counts() -> None:
    young = Page(render(Known(None, ""), seen(Summary(Outcome.OK, copied=3, lag_seconds=4), started_ago=7200), WELL))
    assert "before this daemon was started, 2 hours ago" in young.text
    assert young.count("rect", "before") == 2
    assert young.count("rect", "copied") == young.count("rect", "lag") == 1
    old = Page(render(Known(None, ""), seen(), WELL))
    assert old.count("rect", "before") == 0


def test_an_hour_with_bad_cycles_has_its_mark() -> None:
    page = Page(render(Known(None, ""), seen(Summary(Outcome.THROTTLED)), WELL))
    assert page.count("rect", "fault") == 1
    assert "some cycles ended badly" in page.text


@pytest.mark.parametrize("copied", [0, 1, 3, 4, 5, 99, 100, 101, 54_321])
@pytest.mark.parametrize("lag", [None, 0, 59, 3600, 700_000])
def test_bars_stay_within_their_chart_and_the_drawing_is_well_formed(copied: int, lag: int | None) -> None:
    page = render(Known(None, ""), seen(Summary(Outcome.OK, copied=copied, lag_seconds=lag)), WELL)
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        for rect in ET.fromstring(drawing).iter("rect"):
            places = {name: float(rect.get(name, "0%").rstrip("%")) for name in ("x", "y", "width", "height")}
            assert places["x"] + places["width"] <= 100
            assert places["y"] >= 0
            assert places["y"] + places["height"] <= 100.01


def test_nothing_comes_from_elsewhere_and_the_policy_allows_this_very_style() -> None:
    page = render(Known(status(), ""), seen(), WELL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none';")
    for forbidden in ("http:", "https:", "//", "url(", "@import", "<script", " style=", "<a ", "<form", "<img"):
        assert forbidden not in page, forbidden


def test_it_fits_a_phone_knows_the_dark_and_loads_itself_again() -> None:
    page = render(Known(status(), ""), seen(), WELL)
    assert 'name="viewport" content="width=device-width,initial-scale=1"' in page
    assert "@media (prefers-color-scheme:dark)" in page
    assert '<meta http-equiv="refresh" content="60">' in page


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_a_span_in_a_few_letters(seconds: float, text: str) -> None:
    assert short_span(seconds) == text
