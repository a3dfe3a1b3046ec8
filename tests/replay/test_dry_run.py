"""A dry run over real sockets: everything is decided and recorded, and nothing reaches the broker."""

from __future__ import annotations

import asyncio
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from copytrader.core.facts import Filled, Place, Started
from copytrader.journal import Journal
from copytrader.narrate import PAPER
from tests.e2e.stage import Program, Stage

D = Decimal
CALL = ("NSE_FNO", "40001")


async def trades(stage: Stage, quantity: int = 150) -> None:
    """The leader buys, changes his mind, is filled, and gets out again."""
    entry = stage.leader.place(*CALL, "BUY", quantity, "LIMIT", D(95))
    await asyncio.sleep(0.3)
    stage.leader.modify(entry, price=D(96))
    await asyncio.sleep(0.3)
    stage.leader.fill(entry, price=D(96))
    await asyncio.sleep(0.3)
    leaving = stage.leader.place(*CALL, "SELL", quantity, "LIMIT", D(120))
    await asyncio.sleep(0.3)
    stage.leader.fill(leaving, price=D(120))
    await asyncio.sleep(0.4)


async def checked(stage: Stage) -> dict[str, Any]:
    program = await stage.runs("replay", "--check", "--json")
    code = await program.ends()
    verdict: dict[str, Any] = json.loads("\n".join(program.out))
    assert code == (0 if verdict["identical"] else 3), program.err
    return verdict


async def runs_dry(stage: Stage) -> Program:
    program = await stage.follows("--dry-run")
    await trades(stage)
    assert await program.stops() == 0, program.err
    return program


def test_a_dry_run_records_what_it_would_do_and_sends_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("0.5", "1"), copy="poll_seconds = 1") as stage:
            program = await runs_dry(stage)

            assert any("dry run" in line for line in program.err)
            assert stage.requests("asha") == stage.requests("ravi") == []
            assert stage.orders("asha") == []
            with Journal.open(tmp_path / "copytrader.db", read_only=True) as journal:
                facts = [row.fact for row in journal.facts()]
            placed = [(fact.account, fact.ticket.quantity) for fact in facts if isinstance(fact, Place)]
            assert sorted(placed) == [("asha", 75), ("asha", 75), ("ravi", 150), ("ravi", 150)]
            filled = [fact for fact in facts if isinstance(fact, Filled) and fact.account == "asha"]
            assert [(fact.filled_quantity, fact.average_price) for fact in filled] == [(75, D(96)), (75, D(120))]
            assert all(fact.order_id.startswith(PAPER) for fact in filled)
            assert (await checked(stage))["identical"]

    asyncio.run(scene())


def test_a_dry_run_keeps_its_positions_when_the_broker_s_are_read(tmp_path: Path) -> None:
    """The broker knows nothing of a position on paper, and the exit must come all the same."""

    async def scene() -> None:
        async with Stage(tmp_path, copy="poll_seconds = 0.5") as stage:
            program = await stage.follows("--dry-run")
            entry = stage.leader.place(*CALL, "BUY", 150, "LIMIT", D(95))
            await asyncio.sleep(0.3)
            stage.leader.fill(entry, price=D(95))
            await asyncio.sleep(1.5)
            stage.leader.place(*CALL, "SELL", 150)
            await program.says(r"asha: filled 75 at .* \(order DRY\w+00002\)")
            assert await program.stops() == 0
            assert not any("traded by hand" in line or "CRITICAL" in line for line in program.err), program.err
            assert stage.requests() == []

    asyncio.run(scene())


def test_a_live_run_between_two_dry_ones_takes_nothing_from_them(tmp_path: Path) -> None:
    """The same leader order, copied on paper, is copied for real by the run after it, once."""

    async def scene() -> None:
        async with Stage(tmp_path, copy="max_age_seconds = 600") as stage:
            dry = await stage.follows("--dry-run")
            resting = stage.leader.place(*CALL, "BUY", 300, "LIMIT", D(95))
            await dry.says("asha: place")
            assert await dry.stops() == 0
            assert stage.requests() == []

            live = await stage.follows()
            await stage.until(stage.orders, what="a copy")
            (copy,) = stage.orders()
            assert copy.terms.quantity == 150
            stage.leader.fill(resting, price=D(95))
            stage.exchange.fill(copy.order_id, 150, D(95))
            await live.says("asha: filled 150")
            assert await live.stops() == 0
            sent = len(stage.requests())

            dry = await stage.follows("--dry-run")
            given_up = stage.leader.place(*CALL, "BUY", 300, "LIMIT", D(94))
            await dry.says("asha: place")
            stage.leader.cancel(given_up)
            await dry.says("asha: cancel")
            assert await dry.stops() == 0
            assert any("holds +150" in line for line in dry.err), dry.err
            assert len(stage.requests()) == sent == 1

            last = await stage.follows()
            assert await last.stops() == 0
            assert any("holds +150" in line for line in last.err), last.err
            assert len(stage.requests()) == sent

            with Journal.open(tmp_path / "copytrader.db", read_only=True) as journal:
                starts = [row.fact for row in journal.facts(kinds=["Started"])]
                assert journal.outbox() == []
            assert [start.dry_run for start in starts if isinstance(start, Started)] == [True, False, True, False]
            verdict = await checked(stage)
            assert verdict["identical"], verdict

    asyncio.run(scene())


def test_a_dry_run_and_the_live_one_after_it_each_tell_their_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, copy="poll_seconds = 1") as stage:
            rehearsal = await stage.follows("--dry-run")
            stage.leader.place(*CALL, "BUY", 150, "LIMIT", D(95))
            await rehearsal.says("asha: place BUY 75")
            await asyncio.sleep(0.3)
            assert await rehearsal.stops() == 0
            said = "\n".join(rehearsal.err)
            assert "stopped; it was a dry run, nothing of it was sent\non paper, together with" in said
            assert said.count("asha: open: BUY 75") == said.count(f"(order {PAPER}") == 1
            assert "until `copytrader follow` runs again" not in said
            assert re.search(r"follow was stopped\. [^.]*, on paper: 1 order of the leader\. asha: 1 copy,", said)

            live = await stage.follows()
            await stage.until(lambda: len(stage.orders("asha")) == 1, what="copied")
            await asyncio.sleep(0.3)
            assert await live.stops() == 0
            said = "\n".join(live.err)
            assert "on paper" not in said
            assert re.search(r"follow was stopped\. [^.]*: 1 order of the leader\. asha: 1 copy, 0 with fills\.", said)
            assert said.count("asha: open: BUY 75") == 1
            program = await stage.runs("audit", "verify", "--broker")
            assert await program.ends() == 0, program.out

    asyncio.run(scene())
