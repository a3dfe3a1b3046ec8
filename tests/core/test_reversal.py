"""The leader has got out and turned round, and the follower's exit still waits for its price: nothing of both is lost."""

from __future__ import annotations

import pytest

from copytrader.core.model import OrderStatus, OrderType, Side
from tests.core.play import D, Held, Play, follower, ticket

MARKET = {"price": "0", "order_type": OrderType.MARKET}


def turned_round(ratio: str = "1") -> tuple[Play, Held]:
    """Leader long by four; the follower's exit from the short before waits, and its entry was used up to get out."""
    play = Play(followers=(follower(ratio=ratio),))
    play.trades("A", -4)
    play.places("X", ticket(Side.BUY, 300, "99"))
    play.leader_fills("X")
    play.waits(5)
    play.places("E", ticket(Side.BUY, 300, **MARKET))
    play.leader_fills("E")
    waiting, entry = play.of()[1:]
    play.fills_follower(entry, entry.ticket.quantity)
    play.drain()
    reads(play)
    return play, waiting


def reads(play: Play) -> None:
    for _ in range(6):
        play.waits(5)
        play.reads_book("asha")
        play.reads_leader_book()


@pytest.mark.parametrize("ratio", ["1", "0.5"])
def test_an_exit_that_waits_goes_on_though_an_entry_has_closed_in_its_place(ratio: str) -> None:
    play, waiting = turned_round(ratio)
    assert play.lots() == 0
    assert waiting.is_open
    assert waiting.ticket.quantity == D(ratio) * 300

    play.fills_follower(waiting, 75)
    play.drain()
    reads(play)
    assert waiting.ticket.quantity == D(ratio) * 300, "a part of it does not make it smaller"

    play.fills()
    reads(play)
    assert play.lots() == 4 * D(ratio)

    play.trades("Y", -4)
    reads(play)
    assert play.lots() == 0


def test_an_entry_that_fills_before_the_leader_s_takes_no_exit_s_place() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("A", -4)
    play.places("X", ticket(Side.BUY, 300, **MARKET))
    play.leader_fills("X")
    play.places("E", ticket(Side.BUY, 150, **MARKET))
    waiting, entry = play.of()[1:]
    play.fills_follower(entry, 150)
    play.drain()
    assert waiting.is_open

    play.leader_fills("E")
    play.fills()
    reads(play)
    assert play.lots() == 2


def test_it_is_cancelled_when_the_leader_gets_out_of_what_it_turned_to() -> None:
    play, waiting = turned_round()
    play.trades("Y", -4)
    reads(play)

    assert not waiting.is_open
    assert play.lots() == 0
    assert [each for each in play.of() if each.is_open] == []


def test_it_shrinks_when_the_leader_gets_out_of_a_part() -> None:
    play, waiting = turned_round()
    play.trades("Y", -1, fills=False)
    reads(play)

    assert waiting.ticket.quantity == 225
    play.fills()
    reads(play)
    assert play.lots() == 3


def test_nothing_is_made_good_twice() -> None:
    play, waiting = turned_round()
    play.dies(waiting)
    reads(play)
    assert play.lots() == 0

    play.trades("Y", -8)
    reads(play)
    assert play.lots() == -4

    play.trades("Z", 4)
    reads(play)
    assert play.lots() == 0
    assert [each.ticket.quantity for each in play.of() if each.status is OrderStatus.TRADED][-1] == 300
