"""An exit of ours and an order of the account's own close the same copied position: it is said, and nothing is undone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.core.facts import (
    Accepted,
    Adopted,
    Alert,
    BookRead,
    Command,
    Event,
    Level,
    OrderSeen,
    Place,
    Source,
    Started,
    Verb,
)
from copytrader.core.model import Desk, Order, OrderStatus, OrderType, Position, Product, Side, Ticket
from tests.core.play import NIFTY, D, Held, Play, follower, quiet, ticket

STOP = {"order_type": OrderType.STOP_LOSS, "trigger_price": D(90)}


def holding(lots: int = 4) -> Play:
    """The leader holds so many lots, and so does the follower, by copying."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", lots)
    play.reads_book("asha")
    play.waits(60)
    return play


def own_order(play: Play, terms: Ticket, order_id: str = "H") -> Held:
    """The account's own order works; the stream tells it."""
    held = Held(order_id, "asha", "", terms, updated=play.now, placed=play.now)
    play.orders[order_id] = held
    play.feed(OrderSeen(play.now, "asha", held.seen(), Source.STREAM))
    return held


def sells(play: Play, lots: int, order_id: str = "H") -> Held:
    """The person sells at the market; - buys."""
    side = Side.SELL if lots > 0 else Side.BUY
    held = own_order(play, ticket(side, abs(lots) * 75, "0", order_type=OrderType.MARKET), order_id)
    play.fills_follower(held, abs(lots) * 75)
    play.drain()
    return held


def said(play: Play) -> list[Alert]:
    return [each for each in play.alerts() if "have closed the same copied position" in each.text]


def leader_gets_out(play: Play, lots: int = 4) -> Held:
    """The leader sells at the market; the follower's exit is at the broker and has not filled."""
    play.trades("OUT", -lots, fills=False)
    return play.of()[-1]


def test_a_hand_that_was_faster_than_our_exit_is_said_at_once_and_nothing_is_bought_back() -> None:
    play = holding()
    exit_of_ours = leader_gets_out(play)
    sells(play, 4)
    assert said(play) == []

    play.fills_follower(exit_of_ours, 300)
    play.drain()

    (alert,) = said(play)
    assert (alert.level, alert.account) == (Level.CRITICAL, "asha")
    assert "holds -300 by that, and shows -300 in all" in alert.text
    play.waits(60)
    play.reads_book("asha")
    play.waits(60)
    assert (play.lots(), len(said(play))) == (-4, 1)


def test_a_hand_that_was_slower_than_our_exit_and_ordered_before_it_is_said() -> None:
    play = holding()
    exit_of_ours = leader_gets_out(play)
    hand = own_order(play, ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    play.fills_follower(exit_of_ours, 300)
    play.drain()
    assert said(play) == []

    play.fills_follower(hand, 300)
    play.drain()

    assert ["holds -300 by that, and shows -300 in all" in each.text for each in said(play)] == [True]


@pytest.mark.parametrize("is_ours_first", [True, False])
def test_what_both_have_closed_in_parts_is_counted_once(is_ours_first: bool) -> None:
    """The person sells two lots of four; two of the four that our exit sells are not there."""
    play = holding()
    exit_of_ours = leader_gets_out(play)
    hand = own_order(play, ticket(Side.SELL, 150, "0", order_type=OrderType.MARKET))
    play.answer = lambda _: quiet(play)  # what makes the exit smaller comes too late
    for held in (exit_of_ours, hand) if is_ours_first else (hand, exit_of_ours):
        play.fills_follower(held, 75)
        play.drain()
    for held in (exit_of_ours, hand) if is_ours_first else (hand, exit_of_ours):
        play.fills_follower(held, held.ticket.quantity - held.filled)
        play.drain()

    assert play.lots() == -2
    assert "holds -150 by that, and shows -150 in all" in said(play)[-1].text


def test_a_book_that_tells_both_is_as_good_as_frames() -> None:
    play = holding()
    exit_of_ours = leader_gets_out(play)
    hand = Held("H", "asha", "", ticket(Side.SELL, 300, "0"), updated=play.now, placed=play.now)
    play.orders["H"] = hand
    for held in (exit_of_ours, hand):
        play.fills_follower(held, 300)
    play.queue.clear()
    play.waits(5)

    play.reads_book("asha")

    assert len(said(play)) == 1


@pytest.mark.parametrize("is_own_first", [True, False])
def test_both_having_traded_while_nobody_looked_is_said_at_the_start(is_own_first: bool) -> None:
    play = holding()
    play.places("STOP", ticket(Side.SELL, 300, "89", **STOP))
    stop = play.of()[-1]
    own = own_order(play, ticket(Side.SELL, 300, "89", **STOP))
    play.waits(60)
    for held in (own, stop):
        play.fills_follower(held, 300)
    play.queue.clear()
    play.waits(600)
    if is_own_first:
        play.orders = {"H": play.orders.pop("H"), **play.orders}

    play.starts()

    assert len(said(play)) == 1


def test_it_is_said_again_at_a_start_while_the_position_stands() -> None:
    play = holding()
    exit_of_ours = leader_gets_out(play)
    sells(play, 4)
    play.fills_follower(exit_of_ours, 300)
    play.drain()

    play.waits(3600)
    play.starts()
    assert len(said(play)) == 2

    sells(play, -4, "BACK")
    play.starts()
    assert len(said(play)) == 2


def both_stops(play: Play) -> tuple[Held, Held]:
    """The leader's stop is copied, and the person has one of its own beside it."""
    play.places("STOP", ticket(Side.SELL, 300, "89", **STOP))
    return play.of()[-1], own_order(play, ticket(Side.SELL, 300, "89", **STOP))


def warned(play: Play) -> list[Alert]:
    return [each for each in play.alerts() if "both work, and would close more than is held" in each.text]


def test_an_own_stop_beside_a_copied_one_is_warned_of_once_before_both_trigger_and_said_when_they_do() -> None:
    play = holding()
    stop, own = both_stops(play)
    assert warned(play) == []
    play.waits(600)
    play.reads_book("asha")
    play.modifies("STOP", price=D(90), trigger_price=D(91))
    assert [(each.level, "order H" in each.text) for each in warned(play)] == [(Level.WARNING, True)]

    for held in (stop, own):
        play.fills_follower(held, 300)
        play.drain()

    assert (len(said(play)), len(warned(play))) == (1, 1)


def test_an_own_stop_that_our_exit_has_left_behind_is_said_however_much_later_it_trades() -> None:
    play = holding()
    own = own_order(play, ticket(Side.SELL, 300, "89", **STOP))
    play.fills_follower(leader_gets_out(play), 300)
    play.drain()
    play.waits(3600)
    assert said(play) == []

    play.fills_follower(own, 300)
    play.drain()

    assert len(said(play)) == 1


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (ticket(Side.SELL, 75, "110"), "there is enough for both"),
        (ticket(Side.BUY, 300, "80"), "it buys"),
        (ticket(Side.SELL, 300, "110", product=Product.MARGIN), "it is of another product"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_no_warning_goes_before_an_own_order_that_harms_nothing(order: Ticket, why: str) -> None:
    play = holding()
    play.places("STOP", ticket(Side.SELL, 225, "89", **STOP))
    own_order(play, order)
    play.waits(600)
    play.reads_book("asha")

    assert warned(play) == [], why


def test_no_warning_goes_before_an_own_order_for_an_own_position_or_one_that_is_over() -> None:
    play = holding()
    sells(play, -4, "OWN")
    play.reads_book("asha")
    both_stops(play)
    play.waits(600)
    assert warned(play) == []

    play.dies(play.orders["H"])
    sells(play, 4, "GONE")
    play.feed(OrderSeen(play.now, "asha", replace(play.orders["H"].seen(), status=OrderStatus.PENDING), Source.STREAM))
    play.waits(600)
    assert warned(play) == [], "a frame that is late brings back nothing"


def test_no_warning_goes_before_an_own_order_where_no_exit_of_ours_works() -> None:
    play = holding()
    own_order(play, ticket(Side.SELL, 450, "110"))
    play.waits(600)

    assert warned(play) == []


def test_no_warning_goes_before_an_own_order_that_adds_to_a_short_of_its_own() -> None:
    play = Play(followers=(follower(ratio="1"),))
    sells(play, 2, "OWN")
    play.reads_book("asha")
    play.trades("IN", 4)
    play.reads_book("asha")
    both_stops(play)
    play.waits(600)

    assert warned(play) == []


def test_an_exit_of_ours_that_works_without_a_name_does_not_rest_beside_itself() -> None:
    """Its frame has no name, and its answer is long in coming."""
    play = holding()

    def answer(command: Command) -> Event | None:
        if not isinstance(command, Place):
            return None
        held = play.takes(command)
        return OrderSeen(play.now, "asha", replace(held.seen(), correlation_id=""), Source.STREAM)

    play.answer = answer
    play.places("STOP", ticket(Side.SELL, 300, "89", **STOP))
    play.waits(60)

    assert warned(play) == []


def test_a_sale_at_the_market_is_no_order_that_rests() -> None:
    play = holding()
    play.places("STOP", ticket(Side.SELL, 300, "89", **STOP))
    hand = own_order(play, ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    play.waits(1)
    play.fills_follower(hand, 300)
    play.drain()
    play.waits(600)

    assert (warned(play), said(play)) == ([], [])


def test_an_order_of_ours_that_is_told_without_a_name_is_none_of_the_account_s_own() -> None:
    """The leader gets out and goes short at once; the frame of the entry comes before its answer, and has no name."""
    play = holding()
    play.trades("OUT", -4)

    def answer(command: Command) -> Event | None:
        if not isinstance(command, Place):
            return None
        held = play.takes(command)
        held.placed = play.now
        play.fills_follower(held, 300)
        play.queue[-1] = OrderSeen(play.now, "asha", replace(held.seen(), correlation_id=""), Source.STREAM)
        return Accepted(play.now, command.account, command.correlation_id, Verb.PLACE, held.order_id)

    play.answer = answer
    play.trades("SHORT", -4, fills=False)
    play.answer = None
    play.reads_book("asha")
    play.waits(60)
    play.reads_book("asha")

    assert (play.lots(), said(play)) == (-4, [])


def test_what_the_person_has_ordered_before_anything_was_copied_is_its_own_business() -> None:
    """It was there to sell something short, and fills hours after the leader came in and went."""
    play = Play(followers=(follower(ratio="1"),))
    own = own_order(play, ticket(Side.SELL, 300, "140"))
    play.waits(1800)
    play.trades("IN", 4, fills=False)
    entry = play.of()[-1]
    play.fills_follower(entry, 300)
    play.drain()
    play.waits(600)
    exit_of_ours = leader_gets_out(play)
    play.fills_follower(exit_of_ours, 300)
    play.drain()
    play.waits(7200)
    play.fills_follower(own, 300)
    play.drain()
    play.waits(60)
    play.reads_book("asha")

    assert play.positions["asha"] == -300
    assert said(play) == []


def test_a_person_that_reverses_after_our_exit_means_it() -> None:
    play = holding()
    play.trades("OUT", -4)
    play.waits(6)
    sells(play, 4)
    play.reads_book("asha")

    assert said(play) == []


def test_a_person_that_reverses_while_nobody_looks_means_it_as_well() -> None:
    """The book tells at the start when our exit traded, and when the person ordered."""
    play = holding()
    play.places("STOP", ticket(Side.SELL, 300, "89", **STOP))
    play.fills_follower(play.of()[-1], 300)
    play.now += timedelta(minutes=20)
    hand = Held("H", "asha", "", ticket(Side.SELL, 300, "0"), updated=play.now, placed=play.now)
    play.orders["H"] = hand
    play.fills_follower(hand, 300)
    play.queue.clear()
    play.now += timedelta(minutes=20)

    play.starts()

    assert (play.lots(), said(play)) == (-4, [])


def test_what_the_person_has_ordered_beyond_what_was_held_is_no_closing_of_it() -> None:
    play = holding()
    exit_of_ours = leader_gets_out(play)
    hand = own_order(play, ticket(Side.SELL, 675, "0", order_type=OrderType.MARKET))
    for held in (exit_of_ours, hand):
        play.fills_follower(held, held.ticket.quantity)
        play.drain()

    assert ["holds -300 by that, and shows -675 in all" in each.text for each in said(play)] == [True]


def test_who_has_a_short_of_its_own_and_adds_to_it_closes_nothing_twice() -> None:
    play = Play(followers=(follower(ratio="1"),))
    sells(play, 2, "OWN")
    play.reads_book("asha")
    play.trades("IN", 4)
    play.reads_book("asha")
    play.waits(60)
    hand = own_order(play, ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    for held in (leader_gets_out(play, 1), hand):
        play.fills_follower(held, held.ticket.quantity)
        play.drain()
    play.reads_book("asha")

    assert (play.lots(), said(play)) == (-3, [])


@pytest.mark.parametrize(("own", "sold"), [(-2, 1), (4, 4)])
def test_a_position_of_its_own_is_its_own_business(own: int, sold: int) -> None:
    """It had one before copying began; what it trades with it while we get out is no closing of the copy."""
    play = Play(followers=(follower(ratio="1"),))
    sells(play, -own, "OWN")
    play.waits(60)
    play.reads_book("asha")
    play.trades("IN", 4)
    play.reads_book("asha")
    play.waits(60)
    exit_of_ours = leader_gets_out(play)
    sells(play, sold)
    play.fills_follower(exit_of_ours, exit_of_ours.ticket.quantity)
    play.drain()
    play.reads_book("asha")

    assert said(play) == []


def test_an_exit_that_has_overtaken_its_entry_was_closed_by_nobody_else() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.places("E", ticket(quantity=300))
    play.leader_fills("E", 300)
    play.places("T", ticket(Side.SELL, 300, "105"))
    entry, target = play.of()
    play.fills_follower(target, 300)
    play.drain()
    assert play.lots() == -4
    play.fills_follower(entry, 300)
    play.drain()

    assert (play.lots(), said(play)) == (0, [])


def test_positions_that_show_both_before_they_are_told_make_no_second_alarm() -> None:
    """The reading has what the person sold; the frame of it comes later, and counts it once more until the next."""
    play = holding()
    own = own_order(play, ticket(Side.SELL, 225, "89", **STOP))
    play.fills_follower(leader_gets_out(play, 1), 75)
    play.drain()
    play.waits(30)
    own.filled, own.status = 225, OrderStatus.TRADED
    play.positions["asha"] -= 225
    play.feed(BookRead(play.now, "asha", (), ()))
    assert play.lots() == 0

    play.feed(OrderSeen(play.now, "asha", own.seen(), Source.STREAM))
    play.waits(5)
    play.reads_book("asha")

    assert said(play) == []


def closed_twice() -> Play:
    play = holding()
    exit_of_ours = leader_gets_out(play)
    sells(play, 4)
    play.fills_follower(exit_of_ours, 300)
    play.drain()
    play.waits(60)
    play.reads_book("asha")
    return play


def turned(play: Play) -> int:
    (holding,) = play.state.holdings.values()
    return holding.shares["asha"].turned


def test_what_is_bought_back_by_hand_is_over() -> None:
    play = closed_twice()
    sells(play, -1, "B1")
    assert turned(play) == -225
    sells(play, -3, "B2")
    assert turned(play) == 0
    sells(play, 4, "S")
    assert (turned(play), len(said(play))) == (0, 1)


def test_a_person_that_goes_on_selling_has_taken_it_over() -> None:
    play = closed_twice()
    sells(play, 1, "MORE")

    assert (turned(play), len(said(play))) == (0, 1)


def test_a_reading_that_does_not_show_it_ends_it_once_it_must_have_been_shown() -> None:
    play = holding()
    exit_of_ours = leader_gets_out(play)
    sells(play, 4)
    play.fills_follower(exit_of_ours, 300)
    play.drain()
    play.waits(3)
    for net, shown in ((0, 0), (-300, -300), (0, 0), (-300, 0)):
        if shown:
            play.waits(60)
        play.feed(BookRead(play.now, "asha", (), (Position(NIFTY, Product.INTRADAY, net),) if net else ()))
        assert turned(play) == shown

    assert len(said(play)) == 1


def test_it_is_over_with_the_day_for_what_is_held_for_a_day_only() -> None:
    play = closed_twice()
    play.now += timedelta(days=1)
    play.positions["asha"] = 0
    play.orders.clear()
    play.leader.clear()
    play.starts()
    sells(play, 4, "NEXT")

    assert (turned(play), len(said(play))) == (0, 1)


def test_it_is_said_again_the_next_morning_for_what_is_carried() -> None:
    play = Play(followers=(follower(ratio="1"),))
    margin = {"order_type": OrderType.MARKET, "product": Product.MARGIN}
    play.places("IN", ticket(Side.BUY, 300, "0", **margin))
    play.leader_fills("IN")
    play.fills()
    play.places("OUT", ticket(Side.SELL, 300, "0", **margin))
    play.leader_fills("OUT")
    exit_of_ours, hand = play.of()[-1], own_order(play, ticket(Side.SELL, 300, "0", **margin))
    for held in (hand, exit_of_ours):
        play.fills_follower(held, 300)
        play.drain()
    assert len(said(play)) == 1

    play.now += timedelta(days=1)
    play.orders.clear()
    play.leader.clear()
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(BookRead(play.now, "asha", (), (Position(NIFTY, Product.MARGIN, -300),)))

    assert len(said(play)) == 2


def test_what_an_adopted_order_has_sold_was_not_closed_twice() -> None:
    play = holding()
    exit_of_ours = leader_gets_out(play)
    stray = Order("Z1", ticket(Side.SELL, 75), OrderStatus.TRADED, play.now, play.now, 75, D(100), "ct1-z")
    play.positions["asha"] -= 75
    play.answer = lambda _: quiet(play)
    play.feed(OrderSeen(play.now, "asha", stray, Source.BOOK))
    play.fills_follower(exit_of_ours, 300)
    play.drain()
    assert turned(play) == -75

    play.feed(Adopted(play.now, "asha", (stray,)))

    assert turned(play) == 0


def test_shares_that_were_sold_twice_are_not_held_short() -> None:
    """The positions of a day show what was sold of the demat account as if it were short."""
    play = Play(followers=(follower(ratio="1"),))
    terms = {"order_type": OrderType.MARKET, "product": Product.CNC}
    play.places("IN", ticket(Side.BUY, 300, "0", **terms))
    play.leader_fills("IN")
    play.fills()
    play.places("OUT", ticket(Side.SELL, 300, "0", **terms))
    play.leader_fills("OUT")
    exit_of_ours, hand = play.of()[-1], own_order(play, ticket(Side.SELL, 300, "0", **terms))
    for held in (exit_of_ours, hand):
        play.fills_follower(held, 300)
        play.drain()
    play.feed(BookRead(play.now, "asha", (), (Position(NIFTY, Product.CNC, -300, whole=True),)))

    assert (turned(play), said(play)) == (0, [])
