"""Asking before something is done that cannot be taken back."""

from __future__ import annotations

import typer

from copytrader.failure import ExitCode, Failure


def confirm(question: str) -> None:
    """Ask on stderr; anything but a yes ends the command."""
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        raise Failure("not confirmed; where nobody can answer, say --yes", code=ExitCode.USAGE) from None
    if not agreed:
        raise Failure("nothing was done")
