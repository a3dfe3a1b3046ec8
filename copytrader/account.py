"""One account as the copier holds it: its connections, what was last read there, and how fast it may be called."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from copytrader.core.budget import PER_SECOND
from copytrader.core.copies import Key
from copytrader.core.facts import Cancel, Command, Place, Role
from copytrader.core.model import Funds, Order, Position, Side
from copytrader.dhan.answers import Outcome
from copytrader.dhan.bodies import Profile
from copytrader.dhan.stream import StreamEvent

_log = logging.getLogger(__name__)

_ANSWERED_COUNTS, _UNANSWERED_COUNTS = timedelta(seconds=1.02), timedelta(seconds=2)


class Broker(Protocol):
    """One account: commands in, facts out; a reading that fails raises `BrokerError`.

    A command may leave before `send` returns; what is returned waits for its outcome.
    `holdings_problem` says why the last positions came without the shares in the demat account, "" if they did not.
    """

    @property
    def holdings_problem(self) -> str: ...

    def send(self, command: Command) -> Awaitable[Outcome]: ...

    async def orders(self) -> tuple[tuple[Order, ...], tuple[str, ...]]: ...

    async def positions(self) -> tuple[Position, ...]: ...

    async def funds(self) -> Funds: ...

    async def find(self, correlation_id: str) -> Order | None: ...

    async def profile(self) -> Profile: ...


class Stream(Protocol):
    def listen(self) -> AsyncIterator[StreamEvent]: ...

    def force_reconnect(self, reason: str) -> None: ...


class Pace:
    """Holds a command back while the broker may still count ten others in its current second.

    The engine spaces commands by when it decides them.  A machine that stood still sends late
    ones close together, so here a command counts until a second after its answer: nobody
    knows when before that it arrived.
    """

    def __init__(self) -> None:
        self._counts_until: dict[int, datetime] = {}

    def wait(self, command: Command, now: datetime) -> float:
        """Return in how many seconds there may be room for it, 0 if there is."""
        longest = now + _UNANSWERED_COUNTS  # what counts beyond that was sent before the clock was set back
        self._counts_until = {seq: until for seq, until in self._counts_until.items() if now < until <= longest}
        room = PER_SECOND - (0 if isinstance(command, Cancel) else 1 + _is_entry(command))
        if len(self._counts_until) < room:
            return 0.0
        return max((min(self._counts_until.values()) - now).total_seconds(), 0.001)

    def sends(self, seq: int, now: datetime) -> None:
        self._counts_until[seq] = now + _UNANSWERED_COUNTS

    def answered(self, seq: int, now: datetime) -> None:
        if seq in self._counts_until:
            self._counts_until[seq] = min(self._counts_until[seq], now + _ANSWERED_COUNTS)


def _is_entry(command: Command) -> bool:
    return isinstance(command, Place) and command.role is Role.ENTRY


@dataclass(slots=True)
class Account:
    """One account's connections, and what was last read there.

    Its token is `unchecked` while the broker has not said yet whose it is.  It is `unread` while its book cannot be
    read, and is to be read `again` soon also where its parts did not fit together.  Its positions are `behind_since`
    they first lacked a fill that the book has; those of a holding, on a side, are `ahead_since` they first had one
    that the book lacks, and `unexplained` is what was taken for true of that in the end.
    """

    name: str
    client_id: str
    broker: Broker
    stream: Stream
    rows: dict[str, Order] = field(default_factory=dict)
    positions: tuple[Position, ...] | None = None
    positions_at: datetime | None = None
    behind_since: datetime | None = None
    ahead_since: Mapping[tuple[Key, Side], datetime] = field(default_factory=dict)
    unexplained: Mapping[tuple[Key, Side], int] = field(default_factory=dict)
    holdings: bool = True
    funds: Funds | None = None
    profile: Profile | None = None
    connected: bool = False
    last_frame: datetime | None = None
    last_book: datetime | None = None
    catching_up: bool = False
    buffer: list[str] = field(default_factory=list)
    suspects: dict[str, datetime] = field(default_factory=dict)
    poke: asyncio.Event = field(default_factory=asyncio.Event)
    trouble: str = ""
    unchecked: bool = False
    unread: bool = False
    again: bool = False
    lost_since: datetime | None = None
    lost_said: bool = False
    pace: Pace = field(default_factory=Pace)

    @property
    def is_own(self) -> bool:
        """Whether what is read with its token may be taken for this account's."""
        return not self.unchecked and (self.profile is None or self.profile.client_id == self.client_id)

    def say(self, text: str) -> None:
        """Warn of what troubles it, once until that changes."""
        if self.trouble != text:
            self.trouble = text
            _log.warning("%s: %s", self.name, text)
