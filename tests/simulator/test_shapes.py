"""Rows, frames and errors have the keys, types and sentinels of captured payloads."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest

from copytrader.simulator import LEADER_ID, Exchange, Holding
from tests.simulator.conftest import CAPTURES, Capture, Desk, Fields

FOLLOWER_ID = "1000000002"
NEW_KEYS = {"strategyId", "correlationId", "orderPlatform"}
"""Every frame since 2026 has them; older captures do not."""


def kinds(row: dict[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in row.items()}


def test_an_order_row_has_the_captured_keys_and_types(desk: Desk, capture: Capture) -> None:
    order_id = desk.placed(afterMarketOrder=True, amoTime="OPEN")
    captured = capture("rest_orders_list.json")[0]
    row = desk.row(order_id)
    assert list(row) == list(captured)
    assert kinds(row) == kinds(captured)
    for sentinel in ("exchangeOrderId", "exchangeTime", "legName", "omsErrorCode", "drvOptionType", "orderStatus"):
        assert row[sentinel] == captured[sentinel]


def test_a_rejected_row_says_why_as_the_captured_one_does(desk: Desk, capture: Capture) -> None:
    captured = capture("rest_order_rejected_2026-02-09_PARTIAL.json")[0]
    row = desk.row(desk.placed(price=2000.0))
    for key in ("orderStatus", "exchangeTime", "omsErrorCode", "averageTradedPrice", "filledQty"):
        assert row[key] == captured[key]
    assert captured["remainingQuantity"] == captured["quantity"]
    assert row["omsErrorDescription"].startswith(f"RMS:{row['orderId']}:")
    assert captured["omsErrorDescription"].startswith(f"RMS:{captured['orderId']}:")


def test_a_cancelled_row_changes_as_the_captured_pair_does(desk: Desk, capture: Capture) -> None:
    before, after = capture("rest_orders_list.json")[0], capture("rest_update_pair_0.json")[0]
    changed = {key for key in before if before[key] != after[key]}
    order_id = desk.placed(afterMarketOrder=True, amoTime="OPEN")
    mine_before = desk.row(order_id)
    desk.passes(60)
    desk.request("DELETE", f"/orders/{order_id}")
    desk.passes()
    mine_after = desk.row(order_id)
    assert {key for key in mine_before if mine_before[key] != mine_after[key]} == changed


def test_a_trade_row_has_the_captured_keys_and_types(desk: Desk, capture: Capture) -> None:
    desk.placed(price=120.0)
    captured = next(row for row in capture("rest_trades_today.json") if row["exchangeSegment"] == "NSE_FNO")
    (row,) = desk.get("/trades")
    assert list(row) == list(captured)
    assert kinds(row) == kinds(captured)
    assert row["drvOptionType"] == captured["drvOptionType"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("/fundlimit", "rest_fundlimit.json"), ("/profile", "rest_profile.json"), ("/holdings", "rest_holdings.json")],
)
def test_account_answers_have_the_captured_keys_and_types(desk: Desk, capture: Capture, path: str, name: str) -> None:
    desk.exchange.hold(FOLLOWER_ID, Holding("RELIANCE", "50001", 5, Decimal(1300)))
    mine, captured = desk.get(path), capture(name)
    mine, captured = (mine[0], captured[0]) if isinstance(mine, list) else (mine, captured)
    assert list(mine) == list(captured)
    assert kinds(mine) == kinds(captured)


def test_the_margin_answer_has_the_captured_keys_and_types(desk: Desk, capture: Capture, order_fields: Fields) -> None:
    fields = order_fields(orderType=None, validity=None, correlationId=None)
    mine = json.loads(desk.request("POST", "/margincalculator", fields).body)
    captured = capture("rest_margincalculator.json")
    assert kinds(mine) == kinds(captured)
    assert mine["totalMargin"] == 150 * 95


def test_errors_have_the_captured_bodies(desk: Desk, capture: Capture) -> None:
    assert json.loads(desk.request("GET", "/orders", token="wrong").body) == capture("error_401_dh901.json")
    assert json.loads(desk.place(quantity=0).body) == capture("error_400_dh905.json")
    quoted = {(row["http"], (row.get("body") or row).get("errorCode")): row for row in _objects(capture)}
    empty = desk.request("GET", "/holdings")
    assert json.loads(empty.body) == quoted[500, "DH-1111"]["body"]
    unknown = json.loads(desk.request("GET", "/orders/external/nothing").body)
    assert unknown["errorMessage"] == quoted[404, "DH-906"]["errorMessage"]
    gateway = json.loads(desk.request("GET", "/unknown_error_endpoint").body)
    captured = capture("error_404_gateway.json")
    assert gateway | {"timestamp": captured["timestamp"]} == captured


def _objects(capture: Capture) -> list[dict[str, Any]]:
    return [row for row in capture("error_bodies_quoted.json") if not isinstance(row.get("body"), list)]


def option_frames(desk: Desk) -> dict[str, dict[str, Any]]:
    """One frame of every kind that the captured session shows, of an option order."""
    leader = desk.leader
    desk.exchange.accounts[LEADER_ID].fill_policy = "manual"
    limit = leader.place("NSE_FNO", "40001", "BUY", 150, "LIMIT", Decimal(95), product="INTRADAY")
    leader.modify(limit, price=Decimal(96))
    leader.modify_rejected(limit, price=Decimal("99.35"))
    stop = leader.place("NSE_FNO", "40001", "SELL", 150, "STOP_LOSS", Decimal(89), Decimal("89.2"), product="INTRADAY")
    leader.modify(stop, trigger_price=Decimal("103.05"))
    leader.trigger(stop)
    leader.fill(limit, 75)
    leader.fill(limit)
    leader.cancel(stop)
    market = leader.place("NSE_FNO", "40001", "SELL", 150, product="INTRADAY")
    leader.fill(market, price=Decimal(110))
    leader.place("NSE_FNO", "40001", "SELL", 300, product="INTRADAY", validity="IOC", reject="Insufficient Funds")
    named = {(frame["status"], frame["orderType"]): frame for frame in desk.leader_frames}
    return {
        "pending_lmt": named["Pending", "LMT"],
        "pending_sl": named["Pending", "SL"],
        "pending_mkt": named["Pending", "MKT"],
        "modified_lmt": named["Modified", "LMT"],
        "modified_sl": named["Modified", "SL"],
        "mod_rejected": named["Mod-Rejected", "LMT"],
        "triggered": named["Triggered", "LMT"],
        "part_traded": named["Part-Traded", "LMT"],
        "traded": named["Traded", "LMT"],
        "traded_mkt": named["Traded", "MKT"],
        "cancelled": named["Cancelled", "LMT"],
        "rejected_fno": named["Rejected", "MKT"],
    }


FIXED = (
    "exchange",
    "segment",
    "product",
    "validity",
    "mktType",
    "legNo",
    "instrument",
    "productName",
    "isin",
    "series",
)


@pytest.mark.parametrize("name", sorted(["pending_lmt", "pending_sl", "pending_mkt", "modified_lmt", "modified_sl"]))
def test_working_frames_look_like_captured_ones(desk: Desk, capture: Capture, name: str) -> None:
    compare(option_frames(desk)[name], capture(f"ws_2025-03-06_{name}.json")["Data"])


@pytest.mark.parametrize(
    "name", ["mod_rejected", "triggered", "part_traded", "traded", "traded_mkt", "cancelled", "rejected_fno"]
)
def test_announcing_frames_look_like_captured_ones(desk: Desk, capture: Capture, name: str) -> None:
    compare(option_frames(desk)[name], capture(f"ws_2025-03-06_{name}.json")["Data"])


def compare(mine: dict[str, Any], captured: dict[str, Any]) -> None:
    assert set(mine) - NEW_KEYS == set(captured)
    assert mine["status"] == captured["status"]
    for key in FIXED:
        assert mine[key] == captured[key], key
    for key in ("orderType", "quantity", "optType"):
        assert type(mine[key]) is type(captured[key])
    zero = "0001-01-01 00:00:00"
    assert (mine["exchOrderTime"] == zero) == (captured["exchOrderTime"] == zero)
    assert (mine["exchOrderNo"] == "0") == (captured["exchOrderNo"] == "0")
    assert mine.get("remainingQuantity") == captured.get("remainingQuantity")
    assert mine.get("tradedQty") == captured.get("tradedQty")
    refused = captured["status"] in ("Rejected", "Mod-Rejected")
    assert refused or mine["reasonDescription"] == captured["reasonDescription"]


@pytest.mark.parametrize(
    ("name", "capture_name"),
    [
        ("api", "ws_2026-09_api_pending.json"),
        ("api_filled", "ws_2026-09_api_pending_with_avgTradedPrice.json"),
        ("app", "ws_2026-09_app_FAST_pending_mkt.json"),
        ("forever", "ws_2026-09_forever_child_FOVR_pending.json"),
    ],
)
def test_frames_of_a_future_have_exactly_the_keys_of_2026(
    desk: Desk, capture: Capture, name: str, capture_name: str
) -> None:
    if name == "api":
        desk.placed(securityId="40201", quantity=65, price=25000.0)
    elif name == "api_filled":
        desk.placed(securityId="40201", quantity=65, price=0, orderType="MARKET")
    elif name == "app":
        desk.leader.place("NSE_FNO", "40201", "BUY", 65)
    else:
        desk.leader.forever_child("NSE_FNO", "40201", "SELL", 65)
    frame, captured = (desk.frames or desk.leader_frames)[0], capture(capture_name)["Data"]
    assert list(frame) == list(captured)
    for key in ("source", "algoId", "orderPlatform", "offMktFlag", "strategyId", "remarks", "strikePrice", "optType"):
        assert frame[key] == captured[key], key


def test_pushed_captures_become_the_leaders_book(desk: Desk, capture: Capture) -> None:
    raw: list[str | bytes] = []
    desk.exchange.subscribe(LEADER_ID, lambda envelope: None, raw.append)
    for name in ("pending_lmt", "modified_lmt", "traded"):
        text = json.dumps(capture(f"ws_2025-03-06_{name}.json"))
        desk.exchange.push_raw(LEADER_ID, text, mirrored=True)
    assert [json.loads(text)["Data"]["status"] for text in raw] == ["Pending", "Modified", "Traded"]
    (order,) = desk.exchange.book(LEADER_ID)
    assert (order.status, order.filled, order.average) == ("TRADED", 150, Decimal("188.1"))
    assert order.instrument.lot_size == 75


def test_a_whole_captured_session_can_be_loaded(desk: Desk, capture: Capture) -> None:
    sequence = capture("ws_2025-03-06_seq_modrejected.json")
    envelopes = [row if "Type" in row else {"Data": row.get("Data", row), "Type": "order_alert"} for row in sequence]
    desk.exchange.load_book_from_frames(LEADER_ID, envelopes)
    (order,) = desk.exchange.book(LEADER_ID)
    assert (order.status, order.terms.price) == ("CANCELLED", Decimal("180.05"))
    assert desk.leader_frames == []


def test_frames_of_our_own_making_mirror_into_an_equal_book(desk: Desk) -> None:
    """What the exchange tells is enough to rebuild what it holds."""
    option_frames(desk)
    copy = Exchange(desk.clock)
    copy.add_account(desk.exchange.accounts[LEADER_ID])
    envelopes = [{"Data": frame, "Type": "order_alert"} for frame in desk.leader_frames]
    copy.load_book_from_frames(LEADER_ID, envelopes)
    mine = [(one.order_id, one.status, one.filled, one.terms.price) for one in desk.exchange.book(LEADER_ID)]
    assert [(one.order_id, one.status, one.filled, one.terms.price) for one in copy.book(LEADER_ID)] == mine


def test_master_files_have_the_published_columns(desk: Desk, capture: Capture) -> None:
    capture("index.json")
    for path, sample in (
        ("api-scrip-master.csv", "excerpt_compact_derivative_rows.csv"),
        ("api-scrip-master-detailed.csv", "excerpt_detailed_derivative_rows.csv"),
    ):
        header = _instruments(sample).splitlines()[0]
        mine = desk.exchange.request("GET", f"/api-data/{path}", {}).body.decode()
        assert mine.splitlines()[0] == header
        assert {line.count(",") for line in mine.splitlines()} == {header.count(",")}


def _instruments(name: str) -> str:
    return (CAPTURES / "instruments" / name).read_text()


def test_the_detailed_master_gives_ticks_in_paise_and_the_first_freezing_quantity(desk: Desk) -> None:
    text = desk.exchange.request("GET", "/api-data/api-scrip-master-detailed.csv", {}).body.decode()
    rows = {row["SECURITY_ID"]: row for row in csv.DictReader(io.StringIO(text))}
    option, future, share = rows["40101"], rows["40201"], rows["50001"]
    assert (option["TICK_SIZE"], option["LOT_SIZE"], option["SM_FREEZE_QTY"]) == ("5.0000", "65.0", "1756")
    assert (option["STRIKE_PRICE"], option["OPTION_TYPE"], option["SEGMENT"]) == ("25000.00000", "CE", "D")
    assert (future["STRIKE_PRICE"], future["OPTION_TYPE"]) == ("-0.01000", "XX")
    assert (share["STRIKE_PRICE"], share["SM_EXPIRY_DATE"], share["SM_FREEZE_QTY"]) == ("", "", "-1")
    assert (share["TICK_SIZE"], share["SERIES"], share["SM_UPPER_LIMIT"]) == ("10.0000", "EQ", "1600.0000")
