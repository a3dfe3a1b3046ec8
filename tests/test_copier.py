"""The shell around the engine, over small honest brokers in virtual time: what it reads again, and what holds up whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from copytrader.account import Account
from copytrader.copier import Copier
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Command,
    Connected,
    Event,
    Halted,
    Modify,
    OrderSeen,
    Place,
    Source,
    Started,
    Stopped,
    Ticked,
    TokenRefused,
    Verb,
)
from copytrader.core.model import (
    IST,
    LEADER,
    Calendar,
    CopyRules,
    Desk,
    Funds,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Security,
    Session,
    Side,
)
from copytrader.dhan.answers import Outcome
from copytrader.dhan.bodies import Profile
from copytrader.dhan.broker import BrokerError
from copytrader.dhan.stream import Frame, LoggedIn, StreamEvent
from copytrader.failure import ExitCode, Failure
from copytrader.journal import Journal, JournalError
from copytrader.listening import wait_for
from tests.core.play import NIFTY, D, follower, instrument, ticket
from tests.simulation.loop import VirtualLoop

BEGAN = datetime(2026, 11, 23, 10, 0, tzinfo=IST)


class Bench:
    """One account that fills every order at once, and lets its book be read then."""

    holdings_problem = ""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.rows: dict[str, Order] = {}
        self.unseen: dict[str, Order] = {}
        self.net = 0
        self.lag = 0.0
        self.converted = 0
        self.money: int | None = 1_000_000
        self.funds_asked: list[datetime] = []
        self.fails = False
        self.belongs_to = ""
        self.ponders = 0.0
        self.filled: Callable[[], None] = lambda: None
        self._now = now

    async def orders(self) -> tuple[tuple[Order, ...], tuple[str, ...]]:
        return tuple(self.rows.values()), ()

    async def positions(self) -> tuple[Position, ...]:
        return self._positions(self._now() - timedelta(seconds=self.lag))

    def _positions(self, at: datetime) -> tuple[Position, ...]:
        """The position with what had filled by then; it is shown, as closed, also where it is none any more."""
        known = (*self.rows.values(), *self.unseen.values())
        rows = [row for row in known if row.ticket.security == NIFTY and row.filled_quantity]
        late = sum(row.filled_quantity * row.ticket.side.sign for row in rows if (row.updated_at or at) > at)
        told = [row for row in rows if (row.updated_at or at) <= at]
        if not (self.net - late or told):
            return ()
        traded = {side: sum(row.filled_quantity for row in told if row.ticket.side is side) for side in Side}
        traded[Side.BUY] = max(traded[Side.BUY] - self.converted, 0)
        return (
            Position(NIFTY, Product.INTRADAY, self.net - late, day_bought=traded[Side.BUY], day_sold=traded[Side.SELL]),
        )

    async def funds(self) -> Funds:
        self.funds_asked.append(self._now())
        if self.money is None:
            raise BrokerError("no answer")
        return Funds(D(self.money), D(self.money))

    async def find(self, _correlation_id: str) -> Order | None:
        return None

    async def profile(self) -> Profile:
        await asyncio.sleep(self.ponders)
        return Profile(self.belongs_to, None, ())

    def send(self, command: Command) -> Coroutine[Any, Any, Outcome]:
        if self.fails:
            raise RuntimeError("a mistake of our own")
        return self._fill(command)

    async def _fill(self, command: Command) -> Outcome:
        assert isinstance(command, Place)
        order_id, terms, at = f"F{len(self.rows)}", command.ticket, self._now()
        name = command.correlation_id
        self.rows[order_id] = Order(order_id, terms, OrderStatus.TRADED, at, at, terms.quantity, D(100), name)
        self.net += terms.side.sign * terms.quantity
        self.filled()
        return Accepted(at, command.account, name, Verb.PLACE, order_id)


class Stubborn(Bench):
    """Orders rest; a modification is accepted, and carried out only once it is `willing`."""

    willing = False

    async def _fill(self, command: Command) -> Outcome:
        at, name = self._now(), command.correlation_id
        if isinstance(command, Modify):
            if self.willing:
                row = self.rows[command.order_id]
                self.rows[command.order_id] = replace(row, ticket=command.ticket, updated_at=at)
            return Accepted(at, command.account, name, Verb.MODIFY, command.order_id)
        assert isinstance(command, Place)
        self.rows["F0"] = Order("F0", command.ticket, OrderStatus.PENDING, at, at, correlation_id=name)
        return Accepted(at, command.account, name, Verb.PLACE, "F0")


class Mute(Bench):
    """Its book cannot be read until it `speaks`."""

    speaks = False

    async def orders(self) -> tuple[tuple[Order, ...], tuple[str, ...]]:
        if not self.speaks:
            raise BrokerError("no answer")
        return await super().orders()


class Line:
    """A stream that logs in, and again whenever told."""

    def __init__(self) -> None:
        self._news: asyncio.Queue[StreamEvent] = asyncio.Queue()
        self.log_in()

    def log_in(self) -> None:
        self._news.put_nowait(LoggedIn())

    def tells(self, frame: str) -> None:
        self._news.put_nowait(Frame(frame))

    async def listen(self) -> AsyncIterator[StreamEvent]:
        while True:
            yield await self._news.get()

    def force_reconnect(self, _reason: str) -> None:
        self.log_in()


class Scene:
    """A copier at work, and what the leader does."""

    def __init__(self, loop: VirtualLoop, followers: tuple[str, ...], poll_seconds: float) -> None:
        self._loop = loop
        self.began = BEGAN
        desk = Desk("1000000001", tuple(map(follower, followers)), CopyRules(enforce_hours=False))
        self.brokers = {name: Bench(self.now) for name in (LEADER, *followers)}
        self.lines = {name: Line() for name in self.brokers}
        self.told: list[Event] = []
        self.journal = Journal.open(":memory:")
        self.copier = Copier(
            journal=self.journal,
            facts=(),
            desk=desk,
            accounts={
                name: Account(name, name, broker, self.lines[name]) for name, broker in self.brokers.items()
            },
            instrument=lambda _security: instrument(),
            now=self.now,
            poll_seconds=poll_seconds,
        )  # fmt: skip
        for name, broker in self.brokers.items():
            broker.filled = self.copier.accounts[name].poke.set
            broker.belongs_to = name
        self.copier.watch(lambda event, _decisions: self.told.append(event))

    def now(self) -> datetime:
        return self.began + timedelta(seconds=self._loop.time())

    def sees(self, order_id: str, side: Side, quantity: int, **changes: Any) -> Order:
        """Let the leader's market order be told of, and fill, on the stream."""
        terms = replace(ticket(side, quantity, "0", **changes), order_type=OrderType.MARKET)
        order = Order(order_id, terms, OrderStatus.PENDING, self.now(), self.now())
        self.copier.handle(OrderSeen(self.now(), LEADER, order, Source.STREAM))
        order = replace(order, status=OrderStatus.TRADED, filled_quantity=quantity, average_price=D(100))
        self.copier.handle(OrderSeen(self.now(), LEADER, order, Source.STREAM))
        return order

    def rests(self, order_id: str, **terms: Any) -> None:
        """Let the leader's resting order be told of, or changed."""
        order = Order(order_id, ticket(**terms), OrderStatus.MODIFIED, self.now(), self.now())
        self.copier.handle(OrderSeen(self.now(), LEADER, order, Source.STREAM))
        self.brokers[LEADER].rows[order_id] = replace(order, status=OrderStatus.PENDING)

    async def trades_ahead(self, order_id: str, side: Side, quantity: int, lag: float) -> None:
        """The leader's positions are read when they show a fill, and its book and stream do not yet."""
        leader, account = self.brokers[LEADER], self.copier.accounts[LEADER]
        terms = replace(ticket(side, quantity, "0"), order_type=OrderType.MARKET)
        leader.unseen[order_id] = Order(order_id, terms, OrderStatus.TRADED, self.now(), self.now(), quantity, D(100))
        leader.net += side.sign * quantity
        account.positions_at = None
        account.poke.set()
        await asyncio.sleep(lag)
        del leader.unseen[order_id]
        leader.rows[order_id] = self.sees(order_id, side, quantity)

    def trades(self, order_id: str, side: Side, quantity: int) -> None:
        """The same, and its book and position show it."""
        self.brokers[LEADER].rows[order_id] = self.sees(order_id, side, quantity)
        self.brokers[LEADER].net += side.sign * quantity


def played(
    story: Callable[[Scene], Coroutine[Any, Any, None]],
    *followers: str,
    poll_seconds: float = 5.0,
    before: Callable[[Scene], None] = lambda _scene: None,
) -> Scene:
    loop = VirtualLoop()  # type: ignore[abstract]

    async def play() -> Scene:
        scene = Scene(loop, followers or ("asha",), poll_seconds)
        with scene.journal:
            await rehearse(scene)
        return scene

    async def rehearse(scene: Scene) -> None:
        before(scene)
        await scene.copier.identity.check_tokens()
        stop = asyncio.Event()
        running = asyncio.ensure_future(scene.copier.run(stop))
        ready = asyncio.ensure_future(scene.copier.ready.wait())
        await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await story(scene)
        stop.set()
        await running

    return loop.run(play())


@pytest.mark.parametrize("lag", [2.5, 7])
def test_positions_that_lack_a_fill_of_the_book_are_waited_for_at_the_start(lag: float) -> None:
    """The leader bought a second before the start; taken for flat, its exit would be sold as an entry."""

    async def story(scene: Scene) -> None:
        await asyncio.sleep(38)
        scene.trades("L2", Side.SELL, 300)
        await asyncio.sleep(30)

    def bought(scene: Scene) -> None:
        leader = scene.brokers[LEADER]
        at, terms = scene.now() - timedelta(seconds=1), ticket(Side.BUY, 300)
        leader.rows["L1"] = Order("L1", terms, OrderStatus.TRADED, at, at, 300, D(100))
        leader.net, leader.lag = 300, lag

    scene = played(story, before=bought)

    assert scene.brokers["asha"].rows == {}, "nothing was held from copying"


def test_positions_that_lag_behind_a_fill_are_waited_for_at_a_reconnect_too() -> None:
    """The leader's stream breaks right after it got out; its positions were read long ago, and show the old ones."""

    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(120)
        scene.brokers[LEADER].lag = 2
        scene.trades("L2", Side.SELL, 300)
        await asyncio.sleep(0.2)
        scene.lines[LEADER].log_in()
        await asyncio.sleep(30)
        scene.trades("L3", Side.BUY, 300)
        await asyncio.sleep(5)
        scene.trades("L4", Side.SELL, 300)
        await asyncio.sleep(60)

    assert played(story).brokers["asha"].net == 0


@pytest.mark.parametrize("every", [5, 30, 55])
def test_a_start_does_not_wait_for_ever_for_positions_that_never_have_all_fills(every: int) -> None:
    """A part of the leader's day was converted to another product, and it goes on trading."""
    ready_at: list[float] = []

    async def story(scene: Scene) -> None:
        ready_at.append((scene.now() - BEGAN).total_seconds())

    def converted(scene: Scene) -> None:
        leader = scene.brokers[LEADER]
        leader.converted = 75

        async def trades() -> None:
            for number in range(100):
                at, side = scene.now(), Side.BUY if number % 2 else Side.SELL
                leader.rows[f"L{number}"] = Order(
                    f"L{number}", ticket(side, 75), OrderStatus.TRADED, at, at, 75, D(100)
                )
                leader.net += side.sign * 75
                await asyncio.sleep(every)

        scene.copier.start(trades())

    played(story, before=converted)

    assert ready_at[0] <= 20


def test_a_book_that_lacks_what_the_journal_has_is_said_to(caplog: pytest.LogCaptureFixture) -> None:
    """The broker has begun anew, as a simulator does that was reset: nothing can be copied, and it is said why."""

    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(10)
        scene.copier.state.accounts["asha"].ready = False
        scene.brokers["asha"].rows.clear()
        scene.copier.accounts["asha"].positions_at = None
        scene.copier.accounts["asha"].poke.set()
        await asyncio.sleep(10)

    played(story)

    assert (
        "asha: nothing is copied yet: order F0 has filled 150 today, and the broker's book does not have it"
        in caplog.text
    )


@pytest.mark.parametrize("lag", [1.5, 20])
def test_a_follower_s_positions_that_lack_its_own_fill_cut_no_exit_short(lag: float) -> None:
    async def story(scene: Scene) -> None:
        scene.brokers["asha"].lag = lag
        for number in range(20):
            scene.trades(f"L{number}", Side.BUY, 150)
            await asyncio.sleep(2)
        scene.trades("L99", Side.SELL, 3000)
        await asyncio.sleep(1)
        assert scene.brokers["asha"].net == 0

    played(story)


@pytest.mark.parametrize("lag", [0.1, 0.6, 1.5])
@pytest.mark.parametrize("held", [0, 300])
def test_a_fill_that_positions_show_before_its_order_is_known_counts_once(held: int, lag: float) -> None:
    async def story(scene: Scene) -> None:
        if held:
            scene.trades("L0", Side.BUY, held)
            await asyncio.sleep(40)
        await scene.trades_ahead("L1", Side.BUY, 300, lag)
        await asyncio.sleep(90)
        assert scene.brokers["asha"].net == (held + 300) // 2
        assert len(scene.brokers["asha"].rows) == (2 if held else 1)
        await scene.trades_ahead("L2", Side.SELL, held + 300, lag)
        await asyncio.sleep(90)

    scene = played(story)

    assert scene.brokers["asha"].net == 0
    assert len(scene.brokers["asha"].rows) == (3 if held else 2)


def test_a_position_that_no_order_of_the_book_has_made_counts_after_a_while() -> None:
    """As one that was converted, or made by an order that the book does not show; each time the same is no news."""

    async def story(scene: Scene) -> None:
        leader = scene.brokers[LEADER]
        order = Order("X", ticket(Side.BUY, 300), OrderStatus.TRADED, scene.now(), scene.now(), 300, D(100))
        leader.unseen["X"], leader.net = order, 300
        await asyncio.sleep(60)
        assert [holding.leader_net for holding in scene.copier.state.holdings.values()] == [300]
        account = scene.copier.accounts[LEADER]
        for _ in range(3):
            account.positions_at = None
            account.poke.set()
            await asyncio.sleep(1)
            assert account.positions_at is not None

    played(story)


@pytest.mark.parametrize("seconds", [3, 9])
def test_a_position_in_doubt_holds_no_other_up_and_ends_no_other_s_doubt(seconds: int) -> None:
    """Another contract was converted; then positions show a fill of this one before its order is known."""

    async def story(scene: Scene) -> None:
        scene.trades("L0", Side.BUY, 300)
        await asyncio.sleep(62)
        leader, account = scene.brokers[LEADER], scene.copier.accounts[LEADER]
        shown = leader.positions
        converted = Position(Security("NSE_FNO", "999"), Product.MARGIN, 75, day_bought=75)

        async def positions() -> tuple[Position, ...]:
            return (*await shown(), converted)

        leader.positions = positions  # type: ignore[method-assign]
        account.positions_at = None
        account.poke.set()
        await asyncio.sleep(seconds)
        await scene.trades_ahead("L1", Side.BUY, 300, 0.6)
        await asyncio.sleep(90)

    scene = played(story)

    assert scene.brokers["asha"].net == 300
    assert len(scene.brokers["asha"].rows) == 2
    assert sorted(holding.leader_net or 0 for holding in scene.copier.state.holdings.values()) == [75, 600]


@pytest.mark.parametrize("told", [2, 6, 60])
def test_an_order_that_the_book_tells_first_counts_beside_a_position_in_doubt(told: int) -> None:
    """The stream breaks; the leader buys by one order, and by another that only the positions show yet."""

    async def story(scene: Scene) -> None:
        await asyncio.sleep(62)
        leader, terms = scene.brokers[LEADER], replace(ticket(Side.BUY, 300, "0"), order_type=OrderType.MARKET)
        order = Order("L1", terms, OrderStatus.TRADED, scene.now(), scene.now(), 300, D(100))
        more = replace(order, order_id="L2", ticket=replace(terms, quantity=150), filled_quantity=150)
        leader.rows["L1"], leader.unseen["L2"], leader.net = order, more, 450
        scene.lines[LEADER].log_in()
        await asyncio.sleep(1.5)
        assert scene.brokers["asha"].net == 150
        await asyncio.sleep(told - 1.5)
        leader.rows["L2"] = leader.unseen.pop("L2")
        await asyncio.sleep(40)
        scene.trades("L3", Side.SELL, 450)
        await asyncio.sleep(40)
        assert leader.net == 0

    scene = played(story)

    assert scene.brokers["asha"].net == 0
    assert [row.ticket.side for row in scene.brokers["asha"].rows.values()][-1] is Side.SELL


def test_a_fill_that_positions_show_first_is_doubted_also_beside_a_conversion_and_a_new_fill() -> None:
    async def story(scene: Scene) -> None:
        leader = scene.brokers[LEADER]
        order = Order("X", ticket(Side.BUY, 75), OrderStatus.TRADED, scene.now(), scene.now(), 75, D(100))
        leader.unseen["X"], leader.net = order, 75
        await asyncio.sleep(55)
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(2)
        await scene.trades_ahead("L2", Side.BUY, 300, 2.5)
        await asyncio.sleep(60)
        assert [holding.leader_net for holding in scene.copier.state.holdings.values()] == [675]

    assert played(story).brokers["asha"].net == 300


def test_one_long_doubt_ends_no_other_of_the_day() -> None:
    """A part of the position was converted; once a fill is shown 12 s before it is told, and later one a moment before."""

    async def story(scene: Scene) -> None:
        leader = scene.brokers[LEADER]
        order = Order("X", ticket(Side.BUY, 75), OrderStatus.TRADED, scene.now(), scene.now(), 75, D(100))
        leader.unseen["X"], leader.net = order, 75
        await asyncio.sleep(55)
        await scene.trades_ahead("L1", Side.BUY, 300, 12)
        await asyncio.sleep(40)
        await scene.trades_ahead("L2", Side.BUY, 300, 0.6)
        await asyncio.sleep(3)
        scene.trades("L3", Side.SELL, leader.net)
        await asyncio.sleep(20)

    assert played(story).brokers["asha"].net == 0


@pytest.mark.parametrize("poll_seconds", [0, 1, 5])
def test_an_exit_that_only_the_positions_show_is_followed_soon_after_a_reconnect(poll_seconds: int) -> None:
    """They show more sold than the book has: that is waited for, but not until somebody reads them by chance."""

    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(66)
        leader = scene.brokers[LEADER]
        order = Order("X", ticket(Side.SELL, 300), OrderStatus.TRADED, scene.now(), scene.now(), 300, D(100))
        leader.unseen["X"], leader.net = order, 0
        scene.lines[LEADER].log_in()
        await asyncio.sleep(25)

    assert played(story, poll_seconds=poll_seconds).brokers["asha"].net == 0


def test_what_positions_hide_of_what_was_carried_is_looked_for_until_it_shows() -> None:
    """The broker shows nothing in the night, nor in the first seconds of the day; the leader gets out soon after."""
    opens = BEGAN.replace(second=0, microsecond=0) + timedelta(minutes=2)
    minute = opens.hour * 60 + opens.minute
    calendar = Calendar({"NSE_FNO": Session(minute, minute + 60)}, {}, (BEGAN.year,))

    async def story(scene: Scene) -> None:
        copier, asha = scene.copier, scene.brokers["asha"]
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(20)
        copier.desk = replace(copier.desk, rules=CopyRules(enforce_hours=True), calendar=calendar)
        copier.handle(Started(scene.now(), "", "", copier.desk))
        next(iter(copier.state.holdings.values())).shares["asha"].carried = 150
        shown = asha.positions

        async def positions() -> tuple[Position, ...]:
            return await shown() if scene.now() >= opens + timedelta(seconds=4) else ()

        asha.positions = positions  # type: ignore[method-assign]
        for account in copier.accounts.values():
            account.positions_at = None
            account.poke.set()
        await asyncio.sleep((opens - scene.now()).total_seconds() + 10)
        scene.trades("L2", Side.SELL, 300)
        await asyncio.sleep(1)
        assert asha.net == 0

    played(story)


def test_an_exit_that_only_the_positions_show_is_made_up_for() -> None:
    """The reading is the same as the one before the entry: what counts is what the engine knows."""

    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(10)
        assert scene.brokers["asha"].net == 150
        scene.brokers[LEADER].net = 0
        scene.lines[LEADER].log_in()
        await asyncio.sleep(30)

    assert played(story).brokers["asha"].net == 0


def test_the_leaders_positions_are_read_again_when_nothing_happens() -> None:
    """What they showed too little of is right again before the leader's exit, which must not open anything."""

    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(10)
        scene.brokers[LEADER].net = 0
        scene.lines[LEADER].log_in()
        await asyncio.sleep(20)
        assert scene.brokers["asha"].net == 0
        scene.brokers[LEADER].net = 300
        await asyncio.sleep(60)
        scene.trades("L2", Side.SELL, 300)
        await asyncio.sleep(60)

    assert played(story).brokers["asha"].net == 0


def test_a_lesser_position_is_read_again_though_no_book_is_polled() -> None:
    """Also where the first attempt to read it again fails, since the book is behind the stream for a while."""

    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(1)
        scene.brokers[LEADER].net = 0
        scene.lines[LEADER].log_in()
        while not any(holding.doubted is not None for holding in scene.copier.state.holdings.values()):
            await asyncio.sleep(0.01)
        late = scene.sees("L2", Side.BUY, 75, security=Security("NSE_FNO", "1"))
        await asyncio.sleep(3)
        scene.brokers[LEADER].rows["L2"] = late
        await asyncio.sleep(20)

    scene = played(story, poll_seconds=0)

    assert [row.ticket.side for row in scene.brokers["asha"].rows.values() if row.ticket.security == NIFTY] == [
        Side.BUY,
        Side.SELL,
    ]


def test_a_disclosed_quantity_that_no_frame_tells_makes_no_stream_silent() -> None:
    async def story(scene: Scene) -> None:
        scene.rests("L1", quantity=150)
        row = scene.brokers[LEADER].rows["L1"]
        scene.brokers[LEADER].rows["L1"] = replace(row, ticket=replace(row.ticket, disclosed_quantity=75))
        await asyncio.sleep(30)
        assert scene.copier.state.orders["L1"].known.ticket.disclosed_quantity == 75

    told = played(story).told
    assert len([event for event in told if isinstance(event, Connected) and event.account == LEADER]) == 1


def test_every_account_is_read_once_the_market_has_opened() -> None:
    """Where no book is polled, nothing else would: what the night showed does not count."""

    def opens_soon(scene: Scene) -> None:
        opens = BEGAN.hour * 60 + BEGAN.minute + 1
        scene.copier.desk = replace(
            scene.copier.desk,
            rules=CopyRules(enforce_hours=True),
            calendar=Calendar({"NSE_EQ": Session(opens, opens + 60)}, {}, (BEGAN.year,)),
        )

    async def story(scene: Scene) -> None:
        await asyncio.sleep(100)
        before = {name: account.last_book for name, account in scene.copier.accounts.items()}
        await asyncio.sleep(40)
        after = {name: account.last_book for name, account in scene.copier.accounts.items()}
        opened = BEGAN + timedelta(minutes=1)
        assert all(read is not None and read < opened for read in before.values())
        assert all(read is not None and read > opened + timedelta(minutes=1) for read in after.values())

    played(story, poll_seconds=0, before=opens_soon)


def test_positions_of_the_night_are_read_again_as_soon_as_the_market_has_opened() -> None:
    """An exit in the first seconds must not wait for them: a broker may show nothing before the opening."""
    opens = BEGAN.replace(second=0, microsecond=0) + timedelta(minutes=2)

    def opens_soon(scene: Scene) -> None:
        minute = opens.hour * 60 + opens.minute
        calendar = Calendar({"NSE_FNO": Session(minute, minute + 60)}, {}, (BEGAN.year,))
        scene.copier.desk = replace(scene.copier.desk, rules=CopyRules(enforce_hours=True), calendar=calendar)

    async def story(scene: Scene) -> None:
        scene.rests("L1", after_market=True)
        await asyncio.sleep((opens - scene.now()).total_seconds() - 12)
        for account in scene.copier.accounts.values():
            account.positions_at = scene.now()
        await asyncio.sleep(18)
        read = [account.positions_at for account in scene.copier.accounts.values()]
        assert all(at is not None and at >= opens for at in read)

    played(story, before=opens_soon)


def begins_at(clock: str) -> Callable[[Scene], None]:
    def sets(scene: Scene) -> None:
        scene.began = datetime.fromisoformat(f"{BEGAN.date()} {clock}").replace(tzinfo=IST)

    return sets


def test_the_day_turns_by_itself_and_positions_are_read_though_yesterday_s_orders_are_gone() -> None:
    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 150)
        await asyncio.sleep(55)
        assert scene.brokers["asha"].net == 75
        await asyncio.sleep(10)
        assert scene.now().date() == scene.copier.state.day
        for broker in scene.brokers.values():
            broker.rows.clear()
            broker.net = 0
        await asyncio.sleep(300)
        for account in scene.copier.accounts.values():
            assert account.positions_at is not None
            assert scene.now() - account.positions_at < timedelta(minutes=1)

    told = played(story, before=begins_at("23:58:59")).told
    assert len([event for event in told if isinstance(event, Ticked) and event.at.day != BEGAN.day]) == 1


def test_money_that_was_read_in_the_night_is_asked_for_again_shortly_before_the_opening() -> None:
    async def story(scene: Scene) -> None:
        asha = scene.brokers["asha"]
        asha.money = None
        await asyncio.sleep(200)
        assert scene.copier.state.accounts["asha"].funds == Funds(D(1_000_000), D(1_000_000)), "better than none"
        asha.money = 250_000
        await asyncio.sleep(200)
        assert scene.copier.state.accounts["asha"].funds == Funds(D(250_000), D(250_000))
        assert [f"{at:%H:%M}" for at in scene.brokers[LEADER].funds_asked] == ["08:43", "08:45"]

    played(story, before=begins_at("08:43:30"))


def test_a_row_that_never_changes_ends_the_doubt_about_an_order_s_terms() -> None:
    """Two modifications were accepted, of the first nothing was heard, the exchange refused the second."""

    async def story(scene: Scene) -> None:
        broker = scene.brokers["asha"] = scene.copier.accounts["asha"].broker = Stubborn(scene.now)
        scene.rests("L1")
        await asyncio.sleep(10)
        scene.rests("L1", price="101")
        await asyncio.sleep(1)
        scene.rests("L1", price="102")
        await asyncio.sleep(0.1)
        attempted = replace(broker.rows["F0"].ticket, price=D(102))
        refused = replace(
            broker.rows["F0"], ticket=attempted, status=OrderStatus.MOD_REJECTED, note="no", updated_at=scene.now()
        )
        scene.copier.handle(OrderSeen(scene.now(), "asha", refused, Source.STREAM))
        broker.willing = True
        await asyncio.sleep(30)
        scene.rests("L1", price="102", quantity=300)
        await asyncio.sleep(30)

    row = played(story).brokers["asha"].rows["F0"]

    assert (row.ticket.quantity, row.ticket.price) == (150, D(102))


def test_a_mistake_at_one_follower_holds_up_no_exit_of_another() -> None:
    scenes: list[Scene] = []

    async def story(scene: Scene) -> None:
        scenes.append(scene)
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(10)
        scene.brokers["asha"].fails = True

        async def frames() -> None:
            scene.trades("L2", Side.SELL, 300)

        scene.copier.start(frames())
        await asyncio.sleep(10)

    with pytest.raises(RuntimeError, match="a mistake of our own"):
        played(story, "asha", "ben")

    (scene,) = scenes
    assert (scene.brokers["asha"].net, scene.brokers["ben"].net) == (150, 0)
    assert any(isinstance(event, OrderSeen) and event.order.order_id == "L2" for event in scene.told)


@pytest.mark.parametrize("name", ["ct1-aaaaaaaaaaaaaaaaaaaaa", "ct2-aaaaaaaaaaaaaaaaaaaaa"])
def test_it_is_seen_whose_orders_a_late_account_has_before_anything_is_placed_there(name: str) -> None:
    mute: list[Mute] = []

    def late(scene: Scene) -> None:
        broker = Mute(scene.now)
        broker.belongs_to = "ben"
        scene.brokers["ben"] = scene.copier.accounts["ben"].broker = broker
        at = scene.now()
        broker.rows["F9"] = Order(
            "F9", ticket(quantity=75, price="50"), OrderStatus.PENDING, at, at, correlation_id=name
        )
        mute.append(broker)

    async def story(scene: Scene) -> None:
        scene.trades("L1", Side.BUY, 300)
        await asyncio.sleep(5)
        scene.trades("L2", Side.BUY, 150)
        mute[0].speaks = True
        await asyncio.sleep(10)
        scene.trades("L3", Side.BUY, 150)
        await asyncio.sleep(10)

    scene = played(story, "asha", "ben", before=late)

    assert scene.brokers["asha"].net == 300
    of_another = name.startswith("ct1-")
    first = next(event for event in scene.told if isinstance(event, Halted | BookRead) and event.account == "ben")
    assert isinstance(first, Halted) == of_another
    assert (list(mute[0].rows) == ["F9"]) == of_another


def another_s_token(seconds: float) -> Callable[[Scene], None]:
    """Ben's token is asha's, which the broker says after so long; with it, asha's book is read."""

    def before(scene: Scene) -> None:
        broker = scene.brokers["ben"]
        broker.belongs_to, broker.ponders, broker.rows = "asha", seconds, scene.brokers["asha"].rows

    return before


async def trades_for_a_while(scene: Scene) -> None:
    for number in range(10):
        scene.trades(f"L{number}", Side.BUY, 150)
        await asyncio.sleep(1)


def test_another_account_s_token_that_is_found_out_once_copying_has_begun_holds_back_its_account_alone() -> None:
    scene = played(trades_for_a_while, "asha", "ben", before=another_s_token(12))

    assert (scene.brokers["asha"].net, scene.brokers["ben"].net) == (750, 0)
    told = [type(event) for event in scene.told if getattr(event, "account", "") == "ben"]
    assert told == [Connected, TokenRefused], "nothing was read with it"


def test_another_account_s_token_that_is_found_out_before_that_ends_the_start() -> None:
    with pytest.raises(Failure, match=r"followers\.ben.access_token belongs to client asha, not to ben"):
        played(trades_for_a_while, "asha", "ben", before=another_s_token(8))


def test_what_ended_the_copying_is_told_though_its_end_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is that of the failure: with one of a full disk systemd would start it again."""
    record = Journal.record

    def full(journal: Journal, event: Event, *given: Any, **named: Any) -> tuple[int, ...]:
        if isinstance(event, Stopped):
            raise JournalError("the disk is full")
        return record(journal, event, *given, **named)

    def strays(scene: Scene) -> None:
        at, name = scene.now(), "ct1-aaaaaaaaaaaaaaaaaaaaa"
        stray = Order("F9", ticket(quantity=75, price="50"), OrderStatus.PENDING, at, at, correlation_id=name)
        scene.brokers["asha"].rows["F9"] = stray

    monkeypatch.setattr(Journal, "record", full)
    with pytest.raises(Failure, match="another copier may serve this account") as failed:
        played(trades_for_a_while, before=strays)

    assert failed.value.code is ExitCode.SAFETY


def test_a_task_that_waits_can_be_stopped_in_the_moment_in_which_its_wait_ends() -> None:
    async def story() -> bool:
        event = asyncio.Event()
        waiting = asyncio.ensure_future(wait_for(event, 10))
        await asyncio.sleep(0)
        event.set()
        waiting.cancel()
        await asyncio.wait({waiting})
        return waiting.cancelled()

    assert asyncio.run(story())


def test_nothing_is_taken_in_after_an_event_could_not_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for a moment: the state knows an event that the journal does not, and must not go on."""
    refused: list[str] = []

    async def story(scene: Scene) -> None:
        record = Journal.record

        def fails_once(*given: Any, **named: Any) -> tuple[int, ...]:
            monkeypatch.setattr(Journal, "record", record)
            raise JournalError("the disk is full")

        monkeypatch.setattr(Journal, "record", fails_once)
        for name in ("L1", "L2"):
            try:
                scene.trades(name, Side.BUY, 75)
            except JournalError:
                refused.append(name)
        assert not scene.brokers["asha"].rows

    with pytest.raises(JournalError, match="the disk is full"):
        played(story)

    assert refused == ["L1", "L2"]


def test_a_journal_that_has_lost_its_place_ends_the_copying(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(scene: Scene) -> None:
        def lost(_journal: Journal) -> None:
            raise JournalError("the journal was moved")

        monkeypatch.setattr(Journal, "require_in_place", lost)
        await asyncio.sleep(1)
        with pytest.raises(JournalError, match="was moved"):
            scene.trades("L1", Side.BUY, 75)
        assert not scene.brokers["asha"].rows

    with pytest.raises(JournalError, match="was moved"):
        played(story)
