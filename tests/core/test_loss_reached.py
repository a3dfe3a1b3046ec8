"""What becomes of orders that work already when the day's loss reaches its limit: nothing opens any more, exits go on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from copytrader.core.facts import BookRead, InstrumentRead
from copytrader.core.model import Limits, OrderType, Position, Product, Security, Side
from tests.core.play import NIFTY, D, Play, follower, instrument, ticket

LIMITS = Limits(max_daily_loss=D(1000))


def limited() -> Play:
    """The follower holds four lots, like the leader."""
    play = Play((follower(ratio="1", limits=LIMITS),))
    play.trades("IN", 4)
    play.waits(5)
    return play


def loses(play: Play, rupees: int = 1000) -> None:
    """The positions show a loss that is not realised."""
    held = Position(NIFTY, Product.INTRADAY, play.positions["asha"], unrealized=D(-rupees))
    rows = tuple(each.seen() for each in play.orders.values())
    play.feed(BookRead(play.now, "asha", rows, (held,)))
    play.waits(5)


def working(play: Play) -> list[tuple[Side, int]]:
    """Side and lots of what the follower's open orders may still fill."""
    return [
        (each.ticket.side, (each.ticket.quantity - each.filled) // 75) for each in play.orders.values() if each.is_open
    ]


@pytest.mark.parametrize("filled", [0, 1])
def test_an_entry_that_works_is_cancelled(filled: int) -> None:
    play = limited()
    play.places("MORE", ticket(Side.BUY, 150, "90"))
    play.places("STOP", ticket(Side.SELL, 300, "79", order_type=OrderType.STOP_LOSS, trigger_price=D(80)))
    if filled:
        play.leader_fills("MORE", 75)
        play.fills_follower(play.of()[1], 75)
        play.drain()
    loses(play, 999)
    assert (Side.BUY, 2 - filled) in working(play)
    loses(play)

    assert [side for side, _ in working(play)] == [Side.SELL]
    assert [skip.reason for skip in play.skips()] == ["LIMIT_DAILY_LOSS"]
    play.modifies("MORE", price=D(91))
    play.leader_fills("MORE")
    play.waits(60)
    assert play.lots() == 4 + filled
    assert len(play.of()) == 3
    play.leader_fills("STOP")
    play.fills()
    play.trades("OUT", -2)
    play.waits(5)
    play.fills()
    assert play.lots() == 0


def test_an_order_through_zero_keeps_what_it_closes() -> None:
    play = limited()
    play.places("TURN", ticket(Side.SELL, 450, "110"))
    assert working(play) == [(Side.SELL, 6)]
    loses(play)

    assert working(play) == [(Side.SELL, 4)]
    play.leader_fills("TURN")
    play.fills()
    play.waits(60)
    assert play.lots() == 0


def test_a_loss_in_one_contract_cancels_entries_in_another() -> None:
    play = limited()
    other = Security("NSE_FNO", "77777")
    play.feed(InstrumentRead(play.now, instrument(security=other)))
    play.places("ELSEWHERE", ticket(Side.BUY, 150, "90", security=other))
    play.places("OUT", ticket(Side.SELL, 300, "95"))
    assert working(play) == [(Side.BUY, 2), (Side.SELL, 4)]
    play.leader_fills("OUT")
    play.fills_follower(play.of()[-1], 300, "95")
    play.drain()

    assert play.state.accounts["asha"].loss == D(1500)
    assert working(play) == []


def test_a_stop_stays_and_follows_the_leader() -> None:
    play = limited()
    play.places("STOP", ticket(Side.SELL, 300, "79", order_type=OrderType.STOP_LOSS, trigger_price=D(80)))
    loses(play)
    play.modifies("STOP", price=D(84), trigger_price=D(85))

    assert working(play) == [(Side.SELL, 4)]
    assert play.of()[-1].ticket.trigger_price == D(85)


def test_what_was_cancelled_for_the_loss_does_not_come_back_in_the_morning() -> None:
    play = limited()
    play.places("MORE", ticket(Side.BUY, 150, "90"))
    loses(play)
    assert working(play) == []
    play.now += timedelta(days=1)
    play.reads_leader_book()
    play.reads_book("asha")
    play.waits(60)

    assert working(play) == []
