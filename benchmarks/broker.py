"""A broker that does nothing but answer, and notes when the first byte of each order arrived.

It runs in a process of its own and is told over stdin what to do; both ends of every
measured interval are taken here, by one clock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime, timedelta, timezone

from aiohttp import WSMsgType, web

IST = timezone(timedelta(hours=5, minutes=30))
SECURITY = "40001"
MASTER = (
    "EXCH_ID,SEGMENT,SECURITY_ID,INSTRUMENT,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,LOT_SIZE,SM_EXPIRY_DATE,"
    "STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,SM_UPPER_LIMIT,SM_LOWER_LIMIT,SM_FREEZE_QTY,\n"
    f"NSE,D,{SECURITY},OPTIDX,NIFTY,NIFTY-Dec2026-25000-CE,NIFTY 25000 CALL,75.0,2026-12-29,"
    "25000,CE,5.0,1000,0.05,1801,\n"
)
EMPTY = {
    "/v2/orders": b"[]",
    "/v2/positions": b"[]",
    "/v2/holdings": b"[]",
    "/v2/fundlimit": b'{"availabelBalance": 1000000.0, "sodLimit": 1000000.0}',
}


def frame(client_id: str, number: int, side: str, status: str, correlation_id: str) -> str:
    """An order update in the wire's shape."""
    now = f"{datetime.now(IST):%Y-%m-%d %H:%M:%S}"
    data = {
        "exchange": "NSE",
        "segment": "D",
        "source": "N",
        "securityId": SECURITY,
        "clientId": client_id,
        "exchOrderNo": str(10**15 + number),
        "orderNo": str(10**12 + number),
        "product": "M",
        "txnType": side,
        "orderType": "LMT",
        "validity": "DAY",
        "quantity": 75,
        "price": 100,
        "offMktFlag": "0",
        "orderDateTime": now,
        "exchOrderTime": now,
        "lastUpdatedTime": now,
        "legNo": 1,
        "instrument": "OPTIDX",
        "symbol": "NIFTY-Dec2026-2",
        "status": status,
        "lotSize": 75,
        "refLtp": 100.5,
        "tickSize": 0.05,
        "multiplier": 1,
        "correlationId": correlation_id,
    }
    data |= {"remainingQuantity": 75} if status == "Pending" else {"tradedQty": 75, "avgTradedPrice": 100}
    return json.dumps({"Data": data, "Type": "order_alert"})


class Broker:
    def __init__(self) -> None:
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.arrivals: list[int] = []
        self.arrived = asyncio.Event()
        self.numbered = 0
        self.leader_orders = 0

    # --- sockets

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        login = json.loads((await socket.receive()).data)
        client_id = str(login["LoginReq"]["ClientId"])
        self.sockets[client_id] = socket
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
        return socket

    async def master(self, _request: web.Request) -> web.Response:
        return web.Response(text=MASTER)

    # --- what is measured

    async def measure(self, count: int, followers: list[str], pause: float, leader: str) -> dict[str, list[float]]:
        """Send `count` leader orders; return microseconds to the first and the last follower's order."""
        first, last = [], []
        for number in range(count):
            self.leader_orders += 1
            order = self.leader_orders
            self.arrivals.clear()
            side = "BS"[number % 2]
            text = frame(leader, order, side, "Pending", "NA")
            began = time.perf_counter_ns()
            await self.sockets[leader].send_str(text)
            while len(self.arrivals) < len(followers):
                self.arrived.clear()
                await asyncio.wait_for(self.arrived.wait(), 10)
            first.append((self.arrivals[0] - began) / 1000)
            last.append((self.arrivals[len(followers) - 1] - began) / 1000)
            await self.sockets[leader].send_str(frame(leader, order, side, "Traded", "NA"))
            await asyncio.sleep(pause)
        return {"first": first, "last": last}


class Rest(asyncio.Protocol):
    """Just enough HTTP/1.1, so that the first byte of a request is what is timed."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.data and data.startswith((b"POST", b"PUT", b"DELETE")):
            self.broker.arrivals.append(time.perf_counter_ns())
            self.broker.arrived.set()
        self.data += data
        while (request := self._whole()) is not None:
            self._answer(*request)

    def _whole(self) -> tuple[str, str, str, bytes] | None:
        head, found, rest = self.data.partition(b"\r\n\r\n")
        if not found:
            return None
        lines = head.decode().split("\r\n")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return None
        self.data = rest[length:]
        method, path, _ = lines[0].split()
        return method, path, headers.get("client-id", ""), rest[:length]

    def _answer(self, method: str, path: str, client_id: str, body: bytes) -> None:
        if method == "GET":
            answer = EMPTY.get(path, json.dumps({"dhanClientId": client_id}).encode())
            if path == "/v2/profile":
                answer = json.dumps({"dhanClientId": client_id, "tokenValidity": "31/12/2026 23:59"}).encode()
        else:
            self.broker.numbered += 1
            number = self.broker.numbered + 10**6
            answer = json.dumps({"orderId": str(10**12 + number), "orderStatus": "TRANSIT"}).encode()
            placed = json.loads(body)
            socket = self.broker.sockets.get(client_id)
            if socket is not None and method == "POST":
                side, name = placed["transactionType"][0], placed.get("correlationId", "NA")
                traded = frame(client_id, number, side, "Traded", name)
                asyncio.get_running_loop().call_later(0.002, self._tell, socket, traded)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
        self.transport.write(head.encode() + answer)

    def _tell(self, socket: web.WebSocketResponse, text: str) -> None:
        self.task = asyncio.ensure_future(socket.send_str(text))


async def main() -> None:
    broker = Broker()
    app = web.Application()
    app.router.add_get("/", broker.socket)
    app.router.add_get("/master.csv", broker.master)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    loop = asyncio.get_running_loop()
    rest = await loop.create_server(lambda: Rest(broker), "127.0.0.1", 0)
    print(json.dumps({"web": runner.addresses[0][1], "rest": rest.sockets[0].getsockname()[1]}), flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        order = json.loads(line)
        while len(broker.sockets) < order["sockets"]:
            await asyncio.sleep(0.01)
        measured = await broker.measure(order["count"], order["followers"], order["pause"], order["leader"])
        broker.sockets.clear()
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
