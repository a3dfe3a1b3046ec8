"""A leader, followers and a paper broker around the engine, for tests that read like dialogues.

The paper broker is a ledger of its own: it knows nothing of the engine's state, and what
it holds is what the tests judge by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.core.engine import step
from copytrader.core.facts import (
    Accepted,
    Alert,
    BookRead,
    Cancel,
    Command,
    Decision,
    Event,
    InstrumentRead,
    Modify,
    OrderSeen,
    Place,
    Refused,
    Skip,
    Source,
    Started,
    Ticked,
    Verb,
)
from copytrader.core.model import (
    IST,
    LEADER,
    ZERO,
    CopyRules,
    Desk,
    Filter,
    Follower,
    Funds,
    Instrument,
    Limits,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    RefusalClass,
    Security,
    Side,
    Sizing,
    Ticket,
    Validity,
)
from copytrader.core.state import State

NIFTY = Security("NSE_FNO", "45463")
START = datetime(2026, 11, 23, 10, 0, 0, tzinfo=IST)
D = Decimal


def instrument(lot_size: int = 75, **changes: object) -> Instrument:
    row = Instrument(NIFTY, "NIFTY-Dec2026-24000-PE", lot_size, D("0.05"), 1800, 1, "NIFTY", "OPTIDX")
    return replace(row, **changes)  # type: ignore[arg-type]


def follower(name: str = "asha", ratio: str = "0.5", **changes: object) -> Follower:
    base = Follower(name, f"20{sum(map(ord, name)):08}", Sizing(ratio=D(ratio)), Limits(), Filter())
    return replace(base, **changes)  # type: ignore[arg-type]


def ticket(side: Side = Side.BUY, quantity: int = 150, price: str = "100", **changes: object) -> Ticket:
    base = Ticket(NIFTY, side, Product.INTRADAY, OrderType.LIMIT, Validity.DAY, quantity, D(price))
    return replace(base, **changes)  # type: ignore[arg-type]


@dataclass
class Held:
    """One order in the paper broker's ledger."""

    order_id: str
    account: str
    correlation_id: str
    ticket: Ticket
    status: OrderStatus = OrderStatus.PENDING
    filled: int = 0
    average: Decimal = ZERO
    updated: datetime = START
    placed: datetime = START

    @property
    def is_open(self) -> bool:
        return not self.status.is_terminal

    def seen(self) -> Order:
        return Order(
            self.order_id,
            self.ticket,
            self.status,
            self.placed,
            self.updated,
            self.filled,
            self.average,
            self.correlation_id,
        )


@dataclass
class Play:
    """Drives the engine: the leader acts, commands reach the paper broker, its news comes back."""

    followers: tuple[Follower, ...] = (follower(),)
    rules: CopyRules = field(default_factory=lambda: CopyRules(enforce_hours=False))
    row: Instrument = field(default_factory=instrument)
    held_before: int = 0
    answer: Callable[[Command], Event | None] | None = None
    funds: dict[str, Funds] = field(default_factory=dict)
    fills_at_once: bool = False
    begin: bool = True

    def __post_init__(self) -> None:
        self.state = State()
        self.now = START
        self.orders: dict[str, Held] = {}
        self.positions: dict[str, int] = {each.name: 0 for each in self.followers}
        self.leader: dict[str, Order] = {}
        self.decisions: list[Decision] = []
        self.events: list[Event] = []
        self.queue: list[Event] = []
        self.numbered = 0
        if self.begin:
            self.starts()

    # --- the process

    def starts(self) -> None:
        desk = Desk("1000000001", self.followers, self.rules)
        self.feed(Started(self.now, "test", "", desk))
        self.feed(InstrumentRead(self.now, self.row))
        for each in self.followers:
            self.reads_book(each.name)
        self.reads_leader_book()

    def reads_leader_book(self, net: int | None = None) -> None:
        held = self.held_before + self.leader_net() if net is None else net
        positions = (Position(NIFTY, Product.INTRADAY, held),) if held else ()
        self.feed(BookRead(self.now, LEADER, tuple(self.leader.values()), positions, self.funds.get(LEADER)))

    def leader_net(self) -> int:
        return sum(each.filled_quantity * each.ticket.side.sign for each in self.leader.values())

    def reads_book(self, name: str) -> None:
        rows = tuple(each.seen() for each in self.orders.values() if each.account == name)
        held = self.positions[name]
        positions = (Position(NIFTY, Product.INTRADAY, held),) if held else ()
        self.feed(BookRead(self.now, name, rows, positions, self.funds.get(name)))

    def feed(self, event: Event) -> list[Decision]:
        """Pass one event through the engine and carry out what it decides."""
        made = self.decide(event)
        while self.queue:
            made += self.decide(self.queue.pop(0))
        return made

    def decide(self, event: Event) -> list[Decision]:
        self.events.append(event)
        self.state, decisions = step(self.state, event)
        self.decisions += decisions
        for decision in decisions:
            if isinstance(decision, Place | Modify | Cancel):
                self._carry_out(decision)
        return list(decisions)

    def waits(self, seconds: float) -> None:
        """Let time pass, with a tick whenever the engine asked for one."""
        end = self.now + timedelta(seconds=seconds)
        while (wake := self.state.next_wake) is not None and wake <= end:
            self.now = max(wake, self.now)
            self.feed(Ticked(self.now))
        self.now = end

    # --- the broker

    def _carry_out(self, command: Command) -> None:
        verb = {Place: Verb.PLACE, Modify: Verb.MODIFY, Cancel: Verb.CANCEL}[type(command)]
        if self.answer is not None and (answer := self.answer(command)) is not None:
            self.queue.append(answer)
            return
        if isinstance(command, Place):
            held = self.takes(command)
            self._accept(command, verb, held)
            if self.fills_at_once:
                self.fills_follower(held, command.ticket.quantity)
            return
        held = self.orders[command.order_id]
        if not held.is_open:
            self.queue.append(
                Refused(self.now, held.account, held.correlation_id, verb, RefusalClass.ENDED, "DH-906", "ended")
            )
            self._tell(held)
            return
        if isinstance(command, Modify):
            held.ticket = command.ticket
        else:
            held.status = OrderStatus.CANCELLED
        held.updated = self.now
        self._accept(command, verb, held)

    def takes(self, place: Place) -> Held:
        """Put an order into the ledger and tell nobody."""
        self.numbered += 1
        name = place.correlation_id
        held = Held(f"F{self.numbered}", place.account, name, place.ticket, updated=self.now, placed=self.now)
        assert all(place.correlation_id != each.correlation_id for each in self.orders.values()), "I1"
        self.orders[held.order_id] = held
        return held

    def _accept(self, command: Command, verb: Verb, held: Held) -> None:
        self.queue.append(Accepted(self.now, held.account, held.correlation_id, verb, held.order_id))
        self._tell(held)

    def _tell(self, held: Held) -> None:
        self.queue.append(OrderSeen(self.now, held.account, held.seen(), Source.STREAM))

    def fills_follower(self, held: Held, quantity: int, price: str = "") -> None:
        held.filled += quantity
        held.average = D(price) if price else (held.ticket.price or D(100))
        held.status = OrderStatus.TRADED if held.filled == held.ticket.quantity else OrderStatus.PART_TRADED
        self.positions[held.account] += held.ticket.side.sign * quantity
        held.updated = self.now
        self._tell(held)

    def fills(self, *, name: str | None = None) -> None:
        """Fill every open follower order wholly."""
        for held in list(self.orders.values()):
            if held.is_open and name in (None, held.account):
                self.fills_follower(held, held.ticket.quantity - held.filled)
        self.drain()

    def trades_by_hand(self, lots: int, *, is_read: bool = True) -> None:
        """An order of the first follower's own fills; the stream tells it, the next read shows the position."""
        name, quantity = self.followers[0].name, abs(lots) * self.row.lot_size
        terms = ticket(Side.BUY if lots > 0 else Side.SELL, quantity, "0", order_type=OrderType.MARKET)
        self.numbered += 1
        held = Held(f"M{self.numbered}", name, "", terms, OrderStatus.TRADED, quantity, D(100), self.now, self.now)
        self.orders[held.order_id] = held
        self.positions[name] += lots * self.row.lot_size
        self.feed(OrderSeen(self.now, name, held.seen(), Source.STREAM))
        self.waits(5)
        if is_read:
            self.reads_book(name)

    def drain(self) -> None:
        while self.queue:
            self.decide(self.queue.pop(0))

    def rejects(self, held: Held, refusal: RefusalClass = RefusalClass.MARGIN, note: str = "RMS: no funds") -> None:
        held.status = OrderStatus.REJECTED
        self.feed(OrderSeen(self.now, held.account, replace(held.seen(), note=note, refusal=refusal), Source.STREAM))

    def dies(self, held: Held, status: OrderStatus = OrderStatus.CANCELLED) -> None:
        held.status = status
        held.updated = self.now
        self._tell(held)
        self.drain()

    # --- the leader

    def places(self, order_id: str, terms: Ticket | None = None, **changes: object) -> list[Decision]:
        order = Order(order_id, terms or ticket(), OrderStatus.PENDING, self.now, self.now, last_price=D(100))
        order = replace(order, **changes)  # type: ignore[arg-type]
        self.leader[order_id] = order
        return self.feed(OrderSeen(self.now, LEADER, order, Source.STREAM))

    def modifies(self, order_id: str, **changes: object) -> list[Decision]:
        order = self.leader[order_id]
        self.now += timedelta(seconds=1)
        changed = replace(
            order,
            ticket=replace(order.ticket, **changes),  # type: ignore[arg-type]
            status=OrderStatus.MODIFIED,
            updated_at=self.now,
        )
        self.leader[order_id] = changed
        return self.feed(OrderSeen(self.now, LEADER, changed, Source.STREAM))

    def leader_fills(self, order_id: str, quantity: int | None = None) -> list[Decision]:
        order = self.leader[order_id]
        filled = order.filled_quantity + (quantity or order.ticket.quantity - order.filled_quantity)
        status = OrderStatus.TRADED if filled == order.ticket.quantity else OrderStatus.PART_TRADED
        return self._leader_becomes(
            order_id, status, filled_quantity=filled, average_price=order.ticket.price or D(100)
        )

    def cancels(self, order_id: str) -> list[Decision]:
        return self._leader_becomes(order_id, OrderStatus.CANCELLED)

    def _leader_becomes(self, order_id: str, status: OrderStatus, **changes: object) -> list[Decision]:
        changed = replace(self.leader[order_id], status=status, updated_at=self.now, **changes)  # type: ignore[arg-type]
        self.leader[order_id] = changed
        return self.feed(OrderSeen(self.now, LEADER, changed, Source.STREAM))

    def trades(self, order_id: str, lots: int, *, fills: bool = True) -> None:
        """A market order of so many lots, - sells; filled at the leader, and at the followers."""
        side = Side.BUY if lots > 0 else Side.SELL
        terms = ticket(side, abs(lots) * self.row.lot_size, "0", order_type=OrderType.MARKET)
        self.places(order_id, terms)
        self.leader_fills(order_id)
        if fills:
            self.fills()

    # --- what is judged

    def skips(self, reason: str | None = None) -> list[Skip]:
        return [each for each in self.decisions if isinstance(each, Skip) and reason in (None, each.reason)]

    def alerts(self) -> list[Alert]:
        return [each for each in self.decisions if isinstance(each, Alert)]

    def of(self, name: str = "asha") -> list[Held]:
        return [each for each in self.orders.values() if each.account == name]

    def lots(self, name: str = "asha") -> int:
        return self.positions[name] // self.row.lot_size


def quiet(play: Play) -> OrderSeen:
    """An event that changes nothing, in place of an answer that is still under way."""
    return OrderSeen(play.now, "nobody", Order("X", ticket(), OrderStatus.PENDING), Source.STREAM)


def kinds(decisions: Iterable[Decision]) -> list[str]:
    return [type(each).__name__ for each in decisions]
