"""Die, lose a reply, or freeze at every place where a run touches the world; then each message still arrives once.

The scenario of four cycles has all that the engine deals with: new mail, a message that was archived
and taken back, one that is refused and tried again, one whose APPEND is left in doubt, copies that
Exchange serves rewritten, and a mailbox whose UIDVALIDITY changes. A second one has what no look can
tell, and a person who decides it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Final, TypedDict

import pytest

from syncer.errors import LeaseHeld, MessageRefused, StateUnavailable
from syncer.model import Decision, MessageKey, Outcome, Status
from tests.memory_mailboxes import Cut, Hook, as_exchange_serves, mail
from tests.world import Killed, World, cut, cut_and_land, die, strike_at, strike_on


class Kind(TypedDict, total=False):
    """Of mailbox and store: what ``Scenario`` takes."""

    has_msgids: bool
    most_writes: int
    tells_uids: bool


class Scenario:
    """Some mail and some cycles, always the same."""

    def __init__(self, *, has_msgids: bool = True, most_writes: int | None = None, tells_uids: bool = True) -> None:
        self.world = World(has_msgids=has_msgids, most_writes=most_writes)
        self.world.destination.rewrites = as_exchange_serves
        self.world.destination.tells_uids = tells_uids
        self._refusals = {mail("poison"): 2}
        self.world.destination.refuses = self._refuse
        self._stop: Outcome | None = None

    def play(self, script: Hook | None = None) -> World:
        """Let the cycles pass, each a schedule after the one before, whether it was cut short or not."""
        world = self.world
        world.deliver("old", ago=30 * 3600.0, wanted=False)
        *_, back = world.deliver_many("kept", "poison", "plain", "archived and back")
        self._cycle(script)
        world.restore(back)
        world.deliver_many("second", "third")
        self._cycle(self._losing_a_reply(script))
        world.deliver("fourth")
        self._cycle(script)
        world.source.renumber(first=3)
        world.deliver("fifth")
        self._cycle(script)
        return world

    def _cycle(self, script: Hook | None) -> None:
        self._stop = None
        with contextlib.suppress(Killed):
            self.world.later().run(script=script, stop=lambda: self._stop)

    def ask_to_stop(self) -> None:
        """Let the cycle that is running stop."""
        self._stop = Outcome.STOPPED

    def _refuse(self, body: bytes) -> MessageRefused | None:
        if not self._refusals.get(body, 0):
            return None
        self._refusals[body] -= 1
        return MessageRefused("BAD Command Argument Error. 11")

    @staticmethod
    def _losing_a_reply(script: Hook | None) -> Hook:
        """Cut the connection after the second APPEND was done: the message is in doubt."""
        appends = 0

        def both(call: str, when: str) -> None:
            nonlocal appends
            if script is not None:
                script(call, when)
            if (call, when) == ("destination.append", "after"):
                appends += 1
                if appends == 2:
                    raise Cut

        return both


KINDS: Final[dict[str, Kind]] = {
    "gmail": {},
    "no X-GM-MSGID": {"has_msgids": False},
    "one write a transaction": {"most_writes": 1},
    "no APPENDUID": {"tells_uids": False},
}
BLOWS: Final[dict[str, Callable[[], None]]] = {
    "dies": die,
    "loses the reply": cut,
    "loses the reply, and what was under way lands later": cut_and_land(500.0),
}


POINTS: Final = "crash points"


class Decided:
    """Two messages of which no look can tell: the copy of one was moved away, the other never arrived."""

    def __init__(self, *, most_writes: int | None = None) -> None:
        self.world = world = World(most_writes=most_writes)
        world.run()
        world.deliver("moved away")
        world.run(script=strike_on("destination.append", "after", cut))
        world.destination.take_out(40)
        world.deliver("lost")
        world.later().run(script=strike_on("destination.append", "during", cut))
        world.destination.take_out(world.destination.put(mail("somebody else's"), world.time.now))
        assert world.later().run().in_doubt == 2
        world.places.clear()

    def play(self, script: Hook | None = None) -> World:
        """Have a person decide both, and a cycle heed it; what was not heeded is decided once more, unharmed."""
        answers = {1: Decision.COPIED, 2: Decision.NOT_COPIED}
        for uid, decision in answers.items():
            self._answer(uid, decision, script)
        with contextlib.suppress(Killed):
            self.world.later().run(script=script)
        for uid, decision in answers.items():
            record = self.world.table.records.get(MessageKey(11, uid))
            if record is not None and record.status is Status.PENDING and record.unclear and record.decision is None:
                self._answer(uid, decision, None)
        return self.world

    def _answer(self, uid: int, decision: Decision, script: Hook | None) -> None:
        with contextlib.suppress(Killed, LeaseHeld, StateUnavailable):
            self.world.later().settle(uid, decision=decision, script=script)


def places(kind: Kind) -> list[tuple[str, str]]:
    return Scenario(**kind).play().places


def settle(scenario: Scenario | Decided, script: Hook | None, what: str) -> None:
    try:
        world = scenario.play(script)
        world.run_until_quiet()
        world.check()
    except BaseException as error:
        raise AssertionError(f"{what}: {error}") from error


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_quiet_scenario_has_all_that_is_promised(kind: Kind) -> None:
    scenario = Scenario(**kind)
    settle(scenario, None, "quiet")
    calls = {call for call, _ in scenario.world.places}
    assert calls >= {"source.since", "destination.look", "destination.append", "store.commit", "store.confirm"}
    assert any(record.duplicate_of for record in scenario.world.table.records.values())
    assert scenario.world.source.uidvalidity == 12


@pytest.mark.parametrize("blow", BLOWS.values(), ids=BLOWS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_run_struck_at_any_place_still_copies_each_message_once(
    kind: Kind, blow: Callable[[], None], counted: Counter[str]
) -> None:
    for place, name in enumerate(places(kind)):
        counted[POINTS] += 1
        settle(Scenario(**kind), strike_at(place, blow), f"struck at place {place}, {' '.join(name)}")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_run_frozen_at_any_place_while_others_take_over_copies_nothing_twice(
    kind: Kind, counted: Counter[str]
) -> None:
    for place, name in enumerate(places(kind)):
        counted[POINTS] += 1
        scenario = Scenario(**kind)

        def freeze(world: World = scenario.world, call: str = name[0]) -> None:
            """Nothing of this run happens until four others have come and gone, and looked more than once."""
            for _ in range(4):
                world.later().run()
            if call == "destination.append":
                cut()  # no connection outlives that

        settle(scenario, strike_at(place, freeze), f"frozen at place {place}, {' '.join(name)}")


@pytest.mark.parametrize("kind", [KINDS["gmail"], KINDS["one write a transaction"]], ids=["gmail", "split"])
def test_a_run_that_dies_twice_still_copies_each_message_once(kind: Kind, counted: Counter[str]) -> None:
    """The second time in the cycle that clears up after the first."""
    for place, name in enumerate(places(kind)):
        for further in (2, 5, 9):
            counted[POINTS] += 1
            script = strike_at(place, die, strike_at(place + further, die))
            settle(Scenario(**kind), script, f"dead at place {place}, {' '.join(name)}, and {further} later")


def test_a_stop_asked_for_at_any_place_loses_nothing(counted: Counter[str]) -> None:
    for place, name in enumerate(places({})):
        counted[POINTS] += 1
        scenario = Scenario()
        settle(scenario, strike_at(place, scenario.ask_to_stop), f"stopped at place {place}, {' '.join(name)}")


@pytest.mark.parametrize("blow", BLOWS.values(), ids=BLOWS)
@pytest.mark.parametrize("most_writes", [None, 1], ids=["as it is", "one write a transaction"])
def test_an_answer_struck_at_any_place_is_heeded_once_or_given_again(
    blow: Callable[[], None], most_writes: int | None, counted: Counter[str]
) -> None:
    for place, name in enumerate(Decided(most_writes=most_writes).play().places):
        counted[POINTS] += 1
        settle(Decided(most_writes=most_writes), strike_at(place, blow), f"struck at place {place}, {' '.join(name)}")


def test_an_answer_frozen_at_any_place_while_others_take_over_is_heeded_once_or_given_again(
    counted: Counter[str],
) -> None:
    for place, name in enumerate(Decided().play().places):
        counted[POINTS] += 1
        scenario = Decided()

        def freeze(world: World = scenario.world, call: str = name[0]) -> None:
            for _ in range(3):
                world.later().run()
            if call == "destination.append":
                cut()

        settle(scenario, strike_at(place, freeze), f"frozen at place {place}, {' '.join(name)}")
