"""The process is killed at every point of its work, and again while it recovers; the ledger judges what is left."""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from copytrader.core.facts import Alert, Place
from copytrader.simulator import Fault, FaultKind
from tests.e2e.judge import hurried, until_sound
from tests.e2e.stage import PATIENCE, Program, Stage

D = Decimal
FULL = os.environ.get("COPYTRADER_CRASHES") == "all"
RANDOM_KILLS = int(os.environ.get("COPYTRADER_RANDOM_KILLS", "6"))
AT_ONCE = 4
LATE_BY = 1.3
"""Seconds after which a late request is carried out: after the process is back and has looked for it."""

METHODS = {"Place": "POST", "Modify": "PUT", "Cancel": "DELETE"}
POINTS = (
    "frame-received-leader:{frame}",
    "frame-read-leader:{frame}",
    "decided-{verb}",
    "uncommitted-{verb}",
    "committed-{verb}",
    "sending-{verb}",
    "connected-{method}",
    "received",  # by the broker, who carries it out later
    "accepted",  # by the broker, whose answer is on its way
    "answered-{verb}",
    "decided-Accepted-{word}",
    "uncommitted-Accepted-{word}",
    "committed-Accepted-{word}",
)
"""Where the process dies first."""
BY_THE_BROKER = ("received", "accepted")
UNRECORDED, UNSENT = 4, 8
"""So many points come before the command is durable, and before the broker carries it out."""

ALWAYS = (
    "committed-Started",
    "book-read-asha",
    "decided-BookRead",
    "uncommitted-BookRead",
    "committed-BookRead",
    "book-read-leader",
    "committed-BookRead:2",
    "committed-Connected",
    "committed-Connected:2",
    "book-read-leader:3",
)
"""Where it dies again: what every recovery comes past."""
SENDS = (
    "decided-{verb}",
    "committed-{verb}",
    "sending-{verb}",
    "connected-{method}",
    "answered-{verb}",
    "uncommitted-Accepted-{word}",
)
"""What a recovery comes past that has something left to send."""
ASKS = ("decided-Unanswered", "committed-Unanswered", "looked-up", "decided-NotFound", "uncommitted-NotFound")
"""What a recovery comes past that has to find out about a placing."""


def words(verb: str) -> dict[str, str]:
    return {"verb": verb, "word": verb.upper(), "method": METHODS[verb], "frame": "1" if verb == "Place" else "2"}


def recoveries(number: int, verb: str) -> tuple[str, ...]:
    """Where a process can die again that died at the so-manieth point."""
    own: tuple[str, ...] = ()
    if number < UNRECORDED:
        own = SENDS
    elif number < UNSENT - 1:
        own = ASKS if verb == "Place" else ("committed-Unanswered", *SENDS)
    return tuple(point.format(**words(verb)) for point in own)


@dataclass
class Drama:
    """Three orders, and a death while the first is placed, the second modified, the third cancelled.

    `again` has for each verb where the process dies once more while it recovers.
    """

    folder: Path
    number: int
    again: dict[str, str] = field(default_factory=dict)
    at: str = ""

    @property
    def name(self) -> str:
        return f"{POINTS[self.number]} {self.at} {self.again}"

    async def play(self) -> None:
        self.folder.mkdir(parents=True)
        async with Stage(self.folder, ("1",), copy="poll_seconds = 0", **hurried()) as stage:
            for verb in METHODS:
                self.at = verb
                await self._die(stage, await self._follow(stage, verb), verb)
                if verb in self.again:
                    await assert_died(await stage.runs("follow", env={"COPYTRADER_CRASH": self.again[verb]}))
            self.at = "end"
            await self._follow(stage)
            await self._end(stage)

    async def _follow(self, stage: Stage, verb: str = "") -> Program:
        """Let the process come back, ready to die with this verb, and judge what it made of its last death."""
        point = POINTS[self.number].format(**words(verb)) if verb else ""
        program = await stage.follows(env={"COPYTRADER_CRASH": "" if point in BY_THE_BROKER else point})
        await until_sound(stage)
        return program

    async def _die(self, stage: Stage, program: Program, verb: str) -> None:
        point = POINTS[self.number].format(**words(verb))
        before = len(stage.requests())
        if verb == "Place":
            self._script(stage, point, "POST")
        order_id = stage.leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", D(95))
        if verb != "Place":
            await stage.until(
                lambda: stage.orders()[-1:] and stage.orders()[-1].status == "PENDING",
                what="the copy",
                seconds=PATIENCE,
            )
            await asyncio.sleep(0.1)
            self._script(stage, point, METHODS[verb])
            if verb == "Modify":
                stage.leader.modify(order_id, price=D(94))
            else:
                stage.leader.cancel(order_id)
        if point in BY_THE_BROKER:
            await stage.until(
                lambda: METHODS[verb] in [method for method, _ in stage.requests()[before:]], PATIENCE, verb
            )
            program.process.kill()
        await assert_died(program)

    def _script(self, stage: Stage, point: str, method: str) -> None:
        """The request arrives; the answer never does."""
        if point == "received":
            stage.exchange.script(Fault(FaultKind.LATE, method=method, path="/orders*", seconds=LATE_BY))
        elif point == "accepted":
            stage.exchange.script(Fault(FaultKind.HANG, method=method, path="/orders*"))

    async def _end(self, stage: Stage) -> None:
        """The leader gives up: nothing may be left."""
        for order in stage.exchange.book(stage.ids["leader"]):
            if order.is_open:
                stage.leader.cancel(order.order_id)
        await stage.until(lambda: not any(order.is_open for order in stage.orders()), PATIENCE, "all is cancelled")
        facts = await until_sound(stage)
        assert [fact for fact in facts if isinstance(fact, Alert) and "two orders bear" in fact.text] == []


async def assert_died(program: Program) -> None:
    code = await program.ends(PATIENCE)
    assert code == -9, f"it did not die but ended with {code}: {program.err[-5:]}"


async def play_all(them: Sequence[Drama]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    failed = []

    async def one(drama: Drama) -> None:
        async with gate:
            try:
                await drama.play()
            except (AssertionError, TimeoutError) as error:
                failed.append(f"{drama.name}: {error!r}")

    await asyncio.gather(*(one(drama) for drama in them))
    assert not failed, "\n".join(failed)


def dramas(folder: Path, numbers: Sequence[int]) -> list[Drama]:
    """Each first death with one second death for each verb, or, where all are asked for, with every one."""
    always = deque(ALWAYS)
    found = []
    for number in numbers:
        choices = {verb: recoveries(number, verb) for verb in METHODS}
        if FULL:
            rounds = max(len(each) for each in choices.values()) + len(ALWAYS)
            chosen = [{verb: _nth((*choices[verb], *ALWAYS), turn) for verb in METHODS} for turn in range(rounds)]
        else:
            always.rotate(-3)
            chosen = [{verb: _nth(choices[verb] or tuple(always), number + turn) for turn, verb in enumerate(METHODS)}]
        found += [Drama(folder / f"{number}-{turn}", number, again) for turn, again in enumerate(chosen)]
    return found


def _nth(these: Sequence[str], number: int) -> str:
    return these[number % len(these)]


EVEN, ODD = range(0, len(POINTS), 2), range(1, len(POINTS), 2)


@pytest.mark.parametrize("numbers", [EVEN, ODD], ids=["even", "odd"])
def test_killed_once_at_every_point_nothing_is_doubled_lost_or_left_open(tmp_path: Path, numbers: range) -> None:
    asyncio.run(play_all([Drama(tmp_path / str(number), number) for number in numbers]))


@pytest.mark.parametrize("numbers", [EVEN, ODD], ids=["even", "odd"])
def test_killed_again_while_it_recovers_it_recovers_all_the_same(tmp_path: Path, numbers: range) -> None:
    asyncio.run(play_all(dramas(tmp_path, numbers)))


def test_killed_at_any_moment_of_a_busy_session_nothing_is_doubled_lost_or_left_open(tmp_path: Path) -> None:
    async def scene() -> None:
        chance = random.Random(7)
        async with Stage(tmp_path, ("1",), copy="poll_seconds = 0.5\nmax_age_seconds = 60", **hurried()) as stage:
            for _ in range(RANDOM_KILLS):
                program = await stage.follows()
                trading = asyncio.ensure_future(_trade(stage, chance))
                await asyncio.sleep(chance.uniform(0.05, 0.7))
                await program.killed()
                trading.cancel()
                await asyncio.gather(trading, return_exceptions=True)
            await stage.follows()
            for order in stage.exchange.book(stage.ids["leader"]):
                if order.is_open:
                    stage.leader.cancel(order.order_id)
            facts = await until_sound(stage)
            assert len([fact for fact in facts if isinstance(fact, Place)]) >= RANDOM_KILLS
            assert [order for order in stage.orders() if order.is_open] == []

    asyncio.run(scene())


async def _trade(stage: Stage, chance: random.Random) -> None:
    """Place, modify and cancel without a pause that would suit the copier."""
    leader = stage.leader
    while True:
        working = [order.order_id for order in stage.exchange.book(stage.ids["leader"]) if order.is_open]
        move = chance.random()
        if move < 0.5 or not working:
            leader.place("NSE_FNO", "40001", "BUY", 75 * chance.randint(1, 3), "LIMIT", D(chance.randint(80, 90)))
        elif move < 0.8:
            leader.modify(chance.choice(working), price=D(chance.randint(70, 79)))
        else:
            leader.cancel(chance.choice(working))
        await asyncio.sleep(chance.uniform(0.02, 0.15))
