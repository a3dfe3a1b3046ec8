"""Halting and resuming over real sockets, judged on the simulator's book."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from copytrader.core.facts import Halted
from copytrader.core.model import IST, label
from copytrader.journal import Journal
from tests.e2e.stage import Stage

D = Decimal
OPTION = ("NSE_FNO", "40001")


def played(scene: Callable[[Stage], Awaitable[None]], folder: Path, ratios: tuple[str, ...] = ("0.5",)) -> None:
    async def run() -> None:
        async with Stage(folder, ratios) as stage:
            await scene(stage)
            assert stage.exchange.violations == []

    asyncio.run(run())


async def commands(stage: Stage, *arguments: str, code: int = 0) -> list[str]:
    """Run a command to its end and return what it printed."""
    program = await stage.runs(*arguments)
    assert await program.ends(60) == code, (program.out, program.err)
    return program.out


def resting(stage: Stage, side: str = "BUY", quantity: int = 150, price: str = "50") -> str:
    return stage.leader.place(*OPTION, side, quantity, "LIMIT", D(price))


async def entered(stage: Stage, quantity: int = 150) -> None:
    """Let the leader buy at market, and the followers' copies fill."""
    before = {name: stage.copied(name) for name in stage.names}
    stage.leader.place(*OPTION, "BUY", quantity)
    await stage.until(lambda: all(stage.copied(name) != before[name] for name in stage.names), what="entries")


def test_a_halt_beside_follow_cancels_open_copies_and_holds_back_entries_but_not_exits(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.follows()
        await entered(stage)
        resting(stage)
        await stage.until(lambda: len(stage.orders()) == 2)

        told = await commands(stage, "halt")

        assert [order.status for order in stage.orders()] == ["TRADED", "CANCELLED"]
        assert told == ["asha: halted; no copy is open; holds from copying: +75 " + name_of(stage) + " MARGIN"]
        resting(stage)
        stage.leader.place(*OPTION, "SELL", 150)
        await stage.until(lambda: stage.copied() == 0, what="the leader's exit passes")
        await stage.settles()
        assert len(stage.orders()) == 3

    played(scene, tmp_path)


def name_of(stage: Stage) -> str:
    listed = stage.exchange.instruments[OPTION]
    return label(listed.symbol, listed.expiry)


def test_a_halt_without_follow_cancels_at_the_broker_and_outlives_a_restart(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        resting(stage)
        await stage.until(lambda: len(stage.orders()) == 1)
        await follow.killed()

        await commands(stage, "halt")

        assert [order.status for order in stage.orders()] == ["CANCELLED"]
        resting(stage)
        await stage.follows()
        resting(stage)
        await stage.settles(1)
        assert len(stage.orders()) == 1

    played(scene, tmp_path)


def test_flatten_exits_what_is_held_from_copying_and_nothing_else(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        await entered(stage)
        stage.exchange.leader(stage.ids["asha"]).place(*OPTION, "BUY", 225)
        await follow.stops()

        told = await commands(stage, "halt", "--flatten")

        assert told == ["asha: halted; no copy is open"]
        assert stage.copied() == 0
        assert [net.quantity for net in stage.exchange.nets(stage.ids["asha"]).values()] == [225]

    played(scene, tmp_path)


def test_one_follower_alone_can_be_halted_and_resumed(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.follows()
        await commands(stage, "halt", "--follower", "asha")
        resting(stage)
        await stage.until(lambda: len(stage.orders("ravi")) == 1)
        await stage.settles()
        assert stage.orders("asha") == []

        assert await commands(stage, "resume", "--yes") == ["copying again to asha"]
        resting(stage)
        await stage.until(lambda: len(stage.orders("asha")) == 1 and len(stage.orders("ravi")) == 2)

    played(scene, tmp_path, ("0.5", "1"))


def test_follow_says_who_is_halted_when_it_begins_and_when_the_word_comes(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await commands(stage, "halt", "--follower", "asha")
        log = stage.folder / "follow.log"
        first = await stage.follows(env={"COPYTRADER_LOG": str(log)})
        begun = "copying 1000000001 to asha, ravi; halted: asha: no entry is copied there until `copytrader resume`"
        assert begun in first.err
        await commands(stage, "halt", "--flatten")
        await first.says(r"^\d\d:\d\d:\d\d halted for every follower, what is held from copying is closed$")
        await commands(stage, "resume", "--yes")
        await first.says(r"^\d\d:\d\d:\d\d resumed for every follower$")
        await first.stops()

        for text in (begun, "halted for every follower, what is held", "resumed for every follower"):
            assert text in log.read_text()

    played(scene, tmp_path, ("0.5", "1"))


def test_a_halt_before_anything_was_ever_copied_is_kept_for_the_first_follow(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await commands(stage, "halt")
        resting(stage)
        await stage.follows()
        await stage.settles(1)
        assert stage.orders() == []
        assert await commands(stage, "resume", "--yes") == ["copying again to asha"]
        assert await commands(stage, "resume", "--yes") == ["nobody is halted"]

    played(scene, tmp_path)


def test_a_halt_that_cannot_reach_the_broker_is_kept_and_says_so(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        resting(stage)
        await stage.until(lambda: len(stage.orders()) == 1)
        await follow.killed()
        stage.exchange.expire_token(stage.ids["asha"])

        (told,) = await commands(stage, "halt", code=4)
        assert told.startswith("asha: halted; but the broker refuses the account's token")

        stage.exchange.accounts[stage.ids["asha"]].token_expires_at = None
        await stage.follows()
        await stage.until(lambda: stage.orders()[0].status == "CANCELLED", what="the next start cancels")

    played(scene, tmp_path)


def test_resume_asks_and_takes_no_silence_for_a_yes(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await commands(stage, "halt")
        await commands(stage, "resume", code=2)
        program = await stage.runs("resume", "--follower", "nobody", "--yes")
        assert await program.ends() == 2
        assert program.err == [f"nobody is no enabled follower: asha ({stage.config})"]

    played(scene, tmp_path)


def test_a_halt_that_nobody_has_heard_waits_for_the_next_live_follow_not_for_a_dry_run(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        await follow.killed()
        Journal.leave_word(stage.folder / "copytrader.db", Halted(datetime.now(IST), None, detail="by hand"))
        assert any("asha: halted" in line for line in (await commands(stage, "doctor", code=3)))
        dry = await stage.follows("--dry-run")
        await stage.settles(1)
        assert await dry.stops() == 0
        assert any("waits for the next live follow" in line for line in dry.out + dry.err)

        resting(stage)
        await stage.follows()
        await stage.settles(1)
        assert stage.orders() == []

    played(scene, tmp_path)


def test_a_dry_run_is_not_halted_because_a_live_one_would_not_know(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.follows("--dry-run")
        program = await stage.runs("halt")
        assert await program.ends(60) == 6
        assert program.err == ["the running follow is a dry run and sends nothing; stop it first"]

    played(scene, tmp_path)
