"""When each segment trades, and what happens when nobody knows."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest

from copytrader.calendar import SEGMENTS, CalendarError, build
from copytrader.core.hours import (
    Hours,
    holidays_unknown,
    is_open,
    opening,
    session_day,
    special_key,
    us_daylight_saving,
)
from copytrader.core.model import IST, Calendar, Session

CALENDAR = build(None, [2026])


def verdict(segment: str, moment: str, calendar: Calendar = CALENDAR, *, after_market: bool = False) -> Hours:
    at = datetime.fromisoformat(moment).replace(tzinfo=IST)
    return is_open(calendar, segment, at, after_market).hours


@pytest.mark.parametrize(
    ("segment", "day", "opens", "last_minute"),
    [
        ("NSE_FNO", "2026-11-23", "09:15", "15:39"),
        ("BSE_FNO", "2026-11-23", "09:15", "15:39"),
        ("NSE_EQ", "2026-11-23", "09:00", "15:29"),
        ("BSE_EQ", "2026-11-23", "09:00", "15:29"),
        ("NSE_CURRENCY", "2026-11-23", "09:00", "16:59"),
        ("MCX_COMM", "2026-10-30", "09:00", "23:29"),
        ("MCX_COMM", "2026-11-23", "09:00", "23:54"),
        ("MCX_COMM", "2026-11-10", "17:00", "23:54"),
        ("MCX_COMM", "2026-09-14", "17:00", "23:29"),
    ],
)
def test_a_session_is_open_from_its_first_minute_through_its_last(
    segment: str, day: str, opens: str, last_minute: str
) -> None:
    first, last = datetime.fromisoformat(f"{day} {opens}"), datetime.fromisoformat(f"{day} {last_minute}:59")

    assert verdict(segment, first.isoformat()) is Hours.OPEN
    assert verdict(segment, last.isoformat()) is Hours.OPEN
    assert (
        verdict(
            segment, first.replace(minute=(first.minute - 1) % 60, hour=first.hour - (first.minute == 0)).isoformat()
        )
        is Hours.CLOSED
    )
    after = last.replace(second=0).timestamp() + 60
    assert verdict(segment, datetime.fromtimestamp(after).isoformat()) is Hours.CLOSED  # noqa: DTZ006


@pytest.mark.parametrize(
    ("segment", "moment"),
    [
        ("NSE_FNO", "2026-11-24 11:00"),
        ("NSE_FNO", "2026-11-22 11:00"),
        ("MCX_COMM", "2026-11-21 11:00"),
        ("NSE_EQ", "2026-01-15 11:00"),
        ("MCX_COMM", "2026-10-02 20:00"),
        ("MCX_COMM", "2026-04-03 20:00"),
        ("MCX_COMM", "2026-12-25 20:00"),
        ("NSE_COMM", "2026-11-23 11:00"),
    ],
)
def test_holidays_and_weekends_are_closed(segment: str, moment: str) -> None:
    assert verdict(segment, moment) is Hours.CLOSED


def test_the_words_tell_the_hours() -> None:
    at = datetime(2026, 11, 23, 16, 0, tzinfo=IST)

    assert is_open(CALENDAR, "NSE_FNO", at).text == "NSE_FNO trades 09:15-15:40 on working days"
    assert is_open(CALENDAR, "NSE_FNO", at.replace(day=24)).text == "NSE_FNO is closed on 2026-11-24"
    assert is_open(CALENDAR, "NSE_COMM", at).text == "no trading hours are known for NSE_COMM"


def test_the_machines_zone_does_not_matter() -> None:
    assert is_open(CALENDAR, "NSE_FNO", datetime(2026, 11, 23, 3, 45, tzinfo=UTC)).is_open
    assert not is_open(CALENDAR, "NSE_FNO", datetime(2026, 11, 23, 3, 44, 59, tzinfo=UTC)).is_open
    with pytest.raises(ValueError, match="zone"):
        is_open(CALENDAR, "NSE_FNO", datetime(2026, 11, 23, 11, 0))  # noqa: DTZ001


def test_an_after_market_order_passes_at_any_time() -> None:
    for moment in ("2026-11-23 20:00", "2026-11-22 11:00", "2031-01-01 03:00"):
        assert verdict("NSE_EQ", moment, after_market=True) is Hours.OPEN


@pytest.mark.parametrize(
    ("segment", "placed", "day"),
    [
        ("NSE_FNO", "2026-11-23 00:00", "2026-11-23"),
        ("NSE_FNO", "2026-11-23 15:39", "2026-11-23"),
        ("NSE_FNO", "2026-11-23 15:40", "2026-11-25"),
        ("NSE_FNO", "2026-11-24 09:00", "2026-11-25"),
        ("NSE_FNO", "2026-11-26 16:05", "2026-11-27"),
        ("NSE_FNO", "2026-11-27 23:59", "2026-11-30"),
        ("NSE_FNO", "2026-11-28 11:00", "2026-11-30"),
        ("MCX_COMM", "2026-11-23 23:54", "2026-11-23"),
        ("MCX_COMM", "2026-11-10 09:00", "2026-11-10"),
        ("NSE_COMM", "2026-11-23 15:29", "2026-11-23"),
        ("NSE_COMM", "2026-11-23 15:30", "2026-11-24"),
    ],
)
def test_an_after_market_order_is_for_the_next_session_to_end(segment: str, placed: str, day: str) -> None:
    at = datetime.fromisoformat(placed).replace(tzinfo=IST)

    assert session_day(CALENDAR, segment, at) == date.fromisoformat(day)


def test_a_special_session_on_a_sunday_is_the_next_to_end() -> None:
    special = {special_key("NSE_FNO", date(2026, 11, 29)): Session(18 * 60, 19 * 60)}
    calendar = replace(CALENDAR, special={**CALENDAR.special, **special})
    at = datetime(2026, 11, 27, 20, 0, tzinfo=IST)

    assert session_day(calendar, "NSE_FNO", at) == date(2026, 11, 29)
    assert session_day(calendar, "NSE_FNO", at.replace(day=29, hour=19)) == date(2026, 11, 30)


@pytest.mark.parametrize(
    ("segment", "moment", "opens"),
    [
        ("NSE_FNO", "2026-11-23 08:00", "09:15"),
        ("NSE_FNO", "2026-11-23 09:14", "09:15"),
        ("NSE_FNO", "2026-11-23 09:15", None),
        ("NSE_FNO", "2026-11-23 16:00", None),
        ("NSE_FNO", "2026-11-24 08:00", None),
        ("NSE_FNO", "2026-11-28 08:00", None),
        ("MCX_COMM", "2026-11-10 08:00", "17:00"),
    ],
)
def test_a_segment_opens_later_on_a_day_that_it_trades(segment: str, moment: str, opens: str | None) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=IST)
    expected = datetime.combine(at.date(), time.fromisoformat(opens), IST) if opens is not None else None

    assert opening(CALENDAR, segment, at) == expected


def test_in_a_year_whose_holidays_nobody_knows_every_weekday_is_a_working_day() -> None:
    calendar = build(None, [2026, 2031])
    assert calendar.years == (2026,)
    assert verdict("NSE_FNO", "2031-01-02 11:00", calendar) is Hours.OPEN
    assert verdict("NSE_FNO", "2031-01-02 16:00", calendar) is Hours.CLOSED
    assert verdict("NSE_FNO", "2031-01-04 11:00", calendar) is Hours.CLOSED
    assert holidays_unknown(calendar, date(2031, 1, 2)).startswith("the holidays of 2031 are not known")
    assert holidays_unknown(calendar, date(2026, 12, 31)) == ""


def test_new_york_changes_its_clocks_on_sundays() -> None:
    days = [
        date(2026, 3, 7),
        date(2026, 3, 8),
        date(2026, 10, 31),
        date(2026, 11, 1),
        date(2027, 3, 13),
        date(2027, 3, 14),
    ]

    assert [us_daylight_saving(day) for day in days] == [False, True, True, False, False, True]


# --- The user's file ---


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "calendar.toml"
    path.write_text(text)
    return path


def test_the_users_file_has_the_last_word(tmp_path: Path) -> None:
    calendar = build(
        write(
            tmp_path,
            """
            [sessions.NSE_FNO]
            opens = 09:00:00
            closes = 15:30:00
            [[closed]]
            date = 2026-11-25
            segments = ["NSE_EQ"]
            [[closed]]
            date = 2026-11-26
            [[special]]
            date = 2026-11-08
            opens = 18:00:00
            closes = 19:00:00
            [[special]]
            date = 2026-11-24
            opens = 10:00:00
            closes = 11:00:00
            segments = ["BSE_FNO"]
            """,
        ),
        [2026],
    )

    assert verdict("NSE_FNO", "2026-11-23 09:05", calendar) is Hours.OPEN
    assert verdict("NSE_FNO", "2026-11-23 15:30", calendar) is Hours.CLOSED
    assert verdict("NSE_EQ", "2026-11-25 11:00", calendar) is Hours.CLOSED
    assert verdict("NSE_FNO", "2026-11-25 11:00", calendar) is Hours.OPEN
    assert all(calendar.special[special_key(segment, date(2026, 11, 26))] is None for segment in SEGMENTS)
    assert verdict("NSE_EQ", "2026-11-08 18:30", calendar) is Hours.OPEN
    assert verdict("NSE_EQ", "2026-11-08 11:00", calendar) is Hours.CLOSED
    assert verdict("BSE_FNO", "2026-11-24 10:30", calendar) is Hours.OPEN
    assert verdict("NSE_FNO", "2026-11-24 10:30", calendar) is Hours.CLOSED


def test_a_year_in_the_users_file_is_known_from_it_alone(tmp_path: Path) -> None:
    calendar = build(write(tmp_path, "years = [2027]\n[[closed]]\ndate = 2027-01-26\n"), [2026, 2027])

    assert calendar.years == (2026, 2027)
    assert verdict("NSE_FNO", "2027-01-25 11:00", calendar) is Hours.OPEN
    assert verdict("NSE_FNO", "2027-01-26 11:00", calendar) is Hours.CLOSED
    assert verdict("NSE_FNO", "2026-11-24 11:00", calendar) is Hours.CLOSED


def test_a_special_day_of_an_unknown_year_is_known() -> None:
    calendar = Calendar({}, {special_key("NSE_EQ", date(2031, 1, 2)): Session(600, 660)}, ())

    assert verdict("NSE_EQ", "2031-01-02 10:30", calendar) is Hours.OPEN


def test_the_file_in_the_documentation_works(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "journal.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)

    calendar = build(write(tmp_path, example), [2027])

    assert verdict("NSE_EQ", "2027-10-29 18:30", calendar) is Hours.OPEN
    assert verdict("NSE_FNO", "2027-03-10 11:00", calendar) is Hours.CLOSED
    assert verdict("MCX_COMM", "2027-03-10 11:00", calendar) is Hours.OPEN


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("yeers = [2027]", "^yeers is no key of copytrader's: did you mean years\\? \\(/"),
        ("[[closed]]\nday = 2026-11-25", "closed.0.date is missing"),
        ("[[closed]]\ndate = 2026-11-25\nsegment = []", "closed.0.segment is no key .*: did you mean segments"),
        ("[sessions.NSE_EQ]\nopens = 09:00:00\ncloses = 15:30:00\ndays = 5", "may be one of opens, closes"),
        ('[[closed]]\ndate = "tomorrow"', 'closed.0.date must be a date without quotes, as 2026-11-25, was "tomorrow"'),
        ('[sessions.NSE_EQ]\nopens = "9"\ncloses = 10:00:00', "must be a time without quotes, as 09:15:00"),
        ("closed = 2026-11-25", "closed must be a list"),
        ('[[closed]]\ndate = 2026-11-25\nsegments = ["NFO"]', "NFO is no exchange segment; use one of NSE_EQ"),
        ("[sessions.NFO]\nopens = 09:00:00\ncloses = 10:00:00", "NFO is no exchange segment"),
        ("[sessions.NSE_EQ]\nopens = 11:00:00\ncloses = 10:00:00", "before it opens"),
        ("[[closed", "is not TOML"),
    ],
)
def test_a_mistake_in_the_users_file_is_one_line(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(CalendarError, match=complaint) as refused:
        build(write(tmp_path, text), [2026])

    assert all(line.count("calendar.toml") == 1 for line in refused.value.lines)
    assert "\n" not in refused.value.lines[0]


def test_a_calendar_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(CalendarError, match="cannot be read"):
        build(tmp_path / "none.toml", [2026])
