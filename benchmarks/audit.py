"""How fast a journal of a million facts answers, and whether looking on costs who writes it anything.

    python -m benchmarks.audit                  the targets: each built-in question in 0.5 s
    python -m benchmarks.audit --facts 100000   the same of a smaller journal
    python -m benchmarks.audit --tail           how long a commit takes without and beside `audit --tail`

The journal is invented: two followers, eight options, 500 orders of the leader a day.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from copytrader.audit import explain, selection, verify
from copytrader.audit.report import report
from copytrader.audit.runs import Period
from copytrader.audit.selection import Wanted
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Decision,
    Ended,
    Filled,
    InstrumentRead,
    OrderSeen,
    Place,
    Role,
    Sized,
    Skip,
    Source,
    Started,
    Stopped,
    Verb,
)
from copytrader.core.model import (
    IST,
    LEADER,
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
    SkipReason,
    Ticket,
    Validity,
)
from copytrader.journal import Journal
from copytrader.journal.store import Step

D = Decimal
SECONDS = 0.5
FIRST = datetime(2025, 6, 2, 9, 15, tzinfo=IST)
ORDERS_A_DAY = 500
FOLLOWERS = (
    Follower("asha", "1000000002", Sizing(ratio=D("0.5")), Limits(max_order_lots=50)),
    Follower("ravi", "1000000003", Sizing(ratio=D(1)), Limits(max_order_lots=50)),
)
SECURITIES = [Security("NSE_FNO", str(40001 + number)) for number in range(8)]
RAW = "x" * 1000


def day(number: int, seq: int) -> Iterator[Step]:
    """One day's facts; `seq` is the first one's place, by which answers name their commands."""
    at = FIRST + timedelta(days=number)
    steps: list[Step] = [(Started(at, "1.0", "digest", Desk("1000000001", FOLLOWERS)), (), None)]
    steps += [
        (InstrumentRead(at, Instrument(each, f"NIFTY-{each.security_id}", 75, D("0.05"), 1800, 1, "NIFTY")), (), None)
        for each in SECURITIES
    ]
    steps += [(BookRead(at, name, (), ()), (), None) for name in (LEADER, *(each.name for each in FOLLOWERS))]
    count = len(steps)
    yield from steps
    for place in range(ORDERS_A_DAY):
        at += timedelta(seconds=40)
        for step in order(at, number * ORDERS_A_DAY + place, place, seq + count):
            yield step
            count += 1 + len(step[1])
    yield Stopped(at), (), None


def order(at: datetime, number: int, place: int, seq: int) -> Iterator[Step]:
    """An order of the leader, copied by both followers and filled; every tenth is skipped."""
    side = Side.BUY if place // 8 % 2 == 0 else Side.SELL
    ticket = Ticket(
        SECURITIES[place % 8], side, Product.INTRADAY, OrderType.LIMIT, Validity.DAY, 75, D(100) + place % 7
    )
    leader_id = f"{10**14 + number}"
    seen = Order(leader_id, ticket, OrderStatus.PENDING, at, at)
    if place % 10 == 9:
        skips: list[Decision] = [
            Skip(each.name, leader_id, SkipReason.LIMIT_ORDER_LOTS, "60 lots") for each in FOLLOWERS
        ]
        yield OrderSeen(at, LEADER, seen, Source.STREAM, RAW), skips, None
        return
    names = [f"ct1-{each.name}{number:017d}" for each in FOLLOWERS]
    decisions: list[Decision] = [
        fact
        for each, name in zip(FOLLOWERS, names, strict=True)
        for fact in (
            Sized(each.name, leader_id, 1, 75, D(1), D(0), side, "75 / 75 lots x 1 = 1"),
            Place(each.name, leader_id, name, ticket, Role.ENTRY),
        )
    ]
    yield OrderSeen(at, LEADER, seen, Source.STREAM, RAW), decisions, None
    for offset, (each, name) in enumerate(zip(FOLLOWERS, names, strict=True)):
        answer = Accepted(at + timedelta(milliseconds=20), each.name, name, Verb.PLACE, f"7{leader_id}{offset}")
        yield answer, (), seq + 2 + 2 * offset
    filled = Order(leader_id, ticket, OrderStatus.TRADED, at, at, 75, ticket.price)
    fill = Filled(LEADER, leader_id, leader_id, "", 75, 75, ticket.price)
    yield OrderSeen(at + timedelta(seconds=1), LEADER, filled, Source.STREAM, RAW), [fill], None
    for offset, (each, name) in enumerate(zip(FOLLOWERS, names, strict=True)):
        order_id, price = f"7{leader_id}{offset}", ticket.price + D("0.05") * (place % 3)
        copy = Order(order_id, ticket, OrderStatus.TRADED, at, at, 75, price, name)
        ends: list[Decision] = [
            Filled(each.name, leader_id, order_id, name, 75, 75, price, ticket.price),
            Ended(each.name, leader_id, order_id, name, OrderStatus.TRADED, 75),
        ]
        yield OrderSeen(at + timedelta(seconds=1), each.name, copy, Source.STREAM, RAW), ends, None
    yield BookRead(at + timedelta(seconds=2), LEADER, (filled,)), (), None


def write(path: Path, facts: int) -> int:
    """Write days until there are so many facts; return how many days."""
    with Journal.open(path) as journal:
        days = 0
        while journal.last_seq < facts:
            journal.record_many(list(day(days, journal.last_seq + 1)))
            days += 1
    return days


def questions(journal: Journal, days: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Name each built-in question, with a day and an order from the middle of the journal."""
    begins = (FIRST + timedelta(days=days // 2)).replace(hour=0, minute=0)
    period = Period(begins, begins + timedelta(days=1))
    order_id = f"{10**14 + days // 2 * ORDERS_A_DAY + 7}"

    def listed(**filters: object) -> Callable[[], object]:
        return lambda: list(selection.find(journal, Wanted(**filters), 50))  # type: ignore[arg-type]

    yield "audit", listed()
    yield "audit --kind OrderSeen", listed(kinds=("OrderSeen",))
    yield "audit --kind Alert (none)", listed(kinds=("Alert",))
    yield "audit --reason LIMIT_ORDER_LOTS", listed(reasons=("LIMIT_ORDER_LOTS",))
    yield "audit --follower asha", listed(follower="asha")
    yield "audit --follower asha --kind Place", listed(follower="asha", kinds=("Place",))
    yield "audit --symbol 40003", listed(symbol="40003")
    yield "audit --symbol none", listed(symbol="none")
    yield "audit --failed (none)", listed(failed=True)
    yield "audit --order ID", listed(order=order_id)
    yield "audit --before SEQ", listed(before=journal.last_seq // 2)
    yield "audit --date DAY --limit 50", listed(since=period.since, until=period.until)
    yield "audit --date DAY --symbol 40003", listed(since=period.since, until=period.until, symbol="40003")
    yield "audit --date DAY", lambda: report(journal, period)
    yield "audit --date DAY --follower asha", lambda: report(journal, period, "asha")
    yield "audit explain ORDER", lambda: explain.explain(journal, order_id)
    yield "audit verify --anchor (the digest)", lambda: verify.anchor(journal, period.since.date())
    for view in ("orders", "copies", "skips", "fills", "latency", "slippage", "alerts"):
        sql = f"SELECT * FROM {view} WHERE day = '{period.since:%Y-%m-%d}'"
        yield f'audit sql "{sql}"', lambda sql=sql: journal.query(sql)  # type: ignore[misc]


def ask(path: Path, days: int) -> bool:
    """Print how long each question takes, the second time; tell whether all were fast enough."""
    fine = True
    with Journal.open(path, read_only=True) as journal:
        for name, question in questions(journal, days):
            question()
            started = time.perf_counter()
            question()
            seconds = time.perf_counter() - started
            fine = fine and seconds <= SECONDS
            print(f"{seconds * 1000:8.1f} ms  {'' if seconds <= SECONDS else 'TOO SLOW '}{name}")
    return fine


def commits(path: Path, first: int, count: int = 3000) -> list[float]:
    """Measure durable commits of a frame with its decisions, at the pace of a busy market."""
    taken = []
    with Journal.open(path) as journal:
        for place in range(count):
            at = datetime.now(IST)
            event, decisions, _ = next(order(at, first + place, place, 0))
            started = time.perf_counter()
            journal.record(event, decisions)
            taken.append(time.perf_counter() - started)
            time.sleep(0.002)
    return taken


def beside_tail(folder: Path) -> bool:
    """Print what a commit costs alone and beside `audit --tail`, by turns; tell whether looking on costs nothing."""
    path = folder / "tail.db"
    write(path, 50_000)
    alone, watched = [], []
    for turn in range(3):
        alone += commits(path, 10**9 + turn * 20_000)
        command = [sys.executable, "-m", "copytrader", "audit", "--journal", str(path), "--tail", "--json"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ}) as tail:
            time.sleep(2)
            watched += commits(path, 10**9 + turn * 20_000 + 10_000)
            tail.send_signal(signal.SIGINT)
    for name, values in (("alone", alone), ("beside --tail", watched)):
        p99 = statistics.quantiles(values, n=100)[98]
        print(f"{name:>14}: median {statistics.median(values) * 1e6:.0f} us, p99 {p99 * 1e6:.0f} us")
    ratio = statistics.median(watched) / statistics.median(alone)
    print(f"{'ratio':>14}: {ratio:.2f}")
    return ratio <= 1.5


def main(facts: int, *, tail: bool) -> bool:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if tail:
            return beside_tail(folder)
        path = folder / "copytrader.db"
        started = time.perf_counter()
        days = write(path, facts)
        megabytes = path.stat().st_size / 1e6
        print(f"{facts:,} facts in {days} days, {megabytes:.0f} MB, in {time.perf_counter() - started:.0f} s")
        return ask(path, days)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--facts", type=int, default=1_000_000)
    options.add_argument("--tail", action="store_true")
    given = options.parse_args()
    sys.exit(0 if main(given.facts, tail=given.tail) else 1)
