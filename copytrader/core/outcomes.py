"""What becomes of an order of ours: it fills, it ends, it is refused; and what that means for the account."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from copytrader.core import closed_twice, copied_position, left_late
from copytrader.core.copies import Copy, Slice
from copytrader.core.facts import Ended, Filled, Level, Role, Skip
from copytrader.core.making_good import make_good
from copytrader.core.model import LEADER, OrderStatus, OrderType, RefusalClass, SkipReason, Validity, day_of
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
        make_good(state, account, share, piece.copy.leader, against, at, news)
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
