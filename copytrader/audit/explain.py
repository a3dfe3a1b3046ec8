"""One order, from the leader's frame to the last fill: what was known, which rule spoke, what was sent and answered.

Everything is read from facts: the rules in force stand in the last `Started` before a decision, the instrument in the
last `InstrumentRead`, the position in the fills before it.  What happened live is told without what a dry run had on
paper; of an order that is on paper only, or asked for by its id on paper, the dry run is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from copytrader.audit import positions, words
from copytrader.audit.links import Link, followers_of, links_of, paper_of, placed_on_paper, read, sightings_of, whose
from copytrader.audit.remedies import remedy_of
from copytrader.audit.steps import Step, leader_steps, steps_of
from copytrader.audit.words import Instruments
from copytrader.core.facts import Accepted, Ended, Fact, Filled, OrderSeen, Place, Sized, Skip, Source, Started
from copytrader.core.model import Follower, Order, OrderStatus, Security, SizingMode, Ticket
from copytrader.journal import Journal


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


def explain(journal: Journal, order: str) -> Explanation | None:
    """Explain an order by the leader's id, a follower's id or our correlation id; None where nobody knows it."""
    leader_order_id, follower = whose(journal, order)
    if leader_order_id is None:
        return _own(journal, order)
    known = words.Instruments(journal)
    recorded = links_of(journal, leader_order_id)
    paper = paper_of([link for link in recorded if not follower or link.row.follower == follower], order)
    links = [link for link in recorded if link.paper == paper]
    sightings = list(sightings_of(journal, leader_order_id, links))
    names = [follower] if follower else followers_of(links)
    chains = tuple(_chain(journal, name, links, sightings, known) for name in names)
    return Explanation(
        leader_order_id,
        _terms(sightings, links, known),
        leader_steps(links, sightings, known),
        chains,
        paper > 0,
        tuple(dict.fromkeys(placed_on_paper(recorded, paper, follower))),
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


def _own(journal: Journal, order: str) -> Explanation | None:
    """Tell what was seen of a follower's order that is no copy; nothing was decided about it."""
    links = list(read(journal, "order_id = ? OR correlation_id = ?", [order, order]))
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
    for name in followers_of(links):
        theirs = [link for link in links if link.row.follower == name]
        chains.append(Chain(name, verdict, (), tuple(steps_of(theirs, known))))
    return Explanation("", terms, (), tuple(chains), dry_run=min(link.paper for link in links) > 0)


def _terms(sightings: Sequence[tuple[Link, Order]], links: Sequence[Link], known: Instruments) -> str:
    if sightings:
        telling = [order for link, order in sightings if _has_terms(link.fact, order)]
        return words.terms((telling or [sightings[0][1]])[-1].ticket, known)
    placed = next((link.fact for link in links if isinstance(link.fact, Place)), None)
    return f"never seen itself; first copy {words.terms(placed.ticket, known)}" if placed else "its terms are not known"


def _has_terms(fact: Fact, order: Order) -> bool:
    """Whether a sighting tells the terms in force: of the stream's frames only these do."""
    told = order.status in (OrderStatus.PENDING, OrderStatus.MODIFIED)
    return told or not isinstance(fact, OrderSeen) or fact.source is not Source.STREAM


def _chain(
    journal: Journal,
    name: str,
    links: Sequence[Link],
    sightings: Sequence[tuple[Link, Order]],
    known: Instruments,
) -> Chain:
    own = [link for link in links if link.row.follower == name]
    first = next((link for link in own if isinstance(link.fact, Sized | Place | Skip)), own[0] if own else None)
    follower = _follower(journal, name, first.seq) if first is not None else None
    ticket = _ticket(own, sightings)
    inputs = tuple(_inputs(journal, first, name, follower, ticket, known)) if first is not None else ()
    steps = tuple(steps_of(own, known))
    skips = [link.fact for link in own if isinstance(link.fact, Skip)]
    placed = [link for link in own if isinstance(link.fact, Place)]
    remedy = remedy_of(skips[-1], follower, ticket, known) if skips and not _is_copied(own) else ""
    return Chain(name, _verdict(journal, own, placed, skips), inputs, steps, remedy)


def _ticket(own: Sequence[Link], sightings: Sequence[tuple[Link, Order]]) -> Ticket | None:
    if sightings:
        return sightings[0][1].ticket
    return next((link.fact.ticket for link in own if isinstance(link.fact, Place)), None)


def _is_copied(own: Sequence[Link]) -> bool:
    """Whether some order of ours reached the broker."""
    return any(isinstance(link.fact, Accepted | Filled | Ended) for link in own)


def _verdict(journal: Journal, own: Sequence[Link], placed: Sequence[Link], skips: Sequence[Skip]) -> str:
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


def _units(journal: Journal, placed: Link) -> int:
    """Return the quantity in force of an order: that of the last change which the broker took."""
    return int(journal.query("SELECT quantity FROM copies WHERE seq = ?", [placed.seq])[1][0][0])


def _follower(journal: Journal, name: str, seq: int) -> Follower | None:
    """Return the follower's rules in force when a fact was recorded."""
    for link in read(journal, "seq = (SELECT max(seq) FROM facts WHERE kind = 'Started' AND seq < ?)", [seq]):
        if isinstance(link.fact, Started):
            return next((each for each in link.fact.desk.followers if each.name == name), None)
    return None


def _inputs(
    journal: Journal, first: Link, name: str, follower: Follower | None, ticket: Ticket | None, known: Instruments
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
            sizes = f"lot {row.lot_size}, tick {row.tick_size:g}, multiplier {row.multiplier or 'not known'}"
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


def _copied(journal: Journal, name: str, security: Security, before: Link) -> int:
    """Return what a follower held from copying when a fact was recorded."""
    moment = before.row.time
    rows = positions.fills(journal, name, {security}, moment, moment + timedelta(microseconds=1), before.paper)
    return sum(row["quantity"] * (1 if row["side"] == "BUY" else -1) for row in rows if row["seq"] < before.seq)
