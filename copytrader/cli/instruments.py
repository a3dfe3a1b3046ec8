"""`copytrader instruments`: lot sizes, ticks and freeze quantities from Dhan's master."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.cli.options import AsCsv, AsJson, ConfigPath
from copytrader.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from copytrader.config import Config
    from copytrader.core.model import Instrument, Security
    from copytrader.dhan.master import InstrumentStore, Progress, SyncReport
    from copytrader.render import Format

app = typer.Typer(help="Lot sizes, ticks and freeze quantities from Dhan's master.", rich_markup_mode=None)

Source = Annotated[
    str | None, typer.Option("--from", metavar="FILE_OR_URL", help="Read this instead of the configured address.")
]


@app.callback(invoke_without_command=True)
def instruments(ctx: typer.Context, config: ConfigPath = None) -> None:
    if ctx.invoked_subcommand is None:
        sync(config)


@app.command()
def sync(config: ConfigPath = None, source: Source = None, as_json: AsJson = False) -> None:
    """Bring the instruments up to date.

    A file that looks cut off changes nothing.
    """
    import asyncio
    from contextlib import closing
    from datetime import datetime

    from copytrader import render
    from copytrader.config import load
    from copytrader.core.model import IST
    from copytrader.dhan.master import InstrumentStore

    settings = load(config)
    origin = source or settings.dhan.instruments_url
    with closing(InstrumentStore(settings.instruments_path)) as store, _progress() as progress:
        report = asyncio.run(store.sync(origin, datetime.now(IST).date(), progress))
    if as_json:
        render.document(report)
        return
    render.line(
        f"{report.rows:,} instruments: {report.added:,} new, {report.changed:,} changed, {report.removed:,} gone"
    )
    if report.changes:
        _show_changes(settings, report)
    for line in (*report.doubles, *report.problems):
        render.notice(line)
    if report.problem_count:
        render.notice(f"{report.problem_count:,} rows could not be read and are left out: no copies of these")


Words = Annotated[
    list[str], typer.Argument(help="An underlying, a day and month of expiry, a strike, CE or PE; or an id.")
]
AnyWords = Annotated[list[str], typer.Argument(help="Parts of a symbol, a name or an id.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many to show at most.")]


@app.command()
def show(words: Words, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show an instrument, as in: show NIFTY 29 SEP 29150 CE."""
    from copytrader import render

    text = " ".join(words)
    with _store(config) as store:
        found = store.find(text)
        near = store.search(text, 3) if not found else ()
    if not found:
        hint = f"; near it: {', '.join(each.symbol for each in near)}" if near else ""
        raise Failure(f"no instrument is {text!r}{hint}; `copytrader instruments search` finds parts of names")
    if as_json:
        render.document([_row(each) for each in found])
    elif len(found) > 1:
        _table(found[:_MOST], render.Format.TABLE)
        shown = f", the first {_MOST} are shown" if len(found) > _MOST else ""
        render.notice(f"{len(found):,} instruments are {text!r}{shown}: add the day, the strike, CE or PE")
    else:
        for key, value in _row(found[0]).items():
            if value not in (None, ""):
                render.line(f"{key.replace('_', ' '):16} {value}")


@app.command()
def search(
    words: AnyWords, config: ConfigPath = None, limit: Limit = 20, as_json: AsJson = False, as_csv: AsCsv = False
) -> None:
    """Find instruments by parts of their names."""
    from copytrader import render

    with _store(config) as store:
        found = store.search(" ".join(words), limit)
    _table(found, render.Format.JSON if as_json else render.Format.CSV if as_csv else render.Format.TABLE)
    if not found:
        raise Failure(f"no instrument has {' '.join(words)!r} in its name")
    if len(found) == limit:
        render.notice(f"the first {limit} are shown: add a word, or --limit")


_MOST = 50


@contextmanager
def _store(config: ConfigPath) -> Iterator[InstrumentStore]:
    """Open the instruments that are there; reading none is no answer."""
    from contextlib import closing

    from copytrader.config import load
    from copytrader.dhan.master import InstrumentStore

    path = load(config).instruments_path
    if not path.exists():
        raise Failure("there are no instruments yet: run `copytrader instruments sync`")
    with closing(InstrumentStore(path)) as store:
        if not store.count():
            raise Failure("there are no instruments yet: run `copytrader instruments sync`")
        yield store


def _row(instrument: Instrument) -> dict[str, object]:
    return asdict(instrument.security) | {k: v for k, v in asdict(instrument).items() if k != "security"}


def _table(found: Sequence[Instrument], form: Format) -> None:
    from copytrader import render

    keys = ("exchange_segment", "security_id", "symbol", "expiry", "lot_size", "tick_size", "freeze_quantity")
    titles = {"exchange_segment": "segment", "security_id": "id", "lot_size": "lot", "tick_size": "tick"}
    titles["freeze_quantity"] = "freeze"
    render.rows([_row(each) for each in found], [render.Column(key, titles.get(key, "")) for key in keys], form)


def _show_changes(settings: Config, report: SyncReport) -> None:
    """List what changed, and who holds it from copying: sizes of orders will differ from now on."""
    from copytrader import render

    render.rows(
        [asdict(change.security) | asdict(change) for change in report.changes],
        [render.Column(key) for key in ("exchange_segment", "security_id", "symbol", "what", "old", "new")],
    )
    held = _held(settings)
    for change in report.changes:
        for who in held.get(change.security, ()):
            render.notice(
                f"{change.symbol}: the {change.what} was {change.old} and is {change.new}; {who} from copying"
            )


def _held(settings: Config) -> dict[Security, list[str]]:
    """Return who holds what from copying, by the journal; nothing where there is none."""
    from copytrader.core.engine import recall
    from copytrader.journal import Journal

    if not settings.journal.exists():
        return {}
    with Journal.open(settings.journal, read_only=True) as journal:
        state = recall(journal.happened())
    held: dict[Security, list[str]] = {}
    for key, holding in state.holdings.items():
        for name, share in holding.shares.items():
            if share.left:
                held.setdefault(key.security, []).append(f"{name} holds {share.left:+}")
    return held


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Show a bar on stderr while the block runs, where somebody looks: bytes first, then rows."""
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("instruments", total=None)

        def told(done: int, total: int | None) -> None:
            what = f"{done / 2**20:,.1f} MB" if total is not None else f"{done:,}"
            bar.update(task, completed=done if total else None, total=total, description=f"instruments, {what}")

        yield told
