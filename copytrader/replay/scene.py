"""The state around an order, in plain values: what the leader's order is, and what each follower has of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from copytrader.core.copies import Copy, Key, LeaderOrder, Slice
from copytrader.core.model import LEADER
from copytrader.core.state import Holding, State
from copytrader.narrate import terms

Words = dict[str, object]


def around(state: State, leader_order_id: str | None, account: str | None = None) -> Words:
    """Describe the leader's order and what belongs to it, for one follower or all."""
    order = state.orders.get(leader_order_id or "")
    if order is None:
        return {"leader_order_id": leader_order_id, "known": False, "accounts": _accounts(state, account)}
    holding = state.holdings.get(order.key)
    return {
        "leader_order": _leader_order(order, state),
        "copies": [_copy(name, copy, state) for name, copy in order.copies.items() if account in (None, LEADER, name)],
        "position": None if holding is None else _position(order.key, holding, state, account),
        "accounts": _accounts(state, account),
    }


def leader_order_of(state: State, name: str) -> str | None:
    """Return the leader's order that a name means: its own id, or that of a copy, or a copy's correlation id."""
    if name in state.orders:
        return name
    for piece in state.slices.values():
        if name in (piece.order_id, piece.correlation_id):
            return piece.leader_order_id
    return None


def lines(words: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """Spell a description out, a line for each value."""
    for key, value in words.items():
        title = key.replace("_", " ")
        if isinstance(value, Mapping):
            yield f"{indent}{title}:"
            yield from lines(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{title}:" + ("" if value else " none")
            for item in value:
                yield f"{indent}  - " + "; ".join(
                    f"{name.replace('_', ' ')} {_said(each)}" for name, each in item.items()
                )
        else:
            yield f"{indent}{title}: {_said(value)}"


def _said(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return "[" + ", ".join(_said(each) for each in value) + "]" if value else "none"
        case Mapping():
            return "(" + ", ".join(f"{name.replace('_', ' ')} {_said(each)}" for name, each in value.items()) + ")"
        case _:
            return str(value)


def _leader_order(order: LeaderOrder, state: State) -> Words:
    known = order.known
    return {
        "order_id": known.order_id,
        "terms": terms(known.ticket, state),
        "terms_known": known.has_terms,
        "filled_quantity": known.filled_quantity,
        "average_price": known.average_price,
        "ended": known.ended,
        "only_exits": order.only_exits,
        "first_seen": order.first_seen,
    }


def _copy(name: str, copy: Copy, state: State) -> Words:
    return {
        "follower": name,
        "lots": copy.lots,
        "orders": [_slice(piece, state) for piece in copy.slices],
        "skip": None if copy.skip is None else f"{copy.skip.reason}: {copy.skip.detail}",
    }


def _slice(piece: Slice, state: State) -> Words:
    return {
        "correlation_id": piece.correlation_id,
        "order_id": piece.order_id or None,
        "terms": terms(piece.asked, state),
        "filled_quantity": piece.filled,
        "in_flight": piece.in_flight,
        "unknown": piece.unknown,
        "ended": piece.ended,
    }


def _position(key: Key, holding: Holding, state: State, account: str | None) -> Words:
    shares = [share for name, share in holding.shares.items() if account in (None, LEADER, name)]
    return {
        "instrument": state.named(key.security),
        "product": key.product,
        "leader": holding.leader_net,
        "last_price": holding.last_price,
        "followers": [
            {"follower": each.follower, "copied": each.copied, "at_the_broker": each.net, "carry": each.carry}
            for each in shares
        ],
    }


def _accounts(state: State, account: str | None) -> list[Words]:
    return [
        {
            "follower": name,
            "ready": each.ready,
            "halted": each.halted,
            "blocked": each.blocked,
            "open_orders": len(each.open),
        }
        for name, each in state.accounts.items()
        if account in (None, LEADER, name)
    ]
