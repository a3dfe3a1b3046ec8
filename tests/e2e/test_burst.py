"""Fifty leader orders within a second: the rate limits hold, a cancel gets through, nothing goes missing."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from tests.e2e.judge import assert_sound, copies_of, reasons_of, recorded, until_sound
from tests.e2e.stage import PATIENCE, Stage

D = Decimal


def test_fifty_orders_in_a_second_break_no_limit_and_leave_room_for_a_cancel(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1", "1"), copy="poll_seconds = 2") as stage:
            await stage.follows()
            early = stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(60))
            await stage.until(lambda: [o for o in stage.orders() if o.status == "PENDING"], PATIENCE, "the early copy")
            began = time.monotonic()
            orders, lags = [], []  # by how much a busy machine wakes us late
            for number in range(50):
                order_type, price = ("LIMIT", D(50 + number % 40)) if number % 5 else ("MARKET", D(0))
                orders.append(stage.leader.place("NSE_FNO", "40001", "BUY", 75, order_type, price))
                if number == 25:
                    stage.leader.cancel(early)
                then = time.monotonic()
                await asyncio.sleep(0.012)
                lags.append(time.monotonic() - then - 0.012)
            assert time.monotonic() - began - sum(lags) < 1
            for name in stage.names:
                [copy] = copies_of(stage, recorded(stage), early, name)
                await stage.until(lambda copy=copy: not copy.is_open, 2, "the cancel")  # type: ignore[misc]
            [cancelled] = stage.exchange.ledger.where(kind="cancelled", client_id=stage.ids["leader"])
            left = {
                row.client_id: row.at for row in reversed(stage.exchange.ledger.where(kind="request", method="DELETE"))
            }
            assert left.keys() == {stage.ids[name] for name in stage.names}
            assert max(left.values()) - cancelled.at < timedelta(seconds=1 + 10 * max(lags))
            for name in stage.names:
                placed = stage.exchange.ledger.where(kind="request", method="POST", client_id=stage.ids[name])
                between = [row for row in placed if cancelled.at < row.at < left[stage.ids[name]]]
                assert len(between) <= 10, "the cancel waited behind entries"

            def over() -> bool:
                facts = recorded(stage)
                return all(
                    copies_of(stage, facts, order_id, name) or reasons_of(facts, order_id, name)
                    for order_id in orders
                    for name in stage.names
                )

            await stage.until(over, PATIENCE, "each is copied or has a reason")
            facts = await until_sound(stage)
            for name in stage.names:
                limiter = stage.exchange.limiters[stage.ids[name]]
                assert limiter.overruns == 0
                assert limiter.worst[1] <= 10
                assert {reason for order_id in orders for reason in reasons_of(facts, order_id, name)} <= {
                    "RATE_BUDGET",
                    "STALE",
                }
                resting = [order_id for order_id in orders if stage.exchange.orders[order_id].is_open]
                assert [order_id for order_id in resting if not copies_of(stage, facts, order_id, name)] == []

    asyncio.run(scene())


def test_the_limits_are_counted_over_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            program = await stage.follows()
            for number in range(20):
                stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(50 + number))
            await stage.until(lambda: len(stage.orders()) >= 8, PATIENCE, "the first ones")
            await program.killed()
            await stage.follows()
            await stage.until(lambda: len(stage.orders()) == 20, PATIENCE, "the others")
            await until_sound(stage)
            assert_sound(stage)

    asyncio.run(scene())
