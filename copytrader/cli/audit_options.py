"""The options of `audit`, and what they choose: a journal, a time, and the facts that fit.

What is wrong with an option is said here, with what would be right.  Nothing here is shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime

    from copytrader.audit.runs import Period
    from copytrader.journal import Journal


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


def path_of(config: Path | None, journal: Path | None) -> Path:
    from copytrader.config import load

    if journal is None:
        return load(config).journal
    if not journal.exists():
        raise Failure(f"--journal {journal}: there is no such file; name a journal", code=ExitCode.USAGE)
    return journal


def journal_of(config: Path | None, journal: Path | None) -> Journal:
    from copytrader.journal import Journal

    return Journal.open(path_of(config, journal), read_only=True)


def require_follower(opened: Journal, config: Path | None, journal: Path | None, name: str) -> None:
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


def now() -> datetime:
    from copytrader.session import now

    return now()


def period_of(today: bool, day: str, since: str, until: str) -> Period | None:
    """Return the time that the options name, None where they name none."""
    from datetime import datetime, time, timedelta

    from copytrader.audit.runs import Period
    from copytrader.core.model import IST

    if sum((today, bool(day), bool(since or until))) > 1:
        raise Failure("--today, --date and --since/--until exclude each other", code=ExitCode.USAGE)
    if today or day:
        first = day_of(day, "--date") if day else now().date()
        midnight = datetime.combine(first, time(), IST)
        return Period(midnight, midnight + timedelta(days=1))
    if not (since or until):
        return None
    begin = _moment(since, "--since") if since else datetime(2000, 1, 1, tzinfo=IST)
    end = _moment(until, "--until", ends=True) if until else now() + timedelta(microseconds=1)
    if begin >= end and not until:
        text = f"--since {since} is still to come: it is {end:%Y-%m-%d %H:%M}; name a day too, as 2026-11-23T09:15"
        raise Failure(text, code=ExitCode.USAGE)
    if end <= begin:
        raise Failure("--until must be after --since", code=ExitCode.USAGE)
    return Period(begin, end)


def day_of(text: str, option: str) -> date:
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
            return datetime.combine(now().date(), time.fromisoformat(text), IST)
        moment = datetime.fromisoformat(text)
    except ValueError:
        words = "a day as 2026-11-23, a time as 09:15, or both as 2026-11-23T09:15"
        raise Failure(f"{option} must be {words}, was {text!r}", code=ExitCode.USAGE) from None
    return moment.astimezone(IST) if moment.tzinfo is not None else moment.replace(tzinfo=IST)


def last_period(journal: Journal) -> Period:
    """Return the last day on record; of an empty journal today."""
    from datetime import datetime, time, timedelta

    from copytrader.audit.runs import Period
    from copytrader.core.model import IST

    day = journal.last_day()
    begin = now() if day is None else datetime.combine(day, time(), IST)
    begin = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(begin, begin + timedelta(days=1))


def newest_day(journal: Journal) -> date | None:
    """Return the day of the newest fact, whatever that is."""
    from datetime import date

    newest = journal.query("SELECT max(at) FROM facts")[1][0][0]
    return date.fromisoformat(newest[:10]) if newest else None


def whole_period(journal: Journal) -> Period:
    from datetime import datetime, timedelta

    from copytrader.audit.runs import Period

    first, last = journal.query("SELECT min(at), max(at) FROM facts")[1][0]
    if first is None:
        return last_period(journal)
    begin, end = (datetime.fromisoformat(at).replace(hour=0, minute=0, second=0, microsecond=0) for at in (first, last))
    return Period(begin, end + timedelta(days=1))


def last_day_in(period: Period) -> date:
    from datetime import timedelta

    return (period.until - timedelta(microseconds=1)).date()


def known_kinds(given: list[str]) -> tuple[str, ...]:
    from copytrader.journal.codec import KINDS

    return _chosen(given, KINDS, "--kind")


def known_reasons(given: list[str]) -> tuple[str, ...]:
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
