"""An exit of ours and an order of the account's own have closed the same copied position: it stands on the other side.

Where both are at the broker nobody can keep them apart: a person gets out by hand in the second in which the leader
does, or has a stop of its own beside the copied one.  Nothing is traded to undo it, for the person may have wanted
that: it is said, at once, and shown until it is over.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from copytrader.core.copies import Key
from copytrader.core.exposure import DELIVERED
from copytrader.core.facts import Level
from copytrader.core.news import News
from copytrader.core.state import Account, Holding, Share, State

UNAWARE_FOR = timedelta(seconds=5)
"""So long after a fill an order may still be placed without knowing of it, by a person or by the broker's clock."""
RESTS_AFTER = timedelta(seconds=5)
"""An order of the account's own that has not traded so long after it was seen rests."""
SHOWN_WITHIN = timedelta(seconds=25)
"""Positions that still do not show it so long after will not show it."""


def note_exit(share: Share, sign: int, closes: int, at: datetime) -> None:
    """Note what a fill of ours, about to be applied, closes, and what of that was closed by hand already.

    While the broker's position is not known, whatever the person has traded that way may have been that.
    """
    if not closes:
        return
    left, by_hand = abs(share.left), share.by_hand
    if share.net is None:
        left, by_hand = max(left - share.against, 0), by_hand + share.against
    share.exited = max(share.exited * sign, 0) * sign + sign * closes
    share.exited_at = at
    _add(share, sign, min(max(closes - left, 0), by_hand), at)


def note_begun(share: Share, before: int, placed_at: datetime) -> None:
    """Note when the first order of the copied position was placed; `before` is what was copied before its fill."""
    if share.copied and share.copied * before <= 0:
        share.begun_at = placed_at


def note_own(share: Share, sign: int, quantity: int, own: int | None, placed_at: datetime, at: datetime) -> None:
    """Note what a fill of the account's own, just applied, closes twice; `own` is what the account had before it.

    Only an order that was placed while the position was there, before our exit had filled, was meant to close the same;
    any other is meant as it is, and where a later one goes on the same way, so is what was closed twice.
    """
    twice_at = share.closed_twice_at
    if share.closed_twice * sign > 0 and twice_at is not None and placed_at > twice_at + UNAWARE_FOR:
        share.closed_twice = 0
    elif share.exited * sign > 0 and _was_meant_to_close(share, placed_at):
        beyond = min(_beyond(share, sign, quantity, own), (share.exited - share.closed_twice) * sign)
        _add(share, sign, max(beyond, 0), at)


def _was_meant_to_close(share: Share, placed_at: datetime) -> bool:
    """Whether an order was placed while there was something copied to close, as far as whoever placed it could know."""
    if share.begun_at is not None and placed_at < share.begun_at - UNAWARE_FOR:
        return False
    return share.exited_at is not None and placed_at <= share.exited_at + UNAWARE_FOR


def _beyond(share: Share, sign: int, quantity: int, own: int | None) -> int:
    """What of a fill opens on the other side of what was copied, where the account had nothing of its own there."""
    if own is None or share.own is None:
        return 0 if share.left * sign < 0 else quantity
    before, after = (own - share.closed_twice) * sign, (share.own - share.closed_twice) * sign
    return max(after, 0) if before <= 0 else 0


def _add(share: Share, sign: int, quantity: int, at: datetime) -> None:
    if quantity:
        share.closed_twice += sign * quantity
        share.closed_twice_at = at


def forget(share: Share, at: datetime) -> None:
    """Let go what a reading of the positions does not show any more."""
    if share.closed_twice_at is not None and at >= share.closed_twice_at + SHOWN_WITHIN:
        share.closed_twice = share.turned


def say(state: State, holding: Holding, share: Share, news: News) -> None:
    """Alert that it has happened, and not again unless it has become more.

    An order of ours that the broker has not named yet may be the one that was taken for the account's own.
    """
    symbol, name = state.named(holding.key.security), share.follower
    key, turned = f"closed-twice-{name}-{symbol}-{holding.key.product}", share.turned
    if not share.closed_twice or holding.key.product in DELIVERED:
        share.alerted.pop(key, None)
        return
    if any(not piece.order_id and piece.asked.side.sign * turned > 0 for piece in share.open.values()):
        return
    if abs(turned) <= abs(int(share.alerted.get(key, "0"))):
        return
    share.alerted[key] = str(turned)
    text = (
        f"{name}: {symbol}: an exit of ours and an order of the account's own have closed the same copied position: "
        f"beside what is copied it holds {turned:+} by that, and shows {share.net:+} in all; "
        "nothing is sent to undo it: close it by hand, unless it is wanted"
    )
    news.alert(Level.CRITICAL, text, name, key)


def rests_beside(key: Key, account: Account, share: Share) -> tuple[str, datetime] | None:
    """Find an order of the account's own that would, together with an exit of ours, close more than is held.

    Returns its number, and when it was seen first.
    """
    for order_id, ticket in account.foreign_open.items():
        if (ticket.security, ticket.product) != (key.security, key.product) or share.net is None or share.own is None:
            continue
        sign, held = ticket.side.sign, -share.net * ticket.side.sign
        if held <= 0 or share.left * sign >= 0 or share.own * sign > 0:
            continue
        works, exits = ticket.quantity - account.foreign_filled.get(order_id, 0), _largest_exit(share, sign)
        if works > 0 and exits > 0 and works + exits > held:
            return order_id, account.foreign[order_id][1]
    return None


def _largest_exit(share: Share, sign: int) -> int:
    """What the largest of our exits on a side still closes: of a stop loss and a target only one does.

    One that the broker has not named yet may be the very order that is taken for the account's own.
    """
    exits = (piece for piece in share.open.values() if piece.order_id and piece.asked.side.sign == sign)
    return max((piece.remaining - piece.may_open for piece in exits), default=0)
