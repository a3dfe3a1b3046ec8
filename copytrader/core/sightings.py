"""What the broker tells of an order, the leader's or a follower's, on the stream or in a book."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from copytrader.core import copied_position, exposure, room
from copytrader.core.copies import Key, LeaderOrder, Slice, Terms, copy_of
from copytrader.core.facts import Filled, Level, Skip, Source, Verb
from copytrader.core.merge import Known, merge
from copytrader.core.model import (
    DEAD,
    LEADER,
    ZERO,
    Order,
    OrderStatus,
    OrderType,
    RefusalClass,
    SkipReason,
    Ticket,
    day_of,
)
from copytrader.core.news import News, lot_of
from copytrader.core.outcomes import end_piece, fill_piece, make_good_ahead, note_refusal, refuse_modification
from copytrader.core.state import Account, Holding, State

_LAG = timedelta(seconds=1)
"""The broker's times are whole seconds, and its clock is not ours."""
_IN_FORCE = timedelta(seconds=5)
"""So long after it was accepted, the book shows a modification that the exchange took."""


def see(state: State, account: str, order: Order, source: Source, at: datetime, news: News) -> None:
    if account == LEADER:
        _see_leader(state, order, source, at, news)
    elif account in state.accounts:
        see_follower(state, state.accounts[account], order, source, at, news)


def _see_leader(state: State, order: Order, source: Source, at: datetime, news: News) -> None:
    found = state.orders.get(order.order_id)
    if found is not None and _bears_its_number(found, order, at):
        found = None
    if found is None and _is_bygone(state, LEADER, order):
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
    _fill_leader(state, holding, found, before, at, news)
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


def _is_bygone(state: State, account: str, order: Order) -> bool:
    """Whether it is an order of an earlier day, and not one of today that bears its number."""
    if (account, order.order_id) not in state.bygone:
        return False
    return order.placed_at is None or day_of(order.placed_at) != state.day or order.status in DEAD


def _fill_leader(
    state: State, holding: Holding, order: LeaderOrder, before: Known | None, at: datetime, news: News
) -> None:
    known = order.known
    new = known.filled_quantity - (before.filled_quantity if before is not None else 0)
    if new <= 0:
        return
    opened = order.opened
    begins = not order.reduced and (holding.leader_net or 0) * known.ticket.side.sign < 0
    coming = room.on_its_way(holding, order) if begins else {}
    exposure.fill_leader(holding, order, new)
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
        order.only_exits = False
        return
    text = f"the leader's order {order.known.order_id} was an exit, and has opened {order.opened} on the other side"
    for name in order.copies:
        news.alert(Level.WARNING, f"{name}: {text}: that part is not copied", name, f"opened-{order.known.order_id}")


def _say_rejected(order: LeaderOrder, news: News) -> None:
    for name, copy in order.copies.items():
        if copy.filled:
            text = f"{name}: the leader's order {order.known.order_id} was rejected, its copy has filled {copy.filled}"
            news.alert(Level.WARNING, text, name, f"rejected-{order.known.order_id}")


def see_follower(state: State, account: Account, order: Order, source: Source, at: datetime, news: News) -> None:
    name = account.follower.name
    piece = state.by_order_id.get((name, order.order_id)) or state.slices.get(order.correlation_id)
    if piece is not None and piece.order_id and piece.known is None and piece.follower == name:
        piece = _held_against_its_answer(state, piece, order, news)
    if piece is None or piece.follower != name:
        if not _is_bygone(state, name, order):
            _see_foreign(state, account, order, at, news)
        return
    if not piece.order_id and not is_as_asked(piece, order.ticket):
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
    if source is Source.BOOK and contradicts(piece, order):
        _see_not_in_force(piece, order, at, news)
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
    _settle(piece, order, source, at)
    _see_refusal(state, piece, order, news)
    _learn_why(state, account, piece, news)
    fill_piece(state, account, piece, at, news)
    end_piece(state, account, piece, news)
    _watch_for_hands(piece, order, source, news)
    news.touch(piece.key, name)


def _held_against_its_answer(state: State, piece: Slice, order: Order, news: News) -> Slice | None:
    """The first sighting of an order of ours shows whether the answer to its placing named the right one.

    What bears our name is ours.  What bears another of our names, or trades something else, is not to be touched.
    """
    is_named = order.correlation_id == piece.correlation_id and is_as_asked(piece, order.ticket)
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


def _settle(piece: Slice, order: Order, source: Source, at: datetime) -> None:
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


def _found(seen: Ticket, among: Iterable[Terms]) -> Terms | None:
    """The terms that an order may have; those with a price of their own come before a market order, which takes any."""
    fitting = [terms for terms in among if _has_terms(seen, terms.ticket)]
    priced = (terms for terms in fitting if terms.ticket.order_type is not OrderType.MARKET)
    return next(priced, fitting[0] if fitting else None)


def _is_in_force(piece: Slice, source: Source, at: datetime) -> bool:
    """Whether the terms that the broker tells are there to stay: all modifications before the last had their time."""
    return source is Source.BOOK and piece.accepted_at is not None and at >= piece.accepted_at + _IN_FORCE


def _see_refusal(state: State, piece: Slice, order: Order, news: News) -> None:
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


def _learn_why(state: State, account: Account, piece: Slice, news: News) -> None:
    """An answer may say that an order was rejected and no more: its words come with what is seen of it then."""
    known, skip = piece.known, piece.copy.skip if piece.copy is not None else None
    if piece.ended is not OrderStatus.REJECTED or known is None or known.ended is not OrderStatus.REJECTED:
        return
    if known.note and skip is not None and skip.correlation_id == piece.correlation_id and not skip.detail:
        note_refusal(state, account, piece, known.refusal or RefusalClass.OTHER, known.note, news)


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


def _see_not_in_force(piece: Slice, order: Order, at: datetime, news: News) -> None:
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


def _arrived_late(piece: Slice, seen: Ticket) -> bool:
    """Whether a modification that was given up has taken effect after all: what it asked for is what there is."""
    late = _found(seen, piece.late)
    if late is None or _has_terms(seen, piece.asked):
        return False
    piece.late.remove(late)
    piece.late.append(piece.terms)
    piece.turn_to(late)
    return True


def _has_terms(seen: Ticket, asked: Ticket) -> bool:
    """Whether an order may be what was asked for; a market order takes whatever price the broker gives it."""
    priced = asked.order_type is OrderType.MARKET or seen.price == asked.price
    triggered = seen.trigger_price in (asked.trigger_price, ZERO)
    return priced and triggered and seen.quantity == asked.quantity


def _watch_for_hands(piece: Slice, order: Order, source: Source, news: News) -> None:
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


def _has_gone_back(piece: Slice, order: Order) -> None:
    """A modification that was not answered took effect after a newer one: the order has its terms now."""
    assert piece.accepted_at is not None
    assert order.updated_at is not None
    if order.updated_at < piece.accepted_at + _LAG or _has_terms(order.ticket, piece.asked):
        return
    piece.turn_to(_found(order.ticket, reversed(piece.asked_before)) or piece.terms)


def whole_second(at: datetime) -> datetime:
    """Return a time as the broker would tell it."""
    return at.replace(microsecond=0)


def reclaim(state: State, account: Account, piece: Slice, order_id: str) -> None:
    """An order that was seen before anything named it, and taken for the person's, is ours: its fills count anew."""
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
        account.foreign.setdefault(order.order_id, (order.ticket, at))
    filled = max(order.filled_quantity, order.ticket.quantity if order.status is OrderStatus.TRADED else 0)
    new = filled - account.foreign_filled.get(order.order_id, 0)
    if new <= 0:
        return
    account.foreign_filled[order.order_id] = filled
    key = Key(order.ticket.security, order.ticket.product)
    share = state.share(state.holding(key), account.follower.name)
    copied_position.trade_by_hand(share, order.ticket.side.sign, new)
    if key.product in exposure.DELIVERED or share.net is not None:  # else it may have been the person's own
        copied_position.close_by_hand(share, share.against)
    news.touch(key, account.follower.name)
