"""The broker takes no market order for a contract: exits find another form, and nothing is left without one."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from copytrader.core.facts import Command, Event, Halted, Level, Modify, Place, Refused, Verb
from copytrader.core.model import OrderType, RefusalClass, Side
from tests.core.play import D, Play, follower, ticket

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
    play.waits(10)

    assert [each.is_open for each in play.of()[1:]] == [False, True]
    assert play.of()[-1].ticket.order_type is OrderType.LIMIT
    assert play.of()[-1].ticket.price == D("102.95")  # the leader got 104
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
    play.answer = None
    play.feed(Halted(play.now, flatten=True))

    assert play.of()[-1].ticket.order_type is OrderType.MARKET


def test_without_a_last_price_it_goes_at_market_again() -> None:
    play = holds()
    next(iter(play.state.holdings.values())).last_price = None
    play.feed(Halted(play.now, flatten=True))
    play.waits(10)

    assert [form for form, _ in forms(play)[1:]] == [OrderType.MARKET] * 2
