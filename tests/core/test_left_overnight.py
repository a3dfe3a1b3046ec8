"""What happened while nobody looked: a new day, another account."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from copytrader.core.facts import BookRead, Level, Started
from copytrader.core.model import LEADER, Desk, OrderType, Position, Product, Side, Ticket
from tests.core.play import NIFTY, START, Play, follower, ticket

ENTRY = ticket(Side.BUY, 300, "0", order_type=OrderType.MARKET, product=Product.MARGIN)


def trades(play: Play, order_id: str, terms: Ticket) -> None:
    play.places(order_id, terms, placed_at=play.now)
    play.leader_fills(order_id)
    play.fills()
    play.waits(5)


def next_day(play: Play, leader: int, asha: int) -> None:
    play.leader.clear()
    play.orders.clear()
    play.numbered += 100
    play.now = START + timedelta(days=1)
    play.positions["asha"] = asha
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(BookRead(play.now, "asha", (), _position(asha)))
    play.feed(BookRead(play.now, LEADER, (), _position(leader)))
    play.waits(5)


def _position(net: int) -> tuple[Position, ...]:
    return (Position(NIFTY, Product.MARGIN, net),) if net else ()


def test_what_is_gone_in_the_morning_is_not_held_from_copying_any_more() -> None:
    """The stop filled unseen at both; of what is bought today half is sold."""
    play = Play()
    trades(play, "L1", ENTRY)
    next_day(play, 0, 0)
    trades(play, "M1", ENTRY)
    trades(play, "M2", replace(ENTRY, side=Side.SELL, quantity=150))

    assert play.lots() == 1


def test_what_the_person_closed_overnight_is_not_sold_out_of_the_next_entry() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    next_day(play, 300, 0)
    trades(play, "M1", ENTRY)
    trades(play, "M2", replace(ENTRY, side=Side.SELL, quantity=300))

    assert play.lots() == 1


def test_a_follower_that_is_another_account_now_has_nothing_from_copying() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    play.followers = (follower(client_id="2099999999"),)
    next_day(play, 300, 150)  # its own
    trades(play, "M1", replace(ENTRY, side=Side.SELL))

    assert play.lots() == 2
    assert any(each.level is Level.CRITICAL and "another account" in each.text for each in play.alerts())
