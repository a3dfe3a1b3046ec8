"""Random sessions: a leader in a hurry, its followers, their brokers and a slow, lossy network.

Everything follows from one seed.  The engine is driven as the copier drives it: commands
leave after they are decided, answers and frames come back each in its own time, books are
read now and then and tell only the rows that changed.  The judge looks at the brokers'
ledgers, never at the engine's state.

What a follower may hold is judged three times.

*When a command is decided*, against what the engine had been told by then: an exit at
market (and every sweep) is no larger than what is held and not yet being closed at market; a
resting exit is no larger than what is held plus what working entries may add, for a
leader's stop loss and target each cover the whole position; the opening part of an order
through zero comes on top.

*At each fill*, against all that asynchrony can explain: what was held, or due, when the books were last
settled, plus the ratio times all that the leader has bought (minus all that it has sold), or had
working, since; plus one lot.

*When everything has settled* (time has passed, whatever trades at once has traded, the books are read): no
more than the ratio times what the leader holds or has working, plus one lot (two, once the leader has got
out of a part: what was carried before it, and the rounding of the exit); never on the other side than the
leader, except by the part of the leader's working orders that goes through zero; no open copy of a
leader order that died; flat, with nothing open, when the leader is flat with nothing working.

Where late exits are off, the ratio times what the leader got out of, and the engine was told of more than
`max_age_seconds` later, may stay beside that, until the leader gets out of the rest: what is told in time takes the
same part of it.  A session in which nothing is told so late ends as any other.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from copytrader.core.copies import Key
from copytrader.core.engine import recall, step
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Cancel,
    Command,
    Decision,
    Event,
    Fact,
    InstrumentRead,
    Modify,
    NotFound,
    NotSent,
    OrderSeen,
    Place,
    Refused,
    Role,
    Sized,
    Skip,
    Source,
    Started,
    Throttled,
    Ticked,
    Unanswered,
    Verb,
)
from copytrader.core.in_force import contradicts
from copytrader.core.model import (
    LEADER,
    CopyRules,
    Desk,
    Follower,
    Instrument,
    LateExits,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    RefusalClass,
    Security,
    Side,
    Sizing,
    SkipReason,
    Ticket,
    Validity,
)
from copytrader.core.state import State
from tests.core.play import START

D = Decimal
RATIOS = ("0.1", "0.25", "0.3", "0.5", "0.5", "0.7", "1", "1", "1.5", "2", "3")
ROWS = (
    Instrument(Security("NSE_FNO", "45463"), "NIFTY-Dec2026-24000-PE", 75, D("0.05"), 1800, 1, "NIFTY", "OPTIDX"),
    Instrument(Security("NSE_FNO", "51001"), "BANKNIFTY-Dec2026-FUT", 30, D("0.2"), 150, 1, "BANKNIFTY", "FUTIDX"),
    Instrument(Security("NSE_EQ", "2885"), "RELIANCE", 1, D("0.1"), 0, 1, "RELIANCE", "EQUITY"),
)
_VERBS = {Place: Verb.PLACE, Modify: Verb.MODIFY, Cancel: Verb.CANCEL}


@dataclass(slots=True)
class Chances:
    """What may go wrong, and how often; drawn anew for each session, so that each has a character of its own."""

    refused: float = 0.0
    rejected: float = 0.0
    answer_lost: float = 0.0
    request_lost: float = 0.0
    throttled: float = 0.0
    not_sent: float = 0.0
    modify_refused: float = 0.0
    in_transit: float = 0.0
    cancelled_by_broker: float = 0.0
    rests: float = 0.0
    parts: float = 0.0
    ahead: float = 0.0
    behind: float = 0.0
    frame_lost: float = 0.0
    frame_twice: float = 0.0
    frame_late: float = 0.0
    restarted: float = 0.0

    @classmethod
    def drawn(cls, random: Random) -> Chances:
        values = {each.name: random.choice((0.0, 0.0, 0.05, 0.2)) for each in fields(cls)}
        return cls(**values)


@dataclass(slots=True)
class Live:
    """An order at a broker."""

    order_id: str
    account: str
    ticket: Ticket
    placed: datetime
    updated: datetime
    correlation_id: str = ""
    leader_order_id: str = ""
    role: Role | None = None
    sweep: bool = False
    status: OrderStatus = OrderStatus.PENDING
    filled: int = 0
    arrived: bool = True
    told: int = 0
    told_ended: bool = False
    asked: int = 0
    note: str = ""
    refusal: RefusalClass | None = None

    @property
    def key(self) -> Key:
        return Key(self.ticket.security, self.ticket.product)

    @property
    def sign(self) -> int:
        return self.ticket.side.sign

    @property
    def is_open(self) -> bool:
        return self.arrived and not self.status.is_terminal

    @property
    def remaining(self) -> int:
        return self.ticket.quantity - self.filled if self.is_open else 0

    @property
    def at_once(self) -> bool:
        return self.ticket.order_type is OrderType.MARKET or self.ticket.validity is Validity.IOC

    def seen(self, status: OrderStatus | None = None) -> Order:
        return Order(
            self.order_id,
            self.ticket,
            status or self.status,
            self.placed,
            self.updated,
            self.filled,
            self.ticket.price or D(100) if self.filled else D(0),
            self.correlation_id,
            last_price=D(100),
            note=self.note,
            refusal=self.refusal,
        )


class World:
    """One session.

    With the chance `silence`, nothing that the leader does in a phase is told by frames: the book has all of it at
    once.  Where late exits are off, that may be a while later.
    """

    def __init__(
        self,
        seed: int | Random,
        chances: Chances | None = None,
        *,
        followers: int = 0,
        acts: int = 0,
        silence: float = 0.0,
        late_exits: LateExits = LateExits.MARKET,
    ) -> None:
        self.rules = CopyRules(enforce_hours=False, late_exits=late_exits)
        self.random = random = seed if isinstance(seed, Random) else Random(seed)
        self.chances = chances if chances is not None else Chances.drawn(random)
        self.phases = random.randint(1, 4)
        self.acts = acts or random.randint(1, 5)
        count = followers or random.choice((1, 1, 1, 2, 2, 3, 5))
        self.followers = tuple(
            Follower(f"f{each}", f"200000000{each}", Sizing(ratio=D(random.choice(RATIOS)))) for each in range(count)
        )
        self.rows = random.sample(ROWS, random.choice((1, 1, 1, 2)))
        self.keys = [Key(row.security, random.choice((Product.INTRADAY, Product.MARGIN))) for row in self.rows]
        self.lots = {key: row.lot_size for key, row in zip(self.keys, self.rows, strict=True)}
        self.seconds = 0.0
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.pushed = 0
        self.state = State()
        self.facts: list[tuple[Fact, datetime]] = []
        self.leader: dict[str, Live] = {}
        self.orders: dict[str, Live] = {}
        self.by_name: dict[str, Live] = {}
        self.net = dict.fromkeys(self.keys, 0)
        self.held = {(each.name, key): 0 for each in self.followers for key in self.keys}
        self.shown: dict[tuple[str, str], Order] = {}
        self.sized: dict[tuple[str, str], int] = {}
        self.refused_places: dict[tuple[str, str], list[Ticket]] = {}
        self.failures: dict[str, int] = {}
        self.asking: set[str] = set()
        self.before: dict[tuple[str, Key], tuple[Decimal, Decimal]] = {}
        self.got_out: set[Key] = set()
        self.worked: dict[tuple[Key, int], int] = {}
        self.news = 0
        self.modified: dict[str, list[tuple[int, int]]] = {}
        self.at_market: set[str] = set()
        self.seed, self.silence, self.silent = seed, silence, False
        self.numbered = 0
        for key in self.keys:
            if random.random() < 0.15:
                self.net[key] = random.choice((-4, -2, 2, 4, 10)) * self.lots[key]
        self.told_net = dict(self.net)
        self.left_late = dict.fromkeys(self.keys, D(0))
        self._begin_window()

    # --- time and the process ----------------------------------------------------------

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def later(self, delay: float, act: Callable[[], None]) -> None:
        self.pushed += 1
        heapq.heappush(self.heap, (self.seconds + delay, self.pushed, act))

    def passes(self, seconds: float) -> None:
        end = self.seconds + seconds
        while True:
            message = self.heap[0][0] if self.heap else end + 1
            wake = self.state.next_wake
            tick = (wake - START).total_seconds() if wake is not None else end + 1
            if min(message, tick) > end:
                break
            if tick < message:
                self.seconds = max(self.seconds, tick)
                self.handle(Ticked(self.now))
            else:
                self.seconds = max(self.seconds, message)
                heapq.heappop(self.heap)[2]()
        self.seconds = end

    def starts(self) -> None:
        self.handle(Started(self.now, "test", "", Desk("1000000001", self.followers, self.rules)))
        for row in self.rows:
            self.handle(InstrumentRead(self.now, row))
        self.shown.clear()
        self.reads_books()

    def restarts(self) -> None:
        """Kill the process: what was recorded is all that is left, and what was under way goes on at the broker."""
        self.state = recall(self.facts)
        self.asking.clear()
        self.starts()
        self._looks_up()

    def handle(self, event: Event) -> None:
        self.facts.append((event, event.at))
        self._tell_judge(event)
        self.state, decisions = step(self.state, event)
        for decision in decisions:
            self.facts.append((decision, event.at))
            self._decided(decision)
        for account in sorted(self.state.ask_books - self.asking):
            self.asking.add(account)
            self.later(0.05 + self.random.random() / 5, lambda account=account: self._asked_book(account))  # type: ignore[misc]
        self.state.ask_books.clear()

    def _asked_book(self, account: str) -> None:
        self.asking.discard(account)
        self.reads_book(account)

    def _decided(self, decision: Decision) -> None:
        if isinstance(decision, Skip) and decision.reason is SkipReason.ABSENT:
            self.by_name[decision.correlation_id].told_ended = True
        elif isinstance(decision, Sized):
            self.sized[decision.account, decision.leader_order_id] = decision.lots
        elif isinstance(decision, Place | Modify | Cancel):
            self.judge_command(decision)
            if isinstance(decision, Place):
                self._sends(decision)
            self.later(self.random.random() * 0.2, lambda: self.broker_receives(decision))

    def _sends(self, place: Place) -> None:
        assert place.correlation_id not in self.by_name, f"I1: one name, two orders: {place}"
        self.numbered += 1
        live = Live(f"F{self.numbered}", place.account, place.ticket, self.now, self._second(), place.correlation_id)
        live.leader_order_id, live.role, live.sweep = place.leader_order_id, place.role, place.sweep
        live.arrived, live.asked = False, place.ticket.quantity
        self.orders[live.order_id] = live
        self.by_name[place.correlation_id] = live

    # --- books and look-ups --------------------------------------------------------------

    def reads_books(self) -> None:
        for each in self.followers:
            self.reads_book(each.name)
        self.reads_book(LEADER)

    def reads_book(self, account: str) -> None:
        ours = self.leader if account == LEADER else self.orders
        rows = []
        for live in ours.values():
            row = live.seen()
            if not (live.arrived and live.account == account):
                continue
            if self.shown.get((account, live.order_id)) != row or self._is_odd(live, row):
                self.shown[account, live.order_id] = row
                rows.append(row)
        nets = self.net if account == LEADER else {key: self.held[account, key] for key in self.keys}
        positions = tuple(Position(key.security, key.product, net) for key, net in nets.items() if net)
        self.handle(BookRead(self.now, account, tuple(rows), positions))

    def _is_odd(self, live: Live, row: Order) -> bool:
        """Whether the copier would give the engine an unchanged row again."""
        piece = self.state.by_order_id.get((live.account, live.order_id))
        return piece is not None and piece.is_open and (piece.is_doubtful or contradicts(piece, row))

    def _looks_up(self) -> None:
        for piece in self.state.unknowns():
            self.later(0.5, lambda piece=piece: self._look_up(piece.follower, piece.correlation_id, 0.5))  # type: ignore[misc]

    def _look_up(self, account: str, name: str, pause: float) -> None:
        if all(name != piece.correlation_id for piece in self.state.unknowns()):
            return
        live = self.by_name[name]
        if live.arrived:
            self.handle(OrderSeen(self.now, account, live.seen(), Source.LOOKUP))
        else:
            self.handle(NotFound(self.now, account, name))
        pause = min(pause * 2, 30)
        self.later(pause, lambda: self._look_up(account, name, pause))

    # --- the network -----------------------------------------------------------------------

    def tell(self, live: Live, status: OrderStatus | None = None) -> None:
        """Send a frame, which may be lost, doubled or late."""
        chances, random = self.chances, self.random
        if self.silent and live.account == LEADER:
            return
        if random.random() < chances.frame_lost:
            return
        order = live.seen(status)
        for _ in range(2 if random.random() < chances.frame_twice else 1):
            delay = random.random() * (3 if random.random() < chances.frame_late else 0.1)
            self.later(delay, lambda: self.handle(OrderSeen(self.now, live.account, order, Source.STREAM)))

    def answer(self, event: Callable[[datetime], Event]) -> None:
        self.later(self.random.random() * 0.2, lambda: self.handle(event(self.now)))

    # --- the followers' broker ---------------------------------------------------------------

    def broker_receives(self, command: Command) -> None:
        random, chances = self.random, self.chances
        account, name, verb = command.account, command.correlation_id, _VERBS[type(command)]
        luck = random.random()
        if luck < chances.not_sent / 2:
            self.answer(lambda at: NotSent(at, account, name, verb))
            return
        luck = random.random()
        if luck < chances.throttled / 2:
            self.answer(lambda at: Throttled(at, account, name, verb))
            return
        lost = random.random() < chances.answer_lost / 2
        if self._may_fail(command) and random.random() < chances.request_lost / 2:
            self._count_failure(command)
            self._unanswered(account, name, verb)
            return
        said = self._carried_out(command)
        if lost:
            self._unanswered(account, name, verb)
        elif isinstance(said, Refused):
            refusal = said
            self.answer(lambda at: replace(refusal, at=at))
        else:
            order_id = said
            self.answer(lambda at: Accepted(at, account, name, verb, order_id))

    def _unanswered(self, account: str, name: str, verb: Verb) -> None:
        self.answer(lambda at: Unanswered(at, account, name, verb))
        if verb is Verb.PLACE:
            self.later(1.0, lambda: self._look_up(account, name, 0.5))

    def _carried_out(self, command: Command) -> str | Refused:
        if isinstance(command, Place):
            return self._takes(command)
        live = self.orders[command.order_id]
        if isinstance(command, Modify):
            return self._changes(live, command)
        if live.is_open and self.random.random() < self.chances.in_transit:
            return self._no(command, RefusalClass.TRANSIT)
        if not live.is_open:
            self.tell(live)
            return self._no(command, RefusalClass.ENDED)
        self._becomes(live, OrderStatus.CANCELLED)
        return live.order_id

    def _no(self, command: Command, refusal: RefusalClass) -> Refused:
        return Refused(
            self.now, command.account, command.correlation_id, _VERBS[type(command)], refusal, "DH-906", refusal.lower()
        )

    def _takes(self, place: Place) -> str | Refused:
        random, chances = self.random, self.chances
        if self._may_fail(place) and random.random() < chances.refused:
            self._was_refused(place)
            return self._no(place, RefusalClass.MARGIN)
        live = self.by_name[place.correlation_id]
        live.arrived, live.placed, live.updated = True, self.now, self._second()
        self.tell(live)
        if self._may_fail(place) and random.random() < chances.rejected:
            self._was_refused(place)
            live.note, live.refusal = "RMS: funds", RefusalClass.MARGIN
            self._becomes(live, OrderStatus.REJECTED)
        elif live.ticket.validity is Validity.IOC:
            self._trades_at_once(live)
        elif live.at_once:
            if random.random() >= chances.rests:
                self._trades_soon(live, 0.3)
        elif random.random() < chances.ahead:
            self._trades_soon(live, 3)
        elif random.random() < chances.cancelled_by_broker / 2:
            self.later(random.random() * 3, lambda: self._becomes(live, OrderStatus.CANCELLED))
        leader = self.leader.get(live.leader_order_id)
        if leader is not None and leader.filled and not live.at_once and random.random() >= chances.behind:
            self._trades_soon(live, 2)
        return live.order_id

    def _may_fail(self, command: Command) -> bool:
        """Refuse or lose entries freely, but not every exit of a follower: for that there is no remedy."""
        return not isinstance(command, Place) or command.role is Role.ENTRY or self.failures.get(command.account, 0) < 2

    def _count_failure(self, command: Command) -> None:
        if isinstance(command, Place) and command.role is Role.EXIT:
            self.failures[command.account] = self.failures.get(command.account, 0) + 1

    def _was_refused(self, place: Place) -> None:
        self._count_failure(place)

    def _trades_at_once(self, live: Live) -> None:
        quantity = self._part(live) if self.random.random() < self.chances.parts else live.remaining
        self.follower_fills(live, quantity)
        if live.is_open:
            self._becomes(live, OrderStatus.CANCELLED)

    def _trades_soon(self, live: Live, within: float) -> None:
        if self.random.random() < self.chances.parts:
            self.later(self.random.random() * within, lambda: self.follower_fills(live, self._part(live)))
        self.later(within * (0.5 + self.random.random() / 2), lambda: self.follower_fills(live, live.remaining))

    def _part(self, live: Live) -> int:
        lot = self.lots[live.key]
        return self.random.randint(0, max(live.remaining // lot - 1, 0)) * lot

    def _changes(self, live: Live, modify: Modify) -> str | Refused:
        if not live.is_open:
            self.tell(live)
            return self._no(modify, RefusalClass.ENDED)
        if modify.ticket.quantity <= live.filled or self.random.random() < self.chances.modify_refused:
            self.tell(replace(live, ticket=modify.ticket), OrderStatus.MOD_REJECTED)
            return self._no(modify, RefusalClass.OTHER)
        live.ticket, live.updated = modify.ticket, self._second()
        self.tell(live, OrderStatus.MODIFIED)
        if live.role is Role.EXIT and live.sweep:
            self._trades_soon(live, 1)
        return live.order_id

    def _becomes(self, live: Live, status: OrderStatus) -> None:
        if live.is_open:
            live.status, live.updated = status, self._second()
            self.tell(live)

    def follower_fills(self, live: Live, quantity: int) -> None:
        quantity = min(quantity, live.remaining)
        if quantity <= 0:
            return
        live.filled += quantity
        live.updated = self._second()
        live.status = OrderStatus.TRADED if live.filled == live.ticket.quantity else OrderStatus.PART_TRADED
        self.held[live.account, live.key] += live.sign * quantity
        self.tell(live)
        self.judge_fill(live)

    def _second(self) -> datetime:
        return self.now.replace(microsecond=0)

    # --- the leader ------------------------------------------------------------------------------

    def leader_acts(self) -> None:
        random = self.random
        key = random.choice(self.keys)
        net, luck = self.net[key], random.random()
        working = [live for live in self.leader.values() if live.is_open and live.key == key and not live.at_once]
        if working and luck < 0.3:
            live = random.choice(working)
            self.leader_fills(live, self._part(live) if random.random() < 0.4 else live.remaining)
        elif working and luck < 0.4:
            self.leader_modifies(random.choice(working))
        elif working and luck < 0.5:
            self.leader_cancels(random.choice(working))
        elif net and luck < 0.85:
            self.leader_gets_out(key, net)
        else:
            side = random.choice(tuple(Side))
            self.leader_places(key, side, random.randint(1, 6) * self.lots[key], self._style())

    def _style(self) -> tuple[OrderType, Validity]:
        return self.random.choice(
            (
                (OrderType.LIMIT, Validity.DAY),
                (OrderType.LIMIT, Validity.DAY),
                (OrderType.MARKET, Validity.DAY),
                (OrderType.MARKET, Validity.DAY),
                (OrderType.LIMIT, Validity.IOC),
                (OrderType.STOP_LOSS, Validity.DAY),
                (OrderType.STOP_LOSS_MARKET, Validity.DAY),
            )
        )

    def leader_gets_out(self, key: Key, net: int) -> None:
        random = self.random
        side = Side.SELL if net > 0 else Side.BUY
        lot, luck = self.lots[key], random.random()
        whole = abs(net)
        part = random.randint(1, max(whole // lot, 1)) * lot
        if luck < 0.3:
            self.leader_places(key, side, whole, (OrderType.MARKET, Validity.DAY))
        elif luck < 0.5:
            self.leader_places(key, side, part, self._style())
        elif luck < 0.75:
            self.leader_places(key, side, whole, (OrderType.STOP_LOSS, Validity.DAY))
            self.leader_places(key, side, whole, (OrderType.LIMIT, Validity.DAY))
        elif luck < 0.85:
            self.leader_places(key, side, whole + random.randint(1, 4) * lot, self._style())
        else:
            self.leader_places(key, side, whole, (OrderType.LIMIT, Validity.DAY))

    def leader_places(self, key: Key, side: Side, quantity: int, style: tuple[OrderType, Validity]) -> None:
        order_type, validity = style
        self.numbered += 1
        price = D(0) if order_type in (OrderType.MARKET, OrderType.STOP_LOSS_MARKET) else self._price()
        trigger = self._price() if "STOP" in order_type else D(0)
        if order_type is OrderType.STOP_LOSS and _is_beyond(side, price, trigger):
            price, trigger = trigger, price
        ticket = Ticket(key.security, side, key.product, order_type, validity, quantity, price, trigger)
        live = Live(f"L{self.numbered}", LEADER, ticket, self.now, self._second())
        self.leader[live.order_id] = live
        self._widen(key, live.sign, quantity)
        self.tell(live)
        if live.at_once:
            parts = self.random.random() < self.chances.parts
            if parts:
                self.later(self.random.random() * 0.3, lambda: self.leader_fills(live, self._part(live)))
            self.later(0.3 if parts else self.random.random() * 0.3, lambda: self._leader_ends(live))

    def _leader_ends(self, live: Live) -> None:
        """A market order trades to its end; an immediate one may be cancelled instead."""
        if live.ticket.validity is Validity.IOC and self.random.random() < 0.4:
            self.leader_cancels(live)
        else:
            self.leader_fills(live, live.remaining)

    def _price(self) -> Decimal:
        return D(self.random.randint(80, 120))

    def leader_fills(self, live: Live, quantity: int) -> None:
        quantity = min(quantity, live.remaining)
        if quantity <= 0:
            return
        live.filled += quantity
        live.updated = self._second()
        live.status = OrderStatus.TRADED if live.filled == live.ticket.quantity else OrderStatus.PART_TRADED
        if self.net[live.key] * live.sign < 0:
            self.got_out.add(live.key)
        self.net[live.key] += live.sign * quantity
        self.tell(live)
        for copy in list(self.orders.values()):
            mine = copy.leader_order_id == live.order_id and copy.is_open and not copy.at_once
            if mine and self.random.random() >= self.chances.behind:
                self._trades_soon(copy, 2)

    def leader_modifies(self, live: Live) -> None:
        lot, ticket = self.lots[live.key], live.ticket
        self.passes(1.0)
        if not live.is_open:
            return
        least = live.filled // lot + 1
        quantity = self.random.randint(least, least + 5) * lot if self.random.random() < 0.6 else ticket.quantity
        price = self._price() if ticket.price else ticket.price
        if ticket.trigger_price and _is_beyond(ticket.side, price, ticket.trigger_price):
            price = ticket.price
        self._widen(live.key, live.sign, max(quantity - ticket.quantity, 0))
        live.ticket = replace(ticket, quantity=quantity, price=price)
        live.updated = self._second()
        self.tell(live, OrderStatus.MODIFIED)

    def leader_cancels(self, live: Live) -> None:
        self._becomes(live, OrderStatus.CANCELLED)

    # --- settling ----------------------------------------------------------------------------------

    def settles(self, *, for_good: bool = False) -> None:
        """Let time pass until everything is as it should be; a fault may take minutes to be mended, not for ever."""
        complaint = ""
        for wait in (3.0, 4.0, 4.0, 12.0, 30.0, *[65.0] * 10):
            self.passes(wait)
            self.reads_books()
            self.passes(1.0)
            if wait > 10:
                self._market_comes_back()
            complaint = self.complaint() or (self._unclear() if for_good else "")
            if not complaint:
                break
        assert not complaint, complaint
        self._begin_window()

    def _market_comes_back(self) -> None:
        """Fill sweeps wholly, and the other copies as far as the leader's orders were filled."""
        for live in list(self.orders.values()):
            leader = self.leader.get(live.leader_order_id)
            if live.is_open and live.sweep:
                self.follower_fills(live, live.remaining)
            elif live.is_open and leader is not None:
                lot = self.lots[live.key]
                part = live.ticket.quantity * leader.filled // leader.ticket.quantity // lot * lot
                self.follower_fills(live, part - live.filled)

    def goes_home(self) -> None:
        """The leader cancels what works and closes what it holds."""
        for live in list(self.leader.values()):
            if live.is_open and not live.at_once:
                self.leader_cancels(live)
        self.passes(self.random.random())
        for key, net in self.net.items():
            if net:
                side = Side.SELL if net > 0 else Side.BUY
                self.leader_places(key, side, abs(net), (OrderType.MARKET, Validity.DAY))
        self.settles(for_good=True)

    def runs(self) -> None:
        self.starts()
        for phase in range(self.phases):
            self.silent = Random(f"{self.seed} {phase}").random() < self.silence
            for _ in range(self.random.randint(1, self.acts)):
                self.leader_acts()
                self.passes(self.random.choice((0.0, 0.0, 0.05, 0.3, 2.0)))
                if self.random.random() < self.chances.restarted / 2:
                    self.restarts()
            if self.silent:
                self.silent = False
                if self.rules.late_exits is LateExits.SKIP and Random(f"{self.seed} {phase} late").random() < 0.5:
                    self.passes(2 * self.rules.max_age_seconds)
                self.reads_books()
            self.settles()
        self.goes_home()
        self.passes(3.0)
        self.reads_books()
        self.judge_end()

    # --- the judge -----------------------------------------------------------------------------------

    def _begin_window(self) -> None:
        for key in self.keys:
            if not self.net[key] and not any(live.is_open for live in self.leader.values() if live.key == key):
                self.got_out.discard(key)
            for follower in self.followers:
                net, held = follower.sizing.ratio * self.net[key], D(self.held[follower.name, key])
                self.before[follower.name, key] = max(net, held, D(0)), min(net, held, D(0))
            self.worked[key, 1] = self.worked[key, -1] = 0
            for live in self.leader.values():
                if live.key == key:
                    self.worked[key, live.sign] += live.remaining

    def _widen(self, key: Key, sign: int, quantity: int) -> None:
        self.worked[key, sign] += quantity

    def _tell_judge(self, event: Event) -> None:
        if isinstance(event, OrderSeen) and event.account == LEADER:
            self.news += 1
            self._told_of_leader(event.order, event.at)
        elif isinstance(event, BookRead) and event.account == LEADER:
            for order in event.orders:
                self._told_of_leader(order, event.at)
        elif isinstance(event, OrderSeen):
            self._told(event.order)
        elif isinstance(event, BookRead):
            for order in event.orders:
                self._told(order)
        elif isinstance(event, Refused | NotSent | Throttled) and event.verb is Verb.PLACE:
            live = self.by_name[event.correlation_id]
            live.told_ended = True
            if isinstance(event, Refused) and not live.sweep:
                self._told_refused(live)
        elif isinstance(event, Refused) and event.verb is Verb.MODIFY:
            live = self.by_name[event.correlation_id]
            live.asked = live.ticket.quantity
        elif isinstance(event, Accepted) and event.verb is Verb.MODIFY:
            self._judge_to_and_fro(self.by_name[event.correlation_id])

    def _told_of_leader(self, order: Order, at: datetime) -> None:
        """Keep what the leader got out of so late that it is left alone."""
        live = self.leader[order.order_id]
        new, net = max(order.filled_quantity - live.told, 0), self.told_net[live.key]
        live.told += new
        self.told_net[live.key] += live.sign * new
        reduces = min(new, max(-net * live.sign, 0))
        assert order.updated_at is not None
        if not reduces or self.rules.late_exits is LateExits.MARKET:
            return
        if at > order.updated_at + timedelta(seconds=self.rules.max_age_seconds):
            self.left_late[live.key] += reduces
        else:
            self.left_late[live.key] *= D(abs(net) - reduces) / abs(net)

    def _told(self, order: Order) -> None:
        live = self.orders[order.order_id]
        self.news += order.filled_quantity > live.told or order.status.is_terminal
        live.told = max(live.told, order.filled_quantity)
        live.told_ended = live.told_ended or order.status.is_terminal
        if order.status is OrderStatus.REJECTED and not live.sweep:
            self._told_refused(live)

    def _told_refused(self, live: Live) -> None:
        self.refused_places.setdefault((live.account, live.leader_order_id), []).append(live.ticket)

    def judge_command(self, command: Command) -> None:
        if isinstance(command, Cancel):
            return
        ticket = command.ticket
        lot = self.lots[Key(ticket.security, ticket.product)]
        assert ticket.quantity > 0, command
        assert ticket.quantity % lot == 0, f"I4: {ticket.quantity} is no multiple of the lot {lot}"
        live = self.orders[command.order_id] if isinstance(command, Modify) else None
        role = command.role if isinstance(command, Place) else live.role if live is not None else None
        if isinstance(command, Place) and not command.sweep:
            refused = self.refused_places.get((command.account, command.leader_order_id), [])
            assert ticket not in refused, f"I9: a refused order is placed again: {command}"
        if role is Role.EXIT:
            self._judge_exit(command, live)
        if live is not None:
            live.asked = ticket.quantity

    def _judge_to_and_fro(self, live: Live) -> None:
        """No order goes to and fro between the same terms while nothing but time and answers came in.

        An order that becomes a market order does so once, and is priced anew three times after that; an entry that
        has come to close shrinks to what it closes before.
        """
        told = self.news, live.asked
        if live.ticket.order_type is OrderType.MARKET and live.order_id not in self.at_market:
            self.at_market.add(live.order_id)
            return
        seen = self.modified.setdefault(live.order_id, [])
        seen.append(told)
        assert seen.count(told) <= 4, f"I9: to and fro: {live}"

    def _judge_exit(self, command: Place | Modify, live: Live | None) -> None:
        ticket, account = command.ticket, command.account
        key, sign = Key(ticket.security, ticket.product), ticket.side.sign
        mine = [each for each in self.orders.values() if each.account == account and each.key == key]
        held = -sign * sum(each.sign * each.told for each in mine)
        room = max(held, 0) + self.sized.get((account, command.leader_order_id), 0) * self.lots[key]
        sweep = command.sweep if isinstance(command, Place) else live is not None and live.sweep
        if sweep:
            room = max(held, 0)
        at_market = sweep or ticket.order_type is OrderType.MARKET or ticket.validity is Validity.IOC
        siblings = 0
        for each in mine:
            if each is live or each.told_ended:
                continue
            left = max(each.ticket.quantity, each.asked) - each.told
            opens = left if each.role is Role.ENTRY else self._sized_units(each)
            if each.sign != sign and not sweep and not each.sweep:
                room += min(left, opens)
            elif each.sign != sign:
                continue
            elif each.leader_order_id == command.leader_order_id and not (sweep or each.sweep):
                siblings += left
            elif at_market and (each.sweep or (each.at_once and not self._is_left(each))):
                siblings += max(left - opens, 0)
        wanted = ticket.quantity - (live.told if live is not None else 0)
        if live is None or ticket.quantity > max(live.ticket.quantity, live.asked):
            assert wanted + siblings <= room, f"I10: exits {wanted} + {siblings} of {room}: {command}"

    def _is_left(self, live: Live) -> bool:
        """Whether the leader gave the order up that it was made for, so that nothing waits for it."""
        leader = self.leader.get(live.leader_order_id)
        return leader is not None and leader.status.is_dead

    def _sized_units(self, live: Live) -> int:
        return 0 if live.sweep else self.sized.get((live.account, live.leader_order_id), 0) * self.lots[live.key]

    def judge_fill(self, live: Live) -> None:
        ratio, lot = self._ratio(live.account), self.lots[live.key]
        held = self.held[live.account, live.key]
        high, low = self.before[live.account, live.key]
        most = high + ratio * self.worked[live.key, 1] + lot
        least = low - ratio * self.worked[live.key, -1] - lot
        assert least <= held <= most, f"I4: {live.account} holds {held}, not between {least} and {most}"

    def _ratio(self, account: str) -> Decimal:
        return next(each.sizing.ratio for each in self.followers if each.name == account)

    def _unclear(self) -> str:
        lost = [live.correlation_id for live in self.orders.values() if not live.arrived and not live.told_ended]
        return f"I6: nobody was told what became of {lost}" if lost else ""

    def complaint(self) -> str:
        """Say what is wrong with the settled ledgers, if anything is."""
        for live in self.orders.values():
            leader = self.leader.get(live.leader_order_id)
            if live.is_open and (leader is None or leader.status.is_dead):
                return f"I2: {live.account}'s {live.order_id} is open though {live.leader_order_id} is over: {live}"
        for follower in self.followers:
            for order_id, leader in self.leader.items():
                said = self._too_large(follower, order_id, leader)
                if said:
                    return said
            for key in self.keys:
                said = self._wrong(follower, key)
                if said:
                    return f"I4: {follower.name} x {follower.sizing.ratio}: {said}"
        return ""

    def _too_large(self, follower: Follower, order_id: str, leader: Live) -> str:
        """Say if the entries of one copy that work are more than the leader's order, and carry for it and its change.

        Where the leader has turned round since, the order closes what the follower holds on the other side, too; and
        what was swept of it when it was smaller may come once more.
        """
        mine = [live for live in self.orders.values() if live.leader_order_id == order_id and not live.sweep]
        entries = [live for live in mine if live.account == follower.name and live.role is Role.ENTRY]
        total = sum(live.ticket.quantity if live.is_open else live.filled for live in entries)
        closes = self.net[leader.key] * leader.sign < 0
        against = max(-self.held[follower.name, leader.key] * leader.sign, 0) if closes else 0
        swept = sum(
            live.filled
            for live in self.orders.values()
            if live.sweep and live.account == follower.name and live.key == leader.key and live.sign != leader.sign
        )
        most = follower.sizing.ratio * leader.ticket.quantity + 2 * self.lots[leader.key] + against + swept
        too_large = total > most and any(live.is_open for live in entries)
        return f"I4: {follower.name} has {total} for {order_id}, at most {most} are due" if too_large else ""

    def _wrong(self, follower: Follower, key: Key) -> str:
        net, held, lot = self.net[key], self.held[follower.name, key], self.lots[key]
        working = [live for live in self.leader.values() if live.is_open and live.key == key]
        left = follower.sizing.ratio * self.left_late[key]
        stays = left + 2 * lot if left else D(0)
        text = f"holds {held}, the leader {net} with {[live.sign * live.remaining for live in working]} working"
        if not net and not working:
            mine = (live for live in self.orders.values() if live.account == follower.name and live.key == key)
            still = [live.order_id for live in mine if live.is_open]
            return text + f" and {still} open" if abs(held) > stays or still else ""
        sign = 1 if held > 0 else -1
        ahead = max(net * sign, 0)
        adds = sum(live.remaining for live in working if live.sign == sign)
        ratio = follower.sizing.ratio
        spare = 2 * lot if key in self.got_out else lot
        if abs(held) > ratio * (ahead + adds) + spare + stays:
            return text
        if held * net < 0 or (held and not net):
            through = sum(max(live.remaining - abs(net), 0) for live in working if live.sign == sign)
            return text if abs(held) > ratio * through + (spare if through else 0) + stays else ""
        return ""

    def judge_end(self) -> None:
        placed = {(each.account, each.leader_order_id) for each in self.orders.values()}
        said = {(each.account, each.leader_order_id) for each, _ in self.facts if isinstance(each, Skip | Place)}
        for follower in self.followers:
            for order_id in self.leader:
                pair = follower.name, order_id
                assert pair in placed or pair in said, f"I3: nothing is recorded of {pair}"
        for holding in self.state.holdings.values():
            assert not holding.active, f"still looked at: {list(holding.active)}"
        for account in self.state.accounts.values():
            assert not account.open, f"still thought open: {list(account.open)}"


def _is_beyond(side: Side, price: Decimal, trigger: Decimal) -> bool:
    """Whether a stop's trigger is on the wrong side of its price, which no exchange takes."""
    return (price - trigger) * side.sign < 0


def reasons(world: World) -> list[SkipReason]:
    return [fact.reason for fact, _ in world.facts if isinstance(fact, Skip)]
