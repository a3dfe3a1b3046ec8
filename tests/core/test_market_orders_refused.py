"""The broker takes no market order for a contract: exits find another form, and nothing is left without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from copytrader.core.facts import (
    BookRead,
    Command,
    Event,
    FixOrdered,
    Halted,
    Level,
    Modify,
    NotFound,
    OrderSeen,
    Place,
    Refused,
    Resumed,
    Source,
    Unanswered,
    Verb,
)
from copytrader.core.model import LEADER, Order, OrderStatus, OrderType, Position, Product, RefusalClass, Side
from tests.core.play import D, Held, Play, follower, instrument, ticket

Answer = Callable[[Command], Event | None]
ONE = follower(ratio="1")
WORDS = "Market orders are not allowed for this contract"


def no_market_orders(play: Play, refusal: RefusalClass = RefusalClass.PRODUCT) -> Answer:
    """A broker that refuses each market order, at once."""

    def answer(command: Command) -> Event | None:
        if not isinstance(command, Place | Modify) or command.ticket.order_type is not OrderType.MARKET:
            return None
        verb = Verb.PLACE if isinstance(command, Place) else Verb.MODIFY
        return Refused(play.now, command.account, command.correlation_id, verb, refusal, "DH-906", WORDS)

    return answer


def holds(lots: int = 2, **changes: object) -> Play:
    """A follower that holds what its leader does, at a broker that takes no market order any more."""
    play = Play(followers=(ONE,), **changes)  # type: ignore[arg-type]
    play.trades("IN", lots)
    play.answer = no_market_orders(play)
    return play


def forms(play: Play) -> list[tuple[OrderType, Decimal]]:
    sent = [each for each in play.decisions if isinstance(each, Place | Modify)]
    return [(each.ticket.order_type, each.ticket.price) for each in sent]


def swept(play: Play) -> OrderType:
    """The form of the sweep that follows a resting exit which may not be changed to a market order."""
    refuse = no_market_orders(play)
    play.answer = lambda command: refuse(command) if isinstance(command, Modify) else None
    play.places("REST", ticket(Side.SELL, play.leader_net(), "104"))
    play.leader_fills("REST")
    play.waits(10)
    assert play.of()[-1].is_open
    return play.of()[-1].ticket.order_type


@pytest.mark.parametrize("refusal", [RefusalClass.PRODUCT, RefusalClass.OTHER])
@pytest.mark.parametrize("lots", [2, -2])
def test_what_is_held_after_a_refused_exit_is_closed_by_a_limit_that_crosses_the_market(
    lots: int, refusal: RefusalClass
) -> None:
    play = holds(lots)
    play.answer = no_market_orders(play, refusal)
    play.trades("OUT", -lots, fills=False)
    play.waits(3)

    (sweep,) = play.of()[1:]
    assert (sweep.ticket.order_type, sweep.ticket.price) == (OrderType.LIMIT, D(99) if lots > 0 else D(101))
    assert sweep.ticket.quantity == 150

    play.fills()
    play.waits(600)
    assert (play.lots(), len(play.of())) == (0, 2)


def test_it_is_said_when_an_entry_closes_what_such_a_limit_was_to_close() -> None:
    play = holds()
    play.trades("OUT", -2, fills=False)
    play.waits(3)
    play.places("IN2", ticket(Side.SELL, 150, "98"))
    play.leader_fills("IN2")
    sweep, entry = play.of()[1:]
    play.fills_follower(entry, 150)
    play.drain()

    assert play.lots() == 0
    assert not sweep.is_open
    assert [each.text for each in play.alerts() if "150 fewer are held than are due" in each.text] != []


def test_it_is_priced_anew_while_it_rests_and_never_asked_for_at_market() -> None:
    play = holds()
    play.trades("OUT", -2, fills=False)
    play.waits(600)

    (sweep,) = play.of()[1:]
    prices = [price for form, price in forms(play)[3:] if form is OrderType.LIMIT]
    assert [form for form, _ in forms(play)[2:]] == [OrderType.LIMIT] * 4
    assert prices == sorted(prices, reverse=True)
    assert sweep.ticket.price == prices[-1] < D(97)
    assert any("still rests" in each.text for each in play.alerts() if each.level is Level.CRITICAL)


def test_a_resting_exit_that_may_not_go_to_market_is_placed_anew_as_such_a_limit() -> None:
    play = holds()
    play.places("OUT", ticket(Side.SELL, price="104"))
    play.leader_fills("OUT")
    play.waits(15)

    assert [each.is_open for each in play.of()[1:]] == [False, True]
    assert play.of()[-1].ticket.order_type is OrderType.LIMIT
    assert play.of()[-1].ticket.price == D("102.95")  # the leader got 104
    assert [form for form, _ in forms(play)[2:]] == [OrderType.MARKET, OrderType.MARKET, OrderType.LIMIT]
    play.fills()
    play.waits(600)
    assert play.lots() == 0


def test_one_that_the_exchange_rejects_later_counts_the_same() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 2)
    play.trades("OUT", -2, fills=False)
    play.rejects(play.of()[-1], RefusalClass.OTHER, WORDS)
    play.waits(3)

    assert play.of()[-1].ticket.order_type is OrderType.LIMIT


def test_a_limit_that_is_refused_in_its_turn_is_followed_by_a_market_order() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 2)

    def refuse(command: Command) -> Event | None:
        assert isinstance(command, Place)
        return Refused(
            play.now, command.account, command.correlation_id, Verb.PLACE, RefusalClass.OTHER, "DH-906", "no"
        )

    play.answer = refuse
    play.trades("OUT", -2, fills=False)
    play.waits(600)

    assert [form for form, _ in forms(play)[1:]] == [
        OrderType.MARKET,
        OrderType.LIMIT,
        OrderType.MARKET,
        OrderType.LIMIT,
    ]


@pytest.mark.parametrize("refusal", [RefusalClass.MARGIN, RefusalClass.RATE, RefusalClass.HOURS])
def test_a_refusal_of_another_kind_says_nothing_of_market_orders(refusal: RefusalClass) -> None:
    play = holds()
    play.answer = no_market_orders(play, refusal)
    play.trades("OUT", -2, fills=False)
    play.waits(10)

    assert [form for form, _ in forms(play)[2:]] == [OrderType.MARKET] * 2


def test_an_entry_that_was_refused_at_market_says_nothing_of_exits() -> None:
    """It is skipped, and said; what closes is asked for at market."""
    play = holds()
    play.trades("MORE", 2, fills=False)

    assert swept(play) is OrderType.MARKET


def test_without_a_last_price_it_goes_at_market_again() -> None:
    play = holds()
    next(iter(play.state.holdings.values())).last_price = None
    play.feed(Halted(play.now, flatten=True))
    play.waits(10)

    assert [form for form, _ in forms(play)[1:]] == [OrderType.MARKET] * 2


def test_a_change_that_is_not_taken_says_nothing_of_market_orders() -> None:
    """Its words may be about changes: what is held is asked for at market, as a new order."""
    assert swept(holds()) is OrderType.MARKET


def test_a_market_order_that_fills_shows_that_they_are_taken() -> None:
    play = holds(4)
    play.trades("OUT", -1, fills=False)
    play.answer = None
    play.waits(3)
    play.fills()
    play.trades("MORE", -1)

    assert swept(play) is OrderType.MARKET


def limited() -> Play:
    """A broker that refused a market order a while ago; what it was to close went at a limit."""
    play = holds(4)
    play.trades("OUT", -1, fills=False)
    play.waits(3)
    play.fills()
    play.answer = None
    return play


def test_the_operator_s_word_begins_with_a_market_order() -> None:
    """What was refused may be hours ago, and the last price as old."""
    play = limited()
    play.feed(Halted(play.now, flatten=True))

    assert play.of()[-1].ticket.order_type is OrderType.MARKET


def test_resume_begins_with_a_market_order_too() -> None:
    play = limited()
    play.feed(Resumed(play.now))

    assert swept(play) is OrderType.MARKET


@pytest.mark.parametrize("slices", [1, 2, 3, 5])
def test_slices_that_are_refused_together_are_one_try(slices: int) -> None:
    play = holds(2 * slices, row=instrument(freeze_quantity=151))
    play.feed(Halted(play.now, flatten=True))
    play.waits(7)
    play.fills()

    assert play.lots() == 0


def test_a_limit_that_is_refused_for_its_own_terms_is_followed_by_a_market_order() -> None:
    play = holds()
    refuse = no_market_orders(play)

    def answer(command: Command) -> Event | None:
        refusal = RefusalClass.TICK
        return refuse(command) or Refused(
            play.now, command.account, command.correlation_id, Verb.PLACE, refusal, "DH-906", "tick size"
        )

    play.answer = answer
    play.trades("OUT", -2, fills=False)
    play.waits(200)

    expected = [OrderType.MARKET, OrderType.LIMIT, OrderType.MARKET, OrderType.LIMIT]
    assert [form for form, _ in forms(play)[1:]] == expected


def test_words_that_come_later_count() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 2)
    sent: list[Place] = []

    def answer(command: Command) -> Event | None:
        if sent or not isinstance(command, Place):
            return None
        sent.append(command)
        piece = command.account, command.correlation_id
        return Refused(play.now, *piece, Verb.PLACE, RefusalClass.OTHER, "", "", order_id="F9")

    play.answer = answer
    play.trades("OUT", -2, fills=False)
    words, terms = "RMS: insufficient margin", sent[0].ticket
    row = Order("F9", terms, OrderStatus.REJECTED, play.now, correlation_id=sent[0].correlation_id)
    row = replace(row, note=words, refusal=RefusalClass.MARGIN)
    play.feed(OrderSeen(play.now, "asha", row, Source.BOOK))
    play.waits(3)

    assert play.of()[-1].ticket.order_type is OrderType.MARKET


def a_plan(play: Play, quantity: int) -> None:
    """The operator's plan: an exit at a limit that the market does not come to."""
    play.feed(FixOrdered(play.now, "asha", "plan", (ticket(Side.SELL, quantity, "130"),), (), 1, play.now))
    play.waits(5)


def test_a_plan_s_limit_that_may_not_go_to_market_makes_room_for_one_that_crosses_it() -> None:
    play = holds()
    a_plan(play, 75)
    play.trades("OUT", -2, fills=False)
    play.waits(30)

    assert all(each.ticket.price < D(100) for each in play.of() if each.is_open)
    play.fills()
    assert play.lots() == 0


def test_flatten_does_not_wait_for_a_plan_s_limit() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 2)
    a_plan(play, 150)
    play.feed(Halted(play.now, flatten=True))
    play.waits(3)
    play.fills()

    assert (play.lots(), [form for form, _ in forms(play)[1:]]) == (0, [OrderType.LIMIT, OrderType.MARKET])


def test_a_sweep_that_was_given_up_and_turns_up_is_cancelled() -> None:
    play = Play(followers=(ONE,))
    play.trades("IN", 2)
    lost: list[Held] = []

    def answer(command: Command) -> Event | None:
        if lost or not isinstance(command, Place):
            return None
        lost.append(play.takes(command))
        return Unanswered(play.now, command.account, command.correlation_id, Verb.PLACE, "no answer")

    play.answer = answer
    play.feed(Halted(play.now, flatten=True))
    for _ in range(4):
        play.now += timedelta(seconds=61)
        play.feed(NotFound(play.now, "asha", lost[0].correlation_id))
        play.waits(1)
    play.waits(10)
    play.fills_follower(play.of()[-1], 150)
    play.drain()
    assert play.lots() == 0

    play.feed(OrderSeen(play.now, "asha", lost[0].seen(), Source.STREAM))
    play.waits(10)
    assert lost[0].status is OrderStatus.CANCELLED


class Overnight(Play):
    """What is held goes on the next day."""

    def reads_book(self, name: str) -> None:
        rows = tuple(each.seen() for each in self.orders.values() if each.account == name)
        self.feed(BookRead(self.now, name, rows, self._held(self.positions[name])))

    def reads_leader_book(self, net: int | None = None) -> None:
        self.feed(BookRead(self.now, LEADER, tuple(self.leader.values()), self._held(self.leader_net())))

    def _held(self, quantity: int) -> tuple[Position, ...]:
        return (Position(self.row.security, Product.MARGIN, quantity),) if quantity else ()


def test_each_day_begins_anew() -> None:
    """Limits that ended with their days are no refusals, and a market order may be taken today."""
    play = Overnight(followers=(ONE,))
    terms = ticket(Side.BUY, 150, "0", order_type=OrderType.MARKET, product=Product.MARGIN)
    play.places("IN", terms)
    play.leader_fills("IN")
    play.fills()
    play.answer = no_market_orders(play)
    play.places("OUT", replace(terms, side=Side.SELL))
    play.leader_fills("OUT")
    play.waits(100)
    play.leader = {}
    for _ in range(4):
        play.now += timedelta(days=1)
        play.orders = {}
        before = len(forms(play))
        play.starts()
        play.waits(10)
        assert [form for form, _ in forms(play)[before:][:2]] == [OrderType.MARKET, OrderType.LIMIT]

    play.fills()
    assert play.lots() == 0
