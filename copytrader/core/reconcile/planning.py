"""The plan: exactly the orders that would close the gap, cancels first, exits before entries.

What is the follower's own is never in it, and neither is a row that is unknown or unexplained.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from copytrader.core import fixing, hours, sizing
from copytrader.core.copies import Slice
from copytrader.core.facts import FixOrdered
from copytrader.core.model import ZERO, OrderType, Product, Security, Side, Ticket, Validity
from copytrader.core.reconcile.findings import is_orphan
from copytrader.core.reconcile.picture import Part, Picture, RowState


class Action(StrEnum):
    CANCEL = "CANCEL"
    EXIT = "EXIT"
    ENTRY = "ENTRY"


@dataclass(frozen=True, slots=True)
class Step:
    """One order that a plan sends, or cancels; `held_back` says why it would not be sent."""

    follower: str
    action: Action
    exchange_segment: str
    security_id: str
    symbol: str
    product: str
    side: Side
    quantity: int
    lots: Decimal
    order_type: OrderType
    price: Decimal
    value: Decimal | None
    order_id: str
    why: str
    held_back: str = ""
    expiry: date | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the operator wants the gap closed."""

    reduce_only: bool = False
    at_limit: bool = False


def plan(seen: Picture, wishes: Wishes | None = None) -> tuple[Step, ...]:
    """The orders that would be sent: each follower's cancels, exits and entries."""
    wishes = wishes or Wishes()
    steps = [step for part in seen.parts for step in _steps(seen, part, wishes)]
    names = list(dict.fromkeys(part.name for part in seen.parts))
    rank = list(Action)
    return tuple(sorted(steps, key=lambda step: (names.index(step.follower), rank.index(step.action))))


def _steps(seen: Picture, part: Part, wishes: Wishes) -> Iterator[Step]:
    if part.row.state in (RowState.UNKNOWN, RowState.UNEXPLAINED):
        return
    orphans = [piece for piece in part.share.open.values() if piece.order_id and is_orphan(seen.state, piece)]
    for piece in orphans:
        yield _cancel(part, piece, "its leader order is over")
    if part.coming >= abs(part.need):
        return
    sign = 1 if part.need > 0 else -1
    exits = min(max(-part.copied * sign, 0), abs(part.need))
    entries = abs(part.need) - exits
    exits -= min(part.coming, exits)
    entries = max(entries - part.coming, 0) if not exits else entries
    if entries and wishes.reduce_only and not exits:
        return
    for piece in part.stuck:
        if piece not in orphans and piece.order_id:
            yield _cancel(part, piece, "it has not filled; the rest is placed anew")
    if exits:
        yield from _cancel_resting(part, sign, abs(part.copied) - exits, [*orphans, *part.stuck])
        yield from _sliced(seen, part, Action.EXIT, sign, exits, wishes)
    if entries and not wishes.reduce_only:
        yield from _sliced(seen, part, Action.ENTRY, sign, entries, wishes)


def _cancel_resting(part: Part, sign: int, left: int, done: Sequence[Slice]) -> Iterator[Step]:
    """Cancel resting exits that would close more than is left; follow places them anew, in the right size."""
    for piece in part.share.open.values():
        closes = piece.asked.side.sign == sign and piece.copy is not None
        if closes and piece.remaining > left and piece.order_id and piece not in done:
            yield _cancel(part, piece, "it would close more than is left")


def _cancel(part: Part, piece: Slice, why: str) -> Step:
    asked = piece.asked
    return Step(
        part.name,
        Action.CANCEL,
        part.key.security.exchange_segment,
        part.key.security.security_id,
        part.row.symbol,
        part.key.product,
        asked.side,
        piece.remaining,
        Decimal(piece.remaining) / part.lot,
        asked.order_type,
        asked.price,
        None,
        piece.order_id,
        why,
        expiry=part.row.expiry,
    )


def _sliced(seen: Picture, part: Part, action: Action, sign: int, quantity: int, wishes: Wishes) -> Iterator[Step]:
    assert part.instrument is not None
    if action is Action.ENTRY or part.row.target_quantity:  # odd units go only when everything goes
        quantity = quantity // part.lot * part.lot
    largest = sizing.largest_order(part.instrument) or quantity
    price = _limit_price(part, sign) if wishes.at_limit else None
    before = decided = 0
    while quantity > before:
        step = _order(part, action, sign, min(quantity - before, largest), price)
        held_back = "no last price is known for a limit" if wishes.at_limit and price is None else ""
        held_back = held_back or _held_back(seen, part, step, before, decided)
        yield replace(step, held_back=held_back)
        before, decided = before + step.quantity, decided + 1


def _limit_price(part: Part, sign: int) -> Decimal | None:
    if part.row.last_price is None or part.instrument is None:
        return None
    return sizing.on_tick(part.row.last_price, part.instrument.tick_size, up=sign > 0)


def _order(part: Part, action: Action, sign: int, quantity: int, price: Decimal | None) -> Step:
    at = price if price is not None else part.row.last_price
    multiplier = part.instrument.multiplier if part.instrument is not None else None
    return Step(
        part.name,
        action,
        part.key.security.exchange_segment,
        part.key.security.security_id,
        part.row.symbol,
        part.key.product,
        Side.BUY if sign > 0 else Side.SELL,
        quantity,
        Decimal(quantity) / part.lot,
        OrderType.MARKET if price is None else OrderType.LIMIT,
        ZERO if price is None else price,
        None if at is None or multiplier is None else at * quantity * multiplier,
        "",
        part.row.why,
        expiry=part.row.expiry,
    )


def _held_back(seen: Picture, part: Part, step: Step, before: int, decided: int) -> str:
    """Why the engine would not send it, judged as it will judge: together with the slices before it."""
    desk = seen.state.desk
    assert desk is not None
    if desk.rules.enforce_hours:
        verdict = hours.is_open(desk.calendar, step.exchange_segment, seen.at)
        if not verdict.is_open:
            return f"MARKET_CLOSED: {verdict.text}"
    if step.action is Action.EXIT:
        return ""
    ticket = ticket_of(step)
    refusal = fixing.held_back(
        seen.state, part.holding, part.account, part.share, ticket, seen.at, before=before, decided=decided
    )
    return "" if refusal is None else f"{refusal[0]}: {refusal[1]}"


def ticket_of(step: Step) -> Ticket:
    security = Security(step.exchange_segment, step.security_id)
    return Ticket(security, step.side, Product(step.product), step.order_type, Validity.DAY, step.quantity, step.price)


def same(one: Iterable[Step], other: Iterable[Step]) -> bool:
    """Whether two plans send the same; a last price that moved, or another reason, makes no difference."""

    def bare(steps: Iterable[Step]) -> list[Step]:
        return [replace(step, price=ZERO, value=None, why="") for step in steps if not step.held_back]

    return bare(one) == bare(other)


def fixes(steps: Iterable[Step], at: datetime) -> tuple[FixOrdered, ...]:
    """Turn a plan into one word for each follower; what is held back is not in it."""
    by_follower: dict[str, list[Step]] = {}
    for step in steps:
        if not step.held_back:
            by_follower.setdefault(step.follower, []).append(step)
    return tuple(_word(name, theirs, at) for name, theirs in by_follower.items())


def _word(name: str, steps: Sequence[Step], at: datetime) -> FixOrdered:
    exits = [ticket_of(step) for step in steps if step.action is Action.EXIT]
    entries = [ticket_of(step) for step in steps if step.action is Action.ENTRY]
    cancels = tuple(step.order_id for step in steps if step.action is Action.CANCEL)
    text = "|".join(map(str, (at.isoformat(), name, *exits, *entries, *cancels)))
    plan_id = hashlib.sha256(text.encode()).hexdigest()[:12]
    return FixOrdered(at, name, plan_id, (*exits, *entries), cancels, len(exits), at)
