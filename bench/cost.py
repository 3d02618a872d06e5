"""What the Lambda function costs a month: requests, capacity units, log bytes and round trips are counted, then priced.

    make cost [COST_OPTIONS="--messages 500"]

Counted, in ticks of the real handler between the fakes: an idle tick, and one with a single message. Every
message is taken to come alone, which is the dearest way. A day of the token store is simulated on
a clock of its own. Not counted but measured once, or assumed, because it takes a cloud: the constants below.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from syncer.access_tokens import AccessTokens
from syncer.config import load
from syncer.demo import certificates
from syncer.demo.world import all_records
from syncer.dynamodb_records import partition_key
from syncer.model import Side
from syncer.token_store import SecretsManagerTokens
from syncer.tokens import Refreshed, SideTokens
from tests.deploy import templates
from tests.deploy.environment import Environment
from tests.deploy.watched_aws import WatchedAws
from tests.fakes.secrets_manager import Secret
from tests.stack.pair import GMAIL, OUTLOOK, TABLE, FakePair, fake_pair, letter

DAYS: Final = 30
TICKS_A_DAY: Final = 288
# Prices of us-east-1, USD (PROVIDERS 14).
GB_SECOND: Final = 0.0000133334  # arm64
LAMBDA_REQUEST: Final = 0.20e-6
WRITE_UNIT: Final = 0.625e-6
READ_UNIT: Final = 0.125e-6
STORED_GB: Final = 0.25
RECOVERY_GB: Final = 0.20
SECRET: Final = 0.40
SECRET_CALL: Final = 0.05 / 10_000
LOG_GB: Final = 0.50
METRIC: Final = 0.30
ALARM: Final = 0.10
DASHBOARD: Final = 3.00
KMS_REQUEST: Final = 0.03 / 10_000
# Always free, not for the first year only.
FREE_GB_SECONDS: Final = 400_000
FREE_LOG_GB: Final = 5.0
FREE_KMS_REQUESTS: Final = 20_000
# Measured in the emulator with a part of a processor: an idle tick, and what a message of 5 KB adds (34 MB: 1.8 s).
COMPUTE_SECONDS: Final = 0.10
COMPUTE_SECONDS_PER_MESSAGE: Final = 0.25
# Assumed: how long a mail server takes to answer from elsewhere. Gmail's median is some 50 ms, Outlook.com's is slower.
ROUND_TRIP_SECONDS: Final = 0.15
HANDSHAKE_ROUND_TRIPS: Final = 3
"""TCP, TLS 1.3, greeting."""
COLD_STARTS_A_DAY: Final = 12
COLD_START_SECONDS: Final = 1.2
# Assumed: Lambda's own lines about a tick, as JSON, and what CloudWatch counts for each line on top of its text.
PLATFORM_BYTES: Final = 700
LINE_BYTES: Final = 26
SIGNED_IN: Final = {
    "gmail": {"client_id": "g", "client_secret": "s", "refresh_token": "r"},
    "outlook": {"client_id": "m", "refresh_token": "r"},
}
RECORDS_BYTES: Final = 1024
"""What a message leaves in the table for 400 days."""


@dataclass(frozen=True, slots=True)
class Use:
    """What something uses."""

    write_units: float
    read_units: float
    log_bytes: float
    round_trips: float

    def __sub__(self, other: Use) -> Use:
        return Use(
            self.write_units - other.write_units,
            self.read_units - other.read_units,
            self.log_bytes - other.log_bytes,
            self.round_trips - other.round_trips,
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted."""

    idle: Use
    message: Use
    """On top of an idle tick."""
    secret_calls_a_day: float
    memory_gb: float
    alarms: int
    has_own_key: bool
    """The table has a key of KMS, which DynamoDB asks for about once in five minutes."""


def main() -> int:
    """Print the bill."""
    parser = argparse.ArgumentParser(description="Count what the function uses, and print a month's bill.")
    parser.add_argument("--messages", type=int, default=100, help="a day (100)")
    messages = parser.parse_args().messages
    counted = count()
    print(usage(counted))
    print()
    print(table(counted, messages))
    return 0


def count() -> Counted:
    """Run the function, and count."""
    with tempfile.TemporaryDirectory(prefix="cost-") as name:
        folder = Path(name)
        with fake_pair(certificates.make(folder / "certificates"), folder, INITIAL_SYNC="all") as pair:
            idle, message = _ticks(pair, folder)
    template = templates.read(templates.SAM)
    function, records = (template["Resources"][name]["Properties"] for name in ("SyncFunction", "SyncTable"))
    return Counted(
        idle,
        message - idle,
        _secret_calls_a_day(),
        memory_gb=function["MemorySize"] / 1024,
        alarms=len(templates.of_type(template, "AWS::CloudWatch::Alarm")),
        has_own_key="SSESpecification" in records,
    )


def _ticks(pair: FakePair, folder: Path) -> tuple[Use, Use]:
    aws = pair.stack.watched
    settings = {**pair.stack.program.environment, "POWERTOOLS_SERVICE_NAME": "gmail-outlook-syncer"}
    with ExitStack() as stack:
        environment = stack.enter_context(Environment(settings, folder))
        pair.source.deliver(letter(1))
        environment.tick()  # makes the folder, fetches the tokens

        def used() -> Use:
            aws.requests.clear()
            before = _trips(pair)
            tick = environment.tick()
            if tick.result["outcome"] != "ok":
                raise RuntimeError(f"a tick ended with {tick.result['outcome']}")
            printed = len(tick.printed.encode()) + LINE_BYTES * len(tick.events) + PLATFORM_BYTES
            writes, reads = _units(aws, pair)
            return Use(writes, reads, printed, _trips(pair) - before)

        idle = used()
        pair.source.deliver(letter(2, size=20_000))
        return idle, used()


def _trips(pair: FakePair) -> int:
    """Return the round trips so far: one for each command, though some are sent together."""
    servers = (pair.source, pair.destination)
    return sum(len(server.verbs()) + HANDSHAKE_ROUND_TRIPS * server.connections for server in servers)


def _units(aws: WatchedAws, pair: FakePair) -> tuple[float, float]:
    """Return what DynamoDB charges: by the size of each item, twice in a transaction."""
    requests = list(aws.requests)  # before the records are asked for here
    items = all_records(pair.stack.aws, TABLE, partition_key(GMAIL, OUTLOOK))
    sizes = {item["SK"]["S"]: _size(item) for item in items}
    writes = reads = 0.0
    for operation, asked in requests:
        if operation == "UpdateItem":
            writes += _kilobytes(sizes.get(asked["Key"]["SK"]["S"], 1), 1)
        elif operation == "TransactWriteItems":
            for action in (action for part in asked["TransactItems"] for action in part.values()):
                key = (action.get("Key") or action["Item"])["SK"]["S"]
                writes += 2 * _kilobytes(sizes.get(key, 1), 1)
        elif operation == "BatchGetItem":
            for wanted in asked["RequestItems"].values():
                factor = 1.0 if wanted.get("ConsistentRead") else 0.5
                reads += sum(factor * _kilobytes(sizes.get(key["SK"]["S"], 1), 4) for key in wanted["Keys"])
        elif operation.startswith(("Get", "Query", "Put", "Delete", "Scan")):
            raise RuntimeError(f"a request that has no price here: {operation}")
    return writes, reads


def _size(item: Mapping[str, Any]) -> int:
    return sum(len(name.encode()) + len(str(value).encode()) for name, value in item.items())


def _kilobytes(size: int, unit: int) -> int:
    return math.ceil(size / (unit * 1024))


def _secret_calls_a_day() -> float:
    """Let a day pass, with mail for both sides in every tick and a new environment every two hours; count calls."""
    time = 1_700_000_000.0
    secret = _CountedSecret(lambda: time)
    environ = {"GMAIL_EMAIL": "a@b.example", "OUTLOOK_EMAIL": "c@d.example", "AWS_REGION": "x", "DYNAMODB_TABLE": "ttt"}
    config = load(environ={**environ, "TOKENS_SECRET_ID": "tokens"})

    def refreshed(known: SideTokens) -> Refreshed:
        return Refreshed(f"a{time}", time + 3600, f"{known.refresh_token}+" if known.client_secret == "" else None)

    def started() -> AccessTokens:
        store = SecretsManagerTokens("tokens", "x", None)
        store._client = secret  # noqa: SLF001 - the program's own store, on a secret of the service model
        return AccessTokens(config, store, refreshers=dict.fromkeys(Side, refreshed), now=lambda: time)

    secret.put_secret_value(SecretId="", SecretString=json.dumps(SIGNED_IN))
    secret.calls = 0
    for tick in range(TICKS_A_DAY):
        if tick % (TICKS_A_DAY // COLD_STARTS_A_DAY) == 0:
            tokens = started()
        for side in Side:
            tokens.get(side)
        tokens.flush()
        time += 86_400 / TICKS_A_DAY
    return secret.calls


class _CountedSecret(Secret):
    calls = 0

    def _answer(self, operation: str, **content: str) -> dict[str, Any]:
        self.calls += 1
        return super()._answer(operation, **content)


def usage(counted: Counted) -> str:
    """Return what was counted, as Markdown."""
    rows = ["| | idle tick | a message adds |", "| --- | ---: | ---: |"]
    for title, name in (
        ("DynamoDB write units", "write_units"),
        ("DynamoDB read units", "read_units"),
        ("log bytes", "log_bytes"),
        ("round trips to mail servers", "round_trips"),
    ):
        rows.append(f"| {title} | {getattr(counted.idle, name):,.0f} | {getattr(counted.message, name):,.0f} |")
    return "\n".join([*rows, "", f"Secrets Manager: {counted.secret_calls_a_day:.0f} calls a day."])


def bill(counted: Counted, messages: float) -> list[tuple[str, str, float, float]]:
    """Return name, quantity, price with what is always free, and price without, of everything that is charged."""
    ticks, mails = TICKS_A_DAY * DAYS, messages * DAYS
    idle, message = counted.idle, counted.message
    seconds = ticks * (COMPUTE_SECONDS + idle.round_trips * ROUND_TRIP_SECONDS)
    seconds += mails * (COMPUTE_SECONDS_PER_MESSAGE + message.round_trips * ROUND_TRIP_SECONDS)
    seconds += COLD_STARTS_A_DAY * DAYS * COLD_START_SECONDS
    gb_seconds = seconds * counted.memory_gb
    writes = ticks * idle.write_units + mails * message.write_units
    reads = ticks * idle.read_units + mails * message.read_units
    logs = (ticks * idle.log_bytes + mails * message.log_bytes) / 1e9
    stored = messages * 400 * RECORDS_BYTES / 1e9
    calls = counted.secret_calls_a_day * DAYS
    secret = SECRET + calls * SECRET_CALL
    keys = ticks * counted.has_own_key
    return [
        ("Secrets Manager, one secret", f"{calls:,.0f} calls", secret, secret),
        ("DynamoDB writes", f"{writes:,.0f} units", writes * WRITE_UNIT, writes * WRITE_UNIT),
        ("DynamoDB reads", f"{reads:,.0f} units", reads * READ_UNIT, reads * READ_UNIT),
        ("DynamoDB storage, recovery", f"{stored:.3f} GB", stored * RECOVERY_GB, stored * (STORED_GB + RECOVERY_GB)),
        (
            "Lambda duration",
            f"{gb_seconds:,.0f} GB-s",
            max(0.0, gb_seconds - FREE_GB_SECONDS) * GB_SECOND,
            gb_seconds * GB_SECOND,
        ),
        ("Lambda requests", f"{ticks:,}", 0.0, ticks * LAMBDA_REQUEST),
        ("KMS, the table's key", f"{keys:,}", max(0, keys - FREE_KMS_REQUESTS) * KMS_REQUEST, keys * KMS_REQUEST),
        ("CloudWatch logs", f"{logs:.3f} GB", max(0.0, logs - FREE_LOG_GB) * LOG_GB, logs * LOG_GB),
    ]


def watching(counted: Counted) -> float:
    """Return what metrics, alarms and dashboard cost in an account that has used up what is free of them."""
    return 10 * METRIC + counted.alarms * ALARM + DASHBOARD


def totals(counted: Counted, messages: float) -> tuple[float, float]:
    """Return the month with what is always free, and without; watching aside, which is free in ordinary accounts."""
    lines = bill(counted, messages)
    return sum(line[2] for line in lines), sum(line[3] for line in lines)


def table(counted: Counted, messages: float) -> str:
    """Return the bill, as Markdown."""
    rows = [f"| USD a month at {messages:g} messages a day | quantity | always-free part used | nothing free |"]
    rows.append("| --- | ---: | ---: | ---: |")
    lines = bill(counted, messages)
    rows += [f"| {name} | {quantity} | {free:.3f} | {full:.3f} |" for name, quantity, free, full in lines]
    with_free, without = totals(counted, messages)
    rows.append(f"| **Sum** | a month | **{with_free:.2f}** | **{without:.2f}** |")
    watched = f"10 metrics, {counted.alarms} alarms, 1 dashboard"
    rows.append(f"| Watching: CloudWatch | {watched} | 0.00 | {watching(counted):.2f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
