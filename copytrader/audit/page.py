"""A report as one page of HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape

from copytrader.audit import plots, sheet
from copytrader.audit.figures import Row, spread
from copytrader.audit.report import Report
from copytrader.audit.tables import Table, tables
from copytrader.core.model import LEADER
from copytrader.render import clean

_MOST_ROWS = 1000
_MOST_BARS = 60


def page(report: Report, source: str, made: datetime, digest: str | None = None) -> str:
    """Return the whole page; `source` names the journal, `digest` vouches for the facts behind it."""
    title = f"Copytrader, {report.title}"
    vouched = f"<p class='soft'>Digest of the last day: <code>{escape(digest)}</code></p>" if digest else ""
    body = "".join(_section(table) for table in tables(report, _MOST_ROWS))
    plotted = "".join(_plots(report))
    made_at = f"{made:%Y-%m-%d %H:%M:%S}"
    return sheet.page(
        title,
        f"""<p class="soft">Made {made_at} from {sheet.text(source)}. Times are Indian.</p>
{vouched}
{f'<h2>Plots</h2><div class="plots">{plotted}</div>' if plotted else ""}
{body}""",
    )


def _shown(value: object) -> str:
    if isinstance(value, int | float | Decimal):
        return f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"
    return "" if value is None else clean(str(value))


def _section(table: Table) -> str:
    numbers = {column.key: _is_numeric(table.rows, column.key) for column in table.columns}
    titles = {column.key: sheet.text(column.title or column.key.replace("_", " ")) for column in table.columns}
    head = "".join(f"<th{' class=n' if numbers[key] else ''}>{title}</th>" for key, title in titles.items())
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=n' if numbers[column.key] else ''}>{escape(_shown(row.get(column.key)))}</td>"
            for column in table.columns
        )
        + "</tr>"
        for row in table.rows
    )
    named = any((column.title or column.key).strip() for column in table.columns)
    note = f'<p class="soft">{sheet.text(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{sheet.text(table.title)}</h2>{note}<div class="scroll"><table>'
        f"{f'<thead><tr>{head}</tr></thead>' if named else ''}<tbody>{lines}</tbody></table></div>"
    )


def _is_numeric(rows: Sequence[Row], key: str) -> bool:
    values = [row[key] for row in rows if row.get(key) is not None]
    return bool(values) and all(isinstance(value, int | float | Decimal) for value in values)


def _plots(report: Report) -> Iterator[str]:
    names = [each.name for each in report.followers]
    if report.orders or report.copies:
        yield sheet.figure("Orders over time", _over_time(report), "orders and copies by time", [LEADER, *names])
    totals = [row["total_ms"] for row in report.latencies if row["verb"] == "PLACE" and row["answer"] == "Accepted"]
    measured = spread(totals)
    if measured is not None:
        marks = [("half", measured.p50), ("95 %", measured.p95), ("99 %", measured.p99)]
        drawn = plots.histogram(totals, marks, "how long placements took")
        yield sheet.figure("Latency: event to the broker's answer", drawn, "milliseconds of each placement")
    if report.slippages:
        groups = [
            (f"{row['at'][11:16]} {row['follower']}", [float(row["rupees"] or 0)])
            for row in report.slippages[-_MOST_BARS:]
        ]
        caption = "rupees against the leader's price, worse is up"
        yield sheet.figure("Slippage by order", plots.columns(groups, [], caption), caption)
    if report.skips:
        counted = Counter(row["reason"] for row in report.skips).most_common()
        yield sheet.figure("Not copied, by reason", plots.rows(counted, "skips by reason"), "skips in all")


def _over_time(report: Report) -> str:
    """Count orders in equal spans of time, the leader's and each follower's beside each other."""
    accounts = [LEADER, *(each.name for each in report.followers)]
    seen = [(row["at"], LEADER) for row in report.orders] + [(row["at"], row["follower"]) for row in report.copies]
    moments = [(datetime.fromisoformat(at).timestamp(), account) for at, account in seen]
    first, last = min(moments)[0], max(moments)[0]
    bins = min(12, max(len({at for at, _ in moments}), 1))
    width = (last - first) / bins or 1.0
    counts = Counter((min(int((at - first) / width), bins - 1), account) for at, account in moments)
    style = "%H:%M:%S" if width < 60 else "%H:%M" if last - first < 86_400 else "%d.%m. %H:%M"
    zone = report.period.since.tzinfo
    groups = [
        (
            f"{datetime.fromtimestamp(first + place * width, zone):{style}}",
            [float(counts[place, account]) for account in accounts],
        )
        for place in range(bins)
    ]
    return plots.columns(groups, accounts, "orders over time")
