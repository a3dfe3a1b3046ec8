"""The trading calendar: usual sessions, the exchanges' holidays, and the user's own corrections.

Holidays come from exchange_calendars, which knows Bombay's up to the last year that was
published and raises beyond it.  It knows neither special sessions nor commodities, so a
TOML file of the user's may add and correct days.  `docs/journal.md` describes that file.

It loads pandas: import it, and call `build`, at a start of `follow` only.
"""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterable, Iterator
from datetime import date, time, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from copytrader.config import mistakes
from copytrader.core.hours import special_key, usual_session, winter_key
from copytrader.core.model import Calendar, Session
from copytrader.failure import ExitCode, Failure

_EVENING = 17 * 60
"""Minute at which commodities open on a holiday of the stock exchanges that is none of theirs."""

# Trading hours of 2026.  Shares: pre-open orders from 9:00, continuous trading to 15:30; those with
# derivatives stop at 15:15 for the closing auction, which takes orders to about 15:30.  Derivatives of shares
# trade to 15:40 since 3 August 2026.  Commodities: to 23:30, and to 23:55 while New York is on winter time.
_SESSIONS = {
    "NSE_EQ": Session(9 * 60, 15 * 60 + 30),
    "BSE_EQ": Session(9 * 60, 15 * 60 + 30),
    "NSE_FNO": Session(9 * 60 + 15, 15 * 60 + 40),
    "BSE_FNO": Session(9 * 60 + 15, 15 * 60 + 40),
    "NSE_CURRENCY": Session(9 * 60, 17 * 60),
    "BSE_CURRENCY": Session(9 * 60, 17 * 60),
    "MCX_COMM": Session(9 * 60, 23 * 60 + 30),
    winter_key("MCX_COMM"): Session(9 * 60, 23 * 60 + 55),
}
SEGMENTS = tuple(segment for segment in _SESSIONS if " " not in segment)


class CalendarError(Failure):
    """The user's calendar file cannot be used; `lines` names every mistake in it."""

    code = ExitCode.USAGE


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Hours(_Strict):
    opens: time
    closes: time


class _Closed(_Strict):
    date: date
    segments: list[str] = list(SEGMENTS)


class _Special(_Hours):
    date: date
    segments: list[str] = list(SEGMENTS)


class _Override(_Strict):
    years: list[int] = []
    sessions: dict[str, _Hours] = {}
    closed: list[_Closed] = []
    special: list[_Special] = []


def build(override_file: Path | None, years: Iterable[int]) -> Calendar:
    """Return the calendar of these years; a year whose holidays nobody knows is left out of `Calendar.years`.

    The user's file has the last word on every day it names.  A year under its `years` is known
    from the file alone, whatever exchange_calendars says of it.
    """
    override = _Override() if override_file is None else _read(override_file)
    sessions = _SESSIONS | {segment: _session(hours) for segment, hours in override.sessions.items()}
    base = Calendar(sessions, {}, ())
    special: dict[str, Session | None] = {}
    known = set(override.years)
    for year in sorted(set(years) - known):
        holidays = _holidays(year)
        if holidays is not None:
            known.add(year)
            special |= dict(_on_holidays(base, holidays))
    special |= {special_key(segment, day.date): None for day in override.closed for segment in day.segments}
    special |= {special_key(segment, day.date): _session(day) for day in override.special for segment in day.segments}
    return Calendar(sessions, special, tuple(sorted(known)))


def _read(path: Path) -> _Override:
    try:
        override = _Override.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise CalendarError(f"{path} cannot be read: {error.strerror}; name another in copy.calendar") from error
    except UnicodeDecodeError as error:
        raise CalendarError(f"{path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise CalendarError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        raise CalendarError(*mistakes.lines(error, lambda _key: str(path), _keys_at)) from error
    _require_known_segments(override, path)
    return override


_TABLES: dict[str, type[_Strict]] = {"sessions": _Hours, "closed": _Closed, "special": _Special}


def _keys_at(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple((_TABLES[path[0]] if path else _Override).model_fields)


def _require_known_segments(override: _Override, path: Path) -> None:
    days: tuple[_Closed | _Special, ...] = (*override.closed, *override.special)
    named = {segment for day in days for segment in day.segments}
    unknown = sorted((named | override.sessions.keys()) - _SESSIONS.keys())
    if unknown:
        raise CalendarError(f"{unknown[0]} is no exchange segment; use one of {', '.join(SEGMENTS)} ({path})")
    for hours in (*override.sessions.values(), *override.special):
        if hours.closes <= hours.opens:
            raise CalendarError(f"a session closes at {hours.closes}, before it opens at {hours.opens} ({path})")


def _session(hours: _Hours) -> Session:
    return Session(hours.opens.hour * 60 + hours.opens.minute, hours.closes.hour * 60 + hours.closes.minute)


def _holidays(year: int) -> list[date] | None:
    """Return Bombay's holidays on weekdays, None for a year that is not published yet."""
    import exchange_calendars

    with warnings.catch_warnings():
        # It calls pandas in ways that pandas is about to change; its own next release answers for that.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            bombay = exchange_calendars.get_calendar("XBOM", start=f"{year}-01-01", end=f"{year}-12-31")
        except ValueError:
            return None
    sessions = {session.date() for session in bombay.sessions}
    return [day for day in _weekdays(year) if day not in sessions]


def _weekdays(year: int) -> Iterator[date]:
    day = date(year, 1, 1)
    while day.year == year:
        if day.weekday() < 5:
            yield day
        day += timedelta(days=1)


def _on_holidays(base: Calendar, holidays: list[date]) -> Iterator[tuple[str, Session | None]]:
    """Yield what each segment does on each holiday: commodities often skip the morning only."""
    for day in holidays:
        for segment in SEGMENTS:
            usual = usual_session(base, segment, day)
            evening = segment == "MCX_COMM" and usual is not None and not _is_national(day)
            yield special_key(segment, day), Session(_EVENING, usual.closes) if evening and usual else None


def _is_national(day: date) -> bool:
    """Tell whether commodities rest the whole day: the national holidays, Good Friday and Christmas."""
    from dateutil.easter import easter

    fixed = {(1, 26), (8, 15), (10, 2), (12, 25)}
    return (day.month, day.day) in fixed or day == easter(day.year) - timedelta(days=2)
