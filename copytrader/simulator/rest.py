"""The HTTP surface: which requests exist, who may send them, what they answer.

A request outside `_ROUTES`, without a token, with a malformed id or about another
account is answered as the broker would and written down as a violation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from copytrader.simulator import checks, master, portfolio, tokens, wire
from copytrader.simulator.checks import Refused, refuse
from copytrader.simulator.faults import (
    TREATMENTS,
    Fault,
    FaultKind,
    Response,
    Treatment,
    disguised,
    error_response,
    json_response,
)
from copytrader.simulator.ledger import parsed
from copytrader.simulator.model import REJECTED, TRANSIT, ZERO, Account, BookOrder

if TYPE_CHECKING:
    from copytrader.simulator.exchange import Exchange

_API = "/v2"
_LOGIN = "/auth/app/generateAccessToken"
_ORDER_ID = re.compile(r"[0-9A-Za-z]{1,32}")
_CORRELATION_ID = re.compile(r"[0-9A-Za-z _-]{1,30}")
_TRADING = frozenset({"POST", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is what comes below /v2 (elsewhere: all of it, and `is_api` is False), without the query."""

    method: str
    path: str
    is_api: bool
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def is_trading(self) -> bool:
        return self.method in _TRADING and self.path.startswith("/orders")


@dataclass(frozen=True, slots=True)
class Call:
    """A routed request of a known account; `name` is the id in its path, where there is one."""

    exchange: Exchange
    account: Account
    request: Request
    treatment: Treatment
    name: str


def answer(exchange: Exchange, method: str, path: str, headers: Mapping[str, str], body: bytes, peer: str) -> Response:
    request = _request(method, path, headers, body, peer)
    client_id = _sender(exchange, request)
    about = {"client_id": client_id, "method": method, "path": request.path, "peer": peer}
    content = parsed(body) if request.path != _LOGIN else None
    exchange.ledger.append(exchange.clock(), "request", **about, **_names(request.path, content), body=content)
    faults = exchange.faults.striking(client_id, method, request.path)
    response = _through(exchange, request, faults)
    struck = ",".join(fault.kind.value for fault in faults)
    exchange.ledger.append(exchange.clock(), "answer", **about, answer_status=response.status, fault=struck)
    return response


def login(exchange: Exchange, message: str | bytes) -> str | None:
    try:
        value = json.loads(message)
        asked, kind = value["LoginReq"], value["UserType"]
        client_id, token = str(asked["ClientId"]), str(asked["Token"])
        account = exchange.accounts.get(client_id)
        good = asked["MsgCode"] == 42 and kind == "SELF" and account is not None
    except (ValueError, RecursionError, KeyError, TypeError):
        exchange.violate("", "LOGIN", "/", "malformed login message")
        return None
    return client_id if good and account is not None and _is_live(exchange, account, token) else None


def _request(method: str, path: str, headers: Mapping[str, str], body: bytes, peer: str) -> Request:
    bare, _, query = path.partition("?")
    is_api = bare.startswith(_API + "/")
    below = bare.removeprefix(_API) if is_api else bare
    lowered = {key.lower(): value for key, value in headers.items()}
    return Request(method, below, is_api, query, lowered, body, peer)


def _names(path: str, content: Any) -> dict[str, str]:
    """The ids that the ledger shows of a request."""
    if path.startswith("/orders/external/"):
        return {"correlation_id": path.removeprefix("/orders/external/")}
    if path.startswith("/orders/"):
        return {"order_id": path.removeprefix("/orders/")}
    correlation_id = content.get("correlationId") if isinstance(content, dict) else None
    return {"correlation_id": correlation_id} if isinstance(correlation_id, str) else {}


def _sender(exchange: Exchange, request: Request) -> str:
    """Whose request it is, by token first, by the client id it names otherwise."""
    token = request.headers.get("access-token")
    for account in exchange.accounts.values():
        if token and (token == account.access_token or token in account.dead_tokens):
            return account.client_id
    named = request.headers.get("client-id") or request.headers.get("dhanclientid", "")
    if request.path == _LOGIN:
        named = dict(parse_qsl(request.query)).get("dhanClientId", "")
    return named if named in exchange.accounts else ""


# Faults


def _through(exchange: Exchange, request: Request, faults: list[Fault]) -> Response:
    treatment = _treatment(faults)
    answering = next((fault for fault in faults if fault.kind not in TREATMENTS), None)
    carry_out = partial(_carried_out, exchange, request, treatment)
    if answering is None:
        return carry_out()
    truth = json_response(200, {})
    if answering.kind is FaultKind.LATE:
        exchange.agenda.later(answering.seconds or 0, lambda: _discard(carry_out))
    elif answering.carries_out:
        truth = carry_out()
    return disguised(truth, answering)


def _discard(carry_out: Callable[[], Response]) -> None:
    carry_out()


def _treatment(faults: list[Fault]) -> Treatment:
    reject = reject_later = ""
    lookup = book = 0.0
    for fault in faults:
        if fault.kind is FaultKind.REJECTED:
            reject = fault.message or "You have insufficient funds. Please add Rs.23.70 to trade."
        elif fault.kind is FaultKind.REJECT_LATER:
            reject_later = fault.message or "You have insufficient funds. Please add Rs.23.70 to trade."
        elif fault.kind is FaultKind.HIDE:
            lookup = fault.seconds or 0.0 if fault.where in ("both", "lookup") else lookup
            book = fault.seconds or 0.0 if fault.where in ("both", "book") else book
    return Treatment(reject, reject_later, lookup, book)


# Doors


def _carried_out(exchange: Exchange, request: Request, treatment: Treatment) -> Response:
    try:
        return _answered(exchange, request, treatment)
    except Refused as refused:
        if refused.violation:
            exchange.violate(_sender(exchange, request), request.method, request.path, refused.violation)
        return error_response(refused.code, refused.message, refused.status)


def _answered(exchange: Exchange, request: Request, treatment: Treatment) -> Response:
    if request.path == _LOGIN and request.method == "POST":
        return tokens.generated(exchange, dict(parse_qsl(request.query)))
    if request.path.startswith("/api-data/") and request.method == "GET":
        return _master(exchange, request)
    for method, pattern, handler in _ROUTES:
        match = re.fullmatch(pattern, request.path)
        if request.is_api and method == request.method and match:
            name = unquote(match[1]) if match.groups() else ""
            return handler(Call(exchange, _authenticated(exchange, request), request, treatment, name))
    if (request.method, request.path) != ("POST", "/orders/slicing"):
        exchange.violate(_sender(exchange, request), request.method, request.path, "no such request is allowed")
    return json_response(404, wire.gateway_body(404, (_API if request.is_api else "") + request.path, exchange.clock()))


def _master(exchange: Exchange, request: Request) -> Response:
    text = master.files(exchange).get(request.path.removeprefix("/api-data/"))
    if text is None:
        return json_response(404, wire.gateway_body(404, request.path, exchange.clock()))
    return Response(200, {"Content-Type": "text/csv"}, text().encode())


def _authenticated(exchange: Exchange, request: Request) -> Account:
    token = request.headers.get("access-token", "")
    if not token:
        refuse("DH-901", violation="no access token")
    account = next((one for one in exchange.accounts.values() if _is_live(exchange, one, token)), None)
    if account is None:
        killed = any(token in one.dead_tokens for one in exchange.accounts.values())
        if killed and request.path.startswith("/orders"):
            refuse("DH-906", "Invalid Token")
        refuse("DH-901")
    if request.is_trading:
        named = request.headers.get("client-id", account.client_id)
        if named != account.client_id:
            refuse("DH-901", violation="client-id is not the token's client")
        if not exchange.limiters[account.client_id].take(exchange.clock()):
            refuse("DH-904")
    elif not exchange.may_read(account.client_id):
        refuse("DH-904")
    return account


def _is_live(exchange: Exchange, account: Account, token: str) -> bool:
    expires = account.token_expires_at
    return token == account.access_token and (expires is None or exchange.clock() < expires)


def _check_peer(call: Call) -> None:
    allowed = call.account.allowed_peers
    if allowed is not None and call.request.peer not in allowed:
        refuse(call.exchange.settings.foreign_peer_code, "Invalid IP")


# Orders


def _place(call: Call) -> Response:
    placement = checks.read_placement(checks.read_body(call.request.body, call.account.client_id))
    _check_peer(call)
    instrument = checks.check_instrument(placement, call.exchange.instruments.get(placement.security))
    checks.check_terms(placement.terms, placement.side, instrument)
    return _taken(call, call.exchange.submit(call.account, placement, call.treatment))


def _modify(call: Call) -> Response:
    _check_order_id(call)
    fields = checks.read_body(call.request.body, call.account.client_id)
    if fields.get("orderId") != call.name:
        refuse("DH-905", violation="orderId is not the one of the path")
    terms = checks.read_terms(fields)
    _check_peer(call)
    order = _changeable(call)
    if order.modifications >= checks.MAX_MODIFICATIONS:
        refuse("DH-906", f"Order can be modified at most {checks.MAX_MODIFICATIONS} times")
    checks.check_terms(terms, order.side, order.instrument)
    call.exchange.submit_modification(order, terms, call.treatment.reject or call.treatment.reject_later)
    return _taken(call, order)


def _taken(call: Call, order: BookOrder) -> Response:
    """The answer to a placement or modification: nothing is decided yet."""
    status = REJECTED if call.treatment.reject else TRANSIT
    return json_response(200, {"orderId": order.order_id, "orderStatus": status})


def _cancel(call: Call) -> Response:
    _check_order_id(call)
    _check_peer(call)
    order = _changeable(call)
    if order.status == TRANSIT:
        refuse("DH-906", checks.IN_TRANSIT)
    call.exchange.submit_cancel(order)
    return json_response(call.exchange.settings.cancel_status, {"orderId": order.order_id, "orderStatus": "CANCELLED"})


def _changeable(call: Call) -> BookOrder:
    order = call.exchange.orders.get(call.name)
    if order is not None and order.client_id != call.account.client_id:
        refuse("DH-906", violation="order of another account")
    if order is None or not order.is_open:
        refuse("DH-906")
    if not call.exchange.settings.market_open and not order.after_market:
        refuse("DH-906", checks.MARKET_CLOSED)
    return order


def _check_order_id(call: Call) -> None:
    if not _ORDER_ID.fullmatch(call.name):
        refuse("DH-905", violation="malformed order id")


def _book(call: Call) -> Response:
    rows = [wire.order_row(order) for order in call.exchange.book(call.account.client_id)]
    return json_response(200, rows[::-1] if call.exchange.settings.newest_first else rows)


def _by_id(call: Call) -> Response:
    _check_order_id(call)
    rows = [wire.order_row(one) for one in call.exchange.book(call.account.client_id) if one.order_id == call.name]
    return json_response(200, rows)


def _by_correlation_id(call: Call) -> Response:
    if not _CORRELATION_ID.fullmatch(call.name):
        refuse("DH-905", violation="malformed correlation id")
    order = call.exchange.lookup(call.account.client_id, call.name)
    if order is None:
        raise Refused("DH-906", status=404)
    row = wire.order_row(order)
    return json_response(200, [row] if call.exchange.settings.lookup_as_list else row)


def _trades(call: Call) -> Response:
    fills = call.exchange.fills[call.account.client_id]
    return json_response(200, [wire.trade_row(call.exchange.orders[fill.order_id], fill) for fill in fills])


def _trades_of(call: Call) -> Response:
    _check_order_id(call)
    fills = [fill for fill in call.exchange.fills[call.account.client_id] if fill.order_id == call.name]
    return json_response(200, [wire.trade_row(call.exchange.orders[fill.order_id], fill) for fill in fills])


# Portfolio and account


def _positions(call: Call) -> Response:
    exchange, client_id = call.exchange, call.account.client_id
    nets = exchange.nets(client_id).values()
    rows = [portfolio.position_row(client_id, net, exchange.last_price(net.instrument)) for net in nets]
    return json_response(200, rows)


def _holdings(call: Call) -> Response:
    rows = portfolio.holding_rows(call.account, call.exchange.prices)
    return json_response(200, rows) if rows else error_response("DH-1111")


def _funds(call: Call) -> Response:
    client_id = call.account.client_id
    realized = sum((net.realized for net in call.exchange.nets(client_id).values()), ZERO)
    return json_response(200, portfolio.fund_row(call.account, call.exchange.utilized(client_id), realized))


def _margin(call: Call) -> Response:
    fields = checks.read_body(call.request.body, call.account.client_id)
    placement = checks.read_placement({"orderType": "LIMIT", "validity": "DAY"} | fields)
    instrument = checks.check_instrument(placement, call.exchange.instruments.get(placement.security))
    price = placement.terms.price or call.exchange.last_price(instrument)
    total = portfolio.margin(instrument, placement.side, placement.product, placement.terms.quantity, price)
    names = ("spanMargin", "exposureMargin", "availableBalance", "variableMargin", "insufficientBalance", "brokerage")
    return json_response(200, {"totalMargin": float(total)} | dict.fromkeys(names, 0.0) | {"leverage": "1X"})


def _profile(call: Call) -> Response:
    expires = tokens.expiry(call.exchange, call.account)
    profile = {
        "dhanClientId": call.account.client_id,
        "tokenValidity": f"{expires:%d/%m/%Y %H:%M}",
        "activeSegment": "E, D, C, M, ",
        "ddpi": "Active",
        "mtf": "Active",
        "dataPlan": "Deactive",
        "dataValidity": "NA",
    }
    return json_response(200, profile)


def _ip(call: Call) -> Response:
    allowed = call.account.allowed_peers if call.account.allowed_peers is not None else (call.request.peer,)
    primary, secondary = (*allowed, "", "")[:2]
    matches = call.request.peer in allowed
    status = {
        "primaryIP": primary,
        "secondaryIP": secondary,
        "modifyDatePrimary": "2026-01-01",
        "modifyDateSecondary": "2026-01-01",
        "detectedIP": call.request.peer,
        "ipMatchStatus": "MATCH" if matches else "MISMATCH",
        "ordersAllowed": matches,
    }
    return json_response(200, status)


def _renew(call: Call) -> Response:
    if call.request.headers.get("dhanclientid") != call.account.client_id:
        refuse("DH-905")
    return tokens.renewed(call.exchange, call.account)


_Handler = Callable[[Call], Response]
_ROUTES: tuple[tuple[str, str, _Handler], ...] = (
    ("POST", r"/orders", _place),
    ("GET", r"/orders", _book),
    ("GET", r"/orders/external/([^/]+)", _by_correlation_id),
    ("PUT", r"/orders/([^/]+)", _modify),
    ("DELETE", r"/orders/([^/]+)", _cancel),
    ("GET", r"/orders/([^/]+)", _by_id),
    ("GET", r"/trades", _trades),
    ("GET", r"/trades/([^/]+)", _trades_of),
    ("GET", r"/positions", _positions),
    ("GET", r"/holdings", _holdings),
    ("GET", r"/fundlimit", _funds),
    ("GET", r"/profile", _profile),
    ("POST", r"/margincalculator", _margin),
    ("GET", r"/ip/getIP", _ip),
    ("GET", r"/RenewToken", _renew),
)
