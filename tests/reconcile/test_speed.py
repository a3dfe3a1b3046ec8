"""200 instruments and 10 followers: reading the journal and comparing costs less than two seconds of our own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from copytrader.core.engine import step
from copytrader.core.facts import BookRead, Decision, Event, InstrumentRead, OrderSeen, Place, Source, Started
from copytrader.core.model import LEADER, CopyRules, Desk, Order, OrderStatus, Position, Product, Security
from copytrader.core.reconcile import comparing, planning
from copytrader.core.reconcile.picture import Reading
from copytrader.core.state import State
from copytrader.errand import Onlooker
from copytrader.journal import Journal
from tests.core.play import START, D, follower, instrument, ticket

INSTRUMENTS, FOLLOWERS = 200, 10
PACE = timedelta(seconds=10)
NAMES = tuple(f"follower{number}" for number in range(FOLLOWERS))
DESK = Desk(
    "1000000001",
    tuple(replace(follower(name, "1"), client_id=f"20000000{number:02}") for number, name in enumerate(NAMES)),
    CopyRules(enforce_hours=False),
)
SECURITIES = tuple(Security("NSE_FNO", str(50_000 + number)) for number in range(INSTRUMENTS))
TRADED = OrderStatus.TRADED


def bought(number: int) -> Order:
    terms, at = replace(ticket(), security=SECURITIES[number]), START + number * PACE
    return Order(f"L{number}", terms, OrderStatus.PENDING, at, at, last_price=D(100))


def day() -> Iterator[tuple[Event, tuple[Decision, ...]]]:
    """Record how a leader buys everything, and how everybody's copies fill."""
    state = State()
    waiting: list[Event] = [Started(START, "test", "", DESK)]
    waiting += [InstrumentRead(START, replace(instrument(), security=each)) for each in SECURITIES]
    waiting += [BookRead(START, name, (), ()) for name in (*NAMES, LEADER)]
    for number in range(INSTRUMENTS):
        order = bought(number)
        full = replace(order, status=TRADED, filled_quantity=150, average_price=D(100))
        waiting += [OrderSeen(START + number * PACE, LEADER, seen, Source.STREAM) for seen in (order, full)]
    while waiting:
        event = waiting.pop(0)
        state, decisions = step(state, event)
        yield event, decisions
        for each in places(decisions):
            waiting.insert(0, OrderSeen(event.at, each.account, copy_of(each), Source.STREAM))


def places(decisions: tuple[Decision, ...]) -> list[Place]:
    return [each for each in decisions if isinstance(each, Place)]


def copy_of(place: Place) -> Order:
    number = place.leader_order_id.removeprefix("L")
    order_id = f"{place.account}-{number}"
    return Order(order_id, place.ticket, TRADED, START, START, 150, D(100), place.correlation_id)


def readings(facts: list[tuple[Event, tuple[Decision, ...]]]) -> dict[str, Reading]:
    held = tuple(Position(each, Product.INTRADAY, 150, D(100)) for each in SECURITIES)
    books: dict[str, list[Order]] = {name: [] for name in NAMES}
    for _, decisions in facts:
        for place in places(decisions):
            books[place.account].append(copy_of(place))
    leader = tuple(replace(bought(each), status=TRADED, filled_quantity=150) for each in range(INSTRUMENTS))
    found = {LEADER: Reading(LEADER, leader, held)}
    return found | {name: Reading(name, tuple(books[name]), held) for name in NAMES}


def test_two_thousand_rows_are_compared_within_two_seconds(tmp_path: Path) -> None:
    facts = list(day())
    with Journal.open(tmp_path / "copytrader.db") as journal:
        journal.record_many([(event, decisions, None) for event, decisions in facts])
    books = readings(facts)

    began = time.process_time()
    state = Onlooker(tmp_path / "copytrader.db").look()
    fresh = comparing.with_books(state, DESK, books.values(), {}, facts[-1][0].at)
    seen = comparing.picture(fresh, books, facts[-1][0].at)
    plan = planning.plan(seen)
    took = time.process_time() - began

    assert (len(seen.rows), seen.in_sync, plan) == (INSTRUMENTS * FOLLOWERS, True, ())
    assert took < 2, f"{took:.2f} s"
