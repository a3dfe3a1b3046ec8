"""How the broker writes things down: order rows, trade rows, frames, times and error bodies.

Written from captured payloads.  Rows use sentinels instead of null; frames leave out
every zero and empty value, and write whole numbers without a decimal point.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from copytrader.simulator.model import CANCELLED, EXPIRED, REJECTED, TRADED, BookOrder, Fill, Instrument, Terms

NO_TIME = "0001-01-01 00:00:00"
NO_DATE = "0001-01-01"
SYMBOL_WIDTH = 15
"""The stream cuts symbols here."""

SEGMENTS = {
    "NSE_EQ": ("NSE", "E"),
    "NSE_FNO": ("NSE", "D"),
    "NSE_CURRENCY": ("NSE", "C"),
    "BSE_EQ": ("BSE", "E"),
    "BSE_FNO": ("BSE", "D"),
    "BSE_CURRENCY": ("BSE", "C"),
    "MCX_COMM": ("MCX", "M"),
    "IDX_I": ("NSE", "I"),
}
SIDES = {"BUY": "B", "SELL": "S"}
PRODUCTS = {"CNC": "C", "INTRADAY": "I", "MARGIN": "M", "MTF": "F", "CO": "V", "BO": "B"}
ORDER_TYPES = {"LIMIT": "LMT", "MARKET": "MKT", "STOP_LOSS": "SL", "STOP_LOSS_MARKET": "SLM"}

ERROR_TYPES = {
    "DH-901": "Invalid_Authentication",
    "DH-902": "Invalid_Access",
    "DH-903": "User_Account",
    "DH-904": "Rate_Limit",
    "DH-905": "Input_Exception",
    "DH-906": "Order_Error",
    "DH-907": "Data_Error",
    "DH-908": "Internal_Server_Error",
    "DH-909": "Network_Error",
    "DH-910": "Others",
    "DH-1111": "HOLDING_ERROR",
}
ERROR_STATUS = {"DH-901": 401, "DH-904": 429, "DH-908": 500, "DH-909": 500, "DH-910": 500, "DH-1111": 500}
ERROR_MESSAGES = {
    "DH-901": "Client ID or user generated access token is invalid or expired.",
    "DH-902": "User has not subscribed to Data APIs or does not have access to Trading APIs.",
    "DH-903": "Errors related to User's Account. Check if the required segments are activated or not.",
    "DH-904": "Too many requests on server from single user breaching rate limits. Try throttling API calls.",
    "DH-905": "Missing required fields, bad values for parameters etc.",
    "DH-906": "Incorrect request for order and cannot be processed",
    "DH-907": "System is unable to fetch data due to incorrect parameters or no data present",
    "DH-908": "Server was not able to process API request. This will only occur rarely.",
    "DH-909": "Network error where the API was unable to communicate with the backend system",
    "DH-910": "Error originating from other reasons",
    "DH-1111": "No holdings available",
}


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def error_body(code: str, message: str = "") -> dict[str, Any]:
    return {
        "errorType": ERROR_TYPES.get(code, "Others"),
        "errorCode": code,
        "errorMessage": message or ERROR_MESSAGES.get(code, ""),
    }


def gateway_body(status: int, path: str, now: datetime) -> dict[str, Any]:
    """What the API gateway says of a path that nobody serves."""
    return {"timestamp": int(now.timestamp() * 1000), "status": status, "error": "Not Found", "path": path}


def gateway_page(status: int) -> bytes:
    title = {502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable", 504: "504 Gateway Time-out"}
    text = title.get(status, f"{status} Error")
    return f"<html>\r\n<head><title>{text}</title></head>\r\n<body><h1>{text}</h1></body>\r\n</html>\r\n".encode()


def clock_text(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else NO_TIME


def plain(value: Decimal) -> int | float:
    """A number of a frame: whole ones arrive as integers."""
    return int(value) if value == value.to_integral_value() else float(value)


def row_strike(instrument: Instrument) -> float:
    if not instrument.is_derivative:
        return 0.0
    return float(instrument.strike) if instrument.strike is not None else -0.01


def row_expiry(instrument: Instrument) -> str:
    return instrument.expiry.isoformat() if instrument.expiry else NO_DATE


def remaining(order: BookOrder) -> int:
    """The book's remainingQuantity: 0 once cancelled, though nothing filled; the whole quantity on a rejection."""
    if order.status in (CANCELLED, EXPIRED, TRADED):
        return 0
    return order.terms.quantity if order.status == REJECTED else order.terms.quantity - order.filled


def order_row(order: BookOrder) -> dict[str, Any]:
    terms, instrument = order.terms, order.instrument
    return {
        "dhanClientId": order.client_id,
        "orderId": order.order_id,
        "exchangeOrderId": order.exchange_order_id,
        "correlationId": order.correlation_id,
        "orderStatus": order.status,
        "transactionType": order.side,
        "exchangeSegment": instrument.exchange_segment,
        "productType": order.product,
        "orderType": terms.order_type,
        "validity": terms.validity,
        "tradingSymbol": instrument.symbol,
        "securityId": instrument.security_id,
        "quantity": terms.quantity,
        "disclosedQuantity": terms.disclosed_quantity,
        "price": float(terms.price),
        "triggerPrice": float(terms.trigger_price),
        "afterMarketOrder": order.after_market,
        "boProfitValue": 0.0,
        "boStopLossValue": 0.0,
        "legName": "ENTRY_LEG" if order.remarks == "Super Order" else "NA",
        "createTime": clock_text(order.created_at),
        "updateTime": clock_text(order.updated_at),
        "exchangeTime": clock_text(order.exchange_at),
        "drvExpiryDate": row_expiry(instrument),
        "drvOptionType": "NA",
        "drvStrikePrice": row_strike(instrument),
        "omsErrorCode": "0",
        "omsErrorDescription": order.reason,
        "algoId": order.algo_id,
        "remainingQuantity": remaining(order),
        "averageTradedPrice": float(order.average),
        "filledQty": order.filled,
    }


def trade_row(order: BookOrder, fill: Fill) -> dict[str, Any]:
    instrument, at = order.instrument, clock_text(fill.at)
    return {
        "dhanClientId": order.client_id,
        "orderId": order.order_id,
        "exchangeOrderId": order.exchange_order_id,
        "exchangeTradeId": fill.trade_id,
        "transactionType": order.side,
        "exchangeSegment": instrument.exchange_segment,
        "productType": order.product,
        "orderType": order.terms.order_type,
        "tradingSymbol": instrument.symbol,
        "customSymbol": None,
        "securityId": instrument.security_id,
        "tradedQuantity": fill.quantity,
        "tradedPrice": float(fill.price),
        "createTime": at,
        "updateTime": at,
        "exchangeTime": at,
        "drvExpiryDate": row_expiry(instrument),
        "drvOptionType": "NA",
        "drvStrikePrice": row_strike(instrument),
    }


def frame(
    order: BookOrder,
    status: str,
    last_price: Decimal,
    *,
    reason: str = "CONFIRMED",
    attempted: Terms | None = None,
    average: Decimal | None = None,
) -> dict[str, Any]:
    """One order-update envelope.

    `attempted` are the terms of a refused modification, `average` the price that a
    Pending frame of an order that fills at once already knows.
    """
    terms, instrument = attempted or order.terms, order.instrument
    exchange, segment = SEGMENTS[instrument.exchange_segment]
    refused = status in ("Rejected", "Mod-Rejected")
    told = average if average is not None else order.average if order.filled else Decimal(0)
    data: dict[str, Any] = {
        "exchange": exchange,
        "segment": segment,
        "source": order.source,
        "securityId": instrument.security_id,
        "clientId": order.client_id,
        "exchOrderNo": order.exchange_order_id,
        "orderNo": order.order_id,
        "product": PRODUCTS[order.product],
        "txnType": SIDES[order.side],
        "orderType": _frame_type(order, terms),
        "validity": terms.validity,
        "remainingQuantity": _frame_remaining(order, status, terms),
        "quantity": terms.quantity,
        "tradedQty": order.filled,
        "price": plain(terms.price),
        "triggerPrice": 0 if order.triggered else plain(terms.trigger_price),
        "tradedPrice": plain(order.last_fill_price) if status == "Traded" else 0,
        "avgTradedPrice": plain(told),
        "algoOrdNo": order.algo_order_no,
        "strategyId": "NA",
        "offMktFlag": order.off_market_flag,
        "orderDateTime": clock_text(order.ordered_at),
        "exchOrderTime": NO_TIME if refused else clock_text(order.exchange_at),
        "lastUpdatedTime": clock_text(order.updated_at),
        "remarks": "E0001" if refused else order.remarks,
        "mktType": "NL",
        "reasonDescription": reason,
        "legNo": order.leg_no,
        "instrument": instrument.instrument_type,
        "symbol": instrument.symbol[:SYMBOL_WIDTH],
        "productName": order.product,
        "status": status,
        "lotSize": instrument.lot_size,
        "strikePrice": _frame_strike(instrument),
        "expiryDate": instrument.expiry.isoformat() if instrument.expiry else NO_TIME,
        "optType": (instrument.option_type or "XX") if instrument.is_derivative else "",
        "displayName": instrument.display_name or instrument.symbol,
        "isin": instrument.isin,
        "series": instrument.series,
        "goodTillDaysDate": order.ordered_at.date().isoformat(),
        "refLtp": plain(last_price),
        "tickSize": float(instrument.tick_size),
        "algoId": order.algo_id,
        "multiplier": instrument.multiplier,
        "correlationId": order.correlation_id,
        "orderPlatform": order.platform,
    }
    return {"Data": {key: value for key, value in data.items() if value not in (0, "", None)}, "Type": "order_alert"}


def _frame_type(order: BookOrder, terms: Terms) -> str:
    """A triggered stop loss is told as the limit (or market) order that it has become."""
    name = terms.order_type
    if order.triggered:
        name = {"STOP_LOSS": "LIMIT", "STOP_LOSS_MARKET": "MARKET"}.get(name, name)
    return ORDER_TYPES[name]


def _frame_remaining(order: BookOrder, status: str, terms: Terms) -> int:
    return 0 if status in ("Traded", "Cancelled", "Expired") else terms.quantity - order.filled


def _frame_strike(instrument: Instrument) -> int | float:
    if not instrument.is_derivative:
        return 0
    return plain(instrument.strike) if instrument.strike is not None else -0.01
