"""`copytrader follow`: the live copier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from copytrader.cli.options import ConfigPath

if TYPE_CHECKING:
    from copytrader.config import Config
    from copytrader.copier import Copier, Watcher
    from copytrader.display import Display, Form
    from copytrader.outlet import Outlet
    from copytrader.session import Options

DryRun = Annotated[bool, typer.Option("--dry-run", help="Decide and record, but send nothing.")]
Adopt = Annotated[
    bool,
    typer.Option("--adopt", help="Take over orders of a copier that the journal does not know: they are cancelled."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Lines instead of the live screen.")]
FactsAsJson = Annotated[bool, typer.Option("--json", help="Print each fact on stdout as one line of JSON.")]


def follow(
    config: ConfigPath = None,
    dry_run: DryRun = False,
    adopt: Adopt = False,
    plain: Plain = False,
    as_json: FactsAsJson = False,
) -> None:
    """Copy the leader's orders to the followers until Ctrl-C.

    On a terminal it shows a live screen, elsewhere a line for each thing that happens.
    """
    import asyncio
    import sys

    from copytrader import session
    from copytrader.config import load
    from copytrader.display import form_for

    form = form_for(sys.stderr, plain=plain, as_json=as_json)
    asyncio.run(_shown(load(config), session.Options(dry_run, adopt), form))


async def _shown(config: Config, options: Options, form: Form) -> None:
    import gc
    import sys

    from copytrader import session
    from copytrader.display import logged
    from copytrader.outlet import Outlet

    outlet = Outlet(sys.stderr)
    display = _display(config, options, form, outlet)

    def watch(copier: Copier) -> Watcher:
        # What is loaded by now stays: no collection looks through it again while an order waits.
        gc.collect()
        gc.freeze()
        return display.watch(copier)

    try:
        with logged(display):
            await session.run(config, options, display.say, watch)
    finally:
        await display.close()
        outlet.close()


def _display(config: Config, options: Options, form: Form, outlet: Outlet) -> Display:
    import sys

    from copytrader import session
    from copytrader.display import Display, Form, JsonDisplay, LiveDisplay

    match form:
        case Form.LIVE:
            return LiveDisplay(outlet, session.now, dry_run=options.dry_run)
        case Form.JSON:
            return JsonDisplay(outlet, config.journal, sys.stdout)
        case Form.PLAIN:
            return Display(outlet)
