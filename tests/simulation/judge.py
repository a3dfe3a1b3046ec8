"""Judges a run by what the broker's ledger shows, never by what the copier believes.

The journal is consulted for three things only: whether a fact was recorded before a request
came, whose copy a correlation id names, and which reasons were given.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from copytrader.core.engine import step
from copytrader.core.facts import (
    Alert,
    Divided,
    Ended,
    Event,
    Fact,
    Filled,
    Halted,
    Modify,
    NotFound,
    NotSent,
    Place,
    Refused,
    Resumed,
    Role,
    Sized,
    Skip,
    Throttled,
    Verb,
)
from copytrader.core.model import LEADER, CopyRules, RefusalClass, SkipReason
from copytrader.core.state import State
from copytrader.dhan.transport import Reply, Request
from copytrader.simulator import BookOrder, Fault, LedgerRow
from copytrader.simulator.model import CANCELLED, EXPIRED, REJECTED, TRADED, Fill

if TYPE_CHECKING:
    from tests.simulation.world import World

_DEAD = frozenset({CANCELLED, EXPIRED, REJECTED})
_QUARANTINE = timedelta(seconds=120)
_HIDDEN_AT_MOST = timedelta(seconds=40)
"""The simulated broker hides an order for ten seconds at most, and two look-ups are fifteen apart."""
_HELD_UP = timedelta(seconds=2)
_BEHIND = timedelta(seconds=60)
"""An exit is decided upon what was known a while ago: a poll, a silent stream, a restart."""
_PATIENCE = timedelta(seconds=CopyRules().market_wait_seconds)
_ONE_MOMENT = timedelta(seconds=0.1)
Position = tuple[str, str, str]
"""Segment, security id, product."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Whose copy an order of ours is."""

    follower: str
    leader_order_id: str
    role: Role
    sweep: bool
    generation: int


class Judge:
    def __init__(self, world: World) -> None:
        self.facts: list[tuple[int, Fact]] = []
        self._world = world
        self._posts: Counter[str] = Counter()
        self._changes: Counter[tuple[str, str]] = Counter()
        self._copies: dict[str, Copy] = {}
        self._tickets: dict[str, Place] = {}
        self._placed_at: dict[str, datetime] = {}
        self._asked: dict[str, int] = {}
        self._turned: set[str] = set()
        self._filled: Counter[str] = Counter()
        self._opening: dict[tuple[str, str], int] = {}
        self._held_when_decided: dict[str, tuple[int, int]] = {}

    # While it happens

    def recorded(self, seqs: tuple[int, ...], facts: tuple[Fact, ...]) -> None:
        """These facts are durable now."""
        for seq, fact in zip(seqs, facts, strict=True):
            self.facts.append((seq, fact))
            if isinstance(fact, Place):
                self._placed_at[fact.correlation_id] = self._world.now()
                self._copies[fact.correlation_id] = Copy(
                    fact.account, fact.leader_order_id, fact.role, fact.sweep, fact.generation
                )
                self._tickets[fact.correlation_id] = fact
            if isinstance(fact, Modify | Divided) and not fact.opens:
                self._turned.add(fact.correlation_id)  # an entry by its placing, it closes now
            if isinstance(fact, Place | Modify):
                quantity = max(fact.ticket.quantity, self._asked.get(fact.correlation_id, 0))
                self._asked[fact.correlation_id] = quantity
            if isinstance(fact, Skip) and fact.reason is SkipReason.ABSENT:
                self._is_absent(fact)
            if isinstance(fact, NotFound):
                self._is_not_shown(fact.correlation_id)
            if isinstance(fact, Filled):
                self._filled[fact.correlation_id] = max(self._filled[fact.correlation_id], fact.filled_quantity)
            if isinstance(fact, Sized):
                self._opening[fact.account, fact.leader_order_id] = fact.lots
        for fact in facts:
            if isinstance(fact, Place) and fact.role is Role.EXIT:
                opens = self._opens(self._copies[fact.correlation_id], fact.ticket.security.security_id)
                copied, net = self._most(fact.account, *_closing(fact))
                self._held_when_decided[fact.correlation_id] = copied + opens, net + opens

    def leaves(self, request: Request) -> None:
        """A request is about to be written: what was decided long ago must not be, except a cancel."""
        if request.method != "POST":
            return
        name = json.loads(request.body or b"{}").get("correlationId", "")
        decided = self._placed_at.get(name)
        if decided is not None and self._world.now() - decided > _HELD_UP:
            self._problem("I12", f"{name}, decided at {decided:%H:%M:%S}, is sent now")

    def arrives(self, client_id: str, request: Request) -> None:
        """A request is at the broker's door: was it written down, and may it be?"""
        if request.method == "GET":
            return
        self._world.counts[f"arrived {request.method}"] += 1
        if request.method == "POST":
            self._placement_arrives(client_id, json.loads(request.body or b"{}"))
            return
        order_id = request.path.removeprefix("/orders/")
        order = self._world.exchange.orders.get(order_id)
        if order is None or order.client_id != client_id or not order.correlation_id.startswith("ct1-"):
            self._problem("I10", f"{request.method} {request.path} touches an order that is not ours")
            return
        if request.method == "PUT":
            self._modification_arrives(order, json.loads(request.body or b"{}"))
        kind = "Modify" if request.method == "PUT" else "Cancel"
        self._changes[kind, order_id] += 1
        if self._count(kind, "order_id", order_id) < self._changes[kind, order_id]:
            self._problem("I5", f"{request.method} {request.path} came before it was recorded")

    def _placement_arrives(self, client_id: str, body: dict[str, Any]) -> None:
        name = body.get("correlationId", "")
        self._posts[name] += 1
        if self._posts[name] > 1:
            self._problem("I1", f"{name} was sent {self._posts[name]} times")
        if not self._count("Place", "correlation_id", name):
            self._problem("I5", f"the placement {name} came before it was recorded")
            return
        listed = self._world.exchange.instruments[body["exchangeSegment"], body["securityId"]]
        if body["quantity"] % listed.lot_size:
            self._problem("I4", f"{body['quantity']} is no multiple of {listed.lot_size}")
        if listed.freeze_quantity and body["quantity"] >= listed.freeze_quantity:
            self._problem("I4", f"{body['quantity']} is above the freeze quantity")
        self._has_a_leader(self._copies[name])
        if self._copies[name].role is Role.EXIT:
            self._exit_arrives(client_id, body)

    def _has_a_leader(self, copy: Copy) -> None:
        leader = self._world.exchange.orders.get(copy.leader_order_id)
        is_leaders = leader is not None and leader.client_id == self._world.client_ids[LEADER]
        if not copy.sweep and not is_leaders:
            self._problem("I10", f"{copy.leader_order_id} is copied, which is no order of the leader")

    def _modification_arrives(self, order: BookOrder, body: dict[str, Any]) -> None:
        """A modification carries terms that the leader's order had, never those of a refused or a triggered one.

        An exit goes to market a while after the leader's has filled.
        """
        copy = self._copies[order.correlation_id]
        if copy.leader_order_id not in self._world.exchange.orders:
            return
        rows = self._told(copy.leader_order_id)
        leader = self._world.exchange.orders[copy.leader_order_id]
        kinds = {row.order_type for row in rows} | {leader.terms.order_type}
        placed_as = self._tickets[order.correlation_id].ticket.order_type
        if copy.sweep or {"MARKET", "STOP_LOSS_MARKET"} & kinds or placed_as == "MARKET":
            return
        if (
            (copy.role is Role.EXIT or order.correlation_id in self._turned)
            and leader.status == TRADED
            and self._filled_at(leader) <= self._world.now() - _PATIENCE
        ):
            return
        kind, price = body["orderType"], Decimal(str(body["price"]))
        if kind not in kinds | {placed_as} or price not in {row.price for row in rows}:
            self._problem("I4", f"{order.order_id} becomes {kind} at {price}, which {copy.leader_order_id} never was")

    def _exit_arrives(self, client_id: str, body: dict[str, Any]) -> None:
        key = (body["exchangeSegment"], body["securityId"], body["productType"])
        sign = 1 if body["transactionType"] == "SELL" else -1
        copy = self._copies[body["correlationId"]]
        opens = self._opens(copy, key[1])
        then, now = self._held_when_decided[body["correlationId"]], self._most(copy.follower, key, sign)
        copied, net = max(then[0], now[0] + opens), max(then[1], now[1] + opens)
        if body["quantity"] > copied:
            text = f"an exit of {body['quantity']} where at most {copied} was held from copying or about to be"
            self._problem("I10", f"{text} ({body['correlationId']})")
        if client_id in self._world.people.hand_traded and body["quantity"] > net:
            self._problem(
                "I10", f"an exit of {body['quantity']} is more than the broker shows ({body['correlationId']})"
            )

    def _opens(self, copy: Copy, security_id: str) -> int:
        """What an order through zero opens on the other side, as it was sized last."""
        lots = 0 if copy.sweep else self._opening.get((copy.follower, copy.leader_order_id), 0)
        sizes = {key[1]: listed.lot_size for key, listed in self._world.exchange.instruments.items()}
        return lots * sizes[security_id]

    def _most(self, follower: str, key: Position, sign: int) -> tuple[int, int]:
        """The most that was held lately in one direction, or might have come to be held: from copying, and in all.

        What the person traded by hand may not have been known as long as anything else.  What it closed of ours is not
        there any more: an entry on the other side opens then.
        """
        client_id = self._world.client_ids[follower]
        found = self._our_fills(client_id, key)
        ours, untold = [fill for fill, _ in found], self._untold(found)
        theirs = [fill for fill in self._world.exchange.fills[client_id] if (*fill.security, fill.product) == key]
        by_hand = [fill for fill in theirs if fill not in ours]
        most = max(self._most_of(each, sign, untold) for each in (ours, list(_left_of(ours, theirs))))
        copied = most + self._coming(client_id, key, sign)
        return max(copied, 0), max(copied + self._most_of(by_hand, sign), 0)

    def _untold(self, fills: Iterable[tuple[Fill, BookOrder]]) -> list[Fill]:
        """Fills of our orders whose news has not come: a frame was lost, and the book not read since."""
        seen: Counter[str] = Counter()
        untold = []
        for fill, order in fills:
            seen[order.correlation_id] += fill.quantity
            if seen[order.correlation_id] > self._filled[order.correlation_id]:
                untold.append(fill)
        return untold

    def _most_of(self, fills: Iterable[Fill], sign: int, untold: Container[Fill] = ()) -> int:
        """The highest that these fills stood in one direction since a while ago.

        Those of one moment are told in any order: the ones on this side may be known before the others.  So may they
        before others that nobody has told yet.
        """
        since, moment = self._world.now() - _BEHIND, self._world.now() - _ONE_MOMENT
        held = most = known = 0
        for fill in fills:
            quantity = fill.quantity * (1 if fill.side == "BUY" else -1) * sign
            most = held if fill.at < since else most
            held += quantity
            unheard = fill.at >= moment or (fill.at >= since and fill in untold)
            known += max(quantity, 0) if unheard else quantity
            most = held if fill.at < since else max(most, held)
        return max(most, known)

    def _coming(self, client_id: str, key: Position, sign: int) -> int:
        """What our orders that open on this side may still have added lately."""
        since = self._world.now() - _BEHIND
        entries = [
            order
            for order in self._world.exchange._books[client_id]
            if self._is_ours(order)
            and _key(order) == key
            and (1 if order.side == "BUY" else -1) == sign
            and self._may_open(order.correlation_id)
            and (order.is_open or order.updated_at >= since)
        ]
        may_fill = sum(self._asked[order.correlation_id] - order.filled for order in entries)
        return may_fill + self._in_the_air(key, sign)

    def _may_open(self, name: str) -> bool:
        """Whether an order of ours opens something: an entry, or an exit that goes through zero."""
        copy = self._copies[name]
        return copy.role is Role.ENTRY or bool(self._opening.get((copy.follower, copy.leader_order_id)))

    def _in_the_air(self, key: Position, sign: int) -> int:
        """Entries that were asked for and have no order at the broker (yet)."""
        arrived = {order.correlation_id for order in self._world.exchange.orders.values()}
        return sum(
            place.ticket.quantity
            for name, place in self._tickets.items()
            if name not in arrived
            and self._may_open(name)
            and (place.ticket.security.exchange_segment, place.ticket.security.security_id, place.ticket.product) == key
            and place.ticket.side.sign == sign
        )

    def answered(self, client_id: str, request: Request, reply: Reply, fault: Fault | None) -> None:
        self._world.counts["answer unclear" if reply.status is None else f"answer {reply.status // 100}xx"] += 1

    def leader_filled(self, correlation_id: str) -> bool:
        """Whether nothing holds this copy back but the market."""
        copy = self._copies.get(correlation_id)
        leader = self._world.exchange.orders.get(copy.leader_order_id) if copy is not None else None
        return copy is None or copy.sweep or leader is None or leader.status == TRADED

    def _is_absent(self, skip: Skip) -> None:
        """An order is given up only when it cannot come any more, and never while the broker shows it."""
        now, name = self._world.now(), skip.correlation_id
        if now - self._placed_at[name] < _QUARANTINE:
            self._problem("I6", f"{name} is given up after {now - self._placed_at[name]}")
        for row in self._world.exchange.ledger:
            if row.kind == "accepted" and row.correlation_id == name and now - row.at > _HIDDEN_AT_MOST:
                self._problem("I6", f"{name} is given up though it was accepted at {row.at:%H:%M:%S}")

    def _is_not_shown(self, name: str) -> None:
        """Only a book and a look-up that were read, and did not have the order, say that it was not found."""
        swarm = self._world.swarm
        asked = self._world.now() - timedelta(seconds=4 * (swarm.latency + swarm.jitter) + 0.1)
        for order in self._world.exchange.orders.values():
            hidden = order.hidden_from_book_until
            shown = hidden is None or hidden < asked
            if order.correlation_id == name and order.ordered_at < asked and shown:
                self._problem("I6", f"{name} was not found though the broker shows it as {order.order_id}")

    # At rest

    def at_rest(self) -> None:
        """Faults are over and nothing moves: what is open has a reason, and everything got one."""
        self._nothing_left_open()
        self._everything_accounted_for()
        self._terms_converged()
        self._nothing_copied_twice()
        self._sizes_are_bounded()
        if self._world.swarm.is_calm:
            self._sizes_are_exact()

    def _nothing_left_open(self) -> None:
        for order, copy in self._our_orders():
            leader = self._world.exchange.orders.get(copy.leader_order_id)
            if order.is_open and leader is not None and leader.status in _DEAD and not copy.sweep:
                self._problem("I2", f"{order.order_id} is {order.status} though {leader.order_id} is {leader.status}")

    def _everything_accounted_for(self) -> None:
        reasons = {(fact.account, fact.leader_order_id) for _, fact in self.facts if isinstance(fact, Skip)}
        copied = {(copy.follower, copy.leader_order_id) for order, copy in self._our_orders()}
        for leader in self._leader_orders():
            for follower in self._followers():
                undecided = leader.is_open and leader.filled > 0
                if (follower, leader.order_id) not in copied | reasons and not undecided:
                    self._problem(
                        "I3", f"{leader.order_id} ({leader.status}) has neither order nor reason at {follower}"
                    )

    def _terms_converged(self) -> None:
        for order, copy in self._our_orders():
            leader = self._world.exchange.orders.get(copy.leader_order_id)
            if not order.is_open or copy.sweep or leader is None or not leader.is_open:
                continue
            if self._was_hindered(order) or leader.triggered or order.triggered:
                continue
            ours, theirs = order.terms, leader.terms
            if "MARKET" in (theirs.order_type, self._tickets[order.correlation_id].ticket.order_type):
                continue
            same_price = theirs.order_type == "STOP_LOSS_MARKET" or ours.price == theirs.price
            if not same_price or ours.trigger_price != theirs.trigger_price or ours.validity != theirs.validity:
                self._problem("I4", f"{order.order_id} has {ours}, the leader's {leader.order_id} {theirs}")

    def _was_hindered(self, order: BookOrder) -> bool:
        """Whether the order was changed by hand, or a change of it refused."""
        refused = any(
            isinstance(fact, Refused) and fact.verb is Verb.MODIFY and fact.correlation_id == order.correlation_id
            for _, fact in self.facts
        )
        rows = self._world.exchange.ledger
        rejected = any(row.kind == "modify_rejected" and row.order_id == order.order_id for row in rows)
        return refused or rejected or order.order_id in self._world.people.touched

    def _held_against(self, follower: str, leader: BookOrder) -> int:
        """What our orders for others of the leader's had at most on the side that this one closes, since it was placed."""
        sign = 1 if leader.side == "BUY" else -1
        most = net = 0
        for fill, order in self._our_fills(self._world.client_ids[follower], _key(leader)):
            if self._copies[order.correlation_id].leader_order_id != leader.order_id:
                net += fill.quantity * (1 if order.side == "BUY" else -1)
            if fill.at >= leader.created_at:
                most = max(most, -net * sign)
        return max(most, -net * sign)

    def _nothing_copied_twice(self) -> None:
        """What one follower has for one entry, working and filled, is its ratio of it, and less than a lot of carry.

        An entry that grew is two in a row as far as carry goes: what was rounded off before each counts.  So is one
        that was to close something at first.
        Where it holds the other side from other copies, the entry may have become an exit of that as well.
        """
        totals: Counter[tuple[str, str]] = Counter()
        exits = {(copy.follower, copy.leader_order_id) for copy in self._copies.values() if copy.role is Role.EXIT}
        for order, copy in self._our_orders():
            if not copy.sweep:
                quantity = order.terms.quantity if order.is_open else order.filled
                totals[copy.follower, copy.leader_order_id] += quantity
        for (follower, leader_order_id), total in totals.items():
            leader = self._world.exchange.orders.get(leader_order_id)
            if leader is None or (follower, leader_order_id) in exits:
                continue
            most, sizes = 0, 0
            for row in self._told(leader_order_id):
                if row.quantity > most:
                    most, sizes = row.quantity, sizes + 1
            closes, sizes = (
                self._held_against(follower, leader),
                sizes + (self._was_to_close(leader) or self._met_another(leader)),
            )
            if total >= self._ratio(follower) * most + closes + sizes * leader.instrument.lot_size:
                self._problem("I1", f"{follower} has {total} for {leader_order_id}, which came to {most}")

    def _was_to_close(self, leader: BookOrder) -> bool:
        """Whether the leader held, when it placed an order, some of what that order closes."""
        listed = leader.instrument
        net = self._world.people.carried.get((listed.exchange_segment, listed.security_id, leader.product), 0)
        for row in self._world.exchange.ledger:
            if row.order_id == leader.order_id:
                return net * (1 if leader.side == "BUY" else -1) < 0
            same = (row.security_id, row.product) == (leader.instrument.security_id, leader.product)
            if row.kind == "filled" and row.client_id == leader.client_id and same:
                net += row.quantity * (1 if row.side == "BUY" else -1)
        return False

    def _met_another(self, leader: BookOrder) -> bool:
        """Whether a book that lists its newest orders first hides which of two of one second, on both sides, came first."""
        listed, placed = leader.instrument, leader.created_at.replace(microsecond=0)
        return self._world.exchange.settings.newest_first and any(
            order.instrument == listed
            and order.product == leader.product
            and order.side != leader.side
            and order.created_at.replace(microsecond=0) == placed
            for order in self._world.exchange.orders.values()
            if order.client_id == leader.client_id
        )

    def _filled_at(self, order: BookOrder) -> datetime:
        return max(fill.at for fill in self._world.exchange.fills[order.client_id] if fill.order_id == order.order_id)

    def _told(self, order_id: str) -> list[LedgerRow]:
        """Every set of terms that an order had."""
        rows = self._world.exchange.ledger
        return [row for row in rows if row.order_id == order_id and row.kind in ("accepted", "modified")]

    def _sizes_are_bounded(self) -> None:
        """At rest nobody holds more than two lots beyond the leader's position times the ratio, or against it."""
        for follower, client_id in self._followers().items():
            if client_id in self._world.people.hand_traded or self._gave_up(follower):
                continue
            ratio = self._ratio(follower)
            for key, copied in self.copied(client_id).items():
                net = self._leader_nets().get(key, 0)
                lot = self._world.exchange.instruments[key[0], key[1]].lot_size
                working = self._leader_working(key, 1 if copied > 0 else -1) + self._unfinished_exits(client_id, key)
                allowed = ratio * (abs(net) if net * copied > 0 else 0) + ratio * working + 2 * lot
                if abs(copied) > allowed:
                    text = f"{follower} holds {copied} of {key} at {ratio}, the leader {net}"
                    self._problem("I4", f"{text}, {working} working")

    def _unfinished_exits(self, client_id: str, key: Position) -> int:
        return (
            sum(
                order.open_quantity
                for order, _ in self._our_orders()
                if order.client_id == client_id and _key(order) == key
            )
            * 3
        )

    def _leader_working(self, key: Position, sign: int) -> int:
        return sum(
            order.open_quantity
            for order in self._leader_orders()
            if _key(order) == key and (1 if order.side == "BUY" else -1) == sign
        )

    def _sizes_are_exact(self) -> None:
        """Where the leader only ever added, the follower has its ratio, to less than one lot."""
        by_key = defaultdict[Position, list[BookOrder]](list)
        for leader in self._leader_orders():
            by_key[_key(leader)].append(leader)
        for key, orders in by_key.items():
            one_way = len({order.side for order in orders}) == 1 and not self._world.people.carried.get(key)
            if not one_way or any(order.status in _DEAD or order.remarks == "Super Order" for order in orders):
                continue
            if any(order.correlation_id.startswith("ct1-") for order in orders) or self._was_skipped(orders):
                continue
            self._is_exact(key, orders)

    def _is_exact(self, key: Position, orders: list[BookOrder]) -> None:
        """Hold what was asked for against the leader's; an IOC order takes what it can get."""

        def is_ioc(order: BookOrder) -> bool:
            return order.terms.validity == "IOC"

        lot = self._world.exchange.instruments[key[0], key[1]].lot_size
        wanted = sum(order.terms.quantity for order in orders)
        for follower, client_id in self._followers().items():
            has = sum(
                (order.terms.quantity if order.is_open or order.status == TRADED or is_ioc(order) else order.filled)
                * (1 if order.side == orders[0].side else -1)
                for order, _ in self._our_orders()
                if order.client_id == client_id and _key(order) == key
            )
            beyond = has - self._ratio(follower) * wanted
            crossed = any(self._filled_before_it_shrank(order, client_id) for order in orders)
            if beyond <= -lot or (beyond >= lot if crossed else beyond > 0):
                self._problem("I4", f"{follower} has {has} of {key} for the leader's {wanted}")

    def _filled_before_it_shrank(self, leader: BookOrder, client_id: str) -> bool:
        """Whether a copy filled before it could be heard that the leader had made its order smaller."""
        mine = [order.order_id for order, copy in self._our_orders() if copy.leader_order_id == leader.order_id]
        fills = [fill.at for fill in self._world.exchange.fills[client_id] if fill.order_id in mine]
        shrank = [after.at for row, after in pairwise(self._told(leader.order_id)) if after.quantity < row.quantity]
        return any(at >= filled - _HELD_UP for filled in fills for at in shrank)

    def _was_skipped(self, orders: list[BookOrder]) -> bool:
        ids = {order.order_id for order in orders}
        return any(
            isinstance(fact, Skip) and fact.leader_order_id in ids and fact.reason is not SkipReason.BELOW_ONE_LOT
            for _, fact in self.facts
        )

    # Flat

    def is_flat(self) -> bool:
        return not self._not_flat()

    def _not_flat(self) -> list[str]:
        found = []
        for follower, client_id in self._followers().items():
            for order, _ in self._our_orders():
                if order.client_id == client_id and order.is_open:
                    found.append(f"{follower}: {order.order_id} is still {order.status}")
            nets = self._world.people.nets(client_id)
            for key, copied in self.copied(client_id).items():
                net = nets.get(key, 0)
                by_hand = client_id in self._world.people.hand_traded and net * copied <= 0
                if copied and not by_hand and not self._gave_up(follower):
                    found.append(f"{follower} still holds {copied} of {key} from copying, {net} in all")
        return found

    def _gave_up(self, follower: str) -> bool:
        """Whether the copier said aloud that a position has to be closed by hand."""
        return any(
            isinstance(fact, Alert) and fact.account == follower and "the exits failed" in fact.text
            for _, fact in self.facts
        )

    def copied(self, client_id: str) -> dict[Position, int]:
        total: Counter[Position] = Counter()
        for fill in self._world.exchange.fills[client_id]:
            order = self._world.exchange.orders[fill.order_id]
            if self._is_ours(order):
                total[_key(order)] += fill.quantity * (1 if order.side == "BUY" else -1)
        return dict(total)

    # At the end

    def at_the_end(self) -> None:
        for text in self._not_flat():
            self._problem(
                "I2" if "still " in text and "holds" not in text else "I4", f"{text}, though the leader is out"
            )
        self._nothing_left_open()
        self._everything_accounted_for()
        self._no_duplicates()
        self._nothing_copied_twice()
        self._names_are_right()
        self._no_is_no()
        self._limits_were_kept()
        self._refusals_are_final()
        self._halts_were_obeyed()
        self._only_what_may_be_copied()
        for violation in self._world.exchange.violations:
            self._problem("I12", f"{violation.method} {violation.path}: {violation.reason}")
        if self._world.swarm.seed % 4 == 0:
            self._replays_alike()

    def _no_duplicates(self) -> None:
        accepted: Counter[tuple[str, str]] = Counter()
        for order in self._world.exchange.orders.values():
            if self._is_ours(order):
                accepted[order.client_id, order.correlation_id] += 1
        for (client_id, name), count in accepted.items():
            if count > 1:
                self._problem("I1", f"{client_id} has {count} orders of the name {name}")

    def _names_are_right(self) -> None:
        """A copy's name follows from whose copy it is alone, so that no two machines name it differently."""
        for name, copy in self._copies.items():
            follower_id = self._world.client_ids[copy.follower]
            if all(name != self._name(copy, follower_id, number) for number in range(40)):
                self._problem("I1", f"{name} is not the name of {copy}")

    def _name(self, copy: Copy, follower_id: str, number: int) -> str:
        leader_id, day = self._world.client_ids[LEADER], self._world.now().date()
        text = f"v1|{leader_id}|{day:%Y-%m-%d}|{copy.leader_order_id}|{follower_id}|{copy.generation}|{number}"
        return "ct1-" + base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:21].lower()

    def _no_is_no(self) -> None:
        """What was recorded as not placed, or as over, must be so at the broker."""
        by_name = {order.correlation_id: order for order in self._world.exchange.orders.values()}
        for seq, fact in self.facts:
            if isinstance(fact, Refused | NotSent | Throttled) and fact.verb is Verb.PLACE:
                order = by_name.get(fact.correlation_id)
                if order is not None and not (isinstance(fact, Refused) and fact.order_id and order.status == REJECTED):
                    self._problem(
                        "I6", f"fact {seq} says {type(fact).__name__} of {fact.correlation_id}, which was placed"
                    )
            if isinstance(fact, Ended) and (order := self._world.exchange.orders.get(fact.order_id)) is not None:
                if order.is_open:
                    self._problem("I6", f"fact {seq} says that {fact.order_id} ended, but it is {order.status}")

    def _limits_were_kept(self) -> None:
        world = self._world
        if world.charged or world.swarm.jitter > 0.2 or world.counts["fault late"] or world.counts["crash pause"]:
            return
        for follower, client_id in self._followers().items():
            overruns = world.exchange.limiters[client_id].overruns
            if overruns:
                self._problem("I8", f"{follower}'s rate limit was overrun {overruns} times")

    def _refusals_are_final(self) -> None:
        """After a definite no, nothing more is placed for that copy, unless the leader's order became another size."""
        refused: dict[tuple[str, str], int] = {}
        for seq, fact in self.facts:
            if isinstance(fact, Refused) and fact.verb is Verb.PLACE:
                copy = self._copies.get(fact.correlation_id)
                lost = fact.refusal in (RefusalClass.TOKEN, RefusalClass.IP)
                if copy is not None and copy.role is Role.ENTRY and not lost:
                    refused[copy.follower, copy.leader_order_id] = seq
            if isinstance(fact, Sized):
                refused.pop((fact.account, fact.leader_order_id), None)
            if isinstance(fact, Place) and fact.role is Role.ENTRY and (fact.account, fact.leader_order_id) in refused:
                earlier = refused[fact.account, fact.leader_order_id]
                self._problem("I9", f"fact {seq} places what was refused by {earlier}")

    def _halts_were_obeyed(self) -> None:
        halted: set[str] = set()
        for seq, fact in self.facts:
            if isinstance(fact, Halted | Resumed):
                names = set(self._followers()) if fact.account is None else {fact.account}
                halted = halted | names if isinstance(fact, Halted) else halted - names
            if isinstance(fact, Place) and fact.role is Role.ENTRY and fact.account in halted:
                self._problem("I12", f"fact {seq} is an entry for {fact.account}, who is halted")

    def _only_what_may_be_copied(self) -> None:
        for order, copy in self._our_orders():
            leader = self._world.exchange.orders.get(copy.leader_order_id)
            if leader is not None and leader.correlation_id.startswith("ct1-") and not copy.sweep:
                self._problem("I10", f"{order.order_id} copies a copy")
            if leader is not None and leader.remarks == "Super Order" and not copy.sweep:
                self._problem("I3", f"{order.order_id} copies a super order")

    def _replays_alike(self) -> None:
        """The recorded events, put through the engine again, lead to the recorded decisions."""
        state, expected = State(), list[Fact]()
        made: list[Fact] = []
        for seq, fact in self.facts:
            if isinstance(fact, Event):
                if made != expected:
                    self._problem("I7", f"before fact {seq} a replay decides {made}, not {expected}")
                    return
                state, decisions = step(state, fact)
                made, expected = list(decisions), []
            else:
                expected.append(fact)

    def of_secrets(self, said: list[str]) -> None:
        where = {"the log": "\n".join(said).encode(), "the journal": self._world.journal._connection.serialize()}
        for name, content in where.items():
            if b"canary-token" in content:
                self._problem("I12", f"a token is in {name}")

    # Reading the ledger

    def _problem(self, invariant: str, text: str) -> None:
        self._world.problem(f"{invariant}: {text}")

    def _count(self, kind: str, column: str, value: str) -> int:
        sql = f"SELECT count(*) FROM facts WHERE {column} = ? AND kind = ?"
        found = self._world.journal._connection.execute(sql, (value, kind)).fetchone()
        return int(found[0])

    def _is_ours(self, order: BookOrder) -> bool:
        return order.correlation_id in self._copies

    def _our_orders(self) -> list[tuple[BookOrder, Copy]]:
        return [
            (order, self._copies[order.correlation_id])
            for order in self._world.exchange.orders.values()
            if self._is_ours(order)
        ]

    def _our_fills(self, client_id: str, key: Position) -> list[tuple[Fill, BookOrder]]:
        found = [(fill, self._world.exchange.orders[fill.order_id]) for fill in self._world.exchange.fills[client_id]]
        return [(fill, order) for fill, order in found if self._is_ours(order) and _key(order) == key]

    def _leader_orders(self) -> list[BookOrder]:
        return self._world.exchange._books[self._world.client_ids[LEADER]]

    def _leader_nets(self) -> dict[Position, int]:
        return self._world.people.nets(self._world.client_ids[LEADER])

    def _followers(self) -> dict[str, str]:
        return {name: client_id for name, client_id in self._world.client_ids.items() if name != LEADER}

    def _ratio(self, follower: str) -> Decimal:
        return next(each.sizing.ratio for each in self._world.desk.followers if each.name == follower)


def _closing(place: Place) -> tuple[Position, int]:
    """The position that an exit closes, and its direction."""
    ticket = place.ticket
    key = ticket.security.exchange_segment, ticket.security.security_id, str(ticket.product)
    return key, -ticket.side.sign


def _key(order: BookOrder) -> Position:
    return order.instrument.exchange_segment, order.instrument.security_id, order.product


def _left_of(ours: Container[Fill], fills: Iterable[Fill]) -> Iterator[Fill]:
    """Yield our fills, and what those by hand closed of what we held then."""
    held = 0
    for fill in fills:
        signed = fill.quantity if fill.side == "BUY" else -fill.quantity
        if fill not in ours:
            closed = min(abs(signed), abs(held)) if signed * held < 0 else 0
            if not closed:
                continue
            signed = closed if signed > 0 else -closed
            fill = replace(fill, quantity=closed)  # noqa: PLW2901
        held += signed
        yield fill
