"""Which terms of an order of ours are in force.

The broker takes a modification first; the exchange may refuse it, apply it late, or after a newer one, and a person
may have changed the order by hand.  What the stream and the book show of the order tells which it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from copytrader.core.copies import Slice, Terms
from copytrader.core.facts import Level, Skip, Source, Verb
from copytrader.core.model import ZERO, Order, OrderStatus, OrderType, SkipReason, Ticket
from copytrader.core.news import News
from copytrader.core.outcomes import refuse_modification
from copytrader.core.state import State

_LAG = timedelta(seconds=1)
"""The broker's times are whole seconds, and its clock is not ours."""
_IN_FORCE = timedelta(seconds=5)
"""So long after it was accepted, the book shows a modification that the exchange took."""


def is_as_asked(piece: Slice, seen: Ticket) -> bool:
    """Whether an order may be this one by what it trades, and how much of it."""
    asked = piece.asked
    quantities = {asked.quantity, *(terms.ticket.quantity for terms in piece.asked_before)}
    return (
        asked.security == seen.security
        and asked.side is seen.side
        and asked.product is seen.product
        and seen.quantity in quantities
    )


def settle(piece: Slice, order: Order, source: Source, at: datetime) -> None:
    """A sighting settles an unanswered command: the order is there, and has these terms or those.

    Whatever works can be cancelled: nothing waits for the answer to its placing any more.
    """
    if piece.in_flight is Verb.PLACE and order.status is not OrderStatus.TRANSIT:
        piece.in_flight, piece.accepted_at = None, at
    if piece.unknown:
        piece.unknown, piece.accepted_at = False, at
    if not piece.maybe or (source is Source.STREAM and order.status is not OrderStatus.MODIFIED):
        return
    asked = piece.terms
    real = _found(order.ticket, (asked, *reversed(piece.maybe)))
    if real is None:
        real = _found(order.ticket, reversed(piece.asked_before))
        if real is not None and not _is_in_force(piece, source, at):
            return
    if real is asked:
        piece.accepted_at = at
    elif real is not None:
        piece.late.append(asked)
        piece.turn_to(real)
    piece.maybe.clear()


def see_refusal(state: State, piece: Slice, order: Order, news: News) -> None:
    """The exchange refused a modification that the broker had taken: its frame bears the terms that never applied.

    The frame may be a late one of an earlier attempt at the same terms: the book says which there are.
    """
    if order.status is not OrderStatus.MOD_REJECTED or not piece.is_open or piece.refused_modify is not None:
        return
    attempted, before = piece.terms, piece.asked_before[-1] if piece.asked_before else piece.terms
    if _has_terms(order.ticket, attempted.ticket) and not _has_terms(order.ticket, before.ticket):
        refuse_modification(piece, order.note, news)
        piece.maybe.append(attempted)
        state.ask_books.add(piece.follower)


def contradicts(piece: Slice, order: Order) -> bool:
    """Whether a row shows an order of ours as it was before a modification that was accepted."""
    told = piece.known.terms_at if piece.known is not None else None
    if told is not None and order.updated_at is not None and order.updated_at < told:
        return False  # it is older than the frame that told the terms
    doubtful = piece.in_flight is not None or piece.unknown or piece.maybe or piece.detached or piece.cancelling
    if doubtful or not piece.is_open or order.status.is_terminal:
        return False
    asked = piece.terms
    return _found(order.ticket, (asked, *piece.asked_before)) not in (asked, None)


def see_not_in_force(piece: Slice, order: Order, at: datetime, news: News) -> None:
    """The book is the truth: what it does not show a while after it was accepted was refused; the frame was lost."""
    if not _is_in_force(piece, Source.BOOK, at):
        return
    attempted = piece.terms
    refuse_modification(piece, "the book goes on showing it as it was", news)
    real = _found(order.ticket, reversed(piece.asked_before))
    assert real is not None, "a row that contradicts has terms from before"
    piece.turn_to(real)
    piece.late.append(attempted)
    news.touch(piece.key, piece.follower)


def watch_for_hands(piece: Slice, order: Order, source: Source, news: News) -> None:
    """Somebody changed our order by hand: leave it alone from here on, except to cancel it."""
    told = source is not Source.STREAM or order.status is OrderStatus.MODIFIED
    if not told or not piece.is_open or piece.detached or piece.in_flight or piece.unknown or piece.cancelling:
        return
    if piece.accepted_at is None or order.updated_at is None or order.updated_at < whole_second(piece.accepted_at):
        return
    if _arrived_late(piece, order.ticket):
        return
    asked = [piece.asked, *(terms.ticket for terms in piece.asked_before)]
    if piece.refused_modify is not None:
        asked.append(piece.refused_modify)
    seen = order.ticket
    same_quantity = any(seen.quantity == ticket.quantity for ticket in asked)
    same_price = any(ticket.order_type is OrderType.MARKET or seen.price == ticket.price for ticket in asked)
    if same_quantity and same_price:
        _has_gone_back(piece, order)
        return
    piece.detached = True
    detail = f"its order {piece.order_id} was changed by hand to {seen.quantity} at {seen.price}; it is left alone"
    news.notes.append(Skip(piece.follower, piece.leader_order_id, SkipReason.DETACHED, detail, piece.correlation_id))
    news.alert(Level.WARNING, f"{piece.follower}: {detail}", piece.follower, f"detached-{piece.correlation_id}")


def _arrived_late(piece: Slice, seen: Ticket) -> bool:
    """Whether a modification that was given up has taken effect after all: what it asked for is what there is."""
    late = _found(seen, piece.late)
    if late is None or _has_terms(seen, piece.asked):
        return False
    piece.late.remove(late)
    piece.late.append(piece.terms)
    piece.turn_to(late)
    return True


def _has_gone_back(piece: Slice, order: Order) -> None:
    """A modification that was not answered took effect after a newer one: the order has its terms now."""
    assert piece.accepted_at is not None
    assert order.updated_at is not None
    if order.updated_at < piece.accepted_at + _LAG or _has_terms(order.ticket, piece.asked):
        return
    piece.turn_to(_found(order.ticket, reversed(piece.asked_before)) or piece.terms)


def _has_terms(seen: Ticket, asked: Ticket) -> bool:
    """Whether an order may be what was asked for; a market order takes whatever price the broker gives it."""
    priced = asked.order_type is OrderType.MARKET or seen.price == asked.price
    triggered = seen.trigger_price in (asked.trigger_price, ZERO)
    return priced and triggered and seen.quantity == asked.quantity


def _found(seen: Ticket, among: Iterable[Terms]) -> Terms | None:
    """The terms that an order may have; those with a price of their own come before a market order, which takes any."""
    fitting = [terms for terms in among if _has_terms(seen, terms.ticket)]
    priced = (terms for terms in fitting if terms.ticket.order_type is not OrderType.MARKET)
    return next(priced, fitting[0] if fitting else None)


def _is_in_force(piece: Slice, source: Source, at: datetime) -> bool:
    """Whether the terms that the broker tells are there to stay: all modifications before the last had their time."""
    return source is Source.BOOK and piece.accepted_at is not None and at >= piece.accepted_at + _IN_FORCE


def whole_second(at: datetime) -> datetime:
    """Return a time as the broker would tell it."""
    return at.replace(microsecond=0)
