"""A report as one page of HTML that needs nothing else: no script, no network, no other file.

It prints, it fits a telephone, and every text in it is escaped: what a broker or an order says cannot become markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape

from copytrader.audit import plots
from copytrader.audit.report import Report, Row, spread
from copytrader.audit.tables import Table, tables
from copytrader.core.model import LEADER
from copytrader.render import clean

_MOST_ROWS = 1000
_MOST_BARS = 60
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #d9dee7; --paper: #fff; --card: #f6f8fb;
  --s0: #2f6fde; --s1: #e2711d; --s2: #2a9d6f; --s3: #8e5bd0; --s4: #c8324f; --s5: #6b7a90; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --soft: #9aa4b5; --line: #333b4a; --paper: #12161d;
  --card: #1b212b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1100px; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: .2rem 0 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.soft, figcaption { color: var(--soft); margin: .2rem 0; font-size: .85rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .88rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: break-word; max-width: 30em; } code { overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr:last-child td { border-bottom: 0; } th { background: var(--card); white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .7rem; border: 1px solid var(--line); border-radius: 6px; break-inside: avoid; }
figure h3 { margin: 0 0 .4rem; font-size: .95rem; } svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } .grid { stroke: var(--line); }
.zero { stroke: var(--soft); } .mark { stroke: var(--s4); stroke-dasharray: 4 3; }
svg .markname { fill: var(--s4); paint-order: stroke;
  stroke: var(--paper); stroke-width: 3px; }
.s0 { fill: var(--s0); } .s1 { fill: var(--s1); } .s2 { fill: var(--s2); } .s3 { fill: var(--s3); }
.s4 { fill: var(--s4); } .s5 { fill: var(--s5); }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em; border-radius: 2px; }
.k0 { background: var(--s0); } .k1 { background: var(--s1); } .k2 { background: var(--s2); }
.k3 { background: var(--s3); } .k4 { background: var(--s4); } .k5 { background: var(--s5); }
@media print { :root { --ink: #000; --paper: #fff; --card: #f2f2f2; --soft: #444; --line: #bbb; } body { padding: 0; }
  .scroll { overflow: visible; } tr { break-inside: avoid; } thead { display: table-header-group; } h2 {
  break-after: avoid; } }
"""


def page(report: Report, source: str, made: datetime, digest: str | None = None) -> str:
    """Return the whole page; `source` names the journal, `digest` vouches for the facts behind it."""
    title = f"Copytrader, {report.title}"
    vouched = f"<p class='soft'>Digest of the last day: <code>{escape(digest)}</code></p>" if digest else ""
    body = "".join(_section(table) for table in tables(report, _MOST_ROWS))
    plotted = "".join(_plots(report))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_text(title)}</h1>
<p class="soft">Made {made:%Y-%m-%d %H:%M:%S} from {_text(source)}. Times are Indian.</p>
{vouched}
{f'<h2>Plots</h2><div class="plots">{plotted}</div>' if plotted else ""}
{body}
</body>
</html>
"""


def _text(text: str) -> str:
    return escape(clean(text))


def _shown(value: object) -> str:
    if isinstance(value, int | float | Decimal):
        return f"{value:,f}" if isinstance(value, Decimal) else f"{value:,}"
    return "" if value is None else clean(str(value))


def _section(table: Table) -> str:
    numbers = {column.key: _is_numeric(table.rows, column.key) for column in table.columns}
    head = "".join(
        f"<th{' class=n' if numbers[column.key] else ''}>{_text(column.title or column.key.replace('_', ' '))}</th>"
        for column in table.columns
    )
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
    note = f'<p class="soft">{_text(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{_text(table.title)}</h2>{note}<div class="scroll"><table>'
        f"{f'<thead><tr>{head}</tr></thead>' if named else ''}<tbody>{lines}</tbody></table></div>"
    )


def _is_numeric(rows: Sequence[Row], key: str) -> bool:
    values = [row[key] for row in rows if row.get(key) is not None]
    return bool(values) and all(isinstance(value, int | float | Decimal) for value in values)


def _plots(report: Report) -> Iterator[str]:
    names = [each.name for each in report.followers]
    if report.orders or report.copies:
        yield _figure("Orders over time", _over_time(report), "orders and copies by time", [LEADER, *names])
    totals = [row["total_ms"] for row in report.latencies if row["verb"] == "PLACE" and row["answer"] == "Accepted"]
    measured = spread(totals)
    if measured is not None:
        marks = [("half", measured.p50), ("95 %", measured.p95), ("99 %", measured.p99)]
        drawn = plots.histogram(totals, marks, "how long placements took")
        yield _figure("Latency: event to the broker's answer", drawn, "milliseconds of each placement")
    if report.slippages:
        groups = [
            (f"{row['at'][11:16]} {row['follower']}", [float(row["rupees"] or 0)])
            for row in report.slippages[-_MOST_BARS:]
        ]
        caption = "rupees against the leader's price, worse is up"
        yield _figure("Slippage by order", plots.columns(groups, [], caption), caption)
    if report.skips:
        counted = Counter(row["reason"] for row in report.skips).most_common()
        yield _figure("Not copied, by reason", plots.rows(counted, "skips by reason"), "skips in all")


def _figure(title: str, svg: str, caption: str, series: Sequence[str] = ()) -> str:
    legend = "".join(
        f'<span class="key k{number % 6}"></span>{_text(name)}' for number, name in enumerate(series) if len(series) > 1
    )
    return f"<figure><h3>{_text(title)}</h3>{svg}<figcaption>{_text(caption)}{legend}</figcaption></figure>"


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
