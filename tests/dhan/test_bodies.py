"""REST bodies: what is read from them, and that nothing odd is ever read as absence."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from copytrader.core.model import IST, OrderKind, OrderStatus, Product, RefusalClass, Security
from copytrader.dhan import bodies
from copytrader.dhan.bodies import read_order, read_orders
from copytrader.dhan.fields import FrameError, parse_body
from tests.dhan.support import CLIENT, captured, row


def test_a_book_row_gives_the_whole_order() -> None:
    (order,), problems = read_orders(parse_body(json.dumps([row(afterMarketOrder=True, amoTime="OPEN_30")])), CLIENT)

    assert problems == ()
    assert order.ticket.price == Decimal("188.1")
    assert order.ticket.after_market
    assert order.ticket.amo_time == "OPEN_30"
    assert order.correlation_id == ""
    assert order.note == "", "CONFIRMED is no reason"
    assert order.placed_at == datetime(2026, 9, 7, 10, 29, 58, tzinfo=IST)
    assert order.kind is OrderKind.ORDINARY


def test_the_reason_is_read_where_the_order_ended() -> None:
    (order,), _ = read_orders([row(orderStatus="REJECTED", omsErrorDescription="RMS:1:Insufficient Funds")])
    assert order.status is OrderStatus.REJECTED
    assert (order.note, order.refusal) == ("RMS:1:Insufficient Funds", RefusalClass.MARGIN)


def test_a_bad_row_is_a_problem_and_the_others_are_read() -> None:
    orders, problems = read_orders([row(), row(orderId="7", quantity=-1), 5, row(orderStatus="INACTIVE")], CLIENT)
    assert len(orders) == 1
    assert problems[0].startswith("row 2 (order 7): quantity")
    assert len(problems) == 3


@pytest.mark.parametrize("seconds", [(1, 2, 3), (1, 1, 2), (1, 2, 2)])
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_book_is_read_as_it_was_placed_whichever_way_it_is_listed(
    seconds: tuple[int, ...], newest_first: bool
) -> None:
    rows = [
        row(orderId=str(number), createTime=f"2026-09-07 10:00:0{second}") for number, second in enumerate(seconds, 1)
    ]
    orders, _ = read_orders(rows[::-1] if newest_first else rows)
    assert [each.order_id for each in orders] == ["1", "2", "3"]


def test_an_order_of_which_no_time_is_told_is_the_last() -> None:
    orders, _ = read_orders([row(orderId="1", createTime="NA"), row(orderId="2"), row(orderId="3", createTime=None)])
    assert [each.order_id for each in orders] == ["2", "1", "3"]


@pytest.mark.parametrize(
    "changes",
    [{"quantity": 75, "filledQty": 76}, {"quantity": 0, "filledQty": 0}, {"price": -0.05}, {"triggerPrice": -1}],
    ids=str,
)
def test_a_row_whose_figures_cannot_be_right_is_a_problem(changes: dict[str, Any]) -> None:
    orders, problems = read_orders([row(**changes)], CLIENT)
    assert (orders, len(problems)) == ((), 1)


@pytest.mark.parametrize("error", ["errorCode", "errorMessage", "internalErrorCode"])
def test_an_error_beside_an_empty_list_is_no_empty_book(error: str) -> None:
    with pytest.raises(FrameError):
        read_orders({"status": "success", "data": [], error: "x"})


def test_rows_of_another_client_are_problems() -> None:
    orders, problems = read_orders([row(dhanClientId="1000000009")], CLIENT)
    assert (orders, len(problems)) == ((), 1)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"productType": "BO"}, OrderKind.BRACKET),
        ({"productType": "CO"}, OrderKind.COVER),
        ({"legName": "TARGET_LEG"}, OrderKind.SUPER),
        ({"correlationId": "SQROFF-1"}, OrderKind.SUPER),
        ({"correlationId": "NR", "afterMarketOrder": True}, OrderKind.FOREVER_CHILD),
    ],
)
def test_a_row_tells_its_kind(changes: dict[str, Any], kind: OrderKind) -> None:
    (order,), _ = read_orders([row(**changes)])
    assert order.kind is kind
    assert not order.ticket.after_market


def test_one_order_comes_as_object_or_list_and_an_empty_list_is_none() -> None:
    assert read_order(row()) == read_order([row()])
    assert read_order([]) is None


@pytest.mark.parametrize("body", [{}, None, "x", [row(), row()], {"errorCode": "DH-906"}, [[]], 3])
def test_an_odd_look_up_is_never_read_as_absence(body: object) -> None:
    with pytest.raises(FrameError):
        read_order(body)


@pytest.mark.parametrize("body", [{}, None, 5, {"status": "failed", "data": {"813": "x"}}, {"errorCode": "DH-901"}])
def test_an_odd_book_is_never_read_as_empty(body: object) -> None:
    with pytest.raises(FrameError):
        read_orders(body)


def test_data_in_an_envelope_is_unwrapped() -> None:
    assert read_orders({"status": "success", "data": []}) == ((), ())


def position(**changes: Any) -> dict[str, Any]:
    return {
        "dhanClientId": CLIENT,
        "tradingSymbol": "NIFTY-Sep2026-25000-CE",
        "securityId": "54321",
        "positionType": "SHORT",
        "exchangeSegment": "NSE_FNO",
        "productType": "MARGIN",
        "buyAvg": 0.0,
        "sellAvg": 190.5,
        "netQty": -130,
        "realizedProfit": 0.0,
        "unrealizedProfit": -12.35,
        "multiplier": 1,
    } | changes


def test_positions_are_signed() -> None:
    (found,) = bodies.read_positions([position()], CLIENT)
    assert found.net_quantity == -130
    assert found.sell_average == Decimal("190.5")
    assert found.unrealized == Decimal("-12.35")


def test_rounding_noise_and_large_sums_do_not_spoil_a_reading() -> None:
    noisy = position(netQty=65.0, multiplier=1.0, realizedProfit=1.4210854715202004e-14, buyAvg=-1e-15)
    (found,) = bodies.read_positions(parse_body(json.dumps([noisy])))
    assert found.net_quantity == 65
    assert found.multiplier == 1
    assert bodies.read_funds({"sodLimit": 2_500_000_000, "availabelBalance": 0}).start_of_day == 2_500_000_000


@pytest.mark.parametrize("changes", [{"netQty": None}, {"netQty": 1.5}, {"securityId": None}, {"dhanClientId": "9"}])
def test_one_bad_position_spoils_the_reading(changes: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        bodies.read_positions([position(), position(**changes)], CLIENT)


def test_holdings_are_cnc_positions() -> None:
    holding = {"exchange": "ALL", "securityId": "10001", "totalQty": 3, "dpQty": 1, "t1Qty": 2, "avgCostPrice": 251.05}
    (found,) = bodies.read_holdings([holding])
    assert (found.security, found.product, found.net_quantity) == (Security("NSE_EQ", "10001"), Product.CNC, 3)


def test_funds_have_dhans_spelling_and_must_be_there() -> None:
    assert bodies.read_funds({"sodLimit": 500.5, "availabelBalance": -3}).available == -3
    with pytest.raises(FrameError):
        bodies.read_funds({"sodLimit": 500.5})


@pytest.mark.parametrize("segments", ["E, D, C, M, ", "Equity, Derivative, Currency, Commodity"])
def test_a_profile_tells_whose_token_it_is(segments: str) -> None:
    body = {"dhanClientId": CLIENT, "tokenValidity": "08/09/2026 09:15", "activeSegment": segments}
    profile = bodies.read_profile(body)
    assert profile.client_id == CLIENT
    assert profile.token_valid_until == datetime(2026, 9, 8, 9, 15, tzinfo=IST)
    assert profile.segments == ("Equity", "Derivative", "Currency", "Commodity")


def test_trades_are_read_with_the_best_time_they_have() -> None:
    trade = {
        "orderId": "2",
        "exchangeTradeId": "169",
        "transactionType": "SELL",
        "exchangeSegment": "NSE_FNO",
        "productType": "MARGIN",
        "securityId": "54321",
        "tradingSymbol": "X",
        "tradedQuantity": 65,
        "tradedPrice": 3394.025,
        "createTime": "NA",
        "updateTime": "NA",
        "exchangeTime": "2026-09-03T09:45:17",
    }
    (found,), problems = bodies.read_trades([trade, trade | {"tradedQuantity": 0}])
    assert found.price == Decimal("3394.025")
    assert found.traded_at == datetime(2026, 9, 3, 9, 45, 17, tzinfo=IST)
    assert len(problems) == 1


def test_addresses_and_the_error_that_comes_as_a_list() -> None:
    body = {"primaryIP": "192.0.2.1", "secondaryIP": None, "ordersAllowed": True}
    assert bodies.read_ip(body) == bodies.IpSettings("192.0.2.1", "", "", "", orders_allowed=True)
    with pytest.raises(FrameError, match="nothing set"):
        bodies.read_ip([{"message": "nothing set", "status": "ERROR"}])


@pytest.mark.parametrize(
    "read",
    [
        read_orders,
        read_order,
        bodies.read_positions,
        bodies.read_holdings,
        bodies.read_funds,
        bodies.read_profile,
        bodies.read_ip,
        bodies.read_margin,
        bodies.read_trades,
    ],
)
def test_values_of_the_wrong_kind_raise_nothing_but_our_own(read: Callable[[object], object]) -> None:
    rng = random.Random(13)
    odd: list[object] = [None, True, -1, 10**40, 1.5, Decimal("1e30"), "", "x", "\ud800", [], [1], {}, {"a": []}]
    extra = {"tradedQuantity": 1, "tokenValidity": "", "sodLimit": 1, "availabelBalance": 1, "totalMargin": 1}
    whole = row() | position() | extra | {"totalQty": 1, "ordersAllowed": None, "activeSegment": "E", "primaryIP": "x"}
    for _ in range(3000):
        one = {key: rng.choice(odd) if rng.random() < 0.1 else value for key, value in whole.items()}
        for body in (one, [one], {"status": "success", "data": one}, rng.choice(odd)):
            with contextlib.suppress(FrameError):
                read(body)


def test_every_captured_body_is_read() -> None:
    by_name = {path.name: parse_body(path.read_bytes()) for path in captured("rest_")}
    for name in ("rest_orders_list.json", "rest_update_pair_0.json"):
        orders, problems = read_orders(by_name[name], CLIENT)
        assert orders
        assert not problems
    assert read_order(by_name["rest_order_by_id_is_a_list.json"], CLIENT) is not None
    assert bodies.read_holdings(by_name["rest_holdings.json"])[0].net_quantity == 2
    assert bodies.read_funds(by_name["rest_fundlimit.json"]).available > 0
    assert bodies.read_profile(by_name["rest_profile.json"]).client_id == CLIENT
    assert bodies.read_margin(by_name["rest_margincalculator.json"]).total == 1000
    for name in ("rest_trades_today.json", "rest_trade_history.json", "rest_trades_history_2026-09.json"):
        trades, problems = bodies.read_trades(by_name[name])
        assert trades
        assert not problems
