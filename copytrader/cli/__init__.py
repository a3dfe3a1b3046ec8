"""The command line: one file per command, which parses options, makes one call, renders, returns an exit code.

A command's module imports typer alone at its top; what the command needs is imported
when it runs, so that `copytrader --help` stays fast.  A command returns its `ExitCode`
(None is 0) or raises `Failure`; `guard` does the rest.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from copytrader import __version__
from copytrader.cli import (
    alerts,
    audit,
    config_show,
    demo,
    doctor,
    follow,
    halt,
    init,
    instruments,
    login,
    reconcile,
    replay,
    resume,
    simulator,
)
from copytrader.cli.guard import Guard

app = typer.Typer(
    cls=Guard,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(init.init)
app.command()(login.login)
app.command()(doctor.doctor)
app.command()(follow.follow)
app.command()(reconcile.reconcile)
app.command()(replay.replay)
app.command()(halt.halt)
app.command()(resume.resume)
app.command()(demo.demo)
app.command()(simulator.simulator)
app.add_typer(audit.app, name="audit")
app.add_typer(instruments.app, name="instruments")
app.add_typer(alerts.app, name="alerts")
app.add_typer(config_show.app, name="config")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"copytrader {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The configuration, for whichever command follows.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Copies the orders of one leader account at Dhan into follower accounts."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> None:
    """Run the command line that this process was started with."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to stop
    app(prog_name="copytrader")
