"""An exit that the leader has filled, and that could not go at once, closes what was held then and nothing that came since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from copytrader.core.facts import (
    Command,
    Event,
    Modify,
    NotSent,
    OrderSeen,
    Place,
    Refused,
    Role,
    Source,
    Throttled,
    TokenRefused,
    TokenRenewed,
    Verb,
)
from copytrader.core.model import LEADER, CopyRules, LateExits, Order, OrderStatus, OrderType, RefusalClass, Side
from tests.core.play import D, Play, follower, instrument, ticket

MARKET = {"price": "0", "order_type": OrderType.MARKET}


def settles(play: Play) -> None:
    """Market orders fill, resting ones stay; books are read."""
    for _ in range(6):
        for each in list(play.orders.values()):
            if each.is_open and each.ticket.order_type is OrderType.MARKET:
                play.fills_follower(each, each.ticket.quantity - each.filled)
        play.drain()
        play.waits(5)
        for one in play.followers:
            play.reads_book(one.name)
        play.reads_leader_book()


def sold(play: Play) -> int:
    """Lots that the follower has sold."""
    return sum(each.filled for each in play.of() if each.ticket.side is Side.SELL) // 75


@pytest.mark.parametrize("late_exits", LateExits)
@pytest.mark.parametrize("fails", [NotSent, Throttled])
@pytest.mark.parametrize("out", [2, 4])
def test_an_exit_that_never_left_sells_nothing_of_an_entry_that_did(
    out: int, fails: type[NotSent | Throttled], late_exits: LateExits
) -> None:
    play = Play(followers=(follower(ratio="1"),), rules=CopyRules(enforce_hours=False, late_exits=late_exits))
    play.trades("E", 4)
    play.answer = failing(play, fails)
    play.trades("X", -out, fills=False)
    play.waits(0.2)
    play.trades("F", 4, fills=False)
    settles(play)

    assert play.lots() == 8 - out
    assert sold(play) == out


def failing(play: Play, fails: type[NotSent | Throttled]) -> Callable[[Command], Event | None]:
    """The first exit does not reach the broker."""
    failed: list[Command] = []

    def answer(command: Command) -> Event | None:
        if isinstance(command, Place) and command.role is Role.EXIT and not failed:
            failed.append(command)
            return fails(play.now, command.account, command.correlation_id, Verb.PLACE)
        return None

    return answer


def test_the_first_of_two_exits_comes_as_large_though_it_goes_second() -> None:
    play = Play(followers=(follower(ratio="1"),), rules=CopyRules(enforce_hours=False, late_exits=LateExits.SKIP))
    play.trades("E", 4)
    play.answer = failing(play, NotSent)
    play.trades("X", -2, fills=False)
    play.trades("Y", -2, fills=False)
    settles(play)

    assert play.lots() == 0
    assert sold(play) == 4
    made = [(each.leader_order_id, each.ticket.quantity) for each in play.decisions if isinstance(each, Place)]
    assert made[-1] == ("X", 150)


@pytest.mark.parametrize("joins", [False, True])
def test_an_exit_that_another_follower_keeps_open_sells_nothing_that_comes_later(joins: bool) -> None:
    """Asha had nothing to exit; the leader is in again while bela's exit still waits for its price."""
    asha, bela = follower("asha", "1" if joins else "0.5"), follower("bela", "1")
    play = Play(followers=(bela,) if joins else (asha, bela))
    play.trades("E", 1)
    play.places("X", ticket(Side.SELL, 75, "110"))
    play.leader_fills("X")
    play.waits(60)
    if joins:
        play.followers, play.positions["asha"] = (bela, asha), 0
        play.starts()
        play.waits(20)
    play.trades("F", 10, fills=False)
    settles(play)

    assert play.lots("asha") == (10 if joins else 5)
    assert [each.reason for each in play.skips() if each.account == "asha" and each.leader_order_id == "X"] == [
        "NOTHING_TO_EXIT"
    ]


@pytest.mark.parametrize("late_exits", LateExits)
@pytest.mark.parametrize("seconds", [0.1, 1.2])
@pytest.mark.parametrize(("out", "again"), [(2, 4), (4, 4), (5, 6), (5, 4), (6, 6), (6, 4)])
def test_an_exit_of_which_only_the_last_frame_is_heard_sells_nothing_that_comes_before_its_terms(
    out: int, again: int, seconds: float, late_exits: LateExits
) -> None:
    """Some go through zero; the leader is in again before the book tells the order's terms."""
    play = Play(followers=(follower(ratio="1"),), rules=CopyRules(enforce_hours=False, late_exits=late_exits))
    play.trades("E", 4)
    order = Order("X", ticket(Side.SELL, out * 75, **MARKET), OrderStatus.TRADED, play.now, play.now, out * 75, D(100))
    play.leader["X"] = order
    play.feed(OrderSeen(play.now, LEADER, order, Source.STREAM))
    play.waits(seconds)
    play.trades("F", again)
    settles(play)

    assert play.lots() == 4 - out + again
    assert sold(play) == min(out, 4)


@pytest.mark.parametrize("leader_first", [True, False])
@pytest.mark.parametrize("held", [0, 3])
def test_what_fills_ahead_of_an_entry_that_is_partly_closed_again_stays(held: int, leader_first: bool) -> None:
    """Six are bought at a limit, three have filled and are sold at market: one reading brings both."""
    play = Play(followers=(follower(ratio="1"),), row=instrument(freeze_quantity=0))
    if held:
        play.trades("A", held)
    for order_id, terms, status, filled in (
        ("E", ticket(quantity=450), OrderStatus.PART_TRADED, 225),
        ("X", ticket(Side.SELL, 225, **MARKET), OrderStatus.TRADED, 225),
    ):
        play.leader[order_id] = Order(order_id, terms, status, play.now, play.now, filled, D(100), last_price=D(100))
    play.reads_leader_book()
    settles(play)
    if not leader_first:
        play.fills()
        settles(play)
    play.leader_fills("E")
    settles(play)
    play.fills()
    settles(play)

    assert play.lots() == held + 3
    assert [each for each in play.decisions if isinstance(each, Place) and each.sweep] == []


@pytest.mark.parametrize("late_exits", LateExits)
@pytest.mark.parametrize("seconds", [0.1, 1.5, 10])
@pytest.mark.parametrize("out", [2, 4])
def test_an_exit_that_waited_for_a_token_sells_nothing_of_what_filled_meanwhile(
    out: int, seconds: float, late_exits: LateExits
) -> None:
    play = Play(followers=(follower(ratio="1"),), rules=CopyRules(enforce_hours=False, late_exits=late_exits))
    play.trades("E", 4)
    play.places("L", ticket(quantity=300, price="90"))
    play.feed(TokenRefused(play.now, "asha", RefusalClass.TOKEN, "expired"))
    play.trades("X", -out, fills=False)
    play.leader_fills("L")
    play.fills()
    play.waits(seconds)
    play.feed(TokenRenewed(play.now, "asha"))
    settles(play)

    assert play.lots() == 8 - out
    assert sold(play) == out


@pytest.mark.parametrize("late_exits", LateExits)
@pytest.mark.parametrize("out", [1, 2])
def test_an_exit_that_waited_for_a_token_leaves_what_has_filled_ahead(out: int, late_exits: LateExits) -> None:
    play = Play(followers=(follower(ratio="1"),), rules=CopyRules(enforce_hours=False, late_exits=late_exits))
    play.trades("E", 2)
    play.places("L", ticket(quantity=300, price="90"))
    play.fills()
    play.feed(TokenRefused(play.now, "asha", RefusalClass.TOKEN, "expired"))
    play.trades("X", -out, fills=False)
    play.leader_fills("L")
    play.waits(0.2)
    play.feed(TokenRenewed(play.now, "asha"))
    settles(play)

    assert play.lots() == 6 - out
    assert sold(play) == out


@pytest.mark.parametrize("late_exits", LateExits)
@pytest.mark.parametrize("out", [10, 12])
@pytest.mark.parametrize("why", ["never left", "token"])
def test_an_exit_that_is_sent_late_counts_what_was_on_its_way(why: str, out: int, late_exits: LateExits) -> None:
    rules = CopyRules(enforce_hours=False, late_exits=late_exits)
    play = Play(followers=(follower(ratio="1"),), rules=rules, row=instrument(freeze_quantity=0))
    play.trades("E", 4)
    play.trades("F", 8, fills=False)
    if why == "token":
        play.feed(TokenRefused(play.now, "asha", RefusalClass.TOKEN, "expired"))
        play.trades("X", -out)
        play.feed(TokenRenewed(play.now, "asha"))
    else:
        play.answer = failing(play, NotSent)
        play.places("X", ticket(Side.SELL, out * 75, **MARKET))
        play.fills()
        play.leader_fills("X")
    settles(play)

    assert play.lots() == 12 - out
    assert sold(play) == out
    assert not any(each.sweep for each in play.decisions if isinstance(each, Place))


def test_resting_exits_do_not_grow_while_a_market_exit_is_sent_again() -> None:
    """Else, together, they would sell more than is held."""
    play = Play()
    play.trades("L1", 8)
    play.places("SL", ticket(Side.SELL, 600, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91)))
    play.places("TG", ticket(Side.SELL, 600, "110"))
    play.modifies("SL", quantity=300)
    play.modifies("TG", quantity=300)
    before = len(play.decisions)
    play.answer = lambda command: (
        Throttled(play.now, "asha", command.correlation_id, Verb.PLACE, "429") if isinstance(command, Place) else None
    )
    play.places("L2", ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    play.leader_fills("L2")
    play.answer = None
    play.waits(2)

    assert [each for each in play.decisions[before:] if isinstance(each, Modify)] == []
    for held in play.of():
        if held.is_open and held.ticket.order_type is OrderType.MARKET:
            play.fills_follower(held, held.ticket.quantity)
    play.drain()
    assert play.lots() == 2
    assert [each.ticket.quantity for each in play.of() if each.is_open] == [150, 150]


SKIPS = CopyRules(enforce_hours=False, late_exits=LateExits.SKIP)


def test_an_exit_that_waited_for_a_token_goes_also_where_late_exits_are_skipped() -> None:
    """Late is what nobody looked at; this one was heard of at once, and is said to wait."""
    play = Play(rules=SKIPS)
    play.trades("IN", 4)
    play.feed(TokenRefused(play.now, "asha", RefusalClass.TOKEN, "expired"))
    play.trades("OUT", -4, fills=False)
    play.waits(60)
    play.feed(TokenRenewed(play.now, "asha"))
    settles(play)

    assert play.lots() == 0


def test_an_exit_that_waited_for_a_call_goes_also_where_late_exits_are_skipped() -> None:
    play = Play(rules=SKIPS)
    play.trades("IN", 4)
    for _ in range(250):
        play.state.accounts["asha"].budget.count(play.now)
    play.waits(5)
    play.trades("OUT", -4, fills=False)
    play.waits(70)
    play.fills()

    assert play.lots() == 0


def test_an_exit_of_which_nobody_heard_for_a_while_is_left_where_late_exits_are_skipped() -> None:
    play = Play(rules=SKIPS)
    play.trades("IN", 4)
    play.waits(60)
    out = ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET)
    done = Order("OUT", out, OrderStatus.TRADED, play.now, play.now, 300, D(100))
    play.leader["OUT"] = done
    play.waits(30)
    play.reads_leader_book()
    settles(play)

    assert play.lots() == 2


@pytest.mark.parametrize("late_exits", LateExits)
@pytest.mark.parametrize("fails", [NotSent, Throttled])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_slice_of_an_exit_that_never_left_goes_again(
    lost: int, fails: Callable[..., Event], late_exits: LateExits
) -> None:
    play = Play(
        followers=(follower(ratio="3"),),
        row=instrument(freeze_quantity=301),
        rules=replace(SKIPS, late_exits=late_exits),
        fills_at_once=True,
    )
    play.trades("IN", 4)
    assert play.lots() == 12
    turn = iter(range(100))

    def answer(command: Command) -> Event | None:
        if isinstance(command, Place) and next(turn) == lost:
            return fails(play.now, "asha", command.correlation_id, Verb.PLACE, "lost")
        return None

    play.answer = answer
    play.trades("OUT", -4)
    play.waits(30)

    assert play.lots() == 0
    assert sold(play) == 12
    assert not any(isinstance(each, Place) and each.sweep for each in play.decisions)


@pytest.mark.parametrize("late_exits", LateExits)
def test_an_exit_that_was_refused_for_the_token_goes_once_that_is_renewed(late_exits: LateExits) -> None:
    """The refusal is what told that the token is dead; the exit was heard of at once."""
    play = Play(rules=replace(SKIPS, late_exits=late_exits))
    play.trades("IN", 4)
    play.answer = lambda command: Refused(
        play.now, "asha", command.correlation_id, Verb.PLACE, RefusalClass.TOKEN, "DH-901", "expired"
    )
    play.trades("OUT", -4, fills=False)
    play.answer = None
    play.waits(30)
    play.feed(TokenRenewed(play.now, "asha"))
    settles(play)

    assert play.lots() == 0
    assert sold(play) == 2


def test_a_slice_that_never_left_is_not_sent_for_what_the_leader_has_taken_back() -> None:
    """The leader makes the exit smaller before the slice goes again, and it fills."""
    play = Play(followers=(follower(ratio="3"),), row=instrument(freeze_quantity=301))
    play.trades("IN", 4)
    turn = iter(range(100))

    def answer(command: Command) -> Event | None:
        if isinstance(command, Place) and next(turn) == 2:
            return NotSent(play.now, "asha", command.correlation_id, Verb.PLACE, "lost")
        return None

    play.answer = answer
    play.places("OUT", ticket(Side.SELL, 300, "105"))
    order = play.leader["OUT"]
    smaller = replace(order, ticket=replace(order.ticket, quantity=75), status=OrderStatus.TRADED, filled_quantity=75)
    play.leader["OUT"] = smaller
    play.feed(
        OrderSeen(play.now, LEADER, replace(smaller, status=OrderStatus.MODIFIED, filled_quantity=0), Source.BOOK)
    )
    play.feed(OrderSeen(play.now, LEADER, smaller, Source.STREAM))
    play.waits(3)
    play.fills()
    play.waits(10)
    play.fills()

    assert play.leader_net() == 225
    assert play.lots() == 9


@pytest.mark.parametrize("late_exits", LateExits)
@pytest.mark.parametrize("again", [0, 4])
@pytest.mark.parametrize("out", [7, 14])
def test_slices_of_an_exit_beyond_the_calls_of_a_second_go_in_the_next(
    out: int, again: int, late_exits: LateExits
) -> None:
    """The leader's exit has filled meanwhile, and the leader may be in again."""
    play = Play(
        followers=(follower(ratio="2"),),
        row=instrument(freeze_quantity=76),
        rules=replace(SKIPS, late_exits=late_exits),
        fills_at_once=True,
    )
    for number in range(7):
        play.trades(f"IN{number}", 2)
        play.waits(5)
    assert play.lots() == 28
    play.trades("OUT", -out)
    if again:
        play.trades("F", again)
    settles(play)

    assert play.lots() == 28 - 2 * out + 2 * again
    assert sold(play) == 2 * out


def test_slices_of_an_exit_that_waited_while_nobody_looked_are_left_where_late_exits_are_skipped() -> None:
    play = Play(followers=(follower(ratio="2"),), row=instrument(freeze_quantity=76), rules=SKIPS, fills_at_once=True)
    for number in range(7):
        play.trades(f"IN{number}", 2)
        play.waits(5)
    play.fills_at_once = False
    play.places("OUT", ticket(Side.SELL, 14 * 75, "110"))
    made = len(play.of())
    for _ in range(250):
        play.state.accounts["asha"].budget.count(play.now)
    filled = replace(play.leader["OUT"], status=OrderStatus.TRADED, filled_quantity=14 * 75, updated_at=play.now)
    play.leader["OUT"] = filled
    play.now += timedelta(minutes=10)
    play.reads_leader_book()
    play.waits(60)

    assert len(play.of()) == made
