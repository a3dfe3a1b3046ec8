"""A socketless exchange with a clock that moves only when told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from copytrader.simulator import IST, LEADER_ID, Exchange, Response, options_desk, token_of

FOLLOWER_ID = "1000000002"
OPTION = ("NSE_FNO", "40001")


CAPTURES = Path(os.environ.get("COPYTRADER_CAPTURES", Path(__file__).parents[3] / "shared"))
"""Where captured payloads may lie; tests that need them are skipped elsewhere."""

Capture = Callable[[str], Any]
Fields = Callable[..., dict[str, Any]]
Refusal = Callable[[Response], tuple[int, str, str]]


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 10, 0, tzinfo=IST)

    def __call__(self) -> datetime:
        return self.now


class Desk:
    """The exchange as one follower's client sees it, and the clock of both."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.exchange: Exchange = options_desk(self.clock)
        self.frames: list[dict[str, Any]] = []
        self.leader_frames: list[dict[str, Any]] = []
        self.exchange.subscribe(FOLLOWER_ID, lambda envelope: self.frames.append(envelope["Data"]))
        self.exchange.subscribe(LEADER_ID, lambda envelope: self.leader_frames.append(envelope["Data"]))
        self.leader = self.exchange.leader(LEADER_ID)

    def passes(self, seconds: float = 1.0) -> None:
        self.clock.now += timedelta(seconds=seconds)
        self.exchange.run_due()

    def request(
        self, method: str, path: str, fields: object = None, token: str | None = None, peer: str = "127.0.0.1"
    ) -> Response:
        headers = {"access-token": token_of(FOLLOWER_ID) if token is None else token, "client-id": FOLLOWER_ID}
        body = b"" if fields is None else fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        return self.exchange.request(method, f"/v2{path}", headers, body, peer)

    def get(self, path: str) -> Any:
        response = self.request("GET", path)
        assert response.status == 200, response.body
        return json.loads(response.body)

    def place(self, **changes: Any) -> Response:
        return self.request("POST", "/orders", placement(**changes))

    def placed(self, **changes: Any) -> str:
        """Place an order, let it reach the exchange, return its id."""
        order_id = str(json.loads(self.place(**changes).body)["orderId"])
        self.passes()
        return order_id

    def modify(self, order_id: str, **changes: Any) -> Response:
        fields = {
            "dhanClientId": FOLLOWER_ID,
            "orderId": order_id,
            "orderType": "LIMIT",
            "validity": "DAY",
            "quantity": 150,
            "price": 90.0,
            "triggerPrice": 0.0,
            "disclosedQuantity": 0,
        }
        return self.request("PUT", f"/orders/{order_id}", fields | changes)

    def row(self, order_id: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.get(f"/orders/{order_id}")
        return rows[0]

    def statuses(self) -> list[str]:
        return [frame["status"] for frame in self.frames]


def placement(**changes: Any) -> dict[str, Any]:
    """A limit order that rests: the last price of the option is 110."""
    fields = {
        "dhanClientId": FOLLOWER_ID,
        "correlationId": "ct1-abc",
        "transactionType": "BUY",
        "exchangeSegment": OPTION[0],
        "productType": "MARGIN",
        "orderType": "LIMIT",
        "validity": "DAY",
        "securityId": OPTION[1],
        "quantity": 150,
        "price": 95.0,
    }
    return {key: value for key, value in (fields | changes).items() if value is not None}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def order_fields() -> Fields:
    return placement


@pytest.fixture
def capture() -> Capture:
    """Read a captured payload; skip where there are none."""

    def read(name: str) -> Any:
        path = CAPTURES / "payloads" / name
        if not path.exists():
            pytest.skip(f"no captures at {CAPTURES}")
        return json.loads(path.read_text())

    return read


def refusal(response: Response) -> tuple[int, str, str]:
    error = json.loads(response.body)
    return response.status, error["errorCode"], error["errorMessage"]


@pytest.fixture
def refused() -> Refusal:
    return refusal
