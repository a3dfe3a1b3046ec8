"""One seed, played to its end: a leader trades, everything fails, then nothing fails any more.

The safety phase may break whatever the swarm allows.  Then faults are switched off and
time passes: everything must come to rest (the liveness phase).  Then the leader gets out of
everything, and once more everything must come to rest, flat.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random

from copytrader.core.facts import Event
from copytrader.core.model import IST, LEADER, CopyRules, Desk, Follower, Instrument, Security, Sizing
from copytrader.journal import Journal
from copytrader.journal.codec import encode
from copytrader.journal.rows import timestamp
from copytrader.simulator import Account, Exchange, Settings
from copytrader.simulator import Instrument as Listed
from copytrader.simulator.limits import RateLimiter
from tests.simulation.judge import Judge
from tests.simulation.loop import VirtualLoop
from tests.simulation.people import People
from tests.simulation.process import Crash, Process
from tests.simulation.swarm import Swarm, draw

START = datetime(2026, 11, 23, 10, 0, tzinfo=IST)
LEADER_ID = "1000000001"
REST_AT_MOST = 420.0
_TIGHT = ((1, 10), (60, 30), (3600, 60), (86_400, 90))
_LOST_AT_MOST = 5
_LISTED = (
    Listed("NSE_FNO", "40001", "NIFTY-Nov2026-25000-CE", 75, freeze_quantity=301, underlying="NIFTY"),
    Listed("NSE_FNO", "40002", "NIFTY-Nov2026-25000-PE", 20, freeze_quantity=0, underlying="NIFTY"),
)
_CHANCES = ("network", "stream", "people", "crash")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed; `digest` is the hash of the journal's last fact."""

    seed: int
    problems: tuple[str, ...]
    digest: str
    counts: Counter[str] = field(default_factory=Counter)


class World:
    def __init__(self, swarm: Swarm, folder: Path | None = None) -> None:
        self.swarm = swarm
        self.loop = VirtualLoop()
        self.loop.after_step = self._after_step
        self.chance = {name: Random(f"{name} {swarm.seed}") for name in _CHANCES}
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.troubled = True
        self.charged = False
        self.over = False
        self.client_ids = {LEADER: LEADER_ID} | {
            f"f{number}": str(int(LEADER_ID) + 1 + number) for number in range(len(swarm.ratios))
        }
        self.tokens = {client_id: f"canary-token-{client_id}-0" for client_id in self.client_ids.values()}
        self.desk = _desk(swarm)
        self.exchange = self._exchange()
        self.journal = _open(folder if swarm.on_disk else None, swarm.seed)
        self.counts["on_disk"] += swarm.on_disk and folder is not None
        self.judge = Judge(self)
        self.people = People(self)
        self.process: Process | None = None
        self.lives = 0
        self._crashes = [self._crash(kind) for kind in swarm.crashes]
        self._pump_at: datetime | None = None

    def _exchange(self) -> Exchange:
        rng = Random(f"exchange {self.swarm.seed}")
        settings = Settings(
            transit_seconds=self.swarm.transit,
            triggered_as_limit=rng.random() < 0.5,
            average_on_pending=rng.random() < 0.5,
            lookup_as_list=rng.random() < 0.5,
            cancel_status=rng.choice((200, 202)),
            newest_first=rng.random() < 0.5,
        )
        exchange = Exchange(self.now, settings)
        policy = "manual" if "resting_market" in self.swarm.extras else "cross"
        for client_id, token in self.tokens.items():
            exchange.add_account(Account(client_id, token, fill_policy=policy))
            if "tight_limits" in self.swarm.extras:
                exchange.limiters[client_id] = RateLimiter(_TIGHT)
        for listed in _LISTED[: self.swarm.instruments]:
            exchange.add_instrument(listed, Decimal(100))
        exchange.agenda.on_change = self._agenda_changed
        return exchange

    # The clock and the agenda

    def now(self) -> datetime:
        return START + timedelta(seconds=self.loop.time())

    def _agenda_changed(self) -> None:
        due = self.exchange.next_due
        if due is not None and (self._pump_at is None or due < self._pump_at):
            self._pump_at = due
            self.loop.call_at((due - START).total_seconds(), self._pump)

    def _pump(self) -> None:
        self._pump_at = None
        self.exchange.run_due()
        self._agenda_changed()

    # What the product asks for

    def instrument(self, security: Security) -> Instrument | None:
        listed = self.exchange.instruments.get((security.exchange_segment, security.security_id))
        if listed is None:
            return None
        freeze = max(listed.freeze_quantity - 1, 0)
        return Instrument(
            security, listed.symbol, listed.lot_size, listed.tick_size, freeze, 1, listed.underlying, "OPTIDX"
        )

    # Trouble

    def strikes(self, family: str, kind: str, weight: float = 1.0) -> bool:
        """Whether a stream fault of a kind strikes now."""
        struck = self.chance["stream"].random() < self.swarm.stream_fault_rate * weight
        if not (struck and self.troubled and kind in self.swarm.stream_faults):
            return False
        self.counts[f"{family} {kind}"] += 1
        return True

    def problem(self, text: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(f"at {self.loop.time():.3f} s: {text}")

    def _crash(self, kind: str) -> Crash:
        rng = self.chance["crash"]
        if kind in ("step", "stop"):
            return Crash(kind, rng.randint(1, 900))
        if kind == "recovery":
            return Crash(kind, rng.randint(1, 80))
        if kind in ("before_commit", "after_commit", "disk"):
            return Crash(kind, rng.randint(1, 50))
        return Crash(kind, rng.randint(1, 8))

    def _after_step(self) -> None:
        if self.process is not None:
            self.process.after_step()

    # Lives of the product

    def begin(self) -> None:
        self.lives += 1
        crash = self._crashes.pop(0) if self._crashes and self.troubled else None
        self.process = Process(self, self.lives, self.journal, crash)

    def ended(self, process: Process) -> None:
        """A process is gone: somebody starts it again a while later."""
        if process is not self.process or self.over:
            return
        self.process = None
        pause = self.chance["crash"].choice((0.3, 1.0, 4.0, 15.0)) if self.troubled else 0.5
        self.loop.call_later(pause, self._begin_again)

    def _begin_again(self) -> None:
        if self.process is None:
            self.journal = _reopened(self.journal)
            self.begin()

    def leave_word(self, word: Event) -> None:
        """An operator's word, as `Journal.leave_word` leaves it."""
        self.journal._connection.execute(
            "INSERT INTO inbox (at, kind, body) VALUES (?, ?, ?)",
            (timestamp(word.at), type(word).__name__, encode(word)),
        )

    # The phases

    def play(self) -> None:
        self.begin()
        self.people.begin()
        self.loop.run_until(self.people.until)
        self.finish()

    def finish(self) -> None:
        """Let the faults end and everything come to rest, twice, and judge it."""
        self._end_trouble()
        self.rest()
        self.judge.at_rest()
        for _ in range(4):
            self.people.get_out()
            self.rest()
            if self.judge.is_flat():
                break
        self.judge.at_the_end()
        self._go_home()

    def _go_home(self) -> None:
        """Stop the last process as a user does; it must end, and say that it did."""
        process = self.process
        if process is None:
            return
        self.over = True
        process.stop.set()
        self.loop.run_until(self.loop.time() + 0.2)
        if process.alive:
            self.problem("the copier does not stop when told")
            process.die()
            self.loop.run_until(self.loop.time() + 6)
        self.process = None

    def _end_trouble(self) -> None:
        self.troubled = False
        self.people.mend()
        if self.process is not None:
            self.process.crash = None

    def rest(self) -> None:
        """Let time pass until nothing moves any more."""
        end = self.loop.time() + REST_AT_MOST
        self.loop.run_until(self.loop.time() + 2 * self.swarm.poll_seconds + 2)
        calm = 0
        while self.loop.time() < end:
            if self.process is not None and self.process.is_quiet and self.exchange.next_due is None:
                calm += 1
                if calm > 1:
                    return
                self.loop.run_until(self.loop.time() + (32 if "hand_trade" in self.swarm.extras else 6))
                continue
            calm = 0
            self.people.look_after_tokens()
            self.loop.run_until(self.loop.time() + 3)
        if not self._only_lacks_room():
            self.problem(f"it does not come to rest within {REST_AT_MOST} s: {self._unrest()}")

    def _only_lacks_room(self) -> bool:
        """Whether nobody waits but who keeps its calls of the hour, up to half of them, to get out of what it has open."""
        if "tight_limits" not in self.swarm.extras or self.process is None:
            return False
        waiting = {follower for _, follower in self.process.copier.state.waking}
        at_rest = self.process.is_served and self.exchange.next_due is None
        return at_rest and all(map(self._has_no_room, waiting))

    def _has_no_room(self, follower: str) -> bool:
        """Whether it has used half of its hour, or what its open orders leave of it; some calls never arrived."""
        hour, most = _TIGHT[2]
        client_id = self.client_ids[follower]
        open_ = sum(1 for order in self.exchange.book(client_id) if order.is_open)
        used = self.exchange.limiters[client_id].used(self.now())[hour] + _LOST_AT_MOST
        return open_ > 0 and used + max(open_ + 1, most // 2) >= most

    def _unrest(self) -> str:
        if self.process is None:
            return "no process lives"
        state = self.process.copier.state
        open_ = [
            (name, piece.correlation_id, piece.unknown, piece.in_flight, piece.cancelling)
            for name, account in state.accounts.items()
            for piece in account.open.values()
        ]
        blocked = {name: (account.ready, account.blocked) for name, account in state.accounts.items()}
        connected = {name: account.connected for name, account in self.process.copier.accounts.items()}
        return f"wake {state.next_wake}, accounts {blocked}, connected {connected}, open {open_}"


def _desk(swarm: Swarm) -> Desk:
    followers = tuple(
        Follower(f"f{number}", str(int(LEADER_ID) + 1 + number), Sizing(ratio=ratio))
        for number, ratio in enumerate(swarm.ratios)
    )
    return Desk(LEADER_ID, followers, CopyRules(enforce_hours=False))


@cache
def _schema() -> bytes:
    """An empty journal as the product makes it."""
    with Journal.open(":memory:") as journal:
        return journal._connection.serialize()


def _open(folder: Path | None, seed: int) -> Journal:
    if folder is not None:
        return Journal.open(folder / f"{seed}.db")
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(_schema())
    return Journal(connection, None, (0, ""))


def _reopened(journal: Journal) -> Journal:
    """What the next process finds: a file is opened anew, memory stays."""
    if journal.path is None:
        return journal
    journal.close()
    return Journal.open(journal.path)


class _Words(logging.Handler):
    """Everything that the product says, for the search for secrets."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def listening() -> Iterator[list[str]]:
    handler, logger = _Words(), logging.getLogger("copytrader")
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler.said
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def run(seed: int, folder: Path | None = None) -> Outcome:
    """Play one seed and judge it."""
    return play(World(draw(seed), folder))


def play(world: World) -> Outcome:
    with listening() as said, limits_of(world.swarm):
        world.play()
        world.judge.of_secrets(said)
    for text in world.loop.unhandled:
        world.problem(f"an error that nobody took: {text}")
    facts = world.journal.row(world.journal.last_seq)
    world.journal.close()
    return Outcome(world.swarm.seed, tuple(world.problems), facts.hash if facts else "", world.counts)


@contextmanager
def limits_of(swarm: Swarm) -> Iterator[None]:
    """The broker's limits as the engine knows them: smaller ones where the swarm wants to meet them."""
    from copytrader.core import budget

    before = budget.PER_MINUTE, budget.PER_HOUR, budget.PER_DAY
    if "tight_limits" in swarm.extras:
        budget.PER_MINUTE, budget.PER_HOUR, budget.PER_DAY = (limit for _, limit in _TIGHT[1:])
    try:
        yield
    finally:
        budget.PER_MINUTE, budget.PER_HOUR, budget.PER_DAY = before
