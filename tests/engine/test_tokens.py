"""What a cycle knows of the refresh tokens: kept, told, and warned of ahead."""

from __future__ import annotations

import pytest

from syncer.errors import AuthError
from syncer.model import Forecast, Outcome, Side
from tests.engine.conftest import Lines
from tests.world import HOUR, IDLE, World, cut, strike_on

DAY = 24 * HOUR


def foreseeing(**days: float) -> World:
    """Return a world whose tokens end in so many days from its beginning, after its first run."""
    world = World()
    ends = {Side(side): world.time.now + left * DAY for side, left in days.items()}
    world.forecasts = lambda: {side: Forecast(side, ends_at=at) for side, at in ends.items()}
    world.run()
    world.later()
    return world


def test_a_cycle_keeps_and_tells_how_long_the_tokens_last_and_asks_the_store_no_more_for_it(lines: Lines) -> None:
    world = foreseeing(source=170.0, destination=80.0)
    assert world.calls(world.run) == IDLE
    finished = lines.of("cycle_finished")[-1]
    assert (finished["gmail_token_days_left"], finished["outlook_token_days_left"]) == (170.0, 80.0)
    assert world.table.watermark.tokens == world.forecasts()
    assert lines.of("token_ending") == []


def test_nobody_knows_and_nothing_is_told(lines: Lines) -> None:
    world = World()
    summary = world.run()
    assert (summary.gmail_token_days_left, summary.outlook_token_days_left) == (None, None)
    assert world.table.watermark.tokens == {}
    assert lines.of("token_ending") == []


def test_a_cycle_that_read_no_token_tells_what_is_remembered() -> None:
    world = foreseeing(destination=80.0)
    remembered = world.table.watermark.tokens
    world.forecasts = dict
    world.later(10 * DAY)
    assert world.run().outlook_token_days_left == pytest.approx(70.0, abs=0.1)
    assert world.table.watermark.tokens == remembered


def test_an_end_that_is_near_is_warned_of_once_a_day(lines: Lines) -> None:
    world = foreseeing(source=400.0, destination=15.0)
    for _ in range(4 * 24):
        world.later(HOUR)
        world.run()
    warnings = lines.of("token_ending")
    assert [(line["side"], line["levelname"]) for line in warnings] == [("destination", "WARNING")] * 3
    assert [round(line["days_left"]) for line in warnings] == [14, 13, 12]
    assert {line["remedy"] for line in warnings} == {"sign in again: syncer auth outlook"}


def test_a_warning_that_could_not_be_written_down_comes_again(lines: Lines) -> None:
    world = World()
    world.run()
    world.forecasts = lambda: {Side.SOURCE: Forecast(Side.SOURCE, ends_at=world.time.now + DAY)}
    world.later().run(script=strike_on("store.release", "before", cut))
    world.later().run()
    world.later().run()
    assert len(lines.of("token_ending")) == 2


def test_who_signed_in_again_is_not_warned_any_more(lines: Lines) -> None:
    world = foreseeing(destination=3.0)
    assert len(lines.of("token_ending")) == 1
    assert world.table.watermark.token_warned_at != {}
    world.forecasts = lambda: {Side.DESTINATION: Forecast(Side.DESTINATION, ends_at=world.time.now + 90 * DAY)}
    world.later(2 * DAY).run()
    assert len(lines.of("token_ending")) == 1
    assert world.table.watermark.token_warned_at == {}


def test_a_cycle_whose_sign_in_was_refused_tells_the_forecast_all_the_same(lines: Lines) -> None:
    world = foreseeing(source=5.0)

    def refused(call: str, when: str) -> None:
        if (call, when) == ("source.open", "before"):
            raise AuthError(Side.SOURCE, "gone", "sign in")

    world.later(2 * DAY)
    assert world.run(script=refused).outcome is Outcome.AUTH_FAILED
    assert lines.of("token_ending")[-1]["days_left"] == pytest.approx(3.0, abs=0.1)
