"""The target, the drift and the plan, from states that the engine really gets into."""

from __future__ import annotations

import csv
import io
import json
import pickle
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from copytrader.cli.reconcile import question, show
from copytrader.core.facts import Halted, Modify, Refused, Resumed, Throttled, Verb
from copytrader.core.model import (
    LEADER,
    Calendar,
    CopyRules,
    Desk,
    Filter,
    Funds,
    Limits,
    OrderStatus,
    OrderType,
    Position,
    Product,
    RefusalClass,
    Session,
    Side,
    Sizing,
    SizingMode,
)
from copytrader.core.reconcile import comparing, planning
from copytrader.core.reconcile.picture import FindingKind, Picture, Reading, Row, RowState, Scope
from copytrader.core.reconcile.planning import Action, Step, Wishes
from copytrader.failure import ExitCode
from copytrader.looking import Report, code_of
from tests.core.play import NIFTY, START, Held, Play, follower, instrument, ticket

D = Decimal


def looked_at(play: Play, **problems: str) -> Picture:
    """Read the books as they stand in the paper broker's ledger, and compare."""
    readings = {LEADER: _reading(play, LEADER, tuple(play.leader.values()), play.held_before + play.leader_net())}
    for each in play.followers:
        orders = tuple(held.seen() for held in play.orders.values() if held.account == each.name)
        readings[each.name] = _reading(play, each.name, orders, play.positions[each.name])
    for name, problem in problems.items():
        readings[name] = Reading(name, problem=problem)
    assert play.state.desk is not None
    fresh = comparing.with_books(play.state, play.state.desk, readings.values(), {NIFTY: play.row}, play.now)
    return comparing.picture(fresh, readings, play.now)


def _reading(play: Play, name: str, orders: tuple[object, ...], net: int) -> Reading:
    positions = (Position(NIFTY, Product.INTRADAY, net, D(100), D(100)),) if net else ()
    return Reading(name, orders, positions, play.funds.get(name))  # type: ignore[arg-type]


def row(play: Play) -> Row:
    (found,) = looked_at(play).rows
    return found


def planned(play: Play, wishes: Wishes | None = None) -> list[Step]:
    return list(planning.plan(looked_at(play), wishes))


def carry_out(play: Play) -> None:
    """Send the plan through the engine, and let it fill."""
    for word in planning.fixes(planned(play), play.now):
        play.feed(word)
    for _ in range(4):
        play.fills()
        play.waits(0.5)


def while_halted(play: Play, *lots: int) -> None:
    play.feed(Halted(play.now))
    for number, each in enumerate(lots):
        play.trades(f"H{play.numbered}{number}", each)
    play.feed(Resumed(play.now))


def test_an_exit_of_a_plan_is_of_whole_lots_unless_everything_goes() -> None:
    """The copy was faster: half of the leader's order has filled, which comes to two and a half lots of five."""
    play = Play()
    play.places("L1", ticket(quantity=750))
    play.fills()
    play.leader_fills("L1", 375)

    assert row(play).drift_quantity == 225
    assert planned(play) == []


@pytest.mark.parametrize("arrives", [True, False])
def test_a_try_that_never_left_is_nothing_that_was_asked_for(arrives: bool) -> None:
    play = Play()
    play.trades("L1", 4)
    play.answer = lambda command: Throttled(play.now, "asha", command.correlation_id, Verb.PLACE)
    play.trades("L2", -4)
    play.waits(6)
    if arrives:
        play.answer = None
        play.waits(5)
        play.dies(play.of()[-1], OrderStatus.EXPIRED)

    told = "its copy ended with 0 of 150 filled" if arrives else "its copy did not reach the broker"
    assert row(play).why == f"SELL 300 (order L2): {told}"


@pytest.mark.parametrize("lots", [[1, 1, 1], [5, -2], [4, -1, -1], [3, 3, -5], [-4, 1], [2, -4, 3]])
@pytest.mark.parametrize("ratio", ["0.1", "0.33", "0.5", "1", "3"])
def test_what_copying_makes_of_a_session_is_never_called_a_drift(lots: list[int], ratio: str) -> None:
    play = Play(followers=(follower(ratio=ratio),))

    for number, each in enumerate(lots):
        play.trades(f"L{number}", each * 3)
        play.waits(2)

        assert looked_at(play).in_sync, (number, row(play))


def test_rounding_exits_by_fractions_is_no_drift_even_where_the_exact_position_is_a_lot_away() -> None:
    play = Play(followers=(follower(ratio="0.1"),))
    for number in range(3):
        play.trades(f"L{number}", 13)
    assert play.lots() == 3

    play.trades("L3", -7)

    assert looked_at(play).in_sync


def test_what_the_leader_held_before_copying_is_not_in_the_target() -> None:
    play = Play(held_before=750)
    play.trades("L1", 4)
    play.trades("L2", -7)

    seen = row(play)

    assert (seen.leader_quantity, seen.target_quantity, seen.copied_quantity) == (525, 75, 75)
    assert seen.state is RowState.IN_SYNC


@pytest.mark.parametrize(
    "sizing",
    [
        Sizing(ratio=D("0.5")),
        Sizing(SizingMode.CAPITAL, ratio=D(1)),
        Sizing(SizingMode.LOTS, lots=2),
        Sizing(SizingMode.RISK, risk_percent=D(5), capital=D(300_000)),
    ],
    ids=lambda sizing: str(sizing.mode),
)
def test_a_missed_entry_gets_its_size_by_the_rule_and_the_plan_ends_the_drift(sizing: Sizing) -> None:
    funds = {LEADER: Funds(D(1_000_000), D(0)), "asha": Funds(D(500_000), D(0))}
    play = Play(followers=(replace(follower(), sizing=sizing),), funds=funds)
    play.trades("L1", 4)
    assert play.lots() == 2
    while_halted(play, 4)

    assert (row(play).target_quantity, row(play).drift_quantity, row(play).state) == (300, -150, RowState.DRIFT)
    assert "HALTED" in row(play).why
    carry_out(play)

    assert play.lots() == 4
    assert looked_at(play).in_sync
    assert planned(play) == []
    play.trades("L9", -8)
    play.waits(5)
    assert play.lots() == 0
    assert looked_at(play).in_sync


def test_what_a_filter_keeps_out_is_not_missing() -> None:
    play = Play(followers=(follower(filter=Filter(sides=(Side.SELL,))),))
    play.trades("L1", 4)

    assert looked_at(play).in_sync


def test_a_plan_through_zero_exits_first_and_then_enters() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 2)
    flip = replace(play.leader["L1"], order_id="L2", ticket=ticket(Side.SELL, 375), filled_quantity=375)
    play.leader["L2"] = flip

    assert [(step.action, step.side, step.quantity) for step in planned(play)] == [
        (Action.EXIT, Side.SELL, 150),
        (Action.ENTRY, Side.SELL, 225),
    ]
    assert [step.action for step in planned(play, Wishes(reduce_only=True))] == [Action.EXIT]
    (word,) = planning.fixes(planned(play), play.now)
    assert (word.exits, [each.quantity for each in word.tickets]) == (1, [150, 225])


def test_a_drift_in_pieces_no_larger_than_the_freeze_quantity() -> None:
    play = Play(followers=(follower(ratio="1"),))
    while_halted(play, 50)

    assert [step.quantity for step in planned(play)] == [1800, 1800, 150]


def test_limits_are_priced_on_the_tick_at_the_last_price_known() -> None:
    play = Play()
    while_halted(play, 4)

    (step,) = planned(play, Wishes(at_limit=True))

    assert (step.order_type, step.price, step.value) == (OrderType.LIMIT, D(100), D(15_000))


def test_a_resting_exit_that_would_close_more_than_is_left_is_cancelled_first() -> None:
    play = Play(followers=(follower(ratio="1"),))
    play.trades("L1", 4)
    play.places("S1", ticket(Side.SELL, 300, "80", order_type=OrderType.STOP_LOSS, trigger_price=D(81)))
    assert [held.is_open for held in play.of()] == [False, True]
    play.trades("L2", -2, fills=False)
    exit_copy = play.of()[-1]
    play.dies(exit_copy)
    play.now += timedelta(seconds=60)

    steps = planned(play)

    assert [step.action for step in steps] == [Action.CANCEL, Action.EXIT]
    assert steps[-1].quantity == 150


def test_a_copy_whose_leader_order_is_gone_is_an_orphan_and_cancelled() -> None:
    play = Play()
    play.places("L1")
    (copy,) = play.of()
    play.answer = lambda _command: None
    play.state.orders["L1"].known = play.state.orders["L1"].known._replace(ended=None, is_done=False)
    leader = play.leader["L1"]
    play.leader["L1"] = replace(leader, status=leader.status.CANCELLED)

    seen = looked_at(play)

    assert [(each.kind, each.order_id) for each in seen.findings] == [("orphan", copy.order_id)]
    assert [(step.action, step.order_id) for step in planning.plan(seen)] == [(Action.CANCEL, copy.order_id)]
    assert not seen.in_sync


def lacking(play: Play) -> list[tuple[str | None, str]]:
    """The leader's orders that work without a copy, each with the reason."""
    seen = looked_at(play)
    found = [each for each in seen.findings if each.kind is FindingKind.NOT_COPIED]
    assert not (found and seen.in_sync)
    return [(each.leader_order_id, each.detail) for each in found]


def test_an_order_whose_copy_the_halt_cancelled_works_without_one() -> None:
    play = Play()
    play.places("L1")
    play.feed(Halted(play.now))
    assert "HALTED" in lacking(play)[0][1]

    play.feed(Resumed(play.now))

    ((leader_order_id, detail),) = lacking(play)
    assert leader_order_id == "L1"
    assert "BUY 150 works at the leader and has no copy: HALTED: its order F1 is cancelled" in detail
    assert planned(play) == []
    play.leader_fills("L1")
    assert lacking(play) == []
    assert [(step.action, step.quantity) for step in planned(play)] == [(Action.ENTRY, 75)]


def test_an_order_that_came_during_a_halt_works_without_a_copy() -> None:
    play = Play()
    play.feed(Halted(play.now))
    play.places("L1")
    play.feed(Resumed(play.now))

    assert "HALTED: copying is halted; after `copytrader resume` what fills is made up for" in lacking(play)[0][1]


def test_what_a_plan_would_be_held_back_by_too_is_not_promised() -> None:
    play = Play(followers=(follower(ratio="1", limits=Limits(max_order_lots=1)),))
    play.places("L1")
    limit = "LIMIT_ORDER_LOTS: 2 lots, the limit is 1"

    assert lacking(play)[0][1].endswith(
        f"{limit}; --fix is held to the same limit: change it, or leave the order uncopied"
    )


def test_an_order_that_came_before_the_opening_is_judged_again_then() -> None:
    play = Play()
    calendar = Calendar({"NSE_FNO": Session(9 * 60 + 15, 15 * 60 + 30)}, {}, (play.now.year,))
    play.state.desk = Desk("1000000001", play.followers, CopyRules(), calendar)
    play.now = play.now.replace(hour=8)
    play.places("L1")

    assert lacking(play)[0][1].endswith("; follow judges it again when the market opens")


def test_an_order_whose_copy_was_cancelled_by_hand_works_without_one_and_is_not_placed_again() -> None:
    play = Play()
    play.places("L1")
    play.dies(play.of()[0])

    assert "DETACHED: its order F1 was cancelled, not by us" in lacking(play)[0][1]
    assert planned(play) == []


def test_an_order_whose_copy_the_broker_refused_works_without_one() -> None:
    play = Play()
    play.places("L1")
    play.rejects(play.of()[0])

    assert "RMS: no funds" in lacking(play)[0][1]


def test_a_stop_whose_copy_the_halt_cancelled_is_missed_only_while_something_is_held() -> None:
    play = Play()
    play.trades("L1", 4)
    play.places("S1", ticket(Side.SELL, 300, "80", order_type=OrderType.STOP_LOSS, trigger_price=D(81)))
    play.feed(Halted(play.now))

    ((leader_order_id, detail),) = lacking(play)
    assert (leader_order_id, detail.endswith("; `copytrader resume` brings it back")) == ("S1", True)
    play.leader_fills("S1")
    play.waits(5)
    play.fills()
    assert (play.lots(), lacking(play)) == (0, [])


def test_a_stop_that_came_back_with_the_copying_is_not_missing() -> None:
    play = Play()
    play.trades("L1", 4)
    play.places("S1", ticket(Side.SELL, 300, "80", order_type=OrderType.STOP_LOSS, trigger_price=D(81)))
    play.feed(Halted(play.now))
    play.feed(Resumed(play.now))

    assert lacking(play) == []


@pytest.mark.parametrize(
    "rules", [{"filter": Filter(sides=(Side.SELL,))}, {"ratio": "0.1"}], ids=["filtered", "below one lot"]
)
def test_an_order_that_the_rules_leave_out_is_not_missing(rules: dict[str, Any]) -> None:
    play = Play(followers=(follower(**rules),))
    play.places("L1")

    assert lacking(play) == []


def test_an_order_whose_copy_has_filled_before_it_is_not_missing() -> None:
    play = Play()
    play.places("L1")
    play.fills()

    assert lacking(play) == []


def test_terms_that_differ_are_found() -> None:
    play = Play()
    play.places("L1")
    leader = play.leader["L1"]
    play.leader["L1"] = replace(
        leader, ticket=replace(leader.ticket, price=D(95)), updated_at=play.now + timedelta(seconds=5)
    )

    (finding,) = looked_at(play).findings

    assert (finding.kind, finding.detail) == ("terms_differ", "its price is 100, the leader's 95; follow modifies it")


def test_a_change_that_the_broker_refused_is_not_promised() -> None:
    play = Play()
    play.places("L1")
    refusal = RefusalClass.OTHER
    play.answer = lambda command: (
        Refused(play.now, "asha", command.correlation_id, Verb.MODIFY, refusal, "DH-906", "no")
        if isinstance(command, Modify)
        else None
    )
    play.modifies("L1", price=D(95))
    play.waits(5)

    (finding,) = looked_at(play).findings

    assert (
        finding.detail == "its price is 100, the leader's 95; the broker refused this change, and it is not sent again"
    )


def test_the_last_line_names_what_is_wrong_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    play = Play()
    play.trades("L0", 2)
    play.places("L1", ticket(quantity=150))
    leader = play.leader["L1"]
    play.leader["L1"] = replace(
        leader, ticket=replace(leader.ticket, price=D(95)), updated_at=play.now + timedelta(seconds=5)
    )
    seen = looked_at(play)

    show(Report(seen, (), ExitCode.FINDINGS))
    assert capsys.readouterr().out.splitlines()[-1] == "not in sync: 1 order, see above"
    show(Report(replace(seen, findings=(), problems=(Reading("asha", problem="403"),)), (), ExitCode.FINDINGS))
    assert capsys.readouterr().out.splitlines()[-1] == "not in sync: an account cannot be read"


@pytest.mark.parametrize(
    ("multiplier", "value", "refusal"),
    [
        (1, D(15_000), ""),
        (10, D(150_000), ""),
        (None, None, "UNKNOWN_INSTRUMENT: the multiplier of NSE_FNO 45463 is not known"),
    ],
)
def test_what_no_multiplier_is_known_of_has_no_value(
    multiplier: int | None, value: Decimal | None, refusal: str
) -> None:
    play = Play(row=instrument(multiplier=multiplier))
    while_halted(play, 4)
    found = row(play)
    (step,) = planned(play)

    assert (found.drift_quantity, found.last_price, found.drift_value) == (-150, D(100), value)
    assert (step.value, step.held_back) == (value, refusal)


def test_what_is_reckoned_from_a_quotient_is_rounded_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    play = Play()
    while_halted(play, 4)
    part = replace(looked_at(play).parts[0])
    part.row = replace(part.row, last_price=D(360) / 3 + D("8E-26") / 3, drift_value=D(-100) / 3, drift_lots=D(2) / 3)
    report = Report(replace(looked_at(play), parts=(part,)), (), ExitCode.FINDINGS)

    show(report, as_csv=True)
    (written,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [written[key] for key in ("last_price", "drift_value", "drift_lots")] == ["120", "-33.3333", "0.6667"]
    show(report, as_json=True)
    (told,) = json.loads(capsys.readouterr().out)["rows"]
    assert (told["last_price"], told["drift_value"], told["drift_lots"]) == (120, -33.3333, 0.6667)


def test_an_intraday_position_that_no_order_explains_is_unexplained_and_left_alone() -> None:
    play = Play()
    play.trades("L1", 4)
    play.positions["asha"] += 75

    assert row(play).state is RowState.UNEXPLAINED
    assert "+75 that no order of the day explains" in row(play).why
    assert planned(play) == []


def test_an_account_that_was_not_read_is_unknown_in_every_row_and_has_no_plan() -> None:
    play = Play(followers=(follower(), follower("ravi")))
    while_halted(play, 4)

    seen = looked_at(play, ravi="no answer")

    assert {(each.follower, each.state) for each in seen.rows} == {
        ("asha", RowState.DRIFT),
        ("ravi", RowState.UNKNOWN),
    }
    assert {step.follower for step in planning.plan(seen)} == {"asha"}
    assert {each.state for each in looked_at(play, leader="no answer").rows} == {RowState.UNKNOWN}
    empty = looked_at(Play(), asha="no answer")
    assert [(each.follower, each.state) for each in empty.rows] == [("asha", RowState.UNKNOWN)]


def test_taking_a_picture_changes_nothing() -> None:
    play = Play()
    while_halted(play, 4)
    before = pickle.dumps(play.state)

    looked_at(play)

    assert pickle.dumps(play.state) == before


def test_the_question_counts_what_would_be_sent() -> None:
    play = Play()
    while_halted(play, 4)
    (entry,) = planned(play)
    cancel = replace(entry, action=Action.CANCEL)

    assert question([entry]) == "Send 1 order?"
    assert question([cancel, cancel]) == "Send 2 cancels?"
    assert question([entry, entry, cancel]) == "Send 2 orders and 1 cancel?"


def test_plans_are_the_same_while_only_prices_and_reasons_change() -> None:
    play = Play()
    while_halted(play, 4)
    steps = planned(play)

    assert planning.same(steps, [replace(step, price=D(1), why="other", value=None) for step in steps])
    assert not planning.same(steps, [replace(step, quantity=75) for step in steps])
    assert planning.fixes(steps, play.now) == planning.fixes(steps, play.now)
    assert planning.fixes(steps, play.now) != planning.fixes(steps, play.now + timedelta(seconds=1))


@pytest.mark.parametrize("by_hand", [-2, -1])
def test_what_was_bought_anew_after_a_sale_by_hand_is_in_sync_and_not_sold(by_hand: int) -> None:
    play = Play()
    play.trades("IN", 4)
    play.trades_by_hand(by_hand)
    play.trades("OUT", -4)
    play.trades("IN2", 4)
    assert play.lots() == 2

    seen = row(play)

    assert (seen.target_quantity, seen.copied_quantity, seen.own_quantity) == (150, 150, 0)
    assert (seen.state, planned(play)) == (RowState.IN_SYNC, [])


def test_what_was_sold_by_hand_is_not_bought_again_while_the_leader_stays() -> None:
    play = Play()
    play.trades("IN", 4)
    play.trades_by_hand(-2)
    play.trades("ADD", 4)
    assert play.lots() == 2

    seen = row(play)

    assert (seen.target_quantity, seen.copied_quantity, seen.own_quantity) == (300, 300, -150)
    assert (seen.state, planned(play)) == (RowState.OWN, [])
    assert "-150" in seen.why


def sold_twice() -> Play:
    """The person gets out by hand in the moment in which the leader does, and the copied exit fills as well."""
    play = Play()
    play.trades("IN", 4)
    play.waits(60)
    play.trades("OUT", -4, fills=False)
    exit_of_ours = play.of()[-1]
    play.trades_by_hand(-2, is_read=False)
    play.fills_follower(exit_of_ours, 150)
    play.drain()
    assert play.lots() == -2
    return play


def test_what_an_exit_and_a_hand_have_both_sold_is_no_position_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    play = sold_twice()

    seen = looked_at(play)

    (found,) = seen.rows
    assert (found.state, found.target_quantity, found.copied_quantity, found.own_quantity) == (
        "closed_twice",
        0,
        0,
        -150,
    )
    assert found.why == (
        "-150 because an exit of ours and an order of the account's own have closed the same copied position: close "
        "that by hand"
    )
    assert (seen.in_sync, code_of(seen), planned(play)) == (False, ExitCode.FINDINGS, [])
    show(Report(seen, (), ExitCode.FINDINGS))
    assert capsys.readouterr().out.splitlines()[-1] == "not in sync: 1 closed twice"


def test_what_both_have_sold_is_told_apart_from_what_is_its_own() -> None:
    play = sold_twice()
    play.positions["asha"] -= 75
    play.orders["OWN"] = Held("OWN", "asha", "", ticket(Side.SELL, 75), OrderStatus.TRADED, 75, D(100), START, START)

    assert row(play).why.endswith("position: close that by hand; -75 of its own")


def test_what_both_have_sold_is_shown_until_it_is_bought_back_by_hand() -> None:
    play = sold_twice()
    play.trades("AGAIN", 4)
    play.trades_by_hand(1)
    assert (play.lots(), row(play).state, row(play).own_quantity) == (1, RowState.CLOSED_TWICE, -75)
    assert "-75 because an exit of ours" in row(play).why

    play.trades_by_hand(1)
    assert (play.lots(), row(play).state) == (2, RowState.IN_SYNC)


def test_what_both_have_sold_is_over_where_the_leader_s_next_exit_finds_nothing_left_to_sell() -> None:
    play = sold_twice()
    play.reads_book("asha")
    play.trades("AGAIN", 4)
    play.trades("OUT2", -4)

    assert (play.lots(), row(play).state) == (0, RowState.OWN)


@pytest.mark.parametrize(("turns", "missing"), [((-4, 4), 150), ((-2, 2), 75), ((4,), 150), ((-8,), -150)])
def test_what_was_missed_after_a_sale_by_hand_is_bought_and_no_more(turns: tuple[int, ...], missing: int) -> None:
    """While nothing is copied the leader turns round; what the person has sold stays sold."""
    play = Play()
    play.trades("IN", 4)
    play.trades_by_hand(-2)
    *copied, missed = turns
    for number, lots in enumerate(copied):
        play.trades(f"T{number}", lots)
    while_halted(play, missed)

    assert sum(step.quantity * step.side.sign for step in planned(play)) == missing
    carry_out(play)
    assert (play.positions["asha"], planned(play)) == (missing, [])
    play.trades("OUT", -play.leader_net() // play.row.lot_size)
    play.waits(5)
    play.fills()
    assert play.lots() == 0


def test_what_one_left_out_of_the_configuration_has_is_found_and_in_no_plan(capsys: pytest.CaptureFixture[str]) -> None:
    play = Play(followers=(follower(), follower("bala")))
    play.trades("IN", 4)
    play.places("STOP", ticket(Side.SELL, 300, "90", order_type=OrderType.STOP_LOSS, trigger_price=D(92)))
    play.followers = (follower(),)
    play.starts()

    seen = looked_at(play)

    (finding,) = seen.findings
    assert (finding.follower, finding.kind, finding.symbol) == ("bala", FindingKind.LEFT_OUT, play.row.symbol)
    assert finding.detail == (
        "bala holds +150 INTRADAY from copying and has 1 order open: nobody looks after that; "
        "enable bala again, or close that by hand"
    )
    assert {each.follower for each in seen.rows} == {"asha"}
    assert planning.plan(seen) == ()
    assert not seen.in_sync
    show(Report(seen, (), ExitCode.FINDINGS))
    *_, line, last = capsys.readouterr().out.splitlines()
    assert line.startswith("bala NIFTY-Dec2026-24000-PE: left out: bala holds +150 INTRADAY")
    assert last == "not in sync: left out of the configuration: bala"


@pytest.mark.parametrize("scope", [Scope(frozenset({"asha"})), Scope(symbol="BANKNIFTY")])
def test_who_is_left_out_is_not_found_where_others_are_asked_for(scope: Scope) -> None:
    play = Play(followers=(follower(), follower("bala")))
    play.trades("IN", 4)
    play.followers = (follower(),)
    play.starts()

    assert comparing.picture(play.state, {}, play.now, scope).findings == ()
