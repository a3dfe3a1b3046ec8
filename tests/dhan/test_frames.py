"""Order-update frames: what is read from them, and that nothing odd is ever read as an order."""

from __future__ import annotations

import json
import random
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from copytrader.core.model import (
    IST,
    OrderKind,
    OrderStatus,
    OrderType,
    Product,
    RefusalClass,
    Security,
    Side,
    Validity,
)
from copytrader.dhan.fields import MAX_PRICE, MAX_QUANTITY, FrameError
from copytrader.dhan.frames import NotAnOrder, read_frame
from tests.dhan.support import CLIENT, captured, frame


def order_of(**changes: Any) -> Any:
    return read_frame(frame(**changes), CLIENT)


def test_a_pending_frame_gives_the_whole_order() -> None:
    order = order_of()

    assert order.order_id == "212260907000001"
    assert order.status is OrderStatus.PENDING
    assert order.kind is OrderKind.ORDINARY
    assert order.ticket.security == Security("NSE_FNO", "54321")
    assert order.ticket.side is Side.BUY
    assert order.ticket.product is Product.MARGIN
    assert order.ticket.order_type is OrderType.LIMIT
    assert order.ticket.validity is Validity.DAY
    assert order.ticket.quantity == 130
    assert order.ticket.price == Decimal("188.1")
    assert order.ticket.trigger_price == 0
    assert not order.ticket.after_market
    assert order.placed_at == datetime(2026, 9, 7, 10, 29, 58, tzinfo=IST)
    assert order.updated_at == datetime(2026, 9, 7, 10, 29, 59, tzinfo=IST)
    assert order.filled_quantity == 0
    assert order.correlation_id == ""
    assert order.platform == "FAST"
    assert order.last_price == Decimal("190.55")
    assert order.note == "CONFIRMED"


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (
            "Rejected",
            "RMS:1:Insufficient Funds, required margin is 2745.00 and available margin 602. Add Funds to Trade",
            RefusalClass.MARGIN,
        ),
        ("REJECTED", "EXCH:16283 : The order price is out of the daily price range", RefusalClass.TICK),
        ("Rejected", "RMS: Invalid IP", RefusalClass.IP),
        ("Rejected", "RMS: security is not in the whitelist of client", RefusalClass.OTHER),
        ("Rejected", "", None),
        ("Pending", "CONFIRMED", None),
        ("Cancelled", "insufficient funds", None),
    ],
)
def test_a_rejection_is_classified_by_its_words(status: str, words: str, expected: RefusalClass | None) -> None:
    assert order_of(status=status, reasonDescription=words).refusal is expected


@pytest.mark.parametrize(
    ("exchange", "segment", "expected"),
    [
        ("NSE", "E", "NSE_EQ"),
        ("NSE", "D", "NSE_FNO"),
        ("NSE", "C", "NSE_CURRENCY"),
        ("BSE", "E", "BSE_EQ"),
        ("BSE", "D", "BSE_FNO"),
        ("BSE", "C", "BSE_CURRENCY"),
        ("MCX", "M", "MCX_COMM"),
    ],
)
def test_exchange_and_segment_make_the_exchange_segment(exchange: str, segment: str, expected: str) -> None:
    assert order_of(exchange=exchange, segment=segment).ticket.security.exchange_segment == expected


@pytest.mark.parametrize(
    ("code", "product", "kind"),
    [
        ("C", Product.CNC, OrderKind.ORDINARY),
        ("I", Product.INTRADAY, OrderKind.ORDINARY),
        ("M", Product.MARGIN, OrderKind.ORDINARY),
        ("F", Product.MTF, OrderKind.ORDINARY),
        ("V", Product.CO, OrderKind.COVER),
        ("B", Product.BO, OrderKind.BRACKET),
    ],
)
def test_product_codes_are_products_and_tell_brackets_and_covers(code: str, product: Product, kind: OrderKind) -> None:
    order = order_of(product=code)
    assert (order.ticket.product, order.kind) == (product, kind)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("LMT", OrderType.LIMIT),
        ("MKT", OrderType.MARKET),
        ("SL", OrderType.STOP_LOSS),
        ("SLM", OrderType.STOP_LOSS_MARKET),
    ],
)
def test_order_type_codes_are_order_types(code: str, expected: OrderType) -> None:
    assert order_of(orderType=code).ticket.order_type is expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Pending", OrderStatus.PENDING),
        ("PENDING", OrderStatus.PENDING),
        ("Part-Traded", OrderStatus.PART_TRADED),
        ("PART_TRADED", OrderStatus.PART_TRADED),
        ("Mod-Rejected", OrderStatus.MOD_REJECTED),
        ("Modified", OrderStatus.MODIFIED),
        ("Triggered", OrderStatus.TRIGGERED),
        ("Cancelled", OrderStatus.CANCELLED),
        ("Rejected", OrderStatus.REJECTED),
        ("Expired", OrderStatus.EXPIRED),
        ("Transit", OrderStatus.TRANSIT),
        ("Traded", OrderStatus.TRADED),
    ],
)
def test_statuses_are_read_in_title_and_upper_case(word: str, expected: OrderStatus) -> None:
    assert order_of(status=word).status is expected


def test_a_frame_in_the_documented_casing_reads_the_same() -> None:
    data = json.loads(frame())["Data"]
    documented = json.dumps({"Data": {k[0].upper() + k[1:]: v for k, v in data.items()}, "Type": "order_alert"})
    assert read_frame(documented, CLIENT) == order_of()


def test_bare_data_and_bytes_read_the_same() -> None:
    data = json.loads(frame())["Data"]
    assert read_frame(json.dumps(data), CLIENT) == order_of()
    assert read_frame(frame().encode(), CLIENT) == order_of()


def test_what_dhan_leaves_out_is_zero() -> None:
    order = order_of(orderType="MKT", price=None, refLtp=None, reasonDescription=None)
    assert order.ticket.price == 0
    assert order.last_price is None
    assert order.note == ""


def test_fills_are_cumulative_and_an_average_alone_fills_nothing() -> None:
    assert order_of(status="Part-Traded", tradedQty=65, avgTradedPrice=188).filled_quantity == 65
    order = order_of(avgTradedPrice=3270)
    assert (order.filled_quantity, order.average_price) == (0, 3270)


def test_a_forever_child_is_no_after_market_order() -> None:
    order = order_of(orderPlatform="FOVR", offMktFlag="1", algoOrdNo=32132609031621, correlationId="NR")
    assert order.kind is OrderKind.FOREVER_CHILD
    assert not order.ticket.after_market
    older = order_of(orderPlatform=None, offMktFlag="1", algoOrdNo=32132609031621, correlationId="NR")
    assert older.kind is OrderKind.FOREVER_CHILD


def test_the_platform_alone_tells_a_forever_child() -> None:
    assert order_of(orderPlatform="FOVR").kind is OrderKind.FOREVER_CHILD


@pytest.mark.parametrize("changes", [{"algoOrdNo": 32132609031621}, {"correlationId": "NR"}], ids=str)
def test_one_sign_of_a_forever_child_is_not_enough(changes: dict[str, Any]) -> None:
    assert order_of(**changes).kind is OrderKind.ORDINARY


def test_an_after_market_order_is_one() -> None:
    assert order_of(offMktFlag="1").ticket.after_market


@pytest.mark.parametrize(
    "changes",
    [
        {"legNo": 2},
        {"legNo": 3},
        {"remarks": "Super Order"},
        {"status": "Active"},
        {"status": "Dummy"},
        {"orderPlatform": "VTT SL"},
        {"correlationId": "SQROFF-1"},
    ],
)
def test_super_orders_are_recognised(changes: dict[str, Any]) -> None:
    assert order_of(**changes).kind is OrderKind.SUPER


def test_correlation_ids_are_kept_and_sentinels_are_not() -> None:
    assert order_of(correlationId="ct1-x").is_ours
    assert order_of(correlationId="NR").correlation_id == ""
    assert order_of(correlationId=None).correlation_id == ""


@pytest.mark.parametrize("written", [130, 130.0, "130", "130.0"])
def test_a_number_is_the_same_however_it_is_written(written: object) -> None:
    order = order_of(quantity=written, price=written, tradedQty=None)
    assert (order.ticket.quantity, order.ticket.price) == (130, Decimal(130))
    assert type(order.ticket.quantity) is int


def test_no_time_is_no_time() -> None:
    assert order_of(lastUpdatedTime="0001-01-01 00:00:00").updated_at is None
    assert order_of(orderDateTime=None).placed_at is None


@pytest.mark.parametrize(
    "changes",
    [
        {"clientId": "1000000009"},
        {"clientId": None},
        {"orderNo": None},
        {"orderNo": "../positions"},
        {"orderNo": "٣"},
        {"securityId": ""},
        {"exchange": "XYZ"},
        {"segment": None},
        {"product": "Z"},
        {"txnType": "X"},
        {"orderType": "FOO"},
        {"validity": None},
        {"status": "Sleeping"},
        {"status": None},
        {"quantity": None},
        {"quantity": 0},
        {"quantity": -5},
        {"quantity": True},
        {"quantity": 75.5},
        {"quantity": "75.5"},
        {"quantity": "7e1"},
        {"quantity": ""},
        {"quantity": "٣"},
        {"quantity": "-75"},
        {"quantity": "1" * 17},
        {"quantity": 10**20},
        {"quantity": [75]},
        {"tradedQty": 131},
        {"tradedQty": -1},
        {"tradedQty": 1.5},
        {"price": -1},
        {"price": "1,088"},
        {"price": "NaN"},
        {"price": " 188"},
        {"price": True},
        {"price": 1e12},
        {"price": 1e-20},
        {"triggerPrice": {}},
        {"orderDateTime": "yesterday"},
        {"orderDateTime": 5},
        {"orderDateTime": "9999-01-01 00:00:00"},
        {"correlationId": 7},
    ],
)
def test_an_odd_field_refuses_the_frame(changes: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        order_of(**changes)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "hello",
        "[]",
        "null",
        '"order_alert"',
        frame()[:-5],
        frame().replace("188.1", "NaN"),
        frame().replace("188.1", "Infinity"),
        frame().replace("188.1", "1e999"),
        frame().replace("188.1", "1e9999999"),
        frame().replace("188.1", "1e99999999999999999999"),
        frame().replace("188.1", "1" * 6000),
        frame().replace("188.1", "0." + "1" * 500),
        frame().replace('"quantity": 130', '"quantity": 130, "Quantity": 65'),
        '{"Data": ' * 70 + "1" + "}" * 70,
        "[" * 100_000,
        '{"Type": "order_alert", "Data": null}',
        '{"Type": "order_alert", "Data": {}}',
        '{"Type": "order_alert"}',
        b"\xff\xfe",
        frame(note="x" * 70_000),
    ],
)
def test_an_odd_text_refuses_the_frame(raw: str | bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(raw, CLIENT)


def test_remarks_may_come_twice_as_in_dhans_own_sample() -> None:
    raw = frame().replace('"remarks": " "', '"Remarks": "Super Order", "remarks": "NR"')
    assert read_frame(raw, CLIENT).kind is OrderKind.SUPER


@pytest.mark.parametrize("raw", ["2", '{"Type": "heartbeat"}', '{"Type": "trade_alert", "Data": {}}', "{}", '{"a": 1}'])
def test_a_frame_about_something_else_is_not_an_order(raw: str) -> None:
    with pytest.raises(NotAnOrder):
        read_frame(raw, CLIENT)


def test_error_texts_are_bounded_and_printable() -> None:
    for changes in ({"status": "\x1b]0;evil\x07" + "x" * 5000}, {"orderDateTime": "\x00" * 5000}):
        with pytest.raises(FrameError) as caught:
            order_of(**changes)
        assert len(str(caught.value)) < 200
        assert str(caught.value).isprintable()


def test_texts_from_the_broker_are_bounded_and_printable() -> None:
    order = order_of(reasonDescription="\x1b[31mred\x00\ud800" + "y" * 1000, orderPlatform="A\nB", correlationId="a\tb")
    assert len(order.note) <= 300
    assert (order.note + order.platform + order.correlation_id).isprintable()


def test_mutated_frames_raise_nothing_but_our_own() -> None:
    rng = random.Random(7)
    tokens = ["NaN", "-1", "1e999", "9" * 20, "null", '"', "{", "[", "\\u0000", "\\ud800", "true", '""', "0.1", "٣"]
    good = frame()
    read = 0
    for _ in range(20_000):
        text = list(good)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(len(text))
            chance = rng.random()
            if chance < 0.3:
                text[at] = chr(rng.randrange(0x250))
            elif chance < 0.6:
                del text[at : at + rng.randint(1, 20)]
                text = text or ["x"]
            else:
                text[at:at] = rng.choice(tokens)
        try:
            order = read_frame("".join(text), CLIENT)
        except (FrameError, NotAnOrder):
            continue
        read += 1
        assert 1 <= order.ticket.quantity <= MAX_QUANTITY
        assert 0 <= order.filled_quantity <= order.ticket.quantity
        assert 0 <= order.ticket.price <= MAX_PRICE
    assert read > 0


def test_every_captured_frame_is_read() -> None:
    count = 0
    for path in captured("ws_"):
        text = path.read_text()
        frames = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
        for one in frames if isinstance(frames, list) else [frames]:
            order = read_frame(json.dumps({"Data": one["Data"], "Type": "order_alert"}), CLIENT)
            assert order.kind is (OrderKind.FOREVER_CHILD if "FOVR" in path.name else OrderKind.ORDINARY)
            assert not order.ticket.after_market
            count += 1
    assert count >= 70
