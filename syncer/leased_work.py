"""Work beside the cycles, under their lease: what ``audit``, ``adopt``, ``retry``, ``backfill``, ``settle`` share.

The lease first, as in a cycle, and for the same reason; then both mailboxes, for reading. Whatever
happens, the mailboxes are closed and the lease is released, with the watermark that the work leaves
behind: the one that was found, unless the work says otherwise.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from syncer.cycle_state import EngineSettings, World
from syncer.errors import AuthError, ConfigError, LeaseLost, MessageRefused, StateUnavailable, SyncError
from syncer.fingerprint import rfc822_sha256
from syncer.lease_keeper import LeaseKeeper
from syncer.listing import Listing
from syncer.logging_utils import log_event
from syncer.model import (
    DestinationView,
    FailRecord,
    Fingerprint,
    Identity,
    MessageKey,
    Outcome,
    Side,
    SourceMessage,
    UidRecord,
    Watermark,
)
from syncer.outcomes import is_held, report
from syncer.ports import Destination, SelectedMailbox, Source
from syncer.sync_plan import mailbox_faults
from syncer.uid_set import UidSet

logger = logging.getLogger(__name__)

_DAY: Final = 86_400.0
_BODIES: Final = 16
_BODY_OCTETS: Final = 8 << 20
"""Bodies that are held at once: so many, or so many octets."""


class Stopped(Exception):
    """Somebody said stop, or the time is up."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class LeasedWork:
    """One piece of work. ``found`` and ``keeper`` are there once it has the lease."""

    found: Watermark
    keeper: LeaseKeeper
    source: Source
    selected: SelectedMailbox

    def __init__(self, world: World, settings: EngineSettings, run_id: str) -> None:
        """``run_id`` is unique to this work: it owns the lease."""
        self.world = world
        self.settings = settings
        self.run_id = run_id
        self.watermark = Watermark()
        """What the release writes."""
        self.faults: tuple[str, ...] = ()
        self.remedy = ""
        self._mailboxes: list[Source | Destination] = []
        self._is_leased = False

    def do(self, work: Callable[[], None]) -> Outcome:
        """Do ``work`` under the lease and return how it ended. Raises nothing that is not a bug."""
        clock = self.world.clock
        began = clock.elapsed()
        try:
            lease, self.found = self.world.store.take_lease(self.run_id, clock.now())
        except SyncError as error:
            return report(error, clock.now())
        self.watermark = self.found
        self.keeper = LeaseKeeper(self.world.store, lease, self.settings.lease_seconds, clock, began)
        self._is_leased = True
        outcome = self._outcome_of(work)
        if outcome not in (Outcome.STATE_UNAVAILABLE, Outcome.LEASE_HELD):
            try:
                self.keeper.release(self.watermark)
            except (StateUnavailable, LeaseLost) as error:
                outcome = report(error, clock.now())
        return outcome

    def do_unleased(self, work: Callable[[], None]) -> Outcome:
        """Do ``work`` that only reads, and write nothing, anywhere. Raises nothing that is not a bug."""
        try:
            self.watermark = self.found = self.world.store.peek()
        except SyncError as error:
            return report(error, self.world.clock.now())
        return self._outcome_of(work)

    def _outcome_of(self, work: Callable[[], None]) -> Outcome:
        outcome = Outcome.OK
        try:
            work()
        except Stopped as stopped:
            outcome = stopped.outcome
        except ConfigError as error:
            outcome = Outcome.DESTINATION_UNAVAILABLE if len(self._mailboxes) > 1 else Outcome.SOURCE_UNAVAILABLE
            self.faults = error.faults
            log_event(logger, logging.ERROR, "configuration_invalid", faults=list(error.faults))
        except SyncError as error:
            self.remedy = error.remedy if isinstance(error, AuthError) else ""
            outcome = report(error, self.world.clock.now(), self._hold)
        finally:
            for mailbox in self._mailboxes:
                mailbox.close()
        return outcome

    def _hold(self, side: Side, until: float) -> None:
        self.watermark = replace(self.watermark, not_before={**self.watermark.not_before, side: until})

    def go_on(self) -> None:
        """Keep the lease. Raises Stopped: nothing new may be started; LeaseLost, StateUnavailable."""
        stop = self.world.stop()
        if stop is not None:
            raise Stopped(stop)
        if self._is_leased and self.keeper.is_due:
            self.keeper.renew()

    # -- the mailboxes

    def open_source(self) -> None:
        """Open the source. Raises Unavailable, Throttled, AuthError; ConfigError: it is not the records'."""
        settings = self.settings
        faults = mailbox_faults(self.found, settings.source_mailbox, settings.destination_mailbox, 0)
        if faults:
            raise ConfigError(faults)
        for side in Side:
            if is_held(self.found, side, self.world.clock.now()):
                raise Stopped(Outcome.THROTTLED)
        self.source = self.world.open_source()
        self._mailboxes.append(self.source)
        self.selected, _ = self.source.open(UidSet())

    def list_since(self, moment: float) -> Iterator[list[SourceMessage]]:
        """Yield what arrived at ``moment`` or later (0: everything), some at a time, in UID order.

        Raises Unavailable, Throttled, LeaseLost, StateUnavailable, Stopped.
        """
        return self.list_between(moment, math.inf, self.selected.uidnext - 1)

    def list_between(self, since: float, until: float, upto: int) -> Iterator[list[SourceMessage]]:
        """Yield what arrived at ``since`` or later (0: always), before ``until``, and has a UID up to ``upto``.

        Raises Unavailable, Throttled, LeaseLost, StateUnavailable, Stopped.
        """
        candidates = self.source.since(since) if since > 0 else UidSet([1])
        if not candidates:
            return
        # A search goes by the day, whose bounds are the server's: what it says of the day after is too late for sure.
        too_late = self.source.since(until + 2 * _DAY) if until < self.world.clock.now() else UidSet()
        listing = Listing(candidates.lowest - 1)
        while listing.upto < upto:
            self.go_on()
            floor = listing.upto
            asked = (listing.next_window() & UidSet.of_range(1, upto)) - too_late
            if asked:
                listed = listing.complete(self.source, asked, self.source.listing(asked), floor)
                yield [message for message in listed if since <= message.received_at < until]

    def look(self, first_uid: Callable[[int], int]) -> DestinationView:
        """Read the destination from a UID on, which its UIDVALIDITY decides.

        Raises Unavailable, Throttled, AuthError, ConfigError.
        """
        self.go_on()
        destination = self.world.make_destination()
        self._mailboxes.append(destination)
        fence = destination.open()
        view = destination.look(first_uid(fence.uidvalidity))
        self.go_on()
        return view

    def identities(self, messages: Sequence[SourceMessage]) -> dict[MessageKey, tuple[Identity, str]]:
        """Return each message's identity, and the hash where its body had to be fetched; none if it is not served.

        Raises Unavailable, Throttled, LeaseLost, StateUnavailable, Stopped.
        """
        found = {m.key: (Identity(m.gmail_msgid), "") for m in messages if m.gmail_msgid is not None}
        left = [message for message in messages if message.gmail_msgid is None]
        while left:
            self.go_on()
            flight = [left.pop(0)]
            while left and len(flight) < _BODIES and sum(m.size for m in flight) + left[0].size <= _BODY_OCTETS:
                flight.append(left.pop(0))
            for message, future in zip(flight, self.source.fetch(flight), strict=True):
                try:
                    sha256 = rfc822_sha256(future.result())
                except MessageRefused:
                    continue
                found[message.key] = (Identity(sha256), sha256)
        return found

    # -- records

    def records(
        self, keys: Sequence[MessageKey], identities: Sequence[Identity]
    ) -> tuple[dict[MessageKey, UidRecord], dict[MessageKey, FailRecord], dict[Identity, MessageKey]]:
        """Read what is known. Raises StateUnavailable."""
        loaded = self.world.store.load(keys, identities)
        return dict(loaded.records), dict(loaded.failures), dict(loaded.holders)


class Comparison(LeasedWork):
    """Work that holds the source against what is known of it: how ``audit`` and ``adopt`` begin, and their time."""

    def __init__(self, world: World, settings: EngineSettings, run_id: str) -> None:
        """See ``LeasedWork``; the time counts from now."""
        super().__init__(world, settings, run_id)
        self.messages: dict[MessageKey, SourceMessage] = {}
        """What was listed so far."""
        self.headers: dict[MessageKey, Fingerprint] = {}
        """Of these, but for what left the source meanwhile."""
        self._began = world.clock.elapsed()

    @property
    def duration_ms(self) -> int:
        """How long it has taken so far."""
        return round((self.world.clock.elapsed() - self._began) * 1000)

    def read_source(self, since: float) -> None:
        """Open the source, and read what arrived at ``since`` or later (0: everything) with its header fields.

        Raises Unavailable, Throttled, AuthError, ConfigError, LeaseLost, StateUnavailable, Stopped.
        """
        self.open_source()
        for messages in self.list_since(since):
            self.messages |= {message.key: message for message in messages}
            self.headers |= self.source.headers(messages)

    def known(self) -> tuple[dict[MessageKey, UidRecord], dict[MessageKey, FailRecord], dict[Identity, MessageKey]]:
        """Read what is known of the messages, and of those that the watermark names. Raises StateUnavailable."""
        found = self.found
        named = [MessageKey(v, uid) for uids in (found.open, found.failing) for v, its in uids.items() for uid in its]
        identities = [Identity(m.gmail_msgid) for m in self.messages.values() if m.gmail_msgid is not None]
        return self.records(sorted({*self.messages, *named}), identities)
