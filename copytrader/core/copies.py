"""One order of the leader's, each follower's copy of it, and the orders of ours that a copy consists of.

Only the engine changes these objects, in place.  What is marked *transient* does not outlive a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Self

from copytrader.core.facts import Role, Skip, Verb
from copytrader.core.merge import Known
from copytrader.core.model import ZERO, OrderStatus, Product, Security, SkipReason, Ticket, Units


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
    placed_as: Role
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
    def role(self) -> Role:
        """What it is for now: one that was placed as an entry closes once the leader's order has come to close."""
        return Role.EXIT if self.copy is not None and not self.opens else self.placed_as

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
    def claims(self) -> int:
        """What of the copy's opening part is its own: all that it was to open, but for what is asked for again."""
        return self.opened if self.ended is not None and self.consumed < self.asked.quantity else self.opens

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

    `lots` (and `units`, the same in units) is what it opens, None until that was judged; `due` what the follower is
    due by it now, as far as the leader has opened and not closed again; `gone` what of its units the leader had
    closed again before it was sized; `reduced` what of its fills was to close when they came; `held` what the
    follower had when the leader's exit traded first; `swept` what of its fills a sweep closed, because the
    leader's order had become smaller than they were, or because they came before the entry that they were to close, or
    closed an entry that the leader's has not filled;
    `bought_back` how often a sweep came after new fills of it, which were `filled_before` the last such one.
    """

    leader: LeaderOrder
    follower: str
    slices: list[Slice] = field(default_factory=list)
    generation: int = 0
    lots: int | None = None
    units: int = 0
    gone: int = 0
    held: int = 0
    swept: int = 0
    reduced: int = 0
    bought_back: int = 0
    filled_before: int = 0
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
        if not self.slices or self.closed is not None:
            return 0
        first, again = self.slices[0].placed_at, 0
        for piece in self.slices:
            closes = piece.asked.quantity - piece.opens
            if piece.placed_at == first:
                again += closes if piece.void else 0
            elif not piece.void:
                again -= closes
        return max(again, 0)

    @property
    def total(self) -> int:
        """What it comes to if all that is open fills."""
        return sum(max(piece.asked.quantity, piece.filled) if piece.is_open else piece.filled for piece in self.slices)

    @property
    def opened(self) -> int:
        """What of its fills counts as opening."""
        return min(max(self._opened, 0), self.units) if self.units else 0

    @property
    def too_much(self) -> int:
        """What its fills opened beyond its size, and no sweep has closed: its size is smaller than it was."""
        return max(self._opened - self.units, 0)

    @property
    def _opened(self) -> int:
        return self.filled - self.reduced - self.swept

    def count(self, piece: Slice, quantity: int) -> int:
        """Decide what a fill did, before it is added: whichever comes first closes what the orders are to close.

        Returns what of it opens: that has opened, whatever orders come to close later.
        """
        closes = min(self._to_close(piece), quantity)
        self.reduced += closes
        return quantity - closes

    def _to_close(self, filling: Slice | None = None) -> int:
        """What its fills are still to close, whichever of its orders fills next."""
        closes = -self.reduced
        for each in self.slices:
            closing = each.asked.quantity - each.opens
            closes += closing if each.ended is None or each is filling else min(closing, each.filled)
        return max(closes, 0)

    @property
    def is_judged(self) -> bool:
        """Whether it has its size, or the reason why it has none."""
        return self.lots is not None or self.skip is not None

    @property
    def waiting(self) -> int:
        """What of its size was not asked for yet, and still may be."""
        if not self.units or self.skip is not None or self.closed is not None or self.leader.known.is_dead:
            return 0
        return max(self.units + self.swept - self.gone - sum(piece.claims for piece in self.slices), 0)

    @property
    def may_open(self) -> int:
        """What its working orders may still open."""
        return min(sum(piece.may_open for piece in self.slices), self.units - self.opened) if self.units else 0

    @property
    def may_add(self) -> int:
        """What its working orders will open if all of them fill: the first that do close what is still to be closed."""
        return max(self.remaining - self._to_close(), 0)

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
    reduced it, `standing` what of `opened` the leader has not closed again; `filled_at` is when it was heard that it
    had filled, which it had at `traded_at` by the broker's clock; `turned_at` is when it had closed all that there
    was. `only_exits` once it was seen as an exit and nothing else; it stays one unless it grows beyond
    `classified_quantity`, what it had when it was judged (0: not judged yet), and opens something: then it `has_grown`.
    `missed`: it was placed before this run began, and over when the leader's book was first read.
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
    classified_quantity: int = 0
    has_grown: bool = False
    missed: bool = False
    filled_at: datetime | None = None
    traded_at: datetime | None = None
    turned_at: datetime | None = None

    @property
    def out_at(self) -> datetime | None:
        """When the leader was out by it, as far as it closes: it has filled, or what works of it opens."""
        return self.filled_at or self.turned_at

    @property
    def turn(self) -> tuple[datetime, int]:
        """Its place among the leader's orders: by the broker's time, in whole seconds, then as they were heard of."""
        return self.known.placed_at or self.first_seen, self.number


def copy_of(leader: LeaderOrder, follower: str) -> Copy:
    found = leader.copies.get(follower)
    if found is None:
        found = leader.copies[follower] = Copy(leader, follower)
    return found
