"""How each fact changes the state, and what the broker's news means to us.

`evolve` is the only door to the state: an event or a decision goes in, the state is
changed, and the notes come out that follow from the fact alone (fills, ends, refusals,
alerts).  Nothing is decided here that sends anything.  Rebuilding the state from a
journal is `evolve` over its facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core import exposure, fixing
from copytrader.core.answers import give_up, take_answer
from copytrader.core.books import adopt, read_book
from copytrader.core.copied_position import trim_left_late
from copytrader.core.copies import Copy, Key, LeaderOrder, Slice, copy_of
from copytrader.core.days import halt, learn, resume, start, turn_day, unblock
from copytrader.core.facts import (
    Accepted,
    Adopted,
    Alert,
    BookRead,
    Cancel,
    Divided,
    Ended,
    Fact,
    Filled,
    FixOrdered,
    FrameRefused,
    Halted,
    InstrumentRead,
    Level,
    Modify,
    NotFound,
    Noticed,
    NotSent,
    OrderSeen,
    Place,
    Refused,
    Resumed,
    Role,
    Sized,
    Skip,
    Started,
    Throttled,
    Ticked,
    TokenRefused,
    TokenRenewed,
    Unanswered,
    Verb,
)
from copytrader.core.model import OrderType, Side, SkipReason
from copytrader.core.news import SAY_AGAIN, News, lot_of
from copytrader.core.outcomes import block
from copytrader.core.sightings import see
from copytrader.core.state import Holding, Share, State

_ENTRY_MEMORY = timedelta(minutes=2)
SAID = frozenset({Filled, Ended, Alert})
"""Decisions that say what is known already: they change nothing."""


def recall(facts: Iterable[tuple[Fact, datetime]], state: State | None = None) -> State:
    """Rebuild the state from recorded facts and their times, deciding nothing.

    What a dry run recorded has no part in it.
    """
    state = state or State()
    dry = False
    for fact, at in facts:
        if isinstance(fact, Started):
            dry = fact.dry_run
        if not dry:
            evolve(state, fact, at)
    return state


def evolve(state: State, fact: Fact, at: datetime) -> News:
    """Change the state by one fact."""
    news = News()
    if type(fact) in SAID:
        return news
    _change(state, fact, at, news)
    if news.touched:
        for key in news.holdings():
            _let_go(state, key)
    return news


def _change(state: State, fact: Fact, at: datetime, news: News) -> None:
    match fact:
        case OrderSeen(account=account, order=order, source=source):
            turn_day(state, at, news)
            see(state, account, order, source, at, news)
        case Place():
            _place(state, fact, at)
        case Sized():
            _size(state, fact, news)
        case Accepted() | Refused() | Throttled() | Unanswered() | NotSent():
            take_answer(state, fact, at, news)
        case Modify():
            _modify(state, fact, at)
        case Divided():
            _divide(state, fact, news)
        case Cancel():
            _cancel(state, fact, at)
        case Skip():
            _skip(state, fact, news)
        case BookRead():
            read_book(state, fact, at, news)
        case Ticked():
            turn_day(state, at, news)
        case NotFound():
            give_up(state, fact, at, news)
        case InstrumentRead(instrument=instrument):
            learn(state, instrument.security, news)
            state.instruments[instrument.security] = instrument
        case Started():
            start(state, fact, at, news)
        case Halted(account=account, flatten=flatten):
            halt(state, account, flatten, news)
        case Resumed(account=account):
            resume(state, account, news)
        case TokenRefused(account=account, refusal=refusal, detail=detail):
            block(state, account, refusal, detail, news)
        case TokenRenewed(account=account):
            unblock(state, account, news)
        case FrameRefused(account=account, detail=detail):
            _say_unread(state, account, detail, at, news)
        case Noticed(level=level, text=text, account=account, key=key):
            news.alert(level, text, account, key)
        case Adopted():
            adopt(state, fact, at, news)
        case FixOrdered():
            for planned in fixing.order(state, fact):
                news.touch(planned, fact.account)
        case _:
            pass


def _say_unread(state: State, account: str, detail: str, at: datetime, news: News) -> None:
    """Alert that a frame could not be read; once in a while, for what sends one may send thousands."""
    said = state.unread_said.get(account)
    if said is None or at >= said + SAY_AGAIN:
        state.unread_said[account] = at
        text = f"{account}: a frame of its stream cannot be read ({detail}): the order book is read in its place"
        news.alert(Level.WARNING, text, account, f"frame-{account}")


def _let_go(state: State, key: Key) -> None:
    """Forget to look at leader orders that are over, everywhere; a flat leader ends the carry."""
    holding = state.holdings.get(key)
    if holding is None:
        return
    working, settled = 0, []
    for order in holding.active.values():
        if not order.known.is_done:
            working += 1
        elif _is_settled(state, order):
            settled.append(order.known.order_id)
    for order_id in settled:
        del holding.active[order_id]
    if holding.leader_net == 0 and not working:
        for share in holding.shares.values():
            if share.carry:
                share.carry, share.carry_side = Decimal(0), None
            if share.left_late and not share.open:
                trim_left_late(share)


def _is_settled(state: State, order: LeaderOrder) -> bool:
    if state.desk is None:
        return False
    for follower in state.desk.followers:
        copy = order.copies.get(follower.name)
        if copy is None or copy.is_open:
            return False
        if copy.skip is None and not copy.was_sent:
            return False
        if order.has_grown and _is_to_be_sized(copy):
            return False
        waits = copy.skip is None or copy.skip.reason is SkipReason.TOKEN
        if order.only_exits and waits and copy.to_try_again and _holds(state, order, copy):
            return False
        judged = copy.opens <= order.opened <= max(copy.opens, copy.judged_opened)
        if (copy.units or copy.exact) and not judged and (order.known.is_dead or order.opened > copy.opens):
            return False
        if not order.known.is_dead and _is_behind(state, order, copy):
            return False
    return True


def _is_to_be_sized(copy: Copy) -> bool:
    """Whether a copy that had nothing to close has still to be judged by what the leader's order has opened."""
    if copy.lots is not None or copy.skip is None or copy.slices:
        return False
    return copy.skip.reason in (SkipReason.NOTHING_TO_EXIT, SkipReason.BELOW_ONE_LOT)


def _holds(state: State, order: LeaderOrder, copy: Copy) -> bool:
    """Whether the follower has something left on the side that an exit closes."""
    share = state.holding(order.key).shares.get(copy.follower)
    return share is not None and share.left * order.known.ticket.side.sign < 0


def _is_behind(state: State, order: LeaderOrder, copy: Copy) -> bool:
    """Whether a part of what the leader still holds of its order waits for the rate budget."""
    behind = copy.due - copy.opened
    if behind <= 0 or copy.skip is not None or copy.closed is not None or any(piece.absent for piece in copy.slices):
        return False
    return behind >= lot_of(state, state.holding(order.key))


def _place(state: State, place: Place, at: datetime) -> None:
    key = Key(place.ticket.security, place.ticket.product)
    holding = state.holding(key)
    share = state.share(holding, place.account)
    account = state.accounts[place.account]
    leader = state.orders.get(place.leader_order_id)
    copy = None
    if not place.sweep and leader is not None:
        copy = copy_of(leader, place.account)
    piece = Slice(place.account, place.leader_order_id, key, copy, place.correlation_id, place.ticket, place.role, at)
    piece.opens = place.opens
    if copy is not None:
        copy.slices.append(piece)
        holding.active[place.leader_order_id] = copy.leader  # one that was let go for a skip is looked at again
    elif place.role is Role.EXIT:
        fix = fixing.named(account, place.leader_order_id)
        piece.was_due = bool(share.due) if fix is None else fix.was_due
        piece.instead_of_market = place.sweep and place.ticket.order_type is OrderType.LIMIT
        share.sweeps.append(piece)
        share.sweeps_made += 1
        _note_bought_back(holding, share, place.ticket.side)
        share.swept_at = at
    state.slices[place.correlation_id] = piece
    share.open[place.correlation_id] = piece
    account.open[place.correlation_id] = piece
    account.budget.count(at)
    if place.opens or place.role is Role.ENTRY:
        account.entries = [sent for sent in account.entries if sent > at - _ENTRY_MEMORY]
        account.entries.append(at)


def _note_bought_back(holding: Holding, share: Share, side: Side) -> None:
    """Count a sweep for the copies that have filled something since the one before it."""
    for order in holding.active.values():
        copy = order.copies.get(share.follower)
        if copy is None or order.known.ticket.side is side:
            continue
        if copy.filled > copy.filled_before:
            copy.bought_back += 1
            copy.filled_before = copy.filled


def _modify(state: State, modify: Modify, at: datetime) -> None:
    state.accounts[modify.account].budget.count(at)
    piece = state.slices.get(modify.correlation_id)
    if piece is None:
        return
    piece.asked_before.append(piece.terms)
    piece.asked, piece.opens = modify.ticket, modify.opens
    piece.in_flight = Verb.MODIFY
    piece.modifications += 1
    piece.refused_modify = None


def _divide(state: State, divided: Divided, news: News) -> None:
    piece = state.slices.get(divided.correlation_id)
    if piece is None:
        return
    piece.opens = divided.opens
    news.touch(piece.key, piece.follower)


def _cancel(state: State, cancel: Cancel, at: datetime) -> None:
    state.accounts[cancel.account].budget.count(at)
    piece = state.slices.get(cancel.correlation_id)
    if piece is None:
        return
    piece.in_flight = Verb.CANCEL
    piece.cancelling = True
    piece.renew = cancel.renew


def _size(state: State, sized: Sized, news: News) -> None:
    leader = state.orders.get(sized.leader_order_id)
    if leader is None:
        return
    holding = state.holding(leader.key)
    share = state.share(holding, sized.account)
    copy = copy_of(leader, sized.account)
    copy.lots, copy.exact = sized.lots, sized.exact
    exposure.resize(leader, copy, share, sized.opens, sized.lots * lot_of(state, holding))
    if not copy.slices:
        copy.gone = exposure.gone(leader, copy, lot_of(state, holding))
    copy.judged_ticket, copy.judged_opened = leader.known.ticket, leader.opened
    if not copy.is_refused:
        copy.skip = None
    share.carry, share.carry_side = sized.carry, sized.carry_side
    news.touch(leader.key, sized.account)


def _skip(state: State, skip: Skip, news: News) -> None:
    leader = state.orders.get(skip.leader_order_id)
    if skip.account not in state.accounts:
        return
    if leader is None:
        fixing.give_up(state, skip)
        return
    copy = copy_of(leader, skip.account)
    news.touch(leader.key, skip.account)
    copy.skip = skip
    copy.judged_ticket = leader.known.ticket
    if skip.reason in (SkipReason.REFUSED, SkipReason.INSUFFICIENT_MARGIN, SkipReason.TOKEN, SkipReason.ABSENT):
        return
    if copy.lots is None and not leader.only_exits:
        copy.lots = 0
    if copy.slices and skip.reason is SkipReason.STALE:
        copy.closed = SkipReason.STALE
