"""An exit closes what is held by all that is known: it does not wait for news that may never come."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from copytrader.core.facts import (
    Cancel,
    Command,
    Event,
    Halted,
    OrderSeen,
    Place,
    Refused,
    Role,
    Source,
    Throttled,
    Unanswered,
    Verb,
)
from copytrader.core.model import Limits, OrderStatus, OrderType, RefusalClass, Side, Ticket
from tests.core.play import D, Held, Play, follower, instrument, quiet, ticket


def market(side: Side) -> Ticket:
    return ticket(side, 150, "0", order_type=OrderType.MARKET)


def exits(play: Play) -> list[tuple[str, int]]:
    made = [each for each in play.decisions if isinstance(each, Place) and each.role is Role.EXIT]
    return [(each.leader_order_id, each.ticket.quantity) for each in made]


def under_way(play: Play, cancel: Cancel) -> Event:
    return quiet(play)


def refused(play: Play, cancel: Cancel) -> Event:
    return Refused(play.now, "asha", cancel.correlation_id, Verb.CANCEL, RefusalClass.OTHER, "DH-906", "it cannot be")


def throttled(play: Play, cancel: Cancel) -> Event:
    return Throttled(play.now, "asha", cancel.correlation_id, Verb.CANCEL)


@pytest.mark.parametrize("answer", [under_way, refused, throttled])
def test_an_exit_does_not_wait_for_the_cancel_of_an_entry(answer: Callable[[Play, Cancel], Event]) -> None:
    """Whoever takes all resting orders back and gets out at market is not to wait for the cancels."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2)
    play.places("L2", ticket(Side.SELL, 450, "110"))  # would turn the position
    play.answer = lambda command: answer(play, command) if isinstance(command, Cancel) else None
    play.cancels("L2")
    play.waits(3)

    play.places("L3", market(Side.SELL))
    play.leader_fills("L3")

    assert exits(play)[-1] == ("L3", 150)


def test_an_exit_does_not_wait_for_an_entry_that_nobody_knows() -> None:
    play = Play(followers=(follower(ratio="1"),))

    def answer(command: Command) -> Event | None:
        if isinstance(command, Place) and command.leader_order_id == "L1":
            return Unanswered(play.now, "asha", command.correlation_id, Verb.PLACE)
        return None

    play.answer = answer
    play.places("L1", market(Side.SELL))
    play.leader_fills("L1")
    play.places("L2", market(Side.BUY))
    play.leader_fills("L2")
    play.waits(5)
    play.trades("L3", 2)
    play.places("L4", market(Side.SELL))

    assert exits(play)[-1] == ("L4", 150)


def trades_unheard(play: Play, held: Held) -> Event:
    """Let an order of the follower's trade, and keep the news back."""
    held.filled, held.status, held.updated = held.ticket.quantity, OrderStatus.TRADED, play.now
    play.positions["asha"] += held.ticket.side.sign * held.filled
    return OrderSeen(play.now, "asha", held.seen(), Source.STREAM)


@pytest.mark.parametrize("entry_first", [False, True])
def test_an_entry_heard_of_only_after_the_leader_has_turned_leaves_nothing_out(entry_first: bool) -> None:
    """The order that turns is sized by what is known to be held: nothing.  Both fill, and close each other."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2, fills=False)
    news = trades_unheard(play, play.of()[-1])
    play.trades("L2", -4, fills=False)
    turned = trades_unheard(play, play.of()[-1])
    for each in (news, turned) if entry_first else (turned, news):
        play.feed(each)
    play.waits(1)
    play.fills()

    assert (play.leader_net(), play.lots()) == (-150, -2)
    play.waits(10)
    assert (play.lots(), len(play.of()), play.alerts()) == (-2, 3, [])


def test_what_an_entry_heard_of_late_has_closed_is_opened_again_though_nobody_looked_at_it_any_more() -> None:
    """The order that turned had filled at both, and was let go; the entry's cancel is not answered."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2, fills=False)
    news = trades_unheard(play, play.of()[-1])
    play.answer = lambda command: quiet(play) if isinstance(command, Cancel) else None
    play.trades("L2", -4, fills=False)
    play.feed(trades_unheard(play, play.of()[-1]))
    play.waits(1)
    assert [list(holding.active) for holding in play.state.holdings.values()] == [["L1"]]
    play.feed(news)
    play.fills()
    play.waits(10)

    assert (play.leader_net(), play.lots()) == (-150, -2)
    assert (len(play.of()), play.alerts()) == (3, [])


def test_an_entry_heard_of_much_later_opens_nothing_more_and_is_said() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.answer = lambda command: Unanswered(play.now, "asha", command.correlation_id, Verb.PLACE)
    play.trades("L1", 2, fills=False)
    play.answer = None
    lost = next(each for each in play.decisions if isinstance(each, Place))
    play.trades("L2", -4)
    play.waits(70)
    news = trades_unheard(play, play.takes(lost))
    play.feed(news)
    play.waits(10)

    assert play.lots() == 0
    assert any("150 fewer are held than are due" in each.text for each in play.alerts())


@pytest.mark.parametrize("limit", [False, True])
def test_the_leader_s_own_fill_that_is_not_heard_opens_nothing_again(limit: bool) -> None:
    """The follower is right already: only what the leader is thought to have is behind."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2)
    play.places("L2", ticket(Side.BUY, 150, "99") if limit else market(Side.BUY))
    play.fills()
    play.waits(1)
    play.places("L3", ticket(Side.SELL, 600, "0", order_type=OrderType.MARKET))
    play.leader_fills("L3")
    play.fills()
    play.waits(1)
    play.fills()

    assert play.lots() == -4
    play.leader_fills("L2")
    play.waits(5)
    play.fills()
    assert (play.leader_net(), play.lots()) == (-300, -4)
    assert len(play.of()) == 3


@pytest.mark.parametrize("stop", ["halt", "loss"])
def test_what_an_entry_heard_of_late_has_closed_is_not_opened_again_once_entries_have_stopped(stop: str) -> None:
    limits = Limits(max_daily_loss=D(1)) if stop == "loss" else Limits()
    play = Play(followers=(follower(ratio="1", limits=limits),))
    play.trades("L1", 2, fills=False)
    news = trades_unheard(play, play.of()[-1])
    play.trades("L2", -4, fills=False)
    turned = trades_unheard(play, play.of()[-1])
    if stop == "halt":
        play.feed(Halted(play.now, "asha"))
    else:
        account = play.state.accounts["asha"]
        account.loss_day, account.loss = play.now.date(), D(2)
    play.feed(turned)
    play.feed(news)
    play.waits(10)
    play.fills()

    assert play.lots() == 0
    assert len(play.of()) == 2
    assert any("150 fewer are held than are due" in each.text for each in play.alerts())


def bid_filled_before_a_turn(held: int = 0, limits: Limits | None = None) -> Play:
    """The leader goes short while its bid works; what the follower sells then closes what it has bought."""
    play = Play(followers=(follower(ratio="1", limits=limits or Limits()),))
    if held:
        play.trades("L0", held)
    play.places("L1", ticket(Side.BUY, 300, "98"))
    play.fills()
    play.waits(1)
    play.trades("L2", -4 - held)
    assert (play.leader_net(), play.lots()) == (-300, 0)
    return play


def lacking(play: Play) -> list[str]:
    return [each.text for each in play.alerts() if "fewer are held than are due" in each.text]


@pytest.mark.parametrize("held", [0, 2])
def test_what_a_bid_has_closed_that_only_the_follower_has_filled_is_opened_again_when_it_is_cancelled(
    held: int,
) -> None:
    play = bid_filled_before_a_turn(held)
    before = len(play.of())
    play.cancels("L1")
    play.fills()
    assert play.lots() == -4

    play.waits(60)
    play.reads_leader_book()
    play.reads_book("asha")
    assert (play.lots(), len(play.of()) - before, play.alerts()) == (-4, 1, [])
    play.trades("L3", 4)
    assert play.lots() == 0


def test_of_a_bid_that_the_leader_has_filled_in_part_the_rest_is_opened_again() -> None:
    play = bid_filled_before_a_turn()
    play.leader_fills("L1", 75)
    play.cancels("L1")
    play.fills()
    play.waits(5)

    assert (play.leader_net(), play.lots(), lacking(play)) == (-225, -3, [])


def test_what_waits_for_its_turn_when_a_bid_is_cancelled_is_not_opened_twice() -> None:
    play = Play(followers=(follower(ratio="1"),), row=instrument(freeze_quantity=75))
    play.places("L1", ticket(Side.BUY, 300, "98"))
    play.fills()
    play.waits(1)
    play.trades("L2", -12)
    assert len(play.of()) < 4 + 12
    play.cancels("L1")
    for _ in range(8):
        play.fills()
        play.waits(1)

    assert (play.leader_net(), play.lots()) == (-900, -12)
    assert len(play.of()) == 4 + 12 + 4


def test_what_a_bid_has_closed_of_an_order_that_is_over_itself_is_said() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.places("L1", ticket(Side.BUY, 150, "98"))
    play.fills()
    play.places("L2", ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    play.fills_follower(play.of()[-1], 150)
    play.drain()
    play.leader_fills("L2", 150)
    play.cancels("L2")
    assert (play.leader_net(), play.lots()) == (-150, 0)

    play.cancels("L1")
    play.waits(5)
    assert (play.lots(), len(lacking(play))) == (0, 1)


def test_a_bid_that_the_leader_fills_after_all_opens_nothing_again() -> None:
    play = bid_filled_before_a_turn()
    play.leader_fills("L1")
    play.waits(5)

    assert (play.leader_net(), play.lots(), len(play.of()), play.alerts()) == (0, 0, 2, [])


def test_what_such_a_bid_has_closed_stays_closed_when_it_is_cancelled_much_later_and_that_is_said() -> None:
    play = bid_filled_before_a_turn()
    play.waits(60)
    play.cancels("L1")
    play.waits(10)
    play.reads_leader_book()

    assert (play.lots(), len(play.of())) == (0, 2)
    [said] = lacking(play)
    assert "L1 is over, and what had filled of its copy has closed what opened since, and 300 fewer are held" in said


@pytest.mark.parametrize("stop", ["halt", "loss"])
def test_what_such_a_bid_has_closed_is_not_opened_again_once_entries_have_stopped(stop: str) -> None:
    play = bid_filled_before_a_turn(limits=Limits(max_daily_loss=D(1000)))
    if stop == "halt":
        play.feed(Halted(play.now, "asha"))
    else:
        account = play.state.accounts["asha"]
        account.loss_day, account.loss = play.now.date(), D(2000)
    play.cancels("L1")
    play.waits(10)
    play.fills()

    assert (play.lots(), len(play.of()), len(lacking(play))) == (0, 2, 1)


def test_a_bid_that_only_the_follower_has_filled_is_closed_and_nothing_is_said_where_the_leader_has_not_turned() -> (
    None
):
    play = Play(followers=(follower(ratio="1"),))
    play.places("L1", ticket(Side.BUY, 300, "98"))
    play.fills()
    play.cancels("L1")
    play.waits(3)
    play.fills()

    assert (play.lots(), lacking(play)) == (0, [])


def test_what_was_refused_of_another_entry_is_not_made_up_for_when_a_bid_is_cancelled() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.answer = lambda command: Refused(
        play.now, "asha", command.correlation_id, Verb.PLACE, RefusalClass.MARGIN, "DH-906", "no funds"
    )
    play.trades("L1", 4)
    play.answer = None
    play.trades("L2", 2)
    play.places("L3", ticket(Side.BUY, 300, "98"))
    play.fills()
    play.cancels("L3")
    play.waits(5)
    play.fills()

    assert lacking(play) == []
    assert sum(each.filled for each in play.of() if each.ticket.side is Side.BUY) == 450
