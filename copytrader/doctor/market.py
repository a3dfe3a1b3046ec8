"""What is known of what trades: the instruments, and the days on which the exchanges are closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date, datetime, time
from pathlib import Path

from copytrader import calendar, login
from copytrader.config import Config
from copytrader.core.hours import holidays_unknown, session_day
from copytrader.core.model import IST, Calendar
from copytrader.dhan.master import InstrumentStore, MasterError
from copytrader.doctor.check import Check, fail, ok, warn
from copytrader.failure import Failure

NOT_ASKED = ok("calendar", 'not asked: copy.market_hours is "off"')


def instruments(config: Config) -> Iterator[Check]:
    remedy = "copytrader instruments sync"
    if not config.instruments_path.exists():
        yield warn("instruments", "never read: `copytrader follow` does it at its start", remedy)
        return
    try:
        with closing(InstrumentStore(config.instruments_path)) as store:
            synced, count, unknown = store.synced_on(), store.count(), list(_unknown_underlyings(config, store))
    except MasterError as error:
        yield fail("instruments", str(error), remedy)
        return
    if synced is None:
        yield warn("instruments", "never read wholly", remedy)
        return
    if synced < login.now().date():
        yield warn("instruments", f"{count:,} as of {synced:%d %b}: `copytrader follow` reads today's first", remedy)
    else:
        yield ok("instruments", f"{count:,} as of today")
    yield from unknown


def _unknown_underlyings(config: Config, store: InstrumentStore) -> Iterator[Check]:
    """Find what a filter names and no instrument has: a misspelt one lets through what it was to hold back."""
    for name, section in config.enabled.items():
        rule = section.filter
        for key, wanted in (("underlyings", rule.underlyings), ("exclude_underlyings", rule.exclude_underlyings)):
            unknown = [each for each in wanted if not store.has_underlying(each)]
            if unknown:
                where, listed = f"followers.{name}.filter.{key}", ", ".join(unknown)
                remedy = f"correct {where}; `copytrader instruments search {unknown[0]}` shows what is near"
                yield warn(f"filter of {name}", f"no instrument has the underlying {listed}", remedy)


def holidays(override: Path | None) -> Check:
    today = login.now().date()
    try:
        market = calendar.build(override, (today.year, today.year + 1))
    except Failure as failure:
        return fail("calendar", "; ".join(failure.lines), "mend that file, see docs/journal.md")
    remedy = (
        "write the holidays into a file and name it in copy.calendar (docs/journal.md), or install a newer copytrader"
    )
    unknown = holidays_unknown(market, today)
    if unknown:
        return warn("calendar", unknown, remedy)
    closed = {segment: day for segment in calendar.SEGMENTS if (day := _next_session(market, segment, today)) > today}
    if closed:
        return warn("calendar", *_no_session(closed))
    if today.month == 12 and today.year + 1 not in market.years:
        return warn("calendar", f"the holidays of {today.year + 1} are not known yet", remedy)
    return ok("calendar", f"the holidays of {today.year} are known")


def _next_session(market: Calendar, segment: str, today: date) -> date:
    return session_day(market, segment, datetime.combine(today, time(), IST))


def _no_session(closed: Mapping[str, date]) -> tuple[str, str]:
    """Say what does not trade today, and when it does next."""
    if len(closed) == len(calendar.SEGMENTS):
        what = "today is no trading day: no entry is copied"
    else:
        what = f"no trading today in {', '.join(closed)}: no entry there is copied"
    return what, f"wait for {min(closed.values()):%A, %d %B}, or correct the day in copy.calendar (docs/journal.md)"
