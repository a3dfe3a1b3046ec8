"""The person has traded by hand beside a copy that filled ahead of the leader's order: exits reduce, and open nothing."""

from __future__ import annotations

import pytest

from copytrader.core.facts import Adopted, FixOrdered, Halted, Level, OrderSeen, Resumed, Source
from copytrader.core.model import Order, OrderStatus, OrderType, Side
from tests.core.play import D, Play, follower, ticket


@pytest.mark.parametrize("sold", [150, 225])
def test_an_exit_counts_what_has_filled_ahead_once(sold: int) -> None:
    play = Play(followers=(follower(ratio="1"),))
    terms = ticket(Side.SELL, sold, "0", order_type=OrderType.MARKET)
    play.positions["asha"] = -sold
    hand = Order("H", terms, OrderStatus.TRADED, play.now, play.now, sold, D(100))
    play.feed(OrderSeen(play.now, "asha", hand, Source.STREAM))
    play.reads_book("asha")
    play.places("E", ticket(quantity=150))
    play.fills()
    assert play.positions["asha"] == 150 - sold

    play.places("X", ticket(Side.SELL, 225, "110"))
    closes = [each.ticket.quantity for each in play.of() if each.ticket.side is Side.SELL and each.is_open]
    assert sum(closes) <= 75, "only the part that opens is left: the broker shows nothing to close"


def test_an_exit_that_the_person_s_own_position_prevents_is_said() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.positions["asha"] = -225
    play.reads_book("asha")
    play.trades("IN", 2)

    play.trades("OUT", -2)

    assert [each.reason for each in play.skips()] == ["NOTHING_TO_EXIT"]
    assert [(each.level, "holds -75 at the broker but 150 from copying" in each.text) for each in play.alerts()] == [
        (Level.CRITICAL, True)
    ]


def test_nothing_is_said_where_nothing_was_copied() -> None:
    play = Play(followers=(follower(ratio="1"),), held_before=150)
    play.positions["asha"] = -225
    play.reads_book("asha")

    play.trades("OUT", -2)

    assert [each.reason for each in play.skips()] == ["NOTHING_TO_EXIT"]
    assert play.alerts() == []


@pytest.mark.parametrize("turns", [(-4, -4), (-8,)], ids=["out, then round", "through zero"])
def test_what_is_entered_after_the_person_has_closed_the_copy_is_got_out_of(turns: tuple[int, ...]) -> None:
    play = Play()
    play.trades("IN", 4)
    play.trades_by_hand(-2)
    for number, lots in enumerate(turns):
        play.trades(f"TURN{number}", lots)
        play.waits(1)
    assert play.lots() == -2

    play.trades("OUT", 4)
    play.waits(5)
    play.fills()
    assert (play.leader_net(), play.lots()) == (0, 0)


@pytest.mark.parametrize("turns", [(-8, -2), (-10,)], ids=["out, then round", "through zero"])
@pytest.mark.parametrize("by_hand", [-4, -2])
def test_a_smaller_position_on_the_other_side_is_got_out_of_after_the_person_has_closed_more(
    by_hand: int, turns: tuple[int, ...]
) -> None:
    play = Play()
    play.trades("IN", 8)
    play.trades_by_hand(by_hand)
    for number, lots in enumerate(turns):
        play.trades(f"TURN{number}", lots)
        play.waits(1)
    assert play.lots() == -1

    play.trades("OUT", 2)
    play.waits(5)
    play.fills()
    assert (play.leader_net(), play.lots()) == (0, 0)


def test_an_exit_covers_of_an_entry_what_is_left_of_it_after_a_position_that_stayed() -> None:
    """The person's own short prevented the exit of what was copied; the entry on the other side closes that first."""
    play = Play()
    play.trades_by_hand(-2)
    play.trades("IN", 2)
    play.trades("OUT", -2)
    assert play.lots() == -1
    play.places("E", ticket(Side.SELL, 300, "110"))
    play.places("X", ticket(Side.BUY, 300, "95"))

    assert [each.ticket.quantity for each in play.of() if each.is_open] == [150, 75]


def a_target_that_covers_the_rest_of_an_entry() -> Play:
    """The person has closed the lot that the entry has filled; the target is for the one that is to come."""
    play = Play()
    play.places("E", ticket(quantity=300))
    play.fills_follower(play.of()[0], 75)
    play.drain()
    play.leader_fills("E")
    play.trades_by_hand(-1)
    play.places("T", ticket(Side.SELL, 300, "105"))
    return play


def test_what_an_exit_sells_before_the_entry_that_it_covers_is_bought_back_beside_what_the_person_has_closed() -> None:
    play = a_target_that_covers_the_rest_of_an_entry()
    play.fills_follower(play.of()[-1], 75)
    play.drain()
    play.leader_fills("T")
    assert play.lots() == -1

    play.waits(1)
    play.reads_book("asha")
    play.waits(5)
    play.fills()
    assert play.lots() == 0
    assert not any(each.is_open for each in play.of())


def test_nothing_is_bought_back_where_that_entry_has_filled_first_and_is_told_later() -> None:
    play = a_target_that_covers_the_rest_of_an_entry()
    entry, target = play.of()[0], play.of()[-1]
    play.fills_follower(entry, 75)
    told = play.queue.pop()
    play.fills_follower(target, 75)
    play.drain()
    play.leader_fills("T")
    play.waits(0.5)
    play.feed(told)
    play.waits(30)

    assert play.lots() == 0
    assert [each.ticket.side for each in play.of() if each.correlation_id] == [Side.BUY, Side.SELL]


def test_what_an_adopted_exit_has_sold_was_not_sold_by_hand() -> None:
    """Under a restored journal the exit is an order that nobody knows, until it is adopted."""
    play = Play()
    play.trades("L1", 8)
    exit_of_ours = Order("Z1", ticket(Side.SELL, 75), OrderStatus.TRADED, play.now, play.now, 75, D(100), "ct1-z")
    play.positions["asha"] -= 75
    play.feed(OrderSeen(play.now, "asha", exit_of_ours, Source.BOOK))
    play.reads_book("asha")
    play.waits(5)
    play.reads_book("asha")
    play.feed(Adopted(play.now, "asha", (exit_of_ours,)))
    play.waits(5)
    play.trades("L2", -8)
    play.waits(5)

    assert play.lots() == 0


@pytest.mark.parametrize("side", Side)
def test_a_plan_buys_what_was_missed_after_the_person_had_closed_an_earlier_copy(side: Side) -> None:
    play, sign = Play(), side.sign
    play.trades("IN", 4 * sign)
    play.trades_by_hand(-2 * sign)
    play.trades("OUT", -4 * sign)
    play.feed(Halted(play.now))
    play.trades("IN2", 4 * sign)
    play.feed(Resumed(play.now))

    entry = ticket(side, 150, "0", order_type=OrderType.MARKET)
    play.feed(FixOrdered(play.now, "asha", "p1", (entry,), (), 0, play.now))
    play.fills()

    assert play.lots() == 2 * sign
    play.trades("OUT2", -4 * sign)
    assert (play.lots(), play.state.accounts["asha"].plans["p1"][0].over) == (0, False)
