"""What folding the facts gives: orders, copies, holdings and budgets, as of the last fact.

Only `engine` changes these objects, in place, so that the cost of an event does not
grow with the orders of the day.  Everything outlives a restart by being folded
again from the journal, except what is marked *transient*: timers, which a start sets
anew.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple, Self

from copytrader.core.budget import Budget
from copytrader.core.facts import Level, Role, Skip, Verb
from copytrader.core.merge import Known
from copytrader.core.model import (
    ZERO,
    Desk,
    Follower,
    Funds,
    Instrument,
    OrderStatus,
    Product,
    RefusalClass,
    Security,
    Side,
    SkipReason,
    Ticket,
    Units,
)


class Key(str):
    """What a position is counted by.

    It is text: every event looks positions up many times, and text keeps its hash.
    """

    __slots__ = ("product", "security")

    security: Security
    product: Product

    def __new__(cls, security: Security, product: Product) -> Self:
        key = super().__new__(cls, f"{security.exchange_segment} {security.security_id} {product}")
        key.security, key.product = security, product
        return key

    def __reduce__(self) -> tuple[type[Key], tuple[Security, Product]]:
        return Key, (self.security, self.product)


class Terms(NamedTuple):
    """What was asked for with one placing or modification, and the part of its quantity that opens."""

    ticket: Ticket
    opens: int


@dataclass(slots=True)
class Slice:
    """One order of ours: what we asked for, and what the broker said of it.

    `opens` is the part of the quantity asked for that opens; the rest closes, and trades first.

    `copy` is None for a sweep: an exit that follows from the leader's position, not from one of its orders.
    `unknown`: nobody has told whether the order exists.  `maybe`: terms that it may have instead of those
    asked for last, because a modification was not answered; `late`: terms of one that had not arrived when
    the broker was asked, and still may.  `instead_of_market`: a limit that crosses the market, where a market
    order was not taken.
    """

    follower: str
    leader_order_id: str
    key: Key
    copy: Copy | None
    correlation_id: str
    asked: Ticket
    role: Role
    placed_at: datetime
    opens: int = 0
    order_id: str = ""
    in_flight: Verb | None = Verb.PLACE
    unknown: bool = False
    maybe: list[Terms] = field(default_factory=list)
    late: list[Terms] = field(default_factory=list)
    known: Known | None = None
    asked_before: list[Terms] = field(default_factory=list)
    modifications: int = 0
    filled: int = 0
    ended: OrderStatus | None = None
    absent: bool = False
    void: bool = False
    cancelling: bool = False
    renew: bool = False
    detached: bool = False
    refused_modify: Ticket | None = None
    accepted_at: datetime | None = None
    was_due: bool = False
    instead_of_market: bool = False
    not_found: int = 0
    follows: tuple[Ticket, Ticket] | None = None  # transient
    retry_at: datetime | None = None  # transient
    tries: int = 0  # transient

    @property
    def terms(self) -> Terms:
        """What was asked for last."""
        return Terms(self.asked, self.opens)

    def turn_to(self, terms: Terms) -> None:
        self.asked, self.opens = terms

    @property
    def first_asked(self) -> Ticket:
        return self.asked_before[0].ticket if self.asked_before else self.asked

    @property
    def is_open(self) -> bool:
        return self.ended is None

    @property
    def remaining(self) -> int:
        """What may still trade, in units."""
        return max(self.asked.quantity - self.filled, 0) if self.is_open else 0

    @property
    def is_refused(self) -> bool:
        """The broker did not take it, for a reason that would be the same again."""
        return self.ended is OrderStatus.REJECTED and not self.void and not self.absent

    @property
    def is_doubtful(self) -> bool:
        """Whether it is not known which terms it has."""
        return bool(self.maybe)

    @property
    def opened(self) -> int:
        """What of its fills counts as opening."""
        closes = max(self.asked.quantity - self.opens, 0)
        return self.filled - closes if self.filled > closes else 0

    @property
    def may_open(self) -> int:
        return min(self.remaining, self.opens)

    @property
    def largest(self) -> int:
        """The largest quantity that it may have at the broker while a modification is under way."""
        possible = [self.asked, *(terms.ticket for terms in self.maybe)]
        if self.in_flight is Verb.MODIFY:
            possible.append(self.asked_before[-1].ticket)
        return max(ticket.quantity for ticket in possible)

    @property
    def consumed(self) -> int:
        """What it used up of the copy's quantity: filled, or lost and not to be asked for again.

        Asked for again is what provably never reached the broker (`void`), what we cancelled
        ourselves, and an exit that the broker never knew.
        """
        if self.ended is OrderStatus.TRADED or self.void or self.cancelling:
            return self.filled
        if self.absent and self.role is Role.EXIT:
            return self.filled
        return self.asked.quantity


@dataclass(slots=True)
class Copy:
    """What one follower has for one leader order.

    `lots` (and `units`, the same in units) is what it opens, None until that was judged; `due` what the
    follower is due by it now, as far as the leader has opened and not closed again; `gone` what of its units the leader
    had closed again before it was sized; `held` what the follower had when the leader's exit traded first.
    """

    leader: LeaderOrder
    follower: str
    slices: list[Slice] = field(default_factory=list)
    generation: int = 0
    lots: int | None = None
    units: int = 0
    gone: int = 0
    held: int = 0
    due: Units = 0
    covers: Units = 0
    exact: Decimal = ZERO
    opens: int = 0
    skip: Skip | None = None
    closed: SkipReason | None = None
    judged_ticket: Ticket | None = None
    judged_opened: int = 0

    # Plain loops: most copies have one slice, and every event asks these many times.

    @property
    def filled(self) -> int:
        filled = 0
        for piece in self.slices:
            filled += piece.filled
        return filled

    @property
    def remaining(self) -> int:
        return sum(piece.remaining for piece in self.slices)

    @property
    def is_refused(self) -> bool:
        """Whether the broker refused a part of it, or never knew it: that part is not asked for again."""
        return any(piece.is_refused or piece.absent for piece in self.slices)

    @property
    def was_sent(self) -> bool:
        """Whether an order of it may have reached the broker."""
        for piece in self.slices:  # noqa: SIM110  # see above
            if not piece.void:
                return True
        return False

    @property
    def is_open(self) -> bool:
        for piece in self.slices:  # noqa: SIM110  # see above
            if piece.ended is None:
                return True
        return False

    @property
    def to_try_again(self) -> int:
        """What of an exit never reached the broker and is asked for again: as much as the first time."""
        if not self.slices or self.was_sent or self.closed is not None:
            return 0
        first = self.slices[0].placed_at
        return sum(piece.asked.quantity - piece.opens for piece in self.slices if piece.placed_at == first)

    @property
    def total(self) -> int:
        """What it comes to if all that is open fills."""
        return sum(max(piece.asked.quantity, piece.filled) if piece.is_open else piece.filled for piece in self.slices)

    @property
    def opened(self) -> int:
        """What of its fills counts as opening."""
        if not self.units:
            return 0
        opened = 0
        for piece in self.slices:
            opened += piece.opened
        return min(opened, self.units)

    @property
    def waiting(self) -> int:
        """What of its size was not asked for yet, and still may be."""
        if not self.units or self.skip is not None or self.closed is not None or self.leader.known.is_dead:
            return 0
        return max(self.units - self.gone - sum(piece.opens for piece in self.slices if not piece.void), 0)

    @property
    def may_open(self) -> int:
        """What its working orders may still open."""
        return min(sum(piece.may_open for piece in self.slices), self.units - self.opened) if self.units else 0

    @property
    def will_open(self) -> int:
        """What its orders may still open, without those that may never have reached the broker."""
        doubtful = sum(piece.may_open for piece in self.slices if piece.unknown)
        return max(self.may_open - doubtful, 0)

    @property
    def may_close(self) -> int:
        """What its working orders may still close."""
        return self.remaining - self.may_open


@dataclass(slots=True)
class LeaderOrder:
    """A leader order as best known, and what its fills did to the leader's position.

    `reduced` and `opened` split what filled, `kept` is the part of the leader's position that was left by what
    reduced it, `standing` what of `opened` the leader has not closed again;
    `only_exits` once it was seen as an exit and nothing else, which it stays.  `missed`: it was placed before this
    run began, and over when the leader's book was first read.
    """

    known: Known
    key: Key
    number: int
    first_seen: datetime
    copies: dict[str, Copy] = field(default_factory=dict)
    reduced: int = 0
    kept: Units = 1
    opened: int = 0
    standing: Units = 0
    only_exits: bool = False
    classified: bool = False
    missed: bool = False
    filled_at: datetime | None = None


@dataclass(slots=True)
class Fix:
    """One ticket of a plan that the operator ordered, until it was sent or given up (`over`)."""

    plan_id: str
    number: int
    ticket: Ticket
    role: Role
    planned_at: datetime
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
    `no_market`: the last exit that the broker did not take was a market order, and none has filled since;
    `sweep_failed_at` is when the last sweep that failed was placed.
    `alerted` is what was said last of each matter.
    `carried` is what of it was there when the day began and was not exited since, until a reading has shown all of
    that; `gone_at` is when one did not.
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
    excess_since: datetime | None = None  # transient
    alerted: dict[str, str] = field(default_factory=dict)  # transient
    fixes: list[Fix] = field(default_factory=list)  # transient

    @property
    def unproved(self) -> int:
        """What of the copied position will be gone with the fills of open entries that exits have overtaken, signed."""
        if self.overtaken * self.copied <= 0:
            return 0
        sign = 1 if self.copied > 0 else -1
        entering = sum(piece.may_open for piece in self.open.values() if piece.asked.side.sign != sign)
        return sign * min(abs(self.overtaken), abs(self.copied), entering)

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
    loudly that was said, `exhausted_said` when it was said last that exits wait for our own count of calls.
    `read_at` is when a reading of its order book ended last.  `foreign` are orders seen without a name of ours,
    and when first.
    """

    follower: Follower
    budget: Budget = field(default_factory=Budget)
    ready: bool = False
    positions_known: bool = False
    read_at: datetime | None = None
    blocked: RefusalClass | None = None
    halted: bool = False
    funds: Funds | None = None
    entries: list[datetime] = field(default_factory=list)
    loss_day: date | None = None
    loss: Decimal = ZERO
    realized_day: date | None = None
    realized: Decimal = ZERO
    open: dict[str, Slice] = field(default_factory=dict)
    strays: dict[str, str] = field(default_factory=dict)
    adopted: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, tuple[Ticket, datetime]] = field(default_factory=dict)
    foreign_filled: dict[str, int] = field(default_factory=dict)
    plans: dict[str, list[Fix]] = field(default_factory=dict)
    unreached: int = 0
    unreached_since: datetime | None = None
    unreached_said: Level | None = None
    exhausted_said: datetime | None = None  # transient


@dataclass(slots=True)
class State:
    """Everything the engine knows.  Pass it on; do not keep the one you passed.

    `bygone` are the orders, by account, that the last trade date has dealt with: a book may
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
    numbered: int = 0
    ask_books: set[str] = field(default_factory=set)  # transient
    wakes: list[tuple[datetime, int, Key, str]] = field(default_factory=list)  # transient
    waking: dict[tuple[Key, str], datetime] = field(default_factory=dict)  # transient
    wakes_made: int = 0  # transient

    def named(self, security: Security) -> str:
        """Name an instrument to a person, by its ids where the master's row is not known."""
        instrument = self.instruments.get(security)
        return instrument.label if instrument is not None else f"{security.exchange_segment} {security.security_id}"

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


def copy_of(leader: LeaderOrder, follower: str) -> Copy:
    found = leader.copies.get(follower)
    if found is None:
        found = leader.copies[follower] = Copy(leader, follower)
    return found
