"""Invented orders in Dhan's shapes, and small servers that answer as told."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from copytrader.core.facts import Cancel, Modify, Place, Role
from copytrader.core.model import IST, OrderType, Product, Security, Side, Ticket, Validity

CLIENT = "1000000001"
TOKEN = "canary-" + "Q7zX" * 10
NOW = datetime(2026, 9, 7, 10, 30, tzinfo=IST)
CORRELATION = "ct1-abcdefghijklmnopqrstu"


def frame(**changes: Any) -> str:
    """An order-update frame in the shape of 2026; None leaves a field out."""
    data = {
        "exchange": "NSE",
        "segment": "D",
        "source": "N",
        "securityId": "54321",
        "clientId": CLIENT,
        "exchOrderNo": "1300000000000001",
        "orderNo": "212260907000001",
        "product": "M",
        "txnType": "B",
        "orderType": "LMT",
        "validity": "DAY",
        "remainingQuantity": 130,
        "quantity": 130,
        "price": 188.1,
        "strategyId": "NA",
        "offMktFlag": "0",
        "orderDateTime": "2026-09-07 10:29:58",
        "exchOrderTime": "2026-09-07 10:29:59",
        "lastUpdatedTime": "2026-09-07 10:29:59",
        "remarks": " ",
        "mktType": "NL",
        "reasonDescription": "CONFIRMED",
        "legNo": 1,
        "instrument": "OPTIDX",
        "symbol": "NIFTY-Sep2026-2",
        "productName": "MARGIN",
        "status": "Pending",
        "lotSize": 65,
        "strikePrice": 25000,
        "expiryDate": "2026-09-29",
        "optType": "CE",
        "displayName": "NIFTY 29 SEP 25000 CALL",
        "isin": "NA",
        "series": "XX",
        "goodTillDaysDate": "2026-09-07",
        "refLtp": 190.55,
        "tickSize": 0.05,
        "algoId": "0",
        "multiplier": 1,
        "correlationId": "NA",
        "orderPlatform": "FAST",
    } | changes
    return json.dumps({"Data": {k: v for k, v in data.items() if v is not None}, "Type": "order_alert"})


def row(**changes: Any) -> dict[str, Any]:
    """A row of the order book, with Dhan's sentinels; None leaves a field out."""
    data = {
        "dhanClientId": CLIENT,
        "orderId": "212260907000001",
        "exchangeOrderId": "0",
        "correlationId": "NA",
        "orderStatus": "PENDING",
        "transactionType": "BUY",
        "exchangeSegment": "NSE_FNO",
        "productType": "MARGIN",
        "orderType": "LIMIT",
        "validity": "DAY",
        "tradingSymbol": "NIFTY-Sep2026-25000-CE",
        "securityId": "54321",
        "quantity": 130,
        "disclosedQuantity": 0,
        "price": 188.1,
        "triggerPrice": 0.0,
        "afterMarketOrder": False,
        "boProfitValue": 0.0,
        "boStopLossValue": 0.0,
        "legName": "NA",
        "createTime": "2026-09-07 10:29:58",
        "updateTime": "2026-09-07 10:29:59",
        "exchangeTime": "0001-01-01 00:00:00",
        "drvExpiryDate": "0001-01-01",
        "drvOptionType": "NA",
        "drvStrikePrice": 0.0,
        "omsErrorCode": "0",
        "omsErrorDescription": "CONFIRMED",
        "algoId": "0",
        "remainingQuantity": 130,
        "averageTradedPrice": 0.0,
        "filledQty": 0,
    } | changes
    return {k: v for k, v in data.items() if v is not None}


TICKET = Ticket(
    security=Security("NSE_FNO", "54321"),
    side=Side.BUY,
    product=Product.MARGIN,
    order_type=OrderType.LIMIT,
    validity=Validity.DAY,
    quantity=130,
    price=Decimal("188.10"),
)


def ticket(**changes: Any) -> Ticket:
    return replace(TICKET, **changes)


PLACE = Place("asha", "L1", CORRELATION, TICKET, Role.ENTRY)
MODIFY = Modify("asha", "L1", CORRELATION, "212260907000001", TICKET)
CANCEL = Cancel("asha", "L1", CORRELATION, "212260907000001")


@dataclass
class Seen:
    """What a server was asked."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def http_server(answer: Answer) -> AsyncIterator[tuple[str, Seen]]:
    """A server that notes each request and leaves the answer to the test."""
    seen = Seen()

    async def note(request: web.Request) -> web.StreamResponse:
        seen.requests.append((request.method, request.raw_path, await request.read()))
        seen.headers.append(dict(request.headers))
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", note)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(script: Script) -> AsyncIterator[tuple[str, Seen]]:
    """A server that reads whole requests and then does to the connection what the test says."""
    seen = Seen()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next((int(v) for k, v in _headers(head) if k == b"content-length"), 0)
                body = await reader.readexactly(length)
                method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
                seen.requests.append((method, path, body))
                await script(head, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()
        await asyncio.sleep(0)


def _headers(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = head.split(b"\r\n")[1:]
    return [(k.strip().lower(), v.strip()) for k, _, v in (line.partition(b":") for line in lines) if v]


def http_answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def captures() -> list[Path]:
    folder = Path(os.environ.get("COPYTRADER_CAPTURES") or Path(__file__).parents[3] / "shared")
    return sorted(path for path in (folder / "payloads").glob("*.json*") if "PARTIAL" not in path.name)


def captured(prefix: str) -> list[Path]:
    found = [path for path in captures() if path.name.startswith(prefix)]
    if not found:
        pytest.skip("no captures here")
    return found
