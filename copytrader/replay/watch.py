"""A replay before one's eyes: what the live screen needs of it, and the pace at which it is played."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from copytrader.core.facts import BookRead, Connected, Disconnected, Event, OrderSeen, Source
from copytrader.core.model import LEADER, Desk
from copytrader.core.state import State

_PATIENCE = 0.1
"""Seconds after which whoever watches is asked again, while nothing happens."""


@dataclass(slots=True)
class Account:
    """One account's connection, as far as the recording tells of it."""

    connected: bool = False
    last_frame: datetime | None = None
    last_book: datetime | None = None
    trouble: str = ""


class Theatre:
    """What a live screen shows, fed by events instead of sockets."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.state = State()
        self.now: datetime | None = None
        self._accounts = {name: Account() for name in (LEADER, *(each.name for each in desk.followers))}

    @property
    def accounts(self) -> dict[str, Account]:
        return self._accounts

    def take(self, event: Event, state: State) -> None:
        """Show an event and the state after it."""
        self.state, self.now = state, event.at
        account = self._accounts.get(getattr(event, "account", None) or "")
        if account is None:
            return
        match event:
            case Connected():
                account.connected, account.trouble = True, ""
            case Disconnected(detail=detail):
                account.connected, account.trouble = False, detail
            case BookRead():
                account.last_book = event.at
            case OrderSeen(source=Source.STREAM):
                account.connected, account.last_frame = True, event.at
            case _:
                pass


def said(speed: float, *, on_paper: bool) -> str:
    """Say that it is a replay, and how it is played."""
    pace = "at its own pace" if speed == 1 else f"{speed:,.10g} times as fast"
    return f"replay, {pace}{', on paper' if on_paper else ''}"


class Pace:
    """Waits before each event until its time has come on a clock that runs so many times faster, `now`."""

    def __init__(self, speed: float, idle: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._speed = speed
        self._idle = idle
        self._clock = clock
        self._began: tuple[float, datetime] | None = None
        self._idled = 0.0
        self.now: datetime | None = None

    def wait(self, at: datetime) -> None:
        """Wait until an event of this time is due."""
        if self._began is None:
            self._began = self._clock(), at
            self._idled = self._began[0]
        began, first = self._began
        due = began + (at - first).total_seconds() / self._speed
        if due <= self._clock() and self._clock() - self._idled > _PATIENCE:  # it comes faster than it can be played
            self._ask()
        while (left := due - self._clock()) > 0:
            self.now = max(first, at - timedelta(seconds=left * self._speed))
            self._ask()
            time.sleep(min(left, _PATIENCE))
        self.now = at

    def _ask(self) -> None:
        self._idled = self._clock()
        self._idle()
