"""What is known of one order, whatever the order of the messages about it.

Dhan's stream has no sequence numbers, repeats nothing after a reconnect, and the
order book lags behind it.  So sightings are joined, not applied: filled is the
highest seen, a terminal status never un-happens, the newest terms win.  The result
does not depend on the order of the sightings, with one exception that is made
visible: two different sets of terms in the same second (the later heard is the `rival`),
which only the order book can settle.

Terms come from `Pending` and `Modified` frames and from the book.  A `Mod-Rejected` frame
carries the price that was attempted and a `Triggered` one has become a limit order
without a trigger: neither says what the order's terms are.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from copytrader.core.facts import Source
from copytrader.core.model import DEAD, ZERO, Order, OrderKind, OrderStatus, OrderType, RefusalClass, Ticket, day_of

_FRAMES_WITH_TERMS = frozenset({OrderStatus.PENDING, OrderStatus.MODIFIED})
_RANK = {OrderStatus.TRADED: 4, OrderStatus.CANCELLED: 3, OrderStatus.REJECTED: 2, OrderStatus.EXPIRED: 1}
_CONVERTED = frozenset({OrderType.MARKET, OrderType.STOP_LOSS, OrderType.STOP_LOSS_MARKET})


class Known(NamedTuple):
    """One order as best known.

    `ticket` always names security, side and product; its other terms count only when
    `has_terms`.  `ended` is the terminal status, None while there is none.  `is_filled` and
    `is_done` follow from the rest: every event asks them many times.
    """

    order_id: str
    ticket: Ticket
    has_terms: bool
    trade_date: date
    placed_at: datetime | None
    terms_at: datetime | None = None
    rival: Ticket | None = None
    working: bool = False
    filled_quantity: int = 0
    average_price: Decimal = ZERO
    ended: OrderStatus | None = None
    correlation_id: str = ""
    kind: OrderKind = OrderKind.ORDINARY
    last_price: Decimal | None = None
    note: str = ""
    refusal: RefusalClass | None = None
    is_filled: bool = False
    is_done: bool = False

    @property
    def is_dead(self) -> bool:
        """It ended without trading to the end."""
        return self.ended in DEAD and not self.is_filled

    @property
    def remaining(self) -> int:
        """What may still trade, in units."""
        return 0 if self.is_done else max(self.ticket.quantity - self.filled_quantity, 0)


def merge(known: Known | None, order: Order, source: Source, at: datetime) -> Known:
    """Join one more sighting to what is known."""
    if known is None:
        known = _first(order, at)
    status = order.status
    filled = max(known.filled_quantity, order.filled_quantity)
    if status is OrderStatus.TRADED:
        filled = max(filled, order.ticket.quantity)
    ended = _later_end(known.ended, status)
    average = order.average_price if order.filled_quantity >= known.filled_quantity and filled else ZERO
    ticket, has_terms, terms_at, rival = _terms(known, order, source)
    is_filled = ended is OrderStatus.TRADED or (has_terms and filled >= ticket.quantity)
    return Known(
        known.order_id,
        ticket,
        has_terms,
        known.trade_date,
        known.placed_at or order.placed_at,
        terms_at,
        rival,
        known.working or status is not OrderStatus.TRANSIT,
        filled,
        average or known.average_price,
        ended,
        known.correlation_id or order.correlation_id,
        order.kind if known.kind is OrderKind.ORDINARY else known.kind,
        order.last_price or known.last_price,
        order.note or known.note,
        order.refusal or known.refusal,
        is_filled,
        is_filled or ended is not None,
    )


def _first(order: Order, at: datetime) -> Known:
    return Known(order.order_id, order.ticket, False, day_of(order.placed_at or at), order.placed_at)


def _later_end(ended: OrderStatus | None, status: OrderStatus) -> OrderStatus | None:
    if not status.is_terminal:
        return ended
    return status if ended is None or _RANK[status] > _RANK[ended] else ended


def _terms(known: Known, order: Order, source: Source) -> tuple[Ticket, bool, datetime | None, Ticket | None]:
    kept = (known.ticket, known.has_terms, known.terms_at, known.rival)
    if source is Source.STREAM and order.status not in _FRAMES_WITH_TERMS:
        return kept
    if not known.has_terms:
        return order.ticket, True, order.updated_at, None
    if order.updated_at is None or (known.terms_at is not None and order.updated_at < known.terms_at):
        return kept
    same = _same_terms(known.ticket, order.ticket)
    if source is not Source.STREAM:
        return _of_a_row(known, order, same=same), True, order.updated_at, None
    if same:
        return known.ticket, True, order.updated_at, known.rival if order.updated_at == known.terms_at else None
    if order.updated_at == known.terms_at:
        return known.ticket, True, known.terms_at, order.ticket
    ticket = order.ticket
    if ticket.quantity == known.ticket.quantity and not ticket.disclosed_quantity:
        ticket = replace(ticket, disclosed_quantity=known.ticket.disclosed_quantity)
    return ticket, True, order.updated_at, None


def _of_a_row(known: Known, row: Order, *, same: bool) -> Ticket:
    """Return the terms that a row of the book shows, or lets guess.

    What a triggered order has become does not tell its trigger: of two sets of terms it was the later one heard.
    """
    if same:
        # Frames do not tell the disclosed quantity.
        return known.ticket if known.ticket.disclosed_quantity == row.ticket.disclosed_quantity else row.ticket
    if known.rival is not None and _same_terms(known.rival, row.ticket):
        return row.ticket
    for ticket in (known.rival, known.ticket):
        if ticket is not None and _is_conversion(ticket, row):
            return ticket
    return row.ticket


def _same_terms(one: Ticket, other: Ticket) -> bool:
    return (
        one.quantity == other.quantity
        and one.price == other.price
        and one.trigger_price == other.trigger_price
        and one.order_type is other.order_type
        and one.validity is other.validity
    )


def _is_conversion(ticket: Ticket, row: Order) -> bool:
    """Tell a modification from what Dhan itself makes of a market or a triggered stop-loss order.

    The book shows a triggered stop loss, and a market order under price protection, as
    a limit order: not a change of the leader's mind.
    """
    if ticket.order_type not in _CONVERTED or row.ticket.order_type is not OrderType.LIMIT:
        return False
    same_price = ticket.order_type is not OrderType.STOP_LOSS or ticket.price == row.ticket.price
    return same_price and ticket.quantity == row.ticket.quantity
