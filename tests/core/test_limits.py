"""A limit holds back what is beyond it, and nothing that only reaches it; a filter lets through what it names."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.core.facts import InstrumentRead
from copytrader.core.model import Filter, Limits, OrderType, Product, Security, Side, Ticket
from tests.core.play import NIFTY, D, Play, follower, instrument, ticket

OTHERS = [NIFTY, *(Security("NSE_FNO", f"4000{number}") for number in range(3))]


def limited(**most: object) -> Play:
    return Play((follower(ratio="1", limits=Limits(**most)),))  # type: ignore[arg-type]


def of(number: int, side: Side = Side.BUY, price: str = "100") -> Ticket:
    return replace(ticket(side, 75, price), security=OTHERS[number])


def trades(play: Play, order_id: str, terms: Ticket) -> None:
    play.places(order_id, terms)
    play.leader_fills(order_id)
    play.fills()
    play.now += timedelta(seconds=1)


@pytest.mark.parametrize(
    ("limits", "is_held_back"),
    [
        (Limits(max_order_lots=2), False),
        (Limits(max_order_lots=1), True),
        (Limits(max_order_value=D(15000)), False),
        (Limits(max_order_value=D(14999)), True),
        (Limits(max_position_lots=5), False),
        (Limits(max_position_lots=4), True),
        (Limits(max_orders_per_minute=3), False),
        (Limits(max_orders_per_minute=2), True),
    ],
)
@pytest.mark.parametrize("side", Side)
def test_what_reaches_a_limit_goes_and_what_is_beyond_it_does_not(
    limits: Limits, is_held_back: bool, side: Side
) -> None:
    """Two lots are held, one works, and two more come."""
    play = Play((follower(ratio="1"),))
    trades(play, "HELD", ticket(side, 150))
    play.places("WORKS", ticket(side, 75))
    play.state.accounts["asha"].follower = follower(ratio="1", limits=limits)
    play.places("MORE", ticket(side, 150))

    assert len(play.of()) == (2 if is_held_back else 3)
    assert len(play.skips()) == is_held_back


def test_an_order_is_worth_what_its_multiplier_makes_of_it() -> None:
    for most, goes in ((75000, True), (74999, False)):
        play = Play((follower(ratio="1", limits=Limits(max_order_value=D(most))),), row=instrument(multiplier=10))
        play.places("L1", ticket(quantity=75))

        assert bool(play.of()) is goes


def test_a_market_order_is_worth_what_the_last_price_makes_of_it() -> None:
    for last, goes in (("100", True), ("100.05", False)):
        play = limited(max_order_value=D(7500))
        play.places("L1", ticket(quantity=75, price="0", order_type=OrderType.MARKET), last_price=D(last))

        assert bool(play.of()) is goes


def test_an_entry_goes_again_a_minute_after_so_many_were_sent() -> None:
    play = limited(max_orders_per_minute=1)
    play.places("L1", ticket(quantity=75))
    play.waits(59)
    play.places("L2", ticket(quantity=75))
    play.waits(1)
    play.places("L3", ticket(quantity=75))

    assert [skip.leader_order_id for skip in play.skips("LIMIT_ORDERS_PER_MINUTE")] == ["L2"]
    assert len(play.of()) == 2


@pytest.mark.parametrize("side", Side)
def test_no_more_positions_are_open_than_the_limit_and_those_that_are_may_grow(side: Side) -> None:
    play = limited(max_open_positions=2)
    for number in range(3):
        play.feed(InstrumentRead(play.now, replace(play.row, security=OTHERS[number])))
    trades(play, "HELD", of(0, side))
    play.places("WORKS", of(1))
    play.places("THIRD", of(2))
    assert [skip.reason for skip in play.skips()] == ["LIMIT_OPEN_POSITIONS"]
    assert len(play.of()) == 2

    play.places("GROWS", of(0, side))
    assert len(play.of()) == 3
    play.cancels("WORKS")
    play.places("INSTEAD", of(2))

    assert [each.ticket.security for each in play.of() if each.is_open] == [OTHERS[0], OTHERS[2]]
    assert len(play.skips("LIMIT_OPEN_POSITIONS")) == 1


@pytest.mark.parametrize(
    "rule",
    [
        Filter(segments=("NSE_FNO",)),
        Filter(products=(Product.INTRADAY,)),
        Filter(underlyings=("NIFTY",)),
        Filter(exclude_underlyings=("BANKNIFTY",)),
        Filter(sides=(Side.BUY,)),
    ],
)
def test_a_filter_lets_through_what_it_names(rule: Filter) -> None:
    play = Play((follower(ratio="1", filter=rule),))
    play.places("L1")

    assert len(play.of()) == 1
    assert not play.skips()


@pytest.mark.parametrize(("names", "goes"), [("RELIANCE", True), ("TCS", False)])
def test_a_share_is_its_own_underlying(names: str, goes: bool) -> None:
    row = replace(instrument(), symbol="RELIANCE", underlying="")
    play = Play((follower(ratio="1", filter=Filter(underlyings=(names,))),), row=row)
    play.places("L1")

    assert bool(play.of()) is goes
