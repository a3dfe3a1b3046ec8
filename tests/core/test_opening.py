"""Entries around the opening of the market: the broker's clock is not ours."""

from __future__ import annotations

from datetime import timedelta

import pytest

from copytrader.core.model import Calendar, CopyRules, Desk, OrderType, Session
from tests.core.play import START, Play, follower, ticket

ONE = follower(ratio="1")
OPENS = START.replace(hour=9, minute=15)


def before_the_opening(seconds: float) -> Play:
    play = Play(followers=(ONE,))
    calendar = Calendar({"NSE_FNO": Session(9 * 60 + 15, 15 * 60 + 30)}, {}, (START.year,))
    play.state.desk = Desk("1000000001", (ONE,), CopyRules(), calendar)
    play.now = OPENS - timedelta(seconds=seconds)
    return play


@pytest.mark.parametrize("seconds", [0.4, 400])
def test_an_entry_that_came_too_early_and_works_is_copied_at_the_opening(seconds: float) -> None:
    play = before_the_opening(seconds)
    play.places("L1")
    assert [each.reason for each in play.skips()] == ["MARKET_CLOSED"]
    assert play.of() == []
    play.waits(seconds + 1)

    assert [(each.asked.quantity, each.placed_at >= OPENS) for each in play.state.slices.values()] == [(150, True)]


def test_a_market_entry_that_came_far_too_early_is_not() -> None:
    play = before_the_opening(400)
    play.places("L1", ticket(price="0", order_type=OrderType.MARKET))
    play.waits(500)

    assert play.of() == []
    assert [each.reason for each in play.skips()] == ["MARKET_CLOSED", "STALE"]


def test_one_that_is_over_by_then_is_not() -> None:
    play = before_the_opening(400)
    play.places("L1")
    play.cancels("L1")
    play.waits(500)

    assert play.of() == []
