"""Events in, decisions out: the rules of copying, one at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from copytrader.core.facts import Accepted, Cancel, Modify, OrderSeen, Place, Refused, Skip, Source, Verb
from copytrader.core.model import (
    LEADER,
    CopyRules,
    Filter,
    Funds,
    Limits,
    Order,
    OrderKind,
    OrderStatus,
    OrderType,
    Product,
    RefusalClass,
    Side,
    Sizing,
    SizingMode,
    Validity,
)
from tests.core.play import NIFTY, D, Play, follower, instrument, kinds, quiet, ticket


def test_a_working_order_is_placed_once_in_the_follower_s_size() -> None:
    play = Play()

    play.places("L1")
    play.feed(play.events[-3])

    (held,) = play.of()
    assert held.ticket == ticket(quantity=75)
    assert held.correlation_id.startswith("ct1-")
    assert len(held.correlation_id) == 25


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([1, 1, 1, -3], [0, 1, 1, 0]),
        ([5, -2, -3], [2, 1, 0]),
        ([4, -4], [2, 0]),
        ([4, -6], [2, -1]),
        ([-4, 4], [-2, 0]),
        ([3, 3, -6], [1, 3, 0]),
        ([2, -1, -1], [1, 0, 0]),
    ],
)
def test_entries_are_rounded_down_with_carry_and_exits_by_fraction(steps: list[int], expected: list[int]) -> None:
    play = Play()
    seen = []
    for number, lots in enumerate(steps):
        play.trades(f"L{number}", lots)
        seen.append(play.lots())

    assert seen == expected


def test_what_the_leader_held_before_counts_in_the_fraction_only() -> None:
    play = Play(held_before=750)

    play.trades("L1", 4)
    assert play.lots() == 2
    play.trades("L2", -14)
    assert play.lots() == 0


def test_closing_what_was_held_before_gives_the_follower_nothing_to_exit() -> None:
    play = Play(held_before=750)

    play.trades("L1", -5)

    assert play.of() == []
    assert [each.reason for each in play.skips()] == ["NOTHING_TO_EXIT"]


def test_a_stop_loss_and_a_target_both_rest_and_one_cancels_the_other() -> None:
    play = Play()
    play.trades("L1", 4)
    stop = ticket(Side.SELL, 300, "90", order_type=OrderType.STOP_LOSS, trigger_price=D("90.5"))
    play.places("STOP", stop)
    play.places("TARGET", ticket(Side.SELL, 300, "120"))
    assert [each.ticket.quantity for each in play.of()[1:]] == [150, 150]

    play.leader_fills("TARGET")
    play.fills_follower(play.of()[2], 150)
    play.drain()
    play.cancels("STOP")

    assert play.lots() == 0
    assert [each.status for each in play.of()[1:]] == [OrderStatus.CANCELLED, OrderStatus.TRADED]


def test_a_rejected_entry_leaves_nothing_to_exit() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.rejects(play.of()[0])
    play.leader_fills("L1")

    play.trades("L2", -4)

    assert play.lots() == 0
    assert len(play.of()) == 1
    assert [each.reason for each in play.skips()] == ["INSUFFICIENT_MARGIN", "NOTHING_TO_EXIT"]


def test_a_modification_is_followed_with_the_new_total() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.modifies("L1", price=D("101.5"), quantity=450)

    (held,) = play.of()
    assert (held.ticket.quantity, held.ticket.price) == (225, D("101.5"))


def test_modifications_while_one_is_in_flight_become_one() -> None:
    play = Play()
    play.places("L1")
    play.answer = lambda command: quiet(play)
    for price in ("101", "102", "103"):
        play.modifies("L1", price=D(price))
    first = [each for each in play.decisions if isinstance(each, Modify)]
    play.answer = None
    play.feed(Accepted(play.now, "asha", first[0].correlation_id, Verb.MODIFY, "F1"))

    assert len(first) == 1
    assert [each.ticket.price for each in play.decisions if isinstance(each, Modify)] == [D(101), D(103)]


def test_a_refused_modification_frame_moves_nothing() -> None:
    play = Play()
    play.places("L1")
    wrong = replace(
        play.leader["L1"], status=OrderStatus.MOD_REJECTED, ticket=ticket(price="198.35"), updated_at=play.now
    )

    assert kinds(play.feed(OrderSeen(play.now, LEADER, wrong, Source.STREAM))) == []


def test_a_trigger_moves_nothing() -> None:
    play = Play()
    play.trades("L1", 4)
    stop = ticket(Side.SELL, 300, "90", order_type=OrderType.STOP_LOSS, trigger_price=D("90.5"))
    play.places("STOP", stop)
    triggered = replace(play.leader["STOP"], status=OrderStatus.TRIGGERED, ticket=ticket(Side.SELL, 300, "90"))

    play.feed(OrderSeen(play.now, LEADER, triggered, Source.STREAM))

    assert play.of()[-1].ticket.order_type is OrderType.STOP_LOSS
    assert not [each for each in play.decisions if isinstance(each, Modify)]


def test_a_cancel_is_followed_until_the_broker_says_closed() -> None:
    play = Play()
    play.places("L1")
    play.answer = lambda command: quiet(play) if isinstance(command, Cancel) else None
    play.cancels("L1")
    assert play.of()[0].is_open
    play.answer = None
    held = play.of()[0]
    play.feed(Refused(play.now, "asha", held.correlation_id, Verb.CANCEL, RefusalClass.TRANSIT, "DH-906", "transit"))
    play.waits(5)

    assert held.status is OrderStatus.CANCELLED


def test_the_leader_s_exit_cancels_an_unfilled_entry() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.leader_fills("L1")
    assert play.of()[0].is_open

    play.trades("L2", -4, fills=False)

    assert play.of()[0].status is OrderStatus.CANCELLED
    assert play.lots() == 0
    assert len(play.of()) == 1


def test_a_copy_that_filled_although_the_leader_s_order_died_is_closed_again() -> None:
    play = Play()
    play.places("L1", ticket(quantity=300))
    play.fills()
    assert play.lots() == 2
    play.cancels("L1")

    play.waits(3)
    play.fills()

    assert play.lots() == 0


def test_an_old_market_entry_is_stale_and_an_old_resting_one_is_copied() -> None:
    play = Play()
    play.waits(60)
    old = play.events[0].at
    play.places("L1", ticket(price="0", order_type=OrderType.MARKET), placed_at=old)
    play.places("L2", placed_at=old)

    assert [each.reason for each in play.skips()] == ["STALE"]
    assert len(play.of()) == 1


def test_an_old_market_entry_leaves_nothing_of_a_lot_to_the_next() -> None:
    play = Play()
    play.waits(60)
    play.places("L1", ticket(quantity=75, price="0", order_type=OrderType.MARKET), placed_at=play.events[0].at)
    play.trades("L2", 1)

    assert [each.reason for each in play.skips()] == ["STALE", "BELOW_ONE_LOT"]


@pytest.mark.parametrize("order_type", [OrderType.MARKET, OrderType.LIMIT])
def test_an_entry_that_traded_before_copying_began_is_not_copied_however_young(order_type: OrderType) -> None:
    play = Play(begin=False)
    terms = ticket(price="0" if order_type is OrderType.MARKET else "100", order_type=order_type)
    play.leader["L1"] = Order("L1", terms, OrderStatus.TRADED, play.now, play.now, 150, D(100))
    play.waits(2)
    play.starts()

    assert play.of() == []
    assert [each.reason for each in play.skips()] == ["LEADER_DONE"]

    play.trades("L2", -2)
    assert play.of() == [], "what the follower does not have it does not get out of"
    play.trades("L3", 2)
    assert play.lots() == 1, "what comes after is copied"


def test_an_entry_that_rests_since_before_copying_began_is_copied() -> None:
    play = Play(begin=False)
    play.leader["L1"] = Order("L1", ticket(), OrderStatus.PENDING, play.now, play.now)
    play.waits(600)
    play.starts()

    assert [each.ticket for each in play.of()] == [ticket(quantity=75)]


def test_an_entry_that_traded_while_the_process_was_down_is_not_copied() -> None:
    play = Play()
    play.trades("L1", 2)
    play.waits(20)
    play.leader["L2"] = Order("L2", ticket(), OrderStatus.TRADED, play.now, play.now, 150, D(100))
    play.waits(1)
    play.starts()
    assert [each.reason for each in play.skips()] == ["LEADER_DONE"]
    assert play.lots() == 1

    play.trades("L3", -4)
    assert play.lots() == 0, "and the way out is free"


def test_an_order_that_traded_after_the_start_is_copied_though_the_book_came_later() -> None:
    play = Play(begin=False)
    play.leader["L1"] = Order("L1", ticket(), OrderStatus.TRADED, play.now, play.now, 150, D(100))
    play.waits(0.7)
    play.starts()

    assert [each.ticket.quantity for each in play.of()] == [75], "the broker tells whole seconds"


def test_an_order_that_traded_while_it_was_looked_for_is_copied() -> None:
    play = Play()
    play.waits(5)
    play.leader["L1"] = Order("L1", ticket(), OrderStatus.TRADED, play.now, play.now, 150, D(100))
    play.waits(2)
    play.reads_leader_book()

    assert [each.ticket.quantity for each in play.of()] == [75], "its frames were lost, and it is young"


def test_a_stop_loss_found_in_the_book_with_its_entry_is_not_skipped_before_it_is_placed() -> None:
    play = Play()
    play.leader["L1"] = Order("L1", ticket(), OrderStatus.PENDING, play.now, play.now)
    terms = ticket(Side.SELL, 150, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91))
    play.leader["L2"] = Order("L2", terms, OrderStatus.PENDING, play.now, play.now)
    play.reads_leader_book()

    assert [(each.ticket.side, each.ticket.quantity) for each in play.of()] == [(Side.BUY, 75), (Side.SELL, 75)]
    assert play.skips() == []


def test_a_stop_loss_found_in_the_book_with_an_entry_that_is_not_copied_has_nothing_to_exit() -> None:
    play = Play(followers=(follower(limits=Limits(max_order_lots=0)),))
    play.leader["L1"] = Order("L1", ticket(), OrderStatus.PENDING, play.now, play.now)
    terms = ticket(Side.SELL, 150, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91))
    play.leader["L2"] = Order("L2", terms, OrderStatus.PENDING, play.now, play.now)
    play.reads_leader_book()
    play.waits(5)

    assert play.of() == []
    assert [(each.leader_order_id, each.reason) for each in play.skips()] == [
        ("L1", "LIMIT_ORDER_LOTS"),
        ("L2", "NOTHING_TO_EXIT"),
    ]


def test_a_stop_loss_whose_entry_is_given_up_in_the_same_moment_gets_its_reason() -> None:
    play = Play(followers=(follower(ratio="1"),), held_before=150)
    for order_id, terms, status in (
        ("L1", ticket(quantity=75), OrderStatus.TRADED),
        ("L2", ticket(Side.SELL, 150, "0", order_type=OrderType.MARKET), OrderStatus.TRADED),
        ("L3", ticket(Side.SELL, 75, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(91)), OrderStatus.PENDING),
    ):
        filled = terms.quantity if status is OrderStatus.TRADED else 0
        play.leader[order_id] = Order(order_id, terms, status, play.now, play.now, filled, D(100))
    play.reads_leader_book()
    play.waits(6)

    said = {each.leader_order_id for each in play.decisions if isinstance(each, Skip | Place)}
    assert said == {"L1", "L2", "L3"}


def test_an_order_first_seen_as_filled_waits_for_its_terms() -> None:
    play = Play()
    order = Order("L1", ticket(), OrderStatus.TRADED, play.now, play.now, 150, D(100))
    play.feed(OrderSeen(play.now, LEADER, order, Source.STREAM))
    assert play.of() == []
    play.waits(0.5)
    assert LEADER in play.state.ask_books
    play.places("L1", status=OrderStatus.PENDING)

    assert [each.ticket.quantity for each in play.of()] == [75]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_order_value=D(7499)), "LIMIT_ORDER_VALUE"),
        (Limits(max_order_lots=0), "LIMIT_ORDER_LOTS"),
        (Limits(max_position_lots=0), "LIMIT_POSITION_LOTS"),
        (Limits(max_open_positions=0), "LIMIT_OPEN_POSITIONS"),
        (Limits(max_orders_per_minute=0), "LIMIT_ORDERS_PER_MINUTE"),
    ],
)
def test_limits_hold_back_entries(limits: Limits, reason: str) -> None:
    play = Play(followers=(follower(limits=limits),))

    play.places("L1")

    assert play.of() == []
    assert [each.reason for each in play.skips()] == [reason]


@pytest.mark.parametrize(
    "rule",
    [
        Filter(segments=("NSE_EQ",)),
        Filter(products=(Product.CNC,)),
        Filter(underlyings=("BANKNIFTY",)),
        Filter(exclude_underlyings=("NIFTY",)),
        Filter(sides=(Side.SELL,)),
    ],
)
def test_filters_hold_back_entries_and_never_exits(rule: Filter) -> None:
    play = Play()
    play.trades("L1", 4)
    play.state.accounts["asha"].follower = follower(filter=rule)

    play.trades("L2", 4)
    assert play.lots() == 2
    play.trades("L3", -8)
    assert play.lots() == 0
    assert [each.reason for each in play.skips()] == ["FILTERED"]


def test_below_one_lot_is_said() -> None:
    play = Play(followers=(follower(ratio="0.3"),))

    play.places("L1")

    (skip,) = play.skips()
    assert skip.reason == "BELOW_ONE_LOT"
    assert "carry" in skip.detail


def test_quantities_above_the_freeze_quantity_are_sliced_and_move_together() -> None:
    play = Play(followers=(follower(ratio="1"),), row=instrument(freeze_quantity=1800))
    play.places("L1", ticket(quantity=4500))
    assert [each.ticket.quantity for each in play.of()] == [1800, 1800, 900]
    assert len({each.correlation_id for each in play.of()}) == 3

    play.modifies("L1", price=D("99"))
    assert {each.ticket.price for each in play.of()} == {D("99")}
    play.cancels("L1")
    assert {each.status for each in play.of()} == {OrderStatus.CANCELLED}


def test_a_stop_loss_market_order_becomes_a_stop_loss_with_a_protective_limit() -> None:
    play = Play()
    play.trades("L1", 4)
    play.places("STOP", ticket(Side.SELL, 300, "0", order_type=OrderType.STOP_LOSS_MARKET, trigger_price=D("90.05")))

    sent = play.of()[-1].ticket
    assert (sent.order_type, sent.trigger_price, sent.price) == (OrderType.STOP_LOSS, D("90.05"), D("85.50"))


def test_a_market_entry_that_rests_is_given_up_and_an_exit_is_priced_anew() -> None:
    play = Play()
    play.trades("L1", 4)
    play.trades("L2", 2, fills=False)
    play.trades("L3", -6, fills=False)
    play.waits(6)

    entry, added, leaving = play.of()
    assert entry.status is OrderStatus.TRADED
    assert added.status is OrderStatus.CANCELLED
    assert leaving.ticket.order_type is OrderType.LIMIT
    assert leaving.ticket.price == D("99")


def test_own_copies_and_super_orders_are_not_copied() -> None:
    play = Play()
    play.places("L1", correlation_id="ct1-aaaaaaaaaaaaaaaaaaaaa")
    play.places("L2", kind=OrderKind.SUPER)

    assert play.of() == []
    assert [each.reason for each in play.skips()] == ["OWN_COPY", "UNSUPPORTED_KIND"]


def test_an_unknown_instrument_is_not_copied() -> None:
    play = Play(row=replace(instrument(), security=replace(NIFTY, security_id="1")))
    play.places("L1")

    assert [each.reason for each in play.skips()] == ["UNKNOWN_INSTRUMENT"]


def test_after_24_modifications_the_order_is_placed_anew() -> None:
    play = Play()
    play.places("L1")
    for number in range(30):
        play.modifies("L1", price=D(101 + number))
        play.waits(4)

    open_now = [each for each in play.of() if each.is_open]
    assert [each.ticket.price for each in open_now] == [D(130)]
    assert len(play.of()) == 2


def test_lots_and_risk_and_capital_modes() -> None:
    lots = follower("lots", sizing=Sizing(SizingMode.LOTS, lots=3))
    risk = follower("risk", sizing=Sizing(SizingMode.RISK, risk_percent=D(1), capital=D(1_600_000)))
    capital = follower("capital", sizing=Sizing(SizingMode.CAPITAL, D(1), capital=D(500_000)))
    play = Play(followers=(lots, risk, capital), funds={LEADER: Funds(D(1_000_000), D(0))})
    play.places("L1", ticket(quantity=750))

    assert {each.account: each.ticket.quantity for each in play.orders.values()} == {
        "lots": 225,
        "risk": 150,
        "capital": 375,
    }


def test_an_immediate_order_is_copied_with_its_validity_and_disclosed_part() -> None:
    play = Play()
    play.places("L1", ticket(quantity=1500, validity=Validity.IOC, disclosed_quantity=500))

    assert play.of()[0].ticket.validity is Validity.IOC
    assert play.of()[0].ticket.disclosed_quantity == 225


def test_rules_default_to_the_documented_ones() -> None:
    rules = CopyRules()

    assert (rules.max_age_seconds, rules.market_wait_seconds, rules.stop_limit_percent) == (10, 5, D(5))


# --- Orders that become market orders -----------------------------------------------------------------


AT_MARKET = {"price": D(0), "order_type": OrderType.MARKET}


def chased(play: Play, order_id: str) -> list[str]:
    """The forms that the follower's order for one of the leader's took after it was placed."""
    return [
        each.ticket.order_type
        for each in play.decisions
        if isinstance(each, Modify) and each.leader_order_id == order_id
    ]


@pytest.mark.parametrize("earlier", [(), (119, 118, 117)])
def test_a_resting_exit_that_becomes_a_market_order_is_one_and_is_chased_until_it_is_said(
    earlier: tuple[int, ...],
) -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2)
    play.places("L2", ticket(Side.SELL, price="120"))
    play.waits(30)
    for price in earlier:
        play.modifies("L2", price=D(price))
        play.waits(10)
    play.modifies("L2", **AT_MARKET)
    play.leader_fills("L2")
    play.waits(600)

    assert chased(play, "L2")[len(earlier) :] == ["MARKET", "LIMIT", "LIMIT", "LIMIT"]
    assert [each.level for each in play.alerts() if "still rests" in each.text] == ["CRITICAL"]


def test_a_resting_entry_that_becomes_a_market_order_is_one_and_is_given_up_only_when_that_rests() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.places("L1")
    play.waits(60)
    play.modifies("L1", **AT_MARKET)

    assert chased(play, "L1") == ["MARKET"]
    play.waits(60)
    assert play.of()[0].status is OrderStatus.CANCELLED
    assert [each.reason for each in play.skips()] == ["STALE"]


def test_a_stop_that_was_gapped_through_its_protective_limit_goes_to_market_when_the_leader_s_has_filled() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2)
    play.places("L2", ticket(Side.SELL, price="0", order_type=OrderType.STOP_LOSS_MARKET, trigger_price=D(90)))
    play.leader_fills("L2")
    play.waits(60)
    play.fills()

    assert chased(play, "L2")[0] == "MARKET"
    assert play.lots() == 0


def test_a_stop_that_fills_with_the_leader_s_is_not_touched() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2)
    play.places("L2", ticket(Side.SELL, price="0", order_type=OrderType.STOP_LOSS_MARKET, trigger_price=D(90)))
    play.leader_fills("L2")
    play.waits(0.5)
    play.fills()
    play.waits(60)

    assert chased(play, "L2") == []
    assert play.lots() == 0
