"""A new configuration: from a few answers to a commented file that only its owner can read."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from copytrader.config.loading import Config, load
from copytrader.config.mistakes import ConfigError

PROPOSED: Mapping[str, int] = {
    "max_order_value": 200_000,
    "max_order_lots": 10,
    "max_position_lots": 20,
    "max_open_positions": 10,
    "max_daily_loss": 10_000,
    "max_orders_per_minute": 30,
}
"""Limits to begin with: small enough that a mistake is a lesson and not a loss that hurts."""

_MEANING = {
    "max_order_value": "rupees: price x quantity of one order",
    "max_order_lots": "lots of one order",
    "max_position_lots": "lots of one position",
    "max_open_positions": "positions open at once",
    "max_daily_loss": "rupees; reached: entries stop, exits go on",
    "max_orders_per_minute": "entries; a leader gone wild trips it",
}


@dataclass(frozen=True, slots=True)
class NewFollower:
    name: str
    client_id: str
    ratio: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class Answers:
    """What is asked for a new configuration.  `simulator` is the address of a local one, "" for Dhan itself."""

    leader: str
    followers: tuple[NewFollower, ...]
    limits: Mapping[str, int] = field(default_factory=lambda: PROPOSED)
    segments: tuple[str, ...] = ()
    simulator: str = ""


def text(answers: Answers) -> str:
    """Return the file, as a person would have written it."""
    parts = [
        _HEAD,
        _dhan(answers.simulator),
        _LEADER.format(client_id=answers.leader),
        _COPY.format(hours=_hours(answers)),
    ]
    parts += [_follower(each, answers) for each in answers.followers]
    return "\n".join(part for part in parts if part)


def write(path: Path, content: str) -> Config:
    """Write a new file, checked before it gets its name; an existing one is never touched."""
    path = path.expanduser()
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path} exists already and is left as it is: move it away, or name another with --config")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no directory: create it first")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 whatever the umask
    unnamed = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        try:
            config = load(unnamed, {})
        except ConfigError as error:
            raise ConfigError(*(line.replace(f" ({unnamed})", "") for line in error.lines)) from None
        with contextlib.suppress(OSError):
            os.link(unnamed, path)
            return config
        raise ConfigError(f"{path} could not be written: it exists, or links cannot be made there")
    finally:
        unnamed.unlink(missing_ok=True)


def _hours(answers: Answers) -> str:
    return '"off"     ' if answers.simulator else '"enforce" '


def _dhan(simulator: str) -> str:
    if not simulator:
        return ""
    url = simulator.rstrip("/")
    return (
        "[dhan]                             # a simulator: no order reaches Dhan\n"
        f'api_url          = "{url}/v2"\n'
        f'auth_url         = "{url}/auth"\n'
        f'order_update_url = "{url.replace("http://", "ws://", 1)}"\n'
        f'instruments_url  = "{url}/api-data/api-scrip-master-detailed.csv"\n'
    )


def _follower(each: NewFollower, answers: Answers) -> str:
    limits = "\n".join(f"{key:21} = {value:<10} # {_MEANING[key]}" for key, value in answers.limits.items())
    segments = ", ".join(f'"{segment}"' for segment in answers.segments)
    return _FOLLOWER.format(
        name=each.name,
        limits_head=f"[followers.{each.name}.limits]",
        filter_head=f"[followers.{each.name}.filter]",
        client_id=each.client_id,
        ratio=f"{each.ratio.normalize():f}",
        limits=limits or "unlimited = true             # no limits, on purpose",
        segments=f"segments = [{segments}]"
        if segments
        else '# segments = ["NSE_FNO"]         # only these; empty: all',
    )


_HEAD = """\
# The configuration of copytrader, written by `copytrader init`.  docs/configuration.md explains every key.
# Tokens need not stand here: `copytrader login` gets and keeps them.  Paths are relative to this file.

journal = "copytrader.db"          # what happened and what was decided, for ever
log     = "copytrader.log"         # what `follow` says, turned over at 5 MB
"""
_LEADER = """\
[leader]                           # whose orders are copied
client_id = "{client_id}"
"""
_COPY = """\
[copy]
max_age_seconds = 10               # a market order first seen older than this is not copied any more
poll_seconds    = 5                # order books are read at this pace beside the stream
market_hours    = {hours}       # "enforce" or "off"
late_exits      = "market"         # the leader got out while we were not looking: "market" or "skip"

[alerts]
urls  = []                         # e.g. ["tgram://token/chat", "ntfys://topic"]; try: copytrader alerts test
level = "WARNING"                  # the least that is sent: "INFO", "WARNING", "CRITICAL"
"""
_FOLLOWER = """\
[followers.{name}]
client_id      = "{client_id}"
enabled        = true
proxy          = ""                # http://host:port, where this account must leave by another address:
source_address = ""                # Dhan wants one static IP per person

[followers.{name}.sizing]
mode  = "ratio"                    # "ratio", "capital", "lots" or "risk"
ratio = {ratio:<26} # times the leader's lots, rounded down; the rest is carried

{limits_head:34} # they hold back entries, never exits
{limits}

{filter_head:34} # exits of copied positions always pass
{segments}
# exclude_underlyings = []
"""
