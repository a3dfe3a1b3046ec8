"""Where values come from: the file, the environment, what was set on the command line.  Later ones win.

Everything is kept as raw values with the place each came from; `models` judges them.
"""

from __future__ import annotations

import difflib
import errno
import os
import stat
import tomllib
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from copytrader.config.mistakes import ConfigError
from copytrader.config.models import SECRET_KEYS, keys_at
from copytrader.tokens import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FILE_NAME = "copytrader.toml"
CONFIG = "COPYTRADER_CONFIG"
SET = "--set"
"""Where a value is from that was given on the command line."""
_PREFIX = "COPYTRADER_"
_VARIABLES = (CONFIG, STATE_DIR, "COPYTRADER_JOURNAL", "COPYTRADER_LOG")
"""The variables that are no key of a section; one that is nearly called so is a slip, and would go unheard."""


@dataclass(slots=True)
class Values:
    """Raw values as nested tables, and for each key that was given, where."""

    tree: dict[str, Any]
    origins: dict[tuple[str, ...], str] = field(default_factory=dict)

    def put(self, path: tuple[str, ...], value: object, origin: str) -> None:
        table = self.tree
        for part in path[:-1]:
            below = table.setdefault(part, {})
            if not isinstance(below, dict):
                return  # the file has a plain value where a section belongs: `models` will say so
            table = below
        table[path[-1]] = value
        self.origins[path] = origin

    def origin(self, path: tuple[str, ...], file: str) -> str:
        """Name the place of a key; of a section or an absent key, the file unless all around it came from elsewhere."""
        while path:
            inside = {place for key, place in self.origins.items() if key[: len(path)] == path}
            if inside:
                return file if file in inside else min(inside)
            path = path[:-1]
        return file


def find(path: Path | None, env: Mapping[str, str]) -> Path:
    """Return the file to read: the one asked for, or the first that exists."""
    chosen = path or (Path(env[CONFIG]) if env.get(CONFIG) else None)
    if chosen is not None:
        return chosen.expanduser()
    usual = (Path(FILE_NAME), platformdirs.user_config_path("copytrader", appauthor=False) / FILE_NAME)
    for candidate in usual:
        if candidate.exists():
            return candidate
    raise ConfigError(f"no configuration: neither {usual[0]} nor {usual[1]} exists; `copytrader init` writes one")


def read(path: Path) -> Values:
    """Read the file, refusing one that somebody else could have written or, with a token in it, could read."""
    text, mode = _open(path)
    try:
        tree = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply") from None
    try:
        leaves = dict(_leaves(tree))
    except RecursionError:
        raise ConfigError(f"{path}: its sections are nested too deeply") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH) and any(_is_secret(key, value) for key, value in leaves.items()):
        raise ConfigError(f"{path} holds a secret and others can read it: run chmod 600 {path}")
    return Values(tree, dict.fromkeys(leaves, str(path)))


def environment(values: Values, env: Mapping[str, str]) -> Iterator[str]:
    """Put the environment's values over the file's; yield a line for each variable that cannot be meant."""
    for name in sorted(env):
        if not name.startswith(_PREFIX):
            continue
        rest = name.removeprefix(_PREFIX).lower()
        if rest in ("journal", "log"):
            values.put((rest,), env[name], name)
        elif len(meant := _followers_meant(rest, _follower_names(values))) > 1:
            yield f"{name} could mean the follower {' or '.join(meant)}: rename one, or write the key into the file"
        elif "__" in rest:
            values.put(_path(rest, _follower_names(values)), env[name], name)
        elif near := difflib.get_close_matches(name, _VARIABLES, 1, 0.9):
            if name not in _VARIABLES:
                yield f"{name} is no variable of copytrader's: did you mean {near[0]}?"
        elif rest.split("_")[0] in keys_at(()):
            yield f"{name} is no key of copytrader's: sections and keys are joined by two underscores"


def overrides(values: Values, changes: Mapping[str, str]) -> None:
    """Put values given as `section.key` over all others."""
    for key, value in changes.items():
        values.put(tuple(key.split(".")), value, SET)


def _open(path: Path) -> tuple[str, int]:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise ConfigError(f"{path} is no file: name another with --config")
            content = file.read()
    except OSError as error:
        raise ConfigError(_cannot_open(path, error)) from None
    if os.name == "posix":
        _check_owner(path, status)
    try:
        return content.decode("utf-8-sig"), status.st_mode if os.name == "posix" else 0
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: byte {error.start + 1} is not UTF-8") from None


def _cannot_open(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return f"{path} does not exist: name another with --config, or write one with `copytrader init`"
        case errno.ELOOP:
            return f"{path} is a symbolic link: name the file itself, {path.resolve()}"
        case _:
            return f"{path} cannot be read: {error.strerror}"


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Whoever can write this file decides where real orders go."""
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path} belongs to another user: run chown {os.geteuid()} {path}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be changed by others: run chmod 600 {path}")
    folder = path.absolute().parent
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConfigError(f"{path} can be replaced by others: run chmod o-w {folder}")


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _is_secret(path: tuple[str, ...], value: object) -> bool:
    return path[-1] in SECRET_KEYS and bool(value)


def _follower_names(values: Values) -> Iterable[str]:
    followers = values.tree.get("followers")
    return followers if isinstance(followers, dict) else ()


def _path(rest: str, names: Iterable[str]) -> tuple[str, ...]:
    """Split a variable's name into keys; a follower of the file is known even by a name with - or __ in it."""
    head, _, tail = rest.partition("__")
    for name in _followers_meant(rest, names):
        return (head, name, *tail.removeprefix(f"{_spelt(name)}__").split("__"))
    return (head, *tail.split("__"))


def _followers_meant(rest: str, names: Iterable[str]) -> list[str]:
    """Return the followers of the file whose variable this is: in a variable - and _ are the same."""
    head, _, tail = rest.partition("__")
    found = [name for name in names if head == "followers" and tail.startswith(f"{_spelt(name)}__")]
    longest = max(map(len, found), default=0)
    return [name for name in found if len(name) == longest]


def _spelt(name: str) -> str:
    return name.lower().replace("-", "_")
