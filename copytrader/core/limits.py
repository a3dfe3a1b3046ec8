"""What holds an entry back: filters, limits, terms that cannot be right.

Each function returns None (nothing against it) or the reason with its numbers.  Exits
never come here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core import copied_position, room
from copytrader.core.copies import Copy
from copytrader.core.model import ZERO, Filter, Instrument, Limits, OrderType, Side, SkipReason, Ticket, day_of
from copytrader.core.news import lot_of
from copytrader.core.sizing import price_of, value
from copytrader.core.state import Account, Holding, Share, State

Refusal = tuple[SkipReason, str]


def filtered(rule: Filter, ticket: Ticket, instrument: Instrument) -> Refusal | None:
    """Judge an order by the follower's filter."""
    segment = ticket.security.exchange_segment
    underlying = instrument.underlying or instrument.symbol
    if rule.segments and segment not in rule.segments:
        return SkipReason.FILTERED, f"segment {segment} is not among {_list(rule.segments)}"
    if rule.products and ticket.product not in rule.products:
        return SkipReason.FILTERED, f"product {ticket.product} is not among {_list(rule.products)}"
    if rule.sides and ticket.side not in rule.sides:
        return SkipReason.FILTERED, f"side {ticket.side} is not among {_list(rule.sides)}"
    if rule.underlyings and underlying not in rule.underlyings:
        return SkipReason.FILTERED, f"underlying {underlying} is not among {_list(rule.underlyings)}"
    if underlying in rule.exclude_underlyings:
        return SkipReason.FILTERED, f"underlying {underlying} is excluded"
    return None


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values)


def bad_terms(ticket: Ticket, instrument: Instrument) -> Refusal | None:
    """Refuse terms that no exchange takes: no price, a trigger on the wrong side, a price off the band."""
    kind = ticket.order_type
    if kind in (OrderType.LIMIT, OrderType.STOP_LOSS) and ticket.price <= ZERO:
        return SkipReason.BAD_TERMS, f"a {kind} order without a price"
    if kind in (OrderType.STOP_LOSS, OrderType.STOP_LOSS_MARKET) and ticket.trigger_price <= ZERO:
        return SkipReason.BAD_TERMS, f"a {kind} order without a trigger price"
    if kind is OrderType.STOP_LOSS and (ticket.price - ticket.trigger_price) * ticket.side.sign < 0:
        return (
            SkipReason.BAD_TERMS,
            f"its trigger {ticket.trigger_price} is on the wrong side of its price {ticket.price}",
        )
    if kind is OrderType.MARKET:
        return None
    low, high = instrument.lower_limit, instrument.upper_limit
    price = ticket.trigger_price if kind is OrderType.STOP_LOSS_MARKET else ticket.price
    if low is not None and high is not None and ZERO < low < high and not low <= price <= high:
        return SkipReason.PRICE_BAND, f"price {price} is outside the band {low} to {high}"
    return None


def over_limit(
    state: State,
    account: Account,
    holding: Holding,
    share: Share,
    ticket: Ticket,
    quantity: int,
    adds: int,
    at: datetime,
    decided: int = 0,
    *,
    once_closed: bool = False,
) -> Refusal | None:
    """Judge an entry of so many units with the ticket's terms, of which `adds` are new, by the follower's limits.

    `decided` is how many entries were decided in the same moment and are not in the state yet.  `once_closed`: as it
    will be when what exits are about to close is gone.
    """
    limits, instrument = account.follower.limits, state.instruments[holding.key.security]
    return (
        over_daily_loss(account, at)
        or over_order(limits, ticket, quantity, instrument, holding.last_price)
        or _over_position(limits, holding, share, ticket.side, adds, instrument, once_closed=once_closed)
        or _over_open_positions(limits, state, holding, share, once_closed=once_closed)
        or _over_rate(limits, state, account, at, decided)
    )


def over_daily_loss(account: Account, at: datetime) -> Refusal | None:
    """Judge an entry by the day's loss alone."""
    limits = account.follower.limits
    if limits.max_daily_loss is None or account.loss_day != day_of(at):
        return None
    if account.loss < limits.max_daily_loss:
        return None
    return SkipReason.LIMIT_DAILY_LOSS, f"today's loss is {account.loss}, the limit {limits.max_daily_loss}"


def over_order(
    limits: Limits, ticket: Ticket, quantity: int, instrument: Instrument, last: Decimal | None
) -> Refusal | None:
    """Judge one order's lots and value, in rupees at its price."""
    lots = quantity // instrument.lot_size
    if limits.max_order_lots is not None and lots > limits.max_order_lots:
        return SkipReason.LIMIT_ORDER_LOTS, f"{lots} lots, the limit is {limits.max_order_lots}"
    if limits.max_order_value is None:
        return None
    price = price_of(ticket, last)
    if price is None:
        return SkipReason.LIMIT_ORDER_VALUE, "no price is known to reckon the order's value with"
    worth = value(quantity, price, instrument)
    if worth <= limits.max_order_value:
        return None
    return (
        SkipReason.LIMIT_ORDER_VALUE,
        f"{price} x {quantity} x {instrument.multiplier} = {worth}, the limit is {limits.max_order_value}",
    )


def _over_position(
    limits: Limits,
    holding: Holding,
    share: Share,
    side: Side,
    adds: int,
    instrument: Instrument,
    *,
    once_closed: bool,
) -> Refusal | None:
    """Judge what would be held on the side that the entry opens; what it closes first is not there any more."""
    if limits.max_position_lots is None:
        return None
    working = sum(piece.may_open for piece in share.open.values() if piece.asked.side is side and piece.copy is None)
    for copy in _copies(holding, share.follower):
        if copy.leader.known.ticket.side is side:
            working += copy.may_add + copy.waiting
    held = copied_position.held(holding, share, side.sign)
    if once_closed:
        held -= room.about_to_close(holding, share, side.sign, instrument.lot_size)
    lots = (held + working + adds) // instrument.lot_size
    if lots <= limits.max_position_lots:
        return None
    return SkipReason.LIMIT_POSITION_LOTS, f"{lots} lots would be held, the limit is {limits.max_position_lots}"


def _copies(holding: Holding, follower: str) -> Iterator[Copy]:
    for order in holding.active.values():
        copy = order.copies.get(follower)
        if copy is not None:
            yield copy


def _over_open_positions(
    limits: Limits, state: State, holding: Holding, share: Share, *, once_closed: bool
) -> Refusal | None:
    if limits.max_open_positions is None or _is_in_use(holding, share.follower):
        return None
    in_use = [other for other in state.holdings.values() if _is_in_use(other, share.follower)]
    if once_closed:
        in_use = [other for other in in_use if not _is_about_to_close(state, other, share.follower)]
    open_now = len(in_use)
    if open_now < limits.max_open_positions:
        return None
    return SkipReason.LIMIT_OPEN_POSITIONS, f"{open_now} positions are open, the limit is {limits.max_open_positions}"


def _is_in_use(holding: Holding, follower: str) -> bool:
    """Whether something is held from copying, works or waits for its turn."""
    share = holding.shares.get(follower)
    if share is None:
        return False
    is_held = copied_position.held(holding, share, 1) or copied_position.held(holding, share, -1)
    return bool(is_held or share.open or any(copy.waiting for copy in _copies(holding, follower)))


def _is_about_to_close(state: State, holding: Holding, follower: str) -> bool:
    """Whether nothing of it will be left once exits have closed what they are about to."""
    share = holding.shares[follower]
    if any(piece.may_open for piece in share.open.values()) or any(copy.waiting for copy in _copies(holding, follower)):
        return False
    lot_size = lot_of(state, holding)
    return all(
        copied_position.held(holding, share, sign) <= room.about_to_close(holding, share, sign, lot_size)
        for sign in (1, -1)
    )


def _over_rate(limits: Limits, state: State, account: Account, at: datetime, decided: int) -> Refusal | None:
    if limits.max_orders_per_minute is None:
        return None
    name = account.follower.name
    recent = decided + sum(1 for sent in account.entries if sent > at - timedelta(minutes=1))
    recent += sum(1 for holding in state.holdings.values() for copy in _copies(holding, name) if copy.waiting)
    if recent < limits.max_orders_per_minute:
        return None
    return (
        SkipReason.LIMIT_ORDERS_PER_MINUTE,
        f"{recent} entries within a minute, the limit is {limits.max_orders_per_minute}",
    )
