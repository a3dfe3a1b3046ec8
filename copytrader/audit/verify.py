"""Whether the journal can be relied on: unaltered, complete, and in agreement with the broker.

Three questions, each answered with findings.  Is the chain of facts whole?  Has every leader order what
was due for each follower, or a reason, and is nothing unknown left?  Do the broker's books of the day say the same?
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from copytrader import lock
from copytrader.audit.archives import Archive, archives, place
from copytrader.audit.figures import exact
from copytrader.audit.report import unknown_placements
from copytrader.core.model import LEADER, PREFIX, ZERO, Order, OrderStatus
from copytrader.dhan.bodies import Trade
from copytrader.journal import Journal, JournalError
from copytrader.journal.rows import day_bounds, timestamp
from copytrader.journal.views import DRY_RUNS, on_paper

IN_FLIGHT = timedelta(seconds=30)
"""While the journal is being written, what is younger than this may still be answered."""
_A_PAISA = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; `seq` is the fact that shows it, None where no single one does."""

    check: str
    what: str
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """One account's order book and trade book of the day, as the broker has them now."""

    account: str
    orders: tuple[Order, ...]
    trades: tuple[Trade, ...]


def chain(journal: Journal, digests: Collection[str] = ()) -> list[Finding]:
    """Check the file and every fact's place and contents; each digest noted elsewhere must be known.

    A digest of facts that were moved into an archive is looked for there, where the archive lies beside the journal.
    """
    try:
        moved = archives(journal)
        known = {digest for digest in digests if any(_is_in(journal, each, digest) for each in moved)}
        found = journal.verify(digests=[digest for digest in digests if digest not in known])
        return [*(Finding("chain", each.what, each.seq) for each in found), *_archived(journal, moved)]
    except JournalError as error:
        return [Finding("chain", str(error))]


def _is_in(journal: Journal, archive: Archive, digest: str) -> bool:
    if digest == archive.digest:
        return True
    path = place(journal, archive)
    if path is None:
        return False
    with Journal.open(path, read_only=True) as moved:
        return bool(moved.query("SELECT 1 FROM facts WHERE hash = ?", [digest])[1])


def _archived(journal: Journal, moved: Sequence[Archive]) -> Iterator[Finding]:
    """Yield what is wrong with the archives that lie beside the journal."""
    for archive in moved:
        path = place(journal, archive)
        if path is None:
            continue
        with Journal.open(path, read_only=True) as old:
            for found in old.verify(digests=[archive.digest]):
                yield Finding("chain", f"{archive.file}: {found.what}", found.seq)


def completeness(journal: Journal, until: datetime) -> list[Finding]:
    """Check that each leader order has a copy or a reason for each follower, and that nothing is left unknown.

    What happened after `until` may still be under way.
    """
    return [
        *_undecided(journal, until),
        *_unanswered(journal, until),
        *_unknown(journal, until),
        *_left_open(journal, until),
    ]


def settled_until(journal: Journal, now: datetime) -> datetime:
    """Return the time up to which everything should be decided and answered: now, where nobody writes the journal."""
    return now - IN_FLIGHT if journal.path is not None and lock.is_signed(journal.path) else now


def too_young(journal: Journal, settled: datetime, now: datetime) -> list[Finding]:
    """Return what would be a finding at rest, but happened after `settled` and may still be under way."""
    if settled >= now:
        return []
    judged = completeness(journal, settled)
    return [found for found in completeness(journal, now) if found not in judged]


def _undecided(journal: Journal, until: datetime) -> Iterator[Finding]:
    """Yield each pair of a leader order and a follower for which there is neither an order nor a reason.

    An order that never came further than TRANSIT did not reach the exchange: nothing is due for it.  What a dry run
    decided is decided for that run alone; what was decided live, it knows.
    """
    runs = _copying_runs(journal)
    decided = set(
        journal.query(
            f"WITH {DRY_RUNS} SELECT DISTINCT leader_order_id, follower, {on_paper('facts')} FROM facts "  # noqa: S608
            "WHERE kind IN ('Place', 'Skip') AND leader_order_id IS NOT NULL"
        )[1]
    )
    for order_id, first, last in _led(journal, timestamp(until)):
        due = {(name, run.paper) for run in runs if first < run.end and last > run.begin for name in run.names}
        undecided = {name for name, paper in due if not decided & {(order_id, name, paper), (order_id, name, 0)}}
        for follower in sorted(undecided):
            yield Finding("complete", f"leader's order {order_id}: {follower} has neither an order nor a reason", first)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that copied: its first fact, the next run's first, which dry run it was (0: none), and for whom."""

    begin: int
    end: int
    paper: int
    names: tuple[str, ...]


def _copying_runs(journal: Journal) -> list[_Run]:
    rows = journal.query(
        "SELECT seq, seq * coalesce(json_extract(body, '$.dry_run'), 0), coalesce(json_extract(body, '$.copying'), 1), "
        "(SELECT json_group_array(json_extract(value, '$.name')) FROM json_each(body, '$.desk.followers')) "
        "FROM facts WHERE kind = 'Started' ORDER BY seq"
    )[1]
    ends = [*(seq for seq, *_ in rows[1:]), 2**63 - 1]
    return [
        _Run(seq, end, paper, tuple(json.loads(names)))
        for (seq, paper, copying, names), end in zip(rows, ends, strict=False)
        if copying
    ]


def _led(journal: Journal, before: str) -> Iterator[tuple[str, int, int]]:
    """Yield each leader order that reached the exchange, with the first and the last fact that shows it."""
    rows = journal.query(
        """
        SELECT order_id, min(seq), max(seq) FROM (
            SELECT order_id, seq FROM facts
            WHERE kind = 'OrderSeen' AND follower IS NULL AND at < ? AND instr(body, '"status":"TRANSIT"') = 0
            UNION ALL
            SELECT json_extract(row.value, '$.order_id'), book.seq
            FROM facts AS book, json_each(book.body, '$.orders') AS row
            WHERE book.kind = 'BookRead' AND book.follower IS NULL AND book.at < ?
            AND json_extract(row.value, '$.status') <> 'TRANSIT'
        ) GROUP BY order_id ORDER BY 2
        """,
        [before, before],
    )[1]
    yield from rows


def _unanswered(journal: Journal, until: datetime) -> Iterator[Finding]:
    for row in journal.outbox():
        if row.time < until:
            what = f"{row.kind.lower()} of {row.correlation_id} for {row.follower} has no recorded outcome"
            yield Finding("unknown", what, row.seq)


def _unknown(journal: Journal, until: datetime) -> Iterator[Finding]:
    followers = journal.query("SELECT DISTINCT follower FROM facts WHERE kind = 'Unanswered'")[1]
    for (follower,) in followers:
        for correlation_id in unknown_placements(journal, follower, until):
            yield Finding("unknown", f"{follower}: nobody knows whether the order {correlation_id} exists")


def _left_open(journal: Journal, until: datetime) -> Iterator[Finding]:
    """Yield copies that are open though the leader's order has been over for a while."""
    sql = """
        SELECT copies.seq, copies.follower, copies.order_id, orders.leader_order_id, lower(orders.status)
        FROM copies JOIN orders ON orders.leader_order_id = copies.leader_order_id AND orders.day = copies.day
        WHERE copies.order_id IS NOT NULL AND copies.status IS NULL AND NOT copies.dry_run
        AND orders.status IN ('CANCELLED', 'REJECTED', 'EXPIRED') AND orders.last_at < ?
        AND copies.day = ? AND orders.day = ?
    """
    day = _last_day(journal)
    if day is None:
        return
    for seq, follower, order_id, leader_order_id, status in journal.query(sql, [timestamp(until), day, day])[1]:
        what = f"{follower}: order {order_id} is open, though the leader's order {leader_order_id} is {status}"
        yield Finding("open", what, seq)


def _last_day(journal: Journal) -> str | None:
    found = journal.query("SELECT substr(max(at), 1, 10) FROM facts")[1][0][0]
    return None if found is None else str(found)


# --- Against the broker ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Copy:
    seq: int
    order_id: str | None
    status: str | None
    filled: int
    average: Decimal


def against_broker(journal: Journal, books: Sequence[Book], day: date) -> list[Finding]:
    """Hold the journal of a day against the order books and the trade books of that day."""
    findings: list[Finding] = []
    for book in books:
        findings += _trades_agree(book)
        findings += _leader_agrees(journal, book) if book.account == LEADER else _follower_agrees(journal, book, day)
    return findings


def _leader_agrees(journal: Journal, book: Book) -> Iterator[Finding]:
    for order in book.orders:
        known = journal.query(
            "SELECT max(seq), max(json_extract(body, '$.filled_quantity')) FROM facts "
            "WHERE leader_order_id = ? AND follower IS NULL AND kind IN ('OrderSeen', 'Filled')",
            [order.order_id],
        )[1][0]
        if known[0] is None and not _seen_in_book(journal, order.order_id):
            yield Finding("broker", f"leader: the order {order.order_id} ({order.status}) was never seen")
        elif (known[1] or 0) != order.filled_quantity:
            what = (
                f"leader: the order {order.order_id} has {order.filled_quantity} filled, recorded are {known[1] or 0}"
            )
            yield Finding("broker", what, known[0])


def _seen_in_book(journal: Journal, order_id: str) -> bool:
    sql = (
        "SELECT 1 FROM facts WHERE kind = 'BookRead' AND follower IS NULL "
        "AND instr(body, '\"order_id\":\"' || ? || '\"') > 0 LIMIT 1"
    )
    return bool(journal.query(sql, [order_id])[1])


def _follower_agrees(journal: Journal, book: Book, day: date) -> Iterator[Finding]:
    """Yield what differs between our copies of the day and the orders with our names in the book."""
    copies = _copies(journal, book.account, day)
    ours = [order for order in book.orders if order.correlation_id.startswith(PREFIX)]
    times = Counter(order.correlation_id for order in ours)
    for order in ours:
        copy = copies.get(order.correlation_id)
        if copy is None:
            what = f"{book.account}: the order {order.order_id} bears our name {order.correlation_id}"
            yield Finding("broker", f"{what}, and the journal has no decision for it")
        else:
            yield from _order_agrees(book.account, order, copy)
    for correlation_id, count in times.items():
        if count > 1:
            yield Finding("broker", f"{book.account}: {count} orders bear the one name {correlation_id}")
    for correlation_id, copy in copies.items():
        if copy.order_id is not None and correlation_id not in times:
            what = f"{book.account}: the order {copy.order_id} ({correlation_id}) is not in the broker's book"
            yield Finding("broker", what, copy.seq)


def _copies(journal: Journal, account: str, day: date) -> Mapping[str, _Copy]:
    sql = (
        "SELECT seq, correlation_id, order_id, status, filled_quantity, average_price FROM copies "
        "WHERE day = ? AND follower = ? AND NOT dry_run"
    )
    rows = journal.query(sql, [day.isoformat(), account])[1]
    return {
        name: _Copy(seq, order, status, filled, exact(average)) for seq, name, order, status, filled, average in rows
    }


def _order_agrees(account: str, order: Order, copy: _Copy) -> Iterator[Finding]:
    where = f"{account}: the order {order.order_id}"
    if copy.order_id is not None and copy.order_id != order.order_id:
        yield Finding("broker", f"{where} bears the name of {copy.order_id}", copy.seq)
    if order.filled_quantity != copy.filled:
        yield Finding("broker", f"{where} has {order.filled_quantity} filled, recorded are {copy.filled}", copy.seq)
    elif order.average_price != ZERO and abs(order.average_price - copy.average) >= _A_PAISA:
        what = f"{where} filled at {order.average_price}, recorded is {copy.average}"
        yield Finding("broker", what, copy.seq)
    if _is_over(order.status) != (copy.status is not None) or (copy.status or order.status) != order.status:
        yield Finding("broker", f"{where} is {order.status}, recorded is {copy.status or 'open'}", copy.seq)


def _is_over(status: OrderStatus) -> bool:
    return status.is_terminal


def _trades_agree(book: Book) -> Iterator[Finding]:
    """Yield orders whose fills in the trade book are not what the order book says of them."""
    traded = Counter[str]()
    for trade in book.trades:
        traded[trade.order_id] += trade.quantity
    for order in book.orders:
        if order.filled_quantity != traded[order.order_id]:
            what = f"{book.account}: order {order.order_id} has {order.filled_quantity} filled in the order book"
            yield Finding("broker", f"{what}, {traded[order.order_id]} in the trade book")


def anchor(journal: Journal, day: date) -> tuple[int, str] | None:
    """Return the place and the hash of a day's last fact, None for a day without any."""
    digest = journal.digest(day)
    if digest is None:
        return None
    seq = journal.query("SELECT max(seq) FROM facts WHERE at >= ? AND at < ?", day_bounds(day))[1][0][0]
    return int(seq), digest
