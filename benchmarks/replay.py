"""How fast recorded events go through the engine, and how soon a journal is ready.

    python -m benchmarks.replay                 the targets: 20,000 events/s, 100,000 facts in 5 s
    python -m benchmarks.replay --events 1000000   and whether memory stays flat over a million events

The session is invented: a leader who enters and leaves positions in eight options all day, changes
his mind now and then, and two followers on paper whose orders are accepted and filled.
"""

from __future__ import annotations

import argparse
import gc
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

from copytrader.core.engine import recall, step
from copytrader.core.facts import BookRead, Connected, Decision, Event, InstrumentRead, OrderSeen, Source, Started
from copytrader.core.model import (
    IST,
    LEADER,
    CopyRules,
    Desk,
    Follower,
    Instrument,
    Limits,
    Order,
    OrderStatus,
    OrderType,
    Product,
    Security,
    Side,
    Sizing,
    Ticket,
    Validity,
)
from copytrader.core.state import State
from copytrader.journal import Journal
from copytrader.paper import FillModel
from copytrader.replay.proof import prove
from copytrader.replay.recording import Window
from copytrader.replay.request import COLLECT_AFTER
from copytrader.replay.what_if import WhatIf

D = Decimal
OPENS = datetime(2026, 11, 23, 9, 15, tzinfo=IST)
GAP = timedelta(seconds=2)
PER_DAY = 5_000
EVENTS_PER_SECOND, READY_SECONDS, READY_FACTS = 20_000, 5.0, 100_000
INSTRUMENTS = [
    Instrument(Security("NSE_FNO", str(40001 + n)), f"NIFTY-{n}", 75, D("0.05"), 1800, 1, "NIFTY", "OPTIDX")
    for n in range(8)
]
DESK = Desk(
    "1000000001",
    (
        Follower("asha", "1000000002", Sizing(ratio=D("0.5")), Limits(max_order_lots=50)),
        Follower("ravi", "1000000003", Sizing(ratio=D(1)), Limits(max_order_lots=50)),
    ),
    CopyRules(enforce_hours=False),
)


def leader(count: int) -> Iterator[Event]:
    """Yield the leader's side of a session: three or four events for each of its orders, one day after the other."""
    chance = Random(1)
    at, number = OPENS, 0
    held = dict.fromkeys(range(len(INSTRUMENTS)), 0)
    while number < count:
        if number % PER_DAY == 0:
            at = OPENS + timedelta(days=number // PER_DAY)
            yield from begins(at)
        number += 1
        place = chance.randrange(len(INSTRUMENTS))
        side, lots = (Side.SELL, held[place]) if held[place] else (Side.BUY, chance.choice((2, 4, 6)))
        held[place] = 0 if held[place] else lots
        price = D(100) + D("0.05") * chance.randrange(2000)
        security = INSTRUMENTS[place].security
        ticket = Ticket(security, side, Product.MARGIN, OrderType.LIMIT, Validity.DAY, lots * 75, price)
        order = Order(f"{10**12 + number}", ticket, OrderStatus.PENDING, at, at, last_price=price)
        yield seen(at, order)
        at += GAP
        if number % 4 == 0:
            yield seen(at, _after(order, OrderStatus.PART_TRADED, at, lots * 75 // 2 // 75 * 75, price))
            at += GAP
        yield seen(at, _after(order, OrderStatus.TRADED, at, lots * 75, price))
        at += GAP


def begins(at: datetime) -> Iterator[Event]:
    """Yield what a process records when it starts."""
    yield Started(at, "benchmark", "", DESK)
    for instrument in INSTRUMENTS:
        yield InstrumentRead(at, instrument)
    for follower in DESK.followers:
        yield BookRead(at, follower.name, (), ())
    yield Connected(at, LEADER)
    yield BookRead(at, LEADER, (), ())


def seen(at: datetime, order: Order) -> OrderSeen:
    return OrderSeen(at, LEADER, order, Source.STREAM, "x" * 900)


def _after(order: Order, status: OrderStatus, at: datetime, filled: int, price: Decimal) -> Order:
    return Order(order.order_id, order.ticket, status, order.placed_at, at, filled, price, last_price=price)


def session(events: int) -> Iterator[tuple[Event, Sequence[Decision]]]:
    """Yield at least so many events of both sides with what the engine decided."""
    what_if = WhatIf(State(), DESK, FillModel(latency=timedelta(milliseconds=3)))
    made = 0
    for event in leader(10**9):
        for moment in what_if.feed(event):
            yield moment.event, moment.decisions
            made += 1
        if made >= events:
            return


def megabytes() -> float:
    """Return the resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def through_the_engine(events: Sequence[Event]) -> float:
    """Return events per second."""
    state = State()
    began = time.process_time()
    for event in events:
        state, _ = step(state, event)
    return len(events) / (time.process_time() - began)


def written(folder: Path, facts: int) -> tuple[Path, int]:
    """Write a journal of at least so many facts."""
    path = folder / "copytrader.db"
    count = 0
    with Journal.open(path) as journal:
        steps: list[tuple[Event, Sequence[Decision], int | None]] = []
        for event, decisions in session(10**9):
            steps.append((event, decisions, None))
            count += 1 + len(decisions)
            if len(steps) == 500 or count >= facts:
                journal.record_many(steps)
                steps = []
            if count >= facts:
                return path, count
    raise AssertionError


def ready(path: Path) -> float:
    """Return the seconds until the state of a journal stands, as a start of `follow` takes it up."""
    began = time.process_time()
    with Journal.open(path, read_only=True) as journal:
        recall((row.fact, row.time) for row in journal.facts())
    return time.process_time() - began


def memory(events: int) -> tuple[float, float, float]:
    """Play so many events; return the memory at the first new day and at the last, and the events per second.

    Through a day the state grows with its orders; what stays of them when the day turns is what tells.
    """
    began, count = time.process_time(), 0
    at_turns = []
    for event, _ in session(events):
        count += 1
        if isinstance(event, Started) and count > 1:
            gc.collect()
            at_turns.append(megabytes())
    pace = count / (time.process_time() - began)
    gc.collect()
    return (at_turns or [megabytes()])[0], (at_turns or [megabytes()])[-1], pace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="how many to play for the memory's sake")
    options = parser.parse_args()
    gc.set_threshold(COLLECT_AFTER)  # as `copytrader replay` does
    early, late, pace = memory(options.events)
    print(
        f"memory           {early:8.1f} MB at the first new day, {late:.1f} MB at the last of {options.events:,} events"
    )
    print(f"what if          {pace:8,.0f} events/s, paper market and timers included")
    events = [event for event, _ in session(60_000)]
    best = max(through_the_engine(events) for _ in range(7))  # others on the machine slow some of them down
    print(f"engine           {best:8,.0f} events/s (target {EVENTS_PER_SECOND:,})")
    del events
    with tempfile.TemporaryDirectory() as folder:
        path, count = written(Path(folder), READY_FACTS)
        seconds = min(ready(path) for _ in range(2))
        print(f"ready            {seconds:8.2f} s for {count:,} facts (target {READY_SECONDS:g} s)")
        began = time.process_time()
        with Journal.open(path, read_only=True) as journal:
            verdict = prove(journal, Window())
        took = time.process_time() - began
        print(f"replay --check   {took:8.2f} s, {verdict.events / took:,.0f} events/s, identical: {verdict.identical}")
        if verdict.first_difference is not None:
            print(verdict.first_difference)
    return 0 if best >= EVENTS_PER_SECOND and seconds <= READY_SECONDS and verdict.identical else 1


if __name__ == "__main__":
    raise SystemExit(main())
