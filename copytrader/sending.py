"""The way out: each command leaves once, as soon as its account's pace allows, and its answer comes in by the door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from copytrader.account import Account
from copytrader.core.facts import Cancel, Command, Event, NotSent, Sending
from copytrader.crash import crash_point
from copytrader.dhan.answers import Outcome, verb_of

HELD_UP = timedelta(seconds=2)
"""A command that could not leave within this of its decision does not leave: the world has moved on."""
_TOGETHER = 0.002
"""Seconds in which answers that arrive together are recorded in one commit."""

Send = tuple[int, Command, datetime]
"""The seq of a command, the command, and when what led to it happened."""
Times = tuple[datetime, datetime]
"""When a command was decided, and when its decision was durable."""


class Door(Protocol):
    """Where answers go, and who looks after what goes on meanwhile."""

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be taken in any more."""

    def take(self, happened: Sequence[tuple[Event, int | None]]) -> object:
        """Take events in, each with the seq of the fact that caused it; nothing once it is broken."""

    def start(self, work: Awaitable[None]) -> None: ...

    def ended(self, task: asyncio.Task[None]) -> None:
        """Hear of a task's end: an error in it ends everything."""


class Sender:
    """Sends commands whose decisions are durable."""

    def __init__(self, accounts: Mapping[str, Account], now: Callable[[], datetime], door: Door) -> None:
        self._accounts = accounts
        self._now = now
        self._door = door
        self._under_way: set[asyncio.Task[None]] = set()
        self._answers: list[tuple[Event, int | None]] = []

    @property
    def is_busy(self) -> bool:
        """Whether a command waits for its turn or for its answer."""
        return bool(self._under_way)

    def dispatch(self, sends: Sequence[Send], times: Times) -> None:
        """Send each command whatever becomes of the others: an error at one follower holds up no exit of another."""
        with ExitStack() as stack:
            for seq, command, asked in reversed(sends):
                stack.callback(self._dispatch, seq, command, asked, times)

    def _dispatch(self, seq: int, command: Command, asked: datetime, times: Times) -> None:
        """Send a command, at once if its account's pace allows it, and have a task wait for what becomes of it."""
        account = self._accounts[command.account]
        if account.pace.wait(command, self._now()):
            work = self._send_later(account, seq, command, asked, times)
        else:
            work = self._send(account, seq, command, asked, times)
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._sent)

    async def _send_later(self, account: Account, seq: int, command: Command, asked: datetime, times: Times) -> None:
        while wait := account.pace.wait(command, self._now()):
            await asyncio.sleep(wait)
        await self._send(account, seq, command, asked, times)

    def _send(
        self, account: Account, seq: int, command: Command, asked: datetime, times: Times
    ) -> Coroutine[Any, Any, None]:
        now = self._now()
        if now - asked > HELD_UP and not isinstance(command, Cancel):
            return self._hold_back(seq, command, now, now - asked)
        crash_point("sending", command)
        account.pace.sends(seq, now)
        return self._hear_of(account, seq, command, account.broker.send(command), Sending(*times, now))

    async def _hold_back(self, seq: int, command: Command, now: datetime, held_up: timedelta) -> None:
        detail = f"held up for {held_up.total_seconds():.0f} s"
        self._door.take([(NotSent(now, command.account, command.correlation_id, verb_of(command), detail), seq)])

    async def _hear_of(
        self, account: Account, seq: int, command: Command, answer: Awaitable[Outcome], times: Sending
    ) -> None:
        outcome = await answer
        account.pace.answered(seq, self._now())
        crash_point("answered", command)
        if not isinstance(outcome, NotSent):
            outcome = replace(outcome, times=times)
        self._answered(outcome, seq)

    def _answered(self, outcome: Outcome, seq: int) -> None:
        """Record an answer; while others are on their way, together with those that come within a moment."""
        if len(self._under_way) <= 1 and not self._answers:
            self._door.take([(outcome, seq)])
            return
        if not self._answers:
            self._door.start(self._take_answers_soon())
        self._answers.append((outcome, seq))

    async def _take_answers_soon(self) -> None:
        await asyncio.sleep(_TOGETHER)
        self.take_answers()

    def take_answers(self) -> None:
        """Record now the answers that wait for others."""
        answers, self._answers = self._answers, []
        if answers:
            self._door.take(answers)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._door.ended(task)

    async def wait(self, seconds: float) -> None:
        """Wait at most so long for what is under way, and for what its answers lead to."""
        loop = asyncio.get_running_loop()
        goodbye = loop.time() + seconds
        while self._under_way and not self._door.is_broken and (left := goodbye - loop.time()) > 0:
            await asyncio.wait(set(self._under_way), timeout=left)
            self.take_answers()

    async def end(self) -> None:
        """Wait for nothing any more; record the answers that came."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self.take_answers()
