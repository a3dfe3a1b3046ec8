"""Asking before something is done that cannot be taken back."""

from __future__ import annotations

import sys

import typer

from copytrader.failure import ExitCode, Failure

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


def confirm(question: str) -> None:
    """Ask on stderr; anything but a yes ends the command.  Stdout is for the result alone, so typer does not ask."""
    agreed = None
    while agreed is None:
        typer.echo(f"{question} [y/N]: ", nl=False, err=True)
        answer = sys.stdin.readline()
        if not answer:
            typer.echo("", err=True)
            raise Failure("not confirmed; where nobody can answer, say --yes", code=ExitCode.USAGE)
        agreed = _ANSWERS.get(answer.strip().lower())
    if not agreed:
        raise Failure("nothing was done")
