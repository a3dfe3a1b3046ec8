"""What the turn of the day ends, and what it must not."""

from __future__ import annotations

from datetime import timedelta

from copytrader.core.model import OrderType, Side
from tests.core.play import Play, ticket


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
