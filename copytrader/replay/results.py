"""What a day came to: for the leader and each follower, for each instrument, for each order.

A `Tally` is told each event and what was decided on it, whether recorded or played anew, and reckons
from the decisions: what was asked for, skipped and filled.  Money is price x quantity x
multiplier; a result is realised when a position is closed, by the average price at which
it was opened.  Charges (brokerage, taxes, exchange fees) are not modelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from copytrader.core.copies import Key
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Cancel,
    Decision,
    Event,
    Filled,
    Modify,
    OrderSeen,
    Place,
    Refused,
    Role,
    Skip,
    Started,
    Verb,
)
from copytrader.core.model import LEADER, ZERO, Instrument, OrderKind, Position, Product, Side, SkipReason
from copytrader.core.state import State

CHARGES = "charges (brokerage, taxes, exchange fees) are not modelled"
_AFTER_SENDING = frozenset({SkipReason.REFUSED, SkipReason.INSUFFICIENT_MARGIN, SkipReason.TOKEN, SkipReason.ABSENT})
_MOST_POINTS = 2000
_PAISA = Decimal("0.01")
Words = dict[str, object]


@dataclass(slots=True)
class Curve:
    """A quantity over time, thinned out when it gets long; its largest value is never lost."""

    points: list[tuple[datetime, Decimal]] = field(default_factory=list)
    largest: Decimal = ZERO
    _kept: int = 0
    _every: int = 1

    def add(self, at: datetime, value: Decimal) -> None:
        highest = value > self.largest
        self.largest = max(self.largest, value)
        self._kept += 1
        if highest or self._kept % self._every == 0:
            self.points.append((at, value))
        if len(self.points) > _MOST_POINTS:
            self._every *= 2
            top = max(self.points, key=lambda point: point[1])
            self.points = [point for number, point in enumerate(self.points) if number % 2 or point is top]


@dataclass(slots=True)
class Held:
    """One account's position in one instrument and product, and what trading it came to."""

    key: Key
    name: str
    multiplier: int
    lot_size: int
    quantity: int = 0
    average: Decimal = ZERO
    bought: int = 0
    sold: int = 0
    realized: Decimal = ZERO
    value: Decimal = ZERO

    def fill(self, side: Side, quantity: int, price: Decimal) -> None:
        self.value += price * quantity * self.multiplier
        if side is Side.BUY:
            self.bought += quantity
        else:
            self.sold += quantity
        closes = min(quantity, abs(self.quantity)) if self.quantity * side.sign < 0 else 0
        self.realized -= side.sign * (price - self.average) * closes * self.multiplier
        kept, opens = abs(self.quantity) - closes, quantity - closes
        self.quantity += side.sign * quantity
        if opens:
            self.average = (self.average * kept + price * opens) / (kept + opens)
        elif not self.quantity:
            self.average = ZERO


@dataclass(slots=True)
class Line:
    """What one account did with one leader order: for the leader the order itself."""

    account: str
    leader_order_id: str
    at: datetime
    instrument: str = ""
    side: Side | None = None
    role: Role | None = None
    asked: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    filled: int = 0
    value: Decimal = ZERO
    reason: SkipReason | None = None
    detail: str = ""

    @property
    def quantity(self) -> int:
        """How much was asked for: what was refused counts only where nothing was asked for in its stead."""
        taken = sum(quantity for name, quantity in self.asked.items() if name not in self.refused)
        return taken or self.refused_quantity

    @property
    def refused_quantity(self) -> int:
        return sum(self.asked[name] for name in self.refused)

    @property
    def average_price(self) -> Decimal | None:
        return (self.value / self.filled).quantize(Decimal("0.0001")).normalize() if self.filled else None

    def outcome(self) -> Words:
        """What came of it, in the words of the result table."""
        return {
            "quantity": self.quantity,
            "refused_quantity": self.refused_quantity,
            "filled_quantity": self.filled,
            "average_price": self.average_price,
            "skipped": self.reason if not self.filled else None,
            "detail": self.detail if not self.filled else "",
        }


@dataclass(slots=True)
class Sum:
    """One account's day."""

    account: str
    orders: int = 0
    modifications: int = 0
    cancels: int = 0
    refused: int = 0
    skips: Counter[SkipReason] = field(default_factory=Counter)
    held: dict[Key, Held] = field(default_factory=dict)
    exposure: Curve = field(default_factory=Curve)
    margin: Decimal = ZERO
    margin_unknown: set[str] = field(default_factory=set)
    latencies: Curve = field(default_factory=Curve)

    @property
    def lots(self) -> int:
        return sum((each.bought + each.sold) // each.lot_size for each in self.held.values())

    @property
    def realized(self) -> Decimal:
        return sum((each.realized for each in self.held.values()), ZERO)


class Tally:
    """Adds a day up."""

    def __init__(self, state: State) -> None:
        self.sums: dict[str, Sum] = {}
        self.lines: dict[tuple[str, str], Line] = {}
        self.events = self.decisions = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._fills: dict[tuple[str, str], tuple[int, Decimal]] = {}
        self._placed: dict[str, datetime] = {}
        self._asking: dict[str, Line] = {}
        self._begin(state)

    def take(self, event: Event, decisions: Sequence[Decision], state: State) -> None:
        """Take in one event with its decisions; the state is that after them."""
        self.events += 1
        self.decisions += len(decisions)
        self.first, self.last = self.first or event.at, event.at
        match event:
            case OrderSeen(account=account, order=order) if account == LEADER:
                self._leader(order.order_id, event.at, state)
            case BookRead(account=account) if account == LEADER:
                for order in event.orders:
                    self._leader(order.order_id, event.at, state)
                for position in event.positions or ():
                    self._leader_held(position, state)
            case Started():
                for follower in event.desk.followers:
                    self._sum(follower.name)
            case Accepted(verb=Verb.PLACE, correlation_id=name) if name in self._placed:
                waited = (event.at - self._placed.pop(name)).total_seconds()
                self._sum(event.account).latencies.add(event.at, Decimal(str(waited)))
            case Refused(verb=Verb.PLACE, correlation_id=name) if name in self._asking:
                self._asking[name].refused.add(name)
            case _:
                pass
        for decision in decisions:
            self._decided(decision, event.at, state)

    def _begin(self, state: State) -> None:
        """Begin with the positions that earlier days left."""
        for key, holding in state.holdings.items():
            for share in holding.shares.values():
                if share.copied:
                    held = self._held(share.follower, key, state)
                    held.quantity, held.average = share.copied, share.average

    def _leader_held(self, position: Position, state: State) -> None:
        """Learn what the leader held before, unless it has traded that here."""
        net = position.net_quantity
        held = self._held(LEADER, Key(position.security, position.product), state) if net else None
        if held is not None and not held.bought and not held.sold:
            held.quantity, held.average = net, position.buy_average if net > 0 else position.sell_average

    def _decided(self, decision: Decision, at: datetime, state: State) -> None:
        match decision:
            case Place():
                self._sum(decision.account).orders += 1
                self._placed[decision.correlation_id] = at
                line = self._line(decision.account, decision.leader_order_id, at)
                line.instrument = state.named(decision.ticket.security)
                line.side, line.role = decision.ticket.side, decision.role
                line.asked[decision.correlation_id] = decision.ticket.quantity
                line.refused.discard(decision.correlation_id)
                line.reason, line.detail = None, ""
                self._asking[decision.correlation_id] = line
            case Modify():
                self._sum(decision.account).modifications += 1
                line = self._line(decision.account, decision.leader_order_id, at)
                line.asked[decision.correlation_id] = decision.ticket.quantity
            case Cancel():
                self._sum(decision.account).cancels += 1
            case Skip():
                self._skipped(decision, at, state)
            case Filled():
                self._filled(decision, at, state)
            case _:
                pass

    def _leader(self, order_id: str, at: datetime, state: State) -> None:
        order = state.orders.get(order_id)
        if order is None:
            return
        line = self._line(LEADER, order_id, at)
        if not line.asked:
            self._sum(LEADER).orders += 1
        line.instrument, line.side = state.named(order.key.security), order.known.ticket.side
        line.asked[order_id] = order.known.ticket.quantity
        if order.known.kind is not OrderKind.ORDINARY:
            line.detail = f"{order.known.kind}"

    def _skipped(self, skip: Skip, at: datetime, state: State) -> None:
        total = self._sum(skip.account)
        total.skips[skip.reason] += 1
        if skip.correlation_id and skip.reason in _AFTER_SENDING:
            total.refused += 1
        line = self._line(skip.account, skip.leader_order_id, at)
        line.reason, line.detail = skip.reason, skip.detail
        leader = state.orders.get(skip.leader_order_id)
        if leader is not None and not line.instrument:
            line.instrument, line.side = state.named(leader.key.security), leader.known.ticket.side

    def _filled(self, filled: Filled, at: datetime, state: State) -> None:
        traded = _traded(filled, state)
        if traded is None:
            return
        key, side = traded
        before = self._fills.get((filled.account, filled.order_id), (0, ZERO))
        worth = filled.average_price * filled.filled_quantity
        self._fills[filled.account, filled.order_id] = (filled.filled_quantity, worth)
        price = max((worth - before[1]) / filled.quantity, ZERO)
        held = self._held(filled.account, key, state)
        held.fill(side, filled.quantity, price)
        line = self._line(filled.account, filled.leader_order_id, at)
        line.filled += filled.quantity
        line.value += price * filled.quantity
        self._expose(filled.account, at, state)

    def _expose(self, account: str, at: datetime, state: State) -> None:
        """Reckon what an account has at stake now, and what margin that needs where that is known.

        A bought option or share needs its price; what anything else needs, only the broker can say.
        """
        total = self._sum(account)
        exposure = margin = ZERO
        for key, held in total.held.items():
            if not held.quantity:
                continue
            holding = state.holdings.get(key)
            last = (holding.last_price if holding is not None else None) or held.average
            exposure += abs(held.quantity) * last * held.multiplier
            if _is_paid_in_full(key, held, state.instruments.get(key.security)):
                margin += held.quantity * held.average * held.multiplier
            else:
                total.margin_unknown.add(held.name)
        total.exposure.add(at, exposure)
        total.margin = max(total.margin, margin)

    def _sum(self, account: str) -> Sum:
        return self.sums.setdefault(account, Sum(account))

    def _line(self, account: str, leader_order_id: str, at: datetime) -> Line:
        return self.lines.setdefault((account, leader_order_id), Line(account, leader_order_id, at))

    def _held(self, account: str, key: Key, state: State) -> Held:
        total = self._sum(account)
        if key not in total.held:
            row = state.instruments.get(key.security)
            multiplier = (row.multiplier if row is not None else None) or 1
            lot_size = row.lot_size if row is not None else 1
            total.held[key] = Held(key, state.named(key.security), multiplier, lot_size)
        return total.held[key]

    # --- As rows

    def accounts(self) -> list[Words]:
        return [_account(self.sums[name]) for name in self._names()]

    def instruments(self) -> list[Words]:
        return [_instrument(name, held) for name in self._names() for held in self.sums[name].held.values()]

    def _names(self) -> list[str]:
        return sorted(self.sums, key=lambda name: (name != LEADER, name))


def compared(one: Tally, other: Tally | None, titles: Sequence[str]) -> Iterator[Words]:
    """Yield a row for each leader order and account: its outcome in each tally, and whether they differ."""
    first = _first_seen(one, other)
    keys = sorted(
        dict.fromkeys((*one.lines, *(other.lines if other is not None else ()))),
        key=lambda key: (first[key[1]], key[1], key[0] != LEADER, key[0]),
    )
    for key in keys:
        lines = [one.lines.get(key), other.lines.get(key) if other is not None else None]
        line = lines[0] or lines[1]
        assert line is not None
        outcomes = [each.outcome() if each is not None else None for each in lines]
        row: Words = {
            "at": line.at,
            "leader_order_id": key[1],
            "account": key[0],
            "instrument": line.instrument,
            "side": line.side,
            titles[0]: outcomes[0],
        }
        if other is not None:
            row |= {titles[1]: outcomes[1], "differs": _essence(outcomes[0]) != _essence(outcomes[1])}
        yield row


def _first_seen(*tallies: Tally | None) -> dict[str, datetime]:
    first: dict[str, datetime] = {}
    for tally in tallies:
        for (_, order_id), line in tally.lines.items() if tally is not None else ():
            first[order_id] = min(line.at, first.get(order_id, line.at))
    return first


def _essence(outcome: Mapping[str, object] | None) -> object:
    if outcome is None:
        return None
    return tuple(
        outcome[key] for key in ("quantity", "refused_quantity", "filled_quantity", "average_price", "skipped")
    )


def _traded(filled: Filled, state: State) -> tuple[Key, Side] | None:
    if filled.account == LEADER:
        order = state.orders.get(filled.leader_order_id)
        return None if order is None else (order.key, order.known.ticket.side)
    piece = state.slices.get(filled.correlation_id)
    return None if piece is None else (piece.key, piece.asked.side)


def _is_paid_in_full(key: Key, held: Held, instrument: Instrument | None) -> bool:
    if held.quantity < 0 or instrument is None:
        return False
    return instrument.instrument_type.startswith("OPT") or key.product is Product.CNC


def _rupees(amount: Decimal) -> Decimal:
    return amount.quantize(_PAISA)


def _account(total: Sum) -> Words:
    unknown = sorted(total.margin_unknown)
    return {
        "account": total.account,
        "orders": total.orders,
        "modifications": total.modifications,
        "cancels": total.cancels,
        "refused": total.refused,
        "skips": {reason.value: count for reason, count in sorted(total.skips.items())},
        "lots": total.lots,
        "traded_value": _rupees(sum((each.value for each in total.held.values()), ZERO)),
        "largest_exposure": _rupees(total.exposure.largest),
        "largest_margin": None if unknown else _rupees(total.margin),
        "margin_unknown_for": unknown,
        "realized": _rupees(total.realized),
    }


def _instrument(account: str, held: Held) -> Words:
    return {
        "account": account,
        "instrument": held.name,
        "product": held.key.product,
        "bought": held.bought,
        "sold": held.sold,
        "realized": _rupees(held.realized),
        "still_held": held.quantity,
        "at_average": held.average if held.quantity else None,
    }
