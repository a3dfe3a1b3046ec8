"""Carries one request to Dhan and says what became of it, once: nothing here ever repeats a request.

`Reply.sent` is the point of this module.  It is False only where no byte of the request
can have reached Dhan: our own guard refused it, or no connection came about.  Anything
that goes wrong later leaves it True, because the request may have been carried out.

aiohttp opens the connections (TLS, proxy, source address) and reads the answers.  Its session
is left out: it would repeat GET, PUT and DELETE on a broken connection, follow redirects and
keep cookies, and a request's first byte would leave after 76 us instead of 5.

Below everything sits an allow-list of methods and paths with strict ids, so that no bug
above can reach `DELETE /positions` (which closes every position of the account).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from yarl import URL

from copytrader.crash import crash_point

T_co = TypeVar("T_co", covariant=True)
MAX_BODY = 16 * 1024 * 1024
KEEP_ALIVE_SECONDS = 30
"""Shorter than servers keep idle connections: one that they close under a request costs certainty."""

_ID = "[0-9A-Za-z]{1,32}"
_CORRELATION = "[0-9A-Za-z_-]{1,30}"
_ALLOWED = {
    method: re.compile("|".join(paths), re.ASCII)
    for method, paths in {
        "POST": ("/orders", "/margincalculator"),
        "PUT": (f"/orders/{_ID}",),
        "DELETE": (f"/orders/{_ID}",),
        "GET": (
            "/orders",
            f"/orders/{_ID}",
            f"/orders/external/{_CORRELATION}",
            "/trades",
            f"/trades/{_ID}",
            "/positions",
            "/holdings",
            "/fundlimit",
            "/profile",
            "/ip/getIP",
        ),
    }.items()
}
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_KEPT_HEADERS = ("date", "retry-after", "content-type")
_SHORTEST_SECRET = 12
_TOKEN = re.compile(r"[!-~]{1,4096}", re.ASCII)
_CLIENT_ID = re.compile(r"[0-9A-Za-z]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """One call of Dhan's REST interface; `path` begins behind the API's base address."""

    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    `status` is None where no whole answer came.  Of the headers only `date`,
    `retry-after` and `content-type` are kept.  `detail` says in plain words what
    went wrong on the way and never holds a secret.
    """

    status: int | None
    body: bytes = b""
    sent: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    detail: str = ""


class Later(Generic[T_co]):
    """What became of something that has begun already: to be awaited once, or let go."""

    def __init__(self, wait: Callable[..., Coroutine[Any, Any, T_co]], *about: object) -> None:
        self._wait = wait
        self._about = about

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self._wait(*self._about).__await__()


class Transport(Protocol):
    def send(self, request: Request) -> Awaitable[Reply]: ...


def is_allowed(request: Request) -> bool:
    """Whether the request is one that copytrader may ever make."""
    paths = _ALLOWED.get(request.method)
    return paths is not None and paths.fullmatch(request.path) is not None


def checked_url(url: str, scheme: str) -> URL:
    """The address of a service: `scheme` must be the encrypted one except on this machine."""
    parsed = URL(url)
    plain = scheme.removesuffix("s")
    if parsed.scheme not in (scheme, plain) or not parsed.host or parsed.query_string or parsed.user:
        raise ValueError(f"an address must look like {scheme}://host/path")
    if parsed.scheme == plain and not is_loopback(parsed.host):
        raise ValueError(f"{parsed.host}: only {scheme}:// may leave this machine")
    return parsed


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def connector(source_address: str, *, connections: int = 0) -> aiohttp.TCPConnector:
    """Kept-alive connections that leave by `source_address` where one is given."""
    return aiohttp.TCPConnector(
        limit=connections,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        ttl_dns_cache=300,
        local_addr=(source_address, 0) if source_address else None,
    )


def checked_proxy(proxy: str) -> URL | None:
    if not proxy:
        return None
    parsed = URL(proxy)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("a proxy must look like http://host:port")
    return parsed


def without_secret(message: bytes, secret: bytes) -> bytes:
    """The message with the secret taken out, should a server ever echo it."""
    if len(secret) < _SHORTEST_SECRET or secret not in message:
        return message
    return message.replace(secret, b"[token]")


class HttpTransport:
    """One account's connection to Dhan's REST interface.

    The token is asked for at each request, so that a renewed one counts at once.
    `read_timeout` bounds the whole answer, from the request's last byte on.
    """

    def __init__(
        self,
        api_url: str,
        client_id: str,
        access_token: Callable[[], str],
        *,
        proxy: str = "",
        source_address: str = "",
        connect_timeout: float = 3,
        read_timeout: float = 10,
    ) -> None:
        if not _CLIENT_ID.fullmatch(client_id):
            raise ValueError("a client id is made of digits and letters")
        base = checked_url(api_url, "https")
        through = checked_proxy(proxy)
        self._base = str(base).rstrip("/")
        self._path = self._base if through and base.scheme == "http" else base.raw_path.rstrip("/")
        self._client_id = client_id
        self._token = access_token
        self._read_timeout = read_timeout
        self._connections = _Connections(base, through, source_address, connect_timeout)

    def __repr__(self) -> str:
        return f"HttpTransport({self._base!r}, {self._client_id!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def send(self, request: Request) -> Awaitable[Reply]:
        """Carries out one request, at most once; where a connection is ready it leaves before this returns."""
        if not is_allowed(request):
            return Later(_unsent, "refused by our own guard: not an allowed request")
        token = self._token()
        if not _TOKEN.fullmatch(token):
            return Later(_unsent, "there is no usable access token")
        connection = self._connections.ready()
        if connection is None:
            return Later(self._connect_and_send, request, token)
        self._write(connection, request, token)
        return Later(self._reply, connection, token)

    async def _connect_and_send(self, request: Request, token: str) -> Reply:
        try:
            connection = await self._connections.new()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return await _unsent(f"no connection: {reason(error)}")
        self._write(connection, request, token)
        return await self._reply(connection, token)

    async def _reply(self, connection: Connection, token: str) -> Reply:
        answered = False
        try:
            reply = await self._answer(connection, token)
            answered = reply.status is not None
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError) as error:
            return Reply(None, detail=f"the request was sent, no whole answer came: {reason(error)}")
        finally:
            self._connections.give_back(connection, reusable=answered)
        return reply

    async def warm(self) -> Reply:
        """Opens the connection before it is needed, by asking for the profile."""
        return await self.send(Request("GET", "/profile"))

    async def close(self) -> None:
        await self._connections.close()

    def _write(self, connection: Connection, request: Request, token: str) -> None:
        """Hands the whole request to the socket at once; token and path were checked for what would break a line."""
        body = request.body or b""
        length = "" if request.method == "GET" and not body else f"Content-Length: {len(body)}\r\n"
        head = (
            f"{request.method} {self._path}{request.path} HTTP/1.1\r\n{self._connections.headers}"
            f"access-token: {token}\r\nclient-id: {self._client_id}\r\n{length}\r\n"
        )
        assert connection.transport is not None
        crash_point("connected", request.method)
        connection.transport.write(head.encode() + body)

    async def _answer(self, connection: Connection, token: str) -> Reply:
        protocol = connection.protocol
        assert protocol is not None
        protocol.set_response_params(read_until_eof=True)
        async with asyncio.timeout(self._read_timeout):
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # an early hint is not the answer
                message, content = await protocol.read()
            body = await _bounded(content)
        headers = {name: message.headers[name] for name in _KEPT_HEADERS if name in message.headers}
        if body is None:
            return Reply(None, headers=headers, detail="the answer is larger than 16 MiB")
        return Reply(message.code, without_secret(body, token.encode()), headers=headers)


class _Connections:
    """The kept-alive connections to one server."""

    def __init__(self, server: URL, proxy: URL | None, source_address: str, timeout: float) -> None:
        self._server = server
        self._proxy = proxy
        self._source_address = source_address
        self._timeout = aiohttp.ClientTimeout(connect=timeout)
        self._connector: aiohttp.TCPConnector | None = None
        self._kept: list[tuple[Connection, float]] = []
        self.headers = ""
        """The lines that every request on these connections has in common; known once there is a connection."""

    def ready(self) -> Connection | None:
        """The kept connection that was used last, if one can carry a request."""
        while self._kept:
            connection, since = self._kept.pop()
            if time.monotonic() - since < KEEP_ALIVE_SECONDS and _is_clean(connection):
                return connection
            connection.close()
        return None

    async def new(self) -> Connection:
        if self._connector is None:
            self._connector = connector(self._source_address)
        # aiohttp takes the way to a server from a request; this one is never sent.
        way = aiohttp.ClientRequest("GET", self._server, headers=_HEADERS, proxy=self._proxy)
        connection = await self._connector.connect(way, [], self._timeout)
        self.headers = "".join(f"{name}: {value}\r\n" for name, value in way.headers.items())
        if not _is_clean(connection):
            connection.close()
            raise aiohttp.ServerDisconnectedError
        return connection

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """Keep the connection for the next request, unless the answer to the last may still arrive on it."""
        if reusable and _is_clean(connection):
            self._kept.append((connection, time.monotonic()))
        else:
            connection.close()

    async def close(self) -> None:
        while self._kept:
            self._kept.pop()[0].release()
        if self._connector is not None:
            await self._connector.close()
            self._connector = None


async def _unsent(detail: str) -> Reply:
    return Reply(None, sent=False, detail=detail)


def _is_clean(connection: Connection) -> bool:
    """Whether it is open and holds nothing that the next request would take for its answer."""
    return not connection.closed and connection.protocol is not None and not connection.protocol.should_close


async def bounded_body(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body, None where it is larger than any that Dhan sends."""
    return await _bounded(response.content)


async def _bounded(content: aiohttp.StreamReader) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    while chunk := await content.readany():
        size += len(chunk)
        if size > MAX_BODY:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def reason(error: BaseException) -> str:
    """What went wrong on the way, in plain words and without addresses."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the certificate is not valid"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "the encryption could not be set up"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused with status {error.status}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off"
    if isinstance(error, HttpProcessingError):
        return "the answer is not HTTP"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "time ran out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
