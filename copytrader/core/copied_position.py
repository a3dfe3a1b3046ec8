"""What a follower holds from copying: its fills, what the person does by hand beside them, what is still there."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core import closed_twice
from copytrader.core.exposure import DELIVERED
from copytrader.core.model import ZERO, Side, Units
from copytrader.core.state import Holding, Share

PROOF_AFTER = timedelta(seconds=1)
"""A reading that ends so long after a fill was told began after it."""


AHEAD_FOR = timedelta(seconds=25)
"""A fill may be told so long after positions have shown it."""


def fill_follower(share: Share, sign: int, quantity: int, price: Decimal, closes: int, at: datetime) -> Decimal:
    """Apply a fill of an order of ours, meant to close so much; return what it realised per unit of multiplier.

    News of two orders may change places: an exit that closes more than is held proves that an entry has filled.
    """
    if share.copied * sign < 0:
        _retire(share, sign, quantity - closes, closes)
        closed_twice.note_exit(share, sign, closes, at)
    before = share.copied
    reduces = min(quantity, abs(before)) if before * sign < 0 else 0
    realized = ZERO
    if reduces and price and share.average:
        realized = (price - share.average) * reduces * (1 if before > 0 else -1)
    share.carried = max(share.carried - reduces, 0)
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
    if reduces:
        trim_left_late(share)
    return realized


def _retire(share: Share, sign: int, opens: int, closes: int) -> None:
    """Let go what the person has closed by hand, where a fill goes beyond what is left: it opens on the other side.

    An exit goes beyond it when it fills before the entry that it covers, which still works.
    """
    left = abs(share.left)
    if share.by_hand and (opens > max(left - closes, 0) or (closes > left and share.entering(-sign))):
        share.copied -= share.by_hand if share.copied > 0 else -share.by_hand
        share.by_hand = 0


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


def take_back_by_hand(share: Share, sign: int, quantity: int) -> None:
    """Undo what a fill that was none of the person's made of the share."""
    if share.copied * sign < 0:
        closed = min(quantity, share.by_hand)
        share.by_hand -= closed
        share.against = max(share.against - (quantity - closed), 0)
    if share.net is not None:
        share.net -= sign * quantity


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


def note_ahead(share: Share, change: int, at: datetime) -> None:
    """Note what of a reading our open orders may have filled though their news is still to come: it counts once."""
    sign = 1 if change > 0 else -1
    coming = sum(piece.remaining for piece in share.open.values() if piece.asked.side.sign == sign)
    if change:
        share.ahead = change if abs(change) <= coming else 0
        share.ahead_at = at


def tell_ahead(share: Share, sign: int, quantity: int, at: datetime) -> None:
    """Take off the broker's position what a reading has had before the fill was told."""
    if share.ahead_at is None or at >= share.ahead_at + AHEAD_FOR or share.net is None:
        share.ahead = 0
    had = min(quantity, max(share.ahead * sign, 0))
    if had and share.net is not None:
        share.net -= sign * had
        share.ahead -= sign * had


def miss_overnight(share: Share, net: int, at: datetime, apart: timedelta) -> bool:
    """Count as closed by the person what was carried over from the day before and two readings do not show.

    Tell whether a second reading is asked for.  One that shows all of it ends the question for the day.
    """
    sign = 1 if share.copied > 0 else -1
    missing = min(max(abs(share.left) - max(net * sign, 0), 0), share.carried)
    if not missing:
        share.carried, share.gone_at = 0, None
        return False
    if share.gone_at is None:
        share.gone_at = at
        return True
    if at < share.gone_at + apart:
        return True
    share.against = max(share.against, missing)
    share.carried, share.gone_at = 0, None
    return False


def close_by_hand(share: Share, quantity: int) -> None:
    """Count so much of the copied position as closed by the person, as far as it traded that way."""
    closed = min(quantity, share.against, abs(share.left))
    share.against -= closed
    share.by_hand += closed
    if closed:
        trim_left_late(share, closed)


def trim_left_late(share: Share, closed: int = 0) -> None:
    """Take off what is left late so much that was closed of it; what is not held any more ends."""
    sign = 1 if share.left > 0 else -1
    share.left_late = sign * min(max(share.left_late * sign - closed, 0), abs(share.left))


def held(holding: Holding, share: Share, sign: int) -> int:
    """What the follower holds on one side from copying and, as far as that is known, still at the broker."""
    copied = max(share.left * sign, 0)
    if share.net is None or holding.key.product in DELIVERED:
        return copied
    return min(copied, max(share.net * sign, 0))


def due_in(share: Share, sign: int) -> Units:
    return max(share.due * sign, 0)


def side_of(quantity: int) -> Side:
    """The side of an order that closes a position."""
    return Side.SELL if quantity > 0 else Side.BUY
