"""Positions show a fill before the order book tells it: it counts once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from copytrader.core.facts import BookRead, InstrumentRead, Level, Started
from copytrader.core.model import (
    LEADER,
    Desk,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Security,
    Side,
    Ticket,
)
from tests.core.play import NIFTY, Play, ticket


def shown(lots: int, bought: int = 0, sold: int = 0) -> tuple[Position, ...]:
    """The row of a position, with what was traded of it today."""
    row = Position(NIFTY, Product.INTRADAY, lots * 75, day_bought=bought * 75, day_sold=sold * 75)
    return (row,) if lots or bought or sold else ()


def gets_out(play: Play) -> None:
    play.places("X", ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    play.leader_fills("X")
    play.fills()


@pytest.mark.parametrize("readings", [2, 5])
def test_an_entry_of_the_leader_s_that_positions_show_first(readings: int) -> None:
    """Its row stays as it was for some seconds, and its frame is lost."""
    play = Play()
    play.places("E", ticket(quantity=300))
    play.fills()
    for _ in range(readings):
        play.feed(BookRead(play.now, LEADER, (), shown(4)))
        play.waits(4)
    play.leader_fills("E")
    assert [each.leader_net for each in play.state.holdings.values()] == [300]
    gets_out(play)

    assert play.lots() == 0


def test_what_positions_show_for_long_counts_though_no_order_tells_it() -> None:
    play = Play()
    play.places("E", ticket(quantity=300))
    for _ in range(8):
        play.feed(BookRead(play.now, LEADER, (), shown(4)))
        play.waits(4)

    assert [each.leader_net for each in play.state.holdings.values()] == [300]


@pytest.mark.parametrize(("carried", "bought"), [(0, 4), (2, 4)])
def test_a_start_at_the_moment_at_which_positions_are_ahead(carried: int, bought: int) -> None:
    play = Play(begin=False)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(InstrumentRead(play.now, play.row))
    play.reads_book("asha")
    play.leader["E"] = Order("E", ticket(quantity=300), OrderStatus.PENDING, play.now, play.now)
    play.feed(BookRead(play.now, LEADER, (play.leader["E"],), shown(carried + bought, bought)))
    play.leader_fills("E")

    assert [each.leader_net for each in play.state.holdings.values()] == [(carried + bought) * 75]


def starts_with(play: Play, order: Order, *rows: Position) -> None:
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(InstrumentRead(play.now, play.row))
    play.reads_book("asha")
    play.leader[order.order_id] = order
    play.feed(BookRead(play.now, LEADER, (order,), rows))


def test_a_start_at_the_moment_at_which_positions_are_ahead_of_an_exit() -> None:
    play = Play(begin=False)
    sale = Order("X", ticket(Side.SELL, 300), OrderStatus.PENDING, play.now, play.now)
    starts_with(play, sale, Position(NIFTY, Product.INTRADAY, 75, day_sold=300))
    play.leader_fills("X")

    assert [each.leader_net for each in play.state.holdings.values()] == [75]


@pytest.mark.parametrize(
    ("terms", "bought"),
    [
        (ticket(quantity=75), 300),
        (ticket(Side.SELL, 300), 300),
        (replace(ticket(quantity=300), security=Security("NSE_FNO", "40001")), 300),
    ],
    ids=["less works", "the other side works", "another instrument's works"],
)
def test_what_no_working_order_can_have_bought_is_the_leader_s_at_the_start(terms: Ticket, bought: int) -> None:
    play = Play(begin=False)
    order = Order("E", terms, OrderStatus.PENDING, play.now, play.now)
    starts_with(play, order, Position(NIFTY, Product.INTRADAY, bought, day_bought=bought))

    assert [each.leader_net for each in play.state.holdings.values() if each.key.security == NIFTY] == [bought]


def test_an_exit_of_a_follower_s_that_positions_show_first() -> None:
    """The next one is copied all the same, and nobody is said to have traded by hand."""
    play = Play()
    play.trades("E", 4)
    play.places("X", ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    play.leader_fills("X")
    leaving = play.of()[-1]
    play.feed(BookRead(play.now, "asha", (), ()))
    play.fills_follower(leaving, 150)
    play.drain()
    play.trades("E2", 4)
    play.places("Y", ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    play.leader_fills("Y")
    play.fills()

    assert play.lots() == 0
    assert [each.text for each in play.alerts() if each.level is Level.CRITICAL] == []
