"""Every reason why today's copying would fail, found before it does; each with its remedy.

Checks are values.  What is on this machine is looked at in a thread, each account at Dhan in a task
of its own, all at once and all with time-outs.  Nothing is changed, and no order is sent.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr

from copytrader import calendar, errand, login, session, tokens
from copytrader.alerts import by_apprise, named
from copytrader.beside import CLOSE
from copytrader.config import Config, ConfigError, load
from copytrader.core import days, left_out
from copytrader.core.engine import recall
from copytrader.core.facts import Started
from copytrader.core.hours import session_day
from copytrader.core.model import IST, LEADER, Calendar, Order
from copytrader.core.reconcile.comparing import with_books
from copytrader.core.reconcile.picture import Reading
from copytrader.core.state import State
from copytrader.dhan.bodies import IpSettings, Profile
from copytrader.dhan.broker import Broker, BrokerError, TokenError
from copytrader.dhan.master import InstrumentStore, MasterError
from copytrader.dhan.stream import LoggedIn, Lost, OrderStream
from copytrader.failure import Failure
from copytrader.journal import Journal, JournalError
from copytrader.lock import LockError, LockHeld, hold
from copytrader.narrate import left_open

PATIENCE = 20.0
"""Seconds for all that one account is asked."""
LITTLE_DISK, TOO_LITTLE_DISK = 1024**3, 100 * 1024**2
CLOCK_WARN, CLOCK_FAIL = timedelta(seconds=2), timedelta(seconds=5)
_GROUPS = {"EQ": "Equity", "FNO": "Derivative", "CURRENCY": "Currency", "COMM": "Commodity"}


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.  `is_access` where a token or a permission of Dhan's is what it is about."""

    check: str
    status: Status
    detail: str
    remedy: str = ""
    is_access: bool = False


def ok(check: str, detail: str) -> Check:
    return Check(check, Status.OK, detail)


def warn(check: str, detail: str, remedy: str) -> Check:
    return Check(check, Status.WARN, detail, remedy)


def fail(check: str, detail: str, remedy: str, *, is_access: bool = False) -> Check:
    return Check(check, Status.FAIL, detail, remedy, is_access)


MANY_FACTS = 300_000
SECONDS_A_FACT = 40e-6
"""What the start of `follow` takes for each fact of the journal, measured with a million."""
_NO_HOURS = ok("calendar", 'not asked: copy.market_hours is "off"')


async def examine(path: Path | None = None) -> list[Check]:
    """Look at everything that can be looked at, whatever of it is there."""
    config, found = _configuration(path)
    if config is None:
        return [*found, _disk(Path.cwd()), await asyncio.to_thread(_calendar, None)]
    lock, is_followed = _lock(config)
    asked = [_account(config, name, is_followed=is_followed) for name in (LEADER, *config.enabled)]
    local, accounts = await asyncio.gather(asyncio.to_thread(_local, config, lock), asyncio.gather(*asked))
    return [*found, *local, *(check for each in accounts for check in each.checks), *_together(config, accounts)]


# --- On this machine ----------------------------------------------------------------------


def _configuration(path: Path | None) -> tuple[Config | None, list[Check]]:
    try:
        config = load(path)
    except ConfigError as error:
        remedy = "write one with `copytrader init`" if "`copytrader init`" in str(error) else "mend these lines"
        return None, [fail("configuration", "; ".join(error.lines), remedy)]
    try:
        config.check_for_follow()
    except ConfigError as error:
        return config, [fail("configuration", "; ".join(error.lines), f"change {config.path}")]
    followers = ", ".join(config.enabled)
    where = " at a simulator" if config.dhan.is_simulated else ""
    return config, [ok("configuration", f"{config.path}: {config.leader.client_id} is copied to {followers}{where}")]


def _local(config: Config, lock: Check) -> list[Check]:
    checks = [_permissions(config), lock, *_journal(config), *_instruments(config)]
    calendar_ = _calendar(config.calendar) if config.copy_rules.market_hours == "enforce" else _NO_HOURS
    return [*checks, *_log(config.log), _disk(config.journal.parent), calendar_, *_alerts(config)]


def _permissions(config: Config) -> Check:
    state = tokens.state_dir()
    secret = [state / "tokens", *sorted((state / "tokens").glob("*"))]
    private = [path for path in (*secret, config.path, config.journal) if path in secret or path.is_file()]
    private = [path for path in private if path.exists()]
    open_ = [path for path in private if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    if not open_:
        return ok("permissions", "configuration, tokens and journal can be read by you alone")
    remedy = "; ".join(f"chmod {'700' if path.is_dir() else '600'} {path}" for path in open_)
    make = fail if any(path in secret for path in open_) else warn
    return make("permissions", f"others can read {', '.join(map(str, open_))}", remedy)


def _lock(config: Config) -> tuple[Check, bool]:
    """Look whether `follow` could take its locks; tell too whether somebody works with the journal or the followers."""
    free = ok("lock", "nobody copies with this journal or for these followers")
    if not config.journal.parent.is_dir():
        return free, False
    ids = [section.client_id for section in config.enabled.values()]
    try:
        with hold(config.journal, ids, tokens.state_dir(), "doctor"):
            return free, False
    except LockHeld as held:
        detail = f"{held.what} is in use by {held.holder}"
        if "`copytrader follow`" in detail:
            return ok("lock", detail), True
        return warn("lock", detail, "wait for it to end, or stop it: `follow` will not start beside it"), True
    except LockError as error:
        detail, _, remedy = str(error).rpartition("; ")
        return fail("lock", detail, f"{remedy}: `follow` does not start without it"), False


def _long_start(journal: Journal) -> Iterator[Check]:
    """Warn of a journal that holds so many facts that `follow` is long in rebuilding its state from them."""
    _, ((count,),) = journal.query("SELECT count(*) FROM facts")
    if count > MANY_FACTS:
        detail = f"{count:,} facts are kept: `copytrader follow` takes about {count * SECONDS_A_FACT:.0f} s to begin"
        yield warn("length of the journal", detail, "copytrader audit prune --before DAY, while follow is stopped")


def _journal(config: Config) -> Iterator[Check]:
    folder = config.journal.parent
    if not folder.is_dir():
        yield ok("journal", f"{config.journal} is not there yet: `copytrader follow` creates it and its directory")
        return
    if not config.journal.exists():
        yield ok("journal", f"{config.journal} is not there yet: `copytrader follow` creates it")
        return
    if _is_empty(config.journal):
        detail = f"{config.journal} is empty: `copytrader follow` begins it anew"
        yield warn("journal", detail, "restore a backup if it held anything")
        return
    try:
        with Journal.open(config.journal, read_only=True) as journal:
            findings = journal.verify()
            if findings:
                first = findings[0]
                where = "" if first.seq is None else f"fact {first.seq}: "
                yield fail("journal", f"{where}{first.what}", "keep the file, restore a backup, see docs/journal.md")
                return
            yield ok("journal", f"{journal.last_seq:,} facts, the file is sound and the chain is whole")
            yield from _long_start(journal)
            state = recall(journal.happened())
            if another := session.another_leader(config, journal.happened(kinds={Started.__name__}), state):
                yield fail("leader of the journal", *another)
            yield from _left(state, len(journal.outbox()))
            renamed = days.renamed(state, config.desk(Calendar()), session.now())
            yield from (_renamed(*each) for each in renamed)
            yield _halt(errand.halted(config, state, [event for _, event in journal.words()]))
            yield from _left_out(state, {old for _, old, _ in renamed})
    except JournalError as error:
        yield fail("journal", str(error), "see docs/journal.md")


def _is_empty(journal: Path) -> bool:
    return journal.is_file() and journal.stat().st_size == 0


def _left(state: State, unanswered: int) -> Iterator[Check]:
    """What the last session left behind."""
    unknown = max(len(state.unknowns()), unanswered)
    if unknown:
        remedy = "start `copytrader follow`: it asks Dhan first, and never sends them again"
        yield warn("unknown outcomes", f"{unknown} orders of which no answer is recorded", remedy)
    else:
        yield ok("unknown outcomes", "every order's answer is recorded")
    left = list(left_open(state))
    if left:
        more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
        yield ok("left from before", "; ".join(left[:3]) + more)


def _renamed(new: str, old: str, has: str) -> Check:
    remedy = f"name it {old} again: `copytrader follow` does not start"
    return fail("names", f"{new} has the account of {old}, which {has}", remedy)


def _left_out(state: State, renamed: Collection[str]) -> Iterator[Check]:
    """Who has something from copying, and is served no longer."""
    for name, has in left_out.left_out(state).items():
        if name not in renamed:
            remedy = f"nobody looks after that: enable {name} again, or close that by hand"
            yield warn("left out", f"{name} {has}", remedy)


def _halt(halted: Collection[str]) -> Check:
    if halted:
        return fail("halt", f"{', '.join(halted)}: halted, no entry is copied", "copytrader resume")
    return ok("halt", "nobody is halted")


def _instruments(config: Config) -> Iterator[Check]:
    remedy = "copytrader instruments sync"
    if not config.instruments_path.exists():
        yield warn("instruments", "never read: `copytrader follow` does it at its start", remedy)
        return
    try:
        with closing(InstrumentStore(config.instruments_path)) as store:
            synced, count, unknown = store.synced_on(), store.count(), list(_unknown_underlyings(config, store))
    except MasterError as error:
        yield fail("instruments", str(error), remedy)
        return
    if synced is None:
        yield warn("instruments", "never read wholly", remedy)
        return
    if synced < login.now().date():
        yield warn("instruments", f"{count:,} as of {synced:%d %b}: `copytrader follow` reads today's first", remedy)
    else:
        yield ok("instruments", f"{count:,} as of today")
    yield from unknown


def _unknown_underlyings(config: Config, store: InstrumentStore) -> Iterator[Check]:
    """Find what a filter names and no instrument has: a misspelt one lets through what it was to hold back."""
    for name, section in config.enabled.items():
        rule = section.filter
        for key, wanted in (("underlyings", rule.underlyings), ("exclude_underlyings", rule.exclude_underlyings)):
            unknown = [each for each in wanted if not store.has_underlying(each)]
            if unknown:
                where, listed = f"followers.{name}.filter.{key}", ", ".join(unknown)
                remedy = f"correct {where}; `copytrader instruments search {unknown[0]}` shows what is near"
                yield warn(f"filter of {name}", f"no instrument has the underlying {listed}", remedy)


def _log(path: Path | None) -> Iterator[Check]:
    if path is None:
        return
    there = path if path.exists() else path.parent
    if path.is_dir() or not os.access(there, os.W_OK):
        yield fail("log", f"{path} cannot be written", "name another file in `log`")
    else:
        yield ok("log", f"{path} can be written")


def _disk(folder: Path) -> Check:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1024**3:,.1f} GB free at {folder}"
    if free < TOO_LITTLE_DISK:
        return fail("disk", detail, "make room: without it nothing is recorded, and so nothing is sent")
    return warn("disk", detail, "make room soon") if free < LITTLE_DISK else ok("disk", detail)


def _calendar(override: Path | None) -> Check:
    today = login.now().date()
    try:
        market = calendar.build(override, (today.year, today.year + 1))
    except Failure as failure:
        return fail("calendar", "; ".join(failure.lines), "mend that file, see docs/journal.md")
    remedy = "update copytrader's exchange_calendars, or name a file in copy.calendar (docs/journal.md)"
    if today.year not in market.years:
        return fail("calendar", f"the holidays of {today.year} are not known: entries are held back", remedy)
    closed = {segment: day for segment in calendar.SEGMENTS if (day := _next_session(market, segment, today)) > today}
    if closed:
        return warn("calendar", *_no_session(closed))
    if today.month == 12 and today.year + 1 not in market.years:
        return warn("calendar", f"the holidays of {today.year + 1} are not known yet", remedy)
    return ok("calendar", f"the holidays of {today.year} are known")


def _next_session(market: Calendar, segment: str, today: date) -> date:
    return session_day(market, segment, datetime.combine(today, time(), IST))


def _no_session(closed: Mapping[str, date]) -> tuple[str, str]:
    """Say what does not trade today, and when it does next."""
    if len(closed) == len(calendar.SEGMENTS):
        what = "today is no trading day: no entry is copied"
    else:
        what = f"no trading today in {', '.join(closed)}: no entry there is copied"
    return what, f"wait for {min(closed.values()):%A, %d %B}, or correct the day in copy.calendar (docs/journal.md)"


def _alerts(config: Config) -> Iterator[Check]:
    if not config.alerts.urls:
        yield ok("alerts", "shown on screen only: alerts.urls is empty")
        return
    unknown = [named(url, n) for n, url in enumerate(config.alerts.urls, 1) if by_apprise(url) is None]
    if unknown:
        yield fail(
            "alerts", f"{', '.join(unknown)}: no address that can be sent to", "see https://appriseit.com/services"
        )
    else:
        yield ok("alerts", f"{len(config.alerts.urls)} addresses; `copytrader alerts test` tries them")


# --- At Dhan --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Account:
    """What was found out about one account."""

    name: str
    checks: list[Check] = field(default_factory=list)
    profile: Profile | None = None
    orders: tuple[Order, ...] = ()
    clock_offset: timedelta | None = None
    detected: str = ""


async def _account(config: Config, name: str, *, is_followed: bool) -> _Account:
    found = _Account(name)
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
            await _ask(config, found, broker, token, is_followed=is_followed)
    except TimeoutError:
        found.checks.append(fail(f"Dhan for {name}", f"no answer within {PATIENCE:.0f} s", "check the network"))
    return found


async def _ask(config: Config, found: _Account, broker: Broker, token: SecretStr, *, is_followed: bool) -> None:
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


async def _book(found: _Account, broker: Broker) -> Check:
    check = f"orders of {found.name}"
    try:
        found.orders, _ = await broker.orders()
    except BrokerError as error:
        return warn(check, f"cannot be read: {error}", "try again; `copytrader follow` begins with them")
    ours = sum(order.is_ours for order in found.orders)
    return ok(check, f"{len(found.orders)} today, {ours} of them copies")


async def _address(found: _Account, broker: Broker) -> Check:
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


def _register(found: _Account, settings: IpSettings) -> str:
    what = f"register {settings.detected}" if settings.detected else "register this machine's address"
    key = login.section_of(found.name)
    return f"{what} at Dhan, or leave by a registered one: {key}.proxy or {key}.source_address"


# --- All accounts together --------------------------------------------------------------------


def _together(config: Config, accounts: list[_Account]) -> Iterator[Check]:
    yield from _strays(config, accounts)
    yield from _clock(accounts)
    yield from _segments(config, accounts)
    if not config.dhan.is_simulated:
        yield from _shared_addresses(accounts)


def _strays(config: Config, accounts: list[_Account]) -> Iterator[Check]:
    """Find orders that bear our prefix and that the journal does not know: with these `follow` does not begin."""
    readings = [Reading(each.name, each.orders) for each in accounts if any(order.is_ours for order in each.orders)]
    if not readings:
        return
    with suppress(JournalError):  # told by its own check
        state = State() if _is_empty(config.journal) else errand.Onlooker(config.journal).look()
        fresh = with_books(state, config.desk(Calendar()), readings, {}, login.now())
        for reading in readings:
            strays = ", ".join(fresh.accounts[reading.account].strays)
            if strays:
                yield fail(
                    f"copies of {reading.account}",
                    f"orders of a copier that this journal does not know: {strays}",
                    "another copier may serve this account, or the journal was lost: "
                    "make sure that no other runs, then start `copytrader follow --adopt`",
                )


def _clock(accounts: list[_Account]) -> Iterator[Check]:
    offsets = [each.clock_offset for each in accounts if each.clock_offset is not None]
    if not offsets:
        return
    offset = min(offsets, key=abs)
    detail = f"Dhan's is {abs(offset).total_seconds():.0f} s {'ahead' if offset > timedelta(0) else 'behind'}"
    remedy = "let the system keep the time: timedatectl set-ntp true"
    if abs(offset) < CLOCK_WARN:
        yield ok("clock", "agrees with Dhan's to about a second")
    elif abs(offset) < CLOCK_FAIL:
        yield warn("clock", detail, remedy)
    else:
        yield fail("clock", f"{detail}: ages of orders are judged wrongly", remedy)


def _segments(config: Config, accounts: list[_Account]) -> Iterator[Check]:
    leader = next((each.profile for each in accounts if each.name == LEADER), None)
    for each in accounts:
        if each.name == LEADER or each.profile is None or not each.profile.segments:
            continue
        wanted = {_GROUPS[segment.split("_")[1]] for segment in config.followers[each.name].filter.segments}
        if not wanted and leader is not None:
            wanted = set(leader.segments)
        missing = sorted(wanted - set(each.profile.segments))
        check = f"segments of {each.name}"
        if missing:
            remedy = f"enable them at Dhan, or filter them out in followers.{each.name}.filter.segments"
            yield warn(check, f"{', '.join(missing)} not enabled: such orders will be refused", remedy)
        else:
            yield ok(check, ", ".join(each.profile.segments))


def _shared_addresses(accounts: list[_Account]) -> Iterator[Check]:
    users: dict[str, list[str]] = {}
    for each in accounts:
        if each.detected:
            users.setdefault(each.detected, []).append(each.name)
    for address, names in users.items():
        if len(names) > 1:
            remedy = "give each its own proxy or source_address: Dhan wants one static IP per person"
            yield warn("addresses", f"{', '.join(names)} all leave by {address}", remedy)
