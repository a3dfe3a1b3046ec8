"""Entry limits hold whatever waits for its turn, and for the part of an order through zero that opens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from copytrader.core.facts import Accepted, BookRead, Command, Event, Halted, Modify, Place, TokenRenewed, Verb
from copytrader.core.model import Limits, Order, OrderStatus, Position, Product, RefusalClass, Side
from tests.core.play import NIFTY, D, Play, follower, instrument, quiet, ticket
from tests.core.test_answers import lose, places, refused, unanswered


def limited(**limits: object) -> Play:
    return Play(followers=(follower(ratio="1", limits=Limits(**limits)),))  # type: ignore[arg-type]


def test_orders_that_one_reading_brings_are_held_against_the_limits_together() -> None:
    play = limited(max_position_lots=3, max_orders_per_minute=2)
    for number in range(5):
        order = Order(f"L{number}", ticket(), OrderStatus.PENDING, play.now, play.now, last_price=D(100))
        play.leader[order.order_id] = order
    play.reads_leader_book()
    play.fills()

    assert play.lots() == 2
    assert len(play.skips()) == 4


def test_entries_that_wait_for_the_budget_count_for_the_limits() -> None:
    play = limited(max_orders_per_minute=20, max_position_lots=20)
    for number in range(100):
        play.now += timedelta(seconds=0.01)
        play.places(f"L{number}", ticket(quantity=75))
    play.waits(30)
    play.fills()

    assert len(places(play)) == play.lots() == 20
    assert len(play.skips()) == 80


def test_entries_that_wait_do_not_go_once_the_day_s_loss_is_reached() -> None:
    play = limited(max_daily_loss=D(1000))
    for number in range(30):
        play.now += timedelta(seconds=0.01)
        play.places(f"L{number}", ticket(quantity=75))
    before = len(places(play))
    lost = Position(NIFTY, Product.INTRADAY, 0, realized=D(-5000))
    play.feed(BookRead(play.now, "asha", (), (lost,), None))
    play.waits(30)

    assert len(places(play)) == before < 30
    assert len(play.skips("LIMIT_DAILY_LOSS")) == 30
    assert not any(each.is_open for each in play.of())


def flipping(play: Play, quantity: int = 450) -> None:
    play.places("L2", ticket(Side.SELL, quantity))


def test_halted_an_order_through_zero_only_closes() -> None:
    play = limited()
    play.trades("L1", 2)
    play.answer = refused(play, RefusalClass.TOKEN, Place)
    flipping(play)
    play.answer = None
    play.feed(Halted(play.now))
    play.waits(60)
    play.feed(TokenRenewed(play.now, "asha"))
    play.waits(5)
    play.fills()

    assert play.lots() == 0


def test_what_an_order_through_zero_opens_is_held_against_the_position_limit_alone() -> None:
    play = limited(max_position_lots=3)
    play.trades("L1", 2)
    flipping(play, 525)
    play.fills()

    assert play.lots() == 0
    assert play.skips("LIMIT_POSITION_LOTS")


@pytest.mark.parametrize("first", [0, 1])
def test_whichever_slice_of_an_order_through_zero_rests_what_it_may_still_open_takes_room(first: int) -> None:
    """One slice is to close and the other to open: the one that fills first closes."""
    rows = instrument(freeze_quantity=150)
    play = Play(followers=(follower(ratio="1", limits=Limits(max_position_lots=4)),), row=rows)
    play.trades("L1", 2)
    flipping(play, 300)
    slices = play.of()[1:]
    assert [each.ticket.quantity for each in slices] == [150, 150]
    play.fills_follower(slices[first], 150)
    play.drain()
    play.leader_fills("L2", 150)

    play.places("L3", ticket(Side.SELL, 300))
    play.fills()
    assert play.lots() == -2
    assert [each.reason for each in play.skips()] == ["LIMIT_POSITION_LOTS"]

    play.places("L4", ticket(Side.SELL, 150))
    play.fills()
    assert play.lots() == -4


def test_orders_through_zero_count_as_entries() -> None:
    play = limited(max_orders_per_minute=5)
    play.trades("L0", 2)
    for number in range(1, 12):
        play.now += timedelta(seconds=1)
        play.trades(f"L{number}", -4 if number % 2 else 4)

    assert play.skips("LIMIT_ORDERS_PER_MINUTE")


def test_the_opening_part_of_an_order_through_zero_is_not_sent_again_after_it_was_given_up() -> None:
    play = limited()
    play.trades("L1", 2)
    play.answer = unanswered(play, Place)
    flipping(play)
    play.answer = None
    lose(play, 130)
    play.waits(5)

    assert [(each.ticket.quantity, each.opens, each.generation) for each in places(play)[1:]] == [
        (450, 300, 0),
        (150, 0, 1),
    ]


def test_a_new_price_is_held_against_the_order_s_value() -> None:
    play = limited(max_order_value=D(20000))
    play.places("L1")
    play.modifies("L1", price=D(1000))
    play.waits(60)

    assert not [each for each in play.decisions if isinstance(each, Modify)]
    assert play.of()[0].status is OrderStatus.CANCELLED
    assert [each.reason for each in play.skips()] == ["LIMIT_ORDER_VALUE"]


def test_a_new_price_outside_the_band_is_not_asked_for() -> None:
    play = Play(row=instrument(lower_limit=D(50), upper_limit=D(150)))
    play.places("L1")
    play.modifies("L1", price=D(151))
    play.waits(60)

    assert not [each for each in play.decisions if isinstance(each, Modify)]
    assert play.of()[0].status is OrderStatus.CANCELLED
    assert [each.reason for each in play.skips()] == ["PRICE_BAND"]


def test_what_the_person_closed_by_hand_takes_no_room() -> None:
    play = limited(max_position_lots=4)
    play.trades("L1", 4)
    play.trades_by_hand(-4)
    play.trades("L2", -4)
    play.trades("L3", 1)

    assert play.lots() == 1


def test_the_value_of_a_new_price_is_that_of_all_slices() -> None:
    play = Play(followers=(follower(ratio="1", limits=Limits(max_order_value=Decimal(500_000))),))
    play.places("L1", ticket(quantity=7200, price="50"))
    assert len(play.of()) == 4
    play.modifies("L1", price=Decimal(150))
    play.waits(5)

    assert not [held for held in play.of() if held.is_open]
    assert [skip.reason for skip in play.skips()] == ["LIMIT_ORDER_VALUE"]


def test_no_entry_grows_once_the_loss_of_the_day_is_reached() -> None:
    """The leader made its order larger before that, while an earlier change was under way."""
    play = Play(followers=(follower(ratio="1", limits=Limits(max_daily_loss=Decimal(1000))),))
    play.places("L1", ticket(quantity=300, price="90"))
    [held] = play.of()
    under_way: list[Modify] = []

    def answer(command: Command) -> Event | None:
        if isinstance(command, Modify):
            under_way.append(command)
            return quiet(play)
        return None

    play.answer = answer
    play.modifies("L1", price=Decimal(91))
    play.modifies("L1", quantity=600)
    lost = Position(NIFTY, Product.MARGIN, 0, realized=Decimal(-5000))
    play.feed(BookRead(play.now, "asha", (held.seen(),), (lost,)))
    play.answer = None
    held.ticket = under_way[0].ticket
    play.feed(Accepted(play.now, "asha", held.correlation_id, Verb.MODIFY, held.order_id))
    play.waits(10)

    assert held.ticket.quantity == 300


def test_a_growth_that_was_refused_is_judged_once_and_the_order_is_let_go() -> None:
    play = Play(followers=(follower(ratio="1", limits=Limits(max_order_lots=2)),))
    play.places("L1", ticket(quantity=150))
    play.modifies("L1", quantity=600)
    play.leader_fills("L1", 525)
    play.cancels("L1")
    play.fills()
    play.waits(5)
    play.trades("L2", -7)
    play.waits(10)
    before = len(play.decisions)
    for _ in range(10):
        play.waits(5)
        play.reads_leader_book()
        play.reads_book("asha")

    assert play.decisions[before:] == []
    assert not any(holding.active for holding in play.state.holdings.values())


def test_entries_that_were_cancelled_and_come_again_together_count_for_the_limits() -> None:
    play = limited(max_position_lots=4, max_order_lots=3)
    for number in range(4):
        play.places(f"BID{number}", ticket(Side.BUY, 75, str(98 - number)))
        play.waits(1)
    play.trades("SHORT", -4, fills=False)
    play.waits(2)
    assert not [each for each in play.of() if each.is_open]

    play.trades("TURN", 7, fills=False)
    play.waits(3)

    assert sum(each.ticket.quantity for each in play.of() if each.is_open) == 4 * 75


def test_what_a_sweep_closed_and_the_leader_s_order_opens_again_counts_for_the_limits() -> None:
    """It filled ahead of the leader's, which became smaller and then, heard of with another, as large as before."""
    play = limited(max_position_lots=4)
    play.places("BID", ticket(Side.BUY, 300))
    play.fills()
    play.modifies("BID", quantity=150)
    play.waits(2)
    play.fills()
    assert play.lots() == 2

    play.now += timedelta(seconds=1)
    bid = replace(play.leader["BID"], ticket=ticket(Side.BUY, 300), updated_at=play.now)
    play.leader["BID"] = bid
    play.leader["MORE"] = Order("MORE", ticket(quantity=75), OrderStatus.PENDING, play.now, play.now, last_price=D(100))
    play.reads_leader_book()
    play.fills()

    assert play.lots() == 4
    assert [each.leader_order_id for each in play.skips("LIMIT_POSITION_LOTS")] == ["MORE"]
