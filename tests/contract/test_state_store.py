"""What the engine relies on in a store: the same tests for memory, moto and the stand-in on the wire."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from moto import mock_aws

from syncer.dynamodb_state import DynamoDBState, create_table, make_client, partition_key
from syncer.errors import LeaseHeld, LeaseLost
from syncer.model import (
    Claim,
    Confirmation,
    CopyUid,
    Decided,
    Decision,
    Duplicate,
    FailRecord,
    Failure,
    Fence,
    Fingerprint,
    Forecast,
    Identity,
    Lease,
    Loaded,
    LookBack,
    MessageKey,
    NotFound,
    Reclaim,
    Side,
    Standing,
    Status,
    UidRecord,
    Unclaim,
    Unclear,
    Watermark,
    Write,
)
from syncer.uid_set import UidSet
from tests.fakes.dynamodb import FakeDynamoDB
from tests.memory_state import MemoryState, MemoryTable

Store = MemoryState | DynamoDBState
NewStore = Callable[[], Store]

NOW = 1_795_345_849.125
LEASE_SECONDS = 300.0
UV = 7
START = Watermark(uidvalidity=UV, last_uid=10, horizon=10)


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    """A client of moto in this process."""
    with mock_aws():
        client = one_at_a_time(make_client("eu-central-1"))
        yield client
        client.close()


@pytest.fixture(scope="module")
def on_the_wire() -> Iterator[Any]:
    """A client of the stand-in that speaks DynamoDB's protocol."""
    with FakeDynamoDB() as server:
        client = make_client("eu-central-1", server.url)
        yield client
        client.close()


@pytest.fixture(params=["memory", "dynamodb", "on_the_wire"])
def new_store(request: pytest.FixtureRequest) -> NewStore:
    """Make stores that share one table, as several runs do."""
    if request.param == "memory":
        records = MemoryTable()
        return lambda: MemoryState(records, lease_seconds=LEASE_SECONDS)
    client = request.getfixturevalue(request.param)
    table = f"state-{uuid.uuid4()}"
    assert create_table(client, table) is True
    partition = partition_key("A@gmail.test", "b@outlook.test")
    return lambda: DynamoDBState(
        client, table, partition, lease_seconds=LEASE_SECONDS, uid_ttl_days=400, fail_ttl_days=90
    )


@pytest.fixture
def store(new_store: NewStore) -> Store:
    return new_store()


def one_at_a_time(client: Any) -> Any:
    """Let requests in one by one: DynamoDB applies each as a whole, moto does not."""
    lock, make_call = threading.Lock(), client._make_api_call

    def locked(*args: Any) -> Any:
        with lock:
            return make_call(*args)

    client._make_api_call = locked
    return client


def key(uid: int) -> MessageKey:
    return MessageKey(UV, uid)


def claimed(uid: int, attempt: str = "", identity: str = "") -> UidRecord:
    return UidRecord(
        key=key(uid),
        status=Status.PENDING,
        identity=Identity(identity or f"18446744073709{uid:06}"),
        attempt=attempt or f"attempt-{uid}",
        run_id="run-1",
        claimed_at=NOW,
        fence=Fence(3, 42),
        fingerprint=Fingerprint("<a@b>", 1_795_000_000, "d" * 64, "s" * 64, "j" * 64),
        internaldate="17-Jul-1996 02:44:25 -0700",
        rfc822_sha256="e" * 64,
    )


def claim(uid: int, attempt: str = "", identity: str = "") -> Claim:
    return Claim(claimed(uid, attempt, identity))


def unclaim(uid: int, attempt: str = "") -> Unclaim:
    record = claimed(uid, attempt)
    return Unclaim(record.key, record.attempt, record.identity)


def failure(uid: int, tries: int = 1, unclaimed: Unclaim | None = None) -> Failure:
    return Failure(FailRecord(key(uid), "refused: 5.3.4", tries, NOW, NOW + 600.5, False, 1_795_000_000.0), unclaimed)


def confirmation(uid: int, attempt: str = "", *, had_failed: bool = False) -> Confirmation:
    return Confirmation(key(uid), attempt or f"attempt-{uid}", NOW + 1, CopyUid(3, 1000 + uid), had_failed)


def decided(uid: int, decision: Decision, attempt: str = "", *, had_failed: bool = False) -> Decided:
    return Decided(key(uid), attempt or f"attempt-{uid}", decision, NOW + 5, had_failed)


def leased(store: Store, owner: str = "run-1", now: float = NOW) -> Lease:
    return store.take_lease(owner, now)[0]


def commit(
    store: Store, lease: Lease, *writes: Write, watermark: Watermark = START
) -> dict[MessageKey, MessageKey | None]:
    return dict(store.commit(lease, watermark, writes, NOW).lost)


def loaded(store: Store, *uids: int) -> Loaded:
    return store.load([key(uid) for uid in uids], [claimed(uid).identity for uid in uids])


# ---- the lease


def test_the_first_run_finds_no_watermark(store: Store) -> None:
    lease, watermark = store.take_lease("run-1", NOW)
    assert (lease, watermark) == (Lease("run-1", 1, NOW + LEASE_SECONDS), Watermark())
    assert store.peek() == Watermark()


def test_a_lease_keeps_others_out_until_it_expires(new_store: NewStore) -> None:
    first, other = new_store(), new_store()
    leased(first)
    with pytest.raises(LeaseHeld) as held:
        other.take_lease("run-2", NOW + LEASE_SECONDS - 1)
    assert held.value.until == NOW + LEASE_SECONDS
    with pytest.raises(LeaseHeld):
        other.take_lease("run-2", NOW + LEASE_SECONDS)
    assert other.take_lease("run-2", NOW + LEASE_SECONDS + 0.001)[0].generation == 2


def test_taking_a_lease_that_one_has_is_no_second_lease(store: Store) -> None:
    assert leased(store) == leased(store)


def test_a_released_lease_is_free_at_once_and_hands_the_watermark_on(new_store: NewStore) -> None:
    first, other = new_store(), new_store()
    first.release(leased(first), START, NOW)
    lease, watermark = other.take_lease("run-2", NOW)
    assert (lease.generation, watermark) == (2, START)


def test_a_renewed_lease_lasts_longer(new_store: NewStore) -> None:
    first, other = new_store(), new_store()
    lease = first.renew(leased(first), NOW + 200)
    assert lease.until == NOW + 200 + LEASE_SECONDS
    with pytest.raises(LeaseHeld):
        other.take_lease("run-2", NOW + LEASE_SECONDS + 1)


def test_a_commit_renews_the_lease(new_store: NewStore) -> None:
    first, other = new_store(), new_store()
    first.commit(leased(first), START, [], NOW + 200)
    with pytest.raises(LeaseHeld):
        other.take_lease("run-2", NOW + LEASE_SECONDS + 1)


def test_a_lease_that_expired_unnoticed_is_still_good_while_nobody_took_it(store: Store) -> None:
    assert store.renew(leased(store), NOW + 9999).until == NOW + 9999 + LEASE_SECONDS


def test_a_run_that_was_overtaken_writes_nothing(new_store: NewStore) -> None:
    old, new = new_store(), new_store()
    lease = leased(old)
    fresh = leased(new, "run-2", NOW + LEASE_SECONDS + 1)
    with pytest.raises(LeaseLost):
        old.renew(lease, NOW)
    with pytest.raises(LeaseLost):
        commit(old, lease, claim(11))
    with pytest.raises(LeaseLost):
        commit(old, lease)
    with pytest.raises(LeaseLost):
        old.release(lease, START, NOW)
    assert new.peek() == Watermark()
    assert loaded(new, 11) == Loaded({}, {}, {})
    assert commit(new, fresh, claim(11)) == {}


def test_after_its_release_a_run_writes_nothing(store: Store) -> None:
    lease = leased(store)
    store.release(lease, START, NOW)
    with pytest.raises(LeaseLost):
        commit(store, lease, claim(11))
    with pytest.raises(LeaseLost):
        store.renew(lease, NOW)
    assert loaded(store, 11) == Loaded({}, {}, {})


def test_releasing_twice_is_releasing_once(store: Store) -> None:
    lease = leased(store)
    store.release(lease, START, NOW)
    store.release(lease, START, NOW)
    assert store.peek() == START


def test_of_eight_threads_one_gets_the_lease(new_store: NewStore) -> None:
    def attempt(number: int) -> int:
        try:
            return leased(new_store(), f"run-{number}").generation
        except LeaseHeld:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [0] * 7 + [1]


# ---- the watermark


def test_a_watermark_reads_back_as_written(store: Store) -> None:
    full = Watermark(
        uidvalidity=4_294_967_295,
        last_uid=4_294_967_294,
        horizon=4_294_967_295,
        open={1: UidSet([5, 6, 7]), 4_294_967_295: UidSet([1, 9])},
        failing={1: UidSet([3])},
        next_try_at=NOW + 0.333,
        owned={99: UidSet.of_range(1, 100_000)},
        window_since=NOW - 86400.5,
        window_upto=12,
        not_before={Side.SOURCE: NOW + 1.25, Side.DESTINATION: NOW + 300},
        completed_at=NOW - 300,
        outages=2,
        look_back=LookBack(NOW - 600.125, twice=5, once=4_294_967_295, reached=9),
        wanted_since=NOW - 90_000.25,
        tokens={
            Side.SOURCE: Forecast(Side.SOURCE, ends_at=NOW + 90),
            Side.DESTINATION: Forecast(Side.DESTINATION, NOW - 1, NOW, NOW + 1),
        },
        token_warned_at={Side.SOURCE: NOW},
        uidnext=4_294_967_295,
        ahead=7,
        copied=10**9,
        copied_days={"2026-11-21": 3, "2026-11-22": 1},
    )
    lease = leased(store)
    commit(store, lease, watermark=full)
    assert store.peek() == full
    empty = Watermark(uidvalidity=1)
    commit(store, lease, watermark=empty)
    assert store.peek() == empty
    store.release(lease, full, NOW)
    assert store.peek() == full


def test_a_moment_keeps_its_milliseconds(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, watermark=replace(START, completed_at=1_795_345_849.123456))
    read = store.peek().completed_at
    assert read == pytest.approx(1_795_345_849.123456, abs=0.0006)


BY: dict[str, Callable[[Store, Lease, Watermark], object]] = {
    "commit": lambda store, lease, watermark: commit(store, lease, watermark=watermark),
    "commit with writes": lambda store, lease, watermark: commit(store, lease, claim(11), watermark=watermark),
    "release": lambda store, lease, watermark: store.release(lease, watermark, NOW),
}


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize(
    "back",
    [
        pytest.param(replace(START, last_uid=9), id="lower UID"),
        pytest.param(Watermark(), id="forgotten"),
    ],
)
def test_the_watermark_never_goes_back(store: Store, back: Watermark, by: str) -> None:
    lease = leased(store)
    commit(store, lease)
    with pytest.raises(ValueError, match="must not go back"):
        BY[by](store, lease, back)
    assert store.peek() == START
    assert loaded(store, 11) == Loaded({}, {}, {})
    commit(store, lease, watermark=replace(START, last_uid=11))
    assert store.peek().last_uid == 11


def test_under_a_new_uidvalidity_the_watermark_starts_again(store: Store) -> None:
    lease = leased(store)
    commit(store, lease)
    commit(store, lease, watermark=Watermark(uidvalidity=UV + 1, last_uid=1))
    assert store.peek().last_uid == 1


def test_a_run_that_never_saw_the_source_leaves_no_uidvalidity(store: Store) -> None:
    store.release(leased(store), Watermark(not_before={Side.SOURCE: NOW + 60}), NOW)
    lease, watermark = store.take_lease("run-2", NOW)
    assert watermark == Watermark(not_before={Side.SOURCE: NOW + 60})
    commit(store, lease, watermark=Watermark(uidvalidity=UV, last_uid=0))
    assert store.peek().uidvalidity == UV


# ---- claims


def test_a_claim_reads_back_as_written_and_holds_its_identity(store: Store) -> None:
    record = claimed(11)
    assert commit(store, leased(store), Claim(record)) == {}
    assert loaded(store, 11, 12) == Loaded({record.key: record}, {}, {record.identity: record.key})


def test_a_claim_of_little_reads_back_as_written(store: Store) -> None:
    record = UidRecord(
        key(11), Status.PENDING, Identity("5"), "token", "run-1", NOW, fingerprint=Fingerprint("", 0, "", "", "")
    )
    assert commit(store, leased(store), Claim(record)) == {}
    assert store.load([key(11)], []).records == {key(11): record}


def test_a_message_is_claimed_once(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11, "first"))
    assert commit(store, lease, claim(11, "second"), claim(12)) == {key(11): key(11)}
    assert loaded(store, 11, 12).records == {key(11): claimed(11, "first"), key(12): claimed(12)}


def test_an_identity_is_claimed_once_and_the_loser_learns_who_has_it(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11, identity="same"))
    assert commit(store, lease, claim(12, identity="same"), claim(13)) == {key(12): key(11)}
    read = loaded(store, 12, 13)
    assert list(read.records) == [key(13)], "both or none"


def test_twins_in_one_commit_are_told_apart(store: Store) -> None:
    lost = commit(store, leased(store), claim(11, identity="same"), claim(12, identity="same"), claim(13))
    assert lost == {key(12): key(11)}


def test_the_same_message_twice_in_one_commit_is_claimed_once(store: Store) -> None:
    assert commit(store, leased(store), claim(11, "a"), claim(11, "b")) == {key(11): key(11)}
    assert loaded(store, 11).records[key(11)].attempt == "a"


def test_making_the_same_claim_again_is_no_loss(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11))
    assert commit(store, lease, claim(11), claim(12)) == {}
    store.confirm([confirmation(11)])
    assert commit(store, lease, claim(11)) == {}, "whatever became of it since"
    assert loaded(store, 11).records[key(11)].status is Status.DONE


def test_when_every_write_is_lost_the_watermark_still_stands(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11, "first"))
    moved = replace(START, last_uid=11, horizon=11)
    assert commit(store, lease, claim(11, "second"), watermark=moved) == {key(11): key(11)}
    assert store.peek() == moved


def test_a_claim_on_a_duplicate_learns_whose_it_is(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, Duplicate(key(12), Identity("x"), key(11), NOW))
    assert commit(store, lease, claim(12)) == {key(12): key(11)}


def test_of_eight_threads_each_claim_has_one_winner(store: Store) -> None:
    lease = leased(store)
    uids = range(11, 31)

    def attempt(number: int) -> set[MessageKey]:
        lost = commit(store, lease, *(claim(uid, f"thread-{number}-{uid}") for uid in uids))
        assert all(holder == loser for loser, holder in lost.items())
        return {key(uid) for uid in uids} - set(lost)

    with ThreadPoolExecutor(8) as pool:
        won = [one for winners in pool.map(attempt, range(8)) for one in winners]
    assert sorted(won) == [key(uid) for uid in uids]


def test_an_adopted_record_is_done_from_the_start(store: Store) -> None:
    record = replace(claimed(11), status=Status.DONE, copied_at=NOW, copy=CopyUid(3, 50))
    assert commit(store, leased(store), Claim(record)) == {}
    assert loaded(store, 11).records == {key(11): record}


# ---- what becomes of claims


def test_a_confirmed_claim_is_done(store: Store) -> None:
    commit(store, leased(store), claim(11))
    assert store.confirm([confirmation(11)]) == frozenset()
    done = replace(claimed(11), status=Status.DONE, copied_at=NOW + 1, copy=CopyUid(3, 1011))
    assert loaded(store, 11).records == {key(11): done}


def test_a_copy_whose_uid_is_unknown_is_confirmed_too(store: Store) -> None:
    commit(store, leased(store), claim(11))
    assert store.confirm([replace(confirmation(11), copy=None)]) == frozenset()
    assert loaded(store, 11).records[key(11)].status is Status.DONE


def test_confirming_twice_is_confirming_once(store: Store) -> None:
    commit(store, leased(store), claim(11), claim(12))
    assert store.confirm([confirmation(11)]) == frozenset()
    assert store.confirm([replace(confirmation(11), copied_at=NOW + 99), confirmation(12)]) == frozenset()
    assert store.confirm([confirmation(12)]) == frozenset()
    assert loaded(store, 11).records[key(11)].copied_at == NOW + 1


def test_a_confirmation_needs_no_lease(new_store: NewStore) -> None:
    old, new = new_store(), new_store()
    commit(old, leased(old), claim(11))
    leased(new, "run-2", NOW + LEASE_SECONDS + 1)
    assert old.confirm([confirmation(11)]) == frozenset()


def test_a_claim_that_was_taken_over_is_not_confirmed_but_the_others_are(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11), claim(12), claim(13))
    commit(store, lease, Reclaim(claimed(12, "later"), "attempt-12"), unclaim(13))
    assert store.confirm([confirmation(uid) for uid in (11, 12, 13, 14)]) == {key(12), key(13), key(14)}
    assert store.confirm([confirmation(12)]) == {key(12)}
    records = loaded(store, 11, 12, 13).records
    assert {k.uid: r.status for k, r in records.items()} == {11: Status.DONE, 12: Status.PENDING}


def test_a_confirmation_removes_the_failure(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, failure(11), failure(12), claim(11), claim(12))
    assert store.confirm([confirmation(11, had_failed=True)]) == frozenset()
    read = loaded(store, 11, 12)
    assert list(read.failures) == [key(12)]
    assert read.records[key(11)].status is Status.DONE


def test_a_lost_confirmation_leaves_the_failure(store: Store) -> None:
    commit(store, leased(store), failure(11), claim(11))
    assert store.confirm([confirmation(11, "other", had_failed=True), confirmation(12)]) == {key(11), key(12)}
    assert list(loaded(store, 11).failures) == [key(11)]


def test_a_look_that_found_nothing_is_noted_once(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11))
    assert commit(store, lease, NotFound(key(11), "attempt-11", NOW + 1)) == {}
    assert commit(store, lease, NotFound(key(11), "attempt-11", NOW + 2)) == {}
    assert loaded(store, 11).records[key(11)].not_found_at == NOW + 1


def test_a_look_at_what_is_no_longer_in_doubt_is_lost(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11))
    store.confirm([confirmation(11)])
    assert commit(
        store, lease, NotFound(key(11), "attempt-11", NOW), NotFound(key(12), "attempt-12", NOW), claim(13)
    ) == {key(11): key(11), key(12): None}


def test_a_reclaim_takes_the_claim_over(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11))
    commit(store, lease, NotFound(key(11), "attempt-11", NOW + 1))
    again = replace(claimed(11, "second"), run_id="run-2", claimed_at=NOW + 700, fence=Fence(3, 77))
    assert commit(store, lease, Reclaim(again, "attempt-11")) == {}
    assert commit(store, lease, Reclaim(again, "attempt-11")) == {}, "made again, it is the same"
    assert loaded(store, 11).records == {key(11): again}
    assert commit(store, lease, Reclaim(claimed(11, "third"), "attempt-11")) == {key(11): key(11)}
    assert commit(store, lease, Reclaim(claimed(12, "third"), "attempt-12")) == {key(12): None}


def test_why_a_look_cannot_tell_is_kept_until_one_can(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11))
    assert commit(store, lease, Unclear(key(11), "attempt-11", "moved?")) == {}
    assert commit(store, lease, Unclear(key(11), "attempt-11", "similar")) == {}
    assert loaded(store, 11).records[key(11)] == replace(claimed(11), unclear="similar")
    commit(store, lease, NotFound(key(11), "attempt-11", NOW + 1))
    assert loaded(store, 11).records[key(11)] == replace(claimed(11), not_found_at=NOW + 1)


def test_a_look_that_cannot_tell_about_what_is_no_longer_in_doubt_is_lost(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11), claim(12))
    store.confirm([confirmation(11)])
    writes = (Unclear(key(11), "attempt-11", "?"), Unclear(key(12), "other", "?"), Unclear(key(13), "x", "?"))
    assert commit(store, lease, *writes) == {key(11): key(11), key(12): key(12), key(13): None}
    assert loaded(store, 12).records[key(12)].unclear == ""


def test_a_copy_that_a_person_saw_makes_the_claim_done(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11), failure(11), failure(12))
    assert commit(store, lease, decided(11, Decision.COPIED, had_failed=True)) == {}
    assert commit(store, lease, decided(11, Decision.COPIED, had_failed=True)) == {}, "made again, it is the same"
    read = loaded(store, 11, 12)
    said = replace(claimed(11), decision=Decision.COPIED, decided_at=NOW + 5)
    assert read.records == {key(11): replace(said, status=Status.DONE, copied_at=NOW + 5)}
    assert list(read.failures) == [key(12)]
    assert read.holders[claimed(11).identity] == key(11), "it is never copied again"


def test_a_copy_that_a_person_missed_leaves_the_claim_pending_and_says_so(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11), failure(11))
    assert commit(store, lease, decided(11, Decision.NOT_COPIED, had_failed=True)) == {}
    assert commit(store, lease, decided(11, Decision.NOT_COPIED, had_failed=True)) == {}
    read = loaded(store, 11)
    assert read.records == {key(11): replace(claimed(11), decision=Decision.NOT_COPIED, decided_at=NOW + 5)}
    assert list(read.failures) == [key(11)]
    assert commit(store, lease, decided(11, Decision.COPIED, had_failed=True)) == {}, "until a cycle heeds it"
    assert loaded(store, 11).records[key(11)].status is Status.DONE


def test_what_a_person_said_of_one_attempt_is_not_said_of_the_next(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11), Unclear(key(11), "attempt-11", "?"), decided(11, Decision.NOT_COPIED))
    assert commit(store, lease, Reclaim(claimed(11, "second"), "attempt-11")) == {}
    assert loaded(store, 11).records == {key(11): claimed(11, "second")}
    for decision in Decision:
        assert commit(store, lease, decided(11, decision)) == {key(11): key(11)}
    assert loaded(store, 11).records == {key(11): claimed(11, "second")}


def test_what_was_confirmed_meanwhile_needs_no_person(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11))
    store.confirm([confirmation(11)])
    done = loaded(store, 11).records
    assert commit(store, lease, decided(11, Decision.NOT_COPIED), decided(12, Decision.COPIED), claim(13)) == {
        key(11): key(11),
        key(12): None,
    }
    assert commit(store, lease, decided(11, Decision.COPIED)) == {}
    assert loaded(store, 11).records == done


def test_a_person_without_the_lease_decides_nothing(new_store: NewStore) -> None:
    old, new = new_store(), new_store()
    lease = leased(old)
    commit(old, lease, claim(11))
    leased(new, "run-2", NOW + LEASE_SECONDS + 1)
    for decision in Decision:
        with pytest.raises(LeaseLost):
            commit(old, lease, decided(11, decision))
    assert loaded(new, 11).records == {key(11): claimed(11)}


def test_an_unclaim_gives_record_and_identity_back(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11))
    assert commit(store, lease, unclaim(11)) == {}
    assert commit(store, lease, unclaim(11)) == {}, "made again, it is the same"
    assert loaded(store, 11) == Loaded({}, {}, {})
    assert commit(store, lease, claim(11, "again")) == {}


def test_an_unclaim_spares_what_is_anothers_or_done(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11), claim(12))
    store.confirm([confirmation(12)])
    assert commit(store, lease, unclaim(11, "other"), unclaim(12)) == {key(11): key(11), key(12): key(12)}
    read = loaded(store, 11, 12)
    assert len(read.records) == len(read.holders) == 2


def test_a_failure_reads_back_as_written_and_is_replaced_by_the_next(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, failure(11))
    assert loaded(store, 11).failures == {key(11): failure(11).record}
    given_up = replace(failure(11, 5).record, given_up=True)
    assert commit(store, lease, Failure(given_up)) == {}
    assert loaded(store, 11).failures == {key(11): given_up}


def test_a_failure_with_unclaim_is_one_write(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11), claim(12))
    assert commit(store, lease, failure(11, 1, unclaim(11)), failure(12, 1, unclaim(12, "other"))) == {key(12): key(12)}
    read = loaded(store, 11, 12)
    assert list(read.records) == [key(12)]
    assert list(read.failures) == [key(11)]
    assert commit(store, lease, failure(11, 1, unclaim(11))) == {}, "made again, it is the same"


def test_a_duplicate_is_settled_without_a_copy(store: Store) -> None:
    lease = leased(store)
    duplicate = Duplicate(key(12), Identity("x"), key(11), NOW)
    assert commit(store, lease, duplicate) == {}
    assert commit(store, lease, duplicate) == {}, "made again, it is the same"
    expected = UidRecord(key(12), Status.DONE, Identity("x"), copied_at=NOW, duplicate_of=key(11))
    assert store.load([key(12)], [Identity("x")]) == Loaded({key(12): expected}, {}, {})


def test_a_duplicate_does_not_replace_a_record(store: Store) -> None:
    lease = leased(store)
    commit(store, lease, claim(11), Duplicate(key(12), Identity("x"), key(10), NOW))
    lost = commit(
        store,
        lease,
        Duplicate(key(11), Identity("x"), key(9), NOW),
        Duplicate(key(12), Identity("x"), key(9), NOW),
        claim(13),
    )
    assert lost == {key(11): key(11), key(12): key(10)}
    assert list(loaded(store, 13).records) == [key(13)]


# ---- many at once


def test_a_commit_of_many_writes_leaves_nothing_out(store: Store) -> None:
    uids = list(range(11, 131))
    lease = leased(store)
    commit(store, lease, claim(60, "earlier"))
    assert commit(store, lease, *map(claim, uids)) == {key(60): key(60)}
    read = loaded(store, *uids)
    assert len(read.records) == len(read.holders) == 120
    assert store.peek() == START
    store.confirm([confirmation(uid) for uid in uids])
    assert sum(r.status is Status.DONE for r in loaded(store, *uids).records.values()) == 119


def test_writes_of_one_commit_hold_in_their_order(store: Store) -> None:
    lost = commit(store, leased(store), claim(11), unclaim(11), claim(11, "again"), claim(12))
    assert lost == {}
    assert loaded(store, 11).records == {key(11): claimed(11, "again")}


def test_what_is_asked_twice_is_read_once(store: Store) -> None:
    commit(store, leased(store), claim(11))
    assert loaded(store, 11, 11) == loaded(store, 11)


def test_nothing_asked_is_nothing_read(store: Store) -> None:
    assert store.load([], []) == Loaded({}, {}, {})
    assert store.confirm([]) == frozenset()


# ---- what is only looked at


def test_every_failed_message_is_found_in_its_order_and_nothing_else(store: Store) -> None:
    assert list(store.failures()) == []
    lease = leased(store)
    commit(store, lease, failure(12), failure(3, tries=5), claim(11))
    later = FailRecord(MessageKey(6, 40), "x", 1, NOW, NOW, True)
    commit(store, lease, Failure(later))
    assert [record.key for record in store.failures()] == [MessageKey(6, 40), key(3), key(12)]
    assert store.failures()[0] == later


def test_the_standing_tells_who_works_and_when_something_was_written_last(store: Store) -> None:
    assert store.standing() == Standing(Watermark())
    lease = leased(store)
    working = store.standing()
    assert (working.lease_owner, working.lease_until) == ("run-1", NOW + LEASE_SECONDS)
    assert working.updated_at == pytest.approx(NOW, abs=0.001)
    store.release(lease, START, NOW + 5)
    assert replace(store.standing(), updated_at=None) == Standing(START)
    assert store.standing().updated_at == pytest.approx(NOW + 5, abs=0.001)
