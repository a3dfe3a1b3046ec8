"""The order-update socket: it logs in, hands on, comes back, and never shows its token."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from copytrader.dhan import stream
from copytrader.dhan.stream import Frame, LoggedIn, Lost, OrderStream, StreamEvent
from tests.dhan.support import CLIENT, TOKEN, frame, http_server

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def feed(*talks: Talk, autoping: bool = True) -> AsyncIterator[tuple[str, list[str]]]:
    """A socket server: the n-th connection gets the n-th talk, later ones the last."""
    logins: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=autoping)
        await socket.prepare(request)
        logins.append(await socket.receive_str())
        await talks[min(len(logins), len(talks)) - 1](socket)
        return socket

    async with http_server(answer) as (url, _):
        yield url.replace("http", "ws"), logins


async def stay(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


async def drop(socket: web.WebSocketResponse) -> None:
    assert socket._req is not None
    assert socket._req.transport is not None
    socket._req.transport.abort()


def say(*texts: str) -> Talk:
    async def talk(socket: web.WebSocketResponse) -> None:
        for text in texts:
            await socket.send_str(text)
        await stay(socket)

    return talk


class Waits:
    """Stands for sleeping: notes how long, and goes on at once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def made(url: str, waits: Waits | None = None, **options: Any) -> OrderStream:
    return OrderStream(url, CLIENT, lambda: TOKEN, rng=random.Random(1), sleep=waits or Waits(), **options)


async def first(listener: OrderStream, count: int, wanted: type = object) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    async with asyncio.timeout(20), aclosing(listener.listen()) as heard:
        async for event in heard:
            if isinstance(event, wanted):
                events.append(event)
            if len(events) == count:
                break
    return events


def test_it_logs_in_as_dhan_wants_and_hands_on_frames() -> None:
    async def test() -> None:
        async with feed(say(frame(), "2")) as (url, logins):
            assert await first(made(url), 3) == [LoggedIn(), Frame(frame()), Frame("2")]
            assert json.loads(logins[0]) == {
                "LoginReq": {"MsgCode": 42, "ClientId": CLIENT, "Token": TOKEN},
                "UserType": "SELF",
            }

    asyncio.run(test())


def test_a_quiet_socket_is_logged_in() -> None:
    async def test() -> None:
        async with feed(stay) as (url, _):
            assert await first(made(url), 1) == [LoggedIn()]

    asyncio.run(test())


def test_a_bad_token_is_never_logged_in() -> None:
    async def test() -> None:
        async with feed(drop) as (url, _):
            events = await first(made(url), 3)
            assert all(isinstance(event, Lost) and "token" in event.detail for event in events)

    asyncio.run(test())


def test_it_comes_back_after_a_loss_with_the_token_of_the_moment() -> None:
    tokens = iter(["token-one-of-many", "token-two-of-many"])

    async def then_close(socket: web.WebSocketResponse) -> None:
        await asyncio.sleep(0.1)
        await socket.close(code=1011)

    async def test() -> None:
        async with feed(then_close, say("x")) as (url, logins):
            listener = OrderStream(url, CLIENT, lambda: next(tokens), sleep=Waits())
            events = await first(listener, 4)
            assert [type(event) for event in events] == [LoggedIn, Lost, LoggedIn, Frame]
            assert "1011" in events[1].detail  # type: ignore[union-attr]
            assert [json.loads(login)["LoginReq"]["Token"] for login in logins] == [
                "token-one-of-many",
                "token-two-of-many",
            ]

    asyncio.run(test())


def test_waits_double_with_jitter_up_to_half_a_minute_without_end() -> None:
    async def test() -> list[float]:
        waits = Waits()
        async with feed(drop) as (url, _):
            await first(made(url, waits), 13, Lost)
        return waits.seconds

    for number, wait in enumerate(asyncio.run(test())):
        most = min(30.0, 0.5 * 2**number)
        assert most / 2 <= wait <= most


def test_a_long_life_makes_the_next_wait_short_again() -> None:
    now = 0.0

    async def live_long(socket: web.WebSocketResponse) -> None:
        nonlocal now
        now += 100
        await drop(socket)

    async def test() -> list[float]:
        waits = Waits()
        async with feed(drop, drop, drop, drop, live_long) as (url, _):
            await first(made(url, waits, clock=lambda: now), 6, Lost)
        return waits.seconds

    waits = asyncio.run(test())
    assert waits[3] >= 2
    assert waits[4] <= 0.5


def test_too_many_connections_make_it_wait_longer() -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=429)

    async def test() -> None:
        waits = Waits()
        async with http_server(refuse) as (url, _):
            events = await first(made(url.replace("http", "ws"), waits), 2)
        assert waits.seconds[0] >= 90
        assert events[0] == Lost("Dhan refused the connection with status 429")

    asyncio.run(test())


def test_no_server_is_a_loss_and_tried_again() -> None:
    async def test() -> None:
        events = await first(made("ws://127.0.0.1:9"), 3)
        assert all(isinstance(event, Lost) for event in events)

    asyncio.run(test())


def test_the_login_does_not_follow_a_redirect() -> None:
    async def test() -> None:
        async with feed(stay) as (evil, logins):

            async def redirect(_: web.Request) -> web.StreamResponse:
                return web.Response(status=307, headers={"Location": evil.replace("ws", "http", 1)})

            async with http_server(redirect) as (url, _):
                events = await first(made(url.replace("http", "ws")), 2)
            assert all(isinstance(event, Lost) for event in events)
            assert logins == []

    asyncio.run(test())


def test_a_dead_connection_is_noticed_by_its_missing_pong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.2)

    async def test() -> None:
        async with feed(stay, autoping=False) as (url, _):
            events = await first(made(url), 2)
            assert [type(event) for event in events] == [LoggedIn, Lost]
            assert "ping" in events[1].detail  # type: ignore[union-attr]

    asyncio.run(test())


def test_a_quiet_but_living_connection_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.1)
    monkeypatch.setattr(stream, "CONNECT_SECONDS", 0.3)

    async def late(socket: web.WebSocketResponse) -> None:
        pings = asyncio.create_task(stay(socket))
        await asyncio.sleep(0.8)
        await socket.send_str("late")
        await pings

    async def test() -> None:
        async with feed(late) as (url, logins):
            assert await first(made(url), 2) == [LoggedIn(), Frame("late")]
            assert len(logins) == 1

    asyncio.run(test())


def test_the_shell_can_force_a_reconnect() -> None:
    async def test() -> None:
        async with feed(stay) as (url, logins):
            listener = made(url)
            events: list[StreamEvent] = []
            async with asyncio.timeout(10), aclosing(listener.listen()) as heard:
                async for event in heard:
                    events.append(event)
                    if len(events) == 1:
                        asyncio.get_running_loop().call_later(
                            0.05, listener.force_reconnect, "the book knows more than the stream"
                        )
                    if len(events) == 3:
                        break
            assert events == [LoggedIn(), Lost("the book knows more than the stream"), LoggedIn()]
            assert len(logins) == 2

    asyncio.run(test())


def test_forcing_without_a_socket_ends_the_wait_for_one() -> None:
    async def never(_seconds: float) -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        async with feed(drop, stay) as (url, logins):
            listener = OrderStream(url, CLIENT, lambda: TOKEN, sleep=never)
            events: list[StreamEvent] = []
            async with asyncio.timeout(10), aclosing(listener.listen()) as heard:
                async for event in heard:
                    events.append(event)
                    if isinstance(event, Lost):
                        asyncio.get_running_loop().call_later(0.05, listener.force_reconnect, "a new access token")
                    if isinstance(event, LoggedIn):
                        break
            assert len(logins) == 2

    asyncio.run(test())


def test_what_dhan_asked_to_wait_is_waited_out_even_if_forced() -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=429)

    async def test() -> None:
        waits = Waits()
        async with http_server(refuse) as (url, _):
            listener = made(url.replace("http", "ws"), waits)
            listener.force_reconnect("x")
            await first(listener, 2)
        assert waits.seconds[0] >= 90

    asyncio.run(test())


def test_a_frame_beyond_the_limit_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_FRAME", 1000)

    async def test() -> None:
        async with feed(say("x" * 5000)) as (url, _):
            events = await first(made(url), 2)
            assert "a frame was too large" in events[-1].detail  # type: ignore[union-attr]

    asyncio.run(test())


def test_binary_and_odd_bytes_are_handed_on_as_text() -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\xffabc")
        await stay(socket)

    async def test() -> None:
        async with feed(talk) as (url, _):
            assert (await first(made(url), 2))[1] == Frame("�abc")

    asyncio.run(test())


def test_cancelling_closes_the_socket() -> None:
    closed = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            assert message.type is not WSMsgType.ERROR
        closed.set()

    async def test() -> None:
        async with feed(talk) as (url, _):
            heard = asyncio.Event()

            async def listen() -> None:
                async with aclosing(made(url).listen()) as events:
                    async for _event in events:
                        heard.set()

            task = asyncio.create_task(listen())
            await heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5):
                await closed.wait()

    asyncio.run(test())


@pytest.mark.parametrize("url", ["ws://api-order-update.dhan.co", "https://x", "", "wss://a@b"])
def test_only_encrypted_addresses_may_leave_this_machine(url: str) -> None:
    with pytest.raises(ValueError):
        made(url)
