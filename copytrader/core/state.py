"""What folding the facts gives: orders, copies, holdings and budgets, as of the last fact.

Only `engine` changes these objects, in place, so that the cost of an event does not
grow with the orders of the day.  Everything outlives a restart by being folded
again from the journal, except what is marked *transient*: timers, which a start sets
anew.
"""

from __future__ import annotations

import heapq
import pickle
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from copytrader.core.budget import Budget
from copytrader.core.copies import Key, LeaderOrder, Slice
from copytrader.core.facts import Level, Role
from copytrader.core.model import (
    DEAD,
    ZERO,
    Desk,
    Follower,
    Funds,
    Instrument,
    Order,
    RefusalClass,
    Security,
    Side,
    Ticket,
    Units,
    day_of,
)


@dataclass(slots=True)
class Fix:
    """One ticket of a plan that the operator ordered, until it was sent or given up (`over`).

    `was_due`: something was due when it was ordered, so that the leader was in.
    """

    plan_id: str
    number: int
    ticket: Ticket
    role: Role
    planned_at: datetime
    was_due: bool = False
    over: bool = False
    reason: str = ""


@dataclass(slots=True)
class Share:
    """One follower's part in a holding, in units.

    `copied` is what it holds from copying, `net` all that the broker says it holds (None:
    not known), `due` what it should hold had every copy filled like the leader's order,
    `carry` the fraction of a lot left over by rounding down.  `covers` is the part of the leader's
    position for which this follower was given a size, or a plan of the operator's.  `against` is what the
    person itself traded the other way while something was held from copying, `by_hand` what of the copied
    position it has closed so.  `overtaken` is what exits have sold (or bought back) of entries whose fills were
    not known yet, signed like `copied`: a book that is read a moment after (`overtaken_at`) tells whether they filled.
    `ahead` is what of `net` open orders may have filled though it was not told when it was read (`ahead_at`).
    `no_market`: the last exit that the broker did not take was a market order, and none has filled since;
    `sweep_failed_at` is when the last sweep that failed was placed.
    `alerted` is what was said last of each matter.
    `exited` is what exits have sold (or bought back, negative for sold) since they last traded the other way, the last
    of it at `exited_at`; `begun_at` is when the first order of the copied position was placed; `closed_twice` is what
    both they and the account's own orders have closed of it, signed like the position that this makes, the last of it
    at `closed_twice_at`.
    `carried` is what of it was there when the day began and was not exited since, until a reading has shown all of
    that; `gone_at` is when one did not.
    `unreckoned`: orders were adopted for it before the leader's position was known, and what is due is not known yet.
    `left_late` is what of the copied position stays though it is not due, because the leader got out of it while
    nobody looked, and late exits are off; signed like it.
    """

    follower: str
    copied: int = 0
    net: int | None = None
    due: Units = 0
    carry: Decimal = ZERO
    carry_side: Side | None = None
    against: int = 0
    by_hand: int = 0
    overtaken: int = 0
    overtaken_at: datetime | None = None
    ahead: int = 0
    ahead_at: datetime | None = None
    exited: int = 0
    exited_at: datetime | None = None
    begun_at: datetime | None = None
    closed_twice: int = 0
    closed_twice_at: datetime | None = None
    carried: int = 0
    gone_at: datetime | None = None
    flatten: bool = False
    average: Decimal = ZERO
    open: dict[str, Slice] = field(default_factory=dict)
    sweeps: list[Slice] = field(default_factory=list)
    sweeps_made: int = 0
    sweeps_failed: int = 0
    sweeps_void: int = 0
    sweep_failed_at: datetime | None = None
    no_market: bool = False
    swept_at: datetime | None = None
    covers: Units = 0
    unreckoned: bool = False
    left_late: Units = 0
    excess_since: datetime | None = None  # transient
    alerted: dict[str, str] = field(default_factory=dict)  # transient
    fixes: list[Fix] = field(default_factory=list)  # transient

    @property
    def unproved(self) -> int:
        """What of the copied position will be gone with the fills of open entries that exits have overtaken, signed."""
        if self.overtaken * self.copied <= 0:
            return 0
        sign = 1 if self.copied > 0 else -1
        return sign * min(abs(self.overtaken), abs(self.copied), self.entering(-sign))

    def entering(self, sign: int) -> int:
        """What open orders on one side may still open."""
        return sum(piece.may_open for piece in self.open.values() if piece.asked.side.sign == sign)

    @property
    def awaits_book(self) -> bool:
        """Whether a reading of the book, even one that shows nothing new, decides what happens next."""
        return bool(self.unproved) or (self.excess_since is not None and self.may_be_closed)

    @property
    def may_be_closed(self) -> bool:
        """Whether an entry that works on the other side may have closed the copied position, and its news be lost."""
        return any(piece.may_open and piece.asked.side.sign * self.copied < 0 for piece in self.open.values())

    @property
    def left(self) -> int:
        """What of the copied position is there to be closed, signed: not what the person has closed by hand."""
        sure = self.copied - self.unproved if self.overtaken else self.copied
        if not self.by_hand:
            return sure
        gone = min(self.by_hand, abs(sure))
        return sure - gone if sure > 0 else sure + gone

    @property
    def own(self) -> int | None:
        """What the broker shows beside what is left of the copied position, signed; None where it is not known."""
        return None if self.net is None else self.net - self.left

    @property
    def turned(self) -> int:
        """What of `closed_twice` the broker shows: the account stands with so much on the other side, signed."""
        if not self.closed_twice or self.own is None:
            return 0
        sign = 1 if self.closed_twice > 0 else -1
        return sign * min(abs(self.closed_twice), max(self.own * sign, 0))


@dataclass(slots=True)
class Holding:
    """One instrument and product: the leader's position and everything that works in it.

    `before` is what of the leader's position no order that we saw has opened: held before copying, or
    traded while nobody looked.  `doubted` is what a reading showed (`doubted_at`) that was not believed,
    since it was less.
    """

    key: Key
    leader_net: int | None = None
    leader_average: Decimal = ZERO
    last_price: Decimal | None = None
    active: dict[str, LeaderOrder] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    last_exit: LeaderOrder | None = None
    before: Units = 0
    doubted: int | None = None
    doubted_at: datetime | None = None


@dataclass(slots=True)
class Account:
    """One follower as far as it is not about an instrument.

    `unreached` commands in a row never left for the broker, or were refused as too many; `unreached_said` is how
    loudly that was said, `exhausted_said` when it was said last, of each window, that exits wait for our own count.
    `read_at` is when a reading of its order book ended last, `funds_at` when its funds were read.  `foreign` are
    orders seen without a name of ours, and when first; those of them that have not ended have their newest terms in
    `foreign_open`.
    """

    follower: Follower
    budget: Budget = field(default_factory=Budget)
    ready: bool = False
    positions_known: bool = False
    read_at: datetime | None = None
    blocked: RefusalClass | None = None
    halted: bool = False
    funds: Funds | None = None
    funds_at: datetime | None = None
    entries: list[datetime] = field(default_factory=list)
    loss_day: date | None = None
    loss: Decimal = ZERO
    realized_day: date | None = None
    realized: Decimal = ZERO
    open: dict[str, Slice] = field(default_factory=dict)
    strays: dict[str, str] = field(default_factory=dict)
    adopted: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, tuple[Ticket, datetime]] = field(default_factory=dict)
    foreign_open: dict[str, Ticket] = field(default_factory=dict)
    foreign_filled: dict[str, int] = field(default_factory=dict)
    plans: dict[str, list[Fix]] = field(default_factory=dict)
    unreached: int = 0
    unreached_since: datetime | None = None
    unreached_said: Level | None = None
    exhausted_said: dict[str, datetime] = field(default_factory=dict)  # transient


@dataclass(slots=True)
class State:
    """Everything the engine knows.  Pass it on; do not keep the one you passed.

    `bygone` are the orders, by account, that the last day with any has dealt with: a book may
    show them a while longer.  `began` is when this run did.
    """

    desk: Desk | None = None
    began: datetime | None = None
    dry_run: bool = False
    copying: bool = True
    day: date | None = None
    instruments: dict[Security, Instrument] = field(default_factory=dict)
    orders: dict[str, LeaderOrder] = field(default_factory=dict)
    holdings: dict[Key, Holding] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    slices: dict[str, Slice] = field(default_factory=dict)
    by_order_id: dict[tuple[str, str], Slice] = field(default_factory=dict)
    bygone: set[tuple[str, str]] = field(default_factory=set)
    leader_ready: bool = False
    leader_blocked: bool = False
    positions_known: bool = False
    unread_said: dict[str, datetime] = field(default_factory=dict)
    leader_funds: Funds | None = None
    leader_funds_at: datetime | None = None
    numbered: int = 0
    ask_books: set[str] = field(default_factory=set)  # transient
    wakes: list[tuple[datetime, int, Key, str]] = field(default_factory=list)  # transient
    waking: dict[tuple[Key, str], datetime] = field(default_factory=dict)  # transient
    wakes_made: int = 0  # transient

    def copy(self) -> State:
        """Return another that shares nothing with this one: what is folded into either leaves the other as it is."""
        fresh: State = pickle.loads(pickle.dumps(self, pickle.HIGHEST_PROTOCOL))  # noqa: S301 - our own, copied quickly
        return fresh

    def named(self, security: Security) -> str:
        """Name an instrument to a person, by its ids where the master's row is not known."""
        instrument = self.instruments.get(security)
        return instrument.label if instrument is not None else f"{security.exchange_segment} {security.security_id}"

    def is_bygone(self, account: str, order: Order) -> bool:
        """Whether it is an order of an earlier day, and not one of today that bears its number."""
        if (account, order.order_id) not in self.bygone:
            return False
        return order.placed_at is None or day_of(order.placed_at) != self.day or order.status in DEAD

    def holding(self, key: Key) -> Holding:
        found = self.holdings.get(key)
        if found is None:
            found = self.holdings[key] = Holding(key, 0 if self.positions_known else None)
        return found

    def share(self, holding: Holding, follower: str) -> Share:
        found = holding.shares.get(follower)
        if found is None:
            net = 0 if self.accounts[follower].positions_known else None
            found = holding.shares[follower] = Share(follower, net=net)
        return found

    def wake(self, at: datetime, key: Key, follower: str) -> None:
        """Ask to look at a follower's holding again at a time.

        The earliest is enough: whoever is looked at asks anew for what comes after.
        """
        pending = self.waking.get((key, follower))
        if pending is None or at < pending:
            self.waking[key, follower] = at
            self.wakes_made += 1
            heapq.heappush(self.wakes, (at, self.wakes_made, key, follower))

    @property
    def next_wake(self) -> datetime | None:
        while self.wakes and self.waking.get(self.wakes[0][2:]) != self.wakes[0][0]:
            heapq.heappop(self.wakes)
        return self.wakes[0][0] if self.wakes else None

    def woken(self, at: datetime) -> list[tuple[Key, str]]:
        """Take out whoever asked to be looked at by this time."""
        pairs = []
        while (wake := self.next_wake) is not None and wake <= at:
            pair = heapq.heappop(self.wakes)[2:]
            del self.waking[pair]
            pairs.append(pair)
        return pairs

    def unknowns(self) -> list[Slice]:
        """Orders of ours whose fate the broker has not told: to be looked up."""
        return [piece for account in self.accounts.values() for piece in account.open.values() if piece.unknown]
