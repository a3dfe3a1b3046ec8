"""What Dhan says of one account: its token, its order updates, its funds, its orders, its address."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import SecretStr

from copytrader import login, tokens
from copytrader.beside import CLOSE
from copytrader.config import Config
from copytrader.core.model import IST, LEADER, Order
from copytrader.dhan.bodies import IpSettings, Profile
from copytrader.dhan.broker import Broker, BrokerError, TokenError
from copytrader.dhan.stream import LoggedIn, Lost, OrderStream
from copytrader.doctor.check import Check, fail, ok, warn
from copytrader.failure import Failure

PATIENCE = 20.0
"""Seconds for all that one account is asked."""


@dataclass(slots=True)
class Found:
    """What was found out about one account."""

    name: str
    checks: list[Check] = field(default_factory=list)
    profile: Profile | None = None
    orders: tuple[Order, ...] = ()
    clock_offset: timedelta | None = None
    detected: str = ""


async def ask(config: Config, name: str, *, is_followed: bool) -> Found:
    """Ask all that can be asked with the account's token; where a copier runs, only what does not disturb it."""
    found = Found(name)
    try:
        token = config.token(name)
    except tokens.TokenFileError as failure:
        found.checks.append(fail(f"token of {name}", str(failure), f"copytrader login {name}", is_access=True))
        return found
    except Failure as failure:
        detail, _, remedy = str(failure).rpartition(": ")
        found.checks.append(fail(f"token of {name}", detail, remedy, is_access=True))
        return found
    if token is None:
        found.checks.append(
            fail(f"token of {name}", "there is none", f"copytrader login {name}", is_access=True),
        )
        return found
    try:
        async with asyncio.timeout(PATIENCE), login.broker(config, name, token) as broker:
            await _ask_broker(config, found, broker, token, is_followed=is_followed)
    except TimeoutError:
        found.checks.append(fail(f"Dhan for {name}", f"no answer within {PATIENCE:.0f} s", "check the network"))
    return found


async def _ask_broker(config: Config, found: Found, broker: Broker, token: SecretStr, *, is_followed: bool) -> None:
    name = found.name
    try:
        profile = found.profile = await broker.profile()
    except TokenError as error:
        found.checks.append(
            fail(f"token of {name}", login.without_login(error), _new_token(config, name), is_access=True)
        )
        return
    except BrokerError as error:
        remedy = "check the network, [dhan] and the account's proxy or source_address"
        found.checks.append(fail(f"Dhan for {name}", str(error), remedy))
        return
    finally:
        found.clock_offset = broker.clock_offset
    found.checks.append(_token(config, name, profile))
    client_id = config.account(name).client_id
    if profile.client_id != client_id:
        text = f"the token belongs to client {profile.client_id}, not to {client_id}"
        found.checks.append(fail(f"client id of {name}", text, _new_token(config, name), is_access=True))
        return
    found.checks.append(ok(f"client id of {name}", client_id))
    rest = [_updates(config, name, token, is_followed=is_followed), _funds(name, broker)]
    if name != LEADER:
        rest.append(_address(found, broker))
    if name != LEADER and not is_followed:
        rest.append(_book(found, broker))
    found.checks += await asyncio.gather(*rest)


def _token(config: Config, name: str, profile: Profile) -> Check:
    check, until, now = f"token of {name}", profile.token_valid_until, login.now()
    if until is None:
        return ok(check, "accepted; Dhan does not say until when")
    hours, minutes = divmod(int((until - now).total_seconds()) // 60, 60)
    detail = f"accepted until {until:%a %d %b %H:%M} ({hours} h {minutes:02} min)"
    close = datetime.combine(now.date(), CLOSE, IST)
    if until - now < timedelta(hours=1) or now < close > until:
        return warn(check, detail, f"copytrader login {name} --new, before the market opens")
    where = login.shadow(config, name)
    stored = tokens.stored_token(config.account(name).client_id) if where else None
    if stored is not None and stored.expires_at > until:
        remedy = f"take {login.section_of(name)}.access_token out of {where}"
        return warn(check, f"{detail}; a newer one is stored, but the configured one goes before it", remedy)
    return ok(check, detail)


def _new_token(config: Config, name: str) -> str:
    where = login.shadow(config, name)
    also = f", and take {login.section_of(name)}.access_token out of {where}" if where else ""
    return f"copytrader login {name}{also}"


async def _updates(config: Config, name: str, token: SecretStr, *, is_followed: bool) -> Check:
    """Log in to the order updates, unless a running copier does: how many sockets an account may have is not known."""
    check = f"order updates of {name}"
    if is_followed:
        return ok(check, "not tried: a running copier listens")
    section = config.account(name)
    stream = OrderStream(
        config.dhan.order_update_url,
        section.client_id,
        token.get_secret_value,
        proxy=section.proxy.get_secret_value(),
        source_address=section.source_address,
    )
    async with aclosing(stream.listen()) as events:
        async for event in events:
            if isinstance(event, LoggedIn):
                return ok(check, "logged in")
            if isinstance(event, Lost):
                return fail(check, event.detail, "check the network and dhan.order_update_url; else log in again")
    return fail(check, "the stream ended", "try again")


async def _funds(name: str, broker: Broker) -> Check:
    check = f"funds of {name}"
    try:
        funds = await broker.funds()
    except BrokerError as error:
        return warn(check, f"cannot be read: {error}", "try again; sizing by capital needs them")
    detail = f"Rs {funds.available:,.2f} available, Rs {funds.start_of_day:,.2f} at the start of the day"
    if funds.available <= 0 and name != LEADER:
        return warn(check, detail, "add funds: entries will be refused")
    return ok(check, detail)


async def _book(found: Found, broker: Broker) -> Check:
    check = f"orders of {found.name}"
    try:
        found.orders, _ = await broker.orders()
    except BrokerError as error:
        return warn(check, f"cannot be read: {error}", "try again; `copytrader follow` begins with them")
    ours = sum(order.is_ours for order in found.orders)
    return ok(check, f"{len(found.orders)} today, {ours} of them copies")


async def _address(found: Found, broker: Broker) -> Check:
    """Hold the address that Dhan sees against those registered there: orders from another one are refused."""
    check = f"address of {found.name}"
    try:
        settings = await broker.ip()
    except BrokerError as error:
        return warn(check, f"cannot be read: {error}", "look under DhanHQ Trading APIs at web.dhan.co")
    found.detected = settings.detected
    registered = " and ".join(filter(None, (settings.primary, settings.secondary)))
    if not registered:
        return fail(check, "no static IP is registered at Dhan", _register(found, settings), is_access=True)
    if settings.orders_allowed is False or (settings.detected and settings.detected not in registered.split(" and ")):
        seen = f"Dhan sees {settings.detected or 'another address'}, registered is {registered}: orders are refused"
        return fail(check, seen, _register(found, settings), is_access=True)
    if not settings.detected:
        return warn(check, f"Dhan does not say what it sees; registered is {registered}", "compare it yourself")
    return ok(check, f"{settings.detected} is registered")


def _register(found: Found, settings: IpSettings) -> str:
    what = f"register {settings.detected}" if settings.detected else "register this machine's address"
    key = login.section_of(found.name)
    return f"{what} at Dhan, or leave by a registered one: {key}.proxy or {key}.source_address"
