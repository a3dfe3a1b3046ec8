"""An order that was placed as an entry closes once the leader's position has turned: it is then an exit like any other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from copytrader.core.facts import Cancel, Command, Divided, Event, Place, Throttled, Verb
from copytrader.core.model import CopyRules, LateExits, Limits, OrderType, Side, Ticket
from tests.core.play import D, Play, follower, instrument, ticket

LOT = 75


def limit(lots: int, price: str) -> Ticket:
    return ticket(Side.BUY if lots > 0 else Side.SELL, abs(lots) * LOT, price)


def stop(lots: int, trigger: str, price: str) -> Ticket:
    side = Side.BUY if lots > 0 else Side.SELL
    return ticket(side, abs(lots) * LOT, price, trigger_price=D(trigger), order_type=OrderType.STOP_LOSS)


def market_orders_fill(play: Play) -> None:
    """The market has left the limits behind."""
    for each in list(play.orders.values()):
        if each.is_open and each.ticket.order_type is OrderType.MARKET:
            play.fills_follower(each, each.ticket.quantity - each.filled)
    play.drain()


def at_market(play: Play, order_id: str, lots: int) -> None:
    play.places(
        order_id, ticket(Side.BUY if lots > 0 else Side.SELL, abs(lots) * LOT, "0", order_type=OrderType.MARKET)
    )
    market_orders_fill(play)
    play.leader_fills(order_id)
    market_orders_fill(play)
    play.waits(1)


def settles(play: Play) -> None:
    for _ in range(12):
        market_orders_fill(play)
        play.waits(5)
        play.reads_book("asha")
        play.reads_leader_book()


def a_target_placed_before_its_entry_is_moved() -> Play:
    play = Play()
    play.places("B", limit(4, "98"))
    at_market(play, "S", -4)
    play.modifies("B", price=D(99))
    play.leader_fills("B")
    return play


def a_target_placed_before_its_entry_is_made_as_large_as_it() -> Play:
    play = Play()
    play.places("B", limit(4, "98"))
    at_market(play, "S", -8)
    play.modifies("B", quantity=8 * LOT)
    play.leader_fills("B")
    return play


def the_rest_of_an_entry_closes_what_went_through_zero() -> Play:
    play = Play()
    play.places("B", limit(4, "98"))
    play.leader_fills("B", 2 * LOT)
    at_market(play, "S", -4)
    play.leader_fills("B")
    return play


def an_order_through_zero_is_seen_before_its_entry_could_be_sent() -> Play:
    play = Play()

    def answer(command: Command) -> Event | None:
        if not isinstance(command, Place) or play.of():
            return None
        play.answer = None
        return Throttled(play.now, "asha", command.correlation_id, Verb.PLACE)

    play.answer = answer
    play.places("E", ticket(Side.BUY, 4 * LOT, "0", order_type=OrderType.MARKET))
    play.leader_fills("E")
    play.waits(0.9)
    play.places("T", limit(-8, "105"))
    play.waits(0.3)
    market_orders_fill(play)
    play.leader_fills("T")
    at_market(play, "X", 4)
    return play


def behind_two_targets() -> Play:
    """The first of two has filled at the leader alone: the second, which fills too, opens all that it is for."""
    play = Play()
    at_market(play, "E", 4)
    play.places("S", limit(-4, "105"))
    play.places("T", limit(-8, "105"))
    play.leader_fills("S")
    play.leader_fills("T")
    settles(play)
    return play


def two_targets_fill_the_second_beyond_the_first() -> Play:
    play = behind_two_targets()
    play.fills()
    at_market(play, "X", 8)
    return play


def slices_of_an_order_through_zero_are_left_behind() -> Play:
    """The first of the slices closes one lot and opens one, the second opens two."""
    play = Play(row=instrument(freeze_quantity=2 * LOT))
    at_market(play, "E", 2)
    play.places("T", limit(-8, "105"))
    play.leader_fills("T")
    settles(play)
    assert play.lots() <= 0
    play.fills()
    at_market(play, "X", 6)
    return play


@pytest.mark.parametrize(
    "scene",
    [
        a_target_placed_before_its_entry_is_moved,
        a_target_placed_before_its_entry_is_made_as_large_as_it,
        the_rest_of_an_entry_closes_what_went_through_zero,
        an_order_through_zero_is_seen_before_its_entry_could_be_sent,
        two_targets_fill_the_second_beyond_the_first,
        slices_of_an_order_through_zero_are_left_behind,
    ],
    ids=lambda scene: scene.__name__,
)
def test_what_the_leader_has_got_out_of_is_closed_at_market(scene: Callable[[], Play]) -> None:
    play = scene()
    settles(play)

    assert play.leader_net() == 0
    assert play.lots() == 0
    assert not any(each.is_open for each in play.of())


def test_what_is_held_is_closed_beside_an_order_that_only_opens_by_now() -> None:
    play = behind_two_targets()

    assert play.lots() == 0
    assert [(each.ticket.side, each.ticket.quantity) for each in play.of() if each.is_open] == [(Side.SELL, 4 * LOT)]


def test_an_order_that_closes_and_opens_by_now_stays_as_large_when_the_leaders_fills() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.places("B", limit(4, "98"))
    at_market(play, "S", -2)
    play.leader_fills("B")  # its news is a moment earlier than that of our own fill
    play.fills()

    assert play.lots() == 2


@pytest.mark.parametrize("late_exits", LateExits)
def test_a_stop_placed_before_its_entry_stays_when_the_leaders_has_filled(late_exits: LateExits) -> None:
    play = Play(rules=CopyRules(enforce_hours=False, late_exits=late_exits))
    play.places("S", stop(-4, "95", "94"))
    at_market(play, "E", 4)
    play.decisions.clear()
    play.leader_fills("S")

    assert not any(isinstance(each, Cancel) for each in play.decisions)
    play.fills()
    settles(play)
    assert play.lots() == 0


def test_no_limit_holds_an_order_back_that_closes_by_now() -> None:
    play = Play(followers=(follower(limits=Limits(max_order_value=D(15_000))),))
    play.places("B", limit(4, "98"))
    at_market(play, "S", -4)
    play.decisions.clear()
    play.modifies("B", price=D(101))

    assert not any(isinstance(each, Cancel) for each in play.decisions)
    assert (play.of()[0].is_open, play.of()[0].ticket.price) == (True, D(101))


def test_what_an_order_is_for_by_now_is_recorded_once() -> None:
    play = Play()
    play.places("B", limit(4, "98"))
    at_market(play, "S", -4)
    play.waits(30)
    told = [each for each in play.decisions if isinstance(each, Divided)]

    assert [(each.correlation_id, each.opens) for each in told] == [(play.of()[0].correlation_id, 0)]
