"""Whose money a size by capital is reckoned from, when copying goes on through the night."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from copytrader.core.engine import recall
from copytrader.core.facts import BookRead, Ticked
from copytrader.core.model import IST, LEADER, Calendar, Funds, Session, Sizing, SizingMode
from tests.core.play import D, Play, follower, ticket

MIDNIGHT = datetime(2026, 11, 24, 0, 0, 3, tzinfo=IST)


def on_the_day(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-24 {clock}").replace(tzinfo=IST)


def reads(play: Play, clock: str, leader: int | None = None, asha: int | None = None) -> None:
    """Let the books be read at a time of the second day, with these funds where they could be."""
    play.now = on_the_day(clock)
    for name, amount in ((LEADER, leader), ("asha", asha)):
        funds = None if amount is None else Funds(D(amount), D(amount))
        play.feed(BookRead(play.now, name, (), (), funds))


def into_the_night(sizing: Sizing | None = None) -> Play:
    """Both have a million on the first day, and at midnight the broker still says so."""
    million = Funds(D(1_000_000), D(1_000_000))
    trader = follower("asha", sizing=sizing or Sizing(SizingMode.CAPITAL))
    play = Play(followers=(trader,), funds={LEADER: million, "asha": million})
    play.now = MIDNIGHT
    play.feed(Ticked(play.now))
    reads(play, "00:00:05", leader=1_000_000, asha=1_000_000)
    return play


def bought(play: Play, quantity: int = 600) -> list[int]:
    """What asha buys when the leader buys so much as the market opens."""
    play.now = on_the_day("09:15")
    play.places("L1", ticket(quantity=quantity))
    return [each.ticket.quantity for each in play.of()]


def test_what_the_night_told_of_an_account_s_money_is_not_the_day_s() -> None:
    play = into_the_night()
    reads(play, "08:45:02", leader=1_000_000, asha=250_000)

    assert bought(play) == [150]


def test_what_the_night_told_of_the_leader_s_money_is_not_the_day_s_either() -> None:
    play = into_the_night()
    reads(play, "08:45:02", leader=4_000_000, asha=1_000_000)

    assert bought(play) == [150]


def test_the_risk_of_an_entry_is_reckoned_from_the_day_s_money() -> None:
    play = into_the_night(Sizing(SizingMode.RISK, risk_percent=D(6)))
    reads(play, "08:45:02", asha=250_000)

    assert bought(play) == [150]


def test_what_the_night_told_serves_until_the_day_s_money_is_read() -> None:
    """The broker did not say in the morning."""
    play = into_the_night()
    reads(play, "08:46")

    assert bought(play) == [600]


def test_yesterday_s_money_sizes_nothing() -> None:
    play = into_the_night()
    play.now = MIDNIGHT + timedelta(days=1)
    play.feed(Ticked(play.now))
    play.now += timedelta(hours=9, minutes=15)
    play.places("L1", ticket(quantity=600))

    assert play.of() == []
    assert {LEADER, "asha"} <= play.state.ask_books
    play.feed(BookRead(play.now, "asha", (), (), Funds(D(250_000), D(250_000))))
    play.feed(BookRead(play.now, LEADER, (), (), Funds(D(1_000_000), D(1_000_000))))
    assert [each.ticket.quantity for each in play.of()] == [150]


@pytest.mark.parametrize("lots", [8, -8], ids=["opens", "through zero"])
def test_an_order_that_has_filled_waits_for_the_money_like_one_that_works(lots: int) -> None:
    """The money is read a moment later; what an order through zero closes does not wait for it."""
    play = Play(followers=(follower("asha", sizing=Sizing(SizingMode.CAPITAL)),), held_before=4 * 75 if lots < 0 else 0)
    play.trades("L1", lots, fills=False)
    assert not play.of()
    assert not play.skips()

    play.funds = {LEADER: Funds(D(1_000_000), D(0)), "asha": Funds(D(250_000), D(0))}
    play.waits(1)
    play.reads_book("asha")
    play.reads_leader_book()
    assert [each.ticket.quantity for each in play.of()] == [2 * 75 if lots > 0 else 75]


def test_the_day_s_money_is_read_once() -> None:
    """What an account gains or loses in the day changes no size of the day."""
    play = into_the_night()
    reads(play, "08:45:02", leader=1_000_000, asha=250_000)
    reads(play, "09:05", leader=1_000_000, asha=1_000_000)

    assert bought(play) == [150]


@pytest.mark.parametrize(("clock", "expected"), [("17:44:59", [600]), ("17:45", [150])])
def test_the_day_s_money_is_told_shortly_before_the_first_segment_opens(clock: str, expected: list[int]) -> None:
    play = Play(followers=(follower("asha", sizing=Sizing(SizingMode.CAPITAL)),))
    assert play.state.desk is not None
    evening = {f"{segment} 2026-11-24": Session(opens, 19 * 60) for segment, opens in _EVENING.items()}
    usual = {"NSE_EQ": Session(540, 930), "MCX_COMM": Session(540, 1410), "MCX_COMM winter": Session(540, 1435)}
    play.state.desk = replace(play.state.desk, calendar=Calendar(usual, {**evening}, (2026,)))
    reads(play, "10:00", leader=1_000_000, asha=1_000_000)
    reads(play, clock, leader=1_000_000, asha=250_000)
    play.places("L1", ticket(quantity=600))

    assert [each.ticket.quantity for each in play.of()] == expected


_EVENING = {"NSE_EQ": 18 * 60 + 15, "MCX_COMM": 18 * 60}


def test_the_recorded_readings_tell_again_which_money_counts() -> None:
    play = into_the_night()
    reads(play, "08:45:02", leader=4_000_000, asha=250_000)
    again = recall((each, each.at) for each in play.events)

    assert again.leader_funds == play.state.leader_funds == Funds(D(4_000_000), D(4_000_000))
    assert again.accounts["asha"].funds == play.state.accounts["asha"].funds == Funds(D(250_000), D(250_000))
