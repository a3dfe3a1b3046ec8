"""Things that happen later, in the exchange's own time.

Nothing here sleeps: whoever drives the clock calls `run_due`, and may ask `next_due`
or set `on_change` to know when that is worth while.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta


class Agenda:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._entries: list[tuple[datetime, int, Callable[[], None]]] = []
        self._count = 0
        self.on_change: Callable[[], None] | None = None

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it after so many seconds; at once when there is nothing to wait for."""
        if seconds <= 0:
            action()
            return
        self._count += 1
        heapq.heappush(self._entries, (self._clock() + timedelta(seconds=seconds), self._count, action))
        if self.on_change is not None:
            self.on_change()

    def run_due(self) -> None:
        now = self._clock()
        while self._entries and self._entries[0][0] <= now:
            heapq.heappop(self._entries)[2]()

    @property
    def next_due(self) -> datetime | None:
        return self._entries[0][0] if self._entries else None

    def clear(self) -> None:
        self._entries.clear()
