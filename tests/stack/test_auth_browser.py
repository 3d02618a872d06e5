"""A real browser at the consent page and at ours: headless Chromium, started by the command as ``$BROWSER``."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.demo.certificates import Certificates
from syncer.model import Side
from tests.conftest import missing
from tests.fakes import webdriver
from tests.stack.desk import Desk, desk_of

CHROMIUM = shlex.join([sys.executable, webdriver.__file__, "%s"])


@pytest.fixture
def desk(certificates: Certificates, tmp_path: Path) -> Iterator[Desk]:
    if webdriver.find_driver() is None:
        missing("no chromedriver; Debian's packages chromium and chromium-driver bring it")
    with desk_of(certificates, tmp_path) as made:
        yield made


def browsed(desk: Desk, *arguments: str) -> tuple[str, str]:
    """Run the command to its end; return what the browser and the terminal showed."""
    session = desk.sign_in(*arguments, BROWSER=CHROMIUM, SYNCER_TEST_SEEN=str(desk.folder / "seen.txt"))
    deadline = time.monotonic() + 20
    while not (desk.folder / "seen.txt").exists():  # the browser outlives the command by a moment
        assert time.monotonic() < deadline, session.shown
        time.sleep(0.1)
    assert (desk.folder / "seen.png").read_bytes().startswith(b"\x89PNG")
    return (desk.folder / "seen.txt").read_text(), session.shown


def test_chromium_walks_from_google_s_page_to_ours_and_reads_there_that_it_worked(desk: Desk) -> None:
    page, shown = browsed(desk, "gmail", "--save", "file:tokens.json")
    assert "IMAP works" in shown
    assert page.splitlines()[0] == "You are signed in"
    assert "The program may use Gmail now." in page
    assert "You can close this page" in page
    assert desk.opens(Side.SOURCE, desk.tokens()["gmail"]["refresh_token"])


def test_chromium_reads_in_our_page_that_it_did_not_work(desk: Desk) -> None:
    desk.authority.forgets_refresh_token = True
    page, shown = browsed(desk, "gmail")
    assert "no refresh token" in shown
    assert page.splitlines()[0] == "Signing in did not work"
    assert "Nothing was saved" in page


def test_chromium_posts_microsoft_s_answer_as_a_form(desk: Desk) -> None:
    page, _ = browsed(desk, "outlook", "--browser", "--save", "file:tokens.json")
    assert "The program may use Outlook.com now." in page
    assert desk.opens(Side.DESTINATION, desk.tokens()["outlook"]["refresh_token"])
