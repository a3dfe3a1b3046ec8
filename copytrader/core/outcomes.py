"""What becomes of an order of ours: it fills, it ends, it is refused; and what that means for the account."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core import closed_twice, copied_position, exposure, left_late, room
from copytrader.core.copies import Copy, LeaderOrder, Slice
from copytrader.core.facts import Ended, Filled, Level, Role, Skip
from copytrader.core.limits import over_daily_loss
from copytrader.core.model import LEADER, OrderStatus, OrderType, RefusalClass, Side, SkipReason, Validity, day_of
from copytrader.core.news import News
from copytrader.core.state import Account, Holding, Share, State

LOST_TOKEN = frozenset({RefusalClass.TOKEN, RefusalClass.IP})
_OF_THE_FORM = frozenset({RefusalClass.PRODUCT, RefusalClass.PRICE_BAND, RefusalClass.OTHER})
"""What a market order may be refused for where a limit would be taken."""


def fill_piece(state: State, account: Account, piece: Slice, traded_at: datetime, at: datetime, news: News) -> None:
    """Take in what an order of ours has filled more than was known; it traded then by the broker's clock."""
    known = piece.known
    if known is None or known.filled_quantity <= piece.filled:
        return
    new = known.filled_quantity - piece.filled
    closes = min(max(_meant_to_close(piece, known.filled_quantity) - piece.filled, 0), new)
    holding = state.holding(piece.key)
    share = state.share(holding, piece.follower)
    against = max(-share.copied * piece.asked.side.sign, 0)
    if piece.copy is not None:
        opening = piece.copy.count(piece, new)
        against = min(max(against - (new - opening), 0), opening)
    piece.filled = known.filled_quantity
    before, was_flat = share.copied, share.left == 0
    sign = piece.asked.side.sign
    realized = copied_position.fill_follower(share, sign, new, known.average_price, closes, traded_at)
    copied_position.tell_ahead(share, sign, new, at)
    closed_twice.say(state, holding, share, news)
    closed_twice.note_begun(share, before, min(known.placed_at or piece.placed_at, piece.placed_at))
    share.overtaken = share.unproved
    if share.overtaken:
        share.overtaken_at = at
        state.ask_books.add(piece.follower)
    if realized:
        instrument = state.instruments.get(piece.key.security)
        _count_realized(account, realized * ((instrument.multiplier if instrument else None) or 1), at, news)
    if piece.copy is None:
        _give_back(holding, piece, new)
    elif against:
        _make_good(state, account, share, piece.copy.leader, against, at, news)
    share.sweeps_void = 0
    if piece.role is Role.EXIT and piece.asked.order_type is OrderType.MARKET:
        share.no_market = False
    if share.copied == 0 or was_flat:
        share.sweeps_failed = 0
    leader = state.orders.get(piece.leader_order_id)
    news.notes.append(
        Filled(
            piece.follower,
            piece.leader_order_id,
            piece.order_id,
            piece.correlation_id,
            new,
            known.filled_quantity,
            known.average_price,
            leader.known.average_price if leader is not None else Decimal(0),
        )
    )


def _give_back(holding: Holding, sweep: Slice, quantity: int) -> None:
    """Note what a sweep has closed.

    Entries that filled beyond what is their size now may grow again; exits that filled before the entries that they
    covered cover none any more.
    """
    for order in holding.active.values():
        copy = order.copies.get(sweep.follower)
        if copy is None or order.known.ticket.side is sweep.asked.side or order.known.is_done:
            continue
        if order.only_exits:
            copy.swept += min(copy.filled - copy.swept, quantity)
        elif _may_grow(copy):
            back = min(copy.too_much, quantity)
            copy.swept += back
            quantity -= back


def _make_good(
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


def _may_grow(copy: Copy) -> bool:
    """Whether all of it opens at the follower."""
    return all(piece.opens == piece.asked.quantity for piece in copy.slices)


def _meant_to_close(piece: Slice, filled: int) -> int:
    """How much of an exit closes; what filled beyond the quantity asked for had the one from before.

    One that was placed as an entry was there before what it is to close, and may have filled before it.
    """
    if piece.placed_as is not Role.EXIT:
        return 0
    if filled > piece.asked.quantity and piece.asked_before:
        before = piece.asked_before[-1]
        return before.ticket.quantity - before.opens
    return piece.asked.quantity - piece.opens


def _count_realized(account: Account, amount: Decimal, at: datetime, news: News) -> None:
    day = day_of(at)
    if account.realized_day != day:
        account.realized_day, account.realized = day, Decimal(0)
    account.realized += amount
    count_loss(account, -account.realized, at, news)


def count_loss(account: Account, loss: Decimal, at: datetime, news: News) -> None:
    """Keep the day's worst loss; a limit that it reaches stops entries until tomorrow, also those that work."""
    day = day_of(at)
    if account.loss_day != day:
        account.loss_day, account.loss = day, Decimal(0)
    most, before = account.follower.limits.max_daily_loss, account.loss
    account.loss = max(account.loss, loss)
    if most is not None and before < most <= account.loss:
        name = account.follower.name
        text = f"{name}: today's loss {account.loss} has reached the limit {most}: entries stop, exits go on"
        news.alert(Level.CRITICAL, text, name, f"loss-{name}")
        for piece in account.open.values():
            news.touch(piece.key, name)


def end_piece(state: State, account: Account, piece: Slice, news: News) -> None:
    known = piece.known
    if known is None or piece.ended is not None:
        return
    if known.ended is None and not (known.is_filled and piece.filled >= piece.largest):
        return
    ended = known.ended or OrderStatus.TRADED
    if piece.filled >= piece.largest:
        ended = OrderStatus.TRADED
    close_piece(state, account, piece, ended)
    news.notes.append(
        Ended(piece.follower, piece.leader_order_id, piece.order_id, piece.correlation_id, ended, piece.filled)
    )
    if ended is OrderStatus.REJECTED:
        note_refusal(state, account, piece, known.refusal or RefusalClass.OTHER, known.note, news)
    elif ended is OrderStatus.CANCELLED and not piece.cancelling and _was_by_hand(state, piece):
        detail = f"its order {piece.order_id} was cancelled, not by us"
        news.notes.append(
            Skip(piece.follower, piece.leader_order_id, SkipReason.DETACHED, detail, piece.correlation_id)
        )
        news.alert(Level.WARNING, f"{piece.follower}: {detail}", piece.follower, f"detached-{piece.correlation_id}")


def _was_by_hand(state: State, piece: Slice) -> bool:
    leader = state.orders.get(piece.leader_order_id)
    working = leader is None or not leader.known.is_dead
    return working and piece.asked.validity is not Validity.IOC


def close_piece(state: State, account: Account, piece: Slice, ended: OrderStatus) -> None:
    piece.ended = ended
    piece.in_flight, piece.unknown = None, False
    account.open.pop(piece.correlation_id, None)
    share = state.share(state.holding(piece.key), piece.follower)
    share.open.pop(piece.correlation_id, None)
    if ended is OrderStatus.EXPIRED:
        left_late.leave_expired(state, share, piece)
    if piece in share.sweeps:
        share.sweeps.remove(piece)
        if piece.void:
            share.sweeps_void += 1
        elif ended is not OrderStatus.TRADED and not piece.cancelling:
            _count_failed(share, piece)


def _count_failed(share: Share, piece: Slice) -> None:
    """Count an attempt that failed, once for all the slices of it."""
    if piece.placed_at != share.sweep_failed_at:
        share.sweeps_failed, share.sweep_failed_at = share.sweeps_failed + 1, piece.placed_at


def note_refusal(state: State, account: Account, piece: Slice, refusal: RefusalClass, message: str, news: News) -> None:
    name = account.follower.name
    reason = SkipReason.REFUSED
    if refusal in LOST_TOKEN:
        block(state, name, refusal, message, news)
        reason = SkipReason.TOKEN
    elif refusal is RefusalClass.MARGIN:
        reason = SkipReason.INSUFFICIENT_MARGIN
    _note_form(state, piece, refusal)
    news.notes.append(Skip(name, piece.leader_order_id, reason, message, piece.correlation_id, refusal))
    is_exit = piece.role is Role.EXIT
    what = f"{'exit' if is_exit else 'entry'} {in_words(state, piece)}"
    text = f"{name}: {what} refused by the broker: {message or 'it does not say why'}"
    matter = f"refused-{refusal}-{piece.key}" if is_exit else f"refused-{refusal}"
    news.alert(Level.CRITICAL if is_exit else Level.WARNING, text, name, matter)


def _note_form(state: State, piece: Slice, refusal: RefusalClass) -> None:
    """Remember whether the last exit not taken was a market order, refused for what a limit may not be refused for."""
    if piece.role is Role.EXIT:
        share = state.share(state.holding(piece.key), piece.follower)
        share.no_market = piece.asked.order_type is OrderType.MARKET and refusal in _OF_THE_FORM


def refuse_modification(piece: Slice, message: str, news: News) -> None:
    """The last modification was not taken: the order has the terms from before, and the same is not asked for again."""
    piece.refused_modify = piece.asked
    if piece.asked_before:
        piece.turn_to(piece.asked_before[-1])
    news.alert(
        Level.CRITICAL if piece.role is Role.EXIT else Level.WARNING,
        f"{piece.follower}: the modification of {piece.order_id} was refused: {message}",
        piece.follower,
        f"modify-{piece.correlation_id}",
    )


def in_words(state: State, piece: Slice) -> str:
    """Say to a person what was ordered: BUY 75 NIFTY-Dec2026-24000-PE."""
    return f"{piece.asked.side} {piece.asked.quantity} {state.named(piece.key.security)}"


def take_back(piece: Slice) -> None:
    """The last modification provably had no effect: as if it had not been asked for."""
    if piece.asked_before:
        piece.turn_to(piece.asked_before.pop())


def block(state: State, name: str, refusal: RefusalClass, detail: str, news: News) -> None:
    account = state.accounts.get(name)
    if account is None:
        if name != LEADER:
            return
        if not state.leader_blocked:
            news.alert(
                Level.CRITICAL,
                f"{name}: the broker refuses the {refusal.lower()}: {detail}; no entry is copied until it is mended: "
                + remedy(name, refusal),
                name,
                f"token-{name}",
            )
        state.leader_blocked = True
        return
    if account.blocked is None:
        what = "access token" if refusal is RefusalClass.TOKEN else "address (static IP)"
        news.alert(
            Level.CRITICAL,
            f"{name}: the broker refuses the {what}: {detail}; nothing more is sent for {name} until it is mended: "
            + remedy(name, refusal),
            name,
            f"token-{name}",
        )
    account.blocked = refusal


def remedy(name: str, refusal: RefusalClass) -> str:
    if refusal is RefusalClass.TOKEN:
        return f"copytrader login {name}"
    where = LEADER if name == LEADER else f"followers.{name}"
    return f"register the static IP at Dhan, or set {where}.proxy or {where}.source_address"
