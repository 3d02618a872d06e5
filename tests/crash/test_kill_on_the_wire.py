"""Die, lose a reply, or have it take effect late at every request that the real parts make; each mail arrives once.

Every DynamoDB request, every IMAP command to either side (the greeting counts as one), every token call
and every save of the tokens, over a scenario of five cycles: new mail, a message that was archived and
taken back, one that is refused and tried again, one whose APPEND is left in doubt, a mailbox whose
UIDVALIDITY changes, and nothing new at all. And every DynamoDB request of a person's decision about what no
look can tell. What real is, and what dying means here: ``wire_world``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from botocore.retries import standard

from syncer.demo.certificates import Certificates
from syncer.model import Decision, Status
from tests.crash.wire_world import Blow, Ground, Point, WireWorld, ground
from tests.fakes.faults import ERROR_11, CloseInLiteral, LoseReply, on
from tests.memory_mailboxes import mail

pytestmark = pytest.mark.thorough

TOKEN_FILE: Final = "token file"
ACTORS: Final = ("authority", "dynamodb", "gmail", "outlook", TOKEN_FILE)
CASES: Final = [
    pytest.param(actor, blow, id=f"{actor}-{blow.value}")
    for actor in ACTORS
    for blow in Blow
    if actor != TOKEN_FILE or blow in (Blow.BEFORE, Blow.AFTER)  # a file has no reply to lose, and no later
]
STRUCK: Final = "requests struck on the wire"
TRIES: Final = 5
"""Threads take turns: a call that two runs of a scenario make need not be made by the next."""


@pytest.fixture(scope="module")
def stage(certificates: Certificates) -> Iterator[Ground]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificates.ca))
        patch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
        patch.setattr(standard.ExponentialBackoff, "delay_amount", lambda self, context: 0.0)
        with ground(certificates) as made:
            yield made


def play(world: WireWorld) -> WireWorld:
    """Let the cycles of the scenario pass."""
    world.deliver(mail("old"), ago=30 * 3600.0, wanted=False)
    for name in ("kept", "poison", "plain"):
        world.deliver(mail(name))
    back = world.deliver(mail("archived and back"))
    world.outlook.misbehave(on("APPEND", raw=mail("poison").__eq__), ERROR_11)
    world.run()
    world.gmail.restore(world.gmail.archive(back))
    for name in ("second", "third"):
        world.deliver(mail(name))
    in_doubt = world.outlook.misbehave(on("APPEND", nth=2), LoseReply())
    world.run()
    in_doubt.times = 0
    world.deliver(mail("fourth"))
    world.run()
    world.gmail.set_uidvalidity(12)
    world.deliver(mail("fifth"))
    world.run()
    world.run()
    return world


def play_decision(world: WireWorld, decision: Decision) -> WireWorld:
    """Leave a message in doubt of which no look can tell, and have a person decide: again, if that was struck."""
    is_copied = decision is Decision.COPIED
    in_doubt = world.outlook.misbehave(on("APPEND"), LoseReply() if is_copied else CloseInLiteral())
    world.deliver(mail("in doubt"))
    world.run()
    in_doubt.times = 0
    if not is_copied:
        world.outlook.mailbox("Gmail").add(mail("somebody else's"))
    world.outlook.move_away("Gmail", 1)
    world.run()
    for _ in range(3):
        record = world.record(1)
        if record is not None and record.status is Status.PENDING and record.decision is None:
            assert "may have been the copy" in record.unclear
            world.settle(1, decision)
    return world


def played(
    stage: Ground,
    folder: Path,
    point: Point | None = None,
    blow: Blow = Blow.BEFORE,
    play: Callable[[WireWorld], WireWorld] = play,
) -> WireWorld:
    """Play the scenario, struck at a point, and resume until quiet; what is to hold has held."""
    folder.mkdir(exist_ok=True)
    (folder / "tokens.json").unlink(missing_ok=True)
    world = WireWorld(stage, folder, point, blow)
    try:
        play(world)
        if point is None or world.struck:
            world.run_until_quiet()
            world.check()
    except BaseException as error:
        raise AssertionError(f"{point}, {blow.value}: {type(error).__name__} {error}") from error
    finally:
        world.close()
    return world


@pytest.fixture(scope="module")
def points(stage: Ground, tmp_path_factory: pytest.TempPathFactory) -> list[Point]:
    """Every call that the scenario makes when nobody strikes."""
    counts: Counter[tuple[int, str, str]] = Counter()
    for _ in range(3):
        counts |= played(stage, tmp_path_factory.mktemp("quiet")).met
    return sorted(Point(*where, nth) for where, most in counts.items() if where[0] <= 5 for nth in range(1, most + 1))


def test_the_scenario_has_all_that_is_promised(stage: Ground, points: list[Point], tmp_path: Path) -> None:
    assert {point.actor for point in points} == {*ACTORS}
    world = played(stage, tmp_path)
    records = world.records()
    assert any("duplicate_of" in record for record in records.values())
    assert world.gmail.inbox.uidvalidity == 12
    verbs = Counter(world.outlook.verbs())
    assert verbs["APPEND"] == 9, "eight mails, one of which was refused at first"
    assert verbs["UID FETCH"] >= 1, "a look for the one in doubt"


@pytest.mark.parametrize(("actor", "blow"), CASES)
def test_a_run_struck_at_any_request_still_copies_each_mail_once(
    stage: Ground, points: list[Point], actor: str, blow: Blow, tmp_path: Path, counted: Counter[str]
) -> None:
    its = [point for point in points if point.actor == actor]
    met = [point for point in its if any(played(stage, tmp_path, point, blow).struck for _ in range(TRIES))]
    # Threads decide what goes into one transaction: some calls of the quiet play are not made in every other.
    assert len(its) - len(met) <= len(its) // 10, f"never made again: {set(its) - set(met)}"
    counted[STRUCK] += len(met)


@pytest.mark.parametrize("blow", Blow, ids=lambda blow: blow.value)
@pytest.mark.parametrize("decision", Decision)
def test_an_answer_struck_at_any_request_is_heeded_once_or_given_again(
    stage: Ground, decision: Decision, blow: Blow, tmp_path: Path, counted: Counter[str]
) -> None:
    decided = partial(play_decision, decision=decision)
    quiet = played(stage, tmp_path, play=decided)
    calls = {call: most for (cycle, actor, call), most in quiet.met.items() if (cycle, actor) == (3, "dynamodb")}
    assert calls.keys() == {"GetItem", "BatchGetItem", "UpdateItem", "TransactWriteItems"}
    for point in [Point(3, "dynamodb", call, nth) for call, most in calls.items() for nth in range(1, most + 1)]:
        assert played(stage, tmp_path, point, blow, decided).struck
        counted[STRUCK] += 1
