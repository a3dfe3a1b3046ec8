"""What is heard of the accounts: frames of their streams, their books, and what a look-up finds.

Streams are the fast path; the order books, read at start, after each reconnect, at a steady pace and whenever
the engine asks, are the truth.  What is heard becomes an event that comes in by the door; what it means is not
decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from copytrader import readings
from copytrader.account import Account
from copytrader.core import capital
from copytrader.core.facts import (
    BookRead,
    Connected,
    Disconnected,
    Event,
    FrameRefused,
    Level,
    NotFound,
    OrderSeen,
    Source,
)
from copytrader.core.model import LEADER, Funds, Order, Position
from copytrader.core.state import State
from copytrader.crash import crash_point
from copytrader.dhan.broker import BrokerError, TokenError
from copytrader.dhan.fields import FrameError
from copytrader.dhan.frames import NotAnOrder, read_frame
from copytrader.dhan.stream import Frame, LoggedIn, Lost
from copytrader.identity import Identity

SILENT_AFTER = timedelta(seconds=5)
LOOK_UP_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
BUFFER_AT_MOST = 5.0
_BOOK_PAUSE = 0.25
_UNREAD_EVERY = 5.0
_TRIES = 4
_RAW_AT_MOST = 4096


class Door(Protocol):
    """Where what is heard comes in.  `ready` is set once all books are read and copying has begun."""

    ready: asyncio.Event

    @property
    def state(self) -> State:
        """What is known now."""

    def handle(self, event: Event) -> object: ...

    def notice(self, level: Level, text: str, account: str | None = None, key: str = "") -> None: ...

    def start(self, work: Awaitable[None]) -> None: ...


class _Book(NamedTuple):
    """An order book as it was read, with a line for each row that could not be."""

    rows: tuple[Order, ...]
    problems: tuple[str, ...]


class Listener:
    """Listens to the accounts, and reads their books."""

    def __init__(
        self,
        accounts: Mapping[str, Account],
        now: Callable[[], datetime],
        door: Door,
        identity: Identity,
        poll_seconds: float,
    ) -> None:
        self._accounts = accounts
        self._now = now
        self._door = door
        self._identity = identity
        self._poll_seconds = poll_seconds
        self._resolving: set[str] = set()

    @property
    def _state(self) -> State:
        return self._door.state

    # --- Look-ups -----------------------------------------------------------------------

    def look_up_unknowns(self) -> None:
        """Begin to look for each order whose placing was not answered, unless that goes on already."""
        for piece in self._state.unknowns():
            if piece.order_id or piece.correlation_id in self._resolving or piece.follower not in self._accounts:
                continue
            self._resolving.add(piece.correlation_id)
            self._door.start(self._resolve(piece.correlation_id, self._accounts[piece.follower]))

    async def _resolve(self, correlation_id: str, account: Account) -> None:
        """Look for an order whose placing was not answered, with growing pauses, until its fate is known."""
        attempt = 0
        try:
            while True:
                await asyncio.sleep(LOOK_UP_PAUSES[min(attempt, len(LOOK_UP_PAUSES) - 1)])
                attempt += 1
                if not self._is_unknown(correlation_id):
                    return
                if account.is_own:
                    await self._look_up(correlation_id, account)
        finally:
            self._resolving.discard(correlation_id)

    def _is_unknown(self, correlation_id: str) -> bool:
        piece = self._state.slices.get(correlation_id)
        return piece is not None and piece.unknown and not piece.order_id

    async def _look_up(self, correlation_id: str, account: Account) -> None:
        """Ask by name and in the book; only when both answer, and neither knows it, is it not found."""
        try:
            found = await account.broker.find(correlation_id)
            crash_point("looked-up")
            if found is not None:
                self._door.handle(OrderSeen(self._now(), account.name, found, Source.LOOKUP))
                return
            book = await self._orders(account)
        except BrokerError as error:
            self._identity.note_trouble(account, error)
            return
        self._feed_rows(account, book.rows)
        is_there = bool(book.problems) or any(row.correlation_id == correlation_id for row in book.rows)
        if self._is_unknown(correlation_id) and not is_there:
            self._door.handle(NotFound(self._now(), account.name, correlation_id))

    # --- Books --------------------------------------------------------------------------

    async def _orders(self, account: Account) -> _Book:
        rows, problems = await account.broker.orders()
        crash_point("book-read", account.name)
        account.last_book = self._now()
        account.trouble = ""
        for problem in problems:
            account.say(f"a row of the order book cannot be read: {problem}")
        return _Book(rows, problems)

    def _feed_rows(
        self,
        account: Account,
        rows: tuple[Order, ...],
        positions: tuple[Position, ...] | None = None,
        funds: Funds | None = None,
    ) -> None:
        """Give the engine what changed since the last reading, if anything did."""
        changed = tuple(
            row for row in rows if account.rows.get(row.order_id) != row or readings.is_odd(self._state, account, row)
        )
        account.rows.update((row.order_id, row) for row in changed)
        first = not readings.is_ready(self._state, account)
        holdings = self._has_holdings(account, positions)
        if positions is not None:
            same = positions == account.positions and holdings == account.holdings
            if same and not changed and not first and readings.agree_with(self._state, account, positions, self._now()):
                account.positions_at, positions = self._now(), None
            else:
                account.positions, account.positions_at, account.holdings = positions, self._now(), holdings
        awaited = first or readings.are_awaited(self._state, account)
        if not (changed or positions is not None or funds is not None or awaited):
            return
        if first and account.name != LEADER:
            self._identity.meet(account.name, rows)
        before = readings.known(self._state, changed)
        self._door.handle(BookRead(self._now(), account.name, changed, positions, funds, holdings))
        if account.name == LEADER and not first:
            self._suspect(account, readings.told_first(self._state, before))

    def _has_holdings(self, account: Account, positions: tuple[Position, ...] | None) -> bool:
        """Whether positions show the shares in the demat account too; where they begin not to, it is said."""
        problem = account.broker.holdings_problem if positions is not None else ""
        if problem and account.holdings:
            text = f"{account.name}: its holdings cannot be read: {problem}; what it has in CNC and MTF counts on"
            self._door.notice(Level.WARNING, text, account.name, f"holdings-{account.name}")
        return not problem

    async def _read(self, account: Account, *, positions: bool) -> bool:
        """Read an account's book, with its positions if wanted; False when that could not be done.

        Positions count only beside all orders that made them, and with all their fills; one that has others counts
        as it is known until they are told, and is read again.  A row that cannot be read in any attempt is of an
        order that we shall not understand later either, and counts as part of the position alone.
        """
        if not account.is_own:
            return False
        try:
            if not positions:
                self._feed_rows(account, (await self._orders(account)).rows)
                return True
            funds = await self._funds(account)
            unreadable = set[tuple[str, ...]]()
            for attempt in range(1, _TRIES + 1):
                before = await self._orders(account)
                held = await account.broker.positions()
                after = await self._orders(account)
                unreadable |= {before.problems, after.problems}
                is_whole = not (before.problems or after.problems) or (attempt == _TRIES and len(unreadable) == 1)
                is_behind = readings.are_behind(self._state, account, after.rows, held, self._now())
                doubted = readings.ahead(self._state, account, after.rows, held, self._now())
                fits = is_whole and not is_behind and readings.are_one(self._state, account, before.rows, after.rows)
                is_ready = readings.is_ready(self._state, account)
                if fits and not doubted:
                    self._feed_rows(account, after.rows, held, funds)
                    return True
                if is_ready:
                    self._feed_rows(account, after.rows, funds=funds)
                    funds = None
                if fits and is_ready and attempt == _TRIES:  # what is known is known with the rows: they came first
                    self._feed_rows(account, after.rows, readings.as_known(self._state, account, held, doubted))
                    return False
                await asyncio.sleep(_BOOK_PAUSE)
            if not readings.is_ready(self._state, account):
                account.say(f"nothing is copied yet: {readings.misfit(self._state, account, after.rows)}")
        except BrokerError as error:
            self._identity.note_trouble(account, error)
        return False

    async def _funds(self, account: Account) -> Funds | None:
        """Read the money of the day until it is known; None where it is, or cannot be had."""
        if not capital.is_wanted(self._state, account.name, self._now()):
            return None
        try:
            return await account.broker.funds()
        except TokenError:
            raise
        except BrokerError as error:
            account.say(f"funds cannot be read: {error}")
            return None

    async def poll(self, account: Account) -> None:
        """Read the book at a steady pace, at once when asked, and soon again when it could not be read."""
        pace = self._poll_seconds or None
        while True:
            soon = account.again or (account.name == LEADER and readings.leader_is_doubted(self._state))
            await wait_for(account.poke, min(pace or _UNREAD_EVERY, _UNREAD_EVERY) if soon else pace)
            account.poke.clear()
            await self.refresh(account, positions=readings.are_wanted(self._state, account, self._now()))
            self._doubt_stream(account)
            await asyncio.sleep(_BOOK_PAUSE)

    async def refresh(self, account: Account, *, positions: bool) -> bool:
        """Read an account's book, and note whether it can be read, and whether it is to be read again soon."""
        done = await self._read(account, positions=positions)
        account.again = not done
        account.unread = not done and (bool(account.trouble) or not readings.is_ready(self._state, account))
        return done

    def _suspect(self, account: Account, order_ids: Iterable[str]) -> None:
        """Note what the book told first: the stream should say it too, within a moment."""
        if account.connected and not account.catching_up:
            for order_id in order_ids:
                account.suspects.setdefault(order_id, self._now())

    def _doubt_stream(self, account: Account) -> None:
        """Find out a stream that is alive but silent: the book knew first, and the frame never came."""
        now = self._now()
        silent = [order_id for order_id, since in account.suspects.items() if now - since >= SILENT_AFTER]
        if not silent:
            return
        account.suspects.clear()
        text = f"the book shows order {silent[0]}, the stream did not"
        account.say(text)
        account.stream.force_reconnect(text)

    # --- Streams ------------------------------------------------------------------------

    async def listen(self, account: Account) -> None:
        async for news in account.stream.listen():
            match news:
                case LoggedIn():
                    account.connected = True
                    self._door.handle(Connected(self._now(), account.name))
                    if self._door.ready.is_set():
                        account.catching_up = True
                        self._door.start(self.catch_up(account))
                case Frame(text=text):
                    account.last_frame = self._now()
                    if account.catching_up:
                        account.buffer.append(text)
                    else:
                        self._take_frame(account, text)
                case Lost(detail=detail):
                    if account.connected:
                        self._door.handle(Disconnected(self._now(), account.name, detail))
                    else:
                        account.say(f"the order stream: {detail}")
                    account.connected = False

    async def catch_up(self, account: Account) -> None:
        """After a reconnect the book comes first, then the frames that arrived meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BUFFER_AT_MOST):
                await self.refresh(account, positions=True)
        if account.again:
            account.poke.set()
        account.catching_up = False
        waiting, account.buffer = account.buffer, []
        for text in waiting:
            self._take_frame(account, text)

    def _take_frame(self, account: Account, text: str) -> None:
        crash_point("frame-received", account.name)
        now = self._now()
        try:
            order = read_frame(text, account.client_id)
        except NotAnOrder:
            return
        except FrameError as error:
            self._door.handle(FrameRefused(now, account.name, str(error), text[:_RAW_AT_MOST]))
            account.poke.set()
            return
        crash_point("frame-read", account.name)
        account.suspects.pop(order.order_id, None)
        self._door.handle(OrderSeen(now, account.name, order, Source.STREAM, text[:_RAW_AT_MOST]))


async def wait_for(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, at most so long.

    `asyncio.wait_for` would do, but before Python 3.12 it swallows a cancellation that comes
    together with the event, and the task that waits could not be stopped.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
