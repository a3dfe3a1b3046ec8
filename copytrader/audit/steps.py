"""What the facts about an order say: each as a step, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from copytrader.audit import words
from copytrader.audit.links import Link
from copytrader.audit.words import Instruments
from copytrader.core.facts import (
    Accepted,
    Cancel,
    Divided,
    Ended,
    Filled,
    Modify,
    NotSent,
    OrderSeen,
    Place,
    Refused,
    Sending,
    Sized,
    Skip,
    Throttled,
    Unanswered,
)
from copytrader.core.model import LEADER, Order, Ticket

_ANSWERS = (Accepted, Refused, Throttled, Unanswered, NotSent)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the fact's place, the fact it follows from, and what kind of thing it was."""

    seq: int
    cause: int | None
    at: str
    what: str
    text: str


def leader_steps(
    links: Sequence[Link], sightings: Sequence[tuple[Link, Order]], known: Instruments
) -> tuple[Step, ...]:
    steps = {}
    for link, order in sightings:
        source = link.fact.source.lower() if isinstance(link.fact, OrderSeen) else "book"
        text = f"{order.status} by {source}: {words.terms(order.ticket, known)}"
        if order.filled_quantity:
            text += f", {order.filled_quantity} filled at {order.average_price}"
        steps[link.seq] = _step(link, "seen", f"{text} ({order.note})" if order.note else text)
    for link in links:
        if isinstance(link.fact, Filled) and link.fact.account == LEADER:
            steps[link.seq] = _step(link, "filled", words.tell(link.fact, known))
    return tuple(steps[seq] for seq in sorted(steps))


def steps_of(own: Sequence[Link], known: Instruments) -> Iterator[Step]:
    commands = {link.seq: link for link in own if isinstance(link.fact, Place | Modify | Cancel)}
    in_force: dict[str, Ticket] = {}
    for link in own:
        fact = link.fact
        match fact:
            case Sized():
                yield _step(link, "rule", _sized(fact))
            case Skip():
                yield _step(link, "decision", words.not_copied(fact))
            case Place():
                yield _step(link, "decision", f"{fact.role.lower()}, {words.tell(fact, known)}")
                yield _step(link, "request", _request(fact.ticket))
                in_force[fact.correlation_id] = fact.ticket
            case Modify():
                changes = _changes(in_force.get(fact.correlation_id), fact.ticket)
                yield _step(link, "decision", f"{words.tell(fact, known)}{changes}")
            case Divided():
                yield _step(link, "rule", words.tell(fact, known))
            case Cancel():
                yield _step(link, "decision", words.tell(fact, known))
            case Filled():
                yield _step(link, "filled", words.tell(fact, known) + _compared(fact))
            case Ended():
                yield _step(link, "ended", words.tell(fact, known))
            case OrderSeen():
                yield _step(link, "seen", words.tell(fact, known))
            case _ if isinstance(fact, _ANSWERS):
                yield _step(link, "answer", words.tell(fact, known) + _took(link, commands))
                answered = commands.get(link.row.cause or 0)
                if isinstance(fact, Accepted) and answered is not None and isinstance(answered.fact, Modify):
                    in_force[fact.correlation_id] = answered.fact.ticket
            case _:
                yield _step(link, "event", words.tell(fact, known))


def _step(link: Link, what: str, text: str) -> Step:
    return Step(link.row.seq, link.row.cause, link.row.at, what, text)


def _sized(fact: Sized) -> str:
    said = f"the order opens {fact.opens} units: {fact.exact} lots exactly, {fact.lots} lots due, carry {fact.carry}"
    return f"{said} on {fact.carry_side} ({fact.detail})" if fact.detail else f"{said} on {fact.carry_side}"


def _changes(before: Ticket | None, after: Ticket) -> str:
    """Say which terms a modification changes, from what to what."""
    if before is None:
        return ""
    names = ("order_type", "validity", "quantity", "price", "trigger_price", "disclosed_quantity")
    told = [
        f"{name.replace('_', ' ')} from {getattr(before, name)} to {getattr(after, name)}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    ]
    return f": {', '.join(told)}" if told else ""


def _request(ticket: Ticket) -> str:
    """Say what the placement asked for, field by field."""
    fields: dict[str, object] = {
        "segment": ticket.security.exchange_segment,
        "security": ticket.security.security_id,
        "side": ticket.side,
        "product": ticket.product,
        "type": ticket.order_type,
        "validity": ticket.validity,
        "quantity": ticket.quantity,
        "price": ticket.price,
    }
    if ticket.trigger_price:
        fields["trigger"] = ticket.trigger_price
    if ticket.disclosed_quantity:
        fields["disclosed"] = ticket.disclosed_quantity
    if ticket.after_market:
        fields["after market"] = ticket.amo_time or "yes"
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def _took(link: Link, commands: dict[int, Link]) -> str:
    """Say how long an answer took, stage by stage where that was recorded."""
    command = commands.get(link.row.cause or 0)
    if command is None:
        return ""
    whole = _milliseconds(command.row.time, link.row.time)
    times: Sending | None = getattr(link.fact, "times", None)
    if times is None:
        return f", {whole} after its event"
    return (
        f", {whole} after its event (decided {_milliseconds(command.row.time, times.decided)}, durable "
        f"{_milliseconds(times.decided, times.durable)}, sent {_milliseconds(times.durable, times.sent)}, answered "
        f"{_milliseconds(times.sent, link.row.time)})"
    )


def _milliseconds(since: datetime, until: datetime) -> str:
    return f"{(until - since).total_seconds() * 1000:.1f} ms"


def _compared(fact: Filled) -> str:
    if not fact.leader_price:
        return ""
    difference = fact.average_price - fact.leader_price
    return f", {difference:+} against the leader" if difference else ", the leader's price"
