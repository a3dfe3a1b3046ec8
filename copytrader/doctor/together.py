"""What only all accounts together show, beside the journal and the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from copytrader import errand, login
from copytrader.config import Config
from copytrader.core.model import LEADER, Calendar
from copytrader.core.reconcile.comparing import with_books
from copytrader.core.reconcile.picture import Reading
from copytrader.core.state import State
from copytrader.doctor.accounts import Found
from copytrader.doctor.check import Check, fail, ok, warn
from copytrader.doctor.journal import is_empty
from copytrader.journal import JournalError

CLOCK_WARN, CLOCK_FAIL = timedelta(seconds=2), timedelta(seconds=5)
_GROUPS = {"EQ": "Equity", "FNO": "Derivative", "CURRENCY": "Currency", "COMM": "Commodity"}


def look(config: Config, accounts: list[Found]) -> Iterator[Check]:
    yield from _strays(config, accounts)
    yield from _clock(accounts)
    yield from _segments(config, accounts)
    if not config.dhan.is_simulated:
        yield from _shared_addresses(accounts)


def _strays(config: Config, accounts: list[Found]) -> Iterator[Check]:
    """Find orders that bear our prefix and that the journal does not know: with these `follow` does not begin."""
    readings = [Reading(each.name, each.orders) for each in accounts if any(order.is_ours for order in each.orders)]
    if not readings:
        return
    with suppress(JournalError):  # told by its own check
        state = State() if is_empty(config.journal) else errand.Onlooker(config.journal).look()
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


def _clock(accounts: list[Found]) -> Iterator[Check]:
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


def _segments(config: Config, accounts: list[Found]) -> Iterator[Check]:
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


def _shared_addresses(accounts: list[Found]) -> Iterator[Check]:
    users: dict[str, list[str]] = {}
    for each in accounts:
        if each.detected:
            users.setdefault(each.detected, []).append(each.name)
    for address, names in users.items():
        if len(names) > 1:
            remedy = "give each its own proxy or source_address: Dhan wants one static IP per person"
            yield warn("addresses", f"{', '.join(names)} all leave by {address}", remedy)
