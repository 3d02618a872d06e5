"""The function as AWS would run it: built by ``sam build``, invoked by ``sam local invoke``, in Lambda's emulator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncer.demo.world import GMAIL, OUTLOOK, DemoWorld
from tests.deploy import emulator
from tests.deploy.emulator import Invocation, Tools
from tests.stack.pair import letter

pytestmark = pytest.mark.emulator
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tools: Tools) -> Iterator[DemoWorld]:
    with emulator.world_for_containers(tools, INITIAL_SYNC="all", OUTLOOK_MAX_MESSAGES_PER_SECOND="0") as made:
        yield made


@pytest.fixture(scope="module")
def image(tools: Tools, world: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    endpoint = emulator.container_endpoint(world.aws)
    with emulator.runtime_image(tools, world.folder / "ca.pem", endpoint, tmp_path_factory.mktemp("image")) as name:
        yield name


def test_mail_is_carried_octet_for_octet_and_the_largest_fits_into_the_memory(
    tools: Tools, world: DemoWorld, image: str, built: Path, tmp_path: Path
) -> None:
    # The emulator ends the function at its MemorySize, as Lambda does.
    letters = [letter(1), letter(2), letter(3, size=34_000_000)]
    for sent in letters:
        world.gmail.deliver(GMAIL, sent, NOON)
    settings = emulator.function_environment(world)

    def tick() -> Invocation:
        return emulator.invoke(tools, built, image, settings, tmp_path)

    first = tick()
    assert (first.result["outcome"], first.result["copied"], first.result["failed"]) == ("ok", 3, 0)
    assert sorted(message.raw for message in world.outlook.messages(OUTLOOK, "Gmail")) == sorted(letters)
    assert first.metrics["CyclesCompleted"] == 1
    assert len(first.named("message_copied")) == 3
    calls = world.authority.token_calls()
    world.aws.requests.clear()
    second = tick()
    assert (second.result["outcome"], second.result["listed"]) == ("ok", 0)
    assert world.authority.token_calls() == calls  # the secret kept the access token
    assert world.aws.requests == {"UpdateItem": 2, "GetSecretValue": 1}
    assert not any(word in first.printed + second.printed for word in ("mara@", "Letter", "sender.example"))
