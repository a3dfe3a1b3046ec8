"""An order through zero that had filled when it was first seen: it closes, and its opening part is not copied."""

from __future__ import annotations

from datetime import timedelta

import pytest

from copytrader.core.facts import BookRead, Place
from copytrader.core.model import LEADER, Filter, Follower, Order, OrderStatus, OrderType, Side
from tests.core.play import D, Play, follower, ticket


def finds(play: Play, seconds: int) -> None:
    """Read in the book that the leader has sold three lots, which it placed so long ago."""
    at = play.now - timedelta(seconds=seconds)
    order = Order("L3", ticket(Side.SELL, 225, "100"), OrderStatus.TRADED, at, play.now, 225, D(100), last_price=D(100))
    play.leader["L3"] = order
    play.feed(BookRead(play.now, LEADER, (order,)))


FILTERED = follower(ratio="1", filter=Filter(sides=(Side.BUY,)))


@pytest.mark.parametrize(("who", "seconds"), [(FILTERED, 0), (follower(ratio="1"), 60)], ids=["filtered", "stale"])
def test_it_closes_once(who: Follower, seconds: int) -> None:
    play = Play(followers=(who,))
    play.trades("L1", 2)
    play.waits(100)
    finds(play, seconds)
    play.waits(5)

    assert len([each for each in play.decisions if isinstance(each, Place)]) == 2
    play.fills()
    play.waits(600)
    play.reads_book("asha")
    play.waits(600)
    assert play.lots() == 0
    assert not any(held.is_open for held in play.of())


@pytest.mark.parametrize("price", ["0", "90"])
def test_an_exit_of_what_the_leader_has_leaves_what_an_entry_has_filled_ahead(price: str) -> None:
    play = Play()
    play.trades("L1", 2)
    play.places("L2", ticket(Side.BUY, 600, "99"))
    play.fills()
    assert play.lots() == 5

    order_type = OrderType.LIMIT if D(price) else OrderType.MARKET
    play.places("X", ticket(Side.SELL, 150, price, order_type=order_type))

    assert [each.ticket.quantity for each in play.of() if each.is_open] == [75]


def test_what_a_working_entry_has_filled_ahead_is_left_to_it() -> None:
    play = Play()
    play.trades("L1", 2)
    play.places("L2", ticket(Side.BUY, 600, "99"))
    play.fills()
    play.waits(100)
    finds(play, 60)
    play.fills()

    assert play.lots() == 3
