"""The rules of a recorded day, written out as a configuration, so that some can be changed and all are judged.

A change is given as the key of the file: `followers.asha.sizing.ratio=0.8`.  What the configuration
refuses is refused here, in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from copytrader.config import ConfigError, of_rules
from copytrader.config.models import KEYS_OF_MODE
from copytrader.core.model import LEADER, Calendar, Desk, Follower, Sizing, SizingMode
from copytrader.failure import ExitCode, Failure

_PLACE = "the rules replayed"
_FIRST_CLIENT = 9_000_000_001
_SHORT = {"ratio": "sizing", "mode": "sizing", "lots": "sizing", "risk_percent": "sizing", "capital": "sizing"}
_IDLE = re.compile(
    r"(journal|log|dhan|alerts|leader)(\..*)?|copy\.(poll_seconds|calendar)"
    r"|followers\.[^.]+\.(client_id|access_token|proxy|source_address)"
)
_OF_CAPITAL = (SizingMode.CAPITAL, SizingMode.RISK)
Tree = dict[str, Any]


def changed(desk: Desk, changes: Mapping[str, str], added: Iterable[str] = ()) -> Desk:
    """Return the desk with changes made and followers added; raise `ConfigError` with what is wrong.

    A follower is added by its name alone, at ratio 1 without limits, or with keys of its own:
    `ravi:ratio=2,limits.max_order_lots=10`.
    """
    tree = _tree(desk)
    for text in added:
        _add(tree, text)
    refuse_strangers(changes, tree["followers"])
    for key in changes:
        _make_room(tree, key)
    return of_rules(tree, changes, _PLACE).desk(desk.calendar)


def bare(leader_client_id: str) -> Desk:
    """Return a desk without followers, for frames that nobody has rules for."""
    return changed(Desk(leader_client_id, (), calendar=Calendar()), {"copy.market_hours": "off"})


def parsed(texts: Iterable[str]) -> dict[str, str]:
    """Split `key=value` changes."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set needs KEY=VALUE such as followers.asha.sizing.ratio=0.8, was {text}")
        if key in pairs:
            raise ConfigError(f"--set gives {key} twice: leave one out")
        pairs[key] = value.strip()
    return pairs


def refuse_idle(changes: Iterable[str]) -> None:
    """Refuse to change a key of the configuration that no decision depends on, or that a recording has settled."""
    for key in changes:
        if _IDLE.fullmatch(key):
            what = "a replay depends on the rules under copy and on each follower's sizing, limits, filter and enabled"
            raise ConfigError(f"--set {key} changes nothing in a replay: {what}")


def refuse_strangers(changes: Iterable[str], names: Collection[str]) -> None:
    """Refuse to change the rules of a follower who is not there."""
    for key in changes:
        section, _, rest = key.partition(".")
        name = rest.partition(".")[0]
        if section == "followers" and name not in names:
            there = f"there are {' and '.join(names)}" if len(names) > 1 else f"there is {''.join(names) or 'none'}"
            raise ConfigError(f"--set {key}: there is no follower {name or '(none named)'}, {there}")


def refuse_unknown_capital(desk: Desk, known: Collection[str], source: str) -> None:
    """Refuse a size that depends on a capital which neither the source nor the rules tell."""
    lines = unknown_capital(desk, known, source)
    if lines:
        raise Failure(*lines, code=ExitCode.USAGE)


def unknown_capital(desk: Desk, known: Collection[str], source: str) -> list[str]:
    """Return a line for each follower whose size depends on a capital that nobody tells."""
    lines = []
    for follower in desk.followers:
        sizing, key = follower.sizing, f"followers.{follower.name}.sizing"
        if sizing.mode is SizingMode.CAPITAL and LEADER not in known:
            lines.append(f"{key}.mode capital needs the leader's capital, which {source} does not hold: set {key}.mode")
        elif sizing.mode in _OF_CAPITAL and sizing.capital is None and follower.name not in known:
            lines.append(f"{key}.mode {sizing.mode} needs a capital, which {source} does not hold: set {key}.capital")
    return lines


def differences(one: Desk, other: Desk) -> list[str]:
    """Name each rule in which two desks differ, with both values."""
    was, now = dict(_leaves(_tree(one))), dict(_leaves(_tree(other)))
    return [
        f"{key}: {_shown(was.get(key))} -> {_shown(now.get(key))}"
        for key in dict.fromkeys((*was, *now))
        if was.get(key) != now.get(key) and not key.endswith("client_id")
    ]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _leaves(tree: Tree, path: str = "") -> Iterable[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _add(tree: Tree, text: str) -> None:
    name, _, given = text.partition(":")
    if name in tree["followers"]:
        raise ConfigError(f"--add-follower: {name} is there already; change it with --set followers.{name}.KEY=VALUE")
    section: Tree = {"client_id": _free_client(tree), "limits": {"unlimited": True}}
    tree["followers"][name] = section
    for pair in filter(None, given.split(",")):
        for key, value in parsed([pair]).items():
            path = key if "." in key else f"{_SHORT[key]}.{key}" if key in _SHORT else key
            if path.startswith("limits."):
                section["limits"].pop("unlimited", None)
            _put(section, path.split("."), value)


def _put(table: Tree, path: list[str], value: str) -> None:
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = value


def _free_client(tree: Tree) -> str:
    """Invent a client id that nobody on the desk has."""
    taken = {section["client_id"] for section in (tree["leader"], *tree["followers"].values())}
    return next(str(number) for number in range(_FIRST_CLIENT, _FIRST_CLIENT + 10_000) if str(number) not in taken)


def _make_room(tree: Tree, key: str) -> None:
    """A limit that is set takes the place of `unlimited`, and `unlimited` that of all limits."""
    head, _, rest = key.partition(".")
    name, _, inner = rest.partition(".")
    section = tree["followers"].get(name) if head == "followers" else None
    if section is None:
        return
    if inner == "limits.unlimited":
        section["limits"].clear()
    elif inner.startswith("limits."):
        section["limits"].pop("unlimited", None)


def _tree(desk: Desk) -> Tree:
    """Write a desk out as its configuration would be."""
    rules = desk.rules
    return {
        "leader": {"client_id": desk.leader_client_id},
        "copy": {
            "max_age_seconds": rules.max_age_seconds,
            "market_hours": "enforce" if rules.enforce_hours else "off",
            "late_exits": rules.late_exits.value,
            "market_wait_seconds": rules.market_wait_seconds,
            "stop_limit_percent": rules.stop_limit_percent,
            "reprice_attempts": rules.reprice_attempts,
        },
        "followers": {follower.name: _section(follower) for follower in desk.followers},
    }


def _section(follower: Follower) -> Tree:
    limits = _given(
        {
            "max_order_value": follower.limits.max_order_value,
            "max_order_lots": follower.limits.max_order_lots,
            "max_position_lots": follower.limits.max_position_lots,
            "max_open_positions": follower.limits.max_open_positions,
            "max_daily_loss": follower.limits.max_daily_loss,
            "max_orders_per_minute": follower.limits.max_orders_per_minute,
        }
    )
    filters = {
        "segments": follower.filter.segments,
        "products": follower.filter.products,
        "underlyings": follower.filter.underlyings,
        "exclude_underlyings": follower.filter.exclude_underlyings,
        "sides": follower.filter.sides,
    }
    return {
        "client_id": follower.client_id,
        "sizing": _sizing(follower.sizing),
        "limits": limits or {"unlimited": True},
        "filter": {key: [str(each) for each in values] for key, values in filters.items() if values},
    }


def _sizing(sizing: Sizing) -> Tree:
    """Write down the mode and the keys that it looks at."""
    keys = _given(
        {
            "ratio": sizing.ratio,
            "adverse_move_percent": sizing.adverse_move_percent,
            "lots": sizing.lots or None,
            "risk_percent": sizing.risk_percent or None,
            "capital": sizing.capital,
        }
    )
    return {"mode": sizing.mode.value} | {key: keys[key] for key in keys if key in KEYS_OF_MODE[sizing.mode]}


def _given(values: Mapping[str, Decimal | int | None]) -> Tree:
    return {key: value for key, value in values.items() if value is not None}
