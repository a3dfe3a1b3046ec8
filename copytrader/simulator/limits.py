"""The broker's request limits: sliding windows per account, and how close somebody came to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta

ORDER_WINDOWS = ((1, 10), (60, 250), (3600, 1000), (86400, 7000))
"""Seconds and requests: what place, modify and cancel may use together."""


class RateLimiter:
    """Lets requests through while every window has room.

    A refused request takes no room, but it counts as an overrun and in the worst usage.
    """

    def __init__(self, windows: Iterable[tuple[int, int]] = ORDER_WINDOWS) -> None:
        self._windows = [(timedelta(seconds=seconds), limit, deque[datetime]()) for seconds, limit in windows]
        self.overruns = 0
        self.worst = {int(length.total_seconds()): 0 for length, _, _ in self._windows}

    def take(self, now: datetime) -> bool:
        self._forget(now)
        self._note(1)
        if any(len(taken) >= limit for _, limit, taken in self._windows):
            self.overruns += 1
            return False
        self._add(now)
        return True

    def charge(self, now: datetime, requests: int) -> None:
        """Another program used the account: room is gone, but it is nobody's overrun."""
        self._forget(now)
        for _ in range(requests):
            self._add(now)

    def used(self, now: datetime) -> dict[int, int]:
        self._forget(now)
        return {int(length.total_seconds()): len(taken) for length, _, taken in self._windows}

    def _forget(self, now: datetime) -> None:
        for length, _, taken in self._windows:
            while taken and now - taken[0] >= length:
                taken.popleft()

    def _note(self, more: int) -> None:
        for length, _, taken in self._windows:
            seconds = int(length.total_seconds())
            self.worst[seconds] = max(self.worst[seconds], len(taken) + more)

    def _add(self, now: datetime) -> None:
        for _, _, taken in self._windows:
            taken.append(now)
