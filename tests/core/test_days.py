"""What the turn of the day ends, and what it must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from copytrader.core.copies import Key
from copytrader.core.facts import BookRead, Level, Ticked
from copytrader.core.left_out import left_out
from copytrader.core.model import LEADER, OrderType, Product, Side
from copytrader.core.state import Share
from tests.core.play import NIFTY, START, D, Play, follower, instrument, ticket


def test_what_the_first_frame_of_a_day_opened_is_closed_with_the_leader() -> None:
    """Nothing happened in the night: no book was told, and nobody ticked."""
    play = Play()
    play.now += timedelta(days=1)
    play.places("L1", ticket(quantity=300, price="0", order_type=OrderType.MARKET), placed_at=play.now)
    play.leader_fills("L1")
    play.fills()
    assert play.lots() == 2
    play.now += timedelta(seconds=5)
    play.reads_leader_book()
    play.reads_book("asha")
    play.places("L2", ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET), placed_at=play.now)
    play.leader_fills("L2")
    play.fills()
    play.waits(10)
    play.fills()

    assert play.lots() == 0


def test_the_first_order_of_a_day_is_cancelled_with_the_leader_s() -> None:
    play = Play()
    play.now += timedelta(days=1)
    play.places("L1", placed_at=play.now)
    play.now += timedelta(seconds=5)
    play.reads_leader_book()
    play.cancels("L1")
    play.waits(10)

    assert play.of() and not any(held.is_open for held in play.of())


def the_next_day(play: Play) -> None:
    play.now += timedelta(days=1)
    play.reads_book("asha")
    play.reads_leader_book()


def test_a_number_of_yesterday_s_may_be_another_order_s_today() -> None:
    play = Play()
    play.trades("1", 4)
    play.trades("2", -4)
    play.orders.clear()
    the_next_day(play)
    play.waits(1)
    assert play.of() == [], "the book may show yesterday's a while longer"
    play.decisions.clear()
    play.places("1", ticket(quantity=300, price="0", order_type=OrderType.MARKET), placed_at=play.now)

    assert [each.ticket.quantity for each in play.of()] == [150]
    assert not play.skips()


def test_a_row_of_yesterday_s_that_was_cancelled_stays_yesterday_s() -> None:
    play = Play()
    play.places("1")
    play.cancels("1")
    the_next_day(play)
    row = replace(play.leader["1"], placed_at=play.now, updated_at=play.now)
    play.decisions.clear()
    play.feed(BookRead(play.now, LEADER, (row,)))

    assert play.decisions == []


def test_a_book_that_still_shows_friday_s_orders_after_the_weekend_shows_nothing_new() -> None:
    """The days turned by themselves; an order for Monday, and its copy, work on."""
    play = Play()
    play.now += timedelta(days=4)
    play.trades("1", 4)
    play.trades("2", -4)
    play.now += timedelta(hours=7)
    play.places("A", ticket(after_market=True), placed_at=play.now)
    assert [held.is_open for held in play.of()] == [False, False, True]
    for _ in range(3):
        play.now += timedelta(days=1)
        play.feed(Ticked(play.now))
    play.decisions.clear()
    play.starts()

    assert set(play.state.orders) == {"A"}
    assert not play.decisions


def test_what_a_follower_left_out_of_the_configuration_has_is_said_at_the_start() -> None:
    play = Play(followers=(follower("asha"), follower("bala")))
    play.trades("IN", 4)
    play.places("STOP", ticket(Side.SELL, 300, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(92)))
    play.followers = (follower("asha"),)

    play.starts()

    (said,) = [each for each in play.alerts() if each.account == "bala"]
    assert said.level is Level.CRITICAL
    assert "bala is left out of the configuration, and holds +150 NIFTY-Dec2026-24000-PE INTRADAY" in said.text
    assert "from copying and has 1 order open: nobody looks after that" in said.text


def test_nothing_is_said_of_one_left_out_that_has_nothing() -> None:
    """Of what was held for yesterday alone nothing is left today, and what has expired is gone."""
    play = Play(followers=(follower("asha"), follower("bala")), row=instrument(expiry=START.date()))
    play.trades("IN", 4)
    play.followers = (follower("asha"),)
    play.now += timedelta(days=1)
    play.starts()

    assert play.alerts() == []
    play.state.holding(Key(NIFTY, Product.MARGIN)).shares["bala"] = Share("bala", copied=75)
    assert left_out(play.state) == {}
