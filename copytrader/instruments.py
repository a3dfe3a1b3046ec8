"""Sees to it that the journal has the master's row of each instrument before anything is decided on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

from copytrader.core.facts import Adopted, BookRead, Event, InstrumentRead, Level, OrderSeen
from copytrader.core.model import Instrument, Order, Security
from copytrader.core.state import State


class Door(Protocol):
    """Where the rows come in."""

    @property
    def state(self) -> State:
        """What is known now."""

    def handle(self, event: Event) -> object: ...

    def notice(self, level: Level, text: str, *, key: str) -> None: ...


class Instruments:
    """The instruments that the master was asked for in this process."""

    def __init__(
        self, look_up: Callable[[Security], Instrument | None], now: Callable[[], datetime], door: Door
    ) -> None:
        self._look_up = look_up
        self._now = now
        self._door = door
        self._learned: set[Security] = set()

    def learn_from(self, event: Event) -> None:
        """Record the row of each instrument that an event brings up for the first time."""
        for order in _orders_of(event):
            security = order.ticket.security
            if security not in self._learned:
                self._learn(security, event.at)

    def know_anew(self) -> None:
        """Take in that the master was read: instruments are looked up again, and those of what is held at once."""
        self._learned.clear()
        self.learn_holdings()

    def learn_holdings(self) -> None:
        """Read the instruments of copied positions anew, and alert where one's sizes are not what they were."""
        for key, holding in list(self._door.state.holdings.items()):
            held = {name: share.left for name, share in holding.shares.items() if share.left}
            before = self._door.state.instruments.get(key.security)
            if not held or before is None:
                continue
            self._learn(key.security, self._now())
            who = ", ".join(f"{name} holds {left:+}" for name, left in held.items())
            for what, old, new in _resized(before, self._door.state.instruments[key.security]):
                text = f"{before.label}: the {what} was {old} and is {new}; {who} from copying"
                self._door.notice(Level.WARNING, text, key=f"resized-{before.symbol}-{what}")

    def _learn(self, security: Security, at: datetime) -> None:
        found = self._look_up(security)
        if found is None:
            return
        self._learned.add(security)
        if found != self._door.state.instruments.get(security):
            self._door.handle(InstrumentRead(at, found))


def _orders_of(event: Event) -> Sequence[Order]:
    if isinstance(event, OrderSeen):
        return (event.order,)
    return event.orders if isinstance(event, BookRead | Adopted) else ()


def _resized(before: Instrument, now: Instrument) -> Iterator[tuple[str, object, object]]:
    """Tell which of an instrument's sizes is not what it was."""
    sizes = (
        ("lot size", before.lot_size, now.lot_size),
        ("tick", before.tick_size, now.tick_size),
        ("freeze quantity", before.freeze_quantity, now.freeze_quantity),
    )
    return ((what, old, new) for what, old, new in sizes if old != new)
