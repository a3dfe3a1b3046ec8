"""The access token appears nowhere but in the request header and the login message."""

from __future__ import annotations

import asyncio
import logging
import traceback
from contextlib import aclosing

import pytest
from aiohttp import web

from copytrader.core.facts import Refused
from copytrader.dhan.broker import Broker, BrokerError
from copytrader.dhan.stream import Frame, OrderStream
from copytrader.dhan.transport import HttpTransport, Reply, Request
from tests.dhan.support import CLIENT, NOW, PLACE, TOKEN, http_server

SECRET_PROXY = "http://user:proxy-canary@127.0.0.1:9"


async def echo(request: web.Request) -> web.StreamResponse:
    """A server that says back whatever secret it was told."""
    token = request.headers.get("access-token", "")
    return web.json_response(
        {"errorCode": "DH-905", "errorMessage": f"bad {token}"}, status=400, headers={"X-Token": token}
    )


async def gather_everything() -> list[object]:
    shown: list[object] = []
    async with http_server(echo) as (url, _):
        for carrier in (
            HttpTransport(url, CLIENT, lambda: TOKEN),
            HttpTransport(url, CLIENT, lambda: TOKEN, proxy=SECRET_PROXY),
            HttpTransport(url, CLIENT, lambda: TOKEN + "\n"),
            HttpTransport("http://127.0.0.1:9", CLIENT, lambda: TOKEN),
        ):
            async with carrier:
                shown += [carrier, await carrier.send(Request("GET", "/orders")), await carrier.warm()]
                account = Broker(CLIENT, carrier, lambda: NOW)
                shown += [account, await account.send(PLACE)]
                try:
                    await account.orders()
                except BrokerError:
                    shown.append(traceback.format_exc())
        listener = OrderStream(url.replace("http", "ws"), CLIENT, lambda: TOKEN, proxy=SECRET_PROXY)
        shown.append(listener)
        async with aclosing(listener.listen()) as events:
            async for event in events:
                shown.append(event)
                break
    return shown


def test_no_secret_is_shown_anywhere(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    shown = asyncio.run(gather_everything())
    out, err = capfd.readouterr()
    everything = "\n".join([*map(repr, shown), *map(str, shown), caplog.text, out, err])

    assert "DH-905" in everything
    assert TOKEN not in everything
    assert "proxy-canary" not in everything


def test_a_token_that_a_server_echoes_is_taken_out() -> None:
    async def test() -> None:
        async with http_server(echo) as (url, _), HttpTransport(url, CLIENT, lambda: TOKEN) as carrier:
            reply = await carrier.send(Request("GET", "/orders"))
            assert b"bad [token]" in reply.body
            event = await Broker(CLIENT, carrier, lambda: NOW).send(PLACE)
            assert isinstance(event, Refused)
            assert event.message == "bad [token]"
            assert isinstance(reply, Reply)

    asyncio.run(test())


def test_a_token_that_a_socket_echoes_is_taken_out() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(await socket.receive_str())
        await socket.receive()
        return socket

    async def test() -> None:
        async with http_server(answer) as (url, _):
            listener = OrderStream(url.replace("http", "ws"), CLIENT, lambda: TOKEN)
            async with aclosing(listener.listen()) as events:
                async for event in events:
                    if isinstance(event, Frame):
                        assert "[token]" in event.text
                        assert TOKEN not in event.text
                        break

    asyncio.run(test())
