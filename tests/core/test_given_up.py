"""What fails for good is said, and what goes on must not be given up with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from copytrader.core.facts import Accepted, Cancel, Halted, Level, Modify, OrderSeen, Place, Resumed, Source, Verb
from copytrader.core.model import (
    LEADER,
    Limits,
    Order,
    OrderStatus,
    OrderType,
    RefusalClass,
    Security,
    Side,
    Sizing,
    SizingMode,
)
from tests.core.play import D, Play, follower, ticket
from tests.core.test_answers import lose, places, refused, unanswered


def test_a_sweep_that_is_given_up_says_what_it_was_to_close() -> None:
    """The leader is still in with the rest."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 4)
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.trades("OUT", -2)
    play.waits(300)

    (given_up,) = (each.text for each in play.alerts() if each.key.startswith("sweep-"))
    assert "holds 150 that is to be closed" in given_up


def test_a_sweep_that_is_given_up_again_is_said_again() -> None:
    play = Play(followers=(follower(ratio="1"),))
    for number in range(2):
        play.trades(f"IN{number}", 2)
        play.answer = refused(play, RefusalClass.OTHER, Place)
        play.trades(f"OUT{number}", -2)
        play.waits(300)
        play.answer = None
        play.trades_by_hand(-2)

    given_up = [each for each in play.alerts() if each.level is Level.CRITICAL and each.key.startswith("sweep-")]
    assert len(given_up) == 2


def test_exits_are_swept_again_after_the_person_closed_what_once_failed() -> None:
    play = Play()
    play.trades("L1", 4)
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.trades("L2", -4)
    play.waits(300)
    play.answer = None
    hand = Order("H1", ticket(Side.SELL, 150), OrderStatus.TRADED, play.now, play.now, 150, D(100))
    play.positions["asha"] = 0
    play.feed(OrderSeen(play.now, "asha", hand, Source.STREAM))
    play.reads_book("asha")

    play.trades("L3", 4)
    assert play.lots() == 2
    play.answer = unanswered(play, Place)
    play.trades("L4", -4)
    play.answer = None
    lose(play)
    play.waits(60)
    play.fills()

    assert play.lots() == 0


def test_a_market_exit_whose_new_price_is_refused_is_said_as_critical() -> None:
    play = Play()
    play.trades("L1", 4)
    play.trades("L2", -4, fills=False)
    play.answer = refused(play, RefusalClass.PRICE_BAND, Modify)
    play.waits(120)

    assert play.lots() == 2
    assert len([each for each in play.alerts() if each.level is Level.CRITICAL and "still rests" in each.text]) == 1


@pytest.mark.parametrize("copy_fills_first", [False, True])
@pytest.mark.parametrize("rests", [0, 60])
def test_an_exit_that_has_grown_opens_what_the_leader_s_does(rests: int, copy_fills_first: bool) -> None:
    """What it opens is as old as the fill by which it does, however long it rested."""
    play = Play()
    play.trades("L1", 4)
    play.places("L2", ticket(Side.SELL, 300, "110"))
    play.modifies("L2", quantity=600)
    play.waits(rests)
    assert sum(each.ticket.quantity for each in play.of() if each.is_open) == 150
    if copy_fills_first:
        play.fills()
    play.leader_fills("L2", 450)
    play.fills()
    play.leader_fills("L2")
    play.fills()
    play.waits(10)

    assert (play.leader_net(), play.lots()) == (-300, -2)
    assert not play.alerts()


@pytest.mark.parametrize("copy_fills_first", [False, True])
def test_a_stop_larger_than_what_it_protects_is_not_withdrawn_when_it_triggers(copy_fills_first: bool) -> None:
    """It grew with an entry, and the leader got out of a part since."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("IN", 4)
    play.places("SL", ticket(Side.SELL, 300, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91)))
    play.trades("ADD", 2)
    play.modifies("SL", quantity=450)
    play.trades("PART", -2)
    play.waits(60)
    if copy_fills_first:
        play.fills()
    play.leader_fills("SL")
    play.waits(1)
    assert [each for each in play.decisions if isinstance(each, Cancel)] == []
    play.fills()
    play.waits(10)

    assert (play.leader_net(), play.lots()) == (-150, -2)


def test_an_exit_that_has_grown_opens_also_where_there_was_nothing_to_exit() -> None:
    play = Play()
    play.answer = refused(play, RefusalClass.MARGIN, Place)
    play.trades("L1", 4)
    play.answer = None
    play.places("L2", ticket(Side.SELL, 300, "110"))
    play.modifies("L2", quantity=600)
    play.waits(60)
    play.leader_fills("L2")
    play.fills()
    play.waits(10)

    assert (play.leader_net(), play.lots()) == (-300, -2)


def test_an_exit_made_larger_before_the_entry_that_it_is_for_stays_an_exit() -> None:
    play = Play()
    play.trades("L1", 4)
    play.places("L2", ticket(Side.SELL, 300, "110"))
    play.modifies("L2", quantity=600)
    play.places("L3", ticket(Side.BUY, 300, "95"))
    play.leader_fills("L3")
    entry = play.of()[-1]
    play.fills_follower(entry, entry.ticket.quantity)
    play.drain()
    assert play.lots() == 4
    play.leader_fills("L2")
    play.fills()
    play.waits(10)

    assert (play.leader_net(), play.lots()) == (0, 0)


def test_what_an_exit_opens_before_its_entry_has_filled_is_said() -> None:
    play = Play()
    play.places("L1", ticket(Side.BUY, 300, "95"))
    play.places("L2", ticket(Side.SELL, 300, "110"))
    play.leader_fills("L2")
    play.waits(10)

    assert (play.leader_net(), play.lots()) == (-300, 0)
    assert "has opened 300 on the other side" in play.alerts()[0].text


def test_a_copy_that_may_not_grow_is_placed_anew_after_24_modifications_nevertheless() -> None:
    play = Play(followers=(follower(limits=Limits(max_order_lots=2)),))
    play.places("L1", ticket(quantity=300))
    play.modifies("L1", quantity=600)
    for number in range(30):
        play.modifies("L1", price=D(101 + number))
        play.waits(1)
    play.waits(10)

    assert sum(held.ticket.quantity for held in play.of() if held.is_open) == 150


def test_a_size_by_risk_waits_for_the_capital_of_the_day() -> None:
    rule = Sizing(SizingMode.RISK, risk_percent=D(10))
    play = Play(followers=(follower("asha", sizing=rule),))
    play.places("L1")
    assert not play.skips()
    play.waits(20)

    assert [each.reason for each in play.skips()] == ["STALE"]


def test_a_reading_that_shows_no_position_for_once_closes_nothing() -> None:
    """It may be behind the book, which shows the entry traded and nothing that sold."""
    play = Play()
    play.trades("L1", 4)
    play.waits(300)
    play.reads_leader_book(net=0)
    assert LEADER in play.state.ask_books
    play.reads_leader_book()
    play.waits(5)
    play.reads_leader_book(net=0)
    play.waits(5)

    assert play.lots() == 2


def test_a_position_that_is_gone_twice_is_gone() -> None:
    play = Play()
    play.trades("L1", 4)
    play.reads_leader_book(net=0)
    play.waits(1)
    play.reads_leader_book(net=0)
    play.waits(1.5)
    play.fills()
    assert play.lots() == 2
    play.waits(1)
    play.reads_leader_book(net=0)
    play.waits(5)
    play.fills()

    assert play.lots() == 0


def test_a_refused_exit_is_not_placed_again_when_the_leader_changes_its_price() -> None:
    """What the broker refused is used up; the leader's exit is followed by a sweep once it has filled."""
    play = Play()
    play.trades("L1", 4)
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.places("L2", ticket(Side.SELL, 300, "110"))
    play.answer = None
    play.modifies("L2", price=D(111))
    play.waits(10)

    assert [each.leader_order_id for each in play.decisions if isinstance(each, Place)].count("L2") == 1
    play.leader_fills("L2")
    play.waits(10)
    play.fills()
    assert play.lots() == 0


def test_a_refused_entry_is_not_placed_again_when_the_leader_changes_its_price() -> None:
    play = Play()
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.places("L1")
    play.answer = None
    play.modifies("L1", price=D(111))
    play.waits(10)

    assert len([each for each in play.decisions if isinstance(each, Place)]) == 1


def test_a_doubted_reading_that_a_fill_confirms_is_forgotten() -> None:
    """Or the next reading that is late for once would be believed at once."""
    play = Play()
    play.trades("L1", 4)
    play.waits(300)
    play.reads_leader_book(net=0)
    play.trades("L2", -4)
    play.waits(5)
    play.trades("L3", 4)
    play.waits(60)
    play.reads_leader_book(net=0)
    play.waits(5)
    play.fills()

    assert play.lots() == 2


def test_an_answer_that_names_another_copy_s_order_proves_nothing() -> None:
    play = Play()
    play.places("L1")
    (first,) = play.of()
    play.answer = lambda command: Accepted(play.now, "asha", command.correlation_id, Verb.PLACE, first.order_id)
    play.places("L2")

    assert [piece.leader_order_id for piece in play.state.unknowns()] == ["L2"]
    assert play.state.by_order_id["asha", first.order_id].leader_order_id == "L1"


@pytest.mark.parametrize(
    "another",
    [
        {"security": Security("NSE_FNO", "40001")},
        {"side": Side.SELL},
    ],
    ids=["another security", "the other side"],
)
def test_an_answer_that_names_an_order_of_something_else_makes_it_none_of_ours(another: dict[str, Any]) -> None:
    """It is seen only later that it trades something else: it is not counted, and not touched when the leader's ends."""
    play = Play()
    play.answer = lambda command: Accepted(play.now, "asha", command.correlation_id, Verb.PLACE, "HAND")
    play.places("L1")
    play.answer = None
    (piece,) = play.state.by_order_id.values()
    seen = Order("HAND", replace(piece.asked, **another), OrderStatus.PART_TRADED, play.now, play.now, 75, D(100))
    play.feed(OrderSeen(play.now, "asha", seen, Source.STREAM))
    play.decisions.clear()
    play.cancels("L1")
    play.waits(5)

    assert piece.filled == 0
    assert not [each for each in play.decisions if isinstance(each, Cancel | Modify)]
    assert [each.correlation_id for each in play.state.unknowns()] == [piece.correlation_id]


def test_an_entry_that_is_not_copied_since_copying_is_halted_takes_nothing_from_the_carry() -> None:
    play = Play()
    play.trades("L1", 1)
    play.feed(Halted(play.now))
    play.trades("L2", 1)
    play.feed(Resumed(play.now))
    play.trades("L3", 1)

    assert play.lots() == 1
    assert [each.reason for each in play.skips() if each.leader_order_id == "L2"] == ["HALTED"]


@pytest.mark.parametrize("arrived", [False, True])
def test_an_exit_without_an_answer_holds_up_no_more_than_it_may_close(arrived: bool) -> None:
    """The leader takes a part of its profit, and the answer to the follower's exit is lost; then it gets out."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 8)
    play.answer = unanswered(play, Place)
    play.trades("L2", -1)
    lost = places(play)[-1]
    play.waits(2)
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.trades("L3", -7)
    play.answer = None
    for _ in range(4):
        play.waits(1)
        play.fills()
    assert play.lots() == 1

    if arrived:
        held = play.takes(lost)
        play.feed(OrderSeen(play.now, "asha", held.seen(), Source.BOOK))
    else:
        lose(play)
        assert any(
            "exit SELL 75 NIFTY-Dec2026-24000-PE was not answered, and is not found" in a.text for a in play.alerts()
        )
    play.waits(2)
    play.fills()

    assert play.lots() == 0
    assert all(each.ticket.quantity <= 525 for each in play.of()[1:])


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_a_stop_without_an_answer_may_close_is_left_to_it(cancelled: bool) -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 8)
    play.answer = unanswered(play, Place)
    play.places("L2", ticket(Side.SELL, 225, "89", trigger_price=D(90), order_type=OrderType.STOP_LOSS))
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.trades("L3", -8)
    if cancelled:
        play.cancels("L2")
    play.answer = None
    for _ in range(4):
        play.waits(1)
        play.fills()

    assert play.lots() == 3
    lose(play)
    play.fills()
    assert play.lots() == 0


def too_much_is_held_beside_an_entry_without_an_answer() -> Play:
    """The entry has filled though the leader's was cancelled; the one on the other side got no answer."""
    play = Play(followers=(follower(ratio="1"),))
    play.places("L1", ticket(quantity=300))
    play.fills()
    play.cancels("L1")
    play.answer = unanswered(play, Place)
    play.places("L2", ticket(Side.SELL, 300, "105"))
    play.answer = None
    return play


@pytest.mark.parametrize("arrives", [False, True])
def test_what_is_held_too_much_is_closed_beside_an_entry_without_an_answer(arrives: bool) -> None:
    play = too_much_is_held_beside_an_entry_without_an_answer()
    entry = places(play)[-1]
    play.waits(2)
    play.reads_book("asha")
    play.waits(1)
    play.fills()
    assert play.lots() == 0

    if arrives:
        play.takes(entry)
        play.reads_book("asha")
        play.leader_fills("L2")
    else:
        lose(play)
    play.fills()
    play.waits(5)
    assert play.lots() == (-4 if arrives else 0)


def test_what_an_entry_without_an_answer_has_come_to_close_is_left_to_it() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.answer = unanswered(play, Place)
    play.places("L1", ticket(Side.SELL, 300, "105"))
    play.answer = None
    play.trades("L2", 4)
    play.leader_fills("L1", 150)
    play.cancels("L1")
    for _ in range(4):
        play.waits(2)
        play.reads_book("asha")
    assert [each.ticket.side for each in play.of()] == [Side.BUY]

    lose(play)
    play.fills()
    assert play.lots() == 2
