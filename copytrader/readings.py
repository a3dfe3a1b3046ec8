"""What a reading of an account's book or positions is worth, held against what the engine knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from copytrader.account import Account
from copytrader.core import hours
from copytrader.core.copies import Key
from copytrader.core.exposure import DELIVERED, awaits_reading
from copytrader.core.in_force import contradicts
from copytrader.core.merge import Known
from copytrader.core.model import LEADER, Order, OrderStatus, Position, Side
from copytrader.core.state import Holding, State

POSITIONS_EVERY = timedelta(seconds=30)
BEHIND_AT_MOST, AT_START = timedelta(seconds=60), timedelta(seconds=15)
"""Positions that show less than was filled are waited for no longer; at the start nothing is copied meanwhile."""
MAY_BE_BEHIND = timedelta(seconds=8)
"""So long after a fill, positions that do not show what was traded today are not taken for true."""
MAY_BE_AHEAD, AHEAD_AT_START = timedelta(seconds=8), timedelta(seconds=2)
"""So long a position that shows more traded today than the book has is not taken for true."""


def is_ready(state: State, account: Account) -> bool:
    """Whether the account was read once, so that something can be copied."""
    if account.name == LEADER:
        return state.leader_ready
    known = state.accounts.get(account.name)
    return known is not None and known.ready


def are_awaited(state: State, account: Account) -> bool:
    """Whether the engine waits for a book, whatever it says."""
    shares = (holding.shares.get(account.name) for holding in state.holdings.values())
    return any(share is not None and share.awaits_book for share in shares)


def leader_is_doubted(state: State) -> bool:
    """Whether the leader's positions showed less than was known, and are to be read once more."""
    return any(map(awaits_reading, state.holdings.values()))


def are_wanted(state: State, account: Account, now: datetime) -> bool:
    """Whether the positions are to be read with the book."""
    if not is_ready(state, account) or account.positions_at is None:
        return True
    if state.day is not None and account.positions_at.date() < state.day:
        return True
    if account.name == LEADER and leader_is_doubted(state):
        return True
    if account.ahead_since or account.behind_since is not None:
        return True
    if _is_missed(state, account) or _is_hidden(state, account, now):
        return True
    if _has_opened(state, account.positions_at, now):
        return True
    return now - account.positions_at >= POSITIONS_EVERY


def _has_opened(state: State, since: datetime, now: datetime) -> bool:
    """Whether a market of anything known has opened meanwhile: a broker may show nothing of what is held before."""
    if state.desk is None or not state.desk.rules.enforce_hours:
        return False
    segments = {key.security.exchange_segment for key in state.holdings}
    openings = (hours.opening(state.desk.calendar, segment, since) for segment in segments)
    return any(opens is not None and opens <= now for opens in openings)


def _is_missed(state: State, account: Account) -> bool:
    """Whether a second reading is to tell if what was carried over is gone."""
    shares = (holding.shares.get(account.name) for holding in state.holdings.values())
    return any(share is not None and share.gone_at is not None for share in shares)


def _is_hidden(state: State, account: Account, now: datetime) -> bool:
    """Whether positions do not show what was carried over, though its market has opened: they may do so any moment."""
    if state.desk is None:
        return False
    rules, calendar = state.desk.rules, state.desk.calendar
    for key, holding in state.holdings.items():
        share = holding.shares.get(account.name)
        if share is None or not share.carried or share.net is None or key.product in DELIVERED:
            continue
        sign = 1 if share.copied > 0 else -1
        is_open = not rules.enforce_hours or hours.is_open(calendar, key.security.exchange_segment, now).is_open
        if is_open and abs(share.left) > max(share.net * sign, 0):
            return True
    return False


def is_odd(state: State, account: Account, row: Order) -> bool:
    """Whether a row, though it did not change, shows our order otherwise than it should be by now, or ends a doubt."""
    piece = state.by_order_id.get((account.name, row.order_id))
    return piece is not None and piece.is_open and (piece.is_doubtful or contradicts(piece, row))


def agree_with(state: State, account: Account, positions: Sequence[Position], now: datetime) -> bool:
    """Whether the engine has the same: news of a fill that comes after a reading that had it counts twice."""
    nets = {Key(each.security, each.product): each.net_quantity for each in positions}
    if account.name == LEADER:
        return not any(
            awaits_reading(holding) or _is_known_otherwise(holding, nets.get(key, 0))
            for key, holding in state.holdings.items()
        )
    if _is_missed(state, account) or _is_hidden(state, account, now):
        return False
    shares = ((key, holding.shares.get(account.name)) for key, holding in state.holdings.items())
    return all(share is None or share.net is None or share.net == nets.get(key, 0) for key, share in shares)


def _is_known_otherwise(holding: Holding, net: int) -> bool:
    return holding.key.product not in DELIVERED and holding.leader_net not in (None, net)


def are_one(state: State, account: Account, before: Sequence[Order], after: Sequence[Order]) -> bool:
    """Whether nothing was filled between two readings, nor is the book behind what the stream told."""
    filled = {row.order_id: row.filled_quantity for row in after}
    if filled != {row.order_id: row.filled_quantity for row in before}:
        return False
    return all(filled.get(order_id, 0) >= quantity for order_id, quantity in _known_fills(state, account).items())


def are_behind(
    state: State, account: Account, rows: Sequence[Order], positions: Sequence[Position], now: datetime
) -> bool:
    """Whether positions lack a fill that the book has: Dhan makes the two apart, and they are one only after a while.

    A row that has as much as the book proves itself.  One that has less is behind; one that tells nothing of the
    day, or is not there, may be.  A position that was converted never has as much: nothing is waited for for long.
    """
    if not lack_a_fill(rows, positions, now):
        account.behind_since = None
        return False
    account.behind_since = account.behind_since or now
    if now - account.behind_since < (BEHIND_AT_MOST if is_ready(state, account) else AT_START):
        return True
    account.behind_since = None
    return False


def ahead(
    state: State, account: Account, rows: Sequence[Order], positions: Sequence[Position], now: datetime
) -> frozenset[Key]:
    """Return the holdings in which positions have a fill that the book does not tell yet: it would count twice.

    A position that was converted, or made by an order that the book does not show, has more for the whole day: after
    a while it is taken for true, and is no news any more.
    """
    most = MAY_BE_AHEAD if is_ready(state, account) else AHEAD_AT_START
    more, known = unexplained(rows, positions), account.unexplained
    since = {where: account.ahead_since.get(where, now) for where in more if more[where] > known.get(where, 0)}
    account.ahead_since = {where: at for where, at in since.items() if now - at < most}
    late = _told_lately(rows, now)
    account.unexplained = {
        **more,
        **{where: max(more[where], quantity) for where, quantity in known.items() if where in late},
        **{where: known.get(where, 0) for where in account.ahead_since},
    }
    return frozenset(key for key, _ in account.ahead_since)


def _told_lately(rows: Sequence[Order], now: datetime) -> set[tuple[Key, Side]]:
    """Where the book has a fill so new that positions may lack it: what it does not explain seems less than it is."""
    return {
        (Key(row.ticket.security, row.ticket.product), row.ticket.side)
        for row in rows
        if row.filled_quantity and (at := row.updated_at or row.placed_at) is not None and now - at < MAY_BE_BEHIND
    }


def as_known(
    state: State, account: Account, positions: Sequence[Position], doubted: frozenset[Key]
) -> tuple[Position, ...]:
    """Return positions with those in doubt as they are known already: no news, while all others count."""
    taken = []
    for each in positions:
        key = Key(each.security, each.product)
        holding = state.holdings.get(key) if key in doubted else None
        if key not in doubted:
            taken.append(each)
        elif account.name == LEADER:
            if holding is not None and holding.leader_net is not None:
                taken.append(replace(each, net_quantity=holding.leader_net))
        else:
            share = holding.shares.get(account.name) if holding is not None else None
            net = share.net if share is not None else None
            taken.append(each if net is None else replace(each, net_quantity=net))
    return tuple(taken)


def unexplained(rows: Sequence[Order], positions: Sequence[Position]) -> Counter[tuple[Key, Side]]:
    """What positions show as traded today beyond what the book's orders have filled."""
    shown = Counter[tuple[Key, Side]]()
    for each in positions:
        key = Key(each.security, each.product)
        shown[key, Side.BUY], shown[key, Side.SELL] = each.day_bought, each.day_sold
    return shown - _traded(rows)


def _traded(rows: Sequence[Order]) -> Counter[tuple[Key, Side]]:
    traded = Counter[tuple[Key, Side]]()
    for row in rows:
        filled = max(row.filled_quantity, row.ticket.quantity if row.status is OrderStatus.TRADED else 0)
        traded[Key(row.ticket.security, row.ticket.product), row.ticket.side] += filled
    return traded


def lack_a_fill(rows: Sequence[Order], positions: Sequence[Position], now: datetime) -> bool:
    """Whether positions show less traded today than the book has filled, so lately that they may come to show it."""
    traded, newest = _traded(rows), dict[Key, datetime]()
    for row in rows:
        told = row.updated_at or row.placed_at
        if told is not None and (row.filled_quantity or row.status is OrderStatus.TRADED):
            key = Key(row.ticket.security, row.ticket.product)
            newest[key] = max(told, newest.get(key, told))
    shown = {Key(each.security, each.product): each for each in positions}
    for key, at in newest.items():
        position = shown.get(key)
        bought, sold = (position.day_bought, position.day_sold) if position is not None else (0, 0)
        if bought >= traded[key, Side.BUY] and sold >= traded[key, Side.SELL]:
            continue
        if now - at < (BEHIND_AT_MOST if bought or sold else MAY_BE_BEHIND):
            return True
    return False


def misfit(state: State, account: Account, rows: Sequence[Order]) -> str:
    """Say why a reading is of no use, as far as the book shows it."""
    filled = {row.order_id: row.filled_quantity for row in rows}
    for order_id, quantity in _known_fills(state, account).items():
        if filled.get(order_id, 0) < quantity:
            has = f"has {filled[order_id]} of it" if order_id in filled else "does not have it"
            return (
                f"order {order_id} has filled {quantity} today, and the broker's book {has}; where this stays so, the "
                "journal is of another broker or account: name another in `journal`"
            )
    return "the book and the positions do not fit together yet, or a row cannot be read"


def _known_fills(state: State, account: Account) -> dict[str, int]:
    if account.name == LEADER:
        return {
            order.known.order_id: order.known.filled_quantity
            for order in state.orders.values()
            if order.known.filled_quantity and order.known.trade_date == state.day
        }
    return {
        piece.order_id: piece.filled
        for (name, _), piece in state.by_order_id.items()
        if name == account.name and piece.filled
    }


def known(state: State, rows: Sequence[Order]) -> dict[str, Known | None]:
    """Return what is known of the leader's orders in these rows."""
    orders = ((row.order_id, state.orders.get(row.order_id)) for row in rows)
    return {order_id: order.known if order is not None else None for order_id, order in orders}


def told_first(state: State, before: Mapping[str, Known | None]) -> Iterator[str]:
    """Name the leader's orders of which a reading told more than was known before it."""
    for order_id, known_before in before.items():
        order = state.orders.get(order_id)
        if order is not None and (known_before is None or _says_more(order.known, known_before)):
            yield order_id


def _says_more(now: Known, before: Known) -> bool:
    """Whether more is known than before of what a frame tells too: none has a disclosed quantity."""
    told, known = (replace(each.ticket, disclosed_quantity=0) for each in (now, before))
    return (now.filled_quantity, now.ended, told) != (before.filled_quantity, before.ended, known)
