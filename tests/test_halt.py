"""Halting and resuming over real sockets, judged on the simulator's book."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from copytrader import halting
from copytrader.cli.halt import _show
from copytrader.config import load
from copytrader.core.facts import Halted
from copytrader.core.model import IST, label
from copytrader.halting import Outcome, Report
from copytrader.journal import Journal
from copytrader.simulator import Fault, FaultKind
from tests.e2e.stage import Stage
from tests.reconcile.test_days import ended

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
        held = f"holds from copying: +75 {name_of(stage)} MARGIN"
        assert told == [f"asha: halted; 1 order cancelled; no copy is open; {held}"]
        resting(stage)
        stage.leader.place(*OPTION, "SELL", 150)
        await stage.until(lambda: stage.copied() == 0, what="the leader's exit passes")
        await stage.settles()
        assert len(stage.orders()) == 3

    played(scene, tmp_path)


@pytest.mark.parametrize("flatten", [False, True])
def test_a_halt_that_leaves_something_held_says_that_no_stop_protects_it(
    flatten: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    _show(Report((Outcome("asha", held=("+75 NIFTY MARGIN",), cancelled=1),), by_follow=True, flatten=flatten))

    assert ("no stop loss or target rests" in capsys.readouterr().err) is not flatten


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

        assert told == [f"asha: halted; sold 75 {name_of(stage)} MARGIN; no copy is open"]
        assert stage.copied() == 0
        assert [net.quantity for net in stage.exchange.nets(stage.ids["asha"]).values()] == [225]

    played(scene, tmp_path)


def test_what_one_left_out_of_the_configuration_has_is_named_and_not_reached(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        await entered(stage)
        await follow.stops()
        stage.config.write_text(stage.config.read_text().replace("[followers.ravi]", "[followers.ravi]\nenabled=false"))

        code, program = await ended(stage, "reconcile")
        assert (code, program.out[-1]) == (3, "not in sync: left out of the configuration: ravi")
        left = f"ravi holds +150 {name_of(stage)} MARGIN from copying: left out of the configuration, "
        assert (await commands(stage, "halt", code=3))[-1].startswith(left)
        assert (await commands(stage, "halt", "--follower", "asha"))[-1].startswith("asha: halted")
        follow = await stage.follows()
        assert any("ravi is left out of the configuration, and holds +150" in line for line in follow.err)
        assert (await commands(stage, "halt", "--flatten", code=3))[-1].startswith(left)
        assert (stage.copied("asha"), stage.copied("ravi")) == (0, 150)

    played(scene, tmp_path, ("0.5", "1"))


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


def test_a_halt_that_cannot_reach_the_broker_is_kept_and_says_what_may_be_open(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        await entered(stage)
        resting(stage)
        await stage.until(lambda: len(stage.orders()) == 2)
        await follow.killed()
        stage.exchange.expire_token(stage.ids["asha"])

        program = await stage.runs("halt", "--flatten")
        assert await program.ends(60) == 4
        told = (
            "asha: halted; but the broker refuses the account's token (copytrader login asha); may still be open: "
            f"BUY 75 {name_of(stage)} LIMIT 50 (order {stage.orders()[1].order_id}); "
            f"holds from copying: +75 {name_of(stage)} MARGIN"
        )
        assert program.out == [told]
        left = (
            "the next `follow`, or another `copytrader halt`, cancels what is open and closes what is held from copying"
        )
        assert left in program.err

        stage.exchange.accounts[stage.ids["asha"]].token_expires_at = None
        await stage.follows()
        await stage.until(lambda: stage.orders()[1].status == "CANCELLED", what="the next start cancels")
        await stage.until(lambda: stage.copied() == 0, what="and closes what is held")

    played(scene, tmp_path)


def test_a_flattening_that_the_broker_refuses_is_told_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halting, "DONE_WITHIN", 2.0)

    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        await entered(stage)
        await follow.stops()
        refusal = Fault(FaultKind.ERROR, stage.ids["asha"], "POST", "/orders", count=None, accept=False, code="DH-906")
        refusal = replace(refusal, message="RMS: no exits today")
        stage.exchange.faults.add(refusal)

        report = await halting.halt(load(stage.config), None, lambda _: None, flatten=True)

        (outcome,) = report.followers
        assert report.code == 3
        assert outcome.said == ("exit SELL 75 NIFTY-05Dec2026-25000-CE refused by the broker: RMS: no exits today",)
        assert outcome.held == (f"+75 {name_of(stage)} MARGIN",)

    played(scene, tmp_path)


def test_an_order_of_which_nothing_is_known_is_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halting, "DONE_WITHIN", 1.0)

    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        await entered(stage)
        await follow.stops()
        stage.exchange.faults.add(Fault(FaultKind.CLOSE, stage.ids["asha"], "POST", "/orders", accept=False))

        report = await halting.halt(load(stage.config), None, lambda _: None, flatten=True)

        (outcome,) = report.followers
        assert report.code == 5
        (told,) = outcome.open
        assert re.fullmatch(rf"SELL 75 {name_of(stage)} MARKET \(ct1-\w+, not known whether it exists\)", told)

    played(scene, tmp_path)


def test_a_halt_says_whose_orders_it_took_over(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        follow = await stage.follows()
        resting(stage)
        await stage.until(lambda: len(stage.orders()) == 1)
        await follow.killed()
        (order,) = stage.orders()

        program = await stage.runs("halt", env={"COPYTRADER_JOURNAL": str(stage.folder / "another.db")})

        assert await program.ends(60) == 0
        taken = f"took over 1 order of a copier that this journal does not know: {order.order_id}"
        assert program.out == [f"asha: halted; {taken}; 1 order cancelled; no copy is open"]
        assert any(line.startswith("another copier may serve the account") for line in program.err)
        assert order.status == "CANCELLED"

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
