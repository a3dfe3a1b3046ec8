"""`copytrader audit`: what happened, and why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from copytrader.cli.audit_options import (
    After,
    Against,
    Anchor,
    ArchiveFile,
    AskBroker,
    Before,
    CopyFile,
    Day,
    Failed,
    Html,
    JournalPath,
    Kinds,
    Limit,
    OneFollower,
    OneOrder,
    OneSymbol,
    Order,
    PruneBefore,
    Reasons,
    Since,
    Sql,
    Tail,
    Target,
    Today,
    Until,
    day_of,
    journal_of,
    known_kinds,
    known_reasons,
    last_day_in,
    last_period,
    newest_day,
    now,
    path_of,
    period_of,
    require_follower,
    whole_period,
)
from copytrader.cli.audit_output import (
    documents,
    print_list,
    show_facts,
    show_findings,
    show_report,
    show_tail,
    tell_archives,
    write_page,
)
from copytrader.cli.options import AsCsv, AsJson, ConfigPath
from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from copytrader.audit.verify import Book

app = typer.Typer(help="What happened, and why.", rich_markup_mode=None)

_TAIL = 10
_VIEWS = "SELECT name AS view FROM sqlite_master WHERE type = 'view' ORDER BY name"


@app.callback(invoke_without_command=True)
def audit(
    ctx: typer.Context,
    config: ConfigPath = None,
    journal: JournalPath = None,
    today: Today = False,
    date: Day = "",
    since: Since = "",
    until: Until = "",
    follower: OneFollower = "",
    symbol: OneSymbol = "",
    order: OneOrder = "",
    kind: Kinds = None,
    reason: Reasons = None,
    failed: Failed = False,
    tail: Tail = False,
    limit: Limit = None,
    before: Before = None,
    after: After = 0,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Tell what happened, and why.

    Alone: the last facts.  With a day or a time: a report.  With a filter, --json or --csv: the facts that fit.
    """
    if ctx.invoked_subcommand is not None:
        return
    from copytrader.audit.selection import Wanted

    with journal_of(config, journal) as opened:
        require_follower(opened, config, journal, follower)
        period = period_of(today, date, since, until)
        wanted = Wanted(
            since=period.since if period else None,
            until=period.until if period else None,
            follower=follower,
            symbol=symbol,
            order=order,
            kinds=known_kinds(kind or []),
            reasons=known_reasons(reason or []),
            failed=failed,
            before=before,
            after=after,
        )
        if tail and as_csv:
            raise Failure("--tail prints lines, or with --json documents: leave --csv out", code=ExitCode.USAGE)
        if tail:
            show_tail(opened, wanted, limit or _TAIL, as_json=as_json)
        elif as_json:
            tell_archives(opened, wanted)
            print_list(documents(opened, wanted, limit))
        elif period is not None and not (as_csv or limit or wanted.picks):
            show_report(opened, period, follower)
        else:
            show_facts(opened, wanted, limit, as_csv=as_csv)


@app.command()
def explain(order: Order, config: ConfigPath = None, journal: JournalPath = None, as_json: AsJson = False) -> None:
    """Tell the whole story of one order.

    From the leader's frame by rule and numbers to request, answer and fills; for a
    skip, what would have had to be different.
    """
    from copytrader import render
    from copytrader.audit.archives import elsewhere
    from copytrader.audit.explain import explain as explained
    from copytrader.audit.explain import lines

    with journal_of(config, journal) as opened:
        found = explained(opened, order)
        there = elsewhere(opened)
    if found is None:
        raise Failure(f"no fact is about the order {order}" + (f"; {there}" if there else ""))
    if as_json:
        render.document(found)
        return
    for line in lines(found):
        render.line(line)


@app.command()
def verify(
    config: ConfigPath = None,
    journal: JournalPath = None,
    broker: AskBroker = False,
    anchor: Anchor = False,
    against: Against = None,
    date: Day = "",
    as_json: AsJson = False,
) -> ExitCode:
    """Check that nothing was altered, lost or left unknown.

    Exits with 3 where there are findings, each named.  --anchor prints a digest that vouches
    for every fact up to the day's last; --against takes one that you kept.
    """
    from copytrader import render
    from copytrader.audit import verify as verifying
    from copytrader.audit.archives import archives
    from copytrader.journal import Journal, JournalError

    for digest in against or []:
        if not re.fullmatch("[0-9a-f]{64}", digest):
            text = f"--against must be a digest as --anchor prints it, 64 characters 0-9 and a-f, was {digest!r}"
            raise Failure(text, code=ExitCode.USAGE)
    path = path_of(config, journal)
    books = _books(config) if broker else []
    noted = None
    count, young, moved = 0, 0, list[str]()
    try:
        with Journal.open(path, read_only=True) as opened:
            findings = verifying.chain(opened, against or [])
            asked = now()
            settled = verifying.settled_until(opened, asked)
            findings += verifying.completeness(opened, settled)
            young = len(verifying.too_young(opened, settled, asked))
            findings += verifying.against_broker(opened, books, now().date())
            day = day_of(date, "--date") if date else newest_day(opened)
            noted = verifying.anchor(opened, day) if anchor and day else None
            count = opened.query("SELECT count(*) FROM facts")[1][0][0]
            moved = [f"facts up to {each.through} are in {each.file}" for each in archives(opened)]
    except JournalError as error:
        if not path.exists():
            raise
        findings = [verifying.Finding("chain", str(error))]
    if as_json:
        kept = {"day": day, "seq": noted[0], "digest": noted[1]} if noted else None
        said = {"ok": not findings, "facts": count, "findings": findings, "too_young": young}
        render.document({**said, "anchor": kept, "archives": moved})
    else:
        show_findings(findings, count, young, moved)
        if noted:
            render.line(f"{day} {noted[1]} vouches for facts 1 to {noted[0]}")
    return ExitCode.FINDINGS if findings else ExitCode.FINE


@app.command()
def report(
    config: ConfigPath = None,
    journal: JournalPath = None,
    today: Today = False,
    date: Day = "",
    since: Since = "",
    until: Until = "",
    follower: OneFollower = "",
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Sum up a day or a longer time; without one, the last day on record."""
    from copytrader import render
    from copytrader.audit.page import page
    from copytrader.audit.report import report as reported

    with journal_of(config, journal) as opened:
        require_follower(opened, config, journal, follower)
        period = period_of(today, date, since, until) or last_period(opened)
        if html is not None:
            digest = opened.digest(last_day_in(period))
            write_page(html, page(reported(opened, period, follower), str(opened.path), now(), digest))
            render.notice(f"written: {html}")
        if as_json:
            render.document(reported(opened, period, follower))
        elif html is None:
            show_report(opened, period, follower)


@app.command()
def sql(
    query: Sql = "",
    config: ConfigPath = None,
    journal: JournalPath = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Ask the journal with SQL; nothing can be changed by it.

    docs/recipes.md has queries to begin with.
    """
    from copytrader import render
    from copytrader.audit.query import select

    with journal_of(config, journal) as opened:
        names, rows = select(opened, query or _VIEWS)
    form = render.Format.JSON if as_json else render.Format.CSV if as_csv else render.Format.TABLE
    render.rows(rows, [render.Column(name, name) for name in names], form)


@app.command()
def export(
    target: Target,
    config: ConfigPath = None,
    journal: JournalPath = None,
    today: Today = False,
    date: Day = "",
    since: Since = "",
    until: Until = "",
) -> None:
    """Write facts, tables and the report as files; without a time, everything on record."""
    from copytrader import render
    from copytrader.audit import keeping
    from copytrader.audit.archives import elsewhere

    with journal_of(config, journal) as opened:
        period = period_of(today, date, since, until) or whole_period(opened)
        there = elsewhere(opened, period.since)
        if there:
            render.notice(there)
        for path in keeping.export(opened, target, period, now()):
            render.line(str(path))


@app.command()
def prune(before: PruneBefore, config: ConfigPath = None, archive: ArchiveFile = None) -> None:
    """Move whole verified days into an archive, which is a journal of its own.

    Only while `follow` is stopped.
    """
    from copytrader import render, session
    from copytrader.audit import keeping
    from copytrader.config import load
    from copytrader.journal.pruning import shrink

    settings = load(config)
    if not settings.journal.exists():
        raise Failure(f"{settings.journal}: there is no journal yet")
    with session.locked(settings, "audit prune"):
        done = keeping.prune(settings.journal, day_of(before, "--before"), archive, now(), render.notice)
        if done is None:
            render.line(f"nothing to move: no run of follow began after a whole day before {before}")
        else:
            render.line(f"facts up to {done.through} (the end of {done.last_day}) are now in {done.archive}")
            render.line(f"digest {done.digest}: keep it elsewhere")
        freed = shrink(settings.journal)
    if freed:
        render.line(f"{settings.journal} takes {freed / 1_000_000:,.1f} MB less of the disk")


@app.command()
def backup(target: CopyFile, config: ConfigPath = None, journal: JournalPath = None) -> None:
    """Copy the journal, whole, also while `follow` runs."""
    from copytrader import render
    from copytrader.audit import keeping

    for text in keeping.unfinished(target.parent, target.name):
        render.notice(text)
    with journal_of(config, journal) as opened:
        opened.backup(target)
    render.line(f"copied to {target}")


def _books(config: Path | None) -> list[Book]:
    """Read every account's order book and trade book."""
    import asyncio

    from copytrader import identity, session
    from copytrader.audit.verify import Book
    from copytrader.config import load
    from copytrader.dhan.broker import Broker, BrokerError

    settings = load(config)

    async def read() -> list[Book]:
        books = []
        async with session.connected(settings, session.credentials(settings)) as accounts:
            await identity.check_whose(accounts.values())
            for name, account in accounts.items():
                assert isinstance(account.broker, Broker)
                try:
                    orders, _ = await account.broker.orders()
                    trades, _ = await account.broker.trades()
                except BrokerError as error:
                    raise Failure(*(f"{name}: {line}" for line in error.lines), code=error.code) from error
                books.append(Book(name, orders, trades))
        return books

    return asyncio.run(read())
