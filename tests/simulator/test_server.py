"""The same exchange over real sockets: REST, stream, control surface, and the official SDK."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from copytrader.simulator import LEADER_ID, Exchange, Fault, FaultKind, options_desk, token_of
from copytrader.simulator.server import base_url, serve
from tests.simulator.conftest import Fields

FOLLOWER_ID = "1000000002"
HEADERS = {"access-token": token_of(FOLLOWER_ID), "client-id": FOLLOWER_ID}


class Served:
    def __init__(self, url: str, exchange: Exchange, session: aiohttp.ClientSession) -> None:
        self.url, self.exchange, self.session = url, exchange, session

    async def post(self, path: str, fields: dict[str, Any]) -> tuple[int, Any]:
        async with self.session.post(self.url + path, json=fields, headers=HEADERS) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path, headers=HEADERS) as answer:
            return answer.status, await answer.json(content_type=None)

    @asynccontextmanager
    async def stream(
        self, client_id: str = LEADER_ID, token: str | None = None, path: str = "/"
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self.session.ws_connect(self.url + path) as ws:
            asked = {"MsgCode": 42, "ClientId": client_id, "Token": token or token_of(client_id)}
            await ws.send_json({"LoginReq": asked, "UserType": "SELF"})
            yield ws

    async def listeners(self, number: int) -> None:
        """Wait until so many streams are logged in: the broker never says so."""
        for _ in range(200):
            if sum(self.exchange.streams.listeners().values()) == number:
                return
            await asyncio.sleep(0.005)
        pytest.fail("no login arrived")


Scenario = Callable[[Served], Awaitable[None]]


def served(scenario: Scenario) -> None:
    """Run an async scenario against a fresh server."""

    async def run() -> None:
        exchange = options_desk()
        runner = await serve("127.0.0.1", 0, exchange)
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
                await scenario(Served(base_url(runner), exchange, session))
        finally:
            await runner.cleanup()

    asyncio.run(run())


async def until_pending(broker: Served, order_id: str) -> dict[str, Any]:
    for _ in range(200):
        _, rows = await broker.get(f"/v2/orders/{order_id}")
        if rows[0]["orderStatus"] != "TRANSIT":
            return dict(rows[0])
        await asyncio.sleep(0.005)
    pytest.fail("the order stays in transit")


def test_an_order_placed_over_http_reaches_the_exchange_by_itself(order_fields: Fields) -> None:
    async def scenario(broker: Served) -> None:
        status, answer = await broker.post("/v2/orders", order_fields())
        assert (status, answer["orderStatus"]) == (200, "TRANSIT")
        row = await until_pending(broker, answer["orderId"])
        assert (row["orderStatus"], row["correlationId"]) == ("PENDING", "ct1-abc")

    served(scenario)


@pytest.mark.parametrize("path", ["/", "/orders-feed"])
def test_every_socket_of_an_account_gets_its_frames_and_no_others(path: str) -> None:
    async def scenario(broker: Served) -> None:
        async with broker.stream(path=path) as first, broker.stream() as second, broker.stream(FOLLOWER_ID) as other:
            await broker.listeners(3)
            broker.exchange.leader(LEADER_ID).place("NSE_FNO", "40001", "BUY", 75)
            for ws in (first, second):
                frames = [json.loads(await ws.receive_str()) for _ in range(2)]
                assert [frame["Data"]["status"] for frame in frames] == ["Pending", "Traded"]
                assert frames[0]["Type"] == "order_alert"
            with pytest.raises(TimeoutError):
                await other.receive(timeout=0.05)

    served(scenario)


def test_a_bad_token_resets_the_stream_shortly_after_the_login() -> None:
    async def scenario(broker: Served) -> None:
        async with broker.stream(token="wrong") as ws:
            began = time.monotonic()
            message = await ws.receive(timeout=2)
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
            assert ws.close_code in (None, 1006)
            assert 0.005 < time.monotonic() - began < 1

    served(scenario)


def test_pings_are_answered_and_a_half_open_stream_answers_none() -> None:
    async def scenario(broker: Served) -> None:
        async with broker.session.ws_connect(broker.url, autoping=False) as ws:
            asked: dict[str, Any] = {"MsgCode": 42, "ClientId": LEADER_ID, "Token": token_of(LEADER_ID)}
            await ws.send_json({"LoginReq": asked, "UserType": "SELF"})
            await broker.listeners(1)
            await ws.ping(b"there?")
            assert (await ws.receive(timeout=1)).type is aiohttp.WSMsgType.PONG
            await broker.post("/sim/stream", {"client_id": LEADER_ID, "half_open": True})
            await asyncio.sleep(0.02)
            await ws.ping(b"there?")
            broker.exchange.leader(LEADER_ID).place("NSE_FNO", "40001", "BUY", 75)
            with pytest.raises(TimeoutError):
                await ws.receive(timeout=0.1)
            await broker.post("/sim/stream", {"client_id": LEADER_ID, "reset": True})
            closed = await ws.receive(timeout=1)
            assert closed.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)

    served(scenario)


@pytest.mark.parametrize("code", [1000, 1001, 1011])
def test_streams_close_with_the_code_that_was_asked_for(code: int) -> None:
    async def scenario(broker: Served) -> None:
        async with broker.stream() as ws:
            await broker.listeners(1)
            await broker.post("/sim/stream", {"client_id": LEADER_ID, "close": code})
            message = await ws.receive(timeout=1)
            assert (message.type, ws.close_code) == (aiohttp.WSMsgType.CLOSE, code)

    served(scenario)


def test_handshakes_are_refused_as_often_as_asked() -> None:
    async def scenario(broker: Served) -> None:
        await broker.post("/sim/handshake", {"status": 429, "count": 2})
        for _ in range(2):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await broker.session.ws_connect(broker.url)
            assert refused.value.status == 429
        async with broker.stream():
            await broker.listeners(1)

    served(scenario)


def test_raw_text_is_pushed_as_it_is() -> None:
    async def scenario(broker: Served) -> None:
        async with broker.stream() as ws:
            await broker.listeners(1)
            await broker.post("/sim/push", {"client_id": LEADER_ID, "text": "{broken"})
            assert await ws.receive_str() == "{broken"
            broker.exchange.push_raw(LEADER_ID, b"\xff\x00")
            assert await ws.receive_bytes() == b"\xff\x00"

    served(scenario)


@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.CLOSE, FaultKind.TRUNCATED])
def test_connections_break_after_the_order_was_accepted(order_fields: Fields, kind: FaultKind) -> None:
    async def scenario(broker: Served) -> None:
        broker.exchange.script(Fault(kind, method="POST"))
        with pytest.raises((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
            await broker.post("/v2/orders", order_fields())
        assert len(broker.exchange.ledger.where(kind="accepted")) == 1

    served(scenario)


def test_an_answer_hangs_for_its_seconds_or_for_ever(order_fields: Fields) -> None:
    async def scenario(broker: Served) -> None:
        broker.exchange.script(Fault(FaultKind.HANG, seconds=0.1))
        broker.exchange.script(Fault(FaultKind.HANG, nth=2))
        began = time.monotonic()
        status, _ = await broker.post("/v2/orders", order_fields())
        assert status == 200
        assert time.monotonic() - began >= 0.1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(broker.post("/v2/orders", order_fields()), 0.1)
        assert len(broker.exchange.ledger.where(kind="accepted")) == 2

    served(scenario)


def test_paths_arrive_as_they_were_written(order_fields: Fields) -> None:
    async def scenario(broker: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(broker.url.rsplit(":", 1)[1]))
        head = f"DELETE /v2/orders/../positions HTTP/1.1\r\nHost: x\r\naccess-token: {token_of(FOLLOWER_ID)}\r\n\r\n"
        writer.write(head.encode())
        assert b"404" in await reader.readline()
        writer.close()
        await writer.wait_closed()
        _, violations = await broker.get("/sim/violations")
        assert [(row["method"], row["path"]) for row in violations] == [("DELETE", "/orders/../positions")]

    served(scenario)


def test_the_order_address_is_the_peer_of_the_connection(order_fields: Fields) -> None:
    async def scenario(broker: Served) -> None:
        broker.exchange.accounts[FOLLOWER_ID].allowed_peers = ("127.0.0.9",)
        status, error = await broker.post("/v2/orders", order_fields())
        assert (status, error["errorMessage"]) == (400, "Invalid IP")
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            status, _ = await Served(broker.url, broker.exchange, session).post("/v2/orders", order_fields())
            assert status == 200

    served(scenario)


def test_another_process_scripts_everything_over_the_control_surface(order_fields: Fields) -> None:
    async def scenario(broker: Served) -> None:
        await broker.post("/sim/reset", {"scenario": "options-desk", "followers": 1})
        account = {"client_id": "2000000001", "access_token": "fresh", "funds": 5000, "check_margin": True}
        assert await broker.post("/sim/accounts", {"accounts": [account]}) == (200, {"ok": True})
        instrument = {
            "exchange_segment": "NSE_FNO",
            "security_id": "60001",
            "symbol": "BANKNIFTY-Dec2026-60000-CE",
            "lot_size": 30,
            "tick_size": "0.05",
            "expiry": "2026-12-29",
            "strike": 60000,
            "option_type": "CE",
            "instrument_type": "OPTIDX",
            "last_price": 500,
        }
        await broker.post("/sim/instruments", {"instruments": [instrument]})
        terms = {"exchange_segment": "NSE_FNO", "security_id": "60001", "side": "BUY", "quantity": 60}
        leader = terms | {"client_id": LEADER_ID, "order_type": "LIMIT", "price": 490}
        _, placed = await broker.post("/sim/leader/place", leader)
        order_id = placed["order_id"]
        await broker.post("/sim/leader/modify", {"order_id": order_id, "price": 495})
        await broker.post("/sim/order/fill", {"order_id": order_id, "quantity": 30})
        await broker.post("/sim/price", {"exchange_segment": "NSE_FNO", "security_id": "60001", "price": 480})
        _, rows = await broker.get(f"/sim/orders?client_id={LEADER_ID}")
        assert [(row["orderStatus"], row["filledQty"], row["price"]) for row in rows] == [("TRADED", 60, 495.0)]
        carried = {"client_id": "2000000001", "exchange_segment": "NSE_FNO", "security_id": "60001"}
        await broker.post("/sim/carry", carried | {"quantity": -30, "average": 510})
        _, accounts = await broker.get("/sim/accounts")
        assert accounts[-1]["net"] == [
            {"exchange_segment": "NSE_FNO", "security_id": "60001", "product": "MARGIN", "quantity": -30}
        ]
        assert "fresh" not in json.dumps(accounts)

        await broker.post("/sim/fault", {"faults": [{"kind": "gateway", "method": "POST", "path": "/orders"}]})
        async with broker.session.post(broker.url + "/v2/orders", json=order_fields(), headers=HEADERS) as answer:
            assert answer.status == 502
        await broker.post("/sim/charge", {"client_id": FOLLOWER_ID, "requests": 9})
        assert (await broker.post("/v2/orders", order_fields()))[0] == 429
        _, limits = await broker.get("/sim/limits")
        assert limits[FOLLOWER_ID]["overruns"] == 1
        assert limits[FOLLOWER_ID]["worst"]["1"] == 11
        _, ledger = await broker.get(f"/sim/ledger?client_id={FOLLOWER_ID}&kind=accepted")
        assert [row["correlation_id"] for row in ledger] == ["ct1-abc"]
        await broker.post("/sim/token", {"client_id": FOLLOWER_ID})
        assert (await broker.get("/v2/profile"))[0] == 401
        assert (await broker.get("/sim/violations"))[1] == []

    served(scenario)


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/sim/nothing", {}, 404),
        ("/sim/leader/explode", {"client_id": LEADER_ID}, 404),
        ("/sim/price", {"exchange_segment": "NSE_FNO", "security_id": "40001", "price": "many"}, 400),
        ("/sim/price", {"price": 1, "surprise": 2}, 400),
        ("/sim/order/fill", {"order_id": "1"}, 400),
        ("/sim/accounts", {"accounts": [{"client_id": "1"}]}, 400),
        ("/sim/reset", {"scenario": "moon"}, 400),
    ],
)
def test_a_mistaken_script_is_told_so(path: str, fields: dict[str, Any], status: int) -> None:
    async def scenario(broker: Served) -> None:
        answered, body = await broker.post(path, fields)
        assert answered == status
        assert body["error"]
        assert broker.exchange.accounts, "nothing was half done"

    served(scenario)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", "::"])
def test_it_serves_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match="loopback addresses only"):
        asyncio.run(serve(host, 0, options_desk()))


def test_the_unmodified_sdk_works_against_it() -> None:
    sdk = pytest.importorskip("dhanhq")

    def trade(url: str) -> None:
        context = sdk.DhanContext(FOLLOWER_ID, token_of(FOLLOWER_ID))
        context.get_dhan_http().base_url = f"{url}/v2"
        context.get_dhan_http().timeout = 5
        dhan = sdk.dhanhq(context)
        placed = dhan.place_order(
            "40001", "NSE_FNO", "BUY", 150, "LIMIT", "MARGIN", 95.0, tag="ct1-sdk", after_market_order=False
        )
        assert placed["status"] == "success", placed
        order_id = placed["data"]["orderId"]
        time.sleep(0.05)
        assert dhan.get_order_by_id(order_id)["data"][0]["orderStatus"] == "PENDING"
        assert dhan.get_order_by_correlationID("ct1-sdk")["data"]["orderId"] == order_id
        changed = dhan.modify_order(order_id, "LIMIT", None, 75, 94.0, 0, 0, "DAY")
        assert changed["data"] == {"orderId": order_id, "orderStatus": "TRANSIT"}
        time.sleep(0.05)
        (row,) = dhan.get_order_list()["data"]
        assert (row["quantity"], row["price"]) == (75, 94.0)
        assert dhan.cancel_order(order_id)["data"]["orderStatus"] == "CANCELLED"
        time.sleep(0.05)
        again = dhan.cancel_order(order_id)
        assert (again["status"], again["remarks"]["error_code"]) == ("failure", "DH-906")
        bought = dhan.place_order("40001", "NSE_FNO", "BUY", 75, "MARKET", "MARGIN", 0)
        time.sleep(0.05)
        assert dhan.get_trade_book(bought["data"]["orderId"])["data"][0]["tradedPrice"] == 110.0
        assert dhan.get_positions()["data"][0]["netQty"] == 75
        assert dhan.get_fund_limits()["data"]["availabelBalance"] == 1_000_000 - 75 * 110
        assert dhan.get_holdings()["remarks"]["error_code"] == "DH-1111"
        assert dhan.margin_calculator("40001", "NSE_FNO", "BUY", 75, "MARGIN", 100.0)["data"]["totalMargin"] == 7500

    async def scenario(broker: Served) -> None:
        await asyncio.to_thread(trade, broker.url)
        assert broker.exchange.violations == []

    served(scenario)


def test_the_stream_of_the_unmodified_sdk_understands_the_frames(capsys: pytest.CaptureFixture[str]) -> None:
    sdk = pytest.importorskip("dhanhq")

    async def scenario(broker: Served) -> None:
        update = sdk.OrderUpdate(sdk.DhanContext(LEADER_ID, token_of(LEADER_ID)))
        update.order_feed_wss = broker.url.replace("http", "ws")
        seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        update.on_update = seen.put_nowait
        task = asyncio.create_task(update.connect_order_update())
        await broker.listeners(1)
        broker.exchange.leader(LEADER_ID).place("NSE_FNO", "40001", "BUY", 75)
        statuses = [(await asyncio.wait_for(seen.get(), 2))["Data"]["status"] for _ in range(2)]
        assert statuses == ["Pending", "Traded"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    served(scenario)
    capsys.readouterr()  # the SDK prints its login message


def test_run_serves_a_scenario_until_it_is_told_to_stop() -> None:
    script = (
        "from copytrader.simulator.server import run\n"
        "run(scenario='options-desk', on_ready=lambda url: print(url, flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    url = process.stdout.readline().strip()

    async def profile() -> str:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v2/profile", headers=HEADERS) as answer:
            return str((await answer.json())["dhanClientId"])

    try:
        assert asyncio.run(profile()) == FOLLOWER_ID
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
    assert process.wait(5) == 0
