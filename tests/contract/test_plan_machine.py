"""Hypothesis drives the decisions of ``sync_plan`` against a destination that nobody can see into.

The model does what the engine does with each decision, and knows what the engine cannot: which APPEND
landed, and when. It may be refused, left without an answer, cut short by a crash, commit late (up to
the settle time after the look that missed it, as docs/exactly-once.md says), be confirmed late by a run
that was overtaken; mail comes back under a new UID; the user moves copies, deletes the folder, puts in
other mail. Whatever happens: no mail lands twice, none is DONE that never landed, and what is in doubt
stays so only where somebody meddled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from syncer.model import (
    CopySeen,
    CopyUid,
    Decision,
    DestinationView,
    FailRecord,
    Fence,
    Fingerprint,
    Identity,
    MessageKey,
    SourceMessage,
    Status,
    UidRecord,
)
from syncer.sync_plan import (
    AppendAgain,
    Found,
    NothingYet,
    Step,
    Undecided,
    first_uid_to_look_at,
    next_try,
    plan_new,
    plan_open,
    settle_in_doubt,
)
from syncer.uid_set import UidSet

pytestmark = pytest.mark.thorough

SETTLE: Final = 600.0
MAX_ATTEMPTS: Final = 2
OUTCOMES: Final = (
    *("ok", "ok, unconfirmed", "refused"),
    *("landed, no answer", "lands late", "lands late", "never lands"),  # also: the run died
    "landed and rewritten, no answer",
)
FAVOURABLE: Final = "ok"

outcomes = st.sampled_from(OUTCOMES)
nth = st.integers(0, 7)


@dataclass(frozen=True)
class Air:
    """An APPEND that the server has and has not finished; or an answer that its run has and did not write down."""

    key: MessageKey
    attempt: str
    copy: CopyUid | None = None


class Plan(RuleBasedStateMachine):
    """One source mailbox, one destination folder, the records, and runs that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_795_000_000.0
        self.mails: dict[MessageKey, SourceMessage] = {}
        self.fingerprints: dict[Identity, Fingerprint] = {}
        self.records: dict[MessageKey, UidRecord] = {}
        self.failures: dict[MessageKey, FailRecord] = {}
        self.holders: dict[Identity, MessageKey] = {}
        self.folder = Fence(uidvalidity=3, uidnext=1)
        self.there: dict[int, tuple[Fingerprint, Identity | None]] = {}
        self.owned = UidSet()
        self.fence = self.folder
        """What the run that works now knows of the folder: it may be behind."""
        self.under_way: list[Air] = []
        self.unwritten: list[Air] = []
        self.landed: Counter[Identity] = Counter()
        self.meddled = False
        self.attempts = 0
        self.unknown: set[Fingerprint] = set()
        """Of copies whose UID was not told, and is below no fence yet."""
        self.peace = self.tells_uids = True

    @initialize(peace=st.sampled_from([True, True, True, False]), tells_uids=st.sampled_from([True, True, False]))
    def begin(self, peace: bool, tells_uids: bool) -> None:
        """In peace, with a server that tells UIDs, and no mail but what runs put in: nothing may stay in doubt."""
        self.peace, self.tells_uids = peace, tells_uids

    # -- the world

    @precondition(lambda self: len(self.mails) < 6)
    @rule(like=st.sampled_from(["no other", "another", "another, but for its subject"]))
    def mail_arrives(self, like: str) -> None:
        number = len(self.mails) + 1
        identity = Identity(str(number))
        new = Fingerprint(f"<{number}@x>", 1_794_000_000 + number, f"d{number}", f"s{number}", f"j{number}")
        others = list(self.fingerprints.values())
        if others and like == "another":
            new = others[-1]
        elif others and like == "another, but for its subject":
            new = replace(others[-1], subject=new.subject)
        self.fingerprints[identity] = new
        self._deliver(identity)

    @precondition(lambda self: 0 < len(self.mails) < 6)
    @rule(which=nth)
    def mail_comes_back(self, which: int) -> None:
        mail = list(self.mails.values())[which % len(self.mails)]
        self._deliver(Identity(mail.gmail_msgid or ""))

    def _deliver(self, identity: Identity) -> None:
        key = MessageKey(7, len(self.mails) + 1)
        self.mails[key] = SourceMessage(key, 100, "", 0.0, gmail_msgid=identity)

    @rule(seconds=st.sampled_from([1.0, 301.0, SETTLE, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        for air in list(self.under_way):
            missed_at = self.records[air.key].not_found_at
            if missed_at is not None and self.now + seconds - missed_at >= SETTLE:
                self._land(air)  # any later is beyond what is promised
        self.now += seconds

    @precondition(lambda self: self.under_way)
    @rule(which=nth)
    def a_late_one_lands(self, which: int) -> None:
        self._land(self.under_way[which % len(self.under_way)])

    @precondition(lambda self: self.unwritten)
    @rule(which=nth)
    def a_run_that_was_overtaken_confirms(self, which: int) -> None:
        air = self.unwritten.pop(which % len(self.unwritten))
        record = self.records.get(air.key)
        if record is not None and record.status is Status.PENDING and record.attempt == air.attempt:
            self._done(record, air.copy)

    @precondition(lambda self: self.there and not self.peace)
    @rule(which=nth)
    def the_user_moves_a_message(self, which: int) -> None:
        self.meddled = True
        del self.there[list(self.there)[which % len(self.there)]]

    @precondition(lambda self: not self.peace and self.folder.uidvalidity == 3)
    @rule()
    def the_user_makes_the_folder_anew(self) -> None:
        self.meddled = True
        self.folder = Fence(self.folder.uidvalidity + 1, 1)
        self.there, self.owned = {}, UidSet()

    @precondition(lambda self: not self.peace)
    @rule(like=st.sampled_from(["nothing", "half", "placeholder"]), which=nth)
    def somebody_puts_in_other_mail(self, like: str, which: int) -> None:
        other = Fingerprint(f"<other-{self.folder.uidnext}@x>", 1, "d", "s", "j")
        if like == "half" and self.fingerprints:
            self.meddled = True
            other = replace(list(self.fingerprints.values())[which % len(self.fingerprints)], subject="changed")
        elif like == "placeholder":
            other = replace(other, message_id="")
        self._store(other, None)

    @precondition(lambda self: self._pending())
    @rule(which=nth)
    def a_person_who_looked_decides(self, which: int) -> None:
        """And is right: of what is still under way nobody can say anything. It takes the lease: no run goes on."""
        self._open_the_folder()
        pending = self._pending()
        record = pending[which % len(pending)]
        if self.landed[record.identity]:
            self.meddled = True  # where it is, nobody tells: it may be similar to what else is in doubt
            self._done(record, None)
        elif not [air for air in self.under_way if air.key == record.key]:
            self.records[record.key] = replace(record, decision=Decision.NOT_COPIED)

    # -- runs

    def _open_the_folder(self) -> None:
        self.fence = self.folder
        self.unknown.clear()

    @precondition(lambda self: self._to_copy())
    @rule(which=nth, outcome=outcomes)
    def a_run_goes_on(self, which: int, outcome: str) -> None:
        keys = self._to_copy()
        self._copy(keys[which % len(keys)], outcome)

    @precondition(lambda self: self.mails)
    @rule(answers=st.lists(outcomes, min_size=12, max_size=12))
    def a_cycle(self, answers: Sequence[str]) -> None:
        """What is in doubt first, then the others in order; where an answer stayed out, the cycle ends."""
        self._open_the_folder()
        self._check_that_the_impossible_raises()
        if self._pending():
            self._look(answers[:6])
        for key, outcome in zip(self._to_copy(), answers[6:], strict=False):
            self._copy(key, outcome)
            if outcome not in ("ok", "refused"):
                return

    def _look(self, answers: Sequence[str]) -> None:
        pending = self._pending()
        first = first_uid_to_look_at(pending, self.folder.uidvalidity)
        seen = tuple(CopySeen(uid, print_) for uid, (print_, _) in sorted(self.there.items()) if uid >= first)
        view = DestinationView(self.folder, first, seen)
        verdicts = settle_in_doubt(pending, view, self.owned, self.now, SETTLE)
        assert verdicts.keys() == {record.key for record in pending}
        again = []
        for record in pending:
            verdict = verdicts[record.key]
            if isinstance(verdict, Found):
                assert self.there[verdict.copy.uid][1] == record.identity, "another mail is taken for the copy"
                self._done(record, verdict.copy)
            elif isinstance(verdict, NothingYet):
                assert verdict.first is (record.not_found_at is None)
                if verdict.first:
                    self.records[record.key] = replace(record, not_found_at=self.now)
            elif isinstance(verdict, AppendAgain):
                again.append(record)
                assert record.not_found_at is not None or record.decision is Decision.NOT_COPIED
            else:
                assert isinstance(verdict, Undecided)
                assert self._may_stay_in_doubt(), verdict.reason
        for record, outcome in zip(again, answers, strict=False):
            assert not [air for air in self.under_way if air.key == record.key]
            self._append(replace(record, not_found_at=None, decision=None), outcome)

    def _check_that_the_impossible_raises(self) -> None:
        done = [record for record in self.records.values() if record.status is Status.DONE]
        view = DestinationView(self.folder, 1, ())
        for record in done:
            with pytest.raises(ValueError, match="not in doubt"):
                settle_in_doubt([record], view, self.owned, self.now, SETTLE)
        for record in self._pending():
            assert record.fence is not None
            above = DestinationView(Fence(record.fence.uidvalidity, 99), record.fence.uidnext + 1, ())
            with pytest.raises(ValueError, match="above the fence"):
                settle_in_doubt([record], above, self.owned, self.now, SETTLE)
            with pytest.raises(ValueError, match="nobody holds"):
                plan_new(self.mails[record.key], record, is_held=False, max_bytes=1000)

    # -- what a run does

    def _to_copy(self) -> list[MessageKey]:
        """Return the messages without a record whose time has come."""
        due = {key for key, failed in self.failures.items() if failed.given_up or failed.next_try_at > self.now}
        return [key for key in self.mails if key not in self.records and key not in due]

    def _pending(self) -> list[UidRecord]:
        return [record for record in self.records.values() if record.status is Status.PENDING]

    def _copy(self, key: MessageKey, outcome: str) -> None:
        mail = self.mails[key]
        identity = Identity(mail.gmail_msgid or "")
        assert plan_open(None, self.failures.get(key)) in (Step.COPY, Step.RETRY)
        holder = self.holders.get(identity)
        held = self.records.get(holder) if holder is not None else None
        step = plan_new(mail, held, is_held=holder is not None, max_bytes=1000)
        if step is Step.DUPLICATE:
            assert self.landed[identity] == 1, "passed over, and nowhere"
            self.failures.pop(key, None)
            self.records[key] = UidRecord(key, Status.DONE, identity, duplicate_of=holder)
        elif step is Step.WAIT:
            assert held in self._pending()
        else:
            assert step is Step.COPY
            mine = self.fingerprints[identity]
            if mine in self.unknown or any(record.fingerprint == mine for record in self._pending()):
                return  # lookalikes are never under way together
            self._append(UidRecord(key, Status.PENDING, identity, fingerprint=mine), outcome)

    def _append(self, record: UidRecord, outcome: str) -> None:
        """Claim and append, under the fence that the run knows."""
        self.attempts += 1
        record = replace(record, attempt=f"attempt-{self.attempts}", claimed_at=self.now, fence=self.fence)
        self.records[record.key] = record
        self.holders[record.identity] = record.key
        assert plan_open(record, None) is Step.LOOK
        air = Air(record.key, record.attempt)
        if outcome.startswith("ok"):
            copy = CopyUid(self.folder.uidvalidity, self._store(self.fingerprints[record.identity], record.identity))
            if self.tells_uids:
                self.fence = Fence(copy.uidvalidity, copy.uid + 1)
            else:
                self.unknown.add(self.fingerprints[record.identity])
            told = copy if self.tells_uids else None
            if outcome == "ok":
                self._done(record, told)
            else:
                self.unwritten.append(replace(air, copy=told))
        elif outcome == "refused":
            self._refused(record)
        elif outcome == "landed, no answer":
            self._store(self.fingerprints[record.identity], record.identity)
        elif outcome == "landed and rewritten, no answer":
            self.meddled = True
            self._store(replace(self.fingerprints[record.identity], subject="rewritten"), record.identity)
        elif outcome == "lands late":
            self.under_way.append(air)

    def _refused(self, record: UidRecord) -> None:
        del self.records[record.key], self.holders[record.identity]
        before = self.failures.get(record.key)
        tries = (before.retry_count if before is not None else 0) + 1
        again = next_try(tries, self.now, MAX_ATTEMPTS)
        assert (again is None) is (tries >= MAX_ATTEMPTS)
        failed = FailRecord(record.key, "no", tries, self.now, self.now if again is None else again, again is None)
        self.failures[record.key] = failed
        assert plan_open(None, failed) is (Step.SETTLED if again is None else Step.RETRY)

    def _done(self, record: UidRecord, copy: CopyUid | None) -> None:
        self.records[record.key] = done = replace(record, status=Status.DONE, copy=copy)
        self.failures.pop(record.key, None)
        assert plan_open(done, None) is Step.SETTLED
        if copy is not None and copy.uidvalidity == self.folder.uidvalidity:
            self.owned |= UidSet([copy.uid])

    def _store(self, print_: Fingerprint, identity: Identity | None) -> int:
        uid = self.folder.uidnext
        self.folder = replace(self.folder, uidnext=uid + 1)
        self.there[uid] = (print_, identity)
        if identity is not None:
            self.landed[identity] += 1
        return uid

    def _land(self, air: Air) -> None:
        self.under_way.remove(air)
        identity = self.records[air.key].identity
        self._store(self.fingerprints[identity], identity)

    def _may_stay_in_doubt(self) -> bool:
        """Tell whether something is in the folder, or gone from it, that nobody can account for."""
        strange = any(print_.message_id == "" for print_, _ in self.there.values())
        return self.meddled or strange or not self.tells_uids

    # -- what holds

    @invariant()
    def nothing_lands_twice_and_nothing_is_done_that_never_landed(self) -> None:
        assert max(self.landed.values(), default=0) <= 1, "two copies"
        for record in self.records.values():
            if record.status is Status.DONE:
                assert self.landed[record.identity] == 1, "lost"
            else:
                assert self.holders[record.identity] == record.key

    def teardown(self) -> None:
        """Let time pass and runs work in peace: what nobody meddled with is settled."""
        for _ in range(20):
            self.time_passes(4000.0)
            self.a_cycle([FAVOURABLE] * 12)
            self.nothing_lands_twice_and_nothing_is_done_that_never_landed()
        if not self._may_stay_in_doubt():
            assert not self._pending(), "in doubt for ever"
        for key, mail in self.mails.items():
            landed = self.landed[Identity(mail.gmail_msgid or "")]
            reported = (key in self.failures and self.failures[key].given_up) or self._pending()
            assert landed == 1 or reported, "lost"


def test_the_plan_sends_no_mail_twice_and_loses_none() -> None:
    quick = settings(
        max_examples=600,
        stateful_step_count=20,
        phases=[Phase.generate],  # a failure has 25 steps at most, and to shrink it takes minutes
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Plan, settings=quick)
