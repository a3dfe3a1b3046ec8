"""A scripted day through the real command: every figure of the report is worked out again from the simulator's ledger."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from copytrader.journal import Journal
from copytrader.simulator.model import BookOrder, Fill
from tests.audit.day import Day, stage_of
from tests.audit.journals import audit
from tests.e2e.stage import Stage

D = Decimal
FOLLOWERS = ("asha", "ravi")
TICK = D("0.05")


@dataclass
class Played:
    """A day that is over: its journal, what the commands said while it lasted, and the simulator's own account of it."""

    journal: Path
    orders: dict[str, str]
    books: dict[str, list[BookOrder]]
    fills: dict[str, list[Fill]]
    kinds: dict[str, list[str]]
    tailed: list[str]
    tail_ended: int
    while_following: list[dict[str, Any]]
    said: dict[str, tuple[int, str]] = field(default_factory=dict)

    def ours(self, name: str) -> list[BookOrder]:
        return [order for order in self.books[name] if order.correlation_id.startswith("ct1-")]


async def play(folder: Path) -> Played:
    async with stage_of(folder) as stage:
        follow = await stage.follows()
        tail = await stage.runs("audit", "--tail", "--json")
        await stage.until(lambda: tail.out, 15, "the tail shows what is there already")
        day = Day(stage)
        await day.play()
        during = await stage.facts()
        backup = await stage.runs("audit", "backup", "during.db")
        assert await backup.ends() == 0
        assert await follow.stops() == 0
        await stage.until(lambda: '"kind": "Stopped"' in tail.out[-1], 15, "the tail shows the end")
        tail.process.send_signal(signal.SIGINT)
        tail_ended = await tail.ends()
        played = Played(
            folder / "copytrader.db",
            day.ids,
            {name: stage.exchange.book(stage.ids[name]) for name in ("leader", *FOLLOWERS)},
            {name: stage.exchange.fills[stage.ids[name]] for name in ("leader", *FOLLOWERS)},
            {
                name: [row.kind for row in stage.exchange.ledger if row.client_id == stage.ids[name]]
                for name in ("leader", *FOLLOWERS)
            },
            tail.out,
            tail_ended,
            during,
        )
        await _hold_against_the_broker(stage, played)
        return played


async def _hold_against_the_broker(stage: Stage, played: Played) -> None:
    """Ask while the simulator still answers, before and after something happened that the journal does not know."""
    for when in ("agreeing", "differing"):
        verify = await stage.runs("audit", "verify", "--broker")
        played.said[when] = (await verify.ends(), "\n".join(verify.out))
        if when == "agreeing":
            stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D("50"), order_id="123456")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return asyncio.run(play(tmp_path_factory.mktemp("day")))


@pytest.fixture(scope="module")
def report(played: Played) -> dict[str, Any]:
    done = audit(played.journal, "report", "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in report["followers"] if each["name"] == name)


def worth(fills: list[Fill]) -> Decimal:
    return sum((fill.price * fill.quantity for fill in fills), D(0))


def realized(fills: list[Fill]) -> Decimal:
    """The day ends flat, so what was taken in less what was paid is the result."""
    return sum((fill.price * fill.quantity * (1 if fill.side == "SELL" else -1) for fill in fills), D(0))


def averages(fills: list[Fill]) -> dict[str, Decimal]:
    by_order: defaultdict[str, list[Fill]] = defaultdict(list)
    for fill in fills:
        by_order[fill.order_id].append(fill)
    return {order: worth(own) / sum(each.quantity for each in own) for order, own in by_order.items()}


def pairs(played: Played, name: str) -> Iterator[tuple[BookOrder, str]]:
    """Each filled order of a follower beside the leader's order that it copies, by instrument and sequence."""
    leader = [order for order in played.books["leader"] if order.filled]
    for order in (each for each in played.ours(name) if each.filled):
        alike = [
            each
            for each in leader
            if (each.instrument, each.side) == (order.instrument, order.side) and each.created_at < order.created_at
        ]
        yield order, alike[-1].order_id


def test_the_leader_s_figures_are_the_ledger_s(played: Played, report: dict[str, Any]) -> None:
    kinds, fills = played.kinds["leader"], played.fills["leader"]

    assert report["leader"] == {
        "orders": kinds.count("accepted"),
        "modified": kinds.count("modified"),
        "cancelled": kinds.count("cancelled"),
        "rejected": kinds.count("rejected"),
        "filled": len({fill.order_id for fill in fills}),
        "units": sum(fill.quantity for fill in fills),
        "traded_value": float(worth(fills)),
    }


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_follower_s_counts_are_the_ledger_s(played: Played, report: dict[str, Any], name: str) -> None:
    kinds, fills, found = played.kinds[name], played.fills[name], of(report, name)

    counted = {key: found[key] for key in ("placed", "modified", "cancelled", "filled", "units")}
    assert counted == {
        "placed": kinds.count("accepted"),
        "modified": kinds.count("modified"),
        "cancelled": kinds.count("cancelled"),
        "filled": len({fill.order_id for fill in fills}),
        "units": sum(fill.quantity for fill in fills),
    }
    assert found["exits"] == sum(1 for order in played.ours(name) if order.side == "SELL")


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_follower_s_money_is_the_ledger_s(played: Played, report: dict[str, Any], name: str) -> None:
    fills, found = played.fills[name], of(report, name)

    assert D(str(found["traded_value"])) == worth(fills)
    assert D(str(found["realized"])) == realized(fills)


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_follower_s_slippage_is_the_ledger_s(played: Played, report: dict[str, Any], name: str) -> None:
    own, leader = averages(played.fills[name]), averages(played.fills["leader"])
    worse = [
        ((own[order.order_id] - leader[led]) * (1 if order.side == "BUY" else -1), order.filled)
        for order, led in pairs(played, name)
    ]

    found = of(report, name)

    assert D(str(found["slippage"])) == sum((each * units for each, units in worse), D(0))
    ticks = sum((each / TICK * units for each, units in worse), D(0)) / sum(units for _, units in worse)
    assert D(str(found["ticks"])) == ticks.quantize(D("0.01"))


def test_what_was_not_copied_is_counted_by_reason(report: dict[str, Any]) -> None:
    reasons = {name: {each["reason"]: each["count"] for each in of(report, name)["skips"]} for name in FOLLOWERS}

    assert reasons == {
        "asha": {"BELOW_ONE_LOT": 1, "UNSUPPORTED_KIND": 1},
        "ravi": {"LIMIT_ORDER_LOTS": 1, "INSUFFICIENT_MARGIN": 1, "UNSUPPORTED_KIND": 1},
    }


def test_refusals_unanswered_commands_and_disconnects_are_counted(report: dict[str, Any]) -> None:
    asha, ravi = of(report, "asha"), of(report, "ravi")

    assert (asha["refused"], ravi["refused"]) == (0, 1)
    assert ravi["refusals"][0]["words"].startswith("Insufficient funds.")
    assert (asha["unanswered"], ravi["unanswered"]) == (1, 0)
    assert asha["unknown"] == ravi["unknown"] == 0
    assert {each["account"]: each["disconnects"] for each in report["connections"]} == {
        "leader": 1,
        "asha": 0,
        "ravi": 0,
    }


def test_latency_is_measured_for_the_placements_of_the_day(played: Played, report: dict[str, Any]) -> None:
    for name in FOLLOWERS:
        total = of(report, name)["latency"]["total"]
        assert 0 < total["count"] <= len(played.ours(name))
        assert 0 < total["p50"] <= total["p95"] <= total["p99"] <= total["worst"] < 5000


def test_the_latency_of_each_placement_is_split_into_its_parts(played: Played) -> None:
    with Journal.open(played.journal, read_only=True) as journal:
        _, rows = journal.query(
            "SELECT decided_ms, durable_ms, sent_ms, answered_ms, total_ms FROM latency "
            "WHERE verb = 'PLACE' AND answer = 'Accepted'"
        )
    assert rows
    for *parts, total in rows:
        assert all(part is not None and part >= 0 for part in parts)
        assert sum(parts) == pytest.approx(total, abs=0.01)


def test_facts_can_be_listed_while_follow_runs(played: Played) -> None:
    kinds = {fact["kind"] for fact in played.while_following}

    assert {"Started", "OrderSeen", "Sized", "Place", "Modify", "Cancel", "Accepted", "Refused"} <= kinds
    assert {"Throttled", "Unanswered", "Filled", "Ended", "Skip", "Alert", "Disconnected"} <= kinds
    assert "Stopped" not in kinds


def test_the_tail_shows_each_fact_once_and_ends_cleanly(played: Played) -> None:
    seqs = [json.loads(line)["seq"] for line in played.tailed]
    every = [fact["seq"] for fact in json.loads(audit(played.journal, "--json").stdout)]

    assert played.tail_ended == 0
    assert seqs == every[every.index(seqs[0]) :]
    assert len(seqs) > 150


def test_a_backup_made_while_follow_ran_verifies(played: Played) -> None:
    assert audit(played.journal.with_name("during.db"), "verify").exit_code == 0


def test_the_journal_agrees_with_the_broker_until_something_happens_unseen(played: Played) -> None:
    code, text = played.said["agreeing"]
    assert (code, "unaltered, complete, nothing unknown" in text) == (0, True), text

    code, text = played.said["differing"]
    assert code == 3
    assert text == "broker: leader: the order 123456 (PENDING) was never seen"


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("entered", "asha: copied with 75 units, 75 filled, traded"),
        ("carried", "asha: not copied, BELOW_ONE_LOT: 75 / 75 lots x 0.5 = 0.5, carry 0.0: 0 lots, carry 0.5"),
        ("too large", "ravi: not copied, LIMIT_ORDER_LOTS: 12 lots, the limit is 10"),
        ("refused", "ravi: not copied, INSUFFICIENT_MARGIN: Insufficient funds."),
        ("unanswered", "place not answered, its fate is unknown"),
        ("throttled", "place refused by the rate limiter"),
        ("super", "asha: not copied, UNSUPPORTED_KIND"),
        ("partly", "ravi: copied with 300 units, 150 filled, cancelled"),
        ("exit call", "position from copying before it: +75"),
    ],
)
def test_every_kind_of_order_is_explained(played: Played, order: str, said: str) -> None:
    done = audit(played.journal, "explain", played.orders[order])

    assert done.exit_code == 0
    assert said in done.stdout


def test_every_order_of_the_brokers_is_explained(played: Played) -> None:
    for name in FOLLOWERS:
        for order in played.ours(name):
            by_id, by_name = (audit(played.journal, "explain", each) for each in (order.order_id, order.correlation_id))
            assert by_id.exit_code == 0
            assert by_id.stdout == by_name.stdout
