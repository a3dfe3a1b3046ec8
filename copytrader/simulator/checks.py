"""What the broker refuses: at once with a 4xx, or after acceptance with the words of RMS or the exchange."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from copytrader.simulator import wire
from copytrader.simulator.model import Instrument, Placement, Terms

MAX_MODIFICATIONS = 25
_CORRELATION_ID = re.compile(r"[A-Za-z0-9 _-]{1,25}")
_ENTERABLE = frozenset({"CNC", "INTRADAY", "MARGIN", "MTF"})
_DELIVERY = frozenset({"CNC", "MTF"})
_VALIDITIES = frozenset({"DAY", "IOC"})
_AMO_TIMES = frozenset({"PRE_OPEN", "OPEN", "OPEN_30", "OPEN_60"})

IN_TRANSIT = "Order is in Transit state"
MARKET_CLOSED = "Market is Closed! You cannot modify/cancel an order now."
TRIGGER_ABOVE_PRICE = "Trigger Price should be greater than Price"
TRIGGER_BELOW_PRICE = "Trigger Price should be less than Price"


@dataclass
class Refused(Exception):
    """A request refused with an error body; `violation` says when no good client would send it."""

    code: str
    message: str = ""
    status: int = 0
    violation: str = ""


def refuse(code: str, message: str = "", violation: str = "") -> NoReturn:
    raise Refused(code, message, violation=violation)


def read_body(body: bytes, client_id: str) -> dict[str, Any]:
    """A request's JSON object: no empty strings, no NaN, and about the account that the token is for."""
    try:
        value = json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        refuse("DH-905", violation="body is not JSON")
    if not isinstance(value, dict) or "" in value.values():
        refuse("DH-905")
    if value.get("dhanClientId") is None:
        refuse("DH-905")
    if str(value["dhanClientId"]) != client_id:
        refuse("DH-905", violation="dhanClientId is not the token's client")
    return value


def read_placement(fields: dict[str, Any]) -> Placement:
    after_market = fields.get("afterMarketOrder") or False
    correlation_id = fields.get("correlationId") or ""
    if correlation_id and not (isinstance(correlation_id, str) and _CORRELATION_ID.fullmatch(correlation_id)):
        refuse("DH-905")
    if after_market and fields.get("amoTime") not in _AMO_TIMES:
        refuse("DH-905")
    return Placement(
        _one_of(fields, "exchangeSegment", wire.SEGMENTS),
        _text(fields, "securityId"),
        _one_of(fields, "transactionType", wire.SIDES),
        _one_of(fields, "productType", _ENTERABLE),
        read_terms(fields),
        correlation_id,
        bool(after_market),
    )


def read_terms(fields: dict[str, Any]) -> Terms:
    return Terms(
        _one_of(fields, "orderType", wire.ORDER_TYPES),
        _one_of(fields, "validity", _VALIDITIES),
        _quantity(fields, "quantity", least=1),
        _price(fields, "price"),
        _price(fields, "triggerPrice"),
        _quantity(fields, "disclosedQuantity", least=0),
    )


def check_instrument(placement: Placement, instrument: Instrument | None) -> Instrument:
    if instrument is None:
        refuse("DH-905", "Invalid SecurityId or Exchange Segment")
    if instrument.is_derivative and placement.product in _DELIVERY:
        refuse("DH-905", f"Product {placement.product} is not allowed in {placement.exchange_segment}")
    return instrument


def check_terms(terms: Terms, side: str, instrument: Instrument) -> None:
    """What is refused before an order exists."""
    if terms.quantity % instrument.lot_size:
        refuse("DH-905", f"Quantity should be a multiple of the lot size {instrument.lot_size}")
    if terms.disclosed_quantity > terms.quantity:
        refuse("DH-905", "Disclosed quantity should not exceed the quantity")
    if terms.order_type == "STOP_LOSS_MARKET":
        refuse("DH-906", TRIGGER_ABOVE_PRICE)
    if terms.order_type in ("LIMIT", "STOP_LOSS") and terms.price <= 0:
        refuse("DH-905")
    if terms.order_type != "STOP_LOSS":
        return
    if terms.trigger_price <= 0:
        refuse("DH-905")
    if side == "BUY" and terms.trigger_price > terms.price:
        refuse("DH-906", TRIGGER_BELOW_PRICE)
    if side == "SELL" and terms.trigger_price < terms.price:
        refuse("DH-906", TRIGGER_ABOVE_PRICE)


def objection(order_id: str, terms: Terms, instrument: Instrument) -> str:
    """What RMS or the exchange says against the terms of an accepted order; nothing when all is well."""
    if instrument.freeze_quantity and terms.quantity >= instrument.freeze_quantity:
        most = instrument.freeze_quantity - 1
        return f"RMS:{order_id}:Order quantity {terms.quantity} exceeds the freeze quantity limit of {most}"
    if terms.order_type == "MARKET":
        return f"RMS:{order_id}:Last traded price is not available for a market order"
    prices = [terms.price, terms.trigger_price] if terms.order_type == "STOP_LOSS" else [terms.price]
    if not all(instrument.is_on_tick(price) for price in prices):
        return "EXCH:16283: The order price is not multiple of the tick size"
    low, high = instrument.lower_limit, instrument.upper_limit
    if any((low and price < low) or (high and price > high) for price in prices):
        return f"RMS:{order_id}:Order Price needs to be Circuit Limits of {low} to {high}"
    return ""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        refuse("DH-905")
    return value


def _one_of(fields: dict[str, Any], name: str, allowed: frozenset[str] | dict[str, Any]) -> str:
    value = _text(fields, name)
    if value not in allowed:
        refuse("DH-905")
    return value


def _quantity(fields: dict[str, Any], name: str, least: int) -> int:
    value = fields.get(name)
    value = 0 if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        refuse("DH-905")
    return value


def _price(fields: dict[str, Any], name: str) -> Decimal:
    value = fields.get(name)
    value = 0 if value is None else value
    if not isinstance(value, int | Decimal) or isinstance(value, bool) or value < 0:
        refuse("DH-905")
    return Decimal(value)
