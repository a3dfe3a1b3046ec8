"""The same day with other rules: the leader's side as it was recorded, the followers' orders on paper.

What the outside world did comes from the recording: the leader's orders and positions, the
operator's words, tokens refused, streams lost, the followers' own trades.  What followed from our
own orders (answers, fills, timers) does not: the engine decides anew, `paper` answers and
fills, and the engine's timers ring on a clock that the events move.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from copytrader.core.copies import Key
from copytrader.core.engine import step
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Cancel,
    Command,
    Decision,
    Event,
    Modify,
    NotFound,
    NotSent,
    OrderSeen,
    Place,
    Refused,
    Started,
    Throttled,
    Ticked,
    Unanswered,
)
from copytrader.core.model import LEADER, ZERO, Desk, Order, Position
from copytrader.core.state import State
from copytrader.paper import FillModel, PaperMarket

_OWN = (NotFound, Accepted, Refused, Throttled, Unanswered, NotSent, Ticked)
"""Events that followed from orders of ours or from the engine's timers: they come about anew."""
_MOMENT = timedelta(milliseconds=1)


Before = Callable[[datetime], object]
"""Told the time of an event before anything of it happens."""


def at_once(_at: datetime) -> None:
    """Let an event happen without waiting for its time."""


class Moment(NamedTuple):
    """One event, what was decided upon it, and the state after both."""

    event: Event
    decisions: tuple[Decision, ...]
    state: State


class WhatIf:
    """A day played with a desk of one's own.  `feed` it recorded events; `end` plays what is still on its way."""

    def __init__(self, state: State, desk: Desk, model: FillModel, before: Before = at_once) -> None:
        self.state = state
        self.desk = desk
        self._before = before
        self._market = PaperMarket(model)
        self._on_the_way: list[tuple[datetime, int, Command]] = []
        self._sent = 0
        self._ticked: datetime | None = None
        self._recorded_names: frozenset[str] = frozenset()
        self._names = frozenset(each.name for each in desk.followers)

    def feed(self, event: Event, recorded: State | None = None) -> Iterator[Moment]:
        """Play an event.  `recorded` is the state that the recording had after it, None where nothing was recorded."""
        yield from self._until(event.at)
        for each in self._meant(event, recorded):
            yield from self._take(each)
        yield from self._until(event.at)

    def end(self) -> Iterator[Moment]:
        """Play the answers that are still on their way."""
        while self._on_the_way:
            yield from self._answer()

    def _until(self, at: datetime) -> Iterator[Moment]:
        """Let everything happen that is due by a moment."""
        while True:
            answer = self._on_the_way[0][0] if self._on_the_way else None
            wake = self.state.next_wake
            if answer is not None and answer <= at and (wake is None or answer <= wake):
                yield from self._answer()
            elif wake is not None and wake <= at:
                yield from self._tick(wake)
            else:
                return

    def _answer(self) -> Iterator[Moment]:
        at, _, command = heapq.heappop(self._on_the_way)
        yield from self._take(self._market.answer(command, at))

    def _tick(self, wake: datetime) -> Iterator[Moment]:
        """Ring, but never twice in the same moment: a timer set to now would ring for ever."""
        at = wake if self._ticked is None else max(wake, self._ticked + _MOMENT)
        self._ticked = at
        yield from self._take(Ticked(at))

    def _take(self, event: Event) -> Iterator[Moment]:
        happened = deque([event])
        while happened:
            event = happened.popleft()
            self._before(event.at)
            self.state, decisions = step(self.state, event)
            self.state.ask_books.clear()
            yield Moment(event, decisions, self.state)
            for decision in decisions:
                if isinstance(decision, Place | Modify | Cancel):
                    self._sent += 1
                    heapq.heappush(self._on_the_way, (event.at + self._market.model.latency, self._sent, decision))
            happened.extend(self._market.due(event, self.state))

    def _meant(self, event: Event, recorded: State | None) -> Iterator[Event]:
        """Yield what of a recorded event happens here too."""
        match event:
            case Started():
                self._recorded_names = frozenset(each.name for each in event.desk.followers)
                yield replace(event, desk=self.desk)
            case OrderSeen(account=account) if account != LEADER:
                if recorded is None or (account in self._names and not _is_ours(event.order, account, recorded)):
                    yield event
            case BookRead(account=account) if account == LEADER:
                yield from self._unread(event)
                yield event
            case BookRead(account=account) if recorded is not None:
                if account in self._names:
                    yield self._book(event, recorded)
            case _ if isinstance(event, _OWN):
                return
            case _:
                if getattr(event, "account", None) in (None, LEADER, *self._names):
                    yield event

    def _unread(self, event: BookRead) -> Iterator[BookRead]:
        """Give followers that the recording does not know an empty book."""
        for name in sorted(self._names - self._recorded_names):
            if not self.state.accounts[name].ready:
                yield BookRead(event.at, name, (), self._positions(name, (), None))

    def _book(self, event: BookRead, recorded: State) -> BookRead:
        """Read a follower's book as it would be: what it did itself stays, what was copied is as copied here."""
        orders = tuple(order for order in event.orders if not _is_ours(order, event.account, recorded))
        positions = None if event.positions is None else self._positions(event.account, event.positions, recorded)
        return replace(event, orders=orders, positions=positions)

    def _positions(self, account: str, positions: tuple[Position, ...], recorded: State | None) -> tuple[Position, ...]:
        # The broker's own figures of profit are those of what was recorded; the engine reckons with its fills.
        held = {Key(each.security, each.product): replace(each, realized=ZERO, unrealized=ZERO) for each in positions}
        was = {} if recorded is None else copied(recorded, account)
        now = copied(self.state, account)
        for key in dict.fromkeys((*was, *now)):
            before = held.get(key) or Position(key.security, key.product, 0)
            net = before.net_quantity - was.get(key, 0) + now.get(key, 0)
            held[key] = replace(before, net_quantity=net)
        return tuple(held.values())


def copied(state: State, account: str) -> dict[Key, int]:
    """Return what a follower holds from copying."""
    shares = ((key, holding.shares.get(account)) for key, holding in state.holdings.items())
    return {key: share.copied for key, share in shares if share is not None and share.copied}


def _is_ours(order: Order, account: str, recorded: State) -> bool:
    """Tell an order of ours, also where the broker does not repeat its name."""
    return order.is_ours or (account, order.order_id) in recorded.by_order_id
