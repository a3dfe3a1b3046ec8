"""What each behaviour of the server proves about each verb.  Doubt is never a refusal."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from copytrader.core.facts import Accepted, Command, NotSent, Refused, Throttled, Unanswered, Verb
from copytrader.core.model import OrderStatus, RefusalClass
from copytrader.dhan.answers import outcome
from copytrader.dhan.refusals import classify_refusal, explain
from copytrader.dhan.transport import Reply
from tests.dhan.support import CANCEL, MODIFY, NOW, PLACE

ORDER_ID = "212260907000001"
COMMANDS: tuple[Command, ...] = (PLACE, MODIFY, CANCEL)


def reply(status: int, body: Any = b"") -> Reply:
    return Reply(status, body if isinstance(body, bytes) else json.dumps(body).encode())


def error(status: int, code: str, message: str = "", kind: str = "Order_Error") -> Reply:
    return reply(status, {"errorType": kind, "errorCode": code, "errorMessage": message})


OK = {"orderId": ORDER_ID, "orderStatus": "TRANSIT"}
REJECTED = {"orderId": ORDER_ID, "orderStatus": "REJECTED"}
HTML = b"<html><body>502 Bad Gateway</body></html>"
A, R, T, U, N = Accepted, Refused, Throttled, Unanswered, NotSent
SAME = {
    "guard refused or no connection": (Reply(None, sent=False, detail="no connection"), N),
    "timeout, reset, broken off": (Reply(None, detail="time ran out"), U),
    "200 transit": (reply(200, OK), A),
    "200 pending": (reply(200, OK | {"orderStatus": "PENDING"}), A),
    "202 cancelled": (reply(202, OK | {"orderStatus": "CANCELLED"}), A),
    "201": (reply(201, OK), A),
    "200 part traded": (reply(200, OK | {"orderStatus": "Part-Traded"}), A),
    "200 without a status": (reply(200, {"orderId": ORDER_ID}), A),
    "200 with an unknown status": (reply(200, OK | {"orderStatus": "INACTIVE"}), A),
    "200 in an envelope": (reply(200, {"status": "success", "data": OK}), A),
    "200 in upper-case keys": (reply(200, {"OrderId": ORDER_ID, "OrderStatus": "TRANSIT"}), A),
    "200 with an id that is a number": (reply(200, OK | {"orderId": int(ORDER_ID)}), A),
    "200 with null errors": (reply(200, OK | {"errorCode": None, "errorMessage": None}), A),
    "200 empty": (reply(200), U),
    "202 empty": (reply(202), U),
    "204": (reply(204), U),
    "202 empty object": (reply(202, {}), U),
    "200 HTML": (reply(200, HTML), U),
    "200 truncated JSON": (reply(200, b'{"orderId": "2122609'), U),
    "200 not UTF-8": (reply(200, b'{"orderId": "\xff"}'), U),
    "200 null": (reply(200, b"null"), U),
    "200 list": (reply(200, [OK]), U),
    "200 string": (reply(200, "ok"), U),
    "200 number": (reply(200, 5), U),
    "200 nested too deeply": (reply(200, b"[" * 100_000), U),
    "200 NaN": (reply(200, b'{"orderId": "1", "price": NaN}'), U),
    "200 two ids": (reply(200, b'{"orderId": "1", "orderId": "2"}'), U),
    "200 without an id": (reply(200, {"orderStatus": "TRANSIT"}), U),
    "200 null id": (reply(200, OK | {"orderId": None}), U),
    "200 empty id": (reply(200, OK | {"orderId": ""}), U),
    "200 zero id": (reply(200, OK | {"orderId": "0"}), U),
    "200 hostile id": (reply(200, OK | {"orderId": "../positions"}), U),
    "200 true for an id": (reply(200, OK | {"orderId": True}), U),
    "200 in an envelope without success": (reply(200, {"status": "pending", "data": OK}), U),
    "200 id of another kind": (reply(200, OK | {"orderId": ["1"]}), U),
    "200 error body": (error(200, "DH-906", "Insufficient funds"), U),
    "200 error body with an id": (reply(200, OK | {"errorCode": "DH-906"}), U),
    "200 error type with an id": (reply(200, OK | {"errorType": "Order_Error"}), U),
    "200 error message with an id": (reply(200, OK | {"errorMessage": "no"}), U),
    "200 status failed": (reply(200, {"status": "failed", "data": {"813": "Invalid SecurityId"}}), U),
    "200 status failed with an id": (reply(200, OK | {"status": "failed"}), U),
    "200 list with an error": (reply(200, [{"message": "no", "status": "ERROR"}]), U),
    "200 rate limit body": (error(200, "DH-904", "Too many requests"), U),
    "301": (reply(301), U),
    "302 with a good body": (reply(302, OK), U),
    "302 DH-906": (error(302, "DH-906", "Insufficient funds"), U),
    "307": (reply(307, b""), U),
    "100": (reply(100), U),
    "400 empty": (reply(400), U),
    "400 HTML": (reply(400, HTML), U),
    "400 list": (reply(400, ["DH-906"]), U),
    "400 string": (reply(400, "DH-906"), U),
    "400 null": (reply(400, b"null"), U),
    "400 without a code": (reply(400, {"message": "no"}), U),
    "400 without a code that speaks of an address": (reply(400, {"message": "Invalid IP"}), U),
    "400 with a good body": (reply(400, OK), U),
    "404 of the gateway": (reply(404, {"timestamp": 1, "status": 404, "error": "Not Found", "path": "/v2/orders"}), U),
    "408 HTML": (reply(408, HTML), U),
    "400 DH-901": (error(400, "DH-901", "Client ID or token is invalid"), R),
    "401 DH-901": (error(401, "DH-901", "token is invalid or expired."), R),
    "403 DH-902": (error(403, "DH-902", "no access"), R),
    "400 DH-903": (error(400, "DH-903", "account"), R),
    "400 DH-905": (error(400, "DH-905", "Missing required fields"), R),
    "400 DH-906": (error(400, "DH-906", "Order is in Transit state"), R),
    "404 DH-906": (error(404, "DH-906", "Incorrect request for order"), R),
    "400 DH-907": (error(400, "DH-907", "data"), R),
    "400 DH-911 for the address": (error(400, "DH-911", "Invalid IP"), R),
    "400 DH-911 for something else": (error(400, "DH-911", "hm"), U),
    "400 DH-908": (error(400, "DH-908", "Internal server error"), U),
    "400 DH-909": (error(400, "DH-909", "could not reach backend"), U),
    "400 DH-910": (error(400, "DH-910", "others"), U),
    "400 DH-908 that speaks of an address": (error(400, "DH-908", "Invalid IP"), U),
    "400 DH-909 that speaks of an address": (error(400, "DH-909", "Invalid IP"), U),
    "400 DH-910 that speaks of an address": (error(400, "DH-910", "Invalid IP"), U),
    "400 unknown code": (error(400, "DH-999", "?"), U),
    "500 DH-906": (error(500, "DH-906", "Insufficient funds"), U),
    "500 DH-905": (error(500, "DH-905"), U),
    "500 DH-908": (error(500, "DH-908"), U),
    "500 DH-904": (error(500, "DH-904"), U),
    "500 of old": (reply(500, {"errorCode": "INTERNAL_SERVER_ERROR", "internalErrorCode": "RS-9005"}), U),
    "500 another shape": (reply(500, {"oops": True}), U),
    "500 with a good body": (reply(500, OK), U),
    "502 HTML": (reply(502, HTML), U),
    "503 HTML": (reply(503, HTML), U),
    "504 HTML": (reply(504, HTML), U),
    "429 DH-904": (error(429, "DH-904", "Too many requests"), T),
    "429 HTML": (reply(429, HTML), T),
    "429 empty": (reply(429), T),
    "400 DH-904": (error(400, "DH-904", "Rate limit"), T),
    "400 805": (reply(400, {"status": "failed", "data": {"805": "Too many requests"}}), T),
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
@pytest.mark.parametrize("behaviour", SAME)
def test_what_a_behaviour_proves(behaviour: str, command: Command) -> None:
    answered, expected = SAME[behaviour]
    event = outcome(command, answered, NOW)

    assert type(event) is expected
    assert (event.at, event.account, event.correlation_id) == (NOW, "asha", PLACE.correlation_id)
    assert event.verb is Verb(type(command).__name__.upper())
    if isinstance(event, Accepted):
        assert event.order_id == ORDER_ID


def test_an_order_that_is_rejected_at_once_is_refused_with_its_id() -> None:
    body = REJECTED | {"omsErrorDescription": "RMS:1:You have insufficient funds."}
    event = outcome(PLACE, reply(200, body), NOW)
    assert isinstance(event, Refused)
    assert (event.order_id, event.refusal) == (ORDER_ID, RefusalClass.MARGIN)


@pytest.mark.parametrize("command", [MODIFY, CANCEL], ids=["modify", "cancel"])
def test_a_rejected_status_leaves_a_modify_or_cancel_open(command: Command) -> None:
    assert type(outcome(command, reply(200, REJECTED), NOW)) is Unanswered


@pytest.mark.parametrize("command", [MODIFY, CANCEL], ids=["modify", "cancel"])
def test_an_answer_about_another_order_proves_nothing(command: Command) -> None:
    assert type(outcome(command, reply(200, OK | {"orderId": "99"}), NOW)) is Unanswered


def test_an_answer_with_another_correlation_id_proves_nothing() -> None:
    assert type(outcome(PLACE, reply(200, OK | {"correlationId": "ct1-other"}), NOW)) is Unanswered
    assert type(outcome(PLACE, reply(200, OK | {"correlationId": PLACE.correlation_id}), NOW)) is Accepted


def test_an_acceptance_tells_the_status_that_dhan_named() -> None:
    event = outcome(CANCEL, reply(202, OK | {"orderStatus": "CANCELLED"}), NOW)
    assert isinstance(event, Accepted)
    assert event.status is OrderStatus.CANCELLED
    unknown = outcome(CANCEL, reply(200, OK | {"orderStatus": "INACTIVE"}), NOW)
    assert isinstance(unknown, Accepted)
    assert unknown.status is None


def test_a_refusal_tells_code_class_and_words() -> None:
    event = outcome(PLACE, error(400, "DH-906", "RMS:1:Insufficient Funds, required margin is 5"), NOW)
    assert event == Refused(
        NOW,
        "asha",
        PLACE.correlation_id,
        Verb.PLACE,
        RefusalClass.MARGIN,
        "DH-906",
        "RMS:1:Insufficient Funds, required margin is 5",
    )


def test_words_are_bounded_printable_and_hold_no_token() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJkaGFuQ2xpZW50SWQiOiIxIn0.c2lnbmF0dXJl"
    event = outcome(PLACE, error(400, "DH-906", f"\x1b]0;x\x07 {jwt} " + "z" * 5000), NOW)
    assert isinstance(event, Refused)
    assert len(event.message) <= 300
    assert event.message.isprintable()
    assert "eyJ" not in event.message


def test_odd_bodies_are_judged_without_surprises_and_prove_nothing() -> None:
    rng = random.Random(11)
    good = json.dumps(OK | {"errorCode": "DH-906", "correlationId": "NA", "status": "failed", "data": {"1": "x"}})
    tokens = ["null", "[]", "{}", "1e999", "NaN", '"', "{", "\\ud800", "true", "-1", "9" * 40, ",", ":"]
    for _ in range(10_000):
        text = list(good)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(text))
            if rng.random() < 0.5:
                text[at:at] = rng.choice(tokens)
            else:
                del text[at : at + rng.randint(1, 15)]
                text = text or ["x"]
        body = "".join(text).encode()
        for status in (200, 400, 500):
            event = outcome(PLACE, Reply(status, body), NOW)
            assert isinstance(event, (Accepted, Refused, Throttled, Unanswered))
            assert status == 200 or not isinstance(event, Accepted)
            assert status < 500 or isinstance(event, Unanswered)


WORDS = [
    (400, "DH-905", "Invalid IP", RefusalClass.IP),
    (401, "DH-901", "Invalid IP address", RefusalClass.IP),
    (400, "DH-911", "Invalid IP", RefusalClass.IP),
    (400, "DH-906", "Invalid Token", RefusalClass.TOKEN),
    (401, "DH-901", "Client ID or user generated access token is invalid or expired.", RefusalClass.TOKEN),
    (401, "", "", RefusalClass.TOKEN),
    (400, "DH-901", "", RefusalClass.TOKEN),
    (400, "807", "", RefusalClass.TOKEN),
    (400, "DH-904", "", RefusalClass.RATE),
    (400, "DH-906", "Order is in Transit state", RefusalClass.TRANSIT),
    (400, "DH-906", "Market is Closed! You cannot modify/cancel an order now.", RefusalClass.HOURS),
    (None, "", "RMS:1:You have insufficient funds. Please add Rs.23.70 to trade.", RefusalClass.MARGIN),
    (
        None,
        "",
        "RMS:1:Insufficient Funds, required margin is 371065.50 and available margin 2235.",
        RefusalClass.MARGIN,
    ),
    (None, "", "RMS:1:Order Price needs to be Circuit Limits of 10 to 20", RefusalClass.PRICE_BAND),
    (None, "", "EXCH:16283: The order price is not multiple of the tick size", RefusalClass.TICK),
    (None, "", "Quantity should be a multiple of lot size", RefusalClass.LOT),
    (None, "", "Order quantity exceeds the freeze quantity", RefusalClass.FREEZE),
    (400, "DH-906", "Order already traded", RefusalClass.ENDED),
    (400, "DH-906", "The order has been cancelled", RefusalClass.ENDED),
    (400, "DH-906", "Product type is not allowed", RefusalClass.PRODUCT),
    (400, "DH-903", "", RefusalClass.PRODUCT),
    (429, "DH-904", "Too many requests on server from single user breaching rate limits.", RefusalClass.RATE),
    (400, "DH-906", "Trigger Price should be greater than Price", RefusalClass.OTHER),
    (400, "DH-905", "Missing required fields, bad values for parameters etc.", RefusalClass.OTHER),
    (404, "DH-906", "Incorrect request for order and cannot be processed", RefusalClass.OTHER),
]


@pytest.mark.parametrize(("status", "code", "message", "expected"), WORDS)
def test_a_refusal_is_classed_by_its_words(status: int | None, code: str, message: str, expected: RefusalClass) -> None:
    assert classify_refusal(status, code, message) is expected


@pytest.mark.parametrize("refusal", RefusalClass)
def test_each_class_is_explained_in_one_sentence(refusal: RefusalClass) -> None:
    assert re.fullmatch(r"[A-Z][^.]*(: [^.]+)\.", explain(refusal).replace("Dhan's app", "Dhan's app"))
