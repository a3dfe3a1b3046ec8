"""Keeps the tokens of a running session good: takes new ones, warns before one ends, asks again after a refusal.

A new token is held against Dhan's profile on a connection of its own before anything is sent
with it, so that another account's is never used.  Of a configuration that changed nothing but the
tokens is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import SecretStr

from copytrader import login, tokens
from copytrader.config import Config, ConfigError, load
from copytrader.copier import Copier
from copytrader.core.facts import Level
from copytrader.core.model import LEADER, RefusalClass
from copytrader.dhan.auth import written_in
from copytrader.dhan.broker import BrokerError, TokenError
from copytrader.failure import Failure
from copytrader.tokens import Credential

EVERY = 1.0
AGAIN = timedelta(seconds=30)
LONGEST = timedelta(minutes=10)
_ACCEPTED = "the broker accepts the account again"
WARN_AT = (60, 15, 5)
"""Minutes before a token's end at which the user is told."""

Version = tuple[int, ...]


@dataclass(slots=True)
class _Kept:
    """One account's token as last looked at."""

    name: str
    client_id: str
    version: tuple[Version, Version]
    warned: int | None = None
    not_before: datetime | None = None
    look_again: datetime | None = None
    mends: int = 0


class Renewal:
    """One session's tokens; `keep` looks after all of them until it is cancelled."""

    def __init__(
        self,
        config: Config,
        credentials: Mapping[str, Credential],
        copier: Copier,
        say: Callable[[str], None],
        now: Callable[[], datetime] = login.now,
    ) -> None:
        self._config = config
        self._fresh = config
        self._credentials = credentials
        self._copier = copier
        self._say = say
        self._now = now
        self._read = _version_of(config)
        self._said: set[str] = set()
        self._accounts = [_Kept(name, config.account(name).client_id, self._version(name)) for name in credentials]

    async def keep(self) -> None:
        await asyncio.gather(*(self._keep_one(each) for each in self._accounts))

    async def _keep_one(self, each: _Kept) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.look(each)
            except BrokerError as error:
                self._once(f"{each.name}: the token cannot be checked: {error}")

    async def look(self, each: _Kept) -> None:
        """See whether one account has a new token, whether its token ends soon, whether a refusal still holds."""
        now, version = self._now(), self._version(each.name)
        if version != each.version or (each.look_again is not None and now >= each.look_again):
            each.version, each.look_again = version, None
            await self._take(each)
        if not self._mind_end(each) or self._copier.identity.is_refused(each.name):
            await self._ask_again(each)

    # --- A new token ----------------------------------------------------------------------

    async def _take(self, each: _Kept) -> None:
        token = self._configured(each)
        if token is None:
            return
        if token.get_secret_value() == self._credentials[each.name]():
            self._tell_shadowed(each, token)
            return
        try:
            async with login.broker(self._config, each.name, token) as broker:
                profile = await broker.profile()
        except TokenError as error:
            each.look_again = self._now() + AGAIN
            self._notice(Level.WARNING, each, "turned-down", f"the new access token is not accepted: {error}")
            return
        except BrokerError:
            each.look_again = self._now() + AGAIN / 6
            raise
        if profile.client_id != each.client_id:
            text = f"the new access token belongs to client {profile.client_id}, not to {each.client_id}: not used"
            self._notice(Level.CRITICAL, each, "other", text)
            return
        self._credentials[each.name].replace(token)
        each.warned, each.not_before, each.mends = None, None, 0
        self._said.clear()
        self._copier.identity.renewed(each.name, profile)
        until = self._ends(each)
        words = f", valid until {until:%a %d %b %H:%M}" if until else ""
        self._notice(Level.INFO, each, "renewed", f"a new access token is in use{words}")

    def _configured(self, each: _Kept) -> SecretStr | None:
        """Return the account's token as it should be now; None where there is none or it cannot be read."""
        try:
            self._read_configuration()
            account = self._fresh.leader if each.name == LEADER else self._fresh.followers.get(each.name)
            if account is None or account.client_id != each.client_id:
                return None
            return self._fresh.token(each.name)
        except Failure as failure:
            self._once(f"{each.name}: no token can be read: {failure.lines[0]}; going on with the one in use")
            return None

    def _read_configuration(self) -> None:
        version = _version_of(self._config)
        if version == self._read:
            return
        self._read = version
        try:
            self._fresh = load(self._config.path)
        except ConfigError as error:
            self._once(f"the configuration cannot be read: {error.lines[0]}; going on with the tokens in use")
        if self._fresh.digest() != self._config.digest():
            self._once("the configuration has changed: follow takes new tokens from it now, the rest at its next start")

    def _tell_shadowed(self, each: _Kept, token: SecretStr) -> None:
        """Say so when a login stored a token that the configured one goes before."""
        where = login.shadow(self._fresh, each.name)
        stored = tokens.stored_token(each.client_id)
        if where and stored is not None and stored.access_token.get_secret_value() != token.get_secret_value():
            key = f"{login.section_of(each.name)}.access_token"
            text = f"a token was stored, but {key} in {where} goes before it: take that out"
            self._notice(Level.WARNING, each, "shadowed", text)

    # --- Its end, and a refusal -------------------------------------------------------------

    def _mind_end(self, each: _Kept) -> bool:
        """Warn of a token that ends soon; False once nobody knows that it is still good."""
        until = self._ends(each)
        if until is None:
            return False
        left = until - self._now()
        due = [minutes for minutes in WARN_AT if left <= timedelta(minutes=minutes)]
        if left > timedelta(0) and due and (each.warned is None or due[-1] < each.warned):
            each.warned = due[-1]
            level = Level.CRITICAL if due[-1] == WARN_AT[-1] else Level.WARNING
            minutes = max(round(left.total_seconds() / 60), 1)
            text = f"the access token ends at {until:%H:%M}, in {minutes} min: run `copytrader login {each.name}`"
            where = login.shadow(self._fresh, each.name)
            text += f" and take {login.section_of(each.name)}.access_token out of {where}" if where else ""
            self._notice(level, each, f"ends-{due[-1]}", text)
        return left > timedelta(0)

    def _ends(self, each: _Kept) -> datetime | None:
        profile = self._copier.accounts[each.name].profile
        if profile is not None and profile.token_valid_until is not None:
            return profile.token_valid_until
        return written_in(SecretStr(self._credentials[each.name]())).expires_at

    async def _ask_again(self, each: _Kept) -> None:
        """Ask the broker, at a growing distance, about a token that ended or that it refused."""
        now = self._now()
        if each.not_before is not None and now < each.not_before:
            return
        each.not_before = now + min(AGAIN * 2**each.mends, LONGEST)
        if not self._copier.identity.is_refused(each.name):
            await self._copier.identity.recheck(each.name)
        elif text := await self._may_go_on(each):
            each.mends += 1
            self._copier.identity.mended(each.name)
            self._notice(Level.INFO, each, "mended", text)

    async def _may_go_on(self, each: _Kept) -> str:
        """Say why orders may be sent again, "" where they may not.

        Where Dhan does not say whether it takes orders from this address, only an order can tell.
        """
        known = self._copier.state.accounts.get(each.name)
        try:
            async with login.broker(self._config, each.name, SecretStr(self._credentials[each.name]())) as broker:
                if known is None or known.blocked is not RefusalClass.IP:
                    return _ACCEPTED if (await broker.profile()).client_id == each.client_id else ""
                settings = await broker.ip()
        except BrokerError:
            return ""
        if settings.orders_allowed is not None:
            return _ACCEPTED if settings.orders_allowed else ""
        if settings.detected and settings.detected not in (settings.primary, settings.secondary):
            return ""
        return "orders are tried again: Dhan does not say whether it takes them from this address"

    # --- Words ------------------------------------------------------------------------------

    def _version(self, name: str) -> tuple[Version, Version]:
        return _version_of(self._config), tokens.version(self._config.account(name).client_id)

    def _notice(self, level: Level, each: _Kept, what: str, text: str) -> None:
        self._copier.notice(level, f"{each.name}: {text}", each.name, f"token-{each.name}-{what}")

    def _once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)


def _version_of(config: Config) -> Version:
    try:
        found = config.path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size
