"""What is said to Dhan, and that the unmodified SDK says the same but for the named differences."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from copytrader.core.model import OrderType, Security, Side
from copytrader.dhan import requests
from copytrader.dhan.transport import Request, is_allowed
from tests.dhan.support import CLIENT, CORRELATION, TOKEN, ticket

STOP = ticket(order_type=OrderType.STOP_LOSS, price=Decimal("184.05"), trigger_price=Decimal("184.2"))
MARKET = ticket(order_type=OrderType.MARKET, price=Decimal(0))
AMO = ticket(after_market=True, amo_time="OPEN_30")


def body_of(request: Request) -> Any:
    return json.loads(request.body or b"null")


def test_a_limit_order_says_all_it_must_and_nothing_empty() -> None:
    request = requests.place(CLIENT, ticket(), CORRELATION)

    assert (request.method, request.path) == ("POST", "/orders")
    assert body_of(request) == {
        "dhanClientId": CLIENT,
        "correlationId": CORRELATION,
        "transactionType": "BUY",
        "exchangeSegment": "NSE_FNO",
        "productType": "MARGIN",
        "orderType": "LIMIT",
        "validity": "DAY",
        "securityId": "54321",
        "quantity": 130,
        "disclosedQuantity": 0,
        "price": 188.1,
        "triggerPrice": 0.0,
        "afterMarketOrder": False,
    }


@pytest.mark.parametrize("text", ["188.10", "0.05", "3394.025", "100000.95", "2.675", "1E+2", "99999999.99"])
def test_prices_are_printed_exactly(text: str) -> None:
    request = requests.place(CLIENT, ticket(price=Decimal(text)), CORRELATION)
    assert json.loads(request.body or b"", parse_float=Decimal)["price"] == Decimal(text)


def test_a_price_that_a_float_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="exactly"):
        requests.place(CLIENT, ticket(price=Decimal("188.1000000000000000001")), CORRELATION)


@pytest.mark.parametrize("amo_time", ["PRE_OPEN", "OPEN", "OPEN_30", "OPEN_60"])
def test_each_documented_amo_time_is_sent(amo_time: str) -> None:
    request = requests.place(CLIENT, ticket(after_market=True, amo_time=amo_time), CORRELATION)
    assert body_of(request)["amoTime"] == amo_time
    assert body_of(request)["afterMarketOrder"] is True


def test_a_modify_sends_every_term_again() -> None:
    request = requests.modify(CLIENT, "212260907000001", STOP)

    assert (request.method, request.path) == ("PUT", "/orders/212260907000001")
    assert body_of(request) == {
        "dhanClientId": CLIENT,
        "orderId": "212260907000001",
        "orderType": "STOP_LOSS",
        "quantity": 130,
        "price": 184.05,
        "disclosedQuantity": 0,
        "triggerPrice": 184.2,
        "validity": "DAY",
    }


def test_every_request_is_on_the_allow_list() -> None:
    for request in (
        requests.place(CLIENT, ticket(), CORRELATION),
        requests.modify(CLIENT, "1", ticket()),
        requests.cancel("1"),
        requests.orders(),
        requests.order("1"),
        requests.by_correlation(CORRELATION),
        requests.positions(),
        requests.holdings(),
        requests.funds(),
        requests.trades(),
        requests.profile(),
        requests.ip(),
        requests.margin(CLIENT, ticket()),
    ):
        assert is_allowed(request), request


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": 0},
        {"quantity": -1},
        {"quantity": True},
        {"quantity": 5.9},
        {"disclosed_quantity": -1},
        {"price": Decimal("NaN")},
        {"price": Decimal("Infinity")},
        {"price": Decimal(-1)},
        {"price": Decimal(0)},
        {"order_type": OrderType.STOP_LOSS},
        {"after_market": True, "amo_time": "NOON"},
    ],
)
def test_terms_that_must_never_be_sent_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        requests.place(CLIENT, ticket(**changes), CORRELATION)
    with pytest.raises(ValueError):
        requests.margin(CLIENT, ticket(**changes))


# --- The contract with the SDK -------------------------------------------------------

Wire = tuple[str, str, Any]


class Recorder(BaseHTTPRequestHandler):
    """Notes what arrives."""

    seen: list[Wire]

    def _note(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.command, self.path, json.loads(body) if body else None))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT = do_DELETE = _note  # noqa: N815  # the names http.server calls

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, list[Wire]]]:
    """The unmodified SDK, pointed at a server of our own."""
    dhanhq = importlib.import_module("dhanhq")
    seen: list[Wire] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Noting", (Recorder,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}/v2"
    monkeypatch.setattr(dhanhq.DhanHTTP, "API_BASE_URL", base)
    monkeypatch.setattr(dhanhq.DhanLogin, "API_BASE_URL", base)
    context = dhanhq.DhanContext(CLIENT, TOKEN)
    try:
        yield dhanhq.dhanhq(context), seen
        context.get_dhan_http().session.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def place_by_sdk(terms: Any) -> Callable[[Any], Any]:
    return lambda sdk: sdk.place_order(
        terms.security.security_id,
        terms.security.exchange_segment,
        terms.side.value,
        terms.quantity,
        terms.order_type.value,
        terms.product.value,
        float(terms.price),
        trigger_price=float(terms.trigger_price),
        disclosed_quantity=terms.disclosed_quantity,
        after_market_order=terms.after_market,
        validity=terms.validity.value,
        amo_time=terms.amo_time or "OPEN",
        tag=CORRELATION,
    )


def modify_by_sdk(terms: Any) -> Callable[[Any], Any]:
    return lambda sdk: sdk.modify_order(
        "77",
        terms.order_type.value,
        "",
        terms.quantity,
        float(terms.price),
        float(terms.trigger_price),
        terms.disclosed_quantity,
        terms.validity.value,
    )


TICKETS = [
    ticket(),
    STOP,
    MARKET,
    AMO,
    ticket(side=Side.SELL, disclosed_quantity=65, security=Security("MCX_COMM", "99")),
]
CALLS: list[tuple[Request, Callable[[Any], Any]]] = [
    *((requests.place(CLIENT, terms, CORRELATION), place_by_sdk(terms)) for terms in TICKETS),
    *((requests.modify(CLIENT, "77", terms), modify_by_sdk(terms)) for terms in TICKETS),
    (requests.cancel("77"), lambda sdk: sdk.cancel_order("77")),
    (requests.orders(), lambda sdk: sdk.get_order_list()),
    (requests.order("77"), lambda sdk: sdk.get_order_by_id("77")),
    (requests.by_correlation("ct1-x"), lambda sdk: sdk.get_order_by_correlationID("ct1-x")),
    (requests.positions(), lambda sdk: sdk.get_positions()),
    (requests.holdings(), lambda sdk: sdk.get_holdings()),
    (requests.funds(), lambda sdk: sdk.get_fund_limits()),
    (requests.trades(), lambda sdk: sdk.get_trade_book()),
    (
        requests.margin(CLIENT, STOP),
        lambda sdk: sdk.margin_calculator("54321", "NSE_FNO", "BUY", 130, "MARGIN", 184.05, 184.2),
    ),
]


def without_documented_differences(method: str, path: str, body: Any) -> Wire:
    """Dhan refuses null and "" in places, so they are left out; the trade book has no trailing slash."""
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if value is not None and value != ""}
    return method, path.removeprefix("/v2").removesuffix("/"), body


def test_we_say_what_the_sdk_puts_on_the_wire(sdk: tuple[Any, list[Wire]]) -> None:
    client, seen = sdk
    for request, call in CALLS:
        call(client)
        assert without_documented_differences(*seen.pop()) == (
            request.method,
            request.path,
            json.loads(request.body) if request.body else None,
        )


def test_profile_and_addresses_are_asked_for_where_the_sdk_asks(sdk: tuple[Any, list[Wire]]) -> None:
    _, seen = sdk
    login = importlib.import_module("dhanhq").DhanLogin(CLIENT)
    login.user_profile(TOKEN)
    assert without_documented_differences(*seen.pop())[:2] == ("GET", requests.profile().path)
    login.get_ip(TOKEN)
    assert without_documented_differences(*seen.pop())[:2] == ("GET", requests.ip().path)
