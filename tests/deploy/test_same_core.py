"""Container and Lambda run the same core: the same mail leaves the same copies and records, also if both are at it."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from syncer.demo.certificates import Certificates
from tests.deploy import emulator
from tests.deploy.conftest import SECRET, of_the_function
from tests.deploy.docker import container, docker
from tests.deploy.environment import Environment
from tests.fakes.faults import ERROR_11, LoseReply, on
from tests.stack.pair import FakePair, fake_pair, letter

ARRIVED = datetime(2026, 11, 20, 8, 30, 15, tzinfo=UTC)
MESSAGES = 60
NAS_USER = "1026:100"
OF_THE_RUN: Final = frozenset({"run_id", "attempt", "revision"})
"""What has to differ: by whom, under which token, and as which write of a process: Lambda's outlives a cycle."""
OF_THE_CLOCK: Final = frozenset(
    {
        *("updated_at", "completed_at", "claimed_at", "copied_at", "not_found_at", "next_try_at", "ttl", "lookback_at"),
    }
)
"""What has to differ: when."""


@dataclass(frozen=True, slots=True)
class Runner:
    """One way in which a NAS runs the program."""

    run_once: Callable[[FakePair], int]
    """Returns its exit code."""
    daemon: Callable[[FakePair], AbstractContextManager[None]]
    """Runs within the block, and is stopped in good order at its end."""


def _run_the_command(pair: FakePair) -> int:
    return pair.stack.run().exit_code


@contextmanager
def _daemon_of_the_command(pair: FakePair) -> Iterator[None]:
    with pair.stack.start("daemon", SYNC_INTERVAL_SECONDS="1") as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0


def _of_the_image(image: str) -> Runner:
    def options(pair: FakePair) -> dict[str, Any]:
        environment = pair.stack.program.environment
        user = ("--user", NAS_USER)
        return {"environment": environment, "files": Path(environment["TOKENS_FILE"]).parent, "options": user}

    def run_once(pair: FakePair) -> int:
        with container(image, "run-once", **options(pair)) as running:
            return running.wait()

    @contextmanager
    def daemon(pair: FakePair) -> Iterator[None]:
        pair.stack.program.environment["SYNC_INTERVAL_SECONDS"] = "1"
        with container(image, "daemon", **options(pair)) as running:
            try:
                yield
            finally:
                docker("stop", "--time", "60", running.name)
            assert running.state()["ExitCode"] == 0, running.logs()

    return Runner(run_once, daemon)


@pytest.fixture(
    params=[pytest.param("command", id="command"), pytest.param("image", id="image", marks=pytest.mark.emulator)]
)
def nas(request: pytest.FixtureRequest) -> Runner:
    """The container, and where there is no Docker the command that it runs."""
    if request.param == "command":
        return Runner(_run_the_command, _daemon_of_the_command)
    return _of_the_image(request.getfixturevalue("image"))


Make = Callable[[str], AbstractContextManager[FakePair]]


@pytest.fixture
def pair_named(certificates: Certificates, tmp_path: Path) -> Make:
    """Make a pair of accounts, with a table and a secret, in a folder of its own that the NAS's user owns."""

    @contextmanager
    def make(name: str) -> Iterator[FakePair]:
        folder = tmp_path / name
        folder.mkdir()
        # The container's user has to be able to walk there.
        for parent in (folder, *folder.parents[:-2]):
            parent.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(folder, 1026, 100)
        ca = str(shutil.copy(certificates.ca, folder / "ca.pem"))
        settings = {"INITIAL_SYNC": "all", "IN_DOUBT_SETTLE_SECONDS": "0", "MAX_MESSAGE_BYTES": "5000"}
        with fake_pair(certificates, folder, **settings, SSL_CERT_FILE=ca, REQUESTS_CA_BUNDLE=ca) as pair:
            emulator.seed_secret(pair.stack.aws, SECRET, pair.stack.program.environment)
            yield pair

    return make


# -- the one after the other, each between servers of its own


def work_off(pair: FakePair, cycle: Callable[[], object]) -> None:
    """Let a little of everything happen: mail, a refusal, one too large, one in doubt, one that comes back."""
    for number in range(6):
        pair.source.deliver(letter(number), ARRIVED + timedelta(minutes=number))
    pair.source.deliver(letter(6, size=9000), ARRIVED)
    pair.destination.misbehave(on("APPEND", raw=lambda raw: b"Letter 2" in raw), ERROR_11)
    cycle()
    returning = pair.source.archive(pair.source.uid_of(pair.source.inbox.messages[0].msgid or 0))
    pair.source.restore(returning)
    pair.destination.misbehave(on("APPEND", raw=lambda raw: b"Letter 8" in raw), LoseReply())
    pair.source.deliver(letter(7), ARRIVED)
    pair.source.deliver(letter(8), ARRIVED)
    for _ in range(2):
        cycle()
    assert cycle() in (0, "ok")


def remembered(pair: FakePair) -> dict[str, dict[str, Any]]:
    """Return the records without what must differ from run to run; that it is there still shows."""

    def stripped(value: Any, name: str = "") -> Any:
        if name in OF_THE_RUN | OF_THE_CLOCK:
            return "..."
        if isinstance(value, dict):
            return {key: stripped(inner, key) for key, inner in value.items()}
        return value

    records = pair.stack.records()
    records["WATERMARK"].pop("tokens", None)  # one has a file of tokens, the other a secret
    return {key: stripped(record) for key, record in records.items()}


def copies(pair: FakePair) -> list[tuple[bytes, Any, tuple[str, ...]]]:
    return sorted((copy.raw, copy.internaldate, copy.flags) for copy in pair.destination.appended)


def test_the_same_mail_leaves_the_same_copies_and_the_same_records(nas: Runner, pair_named: Make) -> None:
    with pair_named("nas") as here:
        work_off(here, lambda: nas.run_once(here))
        assert here.source.violations == here.destination.violations == []
        ours, our_records = copies(here), remembered(here)
    with pair_named("lambda") as there, Environment(of_the_function(there), there.stack.program.folder) as function:
        work_off(there, lambda: function.tick().result["outcome"])
        assert there.source.violations == there.destination.violations == []
        theirs, their_records = copies(there), remembered(there)
    assert [raw for raw, _, _ in ours] == sorted(letter(number) for number in range(9) if number != 6)
    assert ours == theirs
    kinds = Counter(key.partition("#")[0] for key in our_records)
    assert kinds == {"WATERMARK": 1, "UID": 9, "MSG": 8, "FAIL": 1}
    assert our_records == their_records


# -- both at once, between the same servers


def run_ids(pair: FakePair) -> set[str]:
    """Return who has copied anything so far."""
    return {record["run_id"] for key, record in pair.stack.records().items() if key.startswith("UID#")}


def test_both_may_work_at_once_and_every_message_arrives_exactly_once(nas: Runner, pair_named: Make) -> None:
    with pair_named("both") as pair:
        delivered = work_side_by_side(nas, pair)
        assert Counter(pair.copies()) == Counter(letter(number) for number in range(delivered))
        assert pair.source.violations == pair.destination.violations == []
        assert [message.flags for message in pair.source.inbox.messages] == [()] * delivered
        records = pair.stack.records()
        assert {record["status"] for key, record in records.items() if key.startswith("UID#")} == {"DONE"}
        assert records["WATERMARK"]["last_uid"] == delivered
        assert "lease_owner" not in records["WATERMARK"]


def work_side_by_side(nas: Runner, pair: FakePair) -> int:
    """Deliver mail while both are at it, until each has had its share of it; return how much."""
    delivered = 0
    by_function: set[str] = set()
    with nas.daemon(pair), Environment(of_the_function(pair), pair.stack.program.folder) as function:

        def tick() -> str:
            ended = function.tick()
            by_function.update(event["run_id"] for event in ended.events if "run_id" in event)
            assert ended.result["outcome"] in ("ok", "lease_held"), ended.result
            return str(ended.result["outcome"])

        while delivered < MESSAGES or not by_function & run_ids(pair) or not run_ids(pair) - by_function:
            assert delivered < 20 * MESSAGES, "one of the two never gets to copy"
            for _ in range(3):
                pair.source.deliver(letter(delivered), ARRIVED)
                delivered += 1
            tick()
        while tick() != "ok" or len(pair.copies()) < delivered:
            pass
    return delivered
