"""Positions that were copied on an earlier day: the journal knows them, today's order books do not."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from copytrader.config import load
from copytrader.core.engine import step
from copytrader.core.facts import Accepted, BookRead, Event, InstrumentRead, OrderSeen, Place, Source, Started, Verb
from copytrader.core.model import (
    IST,
    LEADER,
    Calendar,
    Instrument,
    Order,
    OrderStatus,
    OrderType,
    Product,
    Security,
    Side,
    Ticket,
    Validity,
)
from copytrader.core.state import State
from copytrader.journal import Journal
from copytrader.simulator.model import Carried
from tests.e2e.stage import Stage
from tests.reconcile.test_days import OPTION, ended, fixed, net, picture, played, row_of, trades

D = Decimal


def yesterday(stage: Stage, lots: int) -> None:
    """Write the journal of a day on which the leader bought so many lots, and asha's copy filled; both carry it."""
    at = datetime.now(IST) - timedelta(days=1)
    row = stage.exchange.instruments[OPTION]
    quantity = lots * row.lot_size
    terms = Ticket(Security(*OPTION), Side.BUY, Product.MARGIN, OrderType.LIMIT, Validity.DAY, quantity, D(110))
    bought = Order("36200000001", terms, OrderStatus.TRADED, at, at, quantity, D(110))
    working = Order("36200000001", terms, OrderStatus.PENDING, at, at)
    events: list[Event] = [
        Started(at, "test", "", load(stage.config).desk(Calendar())),
        InstrumentRead(at, Instrument(Security(*OPTION), row.symbol, row.lot_size, row.tick_size, 1800)),
        BookRead(at, "asha", (), ()),
        BookRead(at, LEADER, (), ()),
        OrderSeen(at, LEADER, working, Source.STREAM),
        OrderSeen(at, LEADER, bought, Source.STREAM),
    ]
    state = State()
    with Journal.open(stage.folder / "copytrader.db") as journal:
        while events:
            event = events.pop(0)
            state, decisions = step(state, event)
            journal.record(event, decisions)
            for place in decisions:
                if isinstance(place, Place):
                    copy = Order(
                        "32200000001", place.ticket, OrderStatus.TRADED, at, at, place.ticket.quantity, D(110),
                        place.correlation_id,
                    )  # fmt: skip
                    events.append(Accepted(at, "asha", place.correlation_id, Verb.PLACE, copy.order_id))
                    events.append(OrderSeen(at, "asha", copy, Source.STREAM))
    for name, carried in (("leader", quantity), ("asha", quantity // 2)):
        stage.exchange.carry(stage.ids[name], Carried(OPTION, "MARGIN", carried, D(110)))


def test_a_position_carried_over_is_in_sync_and_its_missed_exit_is_made_up_for(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        yesterday(stage, 4)
        code, document = await picture(stage)
        row = row_of(document)
        assert (code, row["copied_quantity"], row["target_quantity"], row["state"]) == (0, 150, 150, "in_sync")

        trades(stage, -300)
        code, document = await picture(stage)
        assert (code, row_of(document)["drift_quantity"]) == (3, 150)
        await fixed(stage)
        assert net(stage) == 0

    played(scene, tmp_path)


def test_what_changed_on_a_day_without_copying_is_told_as_carried_over(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        yesterday(stage, 4)
        stage.exchange.accounts[stage.ids["leader"]].carried[:] = [Carried(OPTION, "MARGIN", 150, D(110))]

        code, document = await picture(stage)
        row = row_of(document)
        assert (code, row["leader_quantity"], row["target_quantity"], row["drift_quantity"]) == (3, 150, 75, 75)
        assert row["why"] == "carried over from an earlier day"
        await fixed(stage)
        assert net(stage) == 75

    played(scene, tmp_path)


def test_what_the_leader_held_before_there_was_a_journal_is_not_copied(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        stage.exchange.carry(stage.ids["leader"], Carried(OPTION, "MARGIN", 300, D(110)))
        stage.exchange.carry(stage.ids["asha"], Carried(OPTION, "MARGIN", 75, D(110)))

        code, document = await picture(stage)
        row = row_of(document)
        assert (code, row["target_quantity"], row["copied_quantity"], row["own_quantity"]) == (0, 0, 0, 75)
        assert row["state"] == "own"

    played(scene, tmp_path)


def test_a_follower_that_holds_something_keeps_its_name(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        yesterday(stage, 4)
        named = stage.config.read_text()
        stage.config.write_text(named.replace("[followers.asha", "[followers.anna"))

        for command in (["follow", "--plain"], ["reconcile"], ["reconcile", "--fix", "--yes"]):
            code, program = await ended(stage, *command)
            assert (code, program.out) == (6, []), program.err
            assert "anna has the account of asha, which holds +150 " in program.err[-2]
            assert "name it asha again; to rename it, close that first " in program.err[-1]
        assert (net(stage), stage.orders()) == (150, [])

        stage.config.write_text(named)
        await ended(stage, "halt", "--flatten", "--follower", "asha")
        assert net(stage) == 0

    played(scene, tmp_path)
