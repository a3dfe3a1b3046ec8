"""Which readings of a book and of positions a picture is made of, where the two do not belong together at first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from copytrader.account import Account
from copytrader.core.model import Order, OrderStatus, Side
from copytrader.core.reconcile.picture import Reading
from copytrader.looking import read_book
from tests.core.play import D, ticket
from tests.simulation.loop import VirtualLoop
from tests.test_copier import BEGAN, Bench, Line


class Busy(Bench):
    """An account that has just bought 150; more of its order fills each time its book is read, for a while."""

    filling = timedelta(0)
    """How long that goes on."""
    hides_for = timedelta(0)
    """How long the book does not tell of the first order, which positions show."""

    async def orders(self) -> tuple[tuple[Order, ...], tuple[str, ...]]:
        await asyncio.sleep(0.1)  # as long as a call takes
        if self._now() < BEGAN + self.filling:
            self._fills("F2", self.rows["F2"].filled_quantity + 75 if "F2" in self.rows else 75)
        if self._now() >= BEGAN + self.hides_for and "F1" in self.unseen:
            self.rows["F1"] = self.unseen.pop("F1")
        return await super().orders()

    def bought(self) -> None:
        self.unseen["F1"] = self._row("F1", 150)
        self.net += 150

    def _fills(self, order_id: str, filled: int) -> None:
        self.net += filled - (self.rows[order_id].filled_quantity if order_id in self.rows else 0)
        self.rows[order_id] = self._row(order_id, filled)

    def _row(self, order_id: str, filled: int) -> Order:
        terms, at = ticket(Side.BUY, 7500), self._now()
        return Order(order_id, terms, OrderStatus.PART_TRADED, at, at, filled, D(100))


@dataclass(frozen=True)
class Read:
    """What was read, and in how many seconds."""

    reading: Reading
    seconds: float

    @property
    def bought(self) -> int:
        return sum(order.filled_quantity for order in self.reading.orders)

    @property
    def held(self) -> int:
        return sum(position.net_quantity for position in self.reading.positions)


def read(**is_so: Any) -> Read:
    loop = VirtualLoop()  # type: ignore[abstract]

    def now() -> datetime:
        return BEGAN + timedelta(seconds=loop.time())

    async def play() -> Read:
        broker = Busy(now)
        for name, value in is_so.items():
            setattr(broker, name, value)
        broker.bought()
        reading = await read_book(Account("asha", "1", broker, Line()), now)
        return Read(reading, loop.time())

    return loop.run(play())


def test_a_fill_that_positions_show_first_is_waited_for() -> None:
    found = read(hides_for=timedelta(seconds=1))
    assert (found.bought, found.held) == (150, 150)


def test_a_fill_that_the_book_shows_first_is_waited_for() -> None:
    """Held against positions that lack it, it would look closed by hand."""
    found = read(lag=4.0)
    assert (found.bought, found.held) == (150, 150)


def test_what_the_book_never_explains_is_no_fill_of_today() -> None:
    found = read(hides_for=timedelta(days=1))
    assert not found.reading.problem
    assert (found.bought, found.held) == (0, 150)
    assert found.seconds < 4


def test_what_positions_never_show_is_read_without_it() -> None:
    """As where a position was converted to another product."""
    found = read(converted=75)
    assert not found.reading.problem
    assert found.seconds < 15


def test_what_is_never_explained_is_read_beside_orders_that_fill_all_the_time() -> None:
    found = read(hides_for=timedelta(days=1), filling=timedelta(seconds=3))
    assert not found.reading.problem
    assert found.held == found.bought + 150


def test_orders_that_fill_between_all_readings_are_said() -> None:
    found = read(filling=timedelta(days=1))
    assert "fill faster" in found.reading.problem
    assert found.seconds < 20
