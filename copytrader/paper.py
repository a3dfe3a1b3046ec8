"""Orders that nobody sends: what would have become of them, by a model that is easy to state.

*A follower's order fills like the leader's, at the leader's prices.*  When the leader's order has
filled by half, the copies of it are filled by half, in whole lots; when it is filled, so are they.
An order that follows from no leader order (a sweep) fills at once at the last price known.
The model knows no order book: neither a copy's own limit nor the depth of the market is looked at.
`FillModel` makes it less kind: prices some ticks worse, refusals by chance (but always
the same ones for a seed), answers that take their time.

A dry run and a replay share it.  Nothing here opens a connection or sends anything; `PaperBroker`
has no way to.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from copytrader.account import Account, Broker
from copytrader.copier import Copier, Watcher
from copytrader.core.copies import Key
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Cancel,
    Command,
    Decision,
    Event,
    Modify,
    OrderSeen,
    Place,
    Refused,
    Source,
    Verb,
)
from copytrader.core.merge import Known
from copytrader.core.model import (
    IST,
    LEADER,
    ZERO,
    Funds,
    Instrument,
    Order,
    OrderStatus,
    Position,
    RefusalClass,
    Security,
)
from copytrader.core.state import State
from copytrader.dhan.answers import Outcome
from copytrader.dhan.bodies import Profile
from copytrader.narrate import PAPER

CODE = "PAPER"
"""The code of a refusal that the model, not a broker, made."""


@dataclass(frozen=True, slots=True)
class FillModel:
    """How much worse than the leader's a follower's orders fare."""

    slippage_ticks: int = 0
    reject_rate: float = 0.0
    latency: timedelta = timedelta(0)
    seed: int = 0

    def refuses(self, correlation_id: str) -> bool:
        """Tell whether chance refuses an order: always the same for its name and the seed."""
        if self.reject_rate <= 0:
            return False
        return Random(f"{self.seed} {correlation_id}").random() < self.reject_rate  # noqa: S311 - a model, no secret


@dataclass(slots=True)
class _Paper:
    """One order on paper, as the broker would describe it."""

    account: str
    leader_order_id: str
    follows: bool
    order: Order

    @property
    def is_open(self) -> bool:
        return not self.order.status.is_terminal


@dataclass(slots=True)
class PaperMarket:
    """The orders on paper of all followers.  `answer` takes commands, `due` tells what then happens to them."""

    model: FillModel = field(default_factory=FillModel)
    _day: date | None = None
    _placed: int = 0
    _orders: dict[tuple[str, str], _Paper] = field(default_factory=dict)
    _nets: defaultdict[tuple[str, Key], int] = field(default_factory=lambda: defaultdict(int))
    _working: defaultdict[str, list[_Paper]] = field(default_factory=lambda: defaultdict(list))
    _news: list[_Paper] = field(default_factory=list)

    def answer(self, command: Command, at: datetime) -> Accepted | Refused:
        """Answer a command as a broker would."""
        match command:
            case Place():
                return self._place(command, at)
            case Modify():
                return self._modify(command, at)
            case Cancel():
                return self._cancel(command, at)

    def due(self, event: Event, state: State) -> list[OrderSeen]:
        """Tell what has become of the orders on paper by an event: the state is that after it."""
        seen = [_seen(each, event.at) for each in self._news]
        self._news.clear()
        match event:
            case Accepted(verb=Verb.CANCEL) if (event.account, event.order_id) not in self._orders:
                seen += _cancelled_elsewhere(event, state)
            case Accepted(verb=Verb.PLACE):
                paper = self._orders.get((event.account, event.order_id))
                if paper is not None:
                    seen += self._fill(paper.leader_order_id, state, event.at)
            case OrderSeen(account=account, order=order) if account == LEADER:
                seen += self._fill(order.order_id, state, event.at)
            case BookRead(account=account, orders=orders) if account == LEADER:
                for order in orders:
                    seen += self._fill(order.order_id, state, event.at)
            case _:
                pass
        return seen

    def rows(self, account: str) -> tuple[Order, ...]:
        """Return an account's orders on paper as its order book would show them."""
        return tuple(paper.order for (name, _), paper in self._orders.items() if name == account)

    def nets(self, account: str) -> dict[Key, int]:
        """Return what an account's orders on paper have come to, by instrument and product."""
        return {key: net for (name, key), net in self._nets.items() if name == account}

    def _turn_day(self, day: date) -> None:
        """Forget the orders of the day before, which no book shows any more; one for after the market goes on."""
        if self._day is not None and day > self._day:
            kept = {key: each for key, each in self._orders.items() if each.is_open and each.order.ticket.after_market}
            self._orders = kept
            self._working.clear()
            for paper in kept.values():
                self._working[paper.leader_order_id].append(paper)
        self._day = day

    def _place(self, place: Place, at: datetime) -> Accepted | Refused:
        self._turn_day(at.astimezone(IST).date())
        if self.model.refuses(place.correlation_id):
            return _refused(place, Verb.PLACE, RefusalClass.OTHER, "refused by the fill model", at)
        self._placed += 1
        order_id = f"{PAPER}{at:%y%m%d%H%M%S}{self._placed:05}"
        order = Order(order_id, place.ticket, OrderStatus.PENDING, at, at, correlation_id=place.correlation_id)
        paper = _Paper(place.account, place.leader_order_id, not place.sweep, order)
        self._orders[place.account, order_id] = paper
        self._working[place.leader_order_id].append(paper)
        self._news.append(paper)
        return _accepted(place, Verb.PLACE, order_id, at)

    def _modify(self, modify: Modify, at: datetime) -> Accepted | Refused:
        paper = self._orders.get((modify.account, modify.order_id))
        if paper is not None:
            if not paper.is_open:
                return _refused(modify, Verb.MODIFY, RefusalClass.ENDED, "the order has ended", at)
            paper.order = replace(paper.order, ticket=modify.ticket, updated_at=at)
            self._news.append(paper)
        return _accepted(modify, Verb.MODIFY, modify.order_id, at)

    def _cancel(self, cancel: Cancel, at: datetime) -> Accepted | Refused:
        paper = self._orders.get((cancel.account, cancel.order_id))
        if paper is not None:
            if not paper.is_open:
                return _refused(cancel, Verb.CANCEL, RefusalClass.ENDED, "the order has ended", at)
            paper.order = replace(paper.order, status=OrderStatus.CANCELLED, updated_at=at)
            self._news.append(paper)
        return _accepted(cancel, Verb.CANCEL, cancel.order_id, at)

    def _fill(self, leader_order_id: str, state: State, at: datetime) -> Iterator[OrderSeen]:
        """Fill what follows one leader order as far as that has filled, each account's orders in turn."""
        papers = self._working.get(leader_order_id)
        if not papers:
            return
        for account in dict.fromkeys(paper.account for paper in papers):
            yield from self._fill_account([paper for paper in papers if paper.account == account], state, at)
        leader = state.orders.get(leader_order_id)
        if (leader is None or leader.known.is_done) and not any(paper.is_open for paper in papers):
            del self._working[leader_order_id]

    def _fill_account(self, papers: Sequence[_Paper], state: State, at: datetime) -> Iterator[OrderSeen]:
        leader = state.orders.get(papers[0].leader_order_id)
        for paper in papers:
            if paper.is_open and (leader is None or not paper.follows):
                yield self._filled(paper, paper.order.ticket.quantity, ZERO, state, at)
        followers = [paper for paper in papers if paper.follows]
        if leader is None or not followers:
            return
        left = _wanted(leader.known, followers, _lot(state, followers[0]))
        for paper in followers:
            take = min(left, paper.order.ticket.quantity) if paper.is_open else paper.order.filled_quantity
            left -= take
            if paper.is_open and take > paper.order.filled_quantity:
                yield self._filled(paper, take, leader.known.average_price, state, at)

    def _filled(self, paper: _Paper, quantity: int, average: Decimal, state: State, at: datetime) -> OrderSeen:
        ticket = paper.order.ticket
        status = OrderStatus.TRADED if quantity >= ticket.quantity else OrderStatus.PART_TRADED
        price = self._worse(average or _last_price(paper, state), paper, state)
        new = ticket.side.sign * (quantity - paper.order.filled_quantity)
        self._nets[paper.account, Key(ticket.security, ticket.product)] += new
        paper.order = replace(paper.order, status=status, filled_quantity=quantity, average_price=price, updated_at=at)
        return _seen(paper, at)

    def _worse(self, price: Decimal, paper: _Paper, state: State) -> Decimal:
        instrument = _instrument(state, paper.order.ticket.security)
        if not price or not self.model.slippage_ticks or instrument is None:
            return price
        slipped = price + paper.order.ticket.side.sign * self.model.slippage_ticks * instrument.tick_size
        return max(slipped, instrument.tick_size)


def _wanted(leader: Known, papers: Iterable[_Paper], lot: int) -> int:
    """What the copies of a leader order should have filled in all, in whole lots."""
    total = sum(each.order.ticket.quantity if each.is_open else each.order.filled_quantity for each in papers)
    if leader.is_filled:
        return total
    return total * leader.filled_quantity // max(leader.ticket.quantity, 1) // lot * lot


def _lot(state: State, paper: _Paper) -> int:
    instrument = _instrument(state, paper.order.ticket.security)
    return instrument.lot_size if instrument is not None else 1


def _instrument(state: State, security: Security) -> Instrument | None:
    return state.instruments.get(security)


def _last_price(paper: _Paper, state: State) -> Decimal:
    ticket = paper.order.ticket
    holding = state.holdings.get(Key(ticket.security, ticket.product))
    known = holding.last_price if holding is not None else None
    return known or ticket.price


def _seen(paper: _Paper, at: datetime) -> OrderSeen:
    return OrderSeen(at, paper.account, paper.order, Source.STREAM)


def _cancelled_elsewhere(event: Accepted, state: State) -> Iterator[OrderSeen]:
    """A cancel of an order that is really at the broker: on paper it has ended, there it stays as it was."""
    piece = state.slices.get(event.correlation_id)
    if piece is None:
        return
    average = piece.known.average_price if piece.known is not None else ZERO
    order = Order(
        event.order_id,
        piece.asked,
        OrderStatus.CANCELLED,
        updated_at=event.at,
        filled_quantity=piece.filled,
        average_price=average,
        correlation_id=event.correlation_id,
    )
    yield OrderSeen(event.at, event.account, order, Source.STREAM)


def _accepted(command: Command, verb: Verb, order_id: str, at: datetime) -> Accepted:
    return Accepted(at, command.account, command.correlation_id, verb, order_id, OrderStatus.TRANSIT)


def _refused(command: Command, verb: Verb, refusal: RefusalClass, message: str, at: datetime) -> Refused:
    return Refused(at, command.account, command.correlation_id, verb, refusal, CODE, message)


# --- A dry run -------------------------------------------------------------------------


class PaperBroker:
    """A follower's account in a dry run: it is read as it is, with the orders on paper added; commands stay here."""

    def __init__(self, name: str, real: Broker, market: PaperMarket, now: Callable[[], datetime]) -> None:
        self._name = name
        self._real = real
        self._market = market
        self._now = now

    async def send(self, command: Command) -> Outcome:
        return self._market.answer(command, self._now())

    async def orders(self) -> tuple[tuple[Order, ...], tuple[str, ...]]:
        rows, problems = await self._real.orders()
        return rows + self._market.rows(self._name), problems

    @property
    def holdings_problem(self) -> str:
        return self._real.holdings_problem

    async def positions(self) -> tuple[Position, ...]:
        held = {Key(each.security, each.product): each for each in await self._real.positions()}
        for key, net in self._market.nets(self._name).items():
            before = held.get(key) or Position(key.security, key.product, 0)
            held[key] = replace(before, net_quantity=before.net_quantity + net)
        return tuple(held.values())

    async def funds(self) -> Funds:
        return await self._real.funds()

    async def find(self, correlation_id: str) -> Order | None:
        for order in self._market.rows(self._name):
            if order.correlation_id == correlation_id:
                return order
        return await self._real.find(correlation_id)

    async def profile(self) -> Profile:
        return await self._real.profile()


class DryRun:
    """Puts the followers of a session on paper, and lets their orders follow the leader's."""

    def __init__(self, accounts: Mapping[str, Account], now: Callable[[], datetime]) -> None:
        self._market = PaperMarket()
        self._due: asyncio.Queue[OrderSeen] = asyncio.Queue()
        self._copier: Copier | None = None
        for name, account in accounts.items():
            if name != LEADER:
                account.broker = PaperBroker(name, account.broker, self._market, now)

    def watching(self, copier: Copier, tell: Watcher | None) -> Watcher:
        """Return a watcher that tells what happens and notes what follows from it on paper."""
        self._copier = copier

        def watch(event: Event, decisions: Sequence[Decision]) -> None:
            if tell is not None:
                tell(event, decisions)
            for seen in self._market.due(event, copier.state):
                self._due.put_nowait(seen)

        return watch

    async def work(self) -> None:
        """Bring the news of the orders on paper to the copier, as a broker's stream would."""
        while True:
            seen = await self._due.get()
            assert self._copier is not None
            self._copier.handle(seen)
