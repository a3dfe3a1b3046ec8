"""The form in which an order goes to the broker, and what becomes of a market order that rests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from copytrader.core import sizing
from copytrader.core.copied_position import held
from copytrader.core.copies import LeaderOrder, Slice
from copytrader.core.facts import Level, Role
from copytrader.core.model import ZERO, LateExits, OrderType, Side, SkipReason, Ticket
from copytrader.core.scene import Scene, is_open_now, rules_of, say_once


def ticket_for(scene: Scene, order: LeaderOrder, quantity: int, *, at_market: bool) -> Ticket:
    """The leader's terms for the follower's quantity, in a form that the broker takes.

    Followers of one size share one ticket in a step.
    """
    which = order.number, quantity, at_market
    found = scene.desk.tickets.get(which)
    if found is None:
        found = scene.desk.tickets[which] = _made_ticket(scene, order, quantity, at_market=at_market)
    return found


def _made_ticket(scene: Scene, order: LeaderOrder, quantity: int, *, at_market: bool) -> Ticket:
    terms = order.known.ticket
    assert scene.instrument is not None
    if at_market:
        return replace(
            terms,
            quantity=quantity,
            order_type=OrderType.MARKET,
            price=ZERO,
            trigger_price=ZERO,
            disclosed_quantity=0,
            after_market=terms.after_market and not order.known.filled_quantity,
        )
    ticket = terms.resized(quantity, sizing.disclosed(terms, quantity, scene.instrument))
    if ticket.order_type is OrderType.STOP_LOSS_MARKET:
        percent = rules_of(scene.state).stop_limit_percent
        price = sizing.protective_limit(ticket.trigger_price, ticket.side, percent, scene.instrument.tick_size)
        return replace(ticket, order_type=OrderType.STOP_LOSS, price=price)
    return ticket


def watch_market(scene: Scene, order: LeaderOrder, piece: Slice, wanted: Ticket) -> Ticket | None:
    """A market order that rests: an exit is priced anew, an entry given up (None).

    What was no market order yet becomes one first.  An after-market order rests until the leader's has filled.
    """
    if wanted.order_type is not OrderType.MARKET or times_repriced(piece) is None:
        return wanted
    rules = rules_of(scene.state)
    since = piece.accepted_at or piece.placed_at
    if piece.asked.after_market:
        if order.filled_at is None:
            return _as_repriced(piece, wanted)
        since = max(since, order.filled_at)
    wait = timedelta(seconds=rules.market_wait_seconds)
    if scene.at < since + wait:
        scene.wake(since + wait)
        return _as_repriced(piece, wanted)
    if piece.role is Role.ENTRY:
        copy = piece.copy
        if copy is not None:
            scene.desk.skip(
                copy, SkipReason.STALE, f"the market order did not fill within {rules.market_wait_seconds} s"
            )
        return None
    return repriced(scene, piece, wanted, rules.reprice_attempts)


def _as_repriced(piece: Slice, wanted: Ticket) -> Ticket:
    if piece.asked.order_type is OrderType.LIMIT:
        return replace(wanted, order_type=OrderType.LIMIT, price=piece.asked.price)
    return wanted


def times_repriced(piece: Slice) -> int | None:
    """How often it was priced anew since it was asked for at market; None when it never was."""
    if piece.instead_of_market:
        return len(piece.asked_before)
    forms = [terms.ticket.order_type for terms in (*piece.asked_before, piece.terms)]
    return forms[::-1].index(OrderType.MARKET) if OrderType.MARKET in forms else None


def repriced(scene: Scene, piece: Slice, wanted: Ticket, attempts: int) -> Ticket:
    attempt = 1 + (times_repriced(piece) or 0)
    last = scene.holding.last_price
    if last is None or attempt > attempts:
        _say_it_rests(
            scene, piece, "no last price is known" if last is None else f"it was priced anew {attempts} times"
        )
        return _as_repriced(piece, wanted)
    assert scene.instrument is not None
    price = sizing.chasing_limit(_beyond(piece, last), wanted.side, attempt, scene.instrument.tick_size)
    anew = replace(wanted, order_type=OrderType.LIMIT, price=price)
    if anew == piece.refused_modify:
        _say_it_rests(scene, piece, "a new price was refused")
    elif anew == piece.asked:
        _say_it_rests(scene, piece, "there is no lower price")
    return anew


def crossing(scene: Scene, wanted: Ticket) -> Ticket:
    """A limit that crosses the market in place of a market order; without a last price, the market order itself."""
    last = scene.holding.last_price
    if last is None:
        return wanted
    assert scene.instrument is not None
    price = sizing.chasing_limit(last, wanted.side, 1, scene.instrument.tick_size)
    return replace(wanted, order_type=OrderType.LIMIT, price=price)


def _beyond(piece: Slice, last: Decimal) -> Decimal:
    """The last price, or the one at which the order rests, if the market must be beyond that: it may be the newer."""
    rests_at = piece.known.ticket.price if piece.known is not None else ZERO
    if rests_at <= ZERO:
        return last
    return min(last, rests_at) if piece.asked.side is Side.SELL else max(last, rests_at)


def _say_it_rests(scene: Scene, piece: Slice, why: str) -> None:
    text = f"exit {piece.order_id} still rests ({why}); look after it by hand"
    say_once(scene, Level.CRITICAL, text, f"rests-{piece.correlation_id}")


def goes_at_market(scene: Scene, order: LeaderOrder, piece: Slice, quantity: int) -> bool:
    """A late exit stays a market order, whatever the leader's order was; so does one that was left behind."""
    if piece.role is not Role.EXIT:
        return False
    return piece.first_asked.order_type is OrderType.MARKET or _is_left_behind(scene, order, piece, quantity)


def _is_left_behind(scene: Scene, order: LeaderOrder, piece: Slice, quantity: int) -> bool:
    """The leader's exit has filled; the copy rests at a price that the market may not come to any more.

    Where what it is to close is not held yet, it waits for the entry, as the leader's did not have to.  One that
    opens beside keeps its price: a sweep closes what is held.
    """
    if order.out_at is None:
        return False
    until = max(order.out_at, piece.placed_at) + timedelta(seconds=rules_of(scene.state).market_wait_seconds)
    scene.wake(until)
    if scene.at < until or piece.opens:
        return False
    if times_repriced(piece) is not None:
        return True
    if held(scene.holding, scene.share, -piece.asked.side.sign) < quantity - piece.filled:
        return False
    is_ours = order.known.ticket.order_type is OrderType.STOP_LOSS_MARKET
    if rules_of(scene.state).late_exits is LateExits.SKIP and not is_ours:
        _say_it_rests(scene, piece, "the leader's has filled, and late exits are off")
        return False
    return is_open_now(scene)
