"""After-market orders: placed in the evening, they rest until the market opens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from copytrader.core.facts import BookRead, Cancel, Command, Event, NotSent, Ticked, Verb
from copytrader.core.model import LEADER, Limits, Order, OrderStatus, OrderType, Product, Side
from tests.core.play import START, D, Held, Play, follower, ticket
from tests.core.test_answers import unanswered

EVENING = START.replace(hour=20)
NIGHT = 13.5 * 3600
"""Seconds from eight in the evening to half past nine."""


def evening(ratio: str = "0.5") -> Play:
    play = Play(followers=(follower(ratio=ratio),))
    play.now = EVENING
    return play


def asks(play: Play, order_id: str, side: Side = Side.BUY, kind: OrderType = OrderType.MARKET) -> None:
    price = "0" if kind is OrderType.MARKET else "100"
    terms = ticket(side, 300, price, order_type=kind, product=Product.MARGIN, after_market=True)
    play.places(order_id, terms, placed_at=play.now)


def the_last(play: Play) -> Held:
    return play.of()[-1]


def test_a_market_entry_waits_for_the_morning_and_is_given_up_only_once_the_leader_s_has_filled() -> None:
    play = evening()
    asks(play, "L1")
    play.waits(NIGHT)
    assert the_last(play).is_open
    play.leader_fills("L1")
    play.waits(3)
    play.fills()

    assert play.lots() == 2


def test_a_market_exit_is_priced_anew_only_once_the_leader_s_has_filled() -> None:
    play = evening()
    asks(play, "L1")
    play.leader_fills("L1")
    play.fills()
    asks(play, "L2", Side.SELL)
    leaving, forms = the_last(play), []
    play.waits(NIGHT)
    forms.append(leaving.ticket.order_type)
    play.leader_fills("L2")
    play.waits(6)
    forms.append(leaving.ticket.order_type)
    assert forms == [OrderType.MARKET, OrderType.LIMIT]

    play.fills()
    assert play.lots() == 0


def test_a_market_entry_of_the_evening_is_copied_though_copying_began_later() -> None:
    play = Play(begin=False)
    play.now = EVENING
    asks_at = play.now
    play.now += timedelta(minutes=30)
    play.starts()
    terms = ticket(Side.BUY, 300, "0", order_type=OrderType.MARKET, product=Product.MARGIN, after_market=True)
    play.places("L1", terms, placed_at=asks_at)

    assert [held.ticket.quantity for held in play.of()] == [150]
    assert the_last(play).status is OrderStatus.PENDING


def test_an_exit_that_never_left_in_the_evening_goes_now_once_the_leader_is_out() -> None:
    """Another order for the next session would leave the follower in until then."""
    play = evening("1")
    asks(play, "L1")
    play.leader_fills("L1")
    play.fills()

    def answer(command: Command) -> Event | None:
        return NotSent(play.now, command.account, command.correlation_id, Verb.PLACE, "no route")

    play.answer = answer
    asks(play, "L2", Side.SELL, OrderType.LIMIT)
    play.waits(NIGHT)
    play.leader_fills("L2")
    play.answer = None
    play.waits(60)

    assert the_last(play).ticket.side is Side.SELL
    assert not the_last(play).ticket.after_market


def test_a_cancel_that_midnight_overtook_is_sent_again_the_next_day() -> None:
    play = evening()
    play.now = START.replace(hour=23, minute=59)
    asks(play, "L1", kind=OrderType.LIMIT)
    play.answer = unanswered(play, Cancel)
    play.now += timedelta(seconds=50)
    play.cancels("L1")
    play.waits(3)
    play.answer = None
    play.now = START + timedelta(days=1)
    play.feed(Ticked(play.now))
    play.reads_book("asha")
    play.waits(60)

    assert the_last(play).status is OrderStatus.CANCELLED


def test_an_order_is_over_with_the_day_that_it_was_for() -> None:
    """It expired unheard; once the session after its own is over too, it takes no room in a limit."""
    play = Play(followers=(follower(ratio="1", limits=Limits(max_position_lots=4)),))
    play.now = EVENING
    asks(play, "L1", kind=OrderType.LIMIT)
    play.now = START + timedelta(days=3)
    play.leader.clear()
    play.orders.clear()
    play.starts()
    play.places("M1", ticket(quantity=300, product=Product.MARGIN), placed_at=play.now)

    assert the_last(play).is_open
    assert the_last(play).ticket.quantity == 300
    assert [each.order_id for each in play.state.accounts["asha"].open.values()] == [the_last(play).order_id]


def test_an_order_of_a_friday_evening_is_for_monday() -> None:
    play = evening()
    play.now = EVENING + timedelta(days=4)  # START is a Monday
    asks(play, "L1", kind=OrderType.LIMIT)
    play.now += timedelta(days=2, hours=14)
    play.feed(Ticked(play.now))
    play.leader_fills("L1")
    play.fills()

    assert play.lots() == 2


def cancelled_in_the_morning(play: Play) -> Order:
    """The leader's order as the book shows it after a cancel: Dhan has written the time of that over its own."""
    asks(play, "L1", kind=OrderType.LIMIT)
    play.waits(NIGHT)
    return replace(play.leader["L1"], status=OrderStatus.CANCELLED, placed_at=play.now, updated_at=play.now)


def test_one_that_the_leader_cancels_on_the_next_day_is_cancelled_until_the_broker_confirms() -> None:
    play = evening()
    row = cancelled_in_the_morning(play)
    play.answer = unanswered(play, Cancel)
    play.cancels("L1")
    play.answer = None
    play.feed(BookRead(play.now, LEADER, (row,)))
    play.waits(120)

    assert not the_last(play).is_open
    assert play.skips() == []


def test_its_fills_count_once_though_its_row_bears_another_time() -> None:
    play = evening()
    row = replace(cancelled_in_the_morning(play), status=OrderStatus.TRADED, filled_quantity=300, average_price=D(100))
    play.leader_fills("L1")
    play.feed(BookRead(play.now, LEADER, (row,)))

    assert [each.leader_net for each in play.state.holdings.values()] == [300]
