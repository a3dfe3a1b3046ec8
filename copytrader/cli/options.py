"""Options that several commands have, spelt and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from copytrader.failure import ExitCode, Failure


def _given_anywhere(ctx: typer.Context, value: Path | None) -> Path | None:
    """Let `copytrader --config F follow` mean `copytrader follow --config F`."""
    above = ctx.parent
    while value is None and above is not None:
        value, above = above.params.get("config"), above.parent
    return value


ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        callback=_given_anywhere,
        help="The configuration; else $COPYTRADER_CONFIG, ./copytrader.toml, the user's config directory.",
    ),
]


def _one_form(ctx: typer.Context, given: bool) -> bool:
    """Refuse a second form of the one output."""
    if given and (ctx.params.get("as_json") or ctx.params.get("as_csv")):
        raise Failure("--json and --csv are two forms of one output: leave one out", code=ExitCode.USAGE)
    return given


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.", callback=_one_form)]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print comma-separated rows.", callback=_one_form)]
