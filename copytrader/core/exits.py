"""What an exit of the leader comes to at a follower: the same fraction of what the follower holds from copying."""

from __future__ import annotations

from typing import NamedTuple

from copytrader.core.copied_position import due_in
from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.exposure import DELIVERED, Parts, behind_leader, is_immediate, is_stop
from copytrader.core.model import Side, Units
from copytrader.core.room import behind, filled_ahead, without
from copytrader.core.sizing import nearest_lots, quotient
from copytrader.core.state import Holding, Share


class ExitSize(NamedTuple):
    """What an exit should come to in all, and what it is a fraction of.

    `held` is the position that it closes from, as it would be had this order not traded; `cover` what the
    follower's working entries will add to it.
    """

    total: int
    held: int
    cover: int
    parts: Parts


def exit_total(
    holding: Holding,
    order: LeaderOrder,
    share: Share,
    copy: Copy,
    divided: Parts,
    lot_size: int,
    leaving: int,
) -> ExitSize:
    """Apply the fraction of its position that the leader closes to what the follower holds from copying.

    `leaving` is what a sweep, and exits that were decided a moment ago, are about to close, and so is not there for
    this order.  The total never exceeds what was held before this copy, nor the broker's net position.
    """
    sign = -order.known.ticket.side.sign
    unproved = share.unproved if share.overtaken else 0
    position = without(share.left * sign + min(unproved * sign, 0), copy)
    ahead, behind, cover = _working_entries(holding, share, order, position)
    against = _rests_of_entries(share, order)
    if against:
        behind, cover = max(behind - against, 0), max(cover - max(against - behind, 0), 0)
    if cover:
        cover = max(cover - _in_the_way(share, order, -position), 0)
    claimed = leaving + being_closed(holding, share, order.known.ticket.side, order) + ahead
    claimed += _behind_leader(holding, share, order, lot_size)
    held = max(position + behind - claimed, 0)
    cover = cover if divided.coming and not copy.swept else 0
    if copy.was_sent and order.known.is_filled:
        again = _to_send_again(order, share, copy, claimed, lot_size)
        total = min(_asked_to_close(copy) + again, held + cover)
    elif order.known.is_filled:
        total = _closed_then(order, copy, position - claimed, lot_size)
    elif divided.base + divided.coming == 0:
        total = 0
    elif divided.is_whole:
        total = held + cover
    else:
        total = _fraction(holding, order, divided, held, cover, lot_size)
    if share.net is not None and holding.key.product not in DELIVERED:
        # what has filled ahead is in the net position already
        total = min(total, without(share.net * sign, copy) + behind + max(cover - ahead, 0))
    return ExitSize(max(total // lot_size * lot_size, copy.filled - copy.opened), held, cover, divided)


def not_asked_yet(copy: Copy, total: int) -> int:
    """What of a copy's exit is still to be asked for."""
    return max(total - (copy.filled - copy.opened) - copy.may_close, 0)


def _closed_then(order: LeaderOrder, copy: Copy, held: int, lot_size: int) -> int:
    """What an exit comes to that is placed when the leader's has traded: the part that it closed of what was held then.

    Other orders may have traded before it and since, and may be heard of with it.  Where it never reached the broker
    no less is asked for than the first time.
    """
    held = max(min(held, copy.held), 0)
    part = nearest_lots(held * (1 - order.kept), lot_size) if order.kept else held
    return min(max(part, copy.to_try_again), held)


def _to_send_again(order: LeaderOrder, share: Share, copy: Copy, claimed: int, lot_size: int) -> int:
    """What of a sent exit never left: no more than is held beyond what is due, and nothing once a sweep has gone."""
    again = copy.to_try_again
    if not again:
        return 0
    if share.swept_at is not None and order.filled_at is not None and share.swept_at >= order.filled_at:
        return 0
    sign = -order.known.ticket.side.sign
    too_much = share.left * sign - due_in(share, sign) - copy.may_close - claimed
    return min(again, nearest_lots(max(too_much, 0), lot_size))


def _asked_to_close(copy: Copy) -> int:
    """What of a copy's orders closes, by what was asked for."""
    opens = sum(piece.opens if piece.is_open else piece.opened for piece in copy.slices)
    return max(copy.total - opens, 0)


def _fraction(holding: Holding, order: LeaderOrder, divided: Parts, held: int, cover: int, lot_size: int) -> int:
    """Round the fraction together with the earlier exits of its kind, so that their sum is right."""
    earlier = _resting_exits_before(holding, order)
    if earlier + divided.closes > divided.base + divided.coming:
        earlier = 0
    upto = nearest_lots(_closed_by(earlier + divided.closes, divided, held, cover), lot_size)
    return upto - nearest_lots(_closed_by(earlier, divided, held, cover), lot_size)


def _closed_by(units: int, divided: Parts, held: int, cover: int) -> Units:
    """What the follower closes when the leader closes so many units: of its position first, then of what is coming."""
    base, coming = divided.base, divided.coming
    now = quotient(held * min(units, base), base) if base else 0
    then = quotient(cover * max(units - base, 0), coming) if coming else 0
    return now + then


def _resting_exits_before(holding: Holding, order: LeaderOrder) -> int:
    if is_immediate(order):
        return 0
    return sum(
        other.known.remaining
        for other in holding.active.values()
        if other.number < order.number
        and other.only_exits
        and other.known.ticket.side is order.known.ticket.side
        and not is_immediate(other)
        and is_stop(other) is is_stop(order)
    )


def _working_entries(holding: Holding, share: Share, order: LeaderOrder, position: int) -> tuple[int, int, int]:
    """What the follower's entries have filled ahead of the leader's, are behind them, and add to what this exit covers.

    What is ahead belongs to the leader's working entry, not to its position; what is behind belongs to
    the position.  A resting exit covers the leader's working entries before it.
    """
    ahead = behind = cover = 0
    if len(holding.active) == 1 and order.known.order_id in holding.active:
        return ahead, behind, cover
    for entry in holding.active.values():
        copy = entry.copies.get(share.follower)
        if copy is None or not copy.units or entry.known.ticket.side is order.known.ticket.side:
            continue
        early = min(filled_ahead(holding, entry, copy), max(position - ahead, 0))
        ahead += early
        if is_immediate(order):
            continue
        late = min(behind_leader(entry, copy), copy.will_open)
        behind += late
        if entry.turn < order.turn and not entry.known.is_done:
            cover += copy.will_open - late + early
    return ahead, behind, cover


def _rests_of_entries(share: Share, order: LeaderOrder) -> int:
    """What entries on the order's own side may still fill, or have filled unheard, though their leader orders are over.

    It would use up what comes on the other side.  What is held by all that is known is got out of nevertheless: an
    exit does not wait for news that may never come.
    """
    rests = 0
    for piece in share.open.values():
        leader = piece.copy.leader if piece.copy is not None else order
        if leader is not order and piece.asked.side is order.known.ticket.side and leader.known.is_done:
            rests += piece.may_open
    return rests


def _in_the_way(share: Share, order: LeaderOrder, held: int) -> int:
    """What of a position on the order's own side nothing closes: entries on the other side close that first."""
    if held <= 0:
        return 0
    side = order.known.ticket.side
    closing = sum(each.remaining - each.may_open for each in share.open.values() if each.asked.side is not side)
    return max(held - closing, 0)


def _behind_leader(holding: Holding, share: Share, order: LeaderOrder, lot_size: int) -> int:
    """What the leader has closed by exits that go on, and the follower's have still to close: it is theirs.

    A stop loss keeps its size until the target has filled, and the other way round.
    """
    total = 0
    for other in holding.active.values():
        copy = other.copies.get(share.follower)
        if copy is None or not copy.is_open or not other.reduced or other is order:
            continue
        goes_on = other.known.ticket.side is order.known.ticket.side and not other.known.is_done
        if goes_on and (is_immediate(order) or (not is_immediate(other) and is_stop(other) is is_stop(order))):
            total += behind(other, copy, copy.may_close, lot_size)
    return total


def being_closed(holding: Holding, share: Share, side: Side, order: LeaderOrder | None = None) -> int:
    """What exits of ours on one side will close for certain: sweeps, market exits, those the leader has filled.

    For an order: what the others will close, of the market exits only those before it.
    """
    total = sum(piece.remaining for piece in share.sweeps if piece.asked.side is side) if share.sweeps else 0
    for other in holding.active.values():
        if other is order:
            continue
        copy = other.copies.get(share.follower)
        if copy is None or other.known.ticket.side is not side or other.known.is_dead:
            continue
        if other.known.is_filled or (is_immediate(other) and (order is None or other.number < order.number)):
            total += copy.may_close
    return total
