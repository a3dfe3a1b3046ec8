"""Finds the facts about an order, and tells the live ones from those of a dry run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from copytrader.core.facts import Accepted, BookRead, Fact, OrderSeen, Verb
from copytrader.core.model import LEADER, Order
from copytrader.journal import Journal, Row
from copytrader.journal.rows import COLUMNS, timestamp
from copytrader.journal.views import DRY_RUNS, on_paper

_BOOKS_OF = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Link:
    """A fact with its place, and the dry run that it is of: the place of its `Started`; 0 for a live one."""

    row: Row
    fact: Fact
    paper: int

    @property
    def seq(self) -> int:
        return self.row.seq


def whose(journal: Journal, order: str) -> tuple[str | None, str | None]:
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


def links_of(journal: Journal, leader_order_id: str) -> list[Link]:
    """Return what was recorded about an order, of which an answer without the order's id is found by its cause."""
    return list(read(journal, "leader_order_id = ?", [leader_order_id]))


def read(journal: Journal, condition: str, parameters: Sequence[object]) -> Iterator[Link]:
    sql = f"WITH {DRY_RUNS} {COLUMNS}, {on_paper('facts')} FROM facts WHERE {condition} ORDER BY seq"
    for *columns, paper in journal.query(sql, parameters)[1]:
        row = Row._make(columns)
        yield Link(row, row.fact, paper)


def paper_of(links: Sequence[Link], order: str) -> int:
    """Tell what to explain: the dry run that has an order of this id, else what is live, else the last dry run."""
    named = [link.paper for link in links if link.row.follower and link.row.order_id == order]
    papers = named or [link.paper for link in links if link.row.follower] or [link.paper for link in links]
    return max(papers) if papers and min(papers) > 0 else 0


def placed_on_paper(links: Sequence[Link], paper: int, follower: str | None) -> Iterator[str]:
    """Name the orders of the dry runs that are not explained."""
    for link in links:
        mine = follower is None or link.row.follower == follower
        if link.paper not in (0, paper) and mine and isinstance(link.fact, Accepted) and link.fact.verb is Verb.PLACE:
            yield link.fact.order_id


def sightings_of(journal: Journal, leader_order_id: str, links: Sequence[Link]) -> Iterator[tuple[Link, Order]]:
    """Yield each time that the leader's order was seen, on the stream and in the books that led to decisions."""
    causes = {link.row.cause for link in links if link.row.cause is not None} - {link.seq for link in links}
    found = [link for link in links if isinstance(link.fact, OrderSeen)]
    for seq in causes:
        found += read(journal, "seq = ?", [seq])
    if not any(isinstance(link.fact, OrderSeen) for link in found):
        found += _books(journal, leader_order_id)
    for link in sorted({link.seq: link for link in found}.values(), key=lambda each: each.seq):
        for order in _orders(link.fact):
            if order.order_id == leader_order_id:
                yield link, order


def followers_of(links: Sequence[Link]) -> list[str]:
    return list(dict.fromkeys(link.row.follower for link in links if link.row.follower))


def _books(journal: Journal, leader_order_id: str) -> list[Link]:
    """Find an order that only the leader's books of the last days show: nothing was decided on it."""
    newest = journal.query("SELECT max(at) FROM facts")[1][0][0]
    if newest is None:
        return []
    condition = "kind = 'BookRead' AND at >= ? AND follower IS NULL AND instr(body, '\"order_id\":\"' || ? || '\"') > 0"
    since = timestamp(datetime.fromisoformat(newest) - _BOOKS_OF)
    return list(read(journal, condition, [since, leader_order_id]))


def _orders(fact: Fact) -> Sequence[Order]:
    if isinstance(fact, OrderSeen):
        return (fact.order,) if fact.account == LEADER else ()
    return fact.orders if isinstance(fact, BookRead) and fact.account == LEADER else ()
