"""Dhan's codes and names, and our words for them: sides, products, statuses, exchange segments.

Frames, REST bodies and the instrument file spell the same things differently; the words
of each stand here.  A code that is not here is unknown, and never taken for the nearest one.
"""

from __future__ import annotations

from copytrader.core.model import OrderStatus, OrderType, Product, Side, Validity
from copytrader.dhan import fields
from copytrader.dhan.fields import FrameError, Row

SIDES = {"B": Side.BUY, "S": Side.SELL, "BUY": Side.BUY, "SELL": Side.SELL}
PRODUCTS = {
    "C": Product.CNC,
    "I": Product.INTRADAY,
    "M": Product.MARGIN,
    "F": Product.MTF,
    "V": Product.CO,
    "B": Product.BO,
} | {product.value: product for product in Product}
ORDER_TYPES = {
    "LMT": OrderType.LIMIT,
    "MKT": OrderType.MARKET,
    "SL": OrderType.STOP_LOSS,
    "SLM": OrderType.STOP_LOSS_MARKET,
    "SL-M": OrderType.STOP_LOSS_MARKET,
} | {order_type.value: order_type for order_type in OrderType}
VALIDITIES = {validity.value: validity for validity in Validity}
_STATUSES = {status.value: status for status in OrderStatus}
_SUPER_STATUSES = {
    "ACTIVE": OrderStatus.PENDING,
    "DUMMY": OrderStatus.PENDING,
    "CLOSED": OrderStatus.PENDING,
}
"""Statuses that only legs of super orders have; none of them proves that the leg has ended."""
_SEGMENTS = {
    ("NSE", "E"): "NSE_EQ",
    ("NSE", "D"): "NSE_FNO",
    ("NSE", "C"): "NSE_CURRENCY",
    ("NSE", "M"): "NSE_COMM",
    ("BSE", "E"): "BSE_EQ",
    ("BSE", "D"): "BSE_FNO",
    ("BSE", "C"): "BSE_CURRENCY",
    ("MCX", "M"): "MCX_COMM",
}
SIDE_NAMES = {side.value: side for side in Side}
PRODUCT_NAMES = {product.value: product for product in Product}
TYPE_NAMES = {order_type.value: order_type for order_type in OrderType}


def exchange_segment(exchange: str, segment: str) -> str | None:
    """Dhan's REST name for an exchange and its one-letter segment, None where it has none."""
    if segment == "I":
        return "IDX_I"
    return _SEGMENTS.get((exchange, segment))


def order_status(row: Row) -> tuple[OrderStatus, bool]:
    """The status, and whether only a leg of a super order can have it."""
    word = fields.word(row, "status").replace("-", "_").replace(" ", "_")
    if word in _STATUSES:
        return _STATUSES[word], False
    if word in _SUPER_STATUSES:
        return _SUPER_STATUSES[word], True
    raise FrameError(f"status is missing or unknown: {fields.printable(word, 30)!r}")
