"""Reading all accounts' books, and comparing them with what copying should have made of them.

A picture needs no lock and records nothing: the journal is read beside whoever writes it, and the books
are folded into a copy of the state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from copytrader import errand, identity, session
from copytrader.account import Account
from copytrader.config import Config
from copytrader.core.books import READ_APART
from copytrader.core.model import LEADER, Calendar, Instrument, Order, Security
from copytrader.core.reconcile import comparing, planning
from copytrader.core.reconcile.picture import FindingKind, Picture, Reading, Scope
from copytrader.core.reconcile.planning import Step, Wishes
from copytrader.core.state import State
from copytrader.dhan.broker import BrokerError, TokenError
from copytrader.dhan.master import InstrumentStore
from copytrader.errand import Onlooker, Say
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal
from copytrader.readings import AHEAD_AT_START, MAY_BE_BEHIND, lack_a_fill, unexplained

_GIVEN_UP_AFTER = timedelta(seconds=12)
_BOOK_PAUSE = 0.5
_TRIES = 4
_NEAR = 3


@dataclass(frozen=True, slots=True)
class Report:
    """A picture, its plan, and the exit code they make; `done` are the results of a plan carried out."""

    picture: Picture
    plan: tuple[Step, ...]
    code: ExitCode
    done: tuple[Done, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one order of a plan."""

    follower: str
    symbol: str
    side: str
    quantity: int
    filled_quantity: int
    order_id: str
    outcome: str
    expiry: date | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asked for.  `ask` is shown the plan, and raises where it is not agreed to."""

    scope: Scope = field(default_factory=Scope)
    wishes: Wishes = field(default_factory=Wishes)
    adopt: bool = False
    wait: float = 30.0
    ask: Callable[[Sequence[Step]], None] = lambda _steps: None
    ask_adopt: Callable[[Sequence[str]], None] = lambda _orders: None


class Looker:
    """Connections to all accounts, and the journal beside them: takes a picture whenever asked."""

    def __init__(
        self,
        config: Config,
        accounts: Mapping[str, Account],
        missing: Mapping[str, str],
        store: InstrumentStore,
        market: Calendar,
    ) -> None:
        self._config = config
        self._accounts = accounts
        self._missing = missing
        self._store = store
        self._market = market
        self._onlooker = Onlooker(config.journal)
        self._rows: dict[Security, Instrument] = {}

    @property
    def onlooker(self) -> Onlooker:
        return self._onlooker

    @property
    def market(self) -> Calendar:
        return self._market

    async def look(self, request: Request, state: State | None = None) -> Report:
        """Read every book and compare; `state` is what is known where that is not what the journal tells."""
        if state is None:
            state, readings = await self._read_beside_the_journal(request.scope)
        else:
            readings = await self._read_all(request.scope)
        at = session.now()
        spoken_of = comparing.securities(state, readings.values())
        for security in spoken_of - self._rows.keys():
            row = self._store.get(security)
            if row is not None:
                self._rows[security] = row
        if request.scope.symbol:
            known = state.instruments | self._rows
            self._refuse_unknown(request.scope, [(each, known.get(each)) for each in spoken_of])
        desk = self._config.desk(self._market)
        fresh = comparing.with_books(state, desk, readings.values(), self._rows, at)
        if comparing.awaits_reading(fresh):
            readings[LEADER] = await self._read_again()
            at = session.now()
            comparing.fold(fresh, readings[LEADER], at)
        seen = comparing.picture(fresh, readings, at, request.scope, self._onlooker.reasons)
        steps = planning.plan(seen, request.wishes)
        return Report(seen, steps, code_of(seen))

    def _refuse_unknown(self, scope: Scope, spoken_of: Sequence[tuple[Security, Instrument | None]]) -> None:
        """Raise for a name that is none: it would make everything look in sync."""
        named = Scope(symbol=scope.symbol)
        if any(named.has("", *each) for each in spoken_of):
            return
        near = self._store.search(scope.symbol, _NEAR)
        if any(named.has("", each.security, each) for each in (*near, *self._store.find(scope.symbol))):
            return
        hint = f"; near it: {', '.join(each.symbol for each in near)}" if near else ""
        raise Failure(
            f"--symbol {scope.symbol}: the instrument master has no such symbol, security id or underlying{hint}",
            code=ExitCode.USAGE,
        )

    async def _read_beside_the_journal(self, scope: Scope) -> tuple[State, dict[str, Reading]]:
        """Read the journal and every book; once more where a book has an order that the journal told of a moment later.

        `follow` places while the books are read: what is in them and not in the journal need not be another copier's.
        """
        for _ in range(_TRIES):
            state = self._onlooker.look()
            readings = await self._read_all(scope)
            unknown = _names(readings) - state.slices.keys()
            if not unknown or unknown.isdisjoint(self._onlooker.look().slices):
                break
        return state, readings

    async def _read_all(self, scope: Scope) -> dict[str, Reading]:
        names = [LEADER, *(name for name in self._config.enabled if not scope.followers or name in scope.followers)]
        found = await asyncio.gather(*(self._read(name) for name in names))
        return {reading.account: reading for reading in found}

    async def _read_again(self) -> Reading:
        """Read the leader's book a second time, a while later: one reading may be behind the fills."""
        await asyncio.sleep(READ_APART.total_seconds() + _BOOK_PAUSE)
        return await self._read(LEADER)

    async def _read(self, name: str) -> Reading:
        if name in self._missing:
            return Reading(name, problem=self._missing[name], refused=True)
        try:
            return await read_book(self._accounts[name])
        except TokenError as error:
            return Reading(name, problem=str(error), refused=True)
        except BrokerError as error:
            return Reading(name, problem=str(error))


async def read_book(account: Account, now: Callable[[], datetime] = session.now) -> Reading:
    """Read orders and positions that belong together: nothing was filled between the readings.

    Either may show a fill a moment before the other does, which is waited for.  What the book does not explain even
    then is no fill of today, and what positions lack even then is not held any more.
    """
    funds = await account.broker.funds()
    began = now()
    while (waited := now() - began) < _GIVEN_UP_AFTER:
        before, _ = await account.broker.orders()
        positions = await account.broker.positions()
        orders, problems = await account.broker.orders()
        if problems:
            return Reading(account.name, problem=f"a row of its order book cannot be read: {problems[0]}")
        is_ahead = waited < AHEAD_AT_START and bool(unexplained(orders, positions))
        is_behind = waited < MAY_BE_BEHIND and lack_a_fill(orders, positions, now())
        if _filled(before) == _filled(orders) and not (is_ahead or is_behind):
            complete = not account.broker.holdings_problem
            return Reading(account.name, orders, positions, funds, holdings=complete)
        await asyncio.sleep(_BOOK_PAUSE)
    return Reading(account.name, problem="its orders fill faster than its positions can be read")


def _names(readings: Mapping[str, Reading]) -> set[str]:
    """The names of ours that orders in the books bear."""
    return {order.correlation_id for each in readings.values() for order in each.orders if order.is_ours}


def _filled(orders: Sequence[Order]) -> dict[str, int]:
    return {order.order_id: order.filled_quantity for order in orders if order.filled_quantity}


def code_of(seen: Picture) -> ExitCode:
    """What the picture means for whoever asked."""
    if any(reading.refused for reading in seen.problems):
        return ExitCode.TOKEN
    if any(finding.kind is FindingKind.UNKNOWN_OUTCOME for finding in seen.findings):
        return ExitCode.UNKNOWN_OUTCOME
    return ExitCode.FINE if seen.in_sync else ExitCode.FINDINGS


@asynccontextmanager
async def connected(config: Config, say: Say) -> AsyncIterator[Looker]:
    """Connect to every account that has a token; one that has none is unknown."""
    _warn_of_damage(config, say)
    found, missing = errand.tokens_of(config, (LEADER, *config.enabled))
    with closing(InstrumentStore(config.instruments_path)) as store:
        market = session.calendar_of(config)
        await session.sync_instruments(config, store, say)
        async with session.connected(config, found) as accounts:
            await identity.check_whose(accounts.values())
            looker = Looker(config, accounts, missing, store, market)
            session.refuse_renamed(looker.onlooker.look(), config.desk(market))
            yield looker


def _warn_of_damage(config: Config, say: Say) -> None:
    """Say that the journal is not as it was written: what is read from it may be wrong, and nothing is sent on it."""
    if not config.journal.exists():
        return
    with Journal.open(config.journal, read_only=True) as journal:
        findings = journal.verify()
    if findings:
        where = "" if findings[0].seq is None else f"fact {findings[0].seq}: "
        say(
            f"{config.journal}: {where}{findings[0].what}; what follows may be wrong: "
            "look at `copytrader audit verify`, restore a backup"
        )
