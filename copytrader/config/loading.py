"""From file and environment to one immutable `Config`, or to every mistake in them."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from copytrader import tokens
from copytrader.config import mistakes, sources
from copytrader.config.mistakes import ConfigError
from copytrader.config.models import (
    KEYS_OF_MODE,
    AccountConfig,
    AlertsConfig,
    CopyConfig,
    DhanConfig,
    FileConfig,
    FollowerConfig,
    is_loopback,
)
from copytrader.core.model import LEADER, Calendar, CopyRules, Desk, Filter, Follower, Limits, Sizing, SizingMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT = "default"
_SIZES = frozenset({"lots", "risk_percent", "capital"})
"""The keys that set a size of their own."""
_JOURNAL, _CALENDAR = "the journal's", "the calendar's"


@dataclass(frozen=True, slots=True)
class Config:
    """What the user wants, with paths made absolute; secrets only as `SecretStr`."""

    path: Path
    journal: Path
    log: Path | None
    calendar: Path | None
    dhan: DhanConfig
    leader: AccountConfig
    followers: dict[str, FollowerConfig]
    copy_rules: CopyConfig
    alerts: AlertsConfig
    origins: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def instruments_path(self) -> Path:
        """The instrument master lies beside the journal."""
        return self.journal.with_name(f"{self.journal.stem}.instruments.db")

    @property
    def enabled(self) -> dict[str, FollowerConfig]:
        return {name: follower for name, follower in self.followers.items() if follower.enabled}

    def account(self, name: str) -> AccountConfig:
        """Return the leader's or a follower's section."""
        return self.leader if name == LEADER else self.followers[name]

    def token(self, name: str, env: Mapping[str, str] | None = None) -> SecretStr | None:
        """Return an account's token: the configured one, else what `copytrader login` stored, else None."""
        account = self.account(name)
        if account.access_token is not None:
            return account.access_token
        stored = tokens.stored_token(account.client_id, env)
        return stored.access_token if stored else None

    def origin(self, key: str) -> str:
        """Say where the value of `section.key` came from: a file, a variable, `--set` or `default`."""
        return self.origins.get(key, DEFAULT)

    def digest(self) -> str:
        """Name the rules in force: SHA-256 over all that decides what is copied, and no secret."""
        account = {"access_token", "proxy", "source_address"}
        rules = {
            "dhan": self.dhan.model_dump(mode="json"),
            "leader": self.leader.client_id,
            "copy": self.copy_rules.model_dump(mode="json"),
            "followers": {
                name: follower.model_dump(mode="json", exclude=account) for name, follower in self.followers.items()
            },
        }
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()

    def check_for_follow(self) -> None:
        """Refuse what only a copier that sends orders must not have."""
        if not self.enabled:
            raise ConfigError(
                f"followers has nobody enabled: set enabled = true, or add a [followers.NAME] section ({self.path})"
            )
        if is_loopback(self.dhan.order_update_url) != self.dhan.is_simulated:
            raise ConfigError(
                "dhan.order_update_url and dhan.api_url must both lead to this machine, or both to Dhan"
                f" ({self.origin('dhan.api_url')}, {self.origin('dhan.order_update_url')})"
            )

    def desk(self, calendar: Calendar) -> Desk:
        """Return the rules as the engine knows them; followers that are not enabled are not on the desk."""
        followers = tuple(_follower(name, section) for name, section in self.enabled.items())
        return Desk(self.leader.client_id, followers, _rules(self.copy_rules), calendar)


def load(
    path: Path | None = None, env: Mapping[str, str] | None = None, changes: Mapping[str, str] | None = None
) -> Config:
    """Read the file that `path`, the environment or custom names; raise `ConfigError` with all mistakes.

    `changes` maps `section.key` to a value that goes over file and environment.
    """
    env = os.environ if env is None else env
    file = sources.find(path, env)
    values = sources.read(file)
    wrong = list(sources.environment(values, env))
    return _judged(values, file, changes or {}, wrong)


def of_rules(tree: dict[str, Any], changes: Mapping[str, str], origin: str) -> Config:
    """Judge rules that come from elsewhere than a file, with changes over them, as if a file said so.

    `origin` says in messages where they come from.
    """
    return _judged(sources.Values(tree), Path(origin), changes, [])


def _judged(values: sources.Values, file: Path, changes: Mapping[str, str], wrong: list[str]) -> Config:
    sources.overrides(values, changes)
    try:
        content = FileConfig.model_validate(values.tree)
    except ValidationError as error:
        wrong += mistakes.lines(error, lambda key: values.origin(key, str(file)))
    wrong += _clashes(values.tree, file)
    wrong += _idle_sizing(values, file)
    if wrong:
        raise ConfigError(*wrong)
    config = _config(file, content, {".".join(key): place for key, place in values.origins.items()})
    wrong = list(_shared_files(config))
    if wrong:
        raise ConfigError(*wrong)
    return config


def _shared_files(config: Config) -> Iterator[str]:
    """Yield a line for each file that two keys name: one would be written over the other."""
    taken = [(config.path, "the configuration's"), (config.instruments_path, "that of the instruments")]
    taken += [(Path(f"{config.journal}{end}"), _JOURNAL) for end in ("", "-wal", "-shm", "-journal", ".lock")]
    taken += [(config.calendar, _CALENDAR)] if config.calendar is not None else []
    named = [
        ("journal", config.journal, _JOURNAL),
        ("copy.calendar", config.calendar, _CALENDAR),
        ("log", config.log, ""),
    ]
    for key, path, own in named:
        whose = [of for other, of in taken if path is not None and of != own and _is_same(path, other)]
        if whose:
            yield f"{key} must be a file of its own, {path} is {whose[0]} ({config.origin(key)})"


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except OSError:  # one of them is not there, or cannot be looked at: whoever opens it says so
        return False


def _clashes(tree: Mapping[str, Any], file: Path) -> Iterator[str]:
    """Yield a line for each client id that two accounts share: copies would be copied, or sent twice."""
    sections = {"leader": tree.get("leader")}
    followers = tree.get("followers")
    if isinstance(followers, dict):
        sections |= {f"followers.{name}": section for name, section in followers.items()}
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for name, section in sections.items():
        client_id = section.get("client_id") if isinstance(section, dict) else None
        if isinstance(client_id, str) and client_id:
            holders[client_id].append(name)
    for client_id, (first, *others) in holders.items():
        for other in others:
            yield f"{other}.client_id must differ from {first}.client_id, was {json.dumps(client_id)} ({file})"


def _idle_sizing(values: sources.Values, file: Path) -> Iterator[str]:
    """Yield a line for each size at which the mode of a sizing never looks: whoever writes `lots = 1` expects one lot.

    Where the mode itself was set on the command line, the keys of the one before are no mistake.
    """
    for path, sizing in _sizings(values.tree):
        mode = sizing.get("mode", SizingMode.RATIO)
        why = f'with mode = "{mode}"' if "mode" in sizing else f"with the default mode, {mode}"
        idle = sorted(_SIZES & sizing.keys() - KEYS_OF_MODE.get(str(mode), _SIZES))
        if values.origins.get((*path, "mode")) == sources.SET:
            idle = [key for key in idle if values.origins.get((*path, key)) == sources.SET]
        for key in idle:
            remedy = f"leave it out, or choose the mode that needs it ({values.origin((*path, key), str(file))})"
            yield f"{'.'.join(path)}.{key} has no effect {why}: {remedy}"


def _sizings(tree: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the path and the contents of each section of sizing that is one."""
    followers = tree.get("followers")
    for name, section in followers.items() if isinstance(followers, dict) else ():
        sizing = section.get("sizing") if isinstance(section, dict) else None
        if isinstance(sizing, dict):
            yield ("followers", name, "sizing"), sizing


def _config(file: Path, content: FileConfig, origins: dict[str, str]) -> Config:
    base = file.absolute().parent
    calendar = content.copy_rules.calendar
    return Config(
        path=file.absolute(),
        journal=_absolute(base, content.journal),
        log=None if content.log is None else _absolute(base, content.log),
        calendar=None if calendar is None else _absolute(base, calendar),
        dhan=content.dhan,
        leader=content.leader,
        followers=content.followers,
        copy_rules=content.copy_rules,
        alerts=content.alerts,
        origins=origins,
    )


def _absolute(base: Path, path: Path) -> Path:
    return Path(os.path.normpath(base / path.expanduser()))


def _follower(name: str, section: FollowerConfig) -> Follower:
    sizing, limits, filters = section.sizing, section.limits, section.filter
    return Follower(
        name=name,
        client_id=section.client_id,
        sizing=Sizing(
            mode=sizing.mode,
            ratio=sizing.ratio,
            lots=sizing.lots or 0,
            risk_percent=sizing.risk_percent or Sizing().risk_percent,
            adverse_move_percent=sizing.adverse_move_percent,
            capital=sizing.capital,
        ),
        limits=Limits(**limits.model_dump(exclude={"unlimited"})),
        filter=Filter(**dict(filters)),
    )


def _rules(section: CopyConfig) -> CopyRules:
    return CopyRules(
        max_age_seconds=section.max_age_seconds,
        late_exits=section.late_exits,
        enforce_hours=section.market_hours == "enforce",
        market_wait_seconds=section.market_wait_seconds,
        stop_limit_percent=section.stop_limit_percent,
        reprice_attempts=section.reprice_attempts,
    )
