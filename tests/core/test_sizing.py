"""How large a copy is, and at which price it goes: in figures that can be reckoned by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from copytrader.core import sizing
from copytrader.core.model import Funds, OrderType, Side, Sizing, SizingMode, Ticket
from tests.core.play import D, Play, follower, instrument, ticket

RISK = Sizing(SizingMode.RISK, risk_percent=D(1), adverse_move_percent=D(20))
CAPITAL = Sizing(SizingMode.CAPITAL, D(1))
MILLION = Funds(D(1_000_000), D(0))


@pytest.mark.parametrize(
    ("side", "kind", "multiplier", "lots"),
    [
        (Side.BUY, "OPTIDX", 1, 1),
        (Side.SELL, "OPTIDX", 1, 6),
        (Side.BUY, "FUTIDX", 1, 6),
        (Side.SELL, "FUTIDX", 1, 6),
        (Side.SELL, "FUTCOM", 2, 3),
        (Side.SELL, "FUTCOM", None, 6),
    ],
)
def test_a_bought_option_risks_its_premium_and_all_else_an_adverse_move(
    side: Side, kind: str, multiplier: int | None, lots: int
) -> None:
    """One percent of a million is 10,000; a lot of 75 at 100 is worth 7,500, a fifth of which is 1,500."""
    row = instrument(instrument_type=kind, multiplier=multiplier)

    assert sizing.risk_lots(RISK, D(1_000_000), ticket(side), row, D(100)) == lots


def test_the_risk_is_rounded_down_and_nothing_is_risked_where_there_is_no_price() -> None:
    bought = [sizing.risk_lots(RISK, D(capital), ticket(), instrument(), D(100)) for capital in (1_499_999, 1_500_000)]

    assert bought == [1, 2]
    assert sizing.risk_lots(RISK, D(1_000_000), ticket(), instrument(), D(0)) == 0


@pytest.mark.parametrize(
    ("rule", "own", "leader", "factor"),
    [
        (CAPITAL, MILLION, Funds(D(4_000_000), D(9)), D("0.25")),
        (CAPITAL, MILLION, Funds(D(3_000_000), D(9)), D("0.33333333")),
        (Sizing(SizingMode.CAPITAL, D(2), capital=D(500_000)), MILLION, MILLION, D(1)),
        (Sizing(SizingMode.CAPITAL, D(2), capital=D(500_000)), None, MILLION, D(1)),
        (CAPITAL, None, MILLION, None),
        (CAPITAL, MILLION, None, None),
        (CAPITAL, MILLION, Funds(D(0), D(9)), None),
        (CAPITAL, MILLION, Funds(D(-1), D(9)), None),
        (Sizing(ratio=D("0.5")), None, None, D("0.5")),
        (RISK, MILLION, MILLION, None),
        (Sizing(SizingMode.LOTS, lots=2), MILLION, MILLION, None),
    ],
)
def test_capital_scales_the_leader_s_lots_and_is_never_guessed(
    rule: Sizing, own: Funds | None, leader: Funds | None, factor: Decimal | None
) -> None:
    assert sizing.scale(rule, own, leader) == factor


@pytest.mark.parametrize(
    ("side", "trigger", "limit"),
    [
        (Side.BUY, "100", "105.00"),
        (Side.SELL, "100", "95.00"),
        (Side.BUY, "99.95", "104.95"),
        (Side.SELL, "0.05", "0.05"),
    ],
)
def test_a_protective_limit_is_beyond_the_trigger_on_a_tick(side: Side, trigger: str, limit: str) -> None:
    assert sizing.protective_limit(D(trigger), side, D(5), D("0.05")) == D(limit)


@pytest.mark.parametrize(("attempt", "sells", "buys"), [(1, "99.00", "101.00"), (3, "97.00", "103.00")])
def test_each_attempt_crosses_the_market_by_one_percent_more(attempt: int, sells: str, buys: str) -> None:
    assert sizing.chasing_limit(D(100), Side.SELL, attempt, D("0.05")) == D(sells)
    assert sizing.chasing_limit(D(100), Side.BUY, attempt, D("0.05")) == D(buys)


def test_a_price_moves_to_a_tick_and_stays_where_there_is_none() -> None:
    assert sizing.on_tick(D("100.03"), D("0.05"), up=True) == D("100.05")
    assert sizing.on_tick(D("100.03"), D("0.05"), up=False) == D("100.00")
    assert sizing.on_tick(D("100.05"), D("0.05"), up=True) == D("100.05")
    assert sizing.on_tick(D("100.03"), D(0), up=True) == D("100.03")


def test_units_are_rounded_to_the_nearest_lot_a_half_to_the_larger() -> None:
    lots = [sizing.nearest_lots(units, 75) // 75 for units in (37, Fraction(75, 2), 112, Fraction(225, 2), 150)]

    assert lots == [0, 1, 1, 2, 2]


def test_an_order_is_no_larger_than_the_freeze_quantity_allows_whole_lots() -> None:
    largest = [sizing.largest_order(instrument(freeze_quantity=quantity)) for quantity in (0, 50, 75, 149, 1800)]

    assert largest == [0, 75, 75, 75, 1800]


@pytest.mark.parametrize(
    ("shown", "of", "quantity", "disclosed"),
    [(0, 750, 750, 0), (300, 750, 375, 150), (75, 7500, 75, 75), (750, 750, 75, 75)],
)
def test_the_disclosed_share_is_in_whole_lots_at_least_one(shown: int, of: int, quantity: int, disclosed: int) -> None:
    assert sizing.disclosed(ticket(quantity=of, disclosed_quantity=shown), quantity, instrument()) == disclosed


STOP = ticket(price="0", order_type=OrderType.STOP_LOSS_MARKET, trigger_price=D(90))


@pytest.mark.parametrize(
    ("terms", "price"),
    [(ticket(), 100), (STOP, 90), (ticket(order_type=OrderType.MARKET), 77), (ticket(price="0"), 77)],
    ids=["its own", "its trigger", "at market", "none of its own"],
)
def test_an_order_is_reckoned_at_its_own_price_else_at_the_last(terms: Ticket, price: int) -> None:
    assert sizing.price_of(terms, D(77)) == price


def test_a_size_by_risk_takes_the_leader_s_price_and_none_is_taken_for_granted() -> None:
    rule = Sizing(SizingMode.RISK, risk_percent=D(1), capital=D(1_500_000))
    at_market = ticket(price="0", order_type=OrderType.MARKET)
    for last, quantities in ((D(100), [150]), (D(50), [300]), (None, [])):
        play = Play((follower(sizing=rule),))
        play.places("L1", at_market, last_price=last)

        assert [each.ticket.quantity for each in play.of()] == quantities
