"""The program begins here: `copytrader`, and `python -m copytrader`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line that this process was started with."""
    _open_standard_streams()
    try:
        from copytrader.cli import main as run

        run()
    except KeyboardInterrupt:  # while it still loaded: later ones are a command's own
        sys.stderr.write("interrupted\n")
        sys.exit(1)


def _open_standard_streams() -> None:
    """Let a stream that was closed for us lead nowhere: the next file, a journal, would get its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":
    main()
