"""Rebuild the records from what lies in both mailboxes, after the table was lost or another tool did the copying.

Every message of the source is matched with the destination, one to one, by its fingerprint:

    as many copies as messages, or more   recorded as copied, each with a copy of its own
    fewer copies than messages that look alike, or a similar message   recorded as given up, and reported
    no copy                               left open: the next cycle copies it

Records are written in batches under the lease; the watermark is written last, with the release. A run
that died before that left records and no watermark: the next one takes them as they are and goes on.
What was given up is decided anew then, since a decision may rest on messages that were not written yet.

Bodies are fetched only where the source has no X-GM-MSGID and there is a copy to be recorded. What is
held in memory is some hundred octets for each message of both mailboxes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from syncer.cycle_state import EngineSettings, World
from syncer.errors import ConfigError
from syncer.leased_work import Comparison
from syncer.logging_utils import log_event
from syncer.lookback import begin_look_back
from syncer.matching import Copies, Group, groups_of
from syncer.model import (
    Claim,
    CopyUid,
    DestinationView,
    Duplicate,
    FailRecord,
    Failure,
    Identity,
    MessageKey,
    Outcome,
    Status,
    UidRecord,
    Write,
)
from syncer.progress import Progress

logger = logging.getLogger(__name__)

SIMILAR: Final = "a similar message is in the destination"
_KNOWN: Final = (
    "DYNAMODB_TABLE has records of what was copied between these accounts, and adopt is for a table that was lost:"
    " use audit to see what is missing, or name another table"
)
_BATCH: Final = 40
"""Writes in a commit: with the watermark, one transaction holds them."""


@dataclass(frozen=True, slots=True)
class AdoptReport:
    """What was adopted: the fields of ``adopt_finished``."""

    outcome: Outcome
    listed: int
    adopted: int
    duplicates: int
    similar: int
    left_open: int
    duration_ms: int
    faults: tuple[str, ...] = ()


class Adoption:
    """One rebuilding of the records."""

    def __init__(self, world: World, settings: EngineSettings, run_id: str, *, since: float = 0.0) -> None:
        """``since``: what arrived earlier is not wanted, as if the first run had begun there; 0: everything is."""
        self._work = Comparison(world, settings, run_id)
        self._world = world
        self._since = since
        self._known: dict[Identity, MessageKey] = {}
        self._settled: set[MessageKey] = set()
        self._failures: dict[MessageKey, FailRecord] = {}
        self._due: dict[MessageKey, float] = {}
        self._writes: list[Write] = []
        self._adopted = 0
        self._duplicates = 0
        self._similar: list[MessageKey] = []

    def run(self) -> AdoptReport:
        """Rebuild the records, tell how it ended, and return it. Raises nothing that is not a bug."""
        log_event(logger, logging.INFO, "adopt_started")
        outcome = self._work.do(self._adopt)
        report = AdoptReport(
            outcome=outcome,
            listed=len(self._work.messages),
            adopted=self._adopted,
            duplicates=self._duplicates,
            similar=len(self._similar),
            left_open=len(self._work.messages) - len(self._settled) + len(self._due) if outcome is Outcome.OK else 0,
            duration_ms=self._work.duration_ms,
            faults=self._work.faults,
        )
        log_event(
            logger,
            logging.INFO,
            "adopt_finished",
            outcome=report.outcome,
            listed=report.listed,
            adopted=report.adopted,
            duplicates=report.duplicates,
            similar=report.similar,
            left_open=report.left_open,
            duration_ms=report.duration_ms,
        )
        return report

    # -- the work

    def _adopt(self) -> None:
        work = self._work
        work.read_source(self._since)
        written = self._read_records()
        view = work.look(lambda _uidvalidity: 1)
        copies = Copies(view.messages)
        copies.take(r.copy.uid for r in written if r.copy is not None and r.copy.uidvalidity == view.fence.uidvalidity)
        unmatched: list[MessageKey] = []
        waiting = {key: header for key, header in self._work.headers.items() if key not in self._settled}
        for fingerprint, group in groups_of(waiting):
            unmatched += self._match(group, copies.equal(fingerprint), copies, view)
        for key in sorted(unmatched):
            msgid = self._work.messages[key].gmail_msgid
            if msgid is not None and Identity(msgid) in self._known:
                continue  # a cycle records it as a duplicate
            if copies.similar(self._work.headers[key]):
                self._give_up(key)
            elif key in self._failures:
                self._try_again(self._failures[key])
        self._flush()
        self._end()

    def _read_records(self) -> list[UidRecord]:
        """Take what an earlier run, which died, has recorded; return those records.

        Raises ConfigError: a cycle recorded it, which knows more than can be found out here.
        """
        found = self._work.found
        records, self._failures, holders = self._work.known()
        if found.uidvalidity is not None and (records or holders or found.owned):
            raise ConfigError([_KNOWN])
        self._settled |= records.keys()
        self._adopted += sum(record.duplicate_of is None for record in records.values())
        self._duplicates += sum(record.duplicate_of is not None for record in records.values())
        self._known |= holders
        self._known |= {r.identity: key for key, r in records.items() if r.duplicate_of is None}
        return list(records.values())

    def _match(self, group: Group, equal: Sequence[int], copies: Copies, view: DestinationView) -> list[MessageKey]:
        """Record what is decided about messages of one fingerprint; return those of which there is no copy."""
        if not equal:
            return list(group)
        copies.take(equal)
        limit = self._work.settings.max_message_bytes
        # What a cycle would not fetch is left to it, which records why.
        wanted = [m for key in group if (m := self._work.messages[key]).gmail_msgid is not None or 0 < m.size <= limit]
        identities = self._work.identities(wanted)
        firsts: dict[Identity, MessageKey] = {}
        for key, (identity, _) in identities.items():
            holder = self._known.get(identity) or firsts.setdefault(identity, key)
            if holder != key:
                self._add(Duplicate(key, identity, holder, self._world.clock.now()), key)
                self._duplicates += 1
        unserved = [message.key for message in wanted if message.key not in identities]
        if len(equal) < len(firsts) + len(unserved):
            for key in [*firsts.values(), *unserved]:
                self._give_up(key)
            return []
        for uid, (identity, key) in zip(equal, firsts.items(), strict=False):
            self._claim(key, identity, identities[key][1], CopyUid(view.fence.uidvalidity, uid))
        for key in unserved:
            self._give_up(key)
        return []

    def _claim(self, key: MessageKey, identity: Identity, sha256: str, copy: CopyUid) -> None:
        now = self._world.clock.now()
        record = UidRecord(
            key=key,
            status=Status.DONE,
            identity=identity,
            attempt=self._world.new_token(),
            run_id=self._work.run_id,
            claimed_at=now,
            fingerprint=self._work.headers[key],
            internaldate=self._work.messages[key].internaldate,
            rfc822_sha256=sha256,
            copied_at=now,
            copy=copy,
        )
        self._known[identity] = key
        self._adopted += 1
        self._add(Claim(record), key)

    def _give_up(self, key: MessageKey) -> None:
        now = self._world.clock.now()
        record = FailRecord(
            key=key,
            last_error=SIMILAR,
            retry_count=1,
            updated_at=now,
            next_try_at=now,
            given_up=True,
            received_at=self._work.messages[key].received_at,
        )
        self._similar.append(key)
        self._add(Failure(record), key)
        fields = {"uidvalidity": key.uidvalidity, "uid": key.uid}
        log_event(logger, logging.WARNING, "adopt_undecided", **fields, reason=SIMILAR)

    def _try_again(self, failure: FailRecord) -> None:
        """Take back that a message was given up: what was similar is not there any more."""
        now = self._world.clock.now()
        again = replace(failure, retry_count=0, updated_at=now, next_try_at=now, given_up=False)
        self._due[failure.key] = now
        self._add(Failure(again), failure.key)

    # -- writing

    def _add(self, write: Write, key: MessageKey) -> None:
        """Write with the next batch."""
        self._settled.add(key)
        self._writes.append(write)
        if len(self._writes) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._work.go_on()
        if not self._writes:
            return
        writes, self._writes = self._writes, []
        lost = self._work.keeper.commit(self._work.found, writes).lost
        # Another message has the identity: nothing was written, and a cycle finds out the same.
        self._settled -= lost.keys()

    def _end(self) -> None:
        """Leave the watermark of a mailbox that was dealt with up to here, but for what is open."""
        work = self._work
        newest = work.selected.uidnext - 1
        still_open = sorted(self._work.messages.keys() - self._settled)
        # Should UIDVALIDITY change before they are copied, a resync has to reach back to them.
        oldest = min((self._work.messages[key].received_at for key in still_open), default=self._since)
        # What an earlier cycle left open or saw fail, without a copy of anything, was decided upon here.
        progress = Progress(replace(work.found, open={}, failing={}, next_try_at=None, completed_at=None))
        progress.start_anew(work.selected.uidvalidity, newest, since=self._since, upto=newest)
        begin_look_back(progress, work.world.clock.now())
        progress.see(work.selected.uidnext, 0)
        progress.name_mailboxes(work.settings.source_mailbox, work.settings.destination_mailbox)
        progress.reopen(still_open, oldest)
        for key, at in self._due.items():
            progress.fail(key, at)
        if not still_open:
            progress.complete(self._world.clock.now())
        work.watermark = progress.watermark(self._world.clock.now())
