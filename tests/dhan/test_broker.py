"""One account: facts from commands, values from readings, and errors instead of empty results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from copytrader.core.facts import Accepted, NotSent, Unanswered
from copytrader.core.model import Product, RefusalClass, Security
from copytrader.dhan.broker import Broker, BrokerError, TokenError
from copytrader.dhan.transport import Reply, Request
from tests.dhan.support import CANCEL, CLIENT, CORRELATION, MODIFY, NOW, PLACE, row, ticket

T = TypeVar("T")


class Answers:
    """A transport that answers by path and notes what was asked."""

    def __init__(self, **by_name: Reply) -> None:
        self.by_name = by_name
        self.asked: list[Request] = []

    async def send(self, request: Request) -> Reply:
        self.asked.append(request)
        return self.by_name.get(request.path.split("/")[1], Reply(404, b"{}"))


def good(body: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(body).encode())


def broker(**answers: Reply) -> Broker:
    return Broker(CLIENT, Answers(**answers), lambda: NOW)


def run(awaitable: Awaitable[T]) -> T:
    async def wrapped() -> T:
        return await awaitable

    return asyncio.run(wrapped())


NO_HOLDINGS = good({"errorType": "HOLDING_ERROR", "errorCode": "DH-1111", "errorMessage": "No holdings available"}, 500)
BAD_TOKEN = good({"errorCode": "DH-901", "errorMessage": "access token is invalid or expired."}, 401)
BAD_IP = good({"errorCode": "DH-905", "errorMessage": "Invalid IP"}, 400)
POSITION = {
    "dhanClientId": CLIENT,
    "securityId": "10001",
    "exchangeSegment": "NSE_EQ",
    "productType": "CNC",
    "netQty": -2,
    "buyAvg": 250.0,
    "multiplier": 1,
}
HOLDING = {"exchange": "ALL", "securityId": "10001", "totalQty": 5, "avgCostPrice": 240.0}


@pytest.mark.parametrize("command", [PLACE, MODIFY, CANCEL], ids=["place", "modify", "cancel"])
def test_a_command_is_sent_once_and_becomes_a_fact(command: Any) -> None:
    transport = Answers(orders=good({"orderId": "212260907000001", "orderStatus": "PENDING"}))
    event = run(Broker(CLIENT, transport, lambda: NOW).send(command))
    assert isinstance(event, Accepted)
    assert event.at == NOW
    assert len(transport.asked) == 1


def test_a_book_that_is_the_last_one_to_the_byte_is_not_read_anew() -> None:
    transport = Answers(orders=good([row(), row(quantity=-1)]))
    account = Broker(CLIENT, transport, lambda: NOW)
    first = run(account.orders())

    assert run(account.orders()) is first
    transport.by_name["orders"] = good([row(quantity=150)])
    changed = run(account.orders())
    assert [order.ticket.quantity for order in changed[0]] == [150]
    transport.by_name["orders"] = Reply(502, good([row(quantity=150)]).body)
    with pytest.raises(BrokerError):
        run(account.orders())
    assert run(broker(orders=good([])).orders()) == ((), ())


@pytest.mark.parametrize("body", [b"", b"{}", b"null"])
def test_an_answer_without_a_book_is_no_empty_book(body: bytes) -> None:
    account = broker(orders=Reply(200, body))

    for _ in range(2):
        with pytest.raises(BrokerError):
            run(account.orders())


def test_terms_that_cannot_be_sent_are_not_sent() -> None:
    transport = Answers()
    command = type(PLACE)("asha", "L1", CORRELATION, ticket(quantity=0), PLACE.role)
    event = run(Broker(CLIENT, transport, lambda: NOW).send(command))
    assert isinstance(event, NotSent)
    assert "quantity" in event.detail
    assert transport.asked == []


def test_no_answer_is_unanswered() -> None:
    assert isinstance(run(broker(orders=Reply(None, detail="time ran out")).send(PLACE)), Unanswered)


def test_the_book_comes_with_its_problems() -> None:
    orders, problems = run(broker(orders=good([row(), row(quantity=-1)])).orders())
    assert (len(orders), len(problems)) == (1, 1)


FAILURES = [
    Reply(None, detail="time ran out"),
    Reply(None, sent=False, detail="no connection"),
    Reply(200, b""),
    Reply(200, b"<html>"),
    Reply(502, b"<html>"),
    Reply(301, b""),
    good([], 302),
    good([], 404),
    Reply(200, b"null"),
    good({}),
    good({"errorCode": "DH-906"}),
    good({"errorCode": "DH-908"}, 500),
    good({"status": "failed", "data": {"813": "x"}}),
    good("x"),
]


READINGS = ["orders", "positions", "funds", "trades", "profile", "ip", "find", "order", "margin"]


@pytest.mark.parametrize(
    ("reading", "failure"),
    # An account without addresses answers `{}` when asked for them.
    [(r, f) for r in READINGS for f in FAILURES if (r, f.body) != ("ip", b"{}")],
)
def test_a_failed_reading_is_never_an_empty_result(reading: str, failure: Reply) -> None:
    names = ("orders", "positions", "fundlimit", "trades", "profile", "ip", "margincalculator", "holdings")
    account = broker(**dict.fromkeys(names, failure))
    arguments = {"find": (CORRELATION,), "order": ("7",), "margin": (ticket(),)}.get(reading, ())
    with pytest.raises(BrokerError):
        run(getattr(account, reading)(*arguments))


@pytest.mark.parametrize(("failure", "refusal"), [(BAD_TOKEN, RefusalClass.TOKEN), (BAD_IP, RefusalClass.IP)])
def test_a_token_or_address_that_dhan_refuses_has_its_own_error(failure: Reply, refusal: RefusalClass) -> None:
    account = broker(orders=failure, positions=good([]), holdings=failure)
    for reading in (account.orders, account.positions):
        with pytest.raises(TokenError) as caught:
            run(reading())
        assert caught.value.refusal is refusal


def test_holdings_are_added_to_cnc_positions() -> None:
    account = broker(positions=good([POSITION]), holdings=good([HOLDING, HOLDING | {"securityId": "2"}]))
    positions = run(account.positions())
    assert [(p.security, p.product, p.net_quantity, p.whole) for p in positions] == [
        (Security("NSE_EQ", "10001"), Product.CNC, 3, True),
        (Security("NSE_EQ", "2"), Product.CNC, 5, True),
    ]
    assert account.holdings_problem == ""


def test_no_holdings_come_as_an_internal_error() -> None:
    account = broker(positions=good([POSITION]), holdings=NO_HOLDINGS)
    assert len(run(account.positions())) == 1
    assert account.holdings_problem == ""


@pytest.mark.parametrize("failure", [Reply(404, b"{}"), Reply(None, detail="time ran out"), Reply(500, b"")])
def test_positions_without_holdings_say_so(failure: Reply, caplog: pytest.LogCaptureFixture) -> None:
    account = broker(positions=good([POSITION]), holdings=failure)
    (position,) = run(account.positions())
    assert (position.net_quantity, position.whole) == (-2, False)
    assert account.holdings_problem
    assert "without holdings" in caplog.text


@pytest.mark.parametrize(
    ("row", "whole"),
    [
        ({}, True),
        ({"productType": "MTF"}, False),
        ({"exchangeSegment": "BSE_EQ", "securityId": "500001"}, False),
        ({"exchangeSegment": "NSE_FNO", "productType": "MARGIN"}, True),
    ],
)
def test_a_delivered_position_is_whole_where_the_demat_account_names_it(row: dict[str, str], whole: bool) -> None:
    account = broker(positions=good([POSITION | row]), holdings=good([HOLDING]))
    assert run(account.positions())[0].whole is whole


NOT_KNOWN = good({"errorCode": "DH-906", "errorMessage": "Incorrect request for order and cannot be processed"}, 404)


def test_an_order_is_found_by_its_name() -> None:
    for body in (row(correlationId=CORRELATION), [row(correlationId=CORRELATION)]):
        found = run(broker(orders=good(body)).find(CORRELATION))
        assert found is not None
        assert found.order_id == "212260907000001"


@pytest.mark.parametrize("absent", [NOT_KNOWN, good([])])
def test_an_unknown_name_finds_nothing(absent: Reply) -> None:
    assert run(broker(orders=absent).find(CORRELATION)) is None


@pytest.mark.parametrize(
    "answer",
    [
        good(row(correlationId="ct1-another")),
        good(row(correlationId=CORRELATION, dhanClientId="1000000009")),
        good([row(correlationId=CORRELATION), row(correlationId=CORRELATION, orderId="8")]),
        Reply(404, b""),
        good({"timestamp": 1, "status": 404, "error": "Not Found"}, 404),
        good({"errorCode": "DH-906", "errorMessage": "Invalid Token"}, 404),
        good({"errorCode": "DH-906", "errorMessage": "Market is Closed!"}, 400),
    ],
)
def test_a_look_up_that_answers_something_else_is_an_error(answer: Reply) -> None:
    with pytest.raises(BrokerError):
        run(broker(orders=answer).find(CORRELATION))


def test_funds_and_margin_and_profile_are_values() -> None:
    account = broker(
        fundlimit=good({"sodLimit": 100.5, "availabelBalance": 50.25}),
        margincalculator=good({"totalMargin": 1000.5, "insufficientBalance": 0.0, "brokerage": 20.0}),
        profile=good({"dhanClientId": CLIENT, "tokenValidity": "08/09/2026 09:15", "activeSegment": "E, D, "}),
    )
    assert run(account.funds()).available == Decimal("50.25")
    assert run(account.margin(ticket())).total == Decimal("1000.5")
    assert run(account.profile()).segments == ("Equity", "Derivative")


def test_the_offset_to_dhans_clock_comes_from_the_date_header() -> None:
    reply = Reply(200, b"[]", headers={"date": "Mon, 07 Sep 2026 05:00:10 GMT"})
    account = broker(orders=reply)
    assert account.clock_offset is None
    run(account.orders())
    assert account.clock_offset == timedelta(seconds=10.5)


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Mon, 99 Sep 2026 05:00:10 GMT", "Mon, 07 Sep 2026 05:00:10 +9999999999999"]
)
def test_an_odd_date_header_changes_nothing(date: str) -> None:
    account = broker(orders=Reply(200, b"[]", headers={"date": date}))
    run(account.orders())
    assert account.clock_offset is None


def test_an_event_bears_the_time_of_its_answer() -> None:
    times = iter([NOW, NOW + timedelta(seconds=1), NOW + timedelta(seconds=1)])

    def clock() -> datetime:
        return next(times)

    account = Broker(CLIENT, Answers(orders=Reply(None, detail="time ran out")), clock)
    assert run(account.send(PLACE)).at == NOW + timedelta(seconds=1)
