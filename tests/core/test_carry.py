"""What is rounded off is carried to the next order, and given back by one that came to nothing."""

from __future__ import annotations

import pytest

from copytrader.core.model import OrderStatus, OrderType, Side
from tests.core.play import D, Play, follower, ticket


def tries(play: Play, order_id: str) -> None:
    play.places(order_id, ticket(quantity=75, price="90"))


def enters(play: Play, order_id: str) -> None:
    play.places(order_id, ticket(quantity=75))
    play.leader_fills(order_id)
    play.fills()
    play.waits(5)


def test_an_order_that_was_cancelled_leaves_no_part_of_a_lot_behind() -> None:
    """At a half, each of six orders of one lot is tried first at a price that nobody takes."""
    play = Play()
    play.trades("L0", 2)
    for number in range(6):
        tries(play, f"A{number}")
        play.waits(5)
        play.cancels(f"A{number}")
        play.waits(5)
        enters(play, f"B{number}")

    assert play.leader_net() == 8 * 75
    assert play.lots() == 4


def test_what_an_order_had_of_another_s_part_of_a_lot_is_owed() -> None:
    """Together they made a lot, which has filled; then the one is cancelled whose half was counted first."""
    play = Play()
    for number in range(6):
        tries(play, f"A{number}")
        play.places(f"B{number}", ticket(quantity=75))
        play.cancels(f"A{number}")
        play.leader_fills(f"B{number}")
        play.fills()
        play.waits(5)

    assert play.leader_net() == 6 * 75
    assert play.lots() == 3


@pytest.mark.parametrize("smaller", [150, 75])
def test_an_order_that_grows_again_has_what_was_swept_of_it_when_it_was_smaller(smaller: int) -> None:
    """The copy had filled more than the smaller order came to, and the leader's had not filled at all."""
    play = Play()
    play.places("L1", ticket(quantity=600))
    play.fills_follower(play.of()[0], 225)
    play.modifies("L1", quantity=smaller)
    play.waits(5)
    play.fills()
    assert play.lots() == smaller // 150
    play.modifies("L1", quantity=600)
    play.leader_fills("L1")
    play.fills()
    play.waits(10)

    assert play.lots() == 4


def test_a_stop_loss_covers_what_an_order_that_grows_again_may_still_fill() -> None:
    play = Play()
    play.places("L1", ticket(quantity=600))
    play.fills_follower(play.of()[0], 225)
    play.modifies("L1", quantity=150)
    play.waits(5)
    play.fills()
    play.modifies("L1", quantity=600)
    play.places("L2", ticket(Side.SELL, 600, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91)))

    assert play.of()[-1].ticket.side is Side.SELL
    assert play.of()[-1].ticket.quantity == 300


def test_what_an_exit_closed_of_an_order_is_not_bought_again_when_it_grows() -> None:
    play = Play()
    play.places("L1", ticket(quantity=600))
    play.leader_fills("L1", 300)
    play.fills_follower(play.of()[0], 150)
    play.places("L2", ticket(Side.SELL, 150))
    play.leader_fills("L2")
    play.fills_follower(play.of()[-1], 75)
    assert play.lots() == 1
    play.modifies("L1", quantity=750)
    play.leader_fills("L1")
    play.fills()
    play.waits(10)

    assert play.leader_net() == 8 * 75
    assert play.lots() == 4


def test_a_lot_that_a_cancelled_order_made_up_with_another_s_part_is_the_next_one_s() -> None:
    play = Play()
    play.places("A", ticket(quantity=75, price="90"))
    play.places("B", ticket(quantity=75, price="90"))
    enters(play, "C")
    play.cancels("B")
    play.waits(5)
    enters(play, "D")

    assert play.leader_net() == 2 * 75
    assert play.lots() == 1


def test_what_opens_nothing_any_more_gives_its_part_of_a_lot_back_before_others_take_it() -> None:
    """The leader's sale is closed by what works first: the second order opens nothing, the first a part.

    The first is never taken back for the moment in which the part is missing: it keeps its place in the queue.
    """
    play = Play(followers=(follower(ratio="0.34"),))
    play.places("A", ticket(quantity=375, price="97"))
    play.places("B", ticket(quantity=150, price="95"))
    assert [each.ticket.quantity for each in play.of() if each.is_open] == [75, 75]
    sale = ticket(Side.SELL, 150, "0", order_type=OrderType.MARKET)
    play.places("C", sale, status=OrderStatus.TRADED, filled_quantity=150, average_price=D(98))

    assert [(each.order_id, each.ticket.quantity) for each in play.of() if each.is_open] == [("F1", 75)]


def test_an_order_that_works_takes_up_the_lot_that_a_cancelled_one_gave_back() -> None:
    """At a half: what has filled and what works come to two lots of the leader's, so to one."""
    play = Play()
    enters(play, "A")
    play.places("B", ticket(quantity=75, price="90"))
    play.places("C", ticket(quantity=75, price="91"))
    play.cancels("B")
    play.waits(5)

    assert [(each.ticket.quantity, each.ticket.price) for each in play.of() if each.is_open] == [(75, D(91))]
