"""`copytrader halt`: stop copying now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.cli.options import AsJson, ConfigPath
from copytrader.failure import ExitCode

if TYPE_CHECKING:
    from copytrader.halting import Outcome, Report

OneFollower = Annotated[str | None, typer.Option("--follower", metavar="NAME", help="This follower alone.")]
Flatten = Annotated[bool, typer.Option("--flatten", help="Also exit what the followers hold from copying, at market.")]


def halt(
    config: ConfigPath = None, follower: OneFollower = None, flatten: Flatten = False, as_json: AsJson = False
) -> ExitCode:
    """Stop copying now: no new entries, and open copies are cancelled until the broker confirms it.

    Works beside a running follow and without one, and holds until `copytrader resume`.  The leader's exits of
    copied positions still pass while follow runs.
    """
    import asyncio

    from copytrader import halting, render
    from copytrader.config import load

    report = asyncio.run(halting.halt(load(config), follower, render.notice, flatten=flatten))
    if as_json:
        render.document(report)
    else:
        _show(report)
    return report.code


def _show(report: Report) -> None:
    from copytrader import render

    for outcome in report.followers:
        render.line(f"{outcome.follower}: {_told(outcome)}")
    if not report.by_follow:
        render.notice("follow is not running: nobody passes on the leader's exits")


def _told(outcome: Outcome) -> str:
    if not outcome.halted:
        return f"will be halted when follow starts; {outcome.problem}"
    parts = ["halted"]
    if outcome.problem:
        parts.append(f"but {outcome.problem}: open copies may still be working")
    elif outcome.open:
        parts.append("still open: " + ", ".join(outcome.open))
    else:
        parts.append("no copy is open")
    if outcome.held:
        parts.append("holds from copying: " + ", ".join(outcome.held))
    return "; ".join(parts)
