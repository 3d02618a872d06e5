"""Bad days of DynamoDB and of the network before it: the caller learns the truth, soon, and what to do.

Requests pass a proxy that breaks them; behind it is moto, over HTTP, with the product's own client.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.retries import standard
from moto.server import ThreadedMotoServer

from syncer import dynamodb_client
from syncer.dynamodb_state import DynamoDBState, create_table, make_client, partition_key
from syncer.errors import ConfigError, LeaseHeld, LeaseLost, StateUnavailable
from syncer.model import (
    Claim,
    Confirmation,
    CopyUid,
    Decided,
    Decision,
    Duplicate,
    FailRecord,
    Failure,
    Identity,
    Lease,
    MessageKey,
    NotFound,
    Reclaim,
    Status,
    UidRecord,
    Unclaim,
    Unclear,
    Watermark,
    Write,
)
from syncer.uid_set import UidSet
from tests.fakes.dynamodb_faults import (
    CONFLICT,
    DENIED,
    IN_PROGRESS,
    SERVER_ERROR,
    THROTTLED,
    Answer,
    Delay,
    Fault,
    Hang,
    Late,
    LostReply,
    Page,
    ReadOnly,
    Reset,
    cancelled,
)
from tests.fakes.dynamodb_proxy import DynamoDBProxy

NOW = 1_795_345_849.125
REGION = "eu-central-1"
START = Watermark(uidvalidity=7, last_uid=10, horizon=10)
UPDATE, TRANSACTION, GET, BATCH = "UpdateItem", "TransactWriteItems", "GetItem", "BatchGetItem"


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[str, int]]:
    logging.getLogger("werkzeug").disabled = True
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def proxy(moto: tuple[str, int]) -> Iterator[DynamoDBProxy]:
    with DynamoDBProxy(*moto) as made:
        yield made


@pytest.fixture(autouse=True)
def _sdk_does_not_wait_between_its_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda self, context: 0.001)


@pytest.fixture
def client(proxy: DynamoDBProxy) -> Iterator[Any]:
    made = make_client(REGION, proxy.url)
    yield made
    made.close()


@pytest.fixture
def table(client: Any, proxy: DynamoDBProxy) -> str:
    name = f"state-{uuid.uuid4()}"
    assert create_table(client, name, sleep=lambda _: None)
    proxy.heal()
    return name


NewStore = Callable[[], DynamoDBState]


@pytest.fixture
def new_store(client: Any, table: str) -> NewStore:
    return lambda: DynamoDBState(
        client,
        table,
        partition_key("canary-address@gmail.test", "b@outlook.test"),
        lease_seconds=300,
        uid_ttl_days=400,
        fail_ttl_days=90,
        sleep=lambda _: None,
    )


@pytest.fixture
def store(new_store: NewStore) -> DynamoDBState:
    return new_store()


@pytest.fixture
def lease(store: DynamoDBState, proxy: DynamoDBProxy) -> Lease:
    taken, _ = store.take_lease("run-1", NOW)
    proxy.heal()
    return taken


@pytest.fixture(params=[False, True], ids=["applied again", "answered from memory"])
def _tokens(request: pytest.FixtureRequest, proxy: DynamoDBProxy) -> None:
    """What a service does with a ClientRequestToken that it has seen: emulators differ from AWS."""
    proxy.honours_tokens = request.param


def key(uid: int) -> MessageKey:
    return MessageKey(7, uid)


def claimed(uid: int, attempt: str = "") -> UidRecord:
    return UidRecord(key(uid), Status.PENDING, Identity(f"id-{uid}"), attempt or f"attempt-{uid}", "run-1", NOW)


def claim(uid: int, attempt: str = "") -> Claim:
    return Claim(claimed(uid, attempt))


def unclaim(uid: int) -> Unclaim:
    return Unclaim(key(uid), f"attempt-{uid}", Identity(f"id-{uid}"))


def failure(uid: int, unclaimed: Unclaim | None = None) -> Failure:
    return Failure(FailRecord(key(uid), "refused", 1, NOW, NOW + 600), unclaimed)


def confirmation(uid: int, *, had_failed: bool = False) -> Confirmation:
    return Confirmation(key(uid), f"attempt-{uid}", NOW, CopyUid(3, uid), had_failed)


# ---- how many requests


def test_an_idle_cycle_is_two_requests(store: DynamoDBState, proxy: DynamoDBProxy) -> None:
    lease, watermark = store.take_lease("run-1", NOW)
    store.release(lease, watermark, NOW)
    assert proxy.calls == [UPDATE, UPDATE]


def test_forty_claims_are_one_request_and_so_are_their_confirmations(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    uids = range(11, 51)
    store.commit(lease, START, [claim(uid) for uid in uids], NOW)
    assert store.confirm([confirmation(uid, had_failed=True) for uid in uids]) == frozenset()
    assert proxy.calls == [TRANSACTION, TRANSACTION]


def test_a_checkpoint_and_a_single_confirmation_need_no_transaction(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    store.commit(lease, START, [claim(11)], NOW)
    store.commit(lease, START, [], NOW)
    store.confirm([confirmation(11)])
    assert proxy.calls == [TRANSACTION, UPDATE, UPDATE]


def test_what_needs_no_answer_makes_no_request(store: DynamoDBState, proxy: DynamoDBProxy) -> None:
    store.load([], [])
    store.confirm([])
    assert proxy.calls == []


def test_a_load_asks_for_a_hundred_records_at_a_time(store: DynamoDBState, proxy: DynamoDBProxy) -> None:
    store.load([key(uid) for uid in range(1, 101)], [Identity(f"id-{n}") for n in range(50)])
    assert [len(keys_of(body)) for body in proxy.bodies] == [100, 100, 50]
    assert all(body["RequestItems"][next(iter(body["RequestItems"]))]["ConsistentRead"] for body in proxy.bodies)


def test_a_commit_is_split_at_a_hundred_actions_and_keeps_the_rest_open(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    watermark = Watermark(uidvalidity=7, last_uid=200, horizon=200, open={6: UidSet([1])})
    store.commit(lease, watermark, [Duplicate(key(u), Identity("x"), key(1), NOW) for u in range(11, 131)], NOW)
    assert [len(body["TransactItems"]) for body in proxy.bodies] == [100, 22]
    opened = [body["TransactItems"][0]["Update"]["ExpressionAttributeValues"][":open"]["M"] for body in proxy.bodies]
    assert opened == [{"6": {"S": "1"}, "7": {"S": "110:130"}}, {"6": {"S": "1"}}]
    assert store.peek() == watermark


def test_a_commit_that_breaks_off_between_its_transactions_loses_sight_of_nothing(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    proxy.plan(TRANSACTION, None, DENIED)
    with pytest.raises(StateUnavailable):
        store.commit(lease, replace(START, last_uid=130), [failure(uid) for uid in range(11, 131)], NOW)
    assert len(store.load([key(uid) for uid in range(11, 131)], []).failures) == 99
    assert store.peek().open == {7: UidSet.of_range(110, 130)}


def keys_of(body: dict[str, Any]) -> list[Any]:
    return [key for wanted in body["RequestItems"].values() for key in wanted["Keys"]]


# ---- replies that are lost after the request was applied


def test_a_lost_reply_to_taking_the_lease(store: DynamoDBState, proxy: DynamoDBProxy) -> None:
    proxy.plan(UPDATE, LostReply())
    assert store.take_lease("run-1", NOW) == (Lease("run-1", 1, NOW + 300), Watermark())
    assert proxy.calls == [UPDATE, UPDATE]


def test_a_lost_reply_to_taking_the_lease_still_brings_the_watermark(
    new_store: NewStore, store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    store.release(lease, START, NOW)
    proxy.plan(UPDATE, LostReply())
    assert new_store().take_lease("run-2", NOW) == (Lease("run-2", 2, NOW + 300), START)


def test_a_lost_reply_to_a_renewal(store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy) -> None:
    proxy.plan(UPDATE, LostReply())
    assert store.renew(lease, NOW + 10).until == NOW + 310


def test_a_lost_reply_to_the_release(
    new_store: NewStore, store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    proxy.plan(UPDATE, LostReply())
    store.release(lease, START, NOW)
    assert new_store().take_lease("run-2", NOW)[1] == START


def test_a_lost_reply_to_a_checkpoint(store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy) -> None:
    proxy.plan(UPDATE, LostReply())
    store.commit(lease, START, [], NOW)
    assert store.peek() == START


@pytest.mark.parametrize(("operation", "ask"), [(GET, "peek"), (BATCH, "load")])
def test_a_lost_reply_to_a_read(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy, operation: str, ask: str
) -> None:
    store.commit(lease, START, [claim(11)], NOW)
    proxy.plan(operation, LostReply())
    if ask == "peek":
        assert store.peek() == START
    else:
        assert store.load([key(11)], []).records == {key(11): claimed(11)}


RECLAIM = Reclaim(claimed(11, "second"), "attempt-11")
WRITES = [
    pytest.param([], claim(12), id="claim"),
    pytest.param([claim(11)], RECLAIM, id="reclaim"),
    pytest.param([claim(11)], NotFound(key(11), "attempt-11", NOW), id="not found"),
    pytest.param([claim(11)], Unclear(key(11), "attempt-11", "moved?"), id="unclear"),
    pytest.param(
        [claim(11), failure(11)],
        Decided(key(11), "attempt-11", Decision.COPIED, NOW, had_failed=True),
        id="a person says that it is there",
    ),
    pytest.param(
        [claim(11)],
        Decided(key(11), "attempt-11", Decision.NOT_COPIED, NOW),
        id="a person says that it is not there",
    ),
    pytest.param([], Duplicate(key(12), Identity("x"), key(11), NOW), id="duplicate"),
    pytest.param([claim(11)], unclaim(11), id="unclaim"),
    pytest.param([], failure(11), id="failure"),
    pytest.param([claim(11)], failure(11, unclaim(11)), id="failure with unclaim"),
]


@pytest.mark.usefixtures("_tokens")
@pytest.mark.parametrize(("before", "write"), WRITES)
def test_a_lost_reply_to_a_commit(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy, before: list[Write], write: Write
) -> None:
    store.commit(lease, START, before, NOW)
    proxy.plan(TRANSACTION, LostReply())
    assert store.commit(lease, START, [write, claim(13)], NOW).lost == {}
    state = store.load([key(11), key(12), key(13)], [Identity("id-11")])
    assert key(13) in state.records
    again = store.commit(lease, START, [write, claim(13)], NOW)
    assert again.lost == {}, "made once more by a caller that was told nothing"
    assert store.load([key(11), key(12), key(13)], [Identity("id-11")]) == state


@pytest.mark.parametrize(("before", "write"), WRITES)
def test_a_commit_none_of_whose_replies_comes_can_be_made_again(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy, before: list[Write], write: Write
) -> None:
    store.commit(lease, START, before, NOW)
    proxy.plan(TRANSACTION, LostReply(), LostReply(), LostReply())
    with pytest.raises(StateUnavailable, match="does not answer"):
        store.commit(lease, START, [write], NOW)
    assert store.commit(lease, START, [write], NOW).lost == {}


@pytest.mark.usefixtures("_tokens")
def test_a_lost_reply_does_not_hide_who_lost(store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy) -> None:
    store.commit(lease, START, [claim(11, "first")], NOW)
    # The first attempt is refused for the claim that is taken; the second goes through, unheard.
    proxy.plan(TRANSACTION, None, LostReply())
    assert store.commit(lease, START, [claim(11), claim(12)], NOW).lost == {key(11): key(11)}
    assert store.load([key(12)], []).records == {key(12): claimed(12)}


@pytest.mark.usefixtures("_tokens")
@pytest.mark.parametrize("had_failed", [False, True])
@pytest.mark.parametrize("uids", [(11,), (11, 12)], ids=["one", "two"])
def test_a_lost_reply_to_a_confirmation(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy, uids: tuple[int, ...], had_failed: bool
) -> None:
    store.commit(lease, START, [*map(claim, uids), *map(failure, uids)], NOW)
    proxy.plan(UPDATE, LostReply())
    proxy.plan(TRANSACTION, LostReply())
    assert store.confirm([confirmation(uid, had_failed=had_failed) for uid in uids]) == frozenset()
    read = store.load([key(uid) for uid in uids], [])
    assert {record.status for record in read.records.values()} == {Status.DONE}
    assert bool(read.failures) is not had_failed


def test_a_lost_reply_does_not_hide_that_the_lease_is_lost(
    new_store: NewStore, store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    new_store().take_lease("run-2", NOW + 301)
    proxy.plan(UPDATE, Reset())
    proxy.plan(TRANSACTION, Reset())
    with pytest.raises(LeaseLost):
        store.renew(lease, NOW)
    with pytest.raises(LeaseLost):
        store.commit(lease, START, [claim(11)], NOW)


# ---- requests that arrive late


def test_a_checkpoint_that_arrives_late_undoes_nothing(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    proxy.plan(UPDATE, Late())
    store.commit(lease, START, [], NOW)
    later = replace(START, horizon=12, open={7: UidSet([11, 12])})
    store.commit(lease, later, [claim(11), claim(12)], NOW)
    assert proxy.let_late_ones_in() == [400]
    assert store.peek() == later


def test_a_release_or_renewal_that_arrives_late_undoes_nothing(
    new_store: NewStore, store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    proxy.plan(UPDATE, Late(), None, Late())
    store.renew(lease, NOW)
    store.release(lease, START, NOW)
    new_store().take_lease("run-2", NOW)
    assert proxy.let_late_ones_in() == [400, 400]
    with pytest.raises(LeaseHeld):
        new_store().take_lease("run-3", NOW)


# ---- faults that pass, and faults that stay


TRANSIENT: list[Fault] = [THROTTLED, SERVER_ERROR, Reset(), LostReply(), Delay(0.05)]


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda fault: getattr(fault, "code", type(fault).__name__))
def test_what_passes_is_not_noticed(store: DynamoDBState, proxy: DynamoDBProxy, fault: Fault) -> None:
    for operation in (UPDATE, TRANSACTION, GET, BATCH):
        proxy.plan(operation, fault, fault)
    lease, _ = store.take_lease("run-1", NOW)
    assert store.commit(lease, START, [claim(11), claim(12)], NOW).lost == {}
    assert store.confirm([confirmation(11), confirmation(12)]) == frozenset()
    assert store.load([key(11)], []).records[key(11)].status is Status.DONE
    assert store.peek() == START
    store.release(lease, START, NOW)


@pytest.mark.parametrize("fault", [CONFLICT, IN_PROGRESS, THROTTLED], ids=lambda fault: fault.code)
def test_what_the_sdk_gives_up_on_is_tried_a_little_longer(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy, fault: Answer
) -> None:
    proxy.plan(UPDATE, *[fault] * 3)
    store.commit(lease, START, [], NOW)
    assert store.peek() == START


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_transaction_in_conflict_is_made_again_with_a_fresh_token(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy, code: str
) -> None:
    proxy.plan(TRANSACTION, *[cancelled("None", code, "None")] * 2)
    assert store.commit(lease, START, [claim(11)], NOW).lost == {}
    tokens = [body["ClientRequestToken"] for body in proxy.bodies if "ClientRequestToken" in body]
    assert len(tokens) == len(set(tokens)) == 3


def test_the_sdk_repeats_a_transaction_under_its_token(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    proxy.plan(TRANSACTION, Reset())
    store.commit(lease, START, [claim(11)], NOW)
    tokens = [body["ClientRequestToken"] for body in proxy.bodies]
    assert len(tokens) == 2
    assert len(set(tokens)) == 1


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (THROTTLED, "too busy"),
        (cancelled("TransactionConflict", "None", "None"), "too busy"),
        (cancelled("None", "ItemCollectionSizeLimitExceeded", "None"), "ItemCollectionSizeLimitExceeded"),
        (cancelled("ConditionalCheckFailed"), "does not say why"),
        (SERVER_ERROR, "InternalServerError, HTTP 500"),
        (Answer(400, "ValidationException", "canary"), "ValidationException"),
        (Reset(), "does not answer"),
    ],
    ids=["throttled", "conflict", "limit", "reasons missing", "500", "refused", "reset"],
)
def test_what_stays_ends_the_commit(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy, fault: Fault, text: str
) -> None:
    proxy.plan_always(TRANSACTION, fault)
    with pytest.raises(StateUnavailable, match=text) as caught:
        store.commit(lease, START, [claim(11)], NOW)
    assert "canary" not in str(caught.value)
    assert len(proxy.calls) <= 12
    proxy.heal()
    assert store.commit(lease, START, [claim(11)], NOW).lost == {}


def test_a_read_that_is_answered_in_parts_is_read_to_its_end(
    store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy
) -> None:
    store.commit(lease, START, [claim(uid) for uid in range(11, 31)], NOW)
    proxy.plan(BATCH, ReadOnly(5), ReadOnly(0), ReadOnly(1))
    read = store.load([key(uid) for uid in range(11, 31)], [])
    assert read.records == {key(uid): claimed(uid) for uid in range(11, 31)}


def test_a_read_that_is_never_answered_ends(store: DynamoDBState, proxy: DynamoDBProxy) -> None:
    proxy.plan_always(BATCH, ReadOnly(0))
    with pytest.raises(StateUnavailable, match="too busy to read"):
        store.load([key(11)], [])
    assert len(proxy.calls) == 4


@pytest.mark.parametrize("page", [b"<html>Welcome to our hotel", b"{}"])
def test_a_portal_that_says_yes_to_everything_is_not_an_empty_history(
    store: DynamoDBState, proxy: DynamoDBProxy, page: bytes
) -> None:
    proxy.plan_always(UPDATE, Page(page))
    proxy.plan_always(BATCH, Page(page))
    with pytest.raises(StateUnavailable):
        store.take_lease("run-1", NOW)
    with pytest.raises(StateUnavailable):
        store.load([key(11)], [])


# ---- silence


def test_the_client_gives_up_before_a_cycle_does(client: Any) -> None:
    config = client.meta.config
    seconds = (config.connect_timeout + config.read_timeout) * config.retries["total_max_attempts"]
    assert seconds + 1 + 2 <= 18, "with the SDK's longest pauses after the first and the second attempt"
    assert (config.retries["mode"], config.max_pool_connections, config.tcp_keepalive) == ("standard", 4, True)


def test_a_server_that_says_nothing_is_given_up(
    proxy: DynamoDBProxy, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_client, "READ_SECONDS", 0.2)
    client = make_client(REGION, proxy.url)
    proxy.plan_always(UPDATE, Hang())
    store = DynamoDBState(client, table, "p", lease_seconds=300, uid_ttl_days=1, fail_ttl_days=1)
    began = time.monotonic()
    with pytest.raises(StateUnavailable, match="does not answer"):
        store.take_lease("run-1", NOW)
    assert time.monotonic() - began < 10
    assert proxy.calls == [UPDATE] * 3
    client.close()


# ---- what only a person can mend


def test_a_missing_table_is_named_with_its_remedy(client: Any) -> None:
    store = DynamoDBState(client, "absent", "p", lease_seconds=300, uid_ttl_days=1, fail_ttl_days=1)
    expected = (
        "table absent does not exist in eu-central-1: run `syncer table create` or check DYNAMODB_TABLE, AWS_REGION"
    )
    with pytest.raises(StateUnavailable, match=f"^{re.escape(expected)}$"):
        store.take_lease("run-1", NOW)
    with pytest.raises(StateUnavailable, match="does not exist"):
        store.peek()
    with pytest.raises(StateUnavailable, match="does not exist"):
        store.load([key(11)], [])


def test_a_denied_action_is_named_and_nobody_else(store: DynamoDBState, lease: Lease, proxy: DynamoDBProxy) -> None:
    proxy.plan_always(TRANSACTION, DENIED)
    with pytest.raises(StateUnavailable, match=r"denies dynamodb:PutItem on table state-.*policy") as caught:
        store.commit(lease, START, [claim(11)], NOW)
    assert "canary" not in str(caught.value)
    assert proxy.calls == [TRANSACTION]
    proxy.plan_always(UPDATE, Answer(400, "AccessDeniedException", "no"))
    with pytest.raises(StateUnavailable, match="denies dynamodb:UpdateItem"):
        store.take_lease("run-2", NOW)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("ExpiredTokenException", "have expired"),
        ("UnrecognizedClientException", "clock of this machine"),
        ("InvalidSignatureException", "clock of this machine"),
        ("MissingAuthenticationTokenException", "AWS_ACCESS_KEY_ID"),
        ("ResourceInUseException", "try again"),
        ("KMSAccessDenied", r"refuses dynamodb:UpdateItem on table state-.* \(KMSAccessDenied, HTTP 400\)"),
    ],
)
def test_what_aws_refuses_is_told_with_its_remedy(
    store: DynamoDBState, proxy: DynamoDBProxy, code: str, text: str
) -> None:
    proxy.plan_always(UPDATE, Answer(400, code, "canary"))
    with pytest.raises(StateUnavailable, match=text) as caught:
        store.take_lease("run-1", NOW)
    assert "canary" not in str(caught.value)


def test_a_table_with_other_keys_is_named(client: Any) -> None:
    name = other_table(client)
    store = DynamoDBState(client, name, "p", lease_seconds=300, uid_ttl_days=1, fail_ttl_days=1)
    with pytest.raises(StateUnavailable, match="has other keys than PK and SK: DYNAMODB_TABLE"):
        store.peek()
    with pytest.raises(StateUnavailable, match="table"):
        store.take_lease("run-1", NOW)


def test_nobody_at_the_endpoint_is_named() -> None:
    client = make_client(REGION, "http://127.0.0.1:9")
    store = DynamoDBState(client, "t-t", "p", lease_seconds=300, uid_ttl_days=1, fail_ttl_days=1)
    with pytest.raises(StateUnavailable, match="does not answer: check the network, AWS_REGION, AWS_ENDPOINT_URL"):
        store.take_lease("run-1", NOW)
    client.close()


def test_a_place_for_credentials_that_is_not_asked_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://canary.example/credentials")
    with pytest.raises(StateUnavailable, match="AWS_CONTAINER_CREDENTIALS_FULL_URI names a host") as caught:
        make_client(REGION)
    assert "canary" not in str(caught.value)


def test_missing_credentials_are_named(proxy: DynamoDBProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    session = boto3.session.Session()
    client = session.client(
        "dynamodb", REGION, endpoint_url=proxy.url, config=Config(retries={"total_max_attempts": 1})
    )
    store = DynamoDBState(client, "t-t", "p", lease_seconds=300, uid_ttl_days=1, fail_ttl_days=1)
    with pytest.raises(StateUnavailable, match=r"no usable AWS credentials.*AWS_ACCESS_KEY_ID"):
        store.take_lease("run-1", NOW)
    assert proxy.calls == []
    client.close()


def test_settings_that_no_client_can_be_built_from_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateUnavailable, match="AWS_REGION"):
        make_client("not a region")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        make_client(REGION, "nonsense")


def test_a_damaged_record_stops_the_cycle_by_name(store: DynamoDBState, lease: Lease, client: Any, table: str) -> None:
    partition = {"S": partition_key("canary-address@gmail.test", "b@outlook.test")}
    client.put_item(TableName=table, Item={"PK": partition, "SK": {"S": "UID#7#11"}, "status": {"S": "canary"}})
    with pytest.raises(StateUnavailable, match="record UID#7#11") as caught:
        store.load([key(11)], [])
    assert "canary" not in str(caught.value)


def test_what_this_version_does_not_know_survives_it(
    store: DynamoDBState, lease: Lease, client: Any, table: str
) -> None:
    address = {"PK": {"S": partition_key("canary-address@gmail.test", "b@outlook.test")}, "SK": {"S": "WATERMARK"}}
    later = {"ExpressionAttributeValues": {":x": {"S": "kept"}}, "UpdateExpression": "SET of_later = :x"}
    client.update_item(TableName=table, Key=address, **later)
    store.commit(lease, START, [claim(11)], NOW)
    store.release(lease, START, NOW)
    item = client.get_item(TableName=table, Key=address)["Item"]
    assert item["of_later"] == {"S": "kept"}
    assert item["updated_at"] == {"S": "2026-11-22T11:10:49.125Z"}
    assert not {"lease_owner", "lease_until"} & item.keys()
    assert not [value for value in item.values() if "NULL" in value]


# ---- the table


def other_table(client: Any) -> str:
    name = f"other-{uuid.uuid4()}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return name


def test_a_table_is_made_once_and_ready_for_use(client: Any, table: str) -> None:
    assert create_table(client, table) is False
    description = client.describe_table(TableName=table)["Table"]
    assert description["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    ttl = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
    backups = client.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_a_table_whose_ttl_is_off_gets_it(client: Any, table: str) -> None:
    off = {"Enabled": False, "AttributeName": "ttl"}
    client.update_time_to_live(TableName=table, TimeToLiveSpecification=off)
    assert create_table(client, table) is False
    assert client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"


def test_a_table_that_expires_by_another_attribute_is_not_touched(client: Any, table: str) -> None:
    client.update_time_to_live(TableName=table, TimeToLiveSpecification={"Enabled": False, "AttributeName": "ttl"})
    client.update_time_to_live(TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "gone"})
    with pytest.raises(ConfigError, match=r"DYNAMODB_TABLE: .* another attribute"):
        create_table(client, table)


def test_another_programs_table_is_not_touched(client: Any) -> None:
    name = other_table(client)
    with pytest.raises(ConfigError, match=r"DYNAMODB_TABLE: table other-.* has the keys id \(N\) as HASH"):
        create_table(client, name)
    assert client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED"


@pytest.mark.parametrize("operation", ["DescribeTable", "CreateTable", "UpdateTimeToLive", "UpdateContinuousBackups"])
def test_a_lost_reply_while_the_table_is_made(client: Any, proxy: DynamoDBProxy, operation: str) -> None:
    proxy.plan(operation, LostReply())
    name = f"state-{uuid.uuid4()}"
    assert create_table(client, name) is True
    assert client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]["AttributeName"] == "ttl"


def test_a_table_without_recovery_is_a_table_with_a_warning(
    client: Any, proxy: DynamoDBProxy, caplog: pytest.LogCaptureFixture
) -> None:
    not_yet = Answer(400, "ContinuousBackupsUnavailableException")
    proxy.plan("UpdateContinuousBackups", not_yet, not_yet)
    assert create_table(client, f"state-{uuid.uuid4()}", sleep=lambda _: None) is True
    assert not caplog.records
    for fault in (DENIED, not_yet, Reset()):
        caplog.clear()
        proxy.plan_always("UpdateContinuousBackups", fault)
        assert create_table(client, f"state-{uuid.uuid4()}", sleep=lambda _: None) is True
        assert [record.message for record in caplog.records] == ["point_in_time_recovery_off"]


def test_a_table_that_may_not_be_made_is_no_table(client: Any, proxy: DynamoDBProxy) -> None:
    proxy.plan("CreateTable", Answer(400, "AccessDeniedException"))
    with pytest.raises(StateUnavailable, match="denies dynamodb:CreateTable"):
        create_table(client, f"state-{uuid.uuid4()}")
