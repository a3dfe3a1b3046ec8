"""The whole thing on this machine: a leader trades at the simulator, two followers are copied, a judge compares.

What copies is the session that `follow` runs, over real sockets.  What judges is the simulator's
book and ledger: a copy is found there by its correlation id, which anybody can compute,
and is held against the leader's order beside it.  Our own journal is asked for one thing
only, why something was not copied.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from copytrader import narrate, session
from copytrader.config import load
from copytrader.copier import Copier, Watcher
from copytrader.core.facts import Decision, Event, Skip
from copytrader.core.model import LEADER
from copytrader.core.names import correlation_id
from copytrader.failure import Failure
from copytrader.simulator import LEADER_ID, BookOrder, Exchange, client_ids, options_desk, token_of
from copytrader.simulator.model import TRANSIT
from copytrader.simulator.server import base_url, serve
from copytrader.simulator.world import now

FOLLOWERS = {"asha": Decimal("0.5"), "ravi": Decimal(1)}
"""Who follows, by which ratio."""
CLIENTS = dict(zip((LEADER, *FOLLOWERS), client_ids(len(FOLLOWERS)), strict=True))
PACE = 0.6
"""Seconds between the leader's actions, so that one can read along."""
_LOOK_EVERY, _LOOKS = 0.01, 500
_PAISA = Decimal("0.01")
_CALL, _PUT, _FAR_CALL = ("NSE_FNO", "40001"), ("NSE_FNO", "40002"), ("NSE_FNO", "40103")
_CONFIG = """\
# Written by `copytrader demo`: made-up accounts at a simulator that ran while the demo did.
journal = "copytrader.db"

[dhan]
api_url          = "{url}/v2"
auth_url         = "{url}/auth"
order_update_url = "{stream}"
instruments_url  = "{url}/api-data/api-scrip-master-detailed.csv"

[leader]
client_id    = "{leader}"
access_token = "{leader_token}"

[copy]
market_hours = "off"     # the simulator never closes
poll_seconds = 1

[followers.asha]
client_id    = "{asha}"
access_token = "{asha_token}"

[followers.asha.sizing]
ratio = 0.5              # half the leader's lots, rounded down; the rest is carried to the next entry

[followers.asha.limits]
max_order_lots = 20

[followers.ravi]
client_id    = "{ravi}"
access_token = "{ravi_token}"

[followers.ravi.sizing]
ratio = 1

[followers.ravi.limits]
max_order_lots = 10      # a larger entry is skipped, with the reason
"""

_OF_AN_ORDER = (
    "order_id",
    "quantity",
    "order_type",
    "price",
    "trigger_price",
    "status",
    "filled_quantity",
    "average_price",
    "reason",
    "detail",
)

Say = Callable[[str], None]
Row = dict[str, object]


@dataclass(slots=True)
class Play:
    """One order of the leader, and how many lots of it each follower should get."""

    number: int
    order_id: str
    lots: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """What each account did, and every way in which they differ from what they should have."""

    orders: Sequence[Row]
    positions: Sequence[Row]
    differences: Sequence[str]

    @property
    def agree(self) -> bool:
        return not self.differences


async def run(folder: Path, say: Say, pace: float = PACE) -> Report:
    """Copy a scripted session; the configuration and the journal stay in the folder."""
    exchange = options_desk(now, len(FOLLOWERS))
    runner = await serve("127.0.0.1", 0, exchange)
    try:
        url = base_url(runner)
        config = load(write_config(folder, url), {})
        say(f"a simulated Dhan serves {url}: no account is needed, nothing leaves this machine")
        say(f"the configuration and the journal are in {folder}")
        judge = Judge(exchange)
        copying = asyncio.Event()
        stop = asyncio.Event()
        watch = _watching(say, judge.skips, copying)
        follow = asyncio.ensure_future(session.run(config, session.Options(), say, watch, stop))
        script = asyncio.ensure_future(_Leader(exchange, judge, say, pace).trade(copying))
        try:
            await _both(follow, script, stop)
        finally:
            script.cancel()
            with suppress(asyncio.CancelledError):
                await script
        return judge.report()
    finally:
        await runner.cleanup()


def write_config(folder: Path, url: str) -> Path:
    """Write the demonstration's configuration, readable by its owner alone."""
    path = folder / "copytrader.toml"
    names = CLIENTS | {f"{name}_token": token_of(client_id) for name, client_id in CLIENTS.items()}
    text = _CONFIG.format(url=url, stream=url.replace("http://", "ws://", 1), **names)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


async def _both(follow: asyncio.Future[None], script: asyncio.Future[None], stop: asyncio.Event) -> None:
    """Let the leader trade while the followers are copied; whichever ends first ends the other."""
    await asyncio.wait((follow, script), return_when=asyncio.FIRST_COMPLETED)
    stopped_early = not script.done()
    stop.set()
    await follow
    if stopped_early:
        raise Failure("interrupted before the leader had finished")
    script.result()


def _watching(say: Say, skips: list[Skip], copying: asyncio.Event) -> Callable[[Copier], Watcher]:
    """Tell each event as `follow` does, keep what was skipped, and say when copying has begun."""

    def watch(copier: Copier) -> Watcher:
        def tell(event: Event, decisions: Sequence[Decision]) -> None:
            skips.extend(decision for decision in decisions if isinstance(decision, Skip))
            for text in narrate.lines(event, decisions, copier.state):
                say(f"{event.at:%H:%M:%S} {text}")

        waiting = asyncio.ensure_future(copier.ready.wait())
        waiting.add_done_callback(lambda _: copying.set())
        return tell

    return watch


class _Leader:
    """The leader's session, order by order; each action waits until the one before has been copied."""

    def __init__(self, exchange: Exchange, judge: Judge, say: Say, pace: float) -> None:
        self._exchange = exchange
        self._trader = exchange.leader(LEADER_ID)
        self._judge = judge
        self._say = say
        self._pace = pace

    async def trade(self, copying: asyncio.Event) -> None:
        await copying.wait()
        await self._round_trip()
        await self._partial_fill()
        await self._held_back()

    async def _round_trip(self) -> None:
        """Entry, change of mind, second entry, stop loss, trigger."""
        self._tell("The leader bids for 3 lots; asha's half is 1.5: one lot now, half a lot is carried")
        entry = self._place(_CALL, "BUY", 3, {"asha": 1, "ravi": 3}, "LIMIT", "105")
        await self._copied()
        self._tell("The limit is raised")
        self._trader.modify(entry, price=Decimal(107))
        await self._copied()
        self._tell("The market comes down to it: everybody is filled")
        self._exchange.set_price(*_CALL, Decimal("106.80"))
        await self._copied()
        self._tell("One lot more, at the market: asha's carried half makes it a whole lot")
        self._place(_CALL, "BUY", 1, {"asha": 1, "ravi": 1})
        await self._copied()
        self._tell("A stop loss for all of it: an exit, copied as the fraction that it closes")
        self._place(_CALL, "SELL", 4, {"asha": 2, "ravi": 4}, "STOP_LOSS", "98.50", "99.90")
        await self._copied()
        self._tell("The market falls and triggers it: everybody is flat")
        self._exchange.set_price(*_CALL, Decimal("99.50"))
        await self._copied()

    async def _partial_fill(self) -> None:
        self._tell("A bid for 4 lots of the put")
        entry = self._place(_PUT, "BUY", 4, {"asha": 2, "ravi": 4}, "LIMIT", "118")
        await self._copied()
        self._tell("Half of it is filled")
        for order in [self._exchange.orders[entry], *self._judge.copies(self._judge.plays[-1]).values()]:
            self._exchange.fill(order.order_id, order.terms.quantity // 2)
        await self._copied()
        self._tell("The rest is cancelled")
        self._trader.cancel(entry)
        await self._copied()
        self._tell("The leader gets out at the market: everybody is flat again")
        self._place(_PUT, "SELL", 2, {"asha": 1, "ravi": 2})
        await self._copied()

    async def _held_back(self) -> None:
        """What is not copied, and why."""
        self._tell("A bid for 12 lots: ravi's limit is 10, so nothing is copied there, and the reason is said")
        entry = self._place(_PUT, "BUY", 12, {"asha": 6, "ravi": 0}, "LIMIT", "112")
        await self._copied()
        self._tell("The bid is withdrawn")
        self._trader.cancel(entry)
        await self._copied()
        self._tell("One lot of another option: asha's half is no whole lot, and nothing is ever rounded up")
        self._place(_FAR_CALL, "BUY", 1, {"asha": 0, "ravi": 1})
        await self._copied()
        self._tell("The leader sells it: asha has nothing of it to sell")
        self._place(_FAR_CALL, "SELL", 1, {"asha": 0, "ravi": 1})
        await self._copied()

    def _tell(self, text: str) -> None:
        self._say(f"\n{text}.")

    def _place(
        self,
        security: tuple[str, str],
        side: str,
        lots: int,
        copies: Mapping[str, int],
        order_type: str = "MARKET",
        price: str = "0",
        trigger_price: str = "0",
    ) -> str:
        quantity = lots * self._exchange.instruments[security].lot_size
        order_id = self._trader.place(*security, side, quantity, order_type, Decimal(price), Decimal(trigger_price))
        self._judge.plays.append(Play(len(self._judge.plays) + 1, order_id, copies))
        return order_id

    async def _copied(self) -> None:
        """Wait until every account has what it should, but not for ever: the judge will tell what is missing."""
        for _ in range(_LOOKS):
            if not any(self._judge.differences()):
                break
            await asyncio.sleep(_LOOK_EVERY)
        await asyncio.sleep(self._pace)


class Judge:
    """Holds the followers' orders at the broker against the leader's."""

    def __init__(self, exchange: Exchange) -> None:
        self.plays: list[Play] = []
        self.skips: list[Skip] = []
        self._exchange = exchange

    def copies(self, play: Play) -> dict[str, BookOrder]:
        """Return each follower's order that copies this one, as the broker's book has it."""
        found = {name: self._copy(play, name) for name in FOLLOWERS}
        return {name: order for name, order in found.items() if order is not None}

    def _copy(self, play: Play, name: str) -> BookOrder | None:
        day = self._exchange.orders[play.order_id].created_at.date()
        wanted = correlation_id(LEADER_ID, day, play.order_id, CLIENTS[name])
        return next((order for order in self._book(name) if order.correlation_id == wanted), None)

    def _book(self, name: str) -> list[BookOrder]:
        return self._exchange.book(CLIENTS[name])

    def differences(self) -> Iterator[str]:
        """Yield a line for each way in which the accounts are not as they should be now."""
        for play in self.plays:
            for name, lots in play.lots.items():
                yield from self._compare(play, name, lots)
        for name in FOLLOWERS:
            yield from self._strangers(name)
        for violation in self._exchange.violations:
            yield f"a request that nobody should send: {violation.method} {violation.path}, {violation.reason}"

    def _compare(self, play: Play, name: str, lots: int) -> Iterator[str]:
        leader, copy = self._exchange.orders[play.order_id], self._copy(play, name)
        what = f"order {play.number}, {name}"
        if copy is None:
            if lots:
                yield f"{what}: not copied"
            elif self._skip(play, name) is None:
                yield f"{what}: neither copied nor skipped with a reason"
            return
        if copy.status == TRANSIT:
            yield f"{what}: is still on its way to the exchange"
        wanted = lots * leader.instrument.lot_size
        if copy.terms.quantity != wanted:
            yield f"{what}: has {copy.terms.quantity}, not {wanted}"
        if copy.is_open != leader.is_open:
            yield f"{what}: is {copy.status}, the leader's is {leader.status}"
        if copy.filled * leader.terms.quantity != leader.filled * copy.terms.quantity:
            yield f"{what}: filled {copy.filled} of {copy.terms.quantity}, not in the leader's proportion"
        if leader.terms.order_type != "MARKET" and _price(copy) != _price(leader):
            yield f"{what}: {' '.join(map(str, _price(copy)))}, the leader's {' '.join(map(str, _price(leader)))}"

    def _strangers(self, name: str) -> Iterator[str]:
        """Orders that no order of the leader explains, and orders placed twice."""
        known = {order.order_id for play in self.plays if (order := self._copy(play, name)) is not None}
        for order in self._book(name):
            if order.order_id not in known:
                yield f"{name}: order {order.order_id} copies nothing"
        for name_of_order, times in Counter(order.correlation_id for order in self._book(name)).items():
            if times > 1:
                yield f"{name}: {name_of_order} was placed {times} times"

    def _skip(self, play: Play, name: str) -> Skip | None:
        fitting = (skip for skip in self.skips if (skip.account, skip.leader_order_id) == (name, play.order_id))
        return next(fitting, None)

    def report(self) -> Report:
        """Return everything side by side, and what differs at the end: positions too."""
        positions = list(self._positions())
        open_still = [
            f"{name}: holds {row[name]} of {row['symbol']}, the leader is flat"
            for row in positions
            for name in FOLLOWERS
            if row["leader"] == 0 and row[name] != 0
        ]
        rows = [row for play in self.plays for row in self._rows(play)]
        return Report(rows, positions, [*self.differences(), *open_still])

    def _rows(self, play: Play) -> Iterator[Row]:
        leader = self._exchange.orders[play.order_id]
        yield self._row(play, LEADER, leader)
        copies = self.copies(play)
        for name in FOLLOWERS:
            if name in copies:
                yield self._row(play, name, copies[name])
            else:
                yield self._row(play, name, None) | _why(self._skip(play, name))

    def _row(self, play: Play, account: str, order: BookOrder | None) -> Row:
        leader = self._exchange.orders[play.order_id]
        row: Row = {
            "number": play.number,
            "leader_order_id": play.order_id,
            "account": account,
            "symbol": leader.instrument.symbol,
            "option": f"{leader.instrument.strike} {leader.instrument.option_type}",
            "side": leader.side,
        }
        return row | (dict.fromkeys(_OF_AN_ORDER) if order is None else self._standing(order))

    def _standing(self, order: BookOrder) -> Row:
        """Return an order with its terms as last asked for: the book makes a limit of a triggered stop loss."""
        told = self._exchange.ledger.where(order_id=order.order_id)
        asked = [row for row in told if row.kind in ("accepted", "modified")][-1]
        return {
            "order_id": order.order_id,
            "quantity": asked.quantity,
            "order_type": asked.order_type,
            "price": _rupees(asked.price),
            "trigger_price": _rupees(asked.trigger_price),
            "status": order.status,
            "filled_quantity": order.filled,
            "average_price": _rupees(order.average),
            "reason": None,
            "detail": None,
        }

    def _positions(self) -> Iterator[Row]:
        nets = {name: self._exchange.nets(client_id) for name, client_id in CLIENTS.items()}
        for key in dict.fromkeys(key for held in nets.values() for key in held):
            instrument = self._exchange.instruments[key[0]]
            row: Row = {"symbol": instrument.symbol}
            row |= {name: held[key].quantity if key in held else 0 for name, held in nets.items()}
            row |= {
                f"{name}_realized": held[key].realized.quantize(_PAISA) if key in held else None
                for name, held in nets.items()
            }
            yield row


def _price(order: BookOrder) -> tuple[str, Decimal, Decimal]:
    return order.terms.order_type, order.terms.price, order.terms.trigger_price


def _rupees(amount: Decimal) -> Decimal | None:
    """Return an amount to the paisa; none where nought means that there is none."""
    return amount.quantize(_PAISA) if amount else None


def _why(skip: Skip | None) -> Row:
    if skip is None:
        return {"status": "MISSING"}
    return {"status": "not copied", "reason": skip.reason.value, "detail": skip.detail}
