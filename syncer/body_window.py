"""Bodies on their way from the source: fetched in flights, and never more at once than memory is meant for.

A message at which the connection ended before is fetched alone, when all others are stored: so what
ends with it is nobody else's, and nobody waits behind it.

What counts is held from the moment it is asked for until ``let_go``: the announced size first, the
real one once it is there. One message is always let through, however large.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

from syncer.copy_job import Item, Job
from syncer.errors import MessageRefused, SyncError
from syncer.fingerprint import rfc822_sha256
from syncer.ports import Clock, Source
from syncer.progress import Progress

WINDOW_OCTETS: Final = 48 << 20
"""Octets of message bodies held at once."""
WINDOW_MESSAGES: Final = 1024
FIRST_OCTETS: Final = 4 << 20
"""Asked for before it is known whether the destination takes anything, where nothing speaks against it."""
CAUTIOUS_OCTETS: Final = 512 << 10
"""The same, where the destination may be away for long: little enough to be fetched in vain all day."""
_REFILL: Final = 0.75
"""Nothing is asked for until so much of the window is free that a flight of several is worth a command."""
_DAY: Final = 86_400


class DailyBudget:
    """What may be fetched from the source in a day: Gmail locks out who downloads too much (PROVIDERS 1.5).

    A day is one of UTC, so any 24 hours may hold up to two budgets.
    """

    def __init__(self, octets: int, progress: Progress, clock: Clock) -> None:
        """``octets`` 0: no limit, and nothing is counted."""
        self._octets = octets
        self._progress = progress
        self._clock = clock

    def allows(self, octets: int) -> bool:
        """Tell whether so many more may be fetched today; the first message of a day always may."""
        spent = self._progress.fetched_on(self._today())
        return not self._octets or not spent or spent + octets <= self._octets

    def spend(self, octets: int) -> None:
        """Count what is asked for, before it comes: what a broken connection brought of it was downloaded, too."""
        if self._octets:
            self._progress.count_fetched(self._today(), octets)

    def _today(self) -> int:
        return int(self._clock.now() // _DAY)


class BodyWindow:
    """Fetches jobs in their order. Its callbacks are called by the coordinator's thread."""

    def __init__(
        self,
        source: Source,
        clock: Clock,
        budget: DailyBudget,
        post: Callable[[Callable[[], None]], None],
        *,
        ahead: Callable[[], float],
        on_body: Callable[[Item], None],
        on_refused: Callable[[Item], None],
        on_error: Callable[[Item, SyncError], None],
    ) -> None:
        """``post`` hands an event over to the coordinator, from any thread; ``ahead``: more messages need not wait."""
        self._source = source
        self._clock = clock
        self._budget = budget
        self._post = post
        self._ahead = ahead
        self._on_body = on_body
        self._on_refused = on_refused
        self._on_error = on_error
        self._todo: deque[Job] = deque()
        self._fetching: set[Item] = set()
        self._held = 0
        self._octets = 0
        self.budget_is_spent = False
        """What is still to be fetched has to wait for another day."""

    def add(self, jobs: Iterable[Job]) -> None:
        """Fetch these after the others."""
        self._todo.extend(jobs)

    def add_first(self, job: Job) -> None:
        """Fetch this before the others."""
        self._todo.appendleft(job)

    def __len__(self) -> int:
        """Return how many bodies have yet to come."""
        return len(self._todo) + len(self._fetching)

    def start(self, most_octets: int = WINDOW_OCTETS) -> None:
        """Ask for as many bodies as there is room for."""
        most = min(WINDOW_MESSAGES, self._ahead())
        if self._held > most * _REFILL or (self._held and self._octets > WINDOW_OCTETS * _REFILL):
            return
        if any(item.job.may_break for item in self._fetching):
            return
        flight: list[Item] = []
        while self._todo and self._held < most and not self.budget_is_spent:
            if self._todo[0].may_break and self._held:
                break
            size = self._todo[0].message.size
            if (self._held or most_octets < WINDOW_OCTETS) and self._octets + size > most_octets:
                break
            if not self._budget.allows(size):
                self.budget_is_spent = True
                break
            self._budget.spend(size)
            flight.append(Item(self._todo.popleft(), self._clock.elapsed(), octets=size))
            self._held += 1
            self._octets += size
            if flight[0].job.may_break:
                break
        self._fetch(flight)

    @property
    def has_more(self) -> bool:
        """Tell whether bodies will come that have not come yet."""
        return bool(self._fetching or (self._todo and not self.budget_is_spent))

    def let_go(self, item: Item) -> None:
        """Forget a body: there is room for others."""
        item.body = b""
        self._held -= 1
        self._octets -= item.octets

    def _fetch(self, flight: Sequence[Item]) -> None:
        if not flight:
            return
        self._fetching.update(flight)
        for item, future in zip(flight, self._source.fetch([item.job.message for item in flight]), strict=True):
            future.add_done_callback(partial(self._report, item))

    def _report(self, item: Item, done: Future[bytes | bytearray]) -> None:
        self._post(partial(self._fetched, item, done))

    def _fetched(self, item: Item, done: Future[bytes | bytearray]) -> None:
        self._fetching.discard(item)
        try:
            body = done.result()
        except MessageRefused as refused:
            self._refuse(item, f"the source does not serve it: {refused}")
            return
        except SyncError as error:
            self.let_go(item)
            self._on_error(item, error)
            return
        before, item.sha256 = item.sha256, rfc822_sha256(body)
        if len(body) != item.job.message.size and item.sha256 != before:
            # Announced and served sizes differ: a body cut short, or a server whose RFC822.SIZE is
            # an estimate. The same bytes twice are what it serves.
            if before:
                self._refuse(item, "the source serves it differently each time")
            else:
                self._budget.spend(len(body))
                self._fetch([item])
            return
        self._octets += len(body) - item.octets
        item.body, item.octets = body, len(body)
        self._on_body(item)

    def _refuse(self, item: Item, reason: str) -> None:
        self.let_go(item)
        item.reason = reason
        self._on_refused(item)
