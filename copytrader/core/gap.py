"""The commands that close the gap between what a copy should come to and what was asked for.

A copy's orders are changed where they are open, and what is missing is placed.  While it is not certain which
quantity one of them has at the broker, none grows and none is added.
"""

from __future__ import annotations

from copytrader.core import exposure, limits, sizing
from copytrader.core.budget import Rank
from copytrader.core.copies import Copy, LeaderOrder, Slice
from copytrader.core.due import Total, awaits_entry
from copytrader.core.facts import Divided, Level, Modify, Place, Role
from copytrader.core.model import OrderType, RefusalClass, SkipReason, Ticket
from copytrader.core.names import correlation_id
from copytrader.core.outcomes import remedy
from copytrader.core.placing import is_bought_back, may_open, may_place
from copytrader.core.pricing import goes_at_market, ticket_for, times_repriced, watch_market
from copytrader.core.scene import (
    Scene,
    Want,
    is_changing,
    is_due,
    is_late,
    say_once,
    say_taken,
    want_cancel,
)

MOST_MODIFICATIONS = 24
"""Dhan takes 25 modifications of an order; the 25th is never needed."""


def is_over(order: LeaderOrder, copy: Copy) -> bool:
    return order.known.is_dead or copy.closed is not None


def close_all(scene: Scene, copy: Copy, why: str) -> list[Want]:
    wants = (want_cancel(scene, piece, why) for piece in copy.slices if piece.is_open)
    return [want for want in wants if want is not None]


def close_gap(scene: Scene, order: LeaderOrder, copy: Copy, total: Total) -> list[Want]:
    """Spread the total over the copy's orders: change those that are open, place what is missing.

    What was lost of those that ended is not asked for again, and is the first to go where less is due.
    """
    pieces, lost = [], 0
    for piece in copy.slices:
        if piece.ended is None:
            pieces.append(piece)
        else:
            total.took(piece)
            lost += piece.consumed - piece.filled
    if not pieces and total.left <= 0:
        return []
    wants: list[Want] = []
    assert scene.instrument is not None
    largest = sizing.largest_order(scene.instrument) or max(total.left, 1)
    if total.exits and total.opens > 0:
        opening = sum(piece.opens for piece in pieces)
        if total.opens > opening and not may_open(scene, order, copy):
            total.opens = opening
    grows = total.exits or limits.over_daily_loss(scene.account, scene.at) is None
    grows = grows and not is_bought_back(scene, copy)
    for piece, quantity in zip(pieces, _spread(total.left, lost, pieces, largest if grows else 0), strict=True):
        opens = total.take(max(quantity, piece.filled))
        want = _adjust(scene, order, piece, quantity, opens)
        if want is not None:
            wants.append(want)
    total.take(min(lost, max(total.left, 0)))
    if total.closes > 0 and scene.account.blocked is not None:
        _say_waits(scene, order, total.closes)
    if total.left > 0 and may_place(scene, order, copy, exits=total.exits):
        wants += _place_rest(scene, order, copy, total, largest)
    return wants


def _spread(left: int, lost: int, pieces: list[Slice], largest: int) -> list[int]:
    """Leave each open order its quantity as far as it is still due; then let them grow to the largest quantity.

    While one is unsettled, none grows.
    """
    quantities: list[int] = []
    for piece in pieces:
        quantities.append(max(min(left, piece.asked.quantity), 0))
        left -= max(quantities[-1], piece.filled)
    left -= lost
    if left > 0 and not any(is_changing(piece) for piece in pieces):
        for number, quantity in enumerate(quantities):
            more = max(min(left, largest - quantity), 0)
            quantities[number] += more
            left -= more
    return quantities


def follow(piece: Slice, order: LeaderOrder) -> None:
    """Note that what was asked for is what the leader's terms come to, so that it is not reckoned anew every time."""
    if piece.asked.order_type is not OrderType.MARKET:
        piece.follows = order.known.ticket, piece.asked


def _follows(piece: Slice, order: LeaderOrder) -> bool:
    """Whether the order was found to have the leader's terms, and nothing of either has changed since.

    An exit may have to go to market without a change, once the leader's has filled.
    """
    if piece.follows is None or piece.maybe or (order.out_at is not None and piece.role is Role.EXIT):
        return False
    terms, asked = piece.follows
    return terms is order.known.ticket and asked is piece.asked


def _adjust(scene: Scene, order: LeaderOrder, piece: Slice, quantity: int, opens: int) -> Want | None:
    if quantity <= piece.filled:
        if awaits_entry(scene, order):
            return None
        if order.known.is_filled:
            say_taken(scene, piece)
        return want_cancel(scene, piece, "nothing more is due")
    if piece.detached or piece.cancelling:
        return want_cancel(scene, piece, "again") if piece.cancelling else None
    if not piece.order_id or piece.in_flight is not None or piece.unknown or scene.account.blocked is not None:
        return None
    if quantity == piece.asked.quantity and opens != piece.opens and not piece.is_doubtful:
        scene.desk.decide(Divided(scene.name, order.known.order_id, piece.correlation_id, opens))
    if _follows(piece, order) and quantity == piece.asked.quantity:
        return None
    at_market = goes_at_market(scene, order, piece, quantity)
    due = ticket_for(scene, order, quantity, at_market=at_market)
    watched = watch_market(scene, order, piece, due)
    if watched is None:
        return want_cancel(scene, piece, "a market order that did not fill")
    wanted = watched
    if wanted == piece.refused_modify and wanted.quantity < piece.largest:
        return want_cancel(scene, piece, "it is too large, and to make it smaller was refused", renew=True)
    if wanted == piece.asked and not piece.is_doubtful:
        if due.order_type is not OrderType.MARKET:
            follow(piece, order)
        return None
    if wanted == piece.refused_modify:
        if piece.role is Role.EXIT and wanted.order_type is OrderType.MARKET:
            return want_cancel(scene, piece, "it rests, and to make it a market order was refused", renew=True)
        return None
    rank = _rank(order, piece, wanted)
    if piece.modifications >= MOST_MODIFICATIONS:
        why = f"after {MOST_MODIFICATIONS} modifications it is placed anew"
        return want_cancel(scene, piece, why, renew=True, rank=rank)
    if not is_due(scene, piece):
        return None
    over = _over_terms(scene, order, piece, wanted)
    if over is not None and piece.copy is not None:
        scene.desk.skip(piece.copy, *over)
        return want_cancel(scene, piece, f"the leader's new terms are not copied: {over[1]}", renew=True)
    why = "the leader's terms or the quantity due changed"
    if at_market and times_repriced(piece) is None:
        why = f"the leader's exit has filled, and this one still rests at {piece.asked.price}"
        say_once(scene, Level.WARNING, f"order {piece.order_id} goes to market: {why}", f"left-{piece.correlation_id}")
    modify = Modify(scene.name, order.known.order_id, piece.correlation_id, piece.order_id, wanted, why, opens)
    return Want(rank, modify)


def _rank(order: LeaderOrder, piece: Slice, wanted: Ticket) -> Rank:
    """Who goes first: an exit that rests takes no call from what closes at once.

    One that becomes smaller is cancelled in part: else it may close more than is held.
    """
    if piece.role is not Role.EXIT:
        return Rank.MODIFY
    if not _rests(order) or wanted.quantity < piece.asked.quantity:
        return Rank.EXIT
    return Rank.TRAIL if wanted.quantity == piece.asked.quantity else Rank.REST


def _rests(order: LeaderOrder) -> bool:
    """Whether the leader's exit waits for its price, and its copy closes nothing now."""
    return order.out_at is None and not exposure.is_immediate(order)


def _say_waits(scene: Scene, order: LeaderOrder, quantity: int) -> None:
    """Say that an exit cannot be sent: the broker refuses the account's token, or its address."""
    refusal = scene.account.blocked
    assert refusal is not None
    side, what = order.known.ticket.side, "token" if refusal is RefusalClass.TOKEN else "address"
    text = (
        f"the exit {side} {quantity} (the leader's order {order.known.order_id}) waits: the broker refuses the {what}: "
    )
    say_once(scene, Level.CRITICAL, text + remedy(scene.name, refusal), f"waits-{order.known.order_id}")


def _over_terms(scene: Scene, order: LeaderOrder, piece: Slice, wanted: Ticket) -> tuple[SkipReason, str] | None:
    """Hold an entry's new price against the limits that it was judged by when it was placed."""
    if piece.role is not Role.ENTRY or wanted.price == piece.asked.price:
        return None
    assert scene.instrument is not None
    quantity = max(wanted.quantity, piece.copy.units) if piece.copy is not None else wanted.quantity
    return limits.bad_terms(order.known.ticket, scene.instrument) or limits.over_order(
        scene.account.follower.limits, wanted, quantity, scene.instrument, scene.holding.last_price
    )


def _place_rest(scene: Scene, order: LeaderOrder, copy: Copy, total: Total, largest: int) -> list[Want]:
    wants: list[Want] = []
    role, rank = (Role.EXIT, Rank.EXIT) if total.exits else (Role.ENTRY, Rank.ENTRY)
    number = len(copy.slices)
    generation = sum(1 for piece in copy.slices if piece.renew or piece.absent or piece.void)
    assert scene.state.desk is not None
    late = order.only_exits and (not order.known.has_terms or is_late(scene, order))
    if total.exits and _rests(order) and not order.known.filled_quantity and not late:
        rank = Rank.REST
    leader, follower, known = scene.state.desk.leader_client_id, scene.account.follower.client_id, order.known
    while (quantity := min(total.left, largest) // scene.lot * scene.lot) > 0:
        opens = total.take(quantity)
        while (
            name := correlation_id(leader, known.trade_date, known.order_id, follower, generation, number)
        ) in scene.state.slices:  # after a lost journal
            generation += 1
        number += 1
        ticket = ticket_for(scene, order, quantity, at_market=late)
        place = Place(scene.name, order.known.order_id, name, ticket, role, generation, opens=opens)
        wants.append(Want(rank, place, order))
    return wants
