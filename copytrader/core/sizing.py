"""Quantities and prices: lots, slices, ticks, disclosed quantity, protective limits.

Nothing here rounds a quantity up, except that a disclosed share is at least one lot.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction

from copytrader.core.model import ZERO, Funds, Instrument, OrderType, Side, Sizing, SizingMode, Ticket, Units

_PLACES = Decimal("0.00000001")


def scale(sizing: Sizing, follower: Funds | None, leader: Funds | None) -> Decimal | None:
    """Return the follower's lots per leader's lot, None where the capital is not known.

    Only `ratio` and `capital` scale the leader's lots; the other modes give None too.
    """
    if sizing.mode is SizingMode.RATIO:
        return sizing.ratio
    if sizing.mode is not SizingMode.CAPITAL or leader is None or leader.start_of_day <= 0:
        return None
    own = sizing.capital if sizing.capital is not None else (follower.start_of_day if follower else None)
    if own is None:
        return None
    return (sizing.ratio * own / leader.start_of_day).quantize(_PLACES, ROUND_FLOOR)


def exact_lots(quantity: int, instrument: Instrument, factor: Decimal) -> Decimal:
    """The leader's lots times the factor, before any rounding."""
    lots, rest = divmod(quantity, instrument.lot_size)
    exact = Decimal(lots) if rest == 0 else (Decimal(quantity) / instrument.lot_size).quantize(_PLACES, ROUND_FLOOR)
    return exact * factor


def risk_lots(sizing: Sizing, capital: Decimal, ticket: Ticket, instrument: Instrument, price: Decimal) -> int:
    """Lots whose assumed loss stays within `risk_percent` of the capital, rounded down.

    The loss of a bought option is its premium; of anything else, an assumed adverse
    move of `adverse_move_percent` of the price.
    """
    bought_option = instrument.instrument_type.startswith("OPT") and ticket.side is Side.BUY
    share = Decimal(1) if bought_option else sizing.adverse_move_percent / 100
    loss_of_a_lot = price * share * instrument.lot_size * (instrument.multiplier or 1)
    if loss_of_a_lot <= 0:
        return 0
    return int(capital * sizing.risk_percent / 100 // loss_of_a_lot)


def quotient(dividend: Units, divisor: Units) -> Units:
    """Divide exactly."""
    if dividend.denominator == divisor.denominator == 1 and dividend.numerator % divisor.numerator == 0:
        return dividend.numerator // divisor.numerator
    return whole(Fraction(dividend, divisor))


def whole(quantity: Units) -> Units:
    """Return the same as an `int` if it is whole."""
    return quantity.numerator if quantity.denominator == 1 else quantity


def nearest_lots(quantity: Units, lot_size: int) -> int:
    """Units rounded to the nearest whole lot, a half to the larger."""
    double = 2 * quantity.denominator * lot_size
    return (2 * quantity.numerator + double // 2) // double * lot_size


def largest_order(instrument: Instrument) -> int:
    """The largest quantity of one order in whole lots, 0 where nothing limits it."""
    if instrument.freeze_quantity <= 0:
        return 0
    return max(instrument.freeze_quantity // instrument.lot_size, 1) * instrument.lot_size


def disclosed(ticket: Ticket, quantity: int, instrument: Instrument) -> int:
    """Keep the leader's disclosed share: whole lots, at least one, never above the quantity."""
    if ticket.disclosed_quantity <= 0 or ticket.quantity <= 0:
        return 0
    lots = ticket.disclosed_quantity * quantity // ticket.quantity // instrument.lot_size
    return min(quantity, max(lots, 1) * instrument.lot_size)


def on_tick(price: Decimal, tick: Decimal, *, up: bool) -> Decimal:
    """Move a price to the next tick above or below (it stays if it is on one)."""
    if tick <= 0:
        return price
    steps = (price / tick).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR)
    return steps * tick


def protective_limit(trigger: Decimal, side: Side, percent: Decimal, tick: Decimal) -> Decimal:
    """The limit of a stop loss that stands in for a stop-loss market order: beyond the trigger."""
    buying = side is Side.BUY
    price = trigger * (1 + (percent if buying else -percent) / 100)
    return max(on_tick(price, tick, up=buying), tick)


def chasing_limit(last: Decimal, side: Side, attempt: int, tick: Decimal) -> Decimal:
    """A limit that crosses the market: one percent beyond the last price for each attempt."""
    return protective_limit(last, side, Decimal(attempt), tick)


def value(quantity: int, price: Decimal, instrument: Instrument) -> Decimal:
    """What an order is worth in rupees: price x quantity x multiplier."""
    return price * quantity * (instrument.multiplier or 1)


def price_of(ticket: Ticket, last_price: Decimal | None) -> Decimal | None:
    """The price to reckon an order with: its own, else its trigger, else the last one; None is unknown."""
    if ticket.order_type is not OrderType.MARKET:
        own = ticket.price or ticket.trigger_price
        if own > ZERO:
            return own
    return last_price
