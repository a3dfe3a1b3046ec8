"""The shell around the engine: sockets, timers and the journal, and one door for all that happens.

Everything that happens enters by `Copier.handle`: the engine decides, the journal records the
event and its decisions in one durable commit, and only then do the commands leave, each
in a task of its own whose answer comes in by the same door.  Streams are the fast
path; the order books, read at start, after each reconnect, at a steady pace and whenever
the engine asks, are the truth.

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
from typing import NamedTuple, Protocol

from copytrader import reach, readings
from copytrader.account import Account
from copytrader.core import hours
from copytrader.core.engine import recall, step
from copytrader.core.facts import (
    Adopted,
    Alert,
    BookRead,
    Cancel,
    Command,
    Connected,
    Decision,
    Disconnected,
    Event,
    Fact,
    FrameRefused,
    InstrumentRead,
    Level,
    Modify,
    NotFound,
    Noticed,
    OrderSeen,
    Place,
    Source,
    Started,
    Stopped,
    Ticked,
    TokenRefused,
    TokenRenewed,
    Unanswered,
)
from copytrader.core.model import LEADER, Desk, Funds, Instrument, Order, Position, Security
from copytrader.core.state import State
from copytrader.crash import crash_point
from copytrader.dhan.answers import verb_of
from copytrader.dhan.bodies import Profile
from copytrader.dhan.broker import BrokerError, TokenError
from copytrader.dhan.fields import FrameError
from copytrader.dhan.frames import NotAnOrder, read_frame
from copytrader.dhan.stream import Frame, LoggedIn, Lost
from copytrader.failure import ExitCode, Failure
from copytrader.sending import Send, Sender

_log = logging.getLogger(__name__)

SILENT_AFTER = timedelta(seconds=5)
LOOK_UP_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
WORDS_EVERY = 0.2
BUFFER_AT_MOST = 5.0
_BOOK_PAUSE = 0.25
_MIND_EVERY = 2.0
_IDLE_FOR = timedelta(seconds=1)
_COMMITS_TO_MOVE = 50
"""After so many commits the journal is put in order when nothing happens, so that this falls on no order."""
_UNREAD_EVERY = 5.0
_TRIES = 4
_GOODBYE = 5.0
_RAW_AT_MOST = 4096


class Journal(Protocol):
    """The durable record; `record` returns only when everything it was given is safe."""

    def record(
        self, event: Event, decisions: Sequence[Decision] = (), cause: int | None = None, *, word: int | None = None
    ) -> tuple[int, ...]: ...

    def record_many(self, steps: Sequence[tuple[Event, Sequence[Decision], int | None]]) -> list[tuple[int, ...]]: ...

    def words(self) -> list[tuple[int, Event]]: ...

    def checkpoint(self) -> bool: ...


class _Book(NamedTuple):
    """An order book as it was read, with a line for each row that could not be."""

    rows: tuple[Order, ...]
    problems: tuple[str, ...]


Watcher = Callable[[Event, Sequence[Decision]], None]


def _nobody(_event: Event, _decisions: Sequence[Decision]) -> None:
    """Watch nothing."""


class Copier:
    """One leader, its followers, and everything between a frame and an order."""

    def __init__(
        self,
        *,
        journal: Journal,
        facts: Sequence[tuple[Fact, datetime]] | State,
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
        self._journal = journal
        self._instrument = instrument
        self._now = now
        self._poll_seconds = poll_seconds
        self._version = version
        self._digest = config_digest
        self._dry_run = dry_run
        self._adopt = adopt
        self._copying = copying
        self._unanswered = unanswered
        self._watch: Watcher = _nobody
        self._sender = Sender(self.accounts, now, self)
        self._rearm = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resolving: set[str] = set()
        self._learned: set[Security] = set()
        self._failed: asyncio.Future[None] | None = None
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
        return self._take([(event, cause)], word)[0]

    def take(self, happened: Sequence[tuple[Event, int | None]]) -> None:
        """Take in what the sender heard, with one commit for all of it; nothing where the copier is broken."""
        if not self.is_broken:
            self._take(happened)

    def _take(
        self, happened: Sequence[tuple[Event, int | None]], word: int | None = None
    ) -> list[tuple[Decision, ...]]:
        """Take events in, in order, with one durable commit for all of them."""
        steps = []
        for event, cause in happened:
            self._learn_instruments(event)
            self.state, decisions = step(self.state, event)
            crash_point("decided", event, *decisions)
            steps.append((event, decisions, cause))
        decided = self._now()
        alone = len(steps) == 1
        seqs = [self._journal.record(*steps[0], word=word)] if alone else self._journal.record_many(steps)
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

    def _learn_instruments(self, event: Event) -> None:
        """Record the master's row for each instrument that an event brings up for the first time in this process."""
        for order in _orders_of(event):
            security = order.ticket.security
            if security not in self._learned:
                self._learn(security, event.at)

    def _learn(self, security: Security, at: datetime) -> None:
        found = self._instrument(security)
        if found is None:
            return
        self._learned.add(security)
        if found != self.state.instruments.get(security):
            self.handle(InstrumentRead(at, found))

    def _learn_holdings(self) -> None:
        """Read the instruments of copied positions anew, and alert where one's sizes are not what they were."""
        for key, holding in list(self.state.holdings.items()):
            held = {name: share.copied for name, share in holding.shares.items() if share.copied}
            before = self.state.instruments.get(key.security)
            if not held or before is None:
                continue
            self._learn(key.security, self._now())
            who = ", ".join(f"{name} holds {copied:+}" for name, copied in held.items())
            for what, old, new in _resized(before, self.state.instruments[key.security]):
                text = f"{before.label}: the {what} was {old} and is {new}; {who} from copying"
                self.notice(Level.WARNING, text, key=f"resized-{before.symbol}-{what}")

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
        for piece in self.state.unknowns():
            if piece.order_id or piece.correlation_id in self._resolving or piece.follower not in self.accounts:
                continue
            self._resolving.add(piece.correlation_id)
            self.start(self._resolve(piece.correlation_id, self.accounts[piece.follower]))

    def notice(self, level: Level, text: str, account: str | None = None, key: str = "") -> None:
        """Record and alert what no order shows."""
        self.handle(Noticed(self._now(), level, text, account, key))

    def ended(self, task: asyncio.Task[None]) -> None:
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
    def is_broken(self) -> bool:
        return self._failed is not None and self._failed.done()

    def start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self.ended)

    async def _resolve(self, correlation_id: str, account: Account) -> None:
        """Look for an order whose placing was not answered, with growing pauses, until its fate is known."""
        attempt = 0
        try:
            while True:
                await asyncio.sleep(LOOK_UP_PAUSES[min(attempt, len(LOOK_UP_PAUSES) - 1)])
                attempt += 1
                if not self._is_unknown(correlation_id):
                    return
                await self._look_up(correlation_id, account)
        finally:
            self._resolving.discard(correlation_id)

    def _is_unknown(self, correlation_id: str) -> bool:
        piece = self.state.slices.get(correlation_id)
        return piece is not None and piece.unknown and not piece.order_id

    async def _look_up(self, correlation_id: str, account: Account) -> None:
        """Ask by name and in the book; only when both answer, and neither knows it, is it not found."""
        try:
            found = await account.broker.find(correlation_id)
            crash_point("looked-up")
            if found is not None:
                self.handle(OrderSeen(self._now(), account.name, found, Source.LOOKUP))
                return
            book = await self._orders(account)
        except BrokerError as error:
            self._note_trouble(account, error)
            return
        self._feed_rows(account, book.rows)
        is_there = bool(book.problems) or any(row.correlation_id == correlation_id for row in book.rows)
        if self._is_unknown(correlation_id) and not is_there:
            self.handle(NotFound(self._now(), account.name, correlation_id))

    # --- Books --------------------------------------------------------------------------

    async def _orders(self, account: Account) -> _Book:
        rows, problems = await account.broker.orders()
        crash_point("book-read", account.name)
        account.last_book = self._now()
        account.trouble = ""
        account.unreadable = account.unreadable or bool(problems)
        for problem in problems:
            self._say(account, f"a row of the order book cannot be read: {problem}")
        return _Book(rows, problems)

    def _say(self, account: Account, text: str) -> None:
        if account.trouble != text:
            account.trouble = text
            _log.warning("%s: %s", account.name, text)

    def _note_trouble(self, account: Account, error: BrokerError) -> None:
        if isinstance(error, TokenError) and not self.is_refused(account.name):
            self.handle(TokenRefused(self._now(), account.name, error.refusal, str(error)))
        self._say(account, f"cannot be read: {error}")

    def _feed_rows(
        self,
        account: Account,
        rows: tuple[Order, ...],
        positions: tuple[Position, ...] | None = None,
        funds: Funds | None = None,
    ) -> None:
        """Give the engine what changed since the last reading, if anything did."""
        changed = tuple(
            row for row in rows if account.rows.get(row.order_id) != row or readings.is_odd(self.state, account, row)
        )
        account.rows.update((row.order_id, row) for row in changed)
        first = not readings.is_ready(self.state, account)
        holdings = self._has_holdings(account, positions)
        if positions is not None:
            same = positions == account.positions and holdings == account.holdings
            if same and not changed and not first and readings.agree_with(self.state, account, positions):
                account.positions_at, positions = self._now(), None
            else:
                account.positions, account.positions_at, account.holdings = positions, self._now(), holdings
        awaited = first or readings.are_awaited(self.state, account)
        if not (changed or positions is not None or funds is not None or awaited):
            return
        before = readings.known(self.state, changed)
        self.handle(BookRead(self._now(), account.name, changed, positions, funds, holdings))
        if account.name == LEADER and not first:
            self._suspect(account, readings.told_first(self.state, before))

    def _has_holdings(self, account: Account, positions: tuple[Position, ...] | None) -> bool:
        """Whether positions show the shares in the demat account too; where they begin not to, it is said."""
        problem = account.broker.holdings_problem if positions is not None else ""
        if problem and account.holdings:
            text = f"{account.name}: its holdings cannot be read: {problem}; what it has in CNC and MTF counts on"
            self.notice(Level.WARNING, text, account.name, f"holdings-{account.name}")
        return not problem

    async def _read(self, account: Account, *, positions: bool) -> bool:
        """Read an account's book, with its positions if wanted; False when that could not be done.

        Positions count only beside all orders that made them, and with all their fills.  A row that cannot be
        read in any attempt is of an order that we shall not understand later either, and counts as part of the
        position alone.
        """
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
                is_behind = readings.are_behind(self.state, account, after.rows, held, self._now())
                if is_whole and not is_behind and readings.are_one(self.state, account, before.rows, after.rows):
                    self._feed_rows(account, after.rows, held, funds)
                    return True
                await asyncio.sleep(_BOOK_PAUSE)
            if readings.is_ready(self.state, account):
                self._feed_rows(account, after.rows)
            else:
                self._say(account, f"nothing is copied yet: {readings.misfit(self.state, account, after.rows)}")
        except BrokerError as error:
            self._note_trouble(account, error)
        return False

    async def _funds(self, account: Account) -> Funds | None:
        """Read the day's capital once; None where it cannot be had."""
        known = self.state.leader_funds
        if account.name != LEADER:
            follower = self.state.accounts.get(account.name)
            known = follower.funds if follower is not None else None
        if known is not None:
            return None
        try:
            return await account.broker.funds()
        except TokenError:
            raise
        except BrokerError as error:
            self._say(account, f"funds cannot be read: {error}")
            return None

    async def _poll(self, account: Account) -> None:
        """Read the book at a steady pace, at once when asked, and soon again when it could not be read."""
        pace = self._poll_seconds or None
        while True:
            soon = account.again or (account.name == LEADER and readings.leader_is_doubted(self.state))
            await _wait(account.poke, min(pace or _UNREAD_EVERY, _UNREAD_EVERY) if soon else pace)
            account.poke.clear()
            await self._refresh(account, positions=readings.are_wanted(self.state, account, self._now()))
            self._doubt_stream(account)
            await asyncio.sleep(_BOOK_PAUSE)

    async def _refresh(self, account: Account, *, positions: bool) -> bool:
        """Read an account's book, and note whether it can be read, and whether it is to be read again soon."""
        done = await self._read(account, positions=positions)
        account.again = not done
        account.unread = not done and (bool(account.trouble) or not readings.is_ready(self.state, account))
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
        self._say(account, text)
        account.stream.force_reconnect(text)

    # --- Streams ------------------------------------------------------------------------

    async def _listen(self, account: Account) -> None:
        async for news in account.stream.listen():
            match news:
                case LoggedIn():
                    account.connected = True
                    self.handle(Connected(self._now(), account.name))
                    if self.ready.is_set():
                        account.catching_up = True
                        self.start(self._catch_up(account))
                case Frame(text=text):
                    account.last_frame = self._now()
                    if account.catching_up:
                        account.buffer.append(text)
                    else:
                        self._take_frame(account, text)
                case Lost(detail=detail):
                    if account.connected:
                        self.handle(Disconnected(self._now(), account.name, detail))
                    else:
                        self._say(account, f"the order stream: {detail}")
                    account.connected = False

    async def _catch_up(self, account: Account) -> None:
        """After a reconnect the book comes first, then the frames that arrived meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BUFFER_AT_MOST):
                await self._refresh(account, positions=True)
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
            self.handle(FrameRefused(now, account.name, str(error), text[:_RAW_AT_MOST]))
            account.unreadable = True
            account.poke.set()
            return
        crash_point("frame-read", account.name)
        account.suspects.pop(order.order_id, None)
        self.handle(OrderSeen(now, account.name, order, Source.STREAM, text[:_RAW_AT_MOST]))

    # --- Out of reach ---------------------------------------------------------------------

    async def _mind(self) -> None:
        """Watch whether the accounts can be reached, and say so."""
        while True:
            for account in self.accounts.values():
                now = self._now()
                said = reach.watch(
                    account,
                    now,
                    is_minded=self._in_hours(now) and not self.is_refused(account.name),
                    is_ready=readings.is_ready(self.state, account),
                    is_polled=bool(self._poll_seconds),
                )
                if said is not None:
                    self.notice(said.level, said.text, account.name, said.key)
            self._tidy()
            await asyncio.sleep(_MIND_EVERY)

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
            await _wait(self._rearm, delay)
            self._rearm.clear()
            now, wake = self._now(), self.state.next_wake
            if wake is not None and wake <= now:
                self.handle(Ticked(now))

    async def _hear(self) -> None:
        while True:
            self._take_words()
            await asyncio.sleep(WORDS_EVERY)

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
        self._learn_holdings()
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
        finally:
            await self._end(work, stopped)

    async def _work(self) -> None:
        """Start followers first, so that nothing is decided before what they have is known."""
        if self._copying:
            self.start(self._mind())
        for account in self.accounts.values():
            self.start(self._listen(account))
        followers = [account for name, account in self.accounts.items() if name != LEADER]
        await asyncio.gather(*(self._begin(account) for account in followers))
        self._adopt_strays()
        if LEADER in self.accounts:
            await self._begin_with(self.accounts[LEADER])
        for account in self.accounts.values():
            self.start(self._poll(account))
        self.start(self._tick())
        self.start(self._hear())
        self.ready.set()
        await asyncio.Event().wait()

    async def _begin_with(self, leader: Account) -> None:
        """Read the leader's book, once its stream is logged in wherever its orders are to be copied."""
        leader.catching_up = True
        while not await self._refresh(leader, positions=True):
            await asyncio.sleep(1)
        while self._copying and not leader.connected:
            await asyncio.sleep(0.01)
        await self._catch_up(leader)

    async def _begin(self, account: Account) -> None:
        """Read a follower's book; one that cannot be read is tried again later, and does not hold up the others."""
        for attempt in range(_TRIES):
            if await self._refresh(account, positions=True):
                return
            known = self.state.accounts.get(account.name)
            if known is not None and known.blocked is not None:
                return
            await asyncio.sleep(0.5 * (attempt + 1))

    def _adopt_strays(self) -> None:
        """Orders with our prefix that the journal does not know: another copier, or a lost journal."""
        for name, account in self.accounts.items():
            known = self.state.accounts.get(name)
            if known is None or not known.strays:
                continue
            strays = tuple(row for row in account.rows.values() if row.order_id in known.strays)
            if not self._adopt:
                listed = ", ".join(row.order_id for row in strays)
                raise Failure(
                    f"{name} has orders of a copier that this journal does not know: {listed}",
                    "another copier may serve this account, or the journal was lost: "
                    "make sure that no other runs, then start with --adopt",
                    code=ExitCode.SAFETY,
                )
            self.handle(Adopted(self._now(), name, strays))

    async def check_tokens(self) -> None:
        """Hold each token against the account it should belong to; raise for the leader's, block a follower's."""
        await asyncio.gather(*(self._check_token(account) for account in self.accounts.values()))

    async def _check_token(self, account: Account) -> None:
        try:
            profile = await account.broker.profile()
        except TokenError as error:
            if account.name == LEADER:
                raise Failure(
                    f"leader.access_token is not accepted: {error}",
                    "get today's with: copytrader login leader",
                    code=ExitCode.TOKEN,
                ) from None
            self._note_trouble(account, error)
            return
        except BrokerError as error:
            self._say(account, f"the token cannot be checked: {error}")
            return
        account.profile = profile
        if profile.client_id != account.client_id:
            where = "leader" if account.name == LEADER else f"followers.{account.name}"
            raise Failure(
                f"{where}.access_token belongs to client {profile.client_id}, not to {account.client_id}",
                code=ExitCode.TOKEN,
            )
        # Before the start nothing may be planned, and the start forgets refusals anyway.
        if self._failed is not None and self.is_refused(account.name):
            self.handle(TokenRenewed(self._now(), account.name))

    def is_refused(self, name: str) -> bool:
        """Whether the broker refused the account's token or address, and nothing better is known since."""
        if name == LEADER:
            return self.state.leader_blocked
        known = self.state.accounts.get(name)
        return known is not None and known.blocked is not None

    async def recheck(self, name: str) -> None:
        """Ask the broker again what it thinks of an account's token."""
        account = self.accounts[name]
        try:
            account.profile = await account.broker.profile()
        except BrokerError as error:
            self._note_trouble(account, error)

    def renewed(self, name: str, profile: Profile) -> None:
        """Go on with an account's new token, which was checked: read its book, log its stream in again."""
        account = self.accounts[name]
        account.profile = profile
        self.handle(TokenRenewed(self._now(), name))
        account.stream.force_reconnect("a new access token")
        account.poke.set()

    def mended(self, name: str) -> None:
        """Go on with an account that the broker refused and now accepts as it is."""
        self.handle(TokenRenewed(self._now(), name))
        self.accounts[name].poke.set()

    async def _end(self, work: asyncio.Task[None], stopped: asyncio.Task[bool]) -> None:
        """Stop listening, wait a little for answers on their way, and write down that we stopped."""
        for task in (work, stopped, *self._tasks):
            task.cancel()
        await asyncio.gather(work, stopped, *self._tasks, return_exceptions=True)
        await self._sender.wait(_GOODBYE)
        await self._sender.end()
        if self.is_broken:
            self._tell()
        else:
            self.handle(Stopped(self._now()))


def _resized(before: Instrument, now: Instrument) -> list[tuple[str, object, object]]:
    """What of an instrument's sizes is not what it was."""
    sizes = (
        ("lot size", before.lot_size, now.lot_size),
        ("tick", before.tick_size, now.tick_size),
        ("freeze quantity", before.freeze_quantity, now.freeze_quantity),
    )
    return [(what, old, new) for what, old, new in sizes if old != new]


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, at most so long.

    `asyncio.wait_for` would do, but before Python 3.12 it swallows a cancellation that comes
    together with the event, and the task that waits could not be stopped.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _orders_of(event: Event) -> Sequence[Order]:
    if isinstance(event, OrderSeen):
        return (event.order,)
    return event.orders if isinstance(event, BookRead | Adopted) else ()


def alerts(decisions: Sequence[Decision], least: Level = Level.INFO) -> list[Alert]:
    """Pick the alerts of at least a level."""
    order = list(Level)
    return [each for each in decisions if isinstance(each, Alert) and order.index(each.level) >= order.index(least)]
