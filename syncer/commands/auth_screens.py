"""What a person sees while signing in: on stderr, in plain words, and never a secret."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence

from rich import box
from rich.align import Align
from rich.console import Console, Group
from rich.panel import Panel
from rich.status import Status
from rich.text import Text

_GOOD, _WARN, _BAD = ("✓", "green"), ("!", "yellow"), ("✗", "red")


class Screen:
    """The terminal."""

    def __init__(self) -> None:
        self.kept = False
        """Whether there is a token that was kept."""
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        if not (self._console.encoding or "").lower().startswith("utf"):
            self._marks = {_GOOD[0]: "ok", _BAD[0]: "x"}
        else:
            self._marks = {}

    def say(self, text: str = "") -> None:
        """Print a paragraph."""
        self._hang("", "", text)

    def title(self, text: str) -> None:
        """Print what this is about."""
        self._console.print(Text(text, "bold"))

    def address(self, address: str) -> None:
        """Print an address in one line, however long, so that it can be copied whole."""
        self._console.print()
        self._console.print(Text(address, "cyan"), soft_wrap=True)
        self._console.print()

    def steps(self, steps: Sequence[str]) -> None:
        """Print what is to be done, in order."""
        for number, step in enumerate(steps, 1):
            self._hang(f"  {number}. ", "", step)

    def good(self, text: str) -> None:
        """Say that something is well."""
        self._mark(_GOOD, text)

    def warn(self, text: str, remedy: str = "") -> None:
        """Say what to look after."""
        self._mark(_WARN, text, remedy)

    def bad(self, text: str, remedy: str = "") -> None:
        """Say what went wrong, and what helps."""
        self._mark(_BAD, text, remedy)

    def code(self, code: str, page: str) -> None:
        """Show a device code as large as a terminal can."""
        inside = Group(
            Text("Open this page, on this machine or any other:", justify="center"),
            Text(page, "bold cyan", justify="center"),
            Text(),
            Text("and enter this code:", justify="center"),
            Text(),
            Align.center(Panel(Text(code, "bold"), box=box.HEAVY, expand=False, padding=(1, 6))),
        )
        self._console.print(Panel(inside, title="Sign in at Microsoft", padding=(1, 2), width=self._width()))

    @contextlib.contextmanager
    def waiting(self, text: Callable[[], str]) -> Iterator[Callable[[], None]]:
        """Turn a spinner; what is yielded renews its text."""
        with Status(text(), console=self._console) as status:
            yield lambda: status.update(text())

    def _width(self) -> int:
        return min(self._console.width, 80)

    def _mark(self, mark: tuple[str, str], text: str, remedy: str = "") -> None:
        sign, colour = mark
        self._hang(f"{self._marks.get(sign, sign)} ", f"bold {colour}", text[:1].upper() + text[1:] + _stop(text))
        if remedy:
            self._hang("  -> ", "bold", remedy[:1].upper() + remedy[1:] + _stop(remedy))

    def _hang(self, lead: str, style: str, text: str) -> None:
        """Print a paragraph whose later lines stand under the first one's text; a file gets it unbroken."""
        if not self._console.is_terminal:
            self._console.print(lead + text, soft_wrap=True)
            return
        lines = Text(text).wrap(self._console, max(20, self._width() - len(lead)))
        for number, line in enumerate(lines):
            line.rstrip()
            self._console.print(Text.assemble((lead if number == 0 else " " * len(lead), style), line), soft_wrap=True)


def _stop(text: str) -> str:
    return (
        "" if text.endswith((".", ":", "?")) or text.rpartition(" ")[2].startswith(("http", "MS_", "TOKENS_")) else "."
    )


def has_browser() -> bool:
    """Tell whether a browser can be expected to open on this machine, in a window of its own."""
    if os.environ.get("BROWSER"):
        return True
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # only browsers that would take over the terminal
    with contextlib.suppress(webbrowser.Error):
        return webbrowser.get() is not None
    return False


def open_browser(address: str) -> None:
    """Open a page; in a thread, since some browsers are waited for until they are closed."""

    def run() -> None:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(address)

    threading.Thread(target=run, name="browser", daemon=True).start()


def left(until: float, now: Callable[[], float] = time.time) -> str:
    """Return how much time there is, as minutes and seconds."""
    seconds = max(0, int(until - now()))
    return f"{seconds // 60}:{seconds % 60:02d}"
