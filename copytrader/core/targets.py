"""What a follower should hold, reckoned from the leader's position and not from its orders.

The leader's position *as copied* is the part of it that orders we saw have opened and that the
leader has not closed since.  The sizing rule applied to that gives the exact quantity; the
target is that, rounded down to whole lots.  Rounding as orders come may honestly end one lot
above it, which is no drift.
"""

from __future__ import annotations

from fractions import Fraction

from copytrader.core import sizing
from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.model import Instrument, SizingMode, Ticket, Units
from copytrader.core.state import Account, Holding, Share, State


def standing(holding: Holding) -> Units:
    """The leader's position without what it held before copying, signed."""
    return (holding.leader_net or 0) - holding.before


def untouched(holding: Holding, follower: str) -> Units:
    """What the leader's working orders have opened that no copy was due for yet: it will come with the copy."""
    return sum(
        order.known.ticket.side.sign * order.standing for order in holding.active.values() if _waits(order, follower)
    )


def _waits(order: LeaderOrder, follower: str) -> bool:
    copy = order.copies.get(follower)
    return order.known.working and not order.known.is_done and not is_judged(copy)


def is_judged(copy: Copy | None) -> bool:
    return copy is not None and bool(copy.slices or copy.skip is not None or copy.lots is not None)


def missed(holding: Holding, share: Share) -> Units:
    """The part of the leader's position as copied for which the follower was never given a size, in leader's units."""
    return standing(holding) - untouched(holding, share.follower) - share.covers


def is_covered(holding: Holding, share: Share) -> bool:
    return -1 < missed(holding, share) < 1


def exact(state: State, holding: Holding, account: Account, share: Share) -> Units | None:
    """What the follower should hold before any rounding, signed; None where that cannot be told."""
    instrument = state.instruments.get(holding.key.security)
    if holding.leader_net is None or instrument is None:
        return None
    rule = account.follower.sizing
    if rule.mode is SizingMode.RATIO:
        return (standing(holding) - untouched(holding, share.follower)) * Fraction(rule.ratio)
    if is_covered(holding, share) or (not share.covers and share.due):
        return share.due
    if rule.mode is SizingMode.CAPITAL:
        factor = sizing.scale(rule, account.funds, state.leader_funds)
        return None if factor is None else share.due + missed(holding, share) * Fraction(factor)
    lots = _lots_of_an_entry(state, holding, account, share, instrument)
    return None if lots is None else share.due + lots * instrument.lot_size


def _lots_of_an_entry(
    state: State, holding: Holding, account: Account, share: Share, instrument: Instrument
) -> Units | None:
    """The signed lots for the entries that were missed, each as large as the rule makes one."""
    rule, left = account.follower.sizing, missed(holding, share)
    orders = _missed_orders(state, holding, share.follower)
    opened = sum(order.opened for order in orders)
    sign = 1 if left > 0 else -1
    part = min(sizing.quotient(left * sign, opened), 1) * len(orders) if opened else 1
    if rule.mode is SizingMode.LOTS:
        return sign * part * rule.lots
    ticket = orders[-1].known.ticket if orders else None
    lots = None if ticket is None else _risk_lots(account, holding, ticket, instrument)
    return None if lots is None else sign * part * lots


def _risk_lots(account: Account, holding: Holding, ticket: Ticket, instrument: Instrument) -> int | None:
    rule, funds = account.follower.sizing, account.funds
    capital = rule.capital if rule.capital is not None else (funds.start_of_day if funds is not None else None)
    price = sizing.price_of(ticket, holding.last_price)
    if capital is None or price is None:
        return None
    return sizing.risk_lots(rule, capital, ticket, instrument, price)


def _missed_orders(state: State, holding: Holding, follower: str) -> list[LeaderOrder]:
    return [
        order
        for order in state.orders.values()
        if order.key == holding.key and order.opened and not _was_sized(order.copies.get(follower))
    ]


def _was_sized(copy: Copy | None) -> bool:
    return copy is not None and copy.opens > 0


def counted(exact_quantity: Units, share: Share, lot_size: int) -> int:
    """What counts as held from copying, signed: what is left, and what the person closed by hand and is due still.

    That is not bought again.  What was closed by hand of a position that the leader has got out of since is gone.
    """
    if not share.by_hand:
        return share.copied
    sign = 1 if share.copied > 0 else -1
    due_still = min(exact_quantity * sign // lot_size, -(-share.due * sign // lot_size)) * lot_size
    return sign * max(abs(share.left), min(abs(share.copied), int(due_still)))


def target(exact_quantity: Units, copied: int, lot_size: int, due: Units | None = None) -> int:
    """Whole lots: what is held if that is within the rounding of what is exact (or due), else rounded down."""
    for each in (exact_quantity, due):
        if each is not None and _is_within_rounding(each, copied, lot_size):
            return copied
    sign = 1 if exact_quantity > 0 else -1
    return int(exact_quantity * sign // lot_size) * lot_size * sign


def _is_within_rounding(exact_quantity: Units, copied: int, lot_size: int) -> bool:
    if not exact_quantity:
        return copied == 0
    if copied * exact_quantity < 0:
        return False
    return -lot_size < exact_quantity - copied < lot_size
