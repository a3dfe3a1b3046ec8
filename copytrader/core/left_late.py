"""What stays at a follower where late exits are off: what the leader got out of while nobody looked.

It is a part of the copied position (`Share.left_late`) that is not due any more, and that no sweep closes.  Everything
else that is held too much is closed as ever: late is what nobody heard of, not what waited or failed since.  It ends
with the copied position, whatever closes that, and with the leader's next exit that is heard of: that takes the same
part of it as of everything that is held.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from copytrader.core import room
from copytrader.core.copied_position import due_in, held, trim_left_late
from copytrader.core.copies import Slice
from copytrader.core.exposure import behind_leader
from copytrader.core.model import CopyRules, LateExits, Order, OrderType, Units
from copytrader.core.news import lot_of
from copytrader.core.state import Holding, Share, State


class Before(NamedTuple):
    """A share before the leader got out: what is due on the side of `sign`, what is left late, what is still to come.

    That is what the follower's orders will add by entries that the leader's have filled.
    """

    sign: int
    due: Units
    left_late: Units
    coming: int


def was_unheard(rules: CopyRules, heard_at: datetime | None, traded_at: datetime | None) -> bool:
    """Whether the leader had traded a while before anybody heard of it; what waits for us since is not late."""
    if heard_at is None or traded_at is None:
        return False
    return heard_at > traded_at + timedelta(seconds=rules.max_age_seconds)


def is_off(state: State) -> bool:
    """Whether late exits are off."""
    return state.desk is not None and state.desk.rules.late_exits is LateExits.SKIP


def is_left(state: State, order: Order, at: datetime) -> bool:
    """Whether what the leader has got out of by news of an order is left alone."""
    if state.desk is None or not is_off(state):
        return False
    return was_unheard(state.desk.rules, at, order.updated_at or order.placed_at)


def look(holding: Holding) -> dict[str, Before]:
    """Keep what every follower has, before news of what the leader got out of unheard is taken in."""
    return {name: _before(holding, share) for name, share in holding.shares.items()}


def _before(holding: Holding, share: Share) -> Before:
    sign, coming = 1 if share.due > 0 else -1, 0
    for order in holding.active.values():
        copy = order.copies.get(share.follower)
        if copy is not None and copy.units and order.known.ticket.side.sign == sign:
            coming += min(behind_leader(order, copy), copy.will_open)
    return Before(sign, due_in(share, sign), share.left_late, coming)


def leave(state: State, holding: Holding, before: dict[str, Before]) -> None:
    """Leave alone what is due no more since then, as far as it is held; an exit of ours that rests may close it still.

    What is less than a lot beside it stays with it.
    """
    lot = lot_of(state, holding)
    for name, was in before.items():
        share = holding.shares[name]
        share.left_late = was.left_late
        gone = was.due - due_in(share, was.sign)
        too_much = held(holding, share, was.sign) - room.justified(holding, share, was.sign) + was.coming
        if gone > 0 and too_much > 0 and share.left * was.sign >= 0:
            share.left_late += was.sign * (too_much if too_much - gone < lot else gone)


def leave_expired(state: State, share: Share, piece: Slice) -> None:
    """Leave alone what an exit was to close that the leader's has filled, and that did not find its price all day."""
    leader = piece.copy.leader if piece.copy is not None else None
    if leader is None or leader.out_at is None or not is_off(state) or _went_to_market(piece):
        return
    closes = max(piece.asked.quantity - piece.filled - piece.opens, 0)
    share.left_late -= piece.asked.side.sign * closes
    trim_left_late(share)


def _went_to_market(piece: Slice) -> bool:
    return any(terms.ticket.order_type is OrderType.MARKET for terms in (*piece.asked_before, piece.terms))


def leave_adopted(state: State, share: Share) -> None:
    """Leave alone what of adopted orders is not due: the leader got out of it while there was no journal."""
    if is_off(state):
        share.left_late = share.copied - share.due
        trim_left_late(share)
