"""Do the accounts agree?  The picture, the reasons, and the plan that would close the gap.

The picture compares, for each follower, instrument and product, what the sizing rules make of the
leader's position with what the follower holds from copying.  It is taken from fresh books,
folded into a copy of the state.  A book that could not be read is unknown, never flat.

The plan has exactly the orders that would be sent: cancels first, exits before entries.  What is
the follower's own appears in the picture and never in the plan.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from copytrader.core import exposure, fixing, hours, limits, sizing, targets
from copytrader.core.facts import BookRead, FixOrdered, InstrumentRead, Started
from copytrader.core.fold import evolve
from copytrader.core.model import (
    LEADER,
    ZERO,
    Desk,
    Funds,
    Instrument,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Security,
    Side,
    SkipReason,
    Ticket,
    Units,
    Validity,
)
from copytrader.core.state import Account, Copy, Holding, Key, LeaderOrder, Share, Slice, State

STUCK_AFTER = timedelta(seconds=10)
"""A copy still open this long after its leader order is over will not get there by itself."""
LOST_AFTER = timedelta(seconds=5)
_MOST_REASONS = 3
_NOT_DUE = frozenset({SkipReason.FILTERED, SkipReason.BELOW_ONE_LOT, SkipReason.NOTHING_TO_EXIT, SkipReason.OWN_COPY})
"""Reasons for which an order has no copy by the rules themselves: nothing is missing."""
_UNCOPIED_ENTRY = "what fills is made up for by --fix, or let the leader place it anew"
_UNCOPIED_EXIT = "what it closes is exited when it fills, or let the leader place it anew"


class RowState(StrEnum):
    IN_SYNC = "in_sync"
    OWN = "own"
    PENDING = "pending"
    DRIFT = "drift"
    UNEXPLAINED = "unexplained"
    UNKNOWN = "unknown"


class FindingKind(StrEnum):
    """What can be wrong with an order, whatever the positions say."""

    NOT_COPIED = "not_copied"
    ORPHAN = "orphan"
    TERMS_DIFFER = "terms_differ"
    UNKNOWN_OUTCOME = "unknown_outcome"
    STRAY = "stray"


class Action(StrEnum):
    CANCEL = "CANCEL"
    EXIT = "EXIT"
    ENTRY = "ENTRY"


@dataclass(frozen=True, slots=True)
class Reading:
    """One account's books, read just now; a `problem` where they could not be, `refused` where for its token.

    Without `holdings` its positions do not show the shares in the demat account.
    """

    account: str
    orders: tuple[Order, ...] = ()
    positions: tuple[Position, ...] = ()
    funds: Funds | None = None
    problem: str = ""
    refused: bool = False
    holdings: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One follower, instrument and product; None is unknown.  Drift is what is held from copying beyond the target."""

    follower: str
    exchange_segment: str
    security_id: str
    symbol: str
    product: str
    leader_quantity: int | None
    target_quantity: int | None
    copied_quantity: int | None
    own_quantity: int | None
    drift_quantity: int | None
    state: RowState
    why: str
    lot_size: int | None = None
    drift_lots: Decimal | None = None
    last_price: Decimal | None = None
    drift_value: Decimal | None = None
    expiry: date | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with one order."""

    follower: str
    kind: FindingKind
    symbol: str
    detail: str
    leader_order_id: str | None = None
    order_id: str | None = None
    correlation_id: str | None = None
    expiry: date | None = None


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
class Scope:
    """What of the accounts is looked at; empty is everything."""

    followers: frozenset[str] = frozenset()
    symbol: str = ""

    def has(self, follower: str, security: Security, instrument: Instrument | None) -> bool:
        if self.followers and follower not in self.followers:
            return False
        if not self.symbol:
            return True
        names = [security.security_id]
        if instrument is not None:
            names += [instrument.symbol, instrument.label, instrument.underlying]
        return self.symbol.upper() in (name.upper() for name in names)


@dataclass(slots=True)
class Part:
    """One follower's part of one holding, with everything that led to its row."""

    key: Key
    name: str
    holding: Holding
    account: Account
    share: Share
    instrument: Instrument | None
    row: Row
    need: int = 0
    coming: int = 0
    stuck: list[Slice] = field(default_factory=list)

    @property
    def lot(self) -> int:
        return self.instrument.lot_size if self.instrument is not None else 1


@dataclass(frozen=True, slots=True)
class Picture:
    """All rows and findings of one moment.

    `problems` are the accounts that could not be read, `strays` the orders by follower that bear our prefix and
    that the journal does not know.
    """

    at: datetime
    state: State
    parts: tuple[Part, ...]
    blanks: tuple[Row, ...]
    findings: tuple[Finding, ...]
    problems: tuple[Reading, ...]
    strays: dict[str, tuple[Order, ...]]
    scope: Scope

    @property
    def rows(self) -> tuple[Row, ...]:
        return (*self.blanks, *(part.row for part in self.parts))

    @property
    def in_sync(self) -> bool:
        """Whether all is known and as it should be; a follower's own positions are its own affair."""
        fine = all(row.state in (RowState.IN_SYNC, RowState.OWN) for row in self.rows)
        return fine and not self.findings and not self.problems


# --- The state of now ----------------------------------------------------------------------


def with_books(
    state: State, desk: Desk, readings: Iterable[Reading], instruments: Mapping[Security, Instrument], at: datetime
) -> State:
    """Return a copy of the state with fresh books folded in; the one passed stays as it is."""
    fresh: State = pickle.loads(pickle.dumps(state, pickle.HIGHEST_PROTOCOL))  # noqa: S301 - our own, copied quickly
    evolve(fresh, Started(at, "", "", desk, copying=False), at)
    for security, instrument in instruments.items():
        if security not in fresh.instruments:
            evolve(fresh, InstrumentRead(at, instrument), at)
    for reading in readings:
        if not reading.problem:
            orders, positions = reading.orders, reading.positions
            evolve(fresh, BookRead(at, reading.account, orders, positions, reading.funds, reading.holdings), at)
    return fresh


def securities(state: State, readings: Iterable[Reading]) -> set[Security]:
    """Every instrument that the picture will speak of."""
    found = {key.security for key in state.holdings}
    for reading in readings:
        found |= {order.ticket.security for order in reading.orders}
        found |= {position.security for position in reading.positions}
    return found


# --- The picture -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Desk:
    """What all parts are looked at with."""

    state: State
    at: datetime
    readings: Mapping[str, Reading]
    reasons: Mapping[tuple[str, Key], str]
    orders: dict[Key, list[LeaderOrder]]
    foreign: dict[tuple[str, Key], int]
    strays: dict[tuple[str, Key], list[Order]]
    prices: dict[Security, Decimal]


def picture(
    state: State,
    readings: Mapping[str, Reading],
    at: datetime,
    scope: Scope | None = None,
    reasons: Mapping[tuple[str, Key], str] | None = None,
) -> Picture:
    """Look at every follower's part in every holding; `state` has the readings folded in."""
    scope = scope or Scope()
    desk = _desk(state, readings, at, reasons or {})
    assert state.desk is not None
    names = [each.name for each in state.desk.followers if not scope.followers or each.name in scope.followers]
    parts = [part for name in names for part in _parts(desk, name, scope)]
    blanks = [
        _blank(name, reading)
        for name in names
        if (reading := _unread(desk, name)) is not None and not any(part.name == name for part in parts)
    ]
    findings = tuple(finding for name in names for finding in _findings(desk, name, scope))
    problems = tuple(each for each in readings.values() if each.problem and each.account in (LEADER, *names))
    return Picture(at, state, tuple(parts), tuple(blanks), findings, problems, _strays_of(desk, names), scope)


def _desk(state: State, readings: Mapping[str, Reading], at: datetime, reasons: Mapping[tuple[str, Key], str]) -> _Desk:
    desk = _Desk(state, at, readings, reasons, {}, {}, {}, {})
    for leader_order in state.orders.values():
        desk.orders.setdefault(leader_order.key, []).append(leader_order)
    for reading in readings.values():
        for position in reading.positions:
            price = _last_price(position)
            if price is not None:
                desk.prices.setdefault(position.security, price)
        if reading.account != LEADER:
            _sort_foreign(desk, reading)
    return desk


def _strays_of(desk: _Desk, names: Sequence[str]) -> dict[str, tuple[Order, ...]]:
    found: dict[str, tuple[Order, ...]] = {}
    for (name, _), orders in desk.strays.items():
        if name in names:
            found[name] = (*found.get(name, ()), *orders)
    return found


def _last_price(position: Position) -> Decimal | None:
    """What the account's unrealised profit says of the last price."""
    cost = position.buy_average if position.net_quantity > 0 else position.sell_average
    if not position.net_quantity or not cost or not position.multiplier:
        return None
    return cost + position.unrealized / (position.net_quantity * position.multiplier)


def _sort_foreign(desk: _Desk, reading: Reading) -> None:
    for order in reading.orders:
        at = (reading.account, Key(order.ticket.security, order.ticket.product))
        if not order.is_ours:
            desk.foreign[at] = desk.foreign.get(at, 0) + order.filled_quantity * order.ticket.side.sign
        elif order.correlation_id not in desk.state.slices and (order.filled_quantity or not order.status.is_terminal):
            desk.strays.setdefault(at, []).append(order)


def _unread(desk: _Desk, name: str) -> Reading | None:
    """The reading without which nothing can be said of a follower, None where all is read."""
    for account in (LEADER, name):
        reading = desk.readings.get(account, Reading(account, problem="it was not read"))
        if reading.problem:
            return reading
    return None


def _blank(name: str, unread: Reading) -> Row:
    return Row(name, "", "", "", "", None, None, None, None, None, RowState.UNKNOWN, unread_reason(unread))


def unread_reason(reading: Reading) -> str:
    return f"{reading.account}'s books could not be read: {reading.problem}"


def _parts(desk: _Desk, name: str, scope: Scope) -> Iterator[Part]:
    for key, holding in desk.state.holdings.items():
        instrument = desk.state.instruments.get(key.security)
        share = holding.shares.get(name) or Share(name)
        if not scope.has(name, key.security, instrument) or not _has_something(desk, key, holding, share):
            continue
        account = desk.state.accounts[name]
        yield _part(desk, Part(key, name, holding, account, share, instrument, _row(desk, key, holding, share)))


def _has_something(desk: _Desk, key: Key, holding: Holding, share: Share) -> bool:
    strays = (share.follower, key) in desk.strays
    return bool(holding.leader_net or share.copied or share.net or share.open or strays)


def _row(desk: _Desk, key: Key, holding: Holding, share: Share) -> Row:
    """What can be said before anything is judged."""
    instrument = desk.state.instruments.get(key.security)
    leader_read = not desk.readings.get(LEADER, Reading(LEADER, problem="not read")).problem
    return Row(
        share.follower,
        key.security.exchange_segment,
        key.security.security_id,
        instrument.symbol if instrument is not None else key.security.security_id,
        key.product,
        holding.leader_net if leader_read else None,
        None,
        None,
        None,
        None,
        RowState.UNKNOWN,
        "",
        instrument.lot_size if instrument is not None else None,
        last_price=desk.prices.get(key.security, holding.last_price),
        expiry=instrument.expiry if instrument is not None else None,
    )


def _part(desk: _Desk, part: Part) -> Part:
    unread = _unread(desk, part.name)
    if unread is not None:
        part.row = replace(part.row, why=unread_reason(unread))
        return part
    target = _target(desk, part)
    if target is None:
        part.row = replace(
            part.row,
            copied_quantity=part.share.copied,
            own_quantity=None if part.share.net is None else _own(part),
            why="its target cannot be told: its row in the instrument master, or the capital, is not known",
        )
        return part
    _judge(desk, part, target)
    return part


def _own(part: Part) -> int:
    """What the follower holds beside what was copied; nothing that could be told where the broker does not show all."""
    return 0 if part.share.net is None else part.share.net - part.share.copied


def _target(desk: _Desk, part: Part) -> int | None:
    """What the follower should hold from copying; a filter takes nothing away, it only adds nothing."""
    share, holding = part.share, part.holding
    exact = targets.exact(desk.state, holding, part.account, share)
    if exact is None:
        if targets.standing(holding):
            return None
        exact = 0
    due = share.due if targets.is_covered(holding, share) else None
    target = targets.target(exact, share.copied, part.lot, due)
    if _grows(share.copied, target) and _filtered(part, target):
        return share.copied if share.copied * target > 0 else 0
    return target


def _grows(copied: int, target: int) -> bool:
    return target * copied < 0 or abs(target) > abs(copied)


def _filtered(part: Part, target: int) -> tuple[object, str] | None:
    if part.instrument is None:
        return None
    side = Side.BUY if target > 0 else Side.SELL
    ticket = Ticket(part.key.security, side, part.key.product, OrderType.MARKET, Validity.DAY, abs(target))
    return limits.filtered(part.account.follower.filter, ticket, part.instrument)


def _judge(desk: _Desk, part: Part, target: int) -> None:
    """Compare, and find the state of the row."""
    share = part.share
    part.need = _need(part, target)
    part.coming, part.stuck = _under_way(desk, part)
    state = _state(desk, part)
    drift = -part.need
    price, multiplier = part.row.last_price, part.instrument.multiplier if part.instrument is not None else None
    part.row = replace(
        part.row,
        target_quantity=target,
        copied_quantity=share.copied,
        own_quantity=None if part.share.net is None else _own(part),
        drift_quantity=drift,
        state=state,
        drift_lots=Decimal(drift) / part.lot,
        drift_value=None if price is None else abs(drift) * price * (multiplier or 1),
    )
    part.row = replace(part.row, why=_why(desk, part))


def _need(part: Part, target: int) -> int:
    """What is to be bought (+) or sold; of what is too much, only what the broker still shows can be exited."""
    copied = part.share.copied
    if copied * target >= 0 and abs(target) >= abs(copied):
        return target - copied
    sign = 1 if copied > 0 else -1
    kept = max(target * sign, 0)
    exits = min(abs(copied) - kept, exposure.held(part.holding, part.share, sign))
    enters = target if target * copied < 0 else 0
    return -sign * exits + enters


def _under_way(desk: _Desk, part: Part) -> tuple[int, list[Slice]]:
    """What our working orders will still do of what is needed, and those that will not get there by themselves."""
    if not part.need:
        return 0, []
    sign = 1 if part.need > 0 else -1
    coming, stuck = 0, []
    for piece in part.share.open.values():
        if piece.asked.side.sign != sign or not _helps(part, piece):
            continue
        if _is_alive(desk, piece):
            coming += piece.remaining
        else:
            stuck.append(piece)
    return min(coming + _ahead(part, sign), abs(part.need)), stuck


def _helps(part: Part, piece: Slice) -> bool:
    """Whether an order will trade for what the leader has traded already, not for what may come."""
    if piece.copy is None or part.share.copied * part.need >= 0:
        return True
    return piece.copy.leader.known.is_done or piece.copy.leader.reduced > 0


def _is_alive(desk: _Desk, piece: Slice) -> bool:
    if piece.copy is None or not piece.copy.leader.known.is_done:
        return True
    return desk.at < piece.placed_at + STUCK_AFTER


def _ahead(part: Part, sign: int) -> int:
    """How far our copies of orders that still work have traded before the leader's own: it will follow."""
    total: Units = 0
    for order in part.holding.active.values():
        copy = order.copies.get(part.name)
        if copy is None or order.known.is_done or order.known.ticket.side.sign == sign:
            continue
        level = sizing.quotient(copy.total * order.known.filled_quantity, max(order.known.ticket.quantity, 1))
        total += max(copy.filled - level, 0)
    return int(total)


def _state(desk: _Desk, part: Part) -> RowState:
    if _is_unexplained(desk, part):
        return RowState.UNEXPLAINED
    if part.need:
        working = part.coming + sum(piece.remaining for piece in part.stuck)
        return RowState.PENDING if working >= abs(part.need) else RowState.DRIFT
    return RowState.OWN if _own(part) else RowState.IN_SYNC


def _is_unexplained(desk: _Desk, part: Part) -> bool:
    if (part.name, part.key) in desk.strays or any(_is_lost(desk, piece) for piece in part.share.open.values()):
        return True
    return bool(_unaccounted(desk, part))


def _is_lost(desk: _Desk, piece: Slice) -> bool:
    """Whether an order should long be in the book and is not: one on its way is not lost."""
    return piece.unknown and desk.at >= piece.placed_at + LOST_AFTER


def _unaccounted(desk: _Desk, part: Part) -> int:
    """What an intraday position holds beyond all orders of the day; others may come from yesterday."""
    if part.key.product is not Product.INTRADAY:
        return 0
    return _own(part) - desk.foreign.get((part.name, part.key), 0)


# --- Why ---------------------------------------------------------------------------------------


def _why(desk: _Desk, part: Part) -> str:
    if part.row.state is RowState.IN_SYNC:
        return ""
    reasons = [*_why_unexplained(desk, part), *_why_drift(desk, part), *_why_own(desk, part)]
    return "; ".join(reasons)


def _why_unexplained(desk: _Desk, part: Part) -> Iterator[str]:
    for order in desk.strays.get((part.name, part.key), ()):
        yield f"order {order.order_id} bears our name, and the journal does not know it"
    for piece in part.share.open.values():
        if _is_lost(desk, piece):
            yield f"what became of {piece.correlation_id}, sent at {piece.placed_at:%H:%M:%S}, is not known"
    left = _unaccounted(desk, part)
    if left and (part.name, part.key) not in desk.strays:
        yield f"{left:+} that no order of the day explains"


def _why_drift(desk: _Desk, part: Part) -> Iterator[str]:
    if not part.need:
        return
    told = 0
    for order in sorted(desk.orders.get(part.key, ()), key=lambda each: -each.number):
        text = _why_order(order, order.copies.get(part.name))
        if text and told < _MOST_REASONS:
            told += 1
            yield text
    if not told:
        earlier = desk.reasons.get((part.name, part.key))
        yield earlier or ("carried over from an earlier day" if not desk.orders.get(part.key) else "the copies differ")


def _why_order(order: LeaderOrder, copy: Copy | None) -> str:
    """What went otherwise with one leader order; nothing where its copy did as it did."""
    known = order.known
    named = f"{known.ticket.side} {known.ticket.quantity} (order {known.order_id})"
    if copy is None or not targets.is_judged(copy):
        return f"{named} came while nothing was copied" if known.filled_quantity else ""
    if copy.is_open:
        return f"{named}: its copy is still open, {copy.filled} of {copy.total} filled"
    if copy.skip is not None and (known.filled_quantity or copy.slices):
        return f"{named}: {copy.skip.reason}: {copy.skip.detail}"
    asked = sum(piece.asked.quantity for piece in copy.slices)
    if copy.slices and copy.filled < asked:
        return f"{named}: its copy ended with {copy.filled} of {asked} filled"
    return ""


def _why_own(desk: _Desk, part: Part) -> Iterator[str]:
    own, copied = _own(part), part.share.copied
    if not own:
        return
    today = desk.foreign.get((part.name, part.key), 0)
    if copied * own < 0 and exposure.held(part.holding, part.share, 1 if copied > 0 else -1) < abs(copied):
        yield f"{own:+} by hand: of {copied:+} from copying the broker shows {part.share.net:+}"
    elif today == own:
        yield f"{own:+} traded by hand today"
    elif part.row.state is not RowState.UNEXPLAINED:
        yield f"{own:+} of its own"


# --- Orders beside positions -------------------------------------------------------------------


def _findings(desk: _Desk, name: str, scope: Scope) -> Iterator[Finding]:
    if _unread(desk, name) is not None:
        return
    for (follower, key), orders in desk.strays.items():
        if follower == name and scope.has(name, key.security, desk.state.instruments.get(key.security)):
            for order in orders:
                yield _stray(desk, name, key, order)
    for key, holding in desk.state.holdings.items():
        instrument = desk.state.instruments.get(key.security)
        if scope.has(name, key.security, instrument):
            symbol = instrument.symbol if instrument is not None else key.security.security_id
            share = holding.shares.get(name) or Share(name)
            expiry = instrument.expiry if instrument is not None else None
            for finding in _uncopied(holding, share, symbol):
                yield replace(finding, expiry=expiry)
            for piece in share.open.values():
                for finding in _of_piece(desk, piece, symbol):
                    yield replace(finding, expiry=expiry)


def _stray(desk: _Desk, name: str, key: Key, order: Order) -> Finding:
    instrument = desk.state.instruments.get(key.security)
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
    return f": {reason}; {_UNCOPIED_EXIT if order.only_exits else _UNCOPIED_ENTRY}" if reason else ""


def _is_short(holding: Holding, share: Share, order: LeaderOrder, copy: Copy) -> bool:
    """Whether something is left that a copy would do: an exit needs a position, an entry what it was not given."""
    if order.only_exits:
        return exposure.held(holding, share, -order.known.ticket.side.sign) > 0
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


def _of_piece(desk: _Desk, piece: Slice, symbol: str) -> Iterator[Finding]:
    def finding(kind: FindingKind, detail: str) -> Finding:
        leader_order_id = piece.leader_order_id or None
        return Finding(
            piece.follower, kind, symbol, detail, leader_order_id, piece.order_id or None, piece.correlation_id
        )

    if _is_lost(desk, piece):
        yield finding(FindingKind.UNKNOWN_OUTCOME, f"sent at {piece.placed_at:%H:%M:%S}, and not found since")
    elif is_orphan(desk.state, piece):
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
            return f"its {what} is {ours}, the leader's {theirs}; follow modifies it"
    return ""


# --- The plan ----------------------------------------------------------------------------------


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
    exits = min(max(-part.share.copied * sign, 0), abs(part.need))
    entries = abs(part.need) - exits
    exits -= min(part.coming, exits)
    entries = max(entries - part.coming, 0) if not exits else entries
    if entries and wishes.reduce_only and not exits:
        return
    for piece in part.stuck:
        if piece not in orphans and piece.order_id:
            yield _cancel(part, piece, "it has not filled; the rest is placed anew")
    if exits:
        yield from _cancel_resting(part, sign, abs(part.share.copied) - exits, [*orphans, *part.stuck])
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
    if action is Action.ENTRY:
        quantity = quantity // part.lot * part.lot
    largest = sizing.largest_order(part.instrument) or quantity
    price = _limit_price(part, sign) if wishes.at_limit else None
    while quantity > 0:
        step = _order(part, action, sign, min(quantity, largest), price)
        held_back = "no last price is known for a limit" if wishes.at_limit and price is None else ""
        yield replace(step, held_back=held_back or _held_back(seen, part, step))
        quantity -= min(quantity, largest)


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


def _held_back(seen: Picture, part: Part, step: Step) -> str:
    """Why the engine would not send it, judged as it will judge."""
    desk = seen.state.desk
    assert desk is not None
    if desk.rules.enforce_hours:
        verdict = hours.is_open(desk.calendar, step.exchange_segment, seen.at)
        if not verdict.is_open:
            return f"MARKET_CLOSED: {verdict.text}"
    if step.action is Action.EXIT:
        return ""
    refusal = fixing.held_back(seen.state, part.holding, part.account, part.share, ticket_of(step), seen.at)
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
