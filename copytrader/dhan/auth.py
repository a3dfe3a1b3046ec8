"""Dhan's login service: a new access token by PIN and one-time password, or by renewing a live one.

Each call is made once.  Minting kills the token before, so whoever calls decides first whether
that is wanted.  The service takes the PIN in the address: no error here ever shows an address.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
from pydantic import SecretStr
from yarl import URL

from copytrader.core.model import IST
from copytrader.dhan import fields
from copytrader.dhan.transport import bounded_body, checked_proxy, checked_url, connector, reason
from copytrader.failure import ExitCode, Failure

SECONDS = 15.0
_TOKEN = re.compile(r"[!-~]{8,4096}", re.ASCII)
_PIN = re.compile(r"[0-9]{4,8}", re.ASCII)
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


class AuthError(Failure):
    """No new token was handed out; the text says why and holds no secret.

    `is_doubtful` where the service may have made one, now or within the last two minutes.
    """

    code = ExitCode.TOKEN

    def __init__(self, detail: str, *, is_doubtful: bool = False) -> None:
        super().__init__(detail)
        self.is_doubtful = is_doubtful


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token as the service gave it; `client_id` "" and `expires_at` None where it does not say."""

    access_token: SecretStr
    client_id: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How an account's requests leave this machine."""

    proxy: str = ""
    source_address: str = ""


async def mint(auth_url: str, client_id: str, pin: SecretStr, code: SecretStr, way: Way) -> NewToken:
    """Make a new token; the account's token before is dead from then on."""
    if not _PIN.fullmatch(pin.get_secret_value()):
        raise AuthError("the PIN must be 4 to 8 digits")
    if not _CODE.fullmatch(code.get_secret_value()):
        raise AuthError("the one-time password must be 6 digits")
    query = {"dhanClientId": client_id, "pin": pin.get_secret_value(), "totp": code.get_secret_value()}
    address = checked_url(auth_url, "https") / "app" / "generateAccessToken"
    return await _asked("POST", address.with_query(query), {}, way, (pin, code))


async def renew(api_url: str, client_id: str, token: SecretStr, way: Way) -> NewToken:
    """Replace a live token that was made on Dhan's web site; Dhan renews no other."""
    address = checked_url(api_url, "https") / "RenewToken"
    headers = {"access-token": token.get_secret_value(), "dhanClientId": client_id}
    return await _asked("GET", address, headers, way, (token,))


def written_in(token: SecretStr) -> NewToken:
    """What a token says of itself, unproved: Dhan's are JSON Web Tokens; nothing where this one is none."""
    parts = token.get_secret_value().split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires_at = datetime.fromtimestamp(int(claims["exp"]), UTC).astimezone(IST)
        client_id = str(claims.get("dhanClientId") or "")
    except (IndexError, binascii.Error, ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        return NewToken(token)
    return NewToken(token, client_id, expires_at)


def is_usable(token: SecretStr) -> bool:
    """Whether a text can be sent as a token at all."""
    return _TOKEN.fullmatch(token.get_secret_value()) is not None


async def _asked(
    method: str, address: URL, headers: dict[str, str], way: Way, secrets: tuple[SecretStr, ...]
) -> NewToken:
    try:
        status, body = await _exchange(method, address, headers, way)
    except aiohttp.ClientConnectorError as error:
        raise AuthError(f"Dhan's login service cannot be reached: {reason(error)}") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise AuthError(f"Dhan's login service did not answer: {reason(error)}", is_doubtful=True) from None
    try:
        parsed = fields.parse_body(body)
    except fields.FrameError as error:
        raise AuthError(f"Dhan's answer cannot be read: {error}, status {status}", is_doubtful=True) from None
    row = parsed.get("data", parsed) if isinstance(parsed, dict) else {}
    token = row.get("accesstoken") if isinstance(row, dict) else None
    if not 200 <= status < 300 or not isinstance(token, str) or not is_usable(SecretStr(token)):
        words = _words(parsed, status, secrets)
        too_soon = "minute" in words.lower()
        raise AuthError(f"Dhan refuses: {words}", is_doubtful=status >= 500 or too_soon)
    return NewToken(SecretStr(token), str(row.get("dhanclientid") or ""), _time(row.get("expirytime")))


async def _exchange(method: str, address: URL, headers: dict[str, str], way: Way) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(
            connector=connector(way.source_address),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=SECONDS),
            trust_env=False,
        ) as session,
        session.request(
            method,
            address,
            headers={"Accept": "application/json", **headers},
            allow_redirects=False,
            proxy=checked_proxy(way.proxy),
        ) as response,
    ):
        return response.status, await bounded_body(response) or b""


def _words(body: object, status: int, secrets: tuple[SecretStr, ...]) -> str:
    row = body if isinstance(body, dict) else {}
    text = " ".join(str(row[key]) for key in ("errorcode", "errormessage", "message", "remarks") if row.get(key))
    for secret in secrets:
        text = text.replace(secret.get_secret_value(), "[secret]")
    return fields.printable(text, 200) or f"status {status}"


def _time(value: object) -> datetime | None:
    """Dhan writes Indian time without a zone."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time.replace(tzinfo=IST) if time.tzinfo is None else time.astimezone(IST)
