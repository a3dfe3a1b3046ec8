"""What is on this machine: the configuration, who can read what, who runs, where there is room."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from copytrader import tokens
from copytrader.alerts import by_apprise, named
from copytrader.config import Config, ConfigError, load
from copytrader.doctor.check import Check, fail, ok, warn
from copytrader.lock import LockError, LockHeld, hold

LITTLE_DISK, TOO_LITTLE_DISK = 1024**3, 100 * 1024**2


def configuration(path: Path | None) -> tuple[Config | None, list[Check]]:
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


def lock(config: Config) -> tuple[Check, bool]:
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


def permissions(config: Config) -> Check:
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


def log(path: Path | None) -> Iterator[Check]:
    if path is None:
        return
    there = path if path.exists() else path.parent
    if path.is_dir() or not os.access(there, os.W_OK):
        yield fail("log", f"{path} cannot be written", "name another file in `log`")
    else:
        yield ok("log", f"{path} can be written")


def disk(folder: Path) -> Check:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1024**3:,.1f} GB free at {folder}"
    if free < TOO_LITTLE_DISK:
        return fail("disk", detail, "make room: without it nothing is recorded, and so nothing is sent")
    return warn("disk", detail, "make room soon") if free < LITTLE_DISK else ok("disk", detail)


def alerts(config: Config) -> Iterator[Check]:
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
