"""Where the page of a replay may be written: a new file, or one that holds an earlier page, and nothing else.

Asked before anything is played, so that no journal, configuration or recording is ever lost to a slip in `--report`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from copytrader.config import Config
from copytrader.failure import ExitCode, Failure
from copytrader.replay.report import BEGINNING

_BESIDE = ("-wal", "-shm", "-journal", ".lock")
"""What stands beside a database under its name: SQLite's files and the lock."""


def refuse_unsafe(target: Path, source: Path | None, config: Config | None) -> None:
    """Raise where a page written there would destroy something, or cannot be written."""
    for path, what in _needed(source, config):
        if _is_same(target, path):
            raise _refusal(target, f"is {what}")
    if target.exists() and not _is_page(target):
        raise _refusal(target, "exists and is no page of an earlier replay")
    if not target.absolute().parent.is_dir():
        raise _refusal(target, f"cannot be written, there is no folder {target.parent}")


def _refusal(target: Path, why: str) -> Failure:
    return Failure(f"--report: {target} {why}; name another file for the page", code=ExitCode.USAGE)


def _needed(source: Path | None, config: Config | None) -> Iterator[tuple[Path, str]]:
    if source is not None:
        yield from _database(source, "the source of the replay")
    if config is None:
        return
    yield config.path, "the configuration"
    yield from _database(config.journal, "the journal")
    yield from _database(config.instruments_path, "the instrument master")
    for path, what in ((config.log, "the log"), (config.calendar, "the calendar")):
        if path is not None:
            yield path, what


def _database(path: Path, what: str) -> Iterator[tuple[Path, str]]:
    yield path, what
    real = Path(os.path.realpath(path))
    for suffix in _BESIDE:
        yield real.with_name(real.name + suffix), f"a part of {what}"
    yield real.with_name(f"{real.stem}.instruments.db"), "the instrument master"


def _is_same(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to one file, also by a link, and also where there is none yet."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(BEGINNING.encode())) == BEGINNING.encode()
