"""Journals made by hand: facts with chosen times and contents, in the shapes that `follow` records."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from typer.testing import CliRunner, Result

from copytrader.cli import app
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Decision,
    Ended,
    Event,
    Filled,
    InstrumentRead,
    Modify,
    OrderSeen,
    Place,
    Role,
    Sending,
    Sized,
    Skip,
    Source,
    Started,
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
    Position,
    Product,
    Security,
    Side,
    Sizing,
    SkipReason,
    Ticket,
    Validity,
)
from copytrader.journal import Journal

NOON = datetime(2026, 11, 23, 12, tzinfo=IST)
CALL = Security("NSE_FNO", "40001")
SHARE = Security("NSE_EQ", "50001")
D = Decimal
RUN = CliRunner()


def audit(path: Path, *arguments: str) -> Result:
    return RUN.invoke(app, ["audit", "--journal", str(path), *arguments])


def alter(path: Path, *statements: str) -> None:
    """Do what somebody with the file and a tool could do: the triggers are there again afterwards."""
    connection = sqlite3.connect(path)
    for statement in ("DROP TRIGGER facts_are_final", "DROP TRIGGER facts_are_kept", *statements):
        connection.execute(statement)
    connection.execute(
        "CREATE TRIGGER facts_are_final BEFORE UPDATE ON facts BEGIN SELECT RAISE(ABORT, 'facts are final'); END"
    )
    connection.execute(
        "CREATE TRIGGER facts_are_kept BEFORE DELETE ON facts BEGIN SELECT RAISE(ABORT, 'facts are kept'); END"
    )
    connection.commit()
    connection.close()


def ticket(quantity: int = 75, side: Side = Side.BUY, price: str = "110", security: Security = CALL) -> Ticket:
    return Ticket(security, side, Product.MARGIN, OrderType.LIMIT, Validity.DAY, quantity, D(price))


def name(number: int, follower: str = "asha") -> str:
    return f"ct1-{follower}{number:0{21 - len(follower)}d}"


class Writer:
    """A journal with a run of follow begun, and a clock that goes on by a second with each event."""

    def __init__(self, path: Path, at: datetime = NOON, followers: Sequence[str] = ("asha",)) -> None:
        self.path = path
        self.journal = Journal.open(path)
        self.now = at
        self.broker = "322"
        self.followers = tuple(
            Follower(each, f"10000000{place + 2:02d}", Sizing(ratio=D("0.5")), Limits(max_order_lots=20))
            for place, each in enumerate(followers)
        )

    def record(self, event: Event, *decisions: Decision, cause: int | None = None) -> tuple[int, ...]:
        self.now += timedelta(seconds=1)
        return self.journal.record(event, decisions, cause)

    def start(self, *, dry_run: bool = False, copying: bool = True) -> None:
        self.broker = "DRY" if dry_run else "322"
        desk = Desk("1000000001", self.followers)
        self.record(Started(self.now, "1.0", "digest", desk, dry_run, copying))

    def instrument(self, security: Security = CALL, symbol: str = "NIFTY-Dec2026-25000-CE", lot: int = 75) -> None:
        expiry = date(2026, 12, 29) if security == CALL else None
        row = Instrument(security, symbol, lot, D("0.05"), underlying=symbol.split("-", maxsplit=1)[0], expiry=expiry)
        self.record(InstrumentRead(self.now, row))

    def positions(self, *held: Position, follower: str = "asha") -> None:
        self.record(BookRead(self.now, follower, (), held))

    def led(
        self, order_id: str, *decisions: Decision, terms: Ticket | None = None, status: str = "PENDING", filled: int = 0
    ) -> tuple[int, ...]:
        """The leader's order is seen on the stream, and these decisions follow."""
        terms = terms or ticket(150)
        order = Order(order_id, terms, OrderStatus(status), self.now, self.now, filled, terms.price if filled else D(0))
        return self.record(OrderSeen(self.now, LEADER, order, Source.STREAM, "{}"), *decisions)

    def copied(
        self,
        number: int,
        price: str = "110",
        *,
        side: Side = Side.BUY,
        times: bool = False,
        security: Security = CALL,
    ) -> str:
        """The leader's order `number` is copied to the first follower and both fill; return our name for it."""
        follower = self.followers[0].name
        ours, order_id, leader_id = (
            name(number, follower),
            f"{self.broker}2611230{number:05d}",
            f"3622611230{number:05d}",
        )
        sized = Sized(follower, leader_id, 1, 150, D("1.0"), D(0), side, "150 / 75 lots x 0.5 = 1.0")
        place = Place(
            follower,
            leader_id,
            ours,
            ticket(75, side, security=security),
            Role.ENTRY if side is Side.BUY else Role.EXIT,
        )
        begun = self.now
        seqs = self.led(leader_id, sized, place, terms=ticket(150, side, security=security))
        milliseconds = [begun + timedelta(milliseconds=each) for each in (1, 3, 4, 24)]
        sending = Sending(*milliseconds[:3]) if times else None
        self.journal.record(
            Accepted(milliseconds[3], follower, ours, Verb.PLACE, order_id, OrderStatus.TRANSIT, sending), (), seqs[2]
        )
        self.led(
            leader_id,
            Filled(LEADER, leader_id, leader_id, "", 150, 150, D(110)),
            terms=ticket(150, side, security=security),
            status="TRADED",
            filled=150,
        )
        order = Order(
            order_id, ticket(75, side, security=security), OrderStatus.TRADED, self.now, self.now, 75, D(price), ours
        )
        self.record(
            OrderSeen(self.now, follower, order, Source.STREAM),
            Filled(follower, leader_id, order_id, ours, 75, 75, D(price), D(110)),
            Ended(follower, leader_id, order_id, ours, OrderStatus.TRADED, 75),
        )
        return ours

    def resting(self, number: int, quantity: int = 75, *, after_market: bool = False) -> str:
        """The leader's order `number` is copied to the first follower and stays open; return our name for it."""
        follower = self.followers[0].name
        ours, leader_id = name(number, follower), f"3622611230{number:05d}"
        terms = replace(ticket(quantity), after_market=after_market)
        _, placed = self.led(leader_id, Place(follower, leader_id, ours, terms, Role.ENTRY))
        self.record(Accepted(self.now, follower, ours, Verb.PLACE, f"{self.broker}2611230{number:05d}"), cause=placed)
        return ours

    def changed(self, number: int, terms: Ticket, *, accepted: bool = True) -> None:
        """The copy of the leader's order `number` is to get these terms."""
        follower, order_id = self.followers[0].name, f"{self.broker}2611230{number:05d}"
        ours, leader_id = name(number, follower), f"3622611230{number:05d}"
        change = Modify(follower, leader_id, ours, order_id, terms, "the leader's terms or the quantity due changed")
        _, asked = self.led(leader_id, change, terms=replace(terms, quantity=2 * terms.quantity), status="MODIFIED")
        if accepted:
            self.record(Accepted(self.now, follower, ours, Verb.MODIFY, order_id), cause=asked)

    def skipped(self, number: int, reason: SkipReason = SkipReason.STALE, detail: str = "too late") -> None:
        leader_id = f"3622611230{number:05d}"
        self.led(leader_id, *(Skip(each.name, leader_id, reason, detail) for each in self.followers))

    def close(self) -> Path:
        self.journal.close()
        return self.path
