"""Rate limits are kept, and whatever is open can be cancelled within them (I8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest

from copytrader.core.budget import Budget, Rank
from copytrader.core.facts import Cancel, Level, OrderSeen, Place, Source, Throttled, Verb
from copytrader.core.model import LEADER, OrderStatus, OrderType, Side
from tests.core.play import START, D, Play, follower, instrument, ticket


def _most_within(calls: list[datetime], length: timedelta) -> int:
    most, first = 0, 0
    for number, call in enumerate(calls):
        while calls[first] <= call - length:
            first += 1
        most = max(most, number - first + 1)
    return most


@pytest.mark.parametrize("seed", range(5))
def test_no_window_of_the_broker_is_overrun(seed: int) -> None:
    random, budget, at = Random(seed), Budget(), START
    calls: list[datetime] = []
    while len(calls) < 1500:
        at += timedelta(seconds=random.choice((0.001, 0.01, 0.1, 0.5, 3.0)))
        if budget.allows(random.choice(list(Rank)), random.randint(0, 20), at):
            budget.count(at)
            calls.append(at)

    assert _most_within(calls, timedelta(seconds=1)) <= 10
    assert _most_within(calls, timedelta(minutes=1)) <= 250
    assert _most_within(calls, timedelta(hours=1)) <= 1000


def test_entries_stop_while_every_open_order_can_still_be_cancelled() -> None:
    budget, at, still_open = Budget(), START, 0
    for _ in range(3000):
        at += timedelta(seconds=0.4)
        if budget.allows(Rank.ENTRY, still_open, at):
            budget.count(at)
            still_open += 1
    assert 400 < still_open < 600

    while still_open:
        at += timedelta(seconds=0.4)
        if budget.allows(Rank.CANCEL, still_open, at):
            budget.count(at)
            still_open -= 1
        assert at < START + timedelta(minutes=45)


def test_cancels_go_before_entries_when_the_second_is_nearly_full() -> None:
    budget = Budget()
    for _ in range(9):
        budget.count(START)

    assert [rank for rank in Rank if budget.allows(rank, 0, START)] == [Rank.CANCEL]


def test_a_leader_gone_wild_leaves_nothing_open_that_cannot_be_cancelled() -> None:
    play = Play(followers=(follower(ratio="1"),))
    for number in range(60):
        play.places(f"L{number}", ticket(quantity=75))
        play.waits(0.02)
    play.waits(3)
    for number in range(60):
        play.cancels(f"L{number}")
    play.waits(20)

    assert not [held for held in play.of() if held.is_open]
    sent = [fact for fact in play.decisions if isinstance(fact, Place | Cancel)]
    assert len(sent) == 2 * len(play.of())


def test_a_throttled_account_pauses_and_leaves_room_for_others() -> None:
    play = Play()
    play.answer = lambda command: Throttled(play.now, "asha", command.correlation_id, Verb.PLACE)
    play.places("L1")
    play.answer = None
    play.waits(0.9)
    assert play.of() == []
    play.waits(1)

    assert len(play.of()) == 1
    assert play.state.accounts["asha"].budget.left(play.now)[0] < 9


@pytest.mark.parametrize(("calls", "minutes", "window"), [(250, 0.9, "minute"), (1000, 50, "hour")])
def test_an_exit_that_waits_for_our_own_count_is_said_once_and_goes_when_a_call_is_free(
    calls: int, minutes: float, window: str
) -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 2)
    budget = play.state.accounts["asha"].budget
    for _ in range(calls):
        budget.count(play.now)
    play.waits(3)
    play.trades("OUT", -2, fills=False)
    play.waits(10)
    assert [(each.level, f"of the {window}" in each.text) for each in play.alerts()] == [(Level.CRITICAL, True)]
    assert len(play.of()) == 1

    play.waits(minutes * 60 + 600)
    play.fills()
    assert play.lots() == 0
    said = [each for each in play.alerts() if "of the " in each.text]
    assert len(said) == (1 if window == "minute" else 5)


def test_the_slices_that_wait_for_the_budget_are_sent_though_the_others_and_the_leader_s_order_are_over() -> None:
    play = Play(followers=(follower(ratio="1"),), row=instrument(freeze_quantity=301), fills_at_once=True)
    play.trades("L1", 60)
    sent = len(play.of())
    assert 4 <= sent < 15
    play.waits(4)

    assert play.lots() == 60


@pytest.mark.parametrize("ahead", [2.0, 300.0, 3600.0])
def test_a_clock_that_is_set_back_holds_no_exit_back(ahead: float) -> None:
    """It ran ahead, and was mended; calls and a pause after a 429 lie in what is the future now."""
    play = Play()
    play.now += timedelta(seconds=ahead)
    play.trades("IN", 4)
    for number in range(6):
        play.places(f"L{number}", ticket(price=f"9{number}"))
    play.state.accounts["asha"].budget.throttled(play.now)
    play.now -= timedelta(seconds=ahead)
    play.trades("OUT", -4, fills=False)
    for _ in range(8):
        play.waits(1)
        play.reads_book("asha")

    assert [each.ticket.quantity for each in play.of() if each.is_open and each.ticket.side is Side.SELL] == [150]


def test_calls_before_a_clock_was_set_back_count_as_if_they_were_made_now() -> None:
    budget, later = Budget(), START + timedelta(minutes=5)
    for _ in range(10):
        budget.count(later)

    assert not budget.allows(Rank.CANCEL, 0, START)
    assert budget.allows(Rank.CANCEL, 0, START + timedelta(seconds=1.2))
    assert budget.left(START + timedelta(seconds=1.2))[1] == 240


@pytest.mark.parametrize(("lots", "out"), [(8, 4), (6, 2)])
def test_an_exit_that_waited_for_a_call_is_as_large_as_at_once(lots: int, out: int) -> None:
    """What it waits to close is no surplus of its own, which a sweep would close beside it."""
    play = Play()
    play.trades("IN", lots)
    budget = play.state.accounts["asha"].budget
    for _ in range(250):
        budget.count(play.now)
    play.waits(56)
    play.trades("OUT", -out, fills=False)
    play.waits(6)

    exits = [each for each in play.decisions if isinstance(each, Place) and each.ticket.side is Side.SELL]
    assert [(each.ticket.quantity, each.sweep) for each in exits] == [(out // 2 * 75, False)]


STOP = ticket(Side.SELL, 300, "50", order_type=OrderType.STOP_LOSS, trigger_price=D(52))


def trails(play: Play, seconds: int) -> None:
    """The leader holds eight lots and moves two stops of half of it once a second; the follower's are of eight orders."""
    play.trades("IN", 8)
    for name in ("S1", "S2"):
        play.places(name, STOP)
        play.waits(2)
    for _ in range(seconds):
        moves(play)


def moves(play: Play, names: tuple[str, ...] = ("S1", "S2")) -> None:
    play.waits(1)
    for name in names:
        order = play.leader[name]
        price = order.ticket.price + D("0.05")
        moved = replace(order.ticket, price=price, trigger_price=price + 2)
        order = replace(order, ticket=moved, status=OrderStatus.MODIFIED, updated_at=play.now)
        play.leader[name] = order
        play.feed(OrderSeen(play.now, LEADER, order, Source.STREAM))


def leaves(play: Play, calls: int, window: str = "minute") -> None:
    """Use the calls of the minute or the hour up, but for so many."""
    budget = play.state.accounts["asha"].budget
    number = {"minute": 1, "hour": 2}[window]
    while budget.left(play.now)[number] > calls:
        budget.count(play.now)
    play.waits(2 if window == "minute" else 120)


def goes_out(play: Play, seconds: float) -> None:
    """Let time pass while the follower's market orders fill."""
    end = play.now + timedelta(seconds=seconds)
    while play.now < end:
        play.waits(0.1)
        for each in play.of():
            if each.is_open and each.ticket.order_type is OrderType.MARKET:
                play.fills_follower(each, each.ticket.quantity)
        play.drain()


def working(play: Play) -> list[int]:
    return [each.ticket.quantity for each in play.of() if each.is_open]


@pytest.mark.parametrize("seconds", [35, 300])
def test_stops_that_are_moved_all_the_time_leave_the_calls_that_an_exit_needs(seconds: int) -> None:
    play = Play(followers=(follower(ratio="4"),), row=instrument(freeze_quantity=301), fills_at_once=False)
    trails(play, seconds)
    assert play.lots() == 32
    began = play.now
    play.cancels("S1")
    play.cancels("S2")
    play.trades("OUT", -8, fills=False)
    while play.lots() and play.now < began + timedelta(seconds=10):
        goes_out(play, 0.1)

    assert play.lots() == 0
    assert (play.now - began).total_seconds() < 6
    play.waits(5)
    assert not any(each.is_open for each in play.of())


def test_it_is_said_once_that_stops_are_not_moved_for_want_of_calls() -> None:
    play = Play(followers=(follower(ratio="4"),), row=instrument(freeze_quantity=301))
    trails(play, 60)

    said = [each for each in play.alerts() if "new prices of resting exits wait" in each.text]
    assert [each.level for each in said] == [Level.WARNING]


def test_a_stop_is_not_cancelled_for_a_new_one_that_no_call_is_left_for() -> None:
    """After 24 modifications an order is placed anew."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    play.places("S1", replace(STOP, quantity=600))
    for _ in range(24):
        moves(play, ("S1",))
    leaves(play, 3, "hour")
    for _ in range(20):
        moves(play, ("S1",))
        assert working(play) == [600]
    play.waits(3600)

    assert [(each.ticket.quantity, each.ticket.price) for each in play.of() if each.is_open] == [(600, D("52.20"))]


@pytest.mark.parametrize("window", ["minute", "hour"])
def test_after_a_stop_was_trailed_all_the_time_a_position_is_closed_in_parts_and_wholly(window: str) -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    play.places("S1", replace(STOP, quantity=600))
    leaves(play, 30, window)
    while not any("new prices of resting exits wait" in each.text for each in play.alerts()):
        moves(play, ("S1",))
    for part, left in ((4, 4), (2, 2)):
        play.trades(f"OUT{part}", -part, fills=False)
        play.modifies("S1", quantity=left * 75)
        goes_out(play, 2)
        assert (play.lots(), working(play)) == (left, [left * 75])
    play.cancels("S1")
    play.trades("OUT", -2, fills=False)
    goes_out(play, 2)

    assert (play.lots(), working(play)) == (0, [])
    assert not any("exits and cancels wait" in each.text for each in play.alerts())


def test_exits_that_only_rest_leave_the_calls_that_it_takes_to_get_out() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    play.places("S1", STOP)
    leaves(play, 6)
    play.modifies("S1", quantity=600)
    play.places("T1", ticket(Side.SELL, 600, "150"))
    play.waits(20)
    assert working(play) == [300]
    said = [each for each in play.alerts() if "is to rest" in each.text]
    assert [each.level for each in said] == [Level.CRITICAL, Level.CRITICAL]
    assert [each.text.partition("order ")[2][:2] for each in said] == ["S1", "T1"]

    play.trades("HALF", -4, fills=False)
    for name in ("S1", "T1"):
        play.cancels(name)
    play.places("S2", replace(STOP, quantity=150))
    goes_out(play, 3)
    assert (play.lots(), working(play)) == (4, [])
    play.trades("OUT", -4, fills=False)
    goes_out(play, 3)
    assert (play.lots(), working(play)) == (0, [])


def test_an_exit_that_is_to_rest_is_placed_once_there_are_calls_again() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    leaves(play, 2)
    play.places("S1", replace(STOP, quantity=600))
    play.waits(10)
    assert working(play) == []
    play.waits(60)

    assert working(play) == [600]


def test_a_stop_loss_is_placed_before_an_entry_while_calls_are_short() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    leaves(play, 8)
    play.places("L1", ticket(price="90"))
    play.places("S1", replace(STOP, quantity=600))
    play.waits(5)

    assert working(play) == [600]


def test_a_stop_becomes_as_small_as_what_is_held_however_few_calls_are_left() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    play.places("S1", replace(STOP, quantity=600))
    leaves(play, 2)
    play.trades("OUT", -4, fills=False)
    play.modifies("S1", quantity=300)
    goes_out(play, 3)

    assert (play.lots(), working(play)) == (4, [300])


def test_an_exit_whose_leader_s_order_trades_already_waits_for_nothing() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    leaves(play, 1)
    play.places("OUT", ticket(Side.SELL, 600, "99"))
    assert working(play) == []
    play.leader_fills("OUT", 75)
    play.waits(1)

    assert working(play) == [600]


def test_a_sweep_does_not_wait_for_a_new_price_that_waits_for_calls() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    play.places("S1", STOP)
    leaves(play, 3)
    moves(play, ("S1",))
    play.trades("OUT", -4, fills=False)
    play.rejects(play.of()[-1])
    goes_out(play, 10)

    assert (play.lots(), working(play)) == (4, [300])


def test_no_more_than_half_of_a_window_is_kept_beyond_what_is_needed() -> None:
    budget = Budget()
    for _ in range(120):
        budget.count(START)
    later = START + timedelta(seconds=10)

    assert budget.allows(Rank.ENTRY, 60, later)
    assert budget.allows(Rank.ENTRY, 400, later)
    assert not budget.allows(Rank.ENTRY, 900, later)
