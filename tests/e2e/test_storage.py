"""The journal's file fails: nothing is sent that was not recorded, and no damaged journal is gone on with."""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from copytrader.core.facts import Place
from tests.e2e.judge import copies_of, recorded, until_sound
from tests.e2e.stage import PATIENCE, Stage

D = Decimal
STEPS = [int(text) for text in os.environ.get("COPYTRADER_DISK_STEPS", "0 6000 20000").split()]
UNLIMITED = resource.RLIM_INFINITY


def place(stage: Stage, price: int) -> str:
    return stage.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", D(price))


@pytest.mark.parametrize("room", STEPS)
def test_on_a_full_disk_nothing_is_sent_that_was_not_recorded(tmp_path: Path, room: int) -> None:
    """No file may grow beyond what the WAL has now, and a little."""

    async def scene() -> None:
        log = tmp_path / "copytrader.log"
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 1", env={"COPYTRADER_LOG": str(log)}) as stage:
            program = await stage.follows()
            for number in range(2):
                place(stage, 90 - number)
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE)
            await stage.settles()
            size = (tmp_path / "copytrader.db-wal").stat().st_size + room
            resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))
            for number in range(12):
                place(stage, 80 - number)
                await asyncio.sleep(0.05)
                if program.process.returncode is not None:
                    break
            assert await program.ends(PATIENCE) == 1
            [line] = [line for line in program.err if "disk" in line]
            assert "copytrader.db" in line
            assert not [line for line in program.err if "Traceback" in line]
            await stage.settles()
            orders = {order.order_id for order in stage.orders()}
            said = "\n".join(program.err).partition("stopped; nobody looks after these")[2]
            assert len(re.findall("open: BUY", said)) == len(orders)
            assert all(order in said for order in orders)
            assert "follow has ended and copies nothing" in log.read_text()
            decided = {fact.correlation_id for fact in recorded(stage) if isinstance(fact, Place)}
            assert {order.correlation_id for order in stage.orders()} <= decided
            await stage.follows()
            facts = await until_sound(stage)
            for order in stage.exchange.book(stage.ids["leader"]):
                assert len(copies_of(stage, facts, order.order_id)) == 1

    asyncio.run(scene())


def test_a_journal_that_another_program_keeps_locked_lets_nothing_be_sent(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            program = await stage.follows()
            other = sqlite3.connect(tmp_path / "copytrader.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            first = place(stage, 90)
            await asyncio.sleep(1)
            assert stage.requests() == []
            other.execute("ROLLBACK")
            await stage.until(stage.orders, PATIENCE, "it goes on once the lock is gone")

            other.execute("BEGIN IMMEDIATE")
            second = place(stage, 89)
            assert await program.ends(PATIENCE) == 1
            await program.says("another program has held it locked")
            assert len(stage.requests()) == 1
            refused = await stage.runs("follow")
            assert await refused.ends(PATIENCE) == 1
            await refused.says("another program has held it locked")
            assert len(stage.requests()) == 1
            other.execute("ROLLBACK")
            other.close()
            await stage.follows()
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE)
            facts = await until_sound(stage)
            assert [len(copies_of(stage, facts, each)) for each in (first, second)] == [1, 1]

    asyncio.run(scene())


def moved(folder: Path) -> None:
    (folder / "old").mkdir()
    for name in ("copytrader.db", "copytrader.db-wal", "copytrader.db-shm"):
        (folder / name).rename(folder / "old" / name)


def put_back(folder: Path) -> None:
    for each in (folder / "old").iterdir():
        each.rename(folder / each.name)


def wal_deleted(folder: Path) -> None:
    for name in ("copytrader.db-wal", "copytrader.db-shm"):
        (folder / name).unlink()


def nothing(folder: Path) -> None:
    """Leave everything as it is: what the WAL held was moved into the file at the end."""


@pytest.mark.parametrize(("lose", "mend", "code"), [(moved, put_back, 6), (wal_deleted, nothing, 1)])
def test_a_follow_whose_journal_is_moved_away_ends_and_goes_on_once_it_is_back(
    tmp_path: Path, lose: Callable[[Path], None], mend: Callable[[Path], None], code: int
) -> None:
    async def scene() -> None:
        log = tmp_path / "copytrader.log"
        async with Stage(tmp_path, ("1",), env={"COPYTRADER_LOG": str(log)}) as stage:
            program = await stage.follows()
            first = place(stage, 90)
            await stage.until(stage.orders, PATIENCE)
            await stage.settles()
            lose(tmp_path)

            assert await program.ends(PATIENCE) == code
            [line] = [line for line in program.err if "before the next start" in line]
            assert "copytrader.db" in line
            assert not [line for line in program.err if "Traceback" in line]
            said = "\n".join(program.err).partition("stopped; nobody looks after these")[2]
            assert stage.orders()[0].order_id in said
            assert "CRITICAL: follow has ended and copies nothing" in log.read_text()
            second = place(stage, 89)
            await stage.settles()
            assert len(stage.requests()) == 1

            mend(tmp_path)
            await stage.follows()
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE)
            facts = await until_sound(stage)
            assert [len(copies_of(stage, facts, each)) for each in (first, second)] == [1, 1]

    asyncio.run(scene())


def flipped(path: Path) -> None:
    """Change one byte in each of several pages."""
    chance, content = random.Random(3), bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 + chance.randrange(4096)] ^= 0x55
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_database(path: Path) -> None:
    path.write_text("dear diary " * 1000)


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id)")


def foreign_wal(path: Path) -> None:
    """Put the WAL of another journal beside this one."""
    shutil.copy(path.with_name("other.db-wal"), f"{path}-wal")


def changed(path: Path) -> None:
    """Make one recorded quantity another one, as if with a hex editor."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("""UPDATE facts SET body = replace(body, '"quantity":75', '"quantity":750')""")
        for _, sql in triggers:
            connection.execute(sql)


def removed(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER facts_are_kept")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM facts WHERE seq = 5")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


DAMAGES: tuple[Callable[[Path], None], ...] = (
    flipped,
    cut,
    no_database,
    foreign,
    foreign_wal,
    changed,
    removed,
    newer,
)


def test_a_damaged_journal_is_refused_with_one_line_and_nothing_is_sent(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path, ("1",)) as stage:
            (tmp_path / "first").mkdir()
            program = await stage.runs("follow", "--config", str(_config(stage, "first/other.db")))
            await program.says("^copying", PATIENCE)
            place(stage, 90)
            await stage.until(stage.orders, PATIENCE)
            await program.killed()
            wal = (tmp_path / "first" / "other.db-wal").read_bytes()
            stage.leader.cancel(stage.exchange.book(stage.ids["leader"])[0].order_id)
            program = await stage.follows("--adopt")
            place(stage, 91)
            await stage.until(lambda: len(stage.orders()) == 2, PATIENCE)
            assert await program.stops() == 0
            recorded(stage)
            before, logins = len(stage.requests()), len(stage.exchange.ledger.where(kind="login"))
            for damage in DAMAGES:
                folder = tmp_path / damage.__name__
                folder.mkdir()
                (folder / "other.db-wal").write_bytes(wal)
                shutil.copy(tmp_path / "copytrader.db", folder / "journal.db")
                damage(folder / "journal.db")
                program = await stage.runs("follow", "--config", str(_config(stage, f"{damage.__name__}/journal.db")))
                code = await program.ends(PATIENCE)
                assert code in (1, 2, 6), f"{damage.__name__}: code {code}: {program.err}"
                assert len(program.err) == 1, f"{damage.__name__}: {program.err}"
                assert "journal.db" in program.err[0], program.err
                assert any(
                    remedy in program.err[0] for remedy in ("restore a backup", "name another file", "use that version")
                ), program.err
            halt = await stage.runs("halt", "--config", str(_config(stage, f"{changed.__name__}/journal.db")))
            assert await halt.ends(PATIENCE) != 0
            assert any("nothing is halted" in line for line in halt.err)
            assert not any("begins halted" in line for line in halt.err)
            assert len(stage.requests()) == before
            assert len(stage.exchange.ledger.where(kind="login")) == logins

    asyncio.run(scene())


def _config(stage: Stage, journal: str) -> Path:
    config = stage.folder / f"{journal.replace('/', '-')}.toml"
    config.write_text(f'journal = "{journal}"\n' + stage.config.read_text())
    config.chmod(0o600)
    return config


def test_without_any_instrument_follow_does_not_look_alive(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(tmp_path) as stage:
            text = stage.config.read_text()
            stage.config.write_text(text.replace("/api-data/api-scrip-master-detailed.csv", "/nothing.csv"))
            program = await stage.runs("follow")

            assert await program.ends() == 1
            assert any("no instruments are known" in line for line in program.err)
            assert not any(line.startswith("copying") for line in program.err)
            assert any("copytrader instruments sync" in line for line in program.err)

    asyncio.run(scene())
