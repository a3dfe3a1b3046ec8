"""Writing that waits for nobody: a terminal that stands still (Ctrl-S, a full pipe) must not stop the copying.

Text goes into a queue and out of it in a thread.  Where the reader is too slow for too
long, lines are left out and counted; where he has left, nothing more is written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from io import UnsupportedOperation
from queue import SimpleQueue
from typing import TextIO

_MOST_WAITING = 10_000


class Outlet:
    """One stream, written to by a thread of its own.  `write` may be called from any thread and never waits."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._put = writer(stream)
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._waiting = 0
        self._left_out = 0
        self._broken = False
        self._lock = threading.Lock()
        # A daemon: a terminal that never moves again must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="outlet", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether all that was given has been written."""
        return self._waiting == 0

    @property
    def is_broken(self) -> bool:
        """Whether the reader has left."""
        return self._broken

    def write(self, text: str) -> None:
        with self._lock:
            if self._broken:
                return
            if self._waiting >= _MOST_WAITING:
                self._left_out += 1
                return
            self._waiting += 1
        self._queue.put(text)

    def close(self, patience: float = 1.0) -> None:
        """Write what is waiting, but do not wait longer than this for a reader that stands still."""
        self._queue.put(None)
        self._thread.join(patience)

    def _work(self) -> None:
        while (text := self._queue.get()) is not None:
            try:
                self._put(text + self._missed())
            except (OSError, ValueError):
                self._broken = True
                return
            with self._lock:
                self._waiting -= 1

    def _missed(self) -> str:
        with self._lock:
            if not self._left_out or self._waiting > 1:
                return ""
            count, self._left_out = self._left_out, 0
        return f"{count:,} lines were left out: the reader was too slow\n"


def writer(stream: TextIO) -> Callable[[str], object]:
    """Return what writes to a stream past Python's buffers: a thread that stood still in one would block the exit."""
    try:
        number = stream.fileno()
    except UnsupportedOperation:
        return stream.write

    def write(text: str) -> None:
        rest = text.encode(stream.encoding or "utf-8", "backslashreplace")
        while rest:
            rest = rest[os.write(number, rest) :]

    return write
