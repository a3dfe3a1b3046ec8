"""`copytrader halt`: stop copying now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.cli.options import AsJson, ConfigPath
from copytrader.failure import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from copytrader.halting import Outcome, Report

OneFollower = Annotated[str | None, typer.Option("--follower", metavar="NAME", help="This follower alone.")]
Flatten = Annotated[bool, typer.Option("--flatten", help="Also exit what the followers hold from copying, at market.")]


def halt(
    config: ConfigPath = None, follower: OneFollower = None, flatten: Flatten = False, as_json: AsJson = False
) -> ExitCode:
    """Stop copying now: no new entries, and open copies are cancelled until the broker confirms it.

    Works beside a running follow and without one, and holds until `copytrader resume`.  Stop losses and targets that
    rest are cancelled too; the leader's exits of copied positions still pass while follow runs.
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
    if any(outcome.taken_over for outcome in report.followers):
        render.notice("another copier may serve the account, or the journal was lost: make sure that no other runs")
    for has in report.left_out:
        render.line(f"{has}: left out of the configuration, no halt reaches it; enable it again, or close that by hand")
    for left in _left(report):
        render.notice(left)
    if not report.by_follow:
        render.notice("follow is not running: nobody passes on the leader's exits")


def _left(report: Report) -> Iterator[str]:
    """Say who does what could not be done, where something is left."""
    outcomes = report.followers
    verbs = ["cancels what is open"] * any(each.open or each.problem for each in outcomes)
    if report.flatten and any(each.held and not each.given_up for each in outcomes):
        verbs.append("closes what is held from copying")
    if verbs:
        who = "follow goes on: it" if report.by_follow else "the next `follow`, or another `copytrader halt`,"
        yield f"{who} {' and '.join(verbs)}"
    if not report.flatten and any(each.held for each in outcomes):
        yield "no stop loss or target rests until `copytrader resume`: what is held goes when the leader is out"
    if report.flatten and any(each.given_up for each in outcomes):
        yield "exits that failed are tried again by another `copytrader halt --flatten`"


def _told(outcome: Outcome) -> str:
    if not outcome.halted:
        return f"will be halted when follow starts; {outcome.problem}"
    return "; ".join(["halted", *_done(outcome), *_state(outcome)])


def _done(outcome: Outcome) -> Iterator[str]:
    if outcome.taken_over:
        listed = ", ".join(outcome.taken_over)
        yield f"took over {_orders(len(outcome.taken_over))} of a copier that this journal does not know: {listed}"
    if outcome.cancelled:
        yield f"{_orders(outcome.cancelled)} cancelled"
    if outcome.closed:
        yield ", ".join(outcome.closed)
    yield from outcome.said


def _orders(count: int) -> str:
    return f"{count} order{'s' if count != 1 else ''}"


def _state(outcome: Outcome) -> Iterator[str]:
    if outcome.problem:
        yield f"but {outcome.problem}"
    if outcome.open:
        yield ("may still be open: " if outcome.problem else "still open: ") + ", ".join(outcome.open)
    else:
        yield "no copy is known to be open" if outcome.problem else "no copy is open"
    if outcome.held:
        yield "holds from copying: " + ", ".join(outcome.held)
