"""Looks at everything at once, and all with time-outs.

What is on this machine is looked at in a thread, each account at Dhan in a task of its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from copytrader.config import Config
from copytrader.core.model import LEADER
from copytrader.doctor import accounts, journal, machine, market, together
from copytrader.doctor.check import Check


async def examine(path: Path | None = None) -> list[Check]:
    """Look at everything that can be looked at, whatever of it is there."""
    config, read = machine.configuration(path)
    if config is None:
        return [*read, machine.disk(Path.cwd()), await asyncio.to_thread(market.holidays, None)]
    lock, is_followed = machine.lock(config)
    asked = [accounts.ask(config, name, is_followed=is_followed) for name in (LEADER, *config.enabled)]
    local, found = await asyncio.gather(asyncio.to_thread(_local, config, lock), asyncio.gather(*asked))
    return [*read, *local, *(check for each in found for check in each.checks), *together.look(config, found)]


def _local(config: Config, lock: Check) -> list[Check]:
    checks = [machine.permissions(config), lock, *journal.look(config), *market.instruments(config)]
    enforced = config.copy_rules.market_hours == "enforce"
    holidays = market.holidays(config.calendar) if enforced else market.NOT_ASKED
    return [*checks, *machine.log(config.log), machine.disk(config.journal.parent), holidays, *machine.alerts(config)]
