"""What is said to Dhan: one function per call, each giving a `Request`.

The official SDK decides method, path and body: its classes run on a recorder instead
of its HTTP connection.  Departures from what it would send are few and on purpose:
fields that do not apply are left out (null and "" are refused by Dhan in places),
`amoTime` PRE_OPEN is allowed as documented, and `/trades` bears no trailing slash.
`profile` and `ip` are plain here because the SDK sends these itself.

Loading the SDK takes a while: `load` does so before the first order.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

from copytrader.core.model import OrderType, Ticket
from copytrader.dhan.transport import Request

_SDK_AMO_TIMES = ("OPEN", "OPEN_30", "OPEN_60")
_AMO_TIMES = ("PRE_OPEN", *_SDK_AMO_TIMES)
_ENCODE = json.JSONEncoder(allow_nan=False).encode
_PRICED = (OrderType.LIMIT, OrderType.STOP_LOSS)
_TRIGGERED = (OrderType.STOP_LOSS, OrderType.STOP_LOSS_MARKET)


def load() -> None:
    """Loads the SDK now rather than with the first request."""
    _sdk()


def place(client_id: str, ticket: Ticket, correlation_id: str) -> Request:
    _check(ticket)
    recorder = _Recorder(client_id)
    amo_time = ticket.amo_time or "OPEN"
    _sdk().Order(recorder).place_order(
        security_id=ticket.security.security_id,
        exchange_segment=ticket.security.exchange_segment,
        transaction_type=ticket.side.value,
        quantity=ticket.quantity,
        order_type=ticket.order_type.value,
        product_type=ticket.product.value,
        price=_exact_float(ticket.price),
        trigger_price=_exact_float(ticket.trigger_price),
        disclosed_quantity=ticket.disclosed_quantity,
        after_market_order=ticket.after_market,
        validity=ticket.validity.value,
        amo_time=amo_time if amo_time in _SDK_AMO_TIMES else "OPEN",
        tag=correlation_id,
    )
    if ticket.after_market:
        recorder.payload["amoTime"] = amo_time
    return recorder.request()


def modify(client_id: str, order_id: str, ticket: Ticket) -> Request:
    """All terms are sent again; the quantity is the whole order's, not what is left of it."""
    _check(ticket)
    recorder = _Recorder(client_id)
    _sdk().Order(recorder).modify_order(
        order_id=order_id,
        order_type=ticket.order_type.value,
        leg_name=None,
        quantity=ticket.quantity,
        price=_exact_float(ticket.price),
        trigger_price=_exact_float(ticket.trigger_price),
        disclosed_quantity=ticket.disclosed_quantity,
        validity=ticket.validity.value,
    )
    return recorder.request()


def cancel(order_id: str) -> Request:
    recorder = _Recorder()
    _sdk().Order(recorder).cancel_order(order_id)
    return recorder.request()


def orders() -> Request:
    recorder = _Recorder()
    _sdk().Order(recorder).get_order_list()
    return recorder.request()


def order(order_id: str) -> Request:
    recorder = _Recorder()
    _sdk().Order(recorder).get_order_by_id(order_id)
    return recorder.request()


def by_correlation(correlation_id: str) -> Request:
    recorder = _Recorder()
    _sdk().Order(recorder).get_order_by_correlationID(correlation_id)
    return recorder.request()


def trades() -> Request:
    recorder = _Recorder()
    _sdk().Statement(recorder).get_trade_book()
    request = recorder.request()
    return replace(request, path=request.path.removesuffix("/"))


def positions() -> Request:
    recorder = _Recorder()
    _sdk().Portfolio(recorder).get_positions()
    return recorder.request()


def holdings() -> Request:
    recorder = _Recorder()
    _sdk().Portfolio(recorder).get_holdings()
    return recorder.request()


def funds() -> Request:
    recorder = _Recorder()
    _sdk().Funds(recorder).get_fund_limits()
    return recorder.request()


def margin(client_id: str, ticket: Ticket) -> Request:
    _check(ticket)
    recorder = _Recorder(client_id)
    _sdk().Funds(recorder).margin_calculator(
        security_id=ticket.security.security_id,
        exchange_segment=ticket.security.exchange_segment,
        transaction_type=ticket.side.value,
        quantity=ticket.quantity,
        product_type=ticket.product.value,
        price=_exact_float(ticket.price),
        trigger_price=_exact_float(ticket.trigger_price),
    )
    return recorder.request()


def profile() -> Request:
    return Request("GET", "/profile")


def ip() -> Request:
    return Request("GET", "/ip/getIP")


@cache
def _sdk() -> Any:
    import dhanhq

    return dhanhq


class _Recorder:
    """Stands where the SDK expects its context and its HTTP connection, and keeps the one call."""

    def __init__(self, client_id: str = "") -> None:
        self.client_id = client_id
        self.method = self.path = ""
        self.payload: dict[str, Any] = {}

    def get_dhan_http(self) -> _Recorder:
        return self

    def get(self, endpoint: str) -> None:
        self._record("GET", endpoint, {})

    def post(self, endpoint: str, payload: dict[str, Any]) -> None:
        self._record("POST", endpoint, payload)

    def put(self, endpoint: str, payload: dict[str, Any]) -> None:
        self._record("PUT", endpoint, payload)

    def delete(self, endpoint: str) -> None:
        self._record("DELETE", endpoint, {})

    def _record(self, method: str, path: str, payload: dict[str, Any]) -> None:
        self.method, self.path = method, path
        self.payload = payload | {"dhanClientId": self.client_id} if payload else {}

    def request(self) -> Request:
        return Request(self.method, self.path, _json(self.payload) if self.payload else None)


def _json(payload: dict[str, Any]) -> bytes:
    wanted = {key: value for key, value in payload.items() if value is not None and value != ""}
    return _ENCODE(wanted).encode()


def _exact_float(price: Decimal) -> float:
    """The float that JSON prints as exactly this decimal; the SDK knows floats only."""
    number = float(price)
    if Decimal(repr(number)) != price:
        raise ValueError(f"the price {price} cannot be sent exactly")
    return number


def _check(ticket: Ticket) -> None:
    """What must never be on the wire, whoever made the ticket."""
    if type(ticket.quantity) is not int or ticket.quantity < 1:
        raise ValueError("the quantity must be a whole number above 0")
    if type(ticket.disclosed_quantity) is not int or ticket.disclosed_quantity < 0:
        raise ValueError("the disclosed quantity must be a whole number, 0 or above")
    for price in (ticket.price, ticket.trigger_price):
        if not price.is_finite() or price < 0:
            raise ValueError("prices must be numbers, 0 or above")
    if ticket.order_type in _PRICED and not ticket.price:
        raise ValueError(f"a {ticket.order_type} order needs a price")
    if ticket.order_type in _TRIGGERED and not ticket.trigger_price:
        raise ValueError(f"a {ticket.order_type} order needs a trigger price")
    if ticket.after_market and ticket.amo_time and ticket.amo_time not in _AMO_TIMES:
        raise ValueError("the AMO time must be one of " + ", ".join(_AMO_TIMES))
