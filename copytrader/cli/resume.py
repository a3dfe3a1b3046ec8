"""`copytrader resume`: copy again after a halt."""

from __future__ import annotations

from typing import Annotated

import typer

from copytrader.cli.halt import OneFollower
from copytrader.cli.options import ConfigPath

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def resume(config: ConfigPath = None, follower: OneFollower = None, yes: Yes = False) -> None:
    """Copy again after `copytrader halt`.

    Orders that the leader placed meanwhile are not copied; `copytrader reconcile` shows what the followers lack.
    """
    import asyncio

    from copytrader import halting, render
    from copytrader.cli.ask import confirm
    from copytrader.config import load

    settings = load(config)
    names = halting.halted_now(settings, follower)
    if not names:
        render.line("nobody is halted")
        return
    if not yes:
        confirm(f"Copy again to {', '.join(names)}?")
    if asyncio.run(halting.resume(settings, follower)):
        render.line(f"copying again to {', '.join(names)}")
    else:
        render.line(f"no longer halted: {', '.join(names)}; follow copies when it runs")
