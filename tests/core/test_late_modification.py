"""A modification without an answer may take effect after the broker was asked and did not know of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from copytrader.core.facts import Accepted, BookRead, Command, Event, Modify, Unanswered, Verb
from copytrader.core.model import OrderStatus
from tests.core.play import D, Held, Play


def lost(play: Play) -> None:
    """Answer no modification, and carry none out."""

    def answer(command: Command) -> Event | None:
        if isinstance(command, Modify):
            return Unanswered(play.now, command.account, command.correlation_id, Verb.MODIFY)
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

    def accepts(command: Command) -> Event | None:
        if isinstance(command, Modify):
            return Accepted(play.now, command.account, command.correlation_id, Verb.MODIFY, held.order_id)
        return None

    play.answer = accepts
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
