"""``make local-invoke``: the real function in the real Lambda emulator, between embedded mail servers and an
emulated AWS; what it claims at the end was looked up in the two mailboxes.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from syncer.demo.samples import newcomers, samples
from syncer.demo.world import GMAIL, OUTLOOK, DemoWorld
from tests.deploy.emulator import (
    Failed,
    Invocation,
    Missing,
    build,
    container_endpoint,
    function_environment,
    invoke,
    runtime_image,
    tools,
    world_for_containers,
)

SETTINGS = {"INITIAL_SYNC": "all", "OUTLOOK_MAX_MESSAGES_PER_SECOND": "0", "OUTLOOK_TARGET_FOLDER": "Gmail"}


def main() -> int:
    """Tell the story; return 0 if everything claimed was seen to be true."""
    try:
        return _tell()
    except Missing as error:
        print(f"make local-invoke cannot run here: {error}", file=sys.stderr)
        return 1
    except Failed as error:
        print(error, file=sys.stderr)
        return 1


def _tell() -> int:
    found = tools()
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="syncer-local-invoke-") as name:
        folder = Path(name)
        print("sam build ...", flush=True)
        template = build(found, folder / "build")
        package = folder / "build" / "SyncFunction"
        octets = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
        print(f"  {octets / 1e6:.0f} MB unpacked")
        with world_for_containers(found, **SETTINGS) as world:
            endpoint = container_endpoint(world.aws)
            print(f"mail servers, sign-in and AWS on {found.gateway}; in the container: {endpoint}")
            with runtime_image(found, world.folder / "ca.pem", endpoint, folder / "image") as image:
                letters = samples(now)
                for letter in letters:
                    world.gmail.deliver(GMAIL, letter.raw, letter.received_at)
                environment = function_environment(world)
                ticks = []
                for title in (f"{len(letters)} messages wait", "nothing new", "more arrive"):
                    if title == "more arrive":
                        for letter in newcomers(now):
                            world.gmail.deliver(GMAIL, letter.raw, letter.received_at)
                    print(f"sam local invoke ({title}) ...", flush=True)
                    ticks.append(invoke(found, template, image, environment, folder))
                    _show(ticks[-1])
                return _prove(world, ticks)


def _show(tick: Invocation) -> None:
    for event in tick.events:
        if event.get("event") not in ("message_copied", None):
            fields = ("side", "outcome", "listed", "copied", "failed", "backlog", "duration_ms", "reason")
            said = " ".join(f"{field}={event[field]}" for field in fields if field in event)
            print(f"  {event['level']:8} {event['event']} {said}")
    print(f"  metrics  {' '.join(f'{name}={value:g}' for name, value in tick.metrics.items())}")
    print(f"  result   outcome={tick.result['outcome']} exit_code={tick.result['exit_code']}")


def _prove(world: DemoWorld, ticks: list[Invocation]) -> int:
    failed = {
        record["SK"]["S"].rsplit("#", 1)[-1] for record in world.records() if record["SK"]["S"].startswith("FAIL")
    }
    wanted = [message for message in world.gmail.messages(GMAIL) if str(message.uid) not in failed]
    there = world.outlook.messages(OUTLOOK, "Gmail")
    claims = {
        "every tick ended well": all(tick.result["exit_code"] == 0 for tick in ticks),
        f"{len(wanted)} messages lie in the folder, each once, octet for octet": _digests(wanted) == _digests(there),
        "the tick without new mail copied nothing": ticks[1].result["copied"] == 0,
        "the secret was read, and the rotated token is in it": world.aws.requests["UpdateSecretVersionStage"] > 0,
    }
    for claim, holds in claims.items():
        print(f"{'yes' if holds else 'NO '}  {claim}")
    return 0 if all(claims.values()) else 1


def _digests(messages: list) -> Counter[str]:  # type: ignore[type-arg]
    return Counter(hashlib.sha256(message.raw).hexdigest() for message in messages)


if __name__ == "__main__":
    sys.exit(main())
