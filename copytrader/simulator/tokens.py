"""Access tokens: minting with PIN and one-time password, renewal, expiry.

One token of an account lives at a time.  Tokens look like the broker's (JSON Web Tokens
that nobody can verify) and are a function of account, time and serial number.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from copytrader.simulator.faults import Response, error_response, json_response
from copytrader.simulator.model import IST, Account

if TYPE_CHECKING:
    from copytrader.simulator.exchange import Exchange

_LIFE = timedelta(hours=24)
_PAUSE = timedelta(minutes=2)
_TOTP_STEP = 30


def generated(exchange: Exchange, asked: dict[str, str]) -> Response:
    """POST /app/generateAccessToken: errors come as a status inside a 200."""
    account, now = exchange.accounts.get(asked.get("dhanClientId", "")), exchange.clock()
    if account is None or asked.get("pin") != account.pin:
        return _error("Invalid Pin")
    if not _is_totp(asked.get("totp", ""), account, now):
        return _error("Invalid TOTP")
    if account.token_made_at is not None and now - account.token_made_at < _PAUSE:
        return _error("Token can be generated once every 2 minutes.")
    return _minted(exchange, account, "totp")


def renewed(exchange: Exchange, account: Account) -> Response:
    """GET /RenewToken: only tokens made on the web can be renewed."""
    if account.token_source != "web":
        return error_response("DH-905", "Token can not be renewed")
    return _minted(exchange, account, "web")


def expiry(exchange: Exchange, account: Account) -> datetime:
    return account.token_expires_at or exchange.clock() + _LIFE


def totp(secret: str, at: datetime) -> str:
    """The six digits of RFC 6238 for a base32 secret."""
    key = base64.b32decode(secret.upper() + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(at.timestamp()) // _TOTP_STEP), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06d}"


def _is_totp(digits: str, account: Account, now: datetime) -> bool:
    if not account.totp_secret:
        return len(digits) == 6 and digits.isascii() and digits.isdigit()
    steps = (now + timedelta(seconds=_TOTP_STEP * step) for step in (-1, 0, 1))
    return digits in [totp(account.totp_secret, step) for step in steps]


def _minted(exchange: Exchange, account: Account, source: str) -> Response:
    now = exchange.clock()
    expires = now + _LIFE
    token = _token(account.client_id, now, expires, len(account.dead_tokens))
    exchange.set_token(account.client_id, token, source, expires)
    made = {
        "dhanClientId": account.client_id,
        "dhanClientName": account.name,
        "dhanClientUcc": f"UCC{account.client_id[-4:]}",
        "givenPowerOfAttorney": False,
        "accessToken": token,
        "expiryTime": expires.astimezone(IST).strftime("%Y-%m-%dT%H:%M:%S.000"),
    }
    return json_response(200, made)


def _token(client_id: str, issued: datetime, expires: datetime, serial: int) -> str:
    claims = {
        "iss": "dhan",
        "exp": int(expires.timestamp()),
        "iat": int(issued.timestamp()),
        "tokenConsumerType": "SELF",
        "dhanClientId": client_id,
    }
    head, body = _part({"typ": "JWT", "alg": "HS512"}), _part(claims)
    signature = hashlib.sha256(f"{head}.{body}.{serial}".encode()).hexdigest()
    return f"{head}.{body}.{signature}"


def _part(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _error(message: str) -> Response:
    return json_response(200, {"message": message, "status": "error"})
