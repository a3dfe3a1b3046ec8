"""What the broker tells of an order, the leader's or a follower's, on the stream or in a book."""

from __future__ import annotations

from datetime import datetime

from copytrader.core import exposure, left_late, room
from copytrader.core.copies import Key, LeaderOrder, copy_of
from copytrader.core.facts import Filled, Level, Source
from copytrader.core.follower_orders import see_follower
from copytrader.core.making_good import make_good_ahead
from copytrader.core.merge import Known, merge
from copytrader.core.model import LEADER, Order, OrderStatus, day_of
from copytrader.core.news import News, lot_of
from copytrader.core.state import Holding, State


def see(state: State, account: str, order: Order, source: Source, at: datetime, news: News) -> None:
    if account == LEADER:
        _see_leader(state, order, source, at, news)
    elif account in state.accounts:
        see_follower(state, state.accounts[account], order, source, at, news)


def _see_leader(state: State, order: Order, source: Source, at: datetime, news: News) -> None:
    found = state.orders.get(order.order_id)
    if found is not None and _bears_its_number(found, order, at):
        found = None
    if found is None and state.is_bygone(LEADER, order):
        return
    before = found.known if found is not None else None
    known = merge(before, order, source, at)
    if found is None:
        state.numbered += 1
        found = LeaderOrder(known, Key(order.ticket.security, order.ticket.product), state.numbered, at)
        state.orders[order.order_id] = found
    elif known == before:
        return
    found.known = known
    if known.is_filled and found.filled_at is None:
        found.filled_at = at
        found.traded_at = order.updated_at or order.placed_at
    holding = state.holding(found.key)
    holding.active[order.order_id] = found
    for name in state.accounts:
        copy_of(found, name)
        state.share(holding, name)
    if order.last_price is not None:
        holding.last_price = order.last_price
    _fill_leader(state, holding, found, before, order, at, news)
    if known.ended is OrderStatus.REJECTED and (before is None or before.ended is not OrderStatus.REJECTED):
        _say_rejected(found, news)
    if known.is_dead and (before is None or not before.is_dead):
        make_good_ahead(state, found, at, news)
    exposure.classify(holding, found)
    if known.rival is not None:
        state.ask_books.add(LEADER)
    for name in state.accounts:
        news.touch(found.key, name)


def _bears_its_number(found: LeaderOrder, order: Order, at: datetime) -> bool:
    """Whether this is another order, of a later day, with the number of one that is over.

    The time tells little: Dhan writes it anew when an order is modified or cancelled.
    """
    known = found.known
    if not known.is_done or day_of(order.placed_at or at) <= known.trade_date:
        return False
    return Key(order.ticket.security, order.ticket.product) != found.key or order.ticket.side is not known.ticket.side


def _fill_leader(
    state: State, holding: Holding, order: LeaderOrder, was: Known | None, seen: Order, at: datetime, news: News
) -> None:
    known = order.known
    new = known.filled_quantity - (was.filled_quantity if was is not None else 0)
    if new <= 0:
        return
    opened = order.opened
    begins = not order.reduced and (holding.leader_net or 0) * known.ticket.side.sign < 0
    coming = room.on_its_way(holding, order) if begins else {}
    before = left_late.look(holding) if left_late.is_left(state, seen, at) else {}
    exposure.fill_leader(holding, order, new)
    left_late.leave(state, holding, before)
    if order.reduced and order.turned_at is None and (holding.leader_net or 0) * known.ticket.side.sign >= 0:
        order.turned_at = at
    if begins:
        room.note_held(holding, order, coming, lot_of(state, holding))
    if order.only_exits and order.opened > opened:
        _note_opened(order, news)
    if known.average_price:
        holding.last_price = known.average_price
    news.notes.append(
        Filled(LEADER, known.order_id, known.order_id, "", new, known.filled_quantity, known.average_price)
    )


def _note_opened(order: LeaderOrder, news: News) -> None:
    """An exit has opened something: one that has grown is more than an exit, another came before its entry."""
    if order.known.ticket.quantity > order.classified_quantity:
        order.only_exits, order.has_grown = False, True
        return
    text = f"the leader's order {order.known.order_id} was an exit, and has opened {order.opened} on the other side"
    for name in order.copies:
        news.alert(Level.WARNING, f"{name}: {text}: that part is not copied", name, f"opened-{order.known.order_id}")


def _say_rejected(order: LeaderOrder, news: News) -> None:
    for name, copy in order.copies.items():
        if copy.filled:
            text = f"{name}: the leader's order {order.known.order_id} was rejected, its copy has filled {copy.filled}"
            news.alert(Level.WARNING, text, name, f"rejected-{order.known.order_id}")
