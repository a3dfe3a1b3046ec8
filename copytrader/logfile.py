"""What a session said, in a file that is turned over before it grows large, readable by its owner alone.

Lines go to a thread that writes them: a full or slow disk holds nothing up, and changes nothing of how a session ends.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path

from copytrader.core.model import IST
from copytrader.failure import ExitCode, Failure

LARGEST = 5 * 1024 * 1024
KEPT = 9
"""So many older files stay beside the one that is written: `copytrader.log.1` is the youngest."""


@contextmanager
def kept(path: Path | None, say: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Write a session's lines, and what copytrader warns of, to a file while the block runs; None keeps none.

    Where lines could not be written, `say` gets one that tells so at the end.
    """
    if path is None:
        yield _nowhere
        return
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    file = _opened(path)
    file.setFormatter(_IndianTime("%(asctime)s %(message)s"))
    listener = QueueListener(lines, file)
    into = QueueHandler(lines)
    log = logging.getLogger("copytrader")
    log.addHandler(into)
    listener.start()

    def write(text: str) -> None:
        into.handle(logging.LogRecord("copytrader.said", logging.INFO, "", 0, text, None, None))

    try:
        yield write
    finally:
        log.removeHandler(into)
        listener.stop()
        file.close()
        if file.trouble:
            say(f"warning: {path} lacks lines: {file.trouble}; the journal has everything")


def _nowhere(_text: str) -> None:
    """Keep no log."""


class _IndianTime(logging.Formatter):
    """Times as on the screen and in the journal, wherever the machine stands."""

    def formatTime(self, record: logging.LogRecord, _datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return datetime.fromtimestamp(record.created, IST).isoformat(" ", "seconds")


class _PrivateFile(RotatingFileHandler):
    trouble = ""
    """Why the first of the lines that are missing could not be written, nothing where none is."""

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Pass over a line that cannot be written: the journal is the record, and the screen stays calm."""
        self._note(sys.exception())

    def close(self) -> None:
        """Close the file; what waited for room on the disk is given up."""
        try:
            super().close()
        except OSError as error:
            self._note(error)

    def _note(self, error: BaseException | None) -> None:
        why = error.strerror if isinstance(error, OSError) else None
        self.trouble = self.trouble or why or type(error).__name__

    def _open(self) -> TextIOWrapper:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8", errors="backslashreplace")


def _opened(path: Path) -> _PrivateFile:
    try:
        return _PrivateFile(path, maxBytes=LARGEST, backupCount=KEPT)
    except OSError as error:
        raise Failure(
            f"{path} cannot be written: {error.strerror}; name another in `log`", code=ExitCode.USAGE
        ) from None
