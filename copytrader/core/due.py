"""What a copy should come to in all: what it closes by what the leader gets out of, and what it may still open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from copytrader.core import exits, exposure, left_late, limits, room
from copytrader.core.copies import Copy, LeaderOrder, Slice
from copytrader.core.facts import Level
from copytrader.core.model import SkipReason
from copytrader.core.placing import may_open
from copytrader.core.scene import Scene, rules_of, say_once

_WAIT = timedelta(seconds=5)
"""So long after it was first seen, an order may wait for others before it is given a reason why it has no copy."""


@dataclass(slots=True)
class Total:
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


def total_of(scene: Scene, order: LeaderOrder, copy: Copy) -> Total:
    divided = scene.parts(order)
    is_to_be_sized = divided.opens > 0 and not copy.is_judged
    opens = _within_room(scene, order, copy)
    closes = 0
    if order.only_exits or divided.closes > 0:
        closes = _exit_total(scene, order, copy, divided, quiet=copy.units > 0 or is_to_be_sized)
    else:
        opens += copy.swept
    nothing = not opens + closes and not copy.was_sent and copy.skip is None and not is_to_be_sized
    if order.known.is_done and nothing:
        scene.desk.skip(copy, SkipReason.RATE_BUDGET, "the leader got out again while the copy waited for its turn")
    if copy.lots is not None and nothing and copy.skip is None:
        _say_no_room(scene, order, copy)
    return Total(closes, opens, closes > 0 or order.only_exits)


def _exit_total(scene: Scene, order: LeaderOrder, copy: Copy, divided: exposure.Parts, *, quiet: bool) -> int:
    if order.known.is_filled and not copy.slices and _was_swept(scene, order):
        if order.only_exits and copy.skip is None:
            scene.desk.skip(copy, SkipReason.LEADER_DONE, "too much was held, and was closed at market")
        return 0
    leaving = scene.surplus + scene.leaving(order.known.ticket.side, order)
    size = exits.exit_total(scene.holding, order, scene.share, copy, divided, scene.lot, leaving)
    said = order.known.is_filled and copy.skip is not None and not copy.slices
    if size.total <= 0 and not copy.was_sent and not quiet and not said and scene.account.blocked is None:
        _say_no_exit(scene, order, copy, size)
    if size.total > 0 and not copy.slices and _is_left(scene, order):
        scene.desk.skip(copy, SkipReason.LEADER_DONE, "the leader got out while we were not looking")
        return 0
    if order.known.is_filled or exposure.is_immediate(order):
        scene.exits.append((order, exits.not_asked_yet(copy, size.total)))
    return size.total


def _say_no_exit(scene: Scene, order: LeaderOrder, copy: Copy, size: exits.ExitSize) -> None:
    """Give an exit that comes to nothing its reason; one that waits for its entry gets none yet."""
    by_hand = min(scene.share.by_hand, abs(scene.share.copied))
    position = f"copied position {scene.share.copied}" + (f", {by_hand} of it closed by hand" if by_hand else "")
    position += f", at the broker {_or_unknown(scene.share.net)}"
    if copy.slices:
        scene.desk.skip(copy, SkipReason.RATE_BUDGET, "its placing never reached the broker")
    elif scene.surplus > 0:
        scene.desk.skip(copy, SkipReason.LEADER_DONE, f"{position}: too much is held, and is closed at market")
    elif awaits_entry(scene, order):
        return
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


def awaits_entry(scene: Scene, order: LeaderOrder) -> bool:
    """Whether an entry that a resting exit covers is itself still to be placed; not for longer than a while."""
    until = order.first_seen + _WAIT
    if exposure.is_immediate(order) or order.known.is_done or scene.at >= until:
        return False
    entries = exposure.entries_before(scene.holding, order)
    copies = [entry.copies[scene.name] for entry in entries if scene.name in entry.copies]
    if not any(copy.waiting or not copy.is_judged for copy in copies):
        return False
    scene.wake(until)
    return True


def _is_left(scene: Scene, order: LeaderOrder) -> bool:
    """Whether the leader had got out before anybody heard of it, and late exits are off."""
    was_unheard = left_late.was_unheard(rules_of(scene.state), order.filled_at, order.traded_at)
    return was_unheard and left_late.is_off(scene.state)


def _say_no_room(scene: Scene, order: LeaderOrder, copy: Copy) -> None:
    """Give an order that works without a copy its reason; it is placed nevertheless once there is room for it."""
    since = order.first_seen + _WAIT
    if scene.at < since:
        scene.wake(since)
        return
    held = f"{float(scene.share.due):g} due, {scene.share.copied} held"
    text = f"{copy.units} more would be too much" if copy.units else "there is nothing to close, and no lot to open"
    scene.desk.skip(copy, SkipReason.BELOW_ONE_LOT, f"the leader has got out of a part meanwhile: {held}; {text}")


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

    An order that is over takes no more than what still stands of it, and leaves the rest to those that work.  Once
    the day's loss has reached its limit, what has not opened yet does not.
    """
    opened, sign = copy.opened, order.known.ticket.side.sign
    most = copy.units - copy.gone
    over = limits.over_daily_loss(scene.account, scene.at) if copy.slices else None
    if most > opened and over is not None:
        scene.desk.skip(copy, *over)
        return opened
    if most <= opened or not scene.is_leaving(sign):
        return max(most, opened)
    if sign not in scene.room:
        leaving = scene.leaving(order.known.ticket.side.opposite)
        scene.room[sign] = room.entry_room(scene.holding, scene.share, sign, scene.lot, leaving)
    left, is_over = scene.room[sign], order.known.is_done
    if is_over and not copy.is_open and not may_open(scene, order, copy):
        return opened
    granted = min(most - opened, left.over if is_over else left.all, left.all)
    scene.room[sign] = left.without(granted, is_over=is_over)
    return opened + granted
