"""Compare what arrived lately in the source with the records and with the destination. Nothing is copied here.

A message is *missing* if it is wanted and nothing is known of it: no record, no failure, no place in the
watermark. It is *duplicate* if more copies of it are in the destination than there are such messages,
*unsettled* if it is in doubt, waits for another try or was given up, and *gone* if it was copied and
its copy is not in the folder any more, which its owner may well have wanted.

What only waits for the next cycle, because it has just arrived, is counted and is no finding. A message
without a record whose copy may be there is unsettled, not missing: to copy it could make a second one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from syncer.cycle_state import EngineSettings, World
from syncer.leased_work import Comparison
from syncer.logging_utils import log_event
from syncer.matching import Copies, Group, groups_of
from syncer.model import (
    CopyUid,
    DestinationView,
    FailRecord,
    Identity,
    MessageKey,
    Outcome,
    SourceMessage,
    Status,
    UidRecord,
)
from syncer.uid_set import UidSet

logger = logging.getLogger(__name__)

_DAY = 86_400.0
_RECORDS = 1000
"""UIDs whose records are read at a time."""


class What(StrEnum):
    """What an audit can find."""

    MISSING = "missing"
    DUPLICATE = "duplicate"
    UNSETTLED = "unsettled"
    GONE = "gone"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One message that is not as it should be."""

    key: MessageKey
    what: What
    reason: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found: the fields of ``audit_finished``, and each finding."""

    outcome: Outcome
    listed: int
    copied: int
    waiting: int
    findings: tuple[Finding, ...]
    can_repair: bool
    """Something is missing, and a cycle would copy it now."""
    duration_ms: int
    faults: tuple[str, ...] = ()

    def count(self, what: What) -> int:
        """Return how many findings are of a kind."""
        return sum(finding.what is what for finding in self.findings)

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing needs a person."""
        return all(finding.what is What.GONE for finding in self.findings)

    @property
    def is_clean_but_for_missing(self) -> bool:
        """Tell whether nothing needs a person once what is missing was copied."""
        return all(finding.what in (What.GONE, What.MISSING) for finding in self.findings)


class Audit:
    """One comparison of both mailboxes and the records."""

    def __init__(self, world: World, settings: EngineSettings, run_id: str, *, days: float, repair: bool) -> None:
        """``repair``: what is missing is named as open, so that the next cycle copies it."""
        self._work = Comparison(world, settings, run_id)
        self._clock = world.clock
        self._days = days
        self._repair = repair
        self._records: dict[MessageKey, UidRecord] = {}
        self._failures: dict[MessageKey, FailRecord] = {}
        self._holders: dict[Identity, MessageKey] = {}
        self._waiting = 0
        self._findings: list[Finding] = []

    def run(self) -> AuditReport:
        """Compare, tell what was found, and return it. Raises nothing that is not a bug."""
        log_event(logger, logging.INFO, "audit_started", days=self._days)
        outcome = self._work.do(self._compare)
        findings = tuple(sorted(self._findings)) if outcome is Outcome.OK else ()
        report = AuditReport(
            outcome=outcome,
            listed=len(self._work.messages),
            copied=sum(self._copied(key) is not None for key in self._work.messages),
            waiting=self._waiting,
            findings=findings,
            can_repair=outcome is Outcome.OK and self._work.watermark.open != self._work.found.open,
            duration_ms=self._work.duration_ms,
            faults=self._work.faults,
        )
        self._tell(report)
        return report

    # -- what is compared

    def _compare(self) -> None:
        work = self._work
        work.read_source(self._clock.now() - self._days * _DAY)
        self._read_records()
        candidates = self._without_record()
        view = work.look(lambda uidvalidity: 1 if candidates else self._first_copy(uidvalidity))
        self._judge_unsettled()
        self._judge_copied(view)
        self._judge_missing(candidates, view)

    def _read_records(self) -> None:
        self._records, self._failures, self._holders = self._work.known()
        others = {r.duplicate_of for r in self._records.values() if r.duplicate_of is not None}
        others |= {holder for holder in self._holders.values() if holder not in self._records}
        if others - self._records.keys():
            more, _, _ = self._work.records(sorted(others - self._records.keys()), [])
            self._records |= more

    def _without_record(self) -> list[MessageKey]:
        """Return what nothing is known of, and count what only waits for a cycle."""
        found = self._work.found
        still_open = found.open.get(found.uidvalidity or 0, UidSet())
        unknown = []
        for key, message in self._work.messages.items():
            is_held = Identity(message.gmail_msgid or "") in self._holders
            if key in self._records or key in self._failures or is_held:
                continue
            is_ahead = key.uidvalidity == found.uidvalidity and (key.uid > found.horizon or key.uid in still_open)
            if is_ahead:
                self._waiting += 1
            elif message.received_at >= found.wanted_since:
                unknown.append(message)
        # Without X-GM-MSGID the record of an identity is found by its hash only.
        bodies = [m for m in unknown if m.gmail_msgid is None and 0 < m.size <= self._work.settings.max_message_bytes]
        hashes = {key: identity for key, (identity, _) in self._work.identities(bodies).items()}
        held = self._work.records([], sorted(set(hashes.values())))[2] if hashes else {}
        return [message.key for message in unknown if hashes.get(message.key, Identity("")) not in held]

    def _first_copy(self, uidvalidity: int) -> int:
        copies = [copy for key in self._work.messages if (copy := self._copied(key)) is not None]
        return min((copy.uid for copy in copies if copy.uidvalidity == uidvalidity), default=1)

    def _record_of(self, key: MessageKey) -> UidRecord | None:
        """Return the record that says where a message's copy is: its own, or that of its identity."""
        record = self._records.get(key)
        if record is not None and record.duplicate_of is None:
            return record
        message = self._work.messages.get(key)
        holder = record.duplicate_of if record is not None else None
        if holder is None and message is not None and message.gmail_msgid is not None:
            holder = self._holders.get(Identity(message.gmail_msgid))
        return self._records.get(holder) if holder is not None else None

    def _copied(self, key: MessageKey) -> CopyUid | None:
        """Return where the copy of a message was put, as far as a record says so."""
        record = self._record_of(key)
        return record.copy if record is not None and record.status is Status.DONE else None

    # -- what is found

    def _find(self, key: MessageKey, what: What, reason: str) -> None:
        self._findings.append(Finding(key, what, reason))

    def _judge_unsettled(self) -> None:
        for key, record in self._records.items():
            if record.status is Status.PENDING:
                self._find(key, What.UNSETTLED, "in doubt: nobody knows yet whether its copy is there")
        for key, failure in self._failures.items():
            if key not in self._records:
                reason = "given up" if failure.given_up else "waits for another try"
                self._find(key, What.UNSETTLED, f"{reason}: {failure.last_error}")

    def _judge_copied(self, view: DestinationView) -> None:
        there = UidSet(seen.uid for seen in view.messages)
        copies = Copies(view.messages)
        for fingerprint, group in groups_of(self._work.headers):
            equal = copies.equal(fingerprint)
            copies.take(equal)
            if len(equal) > len(group):
                surplus = len(equal) - len(group) - len(self._of_others(group, equal, view.fence.uidvalidity))
                if surplus > 0:
                    self._find(group[0], What.DUPLICATE, f"{len(equal)} copies of {len(group)} messages")
            left = len(equal)
            for key in group:
                copy = self._copied(key)
                stands = copy is not None and copy.uidvalidity == view.fence.uidvalidity and copy.uid in there
                left -= stands
            for key in group:
                record, copy = self._record_of(key), self._copied(key)
                if record is None or record.status is not Status.DONE:
                    continue
                if copy is not None and copy.uidvalidity == view.fence.uidvalidity and copy.uid in there:
                    continue
                left -= 1  # moved out of the folder and back, a copy has another UID
                if left < 0:
                    self._find(key, What.GONE, "its copy is not in the folder any more")

    def _of_others(self, group: Group, equal: Sequence[int], uidvalidity: int) -> set[int]:
        """Return the copies that belong to other messages, which left the source; lookalikes, so it is rarely asked."""
        mine = {record.identity for key in group if (record := self._record_of(key)) is not None}
        lowest = min(key.uid for key in self._work.messages)
        absent = UidSet.of_range(lowest, self._work.found.horizon) - UidSet(key.uid for key in self._work.messages)
        keys = [MessageKey(group[0].uidvalidity, uid) for uid in absent]
        owned: set[int] = set()
        for at in range(0, len(keys), _RECORDS):
            self._work.go_on()
            records = self._work.records(keys[at : at + _RECORDS], [])[0]
            its = [r.copy for r in records.values() if r.identity not in mine and r.copy is not None]
            owned |= {copy.uid for copy in its if copy.uidvalidity == uidvalidity}
        return owned.intersection(equal)

    def _judge_missing(self, candidates: Sequence[MessageKey], view: DestinationView) -> None:
        copies = Copies(view.messages)
        owned = [record.copy for record in self._records.values() if record.copy is not None]
        copies.take(copy.uid for copy in owned if copy.uidvalidity == view.fence.uidvalidity)
        missing: list[SourceMessage] = []
        for key in candidates:
            fingerprint = self._work.headers.get(key)
            if fingerprint is None:
                continue  # it left the source meanwhile
            if copies.equal(fingerprint) or copies.similar(fingerprint):
                self._find(key, What.UNSETTLED, "without a record, and what may be its copy is in the destination")
            else:
                self._find(key, What.MISSING, "neither a record nor a copy")
                missing.append(self._work.messages[key])
        found = self._work.found
        if not self._repair or not missing or found.uidvalidity != self._work.selected.uidvalidity:
            return
        uids = UidSet(message.key.uid for message in missing)
        still_open = found.open.get(found.uidvalidity, UidSet()) | uids
        # Should UIDVALIDITY change before they are copied, a resync has to reach back to them.
        since = found.window_since or min(message.received_at for message in missing)
        self._work.watermark = replace(found, open={**found.open, found.uidvalidity: still_open}, window_since=since)

    # -- telling

    @staticmethod
    def _tell(report: AuditReport) -> None:
        for finding in report.findings:
            log_event(
                logger,
                logging.INFO if finding.what is What.GONE else logging.WARNING,
                "audit_finding",
                uidvalidity=finding.key.uidvalidity,
                uid=finding.key.uid,
                what=finding.what,
                reason=finding.reason,
            )
        counts: Mapping[What, int] = Counter(finding.what for finding in report.findings)
        log_event(
            logger,
            logging.INFO,
            "audit_finished",
            outcome=report.outcome,
            listed=report.listed,
            copied=report.copied,
            waiting=report.waiting,
            missing=counts.get(What.MISSING, 0),
            duplicate=counts.get(What.DUPLICATE, 0),
            unsettled=counts.get(What.UNSETTLED, 0),
            gone=counts.get(What.GONE, 0),
            duration_ms=report.duration_ms,
        )
