"""What the broker tells of a follower's order: one of ours, found by its number or its name, or the person's own."""

from __future__ import annotations

from datetime import datetime

from copytrader.core import closed_twice, copied_position, exposure, in_force
from copytrader.core.copies import Key, Slice
from copytrader.core.facts import Level, Source
from copytrader.core.merge import merge
from copytrader.core.model import Order, OrderStatus, RefusalClass, SkipReason
from copytrader.core.news import News
from copytrader.core.outcomes import end_piece, fill_piece, note_refusal
from copytrader.core.state import Account, State


def see_follower(state: State, account: Account, order: Order, source: Source, at: datetime, news: News) -> None:
    name = account.follower.name
    piece = state.by_order_id.get((name, order.order_id)) or state.slices.get(order.correlation_id)
    if piece is not None and piece.order_id and piece.known is None and piece.follower == name:
        piece = _held_against_its_answer(state, piece, order, news)
    if piece is None or piece.follower != name:
        if not state.is_bygone(name, order):
            _see_foreign(state, account, order, at, news)
        return
    if not piece.order_id and not in_force.is_as_asked(piece, order.ticket):
        news.alert(
            Level.CRITICAL,
            f"{name}: order {order.order_id} bears our name {piece.correlation_id} but differs from what was sent",
            name,
            f"mismatch-{order.order_id}",
        )
        return
    if piece.order_id and piece.order_id != order.order_id:
        news.alert(
            Level.CRITICAL,
            f"{name}: two orders bear the name {piece.correlation_id}: {piece.order_id} and {order.order_id}",
            name,
            f"twice-{piece.correlation_id}",
        )
        return
    if source is Source.BOOK and in_force.contradicts(piece, order):
        in_force.see_not_in_force(piece, order, at, news)
    before = piece.known
    piece.known = merge(before, order, source, at)
    if piece.known == before and not piece.maybe:
        return
    if order.last_price is not None:
        state.holding(piece.key).last_price = order.last_price
    if before is None and _only_confirms(piece, order):
        return
    if not piece.order_id:
        reclaim(state, account, piece, order.order_id)
    locate(state, piece, order.order_id)
    _revive(state, account, piece, news)
    in_force.settle(piece, order, source, at)
    in_force.see_refusal(state, piece, order, news)
    _learn_why(state, account, piece, news)
    fill_piece(state, account, piece, min(order.updated_at or at, at), at, news)
    end_piece(state, account, piece, news)
    in_force.watch_for_hands(piece, order, source, news)
    news.touch(piece.key, name)


def _held_against_its_answer(state: State, piece: Slice, order: Order, news: News) -> Slice | None:
    """The first sighting of an order of ours shows whether the answer to its placing named the right one.

    What bears our name is ours.  What bears another of our names, or trades something else, is not to be touched.
    """
    is_named = order.correlation_id == piece.correlation_id and in_force.is_as_asked(piece, order.ticket)
    if is_named and order.order_id == piece.order_id:
        return piece
    if not is_named and not _is_another(piece, order):
        return piece
    news.alert(
        Level.CRITICAL,
        f"{piece.follower}: the answer to {piece.correlation_id} named order {piece.order_id}, which is not ours",
        piece.follower,
        f"misnamed-{piece.correlation_id}",
    )
    state.by_order_id.pop((piece.follower, piece.order_id), None)
    piece.order_id, piece.unknown = "", True
    state.ask_books.add(piece.follower)
    return piece if is_named else None


def _is_another(piece: Slice, order: Order) -> bool:
    """Whether an order cannot be this one; what a broker writes into a frame beside these has surprised others."""
    if order.is_ours:
        return order.correlation_id != piece.correlation_id
    return order.ticket.security != piece.asked.security or order.ticket.side is not piece.asked.side


def _only_confirms(piece: Slice, order: Order) -> bool:
    """Whether a sighting says no more than that an order which was accepted works as it was asked for.

    It is the commonest news of all, and nothing follows from it.
    """
    settled = piece.order_id and piece.is_open and piece.in_flight is None and not (piece.unknown or piece.maybe)
    as_asked = order.status is OrderStatus.PENDING and not order.filled_quantity and order.ticket == piece.asked
    return bool(settled) and as_asked


def locate(state: State, piece: Slice, order_id: str) -> None:
    piece.order_id = order_id
    state.by_order_id[piece.follower, order_id] = piece


def _revive(state: State, account: Account, piece: Slice, news: News) -> None:
    """An order given up as absent has turned up after all: it is cancelled."""
    if not (piece.absent and piece.ended is not None):
        _take_on(state, account, piece, news)
        return
    piece.absent, piece.ended, piece.detached = False, None, True
    state.holding(piece.key)
    _reopen(state, account, piece)
    if piece.copy is not None:
        piece.copy.closed = SkipReason.ABSENT
    else:
        piece.cancelling = True
    news.alert(
        Level.CRITICAL,
        f"{account.follower.name}: order {piece.order_id}, given up as never arrived, has turned up; cancelling it",
        account.follower.name,
        f"late-{piece.correlation_id}",
    )


def _take_on(state: State, account: Account, piece: Slice, news: News) -> None:
    """An order works though its placing was refused, or throttled: it is one of its copy's, a sweep is cancelled."""
    known = piece.known
    if piece.ended is not OrderStatus.REJECTED or known is None:
        return
    if known.filled_quantity <= piece.filled and (known.is_dead or not known.working):
        return
    piece.ended, piece.void, piece.cancelling = None, False, piece.copy is None
    _reopen(state, account, piece)
    if piece.copy is not None:
        piece.copy.skip = None
    what = "cancelling it" if piece.copy is None else "it is looked after like any other"
    text = f"{account.follower.name}: order {piece.order_id} is there, though the broker had not taken it; {what}"
    news.alert(Level.WARNING, text, account.follower.name, f"there-{piece.correlation_id}")


def _reopen(state: State, account: Account, piece: Slice) -> None:
    holding = state.holding(piece.key)
    state.share(holding, piece.follower).open[piece.correlation_id] = piece
    account.open[piece.correlation_id] = piece
    if piece.copy is not None:
        holding.active[piece.leader_order_id] = piece.copy.leader


def _learn_why(state: State, account: Account, piece: Slice, news: News) -> None:
    """An answer may say that an order was rejected and no more: its words come with what is seen of it then."""
    known, skip = piece.known, piece.copy.skip if piece.copy is not None else None
    if piece.ended is not OrderStatus.REJECTED or known is None or known.ended is not OrderStatus.REJECTED:
        return
    if known.note and skip is not None and skip.correlation_id == piece.correlation_id and not skip.detail:
        note_refusal(state, account, piece, known.refusal or RefusalClass.OTHER, known.note, news)


def reclaim(state: State, account: Account, piece: Slice, order_id: str) -> None:
    """An order that was seen before anything named it, and taken for the person's, is ours: its fills count anew."""
    account.foreign_open.pop(order_id, None)
    if account.foreign.pop(order_id, None) is not None:
        state.ask_books.add(piece.follower)  # what was told of it then is to be told again
    filled = account.foreign_filled.pop(order_id, 0)
    if filled:
        share = state.share(state.holding(piece.key), piece.follower)
        copied_position.take_back_by_hand(share, piece.asked.side.sign, filled)


def _see_foreign(state: State, account: Account, order: Order, at: datetime, news: News) -> None:
    """An order that is not ours, or bears our prefix although we do not know it."""
    if order.is_ours and order.order_id not in account.strays:
        account.strays[order.order_id] = order.correlation_id
        news.alert(
            Level.CRITICAL,
            f"{account.follower.name}: order {order.order_id} bears our name {order.correlation_id} "
            "but the journal does not know it",
            account.follower.name,
            f"stray-{order.order_id}",
        )
    if not order.is_ours:
        _note_foreign(account, order, at, news)
    filled = max(order.filled_quantity, order.ticket.quantity if order.status is OrderStatus.TRADED else 0)
    new = filled - account.foreign_filled.get(order.order_id, 0)
    if new <= 0:
        return
    account.foreign_filled[order.order_id] = filled
    key = Key(order.ticket.security, order.ticket.product)
    holding = state.holding(key)
    share = state.share(holding, account.follower.name)
    own = share.own
    copied_position.trade_by_hand(share, order.ticket.side.sign, new)
    if key.product in exposure.DELIVERED or share.net is not None:  # else it may have been the person's own
        copied_position.close_by_hand(share, share.against)
    if not order.is_ours:
        _, seen_at = account.foreign[order.order_id]
        placed_at, traded_at = order.placed_at or seen_at, min(order.updated_at or at, at)
        closed_twice.note_own(share, order.ticket.side.sign, new, own, placed_at, traded_at)
        closed_twice.say(state, holding, share, news)
    news.touch(key, account.follower.name)


def _note_foreign(account: Account, order: Order, at: datetime, news: News) -> None:
    """Keep an order of the account's own in mind, and its newest terms until it has ended: that never un-happens."""
    is_new = order.order_id not in account.foreign
    account.foreign.setdefault(order.order_id, (order.ticket, at))
    if order.status.is_terminal:
        account.foreign_open.pop(order.order_id, None)
    elif is_new or order.order_id in account.foreign_open:
        account.foreign_open[order.order_id] = order.ticket
        news.touch(Key(order.ticket.security, order.ticket.product), account.follower.name)
