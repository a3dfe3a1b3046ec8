"""What a copy should come to, and the commands that close the gap to what was asked for.

A copy's orders are changed where they are open, and what is missing is placed.  While it is not certain which
quantity one of them has at the broker, none grows and none is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from copytrader.core import exits, exposure, limits, room, sizing
from copytrader.core.budget import Rank
from copytrader.core.copies import Copy, LeaderOrder, Slice
from copytrader.core.facts import Divided, Level, Modify, Place, Role
from copytrader.core.model import LateExits, OrderStatus, OrderType, RefusalClass, SkipReason, Ticket
from copytrader.core.names import correlation_id
from copytrader.core.outcomes import remedy
from copytrader.core.pricing import goes_at_market, ticket_for, times_repriced, watch_market
from copytrader.core.scene import (
    RETRY_PAUSES,
    Scene,
    Want,
    age_of,
    is_changing,
    is_due,
    is_late,
    rules_of,
    say_once,
    say_taken,
    want_cancel,
)

MOST_MODIFICATIONS = 24
"""Dhan takes 25 modifications of an order; the 25th is never needed."""
_MOST_FAILED_PLACINGS = 6
_MOST_ABSENT_EXITS = 3
_MOST_TO_AND_FRO = 12
_TO_AND_FRO_IN = timedelta(minutes=1)
_MOST_BOUGHT_BACK = 3
_SOON = timedelta(milliseconds=1)
_WAIT = timedelta(seconds=5)
"""So long after it was first seen, an order may wait for others before it is given a reason why it has no copy."""


def is_over(order: LeaderOrder, copy: Copy) -> bool:
    return order.known.is_dead or copy.closed is not None


def close_all(scene: Scene, copy: Copy, why: str) -> list[Want]:
    wants = (want_cancel(scene, piece, why) for piece in copy.slices if piece.is_open)
    return [want for want in wants if want is not None]


@dataclass(slots=True)
class _Total:
    """What a copy should come to in all, in units: first it closes, then it opens."""

    closes: int
    opens: int
    exits: bool

    def take(self, quantity: int) -> int:
        """Take so much off; return the part of it that opens."""
        closes = min(quantity, max(self.closes, 0))
        self.closes -= closes
        self.opens -= quantity - closes
        return quantity - closes

    def took(self, piece: Slice) -> None:
        """Take off what an order that has ended has filled, divided as it was asked for.

        It may have traded before one that was to close: that one closes nevertheless, as far as the copy is concerned.
        """
        self.opens -= piece.opened
        self.closes -= piece.filled - piece.opened
        if self.closes < 0:
            self.opens += self.closes
            self.closes = 0

    @property
    def left(self) -> int:
        return self.closes + self.opens


def total_of(scene: Scene, order: LeaderOrder, copy: Copy) -> _Total:
    divided = scene.parts(order)
    opens = _within_room(scene, order, copy)
    closes = 0
    if order.only_exits or divided.closes > 0:
        closes = _exit_total(scene, order, copy, divided, quiet=copy.units > 0)
    else:
        opens += copy.swept
    nothing = not opens + closes and not copy.was_sent and copy.skip is None
    if order.known.is_done and nothing:
        scene.desk.skip(copy, SkipReason.RATE_BUDGET, "the leader got out again while the copy waited for its turn")
    if copy.lots is not None and nothing and copy.skip is None:
        _say_no_room(scene, order, copy)
    return _Total(closes, opens, closes > 0 or order.only_exits)


def _exit_total(scene: Scene, order: LeaderOrder, copy: Copy, divided: exposure.Parts, *, quiet: bool) -> int:
    if order.known.is_filled and not copy.slices and _was_swept(scene, order):
        if order.only_exits and copy.skip is None:
            scene.desk.skip(copy, SkipReason.LEADER_DONE, "too much was held, and was closed at market")
        return 0
    surplus = scene.surplus if _may_be_late(scene) or scene.share.flatten else 0  # else no sweep closes it
    leaving = surplus + scene.leaving(order.known.ticket.side, order)
    size = exits.exit_total(scene.holding, order, scene.share, copy, divided, scene.lot, leaving)
    said = order.known.is_filled and copy.skip is not None and not copy.slices
    if size.total <= 0 and not copy.was_sent and not quiet and not said and scene.account.blocked is None:
        _say_no_exit(scene, order, copy, size, surplus)
    if size.total > 0 and not copy.slices and not _may_be_late(scene) and _was_not_heard(scene, order):
        scene.desk.skip(copy, SkipReason.LEADER_DONE, "the leader got out while we were not looking")
        return 0
    if order.known.is_filled or exposure.is_immediate(order):
        scene.exits.append((order, exits.not_asked_yet(copy, size.total)))
    return size.total


def _say_no_exit(scene: Scene, order: LeaderOrder, copy: Copy, size: exits.ExitSize, surplus: int) -> None:
    """Give an exit that comes to nothing its reason; one that waits for its entry gets none yet."""
    by_hand = min(scene.share.by_hand, abs(scene.share.copied))
    position = f"copied position {scene.share.copied}" + (f", {by_hand} of it closed by hand" if by_hand else "")
    position += f", at the broker {_or_unknown(scene.share.net)}"
    if copy.slices:
        scene.desk.skip(copy, SkipReason.RATE_BUDGET, "its placing never reached the broker")
    elif surplus > 0:
        scene.desk.skip(copy, SkipReason.LEADER_DONE, f"{position}: too much is held, and is closed at market")
    elif _awaits_entry(scene, order):
        scene.wake(order.first_seen + _WAIT)
    elif size.held + size.cover <= 0 or size.parts.is_whole:
        _say_unknown(scene, order, copy, size.parts)
        _say_hands(scene, order, copy)
        scene.desk.skip(copy, SkipReason.NOTHING_TO_EXIT, position)
    else:
        fraction = f"{size.parts.closes} of the leader's {size.parts.base + size.parts.coming}"
        scene.desk.skip(copy, SkipReason.BELOW_ONE_LOT, f"{fraction}; {position}; one lot is {scene.lot}")


def _was_swept(scene: Scene, order: LeaderOrder) -> bool:
    """Whether a sweep has gone since the leader's order filled, and so has done the work of its exit."""
    swept = scene.share.swept_at
    return swept is not None and order.filled_at is not None and swept >= order.filled_at


def _awaits_entry(scene: Scene, order: LeaderOrder) -> bool:
    """Whether an entry that a resting exit covers is itself still to be placed."""
    if exposure.is_immediate(order) or order.known.is_done or scene.at >= order.first_seen + _WAIT:
        return False
    entries = exposure.entries_before(scene.holding, order)
    return any(entry.copies[scene.name].waiting for entry in entries if scene.name in entry.copies)


def _may_be_late(scene: Scene) -> bool:
    return rules_of(scene.state).late_exits is LateExits.MARKET


def _was_not_heard(scene: Scene, order: LeaderOrder) -> bool:
    """Whether the leader had got out a while before anybody heard of it; what waits for us since is not late."""
    if order.filled_at is None or order.traded_at is None:
        return False
    return order.filled_at > order.traded_at + timedelta(seconds=rules_of(scene.state).max_age_seconds)


def _say_no_room(scene: Scene, order: LeaderOrder, copy: Copy) -> None:
    """Give an order that works without a copy its reason; it is placed nevertheless once there is room for it."""
    since = order.first_seen + _WAIT
    if scene.at < since:
        scene.wake(since)
        return
    held = f"{float(scene.share.due):g} due, {scene.share.copied} held"
    text = f"{copy.units} more would be too much" if copy.units else "there is nothing to close, and no lot to open"
    scene.desk.skip(copy, SkipReason.BELOW_ONE_LOT, f"the leader has got out of a part meanwhile: {held}; {text}")


def _has_waited_for_room(copy: Copy) -> bool:
    return copy.units > 0 and copy.skip is not None and copy.skip.reason is SkipReason.BELOW_ONE_LOT


def _say_unknown(scene: Scene, order: LeaderOrder, copy: Copy, divided: exposure.Parts) -> None:
    """The leader sells shares that nobody knew it had: its holdings were not read, or name another exchange."""
    if copy.skip is not None or not exposure.only_sells(order) or divided.base + divided.coming:
        return
    symbol = scene.state.named(scene.holding.key.security)
    ticket = order.known.ticket
    text = f"{symbol}: the leader sells {ticket.quantity} {ticket.product}, and is not known to hold any: not copied"
    scene.desk.alert(Level.WARNING, f"{scene.name}: {text}", scene.name, f"unknown-{scene.name}-{symbol}")


def _say_hands(scene: Scene, order: LeaderOrder, copy: Copy) -> None:
    """The person's own position stands against the copied one: what the broker shows is not there to be closed."""
    share, sign = scene.share, -order.known.ticket.side.sign
    if copy.skip is None and share.left * sign > 0 and share.net is not None and share.net * sign <= 0:
        held = f"holds {share.net} at the broker but {share.left} from copying: somebody traded by hand"
        text = f"the leader's exit {order.known.order_id} is not copied: {held}"
        say_once(scene, Level.CRITICAL, text, f"hands-{order.known.order_id}")


def _or_unknown(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _within_room(scene: Scene, order: LeaderOrder, copy: Copy) -> int:
    """What the opening part may come to: less than its lots once the leader begins to get out.

    An order that is over takes no more than what still stands of it, and leaves the rest to those that work.
    """
    opened, sign = copy.opened, order.known.ticket.side.sign
    most = copy.units - copy.gone
    if most <= opened or not scene.is_leaving(sign):
        return max(most, opened)
    if sign not in scene.room:
        leaving = scene.leaving(order.known.ticket.side.opposite)
        scene.room[sign] = room.entry_room(scene.holding, scene.share, sign, scene.lot, leaving)
    left, is_over = scene.room[sign], order.known.is_done
    if is_over and not copy.is_open and not _may_open(scene, order, copy):
        return opened
    granted = min(most - opened, left.over if is_over else left.all, left.all)
    scene.room[sign] = left.without(granted, is_over=is_over)
    return opened + granted


def close_gap(scene: Scene, order: LeaderOrder, copy: Copy, total: _Total) -> list[Want]:
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
        if total.opens > opening and not _may_open(scene, order, copy):
            total.opens = opening
    grows = total.exits or limits.over_daily_loss(scene.account, scene.at) is None
    for piece, quantity in zip(pieces, _spread(total.left, lost, pieces, largest if grows else 0), strict=True):
        opens = total.take(max(quantity, piece.filled))
        want = _adjust(scene, order, piece, quantity, opens)
        if want is not None:
            wants.append(want)
    total.take(min(lost, max(total.left, 0)))
    if total.closes > 0 and scene.account.blocked is not None:
        _say_waits(scene, order, total.closes)
    if total.left > 0 and _may_place(scene, order, copy, exits=total.exits):
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
        if _awaits_entry(scene, order):
            scene.wake(order.first_seen + _WAIT)
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


def _may_place(scene: Scene, order: LeaderOrder, copy: Copy, *, exits: bool) -> bool:
    if scene.account.blocked is not None or copy.closed is not None:
        return False
    if any(piece.is_open and (is_changing(piece) or piece.detached) for piece in copy.slices):
        return False
    if not exits and not _may_open(scene, order, copy):
        return False
    if not copy.slices:
        return True
    if _goes_to_and_fro(scene, copy) or _is_bought_back(scene, copy):
        return False
    if any(piece.is_refused and _differs_in_quantity_only(piece.asked, order.known.ticket) for piece in copy.slices):
        return False
    if exits:
        absent = sum(1 for piece in copy.slices if piece.absent)
        return absent <= _MOST_ABSENT_EXITS and _may_place_again(scene, copy, exits=True)
    return _may_place_again(scene, copy, exits=False)


def _goes_to_and_fro(scene: Scene, copy: Copy) -> bool:
    """Whether its orders were placed and taken back so often within a minute that no more may go: calls have an end."""
    since = scene.at - _TO_AND_FRO_IN
    placed = sorted({piece.placed_at for piece in copy.slices if piece.cancelling and piece.placed_at > since})
    if len(placed) < _MOST_TO_AND_FRO:
        return False
    scene.wake(placed[-_MOST_TO_AND_FRO] + _TO_AND_FRO_IN)
    name = copy.leader.known.order_id
    text = f"the copy of {name} was placed and cancelled {len(placed)} times within a minute: it waits"
    say_once(scene, Level.CRITICAL, text, f"to-and-fro-{name}")
    return True


def _is_bought_back(scene: Scene, copy: Copy) -> bool:
    """Whether its orders filled ahead of the leader's, and were closed by a sweep, so often that no more may go yet.

    Each time costs the spread.  Once the leader's order is over, what it comes to is certain.
    """
    swept, order = scene.share.swept_at, copy.leader.known
    if swept is None or order.is_done:
        return False
    ahead = {piece.placed_at for piece in copy.slices if piece.ended is OrderStatus.TRADED and piece.placed_at < swept}
    if len(ahead) < _MOST_BOUGHT_BACK:
        return False
    text = (
        f"the copy of {order.order_id} filled ahead of the leader's {len(ahead)} times, and was closed again: it waits"
    )
    say_once(scene, Level.CRITICAL, text, f"bought-back-{order.order_id}")
    return True


def _may_open(scene: Scene, order: LeaderOrder, copy: Copy) -> bool:
    """Judge the part that opens once more, just before it is placed."""
    if copy.skip is not None and not _has_waited_for_room(copy):
        return False
    if scene.account.halted:
        scene.desk.skip(copy, SkipReason.HALTED, "copying is halted")
        return False
    over = limits.over_daily_loss(scene.account, scene.at)
    if over is not None:
        scene.desk.skip(copy, *over)
        return False
    return _is_fresh(scene, order, copy)


def _differs_in_quantity_only(refused: Ticket, terms: Ticket) -> bool:
    same_price = refused.price == terms.price or terms.order_type is OrderType.STOP_LOSS_MARKET
    return same_price and refused.trigger_price == terms.trigger_price


def _may_place_again(scene: Scene, copy: Copy, *, exits: bool) -> bool:
    """After placings that never reached the broker: with a pause; an entry not for ever."""
    void = [piece for piece in copy.slices if piece.void]
    if not void:
        return True
    if len(void) >= _MOST_FAILED_PLACINGS and not exits:
        scene.desk.skip(copy, SkipReason.RATE_BUDGET, f"{len(void)} attempts never reached the broker")
        return False
    pause = timedelta(seconds=RETRY_PAUSES[min(len(void) - 1, len(RETRY_PAUSES) - 1)])
    if scene.at < void[-1].placed_at + pause:
        scene.wake(void[-1].placed_at + pause)
        return False
    return True


def _is_fresh(scene: Scene, order: LeaderOrder, copy: Copy) -> bool:
    """Judge an entry once more that could not be sent at once."""
    most = rules_of(scene.state).max_age_seconds
    if (exposure.is_immediate(order) or order.known.is_done) and age_of(scene, order) > most:
        scene.desk.skip(copy, SkipReason.STALE, f"it could not be sent within {most} s")
        scene.wake(scene.at + _SOON)  # what it was to close as well is a sweep's from now on
        return False
    return True


def _place_rest(scene: Scene, order: LeaderOrder, copy: Copy, total: _Total, largest: int) -> list[Want]:
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
