"""Who holds what from copying: entry or exit, fractions, what is due, what is too much.

All quantities are units; a position is signed, + is long.  The leader's position changes
only by its fills (and by what the positions query says); what a follower is *due*
changes with it: an opening fill adds the copy's share of it, a closing fill takes the
fraction of the position that it closes.  So leader flat means due zero, exactly, whatever
was rounded before.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from copytrader.core.model import ZERO, OrderType, Product, Side, Units, Validity
from copytrader.core.sizing import nearest_lots, quotient, whole
from copytrader.core.state import Copy, Holding, LeaderOrder, Share

DELIVERED = frozenset({Product.CNC, Product.MTF})
"""Products that become holdings overnight, which the positions query does not show; nobody can be short of them."""


PROOF_AFTER = timedelta(seconds=1)
"""A reading that ends so long after a fill was told began after it."""


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
    """Whether the order trades at once or not at all, so that it cannot wait for an entry."""
    ticket = order.known.ticket
    return ticket.order_type is OrderType.MARKET or ticket.validity is Validity.IOC


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
            coming = sum(_opens_left(net, entry) for entry in _entries_before(holding, order))
    closes = quantity if order.only_exits else min(quantity - order.opened, base + coming)
    return Parts(closes, quantity - closes, base, coming)


def _net_without(holding: Holding, order: LeaderOrder) -> int:
    """The leader's position without what this order has opened and still stands."""
    net = holding.leader_net or 0
    return net - int(order.standing) * order.known.ticket.side.sign if order.opened else net


def _against(position: int, order: LeaderOrder) -> int:
    return max(-position * order.known.ticket.side.sign, 0)


def _entries_before(holding: Holding, order: LeaderOrder) -> list[LeaderOrder]:
    side = order.known.ticket.side
    return [
        other
        for other in holding.active.values()
        if other.number < order.number
        and other.known.ticket.side is not side
        and not other.only_exits
        and other.known.working
        and other.known.has_terms
    ]


def _opens_left(net: int, order: LeaderOrder) -> int:
    """What a working order of the leader may open, beyond what it would close."""
    return max(order.known.remaining - _against(net, order), 0)


def _leaving(holding: Holding, order: LeaderOrder) -> int:
    """What the leader's earlier market exits are about to close."""
    side = order.known.ticket.side
    return sum(
        other.known.remaining
        for other in holding.active.values()
        if other.number < order.number and other.only_exits and other.known.ticket.side is side and is_immediate(other)
    )


def classify(holding: Holding, order: LeaderOrder) -> None:
    """Decide once whether an order does nothing but close; from then on it never opens anything."""
    if order.classified or holding.leader_net is None or not (order.known.working and order.known.has_terms):
        return
    divided = parts(holding, order)
    order.classified = True
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
    order.reduced += reduces
    if reduces:
        _shrink_due(holding, quotient(abs(net) - reduces, abs(net)))
        holding.last_exit = order
    if opens:
        order.opened += opens
        order.standing += opens
        for name, share in holding.shares.items():
            copy = order.copies.get(name)
            if copy is not None:
                _credit(order, copy, share)


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


def _shrink_due(holding: Holding, factor: Units) -> None:
    """The leader closed a part of its position: as much of everything that it opened is not due any more."""
    holding.before = _times(holding.before, factor)
    for share in holding.shares.values():
        share.due, share.covers = _times(share.due, factor), _times(share.covers, factor)
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


def resize(order: LeaderOrder, copy: Copy, share: Share, opens: int, units: int) -> None:
    """Let a copy open so much for what the leader's order opens; what the leader has opened already is due at once."""
    copy.opens, copy.units = opens, units
    if order.opened:
        _credit(order, copy, share)


def fill_follower(share: Share, sign: int, quantity: int, price: Decimal, closes: int = 0) -> Decimal:
    """Apply a fill of an order of ours, meant to close so much; return what it realised per unit of multiplier.

    News of two orders may change places: an exit that closes more than is held proves that an entry has filled.
    """
    before = share.copied
    reduces = min(quantity, abs(before)) if before * sign < 0 else 0
    realized = ZERO
    if reduces and price and share.average:
        realized = (price - share.average) * reduces * (1 if before > 0 else -1)
    opens = quantity - reduces
    if opens and price:
        kept = abs(before + sign * reduces)
        share.average = (share.average * kept + price * opens) / (kept + opens)
    share.copied = before + sign * quantity
    share.overtaken = _overtaken(share, sign, quantity, max(closes - reduces, 0))
    if share.copied * before <= 0:
        share.against = share.by_hand = 0
    if share.copied == 0:
        share.average = ZERO
    if share.net is not None:
        share.net += sign * quantity
    return realized


def _overtaken(share: Share, sign: int, quantity: int, beyond: int) -> int:
    before = share.overtaken
    if before * sign < 0:
        before += sign * min(quantity, abs(before))
    return before + sign * beyond


def prove(share: Share, at: datetime) -> None:
    """A book was read: an entry that exits have overtaken, and that still has not filled, did not come first."""
    if share.overtaken_at is not None and at >= share.overtaken_at + PROOF_AFTER:
        share.overtaken, share.overtaken_at = 0, None


def trade_by_hand(share: Share, sign: int, quantity: int) -> None:
    """Apply a fill of an order that is not ours: what it closes is the person's own first, then the copy."""
    if share.copied * sign < 0:
        own = 0 if share.net is None else max(-share.net * sign - abs(share.left), 0)
        share.against += max(quantity - own, 0)
    if share.net is not None:
        share.net += sign * quantity


def set_follower_position(share: Share, net: int) -> int:
    """Take the follower's position from the positions query; return how much of the copied position is not there.

    What the person closed by hand is never exited again, so that what it buys of its own later is its own.  No
    more than it traded that way counts: positions may be older than our last fill.
    """
    share.net = net
    sign = 1 if share.copied > 0 else -1
    missing = max(abs(share.left) - max(net * sign, 0), 0)
    close_by_hand(share, missing)
    return missing


def close_by_hand(share: Share, quantity: int) -> None:
    """Count so much of the copied position as closed by the person, as far as it traded that way."""
    closed = min(quantity, share.against, abs(share.left))
    share.against -= closed
    share.by_hand += closed


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
    holding: Holding, order: LeaderOrder, share: Share, copy: Copy, divided: Parts, lot_size: int, excess: int
) -> ExitSize:
    """Apply the fraction of its position that the leader closes to what the follower holds from copying.

    `excess` is what a sweep is about to close, and so is not there for this order.  The
    total never exceeds what was held before this copy, nor the broker's net position.
    """
    sign = -order.known.ticket.side.sign
    unproved = share.unproved if share.overtaken else 0
    position = _without(share.left * sign + min(unproved * sign, 0), copy)
    ahead, behind, cover = _working_entries(holding, share, order, position)
    against = _rests_of_entries(share, order)
    if against:
        behind, cover = max(behind - against, 0), max(cover - max(against - behind, 0), 0)
    claimed = excess + being_closed(holding, share, order.known.ticket.side, order) + ahead
    held = max(position + behind - claimed, 0)
    cover = cover if divided.coming else 0
    if copy.was_sent and order.known.is_filled:
        total = min(max(copy.total - copy.units, 0), held + cover)
    elif divided.base + divided.coming == 0:
        total = 0
    elif divided.is_whole:
        total = held + cover
    else:
        total = _fraction(holding, order, divided, held, cover, lot_size)
    if share.net is not None and holding.key.product not in DELIVERED:
        total = min(total, _without(share.net * sign, copy) + behind + cover)
    return ExitSize(max(total // lot_size * lot_size, copy.filled - copy.opened), held, cover, divided)


def _without(position: int, copy: Copy) -> int:
    """A position, + is what the copy closes, as it would be without the copy's fills."""
    opened = copy.opened
    return position + min(opened, max(-position, 0)) + copy.filled - opened


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
        early = min(_ahead(holding, entry, copy), max(position - ahead, 0))
        ahead += early
        if is_immediate(order):
            continue
        late = min(_behind(entry, copy), copy.will_open)
        behind += late
        if entry.number < order.number and not entry.known.is_done:
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


def _behind(entry: LeaderOrder, copy: Copy) -> int:
    """How far a copy's opening fills are behind the leader's, in units."""
    opens = max(copy.opens, entry.opened, 1)
    return max(int(copy.units * entry.standing // opens) - copy.opened, 0)


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


def still_to_open(holding: Holding, follower: str, sign: int, *, filled_only: bool = False) -> Units:
    """What the leader's working entries on one side will still add to what is due; or what of it has filled ahead."""
    total: Units = 0
    for order in holding.active.values():
        copy = order.copies.get(follower)
        if copy is None or not copy.units or order.known.is_done or order.only_exits or copy.closed is not None:
            continue
        if order.known.ticket.side.sign == sign:
            still = _still_to_open(holding, order, copy)
            total += min(still, max(copy.opened - copy.due, 0)) if filled_only else still
    return total


def _still_to_open(holding: Holding, order: LeaderOrder, copy: Copy) -> Units:
    opens = max(copy.opens, order.opened, 1)
    return quotient(copy.units * min(opens - order.opened, _opens_left(holding.leader_net or 0, order)), opens)


def _ahead(holding: Holding, order: LeaderOrder, copy: Copy) -> int:
    """How far a copy's opening fills are ahead of those of the leader's working order, in units."""
    if order.known.is_done or order.only_exits or copy.closed is not None:
        return 0
    if not copy.opened:
        return 0
    return int(min(_still_to_open(holding, order, copy), max(copy.opened - copy.due, 0)))


def lagging(holding: Holding, share: Share, sign: int, lot_size: int) -> int:
    """What the leader has got out of and the follower's working exits have not yet, in units."""
    total = sum(piece.remaining for piece in share.sweeps if piece.asked.side.sign != sign)
    for order in holding.active.values():
        copy, known = order.copies.get(share.follower), order.known
        if copy is None or known.ticket.side.sign == sign or not copy.is_open or known.is_dead:
            continue
        if known.is_filled:
            total += copy.may_close
        elif order.reduced:
            gone = copy.total * order.reduced // known.ticket.quantity // lot_size * lot_size
            total += min(max(gone - copy.filled, 0), copy.may_close)
    return total


def held(holding: Holding, share: Share, sign: int) -> int:
    """What the follower holds on one side from copying and, as far as that is known, still at the broker."""
    copied = max(share.left * sign, 0)
    if share.net is None or holding.key.product in DELIVERED:
        return copied
    return min(copied, max(share.net * sign, 0))


def due_in(share: Share, sign: int) -> Units:
    return max(share.due * sign, 0)


def excess(holding: Holding, share: Share, lot_size: int) -> int:
    """What the follower holds from copying beyond what the leader's position justifies.

    Whole lots while the leader still holds; everything once the leader is out.
    """
    if not share.copied or holding.leader_net is None:
        return 0
    sign = 1 if share.copied > 0 else -1
    if share.copied * sign <= share.due * sign:
        return 0
    justified = _justified(holding, share, sign)
    too_much = held(holding, share, sign) - justified - lagging(holding, share, sign, lot_size)
    if too_much <= 0:
        return 0
    if justified == 0:
        return int(too_much)
    return int(too_much // lot_size) * lot_size


def _justified(holding: Holding, share: Share, sign: int) -> Units:
    """What the follower may hold now: what is due, and what its entries have filled ahead of the leader's."""
    return due_in(share, sign) + still_to_open(holding, share.follower, sign, filled_only=True)


def entry_room(holding: Holding, share: Share, sign: int, lot_size: int) -> int:
    """How much the follower's entries on one side may still fill, once the leader has begun to get out."""
    due = due_in(share, sign) * _left_by_immediate_exits(holding, sign)
    kept = min(held(holding, share, sign) - lagging(holding, share, sign, lot_size), _justified(holding, share, sign))
    room = due + still_to_open(holding, share.follower, sign) - kept
    return nearest_lots(max(room, 0), lot_size)


def is_leaving(holding: Holding, sign: int) -> bool:
    """Whether the leader gets, or got, out of what its orders on one side open: entries may have to shrink."""
    net = holding.leader_net or 0
    for order in holding.active.values():
        if order.known.ticket.side.sign == sign:
            if order.standing != order.opened or (net * sign < 0 and not order.only_exits):
                return True
        elif order.only_exits and is_immediate(order):
            return True
    return False


def _left_by_immediate_exits(holding: Holding, sign: int) -> Units:
    """The fraction of the leader's position that remains when its market exits have filled."""
    net = abs(holding.leader_net or 0)
    going = sum(
        order.known.remaining
        for order in holding.active.values()
        if order.known.ticket.side.sign != sign and order.only_exits and is_immediate(order)
    )
    return quotient(max(net - going, 0), net) if net else 1


def side_of(quantity: int) -> Side:
    """The side of an order that closes a position."""
    return Side.SELL if quantity > 0 else Side.BUY
