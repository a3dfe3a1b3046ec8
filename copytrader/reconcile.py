"""Reading all accounts' books, and carrying out a plan: the shell around `core.reconcile`.

A picture needs no lock and records nothing: the journal is read beside whoever writes it, and the books
are folded into a copy of the state.  A plan is carried out by the one process that may
send: by `follow` where it runs, by a short session of our own where it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import date

from copytrader import errand, identity, session
from copytrader.account import Account
from copytrader.config import Config
from copytrader.core import fixing
from copytrader.core.books import READ_APART
from copytrader.core.facts import Adopted, FixOrdered
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
from copytrader.lock import LockHeld
from copytrader.readings import unexplained

UNKNOWN_SETTLES_WITHIN = 135.0
"""An order whose placing was not answered is known, or given up as absent, by then."""
HEARD_WITHIN = 10.0
_TRIES = 4
_BOOK_PAUSE = 0.25
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


# --- Looking ---------------------------------------------------------------------------------


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
            state = self._onlooker.look()
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
            return await _read_book(self._accounts[name])
        except TokenError as error:
            return Reading(name, problem=str(error), refused=True)
        except BrokerError as error:
            return Reading(name, problem=str(error))


async def _read_book(account: Account) -> Reading:
    """Read orders and positions that belong together: nothing was filled between the readings.

    Positions may show a fill a moment before the book does; what it does not explain even then is no fill of today.
    """
    funds = await account.broker.funds()
    for attempt in range(1, _TRIES + 1):
        before, _ = await account.broker.orders()
        positions = await account.broker.positions()
        orders, problems = await account.broker.orders()
        if problems:
            return Reading(account.name, problem=f"a row of its order book cannot be read: {problems[0]}")
        is_explained = not unexplained(orders, positions) or attempt == _TRIES
        if _filled(before) == _filled(orders) and is_explained:
            complete = not account.broker.holdings_problem
            return Reading(account.name, orders, positions, funds, holdings=complete)
        await asyncio.sleep(_BOOK_PAUSE)
    return Reading(account.name, problem="its orders fill faster than its positions can be read")


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
async def looking(config: Config, say: Say) -> AsyncIterator[Looker]:
    """Connect to every account that has a token; one that has none is unknown."""
    _warn_of_damage(config, say)
    found, missing = errand.tokens_of(config, (LEADER, *config.enabled))
    with closing(InstrumentStore(config.instruments_path)) as store:
        market = session.calendar_of(config, say)
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


# --- Carrying out ------------------------------------------------------------------------------


async def fix(config: Config, request: Request, say: Say) -> Report:
    """Show the plan, ask, check it against fresh books, carry it out and look again."""
    config.check_for_follow()
    async with looking(config, say) as looker:
        try:
            return await _fix_alone(config, looker, request, say)
        except LockHeld as held:
            if not errand.is_follow(held):
                raise
        return await _fix_by_follow(config, looker, request, say)


async def _fix_alone(config: Config, looker: Looker, request: Request, say: Say) -> Report:
    """Carry a plan out in a session of our own, which holds the lock from before the first look."""
    names = request.scope.followers or frozenset(config.enabled)
    found, _ = errand.tokens_of(config, (LEADER, *(name for name in config.enabled if name in names)))
    if request.adopt:
        await _ask_adopt(looker, request)
    async with errand.short_session(config, "reconcile", found, say, adopt=request.adopt, market=looker.market) as own:
        copier = own.copier

        def unknown() -> bool:
            return any(piece.follower in names for piece in copier.state.unknowns())

        if unknown():
            say("an order's outcome is not known yet: looking it up first")
            await own.until(lambda: not unknown(), UNKNOWN_SETTLES_WITHIN)
        agreed = await _agreed(looker, request, lambda: copier.state)
        if isinstance(agreed, Report):
            return agreed
        for word in agreed.words:
            copier.handle(word)
        with _until_interrupted(say):
            await own.until(lambda: _is_over(copier.state, agreed.words), request.wait)
        done = tuple(_results(copier.state, agreed.words))
        return await _looked_again(looker, request, done, copier.state)


async def _fix_by_follow(config: Config, looker: Looker, request: Request, say: Say) -> Report:
    """Hand a plan over to the running follow, and look on until it is carried out."""
    onlooker = looker.onlooker
    errand.refuse_dry_run(config)
    if request.adopt:
        await _adopt_by_follow(config, looker, request)
    agreed = await _agreed(looker, request, onlooker.look)
    if isinstance(agreed, Report):
        return agreed
    say("follow is running: it carries the plan out")
    heard = [errand.leave_word(config, word) for word in agreed.words]
    if not await errand.until(lambda: all(onlooker.heard(word) for word in heard), HEARD_WITHIN):
        raise Failure("the running follow did not hear the plan; it is void in a minute", code=ExitCode.UNKNOWN_OUTCOME)
    with _until_interrupted(say):
        await errand.until(lambda: _is_over(onlooker.look(), agreed.words), request.wait, every=0.2)
    done = tuple(_results(onlooker.look(), agreed.words))
    return await _looked_again(looker, request, done, None)


@contextmanager
def _until_interrupted(say: Say) -> Iterator[None]:
    """Let Ctrl-C end the waiting for what was sent, and nothing else: what became of it is still told."""
    try:
        yield
    except asyncio.CancelledError:
        say("interrupted: what was sent is not waited for any more, and is not cancelled")


@dataclass(frozen=True, slots=True)
class _Agreed:
    words: tuple[FixOrdered, ...]


async def _agreed(looker: Looker, request: Request, state: Callable[[], State]) -> Report | _Agreed:
    """Show and ask; then look again, and go on only if the plan would be the same."""
    report = await looker.look(request, state())
    _refuse_strays(report)
    sent = [step for step in report.plan if not step.held_back]
    request.ask(report.plan)
    if not sent:
        return report
    again = await looker.look(request, state())
    if not planning.same(report.plan, again.plan):
        raise Failure(
            "the world has moved since the plan was made: nothing was sent", "run it again", code=ExitCode.SAFETY
        )
    return _Agreed(planning.fixes(again.plan, again.picture.at))


def _refuse_strays(report: Report) -> None:
    strays = [finding for finding in report.picture.findings if finding.kind is FindingKind.STRAY]
    if strays:
        listed = ", ".join(f"{finding.follower} {finding.order_id}" for finding in strays)
        raise Failure(
            f"orders of a copier that this journal does not know: {listed}",
            "another copier may serve these accounts, or the journal was lost: "
            "make sure that no other runs, then say --adopt",
            code=ExitCode.SAFETY,
        )


async def _looked_again(looker: Looker, request: Request, done: tuple[Done, ...], state: State | None) -> Report:
    """The picture after all is done; what was not, is worse than a drift."""
    report = await looker.look(request, state)
    is_unknown = any(each.outcome == fixing.UNKNOWN for each in done)
    return Report(report.picture, report.plan, ExitCode.UNKNOWN_OUTCOME if is_unknown else report.code, done)


def _is_over(state: State, words: Sequence[FixOrdered]) -> bool:
    """Whether nothing of the plans waits or works any more."""
    for word in words:
        account = state.accounts[word.account]
        if word.plan_id not in account.plans:
            return False
        if not all(fixing.is_finished(state, account, each) for each in account.plans[word.plan_id]):
            return False
        if any((word.account, order_id) in _open_ids(state, word.account) for order_id in word.cancels):
            return False
    return True


def _open_ids(state: State, name: str) -> set[tuple[str, str]]:
    return {(name, piece.order_id) for piece in state.accounts[name].open.values()}


def _results(state: State, words: Sequence[FixOrdered]) -> list[Done]:
    found = []
    for word in words:
        account = state.accounts[word.account]
        for each in account.plans.get(word.plan_id, ()):
            instrument = state.instruments.get(each.ticket.security)
            symbol = instrument.symbol if instrument is not None else each.ticket.security.security_id
            expiry = instrument.expiry if instrument is not None else None
            piece = fixing.last_piece(state, account, each)
            order_id, filled = ("", 0) if piece is None else (piece.order_id, piece.filled)
            outcome = fixing.outcome(state, account, each)
            terms = (each.ticket.side, each.ticket.quantity)
            found.append(Done(word.account, symbol, *terms, filled, order_id, outcome, expiry))
    return found


# --- Adopting ----------------------------------------------------------------------------------


async def adopt(config: Config, request: Request, say: Say) -> Report:
    """Take over the orders with our prefix that the journal does not know, and look."""
    async with looking(config, say) as looker:
        try:
            await _ask_adopt(looker, request)
            found, _ = errand.tokens_of(config, tuple(config.enabled))
            async with errand.short_session(config, "reconcile", found, say, adopt=True, market=looker.market) as own:
                state = own.copier.state
                await own.until(lambda: not any(_adopted_open(state)), request.wait)
        except LockHeld as held:
            if not errand.is_follow(held):
                raise
            await _adopt_by_follow(config, looker, request)
        return await looker.look(request)


def _adopted_open(state: State) -> list[str]:
    return [
        piece.order_id for account in state.accounts.values() for piece in account.open.values() if piece.cancelling
    ]


async def _ask_adopt(looker: Looker, request: Request) -> dict[str, tuple[Order, ...]]:
    """Show which orders would be taken over, and ask."""
    strays = (await looker.look(request)).picture.strays
    if strays:
        request.ask_adopt([f"{name} {order.order_id}" for name, orders in strays.items() for order in orders])
    return strays


async def _adopt_by_follow(config: Config, looker: Looker, request: Request) -> None:
    words = [
        errand.leave_word(config, Adopted(session.now(), name, orders))
        for name, orders in (await _ask_adopt(looker, request)).items()
    ]
    if words and not await errand.until(lambda: all(map(looker.onlooker.heard, words)), HEARD_WITHIN):
        raise Failure("the running follow did not hear the word", code=ExitCode.FAILED)
