"""`copytrader reconcile`: whether the accounts agree, and what would make them."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.cli.options import AsCsv, AsJson, ConfigPath
from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copytrader.config import Config
    from copytrader.core.reconcile.picture import Finding, Row
    from copytrader.core.reconcile.planning import Step
    from copytrader.looking import Done, Report, Request
    from copytrader.render import Column

Fix = Annotated[bool, typer.Option("--fix", help="Show the plan, ask, carry it out and show the result.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="With --fix or --adopt: do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --fix or --adopt: show the plan, send nothing.")]
ReduceOnly = Annotated[bool, typer.Option("--reduce-only", help="Plan exits and cancels, no entries.")]
OneFollower = Annotated[list[str] | None, typer.Option("--follower", metavar="NAME", help="Only this one; repeatable.")]
Symbol = Annotated[
    str, typer.Option("--symbol", metavar="NAME", help="Only this instrument: symbol, security id or underlying.")
]
AtLimit = Annotated[
    bool, typer.Option("--limit/--market", help="Send limits at the last price known, or market orders (the default).")
]
Adopt = Annotated[
    bool, typer.Option("--adopt", help="After a lost journal: take over orders with our prefix, cancel the open ones.")
]
Watch = Annotated[
    float | None, typer.Option("--watch", metavar="SECONDS", min=1, help="Look again and again, until Ctrl-C.")
]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=1, help="How long --fix waits for fills.")]
ShowAll = Annotated[bool, typer.Option("--all", help="Show every row, however many are in sync.")]

_MOST_ROWS = 40
_WIDE = 120


def reconcile(
    config: ConfigPath = None,
    fix: Fix = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    reduce_only: ReduceOnly = False,
    follower: OneFollower = None,
    symbol: Symbol = "",
    at_limit: AtLimit = False,
    adopt: Adopt = False,
    watch: Watch = None,
    wait: Wait = 30.0,
    show_all: ShowAll = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> ExitCode:
    """Put leader's and followers' positions side by side, with reasons, and the plan that closes the gap.

    Exits with 0 when all agree, 3 when not, 4 when a token is missing or refused, 5 when an order's outcome is
    unknown, 6 when a safety rule says no.
    """
    import asyncio

    from copytrader import errand, looking, reconcile, render
    from copytrader.config import load
    from copytrader.core.reconcile.picture import Scope
    from copytrader.core.reconcile.planning import Wishes

    if watch is not None and (fix or adopt or as_json or as_csv):
        raise Failure(
            "--watch shows a table again and again; it goes with none of --fix, --adopt, --json, --csv",
            code=ExitCode.USAGE,
        )
    if not (fix or adopt):
        _refuse_idle({"--yes": yes, "--dry-run": dry_run})
    settings = load(config)
    for name in follower or ():
        errand.known_followers(settings, name)
    request = looking.Request(
        Scope(frozenset(follower or ()), symbol),
        Wishes(reduce_only, at_limit),
        adopt,
        wait,
        ask=lambda steps: None if yes else _ask(steps),
        ask_adopt=lambda orders: None if yes else _ask_adopt(orders),
    )
    if watch is not None:
        return asyncio.run(_watch(settings, request, watch, show_all=show_all))
    if fix and not dry_run:
        report = asyncio.run(reconcile.fix(settings, request, render.notice))
    elif adopt and not dry_run:
        report = asyncio.run(reconcile.adopt(settings, request, render.notice))
    else:
        report = asyncio.run(_once(settings, request))
    show(report, show_all=show_all, as_json=as_json, as_csv=as_csv)
    return report.code


def _refuse_idle(given: dict[str, bool]) -> None:
    """Refuse what means something only where something is carried out."""
    for option, is_given in given.items():
        if is_given:
            text = f"{option} goes with --fix or --adopt: without them, nothing is carried out and nothing asked"
            raise Failure(text, code=ExitCode.USAGE)


async def _once(config: Config, request: Request) -> Report:
    from copytrader import looking, render

    async with looking.connected(config, render.notice) as looker:
        return await looker.look(request)


async def _watch(config: Config, request: Request, seconds: float, *, show_all: bool) -> ExitCode:
    """Draw the table anew every few seconds; on a terminal in place of the last."""
    import asyncio

    from copytrader import looking, render

    report: Report | None = None
    async with looking.connected(config, render.notice) as looker:
        while True:
            try:
                report = await looker.look(request)
            except asyncio.CancelledError:
                if report is None:
                    raise
                return report.code
            if sys.stdout.isatty():
                typer.echo("\x1b[H\x1b[2J", nl=False)
            render.line(f"{report.picture.at:%H:%M:%S}, again every {seconds:g} s; Ctrl-C ends it")
            show(report, show_all=show_all)
            render.flush()
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:  # Ctrl-C is how it ends
                return report.code


# --- Asking ------------------------------------------------------------------------------


def _ask(steps: Sequence[Step]) -> None:
    """Show the plan on stderr and ask, unless nothing of it would be sent."""
    from copytrader import render
    from copytrader.cli.ask import confirm

    sent = [step for step in steps if not step.held_back]
    if not sent:
        return
    for step in steps:
        render.notice(_told(step))
    confirm(question(sent))


def question(sent: Sequence[Step]) -> str:
    """Count what would be sent, of each kind that there is."""
    cancels = sum(1 for step in sent if step.action == "CANCEL")
    counts = (("order", len(sent) - cancels), ("cancel", cancels))
    told = [f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts if count]
    return f"Send {' and '.join(told)}?"


def _told(step: Step) -> str:
    what = f"{step.action.lower()} {step.order_id}" if step.action == "CANCEL" else step.action.lower()
    price = f" {step.price}" if step.price else ""
    value = f", about Rs {step.value:,.0f}" if step.value is not None else ""
    held_back = f"; not sent, {step.held_back}" if step.held_back else ""
    lots = f"{step.lots.normalize():f} lot{'' if step.lots == 1 else 's'}"
    terms = f"{step.side} {step.quantity} ({lots}) {_label(step)} {step.order_type}{price}"
    return f"{step.follower}: {what}: {terms}{value}{held_back}"


def _ask_adopt(orders: Sequence[str]) -> None:
    from copytrader import render
    from copytrader.cli.ask import confirm

    for order in orders:
        render.notice(order)
    those = "this order, and cancel it if it is" if len(orders) == 1 else "these orders, and cancel those that are"
    confirm(f"Take over {those} open?")


# --- Showing -----------------------------------------------------------------------------


def show(report: Report, *, show_all: bool = False, as_json: bool = False, as_csv: bool = False) -> None:
    from copytrader import render

    if as_json:
        render.document(_document(report))
    elif as_csv:
        render.rows([_row(row) for row in report.picture.rows], _csv_columns(), render.Format.CSV)
    else:
        _show_rows(report, show_all=show_all)
        _show_findings(report)
        _show_done(report)
        _show_plan(report)
        _conclude(report)


def _document(report: Report) -> dict[str, object]:
    picture = report.picture
    return {
        "in_sync": picture.in_sync,
        "at": picture.at,
        "rows": [_row(row) for row in picture.rows],
        "orders": [asdict(finding) for finding in picture.findings],
        "plan": [_row(step) for step in report.plan],
        "done": [asdict(done) for done in report.done],
        "accounts": [{"account": each.account, "problem": each.problem} for each in picture.problems],
    }


def _row(row: Row | Step) -> dict[str, object]:
    """Return a row as programs get it; what was reckoned from a quotient is rounded to what a price can have."""
    return {key: _rounded(value) if isinstance(value, Decimal) else value for key, value in asdict(row).items()}


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.0001")).normalize()


def _csv_columns() -> list[Column]:
    from copytrader.core.reconcile.picture import Row
    from copytrader.render import Column

    return [Column(each.name) for each in fields(Row)]


def _show_rows(report: Report, *, show_all: bool) -> None:
    """The table; where it would be long, without the rows that are in sync."""
    from copytrader import render
    from copytrader.core.reconcile.picture import unread_reason

    rows = report.picture.rows
    shown = [row for row in rows if show_all or len(rows) <= _MOST_ROWS or row.state != "in_sync"]
    if shown:
        _table(shown)
    if len(shown) < len(rows):
        render.line(f"{len(rows) - len(shown):,} rows more are in sync (--all shows them)")
    unread = [unread_reason(reading) for reading in report.picture.problems]
    for text in unread:
        render.line(text)
    for row in shown:
        if row.why and row.why not in unread:
            render.line(f"{_who(row.follower, _label(row))}: {_state(row)}: {row.why}")


def _table(rows: Sequence[Row]) -> None:
    """All columns where there is room; else the follower stands above its rows."""
    from copytrader import render
    from copytrader.render import Column

    figures = ["leader", "target", "copied", "own", "drift"]
    if (render.width_of(sys.stdout) or _WIDE) >= _WIDE:
        keys = ["follower", "symbol", "product", *figures, "lots", "last", "value", "state"]
        render.rows([_drawn(row) for row in rows], [Column(key, in_threes=key == "value") for key in keys])
        return
    lines: list[dict[str, object]] = []
    for number, row in enumerate(rows):
        if not number or row.follower != rows[number - 1].follower:
            lines.append({"symbol": row.follower})
        lines.append(_drawn(row) | {"symbol": f" {_label(row)}"})
    render.rows(lines, [Column(key) for key in ("symbol", *figures, "state")])


def _drawn(row: Row) -> dict[str, object]:
    cents = Decimal("0.01")
    return {
        "follower": row.follower,
        "symbol": _label(row),
        "product": row.product,
        "leader": row.leader_quantity,
        "target": row.target_quantity,
        "copied": row.copied_quantity,
        "own": row.own_quantity,
        "drift": row.drift_quantity,
        "lots": None if row.drift_lots is None else row.drift_lots.quantize(cents).normalize(),
        "last": None if row.last_price is None else row.last_price.quantize(cents),
        "value": None if not row.drift_value else round(row.drift_value),
        "state": _state(row),
    }


def _state(row: Row) -> str:
    return row.state.replace("_", " ")


def _label(what: Row | Finding | Step | Done) -> str:
    from copytrader.core.model import label

    return label(what.symbol, what.expiry)


def _who(follower: str, symbol: str) -> str:
    return f"{follower} {symbol}" if symbol else follower


def _show_findings(report: Report) -> None:
    from copytrader import render

    for finding in report.picture.findings:
        named = finding.order_id or finding.leader_order_id or finding.correlation_id
        order = f"order {named}: " if named else ""
        kind = finding.kind.replace("_", " ")
        render.line(f"{_who(finding.follower, _label(finding))}: {order}{kind}: {finding.detail}")


def _show_done(report: Report) -> None:
    from copytrader import render

    for done in report.done:
        order = f" (order {done.order_id})" if done.order_id else ""
        filled = f"{done.filled_quantity} of {done.quantity} filled"
        render.line(f"{done.follower}: {done.side} {_label(done)}: {filled}, {done.outcome}{order}")


def _show_plan(report: Report) -> None:
    from copytrader import render

    if report.plan:
        render.line("The plan that --fix would carry out:" if not report.done else "What is left to do:")
    for step in report.plan:
        render.line(f"  {_told(step)}")


def _conclude(report: Report) -> None:
    from copytrader import render

    picture = report.picture
    if picture.in_sync:
        of = f" of {picture.scope.symbol}" if picture.scope.symbol else ""
        render.line("in sync" if picture.rows else f"in sync: nothing{of} is held and nothing works")
        return
    wrong = Counter(_state(row) for row in picture.rows if not row.is_fine)
    told = [f"{count} {state}" for state, count in wrong.items()]
    left_out = {finding.follower for finding in picture.findings if finding.kind == "left_out"}
    orders = sum(finding.kind != "left_out" for finding in picture.findings)
    if orders:
        told.append(f"{orders} order{'' if orders == 1 else 's'}, see above")
    if left_out:
        told.append(f"left out of the configuration: {', '.join(sorted(left_out))}")
    render.line(f"not in sync: {', '.join(told) or 'an account cannot be read'}")
