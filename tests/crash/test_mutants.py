"""The tests, tested: an engine with one rule of exactly once left out must fail them.

Each mutant is a copy of this project in which one piece of text is replaced, and the few tests which
have to see the difference. A mutant cannot rot: its original text has to be there, once, and the same
tests have to pass without it. That they fail in their collection does not count.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

pytestmark = [pytest.mark.mutants, pytest.mark.thorough]

PROJECT: Final = Path(__file__).resolve().parents[2]
KILLS: Final = "tests/crash/test_kill_at_every_step.py::test_a_run_struck_at_any_place_still_copies_each_message_once"
FROZEN: Final = "tests/crash/test_kill_at_every_step.py::test_a_run_frozen_at_any_place_while_others_take_over"
WIRE: Final = "tests/crash/test_kill_on_the_wire.py::test_a_run_struck_at_any_request_still_copies_each_mail_once"
IDEMPOTENCY: Final = "tests/engine/test_idempotency.py::test_"
PLAN: Final = "tests/contract/test_plan_machine.py::test_the_plan_sends_no_mail_twice_and_loses_none"
CONTRACT: Final = "tests/contract/test_state_store.py::test_"
TESTS_FAILED: Final = 1
AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule left out: ``old`` becomes ``new`` in ``file``; ``tests`` have to fail, for ``reason``."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    reason: str


MUTANTS: Final = {
    "confirms before the APPEND": Mutant(
        "syncer/copy_flow.py",
        """
            else:
                self._append(item)
""",
        """
            else:
                now = self._parts.clock.now()
                self._parts.store.confirm([Confirmation(item.key, item.record.attempt, now, None, had_failed=False)])
                self._append(item)
""",
        (f"{KILLS}[gmail-dies]",),
        "missing [",
    ),
    "gives the claim back when the outcome of an APPEND is unknown": Mutant(
        "syncer/copy_flow.py",
        "        except OutcomeUnknown as unknown:\n",
        "        except OutcomeUnknown as unknown:\n            self._give_back(item)\n",
        (f"{KILLS}[gmail-loses the reply]",),
        "surplus [",
    ),
    "appends what is in doubt again without a look": Mutant(
        "syncer/settling.py",
        "    verdicts = settle_in_doubt(pending, view, owned, asked_at, settings.in_doubt_settle_seconds)\n",
        "    verdicts = dict.fromkeys((record.key for record in pending), AppendAgain())\n",
        (f"{KILLS}[gmail-dies]",),
        "surplus [",
    ),
    "leaves the second look out": Mutant(
        "syncer/sync_plan.py",
        "        return NothingYet(first=True)\n",
        "        return AppendAgain()\n",
        (f"{KILLS}[gmail-loses the reply, and what was under way lands later]",),
        "surplus [",
    ),
    "takes the second look too early": Mutant(
        "syncer/sync_plan.py",
        "    return AppendAgain() if now - record.not_found_at >= settle_seconds else NothingYet(first=False)\n",
        "    return AppendAgain()\n",
        (f"{IDEMPOTENCY}what_is_not_found_twice_is_appended_again_under_the_same_claim",),
        "assert 0 == 1",
    ),
    "deletes the claim when the confirmation fails": Mutant(
        "syncer/copy_flow.py",
        "            # The claims stay, and the copies are there: the next cycle looks and finds them.\n",
        "            writes = [item.claim for item in batch]\n"
        "            self._parts.keeper.commit(self._parts.progress.watermark(self._parts.clock.now()), writes)\n",
        (f"{IDEMPOTENCY}a_copy_that_could_not_be_confirmed_is_found_and_never_appended_again",),
        "AssertionError",
    ),
    "moves the watermark before its records": Mutant(
        "syncer/copy_flow.py",
        "        self._committing = True\n",
        "        self._committing = True\n"
        "        for item in claimed:\n"
        "            self._parts.progress.settle(item.key)\n",
        (f"{KILLS}[gmail-dies]",),
        "out of sight",
    ),
    "does not write with the claim that it is open": Mutant(
        "syncer/progress.py",
        "        self._open.setdefault(key.uidvalidity, set()).add(key.uid)\n        if fence is not None",
        "        if fence is not None",
        (f"{KILLS}[gmail-dies]",),
        "out of sight",
    ),
    "takes copies from below the fence": Mutant(
        "syncer/copy_flow.py",
        "claimed_at=now, fence=self.fence)",
        "claimed_at=now, fence=replace(self.fence, uidnext=1))",
        (f"{IDEMPOTENCY}the_copy_of_an_earlier_lookalike_is_not_taken_for_that_of_the_one_in_doubt",),
        "missing [",
    ),
    "does not see that a UID was handed out and is gone": Mutant(
        "syncer/sync_plan.py",
        "    if UidSet.of_range(fence.uidnext, view.fence.uidnext - 1) - accounted:\n",
        "    if not accounted and accounted:\n",
        (f"{IDEMPOTENCY}where_a_copy_may_have_been_moved_away_nothing_is_guessed",),
        "assert 0 == 1",
    ),
    "takes a copy that another record owns": Mutant(
        "syncer/sync_plan.py",
        " if seen.uid not in owned}",
        "}",
        (f"{IDEMPOTENCY}a_copy_that_another_record_owns_leaves_no_doubt_about_the_one_in_doubt",),
        "not quiet",
    ),
    "keeps no lookalikes apart": Mutant(
        "syncer/likeness.py",
        "        if self._apart.setdefault(record.fingerprint, item.key) != item.key:\n",
        "        if self._apart.setdefault(record.fingerprint, item.key) is None:\n",
        (f"{IDEMPOTENCY}messages_that_no_header_tells_apart_are_never_taken_for_each_other",),
        "missing [",
    ),
    "takes the Message-ID for the identity": Mutant(
        "syncer/copy_flow.py",
        "Identity(message.gmail_msgid or item.sha256)",
        "Identity(fingerprint(item.body, message.received_at).message_id)",
        (f"{IDEMPOTENCY}different_messages_with_one_message_id_all_arrive",),
        "duplicates=2",
    ),
    "does not ask its lease before an APPEND": Mutant(
        "syncer/lease_keeper.py",
        "        return not self._is_lost and ",
        "        return True or ",
        (f"{IDEMPOTENCY}a_run_frozen_inside_its_claim_while_another_takes_over_sends_nothing",),
        "AssertionError",
    ),
    "commits without the lease, in memory": Mutant(
        "tests/memory_state.py",
        """
            self._fence(lease)
            self._put_watermark(watermark)
            table.lease_until""",
        """
            self._put_watermark(watermark)
            table.lease_until""",
        (f"{FROZEN}_copies_nothing_twice[gmail]",),
        "AssertionError",
    ),
    "commits without the lease, in DynamoDB": Mutant(
        "syncer/dynamodb_state.py",
        'IS_MINE: Final = "#lease_owner = :me AND #generation = :mine AND #revision < :revision"\n',
        'IS_MINE: Final = "#lease_owner <> :me OR #generation <> :mine OR #revision < :revision"\n',
        (f"{CONTRACT}a_run_that_was_overtaken_writes_nothing[dynamodb]",),
        "DID NOT RAISE",
    ),
    "takes an APPEND without an answer for one that was not delivered": Mutant(
        "syncer/imap_session.py",
        "                kind = OutcomeUnknown if error.begun else NotDelivered\n",
        "                kind = NotDelivered if error.begun else NotDelivered\n",
        (f"{WIRE}[outlook-loses its reply]",),
        "surplus [",
    ),
    "counts the time between the looks from the claim": Mutant(
        "syncer/sync_plan.py",
        "now - record.not_found_at >= settle_seconds",
        "now - record.claimed_at >= settle_seconds",
        (PLAN,),
        "AssertionError",
    ),
    "takes silence about a similar message for absence": Mutant(
        "syncer/sync_plan.py",
        "    if any(_can_be(record, seen, view) and is_similar(",
        "    if any(record is seen and is_similar(",
        (PLAN,),
        "two copies",
    ),
    "believes of the next attempt what a person said of this one": Mutant(
        "syncer/dynamodb_records.py",
        '    "decision",\n    "decided_at",\n',
        "",
        (f"{CONTRACT}what_a_person_said_of_one_attempt_is_not_said_of_the_next[dynamodb]",),
        "NOT_COPIED",
    ),
    "lets go of what a person said is not there": Mutant(
        "syncer/decision.py",
        "            if write.decision is Decision.COPIED:\n",
        "            if write.decision:\n",
        ("tests/engine/test_settle.py::test_what_a_person_missed_is_appended_by_the_next_cycle_without_a_pause",),
        "out of sight",
    ),
    "claims whatever was claimed before": Mutant(
        "syncer/dynamodb_writes.py",
        'NO_RECORD: Final = "attribute_not_exists(#SK)"\n',
        'NO_RECORD: Final = "attribute_not_exists(#SK) OR attribute_exists(#SK)"\n',
        (f"{CONTRACT}a_message_is_claimed_once[dynamodb]",),
        "assert {} ==",
    ),
}


Outcome = tuple[int, str]
"""pytest's exit code, and what it printed."""


def outcome_of(project: Path, tests: Iterable[str]) -> Outcome:
    """Run tests of a copy until one fails."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider", *tests],
        cwd=project,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(project)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def copied_to(folder: Path) -> Path:
    """Copy the project, as far as these tests need it."""
    for name in ("syncer", "tests"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    return folder


def outcome_with(mutant: Mutant, folder: Path) -> Outcome:
    """Run the tests of a mutant's own copy."""
    file = copied_to(folder) / mutant.file
    whole = file.read_text(encoding="utf-8")
    assert whole.count(mutant.old) == 1, "this mutant has to be written anew"
    file.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
    return outcome_of(folder, mutant.tests)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outcome]]]:
    """What becomes of each mutant, and of none (the empty name); several are at work at once."""
    every = dict.fromkeys(test for mutant in MUTANTS.values() for test in mutant.tests)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {"": pool.submit(lambda: outcome_of(copied_to(tmp_path_factory.mktemp("sound")), every))}
        for name, mutant in MUTANTS.items():
            futures[name] = pool.submit(outcome_with, mutant, tmp_path_factory.mktemp("mutant"))
        yield futures
        for future in futures.values():
            future.cancel()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found_out(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    code, printed = outcomes[name].result()
    assert (code, MUTANTS[name].reason in printed) == (TESTS_FAILED, True), printed


def test_the_same_tests_pass_without_a_mutation(outcomes: dict[str, Future[Outcome]]) -> None:
    code, printed = outcomes[""].result()
    assert code == 0, printed
