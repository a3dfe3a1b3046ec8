"""A follower that nothing reaches: it is said, exits and resting orders go on being tried, and nothing is sent twice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from copytrader.core.budget import Budget
from copytrader.core.facts import Cancel, Command, Event, Level, Modify, NotSent, Place, Started, Throttled, Verb
from copytrader.core.model import Desk, OrderStatus, OrderType, Side
from tests.core.play import START, D, Play, follower, instrument, ticket

_VERBS = {Place: Verb.PLACE, Modify: Verb.MODIFY, Cancel: Verb.CANCEL}


def cut_off(play: Play) -> None:
    def answer(command: Command) -> Event:
        verb = _VERBS[type(command)]
        return NotSent(play.now, command.account, command.correlation_id, verb, "no connection: refused")

    play.answer = answer


def fails(play: Play, kind: type[NotSent | Throttled], times: int) -> None:
    """Let so many commands come to nothing, and then all arrive."""
    left = iter(range(times))

    def answer(command: Command) -> Event | None:
        if next(left, None) is None:
            return None
        return kind(play.now, command.account, command.correlation_id, _VERBS[type(command)], "no")

    play.answer = answer


def levels(play: Play) -> list[Level]:
    return [each.level for each in play.alerts()]


def protected() -> Play:
    """Two lots held, and cut off when the leader's stop loss comes."""
    play = Play()
    play.trades("L1", 4)
    cut_off(play)
    stop = ticket(Side.SELL, 300, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91))
    play.places("L2", stop)
    return play


def test_a_stop_loss_whose_placing_failed_is_placed_when_the_network_is_back() -> None:
    play = protected()
    play.waits(600)
    tried = len(play.decisions)
    play.answer = None
    play.waits(61)

    (stop,) = (each for each in play.of() if each.is_open)
    assert (stop.ticket.order_type, stop.ticket.quantity) == (OrderType.STOP_LOSS, 150)
    assert play.skips() == []
    assert tried < 60


def test_a_stop_loss_is_not_tried_any_more_when_the_leaders_is_gone() -> None:
    play = protected()
    play.waits(100)
    play.cancels("L2")
    play.answer = None
    play.waits(600)

    assert [each.ticket.side for each in play.of()] == [Side.BUY]


def test_an_exit_that_does_not_leave_is_critical_once_and_the_end_of_it_is_said() -> None:
    play = protected()
    play.waits(600)
    assert levels(play) == [Level.CRITICAL]
    assert "asha cannot be reached: its exits do not leave" in play.alerts()[0].text

    play.answer = None
    play.waits(61)
    assert levels(play) == [Level.CRITICAL, Level.WARNING]


@pytest.mark.parametrize("verb", [Place, Modify])
def test_an_exit_that_is_refused_as_one_too_many_is_critical_once_and_the_end_of_it_is_said(verb: type) -> None:
    """Another program has used up the account's limits: nothing shows it but the answers."""
    play = Play()
    play.trades("L1", 4)
    stop = ticket(Side.SELL, 300, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91))
    if verb is Modify:
        play.places("L2", stop)

    def answer(command: Command) -> Event:
        return Throttled(play.now, command.account, command.correlation_id, _VERBS[type(command)])

    play.answer = answer
    play.places("L2", stop) if verb is Place else play.modifies("L2", trigger_price=D(95), price=D(94))
    play.waits(10)
    assert levels(play) == [Level.CRITICAL]
    assert "asha: Dhan takes no orders: its exits are not taken" in play.alerts()[0].text

    play.waits(600)
    play.answer = None
    play.waits(61)
    assert [level for level in levels(play) if level is not Level.INFO] == [Level.CRITICAL, Level.WARNING]
    assert play.of()[-1].ticket.trigger_price == (D(91) if verb is Place else D(95))


def test_one_answer_of_too_many_is_nothing_to_speak_of() -> None:
    play = Play()
    play.trades("L1", 4)
    play.answer = lambda command: Throttled(play.now, command.account, command.correlation_id, Verb.PLACE)
    play.trades("L2", -4, fills=False)
    play.answer = None
    play.waits(5)
    play.fills()

    assert (play.lots(), levels(play)) == (0, [])


def test_entries_that_do_not_leave_are_a_warning_and_an_exit_after_them_is_critical() -> None:
    play = Play()
    play.trades("L1", 4)
    cut_off(play)
    play.places("L2", ticket(price="99"))
    play.waits(60)
    assert levels(play) == [Level.WARNING]

    play.trades("L3", -6, fills=False)
    play.waits(30)
    assert levels(play) == [Level.WARNING, Level.CRITICAL]
    assert len({each.key for each in play.alerts()}) == 2


def test_a_short_break_is_nothing_to_speak_of() -> None:
    play = Play()
    for number in range(5):
        cut_off(play)
        play.places(f"L{number}", ticket(price=str(90 + number)))
        play.answer = None
        play.waits(5)

    assert len(play.of()) == 5
    assert play.alerts() == []


def test_two_in_a_row_with_a_while_between_them_are_said() -> None:
    play = Play()
    for number in range(2):
        cut_off(play)
        play.places(f"L{number}")
        play.cancels(f"L{number}")
        play.waits(20)

    assert levels(play) == [Level.WARNING]


def test_a_new_process_counts_anew() -> None:
    play = protected()
    play.waits(100)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.reads_book("asha")
    play.reads_leader_book()
    play.waits(100)

    assert levels(play) == [Level.CRITICAL, Level.CRITICAL]


def test_an_exit_that_could_not_leave_had_something_to_exit() -> None:
    play = Play()
    play.trades("L1", 4)
    cut_off(play)
    play.trades("L2", -4, fills=False)
    play.waits(60)

    assert (play.skips(), levels(play)) == ([], [Level.CRITICAL])

    play.answer = None
    play.waits(61)
    play.fills()
    assert play.lots() == 0


def test_what_never_left_does_not_count_against_the_rate_limits() -> None:
    play = protected()
    play.waits(600)

    assert play.state.accounts["asha"].budget.left(play.now)[2] >= 998
    assert all(each.status is OrderStatus.TRADED for each in play.of())


@pytest.mark.parametrize("seconds", [0, 30, 90_000])
def test_a_call_that_did_not_leave_is_taken_off_again(seconds: int) -> None:
    budget = Budget()
    budget.count(START)
    budget.count(START)
    later = START + timedelta(seconds=seconds)
    before = budget.left(later)
    budget.uncount(START)

    assert budget.left(later)[3] == (6999 if seconds < 90_000 else before[3])
    assert budget.left(later)[2] == (999 if seconds < 3605 else 1000)


@pytest.mark.parametrize("failures", range(1, 10))
@pytest.mark.parametrize("kind", [NotSent, Throttled])
@pytest.mark.parametrize(("out", "left"), [(1, 3), (3, 1), (4, 0)])
@pytest.mark.parametrize("order_type", [OrderType.MARKET, OrderType.LIMIT])
def test_an_exit_that_is_tried_again_and_again_is_made_once(
    order_type: OrderType, out: int, left: int, kind: type[NotSent | Throttled], failures: int
) -> None:
    """While it waits for its next try, nothing else may close the same."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 4)
    fails(play, kind, failures)
    play.places("OUT", ticket(Side.SELL, out * 75, order_type=order_type))
    play.leader_fills("OUT")
    for _ in range(500):
        play.waits(0.4)
        play.fills()

    assert (play.lots(), len(play.of())) == (left, 2)


@pytest.mark.parametrize("failures", range(1, 10))
def test_an_exit_that_the_leader_fills_in_parts_is_made_once_however_often_it_is_tried(failures: int) -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 8)
    fails(play, Throttled, failures)
    play.places("OUT", ticket(Side.SELL, 300, "99"))
    play.leader_fills("OUT", 75)
    play.waits(7)
    play.leader_fills("OUT")
    play.waits(120)
    play.fills()

    assert (play.lots(), len(play.of())) == (4, 2)


@pytest.mark.parametrize("failures", range(1, 10))
@pytest.mark.parametrize("kind", [NotSent, Throttled])
@pytest.mark.parametrize("freeze", [1801, 301])
def test_what_an_order_through_zero_was_to_close_is_closed_however_often_it_is_tried(
    freeze: int, kind: type[NotSent | Throttled], failures: int
) -> None:
    """What it opens may come too late; the exit may not."""
    play = Play(followers=(follower(ratio="1"),), row=instrument(freeze_quantity=freeze))
    play.trades("IN", 4)
    play.waits(3)
    play.fills()
    fails(play, kind, failures)
    play.trades("OUT", -8, fills=False)
    for _ in range(500):
        play.waits(0.4)
        play.fills()

    assert play.lots() in (0, -4)
