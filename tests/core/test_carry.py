"""What is rounded off is carried to the next order, and given back by one that came to nothing."""

from __future__ import annotations

from tests.core.play import Play, ticket


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
