"""What becomes of an order: in the book, on the stream, in the ledger."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from copytrader.simulator import Carried, Settings
from tests.simulator.conftest import Desk, Refusal

FOLLOWER_ID = "1000000002"
BARE = "Missing required fields, bad values for parameters etc."


def test_a_placement_is_in_transit_and_then_pending(desk: Desk) -> None:
    answer = json.loads(desk.place().body)
    assert answer["orderStatus"] == "TRANSIT"
    assert desk.row(answer["orderId"])["orderStatus"] == "TRANSIT"
    assert desk.frames == []

    desk.passes()
    assert desk.row(answer["orderId"])["orderStatus"] == "PENDING"
    assert desk.statuses() == ["Pending"]
    assert [row.kind for row in desk.exchange.ledger.where(order_id=answer["orderId"])][:2] == ["accepted", "request"]


def test_an_order_in_transit_is_in_the_book_but_not_found_by_its_correlation_id(desk: Desk, refused: Refusal) -> None:
    desk.place()
    assert len(desk.get("/orders")) == 1
    assert refused(desk.request("GET", "/orders/external/ct1-abc"))[:2] == (404, "DH-906")
    desk.passes()
    assert desk.get("/orders/external/ct1-abc")["correlationId"] == "ct1-abc"


def test_an_unknown_order_id_answers_an_empty_list(desk: Desk) -> None:
    assert desk.get("/orders/322261123999999") == []


def test_an_order_in_transit_can_be_modified_but_not_cancelled(desk: Desk, refused: Refusal) -> None:
    order_id = json.loads(desk.place().body)["orderId"]
    assert refused(desk.request("DELETE", f"/orders/{order_id}")) == (400, "DH-906", "Order is in Transit state")
    assert json.loads(desk.modify(order_id, price=94.0).body) == {"orderId": order_id, "orderStatus": "TRANSIT"}
    desk.passes()
    assert desk.statuses() == ["Pending", "Modified"]
    assert desk.row(order_id)["price"] == 94.0


def test_a_cancel_rewrites_the_time_of_creation_and_leaves_nothing_remaining(desk: Desk) -> None:
    order_id = desk.placed()
    before = desk.row(order_id)["createTime"]
    desk.passes(60)
    answer = desk.request("DELETE", f"/orders/{order_id}")
    assert json.loads(answer.body) == {"orderId": order_id, "orderStatus": "CANCELLED"}
    assert desk.row(order_id)["orderStatus"] == "PENDING"
    desk.passes()

    row = desk.row(order_id)
    assert (row["orderStatus"], row["remainingQuantity"], row["filledQty"]) == ("CANCELLED", 0, 0)
    assert row["createTime"] > before
    assert "remainingQuantity" not in desk.frames[-1]


def test_a_fill_can_come_between_a_cancel_and_its_effect(desk: Desk) -> None:
    order_id = desk.placed()
    desk.request("DELETE", f"/orders/{order_id}")
    desk.exchange.fill(order_id)
    desk.passes()
    assert desk.row(order_id)["orderStatus"] == "TRADED"
    assert desk.statuses() == ["Pending", "Traded"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_ended_order_can_be_neither_modified_nor_cancelled(desk: Desk, refused: Refusal, method: str) -> None:
    order_id = desk.placed(price=120.0)
    assert desk.row(order_id)["orderStatus"] == "TRADED"
    answer = desk.modify(order_id) if method == "PUT" else desk.request("DELETE", f"/orders/{order_id}")
    assert refused(answer)[:2] == (400, "DH-906")


def test_an_order_can_be_modified_twenty_five_times(desk: Desk, refused: Refusal) -> None:
    order_id = desk.placed()
    for number in range(25):
        assert desk.modify(order_id, price=80 + number).status == 200
        desk.passes()
    assert refused(desk.modify(order_id))[:2] == (400, "DH-906")


def test_a_refused_modification_tells_the_attempted_price_and_keeps_the_old_one(desk: Desk) -> None:
    order_id = desk.placed()
    desk.modify(order_id, price=2000.0)
    desk.passes()
    frame = desk.frames[-1]
    assert (frame["status"], frame["price"], frame["remarks"]) == ("Mod-Rejected", 2000, "E0001")
    assert frame["exchOrderTime"] == "0001-01-01 00:00:00"
    assert frame["reasonDescription"] == f"RMS:{order_id}:Order Price needs to be Circuit Limits of 0.05 to 1000"
    assert desk.row(order_id)["price"] == 95.0


def test_partial_fills_are_cumulative_and_the_price_comes_with_the_last(desk: Desk) -> None:
    order_id = desk.placed()
    desk.exchange.fill(order_id, 75, Decimal(95))
    part = desk.frames[-1]
    assert (part["status"], part["tradedQty"], part["remainingQuantity"]) == ("Part-Traded", 75, 75)
    assert part["avgTradedPrice"] == 95
    assert "tradedPrice" not in part

    desk.exchange.fill(order_id, 75, Decimal(94))
    last = desk.frames[-1]
    assert (last["status"], last["tradedQty"], last["tradedPrice"], last["avgTradedPrice"]) == ("Traded", 150, 94, 94.5)
    assert "remainingQuantity" not in last
    trades = desk.get("/trades")
    assert [trade["tradedQuantity"] for trade in trades] == [75, 75]
    assert desk.get(f"/trades/{order_id}") == trades
    assert desk.row(order_id)["averageTradedPrice"] == 94.5


def test_an_api_market_order_becomes_a_protected_limit(desk: Desk) -> None:
    order_id = desk.placed(orderType="MARKET", price=0, transactionType="BUY")
    row = desk.row(order_id)
    assert (row["orderType"], row["price"], row["orderStatus"]) == ("LIMIT", 111.1, "TRADED")
    pending, traded = desk.frames
    assert (pending["orderType"], pending["price"]) == ("LMT", 111.1)
    assert (pending["avgTradedPrice"], pending["remainingQuantity"]) == (110, 150)
    assert "tradedQty" not in pending
    assert traded["tradedPrice"] == 110
    sell = desk.placed(orderType="MARKET", price=0, transactionType="SELL")
    assert desk.row(sell)["price"] == 108.9


def test_an_app_market_order_stays_a_market_order(desk: Desk) -> None:
    order_id = desk.leader.place("NSE_FNO", "40001", "BUY", 75)
    pending, traded = desk.leader_frames
    assert (pending["orderType"], pending["orderPlatform"], pending["source"]) == ("MKT", "FAST", "N")
    assert (pending["algoId"], pending["correlationId"]) == ("0", "NA")
    assert "price" not in pending
    assert traded["status"] == "Traded"
    assert desk.exchange.orders[order_id].terms.order_type == "MARKET"


def test_a_stop_loss_triggers_as_a_limit_without_trigger(desk: Desk) -> None:
    order_id = desk.placed(transactionType="SELL", orderType="STOP_LOSS", price=98.0, triggerPrice=100.0)
    desk.exchange.set_price("NSE_FNO", "40001", Decimal(105))
    assert desk.statuses() == ["Pending"]
    desk.exchange.set_price("NSE_FNO", "40001", Decimal(99))
    triggered, traded = desk.frames[1:]
    assert (triggered["status"], triggered["orderType"], triggered["price"]) == ("Triggered", "LMT", 98)
    assert triggered["reasonDescription"] == "STOPLOSS TRIGGER"
    assert "triggerPrice" not in triggered
    assert (traded["status"], traded["orderType"], traded["tradedPrice"]) == ("Traded", "LMT", 99)
    assert desk.row(order_id)["orderType"] == "LIMIT"


def test_a_triggered_stop_loss_may_stand_in_the_book_as_it_was(desk: Desk) -> None:
    desk.exchange.settings = Settings(triggered_as_limit=False)
    desk.exchange.accounts[FOLLOWER_ID].fill_policy = "manual"
    order_id = desk.placed(transactionType="SELL", orderType="STOP_LOSS", price=98.0, triggerPrice=100.0)
    desk.exchange.trigger(order_id)
    assert (desk.row(order_id)["orderType"], desk.row(order_id)["triggerPrice"]) == ("STOP_LOSS", 100.0)
    assert desk.frames[-1]["orderType"] == "LMT"


def test_a_resting_limit_fills_at_its_own_price_when_the_market_crosses_it(desk: Desk) -> None:
    order_id = desk.placed(price=95.0)
    desk.exchange.set_price("NSE_FNO", "40001", Decimal(90))
    assert desk.row(order_id)["averageTradedPrice"] == 95.0


def test_a_manual_account_fills_only_when_scripted(desk: Desk) -> None:
    desk.exchange.accounts[FOLLOWER_ID].fill_policy = "manual"
    order_id = desk.placed(price=200.0)
    desk.exchange.set_price("NSE_FNO", "40001", Decimal(90))
    assert desk.row(order_id)["orderStatus"] == "PENDING"


def test_what_is_left_of_an_ioc_order_is_cancelled_at_once(desk: Desk) -> None:
    order_id = desk.placed(validity="IOC")
    assert desk.row(order_id)["orderStatus"] == "CANCELLED"
    assert desk.statuses() == ["Pending", "Cancelled"]


def test_an_after_market_order_waits_for_its_release(desk: Desk) -> None:
    order_id = desk.placed(price=200.0, afterMarketOrder=True, amoTime="OPEN")
    row = desk.row(order_id)
    assert (row["orderStatus"], row["exchangeOrderId"], row["exchangeTime"]) == ("PENDING", "0", "0001-01-01 00:00:00")
    assert desk.frames[-1]["offMktFlag"] == "1"
    desk.exchange.release_after_market(order_id)
    assert desk.row(order_id)["orderStatus"] == "TRADED"


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"quantity": 100}, "DH-905", "Quantity should be a multiple of the lot size 75"),
        ({"quantity": 0}, "DH-905", BARE),
        ({"quantity": 75.5}, "DH-905", BARE),
        ({"quantity": True}, "DH-905", BARE),
        ({"tradingSymbol": ""}, "DH-905", BARE),
        ({"correlationId": "c" * 26}, "DH-905", BARE),
        ({"correlationId": "a/b"}, "DH-905", BARE),
        ({"transactionType": "HOLD"}, "DH-905", BARE),
        ({"securityId": None}, "DH-905", BARE),
        ({"dhanClientId": None}, "DH-905", BARE),
        ({"price": 0}, "DH-905", BARE),
        ({"price": float("nan")}, "DH-905", BARE),
        ({"afterMarketOrder": True}, "DH-905", BARE),
        ({"securityId": "99999"}, "DH-905", "Invalid SecurityId or Exchange Segment"),
        ({"productType": "CNC"}, "DH-905", "Product CNC is not allowed in NSE_FNO"),
        (
            {"orderType": "STOP_LOSS_MARKET", "triggerPrice": 90},
            "DH-906",
            "Trigger Price should be greater than Price",
        ),
        (
            {"orderType": "STOP_LOSS", "triggerPrice": 99, "price": 95},
            "DH-906",
            "Trigger Price should be less than Price",
        ),
    ],
)
def test_a_bad_placement_is_refused_and_never_enters_the_book(
    desk: Desk, refused: Refusal, changes: dict[str, Any], code: str, text: str
) -> None:
    assert refused(desk.place(**changes)) == (400, code, text)
    assert desk.get("/orders") == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"quantity": 1875}, "RMS:{}:Order quantity 1875 exceeds the freeze quantity limit of 1800"),
        ({"price": 95.03}, "EXCH:16283: The order price is not multiple of the tick size"),
        ({"price": 1001.0}, "RMS:{}:Order Price needs to be Circuit Limits of 0.05 to 1000"),
    ],
)
def test_rms_and_exchange_reject_after_acceptance(desk: Desk, changes: dict[str, Any], text: str) -> None:
    order_id = desk.placed(**changes)
    row, frame = desk.row(order_id), desk.frames[-1]
    assert (row["orderStatus"], row["omsErrorCode"]) == ("REJECTED", "0")
    assert row["omsErrorDescription"] == frame["reasonDescription"] == text.format(order_id)
    assert row["remainingQuantity"] == row["quantity"]
    assert (frame["status"], frame["exchOrderNo"], frame["remarks"]) == ("Rejected", "0", "E0001")


def test_the_largest_quantity_below_the_freeze_is_accepted(desk: Desk) -> None:
    assert desk.row(desk.placed(quantity=1800))["orderStatus"] == "PENDING"


def test_margin_counts_only_where_it_is_asked_for_and_never_for_an_exit(desk: Desk) -> None:
    account = desk.exchange.accounts[FOLLOWER_ID]
    account.check_margin, account.funds = True, Decimal(10_000)
    poor = desk.placed()
    assert desk.row(poor)["omsErrorDescription"] == (
        f"RMS:{poor}:You have insufficient funds. Please add Rs.4250.00 to trade."
    )
    desk.exchange.carry(FOLLOWER_ID, Carried(("NSE_FNO", "40001"), "MARGIN", 75, Decimal(100)))
    exit_id = desk.placed(transactionType="SELL", quantity=75, price=110.0)
    assert desk.row(exit_id)["orderStatus"] == "TRADED"
    too_much = desk.placed(transactionType="SELL", quantity=75, price=110.0)
    assert desk.row(too_much)["orderStatus"] == "REJECTED"


def test_positions_and_funds_follow_from_fills(desk: Desk) -> None:
    desk.exchange.carry(FOLLOWER_ID, Carried(("NSE_FNO", "40001"), "MARGIN", 75, Decimal(100)))
    desk.placed(price=120.0)
    desk.exchange.set_price("NSE_FNO", "40001", Decimal(115))
    (row,) = desk.get("/positions")
    assert (row["netQty"], row["positionType"], row["dayBuyQty"], row["carryForwardBuyQty"]) == (225, "LONG", 150, 75)
    assert row["buyAvg"] == pytest.approx((75 * 100 + 150 * 110) / 225)
    assert row["unrealizedProfit"] == pytest.approx(225 * 115 - 24_000)

    desk.placed(transactionType="SELL", quantity=225, price=115.0)
    (row,) = desk.get("/positions")
    assert (row["netQty"], row["positionType"], row["realizedProfit"]) == (0, "CLOSED", 1875.0)
    funds = desk.get("/fundlimit")
    assert (funds["availabelBalance"], funds["sodLimit"], funds["utilizedAmount"]) == (1_001_875.0, 1_000_000.0, 0.0)


def test_no_holdings_is_an_error(desk: Desk, refused: Refusal) -> None:
    assert refused(desk.request("GET", "/holdings")) == (500, "DH-1111", "No holdings available")


def test_without_a_correlation_id_the_broker_makes_one(desk: Desk) -> None:
    order_id = desk.placed(correlationId=None)
    assert desk.row(order_id)["correlationId"] == f"{FOLLOWER_ID}-1795408200000"


def test_the_same_correlation_id_is_accepted_twice(desk: Desk) -> None:
    first, second = desk.placed(), desk.placed()
    assert first != second
    assert desk.get("/orders/external/ct1-abc")["orderId"] == second
    accepted = desk.exchange.ledger.where(kind="accepted", correlation_id="ct1-abc", client_id=FOLLOWER_ID)
    assert [row.order_id for row in accepted] == [first, second]


def test_a_closed_market_takes_no_changes(desk: Desk, refused: Refusal) -> None:
    order_id = desk.placed()
    desk.exchange.settings = Settings(market_open=False)
    assert refused(desk.modify(order_id))[2] == "Market is Closed! You cannot modify/cancel an order now."


def test_without_transit_time_everything_has_happened_before_the_answer(desk: Desk) -> None:
    desk.exchange.settings = Settings(transit_seconds=0)
    order_id = json.loads(desk.place(price=120.0).body)["orderId"]
    assert desk.row(order_id)["orderStatus"] == "TRADED"
    assert desk.exchange.next_due is None


def test_the_leader_trades_by_hand_in_every_way(desk: Desk) -> None:
    leader, frames = desk.leader, desk.leader_frames
    order_id = leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", Decimal(95))
    leader.modify(order_id, price=Decimal(96))
    leader.modify_rejected(order_id, price=Decimal(99))
    leader.fill(order_id, 75)
    leader.cancel(order_id)
    assert [frame["status"] for frame in frames] == ["Pending", "Modified", "Mod-Rejected", "Part-Traded", "Cancelled"]
    assert [frame["price"] for frame in frames] == [95, 96, 99, 96, 96]
    assert frames[-1]["tradedQty"] == 75
    leader.place("NSE_FNO", "40001", "BUY", 150, reject="no money")
    assert (frames[-1]["status"], frames[-1]["reasonDescription"][-8:]) == ("Rejected", "no money")
    stop = leader.place("NSE_FNO", "40001", "SELL", 75, "STOP_LOSS", Decimal(89), Decimal(90))
    leader.trigger(stop)
    leader.expire(stop)
    assert [frame["status"] for frame in frames[-3:]] == ["Pending", "Triggered", "Expired"]
    assert desk.exchange.violations == []


def test_a_leader_order_changed_to_market_has_no_price(desk: Desk) -> None:
    desk.exchange.accounts["1000000001"].fill_policy = "manual"
    order_id = desk.leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", Decimal(95))
    desk.leader.modify(order_id, order_type="MARKET")
    assert desk.leader_frames[-1]["orderType"] == "MKT"
    assert "price" not in desk.leader_frames[-1]


def test_super_order_legs_and_forever_children_bear_their_marks(desk: Desk) -> None:
    entry = desk.leader.place("NSE_FNO", "40001", "BUY", 75, super_order=True)
    desk.leader.super_leg(entry, 2, Decimal(90), Decimal(91))
    desk.leader.super_leg(entry, 3, Decimal(130))
    stop, target = desk.leader_frames[-2:]
    assert (stop["legNo"], stop["orderType"], stop["txnType"], stop["remarks"]) == (2, "SL", "S", "Super Order")
    assert (target["legNo"], target["orderType"]) == (3, "LMT")

    desk.leader.forever_child("NSE_FNO", "40001", "SELL", 75)
    child: dict[str, Any] = next(frame for frame in desk.leader_frames if frame["orderPlatform"] == "FOVR")
    assert (child["offMktFlag"], child["correlationId"], child["source"], child["algoId"]) == ("1", "NR", "P", "0")
    assert (child["algoOrdNo"], child["orderType"], child["price"]) == (32132609031621, "LMT", 108.9)


def test_symbols_on_the_stream_are_cut_at_fifteen_characters(desk: Desk) -> None:
    desk.placed()
    assert desk.frames[0]["symbol"] == "NIFTY-Nov2026-2"
    assert desk.get("/orders")[0]["tradingSymbol"] == "NIFTY-Nov2026-25000-CE"


def test_what_a_fill_cannot_do_is_said(desk: Desk) -> None:
    order_id = desk.placed()
    with pytest.raises(ValueError, match="cannot fill 300"):
        desk.exchange.fill(order_id, 300)
    desk.exchange.cancel(order_id)
    with pytest.raises(ValueError, match="is CANCELLED"):
        desk.exchange.fill(order_id)


def test_a_day_in_a_new_clock_gives_the_same_ledger(desk: Desk) -> None:
    other = Desk()
    for one in (desk, other):
        one.placed()
        one.clock.now += timedelta(minutes=1)
        one.placed(price=120.0)
        one.leader.place("NSE_FNO", "40001", "BUY", 75)
    assert list(desk.exchange.ledger) == list(other.exchange.ledger)
