"""An entry whose leader order is over may have filled unheard: what that closes, no exit closes again."""

from __future__ import annotations

from copytrader.core.facts import Cancel, Command, Event, Place, Refused, Role, Verb
from copytrader.core.model import OrderStatus, OrderType, RefusalClass, Side
from tests.core.play import Held, Play, follower, quiet, ticket


def refuses_cancels(play: Play) -> None:
    def answer(command: Command) -> Event | None:
        if isinstance(command, Cancel):
            return Refused(
                play.now, "asha", command.correlation_id, Verb.CANCEL, RefusalClass.OTHER, "DH-906", "it cannot be"
            )
        return None

    play.answer = answer


def through_zero() -> tuple[Play, Held]:
    """The leader went from long to short; the copy of its entry, not heard of since, is there still."""
    play = Play(followers=(follower(ratio="1.5"),))
    play.places("L1")
    [entry] = play.of()
    play.leader_fills("L1")
    refuses_cancels(play)
    play.places("L2", ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET))
    play.leader_fills("L2")
    [_, short] = play.of()
    play.fills_follower(short, short.ticket.quantity)
    play.drain()
    assert entry.is_open
    assert short.ticket.quantity == 225
    return play, entry


def exits(play: Play) -> list[Place]:
    return [each for each in play.decisions if isinstance(each, Place) and each.role is Role.EXIT]


def test_an_exit_waits_for_an_entry_that_may_have_closed_already() -> None:
    play, entry = through_zero()
    play.places("L3", ticket(Side.BUY, 75, "98"))

    assert exits(play) == []

    play.fills_follower(entry, 225)  # as it had, unheard
    play.drain()
    play.waits(10)
    assert play.lots() == 0
    assert exits(play) == []
    assert [skip.leader_order_id for skip in play.skips("NOTHING_TO_EXIT")] == ["L3"]


def test_the_exit_goes_once_the_entry_is_known_not_to_have_filled() -> None:
    play, entry = through_zero()
    play.places("L3", ticket(Side.BUY, 150, "98"))
    play.answer = None

    play.dies(entry, OrderStatus.CANCELLED)

    [exit_] = exits(play)
    assert (exit_.leader_order_id, exit_.ticket.quantity) == ("L3", 225)
    assert play.skips() == []


def test_an_exit_does_not_wait_for_the_cancel_of_an_entry_that_was_seen_to_work() -> None:
    """Whoever takes all resting orders back and gets out at market is not to wait for the cancels."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2)
    play.places("L2", ticket(Side.SELL, 450, "110"))  # would turn the position
    play.answer = lambda command: quiet(play) if isinstance(command, Cancel) else None
    play.cancels("L2")

    play.places("L3", ticket(Side.SELL, 150, "0", order_type=OrderType.MARKET))

    assert [(each.leader_order_id, each.ticket.quantity) for each in exits(play)][-1] == ("L3", 150)
