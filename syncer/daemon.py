"""A cycle every so often, for as long as nobody says stop. A bad cycle never ends the loop.

SIGTERM and SIGINT let the message in hand finish, save the watermark, release the lease and end
with exit code 0. The interval runs from the start of a cycle to the start of the next.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from syncer.cycle_state import Summary
from syncer.logging_utils import log_bug
from syncer.model import Outcome


class Stopper:
    """Remembers that somebody said stop. Its ``signal`` is a ``ports.StopSignal``."""

    def __init__(self) -> None:
        self._said = threading.Event()

    def say(self) -> None:
        """Say stop."""
        self._said.set()

    def signal(self) -> Outcome | None:
        """Return STOPPED once somebody said so."""
        return Outcome.STOPPED if self._said.is_set() else None

    def wait(self, seconds: float) -> bool:
        """Wait, at most until somebody says stop; return whether somebody did."""
        return self._said.wait(max(0.0, seconds))

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as stop, within this block."""

        def handler(_number: int, _frame: FrameType | None) -> None:
            self.say()

        before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, previous in before.items():
                signal.signal(number, previous)


class Watcher(Protocol):
    """Who is told about cycles, one after the other and in the thread that runs them; raises nothing."""

    def began(self) -> None:
        """Note that a cycle begins."""

    def progressed(self) -> None:
        """Note that the cycle has settled one more message."""

    def ended(self, summary: Summary | None) -> None:
        """Note how the cycle ended; None: by a bug."""


def run_watched(cycle: Callable[[], Summary], watchers: Sequence[Watcher]) -> Summary | None:
    """Run one cycle and tell everybody; return None if it ended by a bug, which is logged."""
    for watcher in watchers:
        watcher.began()
    try:
        summary: Summary | None = cycle()
    except Exception as error:  # noqa: BLE001 - a bug in one cycle must not end the service
        log_bug(error)
        summary = None
    for watcher in watchers:
        watcher.ended(summary)
    return summary


def run_for_ever(
    cycle: Callable[[], Summary], stopper: Stopper, interval: float, watchers: Sequence[Watcher] = ()
) -> None:
    """Call ``cycle`` every ``interval`` seconds until somebody says stop."""
    while True:
        began = time.monotonic()
        run_watched(cycle, watchers)
        if stopper.wait(interval - (time.monotonic() - began)):
            return
