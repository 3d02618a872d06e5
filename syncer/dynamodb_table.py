"""The table: made once, for those who do not deploy the template."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from syncer.dynamodb_client import Sleep, code_of, translated
from syncer.errors import ConfigError
from syncer.logging_utils import log_event

_log = logging.getLogger(__name__)

TTL_ATTRIBUTE: Final = "ttl"
KEY_SCHEMA: Final = {"HASH": ("PK", "S"), "RANGE": ("SK", "S")}


def create_table(client: Any, table: str, *, sleep: Sleep | None = None) -> bool:
    """Make the table, wait until it can be used, and see to it that it expires records by ``ttl``.

    Returns whether it was made. One that exists keeps its settings, but for a TTL that is off.
    A new one gets point-in-time recovery; where that is refused, a warning is logged.

    Raises ConfigError: the table that exists is another program's.
    Raises StateUnavailable: DynamoDB cannot be used.
    """
    region = client.meta.region_name
    with translated(table, region):
        made = not _exists(client, table)
        if made:
            _make(client, table)
        client.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        _check_keys(client.describe_table(TableName=table)["Table"], table)
        _expire_by_ttl(client, table)
    if made:
        _keep_backups(client, table, sleep)
    return made


def _exists(client: Any, table: str) -> bool:
    try:
        client.describe_table(TableName=table)
    except client.exceptions.ResourceNotFoundException:
        return False
    return True


def _make(client: Any, table: str) -> None:
    try:
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in KEY_SCHEMA.values()],
            KeySchema=[{"AttributeName": name, "KeyType": role} for role, (name, _) in KEY_SCHEMA.items()],
        )
    except client.exceptions.ResourceInUseException:
        # It was not there a moment ago: our own first attempt, whose reply was lost, or somebody
        # else's. Either way it is there now, and its keys are checked next.
        return


def _check_keys(description: Mapping[str, Any], table: str) -> None:
    types = {a["AttributeName"]: a["AttributeType"] for a in description["AttributeDefinitions"]}
    keys = {k["KeyType"]: (k["AttributeName"], types.get(k["AttributeName"])) for k in description["KeySchema"]}
    if keys != KEY_SCHEMA:
        found = ", ".join(f"{name} ({kind}) as {role}" for role, (name, kind) in sorted(keys.items()))
        raise ConfigError(
            [f"DYNAMODB_TABLE: table {table} has the keys {found}; needed are PK (S) as HASH, SK (S) as RANGE"]
        )


def _expire_by_ttl(client: Any, table: str) -> None:
    if _expires(client, table):
        return
    specification = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
    try:
        client.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
    except client.exceptions.ClientError as error:
        # "Already enabled": our first attempt went through, and its reply was lost.
        if code_of(error) != "ValidationException" or not _expires(client, table):
            raise


def _expires(client: Any, table: str) -> bool:
    """Tell whether TTL is on. Raises ConfigError: it is, but by another attribute."""
    found = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    if found.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        return False
    if found.get("AttributeName") != TTL_ATTRIBUTE:
        raise ConfigError([f"DYNAMODB_TABLE: table {table} expires records by another attribute than {TTL_ATTRIBUTE}"])
    return True


def _keep_backups(client: Any, table: str, sleep: Sleep | None) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    pause = sleep or time.sleep
    for seconds in (1, 2, 4, 8, 0):
        try:
            client.update_continuous_backups(
                TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )
        except ClientError as error:
            reason = code_of(error)
            # A table that was just made may not be ready for it.
            if reason != "ContinuousBackupsUnavailableException":
                break
        except BotoCoreError as error:
            reason = type(error).__name__
            break
        else:
            return
        pause(seconds)
    log_event(_log, logging.WARNING, "point_in_time_recovery_off", table=table, reason=reason)
