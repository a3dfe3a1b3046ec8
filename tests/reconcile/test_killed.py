"""`--fix` is killed at every point of its work and run again: nothing twice, and in sync at the end."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.e2e.judge import hurried
from tests.e2e.stage import Stage
from tests.reconcile.test_days import OPTION, OTHER, net, picture, trades

POINTS = (
    "committed-Started",
    "decided-FixOrdered",
    "uncommitted-FixOrdered",
    "committed-FixOrdered",
    "sending-Place",
    "answered-Place",
    "decided-Accepted-PLACE",
    "committed-Accepted-PLACE",
    "sending-Place:2",
    "answered-Place:2",
    "committed-Accepted-PLACE:2",
)


@pytest.mark.parametrize("point", POINTS)
def test_a_fix_that_is_killed_and_run_again_sends_nothing_twice(point: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("0.5",), **hurried(3.0)) as stage:
            await missed_exit_and_entry(stage)
            program = await stage.runs("reconcile", "--fix", "--yes", env={"COPYTRADER_CRASH": point})
            assert await program.ends(60) == -signal.SIGKILL, (program.out, program.err)

            code, document = await picture(stage, "--fix", "--yes")

            assert (code, document["in_sync"]) == (0, True), document
            assert (net(stage), net(stage, security=OTHER)) == (0, 75)
            filled = [order for order in stage.orders() if order.filled]
            assert [(order.side, order.filled) for order in filled] == [("BUY", 150), ("SELL", 150), ("BUY", 75)]
            assert stage.exchange.violations == []

    asyncio.run(scene())


async def missed_exit_and_entry(stage: Stage) -> None:
    """The follower holds what the leader has sold, and lacks what it has bought."""
    follow = await stage.follows()
    trades(stage, 300, OPTION)
    await stage.until(lambda: stage.copied() == 150)
    await follow.stops()
    trades(stage, -300, OPTION)
    trades(stage, 150, OTHER)
