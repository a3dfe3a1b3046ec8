"""`copytrader doctor`: every reason that today's copying would fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copytrader.cli.options import AsJson, ConfigPath
from copytrader.failure import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from copytrader.doctor import Check


def doctor(config: ConfigPath = None, as_json: AsJson = False) -> ExitCode:
    """Find every reason that today's copying would fail, each with its remedy.

    Changes nothing and sends no order. Exits with 4 if a token or a permission is missing, with 3 if anything else
    fails.
    """
    import asyncio

    from copytrader import render
    from copytrader.doctor import examine

    checks = asyncio.run(examine(config))
    if as_json:
        keys = ("check", "status", "detail", "remedy")
        render.document([{key: getattr(check, key) for key in keys} for check in checks])
    else:
        _show(checks)
    return _code(checks)


def _show(checks: Sequence[Check]) -> None:
    from copytrader import render
    from copytrader.doctor import Status

    marks = {Status.OK: "ok  ", Status.WARN: "warn", Status.FAIL: "FAIL"}
    width = max(len(check.check) for check in checks)
    for check in checks:
        render.line(f"{marks[check.status]}  {check.check:{width}}  {check.detail}", indent=width + 8)
        if check.remedy:
            render.line(f"      {'':{width}}  -> {check.remedy}", indent=3)
    failed = sum(check.status is Status.FAIL for check in checks)
    warned = sum(check.status is Status.WARN for check in checks)
    render.notice(f"{len(checks)} checks, {failed} failed, {warned} with a warning")


def _code(checks: Sequence[Check]) -> ExitCode:
    from copytrader.doctor import Status

    failed = [check for check in checks if check.status is Status.FAIL]
    if any(check.is_access for check in failed):
        return ExitCode.TOKEN
    return ExitCode.FINDINGS if failed else ExitCode.FINE
