"""At what price an order trades, given the last price, and what a market order becomes on its way there."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from copytrader.simulator.model import ZERO, BookOrder, Instrument, Terms

_PROTECTION = {"BUY": Decimal("1.01"), "SELL": Decimal("0.99")}


def protected(terms: Terms, side: str, instrument: Instrument, last: Decimal) -> Terms:
    """An API MARKET order becomes a limit 1 % beyond the last price, cut down to the tick."""
    if terms.order_type != "MARKET" or not last:
        return terms
    price = instrument.cut_to_tick(last * _PROTECTION[side])
    if instrument.upper_limit:
        price = min(price, instrument.upper_limit)
    return replace(terms, order_type="LIMIT", price=max(price, instrument.lower_limit), trigger_price=ZERO)


def is_triggered(order: BookOrder, last: Decimal) -> bool:
    """Whether a stop loss has reached its trigger."""
    trigger = order.terms.trigger_price
    return bool(last) and (last >= trigger if order.side == "BUY" else last <= trigger)


def fills_at(order: BookOrder, last: Decimal, *, arriving: bool) -> Decimal | None:
    """The price at which the order trades now, None when it rests.

    An arriving order takes the last price; a resting one is taken at its own.
    """
    limit = order.terms.price
    if not last or order.waits_for_trigger or order.after_market:
        return None
    if order.terms.order_type in ("MARKET", "STOP_LOSS_MARKET"):
        return last
    crosses = limit >= last if order.side == "BUY" else limit <= last
    if not crosses:
        return None
    return last if arriving else limit
