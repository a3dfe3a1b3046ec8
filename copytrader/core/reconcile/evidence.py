"""What the rows are judged by: the readings, the day's orders by holding, and orders that are not ours or not known.

It is gathered once for all rows.  The questions that comparing, reasons and findings ask alike
are answered here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core.copies import Key, LeaderOrder, Slice
from copytrader.core.model import LEADER, Order, Position, Product, Security
from copytrader.core.reconcile.picture import Part, Reading
from copytrader.core.state import State

LOST_AFTER = timedelta(seconds=5)


@dataclass(slots=True)
class Evidence:
    """What all parts are looked at with; `ours` and `foreign` are what orders of the day have filled, signed."""

    state: State
    at: datetime
    readings: Mapping[str, Reading]
    reasons: Mapping[tuple[str, Key], str]
    orders: dict[Key, list[LeaderOrder]]
    ours: dict[tuple[str, Key], int]
    foreign: dict[tuple[str, Key], int]
    strays: dict[tuple[str, Key], list[Order]]
    prices: dict[Security, Decimal]


def gathered(
    state: State, readings: Mapping[str, Reading], at: datetime, reasons: Mapping[tuple[str, Key], str]
) -> Evidence:
    """Sort what was read and what the state knows by what the questions ask for."""
    evidence = Evidence(state, at, readings, reasons, {}, {}, {}, {}, {})
    for leader_order in state.orders.values():
        evidence.orders.setdefault(leader_order.key, []).append(leader_order)
    for reading in readings.values():
        for position in reading.positions:
            price = _last_price(position)
            if price is not None:
                evidence.prices.setdefault(position.security, price)
        if reading.account != LEADER:
            _sort_orders(evidence, reading)
    return evidence


def _sort_orders(evidence: Evidence, reading: Reading) -> None:
    for order in reading.orders:
        at = (reading.account, Key(order.ticket.security, order.ticket.product))
        if not order.is_ours or order.correlation_id in evidence.state.slices:
            filled = evidence.ours if order.is_ours else evidence.foreign
            filled[at] = filled.get(at, 0) + order.filled_quantity * order.ticket.side.sign
        elif order.filled_quantity or not order.status.is_terminal:
            evidence.strays.setdefault(at, []).append(order)


def _last_price(position: Position) -> Decimal | None:
    """What the account's unrealised profit says of the last price."""
    cost = position.buy_average if position.net_quantity > 0 else position.sell_average
    if not position.net_quantity or not cost or not position.multiplier:
        return None
    return cost + position.unrealized / (position.net_quantity * position.multiplier)


def strays_of(evidence: Evidence, names: Sequence[str]) -> dict[str, tuple[Order, ...]]:
    found: dict[str, tuple[Order, ...]] = {}
    for (name, _), orders in evidence.strays.items():
        if name in names:
            found[name] = (*found.get(name, ()), *orders)
    return found


def unread_of(evidence: Evidence, name: str) -> Reading | None:
    """The reading without which nothing can be said of a follower, None where all is read."""
    for account in (LEADER, name):
        reading = evidence.readings.get(account, Reading(account, problem="it was not read"))
        if reading.problem:
            return reading
    return None


def is_lost(evidence: Evidence, piece: Slice) -> bool:
    """Whether an order should long be in the book and is not: one on its way is not lost."""
    return piece.unknown and evidence.at >= piece.placed_at + LOST_AFTER


def unaccounted(evidence: Evidence, part: Part) -> int:
    """What an intraday position holds beyond all orders of the day; others may come from yesterday."""
    if part.key.product is not Product.INTRADAY or part.share.net is None:
        return 0
    at = (part.name, part.key)
    return part.share.net - evidence.ours.get(at, 0) - evidence.foreign.get(at, 0)
