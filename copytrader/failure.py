"""What a user is told when something cannot be done: lines to read and an exit code.

Any layer may raise a `Failure`; `copytrader.cli` alone turns it into output.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What every command's exit code means."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    FINDINGS = 3
    TOKEN = 4
    UNKNOWN_OUTCOME = 5
    SAFETY = 6


class Failure(Exception):
    """Something that the user must know; each line says what, where and what to do, and holds no secret."""

    code: ExitCode = ExitCode.FAILED

    def __init__(self, *lines: str, code: ExitCode | None = None) -> None:
        super().__init__(*lines)
        self.lines = lines
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return "\n".join(self.lines)
