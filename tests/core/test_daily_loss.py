"""The loss of the day: reckoned from the follower's own fills, and what becomes of entries once it reaches its limit."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from copytrader.core.facts import BookRead, Level
from copytrader.core.model import IST, CopyRules, Limits, Position, Product, Side
from tests.core.play import NIFTY, D, Play, follower, instrument, ticket


def limited(most: int, multiplier: int = 1) -> Play:
    row = instrument(multiplier=multiplier)
    return Play((follower(ratio="1", limits=Limits(max_daily_loss=D(most))),), row=row)


def trades_at(play: Play, order_id: str, lots: int, price: int) -> None:
    """The leader's order and its copy fill at one price; - sells."""
    side = Side.BUY if lots > 0 else Side.SELL
    play.places(order_id, ticket(side, abs(lots) * 75, str(price)))
    play.leader_fills(order_id)
    play.fills()
    play.now += timedelta(seconds=1)


def is_stopped(play: Play) -> bool:
    """Whether the next entry is held back."""
    play.places("NEXT", ticket(quantity=75))
    return [skip.reason for skip in play.skips()] == ["LIMIT_DAILY_LOSS"]


def alerts(play: Play) -> list[Level]:
    return [alert.level for alert in play.alerts() if "reached the limit" in alert.text]


LOSSES = {
    "of one entry": ([(2, 100), (-2, 90)], 1500),
    "of a sale": ([(-2, 100), (2, 110)], 1500),
    "of two entries": ([(1, 100), (1, 120), (-2, 100)], 1500),
    "of an entry to what was left": ([(2, 100), (-1, 100), (1, 120), (-2, 100)], 1500),
    "of an exit in two parts": ([(2, 100), (-1, 95), (-1, 85)], 1500),
    "of an order through zero": ([(1, 100), (-3, 90), (2, 95)], 1500),
    "after a gain": ([(1, 100), (-1, 120), (1, 100), (-1, 80), (1, 100), (-1, 80)], 1500),
}


@pytest.mark.parametrize(("trades", "loss"), LOSSES.values(), ids=LOSSES)
def test_a_loss_that_reaches_the_limit_stops_entries_and_is_said(trades: list[tuple[int, int]], loss: int) -> None:
    for most in (loss, loss + 1):
        play = limited(most)
        for number, (lots, price) in enumerate(trades):
            trades_at(play, f"L{number}", lots, price)

        assert alerts(play) == ([Level.CRITICAL] if most == loss else [])
        assert is_stopped(play) is (most == loss)


@pytest.mark.parametrize("most", [15000, 15001])
def test_a_loss_is_in_rupees_of_the_multiplier(most: int) -> None:
    play = limited(most, multiplier=10)
    trades_at(play, "L1", 2, 100)
    trades_at(play, "L2", -2, 90)

    assert is_stopped(play) is (most == 15000)


def test_a_loss_is_said_once_and_not_before_it_reaches_the_limit() -> None:
    play = limited(1500)
    trades_at(play, "L1", 2, 100)
    seen = []
    for unrealized in (-750, -1499, -1500, -3000, -1600):
        row = Position(NIFTY, Product.INTRADAY, 150, unrealized=D(unrealized))
        play.feed(BookRead(play.now, "asha", (), (row,)))
        seen.append(len(alerts(play)))

    assert seen == [0, 0, 1, 1, 1]


def test_the_day_s_worst_loss_counts_though_the_positions_have_come_back() -> None:
    play = limited(1000)
    trades_at(play, "L1", 2, 100)
    for unrealized in (-2000, 500):
        row = Position(NIFTY, Product.INTRADAY, 150, unrealized=D(unrealized))
        play.feed(BookRead(play.now, "asha", (), (row,)))

    assert is_stopped(play)


@pytest.mark.parametrize("is_read", [False, True])
def test_yesterday_s_loss_stops_nothing_today(is_read: bool) -> None:
    """The first order of the morning may come before the account's positions are read anew."""
    play = limited(1500)
    trades_at(play, "L1", 2, 100)
    trades_at(play, "L2", -2, 90)
    assert is_stopped(play)
    play.leader.clear()
    play.now += timedelta(days=1)
    if is_read:
        play.reads_book("asha")
    trades_at(play, "L3", 1, 100)
    trades_at(play, "L4", -1, 90)
    trades_at(play, "L5", 1, 100)

    assert play.lots() == 1
    assert len(alerts(play)) == 1


@pytest.mark.parametrize(("clock", "stops"), [("00:03", False), ("08:59:59", False), ("09:00", True)])
def test_what_positions_show_in_the_night_is_no_loss_of_the_day(clock: str, stops: bool) -> None:
    """They may still be yesterday's."""
    play = limited(1500)
    play.rules = CopyRules(enforce_hours=True)
    play.starts()
    play.now = datetime.fromisoformat(f"2026-11-24 {clock}").replace(tzinfo=IST)
    play.feed(BookRead(play.now, "asha", (), (Position(NIFTY, Product.INTRADAY, 0, realized=D(-1500)),)))

    assert alerts(play) == [Level.CRITICAL] * stops
