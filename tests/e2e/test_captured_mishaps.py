"""The captured morning again, while the broker refuses, rejects, loses and leaves unanswered what it is asked.

Flat wherever the leader is flat.  What the leader holds is added up from the raw frames; what a follower holds is
read from the simulator's book.  In lots of 15 the leader's 150 are ten lots, and a third of them is three.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from copytrader.simulator import LEADER_ID, Fault, FaultKind
from tests.e2e.judge import hurried
from tests.e2e.stage import PATIENCE, Stage
from tests.e2e.test_captured_session import SESSION, Frame, frames, furnish

pytestmark = pytest.mark.skipif(not SESSION.exists(), reason="the captures are not here")

K, D = FaultKind, Decimal
LOT = 15
RATIOS = {"asha": D("0.5"), "ravi": D(1), "mira": D("0.33")}
SIDES = {"B": "BUY", "S": "SELL"}
MARGIN = "RMS:1:You have insufficient funds. Please add Rs.23.70 to trade."
REFUSALS = (
    Fault(K.ERROR, accept=False, code="DH-906", message="Order cannot be taken"),
    Fault(K.REJECT_LATER, message=MARGIN),
    Fault(K.REJECTED, message=MARGIN),
)
UNANSWERED = {
    "B": (Fault(K.HANG), Fault(K.CLOSE)),
    "S": (Fault(K.LATE, seconds=2), Fault(K.CLOSE, accept=False)),
}


@dataclass
class Leader:
    """What the leader holds, what of it works, and its latest order of each security and side."""

    held: Counter[str] = field(default_factory=Counter)
    filled: Counter[str] = field(default_factory=Counter)
    working: dict[str, str] = field(default_factory=dict)
    latest: dict[tuple[str, str], Frame] = field(default_factory=dict)

    def does(self, data: Frame) -> None:
        number, security, status = data["orderNo"], data["securityId"], data["status"]
        assert data["product"] == "I"
        if status == "Rejected":
            return
        self.working[number] = security
        self.latest[security, SIDES[data["txnType"]]] = data
        if status in ("Part-Traded", "Traded"):
            self.held[security] += (data["tradedQty"] - self.filled[number]) * (1 if data["txnType"] == "B" else -1)
            self.filled[number] = data["tradedQty"]
        if status in ("Traded", "Cancelled"):
            del self.working[number]

    def is_out_of(self, security: str) -> bool:
        return not self.held[security] and security not in self.working.values()


def share(quantity: int, name: str) -> int:
    return int(quantity * RATIOS[name]) // LOT * LOT


def struck(number: int, side: str) -> tuple[str, Fault]:
    """Whom a mishap befalls at this order of the leader's, and which; every third is each follower's."""
    return (*RATIOS,)[number % 3], (*REFUSALS, *UNANSWERED[side])[number % 5]


def trade(stage: Stage, leader: Leader) -> None:
    """Fill the followers' orders as far as the leader's latest one on that side has filled, market orders wholly."""
    asked = stage.exchange.ledger.where(kind="request", method="POST")
    immediate = {row.correlation_id for row in asked if row.body["orderType"] == "MARKET"}
    for order in (order for name in stage.names for order in stage.orders(name)):
        if not order.is_open or order.status == "TRANSIT":
            continue
        upto = order.terms.quantity
        if order.correlation_id not in immediate:
            latest = leader.latest[order.instrument.security_id, order.side]
            upto = upto * leader.filled[latest["orderNo"]] // latest["quantity"] // LOT * LOT
        if upto > order.filled:
            stage.exchange.fill(order.order_id, upto - order.filled)


def strays(stage: Stage, leader: Leader) -> list[str]:
    """Which followers hold, or have working, what the leader's position does not justify."""
    found = []
    for name, ratio in RATIOS.items():
        for security in leader.held:
            held = stage.copied(name, security)
            if leader.is_out_of(security):
                orders = [o for o in stage.orders(name) if o.is_open and o.instrument.security_id == security]
                if held or orders:
                    found.append(f"{name} holds {held} of {security} and has {len(orders)} working: the leader is out")
            elif not 0 <= held <= ratio * leader.held[security] + LOT:
                found.append(f"{name} holds {held} of {security}: the leader {leader.held[security]}")
    return found


def placings(stage: Stage, name: str) -> int:
    return stage.requests(name).count(("POST", "/orders"))


def befall(stage: Stage, name: str, fault: Fault) -> None:
    """Let a mishap strike the next placing of a follower, and nothing else."""
    fields = {key: getattr(fault, key) for key in fault.__dataclass_fields__}
    stage.exchange.faults.clear()
    stage.exchange.script(Fault(**{**fields, "client_id": stage.ids[name], "method": "POST", "path": "/orders"}))


async def show(stage: Stage, data: Frame) -> None:
    """Push one frame; each follower places its copy of a new order, an exit only if it holds something."""
    before = {name: placings(stage, name) for name in stage.names}
    if data["txnType"] == "S":
        before = {name: count for name, count in before.items() if stage.copied(name, data["securityId"])}
    stage.exchange.push_raw(LEADER_ID, json.dumps({"Data": data, "Type": "order_alert"}), mirrored=True)
    if data["status"] == "Pending":
        await stage.until(lambda: all(placings(stage, name) > before[name] for name in before), PATIENCE, str(data))


async def play(stage: Stage) -> Counter[str]:
    """Push the frames one by one; return what each follower should have bought in all."""
    leader, number, due, refused = Leader(), 0, Counter[str](), ""

    def is_settled() -> bool:
        trade(stage, leader)
        return not strays(stage, leader)

    for data in (frame["Data"] for frame in frames()):
        if data["status"] == "Pending":
            name, fault = struck(number, data["txnType"])
            befall(stage, name, fault)
            refused, number = name if fault in REFUSALS else "", number + 1
        await show(stage, data)
        leader.does(data)
        if data["status"] == "Traded" and data["txnType"] == "B":
            due.update({name: share(data["tradedQty"], name) for name in stage.names if name != refused})
        await stage.until(is_settled, PATIENCE, f"settled after {data}")
        await stage.settles(0.1)
        assert strays(stage, leader) == []
    return due


def assert_never_beyond(stage: Stage) -> None:
    """Hold every fill against what the leader had by then: never the wrong way round, never bought beyond the ratio."""
    held: Counter[tuple[str, str]] = Counter()
    for row in stage.exchange.ledger.where(kind="filled"):
        here = (row.client_id, row.security_id)
        held[here] += row.quantity if row.side == "BUY" else -row.quantity
        assert held[here] >= 0, f"{row.client_id} holds {held[here]} of {row.security_id} after {row.order_id}"
        for name, ratio in RATIOS.items():
            if row.client_id == stage.ids[name] and row.side == "BUY":
                assert held[here] <= ratio * held[LEADER_ID, row.security_id] + LOT, (
                    f"{name} holds {held[here]} of {row.security_id}"
                )


def test_followers_are_flat_wherever_the_leader_is_flat_whatever_the_broker_refuses(tmp_path: Path) -> None:
    async def scene() -> None:
        ratios = [str(ratio) for ratio in RATIOS.values()]
        copy, prepare = "max_age_seconds = 1000000000", partial(furnish, lot=LOT)
        async with Stage(tmp_path, ratios, copy=copy, prepare=prepare, **hurried(4, 1)) as stage:
            await stage.follows()
            due = await play(stage)
            await stage.settles(1.5)
            assert_never_beyond(stage)
            for name in stage.names:
                bought = sum(order.filled for order in stage.orders(name) if order.side == "BUY")
                assert bought == due[name], name
                assert {order.product for order in stage.orders(name)} == {"INTRADAY"}
            assert stage.exchange.violations == []

    asyncio.run(scene())
