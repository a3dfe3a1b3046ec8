"""An entry that a limit holds back only for what an exit is about to close waits for that; no limit is passed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.core.facts import InstrumentRead, Place
from copytrader.core.model import Limits, Order, OrderStatus, OrderType, RefusalClass, Security, Side, Ticket
from tests.core.play import NIFTY, D, Held, Play, follower, ticket
from tests.core.test_answers import refused

OTHERS = [NIFTY, *(Security("NSE_FNO", f"4000{number}") for number in range(3))]


def limited(**most: object) -> Play:
    play = Play((follower(ratio="1", limits=Limits(**most)),))  # type: ignore[arg-type]
    for each in OTHERS[1:]:
        play.feed(InstrumentRead(play.now, replace(play.row, security=each)))
    return play


def at_market(side: Side, lots: int = 4, number: int = 0) -> Ticket:
    return replace(ticket(side, lots * 75, "0", order_type=OrderType.MARKET), security=OTHERS[number])


def resting(side: Side, lots: int = 4) -> Ticket:
    return ticket(side, lots * 75, "99")


def trades(play: Play, order_id: str, terms: Ticket) -> None:
    play.places(order_id, terms)
    play.leader_fills(order_id)


def reads(play: Play, *orders: tuple[str, Side, int]) -> None:
    """Orders of the leader that have filled while its stream was away."""
    for order_id, side, lots in orders:
        terms = at_market(side, lots)
        order = Order(order_id, terms, OrderStatus.TRADED, play.now, play.now, terms.quantity, D(100))
        play.leader[order_id] = order
    play.reads_leader_book()


def leaving() -> Play:
    """As much is held as the limit allows, the leader is out, and the follower's exit is at the broker."""
    play = limited(max_position_lots=4)
    play.trades("L1", 4)
    play.waits(60)
    trades(play, "OUT", at_market(Side.SELL))
    assert [each.ticket.side for each in working(play)] == [Side.SELL]
    return play


def working(play: Play) -> list[Held]:
    return [each for each in play.of() if each.is_open]


def bought(play: Play) -> list[int]:
    """The lots of each purchase after the first."""
    return [each.ticket.quantity // 75 for each in play.of() if each.ticket.side is Side.BUY][1:]


@pytest.mark.parametrize("seconds", [0, 1, 9])
@pytest.mark.parametrize("terms", [at_market(Side.BUY), resting(Side.BUY)], ids=["market", "resting"])
def test_an_entry_waits_while_an_exit_is_about_to_make_room_for_it(terms: Ticket, seconds: int) -> None:
    play = leaving()
    play.places("BACK", terms)
    if terms.order_type is OrderType.MARKET:
        play.leader_fills("BACK")
    play.waits(seconds)
    assert bought(play) == []

    play.fills()
    assert bought(play) == [4]
    play.fills()
    play.waits(30)
    assert play.lots() == 4
    assert not play.skips()


@pytest.mark.parametrize("terms", [at_market(Side.BUY), resting(Side.BUY)], ids=["market", "resting"])
def test_an_exit_that_does_not_fill_while_the_entry_is_fresh_leaves_it_with_the_limit_s_reason(terms: Ticket) -> None:
    play = leaving()
    play.places("BACK", terms)
    if terms.order_type is OrderType.MARKET:
        play.leader_fills("BACK")
    play.waits(9.5)
    assert not play.skips()
    play.waits(0.5)
    assert [(each.leader_order_id, each.detail) for each in play.skips("LIMIT_POSITION_LOTS")] == [
        ("BACK", "8 lots would be held, the limit is 4")
    ]

    play.fills()
    play.waits(60)
    assert bought(play) == []
    assert len(play.skips()) == 1


def test_what_would_be_over_the_limit_without_what_is_closed_too_does_not_wait() -> None:
    play = limited(max_position_lots=4)
    play.trades("L1", 4)
    trades(play, "OUT", at_market(Side.SELL, 1))
    trades(play, "MORE", at_market(Side.BUY, 2))

    assert [each.leader_order_id for each in play.skips("LIMIT_POSITION_LOTS")] == ["MORE"]


def test_an_exit_that_rests_is_not_about_to_close_anything() -> None:
    play = limited(max_position_lots=4)
    play.trades("L1", 4)
    play.places("STOP", ticket(Side.SELL, 300, "89", order_type=OrderType.STOP_LOSS, trigger_price=D(90)))
    play.places("TARGET", ticket(Side.SELL, 300, "120"))
    trades(play, "MORE", at_market(Side.BUY, 1))

    assert [each.leader_order_id for each in play.skips("LIMIT_POSITION_LOTS")] == ["MORE"]


def test_entries_that_wait_count_for_the_limit_together_once_there_is_room() -> None:
    play = leaving()
    for number in range(3):
        trades(play, f"BACK{number}", at_market(Side.BUY, 2))
    play.waits(1)
    assert not play.skips()

    play.fills()
    assert bought(play) == [2, 2]
    assert [each.leader_order_id for each in play.skips()] == ["BACK2"]
    play.fills()
    play.waits(30)
    assert play.lots() == 4


def test_what_an_exit_has_closed_in_part_makes_room_for_as_much() -> None:
    play = leaving()
    for number, lots in enumerate((3, 1)):
        trades(play, f"BACK{number}", at_market(Side.BUY, lots))
    [out] = working(play)
    play.fills_follower(out, 75)
    play.drain()
    assert bought(play) == [1]

    play.fills()
    play.fills()
    assert play.lots() == 4
    assert not play.skips()


@pytest.mark.parametrize("is_read", [False, True], ids=["one by one", "in one reading"])
def test_what_an_entry_that_has_room_already_adds_is_no_part_of_what_is_closed(is_read: bool) -> None:
    """Four lots are closed; two are opened at once, and four more when there is room, six in all."""
    play = limited(max_position_lots=6)
    play.trades("L1", 4)
    play.waits(60)
    orders = (("OUT", Side.SELL, 4), ("SMALL", Side.BUY, 2), ("LARGE", Side.BUY, 4))
    if is_read:
        reads(play, *orders)
    else:
        for order_id, side, lots in orders:
            trades(play, order_id, at_market(side, lots))
    assert bought(play) == [2]
    assert not play.skips()

    play.fills()
    play.fills()
    assert play.lots() == 6
    assert not play.skips()


def test_an_exit_that_one_reading_brings_with_the_entry_goes_first() -> None:
    play = limited(max_position_lots=4)
    play.trades("L1", 4)
    play.waits(60)
    reads(play, ("OUT", Side.SELL, 4), ("BACK", Side.BUY, 4))
    assert [each.ticket.side for each in working(play)] == [Side.SELL]

    play.fills()
    play.fills()
    play.waits(30)
    assert play.lots() == 4
    assert not play.skips()


def test_an_exit_at_market_that_the_leader_s_has_not_filled_yet_is_waited_for_too() -> None:
    play = limited(max_position_lots=4)
    play.trades("L1", 4)
    play.places("OUT", at_market(Side.SELL))
    play.places("BACK", at_market(Side.BUY))
    assert not play.skips()
    play.leader_fills("OUT")
    play.leader_fills("BACK")
    play.fills()
    play.fills()

    assert play.lots() == 4
    assert not play.skips()


def test_an_exit_that_is_refused_is_waited_for_until_what_it_was_to_close_is_swept() -> None:
    play = limited(max_position_lots=4)
    play.trades("L1", 4)
    play.waits(60)
    play.answer = refused(play, RefusalClass.OTHER, Place)
    trades(play, "OUT", at_market(Side.SELL))
    play.answer = None
    trades(play, "BACK", at_market(Side.BUY))
    assert bought(play) == []
    play.waits(1)
    play.fills()
    play.fills()

    assert bought(play) == [4]
    assert play.lots() == 4


def test_what_the_leader_has_got_out_of_again_meanwhile_is_not_entered() -> None:
    play = leaving()
    trades(play, "BACK", at_market(Side.BUY))
    play.waits(1)
    trades(play, "OUT2", at_market(Side.SELL))
    play.fills()
    play.fills()
    play.waits(30)

    assert play.lots() == 0
    assert bought(play) == []
    assert "BACK" in {each.leader_order_id for each in play.skips()}


def test_an_entry_that_the_leader_cancels_while_it_waits_is_not_placed() -> None:
    play = leaving()
    play.places("BACK", resting(Side.BUY))
    play.waits(1)
    play.cancels("BACK")
    play.fills()
    play.waits(30)

    assert bought(play) == []
    assert [(each.leader_order_id, each.reason) for each in play.skips()] == [("BACK", "LEADER_DONE")]


def test_the_stop_behind_an_entry_that_waits_is_placed_once_that_is_there() -> None:
    play = leaving()
    trades(play, "BACK", at_market(Side.BUY))
    play.places("STOP", ticket(Side.SELL, 300, "89", order_type=OrderType.STOP_LOSS, trigger_price=D(90)))
    play.fills()
    entry = next(each for each in working(play) if each.ticket.side is Side.BUY)
    play.fills_follower(entry, 300)
    play.drain()
    play.waits(10)

    assert play.lots() == 4
    assert [(each.ticket.side, each.ticket.quantity) for each in working(play)] == [(Side.SELL, 300)]
    assert not play.skips()


def test_turning_round_and_back_again_ends_where_the_leader_is() -> None:
    play = limited(max_position_lots=4)
    play.trades("L1", 4)
    trades(play, "TURN", at_market(Side.SELL, 8))
    trades(play, "BACK", at_market(Side.BUY, 8))
    play.fills()
    play.fills()
    play.fills()
    play.waits(30)
    play.fills()

    assert play.lots() == 4


def test_what_waits_when_the_process_ends_is_judged_again_by_the_next_and_placed_once() -> None:
    play = leaving()
    play.places("BACK", resting(Side.BUY))
    play.now += timedelta(seconds=1)
    play.starts()
    assert bought(play) == []
    play.fills()
    play.waits(1)
    play.starts()

    assert bought(play) == [4]
    assert not play.skips()


@pytest.mark.parametrize("wait", [0.0, 3.0])
def test_a_hedge_is_rolled_though_no_more_positions_may_be_open(wait: float) -> None:
    """Its old leg closes in another instrument, and nothing tells the new one."""
    play = limited(max_open_positions=2)
    for order_id, terms in (("SHORT", at_market(Side.SELL, 4, 0)), ("HEDGE", at_market(Side.BUY, 4, 1))):
        trades(play, order_id, terms)
        play.fills()
    play.waits(60)
    trades(play, "OUT", at_market(Side.SELL, 4, 1))
    trades(play, "NEW", at_market(Side.BUY, 4, 2))
    play.waits(wait)
    assert [each.ticket.security for each in working(play)] == [OTHERS[1]]

    play.fills()
    play.waits(0.25)
    assert [each.ticket.security for each in working(play)] == [OTHERS[2]]
    assert not play.skips()
    play.fills()
    play.waits(10)
    assert play.state.next_wake is None


def test_of_entries_that_wait_for_one_place_among_the_open_positions_one_goes() -> None:
    play = limited(max_open_positions=1)
    trades(play, "HELD", at_market(Side.BUY, 4, 0))
    play.fills()
    play.waits(60)
    trades(play, "OUT", at_market(Side.SELL, 4, 0))
    for number in (1, 2):
        trades(play, f"NEW{number}", at_market(Side.BUY, 4, number))
    play.fills()
    play.waits(1)

    assert [each.ticket.security for each in working(play)] == [OTHERS[1]]
    assert [each.leader_order_id for each in play.skips("LIMIT_OPEN_POSITIONS")] == ["NEW2"]


def test_a_position_that_is_not_left_wholly_makes_no_place_for_another() -> None:
    play = limited(max_open_positions=1)
    trades(play, "HELD", at_market(Side.BUY, 4, 0))
    play.fills()
    trades(play, "OUT", at_market(Side.SELL, 3, 0))
    trades(play, "NEW", at_market(Side.BUY, 4, 1))

    assert [each.leader_order_id for each in play.skips("LIMIT_OPEN_POSITIONS")] == ["NEW"]
