"""Whether an exchange segment trades at a given moment.

The one question is whether an order sent now would meet an exchange that takes it.  It is
answered from the desk's calendar alone: a special session or a closed day first, then the
weekend, then the segment's usual session.  In a year whose holidays the calendar does not know
every weekday counts as a working day, and somebody must be told: on a holiday the leader
cannot trade either, but entries held back are entries lost.

A segment's session is the widest that any of its instruments has, from the first minute in
which orders are taken: whether one share trades in the closing auction is the broker's
to say.  An after-market order is for the next session and passes at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum

from copytrader.core.model import IST, Calendar, Session

_SATURDAY = 5
_LONGEST_BREAK = 14
"""Days without a session; no exchange has ever had so many."""
_GUESSED = Session(9 * 60 + 15, 15 * 60 + 30)
_USUAL_OPENING = 9 * 60
_WINTER = " winter"


class Hours(StrEnum):
    OPEN = "OPEN"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a segment trades, and the hours that say so."""

    hours: Hours
    text: str

    @property
    def is_open(self) -> bool:
        return self.hours is Hours.OPEN


def is_open(calendar: Calendar, exchange_segment: str, at: datetime, after_market: bool = False) -> Verdict:
    """Tell whether an order for this segment meets its exchange at this moment."""
    if at.tzinfo is None:
        raise ValueError(f"a time needs a zone: {at.isoformat()}")
    if after_market:
        return Verdict(Hours.OPEN, "an after-market order waits for its session")
    local = at.astimezone(IST)
    day = local.date()
    special = special_key(exchange_segment, day)
    if special in calendar.special:
        return _on_special_day(exchange_segment, calendar.special[special], local)
    return _on_usual_day(exchange_segment, usual_session(calendar, exchange_segment, day), local)


def opening(calendar: Calendar, exchange_segment: str, at: datetime) -> datetime | None:
    """Return when a segment opens later on the day; None where it has, or does not."""
    local = at.astimezone(IST)
    session = _session_of(calendar, exchange_segment, local.date())
    if session is None:
        return None
    opens = _moment(local.date(), session.opens)
    return opens if at < opens else None


def first_opening(calendar: Calendar, at: datetime) -> datetime:
    """Return when the first of the segments opens on the day of a moment; nine o'clock where none is known to."""
    day = at.astimezone(IST).date()
    segments = (name for name in calendar.sessions if not name.endswith(_WINTER))
    sessions = (_session_of(calendar, segment, day) for segment in segments)
    return _moment(day, min((session.opens for session in sessions if session is not None), default=_USUAL_OPENING))


def _moment(day: date, minute: int) -> datetime:
    return datetime.combine(day, time(minute // 60, minute % 60), IST)


def holidays_unknown(calendar: Calendar, day: date) -> str:
    """Say that the holidays of a day's year are not known, and what follows; "" where they are."""
    if day.year in calendar.years:
        return ""
    return f"the holidays of {day.year} are not known: every weekday of it counts as a working day"


def session_day(calendar: Calendar, exchange_segment: str, placed_at: datetime) -> date:
    """Return the day for which an after-market order is: that of the next session to end.

    A year or a segment that the calendar does not know is taken to trade on weekdays, to half past three.
    """
    local = placed_at.astimezone(IST)
    minute, day = local.hour * 60 + local.minute, local.date()
    for _ in range(_LONGEST_BREAK):
        session = _session_of(calendar, exchange_segment, day)
        if session is not None and minute < session.closes:
            break
        day, minute = day + timedelta(days=1), 0
    return day


def _session_of(calendar: Calendar, segment: str, day: date) -> Session | None:
    special = special_key(segment, day)
    if special in calendar.special:
        return calendar.special[special]
    if day.weekday() >= _SATURDAY:
        return None
    return usual_session(calendar, segment, day) or _GUESSED


def special_key(exchange_segment: str, day: date) -> str:
    """Return the key under which a calendar keeps a segment's session of one day."""
    return f"{exchange_segment} {day.isoformat()}"


def winter_key(exchange_segment: str) -> str:
    """Return the key under which a calendar keeps a session for the days outside US daylight saving time."""
    return f"{exchange_segment}{_WINTER}"


def usual_session(calendar: Calendar, exchange_segment: str, day: date) -> Session | None:
    """Return a segment's session on a working day; commodities follow the clocks of New York."""
    usual = calendar.sessions.get(exchange_segment)
    if us_daylight_saving(day):
        return usual
    return calendar.sessions.get(winter_key(exchange_segment), usual)


def us_daylight_saving(day: date) -> bool:
    """Tell whether New York is on summer time: from the second Sunday of March to the first of November."""
    return _sunday(day.year, 3, 2) <= day < _sunday(day.year, 11, 1)


def _on_special_day(segment: str, session: Session | None, local: datetime) -> Verdict:
    if session is None:
        return Verdict(Hours.CLOSED, f"{segment} is closed on {local.date().isoformat()}")
    return _within(session, local, f"{segment} trades {_span(session)} on {local.date().isoformat()}")


def _on_usual_day(segment: str, session: Session | None, local: datetime) -> Verdict:
    if session is None:
        return Verdict(Hours.CLOSED, f"no trading hours are known for {segment}")
    text = f"{segment} trades {_span(session)} on working days"
    if local.weekday() >= _SATURDAY:
        return Verdict(Hours.CLOSED, text)
    return _within(session, local, text)


def _within(session: Session, local: datetime, text: str) -> Verdict:
    minute = local.hour * 60 + local.minute
    return Verdict(Hours.OPEN if session.opens <= minute < session.closes else Hours.CLOSED, text)


def _span(session: Session) -> str:
    return f"{_clock(session.opens)}-{_clock(session.closes)}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _sunday(year: int, month: int, which: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (which - 1))
