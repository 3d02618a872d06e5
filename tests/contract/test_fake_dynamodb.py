"""What the contract of the store does not ask of DynamoDB's stand-in, and its users rely on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.retries import standard

from syncer.dynamodb_state import create_table, make_client
from tests.fakes.dynamodb import FakeDynamoDB
from tests.fakes.dynamodb_faults import THROTTLED, Late, LostReply, Reset

TABLE = "stand-in"


@pytest.fixture
def server() -> Iterator[FakeDynamoDB]:
    with FakeDynamoDB() as made:
        yield made


@pytest.fixture
def client(server: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda self, context: 0.001)
    made = make_client("eu-central-1", server.url)
    assert create_table(made, TABLE)
    assert not create_table(made, TABLE)
    server.heal()
    yield made
    made.close()


def key(name: str) -> dict[str, Any]:
    return {"PK": {"S": "a"}, "SK": {"S": name}}


def put(name: str, **attributes: str) -> dict[str, Any]:
    item = {**key(name), **{attribute: {"S": value} for attribute, value in attributes.items()}}
    return {"Put": {"TableName": TABLE, "Item": item}}


def names(server: FakeDynamoDB) -> set[str]:
    return {str(item["SK"]["S"]) for item in server.tables.items(TABLE)}


def test_a_transaction_that_is_cancelled_writes_nothing_and_says_which_action_it_was(
    client: Any, server: FakeDynamoDB
) -> None:
    client.transact_write_items(TransactItems=[put("there", colour="red")])
    held = {
        **put("there")["Put"],
        "ConditionExpression": "attribute_not_exists(PK)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    with pytest.raises(client.exceptions.TransactionCanceledException) as cancelled:
        client.transact_write_items(TransactItems=[put("new"), {"Put": held}])
    first, second = cancelled.value.response["CancellationReasons"]
    assert first["Code"] == "None"
    assert (second["Code"], second["Item"]["colour"]) == ("ConditionalCheckFailed", {"S": "red"})
    assert names(server) == {"there"}


def test_a_transaction_made_again_with_its_token_is_made_once(client: Any, server: FakeDynamoDB) -> None:
    once = {
        **put("counted")["Put"],
        "ConditionExpression": "attribute_not_exists(PK)",
    }
    for _ in range(2):
        client.transact_write_items(TransactItems=[{"Put": once}], ClientRequestToken="first")
    with pytest.raises(client.exceptions.IdempotentParameterMismatchException):
        client.transact_write_items(TransactItems=[put("other")], ClientRequestToken="first")
    assert names(server) == {"counted"}


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"ConditionExpression": "size(PK) > :x"}, id="a function not spoken here"),
        pytest.param({"ConditionExpression": "#missing = PK"}, id="a name not given"),
        pytest.param({"ExpressionAttributeNames": {"#spare": "x"}}, id="a name not used"),
        pytest.param({"UpdateExpression": "SET PK = :x", "ExpressionAttributeValues": {":x": {"S": "b"}}}, id="a key"),
        pytest.param({"UpdateExpression": "SET x = y"}, id="an attribute that is not there"),
        pytest.param({"Expected": {"x": {"Exists": False}}}, id="a parameter of old"),
    ],
)
def test_what_dynamodb_would_refuse_or_is_not_spoken_here_is_refused(client: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        client.update_item(TableName=TABLE, Key=key("x"), **parameters)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_an_item_twice_in_one_transaction_is_refused(client: Any) -> None:
    with pytest.raises(ClientError, match="multiple operations on one item"):
        client.transact_write_items(TransactItems=[put("x"), put("x")])


def test_numbers_are_compared_as_numbers_and_an_update_reads_before_it_writes(client: Any) -> None:
    client.put_item(TableName=TABLE, Item={**key("n"), "a": {"N": "9"}, "b": {"N": "10"}})
    answer = client.update_item(
        TableName=TABLE,
        Key=key("n"),
        UpdateExpression="SET a = b, b = a, c = if_not_exists(c, :zero) + :one REMOVE d",
        ConditionExpression="a < b AND NOT (a >= b OR attribute_exists(c))",
        ExpressionAttributeValues={":zero": {"N": "0"}, ":one": {"N": "1"}},
        ReturnValues="ALL_NEW",
    )
    assert answer["Attributes"] == {**key("n"), "a": {"N": "10"}, "b": {"N": "9"}, "c": {"N": "1"}}


def test_requests_are_lost_and_late_as_planned(client: Any, server: FakeDynamoDB) -> None:
    server.plan("PutItem", LostReply(), THROTTLED)
    client.put_item(TableName=TABLE, Item=key("lost reply"))
    assert server.calls == ["PutItem"] * 3
    server.plan("PutItem", Late(), Reset(), Reset())
    with pytest.raises(ConnectionClosedError):
        client.put_item(TableName=TABLE, Item=key("late"))
    assert names(server) == {"lost reply"}
    assert server.let_late_ones_in() == 1
    assert names(server) == {"lost reply", "late"}


def test_the_tables_can_be_put_back(client: Any, server: FakeDynamoDB) -> None:
    before = server.tables.snapshot()
    client.put_item(TableName=TABLE, Item=key("x"))
    server.tables.restore(before)
    assert names(server) == set()
