"""A report as titled tables: the same for the terminal and for the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from copytrader.audit.figures import STAGES, FollowerReport, Row, exact
from copytrader.audit.report import Report
from copytrader.core.model import LEADER
from copytrader.render import Column

_ABREAST = 4
"""So many followers stand beside each other; more get a row each instead of a column."""
_ON_PAPER = 'copytrader audit sql "SELECT * FROM copies WHERE dry_run"'
_STAGES = {
    "decided": "frame to decision",
    "durable": "decision to disk",
    "sent": "disk to network",
    "answered": "sent to answer",
    "filled": "answer to first fill",
    "total": "frame to answer",
}
_FIGURES = (
    ("placed", "orders placed"),
    ("entries", "of them entries"),
    ("exits", "of them exits"),
    ("modified", "changes made"),
    ("cancelled", "orders cancelled"),
    ("filled", "orders filled"),
    ("units", "units filled"),
    ("skipped", "not copied"),
    ("refused", "refused by the broker"),
    ("unanswered", "not answered at first"),
    ("unknown", "fate still unknown"),
    ("alerts", "alerts"),
    ("slippage", "slippage, Rs"),
    ("ticks", "slippage, ticks a unit"),
    ("traded_value", "traded value, Rs"),
    ("realized", "realised result, Rs"),
)


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, object], ...]
    note: str = ""


def tables(report: Report, most: int = 40, *, narrow: bool = False) -> Iterator[Table]:
    """Yield the report's tables that have something in them; of long ones the last `most` rows.

    A narrow place gets accounts below each other instead of beside, and fewer columns.
    """
    for table in (
        _summary(report),
        _figures(report),
        _orders_below(report) if narrow else _orders(report),
        _skips(report),
        _refusals(report),
        _latency(report),
        _slippage(report, narrow=narrow),
        _alerts(report),
    ):
        if table.rows:
            yield _shortened(table, most)


def _shortened(table: Table, most: int) -> Table:
    left_out = len(table.rows) - most
    if left_out <= 0:
        return table
    note = f"{left_out:,} rows before these are left out; `copytrader audit export` writes all"
    return Table(table.title, table.columns, table.rows[left_out:], f"{table.note} {note}".strip())


def _summary(report: Report) -> Table:
    leader = report.leader
    rows = [
        ("leader's orders", f"{leader.orders}"),
        ("", f"{leader.modified} modified, {leader.cancelled} cancelled, {leader.rejected} rejected"),
        ("", f"{leader.filled} filled, {leader.units:,} units, worth Rs {leader.traded_value:,}"),
        ("follow ran", f"{_duration(report.uptime_seconds)} in {report.runs} run{'s' if report.runs != 1 else ''}"),
    ]
    rows += [
        ("stream lost", f"{each.account}: {each.disconnects} times, {_duration(each.seconds)} in all")
        for each in report.connections
        if each.disconnects
    ]
    rows.append(("facts recorded", f"{report.facts:,}"))
    if report.dry_run:
        rows.append(("dry run", "all of this is on paper, nothing was sent"))
    if report.left_out:
        rows.append(("left out", f"{report.left_out} copies of a dry run: {_ON_PAPER}"))
    if report.elsewhere:
        rows.append(("not here", report.elsewhere))
    columns = (Column("what"), Column("figure", "how much"))
    return Table(report.title, columns, tuple({"what": what, "figure": figure} for what, figure in rows))


def _duration(seconds: float) -> str:
    whole = timedelta(seconds=int(seconds))
    return f"{seconds:.1f} s" if seconds < 60 else f"{whole} h"


def _figures(report: Report) -> Table:
    followers = report.followers
    if len(followers) > _ABREAST:
        columns = (Column("name", "follower"), *(Column(key, title, in_threes=True) for key, title in _FIGURES))
        keys = [column.key for column in columns]
        return Table("Followers", columns, tuple({key: getattr(each, key) for key in keys} for each in followers))
    # A follower's name may be any word, so a column's key is its place.
    abreast = (Column(str(place), each.name, in_threes=True) for place, each in enumerate(followers))
    columns = (Column("figure", " "), *abreast)
    rows = tuple(_figure(key, title, followers) for key, title in _FIGURES if followers)
    return Table("Followers", columns, rows)


def _figure(key: str, title: str, followers: Sequence[FollowerReport]) -> dict[str, object]:
    return {"figure": title, **{str(place): getattr(each, key) for place, each in enumerate(followers)}}


def _orders(report: Report) -> Table:
    """Show each order of the leader, and beside it what became of it for each follower."""
    names = [each.name for each in report.followers]
    abreast = len(names) <= _ABREAST
    fates = _fates(report)
    columns = [Column("at", "time"), Column("order"), Column("terms"), Column("fate", "leader")]
    columns += [Column(str(place), name) for place, name in enumerate(names)] if abreast else [Column("copies")]
    rows = []
    for order in report.orders:
        told = {name: "; ".join(fates[order["leader_order_id"], name]) or "-" for name in names}
        row: dict[str, object] = {
            "at": order["at"][11:19],
            "order": order["leader_order_id"],
            "terms": _terms(order),
            "fate": _fate(order, order["status"]),
        }
        if abreast:
            row |= {str(place): told[name] for place, name in enumerate(names)}
        else:
            row["copies"] = ", ".join(f"{name}: {fate}" for name, fate in told.items())
        rows.append(row)
    return Table("Orders", tuple(columns), tuple(rows))


def _orders_below(report: Report) -> Table:
    """Show each order of the leader, and in the rows below what became of it for each follower."""
    fates = _fates(report)
    rows = []
    for order in report.orders:
        led = f"{_terms(order)}: {_fate(order, order['status'])}"
        rows.append({"at": order["at"][11:19], "account": LEADER, "what": f"{order['leader_order_id']} {led}"})
        rows += [
            {"at": "", "account": each.name, "what": "; ".join(fates[order["leader_order_id"], each.name]) or "-"}
            for each in report.followers
        ]
    return Table("Orders", (Column("at", "time"), Column("account"), Column("what")), tuple(rows))


def _fates(report: Report) -> defaultdict[tuple[str, str], list[str]]:
    """Say for each leader order and follower what was copied, else why not."""
    fates: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for copy in report.copies:
        if copy["order_id"] is not None:
            fates[copy["leader_order_id"], copy["follower"]].append(_fate(copy, copy["status"] or "OPEN"))
    for skip in report.skips:
        fates[skip["leader_order_id"], skip["follower"]].append(skip["reason"])
    return fates


def _fate(order: Row, status: str) -> str:
    """Say what became of an order: 75 of 150 at 106.2, cancelled."""
    filled, quantity, price = order["filled_quantity"], order["quantity"], order["average_price"]
    if not filled:
        return f"{quantity} {status.lower()}"
    said = f"{filled} of {quantity}" + (f" at {price:g}" if price else "")
    return said if status == "TRADED" else f"{said}, {status.lower()}"


def _terms(order: Row) -> str:
    text = f"{order['side']} {order['quantity']} {order['label']} {order['order_type']}"
    if order["price"]:
        text += f" {order['price']:g}"
    return f"{text} trigger {order['trigger_price']:g}" if order["trigger_price"] else text


def _skips(report: Report) -> Table:
    rows = [
        {"follower": each.name, "reason": skip.reason, "count": skip.count, "meaning": skip.meaning}
        for each in report.followers
        for skip in each.skips
    ]
    columns = (Column("follower"), Column("reason"), Column("count"), Column("meaning", "because"))
    return Table("Not copied", columns, tuple(rows))


def _refusals(report: Report) -> Table:
    rows = [
        {"follower": each.name, "count": said.count, "words": said.words, "meaning": said.meaning}
        for each in report.followers
        for said in each.refusals
    ]
    columns = (Column("follower"), Column("count"), Column("words", "the broker said"), Column("meaning", "that is"))
    return Table("Refused by the broker", columns, tuple(rows))


def _latency(report: Report) -> Table:
    rows = [
        {
            "follower": each.name,
            "stage": _STAGES[stage],
            "orders": each.latency[stage].count,
            **{key: _milliseconds(getattr(each.latency[stage], key)) for key in ("p50", "p95", "p99", "worst")},
        }
        for each in report.followers
        for stage in STAGES
        if stage in each.latency
    ]
    keys = ("follower", "stage", "orders", "p50", "p95", "p99", "worst")
    note = "Of placements that a frame of the leader's brought about and the broker took."
    columns = tuple(Column(key, in_threes=True) for key in keys)
    return Table("Latency in milliseconds", columns, tuple(rows), note if rows else "")


def _milliseconds(value: float) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"))


def _slippage(report: Report, *, narrow: bool) -> Table:
    prices = () if narrow else ("side", "quantity", "average_price", "leader_price")
    keys = ("at", "follower", "instrument", *prices, "ticks", "rupees")
    labels = {row["correlation_id"]: row["label"] for row in report.copies}
    titles = {"at": "time", "average_price": "price", "leader_price": "leader's"}
    rows = [
        {
            **{key: row.get(key) for key in keys},
            "at": row["at"][11:19],
            "instrument": labels.get(row["correlation_id"], row["symbol"]),
            "rupees": exact(row["rupees"]),
        }
        for row in report.slippages
    ]
    note = "Positive: the follower did worse than the leader."
    columns = tuple(Column(key, titles.get(key, ""), in_threes=True) for key in keys)
    return Table("Slippage", columns, tuple(rows), note)


def _alerts(report: Report) -> Table:
    rows: Iterable[dict[str, object]] = (
        {"at": row["at"][11:19], "level": row["level"], "text": row["text"]} for row in report.alerts
    )
    return Table("Alerts", (Column("at", "time"), Column("level"), Column("text")), tuple(rows))
