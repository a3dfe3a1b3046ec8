"""Fetches the instrument file: whole or not at all, and only from safe addresses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiohttp
from yarl import URL

from copytrader.dhan.master.errors import MasterError
from copytrader.dhan.transport import checked_url, reason
from copytrader.failure import ExitCode

Progress = Callable[[int, int | None], None]
"""Told how much is done and of how much (None while unknown): bytes in a download, then rows."""

MAX_FILE = 512 * 1024 * 1024
_REDIRECTS = 5


async def download(url: str, target: Path, progress: Progress | None = None) -> None:
    """Fetches the master into a file, whole or not at all."""
    timeout = aiohttp.ClientTimeout(total=600, connect=10, sock_read=30)
    try:
        address = checked_url(url, "https")
        async with aiohttp.ClientSession(
            timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            await _fetch(session, address, target, progress)
    except ValueError as error:
        why = f"the address of the instruments: {error}; look at dhan.instruments_url or --from"
        raise MasterError(why, code=ExitCode.USAGE) from None
    except aiohttp.ClientPayloadError:
        raise MasterError("the download of the instruments broke off; the old ones are kept") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _failed(address, reason(error)) from None


async def _fetch(session: aiohttp.ClientSession, address: URL, target: Path, progress: Progress | None) -> None:
    for _ in range(_REDIRECTS + 1):
        async with session.get(address, allow_redirects=False) as response:
            if response.status in (301, 302, 303, 307, 308):
                address = _redirected(address, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise _failed(address, f"status {response.status}")
            await _save(response, target, progress)
            return
    raise MasterError("the instruments cannot be downloaded: too many redirects")


def _failed(address: URL, why: str) -> MasterError:
    where = address.with_query(None).with_fragment(None)
    return MasterError(
        f"the instruments cannot be downloaded from {where}: {why}; look at the network and at the address,"
        " which is dhan.instruments_url or --from"
    )


def _redirected(address: URL, location: str) -> URL:
    """Only to an encrypted address or within the same host."""
    target = address.join(URL(location))
    same_host = (target.scheme, target.host) == (address.scheme, address.host)
    if not location or not (target.scheme == "https" or same_host):
        raise MasterError("the instruments cannot be downloaded: redirected to an unsafe address")
    return target


async def _save(response: aiohttp.ClientResponse, target: Path, progress: Progress | None) -> None:
    total = response.content_length if "Content-Encoding" not in response.headers else None
    done = 0
    with closing(target.open("wb")) as file:
        async for chunk in response.content.iter_chunked(1 << 18):
            done += len(chunk)
            if done > MAX_FILE:
                raise MasterError("the instruments cannot be downloaded: the file is too large")
            file.write(chunk)
            if progress is not None:
                progress(done, total)
