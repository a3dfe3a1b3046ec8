"""What an order book and the positions say, read wholly; and orders taken for ours at the operator's word."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core import capital, closed_twice, copied_position, exposure, left_late, targets
from copytrader.core.copies import Key, Slice
from copytrader.core.days import turn_day
from copytrader.core.facts import Adopted, BookRead, Level, Role, Source
from copytrader.core.follower_orders import see_follower
from copytrader.core.hours import first_opening, is_open
from copytrader.core.in_force import whole_second
from copytrader.core.model import LEADER, Order, Position
from copytrader.core.news import News
from copytrader.core.outcomes import count_loss
from copytrader.core.sightings import see
from copytrader.core.state import Account, Holding, Share, State

OPENING = timedelta(minutes=1)
"""So long after the market opens, positions are still not relied on."""
READ_APART = timedelta(seconds=3)
"""Two readings that are to prove something lie so far apart."""
TOLD_WITHIN = timedelta(seconds=25)
"""A row of the order book may show an order as working for so long after it has traded; the positions may have it."""


def read_book(state: State, book: BookRead, at: datetime, news: News) -> None:
    turn_day(state, at, news)
    for order in book.orders:
        see(state, book.account, order, Source.BOOK, at, news)
    if book.funds is not None:
        capital.take(state, book.account, book.funds, at)
    if book.account == LEADER:
        _read_leader(state, book, at, news)
    elif book.account in state.accounts:
        _read_follower(state, state.accounts[book.account], book, at, news)


def _read_leader(state: State, book: BookRead, at: datetime, news: News) -> None:
    if not state.leader_ready:
        _note_missed(state)
    state.leader_ready = True
    if book.positions is not None:
        rows = {Key(each.security, each.product): each for each in book.positions}
        for key in rows:
            state.holding(key)
        for key, holding in state.holdings.items():
            row = rows.get(key)
            if holding.leader_net is None:
                _begin(holding, row.net_quantity - _untold(state, key, row) if row is not None else 0)
            elif key.product in exposure.DELIVERED:
                _read_delivered(state, holding, row, book.holdings, at, news)
            else:
                _read_net(state, holding, row.net_quantity if row is not None else 0, at)
            _reckon_adopted(state, holding, row.net_quantity if row is not None else 0)
        state.positions_known = True
    for key, holding in state.holdings.items():
        for order in sorted(holding.active.values(), key=lambda each: each.turn):
            exposure.classify(holding, order)
        for name in state.accounts:
            news.touch(key, name)


def _note_missed(state: State) -> None:
    """What was placed and has traded before anybody looked is no entry any more: its price is gone."""
    assert state.began is not None, "a run begins before it reads"
    began = whole_second(state.began)
    for holding in state.holdings.values():
        for order in holding.active.values():
            order.missed = order.known.is_done and (order.known.placed_at or began) < began


def _read_net(state: State, holding: Holding, net: int, at: datetime) -> None:
    """Take less than was known only when it is read twice: no order explains it, and what follows cannot be undone.

    A reading that is behind the fills is so for a moment: the second counts when it comes a while after the first.
    While the market is closed nothing less counts, however often it is read.
    """
    before = holding.leader_net or 0
    is_less = abs(net) < abs(before) or net * before < 0
    if is_less and not _trades_now(state, holding, at - OPENING):
        holding.doubted = None
        return
    is_ahead = not is_less and _may_be_told_yet(holding, net - before)
    is_less = is_less or is_ahead
    if is_less and holding.doubted is None and any(share.copied or share.open for share in holding.shares.values()):
        holding.doubted, holding.doubted_at = net, at
        state.ask_books.add(LEADER)
        return
    apart = TOLD_WITHIN if is_ahead else READ_APART
    if is_less and exposure.awaits_reading(holding) and at < (holding.doubted_at or at) + apart:
        return
    holding.doubted = None
    _take(state, holding, net)


def _take(state: State, holding: Holding, net: int) -> None:
    """Take the leader's position as it was read: what it got out of, nobody has heard of."""
    before = left_late.look(holding) if left_late.is_off(state) else {}
    exposure.set_leader_position(holding, net)
    left_late.leave(state, holding, before)


def _may_be_told_yet(holding: Holding, change: int) -> bool:
    """Whether a working order of the leader may have filled so much, and its news still be under way."""
    sign = 1 if change > 0 else -1
    working = (each.known for each in holding.active.values() if not each.known.is_done)
    return 0 < abs(change) <= sum(known.remaining for known in working if known.ticket.side.sign == sign)


def _untold(state: State, key: Key, row: Position) -> int:
    """What of the leader's position working orders have opened, though the order book does not tell it yet; signed."""
    orders = [each.known for each in state.orders.values() if each.key == key]
    untold = 0
    for sign, traded in ((1, row.day_bought), (-1, row.day_sold)):
        side = [known for known in orders if known.ticket.side.sign == sign]
        more = traded - sum(known.filled_quantity for known in side)
        if 0 < more <= sum(known.remaining for known in side):
            untold += sign * more
    return untold


def _read_delivered(
    state: State, holding: Holding, row: Position | None, holdings: bool, at: datetime, news: News
) -> None:
    """Take less than was known only from a row that shows all of it: shares that no reading shows may be there still.

    The demat account names neither the exchange nor the margin that shares were bought with.  Where no follower
    holds any from copying, nothing is sold for it, and every reading is good.
    """
    net, before = max(row.net_quantity, 0) if row is not None else 0, holding.leader_net or 0
    held = any(share.copied or share.open for share in holding.shares.values())
    if held and net != before and not _trades_now(state, holding, at - OPENING):
        return
    if net >= before or (row is not None and row.whole) or (holdings and not held):
        holding.doubted = None
        _take(state, holding, net)
    elif held and holding.doubted is None:
        holding.doubted = net
        symbol, product = state.named(holding.key.security), holding.key.product
        text = (
            f"{symbol}: of {before} {product} the leader's account shows {net}, which need not be all: they count as "
            "held; where the leader has sold them, sell the followers' by hand"
        )
        news.alert(Level.WARNING, text, LEADER, f"carried-{symbol}-{product}")


def _begin(holding: Holding, net: int) -> None:
    """Learn the leader's position for the first time: go back behind the fills we know, and replay them."""
    orders = sorted(holding.active.values(), key=lambda each: each.turn)
    holding.leader_net = net - sum(each.known.ticket.side.sign * each.known.filled_quantity for each in orders)
    if holding.key.product in exposure.DELIVERED:
        holding.leader_net = max(holding.leader_net, 0)
    holding.before = holding.leader_net
    for order in orders:
        if order.known.filled_quantity:
            exposure.classify(holding, order)
            exposure.fill_leader(holding, order, order.known.filled_quantity)


def _reckon_adopted(state: State, holding: Holding, net: int) -> None:
    """Reckon what is due where orders were adopted before the leader's position was known.

    Fills of the leader that are learnt afterwards say nothing of it, for what was adopted is what is left of the
    copies already: nothing of it is too much while the leader holds.  From then on it is due like any other.
    """
    if exposure.awaits_reading(holding):
        return
    for share in holding.shares.values():
        if share.unreckoned:
            share.unreckoned = False
            share.due = _due_of_adopted(share, holding.leader_net or 0) or _due_of_adopted(share, net)
            _cover(holding, share)
            left_late.leave_adopted(state, share)


def _due_of_adopted(share: Share, net: int) -> int:
    return share.copied if net * share.copied > 0 else 0


def _cover(holding: Holding, share: Share) -> None:
    """What was adopted is the follower's part of all that the leader has: no entry of it was missed."""
    if share.due:
        share.covers = targets.standing(holding)


def _read_follower(state: State, account: Account, book: BookRead, at: datetime, news: News) -> None:
    name = account.follower.name
    account.ready, account.read_at = True, at
    for holding in state.holdings.values():
        if name in holding.shares:
            copied_position.prove(holding.shares[name], at)
    if book.positions is not None:
        rows = {Key(each.security, each.product): each for each in book.positions}
        for key in rows:
            state.share(state.holding(key), name)
        for key, holding in state.holdings.items():
            if name in holding.shares:
                _set_net(state, account, holding, rows.get(key), book.holdings, at, news)
        account.positions_known = True
        profit = sum((each.realized + each.unrealized for each in book.positions), Decimal(0))
        if _is_of_today(state, at):
            count_loss(account, -profit, at, news)
    for key in state.holdings:
        news.touch(key, name)


def _is_of_today(state: State, at: datetime) -> bool:
    """Whether positions show today's profit: in the night a broker may still show yesterday's."""
    assert state.desk is not None
    return not state.desk.rules.enforce_hours or at >= first_opening(state.desk.calendar, at)


def _set_net(
    state: State, account: Account, holding: Holding, row: Position | None, holdings: bool, at: datetime, news: News
) -> None:
    share = holding.shares[account.follower.name]
    copied, before, net = share.left, share.net, row.net_quantity if row is not None else 0
    if holding.key.product in exposure.DELIVERED:
        is_all = row is not None and row.whole
        share.net = net if is_all or (holdings and not share.copied) else None
        share.closed_twice = 0  # nobody can sell shares twice
        return
    is_relied_on = _trades_now(state, holding, at - OPENING)
    if not is_relied_on:
        share.gone_at = None
    elif share.carried and copied_position.miss_overnight(share, net, at, READ_APART):
        state.ask_books.add(account.follower.name)
    copied_position.note_ahead(share, 0 if before is None else net - before, at)
    is_sure = share.gone_at is None and (is_relied_on or share.against > 0)
    missing = copied_position.set_follower_position(share, net)
    symbol = state.named(holding.key.security)
    text = f"{share.follower}: {symbol}: holds {net} at the broker but {copied} from copying: somebody traded by hand"
    _say_missing(share, text if missing and is_sure else "", f"own-trade-{share.follower}-{symbol}", news)
    if share.closed_twice:
        if is_relied_on:
            closed_twice.forget(share, at)
        closed_twice.say(state, holding, share, news)


def _say_missing(share: Share, text: str, key: str, news: News) -> None:
    """Alert what is not there of a copied position, and not again until something else is to be said of it."""
    if text and share.alerted.get(key) != text:
        news.alert(Level.WARNING, text, share.follower, key)
    share.alerted[key] = text


def _trades_now(state: State, holding: Holding, at: datetime) -> bool:
    """Whether positions can be relied on: in the night a broker may show none for hours."""
    assert state.desk is not None
    if not state.desk.rules.enforce_hours:
        return True
    return is_open(state.desk.calendar, holding.key.security.exchange_segment, at).is_open


def adopt(state: State, event: Adopted, at: datetime, news: News) -> None:
    """Take orders with our prefix for ours: their fills are copied, the open ones are cancelled."""
    account = state.accounts.get(event.account)
    if account is None:
        return
    for order in event.orders:
        _take_over(state, account, order, at, news)
    for key in dict.fromkeys(Key(order.ticket.security, order.ticket.product) for order in event.orders):
        _make_due(state, state.holding(key), state.share(state.holding(key), event.account))


def _take_over(state: State, account: Account, order: Order, at: datetime, news: News) -> None:
    name, key = account.follower.name, Key(order.ticket.security, order.ticket.product)
    share = state.share(state.holding(key), name)
    held = share.copied * order.ticket.side.sign < 0
    role = Role.EXIT if held else Role.ENTRY
    piece = Slice(name, "", key, None, order.correlation_id, order.ticket, role, at, in_flight=None)
    piece.detached = piece.cancelling = True
    account.strays.pop(order.order_id, None)
    account.adopted[order.correlation_id] = order.order_id
    filled = account.foreign_filled.pop(order.order_id, 0)
    state.slices[order.correlation_id] = piece
    share.open[order.correlation_id] = piece
    account.open[order.correlation_id] = piece
    copied_position.take_back_by_hand(share, order.ticket.side.sign, filled)
    see_follower(state, account, order, Source.BOOK, at, news)


def _make_due(state: State, holding: Holding, share: Share) -> None:
    """Make what was adopted due while the leader holds; once its position is known, where it is not yet."""
    net = holding.leader_net
    share.due = share.copied if net is None else _due_of_adopted(share, net)
    share.unreckoned = not state.leader_ready or net is None or exposure.awaits_reading(holding)
    if not share.unreckoned:
        _cover(holding, share)
        left_late.leave_adopted(state, share)
