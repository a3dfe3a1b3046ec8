"""What entries have closed instead of opening, because of news that came late: later orders open it again.

Where none may any more, it is said how much less is held than is due.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from copytrader.core import copied_position, exposure, room
from copytrader.core.copies import LeaderOrder
from copytrader.core.facts import Level
from copytrader.core.limits import over_daily_loss
from copytrader.core.model import Side
from copytrader.core.news import News
from copytrader.core.state import Account, Holding, Share, State


def make_good(
    state: State, account: Account, share: Share, entry: LeaderOrder, quantity: int, at: datetime, news: News
) -> None:
    """An entry has closed something instead: it was heard late that one of two orders, on either side, had filled."""
    lacking = {side: _lacking(state.holding(entry.key), share, side) for side in Side}
    left = _open_again(state, account, entry, quantity, lacking, at)
    if left > 0:
        _say_lacking(state, account, entry, "an entry was heard of late", left, news)


def make_good_ahead(state: State, entry: LeaderOrder, at: datetime, news: News) -> None:
    """The leader's order has died, and followers have filled more of it than the leader.

    Where the leader has turned meanwhile, its later orders on the other side have closed that, and opened less.
    """
    holding, side = state.holding(entry.key), entry.known.ticket.side.opposite
    served = {each.name for each in state.desk.followers} if state.desk is not None else set()
    for name, copy in entry.copies.items():
        ahead = int(room.ahead_of_leader(entry, copy)) + copy.too_much if name in served else 0
        lacking = _lacking(holding, state.share(holding, name), side) if ahead else 0
        if lacking <= 0:
            continue
        account = state.accounts[name]
        left = _open_again(state, account, entry, ahead, {side: lacking}, at)
        if left > 0:
            why = f"{entry.known.order_id} is over, and what had filled of its copy has closed what opened since"
            _say_lacking(state, account, entry, why, left, news)


def _open_again(
    state: State, account: Account, entry: LeaderOrder, quantity: int, lacking: dict[Side, int], at: datetime
) -> int:
    """Let later orders open again what an entry has closed of them; return what is lacking nevertheless.

    As far as it is due, that part was the later order's to close, and it is to open as much still, while it is fresh.
    What is due is certain only where the leader's entries are known to have filled as far as the follower's have.
    Once entries have stopped, by a halt or the day's loss, nothing is opened again.
    """
    assert state.desk is not None
    holding, since = state.holding(entry.key), at - timedelta(seconds=state.desk.rules.max_age_seconds)
    stopped = account.halted or over_daily_loss(account, at) is not None
    for order in reversed(state.orders.values()):
        copy = order.copies.get(account.follower.name) if not order.known.is_dead else None
        is_later = order is entry or (
            order.number > entry.number and order.known.ticket.side is not entry.known.ticket.side
        )
        if copy is None or order.key != entry.key or not is_later or stopped or order.first_seen < since:
            continue
        side = order.known.ticket.side
        back = min(copy.opened, quantity, lacking.get(side, 0))
        if back > 0:
            if entry.known.is_dead and not exposure.parts(holding, order).closes:
                copy.swept += back  # its size is what the leader's opens: that alone would not ask for it once more
            else:
                copy.reduced += back
            lacking[side] -= back
            quantity -= back
            holding.active[order.known.order_id] = order
    return min(quantity, max(lacking.values()))


def _say_lacking(state: State, account: Account, entry: LeaderOrder, why: str, quantity: int, news: News) -> None:
    name = account.follower.name
    text = f"{name}: {state.named(entry.key.security)}: {why}, and {quantity} fewer are held than are due; "
    text += "`copytrader reconcile --fix` makes it good"
    news.alert(Level.WARNING, text, name, f"heard-late-{entry.known.order_id}")


def _lacking(holding: Holding, share: Share, side: Side) -> int:
    """What is due on a side, and neither held nor on its way, nor closed by what the leader may not have yet."""
    coming = sum(piece.remaining for piece in share.open.values() if piece.asked.side is side)
    for order in holding.active.values():
        copy = order.copies.get(share.follower)
        if copy is not None and order.known.ticket.side is side:
            coming += copy.waiting
        elif copy is not None and not order.known.is_done:
            coming += copy.filled
    return int(copied_position.due_in(share, side.sign)) - max(share.copied * side.sign, 0) - coming
