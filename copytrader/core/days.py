"""The process, the day and the operator: what starts, ends, stops and goes on."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal

from copytrader.core import capital, exposure, fixing, left_late, left_out
from copytrader.core.copies import LeaderOrder, Slice, copy_of
from copytrader.core.facts import Ended, Level, Skip, Started, Verb
from copytrader.core.hours import holidays_unknown, session_day
from copytrader.core.model import IST, LEADER, Desk, OrderStatus, Product, SkipReason, Ticket, day_of
from copytrader.core.news import News
from copytrader.core.outcomes import close_piece
from copytrader.core.state import Account, Holding, State

_CARRIED = frozenset({Product.CNC, Product.MARGIN, Product.MTF})


def start(state: State, event: Started, at: datetime, news: News) -> None:
    state.desk, state.dry_run, state.copying = event.desk, event.dry_run, event.copying
    state.began, state.leader_ready, state.leader_blocked = at, False, False
    state.wakes.clear()
    state.waking.clear()
    state.ask_books.clear()
    for follower in event.desk.followers:
        account = state.accounts.get(follower.name)
        if account is None or account.follower.client_id != follower.client_id:
            if account is not None:
                _forget_account(state, account, news)
            state.accounts[follower.name] = Account(follower)
        else:
            account.follower, account.ready, account.blocked = follower, False, None
    for name in set(state.accounts) - {follower.name for follower in event.desk.followers}:
        state.accounts[name].ready = False
    for account in state.accounts.values():
        for piece in account.open.values():
            if piece.copy is None:
                continue
            holding, order = state.holding(piece.key), piece.copy.leader
            if piece.leader_order_id not in holding.active:  # let go while the follower was left out
                holding.active[piece.leader_order_id] = order
                left = max((holding.leader_net or 0) * order.known.ticket.side.sign, 0)
                order.standing = min(order.standing, left)
    for holding in state.holdings.values():
        for order in holding.active.values():
            for name in state.accounts:
                copy_of(order, name)
                state.share(holding, name)
    for account in state.accounts.values():
        for piece in account.open.values():
            piece.unknown = piece.unknown or (piece.in_flight is Verb.PLACE and piece.known is None)
            if piece.in_flight is Verb.MODIFY:
                piece.maybe.append(piece.asked_before[-1])
            piece.in_flight, piece.retry_at, piece.tries = None, None, 0
            piece.follows = None
    for holding in state.holdings.values():
        for share in holding.shares.values():
            share.net, share.excess_since = None, None
            if not left_late.is_off(state):
                share.left_late = 0
            share.alerted.clear()
            share.fixes.clear()
    for account in state.accounts.values():
        account.positions_known = False
        account.exhausted_said.clear()
        account.unreached, account.unreached_since, account.unreached_said = 0, None, None
    turn_day(state, at, news)
    if state.copying:
        _say_left_out(state, news)


def _say_left_out(state: State, news: News) -> None:
    for name, has in left_out.left_out(state).items():
        text = (
            f"{name} is left out of the configuration, and {has}: nobody looks after that; "
            "enable it again, or close that by hand"
        )
        news.alert(Level.CRITICAL, text, name, f"left-out-{name}")


def _forget_account(state: State, account: Account, news: News) -> None:
    """The name stands for another account from now on, which holds and has open nothing of the old one's."""
    name, held = account.follower.name, len(account.open)
    for holding in state.holdings.values():
        share = holding.shares.pop(name, None)
        held += bool(share is not None and share.left)
    for order in state.orders.values():
        order.copies.pop(name, None)
    state.slices = {key: each for key, each in state.slices.items() if each.follower != name}
    state.by_order_id = {key: each for key, each in state.by_order_id.items() if each.follower != name}
    if held:
        text = f"{name} is another account now; what client {account.follower.client_id} holds or has open from copying"
        news.alert(Level.CRITICAL, f"{text} is looked after no longer", name, f"account-{name}")


def renamed(state: State, desk: Desk, at: datetime) -> list[tuple[str, str, str]]:
    """Find followers whose accounts are known by another name, under which they still have something from copying.

    The name that is to be, the one that was, and what it has; the state stays as it is.
    """
    names = [
        (follower.name, name)
        for follower in desk.followers
        for name, account in state.accounts.items()
        if account.follower.client_id == follower.client_id and name != follower.name
    ]
    if not names:
        return []
    today = state.copy()
    turn_day(today, at, News())
    return [(new, old, has) for new, old in names if (has := left_out.what(today, old))]


def turn_day(state: State, at: datetime, news: News) -> None:
    """On a new trade date yesterday's orders are over, and what happened to them is what the books said."""
    day = day_of(at)
    if state.day is not None and day <= state.day:
        return
    _say_unknown_holidays(state, day, news)
    if state.day is None:
        state.day = day
        return
    state.day = day
    capital.forget(state)
    over = {(LEADER, order_id) for order_id in state.orders} | state.by_order_id.keys()
    for account in state.accounts.values():
        over |= {(account.follower.name, order_id) for order_id in (*account.foreign, *account.foreign_filled)}
        account.foreign.clear()
        account.foreign_open.clear()
        account.foreign_filled.clear()
        account.strays.clear()
        account.adopted.clear()
        for piece in list(account.open.values()):
            _expire_piece(state, account, piece, news)
    staying = {order_id for order_id, each in state.orders.items() if _outlives(state, each)}
    for holding in state.holdings.values():
        holding.doubted = None
        holding.active = {key: each for key, each in holding.active.items() if key in staying}
        if holding.key.product not in _CARRIED:
            _forget_position(holding)
        for share in holding.shares.values():
            share.carried, share.gone_at = abs(share.left), None
            share.sweeps_failed, share.sweeps_void, share.no_market = 0, 0, False
    state.holdings = {key: each for key, each in state.holdings.items() if not _is_idle(each)}
    state.orders = {key: each for key, each in state.orders.items() if key in staying}
    state.slices = {key: each for key, each in state.slices.items() if each.is_open}
    state.by_order_id = {key: each for key, each in state.by_order_id.items() if each.is_open}
    over -= {(LEADER, order_id) for order_id in staying} | state.by_order_id.keys()
    state.bygone = over or state.bygone


def _say_unknown_holidays(state: State, day: date, news: News) -> None:
    if state.desk is None or not state.desk.rules.enforce_hours:
        return
    unknown = holidays_unknown(state.desk.calendar, day)
    if unknown:
        text = f"{unknown}, until a file that copy.calendar names says otherwise (docs/journal.md)"
        news.alert(Level.WARNING, text, key=f"calendar-{day.year}")


def _forget_position(holding: Holding) -> None:
    """What is held for a day only was closed by the broker with the day."""
    if holding.leader_net is not None:
        holding.leader_net = 0
    holding.before = 0
    for share in holding.shares.values():
        share.copied, share.due, share.covers, share.average = 0, 0, 0, Decimal(0)
        share.net = 0 if share.net is not None else None
        share.carry, share.carry_side, share.flatten = Decimal(0), None, False
        share.against = share.by_hand = share.overtaken = share.exited = share.closed_twice = 0
        share.left_late = 0
        share.overtaken_at = share.exited_at = share.closed_twice_at = None


def _is_idle(holding: Holding) -> bool:
    shares = holding.shares.values()
    return (
        not holding.active
        and not holding.leader_net
        and not any(share.left or share.open or share.closed_twice for share in shares)
    )


def _outlives(state: State, order: LeaderOrder) -> bool:
    """Whether an after-market order is not over with its day, and it works or a copy of it does."""
    known = order.known
    if not known.ticket.after_market or not _is_for_later(state, known.ticket, known.placed_at or order.first_seen):
        return False
    return not known.is_done or any(copy.is_open for copy in order.copies.values())


def _is_for_later(state: State, ticket: Ticket, placed_at: datetime) -> bool:
    """Whether its session, or the one after it, is still to come: the calendar may not know of a holiday."""
    assert state.desk is not None
    assert state.day is not None
    calendar, segment = state.desk.calendar, ticket.security.exchange_segment
    first = session_day(calendar, segment, placed_at)
    following = datetime.combine(first + timedelta(days=1), time(), IST)
    return session_day(calendar, segment, following) >= state.day


def _expire_piece(state: State, account: Account, piece: Slice, news: News) -> None:
    if piece.asked.after_market and not piece.unknown and _is_for_later(state, piece.asked, piece.placed_at):
        return
    unknown = piece.unknown
    if not unknown and _may_have_filled(state, account, piece):
        _say_unseen(state, account, piece, news)
    close_piece(state, account, piece, OrderStatus.EXPIRED)
    news.notes.append(
        Ended(
            piece.follower,
            piece.leader_order_id,
            piece.order_id,
            piece.correlation_id,
            OrderStatus.EXPIRED,
            piece.filled,
        )
    )
    if unknown:
        detail = "its outcome was unknown when the day's book was closed; look at the account by hand"
        news.notes.append(Skip(piece.follower, piece.leader_order_id, SkipReason.ABSENT, detail, piece.correlation_id))
        news.alert(Level.CRITICAL, f"{piece.follower}: order {piece.correlation_id}: {detail}", piece.follower)


def _may_have_filled(state: State, account: Account, piece: Slice) -> bool:
    """Whether an entry that was open when its book was last read may have filled after that, into today."""
    if piece.key.product not in _CARRIED or not piece.may_open or state.dry_run:
        return False
    assert state.desk is not None
    assert state.day is not None
    looked = _last_look(account, piece)
    return session_day(state.desk.calendar, piece.key.security.exchange_segment, looked) < state.day


def _last_look(account: Account, piece: Slice) -> datetime:
    return max(account.read_at or piece.placed_at, piece.placed_at)


def _say_unseen(state: State, account: Account, piece: Slice, news: News) -> None:
    ticket, name = piece.asked, piece.follower
    what = f"{ticket.side} {piece.remaining} {state.named(piece.key.security)}"
    text = (
        f"{name}: order {piece.order_id} ({what}) was open when its book was last read, "
        f"{_last_look(account, piece):%d %b %H:%M}: whether it filled after that is not known, and what it filled is "
        "not looked after; look at the account's positions"
    )
    news.alert(Level.CRITICAL, text, name, f"unseen-{piece.correlation_id}")


def learn(state: State, security: object, news: News) -> None:
    if security in state.instruments:
        return
    for key in state.holdings:
        if key.security == security:
            for name in state.accounts:
                news.touch(key, name)


def halt(state: State, account: str | None, flatten: bool, news: News) -> None:
    for name, each in state.accounts.items():
        if account not in (None, name):
            continue
        each.halted = True
        for key, holding in state.holdings.items():
            share = holding.shares.get(name)
            if share is None:
                continue
            share.flatten = share.flatten or flatten
            share.sweeps_failed, share.sweeps_void, share.no_market = 0, 0, False
            for order in holding.active.values():
                copy = order.copies.get(name)
                if copy is not None and copy.is_open and not _gets_out_now(order):
                    copy.closed = SkipReason.HALTED
            fixing.stop_entries(share)
            news.touch(key, name)


def _gets_out_now(order: LeaderOrder) -> bool:
    """Whether the leader is out by this order, or about to be: a halt does not hold that back."""
    return order.only_exits and (order.known.is_filled or exposure.is_immediate(order))


def resume(state: State, account: str | None, news: News) -> None:
    for name, each in state.accounts.items():
        if account in (None, name):
            each.halted, each.blocked = False, None
            for key, holding in state.holdings.items():
                if name in holding.shares:
                    share = holding.shares[name]
                    share.sweeps_failed, share.sweeps_void, share.no_market, share.flatten = 0, 0, False, False
                for order in holding.active.values():
                    copy = order.copies.get(name)
                    if copy is not None and order.only_exits and copy.closed is SkipReason.HALTED:
                        copy.closed = None
                news.touch(key, name)


def unblock(state: State, name: str, news: News) -> None:
    if name == LEADER:
        state.leader_blocked = False
        for key in state.holdings:
            for follower in state.accounts:
                news.touch(key, follower)
        return
    account = state.accounts.get(name)
    if account is None or account.blocked is None:
        return
    account.blocked = None
    for piece in account.open.values():
        piece.retry_at, piece.tries = None, 0
    for key in state.holdings:
        news.touch(key, name)
