"""A second copier beside the first is refused at once, having sent nothing, and is told who the first one is."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from copytrader import session, tokens
from copytrader.config import load
from copytrader.core.facts import Adopted, Fact, Started
from copytrader.core.model import Desk
from copytrader.lock import LockHeld, hold
from copytrader.session import another_leader
from tests.core.play import Play, follower
from tests.e2e.judge import assert_sound, recorded
from tests.e2e.stage import PATIENCE, Program, Stage

WriteConfig = Callable[..., Path]
D = Decimal
SOON = 1.0
"""Seconds that a refusal may take beyond what the same command needs to be told about a mistake."""


def place(stage: Stage, price: int = 95) -> str:
    return stage.leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", D(price))


async def refused(stage: Stage, config: Path, *arguments: str) -> Program:
    """Run follow with another configuration; it must be refused soon, and nothing may be sent by it."""
    began = time.monotonic()
    usage = await stage.runs("follow", "--config", str(stage.folder / "none.toml"))
    assert await usage.ends(PATIENCE) == 2
    usual = time.monotonic() - began
    requests = len(stage.exchange.ledger)
    began = time.monotonic()
    program = await stage.runs("follow", "--config", str(config), *arguments)
    assert await program.ends(PATIENCE) == 6, program.err
    assert time.monotonic() - began < usual * 2 + SOON
    assert len(stage.exchange.ledger) == requests, "it talked to the broker"
    return program


def twin_of(stage: Stage, name: str, journal: str) -> Path:
    """Write the same configuration with another journal."""
    config = stage.folder / name
    config.write_text(f'journal = "{journal}"\n' + stage.config.read_text())
    config.chmod(0o600)
    return config


def test_a_second_follow_is_refused_by_each_way_to_the_same_journal_or_follower(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 0") as stage:
            first = await stage.follows()
            place(stage)
            await stage.until(stage.orders)
            await stage.settles()
            holder = rf"process {first.process.pid}\b"
            await (await refused(stage, stage.config)).says(holder)

            (tmp_path / "linked.db").symlink_to(tmp_path / "copytrader.db")
            await (await refused(stage, twin_of(stage, "linked.toml", "linked.db"))).says(holder)

            (tmp_path / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
            await (await refused(stage, twin_of(stage, "elsewhere.toml", "elsewhere/copytrader.db"))).says(holder)

            with (
                closing(sqlite3.connect(tmp_path / "copytrader.db")) as journal,
                closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
            ):
                journal.backup(copy)
            program = await refused(stage, twin_of(stage, "copied.toml", "copy.db"))
            assert f"follower {stage.ids['asha']}" in await program.says(holder)

            program = await refused(stage, twin_of(stage, "new.toml", "new.db"))
            await program.says(holder)

            place(stage, 94)
            await stage.until(lambda: len(stage.orders()) == 2, what="the first one goes on")
            assert_sound(stage)

    asyncio.run(scene())


def test_of_many_that_start_at_once_one_copies(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            programs = [await stage.runs("follow") for _ in range(4)]
            await stage.until(lambda: sum(each.process.returncode == 6 for each in programs) == 3, PATIENCE)
            [winner] = [each for each in programs if each.process.returncode is None]
            await winner.says("^copying", PATIENCE)
            place(stage)
            await stage.until(stage.orders)
            await stage.settles()
            assert_sound(stage)
            await winner.killed()
            await stage.follows()  # the lock of a killed process is free at once
            place(stage, 94)
            await stage.until(lambda: len(stage.orders()) == 2)
            assert_sound(stage)

    asyncio.run(scene())


def held_by(stage: Stage, purpose: str) -> AbstractContextManager[None]:
    """Hold the journal and its follower as another command would."""
    return hold(stage.folder / "copytrader.db", [stage.ids["asha"]], stage.folder / "state", purpose)


@pytest.mark.parametrize(
    ("signature", "holder"), [(None, r"`copytrader halt`, process \d+ .*"), ("", "another process")]
)
def test_follow_waits_for_a_short_command_that_holds_the_lock(
    tmp_path: Path, signature: str | None, holder: str
) -> None:
    """The operator halts while follow is being started again: refused, it would stay away for good.

    In the moment in which the command ends, its signature is gone and the lock is not.
    """

    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            with held_by(stage, "halt"):
                if signature is not None:
                    (tmp_path / "copytrader.db.lock").write_text(signature)
                program = await stage.runs("follow")
                await program.says(f"in use by {holder}; waiting up to 60 s for it", PATIENCE)
                await asyncio.sleep(1)
                assert len(stage.exchange.ledger) == 0, "it talked to the broker"
            await program.says("^copying", PATIENCE)
            assert len([line for line in program.err if "waiting" in line]) == 1
            place(stage)
            await stage.until(stage.orders, PATIENCE)

    asyncio.run(scene())


@pytest.mark.parametrize("purpose", ["reconcile", "follow"])
def test_follow_waits_no_longer_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: str) -> None:
    said: list[str] = []
    monkeypatch.setattr(session, "LOCK_PATIENCE", 0.3)
    monkeypatch.setenv(tokens.STATE_DIR, str(tmp_path / "state"))

    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            with held_by(stage, purpose), pytest.raises(LockHeld) as refused:
                await session.run(load(stage.config), session.Options(), said.append)
            assert refused.value.holder.purpose == purpose
            assert refused.value.code == 6

    asyncio.run(scene())

    assert len(said) == (purpose != "follow")


def test_orders_of_a_lost_journal_stop_follow_until_they_are_adopted(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            first = await stage.follows()
            order = place(stage)
            await stage.until(stage.orders)
            stage.leader.place("NSE_FNO", "40002", "BUY", 75)
            await stage.until(lambda: stage.copied() == 75, what="the filled copy")
            await first.killed()
            shutil.move(tmp_path / "copytrader.db", tmp_path / "lost.db")
            for name in ("copytrader.db-wal", "copytrader.db-shm"):
                (tmp_path / name).unlink(missing_ok=True)
            before = len(stage.requests())

            program = await stage.runs("follow")
            assert await program.ends(PATIENCE) == 6
            await program.says(stage.orders()[0].order_id)
            await program.says("--adopt")
            assert len(stage.requests()) == before, "it sent something"

            await stage.follows("--adopt")
            await stage.until(lambda: not stage.orders()[0].is_open, what="the stray is cancelled")
            assert len([fact for fact in recorded(stage) if isinstance(fact, Adopted)]) == 1
            [_, bought] = stage.orders()
            assert bought.status == "TRADED"
            stage.leader.place("NSE_FNO", "40002", "SELL", 75)
            await stage.until(lambda: stage.copied() == 0, what="the adopted position is closed with the leader's")
            stage.leader.cancel(order)
            await stage.settles()
            assert [each for each in stage.orders() if each.is_open] == []
            assert stage.exchange.violations == []
            await until_ids_differ(stage)

    asyncio.run(scene())


def test_what_is_left_of_another_leader_stops_follow_before_anything_is_sent(tmp_path: Path) -> None:
    """Held against the books of the new leader, who has nothing of it, all would be sold at once."""

    async def scene() -> None:
        async with Stage(tmp_path, ("1", "1")) as stage:
            program = await stage.follows()
            stage.leader.place("NSE_FNO", "40002", "BUY", 75)
            await stage.until(lambda: stage.copied() == 75, what="the filled copy")
            await stage.settles()
            await program.stops()
            before, text = len(stage.requests()), stage.config.read_text()
            old, new = stage.ids["leader"], stage.ids["ravi"]
            changed = text.replace(old, "old").replace(new, old).replace("old", new)
            stage.config.write_text(changed)

            program = await stage.runs("follow")
            assert await program.ends(PATIENCE) == 6
            assert program.err[-2].startswith(
                f"the journal is of leader {old}, leader.client_id is {new}, and this is "
            )
            assert "asha: holds +75 " in program.err[-2]
            examined = await stage.runs("doctor")
            assert await examined.ends(PATIENCE) == 3
            assert any(line.startswith("FAIL  leader of the journal") for line in examined.out)
            stage.config.write_text(text)
            assert await (await stage.follows()).stops() == 0
            assert len(stage.requests()) == before, "it sent something"

            stage.config.write_text(changed)
            assert await (await stage.runs("halt", "--flatten")).ends(PATIENCE) == 0
            program = await stage.runs("follow")
            assert await program.ends(PATIENCE) == 6
            assert program.err[-2].endswith(", and it has orders of today")

    asyncio.run(scene())


def test_another_leader_is_copied_once_nothing_is_left_of_the_old_one(write_config: WriteConfig) -> None:
    config = load(write_config())
    play = Play((follower("asha", "1"),))
    at = play.now

    def journal_of(leader: str, *, dry_run: bool = False, copying: bool = True) -> tuple[Fact, datetime]:
        return Started(at, "", "", Desk(leader, play.followers), dry_run, copying), at

    assert another_leader(config, [], play.state) == ()
    assert another_leader(config, [journal_of("77")], play.state) == ()
    play.trades("L1", 2)
    assert another_leader(config, [journal_of("77"), journal_of(config.leader.client_id)], play.state) == ()
    for later in (
        journal_of(config.leader.client_id, dry_run=True),
        journal_of(config.leader.client_id, copying=False),
    ):
        said, remedy = another_leader(config, [journal_of("77"), later], play.state)
        assert said.startswith("the journal is of leader 77, leader.client_id is 1000000001, and this is left")
        assert "halt --flatten" in remedy


async def until_ids_differ(stage: Stage) -> None:
    ids = [order.correlation_id for order in stage.orders()]
    assert len(ids) == len(set(ids)), ids
