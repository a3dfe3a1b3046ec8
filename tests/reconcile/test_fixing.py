"""A plan that the operator ordered, in the engine: once, clamped, exits first, and never against the leader."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from copytrader.core.facts import (
    FixOrdered,
    Halted,
    InstrumentRead,
    NotSent,
    Place,
    Resumed,
    Started,
    TokenRefused,
    TokenRenewed,
    Verb,
)
from copytrader.core.model import (
    CopyRules,
    Desk,
    Limits,
    OrderStatus,
    OrderType,
    RefusalClass,
    Side,
    Ticket,
)
from tests.core.play import Play, follower, ticket
from tests.core.test_answers import refused


def order(play: Play, *lots: int, plan_id: str = "p1", cancels: tuple[str, ...] = (), limit: str = "") -> FixOrdered:
    """A plan of tickets, + buys, exits (against what is held) first."""
    tickets = tuple(_ticket(each * play.row.lot_size, limit) for each in lots)
    held = play.positions["asha"]
    exits = sum(1 for each in tickets if each.side.sign * held < 0)
    return FixOrdered(play.now, "asha", plan_id, tickets, cancels, exits, play.now)


def _ticket(quantity: int, limit: str) -> Ticket:
    side = Side.BUY if quantity > 0 else Side.SELL
    kind = OrderType.LIMIT if limit else OrderType.MARKET
    return ticket(side, abs(quantity), limit or "0", order_type=kind)


def missed(lots: int = 4, **changes: object) -> Play:
    """The leader has bought, and the follower was halted."""
    play = Play(**changes)  # type: ignore[arg-type]
    play.feed(Halted(play.now))
    play.trades("L1", lots)
    play.feed(Resumed(play.now))
    assert play.of() == []
    return play


def test_the_same_plan_ordered_twice_is_carried_out_once() -> None:
    play = missed()

    play.feed(order(play, 2))
    play.feed(order(play, 2))
    play.fills()
    play.feed(order(play, 2))

    assert [held.ticket.quantity for held in play.of()] == [150]
    assert len(play.of()[0].correlation_id) == 25


def test_what_a_plan_bought_is_due_and_no_sweep_undoes_it_but_the_leader_s_exit_closes_it() -> None:
    play = missed()
    play.feed(order(play, 2))
    play.fills()

    play.waits(30)
    assert play.lots() == 2
    play.trades("L2", -2)
    assert play.lots() == 1
    play.trades("L3", -2)
    play.waits(5)
    assert play.lots() == 0


def test_a_plan_s_exit_is_clamped_to_what_is_held_from_copying() -> None:
    play = Play()
    play.trades("L1", 4)
    play.positions["asha"] += 750

    play.feed(order(play, -3))
    play.fills()

    assert play.of()[-1].ticket == ticket(Side.SELL, 150, "0", order_type=OrderType.MARKET)
    assert play.positions["asha"] == 750


def test_an_exit_of_a_plan_never_opens_when_the_position_was_closed_meanwhile() -> None:
    play = Play()
    play.trades("L1", 4)
    late = order(play, -2)
    play.trades("L2", -4)
    assert play.lots() == 0

    play.feed(late)

    assert len(play.of()) == 2
    assert [skip.leader_order_id for skip in play.skips("NOTHING_TO_EXIT")] == ["fix-p1-0"]


def test_an_entry_of_a_plan_is_not_sent_when_the_leader_got_out_meanwhile() -> None:
    play = missed()
    late = order(play, 2)
    play.trades("L2", -4)

    play.feed(late)

    assert play.of() == []
    assert len(play.skips("STALE")) == 1


def test_a_resting_entry_of_a_plan_is_cancelled_when_the_leader_gets_out() -> None:
    play = missed()
    play.feed(order(play, 2, limit="90"))
    assert [held.is_open for held in play.of()] == [True]

    play.trades("L2", -4, fills=False)
    play.waits(1)

    assert [held.status for held in play.of()] == [OrderStatus.CANCELLED]


def test_entries_wait_for_the_plan_s_exits_and_exits_for_its_cancels() -> None:
    play = Play()
    play.trades("L1", 4)
    play.places("L2", ticket(quantity=300, price="90"))
    resting = play.of()[-1]
    plan = order(play, -2, cancels=(resting.order_id,))
    entry = replace(_ticket(75, ""), security=play.row.security)

    play.feed(replace(plan, tickets=(*plan.tickets, entry)))

    assert resting.status is OrderStatus.CANCELLED
    play.waits(0.5)
    assert [held.ticket.side for held in play.of()][2:] == [Side.SELL]
    play.fills()
    play.waits(0.5)
    assert [held.ticket.side for held in play.of()][2:] == [Side.SELL, Side.BUY]


def test_a_cancelled_entry_is_not_placed_again_by_the_copying() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.leader_fills("L1")
    (copy,) = play.of()

    play.feed(order(play, 2, cancels=(copy.order_id,)))
    play.waits(0.5)
    play.fills()
    play.waits(30)

    assert [held.status for held in play.of()] == [OrderStatus.CANCELLED, OrderStatus.TRADED]
    assert play.lots() == 2


def test_a_plan_is_void_after_a_minute_and_dies_with_the_process() -> None:
    play = missed()
    old = replace(order(play, 2), planned_at=play.now - timedelta(seconds=61))
    play.feed(old)
    assert play.of() == []
    assert [skip.reason for skip in play.skips("STALE")] == ["STALE"]

    play.state.accounts["asha"].ready = False
    play.feed(order(play, 2, plan_id="p2"))
    play.starts()
    play.waits(5)
    assert play.of() == []


def test_entries_of_a_plan_keep_the_limits_and_the_halt() -> None:
    play = missed(followers=(follower(limits=Limits(max_order_lots=1)),))
    play.feed(order(play, 2))
    assert play.of() == []
    assert len(play.skips("LIMIT_ORDER_LOTS")) >= 1

    play = missed()
    play.feed(Halted(play.now))
    play.feed(order(play, 2))
    assert play.of() == []


def test_a_plan_enters_nothing_of_which_the_multiplier_is_not_known() -> None:
    """What it is worth cannot be held against a limit."""
    play = missed()
    play.feed(InstrumentRead(play.now, replace(play.row, multiplier=None)))
    play.feed(order(play, 2))

    assert play.of() == []
    (skip,) = play.skips("UNKNOWN_INSTRUMENT")
    assert (skip.leader_order_id, skip.detail) == ("fix-p1-0", "the multiplier of NSE_FNO 45463 is not known")


def test_a_plan_waits_for_a_token_that_is_refused() -> None:
    play = missed()
    play.feed(TokenRefused(play.now, "asha", RefusalClass.TOKEN, "expired"))
    play.feed(order(play, 2))
    play.waits(10)
    assert play.of() == []

    play.feed(TokenRenewed(play.now, "asha"))
    play.waits(1)
    assert [held.ticket.quantity for held in play.of()] == [150]


def left_behind(lots: int) -> Play:
    """Of four lots the leader has got out of so many, and the follower's exits were refused."""
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 4)
    play.answer = refused(play, RefusalClass.OTHER, Place)
    play.trades("L2", -lots)
    play.waits(200)
    play.answer = None
    return play


def test_a_resting_exit_of_a_plan_goes_to_market_once_the_leader_is_out() -> None:
    """The follower's exit was refused; the plan's limit rests where the market does not come any more."""
    play = left_behind(2)
    play.feed(order(play, -2, limit="100"))
    play.waits(60)
    resting = play.of()[-1]
    assert (resting.is_open, resting.ticket.price) == (True, Decimal(100))

    play.places("L3", ticket(Side.SELL, 150, "0", order_type=OrderType.MARKET), last_price=Decimal(80))
    play.leader_fills("L3")

    assert resting.ticket.order_type is OrderType.MARKET
    play.waits(60)
    assert resting.ticket.price == Decimal("94.05")  # it rested, and was priced anew
    play.fills()
    assert play.lots() == 0


def test_a_plan_s_limit_stays_where_the_leader_was_out_before() -> None:
    play = left_behind(4)
    play.feed(order(play, -4, limit="104"))
    play.waits(60)

    assert (play.of()[-1].is_open, play.of()[-1].ticket.price) == (True, Decimal(104))


def test_the_slices_of_a_plan_count_together_against_a_limit() -> None:
    play = missed(8, followers=(follower(ratio="1", limits=Limits(max_position_lots=6)),))

    play.feed(order(play, 4, 4))
    play.fills()

    assert play.lots() == 4


def test_a_resting_entry_of_a_plan_counts_against_a_limit() -> None:
    play = missed(4, followers=(follower(ratio="1", limits=Limits(max_position_lots=6)),))
    play.feed(order(play, 4, limit="100"))
    play.places("L2", ticket(quantity=300))
    play.leader_fills("L2")
    play.fills()

    assert play.lots() == 4
    assert [skip.reason for skip in play.skips() if skip.leader_order_id == "L2"] == ["LIMIT_POSITION_LOTS"]


def test_the_entries_of_a_plan_keep_the_rate_of_entries() -> None:
    play = missed(8, followers=(follower(ratio="1", limits=Limits(max_orders_per_minute=2)),))

    play.feed(order(play, 2, 2, 2))

    assert len(play.of()) == 2


def test_a_halt_cancels_the_entries_of_a_plan() -> None:
    play = missed()
    play.feed(order(play, 2, limit="90"))

    play.feed(Halted(play.now))

    assert [held.status for held in play.of()] == [OrderStatus.CANCELLED]


def test_a_market_entry_that_rests_is_given_up_and_a_limit_rests() -> None:
    for limit, status in (("", OrderStatus.CANCELLED), ("90", OrderStatus.PENDING)):
        play = missed()
        play.feed(order(play, 2, limit=limit))

        play.waits(10)

        assert [held.status for held in play.of()] == [status]


def test_a_ticket_that_provably_never_left_is_sent_again_under_another_name() -> None:
    play = missed()
    names: list[str] = []

    def first_fails(command: object) -> NotSent | None:
        assert isinstance(command, Place)
        names.append(command.correlation_id)
        if len(names) > 1:
            return None
        return NotSent(play.now, "asha", command.correlation_id, Verb.PLACE, "no connection")

    play.answer = first_fails
    play.feed(order(play, 2))
    play.waits(2)

    assert len(names) == len(set(names)) == 2
    assert len(play.of()) == 1


def test_a_session_that_copies_nothing_cancels_and_carries_out_plans_and_no_more() -> None:
    play = Play()
    play.trades("L1", 4)
    play.places("L2", ticket(quantity=300, price="90"))
    resting = play.of()[-1]
    desk = Desk("1000000001", play.followers, CopyRules(enforce_hours=False))
    play.feed(Started(play.now, "test", "", desk, copying=False))
    play.reads_book("asha")
    play.places("L3", ticket(quantity=600, price="80"))
    play.cancels("L2")
    play.waits(10)
    assert resting.is_open
    assert len(play.of()) == 2

    play.feed(order(play, -1, cancels=(resting.order_id,)))
    play.waits(1)
    play.fills()

    assert [held.is_open for held in play.of()] == [False, False, False]
    assert play.lots() == 1


def test_a_copy_on_its_way_and_a_plan_for_the_rest_add_up_and_nothing_is_swept() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.feed(Halted(play.now))
    play.trades("L1", 2)
    play.feed(Resumed(play.now))
    play.places("L2", ticket(quantity=150, price="100"))
    play.leader_fills("L2")

    play.feed(order(play, 2))
    play.fills()
    play.waits(30)

    assert play.lots() == 4
    assert len(play.of()) == 2
