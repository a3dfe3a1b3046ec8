"""An event loop whose time is a number: nothing sleeps, the next timer is always due.

Handles run strictly in the order in which they were scheduled, timers of one moment in the
order in which they were set, so that a run is a function of its seed alone.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

_T = TypeVar("_T")


class VirtualLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as tasks, futures and timers need.

    `after_step` is called between any two handles: at every await of every task.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.after_step: Callable[[], None] | None = None
        self.unhandled: list[str] = []
        self._now = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, Exception):
            self.unhandled.append(f"{context.get('message')}: {error!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is dropped when its time comes."""

    # What drives it

    def run_until(self, when: float) -> None:
        """Run everything that is due up to a moment, and stand there."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while self._run_ready() and self._timers and self._timers[0][0] <= when:
                self._now = max(self._now, self._timers[0][0])
                self._collect_due()
            self._now = max(self._now, when)
        finally:
            events._set_running_loop(before)

    def run(self, work: Coroutine[Any, Any, _T], most: float = 3600) -> _T:
        """Run one coroutine to its end, within so many seconds of virtual time."""
        task: asyncio.Task[_T] = self.create_task(work)
        end = self._now + most
        while not task.done() and self._now < end:
            self.run_until(min(self._timers[0][0] if self._timers else end, end))
        return task.result()

    def skip(self, seconds: float) -> None:
        """Let time pass at once, as for a process that is suspended: what was due meanwhile comes late."""
        self._now += seconds

    def _run_ready(self) -> bool:
        while self._ready:
            handle = self._ready.popleft()
            if handle.cancelled():
                continue
            self.steps += 1
            handle._run()
            if self.after_step is not None:
                self.after_step()
        return True

    def _collect_due(self) -> None:
        while self._timers and self._timers[0][0] <= self._now:
            handle = heapq.heappop(self._timers)[2]
            if not handle.cancelled():
                self._ready.append(handle)
