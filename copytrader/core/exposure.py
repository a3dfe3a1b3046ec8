"""How the leader's orders divide into exits and entries, and what each follower is due by them.

All quantities are units; a position is signed, + is long.  The leader's position changes
only by its fills (and by what the positions query says); what a follower is *due*
changes with it: an opening fill adds the copy's share of it, a closing fill takes the
fraction of the position that it closes.  So leader flat means due zero, exactly, whatever
was rounded before.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from copytrader.core.copies import Copy, LeaderOrder
from copytrader.core.model import ZERO, OrderType, Product, Side, Units, Validity
from copytrader.core.sizing import quotient, whole
from copytrader.core.state import Holding, Share

DELIVERED = frozenset({Product.CNC, Product.MTF})
"""Products that become holdings overnight, which the positions query does not show; nobody can be short of them."""


class Parts(NamedTuple):
    """How an order divides: what closes, what opens, and the position it closes from.

    `base` is the leader's position, `coming` what its working entries before the order will add to it.
    """

    closes: int
    opens: int
    base: int
    coming: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the position is left."""
        return self.closes >= self.base + self.coming


def awaits_reading(holding: Holding) -> bool:
    """Whether a reading showed less of the leader's position than was known, and a second one has not yet."""
    return holding.doubted is not None and holding.key.product not in DELIVERED


def is_immediate(order: LeaderOrder) -> bool:
    """Whether the order trades at once or not at all, so that it cannot wait for an entry.

    An after-market order waits for the morning, whatever its type.
    """
    ticket = order.known.ticket
    if ticket.order_type is not OrderType.MARKET and ticket.validity is not Validity.IOC:
        return False
    return not ticket.after_market or order.known.filled_quantity > 0


def is_stop(order: LeaderOrder) -> bool:
    """Whether the order waits for a trigger; the others wait for their price."""
    return order.known.ticket.trigger_price > ZERO


def only_sells(order: LeaderOrder) -> bool:
    """Whether the order sells shares: those that it does not close were held unknown to us, and nothing is opened."""
    return order.key.product in DELIVERED and order.known.ticket.side is Side.SELL


def parts(holding: Holding, order: LeaderOrder) -> Parts:
    """Divide an active order of the leader by the leader's position as it is now.

    A resting order right behind a working entry covers that entry too; what a market
    exit is about to close is not there for the orders after it.
    """
    quantity, known = order.known.ticket.quantity, order.known
    net = _net_without(holding, order)
    base = _against(net, order) + order.reduced
    if known.is_dead or (known.is_done and not order.only_exits):
        return Parts(order.reduced, order.opened, base)
    coming = 0
    if len(holding.active) > 1:
        base = max(base - _leaving(holding, order), order.reduced)
        if not is_immediate(order):
            coming = sum(opens_left(net, entry) for entry in entries_before(holding, order))
    closes = quantity if order.only_exits else min(quantity - order.opened, base + coming)
    return Parts(closes, quantity - closes, base, coming)


def _net_without(holding: Holding, order: LeaderOrder) -> int:
    """The leader's position without what this order has opened and still stands."""
    net = holding.leader_net or 0
    return net - int(order.standing) * order.known.ticket.side.sign if order.opened else net


def _against(position: int, order: LeaderOrder) -> int:
    return max(-position * order.known.ticket.side.sign, 0)


def entries_before(holding: Holding, order: LeaderOrder) -> list[LeaderOrder]:
    side = order.known.ticket.side
    return [
        other
        for other in holding.active.values()
        if other.turn < order.turn
        and other.known.ticket.side is not side
        and not other.only_exits
        and other.known.working
        and other.known.has_terms
    ]


def opens_left(net: int, order: LeaderOrder) -> int:
    """What a working order of the leader may open, beyond what it would close."""
    return max(order.known.remaining - _against(net, order), 0)


def _leaving(holding: Holding, order: LeaderOrder) -> int:
    """What the leader's earlier market orders on its side are about to close."""
    side = order.known.ticket.side
    return sum(
        other.known.remaining
        for other in holding.active.values()
        if other.number < order.number and other.known.ticket.side is side and is_immediate(other)
    )


def classify(holding: Holding, order: LeaderOrder) -> None:
    """Decide once whether an order does nothing but close; what it opens then is copied only if it has grown."""
    if order.classified_quantity or holding.leader_net is None or not (order.known.working and order.known.has_terms):
        return
    divided = parts(holding, order)
    order.classified_quantity = order.known.ticket.quantity
    order.only_exits = only_sells(order) or (divided.opens == 0 and divided.closes > 0)


def fill_leader(holding: Holding, order: LeaderOrder, quantity: int) -> None:
    """Apply a fill of the leader: its position, and what each follower is due."""
    net = holding.leader_net
    if net is None:
        return
    sign = order.known.ticket.side.sign
    reduces = min(quantity, _against(net, order))
    opens = 0 if only_sells(order) else quantity - reduces
    holding.leader_net = net + sign * (reduces + opens)
    if holding.leader_net == holding.doubted:
        holding.doubted = None
    if reduces:
        order.kept = _times(order.kept, quotient(abs(net) - reduces, abs(net)))
        order.reduced += reduces
        aside = _close_aside(holding, order, reduces)
        if reduces > aside:
            _shrink_due(holding, quotient(abs(net) - reduces, abs(net) - aside))
        holding.last_exit = order
    if opens:
        order.opened += opens
        order.standing += opens
        if not order.known.kind.is_copied and not any(copy.units for copy in order.copies.values()):
            holding.before += sign * opens
        for name, share in holding.shares.items():
            copy = order.copies.get(name)
            if copy is not None:
                _credit(order, copy, share)
    _note_turns(holding)


def _close_aside(holding: Holding, order: LeaderOrder, quantity: int) -> Units:
    """Let an order of a kind that is not copied close what no follower has a part of; return how much that is."""
    aside = 0 if order.known.kind.is_copied else min(quantity, max(-holding.before * order.known.ticket.side.sign, 0))
    holding.before += order.known.ticket.side.sign * aside
    return aside


def _note_turns(holding: Holding) -> None:
    """What the leader has again, an order by which it was out before has not closed."""
    net = holding.leader_net or 0
    for order in holding.active.values():
        if order.turned_at is not None and net * order.known.ticket.side.sign < 0:
            order.turned_at = None


def behind_leader(entry: LeaderOrder, copy: Copy) -> int:
    """How far a copy's opening fills are behind the leader's, in units."""
    opens = max(copy.opens, entry.opened, 1)
    return max(int(copy.units * entry.standing // opens) - copy.opened, 0)


def set_leader_position(holding: Holding, net: int) -> None:
    """Take the leader's position from the positions query; what changed unseen changes what is due."""
    before = holding.leader_net
    holding.leader_net = net
    if before is None or net == before:
        return
    if not before or net * before <= 0:
        if before:
            _shrink_due(holding, 0)
        holding.before = net
    elif abs(net) < abs(before):
        _shrink_due(holding, quotient(net, before))
    else:
        holding.before += net - before
    _note_turns(holding)


def _shrink_due(holding: Holding, factor: Units) -> None:
    """The leader closed a part of its position: as much of everything that it opened is not due any more."""
    holding.before = _times(holding.before, factor)
    for share in holding.shares.values():
        share.due, share.covers = _times(share.due, factor), _times(share.covers, factor)
        share.left_late = _times(share.left_late, factor)
    for order in holding.active.values():
        if order.opened:
            order.standing = _times(order.standing, factor)
            for copy in order.copies.values():
                copy.due, copy.covers = _times(copy.due, factor), _times(copy.covers, factor)


_FINEST = 10**12


def _times(value: Units, factor: Units) -> Units:
    """Multiply, and keep fractions short over a long day of partial exits; what is whole stays whole."""
    if not value or not factor:
        return 0
    value *= factor
    return whole(value if value.denominator < _FINEST else Fraction(round(value * _FINEST), _FINEST))


def _credit(order: LeaderOrder, copy: Copy, share: Share) -> None:
    """Make what a follower is due by one copy follow from what still stands of the leader's order."""
    sign, due = order.known.ticket.side.sign, _standing_share(order, copy)
    share.due = whole(share.due + sign * (due - copy.due))
    copy.due = due
    covers = order.standing if copy.opens or order.only_exits else 0
    share.covers = whole(share.covers + sign * (covers - copy.covers))
    copy.covers = covers


def _standing_share(order: LeaderOrder, copy: Copy) -> Units:
    """What a copy has of the units that the leader's order opened and the leader has not closed since."""
    if order.only_exits:
        return quotient(copy.total * order.standing, order.known.ticket.quantity)
    return quotient(copy.units * order.standing, max(copy.opens, order.opened))


def gone(order: LeaderOrder, copy: Copy, lot_size: int) -> int:
    """What of a copy's size the leader has closed again already, by exits that are sized without it."""
    if order.only_exits or order.standing == order.opened:
        return 0
    closed = quotient(copy.units * (order.opened - order.standing), max(copy.opens, order.opened))
    return min(int(closed // lot_size) * lot_size, copy.units)


def resize(order: LeaderOrder, copy: Copy, share: Share, opens: int, units: int) -> None:
    """Let a copy open so much for what the leader's order opens; what the leader has opened already is due at once."""
    copy.opens, copy.units = opens, units
    if order.opened:
        _credit(order, copy, share)
