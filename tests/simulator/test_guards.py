"""Limits, tokens, addresses, and the requests that nobody should send."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from copytrader.simulator import LEADER_ID, Settings, token_of
from copytrader.simulator.tokens import totp
from tests.simulator.conftest import Desk, Refusal

FOLLOWER_ID = "1000000002"


def test_the_eleventh_order_request_of_a_second_is_refused(desk: Desk, refused: Refusal) -> None:
    for _ in range(10):
        assert desk.place().status == 200
    answer = desk.place()
    assert refused(answer)[:2] == (429, "DH-904")
    assert "Retry-After" not in answer.headers
    limiter = desk.exchange.limiters[FOLLOWER_ID]
    assert (limiter.overruns, limiter.worst[1]) == (1, 11)
    desk.clock.now += timedelta(seconds=1)
    assert desk.place().status == 200
    assert len(desk.exchange.ledger.where(kind="accepted")) == 11


def test_the_window_slides(desk: Desk) -> None:
    for number in range(10):
        desk.clock.now += timedelta(seconds=0.1 if number else 0)
        assert desk.place().status == 200
    desk.clock.now += timedelta(seconds=0.1)
    assert desk.place().status == 200
    assert desk.place().status == 429


def test_modify_and_cancel_share_the_window_with_place_and_reads_do_not(desk: Desk) -> None:
    order_id = desk.placed()
    for _ in range(5):
        desk.modify(order_id)
    for _ in range(5):
        desk.request("DELETE", f"/orders/{order_id}")
    assert desk.place().status == 429
    assert desk.request("GET", "/orders").status == 200


@pytest.mark.parametrize(("seconds", "limit"), [(60, 250), (3600, 1000)])
def test_the_longer_windows_hold_as_well(desk: Desk, seconds: int, limit: int) -> None:
    step = timedelta(seconds=(seconds - 1) / limit)
    for _ in range(limit):
        desk.clock.now += max(step, timedelta(seconds=0.2))
        assert desk.place().status == 200
    assert desk.place().status == 429
    assert desk.exchange.limiters[FOLLOWER_ID].worst[seconds] == limit + 1


def test_other_programs_use_up_the_same_windows(desk: Desk) -> None:
    desk.exchange.charge(FOLLOWER_ID, 9)
    assert desk.place().status == 200
    assert desk.place().status == 429


def test_reads_are_limited_where_that_is_asked_for(desk: Desk) -> None:
    desk.exchange.settings = Settings(read_limit=20)
    answers = [desk.request("GET", "/orders").status for _ in range(21)]
    assert answers == [200] * 20 + [429]


def test_an_order_from_another_address_is_refused_and_a_read_is_not(desk: Desk, refused: Refusal) -> None:
    desk.exchange.accounts[FOLLOWER_ID].allowed_peers = ("127.0.0.9",)
    assert refused(desk.place()) == (400, "DH-905", "Invalid IP")
    assert desk.request("GET", "/orders").status == 200
    ip = desk.get("/ip/getIP")
    assert (ip["primaryIP"], ip["detectedIP"], ip["ordersAllowed"]) == ("127.0.0.9", "127.0.0.1", False)


def test_an_expired_token_is_refused_without_being_a_violation(desk: Desk, refused: Refusal) -> None:
    desk.exchange.expire_token(FOLLOWER_ID)
    assert refused(desk.place())[:2] == (401, "DH-901")
    assert desk.exchange.violations == []


def test_a_new_token_kills_the_old_one(desk: Desk, refused: Refusal) -> None:
    desk.exchange.set_token(FOLLOWER_ID, "another")
    assert refused(desk.place()) == (400, "DH-906", "Invalid Token")
    assert refused(desk.request("GET", "/profile"))[:2] == (401, "DH-901")
    assert desk.request("GET", "/profile", token="another").status == 200


@pytest.mark.parametrize(
    ("method", "path", "fields", "token", "reason"),
    [
        ("DELETE", "/positions", None, None, "no such request is allowed"),
        ("POST", "/positions/convert", {}, None, "no such request is allowed"),
        ("DELETE", "/orders/../positions", None, None, "no such request is allowed"),
        ("POST", "/super/orders", {}, None, "no such request is allowed"),
        ("PATCH", "/orders", {}, None, "no such request is allowed"),
        ("GET", "/orders", None, "", "no access token"),
        ("DELETE", "/orders/..%2Fpositions", None, None, "malformed order id"),
        ("GET", "/orders/external/a%3Bb", None, None, "malformed correlation id"),
        ("POST", "/orders", b"{", None, "body is not JSON"),
        ("POST", "/orders", b'{"price": NaN}', None, "body is not JSON"),
        ("POST", "/orders", {"dhanClientId": LEADER_ID}, None, "dhanClientId is not the token's client"),
        ("DELETE", "/orders/1", None, token_of(LEADER_ID), "client-id is not the token's client"),
    ],
)
def test_what_no_good_client_sends_is_a_violation(
    desk: Desk, method: str, path: str, fields: Any, token: str | None, reason: str
) -> None:
    assert desk.request(method, path, fields, token).status >= 400
    assert [violation.reason for violation in desk.exchange.violations] == [reason]


def test_touching_the_order_of_another_account_is_a_violation(desk: Desk) -> None:
    order_id = desk.leader.place("NSE_FNO", "40001", "BUY", 75, "LIMIT", Decimal(90))
    assert desk.request("DELETE", f"/orders/{order_id}").status == 400
    assert [violation.reason for violation in desk.exchange.violations] == ["order of another account"]


def test_a_path_that_belongs_to_no_surface_is_a_violation(desk: Desk) -> None:
    assert desk.exchange.request("GET", "/v3/orders", {}).status == 404
    assert len(desk.exchange.violations) == 1


def test_slicing_is_not_served_and_not_a_violation(desk: Desk) -> None:
    answer = desk.request("POST", "/orders/slicing", {})
    assert (answer.status, json.loads(answer.body)["path"]) == (404, "/v2/orders/slicing")
    assert desk.exchange.violations == []


def generate(desk: Desk, **changes: str) -> dict[str, Any]:
    asked = {"dhanClientId": FOLLOWER_ID, "pin": "1234", "totp": "123456"} | changes
    query = "&".join(f"{key}={value}" for key, value in asked.items())
    answer: dict[str, Any] = json.loads(
        desk.exchange.request("POST", f"/auth/app/generateAccessToken?{query}", {}).body
    )
    return answer


def test_a_token_is_made_from_pin_and_totp_at_most_every_two_minutes(desk: Desk) -> None:
    made = generate(desk)
    assert made["dhanClientId"] == FOLLOWER_ID
    assert made["expiryTime"] == "2026-11-24T10:00:00.000"
    assert desk.request("GET", "/profile", token=made["accessToken"]).status == 200
    assert desk.request("GET", "/profile").status == 401
    assert generate(desk) == {"status": "error", "message": "Token can be generated once every 2 minutes."}
    desk.clock.now += timedelta(minutes=2)
    assert generate(desk)["accessToken"] != made["accessToken"]


def test_a_wrong_pin_or_totp_makes_no_token(desk: Desk) -> None:
    desk.exchange.accounts[FOLLOWER_ID].totp_secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    assert generate(desk, pin="9999")["message"] == "Invalid Pin"
    assert generate(desk, totp="123456")["message"] == "Invalid TOTP"
    assert "accessToken" in generate(desk, totp=totp("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", desk.clock.now))


def test_one_time_passwords_are_those_of_a_known_library(desk: Desk) -> None:
    pyotp = pytest.importorskip("pyotp")
    assert totp("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", desk.clock.now) == pyotp.TOTP(
        "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    ).at(desk.clock.now)


def test_a_web_token_can_be_renewed_and_one_from_a_pin_cannot(desk: Desk) -> None:
    headers = {"access-token": token_of(FOLLOWER_ID), "dhanClientId": FOLLOWER_ID}
    renewed = json.loads(desk.exchange.request("GET", "/v2/RenewToken", headers).body)
    assert desk.request("GET", "/profile").status == 401
    assert desk.request("GET", "/profile", token=renewed["accessToken"]).status == 200
    desk.clock.now += timedelta(minutes=3)
    headers["access-token"] = generate(desk)["accessToken"]
    assert desk.exchange.request("GET", "/v2/RenewToken", headers).status == 400


def test_secrets_never_enter_the_ledger(desk: Desk) -> None:
    made = generate(desk)
    desk.place()
    text = json.dumps([row.as_json() for row in desk.exchange.ledger]) + repr(desk.exchange.accounts)
    for secret in (made["accessToken"], token_of(FOLLOWER_ID), "123456", "pin"):
        assert secret not in text


def login(client_id: object, token: str | None, code: int = 42) -> dict[str, Any]:
    return {"LoginReq": {"MsgCode": code, "ClientId": client_id, "Token": token}, "UserType": "SELF"}


@pytest.mark.parametrize(
    ("message", "good"),
    [
        (login(FOLLOWER_ID, token_of(FOLLOWER_ID)), True),
        (login(int(FOLLOWER_ID), token_of(FOLLOWER_ID)), True),
        (login(LEADER_ID, token_of(FOLLOWER_ID)), False),
        (login(FOLLOWER_ID, token_of(FOLLOWER_ID), code=41), False),
        (login(FOLLOWER_ID, "no"), False),
        ([], False),
    ],
)
def test_a_stream_login_is_the_documented_message_with_a_live_token(desk: Desk, message: Any, good: bool) -> None:
    assert desk.exchange.login(json.dumps(message)) == (FOLLOWER_ID if good else None)
