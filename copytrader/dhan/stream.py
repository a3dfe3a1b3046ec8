"""One account's order-update socket: it logs in, hands on frames, and comes back after every loss.

Dhan acknowledges no login and replays nothing, and a quiet account sends nothing for
hours.  So a socket counts as logged in when it survives the login message for a moment
(a bad token is answered by a reset within about 10 ms), its life is proved by protocol
pings and not by traffic, and after each `LoggedIn` the order book has to be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType

from copytrader.dhan.transport import checked_proxy, checked_url, connector, without_secret

MAX_FRAME = 256 * 1024
PING_SECONDS = 20.0
"""A pong has to arrive within half of this, so a dead connection is noticed after at most 30 s."""
CONNECT_SECONDS = 10.0
GRACE_SECONDS = 0.05
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
WAIT_AFTER_429 = 90.0
STEADY_SECONDS = 30.0
"""A socket that lived this long had nothing wrong with it: the next wait is the shortest again."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The login was sent and the socket survived it; the book must be read now."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it came; `frames.read_frame` makes an order of it."""

    text: str


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no socket any more, or it could not be opened; the next attempt follows by itself."""

    detail: str


StreamEvent = LoggedIn | Frame | Lost


class Stream(Protocol):
    def listen(self) -> AsyncIterator[StreamEvent]: ...

    def force_reconnect(self, reason: str) -> None: ...


class OrderStream:
    """Order updates of one account, without end.

    The token is asked for at each login.  It is never part of an event, an exception or
    a representation.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        access_token: Callable[[], str],
        *,
        proxy: str = "",
        source_address: str = "",
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = checked_url(url, "wss")
        self._client_id = client_id
        self._token = access_token
        self._proxy = checked_proxy(proxy)
        self._source_address = source_address
        self._rng = rng or random.Random()  # noqa: S311  # waits, not secrets
        self._sleep = sleep
        self._clock = clock
        self._socket: aiohttp.ClientWebSocketResponse[bool] | None = None
        self._closing: asyncio.Task[bool] | None = None
        self._forced = ""
        self._hurry = asyncio.Event()

    def __repr__(self) -> str:
        return f"OrderStream({str(self._url)!r}, {self._client_id!r})"

    async def listen(self) -> AsyncGenerator[StreamEvent]:
        """Yields what happens on the socket until the caller stops asking or is cancelled."""
        failures = 0
        async with self._session() as session:
            while True:
                began = self._clock()
                lost = Lost("the connection ended")
                async with contextlib.aclosing(self._connection(session)) as events:
                    async for event in events:
                        if isinstance(event, Lost):
                            lost = event
                        else:
                            yield event
                yield lost
                failures = 1 if self._clock() - began >= STEADY_SECONDS else failures + 1
                await self._pause(failures, lost)

    def force_reconnect(self, reason: str) -> None:
        """Drops the socket, as when the books prove that it is silent, and opens a new one; a wait for one ends."""
        self._hurry.set()
        if self._socket is None or self._socket.closed or self._forced:
            return
        self._forced = reason
        self._closing = asyncio.ensure_future(self._socket.close())

    async def _pause(self, failures: int, lost: Lost) -> None:
        """Wait before the next attempt; only what Dhan itself asked for is waited out in any case."""
        seconds = self._wait(failures, lost)
        if _is_throttled(lost):
            await self._sleep(seconds)
            return
        waits = [asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._hurry.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _connection(self, session: aiohttp.ClientSession) -> AsyncGenerator[StreamEvent]:
        """One socket from its opening to its loss, which is the last event."""
        self._forced = ""
        self._hurry.clear()
        try:
            async with session.ws_connect(
                self._url,
                heartbeat=PING_SECONDS,
                max_msg_size=MAX_FRAME,
                proxy=self._proxy,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            ) as socket:
                self._socket = socket
                token = self._token()
                await socket.send_str(self._login(token))
                async with contextlib.aclosing(self._frames(socket, token)) as events:
                    async for event in events:
                        yield event
        except aiohttp.WSServerHandshakeError as error:
            yield Lost(f"Dhan refused the connection with status {error.status}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            yield Lost(f"no connection: {_reason(error)}")
        finally:
            self._socket = None

    async def _frames(self, socket: aiohttp.ClientWebSocketResponse[bool], token: str) -> AsyncGenerator[StreamEvent]:
        first = asyncio.ensure_future(socket.receive())
        try:
            await asyncio.wait({first}, timeout=GRACE_SECONDS)
            if first.done() and _is_end(first.result()):
                end = _end_of(socket, first.result())
                yield Lost(f"{end} right after the login, as with a wrong or expired access token")
                return
            yield LoggedIn()
            message = await first
        finally:
            first.cancel()
        secret = token.encode()
        while not _is_end(message):
            yield Frame(_frame_text(message, secret))
            message = await socket.receive()
        yield Lost(self._forced or _end_of(socket, message))

    def _login(self, token: str) -> str:
        login = {"MsgCode": 42, "ClientId": self._client_id, "Token": token}
        return json.dumps({"LoginReq": login, "UserType": "SELF"})

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector(self._source_address),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=CONNECT_SECONDS),
            trust_env=False,
            middlewares=(_stay_here,),
        )

    def _wait(self, failures: int, lost: Lost) -> float:
        """Half to the whole of an interval that doubles with each failure, up to 30 s."""
        if _is_throttled(lost):
            return WAIT_AFTER_429 * self._rng.uniform(1, 1.2)
        interval = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 1, 10))
        return interval * self._rng.uniform(0.5, 1)


async def _stay_here(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    """The login would follow a redirect to wherever it points; refuse it."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.ClientConnectionError("Dhan redirects to another address")
    return response


def _is_throttled(lost: Lost) -> bool:
    return lost.detail.endswith("status 429")


def _is_end(message: Any) -> bool:
    return message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


def _frame_text(message: Any, secret: bytes) -> str:
    data = message.data.encode() if isinstance(message.data, str) else bytes(message.data)
    return without_secret(data, secret).decode("utf-8", "replace")


def _end_of(socket: aiohttp.ClientWebSocketResponse[bool], message: Any) -> str:
    if isinstance(message.data, aiohttp.ServerTimeoutError):
        return "the connection is dead: no answer to a ping"
    if socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
        return "a frame was too large"
    if socket.close_code in (None, aiohttp.WSCloseCode.ABNORMAL_CLOSURE):
        return "the connection broke"
    return f"the connection was closed with code {socket.close_code}"


def _reason(error: BaseException) -> str:
    """Plain words without addresses: a proxy's address may hold a password."""
    if isinstance(error, aiohttp.ClientConnectionError) and "redirects" in str(error):
        return str(error)
    if isinstance(error, TimeoutError):
        return "time ran out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
