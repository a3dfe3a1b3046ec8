"""`copytrader audit`: what happened, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from copytrader.cli.options import AsCsv, AsJson, ConfigPath
from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, datetime

    from copytrader.audit.report import Period
    from copytrader.audit.selection import Wanted
    from copytrader.audit.verify import Book, Finding
    from copytrader.audit.words import Lots
    from copytrader.journal import Journal, Row

app = typer.Typer(help="What happened, and why.", rich_markup_mode=None)

_LAST = 50
_TAIL = 10
_WIDE = 120
_VIEWS = "SELECT name AS view FROM sqlite_master WHERE type = 'view' ORDER BY name"
_LOOK_EVERY = 0.2


def _given_above(ctx: typer.Context, value: Path | None) -> Path | None:
    """Let `audit --journal F verify` mean `audit verify --journal F`."""
    above = ctx.parent
    while value is None and above is not None:
        value, above = above.params.get("journal"), above.parent
    return value


JournalPath = Annotated[
    Path | None,
    typer.Option("--journal", metavar="FILE", callback=_given_above, help="This journal, not the configured one."),
]
Today = Annotated[bool, typer.Option("--today", help="Today, in India.")]
Day = Annotated[str, typer.Option("--date", metavar="YYYY-MM-DD", help="One day.")]
Since = Annotated[str, typer.Option("--since", metavar="TIME", help="From a day, a time of today, or both: DAYTTIME.")]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="Up to a time, or to the end of a day.")]
OneFollower = Annotated[str, typer.Option("--follower", metavar="NAME", help="One follower.")]
OneSymbol = Annotated[str, typer.Option("--symbol", metavar="TEXT", help="Orders whose symbol or underlying has this.")]
OneOrder = Annotated[str, typer.Option("--order", metavar="ID", help="The leader's, a follower's, or our id.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Skip, Place, ...; repeatable.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", metavar="REASON", help="Of a skip or refusal.")]
Failed = Annotated[bool, typer.Option("--failed", help="Only what went wrong.")]
Tail = Annotated[bool, typer.Option("--tail", "-f", help="Go on with what is recorded, until Ctrl-C.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many facts, the last ones.")]
Before = Annotated[int | None, typer.Option("--before", metavar="SEQ", help="Only facts before this one: a page back.")]
After = Annotated[int, typer.Option("--after", metavar="SEQ", min=0, help="Only facts after this one: a page on.")]
Order = Annotated[str, typer.Argument(metavar="ORDER", help="The leader's order id, a follower's, or ours (ct1-...).")]
AskBroker = Annotated[bool, typer.Option("--broker", help="Hold it against the broker's books of today, too.")]
Anchor = Annotated[bool, typer.Option("--anchor", help="Print the day's digest: keep it elsewhere.")]
Against = Annotated[
    list[str] | None, typer.Option("--against", metavar="DIGEST", help="A digest kept elsewhere; repeatable.")
]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one page of HTML instead.")]
Sql = Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT; `copytrader audit sql` alone lists the views.")]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="A directory that is new or empty.")]
CopyFile = Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")]
PruneBefore = Annotated[str, typer.Option("--before", metavar="YYYY-MM-DD", help="Days before this one go.")]
ArchiveFile = Annotated[
    Path | None, typer.Option("--archive", metavar="FILE", help="Where they go; else beside the journal, dated.")
]


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

    with _opened(config, journal) as opened:
        _require_follower(opened, config, journal, follower)
        period = _period(today, date, since, until)
        wanted = Wanted(
            since=period.since if period else None,
            until=period.until if period else None,
            follower=follower,
            symbol=symbol,
            order=order,
            kinds=_kinds(kind or []),
            reasons=_reasons(reason or []),
            failed=failed,
            before=before,
            after=after,
        )
        if tail:
            _tail(opened, wanted, limit or _TAIL, as_json=as_json)
        elif as_json:
            _print_list(_documents(opened, wanted, limit))
        elif period is not None and not (as_csv or limit or wanted.picks):
            _show_report(opened, period, follower)
        else:
            _show_facts(opened, wanted, limit, as_csv=as_csv)


@app.command()
def explain(order: Order, config: ConfigPath = None, journal: JournalPath = None, as_json: AsJson = False) -> None:
    """Tell the whole story of one order.

    From the leader's frame by rule and numbers to request, answer and fills; for a
    skip, what would have had to be different.
    """
    from copytrader import render
    from copytrader.audit.explain import explain as explained
    from copytrader.audit.explain import lines

    with _opened(config, journal) as opened:
        found = explained(opened, order)
    if found is None:
        raise Failure(f"no fact is about the order {order}")
    if as_json:
        render.document(found)
        return
    for line in lines(found):
        for part in _wrapped(line):
            render.line(part)


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
    from copytrader.journal import Journal, JournalError

    path = _path(config, journal)
    books = _books(config) if broker else []
    noted = None
    count, moved = 0, list[str]()
    try:
        with Journal.open(path, read_only=True) as opened:
            findings = verifying.chain(opened, against or [])
            findings += verifying.completeness(opened, _now())
            findings += verifying.against_broker(opened, books, _now().date())
            day = _day(date, "--date") if date else _last_day(opened)
            noted = verifying.anchor(opened, day) if anchor and day else None
            count = opened.query("SELECT count(*) FROM facts")[1][0][0]
            moved = [f"facts up to {each.through} are in {each.file}" for each in verifying.archives(opened)]
    except JournalError as error:
        if not path.exists():
            raise
        findings = [verifying.Finding("chain", str(error))]
    if as_json:
        kept = {"day": day, "seq": noted[0], "digest": noted[1]} if noted else None
        render.document({"ok": not findings, "facts": count, "findings": findings, "anchor": kept, "archives": moved})
    else:
        _show_findings(findings, count, moved)
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

    with _opened(config, journal) as opened:
        _require_follower(opened, config, journal, follower)
        period = _period(today, date, since, until) or _last(opened)
        if html is not None:
            digest = opened.digest(_ends(period))
            _write(html, page(reported(opened, period, follower), str(opened.path), _now(), digest))
            render.notice(f"written: {html}")
        elif as_json:
            render.document(reported(opened, period, follower))
        else:
            _show_report(opened, period, follower)


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

    with _opened(config, journal) as opened:
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

    with _opened(config, journal) as opened:
        period = _period(today, date, since, until) or _whole(opened)
        for path in keeping.export(opened, target, period, _now()):
            render.line(str(path))


@app.command()
def prune(before: PruneBefore, config: ConfigPath = None, archive: ArchiveFile = None) -> None:
    """Move whole verified days into an archive, which is a journal of its own.

    Only while `follow` is stopped.
    """
    from copytrader import render, session
    from copytrader.audit import keeping
    from copytrader.config import load

    settings = load(config)
    if not settings.journal.exists():
        raise Failure(f"{settings.journal}: there is no journal yet")
    with session.locked(settings, "audit prune"):
        done = keeping.prune(settings.journal, _day(before, "--before"), archive, _now())
    if done is None:
        render.line(f"nothing to move: no run of follow began after a whole day before {before}")
        return
    render.line(f"facts up to {done.through} (the end of {done.last_day}) are now in {done.archive}")
    render.line(f"digest {done.digest}: keep it elsewhere")


@app.command()
def backup(target: CopyFile, config: ConfigPath = None, journal: JournalPath = None) -> None:
    """Copy the journal, whole, also while `follow` runs."""
    from copytrader import render

    with _opened(config, journal) as opened:
        opened.backup(target)
    render.line(f"copied to {target}")


# --- Journals, days and filters ----------------------------------------------------------


def _path(config: Path | None, journal: Path | None) -> Path:
    from copytrader.config import load

    return journal if journal is not None else load(config).journal


def _opened(config: Path | None, journal: Path | None) -> Journal:
    from copytrader.journal import Journal

    return Journal.open(_path(config, journal), read_only=True)


def _require_follower(opened: Journal, config: Path | None, journal: Path | None, name: str) -> None:
    """Refuse a name that neither the journal nor, where it is the configured one, the configuration knows."""
    from copytrader.config import load

    if not name or opened.query("SELECT 1 FROM facts WHERE follower = ? LIMIT 1", [name])[1]:
        return
    configured = load(config).followers if journal is None else ()
    served = opened.query(
        "SELECT DISTINCT json_extract(value, '$.name') FROM facts, json_each(facts.body, '$.desk.followers') "
        "WHERE facts.kind = 'Started' ORDER BY facts.seq"
    )[1]
    known = dict.fromkeys([*configured, *(each for (each,) in served)])
    if name not in known:
        raise Failure(
            f"--follower {name!r} is unknown; choose from {', '.join(known) or 'nobody'}", code=ExitCode.USAGE
        )


def _now() -> datetime:
    from copytrader.session import now

    return now()


def _period(today: bool, day: str, since: str, until: str) -> Period | None:
    """Return the time that the options name, None where they name none."""
    from datetime import datetime, time, timedelta

    from copytrader.audit.report import Period
    from copytrader.core.model import IST

    if sum((today, bool(day), bool(since or until))) > 1:
        raise Failure("--today, --date and --since/--until exclude each other", code=ExitCode.USAGE)
    if today or day:
        first = _day(day, "--date") if day else _now().date()
        midnight = datetime.combine(first, time(), IST)
        return Period(midnight, midnight + timedelta(days=1))
    if not (since or until):
        return None
    begin = _moment(since, "--since") if since else datetime(2000, 1, 1, tzinfo=IST)
    end = _moment(until, "--until", ends=True) if until else _now() + timedelta(microseconds=1)
    if end <= begin:
        raise Failure("--until must be after --since", code=ExitCode.USAGE)
    return Period(begin, end)


def _day(text: str, option: str) -> date:
    from datetime import date

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Failure(f"{option} must be a day as 2026-11-23, was {text!r}", code=ExitCode.USAGE) from None


def _moment(text: str, option: str, *, ends: bool = False) -> datetime:
    """Read a day, a time of today, or both; the end of a period given as a day is the day's end."""
    from datetime import date, datetime, time, timedelta

    from copytrader.core.model import IST

    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), time(), IST) + timedelta(days=1 if ends else 0)
        if ":" in text[:3]:
            return datetime.combine(_now().date(), time.fromisoformat(text), IST)
        moment = datetime.fromisoformat(text)
    except ValueError:
        words = "a day as 2026-11-23, a time as 09:15, or both as 2026-11-23T09:15"
        raise Failure(f"{option} must be {words}, was {text!r}", code=ExitCode.USAGE) from None
    return moment.astimezone(IST) if moment.tzinfo is not None else moment.replace(tzinfo=IST)


def _last(journal: Journal) -> Period:
    """Return the last day on record; of an empty journal today."""
    from datetime import timedelta

    from copytrader.audit.report import Period, last_day

    begin = last_day(journal) or _now().replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(begin, begin + timedelta(days=1))


def _last_day(journal: Journal) -> date | None:
    from copytrader.audit.report import last_day

    begin = last_day(journal)
    return begin.date() if begin is not None else None


def _whole(journal: Journal) -> Period:
    from datetime import datetime

    from copytrader.audit.report import Period

    last = _last(journal)
    first = journal.query("SELECT min(at) FROM facts")[1][0][0]
    begin = datetime.fromisoformat(first).replace(hour=0, minute=0, second=0, microsecond=0) if first else last.since
    return Period(begin, last.until)


def _ends(period: Period) -> date:
    from datetime import timedelta

    return (period.until - timedelta(microseconds=1)).date()


def _kinds(given: list[str]) -> tuple[str, ...]:
    from copytrader.journal.codec import KINDS

    return _chosen(given, KINDS, "--kind")


def _reasons(given: list[str]) -> tuple[str, ...]:
    from copytrader.core.model import RefusalClass, SkipReason

    return _chosen(given, dict.fromkeys([*SkipReason, *RefusalClass]), "--reason")


def _chosen(given: list[str], known: Iterable[str], option: str) -> tuple[str, ...]:
    """Return the known words that were meant, in whatever case they were given."""
    by_lower = {str(word).lower(): str(word) for word in known}
    for word in given:
        if word.lower() not in by_lower:
            listed = ", ".join(sorted(by_lower.values()))
            raise Failure(f"{option} {word!r} is unknown; choose from {listed}", code=ExitCode.USAGE)
    return tuple(by_lower[word.lower()] for word in given)


# --- Showing -------------------------------------------------------------------------------


def _documents(journal: Journal, wanted: Wanted, limit: int | None) -> Iterator[dict[str, Any]]:
    from copytrader.audit import selection, words

    known = words.Lots(journal)
    for row in selection.find(journal, wanted, limit):
        yield selection.document(row, known)


def _print_list(items: Iterable[dict[str, Any]]) -> None:
    """Print one JSON list, item by item: a year of facts need not fit into memory."""
    import json
    import sys

    write, before = sys.stdout.write, "[\n"
    for item in items:
        write(before + json.dumps(item))
        before = ",\n"
    write("[]\n" if before == "[\n" else "\n]\n")


def _show_facts(journal: Journal, wanted: Wanted, limit: int | None, *, as_csv: bool) -> None:
    from copytrader import render
    from copytrader.audit import selection, words
    from copytrader.render import Column

    known = words.Lots(journal)
    most = limit or (None if as_csv else _LAST)
    rows = list(selection.find(journal, wanted, most))
    if as_csv:
        render.rows([_as_row(row, known) for row in rows], [Column(key) for key in _CSV], render.Format.CSV)
        return
    if not rows:
        render.notice("no fact fits")
        return
    one_day = rows[0].at[:10] == rows[-1].at[:10]
    items = [
        {
            "seq": row.seq,
            "at": row.at[11:23] if one_day else row.at[:19].replace("T", " "),
            "who": _who(row),
            "what": selection.summary(row, known),
        }
        for row in rows
    ]
    title = rows[0].at[:10] if one_day else "time"
    render.rows(items, [Column("seq"), Column("at", title), Column("who"), Column("what")])
    if len(rows) == most and rows[0].seq > 1:
        render.notice(f"older: --before {rows[0].seq}")


_CSV = ("seq", "cause", "at", "kind", "follower", "leader_order_id", "order_id", "correlation_id", "reason", "summary")


def _as_row(row: Row, known: Lots) -> dict[str, object]:
    from copytrader.audit import selection

    said = selection.document(row, known)
    return {key: said[key] for key in _CSV}


def _who(row: Row) -> str:
    from copytrader.audit import words
    from copytrader.journal import JournalError

    try:
        return row.follower or words.who(row.fact)
    except JournalError:
        return ""


def _tail(journal: Journal, wanted: Wanted, limit: int, *, as_json: bool) -> None:
    """Print the last facts and then each new one; every look is a short query of its own."""
    import json
    import time

    from copytrader import render
    from copytrader.audit import selection, words

    known, seen, last = words.Lots(journal), wanted.after, limit
    try:
        while True:
            newest = journal.last_seq
            if newest > seen or last:
                known = words.Lots(journal)
                for row in selection.find(journal, selection.newer(wanted, seen), last or None):
                    if as_json:
                        render.line(json.dumps(selection.document(row, known)))
                    else:
                        render.line(f"{row.at[11:23]} #{row.seq} {_who(row):<8} {selection.summary(row, known)}")
                    newest = max(newest, row.seq)
                render.flush()
                seen, last = max(seen, newest), 0
            time.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        return


def _show_report(journal: Journal, period: Period, follower: str) -> None:
    from copytrader import render
    from copytrader.audit.report import report as reported
    from copytrader.audit.tables import tables

    for table in tables(reported(journal, period, follower), narrow=_width() < _WIDE):
        render.line(table.title)
        render.rows(table.rows, table.columns)
        if table.note:
            render.line(table.note)
        render.line("")


def _width() -> int:
    """Return the terminal's width; a pipe has none, and gets everything."""
    import shutil
    import sys

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def _wrapped(line: str) -> list[str]:
    import textwrap

    return textwrap.wrap(line, _width(), subsequent_indent="      ", break_on_hyphens=False) or [""]


def _show_findings(findings: list[Finding], count: int, moved: list[str]) -> None:
    from copytrader import render

    for text in moved:
        render.line(text)
    for finding in findings:
        where = "" if finding.seq is None else f" (fact {finding.seq})"
        render.line(f"{finding.check}: {finding.what}{where}")
    if findings:
        render.notice(f"{len(findings)} findings in {count:,} facts")
    else:
        render.line(f"{count:,} facts: unaltered, complete, nothing unknown")


def _write(path: Path, text: str) -> None:
    """Write a page that its owner alone may read; what stood there is replaced."""
    import os

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    partial.replace(path)


def _books(config: Path | None) -> list[Book]:
    """Read every account's order book and trade book."""
    import asyncio

    from copytrader import session
    from copytrader.audit.verify import Book
    from copytrader.config import load
    from copytrader.dhan.broker import Broker

    settings = load(config)

    async def read() -> list[Book]:
        books = []
        async with session.connected(settings, session.credentials(settings)) as accounts:
            for name, account in accounts.items():
                assert isinstance(account.broker, Broker)
                orders, _ = await account.broker.orders()
                trades, _ = await account.broker.trades()
                books.append(Book(name, orders, trades))
        return books

    return asyncio.run(read())
