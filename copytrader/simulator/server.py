"""Serves an exchange over HTTP and WebSocket, on loopback only.

The sockets add nothing but transport: faults say how an answer fails to arrive, and the
agenda of the exchange is driven by the event loop's clock.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
import socket
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

from aiohttp import WSMsgType, web

from copytrader.simulator import wire, world
from copytrader.simulator.control import control
from copytrader.simulator.exchange import Exchange
from copytrader.simulator.faults import Fault, FaultKind, Response
from copytrader.simulator.streams import Break, Envelope

RESET_AFTER_LOGIN = 0.01
"""Seconds between a bad login message and the reset of its connection."""
_SILENT = frozenset({FaultKind.HANG, FaultKind.RESET, FaultKind.CLOSE, FaultKind.LATE, FaultKind.TRUNCATED})


async def serve(host: str, port: int, exchange: Exchange) -> web.AppRunner:
    """Begin to serve; `await runner.cleanup()` ends it, `base_url(runner)` says where it is."""
    _refuse_other_hosts(host)
    server = _Server(exchange)
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{tail:.*}", server.handle)
    app.on_startup.append(server.start)
    app.on_shutdown.append(server.stop)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def base_url(runner: web.AppRunner) -> str:
    """Where a runner serves: REST is below /v2 of it, the stream is the same with ws:// instead."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    host: str = "127.0.0.1",
    port: int = 0,
    scenario: str = "empty",
    on_ready: Callable[[str], None] | None = None,
    followers: int = 2,
) -> None:
    """Serve a scenario until SIGINT or SIGTERM; `on_ready` is told the base URL."""
    exchange = Exchange(world.now)
    world.furnish(exchange, scenario, followers)
    asyncio.run(_run(host, port, exchange, on_ready))


async def _run(host: str, port: int, exchange: Exchange, on_ready: Callable[[str], None] | None) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    runner = await serve(host, port, exchange)
    try:
        if on_ready is not None:
            on_ready(base_url(runner))
        await ended.wait()
    finally:
        await runner.cleanup()


def _refuse_other_hosts(host: str) -> None:
    if host == "localhost":
        return
    try:
        good = ipaddress.ip_address(host).is_loopback
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"the simulator serves on loopback addresses only, not on {host!r}")


class _Server:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._stopping = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due: datetime | None = None
        self._sockets: set[_Socket] = set()

    async def start(self, app: web.Application) -> None:  # noqa: ARG002  aiohttp passes it
        self._exchange.agenda.on_change = self._arm
        self._arm()

    async def stop(self, app: web.Application) -> None:  # noqa: ARG002  aiohttp passes it
        self._exchange.agenda.on_change = None
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()
        for one in list(self._sockets):
            one.broken(Break("close", 1001))
        await asyncio.gather(*(one.ended.wait() for one in list(self._sockets)))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket" and request.path in ("/", "/orders-feed"):
            return await self._stream(request)
        if request.path.startswith("/sim/"):
            return await self._control(request)
        body = await request.read()
        headers = dict(request.headers)
        answer = self._exchange.request(request.method, request.raw_path, headers, body, request.remote or "")
        if answer.fault is not None and answer.fault.kind in _SILENT:
            return await self._failing(request, answer, answer.fault)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    def _arm(self) -> None:
        """Wake up when the next thing in the agenda is due."""
        due = self._exchange.next_due
        if due is None or (self._timer is not None and self._due is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        wait = max(0.0, (due - self._exchange.clock()).total_seconds())
        self._timer = asyncio.get_running_loop().call_later(wait, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._exchange.run_due()
        self._arm()

    async def _control(self, request: web.Request) -> web.Response:
        arguments: Any = dict(request.query)
        if request.can_read_body:
            try:
                arguments = json.loads(await request.read())
            except ValueError as error:
                return web.json_response({"error": f"body is not JSON: {error}"}, status=400)
        if not isinstance(arguments, dict):
            return web.json_response({"error": "body must be a JSON object"}, status=400)
        status, result = control(self._exchange, request.method, request.path, arguments)
        return web.json_response(result, status=status)

    async def _failing(self, request: web.Request, answer: Response, fault: Fault) -> web.StreamResponse:
        """An answer that comes late, in part or not at all."""
        match fault.kind:
            case FaultKind.HANG:
                await self._wait(fault.seconds)
            case FaultKind.LATE if not fault.status:
                await self._wait(None)
            case FaultKind.RESET:
                _reset(request)
            case FaultKind.CLOSE:
                _close(request)
            case FaultKind.TRUNCATED:
                return await _truncated(request, answer)
            case _:
                pass
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _wait(self, seconds: float | None) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        refused = self._exchange.streams.handshake()
        if refused:
            return web.Response(status=refused)
        one = _Socket(self._exchange, request)
        self._sockets.add(one)
        try:
            return await one.serve()
        finally:
            self._sockets.discard(one)
            one.ended.set()


class _Socket:
    """One connection to the order-update stream."""

    def __init__(self, exchange: Exchange, request: web.Request) -> None:
        self._exchange = exchange
        self._request = request
        self._ws = web.WebSocketResponse(autoping=True, max_msg_size=1 << 20, timeout=0.5)
        self._outgoing: asyncio.Queue[str | bytes | Break] = asyncio.Queue()
        self._stalled = asyncio.Event()
        self._released = asyncio.Event()
        self.ended = asyncio.Event()

    async def serve(self) -> web.StreamResponse:
        await self._ws.prepare(self._request)
        login = await self._ws.receive()
        if login.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return self._ws
        client_id = self._exchange.login(login.data)
        if client_id is None:
            await asyncio.sleep(RESET_AFTER_LOGIN)
            _reset(self._request)
            return self._ws
        stop = self._exchange.subscribe(client_id, self._frame, self._outgoing.put_nowait, self.broken)
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            stop()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return self._ws

    def broken(self, how: Break) -> None:
        """Close or reset the connection, or stall it; a stalled one can only be reset."""
        if how.kind == "half_open":
            self._stalled.set()
        elif self._stalled.is_set():
            self._released.set()
        else:
            self._outgoing.put_nowait(how)

    def _frame(self, envelope: Envelope) -> None:
        self._outgoing.put_nowait(wire.encode(envelope).decode())

    async def _read(self) -> None:
        """Read (and so answer pings) until the connection ends or is stalled."""
        stalled = asyncio.create_task(self._stalled.wait())
        try:
            while not self._ws.closed:
                receiving = asyncio.create_task(self._ws.receive())
                await asyncio.wait({receiving, stalled}, return_when=asyncio.FIRST_COMPLETED)
                if stalled.done():
                    receiving.cancel()
                    await asyncio.gather(receiving, return_exceptions=True)
                    await self._released.wait()
                    _reset(self._request)
                    return
                if receiving.result().type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                    return
        finally:
            stalled.cancel()

    async def _write(self) -> None:
        while True:
            message = await self._outgoing.get()
            if self._stalled.is_set():
                return
            if isinstance(message, Break):
                await self._break(message)
                return
            if isinstance(message, bytes):
                await self._ws.send_bytes(message)
            else:
                await self._ws.send_str(message)

    async def _break(self, how: Break) -> None:
        if how.kind == "reset" or how.code == 1006:
            _reset(self._request)
        else:
            await self._ws.close(code=how.code)


def _reset(request: web.Request) -> None:
    """Drop the connection with a TCP reset."""
    if request.transport is None:
        return
    peer = request.transport.get_extra_info("socket")
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


def _close(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


async def _truncated(request: web.Request, answer: Response) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    _close(request)
    return response
