"""Facts in plain words: one line for each, and what each reason means to whoever reads it.

The words hold what the broker said, as it said it: whoever shows them makes them harmless.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from copytrader.core.facts import (
    Accepted,
    Adopted,
    Alert,
    BookRead,
    Cancel,
    Connected,
    Disconnected,
    Divided,
    Ended,
    Fact,
    Filled,
    FixOrdered,
    FrameRefused,
    Halted,
    InstrumentRead,
    Modify,
    NotFound,
    Noticed,
    NotSent,
    OrderSeen,
    Place,
    Refused,
    Resumed,
    Sized,
    Skip,
    Started,
    Stopped,
    Throttled,
    Ticked,
    TokenRefused,
    TokenRenewed,
    Unanswered,
)
from copytrader.core.model import LEADER, Instrument, OrderType, Security, SkipReason, Ticket
from copytrader.journal import Journal
from copytrader.journal.views import newest_row_of


class Instruments:
    """The instruments that a journal knows, as they were read last; each is looked up when it is first asked for."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._found: dict[Security, Instrument | None] = {}

    def get(self, security: Security) -> Instrument | None:
        if security not in self._found:
            self._found[security] = self._look_up(security)
        return self._found[security]

    def label(self, security: Security) -> str:
        """Name what is traded, with the day of its expiry, as every screen does."""
        found = self.get(security)
        return found.label if found is not None else f"{security.exchange_segment} {security.security_id}"

    def _look_up(self, security: Security) -> Instrument | None:
        seq = self._journal.query(f"SELECT {newest_row_of('?')}", [security_key(security)])[1][0][0]
        row = None if seq is None else self._journal.row(seq)
        return row.fact.instrument if row is not None and isinstance(row.fact, InstrumentRead) else None


def terms(ticket: Ticket, known: Instruments) -> str:
    """Say an order's terms as a trader would: BUY 75 NIFTY … LIMIT 186.00."""
    text = f"{ticket.side} {ticket.quantity} {known.label(ticket.security)} {ticket.order_type}"
    if ticket.order_type is not OrderType.MARKET:
        text += f" {ticket.price}"
    return f"{text} trigger {ticket.trigger_price}" if ticket.trigger_price else text


def who(fact: Fact) -> str:
    """Say whose account a fact is about; a decision about a leader's order is its follower's."""
    return getattr(fact, "account", None) or ""


def tell(fact: Fact, known: Instruments) -> str:
    """Say a fact in one line, without its time and its account."""
    teller: Callable[[Fact, Instruments], str] = _TELLERS[type(fact)]
    return teller(fact, known)


def _started(fact: Started, _known: Instruments) -> str:
    names = ", ".join(follower.name for follower in fact.desk.followers)
    what = "follow started" if fact.copying else "a command such as halt began, which copies nothing"
    text = f"{what}, version {fact.version or '?'}, for {names or 'nobody'}"
    return f"{text}; a dry run: nothing is sent" if fact.dry_run else text


def _instrument(fact: InstrumentRead, _known: Instruments) -> str:
    row = fact.instrument
    freeze = f", freeze quantity {row.freeze_quantity}" if row.freeze_quantity else ""
    return f"instrument {row.label}: lot {row.lot_size}, tick {row.tick_size}{freeze}"


def _seen(fact: OrderSeen, known: Instruments) -> str:
    order = fact.order
    text = f"order {order.order_id} {order.status} by {fact.source.lower()}: {terms(order.ticket, known)}"
    if order.filled_quantity:
        text += f", {order.filled_quantity} filled at {order.average_price}"
    return f"{text} ({order.note})" if order.note else text


def _book(fact: BookRead, known: Instruments) -> str:
    said = [f"{order.order_id} {order.status}" for order in fact.orders]
    text = f"order book read, {len(said)} changed" + (f": {', '.join(said[:4])}" if said else "")
    if len(said) > 4:
        text += ", …"
    if fact.positions is not None:
        held = [f"{each.net_quantity:+} {known.label(each.security)}" for each in fact.positions if each.net_quantity]
        text += f"; positions {', '.join(held) or 'flat'}"
    return text


def _accepted(fact: Accepted, _known: Instruments) -> str:
    return f"{fact.verb.lower()} accepted: order {fact.order_id}" + (f", {fact.status}" if fact.status else "")


def _refused(fact: Refused, _known: Instruments) -> str:
    said = " ".join(part for part in (fact.code, fact.message) if part)
    return f"{fact.verb.lower()} refused, {fact.refusal}: {said or 'no words'}"


def _filled(fact: Filled, _known: Instruments) -> str:
    text = f"order {fact.order_id} filled {fact.filled_quantity} at {fact.average_price}"
    if fact.account != LEADER and fact.leader_price:
        text += f" (leader {fact.leader_price})"
    return text


def not_copied(skip: Skip) -> str:
    """Say why an order was not copied, where it is clear which."""
    return f"not copied, {skip.reason}: {skip.detail or MEANINGS[skip.reason]}"


def _skip(fact: Skip, _known: Instruments) -> str:
    return f"order {fact.leader_order_id} {not_copied(fact)}"


def _why(text: str, why: str) -> str:
    return f"{text} ({why})" if why else text


def _with(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text


def _everyone(account: str | None) -> str:
    return account or "every follower"


_TELLERS: dict[type, Callable[..., str]] = {
    Started: _started,
    Stopped: lambda fact, _: _with("the session ended", fact.detail),
    InstrumentRead: _instrument,
    OrderSeen: _seen,
    BookRead: _book,
    NotFound: lambda fact, _: f"the broker knows no order {fact.correlation_id}",
    Accepted: _accepted,
    Refused: _refused,
    Throttled: lambda fact, _: _with(f"{fact.verb.lower()} refused by the rate limiter", fact.detail),
    Unanswered: lambda fact, _: _with(f"{fact.verb.lower()} not answered, its fate is unknown", fact.detail),
    NotSent: lambda fact, _: _with(f"{fact.verb.lower()} never left", fact.detail),
    Connected: lambda _fact, _: "order stream connected",
    Disconnected: lambda fact, _: _with("order stream lost", fact.detail),
    FrameRefused: lambda fact, _: _with("a frame cannot be read", fact.detail),
    TokenRefused: lambda fact, _: _with(f"the broker refuses the {fact.refusal.lower()}", fact.detail),
    TokenRenewed: lambda _fact, _: "the access token works",
    Noticed: lambda fact, _: f"{fact.level}: {fact.text}",
    Ticked: lambda _fact, _: "time passed that was waited for",
    Halted: lambda fact, _: _with(
        f"halted for {_everyone(fact.account)}" + (", positions are closed" if fact.flatten else ""), fact.detail
    ),
    Resumed: lambda fact, _: _with(f"resumed for {_everyone(fact.account)}", fact.detail),
    Adopted: lambda fact, _: f"{len(fact.orders)} orders with our names taken over",
    FixOrdered: lambda fact, _: (
        f"plan {fact.plan_id} ordered: {len(fact.tickets)} orders, {len(fact.cancels)} cancellations"
    ),
    Sized: lambda fact, _: _with(f"{fact.lots} lots due", fact.detail),
    Place: lambda fact, known: _why(f"place {terms(fact.ticket, known)} as {fact.correlation_id}", fact.why),
    Modify: lambda fact, known: _why(f"modify {fact.order_id} to {terms(fact.ticket, known)}", fact.why),
    Divided: lambda fact, _: f"of {fact.correlation_id} now {fact.opens} units open, the rest closes",
    Cancel: lambda fact, _: _why(f"cancel {fact.order_id}", fact.why),
    Skip: _skip,
    Filled: _filled,
    Ended: lambda fact, _: f"order {fact.order_id} is {fact.status.lower()}, {fact.filled_quantity} filled",
    Alert: lambda fact, _: f"{fact.level}: {fact.text}",
}

MEANINGS: dict[SkipReason, str] = {
    SkipReason.STALE: "it was seen too late to be copied at a fair price",
    SkipReason.FILTERED: "the follower's filter leaves it out",
    SkipReason.BELOW_ONE_LOT: "the follower's share came to less than one lot",
    SkipReason.NOTHING_TO_EXIT: "the follower held nothing from copying that could be closed",
    SkipReason.UNKNOWN_INSTRUMENT: "the instrument is not in the master",
    SkipReason.UNSUPPORTED_KIND: "orders of this kind are not copied",
    SkipReason.OWN_COPY: "it is itself a copy",
    SkipReason.LEADER_DONE: "the leader's order was over before a copy was due",
    SkipReason.HALTED: "copying was halted",
    SkipReason.DETACHED: "somebody changed or cancelled the copy by hand",
    SkipReason.MARKET_CLOSED: "the market was closed",
    SkipReason.LIMIT_ORDER_VALUE: "the order would have been worth more than the limit",
    SkipReason.LIMIT_ORDER_LOTS: "the order would have had more lots than the limit",
    SkipReason.LIMIT_POSITION_LOTS: "the position would have had more lots than the limit",
    SkipReason.LIMIT_OPEN_POSITIONS: "too many positions were open",
    SkipReason.LIMIT_DAILY_LOSS: "the day's loss had reached the limit",
    SkipReason.LIMIT_ORDERS_PER_MINUTE: "too many entries came within a minute",
    SkipReason.RATE_BUDGET: "the broker's rate limits left no room in time",
    SkipReason.INSUFFICIENT_MARGIN: "the account had too little money",
    SkipReason.PRICE_BAND: "the price was outside the exchange's limits",
    SkipReason.BAD_TERMS: "no exchange takes such terms",
    SkipReason.TOKEN: "the broker did not accept the access token or the address",
    SkipReason.ABSENT: "it was sent, never answered and never found",
    SkipReason.REFUSED: "the broker refused it",
}


UNKNOWN = "a word that this program does not know: `copytrader audit verify` tells whether somebody altered it"


def meaning(reason: str) -> str:
    """Say what a skip's reason means, also where it is none that this program writes."""
    try:
        return MEANINGS[SkipReason(reason)]
    except ValueError:
        return UNKNOWN


def security_key(security: Security) -> str:
    """Return a security as it stands in the body of a fact."""
    return json.dumps(
        {"exchange_segment": security.exchange_segment, "security_id": security.security_id}, separators=(",", ":")
    )
