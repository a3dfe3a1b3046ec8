"""Carries one request to Dhan and says what became of it, once: nothing here ever repeats a request.

`Reply.sent` is the point of this module.  It is False only where no byte of the request
can have reached Dhan: our own guard refused it, or no connection came about.  Anything
that goes wrong later leaves it True, because the request may have been carried out.

Below everything sits an allow-list of methods and paths with strict ids, so that no bug
above can reach `DELETE /positions` (which closes every position of the account).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import SimpleNamespace, TracebackType
from typing import Protocol, Self

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from yarl import URL

from copytrader.crash import crash_point

MAX_BODY = 16 * 1024 * 1024
KEEP_ALIVE_SECONDS = 30
"""Shorter than servers keep idle connections: one that they close under a request costs certainty."""

_ID = "[0-9A-Za-z]{1,32}"
_CORRELATION = "[0-9A-Za-z_-]{1,30}"
_ALLOWED = tuple(
    (method, re.compile(path, re.ASCII))
    for method, path in (
        ("POST", "/orders"),
        ("PUT", f"/orders/{_ID}"),
        ("DELETE", f"/orders/{_ID}"),
        ("GET", "/orders"),
        ("GET", f"/orders/{_ID}"),
        ("GET", f"/orders/external/{_CORRELATION}"),
        ("GET", "/trades"),
        ("GET", f"/trades/{_ID}"),
        ("GET", "/positions"),
        ("GET", "/holdings"),
        ("GET", "/fundlimit"),
        ("GET", "/profile"),
        ("GET", "/ip/getIP"),
        ("POST", "/margincalculator"),
    )
)
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


class Transport(Protocol):
    async def send(self, request: Request) -> Reply: ...


def is_allowed(request: Request) -> bool:
    """Whether the request is one that copytrader may ever make."""
    return any(method == request.method and path.fullmatch(request.path) for method, path in _ALLOWED)


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
        self._base = str(checked_url(api_url, "https")).rstrip("/")
        self._client_id = client_id
        self._token = access_token
        self._proxy = checked_proxy(proxy)
        self._source_address = source_address
        self._timeout = aiohttp.ClientTimeout(
            total=connect_timeout + read_timeout,
            connect=connect_timeout,
            sock_connect=connect_timeout,
            sock_read=read_timeout,
        )
        self._session: aiohttp.ClientSession | None = None

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

    async def send(self, request: Request) -> Reply:
        """Carries out one request, at most once."""
        if not is_allowed(request):
            return Reply(None, sent=False, detail="refused by our own guard: not an allowed request")
        token = self._token()
        if not _TOKEN.fullmatch(token):
            return Reply(None, sent=False, detail="there is no usable access token")
        progress = SimpleNamespace(sent=False)
        try:
            return await self._exchange(request, token, progress)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Reply(None, sent=progress.sent, detail=_what_happened(error, progress.sent))

    async def warm(self) -> Reply:
        """Opens the connection before it is needed, by asking for the profile."""
        return await self.send(Request("GET", "/profile"))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(self, request: Request, token: str, progress: SimpleNamespace) -> Reply:
        async with self._open_session().request(
            request.method,
            URL(self._base + request.path, encoded=True),
            data=request.body,
            headers=self._headers(token),
            allow_redirects=False,
            proxy=self._proxy,
            trace_request_ctx=progress,
        ) as response:
            body = await bounded_body(response)
            headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
            if body is None:
                return Reply(None, headers=headers, detail="the answer is larger than 16 MiB")
            return Reply(response.status, without_secret(body, token.encode()), headers=headers)

    def _headers(self, token: str) -> dict[str, str]:
        return {
            "access-token": token,
            "client-id": self._client_id,
            "Content-Type": "application/json",
            "Accept": "application/json",
        }

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=connector(self._source_address),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                trust_env=False,
                trace_configs=[_sent_marker()],
                middlewares=(_never_again,),
            )
        return self._session


class _ConnectionLost(aiohttp.ClientError):
    """A connection broke under a request.

    aiohttp repeats GET, PUT and DELETE when a kept-alive connection breaks, unless the
    error is of a class that it does not know.
    """


async def _never_again(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise _ConnectionLost(reason(error)) from None


def _sent_marker() -> aiohttp.TraceConfig:
    """Notes the moment before a request's first byte is written: from then on it may have arrived."""

    async def mark(
        _session: aiohttp.ClientSession,
        context: SimpleNamespace,
        params: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        context.trace_request_ctx.sent = True
        crash_point("connected", params.method)

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(mark)
    return trace


async def bounded_body(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body, None where it is larger than any that Dhan sends."""
    if (response.content_length or 0) > MAX_BODY:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _what_happened(error: BaseException, sent: bool) -> str:
    """Plain words without addresses: a proxy's address may hold a password."""
    if not sent:
        return f"no connection: {reason(error)}"
    return f"the request was sent, no whole answer came: {reason(error)}"


def reason(error: BaseException) -> str:
    """What went wrong on the way, in plain words and without addresses."""
    if isinstance(error, _ConnectionLost):
        return str(error)
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
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "time ran out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
