"""One order, from the leader's frame to the last fill: what was known, which rule spoke, what was sent and answered.

Everything is read from facts: the rules in force stand in the last `Started` before a decision, the instrument in the
last `InstrumentRead`, the position in the fills before it.  What happened live is told without what a dry run had on
paper; of an order that is on paper only, or asked for by its id on paper, the dry run is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from copytrader.audit import positions, words
from copytrader.audit.remedies import remedy_of
from copytrader.audit.words import Instruments
from copytrader.core.facts import (
    Accepted,
    BookRead,
    Cancel,
    Divided,
    Ended,
    Fact,
    Filled,
    Modify,
    NotSent,
    OrderSeen,
    Place,
    Refused,
    Sending,
    Sized,
    Skip,
    Source,
    Started,
    Throttled,
    Unanswered,
    Verb,
)
from copytrader.core.model import LEADER, Follower, Order, OrderStatus, Security, SizingMode, Ticket
from copytrader.journal import Journal, Row
from copytrader.journal.rows import COLUMNS, timestamp
from copytrader.journal.views import DRY_RUNS, on_paper

_BOOKS_OF = timedelta(days=7)
_ANSWERS = (Accepted, Refused, Throttled, Unanswered, NotSent)


@dataclass(frozen=True, slots=True)
class Step:
    """One link: the fact's place, the fact it follows from, and what kind of thing it was."""

    seq: int
    cause: int | None
    at: str
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What became of the leader's order for one follower; `remedy` says what would have had it copied."""

    follower: str
    verdict: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The leader's order in words, what the leader did with it, and a chain for each follower asked about.

    `leader_order_id` is empty for an order that is no copy.  `dry_run`: all of it is on paper.  `left_out` names
    orders of dry runs that have no part in it.
    """

    leader_order_id: str
    terms: str
    leader: tuple[Step, ...]
    followers: tuple[Chain, ...]
    dry_run: bool = False
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Link:
    """A fact with its place, and the dry run that it is of: the place of its `Started`; 0 for a live one."""

    row: Row
    fact: Fact
    paper: int

    @property
    def seq(self) -> int:
        return self.row.seq


def explain(journal: Journal, order: str) -> Explanation | None:
    """Explain an order by the leader's id, a follower's id or our correlation id; None where nobody knows it."""
    leader_order_id, follower = _whose(journal, order)
    if leader_order_id is None:
        return _own(journal, order)
    known = words.Instruments(journal)
    recorded = _links(journal, leader_order_id)
    paper = _paper([link for link in recorded if not follower or link.row.follower == follower], order)
    links = [link for link in recorded if link.paper == paper]
    sightings = list(_sightings(journal, leader_order_id, links))
    names = [follower] if follower else _followers(links)
    chains = tuple(_chain(journal, name, links, sightings, known) for name in names)
    return Explanation(
        leader_order_id,
        _terms(sightings, links, known),
        _leader_steps(links, sightings, known),
        chains,
        paper > 0,
        tuple(dict.fromkeys(_placed_on_paper(recorded, paper, follower))),
    )


def lines(explanation: Explanation) -> Iterator[str]:
    """Tell an explanation line by line."""
    if explanation.dry_run:
        yield "On paper: a dry run, nothing of it was sent."
    if explanation.leader_order_id:
        yield f"Leader's order {explanation.leader_order_id}: {explanation.terms}"
    else:
        yield f"No order of the leader's stands behind it: {explanation.terms}"
    yield from _told(explanation.leader)
    for chain in explanation.followers:
        yield ""
        yield f"{chain.follower}: {chain.verdict}"
        for text in chain.inputs:
            yield f"  given     {text}"
        yield from _told(chain.steps)
        if chain.remedy:
            yield f"  {chain.remedy}"
    if explanation.left_out:
        yield ""
        orders = ", ".join(explanation.left_out)
        yield f"Left out, for it was on paper: {orders}; explain one of them to see its dry run."


def _told(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        cause = f" from {step.cause}" if step.cause is not None else ""
        yield f"  {step.at[11:23]}  #{step.seq}{cause}  {step.what:<9} {step.text}"


def _whose(journal: Journal, order: str) -> tuple[str | None, str | None]:
    """Find the leader's order behind an id, and the follower if the id is one of a follower's order."""
    sql = "SELECT 1 FROM facts WHERE leader_order_id = ? LIMIT 1"
    if journal.query(sql, [order])[1]:
        return order, None
    for column in ("correlation_id", "order_id"):
        sql = (
            f"SELECT leader_order_id, follower FROM facts WHERE {column} = ? "  # noqa: S608  # own names
            "AND leader_order_id IS NOT NULL ORDER BY seq LIMIT 1"
        )
        found = journal.query(sql, [order])[1]
        if found:
            return str(found[0][0]), found[0][1]
    return (order if _books(journal, order) else None), None


def _own(journal: Journal, order: str) -> Explanation | None:
    """Tell what was seen of a follower's order that is no copy; nothing was decided about it."""
    links = list(_read(journal, "order_id = ? OR correlation_id = ?", [order, order]))
    if not links:
        return None
    known = words.Instruments(journal)
    seen = [link.fact.order for link in links if isinstance(link.fact, OrderSeen)]
    terms = words.terms(seen[-1].ticket, known) if seen else "its terms are not known"
    bears_our_name = any(order.is_ours for order in seen)
    verdict = (
        "it bears our name, and nothing was decided on it" if bears_our_name else "an order of its own, not a copy"
    )
    chains = []
    for name in _followers(links):
        theirs = [link for link in links if link.row.follower == name]
        chains.append(Chain(name, verdict, (), tuple(_steps(theirs, known))))
    return Explanation("", terms, (), tuple(chains), dry_run=min(link.paper for link in links) > 0)


def _links(journal: Journal, leader_order_id: str) -> list[_Link]:
    """Return what was recorded about an order, of which an answer without the order's id is found by its cause."""
    return list(_read(journal, "leader_order_id = ?", [leader_order_id]))


def _read(journal: Journal, condition: str, parameters: Sequence[object]) -> Iterator[_Link]:
    sql = f"WITH {DRY_RUNS} {COLUMNS}, {on_paper('facts')} FROM facts WHERE {condition} ORDER BY seq"
    for *columns, paper in journal.query(sql, parameters)[1]:
        row = Row._make(columns)
        yield _Link(row, row.fact, paper)


def _paper(links: Sequence[_Link], order: str) -> int:
    """Tell what to explain: the dry run that has an order of this id, else what is live, else the last dry run."""
    named = [link.paper for link in links if link.row.follower and link.row.order_id == order]
    papers = named or [link.paper for link in links if link.row.follower] or [link.paper for link in links]
    return max(papers) if papers and min(papers) > 0 else 0


def _placed_on_paper(links: Sequence[_Link], paper: int, follower: str | None) -> Iterator[str]:
    """Name the orders of the dry runs that are not explained."""
    for link in links:
        mine = follower is None or link.row.follower == follower
        if link.paper not in (0, paper) and mine and isinstance(link.fact, Accepted) and link.fact.verb is Verb.PLACE:
            yield link.fact.order_id


def _sightings(journal: Journal, leader_order_id: str, links: Sequence[_Link]) -> Iterator[tuple[_Link, Order]]:
    """Yield each time that the leader's order was seen, on the stream and in the books that led to decisions."""
    causes = {link.row.cause for link in links if link.row.cause is not None} - {link.seq for link in links}
    found = [link for link in links if isinstance(link.fact, OrderSeen)]
    for seq in causes:
        found += _read(journal, "seq = ?", [seq])
    if not any(isinstance(link.fact, OrderSeen) for link in found):
        found += _books(journal, leader_order_id)
    for link in sorted({link.seq: link for link in found}.values(), key=lambda each: each.seq):
        for order in _orders(link.fact):
            if order.order_id == leader_order_id:
                yield link, order


def _books(journal: Journal, leader_order_id: str) -> list[_Link]:
    """Find an order that only the leader's books of the last days show: nothing was decided on it."""
    newest = journal.query("SELECT max(at) FROM facts")[1][0][0]
    if newest is None:
        return []
    condition = "kind = 'BookRead' AND at >= ? AND follower IS NULL AND instr(body, '\"order_id\":\"' || ? || '\"') > 0"
    since = timestamp(datetime.fromisoformat(newest) - _BOOKS_OF)
    return list(_read(journal, condition, [since, leader_order_id]))


def _orders(fact: Fact) -> Sequence[Order]:
    if isinstance(fact, OrderSeen):
        return (fact.order,) if fact.account == LEADER else ()
    return fact.orders if isinstance(fact, BookRead) and fact.account == LEADER else ()


def _terms(sightings: Sequence[tuple[_Link, Order]], links: Sequence[_Link], known: Instruments) -> str:
    if sightings:
        telling = [order for link, order in sightings if _has_terms(link.fact, order)]
        return words.terms((telling or [sightings[0][1]])[-1].ticket, known)
    placed = next((link.fact for link in links if isinstance(link.fact, Place)), None)
    return f"never seen itself; first copy {words.terms(placed.ticket, known)}" if placed else "its terms are not known"


def _has_terms(fact: Fact, order: Order) -> bool:
    """Whether a sighting tells the terms in force: of the stream's frames only these do."""
    told = order.status in (OrderStatus.PENDING, OrderStatus.MODIFIED)
    return told or not isinstance(fact, OrderSeen) or fact.source is not Source.STREAM


def _leader_steps(
    links: Sequence[_Link], sightings: Sequence[tuple[_Link, Order]], known: Instruments
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


def _followers(links: Sequence[_Link]) -> list[str]:
    return list(dict.fromkeys(link.row.follower for link in links if link.row.follower))


def _chain(
    journal: Journal,
    name: str,
    links: Sequence[_Link],
    sightings: Sequence[tuple[_Link, Order]],
    known: Instruments,
) -> Chain:
    own = [link for link in links if link.row.follower == name]
    first = next((link for link in own if isinstance(link.fact, Sized | Place | Skip)), own[0] if own else None)
    follower = _follower(journal, name, first.seq) if first is not None else None
    ticket = _ticket(own, sightings)
    inputs = tuple(_inputs(journal, first, name, follower, ticket, known)) if first is not None else ()
    steps = tuple(_steps(own, known))
    skips = [link.fact for link in own if isinstance(link.fact, Skip)]
    placed = [link for link in own if isinstance(link.fact, Place)]
    remedy = remedy_of(skips[-1], follower, ticket, known) if skips and not _is_copied(own) else ""
    return Chain(name, _verdict(journal, own, placed, skips), inputs, steps, remedy)


def _ticket(own: Sequence[_Link], sightings: Sequence[tuple[_Link, Order]]) -> Ticket | None:
    if sightings:
        return sightings[0][1].ticket
    return next((link.fact.ticket for link in own if isinstance(link.fact, Place)), None)


def _is_copied(own: Sequence[_Link]) -> bool:
    """Whether some order of ours reached the broker."""
    return any(isinstance(link.fact, Accepted | Filled | Ended) for link in own)


def _verdict(journal: Journal, own: Sequence[_Link], placed: Sequence[_Link], skips: Sequence[Skip]) -> str:
    if skips and not _is_copied(own):
        return words.not_copied(skips[-1])
    if not placed:
        return "nothing was decided"
    filled: dict[str, int] = {}
    ended: dict[str, str] = {}
    for link in own:
        if isinstance(link.fact, Filled):
            filled[link.fact.correlation_id] = link.fact.filled_quantity
        elif isinstance(link.fact, Ended):
            ended[link.fact.correlation_id] = link.fact.status.lower()
    orders = f"{len(placed)} orders" if len(placed) > 1 else f"{_units(journal, placed[0])} units"
    said = f"copied with {orders}, {sum(filled.values())} filled"
    if ended:
        said += f", {' and '.join(sorted(set(ended.values())))}"
    return f"{said}; then {skips[-1].reason}: {skips[-1].detail}" if skips else said


def _units(journal: Journal, placed: _Link) -> int:
    """Return the quantity in force of an order: that of the last change which the broker took."""
    return int(journal.query("SELECT quantity FROM copies WHERE seq = ?", [placed.seq])[1][0][0])


def _follower(journal: Journal, name: str, seq: int) -> Follower | None:
    """Return the follower's rules in force when a fact was recorded."""
    for link in _read(journal, "seq = (SELECT max(seq) FROM facts WHERE kind = 'Started' AND seq < ?)", [seq]):
        if isinstance(link.fact, Started):
            return next((each for each in link.fact.desk.followers if each.name == name), None)
    return None


def _inputs(
    journal: Journal, first: _Link, name: str, follower: Follower | None, ticket: Ticket | None, known: Instruments
) -> Iterator[str]:
    """Say with which numbers the rules were applied."""
    if follower is not None:
        yield f"sizing {_sizing(follower)}"
        limits = {key: value for key, value in asdict(follower.limits).items() if value is not None}
        yield "limits " + (", ".join(f"{key} {value}" for key, value in limits.items()) or "none")
        filters = {key: value for key, value in asdict(follower.filter).items() if value}
        if filters:
            yield "filter " + ", ".join(f"{key} {'/'.join(value)}" for key, value in filters.items())
    if ticket is not None:
        row = known.get(ticket.security)
        if row is not None:
            sizes = f"lot {row.lot_size}, tick {row.tick_size:g}, multiplier {row.multiplier or 1}"
            yield f"instrument {row.label}: {sizes}"
        yield f"position from copying before it: {_copied(journal, name, ticket.security, first):+d}"


def _sizing(follower: Follower) -> str:
    rule = follower.sizing
    match rule.mode:
        case SizingMode.LOTS:
            return f"lots, {rule.lots} an entry"
        case SizingMode.RISK:
            return f"risk, {rule.risk_percent} % of the capital an entry"
        case SizingMode.CAPITAL:
            return f"capital, {rule.ratio} of the capitals' ratio"
        case _:
            return f"ratio {rule.ratio}"


def _copied(journal: Journal, name: str, security: Security, before: _Link) -> int:
    """Return what a follower held from copying when a fact was recorded."""
    moment = before.row.time
    rows = positions.fills(journal, name, {security}, moment, moment + timedelta(microseconds=1), before.paper)
    return sum(row["quantity"] * (1 if row["side"] == "BUY" else -1) for row in rows if row["seq"] < before.seq)


def _steps(own: Sequence[_Link], known: Instruments) -> Iterator[Step]:
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


def _step(link: _Link, what: str, text: str) -> Step:
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


def _took(link: _Link, commands: dict[int, _Link]) -> str:
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
