"""What the operator's commands share: a word to a running `follow`, or a short session of their own.

Only one process writes a journal and sends for its followers.  While `follow` runs, a
command leaves its word in the journal's inbox and looks on; otherwise it takes the lock
itself and runs the same copier, engine, outbox and budget, as a session that copies nothing.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path

from copytrader import __version__, session
from copytrader.config import Config
from copytrader.copier import Copier
from copytrader.core.copies import Key
from copytrader.core.engine import evolve
from copytrader.core.facts import Cancel, Event, Fact, Halted, Modify, Place, Resumed, Skip, Started
from copytrader.core.model import LEADER, Calendar
from copytrader.core.state import State
from copytrader.dhan.master import InstrumentStore
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal
from copytrader.lock import LockHeld
from copytrader.tokens import Credential

Say = Callable[[str], None]

POLL_SECONDS = 1.0
_READY_WITHIN = 90.0
_LOOK_EVERY = 0.05
_SYNC_PATIENCE = 5.0


class Onlooker:
    """The state as a journal tells it, kept up to date beside whoever writes it.

    `dry_run` says that the last process only decided and sent nothing; `reasons` has the last
    skip of each follower in each instrument and product, of whichever day.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = State()
        self.dry_run = False
        self.reasons: dict[tuple[str, Key], str] = {}
        self._seq = 0

    def look(self) -> State:
        """Fold in what was recorded since the last look; a journal that does not exist has recorded nothing."""
        if not self.path.exists():
            return self.state
        with Journal.open(self.path, read_only=True) as journal:
            for row in journal.facts(self._seq):
                self._seq, fact = row.seq, row.fact
                if isinstance(fact, Started):
                    self.dry_run = fact.dry_run
                if self.dry_run:
                    continue
                evolve(self.state, fact, row.time)
                if isinstance(fact, Skip) and fact.leader_order_id in self.state.orders:
                    key = self.state.orders[fact.leader_order_id].key
                    self.reasons[fact.account, key] = f"on {row.time:%d %b}: {fact.reason}: {fact.detail}"
        return self.state

    def heard(self, word: int) -> bool:
        """Whether the writer has taken a word."""
        with Journal.open(self.path, read_only=True) as journal:
            return _taken(journal, word) is not None

    def since(self, word: int) -> list[Fact]:
        """What was recorded since the writer took a word; nothing where it was not taken."""
        with Journal.open(self.path, read_only=True) as journal:
            taken = _taken(journal, word)
            return [] if taken is None else [row.fact for row in journal.facts(taken)]

    def unheard(self) -> list[Event]:
        """The words that nobody has taken yet."""
        if not self.path.exists():
            return []
        with Journal.open(self.path, read_only=True) as journal:
            return [event for _, event in journal.words()]


def _taken(journal: Journal, word: int) -> int | None:
    """Return the place of the fact that a word became, None where nobody has taken it."""
    _, found = journal.query("SELECT taken FROM inbox WHERE id = ?", (word,))
    return found[0][0] if found else None


def halted(config: Config, state: State, words: Iterable[Event]) -> tuple[str, ...]:
    """Return the enabled followers that are halted, counting the words that nobody has taken yet; changes the state."""
    evolve(state, Started(session.now(), "", "", config.desk(Calendar()), copying=False), session.now())
    for event in words:
        if isinstance(event, Halted | Resumed):
            evolve(state, event, event.at)
    return tuple(name for name in config.enabled if state.accounts[name].halted)


def leave_word(config: Config, event: Event) -> int:
    """Leave a word for whoever writes the journal, now or next; a journal that nobody began yet is begun."""
    if not config.journal.exists():
        with session.locked(config, "halt"):
            Journal.open(config.journal).close()
    return Journal.leave_word(config.journal, event)


def is_follow(held: LockHeld) -> bool:
    """Whether it is `follow` that holds this journal, so that it hears a word."""
    return held.holder.purpose == "follow" and held.what.startswith("the journal")


def refuse_dry_run(config: Config) -> None:
    """Leave no word to a dry run: what it hears has no part in what a live one knows."""
    onlooker = Onlooker(config.journal)
    onlooker.look()
    if not onlooker.dry_run:
        return
    try:
        with session.locked(config, "word"):
            return
    except LockHeld as held:
        if is_follow(held):
            raise Failure(
                "the running follow is a dry run and sends nothing; stop it first", code=ExitCode.SAFETY
            ) from None


def known_followers(config: Config, name: str | None) -> tuple[str, ...]:
    """Return the enabled followers that are meant; raise for a name that is none of them."""
    if name is None:
        return tuple(config.enabled)
    if name not in config.enabled:
        listed = ", ".join(config.enabled) or "nobody"
        raise Failure(f"{name} is no enabled follower: {listed} ({config.path})", code=ExitCode.USAGE)
    return (name,)


def tokens_of(config: Config, names: Collection[str]) -> tuple[dict[str, Credential], dict[str, str]]:
    """Return the tokens that there are, and for each account without one what to do."""
    found, missing = {}, {}
    for name in names:
        token = config.token(name)
        if token is None:
            where = LEADER if name == LEADER else f"followers.{name}"
            missing[name] = f"{where}.access_token is missing: get one with `copytrader login {name}`"
        else:
            found[name] = Credential(token)
    return found, missing


async def until(condition: Callable[[], bool], seconds: float, every: float = _LOOK_EVERY) -> bool:
    """Wait for a condition, at most so long; tell whether it came."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        if loop.time() >= end:
            return False
        await asyncio.sleep(every)
    return True


class Errand:
    """A short session under way."""

    def __init__(self, copier: Copier, journal: Journal, running: asyncio.Task[None]) -> None:
        self.copier = copier
        self.journal = journal
        self._running = running

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition while the session lives; raise what ended it."""

        def met() -> bool:
            if self._running.done():
                self._running.result()
            return condition()

        return await until(met, seconds)


@asynccontextmanager
async def short_session(
    config: Config,
    purpose: str,
    credentials: dict[str, Credential],
    say: Say,
    *,
    adopt: bool = False,
    market: Calendar | None = None,
) -> AsyncIterator[Errand]:
    """Run a session that copies nothing, for the accounts whose tokens are given; raise LockHeld beside another.

    When it begins, their books are read and the words in the inbox taken.
    """
    with (
        session.locked(config, purpose),
        closing(Journal.open(config.journal)) as journal,
        closing(InstrumentStore(config.instruments_path)) as store,
    ):
        market = session.calendar_of(config) if market is None else market
        await session.sync_instruments(config, store, say, _SYNC_PATIENCE)
        async with session.connected(config, credentials) as accounts:
            copier = Copier(
                journal=journal,
                facts=journal.happened(),
                desk=config.desk(market),
                accounts=accounts,
                instrument=store.get,
                now=session.now,
                poll_seconds=POLL_SECONDS,
                version=__version__,
                config_digest=config.digest(),
                adopt=adopt,
                copying=False,
                unanswered=[
                    (row.seq, fact) for row in journal.outbox() if isinstance(fact := row.fact, Place | Modify | Cancel)
                ],
            )
            await copier.identity.check_tokens()
            async with _running(copier, journal) as errand:
                yield errand


@asynccontextmanager
async def _running(copier: Copier, journal: Journal) -> AsyncIterator[Errand]:
    # A plain `kill` ends a short session as Ctrl-C does: what is on its way is waited for.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    stop = asyncio.Event()
    running = asyncio.ensure_future(copier.run(stop))
    errand = Errand(copier, journal, running)
    try:
        if not await errand.until(copier.ready.is_set, _READY_WITHIN):
            raise Failure("the accounts' books cannot be read; nothing was done")
        yield errand
    finally:
        stop.set()
        await asyncio.gather(running, return_exceptions=True)
