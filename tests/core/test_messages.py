"""The order of messages does not matter (I7): doubled, swapped and lost frames end in the same orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from random import Random

import pytest

from copytrader.core.facts import OrderSeen, Place, Source
from copytrader.core.merge import Known, merge
from copytrader.core.model import LEADER, Order, OrderStatus, OrderType, Side, Validity
from tests.core.play import START, D, Play, follower, ticket

Frames = list[Order]
Mangle = Callable[[Random, Frames], Frames]


def as_they_came(_: Random, frames: Frames) -> Frames:
    return frames


def doubled(_: Random, frames: Frames) -> Frames:
    return [frame for frame in frames for _ in range(2)]


def swapped(random: Random, frames: Frames) -> Frames:
    mixed = list(frames)
    for number in range(len(mixed) - 1):
        if random.random() < 0.5:
            mixed[number], mixed[number + 1] = mixed[number + 1], mixed[number]
    return mixed


def lost(random: Random, frames: Frames) -> Frames:
    return [frame for frame in frames if random.random() < 0.5]


def all_lost(_: Random, frames: Frames) -> Frames:
    return frames[:0]


class Script:
    """A leader who acts in bursts: what one order goes through comes as a handful of frames.

    It stays on one side of the market and gets out of what it holds: what an order through zero, or one against
    a working order, means depends on what was filled before it, and that on what was told.
    """

    def __init__(self, seed: int, mangle: Mangle) -> None:
        self.random = Random(seed)
        self.mixing = Random(seed + 1)
        self.mangle = mangle
        self.play = Play((follower("asha", "0.5"), follower("bela", self.random.choice(("0.3", "1", "1.5")))))
        self.numbered = 0
        self.way = self.random.choice(tuple(Side))

    def runs(self) -> dict[tuple[str, str], tuple[int, int, Decimal]]:
        """Play it; tell for each copy what is filled, what is open, and at which price."""
        for _ in range(self.random.randint(3, 7)):
            self.burst()
        leader = {each.correlation_id: each.leader_order_id for each in self.play.decisions if isinstance(each, Place)}
        copies: dict[tuple[str, str], tuple[int, int, Decimal]] = {}
        for held in self.play.orders.values():
            if held.is_open or held.filled:
                pair = held.account, leader[held.correlation_id]
                filled, left, _ = copies.get(pair, (0, 0, D(0)))
                left += held.ticket.quantity - held.filled if held.is_open else 0
                copies[pair] = filled + held.filled, left, held.ticket.price
        return copies

    def burst(self) -> None:
        working = [order for order in self.play.leader.values() if not order.status.is_terminal]
        goes_on = working and self.random.random() < 0.5
        frames = self.goes_on(self.random.choice(working)) if goes_on else self.begins()
        self.play.leader[frames[-1].order_id] = frames[-1]
        for frame in self.mangle(self.mixing, frames):
            self.play.now += timedelta(milliseconds=5)
            self.play.feed(OrderSeen(self.play.now, LEADER, frame, Source.STREAM))
        self.play.waits(0.5)
        self.play.reads_leader_book()
        self.fills_followers()
        self.play.waits(2)

    def begins(self) -> Frames:
        play, random = self.play, self.random
        net, lot = play.leader_net(), play.row.lot_size
        entering = [
            order for order in play.leader.values() if not order.status.is_terminal and order.ticket.side is self.way
        ]
        most = abs(net) // lot
        gets_out = most > 0 and not entering and random.random() < 0.6
        side, lots = (self.way.opposite, random.randint(1, most)) if gets_out else (self.way, random.randint(1, 5))
        kind = random.choice((OrderType.MARKET, OrderType.LIMIT, OrderType.LIMIT, OrderType.STOP_LOSS))
        price, trigger = (D(0), D(0)) if kind is OrderType.MARKET else (D(random.randint(90, 110)), D(0))
        if kind is OrderType.STOP_LOSS:
            trigger = price
        terms = ticket(side, lots * lot, str(price), order_type=kind, trigger_price=trigger)
        self.numbered += 1
        order = Order(f"L{self.numbered}", terms, OrderStatus.PENDING, play.now, play.now, last_price=D(100))
        if kind is OrderType.MARKET:
            return [order, self.filled(order)]
        return [order, *self.goes_on(order)] if random.random() < 0.6 else [order]

    def goes_on(self, order: Order) -> Frames:
        random = self.random
        later = (order.updated_at or START) + timedelta(seconds=1)
        luck = random.random()
        if luck < 0.4:
            terms = replace(order.ticket, price=order.ticket.price + 1)
            if terms.trigger_price:
                terms = replace(terms, trigger_price=terms.price)
            return [replace(order, ticket=terms, status=OrderStatus.MODIFIED, updated_at=later)]
        if luck < 0.6:
            return [replace(order, status=OrderStatus.CANCELLED, updated_at=later)]
        return [self.filled(order)]

    def filled(self, order: Order) -> Order:
        return replace(order, status=OrderStatus.TRADED, filled_quantity=order.ticket.quantity, average_price=D(100))

    def fills_followers(self) -> None:
        play = self.play
        done = {order_id for order_id, order in play.leader.items() if order.status is OrderStatus.TRADED}
        names = {piece.correlation_id for piece in play.state.slices.values() if piece.leader_order_id in done}
        for held in list(play.orders.values()):
            if held.is_open and held.correlation_id in names:
                play.fills_follower(held, held.ticket.quantity - held.filled)
        play.drain()


@pytest.mark.parametrize("mangle", [doubled, swapped, lost, all_lost])
@pytest.mark.parametrize("block", range(5))
def test_mangled_frames_end_in_the_same_orders(mangle: Mangle, block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        told, mangled = Script(seed, as_they_came).runs(), Script(seed, mangle).runs()
        assert mangled == told, seed


# --- One order: all orders of its sightings ----------------------------------------------


def _sightings(random: Random) -> list[tuple[Order, Source]]:
    """A handful of sightings of one order, as one life of it may show them."""
    quantity, price, filled, second = 300, 100, 0, 0
    seen: list[tuple[Order, Source]] = []

    def see(status: OrderStatus) -> None:
        at = START + timedelta(seconds=second)
        terms = ticket(quantity=quantity, price=str(price), validity=Validity.DAY)
        order = Order("L1", terms, status, START, at, filled, D(100) if filled else D(0))
        book = status is not OrderStatus.MODIFIED and random.random() < 0.4
        seen.append((order, Source.BOOK if book else Source.STREAM))

    see(OrderStatus.PENDING)
    while len(seen) < random.randint(2, 4):
        second += random.randint(0, 1)
        if random.random() < 0.5:
            quantity, price = random.randint(filled // 75 + 1, 8) * 75, price + random.randint(0, 2)
            see(OrderStatus.MODIFIED)
        elif filled < quantity - 75:
            filled += 75
            see(OrderStatus.PART_TRADED)
        else:
            see(OrderStatus.PENDING)
    ending = random.choice((OrderStatus.TRADED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, None))
    if ending is not None:
        filled = quantity if ending is OrderStatus.TRADED else filled
        see(ending)
    return [*seen[:5], random.choice(seen)]


def _joined(sightings: tuple[tuple[Order, Source], ...]) -> tuple[Known, bool]:
    known, conflict = None, False
    for order, source in sightings:
        known = merge(known, order, source, START)
        conflict = conflict or known.rival is not None
    assert known is not None
    return known, conflict


def _in_reading_order(sightings: tuple[tuple[Order, Source], ...], read: list[tuple[Order, Source]]) -> bool:
    """Whether rows of the book come as they were read: frames may overtake them and one another, they cannot."""
    rows = [read.index(each) for each in sightings if each[1] is Source.BOOK]
    return rows == sorted(rows)


def test_every_order_of_the_sightings_gives_one_outcome() -> None:
    """Except where two modifications share a second: that is marked, and the book is asked."""
    marked = 0
    for seed in range(300):
        sightings = _sightings(Random(seed))
        outcomes = [_joined(each) for each in set(permutations(sightings)) if _in_reading_order(each, sightings)]
        plain = {known._replace(rival=None) for known, conflict in outcomes if not conflict}
        assert len(plain) <= 1, (seed, plain)
        assert len({(known.filled_quantity, known.ended) for known, _ in outcomes}) == 1, seed
        marked += any(conflict for _, conflict in outcomes)

    assert 0 < marked < 150


@pytest.mark.parametrize("kind", [OrderType.STOP_LOSS, OrderType.STOP_LOSS_MARKET])
def test_a_stop_changed_twice_in_a_second_that_triggers_is_got_out_of(kind: OrderType) -> None:
    """The book shows a limit order by then: it does not tell which of the two triggers was the last."""
    play = Play((follower(ratio="1"),))
    play.trades("L1", 2)
    price = D(0) if kind is OrderType.STOP_LOSS_MARKET else D(80)
    play.places("S", ticket(Side.SELL, 150, str(price), order_type=kind, trigger_price=D(85)))
    play.waits(5)
    play.modifies("S", trigger_price=D(90))
    changed = play.leader["S"]
    last = replace(changed, ticket=replace(changed.ticket, trigger_price=D(110)))
    play.feed(OrderSeen(play.now, LEADER, last, Source.STREAM))
    row = replace(
        last, ticket=replace(last.ticket, order_type=OrderType.LIMIT, price=price or D(99), trigger_price=D(0))
    )
    play.leader["S"] = replace(row, status=OrderStatus.TRADED, filled_quantity=150)
    play.feed(OrderSeen(play.now, LEADER, play.leader["S"], Source.STREAM))
    play.reads_leader_book()
    play.waits(1)

    assert [held.ticket.trigger_price for held in play.of() if held.is_open] == [D(110)]


def test_a_market_order_that_became_a_limit_in_its_second_is_what_the_book_shows() -> None:
    market = Order("A", ticket(Side.SELL, 150, "0", order_type=OrderType.MARKET), OrderStatus.PENDING, START, START)
    limit = replace(market, ticket=ticket(Side.SELL, 150, "100"), status=OrderStatus.MODIFIED)
    known = merge(merge(None, market, Source.STREAM, START), limit, Source.STREAM, START)

    told = merge(known, replace(limit, status=OrderStatus.PENDING), Source.BOOK, START)

    assert (told.ticket.order_type, told.ticket.price, told.rival) == (OrderType.LIMIT, D(100), None)
