"""One life of the product: the real copier over a real journal, until it is stopped, fails or is killed.

A killed process does nothing more: its journal takes no fact, its network carries nothing, its
tasks are cancelled.  What was committed stays, as it does after `kill -9`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from copytrader.account import Account
from copytrader.copier import Copier
from copytrader.core.facts import Cancel, Decision, Event, Fact, Modify, Place
from copytrader.core.model import LEADER
from copytrader.dhan.broker import Broker
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal, JournalError, Step
from tests.simulation.network import Line, Wire

if TYPE_CHECKING:
    from tests.simulation.world import World


class Killed(BaseException):
    """The process is no more; nothing in the product may catch this."""


@dataclass(slots=True)
class Crash:
    """How this life ends: at the so-manieth moment of a kind."""

    kind: str
    nth: int


class Tap:
    """The journal as one process sees it: real, but it knows when the process dies."""

    def __init__(self, world: World, process: Process, journal: Journal) -> None:
        self._world = world
        self._process = process
        self._journal = journal

    def record(
        self, event: Event, decisions: Sequence[Decision] = (), cause: int | None = None, *, word: int | None = None
    ) -> tuple[int, ...]:
        self._before()
        seqs = self._journal.record(event, decisions, cause, word=word)
        self._after([(event, decisions, cause)], [seqs])
        return seqs

    def record_many(self, steps: Sequence[Step]) -> list[tuple[int, ...]]:
        self._before()
        seqs = self._journal.record_many(steps)
        self._after(steps, seqs)
        return seqs

    def _before(self) -> None:
        self._process.must_live()
        self._process.at("before_commit")
        self._process.must_live()
        if self._process.disk_fails():
            raise JournalError("the disk is full; nothing was recorded")

    def _after(self, steps: Sequence[Step], seqs: list[tuple[int, ...]]) -> None:
        for (event, decisions, _), numbers in zip(steps, seqs, strict=True):
            self._world.judge.recorded(numbers, (event, *decisions))
        self._process.at("after_commit")
        if any(isinstance(decision, Place | Modify | Cancel) for _, decisions, _ in steps for decision in decisions):
            self._process.at("before_send")
            self._process.at("pause")
        self._process.must_live()

    def words(self) -> list[tuple[int, Event]]:
        self._process.must_live()
        return self._journal.words()

    def checkpoint(self) -> bool:
        self._process.must_live()
        self._world.counts["checkpoint"] += 1
        if self._process.copier.is_sending:
            self._world.problem("the journal is put in order while an order is on its way")
        return self._journal.checkpoint()

    def require_in_place(self) -> None:
        self._process.must_live()
        self._journal.require_in_place()


class Process:
    def __init__(self, world: World, number: int, journal: Journal, crash: Crash | None) -> None:
        self.number = number
        self.alive = True
        self.crash = crash
        self.stop = asyncio.Event()
        self.tokens = dict(world.tokens)
        self._world = world
        self._disk = False
        self._first_step = world.loop.steps
        facts = list(_recorded(journal))
        unanswered = [(row.seq, row.fact) for row in journal.outbox()]
        self.lines: dict[str, Line] = {}
        self.copier = Copier(
            journal=Tap(world, self, journal),
            facts=facts,
            desk=world.desk,
            accounts={name: self._account(name, client_id) for name, client_id in world.client_ids.items()},
            instrument=world.instrument,
            now=world.now,
            poll_seconds=world.swarm.poll_seconds,
            version="simulation",
            unanswered=[(seq, fact) for seq, fact in unanswered if isinstance(fact, Place | Modify | Cancel)],
        )
        self._main = world.loop.create_task(self._run())
        self._main.add_done_callback(self._ended)

    def _account(self, name: str, client_id: str) -> Account:
        line = self.lines[client_id] = Line(self._world, self, client_id)
        broker = Broker(client_id, Wire(self._world, self, client_id), self._world.now)
        return Account(name, client_id, broker, line)

    async def _run(self) -> None:
        await self.copier.identity.check_tokens()
        await self.copier.run(self.stop)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        for line in self.lines.values():
            line.close()
        if not self.alive:
            return
        self.alive = False
        if self._is_bad(error):
            self._world.problem(f"the copier ended by itself: {error!r}")
        self._world.ended(self)

    def _is_bad(self, error: BaseException | None) -> bool:
        if isinstance(error, JournalError):
            return not self._disk
        if isinstance(error, Failure):
            return error.code is not ExitCode.TOKEN or "leader_token" not in self._world.swarm.extras
        return error is not None or not self.stop.is_set()

    # Dying

    def must_live(self) -> None:
        if not self.alive:
            raise Killed

    def at(self, moment: str) -> None:
        """A moment at which this process may have to die."""
        crash = self.crash
        if crash is None or crash.kind != moment or not self.alive:
            return
        crash.nth -= 1
        if crash.nth > 0:
            return
        if moment == "pause":
            self._hit()
            self._world.loop.skip(30)
        else:
            self.kill()

    def after_step(self) -> None:
        crash = self.crash
        if crash is None or not self.alive or self._world.loop.steps < self._first_step + crash.nth:
            return
        if crash.kind in ("step", "recovery"):
            self.kill()
        elif crash.kind == "stop":
            self._hit()
            self.stop.set()

    def disk_fails(self) -> bool:
        crash = self.crash
        if crash is None or crash.kind != "disk":
            return False
        crash.nth -= 1
        if crash.nth > 0:
            return False
        if not self._disk:
            self._world.counts["crash disk"] += 1
        self._disk = True
        return crash.nth > -3

    def kill(self) -> None:
        self._hit()
        self.die()
        self._world.ended(self)

    def die(self) -> None:
        self.alive = False
        for line in self.lines.values():
            line.close()
        for task in asyncio.all_tasks(self._world.loop):
            task.cancel()

    def _hit(self) -> None:
        assert self.crash is not None
        self._world.counts[f"crash {self.crash.kind}"] += 1
        self.crash = None

    # Quiet

    @property
    def is_quiet(self) -> bool:
        """Whether everybody is served, nothing is on its way and nobody waits for anything."""
        return self.is_served and self.copier.state.next_wake is None

    @property
    def is_served(self) -> bool:
        """Whether everybody is served and nothing is on its way."""
        state = self.copier.state
        if not (self.alive and self.copier.ready.is_set()) or self.copier.is_sending:
            return False
        if state.leader_blocked:
            return False
        for name in self._world.client_ids:
            account = state.accounts.get(name)
            if name == LEADER or account is None:
                continue
            if not account.ready or account.blocked is not None:
                return False
            if any(piece.unknown or piece.in_flight or piece.cancelling for piece in account.open.values()):
                return False
        return all(account.connected for account in self.copier.accounts.values())


def _recorded(journal: Journal) -> Iterator[tuple[Fact, datetime]]:
    for row in journal.facts():
        yield row.fact, row.time
