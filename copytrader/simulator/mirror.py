"""Writes pushed frames into the book, so that captured sessions can be replayed whole.

A frame is read as the captures show it: absent numbers are zero, an absent
tradedQty is no fill, refused and triggered terms do not replace the order's.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from copytrader.simulator import wire
from copytrader.simulator.model import (
    CANCELLED,
    EXPIRED,
    IST,
    PART_TRADED,
    PENDING,
    REJECTED,
    TRADED,
    ZERO,
    BookOrder,
    Instrument,
    Terms,
)

if TYPE_CHECKING:
    from copytrader.simulator.exchange import Exchange

_SEGMENTS = {codes: name for name, codes in wire.SEGMENTS.items()}
_SIDES = {code: name for name, code in wire.SIDES.items()}
_PRODUCTS = {code: name for name, code in wire.PRODUCTS.items()}
_ORDER_TYPES = {code: name for name, code in wire.ORDER_TYPES.items()}
_FINAL = {"Cancelled": CANCELLED, "Rejected": REJECTED, "Expired": EXPIRED, "Traded": TRADED}


def mirror(exchange: Exchange, client_id: str, envelope: dict[str, Any]) -> None:
    """Bring the account's book to what this frame says; a frame that names no known kind of order is left alone."""
    data = envelope.get("Data")
    if not isinstance(data, dict) or not data.get("orderNo"):
        return
    order = exchange.orders.get(str(data["orderNo"]))
    if order is None:
        order = _new(exchange, client_id, data)
        if order is None:
            return
        exchange.enter(order)
    if order.is_open:
        _update(exchange, order, data)


def _update(exchange: Exchange, order: BookOrder, data: dict[str, Any]) -> None:
    status = data.get("status")
    order.updated_at = _time(data.get("lastUpdatedTime")) or order.updated_at
    if status in ("Pending", "Modified"):
        order.terms, order.triggered = _terms(data), False
        order.status = PART_TRADED if order.filled else PENDING
        order.exchange_order_id = str(data.get("exchOrderNo", order.exchange_order_id))
        order.exchange_at = _time(data.get("exchOrderTime"))
        order.reason = str(data.get("reasonDescription", ""))
        order.ordered_at = _time(data.get("orderDateTime")) or order.ordered_at
        exchange.note(order, str(status).lower())
    elif status == "Triggered":
        order.triggered = True
        if exchange.settings.triggered_as_limit:
            order.terms = _terms(data)
        exchange.note(order, "triggered")
    elif status in ("Part-Traded", "Traded"):
        _fill(exchange, order, data)
    _finish(exchange, order, data)


def _fill(exchange: Exchange, order: BookOrder, data: dict[str, Any]) -> None:
    more = min(int(data.get("tradedQty", 0)), order.terms.quantity) - order.filled
    if more > 0:
        average = _number(data, "avgTradedPrice") or _number(data, "tradedPrice")
        price = (average * (order.filled + more) - order.value) / more
        exchange.add_fill(order, more, price, order.updated_at)
    order.exchange_at = _time(data.get("exchOrderTime")) or order.exchange_at
    order.status, order.reason = PART_TRADED, "TRADE CONFIRMED"


def _finish(exchange: Exchange, order: BookOrder, data: dict[str, Any]) -> None:
    final = _FINAL.get(str(data.get("status")))
    if final is None:
        return
    order.reason = str(data.get("reasonDescription", ""))
    if final in (CANCELLED, EXPIRED):
        order.created_at = order.ordered_at = order.updated_at
    exchange.close_book_entry(order, final)
    if final != TRADED:
        exchange.note(order, final.lower(), text=order.reason)


def _new(exchange: Exchange, client_id: str, data: dict[str, Any]) -> BookOrder | None:
    instrument = _instrument(exchange, data)
    side, product = _SIDES.get(data.get("txnType", "")), _PRODUCTS.get(data.get("product", ""))
    at = _time(data.get("orderDateTime"))
    if instrument is None or side is None or product is None or at is None:
        return None
    order = BookOrder(str(data["orderNo"]), client_id, instrument, side, product, _terms(data), at, at, at)
    order.status = PENDING
    order.source, order.platform = str(data.get("source", "N")), str(data.get("orderPlatform", ""))
    order.algo_id, order.correlation_id = str(data.get("algoId", "0")), str(data.get("correlationId", "NA"))
    order.exchange_order_id = str(data.get("exchOrderNo", "0"))
    order.leg_no, order.remarks = int(data.get("legNo", 1)), str(data.get("remarks", " "))
    return order


def _instrument(exchange: Exchange, data: dict[str, Any]) -> Instrument | None:
    segment = _SEGMENTS.get((data.get("exchange", ""), data.get("segment", "")))
    if segment is None or "securityId" not in data:
        return None
    known = exchange.instruments.get((segment, str(data["securityId"])))
    if known is None:
        known = exchange.add_instrument(_described(segment, data))
    last = _number(data, "refLtp")
    if last:
        exchange.prices[known.security] = last
    return known


def _described(segment: str, data: dict[str, Any]) -> Instrument:
    """An instrument as far as a frame describes it."""
    instrument = Instrument(
        segment,
        str(data["securityId"]),
        str(data.get("symbol", "")),
        int(data.get("lotSize", 1)),
        _number(data, "tickSize") or Decimal("0.05"),
        instrument_type=str(data.get("instrument", "EQUITY")),
        option_type=str(data.get("optType", "")),
        multiplier=int(data.get("multiplier", 1)),
        display_name=str(data.get("displayName", "")),
        isin=str(data.get("isin", "NA")),
        series=str(data.get("series", "XX")),
    )
    expiry = str(data.get("expiryDate", ""))[:10]
    if not expiry or expiry == wire.NO_DATE:
        return instrument
    strike = _number(data, "strikePrice")
    return replace(instrument, expiry=date.fromisoformat(expiry), strike=strike if strike > 0 else None)


def _terms(data: dict[str, Any]) -> Terms:
    return Terms(
        _ORDER_TYPES.get(data.get("orderType", ""), "LIMIT"),
        str(data.get("validity", "DAY")),
        int(data.get("quantity", 0)),
        _number(data, "price"),
        _number(data, "triggerPrice"),
        int(data.get("discQuantity", 0)),
    )


def _number(data: dict[str, Any], key: str) -> Decimal:
    value = data.get(key)
    return Decimal(str(value)) if isinstance(value, int | float) else ZERO


def _time(text: object) -> datetime | None:
    if not isinstance(text, str) or text.startswith(wire.NO_DATE):
        return None
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=IST)
