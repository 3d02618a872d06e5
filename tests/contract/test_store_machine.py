"""Hypothesis plays runs against both stores at once: whatever they do, DynamoDB and its stand-in in memory agree.

Beside agreeing, both have to keep what exactly once rests on: an identity has one holder, a message
that is DONE stays so, the watermark never goes back, and who has no lease writes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from moto import mock_aws

from syncer.dynamodb_state import DynamoDBState, create_table, make_client, partition_key
from syncer.errors import LeaseHeld, LeaseLost
from syncer.model import (
    Claim,
    Decision,
    Duplicate,
    Identity,
    Lease,
    MessageKey,
    NotFound,
    Reclaim,
    Status,
    Unclear,
    Watermark,
    Write,
)
from tests.contract.test_state_store import LEASE_SECONDS, UV, claimed, confirmation, decided, failure, key, unclaim
from tests.fakes.dynamodb import FakeDynamoDB
from tests.memory_state import MemoryState, MemoryTable

pytestmark = pytest.mark.thorough

UIDS = st.integers(1, 4)
IDENTITIES = st.sampled_from(["a", "b", "c"])
ATTEMPTS = st.sampled_from(["first", "second"])
RUNS = st.sampled_from(["run-1", "run-2"])


class Stores(RuleBasedStateMachine):
    """Two runs on one table, in memory and in DynamoDB."""

    client: Any = None

    @initialize()
    def make(self) -> None:
        table = f"machine-{uuid.uuid4()}"
        create_table(self.client, table)
        partition = partition_key("a@gmail.test", "b@outlook.test")
        self.stores = (
            MemoryState(MemoryTable(), lease_seconds=LEASE_SECONDS),
            DynamoDBState(
                self.client, table, partition, lease_seconds=LEASE_SECONDS, uid_ttl_days=400, fail_ttl_days=90
            ),
        )
        self.leases: dict[str, tuple[Lease, Lease]] = {}
        self.now = 1_795_345_849.0
        self.last_uid = 0
        self.done: set[MessageKey] = set()

    def both(self, call: Callable[[Any, int], object]) -> object:
        """Ask both stores; they have to answer alike, or to fail alike."""
        answers: list[object] = []
        for index, store in enumerate(self.stores):
            try:
                answers.append(call(store, index))
            except (LeaseHeld, LeaseLost) as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return answers[0]

    def commit(self, run: str, *writes: Write) -> None:
        if run in self.leases:
            watermark = Watermark(uidvalidity=UV, last_uid=self.last_uid, horizon=10)
            answer = self.both(lambda s, i: dict(s.commit(self.leases[run][i], watermark, writes, self.now).lost))
            if answer is LeaseLost:
                del self.leases[run]

    @rule(seconds=st.sampled_from([1.0, 100.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(run=RUNS)
    def take_the_lease(self, run: str) -> None:
        taken: list[Lease] = []

        def take(store: Any, _: int) -> object:
            lease, watermark = store.take_lease(f"{run}-{self.now}", self.now)
            taken.append(lease)
            return lease.generation, watermark.last_uid

        if self.both(take) is not LeaseHeld:
            self.leases[run] = (taken[0], taken[1])

    @rule(run=RUNS)
    def renew(self, run: str) -> None:
        if run in self.leases:
            self.both(lambda s, i: s.renew(self.leases[run][i], self.now).until)

    @rule(run=RUNS)
    def release(self, run: str) -> None:
        if run in self.leases:
            watermark = Watermark(uidvalidity=UV, last_uid=self.last_uid, horizon=10)
            lease = self.leases.pop(run)
            self.both(lambda s, i: s.release(lease[i], watermark, self.now))

    @rule(run=RUNS)
    def raise_the_watermark(self, run: str) -> None:
        if run in self.leases and self.last_uid < 9:
            self.last_uid += 1
            self.commit(run)
            self.last_uid = max(store.peek().last_uid for store in self.stores)

    @rule(run=RUNS, uid=UIDS, attempt=ATTEMPTS, identity=IDENTITIES)
    def claim(self, run: str, uid: int, attempt: str, identity: str) -> None:
        self.commit(run, Claim(claimed(uid, attempt, identity)))

    @rule(run=RUNS, uid=UIDS, attempt=ATTEMPTS)
    def append_again(self, run: str, uid: int, attempt: str) -> None:
        record = self.stores[0].load([key(uid)], []).records.get(key(uid))
        if record is not None:
            self.commit(run, Reclaim(claimed(uid, attempt, record.identity), record.attempt))

    @rule(run=RUNS, uid=UIDS, attempt=ATTEMPTS)
    def a_look_finds_nothing(self, run: str, uid: int, attempt: str) -> None:
        self.commit(run, NotFound(key(uid), attempt, self.now))

    @rule(run=RUNS, uid=UIDS, attempt=ATTEMPTS)
    def a_look_cannot_tell(self, run: str, uid: int, attempt: str) -> None:
        self.commit(run, Unclear(key(uid), attempt, "moved?"))

    @rule(run=RUNS, uid=UIDS, attempt=ATTEMPTS, decision=st.sampled_from(Decision), had_failed=st.booleans())
    def a_person_decides(self, run: str, uid: int, attempt: str, decision: Decision, *, had_failed: bool) -> None:
        self.commit(run, decided(uid, decision, attempt, had_failed=had_failed))

    @rule(run=RUNS, uid=UIDS, of=UIDS, identity=IDENTITIES)
    def a_duplicate(self, run: str, uid: int, of: int, identity: str) -> None:
        self.commit(run, Duplicate(key(uid), Identity(identity), key(of), self.now))

    @rule(run=RUNS, uid=UIDS)
    def give_the_claim_back(self, run: str, uid: int) -> None:
        record = self.stores[0].load([key(uid)], []).records.get(key(uid))
        if record is not None and record.attempt:
            given = unclaim(uid, record.attempt)
            self.commit(run, type(given)(given.key, given.attempt, record.identity))

    @rule(run=RUNS, uid=UIDS, tries=st.integers(1, 3))
    def a_try_fails(self, run: str, uid: int, tries: int) -> None:
        self.commit(run, failure(uid, tries))

    @rule(uid=UIDS, attempt=ATTEMPTS)
    def confirm(self, uid: int, attempt: str) -> None:
        self.both(lambda s, _: s.confirm([confirmation(uid, attempt)]))

    @invariant()
    def they_agree_and_keep_their_word(self) -> None:
        if not hasattr(self, "stores"):
            return
        keys, identities = [key(uid) for uid in range(1, 5)], [Identity(name) for name in "abc"]
        memory, dynamodb = (store.load(keys, identities) for store in self.stores)
        assert memory == dynamodb
        settled = {k for k, record in memory.records.items() if record.status is Status.DONE}
        assert self.done <= settled, "what was DONE is so for ever"
        self.done = settled
        pending = [record for record in memory.records.values() if record.status is Status.PENDING]
        assert len({record.identity for record in pending}) == len(pending), "an identity is claimed once"
        assert all(memory.holders[record.identity] == record.key for record in pending)
        marks = {store.peek().last_uid for store in self.stores}
        assert marks == {self.last_uid} or max(marks) <= self.last_uid


@contextmanager
def moto() -> Iterator[str | None]:
    with mock_aws():
        yield None


@contextmanager
def on_the_wire() -> Iterator[str | None]:
    with FakeDynamoDB() as server:
        yield server.url


@pytest.mark.parametrize(("dynamodb", "examples"), [(moto, 12), (on_the_wire, 60)])  # moto takes three times as long
def test_both_stores_agree_whatever_two_runs_do(
    dynamodb: Callable[[], AbstractContextManager[str | None]], examples: int
) -> None:
    quick = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    with dynamodb() as url:
        Stores.client = make_client("eu-central-1", url)
        try:
            run_state_machine_as_test(Stores, settings=quick)
        finally:
            Stores.client.close()
