"""Where late exits are off, what the leader got out of while nobody looked stays, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from copytrader.core.facts import (
    Adopted,
    Cancel,
    Command,
    Event,
    Fact,
    Halted,
    InstrumentRead,
    NotSent,
    Place,
    Refused,
    Resumed,
    Started,
    Verb,
)
from copytrader.core.fold import recall
from copytrader.core.model import (
    CopyRules,
    Desk,
    Filter,
    LateExits,
    Order,
    OrderStatus,
    OrderType,
    Product,
    RefusalClass,
    Side,
)
from copytrader.core.names import correlation_id
from tests.core.play import D, Held, Play, follower, ticket
from tests.core.test_left_overnight import ENTRY, next_day, trades

ONE = follower(ratio="1")
SKIPS = CopyRules(enforce_hours=False, late_exits=LateExits.SKIP)
STOP = ticket(Side.SELL, 300, "79", order_type=OrderType.STOP_LOSS, trigger_price=D(80))


class Recorded(Play):
    """Keeps every fact with its time, so that the process can die."""

    def __post_init__(self) -> None:
        self.facts: list[tuple[Fact, datetime]] = []
        super().__post_init__()

    def decide(self, event: Event) -> list[object]:  # type: ignore[override]
        made = super().decide(event)
        self.facts += [(event, event.at), *((each, event.at) for each in made)]
        return list(made)

    def restarts(self, rules: CopyRules | None = None) -> None:
        self.state = recall(self.facts)
        self.rules = rules or self.rules
        self.starts()
        self.settles()

    def settles(self) -> None:
        """What trades at once at 100 fills, the rest stays; books are read."""
        for _ in range(4):
            self.waits(4)
            for each in list(self.orders.values()):
                if each.is_open and crosses(each):
                    self.fills_follower(each, each.ticket.quantity - each.filled)
            self.drain()
            for one in self.followers:
                self.reads_book(one.name)
            self.reads_leader_book()

    def gets_out_unheard(self, order_id: str, lots: int, seconds: float = 60) -> None:
        """The leader sells at market; its book is read so many seconds later."""
        out = ticket(Side.SELL, lots * 75, "0", order_type=OrderType.MARKET)
        self.leader[order_id] = Order(
            order_id, out, OrderStatus.TRADED, self.now, self.now, lots * 75, D(100), last_price=D(100)
        )
        self.now += timedelta(seconds=seconds)
        self.reads_leader_book()
        self.settles()

    def fills_unheard(self, order_id: str, seconds: float = 60) -> None:
        """An order of the leader's that was known fills; its book is read so many seconds later."""
        order = self.leader[order_id]
        self.leader[order_id] = replace(
            order, status=OrderStatus.TRADED, filled_quantity=order.ticket.quantity, updated_at=self.now
        )
        self.now += timedelta(seconds=seconds)
        self.reads_leader_book()
        self.settles()


def crosses(held: Held) -> bool:
    terms = held.ticket
    is_limit = terms.order_type is OrderType.LIMIT and (terms.price - 100) * terms.side.sign >= 0
    return is_limit or terms.order_type is OrderType.MARKET


def plays(late_exits: LateExits = LateExits.SKIP, **changes: object) -> Recorded:
    rules = replace(SKIPS, late_exits=late_exits)
    return Recorded(**{"followers": (ONE,), "rules": rules} | changes)  # type: ignore[arg-type]


def holds(play: Play) -> int:
    """Units that are held and that no open order of ours closes."""
    working = sum(each.ticket.side.sign * (each.ticket.quantity - each.filled) for each in play.of() if each.is_open)
    return play.positions["asha"] + working


def sweeps(play: Play) -> list[int]:
    return [each.ticket.quantity for each in play.decisions if isinstance(each, Place) and each.sweep]


def left_said(play: Play) -> int:
    return sum("the leader is out, and late exits are off" in each.text for each in play.alerts())


# --- what is closed whatever late exits are ---------------------------------------------------------


def cancelled_by_a_halt(play: Recorded) -> None:
    play.trades("IN", 4)
    play.places("STOP", STOP)
    play.feed(Halted(play.now, "asha"))
    play.leader_fills("STOP")


def fills_while_cancelled(play: Recorded) -> None:
    fills_when_it_is_cancelled(play, "IN", 4)


def fills_when_it_is_cancelled(play: Recorded, order_id: str, lots: int) -> None:
    """An entry of which the leader's is cancelled, and the copy fills while it is."""
    play.places(order_id, ticket(quantity=lots * 75, price="90"))
    entry = play.of()[-1]
    play.answer = lambda command: _fills_instead(play, entry, command)
    play.cancels(order_id)


def _fills_instead(play: Play, held: Held, command: Command) -> Event | None:
    if not isinstance(command, Cancel) or not held.is_open:
        return None
    play.fills_follower(held, held.ticket.quantity)
    return Refused(
        play.now, held.account, held.correlation_id, Verb.CANCEL, RefusalClass.ENDED, "DH-906", "order has ended"
    )


def rejected_at_the_leader(play: Recorded) -> None:
    play.places("IN", ticket(quantity=300))
    play.fills()
    play.leader["IN"] = replace(play.leader["IN"], status=OrderStatus.REJECTED, updated_at=play.now)
    play.reads_leader_book()


def refused_once(play: Recorded) -> None:
    play.trades("IN", 4)
    refusals = iter(range(100))
    play.answer = lambda command: (
        Refused(play.now, "asha", command.correlation_id, Verb.PLACE, RefusalClass.OTHER, "DH-905", "Invalid")
        if isinstance(command, Place) and next(refusals) == 0
        else None
    )
    play.trades("OUT", -4, fills=False)


def stop_fills_beside_a_market_exit(play: Recorded) -> None:
    play.trades("IN", 4)
    play.places("STOP", STOP)
    stop = play.of()[-1]
    play.answer = lambda command: _fills_instead(play, stop, command)
    play.trades("OUT", -4, fills=False)
    play.settles()
    play.cancels("STOP")


def reversal_that_never_leaves(play: Recorded) -> None:
    play.trades("IN", 4)
    since = play.now
    play.answer = lambda command: (
        NotSent(play.now, "asha", command.correlation_id, Verb.PLACE)
        if isinstance(command, Place) and play.now < since + timedelta(seconds=12)
        else None
    )
    play.trades("OVER", -8, fills=False)
    play.waits(15)


def reversal_that_is_filtered(play: Recorded) -> None:
    play.followers = (replace(ONE, filter=Filter(sides=(Side.BUY,))),)
    play.starts()
    play.trades("IN", 4)
    failures = iter(range(100))
    play.answer = lambda command: (
        NotSent(play.now, "asha", command.correlation_id, Verb.PLACE)
        if isinstance(command, Place) and next(failures) == 0
        else None
    )
    play.trades("OVER", -8, fills=False)


def out_before_the_entry_is_told(play: Recorded) -> None:
    play.trades("IN", 6, fills=False)
    entry = play.of()[0]
    play.answer = lambda command: _fills_instead(play, entry, command)
    play.now += timedelta(seconds=0.1)
    play.trades("OUT", -6, fills=False)


def cancelled_by_hand(play: Recorded) -> None:
    play.trades("IN", 4)
    play.places("STOP", STOP)
    play.dies(play.of()[-1])
    play.waits(5)
    play.leader_fills("STOP")


@pytest.mark.parametrize("late_exits", LateExits)
@pytest.mark.parametrize(
    "happens",
    [
        cancelled_by_a_halt,
        fills_while_cancelled,
        rejected_at_the_leader,
        refused_once,
        stop_fills_beside_a_market_exit,
        reversal_that_never_leaves,
        reversal_that_is_filtered,
        out_before_the_entry_is_told,
        cancelled_by_hand,
    ],
)
def test_what_was_heard_of_is_closed_whatever_late_exits_are(
    happens: Callable[[Recorded], None], late_exits: LateExits
) -> None:
    play = plays(late_exits)
    happens(play)
    play.settles()

    assert (play.lots(), holds(play), left_said(play)) == (0, 0, 0)


# --- what stays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [9, 12])
def test_late_is_what_is_heard_of_after_max_age_seconds(heard: int) -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("OUT", 4, heard)

    assert play.lots() == (0 if heard == 9 else 4)


def test_what_is_left_is_said_once_and_after_a_start_again() -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("OUT", 4)
    assert (play.lots(), left_said(play)) == (4, 1)

    play.restarts()

    assert (play.lots(), left_said(play), sweeps(play)) == (4, 2, [])
    assert "holds 300 of which the leader is out, and late exits are off: close it by hand" in play.alerts()[-1].text


def test_what_the_leader_gets_out_of_while_the_process_is_down_is_left() -> None:
    play = plays()
    play.trades("IN", 4)
    play.trades("PART", -1)
    out = ticket(Side.SELL, 225, "0", order_type=OrderType.MARKET)
    play.leader["OUT"] = Order("OUT", out, OrderStatus.TRADED, play.now, play.now, 225, D(100))
    play.now += timedelta(minutes=5)
    play.restarts()

    assert (play.lots(), sweeps(play)) == (3, [])


def test_what_only_positions_tell_is_left() -> None:
    play = plays()
    play.trades("IN", 4)
    play.held_before -= 150
    for _ in range(3):
        play.reads_leader_book()
        play.settles()

    assert (play.lots(), left_said(play), sweeps(play)) == (4, 1, [])


def test_what_is_left_hides_nothing_else_that_is_held_too_much() -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("OUT", 4)
    fills_when_it_is_cancelled(play, "MORE", 3)
    play.settles()

    assert (play.lots(), sweeps(play)) == (4, [225])


def test_the_next_exit_that_is_heard_takes_what_is_left_too() -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("PART", 2)
    assert play.lots() == 4
    play.trades("OUT", -2)
    play.settles()

    assert play.lots() == 0


def test_the_next_exit_is_tried_again_with_what_is_left() -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("PART", 2)
    refusals = iter(range(100))
    play.answer = lambda command: (
        Refused(play.now, "asha", command.correlation_id, Verb.PLACE, RefusalClass.OTHER, "DH-905", "Invalid")
        if isinstance(command, Place) and next(refusals) == 0
        else None
    )
    play.trades("OUT", -2, fills=False)
    play.settles()

    assert (play.lots(), sweeps(play)) == (0, [300])


def test_a_part_of_the_rest_takes_the_same_part_of_what_is_left() -> None:
    play = plays()
    play.trades("IN", 8)
    play.gets_out_unheard("HALF", 4)
    play.trades("PART", -2)
    play.settles()

    assert (play.lots(), sweeps(play)) == (4, [])


@pytest.mark.parametrize("out", [2, 4])
def test_what_the_person_closes_is_of_what_is_left_first(out: int) -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("OUT", out)
    play.trades_by_hand(-out)
    fills_when_it_is_cancelled(play, "MORE", 3)
    play.settles()

    assert (play.lots(), sweeps(play)) == (4 - out, [225])


def test_an_entry_that_is_told_after_the_leader_got_out_unheard_is_left_too() -> None:
    """Which of two accounts is read first after a gap changes nothing."""
    play = plays()
    play.trades("IN", 4, fills=False)
    entry = play.of()[0]
    out = ticket(Side.SELL, 300, "0", order_type=OrderType.MARKET)
    play.leader["OUT"] = Order("OUT", out, OrderStatus.TRADED, play.now, play.now, 300, D(100))
    entry.filled, entry.status, entry.average = 300, OrderStatus.TRADED, D(100)
    play.positions["asha"] = 300
    play.now += timedelta(minutes=1)
    play.reads_leader_book()
    play.reads_book("asha")
    play.settles()

    assert (play.lots(), sweeps(play)) == (4, [])


def test_an_entry_that_never_came_is_not_left_for_another() -> None:
    play = plays()
    play.places("IN", ticket(quantity=300, price="90"))
    play.leader_fills("IN")
    play.gets_out_unheard("OUT", 4)
    fills_when_it_is_cancelled(play, "MORE", 3)
    play.settles()

    assert (play.lots(), sweeps(play)) == (0, [225])


def test_what_is_less_than_a_lot_stays_with_what_is_left() -> None:
    play = plays(followers=(follower(ratio="0.3"),))
    play.trades("IN", 10)
    play.trades("PART", -1)
    assert play.lots() == 3
    play.gets_out_unheard("OUT", 9)

    assert (play.lots(), sweeps(play)) == (3, [])
    assert "holds 225 of which the leader is out" in play.alerts()[-1].text


def test_an_exit_that_a_halt_had_cancelled_is_left_where_the_leader_s_fills_unheard() -> None:
    play = plays()
    play.trades("IN", 4)
    play.places("STOP", STOP)
    play.feed(Halted(play.now, "asha"))
    play.fills_unheard("STOP")

    assert (play.lots(), sweeps(play)) == (4, [])


def test_a_resting_exit_of_which_the_leader_s_filled_unheard_leaves_it_to_nobody_else() -> None:
    """It may still find its price; when it is cancelled by hand, nothing is sold in its place."""
    play = plays()
    play.trades("IN", 4)
    play.places("OUT", ticket(Side.SELL, 300, "110"))
    play.fills_unheard("OUT")
    assert (holds(play), left_said(play)) == (0, 0)
    play.fills_follower(play.of()[-1], 150)
    play.drain()
    play.dies(play.of()[-1])
    play.settles()

    assert (play.lots(), sweeps(play), left_said(play)) == (2, [], 1)


def test_what_is_left_is_closed_once_late_exits_are_on() -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("OUT", 4)
    play.restarts(replace(SKIPS, late_exits=LateExits.MARKET))

    assert play.lots() == 0


@pytest.mark.parametrize("out", [2, 4])
def test_flatten_closes_what_is_left(out: int) -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("OUT", out)
    play.feed(Halted(play.now, "asha", flatten=True))
    play.settles()

    assert play.lots() == 0
    play.feed(Resumed(play.now))
    fills_when_it_is_cancelled(play, "MORE", 3)
    play.settles()
    assert play.lots() == 4 - out


def test_what_is_left_is_no_less_for_an_entry_on_the_other_side_that_never_came() -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("OUT", 4)
    play.places("SHORT", ticket(Side.SELL, 300, "110"))
    play.leader_fills("SHORT")
    back = ticket(Side.BUY, 300, "0", order_type=OrderType.MARKET)
    play.leader["BACK"] = Order("BACK", back, OrderStatus.TRADED, play.now, play.now, 300, D(100))
    play.now += timedelta(minutes=1)
    play.reads_leader_book()
    play.settles()

    assert (play.lots(), sweeps(play)) == (4, [])


@pytest.mark.parametrize("leader_first", [True, False])
@pytest.mark.parametrize(("late_exits", "left"), [(LateExits.SKIP, 2), (LateExits.MARKET, 0)])
def test_what_is_adopted_when_the_leader_is_out_is_left(
    late_exits: LateExits, left: int, *, leader_first: bool
) -> None:
    """The journal was lost."""
    play = plays(late_exits, begin=False)
    play.feed(Started(play.now, "test", "", Desk("1000000001", play.followers, play.rules)))
    play.feed(InstrumentRead(play.now, play.row))
    name = correlation_id("1000000001", play.now.date(), "IN", ONE.client_id, 0, 0)
    held = Held("F1", "asha", name, ticket(quantity=150), OrderStatus.TRADED, 150, D(100))
    play.orders["F1"], play.positions["asha"] = held, 150
    for order_id, side in (("IN", Side.BUY), ("OUT", Side.SELL)):
        play.leader[order_id] = Order(
            order_id, ticket(side), OrderStatus.TRADED, play.now, play.now, 150, D(100), last_price=D(100)
        )
    if leader_first:
        play.reads_leader_book()
    play.feed(Adopted(play.now, "asha", (held.seen(),)))
    play.settles()

    assert play.lots() == left


# --- what rests at its price -------------------------------------------------------------------------------


def test_an_order_through_zero_that_rests_keeps_its_exit() -> None:
    play = plays()
    play.trades("IN", 2)
    play.places("OVER", ticket(Side.SELL, 300, "104"))
    play.leader_fills("OVER")
    play.settles()

    assert (play.lots(), [each.is_open for each in play.of()], sweeps(play)) == (2, [False, True], [])


@pytest.mark.parametrize(("order_type", "closed"), [(OrderType.LIMIT, []), (OrderType.MARKET, [300])])
def test_an_exit_that_does_not_find_its_price_all_day_is_not_made_good_the_next(
    order_type: OrderType, closed: list[int]
) -> None:
    """One that was at market was to go at any price."""
    play = plays()
    trades(play, "IN", ENTRY)
    price = "0" if order_type is OrderType.MARKET else "110"
    play.places("OUT", ticket(Side.SELL, 300, price, order_type=order_type, product=Product.MARGIN))
    play.leader_fills("OUT")
    play.waits(30)
    next_day(play, leader=0, asha=300)
    play.waits(30)

    assert (play.positions["asha"], sweeps(play)) == (300, closed)
    assert left_said(play) == (1 if not closed else 0)


def test_what_was_left_of_a_day_is_forgotten_with_it() -> None:
    play = plays()
    play.trades("IN", 4)
    play.gets_out_unheard("OUT", 4)
    play.leader.clear()
    play.orders.clear()
    play.positions["asha"] = 0
    play.now += timedelta(days=1)
    play.starts()
    fills_when_it_is_cancelled(play, "MORE", 3)
    play.settles()

    assert (play.lots(), sweeps(play)) == (0, [225])
