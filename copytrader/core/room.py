"""What a follower holds too much, and how much its entries may still fill."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from copytrader.core.copied_position import due_in, held
from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.exposure import behind_leader, is_immediate, opens_left, parts
from copytrader.core.model import Units
from copytrader.core.sizing import nearest_lots, quotient
from copytrader.core.state import Holding, Share


def still_to_open(holding: Holding, follower: str, sign: int, *, filled_only: bool = False) -> Units:
    """What the leader's working entries on one side will still add to what is due; or what of it has filled ahead."""
    total: Units = 0
    for order in holding.active.values():
        copy = order.copies.get(follower)
        if copy is None or not copy.units or order.known.is_done or order.only_exits or copy.closed is not None:
            continue
        if order.known.ticket.side.sign == sign:
            still = _still_to_open(holding, order, copy)
            total += min(still, ahead_of_leader(order, copy)) if filled_only else still
    return total


def _still_to_open(holding: Holding, order: LeaderOrder, copy: Copy) -> Units:
    opens = max(copy.opens, order.opened, 1)
    return quotient(copy.units * min(opens - order.opened, opens_left(holding.leader_net or 0, order)), opens)


def filled_ahead(holding: Holding, order: LeaderOrder, copy: Copy) -> int:
    """How far a copy's opening fills are ahead of those of the leader's working order, in units."""
    if order.known.is_done or order.only_exits or copy.closed is not None:
        return 0
    if not copy.opened:
        return 0
    return int(min(_still_to_open(holding, order, copy), ahead_of_leader(order, copy)))


def ahead_of_leader(order: LeaderOrder, copy: Copy) -> Units:
    """What a copy has opened beyond its share of what the leader's order has; what was closed since counts in both."""
    return max(copy.opened + copy.gone - quotient(copy.units * order.opened, max(copy.opens, order.opened, 1)), 0)


def on_its_way(holding: Holding, order: LeaderOrder) -> dict[str, int]:
    """What of filled entries of the leader each follower's orders will still add to what an exit closes."""
    return {
        name: sum(min(behind_leader(each.leader, each), each.will_open) for each in _entries(holding, order, name))
        for name in order.copies
    }


def note_held(holding: Holding, order: LeaderOrder, coming: dict[str, int], lot_size: int) -> None:
    """Keep what each follower has when an exit of the leader has begun to trade, with what is on its way.

    What an entry has filled ahead of the leader's is no part of it; what the exit's own copy has closed is.
    """
    sign = -order.known.ticket.side.sign
    for name, copy in order.copies.items():
        share = holding.shares.get(name)
        if share is not None:
            ahead = sum(filled_ahead(holding, each.leader, each) for each in _entries(holding, order, name))
            copy.held = max(without(share.left * sign, copy) - ahead // lot_size * lot_size, 0) + coming[name]


def without(position: int, copy: Copy) -> int:
    """A position, + is what the copy closes, as it would be without the copy's fills."""
    opened = copy.opened
    return position + min(opened, max(-position, 0)) + copy.filled - opened


def _entries(holding: Holding, order: LeaderOrder, follower: str) -> list[Copy]:
    """A follower's entries on the side that an order closes."""
    side = order.known.ticket.side
    copies = [each.copies.get(follower) for each in holding.active.values() if each.known.ticket.side is not side]
    return [each for each in copies if each is not None and each.units]


def lagging(holding: Holding, share: Share, sign: int, lot_size: int, since: datetime | None = None) -> int:
    """What the leader has got out of and the follower's exits have not yet, in units.

    They work, or never reached the broker and are tried again.  An exit that opens beside is waited for only where
    the leader was out by its own after `since`.
    """
    total = sum(piece.remaining for piece in share.sweeps if piece.asked.side.sign != sign)
    for order in holding.active.values():
        copy, known = order.copies.get(share.follower), order.known
        if copy is None or known.ticket.side.sign == sign or known.is_dead:
            continue
        closes = copy.may_close + copy.to_try_again
        if not closes:
            continue
        is_late = since is not None and order.out_at is not None and order.out_at <= since
        if is_late and copy.may_open:
            continue
        total += closes if known.is_filled else behind(order, copy, closes, lot_size)
    return total


def behind(order: LeaderOrder, copy: Copy, closes: int, lot_size: int) -> int:
    """What of an exit that the leader has filled in part the follower's has still to close."""
    asked = copy.total if copy.is_open else closes
    gone = asked * order.reduced // order.known.ticket.quantity // lot_size * lot_size
    return min(max(gone - copy.filled, 0), closes)


def _not_sent_yet(holding: Holding, share: Share, sign: int, lot_size: int) -> int:
    """What exits will close that the leader has filled, and that wait for their first call."""
    total = 0
    for order in holding.active.values():
        copy = order.copies.get(share.follower)
        if copy is None or copy.slices or copy.skip is not None or copy.closed is not None:
            continue
        if order.only_exits and order.known.is_filled and order.known.ticket.side.sign != sign:
            total += nearest_lots(copy.held * (1 - order.kept), lot_size)
    return total


def excess(holding: Holding, share: Share, lot_size: int, since: datetime | None) -> int:
    """What the follower holds from copying beyond what is justified, and nothing closes; `since`: see `lagging`.

    Whole lots while the leader still holds; everything once the leader is out.
    """
    if not share.copied or share.unreckoned or holding.leader_net is None:
        return 0
    sign = 1 if share.copied > 0 else -1
    if share.copied * sign <= share.due * sign:
        return 0
    closing = lagging(holding, share, sign, lot_size, since) + _not_sent_yet(holding, share, sign, lot_size)
    return _beyond(held(holding, share, sign) - closing, justified(holding, share, sign), lot_size)


def _beyond(quantity: int, justified: Units, lot_size: int) -> int:
    too_much = max(quantity - justified, 0)
    return int(too_much) if justified == 0 else int(too_much // lot_size) * lot_size


def about_to_close(holding: Holding, share: Share, sign: int, lot_size: int) -> int:
    """What of the follower's position on one side will soon be closed, by exits, or by a sweep where they fail.

    It is not gone before that, so nothing may be opened in its place yet.
    """
    now = held(holding, share, sign)
    closing = lagging(holding, share, sign, lot_size) + _not_sent_yet(holding, share, sign, lot_size)
    closing += _at_market(holding, share, sign)
    return min(max(closing, _beyond(now, justified(holding, share, sign), lot_size)), now)


def _at_market(holding: Holding, share: Share, sign: int) -> int:
    """What exits close that trade at once and have not filled at the leader; one that was not asked for yet, all."""
    total = 0
    for order in holding.active.values():
        if order.known.ticket.side.sign == sign or order.known.is_done or not is_immediate(order):
            continue
        copy = order.copies.get(share.follower)
        if copy is not None and (copy.slices or copy.skip is not None):
            total += copy.may_close
        elif parts(holding, order).closes:
            total += held(holding, share, sign)
    return total


def justified(holding: Holding, share: Share, sign: int) -> Units:
    """What the follower may hold now: what is due, what its entries have filled ahead of the leader's, what is left."""
    ahead = still_to_open(holding, share.follower, sign, filled_only=True)
    return due_in(share, sign) + ahead + max(share.left_late * sign, 0)


class Room(NamedTuple):
    """How much the follower's entries on one side may still fill: those whose leader orders are over, and all."""

    over: int
    all: int

    def without(self, granted: int, *, is_over: bool) -> Room:
        return Room(self.over - granted if is_over else self.over, self.all - granted)


def entry_room(holding: Holding, share: Share, sign: int, lot_size: int, leaving: int) -> Room:
    """How much the follower's entries on one side may still fill, once the leader has begun to get out.

    `leaving` is what exits that were decided a moment ago are about to close.  Those that are over may fill what is
    due and not held; the rest is left to those that work.
    """
    due = due_in(share, sign)
    ahead = still_to_open(holding, share.follower, sign, filled_only=True)
    kept = min(held(holding, share, sign) - lagging(holding, share, sign, lot_size) - leaving, due + ahead)
    of_those_over = max(kept - min(ahead, max(kept, 0)), -due)
    working = still_to_open(holding, share.follower, sign)
    return Room(
        nearest_lots(max(due - of_those_over, 0), lot_size),
        nearest_lots(max(due + working - kept, 0), lot_size),
    )


def is_leaving(holding: Holding, sign: int) -> bool:
    """Whether the leader gets, or got, out of what its orders on one side open: entries may have to shrink."""
    net = holding.leader_net or 0
    for order in holding.active.values():
        left = order.standing != order.opened or (net * sign < 0 and not order.only_exits)
        if left and order.known.ticket.side.sign == sign:
            return True
    return False
