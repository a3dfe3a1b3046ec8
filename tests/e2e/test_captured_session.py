"""A real options trader's morning, frame by frame, through a real socket into a running follow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from copytrader.simulator import LEADER_ID, Exchange
from copytrader.simulator.model import BookOrder, Instrument
from tests.e2e.stage import CAPTURES, Stage

SESSION = CAPTURES / "payloads" / "ws_2025-03-06_session.jsonl"
Frame = dict[str, Any]

pytestmark = pytest.mark.skipif(not SESSION.exists(), reason="the captures are not here")


def frames() -> list[Frame]:
    rows = [json.loads(line) for line in SESSION.read_text().splitlines()]
    return [{"Data": row["Data"], "Type": "order_alert"} for row in rows]


def furnish(exchange: Exchange, lot: int = 75) -> None:
    for number in ("45460", "45461", "45462", "45463"):
        row = Instrument(
            "NSE_FNO",
            number,
            f"NIFTY-Mar2025-{number}",
            lot,
            Decimal("0.05"),
            1801,
            underlying="NIFTY",
            instrument_type="OPTIDX",
            expiry=date(2026, 12, 1),
            strike=Decimal(22400),
            option_type="PE",
        )
        exchange.add_instrument(row, Decimal(180))
    for account in exchange.accounts.values():
        account.fill_policy = "manual"


@dataclass
class Wanted:
    """What the frames say of one leader order, read by the rules for frames alone."""

    order_no: str
    side: str
    quantity: int
    order_type: str
    price: Decimal
    trigger_price: Decimal
    status: str
    filled: int


_TYPES = {"LMT": "LIMIT", "MKT": "MARKET", "SL": "STOP_LOSS"}


def wanted(session: Iterable[Frame]) -> list[Wanted]:
    """The leader's orders in the order of their first frame, with the last valid terms; rejected ones are not copied."""
    orders: dict[str, Wanted] = {}
    for frame in session:
        data = frame["Data"]
        status, number = data["status"], data["orderNo"]
        if status in ("Pending", "Modified"):
            before = orders.get(number)
            orders[number] = Wanted(
                number,
                {"B": "BUY", "S": "SELL"}[data["txnType"]],
                data["quantity"],
                _TYPES[data["orderType"]],
                Decimal(str(data.get("price", 0))),
                Decimal(str(data.get("triggerPrice", 0))),
                "PENDING",
                before.filled if before else 0,
            )
        elif number in orders:
            if status in ("Traded", "Cancelled"):
                orders[number].status = status.upper()
            orders[number].filled = max(orders[number].filled, data.get("tradedQty", 0))
    return list(orders.values())


async def play(stage: Stage, session: list[list[Frame]], name: str = "asha") -> dict[str, BookOrder]:
    """Push the frames, burst by burst; let the copier react, and the follower's orders fill like the leader's."""
    copies: dict[str, BookOrder] = {}
    filled: dict[str, tuple[int, Decimal]] = {}
    expected = [order.order_no for order in wanted(frame for burst in session for frame in burst)]
    factor = Decimal(stage.ratios[stage.names.index(name)])
    for burst in session:
        for frame in burst:
            stage.exchange.push_raw(LEADER_ID, json.dumps(frame), mirrored=True)
        await stage.settles(0.13 * len(burst))
        for copy in stage.orders(name)[len(copies) :]:
            copies[expected[len(copies)]] = copy
        for data in (frame["Data"] for frame in burst):
            if data["status"] in ("Part-Traded", "Traded"):
                seen = (data["tradedQty"], Decimal(str(data["avgTradedPrice"])))
                filled[data["orderNo"]] = max(filled.get(data["orderNo"], seen), seen)
        for number, (quantity, price) in filled.items():
            _fill_alike(stage, copies.get(number), int(quantity * factor) // 75 * 75, price)
    await stage.settles(0.5)
    return copies


def _fill_alike(stage: Stage, copy: BookOrder | None, quantity: int, price: Decimal) -> None:
    if copy is not None and copy.is_open and copy.status != "TRANSIT" and quantity > copy.filled:
        stage.exchange.fill(copy.order_id, quantity - copy.filled, price)


def assert_alike(stage: Stage, copies: dict[str, BookOrder], ratio: Decimal, name: str = "asha") -> None:
    leader = wanted(frames())
    assert len(stage.orders(name)) == len(leader) == len(copies)
    for order in leader:
        copy = copies[order.order_no]
        assert copy.side == order.side
        assert copy.terms.quantity == int(order.quantity * ratio) // 75 * 75
        assert copy.status == order.status, order
        if order.order_type != "MARKET":
            assert copy.terms.price == order.price, order
            assert copy.terms.trigger_price == order.trigger_price or copy.triggered
    held = {"45460": 0, "45461": 0, "45462": 150, "45463": 0}  # the session ends with its last entry still held
    for security_id, quantity in held.items():
        assert stage.copied(name, security_id) == int(quantity * ratio)
    assert stage.exchange.violations == []


def doubled(session: list[Frame]) -> list[list[Frame]]:
    return [[frame, frame] for frame in session]


def swapped(session: list[Frame]) -> list[list[Frame]]:
    """Exchange each frame with its neighbour, as a socket that loses the order would."""
    return [[*reversed(session[first : first + 2])] for first in range(0, len(session), 2)]


def follow_through(tmp_path: Path, session: list[list[Frame]]) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("0.5",), copy="max_age_seconds = 1000000000", prepare=furnish) as stage:
            await stage.follows()
            copies = await play(stage, session)
            assert_alike(stage, copies, Decimal("0.5"))

    asyncio.run(scene())


def test_each_order_of_the_captured_session_is_copied_once_with_its_last_valid_terms(tmp_path: Path) -> None:
    follow_through(tmp_path, [[frame] for frame in frames()])


def test_frames_that_come_twice_change_nothing(tmp_path: Path) -> None:
    follow_through(tmp_path, doubled(frames()))


def test_neighbouring_frames_may_come_in_either_order(tmp_path: Path) -> None:
    follow_through(tmp_path, swapped(frames()))
