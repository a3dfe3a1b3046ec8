"""`copytrader demo`: the whole thing against the built-in simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copytrader.cli.options import AsJson
from copytrader.failure import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from copytrader.demo import Report


def demo(as_json: AsJson = False) -> ExitCode:
    """Show a leader's session being copied to two followers: no account, no network.

    Takes about ten seconds, and exits with 1 if the accounts do not agree at the end.
    """
    import asyncio
    import os
    import tempfile
    from pathlib import Path

    from copytrader import demo, render, tokens

    folder = Path(tempfile.mkdtemp(prefix="copytrader-demo-"))
    # Locks and tokens of the demonstration are its own, so that it runs beside a real `follow`.
    os.environ[tokens.STATE_DIR] = str(folder / "state")
    report = asyncio.run(demo.run(folder, _say))
    if as_json:
        render.document(_document(report, folder))
    else:
        _show(report)
    _hints(folder)
    return ExitCode.FINE if report.agree else ExitCode.FAILED


def _say(text: str) -> None:
    """Tell on stderr what happens; a chapter begins with an empty line."""
    from copytrader import render

    if text.startswith("\n"):
        render.notice("")
    render.notice(text.lstrip("\n"))


def _document(report: Report, folder: Path) -> dict[str, object]:
    return {
        "agree": report.agree,
        "folder": folder,
        "orders": report.orders,
        "positions": report.positions,
        "differences": report.differences,
    }


def _show(report: Report) -> None:
    from copytrader import render

    render.notice("")
    render.line("What the broker's books say, side by side:")
    render.line("")
    _show_orders(report.orders)
    render.line("")
    _show_positions(report.positions)
    render.line("")
    for row in report.orders:
        if row["reason"]:
            render.line(f"Order {row['number']}, {row['account']}: {row['reason']}, {row['detail']}.")
    for difference in report.differences:
        render.line(f"WRONG: {difference}")
    if report.agree:
        render.line("All accounts agree: nothing is missing, doubled, open or held.")


def _show_orders(orders: Sequence[Mapping[str, object]]) -> None:
    from copytrader import render
    from copytrader.render import Column

    columns = [
        Column("what", "order"),
        Column("account"),
        Column("quantity", "qty"),
        Column("terms"),
        Column("status"),
        Column("filled_quantity", "filled"),
    ]
    render.rows(list(_grouped(orders)), columns)
    render.line("Of a market order over its API, Dhan makes a limit 1 % beyond the last price.")


def _show_positions(positions: Sequence[Mapping[str, object]]) -> None:
    from copytrader import render
    from copytrader.render import Column

    keys = [key for key in positions[0] if key != "symbol"] if positions else []
    columns = [
        Column(key, key.removesuffix("_realized") + (" Rs" if key.endswith("_realized") else "")) for key in keys
    ]
    render.rows(positions, [Column("symbol", "position"), *columns])


def _grouped(orders: Sequence[Mapping[str, object]]) -> Iterator[dict[str, object]]:
    """Name each order of the leader once, on its own row above its copies."""
    number = None
    for row in orders:
        first = row["number"] != number
        number = row["number"]
        yield {
            **row,
            "what": f"{number} {row['side']} {row['option']}" if first else "",
            "terms": _terms(row),
        }


def _terms(row: Mapping[str, object]) -> str:
    text = str(row["order_type"] or "")
    if row["price"]:
        text += f" {row['price']}"
    return f"{text} at {row['trigger_price']}" if row["trigger_price"] else text


def _hints(folder: Path) -> None:
    from copytrader import render

    render.notice("")
    render.notice(f"{folder} stays. Look at:")
    for text in (f"{folder}/copytrader.toml", f"{folder}/copytrader.db", "copytrader follow --help"):
        render.notice(f"  {text}")
