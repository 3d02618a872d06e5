"""The role in the template against what the function really asked of AWS: nothing missing, nothing unused.

The ticks are chosen to need every kind of request that a cycle knows, and the source is read to see that
none was left out. That none is missing is seen to by every other cycle, too: see ``tests.stack.pair.Stack.run``.
"""

from __future__ import annotations

import re

from tests.deploy import templates
from tests.deploy.conftest import Start
from tests.deploy.watched_aws import PARTS, WatchedAws
from tests.fakes.faults import ERROR_11, LoseReply, on
from tests.stack.pair import FakePair, letter

ONLY_OF_PEOPLE = {"dynamodb:GetItem", "dynamodb:Query"}
"""What a dry run, `status`, `retry` and `settle` ask for, which the function does not run."""
ONLY_OF_DOCTOR = {"dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"}
MODULES = ("dynamodb_state.py", "dynamodb_writes.py", "token_store.py")


def in_the_source() -> set[str]:
    """Return the actions of every request that the program's stores can make."""
    text = "\n".join((templates.ROOT / "syncer" / name).read_text() for name in MODULES)
    parts = {f"dynamodb:{action}" for kind, action in PARTS.items() if f'"{kind}"' in text}
    calls = {operation.title().replace("_", "") for operation in re.findall(r'_call\(\s*"(\w+)"', text)}
    secrets = {call for call in calls if "Secret" in call}
    records = calls - secrets - {"TransactWriteItems"}
    return parts | {f"dynamodb:{call}" for call in records} | {f"secretsmanager:{call}" for call in secrets}


def test_the_key_of_a_nas_opens_what_every_command_needs_and_nothing_else() -> None:
    policy = (templates.ROOT / "sam" / "nas-access.yaml").read_text()
    asked = {action for action in in_the_source() if action.startswith("dynamodb:")}
    assert set(re.findall(r"dynamodb:\w+", policy)) == asked | ONLY_OF_DOCTOR


def test_the_role_may_do_what_the_function_does_and_nothing_else(pair: FakePair, aws: WatchedAws, start: Start) -> None:
    environment = start(IN_DOUBT_SETTLE_SECONDS="0", LEASE_SECONDS="30")
    for number in range(4):
        pair.source.deliver(letter(number))
    pair.destination.misbehave(on("APPEND", raw=lambda raw: b"Letter 2" in raw), ERROR_11)
    assert environment.tick().result["failed"] == 1
    pair.destination.misbehave(on("APPEND"), LoseReply())
    pair.source.deliver(letter(4))
    environment.tick()
    for _ in range(3):
        last = environment.tick().result
    assert (last["outcome"], last["in_doubt"], last["backlog"]) == ("ok", 0, 0)
    assert sorted(pair.copies()) == [letter(number) for number in range(5)]
    assert set(aws.actions) == in_the_source() - ONLY_OF_PEOPLE
    assert set(aws.actions) == templates.actions_of_the_role()
