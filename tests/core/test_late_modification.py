"""A modification without an answer may take effect after the broker was asked and did not know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.core.facts import Accepted, BookRead, Cancel, Command, Event, Modify, Refused, Unanswered, Verb
from copytrader.core.model import OrderStatus, OrderType, RefusalClass, Side
from tests.core.play import D, Held, Play, quiet, ticket


def lost(play: Play) -> None:
    """Answer no modification, and carry none out."""

    def answer(command: Command) -> Event | None:
        if isinstance(command, Modify):
            return Unanswered(play.now, command.account, command.correlation_id, Verb.MODIFY)
        return None

    play.answer = answer


def accepts(play: Play, held: Held) -> None:
    """Accept each modification, and carry none out."""

    def answer(command: Command) -> Event | None:
        if isinstance(command, Modify):
            return Accepted(play.now, command.account, command.correlation_id, Verb.MODIFY, held.order_id)
        return None

    play.answer = answer


def in_transit(play: Play) -> None:
    """Refuse each modification as one that comes too early."""

    def answer(command: Command) -> Event | None:
        if isinstance(command, Modify):
            name, early = command.correlation_id, RefusalClass.TRANSIT
            return Refused(play.now, command.account, name, Verb.MODIFY, early, "DH-906", "in transit")
        return None

    play.answer = answer


def told(play: Play) -> None:
    play.feed(BookRead(play.now, "asha", tuple(held.seen() for held in play.of())))


def lands(play: Play, held: Held, price: str) -> None:
    held.ticket = replace(held.ticket, price=D(price))
    held.updated = play.now
    told(play)


def opened() -> tuple[Play, Held]:
    play = Play()
    play.places("L1")
    [held] = play.of()
    play.now += timedelta(seconds=2)
    lost(play)
    play.modifies("L1", price=D(101))
    told(play)
    return play, held


def test_terms_that_arrive_late_are_not_taken_for_somebody_s_hand() -> None:
    play, held = opened()

    lands(play, held, "101")

    assert play.skips() == []
    play.answer = None
    play.modifies("L1", price=D(102))
    play.waits(5)
    assert held.ticket.price == 102
    play.cancels("L1")
    assert held.status is OrderStatus.CANCELLED


def test_terms_that_arrive_after_newer_ones_are_changed_again() -> None:
    play, held = opened()
    play.answer = None
    play.modifies("L1", price=D(102))
    play.waits(5)
    assert held.ticket.price == 102

    lands(play, held, "101")
    play.waits(5)

    assert play.skips() == []
    assert held.ticket.price == 102


def test_other_terms_are_still_somebody_s_hand() -> None:
    play, held = opened()

    lands(play, held, "99")

    assert [skip.reason.value for skip in play.skips()] == ["DETACHED"]


def on_its_way(play: Play) -> Held:
    """101 is accepted and not yet in force; 102, which the broker never carries out, is not answered."""
    play.places("L1")
    [held] = play.of()
    play.now += timedelta(seconds=2)

    accepts(play, held)
    play.modifies("L1", price=D(101))
    play.now += timedelta(seconds=0.3)
    lost(play)
    play.modifies("L1", price=D(102))
    return held


def test_a_book_from_before_the_modification_before_settles_nothing() -> None:
    play = Play()
    held = on_its_way(play)
    told(play)  # as it was at first: 101 is still on its way

    held.ticket = replace(held.ticket, price=D(101))
    held.updated = play.now - timedelta(seconds=1)  # the broker's clock has whole seconds
    told(play)
    play.answer = None
    play.waits(7)
    told(play)
    play.waits(5)

    assert held.ticket.price == 102
    assert play.skips() == []


def test_an_order_that_stays_as_it_was_at_first_is_asked_for_the_last_terms_again() -> None:
    play = Play()
    held = on_its_way(play)
    told(play)

    play.now += timedelta(seconds=6)
    told(play)
    assert held.ticket.price == 100
    play.answer = None
    play.waits(10)

    assert held.ticket.price == 102
    assert play.skips() == []


def through_zero(play: Play, quantity: int) -> Held:
    """The follower's one lot is to turn short by a resting order of half that quantity."""
    play.trades("L1", 2)
    play.places("L2", ticket(Side.SELL, quantity, "105"))
    held = play.of()[-1]
    assert (play.lots(), held.ticket.quantity) == (1, quantity // 2)
    play.now += timedelta(seconds=2)
    return held


def settled_by_a_row(play: Play) -> Held:
    """The leader makes it one lot less, and the broker never hears of that."""
    held = through_zero(play, 600)
    lost(play)
    play.modifies("L2", quantity=450)
    told(play)
    return held


def never_in_force(play: Play) -> Held:
    """Two modifications were accepted, and the book goes on showing the order as it was."""
    held = through_zero(play, 450)
    accepts(play, held)
    play.modifies("L2", quantity=600)
    play.modifies("L2", quantity=750)
    play.now += timedelta(seconds=6)
    told(play)
    return held


def takes_effect(play: Play, held: Held, quantity: int) -> None:
    held.ticket = replace(held.ticket, quantity=quantity)
    held.updated = play.now
    told(play)


def gone_back(play: Play) -> Held:
    """The modification to 600 takes effect after the one to 450, which was accepted."""
    held = through_zero(play, 900)
    accepts(play, held)
    play.modifies("L2", quantity=600)
    play.modifies("L2", quantity=450)
    in_transit(play)
    play.now += timedelta(seconds=3)
    takes_effect(play, held, 300)
    return held


def given_up_and_late(play: Play) -> Held:
    """The book told of the order as it was; then the modification takes effect after all."""
    held = through_zero(play, 450)
    lost(play)
    play.modifies("L2", quantity=600)
    told(play)
    takes_effect(play, held, 300)
    return held


@pytest.mark.parametrize(
    ("known", "quantity", "covered"),
    [(settled_by_a_row, 300, 0), (never_in_force, 225, 75), (gone_back, 300, 0), (given_up_and_late, 300, 0)],
)
def test_terms_that_turn_out_to_hold_open_as_much_as_when_they_were_asked_for(
    known: Callable[[Play], Held], quantity: int, covered: int
) -> None:
    """It closes one lot, and what it opens would use up the entry that an exit is to cover."""
    play = Play()
    assert known(play).ticket.quantity == quantity
    play.answer = lambda command: quiet(play) if isinstance(command, Cancel) else None
    play.cancels("L2")

    play.places("L3", ticket(Side.BUY, 450, "95"))
    play.places("L4", ticket(Side.SELL, 600, "94", order_type=OrderType.STOP_LOSS, trigger_price=D(94)))

    assert [each.ticket.quantity for each in play.of() if each.is_open] == [quantity, 225, 75 + covered]


def test_a_row_that_is_older_than_the_frame_that_told_the_terms_contradicts_nothing() -> None:
    """The book lags for longer than it mostly does; the leader goes back to what it had."""
    play = Play()
    play.places("L1")
    (held,) = play.of()
    before = held.seen()
    play.waits(2)
    play.modifies("L1", price=D(101))
    play.waits(6)
    play.feed(BookRead(play.now, "asha", (before,)))
    assert play.alerts() == []
    told(play)
    play.modifies("L1", price=D(100))

    assert held.ticket.price == 100
    assert play.alerts() == []
