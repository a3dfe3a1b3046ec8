"""Puts a copying session together from a configuration: locks, journal, instruments, connections.

The parts are made here and handed to the copier; whoever runs the session (a command, the
demonstration, a program of the user's) says only how it wants to watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from copytrader import __version__, calendar, narrate, tokens
from copytrader.account import Account, Broker
from copytrader.beside import attended
from copytrader.config import Config
from copytrader.copier import Copier, Watcher
from copytrader.core import days
from copytrader.core.facts import Cancel, Fact, Level, Modify, Place, Started
from copytrader.core.fold import recall
from copytrader.core.model import IST, LEADER, Calendar, Desk
from copytrader.core.state import State
from copytrader.dhan.broker import Broker as DhanBroker
from copytrader.dhan.master import InstrumentStore, MasterError
from copytrader.dhan.stream import OrderStream
from copytrader.dhan.transport import HttpTransport
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal, JournalError
from copytrader.journal.views import DRY_RUNS
from copytrader.lock import LockHeld, hold
from copytrader.logfile import kept
from copytrader.paper import DryRun
from copytrader.renewal import Renewal
from copytrader.summary import Tally
from copytrader.tokens import Credential

_log = logging.getLogger(__name__)

SYNC_PATIENCE = 10.0
"""Seconds for which a start waits for the instruments where it has those of another day."""
LOCK_PATIENCE = 60.0
"""Seconds for which `follow` waits for a short command that holds the lock."""
_LOCK_EVERY = 0.2


def now() -> datetime:
    """The time as every fact has it: Indian, aware."""
    return datetime.now(IST)


@dataclass(frozen=True, slots=True)
class Options:
    dry_run: bool = False
    adopt: bool = False


def credentials(config: Config) -> dict[str, Credential]:
    """Return each served account's token; raise with a line for each that has none."""
    found: dict[str, Credential] = {}
    missing = []
    for name in (LEADER, *config.enabled):
        token = config.token(name)
        if token is None:
            where = LEADER if name == LEADER else f"followers.{name}"
            missing.append(f"{where}.access_token is missing: get one with `copytrader login {name}`")
        else:
            found[name] = Credential(token)
    if missing:
        raise Failure(*missing, code=ExitCode.TOKEN)
    return found


@asynccontextmanager
async def connected(config: Config, tokens_of: dict[str, Credential]) -> AsyncIterator[dict[str, Account]]:
    """Open a connection for each account, each by its own way out."""
    async with contextlib.AsyncExitStack() as stack:
        accounts = {}
        for name, token in tokens_of.items():
            section = config.account(name)
            proxy = section.proxy.get_secret_value()
            transport = HttpTransport(
                config.dhan.api_url,
                section.client_id,
                token,
                proxy=proxy,
                source_address=section.source_address,
            )
            await stack.enter_async_context(transport)
            stream = OrderStream(
                config.dhan.order_update_url,
                section.client_id,
                token,
                proxy=proxy,
                source_address=section.source_address,
            )
            broker: Broker = DhanBroker(section.client_id, transport, now)
            accounts[name] = Account(name, section.client_id, broker, stream)
        yield accounts


async def sync_instruments(
    config: Config, store: InstrumentStore, say: Callable[[str], None], patience: float = SYNC_PATIENCE
) -> None:
    """Read the master anew unless it is today's; an old one is used with a warning, none is refused later."""
    late = await begin_sync(config, store, say, patience)
    if late is not None:
        late.cancel()


async def begin_sync(
    config: Config, store: InstrumentStore, say: Callable[[str], None], patience: float = SYNC_PATIENCE
) -> asyncio.Task[None] | None:
    """Begin to read the master anew unless it is today's; return what still goes on after a while.

    Nothing that is held waits longer for it: of that the rows of another day say enough.
    """
    if store.is_fresh(now().date(), config.dhan.instruments_url):
        return None
    work = asyncio.create_task(_sync(config, store, say))
    old = store.synced_on()
    await asyncio.wait({work}, timeout=None if old is None else patience)
    if work.done():
        work.result()
        return None
    say(f"instruments: they are still being read; going on with the rows of {old}")
    return work


async def _sync(config: Config, store: InstrumentStore, say: Callable[[str], None]) -> None:
    today = now().date()
    try:
        report = await store.sync(config.dhan.instruments_url, today)
    except (MasterError, OSError) as error:
        say(f"instruments: {error}; going on with the rows of {store.synced_on() or 'nowhere'}")
        return
    say(f"instruments: {report.rows:,} rows, {report.changed:,} changed")
    for change in report.changes:
        say(f"instruments: {change.symbol}: {change.what} was {change.old}, is {change.new}")
    for double in report.doubles:
        say(f"instruments: {double}")


def calendar_of(config: Config) -> Calendar:
    """Return the trading calendar of this year and the next, as far as their holidays are known."""
    if config.copy_rules.market_hours == "off":
        return Calendar()
    year = now().year
    return calendar.build(config.calendar, (year, year + 1))


@contextmanager
def locked(config: Config, purpose: str) -> Iterator[None]:
    """Be the one writer of the journal and the one sender for each follower."""
    ids = [section.client_id for section in config.enabled.values()]
    with hold(config.journal, ids, tokens.state_dir(), purpose):
        yield


async def _locked_in_turn(config: Config, say: Callable[[str], None]) -> contextlib.ExitStack:
    """Take the locks for `follow`, and wait a while for a short command that has them; raise LockHeld beside another.

    Whoever started it again, after a crash, would take a refusal for the last word.  A holder that is not known is
    waited for too: it may be about to sign, or to be gone.
    """
    loop = asyncio.get_running_loop()
    until, waits = loop.time() + LOCK_PATIENCE, False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(config, "follow"))
                return held.pop_all()
            except LockHeld as refused:
                if refused.holder.purpose == "follow" or loop.time() >= until:
                    raise
                if not waits:
                    say(f"{refused.what} is in use by {refused.holder}; waiting up to {LOCK_PATIENCE:.0f} s for it")
                waits = True
            await asyncio.sleep(_LOCK_EVERY)


def refuse_renamed(state: State, desk: Desk) -> None:
    """Raise where a follower bears a new name while its account has something from copying under the old one."""
    lines = []
    for new, old, has in days.renamed(state, desk, now()):
        close = f"copytrader halt --flatten --follower {old}"
        lines += [
            f"{new} has the account of {old}, which {has}",
            f"name it {old} again; to rename it, close that first ({close}), and do it on the day after",
        ]
    if lines:
        raise Failure(*lines, code=ExitCode.SAFETY)


async def run(
    config: Config,
    options: Options,
    say: Callable[[str], None],
    watch: Callable[[Copier], Watcher] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Copy until told to stop.

    `say` gets lines for the user; `watch` is asked for a watcher once the copier exists.
    Raises `Failure` for whatever makes copying impossible.
    """
    config.check_for_follow()
    tokens_of = credentials(config)
    stop = stop or asyncio.Event()
    with (
        await _locked_in_turn(config, say),
        closing(Journal.open(config.journal)) as journal,
        kept(config.log, say) as write,
    ):
        say = _both(say, write)
        market = calendar_of(config)
        with closing(InstrumentStore(config.instruments_path)) as store:
            late = await begin_sync(config, store, say)
            async with connected(config, tokens_of) as accounts:
                dry = DryRun(accounts, now) if options.dry_run else None
                copier = _copier(config, options, journal, store, accounts, market)
                if another := another_leader(config, journal.happened(kinds={Started.__name__}), copier.state):
                    raise Failure(*another, code=ExitCode.SAFETY)
                refuse_renamed(copier.state, copier.desk)
                missing = _missing_instruments(copier, store)
                if options.dry_run and journal.words():
                    say("an operator's word, such as a halt, waits for the next live follow: a dry run takes none")
                watcher = watch(copier) if watch is not None else None
                if dry is not None:
                    watcher = dry.watching(copier, watcher)
                with attended(config, copier, _tally(journal, dry_run=options.dry_run), say, write, watcher) as work:
                    await copier.identity.check_tokens()
                    announcing = asyncio.ensure_future(_announce(config, options, copier, say, missing))
                    with _signals(stop):
                        try:
                            beside = [*work, Renewal(config, tokens_of, copier, say).keep]
                            beside += [] if late is None else [partial(_know_anew, copier, late)]
                            await copier.run(stop, beside if dry is None else [*beside, dry.work])
                        except JournalError:
                            copier.state = _recorded(journal) or copier.state  # the state is ahead of the journal
                            raise
                        finally:
                            announcing.cancel()
                            if late is not None:
                                late.cancel()


async def _know_anew(copier: Copier, sync: asyncio.Task[None]) -> None:
    await sync
    copier.instruments.know_anew()


def another_leader(config: Config, facts: Iterable[tuple[Fact, datetime]], state: State) -> tuple[str, ...]:
    """Say that what the journal knows of today or still holds came of another leader; nothing where all is well.

    Held against the new leader's books, who holds nothing of it, it would be closed at once.
    """
    copied = [fact.desk.leader_client_id for fact, _ in facts if isinstance(fact, Started) and _copies(fact)]
    if not copied or copied[-1] == config.leader.client_id:
        return ()
    left = list(narrate.left_open(state))
    is_of_today = any(order.known.trade_date == now().date() for order in state.orders.values())
    if not (left or is_of_today):
        return ()
    more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
    what = f"this is left from copying the old one: {'; '.join(left[:3])}{more}" if left else "it has orders of today"
    remedy = (
        "set leader.client_id back; or close what is left (`copytrader halt --flatten`), and copy the new one "
        "from the next day on, or with another file in `journal`"
    )
    return f"the journal is of leader {copied[-1]}, leader.client_id is {config.leader.client_id}, and {what}", remedy


def _copies(started: Started) -> bool:
    return started.copying and not started.dry_run


def _missing_instruments(copier: Copier, store: InstrumentStore) -> str:
    """Refuse to begin where no order could be copied; say what is missing where the journal knows something."""
    if store.synced_on() is not None:
        return ""
    if not copier.state.instruments:
        raise Failure(
            "no instruments are known: without lot sizes nothing can be copied",
            "look at the network and at dhan.instruments_url, then run: copytrader instruments sync",
        )
    return "no instruments could be read, only those that the journal knows are copied: copytrader instruments sync"


def _both(say: Callable[[str], None], write: Callable[[str], None]) -> Callable[[str], None]:
    """Say a line to the user and write it to the log."""

    def both(text: str) -> None:
        say(text)
        write(text)

    return both


def _tally(journal: Journal, *, dry_run: bool) -> Tally:
    """Count what the journal already has of today; a dry run counts itself alone, a live one nothing on paper."""
    tally = Tally(on_paper=dry_run)
    if not dry_run:
        paper = journal.query(f"WITH {DRY_RUNS} SELECT began, ended FROM dry")[1]  # noqa: S608  # constant
        for row in journal.facts(day=now().date()):
            if not any(began < row.seq < ended for began, ended in paper):
                tally.add(row.fact, row.time)
    return tally


def _copier(
    config: Config,
    options: Options,
    journal: Journal,
    store: InstrumentStore,
    accounts: dict[str, Account],
    market: Calendar,
) -> Copier:
    unanswered = [(row.seq, row.fact) for row in journal.outbox()]
    return Copier(
        journal=journal,
        facts=journal.happened(),
        desk=config.desk(market),
        accounts=accounts,
        instrument=store.get,
        now=now,
        poll_seconds=config.copy_rules.poll_seconds,
        version=__version__,
        config_digest=config.digest(),
        dry_run=options.dry_run,
        adopt=options.adopt,
        unanswered=[(seq, fact) for seq, fact in unanswered if isinstance(fact, Place | Modify | Cancel)],
    )


def _recorded(journal: Journal) -> State | None:
    """Return what the journal knows, None where it cannot be read either."""
    try:
        return recall(journal.happened())
    except JournalError:
        return None


async def _announce(config: Config, options: Options, copier: Copier, say: Callable[[str], None], missing: str) -> None:
    await copier.ready.wait()
    if missing:
        copier.notice(Level.CRITICAL, missing, key="no-instruments")
    state = copier.state
    served = [name for name in config.enabled if state.accounts[name].ready and state.accounts[name].blocked is None]
    unserved = [name for name in config.enabled if name not in served]
    text = f"copying {config.leader.client_id} to {', '.join(served) or 'nobody yet'}"
    if options.dry_run:
        text += " (dry run: nothing is sent)"
    leader = copier.accounts[LEADER]
    if not leader.connected:
        polled = config.copy_rules.poll_seconds > 0
        text += "; its order stream is down: " + ("orders are found in its book" if polled else "nothing is copied yet")
    if unserved:
        text += f"; not yet to {', '.join(unserved)}"
    if halted := narrate.halted(state):
        text += f"; {halted}"
    say(text)


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # Handlers belong to the main thread: in another one, and on a loop without any, whoever started us stops us.
    unable = (NotImplementedError, RuntimeError)
    for number in numbers:
        with contextlib.suppress(*unable):
            loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            with contextlib.suppress(*unable):
                loop.remove_signal_handler(number)
