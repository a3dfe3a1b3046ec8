"""The result of a replay as one page of HTML.

Its numbers are those of the document that `--json` prints; its plots come from the tallies' curves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape

from copytrader.audit import plots, sheet
from copytrader.core.model import LEADER
from copytrader.replay.results import Curve, Sum, Words
from copytrader.replay.summary import (
    ACCOUNTS,
    INSTRUMENTS,
    TITLES,
    Played,
    account_rows,
    in_a_word,
    instrument_rows,
    order_rows,
)

_TITLE = "Copytrader, replay of "
BEGINNING = sheet.beginning(_TITLE)
"""How each page begins: by this a file is known to be one."""
_MOST_ROWS = 1000
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 220, 70, 12, 12, 30


def page(played: Played, document: Mapping[str, object]) -> str:
    """Return the whole page for a document made of the same replay."""
    notes = "".join(f"<li>{sheet.text(str(note))}</li>" for note in _list(document["notes"]))
    rules = "".join(f"<li>{sheet.text(str(rule))}</li>" for rule in _list(document["changed_rules"]))
    return sheet.page(
        f"{_TITLE}{_when(document)}",
        f"""<p class="soft">From {sheet.text(played.source)}. Times are Indian, money is in rupees.</p>
<ul class="soft">{notes}</ul>
{f"<h2>Rules that differ</h2><ul>{rules}</ul>" if rules else ""}
<h2>Results</h2>{_table(account_rows(document), ACCOUNTS)}
<h2>Plots</h2><div class="plots">{"".join(_plots(played))}</div>
<h2>Realised by instrument</h2>{_table(instrument_rows(document), INSTRUMENTS)}
{_orders(played, document)}""",
    )


def _when(document: Mapping[str, object]) -> str:
    first, last = document["from"], document["to"]
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return "nothing"
    return (
        f"{first:%Y-%m-%d %H:%M} to {last:%H:%M}"
        if first.date() == last.date()
        else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    )


def _orders(played: Played, document: Mapping[str, object]) -> str:
    rows = order_rows(document)
    names = [track.name for track in played.tracks]
    shown = [_order(row, names) for row in rows[:_MOST_ROWS]]
    cut = f'<p class="soft">The first {_MOST_ROWS:,} of {len(rows):,}.</p>' if len(rows) > _MOST_ROWS else ""
    columns = ["at", "order", "account", "instrument", "side", *(TITLES[name] for name in names)]
    titles = {key: key for key in (columns if len(names) == 1 else [*columns, "differs"])}
    return f"<h2>Order by order</h2>{cut}{_table(shown, titles)}"


def _order(row: Mapping[str, object], names: Sequence[str]) -> Words:
    at = row["at"]
    assert isinstance(at, datetime)
    return {
        "at": f"{at:%d.%m. %H:%M:%S}",
        "order": row["leader_order_id"],
        "account": row["account"],
        "instrument": row["instrument"],
        "side": row["side"],
        "differs": "differs" if row.get("differs") else "",
    } | {TITLES[name]: in_a_word(row, name) for name in names}


def _table(rows: Sequence[Mapping[str, object]], titles: Mapping[str, str]) -> str:
    numbers = {key: any(isinstance(row.get(key), int | Decimal) for row in rows) for key in titles}
    marks = {key: " class=n" if numbers[key] else "" for key in titles}
    head = "".join(f"<th{marks[key]}>{sheet.text(title)}</th>" for key, title in titles.items())
    body = "".join(
        "<tr>" + "".join(f"<td{marks[key]}>{_shown(row.get(key))}</td>" for key in titles) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case Decimal():
            return escape(f"{value:f}")
        case _:
            return sheet.text(str(value))


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


# --- Plots ---------------------------------------------------------------------------------


def _plots(played: Played) -> Iterator[str]:
    curves = [
        (_named(name, track.name, played), total.exposure)
        for number, track in enumerate(played.tracks)
        for name, total in sorted(track.tally.sums.items(), key=lambda each: (each[0] != LEADER, each[0]))
        if total.exposure.points and (name != LEADER or number == 0)
    ]
    if curves:
        drawn = _stepped(curves)
        yield sheet.figure("Exposure over time", drawn, "rupees at stake, all positions", [name for name, _ in curves])
    for track in played.tracks:
        if track.model is None:  # on paper it is what was asked for
            yield from _latencies(track.tally.sums.values(), "Latency: order to answer")
        skips: Counter[str] = Counter()
        for total in track.tally.sums.values():
            skips.update({reason.value: count for reason, count in total.skips.items()})
        if skips:
            drawn = plots.rows([(reason, float(count)) for reason, count in skips.most_common()], "skips by reason")
            yield sheet.figure(_title("Not copied, by reason", track.name, played), drawn, "skips in all")


def _latencies(sums: Iterable[Sum], title: str) -> Iterator[str]:
    waits = sorted(float(seconds) * 1000 for total in sums for _, seconds in total.latencies.points)
    if not waits or waits[-1] == 0:
        return
    marks = [("half", waits[len(waits) // 2]), ("99 %", waits[min(len(waits) * 99 // 100, len(waits) - 1)])]
    drawn = plots.histogram(waits, marks, "how long placements took")
    yield sheet.figure(title, drawn, "milliseconds of each placement")


def _named(account: str, track: str, played: Played) -> str:
    return account if len(played.tracks) == 1 or account == LEADER else f"{account}, {TITLES[track]}"


def _title(title: str, track: str, played: Played) -> str:
    return title if len(played.tracks) == 1 else f"{title} ({TITLES[track]})"


def _stepped(curves: Sequence[tuple[str, Curve]]) -> str:
    """Draw quantities that stay until they change."""
    points = [point for _, curve in curves for point in curve.points]
    first, last = min(at for at, _ in points), max(at for at, _ in points)
    span = (last - first).total_seconds() or 1.0
    high = float(max(value for _, value in points)) or 1.0

    def x(at: datetime) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (at - first).total_seconds() / span

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / high

    parts = []
    for value in (high * number / 4 for number in range(5)):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.0f}</text>')
    for at, side in ((first, "start"), (last, "end")):
        parts.append(f'<text x="{x(at):.1f}" y="{_HEIGHT - 10}" text-anchor="{side}">{at:%H:%M:%S}</text>')
    for number, (name, curve) in enumerate(curves):
        line, before = [f"{x(first):.1f},{y(0):.1f}"], 0.0
        for at, amount in curve.points:
            line += [f"{x(at):.1f},{y(before):.1f}", f"{x(at):.1f},{y(float(amount)):.1f}"]
            before = float(amount)
        line.append(f"{x(last):.1f},{y(before):.1f}")
        parts.append(
            f'<polyline class="t{number % 6}" points="{" ".join(line)}"><title>{sheet.text(name)}</title></polyline>'
        )
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="exposure over time">'
    return f"{head}<title>exposure over time</title>{''.join(parts)}</svg>"
