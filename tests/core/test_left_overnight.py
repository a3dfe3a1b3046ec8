"""What happened while nobody looked: a new day, another account."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from copytrader.core.days import renamed
from copytrader.core.facts import BookRead, Level, Started, Ticked
from copytrader.core.model import (
    LEADER,
    Calendar,
    CopyRules,
    Desk,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Session,
    Side,
    Ticket,
)
from tests.core.play import NIFTY, START, Play, follower, ticket

ENTRY = ticket(Side.BUY, 300, "0", order_type=OrderType.MARKET, product=Product.MARGIN)


def trades(play: Play, order_id: str, terms: Ticket) -> None:
    play.places(order_id, terms, placed_at=play.now)
    play.leader_fills(order_id)
    play.fills()
    play.waits(5)


def next_day(play: Play, leader: int, asha: int, first: int | None = None) -> None:
    """The process starts the next morning; the first reading of the follower's positions may show something else."""
    play.leader.clear()
    play.orders.clear()
    play.numbered += 100
    play.now = START + timedelta(days=1)
    play.positions["asha"] = asha
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(BookRead(play.now, "asha", (), _position(asha if first is None else first)))
    play.feed(BookRead(play.now, LEADER, (), _position(leader)))
    play.waits(5)
    play.feed(BookRead(play.now, "asha", (), _position(asha)))
    play.waits(5)


def _position(net: int) -> tuple[Position, ...]:
    return (Position(NIFTY, Product.MARGIN, net),) if net else ()


def test_what_is_gone_in_the_morning_is_not_held_from_copying_any_more() -> None:
    """The stop filled unseen at both; of what is bought today half is sold."""
    play = Play()
    trades(play, "L1", ENTRY)
    next_day(play, 0, 0)
    trades(play, "M1", ENTRY)
    trades(play, "M2", replace(ENTRY, side=Side.SELL, quantity=150))

    assert play.lots() == 1


def test_what_is_gone_in_the_morning_is_said_once_when_it_is_sure() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    play.now += timedelta(days=1)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    told = []
    for _ in range(5):
        play.feed(BookRead(play.now, "asha", (), ()))
        told.append(len(play.alerts()))
        play.waits(2)

    assert told == [0, 0, 1, 1, 1]
    said = "asha: NIFTY-Dec2026-24000-PE: holds 0 at the broker but 150 from copying: somebody traded by hand"
    assert play.alerts()[0].text == said


def test_a_position_that_no_trade_explains_is_said_once_and_again_when_it_changes() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    for net in (0, 0, 75, 75, 150, 0):
        play.feed(BookRead(play.now, "asha", (), _position(net)))
        play.waits(5)

    assert [each.text.partition("holds ")[2].partition(" ")[0] for each in play.alerts()] == ["0", "75", "0"]


def test_the_night_says_nothing_of_a_position_that_it_does_not_show() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    play.rules = CopyRules(enforce_hours=True)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.now = START.replace(hour=23)
    for _ in range(3):
        play.feed(BookRead(play.now, "asha", (), ()))
        play.waits(5)

    assert play.alerts() == []


def test_what_the_person_closed_overnight_is_not_sold_out_of_the_next_entry() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    next_day(play, 300, 0)
    trades(play, "M1", ENTRY)
    trades(play, "M2", replace(ENTRY, side=Side.SELL, quantity=300))

    assert play.lots() == 1


def test_one_reading_that_shows_nothing_gives_up_no_position_that_was_carried() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    next_day(play, 300, 150, first=0)
    trades(play, "M1", replace(ENTRY, side=Side.SELL))

    assert play.lots() == 0


@pytest.mark.parametrize("side", Side)
def test_what_the_morning_has_shown_is_not_gone_though_later_readings_do_not_show_it(side: Side) -> None:
    """The broker shows no position for a while in the afternoon; the leader gets out then."""
    play = Play()
    trades(play, "L1", replace(ENTRY, side=side))
    next_day(play, 300 * side.sign, 150 * side.sign)
    for _ in range(3):
        play.feed(BookRead(play.now, "asha", (), ()))
        play.waits(5)
    play.feed(BookRead(play.now, "asha", (), _position(150 * side.sign)))
    trades(play, "M1", replace(ENTRY, side=side.opposite))

    assert play.lots() == 0


@pytest.mark.parametrize("side", Side)
def test_of_what_was_carried_only_what_is_missing_twice_is_gone(side: Side) -> None:
    """A half was closed overnight: the leader's exit closes the other."""
    play = Play()
    trades(play, "L1", replace(ENTRY, side=side))
    next_day(play, 300 * side.sign, 75 * side.sign)
    play.trades_by_hand(4 * side.sign, is_read=False)
    trades(play, "M1", replace(ENTRY, side=side.opposite))

    exits = [each.ticket.quantity for each in play.of() if each.ticket.side is side.opposite]
    assert exits == [75]


def test_the_night_shows_nothing_of_what_is_held() -> None:
    """A broker may show no positions for hours before the market opens, however often it is asked."""
    play = Play()
    trades(play, "L1", ENTRY)
    play.now = START.replace(hour=0) + timedelta(days=1)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, CopyRules(enforce_hours=True))))
    for _ in range(5):
        play.feed(BookRead(play.now, "asha", (), ()))
        play.waits(60)
    next_day(play, 300, 150)
    trades(play, "M1", replace(ENTRY, side=Side.SELL))

    assert play.lots() == 0


def test_the_night_shows_nothing_of_what_the_leader_holds() -> None:
    """The followers must not be sold at the open for it, nor the leader's own exit open anything."""
    play = Play()
    trades(play, "L1", ENTRY)
    play.now = START.replace(hour=8, minute=45) + timedelta(days=1)
    play.rules = CopyRules(enforce_hours=True)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules, HOURS)))
    play.feed(BookRead(play.now, "asha", (), _position(150)))
    for _ in range(5):
        play.feed(BookRead(play.now, LEADER, (), ()))
        play.waits(60)
    play.now = START.replace(hour=9, minute=15, second=30) + timedelta(days=1)
    play.feed(BookRead(play.now, LEADER, (), _position(300)))
    play.waits(60)
    assert play.lots() == 2
    trades(play, "M1", replace(ENTRY, side=Side.SELL))

    assert play.lots() == 0
    assert not play.alerts()


def test_what_the_leader_does_not_hold_any_more_at_the_open_is_sold() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    next_day(play, 0, 150)
    play.feed(BookRead(play.now, LEADER, (), ()))
    play.waits(10)
    play.fills()

    assert play.lots() == 0


HOURS = Calendar({"NSE_FNO": Session(9 * 60 + 15, 15 * 60 + 30)}, {}, (2026,))


def in_hours(play: Play, calendar: Calendar = HOURS) -> None:
    play.feed(
        Started(play.now, "test", "", Desk("1000000001", play.followers, CopyRules(enforce_hours=True), calendar))
    )
    play.feed(BookRead(play.now, "asha", (), _position(play.positions["asha"])))


@pytest.mark.parametrize("calendar", [HOURS, replace(HOURS, years=())], ids=["known", "a year without holidays"])
def test_positions_count_a_minute_after_the_open_and_not_before(calendar: Calendar) -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    play.leader.clear()
    play.now = START.replace(hour=9, minute=14, second=50) + timedelta(days=1)
    in_hours(play, calendar)
    for _ in range(6):
        play.feed(BookRead(play.now, LEADER, (), ()))
        play.waits(10)
    assert [held.ticket.side for held in play.of() if held.ticket.side is Side.SELL] == []
    for _ in range(6):
        play.feed(BookRead(play.now, LEADER, (), ()))
        play.waits(10)
        play.fills()

    assert play.lots() == 0


def test_shares_that_the_night_shows_twice_or_not_at_all_are_neither_bought_nor_sold() -> None:
    def reads(net: int) -> None:
        play.feed(BookRead(play.now, LEADER, (), (Position(NIFTY, Product.CNC, net, whole=True),)))

    play = Play()
    trades(play, "L1", replace(ENTRY, product=Product.CNC))
    assert play.lots() == 2
    play.leader.clear()
    play.now = START.replace(hour=22)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, CopyRules(enforce_hours=True), HOURS)))
    play.feed(BookRead(play.now, "asha", (), (Position(NIFTY, Product.CNC, 150, whole=True),)))
    for net in (600, 300, 0, 300):
        reads(net)
        play.waits(3600)
    play.now = START + timedelta(days=1)
    reads(300)
    play.waits(120)
    play.fills()

    assert play.lots() == 2


def test_what_a_follower_that_was_left_out_has_open_goes_when_the_leader_is_out() -> None:
    team = (follower("asha", "1"), follower("bina", "1"))
    play = Play(team)
    play.places("A", ticket(quantity=150))
    play.leader_fills("A")
    play.fills(name="asha")
    play.now += timedelta(seconds=60)
    for names in (team[:1], team):
        play.feed(Started(play.now, "test", "", Desk("1000000001", names, play.rules)))
        for each in names:
            play.reads_book(each.name)
        play.reads_leader_book()
        if names is not team:
            play.trades("X", -2, fills=False)
            play.fills(name="asha")
        play.now += timedelta(seconds=60)
    play.waits(10)

    assert [held.status for held in play.of("bina")] == [OrderStatus.CANCELLED]


def test_an_exit_of_the_evening_that_filled_before_the_start_goes_in_today_s_market() -> None:
    """An after-market order of ours would wait for tomorrow."""
    play = Play()
    trades(play, "L1", ENTRY)
    play.leader.clear()
    play.orders.clear()
    play.numbered += 100
    play.now = START + timedelta(days=1)
    terms = replace(ENTRY, side=Side.SELL, order_type=OrderType.LIMIT, price=Decimal(100), after_market=True)
    placed = play.now - timedelta(hours=13)
    filled = Order("A1", terms, OrderStatus.TRADED, placed, play.now - timedelta(minutes=5), 300, Decimal(100))
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(BookRead(play.now, "asha", (), _position(150)))
    play.feed(BookRead(play.now, LEADER, (filled,), ()))

    assert [(held.ticket.side, held.ticket.after_market) for held in play.of()] == [(Side.SELL, False)]


def test_what_was_bought_today_is_not_gone_though_it_is_the_first_reading_of_the_day() -> None:
    """The process ran over midnight, flat; its first fill is not in the positions yet."""
    play = Play()
    play.now = START + timedelta(days=1)
    play.leader.clear()
    trades(play, "M1", ENTRY)
    for _ in range(2):
        play.feed(BookRead(play.now, "asha", tuple(held.seen() for held in play.of()), ()))
        play.waits(5)
    play.feed(BookRead(play.now, "asha", (), _position(150)))
    trades(play, "M2", replace(ENTRY, side=Side.SELL))

    assert play.lots() == 0


def test_a_follower_that_is_another_account_now_has_nothing_from_copying() -> None:
    play = Play()
    trades(play, "L1", ENTRY)
    play.followers = (follower(client_id="2099999999"),)
    next_day(play, 300, 150)  # its own
    trades(play, "M1", replace(ENTRY, side=Side.SELL))

    assert play.lots() == 2
    assert any(each.level is Level.CRITICAL and "another account" in each.text for each in play.alerts())


def test_nothing_is_said_of_another_account_where_the_person_has_closed_all_by_hand() -> None:
    play = Play()
    play.trades("L1", 4)
    play.trades_by_hand(-2)
    play.followers = (follower(client_id="2099999999"),)
    play.orders.clear()
    play.starts()

    assert play.alerts() == []


def test_an_account_that_bears_a_new_name_is_found_while_it_has_something_under_the_old_one() -> None:
    play = Play()
    desk = Desk("1000000001", (replace(play.followers[0], name="anna"),), play.rules)
    assert renamed(play.state, desk, play.now) == []
    trades(play, "L1", ENTRY)
    trades(play, "L2", ticket(Side.BUY, 300, "0", order_type=OrderType.MARKET))
    play.places("L3", ticket(Side.BUY, 300, "90"), placed_at=play.now)

    held = "holds +150 NIFTY-Dec2026-24000-PE MARGIN, +150 NIFTY-Dec2026-24000-PE INTRADAY from copying"
    assert renamed(play.state, desk, play.now) == [("anna", "asha", f"{held} and has 1 order open")]
    tomorrow = play.now + timedelta(days=1)
    carried = "holds +150 NIFTY-Dec2026-24000-PE MARGIN from copying"
    assert renamed(play.state, desk, tomorrow) == [("anna", "asha", carried)]
    assert len(play.state.accounts["asha"].open) == 1
    same = Desk("1000000001", (*play.followers, follower("bala")), play.rules)
    assert renamed(play.state, same, tomorrow) == []


@pytest.mark.parametrize(("hour", "is_said"), [(15, True), (16, False)])
def test_an_entry_that_may_have_filled_after_the_last_look_is_said(hour: int, is_said: bool) -> None:
    """Whether it has, no book of the next day tells."""
    play = Play()
    play.places("L1", ticket(quantity=300, price="98", product=Product.MARGIN))
    play.now = START.replace(hour=hour)
    play.reads_book("asha")
    next_day(play, 300, 150)

    said = [each.text for each in play.alerts() if each.level is Level.CRITICAL]
    assert bool(said) is is_said
    assert all("BUY 150" in text and "was open when its book was last read, 23 Nov 15:00" in text for text in said)


@pytest.mark.parametrize("shows", [20, 50])
def test_positions_that_come_late_at_the_opening_give_up_nothing_that_was_carried(shows: int) -> None:
    """The leader gets out meanwhile: the follower is out as soon as its account shows what it has."""
    play = Play((follower(ratio="1"),))
    trades(play, "L1", ENTRY)
    play.leader.clear()
    play.orders.clear()
    play.numbered += 100
    play.rules = CopyRules()
    calendar = Calendar({"NSE_FNO": Session(9 * 60 + 15, 15 * 60 + 30)}, {}, (START.year,))
    play.now = START.replace(hour=9, minute=14, second=50) + timedelta(days=1)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules, calendar)))
    play.feed(BookRead(play.now, LEADER, (), _position(300)))
    opens = play.now + timedelta(seconds=10)
    while play.now < opens + timedelta(seconds=shows):
        play.feed(BookRead(play.now, "asha", (), ()))
        play.waits(4)
        if "X" not in play.leader and play.now > opens + timedelta(seconds=8):
            play.places("X", replace(ENTRY, side=Side.SELL), placed_at=play.now)
            play.leader_fills("X")
    play.reads_book("asha")
    play.waits(5)
    play.feed(BookRead(play.now, "asha", (), _position(300)))
    play.waits(5)
    play.fills()

    assert play.lots() == 0
    assert [each.level for each in play.alerts()] == [Level.CRITICAL]


@pytest.mark.parametrize("runs_through", [False, True])
def test_on_the_first_day_of_a_year_whose_holidays_nobody_knows_copying_goes_on_and_says_so(runs_through: bool) -> None:
    play = Play((follower(ratio="1"),))
    play.rules = CopyRules()
    calendar = Calendar({"NSE_FNO": Session(9 * 60 + 15, 15 * 60 + 30)}, {}, (START.year,))
    desk = Desk("1000000001", play.followers, play.rules, calendar)
    play.feed(Started(play.now, "test", "", desk))
    assert not play.alerts()
    play.now = START.replace(year=START.year + 1, month=1, day=1, hour=9)
    play.feed(Ticked(play.now) if runs_through else Started(play.now, "test", "", desk))
    for name in (LEADER, "asha"):
        play.feed(BookRead(play.now, name, (), ()))
    assert [each.level for each in play.alerts()] == [Level.WARNING]
    play.waits(3600)
    trades(play, "L1", ENTRY)

    assert play.lots() == 4
    assert len(play.alerts()) == 1
