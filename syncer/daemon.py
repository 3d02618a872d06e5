"""A cycle every so often, for as long as nobody says stop. A bad cycle never ends the loop.

SIGTERM and SIGINT let the message in hand finish, save the watermark, release the lease and end
with exit code 0. The interval runs from the start of a cycle to the start of the next; time that the
machine slept counts. Whoever knows of work (``idle_watch``) may wake the loop before that.
"""

from __future__ import annotations

import contextlib
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final, Protocol

from syncer.clocks import elapsed
from syncer.cycle_state import Summary
from syncer.logging_utils import log_bug
from syncer.model import Outcome

MIN_PAUSE_SECONDS: Final = 1.0
"""Between two cycles, however often the loop is woken: a flood of mail must not become a flood of cycles."""
TICK_SECONDS: Final = 5.0
"""A wait cannot see that the machine slept: so often it looks at the clock that can."""


class Stopper:
    """Remembers that somebody said stop, or that there is work. Its ``signal`` is a ``ports.StopSignal``."""

    def __init__(self) -> None:
        self._said = False
        self._woken = False
        # Not an Event: a signal handler that sets one while its own thread is about to wait for it can
        # wait for itself for ever. SimpleQueue.put may be interrupted by itself.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def say(self) -> None:
        """Say stop."""
        self._said = True
        self._bell.put(None)

    def wake(self) -> None:
        """End the wait that is on, or the next one: there is work. From any thread."""
        if not self._woken:
            self._woken = True
            self._bell.put(None)

    def signal(self) -> Outcome | None:
        """Return STOPPED once somebody said so."""
        return Outcome.STOPPED if self._said else None

    def wait_until(self, moment: float, clock: Callable[[], float] = elapsed) -> bool:
        """Wait until ``moment``, or until woken, or until somebody says stop; return whether somebody did."""
        earliest = min(moment, clock() + MIN_PAUSE_SECONDS)
        while not self._said:
            until = earliest if self._woken else moment
            left = until - clock()
            if left <= 0:
                # Cleared before the cycle begins: who wakes from now on may know of mail that it does not list.
                self._woken = False
                break
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=min(left, TICK_SECONDS))
        return self._said

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until woken, or until somebody says stop; return whether somebody did."""
        return self.wait_until(elapsed() + seconds)

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
    cycle: Callable[[], Summary],
    stopper: Stopper,
    interval: float,
    watchers: Sequence[Watcher] = (),
    *,
    clock: Callable[[], float] = elapsed,
) -> None:
    """Call ``cycle`` every ``interval`` seconds, and when ``stopper`` is woken, until somebody says stop."""
    while True:
        began = clock()
        run_watched(cycle, watchers)
        if stopper.wait_until(began + interval, clock):
            return
