"""Orders beside positions: what is wrong with single orders, though the quantities may agree.

A working order of the leader without its copy, an order of ours without its leader's, terms that differ,
an order whose outcome is not known or that the journal does not know.  And what is left with followers
whom the configuration leaves out.  Nothing here looks at a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from copytrader.core import copied_position, left_out, targets
from copytrader.core.copies import Copy, Key, LeaderOrder, Slice
from copytrader.core.model import Order, OrderStatus, OrderType, SkipReason, Ticket
from copytrader.core.reconcile.evidence import Evidence, is_lost, unread_of
from copytrader.core.reconcile.picture import Finding, FindingKind, Scope
from copytrader.core.state import Holding, Share, State

_NOT_DUE = frozenset({SkipReason.FILTERED, SkipReason.BELOW_ONE_LOT, SkipReason.NOTHING_TO_EXIT, SkipReason.OWN_COPY})
"""Reasons for which an order has no copy by the rules themselves: nothing is missing."""
_LIMITS = frozenset(
    {
        SkipReason.LIMIT_ORDER_VALUE,
        SkipReason.LIMIT_ORDER_LOTS,
        SkipReason.LIMIT_POSITION_LOTS,
        SkipReason.LIMIT_OPEN_POSITIONS,
        SkipReason.LIMIT_DAILY_LOSS,
    }
)
"""Reasons that a plan is held to as well; they do not pass by themselves within the minute."""


def findings_of(evidence: Evidence, name: str, scope: Scope) -> Iterator[Finding]:
    if unread_of(evidence, name) is not None:
        return
    for (follower, key), orders in evidence.strays.items():
        if follower == name and scope.has(name, key.security, evidence.state.instruments.get(key.security)):
            for order in orders:
                yield _stray(evidence, name, key, order)
    for key, holding in evidence.state.holdings.items():
        instrument = evidence.state.instruments.get(key.security)
        if scope.has(name, key.security, instrument):
            symbol = instrument.symbol if instrument is not None else key.security.security_id
            share = holding.shares.get(name) or Share(name)
            expiry = instrument.expiry if instrument is not None else None
            for finding in _uncopied(holding, share, symbol):
                yield replace(finding, expiry=expiry)
            for piece in share.open.values():
                for finding in _of_piece(evidence, piece, symbol):
                    yield replace(finding, expiry=expiry)


def left_out_of(evidence: Evidence, scope: Scope) -> Iterator[Finding]:
    """What followers have whom the configuration leaves out: nobody reads their books, and no plan is made for them."""
    state = evidence.state
    for name in left_out.left_out(state):
        held = {key: share.left for key, share in left_out.parts(state, name)}
        works = Counter(piece.key for piece in state.accounts[name].open.values())
        for key in dict.fromkeys([*held, *works]):
            instrument = state.instruments.get(key.security)
            if scope.has(name, key.security, instrument):
                symbol = instrument.symbol if instrument is not None else key.security.security_id
                has = left_out.told([f"{held[key]:+} {key.product}"] if key in held else [], works[key])
                detail = f"{name} {has}: nobody looks after that; enable {name} again, or close that by hand"
                expiry = instrument.expiry if instrument is not None else None
                yield Finding(name, FindingKind.LEFT_OUT, symbol, detail, expiry=expiry)


def _stray(evidence: Evidence, name: str, key: Key, order: Order) -> Finding:
    instrument = evidence.state.instruments.get(key.security)
    symbol = instrument.symbol if instrument is not None else key.security.security_id
    words = f"{order.status.lower()}, {order.filled_quantity} filled"
    detail = f"{words}: the journal does not know it; take it over with --adopt"
    expiry = instrument.expiry if instrument is not None else None
    return Finding(name, FindingKind.STRAY, symbol, detail, None, order.order_id, order.correlation_id, expiry)


def _uncopied(holding: Holding, share: Share, symbol: str) -> Iterator[Finding]:
    for order in holding.active.values():
        known = order.known
        lacking = _lacking(holding, share, order) if known.working and not known.is_done else ""
        if lacking:
            detail = f"{known.ticket.side} {known.ticket.quantity} works at the leader and has no copy{lacking}"
            yield Finding(share.follower, FindingKind.NOT_COPIED, symbol, detail, known.order_id)


def _lacking(holding: Holding, share: Share, order: LeaderOrder) -> str:
    """Why a working order has no copy, and what to do; nothing where it has one, or is due none."""
    copy = order.copies.get(share.follower)
    if copy is None or not targets.is_judged(copy):
        return "; follow copies it"
    if copy.is_open or not _is_short(holding, share, order, copy):
        return ""
    reason = _why_none(copy)
    return f": {reason}; {_what_comes_next(order, copy)}" if reason else ""


def _is_short(holding: Holding, share: Share, order: LeaderOrder, copy: Copy) -> bool:
    """Whether something is left that a copy would do: an exit needs a position, an entry what it was not given."""
    if order.only_exits:
        return copied_position.held(holding, share, -order.known.ticket.side.sign) > 0
    return not copy.slices or copy.opened < copy.units


def _why_none(copy: Copy) -> str:
    """Why a copy ended before its leader's order; nothing where the sizing rules themselves want none."""
    if copy.skip is not None:
        return "" if copy.skip.reason in _NOT_DUE else f"{copy.skip.reason}: {copy.skip.detail}"
    last = copy.slices[-1] if copy.slices else None
    if last is None or (copy.closed is None and (last.cancelling or last.void)):
        return ""
    ended = f"its order {last.order_id} is {(last.ended or OrderStatus.CANCELLED).lower()}"
    return ended if copy.closed is None else f"{copy.closed}: {ended}"


def _what_comes_next(order: LeaderOrder, copy: Copy) -> str:
    """What becomes of an order that works without its copy, and what may be done."""
    reason = copy.closed if copy.skip is None else copy.skip.reason
    if reason is SkipReason.MARKET_CLOSED:
        return "follow judges it again when the market opens"
    if order.only_exits:
        if copy.closed is SkipReason.HALTED:
            return "`copytrader resume` brings it back"
        return "what it closes is exited when it fills, or let the leader place it anew"
    if reason in _LIMITS:
        return "--fix is held to the same limit: change it, or leave the order uncopied"
    if reason is SkipReason.HALTED:
        return "after `copytrader resume` what fills is made up for by --fix, or let the leader place it anew"
    return "what fills is made up for by --fix, or let the leader place it anew"


def _of_piece(evidence: Evidence, piece: Slice, symbol: str) -> Iterator[Finding]:
    def finding(kind: FindingKind, detail: str) -> Finding:
        leader_order_id = piece.leader_order_id or None
        return Finding(
            piece.follower, kind, symbol, detail, leader_order_id, piece.order_id or None, piece.correlation_id
        )

    if is_lost(evidence, piece):
        yield finding(FindingKind.UNKNOWN_OUTCOME, f"sent at {piece.placed_at:%H:%M:%S}, and not found since")
    elif is_orphan(evidence.state, piece):
        detail = f"{piece.asked.side} {piece.remaining} still works, and no leader order stands behind it"
        yield finding(FindingKind.ORPHAN, detail)
    else:
        difference = _differing_terms(piece)
        if difference:
            yield finding(FindingKind.TERMS_DIFFER, difference)


def is_orphan(state: State, piece: Slice) -> bool:
    """Whether an open order of ours has lost its leader order; one of a plan, or a sweep, never had one."""
    if piece.copy is not None:
        return piece.copy.leader.known.is_dead or piece.leader_order_id not in state.orders
    return piece.cancelling or not piece.leader_order_id


def _differing_terms(piece: Slice) -> str:
    """How an open copy's terms differ from its leader's, as far as they are comparable."""
    if piece.copy is None or piece.detached or piece.copy.leader.known.is_done:
        return ""
    leader, asked = piece.copy.leader.known.ticket, piece.asked
    if leader.order_type is not asked.order_type or leader.order_type is OrderType.MARKET:
        return ""
    for what, theirs, ours in (
        ("price", leader.price, asked.price),
        ("trigger", leader.trigger_price, asked.trigger_price),
    ):
        if theirs != ours:
            return f"its {what} is {ours}, the leader's {theirs}; {_what_comes_of_it(piece, leader)}"
    return ""


def _what_comes_of_it(piece: Slice, leader: Ticket) -> str:
    """What becomes of terms that differ: a change that the broker refused is not asked for again."""
    refused = piece.refused_modify
    if refused is not None and (refused.price, refused.trigger_price) == (leader.price, leader.trigger_price):
        return "the broker refused this change, and it is not sent again"
    return "follow modifies it"
