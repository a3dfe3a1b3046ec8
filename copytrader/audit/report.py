"""A period's figures: what was copied, what was not, how late, how much worse, and what it came to.

Every figure comes from the documented views, so that anybody can work it out again with SQL.

What was on paper never enters the figures of what was real: a period that has nothing but dry runs shows the
last of them, any other leaves them out and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from copytrader.audit import positions
from copytrader.audit.archives import elsewhere
from copytrader.audit.figures import (
    FollowerReport,
    LeaderReport,
    Row,
    exact,
    follower_report,
    leader_report,
    multiplier,
)
from copytrader.audit.runs import Connection, Period, Run, connections, runs_of
from copytrader.audit.words import Instruments
from copytrader.core.model import IST, ZERO, Security
from copytrader.journal import Journal
from copytrader.journal.rows import timestamp
from copytrader.journal.views import DRY_RUNS, on_paper

_MOST_DAYS = 31


@dataclass(frozen=True, slots=True)
class Report:
    """A period's figures; `dry_run`: all of it is on paper.  `left_out` are copies on paper that have no part in it.

    `elsewhere` says which archive has what of the period this journal has no more, "" where it has all.
    """

    period: Period
    facts: int
    leader: LeaderReport
    followers: tuple[FollowerReport, ...]
    connections: tuple[Connection, ...]
    runs: int
    uptime_seconds: float
    dry_run: bool
    left_out: int
    elsewhere: str
    orders: tuple[Row, ...]
    copies: tuple[Row, ...]
    skips: tuple[Row, ...]
    slippages: tuple[Row, ...]
    latencies: tuple[Row, ...]
    alerts: tuple[Row, ...]

    @property
    def title(self) -> str:
        return f"{self.period.title}, on paper" if self.dry_run else self.period.title


def report(journal: Journal, period: Period, follower: str = "") -> Report:
    """Work out the figures of a period, for one follower or for all."""
    began = runs_of(journal, period)
    paper = began[-1].paper if began and all(run.paper for run in began) else 0
    runs = [run for run in began if run.copying and run.paper == paper]
    asked = _Asked(journal, period, follower, paper)
    known = Instruments(journal)
    orders, copies = _labelled(asked.rows("orders"), known), _labelled(asked.rows("copies"), known)
    skips, fills = asked.rows("skips"), asked.rows("fills")
    slippages, latencies = asked.rows("slippage"), asked.rows("latency")
    alerts = asked.rows("alerts")
    answers = asked.answers()
    names = [follower] if follower else _names(runs, copies, skips, fills)
    reports = tuple(
        follower_report(
            name,
            _of(name, copies),
            _of(name, skips),
            _of(name, fills),
            _of(name, slippages),
            _of(name, latencies),
            _of(name, alerts),
            _of(name, answers),
            unknown=len(unknown_placements(journal, name, period.until, paper)),
            realized=_realized(journal, period, name, _of(name, fills), known, paper),
            known=known,
        )
        for name in names
    )
    led = [row for row in fills if row["follower"] is None]
    return Report(
        period=period,
        facts=asked.count(),
        leader=leader_report(orders, led, known),
        followers=reports,
        connections=tuple(connections(journal, period, runs, paper)),
        runs=len(runs),
        uptime_seconds=sum((run.end - run.begin).total_seconds() for run in runs),
        dry_run=paper > 0,
        left_out=asked.left_out(),
        elsewhere=elsewhere(journal, period.since),
        orders=tuple(orders),
        copies=tuple(copies),
        skips=tuple(skips),
        slippages=tuple(slippages),
        latencies=tuple(latencies),
        alerts=tuple(alerts),
    )


def _labelled(rows: Sequence[Row], known: Instruments) -> list[Row]:
    """Add to each order what it is of as a person reads it: a symbol does not tell the weeks of a month apart."""
    return [{**row, "label": known.label(positions.security_of(row))} for row in rows]


def unknown_placements(journal: Journal, follower: str, until: datetime, paper: int = 0) -> list[str]:
    """Return the correlation ids whose placing was not answered and which nothing has shown since; live, or of a run.

    What a dry run has on paper under the same name shows nothing.
    """
    sql = (
        f"WITH {DRY_RUNS} SELECT DISTINCT unanswered.correlation_id, unanswered.seq "  # noqa: S608  # constants
        "FROM facts AS unanswered "
        "WHERE unanswered.kind = 'Unanswered' AND +unanswered.follower = ? AND unanswered.at < ? "
        f"AND json_extract(unanswered.body, '$.verb') = 'PLACE' AND {on_paper('unanswered')} = ? AND NOT EXISTS ("
        "SELECT 1 FROM facts AS known WHERE known.correlation_id = unanswered.correlation_id "
        f"AND {on_paper('known')} = {on_paper('unanswered')} "
        "AND (known.kind IN ('OrderSeen', 'Filled', 'Ended', 'Accepted', 'Modify', 'Cancel') "
        "OR (known.kind = 'Skip' AND known.reason = 'ABSENT')))"
    )
    _, found = journal.query(sql, [follower, timestamp(until), paper])
    return [name for name, seq in found if not _in_a_book(journal, follower, name, seq, paper)]


def _in_a_book(journal: Journal, follower: str, correlation_id: str, since: int, paper: int) -> bool:
    sql = (
        f"WITH {DRY_RUNS} SELECT 1 FROM facts "  # noqa: S608  # constants
        "WHERE follower = ? AND kind = 'BookRead' AND seq > ? "
        f"AND instr(body, '\"correlation_id\":\"' || ? || '\"') > 0 AND {on_paper('facts')} = ? LIMIT 1"
    )
    return bool(journal.query(sql, [follower, since, correlation_id, paper])[1])


class _Asked:
    """The views, asked for one period and perhaps one follower: live, or of the one dry run `paper`."""

    def __init__(self, journal: Journal, period: Period, follower: str, paper: int) -> None:
        self._journal = journal
        self._follower = follower
        self._paper = paper
        self._days, self._span = _days(period)
        self._times = [timestamp(period.since), timestamp(period.until)]

    def rows(self, view: str) -> list[Row]:
        """Return a view's rows; with a follower, its own and the leader's.  A leader's order is real in a dry run."""
        sql = f"SELECT * FROM {view} WHERE day {self._span} AND at >= ? AND at < ?"  # noqa: S608  # own names
        parameters: list[str | int] = [*self._days, *self._times]
        if not self._paper:
            sql += " AND NOT dry_run"
        elif view != "orders":
            sql += " AND seq > ?"
            parameters.append(self._paper)
        if self._follower and view != "orders":
            sql += " AND (follower = ? OR follower IS NULL)"
            parameters.append(self._follower)
        return self._dicts(f"{sql} ORDER BY seq", parameters)

    def answers(self) -> list[Row]:
        """Return what the broker answered other than yes, and each accepted change."""
        sql = f"""
            WITH {DRY_RUNS}
            SELECT
                kind, follower, reason, json_extract(body, '$.verb') AS verb,
                json_extract(body, '$.message') AS message
            FROM facts WHERE kind IN ('Accepted', 'Refused', 'Unanswered')
            AND substr(at, 1, 10) {self._span} AND at >= ? AND at < ? AND {on_paper("facts")} = ?
        """  # noqa: S608  # own condition
        return self._dicts(sql, [*self._days, *self._times, self._paper])

    def left_out(self) -> int:
        """Count the copies of dry runs that are not shown."""
        sql = f"""
            WITH {DRY_RUNS}
            SELECT count(*) FROM facts WHERE kind = 'Place' AND substr(at, 1, 10) {self._span} AND at >= ? AND at < ?
            AND {on_paper("facts")} NOT IN (0, ?)
        """  # noqa: S608  # own condition
        parameters: list[str | int] = [*self._days, *self._times, self._paper]
        if self._follower:
            sql += " AND follower = ?"
            parameters.append(self._follower)
        return int(self._journal.query(sql, parameters)[1][0][0])

    def count(self) -> int:
        _, found = self._journal.query("SELECT count(*) FROM facts WHERE at >= ? AND at < ?", self._times)
        return int(found[0][0])

    def _dicts(self, sql: str, parameters: Sequence[str | int]) -> list[Row]:
        names, found = self._journal.query(sql, parameters)
        return [dict(zip(names, row, strict=True)) for row in found]


def _days(period: Period) -> tuple[list[str], str]:
    """Return a condition for a period's days and its values: few days by name, which an index serves best."""
    first = period.since.astimezone(IST).date()
    last = (period.until - timedelta(microseconds=1)).astimezone(IST).date()
    count = (last - first).days + 1
    if count > _MOST_DAYS:
        return [first.isoformat(), last.isoformat()], "BETWEEN ? AND ?"
    days = [(first + timedelta(days=number)).isoformat() for number in range(count)]
    return days, f"IN ({', '.join('?' * count)})"


def _of(name: str, rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["follower"] == name]


def _realized(
    journal: Journal, period: Period, name: str, fills: Sequence[Row], known: Instruments, paper: int
) -> Decimal:
    """Work out what the period's closings brought, at the average price of what they closed."""
    traded = {positions.security_of(row) for row in fills}
    if not traded:
        return ZERO
    total, since = ZERO, timestamp(period.since)
    held: defaultdict[tuple[Security, str], positions.Held] = defaultdict(positions.Held)
    before: dict[str, Decimal] = {}
    first = datetime.fromisoformat(fills[0]["at"])
    for row in positions.fills(journal, name, traded, first, period.until, paper):
        security, order = positions.security_of(row), row["correlation_id"] or row["order_id"]
        average, quantity = exact(row["average_price"]), row["quantity"]
        worth = average * row["filled_quantity"]
        price = (worth - before.get(order, average * (row["filled_quantity"] - quantity))) / quantity
        before[order] = worth
        gained = held[security, row["product"]].fill(1 if row["side"] == "BUY" else -1, quantity, price)
        if row["at"] >= since:
            total += gained * multiplier(security, known)
    return total


def _names(runs: Sequence[Run], *tables: Sequence[Row]) -> list[str]:
    """Return the followers served in the period, in the configuration's order, then any other that left a trace."""
    served = [name for run in runs for name in run.names if name]
    traced = [row["follower"] for rows in tables for row in rows if row["follower"]]
    return list(dict.fromkeys([*served, *traced]))
