"""The shell around the engine: sockets, timers and the journal, and one door for all that happens.

Everything that happens enters by `Copier.handle`: the engine decides, the journal records the
event and its decisions in one durable commit, and only then do the commands leave, each
in a task of its own whose answer comes in by the same door.  What comes from the accounts
is heard in `listening`, what leaves goes by `sending`; `identity` sees to whose accounts and
orders they are, `instruments` to what the master says of what they are about.

This module decides nothing about orders.  The clock, the brokers and the streams come in
from outside, so that a simulation with a virtual clock runs the same code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from copytrader import reach, readings
from copytrader.account import Account
from copytrader.core import hours
from copytrader.core.books import OPENING
from copytrader.core.engine import recall, step
from copytrader.core.facts import (
    Cancel,
    Command,
    Decision,
    Event,
    Fact,
    Level,
    Modify,
    Noticed,
    Place,
    Started,
    Stopped,
    Ticked,
    Unanswered,
)
from copytrader.core.model import LEADER, Desk, Instrument, Security, day_of
from copytrader.core.state import State
from copytrader.crash import crash_point
from copytrader.dhan.answers import verb_of
from copytrader.failure import Failure
from copytrader.identity import Identity
from copytrader.instruments import Instruments
from copytrader.listening import Listener, wait_for
from copytrader.sending import Send, Sender

_log = logging.getLogger(__name__)

WORDS_EVERY = 0.2
_MIND_EVERY = 2.0
_SETTLED = OPENING + timedelta(seconds=5)
_IDLE_FOR = timedelta(seconds=1)
_COMMITS_TO_MOVE = 50
"""After so many commits the journal is put in order when nothing happens, so that this falls on no order."""
_PATIENCE = 5.0
"""Seconds for which a start waits for a follower, or for the leader's stream."""
_GOODBYE = 5.0


class Journal(Protocol):
    """The durable record; `record` returns only when everything it was given is safe."""

    def record(
        self, event: Event, decisions: Sequence[Decision] = (), cause: int | None = None, *, word: int | None = None
    ) -> tuple[int, ...]: ...

    def record_many(self, steps: Sequence[tuple[Event, Sequence[Decision], int | None]]) -> list[tuple[int, ...]]: ...

    def words(self) -> list[tuple[int, Event]]: ...

    def checkpoint(self) -> bool: ...

    def require_in_place(self) -> None: ...


Watcher = Callable[[Event, Sequence[Decision]], None]


def _nobody(_event: Event, _decisions: Sequence[Decision]) -> None:
    """Watch nothing."""


class Copier:
    """One leader, its followers, and everything between a frame and an order."""

    def __init__(
        self,
        *,
        journal: Journal,
        facts: Iterable[tuple[Fact, datetime]] | State,
        desk: Desk,
        accounts: Mapping[str, Account],
        instrument: Callable[[Security], Instrument | None],
        now: Callable[[], datetime],
        poll_seconds: float = 5.0,
        version: str = "",
        config_digest: str = "",
        dry_run: bool = False,
        adopt: bool = False,
        copying: bool = True,
        unanswered: Sequence[tuple[int, Command]] = (),
    ) -> None:
        self.state = facts if isinstance(facts, State) else recall(facts)
        self.accounts = dict(accounts)
        self.desk = desk
        self.ready = asyncio.Event()
        self.instruments = Instruments(instrument, now, self)
        self.identity = Identity(self.accounts, now, self, adopt=adopt, copying=copying)
        self._journal = journal
        self._now = now
        self._poll_seconds = poll_seconds
        self._version = version
        self._digest = config_digest
        self._dry_run = dry_run
        self._copying = copying
        self._unanswered = unanswered
        self._watch: Watcher = _nobody
        self._sender = Sender(self.accounts, now, self)
        self._listener = Listener(self.accounts, now, self, self.identity, poll_seconds)
        self._rearm = asyncio.Event()
        self._tasks: set[asyncio.Future[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._unrecorded: Exception | None = None
        self._untold: list[tuple[Event, tuple[Decision, ...]]] = []
        self._commits, self._committed_at = 0, now()

    @property
    def is_sending(self) -> bool:
        """Whether a command waits for its turn or for its answer."""
        return self._sender.is_busy

    def watch(self, watcher: Watcher) -> None:
        """Tell somebody of each event and what was decided on it, after it is recorded."""
        self._watch = watcher

    # --- The door ---------------------------------------------------------------------

    def handle(self, event: Event, cause: int | None = None, *, word: int | None = None) -> tuple[Decision, ...]:
        """Take one event in: decide, record durably, then let the commands go.

        Raises JournalError when nothing could be recorded; then nothing is sent either, and
        the copier must not go on, because its state is ahead of its journal.
        """
        return self.handle_all([(event, cause)], word)[0]

    def take(self, happened: Sequence[tuple[Event, int | None]]) -> None:
        """Take in what the sender heard, with one commit for all of it; nothing where the copier is broken."""
        if not self.is_broken:
            self.handle_all(happened)

    def handle_all(
        self, happened: Sequence[tuple[Event, int | None]], word: int | None = None
    ) -> list[tuple[Decision, ...]]:
        """Take events in, in order, with one durable commit for all of them.

        Once that has failed nothing is taken in any more: another task may be at the door already.
        """
        if self._unrecorded is not None:
            raise self._unrecorded
        steps = []
        try:
            for event, cause in happened:
                self.instruments.learn_from(event)
                self.state, decisions = step(self.state, event)
                crash_point("decided", event, *decisions)
                steps.append((event, decisions, cause))
            decided = self._now()
            alone = len(steps) == 1
            seqs = [self._journal.record(*steps[0], word=word)] if alone else self._journal.record_many(steps)
        except Exception as error:
            self._unrecorded = error
            raise
        durable = self._now()
        self._commits, self._committed_at = self._commits + 1, durable
        sends = list[Send]()
        for (event, decisions, _), numbers in zip(steps, seqs, strict=True):
            crash_point("committed", event, *decisions)
            sends += [
                (seq, decision, event.at)
                for seq, decision in zip(numbers[1:], decisions, strict=True)
                if isinstance(decision, Place | Modify | Cancel)
            ]
            self._untold.append((event, decisions))
        if sends:  # the requests leave first
            try:
                self._sender.dispatch(sends, (decided, durable))
            finally:
                self.start(self._follow_up_soon())
        else:
            self._follow_up()
        self._rearm.set()
        return [decisions for _, decisions, _ in steps]

    async def _follow_up_soon(self) -> None:
        self._follow_up()

    def _tell(self) -> None:
        """Tell whoever watches what has happened since it was told last."""
        untold, self._untold = self._untold, []
        for event, decisions in untold:
            self._watch(event, decisions)

    def _follow_up(self) -> None:
        """Tell, and do what the engine asks for beside orders: read a book, look an order up."""
        self._tell()
        for name in sorted(self.state.ask_books):
            if name in self.accounts:
                self.accounts[name].poke.set()
        self.state.ask_books.clear()
        self._listener.look_up_unknowns()

    def notice(self, level: Level, text: str, account: str | None = None, key: str = "") -> None:
        """Record and alert what no order shows."""
        self.handle(Noticed(self._now(), level, text, account, key))

    def ended(self, task: asyncio.Future[None]) -> None:
        """An error that nobody expected ends the copier: better stopped and said than alive and wrong."""
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    @property
    def is_running(self) -> bool:
        """Whether the run has begun, and its start is taken in or about to be."""
        return self._failed is not None

    @property
    def is_broken(self) -> bool:
        return self._failed is not None and self._failed.done()

    def start(self, work: Awaitable[None]) -> None:
        self._keep(work).add_done_callback(self.ended)

    def _keep(self, work: Awaitable[None]) -> asyncio.Future[None]:
        """Begin some work that ends with the copier at the latest."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- Out of reach ---------------------------------------------------------------------

    async def _mind(self) -> None:
        """Watch the day, and whether the accounts can be reached; read them when the market has opened."""
        was_open = self._in_hours(self._now() - _SETTLED)
        while True:
            self._turn_day()
            is_open = self._in_hours(self._now() - _SETTLED)
            if is_open and not was_open:
                for account in self.accounts.values():
                    account.poke.set()
            was_open = is_open
            for account in self.accounts.values():
                now = self._now()
                said = reach.watch(
                    account,
                    now,
                    is_minded=self._in_hours(now) and not self.identity.is_refused(account.name),
                    is_ready=readings.is_ready(self.state, account),
                    is_polled=bool(self._poll_seconds),
                )
                if said is not None:
                    self.notice(said.level, said.text, account.name, said.key)
            self._tidy()
            await asyncio.sleep(_MIND_EVERY)

    def _turn_day(self) -> None:
        """Let a day begin by itself: readings that are held against yesterday's orders are none until it has."""
        now = self._now()
        if self.state.day is not None and self.state.day < day_of(now):
            self.handle(Ticked(now))

    def _tidy(self) -> None:
        if self._commits < _COMMITS_TO_MOVE or self.is_sending or self._now() - self._committed_at < _IDLE_FOR:
            return
        self._commits = 0
        try:
            self._journal.checkpoint()
        except Failure as failure:  # nothing is lost by it; the next commit shows whether the disk still writes
            _log.warning("%s", failure)

    def _in_hours(self, now: datetime) -> bool:
        """Whether the shares' market is open, or that of anything of the day or held."""
        if not self.desk.rules.enforce_hours:
            return True
        segments = {"NSE_EQ", *(key.security.exchange_segment for key in self.state.holdings)}
        return any(hours.is_open(self.desk.calendar, segment, now).is_open for segment in segments)

    # --- Timers and words -----------------------------------------------------------------

    async def _tick(self) -> None:
        """Wake the engine when it asked to be woken."""
        while True:
            wake = self.state.next_wake
            delay = None if wake is None else max((wake - self._now()).total_seconds(), 0)
            await wait_for(self._rearm, delay)
            self._rearm.clear()
            now, wake = self._now(), self.state.next_wake
            if wake is not None and wake <= now:
                self.handle(Ticked(now))

    async def _hear(self) -> None:
        while True:
            self._require_journal()
            self._take_words()
            await asyncio.sleep(WORDS_EVERY)

    def _require_journal(self) -> None:
        """Go on with no journal that has lost its place: there nobody leaves a word, or finds a fact."""
        try:
            self._journal.require_in_place()
        except Failure as failure:
            self._unrecorded = failure
            raise

    def _take_words(self) -> None:
        """Take the operator's words from the journal's inbox: each happens when it is heard.

        On paper none is taken: it is meant for the copying itself, which knows nothing of what a dry run heard.
        """
        if self._dry_run:
            return
        for word, event in self._journal.words():
            self.handle(replace(event, at=self._now()), word=word)

    # --- Life -----------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, beside: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        """Copy until told to stop; raises what makes going on impossible, here or in what runs beside."""
        self._failed = asyncio.get_running_loop().create_future()
        self.handle(Started(self._now(), self._version, self._digest, self.desk, self._dry_run, self._copying))
        for seq, command in self._unanswered:
            verb = verb_of(command)
            detail = "the process ended before an answer came"
            self.handle(Unanswered(self._now(), command.account, command.correlation_id, verb, detail), seq)
        self.instruments.learn_holdings()
        self._take_words()
        for each in beside:
            self.start(each())
        work = asyncio.ensure_future(self._work())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((work, stopped, self._failed), return_when=asyncio.FIRST_COMPLETED)
            for ended in (work, self._failed):
                if ended.done():
                    ended.result()
        except BaseException:
            with suppress(Failure):  # what ended the copying is what is told, whatever else fails now
                await self._end(work, stopped)
            raise
        await self._end(work, stopped)

    async def _work(self) -> None:
        """Start followers first, so that nothing is decided before what they have is known."""
        if self._copying:
            self.start(self._mind())
        for account in self.accounts.values():
            self.start(self._listener.listen(account))
        followers = [account for name, account in self.accounts.items() if name != LEADER]
        await self.wait_a_while([self._begin(account) for account in followers])
        self.start(self._tick())
        self.start(self._hear())
        if LEADER in self.accounts:
            await self._begin_with(self.accounts[LEADER])
            self.start(self._listener.poll(self.accounts[LEADER]))
        self.ready.set()
        await asyncio.Event().wait()

    async def _begin_with(self, leader: Account) -> None:
        """Read the leader's book, once its stream is logged in wherever its orders are to be copied.

        Where the stream does not come about, its orders are found in the book alone until it does.
        """
        leader.catching_up = True
        while not await self._listener.refresh(leader, positions=True):
            await asyncio.sleep(1)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while self._copying and not leader.connected:
                    await asyncio.sleep(0.01)
        while True:
            was_connected = leader.connected
            await self._listener.catch_up(leader)
            if was_connected or not leader.connected:
                return
            leader.catching_up = True

    async def wait_a_while(self, work: Iterable[Awaitable[None]]) -> None:
        """Wait for what is to be done with each account, but not long: who does not answer holds nobody else up."""
        tasks = [self._keep(each) for each in work]
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=_PATIENCE, return_when=asyncio.FIRST_EXCEPTION)
        for task in late:
            task.add_done_callback(self.ended)
        for task in done:
            task.result()

    async def _begin(self, account: Account) -> None:
        """Read a follower's book, again and again until it can be read or is refused; then go on."""
        attempt = 0
        while not await self._listener.refresh(account, positions=True) and not self.identity.is_refused(account.name):
            attempt += 1
            await asyncio.sleep(min(0.5 * attempt, _PATIENCE))
        self.start(self._listener.poll(account))

    async def _end(self, work: asyncio.Task[None], stopped: asyncio.Task[bool]) -> None:
        """Stop listening, wait a little for answers on their way, and write down that we stopped."""
        ending: tuple[asyncio.Future[Any], ...] = (work, stopped, *self._tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._sender.wait(_GOODBYE)
        await self._sender.end()
        if self.is_broken:
            self._tell()
        else:
            self.handle(Stopped(self._now()))
