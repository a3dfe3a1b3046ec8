"""Dhan's rate limits for one account, counted so that what is open can always be cancelled, and what is held closed.

10 calls a second, 250 a minute, 1,000 an hour, 7,000 a day, shared by place, modify
and cancel.  Cancels and what closes now may use everything.  Whatever else is asked for goes only if afterwards every
open order could still be cancelled and every position closed, and leaves that several times over.
The windows are a little longer than the broker's, because a call is counted when it
is decided and arrives a moment later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import IntEnum

from copytrader.core.model import day_of


class Rank(IntEnum):
    """Who goes first.

    EXIT closes now, or makes an exit that rests smaller.  REST places one that rests, or makes it larger; TRAIL is
    a new price for one, MODIFY a change of an entry.
    """

    CANCEL = 0
    EXIT = 1
    REST = 2
    TRAIL = 3
    MODIFY = 4
    ENTRY = 5


_LENGTHS = (timedelta(seconds=1.15), timedelta(seconds=61), timedelta(seconds=3605))
PER_SECOND, PER_MINUTE, PER_HOUR, PER_DAY = 10, 250, 1000, 7000
_RESERVE_SECOND = {Rank.CANCEL: 0, Rank.EXIT: 1, Rank.REST: 2, Rank.TRAIL: 2, Rank.MODIFY: 2, Rank.ENTRY: 2}
_MINUTE_RESERVE_AT_MOST = 60
_TIMES_OVER = {Rank.REST: 2, Rank.TRAIL: 5, Rank.MODIFY: 5, Rank.ENTRY: 5}
"""How often the calls that it takes to get out are left: a part may be closed first, and stop losses placed before."""
_PENALTY = timedelta(seconds=1)
_FOREIGN_FOR = timedelta(seconds=60)


def _windows() -> tuple[deque[datetime], deque[datetime], deque[datetime]]:
    return deque(), deque(), deque()


@dataclass(slots=True)
class Budget:
    """The calls of one account: those within the second, the minute and the hour, and today's number.

    `foreign` calls a second are left to other programs while the broker refuses more often
    than our own count explains.
    """

    windows: tuple[deque[datetime], deque[datetime], deque[datetime]] = field(default_factory=_windows)
    day: date | None = None
    today: int = 0
    blocked_until: datetime | None = None
    foreign: int = 0
    foreign_until: datetime | None = None

    def count(self, at: datetime) -> None:
        """Count a call that is being sent."""
        day = day_of(at)
        if day != self.day:
            self.day, self.today = day, 0
        self.today += 1
        self._turn_back(at)
        for window in self.windows:
            window.append(at)
        if len(self.windows[-1]) > PER_HOUR:
            self._forget(at)

    def uncount(self, at: datetime) -> None:
        """Take off a call that was counted then and never left."""
        if self.day == day_of(at):
            self.today -= 1
        for window in self.windows:
            if at in window:
                window.remove(at)

    def throttled(self, at: datetime) -> None:
        """The broker said "too many": somebody else uses the account, so leave them room."""
        self.blocked_until = at + _PENALTY
        self.foreign = min(self.foreign + 1, PER_SECOND // 2)
        self.foreign_until = at + _FOREIGN_FOR

    def left(self, at: datetime) -> tuple[int, int, int, int]:
        """Calls left in the second, the minute, the hour and the day."""
        self._forget(at)
        second, minute, hour = (len(window) for window in self.windows)
        today = self.today if self.day == day_of(at) else 0
        is_foreign = self.foreign_until is not None and at < self.foreign_until <= at + _FOREIGN_FOR
        foreign = self.foreign if is_foreign else 0
        return PER_SECOND - foreign - second, PER_MINUTE - minute, PER_HOUR - hour, PER_DAY - today

    def exhausted(self, at: datetime) -> str:
        """The longest window in which no call at all is left: "day", "hour", "minute"; "" where there is none."""
        _, minute, hour, day = self.left(at)
        left = {"day": day, "hour": hour, "minute": minute}
        return next((window for window, calls in left.items() if calls <= 0), "")

    def _is_blocked(self, at: datetime) -> bool:
        return self.blocked_until is not None and at < self.blocked_until <= at + _PENALTY

    def _turn_back(self, at: datetime) -> None:
        """Count calls of a time to come, made before the clock was set back, as if they were made now."""
        for window in self.windows:
            if window and window[-1] > at:
                made = [min(each, at) for each in window]
                window.clear()
                window.extend(made)

    def _forget(self, at: datetime) -> None:
        self._turn_back(at)
        for window, length in zip(self.windows, _LENGTHS, strict=True):
            while window and window[0] <= at - length:
                window.popleft()

    def allows(self, rank: Rank, needed: int, at: datetime) -> bool:
        """Whether a call may go now, given how many cancels and exits might be needed afterwards."""
        if self._is_blocked(at):
            return False
        if self.left(at)[0] <= _RESERVE_SECOND[rank]:
            return False
        return not self.is_short(rank, needed, at)

    def is_short(self, rank: Rank, needed: int, at: datetime) -> bool:
        """Whether the minute, the hour or the day has no more calls left than a call of this rank leaves."""
        _, minute, hour, day = self.left(at)
        return (
            minute <= _kept(rank, min(needed, _MINUTE_RESERVE_AT_MOST), PER_MINUTE)
            or hour <= _kept(rank, needed, PER_HOUR)
            or day <= _kept(rank, needed, PER_DAY)
        )

    def retry_at(self, rank: Rank, needed: int, at: datetime) -> datetime:
        """When to ask again: the second window moves quickly, the others slowly."""
        if self.blocked_until is not None and self._is_blocked(at):
            return self.blocked_until
        if not self.is_short(rank, needed, at):
            return at + timedelta(milliseconds=130)
        return at + timedelta(seconds=1)


def _kept(rank: Rank, needed: int, calls: int) -> int:
    """How many of a window's calls one of this rank leaves, where so many are needed to get out of everything.

    Beyond what is needed, at most half of the window is kept.
    """
    if rank <= Rank.EXIT:
        return 0
    least = needed + 1  # what is asked for may have to be cancelled, too
    return max(least, min(_TIMES_OVER[rank] * least, calls // 2))
