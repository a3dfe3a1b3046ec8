"""What every command ends in: an exit code, and on a mistake one line per mistake on stderr, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from copytrader.failure import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


_REMEDIES = {
    errno.EACCES: "check the permissions of it and of its folder",
    errno.EPERM: "check the permissions of it and of its folder",
    errno.EROFS: "name another place",
    errno.ENOSPC: "make room on that disk",
    errno.ENOENT: "name one that is there",
    errno.ENOTDIR: "name another place",
}


def fail(lines: Iterable[str], code: ExitCode) -> int:
    """Print what went wrong on stderr and return the exit code."""
    from copytrader.render import notice

    for line in lines:
        notice(line)
    return int(code)


def heed_sigterm() -> None:
    """Let a plain `kill` end a command that goes on and on as Ctrl-C does."""
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


class Guard(TyperGroup):
    """The root of all commands: the one place where errors become lines and exit codes."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        def run() -> object:
            return super(Guard, self).main(args, prog_name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return run()
        sys.exit(_ended(run))

    def invoke(self, ctx: Any) -> Any:
        # Caught here, an interrupt gets our words; the group above knows it as exit code 130 only.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Failure("interrupted") from None


def _ended(run: Callable[[], object]) -> int:
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        return _nobody_reads()
    except Failure as failure:
        return fail(failure.lines, failure.code)
    except TyperException as error:
        return fail([f"{error.format_message()} (see --help)"], ExitCode.USAGE)
    except typer.Abort:
        return fail(["interrupted"], ExitCode.FAILED)
    except OSError as error:
        return fail([_worded(error)], ExitCode.FAILED)
    return code if isinstance(code, int) else ExitCode.FINE


def _nobody_reads() -> int:
    """The reader of the pipe has left: nothing more is written, not even by the interpreter at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(ExitCode.FAILED)


def _worded(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    told = f"{error.filename}: {what}" if error.filename else what
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{told}; {remedy}" if remedy else told
