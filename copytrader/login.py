"""Today's access token of an account: minted, renewed or pasted, checked, and stored.

A token is stored only after Dhan's profile has shown that it belongs to the account.  Minting
kills the token before and is allowed once in two minutes, so it is never done blindly: a
token that is good for long enough is kept, and each attempt is noted beside the tokens
before it is made.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import pyotp
from filelock import FileLock, Timeout
from pydantic import SecretStr

from copytrader import tokens
from copytrader.config import Config
from copytrader.core.model import IST, LEADER, RefusalClass
from copytrader.dhan import auth
from copytrader.dhan.bodies import Profile
from copytrader.dhan.broker import Broker, BrokerError, TokenError
from copytrader.dhan.transport import HttpTransport
from copytrader.failure import ExitCode, Failure

BETWEEN_MINTINGS = timedelta(minutes=2)
LIFETIME = timedelta(hours=24)
_SHORTEST_KEY = 8
_CHECKS = 3
_CHECK_AGAIN = 1.0
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


class Outcome(StrEnum):
    KEPT = "kept"
    MINTED = "minted"
    RENEWED = "renewed"
    PASTED = "pasted"


@dataclass(frozen=True, slots=True)
class Login:
    """An account's token as it is after a login.

    `shadowed_by` names the place of a configured token, which goes before the stored one; "" where there is none.
    """

    account: str
    client_id: str
    outcome: Outcome
    valid_until: datetime
    shadowed_by: str = ""


def now() -> datetime:
    return datetime.now(IST)


@asynccontextmanager
async def broker(config: Config, name: str, token: SecretStr) -> AsyncIterator[Broker]:
    """Open an account with a token that is not (yet) the one in force."""
    section = config.account(name)
    async with HttpTransport(
        config.dhan.api_url,
        section.client_id,
        token.get_secret_value,
        proxy=section.proxy.get_secret_value(),
        source_address=section.source_address,
    ) as transport:
        yield Broker(section.client_id, transport, now)


async def still_good(config: Config, name: str, at_least: timedelta) -> Login | None:
    """Return what there is to keep: the account's token, if Dhan accepts it for long enough."""
    try:
        token = config.token(name)
    except tokens.TokenFileError:
        return None
    if token is None:
        return None
    try:
        async with broker(config, name, token) as opened:
            profile = await opened.profile()
    except TokenError:
        return None
    section = config.account(name)
    valid_until = _valid_until(auth.written_in(token), profile)
    if profile.client_id != section.client_id or valid_until - now() < at_least:
        return None
    return Login(name, section.client_id, Outcome.KEPT, valid_until)


async def by_pin(config: Config, name: str, pin: SecretStr, totp: SecretStr) -> Login:
    """Mint a token; `totp` is the secret of the one-time passwords, or the six digits of the current one."""
    section = config.account(name)
    code = one_time_password(totp)
    with _only_one(section.client_id, name):
        refuse_too_soon(config, name)
        tokens.stamp_minting(section.client_id, now())
        try:
            made = await auth.mint(config.dhan.auth_url, section.client_id, pin, code, _way(config, name))
        except auth.AuthError as error:
            if not error.is_doubtful:
                tokens.forget_minting(section.client_id)
            raise
    return await _store(config, name, made, Outcome.MINTED)


async def by_renewal(config: Config, name: str) -> Login:
    """Renew the account's live token, which Dhan allows for those made on its web site."""
    section = config.account(name)
    token = config.token(name)
    if token is None:
        raise Failure(f"{name} has no token to renew: log in with PIN and one-time password", code=ExitCode.TOKEN)
    made = await auth.renew(config.dhan.api_url, section.client_id, token, _way(config, name))
    return await _store(config, name, made, Outcome.RENEWED)


async def by_token(config: Config, name: str, token: SecretStr) -> Login:
    """Take a token that the user copied from Dhan's web site."""
    if not auth.is_usable(token):
        raise Failure(f"{name}: what was pasted is not an access token", code=ExitCode.TOKEN)
    return await _store(config, name, auth.NewToken(token), Outcome.PASTED)


def refuse_too_soon(config: Config, name: str) -> None:
    """Raise where Dhan would refuse to mint because it has just been asked to."""
    asked = tokens.minted_at(config.account(name).client_id)
    if asked is None:
        return
    left = BETWEEN_MINTINGS - (now() - asked)
    if timedelta(0) < left <= BETWEEN_MINTINGS:
        seconds = int(left.total_seconds()) + 1
        raise Failure(
            f"{name}: Dhan makes one token in two minutes and was last asked at {asked:%H:%M:%S}: "
            f"try again in {seconds} s",
            code=ExitCode.TOKEN,
        )


def one_time_password(totp: SecretStr) -> SecretStr:
    """Return the six digits of this moment; six digits given are these."""
    text = totp.get_secret_value().replace(" ", "").replace("-", "")
    if _CODE.fullmatch(text):
        return SecretStr(text)
    try:
        key = base64.b32decode(text + "=" * (-len(text) % 8), casefold=True)
    except ValueError:
        key = b""
    if len(key) < _SHORTEST_KEY:
        raise Failure(
            "the one-time password must be its 6 digits, or the secret from which they are made (letters A-Z and 2-7)",
            code=ExitCode.TOKEN,
        )
    # HMAC fills a key up with zeros itself, so these change nothing; pyotp refuses a key that is shorter.
    return SecretStr(pyotp.TOTP(base64.b32encode(key.ljust(20, b"\0")).decode()).at(now()))


def shadow(config: Config, name: str) -> str:
    """Say where a configured token stands that goes before the stored one; "" where there is none."""
    if config.account(name).access_token is None:
        return ""
    return config.origin(f"{section_of(name)}.access_token")


def section_of(name: str) -> str:
    return LEADER if name == LEADER else f"followers.{name}"


async def _store(config: Config, name: str, made: auth.NewToken, outcome: Outcome) -> Login:
    section = config.account(name)
    profile = await _checked(config, name, made.access_token)
    if profile.client_id != section.client_id:
        raise Failure(
            f"{name}: the token belongs to client {profile.client_id}, not to {section.client_id}; nothing is stored",
            code=ExitCode.TOKEN,
        )
    valid_until = _valid_until(made, profile)
    if valid_until <= now():
        raise Failure(f"{name}: the token ended at {valid_until:%d %b %H:%M}; nothing is stored", code=ExitCode.TOKEN)
    tokens.store_token(section.client_id, made.access_token, valid_until)
    return Login(name, section.client_id, outcome, valid_until, shadow(config, name))


async def _checked(config: Config, name: str, token: SecretStr) -> Profile:
    """Ask whose token it is; a network that stumbles is tried again, because a new token is not had twice."""
    async with broker(config, name, token) as opened:
        for attempt in range(1, _CHECKS + 1):
            try:
                return await opened.profile()
            except TokenError as error:
                remedy = ": get another token" if error.refusal is RefusalClass.TOKEN else ""
                raise Failure(
                    f"{name}: nothing is stored, {without_login(error)}{remedy}", code=ExitCode.TOKEN
                ) from None
            except BrokerError as error:
                if attempt == _CHECKS:
                    raise Failure(
                        f"{name}: the token could not be checked: {error}; nothing is stored", code=ExitCode.TOKEN
                    ) from None
            await asyncio.sleep(_CHECK_AGAIN)
    raise AssertionError("unreachable")


def without_login(error: TokenError) -> str:
    """What the broker said of a token, without the advice to log in: for where that is given, or being done."""
    return error.cause if error.refusal is RefusalClass.TOKEN else str(error)


def _valid_until(made: auth.NewToken, profile: Profile) -> datetime:
    """Dhan's own word goes before the token's; a token of which nobody says how long it lives, lives a day."""
    written = auth.written_in(made.access_token)
    return profile.token_valid_until or made.expires_at or written.expires_at or now() + LIFETIME


def _way(config: Config, name: str) -> auth.Way:
    section = config.account(name)
    return auth.Way(section.proxy.get_secret_value(), section.source_address)


@contextmanager
def _only_one(client_id: str, name: str) -> Iterator[None]:
    """Keep two logins of one account apart: the second would kill the first one's token."""
    folder = tokens.state_dir() / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(folder / f"{client_id}.login.lock", mode=0o600, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise Failure(f"{name}: another login is under way; wait for it", code=ExitCode.TOKEN) from None
    try:
        yield
    finally:
        lock.release()
